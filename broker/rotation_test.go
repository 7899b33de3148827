package broker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
)

// managed has the password of an account changed by the server, at a system that is there
// if it is none yet.
func (h *house) managed(target, account string) {
	h.t.Helper()
	ctx, by := h.t.Context(), h.as("root")
	if _, err := h.db.Target(ctx, target); errors.Is(err, access.ErrNotFound) {
		_, err := h.AddTarget(ctx, by, access.Target{Name: target, Kind: access.KindPostgres, Address: "192.0.2.40:5432", Accounts: []access.Account{
			{Name: account, Credential: access.CredentialCertificate}, {Name: "dba", Credential: access.CredentialCertificate}}})
		ok(h.t, err)
	} else {
		ok(h.t, err)
	}
	ok(h.t, h.ManageAccount(ctx, by, target, account, "", access.Managed{Every: 30 * 24 * time.Hour, AfterUse: true}, []byte("the first one")))
}

func (h *house) rotation(target, account string) access.Rotation {
	h.t.Helper()
	t, err := h.db.Target(h.t.Context(), target)
	ok(h.t, err)
	r, err := h.db.Rotation(h.t.Context(), access.RotationID(t.ID, account))
	ok(h.t, err)
	return r
}

// A system is a model of one: it has one password.
type system struct {
	password string
	away     bool
}

func (s *system) Set(_ context.Context, _, password vault.Secret) error {
	if s.away {
		return rotate.ErrUnreachable
	}
	s.password = string(password.Expose())
	return nil
}

func (s *system) Check(_ context.Context, password vault.Secret) error {
	switch {
	case s.away:
		return rotate.ErrUnreachable
	case s.password != string(password.Expose()):
		return rotate.ErrWrong
	}
	return nil
}

// work does what is due for one account, as the worker does.
func (h *house) work(id string, at rotate.Rotator) error {
	h.t.Helper()
	s, err := h.BeginRotation(h.t.Context(), id)
	if err != nil {
		return err
	}
	a, err := rotate.New(rotate.Config{Book: s.Book, Rotator: at, Reset: at, Rules: s.Rules(), Owner: s.Node, Now: h.clock.now})
	ok(h.t, err)
	do := a.Verify
	if s.Change && s.Proved {
		do = a.Rotate
	}
	report, err := do(h.t.Context())
	if err == nil && s.Change && !s.Proved && !report.Changed {
		report, err = a.Rotate(h.t.Context())
	}
	return errors.Join(err, h.EndRotation(h.t.Context(), s, report, err))
}

// rotatable is what a server would begin now.
func (h *house) rotatable() (list []string) {
	h.t.Helper()
	all, err := h.DueRotations(h.t.Context(), 1000)
	ok(h.t, err)
	for _, r := range all {
		list = append(list, r.Account+"@"+r.TargetName)
	}
	return list
}

// known are the passwords that an operator reads.
func (h *house) known(target, account string) []string {
	h.t.Helper()
	known, err := h.RecoverPasswords(h.t.Context(), h.as("root"), target, account, "INC-9")
	ok(h.t, err)
	var list []string
	for _, p := range known {
		list = append(list, string(p.Secret.Expose()))
	}
	return list
}

