package web

import (
	"context"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func (s *Server) onboardAccount(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.OnboardInput
}) (api.FoundAccount, error) {
	do := s.c.Broker.OnboardAccount
	if in.Body.DryRun {
		do = s.c.Broker.PreviewOnboarding
	}
	f, err := do(ctx, by, in.ID, broker.Onboarding{Owner: in.Body.Owner, Credential: in.Body.Credential, Managed: managedOf(in.Body.Managed)})
	if err != nil {
		return api.FoundAccount{}, err
	}
	return apiFound(f), nil
}
