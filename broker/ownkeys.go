package broker

import (
	"context"
	"errors"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/vault"
)

// ownKeys returns the fingerprints of the keys with which the bastion logs in at a machine,
// by account. They are read off the private halves, so that nobody who can write to the
// database makes a key pass for one of them. A key that cannot be opened is none, and what
// the machine has of it looks like a stranger's.
func (b *Broker) ownKeys(ctx context.Context, tx *store.Tx, t *access.Target) (map[string][]string, error) {
	own := map[string][]string{}
	for _, a := range t.Accounts {
		if a.Credential != access.CredentialKey || b.c.Vault == nil {
			continue
		}
		row, err := tx.AccountSecret(ctx, t.ID, a.Name)
		if errors.Is(err, access.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, key := range b.keysInForce(&row, t, a) {
			if fingerprint, err := checkCredential(access.CredentialKey, key); err == nil {
				own[a.Name] = append(own[a.Name], fingerprint)
			}
			key.Wipe()
		}
	}
	return own, nil
}

// keysInForce opens what an account is logged in to with: of one that is managed, also what
// is about to take the place of that.
func (b *Broker) keysInForce(row *store.AccountSecret, t *access.Target, a access.Account) (keys []vault.Secret) {
	if a.Managed == nil {
		if key, err := b.unsealed(row, t, a); err == nil {
			keys = append(keys, key)
		}
		return keys
	}
	entry, err := b.entry(row, t, a)
	if err != nil {
		return nil
	}
	defer entry.Wipe()
	keys = append(keys, entry.Current.Secret.Clone())
	if entry.Candidate != nil {
		keys = append(keys, entry.Candidate.Secret.Clone())
	}
	return keys
}
