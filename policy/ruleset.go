package policy

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A ruleset is Data, checked and made ready to be looked up. It never changes.
type ruleset struct {
	// Who has which roles, inheritance resolved. A role is its name's term.
	users, groups map[string][]*ast.Term
	// Who has roles by attributes, by one attribute of those that are wanted.
	attributes map[attribute][]*holder
	exclusions map[string][]exclusion // by the name of the first role of each
	// The rules by role and action, each sorted: the most specific first, and of
	// equally specific ones the strictest.
	rules map[string]map[Action][]*entry
}

// An attribute is one that a user has.
type attribute struct{ key, value string }

// A holder is whoever has all the attributes that are wanted.
type holder struct {
	wants []wantedTerm
	roles []*ast.Term
}

type wantedTerm struct {
	term   *ast.Term // the key
	values []string
}

// An exclusion is of two roles that nobody may have both of. Gone are those that
// who has both does without: the two, and all that inherit one of them.
type exclusion struct {
	one, other *ast.Term
	gone       ast.Set
}

// A wanted label must be there with one of the values.
type wanted struct {
	key    string
	values []string
}

// An entry is one rule, under one way of naming its targets.
type entry struct {
	role     string
	rule     *Rule    // of the Data; only read while the ruleset is made
	names    []string // exact names, any of them; nil: prefix selects
	prefix   string
	labels   []wanted
	accounts []string // nil: every one
	strict   bool     // records strictly
	level    int      // how specific
	position int      // among all entries, sorted

	conditions []condition
	// The rule as the bundle sees it, one for each set of its approvals that may be
	// needed: bit i is that of the i-th. A rule whose approvals are always needed has
	// one, the last.
	faces []face
}

// A face is a rule as the bundle sees it.
type face struct {
	term   *ast.Term      // when all conditions hold
	fields [][2]*ast.Term // without the field that says which do not
	answer *ast.Term      // see ruleFields
}

func newRuleset(d Data) (*ruleset, error) {
	roles, err := byName(d.Roles)
	if err != nil {
		return nil, err
	}
	juniors, err := closure(d.Roles, roles)
	if err != nil {
		return nil, err
	}
	around, err := newSurroundings(d.Networks)
	if err != nil {
		return nil, err
	}
	s := &ruleset{
		users: map[string][]*ast.Term{}, groups: map[string][]*ast.Term{}, attributes: map[attribute][]*holder{},
		rules: map[string]map[Action][]*entry{},
	}
	if s.exclusions, err = exclusions(d.Roles, roles, juniors); err != nil {
		return nil, err
	}
	var entries []*entry
	rules := 0
	for i := range d.Roles {
		r := &d.Roles[i]
		if err := members(r.Users, juniors[r.Name], s.users); err != nil {
			return nil, fmt.Errorf("role %s: users: %w", r.Name, err)
		}
		if err := members(r.Groups, juniors[r.Name], s.groups); err != nil {
			return nil, fmt.Errorf("role %s: groups: %w", r.Name, err)
		}
		if err := s.holders(r.Attributes, juniors[r.Name]); err != nil {
			return nil, fmt.Errorf("role %s: attributes: %w", r.Name, err)
		}
		if rules += len(r.Rules); rules > maxRules {
			return nil, fmt.Errorf("more than %d rules", maxRules)
		}
		ids := map[string]bool{}
		for j := range r.Rules {
			rule := &r.Rules[j]
			if err := checkName(rule.ID); err != nil {
				return nil, fmt.Errorf("role %s: rule %d: id: %w", r.Name, j+1, err)
			}
			if ids[rule.ID] {
				return nil, fmt.Errorf("role %s: two rules have the id %s", r.Name, rule.ID)
			}
			ids[rule.ID] = true
			es, err := flatten(r.Name, rule, around)
			if err != nil {
				return nil, fmt.Errorf("role %s: rule %s: %w", r.Name, rule.ID, err)
			}
			entries = append(entries, es...)
		}
		s.rules[r.Name] = map[Action][]*entry{}
	}
	slices.SortFunc(entries, before)
	for i, e := range entries {
		e.position = i
		e.faces = faces(e)
		for _, action := range unique(e.rule.Actions) {
			s.rules[e.role][action] = append(s.rules[e.role][action], e)
		}
	}
	return s, nil
}

