package access

import (
	"fmt"
	"time"
)

// A Lease is the secret of an account in the hands of a person: it was shown to
// them, once, under a grant of theirs. While it lasts nobody else uses the account.
// It is over when they check it in, when somebody takes it back, and with the grant.
type Lease struct {
	ID         string
	GrantID    string
	RequestID  string
	UserID     string
	UserName   string
	TargetID   string
	TargetName string
	Account    string
	Credential string // what was shown: [CredentialPassword] or [CredentialKey]
	Secret     int64  // its version
	Managed    bool   // the server puts another in its place afterwards
	Reason     string
	Source     string // address to which it was shown
	Via        string
	At         time.Time
	Until      time.Time // the end of the grant

	EndedAt   time.Time // zero: nobody and nothing has ended it
	EndReason EndReason
	EndedBy   string // name
	Version   int64
}

// The reasons for which a lease ends, besides those of its grant.
const (
	EndCheckedIn EndReason = "checked-in"
	EndLocked    EndReason = "locked" // its user or its target
)

// ActiveAt reports whether the secret is lent at t.
func (l *Lease) ActiveAt(t time.Time) bool { return l.EndedAt.IsZero() && t.Before(l.Until) }

// End ends the lease. One that is over already is ErrConflict.
func (l *Lease) End(reason EndReason, by string, t time.Time) error {
	if !l.EndedAt.IsZero() {
		return &Error{Kind: ErrConflict, Code: "DB-6430", Text: fmt.Sprintf("%s@%s was checked in already by %s; nothing changed", l.Account, l.TargetName, l.EndedBy)}
	}
	l.EndedAt, l.EndReason, l.EndedBy = t, reason, by
	return nil
}

// Taken refuses the account to whoever does not have the lease.
func (l *Lease) Taken() error {
	return &Error{Kind: ErrConflict, Code: "DB-6431", Rule: "checkout.exclusive",
		Text: fmt.Sprintf("%s has checked %s@%s out until %s, and nobody else uses it until then", l.UserName, l.Account, l.TargetName, l.Until.UTC().Format(time.RFC3339)),
		Next: "ask " + l.UserName + " to run: drawbolt checkin " + l.TargetName + " --as " + l.Account}
}
