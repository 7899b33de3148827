package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// rows is a backend whose rows an attacker may change, and which may fail
// before or after it has applied a write.
type rows struct {
	mu   sync.Mutex
	m    map[string]vault.Record
	fail error // returned by the next Put
	done bool  // whether that Put is applied all the same
}

func newRows() *rows { return &rows{m: map[string]vault.Record{}} }

func (r *rows) Get(_ context.Context, id string) (vault.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.m[id]
	if !ok {
		return vault.Record{}, vault.ErrNotFound
	}
	rec.Sealed = bytes.Clone(rec.Sealed)
	return rec, nil
}

func (r *rows) Put(_ context.Context, rec vault.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.fail
	r.fail = nil
	if err != nil && !r.done {
		return err
	}
	if rec.Version != r.m[rec.ID].Version+1 {
		return vault.ErrConflict
	}
	rec.Sealed = bytes.Clone(rec.Sealed)
	r.m[rec.ID] = rec
	return err
}

func (r *rows) Delete(_ context.Context, id string, version uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.m[id]; !ok {
		return vault.ErrNotFound
	}
	if r.m[id].Version != version {
		return vault.ErrConflict
	}
	delete(r.m, id)
	return nil
}

func (r *rows) List(_ context.Context, prefix string) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := slices.Sorted(maps.Keys(r.m))
	return slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, prefix) }), nil
}

