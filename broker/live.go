package broker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A Live is a session that runs on this server: the handle that Open returns.
// Its exported fields are copies from the moment of opening and are not
// changed. It is safe for concurrent use.
type Live struct {
	Session access.Session
	Grant   access.Grant
	Target  access.Target
	Hops    []access.Target // on the way to Target, in order; see access.Target.Via
	Login   string          // the account's name on Target
	Caller  access.Caller
	Rules   access.SessionRules

	now     func() time.Time
	ctx     context.Context
	cancel  context.CancelCauseFunc
	notices chan Notice
	hold    hold

	// rules are Rules, narrowed by what the policy has said since; see Allowed.
	rules atomic.Pointer[access.SessionRules]
	// over is set once, when the right to go on is gone. It is what Check
	// loads before every chunk.
	over atomic.Pointer[access.Error]
	// end is the deadline in unix microseconds of the wall clock.
	end atomic.Int64

	mu       sync.Mutex
	deadline time.Time // the same deadline on the monotonic clock
	timer    *time.Timer
	warn     []*time.Timer
	foretold int // how many of warnings were given of an end that the clock brings
	closed   bool
}

// The notices before the end.
var warnings = []time.Duration{5 * time.Minute, time.Minute}

func (b *Broker) newLive(s access.Session, g access.Grant, t access.Target, by access.Caller) *Live {
	l := &Live{Session: s, Grant: g, Target: t, Caller: by, Rules: g.Rules, now: b.c.Now, notices: make(chan Notice, 16)}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.hold.paused = g.PausedBy
	l.setEnd(g.End)
	if g.BreakGlass {
		l.notify(Notice{
			Show: fmt.Sprintf("BREAK-GLASS: nobody approved this. It is recorded, everybody responsible is told, and somebody will review it. It ends at %s UTC", g.End.UTC().Format(time.TimeOnly)),
			Mark: "break-glass",
		})
	}
	l.settle()
	return l
}

// Context ends when the right to the session does; context.Cause is then an
// *access.Error whose text the user reads.
func (l *Live) Context() context.Context { return l.ctx }

// Check returns nil while the session may go on. It is to be called before
// every chunk is forwarded, in each direction: it costs an atomic load and a
// look at the clock. Neither a stalled timer nor a clock that was set back
// keeps a session alive: the deadline counts on the wall and on the monotonic
// clock, whichever is earlier.
func (l *Live) Check() error {
	if over := l.over.Load(); over != nil {
		return over
	}
	if !l.now().Before(l.End()) || l.overdue() {
		return l.finish(expired(l.Grant, l.End()))
	}
	return nil
}

func (l *Live) overdue() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !time.Now().Before(l.deadline)
}

// Allowed are the session's rules as they are now: those from the opening, and
// of these only what a role that was changed since still allows. Whoever began
// something under rules asks again when the pointer is another one. The rules
// are not to be changed.
func (l *Live) Allowed() *access.SessionRules {
	if rules := l.rules.Load(); rules != nil {
		return rules
	}
	return &l.Rules
}

// narrow takes over what the policy says now.
func (l *Live) narrow(now access.SessionRules) {
	rules := l.Rules.Narrow(now)
	l.rules.Store(&rules)
	l.settle()
}

// End is the deadline as it is now; an extension moves it.
func (l *Live) End() time.Time { return time.UnixMicro(l.end.Load()).UTC() }

// A Notice is something that happens to a session from outside.
type Notice struct {
	Show string // a line for the user; empty: nothing is said
	Mark string // for the recording; empty: nothing is put there
}

// Notices tell what happens to the session: that its end is near or has moved, who
// watches, what they say, and whether input passes. One that nobody takes is dropped.
func (l *Live) Notices() <-chan Notice { return l.notices }

func (l *Live) notify(n Notice) {
	select {
	case l.notices <- n:
	default:
	}
}

