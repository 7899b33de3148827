// Package local recognises users by what the broker itself keeps: a password and,
// where they are enrolled, an authenticator app and passkeys.
//
// Every answer to somebody who is not logged in is one sentence at one cost:
// whether the name exists, is locked, has a password or an authenticator cannot
// be told from it. Tries are counted before they are checked, in the store, so
// that neither parallel calls nor restarts buy more (see throttle.go).
//
// It trusts its caller for the source address (behind a proxy: of the client,
// not of the proxy) and for who acts; its Store for single use; its Sealer for
// keeping the secrets of authenticators. Somebody who can read the database
// gets password hashes (argon2id), public keys, and no authenticator; somebody who
// can write it can set a password or add a passkey, as with any local account. It issues no logins (see
// identity.Logins) and does not decide who may set whose password.
package local

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/mfa"
)

// A Sealer encrypts what the store keeps. Open returns an error unless sealed
// is what Seal returned for the same id. Safe for concurrent use.
type Sealer interface {
	Seal(id string, secret []byte) ([]byte, error)
	Open(id string, sealed []byte) ([]byte, error)
}

// Config configures a Provider.
type Config struct {
	Store  Store
	Sealer Sealer
	Issuer string // how authenticator apps call this broker, such as gw.example.com

	RelyingParty *mfa.RelyingParty // checks passkeys; nil: there are none

	Params   Params           // cost of new hashes; default DefaultParams
	Parallel int              // hashes at once, each with Params.Memory; default one a core, between 2 and 4
	Queue    int              // logins that may wait for a hash; default 64
	Now      func() time.Time // default time.Now
}

// A Provider checks and sets passwords and authenticators. It is safe for
// concurrent use.
type Provider struct {
	c      Config
	hasher *hasher
	gate   *gate
}

// How long a setup link lasts.
const (
	DefaultSetupTTL = 30 * time.Minute
	MaxSetupTTL     = 24 * time.Hour
)

// New checks the configuration.
func New(c Config) (*Provider, error) {
	if c.Params == (Params{}) {
		c.Params = DefaultParams
	}
	if c.Parallel == 0 {
		c.Parallel = min(max(runtime.GOMAXPROCS(0), 2), 4)
	}
	if c.Queue == 0 {
		c.Queue = 64
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case c.Store == nil || c.Sealer == nil:
		return nil, errors.New("local: no store or no sealer")
	case c.Issuer == "":
		return nil, errors.New("local: no issuer")
	case c.Parallel < 2:
		return nil, errors.New("local: fewer than two hashes at once: one place is kept for known users")
	case c.Queue < 1:
		return nil, errors.New("local: a queue for less than one login")
	}
	h, err := newHasher(c.Params)
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	return &Provider{c: c, hasher: h, gate: newGate(c.Parallel, c.Queue)}, nil
}

func (p *Provider) now() time.Time { return p.c.Now().UTC().Truncate(time.Microsecond) }

func errWrong() error {
	return &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-4002", Text: "the name, the password or the code is wrong"}
}

func errBlocked(until, now time.Time) error {
	wait := access.FormatDuration(until.Sub(now).Truncate(time.Second) + time.Second)
	return &access.Error{
		Kind: access.ErrUnauthenticated, Code: "DB-4003",
		Text: "too many tries went wrong: the next is possible at " + until.Format("2006-01-02 15:04:05 UTC"),
		Next: "wait " + wait,
	}
}

// Login returns the user with this name and password, and, where the user has
// an authenticator, when its code was shown. A user who has an authenticator or a
// passkey needs one of them. The code is ignored for a user who has neither; mfaAt
// is zero then.
//
// Everything that is wrong is ErrUnauthenticated; a store or a sealer that does
// not work, and more logins than there is room for, are other errors.
func (p *Provider) Login(ctx context.Context, name string, password []byte, code string, source netip.Addr) (user access.User, mfaAt time.Time, err error) {
	return p.login(ctx, name, proof{password: password, code: code}, source)
}

// LoginWithPasskey is Login with what a passkey of the user has answered to
// AskToSignIn, in the place of a code.
func (p *Provider) LoginWithPasskey(ctx context.Context, name string, password, answer []byte, source netip.Addr) (user access.User, mfaAt time.Time, err error) {
	signed, key, err := p.read(ctx, access.Caller{}, SignIn, "", answer)
	if err != nil && !errors.Is(err, access.ErrUnauthenticated) {
		return access.User{}, time.Time{}, err
	}
	// Of an answer that is good for nothing no more is said than of a wrong password.
	return p.login(ctx, name, proof{password: password, passkey: &signedBy{signed, key, source}}, source)
}

