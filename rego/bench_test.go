//go:build linux

package rego_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/open-policy-agent/opa/v1/ast"
	opa "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"golang.org/x/sys/unix"
)

// A size is how large a house is, and how many roles each of its users has.
type size struct{ users, targets, roles, each int }

var (
	small = size{500, 1_000, 50, 4}
	large = size{10_000, 10_000, 500, 20}
)

// fleet is a house of roles of 6 rules each, and n questions about it of users who
// ask for access, more than half of which are allowed.
func fleet(h size, n int) (policy.Data, []policy.Input) {
	r := rand.New(rand.NewPCG(1, 2))
	environments := []string{"prod", "staging", "dev"}
	teams := h.roles / 2
	var d policy.Data
	for i := range h.roles {
		team := fmt.Sprintf("team-%d", i%teams)
		role := policy.Role{Name: fmt.Sprintf("role-%02d", i), Groups: []string{fmt.Sprintf("group-%02d", i)}}
		if i%5 == 4 {
			role.Inherits = []string{fmt.Sprintf("role-%02d", i-1)}
		}
		for j := range 6 {
			rule := policy.Rule{
				ID:          fmt.Sprintf("rule-%d", j),
				Actions:     []policy.Action{policy.ActionRequest, policy.ActionExtend},
				Targets:     policy.Selector{Labels: map[string][]string{"owner": {team}, "environment": {environments[j%3]}}},
				Accounts:    []string{"root", "postgres"},
				MaxDuration: time.Duration(j+1) * time.Hour,
				Approvals:   []policy.Need{{Count: 1 + j%2, Groups: []string{"leads", "security"}}},
				MFAWithin:   8 * time.Hour,
				Session:     policy.SessionRules{Recording: policy.RecordingStandard, Shell: true, Exec: true},
			}
			if j >= 3 {
				rule.Hours = []policy.Hours{{From: "08:00", To: "18:00"}}
				rule.Sources = []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}
			}
			role.Rules = append(role.Rules, rule)
		}
		d.Roles = append(d.Roles, role)
	}
	d.Roles = append(d.Roles,
		policy.Role{Name: "leads", Groups: []string{"leads"}, Rules: []policy.Rule{{ID: "vote", Actions: []policy.Action{policy.ActionApprove, policy.ActionDeny}}}},
		policy.Role{Name: "auditors", Groups: []string{"auditors"}, Rules: []policy.Rule{{ID: "read", Actions: []policy.Action{policy.ActionRequestRead}}}})
	mfa := int64(600)
	var ins []policy.Input
	for range n {
		user, target := r.IntN(h.users), r.IntN(h.targets)
		// A user is in the groups of some roles, and asks for a target of one of these
		// teams most of the time.
		var mine []int
		for k := range h.each {
			mine = append(mine, (user+k*k*7+k*3)%h.roles)
		}
		team := fmt.Sprintf("team-%d", target%teams)
		if r.IntN(10) < 7 {
			team = fmt.Sprintf("team-%d", mine[r.IntN(len(mine))]%teams)
		}
		var groups []string
		for _, g := range mine {
			groups = append(groups, fmt.Sprintf("group-%02d", g))
		}
		in := policy.Input{
			Action: policy.ActionRequest,
			User: policy.User{ID: fmt.Sprintf("u-%d", user), Name: fmt.Sprintf("user%d", user),
				Groups: append(groups, "everybody", "vpn"), MFAAgeSeconds: &mfa},
			Target: policy.Target{ID: fmt.Sprintf("t-%d", target), Name: fmt.Sprintf("host%d", target), Labels: map[string]string{
				"owner": team, "environment": environments[target%3], "tier": "1", "criticality": "high",
			}},
			Account:     "root",
			Environment: policy.EnvironmentAt(time.Date(2026, 3, 4, 10, 30, 0, 0, time.UTC)),
			Request: policy.Request{Requester: fmt.Sprintf("u-%d", user), Reason: "INC-1",
				DurationSeconds: int64(1+r.IntN(2)) * 1800, Approvals: []policy.Approval{}},
		}
		in.Environment.Source = fmt.Sprintf("10.1.%d.%d", r.IntN(256), r.IntN(256))
		ins = append(ins, in)
	}
	return d, ins
}

