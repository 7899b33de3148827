package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// sign signs the head of the audit log and keeps the checkpoint.
func (b *Broker) sign(ctx context.Context) ([]byte, error) {
	// The tree must still be an extension of the last signed one: whoever
	// rolled the database back or rewrote it gets no signature for it. The last
	// one is read first, because others may sign at the same time.
	last, err := b.lastCheckpoint(ctx)
	if err != nil {
		return nil, err
	}
	size, err := b.c.Store.AuditSize(ctx)
	if err != nil {
		return nil, err
	}
	hashes := b.c.Store.Hashes(ctx)
	if last != nil {
		if size < last.Size {
			return nil, fmt.Errorf("the audit log has %d events, but %d were signed at %s", size, last.Size, last.Time.UTC().Format(time.RFC3339))
		}
		if root, err := audit.TreeRoot(last.Size, hashes); err != nil {
			return nil, err
		} else if root != last.Root {
			return nil, fmt.Errorf("the first %d events of the audit log are not those that were signed at %s", last.Size, last.Time.UTC().Format(time.RFC3339))
		}
	}
	root, err := audit.TreeRoot(size, hashes)
	if err != nil {
		return nil, err
	}
	at := b.now().Truncate(time.Microsecond)
	message, err := audit.Checkpoint{Origin: b.c.Signer.Name(), Size: size, Root: root, Time: at}.Sign(b.c.Signer)
	if err != nil {
		return nil, err
	}
	if err := b.c.Store.SaveCheckpoint(ctx, store.SignedCheckpoint{Size: size, Message: message}, at); err != nil {
		return nil, err
	}
	if b.c.KeepCheckpoint != nil {
		if err := b.c.KeepCheckpoint(message); err != nil {
			return nil, fmt.Errorf("keep the checkpoint outside the database: %w", err)
		}
	}
	return message, nil
}

func (b *Broker) lastCheckpoint(ctx context.Context) (*audit.Checkpoint, error) {
	last, err := b.c.Store.LastCheckpoint(ctx)
	if errors.Is(err, access.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := audit.OpenCheckpoint(last.Message, b.c.Verifier)
	return &c, err
}

// CheckLog reports whether the audit log still holds what a checkpoint says
// that was kept elsewhere. A server does it before it serves.
func (b *Broker) CheckLog(ctx context.Context, kept []byte) error {
	c, err := audit.OpenCheckpoint(kept, b.c.Verifier)
	if err != nil {
		return err
	}
	size, err := b.c.Store.AuditSize(ctx)
	if err != nil {
		return err
	}
	if size < c.Size {
		return fmt.Errorf("the audit log has %d events, but a checkpoint of %s covers %d: the database was rolled back or its end was cut off", size, c.Time.UTC().Format(time.RFC3339), c.Size)
	}
	root, err := audit.TreeRoot(c.Size, b.c.Store.Hashes(ctx))
	if err != nil {
		return err
	}
	if root != c.Root {
		return fmt.Errorf("the first %d events of the audit log are not those of the checkpoint of %s: the log was rewritten", c.Size, c.Time.UTC().Format(time.RFC3339))
	}
	return nil
}

// An EventFilter picks events of the audit log. Zero fields do not limit.
type EventFilter struct {
	After                         int64 // the sequence number to begin with
	Actor, Action, Object, Target string
	Session                       string
	Since, Until                  time.Time
	Newest                        bool
	Limit                         int // default 100, at most 1000
}

// Events returns events of the audit log.
func (b *Broker) Events(ctx context.Context, by access.Caller, f EventFilter) ([]audit.Event, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionAuditRead, by: by}, event(by, "audit.read", "")); err != nil {
		return nil, err
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	if f.Actor != "" {
		if u, err := b.c.Store.User(ctx, f.Actor); err == nil {
			f.Actor = u.ID // a name will do
		} else if !errors.Is(err, access.ErrNotFound) {
			return nil, err
		}
	}
	leaves, err := b.c.Store.Leaves(ctx, store.LeafFilter{
		From: f.After, Actor: f.Actor, Action: f.Action, Object: f.Object, Target: f.Target, Session: f.Session,
		Since: f.Since, Until: f.Until, Newest: f.Newest, Limit: min(f.Limit, 1000),
	})
	if err != nil {
		return nil, err
	}
	events := make([]audit.Event, 0, len(leaves))
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		if err != nil {
			return nil, fmt.Errorf("the audit log is damaged: %w", err)
		}
		events = append(events, e)
	}
	return events, nil
}

// Checkpoint signs and returns the head of the audit log as it is now.
func (b *Broker) Checkpoint(ctx context.Context, by access.Caller) ([]byte, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionAuditRead, by: by}, event(by, "audit.read", "checkpoint")); err != nil {
		return nil, err
	}
	return b.sign(ctx)
}

