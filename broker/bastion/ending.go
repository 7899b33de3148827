package bastion

import (
	"context"
	"errors"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// A Reason is why a session ended, as it is kept and shown.
type Reason string

// The reasons for which a session ends.
const (
	ReasonExited     Reason = "exited"     // the program ended
	ReasonAborted    Reason = "aborted"    // the user's side went away
	ReasonFailed     Reason = "failed"     // the target could not be reached, or went away
	ReasonExpired    Reason = "expired"    // the grant's time was up
	ReasonRevoked    Reason = "revoked"    // somebody took the grant away
	ReasonReleased   Reason = "released"   // the holder gave it back
	ReasonLocked     Reason = "locked"     // the user or the target was locked
	ReasonTerminated Reason = "terminated" // somebody cut this session
	ReasonRefused    Reason = "refused"    // the policy, asked again, says no
	ReasonDoubt      Reason = "doubt"      // revocations could not be read
	ReasonIdle       Reason = "idle"       // no data for too long
	ReasonDetected   Reason = "detected"   // a command at which the role ends sessions
	ReasonUnwatched  Reason = "unwatched"  // nobody watched, and somebody had to
	ReasonRecording  Reason = "recording"  // the recording failed
	ReasonStopped    Reason = "stopped"    // the server stops
	ReasonFault      Reason = "fault"      // a bug of ours
)

// Causes with which a session's context ends, besides those of the broker's.
var (
	// ErrGone: the user's side of the connection is gone.
	ErrGone = errors.New("the client has gone")
	// ErrStopped: the server stops.
	ErrStopped = &access.Error{Kind: access.ErrUnavailable, Code: "DB-5402", Text: "the bastion is being stopped"}
	// ErrIdle: no data for too long.
	ErrIdle = &access.Error{Kind: access.ErrDenied, Code: "DB-2403", Text: "nothing was typed or shown for too long", Rule: "session.idle"}
	// ErrDetected: a command was seen at which the role ends sessions.
	ErrDetected = &access.Error{Kind: access.ErrDenied, Code: "DB-2407", Text: "the role ends sessions at this command; it is on record", Rule: "session.detect"}
	// ErrNoRecording: a recording could not be started or kept up.
	ErrNoRecording = &access.Error{Kind: access.ErrUnavailable, Code: "DB-5403", Text: "the session cannot be recorded, so there is none"}
	// ErrFault: a bug of ours; the log has it.
	ErrFault = &access.Error{Kind: access.ErrUnavailable, Code: "DB-5404", Text: "an internal error ended the session"}

	errOver = errors.New("the session is over")
)

// causes maps the cause of an end to its reason; the first match counts.
var causes = []struct {
	err    error
	reason Reason
}{
	{ErrNoRecording, ReasonRecording},
	{ErrFault, ReasonFault},
	{broker.ErrRevoked, ReasonRevoked},
	{broker.ErrReleased, ReasonReleased},
	{broker.ErrLocked, ReasonLocked},
	{broker.ErrTerminated, ReasonTerminated},
	{broker.ErrExpired, ReasonExpired},
	{broker.ErrRefused, ReasonRefused},
	{broker.ErrDoubt, ReasonDoubt},
	{broker.ErrUnwatched, ReasonUnwatched},
	{ErrIdle, ReasonIdle},
	{ErrDetected, ReasonDetected},
	{ErrStopped, ReasonStopped},
	{ErrGone, ReasonAborted},
	{context.Canceled, ReasonAborted},
}

// An Ending says how a session ended.
type Ending struct {
	Reason     Reason
	ExitStatus *int  // of the program, when it ended by itself
	Cause      error // what ended it from outside or went wrong; nil when exited
}

// reasonOf gives the reason for a cause; an unknown cause is a failure.
func reasonOf(cause error) Reason {
	for _, c := range causes {
		if errors.Is(cause, c.err) {
			return c.reason
		}
	}
	return ReasonFailed
}

// ending tells what ended the session: the first cause from outside, or what
// went wrong, or else the program itself. A client that leaves when it has its
// exit status did not abort anything.
func (s *Session) ending(status *int) Ending {
	cause := context.Cause(s.ctx)
	if errors.Is(cause, errOver) || errors.Is(cause, ErrGone) && status != nil {
		return Ending{Reason: ReasonExited, ExitStatus: status}
	}
	return Ending{Reason: reasonOf(cause), ExitStatus: status, Cause: cause}
}

// unrecorded is what the user reads; the cause goes to the log.
func unrecorded(err error) error {
	return &unrecordedError{cause: err}
}

type unrecordedError struct{ cause error }

func (e *unrecordedError) Error() string   { return ErrNoRecording.Text + ": " + e.cause.Error() }
func (e *unrecordedError) Unwrap() []error { return []error{ErrNoRecording, e.cause} }
