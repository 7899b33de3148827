package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/drawbolt/drawbolt/vault"
)

// A new version seals what is new, those before open what they sealed, and one is
// destroyed when it is no longer of use.
func TestRotateDataKey(t *testing.T) {
	now := time.Now()
	r := newRows()
	c := vault.Config{Backend: r, Keeper: newKeeper(t), Now: func() time.Time { return now }}
	if err := vault.Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	v, other := reopen(t, c), reopen(t, c)
	ctx := t.Context()
	put(t, v, "a", "of the first", 1)
	lent, err := v.Seal("lent", 5, vault.NewSecret([]byte("lent")))
	if err != nil {
		t.Fatal(err)
	}
	key, err := v.Rotate(ctx)
	if err != nil || key.Version != 2 {
		t.Fatal(key, err)
	}
	put(t, v, "b", "of the second", 1)
	if v.Current(r.m["a"].Sealed) || !v.Current(r.m["b"].Sealed) {
		t.Error("the wrong version seals")
	}
	now = now.Add(2 * time.Second)
	wantGet(t, other, "b", "of the second", 1) // found by looking
	wantGet(t, other, "a", "of the first", 1)
	if keys := other.Keys(); len(keys) != 2 || keys[0].Retired.IsZero() || !keys[1].Retired.IsZero() {
		t.Errorf("keys %+v", keys)
	}
	wantErr(t, "destroy the one that seals", v.Destroy(ctx, 2), vault.ErrInvalid)
	wantErr(t, "destroy what was retired now", v.Destroy(ctx, 1), vault.ErrInvalid)
	for range 2 {
		if _, err := other.Reseal(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	wantGet(t, other, "a", "of the first", 2)
	wantGet(t, v, "a", "of the first", 2)
	renewed, err := v.Renew("", 5, 6, lent)
	if err != nil || !v.Current(renewed) {
		t.Fatal(err)
	}
	now = now.Add(vault.SealWithin + time.Second)
	if err := v.Destroy(ctx, 1); err != nil {
		t.Fatal(err)
	}
	wantGet(t, reopen(t, c), "a", "of the first", 2)
	if s, err := v.Unseal("lent", 6, renewed); err != nil || string(s.Expose()) != "lent" {
		t.Error(err)
	}
	_, err = v.Unseal("lent", 5, lent)
	wantErr(t, "what a destroyed version sealed", err, vault.ErrTampered)

	// Who has not looked for a while may know an older version only.
	if err := other.Refresh(ctx, nil); err != nil {
		t.Fatal(err)
	}
	now = now.Add(vault.SealWithin + time.Second)
	wantErr(t, "seal without having looked", other.Put(ctx, "c", vault.Secret{}, 1), vault.ErrStale)
	wantGet(t, other, "a", "of the first", 2)
	if err := other.Refresh(ctx, nil); err != nil {
		t.Fatal(err)
	}
	put(t, other, "c", "again", 1)
	for i := len(v.Keys()); i < vault.MaxKeys; i++ {
		if _, err := v.Rotate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	_, err = v.Rotate(ctx)
	wantErr(t, "more versions than may be", err, vault.ErrInvalid)
}

// A keyset from before there were versions is read, and is the first of them.
func TestKeysetWithoutVersions(t *testing.T) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&b)); err != nil {
		t.Fatal(err)
	}
	r, k := newRows(), newKeeper(t)
	wrapped, err := k.Wrap(t.Context(), vault.NewSecret(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	r.m["vault/keyset"] = vault.Record{ID: "vault/keyset", Version: 1, Sealed: wrapped}
	c := vault.Config{Backend: r, Keeper: k}
	v := reopen(t, c)
	put(t, v, "a", "old", 1)
	if _, err := v.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	v = reopen(t, c)
	wantGet(t, v, "a", "old", 1)
	if keys := v.Keys(); len(keys) != 2 || keys[1].Version != 2 {
		t.Errorf("keys %+v", keys)
	}
}

// faulty is a keeper that fails as it is told.
type faulty struct {
	vault.Keeper
	wrap, unwrap error
	other        bool // wraps something else
}

func (k faulty) Wrap(ctx context.Context, s vault.Secret) ([]byte, error) {
	if k.other {
		s = vault.NewSecret([]byte("{}"))
	}
	b, err := k.Keeper.Wrap(ctx, s)
	return b, errors.Join(err, k.wrap)
}

func (k faulty) Unwrap(ctx context.Context, b []byte) (vault.Secret, error) {
	s, err := k.Keeper.Unwrap(ctx, b)
	return s, errors.Join(err, k.unwrap)
}

// What fails at any step leaves a vault that one of the two keepers opens; records are
// not touched.
func TestRekey(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name      string
		wrap      error
		fresh     error
		other     bool
		put       error
		applied   bool
		wantOther bool // the new keeper opens it
	}{
		{name: "done", wantOther: true},
		{name: "not wrapped", wrap: broken},
		{name: "not proved", fresh: broken},
		{name: "another keyset wrapped", other: true},
		{name: "not stored", put: broken},
		{name: "stored, but not known to be", put: broken, applied: true, wantOther: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			v, r, config := newVault(t)
			put(t, v, "a", "stays", 1)
			was := r.m["a"]
			next := newKeeper(t)
			r.fail, r.done = c.put, c.applied
			err := v.Rekey(ctx, faulty{next, c.wrap, nil, c.other}, faulty{next, nil, c.fresh, false})
			if (err == nil) != (c.wantOther && !c.applied) {
				t.Fatal(err)
			}
			old, oldErr := vault.Open(ctx, config)
			config.Keeper = next
			young, youngErr := vault.Open(ctx, config)
			opens, refused := old, youngErr
			if c.wantOther {
				opens, refused = young, oldErr
			}
			wantErr(t, "the other keeper", refused, vault.ErrWrongKey)
			wantGet(t, opens, "a", "stays", 1)
			if !bytes.Equal(was.Sealed, r.m["a"].Sealed) {
				t.Error("a record was changed")
			}
			wantGet(t, v, "a", "stays", 1)
			if !c.wantOther {
				return
			}
			// The vault that was open goes on, and so does another server once it is
			// given the new keeper.
			if err := v.Refresh(ctx, next); err != nil {
				t.Error(err)
			}
			if _, err := opens.Rotate(ctx); err != nil {
				t.Fatal(err)
			}
			if err := v.Refresh(ctx, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRekeyedElsewhere(t *testing.T) {
	v, _, c := newVault(t)
	ctx := t.Context()
	put(t, v, "a", "stays", 1)
	next := newKeeper(t)
	there := reopen(t, c)
	if err := there.Rekey(ctx, next, next); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "without the keeper", v.Refresh(ctx, nil), vault.ErrStale)
	if !v.Stale() {
		t.Error("it does not know")
	}
	wantGet(t, v, "a", "stays", 1)
	if err := v.Refresh(ctx, next); err != nil || v.Stale() {
		t.Error(err)
	}
}

// A version that a process has seen is the oldest that is taken after its restart.
func TestMarks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "marks")
	_, r, c := newVault(t)
	var told []vault.Tampering
	c.Tampered = func(x vault.Tampering) { told = append(told, x) }
	start := func() (*vault.Vault, func()) {
		t.Helper()
		var err error
		if c.Marks, err = vault.OpenMarks(path); err != nil {
			t.Fatal(err)
		}
		m := c.Marks
		return reopen(t, c), func() { m.Close() }
	}
	v, stop := start()
	if !c.Marks.Fresh() {
		t.Error("nothing is known, and it does not say so")
	}
	put(t, v, "a", "one", 1)
	before := r.m["a"]
	put(t, v, "a", "two", 2)
	put(t, v, "b", "gone", 1)
	gone := r.m["b"]
	if err := v.Delete(t.Context(), "b", 1); err != nil {
		t.Fatal(err)
	}
	old, _ := v.Seal("lent", 7, vault.NewSecret([]byte("old")))
	v.Stored("lent", 7)
	young, _ := v.Seal("lent", 8, vault.NewSecret([]byte("new")))
	v.Stored("lent", 8)
	keyset := r.m["vault/keyset"]
	if _, err := v.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := r.m["a"]
	stop()

	v, stop = start()
	if c.Marks.Fresh() {
		t.Error("it says that nothing is known")
	}
	r.m["a"], r.m["b"] = before, gone
	for range 3 {
		wantRefused(t, "rolled back while it was away", v, "a")
		wantRefused(t, "deleted and back", v, "b")
		_, err := v.Unseal("lent", 7, old)
		wantErr(t, "lent, rolled back", err, vault.ErrTampered)
	}
	other, _ := v.Seal("elsewhere", 9, vault.NewSecret([]byte("x")))
	_, err := v.Unseal("lent", 9, other)
	wantErr(t, "another one in its place", err, vault.ErrTampered)
	_, err = v.Unseal("never-stored", 9, other)
	wantErr(t, "sealed for something else", err, vault.ErrOther)
	if len(told) != 4 || told[0].ID != "a" || told[0].Version != 1 {
		t.Errorf("told %+v, want each once", told)
	}
	if s, err := v.Unseal("lent", 8, young); err != nil || string(s.Expose()) != "new" {
		t.Error(err)
	}
	r.m["a"] = now
	wantGet(t, v, "a", "two", 2)
	delete(r.m, "b")
	put(t, v, "b", "a second life", 1)
	stop()
	v, stop = start()
	wantGet(t, v, "b", "a second life", 1)
	stop()

	rotated := r.m["vault/keyset"]
	r.m["vault/keyset"] = keyset
	if c.Marks, err = vault.OpenMarks(path); err != nil {
		t.Fatal(err)
	}
	_, err = vault.Open(t.Context(), c)
	wantErr(t, "the keyset rolled back", err, vault.ErrTampered)
	c.Marks.Close()
	rotated.Version = 9
	r.m["vault/keyset"] = rotated
	_, err = vault.Open(t.Context(), vault.Config{Backend: r, Keeper: c.Keeper})
	wantErr(t, "the keyset with another version", err, vault.ErrTampered)
}

func TestMarksFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "marks")
	open := func() *vault.Marks {
		t.Helper()
		m, err := vault.OpenMarks(path)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	_, _, c := newVault(t)
	fill := func(m *vault.Marks, to uint64) {
		c.Marks = m
		v := reopen(t, c)
		for i := range to {
			v.Stored(fmt.Sprint("r", i%20), i+2)
		}
	}
	m := open()
	beside := open()
	fill(beside, 5)
	if b, err := os.ReadFile(path); err != nil || len(b) > 200 {
		t.Errorf("who does not hold the file wrote to it: %d bytes, %v", len(b), err)
	}
	fill(m, 1100)
	if err := errors.Join(m.Err(), m.Close()); err != nil {
		t.Fatal(err)
	}
	grown, _ := os.Stat(path)
	open().Close() // and writes what counts
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) > grown.Size()/4 {
		t.Fatalf("it has %d bytes, and had %d; %v", len(b), grown.Size(), err)
	}
	// Whatever a power cut leaves at the end is no damage.
	for cut := range 32 {
		if err := os.WriteFile(path, b[:len(b)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		open().Close()
	}
	torn := bytes.Clone(b)
	torn[len(torn)-1] ^= 1
	os.WriteFile(path, torn, 0o600)
	open().Close()
	for _, at := range []int{0, 15, 16, 40, len(b) / 2} {
		bad := bytes.Clone(b)
		bad[at] ^= 1
		os.WriteFile(path, bad, 0o600)
		if m, err := vault.OpenMarks(path); err == nil {
			m.Close()
			t.Errorf("byte %d changed, and opened", at)
		}
	}
	os.WriteFile(path, b[:5], 0o600)
	if m := open(); !m.Fresh() {
		t.Error("a file that was not finished is not taken as new")
	}
}

// Reads go on while the key is rotated and everything is sealed anew.
func TestRotateUnderLoad(t *testing.T) {
	v, r, c := newVault(t)
	ctx := t.Context()
	const records = 50
	for i := range records {
		put(t, v, fmt.Sprint("r", i), fmt.Sprint("secret ", i), 1)
	}
	var reads, failed atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	other := reopen(t, c) // another process, which learns of it by what it reads
	for n := range 4 {
		reader := v
		if n%2 == 1 {
			reader = other
		}
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				s, _, err := reader.Get(ctx, fmt.Sprint("r", i%records))
				if reads.Add(1); err != nil || string(s.Expose()) != fmt.Sprint("secret ", i%records) {
					failed.Add(1)
					t.Log(err)
				}
			}
		})
	}
	for range 3 {
		if _, err := v.Rotate(ctx); err != nil {
			t.Error(err)
		}
		for i := range records {
			if _, err := v.Reseal(ctx, fmt.Sprint("r", i)); err != nil {
				t.Error(err)
			}
		}
		for was := reads.Load(); reads.Load() < was+500; {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(150 * time.Millisecond) // another process looks ten times a second
	}
	close(done)
	wg.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d reads failed", failed.Load(), reads.Load())
	}
	for i := range records {
		if !v.Current(r.m[fmt.Sprint("r", i)].Sealed) {
			t.Errorf("r%d is sealed with an older version", i)
		}
	}
	t.Logf("%d reads", reads.Load())
}
