package screen

import (
	"strconv"
	"strings"
)

// Paint returns what makes a terminal of this size that was reset look like the
// screen: text, colours (CSI m) and movements of the cursor (CSI H), the last to
// where the cursor stands. Colours are left out when there are far too many.
func (s *Screen) Paint() string {
	if painted, ok := s.paint(true, maxPaint); ok {
		return painted
	}
	painted, _ := s.paint(false, 1<<62)
	return painted
}

// paint reports whether the most bytes were enough.
func (s *Screen) paint(colours bool, most int) (string, bool) {
	var b strings.Builder
	var pen style
	for i := range s.rows {
		r := &s.rows[i]
		end := r.end(s.columns, colours)
		if end == 0 {
			continue
		}
		move(&b, i, 0)
		for j := range end {
			c := cell{' ', style{bg: r.bg}}
			if j < len(r.cells) {
				c = r.cells[j]
			}
			if c.r == filler {
				continue
			}
			if colours && c.style != pen {
				pen = c.style
				pen.set(&b)
			}
			b.WriteString(s.text(c.r))
		}
		if b.Len() > most {
			return "", false
		}
	}
	c := &s.cursor
	column := c.column
	if r := &s.rows[c.row]; c.full {
		// The next character begins the next row: so it does when the last one
		// is painted anew.
		last := cell{' ', style{bg: r.bg}} // it was erased
		if column < len(r.cells) {
			if r.cells[column].r == filler && column > 0 {
				column--
			}
			last = r.cells[column]
		}
		move(&b, c.row, column)
		if colours && last.style != pen {
			pen = last.style
			pen.set(&b)
		}
		b.WriteString(s.text(last.r))
	} else if b.Len() > 0 || c.row > 0 || column > 0 {
		move(&b, c.row, column)
	}
	if colours && c.pen != pen {
		c.pen.set(&b)
	}
	return b.String(), true
}

// end is how many cells of the row are not blank at its end.
func (r *row) end(columns int, colours bool) int {
	if colours && r.bg != 0 {
		return columns
	}
	end := len(r.cells)
	for ; end > 0; end-- {
		if c := r.cells[end-1]; c.r != ' ' || colours && (c.bg != 0 || c.attrs&(reverse|underline|strike) != 0) {
			break
		}
	}
	return end
}

func move(b *strings.Builder, row, column int) {
	b.WriteString("\x1b[")
	b.WriteString(strconv.Itoa(row + 1))
	b.WriteByte(';')
	b.WriteString(strconv.Itoa(column + 1))
	b.WriteByte('H')
}

// set writes the sequence that gives what follows this style and no other.
func (t style) set(b *strings.Builder) {
	b.WriteString("\x1b[0")
	for i, code := range [...]string{";1", ";2", ";3", ";4", ";5", ";7", ";9"} { // in the order of the constants
		if t.attrs&(1<<i) != 0 {
			b.WriteString(code)
		}
	}
	colour(b, t.fg, 30)
	colour(b, t.bg, 40)
	b.WriteByte('m')
}

func colour(b *strings.Builder, c uint32, base int) {
	n := int(c & 0xff)
	switch {
	case c&direct != 0:
		b.WriteString(";" + strconv.Itoa(base+8) + ";2;" + strconv.Itoa(int(c>>16&0xff)) + ";" + strconv.Itoa(int(c>>8&0xff)) + ";" + strconv.Itoa(n))
	case c&indexed == 0:
	case n < 8:
		b.WriteString(";" + strconv.Itoa(base+n))
	case n < 16:
		b.WriteString(";" + strconv.Itoa(base+60+n-8))
	default:
		b.WriteString(";" + strconv.Itoa(base+8) + ";5;" + strconv.Itoa(n))
	}
}
