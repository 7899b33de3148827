package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// refresh loads the roles, networks and windows when one of them has changed, here
// or on another server. When they do not load, the engine keeps the old ones
// and nothing is decided: a broken role refuses everything until it is mended.
func (b *Broker) refresh(ctx context.Context) error {
	generation, err := b.c.Store.Generation(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if generation == b.generation {
		return nil
	}
	roles, err := b.c.Store.Roles(ctx)
	if err != nil {
		return err
	}
	networks, err := b.c.Store.Networks(ctx, maxNetworks)
	if err != nil {
		return err
	}
	windows, err := b.c.Store.Windows(ctx, b.now(), maxWindows)
	if err != nil {
		return err
	}
	around, err := newCircumstances(windows, roles)
	if err != nil {
		return fmt.Errorf("load the windows: %w", err)
	}
	if err := b.c.Policy.SetData(policyData(roles, networks)); err != nil {
		return fmt.Errorf("load the roles: %w", err)
	}
	b.circumstances.Store(around)
	// Read before the roles: if they changed in between, the next call loads
	// them once more.
	b.generation = generation
	return nil
}

// readPolicyData reads what the policy is asked with.
func readPolicyData(ctx context.Context, db *store.DB) (policy.Data, error) {
	roles, err := db.Roles(ctx)
	if err != nil {
		return policy.Data{}, err
	}
	networks, err := db.Networks(ctx, maxNetworks)
	return policyData(roles, networks), err
}

// changeAsDecided is change for what the roles decide: they are those of the moment
// when it is made. It is made anew when they have been changed since they were
// loaded, and nobody changes them meanwhile.
func (b *Broker) changeAsDecided(ctx context.Context, fn func(tx *store.Tx) (audit.Event, error)) error {
	for attempt := 1; ; attempt++ {
		err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
			generation, err := tx.Generation(ctx)
			if err != nil {
				return audit.Event{}, err
			}
			b.mu.Lock()
			loaded := b.generation
			b.mu.Unlock()
			if generation != loaded {
				return audit.Event{}, errRolesChanged
			}
			return fn(tx)
		})
		if !errors.Is(err, errRolesChanged) || attempt == maxRoleChanges {
			return err
		}
		if err := b.refresh(ctx); err != nil {
			return policyDown(err)
		}
	}
}

// maxRoleChanges is how often a change is begun anew because of them.
const maxRoleChanges = 8

var errRolesChanged = &access.Error{Kind: access.ErrUnavailable, Code: "DB-6280", Text: "the roles are being changed at this moment, so nothing is decided; try again"}

func policyData(roles []access.Role, networks []access.Network) policy.Data {
	d := policy.Data{Networks: map[string][]string{}}
	for _, n := range networks {
		d.Networks[n.Name] = n.Ranges
	}
	for _, r := range roles {
		p := policy.Role{Name: r.Name, Inherits: r.Inherits, Groups: r.Groups, Users: r.Users, Attributes: r.Attributes, Excludes: r.Excludes}
		for _, rule := range r.Rules {
			p.Rules = append(p.Rules, policyRule(rule))
		}
		d.Roles = append(d.Roles, p)
	}
	return d
}

func policyRule(r access.Rule) policy.Rule {
	p := policy.Rule{
		ID: r.ID, Targets: policy.Selector{Names: r.Targets.Names, Labels: r.Targets.Labels}, Accounts: r.Accounts,
		MaxDuration: r.MaxDuration, MFAWithin: r.MFAWithin, Sources: r.Sources,
		TimeZone: r.TimeZone, RequireTicket: r.RequireTicket, RequireValidTicket: r.RequireValidTicket,
		RequireMaintenanceWindow: r.RequireWindow, DuringFreeze: r.DuringFreeze, RequireSameTier: r.RequireSameTier,
		RequireFacts: r.RequireFacts, FactsWithin: r.FactsWithin, SeparateDuties: r.SeparateDuties, Limits: policy.Limits(r.Limits),
		DenyThreshold: r.DenyThreshold,
		Session:       policy.SessionRules(r.Session),
	}
	p.Session.Recording = policy.RecordingStrict // whatever the rule says
	for _, a := range r.Actions {
		p.Actions = append(p.Actions, policy.Action(a))
	}
	for _, n := range r.Approvals {
		p.Approvals = append(p.Approvals, policyNeed(n))
	}
	for _, day := range r.Weekdays {
		p.Weekdays = append(p.Weekdays, strings.ToLower(day))
	}
	for _, span := range r.Hours {
		from, to, _ := strings.Cut(span, "-")
		p.Hours = append(p.Hours, policy.Hours{From: from, To: to})
	}
	return p
}

// checkRoles reports whether the policy would take these roles, with the networks
// that there are.
func checkRoles(roles []access.Role, networks []access.Network) error {
	if err := policyData(roles, networks).Check(); err != nil {
		return access.Invalid("the roles would not hold together: %v", err)
	}
	return nil
}

