package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Bounds on watching, on one server.
const (
	maxWatchers = 16 // of one session
	maxWatches  = 8  // of one person
)

// unwatchedWithin is how long a session that needs somebody who watches waits for
// them, each time that there is nobody, before it ends.
const unwatchedWithin = 5 * time.Minute

// A hold is what keeps the input of a session back, and who watches it.
type hold struct {
	// over is closed when input may pass again. nil: it passes.
	over atomic.Pointer[chan struct{}]

	mu       sync.Mutex
	paused   string // by whom
	watching map[*Watching]bool
	alone    *time.Timer // ends a session that nobody watches
	closed   bool
}

// Held returns nil while what the user sends may pass. Otherwise it must wait until
// the channel is closed, and ask again. It costs an atomic load.
func (l *Live) Held() <-chan struct{} {
	if over := l.hold.over.Load(); over != nil {
		return *over
	}
	return nil
}

// pause takes over who has paused the grant, and tells of a change.
func (l *Live) pause(by string) {
	l.hold.mu.Lock()
	was := l.hold.paused
	l.hold.paused = by
	l.hold.mu.Unlock()
	switch {
	case was == by:
		return
	case by == "":
		l.notify(Notice{Show: "your input passes again", Mark: "pause ended"})
	default:
		l.notify(Notice{Show: by + " has paused your input: it is held, and nothing of it is lost", Mark: "paused by " + by})
	}
	l.settle()
}

// settle holds the input of a session, or lets it go, as things are now.
func (l *Live) settle() {
	h := &l.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	unwatched := l.Allowed().FourEyes && !h.eyes(l.Session.UserID)
	if !unwatched && h.alone != nil {
		h.alone.Stop()
		h.alone = nil
	}
	if unwatched && h.alone == nil {
		h.alone = time.AfterFunc(unwatchedWithin, func() {
			_ = l.finish(&access.Error{Kind: ErrUnwatched, Code: "DB-6086", Rule: "session.four_eyes",
				Text: fmt.Sprintf("nobody watched this session for %s, and it needs that", access.FormatDuration(unwatchedWithin))})
		})
		l.notify(Notice{
			Show: fmt.Sprintf("your input is held until somebody else watches, for at most %s. They type: drawbolt watch %s", access.FormatDuration(unwatchedWithin), l.Session.ID),
			Mark: "input held: nobody watches",
		})
	}
	held := unwatched || h.paused != ""
	switch over := h.over.Load(); {
	case held && over == nil:
		over := make(chan struct{})
		h.over.Store(&over)
	case !held && over != nil:
		h.over.Store(nil)
		close(*over)
	}
}

// eyes reports whether somebody watches who is not the user, by whatever spelling of
// the id and by whichever login. A program has no eyes. h.mu is held.
func (h *hold) eyes(user string) bool {
	for w := range h.watching {
		if w.ctx.Err() == nil && !w.still && !w.by.User.Bot && !samePerson(w.by.User.ID, user) {
			return true
		}
	}
	return false
}

// samePerson compares two ids as the policy does.
func samePerson(a, b string) bool {
	return strings.EqualFold(strings.TrimSpace(a), strings.TrimSpace(b))
}

func (h *hold) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.alone != nil {
		h.alone.Stop()
	}
}

// A Watching is somebody who watches a session that runs on this server.
type Watching struct {
	Session access.Session
	Paused  string // who held the input when it began; empty: nobody

	b      *Broker
	live   *Live
	still  bool // it is one look at what was
	by     access.Caller
	began  time.Time
	ctx    context.Context
	cancel context.CancelCauseFunc
	once   sync.Once
}

// Context ends when the right to watch does; its cause is to be read by the watcher.
// The end of the session does not end it: what was shown last is still to be seen.
func (w *Watching) Context() context.Context { return w.ctx }

// Watch lets the caller watch a session that runs on this server. That it begins is
// on record before anything is seen, and the user is told unless the session's
// rules say otherwise. The caller of Watch calls End. With still it is one look at
// what was shown, which does not count where somebody must watch.
func (b *Broker) Watch(ctx context.Context, by access.Caller, id string, still bool) (*Watching, error) {
	s, e, err := b.knownSession(ctx, by, id, "session.watch")
	if err != nil {
		return nil, b.refused(ctx, e, err)
	}
	if err := b.maySession(ctx, by, policy.ActionSessionWatch, &s); err != nil {
		return nil, b.refused(ctx, e, err)
	}
	l, err := b.liveHere(&s)
	if err != nil {
		return nil, b.refused(ctx, e, err)
	}
	w := &Watching{Session: s, b: b, live: l, still: still, by: by, began: b.now()}
	w.ctx, w.cancel = context.WithCancelCause(context.Background())
	first, err := b.enter(w)
	if err != nil {
		return nil, b.refused(ctx, e, err)
	}
	if err := b.c.Store.Record(ctx, e); err != nil {
		b.leave(w)
		return nil, err
	}
	if first {
		w.tell("watched by "+by.User.Name, by.User.Name+" watches this session")
	}
	l.settle()
	return w, nil
}

// tell puts a remark on record, and has it shown to the user unless the rules say
// otherwise.
func (w *Watching) tell(mark, show string) {
	if w.live.Allowed().SilentWatch {
		show = ""
	}
	w.live.notify(Notice{Mark: mark, Show: show})
}

