package commandline

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on what is kept of a terminal.
const (
	minColumns = 2
	maxColumns = 512
	maxRows    = 24
	maxCells   = 4096 // of all rows, unless two take more
	maxNumber  = 9999 // of a parameter of a control sequence
	maxString  = 4096 // bytes of a title and the like, which are skipped
)

// A row is one row of the terminal. A filler is the second cell of a character
// that is two cells wide.
type row struct {
	cells []rune
	full  bool // what is written goes on in the next row
}

const filler = rune(-1)

// A screen is the few rows of a terminal around its cursor: as much of ECMA-48
// and xterm's control sequences as line editors use. Rows are numbered for good,
// so that a number that was noted does not come to mean another row.
type screen struct {
	columns int
	most    int // rows
	first   int // number of rows[0]
	rows    []row
	row     int // of the cursor
	column  int // may be columns: the next character begins the next row
	kept    [2]int
	insert  bool // characters push those to the right
	other   bool // the alternate screen, which programs draw on
	pastes  bool // bracketed paste is on

	state   state
	partial []byte // of a character
	params  [8]int
	param   int  // index of the one that is read
	private byte // '?' and the like
	skipped int  // bytes of a string

	// lineEnds is called before the cursor leaves the end of a line for the next row,
	// which may be the last one that is known. It says whether what stands above the
	// next row still matters.
	lineEnds func(last bool) (keep bool)
}

type state byte

const (
	ground state = iota
	escape
	sequence   // control sequence, ECMA-48 section 5.4
	text       // operating system command and other strings, section 5.6
	textEscape // an escape within one, which should end it
	charset    // one more byte
)

func (s *screen) resize(columns int) {
	s.columns = min(max(columns, minColumns), maxColumns)
	s.column = min(s.column, s.columns)
	s.most = min(maxRows, max(maxCells/s.columns, 2))
}

// clear forgets all rows.
func (s *screen) clear() {
	s.first += len(s.rows)
	var free []rune
	if len(s.rows) > 0 {
		free = s.rows[0].cells[:0]
	}
	s.rows = append(s.rows[:0], row{cells: free})
	s.row, s.kept = s.first, [2]int{s.first, 0}
}

// at returns the cursor's row.
func (s *screen) at() *row { return &s.rows[s.row-s.first] }

func (s *screen) write(p []byte) {
	for _, b := range p {
		switch {
		case len(s.partial) > 0 && b&0xc0 == 0x80:
			s.partial = append(s.partial, b)
			if utf8.FullRune(s.partial) {
				s.character()
			}
			continue
		case len(s.partial) > 0:
			s.character()
		}
		s.byte(b)
	}
}

// character puts the character whose bytes have come, or a sign that they are none.
func (s *screen) character() {
	r, _ := utf8.DecodeRune(s.partial)
	s.partial = s.partial[:0]
	s.put(r)
}

func (s *screen) byte(b byte) {
	switch {
	case s.state == text || s.state == textEscape:
		s.skip(b)
	case b < 0x20 || b == 0x7f:
		s.control(b) // also within a sequence
	case s.state == escape:
		s.escaped(b)
	case s.state == sequence:
		s.sequence(b)
	case s.state == charset:
		s.state = ground
	case b < utf8.RuneSelf:
		s.put(rune(b))
	case utf8.RuneStart(b):
		if s.partial = append(s.partial, b); utf8.FullRune(s.partial) {
			s.character() // it begins none
		}
	default:
		s.put(utf8.RuneError)
	}
}

// skip takes what is not shown. A string that does not end is given up.
func (s *screen) skip(b byte) {
	s.skipped++
	switch {
	case b == 0x07 || b == 0x18 || b == 0x1a || s.skipped > maxString:
		s.state = ground
	case s.state == textEscape && b == '\\':
		s.state = ground
	case s.state == textEscape && b != 0x1b:
		s.state = escape
		s.byte(b)
	case b == 0x1b:
		s.state = textEscape
	}
}

