package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Bounds on one look into the audit log by what no index is for: it is read in
// pieces, the newest first, until enough was found, or so much was looked through, or
// it has taken so long: then the answer says from where on to look further. One piece
// is always looked through.
const (
	trailPieces = 20
	trailWithin = 100 * time.Millisecond
	trailMost   = 200 // events of one answer
)

// A TrailFilter picks events of the audit log, the newest first. Zero fields do not
// limit.
type TrailFilter struct {
	Before         int64 // only events with a smaller sequence number
	Actor          string
	Action         string // exact; one that ends in .* is a prefix
	Object, Target string
	Request        string // its id or its grant's: what was done to it, its grant and its sessions
	Session        string
	Since, Until   time.Time
	Limit          int // default 50, at most 200
}

// indexed reports whether the database finds what is picked without looking through
// the log.
func (f *TrailFilter) indexed() bool { return f.Object != "" || f.Request != "" || f.Session != "" }

// whole reports whether every event is picked, from one on back.
func (f *TrailFilter) whole() bool {
	return *f == TrailFilter{Before: f.Before, Limit: f.Limit}
}

// A Trail is a page of the audit log.
type Trail struct {
	Events []audit.Event // the newest first
	// Doubtful are the numbers of those that are not what was signed, and of those that
	// stood between them and are gone. What no checkpoint covers yet is in no doubt.
	Doubtful []int64
	// Next is the Before of the next page; 0: there is nothing further back. What is
	// before it was not looked at, so that a page may be empty and still have a next.
	Next int64
}

// Trail returns a page of the audit log to who may read it.
func (b *Broker) Trail(ctx context.Context, by access.Caller, f TrailFilter) (Trail, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionAuditRead, by: by}, event(by, "audit.read", "")); err != nil {
		return Trail{}, err
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	limit := min(f.Limit, trailMost)
	leaves, err := b.leafFilter(ctx, f)
	if err != nil {
		return Trail{}, err
	}
	low, high, err := b.span(ctx, f)
	if err != nil {
		return Trail{}, err
	}
	signed, err := b.lastCheckpoint(ctx)
	if errors.Is(err, access.ErrUnavailable) {
		return Trail{}, err
	}
	hashes := remembered(b.c.Store.Hashes(ctx))
	out, begin := Trail{}, b.now()
	for piece := 1; high > low; piece++ {
		from := low
		if !f.indexed() {
			from = max(low, high-int64(b.c.TrailPiece))
		}
		leaves.From, leaves.To, leaves.Limit = from, high, limit-len(out.Events)
		page, err := b.c.Store.Leaves(ctx, leaves)
		if err != nil {
			return Trail{}, err
		}
		for _, leaf := range page {
			e, err := audit.Parse(leaf)
			if err != nil {
				return Trail{}, fmt.Errorf("the audit log is damaged: %w", err)
			}
			if n := len(out.Events); n > 0 && f.whole() {
				for seq := out.Events[n-1].Seq - 1; seq > e.Seq && len(out.Doubtful) < trailMost; seq-- {
					out.Doubtful = append(out.Doubtful, seq)
				}
			}
			proven, err := proven(signed, leaf, e.Seq, hashes)
			if err != nil {
				return Trail{}, err
			}
			if !proven {
				out.Doubtful = append(out.Doubtful, e.Seq)
			}
			out.Events = append(out.Events, e)
		}
		if len(out.Events) == limit {
			if last := out.Events[limit-1].Seq; last > low {
				out.Next = last
			}
			break
		}
		high = from
		if high > low && (piece == trailPieces || !f.indexed() && b.now().Sub(begin) > trailWithin) {
			out.Next = high
			break
		}
	}
	return out, nil
}

// proven reports whether an event is in the log that was signed; one that comes after
// it is taken as it is, and all are when there is no checkpoint that holds (LogState
// says so).
func proven(signed *audit.Checkpoint, leaf []byte, seq int64, hashes tlog.HashReader) (bool, error) {
	if signed == nil || seq >= signed.Size {
		return true, nil
	}
	proof, err := audit.ProveInclusion(signed.Size, seq, hashes)
	if errors.Is(err, access.ErrUnavailable) {
		return false, err
	}
	return err == nil && audit.CheckInclusion(*signed, leaf, proof) == nil, nil
}

