package identitytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity/local"
)

func (m *Memory) Passkeys(ctx context.Context, userID string) ([]local.Passkey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.passkeys), func(p local.Passkey) bool { return p.UserID != userID }), nil
}

func (m *Memory) SecondFactors(ctx context.Context, userIDs []string) (passkeys, totp map[string]bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	passkeys, totp = map[string]bool{}, map[string]bool{}
	for _, id := range userIDs {
		passkeys[id] = slices.ContainsFunc(m.passkeys, func(p local.Passkey) bool { return p.UserID == id })
		totp[id] = m.credentials[id].TOTP != nil
	}
	return passkeys, totp, nil
}

func (m *Memory) PasskeyOf(ctx context.Context, credential []byte) (local.Passkey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.passkeys {
		if bytes.Equal(p.Credential, credential) {
			return p, nil
		}
	}
	return local.Passkey{}, notFound("passkey", "")
}

func (m *Memory) AddPasskey(ctx context.Context, by access.Caller, p local.Passkey, most int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.user(p.UserID); err != nil {
		return err
	}
	n := 0
	for _, other := range m.passkeys {
		if other.UserID == p.UserID {
			n++
		}
		if bytes.Equal(other.Credential, p.Credential) {
			return access.ErrConflict
		}
	}
	if n >= most {
		return access.ErrUnavailable
	}
	m.passkeys = append(m.passkeys, p)
	return nil
}

func (m *Memory) UsePasskey(ctx context.Context, by access.Caller, u local.PasskeyUse) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := slices.IndexFunc(m.passkeys, func(p local.Passkey) bool { return p.ID == u.ID })
	if at < 0 {
		return notFound("passkey", u.ID)
	}
	p := &m.passkeys[at]
	switch {
	case !p.BlockedAt.IsZero():
		return access.ErrDenied
	case p.Copied(u.Count):
		p.BlockedAt = u.At
		return access.ErrConflict
	}
	p.Count, p.BackedUp, p.UsedAt = u.Count, u.BackedUp, u.At
	return nil
}

func (m *Memory) CreateChallenge(ctx context.Context, c local.Challenge, most, all int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	waiting, mine := 0, 0
	for _, other := range m.challenges {
		if c.CreatedAt.Before(other.ExpiresAt) {
			waiting++
		}
		if other.Owner == c.Owner {
			mine++
		}
	}
	if waiting >= all {
		return access.ErrUnavailable
	}
	m.challenges = slices.DeleteFunc(m.challenges, func(other local.Challenge) bool {
		if other.Owner != c.Owner || mine < most {
			return false
		}
		mine-- // the oldest stand first
		return true
	})
	m.challenges = append(m.challenges, c)
	return nil
}

func (m *Memory) TakeChallenge(ctx context.Context, hash []byte, now time.Time) (local.Challenge, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := slices.IndexFunc(m.challenges, func(c local.Challenge) bool { return bytes.Equal(c.Hash, hash) && now.Before(c.ExpiresAt) })
	if at < 0 {
		return local.Challenge{}, notFound("challenge", "")
	}
	c := m.challenges[at]
	m.challenges = slices.Delete(m.challenges, at, at+1)
	return c, nil
}

func (s *suite) passkey(u access.User, n byte) local.Passkey {
	p := local.Passkey{ID: access.NewID(local.PasskeyPrefix), UserID: u.ID, Name: fmt.Sprintf("key %d", n), AddedAt: start.Add(time.Duration(n) * time.Second)}
	p.Credential, p.Key, p.BackupEligible = bytes.Repeat([]byte{n}, 32), []byte("cose"), true
	return p
}

