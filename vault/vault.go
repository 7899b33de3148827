// Package vault keeps secrets sealed at rest: target passwords, the keys of
// the SSH authorities, the data keys of recordings.
//
// Every secret is encrypted with AES-256-GCM under a keyset that is itself
// stored in the backend, wrapped by a [Keeper] that holds the root key. The
// associated data of each record is its id and its version, so a row cannot
// be presented under another id or version.
//
// Trusted: the keeper's root key and this process's memory. Not trusted: the
// backend. Whoever can change the backend can at most delete or hide records,
// or present an older version of a record that this process has not seen in a
// newer one; bit flips, swapped rows and rollbacks below a version this
// process has seen are refused with [ErrTampered]. [Vault.List] is not
// authenticated.
//
// Prefer a fresh id to deleting one and creating it again. Its versions start
// at 1 once more: a row of its former life may then pass for a newer one, and
// other processes that knew the former life refuse the new one as rolled back.
//
// The package decides nothing about who may read a secret, keeps no audit
// log, and does not defend against somebody who reads the process's memory.
package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// MaxSecret is the largest secret, in bytes.
const MaxSecret = 64 << 10

const (
	maxID = 128 // bytes

	// maxSealed bounds what is read from the backend before any
	// cryptography: AES-GCM in a tink keyset adds 33 bytes (key prefix,
	// nonce, tag); a wrapped keyset is a few hundred bytes in all.
	maxSealed = MaxSecret + 256

	// keysetID is the row of the wrapped keyset. Callers cannot name it.
	keysetID      = "vault/keyset"
	keysetVersion = 1
)

// The kinds of refusal. Anything else is a failure of the backend or keeper.
var (
	ErrNotFound = errors.New("vault: no such record")
	ErrConflict = errors.New("vault: another version is stored")
	ErrExists   = errors.New("vault: it exists already")
	ErrTampered = errors.New("vault: stored record is not what was written")
	ErrInvalid  = errors.New("vault: invalid argument")
	ErrWrongKey = errors.New("vault: wrong key, or the wrapped bytes were changed")
)

// A Keeper holds the root key and wraps the keyset with it. Unwrap answers an
// error that is [ErrWrongKey] when the bytes were not wrapped by this key or
// were changed since. Both are safe for concurrent use.
type Keeper interface {
	Wrap(ctx context.Context, s Secret) ([]byte, error)
	Unwrap(ctx context.Context, wrapped []byte) (Secret, error)
}

// Config says where a vault is and what opens it. Both fields are required.
type Config struct {
	Backend Backend
	Keeper  Keeper
}

func (c Config) check() error {
	if c.Backend == nil || c.Keeper == nil {
		return fmt.Errorf("%w: a vault needs a backend and a keeper", ErrInvalid)
	}
	return nil
}

// Init creates the keyset of a new vault. It returns [ErrExists] and changes
// nothing when the backend has one already.
func Init(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("create vault keyset: %w", err)
	}
	var clear bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&clear)); err != nil {
		return fmt.Errorf("encode vault keyset: %w", err)
	}
	wrapped, err := c.Keeper.Wrap(ctx, NewSecret(clear.Bytes()))
	if err != nil {
		return fmt.Errorf("wrap vault keyset: %w", err)
	}
	err = c.Backend.Put(ctx, Record{ID: keysetID, Version: keysetVersion, Sealed: wrapped})
	if errors.Is(err, ErrConflict) {
		return fmt.Errorf("create vault keyset: %w", ErrExists)
	}
	if err != nil {
		return fmt.Errorf("store vault keyset: %w", err)
	}
	return nil
}

// A Vault seals and opens secrets. It is safe for concurrent use. Each
// process that shares a backend opens its own.
type Vault struct {
	backend Backend
	aead    func() tink.AEAD // in a func so that no verb of fmt reaches the key

	// One id always falls in the same stripe, so its reads and writes by this
	// process do not overlap and a slow write is not taken for a rollback.
	seed    maphash.Seed
	stripes [64]stripe
}

type stripe struct {
	mu    sync.Mutex      // held over the backend call
	marks map[string]mark // by id
}

