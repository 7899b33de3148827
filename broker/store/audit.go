package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

const (
	moveHead   = "UPDATE audit_head SET size = ? WHERE id = 1 AND size = ?"
	insertLeaf = "INSERT INTO audit_leaves (seq, time, actor, action, object, target, session, leaf) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
	insertHash = "INSERT INTO audit_hashes (position, hash) VALUES (?, ?)"
)

// append writes the events, their leaves and hashes at the end of the log. The
// head moves by compare and swap, so that two writers can never fork the log.
func (tx *Tx) append(ctx context.Context, events []audit.Event) error {
	lock := ""
	if tx.db.postgres {
		lock = " FOR UPDATE"
	}
	var size int64
	if err := tx.row(ctx, "SELECT size FROM audit_head WHERE id = 1"+lock).Scan(&size); err != nil {
		return err
	}
	was := size
	// The hashes of this transaction, which later events of it build on.
	fresh := map[int64]tlog.Hash{}
	read := tlog.HashReaderFunc(func(positions []int64) ([]tlog.Hash, error) {
		return readHashes(ctx, tx.queryer, positions, fresh)
	})
	for _, e := range events {
		e.Seq = size
		if e.Time.IsZero() {
			e.Time = tx.now
		}
		leaf, err := e.Marshal()
		if err != nil {
			return err
		}
		hashes, err := audit.Append(size, leaf, read)
		if err != nil {
			return err
		}
		if _, err := tx.exec(ctx, insertLeaf, e.Seq, toMicros(e.Time), e.Actor, e.Action, e.Object, e.Target, e.Session, leaf); err != nil {
			return err
		}
		first := tlog.StoredHashIndex(0, size)
		for i, h := range hashes {
			fresh[first+int64(i)] = h
			if _, err := tx.exec(ctx, insertHash, first+int64(i), h[:]); err != nil {
				return err
			}
		}
		size++
	}
	n, err := tx.exec(ctx, moveHead, size, was)
	if err != nil {
		return err
	}
	if n != 1 {
		return errStale
	}
	return nil
}

func readHashes(ctx context.Context, q queryer, positions []int64, fresh map[int64]tlog.Hash) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(positions))
	for i, position := range positions {
		if h, ok := fresh[position]; ok {
			hashes[i] = h
			continue
		}
		var b []byte
		if err := q.row(ctx, "SELECT hash FROM audit_hashes WHERE position = ?", position).Scan(&b); err != nil {
			return nil, fmt.Errorf("read the audit hash at %d: %w", position, err)
		}
		if len(b) != tlog.HashSize {
			return nil, fmt.Errorf("the audit hash at %d has %d bytes", position, len(b))
		}
		hashes[i] = tlog.Hash(b)
	}
	return hashes, nil
}

// Hashes reads the stored hashes of the audit log's tree.
func (db *DB) Hashes(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(positions []int64) ([]tlog.Hash, error) {
		return readHashes(ctx, db.queryer, positions, nil)
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
	Newest         bool // newest first
	Limit          int  // 0 is 100, at most 10,000
}

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
		// Byte order: '/' is the character after '.'.
		add("action >= ?", prefix+".")
		add("action < ?", prefix+"/")
	} else if f.Action != "" {
		add("action = ?", f.Action)
	}
	for _, c := range []struct{ column, value string }{
		{"actor", f.Actor}, {"object", f.Object}, {"target", f.Target}, {"session", f.Session},
	} {
		if c.value != "" {
			add(c.column+" = ?", c.value)
		}
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
