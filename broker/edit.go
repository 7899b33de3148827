package broker

import (
	"context"
	"errors"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Edit changes what a pending request of the caller asks for. The policy is asked
// as for a new one, and what it says now counts. All votes are void, since they
// were for something else.
func (b *Broker) Edit(ctx context.Context, by access.Caller, id string, edit access.Edit) (Case, error) {
	if err := b.refresh(ctx); err != nil {
		return Case{}, b.refused(ctx, event(by, "request.edit", id), policyDown(err))
	}
	if !edit.Start.IsZero() {
		if err := checkStart(edit.Start, b.now()); err != nil {
			return Case{}, err
		}
	}
	ticket, err := b.checkEdited(ctx, by, id, edit)
	if err != nil {
		return Case{}, b.refused(ctx, event(by, "request.edit", id), err)
	}
	var c Case
	err = b.changeAsDecided(ctx, func(tx *store.Tx) (audit.Event, error) {
		c = Case{}
		e := event(by, "request.edit", id)
		by, err := b.acting(ctx, tx, by)
		if err != nil {
			return e, err
		}
		r, err := tx.Request(ctx, id)
		if err != nil {
			return e, unknownRequest(err, id)
		}
		e.Object, e.Request, e.Target, e.Account = r.ID, r.ID, r.TargetName, r.Account
		target, votes, err := b.around(ctx, tx, &r)
		if err != nil {
			return e, err
		}
		if _, err := b.decideNow(ctx, question{action: policy.ActionRequestRead, by: by, target: target, account: r.Account, request: &r, votes: votes}); err != nil {
			if errors.Is(err, access.ErrDenied) {
				err = unknownRequest(access.ErrNotFound, id)
			}
			return e, err
		}
		detail(&e, "was", r.Digest())
		if err := r.Edit(by.User, edit, tx.Now()); err != nil {
			return e, err
		}
		if edit.Reason != "" {
			r.TicketCheck = ticket
		}
		if err := b.rule(ctx, tx, by, target, &r); err != nil {
			return e, err
		}
		requestDetails(&e, &r)
		e.Reason = r.Reason
		if err := tx.RemoveVotes(ctx, r.ID, ""); err != nil {
			return e, err
		}
		if len(r.Needs) == 0 {
			if err := r.Admit(tx.Now()); err != nil {
				return e, err
			}
		}
		if err := tx.SaveRequest(ctx, &r); err != nil {
			return e, err
		}
		c.Request = r
		if r.State == access.Approved {
			c.Grant, err = b.openGrant(ctx, tx, by, &r)
		}
		return e, err
	})
	if err != nil {
		return Case{}, err
	}
	return b.look(ctx, by, c)
}
