package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// An Ask is what somebody asks for.
type Ask struct {
	Target     string // name
	Account    string
	Reason     string
	Duration   time.Duration // 0: the default, or the role's longest when that is shorter
	Start      time.Time     // zero: now
	BreakGlass bool
	Batch      string // what is asked for at once has the same; see MaxBatch
}

func (a *Ask) validate(now time.Time) error {
	if err := access.CheckTargetName(a.Target); err != nil {
		return err
	}
	if err := access.CheckAccountName(a.Account); err != nil {
		return err
	}
	if err := access.CheckReason(a.Reason); err != nil {
		return err
	}
	if err := a.validateBatch(); err != nil {
		return err
	}
	if a.Duration != 0 {
		if err := access.CheckDuration(a.Duration); err != nil {
			return err
		}
	}
	if !a.Start.IsZero() {
		if a.Start.Before(now.Add(-time.Minute)) || a.Start.After(now.Add(access.MaxScheduled)) {
			return access.Invalid("the start %s is not within the next 90 days", a.Start.UTC().Format(time.RFC3339))
		}
		if a.BreakGlass {
			return access.Invalid("break-glass is for now; it takes no start")
		}
	}
	return nil
}

// A Case is a request with the grant that came of it: what people look at.
type Case struct {
	Request access.Request
	Grant   *access.Grant // nil until approved
	// MayDecide says that the caller may approve or deny it now.
	MayDecide bool
	// Waiting names the people who may still decide.
	Waiting []string
}

// Version grows with every change of the request and of its grant.
func (c Case) Version() int64 {
	if c.Grant != nil {
		return c.Request.Version + c.Grant.Version
	}
	return c.Request.Version
}

// Request asks for access. The policy decides at once, or names who must
// approve. An equal request that is pending is joined instead of filed again,
// and one that has led to a grant that is still open is returned as it is.
func (b *Broker) Request(ctx context.Context, by access.Caller, ask Ask) (Case, error) {
	now := b.now()
	e := event(by, "request.create", "")
	e.Account, e.Reason = audit.Clean(ask.Account, audit.MaxName), audit.Clean(ask.Reason, audit.MaxReason)
	if err := ask.validate(now); err != nil {
		return Case{}, err // nothing was asked yet
	}
	if err := b.refresh(ctx); err != nil {
		return Case{}, b.refused(ctx, e, policyDown(err))
	}
	e.Target = ask.Target
	var c Case
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		c = Case{}
		e := e
		e.Object = ask.Target
		by, err := current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		target, err := tx.Target(ctx, ask.Target)
		if err != nil {
			return e, unknownTarget(err, ask.Target)
		}
		if _, ok := target.Account(ask.Account); !ok {
			return e, unknownTarget(access.ErrNotFound, ask.Account+"@"+ask.Target)
		}
		if open, err := b.openCase(ctx, tx, by, &target, ask); err != nil || open != nil {
			if open == nil {
				return e, err
			}
			e.Action, e.Object, e.Request = "request.join", open.Request.ID, open.Request.ID
			if _, err := b.decideNow(ctx, question{action: policy.ActionRequestRead, by: by, target: &target, account: ask.Account, request: &open.Request}); err != nil {
				return e, err
			}
			c = *open
			return e, nil
		}
		if err := b.mayJoin(ctx, tx, by, ask); err != nil {
			return e, err
		}
		r, err := b.newRequest(ctx, tx, by, &target, ask)
		if err != nil {
			return e, err
		}
		detail(&e, "batch", r.Batch)
		e.Object, e.Request, e.Rule = r.ID, r.ID, r.Policy.Rule
		detail(&e, "decision", r.Policy.Decision)
		detail(&e, "policy", r.Policy.Digest)
		detail(&e, "input", r.Policy.InputHash)
		detail(&e, "role", r.Role)
		detail(&e, "digest", r.Digest())
		detail(&e, "duration", access.FormatDuration(r.Duration))
		c.Request = *r
		if len(r.Needs) > 0 && !r.BreakGlass {
			return e, tx.AddRequest(ctx, &c.Request)
		}
		if err := c.Request.Admit(tx.Now()); err != nil {
			return e, err
		}
		if err := tx.AddRequest(ctx, &c.Request); err != nil {
			return e, err
		}
		if r.BreakGlass {
			if err := b.openGlassReview(ctx, tx, by, &c.Request, e); err != nil {
				return e, err
			}
		}
		c.Grant, err = b.openGrant(ctx, tx, by, &c.Request)
		return e, err
	})
	if err != nil {
		return Case{}, err
	}
	return b.look(ctx, by, c)
}

