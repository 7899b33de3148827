package web

import (
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/web/api"
)

// reviewers gives carol what a reviewer needs, engineers the right to break glass,
// and returns a case of it that is over.
func (h *house) reviewers() api.BreakGlass {
	h.t.Helper()
	for _, r := range []access.Role{
		{Name: "reviewer", Groups: []string{"auditors"}, Rules: []access.Rule{{ID: "review", Actions: []string{"breakglass.review", "review.read", "review.write"}}}},
		{Name: "fire", Groups: []string{"engineers", broker.EmergencyGroup}, Rules: []access.Rule{{ID: "fire", Actions: []string{"break_glass"}, Accounts: []string{"root"}, MaxDuration: time.Hour, Session: access.SessionRules{Shell: true}}}},
	} {
		must(h.broker.SetRole(h.t.Context(), h.by("root"), r))
	}
	r := callJSON[api.Request](h, "alice", "POST", "/v1/requests", api.RequestInput{Target: "db01", Account: "root", DurationSeconds: 600, Reason: "INC-1 everything burns", BreakGlass: true}, 200)
	callJSON[api.Problem](h, "carol", "POST", "/v1/breakglass/"+r.ID+"/review", api.GlassReviewInput{Finding: api.Justified, Text: "fine"}, 409)
	callJSON[api.Request](h, "alice", "POST", "/v1/requests/"+r.ID+"/end", api.Empty{}, 200)
	return callJSON[api.BreakGlass](h, "carol", "GET", "/v1/breakglass/"+r.ID, nil, 200)
}

func TestBreakGlassOverHTTP(t *testing.T) {
	h := newHouse(t)
	b := h.reviewers()
	if !b.MayReview || b.ClosedAt != nil || b.Request.Requester != "alice" {
		t.Errorf("the case: %+v", b)
	}
	callJSON[api.Problem](h, "eve", "GET", "/v1/breakglass/"+b.Request.ID, nil, 404)
	if list := callJSON[api.List[api.BreakGlass]](h, "eve", "GET", "/v1/breakglass", nil, 200); len(list.Items) != 0 {
		t.Errorf("eve sees %+v", list)
	}
	if list := callJSON[api.List[api.BreakGlass]](h, "carol", "GET", "/v1/breakglass?open=true", nil, 200); len(list.Items) != 1 {
		t.Errorf("carol sees %+v", list)
	}
	callJSON[api.Problem](h, "bob", "POST", "/v1/breakglass/"+b.Request.ID+"/review", api.GlassReviewInput{Finding: api.Justified, Text: "fine"}, 403)
	callJSON[api.Problem](h, "carol", "POST", "/v1/breakglass/"+b.Request.ID+"/review", api.GlassReviewInput{Finding: "so so", Text: "fine"}, 422)
	done := callJSON[api.BreakGlass](h, "carol", "POST", "/v1/breakglass/"+b.Request.ID+"/review", api.GlassReviewInput{Finding: api.NotJustified, Text: "could have waited"}, 200)
	if done.ClosedBy != "carol" || done.Finding != api.NotJustified || done.MayReview {
		t.Errorf("closed: %+v", done)
	}
}

