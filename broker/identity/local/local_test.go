package local_test

import (
	"bytes"
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity/identitytest"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/broker/identity/mfa"
)

var (
	start  = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	office = netip.MustParseAddr("192.0.2.7")
	cafe   = netip.MustParseAddr("198.51.100.9")
	cheap  = local.Params{Memory: 64, Time: 1, Threads: 1}
)

const (
	password = "correct horse battery staple"
	another  = "a quite different passphrase"
)

// stranger returns the i-th of many addresses.
func stranger(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

// sealer binds what it seals to the id, as a real one does, and can be broken.
type sealer struct{ broken atomic.Bool }

func (s *sealer) Seal(id string, secret []byte) ([]byte, error) {
	return append([]byte(id+"|"), secret...), nil
}

func (s *sealer) Open(id string, sealed []byte) ([]byte, error) {
	secret, ok := bytes.CutPrefix(sealed, []byte(id+"|"))
	if !ok || s.broken.Load() {
		return nil, errors.New("does not open")
	}
	return secret, nil
}

type house struct {
	*local.Provider
	t      *testing.T
	store  *identitytest.Memory
	sealer *sealer
	hashes atomic.Int32
	alice  access.User

	mu  sync.Mutex
	now time.Time
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) wait(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, store: identitytest.NewMemory(), sealer: &sealer{}, now: start}
	h.alice = h.user("alice")
	h.restart(cheap)
	h.must(h.SetPassword(t.Context(), access.System(), h.alice.ID, []byte(password)))
	h.hashes.Store(0)
	return h
}

// restart makes a new provider over the same store.
func (h *house) restart(p local.Params) {
	h.t.Helper()
	var err error
	h.Provider, err = local.New(local.Config{
		Store: h.store, Sealer: h.sealer, Issuer: "gw.example.com", Params: p, Queue: 200, Now: h.clock, RelyingParty: relyingParty(h.t),
	})
	h.must(err)
	h.CountHashes(&h.hashes)
}

func (h *house) user(name string) access.User {
	u := access.User{ID: access.NewID(access.UserPrefix), Name: name}
	h.store.PutUser(u)
	return u
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) login(name, password, code string, from netip.Addr) error {
	_, _, err := h.Login(h.t.Context(), name, []byte(password), code, from)
	return err
}

// wrong, blocked: the codes of the two answers to who is not logged in.
const (
	wrong   = "DB-4002"
	blocked = "DB-4003"
)

func answer(err error) string {
	if err == nil {
		return "ok"
	}
	if e, ok := errors.AsType[*access.Error](err); ok {
		return e.Code
	}
	return err.Error()
}

func (h *house) want(err error, want string) {
	h.t.Helper()
	if got := answer(err); got != want {
		h.t.Errorf("answer = %s (%v), want %s", got, err, want)
	}
}

func (h *house) caller() access.Caller {
	return access.Caller{User: h.alice, Source: office, Via: "web"}
}

func (h *house) code(e local.Enrolment, offset int64) string {
	h.t.Helper()
	secret, err := base32.StdEncoding.DecodeString(e.Secret)
	h.must(err)
	code, err := mfa.Code(secret, mfa.Step(h.clock())+offset)
	h.must(err)
	return code
}

// enrol gives alice an authenticator and lets its first code's time pass.
func (h *house) enrol() local.Enrolment {
	h.t.Helper()
	e, err := h.Enrol(h.t.Context(), h.caller(), []byte(password), "")
	h.must(err)
	at, err := h.Confirm(h.t.Context(), h.caller(), h.code(e, 0))
	h.must(err)
	if !at.Equal(h.clock()) {
		h.t.Errorf("confirmed at %v, want %v", at, h.clock())
	}
	h.wait(2 * mfa.Period)
	h.hashes.Store(0)
	return e
}

func TestLogin(t *testing.T) {
	h := newHouse(t)
	user, mfaAt, err := h.Login(t.Context(), "alice", []byte(password), "", office)
	h.must(err)
	if user.ID != h.alice.ID || !mfaAt.IsZero() {
		t.Errorf("Login = %+v, %v", user, mfaAt)
	}
	// A code counts for nothing where there is no authenticator.
	if _, mfaAt, err = h.Login(t.Context(), "alice", []byte(password), "123456", office); err != nil || !mfaAt.IsZero() {
		t.Errorf("Login with an idle code = %v, %v", mfaAt, err)
	}
}