func (p *Provider) login(ctx context.Context, name string, shown proof, source netip.Addr) (user access.User, mfaAt time.Time, err error) {
	if access.CheckUserName(name) == nil {
		user, err = p.c.Store.UserByName(ctx, name)
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			return access.User{}, time.Time{}, fmt.Errorf("look up user: %w", err)
		}
	}
	mfaAt, err = p.try(ctx, user, name, source, p.check(user, shown))
	if err != nil {
		return access.User{}, time.Time{}, err
	}
	return user, mfaAt, nil
}

// StepUp checks a fresh code of the caller's authenticator, without the
// password, and returns when it was shown.
func (p *Provider) StepUp(ctx context.Context, by access.Caller, code string) (mfaAt time.Time, err error) {
	return p.try(ctx, by.User, by.User.Name, by.Source, func(ctx context.Context, c Credential) (time.Time, string, error) {
		if c.TOTP == nil {
			return time.Time{}, "", &access.Error{Kind: access.ErrInvalid, Code: "DB-4021", Text: "you have no authenticator"}
		}
		step, ok, err := p.checkCode(c.UserID, c.TOTP, code)
		switch {
		case err != nil:
			return time.Time{}, "", err
		case !ok:
			return time.Time{}, "code", nil
		}
		return p.useCode(ctx, c, step)
	})
}

// A check says what is wrong with a try ("" for nothing) and when a second
// factor was shown. An error means that it could not be checked.
type check func(ctx context.Context, c Credential) (mfaAt time.Time, wrong string, err error)

// A proof is what somebody shows of who they are: the password and, where there is
// one, a second factor in one of three forms.
type proof struct {
	password []byte
	code     string    // of the authenticator
	passkey  *signedBy // nil: none
	fresh    time.Time // when one was shown in the login of who asks; good instead of a passkey
}

// A signedBy is an answer, and whose passkey it says it is of; nobody's, when it is
// good for nothing.
type signedBy struct {
	signed mfa.Signed
	key    Passkey
	source netip.Addr
}

// check checks what a login needs. It does the same work whatever is wrong: one
// hash always, and the second factor where there is one.
func (p *Provider) check(user access.User, shown proof) check {
	return func(ctx context.Context, c Credential) (time.Time, string, error) {
		password := shown.password
		tooLong := len(password) > MaxPassword
		if tooLong {
			password = password[:MaxPassword]
		}
		ok, weak := p.hasher.verify(c.Hash, password)
		passkeys, err := p.c.Store.Passkeys(ctx, user.ID)
		if err != nil {
			return time.Time{}, "", fmt.Errorf("read passkeys: %w", err)
		}
		var step int64
		factor, factorOK := "", true
		switch {
		case shown.passkey != nil:
			factor, factorOK = "passkey", user.ID != "" && shown.passkey.key.UserID == user.ID
		case c.TOTP != nil:
			factor = "code"
			if step, factorOK, err = p.checkCode(c.UserID, c.TOTP, shown.code); err != nil {
				return time.Time{}, "", err
			}
		case len(passkeys) > 0:
			factor, factorOK = "passkey", !shown.fresh.IsZero() && p.now().Sub(shown.fresh) <= FreshWithin
		}
		switch {
		case user.ID == "":
			return time.Time{}, "unknown user", nil
		case c.Hash == "":
			return time.Time{}, "no password", nil
		case !ok || tooLong:
			return time.Time{}, "password", nil
		case !factorOK:
			return time.Time{}, factor, nil
		case user.Locked:
			return time.Time{}, "locked", nil
		}
		if weak {
			// Whether it works does not matter to this login; another one may
			// have done it.
			if err := p.c.Store.Rehash(ctx, c.UserID, c.Hash, p.hasher.hash(password)); err != nil && !errors.Is(err, access.ErrConflict) {
				return time.Time{}, "", fmt.Errorf("rehash: %w", err)
			}
		}
		switch {
		case shown.passkey != nil:
			at, err := p.use(ctx, access.Caller{User: user, Source: shown.passkey.source, Via: "web"}, shown.passkey.signed, shown.passkey.key, SignIn, "")
			if said, ok := errors.AsType[*access.Error](err); ok && said.Code == badPasskey {
				return time.Time{}, factor, nil
			}
			return at, "", err
		case factor == "code":
			return p.useCode(ctx, c, step)
		}
		return shown.fresh, "", nil
	}
}

