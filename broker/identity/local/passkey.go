package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/mfa"
)

const (
	// MaxPasskeys is how many one person has at most.
	MaxPasskeys = 10
	// ChallengeTTL is how long a challenge waits for its answer.
	ChallengeTTL = 5 * time.Minute
	// FreshWithin is how long after a login a person may add and remove passkeys.
	FreshWithin = 10 * time.Minute

	// Challenges that wait: of one person or, where nobody has said yet who they
	// are, of one address (for IPv6 one /64), of which the oldest give way; and all.
	maxChallenges    = 20
	maxAllChallenges = 10_000
)

// PasskeyPrefix is that of the ids of passkeys.
const PasskeyPrefix = "PKY"

// A Passkey is the public half of a key pair of which the secret half is in an
// authenticator that verifies its person.
type Passkey struct {
	ID        string // PasskeyPrefix
	UserID    string
	Name      string // what the person calls it
	AddedAt   time.Time
	UsedAt    time.Time // zero: never
	BlockedAt time.Time // zero: it is not; else when its counter went back
	mfa.PublicKey
}

// Copied reports whether an answer with this counter says that somebody has a copy
// of the passkey.
func (p Passkey) Copied(count uint32) bool { return mfa.WentBack(p.Count, count) }

// A Purpose is what a challenge is for. An answer to one of another purpose counts
// for nothing.
type Purpose string

// The purposes of challenges.
const (
	SignIn Purpose = "sign-in" // of whoever answers
	Add    Purpose = "add"     // of a passkey
	Vote   Purpose = "vote"    // on the request of which the digest was shown
)

// A Challenge is what waits for a passkey to sign it, once.
type Challenge struct {
	Hash      []byte // SHA-256; the key
	Owner     string // under whom it is counted: the user, or the address
	UserID    string // who may answer; empty: anybody, who says so by answering
	Login     string // in which login; empty with UserID
	Purpose   Purpose
	Digest    string // of what is voted on
	CreatedAt time.Time
	ExpiresAt time.Time
}

// A PasskeyUse is one answer that holds, to be put on record.
type PasskeyUse struct {
	ID      string // of the passkey
	Purpose Purpose
	Digest  string
	At      time.Time
	mfa.Use
}

// PasskeyStore keeps passkeys and challenges, as [Store] keeps the rest.
type PasskeyStore interface {
	// Passkeys returns those of a user, the oldest first.
	Passkeys(ctx context.Context, userID string) ([]Passkey, error)

	// SecondFactors returns which of these users have a passkey, and which an
	// authenticator that was confirmed.
	SecondFactors(ctx context.Context, userIDs []string) (passkeys, totp map[string]bool, err error)

	// PasskeyOf returns the passkey with this credential, or ErrNotFound.
	PasskeyOf(ctx context.Context, credential []byte) (Passkey, error)

	// AddPasskey saves a new one. ErrConflict when its credential is anybody's
	// already, ErrUnavailable when the user has most of them, ErrNotFound when there
	// is no such user.
	AddPasskey(ctx context.Context, by access.Caller, p Passkey, most int) error

	// UsePasskey saves the counter and the time of a use. When the counter went back
	// (Passkey.Copied) it blocks the passkey instead, and returns ErrConflict: of any
	// number of calls with one counter that is not 0 exactly one succeeds.
	// ErrNotFound when the passkey is gone, ErrDenied when it was blocked before.
	UsePasskey(ctx context.Context, by access.Caller, u PasskeyUse) error

	// CreateChallenge saves a challenge in the place of the oldest of its owner, when
	// there are most already. ErrUnavailable when all wait in total, those not
	// counted that have expired at c.CreatedAt. No event.
	CreateChallenge(ctx context.Context, c Challenge, most, all int) error

	// TakeChallenge deletes the challenge with this hash and returns it, if it has
	// not expired at now (DELETE ... RETURNING); else ErrNotFound. Exactly one call
	// gets it. No event.
	TakeChallenge(ctx context.Context, hash []byte, now time.Time) (Challenge, error)
}

// A Prompt is what a browser needs to have a passkey made or used.
type Prompt struct {
	RelyingParty string // the id
	Challenge    []byte
	Within       time.Duration
	Credentials  [][]byte // those the person has: to use, or not to make again
}

