package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// A Lease is the secret of an account in the hands of a person, now or before.
type Lease struct {
	ID         string     `json:"id"`
	Request    string     `json:"request"`
	User       string     `json:"user"`
	Target     string     `json:"target"`
	Account    string     `json:"account"`
	Credential string     `json:"credential"` // what was shown: password or key
	Managed    bool       `json:"managed"`    // the server changes it when the lease is over
	Reason     string     `json:"reason"`
	At         time.Time  `json:"at"`
	Until      time.Time  `json:"until"`  // the end of the grant
	Active     bool       `json:"active"` // nobody else uses the account
	EndedAt    *time.Time `json:"ended_at,omitempty"`
	EndReason  string     `json:"end_reason,omitempty"` // checked-in, expired, released, revoked or locked
	EndedBy    string     `json:"ended_by,omitempty"`
	Known      bool       `json:"known"` // the account has no other secret since
}

// A Checkout is what is shown once.
type Checkout struct {
	Lease  Lease  `json:"lease"`
	Secret string `json:"secret"`
}

// CheckoutInput says why a secret is to be seen; "": for the reason of the request.
type CheckoutInput struct {
	Reason string `json:"reason,omitempty"`
}

// Checkout shows the secret of the account that a grant of the caller is for, and
// lends it to them alone. It is shown once: whoever loses the answer checks it in and
// out again.
func (c *Client) Checkout(ctx context.Context, id string, in CheckoutInput) (Checkout, error) {
	return call[Checkout](ctx, c, http.MethodPost, requestPath(id, "checkout"), nil, in)
}

// Checkin ends the lease under a grant, which goes on.
func (c *Client) Checkin(ctx context.Context, id string, in CheckoutInput) (Lease, error) {
	return call[Lease](ctx, c, http.MethodPost, requestPath(id, "checkin"), nil, in)
}

// LeaseFilter picks leases; the zero value picks all that the caller may know of.
type LeaseFilter struct {
	Active       bool
	Target, User string
	Limit        int    // 0: the server's default
	Before       string // id; older ones only
}

// Leases lists who has which secrets, and had, the newest first.
func (c *Client) Leases(ctx context.Context, f LeaseFilter) (List[Lease], error) {
	q := url.Values{}
	setTrue(q, "active", f.Active)
	set(q, "target", f.Target)
	set(q, "user", f.User)
	setInt(q, "limit", int64(f.Limit))
	set(q, "before", f.Before)
	return call[List[Lease]](ctx, c, http.MethodGet, "/v1/checkouts", q, nil)
}
