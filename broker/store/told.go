package store

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// sourcesAtMost is how many requests, and how many sessions, of a user SourcesOf
// looks at: the newest.
const sourcesAtMost = 200

// SourcesOf returns the addresses from which a user was let in until t: those of
// their newest approved requests and of their newest sessions.
func (q queryer) SourcesOf(ctx context.Context, userID string, t time.Time) ([]string, error) {
	rows, err := q.rows(ctx, `SELECT source FROM (SELECT source FROM requests WHERE requester_id = ? AND created_at <= ? AND state = 'approved' AND source <> '' ORDER BY created_at DESC LIMIT ?) AS asked
		UNION SELECT source FROM (SELECT source FROM sessions WHERE user_id = ? AND opened_at <= ? AND source <> '' ORDER BY opened_at DESC LIMIT ?) AS opened`,
		userID, toMicros(t), sourcesAtMost, userID, toMicros(t), sourcesAtMost)
	if err != nil {
		return nil, q.failed("read sources", err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, q.failed("read sources", err)
		}
		list = append(list, s)
	}
	return list, q.failedIf("read sources", rows.Err())
}

// GrantUse returns what sessions have made of a grant.
func (q queryer) GrantUse(ctx context.Context, grantID string) (u access.GrantUse, err error) {
	var known int64
	err = q.row(ctx, `SELECT COUNT(*), COUNT(CASE WHEN s.state <> 'closed' THEN 1 END), COALESCE(MIN(CASE WHEN s.state <> 'closed' THEN s.id END), ''),
		COUNT(CASE WHEN t.whole AND t.commands >= 0 THEN 1 END), COALESCE(SUM(t.commands), 0)
		FROM sessions s LEFT JOIN text_sessions t ON t.session_id = s.id WHERE s.grant_id = ?`, grantID).Scan(&u.Sessions, &u.Running, &u.First, &known, &u.Commands)
	if err != nil {
		return u, q.failed("read the use of a grant", err)
	}
	if known < u.Sessions {
		u.Commands = -1
	}
	return u, nil
}

// An AdmittedCount says how often somebody was let into an account without anybody's approval.
type AdmittedCount struct {
	User, Account, Target string
	Times                 int64
}

const admitted = " FROM requests WHERE created_at >= ? AND created_at < ? AND state = 'approved' AND needs IN ('null', '[]') AND NOT break_glass"

// Admitted counts the requests from one moment until before another that the policy
// has approved without asking anybody, and returns for whom and for what it was done
// most often.
func (q queryer) Admitted(ctx context.Context, from, until time.Time, limit int) (total, people int64, most []AdmittedCount, err error) {
	args := []any{toMicros(from), toMicros(until)}
	if err := q.row(ctx, "SELECT COUNT(*), COUNT(DISTINCT requester_id)"+admitted, args...).Scan(&total, &people); err != nil || total == 0 {
		return 0, 0, nil, q.failedIf("count requests", err)
	}
	rows, err := q.rows(ctx, "SELECT requester_name, account, target_name, COUNT(*)"+admitted+
		" GROUP BY requester_name, account, target_name ORDER BY 4 DESC, 1, 2, 3 LIMIT ?", append(args, page(limit))...)
	if err != nil {
		return 0, 0, nil, q.failed("count requests", err)
	}
	defer rows.Close()
	for rows.Next() {
		var c AdmittedCount
		if err := rows.Scan(&c.User, &c.Account, &c.Target, &c.Times); err != nil {
			return 0, 0, nil, q.failed("count requests", err)
		}
		most = append(most, c)
	}
	return total, people, most, q.failedIf("count requests", rows.Err())
}

// EnsureDue says when something falls due, unless that is said already.
func (db *DB) EnsureDue(ctx context.Context, d Due) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, dues.insert+" ON CONFLICT (kind, object) DO NOTHING", values(dues.columns(&d))...)
		return err
	})
}
