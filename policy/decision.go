package policy

import (
	"encoding/json"
	"slices"
	"time"
)

// A Decision is the policy's answer. The zero Decision refuses.
type Decision struct {
	Allow bool
	// Role carries the permission, and Rule is the id of its rule. Save both in
	// the request: later decisions about it ask the same rule again.
	Role, Rule string
	// Approvals are all needed. A person counts once in all of them together,
	// and the requester never.
	Approvals []Need
	// DenyThreshold is how many people's no ends the request; 0: one.
	DenyThreshold int
	MaxDuration   time.Duration // the longest grant; 0 when the action gives none
	Rules         SessionRules  // what a session under this decision may do
	MFAWithin     time.Duration // how fresh the second factor must be; 0: none needed
	BreakGlass    bool          // nobody approved this: tell everybody
	// Reasons has at least one entry; the first one decided.
	Reasons []Reason

	ID           string // unguessable, names this decision in the audit log
	InputHash    string // hex SHA-256 of the Input's JSON
	PolicyDigest string // hex, see Engine.Digest
	DataDigest   string // hex SHA-256 of the Data's JSON: which roles were asked
}

// A Need is Count distinct persons out of any of Groups.
type Need struct {
	Count  int      `json:"count"`
	Groups []string `json:"groups"`
	// Step puts needs into an order: those of a step count when all needs of the
	// steps before are met.
	Step int `json:"step,omitempty"`
	// EscalateTo are groups whose members may meet the need as well once it has been
	// asked for so long.
	EscalateSeconds int64    `json:"escalate_after_seconds,omitempty"`
	EscalateTo      []string `json:"escalate_to,omitempty"`
	// When says for which requests it is needed; nil: for all. A Decision has only
	// the needs that apply, without it.
	When *Occasion `json:"when,omitempty"`
}

// An Occasion picks requests. What it does not say does not limit.
type Occasion struct {
	LongerSeconds int64               `json:"longer_than_seconds,omitempty"` // those that ask for more time
	Labels        map[string][]string `json:"labels,omitempty"`              // those on targets with each label, at one of its values
}

// Recording modes. Every session is recorded; strict waits until what was typed
// is safely written before it is sent on.
const (
	RecordingStandard = "standard"
	RecordingStrict   = "strict"
)

// Of which accounts the password may be seen.
const (
	CheckoutManaged = "managed"
	CheckoutAny     = "any"
)

// SessionRules say what may be done inside a session.
type SessionRules struct {
	Recording string   `json:"recording"` // RecordingStrict when any matching rule says so
	Shell     bool     `json:"shell"`
	Exec      bool     `json:"exec"`
	Agent     bool     `json:"agent"` // the user's key agent
	X11       bool     `json:"x11"`
	Commands  []string `json:"commands"` // the only ones that exec allows; empty: any
	Files     []string `json:"files"`    // "download /var/log/* max 100MiB", ...
	Forwards  []string `json:"forwards"` // "local db.internal:5432", ...
	Detect    []string `json:"detect"`   // "warn shutdown", ...: looked for in what is typed into terminals

	SilentWatch bool `json:"silent_watch"` // the user is not told when somebody watches
	FourEyes    bool `json:"four_eyes"`    // nothing is done while nobody else watches

	// Checkout: of which accounts the password may be seen: "" none, "managed" those
	// whose password is changed afterwards, "any".
	Checkout string `json:"checkout,omitempty"`
}

// A Reason is one sentence for a person, and the id of the policy rule that
// says it, for example "request.role".
type Reason struct {
	Rule string `json:"rule"`
	Text string `json:"text"`
}

// clone returns a copy that shares nothing which its owner might change.
func (d Decision) clone() Decision {
	d.Approvals = slices.Clone(d.Approvals)
	for i := range d.Approvals {
		d.Approvals[i].Groups = slices.Clone(d.Approvals[i].Groups)
		d.Approvals[i].EscalateTo = slices.Clone(d.Approvals[i].EscalateTo)
	}
	d.Reasons = slices.Clone(d.Reasons)
	for _, list := range []*[]string{&d.Rules.Commands, &d.Rules.Files, &d.Rules.Forwards, &d.Rules.Detect} {
		*list = slices.Clone(*list)
	}
	return d
}

// Reason returns the text of the reason that decided.
func (d Decision) Reason() string {
	if len(d.Reasons) == 0 {
		return "the policy gave no reason"
	}
	return d.Reasons[0].Text
}

// wireDecision is how a Decision is kept.
type wireDecision struct {
	ID           string       `json:"id"`
	Allow        bool         `json:"allow"`
	Role         string       `json:"role"`
	Rule         string       `json:"rule"`
	Approvals    []Need       `json:"approvals"`
	Deny         int          `json:"deny_threshold,omitempty"`
	MaxSeconds   int64        `json:"max_seconds"`
	Session      SessionRules `json:"session"`
	MFASeconds   int64        `json:"mfa_seconds"`
	BreakGlass   bool         `json:"break_glass"`
	Reasons      []Reason     `json:"reasons"`
	InputHash    string       `json:"input_hash"`
	PolicyDigest string       `json:"policy_digest"`
	DataDigest   string       `json:"data_digest"`
}

// UnmarshalJSON reads what MarshalJSON writes.
func (d *Decision) UnmarshalJSON(b []byte) error {
	var w wireDecision
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*d = Decision{
		Allow: w.Allow, Role: w.Role, Rule: w.Rule, Approvals: w.Approvals, DenyThreshold: w.Deny, MaxDuration: time.Duration(w.MaxSeconds) * time.Second,
		Rules: w.Session, MFAWithin: time.Duration(w.MFASeconds) * time.Second, BreakGlass: w.BreakGlass, Reasons: w.Reasons,
		ID: w.ID, InputHash: w.InputHash, PolicyDigest: w.PolicyDigest, DataDigest: w.DataDigest,
	}
	return nil
}

// MarshalJSON writes the form that is kept in audit events: every field,
// durations in whole seconds.
func (d Decision) MarshalJSON() ([]byte, error) {
	approvals := make([]Need, len(d.Approvals))
	for i, n := range d.Approvals {
		n.Groups = list(n.Groups)
		approvals[i] = n
	}
	rules := d.Rules
	rules.Commands, rules.Files, rules.Forwards, rules.Detect = list(rules.Commands), list(rules.Files), list(rules.Forwards), list(rules.Detect)
	reasons := d.Reasons
	if reasons == nil {
		reasons = []Reason{}
	}
	return json.Marshal(wireDecision{
		d.ID, d.Allow, d.Role, d.Rule, approvals, d.DenyThreshold, int64(d.MaxDuration / time.Second), rules,
		int64(d.MFAWithin / time.Second), d.BreakGlass, reasons, d.InputHash, d.PolicyDigest, d.DataDigest,
	})
}