// ExportAudit writes the whole audit log with its checkpoints, ending with one
// that is signed now. Exporting is an event of its own, and in the export.
func (b *Broker) ExportAudit(ctx context.Context, by access.Caller, w io.Writer) error {
	e := event(by, "audit.export", "")
	if _, err := b.allow(ctx, question{action: policy.ActionAuditExport, by: by}, e); err != nil {
		return err
	}
	if err := b.c.Store.Record(ctx, e); err != nil {
		return err
	}
	message, err := b.sign(ctx)
	if err != nil {
		return err
	}
	last, err := audit.OpenCheckpoint(message, b.c.Verifier)
	if err != nil {
		return err
	}
	return b.export(ctx, w, last.Size)
}

func (b *Broker) export(ctx context.Context, w io.Writer, size int64) error {
	x := audit.NewWriter(w, b.c.Signer.Name())
	hashes := b.c.Store.Hashes(ctx)
	// A checkpoint belongs right behind the events that it covers.
	checkpoints, err := b.c.Store.Checkpoints(ctx, -1, size, 1000)
	if err != nil {
		return err
	}
	position := int64(0)
	for {
		if len(checkpoints) > 0 && checkpoints[0].Size == position {
			c := checkpoints[0]
			if err := x.Checkpoint(c.Message); err != nil {
				return err
			}
			if checkpoints = checkpoints[1:]; len(checkpoints) == 0 {
				if checkpoints, err = b.c.Store.Checkpoints(ctx, c.Size, size, 1000); err != nil {
					return err
				}
			}
		}
		if position == size {
			return x.Close()
		}
		end := size
		if len(checkpoints) > 0 {
			end = checkpoints[0].Size
		}
		leaves, err := b.c.Store.Leaves(ctx, store.LeafFilter{From: position, To: end, Limit: 1000})
		if err != nil {
			return err
		}
		if len(leaves) == 0 {
			return fmt.Errorf("the audit log has no event %d", position)
		}
		at := make([]int64, len(leaves))
		for i := range leaves {
			at[i] = tlog.StoredHashIndex(0, position+int64(i))
		}
		stored, err := hashes.ReadHashes(at)
		if err != nil {
			return err
		}
		for i, leaf := range leaves {
			if err := x.Event(leaf, stored[i]); err != nil {
				return err
			}
		}
		position += int64(len(leaves))
	}
}

// A Proof shows that events are in the audit log, by the path from each to a
// signed checkpoint.
type Proof struct {
	ProvenEvent
	Deletion   *ProvenEvent // of the recording, when it is deleted
	Checkpoint []byte
}

// A ProvenEvent is one event of the audit log: the leaf, its place, and the path to
// the checkpoint.
type ProvenEvent struct {
	Leaf      []byte
	Seq       int64
	Inclusion tlog.RecordProof
}

// Proof proves the event of a session that carries the hash of its recording,
// to who may replay it: the closing one, or that of a recording which was
// sealed later. When the recording is deleted, it proves that as well.
func (b *Broker) Proof(ctx context.Context, by access.Caller, sessionID string) (Proof, error) {
	var p Proof
	s, err := b.replay(ctx, by, sessionID, "verify", true)
	if err != nil {
		return p, err
	}
	leaves, err := b.c.Store.Leaves(ctx, store.LeafFilter{Session: s.ID, Action: "session.seal", Limit: 1})
	if err == nil && len(leaves) == 0 {
		leaves, err = b.c.Store.Leaves(ctx, store.LeafFilter{Session: s.ID, Action: "session.close", Limit: 1})
	}
	if err == nil && len(leaves) == 0 {
		err = fmt.Errorf("the closing event of %s is not in the audit log", s.ID)
	}
	if err != nil {
		return p, err
	}
	e, err := audit.Parse(leaves[0])
	if err != nil {
		return p, err
	}
	p.Leaf, p.Seq = leaves[0], e.Seq
	if !s.DeletedAt.IsZero() {
		leaf, deletion, err := b.deletionOf(ctx, &s)
		if err != nil {
			return p, err
		}
		p.Deletion = &ProvenEvent{Leaf: leaf, Seq: deletion.Seq}
	}
	if p.Checkpoint, err = b.sign(ctx); err != nil {
		return p, err
	}
	head, err := audit.OpenCheckpoint(p.Checkpoint, b.c.Verifier)
	if err != nil {
		return p, err
	}
	for _, proven := range []*ProvenEvent{&p.ProvenEvent, p.Deletion} {
		if proven == nil {
			continue
		}
		if proven.Inclusion, err = audit.ProveInclusion(head.Size, proven.Seq, b.c.Store.Hashes(ctx)); err != nil {
			return p, err
		}
	}
	return p, nil
}