// TestManaged: a password that was told is proved and changed, lent to sessions as the
// one in force, and is due again after each use, by schedule, on demand and when somebody
// leaves who has seen it; each with its event, and no password anywhere.
func TestManaged(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, root := t.Context(), h.as("root")
		c := h.granted()
		h.managed("db01", "root")
		r := h.rotation("db01", "root")
		if got := h.rotatable(); !slices.Equal(got, []string{"root@db01"}) {
			t.Fatalf("due is %v", got)
		}
		at := &system{password: "the first one"}
		ok(t, h.work(r.ID, at))
		if at.password == "the first one" {
			t.Fatal("it was not changed")
		}
		if got := h.rotatable(); len(got) != 0 {
			t.Errorf("due is %v", got)
		}
		r = h.rotation("db01", "root")
		if r.StateAt(h.clock.now()) != "ok" || r.Cause != access.CauseSchedule || !r.DueAt.Equal(r.ChangedAt.Add(30*24*time.Hour)) || r.ProveAt.After(h.clock.now().Add(24*time.Hour)) {
			t.Errorf("%+v", r)
		}
		t.Run("lent and used", func(t *testing.T) {
			l := h.session("alice", c)
			loan, err := h.Lend(ctx, l)
			ok(t, err)
			if string(loan.Secret.Expose()) != at.password {
				t.Error("another password is lent than the one in force")
			}
			ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
			if got := h.rotatable(); len(got) != 1 || h.rotation("db01", "root").Cause != access.CauseUse {
				t.Fatalf("after use, due is %v", got)
			}
			ok(t, h.work(r.ID, at))
		})
		t.Run("asked for while it is being changed", func(t *testing.T) {
			ok(t, h.RotateAccount(ctx, root, "db01", "root", "INC-1"))
			s, err := h.BeginRotation(ctx, r.ID)
			ok(t, err)
			if _, err := h.BeginRotation(ctx, r.ID); !errors.Is(err, access.ErrConflict) {
				t.Errorf("begun twice: %v", err)
			}
			ok(t, h.RotateAccount(ctx, root, "db01", "root", "INC-2"))
			ok(t, h.EndRotation(ctx, s, rotate.Report{Changed: true}, nil))
			if got := h.rotatable(); len(got) != 1 {
				t.Error("what was asked for meanwhile is forgotten")
			}
			want(t, h.EndRotation(ctx, s, rotate.Report{Changed: true}, nil), access.ErrConflict)
			ok(t, h.work(r.ID, at))
		})
		t.Run("proved each day", func(t *testing.T) {
			h.clock.advance(24 * time.Hour)
			if got := h.rotatable(); len(got) != 1 {
				t.Fatalf("due is %v", got)
			}
			was, n := at.password, len(h.events())
			ok(t, h.work(r.ID, at))
			if at.password != was || !slices.Equal(h.told(n), []string{"rotation.begin done", "rotation.prove done"}) {
				t.Errorf("told %v", h.told(n))
			}
		})
		t.Run("drift", func(t *testing.T) {
			h.clock.advance(24 * time.Hour)
			at.password = "set by somebody else"
			n := len(h.events())
			ok(t, h.work(r.ID, at))
			if at.password == "set by somebody else" || !slices.Contains(h.told(n), "rotation.drift done") {
				t.Errorf("%q, told %v", at.password, h.told(n))
			}
		})
		t.Run("seen by somebody who leaves", func(t *testing.T) {
			if got := h.known("db01", "root"); got[0] != at.password {
				t.Errorf("known are %q", got)
			}
			if r := h.rotation("db01", "root"); r.Cause != access.CauseRead || r.DueAt.Before(h.clock.now().Add(50*time.Minute)) {
				t.Errorf("%+v", r)
			}
			ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
				return audit.Event{Actor: "system", Action: "test"}, tx.PasswordSeen(ctx, r.TargetID, "root", h.user("mallory").ID)
			}))
			h.setUser("mallory", func(u *access.User) { u.Locked = true })
			if r := h.rotation("db01", "root"); r.Cause != access.CauseLeft || len(h.rotatable()) != 1 {
				t.Errorf("%+v", r)
			}
			ok(t, h.work(r.ID, at))
			h.setUser("mallory", func(u *access.User) { u.Display = "still locked" })
			if got := h.rotatable(); len(got) != 0 {
				t.Errorf("who has seen an old password is remembered: %v", got)
			}
		})
		t.Run("left to others", func(t *testing.T) {
			ok(t, h.UnmanageAccount(ctx, root, "db01", "root", "INC-3", false))
			c := h.granted() // some days have passed
			loan, err := h.Lend(ctx, h.session("alice", c))
			ok(t, err)
			if string(loan.Secret.Expose()) != at.password {
				t.Error("the password was not kept")
			}
			if _, err := h.db.Rotation(ctx, r.ID); !errors.Is(err, access.ErrNotFound) {
				t.Errorf("it is still there: %v", err)
			}
		})
		h.unkept("the first one", at.password)
	})
}

