package web

import (
	"context"
	"net/http"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

func apiLink(l access.Link) api.Link {
	return api.Link{Kind: l.Kind, Team: l.Team, Account: l.ID, Name: l.Name, CreatedAt: l.CreatedAt.UTC()}
}

// A byLink is the address of a link.
type byLink struct {
	Kind    string `path:"kind" maxLength:"16"`
	Team    string `path:"team" maxLength:"64"`
	Account string `path:"account" maxLength:"64"`
}

func (l byLink) external() access.ExternalAccount {
	return access.ExternalAccount{Kind: l.Kind, Team: l.Team, ID: l.Account}
}

func (s *Server) linksOf(ctx context.Context, by access.Caller, user string) (api.List[api.Link], error) {
	list, err := s.c.Broker.Links(ctx, by, user)
	return api.List[api.Link]{Items: each(list, apiLink)}, err
}

func (s *Server) myLinks(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.Link], error) {
	return s.linksOf(ctx, by, "")
}

func (s *Server) links(ctx context.Context, by access.Caller, in *ByName) (api.List[api.Link], error) {
	return s.linksOf(ctx, by, in.Name)
}

func (s *Server) removeMyLink(ctx context.Context, by access.Caller, in *byLink) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.Unlink(ctx, by, "", in.external())
}

func (s *Server) removeLink(ctx context.Context, by access.Caller, in *struct {
	ByName
	byLink
}) (api.Empty, error) {
	return api.Empty{}, s.c.Broker.Unlink(ctx, by, in.Name, in.external())
}

// linkPage shows whose account somebody is about to make their own: who holds it
// will act as them.
func (s *Server) linkPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	p := s.page(by, "Link an account", "")
	code := r.URL.Query().Get("code")
	a, err := s.c.Broker.FindLink(r.Context(), by, code)
	s.show(w, r, s.with(&p, r, err), ui.LinkPage(p, ui.Link{Code: code, Kind: a.Kind, Team: a.Team, Account: a.ID, Name: a.Name}))
}

func (s *Server) linkForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	var err error
	done := ""
	switch r.PostFormValue("action") {
	case "confirm":
		if _, err = s.c.Broker.ConfirmLink(r.Context(), by, r.PostFormValue("code")); err == nil {
			done = "Linked. You can go back and close this page."
		}
	case "refuse":
		done = "Nothing was linked. If you did not ask for this, tell your administrator."
	default:
		err = access.Invalid("say whether the account is yours")
	}
	p := s.page(by, "Link an account", "")
	s.show(w, r, s.with(&p, r, err), ui.LinkPage(p, ui.Link{Done: done}))
}

// linksPage lists the accounts that somebody has linked.
func (s *Server) linksPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showLinks(w, r, by, nil)
}

func (s *Server) showLinks(w http.ResponseWriter, r *http.Request, by access.Caller, wrong error) {
	list, err := s.linksOf(r.Context(), by, "")
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	p := s.page(by, "Linked accounts", "/me/links")
	s.show(w, r, s.with(&p, r, wrong), ui.LinksPage(p, list.Items))
}

func (s *Server) linksForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	l := byLink{r.PostFormValue("kind"), r.PostFormValue("team"), r.PostFormValue("account")}
	if err := s.c.Broker.Unlink(r.Context(), by, "", l.external()); err != nil {
		s.showLinks(w, r, by, err)
		return
	}
	http.Redirect(w, r, "/me/links", http.StatusSeeOther)
}

// slack hands on what claims to come from Slack. Who sent it, and whether it was
// Slack, is for the handler to find out.
func (s *Server) slack(w http.ResponseWriter, r *http.Request, by access.Caller) {
	if s.c.Slack == nil {
		s.fail(w, r, by, &access.Error{Kind: access.ErrNotFound, Code: "DB-6001", Text: "there is nothing at this address"})
		return
	}
	s.c.Slack.ServeHTTP(w, r)
}

var errNoSlack = &access.Error{Kind: access.ErrNotFound, Code: "DB-6197", Text: "this server has no app in Slack yet: notifications.slack is not set", Next: "drawbolt integration slack manifest"}

func (s *Server) slackManifest(_ context.Context, _ access.Caller, in *struct {
	Mode string `query:"mode" enum:"socket,http"`
}) (api.SlackManifest, error) {
	if s.c.SlackApp == nil {
		return api.SlackManifest{}, errNoSlack
	}
	manifest, create := s.c.SlackApp(in.Mode)
	return api.SlackManifest{Manifest: string(manifest), CreateURL: create, Configured: s.c.CheckSlack != nil}, nil
}

func (s *Server) checkSlack(ctx context.Context, by access.Caller, _ *struct{}) (api.SlackCheck, error) {
	if err := s.c.Broker.MayCheckIntegration(ctx, by, "slack"); err != nil {
		return api.SlackCheck{}, err
	}
	if s.c.CheckSlack == nil {
		return api.SlackCheck{}, errNoSlack
	}
	if !s.checks.take(by.User.ID) {
		return api.SlackCheck{}, &access.Error{Kind: errRate, Code: "DB-6009", Text: "too many checks: wait a little"}
	}
	steps := s.c.CheckSlack(ctx)
	return api.SlackCheck{Passed: !access.AnyFailed(steps), Steps: each(steps, apiStep)}, nil
}
