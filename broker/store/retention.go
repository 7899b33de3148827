package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// sessionOf is the session that an object in the sink belongs to, by its name.
func sessionOf(name string) string {
	id, _, _ := strings.Cut(name, ".")
	return id
}

// PutHeader implements recorder.Headers. A session whose recording was deleted
// gets no header any more, so that nothing that is still being made of the
// recording outlives it.
func (db *DB) PutHeader(ctx context.Context, name string, header []byte) error {
	err := db.unaudited(ctx, func(tx *Tx) error {
		s, err := tx.Session(ctx, sessionOf(name)) // locked: it is not deleted meanwhile
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			return err
		}
		if !s.DeletedAt.IsZero() {
			return fmt.Errorf("the recording of %s was deleted", s.ID)
		}
		_, err = tx.exec(ctx, `INSERT INTO recording_headers (name, session_id, header, erased_at, tried_at) VALUES (?, ?, ?, 0, 0)
			ON CONFLICT (name) DO UPDATE SET header = excluded.header`, name, sessionOf(name), header)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep the header of %s: %w", name, err)
	}
	return nil
}

// Header implements recorder.Headers. Of an object that was erased there is an
// empty one.
func (db *DB) Header(ctx context.Context, name string) ([]byte, error) {
	var header []byte
	err := db.row(ctx, "SELECT header FROM recording_headers WHERE name = ?", name).Scan(&header)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("header of %s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, unavailable(fmt.Errorf("read the header of %s: %w", name, err))
	}
	return header, nil
}

// RemoveHeader implements recorder.Headers.
func (db *DB) RemoveHeader(ctx context.Context, name string) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "DELETE FROM recording_headers WHERE name = ?", name)
		return err
	})
}

// EraseRecording erases the headers of all objects of a session and returns how
// many there were; the text that is found of it goes, and no view of it is made any
// more. The objects stay in the list of those to be removed from the sink; the
// sealed recording is on it also when it has no header of its own.
func (tx *Tx) EraseRecording(ctx context.Context, s *access.Session) (int64, error) {
	now := toMicros(tx.now)
	n, err := tx.exec(ctx, "UPDATE recording_headers SET header = ?, erased_at = ?, tried_at = 0 WHERE session_id = ? AND erased_at = 0", []byte{}, now, s.ID)
	if err != nil {
		return 0, fmt.Errorf("erase recording: %w", err)
	}
	if err := tx.DeleteText(ctx, s.ID); err != nil {
		return 0, err
	}
	if err := tx.RemoveView(ctx, s); err != nil {
		return 0, err
	}
	if _, err := tx.exec(ctx, `INSERT INTO recording_headers (name, session_id, header, erased_at, tried_at) VALUES (?, ?, ?, ?, 0)
		ON CONFLICT (name) DO NOTHING`, s.Recording.Name, s.ID, []byte{}, now); err != nil {
		return 0, fmt.Errorf("erase recording: %w", err)
	}
	return n, nil
}

// ErasedObjects returns names of erased objects that may still be in the sink and
// were not tried to be removed since a time, those first that have waited longest.
func (db *DB) ErasedObjects(ctx context.Context, since time.Time, limit int) ([]string, error) {
	return db.listed(ctx, "SELECT name FROM recording_headers WHERE erased_at <> 0 AND tried_at <= ? ORDER BY tried_at, name LIMIT ?", toMicros(since), page(limit))
}

// ObjectTried notes that an erased object could not be removed now.
func (db *DB) ObjectTried(ctx context.Context, name string) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "UPDATE recording_headers SET tried_at = ? WHERE name = ? AND erased_at <> 0", toMicros(tx.now), name)
		return err
	})
}

