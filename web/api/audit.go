package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

// An Event is one entry of the audit log. The keys are those of the signed log.
type Event struct {
	Seq       int64             `json:"seq"`
	Time      time.Time         `json:"time"`
	Actor     string            `json:"actor"`
	ActorName string            `json:"actor_name,omitempty"`
	Action    string            `json:"action"`
	Object    string            `json:"object,omitempty"`
	Target    string            `json:"target,omitempty"`
	Account   string            `json:"account,omitempty"`
	Request   string            `json:"request,omitempty"`
	Grant     string            `json:"grant,omitempty"`
	Session   string            `json:"session,omitempty"`
	Source    string            `json:"source,omitempty"`
	Outcome   string            `json:"outcome"` // done, refused or failed
	Reason    string            `json:"reason,omitempty"`
	Rule      string            `json:"rule,omitempty"`
	Details   map[string]string `json:"details,omitempty"`
}

// EventFilter picks audit events.
type EventFilter struct {
	After   int64 // seq; -1 or less: from the beginning
	Limit   int
	Actor   string // name or id
	Action  string // whole, or a prefix and *
	Object  string
	Target  string
	Session string
	Since   time.Time
	Until   time.Time
	Newest  bool // the newest Limit ones, still in order of seq
}

// Events lists audit events in the order of the log.
func (c *Client) Events(ctx context.Context, f EventFilter) (List[Event], error) {
	q := url.Values{}
	if f.After >= 0 && !f.Newest {
		setInt(q, "after", f.After)
		if f.After == 0 {
			q.Set("after", "0")
		}
	}
	setInt(q, "limit", int64(f.Limit))
	set(q, "actor", f.Actor)
	set(q, "action", f.Action)
	set(q, "object", f.Object)
	set(q, "target", f.Target)
	set(q, "session", f.Session)
	setTime(q, "since", f.Since)
	setTime(q, "until", f.Until)
	setTrue(q, "newest", f.Newest)
	return call[List[Event]](ctx, c, http.MethodGet, "/v1/audit/events", q, nil)
}

// ExportAudit returns the whole log in the export format. The caller closes it.
func (c *Client) ExportAudit(ctx context.Context) (io.ReadCloser, error) {
	return c.stream(ctx, "/v1/audit/export", nil)
}

// A Checkpoint is the signed head of the audit log.
type Checkpoint struct {
	Checkpoint string `json:"checkpoint"` // signed note
}

// Checkpoint returns the newest signed head of the log.
func (c *Client) Checkpoint(ctx context.Context) (Checkpoint, error) {
	return call[Checkpoint](ctx, c, http.MethodGet, "/v1/audit/checkpoint", nil, nil)
}

// AuditKey holds the public keys of the evidence, as note verifier keys.
type AuditKey struct {
	Key        string   `json:"key"`                  // signs checkpoints
	Recordings []string `json:"recordings,omitempty"` // sign recordings, where other keys than Key do
}

// AuditKey returns the keys to verify with. An auditor keeps them elsewhere: who
// asks the server for them again proves only that the server agrees with itself.
func (c *Client) AuditKey(ctx context.Context) (AuditKey, error) {
	return call[AuditKey](ctx, c, http.MethodGet, "/v1/audit/key", nil, nil)
}

// Authorities are the public keys of the SSH authorities, in authorized_keys form.
type Authorities struct {
	User string `json:"user_authority"` // targets trust it for people
	Host string `json:"host_authority"` // clients trust it for hosts

	// All keys that are to be trusted, the one that signs first: while an
	// authority is rotated there are two.
	Users      []string `json:"user_authorities"`
	Hosts      []string `json:"host_authorities"`
	Identities []string `json:"identity_authorities"`
}

// Authorities needs no login.
func (c *Client) Authorities(ctx context.Context) (Authorities, error) {
	return call[Authorities](ctx, c, http.MethodGet, "/v1/authorities", nil, nil)
}

// A Version is what the server is.
type Version struct {
	Version string    `json:"version"`
	Time    time.Time `json:"time"` // the server's clock
}

// Version needs no login.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return call[Version](ctx, c, http.MethodGet, "/v1/version", nil, nil)
}
