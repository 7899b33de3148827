package cast

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func filter(t testing.TB, chunks ...[]byte) string {
	t.Helper()
	var b bytes.Buffer
	f := NewFilter(&b)
	for _, c := range chunks {
		if n, err := f.Write(c); n != len(c) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, ok := strings.CutSuffix(b.String(), "\x1b[0m")
	if !ok {
		t.Fatalf("styles are not set back: %q", b.String())
	}
	return out
}

// attacks are what a recorded program might send, and what may be left of it.
var attacks = []struct{ name, in, want string }{
	{"text", "hello wörld €\r\n\t\b", "hello wörld €\r\n\t\b"},
	{"colours", "\x1b[1;38;5;208mx\x1b[38;2;1;2;8mx\x1b[4:3mx\x1b[m", "\x1b[1;38;5;208mx\x1b[38;2;1;2;8mx\x1b[4:3mx\x1b[m"},
	{"cursor and erase", "\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[3A\x1b7\x1b8\x1bM\x1b[s\x1b[u", "\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[3A\x1b7\x1b8\x1bM\x1b[s\x1b[u"},
	{"colour number 8", "\x1b[38;5;8mx", "\x1b[38;5;8mx"},
	{"concealed text", "a\x1b[8mb\x1b[1;08mc\x1b[38;5;1;8md\x1b[38;5me", "abcde"},
	{"title", "a\x1b]0;rm -rf /\ab\x1b]2;x\x1b\\c", "abc"},
	{"title query", "a\x1b[21tb", "ab"},
	{"clipboard", "a\x1b]52;c;cm0gLXJmIC8K\ab", "ab"},
	{"hyperlink", "\x1b]8;;file:///etc/passwd\x1b\\x\x1b]8;;\x1b\\", "x"},
	{"device attributes", "a\x1b[c\x1b[0c\x1b[>c\x1b[=c\x1bZb", "ab"},
	{"position query", "a\x1b[6n\x1b[5n\x1b[?6nb", "ab"},
	{"DECRQSS", "a\x1bP$q\"p\x1b\\b", "ab"},
	{"XTGETTCAP", "a\x1bP+q544e\x1b\\b", "ab"},
	{"APC, PM, SOS", "a\x1b_Gf=100;AAAA\x1b\\b\x1b^x\x1b\\c\x1bXx\x1b\\d", "abcd"},
	{"alternate screen", "a\x1b[?1049hb\x1b[?1049lc", "abc"},
	{"mouse and paste", "a\x1b[?1000h\x1b[?2004hb", "ab"},
	{"insert mode", "a\x1b[4hb", "ab"},
	{"keyboard protocols", "a\x1b[>1u\x1b[?u\x1b[=1;1u\x1b[>4;2mb", "ab"},
	{"reset", "a\x1bcb\x1b[!pc", "abc"},
	{"repeat", "a\x1b[9999999bb\x1b[5bc", "abc"},
	{"huge number", "a\x1b[99999Cb", "ab"},
	{"character set", "a\x1b(0q\x1b)Bb\x0e\x0fc", "aqbc"},
	{"DECALN", "a\x1b#8b", "ab"},
	{"UTF-8 off", "a\x1b%@b", "ab"},
	{"scroll region", "a\x1b[1;5rb", "ab"},
	{"media copy", "a\x1b[5ib\x1b[4ic", "abc"},
	{"other controls", "a\x00\x05\x07\x0b\x0c\x7fb", "ab"},
	{"C1 in UTF-8", "a\u009b6n\u0090x\u009c", "a\ufffd6n\ufffdx\ufffd"},
	{"C1 as bytes", "a\x9b6n\x9dx\x9c", "a\ufffd6n\ufffdx\ufffd"},
	{"bidi", "a\u202egnp.exe\u2066b\u200bc\ufeff", "a\ufffdgnp.exe\ufffdb\ufffdc\ufffd"},
	{"tag characters", "a\U000e0041b", "a\ufffdb"},
	{"separators", "a\u2028b\u2029c", "a\ufffdb\ufffdc"},
	{"emoji", "👩\u200d💻", "👩\u200d💻"},
	{"bad UTF-8", "a\xffb\xe2\x82c\xed\xa0\x80", "a\ufffdb\ufffd\ufffdc\ufffd\ufffd\ufffd"},
	{"ESC in a character", "a\xe2\x1b[6nb", "a\ufffdb"},
	{"sequence in a sequence", "a\x1b[6\x1b[1mb", "a\x1b[1mb"},
	{"sequence in a title", "a\x1b]0;x\x1b[1mb", "a\x1b[1mb"},
	{"cancelled", "a\x1b[6\x18nb\x1b]0;x\x1ac", "anbc"},
	{"control in a sequence", "a\x1b[1\nmb", "a\n\x1b[1mb"},
	{"query in a sequence", "a\x1b[1\x05mb", "a\x1b[1mb"},
	{"long parameters", "a\x1b[" + strings.Repeat("1;", 500) + "mb", "ab"},
	{"intermediate", "a\x1b[1 qb", "ab"},
	{"private mark inside", "a\x1b[1?mb", "ab"},
	{"cut sequence", "a\x1b[1;", "a"},
	{"cut character", "a\xe2\x82", "a\ufffd\ufffd"},
	{"endless title", "a\x1b]0;" + strings.Repeat("x", maxString) + "b", "axxb"},
}

// TestPictureFilter: what a player's terminal gets in addition, and no more.
func TestPictureFilter(t *testing.T) {
	picture := func(in string) string {
		var b bytes.Buffer
		f := NewPictureFilter(&b)
		f.Write([]byte(in)) // a bytes.Buffer takes all
		f.Close()
		return strings.TrimSuffix(b.String(), "\x1b[0m")
	}
	whole := "\x1b[?1049h\x1b[?25l\x1b[2;23r\x1b[?7l\x1b[?6hx\x1b[79b\x1bH\x1b[3g\x1b[I\x1b[?1049l"
	if got := picture(whole); got != whole {
		t.Errorf("what draws whole screens: %q", got)
	}
	for _, c := range attacks {
		switch c.name {
		case "alternate screen", "scroll region":
			continue
		case "repeat":
			c.want = "ab\x1b[5bc"
		}
		if got := picture(c.in); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	for _, mode := range []string{"1000", "1003", "1004", "2004", "1", "3", "5", "1049;1003"} {
		if got := picture("\x1b[?" + mode + "h\x1b[" + mode + "h"); got != "" {
			t.Errorf("mode %s: %q", mode, got)
		}
	}
}

func TestFilter(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			if got := filter(t, []byte(a.in)); got != a.want {
				t.Errorf("got %q, want %q", got, a.want)
			}
			var bytewise [][]byte
			for i := range len(a.in) {
				bytewise = append(bytewise, []byte{a.in[i]})
			}
			if got := filter(t, bytewise...); got != a.want {
				t.Errorf("byte by byte: got %q, want %q", got, a.want)
			}
		})
	}
}

