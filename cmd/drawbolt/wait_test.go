package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// TestInterrupt: Ctrl-C stops the waiting, not the request.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newServer(t, map[string]any{
		"POST /v1/requests": pending(),
		awaitREQ1: func([]byte) any {
			cancel()
			return pending()
		}})
	code, out, errs := newPerson(t).signedIn(s).runContext(ctx, "request", "root@db01", "--reason", "x")
	if code != exitInterrupt || !strings.HasPrefix(out, "REQ-1 ") || !strings.Contains(errs, "REQ-1 stays open\n  Next: drawbolt status REQ-1 --wait    or    drawbolt cancel REQ-1") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	for _, call := range s.calls {
		if strings.Contains(call, "cancel") {
			t.Errorf("called %s", call)
		}
	}
}

// TestWait: a server that is started anew does not end the waiting, one vote of
// two does not either, and the version that is asked for moves on.
func TestWait(t *testing.T) {
	one := pending()
	one.Version = 2
	one.Approvals = []api.Approval{{User: "bob", At: noon}}
	one.Needs = []api.Need{{Count: 2, Groups: []string{"dba"}, Have: 1}}
	tries := 0
	s := newServer(t, map[string]any{
		"GET /v1/requests/REQ-1": pending(),
		awaitREQ1: func([]byte) any {
			if tries++; tries == 1 {
				return refuse{Status: 500, Detail: "starting"}
			}
			return one
		},
		"GET /v1/requests/REQ-1?version=2&wait_seconds=30": approved(),
	})
	code, _, errs := newPerson(t).signedIn(s).run("status", "REQ-1", "--wait")
	if code != 0 || !strings.Contains(errs, "approved by bob; 1 from @dba still needed") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestWaitLimit(t *testing.T) {
	s := newServer(t, map[string]any{"GET /v1/requests/REQ-1": pending(), "GET /v1/requests/REQ-1?version=1&wait_seconds=1": pending()})
	p := newPerson(t).signedIn(s)
	var errs strings.Builder
	c := &cli{stdin: strings.NewReader(""), stdout: &strings.Builder{}, stderr: &errs, env: func(k string) string {
		if k == "DRAWBOLT_CONFIG_DIR" {
			return p.dir
		}
		return ""
	}}
	now := noon
	c.now = func() time.Time { now = now.Add(500 * time.Millisecond); return now }
	if code := c.run(t.Context(), []string{"status", "REQ-1", "--wait=1s", "-q"}); code != exitExpired {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

// TestWaitRefused: a refusal ends the waiting at once.
func TestWaitRefused(t *testing.T) {
	s := newServer(t, map[string]any{"GET /v1/requests/REQ-1": pending(), awaitREQ1: refuse{Status: 401, Detail: "you are not logged in"}})
	if code, _, errs := newPerson(t).signedIn(s).run("status", "REQ-1", "--wait"); code != exitLogin {
		t.Errorf("exit %d: %s", code, errs)
	}
}
