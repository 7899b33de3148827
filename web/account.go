package web

import (
	"context"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func (s *Server) madeAccounts(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.MadeAccount], error) {
	list, err := s.c.Broker.MadeAccounts(ctx, by)
	return api.List[api.MadeAccount]{Items: each(list, func(a broker.AccountMade) api.MadeAccount {
		return api.MadeAccount{
			ID: a.ID, Target: a.TargetName, Account: a.Account, Login: a.Login, User: a.UserName, Request: a.RequestID,
			State: string(a.State), Over: a.Over, Stuck: a.Stuck, Tries: a.Tries, Since: when(a.Since), Problem: a.Problem, NextAt: when(a.NextAt),
		}
	})}, err
}

func (s *Server) giveUpAccount(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.Reason
}) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.GiveUpAccount(ctx, by, in.ID, in.Body.Reason)
}
