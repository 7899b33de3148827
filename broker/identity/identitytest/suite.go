package identitytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/local"
)

// A Fixture is an empty store and the two things that the suite needs and that
// the contracts leave to others.
type Fixture struct {
	Store
	AddUser func(access.User)                // saves a new user
	Lock    func(userID string, locked bool) // locks or unlocks, as an administrator does
}

// Run holds a store to the contracts. new returns a fresh, empty one.
func Run(t *testing.T, new func(t *testing.T) Fixture) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"users", testUsers},
		{"logins", testLogins},
		{"revocation", testRevocation},
		{"lock", testLock},
		{"prune logins", testPruneLogins},
		{"devices", testDevices},
		{"device limits", testDeviceLimits},
		{"device races", testDeviceRaces},
		{"password", testPassword},
		{"totp", testTOTP},
		{"passkeys", testPasskeys},
		{"lost factors", testLostFactors},
		{"challenges", testChallenges},
		{"setup", testSetup},
		{"counters", testCounters},
		{"failed logins", testFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := new(t)
			s := &suite{Fixture: f, t: t, ctx: t.Context()}
			s.alice, s.bob = s.user("alice"), s.user("bob")
			tt.run(t, s)
		})
	}
}

// start is not a whole second: a store that keeps less than microseconds fails.
var start = time.Date(2026, 3, 1, 9, 0, 0, 123456000, time.UTC)

type suite struct {
	Fixture
	t          *testing.T
	ctx        context.Context
	alice, bob access.User
}

func (s *suite) user(name string) access.User {
	u := access.User{ID: access.NewID(access.UserPrefix), Name: name, Groups: []string{"dba", "ops"}, CreatedAt: start}
	s.AddUser(u)
	return u
}

func (s *suite) by(u access.User) access.Caller {
	return access.Caller{User: u, Via: "web"}
}

func (s *suite) login(u access.User, at time.Time) identity.Login {
	s.t.Helper()
	l := identity.Login{
		ID: access.NewID(access.LoginPrefix), UserID: u.ID, IssuedAt: at, ExpiresAt: at.Add(12 * time.Hour),
		MFAAt: at.Add(-time.Minute), Source: "192.0.2.7", Via: "cli",
	}
	s.ok(s.CreateLogin(s.ctx, l))
	return l
}

func (s *suite) device(code, origin string, at time.Time) identity.Device {
	return identity.Device{
		Code: code, SecretHash: bytes.Repeat([]byte(code[:1]+code[8:]), 16), Client: "laptop", Source: origin, Origin: origin,
		CreatedAt: at, ExpiresAt: at.Add(10 * time.Minute),
	}
}

func (s *suite) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *suite) want(err, kind error) {
	s.t.Helper()
	if !errors.Is(err, kind) {
		s.t.Errorf("error = %v, want one that is %v", err, kind)
	}
}

// one runs fn 50 times at once and wants one success and 49 errors of the kind.
func (s *suite) one(kind error, fn func() error) {
	s.t.Helper()
	var won atomic.Int32
	errs := Parallel(50, func(int) error {
		err := fn()
		if err == nil {
			won.Add(1)
		}
		return err
	})
	if won.Load() != 1 {
		s.t.Errorf("%d of 50 parallel calls succeeded, want 1", won.Load())
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, kind) {
			s.t.Fatalf("a parallel call returned %v, want one that is %v", err, kind)
		}
	}
}

// Parallel calls fn n times at once and returns what each call returned.
func Parallel(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-begin
			errs[i] = fn(i)
		})
	}
	close(begin)
	wg.Wait()
	return errs
}

func testUsers(t *testing.T, s *suite) {
	for _, get := range []func() (access.User, error){
		func() (access.User, error) { return s.User(s.ctx, s.alice.ID) },
		func() (access.User, error) { return s.UserByName(s.ctx, "alice") },
	} {
		u, err := get()
		s.ok(err)
		if u.ID != s.alice.ID || u.Name != "alice" || len(u.Groups) != 2 || u.Locked {
			t.Errorf("got %+v, want %+v", u, s.alice)
		}
	}
	_, err := s.User(s.ctx, access.NewID(access.UserPrefix))
	s.want(err, access.ErrNotFound)
	_, err = s.User(s.ctx, "")
	s.want(err, access.ErrNotFound)
	_, err = s.UserByName(s.ctx, "mallory")
	s.want(err, access.ErrNotFound)
}

