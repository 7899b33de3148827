package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// agreeWithin is how long what one person has asked for waits for a second one.
const agreeWithin = 7 * 24 * time.Hour

// recordingDeleted says how a recording came to be gone.
func recordingDeleted(s *access.Session) error {
	how := "by the rule of retention " + s.Deletion.Rule
	if s.Deletion.Rule == "" {
		how = "by " + strings.Join(s.Deletion.By, " and ")
	}
	return &access.Error{Kind: access.ErrNotFound, Code: "DB-6110", Next: "drawbolt verify " + s.ID,
		Text: fmt.Sprintf("the recording of %s was deleted on %s %s; the audit log keeps its hash", s.ID, s.DeletedAt.UTC().Format(time.RFC3339), how)}
}

// A RecordingLife is how long the recording of a session is kept, and why.
type RecordingLife struct {
	KeptUntil time.Time     // zero: for good, as far as the rules of today say
	Rule      string        // of retention, that says so
	Holds     []access.Hold // only for who may replay the recording, or put it under a hold
	Deleted   int64         // number of the event that deleted it, which is never 0; 0: it was not
}

// RecordingLife tells who may know of the session how long its recording is kept.
// That it is under a hold is not told to the one who was recorded.
func (b *Broker) RecordingLife(ctx context.Context, by access.Caller, id string) (RecordingLife, error) {
	var l RecordingLife
	s, e, err := b.knownSession(ctx, by, id, "session.read")
	if err != nil {
		return l, b.refused(ctx, e, err)
	}
	if !s.DeletedAt.IsZero() {
		_, deletion, err := b.deletionOf(ctx, &s)
		l.Deleted = deletion.Seq
		return l, err
	}
	r, err := b.c.Store.Retention(ctx)
	if err != nil {
		return l, err
	}
	l.KeptUntil, l.Rule = r.KeptUntil(&s, b.c.KeepDays)
	for _, action := range []policy.Action{policy.ActionSessionReplay, policy.ActionRecordingHold} {
		switch err := b.maySession(ctx, by, action, &s); {
		case err == nil:
			l.Holds, err = b.c.Store.HoldsOf(ctx, s.ID)
			return l, err
		case !errors.Is(err, access.ErrDenied):
			return l, err
		}
	}
	return l, nil
}

// deletionOf finds the event that deleted the recording of a session.
func (b *Broker) deletionOf(ctx context.Context, s *access.Session) ([]byte, audit.Event, error) {
	leaves, err := b.c.Store.Leaves(ctx, store.LeafFilter{Session: s.ID, Action: "recording.delete", Since: s.DeletedAt, Limit: 1000})
	if err != nil {
		return nil, audit.Event{}, err
	}
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		if err != nil {
			return nil, e, fmt.Errorf("the audit log is damaged: %w", err)
		}
		if e.Outcome == audit.Done { // and not one of those that were refused
			return leaf, e, nil
		}
	}
	return nil, audit.Event{}, fmt.Errorf("the deletion of the recording of %s is not in the audit log", s.ID)
}

// A HoldOrder names the sessions to put under a hold: those with the ids, or
// those that the filter picks now and that the caller may put under one.
type HoldOrder struct {
	Sessions     []string
	User, Target string // names
	Since, Until time.Time
	Reason       string
}

// HoldRecordings puts sessions under a new hold, running ones too, and returns
// their ids. While it stands, nobody and nothing deletes their recordings.
func (b *Broker) HoldRecordings(ctx context.Context, by access.Caller, o HoldOrder) (access.Hold, []string, error) {
	h := access.Hold{ID: access.NewID(access.HoldPrefix), Reason: o.Reason, Version: 1}
	if err := access.CheckReason(o.Reason); err != nil {
		return h, nil, err
	}
	e := event(by, "recording.hold", h.ID)
	e.Reason = o.Reason
	ids, err := b.toHold(ctx, by, o)
	if err != nil {
		return h, nil, b.refused(ctx, e, err)
	}
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		h.ByID, h.ByName, h.PlacedAt = by.User.ID, by.User.Name, tx.Now()
		detail(&e, "sessions", fmt.Sprint(len(ids)))
		for _, id := range ids {
			s, err := tx.Session(ctx, id) // locked: it is not deleted meanwhile
			if err != nil {
				return e, unknownSession(err, id)
			}
			of := event(by, "recording.hold", h.ID)
			of.Request, of.Grant, of.Session, of.Target, of.Account = s.RequestID, s.GrantID, s.ID, s.TargetName, s.Account
			of.Reason = o.Reason
			if !s.DeletedAt.IsZero() {
				return of, recordingDeleted(&s)
			}
			tx.Also(of)
		}
		return e, tx.AddHold(ctx, &h, ids)
	})
	return h, ids, err
}

