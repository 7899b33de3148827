package policy

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"pgregory.net/rapid"
)

// full is an Input with something in every field.
func full() Input {
	age := int64(42)
	return Input{
		Action: ActionConnect,
		User: User{ID: "u-1", Name: "alice", Groups: []string{"dbas", "vpn"}, Bot: true, Locked: true,
			MFAAgeSeconds: &age, Attributes: map[string]string{"team": "db", "site": "nyc"}},
		Target: Target{ID: "t-1", Name: "db01", Labels: map[string]string{"environment": "prod", "tier": "0"},
			Applications: []string{"billing"}, Locked: true,
			Facts: map[string]Fact{"patched": {"yes", 60}, "edr": {"<none>", 3600}}},
		Account: "root",
		Environment: Environment{Time: "2026-03-04T10:30:00Z", Weekday: "wednesday", Hour: 11, Minute: 30,
			Source: "192.0.2.7", MaintenanceWindow: true, Ticket: "CHG-1", Freeze: "year end", Sessions: Sessions{1, 2, 3}},
		Request: Request{ID: "r-1", Requester: "u-1", Role: "db-admin", Rule: "prod", Reason: "INC-42 <now> & \"soon\"",
			DurationSeconds: 3600, BreakGlass: true, CreatedAt: "2026-03-04T10:00:00Z",
			Approvals: []Approval{{UserID: "u-2", Groups: []string{"leads"}}, {UserID: "u-3"}}, State: "approved",
			Ticket: Ticket{ID: "CHG-1", Valid: true, State: "open", Assignee: "alice", Title: "replace a disk", Why: "-",
				RequestedBy: []string{"u-4"}, ApprovedBy: []string{"u-5", "u-6"}}},
	}
}

func golden(t *testing.T, name string, got any) {
	t.Helper()
	b, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(b), string(want)); d != "" {
		t.Errorf("%s (-got +want):\n%s", path, d)
	}
}

func TestGolden(t *testing.T) {
	golden(t, "input_full.json", full())
	golden(t, "input_zero.json", Input{})
	golden(t, "decision_zero.json", Decision{})
	golden(t, "decision_full.json", Decision{
		Allow: true, Role: "db-admin", Rule: "prod", Approvals: []Need{{Count: 2, Groups: []string{"leads", "security"}}, {Count: 1}},
		MaxDuration: 4 * time.Hour, Rules: SessionRules{RecordingStrict, true, true, true, true, []string{"uptime"}, []string{"upload *"}, []string{"local *:*"}, []string{"warn shutdown"}, true, true, ""},
		MFAWithin: 15 * time.Minute, BreakGlass: true, Reasons: []Reason{{"request.role", "rule prod of role db-admin allows it"}},
		ID: "ID", InputHash: "aa", PolicyDigest: "bb", DataDigest: "cc",
	})
}

// plain is an Input as encoding/json writes it by itself.
type plain Input

// The JSON is encoding/json's own, byte for byte: an input's hash can be made
// again by whoever has the input.
func TestInputJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.Make[Input]().Draw(t, "input").filled()
		want, err := json.Marshal(plain(in))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(in.appendJSON(nil)), string(want)); d != "" {
			t.Fatal(d)
		}
	})
}

