package access

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A RequestState is where a request stands. Expiry is no state: a pending
// request whose deadline has passed is expired by the clock alone.
type RequestState string

// The states of a request that are stored, and the one that is computed.
const (
	Pending   RequestState = "pending"
	Approved  RequestState = "approved"
	Denied    RequestState = "denied"
	Cancelled RequestState = "cancelled"
	Expired   RequestState = "expired"
)

// next is every move of a request. A move that is not here does not exist.
var next = map[RequestState][]RequestState{
	Pending: {Approved, Denied, Cancelled},
}

// A Request asks for one account on one target for some time.
type Request struct {
	ID            string
	RequesterID   string
	RequesterName string
	OwnerID       string // of a bot that asks: whose it is
	TargetID      string
	TargetName    string
	TargetAddress string
	TargetVia     []string // the targets it is reached via
	TargetKeys    []string // the pinned host keys that the approver vouches for
	Account       string
	Made          *AccountTemplate // how the account is made for the grant; nil: it is there
	Batch         string           // what else was asked for at once has the same; "": nothing
	Reason        string
	Ticket        string
	TicketCheck   TicketCheck   // what the ticket system said of Ticket when it was asked for
	Duration      time.Duration // asked for; approvers may narrow it
	Start         time.Time     // zero: as soon as it is approved
	BreakGlass    bool
	Source        string // address the request came from
	Via           string

	State     RequestState
	CreatedAt time.Time
	EditedAt  time.Time // zero: it is as it was made
	Edits     int64
	ExpiresAt time.Time // a decision must be taken before
	DecidedAt time.Time
	DecidedBy string // name of who denied or cancelled
	Note      string // what the decider wrote

	// What the policy said when the request was made.
	Role          string
	Needs         []Need
	DenyThreshold int // people whose no ends it; 0: one
	Rules         SessionRules
	Policy        Ruling

	Approvals  []Approval // every yes
	Objections []Approval // every no
	Questions  []Question // in order
	HandOvers  []HandOver // in order
	Version    int64
}

// A Ruling is the trace of one policy decision: enough to find it again and to
// prove which policy gave it for which input.
type Ruling struct {
	Decision  string // the decision's id
	Rule      string // the deciding rule
	Text      string // its sentence
	InputHash string // SHA-256 of the canonical input, hex
	Digest    string // SHA-256 of the policy (bundle and data), hex
}

// StateAt returns the state at t, in which an overdue request is expired.
func (r *Request) StateAt(t time.Time) RequestState {
	if r.State == Pending && !t.Before(r.ExpiresAt) {
		return Expired
	}
	return r.State
}

func (r *Request) move(to RequestState, t time.Time) error {
	from := r.StateAt(t)
	if !slices.Contains(next[from], to) {
		return r.decided(t)
	}
	r.State = to
	r.DecidedAt = t
	return nil
}

// decided says who was first.
func (r *Request) decided(t time.Time) error {
	e := &Error{Kind: ErrConflict, Code: "DB-3001"}
	switch r.StateAt(t) {
	case Approved:
		e.Text = fmt.Sprintf("%s is already approved by %s; nothing changed", r.ID, strings.Join(r.approvers(), ", "))
	case Denied:
		e.Text = fmt.Sprintf("%s is already denied by %s; nothing changed", r.ID, r.DecidedBy)
	case Cancelled:
		e.Text = fmt.Sprintf("%s was cancelled by %s; nothing changed", r.ID, r.DecidedBy)
	case Expired:
		e.Code, e.Text = "DB-3002", fmt.Sprintf("%s expired without a decision at %s; nothing changed", r.ID, r.ExpiresAt.UTC().Format(time.TimeOnly))
	default:
		e.Text = fmt.Sprintf("%s is %s; nothing changed", r.ID, r.State)
	}
	return e
}

func (r *Request) approvers() []string {
	var names []string
	for _, a := range r.Approvals {
		names = append(names, a.UserName)
	}
	return names
}

// Digest is the SHA-256, in hex, of everything that an approver is shown and
// that the grant will carry. An approval counts only for the digest it was
// given for, so whatever changes after the vote makes the vote void.
func (r *Request) Digest() string {
	sum := sha256.Sum256(r.Shown())
	return hex.EncodeToString(sum[:])
}

