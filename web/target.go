package web

import (
	"context"
	"slices"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// ByName, ByID and None are the parts that inputs have in common. huma sees only
// exported ones.
type ByName struct {
	Name string `path:"name" maxLength:"64"`
}

// ReasonFor is why something is done to the thing of this name.
type ReasonFor struct {
	ByName
	Body api.Reason
}

func viewTarget(v broker.TargetView) api.Target {
	out := apiTarget(v.Target)
	out.Accounts = each(v.Accounts, func(a broker.AccountView) api.Account {
		account, _ := v.Target.Account(a.Name)
		return api.Account{
			Name: a.Name, Credential: account.Credential, Usable: a.Usable, Until: when(a.Until), MayAsk: a.MayAsk,
			Needs: apiNeeds(a.Needs), MaxDurationSeconds: seconds(a.MaxDuration), Why: a.Why,
			Made: (*api.AccountTemplate)(account.Made), KnownAs: account.KnownAs, Managed: apiManaged(account.Managed), KnownTo: knowers(v.Known, a.Name),
		}
	})
	return out
}

// knowers are the people who were shown the secret of an account, each once.
func knowers(known []access.Lease, account string) []api.Knower {
	var list []api.Knower
	for _, l := range known {
		if l.Account == account && !slices.ContainsFunc(list, func(k api.Knower) bool { return k.User == l.UserName }) {
			list = append(list, api.Knower{User: l.UserName, At: l.At.UTC()})
		}
	}
	return list
}

func (s *Server) targets(ctx context.Context, by access.Caller, in *struct {
	Part  string `query:"part" maxLength:"64"`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"200"`
	After string `query:"after" maxLength:"64"`
}) (api.List[api.Target], error) {
	list, next, err := s.c.Broker.FindTargets(ctx, by, broker.TargetFilter{Part: in.Part, Limit: in.Limit, After: in.After})
	return api.List[api.Target]{Items: each(list, viewTarget), Next: next}, err
}

func (s *Server) findTarget(ctx context.Context, by access.Caller, in *ByName) (api.Target, error) {
	v, err := s.c.Broker.FindTarget(ctx, by, in.Name)
	return viewTarget(v), err
}

func (s *Server) addTarget(ctx context.Context, by access.Caller, in *struct{ Body api.TargetInput }) (api.Target, error) {
	t, err := s.c.Broker.AddTarget(ctx, by, accessTarget(in.Body))
	return apiTarget(t), err
}

// named refuses a body that names another thing than the address does.
func named(path, body string) error {
	if path != body {
		return access.Invalid("the body and the address name different things")
	}
	return nil
}

func (s *Server) setTarget(ctx context.Context, by access.Caller, in *struct {
	ByName
	Body api.TargetInput
}) (api.Target, error) {
	if err := named(in.Name, in.Body.Name); err != nil {
		return api.Target{}, err
	}
	t, err := s.c.Broker.SetTarget(ctx, by, accessTarget(in.Body))
	return apiTarget(t), err
}

func (s *Server) setCredential(ctx context.Context, by access.Caller, in *struct {
	ByName
	Account string `path:"account" maxLength:"64"`
	Body    api.CredentialInput
}) (api.AccountInput, error) {
	defer clear(in.Body.Secret)
	err := s.c.Broker.SetCredential(ctx, by, in.Name, in.Account, in.Body.Credential, in.Body.Secret)
	return api.AccountInput{Name: in.Account, Credential: in.Body.Credential}, err
}

func (s *Server) removeTarget(ctx context.Context, by access.Caller, in *ByName) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.RemoveTarget(ctx, by, in.Name)
}

func (s *Server) lockTarget(ctx context.Context, by access.Caller, in *ReasonFor) (api.Target, error) {
	if err := s.c.Broker.LockTarget(ctx, by, in.Name, true, in.Body.Reason); err != nil {
		return api.Target{}, err
	}
	return s.findTarget(ctx, by, &in.ByName)
}

func (s *Server) unlockTarget(ctx context.Context, by access.Caller, in *ReasonFor) (api.Target, error) {
	if err := s.c.Broker.LockTarget(ctx, by, in.Name, false, in.Body.Reason); err != nil {
		return api.Target{}, err
	}
	return s.findTarget(ctx, by, &in.ByName)
}
