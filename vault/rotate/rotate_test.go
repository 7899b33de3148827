package rotate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
)

// A world is one account on a system, what is kept of it here, and everything that can
// go wrong between them.
type world struct {
	now      time.Time
	password string
	before   []string // that it had, which it refuses to take again
	failed   []time.Time
	locked   bool
	sets     int

	entry   rotate.Entry
	version uint64

	// arriving is a password that is set some time after the connection broke.
	arriving string
	arrives  func() bool // whether it does so now

	step    int
	crashAt int                    // a crash before this step is done, counted from 1
	after   bool                   // and not before it, but after
	late    func() bool            // whether a password that is set arrives later
	fault   func(do string) string // "", "lost" (before it was done), "cut" (after it), "refused", "down"
}

type crash struct{}

// do does one step of the protocol, and crashes where it is told to.
func (w *world) do(what string, fn func() error) error {
	w.step++
	if w.step == w.crashAt && !w.after {
		panic(crash{})
	}
	if w.arriving != "" && w.arrives() {
		w.arrive()
	}
	fault := ""
	if w.fault != nil {
		fault = w.fault(what)
	}
	switch fault {
	case "lost":
		return errors.New("connection reset")
	case "down":
		return fmt.Errorf("dial: %w", rotate.ErrUnreachable)
	case "refused":
		return &rotate.Refusal{Why: "the policy"}
	}
	err := fn()
	if w.step == w.crashAt {
		panic(crash{})
	}
	if fault == "cut" {
		return errors.New("connection reset")
	}
	return err
}

// arrive sets what was on its way.
func (w *world) arrive() {
	if w.arriving != "" {
		w.before, w.password, w.arriving = append(w.before, w.password), w.arriving, ""
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	if d >= 30*time.Second {
		w.arrive()
	}
	w.now = w.now.Add(d)
}

func (w *world) Load(context.Context) (rotate.Entry, uint64, error) {
	if w.version == 0 {
		return rotate.Entry{}, 0, vault.ErrNotFound
	}
	return w.entry, w.version, nil
}

func (w *world) Save(_ context.Context, e rotate.Entry, version uint64) (uint64, error) {
	err := w.do("save", func() error {
		if version != w.version {
			return rotate.ErrFenced
		}
		// As a vault does: nothing is shared with who saves.
		e.History, e.Tried, e.Refusals = slices.Clone(e.History), slices.Clone(e.Tried), slices.Clone(e.Refusals)
		if e.Candidate != nil {
			c := *e.Candidate
			e.Candidate = &c
		}
		w.entry, w.version = e, w.version+1
		return nil
	})
	return w.version, err
}

type system struct{ *world }

func (s system) Set(_ context.Context, current, password vault.Secret) error {
	p := string(password.Expose())
	late := false
	if s.late != nil && s.late() {
		late = true
	}
	return s.do("set", func() error {
		if late && s.arriving == "" {
			s.arriving = p
			return errors.New("connection reset")
		}
		if slices.Contains(s.before, p) || p == s.password {
			return &rotate.Refusal{Why: "it was used before"}
		}
		s.before, s.password = append(s.before, s.password), p
		s.sets++
		return nil
	})
}

func (s system) Check(_ context.Context, password vault.Secret) error {
	return s.do("check", func() error {
		s.failed = slices.DeleteFunc(s.failed, func(t time.Time) bool { return s.now.Sub(t) >= 30*time.Minute })
		if len(s.failed) >= 3 {
			s.locked = true
			return rotate.ErrLocked
		}
		if string(password.Expose()) != s.password {
			s.failed = append(s.failed, s.now)
			if len(s.failed) >= 3 {
				s.locked = true
			}
			return rotate.ErrWrong
		}
		s.failed = nil
		return nil
	})
}

func newWorld(t interface{ Fatal(...any) }) *world {
	w := &world{now: time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC), password: "the first one"}
	a := w.account("one", false)
	if err := a.Adopt(context.Background(), vault.NewSecret([]byte("the first one"))); err != nil {
		t.Fatal(err)
	}
	w.step = 0
	return w
}

