//go:build linux

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
	"github.com/drawbolt/drawbolt/web/api"
)

// keptSecrets are so many that they are sealed anew in several transactions.
const keptSecrets = 12

// A kept is an installation with secrets of accounts, looked at from outside.
type kept struct {
	*server
	t *testing.T
}

// keep installs a server that keeps secrets, and stops it.
func keep(t *testing.T, database string) *kept {
	s := install(t, database, "")
	s.stop()
	k := &kept{s, t}
	k.opened(k.file(), func(db *store.DB, v *vault.Vault) {
		must(t, db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
			e := audit.Event{Actor: "system", Action: "account.set", Outcome: audit.Done}
			for i := range keptSecrets {
				sealed, err := v.Seal(keptName(i), 10, vault.NewSecret([]byte(keptName(i))))
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
	return k
}

func keptName(i int) string { return fmt.Sprintf("account-secrets/%04d", i) }

// onBoth runs a test on both databases; fresh makes a new one.
func onBoth(t *testing.T, run func(t *testing.T, fresh func() string)) {
	for name, fresh := range map[string]func(t *testing.T) string{"SQLite": func(*testing.T) string { return "" }, "PostgreSQL": func(t *testing.T) string { return servers.Postgres(t) }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits more than it works
			run(t, func() string { return fresh(t) })
		})
	}
}

func (k *kept) file() vault.Keeper {
	k.t.Helper()
	file, err := keeper.File(filepath.Join(k.dir, "data", "master.key"))
	must(k.t, err)
	return file
}

// store opens the database of a server that does not run.
func (k *kept) store() *store.DB {
	k.t.Helper()
	url := k.database
	if url == "" {
		url = "sqlite://" + filepath.Join(k.dir, "data", "drawbolt.db")
	}
	db, err := store.Open(context.Background(), store.Config{URL: url})
	must(k.t, err)
	return db
}

// opened opens the vault of a server that does not run.
func (k *kept) opened(with vault.Keeper, do func(*store.DB, *vault.Vault)) {
	k.t.Helper()
	db := k.store()
	v, err := vault.Open(context.Background(), vault.Config{Backend: db.VaultRecords(), Keeper: with})
	must(k.t, err)
	do(db, v)
	must(k.t, db.Close())
}

// whole opens every secret.
func (k *kept) whole(with vault.Keeper, what string) {
	k.t.Helper()
	k.opened(with, func(db *store.DB, v *vault.Vault) {
		for i := range keptSecrets {
			row, err := db.AccountSecret(k.t.Context(), fmt.Sprintf("%04d", i), "root")
			must(k.t, err)
			if got, err := v.Unseal(keptName(i), uint64(row.Version), row.Sealed); err != nil || string(got.Expose()) != keptName(i) {
				k.t.Fatalf("secret %d after %s: %v", i, what, err)
			}
		}
		ids, err := db.VaultRecords().List(k.t.Context(), "")
		must(k.t, err)
		for _, id := range ids {
			if s, _, err := v.Get(k.t.Context(), id); id != "vault/keyset" && (err != nil || len(s.Expose()) == 0) {
				k.t.Fatalf("%s after %s: %v", id, what, err)
			}
		}
	})
}

func (k *kept) verb(args ...string) ([]byte, error) {
	return exec.Command(k.program, append([]string{"vault"}, append(args, "--config", k.config)...)...).CombinedOutput()
}

// renewed reports whether everything is sealed with the newest version.
func (k *kept) renewed() bool {
	out, err := k.verb("status")
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return err == nil && strings.Count(string(out), " 0 records") == len(lines)-1 && strings.Contains(lines[len(lines)-1], "seals")
}

// rotated makes a new version of the data key while the server is killed at that call.
func (k *kept) rotated(at int) (calls []string, struck bool) {
	k.t.Helper()
	watched := k.killAt(at)
	out, err := k.verb("rotate-root", "--reason", "a test")
	if err != nil && k.alive() && at == 0 {
		k.t.Fatalf("%v\n%s", err, out)
	}
	eventually(k.t, 2*time.Minute, "a kill, or that everything is sealed anew", func() bool { return !k.alive() || k.renewed() })
	return watched(), !k.alive()
}

// TestRotateRootKilled makes new versions of the data key while the server is killed at
// each call with which it does that: after each kill every secret opens, and in the end
// all are sealed with the newest.
func TestRotateRootKilled(t *testing.T) {
	onBoth(t, func(t *testing.T, fresh func() string) {
		k := keep(t, fresh())
		k.start()
		calls, _ := k.rotated(0)
		k.stop()
		struck := 0
		for i, at := range kills(t, len(calls)) {
			if i%12 == 11 { // of versions there are sixteen at most
				k = keep(t, fresh())
			}
			k.start()
			made, dead := k.rotated(at)
			k.kill()
			if dead {
				struck++
			}
			k.whole(k.file(), fmt.Sprintf("a kill at call %d, %s", at, made[len(made)-1]))
		}
		k.start()
		if out, err := k.verb("rotate-root", "--reason", "the last"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		eventually(t, 2*time.Minute, "everything is sealed with the newest version", k.renewed)
		k.stop()
		k.whole(k.file(), "the last rotation")
		t.Logf("%d kills struck at one of the %d calls: %s", struck, len(calls), summed(calls))
	})
}

// TestRekeyKilled has shares take the place of a key file while the program that does that
// is killed at each of its calls: afterwards the one or the other opens every secret, and
// never neither. In the end the server itself is unsealed with the shares.
func TestRekeyKilled(t *testing.T) {
	onBoth(t, func(t *testing.T, fresh func() string) {
		k := keep(t, fresh())
		rekeyed := func(at int) (calls []string, shares string) {
			t.Helper()
			shares = t.TempDir()
			// It waits for a line, so that it can be watched from its first call on.
			cmd := exec.Command("/bin/sh", "-c", `read -r line; exec "$@"`, "rekey", k.program, "rekey", "--config", k.config,
				"--keeper", "shares", "--shares", "3", "--threshold", "2", "--shares-dir", shares)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			in, err := cmd.StdinPipe()
			must(t, err)
			must(t, cmd.Start())
			watched := killAt(t, cmd.Process.Pid, at)
			fmt.Fprintln(in)
			if err := cmd.Wait(); err != nil && at == 0 {
				t.Fatalf("%v\n%s", err, &said)
			}
			return watched(), shares
		}
		calls, shares := rekeyed(0)
		of := map[string]int{}
		for _, at := range kills(t, len(calls)) {
			if !k.wrappedBy(keeper.KindFile) {
				k = keep(t, fresh())
			}
			var made []string
			made, shares = rekeyed(at)
			what := fmt.Sprintf("a kill at call %d, %s", at, made[len(made)-1])
			if k.wrappedBy(keeper.KindFile) {
				of["file"]++
				k.whole(k.file(), what)
			} else {
				of["shares"]++
				k.whole(k.gathered(shares), what)
			}
		}
		if k.wrappedBy(keeper.KindFile) {
			_, shares = rekeyed(0)
		}
		k.whole(k.gathered(shares), "the last one")
		t.Logf("after %d kills the file opens the vault, after %d the shares; %d calls: %s", of["file"], of["shares"], len(calls), summed(calls))
	})
}

func (k *kept) wrapped() []byte {
	k.t.Helper()
	db := k.store()
	defer db.Close()
	wrapped, err := vault.Wrapped(context.Background(), db.VaultRecords())
	must(k.t, err)
	return wrapped
}

func (k *kept) wrappedBy(kind string) bool {
	k.t.Helper()
	is, err := keeper.KindOf(k.wrapped())
	must(k.t, err)
	return is == kind
}

// gathered is the keeper that the shares of a folder give.
func (k *kept) gathered(folder string) vault.Keeper {
	k.t.Helper()
	g, err := keeper.NewGathering(k.wrapped())
	must(k.t, err)
	for i := range 2 {
		b, err := os.ReadFile(filepath.Join(folder, fmt.Sprintf("share-%d.txt", i+1)))
		must(k.t, err)
		line, _, _ := strings.Cut(string(b), "\n")
		_, err = g.Add(vault.NewSecret([]byte(line)))
		must(k.t, err)
	}
	shared, err := g.Keeper()
	must(k.t, err)
	return shared
}

// TestRotateRootBeside makes new versions of the data key on one of two servers, which is
// killed in it now and then, while the other serves: it reads and changes a password all
// the time, and nothing that it is asked for fails.
func TestRotateRootBeside(t *testing.T) {
	a := install(t, servers.Postgres(t), "")
	b := prepare(t, t.TempDir(), a.database, "vault: {master_key: \"file:"+filepath.Join(a.dir, "data", "master.key")+"\"}\n")
	b.start()
	ctx, admin := t.Context(), a.people["admin"]
	m := onPostgres(t, a, []string{"app"})
	_, err := admin.SetRole(ctx, api.Role{Name: "recoverers", Groups: []string{"recoverers"}, Rules: []api.Rule{{ID: "recover", Actions: []string{"secret.recover", "secret.rotate", "secret.read"}}}})
	must(t, err)
	rita := a.person("rita", "recoverers")
	_, err = admin.AddTarget(ctx, m.target)
	must(t, err)
	_, err = admin.SetCredential(ctx, m.target.Name, m.reset, api.CredentialInput{Credential: "password", Secret: []byte(m.secrets[m.reset])})
	must(t, err)
	_, err = admin.ManageAccount(ctx, m.target.Name, "app", api.ManageInput{Managed: api.Managed{Reset: m.reset, Failures: 4}, Secret: []byte(m.first)})
	must(t, err)
	fingerprint, err := api.PeerFingerprint(ctx, b.url)
	must(t, err)
	b.http, err = api.NewHTTP(fingerprint)
	must(t, err)
	t.Cleanup(b.http.CloseIdleConnections)
	beside := b.client("")
	l, err := beside.Login(ctx, api.LoginInput{User: "rita", Password: rita.password})
	must(t, err)
	beside.Token = l.Token

	state := func() api.Password {
		list, err := beside.Passwords(ctx, m.target.Name)
		if err != nil || len(list.Items) != 1 {
			return api.Password{Problem: fmt.Sprint(list, err)}
		}
		return list.Items[0]
	}
	eventually(t, time.Minute, "the first change", func() bool { return state().State == "ok" })
	stop, ended := make(chan struct{}), make(chan error, 1)
	reads, changes := 0, 0
	go func() {
		ended <- func() error {
			for {
				select {
				case <-stop:
					return nil
				case <-time.After(50 * time.Millisecond):
				}
				list, err := beside.RecoverPasswords(ctx, m.target.Name, "app", "the test wants to know")
				if err != nil {
					return fmt.Errorf("read %d: %w", reads, err)
				}
				reads++
				if len(list.Items) == 0 {
					return errors.New("nothing is known")
				}
				if p := state(); p.State == "ok" && p.Cause != "demand" {
					if _, err := beside.RotateAccount(ctx, m.target.Name, "app", "INC-1"); err != nil {
						return fmt.Errorf("change %d: %w", changes, err)
					}
					changes++
				}
			}
		}()
	}()
	k := &kept{a, t}
	calls, _ := k.rotated(0)
	for _, at := range []int{len(calls) / 4, len(calls) / 2, 0} {
		k.rotated(at)
		k.kill()
		k.start()
	}
	close(stop)
	must(t, <-ended)
	// A change that was broken off may have to wait for a minute; the right password does not.
	eventually(t, time.Minute, "it is known which password is in force", func() bool { p := state(); return p.State == "failing" || p.State == "ok" && p.Cause != "demand" })
	list, err := beside.RecoverPasswords(ctx, m.target.Name, "app", "the test wants to know")
	must(t, err)
	for _, p := range list.Items {
		if p.State == "current" {
			must(t, m.tried("app").Check(ctx, vault.NewSecret(p.Secret)))
		}
	}
	if reads < 5 || changes == 0 {
		t.Errorf("%d reads, %d changes: this test shows nothing; %+v", reads, changes, state())
	}
	t.Logf("%d reads and %d changes on the other server meanwhile", reads, changes)
}