func testPasskeys(t *testing.T, s *suite) {
	by := s.by(s.alice)
	one, two, of := s.passkey(s.alice, 1), s.passkey(s.alice, 2), s.passkey(s.bob, 3)
	one.Count = 1<<32 - 2
	nobody := s.passkey(s.alice, 9)
	nobody.UserID = access.NewID(access.UserPrefix)
	s.want(s.AddPasskey(s.ctx, by, nobody, 9), access.ErrNotFound)
	s.ok(s.AddPasskey(s.ctx, by, two, 2))
	s.ok(s.AddPasskey(s.ctx, by, one, 2))
	s.want(s.AddPasskey(s.ctx, by, s.passkey(s.alice, 4), 2), access.ErrUnavailable)
	s.ok(s.AddPasskey(s.ctx, s.by(s.bob), of, 2))
	taken := s.passkey(s.bob, 1) // a credential of somebody else's
	s.want(s.AddPasskey(s.ctx, s.by(s.bob), taken, 9), access.ErrConflict)

	list, err := s.Passkeys(s.ctx, s.alice.ID)
	s.ok(err)
	got, err := s.PasskeyOf(s.ctx, one.Credential)
	s.ok(err)
	if len(list) != 2 || got.ID != one.ID || got.UserID != s.alice.ID || got.Name != "key 1" || !got.AddedAt.Equal(one.AddedAt) || got.Count != one.Count ||
		!got.BackupEligible || got.BackedUp || string(got.Key) != "cose" || !got.UsedAt.IsZero() || !got.BlockedAt.IsZero() {
		t.Errorf("passkeys = %+v, and %+v", list, got)
	}
	_, err = s.PasskeyOf(s.ctx, []byte("x"))
	s.want(err, access.ErrNotFound)
	keys, totp, err := s.SecondFactors(s.ctx, []string{s.alice.ID, s.bob.ID, nobody.UserID})
	s.ok(err)
	if !keys[s.alice.ID] || !keys[s.bob.ID] || keys[nobody.UserID] || totp[s.alice.ID] {
		t.Errorf("second factors = %v, %v", keys, totp)
	}

	// A counter that does not grow blocks, of any number of answers at once.
	use := local.PasskeyUse{ID: one.ID, Purpose: local.Vote, Digest: "d", At: start.Add(time.Hour)}
	use.Count, use.BackedUp = 1<<32-1, true
	s.ok(s.UsePasskey(s.ctx, by, use))
	if got, err = s.PasskeyOf(s.ctx, one.Credential); err != nil || got.Count != 1<<32-1 || !got.BackedUp || !got.UsedAt.Equal(use.At) {
		t.Errorf("after a use: %+v, %v", got, err)
	}
	s.want(s.UsePasskey(s.ctx, by, use), access.ErrConflict)
	if got, err = s.PasskeyOf(s.ctx, one.Credential); err != nil || !got.BlockedAt.Equal(use.At) {
		t.Errorf("after a counter went back: %+v, %v", got, err)
	}
	s.want(s.UsePasskey(s.ctx, by, use), access.ErrDenied)
	use.ID, use.Count = two.ID, 7
	var good atomic.Int32
	for _, err := range Parallel(8, func(int) error { return s.UsePasskey(s.ctx, by, use) }) {
		switch {
		case err == nil:
			good.Add(1)
		case !errors.Is(err, access.ErrConflict) && !errors.Is(err, access.ErrDenied):
			t.Errorf("a use among many: %v", err)
		}
	}
	if good.Load() != 1 {
		t.Errorf("%d of 8 uses with one counter hold, want 1", good.Load())
	}
	never := local.PasskeyUse{ID: of.ID, At: start} // one that does not count
	s.ok(s.UsePasskey(s.ctx, s.by(s.bob), never))
	s.ok(s.UsePasskey(s.ctx, s.by(s.bob), never))
	never.ID = access.NewID(local.PasskeyPrefix)
	s.want(s.UsePasskey(s.ctx, s.by(s.bob), never), access.ErrNotFound)

	// The last one that works stays, unless it may go.
	s.want(s.RemoveFactor(s.ctx, by, s.alice.ID, of.ID, true), access.ErrNotFound)
	s.want(s.RemoveFactor(s.ctx, s.by(s.bob), s.bob.ID, of.ID, false), access.ErrConflict)
	more := s.passkey(s.bob, 5)
	s.ok(s.AddPasskey(s.ctx, s.by(s.bob), more, 9))
	both := []string{of.ID, more.ID}
	removed := 0
	for _, err := range Parallel(2, func(i int) error { return s.RemoveFactor(s.ctx, s.by(s.bob), s.bob.ID, both[i], false) }) {
		if err == nil {
			removed++
		} else {
			s.want(err, access.ErrConflict)
		}
	}
	if removed != 1 {
		t.Errorf("of the last two passkeys %d were removed at once, want 1", removed)
	}
	s.ok(s.SetPassword(s.ctx, by, s.alice.ID, "h", start))
	s.want(s.RemoveFactor(s.ctx, by, s.alice.ID, two.ID, false), access.ErrConflict) // the other one is blocked
	s.ok(s.SetPendingTOTP(s.ctx, by, s.alice.ID, []byte("sealed")))
	s.ok(s.ConfirmTOTP(s.ctx, by, s.alice.ID, []byte("sealed"), 1))
	s.ok(s.RemoveFactor(s.ctx, by, s.alice.ID, two.ID, false))
	s.ok(s.RemoveFactor(s.ctx, by, s.alice.ID, one.ID, true))
	s.want(s.RemoveFactor(s.ctx, by, s.alice.ID, one.ID, true), access.ErrNotFound)
	if keys, totp, err = s.SecondFactors(s.ctx, []string{s.alice.ID}); err != nil || keys[s.alice.ID] || !totp[s.alice.ID] {
		t.Errorf("second factors = %v, %v, %v", keys, totp, err)
	}
}

