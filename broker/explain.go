package broker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
)

// A WhatIf is a question to the policy that changes nothing.
type WhatIf struct {
	User            string // name; "" is the caller
	Target, Account string
	Action          string        // "": request
	Duration        time.Duration // 0: the default
	At              time.Time     // zero: now
	Source          netip.Addr    // invalid: that of the caller when the question is about them, else none
	Ticket          string
	BreakGlass      bool
	SecondFactor    bool      // as if it had just been proved; false: as it is for the caller, and never for others
	Candidate       Candidate // what to ask instead of the policy that is in force
}

// An Explained decision also says in words what the rule is that decided.
type Explained struct {
	policy.Explanation
	Rule  string
	Terms []string // what bounds the sessions besides their rules, in words; of what would be refused: none
}

// Explain answers what the policy would say and what would change the answer, without
// doing anything: for the caller, or, to who may read the policy, for another user. Who
// may not read the policy is told nothing of roles and groups that they do not have.
func (b *Broker) Explain(ctx context.Context, by access.Caller, w WhatIf) (Explained, error) {
	who, e := by, event(by, "policy.explain", w.User)
	foreign := w.User != "" && w.User != by.User.Name
	custom := w.Candidate.Files != nil || w.Candidate.Roles != nil
	if foreign || custom {
		if _, err := b.allow(ctx, question{action: w.Candidate.asks(), by: by}, e); err != nil {
			return Explained{}, err
		}
	}
	if foreign {
		u, err := b.c.Store.User(ctx, w.User)
		if err != nil {
			return Explained{}, unknownUser(err, w.User)
		}
		who = access.Caller{User: u}
	}
	v, err := b.FindTarget(ctx, by, w.Target)
	if err != nil {
		return Explained{}, err
	}
	t, err := b.c.Store.Target(ctx, v.Target.ID)
	if err != nil {
		return Explained{}, err
	}
	if w.Source.IsValid() {
		who.Source = w.Source
	}
	if w.Action == "" {
		w.Action = string(policy.ActionRequest)
	}
	if w.Duration == 0 {
		w.Duration = b.c.DefaultDuration
	}
	at := w.At
	if at.IsZero() {
		at = b.now()
	}
	if w.SecondFactor {
		who.MFAAt = at
	}
	in := b.input(question{action: policy.Action(w.Action), by: who, target: &t, account: w.Account, owner: who.User.ID, duration: w.Duration, at: at.UTC()})
	in.Environment.Ticket = w.Ticket
	if w.BreakGlass {
		in.Request.BreakGlass, in.Request.Reason = true, "an emergency"
	}
	engine := b.c.Policy
	if custom {
		if engine, err = b.candidate(ctx, w.Candidate); err != nil {
			return Explained{}, err
		}
	}
	x, err := engine.Explain(ctx, in)
	if err != nil {
		return Explained{}, policyDown(err)
	}
	out := Explained{Explanation: x}
	if rule, ok := engine.Lookup().Rule(policy.RuleName{Role: x.Decision.Role, ID: x.Decision.Rule}); ok {
		out.Rule = rule.Sentence()
		if x.Decision.Allow && asksFor(w.Action) {
			out.Terms = b.terms(rule, true)
		}
	}
	if _, err := b.decideNow(ctx, question{action: policy.ActionPolicyRead, by: by}); err != nil {
		out.Ways = slices.DeleteFunc(out.Ways, func(set []policy.Change) bool {
			return !x.Decision.Allow && slices.ContainsFunc(set, func(c policy.Change) bool { return c.Kind == "group" || c.Kind == "attribute" })
		})
	}
	return out, nil
}

// asksFor reports whether an action gives sessions when it is allowed.
func asksFor(action string) bool {
	switch policy.Action(action) {
	case policy.ActionRequest, policy.ActionBreakGlass, policy.ActionExtend, policy.ActionConnect:
		return true
	}
	return false
}

// terms say in words how many sessions a rule allows, beside which others, and when
// one ends by itself.
func (b *Broker) terms(rule policy.Rule, known bool) (list []string) {
	if known {
		l := rule.Limits
		if l.PerPerson > 0 {
			list = append(list, fmt.Sprintf("at most %d of one person at a time", l.PerPerson))
		}
		if l.PerTarget > 0 {
			list = append(list, fmt.Sprintf("at most %d on the target at a time", l.PerTarget))
		}
		if l.Exclusive {
			list = append(list, "only while nobody else is in the account")
		}
	}
	if b.c.SessionIdle > 0 {
		list = append(list, "ends after "+access.FormatDuration(b.c.SessionIdle)+" without a byte of data")
	}
	return list
}
