package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

func (s *Server) apiLease(l access.Lease, known bool) api.Lease {
	return api.Lease{
		ID: l.ID, Request: l.RequestID, User: l.UserName, Target: l.TargetName, Account: l.Account, Credential: l.Credential, Managed: l.Managed, Reason: l.Reason,
		At: l.At.UTC(), Until: l.Until.UTC(), Active: l.ActiveAt(s.now()), EndedAt: when(l.EndedAt), EndReason: string(l.EndReason), EndedBy: l.EndedBy, Known: known,
	}
}

func (s *Server) viewLease(v broker.LeaseView) api.Lease { return s.apiLease(v.Lease, v.Known) }

func (s *Server) checkout(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.CheckoutInput
}) (api.Checkout, error) {
	l, loan, err := s.c.Broker.Checkout(ctx, by, in.ID, in.Body.Reason)
	defer loan.Secret.Wipe()
	if err != nil {
		return api.Checkout{}, err
	}
	return api.Checkout{Lease: s.apiLease(l, true), Secret: string(loan.Secret.Expose())}, nil
}

func (s *Server) checkin(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.CheckoutInput
}) (api.Lease, error) {
	l, err := s.c.Broker.Checkin(ctx, by, in.ID, in.Body.Reason)
	if err != nil {
		return api.Lease{}, err
	}
	return s.apiLease(l, true), nil
}

func (s *Server) leases(ctx context.Context, by access.Caller, in *struct {
	Active bool   `query:"active"`
	Target string `query:"target" maxLength:"64"`
	User   string `query:"user" maxLength:"64"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Before string `query:"before" maxLength:"32"`
}) (api.List[api.Lease], error) {
	list, err := s.c.Broker.Leases(ctx, by, broker.LeaseFilter{Active: in.Active, Target: in.Target, User: in.User, Limit: in.Limit, Before: in.Before})
	return page(list, in.Limit, s.viewLease, func(v broker.LeaseView) string { return v.ID }), err
}

// secretFor is how long a page shows a secret, in seconds.
const secretFor = 30

// secretPage is where a browser asks that goes back, or loads again what it was shown.
func (s *Server) secretPage(w http.ResponseWriter, r *http.Request, _ access.Caller) {
	http.Redirect(w, r, "/r/"+url.PathEscape(r.PathValue("id")), http.StatusSeeOther)
}

// secretForm checks a secret out and shows it in its answer: no address leads to it,
// and sending the form again shows nothing. With or without scripts the browser goes
// back to the request after a while.
func (s *Server) secretForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	id, reason := r.PathValue("id"), r.PostFormValue("reason")
	var l access.Lease
	var loan broker.Loan
	err := access.CheckReason(reason)
	if err == nil {
		l, loan, err = s.c.Broker.Checkout(r.Context(), by, id, reason)
		defer loan.Secret.Wipe()
	}
	if err != nil {
		view, findErr := s.viewStory(r.Context(), by, id)
		if findErr != nil {
			s.fail(w, r, by, err)
			return
		}
		s.showRequest(w, r, by, view, err)
		return
	}
	p := s.page(by, l.Account+" on "+l.TargetName, "")
	w.Header().Set("Refresh", fmt.Sprintf("%d; url=/r/%s", secretFor, l.RequestID))
	r.Header.Del("Accept-Encoding") // its length would tell of a secret beside what the form said
	s.show(w, r, http.StatusOK, ui.SecretPage(p, ui.Secret{
		Lease: s.apiLease(l, true), Text: string(loan.Secret.Expose()), Until: p.Now.Add(secretFor * time.Second),
	}))
}

func (s *Server) checkoutsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	const limit = 50
	q := r.URL.Query()
	list, err := s.c.Broker.Leases(r.Context(), by, broker.LeaseFilter{Active: q.Get("active") == "true", Before: q.Get("before"), Limit: limit})
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	v := ui.Checkouts{Active: q.Get("active") == "true", Items: each(list, s.viewLease)}
	if len(list) == limit {
		v.Older = "/checkouts?" + url.Values{"active": {q.Get("active")}, "before": {list[limit-1].ID}}.Encode()
	}
	s.show(w, r, http.StatusOK, ui.CheckoutsPage(s.page(by, "Check-outs", "/checkouts"), v))
}
