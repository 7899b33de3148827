package vault

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	// MaxKeys is how many versions of the data key there may be at once. More are
	// made when those that nothing uses have been destroyed.
	MaxKeys = 16

	// SealWithin is for how long after a [Vault.Refresh] a vault seals. Whoever
	// destroys a version waits longer than that, so that nothing is sealed under it
	// by a process that does not know.
	SealWithin = 5 * time.Minute

	// prefixSize is what stands in front of everything that is sealed: a byte 1 and
	// the number of the key (Tink's output prefix).
	prefixSize = 5
)

// A Key is one version of the key under which records are sealed.
type Key struct {
	Version int       `json:"version"` // 1 is the first
	ID      uint32    `json:"id"`      // stands in what it sealed
	Made    time.Time `json:"made,omitzero"`
	Retired time.Time `json:"retired,omitzero"` // zero for the one that seals
}

// Prefix is what everything begins with that this key has sealed.
func (k Key) Prefix() []byte {
	return binary.BigEndian.AppendUint32([]byte{1}, k.ID)
}

// keyring is the opened keyset with what opened it. It does not change; the next one
// takes its place.
type keyring struct {
	row    uint64 // version of the keyset's record
	keeper Keeper
	handle *keyset.Handle
	aead   tink.AEAD
	keys   []Key // by version
}

// The clear form of a keyset. Before there were versions it was Tink's binary form
// alone, which cannot begin with a brace.
type clearKeyset struct {
	Row    uint64 `json:"row"` // version of the record, which the backend could claim otherwise
	Keys   []Key  `json:"keys"`
	Keyset []byte `json:"keyset"` // Tink's binary form
}

func (r *keyring) current() Key { return r.keys[len(r.keys)-1] }

func (r *keyring) knows(sealed []byte) bool {
	return len(sealed) < prefixSize || slices.ContainsFunc(r.keys, func(k Key) bool { return bytes.HasPrefix(sealed, k.Prefix()) })
}

func newKeyset(now time.Time) (*keyset.Handle, []Key, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, nil, fmt.Errorf("create vault keyset: %w", err)
	}
	return h, []Key{{Version: 1, ID: h.KeysetInfo().GetPrimaryKeyId(), Made: now}}, nil
}

func encodeKeyset(row uint64, h *keyset.Handle, keys []Key) (Secret, error) {
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&b)); err != nil {
		return Secret{}, fmt.Errorf("encode vault keyset: %w", err)
	}
	defer clear(b.Bytes())
	text, err := json.Marshal(clearKeyset{row, keys, b.Bytes()})
	if err != nil {
		return Secret{}, fmt.Errorf("encode vault keyset: %w", err)
	}
	defer clear(text)
	return NewSecret(text), nil
}

// decodeKeyset opens what encodeKeyset made, and what there was before it.
func decodeKeyset(s Secret) (*keyring, error) {
	b := s.Expose()
	var c clearKeyset
	if versioned := bytes.HasPrefix(b, []byte("{")); !versioned {
		c.Row, c.Keyset = 1, b
	} else if json.Unmarshal(b, &c) != nil { // the error would quote it
		return nil, errors.New("decode vault keyset: it is none")
	} else {
		defer clear(c.Keyset)
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(c.Keyset)))
	if err != nil {
		return nil, fmt.Errorf("decode vault keyset: %w", err)
	}
	info := h.KeysetInfo()
	if c.Keys == nil {
		c.Keys = []Key{{Version: 1, ID: info.GetPrimaryKeyId()}}
	}
	r := &keyring{row: c.Row, handle: h, keys: c.Keys}
	if len(r.keys) != len(info.GetKeyInfo()) || len(r.keys) > MaxKeys || r.current().ID != info.GetPrimaryKeyId() {
		return nil, errors.New("decode vault keyset: its list is not of its keys")
	}
	if r.aead, err = aead.New(h); err != nil {
		return nil, fmt.Errorf("use vault keyset: %w", err)
	}
	return r, nil
}

func readKeyset(ctx context.Context, b Backend) (Record, error) {
	rec, err := b.Get(ctx, keysetID)
	if err != nil {
		return rec, fmt.Errorf("read vault keyset: %w", err)
	}
	if rec.ID != keysetID || rec.Version == 0 || len(rec.Sealed) > maxSealed {
		return rec, fmt.Errorf("read vault keyset: %w", ErrTampered)
	}
	return rec, nil
}

