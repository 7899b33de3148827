package store

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// AddProvision adds the plan of an account. A grant has at most one.
func (tx *Tx) AddProvision(ctx context.Context, p *access.Provision) error {
	return provisions.add(ctx, tx, p)
}

// SaveProvision saves a provision.
func (tx *Tx) SaveProvision(ctx context.Context, p *access.Provision) error {
	return provisions.save(ctx, tx, p, &p.Version)
}

// Provision returns the provision of that id, or of that grant's id.
func (q queryer) Provision(ctx context.Context, id string) (access.Provision, error) {
	column := "id"
	if access.ValidID(access.GrantPrefix, id) {
		column = "grant_id"
	}
	return provisions.one(ctx, q, "WHERE "+column+" = ?"+q.lock(), id)
}

// LoginHolder returns the provision that may have an account of this login on
// the target now, or access.ErrNotFound. There is at most one.
func (q queryer) LoginHolder(ctx context.Context, targetID, login string) (access.Provision, error) {
	return provisions.one(ctx, q, "WHERE target_id = ? AND login = ? AND state NOT IN ('planned', 'gone')"+q.lock(), targetID, login)
}

// Provisions returns the accounts that are not gone, of a user when userID is
// not empty, oldest first, at most 1000.
func (q queryer) Provisions(ctx context.Context, userID string) ([]access.Provision, error) {
	if userID == "" {
		return provisions.all(ctx, q, "WHERE state <> 'gone' ORDER BY planned_at, id LIMIT 1000")
	}
	return provisions.all(ctx, q, "WHERE state <> 'gone' AND user_id = ? ORDER BY planned_at, id LIMIT 1000", userID)
}

// DueProvisions returns accounts whose grant is over at t and which a server may
// begin to remove then, those that have waited longest first.
func (q queryer) DueProvisions(ctx context.Context, t time.Time, limit int) ([]access.Provision, error) {
	now := toMicros(t)
	return provisions.all(ctx, q, `WHERE state <> 'gone' AND next_at <= ? AND until_at <= ?
		AND EXISTS (SELECT 1 FROM grants WHERE grants.id = provisions.grant_id AND (grants.ended_at <> 0 OR grants.end_at <= ?))
		ORDER BY next_at, planned_at LIMIT ?`, now, now, now, page(limit))
}
