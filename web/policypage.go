package web

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

// policiesPage shows the policy to who may read it, and to everybody what it would say
// to them.
func (s *Server) policiesPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	page := ui.Policies{For: q.Get("for"), At: q.Get("at"), Ask: api.ExplainInput{
		User: q.Get("user"), Target: q.Get("target"), Account: q.Get("account"), Action: q.Get("action"), Source: q.Get("source"), Ticket: q.Get("ticket"),
		SecondFactor: q.Get("fresh") == "yes", BreakGlass: q.Get("break_glass") == "yes",
	}}
	if page.Ask.Action == "" {
		page.Ask.Action = "request"
	}
	var err error
	if page.Ask.Target != "" {
		err = s.answerTo(r, by, &page)
	}
	s.showPolicies(w, r, by, page, err)
}

// answerTo asks what the form says.
func (s *Server) answerTo(r *http.Request, by access.Caller, page *ui.Policies) error {
	ask := page.Ask
	if page.For != "" {
		d, err := access.ParseDuration(page.For)
		if err != nil {
			return err
		}
		ask.DurationSeconds = seconds(d)
	}
	if page.At != "" {
		at, err := parseMinute(page.At)
		if err != nil {
			return err
		}
		ask.At = &at
	}
	d, err := s.explain(r.Context(), by, &struct{ Body api.ExplainInput }{ask})
	if err != nil {
		return err
	}
	page.Answer = &d
	return nil
}

// policiesForm compares roles that were typed with those in force.
func (s *Server) policiesForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	page := ui.Policies{Ask: api.ExplainInput{Action: "request"}, Roles: r.PostFormValue("roles")}
	in := api.ReplayInput{Since: s.now().AddDate(0, 0, -30)}
	err := checkJSON([]byte(page.Roles))
	if err == nil {
		d := json.NewDecoder(bytes.NewReader([]byte(page.Roles)))
		d.DisallowUnknownFields()
		if e := d.Decode(&in.Roles); e != nil {
			err = access.Invalid("these are not roles as drawbolt role ls --json prints them")
		}
	}
	if err == nil {
		var d api.PolicyDiff
		if d, err = s.diffPolicy(r.Context(), by, &struct{ Body api.ReplayInput }{in}); err == nil {
			page.Diff = &d
		}
	}
	s.showPolicies(w, r, by, page, err)
}

// showPolicies adds what the reader may see of the policy itself.
func (s *Server) showPolicies(w http.ResponseWriter, r *http.Request, by access.Caller, page ui.Policies, err error) {
	p := s.page(by, "Policies", "/policies")
	status := s.with(&p, r, err)
	if v, err := s.policy(r.Context(), by, nil); err == nil {
		page.Policy = &v
		page.JSON = map[string]string{}
		if roles, err := s.c.Broker.Roles(r.Context(), by); err == nil {
			for _, role := range roles {
				if text, err := json.MarshalIndent(apiRole(role), "", "  "); err == nil {
					page.JSON[role.Name] = string(text)
				}
			}
		}
		if page.Answer != nil {
			if who, err := s.c.Broker.WhoCan(r.Context(), by, page.Ask.Target, page.Ask.Account); err == nil {
				out := apiWhoCan(who)
				page.Who = &out
			}
		}
	}
	s.show(w, r, status, ui.PoliciesPage(p, page))
}
