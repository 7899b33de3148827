package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/view"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

func (s *Server) search(ctx context.Context, by access.Caller, in *struct {
	Query   string    `query:"q" required:"true" minLength:"1" maxLength:"256"`
	In      []string  `query:"in" maxItems:"5"`
	User    string    `query:"user" maxLength:"64"`
	Target  string    `query:"target" maxLength:"64"`
	Account string    `query:"account" maxLength:"64"`
	Since   time.Time `query:"since"`
	Until   time.Time `query:"until"`
	Of      string    `query:"of" maxLength:"32"`
	Files   bool      `query:"files"`
	Limit   int       `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Before  int64     `query:"before" minimum:"0"`
}) (api.SearchPage, error) {
	return s.searchFor(ctx, by, broker.SearchFilter{
		Query: in.Query, In: each(in.In, func(s string) view.Source { return view.Source(s) }), User: in.User, Target: in.Target, Account: in.Account,
		Since: in.Since, Until: in.Until, Of: in.Of, Files: in.Files, Limit: in.Limit, Before: in.Before,
	})
}

func (s *Server) searchFor(ctx context.Context, by access.Caller, f broker.SearchFilter) (api.SearchPage, error) {
	p, err := s.c.Broker.Search(ctx, by, f)
	if err != nil {
		return api.SearchPage{}, err
	}
	out := api.SearchPage{
		Sessions: p.Sessions, Partial: p.Partial, Reached: when(p.Reached),
		Items: each(p.Hits, func(h broker.SearchHit) api.SearchHit { return apiHit(h, f.Query) }),
	}
	if p.Next != 0 {
		out.Next = strconv.FormatInt(p.Next, 10)
	}
	return out, nil
}

func apiHit(h broker.SearchHit, query string) api.SearchHit {
	at := int64(h.At / time.Second)
	return api.SearchHit{
		Session: h.Session.ID, Time: h.Session.OpenedAt.Add(h.At).UTC(), AtSeconds: at,
		User: h.Session.UserName, Account: h.Session.Account, Target: h.Session.TargetName, In: string(h.In), Text: h.Text,
		URL: "/sessions/" + h.Session.ID + "/play?t=" + strconv.FormatInt(at, 10) + "&q=" + url.QueryEscape(query),
	}
}

// searchPage shows the form as it was filled in, and what it finds. Nothing is
// looked for while nothing was typed.
func (s *Server) searchPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	form := ui.Search{
		Query: q.Get("q"), User: q.Get("user"), Target: q.Get("target"), Account: q.Get("account"),
		Since: q.Get("since"), Until: q.Get("until"), Files: q.Get("files") == "yes", In: map[string]bool{},
	}
	f := broker.SearchFilter{Query: form.Query, User: form.User, Target: form.Target, Account: form.Account, Files: form.Files}
	for _, name := range q["in"] {
		if source := view.Source(name); source.Valid() && !form.In[name] {
			form.In[name] = true
			f.In = append(f.In, source)
		}
	}
	p := s.page(by, "Search", "/sessions")
	if strings.TrimSpace(form.Query) == "" {
		s.show(w, r, http.StatusOK, ui.SearchPage(p, form))
		return
	}
	var err error
	for _, part := range []struct {
		name, value string
		to          *time.Time
		days        int
	}{{"since", form.Since, &f.Since, 0}, {"until", form.Until, &f.Until, 1}} { // until the end of that day
		if part.value != "" && err == nil {
			if *part.to, err = time.Parse(time.DateOnly, part.value); err != nil {
				err = access.Invalid("the day %q of %s is not one: write it like 2026-03-01", clipped(part.value), part.name)
			}
			*part.to = part.to.AddDate(0, 0, part.days)
		}
	}
	if f.Before, _ = strconv.ParseInt(q.Get("before"), 10, 64); f.Before < 0 {
		f.Before = 0
	}
	if err == nil && (len(form.User) > access.MaxName || len(form.Target) > access.MaxName || len(form.Account) > access.MaxName) {
		err = access.Invalid("a name has at most %d characters", access.MaxName)
	}
	start := s.now()
	if err == nil {
		form.Found, err = s.searchFor(r.Context(), by, f)
	}
	form.Took, form.Done = s.now().Sub(start), err == nil
	if form.Found.Next != "" {
		q.Set("before", form.Found.Next)
		form.Older = "/search?" + q.Encode()
	}
	status := s.with(&p, r, err)
	s.show(w, r, status, ui.SearchPage(p, form))
}

func clipped(s string) string { return s[:min(len(s), 32)] }