// current reads the caller again inside the change: groups, locks and removal
// count as they are at this moment.
func current(ctx context.Context, tx *store.Tx, by access.Caller) (access.Caller, error) {
	u, err := tx.User(ctx, by.User.ID)
	if errors.Is(err, access.ErrNotFound) {
		return by, &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-4001", Text: "you are not known here any more"}
	}
	if err != nil {
		return by, err
	}
	by.User = u
	return by, nil
}

func unknownTarget(err error, name string) error {
	if errors.Is(err, access.ErrNotFound) {
		return &access.Error{Kind: access.ErrNotFound, Code: "DB-2101", Text: fmt.Sprintf("there is no %s that you may know of", name), Next: "drawbolt ls"}
	}
	return err
}

func unknownRequest(err error, id string) error {
	if errors.Is(err, access.ErrNotFound) {
		return &access.Error{Kind: access.ErrNotFound, Code: "DB-2102", Text: "there is no request " + id + " that you may know of", Next: "drawbolt status"}
	}
	return err
}

// openCase finds what the caller has already for the same account: an open
// grant, or an equal pending request.
func (b *Broker) openCase(ctx context.Context, tx *store.Tx, by access.Caller, t *access.Target, ask Ask) (*Case, error) {
	grants, err := tx.OpenGrants(ctx, by.User.ID, tx.Now().UnixMicro())
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		// On a locked target no grant is of use: the policy says so.
		if t.Locked || g.TargetID != t.ID || g.Account != ask.Account || !g.ActiveAt(tx.Now()) || !ask.Start.IsZero() {
			continue
		}
		r, err := tx.Request(ctx, g.RequestID)
		if err != nil {
			return nil, err
		}
		return &Case{Request: r, Grant: &g}, nil
	}
	pending, err := tx.Requests(ctx, store.RequestFilter{State: access.Pending, Requester: by.User.ID, Limit: 1000})
	if err != nil {
		return nil, err
	}
	open := 0
	for _, r := range pending {
		if r.StateAt(tx.Now()) != access.Pending {
			continue
		}
		open++
		same := r.TargetID == t.ID && r.Account == ask.Account && r.Reason == ask.Reason && r.BreakGlass == ask.BreakGlass &&
			(ask.Duration == 0 || ask.Duration == r.Duration) && r.Start.Equal(ask.Start)
		if same {
			return &Case{Request: r}, nil
		}
	}
	if open >= b.c.PendingPerUser {
		return nil, &access.Error{Kind: access.ErrDenied, Code: "DB-2009", Rule: "request.pending",
			Text: fmt.Sprintf("%d of your requests are pending already; wait for them or cancel some", open), Next: "drawbolt status"}
	}
	return nil, nil
}

// newRequest asks the policy and builds the request with what it said.
func (b *Broker) newRequest(ctx context.Context, tx *store.Tx, by access.Caller, t *access.Target, ask Ask) (*access.Request, error) {
	now := tx.Now()
	r := &access.Request{
		ID: access.NewID(access.RequestPrefix), RequesterID: by.User.ID, RequesterName: by.User.Name,
		TargetID: t.ID, TargetName: t.Name, TargetAddress: t.Address, TargetKeys: t.HostKeys, TargetVia: t.Via, Account: ask.Account, Made: madeOf(t, ask.Account),
		Batch: ask.Batch, Reason: ask.Reason, Ticket: access.Ticket(ask.Reason), Duration: ask.Duration, Start: ask.Start, BreakGlass: ask.BreakGlass,
		Via: by.Via, State: access.Pending, CreatedAt: now, ExpiresAt: now.Add(b.c.DecideWithin), Version: 1,
	}
	if by.Source.IsValid() {
		r.Source = by.Source.String()
	}
	if r.Duration == 0 {
		r.Duration = b.c.DefaultDuration
	}
	if r.BreakGlass {
		if err := b.glassDuration(r, ask.Duration != 0); err != nil {
			return nil, err
		}
	}
	q := question{action: policy.ActionRequest, by: by, target: t, account: ask.Account, request: r}
	d, err := b.decideNow(ctx, q)
	if err != nil && ask.Duration == 0 && d.MaxDuration > 0 && d.MaxDuration < r.Duration {
		// Nobody asked for the default; the role's longest will do.
		r.Duration = d.MaxDuration
		d, err = b.decideNow(ctx, q)
	}
	if err != nil {
		// Who may not know a target learns nothing about its rules either.
		if errors.Is(err, access.ErrDenied) && !b.mayKnow(ctx, by, t, ask.Account) {
			return nil, unknownTarget(access.ErrNotFound, ask.Account+"@"+ask.Target)
		}
		return nil, err
	}
	r.Role, r.Needs, r.Rules, r.Policy = d.Role, needs(d.Approvals), sessionRules(d.Rules), ruling(d)
	if r.BreakGlass {
		return r, b.mayBreakGlass(ctx, tx, by)
	}
	return r, nil
}

