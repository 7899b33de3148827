package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Sentence is the rule in words, from its actions to its conditions.
func (r Rule) Sentence() string {
	var actions []string
	for _, a := range r.Actions {
		actions = append(actions, string(a))
	}
	parts := []string{"may " + andList(actions)}
	switch {
	case slices.Equal(r.Accounts, []string{"*"}):
		parts[0] += " any account"
	case len(r.Accounts) > 0:
		parts[0] += " " + orList(r.Accounts)
	}
	parts[0] += r.Targets.words()
	if r.MaxDuration > 0 {
		parts = append(parts, "for at most "+inWords(r.MaxDuration))
	}
	if asks(r.Actions) {
		parts = append(parts, approvalWords(r.Approvals))
	}
	if r.MFAWithin > 0 {
		parts = append(parts, "with a second factor not older than "+inWords(r.MFAWithin))
	}
	for _, c := range r.worded() {
		// That a freeze holds goes without saying.
		if kind, _ := textOf(c.unmet.Value.(ast.Object), kKind); kind != "freeze" {
			text, _ := textOf(c.unmet.Value.(ast.Object), kText)
			parts = append(parts, text)
		}
	}
	if r.DuringFreeze {
		parts = append(parts, "also during a freeze")
	}
	if s := r.Session.words(); s != "" && asks(r.Actions) {
		parts = append(parts, "with "+s)
	}
	return strings.Join(parts, "; ")
}

// worded are the conditions for their words alone: networks that have names are named.
func (r *Rule) worded() []condition {
	around := &surroundings{networks: map[string][]netip.Prefix{}, zones: map[string]*time.Location{}}
	for _, s := range r.Sources {
		if !strings.Contains(s, "/") {
			around.networks[s] = []netip.Prefix{{}}
		}
	}
	list, err := conditions(r, around)
	if err != nil {
		return nil // no such rule is taken
	}
	return list
}

// asks reports whether any of the actions asks for access.
func asks(actions []Action) bool {
	return slices.Contains(actions, ActionRequest) || slices.Contains(actions, ActionBreakGlass)
}

func (s Selector) words() string {
	if len(s.Names) == 0 && len(s.Labels) == 0 {
		return " everywhere"
	}
	var out string
	if len(s.Names) > 0 {
		out = " on " + orList(s.Names)
	} else {
		out = " on every target"
	}
	for i, key := range slices.Sorted(maps.Keys(s.Labels)) {
		out += []string{" with ", " and "}[min(i, 1)] + key + " " + orList(s.Labels[key])
	}
	return out
}

// approvalWords say who must approve.
func approvalWords(needs []Need) string {
	if len(needs) == 0 {
		return "without any approval"
	}
	var each []string
	for _, n := range needs {
		people := "people"
		if n.Count == 1 {
			people = "person"
		}
		text := strconv.Itoa(n.Count) + " " + people + " of " + orList(n.Groups)
		if n.Step > 0 {
			text += " in step " + strconv.Itoa(n.Step)
		}
		each = append(each, text)
	}
	return "approved by " + andList(each)
}

// words name what a session may do.
func (s SessionRules) words() string {
	var list []string
	add := func(on bool, text string) {
		if on {
			list = append(list, text)
		}
	}
	add(s.Shell, "a shell")
	add(s.Exec && len(s.Commands) == 0, "any command")
	add(s.Exec && len(s.Commands) > 0, "the commands "+strings.Join(s.Commands, ", "))
	add(len(s.Files) > 0, "files ("+strings.Join(s.Files, ", ")+")")
	add(len(s.Forwards) > 0, "forwards ("+strings.Join(s.Forwards, ", ")+")")
	add(s.Agent, "the agent")
	add(s.X11, "X11")
	add(s.Checkout == CheckoutManaged, "the passwords of managed accounts")
	add(s.Checkout == CheckoutAny, "the passwords of any accounts")
	add(s.FourEyes, "four eyes")
	add(len(s.Detect) > 0, strconv.Itoa(len(s.Detect))+" detections")
	add(s.SilentWatch, "silent watching")
	return andList(list)
}

// andList is "a, b and c".
func andList(s []string) string {
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + " and " + s[len(s)-1]
}

