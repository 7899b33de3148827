//go:build linux

package video

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/recorder/screen"
)

// TestMain lets the test binary be the process of a Maker.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == "make-video" {
		os.Exit(Work(context.Background(), os.Stdin, os.Stdout, os.Stderr, os.Args[3], os.Args[5]))
	}
	os.Exit(m.Run())
}

var maker = Maker{Command: []string{os.Args[0], "make-video"}}

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
	h.ID, h.Kind, h.Started = "SES-0123456789abcdef", "shell", time.Date(2026, 3, 2, 10, 42, 8, 0, time.UTC)
	h.Fields = map[string]string{"user": "alice", "account": "root", "target": "db01"}
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

var shell = cast.Header{Terminal: "xterm", Width: 80, Height: 24}

func out(at time.Duration, text string) cast.Event {
	return cast.Event{At: at, Stream: cast.Output, Data: []byte(text)}
}

// makeFilm makes a film, as a file.
func makeFilm(t *testing.T, recording []byte) (name, cut string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "film.mp4")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if cut, err = maker.Make(t.Context(), bytes.NewReader(recording), f); err != nil {
		t.Fatal(err)
	}
	return name, cut
}

// pictures decodes a film: each picture's red, green and blue.
func pictures(t *testing.T, name string, size Size) [][]byte {
	t.Helper()
	b, err := exec.Command("ffmpeg", "-nostdin", "-loglevel", "error", "-i", name, "-f", "rawvideo", "-pix_fmt", "rgb24", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	p := newPicture(size)
	var all [][]byte
	for len(b) >= len(p.pixels) {
		all, b = append(all, b[:len(p.pixels)]), b[len(p.pixels):]
	}
	if len(b) > 0 {
		t.Fatalf("%d bytes are left: the pictures are of another size", len(b))
	}
	return all
}

// middle is the colour in the middle of a cell.
func middle(picture []byte, size Size, row, column int) [3]byte {
	at := 3 * ((row*cellHeight+cellHeight/2)*size.Columns*cellWidth + column*cellWidth + cellWidth/2)
	return [3]byte(picture[at:])
}

// like reports whether a colour is about another: the film is compressed.
func like(a [3]byte, r, g, b int) bool {
	near := func(a byte, b int) bool { return max(int(a)-b, b-int(a)) < 40 }
	return near(a[0], r) && near(a[1], g) && near(a[2], b)
}

// TestVideo: what was shown is seen, where it was and for as long as it was,
// pauses apart.
func TestVideo(t *testing.T) {
	size := Size{80, 24}
	name, cut := makeFilm(t, record(t, shell,
		out(0, "\x1b[3;10H\x1b[41m      \x1b[0m"), // red, until half a second
		out(500*time.Millisecond, "\x1b[3;10H\x1b[48;2;0;0;255m      \x1b[0m"),
		out(time.Hour, "\x1b[20;1H\x1b[37m\u2588\u2588\u2588\u2588"),
	))
	if cut != "" {
		t.Errorf("it is cut: %s", cut)
	}
	all := pictures(t, name, size)
	if len(all) != 35 { // half a second, two of the hour, and the last one
		t.Fatalf("there are %d pictures", len(all))
	}
	for _, c := range []struct{ picture, row, column, r, g, b int }{
		{0, 2, 11, 0xcd, 0, 0}, {4, 2, 11, 0xcd, 0, 0}, {6, 2, 11, 0, 0, 255}, {34, 2, 11, 0, 0, 255},
		{0, 2, 20, 0, 0, 0}, {0, 3, 11, 0, 0, 0}, {0, 24, 79, 0x30, 0x30, 0x30},
		{24, 19, 1, 0, 0, 0}, {26, 19, 1, 0xe5, 0xe5, 0xe5},
	} {
		if got := middle(all[c.picture], size, c.row, c.column); !like(got, c.r, c.g, c.b) {
			t.Errorf("in picture %d the cell %d, %d is %v, not %d %d %d", c.picture, c.row, c.column, got, c.r, c.g, c.b)
		}
	}
	probe, err := exec.Command("ffprobe", "-v", "error", "-show_entries", "stream=codec_name,pix_fmt,width,height", "-of", "csv=p=0", name).Output()
	if err != nil || strings.TrimSpace(string(probe)) != "h264,640,416,yuv420p" {
		t.Errorf("it is %s, %v", probe, err)
	}
}

// TestPictureIsDrawnAnew: drawing what has changed gives what drawing all does.
func TestPictureIsDrawnAnew(t *testing.T) {
	size := Size{12, 4}
	p, s := newPicture(size), screen.New(12, 4)
	pieces := []string{"日", "本", "x", "\x1b[1m", "\x1b[4;31m", "\x1b[0m", "\r", "\n", "\x1b[K", "\x1b[2J", "\x1b[C", "\x1b[D", "\x1b[1;1H", "\x1b[7m", "e\u0301", "\u202e", "\x1b[P", "\x1b[@"}
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for range 300 {
		for range 4 {
			_, _ = s.Write([]byte(pieces[random.IntN(len(pieces))]))
		}
		if random.IntN(30) == 0 {
			s.Resize(8+random.IntN(6), 2+random.IntN(4))
		}
		p.screen(s)
		anew := newPicture(size)
		anew.glyphs = p.glyphs
		anew.screen(s)
		if !bytes.Equal(p.pixels, anew.pixels) {
			t.Fatalf("it is otherwise: %q", s.Lines())
		}
	}
	if len(p.glyphs) > 12 {
		t.Errorf("there are %d glyphs", len(p.glyphs))
	}
}

// TestVideoLimits: a film ends, and says that it is not all.
func TestVideoLimits(t *testing.T) {
	small := Size{80, 2}
	h := cast.Header{Terminal: "xterm", Width: 10, Height: 2}
	var count counting
	count.w = io.Discard
	var events []cast.Event
	for i := range 100 {
		events = append(events, out(time.Duration(i)*time.Minute, "x"))
	}
	err := shoot(t.Context(), bytes.NewReader(record(t, h, events...)), small, 10*time.Second, &count)
	if err == nil || !strings.Contains(err.Error(), "the video ends after 10s, at 5m0s of the session") || count.n != 100*int64(len(newPicture(small).pixels)) {
		t.Errorf("%v, %d bytes", err, count.n)
	}
	// The largest screen is drawn in part, that with the cursor.
	large := cast.Header{Terminal: "xterm", Width: 10000, Height: 10000}
	r := record(t, large, out(0, "\x1b[200;1H\x1b[42m   "))
	size, err := sizeOf(t.Context(), bytes.NewReader(r))
	if err != nil || size != (Size{MaxColumns, MaxRows}) {
		t.Fatalf("%v, %v", size, err)
	}
	var b bytes.Buffer
	if err := shoot(t.Context(), bytes.NewReader(r), size, time.Second, &b); err == nil || !strings.Contains(err.Error(), "larger than 240x70") {
		t.Errorf("got %v", err)
	}
	if got := middle(b.Bytes(), size, MaxRows-1, 1); !like(got, 0, 0xcd, 0) {
		t.Errorf("the row of the cursor is %v", got)
	}
	for _, bad := range []string{"", "80", "0x24", "80x0", "241x24", "80x71", "80x24x3", "-1x5", "80x24 "} {
		if size, err := ParseSize(bad); err == nil {
			t.Errorf("%q is %v", bad, size)
		}
	}
}

// TestVideoOfDamage: what can be read is shown, and the rest is named.
func TestVideoOfDamage(t *testing.T) {
	var events []cast.Event
	for i := range 50 {
		events = append(events, out(time.Duration(i)*100*time.Millisecond, strings.Repeat("x", 5000)))
	}
	r := record(t, shell, events...)
	r[len(r)/2] ^= 1
	name, cut := makeFilm(t, r)
	if !strings.Contains(cut, "recording is altered: chunk") {
		t.Errorf("it says %q", cut)
	}
	if n := len(pictures(t, name, Size{80, 24})); n < 40 {
		t.Errorf("there are %d pictures", n)
	}
	_, err := maker.Make(t.Context(), strings.NewReader("\x00\x01"), io.Discard)
	if _, ok := errors.AsType[*Failure](err); !ok {
		t.Errorf("got %v", err)
	}
}

// TestVideoIsPixels: nothing of the recording reaches the encoder but as pictures:
// neither as an argument, nor in its environment, nor as bytes.
func TestVideoIsPixels(t *testing.T) {
	dir := t.TempDir()
	// An encoder that tells what it is given.
	if err := os.WriteFile(filepath.Join(dir, "ffmpeg"), []byte("#!/bin/sh\necho \"$@\"\n/usr/bin/env\necho\n/usr/bin/tr -d '\\000-\\011\\013-\\037\\177-\\377'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("DRAWBOLT_SECRET", "of-the-server")
	h := shell
	h.Command = "-i /etc/passwd; $(touch pwned) hostile-command"
	var b bytes.Buffer
	cut, err := maker.Make(t.Context(), bytes.NewReader(record(t, h,
		out(0, "\x1b]0;hostile-title\a\x1b[6n\x1bP$q\"p\x1b\\%d%s -y hostile-text\n#EXTM3U\nfile:///etc/passwd\n"),
		cast.Event{At: time.Second, Stream: cast.Mark, Data: []byte("hostile-mark")})), &b)
	if err != nil || cut != "" {
		t.Fatalf("%q, %v", cut, err)
	}
	said := b.String()
	for _, bad := range []string{"hostile", "passwd", "alice", "SES-", "of-the-server", "EXTM3U", "pwned"} {
		if strings.Contains(said, bad) {
			t.Errorf("the encoder was given %q", bad)
		}
	}
	args, rest, _ := strings.Cut(said, "\n")
	environment, _, _ := strings.Cut(rest, "\n\n")
	if want := "-nostdin -hide_banner -loglevel error -f rawvideo -pixel_format rgb24 -video_size 640x416 -framerate 10 -i pipe:0 "; !strings.HasPrefix(args, want) {
		t.Errorf("its arguments are %s", args)
	}
	for line := range strings.Lines(environment) { // what a shell sets itself
		if name, _, _ := strings.Cut(line, "="); name != "PWD" && name != "SHLVL" && name != "_" && name != "OLDPWD" {
			t.Errorf("its environment has %s", line)
		}
	}
}

// TestVideoFails: an encoder that is not there, fails or hangs costs one film.
func TestVideoFails(t *testing.T) {
	r := record(t, shell, out(0, "x"), out(time.Second, "y"))
	t.Run("none", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := maker.Make(t.Context(), bytes.NewReader(r), io.Discard); !errors.Is(err, ErrNoEncoder) {
			t.Errorf("got %v", err)
		}
	})
	for name, script := range map[string]string{"fails": "echo Unknown encoder >&2; exit 1", "kills itself": "kill -9 $$"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "ffmpeg"), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir)
			_, err := maker.Make(t.Context(), bytes.NewReader(r), io.Discard)
			if f, ok := errors.AsType[*Failure](err); !ok || !strings.Contains(f.Why, "the encoder failed") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("who reads goes away", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("the reader has gone")
		_, err := maker.Make(ctx, bytes.NewReader(r), writer(func([]byte) (int, error) { cancel(gone); return 0, gone }))
		if !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	})
}

