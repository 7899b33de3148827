package web

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

// become makes the browser that of somebody who is signed in.
func (h *house) become(ctx context.Context, server, who string) {
	h.t.Helper()
	secure := true
	if _, err := chromedp.Call(ctx, network.SetCookie, network.SetCookieParams{Name: cookieName, Value: h.token(who), URL: server, Path: "/", Secure: &secure}); err != nil {
		h.t.Fatal(err)
	}
}

func visit(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	do(t, ctx, chromedp.Navigate(url), chromedp.WaitVisible(css(`h1`)))
}

// soon waits until an expression is true in the page, or in the one that it leads to.
func soon(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`(() => { try { return !!(`+expression+`); } catch { return false; } })()`))
		if err == nil && is {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never true: %s (%v)\nat %s the focus is on %s, and it says:\n%s", expression, err,
				eval[string](t, ctx, `location.href`), eval[string](t, ctx, `document.activeElement.outerHTML.slice(0, 300)`), eval[string](t, ctx, `document.body.innerText`))
		}
	}
}

// scheme changes what the browser says its person prefers.
func scheme(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}}); err != nil {
		t.Fatal(err)
	}
}

const hostileText = `</title><script>window.hit=1</script><img src=x onerror="window.hit=1">" onmouseover="window.hit=1' javascript:window.hit=1`

// busyHouse has something on every page, some of it written by somebody hostile.
func busyHouse(t *testing.T) (*house, *httptest.Server, map[string]string) {
	h := newHouse(t, func(c *Config) {
		c.MayFilm = func() bool { return true }
		c.System = func(context.Context) ui.System {
			return ui.System{
				Version: "1.2.3", Node: "gw-1", Since: time.Now().Add(-time.Hour), Certificates: []ui.Certificate{{Name: "TLS certificate", Ends: time.Now().Add(90 * 24 * time.Hour)}},
				Findings: []ui.Finding{{Check: "database", State: "ok", Text: "answers in 1ms"}, {Check: "tls", State: "warning", Text: "ends soon", Next: "renew it"}, {Check: "disk", State: "error", Text: hostileText}},
				Settings: []ui.Setting{{Name: "server.name", Value: "gw-1"}, {Name: "server.external_url", Value: "https://gw.example.com/" + strings.Repeat("long", 30)}, {Name: "vault.master_key"}},
			}
		}
	})
	h.server.eventsPause = time.Millisecond
	ctx := t.Context()
	admin := must(h.broker.FindRole(ctx, h.by("root"), "administrator"))
	admin.Rules[0].Actions = append(admin.Rules[0].Actions, "system.read", "account.read", "account.discover", "account.adopt")
	must(h.broker.SetRole(ctx, h.by("root"), admin))
	must(h.broker.AddTarget(ctx, h.by("root"), access.Target{
		Name: "web-01", Address: "192.0.2.77:22", Labels: access.Labels{Environment: "staging", Tier: "1", Owner: "shop team", Criticality: "high"}, Applications: []string{"shop", "checkout"},
		Accounts: []access.Account{{Name: "root", Credential: access.CredentialCertificate}, {Name: "deploy", Credential: access.CredentialCertificate}},
	}))
	if err := h.broker.LockUser(ctx, h.by("root"), "eve", true, hostileText); err != nil {
		t.Fatal(err)
	}
	must(h.broker.AddUser(ctx, h.by("root"), access.User{Name: "ci-deploy", Display: hostileText[:60], Groups: []string{"engineers"}, Bot: true}))
	past := h.record("echo '"+hostileText+"'", "x\r\n")
	granted := h.ask("INC-1234 replication lag on the primary")
	must(h.broker.Approve(ctx, h.by("bob"), granted.ID, granted.Digest, broker.Answer{Comment: "read only please " + hostileText}))
	short := must(h.broker.Request(ctx, h.by("alice"), broker.Ask{Target: "db02", Account: "guest", Reason: "CHG-77 release", Duration: 4 * time.Minute}))
	l := must(h.broker.Open(ctx, h.by("alice"), short.Grant.ID, broker.Opening{Kind: "shell", Client: "SSH-2.0-OpenSSH_9.9"}))
	if err := h.broker.Started(ctx, l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.broker.Close(context.WithoutCancel(ctx), l, broker.Closing{Reason: "exited"}) })
	waiting := callJSON[api.Request](h, "alice", "POST", "/v1/requests", api.RequestInput{Target: "db02", Account: "root", DurationSeconds: 3600, Reason: hostileText}, 200)
	must(h.broker.Ask(ctx, h.by("bob"), waiting.ID, hostileText))
	must(h.broker.Ask(ctx, h.by("dave"), waiting.ID, "is the replica not enough?"))
	must(h.broker.Answer(ctx, h.by("alice"), waiting.ID, 1, "no "+hostileText))
	must(h.broker.HandOver(ctx, h.by("dave"), waiting.ID, "bob", hostileText))
	for _, rule := range []string{"alert mysqldump", "alert " + hostileText} {
		if err := h.broker.Detected(ctx, l, broker.Detection{Level: access.DetectAlert, Rule: rule, Command: hostileText, Sent: true}); err != nil {
			t.Fatal(err)
		}
	}
	h.watchers()
	if err := h.broker.Expected(ctx, h.by("carol"), l.Session.ID, 2, hostileText); err != nil {
		t.Fatal(err)
	}
	found := h.scanned("web-01", hostileText)
	srv := h.serve()
	return h, srv, map[string]string{"found": found, "granted": granted.ID, "waiting": waiting.ID, "past": past.RequestID, "session": past.ID, "live": l.Session.ID, "short": short.Request.ID}
}

