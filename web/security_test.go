package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/web/api"
)

// path fills the wildcards of a route.
func (rt route) example() string {
	return strings.NewReplacer("{id}", "REQ-0000000000000000", "{name}", "db01", "{fingerprint}", "SHA256:x", "{version}", "0", "{file}", "app.css", "{kind}", "slack", "{team}", "T1", "{account}", "U1", "{what}", "events").Replace(rt.path)
}

// TestEveryRouteSaysWhoMayCallIt lists the whole surface that needs no login,
// and calls every other route without one.
func TestEveryRouteSaysWhoMayCallIt(t *testing.T) {
	h := newHouse(t)
	want := []string{
		"POST /v1/login", "POST /v1/login/device", "POST /v1/login/device/token", "POST /v1/login/passkey", "POST /v1/login/breakglass", "POST /v1/setup",
		"GET /v1/authorities", "GET /v1/krl", "POST /v1/bootstrap", "GET /v1/version", "GET /healthz", "GET /api/openapi.json",
		"POST /slack/{what}", "GET /static/{version}/{file}", "GET /login", "POST /login", "GET /login/breakglass", "POST /login/breakglass", "GET /setup", "POST /setup",
	}
	var opened []string
	for i, rt := range h.server.table {
		switch rt.auth {
		case open:
			opened = append(opened, rt.pattern())
			continue
		case login, token:
		default:
			t.Errorf("%s does not say who may call it", rt.pattern())
		}
		if (rt.api == nil) == (rt.page == nil) {
			t.Errorf("%s is neither of the API nor a page, or both", rt.pattern())
		}
		// Each from another address, so that none is refused for being the hundredth.
		from := fmt.Sprintf("198.51.%d.%d:1", i/250, i%250+1)
		for _, c := range []httpCall{
			{}, {token: "rubbish"}, {cookie: "rubbish"}, {header: map[string]string{"Authorization": "Basic YWxpY2U6eA=="}},
			{token: h.token("alice"), cookie: h.token("alice")}, // which of them counts?
			{header: map[string]string{"Cookie": "drawbolt=" + h.token("alice")}},
		} {
			c.method, c.path, c.from = rt.method, rt.example(), from
			resp := h.do(c)
			switch {
			case c.cookie != "" && rt.method != "GET" && resp.StatusCode == 403:
				// A change under a cookie must say where it comes from, whatever the cookie.
			case (rt.api != nil || rt.auth == token) && resp.StatusCode != 401:
				t.Errorf("%s without a login: %d", rt.pattern(), resp.StatusCode)
			case rt.page != nil && rt.auth == login && (resp.StatusCode != 303 || !strings.HasPrefix(resp.Header.Get("Location"), "/login")):
				t.Errorf("%s without a login: %d %s", rt.pattern(), resp.StatusCode, resp.Header.Get("Location"))
			}
		}
	}
	if !slices.Equal(opened, want) {
		t.Errorf("open routes:\n%v\nwant\n%v", opened, want)
	}
	bad := *h.server
	bad.table = []route{{method: "GET", path: "/oops", page: (*Server).healthz}}
	if _, err := bad.build(); err == nil {
		t.Error("a route that does not say who may call it was built")
	}
}

func TestNothingElseAnswers(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		method, path string
		status       int
		media        string
	}{
		{"GET", "/nothing", 404, "text/html"}, {"GET", "/v1/nothing", 404, api.ProblemType}, {"DELETE", "/v1/login", 405, api.ProblemType},
		{"PATCH", "/v1/requests", 405, api.ProblemType}, {"GET", "/logout", 405, "text/html"}, {"GET", "/docs", 404, "text/html"},
		{"GET", "/openapi.json", 404, "text/html"}, {"GET", "/schemas/Role.json", 404, "text/html"}, {"GET", "/static/0/app.css", 404, "text/html"},
		{"GET", "/debug/pprof/", 404, "text/html"}, {"GET", "/readyz", 404, "text/html"},
	} {
		resp := h.do(httpCall{method: c.method, path: c.path})
		if resp.StatusCode != c.status || !strings.HasPrefix(resp.Header.Get("Content-Type"), c.media) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, resp.StatusCode, resp.Header.Get("Content-Type"), c.status, c.media)
		}
		if c.status == 405 && resp.Header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", c.method, c.path)
		}
	}
}