func unwrapKeyset(ctx context.Context, rec Record, k Keeper) (*keyring, error) {
	s, err := k.Unwrap(ctx, rec.Sealed)
	if err != nil {
		return nil, fmt.Errorf("unwrap vault keyset: %w", err)
	}
	defer s.Wipe()
	r, err := decodeKeyset(s)
	if err != nil {
		return nil, err
	}
	if r.row != rec.Version {
		return nil, fmt.Errorf("read vault keyset: version %d was stored as %d: %w", r.row, rec.Version, ErrTampered)
	}
	r.keeper = k
	return r, nil
}

// Wrapped returns the keyset of a backend as a keeper has wrapped it, or
// [ErrNotFound] when there was no [Init].
func Wrapped(ctx context.Context, b Backend) ([]byte, error) {
	rec, err := readKeyset(ctx, b)
	return rec.Sealed, err
}

// Keys returns the versions of the data key, the one that seals last.
func (v *Vault) Keys() []Key { return slices.Clone(v.ring.Load().keys) }

// Rotate makes a new version of the data key, by which everything is sealed from now
// on. What the versions before have sealed stays readable. The new keyset is in force
// only when it was opened again; a crash leaves the one before or the new one. Another
// process that does the same gives [ErrConflict].
func (v *Vault) Rotate(ctx context.Context) (Key, error) {
	var made Key
	err := v.replace(ctx, func(r *keyring) (*keyset.Handle, []Key, Keeper, error) {
		if len(r.keys) >= MaxKeys {
			return nil, nil, nil, fmt.Errorf("%w: the data key has %d versions, and those that are in use have to be destroyed first", ErrInvalid, MaxKeys)
		}
		m := keyset.NewManagerFromHandle(r.handle)
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			return nil, nil, nil, err
		}
		if err := m.SetPrimary(id); err != nil {
			return nil, nil, nil, err
		}
		h, err := m.Handle()
		now := v.now().UTC()
		keys := slices.Clone(r.keys)
		keys[len(keys)-1].Retired = now
		made = Key{Version: r.current().Version + 1, ID: id, Made: now}
		return h, append(keys, made), r.keeper, err
	})
	return made, err
}

// Rekey wraps the keyset with another keeper, from which on the one before opens
// nothing any more. The records stay as they are. What the new keeper wrapped is put
// in the place only after it was opened again by fresh, which is the new keeper as
// somebody else would open it: of a file that was read, of shares that were given.
func (v *Vault) Rekey(ctx context.Context, to, fresh Keeper) error {
	return v.replace(ctx, func(r *keyring) (*keyset.Handle, []Key, Keeper, error) {
		return r.handle, r.keys, proved{to, fresh}, nil
	})
}

// proved wraps with one keeper and unwraps with the other.
type proved struct {
	Keeper
	fresh Keeper
}

func (p proved) Unwrap(ctx context.Context, wrapped []byte) (Secret, error) {
	return p.fresh.Unwrap(ctx, wrapped)
}

// Destroy removes a version of the data key that does not seal any more. What it has
// sealed and was not sealed anew cannot be read again: the caller knows that there is
// nothing, in no process, and that the version was retired for longer than
// [SealWithin].
func (v *Vault) Destroy(ctx context.Context, version int) error {
	return v.replace(ctx, func(r *keyring) (*keyset.Handle, []Key, Keeper, error) {
		i := slices.IndexFunc(r.keys, func(k Key) bool { return k.Version == version })
		if i < 0 || i == len(r.keys)-1 {
			return nil, nil, nil, fmt.Errorf("%w: version %d of the data key is none that was retired", ErrInvalid, version)
		}
		if age := v.now().Sub(r.keys[i].Retired); age <= SealWithin {
			return nil, nil, nil, fmt.Errorf("%w: version %d of the data key was retired only %s ago", ErrInvalid, version, age.Round(time.Second))
		}
		m := keyset.NewManagerFromHandle(r.handle)
		if err := m.Delete(r.keys[i].ID); err != nil {
			return nil, nil, nil, err
		}
		h, err := m.Handle()
		return h, slices.Delete(slices.Clone(r.keys), i, i+1), r.keeper, err
	})
}

