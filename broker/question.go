package broker

import (
	"context"
	"errors"
	"strconv"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Ask asks the requester of a pending request a question. Who may say no may ask
// first: the policy is asked as for a no. The request stays as it is, with all its
// votes; see access.Question. Whoever waits for it looks again.
func (b *Broker) Ask(ctx context.Context, by access.Caller, id, text string) (Case, error) {
	return b.decideRequest(ctx, by, id, policy.ActionDeny, "request.question", func(tx *store.Tx, by access.Caller, r *access.Request, _ voting, e *audit.Event) error {
		if err := mayBeSaid(by); err != nil {
			return err
		}
		if err := r.Ask(by.User, text, tx.Now()); err != nil {
			return err
		}
		e.Reason = text
		number(e, "question", len(r.Questions))
		detail(e, "for", r.RequesterID)
		return nil
	})
}

// Answer answers a question about the caller's own pending request: that of the
// number, counted from 1, or with 0 the only one that is open.
func (b *Broker) Answer(ctx context.Context, by access.Caller, id string, question int, text string) (Case, error) {
	return b.decideRequest(ctx, by, id, policy.ActionRequestRead, "request.answer", func(tx *store.Tx, by access.Caller, r *access.Request, _ voting, e *audit.Event) error {
		n := question
		if open := r.OpenQuestions(); n == 0 && len(open) == 1 {
			n = open[0]
		}
		q, err := r.Answer(by.User, n, text, tx.Now())
		if err != nil {
			return err
		}
		e.Reason = text
		number(e, "question", n)
		detail(e, "for", q.ByID)
		return nil
	})
}

// HandOver calls another person to decide on a pending request in the caller's
// stead: one who could decide on it now without that. Nobody gains or loses a
// right by it; the other one is told, and finds it by name. Both must be people who
// may decide, and of the other the policy is asked as if they had just shown
// their second factor, from where the caller is.
func (b *Broker) HandOver(ctx context.Context, by access.Caller, id, to, note string) (Case, error) {
	known, err := b.c.Store.User(ctx, to)
	if err != nil && !errors.Is(err, access.ErrNotFound) {
		return Case{}, err
	}
	return b.decideRequest(ctx, by, id, policy.ActionDeny, "request.handover", func(tx *store.Tx, by access.Caller, r *access.Request, votes voting, e *audit.Event) error {
		if err := mayBeSaid(by); err != nil {
			return err
		}
		// Whoever votes at this moment reads themselves first and the request then, so
		// this reads them as those do, beside one another.
		other, err := tx.Actor(ctx, known.ID)
		if errors.Is(err, access.ErrNotFound) {
			return cannotDecide(r, to) // in the words for somebody without the right: who is here is no matter of theirs
		}
		if err != nil {
			return err
		}
		if r.StateAt(tx.Now()) == access.Pending {
			if err := b.couldDecide(ctx, tx, by, other, r, votes); err != nil {
				return err
			}
		}
		if err := r.HandOver(by.User, other, note, tx.Now()); err != nil {
			return err
		}
		e.Reason = note
		detail(e, "to", other.Name)
		detail(e, "for", other.ID)
		return nil
	})
}

// couldDecide refuses somebody whose yes to a pending request would not count now.
func (b *Broker) couldDecide(ctx context.Context, tx *store.Tx, by access.Caller, other access.User, r *access.Request, votes voting) error {
	to, err := b.standing(ctx, tx, access.Caller{User: b.present(other), Source: by.Source, Via: by.Via, MFAAt: tx.Now()})
	if err != nil {
		return err
	}
	target, err := targetOrRemoved(ctx, tx, r.TargetID, r.TargetName)
	if err != nil {
		return err
	}
	votes.join(to)
	stage := votes.stage(tx.Now())
	seat := votes.seat(to, stage)
	if other.ID == r.RequesterID || other.ID == r.OwnerID || !mayVoteAtAll(other) || votes.voted(other.ID) || !votes.wants(seat, stage) {
		return cannotDecide(r, other.Name)
	}
	_, err = b.decideNow(ctx, question{action: policy.ActionApprove, by: to, seat: &seat, target: &target, account: r.Account, request: r, votes: votes})
	if errors.Is(err, access.ErrDenied) {
		return cannotDecide(r, other.Name)
	}
	return err
}

func cannotDecide(r *access.Request, name string) error {
	return &access.Error{Kind: access.ErrDenied, Code: "DB-6327", Rule: "handover.right", Next: "drawbolt status " + r.ID,
		Text: "a hand-over gives no right, and " + strconv.Quote(audit.Clean(name, access.MaxName)) + " could not decide on " + r.ID + " now"}
}

// mayBeSaid refuses what only a person says.
func mayBeSaid(by access.Caller) error {
	if by.User.Bot {
		return &access.Error{Kind: access.ErrDenied, Code: "DB-6326", Rule: "ask.person", Text: "a bot asks nobody, and hands nothing over"}
	}
	return nil
}
