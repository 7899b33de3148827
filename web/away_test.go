package web

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// read returns a page as somebody sees it, and send what a form of it answers: the
// status, and where it leads to or what it says.
func (h *house) read(who, path string) string {
	h.t.Helper()
	return text(h.do(httpCall{method: "GET", path: path, cookie: h.token(who)}))
}

func (h *house) send(who, path string, form url.Values) (int, string) {
	h.t.Helper()
	resp := h.do(httpCall{method: "POST", path: path, cookie: h.token(who), header: map[string]string{"Sec-Fetch-Site": "same-origin"}, body: form.Encode()})
	return resp.StatusCode, resp.Header.Get("Location") + text(resp)
}

// TestAwayPage hands votes over and takes them back, and tells both sides.
func TestAwayPage(t *testing.T) {
	h := newHouse(t)
	until := time.Now().UTC().Add(48 * time.Hour).Format(minuteLayout)
	for _, c := range []struct {
		name string
		form url.Values
		code int
		want string
	}{
		{"no action", url.Values{"to": {"dave"}, "until": {until}}, 422, "does not say what to do"},
		{"no end", url.Values{"action": {"delegate"}, "to": {"dave"}}, 422, "say until when"},
		{"no time", url.Values{"action": {"delegate"}, "to": {"dave"}, "until": {"soon"}}, 422, "the time &#34;soon&#34; is not one"},
		{"oneself", url.Values{"action": {"delegate"}, "to": {"bob"}, "until": {until}}, 422, "name somebody else"},
		{"nobody", url.Values{"action": {"delegate"}, "to": {"zoe"}, "until": {until}}, 404, "zoe"},
		{"too long", url.Values{"action": {"delegate"}, "to": {"dave"}, "until": {time.Now().UTC().AddDate(0, 2, 0).Format(minuteLayout)}}, 422, "at most 30 days"},
		{"nothing to end", url.Values{"action": {"end"}}, 404, "DB-6140"},
	} {
		if code, said := h.send("bob", "/away", c.form); code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%s: %d, want %d %s\n%s", c.name, code, c.code, c.want, said)
		}
	}
	// Of a form nobody's votes are handed over but one's own.
	if code, said := h.send("bob", "/away", url.Values{"action": {"delegate"}, "user": {"carol"}, "to": {"dave"}, "until": {until}, "reason": {"holidays <b>"}}); code != 303 || said != "/away" {
		t.Fatalf("%d %s", code, said)
	}
	list := must(h.broker.Delegations(t.Context(), h.by("dave"), false))
	if len(list) != 1 || list[0].UserName != "bob" || list[0].DelegateName != "dave" {
		t.Fatalf("delegations: %+v", list)
	}
	if page := h.read("bob", "/away"); !strings.Contains(page, "<strong>dave</strong> votes for you until") || !strings.Contains(page, "holidays &lt;b&gt;") {
		t.Errorf("bob reads:\n%s", page)
	}
	if page := h.read("dave", "/away"); !strings.Contains(page, "<strong>bob</strong> until") || !strings.Contains(page, "You vote for yourself.") {
		t.Errorf("dave reads:\n%s", page)
	}
	if page := h.read("carol", "/away"); strings.Contains(page, "bob") {
		t.Errorf("carol reads of others:\n%s", page)
	}
	if code, _ := h.send("bob", "/away", url.Values{"action": {"end"}}); code != 303 {
		t.Errorf("taken back: %d", code)
	}
	if page := h.read("dave", "/away"); !strings.Contains(page, "Nobody has handed votes to you.") {
		t.Errorf("dave reads:\n%s", page)
	}
}

