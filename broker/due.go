package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A duty puts on record that something has fallen due by the clock alone. It is
// called inside a change with the id of the thing, which it reads, and returns the
// event that says so; besides the event it may change what it has read. An event
// without an action says that it is not due (any more). again is when to look
// again; zero: never.
//
// Nothing depends on it: what something is at a moment is computed from the clock.
// A duty only lets people, and whoever reads the log, hear of it.
type duty func(ctx context.Context, tx *store.Tx, id string) (e audit.Event, again time.Time, err error)

// duties are what falls due, by the action of its event. To add one, give its
// function here, and its time by store.Tx.SetDue in each change that makes or moves
// it.
func (b *Broker) duties() map[string]duty {
	all := map[string]duty{
		store.DueExpire:   b.expireRequest,
		store.DueEscalate: b.escalateRequest,
		store.DueEnd:      b.endGrant,

		store.DueGlassReview: b.remindGlass,
		store.DueCampaign:    b.remindCampaign,
	}
	if b.c.Digest != nil {
		all[DueDigest] = b.digest
	}
	return all
}

const (
	dueEvery = time.Second // how often it is looked for what is due
	dueAtOne = 100         // things at a time
	dueAgain = time.Minute // until one that could not be put on record is tried again
)

// settleDues puts on record what falls due until ctx ends. Every server does; each
// thing is put on record by one of them, once.
func (b *Broker) settleDues(ctx context.Context) {
	duties := b.duties()
	kinds := slices.Sorted(maps.Keys(duties))
	tick := time.NewTicker(dueEvery)
	defer tick.Stop()
	begun := false
	for away := false; ; {
		var list []store.Due
		var err error
		if !begun {
			err = b.beginDigests(ctx)
			begun = err == nil
		}
		if begun {
			list, err = b.c.Store.Dues(ctx, kinds, dueAtOne)
		}
		for _, d := range list {
			if err = b.settle(ctx, d, duties[d.Kind]); err != nil {
				break
			}
		}
		if err != nil && ctx.Err() == nil && !away {
			b.c.Log.ErrorContext(ctx, "what has fallen due is not put on record", "error", err)
		}
		away = err != nil
		if !away && len(list) == dueAtOne {
			continue // there may be more
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// settle does one duty. The error is one after which the others need not be tried.
func (b *Broker) settle(ctx context.Context, d store.Due, do duty) error {
	again := time.Time{}
	err := b.change(ctx, func(tx *store.Tx) (e audit.Event, err error) {
		if e, again, err = do(ctx, tx, d.Object); err == nil && e.Action == "" {
			err = errNotDue
		}
		if err == nil {
			err = tx.SettleDue(ctx, d, again)
		}
		if err != nil {
			return audit.Event{}, err // there is no attempt of anybody to record
		}
		return e, nil
	})
	switch {
	case err == nil, errors.Is(err, store.ErrSettled):
		return nil
	case errors.Is(err, access.ErrUnavailable):
		return err
	case errors.Is(err, access.ErrNotFound):
		again = time.Time{} // it is gone
	case !errors.Is(err, errNotDue):
		b.c.Log.ErrorContext(ctx, "it is not put on record that something has fallen due", "what", d.Kind, "object", d.Object, "error", err)
		again = b.now().Add(dueAgain)
	}
	if err := b.c.Store.PostponeDue(ctx, d, again); !errors.Is(err, store.ErrSettled) {
		return err
	}
	return nil
}

var errNotDue = errors.New("it is not due")

// expireRequest: nobody has decided in time.
func (b *Broker) expireRequest(ctx context.Context, tx *store.Tx, id string) (e audit.Event, again time.Time, err error) {
	r, err := tx.Request(ctx, id)
	if err != nil {
		return e, again, err
	}
	switch r.StateAt(tx.Now()) {
	case access.Pending:
		return e, r.ExpiresAt, nil
	case access.Expired:
		e = event(access.System(), store.DueExpire, r.ID)
		e.Request, e.Target, e.Account, e.Rule = r.ID, r.TargetName, r.Account, r.Policy.Rule
		e.Reason = "nobody decided in time"
		detail(&e, "requester", r.RequesterName)
		detail(&e, "at", r.ExpiresAt.UTC().Format(time.RFC3339))
	}
	return e, again, nil
}

// escalateRequest: nobody has decided so far, and more people are asked from now
// on.
func (b *Broker) escalateRequest(ctx context.Context, tx *store.Tx, id string) (e audit.Event, again time.Time, err error) {
	r, err := tx.Request(ctx, id)
	if err != nil || r.StateAt(tx.Now()) != access.Pending {
		return e, again, err
	}
	_, votes, err := b.around(ctx, tx, &r)
	if err != nil {
		return e, again, err
	}
	stage := votes.stage(tx.Now())
	if stage == nil {
		return e, again, nil
	}
	again, _ = stage.Escalation(tx.Now())
	to := stage.Escalated()
	if len(to) == 0 {
		return e, again, nil
	}
	if err := tx.RaiseVersion(ctx, &r); err != nil { // whoever waits for it looks again
		return e, again, err
	}
	e = event(access.System(), store.DueEscalate, r.ID)
	e.Request, e.Target, e.Account, e.Rule = r.ID, r.TargetName, r.Account, r.Policy.Rule
	e.Reason = "nobody has decided so far"
	detail(&e, "requester", r.RequesterName)
	detail(&e, "to", strings.Join(to, " "))
	return e, again, nil
}

// endGrant: its time is over. One that somebody has ended has been told of then.
func (b *Broker) endGrant(ctx context.Context, tx *store.Tx, id string) (e audit.Event, again time.Time, err error) {
	g, err := tx.Grant(ctx, id)
	if err != nil {
		return e, again, err
	}
	reason, at, ended := g.EndAt(tx.Now())
	switch {
	case !ended:
		return e, g.End, nil
	case reason == access.EndExpired:
		e = event(access.System(), store.DueEnd, g.ID)
		e.Request, e.Grant, e.Target, e.Account, e.Rule = g.RequestID, g.ID, g.TargetName, g.Account, g.Policy.Rule
		if e.Reason = "its time is over"; g.Start.IsZero() {
			e.Reason = "it was not used in time"
		}
		detail(&e, "holder", g.UserName)
		detail(&e, "at", at.UTC().Format(time.RFC3339))
		err = b.endLeases(ctx, tx, access.System(), store.LeaseFilter{Grant: g.ID}, access.EndExpired)
	}
	return e, again, err
}