// TestEveryPage opens each page in both themes, narrow and wide: it fits, axe finds
// nothing, and nothing that somebody wrote runs.
func TestEveryPage(t *testing.T) {
	h, srv, is := busyHouse(t)
	ctx := browser(t, "light", true)
	for _, p := range []struct{ name, who, path string }{
		{"home", "alice", "/"}, {"home-empty", "dave", "/"}, {"ask", "alice", "/ask?target=db01&account=root"},
		{"targets", "alice", "/targets"}, {"targets-admin", "root", "/targets?environment=staging"}, {"targets-none", "root", "/targets?q=nowhere"},
		{"target", "alice", "/targets/db02?account=root&reason=INC-5"}, {"target-admin", "root", "/targets/web-01"},
		{"requests", "carol", "/requests"}, {"requests-mine", "alice", "/requests?show=mine&state=pending"}, {"requests-empty", "root", "/requests?show=review"},
		{"inbox", "bob", "/inbox"}, {"inbox-empty", "alice", "/inbox"}, {"request-decide", "bob", "/r/" + is["waiting"]}, {"request-granted", "carol", "/r/" + is["granted"]}, {"request-own", "alice", "/r/" + is["short"]},
		{"session", "carol", "/sessions/" + is["session"]}, {"session-alarms", "carol", "/sessions/" + is["live"]}, {"request-asked", "alice", "/r/" + is["waiting"]}, {"sessions", "carol", "/sessions"},
		{"away", "bob", "/away"}, {"request-edit", "alice", "/r/" + is["waiting"]}, {"audit", "carol", "/audit"}, {"audit-narrowed", "carol", "/audit?action=request.*&who=alice"}, {"audit-none", "carol", "/audit?target=nowhere&since=2020-01-01T00:00"},
		{"people", "root", "/people"}, {"people-group", "root", "/people?group=engineers"}, {"groups", "root", "/groups"}, {"person", "root", "/people/alice"}, {"person-locked", "root", "/people/eve"},
		{"accounts", "root", "/accounts"}, {"accounts-none", "root", "/accounts?class=orphaned"}, {"account", "root", "/accounts/" + is["found"]}, {"account-manage", "root", "/accounts/manage?account=" + is["found"]}, {"posture", "root", "/targets/web-01/posture"},
		{"policies", "root", "/policies"}, {"settings", "root", "/settings"}, {"problem", "alice", "/people"},
	} {
		t.Run(p.name, func(t *testing.T) {
			h.become(ctx, srv.URL, p.who)
			for _, look := range []struct {
				name          string
				width, height int64
				theme         string
				only          bool // for who looks at the pictures
			}{{"phone-light", 320, 640, "light", false}, {"wide-dark", 1280, 900, "dark", false}, {"phone-dark", 320, 640, "dark", true}, {"wide-light", 1280, 900, "light", true}} {
				if look.only && os.Getenv("SCREENSHOTS") == "" {
					continue
				}
				do(t, ctx, chromedp.EmulateViewport(look.width, look.height))
				scheme(t, ctx, look.theme)
				visit(t, ctx, srv.URL+p.path)
				where := p.name + "-" + look.name
				picture(t, ctx, where)
				if w := width(t, ctx); w > float64(look.width) {
					t.Errorf("%s is %v wide", where, w)
				}
				if !look.only {
					accessible(t, ctx, where)
				}
				if eval[bool](t, ctx, `window.hit !== undefined`) {
					t.Errorf("%s runs what somebody wrote", where)
				}
			}
		})
	}
}

