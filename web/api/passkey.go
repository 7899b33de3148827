package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// A Passkey is one that somebody signs in with and confirms votes by.
type Passkey struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	AddedAt time.Time  `json:"added_at"`
	UsedAt  *time.Time `json:"used_at,omitempty"`
	Synced  bool       `json:"synced"`            // it may be on several devices of its person
	Blocked *time.Time `json:"blocked,omitempty"` // since when: somebody may have a copy
}

// What a passkey is asked for.
const (
	PasskeyAdd  = "add"
	PasskeyVote = "vote"
)

// PasskeyAsk asks for what a passkey is to sign.
type PasskeyAsk struct {
	For    string `json:"for" enum:"add,vote"`
	Digest string `json:"digest,omitempty" maxLength:"128"` // of the request that is voted on, as it was shown
}

// A PasskeyPrompt is what a browser needs to have a passkey made or used; bytes are
// in base64url.
type PasskeyPrompt struct {
	RelyingParty   string   `json:"relying_party"`
	Challenge      string   `json:"challenge"`
	TimeoutSeconds int64    `json:"timeout_seconds"`
	Credentials    []string `json:"credentials"` // of the person: to use, or not to make again
	UserID         string   `json:"user_id"`     // of whom one is made
	User           string   `json:"user"`        // name
	Algorithms     []int    `json:"algorithms"`  // COSE, the preferred first
}

// MyPasskeys lists the caller's passkeys.
func (c *Client) MyPasskeys(ctx context.Context) (List[Passkey], error) {
	return call[List[Passkey]](ctx, c, http.MethodGet, "/v1/me/passkeys", nil, nil)
}

// Passkeys lists those of a person.
func (c *Client) Passkeys(ctx context.Context, user string) (List[Passkey], error) {
	return call[List[Passkey]](ctx, c, http.MethodGet, path("users", user, "passkeys"), nil, nil)
}

// TakeFactor takes a second factor away that a person has lost: a passkey by its id,
// or "totp". It ends their logins, and they are told.
func (c *Client) TakeFactor(ctx context.Context, user, id, reason string) error {
	return c.do(ctx, http.MethodPost, path("users", user, "factors")+"/"+url.PathEscape(id)+"/take", nil, Reason{reason}, nil)
}