// Whatever is wrong, the sentence, the number of hashes and what is counted
// are the same; only the audit log tells them apart.
func TestOneAnswerOneCost(t *testing.T) {
	for _, tt := range []struct {
		name, user, password, code, reason string
		prepare                            func(h *house) (code string)
	}{
		{name: "unknown user", user: "mallory", password: password, reason: "unknown user"},
		{name: "name outside the grammar", user: "Alice", password: password, reason: "unknown user"},
		{name: "a statement for a name", user: "' or 1=1 --", password: password, reason: "unknown user"},
		{name: "an id for a name", user: "USR-0000000000000000", password: password, reason: "unknown user"},
		{name: "a long name", user: strings.Repeat("a", 100_000), password: password, reason: "unknown user"},
		{name: "wrong password", user: "alice", password: "x" + password, reason: "password"},
		{name: "empty password", user: "alice", password: "", reason: "password"},
		{name: "password too long", user: "alice", password: strings.Repeat("x", 1<<20), reason: "password"},
		{name: "user without a password", user: "carol", password: "", reason: "no password", prepare: func(h *house) string { h.user("carol"); return "" }},
		{name: "locked", user: "alice", password: password, reason: "locked", prepare: func(h *house) string {
			u := h.alice
			u.Locked = true
			h.store.PutUser(u)
			return ""
		}},
		{name: "no code", user: "alice", password: password, reason: "code", prepare: func(h *house) string { h.enrol(); return "" }},
		{name: "code of the wrong step", user: "alice", password: password, reason: "code", prepare: func(h *house) string { return h.code(h.enrol(), 2) }},
		{name: "wrong password, right code", user: "alice", password: another, reason: "password", prepare: func(h *house) string { return h.code(h.enrol(), 0) }},
		{name: "used code", user: "alice", password: password, reason: "code used", prepare: func(h *house) string {
			code := h.code(h.enrol(), 0)
			h.must(h.login("alice", password, code, office))
			h.hashes.Store(0)
			return code
		}},
		{name: "code of before the last used", user: "alice", password: password, reason: "code used", prepare: func(h *house) string {
			e := h.enrol()
			before := h.code(e, 0)
			h.must(h.login("alice", password, h.code(e, 1), office))
			h.hashes.Store(0)
			return before
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t)
			code := tt.code
			if tt.prepare != nil {
				code = tt.prepare(h)
			}
			user, mfaAt, err := h.Login(t.Context(), tt.user, []byte(tt.password), code, cafe)
			if !errors.Is(err, access.ErrUnauthenticated) || err.Error() != "the name, the password or the code is wrong" {
				t.Errorf("error = %v", err)
			}
			if user.ID != "" || !mfaAt.IsZero() {
				t.Errorf("the refusal came with %+v, %v", user, mfaAt)
			}
			if n := h.hashes.Load(); n != 1 {
				t.Errorf("%d hashes, want 1", n)
			}
			fails := h.store.Failures()
			if len(fails) != 1 || fails[0].Reason != tt.reason || fails[0].Source != cafe.String() || !fails[0].At.Equal(h.clock()) {
				t.Errorf("recorded %+v, want one for %s", fails, tt.reason)
			}
			if known := tt.reason != "unknown user"; (fails[0].UserID != "") != known {
				t.Errorf("recorded for the user %q", fails[0].UserID)
			}
		})
	}
}

// A name that exists and one that does not give the same answers, one by one,
// from the first try to long after the last.
func TestBlockingTellsNothing(t *testing.T) {
	h := newHouse(t)
	var answers [2][]string
	for i, name := range []string{"alice", "mallory"} {
		h.now = start
		for try := range 130 {
			from := stranger(1000*i + try) // a fresh source each, then one source
			if try < 30 {
				from = stranger(1000*i + 999)
			}
			answers[i] = append(answers[i], answer(h.login(name, another, "", from)))
			h.wait(20 * time.Second)
		}
	}
	if a, b := fmt.Sprint(answers[0]), fmt.Sprint(answers[1]); a != b {
		t.Errorf("known and unknown differ:\n%s\n%s", a, b)
	}
}

