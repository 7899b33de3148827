// Package vault keeps secrets sealed at rest: target passwords, the keys of
// the SSH authorities, the data keys of recordings.
//
// Every secret is encrypted with AES-256-GCM under a keyset that is itself
// stored in the backend, wrapped by a [Keeper] that holds the root key. The
// keyset has versions of the data key: the newest seals, the others open until
// all that they sealed was sealed anew. The associated data of each record is
// its id and its version, so a row cannot be presented under another id or
// version.
//
// Trusted: the keeper's root key, this process's memory, and the file of
// [Marks], if there is one. Not trusted: the backend. Whoever can change the
// backend can at most delete or hide records, or present an older version of a
// record that this process has not seen in a newer one, and that is not in its
// marks; bit flips, swapped rows and rollbacks below a version that was seen
// are refused with [ErrTampered] and told to Config.Tampered, once.
// [Vault.List] is not authenticated.
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
	"sync/atomic"
	"time"
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
	keysetID = "vault/keyset"
)

// The kinds of refusal. Anything else is a failure of the backend or keeper.
var (
	ErrNotFound = errors.New("vault: no such record")
	ErrConflict = errors.New("vault: another version is stored")
	ErrExists   = errors.New("vault: it exists already")
	ErrTampered = errors.New("vault: stored record is not what was written")
	ErrInvalid  = errors.New("vault: invalid argument")
	ErrWrongKey = errors.New("vault: wrong key, or the wrapped bytes were changed")
	ErrOther    = errors.New("vault: sealed for something else")
	ErrStale    = errors.New("vault: another process has changed the keyset, and this one cannot follow")
)

// A Keeper holds the root key and wraps the keyset with it. Unwrap answers an
// error that is [ErrWrongKey] when the bytes were not wrapped by this key or
// were changed since. Both are safe for concurrent use.
type Keeper interface {
	Wrap(ctx context.Context, s Secret) ([]byte, error)
	Unwrap(ctx context.Context, wrapped []byte) (Secret, error)
}

// Config says where a vault is and what opens it.
type Config struct {
	Backend  Backend          // required
	Keeper   Keeper           // required
	Marks    *Marks           // of versions, outside of the backend; default in memory only
	Tampered func(Tampering)  // is told once of each; must not wait; default nobody
	Now      func() time.Time // default time.Now
}

// A Tampering is something in the backend that is not what was written there.
type Tampering struct {
	ID      string
	Version uint64
	Why     string
}

