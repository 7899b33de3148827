// Package screen is a model of a terminal: what stands on it after a program's
// output. It is for those who look at a recording later, at a place in the middle
// or for a text, and never stands in the way of a session.
//
// The one who was recorded chose the bytes, so the model trusts nothing: it never
// answers, runs nothing, and its memory and the work for each byte are bounded by
// the terminal's size, which is bounded too. What it gives out holds no control
// and format characters, but for the colours and the movements of the cursor that
// Paint makes itself. It knows what ECMA-48 and xterm's programs of today use of a
// terminal: two screens, margins, tabs, colours, wide and combined characters.
// Titles, the clipboard, queries, links, pictures and hidden text are passed over,
// the last so that it is seen.
package screen

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The largest terminal that is modelled. Of a larger one the upper left is.
const (
	MaxColumns = 500
	MaxRows    = 200
)

const (
	maxText     = 4 << 10  // bytes of one line that is told
	maxPaint    = 1 << 20  // bytes of what Paint gives with colours
	maxClusters = 16 << 10 // different characters that are put together of several
	maxCluster  = 3        // runes of one
)

// A cell is one place on the screen.
type cell struct {
	r rune // filler, or below it the number of a cluster
	style
}

// filler is the second cell of a character that is two cells wide; -2 is the first
// cluster, -3 the next.
const filler = rune(-1)

// A style is how a cell looks. Colours are 0 for the terminal's own, or one of the
// 256 with indexed set, or red, green and blue with direct set.
type style struct {
	fg, bg uint32
	attrs  uint8
}

const (
	indexed = 1 << 24
	direct  = 2 << 24
)

const (
	bold = 1 << iota
	faint
	italic
	underline
	blink
	reverse
	strike
)

// A row holds its cells up to the last that was written. Those after it are blank,
// in the row's background.
type row struct {
	cells []cell
	bg    uint32
	on    bool   // its text goes on in the next row
	fresh bool   // it was changed since it was told
	form  uint32 // what was told, apart from its digits
	again uint8  // how often before
}

// A page is one of the two screens.
type page struct {
	rows   []row
	cursor cursor
	saved  cursor
}

type cursor struct {
	row, column int
	full        bool // the last column was written: the next character begins the next row
	pen         style
	graphics    [2]bool // G0 and G1 are line drawing
	shift       int     // which of them is used
	origin      bool    // rows are counted from the upper margin
}

// A Screen is the model of one terminal. It is not safe for concurrent use.
type Screen struct {
	// Told is called with each line of text that goes away before Shown told it:
	// because it scrolled off, was erased, or its program ended. A line that was
	// wrapped is one. It may be nil.
	Told func(line string)
	// Heard is called with each character that is shown, and with CR and LF. It may
	// be nil.
	Heard func(r rune)
	// Ran is called with the lines between the marks by which a shell tells where a
	// command begins and that it is run (OSC 133). Anything else may send them too. It
	// may be nil.
	Ran func(lines string)
	// NewLine has a line feed return the carriage too: output that went to no
	// terminal has lines that end so.
	NewLine bool

	columns int
	pages   [2]page
	*page   // the one that is seen
	top     int
	bottom  int // the margins: rows from top to before bottom scroll
	noWrap  bool
	insert  bool
	newLine bool // as a program asked for it
	tabs    [MaxColumns]bool
	last    rune // that was put, for repetition

	gone      []byte // of a line whose end has not gone away yet
	goneFresh bool
	line      []byte // room for one

	scrolled              int // rows that have left the first screen at its upper end
	begun                 bool
	begunRow, begunColumn int // where a command begins, rows counted with those that left

	clusters []string
	numbers  map[string]rune // of clusters

	parser
}

// New returns an empty screen of that size.
func New(columns, rows int) *Screen {
	s := &Screen{}
	s.columns = bounded(columns, MaxColumns)
	for i := range s.pages {
		s.pages[i].rows = make([]row, bounded(rows, MaxRows))
	}
	s.page = &s.pages[0]
	s.reset()
	return s
}

func bounded(n, most int) int { return min(max(n, 1), most) }

