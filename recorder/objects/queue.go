package objects

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/drawbolt/drawbolt/recorder"
)

// What a QueueConfig's Check says of an object.
var (
	// ErrNotYet: it is not on record yet, and stays for now.
	ErrNotYet = errors.New("the object is not on record yet")
	// ErrWrong: it is not what it should be, and no further try mends it.
	ErrWrong = errors.New("the object is not what is on record")
)

// A QueueConfig says from where objects are brought to where. Folder and Store
// are needed.
type QueueConfig struct {
	// Folder is where objects are made, and wait; it is made with mode 0700. Only
	// one Queue at a time should run on it; with two, nothing is lost or doubled.
	Folder string
	// Store is where they are kept.
	Store Store
	// After is how long an object stays in the folder. Default: it does not.
	After time.Duration
	// Check compares an object in the folder with what is on record of it, before
	// it leaves. ErrNotYet puts it off, ErrWrong puts it into quarantine, and
	// another error is a failed try. Default: nothing is known of objects.
	Check func(ctx context.Context, name string) error
	// Quarantined is told of each object that is put into quarantine, and again
	// after a crash in the midst. With an error the object is put there later.
	Quarantined func(ctx context.Context, name string, why error) error
	// Workers is how many objects are brought at a time. Default: 4.
	Workers int
	// Tries is after how many failures an object goes into quarantine; they count
	// only where another one has arrived between them. Default: 12.
	Tries int
	// Wait is the time before the second try. Each further one doubles it, up to
	// 600 times as much. Default: 1 s.
	Wait time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Log is for operators. Default: slog.Default.
	Log *slog.Logger
}

// A Queue brings objects from a folder to a Store, and reads them wherever they
// are: it is a recorder.Sink. It is safe for concurrent use.
type Queue struct {
	cfg        QueueConfig
	local      recorder.Sink // the folder
	quarantine recorder.Sink
	wake       chan struct{}

	mu      sync.Mutex
	free    sync.Cond // of mu: an object is no longer busy
	items   map[string]*item
	arrived int // objects, so far
}

// An item is an object in the folder.
type item struct {
	next   time.Time // when it is tried
	busy   bool
	cancel context.CancelFunc // of the try, while it is busy with one
	// Failures that count, and how many had arrived at the last one.
	failures, arrived int
	tries             int // since it began to wait; for the time of the next
}

const quarantineFolder = "quarantine"

