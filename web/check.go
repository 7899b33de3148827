package web

import (
	"context"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// mayCheck takes the place of one more check of who asks. It is given back with
// done.
func (s *Server) mayCheck(who string) (done func(), err error) {
	if s.c.Check == nil {
		return nil, &access.Error{Kind: access.ErrUnavailable, Code: "DB-5030", Text: "this server checks no targets"}
	}
	done, ok := s.checking.enter(who)
	if ok && s.checks.take(who) {
		return done, nil
	}
	if ok {
		done()
	}
	return nil, &access.Error{Kind: errRate, Code: "DB-6009", Text: "too many checks of targets: wait a little"}
}

func apiStep(s access.CheckStep) api.CheckStep {
	return api.CheckStep{Step: s.Step, Target: s.Target, Account: s.Account, State: string(s.State), Detail: s.Detail, Next: s.Next}
}

func (s *Server) checkTarget(ctx context.Context, by access.Caller, in *struct {
	ByName
	Body api.CheckInput
}) (api.TargetCheck, error) {
	done, err := s.mayCheck(by.User.ID)
	if err != nil {
		return api.TargetCheck{}, err
	}
	defer done()
	p, err := s.c.Broker.BeginCheck(ctx, by, in.Name, in.Body.Account)
	if err != nil {
		return api.TargetCheck{}, err
	}
	steps := s.c.Check(ctx, p)
	return checked(p, steps), s.c.Broker.EndCheck(ctx, p, steps)
}

func checked(p broker.Probe, steps []access.CheckStep) api.TargetCheck {
	return api.TargetCheck{Target: p.Target.Name, Passed: !access.AnyFailed(steps), Steps: each(steps, apiStep)}
}