// remembered reads each hash once: events that lie beside one another share most of
// their paths.
func remembered(r tlog.HashReader) tlog.HashReader {
	known := map[int64]tlog.Hash{}
	return tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		missing := slices.DeleteFunc(slices.Clone(at), func(i int64) bool { _, is := known[i]; return is })
		read, err := r.ReadHashes(missing)
		if err != nil {
			return nil, err
		}
		for i, h := range read {
			known[missing[i]] = h
		}
		out := make([]tlog.Hash, 0, len(at))
		for _, i := range at {
			out = append(out, known[i])
		}
		return out, nil
	})
}

// leafFilter is what the filter asks of the store, but for the span.
func (b *Broker) leafFilter(ctx context.Context, f TrailFilter) (store.LeafFilter, error) {
	out := store.LeafFilter{
		Actor: f.Actor, Action: f.Action, Object: f.Object, Target: f.Target, Session: f.Session, Since: f.Since, Until: f.Until, Newest: true,
	}
	if f.Actor != "" {
		u, err := b.c.Store.User(ctx, f.Actor)
		if err == nil {
			out.Actor = u.ID // a name will do
		} else if !errors.Is(err, access.ErrNotFound) {
			return out, err
		}
	}
	if f.Request == "" {
		return out, nil
	}
	c, err := b.caseOf(ctx, f.Request)
	if err != nil {
		return out, unknownRequest(err, f.Request)
	}
	out.Of = []string{c.Request.ID}
	if c.Grant == nil {
		return out, nil
	}
	out.Of = append(out.Of, c.Grant.ID)
	sessions, err := b.c.Store.Sessions(ctx, store.SessionFilter{Grant: c.Grant.ID, Limit: maxSessions})
	for _, s := range sessions {
		out.Of = append(out.Of, s.ID)
	}
	return out, err
}

// span is where in the log the events are that the filter picks: from low on, before
// high.
func (b *Broker) span(ctx context.Context, f TrailFilter) (low, high int64, err error) {
	if high, err = b.c.Store.AuditSize(ctx); err != nil {
		return 0, 0, err
	}
	if f.Before > 0 {
		high = min(high, f.Before)
	}
	if !f.Since.IsZero() {
		if low, err = b.c.Store.LeafAt(ctx, f.Since); err != nil {
			return 0, 0, err
		}
	}
	if !f.Until.IsZero() {
		end, err := b.c.Store.LeafAfter(ctx, f.Until)
		if err != nil {
			return 0, 0, err
		}
		high = min(high, end)
	}
	return low, high, nil
}

// A LogState says how far the audit log is signed, and whether it still is what was
// signed.
type LogState struct {
	Events     int64             // that there are
	Checkpoint *audit.Checkpoint // the newest in the database; nil: nothing was ever signed
	// Problem is what is wrong: the log or the checkpoint was changed, or the end of
	// the log was cut off. "": nothing.
	Problem string
}

// LogState compares the audit log with its newest checkpoint, for who may read it.
// It signs nothing.
func (b *Broker) LogState(ctx context.Context, by access.Caller) (LogState, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionAuditRead, by: by}, event(by, "audit.read", "checkpoint")); err != nil {
		return LogState{}, err
	}
	var s LogState
	signed, err := b.c.Store.LastCheckpoint(ctx)
	if err == nil {
		s.Checkpoint, _ = b.lastCheckpoint(ctx) // CheckLog says what is wrong with it
		err = b.CheckLog(ctx, signed.Message)
		if err != nil && !errors.Is(err, access.ErrUnavailable) && ctx.Err() == nil {
			s.Problem, err = err.Error(), nil
		}
	}
	if err != nil && !errors.Is(err, access.ErrNotFound) {
		return LogState{}, err
	}
	s.Events, err = b.c.Store.AuditSize(ctx)
	return s, err
}
