package web

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/web/api"
)

// channel has a channel told by this server, which stands at the end of the log.
func (h *house) channel(name string, change func(*store.Channel), over ...store.Notice) store.Channel {
	h.t.Helper()
	c := must(h.db.ClaimChannel(h.t.Context(), name, "mattermost", "gw-1", time.Hour))
	c.Position = must(h.db.AuditSize(h.t.Context()))
	if change != nil {
		change(&c)
	}
	if err := h.db.SaveChannel(h.t.Context(), c, over...); err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *house) channels() {
	h.channel("mail", func(c *store.Channel) { c.SuccessAt = time.Now() })
	h.channel("chat", func(c *store.Channel) {
		c.Tries, c.Error, c.ErrorAt, c.Position = 3, `it answers 503 "<b>busy</b>"`, time.Now(), 1
	}, store.Notice{Channel: "chat", Position: 2, Action: "request.create", State: store.NoticeAside, Tries: 1, Error: "refused for good"})
}

// How channels stand is shown to who may know it, and nobody else has them do
// anything.
func TestIntegrations(t *testing.T) {
	h := newHouse(t)
	h.channels()
	list := callJSON[api.List[api.Integration]](h, "root", "GET", "/v1/integrations", nil, 200).Items
	if len(list) != 2 || list[0].Name != "chat" || list[0].State != api.IntegrationFails || list[0].Behind == 0 || list[0].Aside != 1 || list[1].State != api.IntegrationWorks || list[1].SuccessAt == nil {
		t.Errorf("%+v", list)
	}
	one := callJSON[api.Integration](h, "root", "GET", "/v1/integrations/chat", nil, 200)
	if len(one.SetAside) != 1 || one.SetAside[0] != (api.SetAside{Position: 2, Action: "request.create", Tries: 1, Error: "refused for good"}) {
		t.Errorf("%+v", one)
	}
	test := callJSON[api.IntegrationTest](h, "root", "POST", "/v1/integrations/chat/test", api.Empty{}, 200)
	events := callJSON[api.List[api.Event]](h, "carol", "GET", "/v1/audit/events?action=integration.test", nil, 200).Items
	if len(events) != 1 || events[0].Seq != test.Position || events[0].Object != "chat" || events[0].ActorName != "root" {
		t.Errorf("the test %+v, on record %+v", test, events)
	}
	if r := callJSON[api.IntegrationRetry](h, "root", "POST", "/v1/integrations/chat/retry", api.Empty{}, 200); r.Retried != 1 {
		t.Errorf("%+v", r)
	}
	if one := callJSON[api.Integration](h, "root", "GET", "/v1/integrations/chat", nil, 200); one.Aside != 0 || one.Late != 1 {
		t.Errorf("%+v", one)
	}
	for _, who := range []string{"alice", "bob", "carol", "eve"} {
		for _, c := range []struct{ method, path string }{
			{"GET", "/v1/integrations"}, {"GET", "/v1/integrations/chat"}, {"GET", "/v1/integrations/nothing"},
			{"POST", "/v1/integrations/chat/test"}, {"POST", "/v1/integrations/nothing/test"}, {"POST", "/v1/integrations/chat/retry"},
		} {
			var in any
			if c.method == "POST" {
				in = api.Empty{}
			}
			if p := callJSON[api.Problem](h, who, c.method, c.path, in, 403); p.Code != "DB-2103" {
				t.Errorf("%s, %s %s: %+v", who, c.method, c.path, p)
			}
		}
	}
	if p := callJSON[api.Problem](h, "root", "GET", "/v1/integrations/nothing", nil, 404); p.Code != "DB-6220" {
		t.Errorf("%+v", p)
	}
}

