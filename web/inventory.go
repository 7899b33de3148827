package web

import (
	"context"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/web/api"
)

func apiWayPast(w discovery.Way) api.Way {
	return api.Way{Kind: w.Kind, Account: w.Account, Text: w.Text, Risk: w.Risk.String(), Command: w.Command}
}

func apiFound(f access.FoundAccount) api.FoundAccount {
	is := broker.FindingOf(&f)
	return api.FoundAccount{
		ID: f.ID, Target: f.TargetName, Name: f.Name, Class: f.Class, Risk: discovery.Risk(f.Risk).String(), Owner: f.OwnerName, Declared: f.Declared, Note: f.Note,
		Reasons: each(f.Reasons, same), FirstSeen: f.FirstSeen.UTC(), LastSeen: f.LastSeen.UTC(), GoneAt: when(f.GoneAt),
		Password: is.Password, Disabled: is.Disabled, Shell: is.Shell, LastLogin: when(is.LastLogin), Groups: is.Groups,
		Rights: each(is.Rights, func(r discovery.Right) api.FoundRight { return api.FoundRight(r) }),
		Keys: each(is.Keys, func(k discovery.Key) api.FoundKey {
			return api.FoundKey{Type: k.Type, Fingerprint: k.Fingerprint, Options: k.Options, Comment: k.Comment}
		}),
	}
}

func apiPosture(v broker.PostureView) api.Posture {
	s := v.Scan
	p := api.Posture{
		Target: s.TargetName, ScannedAt: when(s.At), TriedAt: when(s.TriedAt), NextAt: when(s.NextAt), Problem: s.Problem, Accounts: s.Accounts,
		Faults:  each(v.Posture.Faults, func(f discovery.Fault) api.Fault { return api.Fault(f) }),
		Unknown: v.Posture.Unknown, Ways: each(v.Ways, apiWayPast), Drift: s.Drift, Incomplete: s.Incomplete,
	}
	if s.Score >= 0 {
		p.Score = &s.Score
	}
	return p
}

// discover has a target scanned, in the place of one more check of who asks.
func (s *Server) discover(ctx context.Context, by access.Caller, in *struct {
	ByName
	Body api.DiscoverInput
}) (api.Discovery, error) {
	out := api.Discovery{Target: in.Name}
	done, err := s.mayScan(by.User.ID)
	if err != nil {
		return out, err
	}
	defer done()
	d, err := s.c.Discover(ctx, by, in.Name, in.Body.Account)
	if err != nil {
		return out, err
	}
	out.Target, out.Posture = d.Scan.TargetName, apiPosture(broker.PostureView{Scan: d.Scan, Posture: d.Posture, Ways: d.Ways})
	out.Accounts = each(d.Found, apiFound)
	out.Changes = each(d.Changes, func(c discovery.Change) api.FoundChange { return api.FoundChange(c) })
	return out, nil
}

func (s *Server) mayScan(who string) (done func(), err error) {
	if s.c.Discover == nil {
		return nil, &access.Error{Kind: access.ErrUnavailable, Code: "DB-6470", Text: "this server scans no targets"}
	}
	done, ok := s.checking.enter(who)
	if ok && s.checks.take(who) {
		return done, nil
	}
	if ok {
		done()
	}
	return nil, &access.Error{Kind: errRate, Code: "DB-6471", Text: "too many scans of targets: wait a little"}
}

func riskOf(word string) (discovery.Risk, error) {
	r, ok := discovery.ParseRisk(word)
	if word != "" && !ok {
		return 0, &access.Error{Kind: access.ErrInvalid, Code: "DB-6472", Text: "a risk is critical, high, medium or low", Next: "drawbolt account ls --risk high"}
	}
	if word == "" {
		return 0, nil
	}
	return r, nil
}

func (s *Server) inventory(ctx context.Context, by access.Caller, in *struct {
	Class  string `query:"class" maxLength:"16"`
	Target string `query:"target" maxLength:"64"`
	Owner  string `query:"owner" maxLength:"64"`
	Name   string `query:"name" maxLength:"64"`
	Risk   string `query:"risk" maxLength:"16"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"200"`
	After  string `query:"after" maxLength:"64"`
}) (api.List[api.FoundAccount], error) {
	risk, err := riskOf(in.Risk)
	if err != nil {
		return api.List[api.FoundAccount]{}, err
	}
	list, next, err := s.c.Broker.FoundAccounts(ctx, by, broker.FoundFilter{Class: in.Class, Target: in.Target, Owner: in.Owner, Name: in.Name, Risk: risk, Limit: in.Limit, After: in.After})
	return api.List[api.FoundAccount]{Items: each(list, apiFound), Next: next}, err
}

func (s *Server) findFound(ctx context.Context, by access.Caller, in *ByID) (api.FoundAccount, error) {
	v, err := s.c.Broker.FindFound(ctx, by, in.ID)
	if err != nil {
		return api.FoundAccount{}, err
	}
	return apiFoundView(v), nil
}

func apiFoundView(v broker.FoundView) api.FoundAccount {
	f := apiFound(v.FoundAccount)
	f.Ways = each(v.Ways, apiWayPast)
	return f
}

func (s *Server) manageFound(ctx context.Context, by access.Caller, in *struct{ Body api.AdoptInput }) (api.List[api.FoundAccount], error) {
	list, err := s.c.Broker.ManageFound(ctx, by, in.Body.Accounts, broker.Management{Owner: in.Body.Owner, Declare: in.Body.Declare, Note: in.Body.Note, TakeOver: in.Body.TakeOver})
	return api.List[api.FoundAccount]{Items: each(list, apiFound)}, err
}

func (s *Server) posture(ctx context.Context, by access.Caller, in *ByName) (api.Posture, error) {
	v, err := s.c.Broker.Posture(ctx, by, in.Name)
	if err != nil {
		return api.Posture{}, err
	}
	p := apiPosture(v)
	p.Settings = v.Scan.Settings
	return p, nil
}

func (s *Server) postures(ctx context.Context, by access.Caller, in *struct {
	After string `query:"after" maxLength:"64"`
}) (api.List[api.Posture], error) {
	list, next, err := s.c.Broker.Postures(ctx, by, in.After, 100)
	return api.List[api.Posture]{Items: each(list, apiPosture), Next: next}, err
}
