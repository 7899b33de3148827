package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// The states of an authority's key. Of each kind there is at most one key in
// each state but the last, from which none comes back.
const (
	keyNext    = "next"    // trusted, so that everybody knows it when it begins to sign
	keyActive  = "active"  // trusted, and signs
	keyOld     = "old"     // trusted, for the certificates that it has signed
	keyRetired = "retired" // not trusted
)

// The steps of a rotation.
const (
	StepStage    = "stage"    // make the next key
	StepActivate = "activate" // sign with it
	StepRetire   = "retire"   // trust the old one no more
)

// keys are the authorities' keys that this server has loaded.
type keys struct {
	mu     sync.RWMutex
	byKind map[sshca.Kind]ring
}

// A ring is the keys of one kind. next and old are nil when there are none.
type ring struct{ active, next, old *sshca.Authority }

// trusted returns the public keys that count, the active one first.
func (r ring) trusted() []ssh.PublicKey {
	list := []ssh.PublicKey{r.active.PublicKey()}
	for _, a := range []*sshca.Authority{r.next, r.old} {
		if a != nil {
			list = append(list, a.PublicKey())
		}
	}
	return list
}

func (b *Broker) ring(kind sshca.Kind) ring {
	b.keys.mu.RLock()
	defer b.keys.mu.RUnlock()
	return b.keys.byKind[kind]
}

// authority is the one that signs certificates of the kind.
func (b *Broker) authority(kind sshca.Kind) *sshca.Authority { return b.ring(kind).active }

// loadAuthorities takes over which keys count, at the start and when a rotation
// is read in the log. A key that is not in the vault, or another one than is on
// record, is an error, and the keys stay as they were.
func (b *Broker) loadAuthorities(ctx context.Context) error {
	rows, err := b.c.Store.Authorities(ctx)
	if err != nil {
		return err
	}
	loaded := map[sshca.Kind]ring{sshca.User: {active: b.c.UserCA}, sshca.Host: {active: b.c.HostCA}, sshca.Identity: {active: b.c.IdentityCA}}
	for _, row := range rows {
		kind := sshca.Kind(row.Kind)
		r := loaded[kind]
		to := map[string]**sshca.Authority{keyNext: &r.next, keyActive: &r.active, keyOld: &r.old}[row.State]
		if to == nil {
			continue // retired
		}
		if *to, err = b.loadAuthority(ctx, row); err != nil {
			return err
		}
		loaded[kind] = r
	}
	b.keys.mu.Lock()
	defer b.keys.mu.Unlock()
	b.keys.byKind = loaded
	return nil
}

func (b *Broker) loadAuthority(ctx context.Context, row store.Authority) (*sshca.Authority, error) {
	if b.c.Vault == nil {
		return nil, errors.New("the authorities were rotated, and there is no vault to load them from")
	}
	a, err := sshca.LoadGeneration(ctx, b.c.Vault, sshca.Kind(row.Kind), row.Generation)
	if err != nil {
		return nil, err
	}
	if keyText(a.PublicKey()) != row.Key {
		return nil, fmt.Errorf("key %s of the %s authority is not the one on record", strconv.Itoa(row.Generation), row.Kind)
	}
	return a, nil
}

// Authorities are the public halves of the three certificate authorities.
type Authorities struct {
	User     ssh.PublicKey // targets trust it
	Host     ssh.PublicKey // clients trust it
	Identity ssh.PublicKey // the bastion trusts it

	// All keys that are to be trusted, the one above first: while an authority
	// is rotated there are two.
	Users, Hosts, Identities []ssh.PublicKey
}

// Authorities returns the public keys of the certificate authorities. They are
// no secret.
func (b *Broker) Authorities() Authorities {
	user, host, identity := b.ring(sshca.User), b.ring(sshca.Host), b.ring(sshca.Identity)
	return Authorities{
		User: user.active.PublicKey(), Host: host.active.PublicKey(), Identity: identity.active.PublicKey(),
		Users: user.trusted(), Hosts: host.trusted(), Identities: identity.trusted(),
	}
}

// An AuthorityKey is one key of an authority, as it is on record.
type AuthorityKey struct {
	Kind  string
	State string // "next", "active" or "old"
	Key   ssh.PublicKey
}

// RotateAuthority does one step of a rotation: StepStage makes the next key and
// has everybody trust it, StepActivate signs with it, and StepRetire trusts the
// old one no more. The last is refused while a certificate that the old key may
// have signed is valid, unless force is set. It returns the keys that count now.
func (b *Broker) RotateAuthority(ctx context.Context, by access.Caller, kind, step string, force bool) ([]AuthorityKey, error) {
	e := event(by, "authority."+step, kind)
	move := map[string]func(context.Context, *store.Tx, *rotation) error{StepStage: stage, StepActivate: activate, StepRetire: retire}[step]
	if move == nil || !slices.Contains([]sshca.Kind{sshca.User, sshca.Host, sshca.Identity}, sshca.Kind(kind)) {
		return nil, access.Invalid("there is no such authority, or no such step: user, host or identity; stage, activate or retire")
	}
	if b.c.Vault == nil {
		return nil, &access.Error{Kind: access.ErrUnavailable, Code: "DB-5004", Text: "this server has no vault for the keys of authorities"}
	}
	if _, err := b.allow(ctx, question{action: policy.ActionSystemWrite, by: by}, e); err != nil {
		return nil, err
	}
	made, err := b.nextAuthority(ctx, kind, step)
	if err != nil {
		return nil, err
	}
	err = b.write(ctx, by, policy.ActionSystemWrite, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		r, err := b.readRotation(ctx, tx, kind)
		if err != nil {
			return err
		}
		r.made, r.force, r.event = made, force, e
		return move(ctx, tx, r)
	})
	if err != nil {
		return nil, err
	}
	if err := b.loadAuthorities(ctx); err != nil {
		return nil, err
	}
	return b.authorityKeys(sshca.Kind(kind)), nil
}