func testLogins(t *testing.T, s *suite) {
	l := s.login(s.alice, start)
	got, user, err := s.Login(s.ctx, l.ID)
	s.ok(err)
	if got != l {
		t.Errorf("login = %+v, want %+v", got, l)
	}
	if user.ID != s.alice.ID || len(user.Groups) != 2 {
		t.Errorf("user = %+v, want %+v", user, s.alice)
	}
	_, _, err = s.Login(s.ctx, access.NewID(access.LoginPrefix))
	s.want(err, access.ErrNotFound)
	s.want(s.CreateLogin(s.ctx, l), access.ErrConflict)

	plain := l
	plain.ID, plain.MFAAt = access.NewID(access.LoginPrefix), time.Time{}
	s.ok(s.CreateLogin(s.ctx, plain))
	if got, _, err = s.Login(s.ctx, plain.ID); err != nil || !got.MFAAt.IsZero() || !got.RevokedAt.IsZero() {
		t.Errorf("login without a second factor = %+v, %v", got, err)
	}
	nobody := l
	nobody.ID, nobody.UserID = access.NewID(access.LoginPrefix), access.NewID(access.UserPrefix)
	s.want(s.CreateLogin(s.ctx, nobody), access.ErrDenied)

	by := s.by(s.alice)
	for _, at := range []time.Duration{time.Hour, time.Minute} { // the second would move it back
		s.ok(s.SetLoginMFA(s.ctx, by, l.ID, start.Add(at)))
		if got, _, err = s.Login(s.ctx, l.ID); err != nil || !got.MFAAt.Equal(start.Add(time.Hour)) {
			t.Errorf("MFAAt = %v, %v, want %v", got.MFAAt, err, start.Add(time.Hour))
		}
	}
	s.want(s.SetLoginMFA(s.ctx, by, access.NewID(access.LoginPrefix), start), access.ErrNotFound)

	later := s.login(s.alice, start.Add(time.Hour))
	s.login(s.bob, start)
	list, err := s.LoginsOf(s.ctx, s.alice.ID, start.Add(2*time.Hour))
	s.ok(err)
	if len(list) != 3 || list[0] != later {
		t.Errorf("LoginsOf = %+v, want 3, the newest first", list)
	}
	list, err = s.LoginsOf(s.ctx, s.alice.ID, l.ExpiresAt) // at that moment two have expired
	s.ok(err)
	if len(list) != 1 || list[0] != later {
		t.Errorf("LoginsOf at the expiry = %+v, want only the later login", list)
	}
}

func testRevocation(t *testing.T, s *suite) {
	by := s.by(s.alice)
	a, b, other := s.login(s.alice, start), s.login(s.alice, start), s.login(s.bob, start)
	at := start.Add(time.Minute)
	s.ok(s.RevokeLogin(s.ctx, by, a.ID, at))
	s.ok(s.RevokeLogin(s.ctx, by, a.ID, at.Add(time.Hour)))
	s.want(s.RevokeLogin(s.ctx, by, access.NewID(access.LoginPrefix), at), access.ErrNotFound)
	s.want(s.SetLoginMFA(s.ctx, by, a.ID, at), access.ErrNotFound)
	if got, _, err := s.Login(s.ctx, a.ID); err != nil || !got.RevokedAt.Equal(at) {
		t.Errorf("RevokedAt = %v, %v, want %v", got.RevokedAt, err, at)
	}
	if list, err := s.LoginsOf(s.ctx, s.alice.ID, at); err != nil || len(list) != 1 || list[0].ID != b.ID {
		t.Errorf("LoginsOf = %+v, %v, want %s alone", list, err, b.ID)
	}
	confirmed := s.device("BBBB-BBBB", "192.0.2.1", start)
	s.ok(s.CreateDevice(s.ctx, confirmed, 9, 9))
	s.ok(s.ConfirmDevice(s.ctx, by, confirmed.Code, start))
	n, err := s.RevokeLogins(s.ctx, by, s.alice.ID, at)
	if err != nil || n != 1 {
		t.Errorf("RevokeLogins = %d, %v, want 1", n, err)
	}
	if n, err = s.RevokeLogins(s.ctx, by, s.alice.ID, at); err != nil || n != 0 {
		t.Errorf("RevokeLogins again = %d, %v, want 0", n, err)
	}
	_, err = s.ClaimDevice(s.ctx, confirmed.SecretHash, start)
	s.want(err, access.ErrNotFound)
	if got, _, err := s.Login(s.ctx, other.ID); err != nil || !got.RevokedAt.IsZero() {
		t.Errorf("the other user's login = %+v, %v, want it untouched", got, err)
	}
}