func totpID(userID string) string { return "totp/" + userID }

func (p *Provider) checkCode(userID string, sealed []byte, code string) (step int64, ok bool, err error) {
	secret, err := p.c.Sealer.Open(totpID(userID), sealed)
	if err != nil {
		return 0, false, fmt.Errorf("open the authenticator of %s: %w", userID, err)
	}
	step, ok = mfa.Check(secret, code, p.now())
	return step, ok, nil
}

// useCode takes the step of a code that is right, so that nobody uses it again.
func (p *Provider) useCode(ctx context.Context, c Credential, step int64) (mfaAt time.Time, wrong string, err error) {
	err = p.c.Store.UseTOTPStep(ctx, c.UserID, c.TOTP, step)
	switch {
	case errors.Is(err, access.ErrConflict):
		return time.Time{}, "code used", nil
	case err != nil:
		return time.Time{}, "", fmt.Errorf("use code: %w", err)
	}
	return p.now(), "", nil
}

// tryTimeout bounds a try from when it is counted to when it is settled.
const tryTimeout = 15 * time.Second

// try runs one check under the counters. user is zero for a name that nobody
// has.
func (p *Provider) try(ctx context.Context, user access.User, name string, source netip.Addr, check check) (time.Time, error) {
	origin := identity.Origin(source)
	keys := keys(user, name, origin)
	counters, err := p.c.Store.Counters(ctx, keys)
	if err != nil {
		return time.Time{}, fmt.Errorf("read counters: %w", err)
	}
	// A first look, so that who is blocked does not wait for a place.
	now := p.now()
	forget(counters, now)
	if until := blockedUntil(counters, now); !until.IsZero() {
		return time.Time{}, errBlocked(until, now)
	}
	leave, err := p.gate.enter(ctx, known(counters, now), counters[bySource].Failures, origin)
	if err != nil {
		return time.Time{}, err
	}
	defer leave()

	// From here on a caller who hangs up does not stop the try: it is counted
	// as wrong already, and only its end takes that back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryTimeout)
	defer cancel()
	now = p.now()
	var until time.Time
	err = p.c.Store.UpdateCounters(ctx, keys, func(c []Counter) error {
		forget(c, now)
		if until = blockedUntil(c, now); until.IsZero() {
			countTry(c, now)
		}
		return nil
	})
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("count try: %w", err)
	case !until.IsZero():
		return time.Time{}, errBlocked(until, now)
	}
	credential, err := p.c.Store.Credential(ctx, user.ID)
	if err != nil && !errors.Is(err, access.ErrNotFound) {
		return time.Time{}, errors.Join(fmt.Errorf("read credential: %w", err), p.settle(ctx, keys, uncount))
	}
	mfaAt, wrong, err := check(ctx, credential)
	switch {
	case err != nil:
		return time.Time{}, errors.Join(err, p.settle(ctx, keys, uncount))
	case wrong != "":
		if err := p.c.Store.LoginFailed(ctx, Failure{UserID: user.ID, Source: source.String(), Reason: wrong, At: now}); err != nil {
			return time.Time{}, fmt.Errorf("record refused login: %w", err)
		}
		return time.Time{}, errWrong()
	}
	if err := p.settle(ctx, keys, countGood); err != nil {
		return time.Time{}, err
	}
	return mfaAt, nil
}

func (p *Provider) settle(ctx context.Context, keys []string, how func([]Counter, time.Time)) error {
	now := p.now()
	err := p.c.Store.UpdateCounters(ctx, keys, func(c []Counter) error {
		forget(c, now)
		how(c, now)
		return nil
	})
	if err != nil {
		return fmt.Errorf("save counters: %w", err)
	}
	return nil
}

// SetPassword sets the password of a user, which ends every login of that user
// but the caller's own. For any user but the caller, the policy must have been
// asked before; for the caller, see ChangePassword.
func (p *Provider) SetPassword(ctx context.Context, by access.Caller, userID string, password []byte) error {
	user, err := p.c.Store.User(ctx, userID)
	if err != nil {
		return err
	}
	hash, err := p.newHash(ctx, user, password, identity.Origin(by.Source))
	if err != nil {
		return err
	}
	return p.c.Store.SetPassword(ctx, by, userID, hash, p.now())
}