// setEnd sets the deadline and arms the timers for it.
func (l *Live) setEnd(end time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	left := end.Sub(l.now())
	if !l.deadline.IsZero() {
		// An extension adds to the monotonic deadline what it adds to the end,
		// so that a wall clock that was set back meanwhile adds nothing.
		left = min(left, time.Until(l.deadline)+end.Sub(l.End()))
	}
	l.end.Store(end.UnixMicro())
	l.deadline = time.Now().Add(left)
	l.stopTimers()
	l.timer = time.AfterFunc(max(left, 0), func() { _ = l.Check() })
	for _, before := range warnings {
		if left > before {
			l.warn = append(l.warn, time.AfterFunc(left-before, func() {
				l.notify(Notice{Show: fmt.Sprintf("%s@%s ends in %s, at %s UTC. Longer: drawbolt extend %s --for 30m",
					l.Grant.Account, l.Grant.TargetName, access.FormatDuration(before), end.UTC().Format(time.TimeOnly), l.Grant.RequestID)})
			}))
		}
	}
}

// foretell notes whether an end is near by the i-th of warnings, and reports
// whether the user has still to be told.
func (l *Live) foretell(i int, near bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !near {
		l.foretold = min(l.foretold, i)
		return false
	}
	tell := l.foretold <= i
	l.foretold = max(l.foretold, i+1)
	return tell
}

// stopTimers is called with mu held.
func (l *Live) stopTimers() {
	if l.timer != nil {
		l.timer.Stop()
	}
	for _, t := range l.warn {
		t.Stop()
	}
	l.timer, l.warn = nil, nil
}

// finish ends the right to the session for a reason; the first one counts.
func (l *Live) finish(why *access.Error) error {
	l.stop(why)
	return l.wake()
}

// stop lets no further chunk through. Whoever stops a session wakes it, too.
func (l *Live) stop(why *access.Error) { l.over.CompareAndSwap(nil, why) }

// wake ends the context of a stopped session, with the reason, which it returns.
func (l *Live) wake() error {
	why := l.over.Load()
	l.cancel(why)
	return why
}

// close releases what the handle holds. The session is over.
func (l *Live) close() {
	l.mu.Lock()
	l.closed = true
	l.stopTimers()
	l.mu.Unlock()
	l.hold.close()
	l.cancel(context.Canceled)
}

// The kinds of end of a session, told apart with errors.Is. All are ErrDenied.
var (
	ErrExpired    = fmt.Errorf("expired: %w", access.ErrDenied)
	ErrReleased   = fmt.Errorf("released: %w", access.ErrDenied)
	ErrRevoked    = fmt.Errorf("revoked: %w", access.ErrDenied)
	ErrLocked     = fmt.Errorf("locked: %w", access.ErrDenied)
	ErrTerminated = fmt.Errorf("terminated: %w", access.ErrDenied)
	// ErrRefused: the policy, asked again, says no.
	ErrRefused = fmt.Errorf("no longer allowed: %w", access.ErrDenied)
	// ErrUnwatched: the session needs somebody who watches, and nobody did.
	ErrUnwatched = fmt.Errorf("unwatched: %w", access.ErrDenied)
	// ErrDoubt: revocations could not be read for too long.
	ErrDoubt = fmt.Errorf("revocation in doubt: %w", access.ErrDenied)
)

func expired(g access.Grant, end time.Time) *access.Error {
	return &access.Error{Kind: ErrExpired, Code: "DB-2201",
		Text: fmt.Sprintf("the time for %s@%s is over: it ended at %s UTC", g.Account, g.TargetName, end.Format(time.TimeOnly)),
		Next: fmt.Sprintf("drawbolt request %s --as %s", g.TargetName, g.Account)}
}

// over says why a grant has ended, or returns nil while it holds at t.
func over(g *access.Grant, t time.Time) *access.Error {
	reason, at, ended := g.EndAt(t)
	if !ended {
		return nil
	}
	switch reason {
	case access.EndRevoked:
		return &access.Error{Kind: ErrRevoked, Code: "DB-2202", Text: fmt.Sprintf("%s revoked %s@%s: %q", g.EndedBy, g.Account, g.TargetName, g.EndNote)}
	case access.EndReleased:
		return &access.Error{Kind: ErrReleased, Code: "DB-2203", Text: fmt.Sprintf("%s gave %s@%s back", g.EndedBy, g.Account, g.TargetName)}
	case access.EndSuperseded:
		return &access.Error{Kind: ErrReleased, Code: "DB-2204", Text: fmt.Sprintf("another grant took the place of %s", g.ID)}
	default:
		return expired(*g, at)
	}
}
