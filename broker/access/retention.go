package access

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// HoldPrefix begins the identifiers of holds.
const HoldPrefix = "HLD"

// Bounds of what is said about the life of recordings.
const (
	maxRetentionRules = 64
	MaxKeepDays       = 36_500 // of a rule, and of the least time
	// MaxHeld is how many sessions one hold may cover.
	MaxHeld = 500
)

// A Retention says how long recordings are kept. The first rule that selects a
// session counts; what none selects is kept for good. All rules are one thing
// with one version, because their order matters.
type Retention struct {
	Rules   []RetentionRule
	Version int64
}

// A RetentionRule keeps the recordings of sessions for some days after their
// end. Empty selectors select all.
type RetentionRule struct {
	ID       string
	Targets  Selector // by the name and the labels that the target had when the session was opened
	Accounts []string // names, or "*"
	KeepDays int      // 0: only as long as every recording is kept
}

// Validate checks the form of the rules.
func (r *Retention) Validate() error {
	if len(r.Rules) > maxRetentionRules {
		return Invalid("there are at most %d rules of retention", maxRetentionRules)
	}
	ids := map[string]bool{}
	for _, rule := range r.Rules {
		if err := CheckRoleName(rule.ID); err != nil {
			return err
		}
		if ids[rule.ID] {
			return Invalid("two rules of retention have the id %s", rule.ID)
		}
		ids[rule.ID] = true
		if rule.KeepDays < 0 || rule.KeepDays > MaxKeepDays {
			return Invalid("rule %s: recordings are kept for 0 to %d days", rule.ID, MaxKeepDays)
		}
		if len(rule.Accounts) > MaxItems {
			return Invalid("rule %s is too large", rule.ID)
		}
		for _, a := range rule.Accounts {
			if a == "*" {
				continue
			}
			if err := CheckAccountName(a); err != nil {
				return err
			}
		}
		if err := rule.Targets.validate(); err != nil {
			return fmt.Errorf("rule %s: %w", rule.ID, err)
		}
	}
	return nil
}

func (s Selector) validate() error {
	if len(s.Names) > MaxItems || len(s.Labels) > len(labelNames) {
		return Invalid("targets are selected by at most %d names", MaxItems)
	}
	for _, n := range s.Names {
		if err := CheckTargetName(strings.TrimSuffix(n, "*")); err != nil && n != "*" {
			return err
		}
	}
	for name, values := range s.Labels {
		// One that does not exist would select nothing, unseen.
		if !slices.Contains(labelNames, name) || len(values) == 0 || len(values) > MaxItems {
			return Invalid("labels are %s, with their values", strings.Join(labelNames, ", "))
		}
		for _, v := range values {
			if err := CheckLabel(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

var labelNames = []string{"environment", "tier", "criticality", "owner"}

// Of returns the rule that decides about the session, if one does.
func (r *Retention) Of(s *Session) (RetentionRule, bool) {
	i := slices.IndexFunc(r.Rules, func(rule RetentionRule) bool { return rule.selects(s) })
	if i < 0 {
		return RetentionRule{}, false
	}
	return r.Rules[i], true
}

func (r RetentionRule) selects(s *Session) bool {
	return (len(r.Accounts) == 0 || slices.Contains(r.Accounts, "*") || slices.Contains(r.Accounts, s.Account)) &&
		r.Targets.selects(s.TargetName, s.Labels)
}

func (s Selector) selects(name string, l Labels) bool {
	if len(s.Names) > 0 && !slices.ContainsFunc(s.Names, func(n string) bool {
		prefix, wild := strings.CutSuffix(n, "*")
		return n == name || wild && strings.HasPrefix(name, prefix)
	}) {
		return false
	}
	has := map[string]string{"environment": l.Environment, "tier": l.Tier, "criticality": l.Criticality, "owner": l.Owner}
	for label, values := range s.Labels {
		if has[label] == "" || !slices.Contains(values, has[label]) {
			return false
		}
	}
	return true
}

// KeptUntil is when the time of the session's recording is over, by which rule.
// Every recording is kept for the least number of days. The zero time is never.
func (r *Retention) KeptUntil(s *Session, least int) (time.Time, string) {
	rule, ok := r.Of(s)
	if !ok || s.State != Closed {
		return time.Time{}, ""
	}
	return s.ClosedAt.Add(Days(max(rule.KeepDays, least))), rule.ID
}

// Days is the length of n days.
func Days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// Shortest is for how many days recordings are kept by the rule that keeps them
// for the shortest time, but at least for the least number; false when there is no
// rule.
func (r *Retention) Shortest(least int) (int, bool) {
	if len(r.Rules) == 0 {
		return 0, false
	}
	days := MaxKeepDays
	for _, rule := range r.Rules {
		days = min(days, rule.KeepDays)
	}
	return max(days, least), true
}

// A Hold keeps the recordings of some sessions from being deleted, by whoever
// and whatever, until it is lifted. A session may be under several.
type Hold struct {
	ID       string
	Reason   string // such as "case 4711"
	ByID     string // the user who placed it
	ByName   string
	PlacedAt time.Time
	Version  int64
}

// A Deletion is how the recording of a session was deleted: by a rule, or by two
// people.
type Deletion struct {
	Rule   string   // of retention
	Reason string   // of people
	By     []string // names of the people: who asked for it, and who agreed
}

// An Agreement is what takes two people. It is done when a second one has said
// the same.
type Agreement struct {
	Done  bool
	First string    // name of who said it first
	At    time.Time // when
	Until time.Time // when it lapses if nobody else says the same
}
