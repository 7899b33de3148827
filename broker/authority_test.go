package broker_test

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }

func (h *house) rotate(kind, step string) error {
	h.t.Helper()
	_, err := h.RotateAuthority(h.t.Context(), h.as("root"), kind, step, false)
	return err
}

// A rotation as two servers see it: what was issued stays good until the old key
// is retired, which waits for it.
func TestRotateAuthority(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		other := h
		if h.url[:6] != "sqlite" {
			other = h.another("node2")
			other.start()
		}
		h.start()
		first := h.Authorities().Identity
		alice := h.certificate("alice")
		recognized := func(h *house, c *ssh.Certificate) bool {
			_, err := h.Recognize(ctx, h.as("alice").Source, c)
			return err == nil
		}

		want(t, h.rotate("identity", broker.StepActivate), access.ErrConflict)
		want(t, h.rotate("identity", broker.StepRetire), access.ErrConflict)
		ok(t, h.rotate("identity", broker.StepStage))
		want(t, h.rotate("identity", broker.StepStage), access.ErrConflict)
		a := h.Authorities()
		if len(a.Identities) != 2 || !sameKey(a.Identity, first) || sameKey(a.Identities[1], first) || len(a.Users) != 1 || len(a.Hosts) != 1 {
			t.Fatalf("staged: %+v", a)
		}
		next := a.Identities[1]
		if c := h.certificate("alice"); !sameKey(c.SignatureKey, first) {
			t.Error("the next key signs before it is active")
		}

		ok(t, h.rotate("identity", broker.StepActivate))
		want(t, h.rotate("identity", broker.StepStage), access.ErrConflict) // one after the other
		if a = h.Authorities(); !sameKey(a.Identity, next) || len(a.Identities) != 2 {
			t.Fatalf("active: %+v", a)
		}
		fresh := h.certificate("alice")
		if !sameKey(fresh.SignatureKey, next) || !recognized(h, fresh) || !recognized(h, alice) {
			t.Error("the new key does not sign, or the old certificate is not taken")
		}
		eventually(t, "the other server to sign with the new key", func() bool {
			return sameKey(other.Authorities().Identity, next) && recognized(other, fresh) && recognized(other, alice)
		})
		// A server that starts now has the same keys.
		if again := h.another("node3").Authorities(); !sameKey(again.Identity, next) || len(again.Identities) != 2 {
			t.Errorf("after a start: %+v", again)
		}

		want(t, h.rotate("identity", broker.StepRetire), access.ErrConflict) // alice's is valid still
		h.clock.advance(13 * time.Hour)
		ok(t, h.rotate("identity", broker.StepRetire))
		if a = h.Authorities(); len(a.Identities) != 1 || !sameKey(a.Identity, next) {
			t.Errorf("retired: %+v", a)
		}
		eventually(t, "the other server to forget the old key", func() bool { return len(other.Authorities().Identities) == 1 })
		var told []string
		for _, e := range h.events() {
			if e.Object == "identity" && e.Outcome == "done" {
				told = append(told, e.Action+" "+e.Details["generation"])
			}
		}
		if len(told) != 3 || told[0] != "authority.stage 2" || told[1] != "authority.activate 2" || told[2] != "authority.retire 1" {
			t.Errorf("told %q", told)
		}
		// And once more.
		ok(t, h.rotate("identity", broker.StepStage))
		ok(t, h.rotate("identity", broker.StepActivate))
	})
}

// Retiring a key that was stolen does not wait: what it signed counts no more.
func TestRetireNow(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx, source := t.Context(), h.as("alice").Source
	stolen := h.certificate("alice")
	ok(t, h.rotate("identity", broker.StepStage))
	ok(t, h.rotate("identity", broker.StepActivate))
	_, err := h.Recognize(ctx, source, stolen)
	ok(t, err)
	_, err = h.RotateAuthority(ctx, h.as("root"), "identity", broker.StepRetire, true)
	ok(t, err)
	_, err = h.Recognize(ctx, source, stolen)
	want(t, err, access.ErrUnauthenticated)
}

func TestRotateAuthorityRefuses(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx := t.Context()
	for _, tt := range [][2]string{{"", "stage"}, {"user", ""}, {"audit", "stage"}, {"user", "delete"}, {"user/2", "stage"}, {"../user", "stage"}} {
		_, err := h.RotateAuthority(ctx, h.as("root"), tt[0], tt[1], false)
		want(t, err, access.ErrInvalid)
	}
	for _, who := range []string{"alice", "bob", "carol", "mallory"} {
		_, err := h.RotateAuthority(ctx, h.as(who), "user", "stage", false)
		want(t, err, access.ErrDenied)
	}
	if n := len(h.Authorities().Users); n != 1 {
		t.Errorf("%d user authorities", n)
	}
	// Who can write to the database cannot make a key of theirs count.
	ok(t, h.rotate("user", broker.StepStage))
	_, err := h.raw().Exec("UPDATE authorities SET key = ? WHERE state = 'next'", keyText(newKey(t)))
	ok(t, err)
	if _, err := broker.New(ctx, h.config); err == nil {
		t.Error("a key that is not the vault's was taken")
	}
}

// While the user authority is rotated, a certificate is revoked under both keys:
// a target that trusts either refuses it.
func TestRotatedRevocation(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ok(t, h.rotate("user", broker.StepStage))
	krl, err := h.KRL(t.Context())
	ok(t, err)
	for _, k := range h.Authorities().Users {
		if !bytes.Contains(krl, k.Marshal()) {
			t.Error("the list does not name an authority that is trusted")
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited too long for %s", what)
}
