package web

import (
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A foundForm is a form of a page as somebody is shown it, with one of its buttons.
type foundForm struct {
	who, page, path string
	pattern         string // of the route that it is sent to
	upload          bool
	fields          url.Values
}

func (f foundForm) String() string {
	return fmt.Sprintf("%s of %s (on %s, as %s)", f.pattern, f.fields.Get("action"), f.page, f.who)
}

var (
	formTag  = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	fieldTag = regexp.MustCompile(`<(input|button|select|textarea|option)\b([^>]*)>`)
	attrText = regexp.MustCompile(`([a-z][a-z-]*)(?:="([^"]*)")?`)
	linkTag  = regexp.MustCompile(`href="(/[^"]*)"`)
)

func attributesOf(text string) map[string]string {
	out := map[string]string{}
	for _, m := range attrText.FindAllStringSubmatch(text, -1) {
		if _, known := out[m[1]]; !known {
			out[m[1]] = html.UnescapeString(m[2])
		}
	}
	return out
}

// formsOf reads the forms of a page that change something, once for each button.
func formsOf(page string) (list []foundForm) {
	for _, m := range formTag.FindAllStringSubmatch(page, -1) {
		a := attributesOf(m[1])
		if !strings.EqualFold(a["method"], "post") {
			continue
		}
		f := foundForm{path: a["action"], upload: a["enctype"] == "multipart/form-data", fields: url.Values{}}
		buttons := []url.Values{}
		choosing := ""
		for _, tag := range fieldTag.FindAllStringSubmatch(m[2], -1) {
			x := attributesOf(tag[2])
			name, value := x["name"], x["value"]
			_, disabled := x["disabled"]
			switch {
			case tag[1] == "option":
				if choosing != "" && value != "" && f.fields.Get(choosing) == "" {
					f.fields.Set(choosing, value)
				}
			case disabled || name == "":
				choosing = ""
			case tag[1] == "button":
				buttons = append(buttons, url.Values{name: {value}})
			case tag[1] == "select":
				choosing = name
			case x["type"] == "radio" || x["type"] == "checkbox":
				if _, checked := x["checked"]; checked || f.fields.Get(name) == "" && x["type"] == "radio" {
					f.fields.Set(name, value)
				}
			case value == "" && x["type"] != "hidden":
				f.fields.Set(name, "INC-9 typed")
			default:
				f.fields.Set(name, value)
			}
		}
		if len(buttons) == 0 {
			buttons = []url.Values{{}}
		}
		for _, b := range buttons {
			one := f
			one.fields = maps.Clone(f.fields)
			maps.Copy(one.fields, b)
			list = append(list, one)
		}
	}
	return list
}

// crawl goes through every page that somebody can come to, some of each kind, and
// returns the forms on them.
func (h *house) crawl(who string, patternOf func(method, path string) string) (list []foundForm) {
	h.t.Helper()
	cookie := h.cookieOf(who, 0)
	const ofEach = 3
	seen, count := map[string]bool{}, map[string]int{}
	queue := []string{"/"}
	for _, rt := range h.server.table {
		if rt.page != nil && rt.method == http.MethodGet && rt.auth == login && !strings.Contains(rt.path, "{") {
			queue = append(queue, rt.path)
		}
	}
	known := map[string]bool{}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		pattern := patternOf(http.MethodGet, path)
		if seen[path] || pattern == "" || count[pattern] >= ofEach || strings.HasPrefix(path, "/static/") || strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/login") {
			continue
		}
		seen[path] = true
		count[pattern]++
		resp := h.do(httpCall{method: "GET", path: path, cookie: cookie})
		page := text(resp)
		if resp.StatusCode >= 500 && resp.StatusCode != http.StatusServiceUnavailable { // no film is made here
			h.t.Errorf("GET %s as %s: %d", path, who, resp.StatusCode)
		}
		if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
			continue
		}
		for _, f := range formsOf(page) {
			f.who, f.page, f.pattern = who, path, patternOf(http.MethodPost, f.path)
			if f.pattern == "" {
				h.t.Errorf("a form on %s leads to %s, where nothing answers", path, f.path)
				continue
			}
			key := f.pattern + " " + f.fields.Get("action") + strings.Join(slices.Sorted(maps.Keys(f.fields)), " ")
			if !known[key] {
				known[key] = true
				list = append(list, f)
			}
		}
		for _, m := range linkTag.FindAllStringSubmatch(page, -1) {
			queue = append(queue, html.UnescapeString(m[1]))
		}
	}
	return list
}

