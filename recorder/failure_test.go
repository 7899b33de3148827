package recorder

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	seekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/klauspost/compress/zstd"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// newStandIn is a recorder in another process's directory.
func newStandIn(dir string) *Recorder {
	sink, err := Directory(filepath.Join(dir, "sealed"))
	if err != nil {
		panic(err)
	}
	r, err := New(Config{
		Journals: filepath.Join(dir, "journals"), Sink: sink, Recipients: []age.Recipient{keyCatcher{}},
		Wrapper: newWrapper(make([]byte, 32)), Signer: noSigner{}, Floor: 1,
	})
	if err != nil {
		panic(err)
	}
	return r
}

type noSigner struct{}

func (noSigner) Name() string                { return "none" }
func (noSigner) KeyHash() uint32             { return 0 }
func (noSigner) Sign([]byte) ([]byte, error) { return nil, errors.New("no key") }

// writes counts and can fail.
type writes struct {
	w     io.Writer
	n     int
	after int // writes that succeed; -1: all
	keep  int // bytes of the failing one that reach the file
}

func (w *writes) Write(p []byte) (int, error) {
	w.n++
	if w.after >= 0 && w.n > w.after {
		n, _ := w.w.Write(p[:min(w.keep, len(p))])
		return n, errors.New("disk is on fire")
	}
	return w.w.Write(p)
}