// The page sends a test, and says what became of it.
func TestIntegrationPages(t *testing.T) {
	h := newHouse(t)
	h.channels()
	page := func(who, path string) (int, string) {
		resp := h.do(httpCall{method: "GET", path: path, cookie: h.token(who)})
		return resp.StatusCode, text(resp)
	}
	post := func(who, name, what, site string) (int, string) {
		resp := h.do(httpCall{method: "POST", path: "/integrations/" + name, cookie: h.token(who), header: map[string]string{"Sec-Fetch-Site": site}, body: url.Values{"do": {what}}.Encode()})
		return resp.StatusCode, text(resp) + resp.Header.Get("Location")
	}
	if _, got := page("root", "/integrations"); !strings.Contains(got, `href="/integrations/chat"`) || !strings.Contains(got, "&lt;b&gt;busy") || !strings.Contains(got, "1 set aside") {
		t.Errorf("the list:\n%s", got)
	}
	status, to := post("root", "chat", "test", "same-origin")
	if status != 303 || !strings.HasPrefix(to, "/integrations/chat?test=") {
		t.Fatalf("%d %s", status, to)
	}
	for _, c := range []struct {
		want   string
		change func(*store.Channel)
		over   []store.Notice
	}{
		{"The test is on its way.", func(c *store.Channel) { c.Position = 1 }, nil},
		{"The test was taken by the other side.", nil, nil},
		{"The test was refused: no such hook", nil, []store.Notice{{Channel: "chat", Position: number(to), Action: "integration.test", State: store.NoticeAside, Error: "no such hook"}}},
	} {
		h.channel("chat", c.change, c.over...)
		if _, got := page("root", to); !strings.Contains(got, c.want) {
			t.Errorf("the page does not say %q:\n%s", c.want, got)
		}
	}
	for _, path := range []string{"/integrations/chat?test=-1", "/integrations/chat?test=x", "/integrations/chat?test=99999999999999999999"} {
		if status, got := page("root", path); status != 200 || strings.Contains(got, "The test") {
			t.Errorf("%s: %d\n%s", path, status, got)
		}
	}
	for _, c := range []struct {
		who, name, what, site string
		status                int
	}{
		{"root", "chat", "retry", "same-origin", 303}, {"root", "chat", "explode", "same-origin", 422}, {"root", "nothing", "test", "same-origin", 404},
		{"root", "chat", "test", "cross-site", 403}, {"alice", "chat", "test", "same-origin", 403}, {"eve", "chat", "retry", "same-origin", 403},
	} {
		if status, got := post(c.who, c.name, c.what, c.site); status != c.status {
			t.Errorf("%+v: %d\n%s", c, status, got)
		}
	}
	for _, path := range []string{"/integrations", "/integrations/chat"} {
		if status, _ := page("alice", path); status != 403 {
			t.Errorf("alice sees %s: %d", path, status)
		}
	}
}

// number is the number of the test in the address.
func number(address string) (n int64) {
	_, digits, _ := strings.Cut(address, "test=")
	for _, d := range digits {
		n = n*10 + int64(d-'0')
	}
	return n
}

// A press sends a test, and the page says when it was taken, without being loaded
// again; without scripts it does when it is.
func TestIntegrationsInABrowser(t *testing.T) {
	h := newHouse(t)
	h.channels()
	srv := httptest.NewTLSServer(h.server.Handler())
	defer srv.Close()
	for _, c := range []struct {
		name, scheme string
		scripts      bool
	}{{"light", "light", true}, {"dark", "dark", true}, {"without-scripts", "light", false}} {
		t.Run(c.name, func(t *testing.T) {
			h.channel("mail", nil)
			ctx := browser(t, c.scheme, c.scripts)
			signIn(t, ctx, srv.URL, "root", "/integrations")
			do(t, ctx, chromedp.WaitVisible(css(`a[href="/integrations/chat"]`)))
			look := func(file string) {
				picture(t, ctx, c.name+"-"+file)
				if w := width(t, ctx); w > 360 {
					t.Errorf("%s is %v wide", file, w)
				}
				if c.scripts {
					accessible(t, ctx, c.name+"-"+file)
				}
			}
			look("integrations")
			do(t, ctx, chromedp.Click(css(`a[href="/integrations/chat"]`)), chromedp.WaitVisible(css(`dl`)))
			look("integration-fails")
			do(t, ctx, chromedp.Navigate(srv.URL+"/integrations/mail"), chromedp.WaitVisible(css(`button[value=test]`)), chromedp.Click(css(`button[value=test]`)), chromedp.WaitVisible(css(`#live [role=status]`)))
			// The page is replaced as it goes, by the script.
			soon(t, ctx, `document.querySelector("#live [role=status]").textContent.includes("on its way")`)
			h.channel("mail", nil) // takes it
			if !c.scripts {
				at := get(t, ctx, chromedp.Location())
				do(t, ctx, chromedp.Navigate(at), chromedp.WaitVisible(css(`#live [role=status]`)))
			}
			soon(t, ctx, `document.querySelector("#live [role=status]").textContent.includes("was taken")`)
			look("integration-taken")
		})
	}
}
