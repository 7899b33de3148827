package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"

	"net/http/httptest"
	"net/netip"

	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/broker/identity/mfa/mfatest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/web/api"
)

const gateway = "https://gw.example.com"

// byName has the browser find the server under the name of its external address,
// without which there are no passkeys.
func byName(srv *httptest.Server) chromedp.ExecAllocatorOption {
	return chromedp.Flag("host-resolver-rules", "MAP gw.example.com:443 "+strings.TrimPrefix(srv.URL, "https://"))
}

// authenticator puts one into the browser, which recognises whoever is there.
func authenticator(t *testing.T, ctx context.Context) {
	t.Helper()
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	_, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})
	if err != nil {
		t.Fatal(err)
	}
}

// cookieOf signs somebody in so long ago that no second factor is fresh.
func (h *house) cookieOf(name string, ago time.Duration) string {
	h.t.Helper()
	token, _, err := h.logins.Issue(h.t.Context(), h.people[name], netip.MustParseAddr("192.0.2.1"), "web", time.Now().Add(-ago))
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// wantFactor changes the role of the approvers: a vote needs a second factor of the
// last half hour.
func (h *house) wantFactor() {
	h.t.Helper()
	r := must(h.broker.FindRole(h.t.Context(), h.by("root"), "responder"))
	r.Rules = []access.Rule{
		{ID: "vote", Actions: []string{"approve", "deny"}, MFAWithin: 30 * time.Minute},
		{ID: "respond", Actions: []string{"request.read", "revoke"}},
	}
	must(h.broker.SetRole(h.t.Context(), h.by("root"), r))
}

func (h *house) events(action string) (list []audit.Event) {
	h.t.Helper()
	for _, e := range callJSON[api.List[api.Event]](h, "carol", "GET", "/v1/audit/events?limit=200&newest=true", nil, 200).Items {
		if e.Action == action {
			list = append(list, audit.Event{Actor: e.Actor, Object: e.Object, Reason: e.Reason, Details: e.Details, Outcome: audit.Outcome(e.Outcome)})
		}
	}
	return list
}

// TestPasskeyInBrowser adds a passkey, signs in with it, and approves by it, on a
// phone, in both themes.
func TestPasskeyInBrowser(t *testing.T) {
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			h := newHouse(t)
			h.wantFactor()
			ctx := browser(t, scheme, true, byName(h.serve()))
			authenticator(t, ctx)

			signIn(t, ctx, gateway, "bob", "/me/factors")
			picture(t, ctx, scheme+"-passkey-1-none")
			accessible(t, ctx, "no passkeys")
			do(t, ctx,
				chromedp.SendKeys(css(`input[name=name]`), "Bob’s phone"),
				chromedp.Click(css(`button[data-passkey=add]`)),
				chromedp.WaitVisible(css(`button[value=remove]`)))
			picture(t, ctx, scheme+"-passkey-2-added")
			accessible(t, ctx, "one passkey")
			if w := width(t, ctx); w > 360 {
				t.Errorf("the page is %v wide", w)
			}
			if list := callJSON[api.List[api.Passkey]](h, "bob", "GET", "/v1/me/passkeys", nil, 200); len(list.Items) != 1 || list.Items[0].Name != "Bob’s phone" || list.Items[0].Synced {
				t.Fatalf("passkeys: %+v", list)
			}
			// The same device has one already, and says so.
			do(t, ctx,
				chromedp.SendKeys(css(`input[name=name]`), "again"),
				chromedp.Click(css(`button[data-passkey=add]`)),
				chromedp.Poll[chromedp.Void](`document.querySelector("form [data-said]").textContent.includes("already")`))
			picture(t, ctx, scheme+"-passkey-3-again")
			accessible(t, ctx, "a passkey again")

			// Alone it signs in.
			do(t, ctx, chromedp.Evaluate[chromedp.Void](`document.querySelector("form[action='/logout']").submit()`),
				chromedp.WaitVisible(css(`button[data-passkey=sign-in]`)))
			picture(t, ctx, scheme+"-passkey-4-login")
			accessible(t, ctx, "sign in")
			do(t, ctx, chromedp.Navigate(gateway+"/login?next=/me/factors"), chromedp.WaitVisible(css(`button[data-passkey=sign-in]`)),
				chromedp.Click(css(`button[data-passkey=sign-in]`)), chromedp.WaitVisible(css(`button[value=remove]`)))
			// The last second factor of one whose role needs it stays.
			do(t, ctx, chromedp.Click(css(`button[value=remove]`)), chromedp.WaitVisible(css(`[role=alert].alert`)))
			if shown := get(t, ctx, chromedp.Text(css(`[role=alert].alert`))); !strings.Contains(shown, "role responder needs a second factor") || !strings.Contains(shown, "DB-6308") {
				t.Errorf("removing the last one: %s", shown)
			}

			// Of a login that is old, a vote asks for the passkey, over what is shown.
			if _, err := chromedp.Call(ctx, network.SetCookie, network.SetCookieParams{
				Name: cookieName, Value: h.cookieOf("bob", time.Hour), URL: gateway, Path: "/", Secure: new(true), HTTPOnly: new(true),
			}); err != nil {
				t.Fatal(err)
			}
			r := h.ask("INC-1234 replication lag on the primary, need to look at the replication slots")
			do(t, ctx, chromedp.Navigate(gateway+"/r/"+r.ID), chromedp.WaitVisible(css(`button[value=approve][data-passkey=vote]`)))
			picture(t, ctx, scheme+"-passkey-5-request")
			accessible(t, ctx, "a vote by passkey")
			if bottom := get(t, ctx, chromedp.Evaluate[float64](`document.querySelector("button[value=approve]").getBoundingClientRect().bottom`)); bottom > 640 {
				t.Errorf("the request does not fit one screen: the button ends at %v", bottom)
			}
			if size := get(t, ctx, chromedp.Evaluate[float64](`performance.getEntries().reduce((n, e) => n + (e.encodedBodySize || 0), 0)`)); size > 30_000 {
				t.Errorf("the page and its files have %v bytes", size)
			}
			do(t, ctx, chromedp.Click(css(`button[value=approve][data-passkey=vote]`)), chromedp.WaitNotPresent(css(`button[value=approve]`)), chromedp.WaitVisible(css(`#request ol`)))
			if got := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200); got.State != api.Approved || got.DecidedBy != "bob" {
				t.Fatalf("the request is %s", got.State)
			}
			uses := h.events("user.passkey.use")
			last := uses[len(uses)-1].Details
			if last["purpose"] != "vote" || last["digest"] != r.Digest || last["signature"] == "" || last["client_data"] == "" || last["authenticator_data"] == "" {
				t.Errorf("the event of the vote: %+v", last)
			}
			// It was a factor for that vote only.
			next := must(h.broker.Request(t.Context(), h.by("alice"), broker.Ask{Target: "db02", Account: "root", Reason: "INC-2 another one"}))
			do(t, ctx, chromedp.Navigate(gateway+"/r/"+next.Request.ID), chromedp.WaitVisible(css(`button[value=deny][data-passkey=vote]`)))
			// By a passkey it is denied, too.
			do(t, ctx, chromedp.SendKeys(css(`#decide input[name=note]`), "use the replica"), chromedp.Click(css(`button[value=deny][data-passkey=vote]`)),
				chromedp.WaitNotPresent(css(`button[value=deny]`)), chromedp.WaitVisible(css(`#request ol`)))
			if got := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+next.Request.ID, nil, 200); got.State != api.Denied || got.DecidedBy != "bob" || got.Note != "use the replica" {
				t.Fatalf("the request is %s", got.State)
			}
			next = must(h.broker.Request(t.Context(), h.by("alice"), broker.Ask{Target: "db02", Account: "root", Reason: "INC-3 a third one"}))
			do(t, ctx, chromedp.Navigate(gateway+"/r/"+next.Request.ID), chromedp.WaitVisible(css(`button[value=approve][data-passkey=vote]`)))

			// Somebody has a copy, and has signed with it more often than the phone has.
			kept := must(h.local.Passkeys(t.Context(), h.people["bob"].ID))
			copied := local.PasskeyUse{ID: kept[0].ID, Purpose: local.SignIn, At: time.Now()}
			copied.Count = 1000
			if err := h.db.Identities().UsePasskey(t.Context(), h.by("bob"), copied); err != nil {
				t.Fatal(err)
			}
			do(t, ctx, chromedp.Click(css(`button[value=approve][data-passkey=vote]`)), chromedp.WaitVisible(css(`[role=alert].alert`)))
			picture(t, ctx, scheme+"-passkey-6-copied")
			accessible(t, ctx, "a copy")
			if shown := get(t, ctx, chromedp.Text(css(`[role=alert].alert`))); !strings.Contains(shown, "somebody may have a copy") || !strings.Contains(shown, "DB-6305") {
				t.Errorf("a copy: %s", shown)
			}
			if n := len(h.events("user.passkey.copied")); n != 1 {
				t.Errorf("%d events of a copy, want 1", n)
			}
			do(t, ctx, chromedp.Navigate(gateway+"/me/factors"), chromedp.WaitVisible(css(`button[value=remove]`)))
			picture(t, ctx, scheme+"-passkey-7-blocked")
			accessible(t, ctx, "a blocked passkey")
		})
	}
}

