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
	ExpiresAt time.Time // a decision must be taken before
	DecidedAt time.Time
	DecidedBy string // name of who denied or cancelled
	Note      string // what the decider wrote

	// What the policy said when the request was made.
	Role   string
	Needs  []Need
	Rules  SessionRules
	Policy Ruling

	Approvals []Approval
	Version   int64
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

// An Approval is one person's yes, bound to what that person was shown.
type Approval struct {
	UserID   string
	UserName string
	Groups   []string // the approver's groups at the vote
	Comment  string
	Duration time.Duration // what the approver allows; never longer than asked
	Digest   string        // Request.Digest at the time of the vote
	Via      string
	At       time.Time
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
		Rules                                                      SessionRules
		PolicyRule, PolicyDigest, PolicyDecision, RequesterSources string
	}{
		"drawbolt request 1", r.ID, r.RequesterID, r.TargetID, r.TargetAddress, r.Account, r.Role,
		r.TargetKeys, r.TargetVia, r.Made, r.Reason, int64(r.Duration / time.Second), micros(r.Start), r.BreakGlass, r.TicketCheck.shown(), r.Needs, r.Rules,
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

// Approve records a vote. It refuses a vote of the requester, of a bot, a
// second vote of one person, a vote on something else than what the request
// says now, and one that widens. It reports whether the request has all the
// approvals it needs and has become approved.
//
// Whether the approver may vote on this request at all is for the policy,
// which the caller asks first; the votes that were given before are counted by
// the groups their givers have now, which still gives for each voter's id
// (nil: no longer a voter).
func (r *Request) Approve(a Approval, bot bool, groups func(userID string) []string) (bool, error) {
	if r.StateAt(a.At) != Pending {
		return false, r.decided(a.At)
	}
	if a.UserID == r.RequesterID {
		return false, &Error{Kind: ErrDenied, Code: "DB-2002", Text: "nobody approves a request of their own", Rule: "approve.self", Next: "ask one of the approvers: drawbolt status " + r.ID}
	}
	if bot {
		return false, &Error{Kind: ErrDenied, Code: "DB-2003", Text: "a bot cannot approve", Rule: "approve.bot"}
	}
	if slices.ContainsFunc(r.Approvals, func(b Approval) bool { return b.UserID == a.UserID }) {
		return false, &Error{Kind: ErrConflict, Code: "DB-3003", Text: "you have approved " + r.ID + " already; one person counts once"}
	}
	if a.Digest != r.Digest() {
		return false, &Error{Kind: ErrConflict, Code: "DB-3004", Text: r.ID + " is not what you were shown; look at it again", Next: "drawbolt status " + r.ID}
	}
	if a.Duration == 0 {
		a.Duration = r.Duration
	}
	if err := CheckDuration(a.Duration); err != nil {
		return false, err
	}
	if a.Duration > r.Duration {
		return false, Invalid("an approval may shorten the time, not lengthen it: %s was asked for", FormatDuration(r.Duration))
	}
	if err := CheckText("the note", a.Comment, MaxComment); err != nil {
		return false, err
	}
	r.Approvals = append(r.Approvals, a)
	if !r.Satisfied(groups) {
		return false, nil
	}
	return true, r.move(Approved, a.At)
}

// Satisfied reports whether the votes meet every need, where groups gives the
// groups that a voter has now (nil when the voter may not vote any more). One
// person counts once in all needs together; votes for another digest and votes
// of the requester count for none.
func (r *Request) Satisfied(groups func(userID string) []string) bool {
	digest := r.Digest()
	voters := map[string][]string{}
	for _, a := range r.Approvals {
		if a.Digest == digest && a.UserID != r.RequesterID {
			voters[a.UserID] = groups(a.UserID)
		}
	}
	// By Hall's theorem the needs can be met by distinct persons if and only if
	// every set of needs has enough persons who may meet one of them.
	if len(r.Needs) > maxNeeds {
		return false
	}
	for set := 1; set < 1<<len(r.Needs); set++ {
		wanted, persons := 0, 0
		for _, voter := range voters {
			if slices.ContainsFunc(voter, func(g string) bool { return r.wants(set, g) }) {
				persons++
			}
		}
		for i, need := range r.Needs {
			if set&(1<<i) != 0 {
				wanted += need.Count
			}
		}
		if persons < wanted {
			return false
		}
	}
	return true
}

// wants reports whether a need in the set accepts members of the group.
func (r *Request) wants(set int, group string) bool {
	for i, need := range r.Needs {
		if set&(1<<i) != 0 && slices.Contains(need.Groups, group) {
			return true
		}
	}
	return false
}

// Granted is the time that the approvers allow: the shortest of their answers.
func (r *Request) Granted() time.Duration {
	d := r.Duration
	for _, a := range r.Approvals {
		d = min(d, a.Duration)
	}
	return d
}

// Admit moves a request that needs nobody's approval to approved.
func (r *Request) Admit(t time.Time) error {
	if len(r.Needs) > 0 && !r.BreakGlass {
		return &Error{Kind: ErrDenied, Code: "DB-2001", Text: r.ID + " needs approval"}
	}
	return r.move(Approved, t)
}

// Deny ends the request with a no and its reason.
func (r *Request) Deny(by User, note string, t time.Time) error {
	if by.ID == r.RequesterID {
		return &Error{Kind: ErrDenied, Code: "DB-2002", Text: "a request of your own is cancelled, not denied", Rule: "approve.self", Next: "drawbolt cancel " + r.ID}
	}
	if err := CheckReason(note); err != nil {
		return err
	}
	if err := r.move(Denied, t); err != nil {
		return err
	}
	r.DecidedBy, r.Note = by.Name, note
	return nil
}

// Cancel takes the request back; only its requester may.
func (r *Request) Cancel(by User, t time.Time) error {
	if by.ID != r.RequesterID {
		return &Error{Kind: ErrDenied, Code: "DB-2004", Text: "only the requester cancels a request", Rule: "cancel.own"}
	}
	if err := r.move(Cancelled, t); err != nil {
		return err
	}
	r.DecidedBy = by.Name
	return nil
}
