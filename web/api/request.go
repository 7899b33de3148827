package api

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// RequestInput asks for an account on a target.
type RequestInput struct {
	Target          string     `json:"target"`
	Account         string     `json:"account"`
	DurationSeconds int64      `json:"duration_seconds,omitempty"` // 0: the default
	Reason          string     `json:"reason"`
	Start           *time.Time `json:"start,omitempty"` // nil: as soon as it is approved
	BreakGlass      bool       `json:"break_glass,omitempty"`
	Batch           string     `json:"batch,omitempty"` // from NewBatch: what is asked for at once has the same
}

// MaxBatch is how many requests have one batch in common.
const MaxBatch = 50

// BatchPrefix begins the id of a batch.
const BatchPrefix = "BAT-"

// NewBatch makes an id for requests that are made, shown and decided together.
func NewBatch() string {
	var b [10]byte
	rand.Read(b[:]) // never fails
	return BatchPrefix + base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding).EncodeToString(b[:])
}

// The states of a Request and of a Grant.
const (
	Pending   = "pending"
	Approved  = "approved"
	Denied    = "denied"
	Cancelled = "cancelled"
	Expired   = "expired"

	Scheduled = "scheduled"
	Active    = "active"
	Ended     = "ended"
)

// The end reasons of a Grant; expired is one more.
const (
	Released   = "released"
	Revoked    = "revoked"
	Superseded = "superseded"
)

// A Request is an access request as the caller may see it.
type Request struct {
	ID              string       `json:"id"`
	State           string       `json:"state"`
	Requester       string       `json:"requester"`
	Target          string       `json:"target"`
	Account         string       `json:"account"`
	Made            string       `json:"made,omitempty"` // how the account is made for the grant, and what it may
	Role            string       `json:"role"`
	Batch           string       `json:"batch,omitempty"` // what else was asked for at once has the same
	Reason          string       `json:"reason"`
	Ticket          string       `json:"ticket,omitempty"`
	TicketCheck     *TicketCheck `json:"ticket_check,omitempty"` // what the ticket system said of it; none: it was not asked
	DurationSeconds int64        `json:"duration_seconds"`
	BreakGlass      bool         `json:"break_glass"`
	Start           *time.Time   `json:"start,omitempty"`
	CreatedAt       time.Time    `json:"created_at"`
	ExpiresAt       time.Time    `json:"expires_at"` // a decision must be taken before
	DecidedAt       *time.Time   `json:"decided_at,omitempty"`
	DecidedBy       string       `json:"decided_by,omitempty"`
	Note            string       `json:"note,omitempty"`      // what the decider wrote
	EditedAt        *time.Time   `json:"edited_at,omitempty"` // votes of before are void
	Approvals       []Approval   `json:"approvals"`
	Objections      []Approval   `json:"objections,omitempty"`        // every no so far
	DenyThreshold   int          `json:"deny_threshold"`              // how many no end it
	Needed          int          `json:"needed"`                      // how many people must approve, in all
	Needs           []Need       `json:"needs"`                       // out of which groups
	LastUse         *LastUse     `json:"last_use,omitempty"`          // while it is pending
	Waiting         []string     `json:"waiting"`                     // names of those who are asked now; "carol (for bob)" votes in his place
	MayDecide       bool         `json:"may_decide"`                  // the caller is one of them
	NeedsFactor     bool         `json:"needs_factor,omitempty"`      // the caller is, with a second factor shown just now
	DenyNeedsFactor bool         `json:"deny_needs_factor,omitempty"` // and denies only with one, too
	InPlaceOf       string       `json:"in_place_of,omitempty"`
	Questions       []Question   `json:"questions,omitempty"` // of those who may decide, and the answers
	HandOvers       []HandOver   `json:"hand_overs,omitempty"`
	HandedBy        string       `json:"handed_by,omitempty"` // name of who calls the caller to decide
	HandedNote      string       `json:"handed_note,omitempty"`
	EscalatesAt     *time.Time   `json:"escalates_at,omitempty"` // when more are asked
	EscalateTo      []string     `json:"escalate_to,omitempty"`  // groups
	Session         SessionRules `json:"session"`                // what a session may do
	Digest          string       `json:"digest"`                 // of what an approver is shown; a vote names it
	Version         int64        `json:"version"`                // grows with every change of the request and its grant
	Policy          Policy       `json:"policy"`
	URL             string       `json:"url,omitempty"`
	Grant           *Grant       `json:"grant,omitempty"`
	Lease           *Lease       `json:"lease,omitempty"` // of the secret that the holder has now
}