// reset sets all back but what is shown.
func (s *Screen) reset() {
	s.pages[0].cursor, s.pages[0].saved = cursor{}, cursor{}
	s.pages[1].cursor, s.pages[1].saved = cursor{}, cursor{}
	s.top, s.bottom = 0, len(s.rows)
	s.noWrap, s.insert, s.newLine, s.last = false, false, false, 0
	for i := range s.tabs {
		s.tabs[i] = i%8 == 0
	}
}

// Size returns the columns and rows of the model.
func (s *Screen) Size() (columns, rows int) { return s.columns, len(s.rows) }

// Resize takes another size. Nothing is wrapped anew: programs that care draw again.
func (s *Screen) Resize(columns, rows int) {
	s.tellShown() // some of it may be cut off
	s.columns, rows = bounded(columns, MaxColumns), bounded(rows, MaxRows)
	for i := range s.pages {
		p := &s.pages[i]
		if over := p.cursor.row - rows + 1; over > 0 { // the cursor's row stays
			s.goes(p.rows[:over])
			p.rows = p.rows[over:]
			if p.cursor.row -= over; i == 0 {
				s.scrolled += over
			}
		}
		if rows < len(p.rows) {
			s.goes(p.rows[rows:])
		}
		resized := make([]row, rows)
		copy(resized, p.rows)
		p.rows = resized
		for j := range p.rows {
			if r := &p.rows[j]; len(r.cells) > s.columns {
				r.cells = r.cells[:s.columns]
				s.whole(r)
			}
		}
		for _, c := range []*cursor{&p.cursor, &p.saved} {
			c.row, c.column, c.full = min(c.row, rows-1), min(c.column, s.columns-1), false
		}
	}
	s.top, s.bottom = 0, rows
}

// Write takes output. It never fails.
func (s *Screen) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		if s.state == ground && s.parts == 0 {
			if n := printable(p[i:]); n > 0 {
				s.run(p[i : i+n])
				i += n
				continue
			}
		}
		s.byte(p[i])
		i++
	}
	return len(p), nil
}

// Whole reports whether the output so far ends between two characters or
// sequences.
func (s *Screen) Whole() bool { return s.state == ground && s.parts == 0 }

// Alternate reports whether a program draws on the other screen.
func (s *Screen) Alternate() bool { return s.page == &s.pages[1] }

// printable is how many bytes at the beginning are visible ASCII.
func printable(p []byte) int {
	for i, c := range p {
		if c < ' ' || c >= 0x7f {
			return i
		}
	}
	return len(p)
}

// run puts visible ASCII.
func (s *Screen) run(p []byte) {
	c := &s.cursor
	if s.insert || s.noWrap || c.graphics[c.shift] || s.Heard != nil {
		for _, b := range p {
			s.put(rune(b))
		}
		return
	}
	for len(p) > 0 {
		if c.full {
			s.wrap()
		}
		r := &s.rows[c.row]
		n := min(len(p), s.columns-c.column)
		end := c.column + n
		s.clear(c.column, end)
		s.extend(r, end)
		for i, b := range p[:n] {
			r.cells[c.column+i] = cell{rune(b), c.pen}
		}
		r.fresh = true
		if c.column = end; end == s.columns {
			c.column, c.full = end-1, true
			r.on = false
		}
		s.last = rune(p[n-1])
		p = p[n:]
	}
}

// wrap goes on in the next row.
func (s *Screen) wrap() {
	s.rows[s.cursor.row].on = true
	s.cursor.column = 0
	s.down()
}

// put puts one character at the cursor.
func (s *Screen) put(r rune) {
	c := &s.cursor
	width := cells(r)
	if width == 0 {
		s.combine(r)
		return
	}
	if r < 0x7f && c.graphics[c.shift] {
		r = drawing(r)
	}
	s.last = r
	if s.Heard != nil {
		s.Heard(r)
	}
	if c.full && !s.noWrap {
		s.wrap()
	}
	if c.column+width > s.columns {
		if s.columns < width {
			return
		}
		if s.noWrap {
			c.column = s.columns - width
		} else {
			s.wrap()
		}
	}
	line := &s.rows[c.row]
	if s.insert {
		s.insertCells(width)
	}
	end := c.column + width
	s.clear(c.column, end)
	s.extend(line, end)
	line.cells[c.column] = cell{r, c.pen}
	if width == 2 {
		line.cells[c.column+1] = cell{filler, c.pen}
	}
	line.fresh = true
	if c.column = end; end == s.columns {
		c.column, c.full = end-1, true
		line.on = false
	}
}