// replace puts another keyset in the place of the newest one: made, wrapped, opened
// again and compared, then swapped in the backend, and then here.
func (v *Vault) replace(ctx context.Context, change func(*keyring) (*keyset.Handle, []Key, Keeper, error)) error {
	v.ringMu.Lock()
	defer v.ringMu.Unlock()
	if err := v.refresh(ctx, nil); err != nil {
		return err
	}
	was := v.ring.Load()
	h, keys, k, err := change(was)
	if err != nil {
		return fmt.Errorf("change vault keyset: %w", err)
	}
	s, err := encodeKeyset(was.row+1, h, keys)
	if err != nil {
		return err
	}
	defer s.Wipe()
	wrapped, err := k.Wrap(ctx, s)
	if err != nil {
		return fmt.Errorf("wrap vault keyset: %w", err)
	}
	again, err := k.Unwrap(ctx, wrapped)
	if err != nil {
		return fmt.Errorf("open the new vault keyset again: %w", err)
	}
	defer again.Wipe()
	if subtle.ConstantTimeCompare(again.Expose(), s.Expose()) != 1 {
		return errors.New("open the new vault keyset again: it is another one")
	}
	ring, err := decodeKeyset(again)
	if err != nil {
		return err
	}
	ring.keeper = k
	if p, ok := k.(proved); ok {
		ring.keeper = p.fresh
	}
	if err := v.backend.Put(ctx, Record{ID: keysetID, Version: ring.row, Sealed: wrapped}); err != nil {
		return fmt.Errorf("store vault keyset: %w", err)
	}
	v.marks.raise(keysetMark(), ring.row, true)
	v.ring.Store(ring)
	v.seen()
	return nil
}

// Refresh looks for a keyset that another process has put in the place of this one.
// Whoever calls it once calls it at least each minute from then on: a vault that has
// not looked for [SealWithin] seals nothing, so that a version can be destroyed.
// [ErrStale]: the newer one is wrapped with a keeper that this process does not have;
// what is known is still read, and nothing is sealed after a while. k, unless it is
// nil, is that keeper.
func (v *Vault) Refresh(ctx context.Context, k Keeper) error {
	v.ringMu.Lock()
	defer v.ringMu.Unlock()
	if err := v.refresh(ctx, k); err != nil {
		return err
	}
	v.watched.Store(true)
	return nil
}

// refresh is Refresh with ringMu held.
func (v *Vault) refresh(ctx context.Context, k Keeper) error {
	rec, err := readKeyset(ctx, v.backend)
	if errors.Is(err, ErrTampered) {
		v.alarm(keysetID, rec.Version, rec.Sealed, err)
	}
	if err != nil {
		return err
	}
	was := v.ring.Load()
	switch {
	case rec.Version == was.row:
		v.seen()
		return nil
	case rec.Version < was.row:
		err := fmt.Errorf("read vault keyset: rolled back from version %d to %d: %w", was.row, rec.Version, ErrTampered)
		v.alarm(keysetID, rec.Version, rec.Sealed, err)
		return err
	}
	if k == nil {
		k = was.keeper
	}
	ring, err := unwrapKeyset(ctx, rec, k)
	if errors.Is(err, ErrTampered) {
		v.alarm(keysetID, rec.Version, rec.Sealed, err)
	}
	if errors.Is(err, ErrWrongKey) {
		v.stale.Store(true)
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	if err != nil {
		return err
	}
	v.marks.raise(keysetMark(), ring.row, false)
	v.ring.Store(ring)
	v.seen()
	return nil
}

func (v *Vault) seen() {
	v.stale.Store(false)
	now := v.now()
	v.checked.Store(&now)
}

// Stale reports whether there is a keyset that this process cannot open.
func (v *Vault) Stale() bool { return v.stale.Load() }

// maySeal refuses while the current version may be one that was destroyed. Both
// clocks count: the wall clock goes on while a machine sleeps.
func (v *Vault) maySeal() error {
	if !v.watched.Load() {
		return nil
	}
	now, checked := v.now(), *v.checked.Load()
	if now.Sub(checked) > SealWithin || now.Round(0).Sub(checked.Round(0)) > SealWithin {
		return fmt.Errorf("%w: the keyset was last looked at at %s", ErrStale, checked.UTC().Format(time.RFC3339))
	}
	return nil
}

// ringFor returns the keyring that opens this, which may have been sealed under a
// version that another process made a moment ago. Anybody who can write to the backend
// can make a record with an unknown version: the keyset is read for it ten times a
// second at most.
func (v *Vault) ringFor(sealed []byte) *keyring {
	if r := v.ring.Load(); r.knows(sealed) {
		return r
	}
	v.ringMu.Lock()
	defer v.ringMu.Unlock()
	if r, now := v.ring.Load(), v.now(); !r.knows(sealed) && now.Sub(v.looked) >= time.Second/10 {
		v.looked = now
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = v.refresh(ctx, nil) // what could not be looked up cannot be opened
	}
	return v.ring.Load()
}
