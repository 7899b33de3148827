package web

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/web/api"
)

// TestLife is one request from the question to the proof, over JSON alone.
func TestLife(t *testing.T) {
	h := newHouse(t)
	login := callJSON[api.Login](h, "", "POST", "/v1/login", api.LoginInput{User: "alice", Password: password("alice")}, 200)
	if login.User != "alice" || !login.ExpiresAt.After(time.Now()) {
		t.Fatalf("login: %+v", login)
	}
	if got := h.do(httpCall{method: "GET", path: "/v1/me", token: login.Token}); got.StatusCode != 200 {
		t.Fatalf("me: %d %s", got.StatusCode, text(got))
	}
	r := h.ask("INC-1234 replication lag")
	if r.State != api.Pending || r.Ticket != "INC-1234" || r.Needed != 1 || len(r.Needs) != 1 || r.Needs[0].Have != 0 || r.URL != "https://gw.example.com/r/"+r.ID {
		t.Fatalf("request: %+v", r)
	}
	if list := callJSON[api.List[api.Request]](h, "bob", "GET", "/v1/requests?inbox=true", nil, 200); len(list.Items) != 1 || !list.Items[0].MayDecide {
		t.Fatalf("inbox of bob: %+v", list)
	}
	if list := callJSON[api.List[api.Request]](h, "alice", "GET", "/v1/requests?inbox=true", nil, 200); len(list.Items) != 0 {
		t.Fatalf("inbox of alice: %+v", list)
	}

	// The long poll of the requester answers when bob has decided.
	polled := make(chan api.Request, 1)
	go func() {
		resp := h.do(httpCall{method: "GET", path: "/v1/requests/" + r.ID + "?wait_seconds=30&version=" + itoa(r.Version), token: login.Token})
		var out api.Request
		if err := json.Unmarshal([]byte(text(resp)), &out); err != nil {
			t.Errorf("long poll: %v", err)
		}
		polled <- out
	}()
	done := callJSON[api.Request](h, "bob", "POST", "/v1/requests/"+r.ID+"/approve", api.ApproveInput{Digest: r.Digest, DurationSeconds: 1800, Comment: "read only please"}, 200)
	if done.State != api.Approved || done.Grant == nil || done.Grant.DurationSeconds != 1800 || done.Needs[0].Have != 1 {
		t.Fatalf("approved: %+v %+v", done, done.Grant)
	}
	if got := <-polled; got.State != api.Approved {
		t.Fatalf("the long poll says %s", got.State)
	}
	again := callJSON[api.Problem](h, "dave", "POST", "/v1/requests/"+r.ID+"/approve", api.ApproveInput{Digest: r.Digest}, 409)
	if !strings.Contains(again.Detail, "already approved by bob") {
		t.Fatalf("second approval: %+v", again)
	}
	ended := callJSON[api.Request](h, "alice", "POST", "/v1/requests/"+r.ID+"/end", api.Empty{}, 200)
	if ended.Grant.State != api.Ended || ended.Grant.EndReason != api.Released {
		t.Fatalf("ended: %+v", ended.Grant)
	}

	x := h.record("uptime", "up 3 days\r\n")
	callJSON[api.Problem](h, "eve", "GET", "/v1/sessions/"+x.ID, nil, 404)
	if s := callJSON[api.Session](h, "carol", "GET", "/v1/sessions/"+x.ID, nil, 200); s.Recording == nil || s.Command != "uptime" {
		t.Fatalf("session: %+v", s)
	}
	resp := h.do(httpCall{method: "GET", path: "/v1/sessions/" + x.ID + "/recording?format=txt", token: h.token("carol")})
	if body := text(resp); resp.StatusCode != 200 || !strings.Contains(body, "up 3 days") {
		t.Fatalf("transcript: %d %s", resp.StatusCode, body)
	}
	resp = h.do(httpCall{method: "GET", path: "/v1/sessions/" + x.ID + "/sealed", token: h.token("carol")})
	if body := text(resp); body != "age-encryption.org/v1 "+x.ID {
		t.Fatalf("sealed: %s", body)
	}
	proof := callJSON[api.Proof](h, "carol", "GET", "/v1/sessions/"+x.ID+"/proof", nil, 200)
	if proof.Size <= proof.Seq || proof.Sealed.SHA256 != x.Recording.SHA256 || !strings.Contains(string(proof.Leaf), x.ID) {
		t.Fatalf("proof: %+v", proof)
	}
	resp = h.do(httpCall{method: "GET", path: "/v1/audit/export", token: h.token("carol")})
	if body := text(resp); !strings.HasPrefix(body, "drawbolt-audit/1 ") || !strings.Contains(body, x.ID) {
		t.Fatalf("export: %.200s", body)
	}
	callJSON[api.Problem](h, "alice", "GET", "/v1/audit/export", nil, 403)

	// Pages of events neither overlap nor skip.
	var seen []int64
	for after := ""; ; {
		list := callJSON[api.List[api.Event]](h, "carol", "GET", "/v1/audit/events?limit=7"+after, nil, 200)
		for _, e := range list.Items {
			seen = append(seen, e.Seq)
		}
		if list.Next == "" || len(seen) > 50 {
			break
		}
		after = "&after=" + list.Next
	}
	for i, seq := range seen {
		if seq != int64(i) {
			t.Fatalf("events: %v", seen)
		}
	}
	newest := callJSON[api.List[api.Event]](h, "carol", "GET", "/v1/audit/events?limit=3&newest=true", nil, 200)
	if n := len(newest.Items); n != 3 || newest.Items[0].Seq >= newest.Items[2].Seq {
		t.Fatalf("newest: %+v", newest.Items)
	}
}

