package web

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// OnAccount is the account of a target, in the address.
type OnAccount struct {
	ByName
	Account string `path:"account" maxLength:"64"`
}

func apiManaged(m *access.Managed) *api.Managed {
	if m == nil {
		return nil
	}
	return &api.Managed{
		EverySeconds: seconds(m.Every), AfterUse: m.AfterUse, Length: m.Length, Classes: m.Classes, Never: m.Never, Reset: m.Reset,
		Failures: m.Failures, WindowSeconds: seconds(m.Window),
	}
}

func managedOf(m api.Managed) access.Managed {
	return access.Managed{
		Every: time.Duration(m.EverySeconds) * time.Second, AfterUse: m.AfterUse, Length: m.Length, Classes: m.Classes, Never: m.Never, Reset: m.Reset,
		Failures: m.Failures, Window: time.Duration(m.WindowSeconds) * time.Second,
	}
}

func (s *Server) manageAccount(ctx context.Context, by access.Caller, in *struct {
	OnAccount
	Body api.ManageInput
}) (api.Password, error) {
	defer clear(in.Body.Secret)
	err := s.c.Broker.ManageAccount(ctx, by, in.Name, in.Account, in.Body.Credential, managedOf(in.Body.Managed), in.Body.Secret)
	return api.Password{Account: in.Account, State: "due"}, err
}

func (s *Server) unmanageAccount(ctx context.Context, by access.Caller, in *struct {
	OnAccount
	Body api.UnmanageInput
}) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.UnmanageAccount(ctx, by, in.Name, in.Account, in.Body.Reason, in.Body.Gone)
}

func (s *Server) rotateAccount(ctx context.Context, by access.Caller, in *struct {
	OnAccount
	Body api.Reason
}) (api.Password, error) {
	err := s.c.Broker.RotateAccount(ctx, by, in.Name, in.Account, in.Body.Reason)
	return api.Password{Account: in.Account, State: "due"}, err
}

func (s *Server) passwords(ctx context.Context, by access.Caller, in *ByName) (api.List[api.Password], error) {
	list, err := s.c.Broker.Passwords(ctx, by, in.Name)
	now := time.Now()
	return api.List[api.Password]{Items: each(list, func(r access.Rotation) api.Password { return apiPassword(r, now) })}, err
}

func apiPassword(r access.Rotation, now time.Time) api.Password {
	return api.Password{
		Account: r.Account, State: r.StateAt(now), DueAt: when(r.DueAt), Cause: string(r.Cause), HeldUntil: when(r.HeldUntil), ChangedAt: when(r.ChangedAt),
		ProvedAt: when(r.ProvedAt), ProveAt: when(r.ProveAt), Tries: r.Tries, Since: when(r.Since), Problem: r.Problem, NextAt: when(r.NextAt),
	}
}

func (s *Server) recoverPasswords(ctx context.Context, by access.Caller, in *struct {
	OnAccount
	Body api.Reason
}) (api.List[api.KnownPassword], error) {
	known, err := s.c.Broker.RecoverPasswords(ctx, by, in.Name, in.Account, in.Body.Reason)
	list := api.List[api.KnownPassword]{Items: []api.KnownPassword{}}
	for _, p := range known {
		list.Items = append(list.Items, api.KnownPassword{Secret: p.Secret.Expose(), State: string(p.State), MadeAt: p.MadeAt.UTC(), ProvedAt: when(p.ProvedAt)})
	}
	return list, err
}
