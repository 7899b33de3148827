package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A Due is something that falls due by the clock alone, and is put on record then.
type Due struct {
	Kind   string // the action of its event
	Object string // id of what it is about
	At     time.Time
}

// The kinds of what falls due that the store itself keeps: whoever saves a request
// or a grant need not think of them.
const (
	DueExpire = "request.expire"
	DueEnd    = "grant.end"
)

// ErrSettled: somebody else put it on record, or it was moved, since it was read.
var ErrSettled = errors.New("settled by somebody else meanwhile")

var dues = newTable("dues", "", func(d *Due) []column {
	return []column{{"kind", &d.Kind}, {"object", &d.Object}, {"at", micros{&d.At}}}
})

// Dues returns what of these kinds is due now, the earliest first.
func (db *DB) Dues(ctx context.Context, kinds []string, limit int) ([]Due, error) {
	args := []any{toMicros(db.now())}
	for _, kind := range kinds {
		args = append(args, kind)
	}
	return dues.all(ctx, db.queryer, "WHERE at <= ? AND kind IN (?"+strings.Repeat(", ?", len(kinds)-1)+") ORDER BY at, kind, object LIMIT ?", append(args, page(limit))...)
}

// SetDue says when something falls due; the zero time: never. There is one time of
// a kind and an object.
func (tx *Tx) SetDue(ctx context.Context, kind, object string, at time.Time) error {
	query, args := "DELETE FROM dues WHERE kind = ? AND object = ?", []any{kind, object}
	if !at.IsZero() {
		query, args = dues.insert+" ON CONFLICT (kind, object) DO UPDATE SET at = excluded.at", append(args, toMicros(at))
	}
	if _, err := tx.exec(ctx, query, args...); err != nil {
		return fmt.Errorf("save to dues: %w", err)
	}
	return nil
}

// SettleDue takes what was due out of the list, in the change that puts it on
// record, or gives it another time. The error is ErrSettled when it is not as it
// was read. A change calls it after its reads: verbs lock what they change before
// they move what is due, and so must this.
func (tx *Tx) SettleDue(ctx context.Context, d Due, again time.Time) error {
	n, err := tx.exec(ctx, "DELETE FROM dues WHERE kind = ? AND object = ? AND at = ?", d.Kind, d.Object, toMicros(d.At))
	switch {
	case err != nil:
		return fmt.Errorf("remove from dues: %w", err)
	case n == 0:
		return ErrSettled
	case again.IsZero():
		return nil
	}
	return tx.SetDue(ctx, d.Kind, d.Object, again)
}

// PostponeDue is SettleDue where there is nothing to put on record.
func (db *DB) PostponeDue(ctx context.Context, d Due, again time.Time) error {
	return db.unaudited(ctx, func(tx *Tx) error { return tx.SettleDue(ctx, d, again) })
}

func (tx *Tx) setExpiry(ctx context.Context, r *access.Request) error {
	at := r.ExpiresAt
	if r.State != access.Pending {
		at = time.Time{}
	}
	return tx.SetDue(ctx, DueExpire, r.ID, at)
}

func (tx *Tx) setEnd(ctx context.Context, g *access.Grant) error {
	at := g.End
	if !g.EndedAt.IsZero() {
		at = time.Time{}
	}
	return tx.SetDue(ctx, DueEnd, g.ID, at)
}