// combine adds a mark to the character before the cursor.
func (s *Screen) combine(r rune) {
	if !unicode.In(r, unicode.Mn, unicode.Me) && (r < 0x1160 || r > 0x11ff) {
		return // it is not seen at all
	}
	c := &s.cursor
	line, at := &s.rows[c.row], c.column
	if !c.full {
		at--
	}
	if at >= 0 && at < len(line.cells) && line.cells[at].r == filler {
		at--
	}
	if at < 0 || at >= len(line.cells) {
		return
	}
	text := s.text(line.cells[at].r) + string(r)
	if utf8.RuneCountInString(text) > maxCluster {
		return
	}
	n, known := s.numbers[text]
	if !known {
		if len(s.clusters) == maxClusters {
			return
		}
		s.clusters = append(s.clusters, text)
		n = filler - rune(len(s.clusters))
		if s.numbers == nil {
			s.numbers = map[string]rune{}
		}
		s.numbers[text] = n
	}
	line.cells[at].r, line.fresh = n, true
}

// text is what stands in a cell.
func (s *Screen) text(r rune) string {
	switch {
	case r == filler:
		return ""
	case r < 0:
		return s.clusters[filler-r-1]
	default:
		return string(r)
	}
}

// extend makes a row's cells reach up to there.
func (s *Screen) extend(r *row, end int) {
	if cap(r.cells) < end { // at once, so that a row grows a few times only
		grown := make([]cell, len(r.cells), min(max(end, 2*cap(r.cells), 32), max(s.columns, end)))
		copy(grown, r.cells)
		r.cells = grown
	}
	for len(r.cells) < end {
		r.cells = append(r.cells, cell{' ', style{bg: r.bg}})
	}
}

// clear takes away the other halves of wide characters that cells from one column
// to another cut in two.
func (s *Screen) clear(from, to int) {
	r := &s.rows[s.cursor.row]
	if from < len(r.cells) && r.cells[from].r == filler && from > 0 {
		r.cells[from-1].r = ' '
	}
	if to < len(r.cells) && r.cells[to].r == filler {
		r.cells[to].r = ' '
	}
}

// whole blanks a wide character in the last column, whose other half is gone.
func (s *Screen) whole(r *row) {
	if len(r.cells) < s.columns {
		return
	}
	last := &r.cells[s.columns-1]
	if first, _ := utf8.DecodeRuneInString(s.text(last.r)); last.r != filler && cells(first) == 2 {
		last.r = ' '
	}
}

// down goes to the next row, and scrolls at the lower margin.
func (s *Screen) down() {
	c := &s.cursor
	c.full = false
	switch {
	case c.row == s.bottom-1:
		s.scroll(s.top, 1)
	case c.row < len(s.rows)-1:
		c.row++
	}
}

// up goes to the row before, and scrolls at the upper margin.
func (s *Screen) up() {
	c := &s.cursor
	c.full = false
	switch {
	case c.row == s.top:
		s.scrollDown(s.top, 1)
	case c.row > 0:
		c.row--
	}
}

// scroll takes n rows away from the row from on, up to the lower margin, and adds
// blank ones below.
func (s *Screen) scroll(from, n int) {
	n = min(n, s.bottom-from)
	if s.leave(s.rows[from : from+n]); from > 0 {
		s.tell() // what comes next is another line
	} else if !s.Alternate() {
		s.scrolled += n
	}
	region := s.rows[from:s.bottom]
	rotate(region, n)
	s.blank(region[len(region)-n:])
}