// enrolled gives somebody a passkey, and returns it with a cookie of an old login.
func (h *house) enrolled(name string) (*mfatest.Passkey, string) {
	h.t.Helper()
	cookie := h.cookieOf(name, time.Hour)
	p := mfatest.New("gw.example.com", gateway, h.people[name].ID)
	prompt := h.prompt(cookie, api.PasskeyAsk{For: api.PasskeyAdd})
	resp := h.form(cookie, "/me/factors", url.Values{"action": {"add"}, "name": {"key"}, "passkey": {string(p.Made(prompt))}})
	if resp.StatusCode != http.StatusSeeOther {
		h.t.Fatalf("add a passkey of %s: %d\n%s", name, resp.StatusCode, text(resp))
	}
	p.Count = 2
	return p, h.cookieOf(name, time.Hour)
}

// prompt asks for a challenge, as the script of a page does.
func (h *house) prompt(cookie string, in api.PasskeyAsk) []byte {
	h.t.Helper()
	c := httpCall{method: "POST", path: "/v1/me/passkeys/prompt", cookie: cookie, body: string(must(json.Marshal(in))), header: map[string]string{"Origin": gateway}}
	if cookie == "" {
		c.path, c.body = "/v1/login/passkey", "{}"
	}
	resp := h.do(c)
	body := text(resp)
	if resp.StatusCode != http.StatusOK {
		h.t.Fatalf("prompt: %d\n%s", resp.StatusCode, body)
	}
	var out api.PasskeyPrompt
	if err := json.Unmarshal([]byte(body), &out); err != nil || out.RelyingParty != "gw.example.com" || out.TimeoutSeconds != 300 {
		h.t.Fatalf("prompt: %+v, %v", out, err)
	}
	return must(base64.RawURLEncoding.DecodeString(out.Challenge))
}

