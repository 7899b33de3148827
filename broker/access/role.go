package access

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// A Role says what its members may do. Rules of inherited roles count too.
type Role struct {
	Name     string
	Inherits []string
	Groups   []string // whose members have the role
	Users    []string // ids of people who have it
	// Attributes give it to whoever has all of them, each with one of the values.
	Attributes map[string][]string
	// Excludes are roles that nobody has besides this one: who would have both, in
	// whichever way, has neither.
	Excludes []string
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
	Weekdays           []string // "Monday", ...: the day on which the hours begin
	Hours              []string // "08:00-18:00"
	TimeZone           string   // of Weekdays and Hours: "Europe/Berlin"; "": UTC
	Sources            []string // networks: ranges (CIDR), or names of a Network
	RequireTicket      bool
	RequireValidTicket bool                // the ticket system says that it is open, theirs, and about the target
	RequireWindow      bool                // a maintenance window
	DuringFreeze       bool                // it holds also during a freeze
	RequireSameTier    bool                // the user's attribute tier is the target's label tier
	RequireFacts       map[string][]string // what must be known of the target, with one of the values
	FactsWithin        time.Duration       // how old that may be; given with RequireFacts
	SeparateDuties     bool                // who approves under a ticket does not ask under it, and the other way round
	Limits             Limits
}

// Limits bound the sessions that are open when one more begins. 0 is no limit.
type Limits struct {
	PerPerson int  // of the person, wherever
	PerTarget int  // on the target, whoever's
	Exclusive bool // nobody else is in the account
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
	if len(r.Inherits) > MaxItems || len(r.Excludes) > MaxItems || len(r.Groups) > MaxItems || len(r.Users) > 10*MaxItems || len(r.Rules) > MaxItems {
		return Invalid("role %s is too large: at most %d rules, groups and inherited roles", r.Name, MaxItems)
	}
	for _, name := range slices.Concat(r.Inherits, r.Excludes) {
		if err := CheckRoleName(name); err != nil {
			return err
		}
	}
	if err := checkValues("role "+r.Name+": attributes", r.Attributes); err != nil {
		return err
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
	if slices.Contains(r.Actions, "checkout") && r.Session.Checkout == "" {
		return Invalid("rule %s lists checkout, but its session does not say of which accounts: checkout: %s, or %s", r.ID, CheckoutManaged, CheckoutAny)
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
		if networkName.MatchString(s) {
			continue // that there is one is for the policy to say, as for roles
		}
		if _, err := netip.ParsePrefix(s); err != nil {
			return Invalid("rule %s: %s is not a network, nor the name of one", r.ID, strconv.QuoteToASCII(clip(s)))
		}
	}
	if err := checkValues("rule "+r.ID+": facts", r.RequireFacts); err != nil {
		return err
	}
	if r.FactsWithin != 0 {
		if err := CheckDuration(r.FactsWithin); err != nil {
			return err
		}
	}
	if l := r.Limits; l.PerPerson < 0 || l.PerTarget < 0 || l.PerPerson > 10_000 || l.PerTarget > 10_000 {
		return Invalid("rule %s: the limits of sessions are 1 to 10000", r.ID)
	}
	if r.MFAWithin < 0 || r.MFAWithin > 24*time.Hour {
		return Invalid("rule %s: the age of the second factor must be within 24h", r.ID)
	}
	if err := r.Session.validate(); err != nil {
		return fmt.Errorf("rule %s: %w", r.ID, err)
	}
	return nil
}

// checkValues checks names, each with the values of which one is wanted.
func checkValues(what string, m map[string][]string) error {
	if len(m) > maxWanted {
		return Invalid("%s: at most %d may be wanted", what, maxWanted)
	}
	for name, values := range m {
		if err := CheckGroupName(name); err != nil {
			return err
		}
		if len(values) == 0 || len(values) > MaxItems {
			return Invalid("%s: %s needs 1 to %d values", what, name, MaxItems)
		}
		for _, v := range values {
			if v == "" {
				return Invalid("%s: a value of %s is empty", what, name)
			}
			if err := CheckText(what, v, MaxLabel); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxWanted bounds the attributes of a role and the facts of a rule.
const maxWanted = 32
