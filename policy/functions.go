package policy

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// The functions by which a bundle looks into the roles. They only look up: which
// roles somebody has, and what their rules say about a question. What follows
// from it is for the bundle to decide.
var (
	// drawbolt.roles(user) is the set of names of all roles that the user has
	// by id, group or attribute, inherited ones too, without those that exclude each
	// other. user is an object like input.user.
	rolesFunction = &ast.Builtin{
		Name:        "drawbolt.roles",
		Decl:        types.NewFunction(types.Args(types.A), types.NewSet(types.S)),
		CanSkipBctx: true,
	}
	// drawbolt.excluded(user) is the set of names of those roles that the user has by
	// id, group or attribute and that exclude each other, so that they have none of them.
	excludedFunction = &ast.Builtin{
		Name:        "drawbolt.excluded",
		Decl:        types.NewFunction(types.Args(types.A), types.NewSet(types.S)),
		CanSkipBctx: true,
	}
	// drawbolt.rules(roles, action, question) is {"rules": [...], "recording": ...,
	// "answer": {...}}: the rules of a set of roles that list the action and select
	// the account and the target of the question, an object like input. The most
	// specific come first, and of equally specific ones the strictest. In each,
	// "unmet" are its conditions that do not hold in the question's environment, as
	// {"kind", "text"}. Recording is "strict" when one of these rules asks for it.
	// Answer is the decision that lets a request in by the first rule, when all its
	// conditions hold and none of the others records more strictly.
	rulesFunction = &ast.Builtin{
		Name:        "drawbolt.rules",
		Decl:        types.NewFunction(types.Args(types.NewSet(types.S), types.S, types.A), types.A),
		CanSkipBctx: true,
	}
)

// A function is one of these over the roles of one Data. It returns nil, which is
// undefined, when it is asked something that is no question.
type function struct {
	decl *ast.Builtin
	call func(operands []*ast.Term) *ast.Term
}

func (s *ruleset) functions() []function {
	return []function{{rolesFunction, s.rolesOf}, {excludedFunction, s.excludedOf}, {rulesFunction, s.rulesFor}}
}

// builtins are the functions as an evaluation takes them.
func (s *ruleset) builtins() map[string]*topdown.Builtin {
	out := map[string]*topdown.Builtin{}
	for _, f := range s.functions() {
		call := func(_ topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			if result := f.call(operands); result != nil {
				return iter(result)
			}
			return nil
		}
		out[f.decl.Name] = &topdown.Builtin{Decl: f.decl, Func: call}
	}
	return out
}

func (s *ruleset) rolesOf(operands []*ast.Term) *ast.Term {
	names := s.assigned(operands[0].Value)
	if names == nil {
		return nil
	}
	for _, e := range s.meets(names) {
		names = names.Diff(e.gone)
	}
	return ast.NewTerm(names)
}

func (s *ruleset) excludedOf(operands []*ast.Term) *ast.Term {
	names := s.assigned(operands[0].Value)
	if names == nil {
		return nil
	}
	excluded := ast.NewSet()
	for _, e := range s.meets(names) {
		excluded.Add(e.one)
		excluded.Add(e.other)
	}
	return ast.NewTerm(excluded)
}

// meets are the exclusions of which the set has both roles.
func (s *ruleset) meets(names ast.Set) (out []exclusion) {
	if len(s.exclusions) == 0 {
		return nil
	}
	names.Foreach(func(role *ast.Term) {
		for _, e := range s.exclusions[text(role)] {
			if names.Contains(e.other) {
				out = append(out, e)
			}
		}
	})
	return out
}

// assigned are the names of all roles that somebody would have if none excluded
// another; nil when who it is about is nobody.
func (s *ruleset) assigned(who ast.Value) ast.Set {
	p := parser{}
	user := p.object("user", who, maxFields)
	names := ast.NewSet(s.users[p.text(user, kID, maxString)]...)
	for _, group := range p.array(user, kGroups, maxList) {
		if group, ok := group.(ast.String); ok {
			for _, role := range s.groups[string(group)] {
				names.Add(role)
			}
		}
	}
	if p.err != nil {
		return nil
	}
	attributes := objectOf(user, kAttributes)
	if attributes == nil || len(s.attributes) == 0 {
		return names
	}
	if attributes.Len() > maxList {
		return nil
	}
	attributes.Foreach(func(key, value *ast.Term) {
		k, isText := key.Value.(ast.String)
		v, ok := value.Value.(ast.String)
		if !isText || !ok {
			return
		}
		for _, m := range s.attributes[attribute{string(k), string(v)}] {
			if m.has(attributes) {
				for _, role := range m.roles {
					names.Add(role)
				}
			}
		}
	})
	return names
}

// has reports whether somebody with these attributes has the role.
func (m *holder) has(attributes ast.Object) bool {
	for _, want := range m.wants {
		value, ok := textOf(attributes, want.term)
		if !ok || !slices.Contains(want.values, value) {
			return false
		}
	}
	return true
}

