// Package identity says who is calling: it issues the tokens that people carry
// after they have logged in, turns a token back into an access.Caller, and runs
// the browser flow by which the command line client logs in.
//
// A token is a signed pointer to a stored login, nothing more. Every use reads
// the login and its user again, so a revocation, a lock or a change of groups
// holds from the next call on, and somebody who can write the database but does
// not have the signing key can at most take logins away or change to whom an
// existing token belongs.
//
// It trusts its caller for the source address and for having asked the policy
// where a method says so; it trusts its Store for single use (each contract
// says "exactly one"). It does not check passwords or codes: that is done by a
// source such as identity/local. It does not decide what a caller may do.
package identity

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A Login is one login of one person, from one place, until it expires or is
// revoked. Its times are UTC and hold to the microsecond at least.
type Login struct {
	ID        string // access.LoginPrefix
	UserID    string
	IssuedAt  time.Time
	ExpiresAt time.Time
	MFAAt     time.Time // when the second factor was last shown; zero: never in this login
	RevokedAt time.Time // zero: not revoked
	Source    string    // the address it came from, to show
	Via       string    // "cli", "web", "ssh"
}

// A Device is a command line client that waits for its person to confirm it in
// the browser.
type Device struct {
	Code       string // what the person reads and compares, KQTW-7JPD; the key
	SecretHash []byte // SHA-256 of the secret that only the client has; unique
	Client     string // what the client says it is, to show; not proven
	Source     string // where the client called from, to show
	Origin     string // Source as it is counted: the address, or its /64
	CreatedAt  time.Time
	ExpiresAt  time.Time

	// Set by the confirmation, empty before.
	UserID string
	MFAAt  time.Time // the second factor of the login that confirmed
}

// Store keeps logins and devices. Implementations are safe for concurrent use,
// make each method one transaction, write the audit event of each change in
// that transaction, and return errors that match access.ErrNotFound,
// access.ErrConflict and so on where the contract names them. Slices that are
// passed in or returned are not shared. Whatever locks a user also does what
// RevokeLogins does, in the same transaction: a lock that is lifted again gives
// no token back. identitytest.Run holds them to it.
type Store interface {
	// User returns the user with this id, or ErrNotFound.
	User(ctx context.Context, id string) (access.User, error)

	// CreateLogin saves a new login. ErrDenied when the user does not exist, is
	// locked at that moment, or is the emergency user; ErrConflict when the id is
	// taken.
	CreateLogin(ctx context.Context, l Login) error

	// Login returns a login and its user, both as they are now, read together.
	// ErrNotFound when there is no such login or its user is gone. Expired and
	// revoked logins are returned.
	Login(ctx context.Context, id string) (Login, access.User, error)

	// LoginsOf returns the logins of a user that are neither revoked nor
	// expired at now, newest first.
	LoginsOf(ctx context.Context, userID string, now time.Time) ([]Login, error)

	// SetLoginMFA records that the second factor was shown again in a login.
	// MFAAt never moves back. ErrNotFound when the login does not exist or is
	// revoked.
	SetLoginMFA(ctx context.Context, by access.Caller, id string, at time.Time) error

	// RevokeLogin ends one login for good. It is no error (and no event, and
	// RevokedAt stays) when it is revoked already; ErrNotFound when there is
	// none.
	RevokeLogin(ctx context.Context, by access.Caller, id string, at time.Time) error

	// RevokeLogins ends every login of a user, deletes every device that the
	// user has confirmed and not yet claimed, and returns how many logins it
	// ended. None is no error.
	RevokeLogins(ctx context.Context, by access.Caller, userID string, at time.Time) (int, error)

	// PruneLogins deletes the logins and devices that expired before the time.
	// It writes no event: the log already says when each was to end.
	PruneLogins(ctx context.Context, before time.Time) error

	// CreateDevice saves a device that nobody has confirmed. Counting only
	// devices that have not expired at d.CreatedAt, it returns ErrUnavailable
	// when perOrigin of the same Origin or all in total are there already.
	// ErrConflict when the code or the secret hash is taken by a device that
	// has not expired; one that has expired is replaced.
	CreateDevice(ctx context.Context, d Device, perOrigin, all int) error

	// DeviceByCode returns the device with this code if nobody has confirmed it
	// and it has not expired at now, else ErrNotFound.
	DeviceByCode(ctx context.Context, code string, now time.Time) (Device, error)

	// ConfirmDevice sets UserID and MFAAt (from by) of the device with this
	// code. Exactly one call for a device succeeds; the others, and calls for a
	// device that has expired at now or does not exist, return ErrNotFound.
	ConfirmDevice(ctx context.Context, by access.Caller, code string, now time.Time) error

	// DenyDevice deletes the device with this code if nobody has confirmed it,
	// else returns ErrNotFound.
	DenyDevice(ctx context.Context, by access.Caller, code string, now time.Time) error

	// ClaimDevice returns the device with this secret hash if it has not
	// expired at now, else ErrNotFound. A device that is confirmed is deleted
	// by the same statement (DELETE ... RETURNING), so exactly one call gets
	// it; one that is not (UserID empty) is left as it is.
	ClaimDevice(ctx context.Context, secretHash []byte, now time.Time) (Device, error)
}