func (w *world) account(owner string, reset bool) *rotate.Account {
	c := rotate.Config{Book: w, Rotator: system{w}, Owner: owner, Now: func() time.Time { return w.now }}
	if reset {
		c.Reset = system{w}
	}
	a, err := rotate.New(c)
	if err != nil {
		panic(err)
	}
	return a
}

// dies reports whether fn crashed.
func dies(fn func()) (died bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			died = true
		}
	}()
	fn()
	return false
}

// known reports whether the password in force is among those that are known.
func (w *world) known() bool {
	return slices.ContainsFunc(w.entry.Known(), func(p rotate.Password) bool { return string(p.Secret.Expose()) == w.password })
}

// sound reports what is not as it must be when all is at rest.
func (w *world) sound() error {
	switch {
	case w.locked:
		return errors.New("the account was locked")
	case w.entry.Candidate != nil:
		return errors.New("a change is pending still")
	case string(w.entry.Current.Secret.Expose()) != w.password:
		return errors.New("the current password is not the one in force")
	case w.entry.Owner != "":
		return errors.New("somebody owns it still")
	}
	return nil
}

// mend brings all to rest: the crashed owner's lease ends, nothing goes wrong any more.
func (w *world) mend(t interface{ Fatalf(string, ...any) }, reset bool) {
	w.crashAt, w.fault, w.late = 0, nil, nil
	for range 40 {
		_, err := w.account("another", reset).Verify(context.Background())
		if err == nil {
			return
		}
		if wait, ok := errors.AsType[*rotate.WaitError](err); ok {
			w.pass(wait.Until.Sub(w.now))
		} else {
			w.pass(2 * time.Minute)
		}
	}
	t.Fatalf("it does not come to rest: %+v", w.entry)
}

func TestRotate(t *testing.T) {
	w := newWorld(t)
	for range 30 {
		report, err := w.account("one", false).Rotate(t.Context())
		if err != nil || !report.Changed || report.Drift || report.Logins != 1 {
			t.Fatalf("%+v, %v", report, err)
		}
		if err := w.sound(); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.entry.History) != 20 || w.entry.History[0].State != rotate.Replaced || string(w.entry.History[0].Secret.Expose()) != w.before[29] {
		t.Errorf("history: %+v", w.entry.History)
	}
}

// TestCrash: a crash before or after each step loses no password, locks nothing, and
// the next server finds the one in force at once.
func TestCrash(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			w := newWorld(t)
			w.crashAt, w.after = at, after
			died := dies(func() { _, _ = w.account("one", false).Rotate(t.Context()) })
			if !w.known() {
				t.Fatalf("crash at %d (after: %v): the password in force is not known", at, after)
			}
			began := w.now
			w.mend(t, false)
			if err := w.sound(); err != nil {
				t.Errorf("crash at %d (after: %v): %v", at, after, err)
			}
			if w.sets > 1 || w.now.Sub(began) > 2*time.Minute {
				t.Errorf("crash at %d (after: %v): %d changes, at rest after %s", at, after, w.sets, w.now.Sub(began))
			}
			if !died {
				break
			}
		}
	}
}