// TestKeysAlone does an approver's and a requester's work without a mouse.
func TestKeysAlone(t *testing.T) {
	h, srv, is := busyHouse(t)
	second := must(h.broker.Request(t.Context(), h.by("alice"), broker.Ask{Target: "db01", Account: "root", Reason: "INC-8 another", Duration: time.Hour, Start: time.Now().Add(time.Hour)}))
	ctx := browser(t, "light", true)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	h.become(ctx, srv.URL, "bob")
	visit(t, ctx, srv.URL+"/")

	press(t, ctx, "g", "i")
	soon(t, ctx, `location.pathname === "/inbox" && document.readyState === "complete"`)
	press(t, ctx, "j")
	soon(t, ctx, `document.activeElement.closest("[data-row]")?.dataset.row === "`+second.Request.ID+`"`)
	press(t, ctx, "j")
	soon(t, ctx, `document.activeElement.closest("[data-row]")?.dataset.row === "`+is["waiting"]+`"`)
	press(t, ctx, "k", "x")
	soon(t, ctx, `!document.querySelector("[data-bar]").hidden && document.querySelector("button[value=deny] [data-count]").textContent === "1"`)
	picture(t, ctx, "keys-picked")
	accessible(t, ctx, "picked")
	press(t, ctx, "d")
	soon(t, ctx, `document.activeElement.value === "deny" || document.activeElement.closest("[data-row]")`)
	// Out of the rows, the same key leads to the bar.
	do(t, ctx, chromedp.Focus(css(`.pick-bar input[name=note]`)))
	press(t, ctx, "a", "d", "j") // are typed
	soon(t, ctx, `document.querySelector(".pick-bar input[name=note]").value === "adj"`)
	press(t, ctx, kb.Escape)
	do(t, ctx, chromedp.Focus(css(`.pick-bar button[value=deny]`)))
	press(t, ctx, kb.Enter)
	soon(t, ctx, `document.querySelectorAll("[data-row]").length === 1 && document.readyState === "complete"`)
	if got := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+second.Request.ID, nil, 200); got.State != api.Denied || got.Note != "adj" {
		t.Errorf("denied by keys: %+v", got)
	}

	// Open it, go to approving, and press the button.
	press(t, ctx, "j", "o")
	soon(t, ctx, `location.pathname === "/r/`+is["waiting"]+`" && document.readyState === "complete"`)
	press(t, ctx, "a")
	soon(t, ctx, `document.activeElement.value === "approve"`)
	press(t, ctx, kb.Enter)
	soon(t, ctx, `document.body.textContent.includes("Approved by bob")`)

	// The palette.
	h.become(ctx, srv.URL, "root")
	visit(t, ctx, srv.URL+"/")
	do(t, ctx, chromedp.KeyEvent("k", chromedp.KeyModifiers(2)))
	soon(t, ctx, `document.querySelector("dialog[open] input") === document.activeElement`)
	picture(t, ctx, "palette-pages")
	do(t, ctx, chromedp.KeyEvent("alic"))
	soon(t, ctx, `document.querySelector("[data-url='/people/alice']")`)
	accessible(t, ctx, "palette")
	picture(t, ctx, "palette-found")
	press(t, ctx, kb.ArrowDown, kb.ArrowUp, kb.Escape)
	soon(t, ctx, `!document.querySelector("dialog")`)
	do(t, ctx, chromedp.KeyEvent("k", chromedp.KeyModifiers(2)), chromedp.KeyEvent("web-01"))
	soon(t, ctx, `document.querySelector("[aria-selected=true]")?.dataset.url === "/targets/web-01"`)
	press(t, ctx, kb.Enter)
	soon(t, ctx, `location.pathname === "/targets/web-01" && document.readyState === "complete"`)

	// Single keys can be switched off, in this browser.
	press(t, ctx, "?")
	soon(t, ctx, `document.querySelector("dialog[open] h2")?.textContent === "Keys"`)
	picture(t, ctx, "keys-help")
	accessible(t, ctx, "the list of keys")
	do(t, ctx, chromedp.Focus(css(`dialog input[type=checkbox]`)))
	press(t, ctx, " ", kb.Escape)
	press(t, ctx, "c", "g", "s", "?")
	time.Sleep(300 * time.Millisecond) // nothing is to happen
	if got := eval[string](t, ctx, `location.pathname + !!document.querySelector("dialog")`); got != "/targets/web-01false" {
		t.Errorf("with single keys off they led to %s", got)
	}
	visit(t, ctx, srv.URL+"/targets")
	press(t, ctx, "/")
	time.Sleep(300 * time.Millisecond)
	if eval[bool](t, ctx, `document.activeElement.matches("[data-search]")`) {
		t.Error("with single keys off / still leads to the search")
	}
}

