package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
)

// A Filter picks requests, newest first. Those that wait come in the order in
// which they expire, the last first, and those whose grant is open in that in
// which it was opened.
type Filter struct {
	State  access.RequestState // "": any; Expired is understood
	Mine   bool                // the caller's own
	Inbox  bool                // pending ones that the caller may decide
	Active bool                // those whose grant is open
	Batch  string              // those that were asked for together
	Before string              // the id of the last request of the page before
	Limit  int                 // default 50, at most 200
}

const (
	// maxSieved is about how many rows a list looks at for one page. Who may see
	// little of much gets a short page.
	maxSieved = 500
	// maxWaiting is how many names a Case has of those who may still decide.
	maxWaiting = 50
)

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
	if f.Inbox && (f.Mine || len(by.User.Groups) == 0) {
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
		from.Requester = by.User.ID
	case f.Inbox:
		from.Asked = by.User.Groups
	case !b.reach(by).Any(policy.ActionRequestRead):
		from.Requester, from.Asked = by.User.ID, by.User.Groups
	}
	return from
}

// reach is what the caller's roles mention; see policy.Reach.
func (b *Broker) reach(by access.Caller) policy.Reach {
	return b.c.Policy.Reach(b.input(question{by: by}).User)
}

// casesOf asks the policy which of the requests the caller may see, and looks at
// these. What they have in common is read once.
func (b *Broker) casesOf(ctx context.Context, by access.Caller, f Filter, page []access.Request) ([]Case, error) {
	now := b.now()
	var approved []string
	targetIDs := make([]string, len(page))
	for i := range page {
		targetIDs[i] = page[i].TargetID
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
		switch {
		case r.State == access.Approved && c.Grant == nil:
			continue // both are written at once; this one was read in between
		case f.State != "" && r.StateAt(now) != f.State, f.Active && c.Grant.StateAt(now) == access.Ended:
			continue // decided, or over, since it was found
		case f.Inbox && (r.StateAt(now) != access.Pending || !b.mayVote(by.User, &r)):
			continue
		}
		t := targetIn(targets, r.TargetID, r.TargetName)
		_, err := b.decideNow(ctx, question{action: policy.ActionRequestRead, by: by, target: &t, account: r.Account, request: &r})
		if errors.Is(err, access.ErrDenied) {
			continue
		}
		if err != nil {
			return nil, err
		}
		cases = append(cases, c)
	}
	if err := b.lookAt(ctx, by, cases, targets); err != nil {
		return nil, err
	}
	if f.Inbox {
		cases = slices.DeleteFunc(cases, func(c Case) bool { return !c.MayDecide })
	}
	return cases, nil
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
	err := b.lookAt(ctx, by, cases, nil)
	return cases[0], err
}

// lookAt is look for many cases. It reads the targets when they are nil.
func (b *Broker) lookAt(ctx context.Context, by access.Caller, cases []Case, targets map[string]access.Target) error {
	now := b.now()
	var pending []*Case
	var targetIDs, voterIDs []string
	for i := range cases {
		c := &cases[i]
		c.MayDecide, c.Waiting = false, nil
		if c.Request.StateAt(now) != access.Pending {
			continue
		}
		pending, targetIDs = append(pending, c), append(targetIDs, c.Request.TargetID)
		for _, a := range c.Request.Approvals {
			voterIDs = append(voterIDs, a.UserID)
		}
	}
	var err error
	if targets == nil {
		if targets, err = b.c.Store.TargetsByID(ctx, distinct(targetIDs)); err != nil {
			return err
		}
	}
	voters, err := b.c.Store.UsersByID(ctx, distinct(voterIDs))
	if err != nil {
		return err
	}
	groups := groupsOf(slices.Collect(maps.Values(voters)))
	members := map[string][]access.User{} // by the groups that are asked
	for _, c := range pending {
		r := &c.Request
		asked := groupsAsked(r)
		key := strings.Join(asked, "\n")
		people, known := members[key]
		if !known {
			// Enough for the names, if some of them have voted.
			if people, err = b.c.Store.Members(ctx, asked, 2*maxWaiting); err != nil {
				return err
			}
			members[key] = people
		}
		for _, u := range people {
			if len(c.Waiting) < maxWaiting && b.mayVote(u, r) {
				c.Waiting = append(c.Waiting, u.Name)
			}
		}
		if b.mayVote(by.User, r) {
			t := targetIn(targets, r.TargetID, r.TargetName)
			_, err := b.decideNow(ctx, question{action: policy.ActionApprove, by: by, target: &t, account: r.Account, request: r, groups: groups})
			c.MayDecide = err == nil
		}
	}
	return nil
}

// groupsAsked are the groups whose votes a request wants.
func groupsAsked(r *access.Request) []string {
	var groups []string
	for _, n := range r.Needs {
		groups = append(groups, n.Groups...)
	}
	return distinct(groups)
}
