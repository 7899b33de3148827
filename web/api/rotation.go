package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Managed says how the password of an account is changed by drawbolt, or its key.
type Managed struct {
	EverySeconds int64 `json:"every_seconds,omitempty"` // how old it becomes; 0: any age
	AfterUse     bool  `json:"after_use,omitempty"`     // after each session, too
	// Length, Classes and Never are what passwords are like: how long, at least one
	// character of each class, and none of these.
	Length  int      `json:"length,omitempty"`
	Classes []string `json:"classes,omitempty"`
	Never   string   `json:"never,omitempty"`
	Reset   string   `json:"reset,omitempty"` // the account of the same target that sets it
	// Failures of logins within WindowSeconds, after which nothing more is tried.
	Failures      int   `json:"failures,omitempty"`
	WindowSeconds int64 `json:"window_seconds,omitempty"`
}

// ManageInput says how an account is managed from now on.
type ManageInput struct {
	Managed
	// Credential is what is changed: "password" or "key", the private half of one in
	// ~/.ssh/authorized_keys; none: what the account logs in with, else a password.
	Credential string `json:"credential,omitempty"`
	// Secret is the one that is in force now; none: the one that is kept. In JSON it is
	// base64.
	Secret []byte `json:"secret,omitempty"`
}

// ManageAccount has the password of an account changed by drawbolt from now on.
func (c *Client) ManageAccount(ctx context.Context, target, account string, in ManageInput) (Password, error) {
	return call[Password](ctx, c, http.MethodPut, accountPath(target, account, "managed"), nil, in)
}

func accountPath(target, account, verb string) string {
	return path("targets", target, "accounts/"+url.PathEscape(account)+"/"+verb)
}

// UnmanageInput says why a password is left to others. Gone: its system is, and it does
// not matter which password is in force there.
type UnmanageInput struct {
	Reason string `json:"reason"`
	Gone   bool   `json:"gone,omitempty"`
}

// UnmanageAccount leaves the password of an account to others.
func (c *Client) UnmanageAccount(ctx context.Context, target, account string, in UnmanageInput) error {
	return c.do(ctx, http.MethodPost, accountPath(target, account, "unmanage"), nil, in, nil)
}

// RotateAccount has the password of an account changed now.
func (c *Client) RotateAccount(ctx context.Context, target, account, reason string) (Password, error) {
	return call[Password](ctx, c, http.MethodPost, accountPath(target, account, "rotate"), nil, Reason{reason})
}

// A Password says how the password of a managed account stands, or its key. It is not in it.
type Password struct {
	Account   string     `json:"account"`
	State     string     `json:"state"`                // ok, due, working, failing, held
	DueAt     *time.Time `json:"due_at,omitempty"`     // of the next change
	Cause     string     `json:"cause,omitempty"`      // of that
	HeldUntil *time.Time `json:"held_until,omitempty"` // somebody may be using it
	ChangedAt *time.Time `json:"changed_at,omitempty"`
	ProvedAt  *time.Time `json:"proved_at,omitempty"` // of the last login that proved it
	ProveAt   *time.Time `json:"prove_at,omitempty"`  // of the next
	Tries     int64      `json:"tries,omitempty"`     // that failed, one after the other
	Since     *time.Time `json:"since,omitempty"`     // of the first of them
	Problem   string     `json:"problem,omitempty"`
	NextAt    *time.Time `json:"next_at,omitempty"` // of the next try
}

// Passwords says how the managed passwords of a target stand.
func (c *Client) Passwords(ctx context.Context, target string) (List[Password], error) {
	return call[List[Password]](ctx, c, http.MethodGet, path("targets", target, "passwords"), nil, nil)
}

// A KnownPassword may be in force at an account.
type KnownPassword struct {
	Secret   []byte     `json:"secret"` // in JSON it is base64
	State    string     `json:"state"`  // candidate, current, replaced, unused, refused
	MadeAt   time.Time  `json:"made_at"`
	ProvedAt *time.Time `json:"proved_at,omitempty"`
}

// RecoverPasswords returns every password of an account that may be in force, the
// likeliest first, for when all else fails.
func (c *Client) RecoverPasswords(ctx context.Context, target, account, reason string) (List[KnownPassword], error) {
	return call[List[KnownPassword]](ctx, c, http.MethodPost, accountPath(target, account, "recover"), nil, Reason{reason})
}
