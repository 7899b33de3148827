package web

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker"
)

var (
	eventRow  = regexp.MustCompile(`data-row="(\d+)"`)
	olderLink = regexp.MustCompile(`href="(/audit\?[^"]*before=\d+[^"]*)" rel="next"`)
)

// TestAuditPage reads the whole log by its pages, narrows it, and leads to what it is
// about; nobody reads it who may not, and what is wrong with it is said.
func TestAuditPage(t *testing.T) {
	var outside error
	h := newHouse(t, func(c *Config) { c.CheckLog = func(context.Context) error { return outside } })
	x := h.record("uptime", "up\r\n")
	for range 60 { // more than a page
		h.broker.FindUser(t.Context(), h.by("eve"), "root")
	}
	if resp := h.do(httpCall{method: "GET", path: "/audit", cookie: h.token("alice")}); resp.StatusCode != 403 {
		t.Errorf("alice reads the log: %d", resp.StatusCode)
	}
	if page := h.read("alice", "/"); strings.Contains(page, `href="/audit"`) {
		t.Error("alice is led to the log")
	}
	newest := must(h.broker.Events(t.Context(), h.by("carol"), broker.EventFilter{Newest: true, Limit: 1}))[0].Seq
	var seen []int64
	for path := "/audit"; path != ""; {
		page := h.read("carol", path)
		for _, m := range eventRow.FindAllStringSubmatch(page, -1) {
			seen = append(seen, must(strconv.ParseInt(m[1], 10, 64)))
		}
		path = ""
		if m := olderLink.FindStringSubmatch(page); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
		}
		if len(seen) > 1000 {
			t.Fatalf("the pages do not end: %v", seen)
		}
	}
	if seen[0] < newest {
		t.Errorf("the newest is %d, and not %d", seen[0], newest)
	}
	for i, seq := range seen {
		if seq != seen[0]-int64(i) || i == len(seen)-1 && seq != 0 {
			t.Fatalf("the pages overlap or skip: %v", seen)
		}
	}
	narrowed := h.read("carol", "/audit?"+url.Values{"request": {x.RequestID}, "action": {"session.*"}}.Encode())
	for _, want := range []string{`href="/r/` + x.RequestID + `"`, `href="/sessions/` + x.ID + `"`, "session.close", `value="` + x.RequestID + `"`, "details.", x.Recording.SHA256} {
		if !strings.Contains(narrowed, want) {
			t.Errorf("narrowed to a request it does not show %s", want)
		}
	}
	if strings.Contains(narrowed, "request.create</code>") {
		t.Error("narrowed to sessions it shows requests")
	}
	for _, c := range []struct {
		query string
		code  int
		want  string
	}{
		{"since=yesterday", 422, "is not one: write it like"},
		{"before=x", 422, "which events it begins with"},
		{"before=-5", 422, "which events it begins with"},
		{"request=REQ-0000000000000000", 404, "REQ-0000000000000000"},
		{"who=zoe", 200, "No such event."},
		{"who=%27+OR+1%3D1+--", 200, "No such event."},
	} {
		resp := h.do(httpCall{method: "GET", path: "/audit?" + c.query, cookie: h.token("carol")})
		if body := text(resp); resp.StatusCode != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d, want %d %s\n%s", c.query, resp.StatusCode, c.code, c.want, body)
		}
	}

	must(h.broker.Checkpoint(t.Context(), h.by("carol")))
	if page := h.read("carol", "/audit"); !strings.Contains(page, "events are signed, the last time on") || !strings.Contains(page, "what is kept outside the database, too") {
		t.Errorf("signed:\n%s", page)
	}
	outside = errors.New("the first 3 events of the audit log are not those of the checkpoint <b>")
	if page := h.read("carol", "/audit"); !strings.Contains(page, "The log is not what was signed") || !strings.Contains(page, "of the checkpoint &lt;b&gt;") {
		t.Errorf("rewritten:\n%s", page)
	}
}

// TestAuditKeys goes to the log by keys, narrows it, and follows an event to its
// request, in a browser.
func TestAuditKeys(t *testing.T) {
	h := newHouse(t)
	srv := h.serve()
	x := h.record("uptime", "up\r\n")
	ctx := browser(t, "dark", true)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	h.become(ctx, srv.URL, "carol")
	visit(t, ctx, srv.URL+"/")
	press(t, ctx, "g", "a")
	soon(t, ctx, `location.pathname === "/audit" && document.readyState === "complete"`)
	do(t, ctx, chromedp.Click(css(`#narrow summary`)), chromedp.WaitVisible(css(`input[name=session]`)),
		chromedp.SendKeys(css(`input[name=session]`), x.ID), chromedp.SendKeys(css(`input[name=action]`), "session.close"),
		chromedp.Click(css(`#narrow button`)))
	soon(t, ctx, `location.search.includes("`+x.ID+`") && document.readyState === "complete" && document.querySelectorAll("[data-row]").length === 1`)
	do(t, ctx, chromedp.Click(css(`[data-row] summary`)), chromedp.WaitVisible(css(`[data-row] dl`)))
	accessible(t, ctx, "audit-record")
	picture(t, ctx, "audit-record")
	do(t, ctx, chromedp.Click(css(`[data-row] dl a[href^="/r/"]`)))
	soon(t, ctx, `location.pathname === "/r/`+x.RequestID+`"`)
}
