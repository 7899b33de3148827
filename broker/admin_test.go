package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

func TestOwnRights(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		before := h.dump()
		me := h.user("root")
		me.Groups = append(me.Groups, "engineers")
		_, err := h.SetUser(ctx, h.as("root"), me)
		want(t, err, access.ErrDenied)
		r, err := h.FindRole(ctx, h.as("root"), "engineers")
		ok(t, err)
		r.Groups = append(r.Groups, "admins")
		_, err = h.SetRole(ctx, h.as("root"), r)
		want(t, err, access.ErrDenied)
		r.Groups, r.Users = r.Groups[:1], []string{me.ID}
		_, err = h.SetRole(ctx, h.as("root"), r)
		want(t, err, access.ErrDenied)
		_, err = h.MaySetUp(ctx, h.as("root"), "root")
		want(t, err, access.ErrDenied)
		if h.dump() != before {
			t.Error("refused, but changed")
		}
	})
}

func TestLastAdministrator(t *testing.T) {
	for name, leave := range map[string]func(ctx context.Context, h *house) error{
		"lock": func(ctx context.Context, h *house) error {
			return h.LockUser(ctx, h.as("root"), "root", true, "INC-1")
		},
		"remove the role": func(ctx context.Context, h *house) error { return h.RemoveRole(ctx, h.as("root"), "admins") },
		"take the action out of the role": func(ctx context.Context, h *house) error {
			r, err := h.FindRole(ctx, h.as("root"), "admins")
			if err == nil {
				r.Rules[0].Actions = []string{"role.read"}
				_, err = h.SetRole(ctx, h.as("root"), r)
			}
			return err
		},
		"take the members out of the role": func(ctx context.Context, h *house) error {
			r, err := h.FindRole(ctx, h.as("root"), "admins")
			if err == nil {
				r.Groups = nil
				_, err = h.SetRole(ctx, h.as("root"), r)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				before := h.dump()
				want(t, leave(t.Context(), h), access.ErrDenied)
				if h.dump() != before {
					t.Error("refused, but changed")
				}
			})
		})
	}
	// With another one it is allowed.
	h := newHouse(t, sqliteURL(t))
	_, err := h.AddUser(t.Context(), h.as("root"), access.User{Name: "root2", Groups: []string{"admins"}})
	ok(t, err)
	ok(t, h.LockUser(t.Context(), h.as("root"), "root", true, "INC-1"))
	want(t, h.LockUser(t.Context(), h.as("root"), "root", false, ""), access.ErrDenied)
	ok(t, h.LockUser(t.Context(), h.as("root2"), "root", false, ""))
}

func TestUsersAndTargets(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, root := t.Context(), h.as("root")
		var groups []string
		for i := range access.MaxItems {
			groups = append(groups, fmt.Sprintf("%02d", i)+strings.Repeat("g", 62)) // as many and as long as may be
		}
		u, err := h.AddUser(ctx, root, access.User{Name: strings.Repeat("u", 64), Groups: groups, Locked: true, ID: "USR-mine"})
		ok(t, err)
		if u.Locked || u.ID == "USR-mine" || len(u.Groups) != access.MaxItems {
			t.Errorf("added %+v", u)
		}
		_, err = h.AddUser(ctx, root, access.User{Name: u.Name})
		want(t, err, access.ErrConflict)
		stale := u
		stale.Version--
		_, err = h.SetUser(ctx, root, stale)
		want(t, err, access.ErrConflict)
		_, err = h.FindUser(ctx, root, "nobody")
		want(t, err, access.ErrNotFound)
		_, err = h.AddUser(ctx, root, access.User{Name: "Root"})
		want(t, err, access.ErrInvalid)

		target := access.Target{Name: "big", Address: "192.0.2.8:22", Labels: access.Labels{Environment: "prod", Tier: "0", Criticality: "high", Owner: strings.Repeat("o", 128)}}
		for range 16 {
			target.HostKeys = append(target.HostKeys, keyText(newKey(t)))
		}
		target, err = h.AddTarget(ctx, root, target)
		ok(t, err)
		for _, bad := range []string{"", "ssh-ed25519", "ssh-ed25519 AAAA", `command="x" ` + target.HostKeys[0], target.HostKeys[0] + "\n" + target.HostKeys[1], strings.Repeat("x", 20<<10)} {
			b := target
			b.HostKeys = []string{bad}
			_, err := h.SetTarget(ctx, root, b)
			want(t, err, access.ErrInvalid)
		}
		// Who administers sees the address; who may only ask does not.
		v, err := h.FindTarget(ctx, root, "db01")
		ok(t, err)
		w, err := h.FindTarget(ctx, h.as("alice"), "db01")
		ok(t, err)
		if v.Target.Address == "" || w.Target.Address != "" || w.Target.HostKeys != nil || len(w.Accounts) != 2 {
			t.Errorf("root sees %+v, alice %+v", v, w)
		}
		_, err = h.FindTarget(ctx, h.as("mallory"), "db01")
		want(t, err, access.ErrNotFound)
		list, _, err := h.FindTargets(ctx, h.as("mallory"), broker.TargetFilter{})
		ok(t, err)
		if len(list) != 0 {
			t.Errorf("mallory sees %d targets", len(list))
		}

		// Roles that do not hold together are refused as a whole.
		for name, r := range map[string]access.Role{
			"unknown parent": {Name: "x", Inherits: []string{"nobody"}},
			"itself":         {Name: "x", Inherits: []string{"x"}},
			"unknown action": {Name: "x", Rules: []access.Rule{{ID: "r", Actions: []string{"fly"}}}},
			"changed since":  {Name: "engineers", Version: 7},
			"there already":  {Name: "engineers"},
			"hours":          {Name: "x", Rules: []access.Rule{{ID: "r", Actions: []string{"audit.read"}, Hours: []string{"8-25"}}}},
		} {
			if _, err := h.SetRole(ctx, root, r); !errors.Is(err, access.ErrInvalid) && !errors.Is(err, access.ErrConflict) {
				t.Errorf("%s: %v", name, err)
			}
		}
		x, err := h.Explain(ctx, root, broker.WhatIf{User: "alice", Target: "db01", Account: "root"})
		ok(t, err)
		if !x.Decision.Allow || len(x.Decision.Approvals) != 1 {
			t.Errorf("explained %+v", x)
		}
		x, err = h.Explain(ctx, root, broker.WhatIf{User: "bob", Target: "db01", Account: "root"})
		ok(t, err)
		if x.Decision.Allow || len(x.Ways) == 0 {
			t.Errorf("explained %+v", x)
		}
	})
}

