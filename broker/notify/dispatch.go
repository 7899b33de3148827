package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A Route is a channel, and what it is given.
type Route struct {
	Channel Channel
	Type    string // of the channel, to show
	Kinds   []Kind
}

// Config is what a Dispatcher needs.
type Config struct {
	Broker *broker.Broker
	Store  *store.DB
	Node   string // the name of this server
	Routes []Route
	// Within is how long a channel may take for a notice. Default: 10 s.
	Within time.Duration
	// Lease is for how long a server tells without saying so again; then another
	// does. Default: 20 s.
	Lease time.Duration
	// Pause is the time before a notice is tried again that has failed so often.
	// Default: 1 s, 2 s and so on up to 5 min.
	Pause func(tries int) time.Duration
	// Patience is how old a notice is tried again. Default: 1 day.
	Patience time.Duration
	// Observe is told how each try ended. Optional.
	Observe func(channel string, k Kind, o Outcome)
	Now     func() time.Time // that of Store; default time.Now
	Log     *slog.Logger     // default slog.Default()
}

// An Outcome is how a try ended.
type Outcome string

// The outcomes.
const (
	Sent   Outcome = "sent"
	Failed Outcome = "failed"
	Aside  Outcome = "aside" // will not be tried again
	Held   Outcome = "held"  // will be told later, as the channel wants it
)

// A Dispatcher follows the audit log for each channel and hands it its notices.
// Where a channel stands is saved after each notice that was taken, so that after a
// crash at most that one comes twice. Of several servers one holds the lease of a
// channel; what another does with a lease that it has lost is not saved.
//
// A notice that fails is tried again. When it has failed three times, the next one
// is tried besides it: if that is taken, it is the notice and not the channel that
// is at fault, and those after it go on without it.
type Dispatcher struct{ c Config }

const (
	readAtOnce  = 200 // events
	lookAhead   = 5   // times so many, for another notice besides one that fails
	suspectFrom = 3   // tries
	saveEvery   = time.Second
)

// New checks the configuration. Nothing is told until Run.
func New(c Config) (*Dispatcher, error) {
	c.Within, c.Lease, c.Patience = cmp.Or(c.Within, 10*time.Second), cmp.Or(c.Lease, 20*time.Second), cmp.Or(c.Patience, 24*time.Hour)
	if c.Pause == nil {
		c.Pause = pause
	}
	if c.Observe == nil {
		c.Observe = func(string, Kind, Outcome) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Broker == nil || c.Store == nil || c.Node == "" {
		return nil, errors.New("configure notices: a broker, its store and a name of this server are needed")
	}
	names := map[string]bool{}
	for _, r := range c.Routes {
		name := r.Channel.Name()
		if err := access.CheckGroupName(name); err != nil || names[name] {
			return nil, fmt.Errorf("configure notices: %.80q is no name of a channel, or that of two", name)
		}
		names[name] = true
	}
	return &Dispatcher{c}, nil
}

// longestPause is that between two tries.
const longestPause = 5 * time.Minute

func pause(tries int) time.Duration {
	if tries > 9 {
		return longestPause
	}
	return min(longestPause, time.Second<<max(0, tries-1))
}

// Run tells until ctx ends, and returns when what it has begun has ended.
func (d *Dispatcher) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for i := range d.c.Routes {
		all.Go(func() { d.serve(ctx, &d.c.Routes[i]) })
	}
	return nil
}

