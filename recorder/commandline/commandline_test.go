package commandline

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// play gives a Reader what is shown, and, where a step begins with "> ", what is
// typed. It returns what the Reader finds.
func play(r *Reader, steps ...string) (before, after []string) {
	for _, s := range steps {
		keys, typed := strings.CutPrefix(s, "> ")
		if !typed {
			after = append(after, r.Shown([]byte(s))...)
			continue
		}
		for p := []byte(keys); len(p) > 0; {
			n, enter := r.Typed(p)
			if p = p[n:]; enter {
				before = append(before, r.Line())
				r.Enter()
				p = p[1:]
			}
		}
	}
	return before, after
}

func TestReader(t *testing.T) {
	for _, test := range []struct {
		name          string
		steps         []string
		before, after []string
	}{
		{"a command", []string{"$ ", "> ls", "ls", "> \r", "\r\nfile\r\n$ "}, []string{"ls"}, []string{"ls"}},
		{"with no echo yet", []string{"$ ", "> ls\r", "ls\r\nfile\r\n$ "}, []string{""}, []string{"ls"}},
		{"of two rows' prompt", []string{"host\r\n$ ", "> ls", "ls", "> \r", "\r\n"}, []string{"ls"}, []string{"ls"}},
		{"a title in the prompt", []string{"\x1b]0;rm -rf\x07\x1b[1;32m$\x1b[0m ", "> ls", "ls", "> \n", "\r\n"}, []string{"ls"}, []string{"ls"}},
		{"operate and get next", []string{"$ ", "> ls", "ls", "> \x0f", "\r\n"}, []string{"ls"}, []string{"ls"}},
		{"password", []string{"Password: ", "> secret\r", "\r\n$ ", "> ls", "ls", "> \r", "\r\n"}, []string{"", "ls"}, []string{"ls"}},
		{"password with stars", []string{"Password: ", "> se", "**", "> \r", "\r\n"}, []string{""}, nil},
		{"password with a correction", []string{"Password: ", "> sx\x7fe\r", "\r\n$ "}, []string{""}, nil},
		{"password typed ahead", []string{"> sudo id\rsecret\r", "$ ", "sudo id\r\n", "[sudo] password: ", "\r\nroot\r\n$ ", "> ls", "ls", "> \r", "\r\n"}, []string{"", "", "ls"}, []string{"sudo id", "ls"}},
		{"before there was a prompt", []string{"> ls\r", "Welcome\r\n", "$ ", "ls\r\n"}, []string{""}, []string{"ls"}},
		{"clear the screen", []string{"a\r\n$ ", "> l", "l", "> \x0c", "\x1b[H\x1b[2J$ l", "> s", "s", "> \r", "\r\n"}, []string{"ls"}, []string{"ls"}},
		{"output is none", []string{"$ ", "> \r", "\r\nrm -rf /\r\n$ "}, []string{""}, nil},
		{"escape before Enter", []string{"$ ", "> ls\x1b", "ls", "> \r", "\r\n"}, []string{"ls"}, []string{"ls"}},
		{"characters cut apart", []string{"$ ", "> \xc3", "> \xa4", "\xc3", "\xa4", "> \r", "\r\n"}, []string{"ä"}, []string{"ä"}},
		{"what is no text", []string{"$ ", "> \xff", "\xff", "> \r", "\r\n"}, []string{"\ufffd"}, []string{"\ufffd"}},
		{"a suggestion behind the cursor", []string{"$ ", "> ls", "ls -rf /\x1b[6D", "> \r", "\x1b[K\r\n"}, []string{"ls"}, []string{"ls"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, after := play(New(80), test.steps...)
			if !slices.Equal(before, test.before) || !slices.Equal(after, test.after) {
				t.Errorf("before %q, after %q; want %q, %q", before, after, test.before, test.after)
			}
		})
	}
}

// What the package says that it misses, and takes for what it is not: so that
// nobody thinks it a boundary.
func TestWaysAround(t *testing.T) {
	for _, test := range []struct {
		name  string
		steps []string
	}{
		{"no echo", []string{"$ ", "> stty -echo", "stty -echo", "> \r", "\r\n$ ", "> rm -rf /\r", "\r\n"}},
		{"the alternate screen", []string{"$ \x1b[?1049h", "> rm -rf /", "rm -rf /", "> \r", "\r\n"}},
		{"a script", []string{"$ ", "> sh x", "sh x", "> \r", "\r\n+ rm -rf /\r\n"}},
		{"history by number", []string{"$ ", "> !7", "!7", "> \r", "\r\nrm -rf /\r\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before, after := play(New(80), test.steps...)
			for _, l := range slices.Concat(before, after) {
				if strings.Contains(l, "rm") {
					t.Errorf("%q was seen; the documents say that it is not", l)
				}
			}
		})
	}
}

