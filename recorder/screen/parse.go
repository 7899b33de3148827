package screen

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// A parser takes output apart, with bounded state.
type parser struct {
	state   state
	part    [utf8.UTFMax]byte // of a character that is not whole
	parts   int
	params  [maxParams]param
	count   int  // of params that have begun
	private byte // '<', '=', '>' or '?' at the beginning of a control sequence
	between byte // the last intermediate byte, of an escape sequence too
	size    int  // bytes of a string
	command bool // it is one of an operating system command, ESC ]
	head    [8]byte
}

// A param is a number of a control sequence.
type param struct {
	n   int
	set bool // there was a digit
	sub bool // a colon stood before it
}

const (
	maxParams = 32
	maxNumber = 9999
	// A string that is longer is shown from there on: one that never ends must
	// not hide the rest of a recording.
	maxString = 4 << 10
)

type state uint8

const (
	ground   state = iota
	escape         // after ESC
	sequence       // after CSI
	text           // in an OSC, DCS, SOS, PM or APC
	textEnd        // after ESC in one
)

func (s *Screen) byte(c byte) {
	if s.parts > 0 || s.state == ground && c >= utf8.RuneSelf {
		s.character(c)
		return
	}
	switch s.state {
	case text:
		if s.size < len(s.head) {
			s.head[s.size] = c
		}
		s.size++
		switch {
		case c == 0x1b:
			s.state = textEnd
		case c == 0x07:
			s.state = ground
			s.marked()
		case c == 0x18 || c == 0x1a || s.size >= maxString:
			s.state = ground
		}
		return
	case textEnd:
		if s.state = escape; c == '\\' {
			s.state = ground
			s.marked()
			return
		}
		s.between = 0
	}
	// Controls act inside a sequence as well as between sequences.
	switch {
	case c == 0x1b:
		s.state, s.between = escape, 0
		return
	case c == 0x18 || c == 0x1a: // CAN, SUB
		s.state = ground
		return
	case c < ' ' || c == 0x7f:
		s.control(c)
		return
	case c >= utf8.RuneSelf: // no byte of a sequence
		s.state = ground
		s.character(c)
		return
	}
	switch s.state {
	case ground:
		s.put(rune(c))
	case escape:
		s.escaped(c)
	case sequence:
		s.sequenced(c)
	}
}

// character adds a byte to a character that is not whole.
func (s *Screen) character(c byte) {
	s.part[s.parts] = c
	s.parts++
	part := s.part[:s.parts]
	if !utf8.FullRune(part) {
		return
	}
	r, n := utf8.DecodeRune(part)
	var rest [utf8.UTFMax]byte
	k := copy(rest[:], part[n:])
	s.parts = 0
	s.put(r)
	for _, c := range rest[:k] {
		s.byte(c)
	}
}

func (s *Screen) control(b byte) {
	c := &s.cursor
	if s.Heard != nil && (b == '\r' || b == '\n') {
		s.Heard(rune(b))
	}
	switch b {
	case '\b':
		c.column, c.full = max(c.column-1, 0), false
	case '\t':
		s.tab(1)
	case '\n', '\v', '\f':
		if s.NewLine || s.newLine {
			c.column = 0
		}
		s.down()
	case '\r':
		c.column, c.full = 0, false
	case 0x0e, 0x0f: // SO, SI
		c.shift = int(0x0f - b)
	}
}

func (s *Screen) escaped(b byte) {
	if b < '0' {
		s.between = b
		return
	}
	s.state = ground
	c := &s.cursor
	switch s.between {
	case 0:
	case '(', ')':
		c.graphics[s.between-'('] = b == '0'
		return
	default:
		return
	}
	switch b {
	case '[':
		s.state, s.count, s.private = sequence, 0, 0
	case ']', 'P', 'X', '^', '_':
		s.state, s.size, s.command = text, 0, b == ']'
	case '7':
		s.saved = *c
	case '8':
		s.restore()
	case 'D':
		s.down()
	case 'E':
		c.column = 0
		s.down()
	case 'M':
		s.up()
	case 'H':
		s.tabs[c.column] = true
	case 'c':
		s.tellShown()
		s.page = &s.pages[0]
		s.tellShown()
		s.reset()
		for i := range s.pages {
			s.blank(s.pages[i].rows)
		}
	}
}

