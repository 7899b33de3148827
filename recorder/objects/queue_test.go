package objects_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/objects"
)

// A desk is a Queue in a folder of its own, and what it told.
type desk struct {
	*objects.Queue
	t      testing.TB
	folder string

	mu    sync.Mutex
	aside map[string]error // told of
}

func newDesk(t testing.TB, cfg objects.QueueConfig) *desk {
	t.Helper()
	d := &desk{t: t, folder: cfg.Folder, aside: map[string]error{}}
	if d.folder == "" {
		d.folder = t.TempDir()
		cfg.Folder = d.folder
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	cfg.Quarantined = func(_ context.Context, name string, why error) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.aside[name] != nil {
			t.Errorf("told twice of %s", name)
		}
		d.aside[name] = why
		return nil
	}
	var err error
	d.Queue, err = objects.NewQueue(cfg)
	check(t, err)
	return d
}

// run runs the Queue until the end of the test, or until the returned func.
func (d *desk) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			d.t.Error(err)
		}
	})
	d.t.Cleanup(stop)
	return stop
}

func (d *desk) make(name string, b []byte) {
	d.t.Helper()
	w, err := d.Create(d.t.Context(), name)
	check(d.t, err)
	_, err = w.Write(b)
	check(d.t, err)
	check(d.t, w.Commit())
}

func (d *desk) status() objects.Status {
	d.t.Helper()
	s, err := d.Status(d.t.Context())
	check(d.t, err)
	return s
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came: %s", what)
		}
	}
}

// faulty is a Store whose calls fail as told: before they do anything, or after.
type faulty struct {
	objects.Store
	fail func(call, name string) (before, after error)

	mu   sync.Mutex
	puts map[string]int // that were applied
}

func (f *faulty) around(call, name string, do func() error) error {
	before, after := f.fail(call, name)
	if before != nil {
		return before
	}
	return errors.Join(do(), after)
}

func (f *faulty) Put(ctx context.Context, name string, r io.ReaderAt, size int64) error {
	return f.around("put", name, func() error {
		err := f.Store.Put(ctx, name, r, size)
		if err == nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.puts == nil {
				f.puts = map[string]int{}
			}
			f.puts[name]++
		}
		return err
	})
}

func (f *faulty) Open(ctx context.Context, name string) (r recorder.SinkReader, err error) {
	err = f.around("open", name, func() error { r, err = f.Store.Open(ctx, name); return err })
	if err != nil && r != nil {
		r.Close()
	}
	return r, err
}

func (f *faulty) Remove(ctx context.Context, name string) error {
	return f.around("remove", name, func() error { return f.Store.Remove(ctx, name) })
}

// An object can be read all the way, and the folder is empty at the end.
func TestBring(t *testing.T) {
	store := newFolder(t)
	d := newDesk(t, objects.QueueConfig{Store: store})
	b := content(100_000)
	d.make("SES-1", b)
	if _, err := store.Open(t.Context(), "SES-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the end of a session waits for the store: %v", err)
	}
	if s := d.status(); s.Waiting != 1 {
		t.Errorf("got %+v", s)
	}
	// Left from before, by hand or by a start.
	check(t, os.WriteFile(filepath.Join(d.folder, "SES-0"), b, 0o600))
	stop := d.run()
	eventually(t, "both arrive", func() bool {
		if !bytes.Equal(get(t, d, "SES-1"), b) {
			t.Fatal("other bytes on the way")
		}
		return d.status().Waiting == 0
	})
	d.make("SES-2", b) // while it runs
	eventually(t, "the third arrives", func() bool { return d.status().Waiting == 0 })
	stop()
	for _, name := range []string{"SES-0", "SES-1", "SES-2"} {
		if !bytes.Equal(get(t, store, name), b) || !bytes.Equal(get(t, d, name), b) {
			t.Errorf("%s: other bytes", name)
		}
		if _, err := d.Local().Open(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still here: %v", name, err)
		}
	}
	names, err := d.List(t.Context())
	check(t, err)
	if got := strings.Join(names, " "); got != "SES-0 SES-1 SES-2" {
		t.Errorf("listed %s", got)
	}
}

