package store

import (
	"context"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

var foundAccounts = newTable("found_accounts", "id", func(f *access.FoundAccount) []column {
	return []column{
		{"id", &f.ID}, {"target_id", &f.TargetID}, {"target_name", &f.TargetName}, {"name", &f.Name}, {"class", &f.Class}, {"risk", &f.Risk},
		{"owner_id", &f.OwnerID}, {"owner_name", &f.OwnerName}, {"declared", &f.Declared}, {"note", &f.Note},
		{"reasons", encoded{&f.Reasons}}, {"detail", &f.Detail},
		{"first_seen", micros{&f.FirstSeen}}, {"last_seen", micros{&f.LastSeen}}, {"gone_at", micros{&f.GoneAt}}, {"version", &f.Version},
	}
})

var targetScans = newTable("target_scans", "target_id", func(s *access.TargetScan) []column {
	return []column{
		{"target_id", &s.TargetID}, {"target_name", &s.TargetName}, {"node", &s.Node}, {"until_at", micros{&s.Until}}, {"next_at", micros{&s.NextAt}},
		{"tried_at", micros{&s.TriedAt}}, {"at", micros{&s.At}}, {"problem", &s.Problem}, {"accounts", &s.Accounts}, {"score", &s.Score},
		{"settings", encoded{&s.Settings}}, {"faults", &s.Faults}, {"ways", &s.Ways}, {"way_count", &s.WayCount},
		{"drift", encoded{&s.Drift}}, {"incomplete", encoded{&s.Incomplete}}, {"version", &s.Version},
	}
})

// AddFoundAccount adds an account that was found for the first time.
func (tx *Tx) AddFoundAccount(ctx context.Context, f *access.FoundAccount) error {
	return foundAccounts.add(ctx, tx, f)
}

// SaveFoundAccount saves an account that was found.
func (tx *Tx) SaveFoundAccount(ctx context.Context, f *access.FoundAccount) error {
	return foundAccounts.save(ctx, tx, f, &f.Version)
}

// FoundAccount returns an account that was found, by its id.
func (q queryer) FoundAccount(ctx context.Context, id string) (access.FoundAccount, error) {
	return foundAccounts.one(ctx, q, "WHERE id = ?"+q.lock(), id)
}

// FoundAccountOf returns an account that was found on a target, by its name.
func (q queryer) FoundAccountOf(ctx context.Context, targetID, name string) (access.FoundAccount, error) {
	return foundAccounts.one(ctx, q, "WHERE target_id = ? AND name = ?"+q.lock(), targetID, name)
}

// FoundOn returns the accounts of a target that were found there: of those that
// have gone the last thousand.
func (q queryer) FoundOn(ctx context.Context, targetID string) ([]access.FoundAccount, error) {
	return foundAccounts.all(ctx, q, "WHERE target_id = ? ORDER BY gone_at <> 0, gone_at DESC, name LIMIT ?", targetID, 2*access.MaxFound)
}

// A FoundFilter picks accounts that are there, the gravest first. Zero fields do not
// limit.
type FoundFilter struct {
	TargetID string
	Class    string
	Owner    string // by name
	Risk     int64  // this or a graver one
	Name     string // exactly
	// After is the account after which the page begins.
	After access.FoundAccount
	Limit int // default 50, at most 1000
}

// FoundAccounts returns one page of the accounts that were found.
func (q queryer) FoundAccounts(ctx context.Context, f FoundFilter) ([]access.FoundAccount, error) {
	clause, args := "WHERE gone_at = 0", []any{}
	for _, c := range []struct{ column, value string }{{"target_id", f.TargetID}, {"class", f.Class}, {"owner_name", f.Owner}, {"name", f.Name}} {
		if c.value != "" {
			clause, args = clause+" AND "+c.column+" = ?", append(args, c.value)
		}
	}
	if f.Risk > 0 {
		clause, args = clause+" AND risk <= ?", append(args, f.Risk)
	}
	if f.After.ID != "" {
		clause += " AND (risk, target_name, name) > (?, ?, ?)"
		args = append(args, f.After.Risk, f.After.TargetName, f.After.Name)
	}
	return foundAccounts.all(ctx, q, clause+" ORDER BY risk, target_name, name LIMIT ?", append(args, page(f.Limit))...)
}

// SeeAccounts notes that the accounts of a target that have not gone were seen.
func (tx *Tx) SeeAccounts(ctx context.Context, targetID string, at time.Time) error {
	_, err := tx.exec(ctx, "UPDATE found_accounts SET last_seen = ? WHERE target_id = ? AND gone_at = 0", toMicros(at), targetID)
	return err
}

// ForgetGone removes what had gone from a target by then.
func (tx *Tx) ForgetGone(ctx context.Context, targetID string, by time.Time) error {
	_, err := tx.exec(ctx, "DELETE FROM found_accounts WHERE target_id = ? AND gone_at <> 0 AND gone_at < ?", targetID, toMicros(by))
	return err
}

// AddTargetScan adds the row of a target that was not scanned before.
func (tx *Tx) AddTargetScan(ctx context.Context, s *access.TargetScan) error {
	return targetScans.add(ctx, tx, s)
}

// SaveTargetScan saves how a scan stands.
func (tx *Tx) SaveTargetScan(ctx context.Context, s *access.TargetScan) error {
	return targetScans.save(ctx, tx, s, &s.Version)
}

// TargetScan returns how the last scan of a target went, or access.ErrNotFound.
func (q queryer) TargetScan(ctx context.Context, targetID string) (access.TargetScan, error) {
	return targetScans.one(ctx, q, "WHERE target_id = ?"+q.lock(), targetID)
}

// TargetScans returns one page of scans by the names of their targets, behind that
// one.
func (q queryer) TargetScans(ctx context.Context, after string, limit int) ([]access.TargetScan, error) {
	return targetScans.all(ctx, q, "WHERE target_name > ? ORDER BY target_name LIMIT ?", after, page(limit))
}

// DueScans returns the ids of targets whose scan is due at t and that no server is at,
// those that have waited longest first.
func (q queryer) DueScans(ctx context.Context, t time.Time, limit int) ([]string, error) {
	scanned, args := scannable()
	return q.ids(ctx, `SELECT s.target_id FROM target_scans s JOIN targets t ON t.id = s.target_id
		WHERE s.next_at <> 0 AND s.next_at <= ? AND s.until_at <= ? AND `+scanned+` ORDER BY s.next_at LIMIT ?`, append(append([]any{toMicros(t), toMicros(t)}, args...), page(limit))...)
}

// Unplanned returns the ids of targets that can be scanned and for which no scan is
// planned.
func (q queryer) Unplanned(ctx context.Context, limit int) ([]string, error) {
	scanned, args := scannable()
	return q.ids(ctx, `SELECT t.id FROM targets t LEFT JOIN target_scans s ON s.target_id = t.id
		WHERE `+scanned+` AND (s.target_id IS NULL OR s.next_at = 0) ORDER BY t.id LIMIT ?`, append(args, page(limit))...)
}

// scannable is a condition on targets t: machines as which somebody scans, and systems of
// a kind that is scanned. Of these one without an account for it is told so each day.
func scannable() (condition string, args []any) {
	for _, kind := range access.ScannedKinds() {
		args = append(args, kind)
	}
	return "(t.provisioner <> '' OR t.scan_account <> '' OR t.kind IN (?" + strings.Repeat(", ?", len(args)-1) + "))", args
}

func (q queryer) ids(ctx context.Context, query string, args ...any) (ids []string, err error) {
	rows, err := q.rows(ctx, query, args...)
	if err != nil {
		return nil, q.failed("read ids", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, q.failed("read ids", err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, q.failed("read ids", err)
	}
	return ids, nil
}

// LoginsOn returns the logins of the accounts that exist on a target for a grant now,
// at most a thousand.
func (q queryer) LoginsOn(ctx context.Context, targetID string) ([]string, error) {
	return q.ids(ctx, "SELECT login FROM provisions WHERE target_id = ? AND state <> 'gone' LIMIT 1000", targetID)
}

// UsersNamed returns the users of these names that are there, by name.
func (q queryer) UsersNamed(ctx context.Context, names []string) (map[string]access.User, error) {
	rows, err := users.in(ctx, q, "name", names, "")
	byName := make(map[string]access.User, len(rows))
	for _, u := range rows {
		byName[u.Name] = u
	}
	return byName, err
}

// PublicKeysOf returns the registered keys of these fingerprints.
func (q queryer) PublicKeysOf(ctx context.Context, fingerprints []string) ([]access.PublicKey, error) {
	return publicKeys.in(ctx, q, "fingerprint", fingerprints, "")
}

// ScanTotals are figures of all scans, for measuring.
type ScanTotals struct {
	Scanned, Failed int64 // targets
	Ways            int64
	ByClass         map[string]int64 // accounts
	ByRisk          map[int64]int64
	WorstScore      int64 // -1: none is known
	MeanScore       float64
}

// ScanTotals counts what scans have found.
func (q queryer) ScanTotals(ctx context.Context) (t ScanTotals, err error) {
	t.ByClass, t.ByRisk = map[string]int64{}, map[int64]int64{}
	err = q.row(ctx, `SELECT COUNT(CASE WHEN at <> 0 THEN 1 END), COUNT(CASE WHEN problem <> '' THEN 1 END), COALESCE(SUM(way_count), 0),
		COALESCE(MIN(CASE WHEN score >= 0 THEN score END), -1), COALESCE(AVG(CASE WHEN score >= 0 THEN score * 1.0 END), -1) FROM target_scans`).
		Scan(&t.Scanned, &t.Failed, &t.Ways, &t.WorstScore, &t.MeanScore)
	if err != nil {
		return t, q.failed("count scans", err)
	}
	rows, err := q.rows(ctx, "SELECT class, risk, COUNT(*) FROM found_accounts WHERE gone_at = 0 GROUP BY class, risk")
	if err != nil {
		return t, q.failed("count accounts", err)
	}
	defer rows.Close()
	for rows.Next() {
		var class string
		var risk, n int64
		if err := rows.Scan(&class, &risk, &n); err != nil {
			return t, q.failed("count accounts", err)
		}
		t.ByClass[class] += n
		t.ByRisk[risk] += n
	}
	return t, rows.Err()
}