func errNoPasskeys() error {
	return &access.Error{Kind: access.ErrInvalid, Code: "DB-6300", Text: "there are no passkeys here: they need https and a host that has a name in server.external_url"}
}

func errTooOld() error {
	return &access.Error{Kind: access.ErrDenied, Code: "DB-6301", Rule: "mfa.passkey", Text: "who changes passkeys has just signed in on the web, with a second factor where there is one: sign in again"}
}

func errNoChallenge() error {
	return &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-6302", Text: "this answer of a passkey comes too late, was used, or is to another question; nothing was done", Next: "try it again"}
}

func errUnknownPasskey() error {
	return &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-6303", Text: "this passkey is not known here, or was removed", Next: "sign in with the password, and add a passkey again"}
}

const badPasskey = "DB-6304"

func errBadPasskey() error {
	return &access.Error{Kind: access.ErrUnauthenticated, Code: badPasskey, Text: "what the passkey has answered does not hold; nothing was done", Next: "try it again, or use the code of your authenticator"}
}

func errCopied() error {
	return &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-6305", Text: "the counter of this passkey went back: somebody may have a copy of it, so it opens nothing any more", Next: "have it removed, and add another: drawbolt user factor rm"}
}

func errOtherDigest() error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6311", Text: "the passkey has confirmed another state of the request than the one that you vote on: look at it again"}
}

// HasPasskeys reports whether passkeys work here at all.
func (p *Provider) HasPasskeys() bool { return p.c.RelyingParty != nil }

// Passkeys returns those of a user, the oldest first.
func (p *Provider) Passkeys(ctx context.Context, userID string) ([]Passkey, error) {
	return p.c.Store.Passkeys(ctx, userID)
}

// fresh refuses whoever may sit at a browser that somebody else has left. signedIn
// is when the login began, on the web.
func (p *Provider) fresh(ctx context.Context, by access.Caller, signedIn time.Time) error {
	proved := signedIn
	has, err := p.secondFactor(ctx, by.User.ID)
	if err != nil {
		return err
	}
	if has {
		proved = by.MFAAt
	}
	if proved.IsZero() || p.now().Sub(proved) > FreshWithin {
		return errTooOld()
	}
	return nil
}

// secondFactor reports whether the user has one. A passkey that is blocked is one:
// who has copied it does not get in by the password alone.
func (p *Provider) secondFactor(ctx context.Context, userID string) (bool, error) {
	passkeys, totp, err := p.c.Store.SecondFactors(ctx, []string{userID})
	if err != nil {
		return false, fmt.Errorf("read second factors: %w", err)
	}
	return passkeys[userID] || totp[userID], nil
}

// AskToSignIn returns what a passkey signs to sign its person in, whoever that is.
func (p *Provider) AskToSignIn(ctx context.Context, source netip.Addr) (Prompt, error) {
	return p.prompt(ctx, Challenge{Owner: identity.Origin(source), Purpose: SignIn}, nil)
}

// AskToAdd returns what a new passkey of the caller signs. signedIn is when the
// caller signed in on the web in this login; zero: elsewhere.
func (p *Provider) AskToAdd(ctx context.Context, by access.Caller, signedIn time.Time) (Prompt, error) {
	if by.User.Emergency {
		return Prompt{}, &access.Error{Kind: access.ErrDenied, Code: "DB-6312", Rule: "emergency.codes", Text: "an emergency user logs in with sealed codes and has no passkeys", Next: "drawbolt login --break-glass"}
	}
	if err := p.fresh(ctx, by, signedIn); err != nil {
		return Prompt{}, err
	}
	had, err := p.c.Store.Passkeys(ctx, by.User.ID)
	if err != nil {
		return Prompt{}, err
	}
	if len(had) >= MaxPasskeys {
		return Prompt{}, errTooMany()
	}
	return p.promptFor(ctx, by, Add, "", had)
}

// AskToVote returns what a passkey of the caller signs to vote on the request of
// which the digest was shown.
func (p *Provider) AskToVote(ctx context.Context, by access.Caller, digest string) (Prompt, error) {
	if digest == "" || len(digest) > maxDigest {
		return Prompt{}, access.Invalid("the digest of what was shown is missing")
	}
	had, err := p.c.Store.Passkeys(ctx, by.User.ID)
	if err != nil {
		return Prompt{}, err
	}
	return p.promptFor(ctx, by, Vote, digest, had)
}

const maxDigest = 128 // bytes