// openGrant opens the grant of a request that has just been approved.
func (b *Broker) openGrant(ctx context.Context, tx *store.Tx, by access.Caller, r *access.Request) (*access.Grant, error) {
	g := access.NewGrant(r, tx.Now(), b.c.ActivationWindow)
	if err := tx.AddGrant(ctx, g); err != nil {
		return nil, err
	}
	e := event(by, "grant.open", g.ID)
	e.Request, e.Grant, e.Target, e.Account, e.Rule = r.ID, g.ID, r.TargetName, r.Account, r.Policy.Rule
	detail(&e, "holder", r.RequesterName)
	detail(&e, "duration", access.FormatDuration(g.Duration))
	detail(&e, "activate_by", g.ActivateBy.UTC().Format(time.RFC3339))
	detail(&e, "digest", g.Digest)
	detail(&e, "decision", r.Policy.Decision)
	detail(&e, "policy", r.Policy.Digest)
	tx.Also(e)
	return g, nil
}

// FindRequest returns a request, by its own id or its grant's.
func (b *Broker) FindRequest(ctx context.Context, by access.Caller, id string) (Case, error) {
	if err := b.refresh(ctx); err != nil {
		return Case{}, policyDown(err)
	}
	c, err := b.readCase(ctx, by, id)
	if errors.Is(err, access.ErrDenied) {
		// Not "denied": that would say that it exists.
		return Case{}, b.refused(ctx, event(by, "request.read", id), unknownRequest(access.ErrNotFound, id))
	}
	if err != nil {
		return Case{}, unknownRequest(err, id)
	}
	return b.look(ctx, by, c)
}

func (b *Broker) readCase(ctx context.Context, by access.Caller, id string) (Case, error) {
	c, err := b.caseOf(ctx, id)
	if err != nil {
		return Case{}, err
	}
	return c, b.mayRead(ctx, by, &c.Request)
}

// caseOf reads a case without asking anybody.
func (b *Broker) caseOf(ctx context.Context, id string) (Case, error) {
	var c Case
	if access.ValidID(access.GrantPrefix, id) {
		g, err := b.c.Store.Grant(ctx, id)
		if err != nil {
			return c, err
		}
		id = g.RequestID
	}
	if !access.ValidID(access.RequestPrefix, id) {
		return c, access.ErrNotFound
	}
	var err error
	if c.Request, err = b.c.Store.Request(ctx, id); err != nil {
		return c, err
	}
	return b.withGrant(ctx, c)
}

func (b *Broker) withGrant(ctx context.Context, c Case) (Case, error) {
	if c.Request.State != access.Approved {
		return c, nil
	}
	g, err := b.c.Store.Grant(ctx, c.Request.ID)
	if err != nil {
		return c, err
	}
	c.Grant = &g
	return c, nil
}

// mayRead: the requester, who may vote on it, and who may read all requests.
func (b *Broker) mayRead(ctx context.Context, by access.Caller, r *access.Request) error {
	target, err := targetOrRemoved(ctx, b.c.Store, r.TargetID, r.TargetName)
	if err != nil {
		return err
	}
	_, err = b.decideNow(ctx, question{action: policy.ActionRequestRead, by: by, target: &target, account: r.Account, request: r})
	return err
}

