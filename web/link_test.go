package web

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// TestLinkPage: somebody who is logged in sees whose account it is, and makes it
// theirs once; they see it among theirs, and take it away.
func TestLinkPage(t *testing.T) {
	h := newHouse(t)
	a := access.ExternalAccount{Kind: "slack", Team: "T1", ID: "UALICE", Name: "Alice <b>Kim</b>"}
	code := must(h.broker.BeginLink(t.Context(), a))
	if resp := h.do(httpCall{method: "GET", path: "/link?code=" + code}); resp.StatusCode != http.StatusSeeOther || !strings.Contains(resp.Header.Get("Location"), url.QueryEscape("/link?code="+code)) {
		t.Errorf("without a login: %d %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	body := text(h.do(httpCall{method: "GET", path: "/link?code=" + code, cookie: h.token("alice")}))
	for _, words := range []string{"Alice &lt;b&gt;Kim&lt;/b&gt;", "UALICE", "T1", "as <strong>alice</strong>", "It is mine"} {
		if !strings.Contains(body, words) {
			t.Errorf("the page does not say %q", words)
		}
	}
	form := func(who, path string, values url.Values) (int, string) {
		resp := h.do(httpCall{method: "POST", path: path, cookie: h.token(who), header: map[string]string{"Sec-Fetch-Site": "same-origin"}, body: values.Encode()})
		return resp.StatusCode, text(resp)
	}
	// To look changes nothing, and neither does another site.
	if _, err := h.broker.Linked(t.Context(), a); err == nil {
		t.Fatal("linked by a look")
	}
	resp := h.do(httpCall{method: "POST", path: "/link", cookie: h.token("alice"), header: map[string]string{"Sec-Fetch-Site": "cross-site"}, body: url.Values{"code": {code}, "action": {"confirm"}}.Encode()})
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("from another site: %d", resp.StatusCode)
	}
	if status, body := form("alice", "/link", url.Values{"code": {code}, "action": {"refuse"}}); status != 200 || !strings.Contains(body, "Nothing was linked") {
		t.Errorf("refused: %d %s", status, body)
	}
	if status, body := form("alice", "/link", url.Values{"code": {code}, "action": {"confirm"}}); status != 200 || !strings.Contains(body, "Linked.") {
		t.Fatalf("confirmed: %d %s", status, body)
	}
	if status, body := form("bob", "/link", url.Values{"code": {code}, "action": {"confirm"}}); status != 404 || !strings.Contains(body, "DB-6190") {
		t.Errorf("a second time: %d %s", status, body)
	}
	if by := must(h.broker.Linked(t.Context(), a)); by.User.Name != "alice" {
		t.Errorf("it is %s's", by.User.Name)
	}
	if body := text(h.do(httpCall{method: "GET", path: "/me/links", cookie: h.token("alice")})); !strings.Contains(body, "UALICE") {
		t.Error("alice does not see her account")
	}
	if list := callJSON[api.List[api.Link]](h, "root", "GET", "/v1/users/alice/links", nil, 200); len(list.Items) != 1 || list.Items[0].Account != "UALICE" {
		t.Errorf("links: %+v", list)
	}
	callJSON[api.Problem](h, "bob", "GET", "/v1/users/alice/links", nil, 403)
	callJSON[api.Problem](h, "bob", "DELETE", "/v1/users/alice/links/slack/T1/UALICE", nil, 403)
	callJSON[api.Problem](h, "bob", "DELETE", "/v1/me/links/slack/T1/UALICE", nil, 404)
	if status, _ := form("alice", "/me/links", url.Values{"kind": {"slack"}, "team": {"T1"}, "account": {"UALICE"}}); status != http.StatusSeeOther {
		t.Errorf("unlinked: %d", status)
	}
	if _, err := h.broker.Linked(t.Context(), a); err == nil {
		t.Error("still linked")
	}
}

// TestSlackRoute: what comes to Slack's address is handed on as it is, whatever its
// type, within the limit of every body; without an app there is nothing there.
func TestSlackRoute(t *testing.T) {
	h := newHouse(t)
	if resp := h.do(httpCall{method: "POST", path: "/slack/events", body: "x"}); resp.StatusCode != http.StatusNotFound {
		t.Errorf("without an app: %d", resp.StatusCode)
	}
	callJSON[api.Problem](h, "root", "GET", "/v1/integrations/slack/manifest?mode=socket", nil, 404)
	var got string
	h = newHouse(t, func(c *Config) {
		c.Slack = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			got = string(b)
		})
	})
	for _, media := range []string{"application/json", "application/x-www-form-urlencoded"} {
		got = ""
		body := `{"a":1,"a":2}&payload=%7B%7D`
		if resp := h.do(httpCall{method: "POST", path: "/slack/events", body: body, header: map[string]string{"Content-Type": media}}); resp.StatusCode != 200 || got != body {
			t.Errorf("%s: %d %q", media, resp.StatusCode, got)
		}
	}
	got = ""
	if resp := h.do(httpCall{method: "POST", path: "/slack/commands", body: strings.Repeat("x", maxBody+1)}); resp.StatusCode != http.StatusRequestEntityTooLarge || got != "" {
		t.Errorf("too large: %d", resp.StatusCode)
	}
}
