package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

// A Session is one use of a grant.
type Session struct {
	ID         string     `json:"id"`
	State      string     `json:"state"` // opening, open or closed
	Grant      string     `json:"grant"`
	Request    string     `json:"request"`
	User       string     `json:"user"`
	Target     string     `json:"target"`
	Account    string     `json:"account"`
	Kind       string     `json:"kind"` // shell or exec
	Command    string     `json:"command,omitempty"`
	Source     string     `json:"source,omitempty"`
	Client     string     `json:"client,omitempty"`
	Node       string     `json:"node,omitempty"`
	OpenedAt   time.Time  `json:"opened_at"`
	ClosedAt   *time.Time `json:"closed_at,omitempty"`
	EndReason  string     `json:"end_reason,omitempty"`
	ExitStatus *int       `json:"exit_status,omitempty"`
	Recording  *Sealed    `json:"recording,omitempty"` // absent while it runs
	Risks      []string   `json:"risks,omitempty"`     // break-glass, detected, tier-0, four-eyes
	Deleted    *Deletion  `json:"deleted,omitempty"`   // when the recording was
	// These only of one session, and not in lists:
	KeptUntil     *time.Time `json:"kept_until,omitempty"`     // the recording, by the rules of today; absent: for good
	RetentionRule string     `json:"retention_rule,omitempty"` // that says so
	Alarms        []Alarm    `json:"alarms,omitempty"`         // for those who may watch it and are not its user
	Holds         []Hold     `json:"holds,omitempty"`          // that keep it longer
}

// Sealed names a sealed recording and what proves it.
type Sealed struct {
	Name    string `json:"name"`
	SHA256  string `json:"sha256"` // of the sealed file, hex
	Size    int64  `json:"size"`
	Events  int64  `json:"events"`
	Aborted bool   `json:"aborted"` // the server died in mid-session
}

// SessionFilter picks sessions.
type SessionFilter struct {
	Live   bool
	Target string
	User   string
	Batch  string // those under requests that were made together
	Limit  int
	Before string // id; older ones only
}

// Sessions lists sessions, the newest first.
func (c *Client) Sessions(ctx context.Context, f SessionFilter) (List[Session], error) {
	q := url.Values{}
	setTrue(q, "live", f.Live)
	set(q, "target", f.Target)
	set(q, "user", f.User)
	set(q, "batch", f.Batch)
	setInt(q, "limit", int64(f.Limit))
	set(q, "before", f.Before)
	return call[List[Session]](ctx, c, http.MethodGet, "/v1/sessions", q, nil)
}

// FindSession returns one session.
func (c *Client) FindSession(ctx context.Context, id string) (Session, error) {
	return call[Session](ctx, c, http.MethodGet, path("sessions", id, ""), nil, nil)
}

// SessionEnd says why a session is cut.
type SessionEnd struct {
	Reason string `json:"reason"`           // its user will read it
	Revoke bool   `json:"revoke,omitempty"` // take the grant away, too
}

// EndSession cuts a running session.
func (c *Client) EndSession(ctx context.Context, id string, in SessionEnd) (Session, error) {
	return call[Session](ctx, c, http.MethodPost, path("sessions", id, "end"), nil, in)
}

// Recording returns a recording as the server decrypts it; format is cast
// (asciicast v3 with its seal) or txt. The caller closes it. That it was looked
// at is an audit event. Of a damaged one it has what can be read, and the reader
// ends with a *Damaged in the place of io.EOF.
func (c *Client) Recording(ctx context.Context, id, format string) (io.ReadCloser, error) {
	return c.stream(ctx, path("sessions", id, "recording"), url.Values{"format": {format}})
}

// SealedFile returns the recording as it is kept, encrypted. The caller closes it.
func (c *Client) SealedFile(ctx context.Context, id string) (io.ReadCloser, error) {
	return c.stream(ctx, path("sessions", id, "sealed"), nil)
}

// Evidence returns all that proves a session, as a zip that verifies itself. The
// caller closes it. That it was taken is an audit event, and in it.
func (c *Client) Evidence(ctx context.Context, id string) (io.ReadCloser, error) {
	return c.stream(ctx, path("sessions", id, "evidence"), nil)
}

// Video returns a film of a session, MP4, while it is made. The caller closes it.
// That it was taken is an audit event. It ends with a *Damaged in the place of io.EOF
// when it does not show all. A server makes one for a user at a time.
func (c *Client) Video(ctx context.Context, id string) (io.ReadCloser, error) {
	return c.stream(ctx, path("sessions", id, "video"), nil)
}

// A Proof shows that the closing event of a session, which names the hash of the
// sealed recording, stands in the audit log; and, of a recording that was deleted,
// the event of that.
type Proof struct {
	ProvenEvent
	Deletion   *ProvenEvent `json:"deletion,omitempty"`
	Size       int64        `json:"size"`       // of the log that the checkpoint covers
	Checkpoint string       `json:"checkpoint"` // signed note
	Sealed     Sealed       `json:"sealed"`
}

// A ProvenEvent is an event and the proof that it stands in the audit log.
type ProvenEvent struct {
	Leaf      []byte   `json:"leaf"`      // the event as it was hashed; base64
	Seq       int64    `json:"seq"`       // of the event
	Inclusion []string `json:"inclusion"` // hashes, base64, from the leaf upwards (RFC 6962)
}

// Proof returns the proof for a closed session.
func (c *Client) Proof(ctx context.Context, id string) (Proof, error) {
	return call[Proof](ctx, c, http.MethodGet, path("sessions", id, "proof"), nil, nil)
}