func TestHeaders(t *testing.T) {
	h := newHouse(t)
	for _, path := range []string{"/", "/login", "/v1/me", "/v1/version", "/nothing", "/healthz", "/api/openapi.json", h.server.assets.path() + "app.css"} {
		head := h.do(httpCall{method: "GET", path: path}).Header
		for name, want := range map[string]string{
			"Content-Security-Policy":    contentPolicy,
			"X-Content-Type-Options":     "nosniff",
			"Referrer-Policy":            "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin",
			"Strict-Transport-Security":  "max-age=31536000",
		} {
			if head.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, head.Get(name))
			}
		}
		if static := strings.HasPrefix(path, "/static/"); static != strings.Contains(head.Get("Cache-Control"), "immutable") || !static && head.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control is %q", path, head.Get("Cache-Control"))
		}
	}
	for _, word := range []string{"unsafe", "http:", "*"} {
		if strings.Contains(contentPolicy, word) {
			t.Errorf("the content policy holds %s", word)
		}
	}
}

// TestCrossSite sends one change the ways that browsers and others send it.
func TestCrossSite(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		name   string
		cookie bool
		header map[string]string
		ok     bool
	}{
		{"a browser on our page", true, map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "https://gw.example.com"}, true},
		{"an old browser on our page", true, map[string]string{"Origin": "https://gw.example.com"}, true},
		{"typed by the person", true, map[string]string{"Sec-Fetch-Site": "none"}, true},
		{"another site", true, map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, false},
		{"a sister site", true, map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "https://evil.example.com"}, false},
		{"an old browser on another site", true, map[string]string{"Origin": "https://evil.example"}, false},
		{"a sandboxed frame", true, map[string]string{"Origin": "null"}, false},
		{"another port", true, map[string]string{"Origin": "https://gw.example.com:8444"}, false},
		{"our page without TLS", true, map[string]string{"Origin": "http://gw.example.com"}, false},
		{"a cookie and no origin", true, nil, false},
		{"the command line", false, nil, true},
		{"a token from another site", false, map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := h.ask("INC-1 " + c.name)
			call := httpCall{method: "POST", path: "/v1/requests/" + r.ID + "/cancel", header: c.header}
			if c.cookie {
				call.cookie = h.token("alice")
			} else {
				call.token = h.token("alice")
			}
			resp := h.do(call)
			if (resp.StatusCode == 200) != c.ok || !c.ok && resp.StatusCode != 403 {
				t.Errorf("API: %d %s", resp.StatusCode, text(resp))
			}
			state := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200).State
			if (state == api.Cancelled) != c.ok {
				t.Errorf("the request is %s", state)
			}
			if !c.cookie {
				return
			}
			call = httpCall{method: "POST", path: "/logout", cookie: call.cookie, header: c.header, body: "x=y"}
			if resp := h.do(call); (resp.StatusCode == 303) != c.ok {
				t.Errorf("page: %d", resp.StatusCode)
			}
		})
	}
}

// TestGetChangesNothing calls every GET as everybody, and wants the log to tell
// of nothing but looking.
func TestGetChangesNothing(t *testing.T) {
	h := newHouse(t)
	r := h.ask("INC-1 x")
	before := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200)
	for _, rt := range h.server.table {
		if rt.method != "GET" {
			continue
		}
		for _, name := range []string{"alice", "bob", "root"} {
			path := strings.ReplaceAll(rt.example(), "REQ-0000000000000000", r.ID)
			for _, q := range []string{"", "?action=approve&digest=" + r.Digest + "&seconds=3600", "?_method=POST&action=cancel"} {
				h.do(httpCall{method: "GET", path: path + q, token: h.token(name)})
			}
		}
	}
	after := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200)
	if after.Version != before.Version || after.State != api.Pending {
		t.Errorf("the request was %s %d and is %s %d", before.State, before.Version, after.State, after.Version)
	}
}

