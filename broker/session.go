package broker

import (
	"context"
	"errors"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A SessionFilter picks sessions, newest first.
type SessionFilter struct {
	Live         bool
	Target, User string // names
	Batch        string // of the requests
	Before       string // id of the last session of the page before
	Limit        int    // default 50, at most 200
}

// Sessions lists the caller's own sessions and, when one of their roles lets them
// list those of others, what the policy lets them see of these.
func (b *Broker) Sessions(ctx context.Context, by access.Caller, f SessionFilter) ([]access.Session, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionSessionList, by: by, owner: by.User.ID}, event(by, "session.list", "")); err != nil {
		return nil, err
	}
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 200)
	sf := store.SessionFilter{Live: f.Live, Batch: f.Batch, Before: f.Before, Limit: f.Limit}
	if f.Target != "" {
		t, err := b.c.Store.Target(ctx, f.Target)
		if err != nil {
			return nil, unknownTarget(err, f.Target)
		}
		sf.Target = t.ID
	}
	if f.User != "" {
		u, err := b.c.Store.User(ctx, f.User)
		if err != nil {
			return nil, unknownUser(err, f.User)
		}
		sf.User = u.ID
	}
	if !b.reach(by).Any(policy.ActionSessionList) {
		if sf.User != "" && sf.User != by.User.ID {
			return nil, nil
		}
		sf.User = by.User.ID
	}
	var list []access.Session
	for looked := 0; looked < maxSieved && len(list) < f.Limit; looked += sf.Limit {
		page, err := b.c.Store.Sessions(ctx, sf)
		if err != nil {
			return nil, err
		}
		ids := make([]string, len(page))
		for i := range page {
			ids[i] = page[i].TargetID
		}
		targets, err := b.c.Store.TargetsByID(ctx, distinct(ids))
		if err != nil {
			return nil, err
		}
		for _, s := range page {
			t := targetIn(targets, s.TargetID, s.TargetName)
			_, err := b.decideNow(ctx, question{action: policy.ActionSessionList, by: by, target: &t, account: s.Account, owner: s.UserID})
			if errors.Is(err, access.ErrDenied) {
				continue
			} else if err != nil {
				return nil, err
			}
			if len(list) < f.Limit {
				list = append(list, s)
			}
		}
		if len(page) < sf.Limit {
			break
		}
		sf.Before = page[len(page)-1].ID
	}
	return list, nil
}

func (b *Broker) maySession(ctx context.Context, by access.Caller, action policy.Action, s *access.Session) error {
	t, err := targetOrRemoved(ctx, b.c.Store, s.TargetID, s.TargetName)
	if err != nil {
		return err
	}
	_, err = b.decideNow(ctx, question{action: action, by: by, target: &t, account: s.Account, owner: s.UserID})
	return err
}

func unknownSession(err error, id string) error {
	if errors.Is(err, access.ErrNotFound) || errors.Is(err, access.ErrDenied) {
		return &access.Error{Kind: access.ErrNotFound, Code: "DB-2104", Text: "there is no session " + audit.Clean(id, 64) + " that you may know of", Next: "drawbolt sessions"}
	}
	return err
}

// FindSession returns a session that the caller may know of, with its alarms if
// they may say something of these.
func (b *Broker) FindSession(ctx context.Context, by access.Caller, id string) (access.Session, error) {
	s, e, err := b.knownSession(ctx, by, id, "session.read")
	if err != nil {
		return s, b.refused(ctx, e, err)
	}
	if len(s.Alarms) > 0 {
		if err = b.mayAlarm(ctx, b.c.Store, by, &s); errors.Is(err, access.ErrDenied) {
			s.Alarms, err = nil, nil
		}
	}
	return s, err
}

func (b *Broker) knownSession(ctx context.Context, by access.Caller, id, action string) (access.Session, audit.Event, error) {
	e := event(by, action, id)
	if err := b.refresh(ctx); err != nil {
		return access.Session{}, e, policyDown(err)
	}
	if !access.ValidID(access.SessionPrefix, id) {
		return access.Session{}, e, unknownSession(access.ErrNotFound, id)
	}
	s, err := b.c.Store.Session(ctx, id)
	if err == nil {
		err = b.maySession(ctx, by, policy.ActionSessionList, &s)
	}
	if err != nil {
		return access.Session{}, e, unknownSession(err, id)
	}
	e.Request, e.Grant, e.Session, e.Target, e.Account = s.RequestID, s.GrantID, s.ID, s.TargetName, s.Account
	return s, e, nil
}

// Replay lets the caller see the recording of a session. Seeing it is an event
// of its own; how says in a word what is done with it.
func (b *Broker) Replay(ctx context.Context, by access.Caller, id, how string) (access.Session, error) {
	return b.replay(ctx, by, id, how, false)
}

// replay is Replay. What is asked for with gone is evidence that remains when the
// recording itself is deleted.
func (b *Broker) replay(ctx context.Context, by access.Caller, id, how string, gone bool) (access.Session, error) {
	s, e, err := b.mayReplay(ctx, by, id, how, gone)
	if err != nil {
		return s, err
	}
	return s, b.c.Store.Record(ctx, e)
}

// mayReplay asks whether the caller may see the recording of a session, or with
// gone what remains of it, records a refusal, and returns the event that is to be
// recorded before anything is shown.
func (b *Broker) mayReplay(ctx context.Context, by access.Caller, id, how string, gone bool) (access.Session, audit.Event, error) {
	s, e, err := b.knownSession(ctx, by, id, "session.replay")
	if err != nil {
		return s, e, b.refused(ctx, e, err)
	}
	detail(&e, "how", how)
	if err := b.maySession(ctx, by, policy.ActionSessionReplay, &s); err != nil {
		return access.Session{}, e, b.refused(ctx, e, err)
	}
	if s.State != access.Closed || s.Recording.Name == "" {
		return s, e, b.refused(ctx, e, &access.Error{Kind: access.ErrConflict, Code: "DB-3008", Text: "session " + s.ID + " has no sealed recording (yet)", Next: "drawbolt sessions --live"})
	}
	if !s.DeletedAt.IsZero() && !gone {
		return s, e, b.refused(ctx, e, recordingDeleted(&s))
	}
	detail(&e, "recording_sha256", s.Recording.SHA256)
	return s, e, nil
}

// Terminate ends a running session, on whichever server it runs. The grant
// stays.
func (b *Broker) Terminate(ctx context.Context, by access.Caller, id, reason string) error {
	if err := access.CheckReason(reason); err != nil {
		return err
	}
	s, e, err := b.knownSession(ctx, by, id, "session.terminate")
	if err != nil {
		return b.refused(ctx, e, err)
	}
	if err := b.maySession(ctx, by, policy.ActionSessionTerminate, &s); err != nil {
		return b.refused(ctx, e, err)
	}
	if s.State == access.Closed {
		return b.refused(ctx, e, &access.Error{Kind: access.ErrConflict, Code: "DB-3009", Text: "session " + s.ID + " has ended already; nothing changed"})
	}
	e.Reason = reason
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e.Details = cloneDetails(e.Details) // it may be called again
		return e, revokeCertificates(ctx, tx, &e, store.OfSession(s.ID))
	})
	if err != nil {
		return err
	}
	e.ActorName = by.User.Name
	b.terminate(e)
	b.nudge()
	return nil
}