// serve tells on a channel whenever this server has its lease.
func (d *Dispatcher) serve(ctx context.Context, r *Route) {
	for ctx.Err() == nil {
		c, err := d.c.Store.ClaimChannel(ctx, r.Channel.Name(), r.Type, d.c.Node, d.c.Lease)
		if err == nil {
			w := &worker{d: d, route: r, state: c, saved: d.c.Now()}
			err = w.run(ctx)
		}
		if err != nil && !errors.Is(err, access.ErrConflict) && ctx.Err() == nil {
			d.c.Log.ErrorContext(ctx, "nobody is told", "channel", r.Channel.Name(), "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(d.c.Lease / 4):
		}
	}
}

// A worker tells on one channel while it holds the lease.
type worker struct {
	d      *Dispatcher
	route  *Route
	state  store.Channel
	events []audit.Event // from state.Position on, as far as they were read
	saved  time.Time     // when state was
	moved  bool          // state has, since
	late   time.Time     // when the next notice is due that was stepped over; zero: none
}

func (w *worker) now() time.Time { return w.d.c.Now().UTC() }

// run tells until ctx ends or the lease is another's.
func (w *worker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if w.moved && w.now().Sub(w.saved) >= saveEvery {
			if err := w.save(ctx); err != nil {
				return err
			}
		}
		if err := w.hold(ctx, w.d.c.Lease/2); err != nil {
			return err
		}
		worked, err := w.step(ctx)
		if err == nil && !worked {
			err = w.wait(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	// Others need not wait for the end of the lease.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	w.state.Until = time.Time{}
	return w.d.c.Store.SaveChannel(ctx, w.state)
}

// save saves where the channel stands, with notices that are stepped over or done,
// and keeps the lease.
func (w *worker) save(ctx context.Context, over ...store.Notice) error {
	w.saved, w.moved = w.now(), false
	w.state.Until = w.saved.Add(w.d.c.Lease)
	return w.d.c.Store.SaveChannel(ctx, w.state, over...)
}

// hold sees to it that the lease is this server's for so long.
func (w *worker) hold(ctx context.Context, long time.Duration) error {
	if w.state.Until.Sub(w.now()) >= long {
		return nil
	}
	return w.save(ctx)
}

// step does a piece of work, if there is any.
func (w *worker) step(ctx context.Context) (worked bool, err error) {
	if w.state.Tries > 0 && w.now().Before(w.state.Next) {
		return false, nil
	}
	if len(w.events) == 0 {
		if w.events, err = w.read(ctx, w.state.Position); err != nil {
			return false, err
		}
	}
	if len(w.events) == 0 {
		return w.tryLate(ctx)
	}
	n, err := w.d.notice(ctx, w.route, w.events[0])
	switch {
	case err != nil:
		return false, err
	case n == nil:
		w.pass()
		return true, nil
	default:
		return true, w.tell(ctx, n)
	}
}

func (w *worker) read(ctx context.Context, from int64) (list []audit.Event, err error) {
	leaves, err := w.d.c.Store.Leaves(ctx, store.LeafFilter{From: from, Limit: readAtOnce})
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, err
}

// pass goes on to the next event. One that stood here has failed no more.
func (w *worker) pass() {
	w.state.Position, w.events = w.events[0].Seq+1, w.events[1:]
	w.state.Tries, w.state.Next, w.moved = 0, time.Time{}, true
}

// tell hands the notice at which the channel stands to it.
func (w *worker) tell(ctx context.Context, n *Notice) error {
	err := w.deliver(ctx, n)
	if ctx.Err() != nil {
		return nil // after the next start it is told again, and perhaps for the second time
	}
	tries := w.state.Tries + 1
	aside := store.Notice{
		Channel: w.state.Name, Position: n.Position, Action: w.events[0].Action, State: store.NoticeAside, Tries: tries, Since: n.At, Error: said(err),
	}
	switch {
	case err == nil:
		w.pass()
		return w.save(ctx)
	case isHold(err):
		w.pass()
		return w.save(ctx, held(aside, err))
	case errors.Is(err, ErrRefused), w.now().Sub(n.At) > w.d.c.Patience:
		w.d.c.Log.WarnContext(ctx, "a notice is set aside", "channel", w.state.Name, "kind", n.Kind, "position", n.Position, "error", err)
		w.d.c.Observe(w.state.Name, n.Kind, Aside)
		w.pass()
		if !errors.Is(err, ErrRefused) { // it is away, and the next one need not hurry
			w.state.Tries, w.state.Next = tries, w.now().Add(w.after(err, tries))
		}
		return w.save(ctx, aside)
	case tries >= suspectFrom:
		over, problem := w.besides(ctx)
		if problem != nil {
			return problem
		}
		if over != nil {
			aside.State, aside.Next = store.NoticeLate, w.now().Add(w.d.c.Pause(tries))
			return w.save(ctx, append(over, aside)...)
		}
	}
	w.state.Tries, w.state.Next = tries, w.now().Add(w.after(err, tries))
	return w.save(ctx)
}

// besides tries the notice after the one at which the channel stands. If the other
// side answers, the channel goes on from there, and besides returns what is to be
// saved with it.
func (w *worker) besides(ctx context.Context) ([]store.Notice, error) {
	rest, last, over := w.events[1:], w.events[len(w.events)-1].Seq, []store.Notice{}
	for range lookAhead {
		for i, e := range rest {
			n, err := w.d.notice(ctx, w.route, e)
			if err != nil {
				return nil, err
			}
			if n == nil {
				continue
			}
			switch err := w.deliver(ctx, n); {
			case isHold(err): // that says nothing of the other side
				over = append(over, held(store.Notice{Channel: w.state.Name, Position: n.Position, Action: e.Action}, err))
				continue
			case errors.Is(err, ErrRefused):
				over = append(over, store.Notice{Channel: w.state.Name, Position: n.Position, Action: e.Action, State: store.NoticeAside, Tries: 1, Since: n.At, Error: said(err)})
			case err != nil || ctx.Err() != nil:
				return nil, nil
			}
			w.events = rest[i:]
			w.pass()
			return over, nil
		}
		var err error
		if rest, err = w.read(ctx, last+1); err != nil || len(rest) == 0 {
			return nil, err
		}
		last = rest[len(rest)-1].Seq
	}
	return nil, nil
}

// tryLate tries a notice again that was stepped over.
func (w *worker) tryLate(ctx context.Context) (worked bool, err error) {
	w.late = time.Time{}
	list, err := w.d.c.Store.LateNotices(ctx, w.state.Name, 1)
	if err != nil || len(list) == 0 {
		return false, err
	}
	late := list[0]
	if w.now().Before(late.Next) {
		w.late = late.Next
		return false, nil
	}
	leaf, err := w.d.c.Store.Leaf(ctx, late.Position)
	if err != nil {
		return false, err
	}
	e, err := audit.Parse(leaf)
	if err != nil {
		return false, err
	}
	n, err := w.d.notice(ctx, w.route, e)
	if err != nil {
		return false, err
	}
	if n != nil {
		err = w.deliver(ctx, n)
	}
	if ctx.Err() != nil {
		return false, nil
	}
	if isHold(err) {
		return true, w.save(ctx, held(late, err))
	}
	late.Tries++
	late.Error, late.Next = said(err), w.now().Add(w.after(err, late.Tries))
	switch {
	case err == nil:
		late.State = store.NoticeDone
	case errors.Is(err, ErrRefused), w.now().Sub(late.Since) > w.d.c.Patience:
		late.State = store.NoticeAside
		w.d.c.Observe(w.state.Name, n.Kind, Aside)
	}
	return true, w.save(ctx, late)
}

// deliver hands one notice to the channel, in bounded time, and notes how that
// ended.
func (w *worker) deliver(ctx context.Context, n *Notice) (err error) {
	if err := w.hold(ctx, w.d.c.Within+w.d.c.Lease/4); err != nil {
		return err
	}
	within, cancel := context.WithTimeoutCause(ctx, w.d.c.Within, errors.New("it took too long"))
	defer cancel()
	err = guarded(within, w.route.Channel, *n)
	if err != nil && within.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(within), err)
	}
	switch {
	case err == nil:
		w.state.SuccessAt = w.now()
		w.d.c.Observe(w.state.Name, n.Kind, Sent)
	case isHold(err):
		w.d.c.Observe(w.state.Name, n.Kind, Held)
	case ctx.Err() == nil:
		w.state.Error, w.state.ErrorAt = said(err), w.now()
		w.d.c.Observe(w.state.Name, n.Kind, Failed)
		w.d.c.Log.WarnContext(ctx, "a notice was not taken", "channel", w.state.Name, "kind", n.Kind, "position", n.Position, "error", err)
	}
	return err
}

func isHold(err error) bool {
	_, is := errors.AsType[*Hold](err)
	return is
}

// held is the notice as it is kept until the channel wants it: as one that has not
// failed yet.
func held(n store.Notice, err error) store.Notice {
	h, _ := errors.AsType[*Hold](err)
	n.State, n.Tries, n.Since, n.Next, n.Error = store.NoticeLate, 0, h.Until, h.Until, said(err)
	return n
}

// guarded keeps a mistake in one channel from the others.
func guarded(ctx context.Context, c Channel, n Notice) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in the channel: %v", r)
		}
	}()
	return c.Notify(ctx, n)
}

