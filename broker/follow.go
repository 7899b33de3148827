package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// followEvery is how often the audit log is looked at for what other servers
// did; what this server did wakes the follower at once.
const followEvery = 100 * time.Millisecond

// Run follows the audit log and signs its checkpoints until ctx ends: sessions
// here end when another server revokes their grant, and waiting callers wake.
// What was seen of recordings is put on record, and what falls due by the clock.
// It begins where the log was at New, so that nothing is missed in between.
// It returns when everything that it started has ended.
func (b *Broker) Run(ctx context.Context) error {
	position := b.position
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { b.signCheckpoints(ctx) })
	wg.Go(func() { b.tellLooks(ctx) })
	wg.Go(func() { b.settleDues(ctx) })
	var shifts <-chan struct{}
	if b.c.OnCall != nil {
		shifts = b.c.OnCall.Changed()
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	seen := time.Now() // when the log was last read
	minute := b.now().Truncate(time.Minute)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-b.wake:
		case <-shifts:
			b.cut(ctx, func(*Live) bool { return true }) // what a role gave by a shift that is over
			b.cutWatchers(ctx)
		}
		next, err := b.follow(ctx, position)
		if err == nil {
			position, seen = next, time.Now()
			minute = b.eachMinute(ctx, minute)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(seen) > b.c.StaleAfter {
			b.c.Log.ErrorContext(ctx, "revocations cannot be read: ending every session", "error", err)
			b.each(func(l *Live) {
				_ = l.finish(&access.Error{Kind: ErrDoubt, Code: "DB-2205", Text: "drawbolt cannot tell whether this session is still allowed, so it ends"})
			})
		}
	}
}

// follow reads the events from position on and acts on them.
func (b *Broker) follow(ctx context.Context, position int64) (int64, error) {
	size, err := b.c.Store.AuditSize(ctx)
	if err != nil || size == position {
		return position, err
	}
	if size < position {
		return position, errors.New("the audit log has become shorter")
	}
	leaves, err := b.c.Store.Leaves(ctx, store.LeafFilter{From: position, To: size, Limit: 1000})
	if err != nil {
		return position, err
	}
	start, rotated := position, false
	var moved []change
	grants, users, targets, everything := map[string]bool{}, map[string]bool{}, map[string]bool{}, false
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		if err != nil {
			return position, err
		}
		position++
		if e.Outcome != audit.Done {
			continue
		}
		if e.Request != "" {
			b.watchers.wake(e.Request)
		}
		b.raise(ctx, &e)
		if c, any := changed(&e, position); any {
			moved = append(moved, c)
		}
		switch {
		case strings.HasPrefix(e.Action, "grant."):
			grants[e.Grant] = true
		case e.Action == "session.terminate":
			b.terminate(e)
		case e.Action == "session.message":
			b.say(e)
		case e.Action == "session.pause", e.Action == "session.resume":
			grants[e.Grant] = true
		case strings.HasPrefix(e.Action, "user."):
			users[e.Object] = true
			everything = true // an approver who lost a group loses the votes too
		case strings.HasPrefix(e.Action, "target."):
			targets[e.Object] = true
		case strings.HasPrefix(e.Action, "authority."):
			rotated = true
		case strings.HasPrefix(e.Action, "role."), strings.HasPrefix(e.Action, "window."), strings.HasPrefix(e.Action, "network."),
			e.Action == "certificate.revoke":
			everything = true
		}
	}
	if rotated {
		if err := b.loadAuthorities(ctx); err != nil {
			return start, err // and read them again
		}
	}
	b.cut(ctx, func(l *Live) bool {
		return everything || grants[l.Grant.ID] || users[l.Session.UserID] || targets[l.Session.TargetID] || slices.ContainsFunc(l.Hops, func(h access.Target) bool { return targets[h.ID] })
	})
	if everything || len(targets) > 0 {
		b.cutWatchers(ctx)
	}
	b.watchers.wake(wholeLog)
	b.changes.add(moved, position)
	if position < size {
		b.nudge()
	}
	return position, nil
}

func (b *Broker) each(fn func(*Live)) {
	b.liveMu.Lock()
	list := make([]*Live, 0, len(b.live))
	for _, l := range b.live {
		list = append(list, l)
	}
	b.liveMu.Unlock()
	for _, l := range list {
		fn(l)
	}
}

