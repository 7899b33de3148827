package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/web/api"
)

// stream is an answer of events.
func stream(t *testing.T, events ...api.WatchEvent) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, e := range events {
		if err := json.NewEncoder(&b).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

var watchable = api.WatchEvent{Kind: api.WatchBegin, Session: &api.Session{ID: "SES-2", User: "alice", Target: "db01", Account: "root", OpenedAt: noon}}

// Whatever the session writes, and whatever a server makes of it, nothing of it acts
// on the terminal of who watches.
func TestWatchIsFiltered(t *testing.T) {
	evil := "shown\x1b]0;title\x07\x1b]52;c;cGF5bG9hZA==\x07\x1b[6n\x1b[?1049h\x1bP$q\x1b\\\x1bc\u202e\u009b5n\x1b[31mred"
	paused := watchable
	paused.Text = "bob\x1b[2J"
	s := newServer(t, map[string]any{"GET /v1/sessions/SES-2/watch": stream(t, paused,
		api.WatchEvent{Kind: api.WatchScreen, Columns: 80, Rows: 24, Text: "\x1b[1;1Hthe screen" + evil},
		api.WatchEvent{At: 1, Kind: api.WatchOutput, Text: evil},
		api.WatchEvent{At: 2, Kind: api.WatchMark, Text: evil},
		api.WatchEvent{At: 3, Kind: "unknown", Text: evil},
		api.WatchEvent{At: 4, Kind: api.WatchEnd, Text: "exited" + evil})})
	code, out, errs := newPerson(t).signedIn(s).run("watch", "SES-2")
	if code != 0 || !strings.Contains(out, "the screen") || !strings.Contains(out, "\x1b[31mred") || !strings.Contains(errs, "alice watches SES-2: alice on root@db01") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	for _, bad := range []string{"title", "cGF5", "\x07", "\x1b[6n", "\x1b[?", "\x1bP", "\x1bc", "\u202e", "\u009b"} {
		if strings.Contains(out, bad) {
			t.Errorf("%q reached the terminal: %q", bad, out)
		}
	}
	for _, bad := range []string{"\x07", "\x1b", "\u202e", "\u009b"} {
		if strings.Contains(errs, bad) {
			t.Errorf("%q reached the terminal: %q", bad, errs)
		}
	}
}

func TestWatchEnds(t *testing.T) {
	for name, test := range map[string]struct {
		last []api.WatchEvent
		code int
		says string
	}{
		"with the session":          {[]api.WatchEvent{{Kind: api.WatchEnd, Text: "revoked"}}, 0, "✓ SES-2 is over: revoked\nNext: drawbolt replay SES-2"},
		"with the right to":         {[]api.WatchEvent{{Kind: api.WatchCut, Text: "you may not watch this session any more"}}, exitDenied, "you may not watch this session any more"},
		"with the connection":       {nil, exitError, "ended before the session"},
		"with something that is no": {[]api.WatchEvent{{Kind: api.WatchBegin}}, exitError, "does not say what is watched"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, map[string]any{"GET /v1/sessions/SES-2/watch?at=962": stream(t, append([]api.WatchEvent{watchable}, test.last...)...)})
			code, _, errs := newPerson(t).signedIn(s).run("watch", "SES-2", "--from", "16:02")
			if code != test.code || !strings.Contains(errs, test.says) {
				t.Errorf("exit %d, %q", code, errs)
			}
		})
	}
}

func TestWatchJSON(t *testing.T) {
	events := []api.WatchEvent{watchable, {At: 1, Kind: api.WatchOutput, Text: "\x1b]0;x\x07hello\n"}, {At: 2, Kind: api.WatchEnd, Text: "exited"}}
	s := newServer(t, map[string]any{"GET /v1/sessions/SES-2/watch": stream(t, events...)})
	code, out, errs := newPerson(t).signedIn(s).run("watch", "SES-2", "--json")
	if code != 0 || strings.TrimSpace(errs) != "" || out != string(stream(t, events...)) {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if strings.ContainsAny(out, "\x1b\x07") {
		t.Errorf("%q acts", out)
	}
}
