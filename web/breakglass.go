package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

// openWithCodes is a login by sealed codes. Who guesses is slowed by address and
// can lock nobody out: the codes are too long to be guessed.
func (s *Server) openWithCodes(ctx context.Context, by access.Caller, codes []string, reason, via string) (string, api.Login, error) {
	if !s.emergencies.allow(by.Source) {
		return "", api.Login{}, &access.Error{Kind: errRate, Code: "DB-6009", Text: "too many tries from your address: wait a minute", Next: "try again in a minute"}
	}
	token, l, user, err := s.c.Logins.OpenWithCodes(ctx, codes, reason, by.Source, via)
	if err != nil {
		return "", api.Login{}, err
	}
	return token, api.Login{Token: token, ExpiresAt: l.ExpiresAt.UTC(), User: user.Name}, nil
}

func (s *Server) loginBreakGlass(ctx context.Context, by access.Caller, in *struct{ Body api.BreakGlassLogin }) (api.Login, error) {
	_, l, err := s.openWithCodes(ctx, by, in.Body.Codes, in.Body.Reason, "cli")
	return l, err
}

func (s *Server) codesPage(w http.ResponseWriter, r *http.Request, _ access.Caller) {
	s.show(w, r, http.StatusOK, ui.CodesPage(s.page(access.Caller{}, "Emergency login", ""), ""))
}

func (s *Server) codesForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	reason := r.PostFormValue("reason")
	codes := strings.FieldsFunc(r.PostFormValue("codes"), func(r rune) bool { return r == '\n' || r == '\r' || r == ',' || r == ';' })
	codes = compact(codes)
	token, l, err := s.openWithCodes(r.Context(), by, codes, reason, "web")
	if err != nil {
		p := s.page(access.Caller{}, "Emergency login", "")
		status := s.with(&p, r, err)
		s.show(w, r, status, ui.CodesPage(p, reason)) // without the codes
		return
	}
	setCookie(w, token, l.ExpiresAt)
	http.Redirect(w, r, "/ask", http.StatusSeeOther)
}

// compact leaves out lines in which nothing stands.
func compact(lines []string) []string {
	var out []string
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func (s *Server) viewGlass(c broker.GlassCase) api.BreakGlass {
	g := &c.Review
	return api.BreakGlass{
		Request: s.viewCase(c.Case), OpenedAt: g.OpenedAt.UTC(), AcknowledgedBy: g.AckName, AcknowledgedAt: when(g.AckAt), MayAcknowledge: c.MayAcknowledge, ClosedAt: when(g.ClosedAt), ClosedBy: g.ClosedName,
		Finding: string(g.Finding), Text: g.Text, Sessions: each(c.Sessions, apiSession), MayReview: c.MayReview,
	}
}

func (s *Server) breakGlasses(ctx context.Context, by access.Caller, in *struct {
	Open   bool   `query:"open"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Before string `query:"before" maxLength:"32"`
}) (api.List[api.BreakGlass], error) {
	list, err := s.c.Broker.GlassCases(ctx, by, in.Open, in.Before, in.Limit)
	return page(list, in.Limit, s.viewGlass, func(c broker.GlassCase) string { return c.Request.ID }), err
}

func (s *Server) findBreakGlass(ctx context.Context, by access.Caller, in *ByID) (api.BreakGlass, error) {
	c, err := s.c.Broker.FindGlassCase(ctx, by, in.ID)
	if err != nil {
		return api.BreakGlass{}, err
	}
	return s.viewGlass(c), nil
}

func (s *Server) reviewBreakGlass(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.GlassReviewInput
}) (api.BreakGlass, error) {
	c, err := s.c.Broker.ReviewGlass(ctx, by, in.ID, access.Finding(in.Body.Finding), in.Body.Text)
	if err != nil {
		return api.BreakGlass{}, err
	}
	return s.viewGlass(c), nil
}

func (s *Server) glassPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	list, err := s.c.Broker.GlassCases(r.Context(), by, q.Get("open") == "true", q.Get("before"), 50)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	g := ui.Glass{Open: q.Get("open") == "true", Items: each(list, s.viewGlass)}
	if len(list) == 50 {
		g.Next = list[len(list)-1].Request.ID
	}
	s.show(w, r, http.StatusOK, ui.GlassPage(s.page(by, "Break-glass", "/breakglass"), g))
}

func (s *Server) glassCasePage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	c, err := s.c.Broker.FindGlassCase(r.Context(), by, r.PathValue("id"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	s.show(w, r, http.StatusOK, ui.GlassCasePage(s.page(by, "Break-glass", "/breakglass"), s.viewGlass(c), ""))
}

func (s *Server) glassCaseForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	id, said := r.PathValue("id"), r.PostFormValue("text")
	var err error
	if r.PostFormValue("action") == "acknowledge" {
		err = s.c.Broker.Acknowledge(r.Context(), by, id, 0)
	} else {
		_, err = s.c.Broker.ReviewGlass(r.Context(), by, id, access.Finding(r.PostFormValue("finding")), said)
	}
	if err == nil {
		http.Redirect(w, r, "/breakglass/"+url.PathEscape(id), http.StatusSeeOther)
		return
	}
	p := s.page(by, "Break-glass", "/breakglass")
	status := s.with(&p, r, err)
	c, err := s.c.Broker.FindGlassCase(r.Context(), by, id)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	s.show(w, r, status, ui.GlassCasePage(p, s.viewGlass(c), said))
}
