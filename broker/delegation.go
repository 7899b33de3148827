package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A standing reads who votes in whose place: a transaction, or the store.
type standing interface {
	StandsFor(ctx context.Context, userID string, t time.Time) ([]access.User, error)
}

// standing completes the caller: with those in whose place they vote now, as they
// are now.
func (b *Broker) standing(ctx context.Context, from standing, by access.Caller) (access.Caller, error) {
	list, err := from.StandsFor(ctx, by.User.ID, b.now())
	by.StandsFor = nil
	for _, u := range list {
		by.StandsFor = append(by.StandsFor, b.present(u))
	}
	return by, err
}

// Delegate hands the votes of a user ("" is the caller) to the one of that name,
// from one moment to another, in place of what was handed over before. Whose
// votes they are, and who may change users, does so; but nobody gives themselves
// the votes of somebody else.
func (b *Broker) Delegate(ctx context.Context, by access.Caller, user, to string, from, until time.Time, reason string) (access.Delegation, error) {
	var d access.Delegation
	err := b.delegation(ctx, by, user, "user.delegate", func(tx *store.Tx, by access.Caller, u *access.User, e *audit.Event) error {
		e.Reason = audit.Clean(reason, audit.MaxReason)
		delegate, err := tx.User(ctx, to)
		if err != nil {
			return unknownUser(err, to)
		}
		if from.IsZero() {
			from = tx.Now()
		}
		d = access.Delegation{
			UserID: u.ID, UserName: u.Name, DelegateID: delegate.ID, DelegateName: delegate.Name,
			From: from.UTC().Truncate(time.Microsecond), Until: until.UTC().Truncate(time.Microsecond), Reason: reason, Version: 1,
		}
		detail(e, "delegate", delegate.Name)
		detail(e, "from", d.From.Format(time.RFC3339))
		detail(e, "until", d.Until.Format(time.RFC3339))
		switch {
		case u.Bot || !mayVoteAtAll(delegate):
			return &access.Error{Kind: access.ErrInvalid, Code: "DB-6139", Text: fmt.Sprintf("%s cannot vote for %s: bots and people who are locked neither vote nor hand votes over", delegate.Name, u.Name), Next: "name somebody else"}
		case u.ID != by.User.ID && delegate.ID == by.User.ID:
			return ownRights
		}
		if err := d.Validate(tx.Now()); err != nil {
			return err
		}
		return tx.SetDelegation(ctx, &d)
	})
	return d, err
}

// EndDelegation takes the votes of a user ("" is the caller) back. The votes that
// were given stay.
func (b *Broker) EndDelegation(ctx context.Context, by access.Caller, user string) error {
	return b.delegation(ctx, by, user, "user.undelegate", func(tx *store.Tx, by access.Caller, u *access.User, e *audit.Event) error {
		err := tx.RemoveDelegation(ctx, u.ID)
		if errors.Is(err, access.ErrNotFound) {
			err = &access.Error{Kind: access.ErrNotFound, Code: "DB-6140", Text: u.Name + " has handed no votes over", Next: "drawbolt away"}
		}
		return err
	})
}

// delegation is the way of the two verbs above.
func (b *Broker) delegation(ctx context.Context, by access.Caller, user, name string, change func(*store.Tx, access.Caller, *access.User, *audit.Event) error) error {
	action := policy.ActionUserWrite
	if user == "" || user == by.User.Name {
		action, user = policy.ActionDelegate, by.User.ID
	}
	e := event(by, name, user)
	if err := b.refresh(ctx); err != nil {
		return b.refused(ctx, e, policyDown(err))
	}
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := event(by, name, user)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		d, err := b.decideNow(ctx, question{action: action, by: by, owner: by.User.ID})
		if err != nil {
			return e, err
		}
		e.Rule = d.Rule
		detail(&e, "decision", d.ID)
		u, err := tx.User(ctx, user)
		if err != nil {
			return e, unknownUser(err, user)
		}
		e.Object = u.ID
		detail(&e, "name", u.Name)
		return e, change(tx, by, &u, &e)
	})
}

// Delegations lists who votes for whom: for the caller and by the caller; and of
// everybody, to who may read users and asks for all.
func (b *Broker) Delegations(ctx context.Context, by access.Caller, all bool) ([]access.Delegation, error) {
	action, of := policy.ActionDelegate, by.User.ID
	if all {
		action, of = policy.ActionUserRead, ""
	}
	if _, err := b.allow(ctx, question{action: action, by: by, owner: by.User.ID}, event(by, "user.delegations", of)); err != nil {
		return nil, err
	}
	return b.c.Store.Delegations(ctx, of, b.now())
}