// What is not on record yet stays; what is something else goes into quarantine at
// once, and can be read there.
func TestChecked(t *testing.T) {
	var recorded atomic.Bool
	store := newFolder(t)
	d := newDesk(t, objects.QueueConfig{Store: store, Wait: time.Millisecond, Check: func(_ context.Context, name string) error {
		switch {
		case name == "altered":
			return fmt.Errorf("%w: \x1b[2Jits SHA-256 is another", objects.ErrWrong)
		case !recorded.Load():
			return objects.ErrNotYet
		}
		return nil
	}})
	d.make("altered", []byte("x"))
	d.make("early", []byte("y"))
	d.run()
	eventually(t, "the altered one is put aside", func() bool { s := d.status(); return len(s.Quarantined) == 1 && s.Waiting == 1 })
	s := d.status()
	if a := s.Quarantined[0]; a.Name != "altered" || !strings.Contains(a.Why, "SHA-256 is another") || strings.ContainsRune(a.Why, 0x1b) || s.Waiting != 1 {
		t.Errorf("got %+v", s)
	}
	if !bytes.Equal(get(t, d, "altered"), []byte("x")) || !bytes.Equal(get(t, d.Local(), "altered"), []byte("x")) {
		t.Error("what is in quarantine cannot be read")
	}
	if _, err := store.Open(t.Context(), "altered"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an altered object left: %v", err)
	}
	recorded.Store(true)
	eventually(t, "the early one arrives", func() bool { return d.status().Waiting == 0 })
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.aside) != 1 || !errors.Is(d.aside["altered"], objects.ErrWrong) {
		t.Errorf("told of %v", d.aside)
	}
}

// Faults come in pairs: failed and not applied, failed but applied. After each,
// the object is there once, with its own bytes.
func TestFaults(t *testing.T) {
	for _, call := range []string{"put", "open", "remove"} {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s applied %v", call, applied), func(t *testing.T) {
				var once atomic.Bool
				store := &faulty{Store: newFolder(t), fail: func(c, _ string) (before, after error) {
					if c != call || once.Swap(true) {
						return nil, nil
					}
					if applied {
						return nil, errors.New("the answer was lost")
					}
					return errors.New("refused"), nil
				}}
				d := newDesk(t, objects.QueueConfig{Store: store, Wait: time.Millisecond})
				b := content(1000)
				d.make("SES-1", b)
				d.run()
				eventually(t, "it arrives", func() bool { return d.status().Waiting == 0 })
				if !bytes.Equal(get(t, d, "SES-1"), b) || store.puts["SES-1"] != 1 {
					t.Errorf("stored %d times", store.puts["SES-1"])
				}
				once.Store(call != "remove")
				err := d.Remove(t.Context(), "SES-1")
				if want := call == "remove"; (err != nil) != want {
					t.Errorf("removed: %v", err)
				}
				check(t, d.Remove(t.Context(), "SES-1"))
				if _, err := d.Open(t.Context(), "SES-1"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("still there: %v", err)
				}
			})
		}
	}
}