// matches reports whether the rule selects the account and the target.
func (e *entry) matches(account, target string, labels map[string]string) bool {
	if e.accounts != nil && !slices.Contains(e.accounts, account) {
		return false
	}
	if e.names == nil && !strings.HasPrefix(target, e.prefix) || e.names != nil && !slices.Contains(e.names, target) {
		return false
	}
	for _, want := range e.labels {
		if value, ok := labels[want.key]; !ok || !slices.Contains(want.values, value) {
			return false
		}
	}
	return true
}

func byName(roles []Role) (map[string]*Role, error) {
	if len(roles) > maxRoles {
		return nil, fmt.Errorf("%d roles, at most %d are taken", len(roles), maxRoles)
	}
	m := make(map[string]*Role, len(roles))
	for i := range roles {
		r := &roles[i]
		if err := checkName(r.Name); err != nil {
			return nil, fmt.Errorf("role %d: name: %w", i+1, err)
		}
		if m[r.Name] != nil {
			return nil, fmt.Errorf("two roles have the name %s", r.Name)
		}
		m[r.Name] = r
	}
	return m, nil
}

// closure returns for each role the roles that it has: itself and all that it
// inherits.
func closure(roles []Role, byName map[string]*Role) (map[string][]*ast.Term, error) {
	const visiting, done = 1, 2
	state := make(map[string]int, len(roles))
	out := make(map[string][]*ast.Term, len(roles))
	var visit func(r *Role, path []string) error
	visit = func(r *Role, path []string) error {
		path = append(path, r.Name)
		switch state[r.Name] {
		case done:
			return nil
		case visiting:
			return fmt.Errorf("roles inherit in a circle: %s", strings.Join(path, " -> "))
		}
		state[r.Name] = visiting
		all := []*ast.Term{name(r.Name)}
		for _, inherited := range r.Inherits {
			junior := byName[inherited]
			if junior == nil {
				return fmt.Errorf("role %s inherits %q, which does not exist", r.Name, inherited)
			}
			if err := visit(junior, path); err != nil {
				return err
			}
			all = append(all, out[inherited]...)
		}
		slices.SortFunc(all, ast.TermValueCompare)
		out[r.Name] = slices.CompactFunc(all, (*ast.Term).Equal)
		state[r.Name] = done
		return nil
	}
	for i := range roles {
		if err := visit(&roles[i], nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// members notes that each of names has the roles.
func members(names []string, roles []*ast.Term, in map[string][]*ast.Term) error {
	if len(names) > maxMembers {
		return fmt.Errorf("%d entries, at most %d are taken", len(names), maxMembers)
	}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
		in[name] = append(in[name], roles...)
	}
	return nil
}

// holders notes that whoever has all the attributes has the roles. They are found
// by the first of the attributes.
func (s *ruleset) holders(attributes map[string][]string, roles []*ast.Term) error {
	if len(attributes) == 0 {
		return nil
	}
	if len(attributes) > maxLabels {
		return fmt.Errorf("%d of them, at most %d are taken", len(attributes), maxLabels)
	}
	h := &holder{roles: roles}
	keys := sortedKeys(attributes)
	for _, key := range keys {
		values := attributes[key]
		if err := checkName(key); err != nil {
			return err
		}
		if len(values) == 0 {
			return fmt.Errorf("%s has no values, so nobody can have one", key)
		}
		if err := checkNames(key, values); err != nil {
			return err
		}
		h.wants = append(h.wants, wantedTerm{name(key), slices.Clone(values)})
	}
	for _, value := range unique(attributes[keys[0]]) {
		at := attribute{keys[0], value}
		s.attributes[at] = append(s.attributes[at], h)
	}
	return nil
}

// exclusions returns the pairs of roles that exclude each other. A role that has
// both by inheritance would be nobody's, so it is refused.
func exclusions(roles []Role, byName map[string]*Role, juniors map[string][]*ast.Term) (map[string][]exclusion, error) {
	out := map[string][]exclusion{}
	for i := range roles {
		if len(roles[i].Excludes) > maxRuleList {
			return nil, fmt.Errorf("role %s excludes %d roles, at most %d are taken", roles[i].Name, len(roles[i].Excludes), maxRuleList)
		}
		for _, other := range unique(roles[i].Excludes) {
			if byName[other] == nil {
				return nil, fmt.Errorf("role %s excludes %q, which does not exist", roles[i].Name, other)
			}
			if other == roles[i].Name {
				return nil, fmt.Errorf("role %s excludes itself", other)
			}
			e := exclusion{one: name(roles[i].Name), other: name(other), gone: ast.NewSet()}
			for senior, has := range juniors {
				one, both := slices.ContainsFunc(has, e.one.Equal), slices.ContainsFunc(has, e.other.Equal)
				if one && both {
					return nil, fmt.Errorf("role %s has both %s and %s, which exclude each other", senior, roles[i].Name, other)
				}
				if one || both {
					e.gone.Add(name(senior))
				}
			}
			out[roles[i].Name] = append(out[roles[i].Name], e)
		}
	}
	return out, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// flatten checks the rule and returns one entry for its exact names and one for
// each prefix, because these are differently specific.
func flatten(role string, r *Rule, around *surroundings) ([]*entry, error) {
	if err := checkRule(r); err != nil {
		return nil, err
	}
	conditions, err := conditions(r, around)
	if err != nil {
		return nil, err
	}
	base := entry{
		role: role, rule: r, conditions: conditions, strict: r.Session.Recording != RecordingStandard,
		level: len(r.Targets.Labels) * 10,
	}
	for key, values := range r.Targets.Labels {
		base.labels = append(base.labels, wanted{key, slices.Clone(values)})
	}
	if len(r.Accounts) > 0 && r.Accounts[0] != "*" {
		base.accounts = slices.Clone(r.Accounts)
		base.level++
	}
	if len(r.Targets.Names) == 0 {
		return []*entry{&base}, nil
	}
	var out []*entry
	exact := base
	for _, name := range r.Targets.Names {
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			e := base
			e.prefix = prefix
			e.level += len(prefix) * 1000
			out = append(out, &e)
		} else {
			exact.names = append(exact.names, name)
		}
	}
	if len(exact.names) > 0 {
		exact.level += (maxName + 1) * 1000
		out = append(out, &exact)
	}
	return out, nil
}

// before sorts entries: the more specific first, then the stricter. Every tie
// is broken, so the same Data always gives the same decisions.
func before(a, b *entry) int {
	return cmp.Or(
		cmp.Compare(b.level, a.level),
		cmp.Compare(persons(b.rule), persons(a.rule)),
		cmp.Compare(orForever(a.rule.MaxDuration), orForever(b.rule.MaxDuration)),
		cmp.Compare(orForever(a.rule.MFAWithin), orForever(b.rule.MFAWithin)),
		cmp.Compare(rights(a.rule.Session), rights(b.rule.Session)),
		cmp.Compare(a.role, b.role),
		cmp.Compare(a.rule.ID, b.rule.ID),
		cmp.Compare(a.prefix, b.prefix),
	)
}

func persons(r *Rule) (n int) {
	for _, need := range r.Approvals {
		n += need.Count
	}
	return n
}

// orForever is d, or the longest duration when d is not given.
func orForever(d time.Duration) time.Duration {
	if d == 0 {
		return math.MaxInt64
	}
	return d
}

func rights(s SessionRules) (n int) {
	for _, b := range []bool{
		s.Shell, s.Shell && len(s.Detect) == 0, s.Exec, s.Exec && len(s.Commands) == 0, len(s.Files) > 0, len(s.Forwards) > 0, s.Agent, s.X11,
		!s.FourEyes, s.Checkout != "", s.Checkout == CheckoutAny,
	} {
		if b {
			n++
		}
	}
	return n
}

func unique[S ~string](s []S) []S { return slices.Compact(slices.Sorted(slices.Values(s))) }

// orList is "a, b or c".
func orList(s []string) string {
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + " or " + s[len(s)-1]
}

// inWords writes d as people do: "4h", "1h30m", "90s" as "1m30s", "0s".
func inWords(d time.Duration) string {
	s := d.Truncate(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
