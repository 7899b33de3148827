package broker

import (
	"context"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A RecordingCheck is what a server found when it verified a recording: its
// word, and no proof for who does not trust it.
type RecordingCheck struct {
	At      time.Time // zero: never
	By      string    // name of who asked for it
	Whole   bool
	Finding string // what is wrong, when it is not whole
}

// Checked writes down what the verification of a recording found, which Replay
// or Proof has allowed. A finding of "" says that it is whole.
func (b *Broker) Checked(ctx context.Context, by access.Caller, s access.Session, finding string) error {
	e := event(by, "session.verify", s.ID)
	e.Request, e.Grant, e.Session, e.Target, e.Account = s.RequestID, s.GrantID, s.ID, s.TargetName, s.Account
	detail(&e, "recording_sha256", s.Recording.SHA256)
	if finding != "" {
		e.Outcome, e.Reason = audit.Failed, audit.Clean(finding, audit.MaxReason)
	}
	return b.c.Store.Record(ctx, e)
}

// LastCheck returns what the last verification by a server found, to who may
// know of the session.
func (b *Broker) LastCheck(ctx context.Context, by access.Caller, id string) (RecordingCheck, error) {
	s, e, err := b.knownSession(ctx, by, id, "session.read")
	if err != nil {
		return RecordingCheck{}, b.refused(ctx, e, err)
	}
	leaves, err := b.c.Store.Leaves(ctx, store.LeafFilter{Session: s.ID, Action: "session.verify", Newest: true, Limit: 1})
	if err != nil || len(leaves) == 0 {
		return RecordingCheck{}, err
	}
	last, err := audit.Parse(leaves[0])
	if err != nil {
		return RecordingCheck{}, err
	}
	return RecordingCheck{At: last.Time, By: last.ActorName, Whole: last.Outcome == audit.Done, Finding: last.Reason}, nil
}
