package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

const (
	readHead   = "SELECT size, edge, time FROM audit_head WHERE id = 1"
	moveHead   = "UPDATE audit_head SET size = ?, edge = ?, time = ? WHERE id = 1 AND size = ?"
	insertLeaf = "INSERT INTO audit_leaves (seq, time, actor, action, object, target, session, hashes, leaf) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

// clockTolerance is how far behind the last event the clock of a server may be:
// more than servers that share a database may differ, and less than anything
// that a grant's length would notice.
const clockTolerance = time.Minute

// checkClock refuses a change while the clock stands before the last event: it
// was set back, and every deadline would move with it.
func (tx *Tx) checkClock(last time.Time) error {
	if tx.clockAccepted || !tx.now.Before(last.Add(-clockTolerance)) {
		return nil
	}
	return &access.Error{Kind: access.ErrUnavailable, Code: "DB-5003", Rule: "clock.back",
		Text: fmt.Sprintf("the clock of the server stands at %s, before the last event at %s; nothing is changed until it is right", tx.now.Format(time.RFC3339), last.Format(time.RFC3339)),
		Next: "set the clock, or (if it was ahead before) drawboltd serve --accept-clock"}
}

// AcceptClock takes the clock as right although it stands before the last
// event, which is for the operator to say. The event tells who did.
func (db *DB) AcceptClock(ctx context.Context, e audit.Event) error {
	return db.Change(ctx, func(tx *Tx) (audit.Event, error) {
		tx.clockAccepted = true
		return e, nil
	})
}

// append writes the events and their hashes at the end of the log, and returns the
// position of the first. The head is
// locked from here to the commit and moves by compare and swap, so that two
// writers can never fork the log.
func (tx *Tx) append(ctx context.Context, events []audit.Event) (first int64, err error) {
	var size int64
	var edge []byte
	var last time.Time
	if err := tx.row(ctx, readHead+tx.lock()).Scan(&size, &edge, micros{&last}); err != nil {
		return 0, err
	}
	if err := tx.checkClock(last); err != nil {
		return 0, err
	}
	if len(edge) != bits.OnesCount64(uint64(size))*tlog.HashSize {
		return 0, fmt.Errorf("the head of the audit log has %d events and an edge of %d bytes", size, len(edge))
	}
	was := size
	for _, e := range events {
		e.Seq = size
		if e.Time.IsZero() {
			e.Time = tx.now
		}
		leaf, err := e.Marshal()
		if err != nil {
			return 0, err
		}
		var hashes []byte
		hashes, edge = grow(size, edge, audit.LeafHash(leaf))
		if _, err := tx.exec(ctx, insertLeaf, e.Seq, toMicros(e.Time), e.Actor, e.Action, e.Object, e.Target, e.Session, hashes, leaf); err != nil {
			return 0, err
		}
		size++
	}
	if tx.clockAccepted || last.Before(tx.now) {
		last = tx.now
	}
	n, err := tx.exec(ctx, moveHead, size, edge, toMicros(last), was)
	if err != nil {
		return 0, err
	}
	if n != 1 {
		return 0, errStale
	}
	return was, nil
}

// grow adds a leaf to a tree of which it has the size and the right edge. It
// returns the hashes to keep with the leaf, as tlog.StoredHashes does, and the
// new edge.
func grow(size int64, edge []byte, h tlog.Hash) (hashes, grown []byte) {
	hashes = append(hashes, h[:]...)
	for n := size; n&1 == 1; n >>= 1 { // each is a full subtree that h completes
		end := len(edge) - tlog.HashSize
		h = tlog.NodeHash(tlog.Hash(edge[end:]), h)
		hashes, edge = append(hashes, h[:]...), edge[:end]
	}
	return hashes, append(edge, h[:]...)
}

func (q queryer) hash(ctx context.Context, position int64) (tlog.Hash, error) {
	level, n := tlog.SplitStoredHashIndex(position)
	seq := (n+1)<<level - 1 // the leaf that completed the subtree
	var b []byte
	err := q.row(ctx, "SELECT hashes FROM audit_leaves WHERE seq = ?", seq).Scan(&b)
	if errors.Is(err, sql.ErrNoRows) {
		return tlog.Hash{}, fmt.Errorf("the audit log has no event %d", seq) // it is damaged, and not away
	}
	if err != nil {
		return tlog.Hash{}, unavailable(fmt.Errorf("read the hashes of event %d: %w", seq, err))
	}
	start := level * tlog.HashSize
	if len(b) < start+tlog.HashSize {
		return tlog.Hash{}, fmt.Errorf("event %d has %d bytes of hashes", seq, len(b))
	}
	return tlog.Hash(b[start : start+tlog.HashSize]), nil
}

// Hashes reads the stored hashes of the audit log's tree.
func (db *DB) Hashes(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(positions []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(positions))
		for i, position := range positions {
			h, err := db.hash(ctx, position)
			if err != nil {
				return nil, err
			}
			hashes[i] = h
		}
		return hashes, nil
	})
}

