package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A condition of a rule either holds at a moment or does not.
type condition struct {
	unmet *ast.Term // {kind, text}: what to tell who does not meet it
	holds func(*moment) bool
}

// A moment is a question, as conditions look at it. What a question lacks holds
// for no condition.
type moment struct {
	action      Action // the listed action that is looked for
	question    ast.Object
	environment ast.Object
	weekday     int        // 0 is Monday; -1: unknown
	minute      int        // of the day
	source      netip.Addr // the zero Addr when there is none
}

// in is the weekday and the minute of the day in a time zone; nil is the zone in
// which the environment gives them. The instant decides, so an hour that a clock
// goes back by is there twice, and one that it skips is not there.
func (m *moment) in(zone *time.Location) (weekday, minute int) {
	if zone == nil {
		return m.weekday, m.minute
	}
	text, _ := textOf(m.environment, kTime)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return -1, -1
	}
	t = t.In(zone)
	return (int(t.Weekday()) + 6) % 7, t.Hour()*60 + t.Minute()
}

// The fields of a question that may be missing.

func objectOf(o ast.Object, field *ast.Term) ast.Object {
	if o == nil {
		return nil
	}
	if t := o.Get(field); t != nil {
		if v, ok := t.Value.(ast.Object); ok {
			return v
		}
	}
	return nil
}

func textOf(o ast.Object, field *ast.Term) (string, bool) {
	if o == nil {
		return "", false
	}
	if t := o.Get(field); t != nil {
		v, ok := t.Value.(ast.String)
		return string(v), ok
	}
	return "", false
}

func isTrue(o ast.Object, field *ast.Term) bool {
	if o == nil {
		return false
	}
	t := o.Get(field)
	return t != nil && t.Value == ast.Boolean(true)
}

// below reports whether a field is a whole number from 0 to less than max.
func below(o ast.Object, field *ast.Term, max int64) bool {
	if o == nil {
		return false
	}
	t := o.Get(field)
	if t == nil {
		return false
	}
	v, ok := t.Value.(ast.Number)
	n, whole := v.Int64()
	return ok && whole && n >= 0 && n < max
}

// A surroundings is what rules may refer to by name.
type surroundings struct {
	networks map[string][]netip.Prefix
	zones    map[string]*time.Location
}

func newSurroundings(networks map[string][]string) (*surroundings, error) {
	s := &surroundings{networks: map[string][]netip.Prefix{}, zones: map[string]*time.Location{}}
	if len(networks) > maxNetworks {
		return nil, fmt.Errorf("%d networks have names, at most %d are taken", len(networks), maxNetworks)
	}
	for name, ranges := range networks {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
		if strings.Contains(name, "/") {
			return nil, fmt.Errorf("network %s: a name has no slash", name)
		}
		if len(ranges) == 0 || len(ranges) > maxRuleList {
			return nil, fmt.Errorf("network %s has %d ranges, 1 to %d are taken", name, len(ranges), maxRuleList)
		}
		for _, text := range ranges {
			p, err := prefix(text)
			if err != nil {
				return nil, fmt.Errorf("network %s: %w", name, err)
			}
			s.networks[name] = append(s.networks[name], p)
		}
	}
	return s, nil
}

func prefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is no network like 10.0.0.0/8", s)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("write %s as a network of IPv4", s)
	case p != p.Masked():
		return p, fmt.Errorf("%s has host bits set; the network is %s", s, p.Masked())
	}
	return p, nil
}

