package local_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity/identitytest"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/broker/identity/mfa"
	"github.com/drawbolt/drawbolt/broker/identity/mfa/mfatest"
)

const origin = "https://gw.example.com"

func relyingParty(t *testing.T) *mfa.RelyingParty {
	t.Helper()
	r, err := mfa.NewRelyingParty(origin)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// by is somebody in a login of theirs on the web, which has just begun.
func (h *house) by(u access.User) access.Caller {
	return access.Caller{User: u, Source: office, Via: "web", Login: "LOG-" + u.Name, MFAAt: h.clock()}
}

// addPasskey adds a passkey of a user.
func (h *house) addPasskey(u access.User) (*mfatest.Passkey, local.Passkey) {
	h.t.Helper()
	key := mfatest.New("gw.example.com", origin, u.ID)
	prompt, err := h.AskToAdd(h.t.Context(), h.by(u), h.clock())
	h.must(err)
	k, err := h.AddPasskey(h.t.Context(), h.by(u), "laptop", key.Made(prompt.Challenge))
	h.must(err)
	key.Count = 2
	return key, k
}

func (h *house) askToSignIn() []byte {
	h.t.Helper()
	prompt, err := h.AskToSignIn(h.t.Context(), office)
	h.must(err)
	return prompt.Challenge
}

func (h *house) askToVote(u access.User, digest string) []byte {
	h.t.Helper()
	prompt, err := h.AskToVote(h.t.Context(), h.by(u), digest)
	h.must(err)
	return prompt.Challenge
}

// said wants a refusal with this code.
func said(t *testing.T, err error, code string) {
	t.Helper()
	e, ok := errors.AsType[*access.Error](err)
	if !ok || e.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestPasskeySignIn(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	bob := h.user("bob")
	key, k := h.addPasskey(h.alice)

	user, at, err := h.SignInWithPasskey(ctx, key.Signed(h.askToSignIn()), office, "web")
	if err != nil || user.ID != h.alice.ID || !at.Equal(start) {
		t.Fatalf("by the passkey alone: %+v, %v, %v", user, at, err)
	}
	user, at, err = h.LoginWithPasskey(ctx, "alice", []byte(password), key.Signed(h.askToSignIn()), office)
	if err != nil || user.ID != h.alice.ID || !at.Equal(start) {
		t.Fatalf("by password and passkey: %+v, %v, %v", user, at, err)
	}
	list, err := h.Passkeys(ctx, h.alice.ID)
	if err != nil || len(list) != 1 || !list[0].UsedAt.Equal(start) || list[0].Count != 3 {
		t.Fatalf("passkeys: %+v, %v", list, err)
	}

	// The password alone is not enough any more, and every way to be wrong says the same.
	said(t, h.login("alice", password, "", office), "DB-4002")
	_, _, err = h.LoginWithPasskey(ctx, "alice", []byte("wrong"), key.Signed(h.askToSignIn()), office)
	said(t, err, "DB-4002")
	_, _, err = h.LoginWithPasskey(ctx, "bob", []byte(password), key.Signed(h.askToSignIn()), office)
	said(t, err, "DB-4002")
	used := key.Signed(h.askToSignIn())
	_, _, err = h.SignInWithPasskey(ctx, used, office, "web")
	h.must(err)
	_, _, err = h.LoginWithPasskey(ctx, "alice", []byte(password), used, office)
	said(t, err, "DB-4002")
	forged := *key
	forged.Key = mfatest.New("", "", "").Key
	_, _, err = h.LoginWithPasskey(ctx, "alice", []byte(password), forged.Signed(h.askToSignIn()), office)
	said(t, err, "DB-4002")

	for name, c := range map[string]struct {
		code   string
		answer func() []byte
	}{
		"replayed":             {"DB-6302", func() []byte { return used }},
		"challenge of nobody":  {"DB-6302", func() []byte { return key.Signed(mfa.NewChallenge("sign-in", "", "")) }},
		"challenge for a vote": {"DB-6302", func() []byte { return key.Signed(h.askToVote(h.alice, "d")) }},
		"no challenge":         {"DB-6302", func() []byte { return key.Signed(nil) }},
		"foreign origin": {"DB-6304", func() []byte {
			p := *key
			p.Origin = "https://gw.example.com.evil.net"
			return p.Signed(h.askToSignIn())
		}},
		"forged":                {"DB-6304", func() []byte { return forged.Signed(h.askToSignIn()) }},
		"person not verified":   {"DB-6304", func() []byte { p := *key; p.Unverified = true; return p.Signed(h.askToSignIn()) }},
		"unknown passkey":       {"DB-6303", func() []byte { return mfatest.New("gw.example.com", origin, h.alice.ID).Signed(h.askToSignIn()) }},
		"in the name of bob":    {"DB-6303", func() []byte { p := *key; p.User = bob.ID; return p.Signed(h.askToSignIn()) }},
		"no answer of any form": {"DB-6304", func() []byte { return []byte("{}") }},
		"a long answer":         {"DB-6304", func() []byte { return []byte(strings.Repeat(" ", mfa.MaxAnswer) + "{}") }},
		"a new passkey":         {"DB-6304", func() []byte { return key.Made(h.askToSignIn()) }},
	} {
		failures := len(h.store.Failures())
		if _, _, err := h.SignInWithPasskey(ctx, c.answer(), office, "web"); err == nil {
			t.Errorf("%s: let in", name)
		} else {
			t.Run(name, func(t *testing.T) { said(t, err, c.code) })
		}
		if n := len(h.store.Failures()); n != failures+1 {
			t.Errorf("%s: %d refused logins on record, want 1", name, n-failures)
		}
	}
	late := h.askToSignIn()
	h.wait(local.ChallengeTTL)
	_, _, err = h.SignInWithPasskey(ctx, key.Signed(late), office, "web")
	said(t, err, "DB-6302")
	locked := h.alice
	locked.Locked = true
	h.store.PutUser(locked)
	_, _, err = h.SignInWithPasskey(ctx, key.Signed(h.askToSignIn()), office, "web")
	said(t, err, "DB-4002")
	h.store.PutUser(h.alice)

	h.wait(local.RecoveryRest)
	h.must(h.TakeFactor(ctx, h.by(bob), h.alice.ID, k.ID, "INC-7 lost"))
	_, _, err = h.SignInWithPasskey(ctx, key.Signed(h.askToSignIn()), office, "web")
	said(t, err, "DB-6303")
	h.must(h.login("alice", password, "", office)) // as after TakeFactor of an authenticator
}

// TestPasskeyVote: a second factor for a vote is over what was shown, by the person
// who votes, in the login in which it was shown, once.
func TestPasskeyVote(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	bob := h.user("bob")
	key, _ := h.addPasskey(h.alice)
	bobs, _ := h.addPasskey(bob)
	h.wait(time.Hour)

	by := h.by(h.alice)
	answer := key.Signed(h.askToVote(h.alice, "digest-1"))
	at, err := h.ProveVote(ctx, by, "digest-1", answer)
	if err != nil || !at.Equal(h.clock()) {
		t.Fatalf("a vote: %v, %v", at, err)
	}
	_, err = h.ProveVote(ctx, by, "digest-1", answer)
	said(t, err, "DB-6302")
	_, err = h.ProveVote(ctx, by, "digest-2", key.Signed(h.askToVote(h.alice, "digest-1")))
	said(t, err, "DB-6311")
	_, err = h.ProveVote(ctx, by, "digest-1", bobs.Signed(h.askToVote(bob, "digest-1"))) // another's challenge
	said(t, err, "DB-6302")
	_, err = h.ProveVote(ctx, by, "digest-1", bobs.Signed(h.askToVote(h.alice, "digest-1"))) // another's passkey
	said(t, err, "DB-6303")
	_, err = h.ProveVote(ctx, by, "digest-1", key.Signed(h.askToSignIn()))
	said(t, err, "DB-6302")
	elsewhere := by
	elsewhere.Login = "LOG-other"
	_, err = h.ProveVote(ctx, elsewhere, "digest-1", key.Signed(h.askToVote(h.alice, "digest-1")))
	said(t, err, "DB-6302")
	if _, err = h.AskToVote(ctx, by, ""); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("a challenge for a vote on nothing: %v", err)
	}
}

// TestPasskeyCopied: a counter that goes back blocks the passkey for both who have it.
func TestPasskeyCopied(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	key, k := h.addPasskey(h.alice)
	theirs := *key
	_, _, err := h.SignInWithPasskey(ctx, key.Signed(h.askToSignIn()), office, "web")
	h.must(err)
	_, err = h.ProveVote(ctx, h.by(h.alice), "d", theirs.Signed(h.askToVote(h.alice, "d")))
	said(t, err, "DB-6305")
	_, _, err = h.SignInWithPasskey(ctx, key.Signed(h.askToSignIn()), office, "web")
	said(t, err, "DB-6305")
	_, _, err = h.LoginWithPasskey(ctx, "alice", []byte(password), key.Signed(h.askToSignIn()), office)
	said(t, err, "DB-6305")
	said(t, h.login("alice", password, "", office), "DB-4002") // whoever has copied it does not get in by the password alone
	h.wait(local.RecoveryRest)
	h.must(h.TakeFactor(ctx, access.System(), h.alice.ID, k.ID, "INC-7 copied"))
	h.must(h.login("alice", password, "", office))
}

// TestPasskeyFresh: who sits at a browser that somebody else has left adds and
// removes nothing.
func TestPasskeyFresh(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	by := h.by(h.alice)
	by.MFAAt = time.Time{}
	for name, signedIn := range map[string]time.Time{"long ago": start.Add(-local.FreshWithin - time.Second), "on the command line": {}} {
		if _, err := h.AskToAdd(ctx, by, signedIn); err == nil {
			t.Errorf("signed in %s: a passkey may be added", name)
		}
	}
	prompt, err := h.AskToAdd(ctx, by, start.Add(-local.FreshWithin))
	h.must(err)
	key := mfatest.New("gw.example.com", origin, h.alice.ID)
	for _, name := range []string{"", "two\nlines", strings.Repeat("x", access.MaxLabel+1)} {
		if _, err := h.AddPasskey(ctx, by, name, key.Made(prompt.Challenge)); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("the name %.20q: %v", name, err)
		}
	}
	k, err := h.AddPasskey(ctx, by, "laptop", key.Made(prompt.Challenge))
	h.must(err)
	_, err = h.AddPasskey(ctx, by, "again", key.Made(prompt.Challenge))
	said(t, err, "DB-6302")
	bob := h.user("bob")
	prompt, err = h.AskToAdd(ctx, h.by(bob), start)
	h.must(err)
	_, err = h.AddPasskey(ctx, by, "for bob", key.Made(prompt.Challenge))
	said(t, err, "DB-6302")
	prompt, err = h.AskToAdd(ctx, h.by(bob), start)
	h.must(err)
	_, err = h.AddPasskey(ctx, h.by(bob), "of alice", key.Made(prompt.Challenge))
	said(t, err, "DB-6307")

	// Now that there is a second factor, the password is not enough.
	_, err = h.AskToAdd(ctx, by, start)
	said(t, err, "DB-6301")
	said(t, h.RemoveFactor(ctx, by, start, k.ID, ""), "DB-6301")
	_, err = h.Enrol(ctx, by, []byte(password), "")
	said(t, err, "DB-4002")
	said(t, h.ChangePassword(ctx, by, []byte(password), "", []byte(another)), "DB-4002")
	by.MFAAt = h.clock()
	said(t, h.RemoveFactor(ctx, by, start, k.ID, "responder"), "DB-6308")
	said(t, h.RemoveFactor(ctx, by, start, "PKY-other", ""), "DB-6310")
	h.must(h.ChangePassword(ctx, by, []byte(password), "", []byte(another)))
	h.must(h.RemoveFactor(ctx, by, start, k.ID, ""))

	emergency := h.alice
	emergency.Emergency = true
	_, err = h.AskToAdd(ctx, h.by(emergency), start)
	said(t, err, "DB-6312")
}