func (s *ruleset) rulesFor(operands []*ast.Term) *ast.Term {
	p := parser{}
	question := p.object("question", operands[2].Value, maxFields)
	target := p.object("target", p.field(question, kTarget), maxFields)
	labels := p.texts(p.object("target.labels", p.field(target, kLabels), maxList))
	account, machine := p.text(question, kAccount, maxString), p.text(target, kName, maxString)
	roles, isSet := operands[0].Value.(ast.Set)
	action, isText := operands[1].Value.(ast.String)
	if !isSet || !isText {
		p.fail("roles are not a set, or the action is not a string")
	}
	now := p.moment(question, Action(action))
	if p.err != nil {
		return nil
	}
	var found []*entry
	roles.Foreach(func(role *ast.Term) {
		if role, ok := role.Value.(ast.String); ok {
			for _, e := range s.rules[string(role)][Action(action)] {
				if e.matches(account, machine, labels) {
					found = append(found, e)
				}
			}
		}
	})
	slices.SortFunc(found, func(a, b *entry) int { return a.position - b.position })

	asked := p.occasion(question, labels)
	if p.err != nil {
		return nil
	}
	strict, rules := false, make([]*ast.Term, len(found))
	var first *face
	for i, e := range found {
		f := e.face(asked)
		rules[i] = e.at(f, now)
		strict = strict || e.strict
		if i == 0 {
			first = f
		}
	}
	fields := [][2]*ast.Term{{kRules, ast.ArrayTerm(rules...)}, {kRecording, kStandard}}
	if strict {
		fields[1][1] = kStrict
	}
	if first != nil && rules[0] == first.term && strict == found[0].strict {
		fields = append(fields, [2]*ast.Term{kAnswer, first.answer})
	}
	return ast.ObjectTerm(fields...)
}

// texts are the fields of o that are strings.
func (p *parser) texts(o ast.Object) map[string]string {
	out := make(map[string]string, o.Len())
	o.Foreach(func(key, value *ast.Term) {
		k, isText := key.Value.(ast.String)
		if v, ok := value.Value.(ast.String); ok && isText {
			out[string(k)] = string(v)
		}
	})
	return out
}

// maxFields bounds the objects that the functions take.
const maxFields = 32

// moment takes apart what every question has of its environment.
func (p *parser) moment(question ast.Object, action Action) *moment {
	environment := p.object("environment", p.field(question, kEnvironment), maxFields)
	m := &moment{
		action: action, question: question, environment: environment,
		weekday: slices.Index(weekdays, p.text(environment, kWeekday, maxString)),
		minute:  int(p.number(environment, kHour, 23)*60 + p.number(environment, kMinute, 59)),
	}
	if source := p.text(environment, kSource, maxString); source != "" {
		var err error
		if m.source, err = netip.ParseAddr(source); err != nil {
			p.fail("environment.source: %w", err)
		}
		m.source = m.source.Unmap()
	}
	return m
}

// An asked request is what an Occasion looks at.
type asked struct {
	seconds int64
	labels  map[string]string
}

func (p *parser) occasion(question ast.Object, labels map[string]string) asked {
	return asked{p.number(p.object("request", p.field(question, kRequest), maxFields), kDuration, math.MaxInt64), labels}
}

// picks reports whether the occasion is that of the request.
func (o *Occasion) picks(a asked) bool {
	if o == nil {
		return true
	}
	for name, values := range o.Labels {
		if value, ok := a.labels[name]; !ok || !slices.Contains(values, value) {
			return false
		}
	}
	return o.LongerSeconds == 0 || a.seconds > o.LongerSeconds
}

// face is the rule with those of its approvals that the request needs.
func (e *entry) face(a asked) *face {
	if len(e.faces) == 1 {
		return &e.faces[0]
	}
	set := 0
	for i := range e.rule.Approvals {
		if e.rule.Approvals[i].When.picks(a) {
			set |= 1 << i
		}
	}
	return &e.faces[set]
}

// faces are all that the rule can have.
func faces(e *entry) []face {
	all := e.rule.Approvals
	if !slices.ContainsFunc(all, func(n Need) bool { return n.When != nil }) {
		return []face{newFace(e, all)}
	}
	out := make([]face, 1<<len(all))
	for set := range out {
		var needed []Need
		for i, n := range all {
			if set&(1<<i) != 0 {
				needed = append(needed, n)
			}
		}
		out[set] = newFace(e, needed)
	}
	return out
}

func newFace(e *entry, needed []Need) face {
	var f face
	f.fields, f.answer = ruleFields(e, needed)
	f.term = ast.ObjectTerm(append(f.fields, [2]*ast.Term{kUnmet, ast.InternedEmptyArray})...)
	return f
}

// at is the rule as the bundle sees it at a moment.
func (e *entry) at(f *face, m *moment) *ast.Term {
	var unmet []*ast.Term
	for _, c := range e.conditions {
		if !c.holds(m) {
			unmet = append(unmet, c.unmet)
		}
	}
	if unmet == nil {
		return f.term
	}
	return ast.ObjectTerm(append(f.fields, [2]*ast.Term{kUnmet, ast.ArrayTerm(unmet...)})...)
}