// The kinds of difference between two answers to one question.
const (
	Allowed   = "allowed"   // was refused
	Refused   = "refused"   // was allowed
	Approvals = "approvals" // other people, or another number of them
	Duration  = "duration"
	MFA       = "mfa"
	Session   = "session" // what a session may do
)

// A Difference between two answers, in words.
type Difference struct{ Kind, Text string }

// Differences are what differs between two answers to one question for those whom it
// concerns: names, sentences and digests are not looked at. When one of the answers
// refuses there is one difference or none.
func Differences(was, now Decision) []Difference {
	switch {
	case was.Allow && !now.Allow:
		return []Difference{{Refused, "allowed before, refused now: " + now.Reason()}}
	case !was.Allow && now.Allow:
		return []Difference{{Allowed, "refused before, allowed now: " + now.Reason()}}
	case !was.Allow:
		return nil
	}
	var list []Difference
	add := func(kind, what, before, after string) {
		if before != after {
			list = append(list, Difference{kind, fmt.Sprintf("%s: before %s, now %s", what, before, after)})
		}
	}
	add(Approvals, "approvals", approvalWords(was.Approvals), approvalWords(now.Approvals))
	add(Duration, "longest grant", inWords(was.MaxDuration), inWords(now.MaxDuration))
	add(MFA, "second factor", mfaWords(was), mfaWords(now))
	add(Session, "a session", orNothing(was.Rules.words()), orNothing(now.Rules.words()))
	return list
}

func mfaWords(d Decision) string {
	if d.MFAWithin == 0 {
		return "not needed"
	}
	return "not older than " + inWords(d.MFAWithin)
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// RoleDifferences tells in sentences what differs between two sets of roles, by role and
// rule.
func RoleDifferences(was, now Data) (list []string) {
	byName := func(d Data) map[string]Role {
		m := map[string]Role{}
		for _, r := range d.Roles {
			m[r.Name] = r
		}
		return m
	}
	before, after := byName(was), byName(now)
	names := map[string]bool{}
	for name := range before {
		names[name] = true
	}
	for name := range after {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, had := before[name]
		b, has := after[name]
		switch {
		case !had:
			list = append(list, fmt.Sprintf("+ role %s for %s", name, b.Members()))
		case !has:
			list = append(list, fmt.Sprintf("- role %s for %s", name, a.Members()))
		case a.Members() != b.Members():
			list = append(list, fmt.Sprintf("~ role %s: for %s instead of %s", name, b.Members(), a.Members()))
		}
		list = append(list, ruleDifferences(name, a.Rules, b.Rules)...)
	}
	return list
}

func ruleDifferences(role string, was, now []Rule) (list []string) {
	find := func(rules []Rule, id string) *Rule {
		if i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id }); i >= 0 {
			return &rules[i]
		}
		return nil
	}
	for _, a := range was {
		switch b := find(now, a.ID); {
		case b == nil:
			list = append(list, fmt.Sprintf("- %s/%s: %s", role, a.ID, a.Sentence()))
		case a.Sentence() != b.Sentence():
			list = append(list, fmt.Sprintf("~ %s/%s: %s", role, a.ID, b.Sentence()), fmt.Sprintf("  before: %s", a.Sentence()))
		}
	}
	for _, b := range now {
		if find(was, b.ID) == nil {
			list = append(list, fmt.Sprintf("+ %s/%s: %s", role, b.ID, b.Sentence()))
		}
	}
	return list
}

// Members are those who have the role, in words.
func (r Role) Members() string {
	var list []string
	if len(r.Groups) > 0 {
		list = append(list, "members of "+orList(r.Groups))
	}
	if len(r.Users) > 0 {
		list = append(list, strconv.Itoa(len(r.Users))+" named in person")
	}
	if len(r.Attributes) > 0 {
		list = append(list, "whoever has the "+r.attributeWords(func(key string) string { return orList(r.Attributes[key]) }))
	}
	if len(list) == 0 {
		list = append(list, "nobody")
	}
	out := andList(list)
	if len(r.Inherits) > 0 {
		out += ", with all of " + andList(r.Inherits)
	}
	return out
}
