package broker_test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// TestNetworkInUse: of a role that names a network and the removal of that network
// one is refused. On PostgreSQL each of the two is held up between what it has read and
// what it writes, once, until the other is done or waits for it; SQLite has one writer.
func TestNetworkInUse(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.setGroups("bob", "admins")
		one, other, at := h.as("root"), h.as("bob"), h
		postgres := !strings.HasPrefix(h.url, "sqlite")
		if postgres {
			at = h.another("node2")
		}
		for name, hold := range map[string]struct {
			statement string // that holds up the first of the two
			role      bool   // which is that of the role
		}{
			// A deletion waits for this, and reading for a change does not.
			"the removal": {"SELECT name FROM networks WHERE name = 'office' FOR KEY SHARE", false},
			// A role of the same name, of which it is not known yet whether there is one.
			"the role": {"INSERT INTO roles (name, inherits, groups, users, attributes, excludes, rules, version) VALUES ('visitors', '[]', '[]', '[]', '{}', '[]', '[]', 1)", true},
		} {
			_, err := h.SetNetwork(ctx, h.as("root"), access.Network{Name: "office", Ranges: []string{"192.0.2.0/24"}})
			ok(t, err)
			calls := []func() error{
				func() error { return at.RemoveNetwork(ctx, other, "office") },
				func() error {
					_, err := h.SetRole(ctx, one, access.Role{Name: "visitors", Groups: []string{"nobody"}, Rules: []access.Rule{{
						ID: "from", Actions: []string{"request"}, Targets: access.Selector{Names: []string{"db01"}}, Accounts: []string{"root"}, Sources: []string{"office"}, MaxDuration: time.Hour,
					}}})
					return err
				},
			}
			if !postgres {
				errs := together(calls...)
				if (errs[0] == nil) == (errs[1] == nil) {
					t.Fatalf("the removal: %v; the role: %v", errs[0], errs[1])
				}
				return
			}
			if hold.role {
				calls[0], calls[1] = calls[1], calls[0]
			}
			db, err := sql.Open("pgx", h.url)
			ok(t, err)
			defer db.Close()
			holder, err := db.Begin()
			ok(t, err)
			_, err = holder.Exec(hold.statement)
			ok(t, err)
			waiting := func(n int) bool {
				var waits int
				ok(t, db.QueryRow("SELECT COUNT(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()").Scan(&waits))
				return waits >= n
			}
			first, second := make(chan error, 1), make(chan error, 1)
			until := func(done func() bool) {
				t.Helper()
				for end := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal(name + ": nobody waits for anybody")
					}
				}
			}
			go func() { first <- calls[0]() }()
			until(func() bool { return waiting(1) })
			go func() { second <- calls[1]() }()
			until(func() bool { return len(second) == 1 || waiting(2) })
			ok(t, holder.Rollback())
			e1, e2 := <-first, <-second
			if (e1 == nil) == (e2 == nil) {
				t.Errorf("%s is held up: it: %v; the other: %v", name, e1, e2)
			}
			if e1 == nil == hold.role { // what is left for the next
				ok(t, h.RemoveRole(ctx, h.as("root"), "visitors"))
				ok(t, h.RemoveNetwork(ctx, h.as("root"), "office"))
			}
		}
	})
}