// TestCodesOverHTTP logs in with sealed codes, by the API and by the page, and
// floods both.
func TestCodesOverHTTP(t *testing.T) {
	var logins *identity.Logins
	h := newHouse(t, func(c *Config) { logins = c.Logins })
	h.reviewers()
	u := must(h.broker.EmergencyUser(t.Context(), "emergency"))
	print := func() []string {
		codes, _, err := logins.NewCodes(t.Context(), access.System(), u, make([]identity.Holder, 3), 2)
		if err != nil {
			t.Fatal(err)
		}
		return codes
	}
	codes := print()
	in := api.BreakGlassLogin{Codes: codes[:2], Reason: "INC-1 SSO is down"}
	callJSON[api.Problem](h, "", "POST", "/v1/login/breakglass", api.BreakGlassLogin{Codes: codes[:1], Reason: "INC-1 x"}, 401)
	callJSON[api.Problem](h, "", "POST", "/v1/login/breakglass", api.BreakGlassLogin{Codes: codes[:2]}, 422)
	l := callJSON[api.Login](h, "", "POST", "/v1/login/breakglass", in, 200)
	if l.User != "emergency" || time.Until(l.ExpiresAt) > identity.CodeLoginTTL {
		t.Errorf("the login: %+v", l)
	}
	callJSON[api.Problem](h, "", "POST", "/v1/login/breakglass", in, 401)
	for path, status := range map[string]int{"/v1/me": 200, "/v1/users": 403, "/v1/requests": 200, "/v1/audit/events": 403, "/v1/reports/access": 403} {
		if resp := h.do(httpCall{method: "GET", path: path, token: l.Token}); resp.StatusCode != status {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text(resp))
		}
	}

	codes = print()
	form := url.Values{"codes": {codes[2] + "\r\n\r\n " + strings.ToLower(codes[0]) + "\r\n"}, "reason": {"INC-1 SSO is down"}}
	send := func(form url.Values, from string) (int, string, string) {
		resp := h.do(httpCall{method: "POST", path: "/login/breakglass", body: form.Encode(), from: from, header: map[string]string{"Sec-Fetch-Site": "same-origin"}})
		return resp.StatusCode, resp.Header.Get("Set-Cookie"), text(resp)
	}
	wrong := url.Values{"codes": {codes[2]}, "reason": {"INC-1 SSO is down"}}
	if status, cookie, body := send(wrong, ""); status != 401 || cookie != "" || strings.Contains(body, codes[2]) || !strings.Contains(body, "open nothing") {
		t.Errorf("too few: %d %q %s", status, cookie, body)
	}
	if status, cookie, _ := send(form, ""); status != 303 || !strings.HasPrefix(cookie, cookieName+"=") {
		t.Errorf("right ones: %d %q", status, cookie)
	}
	// A flood is slowed where it comes from, and nowhere else.
	limited := false
	for range 20 {
		status, _, _ := send(wrong, "198.51.100.9:1")
		limited = limited || status == 429
	}
	codes = print()
	form.Set("codes", codes[0]+"\n"+codes[1])
	if status, _, _ := send(form, "203.0.113.9:1"); !limited || status != 303 {
		t.Errorf("limited: %v; from elsewhere: %d", limited, status)
	}
	if strings.Contains(h.log.String(), codes[0]) || strings.Contains(h.log.String(), strings.ReplaceAll(codes[0], "-", "")) {
		t.Error("a code is in the log")
	}
}

func TestReviewOverHTTP(t *testing.T) {
	h := newHouse(t)
	h.reviewers()
	for _, path := range []string{"/v1/reports/access", "/v1/reviews"} {
		callJSON[api.Problem](h, "alice", "GET", path, nil, 403)
	}
	report := callJSON[api.List[api.Holding]](h, "carol", "GET", "/v1/reports/access?unused=true", nil, 200)
	if len(report.Items) == 0 {
		t.Error("nothing is unused")
	}
	in := api.ReviewInput{Roles: []string{"engineer", "reviewer"}, Owner: "carol", DueAt: time.Now().Add(24 * time.Hour)}
	r := callJSON[api.Review](h, "carol", "POST", "/v1/reviews", in, 200)
	if r.Items != 2 || r.Undecided != 2 {
		t.Errorf("begun: %+v", r)
	}
	items := callJSON[api.List[api.ReviewItem]](h, "carol", "GET", "/v1/reviews/"+r.ID+"/items", nil, 200)
	var alice, carol int
	for _, i := range items.Items {
		if i.User == "alice" {
			alice = i.N
		} else {
			carol = i.N
		}
		if i.MayDecide != (i.User == "alice") {
			t.Errorf("item %+v", i)
		}
	}
	callJSON[api.Problem](h, "carol", "POST", "/v1/reviews/"+r.ID+"/decide", api.DecideInput{Items: []int{carol}, Decision: api.Kept, Reason: "mine"}, 403)
	callJSON[api.Problem](h, "carol", "POST", "/v1/reviews/"+r.ID+"/decide", api.DecideInput{Items: []int{alice}, Decision: "certified", Reason: "x1"}, 422)
	callJSON[api.Review](h, "carol", "POST", "/v1/reviews/"+r.ID+"/decide", api.DecideInput{Items: []int{alice}, Decision: api.Removed, Reason: "=1+1"}, 200)
	callJSON[api.Problem](h, "alice", "POST", "/v1/requests", api.RequestInput{Target: "db01", Account: "guest", Reason: "INC-2 x"}, 404)
	callJSON[api.Problem](h, "carol", "POST", "/v1/reviews/"+r.ID+"/close", api.CloseInput{}, 409)
	callJSON[api.Review](h, "carol", "POST", "/v1/reviews/"+r.ID+"/close", api.CloseInput{Undecided: true}, 200)
	x := callJSON[api.ReviewExport](h, "carol", "GET", "/v1/reviews/"+r.ID+"/export", nil, 200)
	if len(x.List) != 2 || x.List[alice-1].Event == nil || x.List[carol-1].Event != nil || x.Checkpoint == "" {
		t.Errorf("exported: %+v", x)
	}
	resp := h.do(httpCall{method: "GET", path: "/reviews/" + r.ID + "/export", cookie: h.token("carol")})
	if body := text(resp); resp.StatusCode != 200 || !strings.Contains(body, ",'=1+1,") || !strings.Contains(resp.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("CSV: %d %s", resp.StatusCode, body)
	}
	callJSON[api.Problem](h, "carol", "GET", "/v1/reviews/CMP-0000000000000000", nil, 404)
}

