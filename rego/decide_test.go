package rego_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/policy"
	"pgregory.net/rapid"
)

func alice() policy.User {
	age := int64(60)
	return policy.User{ID: "u-alice", Name: "alice", Groups: []string{"dbas"}, MFAAgeSeconds: &age}
}

// ask is alice's request for root on db01, on a Wednesday at 10:30.
func ask() policy.Input {
	in := policy.Input{
		Action:  policy.ActionRequest,
		User:    alice(),
		Target:  policy.Target{ID: "t-1", Name: "db01", Labels: map[string]string{"environment": "prod", "tier": "1"}},
		Account: "root", Environment: policy.EnvironmentAt(time.Date(2026, 3, 4, 10, 30, 0, 0, time.UTC)),
		Request: policy.Request{Requester: "u-alice", Reason: "INC-1", DurationSeconds: 3600},
	}
	in.Environment.Source = "10.1.2.3"
	return in
}

func TestDecide(t *testing.T) {
	e := engine(t)
	ask := ask()
	d, err := e.Decide(t.Context(), ask)
	if err != nil || !d.Allow {
		t.Fatalf("got %+v, %v", d, err)
	}
	if d.Role != "db-admin" || d.Rule != "prod" || d.MaxDuration != 4*time.Hour || d.MFAWithin != time.Hour ||
		len(d.Approvals) != 1 || d.Approvals[0].Count != 1 || !slices.Equal(d.Approvals[0].Groups, []string{"db-leads"}) ||
		!d.Rules.Shell || len(d.Rules.Files) > 0 || d.Rules.Recording != policy.RecordingStandard || d.BreakGlass {
		t.Errorf("got %+v", d)
	}

	// The same person goes on with it, from the decision to the connection.
	use := ask
	use.Action = policy.ActionConnect
	use.Request.ID, use.Request.Role, use.Request.Rule = "r-1", d.Role, d.Rule
	if d, err := e.Decide(t.Context(), use); err != nil || d.Allow || d.Reasons[0].Rule != "request.approvals" {
		t.Errorf("without approval: got %+v, %v", d, err)
	}
	use.Request.Approvals = []policy.Approval{{UserID: "u-lead", Groups: []string{"db-leads"}}}
	if d, err := e.Decide(t.Context(), use); err != nil || !d.Allow {
		t.Errorf("with approval: got %+v, %v", d, err)
	}

	// The roles change: the grant in hand is worth nothing any more.
	less := roles(t)
	less.Roles = slices.DeleteFunc(less.Roles, func(r policy.Role) bool { return r.Name == "db-admin" })
	if err := e.SetData(less); err != nil {
		t.Fatal(err)
	}
	if d, err := e.Decide(t.Context(), use); err != nil || d.Allow {
		t.Errorf("after the role is gone: got %+v, %v", d, err)
	}
}

// Without roles nothing is allowed, and each refusal says why.
func TestNoRoles(t *testing.T) {
	e := engine(t)
	if err := e.SetData(policy.Data{}); err != nil {
		t.Fatal(err)
	}
	for _, a := range policy.Actions() {
		in := ask()
		in.Action = a
		in.Request.Requester = "u-other"
		in.Request.ID, in.Request.Role, in.Request.Rule = "r-1", "db-admin", "prod"
		d, err := e.Decide(t.Context(), in)
		if err != nil || d.Allow || d.Reason() == "" || strings.Contains(d.Reason(), "%!") {
			t.Errorf("%s: got %+v, %v", a, d, err)
		}
	}
}

var words = rapid.SampledFrom([]string{
	"", "*", "u-alice", "u-frank", "u-lead", "dbas", "ops", "security", "auditors", "db-leads", "watched", "root",
	"postgres", "db01", "vault-db", "web-1", "core-1", "prod", "staging", "db-admin", "db-reader", "maintenance",
	"emergency", "everything", "vote", "strict", "environment", "tier", "1", "INC-1", " ", "\u0000", "U-ALICE", "é",
})

// anything draws an Input out of words that mean something to the roles.
func anything(t *rapid.T) policy.Input {
	text := func(name string) string { return words.Draw(t, name) }
	texts := func(name string) []string { return rapid.SliceOfN(words, 0, 4).Draw(t, name) }
	yes := func(name string) bool { return rapid.Bool().Draw(t, name) }
	in := policy.Input{
		Action:  rapid.SampledFrom(policy.Actions()).Draw(t, "action"),
		User:    policy.User{ID: "u-" + text("id"), Name: text("name"), Groups: texts("groups"), Bot: yes("bot"), Locked: yes("locked")},
		Target:  policy.Target{ID: text("target id"), Name: text("target"), Locked: yes("target locked")},
		Account: text("account"),
		Environment: policy.Environment{
			Weekday: rapid.SampledFrom([]string{"monday", "sunday", ""}).Draw(t, "weekday"), Hour: rapid.IntRange(0, 23).Draw(t, "hour"),
			Source:            rapid.SampledFrom([]string{"", "10.0.0.1", "192.0.2.1", "::1", "::ffff:10.0.0.1"}).Draw(t, "source"),
			MaintenanceWindow: yes("window"), Ticket: text("ticket"),
		},
		Request: policy.Request{
			ID: text("request"), Requester: "u-" + text("requester"), Role: text("role"), Rule: text("rule"), Reason: text("reason"),
			DurationSeconds: rapid.Int64Range(0, 20000).Draw(t, "duration"), BreakGlass: yes("break-glass"), State: text("state"),
		},
	}
	if yes("second factor") {
		age := rapid.Int64Range(0, 10000).Draw(t, "age")
		in.User.MFAAgeSeconds = &age
	}
	in.Target.Labels = map[string]string{}
	for range rapid.IntRange(0, 3).Draw(t, "labels") {
		in.Target.Labels[text("key")] = strings.ReplaceAll(text("value"), "\x00", "")
	}
	for range rapid.IntRange(0, 4).Draw(t, "votes") {
		in.Request.Approvals = append(in.Request.Approvals, policy.Approval{UserID: text("voter"), Groups: texts("voter's groups")})
	}
	return in
}

