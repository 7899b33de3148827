package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A Decision is what the policy was asked and answered when an event came of it.
type Decision struct {
	Seq    int64 // of the event
	At     time.Time
	ID     string
	Action string
	Input  string // JSON, byte for byte what was hashed
	Answer string // JSON
}

var decisions = newTable("decisions", "seq", func(d *Decision) []column {
	return []column{
		{"seq", &d.Seq}, {"at", micros{&d.At}}, {"id", &d.ID}, {"action", &d.Action}, {"input", &d.Input}, {"answer", &d.Answer},
	}
})

// Decided notes the decision that the event of this change came of, allowed or
// refused. It is kept with the event, which gets its id and the hashes of its input
// and answer. Of several the last counts.
func (tx *Tx) Decided(d Decision) { tx.decided = &d }

// nameDecision puts the decision into the event.
func (tx *Tx) nameDecision(e *audit.Event) {
	if tx.decided == nil {
		return
	}
	e.Details = maps.Clone(e.Details)
	if e.Details == nil {
		e.Details = map[string]string{}
	}
	e.Details["decision"], e.Details["input"], e.Details["answer"] = tx.decided.ID, hexSum(tx.decided.Input), hexSum(tx.decided.Answer)
}

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// addDecision keeps the decision of the event at seq.
func (tx *Tx) addDecision(ctx context.Context, seq int64) error {
	if tx.decided == nil {
		return nil
	}
	tx.decided.Seq, tx.decided.At = seq, tx.now
	return decisions.add(ctx, tx, tx.decided)
}

// A KeptDecision is a decision beside its event.
type KeptDecision struct {
	Decision
	Leaf []byte // the event; nil when there is none
}

// Decisions returns decisions before seq, the newest first, with their events.
func (db *DB) Decisions(ctx context.Context, before int64, limit int) ([]KeptDecision, error) {
	rows, err := db.rows(ctx, `SELECT d.seq, d.at, d.id, d.action, d.input, d.answer, l.leaf
		FROM decisions d LEFT JOIN audit_leaves l ON l.seq = d.seq WHERE d.seq < ? ORDER BY d.seq DESC LIMIT ?`, before, limit)
	if err != nil {
		return nil, db.failed("read decisions", err)
	}
	defer rows.Close()
	var list []KeptDecision
	for rows.Next() {
		var k KeptDecision
		if err := rows.Scan(append(pointers(decisions.columns(&k.Decision)), &k.Leaf)...); err != nil {
			return nil, db.failed("read decisions", err)
		}
		list = append(list, k)
	}
	if err := rows.Err(); err != nil {
		return nil, db.failed("read decisions", err)
	}
	return list, nil
}

// pruneStep bounds what one transaction removes.
const pruneStep = 1000

// PruneDecisions removes decisions that were made before a time, and of the others the
// oldest, so that at most so many are left. It removes some in one step and reports
// whether there are more.
func (db *DB) PruneDecisions(ctx context.Context, before time.Time, most int64) (more bool, err error) {
	// Whatever is at or below this is one too many.
	var excess int64
	if err := db.row(ctx, "SELECT COALESCE((SELECT seq FROM decisions ORDER BY seq DESC LIMIT 1 OFFSET ?), -1)", most).Scan(&excess); err != nil {
		return false, db.failed("read decisions", err)
	}
	var n int64
	err = db.unaudited(ctx, func(tx *Tx) error {
		n, err = tx.exec(ctx, `DELETE FROM decisions WHERE seq IN (SELECT seq FROM decisions ORDER BY seq LIMIT ?) AND (at < ? OR seq <= ?)`,
			pruneStep, toMicros(before), excess)
		return err
	})
	return n == pruneStep, err
}

// A PolicyServer says by which policy bundle a server decides.
type PolicyServer struct {
	Node     string
	Digest   string // of what decides; stands in each decision
	Content  string // digest of all files, tests included; "" for the one in the program
	Revision string // commit of the git checkout
	Signer   string
	Source   string
	LoadedAt time.Time
	SeenAt   time.Time // when the server last said so
	// Refused is why the bundle that is there now is not in force; "" when it is.
	Refused   string
	RefusedAt time.Time
}

var policyServers = newTable("policy_servers", "node", func(s *PolicyServer) []column {
	return []column{
		{"node", &s.Node}, {"digest", &s.Digest}, {"content", &s.Content}, {"revision", &s.Revision}, {"signer", &s.Signer}, {"source", &s.Source},
		{"loaded_at", micros{&s.LoadedAt}}, {"seen_at", micros{&s.SeenAt}}, {"refused", &s.Refused}, {"refused_at", micros{&s.RefusedAt}},
	}
})

// maxPolicyServers bounds what is read of them; there are a few.
const maxPolicyServers = 1000

// PolicyServers returns what the servers of this database decide by, by name.
func (q queryer) PolicyServers(ctx context.Context) ([]PolicyServer, error) {
	return policyServers.all(ctx, q, "ORDER BY node LIMIT ?", maxPolicyServers)
}

// PolicyServer returns what a server decides by, or access.ErrNotFound.
func (q queryer) PolicyServer(ctx context.Context, node string) (PolicyServer, error) {
	return policyServers.one(ctx, q, "WHERE node = ?", node)
}

// SetPolicyServer is SavePolicyServer for what is no news.
func (db *DB) SetPolicyServer(ctx context.Context, s *PolicyServer) error {
	return db.unaudited(ctx, func(tx *Tx) error { return tx.SavePolicyServer(ctx, s) })
}

// SavePolicyServer says what a server decides by.
func (tx *Tx) SavePolicyServer(ctx context.Context, s *PolicyServer) error {
	if _, err := tx.exec(ctx, "DELETE FROM policy_servers WHERE node = ?", s.Node); err != nil {
		return err
	}
	return policyServers.add(ctx, tx, s)
}

// SeePolicyServer notes that a server still decides by what it said last.
func (db *DB) SeePolicyServer(ctx context.Context, node string) error {
	return db.unaudited(ctx, func(tx *Tx) error {
		_, err := tx.exec(ctx, "UPDATE policy_servers SET seen_at = ? WHERE node = ?", toMicros(tx.now), node)
		return err
	})
}

// pageOfAll is how many are read at a time when all are wanted.
const pageOfAll = 1000

// EachUser calls fn with every user, by id, a page at a time.
func (db *DB) EachUser(ctx context.Context, fn func(access.User) error) error {
	return eachPage(ctx, db.queryer, users, fn, func(u *access.User) string { return u.ID })
}

// EachTarget calls fn with every target, by id, a page at a time.
func (db *DB) EachTarget(ctx context.Context, fn func(access.Target) error) error {
	return eachPage(ctx, db.queryer, targets, fn, func(t *access.Target) string { return t.ID })
}

func eachPage[T any](ctx context.Context, q queryer, t *table[T], fn func(T) error, id func(*T) string) error {
	for last := ""; ; {
		list, err := t.all(ctx, q, "WHERE id > ? ORDER BY id LIMIT ?", last, pageOfAll)
		if err != nil {
			return err
		}
		for _, v := range list {
			if err := fn(v); err != nil {
				return err
			}
		}
		if len(list) < pageOfAll {
			return nil
		}
		last = id(&list[len(list)-1])
	}
}
