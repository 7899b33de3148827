package recorder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
)

// memoryHeaders keeps headers, and fails when it is told to.
type memoryHeaders struct {
	mu      sync.Mutex
	headers map[string][]byte
	fail    error
}

func (m *memoryHeaders) PutHeader(_ context.Context, name string, header []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if m.headers == nil {
		m.headers = map[string][]byte{}
	}
	m.headers[name] = bytes.Clone(header)
	return nil
}

func (m *memoryHeaders) Header(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.headers[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return h, nil
}

func (m *memoryHeaders) RemoveHeader(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.headers, name)
	return nil
}

// newApart is a stand whose sink keeps headers apart; inner is what lies there.
func newApart(t testing.TB) (s *stand, h *memoryHeaders, inner Sink) {
	h = &memoryHeaders{}
	s = newStand(t, func(c *Config) {
		inner = c.Sink
		c.Sink = Apart(c.Sink, h)
	})
	return s, h, inner
}

func whole(t testing.TB, sink Sink, name string) []byte {
	t.Helper()
	f, err := sink.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestApart: header and object together are the age file that was sealed, and
// without the header nobody can open what is in the sink.
func TestApart(t *testing.T) {
	s, h, inner := newApart(t)
	rec := s.start(t, "SES-1")
	if err := rec.Write(Output, []byte("evidence")); err != nil {
		t.Fatal(err)
	}
	c, err := rec.Keep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "a file"); err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	sealed, err := rec.Close(t.Context(), End{Reason: "closed"})
	if err != nil {
		t.Fatal(err)
	}
	file, object := whole(t, s.cfg.Sink, sealed.Name), whole(t, inner, sealed.Name)
	if sha256.Sum256(file) != sealed.SHA256 || int64(len(file)) != sealed.Size {
		t.Error("the whole is not what was sealed")
	}
	header := h.headers[sealed.Name]
	if !bytes.Equal(append(bytes.Clone(header), object...), file) || bytes.Contains(object, []byte("age-encryption")) || !bytes.HasSuffix(header, []byte("\n")) {
		t.Errorf("the header is %q", header)
	}
	r, err := OpenSealed(bytes.NewReader(file), int64(len(file)), s.auditor)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(r); err != nil || !bytes.Contains(plain, []byte("evidence")) {
		t.Errorf("%v: %q", err, plain)
	}
	if got := whole(t, s.cfg.Sink, c.Name); sha256.Sum256(got) != c.SHA256 || len(h.headers[c.Name]) == 0 {
		t.Error("the copy of a file is not kept like that")
	}

	// Each part of the whole, however it is read.
	f, err := s.cfg.Sink.Open(t.Context(), sealed.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, from := range []int{0, 1, len(header) - 1, len(header), len(header) + 1, len(file) - 3, len(file)} {
		for _, size := range []int{0, 1, 2, len(header), len(file) - from} {
			if from+size > len(file) {
				continue
			}
			p := make([]byte, size)
			if n, err := f.ReadAt(p, int64(from)); n != size || err != nil && err != io.EOF || !bytes.Equal(p, file[from:from+size]) {
				t.Errorf("%d bytes from %d: %d, %v", size, from, n, err)
			}
		}
	}

	// Erased: an empty header, or none.
	for _, erase := range []func(){
		func() { h.headers[sealed.Name] = nil },
		func() { delete(h.headers, sealed.Name) },
	} {
		erase()
		if _, err := s.cfg.Sink.Open(t.Context(), sealed.Name); !errors.Is(err, ErrErased) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("opened, or %v", err)
		}
		if _, _, err := age.DecryptReaderAt(bytes.NewReader(object), int64(len(object)), s.auditor); err == nil {
			t.Error("what is in the sink can be opened without its header")
		}
	}
	// The name stays taken.
	if w, err := s.cfg.Sink.Create(t.Context(), sealed.Name); err != nil {
		t.Error(err)
	} else if _, err := w.Write(file); err != nil || !errors.Is(w.Commit(), fs.ErrExist) {
		t.Error("another object took the place of one that was erased")
	}
	if err := s.cfg.Sink.Remove(t.Context(), sealed.Name); err != nil {
		t.Error(err)
	}
	if err := s.cfg.Sink.Remove(t.Context(), sealed.Name); err != nil {
		t.Errorf("removed again: %v", err)
	}
	if _, err := s.cfg.Sink.Open(t.Context(), sealed.Name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its removal: %v", err)
	}
}