// TestRotationFails: a system that is away is tried three times in an hour, people are
// told once that it lasts, and the password that is in force stays the one that is lent.
func TestRotationFails(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.managed("pg01", "app")
	id := h.rotation("pg01", "app").ID
	at := &system{password: "the first one"}
	ok(t, h.work(id, at))
	ok(t, h.RotateAccount(t.Context(), h.as("root"), "pg01", "app", "INC-1"))
	at.away = true
	n, tries := len(h.events()), []time.Time{}
	for range 6 * 60 {
		if len(h.rotatable()) > 0 {
			tries = append(tries, h.clock.now())
			if err := h.work(id, at); !errors.Is(err, rotate.ErrUnreachable) {
				t.Fatal(err)
			}
		}
		h.clock.advance(time.Minute)
	}
	for i := 3; i < len(tries); i++ {
		if tries[i].Sub(tries[i-3]) < time.Hour {
			t.Errorf("four tries in %s", tries[i].Sub(tries[i-3]))
		}
	}
	told := strings.Join(h.told(n), ", ")
	if len(tries) < 15 || strings.Count(told, "rotation.stuck done") != 1 || !strings.Contains(told, "rotation.change failed") {
		t.Errorf("%d tries, told %s", len(tries), told)
	}
	if r := h.rotation("pg01", "app"); r.StateAt(h.clock.now()) != "failing" || r.Problem == "" {
		t.Errorf("%+v", r)
	}
	at.away = false
	h.clock.advance(time.Hour)
	ok(t, h.work(id, at))
	if got := h.known("pg01", "app"); got[0] != at.password {
		t.Error("the password is lost")
	}
}

// TestManagedIsKept: nothing but its own verbs takes a managed password away, and a crash
// leaves it to the next start.
func TestManagedIsKept(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, root := t.Context(), h.as("root")
		h.managed("pg01", "app")
		pg, err := h.db.Target(ctx, "pg01")
		ok(t, err)
		change := func(what string, change func(*access.Target)) {
			t.Helper()
			n := pg
			n.Accounts = slices.Clone(pg.Accounts)
			change(&n)
			if _, err := h.SetTarget(ctx, root, n); err == nil {
				t.Errorf("%s was changed", what)
			}
		}
		change("the address", func(t *access.Target) { t.Address = "203.0.113.9:5432" })
		change("the kind", func(t *access.Target) { t.Kind = access.KindMySQL })
		change("the account", func(t *access.Target) { t.Accounts = t.Accounts[1:] })
		change("what it is known as", func(t *access.Target) { t.Accounts[0].KnownAs = "postgres" })
		want(t, h.RemoveTarget(ctx, root, "pg01"), access.ErrConflict)
		want(t, h.SetCredential(ctx, root, "pg01", "app", access.CredentialPassword, []byte("x")), access.ErrConflict)
		want(t, h.UnmanageAccount(ctx, root, "pg01", "app", "INC-1", false), access.ErrConflict) // never proved
		// Another account cannot be made to reset, and no schedule by the way.
		n := pg
		n.Accounts = slices.Clone(pg.Accounts)
		n.Accounts[0].Managed = &access.Managed{Reset: "dba"}
		n.Labels.Owner = "dbas"
		n, err = h.SetTarget(ctx, root, n)
		ok(t, err)
		if m := n.Accounts[0].Managed; m == nil || m.Reset != "" || !m.AfterUse {
			t.Errorf("managed as %+v", m)
		}
		for what, m := range map[string]access.Managed{
			"by itself": {Reset: "app"}, "by nobody": {Reset: "nobody"}, "by one that is not kept": {Reset: "dba"}, "each minute": {Every: time.Minute}, "too short": {Length: 4},
		} {
			if err := h.ManageAccount(ctx, root, "pg01", "app", "", m, nil); !errors.Is(err, access.ErrInvalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
		want(t, h.ManageAccount(ctx, root, "pg01", "dba", "", access.Managed{}, nil), access.ErrInvalid) // nobody knows its password

		id := h.rotation("pg01", "app").ID
		_, err = h.BeginRotation(ctx, id)
		ok(t, err)
		if got := h.rotatable(); len(got) != 0 {
			t.Errorf("two servers may begin: %v", got)
		}
		ok(t, h.AbandonRotations(ctx))
		if got := h.rotatable(); len(got) != 1 {
			t.Errorf("after a crash, due is %v", got)
		}
		// Somebody in the database has another address put there.
		s, err := h.BeginRotation(ctx, id)
		ok(t, err)
		_, version, err := s.Book.Load(ctx)
		ok(t, err)
		ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
			n, err := tx.Target(ctx, "pg01")
			if err != nil {
				return audit.Event{}, err
			}
			n.Address = "203.0.113.9:5432"
			return audit.Event{Actor: "system", Action: "test"}, tx.SaveTarget(ctx, &n)
		}))
		ok(t, h.AbandonRotations(ctx))
		moved, err := h.BeginRotation(ctx, id)
		ok(t, err)
		if _, _, err := moved.Book.Load(ctx); !errors.Is(err, vault.ErrTampered) {
			t.Errorf("opened for another address: %v", err)
		}
		// A step of before writes nothing any more once another has written.
		entry := rotate.NewEntry(vault.NewSecret([]byte("newer")), h.clock.now())
		_, err = s.Book.Save(ctx, entry, version)
		ok(t, err)
		if _, err := s.Book.Save(ctx, entry, version); !errors.Is(err, rotate.ErrFenced) {
			t.Errorf("saved twice: %v", err)
		}
		h.unkept("the first one", "newer")
	})
}