// eachMinute asks again about every session when a minute has begun, if what is
// allowed depends on the clock: hours, windows and facts that grow old are whole
// minutes. It returns the minute for which it has asked.
func (b *Broker) eachMinute(ctx context.Context, asked time.Time) time.Time {
	now := b.now().Truncate(time.Minute)
	if now.Equal(asked) || b.refresh(ctx) != nil {
		return asked // tried again in a moment
	}
	if b.circumstances.Load().timed {
		b.cut(ctx, func(*Live) bool { return true })
		b.cutWatchers(ctx)
	}
	return now
}

// cut looks again at the sessions that the filter picks and ends those that
// are no longer allowed. All of them are stopped before the first is woken to
// be taken down, which is work that the others need not wait for.
func (b *Broker) cut(ctx context.Context, pick func(*Live) bool) {
	facts := b.facts(ctx)
	var over []*Live
	b.each(func(l *Live) {
		if !pick(l) {
			return
		}
		why, err := b.recheck(ctx, facts, l)
		if err != nil {
			b.c.Log.ErrorContext(ctx, "a session could not be checked again", "session", l.Session.ID, "error", err)
			why = &access.Error{Kind: ErrDoubt, Code: "DB-2205", Text: "drawbolt cannot tell whether this session is still allowed, so it ends"}
		}
		if why != nil {
			l.stop(why)
			over = append(over, l)
		}
	})
	for _, l := range over {
		l.wake()
	}
}

// facts reads what many sessions depend on, each of it once. It is used for one
// look at them and then thrown away; it is not safe for concurrent use.
type facts struct {
	grant   reader[access.Grant]
	user    reader[access.User]
	target  reader[access.Target]
	request reader[access.Request]
	voters  reader[[]access.User] // by the request's id
	roles   func() error          // loads those of now into the policy
}

// A reader reads the thing of that id.
type reader[T any] func(ctx context.Context, id string) (T, error)

func (b *Broker) facts(ctx context.Context) facts {
	db := b.c.Store
	return facts{once(db.Grant), once(db.User), once(db.Target), once(db.Request), once(db.Voters),
		sync.OnceValue(func() error { return b.refresh(ctx) })}
}

// once remembers what it has read.
func once[T any](read reader[T]) reader[T] {
	known := map[string]T{}
	return func(ctx context.Context, id string) (T, error) {
		v, ok := known[id]
		if ok {
			return v, nil
		}
		v, err := read(ctx, id)
		if err == nil {
			known[id] = v
		}
		return v, err
	}
}

