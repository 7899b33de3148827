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

// A Filter picks requests, newest first. Those that wait come in the order in
// which they expire, the last first, and those whose grant is open in that in
// which it was opened.
type Filter struct {
	State  access.RequestState // "": any; Expired is understood
	Mine   bool                // the caller's own, and those of their bots
	Inbox  bool                // pending ones that the caller may decide
	Active bool                // those whose grant is open
	Batch  string              // those that were asked for together
	Before string              // the id of the last request of the page before
	Limit  int                 // default 50, at most 200
}

// maxSieved is about how many rows a list looks at for one page. Who may see little
// of much gets a short page.
const maxSieved = 500

// Requests lists what the caller may see: what they asked for, what they are asked
// to decide on, and, when one of their roles lets them read requests of others,
// what the policy lets them see of these.
func (b *Broker) Requests(ctx context.Context, by access.Caller, f Filter) ([]Case, error) {
	e := event(by, "request.list", "")
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, e); err != nil {
		return nil, err
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 200)
	by, err := b.standing(ctx, b.c.Store, by)
	if err != nil {
		return nil, err
	}
	if f.Inbox && (f.Mine || len(b.groupsFor(by)) == 0) {
		return nil, nil // nobody decides what is their own, and who is in no group is never asked
	}
	from := b.filterFor(by, f)
	var list []Case
	for looked := 0; looked < maxSieved && len(list) < f.Limit; looked += from.Limit {
		page, err := b.c.Store.Requests(ctx, from)
		if err != nil {
			return nil, err
		}
		cases, err := b.casesOf(ctx, by, f, page)
		if err != nil {
			return nil, err
		}
		list = append(list, cases...)
		if len(page) < from.Limit {
			break
		}
		from.Before = page[len(page)-1].ID
	}
	return list[:min(len(list), f.Limit)], nil
}

// filterFor is what the store can sieve by.
func (b *Broker) filterFor(by access.Caller, f Filter) store.RequestFilter {
	from := store.RequestFilter{State: f.State, Batch: f.Batch, Before: f.Before, Limit: f.Limit}
	now := b.now()
	switch {
	case f.Active:
		from.State, from.Open = "", now
	case f.Inbox, f.State == access.Pending:
		from.State, from.Waiting = "", now
	case f.State == access.Expired:
		from.State, from.Overdue = "", now
	}
	switch {
	case f.Mine:
		from.Requester, from.Owner = by.User.ID, by.User.ID
	case f.Inbox:
		from.Asked = b.groupsFor(by)
	case !b.reach(by).Any(policy.ActionRequestRead):
		from.Requester, from.Owner, from.Asked = by.User.ID, by.User.ID, b.groupsFor(by)
	}
	return from
}

// groupsFor are the groups with which the caller may vote, in whosever place.
func (b *Broker) groupsFor(by access.Caller) []string {
	groups := slices.Clone(b.present(by.User).Groups)
	for _, u := range by.StandsFor {
		groups = append(groups, u.Groups...)
	}
	return distinct(groups)
}

// reach is what the caller's roles mention; see policy.Reach.
func (b *Broker) reach(by access.Caller) policy.Reach {
	return b.c.Policy.Reach(b.input(question{by: by}).User)
}

// casesOf asks the policy which of the requests the caller may see, and looks at
// these. What they have in common is read once.
func (b *Broker) casesOf(ctx context.Context, by access.Caller, f Filter, page []access.Request) ([]Case, error) {
	now := b.now()
	var approved, targetIDs []string
	for i := range page {
		targetIDs = append(targetIDs, page[i].TargetID)
		if page[i].State == access.Approved {
			approved = append(approved, page[i].ID)
		}
	}
	targets, err := b.c.Store.TargetsByID(ctx, distinct(targetIDs))
	if err != nil {
		return nil, err
	}
	grants, err := b.c.Store.GrantsOf(ctx, approved)
	if err != nil {
		return nil, err
	}
	var cases []Case
	for _, r := range page {
		c := Case{Request: r}
		if g, ok := grants[r.ID]; ok {
			c.Grant = &g
		}
		// It may have been decided, or be over, since it was found; and a request and its
		// grant, which are written at once, may have been read before and after that.
		if r.State == access.Approved && c.Grant == nil || f.State != "" && r.StateAt(now) != f.State ||
			f.Active && c.Grant.StateAt(now) == access.Ended || f.Inbox && r.StateAt(now) != access.Pending {
			continue
		}
		cases = append(cases, c)
	}
	if f.Inbox { // most are not for this caller, or not any more
		if err := b.lookAt(ctx, by, cases, targets); err != nil {
			return nil, err
		}
		cases = slices.DeleteFunc(cases, func(c Case) bool { return !c.MayDecide && !c.NeedsFactor })
	}
	for i := 0; i < len(cases) && err == nil; {
		r := &cases[i].Request
		t := targetIn(targets, r.TargetID, r.TargetName)
		_, err = b.decideNow(ctx, question{action: policy.ActionRequestRead, by: by, target: &t, account: r.Account, request: r})
		if errors.Is(err, access.ErrDenied) {
			cases, err = slices.Delete(cases, i, i+1), nil
			continue
		}
		i++
	}
	if err == nil && !f.Inbox {
		err = b.lookAt(ctx, by, cases, targets)
	}
	return cases, err
}

