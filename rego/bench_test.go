package rego_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/open-policy-agent/opa/v1/ast"
	opa "github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// fleet is a house of 500 users, 1,000 targets and 50 roles of 6 rules, and
// n questions about it, more than half of which are allowed.
func fleet(n int) (policy.Data, []policy.Input) {
	r := rand.New(rand.NewPCG(1, 2))
	environments := []string{"prod", "staging", "dev"}
	var d policy.Data
	for i := range 50 {
		team := fmt.Sprintf("team-%d", i%25)
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
	mfa := int64(600)
	var ins []policy.Input
	for range n {
		user, target := r.IntN(500), r.IntN(1000)
		// A user is in the groups of four roles, and asks for a target of one of
		// these teams most of the time.
		mine := []int{user % 50, (user + 7) % 50, (user + 19) % 50, (user + 33) % 50}
		team := fmt.Sprintf("team-%d", target%25)
		if r.IntN(10) < 7 {
			team = fmt.Sprintf("team-%d", mine[r.IntN(4)]%25)
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

func BenchmarkDecide(b *testing.B) {
	e, err := policy.New(policy.Config{Bundle: rego.Bundle, Timeout: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	d, ins := fleet(1000)
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
	d, ins := fleet(1000)
	rules := map[string]any{}
	for _, role := range d.Roles {
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

// measure asks n questions over and over.
func measure(b *testing.B, n int, ask func(int) (bool, error)) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as in the server
	took := make([]time.Duration, 0, 1<<20)
	allowed := 0
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		yes, err := ask(len(took) % n)
		took = append(took, time.Since(start))
		if err != nil {
			b.Fatal(err)
		}
		if yes {
			allowed++
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "us-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "us-p99")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric(100*float64(allowed)/float64(len(took)), "%allowed")
}