// toHold returns the ids of the sessions that an order names, in order.
func (b *Broker) toHold(ctx context.Context, by access.Caller, o HoldOrder) ([]string, error) {
	if err := b.refresh(ctx); err != nil {
		return nil, policyDown(err)
	}
	filter := o.User != "" || o.Target != "" || !o.Since.IsZero() || !o.Until.IsZero()
	if filter == (len(o.Sessions) > 0) {
		return nil, access.Invalid("name the sessions, or a user, a target or a time")
	}
	many := access.Invalid("a hold covers at most %d sessions: narrow it, and place several", access.MaxHeld)
	ids := slices.Compact(slices.Sorted(slices.Values(o.Sessions)))
	if len(ids) > access.MaxHeld {
		return nil, many
	}
	for _, id := range ids {
		s, err := b.c.Store.Session(ctx, id)
		if err == nil {
			err = b.maySession(ctx, by, policy.ActionSessionList, &s)
		}
		if err != nil {
			return nil, unknownSession(err, id)
		}
		if err := b.maySession(ctx, by, policy.ActionRecordingHold, &s); err != nil {
			return nil, err
		}
	}
	if !filter {
		return ids, nil
	}
	sf := store.SessionFilter{Since: o.Since, Until: o.Until, Limit: 200}
	if o.Target != "" {
		t, err := b.c.Store.Target(ctx, o.Target)
		if err != nil {
			return nil, unknownTarget(err, o.Target)
		}
		sf.Target = t.ID
	}
	if o.User != "" {
		u, err := b.c.Store.User(ctx, o.User)
		if err != nil {
			return nil, unknownUser(err, o.User)
		}
		sf.User = u.ID
	}
	for {
		page, err := b.c.Store.Sessions(ctx, sf)
		if err != nil {
			return nil, err
		}
		for _, s := range page {
			if !s.DeletedAt.IsZero() {
				continue
			}
			if err := b.maySession(ctx, by, policy.ActionRecordingHold, &s); err == nil {
				ids = append(ids, s.ID)
			} else if !errors.Is(err, access.ErrDenied) {
				return nil, err
			}
		}
		if len(ids) > access.MaxHeld {
			return nil, many
		}
		if len(page) < sf.Limit {
			break
		}
		sf.Before = page[len(page)-1].ID
	}
	if len(ids) == 0 {
		return nil, &access.Error{Kind: access.ErrNotFound, Code: "DB-6111", Text: "there is no such session that you may put under a hold", Next: "drawbolt sessions"}
	}
	slices.Sort(ids)
	return ids, nil
}

// A HoldView is a hold with the ids of its sessions.
type HoldView struct {
	access.Hold
	Sessions []string
}

// Holds lists the holds, the newest first.
func (b *Broker) Holds(ctx context.Context, by access.Caller) ([]HoldView, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionRecordingHold, by: by}, event(by, "recording.holds", "")); err != nil {
		return nil, err
	}
	holds, err := b.c.Store.Holds(ctx)
	list := make([]HoldView, len(holds))
	for i := 0; i < len(holds) && err == nil; i++ {
		list[i].Hold = holds[i]
		list[i].Sessions, err = b.c.Store.HeldSessions(ctx, holds[i].ID)
	}
	return list, err
}