// A question is what the policy is asked: who wants to do what, to what.
type question struct {
	action  policy.Action
	by      access.Caller
	target  *access.Target
	account string
	request *access.Request
	// owner stands in for the request where the thing has an owner but is no
	// request: a session, a key.
	owner string
	// duration overrides the request's, for an extension.
	duration time.Duration
	// votes are how the request's votes count now; seat is in whose place the caller
	// votes, nil: of any of those who have handed their votes to them.
	votes voting
	seat  *access.User
	// sessions are those that are open when one more begins.
	sessions policy.Sessions
	// ticket is what is known of the request's ticket now; nil: what was known when
	// the request was made.
	ticket *access.TicketCheck
	// sharing is who else has to do with the request's ticket.
	sharing sharing
	// at is the moment of the question; now when zero.
	at time.Time
}

// decide asks the policy. The error is an *access.Error of kind ErrDenied when
// it refuses and of kind ErrUnavailable when the engine failed, which refuses
// as well.
func (b *Broker) decide(ctx context.Context, q question) (policy.Decision, error) {
	if err := b.refresh(ctx); err != nil {
		return policy.Decision{}, policyDown(err)
	}
	return b.decideNow(ctx, q)
}

// decideNow is decide without a look whether the roles have changed, for the
// second and further questions of one verb.
func (b *Broker) decideNow(ctx context.Context, q question) (policy.Decision, error) {
	if q.by.User.Emergency && !emergencyMay(&q) {
		return policy.Decision{}, errEmergency
	}
	return b.answer(ctx, q.action, b.input(q))
}

// decideIn is decideNow for the question that a change comes of: the answer is kept
// with the event of the change, whether it allows or refuses.
func (b *Broker) decideIn(ctx context.Context, tx *store.Tx, q question) (policy.Decision, error) {
	if q.by.User.Emergency && !emergencyMay(&q) {
		return policy.Decision{}, errEmergency
	}
	in := b.input(q)
	d, err := b.answer(ctx, q.action, in)
	if d.InputHash == "" {
		return d, err // there was no question
	}
	input, e1 := in.MarshalJSON()
	answer, e2 := d.MarshalJSON()
	if err := errors.Join(e1, e2); err != nil {
		return policy.Decision{}, err
	}
	tx.Decided(store.Decision{ID: d.ID, Action: string(q.action), Input: string(input), Answer: string(answer)})
	return d, err
}

func (b *Broker) answer(ctx context.Context, action policy.Action, in policy.Input) (policy.Decision, error) {
	d, err := b.c.Policy.Decide(ctx, in)
	if err != nil {
		b.c.Log.ErrorContext(ctx, "the policy engine failed", "action", string(action), "error", err)
		return d, policyDown(err)
	}
	if !d.Allow {
		return d, refusal(d)
	}
	return d, nil
}

func policyDown(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return errors.Join(&access.Error{Kind: access.ErrUnavailable, Code: "DB-5002", Text: "the policy cannot be asked now, so nothing is allowed"}, err)
}

func refusal(d policy.Decision) *access.Error {
	e := &access.Error{Kind: access.ErrDenied, Code: "DB-2103", Text: d.Reason()}
	if len(d.Reasons) > 0 {
		e.Rule = d.Reasons[0].Rule
	}
	return e
}

func (b *Broker) input(q question) policy.Input {
	now := q.at
	if now.IsZero() {
		now = b.now()
	}
	in := policy.Input{
		Action: q.action, Account: q.account,
		User: policy.User{
			ID: q.by.User.ID, Name: q.by.User.Name, Groups: b.present(q.by.User).Groups, Bot: q.by.User.Bot,
			Locked: q.by.User.Locked, Attributes: q.by.User.Attributes,
		},
		Environment: policy.EnvironmentAt(now),
	}
	if q.by.Source.IsValid() {
		in.Environment.Source = q.by.Source.Unmap().WithZone("").String()
	}
	if !q.by.MFAAt.IsZero() {
		age := max(0, int64(now.Sub(q.by.MFAAt)/time.Second))
		in.User.MFAAgeSeconds = &age
	}
	switch {
	case q.seat == nil:
		for _, u := range q.by.StandsFor {
			if q.request != nil && (u.ID == q.request.RequesterID || u.ID == q.request.OwnerID) {
				continue // nobody votes in the place of who asks
			}
			in.User.StandsFor = append(in.User.StandsFor, u.Groups...)
		}
	case q.seat.ID != q.by.User.ID:
		in.User.StandsFor = q.seat.Groups
	}
	if t := q.target; t != nil {
		in.Target = policyTarget(t)
		in.Target.Facts = policyFacts(t, now)
		in.Environment.MaintenanceWindow, in.Environment.Freeze = b.circumstances.Load().of(t, now)
	}
	in.Environment.Sessions = q.sessions
	in.Request.Requester = q.owner
	if r := q.request; r != nil {
		in.Request = policy.Request{
			ID: r.ID, Requester: r.RequesterID, Owner: r.OwnerID, Role: r.Role, Rule: r.Policy.Rule, Reason: r.Reason,
			DurationSeconds: int64(r.Duration / time.Second), BreakGlass: r.BreakGlass,
			CreatedAt: r.CreatedAt.UTC().Format(time.RFC3339), State: string(r.State),
		}
		in.Environment.Ticket = r.Ticket
		check := r.TicketCheck
		if q.ticket != nil {
			check = *q.ticket
		}
		in.Request.Ticket = policyTicket(check, q.sharing)
		digest := r.Digest()
		for i := range r.Approvals {
			if a := &r.Approvals[i]; a.Digest == digest { // a vote for something else is no vote
				in.Request.Approvals = append(in.Request.Approvals, policy.Approval{
					UserID: a.UserID, Groups: q.votes.count(a), Step: a.Step, WaitedSeconds: int64(r.Waited(a) / time.Second),
				})
			}
		}
	}
	if q.duration != 0 {
		in.Request.DurationSeconds = int64(q.duration / time.Second)
	}
	return in
}

