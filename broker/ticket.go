package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
)

// A TicketQuestion asks whether a ticket holds for what somebody wants to do.
type TicketQuestion struct {
	Ticket  string
	User    access.User
	Target  string // name
	Account string
}

// A TicketSystem is asked about tickets. CheckTicket returns within seconds,
// whatever the system does: what cannot be told is not valid, and Why says so. It
// is safe for concurrent use.
type TicketSystem interface {
	CheckTicket(ctx context.Context, q TicketQuestion) access.TicketCheck
}

// underTicket is how far back other requests under the same ticket count.
const underTicket = 30 * 24 * time.Hour

// maxUnderTicket bounds the people that are read for one ticket.
const maxUnderTicket = 200

// checkTicket asks the ticket system, before the change that needs its answer: no
// verb waits for another machine inside a transaction. It is asked only when the
// policy wants to know, so nobody without a right to the target has it asked.
func (b *Broker) checkTicket(ctx context.Context, by access.Caller, q question) (access.TicketCheck, error) {
	none := access.TicketCheck{}
	if q.request.Ticket == "" {
		return none, nil
	}
	q.ticket = &none
	d, err := b.c.Policy.Decide(ctx, b.input(q))
	if err != nil {
		return none, policyDown(err)
	}
	if !slices.ContainsFunc(d.Reasons, func(r policy.Reason) bool { return r.Rule == "condition.valid_ticket" }) {
		return none, nil
	}
	if b.c.Tickets == nil {
		return access.TicketCheck{ID: q.request.Ticket, Why: "no ticket system is set up that could be asked; the operator sets tickets.kind"}, nil
	}
	return b.c.Tickets.CheckTicket(ctx, TicketQuestion{Ticket: q.request.Ticket, User: by.User, Target: q.target.Name, Account: q.account}), nil
}

// checkAsked is checkTicket for a request that is about to be made. What is not
// known here is refused later, inside the change.
func (b *Broker) checkAsked(ctx context.Context, by access.Caller, ask Ask) (access.TicketCheck, error) {
	ticket := access.Ticket(ask.Reason)
	if ticket == "" || !b.circumstances.Load().tickets {
		return access.TicketCheck{}, nil
	}
	t, err := b.c.Store.Target(ctx, ask.Target)
	if errors.Is(err, access.ErrNotFound) {
		err = nil
	}
	if err != nil || t.ID == "" {
		return access.TicketCheck{}, err
	}
	r := &access.Request{RequesterID: by.User.ID, Reason: ask.Reason, Ticket: ticket, Duration: time.Second, BreakGlass: ask.BreakGlass}
	return b.checkTicket(ctx, by, question{action: policy.ActionRequest, by: by, target: &t, account: ask.Account, request: r})
}

// checkEdited is checkTicket for a request of the caller's that gets another reason.
func (b *Broker) checkEdited(ctx context.Context, by access.Caller, id string, edit access.Edit) (access.TicketCheck, error) {
	if edit.Reason == "" {
		return access.TicketCheck{}, nil
	}
	r, err := b.c.Store.Request(ctx, id)
	if errors.Is(err, access.ErrNotFound) || r.RequesterID != by.User.ID {
		return access.TicketCheck{}, nil // refused later
	}
	if err != nil {
		return access.TicketCheck{}, err
	}
	return b.checkAsked(ctx, by, Ask{Target: r.TargetName, Account: r.Account, Reason: edit.Reason, BreakGlass: r.BreakGlass})
}

// checkGranted is checkTicket for a grant that is about to be used: a ticket that
// was closed, or given to somebody else, does not open sessions any more.
func (b *Broker) checkGranted(ctx context.Context, by access.Caller, grantID string) (*access.TicketCheck, error) {
	if !b.circumstances.Load().tickets {
		return nil, nil
	}
	g, err := b.c.Store.Grant(ctx, grantID)
	if errors.Is(err, access.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := b.c.Store.Request(ctx, g.RequestID)
	if err != nil || r.TicketCheck.ID == "" || g.UserID != by.User.ID {
		return nil, err
	}
	t, err := targetOrRemoved(ctx, b.c.Store, r.TargetID, r.TargetName)
	if err != nil {
		return nil, err
	}
	check, err := b.checkTicket(ctx, by, question{action: policy.ActionConnect, by: by, target: &t, account: g.Account, request: &r})
	return &check, err
}

// sharing says who else has asked and approved under the request's ticket.
type sharing struct{ requesters, approvers []string }

func (b *Broker) sharing(ctx context.Context, tx *store.Tx, r *access.Request) (s sharing, err error) {
	if r.Ticket == "" || !b.circumstances.Load().separate {
		return s, nil
	}
	s.requesters, s.approvers, err = tx.UnderTicket(ctx, r.Ticket, r.ID, tx.Now().Add(-underTicket), maxUnderTicket)
	return s, err
}
