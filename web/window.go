package web

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func apiWindow(v broker.WindowView) api.Window {
	w := v.Window
	return api.Window{
		ID: w.ID, Open: v.Open, By: w.ByName, CreatedAt: w.CreatedAt.UTC(),
		WindowInput: api.WindowInput{
			Kind: string(w.Kind), Reason: w.Reason, Targets: api.Selector(w.Targets), From: when(w.From), To: when(w.To),
			Hours: w.Hours, Weekdays: w.Weekdays, TimeZone: w.TimeZone,
		},
	}
}

func (s *Server) windows(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.Window], error) {
	list, err := s.c.Broker.Windows(ctx, by)
	return api.List[api.Window]{Items: each(list, apiWindow)}, err
}

func (s *Server) addWindow(ctx context.Context, by access.Caller, in *struct{ Body api.WindowInput }) (api.Window, error) {
	x := in.Body
	w := access.Window{
		Kind: access.WindowKind(x.Kind), Reason: x.Reason, Targets: access.Selector(x.Targets),
		Hours: x.Hours, Weekdays: x.Weekdays, TimeZone: x.TimeZone,
	}
	for _, t := range []struct {
		from *time.Time
		to   *time.Time
	}{{x.From, &w.From}, {x.To, &w.To}} {
		if t.from != nil {
			*t.to = *t.from
		}
	}
	v, err := s.c.Broker.AddWindow(ctx, by, w)
	return apiWindow(v), err
}

func (s *Server) removeWindow(ctx context.Context, by access.Caller, in *ByID) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.RemoveWindow(ctx, by, in.ID)
}

func (s *Server) networks(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.Network], error) {
	list, err := s.c.Broker.Networks(ctx, by)
	return api.List[api.Network]{Items: each(list, func(n access.Network) api.Network { return api.Network(n) })}, err
}

func (s *Server) setNetwork(ctx context.Context, by access.Caller, in *struct {
	ByName
	Body api.Network
}) (api.Network, error) {
	if err := named(in.Name, in.Body.Name); err != nil {
		return api.Network{}, err
	}
	n, err := s.c.Broker.SetNetwork(ctx, by, access.Network(in.Body))
	return api.Network(n), err
}

func (s *Server) removeNetwork(ctx context.Context, by access.Caller, in *ByName) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.RemoveNetwork(ctx, by, in.Name)
}

func (s *Server) recordFacts(ctx context.Context, by access.Caller, in *struct {
	ByName
	Body api.FactsInput
}) (api.Target, error) {
	var at time.Time
	if in.Body.At != nil {
		at = *in.Body.At
	}
	if _, err := s.c.Broker.RecordFacts(ctx, by, in.Name, in.Body.Facts, at); err != nil {
		return api.Target{}, err
	}
	return s.findTarget(ctx, by, &in.ByName)
}
