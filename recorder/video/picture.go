package video

import (
	"image"
	"image/draw"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"

	"github.com/drawbolt/drawbolt/recorder/screen"
)

// A cell of the font at this size, in pixels. Both are even, as 4:2:0 needs.
const (
	cellWidth  = 8
	cellHeight = 16
	fontSize   = 13.33
	baseline   = 13

	linesBelow = 2 // below the screen
)

// Colours of what is not the screen.
const (
	outside   = 0x1a1a1a
	below     = 0x303030
	plainLine = 0xc8c8c8
	// brightLine is for what happened.
	brightLine = 0xffd75f
)

// A spot is a cell as it was drawn last.
type spot struct {
	screen.Cell
	cursor bool
}

// A picture is drawn again and again: only the cells that changed are.
type picture struct {
	size          Size
	width, height int
	pixels        []byte // red, green and blue, row by row
	drawn         []spot // with those below
	faces         [2]font.Face
	glyphs        map[glyph][]byte // how much of each pixel is covered
}

// A glyph is a character of the font. There are no more than the font has, and a
// box for all others.
type glyph struct {
	r          rune // 0 for the box
	bold, wide bool
}

func newPicture(size Size) *picture {
	p := &picture{size: size, width: size.Columns * cellWidth, height: (size.Rows + linesBelow) * cellHeight,
		drawn: make([]spot, size.Columns*(size.Rows+linesBelow)), glyphs: map[glyph][]byte{}}
	p.pixels = make([]byte, 3*p.width*p.height)
	for i, ttf := range [][]byte{gomono.TTF, gomonobold.TTF} {
		// The fonts are part of the program, and whole.
		f, err := opentype.Parse(ttf)
		if err != nil {
			panic(err)
		}
		if p.faces[i], err = opentype.NewFace(f, &opentype.FaceOptions{Size: fontSize, DPI: 72, Hinting: font.HintingFull}); err != nil {
			panic(err)
		}
	}
	return p
}

// screen draws what stands on a screen. Of one with more rows those with the
// cursor are drawn.
func (p *picture) screen(s *screen.Screen) {
	columns, rows := s.Size()
	row, column := s.Cursor()
	top := max(0, row-p.size.Rows+1)
	for y := range p.size.Rows {
		for x := range p.size.Columns {
			if x >= columns || top+y >= rows {
				p.cell(y, x, spot{Cell: screen.Cell{Rune: ' ', Background: outside}})
				continue
			}
			p.cell(y, x, spot{s.Cell(top+y, x), top+y == row && x == column})
		}
	}
}

// line writes a line below the screen, as much of it as there is room for.
func (p *picture) line(n int, text string, colour uint32) {
	x := 0
	put := func(r rune) {
		p.cell(p.size.Rows+n, x, spot{Cell: screen.Cell{Rune: r, Foreground: colour, Background: below}})
		x++
	}
	for _, r := range text {
		if x == p.size.Columns {
			return
		}
		put(r)
	}
	for x < p.size.Columns {
		put(' ')
	}
}

// cell draws one cell, if it looks otherwise than before.
func (p *picture) cell(row, column int, s spot) {
	before := &p.drawn[row*p.size.Columns+column]
	if *before == s {
		return
	}
	if before.Wide && column+1 < p.size.Columns { // its other half goes with it
		p.drawn[row*p.size.Columns+column+1] = spot{}
	}
	if *before = s; s.Rune == 0 && column > 0 && p.drawn[row*p.size.Columns+column-1].Wide {
		return // drawn with the first half
	}
	width := 1
	if s.Wide && column+1 < p.size.Columns {
		width = 2
	}
	covered := p.glyph(glyph{s.Rune, s.Bold, width == 2})
	wide := width * cellWidth
	for y := range cellHeight {
		at := 3 * ((row*cellHeight+y)*p.width + column*cellWidth)
		full := s.Underline && y == baseline+1 || s.Strike && y == cellHeight/2 || s.cursor && y >= cellHeight-2
		for x := range wide {
			a := uint32(covered[y*wide+x])
			if full {
				a = 255
			}
			for i, shift := range [3]int{16, 8, 0} {
				fore, back := s.Foreground>>shift&0xff, s.Background>>shift&0xff
				p.pixels[at+3*x+i] = byte((fore*a + back*(255-a) + 127) / 255)
			}
		}
	}
}

// glyph returns how much of each pixel of its cells a character covers.
func (p *picture) glyph(g glyph) []byte {
	face := p.faces[0]
	if g.bold {
		face = p.faces[1]
	}
	if _, there := face.GlyphAdvance(g.r); !there {
		g.r = 0
	}
	if covered, ok := p.glyphs[g]; ok {
		return covered
	}
	width := cellWidth
	if g.wide {
		width *= 2
	}
	cell := image.NewAlpha(image.Rect(0, 0, width, cellHeight))
	if g.r == 0 {
		for y := 3; y <= baseline; y++ {
			for x := 1; x < width-1; x++ {
				if y == 3 || y == baseline || x == 1 || x == width-2 {
					cell.Pix[y*width+x] = 255
				}
			}
		}
	} else if to, mask, from, _, ok := face.Glyph(fixed.P(0, baseline), g.r); ok {
		draw.Draw(cell, to, mask, from, draw.Src)
	}
	p.glyphs[g] = cell.Pix
	return cell.Pix
}