// A flood of anything leaves a Reader small.
func TestBounded(t *testing.T) {
	r := New(1 << 20)
	for _, s := range []string{"a", "\n", "\xf0", "\x1b[A", "\x1b]", "\x1b[9999999999999@", "\x1b[999999999;999999999H", "x\x1b[999C", "\t\x1b[4h"} {
		r.Shown([]byte(strings.Repeat(s, 5_000)))
		for _, k := range []string{"a", "a\r", "\x1b[", "\\\r"} {
			play(r, "> "+strings.Repeat(k, 1_000))
			r.Shown([]byte(strings.Repeat(s+k, 1_000)))
		}
	}
	n := len(r.carried) + cap(r.screen.partial)
	for _, row := range r.screen.rows[:cap(r.screen.rows)] {
		n += 4 * cap(row.cells)
	}
	for _, e := range r.ahead {
		n += cap(e.typed) + len(e.sent)
	}
	if most := 256 << 10; n > most || len(r.ahead) > maxAhead || len(r.screen.rows) > maxRows {
		t.Errorf("%d bytes, %d lines ahead, %d rows", n, len(r.ahead), len(r.screen.rows))
	}
}

// FuzzReader: whatever is typed and shown, in whatever pieces, lines are text of
// bounded length without line ends of their own making, the cursor stays within the
// screen, and keys are neither lost nor doubled.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"$ ", "ls\r", "\x1b[A\r", "\x1b[?2004h$ \x1b[200~a\rb\x1b[201~\r", "\x1b[?1049hx\x1b[?1049l", "漢\x1b[D\x1b[P\x1b[3@\x1b[K", "\x12a\r", "a\\\rb\r"} {
		f.Add(80, []byte(s), []byte(s))
		f.Add(3, []byte(s), []byte("x"+s))
	}
	f.Fuzz(func(t *testing.T, columns int, typed, shown []byte) {
		r := New(columns)
		check := func(lines ...string) {
			for _, l := range lines {
				if len(l) > maxLine || !utf8.ValidString(l) || strings.TrimSpace(l) != l || strings.ContainsRune(l, filler) || strings.ContainsAny(l, "\r\x1b\x00") {
					t.Errorf("the line %q", l)
				}
			}
			s := &r.screen
			if s.row < s.first || s.row >= s.first+len(s.rows) || s.column < 0 || s.column > s.columns || len(s.rows) > maxRows || len(r.ahead) > maxAhead {
				t.Fatalf("row %d of %d+%d, column %d of %d", s.row, s.first, len(s.rows), s.column, s.columns)
			}
		}
		for i := 0; len(typed) > 0 || len(shown) > 0; i++ {
			n := min(len(shown), 1+i%7)
			check(r.Shown(shown[:n])...)
			shown = shown[n:]
			piece := typed[:min(len(typed), 1+i%5)]
			k, enter := r.Typed(piece)
			if k < 0 || k > len(piece) || enter != (k < len(piece)) || enter && !bytes.ContainsRune([]byte("\r\n\x0f"), rune(piece[k])) {
				t.Fatalf("of %q %d bytes, %t", piece, k, enter)
			}
			if enter {
				check(r.Line())
				r.Enter()
				k++
			}
			typed = typed[k:]
			if i%11 == 10 {
				r.Resize(columns + i)
			}
			r.Settled()
		}
	})
}

// TestShortened: a line that went on in the next row and was made shorter by taking
// cells away does not go on there any more.
func TestShortened(t *testing.T) {
	r := New(10)
	r.Shown([]byte("$ "))
	r.Typed([]byte("\x1b[A"))
	r.Shown([]byte("0123456789"))
	r.Typed([]byte("\x1b[B"))
	r.Shown([]byte("\r\x1b[K\x1b[A\x1b[2Cab\x1b[6P"))
	if got := r.Line(); got != "ab" {
		t.Errorf("the line is %q", got)
	}
	r.Enter()
	if got := r.Shown([]byte("\r\nout\r\n")); len(got) != 1 || got[0] != "ab" {
		t.Errorf("sent was %q", got)
	}
}
