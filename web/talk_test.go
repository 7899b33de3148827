package web

import (
	"net/url"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// watchers lets auditors watch sessions.
func (h *house) watchers() {
	h.t.Helper()
	must(h.broker.SetRole(h.t.Context(), h.by("root"), access.Role{Name: "watcher", Groups: []string{"auditors"}, Rules: []access.Rule{{ID: "watch", Actions: []string{"session.watch"}}}}))
}

// TestTalk asks, answers and hands over, by the pages and by the API, and tries
// what is not for whom.
func TestTalk(t *testing.T) {
	h := newHouse(t)
	r := h.ask("INC-1234 replication lag")
	path := "/r/" + r.ID
	for _, c := range []struct {
		who    string
		values url.Values
		status int
		want   string
	}{
		{"alice", url.Values{"action": {"ask"}, "note": {"may I?"}}, 403, "DB-"},
		{"eve", url.Values{"action": {"ask"}, "note": {"who?"}}, 404, "DB-2102"},
		{"carol", url.Values{"action": {"ask"}, "note": {"who?"}}, 403, "DB-"},
		{"bob", url.Values{"action": {"ask"}, "note": {" "}}, 422, "the question is empty"},
		{"bob", url.Values{"action": {"ask"}, "note": {"a\x1b[2Jb"}}, 422, "U+001B"},
		{"bob", url.Values{"action": {"ask"}, "note": {"is <b>the replica</b> not enough?"}}, 303, path},
		{"bob", url.Values{"action": {"ask"}, "note": {"hello?"}}, 409, "DB-6322"},
		{"bob", url.Values{"action": {"answer"}, "question": {"1"}, "note": {"never mind"}}, 403, "DB-6323"},
		{"alice", url.Values{"action": {"answer"}, "question": {"7"}, "note": {"x"}}, 409, "DB-6324"},
		{"alice", url.Values{"action": {"answer"}, "question": {"1"}, "note": {"it lags, too"}}, 303, path},
		{"alice", url.Values{"action": {"answer"}, "question": {"1"}, "note": {"or not"}}, 409, "DB-6325"},
		{"alice", url.Values{"action": {"handover"}, "to": {"dave"}}, 403, "DB-"},
		{"bob", url.Values{"action": {"handover"}, "to": {"alice"}}, 403, "DB-6327"},
		{"bob", url.Values{"action": {"handover"}, "to": {"dave"}, "note": {"you know these disks"}}, 303, path},
		{"bob", url.Values{"action": {"handover"}, "to": {"dave"}}, 409, "DB-6328"},
	} {
		if status, body := h.send(c.who, path, c.values); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %v: %d, want %d %s\n%s", c.who, c.values, status, c.status, c.want, body)
		}
	}
	for who, want := range map[string][]string{
		"alice": {"is &lt;b&gt;the replica&lt;/b&gt; not enough?", "it lags, too"}, "bob": {"it lags, too", "has called", `value="ask"`, `<option value="dave">`},
		"dave": {"bob asks you to decide", "you know these disks", `value="approve"`}, "carol": {"it lags, too"},
	} {
		shown := h.read(who, path)
		for _, w := range want {
			if !strings.Contains(shown, w) {
				t.Errorf("%s does not see %q", who, w)
			}
		}
		if strings.Contains(shown, `<option value="`+who+`">`) || who != "bob" && who != "dave" && strings.Contains(shown, `value="handover"`) {
			t.Errorf("%s is offered what is not for them", who)
		}
	}
	if shown := h.read("dave", "/inbox"); !strings.Contains(shown, "bob asks you to decide") {
		t.Error("dave's inbox does not say by whom it is handed to him")
	}
	now := callJSON[api.Request](h, "dave", "GET", "/v1/requests/"+r.ID, nil, 200)
	if now.HandedBy != "bob" || len(now.Questions) != 1 || now.Questions[0].Answer != "it lags, too" || len(now.HandOvers) != 1 || now.Digest != r.Digest {
		t.Errorf("dave gets %+v", now)
	}
	callJSON[api.Request](h, "dave", "POST", "/v1/requests/"+r.ID+"/ask", api.QuestionInput{Text: "until when?"}, 200)
	callJSON[api.Problem](h, "eve", "POST", "/v1/requests/"+r.ID+"/answer", api.AnswerInput{Text: "x"}, 404)
	callJSON[api.Request](h, "alice", "POST", "/v1/requests/"+r.ID+"/answer", api.AnswerInput{Text: "noon"}, 200)
	callJSON[api.Problem](h, "dave", "POST", "/v1/requests/"+r.ID+"/handover", api.HandOverInput{To: "nobody"}, 403)
	if r := callJSON[api.Request](h, "dave", "POST", "/v1/requests/"+r.ID+"/approve", api.ApproveInput{Digest: r.Digest}, 200); r.State != api.Approved {
		t.Errorf("it is %s", r.State)
	}
}