func testLock(t *testing.T, s *suite) {
	l := s.login(s.alice, start)
	s.Lock(s.alice.ID, true)
	if _, u, err := s.Login(s.ctx, l.ID); err != nil || !u.Locked {
		t.Errorf("Login of a locked user = %+v, %v, want it locked", u, err)
	}
	fresh := l
	fresh.ID = access.NewID(access.LoginPrefix)
	s.want(s.CreateLogin(s.ctx, fresh), access.ErrDenied)
	s.Lock(s.alice.ID, false)
	if got, _, err := s.Login(s.ctx, l.ID); err != nil || got.RevokedAt.IsZero() {
		t.Errorf("login after lock and unlock = %+v, %v, want it revoked", got, err)
	}
	s.ok(s.CreateLogin(s.ctx, fresh))
}

func testPruneLogins(t *testing.T, s *suite) {
	old, fresh := s.login(s.alice, start), s.login(s.alice, start.Add(time.Hour))
	d := s.device("BBBB-BBBB", "192.0.2.1", start)
	s.ok(s.CreateDevice(s.ctx, d, 9, 9))
	s.ok(s.PruneLogins(s.ctx, old.ExpiresAt.Add(time.Second)))
	_, _, err := s.Login(s.ctx, old.ID)
	s.want(err, access.ErrNotFound)
	_, _, err = s.Login(s.ctx, fresh.ID)
	s.ok(err)
	_, err = s.DeviceByCode(s.ctx, d.Code, start)
	s.want(err, access.ErrNotFound)
}