func TestRecognize(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		key, unknown := newKey(t), newKey(t)
		source := h.as("alice").Source
		stranger := func(t *testing.T, key ssh.PublicKey) {
			t.Helper()
			n := len(h.events())
			by, err := h.Recognize(ctx, source, key)
			want(t, err, access.ErrUnauthenticated)
			if by.User.ID != "" {
				t.Errorf("but it is %s", by.User.Name)
			}
			if got := h.told(n); !slices.Equal(got, []string{"login.key refused"}) {
				t.Errorf("told %v", got)
			}
		}
		known := func(t *testing.T, key ssh.PublicKey, name string) access.Caller {
			t.Helper()
			by, err := h.Recognize(ctx, source, key)
			ok(t, err)
			if by.User.Name != name || by.Via != "ssh" || by.Source != source || !h.KnowsKey(ctx, source, key) {
				t.Errorf("it is %+v", by)
			}
			return by
		}

		_, err := h.AddKey(ctx, h.as("alice"), "", keyText(key), "laptop")
		ok(t, err)
		known(t, key, "alice")
		stranger(t, unknown)
		if h.KnowsKey(ctx, source, unknown) {
			t.Error("knows an unknown key")
		}
		_, err = h.AddKey(ctx, h.as("erin"), "", keyText(key), "the same")
		want(t, err, access.ErrConflict)
		_, err = h.AddKey(ctx, h.as("erin"), "alice", keyText(unknown), "for another")
		want(t, err, access.ErrDenied)

		by := h.as("alice")
		by.MFAAt = h.clock.now().Add(-time.Minute).UTC().Truncate(time.Microsecond)
		cert, err := h.Certify(ctx, by, unknown)
		ok(t, err)
		if got := known(t, cert, "alice"); !got.MFAAt.Equal(by.MFAAt) {
			t.Errorf("its second factor was at %s, want %s", got.MFAAt, by.MFAAt)
		}
		stranger(t, unknown) // the key alone is nobody's

		// The same certificate of another authority, or of our own for targets.
		foreign := brokertest.Config(t, "node1", "")
		for name, ca := range map[string]*sshca.Authority{"foreign": foreign.IdentityCA} {
			c, err := ca.Sign(ctx, someSerial(cert.Serial), sshca.Certificate{
				Kind: sshca.Identity, Key: unknown, Principal: "alice", KeyID: "drawbolt " + by.User.ID, ValidAfter: h.clock.now(), ValidBefore: h.clock.now().Add(time.Hour),
			})
			ok(t, err)
			t.Run(name, func(t *testing.T) { stranger(t, c) })
		}
		user, err := h.config.UserCA.Sign(ctx, someSerial(cert.Serial), sshca.Certificate{
			Kind: sshca.User, Key: unknown, Principal: "alice", Target: "db01", KeyID: "drawbolt " + by.User.ID, ValidAfter: h.clock.now(), ValidBefore: h.clock.now().Add(time.Minute), PermitPTY: true,
		})
		ok(t, err)
		stranger(t, user)
		// Ours, but with a serial that nobody stored, and for a name that is another's id.
		for _, c := range []struct{ principal, id string }{{"alice", by.User.ID}, {"erin", by.User.ID}, {"alice", h.user("erin").ID}} {
			serial := uint64(1 << 40)
			if c.principal != "alice" || c.id != by.User.ID {
				serial = cert.Serial
			}
			forged, err := h.config.IdentityCA.Sign(ctx, someSerial(serial), sshca.Certificate{
				Kind: sshca.Identity, Key: unknown, Principal: c.principal, KeyID: "drawbolt " + c.id, ValidAfter: h.clock.now(), ValidBefore: h.clock.now().Add(time.Hour),
			})
			ok(t, err)
			stranger(t, forged)
		}

		t.Run("locked", func(t *testing.T) {
			h.setUser("alice", func(u *access.User) { u.Locked = true })
			stranger2 := func(key ssh.PublicKey) {
				_, err := h.Recognize(ctx, source, key)
				want(t, err, access.ErrUnauthenticated)
			}
			stranger2(cert)
			stranger2(key)
			h.setUser("alice", func(u *access.User) { u.Locked = false })
			known(t, cert, "alice")
		})
		t.Run("renamed", func(t *testing.T) {
			h.setUser("alice", func(u *access.User) { u.Name = "alicia" })
			stranger(t, cert)
			known(t, key, "alicia")
			// Somebody else gets the name, and not the certificate.
			_, err := h.AddUser(ctx, h.as("root"), access.User{Name: "alice"})
			ok(t, err)
			stranger(t, cert)
			ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
				u, err := tx.User(ctx, "alice")
				u.Name = "alice2"
				return audit.Event{Actor: "system", Action: "user.set", Object: u.ID}, errors.Join(err, tx.SaveUser(ctx, &u))
			}))
			h.setUser("alicia", func(u *access.User) { u.Name = "alice" })
			known(t, cert, "alice")
		})
		t.Run("key removed", func(t *testing.T) {
			ok(t, h.RemoveKey(ctx, h.as("alice"), "", ssh.FingerprintSHA256(key)))
			stranger(t, key)
			want(t, h.RemoveKey(ctx, h.as("alice"), "", ssh.FingerprintSHA256(key)), access.ErrNotFound)
		})
		t.Run("expired", func(t *testing.T) {
			h.clock.advance(12*time.Hour + time.Second)
			stranger(t, cert)
		})
	})
}

