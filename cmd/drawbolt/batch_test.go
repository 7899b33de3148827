package main

import (
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// inBatch is a request of the batch, for a target of its own.
func inBatch(r api.Request, target string) api.Request {
	r.ID, r.Batch, r.Target = "REQ-"+target, "BAT-1", target
	return r
}

// TestBatchStatus: where each target of a batch stands, and how the whole does.
func TestBatchStatus(t *testing.T) {
	used := approved()
	used.Grant.Start = later(-time.Minute)
	soon := approved()
	soon.Grant.State = api.Scheduled
	evil := denied()
	evil.Note = "no\n  db02  done  0\x1b[2J"
	session := func(target, state, reason string, exit *int) api.Session {
		return api.Session{ID: "SES-" + target, State: state, Request: "REQ-" + target, Target: target, Kind: "exec", OpenedAt: noon, EndReason: reason, ExitStatus: exit}
	}
	nought, three := 0, 3
	const sessions = "GET /v1/sessions?batch=BAT-1&limit=200"
	const members = "GET /v1/requests?batch=BAT-1&limit=200"
	all := func(list ...api.Request) api.List[api.Request] { return api.List[api.Request]{Items: list} }
	none := api.List[api.Session]{}
	everything := map[string]any{
		// The newest first, as the server lists them.
		members: all(inBatch(soon, "web09"), inBatch(revoked(), "web08"), inBatch(evil, "web07"), inBatch(expired(), "web06"), inBatch(used, "web05"),
			inBatch(used, "web04"), inBatch(used, "web03"), inBatch(approved(), "web02"), inBatch(pending(), "web01"), inBatch(revoked(), "web10")),
		sessions: api.List[api.Session]{Items: []api.Session{
			session("web10", "closed", "revoked", nil), session("web05", "closed", "exited", &three), session("web05", "closed", "exited", &nought),
			session("web04", "closed", "exited", &nought), session("web03", "open", "", nil), session("web03", "closed", "exited", &three), session("db01", "open", "", nil),
		}},
	}
	for _, tt := range []struct {
		name    string
		args    []string
		answers map[string]any
	}{
		{"status-batch", []string{"status", "BAT-1"}, everything},
		{"status-batch-json", []string{"status", "BAT-1", "--json=id,state,targets"}, everything},
		{"status-batch-wrong-field", []string{"status", "BAT-1", "--json=target"}, nil},
		{"status-batch-none", []string{"status", "BAT-1"}, map[string]any{members: all()}},
		{"status-batch-wait", []string{"status", "BAT-1", "--wait"}, map[string]any{
			members: all(inBatch(pending(), "web02"), inBatch(pending(), "web01")), sessions: none,
			"GET /v1/requests/REQ-web01?version=1&wait_seconds=3": inBatch(approved(), "web01"), "GET /v1/requests/REQ-web02": inBatch(approved(), "web02"),
		}},
		{"status-batch-wait-denied", []string{"status", "BAT-1", "--wait"}, map[string]any{
			members: all(inBatch(approved(), "web02"), inBatch(pending(), "web01")), sessions: none,
			"GET /v1/requests/REQ-web01?version=1&wait_seconds=3": inBatch(denied(), "web01"),
		}},
		{"status-batch-over", []string{"status", "BAT-1"}, map[string]any{
			members:  all(inBatch(revoked(), "web02"), inBatch(used, "web01")),
			sessions: api.List[api.Session]{Items: []api.Session{session("web02", "closed", "exited", &three), session("web01", "closed", "exited", &nought)}},
		}},
		{"status-batch-no-wait-for-all", []string{"status", "--wait"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, tt.answers)
			golden(t, tt.name+".txt", newPerson(t).signedIn(s).transcript(s, tt.args...))
		})
	}
}