// TestPasskeyLimits: neither keys nor challenges grow without end.
func TestPasskeyLimits(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	prompt, err := h.AskToAdd(ctx, h.by(h.alice), start)
	h.must(err)
	for range local.MaxPasskeys {
		h.addPasskey(h.alice)
	}
	_, err = h.AskToAdd(ctx, h.by(h.alice), start)
	said(t, err, "DB-6306")
	_, err = h.AddPasskey(ctx, h.by(h.alice), "one more", mfatest.New("gw.example.com", origin, h.alice.ID).Made(prompt.Challenge))
	said(t, err, "DB-6306")

	// A flood from one address leaves the rest their challenges.
	key, _ := h.addPasskey(h.user("bob"))
	mine := h.askToSignIn()
	for range 500 {
		_, err := h.AskToSignIn(ctx, cafe)
		h.must(err)
	}
	_, _, err = h.SignInWithPasskey(ctx, key.Signed(mine), office, "web")
	h.must(err)
}

// TestPasskeyFlood: from everywhere at once, the count of challenges ends.
func TestPasskeyFlood(t *testing.T) {
	h := newHouse(t)
	var refused atomic.Int32
	for i := range 10_100 {
		if _, err := h.AskToSignIn(t.Context(), stranger(i)); err != nil {
			said(t, err, "DB-6309")
			refused.Add(1)
		}
	}
	if refused.Load() != 100 {
		t.Errorf("%d of 10,100 challenges were refused, want 100", refused.Load())
	}
	h.wait(local.ChallengeTTL)
	h.askToSignIn()
}

// TestPasskeyRace: of any number of answers to one challenge one counts.
func TestPasskeyRace(t *testing.T) {
	h := newHouse(t)
	key, _ := h.addPasskey(h.alice)
	answer := key.Signed(h.askToSignIn())
	good := 0
	for _, err := range identitytest.Parallel(16, func(int) error {
		_, _, err := h.SignInWithPasskey(t.Context(), answer, office, "web")
		return err
	}) {
		if err == nil {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d of 16 answers to one challenge count", good)
	}
}

func TestNoPasskeys(t *testing.T) {
	p, err := local.New(local.Config{Store: identitytest.NewMemory(), Sealer: &sealer{}, Issuer: "gw", Params: cheap})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.AskToSignIn(t.Context(), office)
	said(t, err, "DB-6300")
	_, _, err = p.SignInWithPasskey(t.Context(), []byte("{}"), office, "web")
	said(t, err, "DB-6300")
}
