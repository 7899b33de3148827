package web

import (
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

const aSecret = "correct-horse-battery-staple"

// lending lets alice see the password of root@db01, under a grant that she has.
func (h *house) lending() api.Request {
	h.t.Helper()
	ctx := h.t.Context()
	change := func(name string, fn func(*access.Role)) {
		h.t.Helper()
		r := must(h.broker.FindRole(ctx, h.by("root"), name))
		fn(&r)
		must(h.broker.SetRole(ctx, h.by("root"), r))
	}
	change("administrator", func(r *access.Role) {
		r.Rules[0].Actions = append(r.Rules[0].Actions, "secret.write", "secret.read", "revoke")
	})
	change("engineer", func(r *access.Role) {
		r.Rules[0].Actions = append(r.Rules[0].Actions, "checkout")
		r.Rules[0].Session.Checkout = access.CheckoutAny
	})
	if err := h.broker.SetCredential(ctx, h.by("root"), "db01", "root", access.CredentialPassword, []byte(aSecret)); err != nil {
		h.t.Fatal(err)
	}
	r := h.ask("INC-1234 console only")
	must(h.broker.Approve(ctx, h.by("bob"), r.ID, r.Digest, broker.Answer{}))
	return r
}

// TestSecretPage: a secret is in the one answer to the one form that asked for it, and
// in no other page, address, log or answer.
func TestSecretPage(t *testing.T) {
	h := newHouse(t)
	r := h.lending()
	path := "/r/" + r.ID + "/secret"
	read := func(who, path string) string {
		return text(h.do(httpCall{method: "GET", path: path, cookie: h.token(who)}))
	}
	accept := ""
	send := func(who, path, site string, form url.Values) (int, string, string) {
		resp := h.do(httpCall{method: "POST", path: path, cookie: h.token(who), header: map[string]string{"Sec-Fetch-Site": site, "Accept-Encoding": accept}, body: form.Encode()})
		head := resp.Header.Get("Cache-Control") + " " + resp.Header.Get("Refresh") + " " + resp.Header.Get("Content-Encoding")
		return resp.StatusCode, head, text(resp)
	}
	why := url.Values{"reason": {"INC-1234 console only"}}
	for _, page := range []string{"/", "/r/" + r.ID} {
		if body := read("alice", page); strings.Contains(body, aSecret) || !strings.Contains(body, path) {
			t.Errorf("%s before: %s", page, body)
		}
	}
	for _, c := range []struct {
		name, who, site string
		form            url.Values
		status          int
	}{
		{"another site", "alice", "cross-site", why, 403}, {"no reason", "alice", "same-origin", url.Values{}, 422},
		{"another's", "bob", "same-origin", why, 404}, {"a stranger", "eve", "same-origin", why, 404},
	} {
		if status, _, body := send(c.who, path, c.site, c.form); status != c.status || strings.Contains(body, aSecret) {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
	}
	if resp := h.do(httpCall{method: "GET", path: path, cookie: h.token("alice")}); resp.StatusCode != 303 || resp.Header.Get("Location") != "/r/"+r.ID {
		t.Errorf("to read the address of the secret: %d %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	accept = "gzip"
	status, head, body := send("alice", path, "same-origin", why)
	if status != 200 || head != "no-store 30; url=/r/"+r.ID+" " || strings.Count(body, aSecret) != 2 { // shown, and to copy
		t.Fatalf("%d %q: %s", status, head, body)
	}
	accept = ""
	if status, _, body := send("alice", path, "same-origin", why); status != 409 || strings.Contains(body, aSecret) || !strings.Contains(body, "shown once") {
		t.Errorf("again: %d %s", status, body)
	}
	for who, pages := range map[string][]string{
		"alice": {"/", "/r/" + r.ID, "/v1/requests/" + r.ID, "/v1/checkouts"}, "bob": {"/r/" + r.ID},
		"root": {"/r/" + r.ID, "/checkouts", "/checkouts?active=true", "/targets/db01", "/v1/checkouts", "/v1/targets/db01"}, "carol": {"/v1/audit/events", "/v1/audit/export"},
	} {
		for _, page := range pages {
			body := read(who, page)
			if strings.Contains(body, aSecret) {
				t.Errorf("%s gives %s the secret", page, who)
			}
			if who == "root" && !strings.Contains(body, "alice") {
				t.Errorf("%s does not tell who has it: %s", page, body)
			}
		}
	}
	if body := read("alice", "/checkouts"); !strings.Contains(body, "INC-1234") || strings.Contains(read("eve", "/checkouts"), "INC-1234") {
		t.Errorf("one's own: %s", body)
	}
	if status, _, body := send("eve", "/r/"+r.ID, "same-origin", url.Values{"action": {"checkin"}}); status != 404 {
		t.Errorf("a stranger checks it in: %d %s", status, body)
	}
	if status, _, body := send("alice", "/r/"+r.ID, "same-origin", url.Values{"action": {"checkin"}}); status != 303 {
		t.Errorf("check-in: %d %s", status, body)
	}
	got := callJSON[api.Checkout](h, "alice", "POST", "/v1/requests/"+r.ID+"/checkout", api.CheckoutInput{}, 200)
	if got.Secret != aSecret || !got.Lease.Active || got.Lease.Reason != "INC-1234 console only" || got.Lease.Managed {
		t.Errorf("%+v", got)
	}
	if l := callJSON[api.Lease](h, "root", "POST", "/v1/requests/"+r.ID+"/checkin", api.CheckoutInput{Reason: "gone home"}, 200); l.Active || l.EndReason != "revoked" || l.EndedBy != "root" {
		t.Errorf("%+v", l)
	}
	if strings.Contains(h.log.String(), aSecret) {
		t.Error("the secret stands in the log")
	}
}

// TestSecretInBrowser: the button shows it, it can be copied, it is on no page to which
// the browser goes back, and people who need larger letters or no scripts get it too.
func TestSecretInBrowser(t *testing.T) {
	for _, c := range []struct {
		name, scheme string
		scripts      bool
	}{{"with scripts", "light", true}, {"without scripts", "light", false}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			r := h.lending()
			srv := h.serve()
			ctx := browser(t, c.scheme, c.scripts)
			signIn(t, ctx, srv.URL, "alice", "/r/"+r.ID)
			do(t, ctx, chromedp.Click(css(`details[id^=secret-of] summary`)), chromedp.WaitVisible(css(`input[name=reason]`)))
			if c.scripts {
				accessible(t, ctx, "request")
			}
			do(t, ctx, chromedp.Click(css(`form[action$=secret] button`)), chromedp.WaitVisible(css(`#secret pre`)))
			if shown := get(t, ctx, chromedp.Text(css(`#secret pre`))); shown != aSecret {
				t.Errorf("shown: %q", shown)
			}
			if w := width(t, ctx); w > 360 {
				t.Errorf("the page is %v wide", w)
			}
			picture(t, ctx, "secret-"+strings.ReplaceAll(c.name, " ", "-"))
			if c.scripts {
				accessible(t, ctx, "secret")
				do(t, ctx, chromedp.Evaluate[chromedp.Void](`document.querySelector("main a.btn").click()`))
			} else {
				do(t, ctx, chromedp.Click(css(`main a.btn`)))
			}
			do(t, ctx, chromedp.WaitVisible(css(`button[value=checkin]`)))
			if c.scripts { // else the browser says that it would have to send the form again
				do(t, ctx, chromedp.NavigateBack(), chromedp.WaitVisible(css(`h1`)))
				if page := get(t, ctx, chromedp.Evaluate[string](`document.documentElement.outerHTML`)); strings.Contains(page, aSecret) {
					t.Error("the browser goes back to the secret")
				}
			}
			do(t, ctx, chromedp.Navigate(srv.URL+"/r/"+r.ID), chromedp.Click(css(`button[value=checkin]`)), chromedp.WaitNotPresent(css(`button[value=checkin]`)))
			list := must(h.broker.Leases(t.Context(), h.by("root"), broker.LeaseFilter{}))
			if len(list) != 1 || list[0].EndReason != access.EndCheckedIn {
				t.Errorf("%+v", list)
			}
		})
	}
}

// TestCheckoutsPage: who has what, for administrators.
func TestCheckoutsPage(t *testing.T) {
	h := newHouse(t)
	r := h.lending()
	callJSON[api.Checkout](h, "alice", "POST", "/v1/requests/"+r.ID+"/checkout", api.CheckoutInput{}, 200)
	srv := h.serve()
	ctx := browser(t, "dark", true)
	signIn(t, ctx, srv.URL, "root", "/checkouts")
	accessible(t, ctx, "checkouts")
	if w := width(t, ctx); w > 360 {
		t.Errorf("the page is %v wide", w)
	}
	do(t, ctx, chromedp.Click(css(`main button[value=checkin]`)), chromedp.WaitVisible(css(`#request`)))
	if list := must(h.broker.Leases(t.Context(), h.by("root"), broker.LeaseFilter{Active: true})); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}