func TestOneWriteEach(t *testing.T) {
	s := newStand(t)
	rec := s.start(t, "SES-1")
	count := &writes{w: rec.f, after: -1}
	rec.f = count
	for _, test := range []struct{ size, want int }{{0, 0}, {1, 1}, {200, 1}, {32 << 10, 1}, {64 << 10, 1}, {64<<10 + 1, 2}, {1 << 20, 16}} {
		count.n = 0
		if err := rec.Write(Output, make([]byte, test.size)); err != nil {
			t.Fatal(err)
		}
		if count.n != test.want {
			t.Errorf("%d bytes took %d writes, want %d", test.size, count.n, test.want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { rec.Write(Input, []byte("x")) }); n > 3 {
		t.Errorf("%v allocations a keystroke", n)
	}
}

// TestSticky: a write that fails, wholly or in part, ends the recording; what
// was acknowledged is sealed all the same.
func TestSticky(t *testing.T) {
	for _, keep := range []int{0, 5, 20, 1 << 20} {
		s := newStand(t)
		rec := s.start(t, "SES-1")
		rec.f = &writes{w: rec.file, after: 2, keep: keep}
		if err := errors.Join(rec.Write(Output, []byte("one ")), rec.Write(Output, []byte("two "))); err != nil {
			t.Fatal(err)
		}
		first := rec.Write(Output, []byte("three "))
		if first == nil {
			t.Fatal("no error")
		}
		for _, err := range []error{rec.Write(Input, []byte("x")), rec.Resize(1, 1), rec.Mark("m"), rec.Err()} {
			if err != first {
				t.Errorf("not sticky: %v", err)
			}
		}
		sealed, err := rec.Close(t.Context(), End{Reason: "closed"})
		if err != nil {
			t.Fatal(err)
		}
		plain, report := s.open(t, sealed.Name)
		got, _ := streams(t, plain)
		want := "one two "
		if keep == 1<<20 {
			want += "three " // reached the disk, though it was not acknowledged
		}
		if got[Output] != want || !report.Seal.Aborted || !strings.Contains(report.Seal.Reason, "on fire") {
			t.Errorf("%d kept: got %q, %+v", keep, got, report.Seal)
		}
	}
}

func TestStartRefuses(t *testing.T) {
	s := newStand(t, func(c *Config) { c.Floor = 1 << 62 })
	if _, err := s.Start(t.Context(), Header{ID: "SES-1"}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("no space: got %v", err)
	}
	s = newStand(t)
	s.start(t, "SES-1")
	if _, err := s.Start(t.Context(), Header{ID: "SES-1"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("same id: got %v", err)
	}
	for _, id := range []string{"", "../x", "a/b", ".x", "-x", "a b", "a\x00", "a.b", strings.Repeat("a", 81)} {
		if _, err := s.Start(t.Context(), Header{ID: id}); err == nil {
			t.Errorf("id %q: accepted", id)
		}
	}
	if names := left(t, s.cfg.Journals); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// faultySink fails at one step.
type faultySink struct {
	Sink
	fail      string
	committed bool
}

var errSink = errors.New("the sink is down")

func (f *faultySink) Create(ctx context.Context, name string) (SinkWriter, error) {
	if f.fail == "create" {
		return nil, errSink
	}
	w, err := f.Sink.Create(ctx, name)
	return &faultyWriter{w, f}, err
}

func (f *faultySink) Open(ctx context.Context, name string) (SinkReader, error) {
	if f.fail == "open" || f.fail == "read back" && f.committed {
		return nil, errSink
	}
	return f.Sink.Open(ctx, name)
}

type faultyWriter struct {
	SinkWriter
	f *faultySink
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	switch w.f.fail {
	case "write":
		return 0, errSink
	case "flip":
		p = bytes.Clone(p)
		p[len(p)/2] ^= 1
	}
	return w.SinkWriter.Write(p)
}

func (w *faultyWriter) Commit() error {
	if w.f.fail == "commit" {
		w.SinkWriter.Abort()
		return errSink
	}
	err := w.SinkWriter.Commit()
	w.f.committed = true
	if w.f.fail == "commit, but done" {
		return errSink
	}
	return err
}

// TestSinkFails: whichever step fails, and whether it was done all the same, the
// journal stays, and the next attempt leaves exactly one good recording more.
func TestSinkFails(t *testing.T) {
	for _, fail := range []string{"create", "open", "write", "flip", "commit", "commit, but done", "read back"} {
		t.Run(fail, func(t *testing.T) {
			sink := &faultySink{}
			s := newStand(t, func(c *Config) { sink.Sink, c.Sink = c.Sink, sink })
			rec := s.start(t, "SES-1")
			if err := rec.Write(Output, []byte("evidence")); err != nil {
				t.Fatal(err)
			}
			sink.fail = fail
			if _, err := rec.Close(t.Context(), End{Reason: "closed"}); err == nil {
				t.Fatal("no error")
			}
			if _, err := os.Stat(s.journal("SES-1")); err != nil {
				t.Fatal(err)
			}
			sink.fail = ""
			sealed, err := rec.Close(t.Context(), End{})
			if err != nil {
				t.Fatal(err)
			}
			plain, report := s.open(t, sealed.Name)
			if got, _ := streams(t, plain); got[Output] != "evidence" || report.Seal.Aborted || report.Seal.Reason != "closed" {
				t.Errorf("got %q, %+v", got, report.Seal)
			}
			want := 1
			if fail == "flip" {
				want = 2 // the bad object is not ours to remove
			}
			if names, _ := sink.List(t.Context()); len(names) != want {
				t.Errorf("got %v", names)
			}
			if names := left(t, s.cfg.Journals); len(names) != 0 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

// TestRecoverPoisoned: bad journals are told of and set aside, and the good ones
// are sealed.
func TestRecoverPoisoned(t *testing.T) {
	s := newStand(t)
	journals := map[string][]byte{}
	for _, id := range []string{"SES-a", "SES-b", "SES-c", "SES-d", "SES-e"} {
		journals[id], _ = journalOf(t, s, id, false)
	}
	flipped := bytes.Clone(journals["SES-b"])
	flipped[len(flipped)-3] ^= 1
	for id, b := range map[string][]byte{
		"SES-a": journals["SES-a"],
		"SES-b": flipped, // damaged in its last frame
		"SES-c": []byte("not a journal at all, but long enough to be one"),
		"SES-d": journals["SES-d"][:30], // torn in its prefix
		"SES-e": journals["SES-a"],      // another's
		"SES-f": nil,
	} {
		if err := os.WriteFile(s.journal(id), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running := s.start(t, "SES-running")
	got := map[string]error{}
	names := map[string]Sealed{}
	collect := func(s Sealed, err error) { got[s.ID], names[s.ID] = err, s }
	if err := s.Recover(t.Context(), collect); err != nil {
		t.Fatal(err)
	}
	if len(got) != 6 {
		t.Errorf("told of %v", got)
	}
	for id, err := range got {
		if (err == nil) != (id == "SES-a") {
			t.Errorf("%s: got %v", id, err)
		}
	}
	var d *DamagedError
	if !errors.As(got["SES-b"], &d) || d.Frame != 6 {
		t.Errorf("got %v", got["SES-b"])
	}
	for id, lines := range map[string]int{"SES-a": 6, "SES-b": 5} {
		plain, report := s.open(t, names[id].Name)
		if got, _ := streams(t, plain); strings.Count(got[Output], "line ") != lines || !report.Seal.Aborted {
			t.Errorf("%s: got %q, %+v", id, got, report.Seal)
		}
	}
	if aside := left(t, filepath.Join(s.cfg.Journals, "quarantine")); len(aside) != 5 {
		t.Errorf("in quarantine: %v", aside)
	}
	clear(got)
	if err := s.Recover(t.Context(), collect); err != nil || len(got) != 0 {
		t.Errorf("a second time: %v, %v", got, err)
	}
	if err := running.Write(Input, []byte("x")); err != nil {
		t.Error(err)
	}
}

// TestRecoverWithoutKey: a keeper that is not open yet is no reason to set a
// journal aside.
func TestRecoverWithoutKey(t *testing.T) {
	s := newStand(t)
	b, _ := journalOf(t, s, "SES-1", false)
	if err := os.WriteFile(s.journal("SES-1"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	good := s.cfg.Wrapper
	s.Recorder.cfg.Wrapper = newWrapper(bytes.Repeat([]byte{1}, 32))
	told := 0
	if err := s.Recover(t.Context(), func(_ Sealed, err error) {
		if told++; err == nil {
			t.Error("no error")
		}
	}); err != nil || told != 1 {
		t.Errorf("told %d times, %v", told, err)
	}
	s.Recorder.cfg.Wrapper = good
	if err := s.Recover(t.Context(), func(_ Sealed, err error) {
		if told++; err != nil {
			t.Error(err)
		}
	}); err != nil || told != 2 {
		t.Errorf("told %d times, %v", told, err)
	}
}

// TestCrashAfterCommit: a crash between Commit and the journal's end does not
// make two recordings of one session.
func TestCrashAfterCommit(t *testing.T) {
	s := newStand(t)
	rec := s.start(t, "SES-1")
	if err := rec.Write(Output, []byte("x")); err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadFile(s.journal("SES-1"))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := rec.Close(t.Context(), End{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.journal("SES-1"), copied, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.writeNote(sealed); err != nil {
		t.Fatal(err)
	}
	told := 0
	if err := s.Recover(t.Context(), func(again Sealed, err error) {
		if told++; err != nil || again != sealed {
			t.Errorf("got %+v, %v", again, err)
		}
	}); err != nil || told != 1 {
		t.Errorf("told %d times, %v", told, err)
	}
	if names := append(left(t, s.sealed), left(t, s.cfg.Journals)...); len(names) != 1 {
		t.Errorf("got %v", names)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	sink, err := Directory(dir)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, data string) error {
		w, err := sink.Create(t.Context(), name)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, data); err != nil {
			return err
		}
		if names, _ := sink.List(t.Context()); strings.Contains(strings.Join(names, " "), "second") {
			t.Error("visible before Commit")
		}
		return w.Commit()
	}
	if err := put("first", "a"); err != nil {
		t.Fatal(err)
	}
	if err := put("first", "b"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("replaced: %v", err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "first")); string(b) != "a" {
		t.Errorf("got %q", b)
	}
	w, err := sink.Create(t.Context(), "second")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	if names := left(t, dir); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".hidden", "a\\b", "/etc/passwd"} {
		if _, err := sink.Create(t.Context(), name); err == nil {
			t.Errorf("Create(%q) succeeded", name)
		}
		if _, err := sink.Open(t.Context(), name); err == nil {
			t.Errorf("Open(%q) succeeded", name)
		}
	}
	if _, err := sink.Open(t.Context(), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestSealedDamage damages a sealed file in many ways: what is not refused when
// it is opened or read does not change what is read.
func TestSealedDamage(t *testing.T) {
	s := newStand(t)
	rec := s.start(t, "SES-1")
	noise := make([]byte, 300<<10)
	rand.Read(noise)
	if err := rec.Write(Output, noise); err != nil {
		t.Fatal(err)
	}
	sealed, err := rec.Close(t.Context(), End{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(s.sealed, sealed.Name))
	if err != nil {
		t.Fatal(err)
	}
	rnd := mrand.New(mrand.NewPCG(1, 2))
	for i := range 300 {
		at := rnd.IntN(len(b))
		if i < 100 {
			at = rnd.IntN(min(len(b), 3000)) // the header
		}
		bad := bytes.Clone(b)
		switch i % 3 {
		case 0:
			bad[at] ^= 1 << rnd.IntN(8)
		case 1:
			bad = bad[:at]
		case 2:
			bad = append(bad[:at:at], bad[min(len(bad), at+1+rnd.IntN(1000)):]...)
		}
		r, err := OpenSealed(bytes.NewReader(bad), int64(len(bad)), s.auditor)
		if err == nil {
			_, err = cast.Verify(r, s.verifier)
		}
		if err == nil {
			t.Fatalf("change %d at byte %d of %d was not found", i, at, len(b))
		}
	}
	stranger, _ := age.GenerateHybridIdentity()
	if _, err := OpenSealed(bytes.NewReader(b), int64(len(b)), stranger); err == nil {
		t.Error("opened by a stranger")
	}
}

// TestBadFrame: a frame that cannot be read is an error each time, and the
// others, whose buffers it shares, are read as they are before and after it.
func TestBadFrame(t *testing.T) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false))
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{text(5000), bytes.Repeat([]byte("b"), 9000), random(7000), text(300)}
	var b bytes.Buffer
	w, err := seekable.NewWriter(&b, enc)
	if err != nil {
		t.Fatal(err)
	}
	offset := []int64{0}
	for _, frame := range want {
		if _, err := w.Write(frame); err != nil {
			t.Fatal(err)
		}
		offset = append(offset, offset[len(offset)-1]+int64(len(frame)))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// The third frame decodes, but to other bytes: only its checksum tells.
	bad := b.Bytes()
	at := bytes.Index(bad, want[2][:100])
	if at < 0 {
		t.Fatal("random bytes were compressed")
	}
	bad[at+50] ^= 1
	s := newStand(t)
	sealed := encrypted(t, s, bad)
	r, err := OpenSealed(bytes.NewReader(sealed), int64(len(sealed)), s.auditor)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 2, 0, 1, 2, 2, 1, 2, 0, 2, 2, 3, 0, 1} {
		got := make([]byte, len(want[i]))
		if _, err := r.Seek(offset[i], io.SeekStart); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadFull(r, got)
		if i == 2 && err == nil {
			t.Error("the bad frame was read")
		} else if i != 2 && (err != nil || !bytes.Equal(got, want[i])) {
			t.Errorf("frame %d: %v, or other bytes", i, err)
		}
	}
}

func random(size int) []byte {
	b := make([]byte, size)
	mrand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// encrypted returns what anybody can make who knows the recipient.
func encrypted(t *testing.T, s *stand, plain []byte) []byte {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, s.cfg.Recipients...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBombs(t *testing.T) {
	s := newStand(t)
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	stream := func(chunk []byte, times int) []byte {
		var b bytes.Buffer
		w, err := seekable.NewWriter(&b, enc)
		if err != nil {
			t.Fatal(err)
		}
		for range times {
			if _, err := w.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	lying := stream(make([]byte, 100<<20), 1)
	lying[len(lying)-9-4+1], lying[len(lying)-9-4+2], lying[len(lying)-9-4+3] = 0, 0, 0
	table := stream([]byte("x"), 1)
	table[len(table)-9+3] = 0x7f // some two thousand million frames
	for name, plain := range map[string][]byte{
		"one huge frame":    stream(make([]byte, 100<<20), 1),
		"a table that lies": lying,
		"a table of frames": table,
		"no table":          enc.EncodeAll(make([]byte, 100<<20), nil),
		"nothing":           nil,
		"many frames":       stream(make([]byte, 1<<20), 500),
		"an endless line":   stream(bytes.Repeat([]byte("a"), 1<<20), 50),
	} {
		t.Run(name, func(t *testing.T) {
			b := encrypted(t, s, plain)
			var err error
			most := heap(func() {
				var r io.Reader
				if r, err = OpenSealed(bytes.NewReader(b), int64(len(b)), s.auditor); err == nil {
					_, err = cast.Verify(r, s.verifier)
				}
			})
			if err == nil {
				t.Error("no error")
			}
			if most > 32<<20 {
				t.Errorf("took %d MiB", most>>20)
			}
		})
	}
}

// heap returns by how many bytes the heap grew while f ran.
func heap(f func()) uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, uint64(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return most
		case <-tick.C:
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > before {
				most = max(most, m.HeapAlloc-before)
			}
		}
	}
}

// TestCrashWhileTidying: a note without its journal is what a crash leaves after
// the journal was removed. It is told of, and removed.
func TestCrashWhileTidying(t *testing.T) {
	s := newStand(t)
	sealed, err := s.start(t, "SES-1").Close(t.Context(), End{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.writeNote(sealed); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1, 0} {
		told := 0
		if err := s.Recover(t.Context(), func(again Sealed, err error) {
			if told++; err != nil || again != sealed {
				t.Errorf("got %+v, %v", again, err)
			}
		}); err != nil || told != want {
			t.Errorf("round %d: told %d times, %v", i, told, err)
		}
	}
	if names := left(t, s.cfg.Journals); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestConcurrent: many writers on one recording, and closings at the same time.
func TestConcurrent(t *testing.T) {
	s := newStand(t)
	ctx, stop := context.WithCancel(t.Context())
	run := make(chan error)
	go func() { run <- s.Run(ctx) }()
	rec := s.start(t, "SES-1")
	var wg sync.WaitGroup
	for _, stream := range []Stream{Input, Output, Stderr} {
		wg.Go(func() {
			for range 200 {
				if err := rec.Write(stream, []byte("abc\n")); err != nil {
					t.Error(err)
				}
				s.flush()
			}
		})
	}
	wg.Wait()
	var results [4]Sealed
	for i := range results {
		wg.Go(func() {
			var err error
			if results[i], err = rec.Close(t.Context(), End{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, r := range results {
		if r != results[0] || r.Input != 800 || r.Output != 800 || r.Stderr != 800 {
			t.Errorf("got %+v", r)
		}
	}
	s.open(t, results[0].Name)
	stop()
	if err := <-run; err != nil {
		t.Error(err)
	}
}