// ChangePassword sets the caller's own password after checking the current one
// and, where there is an authenticator, a code; with passkeys only, that one was
// used within FreshWithin. It ends the caller's other
// logins.
func (p *Provider) ChangePassword(ctx context.Context, by access.Caller, current []byte, code string, password []byte) error {
	// First, so that a new password that will not do does not use up a code.
	if err := CheckPassword(by.User, password); err != nil {
		return err
	}
	if _, err := p.try(ctx, by.User, by.User.Name, by.Source, p.check(by.User, proof{password: current, code: code, fresh: by.MFAAt})); err != nil {
		return err
	}
	return p.SetPassword(ctx, by, by.User.ID, password)
}

func (p *Provider) newHash(ctx context.Context, user access.User, password []byte, origin string) (string, error) {
	if err := CheckPassword(user, password); err != nil {
		return "", err
	}
	leave, err := p.gate.enter(ctx, true, 0, origin)
	if err != nil {
		return "", err
	}
	defer leave()
	return p.hasher.hash(password), nil
}

// NewSetup makes a link by which its holder sets the password of a user, once,
// within ttl (default 30 minutes, at most a day). Earlier links of the user
// end. The policy must have been asked before. For RecoveryRest after a second factor was
// taken from the user there is none.
func (p *Provider) NewSetup(ctx context.Context, by access.Caller, userID string, ttl time.Duration) (token string, setup Setup, err error) {
	if ttl == 0 {
		ttl = DefaultSetupTTL
	}
	if ttl < 0 || ttl > MaxSetupTTL {
		return "", Setup{}, access.Invalid("a setup link may last at most %v, not %v", MaxSetupTTL, ttl)
	}
	raw := make([]byte, 20) // 160 bits
	rand.Read(raw)
	token = base64.RawURLEncoding.EncodeToString(raw)
	now := p.now()
	setup = Setup{Hash: hashToken(token), UserID: userID, CreatedAt: now, ExpiresAt: now.Add(ttl)}
	err = p.c.Store.CreateSetup(ctx, by, setup, now.Add(-RecoveryRest))
	if errors.Is(err, access.ErrConflict) {
		return "", Setup{}, p.errTaken(ctx, userID)
	}
	if err != nil {
		return "", Setup{}, fmt.Errorf("save setup link: %w", err)
	}
	return token, setup, nil
}

func errNoSetup() error {
	return &access.Error{Kind: access.ErrNotFound, Code: "DB-4022", Text: "this setup link has expired or was used: ask for another"}
}

// SetupUser returns whose password a setup link sets, without using it, or
// ErrNotFound.
func (p *Provider) SetupUser(ctx context.Context, token string) (access.User, error) {
	s, err := p.c.Store.Setup(ctx, hashToken(token), p.now())
	if errors.Is(err, access.ErrNotFound) {
		return access.User{}, errNoSetup()
	}
	if err != nil {
		return access.User{}, fmt.Errorf("read setup link: %w", err)
	}
	return p.c.Store.User(ctx, s.UserID)
}

// Setup sets the password that a setup link is for and ends the user's logins.
// Of any number of calls with one link, one succeeds; the others, and calls
// with a link that has expired, get ErrNotFound. A password that will not do
// leaves the link as it is. It does not log in: an authenticator, where there
// is one, still is needed for that.
func (p *Provider) Setup(ctx context.Context, token string, password []byte, source netip.Addr, via string) (access.User, error) {
	user, err := p.SetupUser(ctx, token)
	if err != nil {
		return access.User{}, err
	}
	hash, err := p.newHash(ctx, user, password, identity.Origin(source))
	if err != nil {
		return access.User{}, err
	}
	err = p.c.Store.UseSetup(ctx, access.Caller{User: user, Source: source, Via: via}, hashToken(token), hash, p.now())
	if errors.Is(err, access.ErrNotFound) {
		return access.User{}, errNoSetup()
	}
	if err != nil {
		return access.User{}, fmt.Errorf("use setup link: %w", err)
	}
	return user, nil
}

