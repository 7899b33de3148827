package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of Data, far above what is sensible.
const (
	maxRoles       = 10_000
	maxRules       = 100_000 // of all roles together
	maxRuleList    = 1_000   // names, accounts, label values, networks, ... of one rule
	maxMembers     = 100_000 // groups or users of one role
	maxLabels      = 32      // label keys of one selector
	maxSelections  = 1_000   // accounts x names x values of each label of one rule
	maxNeeds       = 4       // each further need doubles the quorums to check
	maxApprovers   = 100     // persons of one need
	maxName        = 512     // bytes of a name, id, group, label, account
	maxRuleMinutes = 366 * 24 * 60
)

// carried are the actions that no rule lists, and why.
var carried = map[Action]string{
	ActionActivate: "a rule that lists request carries it",
	ActionConnect:  "a rule that lists request carries it",
	ActionCancel:   "it is always the requester's own",
	ActionRelease:  "it is always the requester's own",
}

// An entry is one rule, under one way of naming its targets, as the bundle sees
// it in data.broker.rules. Entries are sorted so that the first of those that
// match is the most specific and, among equally specific ones, the strictest.
type entry struct {
	role   string
	rule   *Rule
	names  []string // exact names, any of them; nil: prefix selects
	prefix string
	level  int // how specific
	checks []any
}

// index checks d and gives it the shape that the bundle looks things up in:
//
//	users[user id][role] and groups[group][role]: who has a role, inheritance resolved
//	index[action][account or "*"][target or ""]: selectors {keys, table}, where
//	  table[labels][role] are positions in rules; labels is an object of just the label keys
//	rules[position]: one rule with everything a decision needs
//	prefixed: the positions of rules that select target names by a prefix
//	stricter[recording]: the positions of rules that record more strictly than that
//
// Look-ups instead of searching make a decision ten times faster.
func index(d Data) (map[string]any, error) {
	roles, err := byName(d.Roles)
	if err != nil {
		return nil, err
	}
	juniors, err := closure(d.Roles, roles)
	if err != nil {
		return nil, err
	}
	users, groups := map[string]any{}, map[string]any{}
	var entries []entry
	rules := 0
	for i := range d.Roles {
		r := &d.Roles[i]
		if err := members(r.Users, juniors[r.Name], users); err != nil {
			return nil, fmt.Errorf("role %s: users: %w", r.Name, err)
		}
		if err := members(r.Groups, juniors[r.Name], groups); err != nil {
			return nil, fmt.Errorf("role %s: groups: %w", r.Name, err)
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
			es, err := flatten(r.Name, rule)
			if err != nil {
				return nil, fmt.Errorf("role %s: rule %s: %w", r.Name, rule.ID, err)
			}
			entries = append(entries, es...)
		}
	}
	slices.SortStableFunc(entries, before)
	return map[string]any{
		"users":    users,
		"groups":   groups,
		"rules":    ruleList(entries),
		"index":    lookups(entries),
		"prefixed": where(entries, func(e entry) bool { return e.prefix != "" }),
		"stricter": map[string]any{
			RecordingStrict:   positions(nil),
			RecordingStandard: where(entries, func(e entry) bool { return e.rule.Session.Recording != RecordingStandard }),
		},
	}, nil
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
func closure(roles []Role, byName map[string]*Role) (map[string][]string, error) {
	const visiting, done = 1, 2
	state := make(map[string]int, len(roles))
	out := make(map[string][]string, len(roles))
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
		all := []string{r.Name}
		for _, name := range r.Inherits {
			junior := byName[name]
			if junior == nil {
				return fmt.Errorf("role %s inherits %q, which does not exist", r.Name, name)
			}
			if err := visit(junior, path); err != nil {
				return err
			}
			all = append(all, out[name]...)
		}
		slices.Sort(all)
		out[r.Name] = slices.Compact(all)
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
func members(names, roles []string, in map[string]any) error {
	if len(names) > maxMembers {
		return fmt.Errorf("%d entries, at most %d are taken", len(names), maxMembers)
	}
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
		has, _ := in[name].(map[string]any)
		if has == nil {
			has = map[string]any{}
			in[name] = has
		}
		for _, r := range roles {
			has[r] = true
		}
	}
	return nil
}

func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxName:
		return fmt.Errorf("is longer than %d bytes", maxName)
	case !utf8.ValidString(s):
		return fmt.Errorf("%q is not UTF-8", s)
	case strings.TrimSpace(s) != s:
		return fmt.Errorf("%q begins or ends with a space", s)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("%q has a control character", s)
		}
	}
	return nil
}