// recheck looks at the facts of a session and asks the policy again. It returns
// the reason when the session has to end, and an error when that cannot be told.
func (b *Broker) recheck(ctx context.Context, facts facts, l *Live) (*access.Error, error) {
	now := b.now()
	g, err := facts.grant(ctx, l.Grant.ID)
	if err != nil {
		return nil, err
	}
	if why := over(&g, now); why != nil {
		return why, nil
	}
	u, err := facts.user(ctx, l.Session.UserID)
	if err != nil {
		return nil, err
	}
	if u.Locked {
		return &access.Error{Kind: ErrLocked, Code: "DB-2206", Text: fmt.Sprintf("%s is locked: %q", u.Name, u.LockReason)}, nil
	}
	if err := b.stillProven(ctx, l.Caller); errors.Is(err, access.ErrDenied) {
		return refusedNow(err), nil
	} else if err != nil {
		return nil, err
	}
	t, err := facts.target(ctx, g.TargetID)
	if errors.Is(err, access.ErrNotFound) {
		return &access.Error{Kind: ErrLocked, Code: "DB-2207", Text: g.TargetName + " was removed"}, nil
	}
	if err != nil {
		return nil, err
	}
	if t.Locked {
		return &access.Error{Kind: ErrLocked, Code: "DB-2207", Text: fmt.Sprintf("%s is locked: %q", t.Name, t.LockReason)}, nil
	}
	r, err := facts.request(ctx, g.RequestID)
	if err != nil {
		return nil, err
	}
	if err := unchanged(&t, &g, &r); err != nil {
		return refusedNow(err), nil
	}
	if _, err := hopsOf(ctx, facts.target, &t); errors.Is(err, access.ErrDenied) {
		return refusedNow(err), nil
	} else if err != nil {
		return nil, err
	}
	voters, err := facts.voters(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	by := l.Caller
	by.User = u
	if !by.MFAAt.IsZero() {
		// The second factor was fresh when the session was opened; nobody is
		// cut off because it has aged since.
		by.MFAAt = by.MFAAt.Add(now.Sub(l.Session.OpenedAt))
	}
	if err := facts.roles(); err != nil {
		return nil, err
	}
	q := question{action: policy.ActionConnect, by: by, target: &t, account: g.Account, request: &r, votes: b.votingOf(&r, voters), at: now}
	decision, err := b.decideNow(ctx, q)
	if errors.Is(err, access.ErrUnavailable) {
		return nil, err
	}
	if err != nil {
		return refusedNow(err), nil
	}
	l.narrow(sessionRules(decision.Rules))
	l.pause(g.PausedBy)
	if !g.End.Equal(l.End()) {
		l.setEnd(g.End)
		l.notify(Notice{Show: fmt.Sprintf("%s@%s now ends at %s UTC", g.Account, g.TargetName, g.End.Format(time.TimeOnly))})
	}
	b.foresee(ctx, q, l)
	return nil, nil
}

// foresee tells the user of an end that the clock brings: of hours, of a window,
// by a freeze. The end of the grant has notices of its own.
func (b *Broker) foresee(ctx context.Context, q question, l *Live) {
	if !b.circumstances.Load().timed {
		return
	}
	for i := len(warnings) - 1; i >= 0; i-- { // the nearest first
		then := q
		then.at = q.at.Add(warnings[i])
		if !q.by.MFAAt.IsZero() {
			then.by.MFAAt = q.by.MFAAt.Add(warnings[i])
		}
		_, err := b.decideNow(ctx, then)
		e, refused := errors.AsType[*access.Error](err)
		if refused = refused && errors.Is(err, access.ErrDenied) && then.at.Before(l.End()); l.foretell(i, refused) {
			l.notify(Notice{Show: fmt.Sprintf("%s@%s ends in at most %s: %s", l.Grant.Account, l.Grant.TargetName, access.FormatDuration(warnings[i]), e.Text)})
		}
		if refused {
			return
		}
	}
}

func refusedNow(err error) *access.Error {
	e := &access.Error{Kind: ErrRefused, Code: "DB-2208", Text: "this session is no longer allowed: " + err.Error()}
	if ae, ok := errors.AsType[*access.Error](err); ok {
		e.Text, e.Rule = "this session is no longer allowed: "+ae.Text, ae.Rule
	}
	return e
}

func (b *Broker) terminate(e audit.Event) {
	b.liveMu.Lock()
	l := b.live[e.Session]
	b.liveMu.Unlock()
	if l != nil {
		_ = l.finish(&access.Error{Kind: ErrTerminated, Code: "DB-2209", Text: fmt.Sprintf("%s ended this session: %q", e.ActorName, e.Reason)})
	}
}

// signCheckpoints signs the head of the audit log again and again, and once
// more when ctx ends.
func (b *Broker) signCheckpoints(ctx context.Context) {
	tick := time.NewTicker(b.c.CheckpointEvery)
	defer tick.Stop()
	for {
		last := ctx.Err() != nil // asked before: it may end while this signs
		if _, err := b.sign(context.WithoutCancel(ctx)); err != nil {
			b.c.Log.ErrorContext(ctx, "the audit log's checkpoint was not signed", "error", err)
		}
		if last {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// watchers lets callers wait for a change of a request.
type watchers struct {
	mu sync.Mutex
	m  map[string]*watcher
}

type watcher struct {
	changed chan struct{} // closed and replaced at each change
	users   int
}

// watch begins to watch a request. The caller takes the channel of the next
// change before it reads the request, so that no change falls in between.
func (w *watchers) watch(id string) (next func() <-chan struct{}, stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.m == nil {
		w.m = map[string]*watcher{}
	}
	one := w.m[id]
	if one == nil {
		one = &watcher{changed: make(chan struct{})}
		w.m[id] = one
	}
	one.users++
	return func() <-chan struct{} {
			w.mu.Lock()
			defer w.mu.Unlock()
			return one.changed
		}, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if one.users--; one.users == 0 {
				delete(w.m, id)
			}
		}
}

func (w *watchers) wake(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one := w.m[id]; one != nil {
		close(one.changed)
		one.changed = make(chan struct{})
	}
}
