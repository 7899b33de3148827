package policy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A Change is one thing that could be otherwise.
type Change struct {
	Kind string // "group", "hours", "mfa", ...
	Text string // what to do for it, or what it would be
}

// An Explanation is a decision and what would change it.
type Explanation struct {
	Decision Decision
	// Ways are the nearest: each is a set of changes that turns the answer round, was
	// asked for exactly that, and does not without any one of them. The smallest come
	// first.
	Ways [][]Change
}

// The limits of an explanation.
const (
	maxExplained = 24  // rules that are tried
	maxWays      = 5   // sets that are told
	maxHolders   = 3   // ways into a role
	maxAsked     = 400 // questions
)

// Explain decides, and looks for what would change the answer by asking again with a
// changed Input. When the answer is a refusal these are ways to be allowed; when it
// allows, the limits beyond which it would not.
func (e *Engine) Explain(ctx context.Context, in Input) (Explanation, error) {
	in = in.filled()
	d, err := e.Decide(ctx, in)
	x := Explanation{Decision: d}
	if err != nil {
		return x, err
	}
	s := &search{engine: e, look: e.Lookup(), in: in}
	if d.Allow {
		x.Ways, err = s.limits(ctx, d)
	} else {
		x.Ways, err = s.ways(ctx)
	}
	return x, err
}

// A step is a Change and what it does to an Input, which it may not share memory with.
type step struct {
	Change
	apply func(*Input)
}

type search struct {
	engine *Engine
	look   Lookup
	in     Input
	asked  int
}

// allowed asks with the steps taken.
func (s *search) allowed(ctx context.Context, steps []step) (bool, error) {
	if s.asked++; s.asked > maxAsked {
		return false, nil
	}
	in := s.in.filled()
	in.User.Groups = slices.Clone(in.User.Groups)
	for _, st := range steps {
		st.apply(&in)
	}
	d, err := s.engine.Decide(ctx, in)
	return d.Allow, err
}

// ways finds, rule by rule, all that the rule wants and is not so, takes away again what
// is not needed, and keeps what is left.
func (s *search) ways(ctx context.Context) ([][]Change, error) {
	var found [][]step
	for _, steps := range s.candidates() {
		ok, err := s.allowed(ctx, steps)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		for i := 0; i < len(steps); {
			without := slices.Delete(slices.Clone(steps), i, i+1)
			ok, err := s.allowed(ctx, without)
			if err != nil {
				return nil, err
			}
			if ok && len(without) > 0 {
				steps = without
			} else {
				i++
			}
		}
		found = append(found, steps)
	}
	slices.SortStableFunc(found, func(a, b []step) int { return cmp.Compare(len(a), len(b)) })
	var out [][]Change
	for _, steps := range found {
		set := changesOf(steps)
		if !slices.ContainsFunc(out, func(had []Change) bool { return within(had, set) }) && len(out) < maxWays {
			out = append(out, set)
		}
	}
	return out, nil
}

func changesOf(steps []step) []Change {
	out := make([]Change, len(steps))
	for i, st := range steps {
		out[i] = st.Change
	}
	return out
}

// within reports whether each of a is in b.
func within(a, b []Change) bool {
	return !slices.ContainsFunc(a, func(c Change) bool { return !slices.Contains(b, c) })
}

// carriers are the listed actions that could carry the question.
func (s *search) carriers() []Action {
	switch s.in.Action {
	case ActionRequest, ActionActivate, ActionConnect:
		if s.in.Request.BreakGlass {
			return []Action{ActionBreakGlass}
		}
		return []Action{ActionRequest, ActionBreakGlass}
	default:
		return []Action{s.in.Action}
	}
}