func checkNames(what string, names []string) error {
	if len(names) > maxRuleList {
		return fmt.Errorf("%s: %d entries, at most %d are taken", what, len(names), maxRuleList)
	}
	for _, n := range names {
		if err := checkName(n); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// flatten checks the rule and returns one entry for its exact names and one for
// each prefix, because these are differently specific.
func flatten(role string, r *Rule) ([]entry, error) {
	if err := checkRule(r); err != nil {
		return nil, err
	}
	checks, err := conditions(r)
	if err != nil {
		return nil, err
	}
	base := entry{role: role, rule: r, checks: checks}
	var out []entry
	add := func(e entry, name int) {
		e.level = name*1000 + len(r.Targets.Labels)*10
		if len(r.Accounts) > 0 && r.Accounts[0] != "*" {
			e.level++
		}
		out = append(out, e)
	}
	exact := base
	for _, name := range r.Targets.Names {
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			e := base
			e.prefix = prefix
			add(e, len(prefix))
		} else {
			exact.names = append(exact.names, name)
		}
	}
	if len(exact.names) > 0 {
		add(exact, maxName+1)
	}
	if len(r.Targets.Names) == 0 {
		add(base, 0)
	}
	return out, nil
}

func checkRule(r *Rule) error {
	if len(r.Actions) == 0 {
		return errors.New("lists no actions")
	}
	var opens, lasts bool
	for _, a := range r.Actions {
		if why := carried[a]; why != "" {
			return fmt.Errorf("action %s cannot be listed: %s", a, why)
		}
		if !a.Known() && a != ActionBreakGlass {
			return fmt.Errorf("there is no action %q", a)
		}
		switch a {
		case ActionRequest, ActionBreakGlass, ActionExtend:
			opens, lasts = true, true
		case ActionCheckout:
			opens = true
		}
	}
	if err := checkNames("target names", r.Targets.Names); err != nil {
		return err
	}
	for _, n := range r.Targets.Names {
		if i := strings.IndexByte(n, '*'); i >= 0 && i != len(n)-1 {
			return fmt.Errorf("target name %q: a * may stand at the end only", n)
		}
	}
	if len(r.Targets.Labels) > maxLabels {
		return fmt.Errorf("%d labels, at most %d are taken", len(r.Targets.Labels), maxLabels)
	}
	selections := max(1, len(r.Targets.Names)) * max(1, len(r.Accounts))
	for k, vs := range r.Targets.Labels {
		if selections *= len(vs); selections > maxSelections {
			return fmt.Errorf("accounts, names and label values have more than %d combinations; split the rule", maxSelections)
		}
		if err := checkName(k); err != nil {
			return fmt.Errorf("label key: %w", err)
		}
		if len(vs) == 0 {
			return fmt.Errorf("label %s has no values, so no target can match", k)
		}
		if err := checkNames("label "+k, vs); err != nil {
			return err
		}
	}
	if err := checkNames("accounts", r.Accounts); err != nil {
		return err
	}
	if slices.Contains(r.Accounts, "*") && len(r.Accounts) > 1 {
		return errors.New(`accounts: "*" stands alone`)
	}
	if opens && len(r.Accounts) == 0 {
		return errors.New(`names no accounts; name them, or "*" for every one`)
	}
	if err := checkSpan("max_duration", r.MaxDuration); err != nil {
		return err
	}
	if lasts && r.MaxDuration == 0 {
		return errors.New("max_duration is missing")
	}
	if err := checkSpan("mfa_within", r.MFAWithin); err != nil {
		return err
	}
	if len(r.Approvals) > maxNeeds {
		return fmt.Errorf("%d approval needs, at most %d are taken", len(r.Approvals), maxNeeds)
	}
	for _, n := range r.Approvals {
		if n.Count < 1 || n.Count > maxApprovers {
			return fmt.Errorf("approvals: count is %d, it must be 1 to %d", n.Count, maxApprovers)
		}
		if len(n.Groups) == 0 {
			return errors.New("approvals: no group is named that could approve")
		}
		if err := checkNames("approvals: groups", n.Groups); err != nil {
			return err
		}
	}
	switch r.Session.Recording {
	case "", RecordingStandard, RecordingStrict:
		return nil
	default:
		return fmt.Errorf("recording %q is neither %s nor %s", r.Session.Recording, RecordingStandard, RecordingStrict)
	}
}

func checkSpan(name string, d time.Duration) error {
	switch {
	case d < 0:
		return fmt.Errorf("%s is negative", name)
	case d%time.Second != 0:
		return fmt.Errorf("%s %s is not whole seconds", name, d)
	case d > maxRuleMinutes*time.Minute:
		return fmt.Errorf("%s %s is longer than a year", name, d)
	}
	return nil
}

// conditions returns the rule's conditions as the bundle checks them, each with
// the words for who does not meet it.
func conditions(r *Rule) ([]any, error) {
	var out []any
	add := func(kind, text string, values any) {
		out = append(out, map[string]any{"kind": kind, "text": text, "values": values})
	}
	if len(r.Weekdays) > 0 {
		if err := checkNames("weekdays", r.Weekdays); err != nil {
			return nil, err
		}
		for _, d := range r.Weekdays {
			if !slices.Contains(weekdays, d) {
				return nil, fmt.Errorf("weekday %q is not one of %s", d, strings.Join(weekdays, ", "))
			}
		}
		add("weekdays", "only on "+orList(r.Weekdays), set(r.Weekdays))
	}
	if len(r.Hours) > 0 {
		if len(r.Hours) > maxRuleList {
			return nil, fmt.Errorf("hours: %d entries, at most %d are taken", len(r.Hours), maxRuleList)
		}
		var spans []any
		var texts []string
		for _, h := range r.Hours {
			from, err := minuteOfDay(h.From)
			if err != nil {
				return nil, fmt.Errorf("hours: from: %w", err)
			}
			to, err := minuteOfDay(h.To)
			if err != nil {
				return nil, fmt.Errorf("hours: to: %w", err)
			}
			if from == 24*60 {
				return nil, errors.New("hours: from 24:00 is never")
			}
			if from < to {
				spans = append(spans, span(from, to))
			} else { // over midnight
				spans = append(spans, span(from, 24*60), span(0, to))
			}
			texts = append(texts, h.From+" to "+h.To)
		}
		add("hours", "only from "+orList(texts), spans)
	}
	if len(r.Sources) > 0 {
		if err := checkNames("sources", r.Sources); err != nil {
			return nil, err
		}
		var nets []any
		for _, s := range r.Sources {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return nil, fmt.Errorf("sources: %q is no network like 10.0.0.0/8", s)
			}
			if p != p.Masked() {
				return nil, fmt.Errorf("sources: %s has host bits set; the network is %s", s, p.Masked())
			}
			nets = append(nets, s)
		}
		add("sources", "only from the network "+orList(r.Sources), nets)
	}
	if r.RequireTicket {
		add("ticket", "only with a ticket", true)
	}
	if r.RequireMaintenanceWindow {
		add("window", "only in a maintenance window of the target", true)
	}
	return out, nil
}