func TestFilterChunking(t *testing.T) {
	piece := rapid.OneOf(
		rapid.SliceOfN(rapid.Byte(), 0, 20),
		rapid.Custom(func(t *rapid.T) []byte {
			return []byte(attacks[rapid.IntRange(0, len(attacks)-1).Draw(t, "attack")].in)
		}),
	)
	rapid.Check(t, func(rt *rapid.T) {
		whole := bytes.Join(rapid.SliceOfN(piece, 0, 6).Draw(rt, "pieces"), nil)
		var chunks [][]byte
		for rest := whole; len(rest) > 0; {
			n := rapid.IntRange(1, min(len(rest), 40)).Draw(rt, "n")
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		got, want := filter(t, chunks...), filter(t, whole)
		if got != want {
			rt.Fatalf("got %q, want %q", got, want)
		}
		harmless(rt, want)
	})
}

// harmless reads the output of a Filter with a grammar of its own.
func harmless(t interface{ Fatalf(string, ...any) }, out string) {
	for rest := out; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			t.Fatalf("not UTF-8: %q", out)
		case r == 0x1b:
			seq := rest[1:]
			if seq == "" {
				t.Fatalf("ends in ESC: %q", out)
			}
			if strings.IndexByte("78DEM", seq[0]) >= 0 {
				n = 2
				break
			}
			end := strings.IndexFunc(seq[1:], func(r rune) bool { return !strings.ContainsRune("0123456789;:", r) })
			if seq[0] != '[' || end < 0 || strings.IndexByte("ABCDEFGHfdae`JKX@PLMSTsum", seq[1+end]) < 0 {
				t.Fatalf("unexpected sequence: %q in %q", seq[:min(20, len(seq))], out)
			}
			n = 3 + end
		case r < ' ' && !strings.ContainsRune("\r\n\t\b", r), r >= 0x7f && r < 0xa0,
			r != '\u200d' && unicode.Is(unicode.Cf, r):
			t.Fatalf("unexpected character %U in %q", r, out)
		}
		rest = rest[n:]
	}
}

func FuzzFilter(f *testing.F) {
	for _, a := range attacks {
		f.Add([]byte(a.in), 1)
	}
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		want := filter(t, in)
		harmless(t, want)
		if cut > 0 && cut < len(in) {
			if got := filter(t, in[:cut], in[cut:]); got != want {
				t.Fatalf("cut at %d: got %q, want %q", cut, got, want)
			}
		}
		if again := filter(t, []byte(want)); again != want {
			t.Fatalf("filtered twice: got %q, want %q", again, want)
		}
	})
}