// A store that keeps other bytes than it was given: they are taken back, and the
// object stays until the store keeps the right ones. What somebody else put there
// in our name is not touched.
func TestOtherBytes(t *testing.T) {
	var damage atomic.Int32
	damage.Store(3)
	inner := newFolder(t)
	store := damaging{inner, &damage}
	d := newDesk(t, objects.QueueConfig{Store: store, Wait: time.Millisecond, Tries: 2})
	put(t, inner, "theirs", []byte("something else"))
	b := content(5000)
	d.make("ours", b)
	d.make("theirs", b)
	d.run()
	eventually(t, "it arrives", func() bool { _, err := d.Local().Open(t.Context(), "ours"); return errors.Is(err, fs.ErrNotExist) })
	if !bytes.Equal(get(t, inner, "ours"), b) {
		t.Error("other bytes arrived")
	}
	more := 0
	eventually(t, "the other is put aside", func() bool { // while more arrive
		d.make(fmt.Sprint("more-", more), b)
		more++
		time.Sleep(20 * time.Millisecond)
		return len(d.status().Quarantined) == 1
	})
	if !bytes.Equal(get(t, inner, "theirs"), []byte("something else")) || !bytes.Equal(get(t, d, "theirs"), b) {
		t.Error("an object of somebody else's was touched, or ours cannot be read")
	}
}

type damaging struct {
	objects.Store
	times *atomic.Int32
}

func (d damaging) Put(ctx context.Context, name string, r io.ReaderAt, size int64) error {
	if d.times.Add(-1) >= 0 {
		b := make([]byte, size)
		if _, err := r.ReadAt(b, 0); err != nil && err != io.EOF {
			return err
		}
		b[size/2] ^= 1
		r = bytes.NewReader(b)
	}
	return d.Store.Put(ctx, name, r, size)
}

// A store that is away for a day condemns nothing, and is not asked all the time.
func TestAway(t *testing.T) {
	store := newFolder(t)
	d := &desk{}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var asked atomic.Int32
		d = newDesk(t, objects.QueueConfig{Store: &faulty{Store: store, fail: func(call, _ string) (before, after error) {
			if call == "put" {
				asked.Add(1)
			}
			if time.Since(begin) < 24*time.Hour {
				return errors.New("503"), nil
			}
			return nil, nil
		}}})
		for i := range 20 {
			d.make(fmt.Sprint("SES-", i), []byte("x"))
		}
		stop := d.run()
		time.Sleep(24 * time.Hour)
		if n := asked.Load(); n < 20*100 || n > 20*400 {
			t.Errorf("asked %d times in a day for 20 objects", n)
		}
		here := func() int {
			names, err := d.Local().List(t.Context())
			check(t, err)
			return len(names)
		}
		if n := here(); n != 20 {
			t.Errorf("%d wait", n)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if n := here(); n != 0 {
			t.Errorf("%d did not arrive after the store came back", n)
		}
		stop()
	})
}

// An object is brought when it is old enough.
func TestAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFolder(t)
		d := newDesk(t, objects.QueueConfig{Store: store, After: 90 * 24 * time.Hour})
		d.make("SES-1", []byte("x"))
		stop := d.run()
		time.Sleep(90*24*time.Hour - time.Minute)
		if _, err := store.Open(t.Context(), "SES-1"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("too early: %v", err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := get(t, store, "SES-1"); string(got) != "x" {
			t.Errorf("got %q", got)
		}
		stop()
	})
}

// What is removed while it is on its way does not come back.
func TestRemoveOnItsWay(t *testing.T) {
	arrived, away := make(chan struct{}), make(chan struct{})
	inner := newFolder(t)
	d := newDesk(t, objects.QueueConfig{Store: waiting{inner, arrived, away}})
	d.make("SES-1", []byte("x"))
	stop := d.run()
	<-arrived
	removed := make(chan error)
	go func() { removed <- d.Remove(t.Context(), "SES-1") }()
	check(t, <-removed)
	close(away)
	stop()
	for _, s := range []opener{d, inner} {
		if _, err := s.Open(t.Context(), "SES-1"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is there again: %v", err)
		}
	}
}

// waiting puts an object and then holds the answer back.
type waiting struct {
	objects.Store
	arrived, away chan struct{}
}