// LiftHold lifts a hold once two people have said so.
func (b *Broker) LiftHold(ctx context.Context, by access.Caller, id, reason string) (access.Agreement, error) {
	var a access.Agreement
	if err := access.CheckReason(reason); err != nil {
		return a, err
	}
	e := event(by, "recording.unhold", id)
	e.Reason = reason
	err := b.write(ctx, by, policy.ActionRecordingHold, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		h, err := tx.Hold(ctx, id)
		if errors.Is(err, access.ErrNotFound) {
			err = &access.Error{Kind: access.ErrNotFound, Code: "DB-6112", Text: "there is no hold " + audit.Clean(id, 64), Next: "drawbolt recording ls"}
		}
		if err != nil {
			return err
		}
		held, err := tx.HeldSessions(ctx, h.ID)
		if err != nil {
			return err
		}
		detail(e, "hold", h.Reason)
		detail(e, "sessions", fmt.Sprint(len(held)))
		if own, err := tx.HeldSessionsOf(ctx, h.ID, by.User.ID); err != nil {
			return err
		} else if len(own) > 0 {
			return ownRecording
		}
		first, err := b.agree(ctx, tx, by, proposal{subject: h.ID, what: "lift", action: policy.ActionRecordingHold, reason: reason}, &a, e)
		if err != nil || !a.Done {
			return err
		}
		for _, s := range held {
			of := event(by, e.Action, h.ID)
			of.Session, of.Reason = s, reason
			detail(&of, "first", first)
			tx.Also(of)
		}
		return tx.RemoveHold(ctx, h.ID)
	})
	return a, err
}

// DeleteRecording deletes the recording of a session before its time, once two
// people have said so: nobody can open it any more, any copy of it anywhere
// included, and its objects leave the sink. It is refused under a hold, and before
// the time for which every recording is kept.
func (b *Broker) DeleteRecording(ctx context.Context, by access.Caller, id, reason string) (access.Agreement, error) {
	var a access.Agreement
	if err := access.CheckReason(reason); err != nil {
		return a, err
	}
	_, e, err := b.knownSession(ctx, by, id, "recording.delete")
	if err != nil {
		return a, b.refused(ctx, e, err)
	}
	e.Reason = reason
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		s, err := tx.Session(ctx, id)
		if err != nil {
			return e, err
		}
		if err := b.maySession(ctx, by, policy.ActionRecordingDelete, &s); err != nil {
			return e, err
		}
		if s.UserID == by.User.ID {
			return e, ownRecording
		}
		if err := b.deletable(ctx, tx, &s); err != nil {
			return e, err
		}
		first, err := b.agree(ctx, tx, by, proposal{subject: s.ID, what: "delete", action: policy.ActionRecordingDelete, session: &s, reason: reason}, &a, &e)
		if err != nil || !a.Done {
			return e, err
		}
		return e, erase(ctx, tx, &s, access.Deletion{Reason: reason, By: []string{first, by.User.Name}}, &e)
	})
	return a, err
}

// ownRecording: who was recorded is none of the two.
var ownRecording = &access.Error{Kind: access.ErrDenied, Code: "DB-6118", Text: "nobody lets a recording of their own sessions go; somebody else must say so"}

// deletable refuses what must be kept. The session was read in tx, which keeps it
// from being put under a hold meanwhile.
func (b *Broker) deletable(ctx context.Context, tx *store.Tx, s *access.Session) error {
	switch {
	case !s.DeletedAt.IsZero():
		return recordingDeleted(s)
	case s.State != access.Closed || s.Recording.Name == "":
		return &access.Error{Kind: access.ErrConflict, Code: "DB-6113", Text: "session " + s.ID + " has no sealed recording (yet)", Next: "drawbolt sessions --live"}
	}
	holds, err := tx.HoldsOf(ctx, s.ID)
	if err != nil {
		return err
	}
	if len(holds) > 0 {
		return &access.Error{Kind: access.ErrDenied, Code: "DB-6114", Rule: "recording.hold", Next: "drawbolt recording unhold " + holds[0].ID,
			Text: fmt.Sprintf("the recording of %s is under the hold %s of %s: %s", s.ID, holds[0].ID, holds[0].ByName, holds[0].Reason)}
	}
	if until := s.ClosedAt.Add(access.Days(b.c.KeepDays)); tx.Now().Before(until) {
		return &access.Error{Kind: access.ErrDenied, Code: "DB-6115", Rule: "recordings.keep_days",
			Text: fmt.Sprintf("every recording is kept for %d days at least, that of %s until %s", b.c.KeepDays, s.ID, until.UTC().Format(time.RFC3339))}
	}
	return nil
}

