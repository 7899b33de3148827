package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// An Input is everything a decision may depend on, besides the roles. Its JSON
// form is a public contract: bundles are written against it, so fields are only
// ever added, and every field is always present (a nil list is [], a nil map {}).
type Input struct {
	Action      Action      `json:"action"`
	User        User        `json:"user"`
	Target      Target      `json:"target"`
	Account     string      `json:"account"`
	Environment Environment `json:"environment"`
	Request     Request     `json:"request"`
}

// A User is the person (or bot) who acts.
type User struct {
	ID     string   `json:"id"` // of the person, the same for every account and channel they have
	Name   string   `json:"name"`
	Groups []string `json:"groups"` // as they are now
	Bot    bool     `json:"bot"`
	Locked bool     `json:"locked"`
	// MFAAgeSeconds is how long ago the second factor was proved; nil: never.
	MFAAgeSeconds *int64            `json:"mfa_age_seconds"`
	Attributes    map[string]string `json:"attributes"`
	// StandsFor are the groups of people who have handed their votes to the user;
	// they count for votes and for nothing else.
	StandsFor []string `json:"stands_for"`
}

// A Target is the machine that the action is about; zero when it is about none.
type Target struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Labels are the administrators' words: environment, tier ("0", "1", "2"),
	// criticality, owner and whatever else selectors use.
	Labels       map[string]string `json:"labels"`
	Applications []string          `json:"applications"`
	Locked       bool              `json:"locked"`
}

// An Environment is the moment and the way of asking; see [EnvironmentAt].
type Environment struct {
	Time string `json:"time"` // RFC 3339, UTC
	// Weekday ("monday"), Hour and Minute are in the time zone in which the
	// administrators mean working hours.
	Weekday           string `json:"weekday"`
	Hour              int    `json:"hour"`
	Minute            int    `json:"minute"`
	Source            string `json:"source"` // IP address of the user, "" when there is none
	MaintenanceWindow bool   `json:"maintenance_window"`
	Ticket            string `json:"ticket"` // of the request; "" when none was given
}

// EnvironmentAt fills the time fields: Time in UTC, the others in t's location.
func EnvironmentAt(t time.Time) Environment {
	return Environment{
		Time:    t.UTC().Format(time.RFC3339),
		Weekday: strings.ToLower(t.Weekday().String()),
		Hour:    t.Hour(),
		Minute:  t.Minute(),
	}
}

// A Request is the access request that the action is about; zero when it is
// about none. For ActionRequest it is the request that is being made.
type Request struct {
	ID        string `json:"id"`
	Requester string `json:"requester"` // User.ID; of sessions and keys, the owner's
	Owner     string `json:"owner"`     // User.ID of the person whose bot asks, or ""
	// Role and Rule are Decision.Role and Decision.Rule of the decision that let
	// the request in. When a request is being made, Role may name the role the
	// user wants to use ("" leaves the choice to the policy), and Rule is "".
	Role   string `json:"role"`
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
	// DurationSeconds is how long the grant lasts, all of it: for ActionExtend
	// it counts from the start of the grant, not from now.
	DurationSeconds int64      `json:"duration_seconds"`
	BreakGlass      bool       `json:"break_glass"`
	CreatedAt       string     `json:"created_at"` // RFC 3339, UTC
	Approvals       []Approval `json:"approvals"`
	State           string     `json:"state"`
}

// An Approval is one vote for the request.
type Approval struct {
	UserID string `json:"user_id"`
	// Groups of the approver: as they are now, so that the vote of somebody who
	// has left the group does not count any more.
	Groups []string `json:"groups"`
	// Step is the step of the needs for which the vote was given, and WaitedSeconds
	// how long these had been asked then.
	Step          int   `json:"step"`
	WaitedSeconds int64 `json:"waited_seconds"`
}

// MarshalJSON writes every field, nil lists as [] and nil maps as {}.
func (in Input) MarshalJSON() ([]byte, error) {
	in = in.filled()
	return in.appendJSON(nil), nil
}

