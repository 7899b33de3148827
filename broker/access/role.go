package access

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// A Role says what its members may do. Rules of inherited roles count too.
type Role struct {
	Name     string
	Inherits []string
	Groups   []string // whose members have the role
	Users    []string // ids of people who have it
	Rules    []Rule
	Version  int64
}

// A Rule allows some actions on some targets and accounts, under conditions.
type Rule struct {
	ID          string
	Actions     []string
	Targets     Selector
	Accounts    []string // names, or "*"
	MaxDuration time.Duration
	Approvals   []Need
	// DenyThreshold is how many people's no ends a request; 0: one.
	DenyThreshold int
	MFAWithin     time.Duration // how fresh the second factor must be; 0: none needed
	Session       SessionRules
	// Conditions; empty ones do not limit.
	Weekdays      []string // "Monday", ...
	Hours         []string // "08:00-18:00", UTC
	Sources       []string // networks, CIDR
	RequireTicket bool
	RequireWindow bool // a maintenance window
}

// A Selector picks targets. Empty selects all.
type Selector struct {
	Names  []string            // exact, or a prefix and *
	Labels map[string][]string // label -> one of these values
}

// Validate checks the form of the role. Whether names it refers to exist, and
// whether inheritance has a cycle, is for the policy engine when it loads it.
func (r *Role) Validate() error {
	if err := CheckRoleName(r.Name); err != nil {
		return err
	}
	if len(r.Inherits) > MaxItems || len(r.Groups) > MaxItems || len(r.Users) > 10*MaxItems || len(r.Rules) > MaxItems {
		return Invalid("role %s is too large: at most %d rules, groups and inherited roles", r.Name, MaxItems)
	}
	for _, name := range r.Inherits {
		if err := CheckRoleName(name); err != nil {
			return err
		}
	}
	for _, g := range r.Groups {
		if err := CheckGroupName(g); err != nil {
			return err
		}
	}
	for _, id := range r.Users {
		if !ValidID(UserPrefix, id) {
			return Invalid("role %s names the user %s, which is not an id", r.Name, strconv.QuoteToASCII(clip(id)))
		}
	}
	ids := map[string]bool{}
	for i := range r.Rules {
		rule := &r.Rules[i]
		if err := rule.validate(); err != nil {
			return err
		}
		if ids[rule.ID] {
			return Invalid("role %s has two rules with the id %s", r.Name, rule.ID)
		}
		ids[rule.ID] = true
	}
	return nil
}

func (r *Rule) validate() error {
	if err := CheckRoleName(r.ID); err != nil {
		return err
	}
	if len(r.Actions) == 0 || len(r.Actions) > MaxItems {
		return Invalid("rule %s must name its actions", r.ID)
	}
	for _, a := range r.Accounts {
		if a != "*" {
			if err := CheckAccountName(a); err != nil {
				return err
			}
		}
	}
	if r.MaxDuration != 0 {
		if err := CheckDuration(r.MaxDuration); err != nil {
			return err
		}
	}
	if len(r.Approvals) > maxNeeds {
		return Invalid("rule %s names more than %d sets of approvers", r.ID, maxNeeds)
	}
	for i := range r.Approvals {
		if err := r.Approvals[i].validate(r.ID); err != nil {
			return err
		}
	}
	if r.DenyThreshold < 0 || r.DenyThreshold > maxCount {
		return Invalid("rule %s: a request is ended by the no of 1 to %d people", r.ID, maxCount)
	}
	for _, s := range r.Sources {
		if _, err := netip.ParsePrefix(s); err != nil {
			return Invalid("rule %s: %s is not a network", r.ID, strconv.QuoteToASCII(clip(s)))
		}
	}
	if r.MFAWithin < 0 || r.MFAWithin > 24*time.Hour {
		return Invalid("rule %s: the age of the second factor must be within 24h", r.ID)
	}
	if err := r.Session.validate(); err != nil {
		return fmt.Errorf("rule %s: %w", r.ID, err)
	}
	return nil
}