// TestFaults: each pair of faults, of which the system says nothing or that it refuses,
// at each two steps of a rotation.
func TestFaults(t *testing.T) {
	kinds := []string{"lost", "cut", "refused", "down"}
	for first := 1; first <= 8; first++ {
		for second := first; second <= 9; second++ {
			for _, one := range kinds {
				for _, two := range kinds {
					w := newWorld(t)
					n := 0
					w.fault = func(do string) string {
						fault := ""
						if n++; n == first {
							fault = one
						} else if n == second {
							fault = two
						}
						if fault == "refused" && do != "set" {
							fault = "lost"
						}
						return fault
					}
					_, err := w.account("one", false).Rotate(t.Context())
					name := fmt.Sprintf("%s at %d, %s at %d (%v)", one, first, two, second, err)
					if !w.known() {
						t.Fatalf("%s: the password in force is not known", name)
					}
					w.mend(t, false)
					if err := w.sound(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
	}
}

// TestAnything: whatever happens in whatever order, the password in force is known,
// and the account is not locked by us.
func TestAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		reset := rapid.Bool().Draw(t, "reset")
		for range rapid.IntRange(1, 12).Draw(t, "turns") {
			w.step, w.crashAt, w.after = 0, rapid.IntRange(0, 12).Draw(t, "crash"), rapid.Bool().Draw(t, "after")
			w.fault = func(do string) string {
				fault := rapid.SampledFrom([]string{"", "", "", "", "lost", "cut", "refused", "down"}).Draw(t, "fault")
				if fault == "refused" && do != "set" {
					return ""
				}
				return fault
			}
			w.late = func() bool { return rapid.IntRange(0, 3).Draw(t, "late") == 0 }
			w.arrives = func() bool { return rapid.IntRange(0, 2).Draw(t, "arrives") == 0 }
			a := w.account(rapid.SampledFrom([]string{"one", "two"}).Draw(t, "owner"), reset)
			dies(func() {
				if rapid.Bool().Draw(t, "verify") {
					_, _ = a.Verify(context.Background())
				} else {
					_, _ = a.Rotate(context.Background())
				}
			})
			if !w.known() {
				t.Fatalf("the password in force is not known")
			}
			w.pass(time.Duration(rapid.SampledFrom([]int{0, 1, 3, 40}).Draw(t, "minutes")) * time.Minute)
		}
		w.mend(t, reset)
		if err := w.sound(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDrift: somebody else has changed the password.
func TestDrift(t *testing.T) {
	w := newWorld(t)
	if _, err := w.account("one", false).Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.password, w.before = "the first one", nil // an old one, that is known
	report, err := w.account("one", false).Verify(t.Context())
	if err != nil || !report.Drift || !report.Changed || string(w.entry.Current.Secret.Expose()) != "the first one" {
		t.Errorf("an old one: %+v, %v", report, err)
	}

	w.password = "nobody here knows this"
	_, err = w.account("one", false).Verify(t.Context())
	for range 20 {
		if wait, ok := errors.AsType[*rotate.WaitError](err); ok {
			w.now = wait.Until
			_, err = w.account("one", false).Verify(t.Context())
		}
	}
	if !errors.Is(err, rotate.ErrUnknown) || w.locked {
		t.Errorf("an unknown one: %v, locked %v", err, w.locked)
	}

	w = newWorld(t)
	w.password = "nobody here knows this"
	report, err = w.account("one", true).Verify(t.Context())
	if err != nil || !report.Drift || !report.Changed {
		t.Errorf("an unknown one, with an account that may: %+v, %v", report, err)
	}
	if err := w.sound(); err != nil {
		t.Error(err)
	}
}

// TestRefused: a system that refuses is asked three times an hour, and the old
// password stays.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	asked := 0
	w.fault = func(do string) string {
		if do == "set" {
			asked++
			return "refused"
		}
		return ""
	}
	for range 24 * 60 {
		_, err := w.account("one", false).Rotate(t.Context())
		if err == nil || strings.Contains(err.Error(), "the first one") {
			t.Fatal(err)
		}
		w.now = w.now.Add(time.Minute)
	}
	if asked > 3*24+3 || asked < 3*24 {
		t.Errorf("asked %d times in a day", asked)
	}
	if len(w.entry.History) > 3 {
		t.Errorf("%d refused passwords are kept", len(w.entry.History))
	}
	if err := w.sound(); err != nil {
		t.Error(err)
	}
}

// TestOneAtATime: two servers do not work on one account, and one that slept through
// its lease does nothing more.
func TestOneAtATime(t *testing.T) {
	w := newWorld(t)
	slept := false
	w.fault = func(do string) string {
		if do == "set" && !slept {
			slept = true
			if _, err := w.account("two", false).Rotate(t.Context()); !errors.Is(err, rotate.ErrBusy) {
				t.Errorf("at once: %v", err)
			}
			w.now = w.now.Add(5 * time.Minute)
			if report, err := w.account("two", false).Rotate(t.Context()); err != nil || !report.Changed {
				t.Errorf("after the lease: %+v, %v", report, err)
			}
		}
		return ""
	}
	if _, err := w.account("one", false).Rotate(t.Context()); !errors.Is(err, rotate.ErrFenced) {
		t.Errorf("the one that slept: %v", err)
	}
	if !w.known() {
		t.Error("the password in force is not known")
	}
	w.mend(t, false)
	if err := w.sound(); err != nil {
		t.Error(err)
	}
}

// TestLeaseEnds: nothing is sent when the lease is nearly over.
func TestLeaseEnds(t *testing.T) {
	w := newWorld(t)
	var until time.Time
	a, err := rotate.New(rotate.Config{Book: w, Rotator: slow{system{w}, &until}, Owner: "one", Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(until); left <= 0 || left > 45*time.Minute {
		t.Errorf("a system may take %s to answer", left)
	}
}

// slow notes until when it may take.
type slow struct {
	system
	until *time.Time
}

func (s slow) Set(ctx context.Context, current, password vault.Secret) error {
	*s.until, _ = ctx.Deadline()
	return s.system.Set(ctx, current, password)
}

func TestVaultBook(t *testing.T) {
	ctx := t.Context()
	backend := vault.NewMemory()
	c := vault.Config{Backend: backend, Keeper: plainKeeper{}}
	if err := vault.Init(ctx, c); err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	book := rotate.VaultBook{Vault: v, ID: "rotated/one"}
	at := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	e := rotate.Entry{
		Current:   rotate.Password{Secret: vault.NewSecret([]byte("a\x00ü\"")), State: rotate.Current, MadeAt: at, ProvedAt: at},
		Candidate: &rotate.Password{Secret: vault.NewSecret([]byte("b")), State: rotate.Candidate, MadeAt: at, WrongAt: at},
		History:   []rotate.Password{{Secret: vault.NewSecret([]byte("c")), State: rotate.Replaced, MadeAt: at, LiveUntil: at}},
		Tried:     []time.Time{at}, Refusals: []time.Time{at}, Owner: "one", OwnedUntil: at,
	}
	if _, err := book.Save(ctx, e, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := book.Save(ctx, e, 0); !errors.Is(err, rotate.ErrFenced) {
		t.Errorf("saved twice: %v", err)
	}
	got, version, err := book.Load(ctx)
	if err != nil || version != 1 {
		t.Fatal(version, err)
	}
	for i, p := range got.Known() {
		want := e.Known()[i]
		if string(p.Secret.Expose()) != string(want.Secret.Expose()) || p.State != want.State || !p.MadeAt.Equal(want.MadeAt) || !p.WrongAt.Equal(want.WrongAt) || !p.LiveUntil.Equal(want.LiveUntil) {
			t.Errorf("%d: %+v, not %+v", i, p, want)
		}
	}
	if len(got.Tried) != 1 || len(got.Refusals) != 1 || got.Owner != "one" || !got.OwnedUntil.Equal(at) {
		t.Errorf("%+v", got)
	}
	if text := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(text, "ü") {
		t.Error("an entry prints its passwords")
	}
}

type plainKeeper struct{}

func (plainKeeper) Wrap(_ context.Context, s vault.Secret) ([]byte, error) {
	return slices.Clone(s.Expose()), nil
}
func (plainKeeper) Unwrap(_ context.Context, b []byte) (vault.Secret, error) {
	return vault.NewSecret(b), nil
}

// TestArrivesBetweenLogins: a change that is made at any moment after its connection broke,
// also between the logins that find out, costs one failed login at most, and which password
// is in force is known.
func TestArrivesBetweenLogins(t *testing.T) {
	for _, crashed := range []bool{false, true} {
		for at := range 8 {
			w := newWorld(t)
			ctx := context.Background()
			w.late = func() bool { return true }
			left := at
			w.arrives = func() bool { left--; return left < 0 }
			if crashed { // right after it was sent
				w.crashAt, w.after = 2, true
				left += 2
			}
			err := error(nil)
			if died := dies(func() { _, err = w.account("one", false).Rotate(ctx) }); died {
				w.crashAt = 0
				_, err = w.account("one", false).Verify(ctx)
			}
			if len(w.failed) > 1 {
				t.Errorf("crashed %t, made after %d more steps: %d logins failed", crashed, at, len(w.failed))
			}
			for range 2 {
				w.late = nil
				w.pass(time.Minute)
				_, err = w.account("one", false).Verify(ctx)
			}
			if err != nil || string(w.entry.Current.Secret.Expose()) != w.password {
				t.Errorf("crashed %t, made after %d more steps: %v, and the right one is not the current one", crashed, at, err)
			}
		}
	}
}
