package store

import (
	"context"

	"github.com/drawbolt/drawbolt/broker/access"
)

var bootstraps = newTable("bootstraps", "target_id", func(b *access.Bootstrap) []column {
	return []column{
		{"target_id", &b.TargetID}, {"user_id", &b.UserID}, {"token", &b.Token}, {"mfa_at", micros{&b.MFAAt}},
		{"created_at", micros{&b.CreatedAt}}, {"expires_at", micros{&b.ExpiresAt}}, {"proven_at", micros{&b.ProvenAt}},
		{"tries", &b.Tries}, {"version", &b.Version},
	}
})

// AddBootstrap adds a target's first bootstrap.
func (tx *Tx) AddBootstrap(ctx context.Context, b *access.Bootstrap) error {
	return bootstraps.add(ctx, tx, b)
}

// SaveBootstrap saves a bootstrap, or puts another in its place.
func (tx *Tx) SaveBootstrap(ctx context.Context, b *access.Bootstrap) error {
	return bootstraps.save(ctx, tx, b, &b.Version)
}

// Bootstrap returns the bootstrap of the target of that id.
func (q queryer) Bootstrap(ctx context.Context, targetID string) (access.Bootstrap, error) {
	return bootstraps.one(ctx, q, "WHERE target_id = ?"+q.lock(), targetID)
}

// BootstrapOfToken returns the bootstrap whose token has that hash.
func (q queryer) BootstrapOfToken(ctx context.Context, hash string) (access.Bootstrap, error) {
	return bootstraps.one(ctx, q, "WHERE token = ?"+q.lock(), hash)
}
