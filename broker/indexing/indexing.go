// Package indexing makes the views of recordings after their sessions have ended:
// what the player seeks with, and the text that the search finds.
//
// What it makes proves nothing and can be made again, so nothing waits for it and
// nothing is lost with it. Which views wait and who makes them is in the database:
// two servers share the work, and a server that dies leaves a lease that ends. A
// recording that cannot be made a view of is tried some times and then left with
// its error; it holds up no other.
//
// It trusts its caller for opening recordings and the Worker for surviving them. It
// decides nothing: who may see a view is asked where one is opened.
package indexing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/view"
)

// An Index keeps the texts of views so that they are found.
type Index interface {
	// SaveText keeps the texts of a session instead of those that it had.
	SaveText(ctx context.Context, sessionID string, texts iter.Seq[view.Text]) error
	// DeleteText removes the texts of a session.
	DeleteText(ctx context.Context, sessionID string) error
}

// Config is what an Indexer needs.
type Config struct {
	Store *store.DB
	// OpenCast opens the recording of a session, to be read from its beginning.
	OpenCast func(ctx context.Context, s access.Session) (io.ReadCloser, error)
	// Make makes a view, as a view.Worker does.
	Make func(ctx context.Context, recording io.Reader, each func(view.Item) error) error
	// Sink is where views are kept, for Key only.
	Sink recorder.Sink
	Key  *age.HybridIdentity
	// Index may be nil.
	Index Index
	// Node is the name of this server, unique among those of the database.
	Node string
	// Workers is how many views are made at once. Default: 1.
	Workers int
	// Every is how often is looked for ended sessions. Default: 2 seconds.
	Every time.Duration
	// Pauses are those before each further try. Default: a minute and an hour.
	Pauses []time.Duration
	// Log is for operators. Default: slog.Default.
	Log *slog.Logger
}

const (
	lease = 10 * time.Minute
	// Sessions are looked for again that were closed this long before the last look:
	// a change may be saved later than it was begun. Each hour all are: recordings
	// that a crash left are sealed when the server is back.
	overlap   = 15 * time.Minute
	lookAtAll = time.Hour

	maxError = 1000 // bytes of an error that is kept
)

// An Indexer makes views. It is safe for concurrent use.
type Indexer struct{ cfg Config }