// BenchmarkDecideLarge asks about a large house: who asks for access, who uses it
// after two have approved, who approves, and who reads.
func BenchmarkDecideLarge(b *testing.B) {
	e, err := policy.New(policy.Config{Bundle: rego.Bundle, Timeout: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	d, asks := fleet(large, 4000)
	start := time.Now()
	if err := e.SetData(d); err != nil {
		b.Fatal(err)
	}
	b.Logf("the roles were loaded in %s", time.Since(start).Round(time.Millisecond))
	// Only what was let in is used, approved and read.
	asks = slices.DeleteFunc(asks, func(in policy.Input) bool {
		d, err := e.Decide(b.Context(), in)
		return err != nil || !d.Allow
	})
	lead := func(action policy.Action, votes int) []policy.Input {
		var ins []policy.Input
		for i, in := range asks {
			d, err := e.Decide(b.Context(), in)
			if err != nil {
				b.Fatal(err)
			}
			in.Action = action
			in.Request.ID, in.Request.Role, in.Request.Rule, in.Request.State = fmt.Sprintf("r-%d", i), d.Role, d.Rule, "pending"
			for v := range votes {
				in.Request.Approvals = append(in.Request.Approvals, policy.Approval{UserID: fmt.Sprintf("lead-%d", v), Groups: []string{"leads"}})
			}
			switch action {
			case policy.ActionApprove:
				in.User = policy.User{ID: "lead-9", Name: "lead9", Groups: append(slices.Clone(in.User.Groups), "leads"), MFAAgeSeconds: in.User.MFAAgeSeconds}
			case policy.ActionRequestRead:
				in.User = policy.User{ID: "auditor-1", Name: "auditor1", Groups: append(slices.Clone(in.User.Groups), "auditors"), MFAAgeSeconds: in.User.MFAAgeSeconds}
			}
			ins = append(ins, in)
		}
		return ins
	}
	_, all := fleet(large, 4000)
	for _, q := range []struct {
		name string
		ins  []policy.Input
	}{
		{"request", all}, {"connect", lead(policy.ActionConnect, 2)}, {"approve", lead(policy.ActionApprove, 1)}, {"request.read", lead(policy.ActionRequestRead, 1)},
	} {
		b.Run(q.name, func(b *testing.B) {
			measure(b, len(q.ins), func(i int) (bool, error) {
				d, err := e.Decide(b.Context(), q.ins[i])
				return d.Allow, err
			})
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	e, err := policy.New(policy.Config{Bundle: rego.Bundle, Timeout: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	d, ins := fleet(small, 1000)
	if err := e.SetData(d); err != nil {
		b.Fatal(err)
	}
	measure(b, len(ins), func(i int) (bool, error) {
		d, err := e.Decide(b.Context(), ins[i])
		return d.Allow, err
	})
}

// bare is about the least that answers the same questions: no inheritance, no
// specificity, no reasons, no second answer besides yes.
const bare = `package bare

default decision := {"allow": false}

decision := {"allow": true, "rule": found[0].id, "approvals": found[0].approvals}

found := [rule |
	some group in input.user.groups
	some rule in data.rules[group][input.target.key]
	rule.accounts[input.account]
	input.request.duration_seconds <= rule.max_seconds
	input.user.mfa_age_seconds <= rule.mfa_seconds
	in_hours(rule.hours)
	in_sources(rule.sources)
]

in_hours([])

in_hours([from, to]) if {
	from <= input.environment.hour
	input.environment.hour < to
}

in_sources([])

in_sources(networks) if {
	some network in networks
	net.cidr_contains(network, input.environment.source)
}
`

// BenchmarkBare asks the same questions of a small policy on OPA as it comes, with
// data that is shaped for it and inputs that are ready: no checks, no hash, no id.
func BenchmarkBare(b *testing.B) {
	d, ins := fleet(small, 1000)
	rules := map[string]any{}
	for _, role := range d.Roles[:small.roles] {
		byKey := map[string]any{}
		for _, r := range role.Rules {
			hours, sources := []any{}, []any{}
			if r.Hours != nil {
				hours, sources = []any{8, 18}, []any{r.Sources[0], r.Sources[1], r.Sources[2]}
			}
			key := r.Targets.Labels["environment"][0] + "/" + r.Targets.Labels["owner"][0]
			list, _ := byKey[key].([]any)
			byKey[key] = append(list, map[string]any{
				"id": r.ID, "accounts": map[string]any{"root": true, "postgres": true}, "hours": hours, "sources": sources,
				"max_seconds": int(r.MaxDuration / time.Second), "mfa_seconds": int(r.MFAWithin / time.Second),
				"approvals": []any{map[string]any{"count": r.Approvals[0].Count, "groups": []any{"leads", "security"}}},
			})
		}
		rules[role.Groups[0]] = byKey
	}
	store := inmem.NewFromObjectWithOpts(map[string]any{"rules": rules},
		inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
	query, err := opa.New(opa.Query("data.bare.decision"), opa.Module("bare.rego", bare), opa.Store(store)).PrepareForEval(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	inputs := make([]ast.Value, len(ins))
	for i, in := range ins {
		text, err := json.Marshal(in)
		if err != nil {
			b.Fatal(err)
		}
		var question map[string]any
		if err := json.Unmarshal(text, &question); err != nil {
			b.Fatal(err)
		}
		question["target"].(map[string]any)["key"] = in.Target.Labels["environment"] + "/" + in.Target.Labels["owner"]
		inputs[i] = ast.MustInterfaceToValue(question)
	}
	measure(b, len(ins), func(i int) (bool, error) {
		results, err := query.Eval(b.Context(), opa.EvalParsedInput(inputs[i]))
		if err != nil {
			return false, err
		}
		return results[0].Expressions[0].Value.(map[string]any)["allow"] == true, nil
	})
}

// measure asks n questions over and over. Beside the time that passes it takes that
// of the processor, which is the same on a machine that does other things, too.
func measure(b *testing.B, n int, ask func(int) (bool, error)) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as in the server
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	took, used := make([]time.Duration, 0, 1<<20), make([]time.Duration, 0, 1<<20)
	allowed := 0
	b.ReportAllocs()
	for b.Loop() {
		start, before := time.Now(), processor(b)
		yes, err := ask(len(took) % n)
		took, used = append(took, time.Since(start)), append(used, processor(b)-before)
		if err != nil {
			b.Fatal(err)
		}
		if yes {
			allowed++
		}
	}
	slices.Sort(took)
	slices.Sort(used)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "us-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "us-p99")
	b.ReportMetric(float64(used[len(used)*99/100].Nanoseconds())/1e3, "cpu-us-p99")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric(100*float64(allowed)/float64(len(took)), "%allowed")
}

// processor is the time that this thread has used of processors.
func processor(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}