// TicketText is the ticket with what is known of it, in one line.
func (r *Request) TicketText() string {
	parts := []string{r.Ticket}
	if c := r.TicketCheck; c != nil {
		for _, s := range []string{c.State, c.Assignee, c.Title, c.Why} {
			if s != "" {
				parts = append(parts, s)
			}
		}
	}
	return strings.Join(parts, ", ")
}

// LastUse is how the requester last used the account.
type LastUse struct {
	EndedAt   time.Time `json:"ended_at"`
	Seconds   int64     `json:"seconds"`    // from the first connection to the end of the grant
	EndReason string    `json:"end_reason"` // expired, released, revoked, superseded
}

// Text says it in words, with when and for how long as the reader writes times.
func (u *LastUse) Text(when, long string) string {
	text := when + ", for " + long
	if u.EndReason == "revoked" {
		text += ", revoked"
	}
	return text
}

// A TicketCheck is what a ticket system said when a request was made.
type TicketCheck struct {
	Valid    bool   `json:"valid"` // open, the requester's, and about the target
	State    string `json:"state,omitempty"`
	Assignee string `json:"assignee,omitempty"`
	Title    string `json:"title,omitempty"`
	Why      string `json:"why,omitempty"` // it is not valid
}

// An Approval is one person's vote.
type Approval struct {
	User            string    `json:"user"`
	Comment         string    `json:"comment,omitempty"`
	DurationSeconds int64     `json:"duration_seconds"`
	Without         []string  `json:"without,omitempty"`   // rights that are taken away
	FourEyes        bool      `json:"four_eyes,omitempty"` // nothing is to be done while nobody else watches
	InPlace         bool      `json:"in_place,omitempty"`  // given in the place of somebody who is away
	At              time.Time `json:"at"`
}

// A Need is Count distinct people out of Groups.
type Need struct {
	Count  int      `json:"count"`
	Groups []string `json:"groups"`
	Have   int      `json:"have"`           // of a request: votes given that count
	Step   int      `json:"step,omitempty"` // asked when those of the steps before are met
	// EscalateTo may meet it as well once it has been asked for so long.
	EscalateAfterSeconds int64    `json:"escalate_after_seconds,omitempty"`
	EscalateTo           []string `json:"escalate_to,omitempty"`
}

// Policy is the trace of the decision that let a request in.
type Policy struct {
	Rule      string `json:"rule"`
	Text      string `json:"text,omitempty"`
	Decision  string `json:"decision,omitempty"`
	InputHash string `json:"input_hash,omitempty"`
	Digest    string `json:"digest"`
}

// A Grant is the right that came of a request.
type Grant struct {
	ID              string     `json:"id"`
	State           string     `json:"state"`           // scheduled, active or ended
	Start           *time.Time `json:"start,omitempty"` // first use; absent: not used yet
	End             time.Time  `json:"end"`             // when it ends, or ended
	ActivateBy      time.Time  `json:"activate_by"`     // it lapses when it is not used before
	EndReason       string     `json:"end_reason,omitempty"`
	EndedBy         string     `json:"ended_by,omitempty"`
	EndNote         string     `json:"end_note,omitempty"`
	DurationSeconds int64      `json:"duration_seconds"`
}

// Request asks for access.
func (c *Client) Request(ctx context.Context, in RequestInput) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, "/v1/requests", nil, in)
}

// RequestFilter picks requests; the zero value picks all that the caller may see.
type RequestFilter struct {
	State  string
	Mine   bool
	Inbox  bool   // pending ones that the caller may decide
	Batch  string // those that were asked for together
	Limit  int    // 0: the server's default
	Before string // id; older ones only
}

