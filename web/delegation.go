package web

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func apiDelegation(d access.Delegation) api.Delegation {
	return api.Delegation{User: d.UserName, Delegate: d.DelegateName, From: d.From.UTC(), Until: d.Until.UTC(), Reason: d.Reason}
}

func (s *Server) delegations(ctx context.Context, by access.Caller, in *struct {
	All bool `query:"all"`
}) (api.List[api.Delegation], error) {
	list, err := s.c.Broker.Delegations(ctx, by, in.All)
	return api.List[api.Delegation]{Items: each(list, apiDelegation)}, err
}

func (s *Server) delegate(ctx context.Context, by access.Caller, in *struct {
	ByName
	Body api.DelegationInput
}) (api.Delegation, error) {
	var from time.Time
	if in.Body.From != nil {
		from = in.Body.From.UTC()
	}
	d, err := s.c.Broker.Delegate(ctx, by, in.Name, in.Body.Delegate, from, in.Body.Until.UTC(), in.Body.Reason)
	return apiDelegation(d), err
}

func (s *Server) endDelegation(ctx context.Context, by access.Caller, in *ByName) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.EndDelegation(ctx, by, in.Name)
}
