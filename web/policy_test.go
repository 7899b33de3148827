package web

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"html"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	bundles "github.com/drawbolt/drawbolt/policy/pack"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/drawbolt/drawbolt/web/api"
)

// defaultBundle is the bundle in the program, as it is sent.
func defaultBundle(t *testing.T) []byte {
	t.Helper()
	files := must(policy.ReadFiles(rego.Bundle))
	files[bundles.RolesFile] = must(os.ReadFile("../rego/testdata/roles.json"))
	return must(bundles.New(files).Pack())
}

// hostileBundle has an entry that leads out of it.
func hostileBundle(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "../../etc/x.rego"}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	z.Close()
	return b.Bytes()
}

// What a session may do and what bounds it is told by the simulator, to who asks the
// policy by JSON, and on the page of who approves.
func TestSessionTerms(t *testing.T) {
	h := newHouse(t)
	engineer := must(h.broker.FindRole(t.Context(), h.by("root"), "engineer"))
	engineer.Rules[0].Limits = access.Limits{PerPerson: 2, PerTarget: 5, Exclusive: true}
	engineer.Rules[0].Session.Files = []string{"download /var/log/*"}
	must(h.broker.SetRole(t.Context(), h.by("root"), engineer))
	r := h.ask("INC-1 look")
	tags := regexp.MustCompile("<[^>]*>")
	const want = "shell, any command, files: download /var/log/*; at most 2 of one person at a time; at most 5 on the target at a time; only while nobody else is in the account; ends after 15m without a byte of data"
	for who, path := range map[string]string{"bob": "/r/" + r.ID, "root": "/policies?user=alice&target=db01&account=root", "alice": "/policies?target=db01&account=root"} {
		if page := h.read(who, path); !strings.Contains(tags.ReplaceAllString(page, ""), want) {
			t.Errorf("%s is not told what bounds a session:\n%s", who, page)
		}
	}
	d := callJSON[api.Decision](h, "alice", "POST", "/v1/policy/explain", api.ExplainInput{Target: "db01", Account: "root", Action: "request"}, 200)
	if len(d.SessionTerms) != 4 {
		t.Errorf("by JSON: %+v", d.SessionTerms)
	}
	d = callJSON[api.Decision](h, "root", "POST", "/v1/policy/explain", api.ExplainInput{User: "eve", Target: "db01", Account: "root", Action: "request"}, 200)
	if d.Allow || len(d.SessionTerms) > 0 {
		t.Errorf("of what is refused: %+v", d)
	}
}