// erase makes a recording one that nobody can open, and tells so in e.
func erase(ctx context.Context, tx *store.Tx, s *access.Session, d access.Deletion, e *audit.Event) error {
	n, err := tx.EraseRecording(ctx, s)
	if err != nil {
		return err
	}
	s.DeletedAt, s.Deletion = tx.Now(), d
	recordingDetails(e, s.Recording, "")
	// 0: of a time when headers were not kept apart; only the objects go.
	detail(e, "erased", fmt.Sprint(n))
	return tx.SaveSession(ctx, s)
}

// A proposal is what takes two people.
type proposal struct {
	subject string // an id
	what    string
	action  policy.Action
	session *access.Session // that it is about, if it is about one
	reason  string
}

// agree notes that the caller has said this, or, when somebody else has before,
// that it is done; then it returns the name of that one, who must still have the
// right to it. Until then the event is that of a proposal.
func (b *Broker) agree(ctx context.Context, tx *store.Tx, by access.Caller, p proposal, a *access.Agreement, e *audit.Event) (string, error) {
	if by.User.Bot {
		return "", &access.Error{Kind: access.ErrDenied, Code: "DB-6116", Text: "this takes two people, and a bot is none"}
	}
	*a = access.Agreement{}
	first, err := tx.Proposal(ctx, p.subject)
	if err != nil && !errors.Is(err, access.ErrNotFound) {
		return "", err
	}
	until := first.MadeAt.Add(agreeWithin)
	stands := err == nil && first.Digest == p.what && tx.Now().Before(until)
	if stands && first.ByID != by.User.ID {
		if stands, err = b.stillMay(ctx, tx, by, p, first.ByID); err != nil {
			return "", err
		}
	}
	switch {
	case stands && first.ByID != by.User.ID:
		*a = access.Agreement{Done: true, First: first.ByName, At: first.MadeAt}
		detail(e, "first", first.ByName)
		detail(e, "first_reason", first.Reason)
		return first.ByName, tx.Settle(ctx, p.subject)
	case !stands: // or it would never lapse
		first = store.Proposal{Subject: p.subject, Digest: p.what, ByID: by.User.ID, ByName: by.User.Name, Reason: p.reason, MadeAt: tx.Now()}
		until = first.MadeAt.Add(agreeWithin)
		if err := tx.Propose(ctx, &first); err != nil {
			return "", err
		}
	}
	*a = access.Agreement{First: first.ByName, At: first.MadeAt, Until: until}
	detail(e, "what", e.Action)
	detail(e, "until", until.UTC().Format(time.RFC3339))
	e.Action = "recording.propose"
	return "", nil
}

// stillMay reports whether who has asked for it first may still do so. Where they
// are and when they last showed a second factor is not known now; the caller's
// stand for them.
func (b *Broker) stillMay(ctx context.Context, tx *store.Tx, by access.Caller, p proposal, userID string) (bool, error) {
	u, err := tx.User(ctx, userID)
	if errors.Is(err, access.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	by.User = u
	if p.session != nil {
		err = b.maySession(ctx, by, p.action, p.session)
	} else {
		_, err = b.decideNow(ctx, question{action: p.action, by: by})
	}
	if errors.Is(err, access.ErrDenied) {
		return false, nil
	}
	return err == nil, err
}

// Retention returns the rules of how long recordings are kept.
func (b *Broker) Retention(ctx context.Context, by access.Caller) (access.Retention, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionSessionList, by: by}, event(by, "retention.read", "")); err != nil {
		return access.Retention{}, err
	}
	return b.c.Store.Retention(ctx)
}