// TestEditPage changes a request by its page: the votes are void, which it says
// before, and nobody but the requester is given the form.
func TestEditPage(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	engineer := must(h.broker.FindRole(ctx, h.by("root"), "engineer"))
	engineer.Rules[0].Approvals[0].Count = 2
	must(h.broker.SetRole(ctx, h.by("root"), engineer))
	r := h.ask("INC-1 look at the slots")
	path := "/r/" + r.ID
	if page := h.read("alice", path); !strings.Contains(page, "Nobody has voted yet") {
		t.Errorf("before a vote:\n%s", page)
	}
	must(h.broker.Approve(ctx, h.by("bob"), r.ID, r.Digest, broker.Answer{}))
	if page := h.read("alice", path); !strings.Contains(page, "The vote that was given is void: then everybody is asked anew.") {
		t.Errorf("after a vote:\n%s", page)
	}
	if page := h.read("dave", path); strings.Contains(page, `value="edit"`) {
		t.Error("an approver is given the form that edits")
	}
	form := func(seconds, reason, start string) url.Values {
		return url.Values{"action": {"edit"}, "seconds": {seconds}, "reason": {reason}, "start": {start}}
	}
	for _, c := range []struct {
		name, who string
		form      url.Values
		code      int
		want      string
	}{
		{"an approver", "dave", form("1800", "INC-1 look", ""), 403, "DB-6137"},
		{"a stranger", "eve", form("1800", "INC-1 look", ""), 404, "DB-"},
		{"the same", "alice", form("3600", r.Reason, ""), 422, "asks for already"},
		{"no reason", "alice", form("3600", "...", ""), 422, "a reason is needed"},
		{"no time", "alice", form("3600", r.Reason, "tomorrow"), 422, "is not one: write it like"},
		{"too long", "alice", form("86400", "INC-1 look", ""), 403, `<option value="86400" selected`},
	} {
		if code, said := h.send(c.who, path, c.form); code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%s: %d, want %d %s\n%s", c.name, code, c.code, c.want, said)
		}
	}
	if now := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200); len(now.Approvals) != 1 || now.Digest != r.Digest {
		t.Fatalf("a refused edit has changed it: %+v", now)
	}
	start := time.Now().UTC().Add(3 * time.Hour).Format(minuteLayout)
	if code, said := h.send("alice", path, form("1800", "INC-1 reads only", start)); code != 303 || said != path {
		t.Fatalf("%d %s", code, said)
	}
	now := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200)
	if len(now.Approvals) != 0 || now.DurationSeconds != 1800 || now.Reason != "INC-1 reads only" || now.Start == nil || now.Start.Format(minuteLayout) != start {
		t.Errorf("edited: %+v", now)
	}
	// Who looks at the page of before votes for nothing.
	if code, said := h.send("dave", path, url.Values{"action": {"approve"}, "seconds": {"1800"}, "digest": {r.Digest}}); code != 409 || !strings.Contains(said, "not what you were shown") {
		t.Errorf("a vote for what was: %d\n%s", code, said)
	}
}

