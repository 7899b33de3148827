package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

// The records of the vault that hold this installation's own keys.
const (
	bastionKeyID   = "keys/bastion"   // the bastion's SSH host key
	tokenKeyID     = "keys/token"     // signs login tokens
	auditKeyID     = "keys/audit"     // signs checkpoints and recordings
	recordingKeyID = "keys/recording" // the server's own recipient of recordings
	hiddenKeyID    = "keys/hidden"    // opens what was typed unseen, unless that is somebody else's
)

// Keys are the opened keys of an installation.
type Keys struct {
	vault                      *vault.Vault
	userCA, hostCA, identityCA *sshca.Authority
	bastion                    ssh.Signer
	token                      ed25519.PrivateKey
	signer                     note.Signer
	verifier                   note.Verifier
	verifierKey                string
	recording, hidden          *age.HybridIdentity
}

// An opening says how an App gets at its keys.
type opening struct {
	keeper vault.Keeper // nil: what the configuration names, which takes no people
	create bool         // what is missing; only init and demo do
}

func (a *App) openVault(ctx context.Context, o opening) (*vault.Vault, error) {
	wrapped, err := wrappedOf(ctx, a.db)
	if err != nil {
		return nil, err
	}
	if o.keeper == nil {
		if o.keeper, err = a.config.keeperOf(wrapped); err != nil {
			return nil, fmt.Errorf("open the master key: %w", err)
		}
	}
	if err := a.openMarks(ctx, wrapped != nil); err != nil {
		return nil, err
	}
	c := vault.Config{Backend: a.db.VaultRecords(), Keeper: o.keeper, Marks: a.marks, Tampered: a.tampered}
	if o.create {
		if err := vault.Init(ctx, c); err != nil && !errors.Is(err, vault.ErrExists) {
			return nil, err
		}
	}
	return vault.Open(ctx, c)
}

// createKeys makes every key that is not there yet, so that an interrupted
// init can simply be run again.
func createKeys(ctx context.Context, v *vault.Vault, origin string) error {
	for _, kind := range []sshca.Kind{sshca.User, sshca.Host, sshca.Identity} {
		if _, err := sshca.Create(ctx, v, kind); err != nil && !errors.Is(err, vault.ErrExists) {
			return err
		}
	}
	seed := func() ([]byte, error) {
		b := make([]byte, ed25519.SeedSize)
		_, err := rand.Read(b)
		return b, err
	}
	for _, k := range []struct {
		id   string
		make func() ([]byte, error)
	}{
		{bastionKeyID, seed},
		{tokenKeyID, seed},
		{auditKeyID, func() ([]byte, error) {
			signer, verifier, err := audit.NewKey(origin)
			return []byte(signer + "\n" + verifier), err
		}},
		{recordingKeyID, newIdentity},
	} {
		if err := createKey(ctx, v, k.id, k.make); err != nil {
			return err
		}
	}
	return nil
}

// createKey makes the key if it is not there yet.
func createKey(ctx context.Context, v *vault.Vault, id string, make func() ([]byte, error)) error {
	if _, _, err := v.Get(ctx, id); !errors.Is(err, vault.ErrNotFound) {
		return err
	}
	b, err := make()
	if err != nil {
		return err
	}
	if err := v.Put(ctx, id, vault.NewSecret(b), 1); err != nil && !errors.Is(err, vault.ErrConflict) {
		return fmt.Errorf("keep %s: %w", id, err)
	}
	return nil
}

// newIdentity makes a post-quantum identity of age.
func newIdentity() ([]byte, error) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, err
	}
	return []byte(id.String()), nil
}

func openKeys(ctx context.Context, v *vault.Vault) (*Keys, error) {
	k := &Keys{vault: v}
	var err error
	for _, ca := range []struct {
		kind sshca.Kind
		to   **sshca.Authority
	}{{sshca.User, &k.userCA}, {sshca.Host, &k.hostCA}, {sshca.Identity, &k.identityCA}} {
		if *ca.to, err = sshca.Load(ctx, v, ca.kind); err != nil {
			return nil, err
		}
	}
	get := func(id string) []byte {
		s, _, e := v.Get(ctx, id)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("open %s: %w", id, e))
		}
		return s.Expose()
	}
	// Installations from before have none of these, and need no other than a new one.
	if err := createKey(ctx, v, hiddenKeyID, newIdentity); err != nil {
		return nil, err
	}
	bastion, token, auditKeys, recording, hidden := get(bastionKeyID), get(tokenKeyID), get(auditKeyID), get(recordingKeyID), get(hiddenKeyID)
	if err != nil {
		return nil, err
	}
	if k.bastion, err = ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(bastion)); err != nil {
		return nil, err
	}
	k.token = ed25519.NewKeyFromSeed(token)
	signer, verifier, _ := strings.Cut(string(auditKeys), "\n")
	k.verifierKey = verifier
	if k.signer, err = note.NewSigner(signer); err != nil {
		return nil, err
	}
	if k.verifier, err = note.NewVerifier(verifier); err != nil {
		return nil, err
	}
	if k.recording, err = age.ParseHybridIdentity(string(recording)); err != nil {
		return nil, err
	}
	k.hidden, err = age.ParseHybridIdentity(string(hidden))
	return k, err
}

// journalKeys wraps the data keys of journals with the vault.
type journalKeys struct{ v *vault.Vault }

func (j journalKeys) Wrap(id string, key []byte) ([]byte, error) {
	return j.v.Seal("journals/"+strings.ToLower(id), 1, vault.NewSecret(key))
}

func (j journalKeys) Unwrap(id string, wrapped []byte) ([]byte, error) {
	s, err := j.v.Unseal("journals/"+strings.ToLower(id), 1, wrapped)
	return s.Expose(), err
}

// authenticatorKeys seals the secrets of authenticators with the vault.
type authenticatorKeys struct{ v *vault.Vault }

func (a authenticatorKeys) id(id string) string { return "authenticators/" + strings.ToLower(id) }

func (a authenticatorKeys) Seal(id string, secret []byte) ([]byte, error) {
	return a.v.Seal(a.id(id), 1, vault.NewSecret(secret))
}

func (a authenticatorKeys) Open(id string, sealed []byte) ([]byte, error) {
	s, err := a.v.Unseal(a.id(id), 1, sealed)
	return s.Expose(), err
}
