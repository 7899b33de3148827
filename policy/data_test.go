package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"pgregory.net/rapid"
)

func sound() Rule {
	return Rule{ID: "a", Actions: []Action{ActionRequest}, Accounts: []string{"root"}, MaxDuration: time.Hour}
}

func TestSetDataRefuses(t *testing.T) {
	e, err := New(Config{Bundle: bundle(header + "decision := " + yes)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SetData(Data{Roles: []Role{{Name: "r", Rules: []Rule{sound()}}}}); err != nil {
		t.Fatal(err)
	}
	before := e.DataDigest()
	for _, test := range []struct {
		name, want string
		change     func(*Rule)
	}{
		{"no id", "id: is empty", func(r *Rule) { r.ID = "" }},
		{"no actions", "no actions", func(r *Rule) { r.Actions = nil }},
		{"unknown action", `no action "frobnicate"`, func(r *Rule) { r.Actions = []Action{"frobnicate"} }},
		{"carried action", "cannot be listed", func(r *Rule) { r.Actions = []Action{ActionConnect} }},
		{"own action", "cannot be listed", func(r *Rule) { r.Actions = []Action{ActionRelease} }},
		{"no accounts", "names no accounts", func(r *Rule) { r.Accounts = nil }},
		{"star and more", "stands alone", func(r *Rule) { r.Accounts = []string{"*", "root"} }},
		{"no duration", "max_duration is missing", func(r *Rule) { r.MaxDuration = 0 }},
		{"negative duration", "negative", func(r *Rule) { r.MaxDuration = -time.Hour }},
		{"half seconds", "whole seconds", func(r *Rule) { r.MaxDuration += time.Millisecond }},
		{"years", "longer than a year", func(r *Rule) { r.MaxDuration = 20000 * time.Hour }},
		{"negative mfa", "negative", func(r *Rule) { r.MFAWithin = -1 * time.Second }},
		{"star inside", "at the end only", func(r *Rule) { r.Targets.Names = []string{"db*01"} }},
		{"two stars", "at the end only", func(r *Rule) { r.Targets.Names = []string{"db**"} }},
		{"label without values", "no target can match", func(r *Rule) { r.Targets.Labels = map[string][]string{"a": nil} }},
		{"label with NUL", "control character", func(r *Rule) { r.Targets.Labels = map[string][]string{"a": {"b\x00c"}} }},
		{"nobody approves", "count is 0", func(r *Rule) { r.Approvals = []Need{{Count: 0, Groups: []string{"g"}}} }},
		{"approval by no group", "no group", func(r *Rule) { r.Approvals = []Need{{Count: 1}} }},
		{"many needs", "approval needs", func(r *Rule) { r.Approvals = slices.Repeat([]Need{{Count: 1, Groups: []string{"g"}}}, 5) }},
		{"a step before the first", "step is", func(r *Rule) { r.Approvals = []Need{{Count: 1, Groups: []string{"g"}, Step: -1}} }},
		{"escalation to nobody", "a time and groups", func(r *Rule) { r.Approvals = []Need{{Count: 1, Groups: []string{"g"}, EscalateSeconds: 60}} }},
		{"escalation at once", "a time and groups", func(r *Rule) { r.Approvals = []Need{{Count: 1, Groups: []string{"g"}, EscalateTo: []string{"h"}}} }},
		{"needed on no target", "no target can match", func(r *Rule) {
			r.Approvals = []Need{{Count: 1, Groups: []string{"g"}, When: &Occasion{Labels: map[string][]string{"tier": nil}}}}
		}},
		{"nobody's no", "deny_threshold", func(r *Rule) { r.DenyThreshold = -1 }},
		{"weekday", "weekday", func(r *Rule) { r.Weekdays = []string{"Mon"} }},
		{"time", "no time of day", func(r *Rule) { r.Hours = []Hours{{"9:00", "17:00"}} }},
		{"late", "no time of day", func(r *Rule) { r.Hours = []Hours{{"09:00", "24:01"}} }},
		{"never", "never", func(r *Rule) { r.Hours = []Hours{{"24:00", "03:00"}} }},
		{"network", "no network", func(r *Rule) { r.Sources = []string{"10.0.0.1"} }},
		{"mapped network", "IPv4", func(r *Rule) { r.Sources = []string{"::ffff:10.0.0.0/104"} }},
		{"host bits", "host bits", func(r *Rule) { r.Sources = []string{"10.0.0.1/8"} }},
		{"recording", "recording", func(r *Rule) { r.Session.Recording = "off" }},
		{"space", "space", func(r *Rule) { r.Accounts = []string{"root "} }},
	} {
		r := sound()
		test.change(&r)
		err := e.SetData(Data{Roles: []Role{{Name: "r", Rules: []Rule{r}}}})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want %q", test.name, err, test.want)
		}
	}
	for _, test := range []struct {
		name, want string
		roles      []Role
	}{
		{"no name", "is empty", []Role{{}}},
		{"two names", "two roles", []Role{{Name: "a"}, {Name: "a"}}},
		{"two ids", "two rules", []Role{{Name: "a", Rules: []Rule{sound(), sound()}}}},
		{"unknown junior", "does not exist", []Role{{Name: "a", Inherits: []string{"b"}}}},
		{"itself", "a -> a", []Role{{Name: "a", Inherits: []string{"a"}}}},
		{"circle", "a -> b -> c -> a", []Role{
			{Name: "a", Inherits: []string{"b"}}, {Name: "b", Inherits: []string{"c"}}, {Name: "c", Inherits: []string{"a"}}}},
		{"empty member", "users: is empty", []Role{{Name: "a", Users: []string{""}}}},
		{"empty group", "groups: is empty", []Role{{Name: "a", Groups: []string{""}}}},
	} {
		if err := e.SetData(Data{Roles: test.roles}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want %q", test.name, err, test.want)
		}
	}
	if e.DataDigest() != before {
		t.Error("refused data replaced the old")
	}
}

func TestDiamond(t *testing.T) {
	rules, err := newRuleset(Data{Roles: []Role{
		{Name: "a", Inherits: []string{"b", "c"}, Groups: []string{"g"}},
		{Name: "b", Inherits: []string{"d"}}, {Name: "c", Inherits: []string{"d"}}, {Name: "d", Users: []string{"u"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	has := func(roles []*ast.Term) (out []string) {
		for _, r := range roles {
			out = append(out, string(r.Value.(ast.String)))
		}
		return out
	}
	if d := cmp.Diff(has(rules.groups["g"]), []string{"a", "b", "c", "d"}); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(has(rules.users["u"]), []string{"d"}); d != "" {
		t.Error(d)
	}
}

func TestRuleJSON(t *testing.T) {
	r := sound()
	r.MFAWithin = 90 * time.Second
	r.Hours = []Hours{{"09:00", "17:00"}}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"max_duration":"1h0m0s"`) || !strings.Contains(string(b), `"mfa_within":"1m30s"`) {
		t.Errorf("got %s", b)
	}
	var got Rule
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, r); d != "" {
		t.Error(d)
	}
	if err := json.Unmarshal([]byte(`{"max_duration": "soon"}`), &got); err == nil {
		t.Error("a duration that is none was taken")
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Hour: "1h", 90 * time.Minute: "1h30m", 30 * time.Second: "30s",
		10 * time.Minute: "10m", 24 * time.Hour: "24h", time.Hour + time.Second: "1h0m1s", 100 * time.Hour: "100h",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%d: got %s, want %s", d, got, want)
		}
	}
}

// Counting the quorums one by one must say the same as trying every way to give
// each person to one need.
func TestQuorumsAreAMatching(t *testing.T) {
	groups := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(t *rapid.T) {
		var needs []Need
		for range rapid.IntRange(0, maxNeeds).Draw(t, "needs") {
			needs = append(needs, Need{
				Count:  rapid.IntRange(1, 2).Draw(t, "count"),
				Groups: rapid.SliceOfNDistinct(rapid.SampledFrom(groups), 1, 3, rapid.ID).Draw(t, "groups"),
				Step:   rapid.IntRange(0, 1).Draw(t, "step"),
			})
			if n := &needs[len(needs)-1]; rapid.Bool().Draw(t, "escalates") {
				n.EscalateSeconds, n.EscalateTo = 60, rapid.SliceOfNDistinct(rapid.SampledFrom(groups), 1, 2, rapid.ID).Draw(t, "to")
			}
		}
		type vote struct {
			groups []string
			step   int
			waited int64
		}
		persons := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) vote {
			return vote{
				rapid.SliceOfNDistinct(rapid.SampledFrom(groups), 0, 3, rapid.ID).Draw(t, "groups"),
				rapid.IntRange(0, 1).Draw(t, "step"), rapid.Int64Range(59, 60).Draw(t, "waited"),
			}
		}), 0, 6).Draw(t, "persons")
		may := func(p vote, n Need) bool {
			in := func(list []string) bool {
				return slices.ContainsFunc(p.groups, func(g string) bool { return slices.Contains(list, g) })
			}
			return p.step == n.Step && (in(n.Groups) || n.EscalateSeconds > 0 && p.waited >= n.EscalateSeconds && in(n.EscalateTo))
		}

		got := true
		for _, q := range quorums(needs) {
			q := q.(map[string]any)
			n := 0
			for _, p := range persons {
				if p.step == q["step"].(int) && slices.ContainsFunc(p.groups, func(g string) bool {
					after, asked := q["groups"].(map[string]any)[g].(int64)
					return asked && p.waited >= after
				}) {
					n++
				}
			}
			got = got && n >= q["count"].(int)
		}
		left := make([]int, len(needs))
		for i := range needs {
			left[i] = needs[i].Count
		}
		var assign func(i int) bool
		assign = func(i int) bool {
			if !slices.ContainsFunc(left, func(n int) bool { return n > 0 }) {
				return true
			}
			if i == len(persons) {
				return false
			}
			for j, need := range needs {
				if left[j] > 0 && may(persons[i], need) {
					left[j]--
					ok := assign(i + 1)
					left[j]++
					if ok {
						return true
					}
				}
			}
			return assign(i + 1)
		}
		if want := assign(0); got != want {
			t.Fatalf("needs %v, persons %v: got %v, want %v", needs, persons, got, want)
		}
	})
}

// The order of roles and rules in the data decides nothing.
func TestOrderDoesNotMatter(t *testing.T) {
	var roles []Role
	for i := range 6 {
		r := Role{Name: fmt.Sprint("r", i)}
		for j := range 4 {
			rule := sound()
			rule.ID, rule.MaxDuration = fmt.Sprint("rule", j), time.Duration(1+j%2)*time.Hour
			r.Rules = append(r.Rules, rule)
		}
		roles = append(roles, r)
	}
	rules := func(roles []Role) (out []string) {
		t.Helper()
		s, err := newRuleset(Data{Roles: roles})
		if err != nil {
			t.Fatal(err)
		}
		all := ast.NewSet()
		for _, r := range roles {
			all.Add(name(r.Name))
		}
		question, err := ast.InterfaceToValue(sample(t))
		if err != nil {
			t.Fatal(err)
		}
		found := s.rulesFor([]*ast.Term{ast.NewTerm(all), name("request"), ast.NewTerm(question)}).Value.(ast.Object)
		found.Get(kRules).Value.(*ast.Array).Foreach(func(r *ast.Term) {
			rule := r.Value.(ast.Object)
			out = append(out, text(rule.Get(kRole))+" "+text(rule.Get(kID)))
		})
		return out
	}
	turned := slices.Clone(roles)
	slices.Reverse(turned)
	for i := range turned {
		turned[i].Rules = slices.Clone(turned[i].Rules)
		slices.Reverse(turned[i].Rules)
	}
	one, two := rules(roles), rules(turned)
	if d := cmp.Diff(one, two); d != "" || len(one) != 24 {
		t.Errorf("%d rules (-one +two):\n%s", len(one), d)
	}
}

// sample is a question as plain values.
func sample(t *testing.T) any {
	in := ask()
	in.Account = "root"
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
