package rego_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/rego"
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
	e, err := policy.New(b.Context(), policy.Config{Bundle: rego.Bundle, Timeout: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	d, ins := fleet(1000)
	if err := e.SetData(b.Context(), d); err != nil {
		b.Fatal(err)
	}
	took := make([]time.Duration, 0, 1<<20)
	allowed, n := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		dec, err := e.Decide(b.Context(), ins[n%len(ins)])
		took = append(took, time.Since(start))
		if err != nil {
			b.Fatal(err)
		}
		if n++; dec.Allow {
			allowed++
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "us-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "us-p99")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric(100*float64(allowed)/float64(n), "%allowed")
}
