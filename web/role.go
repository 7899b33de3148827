package web

import (
	"context"
	"strings"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func apiRole(r access.Role) api.Role {
	return api.Role{
		Name: r.Name, Inherits: r.Inherits, Groups: r.Groups, Users: r.Users, Version: r.Version,
		Rules: each(r.Rules, func(x access.Rule) api.Rule {
			return api.Rule{
				ID: x.ID, Actions: x.Actions, Targets: api.Selector(x.Targets), Accounts: x.Accounts,
				MaxDurationSeconds: seconds(x.MaxDuration), MFAWithinSeconds: seconds(x.MFAWithin),
				Approvals: each(x.Approvals, approverNeed), DenyThreshold: x.DenyThreshold,
				Session:  api.SessionRules(x.Session),
				Weekdays: x.Weekdays, Hours: strings.Join(x.Hours, ","), Sources: x.Sources,
				RequireTicket: x.RequireTicket, RequireMaintenanceWindow: x.RequireWindow,
			}
		}),
	}
}

func accessRole(r api.Role) access.Role {
	return access.Role{
		Name: r.Name, Inherits: r.Inherits, Groups: r.Groups, Users: r.Users, Version: r.Version,
		Rules: each(r.Rules, func(x api.Rule) access.Rule {
			out := access.Rule{
				ID: x.ID, Actions: x.Actions, Targets: access.Selector(x.Targets), Accounts: x.Accounts,
				MaxDuration: duration(x.MaxDurationSeconds), MFAWithin: duration(x.MFAWithinSeconds),
				Approvals: each(x.Approvals, accessNeed), DenyThreshold: x.DenyThreshold,
				Session:  access.SessionRules(x.Session),
				Weekdays: x.Weekdays, Sources: x.Sources, RequireTicket: x.RequireTicket, RequireWindow: x.RequireMaintenanceWindow,
			}
			if x.Hours != "" {
				out.Hours = strings.Split(x.Hours, ",")
			}
			return out
		}),
	}
}

func approverNeed(n access.Need) api.ApproverNeed {
	out := api.ApproverNeed{Count: n.Count, Groups: n.Groups, Step: n.Step, EscalateAfterSeconds: seconds(n.EscalateAfter), EscalateTo: n.EscalateTo}
	if !n.When.IsZero() {
		out.When = &api.Occasion{LongerThanSeconds: seconds(n.When.LongerThan), Labels: n.When.Labels}
	}
	return out
}

func accessNeed(n api.ApproverNeed) access.Need {
	out := access.Need{Count: n.Count, Groups: n.Groups, Step: n.Step, EscalateAfter: duration(n.EscalateAfterSeconds), EscalateTo: n.EscalateTo}
	if n.When != nil {
		out.When = access.Occasion{LongerThan: duration(n.When.LongerThanSeconds), Labels: n.When.Labels}
	}
	return out
}

func (s *Server) roles(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.Role], error) {
	list, err := s.c.Broker.Roles(ctx, by)
	return api.List[api.Role]{Items: each(list, apiRole)}, err
}

func (s *Server) findRole(ctx context.Context, by access.Caller, in *ByName) (api.Role, error) {
	r, err := s.c.Broker.FindRole(ctx, by, in.Name)
	return apiRole(r), err
}

func (s *Server) setRole(ctx context.Context, by access.Caller, in *struct {
	ByName
	Body api.Role
}) (api.Role, error) {
	if err := named(in.Name, in.Body.Name); err != nil {
		return api.Role{}, err
	}
	r, err := s.c.Broker.SetRole(ctx, by, accessRole(in.Body))
	return apiRole(r), err
}

func (s *Server) removeRole(ctx context.Context, by access.Caller, in *ByName) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.RemoveRole(ctx, by, in.Name)
}

func (s *Server) explain(ctx context.Context, by access.Caller, in *struct{ Body api.ExplainInput }) (api.Decision, error) {
	d, err := s.c.Broker.Explain(ctx, by, broker.WhatIf{
		User: in.Body.User, Target: in.Body.Target, Account: in.Body.Account, Action: in.Body.Action, Duration: duration(in.Body.DurationSeconds),
	})
	if err != nil {
		return api.Decision{}, err
	}
	out := api.Decision{
		ID: d.ID, Allow: d.Allow, Role: d.Role, Rule: d.Rule, MaxDurationSeconds: seconds(d.MaxDuration),
		Approvals: []api.ApproverNeed{}, Reasons: []api.RuleReason{},
		Session:          api.SessionRules(d.Rules),
		MFAWithinSeconds: seconds(d.MFAWithin), BreakGlass: d.BreakGlass, InputHash: d.InputHash, PolicyDigest: d.PolicyDigest, DataDigest: d.DataDigest,
	}
	for _, n := range d.Approvals {
		out.Approvals = append(out.Approvals, api.ApproverNeed{Count: n.Count, Groups: n.Groups, Step: n.Step, EscalateAfterSeconds: n.EscalateSeconds, EscalateTo: n.EscalateTo})
	}
	for _, r := range d.Reasons {
		out.Reasons = append(out.Reasons, api.RuleReason{Rule: r.Rule, Text: r.Text})
	}
	return out, nil
}