// AuditSize is the number of events in the log.
func (db *DB) AuditSize(ctx context.Context) (int64, error) {
	var n int64
	if err := db.row(ctx, "SELECT size FROM audit_head WHERE id = 1").Scan(&n); err != nil {
		return 0, unavailable(err)
	}
	return n, nil
}

// A LeafFilter picks leaves of the audit log. Zero fields do not limit.
type LeafFilter struct {
	From, To       int64 // sequence numbers, To exclusive; To 0 is the end
	Since, Until   time.Time
	Actor, Action  string // exact; an action ending in .* matches its prefix
	Object, Target string
	Session        string
	Of             []string // ids, of any of which it is the object or the session; at most 64
	Newest         bool     // newest first
	Limit          int      // 0 is 100, at most 10,000
}

const maxOf = 64

// Leaves returns the canonical leaves that match, in order.
func (db *DB) Leaves(ctx context.Context, f LeafFilter) ([][]byte, error) {
	where := []string{"seq >= ?"}
	args := []any{f.From}
	add := func(clause string, arg any) { where, args = append(where, clause), append(args, arg) }
	if f.To > 0 {
		add("seq < ?", f.To)
	}
	if !f.Since.IsZero() {
		add("time >= ?", toMicros(f.Since))
	}
	if !f.Until.IsZero() {
		add("time < ?", toMicros(f.Until))
	}
	if prefix, ok := strings.CutSuffix(f.Action, ".*"); ok {
		// No comparison by order and no LIKE: they differ between the engines
		// and with the collation of the database.
		prefix += "."
		where, args = append(where, "substr(action, 1, ?) = ?"), append(args, len(prefix), prefix)
	} else if f.Action != "" {
		add("action = ?", f.Action)
	}
	for _, c := range []struct{ column, value string }{{"actor", f.Actor}, {"target", f.Target}} {
		if c.value != "" {
			add(c.column+" = ?", c.value)
		}
	}
	for _, c := range []struct{ column, value string }{{"object", f.Object}, {"session", f.Session}} {
		if c.value != "" {
			add(c.column+" <> '' AND "+c.column+" = ?", c.value) // both, for the partial index
		}
	}
	if len(f.Of) > 0 {
		marks, ids := list(f.Of[:min(len(f.Of), maxOf)])
		where = append(where, "(object <> '' AND object IN "+marks+" OR session <> '' AND session IN "+marks+")")
		args = append(append(args, ids...), ids...)
	}
	order := "seq"
	if f.Newest {
		order = "seq DESC"
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	args = append(args, min(f.Limit, 10_000))
	rows, err := db.rows(ctx, "SELECT leaf FROM audit_leaves WHERE "+strings.Join(where, " AND ")+" ORDER BY "+order+" LIMIT ?", args...)
	if err != nil {
		return nil, unavailable(err)
	}
	defer rows.Close()
	var leaves [][]byte
	for rows.Next() {
		var leaf []byte
		if err := rows.Scan(&leaf); err != nil {
			return nil, unavailable(err)
		}
		leaves = append(leaves, leaf)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable(err)
	}
	return leaves, nil
}

// Leaf returns the leaf at seq.
func (db *DB) Leaf(ctx context.Context, seq int64) ([]byte, error) {
	leaves, err := db.Leaves(ctx, LeafFilter{From: seq, To: seq + 1, Limit: 1})
	if err == nil && len(leaves) == 0 {
		err = access.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return leaves[0], nil
}

// LastLogin returns the leaf of the newest login of a user, or access.ErrNotFound.
func (db *DB) LastLogin(ctx context.Context, userID string) ([]byte, error) {
	var leaf []byte
	// The action stands in the query, for the partial index.
	err := db.row(ctx, "SELECT leaf FROM audit_leaves WHERE action = 'login' AND actor = ? ORDER BY seq DESC LIMIT 1", userID).Scan(&leaf)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, access.ErrNotFound
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return leaf, nil
}

// LeafAt is the sequence number of the first event that is surely not later than
// any event since t: servers' clocks may differ by clockTolerance.
func (db *DB) LeafAt(ctx context.Context, t time.Time) (int64, error) {
	return db.leafFrom(ctx, t.Add(-2*clockTolerance))
}

// LeafAfter is the sequence number of an event from which on surely none is
// earlier than t, or the size of the log.
func (db *DB) LeafAfter(ctx context.Context, t time.Time) (int64, error) {
	return db.leafFrom(ctx, t.Add(2*clockTolerance))
}

// leafFrom finds the first event at or after t, as if the clock had never gone back.
func (db *DB) leafFrom(ctx context.Context, t time.Time) (int64, error) {
	low, high := int64(0), int64(0)
	if err := db.row(ctx, "SELECT size FROM audit_head WHERE id = 1").Scan(&high); err != nil {
		return 0, unavailable(err)
	}
	for low < high {
		middle := (low + high) / 2
		var at time.Time
		if err := db.row(ctx, "SELECT time FROM audit_leaves WHERE seq = ?", middle).Scan(micros{&at}); err != nil {
			return 0, unavailable(err)
		}
		if at.Before(t) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// A SignedCheckpoint is a checkpoint as it was signed.
type SignedCheckpoint struct {
	Size    int64
	Message []byte
}

// SaveCheckpoint keeps a signed checkpoint; a later one of the same size takes
// the place of the older.
func (db *DB) SaveCheckpoint(ctx context.Context, c SignedCheckpoint, at time.Time) error {
	_, err := db.write.ExecContext(ctx, db.bind("INSERT INTO audit_checkpoints (size, time, message) VALUES (?, ?, ?) ON CONFLICT (size) DO UPDATE SET time = excluded.time, message = excluded.message"),
		c.Size, toMicros(at), c.Message)
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// LastCheckpoint returns the newest checkpoint, or access.ErrNotFound.
func (db *DB) LastCheckpoint(ctx context.Context) (SignedCheckpoint, error) {
	var c SignedCheckpoint
	err := db.row(ctx, "SELECT size, message FROM audit_checkpoints ORDER BY size DESC LIMIT 1").Scan(&c.Size, &c.Message)
	if errors.Is(err, sql.ErrNoRows) {
		return c, access.ErrNotFound
	}
	if err != nil {
		return c, unavailable(err)
	}
	return c, nil
}

// Checkpoints returns up to limit checkpoints whose size is in (after, to], in
// order.
func (db *DB) Checkpoints(ctx context.Context, after, to int64, limit int) ([]SignedCheckpoint, error) {
	rows, err := db.rows(ctx, "SELECT size, message FROM audit_checkpoints WHERE size > ? AND size <= ? ORDER BY size LIMIT ?", after, to, limit)
	if err != nil {
		return nil, unavailable(err)
	}
	defer rows.Close()
	var list []SignedCheckpoint
	for rows.Next() {
		var c SignedCheckpoint
		if err := rows.Scan(&c.Size, &c.Message); err != nil {
			return nil, unavailable(err)
		}
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		return nil, unavailable(err)
	}
	return list, nil
}