// A mark is the newest state of a record that this process has seen.
type mark struct {
	version uint64
	sum     [sha256.Size]byte // of Sealed
	gone    bool              // deleted by this process at version
}

// Open unwraps the keyset. The error is [ErrNotFound] when there was no
// [Init], and [ErrWrongKey] when the keeper's key is not the one that wrapped
// it.
func Open(ctx context.Context, c Config) (*Vault, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	rec, err := c.Backend.Get(ctx, keysetID)
	if err != nil {
		return nil, fmt.Errorf("read vault keyset: %w", err)
	}
	if rec.ID != keysetID || rec.Version != keysetVersion || len(rec.Sealed) > maxSealed {
		return nil, fmt.Errorf("read vault keyset: %w", ErrTampered)
	}
	clear, err := c.Keeper.Unwrap(ctx, rec.Sealed)
	if err != nil {
		return nil, fmt.Errorf("unwrap vault keyset: %w", err)
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(clear.Expose())))
	if err != nil {
		return nil, fmt.Errorf("decode vault keyset: %w", err)
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("use vault keyset: %w", err)
	}
	return &Vault{
		backend: c.Backend,
		aead:    func() tink.AEAD { return a },
		seed:    maphash.MakeSeed(),
	}, nil
}

func (v *Vault) stripe(id string) *stripe {
	return &v.stripes[maphash.String(v.seed, id)%uint64(len(v.stripes))]
}

// Put stores s as the given new version of id: 1 creates, otherwise the stored
// version plus one. [ErrConflict] means that something else is stored, or that
// this process has seen that version already. After any other error the record
// may or may not have been stored; Get tells.
func (v *Vault) Put(ctx context.Context, id string, s Secret, version uint64) error {
	if err := checkID(id); err != nil {
		return err
	}
	sealed, err := v.seal(recordDomain, id, version, s)
	if err != nil {
		return err
	}
	st := v.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	m := st.marks[id]
	if recreate := m.gone && version == 1; version <= m.version && !recreate {
		return fmt.Errorf("store secret %s version %d: %w", id, version, ErrConflict)
	}
	err = v.backend.Put(ctx, Record{ID: id, Version: version, Sealed: sealed})
	if err != nil {
		if m.gone && !errors.Is(err, ErrConflict) {
			delete(st.marks, id) // it may have been created again all the same
		}
		return fmt.Errorf("store secret %s version %d: %w", id, version, err)
	}
	st.set(id, mark{version: version, sum: sha256.Sum256(sealed)})
	return nil
}

// Get returns the secret stored under id and its version.
func (v *Vault) Get(ctx context.Context, id string) (Secret, uint64, error) {
	if err := checkID(id); err != nil {
		return Secret{}, 0, err
	}
	st := v.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	rec, err := v.backend.Get(ctx, id)
	if err != nil {
		return Secret{}, 0, fmt.Errorf("read secret %s: %w", id, err)
	}
	if rec.ID != id {
		return Secret{}, 0, fmt.Errorf("read secret %s: it carries another id: %w", id, ErrTampered)
	}
	sum := sha256.Sum256(rec.Sealed)
	switch m := st.marks[id]; {
	case m.gone:
		return Secret{}, 0, fmt.Errorf("read secret %s: it was deleted and is back: %w", id, ErrTampered)
	case rec.Version < m.version:
		return Secret{}, 0, fmt.Errorf("read secret %s: rolled back from version %d to %d: %w", id, m.version, rec.Version, ErrTampered)
	case rec.Version == m.version && sum != m.sum:
		return Secret{}, 0, fmt.Errorf("read secret %s: version %d was replaced: %w", id, rec.Version, ErrTampered)
	}
	s, err := v.unseal(recordDomain, id, rec.Version, rec.Sealed)
	if err != nil {
		return Secret{}, 0, err
	}
	st.set(id, mark{version: rec.Version, sum: sum})
	return s, rec.Version, nil
}

// Delete removes the given version of id, which must be the stored one.
func (v *Vault) Delete(ctx context.Context, id string, version uint64) error {
	if err := checkID(id); err != nil {
		return err
	}
	st := v.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := v.backend.Delete(ctx, id, version); err != nil {
		return fmt.Errorf("delete secret %s version %d: %w", id, version, err)
	}
	st.set(id, mark{version: max(version, st.marks[id].version), gone: true})
	return nil
}

