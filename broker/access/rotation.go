package access

import (
	"fmt"
	"time"
)

// A Cause is why the password of an account is to be changed.
type Cause string

// The causes. The password is changed sooner for some than for others; see
// Rotation.Urgency.
const (
	CauseTaken    Cause = "taken over" // it is ours from now on
	CauseDemand   Cause = "demand"     // somebody wants it
	CauseLeft     Cause = "left"       // somebody who has seen it is locked
	CauseUse      Cause = "use"        // a session or a check-out has ended
	CauseRead     Cause = "read"       // an operator has read all that may be in force
	CauseSchedule Cause = "schedule"   // it is old enough
)

// A Rotation is how the password of a managed account stands: when it is to be
// changed or proved, and how the last tries went. The password itself does not stand
// here.
type Rotation struct {
	ID         string // target/account
	TargetID   string
	TargetName string
	Account    string

	DueAt     time.Time // the password is to be changed from then on; zero: it is not
	Cause     Cause     // of DueAt
	HeldUntil time.Time // until then somebody may be using the password: only some causes change it
	ProveAt   time.Time // a login is to prove it from then on
	ChangedAt time.Time // zero: never by us
	ProvedAt  time.Time // of the last login that proved it; zero: none

	// Of what is being done, or is to be done next.
	Tries   int64     // that failed, one after the other
	Since   time.Time // of the first of them; zero: none failed
	Problem string    // of the last of them
	NextAt  time.Time // no further try before
	Node    string    // the server that is at it
	Until   time.Time // no other server begins before
	Version int64
}

// RotationLease is how long a server has for one change or proof. It is longer than
// the lease in which package rotate lets it send anything.
const RotationLease = 3 * time.Minute

// proveEvery is how often a login proves the password.
const proveEvery = 24 * time.Hour

// RotationID is the id of the rotation of an account.
func RotationID(targetID, account string) string { return targetID + "/" + account }

// Due says that the password is to be changed at a moment. An earlier one stays, if it
// is not for a cause that has to wait for whoever has the password.
func (r *Rotation) Due(why Cause, at time.Time) {
	if r.DueAt.IsZero() || at.Before(r.changeAt()) || presses(why) && !presses(r.Cause) {
		r.DueAt, r.Cause = at, why
	}
}

// presses reports whether the password is changed under the hands of who has it.
func presses(why Cause) bool { return why == CauseDemand || why == CauseLeft || why == CauseTaken }

// changeAt is when the password is to be changed; the zero time: not at all.
func (r *Rotation) changeAt() time.Time {
	if !r.DueAt.IsZero() && !presses(r.Cause) && r.DueAt.Before(r.HeldUntil) {
		return r.HeldUntil
	}
	return r.DueAt
}

// Changes reports whether at t the password is to be changed; otherwise it is proved.
func (r *Rotation) Changes(t time.Time) bool {
	at := r.changeAt()
	return !at.IsZero() && !t.Before(at)
}

// BeginAt is before when a server has nothing to do for the account.
func (r *Rotation) BeginAt() time.Time {
	at := r.ProveAt
	if change := r.changeAt(); !change.IsZero() && (at.IsZero() || change.Before(at)) {
		at = change
	}
	for _, t := range []time.Time{r.NextAt, r.Until} {
		if t.After(at) {
			at = t
		}
	}
	return at
}

// Urgency orders what is due at one time: what somebody may know who should not any
// more comes before what is only old, and a change before a proof.
func (r *Rotation) Urgency() int64 {
	switch {
	case r.DueAt.IsZero() || r.Cause == CauseSchedule && r.ProveAt.Before(r.changeAt()):
		return 2
	case r.Cause == CauseSchedule:
		return 1
	default:
		return 0
	}
}

// Begin takes the account for a server until the lease is over.
func (r *Rotation) Begin(node string, t time.Time) error {
	if t.Before(r.Until) {
		return &Error{Kind: ErrConflict, Code: "DB-6401", Text: fmt.Sprintf("the password of %s@%s is being worked on", r.Account, r.TargetName), Next: "try again in a minute"}
	}
	if t.Before(r.BeginAt()) {
		return &Error{Kind: ErrConflict, Code: "DB-6402", Text: fmt.Sprintf("there is nothing to do for the password of %s@%s before %s", r.Account, r.TargetName, r.BeginAt().UTC().Format(time.RFC3339))}
	}
	r.Node, r.Until = node, t.Add(RotationLease)
	return nil
}

// Abandon ends the lease of a server that is gone.
func (r *Rotation) Abandon() { r.Node, r.Until = "", time.Time{} }
