package api

import (
	"context"
	"net/http"
	"time"
)

// An Alarm is what a rule of a session found in it, the first time. They are
// numbered from 1, in the order of Session.Alarms.
type Alarm struct {
	Rule           string     `json:"rule"`
	Level          string     `json:"level"` // alert or end
	At             time.Time  `json:"at"`
	AcknowledgedBy string     `json:"acknowledged_by,omitempty"` // name of the first who is on it
	AcknowledgedAt *time.Time `json:"acknowledged_at,omitempty"`
	ExpectedBy     string     `json:"expected_by,omitempty"` // name of who said that it was
	ExpectedAt     *time.Time `json:"expected_at,omitempty"`
	ExpectedReason string     `json:"expected_reason,omitempty"`
}

// AcknowledgeBreakGlass says that the caller looks after a case of break-glass.
func (c *Client) AcknowledgeBreakGlass(ctx context.Context, id string) (BreakGlass, error) {
	return call[BreakGlass](ctx, c, http.MethodPost, path("breakglass", id, "acknowledge"), nil, Empty{})
}

// AlarmInput names an alarm of a session.
type AlarmInput struct {
	Alarm int `json:"alarm,omitempty"` // 0: all that nobody looks after
}

// AcknowledgeAlarm says that the caller looks after an alarm of a session.
func (c *Client) AcknowledgeAlarm(ctx context.Context, id string, in AlarmInput) (Session, error) {
	return call[Session](ctx, c, http.MethodPost, path("sessions", id, "acknowledge"), nil, in)
}

// ExpectedInput says why an alarm was to be expected.
type ExpectedInput struct {
	Alarm  int    `json:"alarm,omitempty"` // 0: the only one
	Reason string `json:"reason"`
}

// Expected says that an alarm of a session was expected.
func (c *Client) Expected(ctx context.Context, id string, in ExpectedInput) (Session, error) {
	return call[Session](ctx, c, http.MethodPost, path("sessions", id, "expected"), nil, in)
}
