package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// noon is the clock of the tests.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A server answers what a test gives it, and checks its caller: every call must
// be one that was told of, bear the token, and send JSON where it sends a body.
type server struct {
	t     *testing.T
	url   string
	mu    sync.Mutex
	calls []string
	// answers by "METHOD /path?query"; without one the answer is a 404 problem.
	answers map[string]any
}

// refuse is an answer that is a problem.
type refuse api.Problem

// accepted is the answer 202 with an empty object.
type accepted struct{}

func newServer(t *testing.T, answers map[string]any) *server {
	t.Helper()
	s := &server{t: t, answers: answers}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	key := r.Method + " " + r.RequestURI
	s.mu.Lock()
	s.calls = append(s.calls, strings.TrimSpace(key+" "+string(body)))
	a, ok := s.answers[key]
	s.mu.Unlock()
	open := strings.HasPrefix(r.URL.Path, "/v1/login") || r.URL.Path == "/v1/version" || r.URL.Path == "/v1/authorities"
	if got := r.Header.Get("Authorization"); (got == "Bearer tok") == open && got != "" || got != "Bearer tok" && !open {
		s.t.Errorf("%s: Authorization is %q", key, got)
	}
	if len(body) > 0 && (r.Header.Get("Content-Type") != "application/json" || !json.Valid(body)) {
		s.t.Errorf("%s: the body is not JSON: %s", key, body)
	}
	if f, is := a.(func([]byte) any); is {
		a = f(body)
	}
	switch a := a.(type) {
	case nil:
		if !ok {
			s.t.Errorf("not expected: %s", key)
		}
		w.WriteHeader(http.StatusNotImplemented)
	case refuse:
		w.Header().Set("Content-Type", api.ProblemType)
		w.WriteHeader(a.Status)
		json.NewEncoder(w).Encode(a)
	case accepted:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, "{}")
	case []byte:
		w.Write(a)
	default:
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(a)
	}
}

// A person is a client with a folder of its own.
type person struct {
	t        *testing.T
	dir      string // DRAWBOLT_CONFIG_DIR
	home     string
	env      map[string]string
	stdin    string
	terminal bool
}

func newPerson(t *testing.T) *person {
	dir := t.TempDir()
	return &person{t: t, dir: filepath.Join(dir, "drawbolt"), home: filepath.Join(dir, "home"), env: map[string]string{}}
}

// signedIn gives the person a profile at the server.
func (p *person) signedIn(s *server) *person {
	p.t.Helper()
	conf := config{Current: "default", Profiles: map[string]*profile{"default": {Server: s.url, User: "alice", SSHHost: "gw.example.com", SSHPort: 2222}}}
	b, err := json.Marshal(conf)
	if err != nil {
		p.t.Fatal(err)
	}
	for name, data := range map[string][]byte{"config.json": b, "default/token": []byte("tok\n")} {
		if err := writeFile(filepath.Join(p.dir, name), data); err != nil {
			p.t.Fatal(err)
		}
	}
	return p
}

// run runs one command line and returns exit code, stdout and stderr.
func (p *person) run(args ...string) (int, string, string) {
	p.t.Helper()
	return p.runContext(p.t.Context(), args...)
}

func (p *person) runContext(ctx context.Context, args ...string) (int, string, string) {
	var out, errs bytes.Buffer
	c := &cli{stdin: strings.NewReader(p.stdin), stdout: &out, stderr: &errs, now: func() time.Time { return noon },
		inTTY: p.terminal, outTTY: p.terminal, errTTY: p.terminal,
		env: func(k string) string {
			switch k {
			case "DRAWBOLT_CONFIG_DIR":
				return p.dir
			case "HOME":
				return p.home
			}
			return p.env[k]
		}}
	code := c.run(ctx, args)
	return code, out.String(), errs.String()
}

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n--- got\n%s\n--- want\n%s", file, got, want)
	}
}

// transcript writes a run as a person sees it.
func (p *person) transcript(s *server, args ...string) string {
	code, out, errs := p.run(args...)
	show := func(text string) string {
		if s != nil {
			text = strings.ReplaceAll(text, s.url, "https://gw.example.com")
		}
		return strings.ReplaceAll(text, filepath.Dir(p.dir), "~")
	}
	return fmt.Sprintf("$ drawbolt %s\n--- stdout\n%s--- stderr\n%s--- exit %d\n", strings.Join(args, " "), show(out), show(errs), code)
}

func TestHelp(t *testing.T) {
	p := newPerson(t)
	for name, args := range map[string][]string{
		"help.txt":         {"--help"},
		"help-request.txt": {"request", "--help"},
		"help-target.txt":  {"target", "--help"},
		"help-verify.txt":  {"help", "verify"},
	} {
		golden(t, name, p.transcript(nil, args...))
	}
}

func later(d time.Duration) *time.Time { t := noon.Add(d); return &t }

