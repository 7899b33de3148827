package audit

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// A Hash is a SHA-256 hash of a leaf or of a node of the tree.
type Hash = tlog.Hash

// A HashReader reads stored hashes by their index, see tlog.StoredHashIndex.
type HashReader = tlog.HashReader

// LeafHash returns the hash of a leaf, SHA-256(0x00 || leaf) (RFC 6962, section 2.1).
func LeafHash(leaf []byte) Hash { return tlog.RecordHash(leaf) }

// Append returns the hashes to store for the leaf that makes a log of size
// leaves one longer: the first belongs at tlog.StoredHashIndex(0, size), the
// others right behind it; the first is LeafHash(leaf). It reads at most log2(size)
// hashes from r. A leaf whose seq is not size is refused.
func Append(size int64, leaf []byte, r HashReader) ([]Hash, error) {
	e, err := Parse(leaf)
	if err != nil {
		return nil, fmt.Errorf("append to audit log: %w", err)
	}
	if e.Seq != size {
		return nil, fmt.Errorf("append to audit log: event has seq %d, the log has %d events", e.Seq, size)
	}
	hashes, err := tlog.StoredHashes(size, leaf, r)
	if err != nil {
		return nil, fmt.Errorf("append to audit log: %w", err)
	}
	return hashes, nil
}

// TreeRoot returns the root of the tree of the first size leaves.
func TreeRoot(size int64, r HashReader) (Hash, error) {
	if size < 0 || size > maxSize {
		return Hash{}, fmt.Errorf("audit tree root: size %d is out of range", size)
	}
	h, err := tlog.TreeHash(size, r)
	if err != nil {
		return Hash{}, fmt.Errorf("audit tree root: %w", err)
	}
	return h, nil
}

// ProveInclusion returns the proof that leaf index is in the tree of size leaves.
func ProveInclusion(size, index int64, r HashReader) (tlog.RecordProof, error) {
	if size > maxSize {
		return nil, fmt.Errorf("prove inclusion: size %d is out of range", size)
	}
	p, err := tlog.ProveRecord(size, index, r)
	if err != nil {
		return nil, fmt.Errorf("prove inclusion: %w", err)
	}
	return p, nil
}

// CheckInclusion reports whether p proves that this very leaf stands in the log
// that c covers, at the position its own seq names. It takes the leaf and not a
// hash, so that a valid proof of another entry cannot pass (CVE-2026-22703).
// c must come from OpenCheckpoint.
func CheckInclusion(c Checkpoint, leaf []byte, p tlog.RecordProof) error {
	e, err := Parse(leaf)
	if err != nil {
		return fmt.Errorf("check inclusion: %w", err)
	}
	if c.Size > maxSize {
		return fmt.Errorf("check inclusion: size %d is out of range", c.Size)
	}
	if err := tlog.CheckRecord(p, c.Size, c.Root, e.Seq, LeafHash(leaf)); err != nil {
		return fmt.Errorf("check inclusion of event %d: %w", e.Seq, err)
	}
	return nil
}

// ProveConsistency returns the proof that the tree of older leaves is the
// beginning of the tree of newer leaves. For equal sizes and for an empty older
// tree it is empty.
func ProveConsistency(older, newer int64, r HashReader) (tlog.TreeProof, error) {
	if older < 0 || older > newer || newer > maxSize {
		return nil, fmt.Errorf("prove consistency: sizes %d and %d are out of range", older, newer)
	}
	if older == 0 {
		return nil, nil
	}
	p, err := tlog.ProveTree(newer, older, r)
	if err != nil {
		return nil, fmt.Errorf("prove consistency: %w", err)
	}
	return p, nil
}

// ErrFork means that two signed checkpoints cannot belong to one history.
var ErrFork = errors.New("the checkpoints belong to different histories")

// CheckConsistency reports whether p proves that the log older covers is the
// beginning of the log newer covers. Both must come from OpenCheckpoint. It
// returns ErrFork when no proof could help: two roots for one size.
func CheckConsistency(older, newer Checkpoint, p tlog.TreeProof) error {
	switch {
	case older.Origin != newer.Origin:
		return fmt.Errorf("check consistency: origins %q and %q differ", older.Origin, newer.Origin)
	case older.Size < 0 || older.Size > newer.Size || newer.Size > maxSize:
		return fmt.Errorf("check consistency: sizes %d and %d are out of range", older.Size, newer.Size)
	case older.Size == newer.Size && older.Root != newer.Root:
		return fmt.Errorf("check consistency: two roots for %d events: %w", older.Size, ErrFork)
	case older.Size == newer.Size || older.Size == 0:
		if len(p) != 0 {
			return errors.New("check consistency: a proof where none is needed")
		}
		return nil
	}
	if err := tlog.CheckTree(p, newer.Size, newer.Root, older.Size, older.Root); err != nil {
		return fmt.Errorf("check consistency of %d with %d events: %w", older.Size, newer.Size, err)
	}
	return nil
}

// An edge is the right edge of a growing tree: the roots of its full subtrees,
// largest first. It is all that the root and further leaves depend on.
type edge struct {
	size int64
	full []Hash
}

func (t *edge) add(h Hash) {
	// Each trailing one bit of the size is a full subtree that h completes.
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.full) - 1
		h = tlog.NodeHash(t.full[last], h)
		t.full = t.full[:last]
	}
	t.full = append(t.full, h)
	t.size++
}

func (t *edge) root() Hash {
	if t.size == 0 {
		h, _ := tlog.TreeHash(0, nil) // the empty tree reads nothing and cannot fail
		return h
	}
	h := t.full[len(t.full)-1]
	for i := len(t.full) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.full[i], h)
	}
	return h
}