// marked takes the marks of shells: 133;B where a command line begins, and 133;C
// when it is run.
func (s *Screen) marked() {
	if !s.command || s.size < 6 || string(s.head[:4]) != "133;" || s.Alternate() {
		return
	}
	c := &s.cursor
	switch s.head[4] {
	case 'B':
		s.begun, s.begunRow, s.begunColumn = true, s.scrolled+c.row, c.column
	case 'C':
		if row, column := s.begunRow-s.scrolled, s.begunColumn; s.begun && s.Ran != nil && row <= c.row {
			if row < 0 {
				row, column = 0, 0 // the beginning is gone
			}
			var line []byte
			for i := row; i <= c.row; i++ {
				r := s.rows[i]
				if i == row {
					r.cells = r.cells[min(column, len(r.cells)):]
				}
				if line = s.appendRow(line, &r); !r.on {
					line = append(line, '\n')
				}
			}
			s.Ran(string(line))
		}
		s.begun = false
	}
}

func (s *Screen) restore() {
	s.cursor = s.saved
	s.cursor.row, s.cursor.column = min(s.cursor.row, len(s.rows)-1), min(s.cursor.column, s.columns-1)
}

func (s *Screen) sequenced(b byte) {
	switch {
	case b >= '@':
		s.state = ground
		switch {
		case s.between == 0 && s.private == 0:
			s.do(b)
		case s.between == 0 && s.private == '?':
			s.doPrivate(b)
		case s.between == '!' && b == 'p': // soft reset
			s.cursor = cursor{row: s.cursor.row, column: s.cursor.column}
			s.saved = cursor{}
			s.top, s.bottom, s.noWrap, s.insert, s.newLine = 0, len(s.rows), false, false, false
		}
	case b >= '0' && b <= '9':
		if p := s.param(); p != nil {
			p.n, p.set = min(p.n*10+int(b-'0'), maxNumber), true
		}
	case b == ';' || b == ':':
		if s.count == 0 {
			s.param() // an empty first one
		}
		if s.count < maxParams {
			s.params[s.count] = param{sub: b == ':'}
		}
		s.count++
	case b >= '<' && b <= '?' && s.count == 0 && s.private == 0:
		s.private = b
	default: // an intermediate byte, or a private one in the wrong place
		s.between = b
	}
}

// param returns the number that is read now, nil for one too many.
func (s *Screen) param() *param {
	if s.count == 0 {
		s.params[0], s.count = param{}, 1
	}
	if s.count > maxParams {
		return nil
	}
	return &s.params[s.count-1]
}

// number returns a parameter; what is not given is 0.
func (s *Screen) number(i int) int {
	if i >= s.count || i >= maxParams {
		return 0
	}
	return s.params[i].n
}

// do does what a control sequence says.
func (s *Screen) do(b byte) {
	c := &s.cursor
	n := max(s.number(0), 1)
	switch b {
	case '@':
		s.insertCells(n)
	case 'A':
		s.moveTo(s.above(n), c.column)
	case 'B', 'e':
		s.moveTo(s.below(n), c.column)
	case 'C', 'a':
		s.moveTo(c.row, c.column+n)
	case 'D':
		s.moveTo(c.row, c.column-n)
	case 'E':
		s.moveTo(s.below(n), 0)
	case 'F':
		s.moveTo(s.above(n), 0)
	case 'G', '`':
		s.moveTo(c.row, n-1)
	case 'H', 'f':
		s.moveFrom(n-1, max(s.number(1), 1)-1)
	case 'I':
		s.tab(n)
	case 'J':
		s.eraseDisplay(s.number(0))
	case 'K':
		s.eraseLine(s.number(0))
	case 'L', 'M':
		if c.row < s.top || c.row >= s.bottom {
			return
		}
		if b == 'L' {
			s.scrollDown(c.row, n)
		} else {
			s.scroll(c.row, n)
		}
		c.column, c.full = 0, false
	case 'P':
		s.deleteCells(n)
	case 'S':
		s.scroll(s.top, n)
	case 'T':
		if s.count < 2 { // with more it is something else
			s.scrollDown(s.top, n)
		}
	case 'X':
		s.erase(c.column, c.column+n)
		c.full = false
	case 'Z':
		for ; n > 0 && c.column > 0; n-- {
			for c.column--; c.column > 0 && !s.tabs[c.column]; c.column-- {
			}
		}
		c.full = false
	case 'b':
		for n = min(n, s.columns); n > 0 && s.last != 0; n-- {
			s.put(s.last)
		}
	case 'd':
		s.moveFrom(n-1, c.column)
	case 'g':
		switch s.number(0) {
		case 0:
			s.tabs[c.column] = false
		case 3:
			s.tabs = [MaxColumns]bool{}
		}
	case 'h', 'l':
		for i := range min(s.count, maxParams) {
			switch s.params[i].n {
			case 4:
				s.insert = b == 'h'
			case 20:
				s.newLine = b == 'h'
			}
		}
	case 'm':
		c.pen.apply(s.params[:min(s.count, maxParams)])
	case 'r':
		top, bottom := n-1, s.number(1)
		if bottom == 0 || bottom > len(s.rows) {
			bottom = len(s.rows)
		}
		if top < bottom-1 {
			s.top, s.bottom = top, bottom
			s.moveFrom(0, 0)
		}
	case 's':
		s.saved = *c
	case 'u':
		s.restore()
	}
}