// TestHostileJSON sends bodies that two readers could read differently, or that
// are too much.
func TestHostileJSON(t *testing.T) {
	h := newHouse(t)
	token := h.token("alice")
	const secret = "hunter2hunter2"
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for _, c := range []struct {
		name, path, body string
		status           int
		want             string
	}{
		{"fine", "/v1/requests", `{"target":"db02","account":"root","reason":"INC-1 x"}`, 200, `"pending"`},
		{"unknown key", "/v1/requests", `{"target":"db02","account":"root","reason":"x","durationseconds":1}`, 422, "durationseconds"},
		{"key in another case", "/v1/requests", `{"Target":"db02","account":"root","reason":"x"}`, 422, "lower-case"},
		{"both cases", "/v1/requests", `{"target":"db02","TARGET":"db01","account":"root","reason":"x"}`, 422, "lower-case"},
		{"long s", "/v1/requests", `{"target":"db02","account":"root","rea\u017fon":"x"}`, 422, "lower-case"},
		{"twice", "/v1/requests", `{"target":"db02","account":"guest","account":"root","reason":"x"}`, 422, "account is there twice"},
		{"twice by escape", "/v1/requests", `{"target":"db02","account":"guest","\u0061ccount":"root","reason":"x"}`, 422, "twice"},
		{"twice deep down", "/v1/targets", `{"name":"x","address":"x:22","labels":{"tier":"0","tier":"2"},"accounts":[]}`, 422, "twice"},
		{"something behind", "/v1/requests", `{"target":"db02","account":"root","reason":"x"} {}`, 422, "follows the end"},
		{"deep", "/v1/requests", deep, 422, "nested"},
		{"deep lists", "/v1/requests", strings.Repeat("[", 100000/2), 422, "nested"},
		{"large", "/v1/requests", `{"target":"db02","account":"root","reason":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "64 KiB"},
		{"control character", "/v1/requests", `{"target":"db02","account":"root","reason":"a\u001b[2Jb"}`, 422, "control character U+001B"},
		{"line feed", "/v1/requests", `{"target":"db02","account":"root","reason":"a\nb"}`, 422, "U+000A"},
		{"not UTF-8", "/v1/requests", "{\"target\":\"db02\",\"account\":\"root\",\"reason\":\"\xff\"}", 422, "UTF-8"},
		{"no JSON", "/v1/requests", `target=db02`, 422, "not JSON"},
		{"cut short", "/v1/requests", `{"target":"db02"`, 422, "not JSON"},
		{"comma too many", "/v1/requests", `{"target":"db02","account":"root","reason":"x",}`, 422, "not JSON"},
		{"a list", "/v1/requests", `[]`, 422, "object"},
		{"null", "/v1/requests", `null`, 422, "object"},
		{"a number as text", "/v1/requests", `{"target":"db02","account":"root","reason":"x","duration_seconds":"1"}`, 422, "duration_seconds"},
		{"a number too large", "/v1/requests", `{"target":"db02","account":"root","reason":"x","duration_seconds":9223372036854775807}`, 422, "DB-1002"},
		{"a negative one", "/v1/requests", `{"target":"db02","account":"root","reason":"x","duration_seconds":-1}`, 422, "DB-1002"},
		{"a fraction", "/v1/requests", `{"target":"db02","account":"root","reason":"x","duration_seconds":0.5}`, 422, "duration_seconds"},
		{"bidi override", "/v1/requests", `{"target":"db02","account":"root","reason":"a\u202eb"}`, 422, "U+202E"},
		{"key of a wrong name beside a password", "/v1/login", `{"usr":"alice","password":"` + secret + `"}`, 422, "usr"},
		{"password as the key", "/v1/login", `{"user":"alice","` + secret + `!":"x"}`, 422, "key near byte"},
		{"password of a wrong type", "/v1/login", `{"user":"alice","password":["` + secret + `"]}`, 422, "body.password"},
		{"password with a tab", "/v1/login", `{"user":"alice","password":"` + secret + `\t"}`, 422, "U+0009"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := h.do(httpCall{method: "POST", path: c.path, token: token, body: c.body, from: fmt.Sprintf("203.0.113.%d:1", len(c.name))})
			body := text(resp)
			if resp.StatusCode != c.status || !strings.Contains(body, c.want) {
				t.Errorf("%d %s\nwant %d %s", resp.StatusCode, body, c.status, c.want)
			}
			if strings.Contains(body, secret) {
				t.Errorf("the answer holds what was sent: %s", body)
			}
		})
	}
	if strings.Contains(h.log.String(), secret) {
		t.Error("the log holds a password")
	}
	for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=utf-16", ""} {
		resp := h.do(httpCall{method: "POST", path: "/v1/requests", token: token, body: `{"target":"db02","account":"root","reason":"x"}`, header: map[string]string{"Content-Type": media}})
		if resp.StatusCode != 415 {
			t.Errorf("content type %q: %d", media, resp.StatusCode)
		}
	}
	resp := h.do(httpCall{method: "GET", path: "/v1/me", token: token, body: "{}"})
	if resp.StatusCode != 422 {
		t.Errorf("GET with a body: %d", resp.StatusCode)
	}
}

// FuzzStrict holds checkJSON to its promise: what it takes, encoding/json reads
// in one way only, so that writing it again and reading that gives the same.
func FuzzStrict(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,2,{"b":"c"}]}`, `[1,]`, `{"a":1,"a":2}`, `"\ud800"`, `1e999`, `{"a":1}{}`, `nul`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkJSON(b) != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatalf("%q is not JSON", b)
		}
		var v any
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		again, err := json.Marshal(v)
		if err != nil || checkJSON(again) != nil {
			t.Fatalf("%q became %q: %v", b, again, err)
		}
	})
}

