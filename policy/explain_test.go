package policy

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// house is an engine with the default bundle and roles of a small house.
func house(t *testing.T) (*Engine, map[string][]byte) {
	t.Helper()
	files, err := ReadFiles(os.DirFS("../rego"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(files)
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewEngine(p, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SetData(houseRoles()); err != nil {
		t.Fatal(err)
	}
	return e, files
}

func houseRoles() Data {
	prod := Selector{Names: []string{"db*"}, Labels: map[string][]string{"environment": {"prod"}}}
	return Data{Roles: []Role{
		{Name: "engineer", Groups: []string{"engineers"}, Rules: []Rule{
			{ID: "deploy", Actions: []Action{ActionRequest}, Targets: prod, Accounts: []string{"deploy"}, MaxDuration: 8 * time.Hour},
		}},
		{Name: "dba", Groups: []string{"dbas"}, Inherits: []string{"engineer"}, Rules: []Rule{
			{ID: "day", Actions: []Action{ActionRequest, ActionExtend}, Targets: prod, Accounts: []string{"root"}, MaxDuration: 2 * time.Hour, MFAWithin: time.Hour,
				Approvals: []Need{{Count: 1, Groups: []string{"leads"}}}, Weekdays: []string{"monday", "tuesday", "wednesday", "thursday", "friday"},
				Hours: []Hours{{From: "08:00", To: "18:00"}}, Sources: []string{"10.0.0.0/8"}, RequireTicket: true, Session: SessionRules{Shell: true}},
			{ID: "fire", Actions: []Action{ActionBreakGlass}, Targets: prod, Accounts: []string{"root"}, MaxDuration: time.Hour},
		}},
	}}
}

// at is a question on Sunday at 12:30.
func at(groups ...string) Input {
	now := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	return Input{
		Action: ActionRequest, Account: "root", Environment: EnvironmentAt(now),
		User:    User{ID: "u-1", Name: "alice", Groups: groups},
		Target:  Target{ID: "t-1", Name: "db01", Labels: map[string]string{"environment": "prod"}},
		Request: Request{Requester: "u-1", DurationSeconds: 4 * 3600},
	}
}

func told(sets [][]Change) string {
	var lines []string
	for _, set := range sets {
		var texts []string
		for _, c := range set {
			texts = append(texts, c.Text)
		}
		lines = append(lines, strings.Join(texts, " + "))
	}
	return strings.Join(lines, "\n")
}

func TestExplain(t *testing.T) {
	e, _ := house(t)
	fresh := int64(10)
	for _, c := range []struct {
		name  string
		in    Input
		allow bool
		want  string
	}{
		{"everything is missing", at("engineers"), false, "as deploy instead\n" +
			"be a member of dbas, which has role dba + for 1h or shorter + make it a break-glass request: no approval, everybody is told\n" +
			"be a member of dbas, which has role dba + prove the second factor (it counts for 1h) + for 2h or shorter + name a ticket in the reason + from the network 10.0.0.0/8 + at Monday 08:00 UTC or whenever it is monday, tuesday, wednesday, thursday or friday, 08:00 to 18:00"},
		{"only the hour", func() Input {
			in := at("dbas")
			in.User.MFAAgeSeconds, in.Environment.Source, in.Environment.Ticket, in.Request.DurationSeconds = &fresh, "10.1.2.3", "INC-1", 3600
			return in
		}(), false, "at Monday 08:00 UTC or whenever it is monday, tuesday, wednesday, thursday or friday, 08:00 to 18:00\n" +
			"make it a break-glass request: no approval, everybody is told\nas deploy instead"},
		{"allowed, and until when", func() Input {
			in := at("dbas")
			in.User.MFAAgeSeconds, in.Environment.Source, in.Environment.Ticket, in.Request.DurationSeconds = &fresh, "10.1.2.3", "INC-1", 3600
			setTime(&in.Environment, time.Date(2026, 3, 2, 12, 30, 0, 0, time.UTC))
			return in
		}(), true, "for longer than 2h\nwith a second factor older than 1h\nwithout the group dbas\n" +
			"outside of monday, tuesday, wednesday, thursday or friday, 08:00 to 18:00, from Monday 18:00 UTC on\nfrom outside of 10.0.0.0/8\nwithout a ticket"},
		{"nothing helps", func() Input {
			in := at()
			in.Target.Name = "web01"
			return in
		}(), false, ""},
		{"a locked person", func() Input {
			in := at("engineers")
			in.Account, in.User.Locked = "deploy", true
			return in
		}(), false, "alice is unlocked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, err := e.Explain(t.Context(), c.in)
			if err != nil {
				t.Fatal(err)
			}
			if x.Decision.Allow != c.allow || told(x.Ways) != c.want {
				t.Errorf("allow %v, ways\n%s\nwant %v\n%s", x.Decision.Allow, told(x.Ways), c.allow, c.want)
			}
		})
	}
}

// Each of the ways that are told is one: with its changes the answer is another, and
// without any of them it is not.
func TestWaysAreMinimal(t *testing.T) {
	e, _ := house(t)
	for _, groups := range [][]string{nil, {"engineers"}, {"dbas"}} {
		for _, account := range []string{"root", "deploy"} {
			in := at(groups...)
			in.Account = account
			s := &search{engine: e, look: e.Lookup(), in: in.filled()}
			for _, steps := range s.candidates() {
				if ok, err := s.allowed(t.Context(), steps); err != nil || !ok {
					continue
				}
				sets, err := s.ways(t.Context())
				if err != nil || len(sets) == 0 {
					t.Errorf("%v as %s: a candidate is allowed and nothing is told: %v", groups, account, err)
				}
			}
		}
	}
}

func TestSentence(t *testing.T) {
	roles := houseRoles().Roles
	for _, c := range []struct{ got, want string }{
		{roles[1].Rules[0].Sentence(), "may request and extend root on db* with environment prod; for at most 2h; approved by 1 person of leads; " +
			"with a second factor not older than 1h; only on monday, tuesday, wednesday, thursday or friday; only from 08:00 to 18:00; " +
			"only from the network 10.0.0.0/8; only with a ticket; with a shell"},
		{roles[0].Rules[0].Sentence(), "may request deploy on db* with environment prod; for at most 8h; without any approval"},
		{roles[1].Members(), "members of dbas, with all of engineer"},
	} {
		if c.got != c.want {
			t.Errorf("%s\nwant\n%s", c.got, c.want)
		}
	}
}

func TestRoleDifferences(t *testing.T) {
	was, now := houseRoles(), houseRoles()
	now.Roles[1].Rules[0].Approvals = nil
	now.Roles[1].Rules = now.Roles[1].Rules[:1]
	now.Roles = append(now.Roles, Role{Name: "sre", Groups: []string{"sres"}})
	got := strings.Join(RoleDifferences(was, now), "\n")
	for _, want := range []string{"~ dba/day: ", "without any approval", "before: may request", "- dba/fire: ", "+ role sre for members of sres"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not told in\n%s", want, got)
		}
	}
	if same := RoleDifferences(was, was); len(same) != 0 {
		t.Errorf("the same roles differ: %q", same)
	}
}

func TestLookup(t *testing.T) {
	e, _ := house(t)
	look := e.Lookup()
	dba := User{ID: "u-1", Groups: []string{"dbas"}}
	if got := strings.Join(look.RolesOf(dba), " "); got != "dba engineer" {
		t.Errorf("roles %s", got)
	}
	if got := strings.Join(look.Path(dba, "engineer"), " > "); got != "group dbas > role dba > role engineer" {
		t.Errorf("path %s", got)
	}
	if got := look.Path(User{ID: "u-2"}, "engineer"); got != nil {
		t.Errorf("a stranger's path %v", got)
	}
	target := Target{Name: "db01", Labels: map[string]string{"environment": "prod"}}
	if got := look.Matching(look.RolesOf(dba), ActionRequest, target, "deploy"); len(got) != 1 || got[0] != (RuleName{"engineer", "deploy"}) {
		t.Errorf("rules %v", got)
	}
}

// Who has a role by attributes is known by them, and who has not is told of them.
func TestLookupAttributes(t *testing.T) {
	e, _ := house(t)
	d := houseRoles()
	d.Roles[1].Attributes = map[string][]string{"team": {"db", "data"}, "site": {"nyc"}}
	d.Roles = append(d.Roles, Role{Name: "payer", Groups: []string{"payers"}, Excludes: []string{"dba"}})
	if err := e.SetData(d); err != nil {
		t.Fatal(err)
	}
	look := e.Lookup()
	dba := User{ID: "u-1", Attributes: map[string]string{"team": "data", "site": "nyc", "tier": "0"}}
	if got := strings.Join(look.Path(dba, "engineer"), " > "); got != "attributes site nyc and team data > role dba > role engineer" {
		t.Errorf("path %s", got)
	}
	both := dba
	both.Groups = []string{"payers"}
	for name, u := range map[string]User{"one attribute of two": {ID: "u-2", Attributes: map[string]string{"team": "db"}}, "another value": {ID: "u-2", Attributes: map[string]string{"team": "web", "site": "nyc"}}, "excluded": both} {
		if got := look.Path(u, "dba"); got != nil {
			t.Errorf("%s: path %v", name, got)
		}
	}
	in := at()
	in.Request.BreakGlass, in.Request.Reason, in.Request.DurationSeconds = true, "an emergency", 3600
	in.User.Attributes = map[string]string{"team": "data", "site": "rio"}
	x, err := e.Explain(t.Context(), in)
	if got := told(x.Ways); err != nil || !strings.Contains(got, "have the attributes site nyc and team db or data, which gives role dba") {
		t.Errorf("ways %s, %v", got, err)
	}
	in.User.Attributes["site"] = "nyc"
	x, err = e.Explain(t.Context(), in)
	if got := told(x.Ways); err != nil || !x.Decision.Allow || !strings.Contains(got, "without the attribute team data") || strings.Contains(got, "the attribute tier") {
		t.Errorf("limits %s, %v", got, err)
	}
	if got := d.Roles[1].Members(); got != "members of dbas and whoever has the attributes site nyc and team db or data, with all of engineer" {
		t.Errorf("members %s", got)
	}
}

const good = `package drawbolt
decision := {
	"allow": input.user.name == "root", "role": "", "rule": "", "approvals": [], "max_seconds": 60, "mfa_seconds": 0, "break_glass": false,
	"session": {"recording": "strict", "shell": false, "exec": false, "agent": false, "x11": false, "commands": [], "files": [], "forwards": [], "detect": [], "silent_watch": false, "four_eyes": false},
	"reasons": [{"rule": "r", "text": "as it is"}],
}
`

// A bundle that is not fit for service is told so, with the place.
func TestProve(t *testing.T) {
	loop := "count([1 | some a in l; some b in l; some c in l; some d in l; some e in l; some f in l; some g in l]) == 0"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string // in a problem; "" for none
	}{
		{"good", map[string]string{"a.rego": good}, ""},
		{"does not compile", map[string]string{"a.rego": good + "x := y"}, "a.rego:7"},
		{"network", map[string]string{"a.rego": good + `x := http.send({"method": "GET", "url": "http://198.51.100.1/"})`}, "http.send"},
		{"environment", map[string]string{"a.rego": good + "x := opa.runtime().env"}, "opa.runtime"},
		{"clock", map[string]string{"a.rego": good + "x := time.now_ns()"}, "time.now_ns"},
		{"no decision", map[string]string{"a.rego": "package drawbolt\nx := 1"}, "data.drawbolt.decision"},
		{"a field too many", map[string]string{"a.rego": strings.Replace(good, `"allow"`, `"also": 1, "allow"`, 1)}, "the contract is not kept"},
		{"a field too few", map[string]string{"a.rego": strings.Replace(good, `"break_glass": false`, `"break": false`, 1)}, "the contract is not kept"},
		{"undefined for one action", map[string]string{"a.rego": strings.Replace(good, "decision := {", `decision := d if { input.action != "extend" }`+"\nd := {", 1)}, "action extend"},
		{"a test that fails", map[string]string{"a.rego": good, "a_test.rego": "package t\ntest_it if {\n\t1 == 1\n\t2 == 3\n}"}, "test data.t.test_it failed at a_test.rego:4: 2 == 3"},
		{"a test that breaks", map[string]string{"a.rego": good, "a_test.rego": "package t\ntest_it if { to_number(\"x\") == 1 }"}, "test data.t.test_it"},
		{"a test without an end", map[string]string{"a.rego": good, "a_test.rego": "package t\nl := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30]\ntest_it if { " + loop + " }"}, "test data.t.test_it"},
		{"a decision that takes too long", map[string]string{"a.rego": strings.Replace(good, `input.user.name == "root"`, "slow", 1) +
			"l := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30]\nslow if { input.user.name == \"probe\"; " + loop + " } else := false"}, "no decision within"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string][]byte{}
			for name, text := range c.files {
				files[name] = []byte(text)
			}
			v, err := Prove(t.Context(), files, Data{}, houseRoles())
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(v.Problems, "\n")
			if c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("problems %q, want %q", all, c.want)
			}
		})
	}
}