// doPrivate does what a control sequence of DEC's says.
func (s *Screen) doPrivate(b byte) {
	switch b {
	case 'J':
		s.eraseDisplay(s.number(0))
	case 'K':
		s.eraseLine(s.number(0))
	case 'h', 'l':
		on := b == 'h'
		for i := range min(s.count, maxParams) {
			switch s.params[i].n {
			case 6:
				s.cursor.origin = on
				s.moveFrom(0, 0)
			case 7:
				s.noWrap = !on
			case 47, 1047:
				s.alternate(on)
			case 1048:
				if on {
					s.saved = s.cursor
				} else {
					s.restore()
				}
			case 1049:
				if on == s.Alternate() {
					break
				}
				if on {
					s.saved = s.cursor
				}
				s.alternate(on)
				if !on {
					s.restore()
				}
			}
		}
	}
}

// alternate shows the other screen, which is empty when a program comes to it, or
// goes back.
func (s *Screen) alternate(on bool) {
	if on == s.Alternate() {
		return
	}
	s.tellShown()
	was := s.cursor
	if on {
		s.page = &s.pages[1]
		s.saved = cursor{}
		s.blank(s.rows)
	} else {
		s.page = &s.pages[0]
	}
	s.cursor = was
}

// tellShown tells what is on a screen that goes away as a whole.
func (s *Screen) tellShown() {
	if s.Told != nil {
		s.Shown(true, func(line string, again int) { s.Told(line) })
	}
}

// above and below are where the cursor comes to; it does not leave the margins.
func (s *Screen) above(n int) int {
	if s.cursor.row >= s.top {
		return max(s.cursor.row-n, s.top)
	}
	return s.cursor.row - n
}

func (s *Screen) below(n int) int {
	if s.cursor.row < s.bottom {
		return min(s.cursor.row+n, s.bottom-1)
	}
	return s.cursor.row + n
}

func (s *Screen) moveTo(row, column int) {
	c := &s.cursor
	c.row, c.column, c.full = min(max(row, 0), len(s.rows)-1), min(max(column, 0), s.columns-1), false
}

// moveFrom counts rows from where they are counted from.
func (s *Screen) moveFrom(row, column int) {
	if s.cursor.origin {
		row = min(row+s.top, s.bottom-1)
	}
	s.moveTo(row, column)
}

func (s *Screen) tab(n int) {
	c := &s.cursor
	for ; n > 0 && c.column < s.columns-1; n-- {
		for c.column++; c.column < s.columns-1 && !s.tabs[c.column]; c.column++ {
		}
	}
}

// erase makes cells of the cursor's row blank.
func (s *Screen) erase(from, to int) {
	r, bg := &s.rows[s.cursor.row], s.cursor.pen.bg
	to = min(to, s.columns)
	if from >= to {
		return
	}
	s.clear(from, to)
	if to == s.columns {
		if from < len(r.cells) {
			r.cells = r.cells[:from]
		} else if r.bg != bg {
			s.extend(r, from)
		}
		r.bg, r.on, r.fresh = bg, false, r.fresh && from > 0
		return
	}
	if bg == r.bg {
		to = min(to, len(r.cells)) // those after it are blank already
	} else {
		s.extend(r, to)
	}
	for i := from; i < to; i++ {
		r.cells[i] = cell{' ', style{bg: bg}}
	}
}

func (s *Screen) eraseLine(how int) {
	switch c := &s.cursor; how {
	case 0:
		if !c.full { // behind the last column there is nothing
			s.erase(c.column, s.columns)
		}
	case 1:
		s.erase(0, c.column+1)
	case 2:
		s.erase(0, s.columns)
	}
}

func (s *Screen) eraseDisplay(how int) {
	row := s.cursor.row
	switch how {
	case 0:
		if s.cursor.column == 0 {
			s.goes(s.rows[row:])
		} else {
			s.goes(s.rows[row+1:])
		}
		s.blank(s.rows[row+1:])
		s.eraseLine(0)
	case 1:
		s.goes(s.rows[:row])
		s.blank(s.rows[:row])
		s.eraseLine(1)
	case 2:
		s.goes(s.rows)
		s.blank(s.rows)
	}
}

