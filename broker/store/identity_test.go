package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/identity/identitytest"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

func TestIdentities(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			identitytest.Run(t, func(t *testing.T) identitytest.Fixture {
				db := open(t, e.url(t))
				t.Cleanup(func() { checkLog(t, db) })
				return identitytest.Fixture{
					Store:   db.Identities(),
					AddUser: func(u access.User) { change(t, db, func(tx *store.Tx) error { return tx.AddUser(t.Context(), &u) }) },
					Lock: func(id string, locked bool) {
						change(t, db, func(tx *store.Tx) error {
							u, err := tx.User(t.Context(), id)
							u.Locked = locked
							if err != nil {
								return err
							}
							return tx.SaveUser(t.Context(), &u)
						})
					},
				}
			})
		})
	}
}

// TestIdentityEvents wants one event of each change, and none of the reads and
// of what changes nothing.
func TestIdentityEvents(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx, s, at := t.Context(), db.Identities(), now()
		u := newUser("anna")
		by := access.Caller{User: u, Via: "web"}
		l := identity.Login{ID: access.NewID(access.LoginPrefix), UserID: u.ID, IssuedAt: at, ExpiresAt: at.Add(time.Hour), Source: "192.0.2.7", Via: "web"}
		d := identity.Device{Code: "KQTW-7JPD", SecretHash: make([]byte, 32), Source: "192.0.2.8", Origin: "192.0.2.8", CreatedAt: at, ExpiresAt: at.Add(time.Minute)}
		key := local.Passkey{ID: access.NewID(local.PasskeyPrefix), UserID: u.ID, Name: "laptop", AddedAt: at}
		key.Credential, key.Key = []byte("credential"), []byte("cose")
		challenge := local.Challenge{Hash: []byte("hash"), Owner: u.ID, UserID: u.ID, Purpose: local.Vote, Digest: "d", CreatedAt: at, ExpiresAt: at.Add(time.Minute)}
		use := local.PasskeyUse{ID: key.ID, Purpose: local.Vote, Digest: "d", At: at}
		use.Count = 1
		refused := func(err error) error {
			if !errors.Is(err, access.ErrConflict) {
				return fmt.Errorf("got %w, want a conflict", err)
			}
			return nil
		}
		change(t, db, func(tx *store.Tx) error { return tx.AddUser(ctx, &u) })
		seen := len(checkLog(t, db))
		for _, tt := range []struct {
			want string // action and outcome; empty: no event
			do   func() error
		}{
			{"login done", func() error { return s.CreateLogin(ctx, l) }},
			{"", func() error { _, _, err := s.Login(ctx, l.ID); return err }},
			{"login.mfa done", func() error { return s.SetLoginMFA(ctx, by, l.ID, at) }},
			{"", func() error { return s.SetLoginMFA(ctx, by, l.ID, at) }},
			{"logout done", func() error { return s.RevokeLogin(ctx, by, l.ID, at) }},
			{"", func() error { return s.RevokeLogin(ctx, by, l.ID, at) }},
			{"device.start done", func() error { return s.CreateDevice(ctx, d, 9, 9) }},
			{"", func() error { _, err := s.ClaimDevice(ctx, d.SecretHash, at); return err }},
			{"device.confirm done", func() error { return s.ConfirmDevice(ctx, by, d.Code, at) }},
			{"device.claim done", func() error { _, err := s.ClaimDevice(ctx, d.SecretHash, at); return err }},
			{"user.password done", func() error { return s.SetPassword(ctx, by, u.ID, "hash", at) }},
			{"", func() error { return s.Rehash(ctx, u.ID, "hash", "new") }},
			{"user.totp.start done", func() error { return s.SetPendingTOTP(ctx, by, u.ID, []byte("sealed")) }},
			{"user.totp done", func() error { return s.ConfirmTOTP(ctx, by, u.ID, []byte("sealed"), 1) }},
			{"", func() error { return s.UseTOTPStep(ctx, u.ID, []byte("sealed"), 2) }},
			{"user.totp.remove done", func() error { return s.RemoveFactor(ctx, by, u.ID, local.TOTP, true) }},
			{"user.passkey.add done", func() error { return s.AddPasskey(ctx, by, key, 9) }},
			{"", func() error { return s.CreateChallenge(ctx, challenge, 9, 9) }},
			{"", func() error { _, err := s.TakeChallenge(ctx, challenge.Hash, at); return err }},
			{"user.passkey.use done", func() error { return s.UsePasskey(ctx, by, use) }},
			{"user.passkey.copied done", func() error { return refused(s.UsePasskey(ctx, by, use)) }},
			{"user.passkey.remove done", func() error { return s.RemoveFactor(ctx, by, u.ID, key.ID, true) }},
			{"logout.all done", func() error { _, err := s.RevokeLogins(ctx, by, u.ID, at); return err }},
			{"", func() error { return s.PruneLogins(ctx, at) }},
		} {
			ok(t, tt.do())
			events := checkLog(t, db)[seen:]
			seen += len(events)
			got := ""
			for _, e := range events {
				got += e.Action + " " + string(e.Outcome)
				if e.Actor == "" || e.Outcome != audit.Done {
					t.Errorf("event %+v", e)
				}
			}
			if got != tt.want {
				t.Errorf("events %q, want %q", got, tt.want)
			}
		}
	})
}
