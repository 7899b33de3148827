package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// A Delegation says who votes in whose place, and when.
type Delegation struct {
	User     string    `json:"user"`
	Delegate string    `json:"delegate"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	Reason   string    `json:"reason,omitempty"`
}

// DelegationInput hands votes over.
type DelegationInput struct {
	Delegate string     `json:"delegate"`
	From     *time.Time `json:"from,omitempty"` // nil: now
	Until    time.Time  `json:"until"`          // at most 30 days later
	Reason   string     `json:"reason,omitempty"`
}

// Delegations lists those of and to the caller, or those of all.
func (c *Client) Delegations(ctx context.Context, all bool) (List[Delegation], error) {
	q := url.Values{}
	setTrue(q, "all", all)
	return call[List[Delegation]](ctx, c, http.MethodGet, "/v1/delegations", q, nil)
}

// Delegate hands the votes of a user over. Everybody may do so for themselves.
func (c *Client) Delegate(ctx context.Context, user string, in DelegationInput) (Delegation, error) {
	return call[Delegation](ctx, c, http.MethodPut, path("users", user, "delegation"), nil, in)
}

// EndDelegation takes the votes of a user back.
func (c *Client) EndDelegation(ctx context.Context, user string) error {
	return c.do(ctx, http.MethodDelete, path("users", user, "delegation"), nil, nil, nil)
}
