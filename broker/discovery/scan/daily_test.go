//go:build linux

package scan_test

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/discovery/scan"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
)

// A database is scanned once a day by one of two servers, as the account that is named for
// it. A new superuser is told at once; a database that nobody can scan says why, once a day.
func TestDaily(t *testing.T) {
	address := servers.Postgres(t)
	u, err := url.Parse(address)
	ok(t, err)
	password, _ := u.User.Password()
	conn, err := pgx.Connect(t.Context(), address)
	ok(t, err)
	defer conn.Close(context.Background())
	do := func(statement string) {
		t.Helper()
		_, err := conn.Exec(context.Background(), statement)
		ok(t, err)
	}
	do("DROP ROLE IF EXISTS scan_daily")
	t.Cleanup(func() {
		if conn, err := pgx.Connect(context.Background(), address); err == nil {
			_, _ = conn.Exec(context.Background(), "DROP ROLE IF EXISTS scan_daily")
			conn.Close(context.Background())
		}
	})

	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	config, where := brokertest.Config(t, "one", ""), storetest.Postgres(t)
	config.Now = now
	h := &house{t: t}
	ids := map[string]string{"pg01": access.NewID(access.TargetPrefix), "pg02": access.NewID(access.TargetPrefix)}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for _, node := range []string{"one", "two"} {
		config := config
		config.Node = node
		config.Store, err = store.Open(ctx, store.Config{URL: where, Now: now})
		ok(t, err)
		t.Cleanup(func() { config.Store.Close() })
		b, err := broker.New(ctx, config)
		ok(t, err)
		if h.db == nil {
			h.db, h.Broker = config.Store, b
			ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
				ok(t, tx.AddUser(ctx, &access.User{ID: access.NewID(access.UserPrefix), Name: "admin", Groups: []string{"admins"}, CreatedAt: tx.Now(), Version: 1}))
				ok(t, tx.AddRole(ctx, &access.Role{Name: "admins", Groups: []string{"admins"}, Version: 1, Rules: []access.Rule{{ID: "all", Actions: []string{"account.read", "secret.write"}}}}))
				for name, id := range ids {
					target := access.Target{ID: id, Name: name, Kind: access.KindPostgres, Address: u.Host, Version: 1, CreatedAt: tx.Now(), Accounts: []access.Account{{Name: "postgres", Credential: access.CredentialPassword}}}
					if name == "pg01" {
						target.ScanAccount = "postgres"
					}
					ok(t, tx.AddTarget(ctx, &target))
				}
				return audit.Event{Actor: "system", Action: "house.furnish"}, nil
			}))
			ok(t, h.SetCredential(ctx, h.as("admin"), "pg01", "postgres", access.CredentialPassword, []byte(password)))
		}
		s, err := scan.New(scan.Config{Broker: b, Scheduled: true, Every: 20 * time.Millisecond, Log: config.Log,
			Run: func(context.Context, broker.Discovery, string, []byte, int64) ([]byte, error) { panic("no machine") }})
		ok(t, err)
		all.Go(func() { _ = s.Run(ctx) })
	}
	until := func(name string, what string, holds func(access.TargetScan) bool) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			s, err := h.db.TargetScan(ctx, ids[name])
			if err == nil && holds(s) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s was never %s: %+v, %v", name, what, s, err)
			}
		}
	}
	count := func(event string) (n int) {
		for _, action := range h.actions() {
			if action == event {
				n++
			}
		}
		return n
	}
	for name := range ids {
		until(name, "planned", func(s access.TargetScan) bool { return !s.NextAt.IsZero() && s.TriedAt.IsZero() })
	}
	for day := range 2 {
		if day == 1 {
			do("CREATE ROLE scan_daily SUPERUSER LOGIN PASSWORD 'a-Passw0rd'")
		}
		before := now()
		ahead.Add(int64(24 * time.Hour))
		until("pg01", "scanned", func(s access.TargetScan) bool { return s.At.After(before) && s.Problem == "" && s.NextAt.After(now()) })
		until("pg02", "given up", func(s access.TargetScan) bool {
			return s.TriedAt.After(before) && s.At.IsZero() && strings.Contains(s.Problem, "no account to be scanned as") && s.NextAt.After(now())
		})
	}
	if done, failed, lent := count("account.discovered done"), count("account.discovered failed"), count("secret.lend done"); done != 2 || failed != 2 || lent != 2 {
		t.Errorf("%d scans, %d that failed, %d uses of the password: %q", done, failed, lent, h.actions())
	}
	list, _, err := h.FoundAccounts(ctx, h.as("admin"), broker.FoundFilter{Target: "pg01", Name: "scan_daily"})
	if err != nil || len(list) != 1 || list[0].Class != "unmanaged" || list[0].Risk > 2 {
		t.Errorf("%v: %+v", err, list)
	}
	leaves, err := h.db.Leaves(ctx, store.LeafFilter{Limit: 1000})
	ok(t, err)
	told := false
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		ok(t, err)
		told = told || e.Action == "account.grave" && e.Target == "pg01" && strings.Contains(e.Reason, "scan_daily (new)")
		if strings.Contains(string(leaf), password) {
			t.Error("the password stands in the log")
		}
	}
	if !told {
		t.Errorf("nobody was told: %q", h.actions())
	}
}