// sources are the networks that a rule lists, by their ranges or their names.
func (s *surroundings) sources(list []string) ([]netip.Prefix, error) {
	if err := checkNames("sources", list); err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, source := range list {
		if !strings.Contains(source, "/") {
			named, ok := s.networks[source]
			if !ok {
				return nil, fmt.Errorf("sources: %q is no network like 10.0.0.0/8, and none has that name", source)
			}
			out = append(out, named...)
			continue
		}
		p, err := prefix(source)
		if err != nil {
			return nil, fmt.Errorf("sources: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

// zone is the time zone of that name in the IANA database; "" is none.
func (s *surroundings) zone(name string) (*time.Location, error) {
	if name == "" {
		return nil, nil
	}
	if z := s.zones[name]; z != nil {
		return z, nil
	}
	z, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // what is local to a server is not the same everywhere
		return nil, fmt.Errorf("time_zone: there is no %q; write it like Europe/Berlin", name)
	}
	s.zones[name] = z
	return z, nil
}

// A span of the day in minutes, from included, to excluded. One that does not end
// after its beginning goes over midnight.
type span struct{ from, to int }

// has reports whether the minute is in the span, and whether the span then began
// on the day before.
func (s span) has(minute int) (in, yesterday bool) {
	switch {
	case minute < 0:
		return false, false
	case s.from < s.to:
		return s.from <= minute && minute < s.to, false
	case minute >= s.from:
		return true, false
	}
	return minute < s.to, minute < s.to
}

// conditions returns the rule's conditions, each with the words for who does not
// meet it.
func conditions(r *Rule, around *surroundings) ([]condition, error) {
	var out []condition
	add := func(kind, text string, holds func(*moment) bool) {
		unmet := ast.ObjectTerm([2]*ast.Term{kKind, name(kind)}, [2]*ast.Term{kText, name(text)})
		out = append(out, condition{unmet, holds})
	}
	if err := calendar(r, around, add); err != nil {
		return nil, err
	}
	if len(r.Sources) > 0 {
		networks, err := around.sources(r.Sources)
		if err != nil {
			return nil, err
		}
		add("sources", "only from the network "+orList(r.Sources), func(m *moment) bool {
			return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(m.source) })
		})
	}
	if r.RequireSameTier {
		add("tier", "only to people of the target's tier", func(m *moment) bool {
			person, _ := textOf(objectOf(objectOf(m.question, kUser), kAttributes), kTier)
			machine, _ := textOf(objectOf(objectOf(m.question, kTarget), kLabels), kTier)
			return person != "" && person == machine
		})
	}
	if err := facts(r, add); err != nil {
		return nil, err
	}
	if r.RequireTicket || r.RequireValidTicket {
		add("ticket", "only with a ticket", func(m *moment) bool { return m.ticket() != "" })
	}
	if r.RequireValidTicket {
		add("valid_ticket", "only with a ticket that holds", func(m *moment) bool {
			of := objectOf(objectOf(m.question, kRequest), kTicket)
			id, _ := textOf(of, kID)
			return m.ticket() == "" || id == m.ticket() && isTrue(of, kValid) // without one, the condition before says so
		})
	}
	if r.SeparateDuties {
		add("separate", "not to who has approved something under the same ticket", func(m *moment) bool {
			id, _ := textOf(objectOf(m.question, kUser), kID)
			approved := objectOf(objectOf(m.question, kRequest), kTicket)
			if id == "" || approved == nil || approved.Get(kApprovedBy) == nil {
				return false
			}
			list, ok := approved.Get(kApprovedBy).Value.(*ast.Array)
			return ok && !list.Until(func(t *ast.Term) bool { return t.Value.Compare(ast.String(id)) == 0 })
		})
	}
	if err := limits(r, add); err != nil {
		return nil, err
	}
	if r.RequireMaintenanceWindow {
		add("window", "only in a maintenance window of the target", func(m *moment) bool { return isTrue(m.environment, kWindow) })
	}
	if !r.DuringFreeze && slices.ContainsFunc(r.Actions, opens) {
		add("freeze", "only when there is no freeze", func(m *moment) bool {
			freeze, ok := textOf(m.environment, kFreeze)
			return ok && freeze == "" || !opens(m.action)
		})
	}
	return out, nil
}

// ticket is the ticket that the request names.
func (m *moment) ticket() string {
	t, _ := textOf(m.environment, kTicket)
	return strings.TrimSpace(t)
}

// opens reports whether who may do this gets at a target.
func opens(a Action) bool {
	return a == ActionRequest || a == ActionBreakGlass || a == ActionExtend || a == ActionCheckout
}

// calendar adds the weekdays and the hours. Of a span over midnight, the part
// after it belongs to the day on which the span began.
func calendar(r *Rule, around *surroundings, add func(kind, text string, holds func(*moment) bool)) error {
	zone, err := around.zone(r.TimeZone)
	if err != nil {
		return err
	}
	if zone != nil && len(r.Weekdays) == 0 && len(r.Hours) == 0 {
		return errors.New("time_zone: there are no hours and no weekdays that it would be for")
	}
	if err := checkNames("weekdays", r.Weekdays); err != nil {
		return err
	}
	days := map[int]bool{}
	for _, d := range r.Weekdays {
		i := slices.Index(weekdays, d)
		if i < 0 {
			return fmt.Errorf("weekday %q is not one of %s", d, strings.Join(weekdays, ", "))
		}
		days[i] = true
	}
	if len(r.Hours) > maxRuleList {
		return fmt.Errorf("hours: %d entries, at most %d are taken", len(r.Hours), maxRuleList)
	}
	var spans []span
	var texts []string
	for _, h := range r.Hours {
		from, err := minuteOfDay(h.From)
		if err != nil {
			return fmt.Errorf("hours: from: %w", err)
		}
		to, err := minuteOfDay(h.To)
		if err != nil {
			return fmt.Errorf("hours: to: %w", err)
		}
		if from == 24*60 {
			return errors.New("hours: from 24:00 is never")
		}
		spans = append(spans, span{from, to})
		texts = append(texts, h.From+" to "+h.To)
	}
	where := ""
	if zone != nil {
		where = " (" + r.TimeZone + ")"
	}
	dayBefore := func(day int) int { return (day + 6) % 7 }
	if len(days) > 0 {
		add("weekdays", "only on "+orList(r.Weekdays)+where, func(m *moment) bool {
			day, minute := m.in(zone)
			return days[day] || day >= 0 && days[dayBefore(day)] && slices.ContainsFunc(spans, func(s span) bool {
				_, yesterday := s.has(minute)
				return yesterday
			})
		})
	}
	if len(spans) > 0 {
		add("hours", "only from "+orList(texts)+where, func(m *moment) bool {
			day, minute := m.in(zone)
			return slices.ContainsFunc(spans, func(s span) bool {
				in, yesterday := s.has(minute)
				// On a day that is not listed at all, the weekdays say so.
				return in && (!yesterday || len(days) == 0 || !days[day] || days[dayBefore(day)])
			})
		})
	}
	return nil
}

// facts adds what must have been found out about the target, and how lately.
func facts(r *Rule, add func(kind, text string, holds func(*moment) bool)) error {
	if err := checkSpan("facts_within", r.FactsWithin); err != nil {
		return err
	}
	if (len(r.RequireFacts) > 0) != (r.FactsWithin > 0) {
		return errors.New("require_facts and facts_within are given together: a fact is as good as it is new")
	}
	if len(r.RequireFacts) > maxLabels {
		return fmt.Errorf("require_facts: %d facts, at most %d are taken", len(r.RequireFacts), maxLabels)
	}
	oldest := int64(r.FactsWithin/time.Second) + 1
	for _, fact := range sortedKeys(r.RequireFacts) {
		values := slices.Clone(r.RequireFacts[fact])
		if err := checkName(fact); err != nil {
			return fmt.Errorf("require_facts: %w", err)
		}
		if len(values) == 0 {
			return fmt.Errorf("require_facts: %s has no values, so no target can have one", fact)
		}
		if err := checkNames("require_facts: "+fact, values); err != nil {
			return err
		}
		key := name(fact)
		add("facts", fmt.Sprintf("only while the target is known, since at most %s, to have %s %s", inWords(r.FactsWithin), fact, orList(values)), func(m *moment) bool {
			of := objectOf(objectOf(objectOf(m.question, kTarget), kFacts), key)
			value, _ := textOf(of, kValue)
			return below(of, kAgeSeconds, oldest) && slices.Contains(values, value)
		})
	}
	return nil
}

// limits adds how many sessions may be open already when one more begins.
func limits(r *Rule, add func(kind, text string, holds func(*moment) bool)) error {
	l := r.Limits
	if l.PerPerson < 0 || l.PerTarget < 0 || l.PerPerson > maxApprovers*100 || l.PerTarget > maxApprovers*100 {
		return fmt.Errorf("limits: a number of sessions is 1 to %d", maxApprovers*100)
	}
	of := func(m *moment) ast.Object { return objectOf(m.environment, kSessions) }
	if n := l.PerPerson; n > 0 {
		add("per_person", fmt.Sprintf("only to who has fewer than %d sessions open", n), func(m *moment) bool { return below(of(m), kOfUser, int64(n)) })
	}
	if n := l.PerTarget; n > 0 {
		add("per_target", fmt.Sprintf("only while fewer than %d sessions are open on the target", n), func(m *moment) bool { return below(of(m), kOnTarget, int64(n)) })
	}
	if l.Exclusive {
		add("exclusive", "only while nobody else has a session in the account", func(m *moment) bool { return below(of(m), kOfOthers, 1) })
	}
	return nil
}

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