// TestAlarms says of break-glass and of what was detected who is on it, and that it
// was expected, by the pages and by the API; whose it is sees nothing of it.
func TestAlarms(t *testing.T) {
	h := newHouse(t)
	h.watchers()
	glass := h.reviewers().Request.ID
	if status, body := h.send("alice", "/breakglass/"+glass, url.Values{"action": {"acknowledge"}}); status != 403 || !strings.Contains(body, "DB-") {
		t.Errorf("alice: %d %s", status, body)
	}
	if !strings.Contains(h.read("carol", "/breakglass/"+glass), "I am on it") {
		t.Error("carol is not asked whether she is on it")
	}
	if status, body := h.send("carol", "/breakglass/"+glass, url.Values{"action": {"acknowledge"}}); status != 303 {
		t.Errorf("carol: %d %s", status, body)
	}
	b := callJSON[api.BreakGlass](h, "bob", "GET", "/v1/breakglass/"+glass, nil, 200)
	if b.AcknowledgedBy != "carol" || b.MayAcknowledge || b.ClosedAt != nil || !strings.Contains(h.read("bob", "/breakglass/"+glass), "is on it, since") {
		t.Errorf("bob sees %+v", b)
	}
	callJSON[api.Problem](h, "carol", "POST", "/v1/breakglass/"+glass+"/acknowledge", api.Empty{}, 409)

	c := must(h.broker.Request(t.Context(), h.by("alice"), broker.Ask{Target: "db02", Account: "guest", Reason: "CHG-77"}))
	l := must(h.broker.Open(t.Context(), h.by("alice"), c.Grant.ID, broker.Opening{Kind: "shell"}))
	defer h.broker.Close(t.Context(), l, broker.Closing{Reason: "exited"})
	for _, rule := range []string{"alert mysqldump", "alert regexp <b>"} {
		if err := h.broker.Detected(t.Context(), l, broker.Detection{Level: access.DetectAlert, Rule: rule, Command: "x", Sent: true}); err != nil {
			t.Fatal(err)
		}
	}
	path := "/sessions/" + l.Session.ID
	for _, v := range []struct {
		who    string
		values url.Values
		status int
		want   string
	}{
		{"alice", url.Values{"action": {"expected"}, "alarm": {"1"}, "note": {"my backup"}}, 403, "DB-6331"},
		{"alice", url.Values{"action": {"acknowledge"}, "alarm": {"1"}}, 403, "DB-6331"},
		{"bob", url.Values{"action": {"expected"}, "alarm": {"1"}, "note": {"x"}}, 403, "DB-"},
		{"eve", url.Values{"action": {"expected"}, "alarm": {"1"}, "note": {"x"}}, 404, "DB-2104"},
		{"carol", url.Values{"action": {"expected"}, "alarm": {"1"}, "note": {""}}, 422, "DB-1003"},
		{"carol", url.Values{"action": {"expected"}, "alarm": {"9"}, "note": {"x"}}, 409, "DB-6332"},
		{"carol", url.Values{"action": {"expected"}, "alarm": {"x"}, "note": {"x"}}, 422, "say which alarm"},
		{"carol", url.Values{"action": {"explode"}, "alarm": {"1"}}, 422, "DB-"},
		{"carol", url.Values{"action": {"acknowledge"}, "alarm": {"1"}}, 303, path},
		{"carol", url.Values{"action": {"expected"}, "alarm": {"1"}, "note": {"the backup of CHG-7"}}, 303, path},
		{"carol", url.Values{"action": {"expected"}, "alarm": {"1"}, "note": {"again"}}, 409, "DB-6333"},
	} {
		if status, body := h.send(v.who, path, v.values); status != v.status || !strings.Contains(body, v.want) {
			t.Errorf("%s %v: %d, want %d %s\n%s", v.who, v.values, status, v.status, v.want, body)
		}
	}
	shown := h.read("carol", path)
	for _, want := range []string{"alert mysqldump", "is on it, since", "the backup of CHG-7", "alert regexp &lt;b&gt;"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, who := range []string{"alice", "bob"} {
		x := callJSON[api.Session](h, who, "GET", "/v1"+path, nil, 200)
		if len(x.Alarms) > 0 || strings.Contains(h.read(who, path), "mysqldump") {
			t.Errorf("%s sees what is looked for: %+v", who, x.Alarms)
		}
	}
	callJSON[api.Session](h, "carol", "POST", "/v1"+path+"/acknowledge", api.AlarmInput{}, 200)
	x := callJSON[api.Session](h, "carol", "POST", "/v1"+path+"/expected", api.ExpectedInput{Reason: "a drill"}, 200)
	if len(x.Alarms) != 2 || x.Alarms[1].AcknowledgedBy != "carol" || x.Alarms[1].ExpectedReason != "a drill" {
		t.Errorf("the alarms are %+v", x.Alarms)
	}
	for _, s := range callJSON[api.List[api.Session]](h, "carol", "GET", "/v1/sessions", nil, 200).Items {
		if len(s.Alarms) > 0 {
			t.Error("a list tells of alarms")
		}
	}
}
