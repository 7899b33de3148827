package web

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

func apiHolding(h access.Holding) api.Holding {
	return api.Holding{User: h.UserName, Role: h.Role, How: each(h.How, same), Measured: h.Measured, LastUsed: when(h.LastUsed), Uses: h.Uses}
}

// since is the moment so many days ago; zero for none.
func (s *Server) since(days int) time.Time {
	if days <= 0 {
		return time.Time{}
	}
	return s.now().AddDate(0, 0, -days)
}

func (s *Server) holdings(ctx context.Context, by access.Caller, in *struct {
	Role   string `query:"role" maxLength:"64"`
	User   string `query:"user" maxLength:"64"`
	Unused bool   `query:"unused"`
	Days   int    `query:"days" minimum:"0" maximum:"3660"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"200"`
	After  string `query:"after" maxLength:"64"`
}) (api.List[api.Holding], error) {
	list, next, err := s.c.Broker.Holdings(ctx, by, broker.HoldingFilter{
		Role: in.Role, User: in.User, Unused: in.Unused, Since: s.since(in.Days), Limit: in.Limit, After: in.After,
	})
	return api.List[api.Holding]{Items: each(list, apiHolding), Next: next}, err
}

func (s *Server) apiReview(c access.Campaign) api.Review {
	return api.Review{
		ID: c.ID, Roles: each(c.Roles, same), Owner: c.OwnerName, StartedBy: c.StartedName, StartedAt: c.StartedAt.UTC(), DueAt: c.DueAt.UTC(),
		Overdue: c.Overdue(s.now()), ClosedAt: when(c.ClosedAt), ClosedBy: c.ClosedName, Items: c.Items, Undecided: c.Undecided, URL: s.url + "/reviews/" + c.ID,
	}
}

func (s *Server) answerReview(c access.Campaign, err error) (api.Review, error) {
	if err != nil {
		return api.Review{}, err
	}
	return s.apiReview(c), nil
}

func (s *Server) startReview(ctx context.Context, by access.Caller, in *struct{ Body api.ReviewInput }) (api.Review, error) {
	return s.answerReview(s.c.Broker.StartCampaign(ctx, by, broker.CampaignOrder{Roles: in.Body.Roles, Unused: in.Body.Unused, Owner: in.Body.Owner, Due: in.Body.DueAt}))
}