// What OPA sees is what the contract says.
func TestValueIsJSON(t *testing.T) {
	for _, in := range []Input{full(), {}} {
		in = in.filled()
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ast.ValueFromReader(strings.NewReader(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		if got := in.value(); got.Compare(want) != 0 {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
}

func TestActions(t *testing.T) {
	for _, a := range Actions() {
		if !a.Known() {
			t.Errorf("%s is listed but not known", a)
		}
	}
	for _, a := range []Action{"", "frobnicate", ActionBreakGlass, "Request"} {
		if a.Known() {
			t.Errorf("%q is known", a)
		}
	}
}

const header = "package drawbolt\n"

// yes is a whole decision that allows.
const yes = `{"allow": true, "role": "r", "rule": "x", "approvals": [], "max_seconds": 60,
	"session": {"recording": "strict", "shell": true, "exec": false, "agent": false, "x11": false, "commands": [], "files": [], "forwards": [], "detect": [], "silent_watch": false, "four_eyes": false},
	"mfa_seconds": 0, "break_glass": false, "reasons": [{"rule": "a", "text": "b"}]}`

func bundle(text string) fs.FS { return fstest.MapFS{"p.rego": {Data: []byte(text)}} }

func ask() Input {
	return Input{Action: ActionAuditRead, User: User{ID: "u-1"}, Environment: EnvironmentAt(time.Unix(0, 0))}
}

// The yes above is the bundle from which the hostile ones differ in one thing.
func TestHonestBundle(t *testing.T) {
	e, err := New(Config{Bundle: bundle(header + "decision := " + yes), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d, err := e.Decide(t.Context(), ask())
	if err != nil || !d.Allow || d.MaxDuration != time.Minute || d.ID == "" || d.InputHash == "" || d.PolicyDigest != e.Digest() {
		t.Errorf("got %+v, %v", d, err)
	}
	if again, _ := e.Decide(t.Context(), ask()); again.ID == d.ID || again.InputHash != d.InputHash {
		t.Errorf("ids %s, %s; hashes %s, %s", d.ID, again.ID, d.InputHash, again.InputHash)
	}
}

func TestHostileBundles(t *testing.T) {
	replace := func(old, new string) string {
		if !strings.Contains(yes, old) {
			t.Fatalf("%q is not in the decision", old)
		}
		return header + "decision := " + strings.Replace(yes, old, new, 1)
	}
	slow := header + "decision := d if {\n\tn := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]\n" +
		"\tc := count([1 | some a in n; some b in n; some e in n; some f in n; some g in n; some h in n; some i in n])\n\tc > 0\n\td := " + yes + "\n}"
	for _, test := range []struct{ name, text, want string }{
		{"undefined", header + "decision := " + yes + " if input.action == \"nothing\"", "undefined"},
		{"data that nobody gives", header + "decision := " + yes + " if data.elsewhere.open", "undefined"},
		{"just true", header + "decision := true", "not an object"},
		{"string", header + `decision := "allow"`, "not an object"},
		{"set", header + "decision contains " + yes, "not an object"},
		{"allow is text", replace("true", `"true"`), "allow is not true or false"},
		{"allow is a number", replace("true", "1"), "allow is not true or false"},
		{"allow is null", replace("true", "null"), "allow is not true or false"},
		{"allow is missing", replace(`"allow": true, `, ""), "allow is missing"},
		{"extra key", replace(`"allow": true`, `"allow": true, "allowed": true`), "more fields"},
		{"other key", replace(`"mfa_seconds"`, `"mfa"`), "mfa_seconds is missing"},
		{"extra session key", replace(`"shell"`, `"root": true, "shell"`), "more fields"},
		{"no recording", replace(`"strict"`, `"none"`), "recording"},
		{"endless", replace("60", "1e18"), "max_seconds"},
		{"negative", replace("60", "-1"), "max_seconds"},
		{"fraction", replace("60", "0.5"), "max_seconds"},
		{"negative mfa", replace(`"mfa_seconds": 0`, `"mfa_seconds": -1`), "mfa_seconds"},
		{"needs nobody", replace(`"approvals": []`, `"approvals": [{"count": 0, "groups": ["g"]}]`), "asks for nobody"},
		{"needs of nobody", replace(`"approvals": []`, `"approvals": [{"count": 1, "groups": []}]`), "asks for nobody"},
		{"needs as an object", replace(`"approvals": []`, `"approvals": {}`), "approvals is not a list"},
		{"no reasons", replace(`[{"rule": "a", "text": "b"}]`, "[]"), "no reasons"},
		{"empty reason", replace(`"text": "b"`, `"text": ""`), "says nothing"},
		{"conflict", header + "decision := " + yes + " if input.account == \"\"\ndecision := " + strings.Replace(yes, "true", "false", 1) + " if input.account == \"\"", "conflict"},
		{"built-in error", header + "decision := d if {\n\tto_number(input.account) >= 0\n\td := " + yes + "\n}", "to_number"},
		{"slow", slow, "no decision within"},
	} {
		t.Run(test.name, func(t *testing.T) {
			timeout := 10 * time.Second
			if test.name == "slow" {
				timeout = 20 * time.Millisecond
			}
			e, err := New(Config{Bundle: bundle(test.text), Timeout: timeout})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			d, err := e.Decide(t.Context(), ask())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
			if d.Allow || len(d.Reasons) != 1 || d.Reasons[0].Rule != "engine.failed" || d.Role != "" || d.Rules.Shell {
				t.Errorf("got %+v, want a bare refusal", d)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestRefusedBundles(t *testing.T) {
	call := func(expr string) string {
		return header + "decision := d if {\n\tx := " + expr + "\n\tx != 7\n\td := " + yes + "\n}"
	}
	for _, test := range []struct{ name, text, want string }{
		{"http.send", call(`http.send({"method": "get", "url": "http://127.0.0.1/"})`), "undefined function http.send"},
		{"lookup", call(`net.lookup_ip_addr("localhost")`), "undefined function net.lookup_ip_addr"},
		{"runtime", call("opa.runtime()"), "undefined function opa.runtime"},
		{"clock", call("time.now_ns()"), "undefined function time.now_ns"},
		{"random", call(`rand.intn("x", 9)`), "undefined function rand.intn"},
		{"uuid", call(`uuid.rfc4122("x")`), "undefined function uuid.rfc4122"},
		{"parse", call(`rego.parse_module("a", "package a")`), "undefined function rego.parse_module"},
		{"zones", call(`time.clock([0, "../../etc/passwd"])`), "undefined function time.clock"},
		{"http.send instead of another", call(`(count([]) with count as http.send)`), "http.send"},
		{"trace", header + "decision := d if {\n\ttrace(\"x\")\n\td := " + yes + "\n}", "undefined function trace"},
		{"recursion", header + "decision := decision", "recursive"},
		{"old syntax", header + "decision = d { d := 1 }", "if"},
		{"no decision", header + "allow := true", "no rule data.drawbolt.decision"},
		{"no text", "", "empty module"},
		{"no Rego", "allow everything", "rego_parse_error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(Config{Bundle: bundle(test.text)})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
		})
	}
	for name, c := range map[string]Config{
		"no bundle":        {},
		"empty bundle":     {Bundle: fstest.MapFS{"readme.txt": {}}},
		"tests only":       {Bundle: fstest.MapFS{"p_test.rego": {Data: []byte(header + "decision := " + yes)}}},
		"negative timeout": {Bundle: bundle(header + "decision := " + yes), Timeout: -1},
		"large file":       {Bundle: bundle(header + "#" + strings.Repeat("x", maxFileBytes))},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A panic inside OPA refuses; it does not end the server.
func TestPanic(t *testing.T) {
	e := &Engine{timeout: time.Second}
	e.Use(&Program{}) // an unprepared query
	e.state.Store(&state{})
	d, err := e.Decide(t.Context(), ask())
	if err == nil || !strings.Contains(err.Error(), "panicked") || d.Allow || len(d.Reasons) == 0 {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestEndedContext(t *testing.T) {
	e, err := New(Config{Bundle: bundle(header + "decision := " + yes), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("the server stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if d, err := e.Decide(ctx, ask()); !errors.Is(err, why) || d.Allow {
		t.Errorf("got %+v, %v", d, err)
	}
}

func TestInputs(t *testing.T) {
	e, err := New(Config{Bundle: bundle(header + "decision := " + yes), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", maxString+1)
	minus := int64(-1)
	for name, change := range map[string]func(*Input){
		"no user":         func(in *Input) { in.User.ID = "" },
		"long account":    func(in *Input) { in.Account = long },
		"long reason":     func(in *Input) { in.Request.Reason = long },
		"long group":      func(in *Input) { in.User.Groups = []string{long} },
		"no text":         func(in *Input) { in.Target.Name = "\xff" },
		"many groups":     func(in *Input) { in.User.Groups = make([]string, maxList+1) },
		"many approvals":  func(in *Input) { in.Request.Approvals = make([]Approval, maxList+1) },
		"negative time":   func(in *Input) { in.Request.DurationSeconds = -1 },
		"negative age":    func(in *Input) { in.User.MFAAgeSeconds = &minus },
		"hour":            func(in *Input) { in.Environment.Hour = 24 },
		"source":          func(in *Input) { in.Environment.Source = "10.0.0.0/8" },
		"long label":      func(in *Input) { in.Target.Labels = map[string]string{"a": long} },
		"vote of no text": func(in *Input) { in.Request.Approvals = []Approval{{UserID: "\xff"}} },
	} {
		in := ask()
		change(&in)
		if d, err := e.Decide(t.Context(), in); err == nil || d.Allow {
			t.Errorf("%s: got %+v, no error", name, d)
		}
	}
	for _, a := range []Action{"", "frobnicate", ActionBreakGlass} {
		in := ask()
		in.Action = a
		d, err := e.Decide(t.Context(), in)
		if err != nil || d.Allow || d.Reasons[0].Rule != "action.unknown" {
			t.Errorf("action %q: got %+v, %v", a, d, err)
		}
	}
}

func TestDigest(t *testing.T) {
	digest := func(files fstest.MapFS) string {
		e, err := New(Config{Bundle: files})
		if err != nil {
			t.Fatal(err)
		}
		return e.Digest()
	}
	text := header + "decision := " + yes
	one := digest(fstest.MapFS{"p.rego": {Data: []byte(text)}})
	if got := digest(fstest.MapFS{"p.rego": {Data: []byte(text)}, "p_test.rego": {Data: []byte("package t")}, "x.txt": {}}); got != one {
		t.Error("tests and other files change the digest")
	}
	if digest(fstest.MapFS{"p.rego": {Data: []byte(text + "\n")}}) == one || digest(fstest.MapFS{"q.rego": {Data: []byte(text)}}) == one {
		t.Error("a changed or renamed file does not change the digest")
	}
}

func TestRunTests(t *testing.T) {
	files := fstest.MapFS{
		"p.rego": {Data: []byte(header + "decision := " + yes)},
		"p_test.rego": {Data: []byte(header + "test_good if decision.allow\ntest_bad if not decision.allow\n" +
			"test_broken if to_number(\"x\") == 1\ntodo_test_later if false\n")},
	}
	results, err := Test(t.Context(), files, Data{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, r := range results {
		got[strings.TrimPrefix(r.Name, "data.drawbolt.")] = r.Err == nil
	}
	want := map[string]bool{"test_good": true, "test_bad": false, "test_broken": false, "todo_test_later": false}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("passed (-got +want):\n%s", d)
	}
	files["p_test.rego"].Data = []byte(header + "test_net if http.send({}).x")
	if _, err := Test(t.Context(), files, Data{}); err == nil || !strings.Contains(err.Error(), "http.send") {
		t.Errorf("tests run outside the cage: %v", err)
	}
}
