package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
)

// TestDestroyedAfterItsWait: a version of the data key is destroyed by the server alone when
// it was retired long enough ago, everything was sealed anew and no other server needs it;
// with an event, and what was sealed with it, as in a copy of the database, opens nothing.
func TestDestroyedAfterItsWait(t *testing.T) {
	for _, c := range []struct {
		name    string
		retired time.Duration // ago
		needed  bool          // by another server
		left    string        // versions
	}{
		{"long ago", destroyAfter + time.Minute, false, "[2]"},
		{"not long enough ago", destroyAfter - time.Minute, false, "[1 2]"},
		{"another server may need it", destroyAfter + time.Minute, true, "[1 2]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, ctx := vaultConfig(t), t.Context()
			a := openApp(t, config)
			fill(t, a, 3)
			if c.needed {
				if err := a.db.SeeVaultServer(ctx, store.VaultServer{Node: "elsewhere", Oldest: 1, Newest: 1}); err != nil {
					t.Fatal(err)
				}
			}
			old, err := a.db.AccountSecret(ctx, "0001", "root")
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			rotateThen(t, config, time.Now().Add(-c.retired))
			a = openApp(t, config)
			if err := a.tendVault(ctx); err != nil {
				t.Fatal(err)
			}
			var left []int
			for _, k := range a.keys.vault.Keys() {
				left = append(left, k.Version)
			}
			if fmt.Sprint(left) != c.left {
				t.Errorf("there are %v, want %s", left, c.left)
			}
			for i := range 3 {
				if err := read(ctx, a, i); err != nil {
					t.Errorf("secret %d: %v", i, err)
				}
			}
			destroyed := len(left) == 1
			leaves, err := a.db.Leaves(ctx, store.LeafFilter{Action: "vault.destroy", Limit: 10})
			if err != nil || len(leaves) > 1 || destroyed != (len(leaves) == 1) {
				t.Errorf("%d events, %v", len(leaves), err)
			}
			if destroyed {
				if e, err := audit.Parse(leaves[0]); err != nil || e.Object != "1" || e.Outcome != audit.Done {
					t.Errorf("%+v, %v", e, err)
				}
				if _, err := a.keys.vault.Unseal(secretName(1), uint64(old.Version), old.Sealed); err == nil {
					t.Error("what the version had sealed is opened")
				}
			}
		})
	}
}

// rotateThen makes a new version of the data key at another time, while no server runs.
func rotateThen(t *testing.T, c Config, at time.Time) {
	t.Helper()
	ctx := context.Background()
	db, err := c.openDatabase(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	wrapped, err := wrappedOf(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	k, err := c.keeperOf(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(ctx, vault.Config{Backend: db.VaultRecords(), Keeper: k, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Rotate(ctx); err != nil {
		t.Fatal(err)
	}
}
