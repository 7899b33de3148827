package web

import (
	"context"
	"net/http"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

func (s *Server) takeFactor(ctx context.Context, by access.Caller, in *struct {
	ReasonFor
	ID string `path:"id" maxLength:"32"`
}) (api.Empty, error) {
	return api.Empty{}, s.takeFactorOf(ctx, by, in.Name, in.ID, in.Body.Reason)
}

func (s *Server) takeFactorOf(ctx context.Context, by access.Caller, name, id, reason string) error {
	u, err := s.c.Broker.MayTakeFactor(ctx, by, name)
	if err != nil {
		return err
	}
	return s.c.Local.TakeFactor(ctx, by, u.ID, id, reason)
}

func (s *Server) factorsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showFactors(w, r, by, nil)
}

func (s *Server) showFactors(w http.ResponseWriter, r *http.Request, by access.Caller, wrong error) {
	list, err := s.passkeysOf(r.Context(), by.User.ID)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	factors, err := s.c.Local.Factors(r.Context(), by.User.ID)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	p := s.page(by, "How you sign in", "/me/factors")
	f := ui.Factors{Passkeys: list.Items, TOTP: factors.TOTP, Possible: s.c.Local.HasPasskeys(), Name: r.PostFormValue("name")}
	s.show(w, r, s.with(&p, r, wrong), ui.FactorsPage(p, f))
}

func (s *Server) factorsForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	var err error
	switch r.PostFormValue("action") {
	case "add":
		var k local.Passkey
		if k, err = s.c.Local.AddPasskey(r.Context(), by, r.PostFormValue("name"), []byte(r.PostFormValue("passkey"))); err == nil {
			err = s.c.Logins.StepUp(r.Context(), by, k.AddedAt) // it has just verified its person
		}
	case "remove":
		err = s.removeFactor(r.Context(), by, r.PostFormValue("id"))
	default:
		err = access.Invalid("the form does not say what to do")
	}
	if err != nil {
		s.showFactors(w, r, by, err)
		return
	}
	http.Redirect(w, r, "/me/factors", http.StatusSeeOther)
}

func (s *Server) removeFactor(ctx context.Context, by access.Caller, id string) error {
	needed, err := s.c.Broker.NeedsFactor(ctx, by)
	if err != nil {
		return err
	}
	at, err := s.c.Logins.SignedInAt(ctx, by)
	if err != nil {
		return err
	}
	return s.c.Local.RemoveFactor(ctx, by, at, id, needed)
}