func testChallenges(t *testing.T, s *suite) {
	challenge := func(n int, owner string) local.Challenge {
		return local.Challenge{
			Hash: bytes.Repeat([]byte{byte(n)}, 32), Owner: owner, UserID: s.alice.ID, Login: "LOG-1", Purpose: local.Vote, Digest: "d",
			CreatedAt: start.Add(time.Duration(n) * time.Second), ExpiresAt: start.Add(time.Minute),
		}
	}
	for n := range 3 {
		s.ok(s.CreateChallenge(s.ctx, challenge(n, "a"), 2, 9))
	}
	s.ok(s.CreateChallenge(s.ctx, challenge(3, "b"), 2, 9))
	_, err := s.TakeChallenge(s.ctx, challenge(0, "").Hash, start) // the oldest gave way
	s.want(err, access.ErrNotFound)
	_, err = s.TakeChallenge(s.ctx, challenge(1, "").Hash, start.Add(time.Minute))
	s.want(err, access.ErrNotFound)
	want := challenge(1, "a")
	s.one(access.ErrNotFound, func() error {
		got, err := s.TakeChallenge(s.ctx, want.Hash, start)
		if err == nil && (!bytes.Equal(got.Hash, want.Hash) || got.Owner != want.Owner || got.UserID != want.UserID || got.Login != want.Login ||
			got.Purpose != want.Purpose || got.Digest != want.Digest || !got.CreatedAt.Equal(want.CreatedAt) || !got.ExpiresAt.Equal(want.ExpiresAt)) {
			t.Errorf("challenge = %+v, want %+v", got, want)
		}
		return err
	})
	// Two wait: of b, and the last of a.
	s.want(s.CreateChallenge(s.ctx, challenge(4, "c"), 2, 2), access.ErrUnavailable)
	late := challenge(5, "c")
	late.CreatedAt, late.ExpiresAt = start.Add(time.Hour), start.Add(2*time.Hour)
	s.ok(s.CreateChallenge(s.ctx, late, 2, 2)) // by then they wait no more
	s.ok(s.PruneLocal(s.ctx, start.Add(time.Hour)))
	_, err = s.TakeChallenge(s.ctx, challenge(3, "").Hash, start)
	s.want(err, access.ErrNotFound)
	_, err = s.TakeChallenge(s.ctx, late.Hash, start)
	s.ok(err)
}

