package web

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/web/api"
)

// oldPassword makes somebody's password one that was chosen long ago. Their logins end.
func (h *house) oldPassword(name string) {
	h.t.Helper()
	id := h.people[name].ID
	c := must(h.db.Identities().Credential(h.t.Context(), id))
	if err := h.db.Identities().SetPassword(h.t.Context(), access.System(), id, c.Hash, time.Now().Add(-3*local.RecoveryRest)); err != nil {
		h.t.Fatal(err)
	}
}

// TestTakeFactor: who may change users takes a second factor away that somebody has
// lost, by either door; nobody their own, and nobody else anybody's.
func TestTakeFactor(t *testing.T) {
	h := newHouse(t)
	h.oldPassword("bob")
	_, cookie := h.enrolled("bob")
	id := must(h.local.Passkeys(t.Context(), h.people["bob"].ID))[0].ID
	why := api.Reason{Reason: "INC-7 phone stolen, called back"}
	for who, status := range map[string]int{"alice": 403, "dave": 403, "bob": 403} {
		callJSON[api.Problem](h, who, "POST", "/v1/users/bob/factors/"+id+"/take", why, status)
		if resp := h.form(h.cookieOf(who, 0), "/people/bob", url.Values{"action": {"take"}, "id": {id}, "reason": {"x1"}}); resp.StatusCode != 403 {
			t.Errorf("by %s on the page: %d", who, resp.StatusCode)
		}
	}
	const admin = "root"
	root := h.cookieOf(admin, 0)
	if p := callJSON[api.Problem](h, admin, "POST", "/v1/users/"+admin+"/factors/totp/take", why, 403); p.Code != "DB-6572" {
		t.Errorf("their own: %+v", p)
	}
	callJSON[api.Problem](h, "root", "POST", "/v1/users/dave/factors/"+id+"/take", why, 404)
	callJSON[api.Problem](h, "root", "POST", "/v1/users/bob/factors/totp/take", why, 404)
	callJSON[api.Problem](h, "root", "POST", "/v1/users/bob/factors/"+id+"/take", api.Reason{Reason: "  "}, 422)

	// The page offers it, to them alone, and says what was wrong.
	page := text(h.do(httpCall{method: "GET", path: "/people/bob", cookie: root}))
	if !strings.Contains(page, "Lost second factors") || !strings.Contains(page, `value="`+id+`"`) {
		t.Error("the page of bob offers nothing for what he has lost")
	}
	if page := text(h.do(httpCall{method: "GET", path: "/people/root", cookie: root})); strings.Contains(page, "Lost second factors") {
		t.Error("the own page offers to take one's own factor away")
	}
	if body := text(h.form(root, "/people/bob", url.Values{"action": {"take"}, "id": {id}, "reason": {" "}})); !strings.Contains(body, "DB-1003") {
		t.Errorf("without a reason: %s", alertOf(body))
	}
	if resp := h.form(root, "/people/bob", url.Values{"action": {"take"}, "id": {id}, "reason": {why.Reason}}); resp.StatusCode != 303 {
		t.Fatalf("taken away: %d %s", resp.StatusCode, alertOf(text(resp)))
	}
	if got := must(h.local.Passkeys(t.Context(), h.people["bob"].ID)); len(got) != 0 {
		t.Errorf("bob still has %+v", got)
	}
	if resp := h.do(httpCall{method: "GET", path: "/", cookie: cookie}); resp.StatusCode != 303 {
		t.Errorf("the login of bob goes on: %d", resp.StatusCode)
	}
	taken := h.events("user.passkey.remove")
	if e := taken[len(taken)-1]; e.Actor != h.people["root"].ID || e.Object != h.people["bob"].ID || e.Reason != why.Reason {
		t.Errorf("the event: %+v", e)
	}
}

// TestStolenAdministrator tries to become bob with all that an administrator may, in
// one day and unseen: each way ends at a refusal, and what was done is on record under
// the thief's name and told to bob.
func TestStolenAdministrator(t *testing.T) {
	for _, first := range []string{"link", "factor"} {
		t.Run(first+" first", func(t *testing.T) {
			h := newHouse(t)
			h.oldPassword("bob")
			h.enrolled("bob")
			id := must(h.local.Passkeys(t.Context(), h.people["bob"].ID))[0].ID
			// A second administrator of the thief's own counts for no more.
			must(h.broker.AddUser(t.Context(), h.by("root"), access.User{Name: "accomplice", Groups: []string{"administrators"}}))
			h.people["accomplice"] = must(h.broker.FindUser(t.Context(), h.by("root"), "accomplice"))
			take := func(who string, status int) string {
				return callJSON[api.Problem](h, who, "POST", "/v1/users/bob/factors/"+id+"/take", api.Reason{Reason: "lost, he says"}, status).Code
			}
			link := func(who string, status int) (string, string) {
				got := callJSON[struct {
					URL  string `json:"url"`
					Code string `json:"code"`
				}](h, who, "POST", "/v1/users/bob/setup", api.Empty{}, status)
				_, token, _ := strings.Cut(got.URL, "token=")
				return token, got.Code
			}
			choose := func(token string) int {
				return h.form("", "/setup", url.Values{"token": {token}, "password": {"a password of the thief"}, "again": {"a password of the thief"}}).StatusCode
			}
			if first == "link" {
				token, _ := link("root", 200)
				if status := choose(token); status >= 400 {
					t.Fatalf("the link does not work: %d", status)
				}
				for _, who := range []string{"root", "accomplice"} {
					if code := take(who, 409); code != "DB-6571" {
						t.Errorf("%s takes the factor: %s", who, code)
					}
				}
			} else {
				before, _ := link("root", 200)
				take("root", 200)
				if status := choose(before); status < 400 {
					t.Errorf("a link from before sets the password: %d", status)
				}
				for _, who := range []string{"root", "accomplice"} {
					if _, code := link(who, 409); code != "DB-6570" {
						t.Errorf("%s makes a link: %s", who, code)
					}
				}
			}
			for _, guess := range []string{"a password of the thief", ""} {
				if resp := h.form("", "/login", url.Values{"user": {"bob"}, "password": {guess}}); resp.StatusCode == 303 {
					t.Errorf("the thief is in as bob by %q", guess)
				}
			}
		})
	}
}