// TestVideoDies: the encoder does not outlive the process that draws.
func TestVideoDies(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ffmpeg"), []byte("#!/bin/sh\necho $$\nexec /bin/sleep 600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the reader has gone")
	var encoder int
	_, err := maker.Make(ctx, bytes.NewReader(record(t, shell, out(0, "x"))), writer(func(b []byte) (int, error) {
		_, err := fmt.Sscan(string(b), &encoder)
		cancel(gone)
		return len(b), err
	}))
	if !errors.Is(err, gone) || encoder == 0 {
		t.Fatalf("%v, encoder %d", err, encoder)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", encoder))
		if err != nil || bytes.Contains(b, []byte(") Z ")) {
			return
		}
		if time.Now().After(end) {
			_ = syscall.Kill(encoder, syscall.SIGKILL)
			t.Fatal("it lives on")
		}
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// TestVideoBomb: a recording that makes much work of few bytes ends in time.
func TestVideoBomb(t *testing.T) {
	var events []cast.Event
	bomb := strings.Repeat("\x1b[2J\x1b[9999L\x1b[9999b\x1b[9999@\x1bc日\x1b#8", 1000)
	for i := range 10 {
		events = append(events, out(time.Duration(i)*time.Millisecond, bomb))
	}
	began := time.Now()
	if err := shoot(t.Context(), bytes.NewReader(record(t, cast.Header{Terminal: "xterm", Width: 500, Height: 200}, events...)), Size{MaxColumns, MaxRows}, MaxLength, io.Discard); err == nil {
		t.Error("it says nothing of what is not seen")
	}
	if took := time.Since(began); took > 2*time.Minute { // half a second, without the race detector
		t.Errorf("it took %v", took)
	}
}

func BenchmarkVideo(b *testing.B) {
	var events []cast.Event
	for i := range 600 {
		events = append(events, out(time.Duration(i)*100*time.Millisecond, fmt.Sprintf("\x1b[3%dmline %d of a log that goes on and on\r\n", i%8, i)))
	}
	for _, h := range []cast.Header{shell, {Terminal: "xterm", Width: MaxColumns, Height: MaxRows}} {
		r := record(b, h, events...)
		b.Run(fmt.Sprintf("%dx%d", h.Width, h.Height), func(b *testing.B) {
			for b.Loop() {
				c := counting{w: io.Discard}
				if cut, err := maker.Make(b.Context(), bytes.NewReader(r), &c); err != nil || cut != "" {
					b.Fatal(cut, err)
				}
				b.ReportMetric(float64(c.n), "bytes")
			}
		})
	}
}