// someSerial hands out one serial and records nothing.
type someSerial uint64

func (s someSerial) NextSerial(context.Context, sshca.Certificate) (uint64, error) {
	return uint64(s), nil
}

func TestRevokedSerial(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	cert, err := h.Certify(t.Context(), h.as("alice"), newKey(t))
	ok(t, err)
	_, err = h.Recognize(t.Context(), h.as("alice").Source, cert)
	ok(t, err)
	db := h.raw()
	_, err = db.Exec("UPDATE certificates SET revoked_at = 1 WHERE serial = ?", int64(cert.Serial))
	ok(t, err)
	_, err = h.Recognize(t.Context(), h.as("alice").Source, cert)
	want(t, err, access.ErrUnauthenticated)
}

func TestHostCertificate(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	target, err := h.db.Target(t.Context(), "db01")
	ok(t, err)
	c, err := h.HostCertificate(t.Context(), target, newKey(t))
	ok(t, err)
	if _, err := h.db.Certificate(t.Context(), c.Serial); err != nil || c.CertType != ssh.HostCert || !slices.Equal(c.ValidPrincipals, []string{"db01"}) {
		t.Errorf("%+v, %v", c, err)
	}
	a := h.Authorities()
	if string(c.SignatureKey.Marshal()) != string(a.Host.Marshal()) || string(a.Host.Marshal()) == string(a.Identity.Marshal()) || string(a.User.Marshal()) == string(a.Host.Marshal()) {
		t.Error("it is of another authority")
	}
}

// With the database gone no serial can be stored, and then nothing is signed.
func TestNoSerialNoCertificate(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	l := h.session("alice", h.granted())
	target, by := l.Target, h.as("alice")
	ok(t, h.db.Close())
	for name, sign := range map[string]func() (*ssh.Certificate, error){
		"user":     func() (*ssh.Certificate, error) { return h.Credential(t.Context(), l, newKey(t)) },
		"host":     func() (*ssh.Certificate, error) { return h.HostCertificate(t.Context(), target, newKey(t)) },
		"identity": func() (*ssh.Certificate, error) { return h.Certify(t.Context(), by, newKey(t)) },
	} {
		if c, err := sign(); c != nil || !errors.Is(err, access.ErrUnavailable) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}