// ruleFields are the fields of a rule as the bundle sees it, but for "unmet", and
// the whole decision that lets an ordinary request in by this rule, so that the
// bundle need not put it together each time.
func ruleFields(e *entry, needed []Need) (fields [][2]*ast.Term, answer *ast.Term) {
	value := func(v any) *ast.Term { return ast.NewTerm(ast.MustInterfaceToValue(v)) }
	role, id, text := name(e.role), name(e.rule.ID), fmt.Sprintf("rule %s of role %s", e.rule.ID, e.role)
	terms := [][2]*ast.Term{
		{kRole, role},
		{kApprovals, value(needs(needed))},
		{kMaxSeconds, value(int(e.rule.MaxDuration / time.Second))},
		{kMFASeconds, value(int(e.rule.MFAWithin / time.Second))},
		{kSession, value(session(e.rule.Session))},
		{kDenyThreshold, value(max(1, e.rule.DenyThreshold))},
	}
	answer = ast.ObjectTerm(append(slices.Clip(terms),
		[2]*ast.Term{kRule, id},
		[2]*ast.Term{kAllow, ast.InternedTerm(true)},
		[2]*ast.Term{kBreakGlass, ast.InternedTerm(false)},
		[2]*ast.Term{kReasons, value([]any{map[string]any{"rule": "request.role", "text": text + " allows it"}})},
	)...)
	return slices.Clip(append(terms,
		[2]*ast.Term{kID, id},
		[2]*ast.Term{kText, name(text)},
		[2]*ast.Term{kLevel, value(e.level)},
		[2]*ast.Term{kMaxText, value(inWords(e.rule.MaxDuration))},
		[2]*ast.Term{kMFAText, value(inWords(e.rule.MFAWithin))},
		[2]*ast.Term{kQuorums, value(quorums(needed))},
		[2]*ast.Term{kSeparate, ast.InternedTerm(e.rule.SeparateDuties)},
	)), answer // clipped: at appends to it for many questions at once
}

// ready are the answers that come with the rules, taken apart.
func (s *ruleset) ready() (map[ast.Object]Decision, error) {
	out := map[ast.Object]Decision{}
	for _, actions := range s.rules {
		for _, entries := range actions {
			for _, e := range entries {
				for _, f := range e.faces {
					var d Decision
					if err := parseDecision(f.answer.Value, &d); err != nil {
						return nil, fmt.Errorf("role %s: rule %s: %w", e.role, e.rule.ID, err)
					}
					out[f.answer.Value.(ast.Object)] = d
				}
			}
		}
	}
	return out, nil
}

func needs(ns []Need) []any {
	out := make([]any, len(ns))
	for i, n := range ns {
		need := map[string]any{"count": n.Count, "groups": n.Groups}
		if n.Step != 0 {
			need["step"] = n.Step
		}
		if n.EscalateSeconds != 0 {
			need["escalate_after_seconds"], need["escalate_to"] = n.EscalateSeconds, n.EscalateTo
		}
		out[i] = need
	}
	return out
}

// quorums turns needs into conditions that can be counted one by one although a
// person who is in the groups of two needs counts for one of them only. By
// Hall's theorem, distinct persons for all needs of a step exist exactly when
// every subset of them finds as many persons in its groups as it asks for
// together. Each group is there with the seconds after which it may meet the need.
func quorums(ns []Need) []any {
	out := []any{}
	for subset := 1; subset < 1<<len(ns); subset++ {
		count, step, mixed := 0, -1, false
		groups := map[string]int64{}
		for i, n := range ns {
			if subset&(1<<i) == 0 {
				continue
			}
			mixed = mixed || step >= 0 && step != n.Step
			step = n.Step
			count += n.Count
			for _, g := range n.EscalateTo {
				if was, ok := groups[g]; !ok || n.EscalateSeconds < was {
					groups[g] = n.EscalateSeconds
				}
			}
			for _, g := range n.Groups {
				groups[g] = 0
			}
		}
		if mixed {
			continue // a vote is for the needs of one step
		}
		fields := map[string]any{}
		var at []string // who is asked from the beginning
		for _, g := range slices.Sorted(maps.Keys(groups)) {
			if fields[g] = groups[g]; groups[g] == 0 {
				at = append(at, g)
			}
		}
		out = append(out, map[string]any{"count": count, "step": step, "groups": fields, "text": orList(at)})
	}
	return out
}

func session(s SessionRules) map[string]any {
	recording := s.Recording
	if recording == "" {
		recording = RecordingStrict // not said: the safe one
	}
	o := map[string]any{
		"recording": recording, "shell": s.Shell, "exec": s.Exec, "agent": s.Agent, "x11": s.X11,
		"commands": list(s.Commands), "files": list(s.Files), "forwards": list(s.Forwards), "detect": list(s.Detect),
		"silent_watch": s.SilentWatch, "four_eyes": s.FourEyes,
	}
	if s.Checkout != "" {
		o["checkout"] = s.Checkout
	}
	return o
}