// liveHere returns the handle of a session that runs on this server.
func (b *Broker) liveHere(s *access.Session) (*Live, error) {
	b.liveMu.Lock()
	l := b.live[s.ID]
	b.liveMu.Unlock()
	switch {
	case l != nil:
		return l, nil
	case s.State != access.Closed && s.Node != b.c.Node:
		return nil, &access.Error{Kind: access.ErrConflict, Code: "DB-6080", Text: fmt.Sprintf("session %s runs on the server %s: it can be watched there, and nowhere else", s.ID, s.Node), Next: "drawbolt watch " + s.ID + " --server URL"}
	default:
		return nil, ranBefore(s)
	}
}

func ranBefore(s *access.Session) *access.Error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6081", Text: "session " + s.ID + " does not run any more", Next: "drawbolt replay " + s.ID}
}

// enter counts a watcher in, and reports whether it is the person's only watching of
// the session.
func (b *Broker) enter(w *Watching) (only bool, err error) {
	b.liveMu.Lock()
	defer b.liveMu.Unlock()
	if b.watching[w.by.User.ID] >= maxWatches {
		return false, &access.Error{Kind: access.ErrConflict, Code: "DB-6082", Text: fmt.Sprintf("you watch %d sessions already, and more are not to be had", maxWatches), Rule: "session.watchers"}
	}
	h := &w.live.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return false, ranBefore(&w.Session)
	case len(h.watching) >= maxWatchers:
		return false, &access.Error{Kind: access.ErrConflict, Code: "DB-6082", Text: fmt.Sprintf("%d people watch this session already, and more may not", maxWatchers), Rule: "session.watchers"}
	}
	if h.watching == nil {
		h.watching = map[*Watching]bool{}
	}
	only = !h.watches(w.by.User.ID)
	h.watching[w] = true
	w.Paused = h.paused
	b.watching[w.by.User.ID]++
	return only, nil
}

// watches reports whether a person watches; h.mu is held.
func (h *hold) watches(user string) bool {
	for w := range h.watching {
		if w.by.User.ID == user {
			return true
		}
	}
	return false
}

// leave counts a watcher out, and reports whether it was the person's last watching
// of the session.
func (b *Broker) leave(w *Watching) (last bool) {
	b.liveMu.Lock()
	if b.watching[w.by.User.ID]--; b.watching[w.by.User.ID] <= 0 {
		delete(b.watching, w.by.User.ID)
	}
	b.liveMu.Unlock()
	h := &w.live.hold
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watching, w)
	return !h.watches(w.by.User.ID)
}

// End ends the watching and puts on record which part of the session was seen: from
// and to, since its beginning. why is what ended it, nil when the watcher or the
// session did. Only the first End counts.
func (w *Watching) End(ctx context.Context, from, to time.Duration, why error) (err error) {
	w.once.Do(func() {
		w.cancel(nil)
		if w.b.leave(w) {
			w.tell("no longer watched by "+w.by.User.Name, w.by.User.Name+" no longer watches")
		}
		w.live.settle()
		e := sessionEvent(w.live, "session.watched")
		who := event(w.by, e.Action, e.Object)
		e.Actor, e.ActorName, e.Source, e.Details = who.Actor, who.ActorName, who.Source, who.Details
		detail(&e, "from_seconds", inSeconds(from))
		detail(&e, "to_seconds", inSeconds(to))
		detail(&e, "watched_seconds", inSeconds(w.b.now().Sub(w.began)))
		if why != nil {
			fill(&e, why)
		}
		err = w.b.c.Store.Record(context.WithoutCancel(ctx), e)
	})
	return err
}

func inSeconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }

// cutWatchers ends the watching of those who may not watch any more, and of those
// of whom that cannot be told.
func (b *Broker) cutWatchers(ctx context.Context) {
	var all []*Watching
	b.each(func(l *Live) {
		l.hold.mu.Lock()
		defer l.hold.mu.Unlock()
		for w := range l.hold.watching {
			all = append(all, w)
		}
	})
	if len(all) == 0 {
		return
	}
	err := b.refresh(ctx)
	now := b.now()
	for _, w := range all {
		why := err
		if why == nil {
			why = b.mayStillWatch(ctx, w, now)
		}
		if why != nil {
			text := "you may not watch this session any more"
			if e, ok := errors.AsType[*access.Error](why); ok {
				text += ": " + e.Text
			}
			w.cancel(&access.Error{Kind: access.ErrDenied, Code: "DB-6087", Text: text, Rule: "session.watch"})
			w.live.settle()
		}
	}
}

func (b *Broker) mayStillWatch(ctx context.Context, w *Watching, now time.Time) error {
	by := w.by
	var err error
	if by.User, err = b.c.Store.User(ctx, by.User.ID); err != nil {
		return err
	}
	if !by.MFAAt.IsZero() { // it was fresh when it began; nobody is cut because it has aged
		by.MFAAt = by.MFAAt.Add(now.Sub(w.began))
	}
	return b.maySession(ctx, by, policy.ActionSessionWatch, &w.Session)
}

// moderated finds a running session for a verb that ends in its terminal, on
// whichever server it runs.
func (b *Broker) moderated(ctx context.Context, by access.Caller, id, verb string) (access.Session, audit.Event, error) {
	s, e, err := b.knownSession(ctx, by, id, verb)
	if err == nil {
		err = b.maySession(ctx, by, policy.ActionSessionModerate, &s)
	}
	if err == nil && s.State == access.Closed {
		err = ranBefore(&s)
	}
	return s, e, err
}
