package access

import (
	"fmt"
	"math/rand/v2"
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
	AfterUse  bool      // it is changed after each session
	HeldUntil time.Time // until then somebody may be using the password: only some causes change it
	ProveAt   time.Time // a login is to prove it from then on
	ChangedAt time.Time // zero: never by us
	ProvedAt  time.Time // of the last login that proved it; zero: none

	// Of what is being done, or is to be done next.
	Tries   int64     // that failed, one after the other
	Since   time.Time // of the first of them; zero: none failed
	Problem string    // of the last of them
	NextAt  time.Time // no further try before
	// AlarmedAt is when people were last told that it does not work.
	AlarmedAt time.Time
	Node      string    // the server that is at it
	Until     time.Time // no other server begins before
	Version   int64
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

// StateAt says in a word how the password stands at t.
func (r *Rotation) StateAt(t time.Time) string {
	switch {
	case t.Before(r.Until):
		return "working"
	case r.Tries > 0:
		return "failing"
	case r.Changes(t):
		return "due"
	case t.Before(r.HeldUntil):
		return "held"
	default:
		return "ok"
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

// Of the waits after tries that failed: three tries in any hour.
func waitAfter(tries int64) time.Duration {
	switch tries {
	case 1:
		return time.Minute // an answer may only have been unclear
	case 2:
		return 19 * time.Minute
	case 3:
		return 40 * time.Minute
	default:
		return 20 * time.Minute
	}
}

// proveAgain is when a login proves the password again: within a day, and not that of
// all accounts at one time.
func proveAgain(t time.Time) time.Time {
	return t.Add(proveEvery - rand.N(proveEvery/4))
}

// Did ends what was begun: a login has proved the password. It was changed or not, and
// is to be changed again every so often; 0: not by schedule. When somebody wants it
// changed meanwhile (asked) that stays.
func (r *Rotation) Did(changed, asked bool, every time.Duration, t time.Time) {
	if changed {
		r.ChangedAt = t
		if !asked {
			r.DueAt, r.Cause = time.Time{}, ""
		}
	}
	if r.DueAt.IsZero() && every > 0 {
		r.DueAt, r.Cause = r.ChangedAt.Add(every), CauseSchedule
	}
	r.ProvedAt, r.ProveAt = t, proveAgain(t)
	r.Tries, r.Since, r.Problem, r.NextAt, r.AlarmedAt = 0, time.Time{}, "", time.Time{}, time.Time{}
	r.Abandon()
}

// Fail ends what was begun without success. It is tried again later, and not before
// that moment.
func (r *Rotation) Fail(problem string, notBefore, t time.Time) {
	r.Abandon()
	if r.Tries++; r.Since.IsZero() {
		r.Since = t
	}
	r.Problem, r.NextAt = problem, t.Add(waitAfter(r.Tries))
	if notBefore.After(r.NextAt) {
		r.NextAt = notBefore
	}
}

// Postpone ends what was begun because nothing can be done before that moment, which is
// nobody's fault.
func (r *Rotation) Postpone(until time.Time) {
	r.Abandon()
	r.NextAt = until
}

// alarmEvery is how often people are told of what does not work.
const alarmEvery = 24 * time.Hour

// Alarm reports whether people are to be told at t that it has failed for at least d,
// and notes that they are.
func (r *Rotation) Alarm(d time.Duration, t time.Time) bool {
	if r.Since.IsZero() || t.Sub(r.Since) < d || !r.AlarmedAt.IsZero() && t.Sub(r.AlarmedAt) < alarmEvery {
		return false
	}
	r.AlarmedAt = t
	return true
}

// Abandon ends the lease of a server that is gone.
func (r *Rotation) Abandon() { r.Node, r.Until = "", time.Time{} }