// NewQueue checks the QueueConfig and makes the folders. It starts nothing.
func NewQueue(cfg QueueConfig) (*Queue, error) {
	if cfg.Folder == "" || cfg.Store == nil {
		return nil, errors.New("configure queue of objects: a folder and a store are needed")
	}
	if cfg.Check == nil {
		cfg.Check = func(context.Context, string) error { return nil }
	}
	if cfg.Quarantined == nil {
		cfg.Quarantined = func(context.Context, string, error) error { return nil }
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 4
	}
	if cfg.Tries <= 0 {
		cfg.Tries = 12
	}
	if cfg.Wait <= 0 {
		cfg.Wait = time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	q := &Queue{cfg: cfg, wake: make(chan struct{}, 1), items: map[string]*item{}}
	q.free.L = &q.mu
	var err1, err2 error
	q.local, err1 = recorder.Directory(cfg.Folder)
	q.quarantine, err2 = recorder.Directory(filepath.Join(cfg.Folder, quarantineFolder))
	return q, errors.Join(err1, err2)
}

// lookEvery is how often the folder is looked at for what came into it in
// another way than through the Queue.
const lookEvery = time.Minute

// Run brings objects until ctx ends.
func (q *Queue) Run(ctx context.Context) error {
	work := make(chan string)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(work)
	for range q.cfg.Workers {
		workers.Go(func() {
			for name := range work {
				q.try(ctx, name)
			}
		})
	}
	var look time.Time
	for {
		if now := time.Now(); !now.Before(look) {
			look = now.Add(lookEvery)
			if err := q.look(ctx); err != nil {
				q.cfg.Log.ErrorContext(ctx, "the folder of recordings cannot be read", "error", err)
			}
		}
		name, wait := q.take()
		if name != "" {
			select {
			case work <- name:
			case <-ctx.Done():
				q.release(name)
				return nil
			}
			continue
		}
		timer := time.NewTimer(min(wait, time.Until(look)))
		select {
		case <-timer.C:
		case <-q.wake:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// look finds what is in the folder.
func (q *Queue) look(ctx context.Context) error {
	names, err := q.local.List(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		q.mu.Lock()
		known := q.items[name] != nil
		q.mu.Unlock()
		if known {
			continue
		}
		info, err := os.Stat(q.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		q.add(name, info.ModTime().Add(q.cfg.After))
	}
	return nil
}

func (q *Queue) path(name string) string { return filepath.Join(q.cfg.Folder, name) }

func (q *Queue) add(name string, next time.Time) {
	q.mu.Lock()
	if q.items[name] == nil {
		q.items[name] = &item{next: next}
	}
	q.mu.Unlock()
	q.stir()
}

func (q *Queue) stir() {
	select {
	case q.wake <- struct{}{}:
	default: // somebody else did
	}
}

// take picks the object that is due for the longest time and makes it busy; or
// says how long none will be.
func (q *Queue) take() (name string, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var first *item
	for n, i := range q.items {
		if !i.busy && (first == nil || i.next.Before(first.next)) {
			name, first = n, i
		}
	}
	if first == nil {
		return "", lookEvery
	}
	if wait := first.next.Sub(q.cfg.Now()); wait > 0 {
		return "", wait
	}
	first.busy = true
	return name, 0
}

func (q *Queue) release(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items[name].busy = false
	q.free.Broadcast()
}

// forget takes a busy object out of the queue.
func (q *Queue) forget(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.items, name)
	q.free.Broadcast()
}

// try brings a busy object and decides what becomes of it.
func (q *Queue) try(ctx context.Context, name string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q.mu.Lock()
	q.items[name].cancel = cancel
	q.mu.Unlock()
	err := q.bring(ctx, name)
	switch {
	case ctx.Err() != nil:
		q.release(name) // the next start tries again, or Remove goes on
		return
	case err == nil:
		q.mu.Lock()
		q.arrived++
		q.mu.Unlock()
		q.forget(name)
		return
	case errors.Is(err, ErrWrong):
		q.setAside(ctx, name, err)
		return
	}
	q.mu.Lock()
	i := q.items[name]
	if !errors.Is(err, ErrNotYet) && (i.failures == 0 || q.arrived > i.arrived) {
		i.failures, i.arrived = i.failures+1, q.arrived
	}
	// Half of it is chance, so that what failed together is not tried together.
	wait := min(q.cfg.Wait<<min(i.tries, 16), 600*q.cfg.Wait)
	wait = wait/2 + rand.N(wait/2+1)
	i.tries++
	i.next = q.cfg.Now().Add(wait)
	condemned, tries := i.failures >= q.cfg.Tries, i.tries
	q.mu.Unlock()
	if condemned {
		q.setAside(ctx, name, fmt.Errorf("failed %d times while others arrived: %w", q.cfg.Tries, err))
		return
	}
	if !errors.Is(err, ErrNotYet) {
		q.cfg.Log.WarnContext(ctx, "an object did not arrive and stays in the folder", "object", name, "store", fmt.Sprint(q.cfg.Store), "try", tries, "again_in", wait.Round(time.Millisecond).String(), "error", err)
	}
	q.release(name)
	q.stir()
}

// bring brings one object. A crash before the removal finds the object in the
// folder, and perhaps in the store; the next try compares. A crash after it
// finds an object that has arrived.
func (q *Queue) bring(ctx context.Context, name string) error {
	if err := q.cfg.Check(ctx, name); err != nil {
		return err
	}
	f, err := q.local.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another server's Queue was faster, or it was removed
	}
	if err != nil {
		return err
	}
	defer f.Close()
	sum, err := sumOf(ctx, f)
	if err != nil {
		return err
	}
	err = q.cfg.Store.Put(ctx, name, f, f.Size())
	found := errors.Is(err, fs.ErrExist)
	if err != nil && !found {
		return err
	}
	if err := q.same(ctx, name, f.Size(), sum); err != nil {
		if !found && errors.Is(err, errDiffers) {
			// It was not there before this try, so it is ours to take back.
			err = errors.Join(err, q.cfg.Store.Remove(ctx, name))
		}
		return err
	}
	if err := q.local.Remove(ctx, name); err != nil {
		return err
	}
	return q.tidy(name)
}

var errDiffers = errors.New("the store gives other bytes back than it was given")

// same reads the object back and compares it.
func (q *Queue) same(ctx context.Context, name string, size int64, sum [sha256.Size]byte) error {
	f, err := q.cfg.Store.Open(ctx, name)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	defer f.Close()
	if f.Size() != size {
		return fmt.Errorf("%s: %w: %d instead of %d", name, errDiffers, f.Size(), size)
	}
	back, err := sumOf(ctx, f)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if back != sum {
		return fmt.Errorf("%s: %w", name, errDiffers)
	}
	return nil
}

func sumOf(ctx context.Context, f recorder.SinkReader) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	_, err = io.Copy(h, contextReader{ctx, io.NewSectionReader(f, 0, f.Size())})
	h.Sum(sum[:0])
	return sum, err
}

// setAside puts a busy object into quarantine, with the reason beside it. The
// reason may hold what the store said.
func (q *Queue) setAside(ctx context.Context, name string, why error) {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, why.Error())
	from, to := q.path(name), filepath.Join(q.cfg.Folder, quarantineFolder, name)
	err := os.WriteFile(q.reason(name), []byte(text[:min(len(text), maxReason)]), 0o600)
	if err == nil {
		// A link, not a rename: a rename would replace what is there.
		if err = os.Link(from, to); errors.Is(err, fs.ErrExist) && sameFile(from, to) {
			err = nil // a crash came between the two
		}
	}
	if err == nil {
		err = q.cfg.Quarantined(ctx, name, why)
	}
	if err == nil {
		err = q.local.Remove(ctx, name)
	}
	if err != nil {
		q.cfg.Log.ErrorContext(ctx, "an object cannot be put into quarantine", "object", name, "error", err)
		q.mu.Lock()
		q.items[name].next = q.cfg.Now().Add(lookEvery)
		q.mu.Unlock()
		q.release(name)
		return
	}
	q.forget(name)
	q.cfg.Log.ErrorContext(ctx, "an object is in quarantine and stays on this server", "object", name, "error", why)
}

func sameFile(a, b string) bool {
	x, err1 := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func (q *Queue) reason(name string) string {
	return filepath.Join(q.cfg.Folder, quarantineFolder, "."+name+".why")
}

// Create begins a new object, in the folder.
func (q *Queue) Create(ctx context.Context, name string) (recorder.SinkWriter, error) {
	w, err := q.local.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	return &queueWriter{w, q, name}, nil
}

type queueWriter struct {
	recorder.SinkWriter
	q    *Queue
	name string
}

func (w *queueWriter) Commit() error {
	err := w.SinkWriter.Commit()
	if err == nil {
		w.q.add(w.name, w.q.cfg.Now().Add(w.q.cfg.After))
	}
	return err
}

// Open opens an object wherever it is. ctx is also for what is read later.
func (q *Queue) Open(ctx context.Context, name string) (recorder.SinkReader, error) {
	r, err := q.Local().Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		// It leaves the folder only when it has arrived.
		r, err = q.cfg.Store.Open(ctx, name)
	}
	return r, err
}

// List returns the names of all objects, wherever they are, in order.
func (q *Queue) List(ctx context.Context) ([]string, error) {
	here, err := q.Local().List(ctx)
	if err != nil {
		return nil, err
	}
	there, err := q.cfg.Store.List(ctx)
	if err != nil {
		return nil, err
	}
	all := append(here, there...)
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Remove removes an object wherever it is. One that is on its way is stopped.
func (q *Queue) Remove(ctx context.Context, name string) error {
	q.mu.Lock()
	for i := q.items[name]; i != nil && i.busy; i = q.items[name] {
		if i.cancel != nil {
			i.cancel()
		}
		q.free.Wait()
	}
	q.items[name] = &item{busy: true}
	q.mu.Unlock()
	defer q.forget(name)
	// What is here goes first: it would be brought again.
	for _, remove := range []func(context.Context, string) error{q.local.Remove, q.quarantine.Remove, q.cfg.Store.Remove} {
		if err := remove(ctx, name); err != nil {
			return err
		}
	}
	return q.tidy(name)
}

// tidy removes the reason of an object that is in quarantine no longer.
func (q *Queue) tidy(name string) error {
	if err := os.Remove(q.reason(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Local is the Queue without its Store, for who makes recordings: it asks no
// network.
func (q *Queue) Local() recorder.Sink { return here{q} }

type here struct{ *Queue }

func (h here) Open(ctx context.Context, name string) (recorder.SinkReader, error) {
	r, err := h.local.Open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		r, err = h.quarantine.Open(ctx, name)
	}
	return r, err
}

func (h here) List(ctx context.Context) ([]string, error) {
	waiting, err1 := h.local.List(ctx)
	aside, err2 := h.quarantine.List(ctx)
	return append(waiting, aside...), errors.Join(err1, err2)
}

// A Status says what has not arrived. It is read off the folder, so that it holds
// in another process, too.
type Status struct {
	Waiting     int           // objects that should have left
	Oldest      time.Duration // how long the first of them has been waiting
	Quarantined []Aside
}

// An Aside is an object in quarantine.
type Aside struct{ Name, Why string }

// maxReason bounds what is read of a reason, in bytes.
const maxReason = 1 << 10

// Status looks at the folder.
func (q *Queue) Status(ctx context.Context) (Status, error) {
	var s Status
	names, err := q.local.List(ctx)
	if err != nil {
		return s, err
	}
	for _, name := range names {
		info, err := os.Stat(q.path(name))
		if err != nil {
			continue // it has just left
		}
		if late := q.cfg.Now().Sub(info.ModTime()) - q.cfg.After; late >= 0 {
			s.Waiting++
			s.Oldest = max(s.Oldest, late)
		}
	}
	if names, err = q.quarantine.List(ctx); err != nil {
		return s, err
	}
	for _, name := range names {
		a := Aside{Name: name}
		if f, err := os.Open(q.reason(name)); err == nil {
			b, _ := io.ReadAll(io.LimitReader(f, maxReason))
			f.Close()
			a.Why = strings.TrimSpace(string(b))
		}
		s.Quarantined = append(s.Quarantined, a)
	}
	return s, nil
}
