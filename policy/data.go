package policy

import (
	"encoding/json"
	"fmt"
	"time"
)

// Data is what the policy knows besides the Input: who may do what.
type Data struct {
	Roles []Role `json:"roles"`
}

// A Role is a named bundle of rules, and who has it. A role has all rules of
// the roles that it inherits, and theirs.
type Role struct {
	Name     string   `json:"name"`
	Inherits []string `json:"inherits,omitempty"`
	Groups   []string `json:"groups,omitempty"` // whose members have the role
	Users    []string `json:"users,omitempty"`  // User.ID
	Rules    []Rule   `json:"rules,omitempty"`
}

// A Rule permits Actions on the targets and accounts that it selects, when its
// conditions hold. There are no rules that forbid; the most specific matching
// rule decides (docs/policy.md).
type Rule struct {
	ID      string   `json:"id"` // unique within the role
	Actions []Action `json:"actions"`
	Targets Selector `json:"targets"`
	// Accounts on the target; ["*"] means every one. They must be given when
	// the rule opens something (request, break_glass, extend, checkout).
	Accounts []string `json:"accounts,omitempty"`

	// MaxDuration is the longest grant; whole seconds. It must be given when
	// the rule lists request, break_glass or extend.
	MaxDuration time.Duration `json:"-"`
	Approvals   []Need        `json:"approvals,omitempty"`
	// DenyThreshold is how many people's no ends a request; 0: one.
	DenyThreshold int           `json:"deny_threshold,omitempty"`
	MFAWithin     time.Duration `json:"-"` // second factor not older than this; 0: none needed
	Session       SessionRules  `json:"session"`

	// Conditions. All that are given must hold; a list holds when one entry does.
	Hours                    []Hours  `json:"hours,omitempty"`
	Weekdays                 []string `json:"weekdays,omitempty"` // "monday"
	Sources                  []string `json:"sources,omitempty"`  // networks (CIDR) the user may come from
	RequireTicket            bool     `json:"require_ticket,omitempty"`
	RequireMaintenanceWindow bool     `json:"require_maintenance_window,omitempty"`
}

// A Selector chooses targets: by name and by labels, and both when both are
// given. An empty selector chooses every target and also no target at all.
type Selector struct {
	// Names are exact, or prefixes that end in "*"; any one must match.
	Names []string `json:"names,omitempty"`
	// Labels must all be there, each with one of the values given.
	Labels map[string][]string `json:"labels,omitempty"`
}

// Hours is a span of the day, From included, To excluded, as "HH:MM". A span
// whose To is not after its From goes over midnight; "24:00" is the end of the day.
type Hours struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// wireRule is Rule with durations as a person writes them ("4h30m").
type wireRule struct {
	plainRule
	MaxDuration string `json:"max_duration,omitempty"`
	MFAWithin   string `json:"mfa_within,omitempty"`
}

type plainRule Rule

// MarshalJSON writes durations as strings like "4h0m0s".
func (r Rule) MarshalJSON() ([]byte, error) {
	w := wireRule{plainRule: plainRule(r)}
	if r.MaxDuration != 0 {
		w.MaxDuration = r.MaxDuration.String()
	}
	if r.MFAWithin != 0 {
		w.MFAWithin = r.MFAWithin.String()
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads durations from strings like "4h" or "1h30m".
func (r *Rule) UnmarshalJSON(b []byte) error {
	var w wireRule
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	for _, d := range []struct {
		name, text string
		to         *time.Duration
	}{{"max_duration", w.MaxDuration, &w.plainRule.MaxDuration}, {"mfa_within", w.MFAWithin, &w.plainRule.MFAWithin}} {
		if d.text == "" {
			continue
		}
		v, err := time.ParseDuration(d.text)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		*d.to = v
	}
	*r = Rule(w.plainRule)
	return nil
}

// Check reports whether an engine would take d: whether every name exists, no
// role inherits itself, and every rule is complete.
func (d Data) Check() error {
	if _, err := newRuleset(d); err != nil {
		return fmt.Errorf("policy data: %w", err)
	}
	return nil
}