// TestPagesFollow: what others do is seen without a reload, what is being typed
// stays, who comes second reads who was first, and a stream that is lost is told.
func TestPagesFollow(t *testing.T) {
	h, srv, is := busyHouse(t)
	h.server.eventsAlive = 200 * time.Millisecond
	ctx := browser(t, "light", true)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	h.become(ctx, srv.URL, "bob")
	visit(t, ctx, srv.URL+"/inbox")
	soon(t, ctx, `document.querySelectorAll("[data-row]").length === 1`)
	gone := must(h.broker.Request(t.Context(), h.by("alice"), broker.Ask{Target: "web-01", Account: "root", Reason: "INC-98 goes again"})).Request
	soon(t, ctx, `document.querySelector("[data-row='`+gone.ID+`']")`)
	must(h.broker.Cancel(t.Context(), h.by("alice"), gone.ID))
	soon(t, ctx, `document.querySelectorAll("[data-row]").length === 1 && document.querySelector("[data-bar]").hidden`)
	do(t, ctx, chromedp.Click(css(`input[name=vote]`)), chromedp.SendKeys(css(`.pick-bar input[name=note]`), "half a sen"))
	r := must(h.broker.Request(t.Context(), h.by("alice"), broker.Ask{Target: "web-01", Account: "root", Reason: "INC-99 comes while bob types"})).Request
	soon(t, ctx, `document.querySelector("[data-row='`+r.ID+`']")?.classList.contains("flash")`)
	if got := eval[string](t, ctx, `document.querySelector(".pick-bar input[name=note]").value + document.querySelectorAll("input[name=vote]:checked").length + document.activeElement.name`); got != "half a sen1note" {
		t.Errorf("after the change the form has %q", got)
	}
	if got := eval[string](t, ctx, `document.getElementById("told").textContent`); got == "" {
		t.Error("the change is not announced")
	}
	picture(t, ctx, "follow-flash")

	// Two decide at once: the second one reads who was first.
	visit(t, ctx, srv.URL+"/r/"+is["waiting"])
	do(t, ctx, chromedp.Evaluate[chromedp.Void](`window.before = true, localStorage.setItem("live", "off"), location.reload()`))
	soon(t, ctx, `!window.before && document.readyState === "complete" && document.querySelector("button[value=approve]")`)
	d := callJSON[api.Request](h, "dave", "GET", "/v1/requests/"+is["waiting"], nil, 200)
	must(h.broker.Approve(t.Context(), h.by("dave"), d.ID, d.Digest, broker.Answer{}))
	do(t, ctx, chromedp.Click(css(`button[value=approve]`)), chromedp.WaitVisible(css(`[role=alert]`)))
	if got := get(t, ctx, chromedp.Text(css(`[role=alert]`))); !strings.Contains(got, "already approved by dave; nothing changed") {
		t.Errorf("the second reads %q", got)
	}
	picture(t, ctx, "follow-second")
	do(t, ctx, chromedp.Evaluate[chromedp.Void](`localStorage.removeItem("live")`))

	// A stream that is lost is said to be.
	visit(t, ctx, srv.URL+"/")
	soon(t, ctx, `document.getElementById("stale").hidden`)
	srv.Listener.Close()
	srv.CloseClientConnections()
	soon(t, ctx, `!document.getElementById("stale").hidden`)
	picture(t, ctx, "follow-stale")
	accessible(t, ctx, "stale")
}

