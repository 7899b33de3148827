package access

import "time"

// A Bootstrap is the right of a script at a target to have the target checked
// and to tell its host keys, until a login has been proven. A target has at most
// one: the next takes the place of the last.
type Bootstrap struct {
	TargetID string
	UserID   string // who made it; it is worth what that person may do
	Token    string // SHA-256 of what the script bears, in hex
	// MFAAt is when who made it had shown a second factor.
	MFAAt     time.Time
	CreatedAt time.Time
	ExpiresAt time.Time
	ProvenAt  time.Time
	Tries     int64
	Version   int64
}

// Bounds of a bootstrap.
const (
	BootstrapTTL      = time.Hour
	MaxBootstrapTries = 200 // a script asks every few seconds, for two minutes
)

// Use counts a use at t. One that has proven a login is over, as is one that has
// expired or was used too often.
func (b *Bootstrap) Use(t time.Time) error {
	if !b.ProvenAt.IsZero() || !t.Before(b.ExpiresAt) || b.Tries >= MaxBootstrapTries {
		return &Error{Kind: ErrUnauthenticated, Code: "DB-4030", Text: "the token of this bootstrap has been used, or has expired", Next: "drawbolt target bootstrap TARGET"}
	}
	b.Tries++
	return nil
}

// Prove ends it.
func (b *Bootstrap) Prove(t time.Time) { b.ProvenAt = t }