func (s *Server) reviews(ctx context.Context, by access.Caller, in *struct {
	Open   bool   `query:"open"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Before string `query:"before" maxLength:"32"`
}) (api.List[api.Review], error) {
	list, err := s.c.Broker.Campaigns(ctx, by, in.Open, in.Before, in.Limit)
	return page(list, in.Limit, s.apiReview, func(c access.Campaign) string { return c.ID }), err
}

func (s *Server) findReview(ctx context.Context, by access.Caller, in *ByID) (api.Review, error) {
	return s.answerReview(s.c.Broker.FindCampaign(ctx, by, in.ID))
}

func apiItem(i access.CampaignItem) api.ReviewItem {
	return api.ReviewItem{N: i.N, Holding: apiHolding(i.Holding), Decision: i.Decision, DecidedBy: i.DecidedName, DecidedAt: when(i.DecidedAt), Reason: i.Reason}
}

func viewItem(v broker.ItemView) api.ReviewItem {
	out := apiItem(v.CampaignItem)
	out.MayDecide = v.MayDecide
	return out
}

func (s *Server) reviewItems(ctx context.Context, by access.Caller, in *struct {
	ByID
	Undecided bool `query:"undecided"`
	Limit     int  `query:"limit" minimum:"1" maximum:"1000" default:"200"`
	After     int  `query:"after" minimum:"0"`
}) (api.List[api.ReviewItem], error) {
	list, err := s.c.Broker.CampaignItems(ctx, by, in.ID, in.Undecided, in.After, in.Limit)
	return page(list, in.Limit, viewItem, func(v broker.ItemView) string { return strconv.Itoa(v.N) }), err
}

func (s *Server) decideReview(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.DecideInput
}) (api.Review, error) {
	return s.answerReview(s.c.Broker.DecideItems(ctx, by, in.ID, in.Body.Items, in.Body.Decision, in.Body.Reason))
}

func (s *Server) closeReview(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.CloseInput
}) (api.Review, error) {
	return s.answerReview(s.c.Broker.CloseCampaign(ctx, by, in.ID, in.Body.Undecided))
}

func (s *Server) exportReview(ctx context.Context, by access.Caller, in *ByID) (api.ReviewExport, error) {
	x, err := s.c.Broker.ExportCampaign(ctx, by, in.ID)
	if err != nil {
		return api.ReviewExport{}, err
	}
	return api.ReviewExport{Review: s.apiReview(x.Campaign), Checkpoint: string(x.Checkpoint), List: each(x.Items, func(i access.CampaignItem) api.ReviewItem {
		out := apiItem(i)
		if seq, ok := x.Events[i.N]; ok {
			out.Event = &seq
		}
		return out
	})}, nil
}

// The pages.

func (s *Server) holdingsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	q := r.URL.Query()
	view := ui.Holdings{Role: q.Get("role"), User: q.Get("user"), Unused: q.Get("unused") == "yes"}
	list, next, err := s.c.Broker.Holdings(r.Context(), by, broker.HoldingFilter{Role: view.Role, User: view.User, Unused: view.Unused, After: q.Get("after"), Limit: 100})
	p := s.page(by, "Who has which role", "/reviews")
	status := http.StatusOK
	if err != nil {
		if status = s.with(&p, r, err); status != http.StatusNotFound { // of a name that was typed
			s.fail(w, r, by, err)
			return
		}
	}
	view.Items = each(list, apiHolding)
	if next != "" {
		q.Set("after", next)
		view.Next = "/reports/access?" + q.Encode()
	}
	s.show(w, r, status, ui.HoldingsPage(p, view))
}

func (s *Server) reviewsPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showReviews(w, r, by, ui.ReviewForm{}, nil)
}

func (s *Server) showReviews(w http.ResponseWriter, r *http.Request, by access.Caller, typed ui.ReviewForm, said error) {
	list, err := s.c.Broker.Campaigns(r.Context(), by, false, r.URL.Query().Get("before"), 50)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	p := s.page(by, "Access reviews", "/reviews")
	status := s.with(&p, r, said)
	view := ui.Reviews{Items: each(list, s.apiReview), Typed: typed}
	if len(list) == 50 {
		view.Next = "/reviews?before=" + list[len(list)-1].ID
	}
	s.show(w, r, status, ui.ReviewsPage(p, view))
}

func (s *Server) reviewsForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	typed := ui.ReviewForm{Role: r.PostFormValue("role"), Owner: r.PostFormValue("owner"), Due: r.PostFormValue("due"), Unused: r.PostFormValue("unused") == "yes"}
	o := broker.CampaignOrder{Owner: typed.Owner, Unused: typed.Unused}
	if typed.Role != "" {
		o.Roles = []string{typed.Role}
	}
	day, err := time.Parse(time.DateOnly, typed.Due)
	if err != nil {
		s.showReviews(w, r, by, typed, access.Invalid("the date must be like 2026-03-31"))
		return
	}
	o.Due = day.Add(24*time.Hour - time.Second) // its end
	c, err := s.c.Broker.StartCampaign(r.Context(), by, o)
	if err != nil {
		s.showReviews(w, r, by, typed, err)
		return
	}
	http.Redirect(w, r, "/reviews/"+c.ID, http.StatusSeeOther)
}

func (s *Server) reviewPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showReview(w, r, by, "", nil)
}

func (s *Server) showReview(w http.ResponseWriter, r *http.Request, by access.Caller, reason string, said error) {
	id, q := r.PathValue("id"), r.URL.Query()
	c, err := s.c.Broker.FindCampaign(r.Context(), by, id)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	after, _ := strconv.Atoi(q.Get("after")) // anything else is the beginning
	view := ui.Review{Review: s.apiReview(c), All: q.Get("all") == "yes" || c.Undecided == 0, Reason: reason}
	list, err := s.c.Broker.CampaignItems(r.Context(), by, id, !view.All, after, 100)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	view.List = each(list, viewItem)
	if len(list) == 100 {
		q.Set("after", strconv.Itoa(list[len(list)-1].N))
		view.Next = "/reviews/" + url.PathEscape(id) + "?" + q.Encode()
	}
	p := s.page(by, "Access review", "/reviews")
	status := s.with(&p, r, said)
	s.show(w, r, status, ui.ReviewPage(p, view))
}

func (s *Server) reviewForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	id, reason := r.PathValue("id"), r.PostFormValue("reason")
	var err error
	switch action := r.PostFormValue("action"); action {
	case access.Kept, access.Removed:
		var numbers []int
		for _, text := range r.PostForm["item"] {
			n, bad := strconv.Atoi(text)
			if bad != nil {
				n = -1 // which no item has
			}
			numbers = append(numbers, n)
		}
		_, err = s.c.Broker.DecideItems(r.Context(), by, id, numbers, action, reason)
	case "close":
		_, err = s.c.Broker.CloseCampaign(r.Context(), by, id, r.PostFormValue("undecided") == "yes")
	default:
		err = access.Invalid("say whether the rights are kept or removed")
	}
	if err != nil {
		s.showReview(w, r, by, reason, err)
		return
	}
	http.Redirect(w, r, "/reviews/"+url.PathEscape(id), http.StatusSeeOther)
}

func (s *Server) reviewCSV(w http.ResponseWriter, r *http.Request, by access.Caller) {
	x, err := s.exportReview(r.Context(), by, &ByID{r.PathValue("id")})
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	s.send(w, r, content{media: "text/csv; charset=utf-8", file: x.ID + ".csv", write: func(w io.Writer) error { return x.CSV(w) }})
}