// listed returns the one column of text that a query selects.
func (q queryer) listed(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := q.rows(ctx, query, args...)
	if err != nil {
		return nil, q.failed("read", err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, q.failed("read", err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		return nil, q.failed("read", err)
	}
	return list, nil
}

// ForgetErased overwrites what SQLite keeps of deleted rows outside its pages:
// its log of changes. (In the pages they are overwritten when they are deleted.)
// It fails while somebody reads. For PostgreSQL it does nothing: there, the rows
// are gone when it has vacuumed the table and let its log go.
func (db *DB) ForgetErased(ctx context.Context) error {
	if db.postgres {
		return nil
	}
	var busy, pages, moved int64
	if err := db.write.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
		return unavailable(err)
	}
	if busy != 0 {
		return unavailable(errors.New("the database's log of changes is being read"))
	}
	return nil
}

// A Kept is a place in the list of recordings that are kept, oldest first.
type Kept struct {
	ClosedAt time.Time
	ID       string
}

// KeptRecordings returns closed sessions that have a recording which is not
// deleted and is not under a hold, behind the given place, of those closed until
// a time, oldest first.
func (db *DB) KeptRecordings(ctx context.Context, after Kept, until time.Time, limit int) ([]access.Session, error) {
	return sessions.all(ctx, db.queryer, `WHERE state = 'closed' AND deleted_at = 0 AND closed_at <= ? AND (closed_at, id) > (?, ?)
		AND NOT EXISTS (SELECT 1 FROM held_sessions WHERE held_sessions.session_id = sessions.id)
		ORDER BY closed_at, id LIMIT ?`, toMicros(until), toMicros(after.ClosedAt), after.ID, page(limit))
}

// DeletedRecordings returns those of the sessions whose recording is deleted, at
// most 500 being asked about.
func (db *DB) DeletedRecordings(ctx context.Context, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	return db.listed(ctx, "SELECT id FROM sessions WHERE deleted_at <> 0 AND id IN (?"+strings.Repeat(", ?", len(ids)-1)+")", args...)
}

// Retention returns the rules.
func (q queryer) Retention(ctx context.Context) (access.Retention, error) {
	return retention.one(ctx, q, "WHERE id = 1"+q.lock())
}

// SaveRetention saves the rules that were read in the same change.
func (tx *Tx) SaveRetention(ctx context.Context, r *access.Retention) error {
	n, err := tx.exec(ctx, "UPDATE retention SET rules = ?, version = version + 1 WHERE id = 1 AND version = ?", encoded{&r.Rules}, r.Version)
	if err != nil {
		return fmt.Errorf("save to retention: %w", err)
	}
	if n != 1 {
		return errStale
	}
	r.Version++
	return nil
}

// There is one row of it.
var retention = newTable("retention", "", func(r *access.Retention) []column {
	return []column{{"rules", encoded{&r.Rules}}, {"version", &r.Version}}
})

var holds = newTable("holds", "id", func(h *access.Hold) []column {
	return []column{
		{"id", &h.ID}, {"reason", &h.Reason}, {"by_id", &h.ByID}, {"by_name", &h.ByName},
		{"placed_at", micros{&h.PlacedAt}}, {"version", &h.Version},
	}
})

// AddHold puts sessions under a new hold.
func (tx *Tx) AddHold(ctx context.Context, h *access.Hold, sessionIDs []string) error {
	if err := holds.add(ctx, tx, h); err != nil {
		return err
	}
	for _, id := range sessionIDs {
		if _, err := tx.exec(ctx, "INSERT INTO held_sessions (session_id, hold_id) VALUES (?, ?)", id, h.ID); err != nil {
			return fmt.Errorf("add to held_sessions: %w", err)
		}
	}
	return nil
}

// RemoveHold lifts a hold.
func (tx *Tx) RemoveHold(ctx context.Context, id string) error {
	if _, err := tx.exec(ctx, "DELETE FROM held_sessions WHERE hold_id = ?", id); err != nil {
		return err
	}
	return tx.remove(ctx, "DELETE FROM holds WHERE id = ?", id)
}

// Hold returns the hold of that id.
func (q queryer) Hold(ctx context.Context, id string) (access.Hold, error) {
	return holds.one(ctx, q, "WHERE id = ?"+q.lock(), id)
}

// Holds returns all holds, the newest first, at most 1000.
func (q queryer) Holds(ctx context.Context) ([]access.Hold, error) {
	return holds.all(ctx, q, "ORDER BY placed_at DESC, id LIMIT 1000")
}

// HoldsOf returns the holds that a session is under.
func (q queryer) HoldsOf(ctx context.Context, sessionID string) ([]access.Hold, error) {
	return holds.all(ctx, q, "WHERE id IN (SELECT hold_id FROM held_sessions WHERE session_id = ?) ORDER BY placed_at, id", sessionID)
}

// HeldSessions returns the ids of the sessions under a hold, in order.
func (q queryer) HeldSessions(ctx context.Context, holdID string) ([]string, error) {
	return q.listed(ctx, "SELECT session_id FROM held_sessions WHERE hold_id = ? ORDER BY session_id", holdID)
}

// HeldSessionsOf returns the ids of a user's sessions under a hold.
func (q queryer) HeldSessionsOf(ctx context.Context, holdID, userID string) ([]string, error) {
	return q.listed(ctx, "SELECT session_id FROM held_sessions WHERE hold_id = ? AND session_id IN (SELECT id FROM sessions WHERE user_id = ?)", holdID, userID)
}

// A Proposal is what one person has asked for that takes two.
type Proposal struct {
	Subject string // what it is about: a session, a hold, the rules of retention
	Digest  string // of what is to become of it
	ByID    string
	ByName  string
	Reason  string
	MadeAt  time.Time
}

var proposals = newTable("proposals", "subject", func(p *Proposal) []column {
	return []column{
		{"subject", &p.Subject}, {"digest", &p.Digest}, {"by_id", &p.ByID}, {"by_name", &p.ByName},
		{"reason", &p.Reason}, {"made_at", micros{&p.MadeAt}},
	}
})

// Proposal returns the proposal about a subject, or access.ErrNotFound.
func (q queryer) Proposal(ctx context.Context, subject string) (Proposal, error) {
	return proposals.one(ctx, q, "WHERE subject = ?"+q.lock(), subject)
}

// Propose keeps a proposal in the place of the one about the same subject.
func (tx *Tx) Propose(ctx context.Context, p *Proposal) error {
	if err := tx.Settle(ctx, p.Subject); err != nil {
		return err
	}
	return proposals.add(ctx, tx, p)
}

// Settle removes the proposal about a subject, if there is one.
func (tx *Tx) Settle(ctx context.Context, subject string) error {
	_, err := tx.exec(ctx, "DELETE FROM proposals WHERE subject = ?", subject)
	return err
}