func pending() api.Request {
	return api.Request{ID: "REQ-1", State: api.Pending, Requester: "alice", Target: "db01", Account: "root", Role: "dba",
		Reason: "INC-1 lag", DurationSeconds: 3600, CreatedAt: noon, ExpiresAt: noon.Add(15 * time.Minute), Version: 1, Digest: "d1",
		Approvals: []api.Approval{}, Needed: 1, Needs: []api.Need{{Count: 1, Groups: []string{"dba"}}}, Waiting: []string{"bob", "chen"},
		Policy: api.Policy{Rule: "prod-db-root", Digest: "p1"}, URL: "https://gw.example.com/requests/REQ-1"}
}

func approved() api.Request {
	r := pending()
	r.State, r.Version = api.Approved, 2
	r.Approvals = []api.Approval{{User: "bob", Comment: "read-only please", DurationSeconds: 3600, At: noon}}
	r.Grant = &api.Grant{ID: "GRA-1", State: api.Active, End: noon.Add(time.Hour), ActivateBy: noon.Add(time.Hour), DurationSeconds: 3600}
	return r
}

func denied() api.Request {
	r := pending()
	r.State, r.Version, r.DecidedBy, r.Note = api.Denied, 2, "bob", "use the replica db02"
	return r
}

func expired() api.Request {
	r := pending()
	r.State, r.Version = api.Expired, 2
	return r
}

func revoked() api.Request {
	r := approved()
	r.Grant.State, r.Grant.EndReason, r.Grant.EndedBy, r.Grant.EndNote = api.Ended, api.Revoked, "chen", "wrong host"
	return r
}

func someMade() api.List[api.MadeAccount] {
	return api.List[api.MadeAccount]{Items: []api.MadeAccount{
		{ID: "ACC-1", Target: "db01", Account: "dba", Login: "jit-alice", User: "alice", Request: "REQ-1", State: "removing", Over: true, Stuck: true, Tries: 9, Problem: "dial tcp: no route to host"},
		{ID: "ACC-2", Target: "db02", Account: "dba", Login: "jit-alice", User: "alice", Request: "REQ-2", State: "present"},
		{ID: "ACC-3", Target: "db03", Account: "dba", Login: "jit-alice", User: "alice", Request: "REQ-3", State: "failed", Tries: 1, Problem: "could not make the account"},
	}}
}

func someTargets() api.List[api.Target] {
	return api.List[api.Target]{Items: []api.Target{
		{ID: "TGT-1", Name: "db01", Labels: api.Labels{Environment: "prod", Tier: "1"}, Address: "10.0.0.5:22", Version: 3, Accounts: []api.Account{
			{Name: "guest", MayAsk: true, MaxDurationSeconds: 3600},
			{Name: "root", MayAsk: true, Needs: []api.Need{{Count: 1, Groups: []string{"dba"}}}, MaxDurationSeconds: 4 * 3600}}},
		{ID: "TGT-2", Name: "web01", Accounts: []api.Account{{Name: "deploy", Usable: true, Until: later(30 * time.Minute)}}},
		{ID: "TGT-3", Name: "vault01", Locked: true, LockReason: "moving", Accounts: []api.Account{{Name: "root", Why: "no rule selects it"}}},
	}}
}

const awaitREQ1 = "GET /v1/requests/REQ-1?version=1&wait_seconds=30"

// TestVerbs runs verbs against a server and keeps what a person and a script see.
// someChecks are one of db01 that passed, and one of web01 that did not.
func someChecks() []api.TargetCheck {
	return []api.TargetCheck{
		{Target: "db01", Passed: true, Steps: []api.CheckStep{
			{Step: "port", Target: "jump01", State: api.CheckOK, Detail: "10.0.0.1:22 answers"},
			{Step: "way", Target: "jump01", Account: "hop", State: api.CheckOK, Detail: "hop is let in"},
			{Step: "login", Target: "db01", Account: "root", State: api.CheckOK, Detail: "root is let in"},
			{Step: "clock", Target: "db01", State: api.CheckUnknown, Detail: "only a provisioner could tell"},
		}},
		{Target: "web01", Steps: []api.CheckStep{
			{Step: "version", Target: "web01", State: api.CheckOK, Detail: "SSH-2.0-\x1b[2Jevil"},
			{Step: "host-key", Target: "web01", State: api.CheckFailed, Detail: "it shows another key", Next: "drawbolt target set web01 --host-key 'ssh-ed25519 AAAA'"},
		}},
	}
}