// TestNarrowingTogether shortens and narrows several requests at once: each by
// itself, all of them, and never to more than was asked.
func TestNarrowingTogether(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	ask := func(target string, length time.Duration) access.Request {
		return must(h.broker.Request(ctx, h.by("alice"), broker.Ask{Target: target, Account: "root", Reason: "CHG-7 release", Duration: length})).Request
	}
	long, short := ask("db01", 4*time.Hour), ask("db02", 20*time.Minute)
	votes := []string{long.ID + " " + long.Digest(), short.ID + " " + short.Digest()}
	page := h.read("bob", "/inbox")
	for _, want := range []string{`name="seconds-` + long.ID, `name="seconds-` + short.ID, `name="without" value="exec"`, `name="four_eyes"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the inbox has no %s", want)
		}
	}
	for _, c := range []struct {
		name string
		more url.Values
		code int
		want string
	}{
		{"a duration that is none", url.Values{"seconds": {"all"}}, 422, "a duration in the form is none"},
		{"less than nothing", url.Values{"seconds": {"-1"}}, 422, "a duration in the form is none"},
		{"one that is none", url.Values{"seconds-" + long.ID: {"forever"}}, 422, "a duration in the form is none"},
		{"one that is nothing", url.Values{"seconds-" + long.ID: {"0"}}, 422, "a duration in the form is none"},
		{"more than was asked", url.Values{"seconds-" + long.ID: {"86400"}, "seconds-" + short.ID: {"86400"}}, 422, "may shorten the time, not lengthen it"},
		{"a right that is none", url.Values{"without": {"root"}}, 422, "no right that can be taken away"},
		{"all that there is", url.Values{"without": {"shell", "exec"}}, 422, "leave nothing that a session could do"},
	} {
		form := url.Values{"action": {"approve"}, "vote": votes}
		for k, v := range c.more {
			form[k] = v
		}
		if code, said := h.send("bob", "/inbox", form); code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%s: %d, want %d %s\n%s", c.name, code, c.code, c.want, said)
		}
		for _, r := range []access.Request{long, short} {
			if now := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200); now.State != api.Pending || len(now.Approvals) > 0 {
				t.Fatalf("%s: %+v", c.name, now)
			}
		}
	}
	form := url.Values{"action": {"approve"}, "vote": votes, "seconds": {"3600"}, "without": {"exec"}, "four_eyes": {"yes"}, "note": {"look only"}}
	if code, said := h.send("bob", "/inbox", form); code != 303 {
		t.Fatalf("%d %s", code, said)
	}
	for id, want := range map[string]int64{long.ID: 3600, short.ID: 1200} {
		now := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+id, nil, 200)
		if a := now.Approvals[0]; now.State != api.Approved || now.Grant.DurationSeconds != want || len(a.Without) != 1 || a.Without[0] != "exec" || !a.FourEyes || a.Comment != "look only" {
			t.Errorf("%s: %+v %+v", now.Target, now.Grant, a)
		}
	}
}

// TestNarrowingABatch is the same on the page of a batch: one by itself, the others
// by the form.
func TestNarrowingABatch(t *testing.T) {
	h := newHouse(t)
	batch := api.NewBatch()
	list := h.together(batch, "CHG-8 new certificates")
	votes := []string{list[0].ID + " " + list[0].Digest, list[1].ID + " " + list[1].Digest}
	form := url.Values{"action": {"approve"}, "vote": votes, "seconds": {"1800"}, "seconds-" + list[0].ID: {"900"}, "without": {"shell"}}
	if code, said := h.send("bob", "/batch/"+batch, form); code != 303 {
		t.Fatalf("%d %s", code, said)
	}
	for i, want := range []int64{900, 1800} {
		now := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+list[i].ID, nil, 200)
		if now.Grant == nil || now.Grant.DurationSeconds != want || strings.Join(now.Approvals[0].Without, " ") != "shell" {
			t.Errorf("%s: %+v %+v", now.Target, now.Grant, now.Approvals)
		}
	}
}

// TestFormsWithoutScripts hands votes over, edits a request, and narrows two at once,
// on a phone and without scripts.
func TestFormsWithoutScripts(t *testing.T) {
	h := newHouse(t)
	srv := h.serve()
	r := h.ask("INC-1 look at the slots")
	other := must(h.broker.Request(t.Context(), h.by("alice"), broker.Ask{Target: "db02", Account: "root", Reason: "INC-2 the other", Duration: time.Hour})).Request
	ctx := browser(t, "light", false)

	h.become(ctx, srv.URL, "bob")
	visit(t, ctx, srv.URL+"/away")
	do(t, ctx,
		chromedp.SendKeys(css(`input[name=to]`), "dave"),
		chromedp.SetValue(css(`input[name=until]`), time.Now().UTC().Add(48*time.Hour).Format(minuteLayout)),
		chromedp.SendKeys(css(`input[name=reason]`), "holidays"),
		chromedp.Click(css(`button[value=delegate]`)), chromedp.WaitVisible(css(`button[value=end]`)))
	picture(t, ctx, "away-handed")
	do(t, ctx, chromedp.Click(css(`button[value=end]`)), chromedp.WaitNotPresent(css(`button[value=end]`)))
	if list := must(h.broker.Delegations(t.Context(), h.by("bob"), false)); len(list) != 0 {
		t.Errorf("still handed over: %+v", list)
	}

	h.become(ctx, srv.URL, "alice")
	visit(t, ctx, srv.URL+"/r/"+r.ID)
	do(t, ctx, chromedp.Click(css(`#edit summary`)), chromedp.WaitVisible(css(`#edit textarea`)))
	picture(t, ctx, "edit-open")
	do(t, ctx, chromedp.SetValue(css(`#edit select`), "1800"), chromedp.SetValue(css(`#edit textarea`), "INC-1 reads only"),
		chromedp.Click(css(`button[value=edit]`)), chromedp.WaitNotPresent(css(`#edit[open]`)))
	soon(t, ctx, `document.querySelector("blockquote").textContent.endsWith("reads only")`)
	now := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200)
	if now.DurationSeconds != 1800 || now.Reason != "INC-1 reads only" {
		t.Fatalf("edited: %+v", now)
	}

	h.become(ctx, srv.URL, "bob")
	visit(t, ctx, srv.URL+"/inbox")
	do(t, ctx,
		chromedp.Click(css(`[data-row="`+r.ID+`"] input[type=checkbox]`)), chromedp.Click(css(`[data-row="`+other.ID+`"] input[type=checkbox]`)),
		chromedp.SetValue(css(`[data-row="`+r.ID+`"] select`), "900"),
		chromedp.SetValue(css(`.pick-bar select`), "1800"),
		chromedp.Click(css(`.pick-bar summary`)), chromedp.WaitVisible(css(`.pick-bar input[value=exec]`)), chromedp.Click(css(`.pick-bar input[value=exec]`)))
	picture(t, ctx, "narrowing")
	if w := width(t, ctx); w > 360 {
		t.Errorf("the inbox is %v wide", w)
	}
	do(t, ctx, chromedp.Click(css(`.pick-bar button[value=approve]`)), chromedp.WaitVisible(css(`.empty`)))
	for id, want := range map[string]int64{r.ID: 900, other.ID: 1800} {
		now := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+id, nil, 200)
		if now.Grant == nil || now.Grant.DurationSeconds != want || strings.Join(now.Approvals[0].Without, " ") != "exec" {
			t.Errorf("%s: %+v %+v", now.Target, now.Grant, now.Approvals)
		}
	}
}