func TestSource(t *testing.T) {
	h := newHouse(t, func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	})
	for _, c := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:1", "", "192.0.2.1"},
		{"192.0.2.1:1", "8.8.8.8", "192.0.2.1"},
		{"10.0.0.1:1", "", "10.0.0.1"},
		{"10.0.0.1:1", "8.8.8.8", "8.8.8.8"},
		{"10.0.0.1:1", "1.1.1.1, 8.8.8.8", "8.8.8.8"},
		{"10.0.0.1:1", "1.1.1.1, 8.8.8.8, 10.9.9.9", "8.8.8.8"},
		{"10.0.0.1:1", "8.8.8.8, rubbish", "10.0.0.1"},
		{"10.0.0.1:1", "8.8.8.8, rubbish, 10.9.9.9", "10.9.9.9"},
		{"10.0.0.1:1", "8.8.8.8:1234", "10.0.0.1"},
		{"10.0.0.1:1", "10.1.1.1, 10.2.2.2", "10.1.1.1"},
		{"10.0.0.1:1", "::ffff:8.8.8.8", "8.8.8.8"},
		{"[::ffff:10.0.0.1]:1", "8.8.8.8", "8.8.8.8"},
		{"[fd00::1]:1", "2001:db8::1", "2001:db8::1"},
		{"[fe80::1%eth0]:1", "8.8.8.8", "fe80::1"},
		{"10.0.0.1:1", strings.Repeat("10.0.0.1,", 100) + "10.0.0.2", "10.0.0.1"},
		{"rubbish", "8.8.8.8", "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		for _, other := range []string{"Forwarded", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip"} {
			r.Header.Set(other, "9.9.9.9")
		}
		if got := h.server.source(r).String(); got != c.want {
			t.Errorf("peer %s, forwarded for %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.0.1:1"
	r.Header["X-Forwarded-For"] = []string{"8.8.8.8", "9.9.9.9"} // two headers are one list
	if got := h.server.source(r).String(); got != "9.9.9.9" {
		t.Errorf("two headers: %s", got)
	}
}

// sameMoment has all that is counted come at once, however slow the machine is.
func (h *house) sameMoment() {
	at := time.Now()
	for _, l := range []*limiter{h.server.sources, h.server.attempts, h.server.persons, h.server.checks} {
		l.now = func() time.Time { return at }
	}
}

func TestLimits(t *testing.T) {
	h := newHouse(t)
	h.sameMoment()
	refused := 0
	for range 100 {
		resp := h.do(httpCall{method: "POST", path: "/v1/login", body: `{"user":"nobody","password":"x"}`, from: "203.0.113.9:1"})
		if resp.StatusCode == 429 {
			refused++
			if resp.Header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		}
	}
	if refused < 30 {
		t.Errorf("of 100 logins from one address %d were refused", refused)
	}
	if resp := h.do(httpCall{method: "GET", path: "/v1/version", from: "203.0.113.10:1"}); resp.StatusCode != 200 {
		t.Errorf("another address: %d", resp.StatusCode)
	}
	// One network of IPv6 is one source.
	refused = 0
	for i := range 150 {
		if h.do(httpCall{method: "GET", path: "/v1/version", from: fmt.Sprintf("[2001:db8::%x]:1", i+1)}).StatusCode == 429 {
			refused++
		}
	}
	if refused < 30 {
		t.Errorf("of 150 requests from one /64 %d were refused", refused)
	}
}

// TestLimiterIsBounded floods a limiter from more addresses than it tells apart.
func TestLimiterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 2, time.Now)
		guessing := netip.MustParseAddr("192.0.2.1")
		l.allow(guessing)
		l.allow(guessing)
		allowed := 0
		for i := range 3 * maxSources {
			if l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})) {
				allowed++
			}
		}
		if n := len(l.bySeen); n > maxSources {
			t.Errorf("%d sources are kept", n)
		}
		if allowed > maxSources+2 {
			t.Errorf("%d requests were allowed", allowed)
		}
		if l.allow(guessing) {
			t.Error("the flood has washed away who was counted")
		}
		time.Sleep(2 * time.Minute)
		if !l.allow(netip.MustParseAddr("172.16.0.1")) || len(l.bySeen) > 10 {
			t.Errorf("after two minutes %d are kept", len(l.bySeen))
		}
	})
}

func TestLongPollsAreBounded(t *testing.T) {
	h := newHouse(t)
	r := h.ask("INC-1 x")
	token := h.token("alice")
	path := fmt.Sprintf("/v1/requests/%s?wait_seconds=20&version=%d", r.ID, r.Version)
	answers := make(chan int, maxPolls+1)
	for range maxPolls + 1 {
		go func() { answers <- h.do(httpCall{method: "GET", path: path, token: token}).StatusCode }()
	}
	if got := <-answers; got != 429 {
		t.Fatalf("the first to answer of %d polls: %d", maxPolls+1, got)
	}
	must(h.broker.Cancel(t.Context(), h.by("alice"), r.ID))
	for range maxPolls {
		if got := <-answers; got != 200 {
			t.Errorf("a poll: %d", got)
		}
	}
	if n := h.polls(); n != 0 {
		t.Errorf("%d users are still counted", n)
	}
}

