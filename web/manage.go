package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
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

// managePage says of accounts whether they would be taken over, and asks how.
func (s *Server) managePage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	m := ui.Manage{Every: "720h", Credential: "password"}
	s.manageEach(w, r, by, q["account"], m, broker.Onboarding{}, s.c.Broker.PreviewOnboarding)
}

// manageForm takes the accounts over, each by itself: one that fails stops none.
func (s *Server) manageForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	if r.ParseForm() != nil {
		s.fail(w, r, by, access.Invalid("the form cannot be read; nothing changed"))
		return
	}
	m, o, err := onboardingOf(r.PostForm)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	m.Done = true
	s.manageEach(w, r, by, r.PostForm["account"], m, o, s.c.Broker.OnboardAccount)
}

// onboardingOf reads how accounts are to be managed.
func onboardingOf(form url.Values) (m ui.Manage, o broker.Onboarding, err error) {
	m = ui.Manage{Every: form.Get("every"), AfterUse: form.Get("after_use") == "yes", Credential: form.Get("credential"), Owner: form.Get("owner")}
	o = broker.Onboarding{Credential: m.Credential, Managed: access.Managed{AfterUse: m.AfterUse}}
	if m.Owner != "" {
		o.Owner = &m.Owner
	}
	if m.Every != "" {
		if o.Managed.Every, err = time.ParseDuration(m.Every); err != nil {
			err = access.Invalid("say how old what it logs in with may become: one of the list")
		}
	}
	return m, o, err
}

// manageEach asks or does it for each account, and shows what becomes of it.
func (s *Server) manageEach(w http.ResponseWriter, r *http.Request, by access.Caller, ids []string, m ui.Manage, o broker.Onboarding,
	do func(context.Context, access.Caller, string, broker.Onboarding) (access.FoundAccount, error)) {
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) == 0 || len(ids) > foundPage {
		s.fail(w, r, by, &access.Error{Kind: access.ErrInvalid, Code: "DB-6505", Text: "choose between 1 and 50 accounts", Next: "drawbolt account manage --account-class unmanaged --dry-run"})
		return
	}
	words, status := "it can be taken over", http.StatusOK
	if m.Done {
		words = "taken over; it is being changed"
	}
	for _, id := range ids {
		f, err := do(r.Context(), by, id, o)
		x := ui.Onboarded{Account: apiFound(f), State: words}
		if err != nil {
			p := s.problem(r, err)
			if x.State = "not taken over"; p.Code == "DB-6504" {
				x.State = "as it was"
			}
			if x.Problem = &p.Problem; m.Done && len(ids) == 1 {
				status = p.Status
			}
			if f.ID == "" {
				x.Account = api.FoundAccount{ID: id, Name: "what is called " + id}
			}
		}
		m.Items = append(m.Items, x)
	}
	s.show(w, r, status, ui.ManagePage(s.page(by, "Have passwords changed", "/accounts"), m))
}
