package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
		if err := checkStart(a.Start, now); err != nil {
			return err
		}
		if a.BreakGlass {
			return access.Invalid("break-glass is for now; it takes no start")
		}
	}
	return nil
}

func checkStart(start, now time.Time) error {
	if start.Before(now.Add(-time.Minute)) || start.After(now.Add(access.MaxScheduled)) {
		return access.Invalid("the start %s is not within the next 90 days", start.UTC().Format(time.RFC3339))
	}
	return nil
}

// A Case is a request with the grant that came of it: what people look at.
type Case struct {
	Request access.Request
	Grant   *access.Grant // nil until approved
	// Last is the grant by which the requester last used the account, while the request
	// is pending and is read by itself; nil: they never did.
	Last *access.Grant
	// Asker is what is known of the requester, while the request is pending and is read
	// by itself; otherwise nil.
	Asker *Asker
	// MayDecide says that the caller may approve or deny it now.
	MayDecide bool
	// NeedsFactor says that the caller might, with a second factor shown just now.
	NeedsFactor bool
	// DenyNeedsFactor says that they deny only with one, too.
	DenyNeedsFactor bool
	// HandedBy names who has called the caller to decide, with the words of HandedNote;
	// "": nobody has.
	HandedBy, HandedNote string
	// InPlaceOf names the person in whose place the caller would vote; "": their own.
	InPlaceOf string
	// Waiting names the people who are asked now; "carol (for bob)" is who votes in
	// somebody's place.
	Waiting []string
	// Escalates is when more groups are asked, which EscalateTo names; zero: never.
	Escalates  time.Time
	EscalateTo []string
	// Lease is that of the secret which the holder of the grant has now; nil: none.
	Lease *access.Lease
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
	ticket, err := b.checkAsked(ctx, by, ask)
	if err != nil {
		return Case{}, b.refused(ctx, e, err)
	}
	var c Case
	err = b.changeAsDecided(ctx, func(tx *store.Tx) (audit.Event, error) {
		c = Case{}
		e := e
		e.Object = ask.Target
		by, err := b.current(ctx, tx, by)
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
		r, err := b.newRequest(ctx, tx, by, &target, ask, ticket)
		if err != nil {
			return e, err
		}
		detail(&e, "batch", r.Batch)
		e.Object, e.Request = r.ID, r.ID
		requestDetails(&e, r)
		detail(&e, "ticket", r.TicketCheck.ID)
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

// requestDetails is what the event of a request tells of what was asked for.
func requestDetails(e *audit.Event, r *access.Request) {
	e.Rule = r.Policy.Rule
	detail(e, "decision", r.Policy.Decision)
	detail(e, "policy", r.Policy.Digest)
	detail(e, "input", r.Policy.InputHash)
	detail(e, "role", r.Role)
	detail(e, "digest", r.Digest())
	detail(e, "duration", access.FormatDuration(r.Duration))
}

// current reads the caller again inside the change: groups, locks, removal and
// those in whose place they vote count as they are at this moment.
func (b *Broker) current(ctx context.Context, tx *store.Tx, by access.Caller) (access.Caller, error) {
	u, err := tx.User(ctx, by.User.ID)
	return b.asNow(ctx, tx, by, u, err)
}

// acting is current for a change that others by the same caller need not wait for.
func (b *Broker) acting(ctx context.Context, tx *store.Tx, by access.Caller) (access.Caller, error) {
	u, err := tx.Actor(ctx, by.User.ID)
	return b.asNow(ctx, tx, by, u, err)
}

func (b *Broker) asNow(ctx context.Context, tx *store.Tx, by access.Caller, u access.User, err error) (access.Caller, error) {
	if errors.Is(err, access.ErrNotFound) {
		return by, &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-4001", Text: "you are not known here any more"}
	}
	if err != nil {
		return by, err
	}
	by.User = b.present(u)
	return b.standing(ctx, tx, by)
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
	pending, err := tx.Requests(ctx, store.RequestFilter{Waiting: tx.Now(), Requester: by.User.ID, Limit: 1000})
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
func (b *Broker) newRequest(ctx context.Context, tx *store.Tx, by access.Caller, t *access.Target, ask Ask, ticket access.TicketCheck) (*access.Request, error) {
	now := tx.Now()
	r := &access.Request{
		ID: access.NewID(access.RequestPrefix), RequesterID: by.User.ID, RequesterName: by.User.Name, OwnerID: by.User.OwnerID,
		TargetID: t.ID, TargetName: t.Name, TargetAddress: t.Address, TargetKeys: t.HostKeys, TargetVia: t.Via, Account: ask.Account, Made: madeOf(t, ask.Account),
		Batch: ask.Batch, Reason: ask.Reason, Ticket: access.Ticket(ask.Reason), TicketCheck: ticket, Duration: ask.Duration, Start: ask.Start, BreakGlass: ask.BreakGlass,
		Via: by.Via, State: access.Pending, CreatedAt: now, ExpiresAt: now.Add(b.c.DecideWithin), Version: 1,
	}
	if by.Source.IsValid() {
		r.Source = by.Source.String()
	}
	return r, b.rule(ctx, tx, by, t, r)
}

// rule asks the policy for what the request asks, and sets what it says. A
// request without a duration gets the default, or the role's longest when that is
// shorter.
func (b *Broker) rule(ctx context.Context, tx *store.Tx, by access.Caller, t *access.Target, r *access.Request) error {
	asked := *r
	asked.ID, asked.Role, asked.Policy = "", "", access.Ruling{}
	if r.Duration == 0 {
		asked.Duration = b.c.DefaultDuration
	}
	if r.BreakGlass {
		if err := b.glassDuration(&asked, r.Duration != 0); err != nil {
			return err
		}
	}
	q := question{action: policy.ActionRequest, by: by, target: t, account: r.Account, request: &asked}
	var err error
	if q.sharing, err = b.sharing(ctx, tx, r); err != nil {
		return err
	}
	d, err := b.decideIn(ctx, tx, q)
	if err != nil && r.Duration == 0 && d.MaxDuration > 0 && d.MaxDuration < asked.Duration {
		// Nobody asked for the default; the role's longest will do.
		asked.Duration = d.MaxDuration
		d, err = b.decideIn(ctx, tx, q)
	}
	if err != nil {
		// Who may not know a target learns nothing about its rules either.
		if errors.Is(err, access.ErrDenied) && !b.mayKnow(ctx, by, t, r.Account) {
			return unknownTarget(access.ErrNotFound, r.Account+"@"+r.TargetName)
		}
		return err
	}
	r.Duration = asked.Duration
	r.Role, r.Needs, r.DenyThreshold, r.Rules, r.Policy = d.Role, needs(d.Approvals), d.DenyThreshold, sessionRules(d.Rules), ruling(d)
	if r.DenyThreshold == 1 {
		r.DenyThreshold = 0 // as it was before there was a threshold
	}
	if r.BreakGlass {
		return b.mayBreakGlass(ctx, tx, by)
	}
	return b.canBeMet(ctx, tx, r)
}

// canBeMet refuses a request that nobody could approve, rather than let it
// expire: one whose needs want more people than there are besides the requester.
func (b *Broker) canBeMet(ctx context.Context, tx *store.Tx, r *access.Request) error {
	if r.BreakGlass || len(r.Needs) == 0 {
		return nil
	}
	total := 2 // the requester and the owner may be among those who are found
	for _, n := range r.Needs {
		total += n.Count
	}
	// With as many candidates for each need as all want together, whom one of them
	// takes is missing to no other.
	candidates := map[string]access.User{}
	for _, n := range r.Needs {
		groups := slices.Concat(n.Groups, n.EscalateTo)
		found, err := tx.Members(ctx, groups, total)
		if err != nil {
			return err
		}
		onCall, err := b.onCall(ctx, tx, groups)
		if err != nil {
			return err
		}
		for _, u := range append(found, onCall...) {
			candidates[u.ID] = b.present(u)
		}
	}
	if lack := r.Missing(slices.Collect(maps.Values(candidates))); lack > 0 {
		return &access.Error{Kind: access.ErrDenied, Code: "DB-6141", Rule: "request.unmeetable",
			Text: fmt.Sprintf("nobody could approve this: besides you, %d more would be needed in %s", lack, strings.Join(r.Voters(), " or ")), Next: "ask the administrators"}
	}
	return nil
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
	by, err := b.standing(ctx, b.c.Store, by)
	if err != nil {
		return Case{}, err
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
	if c.Request.StateAt(b.now()) == access.Pending {
		last, err := b.c.Store.LastUse(ctx, c.Request.RequesterID, c.Request.TargetID, c.Request.Account, b.now())
		if err == nil {
			c.Last = &last
		} else if !errors.Is(err, access.ErrNotFound) {
			return c, err
		}
		if c.Asker, err = b.asker(ctx, &c.Request); err != nil {
			return c, err
		}
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
	return b.decideRequest(ctx, by, id, policy.ActionCancel, "request.cancel", func(tx *store.Tx, by access.Caller, r *access.Request, _ voting, _ *audit.Event) error {
		return r.Cancel(by.User, tx.Now())
	})
}

// decideRequest is the way of the verbs that move a pending request: read,
// ask, move, save.
func (b *Broker) decideRequest(ctx context.Context, by access.Caller, id string, action policy.Action, name string, move func(*store.Tx, access.Caller, *access.Request, voting, *audit.Event) error) (Case, error) {
	if err := b.refresh(ctx); err != nil {
		return Case{}, b.refused(ctx, event(by, name, id), policyDown(err))
	}
	var c Case
	err := b.changeAsDecided(ctx, func(tx *store.Tx) (audit.Event, error) {
		c = Case{}
		e := event(by, name, id)
		by, err := b.acting(ctx, tx, by)
		if err != nil {
			return e, err
		}
		r, err := tx.Request(ctx, strings.TrimSpace(id))
		if err != nil {
			return e, unknownRequest(err, id)
		}
		e.Object, e.Request, e.Target, e.Account = r.ID, r.ID, r.TargetName, r.Account
		target, votes, err := b.around(ctx, tx, &r)
		if err != nil {
			return e, err
		}
		votes.join(by)
		// Knowing comes before deciding: who may not see it learns "not found".
		q := question{action: policy.ActionRequestRead, by: by, target: target, account: r.Account, request: &r, votes: votes}
		if _, err := b.decideNow(ctx, q); err != nil {
			if errors.Is(err, access.ErrDenied) {
				err = unknownRequest(access.ErrNotFound, id)
			}
			return e, err
		}
		// A decided request answers who was first, to whom it is no secret.
		if r.StateAt(tx.Now()) == access.Pending {
			if q.sharing, err = b.sharing(ctx, tx, &r); err != nil {
				return e, err
			}
			seat := votes.seat(by, votes.stage(tx.Now()))
			q.action, q.seat = action, &seat
			d, err := b.decideIn(ctx, tx, q)
			if err != nil {
				return e, better(err, &r, by)
			}
			e.Rule = d.Rule
			detail(&e, "decision", d.ID)
		}
		if err := move(tx, by, &r, votes, &e); err != nil {
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

// around reads what a decision on a request depends on: its target, and how its
// votes count now.
func (b *Broker) around(ctx context.Context, tx *store.Tx, r *access.Request) (*access.Target, voting, error) {
	target, err := targetOrRemoved(ctx, tx, r.TargetID, r.TargetName)
	if err != nil {
		return nil, voting{}, err
	}
	voters, err := tx.Voters(ctx, r.ID)
	return &target, b.votingOf(r, voters), err
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