func (c *Config) check() error {
	if c.Backend == nil || c.Keeper == nil {
		return fmt.Errorf("%w: a vault needs a backend and a keeper", ErrInvalid)
	}
	if c.Marks == nil {
		c.Marks = newMarks()
	}
	if c.Tampered == nil {
		c.Tampered = func(Tampering) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// Init creates the keyset of a new vault. It returns [ErrExists] and changes
// nothing when the backend has one already.
func Init(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	h, keys, err := newKeyset(c.Now().UTC())
	if err != nil {
		return err
	}
	s, err := encodeKeyset(1, h, keys)
	if err != nil {
		return err
	}
	defer s.Wipe()
	wrapped, err := c.Keeper.Wrap(ctx, s)
	if err != nil {
		return fmt.Errorf("wrap vault keyset: %w", err)
	}
	err = c.Backend.Put(ctx, Record{ID: keysetID, Version: 1, Sealed: wrapped})
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
	backend  Backend
	marks    *Marks
	tampered func(Tampering)
	now      func() time.Time

	ringMu sync.Mutex // held while another keyset is made or fetched
	looked time.Time  // when one was last looked for of an unknown version

	ring    atomic.Pointer[keyring]
	checked atomic.Pointer[time.Time] // when the keyset was last compared
	watched atomic.Bool               // somebody calls Refresh
	stale   atomic.Bool

	// One id always falls in the same stripe, so its reads and writes by this
	// process do not overlap and a slow write is not taken for a rollback. It is
	// held over the backend call.
	seed    maphash.Seed
	stripes [64]sync.Mutex

	toldMu sync.Mutex
	told   map[[sha256.Size]byte]bool // tamperings, at most maxTold
}

// maxTold bounds how many tamperings are told by one process.
const maxTold = 4096

// Open unwraps the keyset. The error is [ErrNotFound] when there was no
// [Init], [ErrWrongKey] when the keeper's key is not the one that wrapped
// it, and [ErrTampered] when the marks know of a newer one.
func Open(ctx context.Context, c Config) (*Vault, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	v := &Vault{
		backend: c.Backend, marks: c.Marks, tampered: c.Tampered, now: c.Now,
		seed: maphash.MakeSeed(), told: map[[sha256.Size]byte]bool{},
	}
	rec, err := readKeyset(ctx, c.Backend)
	if newest := v.marks.get(keysetMark()).version; err == nil && rec.Version < newest {
		err = fmt.Errorf("read vault keyset: rolled back from version %d to %d: %w", newest, rec.Version, ErrTampered)
	}
	var ring *keyring
	if err == nil {
		ring, err = unwrapKeyset(ctx, rec, c.Keeper)
	}
	if errors.Is(err, ErrTampered) {
		v.alarm(keysetID, rec.Version, rec.Sealed, err)
	}
	if err != nil {
		return nil, err
	}
	v.marks.raise(keysetMark(), ring.row, false)
	v.ring.Store(ring)
	v.seen()
	return v, nil
}

func keysetMark() markID { return markOf(recordDomain, keysetID) }

func (v *Vault) stripe(id string) *sync.Mutex {
	return &v.stripes[maphash.String(v.seed, id)%uint64(len(v.stripes))]
}

// alarm tells of a tampering, once for each state in which a record was found.
func (v *Vault) alarm(id string, version uint64, sealed []byte, why error) {
	h := sha256.New()
	h.Write(associatedData(recordDomain, id, version))
	h.Write(sealed)
	key := [sha256.Size]byte(h.Sum(nil))
	v.toldMu.Lock()
	told := v.told[key] || len(v.told) >= maxTold
	if !told {
		v.told[key] = true
	}
	v.toldMu.Unlock()
	if !told {
		v.tampered(Tampering{ID: id, Version: version, Why: strings.TrimSuffix(why.Error(), ": "+ErrTampered.Error())})
	}
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
	st, at := v.stripe(id), markOf(recordDomain, id)
	st.Lock()
	defer st.Unlock()
	m := v.marks.get(at)
	if recreate := m.gone && version == 1; version <= m.version && !recreate {
		return fmt.Errorf("store secret %s version %d: %w", id, version, ErrConflict)
	}
	err = v.backend.Put(ctx, Record{ID: id, Version: version, Sealed: sealed})
	if err != nil {
		if m.gone && !errors.Is(err, ErrConflict) {
			v.marks.forget(at) // it may have been created again all the same
		}
		return fmt.Errorf("store secret %s version %d: %w", id, version, err)
	}
	v.marks.set(at, mark{version: version, sum: sha256.Sum256(sealed), known: true}, true)
	return nil
}

// Get returns the secret stored under id and its version.
func (v *Vault) Get(ctx context.Context, id string) (Secret, uint64, error) {
	if err := checkID(id); err != nil {
		return Secret{}, 0, err
	}
	st := v.stripe(id)
	st.Lock()
	defer st.Unlock()
	s, rec, err := v.get(ctx, id)
	return s, rec.Version, err
}

// get is Get with the stripe held.
func (v *Vault) get(ctx context.Context, id string) (Secret, Record, error) {
	rec, err := v.backend.Get(ctx, id)
	if err != nil {
		return Secret{}, Record{}, fmt.Errorf("read secret %s: %w", id, err)
	}
	s, err := v.open(id, rec)
	if errors.Is(err, ErrTampered) {
		v.alarm(id, rec.Version, rec.Sealed, err)
	}
	if err != nil {
		return Secret{}, Record{}, err
	}
	return s, rec, nil
}

func (v *Vault) open(id string, rec Record) (Secret, error) {
	if rec.ID != id {
		return Secret{}, fmt.Errorf("read secret %s: it carries another id: %w", id, ErrTampered)
	}
	at, sum := markOf(recordDomain, id), sha256.Sum256(rec.Sealed)
	switch m := v.marks.get(at); {
	case m.gone:
		return Secret{}, fmt.Errorf("read secret %s: it was deleted and is back: %w", id, ErrTampered)
	case rec.Version < m.version:
		return Secret{}, fmt.Errorf("read secret %s: rolled back from version %d to %d: %w", id, m.version, rec.Version, ErrTampered)
	case rec.Version == m.version && m.known && sum != m.sum:
		return Secret{}, fmt.Errorf("read secret %s: version %d was replaced: %w", id, rec.Version, ErrTampered)
	}
	s, err := v.unseal(recordDomain, id, rec.Version, rec.Sealed)
	if err != nil {
		return Secret{}, err
	}
	v.marks.set(at, mark{version: rec.Version, sum: sum, known: true}, false)
	return s, nil
}

// Reseal seals what is stored under id with the newest version of the data key, as
// the next version of the record. It reports whether there was something to do.
// [ErrConflict]: somebody else stored another version meanwhile, which is sealed with
// the newest one already or is found again.
func (v *Vault) Reseal(ctx context.Context, id string) (bool, error) {
	if err := checkID(id); err != nil {
		return false, err
	}
	st := v.stripe(id)
	st.Lock()
	defer st.Unlock()
	s, rec, err := v.get(ctx, id)
	if err != nil {
		return false, err
	}
	defer s.Wipe()
	if v.Current(rec.Sealed) {
		return false, nil
	}
	next := rec.Version + 1
	sealed, err := v.seal(recordDomain, id, next, s)
	if err != nil {
		return false, err
	}
	if err := v.backend.Put(ctx, Record{ID: id, Version: next, Sealed: sealed}); err != nil {
		return false, fmt.Errorf("store secret %s version %d: %w", id, next, err)
	}
	v.marks.set(markOf(recordDomain, id), mark{version: next, sum: sha256.Sum256(sealed), known: true}, true)
	return true, nil
}

// Current reports whether something is sealed with the newest version of the data key.
func (v *Vault) Current(sealed []byte) bool {
	return bytes.HasPrefix(sealed, v.ring.Load().current().Prefix())
}

// Delete removes the given version of id, which must be the stored one.
func (v *Vault) Delete(ctx context.Context, id string, version uint64) error {
	if err := checkID(id); err != nil {
		return err
	}
	st, at := v.stripe(id), markOf(recordDomain, id)
	st.Lock()
	defer st.Unlock()
	if err := v.backend.Delete(ctx, id, version); err != nil {
		return fmt.Errorf("delete secret %s version %d: %w", id, version, err)
	}
	v.marks.set(at, mark{version: max(version, v.marks.get(at).version), gone: true}, true)
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
// as a record of the vault, nor the other way round. It names the id at its end, in
// clear, by which it can be sealed anew ([Vault.Renew]). When it is stored, the caller
// says so with [Vault.Stored].
func (v *Vault) Seal(id string, version uint64, s Secret) ([]byte, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	sealed, err := v.seal(sealDomain, id, version, s)
	if err != nil {
		return nil, err
	}
	return append(append(append(sealed, id...), byte(len(id))), sealedFor...), nil
}

// sealedFor ends what Seal returns, behind the id and its length. Without it, it is of
// a time when that was not there.
const sealedFor = "for\x00"

// claimed returns the id that a sealed secret names, "" when it names none, and what
// stands before it.
func claimed(sealed []byte) (id string, before []byte) {
	rest, ok := bytes.CutSuffix(sealed, []byte(sealedFor))
	if !ok || len(rest) == 0 {
		return "", sealed
	}
	n := int(rest[len(rest)-1])
	rest = rest[:len(rest)-1]
	if n > len(rest) || checkID(string(rest[len(rest)-n:])) != nil {
		return "", sealed
	}
	return string(rest[len(rest)-n:]), rest[:len(rest)-n]
}

// Stored makes a version of what was sealed for the caller the oldest that is
// unsealed from now on, also after a restart.
func (v *Vault) Stored(id string, version uint64) {
	v.marks.raise(markOf(sealDomain, id), version, true)
}

// settled is how long after a version was stored an older one is refused without an
// alarm.
const settled = 10 * time.Second

// Unseal opens what [Vault.Seal] returned. Anything else is [ErrTampered], and so is a
// version that is older than one which was stored or unsealed before. It is also
// [ErrOther] when it names another id, which is told as a tampering only when
// something was stored under this one. In the ten seconds after a version was stored,
// an older one is refused and not told.
func (v *Vault) Unseal(id string, version uint64, sealed []byte) (Secret, error) {
	if err := checkID(id); err != nil {
		return Secret{}, err
	}
	at := markOf(sealDomain, id)
	m := v.marks.get(at)
	s, err := v.unsealNewest(id, version, m.version, sealed)
	// Who read it from the database a moment before it was replaced has the older one.
	late := version < m.version && time.Since(m.raised) < settled
	if errors.Is(err, ErrTampered) && !late && (m.version > 0 || !errors.Is(err, ErrOther)) {
		v.alarm(id, version, sealed, err)
	}
	if err == nil && version > 1 { // nothing is older than the first, of which there are many
		v.marks.raise(at, version, false)
	}
	return s, err
}

func (v *Vault) unsealNewest(id string, version, newest uint64, sealed []byte) (Secret, error) {
	named, before := claimed(sealed)
	switch {
	case named != "" && named != id:
		return Secret{}, fmt.Errorf("open secret %s: %w: %w", id, ErrOther, ErrTampered)
	case version < newest:
		return Secret{}, fmt.Errorf("open secret %s: rolled back from version %d to %d: %w", id, newest, version, ErrTampered)
	}
	return v.unseal(sealDomain, id, version, before)
}

// Check opens what [Vault.Seal] returned for the id that it names, whatever that is. id
// is for what names none.
func (v *Vault) Check(id string, version uint64, sealed []byte) (Secret, error) {
	if named, _ := claimed(sealed); named != "" {
		id = named
	}
	return v.Unseal(id, version, sealed)
}

// Renew opens what [Vault.Seal] returned for the id that it names, and seals it with the
// newest version of the data key as another version of the secret. id is for what names
// none.
func (v *Vault) Renew(id string, version, next uint64, sealed []byte) ([]byte, error) {
	s, err := v.Check(id, version, sealed)
	if err != nil {
		return nil, err
	}
	defer s.Wipe()
	if named, _ := claimed(sealed); named != "" {
		id = named
	}
	return v.Seal(id, next, s)
}

func (v *Vault) seal(domain, id string, version uint64, s Secret) ([]byte, error) {
	clear := s.Expose()
	if len(clear) > MaxSecret {
		return nil, fmt.Errorf("%w: secret %s has %d bytes, the most is %d", ErrInvalid, id, len(clear), MaxSecret)
	}
	if version == 0 {
		return nil, fmt.Errorf("%w: secret %s has version 0, versions start at 1", ErrInvalid, id)
	}
	if err := v.maySeal(); err != nil {
		return nil, fmt.Errorf("seal secret %s: %w", id, err)
	}
	sealed, err := v.ring.Load().aead.Encrypt(clear, associatedData(domain, id, version))
	if err != nil {
		return nil, fmt.Errorf("seal secret %s: %w", id, err)
	}
	return sealed, nil
}

func (v *Vault) unseal(domain, id string, version uint64, sealed []byte) (Secret, error) {
	if version == 0 || len(sealed) > maxSealed {
		return Secret{}, fmt.Errorf("open secret %s: %w", id, ErrTampered)
	}
	opened, err := v.ringFor(sealed).aead.Decrypt(sealed, associatedData(domain, id, version))
	if err != nil {
		if v.Stale() && !v.ring.Load().knows(sealed) {
			return Secret{}, fmt.Errorf("open secret %s version %d: %w", id, version, ErrStale)
		}
		return Secret{}, fmt.Errorf("open secret %s version %d: %w", id, version, ErrTampered)
	}
	defer clear(opened) // a Secret has a copy
	return NewSecret(opened), nil
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
