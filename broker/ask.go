package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// refresh loads the roles into the policy engine when they have changed, here
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
	if err := b.c.Policy.SetData(policyData(roles)); err != nil {
		return fmt.Errorf("load the roles: %w", err)
	}
	// Read before the roles: if they changed in between, the next call loads
	// them once more.
	b.generation = generation
	return nil
}

func policyData(roles []access.Role) policy.Data {
	var d policy.Data
	for _, r := range roles {
		p := policy.Role{Name: r.Name, Inherits: r.Inherits, Groups: r.Groups, Users: r.Users}
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
		RequireTicket: r.RequireTicket, RequireMaintenanceWindow: r.RequireWindow,
		Session: policy.SessionRules(r.Session),
	}
	p.Session.Recording = policy.RecordingStrict // whatever the rule says
	for _, a := range r.Actions {
		p.Actions = append(p.Actions, policy.Action(a))
	}
	for _, n := range r.Approvals {
		p.Approvals = append(p.Approvals, policy.Need(n))
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

// checkRoles reports whether the policy would take these roles.
func checkRoles(roles []access.Role) error {
	if err := policyData(roles).Check(); err != nil {
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
	// groups are the groups that approvers have now, by user id.
	groups map[string][]string
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
	d, err := b.c.Policy.Decide(ctx, b.input(q))
	if err != nil {
		b.c.Log.ErrorContext(ctx, "the policy engine failed", "action", string(q.action), "error", err)
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
			ID: q.by.User.ID, Name: q.by.User.Name, Groups: q.by.User.Groups, Bot: q.by.User.Bot,
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
	if t := q.target; t != nil {
		in.Target = policyTarget(t)
	}
	in.Request.Requester = q.owner
	if r := q.request; r != nil {
		in.Request = policy.Request{
			ID: r.ID, Requester: r.RequesterID, Role: r.Role, Rule: r.Policy.Rule, Reason: r.Reason,
			DurationSeconds: int64(r.Duration / time.Second), BreakGlass: r.BreakGlass,
			CreatedAt: r.CreatedAt.UTC().Format(time.RFC3339), State: string(r.State),
		}
		in.Environment.Ticket = r.Ticket
		digest := r.Digest()
		for _, a := range r.Approvals {
			if a.Digest == digest { // a vote for something else is no vote
				in.Request.Approvals = append(in.Request.Approvals, policy.Approval{UserID: a.UserID, Groups: q.groups[a.UserID]})
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
		out = append(out, access.Need(n))
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
