package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

var leases = newTable("leases", "id", func(l *access.Lease) []column {
	return []column{
		{"id", &l.ID}, {"grant_id", &l.GrantID}, {"request_id", &l.RequestID}, {"user_id", &l.UserID}, {"user_name", &l.UserName},
		{"target_id", &l.TargetID}, {"target_name", &l.TargetName}, {"account", &l.Account},
		{"credential", &l.Credential}, {"secret", &l.Secret}, {"managed", &l.Managed}, {"reason", &l.Reason}, {"source", &l.Source}, {"via", &l.Via},
		{"at", micros{&l.At}}, {"until_at", micros{&l.Until}},
		{"ended_at", micros{&l.EndedAt}}, {"end_reason", text[access.EndReason]{&l.EndReason}}, {"ended_by", &l.EndedBy}, {"version", &l.Version},
	}
})

// A LeaseFilter picks leases. Zero fields do not limit.
type LeaseFilter struct {
	Open                         bool      // nothing has ended them yet, but perhaps the clock
	Active                       time.Time // those that last at this moment
	User, Target, Account, Grant string    // user, target and grant by id
	Before                       string    // id; older ones only
	Limit                        int
}

// Leases returns one page of leases, newest first.
func (q queryer) Leases(ctx context.Context, f LeaseFilter) ([]access.Lease, error) {
	clause, args := "WHERE 1 = 1", []any{}
	if f.Open || !f.Active.IsZero() {
		clause += " AND ended_at = 0"
	}
	if !f.Active.IsZero() {
		clause, args = clause+" AND until_at > ?", append(args, toMicros(f.Active))
	}
	for _, c := range []struct{ column, value string }{
		{"user_id", f.User}, {"target_id", f.Target}, {"account", f.Account}, {"grant_id", f.Grant},
	} {
		if c.value != "" {
			clause, args = clause+" AND "+c.column+" = ?", append(args, c.value)
		}
	}
	if f.Before != "" {
		clause += " AND (at, id) < (SELECT at, id FROM leases WHERE id = ?)"
		args = append(args, f.Before)
	}
	return leases.all(ctx, q, clause+" ORDER BY at DESC, id DESC LIMIT ?"+q.lock(), append(args, page(f.Limit))...)
}

// Lease returns the lease of that id.
func (q queryer) Lease(ctx context.Context, id string) (access.Lease, error) {
	return leases.one(ctx, q, "WHERE id = ?"+q.lock(), id)
}

// OpenLeasesUnder returns those under these grants that nothing has ended, but perhaps
// the clock.
func (q queryer) OpenLeasesUnder(ctx context.Context, grantIDs []string) ([]access.Lease, error) {
	return leases.in(ctx, q, "grant_id", grantIDs, "AND ended_at = 0")
}

// ActiveLease returns the lease of an account that lasts at t, or
// access.ErrNotFound. Changes that depend on there being none have the target locked.
func (q queryer) ActiveLease(ctx context.Context, targetID, account string, t time.Time) (access.Lease, error) {
	return leases.one(ctx, q, "WHERE target_id = ? AND account = ? AND ended_at = 0 AND until_at > ? ORDER BY at DESC LIMIT 1"+q.lock(), targetID, account, toMicros(t))
}

// known holds for leases of what is still the secret of the account. Of a managed one it
// is noted who has seen that; of others it is told by when it was set.
const known = `CASE WHEN EXISTS (SELECT 1 FROM rotations r WHERE r.id = leases.target_id || '/' || leases.account)
	THEN EXISTS (SELECT 1 FROM password_readers p WHERE p.rotation_id = leases.target_id || '/' || leases.account AND p.user_id = leases.user_id)
	ELSE EXISTS (SELECT 1 FROM account_secrets s WHERE s.id = leases.target_id || '/' || leases.account AND s.changed_at <= leases.at) END`

// KnownSecrets returns the newest leases of a target's secrets that are still what
// its accounts log in with: who was shown one knows it.
func (q queryer) KnownSecrets(ctx context.Context, targetID string, limit int) ([]access.Lease, error) {
	return leases.all(ctx, q, "WHERE target_id = ? AND "+known+" ORDER BY at DESC, id DESC LIMIT ?", targetID, page(limit))
}

// StillKnown returns which of these leases are of what is still the secret of their
// account, by their ids.
func (q queryer) StillKnown(ctx context.Context, of []access.Lease) (map[string]bool, error) {
	is := map[string]bool{}
	for chunk := range slices.Chunk(of, maxIn) {
		ids := make([]string, len(chunk))
		for i, l := range chunk {
			ids[i] = l.ID
		}
		marks, args := list(ids)
		rows, err := leases.all(ctx, q, "WHERE id IN "+marks+" AND "+known, args...)
		if err != nil {
			return nil, err
		}
		for _, l := range rows {
			is[l.ID] = true
		}
	}
	return is, nil
}

// AddLease adds a lease. A grant has at most one that is not over.
func (tx *Tx) AddLease(ctx context.Context, l *access.Lease) error { return leases.add(ctx, tx, l) }

// SaveLease saves a lease that was read in the same change.
func (tx *Tx) SaveLease(ctx context.Context, l *access.Lease) error {
	return leases.save(ctx, tx, l, &l.Version)
}

// keepLease has a lease under the grant last as long as that does.
func (tx *Tx) keepLease(ctx context.Context, g *access.Grant) error {
	if _, err := tx.exec(ctx, "UPDATE leases SET until_at = ?, version = version + 1 WHERE grant_id = ? AND ended_at = 0 AND until_at <> ?", toMicros(g.End), g.ID, toMicros(g.End)); err != nil {
		return fmt.Errorf("save to leases: %w", err)
	}
	return nil
}