// candidates are, for each rule that could carry the question, all steps to it.
func (s *search) candidates() (list [][]step) {
	common := s.commonSteps()
	if s.in.Action == ActionApprove || s.in.Action == ActionDeny {
		return append(list, append(common, s.voterSteps()...))
	}
	mine := s.look.RolesOf(s.in.User)
	for _, carrier := range s.carriers() {
		names := s.look.Matching(s.look.Roles(), carrier, s.in.Target, s.in.Account)
		// The rules of roles that the user has are nearer.
		slices.SortStableFunc(names, func(a, b RuleName) int {
			return cmp.Compare(b2i(!slices.Contains(mine, a.Role)), b2i(!slices.Contains(mine, b.Role)))
		})
		for _, name := range names[:min(len(names), maxExplained)] {
			rule, ok := s.look.Rule(name)
			if !ok {
				continue
			}
			own := append(slices.Clone(common), s.ruleSteps(rule)...)
			if carrier == ActionBreakGlass && !s.in.Request.BreakGlass {
				own = append(own, step{Change{"break_glass", "make it a break-glass request: no approval, everybody is told"}, func(in *Input) {
					in.Request.BreakGlass = true
					if in.Request.Reason == "" {
						in.Request.Reason = "an emergency"
					}
				}})
			}
			if slices.Contains(mine, name.Role) {
				list = append(list, own)
				continue
			}
			for _, join := range s.joins(name.Role) {
				list = append(list, append([]step{join}, own...))
			}
		}
	}
	if s.in.Account != "" && s.in.Target.Name != "" {
		list = append(list, s.otherAccounts(mine, common)...)
	}
	return list
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// commonSteps are about nothing that a rule says.
func (s *search) commonSteps() (steps []step) {
	if s.in.User.Locked {
		steps = append(steps, step{Change{"user", s.in.User.Name + " is unlocked"}, func(in *Input) { in.User.Locked = false }})
	}
	if s.in.Target.Locked {
		steps = append(steps, step{Change{"target", s.in.Target.Name + " is unlocked"}, func(in *Input) { in.Target.Locked = false }})
	}
	if s.in.Request.BreakGlass && strings.TrimSpace(s.in.Request.Reason) == "" {
		steps = append(steps, step{Change{"reason", "give a reason"}, func(in *Input) { in.Request.Reason = "an emergency" }})
	}
	return steps
}

// ruleSteps are what the rule wants and is not so.
func (s *search) ruleSteps(r Rule) (steps []step) {
	add := func(kind, text string, apply func(*Input)) { steps = append(steps, step{Change{kind, text}, apply}) }
	if age := s.in.User.MFAAgeSeconds; r.MFAWithin > 0 && (age == nil || *age > int64(r.MFAWithin/time.Second)) {
		add("mfa", fmt.Sprintf("prove the second factor (it counts for %s)", inWords(r.MFAWithin)), func(in *Input) {
			now := int64(0)
			in.User.MFAAgeSeconds = &now
		})
	}
	if longest := int64(r.MaxDuration / time.Second); longest > 0 && s.in.Request.DurationSeconds > longest {
		add("duration", "for "+inWords(r.MaxDuration)+" or shorter", func(in *Input) { in.Request.DurationSeconds = longest })
	}
	if r.RequireTicket && strings.TrimSpace(s.in.Environment.Ticket) == "" {
		add("ticket", "name a ticket in the reason", func(in *Input) { in.Environment.Ticket = "INC-1" })
	}
	if r.RequireMaintenanceWindow && !s.in.Environment.MaintenanceWindow {
		add("window", "in a maintenance window of the target", func(in *Input) { in.Environment.MaintenanceWindow = true })
	}
	if r.RequireValidTicket && !s.in.Request.Ticket.Valid {
		add("valid_ticket", "with a ticket that is open, yours, and about the target", func(in *Input) {
			if in.Environment.Ticket == "" {
				in.Environment.Ticket = "INC-1"
			}
			in.Request.Ticket.ID, in.Request.Ticket.Valid = in.Environment.Ticket, true
		})
	}
	if tier := s.in.Target.Labels["tier"]; r.RequireSameTier && tier != "" && s.in.User.Attributes["tier"] != tier {
		add("tier", "with the attribute tier "+tier+", as the target has", func(in *Input) {
			in.User.Attributes = maps.Clone(in.User.Attributes)
			in.User.Attributes["tier"] = tier
		})
	}
	if !r.DuringFreeze && s.in.Environment.Freeze != "" {
		add("freeze", "after the freeze ("+s.in.Environment.Freeze+")", func(in *Input) { in.Environment.Freeze = "" })
	}
	for _, fact := range sortedKeys(r.RequireFacts) {
		values := r.RequireFacts[fact]
		if had, ok := s.in.Target.Facts[fact]; ok && slices.Contains(values, had.Value) && had.AgeSeconds <= int64(r.FactsWithin/time.Second) {
			continue
		}
		add("facts", fmt.Sprintf("once the target is found to have %s %s", fact, orList(values)), func(in *Input) {
			in.Target.Facts = maps.Clone(in.Target.Facts)
			if in.Target.Facts == nil {
				in.Target.Facts = map[string]Fact{}
			}
			in.Target.Facts[fact] = Fact{Value: values[0]}
		})
	}
	ranges := s.ranges(r.Sources)
	if from := sourceWithin(ranges); from != "" && !inNetworks(ranges, s.in.Environment.Source) {
		add("source", "from the network "+orList(r.Sources), func(in *Input) { in.Environment.Source = from })
	}
	if at, ok := s.nextTime(r, true); ok && !openAt(r, s.in.Environment) {
		add("hours", "at "+when(at)+" or whenever it is "+hoursWords(r), func(in *Input) { setTime(&in.Environment, at) })
	}
	if slices.Contains([]Action{ActionActivate, ActionConnect, ActionExtend, ActionCheckout}, s.in.Action) && len(r.Approvals) > 0 {
		add("approvals", approvalWords(r.Approvals), func(in *Input) {
			for i, n := range r.Approvals {
				for j := range n.Count {
					in.Request.Approvals = append(in.Request.Approvals, Approval{UserID: fmt.Sprintf("another-%d-%d", i, j), Groups: n.Groups})
				}
			}
		})
	}
	return steps
}

// joins are the ways into a role.
func (s *search) joins(role string) (steps []step) {
	for _, r := range s.look.data.Roles {
		if len(r.Attributes) > 0 && len(steps) < maxHolders {
			missing := map[string]string{}
			for key, values := range r.Attributes {
				if !slices.Contains(values, s.in.User.Attributes[key]) {
					missing[key] = values[0]
				}
			}
			give := func(in *Input) {
				in.User.Attributes = maps.Clone(in.User.Attributes)
				maps.Copy(in.User.Attributes, missing)
			}
			would := s.in.filled()
			give(&would)
			if slices.Contains(s.look.RolesOf(would.User), role) {
				text := fmt.Sprintf("have the %s, which gives role %s", r.attributeWords(func(key string) string { return orList(r.Attributes[key]) }), role)
				steps = append(steps, step{Change{"attribute", text}, give})
			}
		}
		if !slices.Contains(s.look.RolesOf(User{ID: "nobody", Groups: r.Groups}), role) {
			continue
		}
		for _, group := range r.Groups {
			if len(steps) == maxHolders {
				return steps
			}
			text := fmt.Sprintf("be a member of %s, which has role %s", group, role)
			steps = append(steps, step{Change{"group", text}, func(in *Input) { in.User.Groups = append(in.User.Groups, group) }})
		}
	}
	return steps
}

// voterSteps are the ways to a vote: into a group that is asked.
func (s *search) voterSteps() []step {
	rule, ok := s.look.Rule(RuleName{s.in.Request.Role, s.in.Request.Rule})
	if !ok || len(rule.Approvals) == 0 {
		return nil
	}
	group := rule.Approvals[0].Groups[0]
	return []step{{Change{"group", "be a member of " + group}, func(in *Input) { in.User.Groups = append(in.User.Groups, group) }}}
}

// otherAccounts are those on the same target that the user's own roles name.
func (s *search) otherAccounts(mine []string, common []step) (list [][]step) {
	named := map[string]bool{s.in.Account: true}
	for _, role := range mine {
		for _, e := range s.look.rules.rules[role][s.carriers()[0]] {
			for _, account := range e.accounts {
				if named[account] || !e.matches(account, s.in.Target.Name, s.in.Target.Labels) || len(list) == maxWays {
					continue
				}
				named[account] = true
				list = append(list, append([]step{{Change{"account", "as " + account + " instead"}, func(in *Input) { in.Account = account }}}, append(slices.Clone(common), s.ruleSteps(*e.rule)...)...))
			}
		}
	}
	return list
}

// limits are the single changes that would turn an answer that allows.
func (s *search) limits(ctx context.Context, d Decision) ([][]Change, error) {
	var steps []step
	add := func(kind, text string, apply func(*Input)) { steps = append(steps, step{Change{kind, text}, apply}) }
	if d.MaxDuration > 0 {
		add("duration", "for longer than "+inWords(d.MaxDuration), func(in *Input) { in.Request.DurationSeconds = int64(d.MaxDuration/time.Second) + 1 })
	}
	if d.MFAWithin > 0 {
		add("mfa", "with a second factor older than "+inWords(d.MFAWithin), func(in *Input) {
			old := int64(d.MFAWithin/time.Second) + 1
			in.User.MFAAgeSeconds = &old
		})
	}
	for _, group := range s.in.User.Groups[:min(len(s.in.User.Groups), maxExplained)] {
		add("group", "without the group "+group, func(in *Input) {
			in.User.Groups = slices.DeleteFunc(in.User.Groups, func(g string) bool { return g == group })
		})
	}
	for _, key := range sortedKeys(s.in.User.Attributes)[:min(len(s.in.User.Attributes), maxExplained)] {
		add("attribute", "without the attribute "+key+" "+s.in.User.Attributes[key], func(in *Input) {
			in.User.Attributes = maps.Clone(in.User.Attributes)
			delete(in.User.Attributes, key)
		})
	}
	if rule, ok := s.look.Rule(RuleName{d.Role, d.Rule}); ok {
		if at, ok := s.nextTime(rule, false); ok {
			add("hours", "outside of "+hoursWords(rule)+", from "+when(at)+" on", func(in *Input) { setTime(&in.Environment, at) })
		}
		if len(rule.Sources) > 0 {
			add("source", "from outside of "+orList(rule.Sources), func(in *Input) { in.Environment.Source = "" })
		}
		if rule.RequireTicket {
			add("ticket", "without a ticket", func(in *Input) { in.Environment.Ticket = "" })
		}
		if rule.RequireMaintenanceWindow {
			add("window", "outside of a maintenance window", func(in *Input) { in.Environment.MaintenanceWindow = false })
		}
	}
	var out [][]Change
	for _, st := range steps {
		ok, err := s.allowed(ctx, []step{st})
		if err != nil {
			return nil, err
		}
		if !ok {
			out = append(out, []Change{st.Change})
		}
	}
	return out, nil
}

// ---- Times ----

// openAt reports whether the rule's days and hours hold.
func openAt(r Rule, e Environment) bool {
	m := &moment{weekday: slices.Index(weekdays, e.Weekday), minute: e.Hour*60 + e.Minute, environment: ast.NewObject([2]*ast.Term{kTime, name(e.Time)})}
	open := true
	err := calendar(&r, &surroundings{zones: map[string]*time.Location{}}, func(_, _ string, holds func(*moment) bool) { open = open && holds(m) })
	return err == nil && open
}

// nextTime is the next full minute, within eight days, at which the rule's days and
// hours hold (or do not).
func (s *search) nextTime(r Rule, open bool) (time.Time, bool) {
	if len(r.Weekdays) == 0 && len(r.Hours) == 0 {
		return time.Time{}, false
	}
	now, ok := timeOf(s.in.Environment)
	if !ok {
		return time.Time{}, false
	}
	now = now.Truncate(time.Minute)
	for minute := 1; minute <= 8*24*60; minute++ {
		if at := now.Add(time.Duration(minute) * time.Minute); openAt(r, EnvironmentAt(at)) == open {
			return at, true
		}
	}
	return time.Time{}, false
}

// timeOf is the time of an environment, in the zone that its hour and minute are of.
func timeOf(e Environment) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, e.Time)
	if err != nil {
		return t, false
	}
	t = t.UTC()
	offset := (e.Hour*60 + e.Minute) - (t.Hour()*60 + t.Minute())
	switch days := strings.ToLower(t.AddDate(0, 0, 1).Weekday().String()); {
	case e.Weekday == strings.ToLower(t.Weekday().String()):
	case e.Weekday == days:
		offset += 24 * 60
	default:
		offset -= 24 * 60
	}
	if offset == 0 {
		return t, true
	}
	return t.In(time.FixedZone("", offset*60)), true
}

