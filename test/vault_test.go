//go:build linux

package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// TestRotateRootKilled makes new versions of the data key while the server is killed:
// after each kill every secret opens, and in the end all are sealed with the newest.
func TestRotateRootKilled(t *testing.T) {
	const secrets, rounds = 150, 4
	s := install(t, "", "")
	s.stop()
	name := func(i int) string { return fmt.Sprintf("account-secrets/%04d", i) }
	opened := func(do func(*store.DB, *vault.Vault)) {
		t.Helper()
		k, err := keeper.File(filepath.Join(s.dir, "data", "master.key"))
		must(t, err)
		db, err := store.Open(context.Background(), store.Config{URL: "sqlite://" + filepath.Join(s.dir, "data", "drawbolt.db")})
		must(t, err)
		v, err := vault.Open(context.Background(), vault.Config{Backend: db.VaultRecords(), Keeper: k})
		must(t, err)
		do(db, v)
		must(t, db.Close())
	}
	opened(func(db *store.DB, v *vault.Vault) {
		must(t, db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
			e := audit.Event{Actor: "system", Action: "account.set", Outcome: audit.Done}
			for i := range secrets {
				sealed, err := v.Seal(name(i), 10, vault.NewSecret([]byte(name(i))))
				if err != nil {
					return e, err
				}
				if err := tx.AddAccountSecret(t.Context(), &store.AccountSecret{TargetID: fmt.Sprintf("%04d", i), Account: "root", Sealed: sealed, ChangedAt: tx.Now(), Version: 10}); err != nil {
					return e, err
				}
			}
			return e, nil
		}))
	})
	verb := func(args ...string) ([]byte, error) {
		return exec.Command(s.program, append([]string{"vault"}, append(args, "--config", s.config)...)...).CombinedOutput()
	}
	rotated := 0
	for round := range rounds {
		s.start()
		asked := make(chan error, 1)
		go func() {
			_, err := verb("rotate-root", "--reason", "a test")
			asked <- err
		}()
		var err error
		if round%2 == 0 {
			err = <-asked // and records are being sealed anew
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		s.kill()
		if round%2 != 0 {
			err = <-asked
		}
		if err == nil {
			rotated++
		}
		opened(func(db *store.DB, v *vault.Vault) {
			for i := range secrets {
				row, err := db.AccountSecret(t.Context(), fmt.Sprintf("%04d", i), "root")
				must(t, err)
				if got, err := v.Unseal(name(i), uint64(row.Version), row.Sealed); err != nil || string(got.Expose()) != name(i) {
					t.Fatalf("secret %d after a kill: %v", i, err)
				}
			}
		})
	}
	s.start()
	out, err := verb("rotate-root", "--reason", "the last")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		out, err = verb("status")
		must(t, err)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if strings.Count(string(out), " 0 records") == len(lines)-1 && strings.Contains(lines[len(lines)-1], "seals") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not everything is sealed with the newest version:\n%s", out)
		}
	}
	t.Logf("%d of %d rotations were answered before the kill", rotated, rounds)
}
