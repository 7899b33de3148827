package api

import (
	"context"
	"net/http"
	"time"
)

// A Deletion is how the recording of a session was deleted. The session's Sealed
// and the audit log keep what proves it.
type Deletion struct {
	At     time.Time `json:"at"`
	Rule   string    `json:"rule,omitempty"`   // of retention
	Reason string    `json:"reason,omitempty"` // of people
	By     []string  `json:"by,omitempty"`     // who asked for it, and who agreed
	Event  *int64    `json:"event,omitempty"`  // number of the event; only of one session
}

// A Hold keeps the recordings of sessions from being deleted.
type Hold struct {
	ID       string    `json:"id"`
	Reason   string    `json:"reason"`
	By       string    `json:"by"`
	PlacedAt time.Time `json:"placed_at"`
	Sessions []string  `json:"sessions,omitempty"` // ids; absent where it is told of one session
}

// HoldInput names sessions by their ids, or all that the rest picks now.
type HoldInput struct {
	Sessions []string   `json:"sessions,omitempty" maxItems:"500"`
	User     string     `json:"user,omitempty" maxLength:"64"`
	Target   string     `json:"target,omitempty" maxLength:"64"`
	Since    *time.Time `json:"since,omitempty"` // of the opening
	Until    *time.Time `json:"until,omitempty"`
	Reason   string     `json:"reason"`
}

// An Agreement is what takes two people: it is done when a second one has said the
// same.
type Agreement struct {
	Done    bool       `json:"done"`
	First   string     `json:"first"` // who said it first
	FirstAt time.Time  `json:"first_at"`
	Until   *time.Time `json:"until,omitempty"` // when it lapses without a second one
}

// A Retention says how long recordings are kept: the first rule that selects a
// session counts, and what none selects is kept for good.
type Retention struct {
	Rules   []RetentionRule `json:"rules"`
	Version int64           `json:"version"`
}

// A RetentionRule keeps recordings for some days after the session's end. Empty
// selectors select all.
type RetentionRule struct {
	ID       string   `json:"id"`
	Targets  Selector `json:"targets"`
	Accounts []string `json:"accounts,omitempty"` // names, or "*"
	KeepDays int      `json:"keep_days"`          // 0: only as long as every recording is kept
}

// A RetentionAnswer is what became of a change of the rules.
type RetentionAnswer struct {
	Retention
	Agreement Agreement `json:"agreement"`
}

// HoldRecordings puts sessions under a new hold.
func (c *Client) HoldRecordings(ctx context.Context, in HoldInput) (Hold, error) {
	return call[Hold](ctx, c, http.MethodPost, "/v1/holds", nil, in)
}

// Holds lists the holds, the newest first.
func (c *Client) Holds(ctx context.Context) (List[Hold], error) {
	return call[List[Hold]](ctx, c, http.MethodGet, "/v1/holds", nil, nil)
}

// LiftHold lifts a hold, or asks for it as the first of two.
func (c *Client) LiftHold(ctx context.Context, id, reason string) (Agreement, error) {
	return call[Agreement](ctx, c, http.MethodPost, path("holds", id, "lift"), nil, Reason{reason})
}

// DeleteRecording deletes the recording of a session, or asks for it as the first
// of two.
func (c *Client) DeleteRecording(ctx context.Context, id, reason string) (Agreement, error) {
	return call[Agreement](ctx, c, http.MethodPost, path("sessions", id, "delete-recording"), nil, Reason{reason})
}

// Retention returns the rules of how long recordings are kept.
func (c *Client) Retention(ctx context.Context) (Retention, error) {
	return call[Retention](ctx, c, http.MethodGet, "/v1/retention", nil, nil)
}

// SetRetention puts these rules in the place of those of the same version, or asks
// for it as the first of two.
func (c *Client) SetRetention(ctx context.Context, r Retention) (RetentionAnswer, error) {
	return call[RetentionAnswer](ctx, c, http.MethodPut, "/v1/retention", nil, r)
}