func setTime(e *Environment, t time.Time) {
	at := EnvironmentAt(t)
	e.Time, e.Weekday, e.Hour, e.Minute = at.Time, at.Weekday, at.Hour, at.Minute
}

func when(t time.Time) string {
	if t.Location() == time.UTC {
		return t.Format("Monday 15:04 UTC")
	}
	return t.Format("Monday 15:04")
}

// hoursWords are the rule's days and hours: "monday or friday, 08:00 to 18:00".
func hoursWords(r Rule) string {
	var parts []string
	if len(r.Weekdays) > 0 {
		parts = append(parts, orList(r.Weekdays))
	}
	if len(r.Hours) > 0 {
		var spans []string
		for _, h := range r.Hours {
			spans = append(spans, h.From+" to "+h.To)
		}
		parts = append(parts, orList(spans))
	}
	if r.TimeZone != "" {
		parts = append(parts, "in "+r.TimeZone)
	}
	return strings.Join(parts, ", ")
}

// ---- Networks ----

// ranges are those of a rule's sources, of which some are names.
func (s *search) ranges(sources []string) (list []string) {
	for _, source := range sources {
		if strings.Contains(source, "/") {
			list = append(list, source)
		} else {
			list = append(list, s.look.data.Networks[source]...)
		}
	}
	return list
}

// sourceWithin is an address in the first of the networks.
func sourceWithin(networks []string) string {
	if len(networks) == 0 {
		return ""
	}
	p, err := netip.ParsePrefix(networks[0])
	if err != nil {
		return ""
	}
	if next := p.Addr().Next(); p.Contains(next) {
		return next.String()
	}
	return p.Addr().String()
}

func inNetworks(networks []string, source string) bool {
	address, err := netip.ParseAddr(source)
	return err == nil && slices.ContainsFunc(networks, func(n string) bool {
		p, err := netip.ParsePrefix(n)
		return err == nil && p.Contains(address.Unmap())
	})
}