// targetOrRemoved reads a target as it is now. Of one that was removed there is
// what others know of it, and it is locked: nothing more is approved on it.
func targetOrRemoved(ctx context.Context, from interface {
	Target(ctx context.Context, idOrName string) (access.Target, error)
}, id, name string) (access.Target, error) {
	t, err := from.Target(ctx, id)
	if errors.Is(err, access.ErrNotFound) {
		return access.Target{ID: id, Name: name, Locked: true}, nil
	}
	return t, err
}

// look adds what the caller sees of a case besides its facts.
func (b *Broker) look(ctx context.Context, by access.Caller, c Case) (Case, error) {
	c.MayDecide, c.Waiting = false, nil
	if c.Request.StateAt(b.now()) != access.Pending {
		return c, nil
	}
	target, err := targetOrRemoved(ctx, b.c.Store, c.Request.TargetID, c.Request.TargetName)
	if err != nil {
		return c, err
	}
	people, err := b.c.Store.Users(ctx)
	if err != nil {
		return c, err
	}
	for _, u := range people {
		if !b.mayVote(u, &c.Request) {
			continue
		}
		c.Waiting = append(c.Waiting, u.Name)
		if u.ID == by.User.ID {
			_, err := b.decideNow(ctx, question{action: policy.ActionApprove, by: by, target: &target, account: c.Request.Account, request: &c.Request, groups: groupsOf(people)})
			c.MayDecide = err == nil
		}
	}
	return c, nil
}

// mayVote is a first sieve for showing who was asked; the policy decides at
// the vote.
func (b *Broker) mayVote(u access.User, r *access.Request) bool {
	if u.Bot || u.Locked || u.ID == r.RequesterID || slices.ContainsFunc(r.Approvals, func(a access.Approval) bool { return a.UserID == u.ID }) {
		return false
	}
	for _, n := range r.Needs {
		if slices.ContainsFunc(n.Groups, u.In) {
			return true
		}
	}
	return false
}

// groupsOf are the groups of those of the people who may vote, by user id.
func groupsOf(people []access.User) map[string][]string {
	groups := map[string][]string{}
	for _, u := range people {
		if !u.Locked && !u.Bot {
			groups[u.ID] = u.Groups
		}
	}
	return groups
}

// A Filter picks requests, newest first.
type Filter struct {
	State  access.RequestState // "": any; Expired is understood
	Mine   bool                // the caller's own
	Inbox  bool                // pending ones that the caller may decide
	Active bool                // those whose grant is open
	Batch  string              // those that were asked for together
	Before string              // the id of the last request of the page before
	Limit  int                 // default 50, at most 200
}

// Requests lists what the caller may see.
func (b *Broker) Requests(ctx context.Context, by access.Caller, f Filter) ([]Case, error) {
	e := event(by, "request.list", "")
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, e); err != nil {
		return nil, err
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 200)
	sf := store.RequestFilter{State: f.State, Batch: f.Batch, Before: f.Before, Limit: f.Limit}
	if f.Inbox || f.State == access.Expired {
		sf.State = access.Pending
	}
	if f.Active {
		sf.State = access.Approved
	}
	if f.Mine {
		sf.Requester = by.User.ID
	}
	now := b.now()
	if f.Inbox {
		if len(by.User.Groups) == 0 {
			return nil, nil // is never asked
		}
		// What others are asked for must not crowd out what this one is.
		sf.Waiting, sf.Asked = now, by.User.Groups
	}
	var list []Case
	// Pages of the store are sieved until the caller's page is full; the
	// number of rounds is bounded, so a caller who may see little of much gets
	// a short page and asks for the next.
	for round := 0; round < 10 && len(list) < f.Limit; round++ {
		page, err := b.c.Store.Requests(ctx, sf)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			if f.State != "" && r.StateAt(now) != f.State || f.Inbox && r.StateAt(now) != access.Pending {
				continue
			}
			if err := b.mayRead(ctx, by, &r); errors.Is(err, access.ErrDenied) {
				continue
			} else if err != nil {
				return nil, err
			}
			c, err := b.withGrant(ctx, Case{Request: r})
			if err != nil {
				return nil, err
			}
			if f.Active && !c.Grant.ActiveAt(now) && c.Grant.StateAt(now) != access.Scheduled {
				continue
			}
			if c, err = b.look(ctx, by, c); err != nil {
				return nil, err
			}
			if f.Inbox && !c.MayDecide {
				continue
			}
			if list = append(list, c); len(list) == f.Limit {
				break
			}
		}
		if len(page) < f.Limit {
			break
		}
		sf.Before = page[len(page)-1].ID
	}
	return list, nil
}