func (s *screen) control(b byte) {
	switch b {
	case '\b':
		s.left(1)
	case '\t':
		s.column = min(s.column/8*8+8, s.columns-1)
	case '\n', '\v', '\f':
		s.down()
	case '\r':
		s.column = 0
	case 0x18, 0x1a: // cancel
		s.state = ground
	case 0x1b:
		s.state = escape
	}
}

func (s *screen) escaped(b byte) {
	s.state = ground
	switch b {
	case '[':
		s.state, s.params, s.param, s.private = sequence, [8]int{}, 0, 0
	case ']', 'P', 'X', '^', '_':
		s.state, s.skipped = text, 0
	case '(', ')', '*', '+', '#', '%', ' ':
		s.state = charset
	case '7':
		s.kept = [2]int{s.row, s.column}
	case '8':
		s.row, s.column = min(max(s.kept[0], s.first), s.first+len(s.rows)-1), min(s.kept[1], s.columns)
	case 'D':
		s.down()
	case 'E':
		s.column = 0
		s.down()
	case 'M':
		s.up(1)
	case 'c':
		s.clear()
		s.column = 0
	}
}

func (s *screen) sequence(b byte) {
	switch {
	case b >= '0' && b <= '9':
		s.params[s.param] = min(s.params[s.param]*10+int(b-'0'), maxNumber)
	case b == ';' || b == ':':
		s.param = min(s.param+1, len(s.params)-1)
	case b >= '<' && b <= '?':
		s.private = b
	case b < '@': // intermediates
	default:
		s.state = ground
		if s.private != 0 {
			s.mode(b)
			return
		}
		s.do(b)
	}
}

// mode sets and resets private modes.
func (s *screen) mode(b byte) {
	if s.private != '?' || b != 'h' && b != 'l' {
		return
	}
	for _, n := range s.params[:s.param+1] {
		switch n {
		case 47, 1047, 1049:
			s.other = b == 'h'
			s.clear()
		case 2004:
			s.pastes = b == 'h'
		}
	}
}

// do carries out a control sequence.
func (s *screen) do(b byte) {
	n := max(s.params[0], 1)
	switch b {
	case 'A', 'F':
		s.up(n)
	case 'B', 'e', 'E':
		s.row = min(s.row+n, s.first+len(s.rows)-1)
	case 'C', 'a':
		s.column = min(s.column+n, s.columns-1)
	case 'D':
		s.left(n)
	case 'G', '`':
		s.column = min(n, s.columns) - 1
	case 'H', 'f': // elsewhere: what is drawn there is drawn anew
		s.clear()
		s.column = min(max(s.params[1], 1), s.columns) - 1
	case 'd':
		s.clear()
	case 'J':
		s.eraseDisplay(s.params[0])
	case 'K':
		s.eraseLine(s.params[0])
	case 'P':
		s.delete(n)
	case '@':
		s.blank(n)
	case 'X':
		s.fill(s.column, s.column+n)
	case 'h', 'l':
		if s.params[0] == 4 {
			s.insert = b == 'h'
		}
	case 's':
		s.kept = [2]int{s.row, s.column}
	case 'u':
		s.escaped('8')
	}
	if b == 'E' || b == 'F' {
		s.column = 0
	}
}

func (s *screen) up(n int) { s.row = max(s.row-n, s.first) }

func (s *screen) left(n int) {
	s.column = max(min(s.column, s.columns-1)-n, 0)
}

// down goes to the next row.
func (s *screen) down() {
	last := s.row == s.first+len(s.rows)-1
	if (last || !s.at().full) && !s.lineEnds(last) {
		s.clear()
		return
	}
	s.next()
}

func (s *screen) next() {
	s.row++
	if s.row-s.first < len(s.rows) {
		return
	}
	if len(s.rows) < s.most {
		s.rows = append(s.rows, row{})
		return
	}
	free := s.rows[0].cells[:0]
	copy(s.rows, s.rows[1:])
	s.rows[len(s.rows)-1] = row{cells: free}
	s.first++
}