// FuzzReader: any bytes are read to an end without a panic, events have limits,
// and what verifies is written again to the same bytes.
func FuzzReader(f *testing.F) {
	signer, known := keys(f)
	f.Add(record(f, testHeader, sessionEnd, session...))
	f.Add(record(f, Header{ID: "a", Started: testHeader.Started}, End{Aborted: true}))
	f.Add([]byte("{\"version\":3,\"term\":{\"cols\":80,\"rows\":24},\"timestamp\":0}\n# drawbolt recording 1 {\"id\":\"a\",\"started\":\"2026-03-02T10:42:08.123456Z\"}\n" +
		"[0.000001, \"o\", \"x\"]\n# drawbolt event e /w==\n[1.0, \"o\", \"\ufffd\"]\n# drawbolt chain 1 sha256=00\n[2.000000, \"x\", \"0\"]\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := NewReader(bytes.NewReader(in))
		if err != nil {
			return
		}
		var events []Event
		var last time.Duration
		for {
			e, err := r.Next()
			var d *DamageError
			if errors.As(err, &d) {
				if d.Offset[0] < 0 || d.Offset[1] > int64(len(in)) || d.Offset[0] > d.Offset[1] || d.Lines[0] > d.Lines[1] {
					t.Fatalf("impossible place: %v", d)
				}
				continue
			}
			if err != nil {
				break
			}
			if e.At < last || len(e.Data) > maxData {
				t.Fatalf("impossible event at %v, %d bytes", e.At, len(e.Data))
			}
			last = e.At
			events = append(events, e)
		}
		report, err := Verify(bytes.NewReader(in), known)
		if err != nil {
			return
		}
		var out bytes.Buffer
		w, err := NewWriter(&out, report.Header, signer)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if err := w.Write(e); err != nil {
				t.Fatal(err)
			}
		}
		s := report.Seal
		if _, err := w.Seal(End{s.Duration, s.Aborted, s.Reason, s.Journal}); err != nil || !bytes.Equal(out.Bytes(), in) {
			t.Fatalf("written again: %v\n%s\nwant\n%s", err, out.Bytes(), in)
		}
	})
}

func FuzzText(f *testing.F) {
	for _, a := range attacks {
		f.Add([]byte(a.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		b := record(t, testHeader, End{}, Event{0, Output, in}, Event{0, Input, in}, Event{0, Stderr, in})
		if err := Text(&out, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		for _, r := range out.String() {
			if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r != '\u200d' && unicode.Is(unicode.Cf, r) {
				t.Fatalf("%U in %q", r, out.String())
			}
		}
	})
}

func TestPlayTiming(t *testing.T) {
	b := record(t, testHeader, End{},
		Event{1 * time.Second, Output, []byte("a")},
		Event{61 * time.Second, Output, []byte("b")},
		Event{63 * time.Second, Output, []byte("c")})
	for _, test := range []struct {
		name string
		o    PlayOptions
		want time.Duration
	}{
		{"as it was", PlayOptions{}, 63 * time.Second},
		{"twice as fast", PlayOptions{Speed: 2}, 31500 * time.Millisecond},
		{"short pauses", PlayOptions{IdleLimit: 2 * time.Second}, 5 * time.Second},
		{"from a moment", PlayOptions{At: 60 * time.Second}, 3 * time.Second},
		{"at once", PlayOptions{Speed: math.Inf(1)}, 0},
		{"nonsense", PlayOptions{Speed: math.NaN()}, 63 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				began := time.Now()
				if err := Play(t.Context(), &out, bytes.NewReader(b), test.o); err != nil {
					t.Fatal(err)
				}
				if got := time.Since(began); got != test.want {
					t.Errorf("took %v, want %v", got, test.want)
				}
				if out.String() != "abc\x1b[0m" {
					t.Errorf("showed %q", out.String())
				}
			})
		})
	}
	t.Run("stopped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			enough := errors.New("enough")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, enough)
			defer cancel()
			var out bytes.Buffer
			if err := Play(ctx, &out, bytes.NewReader(b), PlayOptions{}); !errors.Is(err, enough) || out.String() != "a\x1b[0m" {
				t.Errorf("got %v, %q", err, out.String())
			}
		})
	})
}

func TestPlayDamaged(t *testing.T) {
	b := long(t)
	bad := bytes.Replace(b, []byte("line 1500 of a"), []byte("line 1500 \\"+"u001b"), 1)
	bad = bytes.Replace(bad, []byte(`line 100 of`), []byte("line\x1b]0;x\a"), 1) // not JSON
	var out bytes.Buffer
	err := Play(t.Context(), &out, bytes.NewReader(bad), PlayOptions{Speed: math.Inf(1)})
	if !errors.Is(err, ErrAltered) {
		t.Errorf("got %v", err)
	}
	if n := strings.Count(out.String(), "[recording is altered"); n != 2 {
		t.Errorf("%d places named", n)
	}
	if !strings.Contains(out.String(), "line 2999") || !strings.Contains(out.String(), "line 1400") {
		t.Error("undamaged parts are not shown")
	}
	harmless(t, out.String())
}