func testDevices(t *testing.T, s *suite) {
	by := s.by(s.alice)
	by.MFAAt = start.Add(-time.Minute)
	d := s.device("KQTW-7JPD", "192.0.2.1", start)
	s.ok(s.CreateDevice(s.ctx, d, 9, 9))
	for name, taken := range map[string]identity.Device{
		"code":   {Code: d.Code, SecretHash: bytes.Repeat([]byte("x"), 32)},
		"secret": {Code: "BBBB-BBBB", SecretHash: d.SecretHash},
	} {
		taken.CreatedAt, taken.ExpiresAt = start, start.Add(time.Minute)
		if err := s.CreateDevice(s.ctx, taken, 9, 9); !errors.Is(err, access.ErrConflict) {
			t.Errorf("a device with a taken %s: %v, want a conflict", name, err)
		}
	}
	got, err := s.DeviceByCode(s.ctx, d.Code, start)
	s.ok(err)
	if !bytes.Equal(got.SecretHash, d.SecretHash) || got.Client != "laptop" || got.Source != d.Source || !got.ExpiresAt.Equal(d.ExpiresAt) || got.UserID != "" {
		t.Errorf("device = %+v, want %+v", got, d)
	}
	for range 2 { // asking changes nothing
		if got, err = s.ClaimDevice(s.ctx, d.SecretHash, start); err != nil || got.UserID != "" {
			t.Fatalf("claim before the confirmation = %+v, %v, want the device as it is", got, err)
		}
	}
	for _, code := range []string{"", "BBBB-BBBB", "kqtw-7jpd", "KQTW7JPD", "%"} {
		_, err = s.DeviceByCode(s.ctx, code, start)
		s.want(err, access.ErrNotFound)
		s.want(s.ConfirmDevice(s.ctx, by, code, start), access.ErrNotFound)
		s.want(s.DenyDevice(s.ctx, by, code, start), access.ErrNotFound)
	}
	s.want(s.ConfirmDevice(s.ctx, by, d.Code, d.ExpiresAt), access.ErrNotFound)
	s.ok(s.ConfirmDevice(s.ctx, by, d.Code, start))
	_, err = s.DeviceByCode(s.ctx, d.Code, start)
	s.want(err, access.ErrNotFound)
	s.want(s.ConfirmDevice(s.ctx, s.by(s.bob), d.Code, start), access.ErrNotFound)
	s.want(s.DenyDevice(s.ctx, s.by(s.bob), d.Code, start), access.ErrNotFound)
	_, err = s.ClaimDevice(s.ctx, d.SecretHash, d.ExpiresAt)
	s.want(err, access.ErrNotFound)
	_, err = s.ClaimDevice(s.ctx, d.SecretHash[:31], start)
	s.want(err, access.ErrNotFound)
	if got, err = s.ClaimDevice(s.ctx, d.SecretHash, start); err != nil || got.UserID != s.alice.ID || !got.MFAAt.Equal(by.MFAAt) {
		t.Errorf("claim = %+v, %v, want alice with her second factor", got, err)
	}
	_, err = s.ClaimDevice(s.ctx, d.SecretHash, start)
	s.want(err, access.ErrNotFound)

	s.ok(s.CreateDevice(s.ctx, d, 9, 9))
	s.ok(s.DenyDevice(s.ctx, by, d.Code, start))
	_, err = s.ClaimDevice(s.ctx, d.SecretHash, start)
	s.want(err, access.ErrNotFound)
}

func testDeviceLimits(t *testing.T, s *suite) {
	a := s.device("BBBB-BBB2", "192.0.2.1", start)
	b := s.device("BBBB-BBB3", "192.0.2.1", start)
	c := s.device("BBBB-BBB4", "192.0.2.2", start)
	d := s.device("BBBB-BBB5", "192.0.2.3", start)
	s.ok(s.CreateDevice(s.ctx, a, 1, 2))
	s.want(s.CreateDevice(s.ctx, b, 1, 2), access.ErrUnavailable)
	s.ok(s.CreateDevice(s.ctx, c, 1, 2))
	s.want(s.CreateDevice(s.ctx, d, 1, 2), access.ErrUnavailable)
	// What has expired counts no more, and its code is free again.
	again := s.device(a.Code, a.Origin, a.ExpiresAt)
	s.ok(s.CreateDevice(s.ctx, again, 1, 2))
	s.want(s.ConfirmDevice(s.ctx, s.by(s.alice), c.Code, a.ExpiresAt), access.ErrNotFound)
	s.ok(s.ConfirmDevice(s.ctx, s.by(s.alice), a.Code, a.ExpiresAt))

	var made atomic.Int32
	Parallel(20, func(i int) error {
		x := s.device(fmt.Sprintf("CCCC-CC%02d", i), "192.0.2.9", start.Add(time.Hour))
		x.SecretHash = bytes.Repeat([]byte{byte(i), 1}, 16)
		err := s.CreateDevice(s.ctx, x, 5, 100)
		if err == nil {
			made.Add(1)
		}
		return err
	})
	if made.Load() != 5 {
		t.Errorf("20 parallel devices of one origin: %d made, want 5", made.Load())
	}
}

func testDeviceRaces(t *testing.T, s *suite) {
	d := s.device("BBBB-BBBB", "192.0.2.1", start)
	s.ok(s.CreateDevice(s.ctx, d, 9, 9))
	s.one(access.ErrNotFound, func() error { return s.ConfirmDevice(s.ctx, s.by(s.alice), d.Code, start) })
	s.one(access.ErrNotFound, func() error {
		got, err := s.ClaimDevice(s.ctx, d.SecretHash, start)
		if err == nil && got.UserID != s.alice.ID {
			return errors.New("claimed a device that nobody has confirmed")
		}
		return err
	})
}

