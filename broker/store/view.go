package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A View says what becomes of the view of a session's recording.
type View struct {
	SessionID string
	State     ViewState
	Version   int64  // of the view that was made, or tried
	Node      string // that makes it, or did
	Tries     int
	Error     string // of the last try
	ClosedAt  time.Time
	DueAt     time.Time // waiting: not before; making: another server may, from then on
	MadeAt    time.Time
}

// A ViewState is where the making of a view stands.
type ViewState string

// The states of a view.
const (
	ViewWaiting ViewState = "waiting"
	ViewMaking  ViewState = "making"
	ViewMade    ViewState = "made"
	ViewFailed  ViewState = "failed"  // often enough
	ViewRemoved ViewState = "removed" // with its recording
)

var views = newTable("views", "session_id", func(v *View) []column {
	return []column{
		{"session_id", &v.SessionID}, {"state", text[ViewState]{&v.State}}, {"version", &v.Version}, {"node", &v.Node},
		{"tries", count{&v.Tries}}, {"error", &v.Error}, {"closed_at", micros{&v.ClosedAt}}, {"due_at", micros{&v.DueAt}},
		{"made_at", micros{&v.MadeAt}},
	}
})

// View returns what becomes of the view of a session.
func (q queryer) View(ctx context.Context, sessionID string) (View, error) {
	return views.one(ctx, q, "WHERE session_id = ?"+q.lock(), sessionID)
}

// unviewed are sessions whose recording has no row in views. The recording is JSON,
// which is written in one way only.
const unviewed = `FROM sessions s WHERE s.state = 'closed' AND s.closed_at >= ? AND s.recording NOT LIKE '%"Name":""%'
	AND NOT EXISTS (SELECT 1 FROM views v WHERE v.session_id = s.id)`

// QueueViews has views made of the recordings of sessions that were closed since
// then and have none, and returns how many that are.
func (db *DB) QueueViews(ctx context.Context, since time.Time) (n int64, err error) {
	var any bool
	if err := db.row(ctx, "SELECT EXISTS (SELECT 1 "+unviewed+")", toMicros(since)).Scan(&any); err != nil {
		return 0, db.failed("read views", err)
	}
	if !any { // as nearly always: nothing is written then
		return 0, nil
	}
	err = db.unaudited(ctx, func(tx *Tx) error {
		n, err = tx.exec(ctx, `INSERT INTO views (session_id, state, version, node, tries, error, closed_at, due_at, made_at)
			SELECT s.id, 'waiting', 0, '', 0, '', s.closed_at, 0, 0 `+unviewed+` ON CONFLICT (session_id) DO NOTHING`, toMicros(since))
		return err
	})
	return n, err
}

// QueueOldViews has views made anew that are of an older version.
func (db *DB) QueueOldViews(ctx context.Context, version int64) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "UPDATE views SET state = 'waiting', tries = 0, error = '', due_at = 0 WHERE state IN ('made', 'failed') AND version < ?", version)
		return err
	})
}

// ReleaseViews gives back what this node was making when it stopped without saying
// so. Those tries count.
func (db *DB) ReleaseViews(ctx context.Context, node string) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "UPDATE views SET state = 'waiting', due_at = 0, error = 'the server stopped while it was made' WHERE state = 'making' AND node = ?", node)
		return err
	})
}

// AgainViews has views made anew, of one session or, without its id, of all or of
// those only that could not be made. It returns how many that are.
func (db *DB) AgainViews(ctx context.Context, sessionID string, onlyFailed bool) (n int64, err error) {
	clause, args := "", []any{}
	if sessionID != "" {
		clause, args = " AND session_id = ?", []any{sessionID}
	}
	states := "('made', 'failed', 'waiting')"
	if onlyFailed {
		states = "('failed')"
	}
	err = db.unaudited(ctx, func(tx *Tx) error {
		n, err = tx.exec(ctx, "UPDATE views SET state = 'waiting', tries = 0, error = '', due_at = 0 WHERE state IN "+states+clause, args...)
		return err
	})
	return n, err
}

