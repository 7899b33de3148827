package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A Channel says how far a channel has told of the audit log, and which server
// tells now: the holder of the lease, until it is over.
type Channel struct {
	Name      string
	Type      string
	Position  int64 // of the next event
	Node      string
	Token     int64 // grows with each holder of the lease
	Until     time.Time
	Tries     int       // of the notice at Position that failed; 0: none
	Next      time.Time // not before
	Error     string    // the last one
	ErrorAt   time.Time
	SuccessAt time.Time
}

// A Notice was stepped over by its channel, because it failed while others did not.
type Notice struct {
	Channel  string
	Position int64  // of its event
	Action   string // of its event
	State    NoticeState
	Tries    int
	Since    time.Time // its day begins
	Next     time.Time // late: not before
	Error    string    // of the last try
}

// A NoticeState says what becomes of a notice that was stepped over.
type NoticeState string

// The states of a notice.
const (
	NoticeLate  NoticeState = "late"  // is tried again
	NoticeAside NoticeState = "aside" // was refused for good, or has failed for a day
	NoticeDone  NoticeState = "done"  // is not kept
)

var channels = newTable("channels", "name", func(c *Channel) []column {
	return []column{
		{"name", &c.Name}, {"type", &c.Type}, {"position", &c.Position}, {"node", &c.Node}, {"token", &c.Token}, {"until_at", micros{&c.Until}},
		{"tries", count{&c.Tries}}, {"next_at", micros{&c.Next}}, {"error", &c.Error}, {"error_at", micros{&c.ErrorAt}}, {"success_at", micros{&c.SuccessAt}},
	}
})

var notices = newTable("notices", "", func(n *Notice) []column {
	return []column{
		{"channel", &n.Channel}, {"position", &n.Position}, {"action", &n.Action}, {"state", text[NoticeState]{&n.State}},
		{"tries", count{&n.Tries}}, {"since_at", micros{&n.Since}}, {"next_at", micros{&n.Next}}, {"error", &n.Error},
	}
})

// Channels returns all channels that have ever told of anything, by name.
func (q queryer) Channels(ctx context.Context) ([]Channel, error) {
	return channels.all(ctx, q, "ORDER BY name LIMIT 1000")
}

// Channel returns the channel of that name.
func (q queryer) Channel(ctx context.Context, name string) (Channel, error) {
	return channels.one(ctx, q, "WHERE name = ?"+q.lock(), name)
}

// ClaimChannel gives this node the lease of a channel. The error is
// access.ErrConflict while another has it. A channel that is new begins at the end
// of the log.
func (db *DB) ClaimChannel(ctx context.Context, name, kind, node string, lease time.Duration) (Channel, error) {
	var c Channel
	size, err := db.AuditSize(ctx)
	if err != nil {
		return c, err
	}
	err = db.unaudited(ctx, func(tx *Tx) (err error) {
		fresh := Channel{Name: name, Type: kind, Position: size}
		if _, err := tx.exec(ctx, channels.insert+" ON CONFLICT (name) DO NOTHING", values(channels.columns(&fresh))...); err != nil {
			return err
		}
		if c, err = tx.Channel(ctx, name); err != nil {
			return err
		}
		if c.Node != node && tx.now.Before(c.Until) {
			return fmt.Errorf("%s tells now: %w", c.Node, access.ErrConflict)
		}
		c.Type, c.Node, c.Until, c.Token = kind, node, tx.now.Add(lease), c.Token+1
		_, err = tx.exec(ctx, "UPDATE channels SET type = ?, node = ?, until_at = ?, token = ? WHERE name = ?", c.Type, c.Node, toMicros(c.Until), c.Token, name)
		return err
	})
	return c, err
}

// SaveChannel saves how far the holder of the lease has come, with the notices that
// it has stepped over, tried again or done, in one transaction. The error is
// access.ErrConflict when the lease is another's by now: then nothing is saved.
func (db *DB) SaveChannel(ctx context.Context, c Channel, over ...Notice) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, "UPDATE channels SET position = ?, until_at = ?, tries = ?, next_at = ?, error = ?, error_at = ?, success_at = ? WHERE name = ? AND token = ?",
			c.Position, toMicros(c.Until), c.Tries, toMicros(c.Next), c.Error, toMicros(c.ErrorAt), toMicros(c.SuccessAt), c.Name, c.Token)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("another server tells now: %w", access.ErrConflict)
		}
		for _, o := range over {
			if _, err := tx.exec(ctx, "DELETE FROM notices WHERE channel = ? AND position = ?", c.Name, o.Position); err != nil {
				return err
			}
			if o.State == NoticeDone {
				continue
			}
			if err := notices.add(ctx, tx, &o); err != nil {
				return err
			}
		}
		return nil
	})
}

// LateNotices returns notices of a channel that are to be tried again, the first
// ones first; those of after t, too.
func (q queryer) LateNotices(ctx context.Context, channel string, limit int) ([]Notice, error) {
	return notices.all(ctx, q, "WHERE channel = ? AND state = 'late' ORDER BY next_at, position LIMIT ?", channel, page(limit))
}

// NoticesAside returns notices of a channel that are tried no more, the newest
// first.
func (q queryer) NoticesAside(ctx context.Context, channel string, limit int) ([]Notice, error) {
	return notices.all(ctx, q, "WHERE channel = ? AND state = 'aside' ORDER BY position DESC LIMIT ?", channel, page(limit))
}

// CountNotices returns how many notices of a channel were stepped over.
func (q queryer) CountNotices(ctx context.Context, channel string) (late, aside int64, err error) {
	err = q.row(ctx, "SELECT COUNT(CASE WHEN state = 'late' THEN 1 END), COUNT(CASE WHEN state = 'aside' THEN 1 END) FROM notices WHERE channel = ?", channel).Scan(&late, &aside)
	if err != nil {
		return 0, 0, q.failed("count notices", err)
	}
	return late, aside, nil
}

// RetryNotices has those notices of a channel tried again that were set aside, for
// another day, and the one at which it stands tried at once. It returns how many.
func (tx *Tx) RetryNotices(ctx context.Context, channel string) (int64, error) {
	if _, err := tx.exec(ctx, "UPDATE channels SET next_at = 0 WHERE name = ?", channel); err != nil {
		return 0, err
	}
	if _, err := tx.exec(ctx, "UPDATE notices SET next_at = 0 WHERE channel = ? AND state = 'late'", channel); err != nil {
		return 0, err
	}
	return tx.exec(ctx, "UPDATE notices SET state = 'late', tries = 0, since_at = ?, next_at = 0 WHERE channel = ? AND state = 'aside'", toMicros(tx.now), channel)
}

// Members returns people of any of these groups who are neither locked nor bots, by
// name.
func (q queryer) Members(ctx context.Context, groups []string, limit int) ([]access.User, error) {
	if len(groups) == 0 {
		return nil, nil
	}
	var args []any
	for _, group := range groups {
		args = append(args, `%"`+group+`"%`) // as it stands in the JSON; an underscore stands for any character, which is looked at below
	}
	list, err := users.all(ctx, q, "WHERE (groups LIKE ?"+strings.Repeat(" OR groups LIKE ?", len(groups)-1)+") AND NOT locked AND NOT bot ORDER BY name LIMIT ?", append(args, page(limit))...)
	return slices.DeleteFunc(list, func(u access.User) bool { return !slices.ContainsFunc(groups, u.In) }), err
}