// Await returns the case as soon as its version is another than the given one,
// when a pending request expires, or when ctx ends; then the case is as it was.
func (b *Broker) Await(ctx context.Context, by access.Caller, id string, version int64) (Case, error) {
	c, err := b.FindRequest(context.WithoutCancel(ctx), by, id) // who gives up at once is answered all the same
	if err != nil {
		return c, err
	}
	next, stop := b.watchers.watch(c.Request.ID)
	defer stop()
	for {
		changed := next()
		read, err := b.caseOf(ctx, c.Request.ID)
		if ctx.Err() != nil {
			return b.look(context.WithoutCancel(ctx), by, c)
		}
		if err != nil {
			return c, err
		}
		c = read
		now := b.now()
		if c.Version() != version || c.Request.StateAt(now) == access.Expired {
			return b.look(ctx, by, c)
		}
		var expiry <-chan time.Time
		if c.Request.State == access.Pending {
			timer := time.NewTimer(c.Request.ExpiresAt.Sub(now))
			defer timer.Stop()
			expiry = timer.C
		}
		select {
		case <-ctx.Done():
			return b.look(context.WithoutCancel(ctx), by, c)
		case <-changed:
		case <-expiry:
		}
	}
}

// Cancel takes a pending request back.
func (b *Broker) Cancel(ctx context.Context, by access.Caller, id string) (Case, error) {
	return b.decideRequest(ctx, by, id, policy.ActionCancel, "request.cancel", func(tx *store.Tx, by access.Caller, r *access.Request, e *audit.Event) error {
		return r.Cancel(by.User, tx.Now())
	})
}

// decideRequest is the way of the verbs that move a pending request: read,
// ask, move, save.
func (b *Broker) decideRequest(ctx context.Context, by access.Caller, id string, action policy.Action, name string, move func(*store.Tx, access.Caller, *access.Request, *audit.Event) error) (Case, error) {
	if err := b.refresh(ctx); err != nil {
		return Case{}, b.refused(ctx, event(by, name, id), policyDown(err))
	}
	var c Case
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		c = Case{}
		e := event(by, name, id)
		by, err := current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		r, err := tx.Request(ctx, strings.TrimSpace(id))
		if err != nil {
			return e, unknownRequest(err, id)
		}
		e.Object, e.Request, e.Target, e.Account = r.ID, r.ID, r.TargetName, r.Account
		target, groups, err := around(ctx, tx, &r)
		if err != nil {
			return e, err
		}
		// Knowing comes before deciding: who may not see it learns "not found".
		q := question{action: policy.ActionRequestRead, by: by, target: target, account: r.Account, request: &r, groups: groups}
		if _, err := b.decideNow(ctx, q); err != nil {
			if errors.Is(err, access.ErrDenied) {
				err = unknownRequest(access.ErrNotFound, id)
			}
			return e, err
		}
		// A decided request answers who was first, to whom it is no secret.
		if r.StateAt(tx.Now()) == access.Pending {
			q.action = action
			d, err := b.decideNow(ctx, q)
			if err != nil {
				return e, better(err, &r, by)
			}
			e.Rule = d.Rule
			detail(&e, "decision", d.ID)
		}
		if err := move(tx, by, &r, &e); err != nil {
			return e, err
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

// around reads what a decision on a request depends on: its target, and the
// groups that its voters have now; see question.groups.
func around(ctx context.Context, tx *store.Tx, r *access.Request) (*access.Target, map[string][]string, error) {
	target, err := targetOrRemoved(ctx, tx, r.TargetID, r.TargetName)
	if err != nil {
		return nil, nil, err
	}
	voters, err := tx.Voters(ctx, r.ID)
	return &target, groupsOf(voters), err
}

// better gives the refusals that people meet daily the sentence and the next
// command that fit.
func better(err error, r *access.Request, by access.Caller) error {
	ae, ok := errors.AsType[*access.Error](err)
	if ok && by.User.ID == r.RequesterID {
		ae.Next = "ask one of the approvers: drawbolt status " + r.ID
	}
	return err
}