// ClaimView gives this node a view to make, of the session that was closed last,
// until the lease is over; EndView ends it. One that was tried so often without an
// end is noted as failed. The error is access.ErrNotFound when nothing is due.
func (db *DB) ClaimView(ctx context.Context, node string, version int64, most int, lease time.Duration) (View, error) {
	var v View
	for {
		due := false
		if err := db.row(ctx, "SELECT EXISTS (SELECT 1 FROM views WHERE state IN ('waiting', 'making') AND due_at <= ?)", toMicros(db.now())).Scan(&due); err != nil {
			return v, db.failed("read views", err)
		}
		if !due {
			return v, access.ErrNotFound
		}
		err := db.unaudited(ctx, func(tx *Tx) (err error) {
			// One state at a time, so that the index gives the latest at once.
			for _, state := range []ViewState{ViewWaiting, ViewMaking} {
				v, err = views.one(ctx, tx.queryer, "WHERE state = ? AND due_at <= ? ORDER BY closed_at DESC LIMIT 1"+tx.lock(), string(state), toMicros(tx.now))
				if !errors.Is(err, access.ErrNotFound) {
					break
				}
			}
			if err != nil {
				return err
			}
			if v.State, v.Node, v.Version, v.DueAt = ViewMaking, node, version, tx.now.Add(lease); v.Tries >= most {
				v.State, v.Error = ViewFailed, "the server stopped while it was made"
			} else {
				v.Tries++
			}
			return tx.setView(ctx, &v)
		})
		if err != nil || v.State == ViewMaking {
			return v, err
		}
	}
}

// KeepView makes the lease longer. It is access.ErrNotFound when the view is not
// this node's to make any more.
func (db *DB) KeepView(ctx context.Context, v View, lease time.Duration) error {
	return db.ownView(ctx, v, func(tx *Tx, now *View) { now.DueAt = tx.now.Add(lease) })
}

// EndView saves how the making of a view ended, as end says. It is
// access.ErrNotFound when the view is not this node's to make any more: what was
// made may have to be removed then.
func (db *DB) EndView(ctx context.Context, v View, end func(*View)) error {
	return db.ownView(ctx, v, func(_ *Tx, now *View) { end(now) })
}

func (db *DB) ownView(ctx context.Context, v View, change func(tx *Tx, now *View)) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		now, err := views.one(ctx, tx.queryer, "WHERE session_id = ?"+tx.lock(), v.SessionID)
		if err != nil {
			return err
		}
		if now.State != ViewMaking || now.Node != v.Node || now.Tries != v.Tries {
			return access.ErrNotFound
		}
		change(tx, &now)
		return tx.setView(ctx, &now)
	})
}

func (tx *Tx) setView(ctx context.Context, v *View) error {
	_, err := tx.exec(ctx, "UPDATE views SET state = ?, version = ?, node = ?, tries = ?, error = ?, due_at = ?, made_at = ? WHERE session_id = ?",
		string(v.State), v.Version, v.Node, v.Tries, v.Error, toMicros(v.DueAt), toMicros(v.MadeAt), v.SessionID)
	if err != nil {
		return fmt.Errorf("save to views: %w", err)
	}
	return nil
}

// RemoveView notes that the recording of a session is gone, so that no view of it
// is made; the one that is being made is given up.
func (tx *Tx) RemoveView(ctx context.Context, s *access.Session) error {
	v := View{SessionID: s.ID, State: ViewRemoved, ClosedAt: s.ClosedAt}
	_, err := views.one(ctx, tx.queryer, "WHERE session_id = ?"+tx.lock(), s.ID)
	switch {
	case err == nil:
		return tx.setView(ctx, &v)
	case errors.Is(err, access.ErrNotFound):
		return views.add(ctx, tx, &v)
	default:
		return err
	}
}

// CountViews returns how many views wait to be made or are being made, and how
// many could not be.
func (db *DB) CountViews(ctx context.Context) (open, failed int64, err error) {
	err = db.row(ctx, "SELECT COUNT(*) FROM views WHERE state IN ('waiting', 'making')").Scan(&open)
	if err == nil {
		err = db.row(ctx, "SELECT COUNT(*) FROM views WHERE state = 'failed'").Scan(&failed)
	}
	if err != nil {
		return 0, 0, db.failed("count views", err)
	}
	return open, failed, nil
}

// FailedViews returns views whose last try failed, the latest sessions first. Some
// of them may be tried again.
func (q queryer) FailedViews(ctx context.Context, limit int) ([]View, error) {
	return views.all(ctx, q, "WHERE state IN ('failed', 'waiting') AND error <> '' ORDER BY closed_at DESC, session_id LIMIT ?", page(limit))
}