// maxError bounds what is kept of an error, in bytes.
const maxError = 500

func said(err error) string {
	if err == nil {
		return ""
	}
	return audit.Clean(err.Error(), maxError)
}

// after is how long to wait after a failure: as the other side wants it, but not
// less than otherwise, and not for longer than the longest pause.
func (w *worker) after(err error, tries int) time.Duration {
	d := w.d.c.Pause(tries)
	if later, ok := errors.AsType[*Later](err); ok {
		d = max(d, min(later.After, longestPause))
	}
	return d
}

// wait waits until there may be work.
func (w *worker) wait(ctx context.Context) error {
	until := w.state.Until.Add(-w.d.c.Lease / 2)
	earlier := func(t time.Time) {
		if t.Before(until) {
			until = t
		}
	}
	if w.moved {
		earlier(w.saved.Add(saveEvery))
	}
	if w.state.Tries > 0 {
		earlier(w.now().Add(time.Second)) // somebody may want it to be tried at once
		earlier(w.state.Next)
	} else if !w.late.IsZero() {
		earlier(w.late)
	}
	ctx, cancel := context.WithTimeout(ctx, max(time.Millisecond, until.Sub(w.now())))
	defer cancel()
	if w.state.Tries > 0 {
		<-ctx.Done()
		return w.look(context.WithoutCancel(ctx))
	}
	_, err := w.d.c.Broker.AwaitEvents(ctx, w.state.Position)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// look sees whether the channel is still this server's, and to be tried at once.
func (w *worker) look(ctx context.Context) error {
	is, err := w.d.c.Store.Channel(ctx, w.state.Name)
	if err == nil && is.Token != w.state.Token {
		err = fmt.Errorf("%s tells now: %w", is.Node, access.ErrConflict)
	}
	w.state.Next = is.Next
	return err
}