// nearly draws an Input that is allowed but for the parts drawn at random.
func nearly(t *rapid.T) policy.Input {
	in, random := ask(), anything(t)
	in.Request.ID, in.Request.Role, in.Request.Rule = "r-1", "db-admin", "prod"
	in.Request.Approvals = []policy.Approval{{UserID: "u-lead", Groups: []string{"db-leads"}}}
	in.Action = rapid.SampledFrom(policy.Actions()).Draw(t, "wanted")
	switch {
	case in.Action == policy.ActionRequest:
		in.Request.Rule = ""
	case in.Action == policy.ActionApprove || in.Action == policy.ActionDeny:
		in.User.ID, in.User.Groups, in.Request.Approvals = "u-lead2", []string{"db-leads"}, nil
	case strings.Contains(string(in.Action), ".") || in.Action == policy.ActionRevoke:
		in.User.Groups = []string{"auditors", "security"}
	case rapid.Bool().Draw(t, "urgent"):
		in.Request.BreakGlass, in.Request.Rule, in.Request.DurationSeconds = true, "emergency", 60
	}
	for _, part := range rapid.SliceOfN(rapid.IntRange(0, 11), 0, 2).Draw(t, "parts") {
		switch part {
		case 0:
			in.User = random.User
		case 1:
			in.User.Locked = random.User.Locked
		case 2:
			in.User.MFAAgeSeconds = random.User.MFAAgeSeconds
		case 3:
			in.User.Bot = random.User.Bot
		case 4:
			in.Target = random.Target
		case 5:
			in.Target.Locked = random.Target.Locked
		case 6:
			in.Account = random.Account
		case 7:
			in.Environment = random.Environment
		case 8:
			in.Request = random.Request
		case 9:
			in.Request.DurationSeconds = random.Request.DurationSeconds
		case 10:
			in.Request.Requester = random.Request.Requester
		case 11:
			in.Request.Approvals = random.Request.Approvals
		}
	}
	return in
}

// Whatever is asked, somebody without a role gets nothing, except that they may
// give up what is their own.
func TestNobodyGetsNothing(t *testing.T) {
	e := engine(t)
	rapid.Check(t, func(rt *rapid.T) {
		in := anything(rt)
		in.User.ID = rapid.SampledFrom([]string{"u-nobody", "*", " ", "data", "U-FRANK"}).Draw(rt, "nobody")
		in.User.Groups = rapid.SampledFrom([][]string{nil, {"everybody"}, {"*"}, {"DBAS", "db-admin"}, {""}}).Draw(rt, "no group")
		d, err := e.Decide(t.Context(), in)
		own := in.Action == policy.ActionCancel || in.Action == policy.ActionRelease
		if err != nil || d.Allow && !own {
			rt.Fatalf("got %+v, %v", d, err)
		}
	})
}

// What holds for every decision, whoever asks for whatever.
func TestAlways(t *testing.T) {
	e := engine(t)
	allowed := 0
	rapid.Check(t, func(rt *rapid.T) {
		in := nearly(rt)
		d, err := e.Decide(t.Context(), in)
		if err != nil {
			rt.Fatal(err)
		}
		if len(d.Reasons) == 0 || strings.Contains(d.Reason(), "%!") {
			rt.Fatalf("no reason, or a broken one: %+v", d)
		}
		if !d.Allow {
			return
		}
		allowed++
		same := strings.EqualFold(strings.TrimSpace(in.User.ID), strings.TrimSpace(in.Request.Requester))
		switch in.Action {
		case policy.ActionApprove, policy.ActionDeny:
			if same || in.User.Bot {
				rt.Fatal("a vote by the requester or a bot")
			}
		case policy.ActionRequest, policy.ActionActivate, policy.ActionConnect, policy.ActionExtend, policy.ActionCheckout:
			if !same || in.Target.Locked || in.Account == "" || in.Target.Name == "" {
				rt.Fatal("opened for another, or on a locked target, or on nothing")
			}
			if d.BreakGlass != in.Request.BreakGlass || d.BreakGlass && len(d.Approvals) > 0 {
				rt.Fatalf("break-glass: %+v", d)
			}
			if in.Action != policy.ActionCheckout && in.Request.DurationSeconds > int64(d.MaxDuration/time.Second) {
				rt.Fatal("longer than the rule allows")
			}
			if in.Action != policy.ActionRequest && in.Request.Role != d.Role {
				rt.Fatal("carried by another role than the request's")
			}
		}
		if in.User.Locked {
			rt.Fatal("allowed to somebody who is locked out")
		}
		if d.MFAWithin > 0 && (in.User.MFAAgeSeconds == nil || *in.User.MFAAgeSeconds > int64(d.MFAWithin/time.Second)) {
			rt.Fatal("allowed with a stale second factor")
		}
	})
	if allowed < 10 {
		t.Errorf("only %d inputs were allowed, so little was tested", allowed)
	}
}