func TestBlockOfUserAndSource(t *testing.T) {
	h := newHouse(t)
	h.must(h.login("alice", password, "", office)) // the office is known
	for range 10 {
		h.want(h.login("alice", another, "", cafe), wrong)
		h.wait(time.Minute)
	}
	hashes := h.hashes.Load()
	h.want(h.login("alice", password, "", cafe), blocked)
	h.restart(cheap) // it is in the store, not in memory
	h.want(h.login("alice", password, "", cafe), blocked)
	h.wait(28 * time.Minute)
	h.want(h.login("alice", password, "", cafe), blocked)
	if n := h.hashes.Load(); n != hashes {
		t.Errorf("%d hashes for refused tries", n-hashes)
	}
	h.want(h.login("alice", password, "", office), "ok")
	h.want(h.login("carol", password, "", cafe), wrong) // others are not refused there
	h.wait(2 * time.Minute)
	h.want(h.login("alice", password, "", cafe), "ok")
}

// One that is known is refused after ten tries, too.
func TestBlockOfKnown(t *testing.T) {
	h := newHouse(t)
	h.must(h.login("alice", password, "", office))
	for range 10 {
		h.want(h.login("alice", another, "", office), wrong)
	}
	h.want(h.login("alice", password, "", office), blocked)
	h.wait(31 * time.Minute)
	for range 9 {
		h.want(h.login("alice", another, "", office), wrong)
	}
	h.want(h.login("alice", password, "", office), "ok")
	h.want(h.login("alice", another, "", office), wrong) // the nine are forgiven
	h.want(h.login("alice", password, "", office), "ok")
}

// Guesses that run at once buy no more than guesses in a row.
func TestParallelGuesses(t *testing.T) {
	h := newHouse(t)
	errs := identitytest.Parallel(100, func(int) error { return h.login("alice", another, "", cafe) })
	count := make(map[string]int)
	for _, err := range errs {
		count[answer(err)]++
	}
	if count[wrong] != 10 || count[blocked] != 90 || h.hashes.Load() != 10 {
		t.Errorf("answers %v with %d hashes, want 10 wrong, 90 blocked, 10 hashes", count, h.hashes.Load())
	}
}

func TestBlockOfSource(t *testing.T) {
	h := newHouse(t)
	h.must(h.login("alice", password, "", cafe)) // known where the guessing comes from
	for i := range 21 {
		h.want(h.login(fmt.Sprintf("user%d", i), another, "", cafe), wrong)
	}
	// From here on each try that is answered is followed by a longer wait.
	var waits []time.Duration
	for i := range 12 {
		h.want(h.login("alice", password, "", cafe), "ok")
		refused := h.clock()
		for answer(h.login(fmt.Sprintf("more%d", i), another, "", cafe)) == blocked {
			h.wait(time.Second)
			if h.clock().Sub(refused) > time.Hour {
				t.Fatal("refused for over an hour")
			}
		}
		waits = append(waits, h.clock().Sub(refused))
	}
	if waits[0] != 2*time.Second || waits[1] != 4*time.Second || waits[5] != 64*time.Second || waits[11] < 4*time.Minute {
		t.Errorf("waits %v, want growing ones", waits)
	}
	h.want(h.login("carol", another, "", office), wrong) // elsewhere is free
	h.wait(3 * time.Hour)
	for i := range 20 {
		h.want(h.login(fmt.Sprintf("late%d", i), another, "", cafe), wrong)
	}
}

// Ten thousand addresses of one IPv6 host are one source.
func TestBlockOfPrefix(t *testing.T) {
	h := newHouse(t)
	for i := range 10 {
		h.want(h.login("alice", another, "", netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 8: byte(i), 15: 1})), wrong)
	}
	h.want(h.login("alice", password, "", netip.MustParseAddr("2001:db8::ffff")), blocked)
	h.want(h.login("alice", password, "", netip.MustParseAddr("2001:db8:0:1::1")), "ok")
	for range 10 {
		h.want(h.login("alice", another, "", netip.MustParseAddr("::ffff:203.0.113.1")), wrong)
	}
	h.want(h.login("alice", password, "", netip.MustParseAddr("203.0.113.1")), blocked)
}

// A login of one's own does not buy the next guesses at another's.
func TestOwnLoginBuysNothing(t *testing.T) {
	h := newHouse(t)
	mallory := h.user("mallory")
	h.must(h.SetPassword(t.Context(), access.System(), mallory.ID, []byte(another)))
	guesses := 0
	for i := range 60 {
		if answer(h.login(fmt.Sprintf("user%d", i), "no", "", cafe)) == wrong {
			guesses++
		}
		h.want(h.login("mallory", another, "", cafe), "ok")
	}
	if guesses > 22 {
		t.Errorf("%d guesses went through, want about 20", guesses)
	}
}