// List returns the ids that start with prefix, in order. An empty prefix lists
// all. The list is what the backend says; only Get proves that a record is
// genuine.
func (v *Vault) List(ctx context.Context, prefix string) ([]string, error) {
	if len(prefix) > maxID {
		return nil, fmt.Errorf("%w: list prefix is longer than %d bytes", ErrInvalid, maxID)
	}
	ids, err := v.backend.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == keysetID })
	for _, id := range ids {
		if !strings.HasPrefix(id, prefix) || checkID(id) != nil {
			return nil, fmt.Errorf("list secrets: id %.140q: %w", id, ErrTampered)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Seal encrypts s for the caller to store where it likes. Unseal opens it
// again only with the same id and version. What Seal returns is never accepted
// as a record of the vault, nor the other way round.
func (v *Vault) Seal(id string, version uint64, s Secret) ([]byte, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	return v.seal(sealDomain, id, version, s)
}

// Unseal opens what [Vault.Seal] returned. Anything else is [ErrTampered].
func (v *Vault) Unseal(id string, version uint64, sealed []byte) (Secret, error) {
	if err := checkID(id); err != nil {
		return Secret{}, err
	}
	return v.unseal(sealDomain, id, version, sealed)
}

func (v *Vault) seal(domain, id string, version uint64, s Secret) ([]byte, error) {
	clear := s.Expose()
	if len(clear) > MaxSecret {
		return nil, fmt.Errorf("%w: secret %s has %d bytes, the most is %d", ErrInvalid, id, len(clear), MaxSecret)
	}
	if version == 0 {
		return nil, fmt.Errorf("%w: secret %s has version 0, versions start at 1", ErrInvalid, id)
	}
	sealed, err := v.aead().Encrypt(clear, associatedData(domain, id, version))
	if err != nil {
		return nil, fmt.Errorf("seal secret %s: %w", id, err)
	}
	return sealed, nil
}

func (v *Vault) unseal(domain, id string, version uint64, sealed []byte) (Secret, error) {
	if version == 0 || len(sealed) > maxSealed {
		return Secret{}, fmt.Errorf("open secret %s: %w", id, ErrTampered)
	}
	opened, err := v.aead().Decrypt(sealed, associatedData(domain, id, version))
	if err != nil {
		return Secret{}, fmt.Errorf("open secret %s version %d: %w", id, version, ErrTampered)
	}
	defer clear(opened) // a Secret has a copy
	return NewSecret(opened), nil
}

func (st *stripe) set(id string, m mark) {
	if st.marks == nil {
		st.marks = make(map[string]mark)
	}
	st.marks[id] = m
}

const (
	recordDomain = "drawbolt vault record"
	sealDomain   = "drawbolt vault seal"
)

// associatedData joins its parts so that no two lists of parts give the same
// bytes: each string is preceded by its length.
func associatedData(domain, id string, version uint64) []byte {
	b := make([]byte, 0, 4+len(domain)+4+len(id)+8)
	for _, s := range []string{domain, id} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return binary.BigEndian.AppendUint64(b, version)
}

// checkID accepts segments of [a-z0-9._@-], each starting with a letter or
// digit, joined by "/", at most 128 bytes in all. The vault's own row is
// refused.
func checkID(id string) error {
	bad := func(why string) error {
		return fmt.Errorf("%w: record id %.140q %s", ErrInvalid, id, why)
	}
	if len(id) > maxID {
		return bad(fmt.Sprintf("is longer than %d bytes", maxID))
	}
	if id == keysetID {
		return bad("is the vault's own")
	}
	start := true
	for i := range len(id) {
		c := id[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			start = false
		case !start && (c == '.' || c == '_' || c == '@' || c == '-'):
		case !start && c == '/':
			start = true
		default:
			return bad(fmt.Sprintf("has %q at byte %d", c, i))
		}
	}
	if start {
		return bad("has an empty segment")
	}
	return nil
}