func testPassword(t *testing.T, s *suite) {
	_, err := s.Credential(s.ctx, s.alice.ID)
	s.want(err, access.ErrNotFound)
	_, err = s.Credential(s.ctx, "")
	s.want(err, access.ErrNotFound)
	s.want(s.SetPassword(s.ctx, s.by(s.bob), access.NewID(access.UserPrefix), "h", start), access.ErrNotFound)

	keep, end, other := s.login(s.alice, start), s.login(s.alice, start), s.login(s.bob, start)
	d := s.device("BBBB-BBBB", "192.0.2.1", start)
	s.ok(s.CreateDevice(s.ctx, d, 9, 9))
	s.ok(s.ConfirmDevice(s.ctx, s.by(s.alice), d.Code, start))
	link := local.Setup{Hash: bytes.Repeat([]byte("s"), 32), UserID: s.alice.ID, CreatedAt: start, ExpiresAt: start.Add(time.Hour)}
	s.ok(s.CreateSetup(s.ctx, s.by(s.bob), link, time.Time{}))

	by := s.by(s.alice)
	by.Login = keep.ID
	s.ok(s.SetPassword(s.ctx, by, s.alice.ID, "$hash$1", start))
	for _, tt := range []struct {
		what    string
		login   identity.Login
		revoked bool
	}{{"own", keep, false}, {"other of the user", end, true}, {"another user's", other, false}} {
		if got, _, err := s.Login(s.ctx, tt.login.ID); err != nil || got.RevokedAt.IsZero() == tt.revoked {
			t.Errorf("the %s login = %+v, %v, want revoked: %v", tt.what, got, err, tt.revoked)
		}
	}
	_, err = s.ClaimDevice(s.ctx, d.SecretHash, start)
	s.want(err, access.ErrNotFound)
	_, err = s.Setup(s.ctx, link.Hash, start)
	s.want(err, access.ErrNotFound)

	c, err := s.Credential(s.ctx, s.alice.ID)
	s.ok(err)
	if c.UserID != s.alice.ID || c.Hash != "$hash$1" || !c.ChangedAt.Equal(start) || c.TOTP != nil || c.PendingTOTP != nil {
		t.Errorf("credential = %+v", c)
	}
	s.ok(s.Rehash(s.ctx, s.alice.ID, "$hash$1", "$hash$2"))
	s.want(s.Rehash(s.ctx, s.alice.ID, "$hash$1", "$hash$3"), access.ErrConflict)
	s.want(s.Rehash(s.ctx, s.bob.ID, "", "$hash$3"), access.ErrConflict)
	if got, _, err := s.Login(s.ctx, keep.ID); err != nil || !got.RevokedAt.IsZero() {
		t.Errorf("login after the rehash = %+v, %v, want it untouched", got, err)
	}
	s.ok(s.SetPassword(s.ctx, s.by(s.bob), s.alice.ID, "$hash$4", start.Add(time.Hour)))
	if got, _, err := s.Login(s.ctx, keep.ID); err != nil || got.RevokedAt.IsZero() {
		t.Errorf("login after another has set the password = %+v, %v, want it revoked", got, err)
	}
	if c, err = s.Credential(s.ctx, s.alice.ID); err != nil || c.Hash != "$hash$4" || !c.ChangedAt.Equal(start.Add(time.Hour)) {
		t.Errorf("credential = %+v, %v", c, err)
	}
}

