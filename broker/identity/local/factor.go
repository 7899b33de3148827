package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// TOTP is the id of a user's authenticator among their second factors; those of the
// others are those of passkeys.
const TOTP = "totp"

// RecoveryRest is the time that lies between the two halves of letting somebody in
// anew: a second factor that was lost is taken away, and a password is chosen by a
// link. Who could have both at once would be that person before they hear of the
// first.
const RecoveryRest = 24 * time.Hour

// Lost is a second factor that its person has lost.
type Lost struct {
	UserID   string
	ID       string // of a passkey, or TOTP
	Reason   string // why it is taken away; the person is told
	At       time.Time
	NotSince time.Time // the password must be older
}

// errTaken and errYoung say from when on the other half is possible.
func (p *Provider) errTaken(ctx context.Context, userID string) error {
	c, err := p.c.Store.Credential(ctx, userID)
	if err != nil {
		return fmt.Errorf("read credential: %w", err)
	}
	return &access.Error{
		Kind: access.ErrConflict, Code: "DB-6570", Rule: "factor.taken",
		Text: "a second factor was taken from them, and nobody has both of their factors made anew in one day: a link for a password is possible from " + moment(c.TakenAt) + " on",
		Next: "wait until then",
	}
}

func (p *Provider) errYoung(ctx context.Context, userID string) error {
	c, err := p.c.Store.Credential(ctx, userID)
	if err != nil {
		return fmt.Errorf("read credential: %w", err)
	}
	return &access.Error{
		Kind: access.ErrConflict, Code: "DB-6571", Rule: "factor.young",
		Text: "their password was chosen lately, and nobody has both of their factors made anew in one day: a second factor can be taken away from " + moment(c.ChangedAt) + " on",
		Next: "wait until then; to keep somebody out meanwhile: drawbolt user lock",
	}
}

func moment(since time.Time) string {
	return since.Add(RecoveryRest).UTC().Format("2006-01-02 15:04:05 UTC")
}

func errNoFactor() error {
	return &access.Error{Kind: access.ErrNotFound, Code: "DB-6310", Text: "there is no such second factor", Next: "drawbolt user factor ls"}
}

// RemoveFactor forgets a second factor of the caller, who has just signed in: a
// passkey by its id, or TOTP. needed is the role of theirs that wants one, for which
// one must stay; empty: the last one may go.
func (p *Provider) RemoveFactor(ctx context.Context, by access.Caller, signedIn time.Time, id, needed string) error {
	if err := p.fresh(ctx, by, signedIn); err != nil {
		return err
	}
	err := p.c.Store.RemoveFactor(ctx, by, by.User.ID, id, needed == "")
	switch {
	case errors.Is(err, access.ErrConflict):
		return &access.Error{Kind: access.ErrConflict, Code: "DB-6308", Rule: needed, Text: "your role " + needed + " needs a second factor, and this is your last one", Next: "add another passkey or an authenticator first"}
	case errors.Is(err, access.ErrNotFound):
		return errNoFactor()
	case err != nil:
		return fmt.Errorf("remove second factor: %w", err)
	}
	return nil
}

// TakeFactor takes a second factor away that a user has lost, which ends all their
// logins. The policy must have been asked before: when it was the last one, the
// password alone is enough for the user's next login. So it must be older than
// RecoveryRest, whoever has set it.
func (p *Provider) TakeFactor(ctx context.Context, by access.Caller, userID, id, reason string) error {
	if err := access.CheckReason(reason); err != nil {
		return err
	}
	now := p.now()
	err := p.c.Store.TakeFactor(ctx, by, Lost{UserID: userID, ID: id, Reason: reason, At: now, NotSince: now.Add(-RecoveryRest)})
	switch {
	case errors.Is(err, access.ErrConflict):
		return p.errYoung(ctx, userID)
	case errors.Is(err, access.ErrNotFound):
		return errNoFactor()
	case err != nil:
		return fmt.Errorf("take second factor: %w", err)
	}
	return nil
}
