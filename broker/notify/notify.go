// Package notify tells people what concerns them. It follows the audit log from
// a position of its own, makes a Notice of each event that somebody should hear
// of, and hands it to every Channel: chat, mail, webhooks. The log is the
// outbox: a verb sends nothing itself, so what was committed is told also after
// a crash, at worst twice.
//
// It trusts the log and the broker, and nothing that comes back from a channel.
package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/outbound"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A Kind says what happened.
type Kind string

// What people hear of.
const (
	Asked      Kind = "request.asked"     // somebody asks, and people are to decide
	Edited     Kind = "request.edited"    // asked differently; earlier votes are void
	Voted      Kind = "request.voted"     // an approval or a no, and more are needed
	Escalated  Kind = "request.escalated" // nobody decided in time; more people may
	Approved   Kind = "request.approved"  // by people, or by the policy at once
	Denied     Kind = "request.denied"
	Cancelled  Kind = "request.cancelled"
	Questioned Kind = "request.questioned"  // its requester is asked something
	Replied    Kind = "request.answered"    // and has answered
	HandedOver Kind = "request.handed_over" // somebody is called by name to decide
	Expired    Kind = "request.expired"     // nobody decided

	Started  Kind = "grant.started" // first used
	Used     Kind = "grant.used"    // another session began, or one has ended
	Extended Kind = "grant.extended"
	Ended    Kind = "grant.ended" // by time, or given back
	Revoked  Kind = "grant.revoked"

	Digest Kind = "approvals.digest" // what the policy approved by itself in a day

	BreakGlass     Kind = "breakglass"          // taken without approval
	ReviewReminder Kind = "breakglass.reminder" // its review is still open
	Reviewed       Kind = "breakglass.reviewed" // its review was closed
	Unusual        Kind = "session.unusual"     // an alert in a session
	Acknowledged   Kind = "alarm.acknowledged"  // somebody looks after break-glass, or after what is unusual
	Expected       Kind = "alarm.expected"      // what is unusual was to be expected, says somebody
	CampaignDue    Kind = "review.due"          // an access review waits for its owner
	Tampered       Kind = "vault.tampered"      // a record of the vault is not what was written
	// PasswordTrouble: a password that drawbolt changes could not be changed or proved
	// for long, or somebody else had set it.
	PasswordTrouble Kind = "password.trouble"
	// AccountFound: a scan has found accounts of a target, or rights of theirs, that
	// should not wait.
	AccountFound Kind = "account.found"
	// SignInChanged: a person has changed how they sign in; SignInReset: somebody else
	// has, as an administrator does when a device was lost.
	SignInChanged Kind = "signin.changed"
	SignInReset   Kind = "signin.reset"
	PasskeyCopied Kind = "passkey.copied" // the counter of a passkey went back
	Test          Kind = "notify.test"    // an administrator tries a channel
)

// A Notice is one thing that happened, with everything that a message about it
// says. What is told of is as it was when the notice was made, which may be
// later than At: a channel that shows a state shows the newest.
type Notice struct {
	Position int64 // of the event in the audit log; the notices of a channel come in this order
	Kind     Kind
	At       time.Time
	Actor    string // name of who did it; "" when nobody did
	Text     string // the reason or note that was given, as it was typed
	Rule     string // of the policy
	Account  string // account@target; "" when it is of no managed password

	Case      *broker.Case    // the request, and its grant; nil when it is about none
	Requester *access.User    // of the case; nil when it is about none
	Target    *access.Target  // of the case or the session; nil when it is about none
	Session   *access.Session // nil when it is about none
	// For is whom it is for: who is asked, answered or called by name, or who signs in;
	// nil: nobody more than others.
	For *access.User
	// Number is that of the question, or of the session's alarm, that it is about; 0:
	// of none, or of more than one. Of a digest it is how many requests it counts.
	Number int
	// Way is what was done to how For signs in; "": nothing.
	Way string
	// Deciders may decide on the case now; a notice of what is decided has none.
	Deciders []access.User
}

// A Channel is a way to people. Notify is called by one server at a time, in the
// order of the positions, and again with the same notice after an error or a
// crash, so it must not matter how often. A notice that fails while later ones are
// taken comes after these. It returns when the notice was taken by the other side,
// or with why it was not: an error that is ErrRefused when it never will be, and
// perhaps a Later. An error that is a Hold is no failure. It must end soon after ctx. What it says is shown to whoever may
// read how integrations stand, and so must not hold a secret.
type Channel interface {
	Name() string // of letters, digits and dashes; the position is kept under it
	Notify(ctx context.Context, n Notice) error
}

// ErrRefused: the other side would never take the notice, and so it is set aside.
var ErrRefused = errors.New("refused for good")

// Later is an error after which the other side wants to be left alone for a time.
type Later struct {
	Err   error
	After time.Duration // 0: it does not say
}

func (l *Later) Error() string { return l.Err.Error() }
func (l *Later) Unwrap() error { return l.Err }

// Answered returns nil when the other side has taken what it was given over HTTP,
// and otherwise what Notify returns.
func Answered(a outbound.Answer) error {
	switch {
	case a.OK():
		return nil
	case a.ForGood():
		return fmt.Errorf("%w: it answers %d %q", ErrRefused, a.Status, audit.Clean(string(a.Body), maxAnswer))
	default:
		return &Later{fmt.Errorf("it answers %d %q", a.Status, audit.Clean(string(a.Body), maxAnswer)), a.After()}
	}
}

// maxAnswer is how much of an answer an error repeats, in bytes.
const maxAnswer = 200