// Shown is the text that Digest is of: JSON with all that an approver is shown.
func (r *Request) Shown() []byte {
	b, err := json.Marshal(struct {
		Format                                                     string
		ID, Requester, Target, Address, Account, Role              string
		Keys                                                       []string
		TargetVia                                                  []string         `json:",omitempty"` // requests of before it was known keep their digest
		Made                                                       *AccountTemplate `json:",omitempty"`
		Reason                                                     string
		Seconds                                                    int64
		Start                                                      int64
		BreakGlass                                                 bool
		Ticket                                                     *TicketCheck `json:",omitempty"` // nil when it was not looked up
		Needs                                                      []Need
		DenyThreshold                                              int    `json:",omitempty"`
		Owner                                                      string `json:",omitempty"`
		Rules                                                      SessionRules
		PolicyRule, PolicyDigest, PolicyDecision, RequesterSources string
	}{
		"drawbolt request 1", r.ID, r.RequesterID, r.TargetID, r.TargetAddress, r.Account, r.Role,
		r.TargetKeys, r.TargetVia, r.Made, r.Reason, int64(r.Duration / time.Second), micros(r.Start), r.BreakGlass, r.TicketCheck.shown(), r.Needs, r.DenyThreshold, r.OwnerID, r.Rules,
		r.Policy.Rule, r.Policy.Digest, r.Policy.Decision, r.Source,
	})
	if err != nil {
		panic("access: request does not marshal: " + err.Error()) // strings, numbers and slices of them always do
	}
	return b
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Admit moves a request that needs nobody's approval to approved.
func (r *Request) Admit(t time.Time) error {
	if len(r.Needs) > 0 && !r.BreakGlass {
		return &Error{Kind: ErrDenied, Code: "DB-2001", Text: r.ID + " needs approval"}
	}
	return r.move(Approved, t)
}

// maxEdits is how often a request is edited before its requester has to make
// another: approvers are told of each.
const maxEdits = 20

// An Edit is what a requester asks for instead. What is zero stays.
type Edit struct {
	Duration time.Duration
	Reason   string
	Start    time.Time
}

// Edit changes what a pending request asks for, which voids all votes: they were
// for something else. Only its requester may. What the policy says of it now is
// for the caller to set. The time to decide begins anew and is as long as before.
func (r *Request) Edit(by User, e Edit, t time.Time) error {
	if by.ID != r.RequesterID {
		return &Error{Kind: ErrDenied, Code: "DB-6137", Text: "only the requester edits a request", Rule: "edit.own"}
	}
	if r.StateAt(t) != Pending {
		return r.decided(t)
	}
	if r.Edits >= maxEdits {
		return &Error{Kind: ErrConflict, Code: "DB-6138", Text: fmt.Sprintf("%s was edited %d times already", r.ID, r.Edits), Next: "drawbolt cancel " + r.ID + ", then ask again"}
	}
	was := *r
	if e.Duration != 0 {
		if err := CheckDuration(e.Duration); err != nil {
			return err
		}
		r.Duration = e.Duration
	}
	if e.Reason != "" {
		if err := CheckReason(e.Reason); err != nil {
			return err
		}
		r.Reason, r.Ticket = e.Reason, Ticket(e.Reason)
	}
	if !e.Start.IsZero() {
		r.Start = e.Start
	}
	if r.Duration == was.Duration && r.Reason == was.Reason && r.Start.Equal(was.Start) {
		return Invalid("that is what %s asks for already", r.ID)
	}
	r.ExpiresAt = t.Add(r.ExpiresAt.Sub(r.began(0)))
	r.EditedAt, r.Edits = t, r.Edits+1
	r.Approvals, r.Objections = nil, nil
	return nil
}

// Cancel takes the request back; only its requester may.
func (r *Request) Cancel(by User, t time.Time) error {
	if by.ID != r.RequesterID && (r.OwnerID == "" || by.ID != r.OwnerID) {
		return &Error{Kind: ErrDenied, Code: "DB-2004", Text: "only the requester cancels a request, or the owner of the bot that is it", Rule: "cancel.own"}
	}
	if err := r.move(Cancelled, t); err != nil {
		return err
	}
	r.DecidedBy = by.Name
	return nil
}