// TestSession follows the cookie of a browser from login to logout.
func TestSession(t *testing.T) {
	h := newHouse(t)
	same := map[string]string{"Sec-Fetch-Site": "same-origin"}
	form := func(cookie, next string) *http.Response {
		return h.do(httpCall{method: "POST", path: "/login", cookie: cookie, header: same, body: "user=alice&password=" + strings.ReplaceAll(strings.ReplaceAll(password("alice"), "&", "%26"), " ", "+") + "&next=" + next})
	}
	resp := form("", "%2Fr%2FREQ-1")
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/r/REQ-1" || len(resp.Cookies()) != 1 {
		t.Fatalf("login: %d %v %s", resp.StatusCode, resp.Header, text(resp))
	}
	c := resp.Cookies()[0]
	if c.Name != "__Host-drawbolt" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.Expires.Before(time.Now()) {
		t.Errorf("cookie: %+v", c)
	}
	home := func(cookie string) int { return h.do(httpCall{method: "GET", path: "/", cookie: cookie}).StatusCode }
	if got := home(c.Value); got != 200 {
		t.Errorf("home: %d", got)
	}
	// A second login in the same browser is a fresh one and ends the first.
	second := form(c.Value, "/").Cookies()[0]
	if second.Value == c.Value || home(c.Value) != 303 || home(second.Value) != 200 {
		t.Errorf("after a second login: the first %d, the second %d", home(c.Value), home(second.Value))
	}
	resp = h.do(httpCall{method: "POST", path: "/logout", cookie: second.Value, header: same})
	if resp.StatusCode != 303 || resp.Cookies()[0].MaxAge >= 0 || home(second.Value) != 303 {
		t.Errorf("logout: %d %v, then %d", resp.StatusCode, resp.Cookies(), home(second.Value))
	}
	resp = h.do(httpCall{method: "POST", path: "/login", header: same, body: "user=alice&password=wrong"})
	if body := text(resp); resp.StatusCode != 401 || len(resp.Cookies()) != 0 || !strings.Contains(body, "DB-4002") || strings.Contains(body, "wrong\"") {
		t.Errorf("wrong password: %d %s", resp.StatusCode, body)
	}
	for next, want := range map[string]string{
		"https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/", "/\t/evil.example": "/", "javascript:alert(1)": "/", "": "/",
		"/inbox": "/inbox", "/r/x?y=z": "/r/x?y=z", "/" + strings.Repeat("x", 600): "/", "/a\nSet-Cookie: x": "/", "/é": "/",
	} {
		if got := localPath(next); got != want {
			t.Errorf("next %q: %q, want %q", next, got, want)
		}
	}
}

