package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
)

// A viewer looks at many targets for one caller, in one list. Of the bundle in the
// program it is known that what targets and accounts are called matters to it by the
// rules that select them, and in its sentences: there what no role of the caller
// mentions is sieved out before it is asked about, and for questions that differ in
// names only one answer is enough. A bundle of the house's own is asked about each.
// The answers are those that asking one by one would give.
type viewer struct {
	b      *Broker
	by     access.Caller
	grants []access.Grant // the open ones of the caller

	// All are zero with a bundle of the house's own.
	reach   policy.Reach
	answers map[string]answered
	// anyTarget and anyAccount stand for names, and are those of nothing.
	anyTarget, anyAccount string
}

// An answered question.
type answered struct {
	decision policy.Decision
	err      error
}

// maxAnswers bounds how many answers a list keeps.
const maxAnswers = 10_000

func (b *Broker) viewer(by access.Caller, grants []access.Grant) *viewer {
	v := &viewer{b: b, by: by, grants: grants}
	if b.builtIn() {
		v.reach, v.answers = b.reach(by), map[string]answered{}
		v.anyTarget, v.anyAccount = rand.Text(), rand.Text()
	}
	return v
}

// mentions reports whether the caller could be shown the target at all: a role of
// theirs mentions it, to be read or to be asked for, or there is a grant. Of the target
// it looks at the id, the name, the labels and the accounts.
func (v *viewer) mentions(t *access.Target) bool {
	if v.answers == nil || slices.ContainsFunc(v.grants, func(g access.Grant) bool { return g.TargetID == t.ID }) {
		return true
	}
	in := policyTarget(t)
	return v.reach.Selects(policy.ActionTargetRead, in, "") || slices.ContainsFunc(t.Accounts, func(a access.Account) bool {
		return v.reach.Selects(v.asksBy(), in, a.Name)
	})
}

// asksBy is the listed action by which the caller asks for an account; see wouldAsk.
func (v *viewer) asksBy() policy.Action {
	if v.by.User.Emergency {
		return policy.ActionBreakGlass
	}
	return policy.ActionRequest
}

// view is the target as the caller may see it. Who may see neither it nor an account
// of it gets one without accounts, and is not Admin.
func (v *viewer) view(ctx context.Context, t access.Target) TargetView {
	_, err := v.ask(ctx, policy.ActionTargetRead, question{action: policy.ActionTargetRead, by: v.by, target: &t})
	out := TargetView{Target: t, Admin: err == nil}
	now := v.b.now()
	for _, a := range t.Accounts {
		av := AccountView{Name: a.Name}
		for _, g := range v.grants {
			if g.TargetID == t.ID && g.Account == a.Name && g.ActiveAt(now) {
				av.Usable, av.Until, av.Request = true, g.End, g.RequestID
			}
		}
		d, err := v.ask(ctx, v.asksBy(), wouldAsk(v.by, &t, a.Name))
		av.MayAsk, av.Needs, av.MaxDuration = err == nil, needs(d.Approvals), d.MaxDuration
		if err != nil {
			av.Why = err.Error()
		}
		if av.Usable || av.MayAsk || mayKnowOf(d) || out.Admin {
			out.Accounts = append(out.Accounts, av)
		}
	}
	if !out.Admin {
		out.Target.Address, out.Target.HostKeys, out.Target.Via, out.Target.HopAccount = "", nil, nil, ""
		out.Target.Provisioner, out.Target.PrincipalsFolder, out.Target.ScanAccount, out.Target.Facts = "", "", "", nil
	}
	return out
}

// ask is decideNow, which is spared where an answer is known already but for names.
// listed is the action under which rules carry the asked one.
func (v *viewer) ask(ctx context.Context, listed policy.Action, q question) (policy.Decision, error) {
	if v.answers == nil || q.by.User.Emergency && !emergencyMay(&q) {
		return v.b.decideNow(ctx, q)
	}
	in := v.b.input(q)
	rules := v.reach.Matching(listed, in.Target, in.Account)
	nameless := in
	nameless.Target.ID, nameless.Target.Name = v.anyTarget, v.anyTarget
	if in.Account != "" {
		nameless.Account = v.anyAccount
	}
	text, err := nameless.MarshalJSON()
	if err != nil {
		return v.b.answer(ctx, q.action, in)
	}
	class := fmt.Sprint(rules) + string(text)
	if a, known := v.answers[class]; known {
		return v.named(a, in)
	}
	// It is asked with as few names as the same rules select.
	ask := nameless
	if !slices.Equal(v.reach.Matching(listed, ask.Target, ask.Account), rules) {
		ask.Account = in.Account
	}
	if !slices.Equal(v.reach.Matching(listed, ask.Target, ask.Account), rules) {
		ask.Target.ID, ask.Target.Name = in.Target.ID, in.Target.Name
	}
	d, err := v.b.answer(ctx, q.action, ask)
	a := answered{d, err}
	// What names the one that was asked about is no answer for others; and where there
	// was none, another may not fail.
	if len(v.answers) < maxAnswers && d.InputHash != "" && !says(d, ask.Target.Name, v.anyTarget) && !says(d, ask.Account, v.anyAccount) {
		v.answers[class] = a
	}
	return v.named(a, in)
}

// says reports whether an answer holds a name, other than the one that stands for
// all.
func says(d policy.Decision, name, all string) bool {
	return name != "" && name != all && slices.ContainsFunc(d.Reasons, func(r policy.Reason) bool { return strings.Contains(r.Text, name) })
}

// named is an answer in which the names of in stand.
func (v *viewer) named(a answered, in policy.Input) (policy.Decision, error) {
	names := strings.NewReplacer(v.anyTarget, in.Target.Name, v.anyAccount, in.Account)
	d := a.decision
	d.Reasons = slices.Clone(d.Reasons)
	for i := range d.Reasons {
		d.Reasons[i].Text = names.Replace(d.Reasons[i].Text)
	}
	if errors.Is(a.err, access.ErrDenied) {
		return d, refusal(d)
	}
	return d, a.err
}