// scrollDown adds n blank rows at the row from, for those that are pushed over the
// lower margin.
func (s *Screen) scrollDown(from, n int) {
	n = min(n, s.bottom-from)
	region := s.rows[from:s.bottom]
	s.goes(region[len(region)-n:])
	rotate(region, len(region)-n)
	s.blank(region[:n])
}

// rotate moves the first n rows to the end.
func rotate(rows []row, n int) {
	if n <= 0 || n >= len(rows) {
		return
	}
	if n == 1 { // by far the most frequent
		first := rows[0]
		copy(rows, rows[1:])
		rows[len(rows)-1] = first
		return
	}
	moved := append(append(make([]row, 0, len(rows)), rows[n:]...), rows[:n]...)
	copy(rows, moved)
}

// blank makes rows empty.
func (s *Screen) blank(rows []row) {
	for i := range rows {
		rows[i] = row{cells: rows[i].cells[:0], bg: s.cursor.pen.bg}
	}
}

// leave tells rows that go away.
func (s *Screen) leave(rows []row) {
	for i := range rows {
		r := &rows[i]
		if len(s.gone) == 0 && !r.fresh && !r.on {
			continue
		}
		s.goneFresh = s.goneFresh || r.fresh
		r.fresh = false
		if s.gone = s.appendRow(s.gone, r); !r.on || len(s.gone) >= 16*maxText {
			s.tell()
		}
	}
}

// tell tells the line that went away.
func (s *Screen) tell() {
	if s.goneFresh && s.Told != nil {
		pieces(s.gone, s.Told)
	}
	s.gone, s.goneFresh = s.gone[:0], false
}

// goes tells rows that go away together, when nothing of them comes later.
func (s *Screen) goes(rows []row) {
	s.leave(rows)
	s.tell()
}

// appendRow adds a row's text.
func (s *Screen) appendRow(b []byte, r *row) []byte {
	for i := range r.cells {
		switch c := r.cells[i].r; {
		case c >= 0:
			b = utf8.AppendRune(b, c)
		case c < filler:
			b = append(b, s.clusters[filler-c-1]...)
		}
	}
	return b
}

// pieces calls each with a line, in pieces if it is too long.
func pieces(line []byte, each func(line string)) {
	for line = bytes.TrimRight(line, " "); len(line) > 0; {
		n := len(line)
		if n > maxText {
			for n = maxText; !utf8.RuneStart(line[n]); n-- {
			}
		}
		each(string(line[:n]))
		line = line[n:]
	}
}

// Shown calls each with the lines on the screen that have changed since they were
// told, from top to bottom, and with how often the row has shown the line before,
// but for its digits: clocks, counters and programs like top draw the same ones
// again and again. The line in which the cursor stands may be being written: it is
// left for later unless all are wished.
func (s *Screen) Shown(all bool, each func(line string, again int)) {
	for i := 0; i < len(s.rows); {
		first, fresh := i, false
		for {
			fresh = fresh || s.rows[i].fresh
			i++
			if i == len(s.rows) || !s.rows[i-1].on {
				break
			}
		}
		if !fresh || !all && s.cursor.row >= first && s.cursor.row < i {
			continue
		}
		s.line = s.line[:0]
		for j := first; j < i; j++ {
			s.rows[j].fresh = false
			s.line = s.appendRow(s.line, &s.rows[j])
		}
		r := &s.rows[first]
		if form := formOf(s.line); form != r.form {
			r.form, r.again = form, 0
		} else if r.again < 255 {
			r.again++
		}
		again := int(r.again)
		pieces(s.line, func(line string) { each(line, again) })
	}
}

// formOf is a hash of a line without its digits (FNV-1a). It tells programs that
// draw the same again, and nothing depends on its being hard to forge.
func formOf(line []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range line {
		if c >= '0' && c <= '9' {
			continue
		}
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

// Lines returns the screen as text, without blanks at the ends of lines and
// without empty lines at the end.
func (s *Screen) Lines() []string {
	lines := make([]string, 0, len(s.rows))
	for i := range s.rows {
		lines = append(lines, strings.TrimRight(string(s.appendRow(nil, &s.rows[i])), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}