// TestPagesWithoutScripts asks, finds and decides with forms and links alone.
func TestPagesWithoutScripts(t *testing.T) {
	h, srv, is := busyHouse(t)
	ctx := browser(t, "dark", false)
	h.become(ctx, srv.URL, "alice")
	visit(t, ctx, srv.URL+"/targets?q=db01")
	do(t, ctx, chromedp.Click(css(`main li a`)), chromedp.WaitVisible(css(`#ask`)),
		chromedp.SetValue(css(`select[name=account]`), "root"), chromedp.SendKeys(css(`input[name=reason]`), "INC-42 by hand"), chromedp.Click(css(`main form button`)),
		chromedp.WaitVisible(css(`#request`)))
	h.become(ctx, srv.URL, "bob")
	visit(t, ctx, srv.URL+"/inbox")
	picture(t, ctx, "no-scripts-inbox")
	do(t, ctx, chromedp.Click(css(`[data-row='`+is["waiting"]+`'] input[name=vote]`)), chromedp.SendKeys(css(`input[name=note]`), "use the replica"), chromedp.Click(css(`.pick-bar button[value=deny]`)),
		chromedp.WaitNotPresent(css(`[data-row='`+is["waiting"]+`']`)))
	if got := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+is["waiting"], nil, 200); got.State != api.Denied || got.DecidedBy != "bob" {
		t.Errorf("without scripts: %+v", got)
	}
}

