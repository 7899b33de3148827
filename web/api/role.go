package api

import (
	"context"
	"net/http"
	"strings"
)

// A Role says what its members may do.
type Role struct {
	Name     string   `json:"name"`
	Inherits []string `json:"inherits,omitempty"`
	Groups   []string `json:"groups,omitempty"` // whose members have the role
	Users    []string `json:"users,omitempty"`  // ids of people who have it
	// Attributes give it to whoever has all of them, each with one of the values.
	Attributes map[string][]string `json:"attributes,omitempty"`
	Excludes   []string            `json:"excludes,omitempty"` // roles that nobody has besides this one
	Rules      []Rule              `json:"rules,omitempty"`
	Version    int64               `json:"version,omitempty"` // of the role that is changed; 0: a new one
}

// A Rule allows some actions on some targets and accounts, under conditions.
type Rule struct {
	ID                 string         `json:"id"`
	Actions            []string       `json:"actions"`
	Targets            Selector       `json:"targets"`
	Accounts           []string       `json:"accounts,omitempty"` // names, or "*"
	MaxDurationSeconds int64          `json:"max_duration_seconds,omitempty"`
	Approvals          []ApproverNeed `json:"approvals,omitempty"`
	DenyThreshold      int            `json:"deny_threshold,omitempty"` // how many no end a request; 0: one
	MFAWithinSeconds   int64          `json:"mfa_within_seconds,omitempty"`
	Session            SessionRules   `json:"session"`

	Weekdays                 []string `json:"weekdays,omitempty"`
	Hours                    string   `json:"hours,omitempty"`     // "08:00-18:00"
	TimeZone                 string   `json:"time_zone,omitempty"` // of hours and weekdays: "Europe/Berlin"; "": UTC
	Sources                  []string `json:"sources,omitempty"`   // networks: ranges (CIDR), or names
	RequireTicket            bool     `json:"require_ticket,omitempty"`
	RequireValidTicket       bool     `json:"require_valid_ticket,omitempty"` // the ticket system says that it holds
	RequireMaintenanceWindow bool     `json:"require_maintenance_window,omitempty"`
	DuringFreeze             bool     `json:"during_freeze,omitempty"`     // it holds also during a freeze
	RequireSameTier          bool     `json:"require_same_tier,omitempty"` // the user's attribute tier is the target's label tier
	// RequireFacts must be known of the target, each with one of the values, and not
	// be older than FactsWithinSeconds.
	RequireFacts       map[string][]string `json:"require_facts,omitempty"`
	FactsWithinSeconds int64               `json:"facts_within_seconds,omitempty"`
	SeparateDuties     bool                `json:"separate_duties,omitempty"` // who approves under a ticket does not ask under it
	Limits             *Limits             `json:"limits,omitempty"`
}

// Limits bound the sessions that are open when one more begins. 0 is no limit.
type Limits struct {
	PerPerson int  `json:"per_person,omitempty"`
	PerTarget int  `json:"per_target,omitempty"`
	Exclusive bool `json:"exclusive,omitempty"` // nobody else is in the account
}

// A Selector picks targets. Empty selects all.
type Selector struct {
	Names  []string            `json:"names,omitempty"` // exact, or a prefix and *
	Labels map[string][]string `json:"labels,omitempty"`
}

// An ApproverNeed is Count distinct people out of Groups.
type ApproverNeed struct {
	Count  int      `json:"count"`
	Groups []string `json:"groups"`
	Step   int      `json:"step,omitempty"` // asked when those of the steps before are met
	// EscalateTo may meet it as well once it has been asked for so long.
	EscalateAfterSeconds int64     `json:"escalate_after_seconds,omitempty"`
	EscalateTo           []string  `json:"escalate_to,omitempty"`
	When                 *Occasion `json:"when,omitempty"` // nil: always
}

// An Occasion picks requests. What it does not say does not limit.
type Occasion struct {
	LongerThanSeconds int64               `json:"longer_than_seconds,omitempty"`
	Labels            map[string][]string `json:"labels,omitempty"` // of the target: label -> one of these values
}

// SessionRules say what a session may do.
type SessionRules struct {
	Recording string   `json:"recording,omitempty"`
	Shell     bool     `json:"shell,omitempty"`
	Exec      bool     `json:"exec,omitempty"`
	Agent     bool     `json:"agent,omitempty"` // the user's key agent
	X11       bool     `json:"x11,omitempty"`
	Commands  []string `json:"commands,omitempty"` // the only ones that exec allows; empty: any
	Files     []string `json:"files,omitempty"`    // "download /var/log/* max 100MiB", ...
	Forwards  []string `json:"forwards,omitempty"` // "local db.internal:5432", ...
	Detect    []string `json:"detect,omitempty"`   // "warn shutdown", ...: looked for in what is typed into terminals

	SilentWatch bool `json:"silent_watch,omitempty"` // the user is not told when somebody watches
	FourEyes    bool `json:"four_eyes,omitempty"`    // nothing is done while nobody else watches

	Checkout string `json:"checkout,omitempty"` // whose password may be seen: "managed" accounts', "any"
}

// Text says in words what a session under a request may do.
func (r SessionRules) Text() string {
	var may, watched []string
	for _, x := range []struct {
		is   bool
		what string
	}{{r.Shell, "shell"}, {r.Exec && len(r.Commands) == 0, "any command"}, {r.Exec && len(r.Commands) > 0, "commands: " + strings.Join(r.Commands, ", ")}, {r.Agent, "key agent"}, {r.X11, "display"},
		{r.Checkout == "managed", "see the password, which is changed afterwards"}, {r.Checkout == "any", "see the password, also where nobody changes it afterwards"},
		{len(r.Files) > 0, "files: " + strings.Join(r.Files, ", ")}, {len(r.Forwards) > 0, "tunnels: " + strings.Join(r.Forwards, ", ")}} {
		if x.is {
			may = append(may, x.what)
		}
	}
	if len(may) == 0 {
		may = []string{"nothing"}
	}
	if r.FourEyes {
		watched = append(watched, "only while somebody else watches (four eyes)")
	}
	if r.SilentWatch {
		watched = append(watched, "watched without a word to the user (silent watch)")
	}
	if len(r.Detect) > 0 {
		watched = append(watched, "looked for: "+strings.Join(r.Detect, ", "))
	}
	return strings.Join(append([]string{strings.Join(may, ", ")}, watched...), "; ")
}

// Roles lists roles.
func (c *Client) Roles(ctx context.Context) (List[Role], error) {
	return call[List[Role]](ctx, c, http.MethodGet, "/v1/roles", nil, nil)
}

// FindRole returns one role.
func (c *Client) FindRole(ctx context.Context, name string) (Role, error) {
	return call[Role](ctx, c, http.MethodGet, path("roles", name, ""), nil, nil)
}

// SetRole makes or changes the role r.Name.
func (c *Client) SetRole(ctx context.Context, r Role) (Role, error) {
	return call[Role](ctx, c, http.MethodPut, path("roles", r.Name, ""), nil, r)
}

// RemoveRole removes a role.
func (c *Client) RemoveRole(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, path("roles", name, ""), nil, nil, nil)
}
