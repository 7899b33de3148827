// Package storetest makes databases for tests, with the schema in them: it is made
// once in a process, and each test begins with a copy. What a store does with an
// empty database is for the tests of the store itself.
//
// It trusts nothing and is trusted by nobody: no program links it.
package storetest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/test/servers"
)

var (
	sqliteFile       = sync.OnceValues(newSQLite)
	postgresTemplate = sync.OnceValues(func() (string, error) { return servers.NewPostgresTemplate(migrate) })
)

// An Engine is one of the databases that a store runs on.
type Engine struct {
	Name string
	URL  func(t testing.TB) string // of a fresh database, until the end of the test
}

// Engines are all of them, SQLite first.
func Engines() []Engine { return []Engine{{"sqlite", SQLite}, {"postgres", Postgres}} }

// SQLite returns the URL of a fresh database in a folder of the test.
func SQLite(t testing.TB) string {
	t.Helper()
	content, err := sqliteFile()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "drawbolt.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return "sqlite://" + path
}

// Postgres returns the URL of a fresh database of the server of servers.Postgres.
func Postgres(t testing.TB) string {
	t.Helper()
	name, err := postgresTemplate()
	if err != nil {
		t.Fatal(err)
	}
	return servers.PostgresFrom(t, name)
}

func newSQLite() ([]byte, error) {
	dir, err := os.MkdirTemp("", "drawbolt-storetest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "drawbolt.db")
	if err := migrate("sqlite://" + path); err != nil {
		return nil, err
	}
	return os.ReadFile(path) // closing has put all of it there
}

func migrate(url string) error {
	db, err := store.Open(context.Background(), store.Config{URL: url})
	if err != nil {
		return err
	}
	return db.Close()
}
