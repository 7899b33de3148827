package screen

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// programs are what real programs wrote to a terminal, and how tmux shows it:
// NAME.bytes and NAME.txt, which ends with the cursor and the size.
func programs(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/programs/*.bytes")
	if err != nil || len(names) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(name), ".bytes")] = b
	}
	return all
}

func TestPrograms(t *testing.T) {
	for name, b := range programs(t) {
		t.Run(name, func(t *testing.T) {
			golden, err := os.ReadFile("testdata/programs/" + name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSuffix(string(golden), "\n"), "\n")
			var column, row, columns, rows int
			if _, err := fmt.Sscanf(want[len(want)-1], "cursor %d,%d of %dx%d", &column, &row, &columns, &rows); err != nil {
				t.Fatal(err)
			}
			want = want[:len(want)-1]
			for len(want) > 0 && want[len(want)-1] == "" {
				want = want[:len(want)-1]
			}
			// How the bytes come changes nothing.
			for _, size := range []int{len(b), 1, 7} {
				s := New(columns, rows)
				for part := range slices.Chunk(b, size) {
					_, _ = s.Write(part)
				}
				same(t, s.Lines(), want)
				// A cursor behind the last column is told as one there.
				if at := s.cursor; at.row != row || at.column != min(column, columns-1) {
					t.Errorf("the cursor is at %d,%d, and not at %d,%d", at.column, at.row, column, row)
				}
			}
		})
	}
}

// TestEdges: where terminals differ, and what xterm does.
func TestEdges(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"half a character", "漢字\r\x1b[Cx", " x字"},
		{"half a character taken out", "漢字\x1b[2G\x1b[P", " 字"},
		{"the first half taken out", "漢字\r\x1b[P", " 字"},
		{"half a character pushed", "漢字\x1b[2G\x1b[@", "   字"},
		{"half a character erased", "漢字\x1b[2G\x1b[X", "  字"},
		{"back from behind the end", "0123456789\b\bx", "0123456x89"},
		{"erased behind the end", "0123456789\x1b[K", "0123456789"},
		{"lines outside of the margins", "\x1b[2;3r\x1b[5;1H\x1b[Lx", "\n\n\n\nx"},
		{"wide at the end", "012345678漢", "012345678\n漢"},
		{"a string that does not end", "a\x1b]0;" + strings.Repeat("x", maxString-2) + "yz", "ayz"},
		{"a string in a string", "a\x1b]0;b\x1b]0;c\x07d", "ad"},
		{"cut off by another", "a\x1b[3\x1b[1mb", "ab"},
		{"not UTF-8", "a\xffb\xe6\xbcc\xed\xa0\x80", "a\ufffdb\ufffd\ufffdc\ufffd\ufffd\ufffd"},
		{"C1", "a\u009b2J\u0090b", "a2Jb"},
		{"line drawing", "\x1b(0lqk\x0eq\x1b)0\x0eq\x0fq\x1b(Bq", "┌─┐q──q"},
		{"soft reset", "\x1b[4h\x1b[2;3r\x1b[!pab\rc", "cb"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := New(10, 5)
			_, _ = s.Write([]byte(test.in))
			s.check(t)
			if got := strings.Join(s.Lines(), "\n"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func same(t testing.TB, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = strings.TrimRight(want[i], " ")
		}
		if g != w {
			t.Errorf("row %d is\n%q\nwant\n%q", i, g, w)
		}
	}
}

// TestPaint: a screen that is painted looks the same, and what comes next does the
// same on it, wherever it is cut.
func TestPaint(t *testing.T) {
	for name, b := range programs(t) {
		t.Run(name, func(t *testing.T) {
			for cut := 0; cut < len(b); cut += 1 + len(b)/50 {
				s := New(80, 24)
				_, _ = s.Write(b[:cut])
				repaint(t, s)
			}
		})
	}
	t.Run("colours", func(t *testing.T) {
		s := New(10, 3)
		_, _ = s.Write([]byte("\x1b[1;31mred\x1b[48;5;200m \x1b[38:2::1:2:3mx\x1b[0;7m \x1b[44m\r\n\x1b[K\x1b[92;4mz"))
		if got, want := s.Paint(), "\x1b[1;1H\x1b[0;1;31mred\x1b[0;1;31;48;5;200m \x1b[0;1;38;2;1;2;3;48;5;200mx\x1b[0;7m \x1b[2;1H\x1b[0;4;7;92;44mz\x1b[0;44m         \x1b[2;2H\x1b[0;4;7;92;44m"; got != want {
			t.Errorf("painted %q, want %q", got, want)
		}
		repaint(t, s)
	})
}

// repaint paints a screen on another and compares them.
func repaint(t testing.TB, s *Screen) {
	t.Helper()
	painted := s.Paint()
	harmless(t, painted)
	columns, rows := s.Size()
	again := New(columns, rows)
	_, _ = again.Write([]byte(painted))
	if got := again.Paint(); got != painted {
		t.Fatalf("painted again: %q, want %q", got, painted)
	}
	if again.cursor.full != s.cursor.full || again.cursor.row != s.cursor.row || again.cursor.column != s.cursor.column {
		t.Fatalf("the cursor is %+v, want %+v", again.cursor, s.cursor)
	}
	same(t, again.Lines(), s.Lines())
}

// harmless reads what Paint gives with a grammar of its own.
func harmless(t testing.TB, painted string) {
	t.Helper()
	for rest := painted; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			t.Fatalf("not UTF-8: %q", painted)
		case r == 0x1b:
			end := strings.IndexFunc(rest[1:], func(r rune) bool { return !strings.ContainsRune("[0123456789;", r) })
			if end < 1 || rest[1] != '[' || strings.Contains(rest[2:1+end], "[") || rest[1+end] != 'H' && rest[1+end] != 'm' {
				t.Fatalf("a sequence that is not allowed: %q", rest[:min(len(rest), 20)])
			}
			n = end + 2
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029':
			t.Fatalf("%U in %q", r, painted)
		}
		rest = rest[n:]
	}
}

// told collects what is told.
func told(s *Screen) *[]string {
	lines := &[]string{}
	s.Told = func(line string) { *lines = append(*lines, line) }
	return lines
}

func shown(s *Screen, all bool) (lines []string) {
	s.Shown(all, func(line string, _ int) { lines = append(lines, line) })
	return lines
}

// TestTold: each line that was on the screen is told once, however it went.
func TestTold(t *testing.T) {
	var many []string
	var text strings.Builder
	for i := range 100 {
		many = append(many, fmt.Sprintf("line %d", i))
		text.WriteString(many[i] + "\r\n")
	}
	long := strings.Repeat("0123456789", 30)
	for _, test := range []struct {
		name, in string
		want     []string
	}{
		{"scrolled", text.String(), many},
		{"wrapped", long + "\r\nb\r\n", []string{long, "b"}},
		{"wrapped and scrolled", long + text.String(), append([]string{long + "line 0"}, many[1:]...)},
		{"erased", "a\r\nb\r\n\x1b[2Jc", []string{"a", "b", "c"}},
		{"erased below", "a\r\nb\r\n\x1b[H\x1b[Jc", []string{"a", "b", "c"}},
		{"reset", "a\x1bcb", []string{"a", "b"}},
		{"another screen", "a\r\n\x1b[?1049hdrawn\x1b[?1049lb", []string{"a", "drawn", "b"}},
		{"pushed out", "a\r\nb\x1b[H\x1b[20Lc", []string{"a", "b", "c"}},
		{"taken out", "a\r\nb\x1b[H\x1b[Mc", []string{"a", "c"}},
		{"within margins", "top\x1b[2;4r\x1b[4;1H1\n\r2\n\r3\n\r4\n\r5", []string{"1", "2", "top", "3", "4", "5"}},
		{"invisible", "a\x1b[8mb\u202ec\u200bd\x1b[28m", []string{"abcd"}},
		{"too long", strings.Repeat("ä", 3000) + "\r\n" + text.String(), append([]string{strings.Repeat("ä", 2048), strings.Repeat("ä", 952)}, many...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := New(40, 10)
			lines := told(s)
			_, _ = s.Write([]byte(test.in))
			if got := append(*lines, shown(s, true)...); !slices.Equal(got, test.want) {
				t.Errorf("told %q, want %q", got, test.want)
			}
			if again := shown(s, true); len(again) > 0 {
				t.Errorf("told again: %q", again)
			}
		})
	}
	t.Run("smaller", func(t *testing.T) {
		s := New(40, 10)
		lines := told(s)
		_, _ = s.Write([]byte("a\r\nb\r\nc\r\nd"))
		s.Resize(40, 2)
		same(t, s.Lines(), []string{"c", "d"})
		if got := append(*lines, shown(s, true)...); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
			t.Errorf("told %q", got)
		}
	})
	t.Run("the line of the cursor", func(t *testing.T) {
		s := New(40, 10)
		_, _ = s.Write([]byte("a\r\n$ half"))
		if got := shown(s, false); !slices.Equal(got, []string{"a"}) {
			t.Errorf("told %q", got)
		}
		if got := shown(s, true); !slices.Equal(got, []string{"$ half"}) {
			t.Errorf("told %q", got)
		}
	})
	t.Run("a clock", func(t *testing.T) {
		s := New(40, 10)
		for i := range 3 {
			_, _ = fmt.Fprintf(s, "\rat 12:00:%02d", i)
			s.Shown(true, func(_ string, again int) {
				if again != i {
					t.Errorf("shown %d times before, want %d", again, i)
				}
			})
		}
	})
}

func TestHeard(t *testing.T) {
	s := New(40, 10)
	var got []rune
	s.Heard = func(r rune) { got = append(got, r) }
	_, _ = s.Write([]byte("a\x1b[1mb\x1b]0;no\x07\r\nä"))
	if string(got) != "ab\r\nä" {
		t.Errorf("heard %q", string(got))
	}
}

func TestRan(t *testing.T) {
	long := "echo " + strings.Repeat("0123456789", 9)
	s := New(40, 5)
	var got []string
	s.Ran = func(lines string) { got = append(got, strings.TrimRight(lines, "\n")) }
	prompt, ran := "\x1b]133;A\x07$ \x1b]133;B\x07", "\r\n\x1b]133;C;k=v\x1b\\"
	_, _ = s.Write([]byte(prompt + "ls -l" + ran + "1\r\n2\r\n3\r\n" + prompt + long + ran + "\x1b]133;D;0\x07" + // at the lower end
		ran + prompt + "for i\r\n> do" + ran + // none, one of two lines
		prompt + strings.Repeat("x\r\n", 9) + "y" + ran + // one that has left
		"\x1b]133;C" + "\x1b]1337;C\x07\x1bP133;C\x07\x1b[?1049h" + prompt + "a" + ran + "\x1b[?1049l"))
	want := []string{"ls -l", long, "for i\n> do", "x\nx\nx\ny"}
	if !slices.Equal(got, want) {
		t.Errorf("ran %q, want %q", got, want)
	}
}

// bombs are small inputs that could cost much.
var bombs = map[string]string{
	"repeat":      "x\x1b[9999999999999999999b",
	"lines":       "\n\n\n\n\n\n\n\n",
	"scroll":      "\x1b[99999S\x1b[99999T",
	"insert":      "x\x1b[99999@\x1b[99999P\x1b[99999L\x1b[99999M",
	"erase":       "\x1b[44m\x1b[2J\x1b[1J\x1b[J\x1b[K",
	"tabs":        "\x1b[3g\t\t\x1b[99999I\x1b[99999Z",
	"parameters":  "\x1b[" + strings.Repeat("1;", 2000) + "m",
	"digits":      "\x1b[" + strings.Repeat("9", 4000) + "C",
	"screens":     "\x1b[?1049h\x1b[?1049l\x1bc",
	"replies":     "\x1b[c\x1b[>c\x1b[6n\x1b[5n\x1b[?2048h\x1b]10;?\x07\x1bZ",
	"strings":     "\x1bP\x1bP\x1b]\x1b_\x1bX",
	"combined":    "e\u0301\u0302\u0303\u0304\u0305\u0306",
	"marks":       "\x1b]133;B\x07x\x1b]133;C\x07",
	"full screen": strings.Repeat("x", MaxColumns) + "\x1b[H\x1b[L",
}

// TestBombs: no input costs much more than it is long, on the largest terminal.
func TestBombs(t *testing.T) {
	for name, bomb := range bombs {
		t.Run(name, func(t *testing.T) {
			s := New(1<<20, 1<<20)
			s.Told = func(string) {}
			b := []byte(strings.Repeat(bomb, (1<<17)/len(bomb)+1))
			began := cpu(t)
			_, _ = s.Write(b)
			took := cpu(t) - began
			t.Logf("%d bytes in %v", len(b), took)
			if took > time.Duration(len(b))*50*time.Microsecond {
				t.Errorf("%d bytes took %v", len(b), took)
			}
			repaint(t, s)
		})
	}
}

func TestMany(t *testing.T) {
	// More different characters of several runes than are kept.
	s := New(80, 24)
	for r := rune(0x4e00); r < 0x4e00+maxClusters+100; r++ {
		_, _ = s.Write([]byte(string(r) + "\u0301"))
	}
	if len(s.clusters) != maxClusters {
		t.Errorf("%d are kept", len(s.clusters))
	}
	// Colours for each cell are left out when they are too much.
	s = New(500, 200)
	for i := range 100_000 {
		_, _ = fmt.Fprintf(s, "\x1b[38;2;%d;%d;255;48;2;200;%d;%dmx", 100+i%100, 100+i/1000, 100+i%100, 100+i/1000)
	}
	if n := len(s.Paint()); n > maxPaint || n < 100_000 {
		t.Errorf("painted with %d bytes", n)
	}
}

func FuzzScreen(f *testing.F) {
	for _, bomb := range bombs {
		f.Add([]byte(bomb), uint16(80), uint16(24))
	}
	for _, b := range programs(f) {
		f.Add(b[:min(len(b), 2000)], uint16(40), uint16(10))
	}
	f.Fuzz(func(t *testing.T, in []byte, columns, rows uint16) {
		s := New(int(columns), int(rows))
		count := 0
		s.Told = func(line string) {
			harmless(t, line)
			count += len(line)
		}
		s.Ran = func(lines string) {
			for line := range strings.SplitSeq(lines, "\n") {
				harmless(t, line)
			}
		}
		began := cpu(t)
		_, _ = s.Write(in[:len(in)/2])
		s.check(t)
		s.Resize(int(rows), int(columns))
		_, _ = s.Write(in[len(in)/2:])
		if took := cpu(t) - began; took > 2*time.Second+time.Duration(len(in))*50*time.Microsecond {
			t.Fatalf("%d bytes took %v", len(in), took)
		}
		s.check(t)
		repaint(t, s)
		for _, line := range append(s.Lines(), shown(s, true)...) {
			harmless(t, line)
		}
		if most := (len(in) + 1) * 2 * MaxColumns * 12; count > most {
			t.Fatalf("%d bytes told of %d", count, len(in))
		}
	})
}

// check looks at what must always hold.
func (s *Screen) check(t testing.TB) {
	t.Helper()
	for i := range s.pages {
		p := &s.pages[i]
		if p.cursor.row < 0 || p.cursor.row >= len(p.rows) || p.cursor.column < 0 || p.cursor.column >= s.columns {
			t.Fatalf("the cursor is at %d,%d of %dx%d", p.cursor.column, p.cursor.row, s.columns, len(p.rows))
		}
		for _, r := range p.rows {
			if len(r.cells) > s.columns {
				t.Fatalf("a row of %d cells", len(r.cells))
			}
			for j, c := range r.cells {
				first, _ := utf8.DecodeRuneInString(s.text(c.r))
				wide := c.r != filler && cells(first) == 2
				if next := j+1 < len(r.cells) && r.cells[j+1].r == filler; wide != next || c.r == filler && j == 0 {
					t.Fatalf("half a character at %d of %+v", j, r.cells)
				}
			}
		}
	}
	if s.top < 0 || s.top >= s.bottom || s.bottom > len(s.rows) {
		t.Fatalf("margins %d to %d of %d", s.top, s.bottom, len(s.rows))
	}
}
