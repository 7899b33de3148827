package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/vault"
)

func TestVaultBackend(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) { testBackend(t, db.VaultRecords()) })
	// The plainest implementation passes too, or the test is wrong.
	t.Run("memory", func(t *testing.T) { testBackend(t, vault.NewMemory()) })
}

func testBackend(t *testing.T, b vault.Backend) {
	ctx := t.Context()
	sealed := []byte{0, 1, 0xff, 0}
	_, err := b.Get(ctx, "a/1")
	want(t, err, vault.ErrNotFound)
	want(t, b.Delete(ctx, "a/1", 1), vault.ErrNotFound)
	want(t, b.Put(ctx, vault.Record{ID: "a/1", Version: 0, Sealed: sealed}), vault.ErrConflict)
	want(t, b.Put(ctx, vault.Record{ID: "a/1", Version: 2, Sealed: sealed}), vault.ErrConflict)
	ok(t, b.Put(ctx, vault.Record{ID: "a/1", Version: 1, Sealed: sealed}))
	want(t, b.Put(ctx, vault.Record{ID: "a/1", Version: 1, Sealed: []byte("other")}), vault.ErrConflict)
	got, err := b.Get(ctx, "a/1")
	ok(t, err)
	if got.ID != "a/1" || got.Version != 1 || !bytes.Equal(got.Sealed, sealed) {
		t.Errorf("record %+v", got)
	}
	got.Sealed[0] = 9 // not shared
	if again, err := b.Get(ctx, "a/1"); err != nil || !bytes.Equal(again.Sealed, sealed) {
		t.Errorf("record %+v, %v", again, err)
	}
	ok(t, b.Put(ctx, vault.Record{ID: "a/1", Version: 2, Sealed: []byte("two")}))
	want(t, b.Delete(ctx, "a/1", 1), vault.ErrConflict)
	for _, id := range []string{"a/B", "a/a", "a_1", "A/1", "a/%"} {
		ok(t, b.Put(ctx, vault.Record{ID: id, Version: 1, Sealed: sealed}))
	}
	if ids, err := b.List(ctx, "a/"); err != nil || !slices.Equal(slices.Sorted(slices.Values(ids)), []string{"a/%", "a/1", "a/B", "a/a"}) {
		t.Errorf("ids %q, %v", ids, err)
	}
	ok(t, b.Delete(ctx, "a/1", 2))
	_, err = b.Get(ctx, "a/1")
	want(t, err, vault.ErrNotFound)

	const workers = 8
	ok(t, b.Put(ctx, vault.Record{ID: "n", Version: 1, Sealed: []byte("0")}))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < 5; {
				r, err := b.Get(ctx, "n")
				if err == nil {
					var n int
					fmt.Sscan(string(r.Sealed), &n)
					err = b.Put(ctx, vault.Record{ID: "n", Version: r.Version + 1, Sealed: fmt.Append(nil, n+1)})
				}
				if err == nil {
					done++
				} else if !errors.Is(err, vault.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if r, err := b.Get(ctx, "n"); err != nil || string(r.Sealed) != fmt.Sprint(5*workers) || r.Version != 5*workers+1 {
		t.Errorf("counted to %s, version %d, %v", r.Sealed, r.Version, err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := b.Get(cancelled, "n"); err == nil || errors.Is(err, vault.ErrNotFound) {
		t.Errorf("cancelled: %v", err)
	}
}
