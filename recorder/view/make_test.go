package view

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/recorder/screen"
)

// record makes a sealed recording.
func record(t testing.TB, h cast.Header, events ...cast.Event) []byte {
	t.Helper()
	secret, _, err := note.GenerateKey(rand.Reader, "test")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	h.ID, h.Started = "SES-1", time.Date(2026, 3, 2, 10, 42, 8, 0, time.UTC)
	var b bytes.Buffer
	w, err := cast.NewWriter(&b, h, signer)
	if err != nil {
		t.Fatal(err)
	}
	var at time.Duration
	for _, e := range events {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
		at = e.At
	}
	if _, err := w.Seal(cast.End{At: at}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var shell = cast.Header{Kind: "shell", Terminal: "xterm", Width: 80, Height: 24}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// out and in are events of output and input, n ms after the start.
func out(n int, text string) cast.Event {
	return cast.Event{At: ms(n), Stream: cast.Output, Data: []byte(text)}
}

func in(n int, text string) cast.Event {
	return cast.Event{At: ms(n), Stream: cast.Input, Data: []byte(text)}
}

// echoed are keys, a tenth of a second apart, each with its echo.
func echoed(n int, keys string) (events []cast.Event) {
	for i, r := range keys {
		events = append(events, in(n+100*i, string(r)), out(n+100*i+5, string(r)))
	}
	return events
}

// A view is a whole one, read.
type made struct {
	segments []Segment
	texts    []Text
	end      End
}

func (m made) in(s Source) (lines []string) {
	for _, t := range m.texts {
		if t.In == s {
			lines = append(lines, t.Text)
		}
	}
	return lines
}

// makeView makes a view, and checks what every view is.
func makeView(t testing.TB, recording []byte) (m made) {
	t.Helper()
	err := Make(t.Context(), bytes.NewReader(recording), func(i Item) error { return m.add(i) })
	if err != nil {
		t.Fatal(err)
	}
	if m.end.Version != Version || len(m.segments) == 0 {
		t.Fatalf("%d segments, end %+v", len(m.segments), m.end)
	}
	m.check(t, recording)
	return m
}

func (m *made) add(i Item) error {
	if m.end.Version != 0 {
		return errors.New("something follows the end")
	}
	switch {
	case i.Segment != nil:
		m.segments = append(m.segments, *i.Segment)
	case i.Text != nil:
		m.texts = append(m.texts, *i.Text)
	case i.End != nil:
		m.end = *i.End
	}
	return i.Check()
}

// check wants text to be plain, screens to be harmless, and each segment to begin
// where an event does.
func (m *made) check(t testing.TB, recording []byte) {
	t.Helper()
	var last Segment
	for i, s := range m.segments {
		harmless(t, s.Screen)
		for _, line := range s.Lines {
			if !Plain(line) {
				t.Fatalf("a line of a screen is %q", line)
			}
		}
		if s.At < last.At || s.Offset < last.Offset || s.Saved[0] < last.Saved[0] || s.Saved[1] < s.Saved[0] {
			t.Fatalf("segment %d is %+v after %+v", i, s, last)
		}
		if line, _, _ := bytes.Cut(recording[min(s.Offset, int64(len(recording))):], []byte("\n")); i > 0 &&
			(recording[s.Offset-1] != '\n' || !bytes.HasPrefix(line, []byte("[")) && !bytes.HasPrefix(line, []byte("# drawbolt event"))) {
			t.Fatalf("segment %d begins with %.80q", i, line)
		}
		last = s
	}
	for i, x := range m.texts {
		if i > 0 && x.At < m.texts[i-1].At || x.At > m.end.Duration {
			t.Fatalf("text %d is %+v, after %+v, of %v", i, x, m.texts[max(i-1, 0)], m.end.Duration)
		}
	}
	if !Plain(m.end.Cut) {
		t.Fatalf("the end is %q", m.end.Cut)
	}
}

// harmless reads a painted screen with a grammar of its own.
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
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			t.Fatalf("%U in %q", r, painted)
		}
		rest = rest[n:]
	}
}