// span is two times of day as [hour, minute], which Rego compares item by item.
func span(from, to int) []any { return []any{[]any{from / 60, from % 60}, []any{to / 60, to % 60}} }

var weekdays = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

// minuteOfDay parses "HH:MM", "24:00" included.
func minuteOfDay(s string) (int, error) {
	if s == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("%q is no time of day like 09:30", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// before sorts entries: the more specific first, then the stricter. Every tie
// is broken, so the same Data always gives the same decisions.
func before(a, b entry) int {
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
	for _, b := range []bool{s.Shell, s.Exec, s.SFTP, s.Forwards, s.Agent, s.X11} {
		if b {
			n++
		}
	}
	return n
}

func ruleList(entries []entry) []any {
	out := make([]any, len(entries))
	for i, e := range entries {
		out[i] = map[string]any{
			"role":        e.role,
			"id":          e.rule.ID,
			"text":        ruleText(e),
			"answers":     allowed(e),
			"level":       e.level,
			"prefix":      e.prefix,
			"conditions":  append([]any{}, e.checks...),
			"max_seconds": int(e.rule.MaxDuration / time.Second),
			"max_text":    inWords(e.rule.MaxDuration),
			"mfa_seconds": int(e.rule.MFAWithin / time.Second),
			"mfa_text":    inWords(e.rule.MFAWithin),
			"approvals":   needs(e.rule.Approvals),
			"quorums":     quorums(e.rule.Approvals),
			"session":     session(e.rule.Session),
		}
	}
	return out
}

// where returns the positions of the entries that f takes.
func where(entries []entry, f func(entry) bool) (out positions) {
	for i, e := range entries {
		if f(e) {
			out = append(out, i)
		}
	}
	return out
}

// answers are the whole decisions of one rule when it allows, by action, so that
// the bundle need not put them together again each time.
type answers struct {
	Actions []Action
	Text    string
	Terms   map[string]any // the other fields
}

// allowed returns the answers for all actions that have no other reason to be
// allowed than a role.
func allowed(e entry) answers {
	actions := unique(e.rule.Actions)
	if slices.Contains(actions, ActionRequest) {
		actions = append(actions, ActionActivate, ActionConnect)
	}
	return answers{
		Actions: slices.DeleteFunc(actions, func(a Action) bool {
			return a == ActionBreakGlass || a == ActionRequestRead || a == ActionSessionList || a == ActionKeyWrite
		}),
		Text: ruleText(e) + " allows it",
		Terms: map[string]any{
			"allow":       true,
			"role":        e.role,
			"rule":        e.rule.ID,
			"approvals":   needs(e.rule.Approvals),
			"max_seconds": int(e.rule.MaxDuration / time.Second),
			"session":     session(e.rule.Session),
			"mfa_seconds": int(e.rule.MFAWithin / time.Second),
			"break_glass": false,
		},
	}
}

func ruleText(e entry) string { return fmt.Sprintf("rule %s of role %s", e.rule.ID, e.role) }

func needs(ns []Need) []any {
	out := make([]any, len(ns))
	for i, n := range ns {
		out[i] = map[string]any{"count": n.Count, "groups": anys(n.Groups)}
	}
	return out
}

// quorums turns needs into conditions that can be counted one by one although a
// person who is in the groups of two needs counts for one of them only. By
// Hall's theorem, distinct persons for all needs exist exactly when every subset
// of the needs finds as many persons in its groups as it asks for together.
func quorums(ns []Need) []any {
	out := []any{}
	for subset := 1; subset < 1<<len(ns); subset++ {
		count := 0
		var groups []string
		for i, n := range ns {
			if subset&(1<<i) != 0 {
				count += n.Count
				groups = append(groups, n.Groups...)
			}
		}
		slices.Sort(groups)
		groups = slices.Compact(groups)
		out = append(out, map[string]any{"count": count, "groups": set(groups), "text": orList(groups)})
	}
	return out
}

func session(s SessionRules) map[string]any {
	recording := s.Recording
	if recording == "" {
		recording = RecordingStrict // not said: the safe one
	}
	return map[string]any{
		"recording": recording, "shell": s.Shell, "exec": s.Exec, "sftp": s.SFTP,
		"forwards": s.Forwards, "agent": s.Agent, "x11": s.X11,
	}
}

func set(ss []string) map[string]any {
	m := make(map[string]any, len(ss))
	for _, s := range ss {
		m[s] = true
	}
	return m
}

// A selector finds rules by labels: its Table is keyed by the values of all
// the labels in Keys and then by role, so that one look-up answers for all rules
// that select by the same labels.
type selector struct {
	Keys  []string // sorted
	Table map[string]map[string]positions
}

// positions of rules.
type positions []int

// lookups builds the index.
func lookups(entries []entry) map[string]any {
	index := map[string]any{}
	selectors := map[string]selector{} // by action, account, name and keys
	for i, e := range entries {
		keys, combinations := selections(e.rule.Targets.Labels)
		for _, action := range unique(e.rule.Actions) {
			for _, account := range orElse(e.rule.Accounts, "*") {
				for _, name := range orElse(e.names, "") {
					id := strings.Join(append([]string{string(action), account, name}, keys...), separator)
					s, ok := selectors[id]
					if !ok {
						s = selector{keys, map[string]map[string]positions{}}
						selectors[id] = s
						at := sub(sub(index, string(action)), account)
						list, _ := at[name].([]any)
						at[name] = append(list, s)
					}
					for _, c := range combinations {
						if s.Table[c] == nil {
							s.Table[c] = map[string]positions{}
						}
						s.Table[c][e.role] = append(s.Table[c][e.role], i)
					}
				}
			}
		}
	}
	return index
}

func orElse(s []string, other string) []string {
	if len(s) == 0 {
		return []string{other}
	}
	return unique(s)
}

// separator stands between the values of a table's key. Neither a rule nor a
// target has it in a label, so different values never make the same key.
const separator = "\x00"

// selections returns the label keys, sorted, and every combination of values
// that labels wants for them.
func selections(labels map[string][]string) (keys, combinations []string) {
	combinations = []string{""}
	keys = slices.Sorted(maps.Keys(labels))
	for i, k := range keys {
		var out []string
		for _, c := range combinations {
			for _, v := range unique(labels[k]) {
				if i > 0 {
					v = c + separator + v
				}
				out = append(out, v)
			}
		}
		combinations = out
	}
	return keys, combinations
}

func unique[S ~string](s []S) []S { return slices.Compact(slices.Sorted(slices.Values(s))) }

func anys(s []string) []any {
	out := make([]any, len(s))
	for i := range s {
		out[i] = s[i]
	}
	return out
}

func sub(m map[string]any, key string) map[string]any {
	s, _ := m[key].(map[string]any)
	if s == nil {
		s = map[string]any{}
		m[key] = s
	}
	return s
}

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
