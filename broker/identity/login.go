package identity

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// Config configures Logins.
type Config struct {
	Store    Store
	Codes    CodeStore          // of sealed codes; nil: there are none
	Key      ed25519.PrivateKey // signs the tokens; a new key ends every login
	Issuer   string             // who signs, such as https://gw.example.com
	Audience string             // default: Issuer
	TTL      time.Duration      // how long a login lasts; default 12 h, at most 7 days
	Now      func() time.Time   // default time.Now
}

// Logins issues tokens, checks them and revokes them. It is safe for
// concurrent use.
type Logins struct{ c Config }

// MaxTTL is the longest that a login may last.
const MaxTTL = 7 * 24 * time.Hour

// New checks the configuration.
func New(c Config) (*Logins, error) {
	if c.Audience == "" {
		c.Audience = c.Issuer
	}
	if c.TTL == 0 {
		c.TTL = 12 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case c.Store == nil:
		return nil, errors.New("identity: no store")
	case len(c.Key) != ed25519.PrivateKeySize:
		return nil, fmt.Errorf("identity: the signing key has %d bytes, want %d", len(c.Key), ed25519.PrivateKeySize)
	case c.Issuer == "":
		return nil, errors.New("identity: no issuer")
	case c.TTL < time.Minute || c.TTL > MaxTTL:
		return nil, fmt.Errorf("identity: a login may last between a minute and %v, not %v", MaxTTL, c.TTL)
	}
	return &Logins{c}, nil
}

func (l *Logins) now() time.Time { return l.c.Now().UTC().Truncate(time.Microsecond) }

// notLoggedIn is the one answer to every token that does not hold; why is for
// the log only, and its kind is not that of the answer.
func notLoggedIn(why error) error {
	return fmt.Errorf("%w (%v)", &access.Error{
		Kind: access.ErrUnauthenticated, Code: "DB-4001",
		Text: "you are not logged in, or your login has ended", Next: "drawbolt login",
	}, why)
}

// Issue saves a new login of a user who has just proven who they are, and
// returns the token that stands for it. mfaAt is when the second factor was
// shown, zero if it was not. A user who is locked or gone gets ErrDenied, and so
// does the emergency user, whom only OpenWithCodes lets in.
func (l *Logins) Issue(ctx context.Context, user access.User, source netip.Addr, via string, mfaAt time.Time) (token string, login Login, err error) {
	now := l.now()
	login = Login{
		ID:        access.NewID(access.LoginPrefix),
		UserID:    user.ID,
		IssuedAt:  now,
		ExpiresAt: now.Add(l.c.TTL),
		MFAAt:     mfaAt,
		Source:    source.String(),
		Via:       via,
	}
	// Saved first: a token without its login opens nothing, so a crash
	// between the two leaves a login that nobody can use.
	if err := l.c.Store.CreateLogin(ctx, login); err != nil {
		return "", Login{}, fmt.Errorf("save login: %w", err)
	}
	token, err = l.sign(login)
	if err != nil {
		return "", Login{}, fmt.Errorf("sign login %s: %w", login.ID, err)
	}
	return token, login, nil
}

// Verify returns who carries the token, with the user and the groups as they
// are now. Whatever does not hold is ErrUnauthenticated with one and the same
// sentence; a store that does not answer is an error of another kind, and
// nobody gets in.
func (l *Logins) Verify(ctx context.Context, token string, source netip.Addr, via string) (access.Caller, error) {
	id, userID, err := l.parse(token)
	if err != nil {
		return access.Caller{}, err
	}
	login, user, err := l.c.Store.Login(ctx, id)
	if errors.Is(err, access.ErrNotFound) {
		return access.Caller{}, notLoggedIn(err)
	}
	if err != nil {
		return access.Caller{}, fmt.Errorf("read login %s: %w", id, err)
	}
	switch {
	case login.ID != id || login.UserID != userID || user.ID != userID:
		return access.Caller{}, notLoggedIn(errors.New("the stored login is of another user"))
	case !login.RevokedAt.IsZero():
		return access.Caller{}, notLoggedIn(errors.New("login revoked"))
	case !l.now().Before(login.ExpiresAt):
		return access.Caller{}, notLoggedIn(errors.New("login expired"))
	case user.Locked:
		return access.Caller{}, notLoggedIn(errors.New("user locked"))
	}
	return access.Caller{User: user, Source: source, Via: via, Login: login.ID, Until: login.ExpiresAt, MFAAt: login.MFAAt}, nil
}

// List returns the caller's own logins that still hold, newest first.
func (l *Logins) List(ctx context.Context, by access.Caller) ([]Login, error) {
	return l.c.Store.LoginsOf(ctx, by.User.ID, l.now())
}

// SignedInAt returns when the caller signed in on the web in this login; zero when
// it began elsewhere. A login that another one has confirmed began elsewhere.
func (l *Logins) SignedInAt(ctx context.Context, by access.Caller) (time.Time, error) {
	login, _, err := l.c.Store.Login(ctx, by.Login)
	if err != nil {
		return time.Time{}, fmt.Errorf("read login %s: %w", by.Login, err)
	}
	if login.Via != "web" || login.UserID != by.User.ID {
		return time.Time{}, nil
	}
	return login.IssuedAt, nil
}

// StepUp records that the caller has just shown the second factor again.
func (l *Logins) StepUp(ctx context.Context, by access.Caller, mfaAt time.Time) error {
	return l.c.Store.SetLoginMFA(ctx, by, by.Login, mfaAt)
}

// Revoke ends one of the caller's own logins; another's is ErrNotFound.
func (l *Logins) Revoke(ctx context.Context, by access.Caller, id string) error {
	login, _, err := l.c.Store.Login(ctx, id)
	if err != nil {
		return err
	}
	if login.UserID != by.User.ID {
		return access.ErrNotFound
	}
	return l.c.Store.RevokeLogin(ctx, by, id, l.now())
}

// RevokeAll ends every login of a user and returns how many there were. For
// any user but the caller, the policy must have been asked before.
func (l *Logins) RevokeAll(ctx context.Context, by access.Caller, userID string) (int, error) {
	return l.c.Store.RevokeLogins(ctx, by, userID, l.now())
}

// Prune deletes what expired more than a day ago. To be called now and then.
func (l *Logins) Prune(ctx context.Context) error {
	return l.c.Store.PruneLogins(ctx, l.now().Add(-24*time.Hour))
}