func errTooMany() error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-6306", Text: fmt.Sprintf("you have %d passkeys, and nobody has more", MaxPasskeys), Next: "remove one that you do not use"}
}

func (p *Provider) promptFor(ctx context.Context, by access.Caller, purpose Purpose, digest string, had []Passkey) (Prompt, error) {
	return p.prompt(ctx, Challenge{Owner: by.User.ID, UserID: by.User.ID, Login: by.Login, Purpose: purpose, Digest: digest}, had)
}

func (p *Provider) prompt(ctx context.Context, c Challenge, had []Passkey) (Prompt, error) {
	if p.c.RelyingParty == nil {
		return Prompt{}, errNoPasskeys()
	}
	challenge := mfa.NewChallenge(c.about()...)
	now := p.now()
	c.Hash, c.CreatedAt, c.ExpiresAt = hashChallenge(challenge), now, now.Add(ChallengeTTL)
	err := p.c.Store.CreateChallenge(ctx, c, maxChallenges, maxAllChallenges)
	if errors.Is(err, access.ErrUnavailable) {
		return Prompt{}, fmt.Errorf("%w (%w)", &access.Error{Kind: access.ErrUnavailable, Code: "DB-6309", Text: "too many passkeys are being asked for at this moment: try again in a few minutes"}, err)
	}
	if err != nil {
		return Prompt{}, fmt.Errorf("save challenge: %w", err)
	}
	out := Prompt{RelyingParty: p.c.RelyingParty.ID(), Challenge: challenge, Within: ChallengeTTL}
	for _, k := range had {
		out.Credentials = append(out.Credentials, k.Credential)
	}
	return out, nil
}

// about is what the challenge is bound to, for who reads the signature later.
func (c Challenge) about() []string { return []string{string(c.Purpose), c.UserID, c.Digest} }

func hashChallenge(c []byte) []byte {
	h := sha256.Sum256(c)
	return h[:]
}

// take uses up the challenge and returns it if it is the caller's, in this login,
// for that purpose. Whatever it was for, it is good no more.
func (p *Provider) take(ctx context.Context, by access.Caller, purpose Purpose, challenge []byte) (Challenge, error) {
	c, err := p.c.Store.TakeChallenge(ctx, hashChallenge(challenge), p.now())
	if errors.Is(err, access.ErrNotFound) {
		return c, errNoChallenge()
	}
	if err != nil {
		return c, fmt.Errorf("take challenge: %w", err)
	}
	if c.Purpose != purpose || c.UserID != by.User.ID || c.Login != by.Login || !mfa.About(challenge, c.about()...) {
		return c, errNoChallenge()
	}
	return c, nil
}

// AddPasskey keeps the passkey that a browser has made for the caller, under a name
// of theirs. Its challenge was given out by AskToAdd, in the same login.
func (p *Provider) AddPasskey(ctx context.Context, by access.Caller, name string, answer []byte) (Passkey, error) {
	if p.c.RelyingParty == nil {
		return Passkey{}, errNoPasskeys()
	}
	if err := access.CheckText("the name of the passkey", name, access.MaxLabel); err != nil {
		return Passkey{}, err
	}
	if name == "" {
		return Passkey{}, access.Invalid("a passkey has a name, by which you know it again")
	}
	challenge, err := mfa.ReadMade(answer)
	if err != nil {
		return Passkey{}, fmt.Errorf("%w (%w)", errBadPasskey(), err)
	}
	if _, err := p.take(ctx, by, Add, challenge); err != nil {
		return Passkey{}, err
	}
	key, err := p.c.RelyingParty.Register(challenge, answer)
	if err != nil {
		return Passkey{}, fmt.Errorf("%w (%w)", errBadPasskey(), err)
	}
	k := Passkey{ID: access.NewID(PasskeyPrefix), UserID: by.User.ID, Name: name, AddedAt: p.now(), PublicKey: key}
	err = p.c.Store.AddPasskey(ctx, by, k, MaxPasskeys)
	switch {
	case errors.Is(err, access.ErrConflict):
		return Passkey{}, &access.Error{Kind: access.ErrConflict, Code: "DB-6307", Text: "this passkey is registered already"}
	case errors.Is(err, access.ErrUnavailable):
		return Passkey{}, errTooMany()
	case err != nil:
		return Passkey{}, fmt.Errorf("save passkey: %w", err)
	}
	return k, nil
}