func testTOTP(t *testing.T, s *suite) {
	by := s.by(s.alice)
	id := s.alice.ID
	s.want(s.SetPendingTOTP(s.ctx, by, id, []byte("one")), access.ErrNotFound)
	s.want(s.UseTOTPStep(s.ctx, id, []byte("one"), 1), access.ErrConflict)
	s.want(s.RemoveFactor(s.ctx, by, id, local.TOTP, true), access.ErrNotFound)
	s.ok(s.SetPassword(s.ctx, by, id, "$hash", start))
	s.want(s.ConfirmTOTP(s.ctx, by, id, nil, 1), access.ErrConflict)
	s.want(s.ConfirmTOTP(s.ctx, by, id, []byte{}, 1), access.ErrConflict)
	s.ok(s.SetPendingTOTP(s.ctx, by, id, []byte("one")))
	s.ok(s.SetPendingTOTP(s.ctx, by, id, []byte("two")))
	s.want(s.ConfirmTOTP(s.ctx, by, id, []byte("one"), 100), access.ErrConflict)
	s.want(s.UseTOTPStep(s.ctx, id, []byte("two"), 100), access.ErrConflict)
	s.one(access.ErrConflict, func() error { return s.ConfirmTOTP(s.ctx, by, id, []byte("two"), 100) })
	c, err := s.Credential(s.ctx, id)
	s.ok(err)
	if string(c.TOTP) != "two" || c.TOTPStep != 100 || c.PendingTOTP != nil || c.Hash != "$hash" {
		t.Errorf("credential = %+v, want the second authenticator at step 100", c)
	}
	for _, step := range []int64{100, 99, -1} {
		s.want(s.UseTOTPStep(s.ctx, id, []byte("two"), step), access.ErrConflict)
	}
	s.want(s.UseTOTPStep(s.ctx, id, []byte("one"), 101), access.ErrConflict)
	s.one(access.ErrConflict, func() error { return s.UseTOTPStep(s.ctx, id, []byte("two"), 101) })
	s.ok(s.SetPassword(s.ctx, by, id, "$hash2", start))
	if c, err = s.Credential(s.ctx, id); err != nil || string(c.TOTP) != "two" || c.TOTPStep != 101 {
		t.Errorf("credential after a new password = %+v, %v, want the authenticator kept", c, err)
	}
	// A replacement: the old one holds until the new one is confirmed.
	s.ok(s.SetPendingTOTP(s.ctx, by, id, []byte("three")))
	s.ok(s.UseTOTPStep(s.ctx, id, []byte("two"), 102))
	s.want(s.RemoveFactor(s.ctx, by, id, local.TOTP, false), access.ErrConflict)
	s.ok(s.RemoveFactor(s.ctx, by, id, local.TOTP, true))
	if c, err = s.Credential(s.ctx, id); err != nil || c.TOTP != nil || c.PendingTOTP != nil || c.Hash != "$hash2" {
		t.Errorf("credential after RemoveFactor = %+v, %v", c, err)
	}
	s.want(s.UseTOTPStep(s.ctx, id, []byte("two"), 103), access.ErrConflict)
}

func testSetup(t *testing.T, s *suite) {
	admin := s.by(s.bob)
	link := func(b string) local.Setup {
		return local.Setup{Hash: bytes.Repeat([]byte(b), 32), UserID: s.alice.ID, CreatedAt: start, ExpiresAt: start.Add(30 * time.Minute)}
	}
	nobody := link("n")
	nobody.UserID = access.NewID(access.UserPrefix)
	s.want(s.CreateSetup(s.ctx, admin, nobody, time.Time{}), access.ErrNotFound)

	first, second := link("1"), link("2")
	s.ok(s.CreateSetup(s.ctx, admin, first, time.Time{}))
	s.ok(s.CreateSetup(s.ctx, admin, second, time.Time{}))
	_, err := s.Setup(s.ctx, first.Hash, start) // the second took its place
	s.want(err, access.ErrNotFound)
	got, err := s.Setup(s.ctx, second.Hash, start)
	s.ok(err)
	if !bytes.Equal(got.Hash, second.Hash) || got.UserID != s.alice.ID || !got.ExpiresAt.Equal(second.ExpiresAt) {
		t.Errorf("setup = %+v, want %+v", got, second)
	}
	_, err = s.Setup(s.ctx, second.Hash, second.ExpiresAt)
	s.want(err, access.ErrNotFound)

	by := s.by(s.alice)
	l := s.login(s.alice, start)
	s.want(s.UseSetup(s.ctx, by, second.Hash, "$late", second.ExpiresAt), access.ErrNotFound)
	s.want(s.UseSetup(s.ctx, by, first.Hash, "$old", start), access.ErrNotFound)
	_, err = s.Credential(s.ctx, s.alice.ID)
	s.want(err, access.ErrNotFound)
	s.one(access.ErrNotFound, func() error { return s.UseSetup(s.ctx, by, second.Hash, "$hash", start) })
	if c, err := s.Credential(s.ctx, s.alice.ID); err != nil || c.Hash != "$hash" {
		t.Errorf("credential = %+v, %v", c, err)
	}
	if got, _, err := s.Login(s.ctx, l.ID); err != nil || got.RevokedAt.IsZero() {
		t.Errorf("login after the setup = %+v, %v, want it revoked", got, err)
	}
	third := link("3")
	s.ok(s.CreateSetup(s.ctx, admin, third, time.Time{}))
	s.ok(s.PruneLocal(s.ctx, third.ExpiresAt.Add(time.Second)))
	_, err = s.Setup(s.ctx, third.Hash, start)
	s.want(err, access.ErrNotFound)
}

