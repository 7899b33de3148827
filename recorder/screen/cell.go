package screen

// A Cell is how one place on the screen looks.
type Cell struct {
	// Rune is the character, ' ' for none. Of one that is put together of several
	// it is the first; in the second cell of a wide one it is 0.
	Rune rune
	Wide bool // it reaches into the next cell

	// Foreground and Background are colours, 0xRRGGBB. What is shown in reverse has
	// them changed over, and what is faint is so already.
	Foreground, Background uint32

	Bold, Underline, Strike bool
}

// The colours of a terminal that was told none.
const (
	plainForeground = 0xd0d0d0
	plainBackground = 0x000000
)

// Cell returns how a place looks, the upper left being 0, 0. Outside the screen it
// is blank.
func (s *Screen) Cell(row, column int) Cell {
	c := cell{r: ' '}
	var wide bool
	if row >= 0 && row < len(s.rows) && column >= 0 && column < s.columns {
		r := &s.rows[row]
		c.bg = r.bg
		if column < len(r.cells) {
			c = r.cells[column]
			wide = column+1 < len(r.cells) && r.cells[column+1].r == filler
		}
	}
	out := Cell{Rune: c.r, Wide: wide, Foreground: shade(c.fg, plainForeground), Background: shade(c.bg, plainBackground),
		Bold: c.attrs&bold != 0, Underline: c.attrs&underline != 0, Strike: c.attrs&strike != 0}
	switch {
	case c.r == filler:
		out.Rune = 0
	case c.r < filler:
		for _, out.Rune = range s.clusters[filler-c.r-1] {
			break
		}
	}
	if c.attrs&reverse != 0 {
		out.Foreground, out.Background = out.Background, out.Foreground
	}
	if c.attrs&faint != 0 { // halfway to the background
		out.Foreground = out.Foreground>>1&0x7f7f7f + out.Background>>1&0x7f7f7f
	}
	return out
}

// Cursor returns where the cursor stands.
func (s *Screen) Cursor() (row, column int) { return s.cursor.row, s.cursor.column }

// shade is the colour c of a style, 0xRRGGBB: xterm's palette.
func shade(c, own uint32) uint32 {
	n := c & 0xff
	switch {
	case c&direct != 0:
		return c & 0xffffff
	case c&indexed == 0:
		return own
	case n < 16:
		return [16]uint32{
			0x000000, 0xcd0000, 0x00cd00, 0xcdcd00, 0x3b78ff, 0xcd00cd, 0x00cdcd, 0xe5e5e5,
			0x7f7f7f, 0xff0000, 0x00ff00, 0xffff00, 0x5c9cff, 0xff00ff, 0x00ffff, 0xffffff,
		}[n]
	case n < 232: // six steps of each
		step := func(n uint32) uint32 {
			if n == 0 {
				return 0
			}
			return 55 + 40*n
		}
		n -= 16
		return step(n/36)<<16 | step(n/6%6)<<8 | step(n%6)
	default:
		return (8 + 10*(n-232)) * 0x010101
	}
}