// TestApartBefore: what was sealed before headers were kept apart can be read.
func TestApartBefore(t *testing.T) {
	s := newStand(t)
	rec := s.start(t, "SES-1")
	sealed, err := rec.Close(t.Context(), End{Reason: "closed"})
	if err != nil {
		t.Fatal(err)
	}
	if b := whole(t, Apart(s.cfg.Sink, &memoryHeaders{}), sealed.Name); sha256.Sum256(b) != sealed.SHA256 {
		t.Error("it is not what was sealed")
	}
}

// TestApartChunks: however the file comes, the header is cut where it ends.
func TestApartChunks(t *testing.T) {
	s := newStand(t)
	file := encrypted(t, s, []byte("plain"))
	for _, size := range []int{1, 2, 7, 100, len(file)} {
		h := &memoryHeaders{}
		inner, err := Directory(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		w, err := Apart(inner, h).Create(t.Context(), "SES-1.x")
		if err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(file, size) {
			if n, err := w.Write(part); n != len(part) || err != nil {
				t.Fatalf("wrote %d: %v", n, err)
			}
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		want, err := age.ExtractHeader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if got := whole(t, Apart(inner, h), "SES-1.x"); !bytes.Equal(got, file) || !bytes.Equal(h.headers["SES-1.x"], want) {
			t.Errorf("in parts of %d: %q", size, h.headers["SES-1.x"])
		}
	}
}

// TestApartRefuses: what is no age file is not kept, since it could be read by all.
func TestApartRefuses(t *testing.T) {
	for name, content := range map[string]string{
		"nothing": "", "something else": "a recording in plain text\n", "a beginning": ageMagic,
		"no end of a header": ageMagic + strings.Repeat("-> X25519 abc\n", maxAgeHeader/8),
	} {
		h := &memoryHeaders{}
		dir := t.TempDir()
		inner, err := Directory(dir)
		if err != nil {
			t.Fatal(err)
		}
		w, err := Apart(inner, h).Create(t.Context(), "SES-1.x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err == nil {
			if w.Commit() == nil {
				t.Errorf("%s was kept", name)
			}
		} else if err := w.Abort(); err != nil {
			t.Error(err)
		}
		if names := left(t, dir); len(names) > 0 || len(h.headers) > 0 {
			t.Errorf("%s left %q", name, names)
		}
	}
}

// TestApartCrash: whatever fails in between, what was recorded is sealed in the
// end and can be opened, and the journal is there until then.
func TestApartCrash(t *testing.T) {
	s, h, inner := newApart(t)
	rec := s.start(t, "SES-1")
	if err := rec.Write(Output, []byte("evidence")); err != nil {
		t.Fatal(err)
	}
	h.fail = errors.New("the database is away")
	if _, err := rec.Close(t.Context(), End{Reason: "closed"}); !errors.Is(err, h.fail) {
		t.Fatalf("closed without a header: %v", err)
	}
	if _, err := inner.Open(t.Context(), "SES-1"+Suffix); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the object is there before its header")
	}
	if _, err := os.Stat(filepath.Join(s.cfg.Journals, "SES-1"+journalSuffix)); err != nil {
		t.Fatal(err)
	}
	// A header of nothing, as a crash between the two leaves it.
	h.fail, h.headers = nil, map[string][]byte{"SES-1" + Suffix: []byte("another attempt's")}
	var got Sealed
	if err := s.Recover(t.Context(), func(s Sealed, err error) {
		if err != nil {
			t.Error(err)
		}
		got = s
	}); err != nil {
		t.Fatal(err)
	}
	if b := whole(t, s.cfg.Sink, got.Name); sha256.Sum256(b) != got.SHA256 {
		t.Error("it is not what was sealed")
	}
	if names := left(t, s.cfg.Journals); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}