func TestPolicyAPI(t *testing.T) {
	h := newHouse(t)
	h.ask("INC-1")
	roles := callJSON[api.List[api.Role]](h, "root", "GET", "/v1/roles", nil, 200).Items
	for i := range roles {
		if roles[i].Name == "engineer" {
			roles[i].Rules[0].Approvals[0].Count = 2
		}
	}
	candidate := api.ReplayInput{Candidate: api.Candidate{Roles: roles}}
	ask := api.ExplainInput{User: "alice", Target: "db01", Account: "root", Action: "request", DurationSeconds: 9 * 3600}
	with := func(c api.Candidate) api.ExplainInput {
		in := ask
		in.Candidate = &c
		return in
	}
	for _, s := range []struct {
		who, method, path string
		in                any
		status            int
		want              string
	}{
		{"root", "GET", "/v1/policy", nil, 200, `"text":"may request and extend root everywhere; for at most 4h; approved by 1 person of approvers`},
		{"root", "GET", "/v1/policy", nil, 200, `"name":"drawbolt.rego","text":"`},
		{"carol", "GET", "/v1/policy", nil, 403, "DB-2103"},
		{"root", "POST", "/v1/policy/explain", ask, 200, `{"changes":[{"kind":"duration","text":"for 4h or shorter"}]}`},
		{"root", "POST", "/v1/policy/explain", api.ExplainInput{Target: "db01", Account: "root", Action: "request", Source: "nowhere"}, 422, "is not an IP address"},
		{"root", "POST", "/v1/policy/explain", with(api.Candidate{Roles: roles}), 200, `"allow":false`},
		{"alice", "POST", "/v1/policy/explain", with(api.Candidate{Roles: roles}), 403, "DB-2103"},
		{"root", "GET", "/v1/policy/who-can?target=db01&account=root", nil, 200, `"path":["group engineers","role engineer"]`},
		{"alice", "GET", "/v1/policy/who-can?target=db01&account=root", nil, 403, "DB-2103"},
		{"alice", "GET", "/v1/policy/who-can?target=nowhere&account=root", nil, 403, "DB-2103"},
		{"root", "GET", "/v1/policy/who-can?target=nowhere&account=root", nil, 404, "DB-2101"},
		{"root", "GET", "/v1/policy/who-can?target=db01", nil, 422, "account"},
		{"root", "GET", "/v1/policy/reach?user=alice", nil, 200, `"targets":["guest@db01","guest@db02"]`},
		{"alice", "GET", "/v1/policy/reach?user=alice", nil, 403, "DB-2103"},
		{"root", "POST", "/v1/policy/test", api.Candidate{Bundle: defaultBundle(t)}, 200, `"problems":[]`},
		{"root", "POST", "/v1/policy/test", api.Candidate{}, 422, "no bundle"},
		{"root", "POST", "/v1/policy/test", api.Candidate{Bundle: []byte("x")}, 422, "DB-6150"},
		{"root", "POST", "/v1/policy/test", api.Candidate{Bundle: hostileBundle(t)}, 422, "leads out of the archive"},
		{"carol", "POST", "/v1/policy/test", api.Candidate{Bundle: defaultBundle(t)}, 403, "DB-2103"},
		{"root", "POST", "/v1/policy/replay", candidate, 200, `"kind":"approvals","action":"request","was":"engineer/with-approval"`},
		{"root", "POST", "/v1/policy/replay", api.ReplayInput{Candidate: api.Candidate{Bundle: defaultBundle(t)}}, 200, `"looked":1,"flipped":0`},
		{"root", "POST", "/v1/policy/replay", api.ReplayInput{}, 422, "neither a bundle nor roles"},
		{"alice", "POST", "/v1/policy/replay", candidate, 403, "DB-2103"},
		{"root", "POST", "/v1/policy/diff", candidate, 200, "~ engineer/with-approval: may request"},
		{"alice", "POST", "/v1/policy/diff", candidate, 403, "DB-2103"},
	} {
		c := httpCall{method: s.method, path: s.path, token: h.token(s.who)}
		if s.in != nil {
			c.body = string(must(json.Marshal(s.in)))
		}
		resp := h.do(c)
		if body := text(resp); resp.StatusCode != s.status || !strings.Contains(body, s.want) {
			t.Errorf("%s %s as %s: %d %s\nwant %d %s", s.method, s.path, s.who, resp.StatusCode, body, s.status, s.want)
		}
	}
	// What is longer than a candidate may be is not read to its end.
	resp := h.do(httpCall{method: "POST", path: "/v1/policy/test", token: h.token("root"), body: `{"bundle":"` + strings.Repeat("A", maxCandidate) + `"}`})
	if body := text(resp); resp.StatusCode != 413 || !strings.Contains(body, "DB-6007") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	// One at a time.
	leave, err := h.server.mayProve(h.by("root"))
	if err != nil {
		t.Fatal(err)
	}
	if p := callJSON[api.Problem](h, "root", "POST", "/v1/policy/replay", candidate, 429); p.Code != "DB-6153" {
		t.Errorf("%+v", p)
	}
	leave()
	callJSON[api.PolicyReplay](h, "root", "POST", "/v1/policy/replay", candidate, 200)
}

