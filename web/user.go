package web

import (
	"context"
	"maps"
	"net/url"
	"slices"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func accessUser(in api.UserInput) access.User {
	return access.User{Name: in.Name, Display: in.Display, Groups: in.Groups, Attributes: in.Attributes, Bot: in.Bot, OwnerID: in.Owner, Version: in.Version}
}

func (s *Server) users(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.User], error) {
	list, err := s.c.Broker.Users(ctx, by)
	if err != nil {
		return api.List[api.User]{}, err
	}
	items, err := s.withFactors(ctx, each(list, apiUser))
	return api.List[api.User]{Items: items}, err
}

func (s *Server) findUser(ctx context.Context, by access.Caller, in *ByName) (api.User, error) {
	u, err := s.c.Broker.FindUser(ctx, by, in.Name)
	if err != nil {
		return api.User{}, err
	}
	items, err := s.withFactors(ctx, []api.User{apiUser(u)})
	if err != nil {
		return api.User{}, err
	}
	return items[0], nil
}

func (s *Server) addUser(ctx context.Context, by access.Caller, in *struct{ Body api.UserInput }) (api.User, error) {
	u, err := s.c.Broker.AddUser(ctx, by, accessUser(in.Body))
	return apiUser(u), err
}

func (s *Server) setUser(ctx context.Context, by access.Caller, in *struct {
	ByName
	Body api.UserInput
}) (api.User, error) {
	if err := named(in.Name, in.Body.Name); err != nil {
		return api.User{}, err
	}
	u, err := s.c.Broker.SetUser(ctx, by, accessUser(in.Body))
	return apiUser(u), err
}

func (s *Server) lockUser(ctx context.Context, by access.Caller, in *ReasonFor) (api.User, error) {
	if err := s.c.Broker.LockUser(ctx, by, in.Name, true, in.Body.Reason); err != nil {
		return api.User{}, err
	}
	return s.findUser(ctx, by, &in.ByName)
}

func (s *Server) unlockUser(ctx context.Context, by access.Caller, in *ReasonFor) (api.User, error) {
	if err := s.c.Broker.LockUser(ctx, by, in.Name, false, in.Body.Reason); err != nil {
		return api.User{}, err
	}
	return s.findUser(ctx, by, &in.ByName)
}

func (s *Server) setupLink(ctx context.Context, by access.Caller, in *struct {
	ByName
	None
}) (api.SetupLink, error) {
	u, err := s.c.Broker.MaySetUp(ctx, by, in.Name)
	if err != nil {
		return api.SetupLink{}, err
	}
	token, link, err := s.c.Local.NewSetup(ctx, by, u.ID, 0)
	if err != nil {
		return api.SetupLink{}, err
	}
	return api.SetupLink{URL: s.url + "/setup?token=" + url.QueryEscape(token), ExpiresAt: link.ExpiresAt.UTC()}, nil
}

func (s *Server) keys(ctx context.Context, by access.Caller, in *ByName) (api.List[api.Key], error) {
	return s.listKeys(ctx, by, in.Name)
}

func (s *Server) addKey(ctx context.Context, by access.Caller, in *struct {
	ByName
	Body api.KeyInput
}) (api.Key, error) {
	return s.saveKey(ctx, by, in.Name, in.Body)
}

func (s *Server) removeKey(ctx context.Context, by access.Caller, in *struct {
	ByName
	Fingerprint string `path:"fingerprint" maxLength:"64"`
}) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.RemoveKey(ctx, by, in.Name, in.Fingerprint)
}

func (s *Server) groups(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.Group], error) {
	list, err := s.c.Broker.Users(ctx, by)
	members := map[string][]string{}
	for _, u := range list {
		for _, g := range u.Groups {
			members[g] = append(members[g], u.Name)
		}
	}
	return api.List[api.Group]{Items: each(slices.Sorted(maps.Keys(members)), func(g string) api.Group {
		slices.Sort(members[g])
		return api.Group{Name: g, Members: members[g]}
	})}, err
}
