package web

import (
	"context"

	"net/http/httptest"
	"net/netip"

	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker/access"
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
func authenticator(t *testing.T, ctx context.Context) webauthn.AuthenticatorID {
	t.Helper()
	call := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{})
	call(err)
	added, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})
	call(err)
	return added.AuthenticatorID
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
			list = append(list, audit.Event{Object: e.Object, Details: e.Details, Outcome: audit.Outcome(e.Outcome)})
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
			device := authenticator(t, ctx)

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
			do(t, ctx, chromedp.Navigate(gateway+"/r/"+r.ID), chromedp.WaitVisible(css(`button[data-passkey=vote]`)))
			picture(t, ctx, scheme+"-passkey-5-request")
			accessible(t, ctx, "a vote by passkey")
			if bottom := get(t, ctx, chromedp.Evaluate[float64](`document.querySelector("button[value=approve]").getBoundingClientRect().bottom`)); bottom > 640 {
				t.Errorf("the request does not fit one screen: the button ends at %v", bottom)
			}
			if size := get(t, ctx, chromedp.Evaluate[float64](`performance.getEntries().reduce((n, e) => n + (e.encodedBodySize || 0), 0)`)); size > 30_000 {
				t.Errorf("the page and its files have %v bytes", size)
			}
			do(t, ctx, chromedp.Click(css(`button[data-passkey=vote]`)), chromedp.WaitNotPresent(css(`button[value=approve]`)), chromedp.WaitVisible(css(`#request ol`)))
			if got := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200); got.State != api.Approved || got.DecidedBy != "bob" {
				t.Fatalf("the request is %s", got.State)
			}
			uses := h.events("user.passkey.use")
			last := uses[len(uses)-1].Details
			if last["purpose"] != "vote" || last["digest"] != r.Digest || last["signature"] == "" || last["client_data"] == "" || last["authenticator_data"] == "" {
				t.Errorf("the event of the vote: %+v", last)
			}
			// It was a factor for that vote only.
			r = h.ask("INC-2 another one")
			do(t, ctx, chromedp.Navigate(gateway+"/r/"+r.ID), chromedp.WaitVisible(css(`button[data-passkey=vote]`)))

			// A device whose counter goes back is a copy.
			kept, err := chromedp.Call(ctx, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: device})
			if err != nil || len(kept.Credentials) != 1 {
				t.Fatalf("the device has %+v, %v", kept, err)
			}
			c := kept.Credentials[0]
			c.SignCount = 0
			if _, err := chromedp.Call(ctx, webauthn.RemoveCredential, webauthn.RemoveCredentialParams{AuthenticatorID: device, CredentialID: c.CredentialID}); err != nil {
				t.Fatal(err)
			}
			if _, err := chromedp.Call(ctx, webauthn.AddCredential, webauthn.AddCredentialParams{AuthenticatorID: device, Credential: c}); err != nil {
				t.Fatal(err)
			}
			do(t, ctx, chromedp.Click(css(`button[data-passkey=vote]`)), chromedp.WaitVisible(css(`[role=alert].alert`)))
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