// put shows a character at the cursor.
func (s *screen) put(r rune) {
	width := cells(r)
	if width == 0 {
		return
	}
	if s.column+width > s.columns {
		s.at().full = true
		s.next()
		s.column = 0
	}
	if s.insert {
		s.blank(width)
	}
	s.fill(s.column, s.column+width)
	c := s.at().cells
	c[s.column] = r
	if width == 2 {
		c[s.column+1] = filler
	}
	s.column += width
}

// fill makes cells from one column to another blank.
func (s *screen) fill(from, to int) {
	r := s.at()
	to = min(to, s.columns)
	for len(r.cells) < to {
		r.cells = append(r.cells, ' ')
	}
	for i := from; i < to; i++ {
		r.cells[i] = ' '
	}
}

// blank inserts n blanks at the cursor.
func (s *screen) blank(n int) {
	r := s.at()
	if s.column >= len(r.cells) {
		return
	}
	n = min(n, s.columns-s.column)
	end := min(len(r.cells)+n, s.columns)
	for len(r.cells) < end {
		r.cells = append(r.cells, ' ')
	}
	copy(r.cells[s.column+n:], r.cells[s.column:])
	s.fill(s.column, s.column+n)
}

// delete removes n cells at the cursor.
func (s *screen) delete(n int) {
	r := s.at()
	if s.column < len(r.cells) {
		r.cells = append(r.cells[:s.column], r.cells[min(s.column+n, len(r.cells)):]...)
		r.full = false
	}
}

func (s *screen) eraseLine(how int) {
	r := s.at()
	switch how {
	case 0:
		r.cells = r.cells[:min(s.column, len(r.cells))]
	case 1:
		s.fill(0, min(s.column+1, s.columns))
		return
	case 2:
		r.cells = r.cells[:0]
	}
	r.full = false
}

func (s *screen) eraseDisplay(how int) {
	switch how {
	case 0:
		s.eraseLine(0)
		s.rows = s.rows[:s.row-s.first+1]
	case 2, 3:
		s.clear()
	}
}

// line gives the first and the last row of the line that the cursor is in: rows
// that were filled to the end belong together.
func (s *screen) line() (first, last int) {
	first, last = s.row, s.row
	for first > s.first && s.rows[first-1-s.first].full {
		first--
	}
	for last < s.first+len(s.rows)-1 && s.rows[last-s.first].full {
		last++
	}
	return first, last
}

// place is how many cells of its line stand before the cursor.
func (s *screen) place() int {
	first, _ := s.line()
	return (s.row-first)*s.columns + s.column
}

// text gives what rows show, after the first skip cells, and only up to the cursor
// if so wished. Rows that do not go on in the next are lines.
func (s *screen) text(first, last, skip int, toCursor bool) string {
	var b strings.Builder
	for n := max(first, s.first); n <= last; n++ {
		r := s.rows[n-s.first]
		at := (n - first) * s.columns
		for i, c := range r.cells {
			if toCursor && n == s.row && i >= s.column {
				return b.String()
			}
			if c != filler && at+i >= skip {
				b.WriteRune(c)
			}
		}
		switch {
		case toCursor && n == s.row:
			return b.String()
		case n == last:
		case r.full:
			for i := max(len(r.cells), skip-at); i < s.columns; i++ {
				b.WriteByte(' ')
			}
		default:
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// cells is how many cells a character takes: none, one, or two for the wide ones
// of East Asia (Unicode Standard Annex 11) and most pictures.
func cells(r rune) int {
	switch {
	case r < 0x300:
		if r >= 0x80 && r < 0xa0 || r == 0xad {
			return 0
		}
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf && r != 0x303f, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1f64f,
		r >= 0x1f900 && r <= 0x1f9ff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	default:
		return 1
	}
}