// doneSince are the events of what people have done, and were not refused, from a
// position of the log on; looking is none.
func (h *house) doneSince(from int64) (list []string) {
	h.t.Helper()
	for _, leaf := range must(h.db.Leaves(h.t.Context(), store.LeafFilter{From: from, Limit: 10_000})) {
		e := must(audit.Parse(leaf))
		for _, text := range append(slices.Collect(maps.Values(e.Details)), e.Reason, e.Object, e.Target, e.Account) {
			if strings.ContainsFunc(text, unicode.IsControl) {
				h.t.Errorf("%s has a control character on record: %q", e.Action, text)
			}
		}
		if e.Outcome == audit.Done && e.Actor != access.System().User.ID && e.Actor != "unknown" {
			list = append(list, e.Action)
		}
	}
	return list
}

// TestEveryFormAttacked walks the table of routes and the pages, and attacks whatever
// takes a form: what a browser was made to send, what is no form, what is too much, who
// may not. Each attack leaves the log without anything that was done. A route that is
// new is attacked by standing in the table, and its form by standing on a page.
func TestEveryFormAttacked(t *testing.T) {
	h, _, _ := busyHouse(t)
	unlimited := func(s *Server) {
		for _, l := range []**limiter{&s.persons, &s.sources, &s.attempts, &s.emergencies, &s.checks} {
			*l = newLimiter(1e9, 1<<30, time.Now)
		}
	}
	unlimited(h.server)
	mux := http.NewServeMux()
	for _, rt := range h.server.table {
		mux.HandleFunc(rt.pattern(), func(http.ResponseWriter, *http.Request) {})
	}
	patternOf := func(method, path string) string {
		r, err := http.NewRequest(method, gateway+path, nil)
		if err != nil {
			return ""
		}
		_, pattern := mux.Handler(r)
		return pattern
	}
	routes := map[string]route{}
	var forms []foundForm
	for _, rt := range h.server.table {
		routes[rt.pattern()] = rt
		if rt.page == nil || rt.method == http.MethodGet || rt.raw {
			continue
		}
		// Without a page that shows it: everything that forms of others have.
		forms = append(forms, foundForm{who: "root", page: "no page", path: rt.example(), pattern: rt.pattern(), upload: rt.upload, fields: url.Values{
			"action": {"approve"}, "id": {"x"}, "reason": {"INC-9 x"}, "note": {"INC-9 x"}, "next": {"https://evil.example"}, "seconds": {"900"}, "user": {"root"}, "password": {"x"}, "token": {"x"},
		}})
	}
	bare := len(forms)
	for _, who := range []string{"alice", "bob", "carol", "root", "dave"} {
		forms = append(forms, h.crawl(who, patternOf)...)
	}
	shown := map[string]bool{}
	for _, f := range forms[bare:] {
		shown[f.pattern] = true
	}
	for _, pattern := range []string{
		"POST /r/{id}", "POST /inbox", "POST /ask", "POST /away", "POST /logout", "POST /me/factors", "POST /people/{name}", "POST /targets/{name}", "POST /policies", "POST /policies/bundle",
		"POST /accounts/{id}", "POST /sessions/{id}", "POST /sessions/{id}/watch", "POST /sessions/{id}/check",
	} {
		if !shown[pattern] {
			t.Errorf("no page that was seen has the form of %s", pattern)
		}
	}
	t.Logf("%d forms on pages, of %d routes; %d without", len(forms)-bare, len(shown), bare)

	cookies := map[string]string{}
	for _, who := range []string{"alice", "bob", "carol", "root", "dave", "eve"} {
		if who != "eve" { // who is locked
			cookies[who] = h.cookieOf(who, time.Hour)
		}
	}
	must(h.broker.AddUser(t.Context(), h.by("root"), access.User{Name: "nobody", Groups: []string{"nobodies"}}))
	h.people["nobody"] = must(h.broker.FindUser(t.Context(), h.by("root"), "nobody"))
	cookies["nobody"] = h.cookieOf("nobody", time.Hour)
	ended, another := h.cookieOf("root", 0), h.token("bob")
	if _, err := h.logins.RevokeAll(t.Context(), h.by("root"), h.people["root"].ID); err != nil {
		t.Fatal(err)
	}
	cookies["root"] = h.cookieOf("root", time.Hour)

	type attack struct {
		name   string
		change func(f foundForm, c *httpCall)
		status []int // one of these; nil: none of an error of ours
		open   bool  // also of what needs no login
	}
	header := func(pairs ...string) func(foundForm, *httpCall) {
		return func(_ foundForm, c *httpCall) {
			delete(c.header, "Origin")
			for i := 0; i < len(pairs); i += 2 {
				c.header[pairs[i]] = pairs[i+1]
			}
		}
	}
	media := func(media string) func(foundForm, *httpCall) {
		return func(_ foundForm, c *httpCall) { c.header["Content-Type"] = media }
	}
	fields := func(change func(url.Values)) func(foundForm, *httpCall) {
		return func(f foundForm, c *httpCall) {
			v := url.Values{}
			for name, values := range f.fields {
				v[name] = slices.Clone(values)
			}
			change(v)
			c.body = v.Encode()
		}
	}
	attacks := []attack{
		{"no word of where it comes from", header(), []int{403}, false},
		{"another site", header("Origin", "https://evil.example"), []int{403}, true},
		{"another site, a new browser", header("Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), []int{403}, true},
		{"a sister site", header("Sec-Fetch-Site", "same-site"), []int{403}, true},
		{"a sandbox", header("Origin", "null"), []int{403}, true},
		{"our name without TLS", header("Origin", "http://gw.example.com"), []int{403}, true},
		{"signed out", func(_ foundForm, c *httpCall) { c.cookie = "" }, []int{303}, false},
		{"a login that has ended", func(_ foundForm, c *httpCall) { c.cookie = ended }, []int{303}, false},
		{"a cookie and a token", func(f foundForm, c *httpCall) { c.token = another }, []int{303}, false},
		{"plain text", media("text/plain"), []int{415}, true},
		{"JSON", media("application/json"), []int{415}, true},
		{"another form of form", func(f foundForm, c *httpCall) {
			c.header["Content-Type"] = "multipart/form-data; boundary=x"
			if f.upload {
				c.header["Content-Type"] = "application/x-www-form-urlencoded"
			}
		}, []int{415}, true},
		{"another alphabet", media("application/x-www-form-urlencoded; charset=utf-7"), []int{415}, true},
		{"no type", media(""), []int{415}, true},
		{"one that is none", media("; ;"), []int{415}, true},
		{"all in the address", func(f foundForm, c *httpCall) { c.path += "?" + f.fields.Encode(); c.body = "x=y" }, nil, false},
		{"megabytes", func(f foundForm, c *httpCall) {
			c.body = f.fields.Encode() + "&more=" + strings.Repeat("x", routes[f.pattern].maxBody()+1)
		}, []int{413}, true},
		{"by GET", func(f foundForm, c *httpCall) { c.method, c.path, c.body = "GET", c.path+"?"+f.fields.Encode(), "" }, nil, true},
		{"by GET, with a body", func(f foundForm, c *httpCall) { c.method = "GET" }, []int{405, 422}, true},
		{"a method in a field", func(f foundForm, c *httpCall) {
			c.method, c.path, c.body = "GET", c.path+"?_method=POST&"+f.fields.Encode(), ""
			c.header["X-HTTP-Method-Override"] = "POST"
		}, nil, true},
		{"by who may nothing", func(f foundForm, c *httpCall) { c.cookie = cookies["nobody"] }, nil, false},
		{"control characters", fields(func(v url.Values) {
			for name := range v {
				if name != "action" && name != "passkey" && name != "password" {
					v.Set(name, v.Get(name)+"\x1b[2J\x00\u202e\r\nSet-Cookie: x=y")
				}
			}
		}), nil, true},
		{"no UTF-8", fields(func(v url.Values) {
			for name := range v {
				if name != "action" {
					v.Set(name, "\xff\xfe")
				}
			}
		}), nil, true},
		{"numbers that are none", fields(func(v url.Values) {
			for name := range v {
				if name != "action" {
					v.Set(name, "-9223372036854775809")
				}
			}
		}), nil, true},
		{"a thousand fields", fields(func(v url.Values) {
			delete(v, "action")
			for i := range 1000 {
				v.Set(fmt.Sprintf("f%d", i), "x")
			}
		}), nil, true},
		{"a broken escape", func(f foundForm, c *httpCall) { c.body = "%zz=%&" + "a;b=c" }, nil, true},
	}
	own := []string{"logout", "user.passkey.remove", "delegation.end"} // what anybody may, for themselves
	send := func(f foundForm, change func(foundForm, *httpCall)) (int, string, string) {
		c := httpCall{method: "POST", path: f.path, cookie: cookies[f.who], header: map[string]string{"Origin": gateway, "Content-Type": "application/x-www-form-urlencoded"}, body: f.fields.Encode()}
		if c.body == "" {
			c.body = "x=y"
		}
		if f.upload {
			c.header["Content-Type"] = "multipart/form-data; boundary=x"
			c.body = "--x\r\nContent-Disposition: form-data; name=\"bundle\"; filename=\"../../x\"\r\n\r\nno bundle\r\n--x--\r\n"
		}
		change(f, &c)
		resp := h.doRaw(c)
		return resp.StatusCode, resp.Header.Get("Location"), text(resp)
	}
	check := func(f foundForm, name string, status int, to, body string) {
		t.Helper()
		if status >= 500 && status != http.StatusServiceUnavailable {
			t.Errorf("%s: %s: %d\n%s", f, name, status, alertOf(body))
		}
		if to != "" && localPath(to) != to {
			t.Errorf("%s: %s leads to %q", f, name, to)
		}
		if strings.ContainsAny(body, "\x1b\x00") {
			t.Errorf("%s: %s comes back as it was sent", f, name)
		}
	}
	for _, f := range forms {
		needsLogin := routes[f.pattern].auth == login
		size := must(h.db.AuditSize(t.Context()))
		for _, a := range attacks {
			if !needsLogin && !a.open || f.pattern == "POST /logout" && a.status == nil {
				continue
			}
			status, to, body := send(f, a.change)
			check(f, a.name, status, to, body)
			if a.status != nil && !slices.Contains(a.status, status) {
				t.Errorf("%s: %s: %d, want %v", f, a.name, status, a.status)
			}
			if status == 303 && a.status != nil && !strings.HasPrefix(to, "/login") {
				t.Errorf("%s: %s leads to %q", f, a.name, to)
			}
			now := must(h.db.AuditSize(t.Context()))
			if now == size {
				continue
			}
			// Most are refused before anything is read; some may be taken as a form that says less.
			done := h.doneSince(size)
			size = now
			others := slices.DeleteFunc(slices.Clone(done), func(e string) bool { return slices.Contains(own, e) })
			never := a.status != nil || !needsLogin || a.name == "all in the address" && f.fields.Has("action") || strings.HasPrefix(a.name, "by GET")
			if never && len(done) > 0 || a.name == "by who may nothing" && len(others) > 0 {
				t.Errorf("%s: %s has done %v", f, a.name, done)
			}
		}
	}
	// And then as they are meant, twice at the same time: whoever comes second is told,
	// and nothing breaks. Where to go on is this site's.
	for _, f := range forms[bare:] {
		if f.pattern == "POST /logout" || f.upload {
			continue
		}
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				status, to, body := send(f, fields(func(v url.Values) {
					for _, name := range []string{"next", "return", "to_page"} {
						v.Add(name, "//evil.example/")
					}
					v["action"] = append(v["action"], "revoke", "approve") // the first one counts
				}))
				check(f, "twice at once", status, to, body)
				if status == 415 || strings.Contains(body, "DB-6010") {
					t.Errorf("%s: as it is meant it does not come to its handler: %d", f, status)
				}
			})
		}
		both.Wait()
	}
}