func wants(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestSegments: whoever plays a segment on its screen ends at the next one's.
func TestSegments(t *testing.T) {
	var events []cast.Event
	for i := range 600 {
		events = append(events, out(i*150, fmt.Sprintf("\x1b[3%dmline %d \x1b[1;5H\x1b[7mtitle %d\x1b[m\x1b[%d;1H\n", i%8, i, i, 5+i%20)))
		if i == 300 {
			events = append(events, cast.Event{At: ms(i * 150), Stream: cast.Resize, Data: []byte("100x30")})
			events = append(events, cast.Event{At: ms(i*150 + 1), Stream: cast.Stderr, Data: []byte("binary \xff\xfe")})
		}
	}
	events = append(events, out(600*150+300_000, "after a pause"))
	b := record(t, shell, events...)
	m := makeView(t, b)
	if n := len(m.segments); n < 8 || n > 12 {
		t.Errorf("%d segments of 90 seconds", n)
	}
	for i, s := range m.segments {
		model := screen.New(s.Cols, s.Rows)
		_, _ = model.Write([]byte(s.Screen))
		if i+1 == len(m.segments) {
			break
		}
		next := m.segments[i+1]
		r, err := cast.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for {
			e, err := r.Next()
			from, _ := r.Offsets()
			if err != nil || from >= next.Offset {
				break
			}
			if from < s.Offset {
				continue
			}
			switch e.Stream {
			case cast.Output, cast.Stderr:
				_, _ = model.Write(e.Data)
			case cast.Resize:
				model.Resize(100, 30)
			}
		}
		if got := model.Paint(); got != next.Screen {
			t.Errorf("segment %d ends with\n%q\nand the next begins with\n%q", i, got, next.Screen)
		}
	}
	if last := m.segments[len(m.segments)-1]; last.Cols != 100 || last.Rows != 30 {
		t.Errorf("the size of the last is %dx%d", last.Cols, last.Rows)
	}
	if m.end.Duration != ms(600*150+300_000) || len(m.end.Idle) != 1 || m.end.Idle[0][1] != m.end.Duration || m.end.Cut != "" {
		t.Errorf("the end is %+v", m.end)
	}
	if n := len(m.end.Output); n != 240 || m.end.Output[239] != 13 || m.end.Output[0] == 0 || m.end.Output[200] != 0 {
		t.Errorf("%d spans of output: %v", n, m.end.Output)
	}

	// Many bytes at once make segments too, and a pause is saved.
	events = []cast.Event{out(5000, "a")}
	for range 20 {
		events = append(events, out(8000, strings.Repeat("x", 60<<10)))
	}
	if m = makeView(t, record(t, shell, events...)); len(m.segments) != 4 {
		t.Errorf("%d segments of 1.2 MB", len(m.segments))
	}
	if got := m.segments[3].Saved; got != [2]time.Duration{4 * time.Second, 7 * time.Second} {
		t.Errorf("saved %v", got)
	}
}

func TestOutput(t *testing.T) {
	var events []cast.Event
	var listed []string
	for i := range 500 { // quickly, twice
		for n := range 2 {
			events = append(events, out(100+n*2000+i/10, fmt.Sprintf("\x1b[32mfile-%d\x1b[m  here\r\n", i)))
		}
		listed = append(listed, fmt.Sprintf("file-%d  here", i))
	}
	slices.SortStableFunc(events, func(a, b cast.Event) int { return int(a.At - b.At) })
	m := makeView(t, record(t, shell, events...))
	wants(t, "lines that scroll", m.in(Output), listed...)

	// A clock on the screen is told some times, not for hours.
	events = nil
	for i := range 3600 {
		events = append(events, out(i*1000, fmt.Sprintf("\x1b[H%02d:%02d load %d\x1b[5;1H$ ", i/60, i%60, i)))
	}
	m = makeView(t, record(t, shell, events...))
	if n := len(m.in(Output)); n < 5 || n > 30 {
		t.Errorf("a clock is told %d times", n)
	}

	// Without a terminal, lines are as long as they are.
	long := strings.Repeat("0123456789", 50)
	m = makeView(t, record(t, cast.Header{Kind: "exec", Command: "cat a\nb", Width: 0},
		out(10, long+"\nsecond\n"), out(20, "thi"), out(30, "rd\n\x1b]0;title\x07\x1b[31mred\x1b[m\n"),
		cast.Event{At: ms(40), Stream: cast.Stderr, Data: []byte("bad \xff\n")},
		out(50, strings.Repeat("\x00\x01\x02\xff", 1000)), in(60, "typed\r")))
	wants(t, "an exec's output", m.in(Output), long, "second", "third", "red", "bad \ufffd")
	wants(t, "an exec's command", m.in(Command), "cat a", "b")
	wants(t, "an exec's keys", m.in(Keys))
}

func TestKeys(t *testing.T) {
	var events []cast.Event
	add := func(more ...cast.Event) { events = append(events, more...) }
	add(out(10, "$ "))
	add(echoed(100, "echo onf")...)
	add(in(2000, "\x7f"), out(2005, "\b \b"))
	add(echoed(2100, "e")...)
	add(in(2300, "\r"), out(2305, "\r\none\r\n$ "))
	add(echoed(3000, "sudo -i")...)
	add(in(4000, "\r"), out(4005, "\r\n[sudo] password for root: "))
	for i, r := range "root" { // what stands in the prompt
		add(in(5000+i*100, string(r)))
	}
	add(in(6000, "\r"), out(6005, "\r\nroot@db01:~# "))
	add(in(7000, "hunter2\r"), out(7100, "\r\nhunter2 is not said\r\n# ")) // at once
	add(in(8000, "echo pasted\r"), out(8005, "echo pasted\r\npasted\r\n# "))
	add(in(9000, "secret"), out(9100, "******"), in(9200, "\r"), out(9300, "\r\n# "))
	add(in(9400, "\x1b[A"), out(9500, "echo pasted"), in(9600, "\r"), out(9700, "\r\npasted\r\n# "))
	add(echoed(10_000, "größe")...)
	add(in(11_000, "\r"), out(11_005, "\r\n# "))
	add(echoed(12_000, "rm nothing")...)
	add(in(14_000, "\x15"), out(14_005, "\r# \x1b[K"))
	add(echoed(15_000, "ls")...)
	add(in(16_000, "\r"), out(16_005, "\r\n"))
	add(cast.Event{At: ms(17_000), Stream: cast.Hidden, Data: []byte("4 keys hidden, echo off")})
	var typed int64
	for _, e := range events {
		if e.Stream == cast.Input {
			typed += int64(len(e.Data))
		}
	}
	m := makeView(t, record(t, shell, events...))
	wants(t, "keys", m.in(Keys), "echo one", "sudo -i", "echo pasted", "größe", "ls")
	wants(t, "marks", m.in(Mark), "4 keys hidden, echo off")
	wants(t, "commands", m.in(Command), "echo one", "sudo -i", "echo pasted", "echo pasted", "größe", "ls")
	for _, x := range m.texts {
		if strings.Contains(x.Text, "hunter2") && x.In != Output || strings.Contains(x.Text, "secret") {
			t.Errorf("%s tells %q", x.In, x.Text)
		}
		if x.Text == "ls" && x.In == Keys && x.At != ms(15_000) {
			t.Errorf("it was typed at %v", x.At)
		}
	}
	if sum := func(l []int64) (n int64) {
		for _, c := range l {
			n += c
		}
		return n
	}; sum(m.end.Input) != typed {
		t.Errorf("%d bytes of input, want %d: %v", sum(m.end.Input), typed, m.end.Input)
	}
}

// TestMarkedCommands: a shell that marks its command lines is believed when somebody
// typed, and each is told once.
func TestMarkedCommands(t *testing.T) {
	prompt := "\x1b]133;A\x07$ \x1b]133;B\x07"
	events := []cast.Event{out(10, prompt)}
	events = append(events, echoed(100, "ls")...)
	events = append(events, in(500, "\r"), out(510, "\r\n\x1b]133;C\x07file\r\n"+prompt),
		in(600, "\t"), out(610, "make all"), in(700, "\r"), out(710, "\r\n\x1b]133;C\x07"+ // completed
			prompt+"rm -rf /\r\n\x1b]133;C\x07"+prompt)) // nobody typed
	m := makeView(t, record(t, shell, events...))
	wants(t, "commands", m.in(Command), "ls", "make all")
}

func TestFilesAndMarks(t *testing.T) {
	file := func(n int, f cast.FileEvent) cast.Event {
		data, err := f.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		return cast.Event{At: ms(n), Stream: cast.File, Data: data}
	}
	m := makeView(t, record(t, cast.Header{Kind: "exec"},
		file(1, cast.FileEvent{What: "open", Number: 1, Direction: "upload", Path: "/etc/hosts"}),
		file(2, cast.FileEvent{What: "part", Number: 1, Size: 60}),
		file(3, cast.FileEvent{What: "close", Number: 1, Direction: "upload", Path: "/etc/hosts", Size: 123, SHA256: "abcd", Result: "ok"}),
		file(4, cast.FileEvent{What: "rename", Path: "/a\x1b[2J", To: "/b\nc\xff", Result: "ok"}),
		file(5, cast.FileEvent{What: "refuse open", Direction: "download", Path: "/etc/shadow", Result: "refused", Why: "the role does not allow it"}),
		file(6, cast.FileEvent{What: "list", Path: "/etc"}),
		cast.Event{At: ms(7), Stream: cast.Mark, Data: []byte("pasted\u202e \x07")},
	))
	wants(t, "files", m.in(File), "upload /etc/hosts ok 123 bytes sha256 abcd", "rename /a [2J to /b", `c`+"\ufffd"+" ok", "refuse open download /etc/shadow refused (the role does not allow it)")
	wants(t, "marks", m.in(Mark), "pasted")
}

// TestDamaged: there is a view up to the damage, wherever that is.
func TestDamaged(t *testing.T) {
	var events []cast.Event
	for i := range 300 {
		events = append(events, out(i*100, fmt.Sprintf("line %d\r\n", i)))
	}
	b := record(t, shell, events...)
	for n := 0; n < len(b); n += 1 + len(b)/200 {
		m := made{}
		err := Make(t.Context(), bytes.NewReader(b[:n]), m.add)
		if err != nil || m.end.Cut == "" || len(m.segments) == 0 {
			t.Fatalf("cut at %d: %v, %d segments, %+v", n, err, len(m.segments), m.end)
		}
		bad := bytes.Clone(b)
		bad[n] ^= 4
		m = made{}
		if err = Make(t.Context(), bytes.NewReader(bad), m.add); errors.Is(err, cast.ErrNotSealed) {
			continue // the line that says that it is ours
		}
		if whole := bytes.LastIndex(b, []byte("# drawbolt seal")); err != nil || m.end.Cut == "" && n < whole || len(m.segments) == 0 {
			t.Fatalf("changed at %d: %v, %d segments, %+v", n, err, len(m.segments), m.end)
		}
		m.check(t, bad)
	}
	m := made{}
	if err := Make(t.Context(), bytes.NewReader(b[:len(b)/2]), m.add); err != nil || !slices.Contains(m.in(Output), "line 100") {
		t.Errorf("%v, %d texts", err, len(m.texts))
	}
	stop := errors.New("enough")
	if err := Make(t.Context(), bytes.NewReader(b), func(Item) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if err := Make(t.Context(), io.MultiReader(bytes.NewReader(b[:3000]), failing{}), func(Item) error { return nil }); !errors.Is(err, errRead) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if err := Make(ctx, bytes.NewReader(b), func(Item) error { return nil }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

var errRead = errors.New("cannot be read")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errRead }

// TestBounds: text beyond its bound is left out, and that is said.
func TestBounds(t *testing.T) {
	const most = 100_000
	events := []cast.Event{out(0, "$ ")}
	for i := range 300 {
		events = append(events, out(i*2000, fmt.Sprintf("%08d %s\r\n", i, strings.Repeat("x", 1000))))
		events = append(events, cast.Event{At: ms(i * 2000), Stream: cast.Mark, Data: []byte(strings.Repeat("m", 1000))})
	}
	b := record(t, shell, events...)
	var got made
	m := newMaker(got.add)
	m.budgets = [3]int{most, most, 2 * most}
	if err := m.read(t.Context(), bytes.NewReader(b), true); err != nil {
		t.Fatal(err)
	}
	got.check(t, b)
	for in, most := range map[Source]int{Output: most, Mark: 2 * most} {
		total := 0
		for _, line := range got.in(in) {
			total += len(line)
		}
		if total > most || total < most-2000 {
			t.Errorf("%d bytes of %s", total, in)
		}
	}
	if want := "not all text that was shown could be kept: it is too much from 3m"; !strings.Contains(got.end.Cut, want) || !strings.Contains(got.end.Cut, "not all that was typed and run could be kept") {
		t.Errorf("the end says %q", got.end.Cut)
	}
}

func TestLast(t *testing.T) {
	b := record(t, shell, out(10, "one\r\n"), out(2000, "\x1b[31mtwo"), cast.Event{At: ms(3000), Stream: cast.Resize, Data: []byte("20x5")})
	whole, err := Last(t.Context(), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	// The recording of a session that still runs has no seal.
	i := bytes.Index(b, []byte("# drawbolt chain"))
	running, err := Last(t.Context(), bytes.NewReader(b[:i]))
	if err != nil || running.Screen != whole.Screen || running.At != ms(3000) || running.Cols != 20 || running.Rows != 5 || running.Offset != int64(i) {
		t.Errorf("%+v, %v", running, err)
	}
	wants(t, "the screen", running.Lines, "one", "two")
	if running.Screen != "\x1b[1;1Hone\x1b[2;1H\x1b[0;31mtwo\x1b[2;4H" {
		t.Errorf("painted %q", running.Screen)
	}
	b[i-20] ^= 1
	if _, err := Last(t.Context(), bytes.NewReader(b)); !errors.Is(err, cast.ErrAltered) {
		t.Errorf("altered: %v", err)
	}
}

// FuzzMake: whatever is recorded, and whatever becomes of the recording, a view
// holds only what it may.
func FuzzMake(f *testing.F) {
	f.Add([]byte("\x1b[2J\x1b]0;t\x07\x1b[c\x1b[99999b"), []byte("ls\r\x1b[A\x7f"), "exec \x1b[c", true, 100)
	f.Add([]byte("$ \xff\xfe\u202e\u0301\x9b2J\r\n"), []byte("\x1b[200~a\rb\x1b[201~"), "", false, 300)
	f.Fuzz(func(t *testing.T, shown, typed []byte, command string, terminal bool, damage int) {
		h := cast.Header{Kind: "shell", Command: command[:min(len(command), 1000)], Width: 10 + len(shown)%100, Height: 1 + len(typed)%30}
		if terminal {
			h.Terminal = "xterm"
		}
		third := len(shown) / 3
		b := record(t, h,
			cast.Event{At: ms(10), Stream: cast.Output, Data: shown[:third]},
			cast.Event{At: ms(20), Stream: cast.Input, Data: typed},
			cast.Event{At: ms(500), Stream: cast.Output, Data: typed},
			cast.Event{At: ms(60_000), Stream: cast.Stderr, Data: shown[third:]},
			cast.Event{At: ms(60_001), Stream: cast.Resize, Data: shown[:min(third, 20)]},
			cast.Event{At: ms(60_002), Stream: cast.Mark, Data: typed},
			cast.Event{At: ms(60_003), Stream: cast.File, Data: typed},
			cast.Event{At: ms(90_000), Stream: cast.Output, Data: shown},
		)
		makeView(t, b)
		if damage > 0 && damage < len(b) {
			b[damage] ^= 0x15
			m := made{}
			if err := Make(t.Context(), bytes.NewReader(b), m.add); err == nil {
				m.check(t, b)
			}
		}
	})
}