// TestEscaping puts markup wherever a person may write something.
func TestEscaping(t *testing.T) {
	h := newHouse(t)
	const evil = `</title><script>alert(1)</script><img src=x onerror=alert(1)>" onmouseover="alert(1)' {{7*7}} javascript:alert(1)`
	r := callJSON[api.Request](h, "alice", "POST", "/v1/requests", api.RequestInput{Target: "db01", Account: "root", Reason: evil}, 200)
	must(h.broker.Approve(t.Context(), h.by("bob"), r.ID, r.Digest, broker.Answer{Comment: evil}))
	must(h.broker.Revoke(t.Context(), h.by("dave"), r.ID, evil))
	x := h.record("echo '"+evil+"'", evil)
	d, _, err := h.logins.StartDevice(t.Context(), netip.MustParseAddr("192.0.2.1"), `<script>alert(1)</script>`)
	if err != nil {
		t.Fatal(err)
	}
	query := strings.NewReplacer(" ", "%20", "<", "%3C", ">", "%3E", `"`, "%22", "'", "%27", "{", "%7B", "}", "%7D").Replace(evil)
	same := map[string]string{"Sec-Fetch-Site": "same-origin"}
	tag := regexp.MustCompile(`(?i)<script>|<img|onmouseover="|href="javascript| style=|<style|<script[^>]*>[^<]`)
	for _, c := range []httpCall{
		{method: "GET", path: "/", cookie: h.token("alice")},
		{method: "GET", path: "/r/" + r.ID, cookie: h.token("alice")},
		{method: "GET", path: "/r/" + r.ID, cookie: h.token("bob")},
		{method: "GET", path: "/sessions/" + x.ID, cookie: h.token("carol")},
		{method: "GET", path: "/sessions", cookie: h.token("carol")},
		{method: "GET", path: "/device?code=" + d.Code, cookie: h.token("alice")},
		{method: "GET", path: "/ask?target=" + query + "&account=" + query + "&reason=" + query, cookie: h.token("alice")},
		{method: "POST", path: "/ask", cookie: h.token("alice"), header: same, body: "target=" + query + "&account=" + query + "&reason=" + query},
		{method: "POST", path: "/login", header: same, body: "user=" + query + "&password=x&next=" + query},
		{method: "GET", path: "/login?next=" + query},
		{method: "GET", path: "/" + query, cookie: h.token("alice")},
		{method: "GET", path: "/r/" + query, cookie: h.token("alice")},
		{method: "POST", path: "/r/" + r.ID, cookie: h.token("alice"), header: same, body: "action=deny&note=" + query},
	} {
		resp := h.do(c)
		body := text(resp)
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || resp.StatusCode >= 500 {
			t.Errorf("%s %s: %d %s", c.method, c.path, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		if at := tag.FindStringIndex(body); at != nil {
			t.Errorf("%s %s: %.200s", c.method, c.path, body[at[0]:])
		}
	}
	// The transcript is text, is downloaded, and does nothing to a terminal.
	resp := h.do(httpCall{method: "GET", path: "/sessions/" + x.ID + "/transcript", cookie: h.token("carol")})
	if resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment") || !strings.Contains(text(resp), "alert(1)") {
		t.Errorf("transcript: %v", resp.Header)
	}
}

// TestApprovalPageIsSmall adds up what a phone loads to decide.
func TestApprovalPageIsSmall(t *testing.T) {
	h := newHouse(t)
	r := h.ask("INC-1234 replication lag")
	page := text(h.do(httpCall{method: "GET", path: "/r/" + r.ID, cookie: h.token("bob")}))
	packed := h.do(httpCall{method: "GET", path: "/r/" + r.ID, cookie: h.token("bob"), header: map[string]string{"Accept-Encoding": "gzip, br"}})
	total := len(text(packed))
	if packed.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("the page is not packed: %v", packed.Header)
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="(/static/[^"]+)"`).FindAllStringSubmatch(page, -1) {
		resp := h.do(httpCall{method: "GET", path: m[1], header: map[string]string{"Accept-Encoding": "gzip"}})
		if resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: %d %v", m[1], resp.StatusCode, resp.Header)
		}
		total += len(text(resp))
	}
	t.Logf("the page is %d bytes, with everything it loads %d", len(page), total)
	if total > 30_000 {
		t.Errorf("the approval page loads %d bytes", total)
	}
	for _, want := range []string{"alice", "root", "db01", "INC-1234 replication lag", "rule with-approval", "1 of @approvers", "192.0.2.1", `value="approve"`, `value="deny"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not hold %q", want)
		}
	}
}

// TestForms drives the decisions of the pages as a browser without scripts does.
func TestForms(t *testing.T) {
	h := newHouse(t)
	same := map[string]string{"Sec-Fetch-Site": "same-origin"}
	post := func(name, path, body string) (int, string) {
		resp := h.do(httpCall{method: "POST", path: path, cookie: h.token(name), header: same, body: body})
		return resp.StatusCode, text(resp) + resp.Header.Get("Location")
	}
	status, body := post("alice", "/ask", "target=db01&account=root&reason=INC-1+x&seconds=3600")
	id := regexp.MustCompile(`REQ-[0-9a-z]{16}`).FindString(body)
	if status != 303 || id == "" {
		t.Fatalf("ask: %d %s", status, body)
	}
	digest := callJSON[api.Request](h, "bob", "GET", "/v1/requests/"+id, nil, 200).Digest
	for _, c := range []struct {
		who, path, body string
		status          int
		want            string
	}{
		{"alice", "/ask", "target=db01&account=nobody&reason=x&seconds=60", 0, "DB-"},
		{"alice", "/r/" + id, "action=approve&seconds=3600&digest=" + digest, 403, "DB-"},
		{"bob", "/r/" + id, "action=deny&note=&digest=" + digest, 422, "a reason is needed"},
		{"bob", "/r/" + id, "action=approve&seconds=&digest=" + digest, 422, "choose for how long"},
		{"bob", "/r/" + id, "action=approve&seconds=99999&digest=" + digest, 422, "shorten"},
		{"bob", "/r/" + id, "action=approve&seconds=3600&digest=00", 409, "not what you were shown"},
		{"bob", "/r/" + id, "action=explode", 422, "no such decision"},
		{"bob", "/r/" + id, "action=approve&seconds=1800&note=ok&digest=" + digest, 303, "/r/" + id},
		{"dave", "/r/" + id, "action=deny&note=late&digest=" + digest, 409, "already approved by bob"},
		{"alice", "/r/" + id, "action=extend&seconds=900", 303, "/r/" + id},
		{"eve", "/r/" + id, "action=end", 404, "DB-"},
		{"dave", "/r/" + id, "action=revoke&note=enough", 303, "/r/" + id},
		{"alice", "/r/" + id, "action=end", 409, "DB-"},
	} {
		if status, body := post(c.who, c.path, c.body); c.status != 0 && status != c.status || c.status == 0 && status < 400 || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d, want %d %s\n%s", c.who, c.body, status, c.status, c.want, body)
		}
	}
	if r := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+id, nil, 200); r.Grant.EndReason != api.Revoked || r.Grant.EndedBy != "dave" {
		t.Errorf("%+v", r.Grant)
	}
}

// TestErrors turns every kind into its answer, and tells nothing of the others.
func TestErrors(t *testing.T) {
	h := newHouse(t)
	r := httptest.NewRequest("GET", "/v1/x", nil)
	for _, c := range []struct {
		err    error
		status int
		detail string
	}{
		{access.ErrNotFound, 404, "no such thing"},
		{fmt.Errorf("read x: %w", access.ErrNotFound), 404, "no such thing"},
		{&access.Error{Kind: access.ErrDenied, Text: "no", Rule: "r.1"}, 403, "no"},
		{access.ErrConflict, 409, ""}, {access.Invalid("bad %d", 7), 422, "bad 7"},
		{fmt.Errorf("%w (%w)", &access.Error{Kind: access.ErrUnauthenticated, Text: "not you"}, access.ErrNotFound), 401, "not you"},
		{errors.Join(access.ErrUnavailable, errors.New("disk secret")), 503, ""},
		{errors.New("open /etc/secret: no"), 500, "internal error"},
		{&access.Error{Kind: errors.New("new kind"), Text: "secret"}, 500, "internal error"},
	} {
		p := h.server.problem(r, c.err)
		if p.Status != c.status || !strings.Contains(p.Detail, c.detail) || strings.Contains(p.Detail, "secret") {
			t.Errorf("%v: %d %q", c.err, p.Status, p.Detail)
		}
		if p.Status >= 500 && (p.ID == "" || !strings.Contains(h.log.String(), p.ID)) {
			t.Errorf("%v: id %q is not in the log", c.err, p.ID)
		}
	}
	if !strings.Contains(h.log.String(), "/etc/secret") {
		t.Error("the log does not hold the whole of an internal error")
	}
}

// TestServe runs the server on a socket: headers that dribble are cut, and a
// long poll does not hold up the end.
func TestServe(t *testing.T) {
	h := newHouse(t)
	r := h.ask("INC-1 x")
	ln := must(net.Listen("tcp", "127.0.0.1:0"))
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { done <- h.server.Serve(ctx, ln) }()
	req := must(http.NewRequest("GET", fmt.Sprintf("http://%s/v1/requests/%s?wait_seconds=60&version=%d", ln.Addr(), r.ID, r.Version), nil))
	req.Header.Set("Authorization", "Bearer "+h.token("alice"))
	polled := make(chan int, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("long poll: %v", err)
			polled <- 0
			return
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		polled <- resp.StatusCode
	}()
	for h.polls() == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	began := time.Now()
	stop()
	if got := <-polled; got != 200 {
		t.Errorf("the long poll was answered with %d", got)
	}
	if err := <-done; err != nil || time.Since(began) > 30*time.Second {
		t.Errorf("Serve returned %v after %v", err, time.Since(began))
	}
}

// polls is how many people wait for a request now.
func (h *house) polls() int {
	h.server.polls.mu.Lock()
	defer h.server.polls.mu.Unlock()
	return len(h.server.polls.of)
}

// TestDeadlines: a body that dribbles is cut, and an answer that takes longer
// than a body may is not.
func TestDeadlines(t *testing.T) {
	h := newHouse(t)
	h.server.bodyWithin = 1500 * time.Millisecond
	srv := httptest.NewServer(h.server.Handler())
	defer srv.Close()
	conn := must(net.Dial("tcp", srv.Listener.Addr().String()))
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	began := time.Now()
	conn.SetReadDeadline(began.Add(time.Minute))
	answer, _ := io.ReadAll(conn) // however it ends
	if !strings.Contains(string(answer), "did not arrive whole") || time.Since(began) > 20*time.Second {
		t.Errorf("after %v: %q", time.Since(began), answer)
	}

	r := h.ask("INC-1 x")
	req := must(http.NewRequest("GET", fmt.Sprintf("%s/v1/requests/%s?wait_seconds=3&version=%d", srv.URL, r.ID, r.Version), nil))
	req.Header.Set("Authorization", "Bearer "+h.token("alice"))
	began = time.Now()
	resp := must(http.DefaultClient.Do(req))
	defer resp.Body.Close()
	if text(resp); resp.StatusCode != 200 || time.Since(began) < 2900*time.Millisecond {
		t.Errorf("a poll of 3 s was answered with %d after %v", resp.StatusCode, time.Since(began))
	}
}

func TestOps(t *testing.T) {
	h := newHouse(t)
	get := func(path string) int {
		w := httptest.NewRecorder()
		h.server.Ops().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code
	}
	if get("/healthz") != 200 || get("/readyz") != 200 {
		t.Error("a server that is ready says it is not")
	}
	h.ready = errors.New("the database does not answer")
	if get("/healthz") != 200 || get("/readyz") != 503 {
		t.Error("a server that is not ready says it is")
	}
}

// broken is a recording that only reads.
type broken struct{ io.Reader }

func (broken) Seek(int64, int) (int64, error) { return 0, errors.New("the disk broke") }
func (broken) Close() error                   { return nil }

// salvaged is a recording of which a part could not be read.
type salvaged struct{ io.ReadSeeker }

func (salvaged) Close() error { return nil }
func (salvaged) Damage() error {
	return errors.New("bytes 1 to 2 of the recording cannot be read: \x1b[2J")
}

// TestDamagedRecording: all that can be read of a damaged recording comes, and
// then, what could not be; nothing of it acts on a terminal.
func TestDamagedRecording(t *testing.T) {
	h := newHouse(t)
	x := h.record("uptime", "up\r\n")
	h.server.c.OpenCast = func(context.Context, access.Session) (io.ReadSeekCloser, error) {
		return salvaged{bytes.NewReader(h.casts[x.ID])}, nil
	}
	srv := httptest.NewServer(h.server.Handler())
	defer srv.Close()
	c := api.Client{Server: srv.URL, Token: h.token("carol"), HTTP: srv.Client(), Timeout: 10 * time.Second}
	for _, format := range []string{"cast", "txt"} {
		r := must(c.Recording(t.Context(), x.ID, format))
		b, err := io.ReadAll(r)
		r.Close()
		d := (*api.Damaged)(nil)
		if !errors.As(err, &d) || d.Text != `bytes 1 to 2 of the recording cannot be read: \x1b[2J` || !bytes.Contains(b, []byte("up")) {
			t.Errorf("%s: %d bytes, %v", format, len(b), err)
		}
	}
}

// TestRecordingElsewhere: who may see a recording that cannot be had at once reads
// why, and when.
func TestRecordingElsewhere(t *testing.T) {
	for _, test := range []struct {
		err  error
		code string
		want string
	}{
		{recorder.ErrArchived, "DB-6100", "being brought back"},
		{fs.ErrNotExist, "DB-6101", "is not where recordings are kept"},
	} {
		h := newHouse(t, func(c *Config) {
			c.OpenCast = func(context.Context, access.Session) (io.ReadSeekCloser, error) {
				return nil, fmt.Errorf("open /var/secret: %w", test.err)
			}
		})
		x := h.record("uptime", "up\r\n")
		srv := httptest.NewServer(h.server.Handler())
		defer srv.Close()
		req := must(http.NewRequest("GET", srv.URL+"/v1/sessions/"+x.ID+"/recording", nil))
		req.Header.Set("Authorization", "Bearer "+h.token("carol"))
		resp := must(http.DefaultClient.Do(req))
		defer resp.Body.Close()
		body := string(must(io.ReadAll(resp.Body)))
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, test.code) || !strings.Contains(body, test.want) || strings.Contains(body, "secret") {
			t.Errorf("%v: %d %s", test.err, resp.StatusCode, body)
		}
	}
}

// TestBrokenRecordingIsCut wants a reader to notice that a recording has broken
// off, however much of it came.
func TestBrokenRecordingIsCut(t *testing.T) {
	h := newHouse(t, func(c *Config) {
		c.OpenCast = func(context.Context, access.Session) (io.ReadSeekCloser, error) {
			return broken{io.MultiReader(strings.NewReader(strings.Repeat("x", 100_000)), iotest.ErrReader(errors.New("the disk broke")))}, nil
		}
		c.OpenSealed = func(context.Context, access.Session) (io.ReadCloser, error) {
			return nil, errors.New("no such file: /var/secret")
		}
	})
	x := h.record("uptime", "up\r\n")
	srv := httptest.NewServer(h.server.Handler())
	defer srv.Close()
	get := func(path string) (int, string, error) {
		req := must(http.NewRequest("GET", srv.URL+path, nil))
		req.Header.Set("Authorization", "Bearer "+h.token("carol"))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	if status, body, err := get("/v1/sessions/" + x.ID + "/recording"); err == nil {
		t.Errorf("a broken recording ended well: %d, %d bytes", status, len(body))
	}
	if !strings.Contains(h.log.String(), "the disk broke") {
		t.Error("the log does not say why")
	}
	if status, body, err := get("/v1/sessions/" + x.ID + "/sealed"); err != nil || status != 500 || strings.Contains(body, "secret") || !strings.Contains(body, `"id":"ERR-`) {
		t.Errorf("a recording that cannot be opened: %d %s %v", status, body, err)
	}
}