func testLostFactors(t *testing.T, s *suite) {
	const rest = 24 * time.Hour
	day := start.Add(48 * time.Hour)
	admin := s.by(s.bob)
	lost := func(id string, at time.Time) local.Lost {
		return local.Lost{UserID: s.alice.ID, ID: id, Reason: "phone stolen", At: at, NotSince: at.Add(-rest)}
	}
	link := func(b string, at time.Time) local.Setup {
		return local.Setup{Hash: bytes.Repeat([]byte(b), 32), UserID: s.alice.ID, CreatedAt: at, ExpiresAt: at.Add(time.Hour)}
	}
	s.want(s.TakeFactor(s.ctx, admin, lost(local.TOTP, day)), access.ErrNotFound)
	// Of somebody without a password, too.
	key := s.passkey(s.alice, 0)
	s.ok(s.AddPasskey(s.ctx, s.by(s.alice), key, 9))
	s.want(s.TakeFactor(s.ctx, admin, lost("PKY-other", day)), access.ErrNotFound)
	s.ok(s.CreateSetup(s.ctx, admin, link("a", start), start.Add(-rest)))
	login := s.login(s.alice, start)
	s.ok(s.TakeFactor(s.ctx, admin, lost(key.ID, day)))
	s.want(s.TakeFactor(s.ctx, admin, lost(key.ID, day)), access.ErrNotFound)
	if got, _, err := s.Login(s.ctx, login.ID); err != nil || got.RevokedAt.IsZero() {
		t.Errorf("login after a factor was taken = %+v, %v, want it revoked", got, err)
	}
	if _, err := s.Setup(s.ctx, bytes.Repeat([]byte("a"), 32), start); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("the setup link that there was: %v, want it gone", err)
	}
	if c, err := s.Credential(s.ctx, s.alice.ID); err != nil || !c.TakenAt.Equal(day) || c.Hash != "" {
		t.Errorf("credential = %+v, %v", c, err)
	}
	// No link for a day.
	soon := day.Add(rest - time.Minute)
	s.want(s.CreateSetup(s.ctx, admin, link("b", soon), soon.Add(-rest)), access.ErrConflict)
	later := day.Add(rest)
	s.ok(s.CreateSetup(s.ctx, admin, link("b", later), later.Add(-rest)))
	s.ok(s.UseSetup(s.ctx, admin, bytes.Repeat([]byte("b"), 32), "h", later))
	// And no factor is taken for a day after a password was chosen.
	s.ok(s.SetPendingTOTP(s.ctx, s.by(s.alice), s.alice.ID, []byte("sealed")))
	s.ok(s.ConfirmTOTP(s.ctx, s.by(s.alice), s.alice.ID, []byte("sealed"), 1))
	s.want(s.TakeFactor(s.ctx, admin, lost(local.TOTP, later.Add(time.Minute))), access.ErrConflict)
	if c, err := s.Credential(s.ctx, s.alice.ID); err != nil || c.TOTP == nil || !c.TakenAt.Equal(day) {
		t.Errorf("credential after a refusal = %+v, %v", c, err)
	}
	// Both at once: one of them.
	last := later.Add(3 * rest)
	s.ok(s.CreateSetup(s.ctx, admin, link("c", last), last.Add(-rest)))
	errs := Parallel(2, func(i int) error {
		if i == 0 {
			return s.TakeFactor(s.ctx, admin, lost(local.TOTP, last))
		}
		return s.UseSetup(s.ctx, admin, bytes.Repeat([]byte("c"), 32), "thief", last)
	})
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("a factor taken and a password chosen at once: %v, %v", errs[0], errs[1])
	}
}
