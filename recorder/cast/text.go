package cast

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Text writes a recording as plain text: a line for each line of output (" "),
// stderr ("!"), input (">", quoted, or how many keys were hidden), mark ("#"), file ("%") and exit status
// ("="), each with the time of its first character. Carriage returns, backspaces and erasing to
// the end of the line are followed; what programs do on the whole screen is
// not, and appears as the text they sent. Nothing in it acts on a terminal.
//
// Damaged chunks are named where they stand; the first *DamageError is returned
// at the end. Text does not check the signature.
func Text(w io.Writer, r io.Reader) error {
	c, err := NewReader(r)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(w)
	h := c.Header()
	fmt.Fprintf(b, "%s %s %s %s\n", h.ID, h.Started.Format(time.RFC3339), visibleString(h.Kind), visibleString(h.Command))
	for _, k := range slices.Sorted(maps.Keys(h.Fields)) {
		fmt.Fprintf(b, "  %s: %s\n", visibleString(k), visibleString(h.Fields[k]))
	}
	out := map[Stream]*transcript{Output: newTranscript(b, ' '), Stderr: newTranscript(b, '!')}
	var keys []byte
	var keysAt time.Duration
	flush := func() {
		if len(keys) > 0 {
			line(b, keysAt, '>', strconv.Quote(string(keys)))
			keys = keys[:0]
		}
	}
	var first error
	for {
		e, err := c.Next()
		var d *DamageError
		switch {
		case err == io.EOF:
			flush()
			out[Output].end()
			out[Stderr].end()
			return errors.Join(b.Flush(), first)
		case errors.As(err, &d):
			if first == nil {
				first = err
			}
			line(b, d.Time[1], '#', visibleString(d.Error()))
			continue
		case err != nil:
			return errors.Join(err, b.Flush())
		}
		switch e.Stream {
		case Input:
			for _, k := range e.Data {
				if len(keys) == 0 {
					keysAt = e.At
				}
				if keys = append(keys, k); k == '\r' || k == '\n' || len(keys) >= 256 {
					flush()
				}
			}
		case Output, Stderr:
			t := out[e.Stream]
			t.at = e.At
			t.s.write(e.Data)
		case Hidden:
			flush()
			line(b, e.At, '>', visibleString(string(e.Data)))
		case Mark:
			line(b, e.At, '#', strconv.Quote(string(e.Data)))
		case File:
			line(b, e.At, '%', ParseFileEvent(e.Data).String())
		case Exit:
			line(b, e.At, '=', strconv.Quote(string(e.Data)))
		}
	}
}

func line(w io.Writer, at time.Duration, kind byte, text string) {
	ms := at.Milliseconds()
	fmt.Fprintf(w, "%02d:%02d:%02d.%03d %c %s\n", ms/3600000, ms/60000%60, ms/1000%60, ms%1000, kind, text)
}

// A transcript puts the lines of one stream together.
type transcript struct {
	w     io.Writer
	kind  byte
	s     scanner
	at    time.Duration // now
	began time.Duration // of the line
	line  []rune
	col   int
}

const maxColumns = 4 << 10

func newTranscript(w io.Writer, kind byte) *transcript {
	t := &transcript{w: w, kind: kind}
	t.s.to = t
	return t
}

func (t *transcript) end() {
	t.s.end()
	if len(t.line) > 0 {
		t.newline()
	}
}

func (t *transcript) newline() {
	if len(t.line) == 0 {
		t.began = t.at
	}
	buf := make([]byte, 0, len(t.line))
	for _, r := range t.line {
		buf = utf8.AppendRune(buf, r)
	}
	line(t.w, t.began, t.kind, string(buf))
	t.line, t.col = t.line[:0], 0
}

func (t *transcript) text(r rune) {
	if t.col >= maxColumns {
		t.newline()
	}
	if len(t.line) == 0 {
		t.began = t.at
	}
	if r = visible(r); t.col < len(t.line) {
		t.line[t.col] = r
	} else {
		t.line = append(t.line, r)
	}
	t.col++
}

func (t *transcript) control(c byte) {
	switch c {
	case '\n':
		t.newline()
	case '\r':
		t.col = 0
	case '\b':
		t.col = max(0, t.col-1)
	case '\t':
		for more := true; more; more = t.col%8 != 0 {
			if t.col < len(t.line) {
				t.col++
			} else {
				t.text(' ')
			}
		}
	}
}

func (t *transcript) escape(byte) {}

func (t *transcript) csi(seq []byte, final byte) {
	if final == 'K' && (len(seq) == 0 || string(seq) == "0") {
		t.line = t.line[:t.col]
	}
}
