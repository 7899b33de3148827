package broker_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/sshkey"
)

// TestOnboarding: an account that a scan has found is taken over and managed in one
// change with both events, or not at all; whoever lacks one of the two rights does
// neither, and what would be done is told before.
func TestOnboarding(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, root := t.Context(), h.as("root")
		h.scan("db01", says(t, "deploy", "web", "gone"))
		alice := "alice"
		o := broker.Onboarding{Owner: &alice, Managed: access.Managed{Every: 24 * time.Hour, AfterUse: true}}
		accounts := func() string {
			t.Helper()
			n, err := h.db.Target(ctx, "db01")
			ok(t, err)
			var list []string
			for _, a := range n.Accounts {
				if list = append(list, a.Name); a.Managed != nil {
					list[len(list)-1] += "*"
				}
			}
			return strings.Join(list, " ")
		}
		before := accounts()
		// Nobody knows the password, and nobody may set it: nothing is taken over.
		for what, do := range map[string]func() error{
			"it":      func() error { _, err := h.OnboardAccount(ctx, root, "deploy@db01", o); return err },
			"the try": func() error { _, err := h.PreviewOnboarding(ctx, root, "deploy@db01", o); return err },
		} {
			if err := do(); code(err) != "DB-6407" || accounts() != before {
				t.Errorf("%s: %v, accounts are %s", what, err, accounts())
			}
		}
		if v, err := h.FindFound(ctx, root, "deploy@db01"); err != nil || v.OwnerName != "" || v.Class == "managed" {
			t.Errorf("half of it was done: %+v, %v", v, err)
		}
		h.provisioned("db01", "maker")

		// The right to adopt alone is not the right to a password, and the other way round.
		for _, lacks := range []string{"account.adopt", "secret.write"} {
			h.setRole("admins", func(r *access.Role) {
				r.Rules[0].Actions = slices.DeleteFunc(r.Rules[0].Actions, func(a string) bool { return a == lacks })
			})
			for what, do := range map[string]func() error{
				"onboards": func() error { _, err := h.OnboardAccount(ctx, root, "deploy@db01", o); return err },
				"asks":     func() error { _, err := h.PreviewOnboarding(ctx, root, "deploy@db01", o); return err },
			} {
				n := len(h.events())
				if err := do(); !errors.Is(err, access.ErrDenied) || accounts() != before {
					t.Errorf("who lacks %s %s: %v, accounts are %s", lacks, what, err, accounts())
				}
				if told := h.told(n); len(told) != 1 || !strings.HasSuffix(told[0], "refused") {
					t.Errorf("told %v", told)
				}
			}
			h.setRole("admins", func(r *access.Role) { r.Rules[0].Actions = append(r.Rules[0].Actions, lacks) })
		}
		for _, id := range []string{"deploy@db01", "nobody@db01", "FND-nothing"} {
			if _, err := h.OnboardAccount(ctx, h.as("alice"), id, o); !errors.Is(err, access.ErrNotFound) && !errors.Is(err, access.ErrDenied) {
				t.Errorf("alice onboards %s: %v", id, err)
			}
		}

		n := len(h.events())
		if f, err := h.PreviewOnboarding(ctx, root, "deploy@db01", o); err != nil || f.Name != "deploy" || accounts() != before || len(h.events()) != n {
			t.Fatalf("%+v, %v, accounts are %s, told %v", f, err, accounts(), h.told(n))
		}
		f, err := h.OnboardAccount(ctx, root, "deploy@db01", o)
		ok(t, err)
		if f.Class != "managed" || f.OwnerName != "alice" || accounts() != before+" deploy*" || !slices.Equal(h.told(n), []string{"account.manage done", "account.adopt done"}) {
			t.Errorf("%+v, accounts are %s, told %v", f, accounts(), h.told(n))
		}
		if got := h.rotatable(); !slices.Equal(got, []string{"deploy@db01"}) {
			t.Errorf("due is %v", got)
		}
		at := &system{password: "nobody knows it"}
		ok(t, h.work(h.rotation("db01", "deploy").ID, at))
		if got := h.known("db01", "deploy"); at.password == "nobody knows it" || got[0] != at.password {
			t.Errorf("it was not changed: %q", at.password)
		}
		// Once is enough, and nothing of what is said then counts.
		o.Owner = new(string)
		for what, do := range map[string]func() error{
			"it":      func() error { _, err := h.OnboardAccount(ctx, root, "deploy@db01", o); return err },
			"the try": func() error { _, err := h.PreviewOnboarding(ctx, root, "deploy@db01", o); return err },
		} {
			if err := do(); code(err) != "DB-6504" {
				t.Errorf("%s once more: %v", what, err)
			}
		}
		if v, err := h.FindFound(ctx, root, "deploy@db01"); err != nil || v.OwnerName != "alice" {
			t.Errorf("%+v, %v", v, err)
		}
		// What is not there is not taken over.
		h.scan("db01", says(t, "deploy", "web"))
		if _, err := h.OnboardAccount(ctx, root, "gone@db01", o); code(err) != "DB-6468" {
			t.Errorf("one that has gone: %v", err)
		}
		// A key in the place of a password that nobody has.
		o.Credential = access.CredentialKey
		_, err = h.OnboardAccount(ctx, root, "web@db01", o)
		ok(t, err)
		key := &system{password: "of somebody"}
		ok(t, h.workWith(h.rotation("db01", "web").ID, key))
		if !strings.Contains(key.password, "OPENSSH PRIVATE KEY") {
			t.Error("what was set is no key")
		}
	})
}