func hashToken(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// An Enrolment is what an authenticator app needs. It is shown once.
type Enrolment struct {
	Secret string // base32, to type in
	URL    string // otpauth URL, to scan as a QR code
}

// Enrol makes a new authenticator for the caller, who shows the password again
// (and a code of the authenticator that is to be replaced, where there is one),
// so that a stolen login cannot add a second factor of the thief's. It counts
// for nothing until Confirm.
func (p *Provider) Enrol(ctx context.Context, by access.Caller, password []byte, code string) (Enrolment, error) {
	if _, err := p.try(ctx, by.User, by.User.Name, by.Source, p.check(by.User, proof{password: password, code: code, fresh: by.MFAAt})); err != nil {
		return Enrolment{}, err
	}
	secret := mfa.NewSecret()
	sealed, err := p.c.Sealer.Seal(totpID(by.User.ID), secret)
	if err != nil {
		return Enrolment{}, fmt.Errorf("seal the authenticator of %s: %w", by.User.ID, err)
	}
	url, err := mfa.URL(p.c.Issuer, by.User.Name, secret)
	if err != nil {
		return Enrolment{}, err
	}
	if err := p.c.Store.SetPendingTOTP(ctx, by, by.User.ID, sealed); err != nil {
		return Enrolment{}, fmt.Errorf("save authenticator: %w", err)
	}
	return Enrolment{Secret: mfa.Text(secret), URL: url}, nil
}

// Confirm checks a code of the authenticator that Enrol made, which from then
// on is required at every login, and returns when it was shown.
func (p *Provider) Confirm(ctx context.Context, by access.Caller, code string) (mfaAt time.Time, err error) {
	return p.try(ctx, by.User, by.User.Name, by.Source, func(ctx context.Context, c Credential) (time.Time, string, error) {
		if c.PendingTOTP == nil {
			return time.Time{}, "", &access.Error{Kind: access.ErrInvalid, Code: "DB-4023", Text: "no authenticator waits to be confirmed"}
		}
		step, ok, err := p.checkCode(c.UserID, c.PendingTOTP, code)
		switch {
		case err != nil:
			return time.Time{}, "", err
		case !ok:
			return time.Time{}, "code", nil
		}
		err = p.c.Store.ConfirmTOTP(ctx, by, c.UserID, c.PendingTOTP, step)
		switch {
		case errors.Is(err, access.ErrConflict):
			return time.Time{}, "code used", nil
		case err != nil:
			return time.Time{}, "", fmt.Errorf("confirm authenticator: %w", err)
		}
		return p.now(), "", nil
	})
}

// Factors is what a user has to log in with.
type Factors struct {
	Password, TOTP bool
	Passkeys       int
}

// Second names the second factors.
func (f Factors) Second() (list []string) {
	if f.Passkeys > 0 {
		list = append(list, "passkey")
	}
	if f.TOTP {
		list = append(list, "totp")
	}
	return list
}

// SecondFactors is [Factors.Second] of many users.
func (p *Provider) SecondFactors(ctx context.Context, userIDs []string) (map[string][]string, error) {
	passkeys, totp, err := p.c.Store.SecondFactors(ctx, userIDs)
	if err != nil {
		return nil, fmt.Errorf("read second factors: %w", err)
	}
	all := map[string][]string{}
	for _, id := range userIDs {
		f := Factors{TOTP: totp[id]}
		if passkeys[id] {
			f.Passkeys = 1
		}
		all[id] = f.Second()
	}
	return all, nil
}

// Factors returns what a user has to log in with, for pages that only the user
// and administrators see.
func (p *Provider) Factors(ctx context.Context, userID string) (Factors, error) {
	c, err := p.c.Store.Credential(ctx, userID)
	if err != nil && !errors.Is(err, access.ErrNotFound) {
		return Factors{}, fmt.Errorf("read credential: %w", err)
	}
	passkeys, err := p.c.Store.Passkeys(ctx, userID)
	if err != nil {
		return Factors{}, fmt.Errorf("read passkeys: %w", err)
	}
	return Factors{Password: c.Hash != "", TOTP: c.TOTP != nil, Passkeys: len(passkeys)}, nil
}

// Prune deletes counters and links that expired more than a day ago. To be
// called now and then.
func (p *Provider) Prune(ctx context.Context) error {
	return p.c.Store.PruneLocal(ctx, p.now().Add(-24*time.Hour))
}