// TestInboxForm decides several at once: each by its own digest, none by another's,
// and what is refused keeps nothing else from being decided.
func TestInboxForm(t *testing.T) {
	h := newHouse(t)
	same := map[string]string{"Sec-Fetch-Site": "same-origin"}
	var ids, votes []string
	for i := range 3 {
		r := h.ask(fmt.Sprintf("INC-%d x", i+1))
		ids, votes = append(ids, r.ID), append(votes, "vote="+r.ID+"+"+r.Digest)
	}
	stale := "vote=" + ids[0] + "+" + strings.Repeat("0", 64)
	post := func(who, body string) (int, string) {
		resp := h.do(httpCall{method: "POST", path: "/inbox", cookie: h.token(who), header: same, body: body})
		return resp.StatusCode, text(resp)
	}
	for _, c := range []struct {
		who, body string
		status    int
		want      string
	}{
		{"bob", "action=approve", 422, "pick at least one"},
		{"bob", "action=approve&" + strings.Repeat(votes[0]+"&", 51), 422, "at most 50"},
		{"bob", "action=burn&" + votes[0], 422, "no such decision"},
		{"bob", "action=deny&" + votes[0], 422, "a reason is needed"},
		{"bob", "action=approve&" + stale, 409, "not what you were shown"},
		{"bob", "action=approve&vote=" + ids[0] + "+" + strings.Split(votes[1], "+")[1], 409, "not what you were shown"},
		{"alice", "action=approve&" + votes[0], 403, "DB-"},
		{"eve", "action=approve&" + votes[0], 404, "DB-2102"},
		{"bob", "action=approve&note=ok&" + stale + "&" + votes[1], 409, "not what you were shown"},
		{"bob", "action=approve&" + votes[1], 409, "already approved by bob"},
		{"bob", "action=deny&note=no&" + votes[0] + "&" + votes[2], 303, ""},
	} {
		if status, body := post(c.who, c.body); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %.80s: %d, want %d %s\n%s", c.who, c.body, status, c.status, c.want, body)
		}
	}
	for i, want := range []string{api.Denied, api.Approved, api.Denied} {
		r := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+ids[i], nil, 200)
		if r.State != want || i == 1 && r.Grant.DurationSeconds != 3600 {
			t.Errorf("request %d is %s", i, r.State)
		}
	}
}

// TestPersonForm changes people by policy, from the version that was shown, and
// nobody themselves.
func TestPersonForm(t *testing.T) {
	h := newHouse(t)
	same := map[string]string{"Sec-Fetch-Site": "same-origin"}
	dave := must(h.broker.FindUser(t.Context(), h.by("root"), "dave"))
	at := fmt.Sprintf("version=%d&", dave.Version)
	for _, c := range []struct {
		who, whom, body string
		status          int
		want            string
	}{
		{"alice", "dave", "action=set&groups=engineers&" + at, 403, "DB-"},
		{"bob", "bob", "action=set&groups=administrators&" + at, 403, "DB-"},
		{"root", "root", "action=set&groups=administrators+approvers&" + at, 403, "DB-2011"},
		{"root", "dave", "action=set&groups=approvers&version=0", 409, "DB-3012"},
		{"root", "dave", "action=set&groups=%3Cscript%3E&" + at, 422, "group name"},
		{"root", "dave", "action=set&display=Dave+D&groups=approvers++oncall&" + at, 303, ""},
		{"root", "dave", "action=set&display=Dave&groups=approvers&" + at, 409, "DB-3012"}, // of what he was before
		{"root", "nobody", "action=set&groups=x&" + at, 404, "DB-2105"},
		{"root", "dave", "action=lock&reason=", 422, "reason"},
		{"root", "dave", "action=lock&reason=INC-5+lost+laptop", 303, ""},
		{"root", "dave", "action=unlock", 303, ""},
		{"root", "dave", "action=promote", 422, "DB-"},
	} {
		resp := h.do(httpCall{method: "POST", path: "/people/" + c.whom, cookie: h.token(c.who), header: same, body: c.body})
		if body := text(resp); resp.StatusCode != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s changes %s by %s: %d, want %d %s\n%s", c.who, c.whom, c.body, resp.StatusCode, c.status, c.want, body)
		}
	}
	got := must(h.broker.FindUser(t.Context(), h.by("root"), "dave"))
	if got.Display != "Dave D" || strings.Join(got.Groups, " ") != "approvers oncall" || got.Locked {
		t.Errorf("dave is %+v", got)
	}
	for path, who := range map[string]string{"/people": "alice", "/people/bob": "alice", "/groups": "bob", "/settings": "bob"} {
		if resp := h.do(httpCall{method: "GET", path: path, cookie: h.token(who)}); resp.StatusCode != 403 {
			t.Errorf("%s as %s: %d", path, who, resp.StatusCode)
		}
	}
}

