package web

import (
	"context"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func (s *Server) apiLease(l access.Lease, known bool) api.Lease {
	return api.Lease{
		ID: l.ID, Request: l.RequestID, User: l.UserName, Target: l.TargetName, Account: l.Account, Credential: l.Credential, Managed: l.Managed, Reason: l.Reason,
		At: l.At.UTC(), Until: l.Until.UTC(), Active: l.ActiveAt(s.now()), EndedAt: when(l.EndedAt), EndReason: string(l.EndReason), EndedBy: l.EndedBy, Known: known,
	}
}

func (s *Server) viewLease(v broker.LeaseView) api.Lease { return s.apiLease(v.Lease, v.Known) }

func (s *Server) checkout(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.CheckoutInput
}) (api.Checkout, error) {
	l, loan, err := s.c.Broker.Checkout(ctx, by, in.ID, in.Body.Reason)
	defer loan.Secret.Wipe()
	if err != nil {
		return api.Checkout{}, err
	}
	return api.Checkout{Lease: s.apiLease(l, true), Secret: string(loan.Secret.Expose())}, nil
}

func (s *Server) checkin(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.CheckoutInput
}) (api.Lease, error) {
	l, err := s.c.Broker.Checkin(ctx, by, in.ID, in.Body.Reason)
	if err != nil {
		return api.Lease{}, err
	}
	return s.apiLease(l, true), nil
}

func (s *Server) leases(ctx context.Context, by access.Caller, in *struct {
	Active bool   `query:"active"`
	Target string `query:"target" maxLength:"64"`
	User   string `query:"user" maxLength:"64"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Before string `query:"before" maxLength:"32"`
}) (api.List[api.Lease], error) {
	list, err := s.c.Broker.Leases(ctx, by, broker.LeaseFilter{Active: in.Active, Target: in.Target, User: in.User, Limit: in.Limit, Before: in.Before})
	return page(list, in.Limit, s.viewLease, func(v broker.LeaseView) string { return v.ID }), err
}
