package broker_test

import (
	"testing"

	"github.com/drawbolt/drawbolt/broker/access"
)

// TestRotationCredential: the certificate for a change is given while the target is
// reached and set as it was, and the step is this server's. That another account of the
// target is taken over meanwhile is no reason to refuse it.
func TestRotationCredential(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx, root, key := t.Context(), h.as("root"), newKey(t)
	n, err := h.AddTarget(ctx, root, access.Target{
		Name: "db07", Address: "192.0.2.7:22", Provisioner: "root", HostKeys: []string{keyText(newKey(t))},
		Accounts: []access.Account{{Name: "app", Credential: access.CredentialCertificate}, {Name: "web", Credential: access.CredentialCertificate}},
	})
	ok(t, err)
	ok(t, h.ManageAccount(ctx, root, "db07", "app", "", access.Managed{}, nil))
	begin := func() func(what string, given bool) {
		t.Helper()
		s, err := h.BeginRotation(ctx, access.RotationID(n.ID, "app"))
		ok(t, err)
		return func(what string, given bool) {
			t.Helper()
			c, err := h.RotationCredential(ctx, s, 0, key)
			if given {
				ok(t, err)
				if c.ValidPrincipals[0] != s.Reset.Name+"@db07" {
					t.Errorf("%s: for %q", what, c.ValidPrincipals)
				}
				return
			}
			want(t, err, access.ErrConflict)
		}
	}
	credential := begin()
	credential("nothing has changed", true)
	ok(t, h.ManageAccount(ctx, root, "db07", "web", "", access.Managed{}, nil))
	credential("another account was taken over", true)
	change := func(what string, change func(*access.Target)) {
		t.Helper()
		now, err := h.db.Target(ctx, "db07")
		ok(t, err)
		change(&now)
		_, err = h.SetTarget(ctx, root, now)
		ok(t, err)
		credential(what, false)
		ok(t, h.AbandonRotations(ctx))
		credential(what+", and the step was given up", false)
		credential = begin()
		credential("begun after "+what, true)
	}
	change("another account sets passwords", func(t *access.Target) { t.Provisioner = "deploy" })
	change("root does again", func(t *access.Target) { t.Provisioner = "root" })
	ok(t, h.LockTarget(ctx, root, "db07", true, "INC-1"))
	credential("the target is locked", false)
}
