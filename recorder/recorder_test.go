package recorder

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// wrapper wraps keys with one AES key, as a keeper of the server would.
type wrapper struct{ aead cipher.AEAD }

func newWrapper(key []byte) wrapper {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return wrapper{aead}
}

func (w wrapper) Wrap(id string, key []byte) ([]byte, error) {
	return w.aead.Seal(nil, nil, key, []byte(id)), nil
}

func (w wrapper) Unwrap(id string, wrapped []byte) ([]byte, error) {
	return w.aead.Open(nil, nil, wrapped, []byte(id))
}

// A stand is a recorder with what an auditor needs.
type stand struct {
	*Recorder
	cfg      Config
	auditor  age.Identity
	verifier note.Verifiers
	sealed   string // directory
}

func newStand(t testing.TB, change ...func(*Config)) *stand {
	t.Helper()
	dir := t.TempDir()
	auditor, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, "gw-1")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{auditor: auditor, verifier: note.VerifierList(verifier), sealed: filepath.Join(dir, "sealed")}
	sink, err := Directory(s.sealed)
	if err != nil {
		t.Fatal(err)
	}
	s.cfg = Config{
		Journals: filepath.Join(dir, "journals"), Sink: sink, Recipients: []age.Recipient{auditor.Recipient()},
		Wrapper: newWrapper(make([]byte, 32)), Signer: signer, Floor: 1,
	}
	for _, c := range change {
		c(&s.cfg)
	}
	if s.Recorder, err = New(s.cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stand) start(t testing.TB, id string) *Recording {
	t.Helper()
	rec, err := s.Start(t.Context(), Header{ID: id, Kind: "shell", Width: 80, Height: 24, Fields: map[string]string{"user": "alice"}})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// open returns the cast inside a sealed recording after it was verified.
func (s *stand) open(t testing.TB, name string) ([]byte, cast.Report) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.sealed, name))
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenSealed(bytes.NewReader(b), int64(len(b)), s.auditor)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	report, err := cast.Verify(bytes.NewReader(plain), s.verifier)
	if err != nil {
		t.Fatal(err)
	}
	return plain, report
}

// streams returns the bytes of each stream, and the events.
func streams(t testing.TB, plain []byte) (map[Stream]string, []Event) {
	t.Helper()
	r, err := cast.NewReader(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	got := map[Stream]string{}
	var all []Event
	for {
		e, err := r.Next()
		if err == io.EOF {
			return got, all
		}
		if err != nil {
			t.Fatal(err)
		}
		got[e.Stream] += string(e.Data)
		all = append(all, e)
	}
}

func left(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRecordSealOpen(t *testing.T) {
	s := newStand(t)
	rec := s.start(t, "SES-1")
	big := strings.Repeat("0123456789abcdef", 10<<10) // beyond one frame
	steps := []error{
		rec.Write(Input, []byte("ls\r")),
		rec.Write(Output, []byte("caf\xc3")),
		rec.Write(Stderr, []byte("oh\n")),
		rec.Write(Output, []byte("\xa9 \xff\x00 done\r\n")),
		rec.Write(Output, []byte(big)),
		rec.Resize(132, 50),
		rec.Mark("sent a file"),
		rec.File(FileEvent{What: "close", Number: 1, Direction: "upload", Path: "/srv/x", Size: 2, Result: "ok"}),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	status := 3
	sealed, err := rec.Close(t.Context(), End{Reason: "closed by the user", ExitStatus: &status})
	if err != nil {
		t.Fatal(err)
	}
	plain, report := s.open(t, sealed.Name)
	got, _ := streams(t, plain)
	want := map[Stream]string{
		Input: "ls\r", Output: "caf\xc3\xa9 \xff\x00 done\r\n" + big, Stderr: "oh\n",
		cast.Resize: "132x50", cast.Mark: "sent a file", cast.Exit: "3",
		cast.File: `{"what":"close","file":1,"direction":"upload","path":"/srv/x","size":2,"result":"ok"}`,
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("stream %v: got %.60q, want %.60q", k, got[k], v)
		}
	}
	if report.Seal.Aborted || report.Seal.Reason != "closed by the user" || report.Seal.Journal != sealed.Head ||
		report.Seal.ID != "SES-1" || report.Header.Fields["user"] != "alice" {
		t.Errorf("got report %+v", report)
	}
	if sealed.Output != int64(len(want[Output])) || sealed.Input != 3 || sealed.Stderr != 3 || sealed.Torn != 0 {
		t.Errorf("got %+v", sealed)
	}
	if names := left(t, s.cfg.Journals); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	again, err := rec.Close(t.Context(), End{})
	if err != nil || again != sealed {
		t.Errorf("second Close: %v, %v", again, err)
	}
	if err := rec.Write(Input, []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
}

func TestRecoverPlain(t *testing.T) {
	s := newStand(t)
	rec := s.start(t, "SES-2")
	if err := rec.Write(Output, []byte("before the crash")); err != nil {
		t.Fatal(err)
	}
	rec.file.Close() // as the death of the process would
	var got []Sealed
	if err := s.Recover(t.Context(), func(s Sealed, err error) {
		if err != nil {
			t.Error(err)
		}
		got = append(got, s)
	}); err != nil || len(got) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
	plain, report := s.open(t, got[0].Name)
	if streams, _ := streams(t, plain); streams[Output] != "before the crash" {
		t.Errorf("got %q", streams)
	}
	if !report.Seal.Aborted || !got[0].Aborted {
		t.Error("not marked as aborted")
	}
}
