package cast

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"
)

// Keys of these tests alone. Ed25519 signatures have no randomness, so that
// golden files stay as they are.
const (
	testSigner   = "PRIVATE+KEY+gw-1+df8c257a+AQyH9QsUeIPAIhVDiWcgtpi/PCJ0j7GxeRzHnr4VRrEJ"
	testVerifier = "gw-1+df8c257a+Ac+ylWpKSjSVRNJIVBmvYbmD9yPskzmBh+wjIW3rCK1S"
)

var mutations = flag.Int("mutations", 3000, "how many ways to damage a recording")

func keys(t testing.TB) (note.Signer, note.Verifiers) {
	t.Helper()
	s, err := note.NewSigner(testSigner)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(testVerifier)
	if err != nil {
		t.Fatal(err)
	}
	return s, note.VerifierList(v)
}

var testHeader = Header{
	ID: "SES-9f2c", Kind: "exec", Started: time.Date(2026, 3, 2, 10, 42, 8, 123456000, time.UTC),
	Width: 132, Height: 50, Terminal: "xterm-256color", Command: "cat \xff",
	Fields: map[string]string{"user": "alice", "target": "db01", "account": "root"},
}

func record(t testing.TB, h Header, end End, events ...Event) []byte {
	t.Helper()
	signer, _ := keys(t)
	var b bytes.Buffer
	w, err := NewWriter(&b, h, signer)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Seal(end); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t testing.TB, b []byte) (Header, []Event) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	for {
		e, err := r.Next()
		if err == io.EOF {
			return r.Header(), events
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

var session = []Event{
	{ms(10), Output, []byte("\x1b[1mroot@db01\x1b[0m:~# ")},
	{ms(510), Input, []byte("cat caf\xc3")},
	{ms(520), Input, []byte("\xa9\r")},
	{ms(530), Output, []byte("cat caf\xc3")},
	{ms(531), Output, []byte("\xa9\r\n\xe2\x82")},
	{ms(532), Stderr, []byte("cat: bad \xfe\xff name\n")},
	{ms(533), Stderr, []byte("plain\n")},
	{ms(600), Resize, []byte("80x24")},
	{ms(600), Mark, []byte("sent \"a\u202eb\" \\ file")},
	{ms(900), Output, []byte("\xacuro \x00\x9b\x7f\u0085\n")},
	{ms(940), Output, append([]byte("\x7fELF\x02"), append(make([]byte, 256), "\xe2\x82"...)...)},
	{ms(945), Output, []byte("\xac\r\n")},
	{ms(950), Output, []byte("tail \xe2\x82")},
	{ms(999), Exit, []byte("1")},
}

var sessionEnd = End{At: ms(1000), Reason: "closed by \x1b the user", Journal: [32]byte{1, 2, 3}}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func TestGolden(t *testing.T) {
	b := record(t, testHeader, sessionEnd, session...)
	golden(t, "session.cast", b)
	_, known := keys(t)
	report, err := Verify(bytes.NewReader(b), known)
	if err != nil {
		t.Fatal(err)
	}
	if report.Key != "gw-1" || report.Seal.Reason != sessionEnd.Reason || report.Seal.Journal != sessionEnd.Journal ||
		report.Seal.Duration != ms(1000) || report.Header.Command != testHeader.Command {
		t.Errorf("got %+v", report)
	}
	var text bytes.Buffer
	if err := Text(&text, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	golden(t, "session.txt", text.Bytes())
	var shown bytes.Buffer
	if err := Play(t.Context(), &shown, bytes.NewReader(b), PlayOptions{Speed: 1e12, Keys: true}); err != nil {
		t.Fatal(err)
	}
	golden(t, "session.play", shown.Bytes())
}

// TestRoundTrip: whatever is written, in whatever pieces, is read back byte by
// byte, in order, at a time that is right but for cut characters.
func TestRoundTrip(t *testing.T) {
	_, known := keys(t)
	chunk := rapid.OneOf(
		rapid.SliceOfN(rapid.Byte(), 0, 40),
		rapid.Custom(func(t *rapid.T) []byte { return []byte(rapid.String().Draw(t, "text")) }),
		rapid.SampledFrom([][]byte{{0xe2}, {0x82}, {0xac}, {0xf0, 0x9f}, {0x98, 0x80}, {0xff}, {0xed, 0xa0, 0x80}, []byte("\u2028\u202e\x1b]0;x\a")}),
		rapid.Custom(func(t *rapid.T) []byte {
			return bytes.Repeat(rapid.SampledFrom([][]byte{{0}, {0xff}, []byte("€"), []byte("a")}).Draw(t, "unit"),
				rapid.IntRange(0, 70<<10).Draw(t, "times"))
		}),
	)
	rapid.Check(t, func(rt *rapid.T) {
		want := map[Stream]string{}
		var events []Event
		var at time.Duration
		var order []time.Duration
		for range rapid.IntRange(0, 30).Draw(rt, "events") {
			at += time.Duration(rapid.IntRange(0, 5e6).Draw(rt, "pause")) * time.Microsecond
			e := Event{at, Stream(rapid.IntRange(1, 7).Draw(rt, "stream")), chunk.Draw(rt, "data")}
			if !e.Stream.text() && len(e.Data) > maxData {
				e.Data = e.Data[:maxData]
			}
			want[e.Stream] += string(e.Data)
			events, order = append(events, e), append(order, at)
		}
		b := record(t, testHeader, End{At: at}, events...)
		h, read := read(t, b)
		if h.Command != testHeader.Command || !h.Started.Equal(testHeader.Started) || fmt.Sprint(h.Fields) != fmt.Sprint(testHeader.Fields) {
			rt.Errorf("header: got %+v", h)
		}
		got := map[Stream]string{}
		at = 0
		for _, e := range read {
			got[e.Stream] += string(e.Data)
			if e.At < at {
				rt.Errorf("time runs backwards: %v after %v", e.At, at)
			}
			at = e.At
		}
		for s := Input; s <= File; s++ {
			if got[s] != want[s] {
				rt.Errorf("stream %v: got %.100q, want %.100q", s, got[s], want[s])
			}
		}
		if len(order) > 0 && at > order[len(order)-1] {
			rt.Errorf("last event at %v, after %v", at, order[len(order)-1])
		}
		if _, err := Verify(bytes.NewReader(b), known); err != nil {
			rt.Errorf("Verify: %v", err)
		}
	})
}

// isBinary says in the plainest way what docs/formats/recording.md says.
func isBinary(data []byte) bool {
	n := 0
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 || r < ' ' && !strings.ContainsRune("\a\b\t\n\v\f\r\x0e\x0f\x1b", r) {
			n++
		}
		i += size
	}
	return len(data) >= 256 && n > len(data)/8
}

// TestBinary: bytes about the limit of what is binary come back exactly and in
// order, with characters that are cut anywhere; a stock player is shown nothing
// of what is binary and all of the rest; and binary takes little more than its
// base64.
func TestBinary(t *testing.T) {
	_, known := keys(t)
	unit := rapid.SampledFrom([]string{"\x00", "\x01", "\x1f", "\xff", "\x80", "\xed\xa0\x80", "\x7f", "\x1b", "\n", "\"", "a", "\u0085", "é", "€", "😀", "\ufffd"})
	rapid.Check(t, func(rt *rapid.T) {
		want := map[Stream]string{}
		var events []Event
		for range rapid.IntRange(1, 6).Draw(rt, "events") {
			// Some bytes among plain ones, in about the number that matters.
			data := bytes.Repeat([]byte(rapid.SampledFrom([]string{"a", "ab\x1b[m\r\n", "€", "\x00"}).Draw(rt, "base")), rapid.SampledFrom([]int{1, 84, 255, 256, 257, 1000}).Draw(rt, "length"))
			n := len(data)/8 + rapid.IntRange(-2, 2).Draw(rt, "more")
			u, gap := unit.Draw(rt, "unit"), rapid.IntRange(1, 12).Draw(rt, "gap")
			for i := 0; i < n*gap && i+len(u) <= len(data); i += gap * len(u) {
				copy(data[i:], u)
			}
			data = append(data, rapid.SampledFrom([]string{"", "\xe2", "\xe2\x82", "\xf0\x9f\x98"}).Draw(rt, "cut")...)
			s := rapid.SampledFrom([]Stream{Input, Output, Stderr, Mark}).Draw(rt, "stream")
			want[s] += string(data)
			events = append(events, Event{0, s, data})
			if rapid.Bool().Draw(rt, "rest") {
				rest := rapid.SampledFrom([]string{"\x82\xac", "\xac", "\x80", "x"}).Draw(rt, "rest is")
				want[s] += rest
				events = append(events, Event{0, s, []byte(rest)})
			}
		}
		b := record(t, testHeader, End{}, events...)
		_, got := read(t, b)
		// The event lines are those of the events, in order.
		var shown []string
		for line := range strings.Lines(string(b)) {
			var e []any
			if line[0] != '[' {
				continue
			} else if err := json.Unmarshal([]byte(line), &e); err != nil {
				rt.Fatalf("%q: %v", line, err)
			}
			shown = append(shown, e[2].(string))
		}
		if len(shown) != len(got) {
			rt.Fatalf("%d event lines, %d events", len(shown), len(got))
		}
		have, limit := map[Stream]string{}, 1500
		for i, e := range got {
			have[e.Stream] += string(e.Data)
			text := string(lossy(e.Data))
			if isBinary(e.Data) {
				text = ""
				limit += len(e.Data)*4/3 + 64
			} else {
				limit += len(e.Data)*6 + 64
				if !utf8.Valid(e.Data) {
					limit += len(e.Data) * 4 / 3
				}
			}
			if shown[i] != text {
				rt.Errorf("a player is shown %.100q of %.100q", shown[i], e.Data)
			}
		}
		for s := range want {
			if have[s] != want[s] {
				rt.Errorf("stream %v: got %.100q, want %.100q", s, have[s], want[s])
			}
		}
		if len(b) > limit {
			rt.Errorf("the file has %d bytes, more than %d", len(b), limit)
		}
		if _, err := Verify(bytes.NewReader(b), known); err != nil {
			rt.Errorf("Verify: %v", err)
		}
	})
}

// TestRawEvents: bytes in base64 are taken only where they must be, so that
// what the text of an event shows is all that there is.
func TestRawEvents(t *testing.T) {
	header, err := testHeader.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	zeros := strings.Repeat("\x00", 256)
	most := strings.Repeat("a", 224) + zeros[:32] // not more than 1/8
	for _, test := range []struct {
		name, raw, text string
		good            bool
	}{
		{"binary", zeros, "", true},
		{"binary with its text", zeros, zeros, false},
		{"binary with another text", zeros, "a", false},
		{"short", zeros[:255], "", false},
		{"short with its text", zeros[:255], zeros[:255], false},
		{"text that is hidden", strings.Repeat("a", 256), "", false},
		{"as many controls as a text may have", most, "", false},
		{"one more", most[1:] + "\x00", "", true},
		{"not UTF-8", "a\xff", "a\ufffd", true},
		{"not UTF-8 that is hidden", "a\xff", "", false},
		{"nothing", "", "", false},
		{"too large", strings.Repeat("\x00", maxData+1), "", false},
		{"largest", strings.Repeat("\x00", maxData), "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := append(bytes.Clone(header), lineEvent+"o "+b64.EncodeToString([]byte(test.raw))+"\n[0.000000, \"o\", "...)
			file = append(appendString(file, []byte(test.text)), "]\n"...)
			r, err := NewReader(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			e, err := r.Next()
			if (err == nil) != test.good || err == nil && string(e.Data) != test.raw {
				t.Errorf("got %.100q, %v", e.Data, err)
			}
		})
	}
}

func TestTimesAreExact(t *testing.T) {
	var events []Event
	for i := range 1000 {
		events = append(events, Event{time.Duration(i*i)*time.Microsecond + 999, Output, []byte{'a'}})
	}
	_, got := read(t, record(t, testHeader, End{}, events...))
	for i, e := range got {
		if want := time.Duration(i*i) * time.Microsecond; e.At != want {
			t.Fatalf("event %d at %v, want %v", i, e.At, want)
		}
	}
}

func TestCutTail(t *testing.T) {
	for in, want := range map[string]int{
		"": 0, "a": 0, "\xc3": 1, "a\xe2": 1, "a\xe2\x82": 2, "€": 0, "\xf0\x9f\x98": 3, "\xff": 0, "\x82": 0,
		"\x82\x82\x82\x82": 0, "\xe2\x28": 0, "\xed\xa0": 0, "\xc0": 0,
	} {
		if got := cutTail([]byte(in)); got != want {
			t.Errorf("cutTail(%q) = %d, want %d", in, got, want)
		}
	}
}

// TestEveryBit: each single bit of a sealed recording matters, and the report
// names a place that holds the bit.
func TestEveryBit(t *testing.T) {
	_, known := keys(t)
	b := record(t, testHeader, sessionEnd, session...)
	for i := range len(b) * 8 {
		bad := bytes.Clone(b)
		bad[i/8] ^= 1 << (i % 8)
		_, err := Verify(bytes.NewReader(bad), known)
		var d *DamageError
		if !errors.As(err, &d) {
			t.Fatalf("bit %d of byte %d (%q): %v", i%8, i/8, b[i/8], err)
		}
		if at := int64(i / 8); at < d.Offset[0] || at >= d.Offset[1] {
			t.Errorf("bit %d of byte %d: reported at %v: %v", i%8, i/8, d.Offset, d)
		}
	}
}

// long is a recording with many chunks.
func long(t testing.TB) []byte {
	var events []Event
	for i := range 3000 {
		events = append(events, Event{ms(i), Output, fmt.Appendf(nil, "line %d of a long session\r\n", i)})
		if i%10 == 0 {
			events = append(events, Event{ms(i), Input, []byte("x")}, Event{ms(i), Stderr, []byte("\xff")})
		}
	}
	return record(t, testHeader, sessionEnd, events...)
}

func TestDamageIsLocated(t *testing.T) {
	_, known := keys(t)
	b := long(t)
	report, err := Verify(bytes.NewReader(b), known)
	if err != nil || report.Chunks < 10 {
		t.Fatalf("got %d chunks, %v", report.Chunks, err)
	}
	at := bytes.Index(b, []byte("line 1500"))
	bad := bytes.Replace(b, []byte("line 1500"), []byte("line 1501"), 1)
	_, err = Verify(bytes.NewReader(bad), known)
	var d *DamageError
	if !errors.As(err, &d) || d.Kind != ErrAltered {
		t.Fatalf("got %v", err)
	}
	if size := d.Offset[1] - d.Offset[0]; int64(at) < d.Offset[0] || int64(at) >= d.Offset[1] || size > 70<<10 {
		t.Errorf("byte %d is reported at %v", at, d.Offset)
	}
	if d.Time[0] > ms(1500) || d.Time[1] < ms(1500) || d.Time[1]-d.Time[0] > ms(300) {
		t.Errorf("reported at %v", d.Time)
	}
	lines := bytes.Count(b[:at], []byte("\n")) + 1
	if int64(lines) < d.Lines[0] || int64(lines) > d.Lines[1] {
		t.Errorf("line %d reported at %v", lines, d.Lines)
	}
	// The rest is still read, and no other chunk is blamed.
	r, err := NewReader(bytes.NewReader(bad))
	if err != nil {
		t.Fatal(err)
	}
	damage, events := 0, 0
	for {
		if _, err := r.Next(); err == io.EOF {
			break
		} else if errors.As(err, &d) {
			damage++
		} else if err != nil {
			t.Fatal(err)
		} else {
			events++
		}
	}
	if damage != 1 || int64(events) != report.Seal.Events {
		t.Errorf("%d chunks blamed, %d of %d events read", damage, events, report.Seal.Events)
	}
}

func TestKindsOfDamage(t *testing.T) {
	_, known := keys(t)
	b := record(t, testHeader, sessionEnd, session...)
	lines := bytes.SplitAfter(b, []byte("\n"))
	last := len(lines) - 2 // the seal; after it stands nothing
	_, other, err := note.GenerateKey(rand.Reader, "gw-2")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := note.NewVerifier(other)
	if err != nil {
		t.Fatal(err)
	}
	foreign := `{"version":3,"term":{"cols":80,"rows":24}}` + "\n[0.1, \"o\", \"x\"]\n"
	another := testHeader
	another.ID = "SES-other"
	otherSeal := bytes.SplitAfter(record(t, another, sessionEnd, session...), []byte("\n"))[last]
	for _, test := range []struct {
		name  string
		file  []byte
		known note.Verifiers
		want  error
	}{
		{"whole", b, known, nil},
		{"unknown key", b, note.VerifierList(stranger), ErrWrongKey},
		{"no keys", b, nil, ErrWrongKey},
		{"empty", nil, known, ErrCut},
		{"seal removed", bytes.Join(lines[:last], nil), known, ErrCut},
		{"last byte removed", b[:len(b)-1], known, ErrCut},
		{"cut in the middle", b[:len(b)/2], known, ErrCut},
		{"line removed", bytes.Join(append(append([][]byte{}, lines[:5]...), lines[6:]...), nil), known, ErrAltered},
		{"line added after the seal", append(bytes.Clone(b), "# more\n"...), known, ErrAltered},
		{"recording after the seal", append(bytes.Clone(b), b...), known, ErrAltered},
		{"bytes after the seal", append(bytes.Clone(b), 'x'), known, ErrAltered},
		{"comment added", append(append(bytes.Join(lines[:4], nil), "# hello\n"...), bytes.Join(lines[4:], nil)...), known, ErrAltered},
		{"seal of another", append(bytes.Join(lines[:last], nil), otherSeal...), known, ErrAltered},
		{"other asciicast", []byte(foreign), known, ErrNotSealed},
		{"stripped", bytes.ReplaceAll(b, []byte("# drawbolt"), []byte("# somebody")), known, ErrNotSealed},
		{"not a recording", []byte("hello\nworld\n"), known, ErrAltered},
		{"line that is too long", bytes.Join([][]byte{lines[0], lines[1], []byte(`[0.000000, "o", "`), bytes.Repeat([]byte{'a'}, MaxLine), []byte("\"]\n"), lines[2]}, nil), known, ErrAltered},
		{"endless line", bytes.Repeat([]byte{'a'}, 2*MaxLine), known, ErrAltered},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Verify(bytes.NewReader(test.file), test.known); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// TestRechained: somebody who rewrites the chain too is found by the seal.
func TestRechained(t *testing.T) {
	_, known := keys(t)
	skey, _, err := note.GenerateKey(rand.Reader, "gw-1")
	if err != nil {
		t.Fatal(err)
	}
	own, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	b := record(t, testHeader, sessionEnd, session...)
	var forged bytes.Buffer
	w, err := NewWriter(&forged, testHeader, own)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range session {
		e.Data = bytes.ReplaceAll(e.Data, []byte("plain"), []byte("other"))
		if err := w.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Seal(sessionEnd); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(bytes.NewReader(forged.Bytes()), known); !errors.Is(err, ErrWrongKey) {
		t.Errorf("own seal: got %v", err)
	}
	f := forged.Bytes()
	seal := b[bytes.LastIndex(b[:len(b)-1], []byte("\n"))+1:]
	f = append(f[:bytes.LastIndex(f[:len(f)-1], []byte("\n"))+1:len(f)], seal...)
	if _, err := Verify(bytes.NewReader(f), known); !errors.Is(err, ErrAltered) {
		t.Errorf("true seal on a false recording: got %v", err)
	}
}

// TestMutations damages a recording in many ways; all are found.
func TestMutations(t *testing.T) {
	_, known := keys(t)
	b := long(t)
	other := record(t, testHeader, sessionEnd, session...)
	rnd := newRand(1)
	rounds := *mutations
	if testing.Short() {
		rounds = min(rounds, 500)
	}
	for i := range rounds {
		bad := mutate(rnd, b, other)
		if bytes.Equal(bad, b) {
			continue
		}
		if _, err := Verify(bytes.NewReader(bad), known); err == nil {
			t.Fatalf("mutation %d was not found", i)
		} else if d := (*DamageError)(nil); !errors.As(err, &d) {
			t.Fatalf("mutation %d: %v", i, err)
		}
	}
}

// TestVerifyMemory: a long recording needs no more memory than a short one.
func TestVerifyMemory(t *testing.T) {
	_, known := keys(t)
	signer, _ := keys(t)
	r, w := io.Pipe()
	go func() {
		c, err := NewWriter(w, testHeader, signer)
		data := bytes.Repeat([]byte("0123456789\r\n"), 2000)
		for i := 0; i < 2000 && err == nil; i++ {
			err = c.Write(Event{ms(i), Output, data})
		}
		if err == nil {
			_, err = c.Seal(sessionEnd)
		}
		w.CloseWithError(err)
	}()
	most := peak(func() {
		if _, err := Verify(r, known); err != nil {
			t.Error(err)
		}
	})
	if limit := uint64(MaxLine + 8<<20); most > limit { // the collector lets garbage stand for a while
		t.Errorf("verifying 48 MB took %d KiB of heap", most>>10)
	}
}

func TestWriterErrors(t *testing.T) {
	signer, _ := keys(t)
	full := errors.New("full")
	w, err := NewWriter(writerFunc(func(p []byte) (int, error) {
		if bytes.HasPrefix(p, []byte("[")) {
			return 0, full
		}
		return len(p), nil
	}), testHeader, signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(Event{0, Output, []byte("x")}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if err := w.Write(Event{0, Input, []byte("x")}); !errors.Is(err, full) {
		t.Errorf("not sticky: %v", err)
	}
	if _, err := w.Seal(End{}); !errors.Is(err, full) {
		t.Errorf("sealed after an error: %v", err)
	}
	for name, h := range map[string]Header{
		"no id":       {Started: testHeader.Started},
		"id with ESC": {ID: "a\x1b", Started: testHeader.Started},
		"no start":    {ID: "a"},
		"too wide":    {ID: "a", Started: testHeader.Started, Width: 1 << 20},
		"long field":  {ID: "a", Started: testHeader.Started, Fields: map[string]string{"a": strings.Repeat("x", 2000)}},
	} {
		if _, err := NewWriter(io.Discard, h, signer); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestStockPlayer reads a recording as a player would that knows asciicast v3
// and nothing of ours.
func TestStockPlayer(t *testing.T) {
	b := record(t, testHeader, sessionEnd, session...)
	var out, in strings.Builder
	var at float64
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		if i == 0 {
			var h struct {
				Version int
				Term    struct{ Cols, Rows int }
			}
			if err := json.Unmarshal([]byte(line), &h); err != nil || h.Version != 3 || h.Term.Cols != 132 || h.Term.Rows != 50 {
				t.Fatalf("header: %+v, %v", h, err)
			}
			continue
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		var e [3]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		at += e[0].(float64)
		switch e[1] {
		case "o":
			out.WriteString(e[2].(string))
		case "i":
			in.WriteString(e[2].(string))
		}
	}
	if want := "caf\u00e9\r"; !strings.HasSuffix(in.String(), want) {
		t.Errorf("input %q", in.String())
	}
	if want := "cat caf\u00e9\r\ncat: bad \ufffd\ufffd name\nplain\n\u20acuro \x00\ufffd\x7f\u0085\n\u20ac\r\ntail \ufffd\ufffd"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("output %q", out.String())
	}
	if at < 0.9999 || at > 1.0001 {
		t.Errorf("takes %v seconds", at)
	}
}

// TestOffsets: the lines of an event stand where the reader says, one event after
// another, with nothing but the lines of the chain between.
func TestOffsets(t *testing.T) {
	b := long(t)
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	_, end := r.Offsets()
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		from, to := r.Offsets()
		if between := string(b[end:from]); between != "" && (!strings.HasPrefix(between, lineChain) || strings.Count(between, "\n") != 1) {
			t.Fatalf("before %d stands %q", from, between)
		}
		lines := string(b[from:to])
		if n := strings.Count(lines, "\n"); strings.HasPrefix(lines, lineEvent) != (n == 2) || n > 2 || lines[len(lines)-1] != '\n' {
			t.Fatalf("the lines of the event at %v are %q", e.At, lines)
		}
		end = to
	}
	if !bytes.HasPrefix(b[end:], []byte(lineChain)) {
		t.Errorf("after the last event stands %.80q", b[end:])
	}
}