// insertCells inserts n blanks at the cursor.
func (s *Screen) insertCells(n int) {
	c := &s.cursor
	r := &s.rows[c.row]
	c.full = false
	if c.column >= len(r.cells) {
		return
	}
	s.clear(c.column, c.column)
	n = min(n, s.columns-c.column)
	s.extend(r, min(len(r.cells)+n, s.columns))
	copy(r.cells[c.column+n:], r.cells[c.column:])
	for i := range n {
		r.cells[c.column+i] = cell{' ', style{bg: c.pen.bg}}
	}
	s.whole(r)
	r.fresh, r.on = true, false
}

// deleteCells takes n cells away at the cursor.
func (s *Screen) deleteCells(n int) {
	c := &s.cursor
	r := &s.rows[c.row]
	c.full = false
	if c.column >= len(r.cells) {
		return
	}
	n = min(n, s.columns-c.column)
	s.clear(c.column, min(c.column+n, s.columns))
	r.cells = append(r.cells[:c.column], r.cells[min(c.column+n, len(r.cells)):]...)
	s.whole(r)
	r.fresh, r.on = true, false
}

// apply changes the style as CSI m says. Hidden text is not hidden.
func (t *style) apply(params []param) {
	if len(params) == 0 {
		*t = style{}
		return
	}
	for i := 0; i < len(params); i++ {
		p := params[i]
		end := i + 1 // after those that belong to it
		for end < len(params) && params[end].sub {
			end++
		}
		sub := params[i+1 : end]
		switch n := p.n; {
		case n == 0:
			*t = style{}
		case n == 4 && len(sub) > 0 && sub[0].n == 0:
			t.attrs &^= underline
		case n == 4 || n == 21:
			t.attrs |= underline
		case n >= 1 && n <= 3:
			t.attrs |= bold << (n - 1)
		case n == 5 || n == 6:
			t.attrs |= blink
		case n == 7:
			t.attrs |= reverse
		case n == 9:
			t.attrs |= strike
		case n == 22:
			t.attrs &^= bold | faint
		case n == 23:
			t.attrs &^= italic
		case n == 24:
			t.attrs &^= underline
		case n == 25:
			t.attrs &^= blink
		case n == 27:
			t.attrs &^= reverse
		case n == 29:
			t.attrs &^= strike
		case n >= 30 && n <= 37:
			t.fg = indexed | uint32(n-30)
		case n >= 40 && n <= 47:
			t.bg = indexed | uint32(n-40)
		case n >= 90 && n <= 97:
			t.fg = indexed | uint32(n-90+8)
		case n >= 100 && n <= 107:
			t.bg = indexed | uint32(n-100+8)
		case n == 39:
			t.fg = 0
		case n == 49:
			t.bg = 0
		case n == 38 || n == 48 || n == 58:
			var c uint32
			var ok bool
			if len(sub) > 0 {
				c, _, ok = colourOf(sub, true)
			} else {
				var used int
				c, used, ok = colourOf(params[end:], false)
				end += used
			}
			switch {
			case !ok:
			case n == 38:
				t.fg = c
			case n == 48:
				t.bg = c
			}
		}
		i = end - 1
	}
}

// colourOf reads 5;n or 2;r;g;b, and with colons also 2::r:g:b. It returns how many
// parameters that are.
func colourOf(params []param, colons bool) (c uint32, used int, ok bool) {
	if len(params) == 0 {
		return 0, 0, false
	}
	switch kind := params[0].n; {
	case kind == 5 && len(params) >= 2:
		return indexed | uint32(min(params[1].n, 255)), 2, true
	case kind == 2 && colons && len(params) >= 5:
		params = params[1:]
		fallthrough
	case kind == 2 && len(params) >= 4:
		c = direct
		for i, p := range params[1:4] {
			c |= uint32(min(p.n, 255)) << (16 - 8*i)
		}
		return c, 4, true
	default:
		return 0, len(params), false // it breaks off
	}
}

// cells is how many cells a character takes: none for marks that combine, two for
// the wide ones of East Asia and most pictures.
func cells(r rune) int {
	switch {
	case r < 0x300:
		if r >= 0x7f && r < 0xa0 || r == 0xad {
			return 0
		}
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Zl, unicode.Zp), r >= 0x1160 && r <= 0x11ff:
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	default:
		return 1
	}
}

// drawing is a character of DEC's line drawing.
func drawing(r rune) rune {
	const set = "◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·"
	if r < '`' || r > '~' {
		return r
	}
	return []rune(set)[r-'`']
}
