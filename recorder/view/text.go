package view

import (
	"hash/maphash"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/drawbolt/drawbolt/recorder/screen"
)

// plain makes one line of plain text of s: blanks for controls, nothing for format
// characters, U+FFFD for bytes that are not UTF-8.
func plain(s string) string {
	if !Plain(s) {
		s = strings.Map(func(r rune) rune {
			switch {
			case unicode.Is(unicode.Cf, r):
				return -1
			case unicode.IsControl(r) || r == '\u2028' || r == '\u2029':
				return ' '
			default:
				return r
			}
		}, strings.ToValidUTF8(s, "\ufffd"))
	}
	return strings.TrimRight(s, " ")
}

// binary reports whether data is so long and has so many bytes of no text that its
// lines would help nobody.
func binary(data []byte) bool {
	if len(data) < 256 {
		return false
	}
	odd := 0
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 || r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != 0x1b {
			odd++
		}
		i += n
	}
	return odd > len(data)/8
}

// recent remembers the last lines, so that what stands on the screen for long, or
// comes again and again, is told once. Its zero value is ready.
type recent struct {
	seed     maphash.Seed
	now, old map[uint64]struct{}
}

const maxRecent = 4096

// seen reports whether a line is among those of late, and remembers it.
func (r *recent) seen(line string) bool {
	if r.now == nil {
		r.seed, r.now = maphash.MakeSeed(), map[uint64]struct{}{}
	}
	h := maphash.String(r.seed, line)
	_, now := r.now[h]
	_, old := r.old[h]
	if r.now[h] = struct{}{}; len(r.now) >= maxRecent {
		r.now, r.old = map[uint64]struct{}{}, r.now
	}
	return now || old
}

// typing puts lines together of what is typed, as the one who types sees them. A
// line whose characters the terminal has not shown, each after it was typed, is
// taken for a secret and forgotten.
type typing struct {
	screen *screen.Screen
	found  func(at time.Duration, line string)

	at      time.Duration // of the first character of the line
	line    []rune
	shown   int      // characters of it that were shown
	late    lateLine // one that was sent before it was shown
	escape  byte     // inside a key that is a sequence
	partial []byte   // of a character
}

// A lateLine is one whose Enter came before it was shown: it is what is shown next,
// as one line, or it is not shown at all.
type lateLine struct {
	at    time.Duration
	line  []rune
	shown int
}

func (t *typing) typed(at time.Duration, data []byte) {
	for _, b := range data {
		switch {
		case b == 0x1b:
			t.escape = b
		case t.escape == 0x1b:
			if t.escape = 0; b == '[' || b == 'O' {
				t.escape = b
			}
		case t.escape != 0:
			if b >= '@' {
				t.escape = 0
			}
		case b == '\r' || b == '\n':
			t.enter()
		case b == 0x7f || b == '\b':
			t.cut(len(t.line) - 1)
		case b == 0x15 || b == 0x03: // kill the line, interrupt
			t.cut(0)
		case b == 0x17: // kill a word
			n := len(t.line)
			for n > 0 && t.line[n-1] == ' ' {
				n--
			}
			for n > 0 && t.line[n-1] != ' ' {
				n--
			}
			t.cut(n)
		case b < ' ':
		default:
			t.add(at, b)
		}
	}
	t.listen()
}

func (t *typing) add(at time.Duration, b byte) {
	if b < utf8.RuneSelf {
		t.partial = t.partial[:0]
	} else if t.partial = append(t.partial, b); !utf8.FullRune(t.partial) {
		return
	}
	r := rune(b)
	if b >= utf8.RuneSelf {
		r, _ = utf8.DecodeRune(t.partial)
		t.partial = t.partial[:0]
	}
	if len(t.line) == 0 {
		t.at = at
	}
	if len(t.line) < MaxText/utf8.UTFMax {
		t.line = append(t.line, r)
	}
}

func (t *typing) cut(n int) {
	t.line = t.line[:max(n, 0)]
	t.shown = min(t.shown, len(t.line))
}

func (t *typing) enter() {
	switch {
	case len(t.line) == 0:
	case t.shown == len(t.line):
		t.found(t.at, string(t.line))
	default:
		t.late = lateLine{t.at, append([]rune(nil), t.line...), t.shown}
	}
	t.cut(0)
}

// listen has the screen tell what it shows, while it matters.
func (t *typing) listen() {
	if t.shown < len(t.line) || t.late.line != nil {
		t.screen.Heard = t.heard
	} else {
		t.screen.Heard = nil
	}
}

func (t *typing) heard(r rune) {
	if l := &t.late; l.line != nil {
		switch {
		case l.shown < len(l.line) && l.line[l.shown] == r:
			l.shown++
		case l.shown == len(l.line) && (r == '\r' || r == '\n'):
			t.found(l.at, string(l.line))
			fallthrough
		default:
			*l = lateLine{}
		}
	}
	if t.shown < len(t.line) && t.line[t.shown] == r {
		t.shown++
	}
}

// A histogram counts bytes over a time whose end is not known yet.
type histogram struct {
	width time.Duration // of a bin; 0: nothing was added
	bins  []int64
}

const (
	maxBins  = 3840
	maxSpans = 240
)

func (h *histogram) add(at time.Duration, n int) {
	if h.width == 0 {
		h.width, h.bins = 10*time.Millisecond, make([]int64, maxBins)
	}
	for at/h.width >= maxBins {
		for i := range maxBins / 2 {
			h.bins[i] = h.bins[2*i] + h.bins[2*i+1]
		}
		clear(h.bins[maxBins/2:])
		h.width *= 2
	}
	h.bins[at/h.width] += int64(n)
}

// spans divides the duration into equal spans.
func (h *histogram) spans(duration time.Duration) []int64 {
	n := int(min(max(duration/time.Second, 1), maxSpans))
	spans := make([]int64, n)
	for i, count := range h.bins {
		if count == 0 {
			continue
		}
		at := time.Duration(i)*h.width + h.width/2
		if duration > 0 {
			spans[min(int(float64(at)/float64(duration)*float64(n)), n-1)] += count
		} else {
			spans[0] += count
		}
	}
	return spans
}
