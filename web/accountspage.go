package web

import (
	"io"
	"net/http"
	"net/url"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

// foundPage is how many accounts a page has, and foundTable a table at most.
const (
	foundPage  = 50
	foundTable = 10_000
)

// foundFilter reads what is asked for.
func foundFilter(q url.Values) (broker.FoundFilter, error) {
	risk, err := riskOf(q.Get("risk"))
	return broker.FoundFilter{Class: q.Get("class"), Target: q.Get("target"), Owner: q.Get("owner"), Name: q.Get("name"), Risk: risk, Limit: foundPage, After: q.Get("after")}, err
}

func (s *Server) accountsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	f, err := foundFilter(q)
	var list []access.FoundAccount
	var next string
	if err == nil {
		list, next, err = s.c.Broker.FoundAccounts(r.Context(), by, f)
	}
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	asked := url.Values{}
	for _, name := range []string{"class", "risk", "target", "name", "owner"} {
		if v := q.Get(name); v != "" {
			asked.Set(name, v)
		}
	}
	v := ui.Accounts{Classes: each(discovery.Classes(), func(c discovery.Class) string { return string(c) }), Class: f.Class, Risk: q.Get("risk"), Target: f.Target, Name: f.Name, Owner: f.Owner, Items: each(list, apiFound), CSV: "/accounts.csv?" + asked.Encode()}
	may, err := s.c.Broker.May(r.Context(), by, policy.ActionAccountAdopt, policy.ActionSecretWrite)
	v.MayManage = err == nil && may[policy.ActionAccountAdopt] && may[policy.ActionSecretWrite]
	if next != "" {
		asked.Set("after", next)
		v.Next = "/accounts?" + asked.Encode()
	}
	s.show(w, r, http.StatusOK, ui.AccountsPage(s.page(by, "Accounts on targets", "/accounts"), v))
}

// accountsTable is the same as a table.
func (s *Server) accountsTable(w http.ResponseWriter, r *http.Request, by access.Caller) {
	f, err := foundFilter(r.URL.Query())
	f.Limit = 500
	var all []api.FoundAccount
	for err == nil && len(all) < foundTable {
		var list []access.FoundAccount
		list, f.After, err = s.c.Broker.FoundAccounts(r.Context(), by, f)
		all = append(all, each(list, apiFound)...)
		if f.After == "" {
			break
		}
	}
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	s.send(w, r, content{media: "text/csv; charset=utf-8", file: "accounts.csv", write: func(w io.Writer) error { return api.InventoryCSV(w, all) }})
}

func (s *Server) accountPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showAccount(w, r, by, nil)
}

// showAccount shows an account with what was wrong with a form, if something was.
func (s *Server) showAccount(w http.ResponseWriter, r *http.Request, by access.Caller, wrong error) {
	v, err := s.c.Broker.FindFound(r.Context(), by, r.PathValue("id"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	p := s.page(by, v.Name+" on "+v.TargetName, "/accounts")
	status := s.with(&p, r, wrong)
	s.show(w, r, status, ui.AccountPage(p, apiFoundView(v), ui.AccountRights{Adopt: v.MayAdopt, Manage: v.MayManage, Managed: v.Managed}))
}

func (s *Server) adoptAccount(w http.ResponseWriter, r *http.Request, by access.Caller) {
	id, owner, declare := r.PathValue("id"), r.PostFormValue("owner"), r.PostFormValue("declare")
	if !r.PostForm.Has("owner") { // the form has it always, if only as nobody
		s.showAccount(w, r, by, access.Invalid("the form says nothing of the account; nothing changed"))
		return
	}
	_, err := s.c.Broker.ManageFound(r.Context(), by, []string{id}, broker.Management{Owner: &owner, Declare: &declare, Note: r.PostFormValue("note"), TakeOver: r.PostFormValue("take_over") == "yes"})
	if err != nil {
		s.showAccount(w, r, by, err)
		return
	}
	http.Redirect(w, r, "/accounts/"+url.PathEscape(id), http.StatusSeeOther)
}

func (s *Server) posturePage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	t, err := s.posture(r.Context(), by, &ByName{Name: r.PathValue("name")})
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	s.show(w, r, http.StatusOK, ui.PosturePage(s.page(by, "How "+t.Target+" stands", "/targets"), t))
}
