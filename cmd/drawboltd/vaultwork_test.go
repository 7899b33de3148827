package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

func vaultConfig(t *testing.T) Config {
	t.Helper()
	data := t.TempDir()
	c, err := loadConfig(writeConfig(t, least+fmt.Sprintf("data: %s\n", data)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.createMaster(); err != nil {
		t.Fatal(err)
	}
	return c
}

func openApp(t testing.TB, c Config) *App {
	t.Helper()
	a, err := NewApp(t.Context(), c, slog.New(slog.DiscardHandler), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func secretName(i int) string { return fmt.Sprintf("account-secrets/%04d", i) }
func secretText(i int) string { return fmt.Sprintf("password %d of an account", i) }

// fill adds account secrets.
func fill(t testing.TB, a *App, n int) {
	t.Helper()
	err := a.db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
		e := audit.Event{Actor: "system", Action: "account.set", Outcome: audit.Done}
		for i := range n {
			sealed, err := a.keys.vault.Seal(secretName(i), 10, vault.NewSecret([]byte(secretText(i))))
			if err != nil {
				return e, err
			}
			if err := tx.AddAccountSecret(t.Context(), &store.AccountSecret{TargetID: fmt.Sprintf("%04d", i), Account: "root", Sealed: sealed, ChangedAt: tx.Now(), Version: 10}); err != nil {
				return e, err
			}
		}
		return e, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// read opens one of them as a session would.
func read(ctx context.Context, a *App, i int) error {
	row, err := a.db.AccountSecret(ctx, fmt.Sprintf("%04d", i), "root")
	if err != nil {
		return err
	}
	s, err := a.keys.vault.Unseal(secretName(i), uint64(row.Version), row.Sealed)
	if err == nil && string(s.Expose()) != secretText(i) {
		err = errors.New("it is another secret")
	}
	return err
}

func rawDB(t testing.TB, c Config) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(c.Database.URL, "sqlite://")+"?_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func tamperings(t testing.TB, a *App) []audit.Event {
	t.Helper()
	leaves, err := a.db.Leaves(t.Context(), store.LeafFilter{Action: "vault.tampered", Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var list []audit.Event
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// TestVaultAlarm: what somebody with the database changes in it is refused and told,
// once, however often it is found, also when it was done while the server was away.
func TestVaultAlarm(t *testing.T) {
	c := vaultConfig(t)
	a := openApp(t, c)
	fill(t, a, 8)
	ctx := t.Context()
	if err := a.checkVault(ctx); err != nil { // which makes them known
		t.Fatal(err)
	}
	if list := tamperings(t, a); len(list) != 0 {
		t.Fatalf("told %+v of what nobody changed", list)
	}
	db := rawDB(t, c)
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	row := func(id string) (sealed []byte, version int64) {
		t.Helper()
		if err := db.QueryRow("SELECT sealed, version FROM account_secrets WHERE id = ?", id).Scan(&sealed, &version); err != nil {
			t.Fatal(err)
		}
		return sealed, version
	}
	was, _ := row("0003/root")
	next, err := a.keys.vault.Seal(secretName(3), 11, vault.NewSecret([]byte("changed")))
	if err != nil {
		t.Fatal(err)
	}
	exec("UPDATE account_secrets SET sealed = ?, version = 11 WHERE id = '0003/root'", next)
	if err := a.checkVault(ctx); err != nil {
		t.Fatal(err)
	}
	token, _, err := a.keys.vault.Get(ctx, tokenKeyID)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.keys.vault.Put(ctx, "keys/spare", token, 1); err != nil {
		t.Fatal(err)
	}
	var spare []byte
	if err := db.QueryRow("SELECT sealed FROM vault_records WHERE id = 'keys/spare'").Scan(&spare); err != nil {
		t.Fatal(err)
	}
	if err := a.keys.vault.Put(ctx, "keys/spare", token, 2); err != nil {
		t.Fatal(err)
	}
	a.Close()

	flipped, _ := row("0000/root")
	flipped[20] ^= 1
	exec("UPDATE account_secrets SET sealed = ? WHERE id = '0000/root'", flipped)
	one, _ := row("0001/root")
	two, _ := row("0002/root")
	exec("UPDATE account_secrets SET sealed = ? WHERE id = '0001/root'", two)
	exec("UPDATE account_secrets SET sealed = ? WHERE id = '0002/root'", one)
	exec("UPDATE account_secrets SET sealed = ?, version = 10 WHERE id = '0003/root'", was)
	exec("UPDATE vault_records SET sealed = ?, version = 1 WHERE id = 'keys/spare'", spare)

	for range 2 { // and once more after another restart
		a = openApp(t, c)
		for range 3 {
			for i := range 4 {
				if err := read(ctx, a, i); !errors.Is(err, vault.ErrTampered) {
					t.Errorf("secret %d: %v", i, err)
				}
			}
			if err := read(ctx, a, 4); err != nil {
				t.Error(err)
			}
			if err := errors.Join(a.checkVault(ctx), a.recordTampered()); err != nil {
				t.Fatal(err)
			}
		}
		told := map[string]int{}
		for _, e := range tamperings(t, a) {
			told[e.Object]++
		}
		want := map[string]int{secretName(0): 1, secretName(1): 1, secretName(2): 1, secretName(3): 1, "keys/spare": 1}
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("told %v, want %v", told, want)
		}
		a.Close()
	}

	// The keyset of before a rotation, and the whole of the secrets of before.
	a = openApp(t, c)
	copied := filepath.Join(t.TempDir(), "before.db")
	exec("VACUUM INTO ?", copied)
	before, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	var keyset []byte
	if err := db.QueryRow("SELECT sealed FROM vault_records WHERE id = 'vault/keyset'").Scan(&keyset); err != nil {
		t.Fatal(err)
	}
	if _, err := a.rotateRoot(ctx, audit.Event{Actor: "system", Action: "vault.rotate", Outcome: audit.Done}); err != nil {
		t.Fatal(err)
	}
	if err := a.resealAll(ctx); err != nil {
		t.Fatal(err)
	}
	a.Close()
	exec("UPDATE vault_records SET sealed = ?, version = 1 WHERE id = 'vault/keyset'", keyset)
	if _, err := NewApp(ctx, c, slog.New(slog.DiscardHandler), false); !errors.Is(err, vault.ErrTampered) {
		t.Errorf("the keyset of before: %v", err)
	}
	db.Close()
	for _, name := range []string{"drawbolt.db-wal", "drawbolt.db-shm"} {
		os.Remove(filepath.Join(c.Data, name))
	}
	if err := os.WriteFile(strings.TrimPrefix(c.Database.URL, "sqlite://"), before, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewApp(ctx, c, slog.New(slog.DiscardHandler), false); !errors.Is(err, vault.ErrTampered) {
		t.Errorf("the database of before: %v", err)
	}
}

// TestFlippedFile flips 10,000 bits of the file of a database, ten at a time: every
// secret is the right one, or is refused.
func TestFlippedFile(t *testing.T) {
	c := vaultConfig(t)
	a := openApp(t, c)
	const secrets = 200
	fill(t, a, secrets)
	copied := filepath.Join(t.TempDir(), "copy.db")
	if _, err := rawDB(t, c).Exec("VACUUM INTO ?", copied); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	// Where secrets are: elsewhere a flip changes none of them.
	var places []int
	for at := 0; ; at++ {
		n := bytes.Index(good[at:], []byte("account-secrets/"))
		if n < 0 {
			break
		}
		at += n
		places = append(places, at)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	right, refused, unread := 0, 0, 0
	for range 1000 {
		bad := bytes.Clone(good)
		for range 10 {
			at := places[rnd.IntN(len(places))] - 120 + rnd.IntN(160)
			bad[min(max(at, 0), len(bad)-1)] ^= 1 << rnd.IntN(8)
		}
		if err := os.WriteFile(copied, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", "file:"+copied+"?mode=ro&immutable=1")
		if err != nil {
			t.Fatal(err)
		}
		rows, err := db.Query("SELECT target_id, sealed, version FROM account_secrets")
		for err == nil && rows.Next() {
			var id string
			var sealed []byte
			var version int64
			if rows.Scan(&id, &sealed, &version) != nil {
				unread++
				continue
			}
			s, err := a.keys.vault.Unseal("account-secrets/"+strings.ToLower(id), uint64(max(version, 0)), sealed)
			var i int
			fmt.Sscanf(id, "%04d", &i)
			switch {
			case err != nil:
				refused++
			case string(s.Expose()) == secretText(i):
				right++
			default:
				t.Fatalf("%s gives %q", id, s.Expose())
			}
		}
		if err != nil || rows.Err() != nil {
			unread++
		}
		db.Close()
	}
	if right == 0 || refused < 1000 {
		t.Errorf("%d right, %d refused: this test looks in the wrong place", right, refused)
	}
	t.Logf("%d right, %d refused, %d could not be read", right, refused, unread)
}

// TestRotateRootUnderLoad: nobody who reads a secret sees that everything is sealed
// anew, twice, and the versions that nothing needs are destroyed.
func TestRotateRootUnderLoad(t *testing.T) {
	c := vaultConfig(t)
	a := openApp(t, c)
	const secrets = 500
	fill(t, a, secrets)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var reads, failed atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond) // 500 a second
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// A read of a version that was replaced between the database and here is
			// refused as a rollback would be, and read again.
			err := read(context.Background(), a, i%secrets)
			if errors.Is(err, vault.ErrTampered) {
				err = read(context.Background(), a, i%secrets)
			}
			if reads.Add(1); err != nil {
				failed.Add(1)
				t.Log(err)
			}
		}
	}()
	for range 2 {
		if _, err := a.rotateRoot(ctx, audit.Event{Actor: "system", Action: "vault.rotate", Outcome: audit.Done}); err != nil {
			t.Fatal(err)
		}
		if err := a.tendVault(ctx); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	<-done
	if failed.Load() > 0 || reads.Load() < 50 {
		t.Errorf("%d of %d reads failed", failed.Load(), reads.Load())
	}
	s, err := a.vaultStatus(t.Context())
	if err != nil || len(s.Keys) != 3 || s.Keys[0].Records+s.Keys[1].Records+s.Unknown != 0 || s.Keys[2].In["account_secrets.sealed"] != secrets {
		t.Errorf("status %+v, %v", s, err)
	}
	if len(tamperings(t, a)) != 0 {
		t.Error("an alarm, and nobody has changed anything")
	}
	t.Logf("%d reads", reads.Load())
}

// TestDestroyUnused: a version goes when nothing in the database needs it, and no server.
func TestDestroyUnused(t *testing.T) {
	c := vaultConfig(t)
	a := openApp(t, c)
	ctx := t.Context()
	fill(t, a, 3)
	versions := func() (list []int) {
		for _, k := range a.keys.vault.Keys() {
			list = append(list, k.Version)
		}
		return list
	}
	wrapped, err := journalKeys{a.keys.vault}.Wrap("SES-1", []byte("key"))
	if err != nil || !a.keys.vault.Current(wrapped) {
		t.Fatal(err)
	}
	if err := a.db.SeeVaultServer(ctx, store.VaultServer{Node: "elsewhere", Oldest: 1, Newest: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.rotateRoot(ctx, audit.Event{Actor: "system", Action: "vault.rotate", Outcome: audit.Done}); err != nil {
		t.Fatal(err)
	}
	if err := a.tendVault(ctx); err != nil || len(versions()) != 2 {
		t.Fatal(versions(), err)
	}
	s, err := a.vaultStatus(ctx)
	if err != nil || fmt.Sprint(s.Keys[0].Servers, s.Keys[1].Servers) != fmt.Sprintf("[elsewhere] [%s]", c.Server.Name) {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := a.doVault(ctx, 0, question{Verb: "vault.forget", Node: c.Server.Name, Reason: "x"}); err == nil {
		t.Error("a server forgets itself")
	}
	if _, err := a.doVault(ctx, 0, question{Verb: "vault.forget", Node: "nowhere", Reason: "x"}); !errors.Is(err, access.ErrNotFound) {
		t.Error(err)
	}
	if _, err := a.doVault(ctx, 0, question{Verb: "vault.forget", Node: "elsewhere", Reason: "it burnt"}); err != nil {
		t.Error(err)
	}
	if err := a.destroyUnused(ctx); err != nil || len(versions()) != 2 {
		t.Errorf("destroyed at once: %v, %v", versions(), err)
	}
}

// TestKeeperOf: which keeper opens a vault is what is configured, which has to agree
// with what has wrapped it.
func TestKeeperOf(t *testing.T) {
	c := vaultConfig(t)
	_, k, err := keeper.Split(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := k.Wrap(t.Context(), vault.NewSecret([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.keeperOf(shared); !errors.As(err, &peopleError{}) {
		t.Errorf("shares: %v", err)
	}
	if _, err := c.keeperOf(nil); err != nil {
		t.Errorf("nothing yet: %v", err)
	}
	c.Vault.MasterKey = "file:" + filepath.Join(c.Data, "master.key")
	if _, err := c.keeperOf(shared); err == nil || errors.As(err, &peopleError{}) || !strings.Contains(err.Error(), "vault.master_key names") {
		t.Errorf("a file for what shares have wrapped: %v", err)
	}
	for setting, fits := range map[string]bool{"": true, "shares": true, "passphrase": true, "passphrase:/x": true, "file:/x": true, "file": false, "file:": false, "shares:x": false, "transit": false, "nothing": false, "nothing:x": false} {
		c.Vault.MasterKey = setting
		if problems := c.masterProblems(); (len(problems) == 0) != fits {
			t.Errorf("%q: %q", setting, problems)
		}
	}
}
