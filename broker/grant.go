package broker

import (
	"context"
	"errors"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Extend lengthens an open grant by d; the policy is asked again for the whole
// time. Where the policy would want approvals for it, those that were given
// count, as the groups of their givers are now.
func (b *Broker) Extend(ctx context.Context, by access.Caller, id string, d time.Duration) (Case, error) {
	if err := access.CheckDuration(d); err != nil {
		return Case{}, err
	}
	return b.changeGrant(ctx, by, id, policy.ActionExtend, "grant.extend", d, func(tx *store.Tx, by access.Caller, _ *access.Request, g *access.Grant, ruling policy.Decision, e *audit.Event) error {
		longest := ruling.MaxDuration
		if g.BreakGlass {
			longest = min(longest, b.c.Glass.MaxDuration)
		}
		if err := g.Extend(d, longest, tx.Now()); err != nil {
			return err
		}
		detail(e, "by", access.FormatDuration(d))
		detail(e, "end", g.End.UTC().Format(time.RFC3339))
		return prolongLease(ctx, tx, g)
	})
}

// Release gives the caller's own grant back. It is one way, and ends every
// session of it.
func (b *Broker) Release(ctx context.Context, by access.Caller, id string) (Case, error) {
	return b.changeGrant(ctx, by, id, policy.ActionRelease, "grant.release", 0, func(tx *store.Tx, by access.Caller, r *access.Request, g *access.Grant, _ policy.Decision, e *audit.Event) error {
		if err := g.Release(by.User, r.OwnerID, tx.Now()); err != nil {
			return err
		}
		if err := b.endLeases(ctx, tx, by, store.LeaseFilter{Grant: g.ID}, access.EndReleased); err != nil {
			return err
		}
		return revokeCertificates(ctx, tx, e, store.OfGrant(g.ID))
	})
}

// Revoke takes somebody's grant away, with a reason, and ends every session of
// it.
func (b *Broker) Revoke(ctx context.Context, by access.Caller, id, reason string) (Case, error) {
	if err := access.CheckReason(reason); err != nil {
		return Case{}, err
	}
	return b.changeGrant(ctx, by, id, policy.ActionRevoke, "grant.revoke", 0, func(tx *store.Tx, by access.Caller, _ *access.Request, g *access.Grant, _ policy.Decision, e *audit.Event) error {
		e.Reason = reason
		if err := g.Revoke(by.User, reason, tx.Now()); err != nil {
			return err
		}
		if err := b.endLeases(ctx, tx, by, store.LeaseFilter{Grant: g.ID}, access.EndRevoked); err != nil {
			return err
		}
		return revokeCertificates(ctx, tx, e, store.OfGrant(g.ID))
	})
}

// changeGrant is the way of the verbs that change an open grant.
func (b *Broker) changeGrant(ctx context.Context, by access.Caller, id string, action policy.Action, name string, d time.Duration, move func(*store.Tx, access.Caller, *access.Request, *access.Grant, policy.Decision, *audit.Event) error) (Case, error) {
	if err := b.refresh(ctx); err != nil {
		return Case{}, b.refused(ctx, event(by, name, id), policyDown(err))
	}
	var c Case
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		c = Case{}
		e := event(by, name, id)
		by, err := b.acting(ctx, tx, by)
		if err != nil {
			return e, err
		}
		g, r, err := grantOf(ctx, tx, id)
		if err != nil {
			return e, unknownRequest(err, id)
		}
		e.Request, e.Target, e.Account = r.ID, r.TargetName, r.Account
		target, votes, err := b.around(ctx, tx, r)
		if err != nil {
			return e, err
		}
		q := question{action: policy.ActionRequestRead, by: by, target: target, account: r.Account, request: r, votes: votes}
		if _, err := b.decideNow(ctx, q); err != nil {
			if errors.Is(err, access.ErrDenied) {
				err = unknownRequest(access.ErrNotFound, id)
			}
			return e, err
		}
		if g == nil {
			return e, &access.Error{Kind: access.ErrConflict, Code: "DB-3007", Text: r.ID + " is " + string(r.StateAt(tx.Now())) + ": there is no grant", Next: "drawbolt status " + r.ID}
		}
		e.Object, e.Grant = g.ID, g.ID
		q.action = action
		if d != 0 {
			q.duration = g.Duration + d
		}
		decision, err := b.decideIn(ctx, tx, q)
		if err != nil {
			return e, err
		}
		e.Rule = decision.Rule
		detail(&e, "decision", decision.ID)
		if err := move(tx, by, r, g, decision, &e); err != nil {
			return e, err
		}
		c = Case{Request: *r, Grant: g}
		return e, tx.SaveGrant(ctx, g)
	})
	if err != nil {
		return Case{}, err
	}
	if c.Grant != nil {
		b.cut(ctx, func(l *Live) bool { return l.Grant.ID == c.Grant.ID })
	}
	return c, nil
}

// grantOf reads a request and its grant (nil when there is none yet), by the
// id of either. What is read is locked: the grant always comes first, because
// two who lock in different orders would wait for each other until the database
// sends one of them back, and a revocation must not wait.
func grantOf(ctx context.Context, tx *store.Tx, id string) (*access.Grant, *access.Request, error) {
	if !access.ValidID(access.GrantPrefix, id) && !access.ValidID(access.RequestPrefix, id) {
		return nil, nil, access.ErrNotFound
	}
	var grant *access.Grant
	switch g, err := tx.Grant(ctx, id); {
	case err == nil:
		grant, id = &g, g.RequestID
	case !errors.Is(err, access.ErrNotFound):
		return nil, nil, err
	case !access.ValidID(access.RequestPrefix, id):
		return nil, nil, err
	}
	r, err := tx.Request(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if grant == nil && r.State == access.Approved { // between the two reads
		g, err := tx.Grant(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		grant = &g
	}
	return grant, &r, nil
}