// SetRetention puts these rules in the place of those of the same version, once
// two people have said so. What it returns are the rules that hold.
func (b *Broker) SetRetention(ctx context.Context, by access.Caller, r access.Retention) (access.Retention, access.Agreement, error) {
	var a access.Agreement
	var now access.Retention
	if err := r.Validate(); err != nil {
		return r, a, err
	}
	text, err := json.Marshal(r) // its version too
	if err != nil {
		return r, a, err
	}
	digest := sha256.Sum256(text)
	e := event(by, "retention.set", "retention")
	err = b.write(ctx, by, policy.ActionRecordingDelete, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		var err error
		if now, err = tx.Retention(ctx); err != nil {
			return err
		}
		if now.Version != r.Version {
			return staleVersion("the rules of retention")
		}
		for i, rule := range r.Rules {
			if b, err := json.Marshal(rule); err == nil && i < maxRuleDetails {
				detail(e, fmt.Sprintf("rule_%02d", i+1), string(b))
			}
		}
		detail(e, "rules", fmt.Sprint(len(r.Rules)))
		detail(e, "digest", hex.EncodeToString(digest[:]))
		p := proposal{subject: "retention", what: hex.EncodeToString(digest[:]), action: policy.ActionRecordingDelete}
		if _, err := b.agree(ctx, tx, by, p, &a, e); err != nil || !a.Done {
			return err
		}
		now = r
		return tx.SaveRetention(ctx, &now)
	})
	return now, a, err
}

// expireAtOnce is how many recordings one call of ExpireRecordings deletes.
const expireAtOnce = 100

// ExpireRecordings deletes recordings whose time is over, some at a time, and
// returns where to go on; the zero place is the beginning, and the end leads there.
// It is no verb of a person: the server calls it for itself, for the rules that two
// people have set.
func (b *Broker) ExpireRecordings(ctx context.Context, after store.Kept) (store.Kept, int, error) {
	rules, err := b.c.Store.Retention(ctx)
	if err != nil {
		return after, 0, err
	}
	least, some := rules.Shortest(b.c.KeepDays)
	if !some {
		return store.Kept{}, 0, nil
	}
	const size = 500
	now := b.now()
	list, err := b.c.Store.KeptRecordings(ctx, after, now.Add(-access.Days(least)), size)
	if err != nil {
		return after, 0, err
	}
	n := 0
	for _, s := range list {
		if n == expireAtOnce || errors.Is(err, access.ErrUnavailable) {
			return after, n, err
		}
		if until, rule := rules.KeptUntil(&s, b.c.KeepDays); rule != "" && s.Recording.Name != "" && !now.Before(until) {
			if e := b.expire(ctx, s.ID); e == nil {
				n++
			} else { // it keeps no other, and its turn comes again
				err = errors.Join(err, fmt.Errorf("delete the recording of %s: %w", s.ID, e))
			}
		}
		after = store.Kept{ClosedAt: s.ClosedAt, ID: s.ID}
	}
	if len(list) < size {
		after = store.Kept{}
	}
	return after, n, err
}

// errKept: meanwhile, the recording must be kept.
var errKept = errors.New("kept")

func (b *Broker) expire(ctx context.Context, id string) error {
	err := b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		s, err := tx.Session(ctx, id)
		if err != nil {
			return audit.Event{}, err
		}
		rules, err := tx.Retention(ctx)
		if err != nil {
			return audit.Event{}, err
		}
		until, rule := rules.KeptUntil(&s, b.c.KeepDays)
		if err := b.deletable(ctx, tx, &s); errors.Is(err, access.ErrDenied) || errors.Is(err, access.ErrNotFound) || rule == "" || tx.Now().Before(until) {
			return audit.Event{}, errKept
		} else if err != nil {
			return audit.Event{}, err
		}
		e := event(access.System(), "recording.delete", s.ID)
		e.Request, e.Grant, e.Session, e.Target, e.Account = s.RequestID, s.GrantID, s.ID, s.TargetName, s.Account
		e.Rule = rule
		detail(&e, "kept_until", until.UTC().Format(time.RFC3339))
		detail(&e, "rules_version", fmt.Sprint(rules.Version))
		return e, erase(ctx, tx, &s, access.Deletion{Rule: rule}, &e)
	})
	if errors.Is(err, errKept) {
		return nil
	}
	return err
}
