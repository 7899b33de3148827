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

// A condition of a rule either holds in an environment or does not.
type condition struct {
	unmet *ast.Term // {kind, text}: what to tell who does not meet it
	holds func(*moment) bool
}

// A moment is the environment of a question, taken apart.
type moment struct {
	weekday string
	minute  int        // of the day
	source  netip.Addr // the zero Addr when there is none
	ticket  bool
	window  bool
}

// conditions returns the rule's conditions, each with the words for who does not
// meet it.
func conditions(r *Rule) ([]condition, error) {
	var out []condition
	add := func(kind, text string, holds func(*moment) bool) {
		unmet := ast.ObjectTerm([2]*ast.Term{kKind, name(kind)}, [2]*ast.Term{kText, name(text)})
		out = append(out, condition{unmet, holds})
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
		days := slices.Clone(r.Weekdays)
		add("weekdays", "only on "+orList(days), func(m *moment) bool { return slices.Contains(days, m.weekday) })
	}
	if len(r.Hours) > 0 {
		if len(r.Hours) > maxRuleList {
			return nil, fmt.Errorf("hours: %d entries, at most %d are taken", len(r.Hours), maxRuleList)
		}
		var spans [][2]int
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
				spans = append(spans, [2]int{from, to})
			} else { // over midnight
				spans = append(spans, [2]int{from, 24 * 60}, [2]int{0, to})
			}
			texts = append(texts, h.From+" to "+h.To)
		}
		add("hours", "only from "+orList(texts), func(m *moment) bool {
			return slices.ContainsFunc(spans, func(s [2]int) bool { return s[0] <= m.minute && m.minute < s[1] })
		})
	}
	if len(r.Sources) > 0 {
		if err := checkNames("sources", r.Sources); err != nil {
			return nil, err
		}
		var networks []netip.Prefix
		for _, s := range r.Sources {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return nil, fmt.Errorf("sources: %q is no network like 10.0.0.0/8", s)
			}
			if p.Addr().Is4In6() {
				return nil, fmt.Errorf("sources: write %s as a network of IPv4", s)
			}
			if p != p.Masked() {
				return nil, fmt.Errorf("sources: %s has host bits set; the network is %s", s, p.Masked())
			}
			networks = append(networks, p)
		}
		add("sources", "only from the network "+orList(r.Sources), func(m *moment) bool {
			return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(m.source) })
		})
	}
	if r.RequireTicket {
		add("ticket", "only with a ticket", func(m *moment) bool { return m.ticket })
	}
	if r.RequireMaintenanceWindow {
		add("window", "only in a maintenance window of the target", func(m *moment) bool { return m.window })
	}
	return out, nil
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
