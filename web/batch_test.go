package web

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/web/api"
)

// together files alice's requests for root on both targets.
func (h *house) together(batch, reason string) []api.Request {
	h.t.Helper()
	var list []api.Request
	for _, name := range []string{"db01", "db02"} {
		list = append(list, callJSON[api.Request](h, "alice", "POST", "/v1/requests",
			api.RequestInput{Target: name, Account: "root", DurationSeconds: 3600, Reason: reason, Batch: batch}, 200))
	}
	return list
}

var voteField = regexp.MustCompile(`name="vote" value="(REQ-[0-9a-z]{16} [0-9a-f]{64})"`)

// TestBatchPages: what is asked for together is one card in the inbox, and one
// page on which it is decided by one press, each by its own digest.
func TestBatchPages(t *testing.T) {
	h := newHouse(t)
	batch := api.NewBatch()
	list := h.together(batch, "CHG-7 new certificates")
	h.ask("INC-8 something else")
	page := func(who, path string) string {
		return text(h.do(httpCall{method: "GET", path: path, cookie: h.token(who)}))
	}
	inbox := page("bob", "/inbox")
	if n := strings.Count(inbox, "CHG-7"); n != 1 || !strings.Contains(inbox, "/batch/"+batch) || !strings.Contains(inbox, "db01, db02") && !strings.Contains(inbox, "db02, db01") || !strings.Contains(inbox, "INC-8") {
		t.Errorf("%d cards:\n%s", n, inbox)
	}
	path := "/batch/" + batch
	post := func(who string, form url.Values) (int, string) {
		resp := h.do(httpCall{method: "POST", path: path, cookie: h.token(who), header: map[string]string{"Sec-Fetch-Site": "same-origin"}, body: form.Encode()})
		return resp.StatusCode, text(resp) + resp.Header.Get("Location")
	}
	var votes []string
	for _, m := range voteField.FindAllStringSubmatch(page("bob", path), -1) {
		votes = append(votes, m[1])
	}
	want := []string{list[0].ID + " " + list[0].Digest, list[1].ID + " " + list[1].Digest}
	if !slices.Equal(votes, want) {
		t.Fatalf("the form sends %q, not %q", votes, want)
	}
	if strings.Contains(page("alice", path), `name="vote"`) {
		t.Error("the requester is given a form to decide with")
	}
	if got := h.do(httpCall{method: "GET", path: path, cookie: h.token("eve")}).StatusCode; got != 404 {
		t.Errorf("a stranger gets %d", got)
	}
	for _, c := range []struct {
		name, who string
		form      url.Values
		status    int
		want      string
	}{
		{"one's own", "alice", url.Values{"action": {"approve"}, "seconds": {"3600"}, "vote": votes}, 403, "DB-"},
		{"a stranger", "eve", url.Values{"action": {"approve"}, "seconds": {"3600"}, "vote": votes}, 404, "DB-2102"},
		{"nothing", "bob", url.Values{"action": {"approve"}, "seconds": {"3600"}}, 422, "nothing that can be decided"},
		{"no time", "bob", url.Values{"action": {"approve"}, "vote": votes}, 422, "choose for how long"},
		{"no decision", "bob", url.Values{"action": {"explode"}, "vote": votes}, 422, "no such decision"},
		{"too many", "bob", url.Values{"action": {"deny"}, "note": {"no"}, "vote": slices.Repeat(votes, 30)}, 422, "nothing that can be decided"},
		{"no reason", "bob", url.Values{"action": {"deny"}, "vote": votes}, 422, "a reason is needed"},
		{"not shown", "bob", url.Values{"action": {"approve"}, "seconds": {"3600"}, "vote": {list[0].ID + " " + list[1].Digest}}, 409, "not what you were shown"},
	} {
		if status, body := post(c.who, c.form); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d, want %d %s\n%s", c.name, status, c.status, c.want, body)
		}
	}
	// A request of another batch is not decided by a form of this one.
	other := h.together(api.NewBatch(), "CHG-9 slipped in")
	if status, _ := post("bob", url.Values{"action": {"approve"}, "seconds": {"3600"}, "vote": {other[0].ID + " " + other[0].Digest}}); status != 404 {
		t.Errorf("another batch: %d", status)
	}
	for _, r := range append(list, other...) {
		if now := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200); now.State != api.Pending {
			t.Errorf("%s is %s", r.ID, now.State)
		}
	}
	if status, body := post("bob", url.Values{"action": {"approve"}, "seconds": {"1800"}, "note": {"before noon"}, "vote": votes}); status != 303 || !strings.HasSuffix(body, path) {
		t.Fatalf("%d %s", status, body)
	}
	for _, r := range list {
		now := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200)
		if now.State != api.Approved || now.Grant == nil || now.Grant.DurationSeconds != 1800 || now.Approvals[0].Comment != "before noon" {
			t.Errorf("%+v", now)
		}
	}
	if strings.Contains(page("bob", "/inbox"), "CHG-7") {
		t.Error("it is still in the inbox")
	}
	// A second press changes nothing, and says who was first.
	if status, body := post("dave", url.Values{"action": {"deny"}, "note": {"late"}, "vote": votes}); status != 409 || !strings.Contains(body, "already approved by bob") {
		t.Errorf("%d %s", status, body)
	}
	list = callJSON[api.List[api.Request]](h, "bob", "GET", "/v1/requests?batch="+batch, nil, 200).Items
	if len(list) != 2 || list[0].Batch != batch {
		t.Errorf("by its batch: %+v", list)
	}
}
