package api

import (
	"context"
	"net/http"
	"time"
)

// The kinds of a Window.
const (
	Maintenance = "maintenance"
	Freeze      = "freeze"
)

// A WindowInput is a window as an administrator writes it: once from one moment to
// another, or, with hours, each week.
type WindowInput struct {
	Kind     string     `json:"kind"`
	Reason   string     `json:"reason"`
	Targets  Selector   `json:"targets"`
	From     *time.Time `json:"from,omitempty"` // whole minutes
	To       *time.Time `json:"to,omitempty"`
	Hours    string     `json:"hours,omitempty"`     // "22:00-04:00"
	Weekdays []string   `json:"weekdays,omitempty"`  // on which the hours begin: "saturday"; none: every day
	TimeZone string     `json:"time_zone,omitempty"` // of the hours: "Europe/Berlin"; "": UTC
}

// A Window is a maintenance window or a freeze.
type Window struct {
	ID string `json:"id"`
	WindowInput
	Open      bool      `json:"open"` // now
	By        string    `json:"by"`
	CreatedAt time.Time `json:"created_at"`
}

// Windows lists the windows that are not over, the first to begin first.
func (c *Client) Windows(ctx context.Context) (List[Window], error) {
	return call[List[Window]](ctx, c, http.MethodGet, "/v1/windows", nil, nil)
}

// AddWindow adds a window.
func (c *Client) AddWindow(ctx context.Context, in WindowInput) (Window, error) {
	return call[Window](ctx, c, http.MethodPost, "/v1/windows", nil, in)
}

// RemoveWindow removes a window.
func (c *Client) RemoveWindow(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, path("windows", id, ""), nil, nil, nil)
}

// A Network is a name for ranges of addresses, which rules use among their sources.
type Network struct {
	Name    string   `json:"name"`
	Ranges  []string `json:"ranges"`            // CIDR
	Version int64    `json:"version,omitempty"` // of the network that is changed; 0: a new one
}

// Networks lists the networks that have names.
func (c *Client) Networks(ctx context.Context) (List[Network], error) {
	return call[List[Network]](ctx, c, http.MethodGet, "/v1/networks", nil, nil)
}

// SetNetwork makes or changes the network n.Name.
func (c *Client) SetNetwork(ctx context.Context, n Network) (Network, error) {
	return call[Network](ctx, c, http.MethodPut, path("networks", n.Name, ""), nil, n)
}

// RemoveNetwork removes a network that no rule names.
func (c *Client) RemoveNetwork(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, path("networks", name, ""), nil, nil, nil)
}

// A Fact is one thing that was found out about a target.
type Fact struct {
	Value string    `json:"value"`
	At    time.Time `json:"at"` // when it was gathered
	By    string    `json:"by"`
}

// FactsInput is what was found out about a target at one moment.
type FactsInput struct {
	Facts map[string]string `json:"facts"`        // by name; "" forgets one
	At    *time.Time        `json:"at,omitempty"` // none: now
}

// RecordFacts puts on record what was found out about a target.
func (c *Client) RecordFacts(ctx context.Context, target string, in FactsInput) (Target, error) {
	return call[Target](ctx, c, http.MethodPut, path("targets", target, "facts"), nil, in)
}
