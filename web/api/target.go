package api

import (
	"context"
	"net/http"
	"time"
)

// Labels describe a target to the policy.
type Labels struct {
	Environment string `json:"environment,omitempty"`
	Tier        string `json:"tier,omitempty"` // 0, 1 or 2
	Criticality string `json:"criticality,omitempty"`
	Owner       string `json:"owner,omitempty"`
}

// TargetInput is a target as an administrator writes it.
type TargetInput struct {
	Name         string         `json:"name"`
	Address      string         `json:"address"` // host:port
	Labels       Labels         `json:"labels"`
	Applications []string       `json:"applications,omitempty"`
	Accounts     []AccountInput `json:"accounts"`
	HostKeys     []string       `json:"host_keys,omitempty"` // authorized_keys form
	Via          []string       `json:"via,omitempty"`       // targets to go through, in order: the whole way
	HopAccount   string         `json:"hop_account,omitempty"`
	Version      int64          `json:"version,omitempty"` // of the target that is changed
}

// AccountInput is an account as an administrator writes it.
type AccountInput struct {
	Name       string `json:"name"`
	Credential string `json:"credential,omitempty"` // "": certificate
}

// A Target is a machine as the caller may see it. Address, HostKeys and the like
// are there for who may read targets.
type Target struct {
	ID           string     `json:"id"`
	Name         string     `json:"name"`
	Address      string     `json:"address,omitempty"`
	Labels       Labels     `json:"labels"`
	Applications []string   `json:"applications,omitempty"`
	Accounts     []Account  `json:"accounts"`
	HostKeys     []string   `json:"host_keys,omitempty"`
	Via          []string   `json:"via,omitempty"`
	HopAccount   string     `json:"hop_account,omitempty"` // for the way to others
	Locked       bool       `json:"locked"`
	LockReason   string     `json:"lock_reason,omitempty"`
	CreatedAt    *time.Time `json:"created_at,omitempty"`
	Version      int64      `json:"version"`
}

// An Account is an account and what stands between it and the caller.
type Account struct {
	Name               string     `json:"name"`
	Credential         string     `json:"credential,omitempty"`
	Usable             bool       `json:"usable"`          // there is an active grant
	Until              *time.Time `json:"until,omitempty"` // its end
	MayAsk             bool       `json:"may_ask"`
	Needs              []Need     `json:"needs,omitempty"` // approvals; none: granted at once
	MaxDurationSeconds int64      `json:"max_duration_seconds,omitempty"`
	Why                string     `json:"why,omitempty"` // it may not be asked for
}

// Targets lists the targets that the caller may know of.
func (c *Client) Targets(ctx context.Context) (List[Target], error) {
	return call[List[Target]](ctx, c, http.MethodGet, "/v1/targets", nil, nil)
}

// FindTarget returns one target.
func (c *Client) FindTarget(ctx context.Context, name string) (Target, error) {
	return call[Target](ctx, c, http.MethodGet, path("targets", name, ""), nil, nil)
}

// AddTarget adds a target.
func (c *Client) AddTarget(ctx context.Context, in TargetInput) (Target, error) {
	return call[Target](ctx, c, http.MethodPost, "/v1/targets", nil, in)
}

// SetTarget changes the target in.Name from the version in.Version.
func (c *Client) SetTarget(ctx context.Context, in TargetInput) (Target, error) {
	return call[Target](ctx, c, http.MethodPut, path("targets", in.Name, ""), nil, in)
}

// RemoveTarget removes a target.
func (c *Client) RemoveTarget(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, path("targets", name, ""), nil, nil, nil)
}

// LockTarget denies the target to everybody and cuts its sessions.
func (c *Client) LockTarget(ctx context.Context, name, reason string) (Target, error) {
	return call[Target](ctx, c, http.MethodPost, path("targets", name, "lock"), nil, Reason{reason})
}

// UnlockTarget ends LockTarget.
func (c *Client) UnlockTarget(ctx context.Context, name, reason string) (Target, error) {
	return call[Target](ctx, c, http.MethodPost, path("targets", name, "unlock"), nil, Reason{reason})
}
