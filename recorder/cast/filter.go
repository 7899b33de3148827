package cast

import (
	"bytes"
	"io"
	"unicode"
	"unicode/utf8"
)

// A Filter passes on what can do no harm on a terminal, and nothing else:
//
//   - characters, but for C1 controls, bidirectional overrides and other
//     invisible format characters, which become U+FFFD like bytes that are not
//     UTF-8;
//   - CR, LF, TAB and BS;
//   - colours and styles (SGR), but not concealed text;
//   - movements of the cursor, erasing, inserting and deleting on the screen.
//
// Window titles, clipboard (OSC 52), hyperlinks, device control strings, queries
// that a terminal would answer into the reader's shell, modes, character sets,
// scroll regions, resets and all that is not known are removed. How the input is
// cut into Writes does not change the output. State is bounded. A Filter is not
// safe for concurrent use.
type Filter struct {
	w       io.Writer
	s       scanner
	out     []byte
	picture bool
}

// NewFilter returns a Filter that writes to w.
func NewFilter(w io.Writer) *Filter {
	f := &Filter{w: w}
	f.s.to = (*safe)(f)
	return f
}

// NewPictureFilter returns a Filter for a terminal that is a picture in a player:
// nobody types into it, and nothing is left of it afterwards. It also passes on
// what programs draw whole screens with: the second screen, margins, wrapping,
// origin, the visible cursor, repeated characters and tabs.
func NewPictureFilter(w io.Writer) *Filter {
	f := NewFilter(w)
	f.picture = true
	return f
}

// Write filters p; each call makes at most one Write.
func (f *Filter) Write(p []byte) (int, error) {
	f.out = f.out[:0]
	f.s.write(p)
	return len(p), f.flush()
}

// Close ends the input: a sequence that is not whole is dropped, colours and
// styles are set back. It does not close the underlying writer.
func (f *Filter) Close() error {
	f.out = f.out[:0]
	f.s.end()
	f.out = append(f.out, "\x1b[0m"...)
	return f.flush()
}

func (f *Filter) flush() error {
	if len(f.out) == 0 {
		return nil
	}
	_, err := f.w.Write(f.out)
	return err
}

// safe is the Filter's allow-list.
type safe Filter

func (f *safe) text(r rune) { f.out = utf8.AppendRune(f.out, visible(r)) }

// visible returns r, or U+FFFD for what misleads without being seen.
func visible(r rune) rune {
	const joiner = '\u200d' // of emoji
	if r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Cf, r) && r != joiner {
		return utf8.RuneError
	}
	return r
}

func (f *safe) control(c byte) {
	switch c {
	case '\r', '\n', '\t', '\b':
		f.out = append(f.out, c)
	}
}

func (f *safe) escape(c byte) {
	switch c {
	case '7', '8', // save and restore the cursor
		'D', 'E', 'M': // index, next line, reverse index
		f.out = append(f.out, 0x1b, c)
	case 'H': // tab
		if f.picture {
			f.out = append(f.out, 0x1b, c)
		}
	}
}

func (f *safe) csi(seq []byte, final byte) {
	switch final {
	case 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'f', 'd', 'a', 'e', '`', // cursor
		'J', 'K', 'X', // erase
		'@', 'P', 'L', 'M', 'S', 'T': // insert, delete, scroll
		if !numbers(seq, ";") {
			return
		}
	case 's', 'u': // save and restore; with parameters they are something else
		if len(seq) > 0 {
			return
		}
	case 'm':
		if !numbers(seq, ";:") || conceals(seq) {
			return
		}
	case 'r', 'g', 'I', 'Z': // margins, tabs
		if !f.picture || !numbers(seq, ";") {
			return
		}
	case 'b': // repeat, but not much of a few bytes
		if !f.picture || len(seq) > 3 || !numbers(seq, "") {
			return
		}
	case 'h', 'l':
		if !f.picture || !draws(string(seq)) {
			return
		}
	default:
		return
	}
	f.out = append(append(append(f.out, 0x1b, '['), seq...), final)
}

// draws reports whether a mode of DEC's changes only how a screen is drawn.
func draws(mode string) bool {
	switch mode {
	case "?6", "?7", "?25", // origin, wrapping, visible cursor
		"?47", "?1047", "?1048", "?1049": // second screen, cursor kept for it
		return true
	default:
		return false
	}
}

// numbers reports whether seq is numbers of up to four digits.
func numbers(seq []byte, between string) bool {
	digits := 0
	for _, c := range seq {
		switch {
		case c >= '0' && c <= '9':
			if digits++; digits > 4 {
				return false
			}
		case bytes.IndexByte([]byte(between), c) >= 0:
			digits = 0
		default:
			return false
		}
	}
	return true
}

// conceals reports whether SGR parameters hide text (8), which is another thing
// than the colour number 8. Parameters that break off count as hiding.
func conceals(seq []byte) bool {
	params := bytes.Split(seq, []byte(";"))
	for i := 0; i < len(params); i++ {
		head, _, colon := bytes.Cut(params[i], []byte(":"))
		switch number(head) {
		case "8":
			return true
		case "38", "48", "58":
			if colon {
				break
			}
			if i++; i < len(params) && number(params[i]) == "5" {
				i++
			} else if i < len(params) && number(params[i]) == "2" {
				i += 3
			}
			if i >= len(params) {
				return true
			}
		}
	}
	return false
}

func number(digits []byte) string { return string(bytes.TrimLeft(digits, "0")) }