func (f RequestFilter) query() url.Values {
	q := url.Values{}
	set(q, "state", f.State)
	setTrue(q, "mine", f.Mine)
	setTrue(q, "inbox", f.Inbox)
	set(q, "batch", f.Batch)
	setInt(q, "limit", int64(f.Limit))
	set(q, "before", f.Before)
	return q
}

// Requests lists requests, the newest first.
func (c *Client) Requests(ctx context.Context, f RequestFilter) (List[Request], error) {
	return call[List[Request]](ctx, c, http.MethodGet, "/v1/requests", f.query(), nil)
}

// FindRequest returns one request, by its id or its grant's.
func (c *Client) FindRequest(ctx context.Context, id string) (Request, error) {
	return call[Request](ctx, c, http.MethodGet, requestPath(id, ""), nil, nil)
}

// MaxWait is the longest that the server holds one long poll.
const MaxWait = 60 * time.Second

// AwaitRequest returns when the request's version is another than version, or
// after about wait (at most MaxWait), with the request as it is then.
func (c *Client) AwaitRequest(ctx context.Context, id string, version int64, wait time.Duration) (Request, error) {
	wait = min(max(wait, time.Second), MaxWait).Truncate(time.Second)
	q := url.Values{"version": {strconv.FormatInt(version, 10)}, "wait_seconds": {strconv.FormatInt(int64(wait/time.Second), 10)}}
	longer := *c
	longer.Timeout = c.timeout() + wait
	return call[Request](ctx, &longer, http.MethodGet, requestPath(id, ""), q, nil)
}

// ApproveInput is a yes to what Digest names.
type ApproveInput struct {
	Digest          string `json:"digest"`
	DurationSeconds int64  `json:"duration_seconds,omitempty"` // 0: as asked for; never longer
	Comment         string `json:"comment,omitempty"`
	// Without are rights that are taken away: shell, exec, files, uploads, forwards, agent, x11, checkout.
	Without  []string `json:"without,omitempty"`
	FourEyes bool     `json:"four_eyes,omitempty"` // nothing is to be done while nobody else watches
}

// Approve votes for a request.
func (c *Client) Approve(ctx context.Context, id string, in ApproveInput) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, requestPath(id, "approve"), nil, in)
}

// EditInput is what is asked for instead. What is zero stays.
type EditInput struct {
	DurationSeconds int64      `json:"duration_seconds,omitempty"`
	Reason          string     `json:"reason,omitempty"`
	Start           *time.Time `json:"start,omitempty"`
}

// EditRequest changes the caller's pending request; all votes are void.
func (c *Client) EditRequest(ctx context.Context, id string, in EditInput) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, requestPath(id, "edit"), nil, in)
}

// DenyInput is a no.
type DenyInput struct {
	Digest string `json:"digest,omitempty"`
	Reason string `json:"reason"`
}

// Deny ends a request with a no.
func (c *Client) Deny(ctx context.Context, id string, in DenyInput) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, requestPath(id, "deny"), nil, in)
}

// Cancel takes the caller's pending request back.
func (c *Client) Cancel(ctx context.Context, id string) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, requestPath(id, "cancel"), nil, Empty{})
}

// End gives the caller's grant back.
func (c *Client) End(ctx context.Context, id string) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, requestPath(id, "end"), nil, Empty{})
}

// ExtendInput lengthens a grant.
type ExtendInput struct {
	DurationSeconds int64 `json:"duration_seconds"`
}

// Extend lengthens the caller's grant by a duration; the policy is asked again.
func (c *Client) Extend(ctx context.Context, id string, in ExtendInput) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, requestPath(id, "extend"), nil, in)
}

// Revoke takes a grant away.
func (c *Client) Revoke(ctx context.Context, id, reason string) (Request, error) {
	return call[Request](ctx, c, http.MethodPost, requestPath(id, "revoke"), nil, Reason{reason})
}

func requestPath(id, verb string) string { return path("requests", id, verb) }