// Guessing from many sources ends after a hundred tries; the person it is aimed
// at goes on working from where they are known.
func TestStrangersCannotLockOut(t *testing.T) {
	h := newHouse(t)
	h.must(h.login("alice", password, "", office))
	var guesses int
	for i := range 500 {
		if answer(h.login("alice", another, "", stranger(i))) == wrong {
			guesses++
		}
	}
	if guesses != 100 {
		t.Errorf("%d guesses went through, want 100", guesses)
	}
	h.want(h.login("alice", password, "", office), "ok")
	h.want(h.login("alice", another, "", office), wrong)
	h.want(h.login("alice", password, "", office), "ok")
	h.want(h.login("alice", password, "", cafe), blocked) // not known there
	h.wait(24 * time.Hour)
	h.want(h.login("alice", password, "", cafe), "ok")
	h.wait(91 * 24 * time.Hour) // known no more
	for i := range 100 {
		h.want(h.login("alice", another, "", stranger(i)), wrong)
	}
	h.want(h.login("alice", password, "", office), blocked)
}

func TestCountersAreBounded(t *testing.T) {
	h := newHouse(t)
	for i := range 300 {
		h.want(h.login(fmt.Sprintf("user%d", i), another, "", stranger(i)), wrong)
	}
	if n := h.store.CounterCount(); n != 900 {
		t.Fatalf("%d counters, want 900", n)
	}
	h.wait(49 * time.Hour)
	h.must(h.Prune(t.Context()))
	if n := h.store.CounterCount(); n != 0 {
		t.Errorf("%d counters left after two days", n)
	}
}

// A try that could not be checked is not the user's fault.
func TestBrokenSealer(t *testing.T) {
	h := newHouse(t)
	e := h.enrol()
	h.sealer.broken.Store(true)
	for range 30 {
		err := h.login("alice", password, h.code(e, 0), office)
		if err == nil || errors.Is(err, access.ErrUnauthenticated) {
			t.Fatalf("Login with a broken sealer: %v", err)
		}
	}
	h.sealer.broken.Store(false)
	h.want(h.login("alice", password, h.code(e, 0), office), "ok")
}

// A person who hangs up is not counted as wrong.
func TestHangUp(t *testing.T) {
	h := newHouse(t)
	for range 30 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h.Login(ctx, "alice", []byte(password), "", office)
	}
	h.want(h.login("alice", password, "", office), "ok")
}

func TestCode(t *testing.T) {
	h := newHouse(t)
	e := h.enrol()
	if !strings.HasPrefix(e.URL, "otpauth://totp/gw.example.com:alice?") || !strings.Contains(e.URL, e.Secret) {
		t.Errorf("enrolment %+v", e)
	}
	_, mfaAt, err := h.Login(t.Context(), "alice", []byte(password), h.code(e, 0), office)
	if err != nil || !mfaAt.Equal(h.clock()) {
		t.Errorf("Login = %v, %v", mfaAt, err)
	}
	c, err := h.store.Credential(t.Context(), h.alice.ID)
	h.must(err)
	if bytes.Contains(c.TOTP, []byte(e.Secret)) {
		t.Error("the secret is kept in clear")
	}

	// Fifty at once with one code: one is let in.
	h.wait(mfa.Period)
	code := h.code(e, 0)
	var in atomic.Int32
	identitytest.Parallel(50, func(i int) error {
		err := h.login("alice", password, code, stranger(i))
		if err == nil {
			in.Add(1)
		}
		return err
	})
	if in.Load() != 1 {
		t.Errorf("%d of 50 logins with one code, want 1", in.Load())
	}
	// And neither of the two doors accepts what the other has used.
	_, err = h.StepUp(t.Context(), h.caller(), code)
	h.want(err, wrong)
	h.wait(mfa.Period)
	mfaAt, err = h.StepUp(t.Context(), h.caller(), h.code(e, 0))
	if err != nil || !mfaAt.Equal(h.clock()) {
		t.Errorf("StepUp = %v, %v", mfaAt, err)
	}
	h.want(h.login("alice", password, h.code(e, 0), office), wrong)
}

// Six digits are guessed in a million tries if nobody counts.
func TestStepUpIsCounted(t *testing.T) {
	h := newHouse(t)
	_, err := h.StepUp(t.Context(), h.caller(), "123456")
	if !errors.Is(err, access.ErrInvalid) {
		t.Errorf("StepUp without an authenticator: %v, want invalid", err)
	}
	e := h.enrol()
	for range 10 {
		_, err = h.StepUp(t.Context(), h.caller(), "12345x")
		h.want(err, wrong)
	}
	_, err = h.StepUp(t.Context(), h.caller(), h.code(e, 0))
	h.want(err, blocked)
	h.want(h.login("alice", password, h.code(e, 0), office), blocked)
}