func itoa(n int64) string { return string(must(json.Marshal(n))) }

// TestAdministration calls every route that changes people, targets, roles and
// keys, as an administrator and as somebody who may not.
func TestAdministration(t *testing.T) {
	h := newHouse(t)
	key := string(ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(must2(ed25519.GenerateKey(rand.Reader))))))
	key = strings.TrimSpace(key)
	steps := []struct {
		who, method, path string
		in                any
		status            int
		want              string
	}{
		{"root", "GET", "/v1/me", nil, 200, `"user":"root"`},
		{"root", "GET", "/v1/users", nil, 200, `"name":"alice"`},
		{"alice", "GET", "/v1/users", nil, 403, `"code":"DB-`},
		{"root", "POST", "/v1/users", api.UserInput{Name: "frank", Groups: []string{"engineers"}}, 200, `"name":"frank"`},
		{"root", "POST", "/v1/users", api.UserInput{Name: "frank"}, 409, `"status":409`},
		{"root", "POST", "/v1/users", api.UserInput{Name: "Fränk"}, 422, `"code":"DB-1001"`},
		{"root", "GET", "/v1/users/frank", nil, 200, `"version":1`},
		{"root", "PUT", "/v1/users/frank", api.UserInput{Name: "frank", Display: "Frank", Version: 1}, 200, `"display":"Frank"`},
		{"root", "PUT", "/v1/users/frank", api.UserInput{Name: "alice", Version: 1}, 422, "different things"},
		{"root", "POST", "/v1/users/frank/lock", api.Reason{Reason: "gone"}, 200, `"locked":true`},
		{"root", "POST", "/v1/users/frank/unlock", api.Reason{Reason: "back"}, 200, `"locked":false`},
		{"eve", "POST", "/v1/users/alice/setup", api.Empty{}, 0, `"code"`},
		{"root", "POST", "/v1/users/alice/setup", api.Empty{}, 200, "https://gw.example.com/setup?token="},
		{"root", "GET", "/v1/groups", nil, 200, `"name":"auditors","members":["carol"]`},
		{"root", "GET", "/v1/targets/db01", nil, 200, `"address":"db01.example.com:22"`},
		{"alice", "GET", "/v1/targets", nil, 200, `"may_ask":true`},
		{"eve", "GET", "/v1/targets/db01", nil, 404, `"status":404`},
		{"root", "POST", "/v1/targets", api.TargetInput{Name: "web01", Address: "10.0.0.1:22", Accounts: []api.AccountInput{{Name: "root"}}}, 200, `"name":"web01"`},
		{"root", "PUT", "/v1/targets/web01", api.TargetInput{Name: "web01", Address: "10.0.0.2:22", Accounts: []api.AccountInput{{Name: "root"}}, Version: 1}, 200, "10.0.0.2:22"},
		{"root", "POST", "/v1/targets/web01/lock", api.Reason{Reason: "broken into"}, 200, `"locked":true`},
		{"root", "POST", "/v1/targets/web01/unlock", api.Reason{Reason: "clean"}, 200, `"locked":false`},
		{"root", "DELETE", "/v1/targets/web01", nil, 200, "{}"},
		{"root", "GET", "/v1/roles", nil, 200, `"max_duration_seconds":14400`},
		{"root", "PUT", "/v1/roles/reader", api.Role{Name: "reader", Groups: []string{"nobodies"}, Rules: []api.Rule{{ID: "r", Actions: []string{"target.read"}, Hours: "08:00-18:00"}}}, 200, `"hours":"08:00-18:00"`},
		{"root", "GET", "/v1/roles/reader", nil, 200, `"name":"reader"`},
		{"root", "DELETE", "/v1/roles/reader", nil, 200, "{}"},
		{"root", "POST", "/v1/policy/explain", api.ExplainInput{User: "alice", Target: "db01", Account: "root", Action: "request"}, 200, `"count":1`},
		{"alice", "POST", "/v1/policy/explain", api.ExplainInput{User: "bob", Target: "db01", Account: "root", Action: "request"}, 403, `"code"`},
		{"alice", "POST", "/v1/me/keys", api.KeyInput{Key: key, Comment: "laptop"}, 200, `"comment":"laptop"`},
		{"alice", "GET", "/v1/me/keys", nil, 200, "laptop"},
		{"alice", "DELETE", "/v1/me/keys/" + escape(ssh.FingerprintSHA256(mustKey(key))), nil, 200, "{}"},
		{"alice", "GET", "/v1/me/keys", nil, 200, `"items":[]`},
		{"root", "POST", "/v1/users/bob/keys", api.KeyInput{Key: key}, 0, ""},
		{"root", "GET", "/v1/users/bob/keys", nil, 200, `"items"`},
		{"alice", "POST", "/v1/me/certificate", api.CertificateInput{PublicKey: key}, 200, `"ssh_host":"gw.example.com","ssh_port":2222`},
		{"alice", "POST", "/v1/me/certificate", api.CertificateInput{PublicKey: "rubbish"}, 422, "ssh-keygen"},
		{"alice", "POST", "/v1/me/password", map[string]string{"current": "wrong wrong wrong", "new": "another long one 7"}, 401, `"code":"DB-4002"`},
		{"alice", "POST", "/v1/me/password", map[string]string{"current": password("alice"), "new": "short"}, 422, "too short"},
		{"alice", "POST", "/v1/me/totp", map[string]string{"password": password("alice")}, 200, "otpauth://"},
		{"alice", "POST", "/v1/me/totp", api.Empty{}, 422, "expected required property password to be present"},
		{"alice", "POST", "/v1/me/totp/confirm", api.OTPInput{OTP: "000000"}, 401, `"code"`},
		{"carol", "GET", "/v1/audit/checkpoint", nil, 200, "drawbolt/gw.example.com"},
		{"alice", "GET", "/v1/audit/key", nil, 200, "drawbolt/gw.example.com+"},
		{"", "GET", "/v1/authorities", nil, 200, "ssh-ed25519 "},
		{"", "GET", "/v1/version", nil, 200, `"version":"test"`},
		{"alice", "GET", "/v1/requests?state=nonsense", nil, 422, "query.state"},
		{"alice", "GET", "/v1/requests?nonsense=1", nil, 422, "unknown query parameter"},
		{"alice", "GET", "/v1/requests/REQ-0000000000000000", nil, 404, `"status":404`},
		{"alice", "POST", "/v1/logout", api.Empty{}, 200, "{}"},
	}
	for _, s := range steps {
		t.Run(s.method+s.path+" "+s.who, func(t *testing.T) {
			c := httpCall{method: s.method, path: s.path}
			if s.who != "" {
				c.token = h.token(s.who)
			}
			if s.in != nil {
				c.body = string(must(json.Marshal(s.in)))
			}
			resp := h.do(c)
			body := text(resp)
			if s.status != 0 && resp.StatusCode != s.status || s.status == 0 && resp.StatusCode < 400 && s.want != "" || !strings.Contains(body, s.want) {
				t.Errorf("%d %s\nwant %d %s", resp.StatusCode, body, s.status, s.want)
			}
			if resp.StatusCode >= 400 && resp.Header.Get("Content-Type") != api.ProblemType {
				t.Errorf("content type %q", resp.Header.Get("Content-Type"))
			}
		})
	}
}

