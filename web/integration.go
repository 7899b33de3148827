package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

func apiIntegration(i broker.Integration) api.Integration {
	out := api.Integration{
		Name: i.Name, Type: i.Type, State: string(i.State), Node: i.Node, Position: i.Position, Behind: i.Behind, LagSeconds: int64(i.Lag / time.Second),
		Error: i.Error, ErrorAt: when(i.ErrorAt), SuccessAt: when(i.SuccessAt), Late: i.Late, Aside: i.AsideCount,
	}
	for _, n := range i.Aside {
		out.SetAside = append(out.SetAside, api.SetAside(n))
	}
	return out
}

func (s *Server) integrations(ctx context.Context, by access.Caller, _ *struct{}) (api.List[api.Integration], error) {
	list, err := s.c.Broker.Integrations(ctx, by)
	return api.List[api.Integration]{Items: each(list, apiIntegration)}, err
}

func (s *Server) findIntegration(ctx context.Context, by access.Caller, in *ByName) (api.Integration, error) {
	i, err := s.c.Broker.FindIntegration(ctx, by, in.Name)
	return apiIntegration(i), err
}

func (s *Server) testIntegration(ctx context.Context, by access.Caller, in *struct {
	ByName
	None
}) (api.IntegrationTest, error) {
	position, err := s.c.Broker.TestIntegration(ctx, by, in.Name)
	return api.IntegrationTest{Position: position}, err
}

func (s *Server) retryIntegration(ctx context.Context, by access.Caller, in *struct {
	ByName
	None
}) (api.IntegrationRetry, error) {
	n, err := s.c.Broker.RetryIntegration(ctx, by, in.Name)
	return api.IntegrationRetry{Retried: n}, err
}

// integrationsPage shows how all channels stand.
func (s *Server) integrationsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	list, err := s.c.Broker.Integrations(r.Context(), by)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	s.show(w, r, http.StatusOK, ui.IntegrationsPage(s.page(by, "Integrations", "/integrations"), each(list, apiIntegration)))
}

// integrationPage shows one channel. After a test it says whether that was taken.
func (s *Server) integrationPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showIntegration(w, r, by, nil)
}

func (s *Server) showIntegration(w http.ResponseWriter, r *http.Request, by access.Caller, wrong error) {
	i, err := s.c.Broker.FindIntegration(r.Context(), by, r.PathValue("name"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	p := s.page(by, i.Name, "/integrations")
	status := s.with(&p, r, wrong)
	s.show(w, r, status, ui.IntegrationPage(p, ui.TriedIntegration(apiIntegration(i), r.URL.Query().Get("test"))))
}

// integrationForm has a test sent, or what was set aside sent again.
func (s *Server) integrationForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	name := r.PathValue("name")
	to := "/integrations/" + url.PathEscape(name)
	var err error
	switch r.PostFormValue("do") {
	case "test":
		var t api.IntegrationTest
		t.Position, err = s.c.Broker.TestIntegration(r.Context(), by, name)
		to += "?" + url.Values{"test": {strconv.FormatInt(t.Position, 10)}}.Encode()
	case "retry":
		_, err = s.c.Broker.RetryIntegration(r.Context(), by, name)
	default:
		err = access.Invalid("there is nothing of that name to do")
	}
	if err != nil {
		s.showIntegration(w, r, by, err)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}
