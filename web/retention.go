package web

import (
	"context"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func apiHold(h access.Hold, sessions []string) api.Hold {
	return api.Hold{ID: h.ID, Reason: h.Reason, By: h.ByName, PlacedAt: h.PlacedAt.UTC(), Sessions: sessions}
}

func apiAgreement(a access.Agreement) api.Agreement {
	return api.Agreement{Done: a.Done, First: a.First, FirstAt: a.At.UTC(), Until: when(a.Until)}
}

func apiRetention(r access.Retention) api.Retention {
	return api.Retention{Version: r.Version, Rules: each(r.Rules, func(x access.RetentionRule) api.RetentionRule {
		return api.RetentionRule{ID: x.ID, Targets: api.Selector(x.Targets), Accounts: x.Accounts, KeepDays: x.KeepDays}
	})}
}

// withLife adds to a session how long its recording is kept.
func (s *Server) withLife(ctx context.Context, by access.Caller, x access.Session) (api.Session, error) {
	out := withAlarms(apiSession(x), x)
	l, err := s.c.Broker.RecordingLife(ctx, by, x.ID)
	if err != nil {
		return out, err
	}
	out.KeptUntil, out.RetentionRule = when(l.KeptUntil), l.Rule
	for _, h := range l.Holds {
		out.Holds = append(out.Holds, apiHold(h, nil))
	}
	if out.Deleted != nil {
		out.Deleted.Event = &l.Deleted
	}
	return out, nil
}

func (s *Server) holdRecordings(ctx context.Context, by access.Caller, in *struct{ Body api.HoldInput }) (api.Hold, error) {
	o := broker.HoldOrder{Sessions: in.Body.Sessions, User: in.Body.User, Target: in.Body.Target, Reason: in.Body.Reason}
	if t := in.Body.Since; t != nil {
		o.Since = *t
	}
	if t := in.Body.Until; t != nil {
		o.Until = *t
	}
	h, sessions, err := s.c.Broker.HoldRecordings(ctx, by, o)
	return apiHold(h, sessions), err
}

func (s *Server) holds(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.Hold], error) {
	list, err := s.c.Broker.Holds(ctx, by)
	return api.List[api.Hold]{Items: each(list, func(v broker.HoldView) api.Hold { return apiHold(v.Hold, v.Sessions) })}, err
}

func (s *Server) liftHold(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.Reason
}) (api.Agreement, error) {
	a, err := s.c.Broker.LiftHold(ctx, by, in.ID, in.Body.Reason)
	return apiAgreement(a), err
}

func (s *Server) deleteRecording(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.Reason
}) (api.Agreement, error) {
	a, err := s.c.Broker.DeleteRecording(ctx, by, in.ID, in.Body.Reason)
	return apiAgreement(a), err
}

func (s *Server) retention(ctx context.Context, by access.Caller, _ *struct{}) (api.Retention, error) {
	r, err := s.c.Broker.Retention(ctx, by)
	return apiRetention(r), err
}

func (s *Server) setRetention(ctx context.Context, by access.Caller, in *struct{ Body api.Retention }) (api.RetentionAnswer, error) {
	r, a, err := s.c.Broker.SetRetention(ctx, by, access.Retention{Version: in.Body.Version, Rules: each(in.Body.Rules, func(x api.RetentionRule) access.RetentionRule {
		return access.RetentionRule{ID: x.ID, Targets: access.Selector(x.Targets), Accounts: x.Accounts, KeepDays: x.KeepDays}
	})})
	return api.RetentionAnswer{Retention: apiRetention(r), Agreement: apiAgreement(a)}, err
}