// filled returns in without nil lists and maps. What in points to is not changed.
func (in Input) filled() Input {
	in.User.Groups, in.User.StandsFor = list(in.User.Groups), list(in.User.StandsFor)
	in.Target.Applications = list(in.Target.Applications)
	if in.User.Attributes == nil {
		in.User.Attributes = map[string]string{}
	}
	if in.Target.Labels == nil {
		in.Target.Labels = map[string]string{}
	}
	votes := in.Request.Approvals
	in.Request.Approvals = make([]Approval, len(votes))
	for i, v := range votes {
		v.Groups = list(v.Groups)
		in.Request.Approvals[i] = v
	}
	return in
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// Limits of an Input. They are far above what is sensible and only keep a
// hostile directory or client from buying evaluation time.
const (
	maxString = 8 << 10
	maxList   = 4096 // groups, approvals, labels, attributes, applications
)

// check refuses what no honest caller sends.
func (in *Input) check() error {
	for _, s := range []struct{ name, value string }{
		{"user.id", in.User.ID}, {"user.name", in.User.Name},
		{"target.id", in.Target.ID}, {"target.name", in.Target.Name}, {"account", in.Account},
		{"environment.time", in.Environment.Time}, {"environment.weekday", in.Environment.Weekday},
		{"environment.source", in.Environment.Source}, {"environment.ticket", in.Environment.Ticket},
		{"request.id", in.Request.ID}, {"request.requester", in.Request.Requester}, {"request.owner", in.Request.Owner}, {"request.role", in.Request.Role},
		{"request.rule", in.Request.Rule}, {"request.reason", in.Request.Reason},
		{"request.created_at", in.Request.CreatedAt}, {"request.state", in.Request.State},
	} {
		if err := checkString(s.name, s.value); err != nil {
			return err
		}
	}
	if in.User.ID == "" {
		return fmt.Errorf("user.id is empty")
	}
	if a := in.User.MFAAgeSeconds; a != nil && *a < 0 {
		return fmt.Errorf("user.mfa_age_seconds is negative")
	}
	if in.Request.DurationSeconds < 0 {
		return fmt.Errorf("request.duration_seconds is negative")
	}
	if e := in.Environment; e.Hour < 0 || e.Hour > 23 || e.Minute < 0 || e.Minute > 59 {
		return fmt.Errorf("environment: %d:%d is no time of day", e.Hour, e.Minute)
	}
	if e := in.Environment; e.Source != "" {
		if _, err := netip.ParseAddr(e.Source); err != nil {
			return fmt.Errorf("environment.source is not an IP address")
		}
	}
	if err := checkList("user.groups", in.User.Groups); err != nil {
		return err
	}
	if err := checkList("user.stands_for", in.User.StandsFor); err != nil {
		return err
	}
	if err := checkList("target.applications", in.Target.Applications); err != nil {
		return err
	}
	if err := checkMap("user.attributes", in.User.Attributes); err != nil {
		return err
	}
	if err := checkMap("target.labels", in.Target.Labels); err != nil {
		return err
	}
	if n := len(in.Request.Approvals); n > maxList {
		return fmt.Errorf("request.approvals has %d entries, at most %d are taken", n, maxList)
	}
	for _, v := range in.Request.Approvals {
		if err := checkString("request.approvals.user_id", v.UserID); err != nil {
			return err
		}
		if err := checkList("request.approvals.groups", v.Groups); err != nil {
			return err
		}
		if v.Step < 0 || v.WaitedSeconds < 0 {
			return fmt.Errorf("request.approvals has a vote before it was asked for")
		}
	}
	return nil
}

func checkString(name, s string) error {
	if len(s) > maxString {
		return fmt.Errorf("%s is %d bytes long, at most %d are taken", name, len(s), maxString)
	}
	// encoding/json would replace invalid bytes, and two different inputs would
	// have the same hash.
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8", name)
	}
	return nil
}

func checkList(name string, l []string) error {
	if len(l) > maxList {
		return fmt.Errorf("%s has %d entries, at most %d are taken", name, len(l), maxList)
	}
	for _, s := range l {
		if err := checkString(name, s); err != nil {
			return err
		}
	}
	return nil
}

func checkMap(name string, m map[string]string) error {
	if len(m) > maxList {
		return fmt.Errorf("%s has %d entries, at most %d are taken", name, len(m), maxList)
	}
	for k, v := range m {
		if err := checkString(name, k); err != nil {
			return err
		}
		if err := checkString(name+"."+k, v); err != nil {
			return err
		}
	}
	return nil
}
