package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

var links = newTable("links", "account", func(l *access.Link) []column {
	return []column{
		{"kind", &l.Kind}, {"team", &l.Team}, {"account", &l.ID}, {"name", &l.Name},
		{"user_id", &l.UserID}, {"created_at", micros{&l.CreatedAt}},
	}
})

var linkCodes = newTable("link_codes", "hash", func(c *access.LinkCode) []column {
	return []column{
		{"hash", &c.Hash}, {"kind", &c.Kind}, {"team", &c.Team}, {"account", &c.ID}, {"name", &c.Name},
		{"expires_at", micros{&c.ExpiresAt}},
	}
})

var posts = newTable("posts", "subject", func(p *access.Post) []column {
	return []column{
		{"channel", &p.Channel}, {"subject", &p.Subject}, {"part", &p.Part}, {"place", &p.Place},
		{"room", &p.Room}, {"message", &p.Message}, {"shown", &p.Shown}, {"posted_at", micros{&p.PostedAt}},
	}
})

// Link returns whose the external account is.
func (q queryer) Link(ctx context.Context, a access.ExternalAccount) (access.Link, error) {
	return links.one(ctx, q, "WHERE kind = ? AND team = ? AND account = ?", a.Kind, a.Team, a.ID)
}

// LinksOf returns the links of a user.
func (q queryer) LinksOf(ctx context.Context, userID string) ([]access.Link, error) {
	return links.all(ctx, q, "WHERE user_id = ? ORDER BY created_at, kind, team, account", userID)
}

// linksAtOnce bounds the users that one statement asks about.
const linksAtOnce = 200

// LinksTo returns the links of these users in one workspace.
func (db *DB) LinksTo(ctx context.Context, kind, team string, userIDs []string) ([]access.Link, error) {
	var list []access.Link
	for len(userIDs) > 0 {
		n := min(len(userIDs), linksAtOnce)
		args := []any{kind, team}
		for _, id := range userIDs[:n] {
			args = append(args, id)
		}
		some, err := links.all(ctx, db.queryer, "WHERE kind = ? AND team = ? AND user_id IN (?"+strings.Repeat(", ?", n-1)+") ORDER BY user_id, account", args...)
		if err != nil {
			return nil, err
		}
		list, userIDs = append(list, some...), userIDs[n:]
	}
	return list, nil
}

// AddLink makes an external account a user's; one that is somebody's is
// access.ErrConflict.
func (tx *Tx) AddLink(ctx context.Context, l *access.Link) error { return links.add(ctx, tx, l) }

// RemoveLink forgets whose an external account is.
func (tx *Tx) RemoveLink(ctx context.Context, a access.ExternalAccount, userID string) error {
	return tx.remove(ctx, "DELETE FROM links WHERE kind = ? AND team = ? AND account = ? AND user_id = ?", a.Kind, a.Team, a.ID, userID)
}

// AddLinkCode keeps the code of an external account, in place of the one that it
// had.
func (tx *Tx) AddLinkCode(ctx context.Context, c *access.LinkCode) error {
	if _, err := tx.exec(ctx, "DELETE FROM link_codes WHERE kind = ? AND team = ? AND account = ?", c.Kind, c.Team, c.ID); err != nil {
		return err
	}
	return linkCodes.add(ctx, tx, c)
}

// LinkCode returns the code of that hash, if it is still good.
func (q queryer) LinkCode(ctx context.Context, hash string, now time.Time) (access.LinkCode, error) {
	return linkCodes.one(ctx, q, "WHERE hash = ? AND expires_at > ?", hash, toMicros(now))
}

// TakeLinkCode returns the code of that hash, if it is still good, and no second
// time.
func (tx *Tx) TakeLinkCode(ctx context.Context, hash string) (access.LinkCode, error) {
	var c access.LinkCode
	columns := linkCodes.columns(&c)
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	err := tx.row(ctx, "DELETE FROM link_codes WHERE hash = ? AND expires_at > ? RETURNING "+strings.Join(names, ", "), hash, toMicros(tx.now)).Scan(pointers(columns)...)
	if errors.Is(err, sql.ErrNoRows) {
		return c, access.ErrNotFound
	}
	if err != nil {
		return c, tx.failed("take the code of a link", err)
	}
	return c, nil
}

// Posts returns what a channel has posted about a subject, at most a thousand.
func (db *DB) Posts(ctx context.Context, channel, subject string) ([]access.Post, error) {
	return posts.all(ctx, db.queryer, "WHERE channel = ? AND subject = ? ORDER BY part, place LIMIT 1000", channel, subject)
}

// SavePost keeps where a message is and what it shows, in place of what was kept
// for its part and place.
func (db *DB) SavePost(ctx context.Context, p access.Post) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, posts.insert+` ON CONFLICT (channel, subject, part, place) DO UPDATE SET
			room = excluded.room, message = excluded.message, shown = excluded.shown, posted_at = excluded.posted_at`, values(posts.columns(&p))...)
		return err
	})
}

// RemovePost forgets a message, if it is still the one that is kept there.
func (db *DB) RemovePost(ctx context.Context, p access.Post) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "DELETE FROM posts WHERE channel = ? AND subject = ? AND part = ? AND place = ? AND message = ?",
			p.Channel, p.Subject, p.Part, p.Place, p.Message)
		return err
	})
}

// Used reports whether Once has remembered the hash.
func (db *DB) Used(ctx context.Context, hash string) (used bool, err error) {
	if err := db.row(ctx, "SELECT EXISTS (SELECT 1 FROM used_once WHERE hash = ?)", hash).Scan(&used); err != nil {
		return false, db.failed("read used_once", err)
	}
	return used, nil
}

// Once reports whether hash is used for the first time. It is remembered until
// then, on all servers and over a restart.
func (db *DB) Once(ctx context.Context, hash string, until time.Time) (bool, error) {
	var n int64
	err := db.unaudited(ctx, func(tx *Tx) error {
		var err error
		n, err = tx.exec(ctx, "INSERT INTO used_once (hash, expires_at) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING", hash, toMicros(until))
		return err
	})
	return n == 1, err
}

// keepPosts is how long it is known where a message is: longer than any grant
// that is told of in it.
const keepPosts = 180 * 24 * time.Hour

// PruneLinks forgets codes and uses that have expired, and messages of long ago.
func (db *DB) PruneLinks(ctx context.Context, now time.Time) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		for _, table := range []string{"link_codes", "used_once"} {
			if _, err := tx.exec(ctx, "DELETE FROM "+table+" WHERE expires_at < ?", toMicros(now)); err != nil {
				return err
			}
		}
		_, err := tx.exec(ctx, "DELETE FROM posts WHERE posted_at < ?", toMicros(now.Add(-keepPosts)))
		return err
	})
}