func policyTarget(t *access.Target) policy.Target {
	labels := map[string]string{}
	for name, value := range map[string]string{
		"environment": t.Labels.Environment, "tier": t.Labels.Tier, "criticality": t.Labels.Criticality, "owner": t.Labels.Owner,
	} {
		if value != "" {
			labels[name] = value
		}
	}
	return policy.Target{ID: t.ID, Name: t.Name, Labels: labels, Applications: t.Applications, Locked: t.Locked}
}

func policyFacts(t *access.Target, now time.Time) map[string]policy.Fact {
	facts := make(map[string]policy.Fact, len(t.Facts))
	for name, f := range t.Facts {
		// Rounded up: a fact is not new for a second longer than it is.
		facts[name] = policy.Fact{Value: f.Value, AgeSeconds: max(0, int64((now.Sub(f.At)+time.Second-1)/time.Second))}
	}
	return facts
}

func policyTicket(c access.TicketCheck, s sharing) policy.Ticket {
	return policy.Ticket{
		ID: c.ID, Valid: c.Valid, State: c.State, Assignee: c.Assignee, Title: c.Title, Why: c.Why,
		RequestedBy: s.requesters, ApprovedBy: s.approvers,
	}
}

// ruling keeps the trace of a decision.
func ruling(d policy.Decision) access.Ruling {
	return access.Ruling{Decision: d.ID, Rule: d.Rule, Text: d.Reason(), InputHash: d.InputHash, Digest: d.PolicyDigest}
}

func sessionRules(r policy.SessionRules) access.SessionRules {
	out := access.SessionRules(r)
	out.Recording = policy.RecordingStrict
	return out
}

func needs(list []policy.Need) []access.Need {
	var out []access.Need
	for _, n := range list {
		out = append(out, access.Need{
			Count: n.Count, Groups: n.Groups, Step: n.Step, EscalateAfter: time.Duration(n.EscalateSeconds) * time.Second, EscalateTo: n.EscalateTo,
		})
	}
	return out
}

func policyNeed(n access.Need) policy.Need {
	out := policy.Need{Count: n.Count, Groups: n.Groups, Step: n.Step, EscalateSeconds: int64(n.EscalateAfter / time.Second), EscalateTo: n.EscalateTo}
	if !n.When.IsZero() {
		out.When = &policy.Occasion{LongerSeconds: int64(n.When.LongerThan / time.Second), Labels: n.When.Labels}
	}
	return out
}

// allow asks and records a refusal: the way of every verb that changes nothing
// itself. e is the event of the attempt.
func (b *Broker) allow(ctx context.Context, q question, e audit.Event) (policy.Decision, error) {
	d, err := b.decide(ctx, q)
	if err != nil {
		return d, b.refused(ctx, e, err)
	}
	return d, nil
}

// refused records that the attempt e was refused with err, which it returns;
// when the refusal cannot be recorded that is part of the answer.
func (b *Broker) refused(ctx context.Context, e audit.Event, err error) error {
	e.Outcome = audit.Refused
	fill(&e, err)
	if r := b.c.Store.Record(ctx, e); r != nil {
		return errors.Join(err, r)
	}
	return err
}

// fill puts what the error says into the event.
func fill(e *audit.Event, err error) {
	if ae, ok := errors.AsType[*access.Error](err); ok {
		e.Reason, e.Rule = audit.Clean(ae.Text, audit.MaxReason), ae.Rule
	} else if e.Reason == "" {
		e.Reason = audit.Clean(err.Error(), audit.MaxReason)
	}
}