// SignInWithPasskey returns the user whose passkey has answered what AskToSignIn
// gave out, and when. It needs no password: the authenticator has verified its
// person, so that it is two factors by itself.
func (p *Provider) SignInWithPasskey(ctx context.Context, answer []byte, source netip.Addr, via string) (access.User, time.Time, error) {
	user, at, err := p.signIn(ctx, answer, source, via)
	if errors.Is(err, access.ErrUnauthenticated) {
		f := Failure{UserID: user.ID, Source: source.String(), Reason: "passkey", At: p.now()}
		if err := p.c.Store.LoginFailed(ctx, f); err != nil {
			return access.User{}, time.Time{}, fmt.Errorf("record refused login: %w", err)
		}
	}
	if err != nil {
		return access.User{}, time.Time{}, err
	}
	return user, at, nil
}

// signIn returns the user whom the answer names also when it refuses.
func (p *Provider) signIn(ctx context.Context, answer []byte, source netip.Addr, via string) (user access.User, at time.Time, err error) {
	s, k, err := p.read(ctx, access.Caller{}, SignIn, "", answer)
	if err != nil {
		return user, at, err
	}
	user, err = p.c.Store.User(ctx, k.UserID)
	switch {
	case errors.Is(err, access.ErrNotFound):
		return user, at, errUnknownPasskey()
	case err != nil:
		return user, at, fmt.Errorf("look up user: %w", err)
	case user.Locked || user.Emergency:
		return user, at, errWrong()
	}
	at, err = p.use(ctx, access.Caller{User: user, Source: source, Via: via}, s, k, SignIn, "")
	return user, at, err
}

// ProveVote checks that a passkey of the caller has signed the digest that the
// caller votes on, and returns when: a second factor for that vote and no other.
func (p *Provider) ProveVote(ctx context.Context, by access.Caller, digest string, answer []byte) (mfaAt time.Time, err error) {
	s, k, err := p.read(ctx, by, Vote, digest, answer)
	if err != nil {
		return time.Time{}, err
	}
	if k.UserID != by.User.ID {
		return time.Time{}, errUnknownPasskey()
	}
	return p.use(ctx, by, s, k, Vote, digest)
}

// read takes the challenge of an answer and finds whose passkey it says it is of.
func (p *Provider) read(ctx context.Context, by access.Caller, purpose Purpose, digest string, answer []byte) (mfa.Signed, Passkey, error) {
	if p.c.RelyingParty == nil {
		return mfa.Signed{}, Passkey{}, errNoPasskeys()
	}
	s, err := mfa.ReadSigned(answer)
	if err != nil {
		return s, Passkey{}, fmt.Errorf("%w (%w)", errBadPasskey(), err)
	}
	c, err := p.take(ctx, by, purpose, s.Challenge)
	if err != nil {
		return s, Passkey{}, err
	}
	if c.Digest != digest {
		return s, Passkey{}, errOtherDigest()
	}
	k, err := p.c.Store.PasskeyOf(ctx, s.Credential)
	if errors.Is(err, access.ErrNotFound) || err == nil && len(s.User) > 0 && string(s.User) != k.UserID {
		return s, Passkey{}, errUnknownPasskey()
	}
	if err != nil {
		return s, Passkey{}, fmt.Errorf("read passkey: %w", err)
	}
	return s, k, nil
}

// use checks the signature and puts the use on record.
func (p *Provider) use(ctx context.Context, by access.Caller, s mfa.Signed, k Passkey, purpose Purpose, digest string) (time.Time, error) {
	if !k.BlockedAt.IsZero() {
		return time.Time{}, errCopied()
	}
	used, err := p.c.RelyingParty.Check(s, s.Challenge, k.PublicKey)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w (%w)", errBadPasskey(), err)
	}
	now := p.now()
	err = p.c.Store.UsePasskey(ctx, by, PasskeyUse{ID: k.ID, Purpose: purpose, Digest: digest, At: now, Use: used})
	switch {
	case errors.Is(err, access.ErrConflict), errors.Is(err, access.ErrDenied):
		return time.Time{}, errCopied()
	case errors.Is(err, access.ErrNotFound):
		return time.Time{}, errUnknownPasskey()
	case err != nil:
		return time.Time{}, fmt.Errorf("use passkey: %w", err)
	}
	return now, nil
}