// New checks the Config. Nothing is made until Run.
func New(cfg Config) (*Indexer, error) {
	if cfg.Store == nil || cfg.OpenCast == nil || cfg.Make == nil || cfg.Sink == nil || cfg.Key == nil || cfg.Node == "" {
		return nil, errors.New("configure indexing: a store, recordings, a worker, a sink with its key, and a node are needed")
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 1
	}
	if cfg.Every <= 0 {
		cfg.Every = 2 * time.Second
	}
	if cfg.Pauses == nil {
		cfg.Pauses = []time.Duration{time.Minute, time.Hour}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Indexer{cfg}, nil
}

// Run makes views until ctx ends, and returns when what it has begun has ended.
func (x *Indexer) Run(ctx context.Context) error {
	if err := errors.Join(x.cfg.Store.ReleaseViews(ctx, x.cfg.Node), x.cfg.Store.QueueOldViews(ctx, view.Version)); err != nil && ctx.Err() == nil {
		x.cfg.Log.ErrorContext(ctx, "views of an older version, or that a crash left, are not made anew", "error", err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	for range x.cfg.Workers {
		all.Go(func() { x.work(ctx) })
	}
	tick := time.NewTicker(x.cfg.Every)
	defer tick.Stop()
	var since, lookedAtAll time.Time
	for {
		now := time.Now()
		if now.Sub(lookedAtAll) >= lookAtAll {
			since, lookedAtAll = time.Time{}, now
		}
		if _, err := x.cfg.Store.QueueViews(ctx, since); err == nil {
			since = now.Add(-overlap)
		} else if ctx.Err() == nil {
			x.cfg.Log.ErrorContext(ctx, "it could not be seen which recordings have no view", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// work makes one view after another.
func (x *Indexer) work(ctx context.Context) {
	for {
		v, err := x.cfg.Store.ClaimView(ctx, x.cfg.Node, view.Version, 1+len(x.cfg.Pauses), lease)
		if err == nil {
			x.one(ctx, v)
			continue
		}
		if !errors.Is(err, access.ErrNotFound) && ctx.Err() == nil {
			x.cfg.Log.ErrorContext(ctx, "no view could be begun", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(x.cfg.Every):
		}
	}
}

// one makes one view and saves how that ended.
func (x *Indexer) one(ctx context.Context, v store.View) {
	made, stop := context.WithCancelCause(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { x.keep(made, v, stop) })
	cut, err := x.make(made, v.SessionID)
	stop(nil)
	keeping.Wait()
	switch {
	case err == nil && cut != "":
		x.cfg.Log.WarnContext(ctx, "a view is not of all of its recording", "session", v.SessionID, "cut", cut)
	case err != nil && ctx.Err() == nil:
		x.cfg.Log.ErrorContext(ctx, "no view of a recording could be made", "session", v.SessionID, "try", v.Tries, "error", err)
	}

	// A server that stops still says so, so that the next one begins at once.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	switch err := x.cfg.Store.EndView(end, v, func(v *store.View) {
		v.Error = audit.Clean(cut, maxError)
		switch now := time.Now(); {
		case err == nil:
			v.State, v.MadeAt = store.ViewMade, now
		case ctx.Err() != nil:
			v.State, v.Tries, v.DueAt = store.ViewWaiting, v.Tries-1, time.Time{}
		case v.Tries > len(x.cfg.Pauses):
			v.State, v.Error = store.ViewFailed, audit.Clean(err.Error(), maxError)
		default:
			v.State, v.Error, v.DueAt = store.ViewWaiting, audit.Clean(err.Error(), maxError), now.Add(x.cfg.Pauses[v.Tries-1])
		}
	}); {
	case errors.Is(err, access.ErrNotFound):
		x.takeBack(end, v.SessionID)
	case err != nil:
		x.cfg.Log.ErrorContext(end, "how the making of a view ended is not saved", "session", v.SessionID, "error", err)
	}
}

// takeBack removes what was made of a recording that is gone meanwhile. Of one that
// another server makes, that will be there again.
func (x *Indexer) takeBack(ctx context.Context, id string) {
	now, err := x.cfg.Store.View(ctx, id)
	if err == nil && now.State != store.ViewRemoved {
		return
	}
	err = x.cfg.Sink.Remove(ctx, id+recorder.ViewSuffix)
	if x.cfg.Index != nil {
		err = errors.Join(err, x.cfg.Index.DeleteText(ctx, id))
	}
	if err != nil {
		x.cfg.Log.ErrorContext(ctx, "the view of a recording that is gone is still there", "session", id, "error", err)
	}
}

// keep keeps the lease while a view is made, and stops when it is lost.
func (x *Indexer) keep(ctx context.Context, v store.View, stop context.CancelCauseFunc) {
	tick := time.NewTicker(lease / 5)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := x.cfg.Store.KeepView(ctx, v, lease); errors.Is(err, access.ErrNotFound) {
				stop(errors.New("the view is another's to make now, or of no use any more"))
			}
		}
	}
}

// make makes a view, keeps it, and gives its texts to the index. cut says what is
// not in it.
func (x *Indexer) make(ctx context.Context, id string) (cut string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic while a view was made: %v", r)
		}
	}()
	s, err := x.cfg.Store.Session(ctx, id)
	if err != nil {
		return "", err
	}
	cast, err := x.cfg.OpenCast(ctx, s)
	if err != nil {
		return "", fmt.Errorf("open the recording: %w", err)
	}
	defer cast.Close()
	// One that was made before is in the way: a sink replaces nothing. After a crash
	// from here on there is none, and the row says that it is being made.
	name := id + recorder.ViewSuffix
	if err := x.cfg.Sink.Remove(ctx, name); err != nil {
		return "", fmt.Errorf("remove the view from before: %w", err)
	}
	out, err := x.cfg.Sink.Create(ctx, name)
	if err != nil {
		return "", fmt.Errorf("keep the view: %w", err)
	}
	cut, err = x.write(ctx, out, cast)
	if err != nil {
		return "", errors.Join(err, out.Abort())
	}
	if err := out.Commit(); err != nil {
		return "", fmt.Errorf("keep the view: %w", err)
	}
	if x.cfg.Index == nil {
		return cut, nil
	}
	return cut, x.index(ctx, s)
}

func (x *Indexer) write(ctx context.Context, out io.Writer, cast io.Reader) (cut string, err error) {
	sealed, err := recorder.NewSealedWriter(out, x.cfg.Key.Recipient())
	if err != nil {
		return "", err
	}
	w := view.NewWriter(sealed)
	err = x.cfg.Make(ctx, cast, func(i view.Item) error {
		if i.End != nil {
			cut = i.End.Cut
		}
		return w.Write(i)
	})
	return cut, errors.Join(err, w.Close(), sealed.Close())
}

// index gives the texts of the view that was kept to the index.
func (x *Indexer) index(ctx context.Context, s access.Session) error {
	r, err := x.Open(ctx, s)
	if err != nil {
		return err
	}
	defer r.Close()
	var broken error
	enough := errors.New("enough")
	err = x.cfg.Index.SaveText(ctx, s.ID, func(yield func(view.Text) bool) {
		broken = view.Read(r, func(i view.Item) error {
			if i.Text != nil && !yield(*i.Text) {
				return enough
			}
			return nil
		})
	})
	if errors.Is(broken, enough) {
		broken = nil
	}
	if err = errors.Join(err, broken); err != nil {
		return fmt.Errorf("index the view: %w", err)
	}
	return nil
}

// Open opens the view of a session for view.Read and view.ReadIndex. The error wraps
// fs.ErrNotExist while none is made. The caller has asked who may see it.
func (x *Indexer) Open(ctx context.Context, s access.Session) (io.ReadSeekCloser, error) {
	f, err := x.cfg.Sink.Open(ctx, s.ID+recorder.ViewSuffix)
	if err != nil {
		return nil, fmt.Errorf("open view: %w", err)
	}
	r, err := recorder.OpenSealed(f, f.Size(), x.cfg.Key)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open view: %w", err), f.Close())
	}
	return struct {
		io.ReadSeeker
		io.Closer
	}{r, f}, nil
}