// TestLookAgain: who has seen a page is not sent it again, until something of it,
// or of what its person may see of it, is another.
func TestLookAgain(t *testing.T) {
	h := newHouse(t)
	r := h.ask("INC-1 x")
	look := func(who, path, tag string) (int, string) {
		resp := h.do(httpCall{method: "GET", path: path, cookie: h.token(who), header: map[string]string{"If-None-Match": tag}})
		return resp.StatusCode, resp.Header.Get("ETag")
	}
	for _, path := range []string{"/", "/inbox", "/requests", "/r/" + r.ID} {
		_, tag := look("bob", path, "")
		if status, _ := look("bob", path, tag); status != 304 || tag == "" {
			t.Errorf("%s again: %d %q", path, status, tag)
		}
	}
	_, tag := look("bob", "/r/"+r.ID, "")
	if status, _ := look("alice", "/r/"+r.ID, tag); status != 200 {
		t.Errorf("with another's tag: %d", status)
	}
	must(h.broker.Approve(t.Context(), h.by("dave"), r.ID, r.Digest, broker.Answer{}))
	if status, _ := look("bob", "/r/"+r.ID, tag); status != 200 {
		t.Errorf("after a vote: %d", status)
	}
	if status, _ := look("eve", "/r/"+r.ID, tag); status != 404 {
		t.Errorf("as eve: %d", status)
	}
}

// TestFormsOfOtherSites: no form of a page does anything when another site sends it.
func TestFormsOfOtherSites(t *testing.T) {
	h := newHouse(t)
	r := h.ask("INC-1 x")
	for _, rt := range h.server.table {
		if rt.page == nil || rt.method != "POST" {
			continue
		}
		path := strings.ReplaceAll(rt.example(), "REQ-0000000000000000", r.ID)
		for _, header := range []map[string]string{
			{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site", "Origin": "https://evil.example.com"}, {"Origin": "null"}, {},
		} {
			if len(header) == 0 && rt.auth != login {
				continue // without a cookie there is nobody's right to borrow
			}
			resp := h.do(httpCall{method: "POST", path: path, cookie: h.token("bob"), header: header, body: "action=approve&seconds=3600&digest=" + r.Digest + "&vote=" + r.ID + "+" + r.Digest})
			if resp.StatusCode != 403 {
				t.Errorf("%s %v: %d", rt.pattern(), header, resp.StatusCode)
			}
		}
	}
	if got := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200); got.State != api.Pending {
		t.Errorf("the request is %s", got.State)
	}
}

// TestFilmIsOffered where it can be made, and its address says so where it cannot.
func TestFilmIsOffered(t *testing.T) {
	works := true
	h := newHouse(t, func(c *Config) { c.MayFilm = func() bool { return works } })
	x := h.record("uptime", "up\r\n")
	for _, works = range []bool{true, false} {
		page := text(h.do(httpCall{method: "GET", path: "/sessions/" + x.ID, cookie: h.token("carol")}))
		if strings.Contains(page, "/sessions/"+x.ID+"/video") != works {
			t.Errorf("with an encoder %v the page is\n%s", works, page)
		}
	}
	resp := h.do(httpCall{method: "GET", path: "/sessions/" + x.ID + "/video", cookie: h.token("carol")})
	if body := text(resp); resp.StatusCode != 503 || !strings.Contains(body, "DB-6120") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp := h.do(httpCall{method: "GET", path: "/sessions/" + x.ID + "/video", cookie: h.token("eve")}); resp.StatusCode != 404 {
		t.Errorf("as eve: %d", resp.StatusCode)
	}
}
