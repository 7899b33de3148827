package store

import (
	"context"
	"time"
)

// An Authority is the public record of one key of a certificate authority.
type Authority struct {
	ID         string // kind/generation
	Kind       string // "user", "host" or "identity"
	Generation int    // from 1
	State      string // "next", "active", "old" or "retired"
	Key        string // the public key, in authorized_keys form
	ChangedAt  time.Time
	Version    int64
}

var authorities = newTable("authorities", "id", func(a *Authority) []column {
	return []column{
		{"id", &a.ID}, {"kind", &a.Kind}, {"generation", count{&a.Generation}}, {"state", &a.State},
		{"key", &a.Key}, {"changed_at", micros{&a.ChangedAt}}, {"version", &a.Version},
	}
})

// Authorities returns the keys of all authorities that were ever rotated, by
// kind and generation.
func (q queryer) Authorities(ctx context.Context) ([]Authority, error) {
	return authorities.all(ctx, q, "ORDER BY kind, generation")
}

// AddAuthority adds a key.
func (tx *Tx) AddAuthority(ctx context.Context, a *Authority) error {
	return authorities.add(ctx, tx, a)
}

// SaveAuthority saves a key's state.
func (tx *Tx) SaveAuthority(ctx context.Context, a *Authority) error {
	return authorities.save(ctx, tx, a, &a.Version)
}

// ValidCertificates counts the certificates of a kind that were issued before t
// and are valid still, and says when the last of them expires.
func (tx *Tx) ValidCertificates(ctx context.Context, kind string, issuedBefore time.Time) (n int, until time.Time, err error) {
	list, err := certificates.all(ctx, tx.queryer, "WHERE kind = ? AND issued_at < ? AND expires_at > ? AND revoked_at = 0 ORDER BY expires_at DESC LIMIT 1000",
		kind, toMicros(issuedBefore), toMicros(tx.Now()))
	if err != nil || len(list) == 0 {
		return 0, until, err
	}
	return len(list), list[0].ExpiresAt, nil
}
