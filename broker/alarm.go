package broker

import (
	"context"
	"errors"
	"strconv"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Acknowledge says that the caller looks after an alarm: after break-glass, by the
// id of its request, or after what was detected in a session, by the id of that and
// the number of the alarm, or 0 for all that nobody looks after. The first one is
// named wherever it is told of. It closes nothing and ends nothing; of break-glass
// nobody is reminded for some hours.
//
// For break-glass the policy is asked as for its review, for a session as for
// watching it.
func (b *Broker) Acknowledge(ctx context.Context, by access.Caller, id string, alarm int) error {
	if access.ValidID(access.SessionPrefix, id) {
		return b.onAlarm(ctx, by, id, "session.acknowledge", func(tx *store.Tx, by access.User, s *access.Session, e *audit.Event) error {
			number(e, "alarm", alarm)
			return s.Acknowledge(by, alarm, tx.Now())
		})
	}
	return b.onGlass(ctx, by, id, "breakglass.acknowledge", func(tx *store.Tx, by access.User, g *access.Grant, review *access.GlassReview, e *audit.Event) error {
		return review.Acknowledge(by, tx.Now())
	})
}

// Expected says why an alarm of a session was to be expected. It stands on record
// beside what was detected. The same rule raises no alarm in this session any more;
// what it finds is recorded as before, in all others it alarms, and what the rule
// ends it ends. alarm is the number, or 0 for the only one.
func (b *Broker) Expected(ctx context.Context, by access.Caller, id string, alarm int, reason string) error {
	return b.onAlarm(ctx, by, id, "session.expected", func(tx *store.Tx, by access.User, s *access.Session, e *audit.Event) error {
		n, err := s.Expect(by, alarm, reason, tx.Now())
		if err != nil {
			return err
		}
		e.Reason = reason
		number(e, "alarm", n)
		detail(e, "detect", s.Alarms[n-1].Rule)
		return nil
	})
}

// onAlarm changes what is said of the alarms of a session that the caller may watch.
func (b *Broker) onAlarm(ctx context.Context, by access.Caller, id, verb string, say func(*store.Tx, access.User, *access.Session, *audit.Event) error) error {
	known, e, err := b.knownSession(ctx, by, id, verb)
	if err != nil {
		return b.refused(ctx, e, err)
	}
	return b.changeAsDecided(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = cloneDetails(e.Details) // it may be called again
		by, err := b.acting(ctx, tx, by)
		if err != nil {
			return e, err
		}
		s, err := tx.Session(ctx, known.ID)
		if err != nil {
			return e, unknownSession(err, id)
		}
		if err := b.mayAlarm(ctx, tx, by, &s); err != nil {
			return e, err
		}
		if err := say(tx, by.User, &s, &e); err != nil {
			return e, err
		}
		return e, tx.SaveSession(ctx, &s)
	})
}

// mayAlarm reports whether the caller may know of the alarms of a session: who may
// watch it may, but for its user, who is not to learn what is looked for, and whose
// bot that is.
func (b *Broker) mayAlarm(ctx context.Context, from interface {
	Target(ctx context.Context, idOrName string) (access.Target, error)
	User(ctx context.Context, idOrName string) (access.User, error)
}, by access.Caller, s *access.Session) error {
	user, err := from.User(ctx, s.UserID)
	if err != nil && !errors.Is(err, access.ErrNotFound) {
		return err
	}
	if samePerson(by.User.ID, s.UserID) || user.OwnerID != "" && samePerson(by.User.ID, user.OwnerID) {
		return &access.Error{Kind: access.ErrDenied, Code: "DB-6331", Rule: "alarm.own", Text: "nobody says of their own session that an alarm is in good hands or was expected: somebody else must"}
	}
	target, err := targetOrRemoved(ctx, from, s.TargetID, s.TargetName)
	if err != nil {
		return err
	}
	_, err = b.decideNow(ctx, question{action: policy.ActionSessionWatch, by: by, target: &target, account: s.Account, owner: s.UserID})
	return err
}

// number puts a number into an event; 0 stands for none.
func number(e *audit.Event, key string, n int) {
	if n != 0 {
		detail(e, key, strconv.Itoa(n))
	}
}
