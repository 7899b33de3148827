package store_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/test/servers"
)

func TestBadURLs(t *testing.T) {
	dir := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, "text"), []byte(strings.Repeat("this is no database ", 100)), 0o600))
	for _, url := range []string{
		"", "drawbolt.db", "file:x", "mysql://root@localhost/x", "sqlite:x", "sqlite://", "sqlite://" + dir,
		"sqlite://" + dir + "/text", "sqlite:///proc/no/such.db",
		"postgres://anna:hunter2@127.0.0.1:1/x", "postgres://anna:hunter2@127.0.0.1:port/x",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		db, err := store.Open(ctx, store.Config{URL: url})
		cancel()
		if err == nil {
			db.Close()
			t.Errorf("%q was opened", url)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is in %q", err)
		}
	}
}

// TestFileModes: nobody else may read what the database writes.
func TestFileModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a ?#%41", "b")
	db := open(t, "sqlite://"+dir+"/draw bolt.db")
	ok(t, addTarget(t.Context(), db))
	files, err := os.ReadDir(dir)
	ok(t, err)
	if len(files) != 3 {
		t.Errorf("files %v, want the database, its log and its index", files)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
}

// TestOpenAtOnce lets several servers make the schema at the same time, and
// opens it again.
func TestOpenAtOnce(t *testing.T) {
	for name, url := range map[string]string{"sqlite": "sqlite://" + filepath.Join(t.TempDir(), "drawbolt.db"), "postgres": servers.Postgres(t)} {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					db, err := store.Open(t.Context(), store.Config{URL: url})
					if err != nil {
						t.Error(err)
						return
					}
					defer db.Close()
					if err := addTarget(t.Context(), db); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			db := open(t, url)
			if list, err := db.Targets(t.Context()); err != nil || len(list) != 4 || len(checkLog(t, db)) != 4 {
				t.Errorf("%d targets, %v", len(list), err)
			}
		})
	}
}
