package indexing

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/recorder/view"
	"github.com/drawbolt/drawbolt/test/servers"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A shelf is a store, a sink and what was indexed.
type shelf struct {
	t    *testing.T
	db   *store.DB
	sink recorder.Sink
	cfg  Config

	mu    sync.Mutex
	casts map[string]string // by the session's id; what is not there cannot be opened
	texts map[string][]string
	full  error // of SaveText
}

func (s *shelf) SaveText(_ context.Context, id string, texts iter.Seq[view.Text]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[id] = []string{}
	for t := range texts {
		s.texts[id] = append(s.texts[id], t.Text)
	}
	return s.full
}

func (s *shelf) DeleteText(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[id] = []string{}
	return nil
}

func (s *shelf) openCast(_ context.Context, of access.Session) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.casts[of.ID]; ok {
		return io.NopCloser(strings.NewReader(c)), nil
	}
	return nil, fs.ErrNotExist
}

func newShelf(t *testing.T, url string) *shelf {
	t.Helper()
	s := &shelf{t: t, casts: map[string]string{}, texts: map[string][]string{}}
	var err error
	s.db, err = store.Open(t.Context(), store.Config{URL: url})
	ok(t, err)
	t.Cleanup(func() { s.db.Close() })
	s.sink, err = recorder.Directory(t.TempDir())
	ok(t, err)
	key, err := age.GenerateHybridIdentity()
	ok(t, err)
	s.cfg = Config{
		Store: s.db, OpenCast: s.openCast, Make: view.Make, Sink: s.sink, Key: key, Index: s, Node: "one",
		Every: 5 * time.Millisecond, Pauses: []time.Duration{time.Millisecond, time.Millisecond}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	return s
}

// run runs an Indexer until the end of the test, or until it is stopped.
func (s *shelf) run(change func(*Config)) (x *Indexer, stop func()) {
	s.t.Helper()
	c := s.cfg
	if change != nil {
		change(&c)
	}
	x, err := New(c)
	ok(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := x.Run(ctx); err != nil {
			s.t.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	s.t.Cleanup(stop)
	return x, stop
}

// add adds a closed session that showed that text.
func (s *shelf) add(shown string) access.Session {
	s.t.Helper()
	ctx := s.t.Context()
	id := access.NewID(access.SessionPrefix)
	secret, _, err := note.GenerateKey(rand.Reader, "test")
	ok(s.t, err)
	signer, err := note.NewSigner(secret)
	ok(s.t, err)
	var b bytes.Buffer
	w, err := cast.NewWriter(&b, cast.Header{ID: id, Kind: "shell", Terminal: "xterm", Started: time.Now()}, signer)
	ok(s.t, err)
	ok(s.t, w.Write(cast.Event{At: time.Second, Stream: cast.Output, Data: []byte(shown)}))
	_, err = w.Seal(cast.End{At: time.Second})
	ok(s.t, err)
	s.mu.Lock()
	s.casts[id] = b.String()
	s.mu.Unlock()

	u := access.User{ID: access.NewID(access.UserPrefix), CreatedAt: time.Now()}
	u.Name = u.ID
	r := access.Request{ID: access.NewID(access.RequestPrefix), RequesterID: u.ID, State: access.Approved, Duration: time.Hour}
	g := access.Grant{ID: access.NewID(access.GrantPrefix), RequestID: r.ID, UserID: u.ID, Duration: time.Hour}
	session := access.Session{ID: id, GrantID: g.ID, RequestID: r.ID, UserID: u.ID, State: access.Closed, Recording: access.Sealed{Name: id + recorder.Suffix}}
	ok(s.t, s.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		session.ClosedAt = tx.Now()
		return audit.Event{Actor: "test", Action: "test.close"}, errors.Join(tx.AddUser(ctx, &u), tx.AddRequest(ctx, &r), tx.AddGrant(ctx, &g), tx.AddSession(ctx, &session))
	}))
	return session
}

func (s *shelf) await(of access.Session, state store.ViewState) store.View {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		v, err := s.db.View(s.t.Context(), of.ID)
		if err == nil && v.State == state {
			return v
		}
		if time.Now().After(end) {
			s.t.Fatalf("the view is %+v, %v", v, err)
		}
	}
}

func (s *shelf) wantTexts(of access.Session, want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.texts[of.ID]; !slices.Equal(got, want) {
		s.t.Errorf("indexed are %q, want %q", got, want)
	}
}

func (s *shelf) read(x *Indexer, of access.Session) (lines []string, end view.End) {
	s.t.Helper()
	r, err := x.Open(s.t.Context(), of)
	ok(s.t, err)
	defer r.Close()
	ok(s.t, view.Read(r, func(i view.Item) error {
		if i.Text != nil {
			lines = append(lines, i.Text.Text)
		}
		if i.End != nil {
			end = *i.End
		}
		return nil
	}))
	return lines, end
}