func TestVerbs(t *testing.T) {
	evil := pending()
	evil.ID, evil.Reason, evil.Requester = "REQ-9\x1b[2J", "pay\u202eload\n✓ approved\u009b31m", "mal\x07lory"
	no := refuse{Title: "Forbidden", Status: 403, Detail: `you cannot ask for root@db01: it requires the group "dba"`, Code: "DB-2103", Rule: "prod-db-root", Next: "drawbolt ls"}
	tests := []struct {
		name    string
		args    []string
		answers map[string]any
	}{
		{"ls", []string{"ls"}, map[string]any{"GET /v1/targets": someTargets()}},
		{"ls-pattern-json", []string{"ls", "w*", "--json=name,locked"}, map[string]any{"GET /v1/targets?part=w": someTargets()}},
		{"ls-unknown", []string{"ls", "nope"}, map[string]any{"GET /v1/targets?part=nope": someTargets()}},
		{"request-approved", []string{"request", "db01", "--as", "root", "--for", "1h", "--reason", "INC-1 lag"},
			map[string]any{"POST /v1/requests": pending(), awaitREQ1: approved()}},
		{"request-denied", []string{"request", "root@db01", "--reason", "INC-1 lag"},
			map[string]any{"POST /v1/requests": pending(), awaitREQ1: denied()}},
		{"request-expired", []string{"request", "root@db01", "--reason", "INC-1 lag"},
			map[string]any{"POST /v1/requests": pending(), awaitREQ1: expired()}},
		{"request-no-wait-json", []string{"request", "root@db01", "--reason", "INC-1 lag", "--no-wait", "--json=id,state,url"},
			map[string]any{"POST /v1/requests": pending()}},
		{"request-quiet", []string{"request", "root@db01", "--reason", "INC-1 lag", "-q"},
			map[string]any{"POST /v1/requests": approved()}},
		{"request-refused", []string{"request", "root@db01", "--reason", "INC-1 lag"}, map[string]any{"POST /v1/requests": no}},
		{"request-which-account", []string{"request", "db01", "--reason", "x"}, map[string]any{"GET /v1/targets/db01": someTargets().Items[0]}},
		{"request-only-account", []string{"request", "web01", "--reason", "x"},
			map[string]any{"GET /v1/targets/web01": someTargets().Items[1], "POST /v1/requests": approved()}},
		{"request-no-reason", []string{"request", "root@db01"}, nil},
		{"request-bad-duration", []string{"request", "root@db01", "--for", "1.5h", "--reason", "x"}, nil},
		{"request-break-glass", []string{"request", "root@db01", "--break-glass", "--for", "30m", "--start", "+1h", "--reason", "SSO down"},
			map[string]any{"POST /v1/requests": func(b []byte) any {
				if want := `{"target":"db01","account":"root","duration_seconds":1800,"reason":"SSO down","start":"2026-03-01T13:00:00Z","break_glass":true}`; string(b) != want {
					t.Errorf("got %s, want %s", b, want)
				}
				return approved()
			}}},
		{"status-pending", []string{"status", "REQ-1"}, map[string]any{"GET /v1/requests/REQ-1": pending()}},
		{"status-revoked", []string{"status", "REQ-1"}, map[string]any{"GET /v1/requests/REQ-1": revoked()}},
		{"status-json", []string{"status", "REQ-1", "--json"}, map[string]any{"GET /v1/requests/REQ-1": approved()}},
		{"status-wrong-field", []string{"status", "REQ-1", "--json=id,stat"}, map[string]any{"GET /v1/requests/REQ-1": approved()}},
		{"status-mine", []string{"status"}, map[string]any{"GET /v1/accounts": someMade(),
			"GET /v1/requests?limit=200&mine=true": api.List[api.Request]{Items: []api.Request{pending(), approved(), revoked(), denied()}}}},
		{"extend", []string{"extend", "--for", "30m"}, map[string]any{
			"GET /v1/requests?limit=200&mine=true": api.List[api.Request]{Items: []api.Request{approved(), denied()}},
			"POST /v1/requests/REQ-1/extend":       approved()}},
		{"end-none", []string{"end"}, map[string]any{"GET /v1/requests?limit=200&mine=true": api.List[api.Request]{}}},
		{"end", []string{"end", "REQ-1"}, map[string]any{"POST /v1/requests/REQ-1/end": revoked()}},
		{"cancel-two", []string{"cancel"}, map[string]any{"GET /v1/requests?limit=200&mine=true": api.List[api.Request]{Items: []api.Request{pending(), pending()}}}},
		{"inbox", []string{"inbox"}, map[string]any{"GET /v1/requests?inbox=true&limit=200": api.List[api.Request]{Items: []api.Request{pending()}}}},
		{"inbox-empty-json", []string{"inbox", "--json=id"}, map[string]any{"GET /v1/requests?inbox=true&limit=200": api.List[api.Request]{}}},
		{"inbox-evil", []string{"inbox"}, map[string]any{"GET /v1/requests?inbox=true&limit=200": api.List[api.Request]{Items: []api.Request{evil}}}},
		{"inbox-evil-json", []string{"inbox", "--json=id,reason"}, map[string]any{"GET /v1/requests?inbox=true&limit=200": api.List[api.Request]{Items: []api.Request{evil}}}},
		{"approve", []string{"approve", "REQ-1", "--for", "30m", "--note", "ok"}, map[string]any{
			"GET /v1/requests/REQ-1": pending(),
			"POST /v1/requests/REQ-1/approve": func(b []byte) any {
				if want := `{"digest":"d1","duration_seconds":1800,"comment":"ok"}`; string(b) != want {
					t.Errorf("got %s, want %s", b, want)
				}
				return approved()
			}}},
		{"approve-again", []string{"approve", "REQ-1"}, map[string]any{"GET /v1/requests/REQ-1": approved()}},
		{"approve-own", []string{"approve", "REQ-1"}, map[string]any{"GET /v1/requests/REQ-1": pending(),
			"POST /v1/requests/REQ-1/approve": refuse{Title: "Forbidden", Status: 403, Detail: "nobody approves a request of their own", Rule: "approve.self", Code: "DB-2002", Next: "drawbolt status REQ-1"}}},
		{"deny-no-reason", []string{"deny", "REQ-1"}, nil},
		{"deny", []string{"deny", "REQ-1", "--reason", "use the replica"}, map[string]any{"POST /v1/requests/REQ-1/deny": denied()}},
		{"revoke", []string{"revoke", "REQ-1", "--reason", "wrong host"}, map[string]any{"POST /v1/requests/REQ-1/revoke": revoked()}},
		{"whoami", []string{"whoami"}, map[string]any{"GET /v1/me": api.Me{User: "alice", Groups: []string{"web"}, Roles: []string{"dev"}, LoginExpiresAt: noon.Add(8 * time.Hour)}}},
		{"sessions", []string{"sessions"}, map[string]any{"GET /v1/sessions?limit=50": api.List[api.Session]{Items: []api.Session{
			{ID: "SES-2", State: "open", User: "alice", Target: "db01", Account: "root", Kind: "shell", OpenedAt: noon},
			{ID: "SES-1", State: "closed", User: "dave", Target: "web01", Account: "deploy", Kind: "exec", Command: "uptime\r\nrm", OpenedAt: noon.Add(-26 * time.Hour), ClosedAt: later(-25 * time.Hour), EndReason: "exited"}}}}},
		{"sessions-live", []string{"sessions", "--live"}, map[string]any{"GET /v1/sessions?limit=50&live=true": api.List[api.Session]{Items: []api.Session{
			{ID: "SES-2", State: "open", User: "alice", Target: "db01", Account: "root", Kind: "shell", OpenedAt: noon, Risks: []string{"break-glass", "tier-0"}}}}}},
		{"end-session", []string{"end", "SES-2", "--reason", "wrong host"}, map[string]any{"POST /v1/sessions/SES-2/end": func(b []byte) any {
			if want := `{"reason":"wrong host"}`; string(b) != want {
				t.Errorf("got %s, want %s", b, want)
			}
			return api.Session{ID: "SES-2", User: "alice", Target: "db01", Account: "root", Request: "REQ-1"}
		}}},
		{"end-session-revoke", []string{"end", "SES-2", "--reason", "wrong host", "--revoke"}, map[string]any{
			"POST /v1/sessions/SES-2/end": api.Session{ID: "SES-2", User: "alice", Target: "db01", Account: "root", Request: "REQ-1"}}},
		{"end-session-no-reason", []string{"end", "SES-2"}, nil},
		{"end-reason", []string{"end", "REQ-1", "--reason", "x"}, nil},
		{"message", []string{"message", "SES-2", "please", "stop"}, map[string]any{"POST /v1/sessions/SES-2/message": func(b []byte) any {
			if want := `{"text":"please stop"}`; string(b) != want {
				t.Errorf("got %s, want %s", b, want)
			}
			return api.Empty{}
		}}},
		{"pause", []string{"pause", "SES-2"}, map[string]any{"POST /v1/sessions/SES-2/pause": api.Empty{}}},
		{"resume", []string{"resume", "SES-2"}, map[string]any{"POST /v1/sessions/SES-2/resume": refuse{Title: "Conflict", Status: 409, Detail: "it is not paused; nothing changed", Code: "DB-6084"}}},
		{"watch-elsewhere", []string{"watch", "SES-2"}, map[string]any{"GET /v1/sessions/SES-2/watch": refuse{
			Title: "Conflict", Status: 409, Detail: "session SES-2 runs on the server gw-2: it can be watched there, and nowhere else", Code: "DB-6080", Next: "drawbolt watch SES-2 --server URL"}}},
		{"search", []string{"search", "DROP TABLE", "--in", "output,keys", "--target", "db*", "--since", "2026-02-01"}, map[string]any{
			"GET /v1/search?in=output%2Ckeys&limit=50&q=DROP+TABLE&since=2026-02-01T00%3A00%3A00Z&target=db%2A": api.SearchPage{Sessions: 1204, Partial: 1, Items: []api.SearchHit{
				{Session: "SES-9f2c", Time: noon, AtSeconds: 962, User: "alice", Account: "root", Target: "db01", In: "output", Text: "DROP TABLE audit_old;", URL: "/sessions/SES-9f2c/play?t=962&q=DROP+TABLE"},
				{Session: "SES-77ab", Time: noon.Add(-240 * time.Hour), AtSeconds: 80, User: "dave", Account: "postgres", Target: "db03", In: "keys",
					Text: strings.Repeat("echo some words before; ", 5) + "drop table tmp_x;" + strings.Repeat(" and some behind", 5), URL: "/sessions/SES-77ab/play?t=80&q=DROP+TABLE"}}}}},
		{"search-none", []string{"search", "nothing"}, map[string]any{"GET /v1/search?limit=50&q=nothing": api.SearchPage{Sessions: 1}}},
		{"search-json", []string{"search", "nothing", "--json=session"}, map[string]any{"GET /v1/search?limit=50&q=nothing": api.SearchPage{}}},
		{"search-pages", []string{"search", "passwd", "--limit", "2", "--json=session,at_seconds,text"}, map[string]any{
			"GET /v1/search?limit=2&q=passwd":          api.SearchPage{Sessions: 3, Next: "7", Reached: later(-time.Hour), Items: []api.SearchHit{{Session: "SES-1", AtSeconds: 1, Text: "cat passwd"}}},
			"GET /v1/search?before=7&limit=1&q=passwd": api.SearchPage{Sessions: 3, Next: "8", Items: []api.SearchHit{{Session: "SES-2", AtSeconds: 2, Text: "vi passwd"}}}}},
		{"search-short", []string{"search", "rm"}, map[string]any{
			"GET /v1/search?limit=50&q=rm": refuse{Title: "Unprocessable", Status: 422, Detail: "one of the words that are searched for must have at least 3 characters", Code: "DB-6060", Next: `drawbolt search '"rm -rf"'`}}},
		{"audit-search", []string{"audit", "search", "--actor", "alice", "--since", "7d", "--limit", "2"}, map[string]any{
			"GET /v1/audit/events?actor=alice&limit=2&since=2026-02-22T12%3A00%3A00Z": api.List[api.Event]{Next: "4", Items: []api.Event{
				{Seq: 4, Time: noon, Actor: "USR-1", ActorName: "alice", Action: "request.create", Object: "REQ-1", Target: "db01", Account: "root", Outcome: "done", Reason: "INC-1"}}},
			"GET /v1/audit/events?actor=alice&after=4&limit=1&since=2026-02-22T12%3A00%3A00Z": api.List[api.Event]{Items: []api.Event{
				{Seq: 9, Time: noon, Actor: "USR-1", Action: "login", Outcome: "refused", Reason: "wrong password"}}}}},
		{"target-add", []string{"target", "add", "db02", "--address", "h:22", "--account", "root,app", "--label", "env=prod"}, map[string]any{
			"POST /v1/targets": func(b []byte) any {
				if want := `{"name":"db02","address":"h:22","labels":{"environment":"prod"},"accounts":[{"name":"root"},{"name":"app"}]}`; string(b) != want {
					t.Errorf("got %s, want %s", b, want)
				}
				return api.Target{Name: "db02"}
			}}},
		{"target-set", []string{"target", "set", "db01", "--label", "tier=0"}, map[string]any{
			"GET /v1/targets/db01": someTargets().Items[0],
			"PUT /v1/targets/db01": func(b []byte) any {
				if want := `{"name":"db01","address":"10.0.0.5:22","labels":{"environment":"prod","tier":"0"},"accounts":[{"name":"guest"},{"name":"root"}],"version":3}`; string(b) != want {
					t.Errorf("got %s, want %s", b, want)
				}
				return someTargets().Items[0]
			}}},
		{"target-rm-without-yes", []string{"target", "rm", "db01"}, nil},
		{"target-rm", []string{"target", "rm", "db01", "--yes"}, map[string]any{"DELETE /v1/targets/db01": struct{}{}}},
		{"target-check", []string{"target", "check", "db01", "--account", "root"}, map[string]any{"POST /v1/targets/db01/check": func(b []byte) any {
			if want := `{"account":"root"}`; string(b) != want {
				t.Errorf("sent %s, want %s", b, want)
			}
			return someChecks()[0]
		}}},
		{"target-check-many", []string{"target", "check", "w*", "db01"}, map[string]any{"GET /v1/targets?part=w": someTargets(),
			"POST /v1/targets/db01/check": someChecks()[0], "POST /v1/targets/web01/check": someChecks()[1]}},
		{"target-check-json", []string{"target", "check", "web01", "--json"}, map[string]any{"POST /v1/targets/web01/check": someChecks()[1]}},
		{"target-check-refused", []string{"target", "check", "db01", "web01"}, map[string]any{"POST /v1/targets/db01/check": no, "POST /v1/targets/web01/check": someChecks()[1]}},
		{"target-check-none", []string{"target", "check", "x*"}, map[string]any{"GET /v1/targets?part=x": someTargets()}},
		{"target-bootstrap", []string{"target", "bootstrap", "db01"}, map[string]any{
			"POST /v1/targets/db01/bootstrap": api.Bootstrap{Target: "db01", Script: "#!/bin/sh\ntrue\n", ExpiresAt: noon.Add(time.Hour)}}},
		{"target-lock", []string{"target", "lock", "db01", "--reason", "moving"}, map[string]any{"POST /v1/targets/db01/lock": someTargets().Items[2]}},
		{"account-ls-made", []string{"account", "ls"}, map[string]any{"GET /v1/targets": someTargets(), "GET /v1/accounts": someMade()}},
		{"account-give-up", []string{"account", "give-up", "ACC-1", "--reason", "scrapped"}, map[string]any{"POST /v1/accounts/ACC-1/give-up": api.Empty{}}},
		{"account-add-no-login", []string{"account", "add", "dba@db01", "--group", "adm"}, map[string]any{"GET /v1/targets/db01": api.Target{Name: "db01"}}},
		{"account-add", []string{"account", "add", "dba@db01", "--prefix", "jit-", "--sudo", "ALL=(ALL) ALL"}, map[string]any{
			"GET /v1/targets/db01": api.Target{Name: "db01", Provisioner: "root", Version: 4, Accounts: []api.Account{{Name: "app", Made: &api.AccountTemplate{Login: "app"}}}},
			"PUT /v1/targets/db01": func(b []byte) any {
				if want := `{"name":"db01","address":"","labels":{},"accounts":[{"name":"app","made":{"login":"app"}},{"name":"dba","made":{"prefix":"jit-","sudo":["ALL=(ALL) ALL"]}}],"provisioner":"root","version":4}`; string(b) != want {
					t.Errorf("sent %s, want %s", b, want)
				}
				return api.Target{Name: "db01"}
			}}},
		{"account-ls", []string{"account", "ls", "--json"}, map[string]any{"GET /v1/targets": someTargets()}},
		{"user-add", []string{"user", "add", "dave", "--group", "web"}, map[string]any{
			"POST /v1/users": api.User{Name: "dave"}, "POST /v1/users/dave/setup": api.SetupLink{URL: "https://gw.example.com/setup?t=x", ExpiresAt: noon.Add(time.Hour)}}},
		{"user-set", []string{"user", "set", "dave", "--add-group", "dba", "--remove-group", "web"}, map[string]any{
			"GET /v1/users/dave": api.User{Name: "dave", Groups: []string{"web", "ops"}, Version: 5},
			"PUT /v1/users/dave": func(b []byte) any {
				if want := `{"name":"dave","groups":["dba","ops"],"version":5}`; string(b) != want {
					t.Errorf("got %s, want %s", b, want)
				}
				return api.User{Name: "dave", Groups: []string{"dba", "ops"}}
			}}},
		{"group-ls", []string{"group", "ls"}, map[string]any{"GET /v1/groups": api.List[api.Group]{Items: []api.Group{{Name: "dba", Members: []string{"bob", "chen"}}}}}},
		{"role-ls", []string{"role", "ls"}, map[string]any{"GET /v1/roles": api.List[api.Role]{Items: []api.Role{{Name: "dba", Groups: []string{"dba"}, Rules: []api.Rule{{ID: "r1"}, {ID: "r2"}}}}}}},
		{"ca-show-user", []string{"ca", "show", "user"}, map[string]any{"GET /v1/authorities": api.Authorities{User: "ssh-ed25519 AAAAuser", Host: "ssh-ed25519 AAAAhost"}}},
		{"policy-explain", []string{"policy", "explain", "--user", "alice", "--target", "db01", "--as", "root", "--for", "1h"}, map[string]any{
			"POST /v1/policy/explain": api.Decision{Allow: true, Role: "dba", Rule: "prod-db-root", Approvals: []api.ApproverNeed{{Count: 2, Groups: []string{"dba", "sre"}}},
				MaxDurationSeconds: 4 * 3600, MFAWithinSeconds: 300, Reasons: []api.RuleReason{{Rule: "request.role", Text: "the role dba allows it"}}, PolicyDigest: "ab12"}}},
		{"policy-explain-refuse", []string{"policy", "explain", "--target", "db01", "--as", "root"}, map[string]any{
			"POST /v1/policy/explain": api.Decision{Reasons: []api.RuleReason{{Rule: "request.none", Text: "no role of yours allows it"}}, PolicyDigest: "ab12"}}},
		{"integration-ls", []string{"integration", "ls"}, map[string]any{"GET /v1/integrations": api.List[api.Integration]{Items: someIntegrations()}}},
		{"integration-show", []string{"integration", "show", "chat"}, map[string]any{"GET /v1/integrations/chat": someIntegrations()[0]}},
		{"integration-test", []string{"integration", "test", "mail"}, map[string]any{
			"POST /v1/integrations/mail/test": api.IntegrationTest{Position: 4711}, "GET /v1/integrations/mail": someIntegrations()[1]}},
		{"integration-test-refused", []string{"integration", "test", "chat"}, map[string]any{
			"POST /v1/integrations/chat/test": api.IntegrationTest{Position: 40}, "GET /v1/integrations/chat": someIntegrations()[0]}},
		{"integration-test-late", []string{"integration", "test", "chat", "--wait", "1ms"}, map[string]any{
			"POST /v1/integrations/chat/test": api.IntegrationTest{Position: 4711}, "GET /v1/integrations/chat": someIntegrations()[0]}},
		{"integration-retry", []string{"integration", "retry", "chat"}, map[string]any{"POST /v1/integrations/chat/retry": api.IntegrationRetry{Retried: 1}}},
		{"slack-setup-first", []string{"integration", "slack", "setup"}, map[string]any{
			"GET /v1/integrations/slack/manifest?mode=socket": api.SlackManifest{Manifest: "{}", CreateURL: "https://api.slack.com/apps?new_app=1"}}},
		{"slack-setup", []string{"integration", "slack", "setup"}, map[string]any{
			"GET /v1/integrations/slack/manifest?mode=socket": api.SlackManifest{Configured: true},
			"POST /v1/integrations/slack/check": api.SlackCheck{Steps: []api.CheckStep{
				{Step: "bot-token", Target: "slack", State: api.CheckOK, Detail: "it is the bot drawbolt in the workspace Example"},
				{Step: "channel", Target: "slack", State: api.CheckFailed, Detail: "channel_not_found", Next: "put the channel's id (C…) into notifications.slack.channel"},
			}}}},
		{"slack-manifest", []string{"integration", "slack", "manifest", "--mode", "http"}, map[string]any{
			"GET /v1/integrations/slack/manifest?mode=http": api.SlackManifest{Manifest: "{\n  \"features\": {}\n}\n"}}},
		{"slack-links", []string{"integration", "slack", "links", "--user", "bob"}, map[string]any{
			"GET /v1/users/bob/links": api.List[api.Link]{Items: []api.Link{{Kind: "slack", Team: "T0EXAMPLE", Account: "U0BOB", Name: "Bob Ray", CreatedAt: noon.Add(-time.Hour)}}}}},
		{"slack-unlink", []string{"integration", "slack", "unlink"}, map[string]any{
			"GET /v1/me/links":                          api.List[api.Link]{Items: []api.Link{{Kind: "slack", Team: "T0EXAMPLE", Account: "U0BOB", Name: "Bob Ray"}}},
			"DELETE /v1/me/links/slack/T0EXAMPLE/U0BOB": api.Empty{}}},
		{"user-set-email", []string{"user", "set", "dave", "--email", "dave@example.com"}, map[string]any{
			"GET /v1/users/dave": api.User{Name: "dave", Groups: []string{"web"}, Attributes: map[string]string{"team": "core"}, Version: 5},
			"PUT /v1/users/dave": func(b []byte) any {
				if want := `{"name":"dave","groups":["web"],"attributes":{"email":"dave@example.com","team":"core"},"version":5}`; string(b) != want {
					t.Errorf("got %s, want %s", b, want)
				}
				return api.User{Name: "dave", Groups: []string{"web"}}
			}}},
		{"policy-explain-ways", []string{"policy", "explain", "--target", "db01", "--as", "root", "--at", "2026-03-07T22:00:00Z", "--source", "198.51.100.7", "--second-factor"}, map[string]any{
			"POST /v1/policy/explain": func(b []byte) any {
				if want := `{"target":"db01","account":"root","action":"request","at":"2026-03-07T22:00:00Z","source":"198.51.100.7","second_factor":true}`; string(b) != want {
					t.Errorf("sent %s, want %s", b, want)
				}
				return api.Decision{Role: "dba", Rule: "prod", RuleText: "may request root on db*", Reasons: []api.RuleReason{{Rule: "condition.hours", Text: "only from 08:00 to 18:00; try again then"}}, PolicyDigest: "ab12",
					Ways: []api.PolicyWay{{Changes: []api.PolicyChange{{Kind: "hours", Text: "at Monday 08:00 UTC"}, {Kind: "source", Text: "from the network 10.0.0.0/8"}}}, {Changes: []api.PolicyChange{{Kind: "account", Text: "as deploy instead"}}}}}
			}}},
		{"policy-show", []string{"policy", "show"}, map[string]any{"GET /v1/policy": api.PolicyView{Digest: "ab12", Roles: []api.PolicyRole{{Name: "dba", Members: "members of dbas", Rules: []api.PolicyRule{{ID: "prod", Text: "may request root on db*"}}}},
			Servers: []api.PolicyServer{{Name: "gw1", Digest: "ab12", Source: "/etc/drawbolt/policy", Commit: "0123456789abcdef0123456789abcdef01234567", Signer: "security"}, {Name: "gw2", Digest: "cd34", Refused: "test x failed\x1b[31m"}}}}},
		{"policy-who-can", []string{"policy", "who-can", "db01", "root"}, map[string]any{"GET /v1/policy/who-can?account=root&target=db01": api.WhoCan{Target: "db01", Account: "root", Users: 40,
			Ways: []api.AccessWay{
				{Path: []string{"group dbas", "role dba"}, Rule: "prod", RuleText: "may request root on db*", Allowed: true, Approvals: []api.ApproverNeed{{Count: 1, Groups: []string{"leads"}}}, Count: 20, People: strings.Fields("a b c d e f g h i j k l m n o p q r s t")},
				{Path: []string{"group sres", "role sre", "role dba"}, Rule: "night", RuleText: "may request root on db*", Standing: true, Missing: []string{"at Monday 22:00 UTC", "name a ticket in the reason"}, Count: 1, People: []string{"zoe"}},
				{Path: []string{"named in person", "role fire"}, Rule: "fire", RuleText: "may break_glass root on db*", Allowed: true, BreakGlass: true, Count: 1, People: []string{"ann"}},
			},
			Holders: []api.AccessHolder{{User: "alice", Request: "REQ-1", Until: noon.Add(time.Hour)}}, Beside: []string{"whoever knows the password of root logs in without drawbolt"}}}},
		{"policy-who-can-nobody", []string{"policy", "who-can", "db01", "root"}, map[string]any{"GET /v1/policy/who-can?account=root&target=db01": api.WhoCan{Target: "db01", Account: "root"}}},
		{"policy-who-can-usage", []string{"policy", "who-can", "db01"}, nil},
		{"policy-test", []string{"policy", "test", "../../rego"}, map[string]any{"POST /v1/policy/test": api.PolicyTest{Digest: "ab12", Content: "cd34", Rules: 10, Untested: []string{"a.rego:3 allow"},
			Tests:    []api.PolicyTestResult{{Name: "data.t.test_a", At: "a_test.rego:1", Passed: true}, {Name: "data.t.test_b", At: "a_test.rego:5", Error: "failed", Failed: "d.allow == false", FailedAt: "a_test.rego:7"}},
			Problems: []string{"test data.t.test_b failed at a_test.rego:7: d.allow == false"}}}},
		{"policy-replay", []string{"policy", "replay", "../../rego"}, map[string]any{"POST /v1/policy/replay": api.PolicyReplay{Looked: 1204, Flipped: 2, From: &noon, Until: &noon, Partial: true, Doubtful: []string{"XYZ"},
			Flips: []api.PolicyFlip{{Kind: "allowed", Action: "request", Was: "no rule", Now: "dba/prod", Text: "refused before, allowed now: rule prod of role dba allows it", Count: 2,
				Of: []api.FlippedDecision{{At: noon, User: "alice", Account: "root", Target: "db01"}, {At: noon, User: "bob", Account: "root", Target: "db02"}}}}}}},
		{"policy-replay-none", []string{"policy", "replay", "../../rego"}, map[string]any{"POST /v1/policy/replay": api.PolicyReplay{Looked: 1, From: &noon}}},
		{"policy-replay-what", []string{"policy", "replay"}, nil},
		{"verb-unknown", []string{"reqest"}, nil},
		{"noun-unknown", []string{"target", "lis"}, nil},
		{"noun-alone", []string{"audit"}, nil},
		{"flag-unknown", []string{"request", "db01", "--reasn", "x"}, nil},
		{"argument-missing", []string{"approve"}, nil},
		{"argument-empty", []string{"approve", ""}, nil},
		{"argument-too-many", []string{"approve", "a", "b"}, nil},
		{"ssh-option-first", []string{"ssh", "root@-oProxyCommand=x"}, nil},
		{"verify-no-key", []string{"verify", "../../recorder/cast/testdata/session.cast"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, tt.answers)
			p := newPerson(t).signedIn(s)
			golden(t, tt.name+".txt", p.transcript(s, tt.args...))
		})
	}
}

func someIntegrations() []api.Integration {
	at := noon.Add(-time.Hour)
	return []api.Integration{
		{Name: "chat", Type: "mattermost", State: api.IntegrationFails, Node: "gw-1", Position: 4242, Behind: 12, LagSeconds: 90, Error: "it answers 503 \"\x1b[31mred\"", ErrorAt: &at, SuccessAt: &at, Late: 1, Aside: 1,
			SetAside: []api.SetAside{{Position: 40, Action: "request.create", Tries: 1, Error: "refused for good: it answers 400"}}},
		{Name: "mail", Type: "mail", State: api.IntegrationWorks, Node: "gw-1", Position: 4712, SuccessAt: &at},
		{Name: "old", Type: "webhook", State: api.IntegrationStopped},
	}
}
