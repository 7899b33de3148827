package api

import (
	"context"
	"net/http"
	"time"
)

// An Integration is a channel over which people are told, as it stands.
type Integration struct {
	Name       string     `json:"name"`
	Type       string     `json:"type"`  // mail, teams, mattermost, pagerduty, webhook, slack
	State      string     `json:"state"` // works, fails, or stopped: no server tells
	Node       string     `json:"node"`  // the server that tells, or did
	Position   int64      `json:"position"`
	Behind     int64      `json:"behind"`      // events of the audit log that it has not looked at
	LagSeconds int64      `json:"lag_seconds"` // age of the first of these
	Error      string     `json:"error,omitempty"`
	ErrorAt    *time.Time `json:"error_at,omitempty"` // of the last error
	SuccessAt  *time.Time `json:"success_at,omitempty"`
	Late       int64      `json:"late"`                // notices that failed while others did not, or wait for their time
	Aside      int64      `json:"aside"`               // notices that are tried no more
	SetAside   []SetAside `json:"set_aside,omitempty"` // the newest of these; only of one integration
}

// The states of an integration.
const (
	IntegrationWorks   = "works"
	IntegrationFails   = "fails"
	IntegrationStopped = "stopped"
)

// SetAside is a notice that is tried no more.
type SetAside struct {
	Position int64  `json:"position"` // number of its event
	Action   string `json:"action"`   // of its event
	Tries    int    `json:"tries"`
	Error    string `json:"error"`
}

// An IntegrationTest is on its way. It was taken when the integration's position is
// greater than its own and it is not among those that are set aside.
type IntegrationTest struct {
	Position int64 `json:"position"` // number of its event
}

// An IntegrationRetry says how many notices are tried again that were set aside.
type IntegrationRetry struct {
	Retried int64 `json:"retried"`
}

// Integrations lists the channels over which people are told.
func (c *Client) Integrations(ctx context.Context) (List[Integration], error) {
	return call[List[Integration]](ctx, c, http.MethodGet, "/v1/integrations", nil, nil)
}

// FindIntegration returns one with the newest notices that it has set aside.
func (c *Client) FindIntegration(ctx context.Context, name string) (Integration, error) {
	return call[Integration](ctx, c, http.MethodGet, path("integrations", name, ""), nil, nil)
}

// TestIntegration has a test sent over the integration.
func (c *Client) TestIntegration(ctx context.Context, name string) (IntegrationTest, error) {
	return call[IntegrationTest](ctx, c, http.MethodPost, path("integrations", name, "test"), nil, Empty{})
}

// RetryIntegration has what was set aside tried again.
func (c *Client) RetryIntegration(ctx context.Context, name string) (IntegrationRetry, error) {
	return call[IntegrationRetry](ctx, c, http.MethodPost, path("integrations", name, "retry"), nil, Empty{})
}