// form sends a form of a page.
func (h *house) form(cookie, path string, fields url.Values) *http.Response {
	h.t.Helper()
	return h.do(httpCall{method: "POST", path: path, cookie: cookie, body: fields.Encode(), header: map[string]string{"Origin": gateway}})
}

// TestPasskeyVoteForged votes with what is not a passkey's answer to what was shown.
func TestPasskeyVoteForged(t *testing.T) {
	h := newHouse(t)
	h.wantFactor()
	bobs, bob := h.enrolled("bob")
	daves, dave := h.enrolled("dave")
	a, b := h.ask("INC-1 the one that is shown"), must(h.broker.Request(t.Context(), h.by("alice"), broker.Ask{Target: "db02", Account: "root", Reason: "INC-2 the one that is meant"}))
	digestB := b.Request.Digest()
	vote := func(cookie, digest string, answer []byte) string {
		t.Helper()
		return text(h.form(cookie, "/r/"+b.Request.ID, url.Values{"action": {"approve"}, "seconds": {"900"}, "digest": {digest}, "passkey": {string(answer)}}))
	}
	voteOn := func(digest string) api.PasskeyAsk { return api.PasskeyAsk{For: api.PasskeyVote, Digest: digest} }
	used := bobs.Signed(h.prompt(bob, voteOn(a.Digest)))
	foreign := *bobs
	foreign.Origin = "https://gw.example.com.evil.net"
	for _, c := range []struct {
		name, cookie, digest, code string
		answer                     []byte
	}{
		{"no answer", bob, digestB, "mfa.stale", nil},
		{"over another request", bob, digestB, "DB-6311", used},
		{"the same once more, over its own", bob, a.Digest, "DB-6302", used},
		{"over another request, whose digest is sent", bob, a.Digest, "DB-", bobs.Signed(h.prompt(bob, voteOn(a.Digest)))},
		{"to the challenge of dave", bob, digestB, "DB-6302", bobs.Signed(h.prompt(dave, voteOn(digestB)))},
		{"by the passkey of dave", bob, digestB, "DB-6303", daves.Signed(h.prompt(bob, voteOn(digestB)))},
		{"to a challenge for signing in", bob, digestB, "DB-6302", bobs.Signed(h.prompt("", api.PasskeyAsk{}))},
		{"at another address", bob, digestB, "DB-6304", foreign.Signed(h.prompt(bob, voteOn(digestB)))},
		{"nonsense", bob, digestB, "DB-6304", []byte("nonsense")},
	} {
		if body := vote(c.cookie, c.digest, c.answer); !strings.Contains(body, c.code) {
			t.Errorf("%s: the answer does not say %s:\n%s", c.name, c.code, alertOf(body))
		}
		if got := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+b.Request.ID, nil, 200); got.State != api.Pending || len(got.Approvals) != 0 {
			t.Fatalf("%s: the request is %s with %d votes", c.name, got.State, len(got.Approvals))
		}
	}
	// A passkey does not make its own request one's to approve.
	alices, alice := h.enrolled("alice")
	if body := vote(alice, digestB, alices.Signed(h.prompt(alice, voteOn(digestB)))); !strings.Contains(body, "DB-") {
		t.Errorf("approved by who asks: %s", alertOf(body))
	}
	if !strings.Contains(vote(bob, digestB, nil), `href="/login?next=`) {
		t.Error("without a script nothing leads to another second factor")
	}
	vote(bob, digestB, bobs.Signed(h.prompt(bob, voteOn(digestB))))
	if got := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+b.Request.ID, nil, 200); got.State != api.Approved || got.DecidedBy != "bob" {
		t.Errorf("the good vote: the request is %s", got.State)
	}
}

