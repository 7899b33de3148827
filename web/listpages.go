package web

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

// Lists of requests.

// listed is how many requests one page of a list shows.
const listed = 50

func (s *Server) inboxPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showInbox(w, r, by, ui.Inbox{}, nil)
}

func (s *Server) showInbox(w http.ResponseWriter, r *http.Request, by access.Caller, in ui.Inbox, wrong error) {
	list, err := s.c.Broker.Requests(r.Context(), by, broker.Filter{Inbox: true, Limit: 2 * listed})
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	in.Items, in.More = s.viewRequests(by, list), len(list) == 2*listed
	in.Key = s.keyOf(by, in.Items)
	if wrong == nil && unchanged(w, r, in.Key) {
		return
	}
	p := s.page(by, "Inbox", "/inbox")
	status := s.with(&p, r, wrong)
	s.show(w, r, status, ui.InboxPage(p, in))
}

// inboxForm decides what was picked. What is refused is told above what still waits.
func (s *Server) inboxForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	d, err := decision(r)
	if err == nil {
		err = s.decideTogether(r, by, "", d)
	}
	if err != nil {
		s.showInbox(w, r, by, ui.Inbox{Picked: r.PostForm["vote"], Typed: d}, err)
		return
	}
	http.Redirect(w, r, "/inbox", http.StatusSeeOther)
}

func (s *Server) requestsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	l := ui.List{Show: q.Get("show"), State: q.Get("state"), First: q.Get("before") == ""}
	f := broker.Filter{Before: q.Get("before"), Limit: listed}
	switch l.Show {
	case "mine":
		f.Mine = true
	case "review":
		f.Inbox, l.State = true, ""
	default:
		l.Show = "all"
	}
	switch l.State {
	case "", api.Pending, api.Approved, api.Denied, api.Cancelled, api.Expired:
		f.State = access.RequestState(l.State)
	default:
		s.fail(w, r, by, access.Invalid("there is no such state of a request"))
		return
	}
	list, err := s.c.Broker.Requests(r.Context(), by, f)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	l.Items = s.viewRequests(by, list)
	if len(list) == listed {
		l.Older = list[listed-1].Request.ID
	}
	l.Key = s.keyOf(by, l.Items)
	if unchanged(w, r, l.Key) {
		return
	}
	s.show(w, r, http.StatusOK, ui.RequestsPage(s.page(by, "Requests", "/requests"), l))
}

// Targets.

func (s *Server) targetsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	l := ui.TargetList{
		Query: strings.TrimSpace(q.Get("q")), Environment: q.Get("environment"), Tier: q.Get("tier"), Owner: q.Get("owner"), Application: q.Get("application"),
		Usable: q.Get("usable") == "yes",
	}
	list, next, err := s.c.Broker.FindTargets(r.Context(), by, broker.TargetFilter{
		Part: l.Query, Environment: l.Environment, Tier: l.Tier, Owner: l.Owner, Application: l.Application, Usable: l.Usable, After: q.Get("after"),
	})
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	l.Items, l.Next = each(list, viewTarget), next
	s.show(w, r, http.StatusOK, ui.TargetsPage(s.page(by, "Targets", "/targets"), l))
}

func (s *Server) targetPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	s.showTarget(w, r, by, ui.Ask{Target: r.PathValue("name"), Account: q.Get("account"), Reason: q.Get("reason"), Seconds: 3600}, nil)
}

func (s *Server) showTarget(w http.ResponseWriter, r *http.Request, by access.Caller, a ui.Ask, wrong error) {
	t, err := s.c.Broker.FindTarget(r.Context(), by, a.Target)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	live, err := s.c.Broker.Sessions(r.Context(), by, broker.SessionFilter{Live: true, Target: a.Target, Limit: 20})
	if err != nil && !errors.Is(err, access.ErrDenied) {
		s.fail(w, r, by, err)
		return
	}
	v := ui.TargetView{Target: viewTarget(t), Ask: a, Live: each(live, apiSession), HostKeys: fingerprints(t.Target.HostKeys)}
	p := s.page(by, a.Target, "/targets")
	s.show(w, r, s.with(&p, r, wrong), ui.TargetPage(p, v))
}