func testCounters(t *testing.T, s *suite) {
	keys := []string{"source 2001:db8::/64", "pair ?00ff 192.0.2.1", "user " + s.alice.ID}
	list, err := s.Counters(s.ctx, keys)
	s.ok(err)
	for i, c := range list {
		if c != (local.Counter{Key: keys[i]}) {
			t.Errorf("counter that is not there = %+v", c)
		}
	}
	if len(list) != 3 {
		t.Fatalf("%d counters, want 3", len(list))
	}
	want := local.Counter{
		Key: keys[1], Failures: 7, CountedAt: start, BlockedUntil: start.Add(time.Hour),
		GoodAt: start.Add(-time.Hour), ExpiresAt: start.Add(2 * time.Hour),
	}
	s.ok(s.UpdateCounters(s.ctx, keys, func(c []local.Counter) error { c[1] = want; return nil }))
	list, err = s.Counters(s.ctx, []string{keys[1], keys[0]})
	s.ok(err)
	if len(list) != 2 || list[0] != want || list[1].Key != keys[0] || list[1].Failures != 0 {
		t.Errorf("counters = %+v, want %+v first", list, want)
	}
	refused := errors.New("refused")
	s.want(s.UpdateCounters(s.ctx, keys, func(c []local.Counter) error { c[1].Failures = 99; return refused }), refused)
	if list, err = s.Counters(s.ctx, keys[1:2]); err != nil || list[0] != want {
		t.Errorf("counter after a refusal = %+v, %v, want %+v", list, err, want)
	}
	errs := Parallel(50, func(int) error {
		return s.UpdateCounters(s.ctx, keys, func(c []local.Counter) error {
			for i := range c {
				c[i].Failures++
				c[i].ExpiresAt = start.Add(2 * time.Hour)
			}
			return nil
		})
	})
	s.ok(errors.Join(errs...))
	list, err = s.Counters(s.ctx, keys)
	s.ok(err)
	if list[0].Failures != 50 || list[1].Failures != 57 || list[2].Failures != 50 {
		t.Errorf("after 50 parallel updates: %+v, want 50, 57, 50", list)
	}
	s.ok(s.UpdateCounters(s.ctx, keys[:1], func(c []local.Counter) error { c[0].ExpiresAt = start; return nil }))
	s.ok(s.PruneLocal(s.ctx, start.Add(time.Minute)))
	list, err = s.Counters(s.ctx, keys)
	s.ok(err)
	if list[0].Failures != 0 || list[1].Failures != 57 {
		t.Errorf("after pruning: %+v, want the first gone and the second kept", list)
	}
}

func testFailed(t *testing.T, s *suite) {
	for _, f := range []local.Failure{
		{UserID: s.alice.ID, Source: "192.0.2.1", Reason: "password", At: start},
		{Source: "2001:db8::1", Reason: "unknown user", At: start},
	} {
		s.ok(s.LoginFailed(s.ctx, f))
	}
}
