package store

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

var windows = newTable("windows", "id", func(w *access.Window) []column {
	return []column{
		{"id", &w.ID}, {"kind", text[access.WindowKind]{&w.Kind}}, {"reason", &w.Reason}, {"targets", encoded{&w.Targets}},
		{"from_at", micros{&w.From}}, {"to_at", micros{&w.To}},
		{"hours", &w.Hours}, {"weekdays", encoded{&w.Weekdays}}, {"time_zone", &w.TimeZone},
		{"by_id", &w.ByID}, {"by_name", &w.ByName}, {"created_at", micros{&w.CreatedAt}}, {"version", &w.Version},
	}
})

var networks = newTable("networks", "name", func(n *access.Network) []column {
	return []column{{"name", &n.Name}, {"ranges", encoded{&n.Ranges}}, {"version", &n.Version}}
})

// Window returns the window of that id.
func (q queryer) Window(ctx context.Context, id string) (access.Window, error) {
	return windows.one(ctx, q, "WHERE id = ?"+q.lock(), id)
}

// Windows returns those that are not over at t, the first to begin first, and at
// most limit.
func (q queryer) Windows(ctx context.Context, t time.Time, limit int) ([]access.Window, error) {
	return windows.all(ctx, q, "WHERE to_at = 0 OR to_at > ? ORDER BY from_at, id LIMIT ?", toMicros(t), limit)
}

// AddWindow adds a window and raises the policy data's generation.
func (tx *Tx) AddWindow(ctx context.Context, w *access.Window) error {
	if err := windows.add(ctx, tx, w); err != nil {
		return err
	}
	return tx.raiseGeneration(ctx)
}

// RemoveWindow removes a window and raises the policy data's generation.
func (tx *Tx) RemoveWindow(ctx context.Context, id string) error {
	if err := tx.remove(ctx, "DELETE FROM windows WHERE id = ?", id); err != nil {
		return err
	}
	return tx.raiseGeneration(ctx)
}

// Network returns the network of that name.
func (q queryer) Network(ctx context.Context, name string) (access.Network, error) {
	return networks.one(ctx, q, "WHERE name = ?"+q.lock(), name)
}

// Networks returns all that have names, by name, at most limit.
func (q queryer) Networks(ctx context.Context, limit int) ([]access.Network, error) {
	return networks.all(ctx, q, "ORDER BY name LIMIT ?", limit)
}

// AddNetwork adds a network and raises the policy data's generation.
func (tx *Tx) AddNetwork(ctx context.Context, n *access.Network) error {
	if err := networks.add(ctx, tx, n); err != nil {
		return err
	}
	return tx.raiseGeneration(ctx)
}

// SaveNetwork saves a network and raises the policy data's generation.
func (tx *Tx) SaveNetwork(ctx context.Context, n *access.Network) error {
	if err := networks.save(ctx, tx, n, &n.Version); err != nil {
		return err
	}
	return tx.raiseGeneration(ctx)
}

// RemoveNetwork removes a network and raises the policy data's generation.
func (tx *Tx) RemoveNetwork(ctx context.Context, name string) error {
	if err := tx.remove(ctx, "DELETE FROM networks WHERE name = ?", name); err != nil {
		return err
	}
	return tx.raiseGeneration(ctx)
}

// UnderTicket returns the ids of those who have made requests under the ticket
// since a time, and of those who have approved one, other than the request of
// that id; at most limit of each.
func (q queryer) UnderTicket(ctx context.Context, ticket, otherThan string, since time.Time, limit int) (requesters, approvers []string, err error) {
	const under = "ticket <> '' AND ticket = ? AND created_at > ? AND id <> ?" // the first for the index
	args := []any{ticket, toMicros(since), otherThan, limit}
	requesters, err = q.listed(ctx, "SELECT DISTINCT requester_id FROM requests WHERE "+under+" ORDER BY requester_id LIMIT ?", args...)
	if err == nil {
		approvers, err = q.listed(ctx, "SELECT DISTINCT user_id FROM approvals WHERE request_id IN (SELECT id FROM requests WHERE "+under+") ORDER BY user_id LIMIT ?", args...)
	}
	return requesters, approvers, err
}
