package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Verdict says whether a bundle may be put into service.
type Verdict struct {
	// Program is the bundle, compiled; nil when it does not compile.
	Program *Program
	Report  Report
	// Problems are why it may not, in words; none when it may.
	Problems []string
}

// The limits of what a verdict tells and of what it asks.
const (
	maxProblems   = 50
	maxProbeRoles = 50
)

// Prove looks at a bundle before it is put into service: whether it compiles in the
// cage, whether its tests pass over the roles of its tests, and whether it keeps the
// contract, which is to answer a decision of exactly the fields within the time, for
// every action, by anybody, under these roles and under those that are in force. An
// error means that it could not be looked at.
func Prove(ctx context.Context, files map[string][]byte, tests, inForce Data) (Verdict, error) {
	var v Verdict
	problem := func(format string, args ...any) {
		if len(v.Problems) < maxProblems {
			v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
		}
	}
	var err error
	if v.Program, err = Compile(files); err != nil {
		problem("%v", err)
		return v, nil
	}
	if v.Report, err = RunTests(ctx, files, tests); err != nil {
		if ctx.Err() != nil {
			return v, ctx.Err()
		}
		problem("%v", err)
		return v, nil
	}
	for _, t := range v.Report.Failed() {
		switch {
		case t.Failed != "":
			problem("test %s failed at %s: %s", t.Name, t.FailedAt, t.Failed)
		default:
			problem("test %s (%s): %v", t.Name, t.File, t.Err)
		}
	}
	for _, d := range []Data{tests, inForce} {
		e, err := NewEngine(v.Program, 0)
		if err != nil {
			return v, err
		}
		if err := e.SetData(d); err != nil {
			problem("%v", err)
			continue
		}
		for _, in := range probes(d) {
			if _, err := e.Decide(ctx, in); ctx.Err() != nil {
				return v, ctx.Err()
			} else if err != nil {
				// Without the id of a decision that nobody finds anywhere.
				text := err.Error()
				if _, after, ok := strings.Cut(text, ": "); ok {
					text = after
				}
				problem("the contract is not kept for action %s: %s", in.Action, text)
				break
			}
		}
	}
	v.Problems = slices.Compact(v.Problems)
	return v, nil
}

// ParseData reads roles as docs/policy.md shows them.
func ParseData(text []byte) (Data, error) {
	var d Data
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&d); err != nil {
		return d, fmt.Errorf("policy data: %w", err)
	}
	return d, d.Check()
}

// probes are questions of every kind, some of them about what the roles let.
func probes(d Data) (list []Input) {
	now, proved := EnvironmentAt(time.Date(2026, 3, 4, 10, 30, 0, 0, time.UTC)), int64(0)
	plain := Input{
		User:   User{ID: "USR-probe", Name: "probe", MFAAgeSeconds: &proved},
		Target: Target{ID: "TGT-probe", Name: "probe"}, Account: "root", Environment: now,
		Request: Request{ID: "REQ-probe", Requester: "USR-probe", DurationSeconds: 60, CreatedAt: now.Time, State: "pending"},
	}
	ask := func(in Input) {
		for _, a := range Actions() {
			in.Action = a
			list = append(list, in)
		}
	}
	ask(plain)
	locked := plain
	locked.User.Locked, locked.User.MFAAgeSeconds = true, nil
	ask(locked)
	nothing := plain
	nothing.Target, nothing.Account, nothing.Request = Target{}, "", Request{}
	ask(nothing)
	for _, role := range d.Roles[:min(len(d.Roles), maxProbeRoles)] {
		if len(role.Rules) == 0 {
			continue
		}
		in, rule := plain, &role.Rules[0]
		in.User.Groups, in.Request.Role, in.Request.Rule = role.Groups, role.Name, rule.ID
		if len(role.Users) > 0 {
			in.User.ID = role.Users[0]
		}
		if len(rule.Accounts) > 0 && rule.Accounts[0] != "*" {
			in.Account = rule.Accounts[0]
		}
		if len(rule.Targets.Names) > 0 {
			in.Target.Name = strings.TrimSuffix(rule.Targets.Names[0], "*") + "1"
			if !strings.HasSuffix(rule.Targets.Names[0], "*") {
				in.Target.Name = rule.Targets.Names[0]
			}
		}
		in.Target.Labels = map[string]string{}
		for key, values := range rule.Targets.Labels {
			in.Target.Labels[key] = values[0]
		}
		in.Request.Requester = in.User.ID
		for _, a := range append([]Action{ActionRequest, ActionConnect, ActionApprove}, rule.Actions...) {
			if in.Action = a; a.Known() {
				list = append(list, in)
			}
		}
		in.Action, in.Request.Requester = ActionApprove, "USR-other"
		for _, n := range rule.Approvals {
			in.User.Groups = n.Groups
			list = append(list, in)
		}
	}
	return list
}