func TestIndexing(t *testing.T) {
	for name, url := range map[string]func(testing.TB) string{
		"sqlite":   storetest.SQLite,
		"postgres": storetest.Postgres,
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, url(t))
			before := s.add("from before\r\n")
			x, _ := s.run(nil)
			s.await(before, store.ViewMade)
			after := s.add("from after\r\nanother line")
			v := s.await(after, store.ViewMade)
			if v.Version != view.Version || v.Node != "one" || v.MadeAt.IsZero() || v.Error != "" {
				t.Errorf("saved is %+v", v)
			}
			s.wantTexts(before, "from before")
			s.wantTexts(after, "from after", "another line")
			if lines, end := s.read(x, after); !slices.Equal(lines, []string{"from after", "another line"}) || end.Duration != time.Second {
				t.Errorf("the view has %q, %+v", lines, end)
			}
			// Only the server's own key opens it, and nothing in it is plain.
			f, err := s.sink.Open(t.Context(), after.ID+recorder.ViewSuffix)
			ok(t, err)
			defer f.Close()
			raw, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
			ok(t, err)
			other, err := age.GenerateHybridIdentity()
			ok(t, err)
			if _, err := recorder.OpenSealed(f, f.Size(), other); err == nil || bytes.Contains(raw, []byte("another line")) {
				t.Errorf("others can read it: %v", err)
			}
			if _, err := x.Open(t.Context(), access.Session{ID: "SES-none"}); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("no view: %v", err)
			}
		})
	}
}

// TestPoisoned: a recording that cannot be made a view of is tried three times and
// left, and holds up no other.
func TestPoisoned(t *testing.T) {
	s := newShelf(t, storetest.SQLite(t))
	good := s.add("good")
	gone, panics, fails := s.add("gone"), s.add("panics"), s.add("fails")
	s.mu.Lock()
	delete(s.casts, gone.ID)
	s.mu.Unlock()
	var mu sync.Mutex
	tries := map[string]int{}
	x, _ := s.run(func(c *Config) {
		c.Make = func(ctx context.Context, r io.Reader, each func(view.Item) error) error {
			b, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, what := range []string{"panics", "fails"} {
				if bytes.Contains(b, []byte(what)) {
					if tries[what]++; what == "panics" {
						panic("a mistake \xff")
					}
					s := view.Segment{Cols: 80, Rows: 24}
					return errors.Join(each(view.Item{Segment: &s}), fmt.Errorf("it cannot be\x00 read \xff"))
				}
			}
			return view.Make(ctx, bytes.NewReader(b), each)
		}
	})
	s.await(good, store.ViewMade)
	for of, want := range map[*access.Session]string{&gone: "file does not exist", &panics: "panic while a view was made: a mistake", &fails: "it cannot be"} {
		if v := s.await(*of, store.ViewFailed); v.Tries != 3 || !strings.Contains(v.Error, want) {
			t.Errorf("saved is %+v", v)
		}
		if _, err := x.Open(t.Context(), *of); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a view that failed is there: %v", err)
		}
	}
	if tries["panics"] != 3 || tries["fails"] != 3 {
		t.Errorf("tried %v times", tries)
	}
	s.wantTexts(good, "good")
}

// TestAgain: what one server did not end, or could not index, is made again, and
// takes the place of what was there.
func TestAgain(t *testing.T) {
	s := newShelf(t, storetest.SQLite(t))
	s.full = errors.New("the index is away")
	a := s.add("text")
	x, stop := s.run(func(c *Config) { c.Pauses = []time.Duration{0, time.Hour} })
	for s.await(a, store.ViewWaiting).Tries < 2 {
		time.Sleep(time.Millisecond)
	}
	stop()
	s.full = nil
	if lines, _ := s.read(x, a); !slices.Equal(lines, []string{"text"}) {
		t.Errorf("the view has %q", lines)
	}
	// A server that stops gives back what it makes, and that is no try.
	begun := make(chan struct{})
	ok(t, s.db.QueueOldViews(t.Context(), view.Version+1)) // none: it waits
	b := s.add("more")
	_, stop = s.run(func(c *Config) {
		c.Make = func(ctx context.Context, _ io.Reader, _ func(view.Item) error) error {
			close(begun)
			<-ctx.Done()
			return context.Cause(ctx)
		}
	})
	<-begun
	if v := s.await(b, store.ViewMaking); v.Tries != 1 {
		t.Errorf("made is %+v", v)
	}
	stop()
	if v := s.await(b, store.ViewWaiting); v.Tries != 0 || !v.DueAt.IsZero() {
		t.Errorf("given back is %+v", v)
	}
	x, _ = s.run(nil)
	s.await(b, store.ViewMade)
	if lines, _ := s.read(x, b); !slices.Equal(lines, []string{"more"}) {
		t.Errorf("the view has %q", lines)
	}
}

// TestRemovedMeanwhile: of a recording that is removed while its view is made,
// nothing stays.
func TestRemovedMeanwhile(t *testing.T) {
	s := newShelf(t, storetest.SQLite(t))
	a := s.add("gone")
	making, removed := make(chan struct{}), make(chan struct{})
	x, stop := s.run(func(c *Config) {
		c.Make = func(ctx context.Context, r io.Reader, each func(view.Item) error) error {
			close(making)
			<-removed
			return view.Make(ctx, r, each)
		}
	})
	<-making
	ok(t, s.db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
		return audit.Event{Actor: "test", Action: "test.remove"}, tx.RemoveView(t.Context(), &a)
	}))
	close(removed)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		texts, indexed := s.texts[a.ID]
		s.mu.Unlock()
		if _, err := x.Open(t.Context(), a); indexed && len(texts) == 0 && errors.Is(err, fs.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("indexed are %q", texts)
		}
	}
	stop()
	if v, err := s.db.View(t.Context(), a.ID); err != nil || v.State != store.ViewRemoved {
		t.Errorf("saved is %+v, %v", v, err)
	}
}
