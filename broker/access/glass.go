package access

import (
	"fmt"
	"slices"
	"time"
)

// A Finding is what a review of break-glass came to.
type Finding string

// The findings.
const (
	Justified    Finding = "justified"
	NotJustified Finding = "not_justified"
)

// A GlassReview stays open from the moment at which access was taken without
// approval until somebody else says what they found. There is one for each such
// request.
type GlassReview struct {
	RequestID string
	UserID    string   // who took it
	Barred    []string // ids of others who may not close it: those whose sealed codes opened the login
	OpenedAt  time.Time
	FactorAt  time.Time // when who took it had last shown a second factor; zero: not in that login

	AckID   string // of the first who said "I am on it"; "": nobody
	AckName string
	AckAt   time.Time

	ClosedAt   time.Time // zero: open
	ClosedBy   string    // id
	ClosedName string
	Finding    Finding
	Text       string
	Version    int64
}

// NewGlassReview opens the review of a request that was just admitted.
// factorAt is when the taker had last shown a second factor.
func NewGlassReview(r *Request, barred []string, factorAt, t time.Time) *GlassReview {
	return &GlassReview{RequestID: r.ID, UserID: r.RequesterID, Barred: barred, OpenedAt: t, FactorAt: factorAt, Version: 1}
}

// glassDue is how long after its opening a review should be closed: what people are
// told, after which they are reminded each day.
const glassDue = 24 * time.Hour

// Due is when the review should be closed at the latest.
func (g *GlassReview) Due() time.Time { return g.OpenedAt.Add(glassDue) }

// Open reports whether nobody has closed the review.
func (g *GlassReview) Open() bool { return g.ClosedAt.IsZero() }

// glassReminders are the times after the opening of the first reminders; from
// the last on there is one each day.
var glassReminders = [...]time.Duration{4 * time.Hour, 20 * time.Hour}

// ackPause is for how long nobody is reminded after somebody said that they are
// on it.
const ackPause = 4 * time.Hour

// RemindAfter returns when people are reminded next after t. However long nobody
// looked at the clock, that is one reminder. Nobody puts it off for good: only
// the first who says that they are on it has a pause, and one.
func (g *GlassReview) RemindAfter(t time.Time) time.Time {
	next := g.scheduled(t)
	if pause := g.AckAt.Add(ackPause); !g.AckAt.IsZero() && next.Before(pause) {
		return pause
	}
	return next
}

func (g *GlassReview) scheduled(t time.Time) time.Time {
	for _, d := range glassReminders {
		if next := g.OpenedAt.Add(d); next.After(t) {
			return next
		}
	}
	return nextDaily(g.OpenedAt.Add(glassReminders[len(glassReminders)-1]), t)
}

// nextDaily is the first moment after t that lies whole days behind start.
func nextDaily(start, t time.Time) time.Time {
	const day = 24 * time.Hour
	return start.Add((t.Sub(start)/day + 1) * day)
}

// Close ends the review with a finding and the sentence that explains it. Neither
// who took the access nor who opened the login for it may, nor any bot.
func (g *GlassReview) Close(by User, finding Finding, text string, t time.Time) error {
	if err := g.judge(by); err != nil {
		return err
	}
	if finding != Justified && finding != NotJustified {
		return Invalid("the finding is %s or %s", Justified, NotJustified)
	}
	if err := CheckReason(text); err != nil {
		return err
	}
	g.ClosedAt, g.ClosedBy, g.ClosedName, g.Finding, g.Text = t, by.ID, by.Name, finding, text
	return nil
}

// Acknowledge notes who looks after it. It closes nothing. The first one counts,
// out of those who may close it.
func (g *GlassReview) Acknowledge(by User, t time.Time) error {
	if err := g.judge(by); err != nil {
		return err
	}
	if g.AckID != "" {
		return onIt(g.AckID == by.ID, g.AckName, g.AckAt, "drawbolt breakglass show "+g.RequestID)
	}
	g.AckID, g.AckName, g.AckAt = by.ID, by.Name, t
	return nil
}

// judge refuses who has no say in an open review.
func (g *GlassReview) judge(by User) error {
	switch {
	case by.ID == g.UserID || slices.Contains(g.Barred, by.ID):
		return &Error{Kind: ErrDenied, Code: "DB-6250", Rule: "breakglass.own", Text: "nobody reviews the break-glass that they took part in; somebody else must look at it"}
	case by.Bot || by.Emergency:
		return &Error{Kind: ErrDenied, Code: "DB-6251", Rule: "breakglass.person", Text: "break-glass is reviewed by a person"}
	case !g.Open():
		return &Error{Kind: ErrConflict, Code: "DB-6252", Text: fmt.Sprintf("the break-glass of %s was reviewed already, by %s; nothing changed", g.RequestID, g.ClosedName)}
	}
	return nil
}