func alertOf(page string) string {
	_, rest, _ := strings.Cut(page, `role="alert" class="alert`)
	return clip(rest, 400)
}

// TestPasskeyDoors: who is at which door may do what is theirs.
func TestPasskeyDoors(t *testing.T) {
	h := newHouse(t)
	p, cookie := h.enrolled("bob")
	// The sign-in form takes it alone, with the password, and not with another's.
	signIn := func(fields url.Values) *http.Response {
		fields.Set("passkey", string(p.Signed(h.prompt("", api.PasskeyAsk{}))))
		return h.form("", "/login", fields)
	}
	for name, c := range map[string]struct {
		fields url.Values
		status int
	}{
		"alone":                    {url.Values{"user": {""}, "password": {""}}, 303},
		"with the password":        {url.Values{"user": {"bob"}, "password": {password("bob")}}, 303},
		"with a wrong password":    {url.Values{"user": {"bob"}, "password": {"wrong"}}, 401},
		"with somebody's password": {url.Values{"user": {"dave"}, "password": {password("dave")}}, 401},
	} {
		if resp := signIn(c.fields); resp.StatusCode != c.status {
			t.Errorf("%s: %d, want %d\n%s", name, resp.StatusCode, c.status, alertOf(text(resp)))
		}
	}
	if resp := h.form("", "/login", url.Values{"user": {"bob"}, "password": {password("bob")}}); resp.StatusCode != 401 {
		t.Errorf("with the password alone: %d", resp.StatusCode)
	}
	callJSON[api.Problem](h, "", "POST", "/v1/login", api.LoginInput{User: "bob", Password: password("bob")}, 401)

	// Both are named, to whom they concern.
	if me := callJSON[api.Me](h, "bob", "GET", "/v1/me", nil, 200); len(me.SecondFactors) != 1 || me.SecondFactors[0] != "passkey" || me.TOTP {
		t.Errorf("me: %+v", me)
	}
	for _, u := range callJSON[api.List[api.User]](h, "root", "GET", "/v1/users", nil, 200).Items {
		if has := len(u.SecondFactors) == 1; has != (u.Name == "bob") {
			t.Errorf("%s has %v", u.Name, u.SecondFactors)
		}
	}
	list := callJSON[api.List[api.Passkey]](h, "root", "GET", "/v1/users/bob/passkeys", nil, 200)
	if len(list.Items) != 1 || list.Items[0].UsedAt == nil {
		t.Fatalf("passkeys: %+v", list)
	}
	id := list.Items[0].ID
	callJSON[api.Problem](h, "alice", "GET", "/v1/users/bob/passkeys", nil, 403)
	// A token adds none, however fresh it is: what gave it out may be an old browser.
	callJSON[api.Problem](h, "dave", "POST", "/v1/me/passkeys/prompt", api.PasskeyAsk{For: api.PasskeyAdd}, 403)
	callJSON[api.Problem](h, "dave", "POST", "/v1/me/passkeys/prompt", api.PasskeyAsk{For: api.PasskeyVote}, 422)
	// Nor does a login whose second factor is an hour old, which removes none either.
	resp := h.do(httpCall{method: "POST", path: "/v1/me/passkeys/prompt", cookie: cookie, body: `{"for":"add"}`, header: map[string]string{"Origin": gateway}})
	if body := text(resp); resp.StatusCode != 403 || !strings.Contains(body, "DB-6301") {
		t.Errorf("added in an old login: %d %s", resp.StatusCode, body)
	}
	if body := text(h.form(cookie, "/me/factors", url.Values{"action": {"remove"}, "id": {id}})); !strings.Contains(body, "DB-6301") || !strings.Contains(body, "/login?next=") {
		t.Errorf("removed in an old login: %s", alertOf(body))
	}
	h.oldPassword("bob")
	callJSON[api.Empty](h, "root", "POST", "/v1/users/bob/factors/"+id+"/take", api.Reason{Reason: "INC-7 lost"}, 200)
	if resp := signIn(url.Values{"user": {""}, "password": {""}}); resp.StatusCode != 401 || !strings.Contains(text(resp), "DB-6303") {
		t.Errorf("by a passkey that was removed: %d", resp.StatusCode)
	}
	if n := len(h.events("user.passkey.remove")); n == 0 {
		t.Error("nothing tells of the removal")
	}
	// A flood of prompts ends at the door.
	h.sameMoment()
	got := 0
	for range 200 {
		if h.do(httpCall{method: "POST", path: "/v1/login/passkey", body: "{}", from: "203.0.113.9:1"}).StatusCode == http.StatusTooManyRequests {
			got++
		}
	}
	if got < 100 {
		t.Errorf("%d of 200 prompts were refused", got)
	}
}