func (s *Server) targetForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	a := asked(r, r.PathValue("name"))
	if err := s.ask(w, r, by, a); err != nil {
		s.showTarget(w, r, by, a, err)
	}
}

// People and groups.

func (s *Server) peoplePage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	l := ui.PeopleList{Query: strings.TrimSpace(q.Get("q")), Group: q.Get("group")}
	list, next, err := s.c.Broker.FindUsers(r.Context(), by, broker.UserFilter{Part: l.Query, Group: l.Group, After: q.Get("after")})
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	l.Items, l.Next = each(list, apiUser), next
	s.show(w, r, http.StatusOK, ui.PeoplePage(s.page(by, "People", "/people"), l))
}

func (s *Server) groupsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	list, err := s.c.Broker.Groups(r.Context(), by)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	s.show(w, r, http.StatusOK, ui.GroupsPage(s.page(by, "Groups", "/people"), each(list, func(g broker.Group) ui.GroupView { return ui.GroupView(g) })))
}

func (s *Server) personPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showPerson(w, r, by, nil, nil)
}

// showPerson shows somebody, with what was typed into a form that was refused.
func (s *Server) showPerson(w http.ResponseWriter, r *http.Request, by access.Caller, typed *ui.Typed, wrong error) {
	ctx := r.Context()
	x, err := s.c.Broker.FindPerson(ctx, by, r.PathValue("name"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	factors, err := s.c.Local.Factors(ctx, x.User.ID)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	passkeys, err := s.passkeysOf(ctx, x.User.ID)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	v := ui.Person{
		User: apiUser(x.User), Roles: each(x.Roles, func(h broker.HeldRole) ui.HeldRole { return ui.HeldRole(h) }),
		Password: factors.Password, TOTP: factors.TOTP, Passkeys: passkeys.Items, MayWrite: x.MayWrite, MayTake: x.MayWrite && x.User.ID != by.User.ID, MayLock: x.MayLock,
		Typed: ui.Typed{Display: x.User.Display, Groups: strings.Join(x.User.Groups, " ")},
	}
	if typed != nil {
		v.Typed = *typed
	}
	if e := x.Login; e != nil {
		v.LoginAt, v.LoginFrom, v.LoginVia = when(e.Time), e.Source, e.Details["via"]
	}
	p := s.page(by, x.User.Name, "/people")
	s.show(w, r, s.with(&p, r, wrong), ui.PersonPage(p, v))
}

func (s *Server) personForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	ctx, name, b := r.Context(), r.PathValue("name"), s.c.Broker
	typed := ui.Typed{Display: r.PostFormValue("display"), Groups: r.PostFormValue("groups"), Reason: r.PostFormValue("reason")}
	var err error
	switch r.PostFormValue("action") {
	case "take":
		typed.Reason, typed.TakeReason = "", typed.Reason
		err = s.takeFactorOf(ctx, by, name, r.PostFormValue("id"), typed.TakeReason)
	case "set":
		var u access.User
		if u, err = b.FindUser(ctx, by, name); err != nil {
			break
		}
		// What was not shown in the form stays; what was shown is of the version in it.
		u.Version, _ = strconv.ParseInt(r.PostFormValue("version"), 10, 64) // 0: of no version, refused
		u.Display, u.Groups = typed.Display, strings.Fields(typed.Groups)
		_, err = b.SetUser(ctx, by, u)
	case "lock":
		err = b.LockUser(ctx, by, name, true, typed.Reason)
	case "unlock":
		err = b.LockUser(ctx, by, name, false, "")
	default:
		err = access.Invalid("the form does not say what to do")
	}
	if err != nil {
		s.showPerson(w, r, by, &typed, err)
		return
	}
	http.Redirect(w, r, "/people/"+url.PathEscape(name), http.StatusSeeOther)
}

// settingsPage shows how this server is set up and how it does.
func (s *Server) settingsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	if err := s.c.Broker.MayReadSystem(r.Context(), by); err != nil {
		s.fail(w, r, by, err)
		return
	}
	// To look at everything costs some reads of disks and of the database.
	done, err := s.mayRead(by.User.ID)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	defer done()
	v := ui.System{Version: s.c.Version}
	if s.c.System != nil {
		v = s.c.System(r.Context())
	}
	s.show(w, r, http.StatusOK, ui.SettingsPage(s.page(by, "Settings", "/settings"), v))
}
