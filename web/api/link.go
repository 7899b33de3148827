package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// A Link is an account in another system whose holder acts as a person here.
type Link struct {
	Kind      string    `json:"kind"` // slack
	Team      string    `json:"team"` // that system's name for the workspace
	Account   string    `json:"account"`
	Name      string    `json:"name,omitempty"` // as it was called when it was linked
	CreatedAt time.Time `json:"created_at"`
}

// Links lists the accounts in other systems of a person; "" is the caller.
func (c *Client) Links(ctx context.Context, user string) (List[Link], error) {
	at := "/v1/me/links"
	if user != "" {
		at = path("users", user, "links")
	}
	return call[List[Link]](ctx, c, http.MethodGet, at, nil, nil)
}

// Unlink takes an account in another system away from a person; "" is the caller.
func (c *Client) Unlink(ctx context.Context, user string, l Link) error {
	at := "/v1/me/links"
	if user != "" {
		at = path("users", user, "links")
	}
	_, err := call[Empty](ctx, c, http.MethodDelete, at+"/"+url.PathEscape(l.Kind)+"/"+url.PathEscape(l.Team)+"/"+url.PathEscape(l.Account), nil, nil)
	return err
}

// A SlackManifest is what Slack makes the app of.
type SlackManifest struct {
	Manifest   string `json:"manifest"`   // JSON
	CreateURL  string `json:"create_url"` // where Slack offers to make it
	Configured bool   `json:"configured"` // the server has the tokens of an app
}

// SlackManifest returns the description of the app for a mode: socket or http.
func (c *Client) SlackManifest(ctx context.Context, mode string) (SlackManifest, error) {
	return call[SlackManifest](ctx, c, http.MethodGet, "/v1/integrations/slack/manifest", url.Values{"mode": {mode}}, nil)
}

// A SlackCheck is what a check of the app in Slack has found.
type SlackCheck struct {
	Passed bool        `json:"passed"` // nothing failed
	Steps  []CheckStep `json:"steps"`
}

// CheckSlack has the server try what the app in Slack needs. It posts a card.
func (c *Client) CheckSlack(ctx context.Context) (SlackCheck, error) {
	return call[SlackCheck](ctx, c, http.MethodPost, "/v1/integrations/slack/check", nil, Empty{})
}
