package slack

import (
	"context"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
)

// What is told later: in quiet hours, and where things change faster than anybody
// reads. It is the dispatcher that keeps it until then; see notify.Hold.

// hush returns which of the new messages are sent in quiet hours, and whether
// something is left for later. Cards that are there show what becomes of their
// requests all the same: that makes no noise. Whoever has asked is told the answer,
// and whoever is asked or called by name hears of it: somebody waits for them.
func (s *Slack) hush(n notify.Notice, to []copyTo) (now []copyTo, later bool) {
	now = slices.DeleteFunc(slices.Clone(to), func(c copyTo) bool { return c.part == partCard })
	return now, len(now) < len(to) || n.Kind != notify.Revoked && below(n) != ""
}

// A drawing says when the cards of a request were last drawn because of sessions,
// and until when it is settled that they will be again.
type drawing struct{ at, again time.Time }

const (
	drawEvery = time.Minute // because sessions begin and end
	maxDrawn  = 10_000      // requests of which it is known when that was

	// So long after the end of a grant its card waits for what its sessions ran, which
	// is counted when their recordings are indexed, and looks so often.
	countFor   = 5 * time.Minute
	countEvery = 10 * time.Second
)

// settles reports whether the cards of a request are not drawn now, though its
// sessions are others: a program may open hundreds in a minute. The error is a
// notify.Hold, or nil when they will be drawn anyway.
func (s *Slack) settles(id string) (wait bool, err error) {
	now := s.c.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.drawn[id]
	switch next := d.at.Add(drawEvery); {
	case now.Before(d.again):
		return true, nil
	case now.Before(next):
		s.drawn[id] = drawing{d.at, next}
		return true, &notify.Hold{Until: next, Why: "sessions come and go"}
	}
	if len(s.drawn) >= maxDrawn {
		clear(s.drawn)
	}
	s.drawn[id] = drawing{at: now}
	return false, nil
}

// counted has a notice of the end of a grant told again while it is not known yet
// what was run under it.
func (s *Slack) counted(ctx context.Context, n notify.Notice) error {
	g := n.Case.Grant
	now := s.c.Now()
	if n.Kind != notify.Ended && n.Kind != notify.Revoked || g == nil || g.StateAt(now) != access.Ended || now.Sub(n.At) >= countFor {
		return nil
	}
	u, err := s.c.Broker.UseOf(ctx, g.ID)
	if err == nil && u.Sessions > 0 && (u.Running > 0 || u.Commands < 0) {
		err = &notify.Hold{Until: now.Add(countEvery), Why: "its sessions are being counted"}
	}
	return err
}
