package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// UserInput is a person as an administrator writes it.
type UserInput struct {
	Name       string            `json:"name"`
	Display    string            `json:"display,omitempty"`
	Groups     []string          `json:"groups,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Bot        bool              `json:"bot,omitempty"`
	Owner      string            `json:"owner,omitempty"`   // name of the person whose bot it is; "": as it is, or the caller's
	Version    int64             `json:"version,omitempty"` // of the user that is changed
}

// A User is a person, or a bot.
type User struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Display    string            `json:"display,omitempty"`
	Groups     []string          `json:"groups"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Bot        bool              `json:"bot"`
	OwnerID    string            `json:"owner_id,omitempty"` // of a bot: whose it is
	Locked     bool              `json:"locked"`
	LockReason string            `json:"lock_reason,omitempty"`
	CreatedAt  time.Time         `json:"created_at"`
	Version    int64             `json:"version"`

	SecondFactors []string `json:"second_factors"` // of "passkey" and "totp"
}

// Users lists people.
func (c *Client) Users(ctx context.Context) (List[User], error) {
	return call[List[User]](ctx, c, http.MethodGet, "/v1/users", nil, nil)
}

// FindUser returns one person.
func (c *Client) FindUser(ctx context.Context, name string) (User, error) {
	return call[User](ctx, c, http.MethodGet, path("users", name, ""), nil, nil)
}

// AddUser adds a person, who cannot log in before SetupLink's link is used.
func (c *Client) AddUser(ctx context.Context, in UserInput) (User, error) {
	return call[User](ctx, c, http.MethodPost, "/v1/users", nil, in)
}

// SetUser changes the user in.Name from the version in.Version.
func (c *Client) SetUser(ctx context.Context, in UserInput) (User, error) {
	return call[User](ctx, c, http.MethodPut, path("users", in.Name, ""), nil, in)
}

// LockUser denies everything to a person and cuts that person's sessions.
func (c *Client) LockUser(ctx context.Context, name, reason string) (User, error) {
	return call[User](ctx, c, http.MethodPost, path("users", name, "lock"), nil, Reason{reason})
}

// UnlockUser ends LockUser.
func (c *Client) UnlockUser(ctx context.Context, name, reason string) (User, error) {
	return call[User](ctx, c, http.MethodPost, path("users", name, "unlock"), nil, Reason{reason})
}

// A SetupLink is opened once, to choose a password.
type SetupLink struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

// SetupLink makes the one-time link of a user.
func (c *Client) SetupLink(ctx context.Context, name string) (SetupLink, error) {
	return call[SetupLink](ctx, c, http.MethodPost, path("users", name, "setup"), nil, Empty{})
}

// Keys lists a user's registered SSH keys.
func (c *Client) Keys(ctx context.Context, user string) (List[Key], error) {
	return call[List[Key]](ctx, c, http.MethodGet, path("users", user, "keys"), nil, nil)
}

// AddKey registers a key for a user.
func (c *Client) AddKey(ctx context.Context, user string, in KeyInput) (Key, error) {
	return call[Key](ctx, c, http.MethodPost, path("users", user, "keys"), nil, in)
}

// RemoveKey forgets a user's key.
func (c *Client) RemoveKey(ctx context.Context, user, fingerprint string) error {
	return c.do(ctx, http.MethodDelete, path("users", user, "keys")+"/"+url.PathEscape(fingerprint), nil, nil, nil)
}

// A Group is a name and who bears it.
type Group struct {
	Name    string   `json:"name"`
	Members []string `json:"members"` // names of users
}

// Groups lists the groups that have members.
func (c *Client) Groups(ctx context.Context) (List[Group], error) {
	return call[List[Group]](ctx, c, http.MethodGet, "/v1/groups", nil, nil)
}