// The bundle in the program is fit for service, and nearly all of its rules are tested.
func TestProveDefault(t *testing.T) {
	_, files := house(t)
	text, err := os.ReadFile("../rego/testdata/roles.json")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := ParseData(text)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Prove(context.Background(), files, tests, houseRoles())
	if err != nil || len(v.Problems) > 0 {
		t.Fatalf("%v %q", err, v.Problems)
	}
	if len(v.Report.Tests) < 100 || v.Report.Rules < 50 || len(v.Report.Untested) > v.Report.Rules/10 {
		t.Errorf("%d tests; %d rules, of which untested: %q", len(v.Report.Tests), v.Report.Rules, v.Report.Untested)
	}
}

// Decisions under way end with the bundle that they began with.
func TestUse(t *testing.T) {
	e, _ := house(t)
	before := e.Digest()
	p, err := Compile(map[string][]byte{"a.rego": []byte(good)})
	if err != nil {
		t.Fatal(err)
	}
	in := at("engineers")
	in.Account = "deploy"
	if d, err := e.Decide(t.Context(), in); err != nil || !d.Allow || d.PolicyDigest != before {
		t.Fatalf("%+v %v", d, err)
	}
	e.Use(p)
	if d, err := e.Decide(t.Context(), in); err != nil || d.Allow || d.PolicyDigest != p.Digest() || d.PolicyDigest == before {
		t.Errorf("%+v %v", d, err)
	}
}

func TestDifferences(t *testing.T) {
	yes := Decision{Allow: true, Role: "r", Rule: "a", MaxDuration: time.Hour, Reasons: []Reason{{"x", "yes"}}}
	no := Decision{Reasons: []Reason{{"y", "no"}}}
	more := yes
	more.Approvals, more.MaxDuration, more.MFAWithin, more.Rules.Shell = []Need{{Count: 1, Groups: []string{"leads"}}}, 2*time.Hour, time.Minute, true
	for _, c := range []struct {
		name     string
		was, now Decision
		want     string
	}{
		{"same", yes, yes, ""},
		{"both refuse", no, Decision{Reasons: []Reason{{"z", "for another reason"}}}, ""},
		{"opens", no, yes, "allowed"},
		{"closes", yes, no, "refused"},
		{"terms", yes, more, "approvals duration mfa session"},
	} {
		var kinds []string
		for _, d := range Differences(c.was, c.now) {
			kinds = append(kinds, d.Kind)
		}
		if got := strings.Join(kinds, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