// targetIn is targetOrRemoved of what was read already.
func targetIn(targets map[string]access.Target, id, name string) access.Target {
	if t, ok := targets[id]; ok {
		return t
	}
	return access.Target{ID: id, Name: name, Locked: true}
}

func distinct(ids []string) []string {
	slices.Sort(ids)
	return slices.Compact(ids)
}

// look adds what the caller sees of a case besides its facts.
func (b *Broker) look(ctx context.Context, by access.Caller, c Case) (Case, error) {
	cases := []Case{c}
	by, err := b.standing(ctx, b.c.Store, by)
	if err == nil {
		err = b.lookAt(ctx, by, cases, nil)
	}
	return cases[0], err
}

// lookAt is look for many cases, by a caller of whom it is known in whose place
// they vote. It reads the targets when they are nil.
func (b *Broker) lookAt(ctx context.Context, by access.Caller, cases []Case, targets map[string]access.Target) error {
	now, known := b.now(), b.people()
	by.User = b.present(by.User)
	if targets == nil {
		var ids []string
		for _, c := range cases {
			ids = append(ids, c.Request.TargetID)
		}
		var err error
		if targets, err = b.c.Store.TargetsByID(ctx, ids); err != nil {
			return err
		}
	}
	if err := b.lookForLeases(ctx, cases); err != nil {
		return err
	}
	for i := range cases {
		c := &cases[i]
		c.NeedsFactor, c.DenyNeedsFactor, c.HandedBy, c.HandedNote = false, false, "", ""
		c.MayDecide, c.InPlaceOf, c.Waiting, c.Escalates, c.EscalateTo = false, "", nil, time.Time{}, nil
		if c.Request.StateAt(now) != access.Pending {
			continue
		}
		if h := c.Request.HandedTo(by.User.ID); h != nil {
			c.HandedBy, c.HandedNote = h.ByName, h.Note
		}
		votes, asked, err := b.askedAmong(ctx, known, &c.Request)
		if err != nil {
			return err
		}
		for _, a := range asked {
			if a.InPlaceOf != "" {
				a.User.Name += " (for " + a.InPlaceOf + ")"
			}
			c.Waiting = append(c.Waiting, a.User.Name)
		}
		stage := votes.stage(now)
		if stage != nil {
			c.Escalates, c.EscalateTo = stage.Escalation(now)
		}
		seat := votes.seat(by, stage)
		if !votes.voted(by.User.ID) && votes.wants(seat, stage) {
			t := targetIn(targets, c.Request.TargetID, c.Request.TargetName)
			q := question{action: policy.ActionApprove, by: by, seat: &seat, target: &t, account: c.Request.Account, request: &c.Request, votes: votes}
			_, err := b.decideNow(ctx, q)
			c.MayDecide = err == nil
			if wantsFactor(err) {
				q.by.MFAAt = now
				_, err = b.decideNow(ctx, q)
				c.NeedsFactor = err == nil
				q.action, q.by = policy.ActionDeny, by
				_, err = b.decideNow(ctx, q)
				c.DenyNeedsFactor = c.NeedsFactor && wantsFactor(err)
			}
			if (c.MayDecide || c.NeedsFactor) && seat.ID != by.User.ID {
				c.InPlaceOf = seat.Name
			}
		}
	}
	return nil
}
