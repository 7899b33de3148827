package access

import (
	"fmt"
	"time"
)

// MaxDelegation is for how long, at most, somebody hands their votes over.
const MaxDelegation = 30 * 24 * time.Hour

// A Delegation hands the votes of one person to another while they are away. The
// delegate votes as themselves, and the vote counts with the groups that the
// other has at each moment. It does not go on to anybody else: whoever stands for
// somebody has that one's groups and not those that they stand for.
type Delegation struct {
	UserID       string // who is away; one at a time
	UserName     string
	DelegateID   string
	DelegateName string
	From, Until  time.Time
	Reason       string
	Version      int64
}

// Validate checks what comes from outside, at t.
func (d *Delegation) Validate(t time.Time) error {
	switch {
	case d.From.Before(t.Add(-time.Minute)) || d.From.After(t.Add(MaxScheduled)):
		return Invalid("a delegation begins now or within the next 90 days")
	case !d.Until.After(d.From) || !d.Until.After(t):
		return Invalid("a delegation ends after it begins, and after now")
	case d.Until.Sub(d.From) > MaxDelegation:
		return Invalid("votes are handed over for at most %d days", MaxDelegation/(24*time.Hour))
	case d.UserID == d.DelegateID:
		return Invalid("name somebody else who votes while you are away")
	}
	return CheckText("the reason", d.Reason, MaxComment)
}

// ActiveAt reports whether the delegate votes for the user at t.
func (d *Delegation) ActiveAt(t time.Time) bool { return !t.Before(d.From) && t.Before(d.Until) }

// String says who votes for whom.
func (d *Delegation) String() string {
	return fmt.Sprintf("%s votes for %s from %s to %s", d.DelegateName, d.UserName, d.From.UTC().Format(time.RFC3339), d.Until.UTC().Format(time.RFC3339))
}
