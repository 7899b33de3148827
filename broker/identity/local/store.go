package local

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A Credential is what the broker keeps to recognise a user by itself.
type Credential struct {
	UserID      string
	Hash        string // argon2id in PHC form; empty: no password yet
	ChangedAt   time.Time
	TOTP        []byte    // sealed secret of the confirmed authenticator; nil: none
	TOTPStep    int64     // the last time step whose code was used
	PendingTOTP []byte    // sealed secret that was shown and not yet confirmed; nil: none
	TakenAt     time.Time // when somebody took a second factor away that was lost; zero: never
}

// A Setup is a link that lets the person who holds it set the password of one
// user, once.
type Setup struct {
	Hash      []byte // SHA-256 of the token; the key
	UserID    string
	CreatedAt time.Time
	ExpiresAt time.Time
}

// A Counter counts the tries that went wrong under one key. The zero Counter
// (but for its Key) stands for one that is not there.
type Counter struct {
	Key          string
	Failures     int
	CountedAt    time.Time // when Failures was last right; it decays from there
	BlockedUntil time.Time
	GoodAt       time.Time // the last good login, in counters of a user and a source
	ExpiresAt    time.Time // from when on the counter says nothing any more
}

// A Failure is one refused login, for the audit log.
type Failure struct {
	UserID string // empty: no such user. The name that was typed is not kept: people type passwords there
	Source string
	Reason string // "unknown user", "no password", "password", "code", "code used", "passkey", "locked", "blocked"
	At     time.Time
}

// Store keeps credentials, setup links and counters. Implementations are safe
// for concurrent use, make each method one transaction, write the audit event
// of each change in that transaction (except where it says none), and return
// errors that match access.ErrNotFound and access.ErrConflict where the
// contract names them. identitytest.Run holds them to it.
type Store interface {
	PasskeyStore

	// User returns the user with this id, or ErrNotFound.
	User(ctx context.Context, id string) (access.User, error)

	// UserByName returns the user with this name, or ErrNotFound.
	UserByName(ctx context.Context, name string) (access.User, error)

	// Credential returns the credential of a user, or ErrNotFound when the user
	// has none.
	Credential(ctx context.Context, userID string) (Credential, error)

	// SetPassword saves a hash, creating the credential where there is none,
	// revokes every login of the user but by.Login, and deletes the user's
	// setup links and the devices the user has confirmed and not yet claimed.
	// It touches no authenticator. ErrNotFound when there is no such user.
	SetPassword(ctx context.Context, by access.Caller, userID, hash string, at time.Time) error

	// Rehash replaces the hash if it still is old, else returns ErrConflict.
	// The password is the same: no event, no login is revoked.
	Rehash(ctx context.Context, userID, old, new string) error

	// SetPendingTOTP saves the sealed secret of an authenticator that is not
	// confirmed, in place of any earlier one. ErrNotFound when the user has no
	// credential.
	SetPendingTOTP(ctx context.Context, by access.Caller, userID string, sealed []byte) error

	// ConfirmTOTP makes the pending secret the current one, with step as its
	// last used step, if it still is sealed byte for byte; else ErrConflict.
	ConfirmTOTP(ctx context.Context, by access.Caller, userID string, sealed []byte, step int64) error

	// RemoveFactor forgets a second factor of a user, by its id: a passkey, or TOTP,
	// which goes with one that waits to be confirmed. ErrNotFound when there is none.
	// Unless the last one that works may go, that is ErrConflict: of two calls at once
	// for the last two, one succeeds.
	RemoveFactor(ctx context.Context, by access.Caller, userID, id string, last bool) error

	// TakeFactor is RemoveFactor of what somebody has lost, whichever it is. It
	// revokes every login of the user, deletes the user's setup links and the devices
	// the user has confirmed, and saves l.At as Credential.TakenAt. ErrConflict when
	// the password was chosen later than l.NotSince.
	TakeFactor(ctx context.Context, by access.Caller, l Lost) error

	// UseTOTPStep sets TOTPStep to step if the current secret still is sealed
	// and step is greater than TOTPStep (UPDATE ... WHERE totp_step < step),
	// else returns ErrConflict: of any number of parallel calls with one step,
	// exactly one succeeds. No event: the login that follows has one.
	UseTOTPStep(ctx context.Context, userID string, sealed []byte, step int64) error

	// CreateSetup saves a link in place of every earlier link of the user.
	// ErrNotFound when there is no such user, ErrConflict when a second factor was
	// taken from the user later than notSince.
	CreateSetup(ctx context.Context, by access.Caller, s Setup, notSince time.Time) error

	// Setup returns the link with this hash if it has not expired at now, else
	// ErrNotFound.
	Setup(ctx context.Context, hash []byte, now time.Time) (Setup, error)

	// UseSetup deletes the link with this hash if it has not expired at now
	// (DELETE ... RETURNING) and does for its user what SetPassword does, in
	// one transaction. by names the source; the person is the link's user.
	// Exactly one call for a link succeeds, the others return ErrNotFound.
	UseSetup(ctx context.Context, by access.Caller, hash []byte, passwordHash string, now time.Time) error

	// Counters returns the counters with these keys, in this order.
	Counters(ctx context.Context, keys []string) ([]Counter, error)

	// UpdateCounters reads the counters with these keys, in this order, calls
	// fn, and saves what fn has left in the slice, in one transaction that
	// excludes every other on these keys. When fn returns an error nothing is
	// saved and that error is returned. fn does no I/O, may be called again
	// when the transaction is retried, and does not change Key. Counters are
	// not evidence: no event.
	UpdateCounters(ctx context.Context, keys []string, fn func([]Counter) error) error

	// LoginFailed writes the audit event of a refused login.
	LoginFailed(ctx context.Context, f Failure) error

	// PruneLocal deletes the counters, links and challenges that expired before the
	// time.
	// No event.
	PruneLocal(ctx context.Context, before time.Time) error
}