func newKeeper(t testing.TB) vault.Keeper {
	t.Helper()
	path := t.TempDir() + "/root.key"
	if err := keeper.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	k, err := keeper.File(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newVault(t testing.TB) (*vault.Vault, *rows, vault.Config) {
	t.Helper()
	r := newRows()
	c := vault.Config{Backend: r, Keeper: newKeeper(t)}
	if err := vault.Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return reopen(t, c), r, c
}

func reopen(t testing.TB, c vault.Config) *vault.Vault {
	t.Helper()
	v, err := vault.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func put(t testing.TB, v *vault.Vault, id, s string, version uint64) {
	t.Helper()
	if err := v.Put(t.Context(), id, vault.NewSecret([]byte(s)), version); err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func wantGet(t *testing.T, v *vault.Vault, id, want string, version uint64) {
	t.Helper()
	s, got, err := v.Get(t.Context(), id)
	if err != nil {
		t.Errorf("get %s: %v", id, err)
	} else if string(s.Expose()) != want || got != version {
		t.Errorf("get %s: got %q version %d, want %q version %d", id, s.Expose(), got, want, version)
	}
}

func wantRefused(t *testing.T, what string, v *vault.Vault, id string) {
	t.Helper()
	s, _, err := v.Get(t.Context(), id)
	wantErr(t, what, err, vault.ErrTampered)
	if len(s.Expose()) != 0 {
		t.Errorf("%s: a secret came with the error", what)
	}
}

func TestLife(t *testing.T) {
	v, r, c := newVault(t)
	ctx := t.Context()
	if _, _, err := v.Get(ctx, "a/b"); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("get before put: %v", err)
	}
	put(t, v, "a/b", "one", 1)
	wantGet(t, v, "a/b", "one", 1)
	wantErr(t, "create twice", v.Put(ctx, "a/b", vault.Secret{}, 1), vault.ErrConflict)
	wantErr(t, "skip a version", v.Put(ctx, "a/b", vault.Secret{}, 3), vault.ErrConflict)
	put(t, v, "a/b", "two", 2)
	put(t, v, "a/c", "", 1) // an empty secret is a secret
	wantGet(t, v, "a/c", "", 1)
	other := reopen(t, c)
	wantGet(t, other, "a/b", "two", 2)
	put(t, other, "a/b", "three", 3)
	wantGet(t, v, "a/b", "three", 3)

	ids, err := v.List(ctx, "")
	if err != nil || !slices.Equal(ids, []string{"a/b", "a/c"}) {
		t.Errorf("list: got %q, %v", ids, err)
	}
	ids, err = v.List(ctx, "a/c")
	if err != nil || !slices.Equal(ids, []string{"a/c"}) {
		t.Errorf("list prefix: got %q, %v", ids, err)
	}
	wantErr(t, "delete old version", v.Delete(ctx, "a/b", 2), vault.ErrConflict)
	if err := v.Delete(ctx, "a/b", 3); err != nil {
		t.Error(err)
	}
	wantErr(t, "delete again", v.Delete(ctx, "a/b", 3), vault.ErrNotFound)
	put(t, v, "a/b", "again", 1)
	wantGet(t, v, "a/b", "again", 1)

	for id, rec := range r.m {
		for _, s := range []string{"two", "three", "again"} {
			if bytes.Contains(rec.Sealed, []byte(s)) {
				t.Errorf("row %s has %q in clear", id, s)
			}
		}
	}
}

func TestOpen(t *testing.T) {
	ctx := t.Context()
	r := newRows()
	c := vault.Config{Backend: r, Keeper: newKeeper(t)}
	_, err := vault.Open(ctx, c)
	wantErr(t, "before init", err, vault.ErrNotFound)
	if err := vault.Init(ctx, c); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "init twice", vault.Init(ctx, c), vault.ErrExists)
	_, err = vault.Open(ctx, vault.Config{Backend: r, Keeper: newKeeper(t)})
	wantErr(t, "wrong key", err, vault.ErrWrongKey)
	_, err = vault.Open(ctx, vault.Config{Backend: r})
	wantErr(t, "no keeper", err, vault.ErrInvalid)

	good := r.m["vault/keyset"]
	for name, change := range map[string]func(*vault.Record){
		"version": func(rec *vault.Record) { rec.Version = 2 },
		"id":      func(rec *vault.Record) { rec.ID = "a" },
		"huge":    func(rec *vault.Record) { rec.Sealed = make([]byte, 1<<20) },
	} {
		rec := good
		change(&rec)
		r.m["vault/keyset"] = rec
		_, err := vault.Open(ctx, c)
		wantErr(t, name, err, vault.ErrTampered)
	}
	for i := range len(good.Sealed) * 8 {
		rec := good
		rec.Sealed = flip(good.Sealed, i)
		r.m["vault/keyset"] = rec
		if _, err := vault.Open(ctx, c); err == nil {
			t.Fatalf("keyset with bit %d flipped was opened", i)
		}
	}
}

func flip(b []byte, bit int) []byte {
	b = bytes.Clone(b)
	b[bit/8] ^= 1 << (bit % 8)
	return b
}

// Every bit of 200 records, in a process that knows them and in one that does
// not.
func TestEveryBit(t *testing.T) {
	_, r, c := newVault(t)
	fresh := reopen(t, c) // never sees a good read of the rows
	v := reopen(t, c)
	refused := 0
	for n := range 200 {
		id := fmt.Sprintf("target/db%03d/root", n)
		put(t, v, id, strings.Repeat("x", n%50), 1)
		good := r.m[id]
		try := func(rec vault.Record) {
			t.Helper()
			r.m[id] = rec
			wantRefused(t, "known row", v, id)
			wantRefused(t, "unknown row", fresh, id)
			refused++
		}
		for i := range len(good.Sealed) * 8 {
			rec := good
			rec.Sealed = flip(good.Sealed, i)
			try(rec)
		}
		for i := range 64 {
			rec := good
			rec.Version ^= 1 << i
			try(rec)
		}
		for i := range len(id) * 8 {
			rec := good
			rec.ID = string(flip([]byte(id), i))
			try(rec)
		}
		for i := range len(good.Sealed) {
			rec := good
			rec.Sealed = good.Sealed[:i]
			try(rec)
		}
		rec := good
		rec.Sealed = append(bytes.Clone(good.Sealed), 0)
		try(rec)
		r.m[id] = good
		wantGet(t, v, id, strings.Repeat("x", n%50), 1)
	}
	t.Logf("%d changed records refused", refused)
}

func TestRowsSwapped(t *testing.T) {
	v, r, c := newVault(t)
	put(t, v, "a", "of a", 1)
	put(t, v, "b", "of b", 1)
	a, b := r.m["a"], r.m["b"]
	for name, swap := range map[string]func(){
		"whole rows":   func() { r.m["a"], r.m["b"] = b, a },
		"sealed bytes": func() { r.m["a"], r.m["b"] = vault.Record{"a", 1, b.Sealed}, vault.Record{"b", 1, a.Sealed} },
		"the keyset":   func() { r.m["a"], r.m["b"] = r.m["vault/keyset"], r.m["vault/keyset"] },
	} {
		swap()
		for _, who := range []*vault.Vault{v, reopen(t, c)} {
			wantRefused(t, name, who, "a")
			wantRefused(t, name, who, "b")
		}
	}
	// From another vault, sealed under the same id.
	foreign, fr, _ := newVault(t)
	put(t, foreign, "a", "foreign", 1)
	r.m["a"] = fr.m["a"]
	wantRefused(t, "foreign row", reopen(t, c), "a")
}

func TestRolledBack(t *testing.T) {
	v, r, c := newVault(t)
	ctx := t.Context()
	put(t, v, "a", "one", 1)
	one := r.m["a"]
	put(t, v, "a", "two", 2)
	two := r.m["a"]
	reader := reopen(t, c)
	wantGet(t, reader, "a", "two", 2)

	r.m["a"] = one
	wantRefused(t, "older row, writer", v, "a")
	wantRefused(t, "older row, reader", reader, "a")
	relabelled := one
	relabelled.Version = 2
	r.m["a"] = relabelled
	wantRefused(t, "older row under the newer version", v, "a")
	wantRefused(t, "the same, unknown", reopen(t, c), "a")

	// Writing on top of the old row does not hide the rollback.
	r.m["a"] = one
	wantErr(t, "write over rolled-back row", v.Put(ctx, "a", vault.Secret{}, 2), vault.ErrConflict)

	// The same version written twice: a row of another history.
	r.m["a"] = one
	put(t, reopen(t, c), "a", "other two", 2)
	wantRefused(t, "replaced row", v, "a")

	r.m["a"] = two
	wantGet(t, v, "a", "two", 2)
	if err := v.Delete(ctx, "a", 2); err != nil {
		t.Fatal(err)
	}
	r.m["a"] = two
	wantRefused(t, "deleted row is back", v, "a")
	delete(r.m, "a")
	put(t, v, "a", "new", 1)
	r.m["a"] = one
	wantRefused(t, "row of the former life", v, "a")
	r.m["a"] = vault.Record{ID: "a", Version: 1}
	if err := v.Delete(ctx, "a", 1); err != nil {
		t.Fatal(err)
	}
	r.m["a"] = two
	wantRefused(t, "newer row of the former life after the second was deleted", v, "a")
}

// A Put that fails may have been applied. Neither case may lock the record out.
func TestPutFails(t *testing.T) {
	boom := errors.New("connection lost")
	for _, applied := range []bool{false, true} {
		t.Run(fmt.Sprintf("applied=%v", applied), func(t *testing.T) {
			v, r, _ := newVault(t)
			ctx := t.Context()
			put(t, v, "a", "one", 1)
			r.fail, r.done = boom, applied
			wantErr(t, "update", v.Put(ctx, "a", vault.NewSecret([]byte("two")), 2), boom)
			want, version := "one", uint64(1)
			if applied {
				want, version = "two", 2
			}
			wantGet(t, v, "a", want, version)
			put(t, v, "a", "next", version+1)

			if err := v.Delete(ctx, "a", version+1); err != nil {
				t.Fatal(err)
			}
			r.fail, r.done = boom, applied
			wantErr(t, "create again", v.Put(ctx, "a", vault.NewSecret([]byte("new")), 1), boom)
			if applied {
				wantGet(t, v, "a", "new", 1)
			} else {
				_, _, err := v.Get(ctx, "a")
				wantErr(t, "not created", err, vault.ErrNotFound)
				put(t, v, "a", "new", 1)
			}
		})
	}
}

// Readers and writers of one id at once: nothing is taken for a rollback.
func TestConcurrent(t *testing.T) {
	v, _, c := newVault(t)
	other := reopen(t, c)
	put(t, v, "a", "0", 1)
	var wg sync.WaitGroup
	for _, w := range []*vault.Vault{v, other} {
		for range 2 {
			wg.Go(func() {
				for range 200 {
					_, n, err := w.Get(t.Context(), "a")
					if err != nil {
						t.Error(err)
						return
					}
					err = w.Put(t.Context(), "a", vault.NewSecret(nil), n+1)
					if err != nil && !errors.Is(err, vault.ErrConflict) {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if _, n, err := v.Get(t.Context(), "a"); err != nil || n < 201 {
		t.Errorf("ended at version %d, %v", n, err)
	}
}

func TestSeal(t *testing.T) {
	v, r, _ := newVault(t)
	s := vault.NewSecret([]byte("data key"))
	sealed, err := v.Seal("recording/1", 7, s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Unseal("recording/1", 7, sealed)
	if err != nil || string(got.Expose()) != "data key" {
		t.Errorf("got %q, %v", got.Expose(), err)
	}
	for i := range len(sealed) * 8 {
		_, err := v.Unseal("recording/1", 7, flip(sealed, i))
		wantErr(t, fmt.Sprint("bit ", i), err, vault.ErrTampered)
	}
	_, err = v.Unseal("recording/2", 7, sealed)
	wantErr(t, "other id", err, vault.ErrTampered)
	_, err = v.Unseal("recording/1", 8, sealed)
	wantErr(t, "other version", err, vault.ErrTampered)
	_, err = v.Unseal("recording/1", 0, sealed)
	wantErr(t, "no version", err, vault.ErrTampered)
	_, err = v.Seal("recording/1", 0, s)
	wantErr(t, "seal without version", err, vault.ErrInvalid)

	// What Seal made is no record, and a record is not what Seal made.
	r.m["recording/1"] = vault.Record{ID: "recording/1", Version: 7, Sealed: sealed}
	wantRefused(t, "sealed bytes as a row", v, "recording/1")
	put(t, v, "recording/3", "x", 1)
	_, err = v.Unseal("recording/3", 1, r.m["recording/3"].Sealed)
	wantErr(t, "row as sealed bytes", err, vault.ErrTampered)
}

func TestLimits(t *testing.T) {
	v, _, _ := newVault(t)
	put(t, v, "most", strings.Repeat("x", vault.MaxSecret), 1)
	wantGet(t, v, "most", strings.Repeat("x", vault.MaxSecret), 1)
	err := v.Put(t.Context(), "more", vault.NewSecret(make([]byte, vault.MaxSecret+1)), 1)
	wantErr(t, "one byte more", err, vault.ErrInvalid)
	wantErr(t, "version 0", v.Put(t.Context(), "zero", vault.Secret{}, 0), vault.ErrInvalid)
}

func TestIDs(t *testing.T) {
	v, r, _ := newVault(t)
	long := strings.Repeat("a", 128)
	for _, id := range []string{"a", "0", "target/db01/root", "user/9f.x_y-z/totp", "a@b", long} {
		if err := v.Put(t.Context(), id, vault.Secret{}, 1); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	bad := []string{"", "/", "/a", "a/", "a//b", "A", "é", "a b", "a\n", "a\x00", ".", "..", "a/../b", "-a", "a/.b",
		"a:b", "a%", "a\\b", long + "a", "vault/keyset"}
	for _, id := range bad {
		_, err := v.Seal(id, 1, vault.Secret{})
		_, err2 := v.Unseal(id, 1, nil)
		_, _, err3 := v.Get(t.Context(), id)
		for _, err := range []error{v.Put(t.Context(), id, vault.Secret{}, 1), v.Delete(t.Context(), id, 1), err, err2, err3} {
			wantErr(t, fmt.Sprintf("%q", id), err, vault.ErrInvalid)
		}
	}
	r.m["Bad\n"] = vault.Record{}
	_, err := v.List(t.Context(), "")
	wantErr(t, "list a bad id", err, vault.ErrTampered)
}

func TestMemory(t *testing.T) {
	ctx := t.Context()
	m := vault.NewMemory()
	b := []byte("sealed")
	if err := m.Put(ctx, vault.Record{ID: "a", Version: 1, Sealed: b}); err != nil {
		t.Fatal(err)
	}
	b[0] = 'X'
	rec, err := m.Get(ctx, "a")
	if err != nil || string(rec.Sealed) != "sealed" {
		t.Errorf("got %q, %v", rec.Sealed, err)
	}
	rec.Sealed[0] = 'X'
	if rec, _ := m.Get(ctx, "a"); string(rec.Sealed) != "sealed" {
		t.Errorf("the backend shares its bytes: %q", rec.Sealed)
	}
	for _, version := range []uint64{0, 1, 3} {
		wantErr(t, fmt.Sprint("put version ", version), m.Put(ctx, vault.Record{ID: "a", Version: version}), vault.ErrConflict)
	}
	wantErr(t, "create at 0", m.Put(ctx, vault.Record{ID: "b"}), vault.ErrConflict)
	wantErr(t, "create at 2", m.Put(ctx, vault.Record{ID: "b", Version: 2}), vault.ErrConflict)
	wantErr(t, "delete wrong version", m.Delete(ctx, "a", 2), vault.ErrConflict)
	if err := m.Put(ctx, vault.Record{ID: "a", Version: 2}); err != nil {
		t.Error(err)
	}
	if ids, err := m.List(ctx, "a"); err != nil || !slices.Equal(ids, []string{"a"}) {
		t.Errorf("list: %q, %v", ids, err)
	}
	if err := m.Delete(ctx, "a", 2); err != nil {
		t.Error(err)
	}
	wantErr(t, "delete nothing", m.Delete(ctx, "a", 2), vault.ErrNotFound)
	_, err = m.Get(ctx, "a")
	wantErr(t, "get nothing", err, vault.ErrNotFound)
}

// Whatever a backend hands out, Get returns what was put or an error.
func FuzzGet(f *testing.F) {
	v, r, _ := newVault(f)
	put(f, v, "a/b", "the secret", 1)
	good := r.m["a/b"]
	f.Add("a/b", uint64(1), good.Sealed)
	f.Add("a/b", uint64(2), good.Sealed)
	f.Add("a/c", uint64(1), good.Sealed)
	f.Add("a/b", uint64(1), []byte{})
	f.Fuzz(func(t *testing.T, id string, version uint64, sealed []byte) {
		r.m["a/b"] = vault.Record{ID: id, Version: version, Sealed: sealed}
		s, got, err := v.Get(t.Context(), "a/b")
		switch {
		case err != nil && !errors.Is(err, vault.ErrTampered):
			t.Errorf("got error %v", err)
		case err == nil && (string(s.Expose()) != "the secret" || got != 1 || id != "a/b" || !bytes.Equal(sealed, good.Sealed)):
			t.Errorf("got %q version %d", s.Expose(), got)
		}
	})
}