// workWith is work with what is made by the step, and not by the test.
func (h *house) workWith(id string, at rotate.Rotator) error {
	h.t.Helper()
	s, err := h.BeginRotation(h.t.Context(), id)
	if err != nil {
		return err
	}
	a, err := rotate.New(rotate.Config{Book: s.Book, Rotator: at, Reset: at, Make: s.Make, Owner: s.Node, Now: h.clock.now})
	ok(h.t, err)
	report, err := a.Verify(h.t.Context())
	return errors.Join(err, h.EndRotation(h.t.Context(), s, report, err))
}

func code(err error) string {
	e, _ := errors.AsType[*access.Error](err)
	if e == nil {
		return ""
	}
	return e.Code
}

// TestKinds: what a target of each kind may have, and what may be managed there.
func TestKinds(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx, root := t.Context(), h.as("root")
	account := []access.Account{{Name: "admin", Credential: access.CredentialCertificate}}
	add := func(n access.Target) error {
		n.Accounts = account
		_, err := h.AddTarget(ctx, root, n)
		return err
	}
	// A program is named by the configuration, and by nobody who may add targets.
	for what, kind := range map[string]string{"a program that is not configured": "plugin:nothere", "a path": "plugin:/bin/sh", "a path out of there": "plugin:../sh", "no name": "plugin:", "arguments": "plugin:switch -x"} {
		if err := add(access.Target{Name: "x1", Kind: kind, Address: "192.0.2.1:443"}); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ok(t, add(access.Target{Name: "switch1", Kind: "plugin:switch", Address: "192.0.2.1:443"}))
	ok(t, add(access.Target{Name: "win1", Kind: access.KindWindows, Address: "192.0.2.2:22", HostKeys: []string{keyText(newKey(t))}}))
	for what, n := range map[string]access.Target{
		"a way for others": {HopAccount: "jump"}, "accounts for grants": {Provisioner: "admin"}, "a certificate in the place of a host key": {HostKeys: []string{"AAAA"}},
	} {
		n.Name, n.Kind, n.Address = "win2", access.KindWindows, "192.0.2.2:22"
		if err := add(n); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%s at a machine with Windows: %v", what, err)
		}
	}
	for _, name := range []string{"win1", "switch1"} {
		if _, err := h.BeginDiscovery(ctx, root, name, "admin"); code(err) != "DB-6506" {
			t.Errorf("a scan of %s: %v", name, err)
		}
	}
	private, err := sshkey.Make()
	ok(t, err)
	key := private.Expose()
	for what, try := range map[string]func() error{
		"a key at Windows": func() error {
			return h.ManageAccount(ctx, root, "win1", "admin", access.CredentialKey, access.Managed{}, key)
		},
		"a key at a switch": func() error {
			return h.ManageAccount(ctx, root, "switch1", "admin", access.CredentialKey, access.Managed{}, key)
		},
		"a certificate": func() error {
			return h.ManageAccount(ctx, root, "db01", "root", access.CredentialCertificate, access.Managed{}, nil)
		},
		"a password that is a key": func() error {
			return h.ManageAccount(ctx, root, "db01", "root", access.CredentialPassword, access.Managed{}, key)
		},
		"a key that is a password": func() error {
			return h.ManageAccount(ctx, root, "db01", "root", access.CredentialKey, access.Managed{}, []byte("a password"))
		},
		"a long key": func() error {
			return h.ManageAccount(ctx, root, "db01", "root", access.CredentialKey, access.Managed{Length: 64}, key)
		},
		"no key": func() error {
			return h.ManageAccount(ctx, root, "db01", "root", access.CredentialKey, access.Managed{}, nil)
		},
	} {
		if err := try(); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ok(t, h.ManageAccount(ctx, root, "db01", "root", access.CredentialKey, access.Managed{Every: time.Hour}, key))
	if err := h.ManageAccount(ctx, root, "db01", "root", access.CredentialPassword, access.Managed{}, []byte("a password")); code(err) != "DB-6502" {
		t.Errorf("a password in the place of a key that is ours: %v", err)
	}
	ok(t, h.ManageAccount(ctx, root, "db01", "root", "", access.Managed{Every: 2 * time.Hour}, nil)) // how, and not what
	db01, err := h.db.Target(ctx, "db01")
	ok(t, err)
	if a, _ := db01.Account("root"); a.Credential != access.CredentialKey || a.Managed.Every != 2*time.Hour {
		t.Errorf("%+v", a)
	}
	first := string(key)
	if got := h.known("db01", "root"); len(got) != 1 || got[0] != first {
		t.Error("the key that was told is not what is known")
	}
	h.unkept(first)
}