func TestEnrol(t *testing.T) {
	h := newHouse(t)
	_, err := h.Enrol(t.Context(), h.caller(), []byte(another), "")
	h.want(err, wrong)
	_, err = h.Confirm(t.Context(), h.caller(), "123456")
	if !errors.Is(err, access.ErrInvalid) {
		t.Errorf("Confirm without Enrol: %v, want invalid", err)
	}
	first, err := h.Enrol(t.Context(), h.caller(), []byte(password), "")
	h.must(err)
	h.want(h.login("alice", password, "", office), "ok") // not required until it is confirmed
	second, err := h.Enrol(t.Context(), h.caller(), []byte(password), "")
	h.must(err)
	_, err = h.Confirm(t.Context(), h.caller(), h.code(first, 0))
	h.want(err, wrong)
	_, err = h.Confirm(t.Context(), h.caller(), h.code(second, 0))
	h.must(err)
	h.want(h.login("alice", password, h.code(second, 0), office), wrong) // used to confirm
	h.wait(mfa.Period)

	// Another takes its place only for who has the one that is there.
	_, err = h.Enrol(t.Context(), h.caller(), []byte(password), "")
	h.want(err, wrong)
	third, err := h.Enrol(t.Context(), h.caller(), []byte(password), h.code(second, 0))
	h.must(err)
	h.wait(mfa.Period)
	h.want(h.login("alice", password, h.code(second, 0), office), "ok")
	_, err = h.Confirm(t.Context(), h.caller(), h.code(third, 0))
	h.must(err)
	h.wait(mfa.Period)
	h.want(h.login("alice", password, h.code(second, 0), office), wrong)
	h.want(h.login("alice", password, h.code(third, 0), office), "ok")

	if f, err := h.Factors(t.Context(), h.alice.ID); err != nil || f != (local.Factors{Password: true, TOTP: true}) {
		t.Errorf("Factors = %+v, %v", f, err)
	}
	h.wait(local.RecoveryRest)
	h.must(h.TakeFactor(t.Context(), access.System(), h.alice.ID, local.TOTP, "INC-7 phone stolen"))
	h.want(h.login("alice", password, "", office), "ok")
	if f, err := h.Factors(t.Context(), h.user("carol").ID); err != nil || f != (local.Factors{}) {
		t.Errorf("Factors of a new user = %+v, %v", f, err)
	}
}

// What is sealed for one user does not open for another.
func TestSecretIsBoundToUser(t *testing.T) {
	h := newHouse(t)
	e := h.enrol()
	c, err := h.store.Credential(t.Context(), h.alice.ID)
	h.must(err)
	bob := h.user("bob")
	h.must(h.SetPassword(t.Context(), access.System(), bob.ID, []byte(another)))
	h.must(h.store.SetPendingTOTP(t.Context(), access.System(), bob.ID, c.TOTP))
	h.must(h.store.ConfirmTOTP(t.Context(), access.System(), bob.ID, c.TOTP, 1))
	if err := h.login("bob", another, h.code(e, 0), office); err == nil {
		t.Error("an authenticator copied to another user's row works there")
	}
}

func TestChangePassword(t *testing.T) {
	h := newHouse(t)
	e := h.enrol()
	by := h.caller()
	h.want(h.ChangePassword(t.Context(), by, []byte(another), h.code(e, 0), []byte(another)), wrong)
	h.want(h.ChangePassword(t.Context(), by, []byte(password), "", []byte(another)), wrong)
	h.want(h.ChangePassword(t.Context(), by, []byte(password), h.code(e, 0), []byte("short")), "DB-4020")
	h.want(h.ChangePassword(t.Context(), by, []byte(password), h.code(e, 0), []byte(another)), "ok")
	h.wait(mfa.Period)
	h.want(h.login("alice", password, h.code(e, 0), office), wrong)
	h.want(h.login("alice", another, h.code(e, 0), office), "ok")
}

func TestSetPassword(t *testing.T) {
	h := newHouse(t)
	if err := h.SetPassword(t.Context(), access.System(), "USR-0000000000000000", []byte(another)); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("for nobody: %v, want not found", err)
	}
	h.want(h.SetPassword(t.Context(), access.System(), h.alice.ID, []byte("Alice2024!!!")), "DB-4020")
	h.want(h.login("alice", password, "", office), "ok")
}

