package local_test

import (
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/identity/local"
)

// TestLostFactor: a stolen administrator makes nobody's both factors anew in one day,
// in neither order, and the refusal says from when on the other half is possible.
func TestLostFactor(t *testing.T) {
	h := newHouse(t)
	h.wait(48 * time.Hour)
	h.enrol()
	ctx, admin := t.Context(), h.by(h.user("mallory"))
	take := func() error { return h.TakeFactor(ctx, admin, h.alice.ID, local.TOTP, "lost, she says") }
	link := func() (string, error) {
		token, _, err := h.NewSetup(ctx, admin, h.alice.ID, 0)
		return token, err
	}

	token, err := link()
	h.must(err)
	_, err = h.Setup(ctx, token, []byte("a password of Mallory's"), office, "web")
	h.must(err)
	err = take()
	said(t, err, "DB-6571")
	if !strings.Contains(err.Error(), "2026-03-04 09:01:00 UTC") {
		t.Errorf("the refusal does not say from when on: %v", err)
	}
	h.wait(local.RecoveryRest)
	unused, err := link()
	h.must(err)
	h.must(take())
	_, err = h.Setup(ctx, unused, []byte("a password of Mallory's"), office, "web")
	said(t, err, "DB-4022") // it went with the factor
	_, err = link()
	said(t, err, "DB-6570")
	h.wait(local.RecoveryRest)
	_, err = link()
	h.must(err)

	said(t, h.TakeFactor(ctx, admin, h.alice.ID, local.TOTP, " "), "DB-1003")
	said(t, take(), "DB-6310")
}

// TestRemoveTOTP: who has two second factors removes the authenticator themselves,
// and the last one stays where a role needs it.
func TestRemoveTOTP(t *testing.T) {
	h := newHouse(t)
	h.enrol()
	ctx, by := t.Context(), h.by(h.alice)
	by.MFAAt = h.clock()
	said(t, h.RemoveFactor(ctx, by, h.clock(), local.TOTP, "responder"), "DB-6308")
	stale := by
	stale.MFAAt = h.clock().Add(-time.Hour)
	said(t, h.RemoveFactor(ctx, stale, h.clock(), local.TOTP, ""), "DB-6301")
	h.addPasskey(h.alice)
	h.must(h.RemoveFactor(ctx, by, h.clock(), local.TOTP, "responder"))
	said(t, h.RemoveFactor(ctx, by, h.clock(), local.TOTP, "responder"), "DB-6310")
}