// TestEveryChangeIsFromHere sends every change of the API as another site would make a
// browser send it, and as a form, which needs nobody's leave to cross sites.
func TestEveryChangeIsFromHere(t *testing.T) {
	h := newHouse(t)
	h.server.persons = newLimiter(1e9, 1<<30, time.Now)
	cookie := h.cookieOf("root", 0)
	size := must(h.db.AuditSize(t.Context()))
	for _, rt := range h.server.table {
		if rt.api == nil || rt.method == http.MethodGet || rt.auth != login {
			continue
		}
		for name, header := range map[string]map[string]string{
			"another site": {"Origin": "https://evil.example"}, "nobody says": {}, "a sister site": {"Sec-Fetch-Site": "same-site"}, "a sandbox": {"Origin": "null"},
		} {
			if resp := h.doRaw(httpCall{method: rt.method, path: rt.example(), cookie: cookie, header: header, body: "{}"}); resp.StatusCode != 403 {
				t.Errorf("%s from %s: %d", rt.pattern(), name, resp.StatusCode)
			}
		}
		if rt.method == http.MethodDelete || rt.raw {
			continue
		}
		for _, media := range []string{"application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"} {
			resp := h.doRaw(httpCall{method: rt.method, path: rt.example(), cookie: cookie, header: map[string]string{"Origin": gateway, "Content-Type": media}, body: `{"reason":"x"}`})
			if resp.StatusCode != 415 {
				t.Errorf("%s as %s: %d", rt.pattern(), media, resp.StatusCode)
			}
		}
	}
	if done := h.doneSince(size); len(done) > 0 {
		t.Errorf("done: %v", done)
	}
}

// doRaw is do with the headers of the call alone.
func (h *house) doRaw(c httpCall) *http.Response {
	h.t.Helper()
	r := httptest.NewRequest(c.method, gateway+c.path, io.NopCloser(strings.NewReader(c.body)))
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 4711).String()
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.cookie != "" {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: c.cookie})
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.server.Handler().ServeHTTP(w, r)
	return w.Result()
}