func (w waiting) Put(ctx context.Context, name string, r io.ReaderAt, size int64) error {
	err := w.Store.Put(ctx, name, r, size)
	close(w.arrived)
	select {
	case <-w.away:
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
	return err
}

// bringUntilKilled is the process that TestKill kills: it makes objects and brings
// them.
func bringUntilKilled(dir string) {
	store, err := objects.Folder(filepath.Join(dir, "store"))
	if err == nil {
		var q *objects.Queue
		q, err = objects.NewQueue(objects.QueueConfig{Folder: filepath.Join(dir, "folder"), Store: store, Wait: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			go func() { err = q.Run(context.Background()) }()
			for i := range 100_000 {
				b := content(1 + mrand.IntN(50_000))
				name := fmt.Sprintf("%x.%d", sha256.Sum256(b), i)
				w, err := q.Create(context.Background(), name)
				if err == nil {
					_, err = w.Write(b)
					err = errors.Join(err, w.Commit())
				}
				if err != nil {
					break
				}
				fmt.Println(name) // made
			}
		}
	}
	fmt.Println("error", err)
	os.Exit(1)
}

// TestKill kills a process that makes and brings objects, at random moments. Each
// that was made is there once, whole.
func TestKill(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	made := map[string]bool{}
	for range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "OBJECTS_TEST_BRING="+dir)
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		var kill *time.Timer
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // what is not a whole line was not said
			}
			if kill == nil { // it has begun
				kill = time.AfterFunc(time.Duration(mrand.IntN(250))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			name := strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(name, "error") {
				t.Fatal(line)
			}
			made[name] = true
		}
		_ = cmd.Wait() // killed
	}
	store, err := objects.Folder(filepath.Join(dir, "store"))
	check(t, err)
	d := newDesk(t, objects.QueueConfig{Folder: filepath.Join(dir, "folder"), Store: store})
	d.run()
	eventually(t, "the rest arrives", func() bool { return d.status().Waiting == 0 })
	names, err := store.List(t.Context())
	check(t, err)
	found := map[string]bool{}
	for _, name := range names {
		sum := sha256.Sum256(get(t, store, name))
		if !strings.HasPrefix(name, hex.EncodeToString(sum[:])) {
			t.Errorf("%s has other bytes", name)
		}
		found[name] = true
	}
	for name := range made {
		if !found[name] {
			t.Errorf("%s is lost", name)
		}
	}
	if len(made) < rounds || len(d.aside) > 0 {
		t.Errorf("%d were made, %d put aside", len(made), len(d.aside))
	}
	t.Logf("%d objects, %d kills", len(made), rounds)
}

// A way to the store that can be disturbed.
type way struct {
	*httptest.Server
	proxy   http.Handler
	disturb atomic.Pointer[disturbance]
}

// A disturbance may answer in the store's place; then it returns true.
type disturbance func(http.ResponseWriter, *http.Request) bool

func newWay(t testing.TB, endpoint string, encrypted bool) *way {
	t.Helper()
	to, err := url.Parse(endpoint)
	check(t, err)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	w := &way{proxy: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // which is signed
		},
		Transport: transport,
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if d := w.disturb.Load(); d == nil || !(*d)(rw, r) {
			w.proxy.ServeHTTP(rw, r)
		}
	}))
	w.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if encrypted {
		w.StartTLS()
	} else {
		w.Start()
	}
	t.Cleanup(func() {
		w.Close()
		transport.CloseIdleConnections()
	})
	return w
}

func (w *way) set(d disturbance) { w.disturb.Store(&d) }

// unavailable answers that the store is; lost passes the request on and loses the
// answer; cut ends the connection; hang never answers.
func unavailable(rw http.ResponseWriter, _ *http.Request) bool {
	rw.WriteHeader(http.StatusServiceUnavailable)
	return true
}

func (w *way) lost(_ http.ResponseWriter, r *http.Request) bool {
	w.proxy.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

func hang(_ http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body) // else the end of the connection is not seen
	<-r.Context().Done()
	return true
}