func must2[A any](a A, _ ed25519.PrivateKey, err error) A {
	if err != nil {
		panic(err)
	}
	return a
}

func mustKey(s string) ssh.PublicKey { return must(parseKey(s)) }

func escape(s string) string { return strings.NewReplacer("/", "%2F", "+", "%2B").Replace(s) }

func TestDeviceLogin(t *testing.T) {
	h := newHouse(t)
	d := callJSON[api.DeviceLogin](h, "", "POST", "/v1/login/device", api.Empty{}, 200)
	callJSON[api.Empty](h, "", "POST", "/v1/login/device/token", api.DeviceInput{Device: d.Device}, 202)
	resp := h.do(httpCall{
		method: "POST", path: "/device", cookie: h.token("alice"), header: map[string]string{"Sec-Fetch-Site": "same-origin"},
		body: "action=confirm&code=" + d.Code,
	})
	if body := text(resp); resp.StatusCode != 200 || !strings.Contains(body, "Confirmed") {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	l := callJSON[api.Login](h, "", "POST", "/v1/login/device/token", api.DeviceInput{Device: d.Device}, 200)
	if l.User != "alice" || l.Token == "" {
		t.Fatalf("%+v", l)
	}
	callJSON[api.Problem](h, "", "POST", "/v1/login/device/token", api.DeviceInput{Device: d.Device}, 404)
}

func TestSetup(t *testing.T) {
	h := newHouse(t)
	link := callJSON[api.SetupLink](h, "root", "POST", "/v1/users/bob/setup", api.Empty{}, 200)
	_, token, _ := strings.Cut(link.URL, "token=")
	callJSON[api.Problem](h, "", "POST", "/v1/setup", api.SetupInput{Token: token, Password: "short"}, 422)
	callJSON[api.Empty](h, "", "POST", "/v1/setup", api.SetupInput{Token: token, Password: "a brand new one 9"}, 200)
	callJSON[api.Problem](h, "", "POST", "/v1/setup", api.SetupInput{Token: token, Password: "a brand new one 9"}, 404)
	callJSON[api.Login](h, "", "POST", "/v1/login", api.LoginInput{User: "bob", Password: "a brand new one 9"}, 200)
	callJSON[api.Problem](h, "", "POST", "/v1/login", api.LoginInput{User: "bob", Password: password("bob")}, 401)
}

func TestOpenAPI(t *testing.T) {
	h := newHouse(t)
	resp := h.do(httpCall{method: "GET", path: "/api/openapi.json"})
	got := text(resp)
	const golden = "testdata/openapi.json"
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the OpenAPI document is not %s; UPDATE_GOLDEN=1 writes it", golden)
	}
	var doc struct {
		OpenAPI string                    `json:"openapi"`
		Paths   map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(got), &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%v, version %s", err, doc.OpenAPI)
	}
	n := 0
	for _, rt := range h.server.table {
		if rt.api == nil {
			continue
		}
		n++
		op, ok := doc.Paths[rt.path][strings.ToLower(rt.method)].(map[string]any)
		if !ok {
			t.Errorf("%s %s is not in the document", rt.method, rt.path)
			continue
		}
		if _, secured := op["security"]; secured != (rt.auth == login) {
			t.Errorf("%s %s: security %v in the document", rt.method, rt.path, secured)
		}
	}
	if n < 50 {
		t.Errorf("only %d operations", n)
	}
	for _, word := range []string{"ErrorModel", "$schema\"", "/docs"} {
		if strings.Contains(got, word) {
			t.Errorf("the document holds %s", word)
		}
	}
}
