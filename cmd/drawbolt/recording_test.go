package main

import (
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/web/api"
)

// TestRecording: what is asked of the server about the life of recordings, and how
// it is told that a second person is needed.
func TestRecording(t *testing.T) {
	waits := api.Agreement{First: "kim", FirstAt: noon, Until: &noon}
	done := api.Agreement{Done: true, First: "kim", FirstAt: noon}
	for _, tt := range []struct {
		name   string
		args   []string
		answer any
		code   int
		call   string // "": none
		said   string
	}{
		{"hold", []string{"hold", "SES-1", "SES-2", "--reason", "case 4711"}, api.Hold{ID: "HLD-1", Reason: "case 4711", Sessions: []string{"SES-1", "SES-2"}}, 0,
			`POST /v1/holds {"sessions":["SES-1","SES-2"],"reason":"case 4711"}`, "HLD-1 keeps the recordings of 2 sessions"},
		{"hold by filter", []string{"hold", "--user", "alice", "--since", "2026-02-01", "--reason", "case 4711"}, api.Hold{ID: "HLD-1"}, 0,
			`POST /v1/holds {"user":"alice","since":"2026-02-01T00:00:00Z","reason":"case 4711"}`, "HLD-1"},
		{"hold nothing", []string{"hold", "--reason", "case 4711"}, nil, 2, "", "name the sessions"},
		{"hold both", []string{"hold", "SES-1", "--user", "alice", "--reason", "case 4711"}, nil, 2, "", "name the sessions"},
		{"hold without a reason", []string{"hold", "SES-1"}, nil, 2, "", "--reason"},
		{"the first to lift", []string{"unhold", "HLD-1", "--reason", "closed"}, waits, 8, `POST /v1/holds/HLD-1/lift {"reason":"closed"}`, "kim has asked for it; nothing is done"},
		{"the second to lift", []string{"unhold", "HLD-1", "--reason", "closed"}, done, 0, `POST /v1/holds/HLD-1/lift {"reason":"closed"}`, "the hold HLD-1 is lifted; kim had asked for it"},
		{"the first to delete", []string{"rm", "SES-1", "--reason", "erasure"}, waits, 8, `POST /v1/sessions/SES-1/delete-recording {"reason":"erasure"}`, "Next: drawbolt recording rm SES-1, by somebody else"},
		{"as JSON", []string{"rm", "SES-1", "--reason", "erasure", "--json=done"}, waits, 8, `POST /v1/sessions/SES-1/delete-recording {"reason":"erasure"}`, `{"done":false}`},
		{"the second to delete", []string{"rm", "SES-1", "--reason", "erasure"}, done, 0, `POST /v1/sessions/SES-1/delete-recording {"reason":"erasure"}`, "the recording of SES-1 is deleted"},
		{"delete without a reason", []string{"rm", "SES-1"}, nil, 2, "", "--reason"},
		{"rules", []string{"set-rules", "-f", "-"}, api.RetentionAnswer{Retention: api.Retention{Version: 2}, Agreement: done}, 0,
			`PUT /v1/retention {"rules":[{"id":"year","targets":{},"keep_days":365}],"version":1}`, "the rules are set: version 2"},
		{"no file", []string{"set-rules"}, nil, 2, "", "-f FILE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, _, _ := strings.Cut(tt.call, " {")
			s := newServer(t, map[string]any{address: tt.answer})
			p := newPerson(t).signedIn(s)
			p.stdin = `{"version":1,"rules":[{"id":"year","targets":{},"keep_days":365}]}`
			code, out, errs := p.run(append([]string{"recording"}, tt.args...)...)
			if said := out + errs; code != tt.code || strings.Join(s.calls, "\n") != tt.call || !strings.Contains(said, tt.said) {
				t.Errorf("exit %d, %q: %s", code, s.calls, said)
			}
		})
	}
	p := newPerson(t).signedIn(newServer(t, nil))
	p.stdin = `{"version":1,"rules":[{"id":"year","days":365}]}`
	if code, _, errs := p.run("recording", "set-rules", "-f", "-"); code != 2 || !strings.Contains(errs, `the key "days" is not known`) {
		t.Errorf("exit %d: %s", code, errs)
	}
}