// The page answers whoever asks for themselves, and shows the policy to who may read it.
func TestPoliciesPage(t *testing.T) {
	h := newHouse(t)
	h.ask("INC-1")
	page := func(who, path, form string, status int) string {
		t.Helper()
		c := httpCall{method: "GET", path: path, cookie: h.token(who)}
		if form != "" {
			c.method, c.body, c.header = "POST", form, map[string]string{"Sec-Fetch-Site": "same-origin"}
		}
		resp := h.do(c)
		body := html.UnescapeString(text(resp))
		if resp.StatusCode != status {
			t.Errorf("%s as %s: %d, want %d", path, who, resp.StatusCode, status)
		}
		return body
	}
	contains := func(body string, want bool, texts ...string) {
		t.Helper()
		for _, s := range texts {
			if strings.Contains(body, s) != want {
				t.Errorf("%q in the page: %v\n%s", s, !want, body)
			}
		}
	}
	contains(page("root", "/policies", "", 200), true, "approved by 1 person of approvers", "the bundle in the program", `"max_duration_seconds": 14400`, "What reads them, in Rego", "package drawbolt")
	mine := page("alice", "/policies?target=db01&account=root&for=9h", "", 200)
	contains(mine, true, "It would refuse", "for 4h or shorter")
	contains(mine, false, "Who can come to", "Roles and rules", `name="user"`)
	contains(page("root", "/policies?user=alice&target=db01&account=root", "", 200), true, "It would allow", "for longer than 4h", "Who can come to root on db01", "group engineers → role engineer → rule with-approval")
	contains(page("alice", "/policies?user=bob&target=db01&account=root", "", 403), true, "DB-2103")
	contains(page("root", "/policies?target=db01&account=root&at=never", "", 422), true, "is not one: write it like")
	roles := string(must(json.Marshal(callJSON[api.List[api.Role]](h, "root", "GET", "/v1/roles", nil, 200).Items)))
	stricter := url.Values{"roles": {strings.Replace(roles, `"count":1`, `"count":2`, 1)}}.Encode()
	contains(page("root", "/policies", stricter, 200), true, "1 decisions asked again, 1 answered in another way", "approved by 2 people of approvers")
	contains(page("alice", "/policies", stricter, 403), false, "asked again")
	contains(page("root", "/policies", "roles=nonsense", 422), true, "it is not JSON")
	contains(page("root", "/policies", url.Values{"roles": {`[{"name":"x","ruls":[]}]`}}.Encode(), 422), true, "not roles as")
}

// TestPoliciesInBrowser fills the form in and reads the answer, in both themes and
// without scripts.
func TestPoliciesInBrowser(t *testing.T) {
	h := newHouse(t)
	srv := httptest.NewTLSServer(h.server.Handler())
	t.Cleanup(srv.Close)
	for _, scheme := range []string{"light", "dark"} {
		ctx := browser(t, scheme, scheme == "light")
		signIn(t, ctx, srv.URL, "root", "/policies")
		do(t, ctx,
			chromedp.SendKeys(css(`input[name=user]`), "alice"),
			chromedp.SendKeys(css(`input[name=target]`), "db01"),
			chromedp.SendKeys(css(`input[name=account]`), "root"),
			chromedp.SendKeys(css(`input[name=for]`), "9h"),
			chromedp.Click(css(`main form button`)),
			chromedp.WaitVisible(css(`section[aria-label=Answer]`)))
		if shown := get(t, ctx, chromedp.Text(css(`section[aria-label=Answer]`))); !strings.Contains(shown, "It would refuse") || !strings.Contains(shown, "for 4h or shorter") {
			t.Errorf("shown: %s", shown)
		}
		picture(t, ctx, "policies-"+scheme)
		if w := width(t, ctx); w > 360 {
			t.Errorf("the page is %v wide", w)
		}
		if scheme == "light" { // axe needs scripts
			accessible(t, ctx, "policies")
		}
	}
}