// TestReviewPages goes through the pages in a browser, on a small screen, in both
// themes and by the keyboard alone.
func TestReviewPages(t *testing.T) {
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			h := newHouse(t)
			b := h.reviewers()
			srv := httptest.NewTLSServer(h.server.Handler())
			defer srv.Close()
			c := must(h.broker.StartCampaign(t.Context(), h.by("carol"), broker.CampaignOrder{Owner: "carol", Due: time.Now().Add(24 * time.Hour)}))
			ctx := browser(t, scheme, true)
			do(t, ctx, chromedp.Navigate(srv.URL+"/login/breakglass"), chromedp.WaitVisible(css(`textarea[name=codes]`)))
			accessible(t, ctx, scheme+"-codes")
			picture(t, ctx, scheme+"-codes")
			signIn(t, ctx, srv.URL, "carol", "/breakglass/"+b.Request.ID)
			accessible(t, ctx, scheme+"-case")
			picture(t, ctx, scheme+"-breakglass-case")
			do(t, ctx, chromedp.SendKeys(css(`textarea[name=text]`), "could have waited"), chromedp.Click(css(`button[value=not_justified]`)),
				chromedp.WaitNotPresent(css(`textarea[name=text]`)))
			if shown := get(t, ctx, chromedp.Text(css(`article`))); !strings.Contains(shown, "carol found it not justified") {
				t.Errorf("shown: %s", shown)
			}
			for name, path := range map[string]string{
				"breakglass": "/breakglass", "open": "/breakglass?open=true", "reviews": "/reviews", "report": "/reports/access?unused=yes", "review": "/reviews/" + c.ID,
			} {
				do(t, ctx, chromedp.Navigate(srv.URL+path), chromedp.WaitVisible(css(`h1`)))
				accessible(t, ctx, scheme+"-"+name)
				if w := width(t, ctx); w > 360 {
					t.Errorf("%s is %v wide", path, w)
				}
				picture(t, ctx, scheme+"-"+name)
			}
			// Space chooses the first, the reason is typed, and Tab leads to "Keep".
			do(t, ctx, chromedp.Navigate(srv.URL+"/reviews/"+c.ID), chromedp.WaitVisible(css(`input[name=item]`)),
				chromedp.Focus(css(`input[name=item]`)), chromedp.KeyEvent(" "),
				chromedp.SendKeys(css(`input[name=reason]`), "needs it"), chromedp.KeyEvent("\r")) // the return key decides nothing
			if now := must(h.broker.FindCampaign(t.Context(), h.by("carol"), c.ID)); now.Undecided != c.Items {
				t.Errorf("the return key has decided: %+v", now)
			}
			do(t, ctx, chromedp.KeyEvent("\t"), chromedp.KeyEvent("\t"), chromedp.KeyEvent("\r"))
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
				now := must(h.broker.FindCampaign(t.Context(), h.by("carol"), c.ID))
				if now.Undecided == c.Items-1 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("nothing was decided: %s", strconv.Itoa(now.Undecided))
				}
			}
			items := must(h.broker.CampaignItems(t.Context(), h.by("carol"), c.ID, false, 0, 100))
			for _, i := range items {
				if i.Decision == access.Removed || i.Decision == access.Kept && i.Reason != "needs it" {
					t.Errorf("item %+v", i)
				}
			}
		})
	}
}
