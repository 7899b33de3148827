package cast

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestFileEventShown(t *testing.T) {
	e := FileEvent{What: "close", Number: 2, Direction: "upload", Path: "/srv/\x1b]0;x\a\xff", Size: 7, SHA256: "ab", Result: "failed", Why: "no space\u202e", Kept: "SES-1.1.file.age", KeptSHA256: "cd"}
	data, err := e.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	b := record(t, testHeader, End{}, Event{Stream: File, Data: data})
	if !bytes.Contains(b, []byte("# drawbolt event f\n[0.000000, \"m\", \"{")) {
		t.Errorf("a stock player sees no mark:\n%s", b)
	}
	want := `close #2 upload "/srv/\x1b]0;x\a\xff" 7 bytes sha256 ab failed (no space\u202e) kept as SES-1.1.file.age sha256 cd`
	var text, played bytes.Buffer
	if err := Text(&text, bytes.NewReader(b)); err != nil || !strings.Contains(text.String(), "00:00:00.000 % "+want+"\n") {
		t.Errorf("text: %v\n%s", err, &text)
	}
	if err := Play(t.Context(), &played, bytes.NewReader(b), PlayOptions{Speed: math.Inf(1)}); err != nil || !strings.Contains(played.String(), "["+want+"]") {
		t.Errorf("played: %v\n%q", err, &played)
	}
	if got := ParseFileEvent([]byte("\x1b[2J")).String(); got != `unreadable (\x1b[2J)` {
		t.Errorf("got %q", got)
	}
	if _, err := (FileEvent{Path: strings.Repeat("\x01", maxData)}).MarshalText(); err == nil {
		t.Error("an event that no file can hold was made")
	}
}

// What a file event says is read back as it was, whatever its bytes.
func TestFileEventRoundTrip(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(rt *rapid.T) {
		e := FileEvent{What: "rename", Number: rapid.IntRange(0, 9).Draw(rt, "number"), Path: text.Draw(rt, "path"), To: text.Draw(rt, "to"), Size: rapid.Int64().Draw(rt, "size")}
		data, err := e.MarshalText()
		if err != nil {
			rt.Fatal(err)
		}
		if got := ParseFileEvent(data); got != e {
			rt.Errorf("got %+v, want %+v", got, e)
		}
	})
}