func TestRehash(t *testing.T) {
	h := newHouse(t)
	before, err := h.store.Credential(t.Context(), h.alice.ID)
	h.must(err)
	h.restart(local.Params{Memory: 128, Time: 1, Threads: 1})
	h.want(h.login("alice", another, "", office), wrong)
	h.want(h.login("alice", password, "", office), "ok")
	after, err := h.store.Credential(t.Context(), h.alice.ID)
	h.must(err)
	if !strings.Contains(before.Hash, "m=64,") || !strings.Contains(after.Hash, "m=128,") {
		t.Errorf("hash %s became %s, want it stronger", before.Hash, after.Hash)
	}
	h.restart(cheap) // not made weaker again
	h.want(h.login("alice", password, "", office), "ok")
	if c, err := h.store.Credential(t.Context(), h.alice.ID); err != nil || c.Hash != after.Hash {
		t.Errorf("hash = %s, %v, want it left alone", c.Hash, err)
	}
}

// A hash that somebody wrote into the database neither opens nor breaks.
func TestHostileHash(t *testing.T) {
	h := newHouse(t)
	h.must(h.store.SetPassword(t.Context(), access.System(), h.alice.ID, "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$c29tZXNhbHRzb21lc2FsdA", start))
	h.want(h.login("alice", password, "", office), wrong)
}

func TestSetup(t *testing.T) {
	h := newHouse(t)
	carol := h.user("carol")
	admin := h.caller()
	for _, ttl := range []time.Duration{-time.Second, 25 * time.Hour} {
		if _, _, err := h.NewSetup(t.Context(), admin, carol.ID, ttl); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("a link for %v: %v, want invalid", ttl, err)
		}
	}
	token, setup, err := h.NewSetup(t.Context(), admin, carol.ID, 0)
	h.must(err)
	if !setup.ExpiresAt.Equal(start.Add(30*time.Minute)) || bytes.Contains(setup.Hash, []byte(token)) || len(token) < 27 {
		t.Errorf("setup %+v, token %q", setup, token)
	}
	if u, err := h.SetupUser(t.Context(), token); err != nil || u.ID != carol.ID {
		t.Errorf("SetupUser = %+v, %v", u, err)
	}
	_, err = h.Setup(t.Context(), token, []byte("short"), office, "web")
	h.want(err, "DB-4020") // the link is left as it is
	for _, bad := range []string{"", token + "A", token[:20], strings.Repeat("A", 1<<16)} {
		_, err = h.Setup(t.Context(), bad, []byte(password), office, "web")
		h.want(err, "DB-4022")
	}
	var won atomic.Int32
	winner := make(chan string, 50)
	for _, err := range identitytest.Parallel(50, func(i int) error {
		own := fmt.Sprintf("%s %d", password, i)
		_, err := h.Setup(t.Context(), token, []byte(own), stranger(i), "web")
		if err == nil {
			won.Add(1)
			winner <- own
		}
		return err
	}) {
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			t.Errorf("Setup: %v", err)
		}
	}
	if won.Load() != 1 {
		t.Fatalf("%d of 50 parallel uses of one link, want 1", won.Load())
	}
	h.want(h.login("carol", <-winner, "", office), "ok")

	token, setup, err = h.NewSetup(t.Context(), admin, carol.ID, 24*time.Hour)
	h.must(err)
	h.now = setup.ExpiresAt
	_, err = h.Setup(t.Context(), token, []byte(password), office, "web")
	h.want(err, "DB-4022")
}

func TestNewRefuses(t *testing.T) {
	good := local.Config{Store: identitytest.NewMemory(), Sealer: &sealer{}, Issuer: "gw"}
	if _, err := local.New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*local.Config){
		"no store":         func(c *local.Config) { c.Store = nil },
		"no sealer":        func(c *local.Config) { c.Sealer = nil },
		"no issuer":        func(c *local.Config) { c.Issuer = "" },
		"a gigabyte":       func(c *local.Config) { c.Params = local.Params{Memory: 1 << 20, Time: 1, Threads: 1} },
		"one hash at once": func(c *local.Config) { c.Parallel = 1 },
		"negative queue":   func(c *local.Config) { c.Queue = -1 },
	} {
		c := good
		spoil(&c)
		if _, err := local.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
