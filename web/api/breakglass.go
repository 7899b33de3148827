package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// BreakGlassLogin is a login by sealed codes, all of which are typed together.
type BreakGlassLogin struct {
	Codes  []string `json:"codes" maxItems:"16"`
	Reason string   `json:"reason"` // stands in the audit log
}

// LoginBreakGlass exchanges sealed codes for a short login of the emergency user.
// It needs no token, and does not set c.Token. No code of the set opens anything
// after that.
func (c *Client) LoginBreakGlass(ctx context.Context, in BreakGlassLogin) (Login, error) {
	return call[Login](ctx, c, http.MethodPost, "/v1/login/breakglass", nil, in)
}

// The findings of a review of break-glass.
const (
	Justified    = "justified"
	NotJustified = "not_justified"
)

// A BreakGlass is access that somebody took without approval, and its review.
type BreakGlass struct {
	Request        Request    `json:"request"`
	OpenedAt       time.Time  `json:"opened_at"`
	AcknowledgedBy string     `json:"acknowledged_by,omitempty"` // name of the first who is on it
	AcknowledgedAt *time.Time `json:"acknowledged_at,omitempty"`
	MayAcknowledge bool       `json:"may_acknowledge"`     // nobody is on it, and the caller may be
	ClosedAt       *time.Time `json:"closed_at,omitempty"` // absent: the review is open
	ClosedBy       string     `json:"closed_by,omitempty"` // name
	Finding        string     `json:"finding,omitempty"`
	Text           string     `json:"text,omitempty"`
	Sessions       []Session  `json:"sessions,omitempty"` // only of one case
	MayReview      bool       `json:"may_review"`         // the caller may close it now
}

// BreakGlassFilter picks cases, newest first.
type BreakGlassFilter struct {
	Open   bool
	Limit  int
	Before string // List.Next
}

// BreakGlasses lists access that was taken without approval.
func (c *Client) BreakGlasses(ctx context.Context, f BreakGlassFilter) (List[BreakGlass], error) {
	q := url.Values{}
	setTrue(q, "open", f.Open)
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	set(q, "before", f.Before)
	return call[List[BreakGlass]](ctx, c, http.MethodGet, "/v1/breakglass", q, nil)
}

// FindBreakGlass returns one case, by the id of its request.
func (c *Client) FindBreakGlass(ctx context.Context, id string) (BreakGlass, error) {
	return call[BreakGlass](ctx, c, http.MethodGet, path("breakglass", id, ""), nil, nil)
}

// GlassReviewInput is what somebody found of a case.
type GlassReviewInput struct {
	Finding string `json:"finding"`
	Text    string `json:"text"`
}

// ReviewBreakGlass closes the review of a case.
func (c *Client) ReviewBreakGlass(ctx context.Context, id string, in GlassReviewInput) (BreakGlass, error) {
	return call[BreakGlass](ctx, c, http.MethodPost, path("breakglass", id, "review"), nil, in)
}
