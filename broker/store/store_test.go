package store_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

// engines are the databases that every test of this package runs on.
var engines = []struct {
	name string
	url  func(testing.TB) string
}{
	{"sqlite", storetest.SQLite},
	{"postgres", storetest.Postgres},
}

// onEach runs the test on a fresh database of each engine, on all of them at once.
func onEach(t *testing.T, test func(t *testing.T, db *store.DB, url string)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			url := e.url(t)
			test(t, open(t, url), url)
		})
	}
}

func open(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// raw is the database without the store, for an operator's mistakes.
func raw(t *testing.T, url string) *sql.DB {
	t.Helper()
	driver := "pgx"
	if path, ok := strings.CutPrefix(url, "sqlite://"); ok {
		driver, url = "sqlite", path
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func do(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.Exec(query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error = %v, want one that is %v", err, kind)
	}
}

// change makes a change that is done.
func change(t testing.TB, db *store.DB, fn func(tx *store.Tx) error) {
	t.Helper()
	ok(t, db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) { return event("test.change", "x"), fn(tx) }))
}

// now is a time as the store keeps one.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func newUser(name string) access.User {
	return access.User{ID: access.NewID(access.UserPrefix), Name: name, CreatedAt: now()}
}

// checkLog recomputes the whole tree from the leaves, compares every stored
// hash and the root, and returns the events.
func checkLog(t testing.TB, db *store.DB) []audit.Event {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // it may be called at the end of a test
	size, err := db.AuditSize(ctx)
	ok(t, err)
	var events []audit.Event
	var hashes memory
	for from := int64(0); ; from = int64(len(events)) {
		leaves, err := db.Leaves(ctx, store.LeafFilter{From: from, Limit: 10_000})
		ok(t, err)
		if len(leaves) == 0 {
			break
		}
		for _, leaf := range leaves {
			e, err := audit.Parse(leaf)
			ok(t, err)
			if e.Seq != int64(len(events)) {
				t.Fatalf("event %d follows event %d", e.Seq, len(events)-1)
			}
			h, err := audit.Append(e.Seq, leaf, hashes)
			ok(t, err)
			hashes, events = append(hashes, h...), append(events, e)
		}
	}
	if int64(len(events)) != size {
		t.Fatalf("%d events, the head says %d", len(events), size)
	}
	stored := db.Hashes(ctx)
	for i := range hashes {
		h, err := stored.ReadHashes([]int64{int64(i)})
		ok(t, err)
		if h[0] != hashes[i] {
			t.Fatalf("stored hash %d is %v, want %v", i, h[0], hashes[i])
		}
	}
	got, err := audit.TreeRoot(size, stored)
	ok(t, err)
	if root, err := audit.TreeRoot(size, hashes); err != nil || got != root {
		t.Fatalf("root of the stored hashes %v, of the leaves %v, %v", got, root, err)
	}
	return events
}

// memory holds the hashes of a tree by their index.
type memory []tlog.Hash

func (m memory) ReadHashes(positions []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(positions))
	for i, p := range positions {
		if p >= int64(len(m)) {
			return nil, errors.New("no such hash")
		}
		list[i] = m[p]
	}
	return list, nil
}