// TestNoSessionAtSystems: at what is no machine with SSH nobody logs in through drawbolt.
func TestNoSessionAtSystems(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.managed("pg01", "app")
	_, err := h.Reach(t.Context(), h.as("root"), "pg01", "app")
	if e, is := errors.AsType[*access.Error](err); !is || e.Code != "DB-6403" || !strings.Contains(e.Next, "checkout app@pg01") {
		t.Errorf("%v", err)
	}
	if _, err := h.Reach(t.Context(), h.as("mallory"), "pg01", "app"); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("mallory learns that it is there: %v", err)
	}
	if _, err := h.BeginCheck(t.Context(), h.as("root"), "pg01", ""); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("%v", err)
	}
	for what, change := range map[string]func(*access.Target){
		"of no kind": func(t *access.Target) { t.Kind = "telnet" }, "of SSH, where an account has two names": func(t *access.Target) {
			t.Kind, t.Accounts = "", []access.Account{{Name: "app", KnownAs: "root", Credential: access.CredentialCertificate}}
		}, "with hops": func(t *access.Target) { t.Via = []string{"db01"} },
		"with a key of SSH": func(t *access.Target) { t.HostKeys = []string{keyText(newKey(h.t))} }, "with a provisioner": func(t *access.Target) { t.Provisioner = "root" },
	} {
		n := access.Target{Name: "pg02", Kind: access.KindPostgres, Address: "192.0.2.41:5432", Accounts: []access.Account{{Name: "app", Credential: access.CredentialCertificate}}}
		change(&n)
		if _, err := h.AddTarget(t.Context(), h.as("root"), n); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestHeld: whoever has a password keeps it until they give it back, but for what presses.
func TestHeld(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		cause access.Cause
		due   bool
	}{"schedule": {access.CauseSchedule, false}, "use": {access.CauseUse, false}, "demand": {access.CauseDemand, true}, "left": {access.CauseLeft, true}} {
		r := access.Rotation{HeldUntil: now.Add(time.Hour), ProveAt: now.Add(24 * time.Hour)}
		r.Due(c.cause, now)
		if r.Changes(now) != c.due || r.BeginAt().Equal(now) != c.due || !r.Changes(now.Add(time.Hour)) {
			t.Errorf("%s: changes %v, begins at %s", name, r.Changes(now), r.BeginAt())
		}
	}
	r := access.Rotation{HeldUntil: now.Add(time.Hour)}
	r.Due(access.CauseUse, now)
	if r.Due(access.CauseLeft, now.Add(time.Minute)); !r.Changes(now.Add(time.Minute)) {
		t.Error("who leaves keeps the password")
	}
}