func (b *Broker) authorityKeys(kind sshca.Kind) (list []AuthorityKey) {
	r := b.ring(kind)
	for _, k := range []struct {
		state string
		a     *sshca.Authority
	}{{keyActive, r.active}, {keyNext, r.next}, {keyOld, r.old}} {
		if k.a != nil {
			list = append(list, AuthorityKey{Kind: string(kind), State: k.state, Key: k.a.PublicKey()})
		}
	}
	return list
}

// nextAuthority makes the key that is staged, in the vault, before the change
// that says that it counts. A crash in between leaves a key that nobody trusts,
// which the next try takes.
func (b *Broker) nextAuthority(ctx context.Context, kind, step string) (*store.Authority, error) {
	if step != StepStage {
		return nil, nil
	}
	rows, err := b.c.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	generation := 2
	for _, row := range rows {
		if row.Kind == kind {
			generation = max(generation, row.Generation+1)
		}
	}
	a, err := sshca.CreateGeneration(ctx, b.c.Vault, sshca.Kind(kind), generation)
	if errors.Is(err, vault.ErrExists) {
		a, err = sshca.LoadGeneration(ctx, b.c.Vault, sshca.Kind(kind), generation)
	}
	if err != nil {
		return nil, errors.Join(&access.Error{Kind: access.ErrUnavailable, Code: "DB-5004", Text: "the vault does not keep a new key"}, err)
	}
	return &store.Authority{ID: fmt.Sprintf("%s/%d", kind, generation), Kind: kind, Generation: generation, State: keyNext, Key: keyText(a.PublicKey()), Version: 1}, nil
}

// A rotation is what a step works on.
type rotation struct {
	kind    string
	byState map[string]*store.Authority
	newest  int
	made    *store.Authority // for stage
	force   bool
	event   *audit.Event
}

// readRotation reads the keys of the kind. The first key of a kind gets its row
// with the first rotation.
func (b *Broker) readRotation(ctx context.Context, tx *store.Tx, kind string) (*rotation, error) {
	rows, err := tx.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	r := &rotation{kind: kind, byState: map[string]*store.Authority{}}
	for _, row := range rows {
		if row.Kind == kind {
			r.byState[row.State], r.newest = &row, max(r.newest, row.Generation)
		}
	}
	if r.newest > 0 {
		return r, nil
	}
	first := &store.Authority{ID: kind + "/1", Kind: kind, Generation: 1, State: keyActive, Key: keyText(b.authority(sshca.Kind(kind)).PublicKey()), ChangedAt: tx.Now(), Version: 1}
	r.byState[keyActive], r.newest = first, 1
	return r, tx.AddAuthority(ctx, first)
}

func notNow(text, next string) error {
	return &access.Error{Kind: access.ErrConflict, Code: "DB-3017", Text: text, Next: next}
}

func (r *rotation) move(ctx context.Context, tx *store.Tx, a *store.Authority, state string) error {
	a.State, a.ChangedAt = state, tx.Now()
	return tx.SaveAuthority(ctx, a)
}

func (r *rotation) tell(a *store.Authority) {
	detail(r.event, "generation", strconv.Itoa(a.Generation))
	if key, err := parseKey(a.Key); err == nil {
		detail(r.event, "key", ssh.FingerprintSHA256(key))
	}
}

func stage(ctx context.Context, tx *store.Tx, r *rotation) error {
	switch {
	case r.byState[keyNext] != nil:
		return notNow("the "+r.kind+" authority has a next key already", "drawbolt ca rotate "+r.kind+" --activate")
	case r.byState[keyOld] != nil:
		return notNow("the "+r.kind+" authority has an old key that is trusted still", "drawbolt ca rotate "+r.kind+" --retire")
	case r.made.Generation != r.newest+1:
		return notNow("the "+r.kind+" authority was rotated at this moment", "drawbolt ca export "+r.kind)
	}
	r.made.ChangedAt = tx.Now()
	r.tell(r.made)
	return tx.AddAuthority(ctx, r.made)
}

func activate(ctx context.Context, tx *store.Tx, r *rotation) error {
	next := r.byState[keyNext]
	if next == nil {
		return notNow("the "+r.kind+" authority has no next key", "drawbolt ca rotate "+r.kind)
	}
	r.tell(next)
	if err := r.move(ctx, tx, r.byState[keyActive], keyOld); err != nil {
		return err
	}
	return r.move(ctx, tx, next, keyActive)
}

func retire(ctx context.Context, tx *store.Tx, r *rotation) error {
	old := r.byState[keyOld]
	if old == nil {
		return notNow("the "+r.kind+" authority has no old key", "drawbolt ca rotate "+r.kind)
	}
	// Another server may have signed with the old key until it read of the new
	// one in the log.
	n, until, err := tx.ValidCertificates(ctx, r.kind, old.ChangedAt.Add(activationLag))
	if err != nil {
		return err
	}
	if n > 0 && !r.force {
		return notNow(fmt.Sprintf("certificates that the old key may have signed are valid until %s UTC", until.UTC().Format(time.DateTime)), "drawbolt ca rotate "+r.kind+" --retire --now")
	}
	if n > 0 {
		detail(r.event, "certificates_valid", strconv.Itoa(n))
	}
	r.tell(old)
	return r.move(ctx, tx, old, keyRetired)
}

// activationLag is how long another server may go on signing with the old key:
// it ends its sessions when it could not read the log for that long.
const activationLag = time.Minute
