package access

import (
	"fmt"
	"slices"
	"time"
)

// A SessionState is where a session stands.
type SessionState string

// The states of a session.
const (
	Opening SessionState = "opening"
	Open    SessionState = "open"
	Closed  SessionState = "closed"
)

var nextSession = map[SessionState][]SessionState{
	Opening: {Open, Closed},
	Open:    {Closed},
}

// A Session is one use of a grant: one shell or one command.
type Session struct {
	ID         string
	GrantID    string
	RequestID  string
	UserID     string
	UserName   string
	TargetID   string
	TargetName string
	Account    string
	Kind       string // "shell", "exec" or "forward"
	Command    string // of an exec
	Source     string // the peer's address
	Client     string // the client's version string, as it said
	Node       string // the server that carries it
	State      SessionState
	OpenedAt   time.Time
	ClosedAt   time.Time
	EndReason  string // "exited", "expired", "revoked", "released", "locked", "aborted", "failed", ...
	ExitStatus *int
	Serial     uint64 // of the certificate that was used
	Recording  Sealed
	Labels     Labels    // of the target when the session was opened
	DeletedAt  time.Time // when the recording was deleted; zero: it was not
	Deletion   Deletion
	// Risks say why somebody should look at it, such as RiskBreakGlass.
	Risks   []string
	Alarms  []Alarm // what its rules found, in order; not for the eyes of its user
	Version int64
}

// The risks of a session, the greatest first.
const (
	RiskBreakGlass = "break-glass" // nobody approved it
	RiskDetected   = "detected"    // a command was seen that the role looks for
	RiskTierZero   = "tier-0"      // the target is one of those that everything depends on
	RiskFourEyes   = "four-eyes"   // it needs somebody who watches
)

// Sealed names a sealed recording and what proves it.
type Sealed struct {
	Name    string // in the sink
	SHA256  string // of the sealed file, hex
	Size    int64
	Events  int64
	Aborted bool // the server died in mid-session
}

// Move changes the state; a move that is not in the table is refused.
func (s *Session) Move(to SessionState) error {
	if !slices.Contains(nextSession[s.State], to) {
		return &Error{Kind: ErrConflict, Code: "DB-3006", Text: fmt.Sprintf("session %s is %s and cannot become %s", s.ID, s.State, to)}
	}
	s.State = to
	return nil
}