func cut(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// TestPoisoned: one poisoned among a thousand, at a store that for a while answers
// with errors, not at all, and with other bytes.
func TestPoisoned(t *testing.T) {
	const n, bad = 1000, "SES-0500.cast.zst.age"
	cfg := bucketConfig(t)
	direct := newBucket(t, cfg)
	w := newWay(t, cfg.Endpoint, false)
	cfg.Endpoint, cfg.Timeout = w.URL, 15*time.Second // which a busy store may take
	d := newDesk(t, objects.QueueConfig{Store: newBucket(t, cfg), Wait: 2 * time.Millisecond, Workers: 8})
	want := map[string][]byte{}
	for i := range n {
		name := fmt.Sprintf("SES-%04d.cast.zst.age", i)
		want[name] = content(100 + mrand.IntN(3000))
		d.make(name, want[name])
	}
	for _, phase := range []struct {
		name string
		disturbance
		requests int32
	}{{"errors", unavailable, 100}, {"no answer", cut, 100}, {"lost answers", w.lost, 100}, {"hangs", hang, 8}} {
		var requests atomic.Int32
		w.set(func(rw http.ResponseWriter, r *http.Request) bool {
			requests.Add(1)
			return phase.disturbance(rw, r)
		})
		stop := d.run()
		eventually(t, phase.name, func() bool { return requests.Load() > phase.requests })
		stop()
		if s := d.status(); s.Waiting != n || len(s.Quarantined) != 0 {
			t.Fatalf("%s: %d wait, %v in quarantine", phase.name, s.Waiting, s.Quarantined)
		}
	}
	// For some hundred requests, every third read gives other bytes and every third
	// answer to a put is lost. A tenth of all is refused until the end, and one
	// object never gets through.
	var reads, puts atomic.Int32
	w.set(func(rw http.ResponseWriter, r *http.Request) bool {
		put := r.Method == http.MethodPut
		switch {
		case put && strings.HasSuffix(r.URL.Path, bad), mrand.IntN(10) == 0:
			return unavailable(rw, r)
		case put:
			if i := puts.Add(1); i%3 == 0 && i < 600 {
				return w.lost(rw, r)
			}
		case r.Method == http.MethodGet:
			if i := reads.Add(1); i%3 == 0 && i < 600 {
				rw.Header().Set("Etag", `"00000000000000000000000000000000"`)
				_, _ = rw.Write([]byte("something else"))
				return true
			}
		}
		return false
	})
	begin := time.Now()
	d.run()
	eventually(t, "all but one arrive", func() bool { return d.status().Waiting <= 1 })
	took := time.Since(begin)
	// Sessions go on, and what fails while theirs arrive is condemned.
	more := 0
	eventually(t, "the poisoned one is put aside", func() bool {
		name := fmt.Sprintf("SES-%04d.cast.zst.age", n+more)
		want[name] = content(100)
		d.make(name, want[name])
		more++
		time.Sleep(50 * time.Millisecond)
		return len(d.status().Quarantined) == 1
	})
	eventually(t, "the rest arrives", func() bool { return d.status().Waiting == 0 })
	w.set(func(http.ResponseWriter, *http.Request) bool { return false })
	names, err := direct.List(t.Context())
	check(t, err)
	if len(names) != n+more-1 {
		t.Errorf("%d of %d arrived", len(names), n+more-1)
	}
	for name, b := range want {
		if !bytes.Equal(get(t, d, name), b) {
			t.Errorf("%s: other bytes", name)
		}
		if name != bad && !bytes.Equal(get(t, direct, name), b) {
			t.Errorf("%s: other bytes in the store", name)
		}
	}
	if s := d.status(); s.Quarantined[0].Name != bad || len(d.aside) != 1 || d.aside[bad] == nil {
		t.Errorf("in quarantine: %v, told of %v", s.Quarantined, d.aside)
	}
	t.Logf("%d objects in %v", n, took.Round(time.Millisecond))
}
