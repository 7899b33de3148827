package access

import (
	"fmt"
	"time"
)

// A GrantState is what a grant is at some time. It is computed, never stored.
type GrantState string

// The states of a grant.
const (
	Scheduled GrantState = "scheduled"
	Active    GrantState = "active"
	Ended     GrantState = "ended"
)

// An EndReason says why a grant or a session ended.
type EndReason string

// The reasons for which a grant ends. Expired is computed from the clock.
const (
	EndExpired    EndReason = "expired"
	EndReleased   EndReason = "released"
	EndRevoked    EndReason = "revoked"
	EndSuperseded EndReason = "superseded"
)

// A Grant is the right to use one account on one target for a time. Its clock
// starts at first use, within the activation window; the deadline is then
// absolute and stored.
type Grant struct {
	ID         string
	RequestID  string
	UserID     string
	UserName   string
	TargetID   string
	TargetName string
	Account    string
	Role       string
	Rules      SessionRules
	Duration   time.Duration
	BreakGlass bool
	Digest     string // of the request, as it was approved
	Policy     Ruling

	OpenedAt   time.Time
	NotBefore  time.Time // a scheduled grant is not usable earlier
	ActivateBy time.Time // end of the activation window
	Start      time.Time // first use; zero: not yet used
	End        time.Time // deadline; before the first use the end of the activation window

	EndedAt   time.Time // zero: not ended by a person
	EndReason EndReason
	EndedBy   string
	EndNote   string

	// PausedBy is the name of who holds back what the holder types and sends, in all
	// sessions under the grant; empty: nobody does.
	PausedBy string
	Version  int64
}

// NewGrant opens the grant of an approved request at t.
func NewGrant(r *Request, t time.Time, window time.Duration) *Grant {
	g := &Grant{
		ID: NewID(GrantPrefix), RequestID: r.ID, UserID: r.RequesterID, UserName: r.RequesterName,
		TargetID: r.TargetID, TargetName: r.TargetName, Account: r.Account, Role: r.Role, Rules: r.Permitted(),
		Duration: r.Granted(), BreakGlass: r.BreakGlass, Digest: r.Digest(), Policy: r.Policy,
		OpenedAt: t, NotBefore: t, Version: 1,
	}
	if r.Start.After(t) {
		g.NotBefore = r.Start
	}
	g.ActivateBy = g.NotBefore.Add(window)
	g.End = g.ActivateBy
	return g
}

// StateAt returns what the grant is at t.
func (g *Grant) StateAt(t time.Time) GrantState {
	switch {
	case g == nil || !g.EndedAt.IsZero() || !t.Before(g.End):
		return Ended
	case t.Before(g.NotBefore):
		return Scheduled
	default:
		return Active
	}
}

// ActiveAt reports whether the grant holds at t. Expiry is never stored, so a
// stalled job cannot keep a grant alive.
func (g *Grant) ActiveAt(t time.Time) bool { return g.StateAt(t) == Active }

// EndAt returns why and when the grant had ended at t, if it had.
func (g *Grant) EndAt(t time.Time) (EndReason, time.Time, bool) {
	switch {
	case !g.EndedAt.IsZero():
		return g.EndReason, g.EndedAt, true
	case !t.Before(g.End):
		return EndExpired, g.End, true
	default:
		return "", time.Time{}, false
	}
}

// Activate starts the clock at the first use; later uses change nothing.
func (g *Grant) Activate(t time.Time) error {
	if err := g.Usable(t); err != nil {
		return err
	}
	if g.PausedBy != "" {
		return &Error{Kind: ErrDenied, Code: "DB-6083", Text: fmt.Sprintf("%s has paused %s@%s: nothing new begins under the grant until that is over", g.PausedBy, g.Account, g.TargetName), Rule: "session.pause"}
	}
	if g.Start.IsZero() {
		g.Start = t
		g.End = t.Add(g.Duration)
	}
	return nil
}

// Pause holds back what the holder sends, until [Grant.Resume] or the end of the
// grant, whose time goes on.
func (g *Grant) Pause(by User, t time.Time) error {
	switch {
	case by.ID == g.UserID:
		return errOwnPause
	case g.StateAt(t) == Ended:
		return &Error{Kind: ErrConflict, Code: "DB-3005", Text: fmt.Sprintf("the grant of %s is over already; nothing changed", g.RequestID)}
	case g.PausedBy != "":
		return &Error{Kind: ErrConflict, Code: "DB-6084", Text: fmt.Sprintf("%s has paused it already; nothing changed", g.PausedBy)}
	}
	g.PausedBy = by.Name
	return nil
}

// Resume ends a pause. Whoever may pause may end any; the holder may not.
func (g *Grant) Resume(by User) error {
	switch {
	case by.ID == g.UserID:
		return errOwnPause
	case g.PausedBy == "":
		return &Error{Kind: ErrConflict, Code: "DB-6084", Text: "it is not paused; nothing changed"}
	}
	g.PausedBy = ""
	return nil
}

var errOwnPause = &Error{Kind: ErrDenied, Code: "DB-6085", Text: "nobody pauses their own sessions, or ends the pause of them", Rule: "pause.own"}

// Usable returns nil when the grant is active at t, and otherwise a sentence
// that says what it is.
func (g *Grant) Usable(t time.Time) error {
	switch g.StateAt(t) {
	case Active:
		return nil
	case Scheduled:
		return &Error{Kind: ErrDenied, Code: "DB-2005", Text: fmt.Sprintf("your grant for %s@%s starts at %s", g.Account, g.TargetName, g.NotBefore.UTC().Format(time.RFC3339)),
			Next: fmt.Sprintf("for sooner: drawbolt request %s --as %s", g.TargetName, g.Account)}
	}
	reason, at, _ := g.EndAt(t)
	return &Error{Kind: ErrDenied, Code: "DB-2006", Text: fmt.Sprintf("the grant %s is over: %s at %s", g.ID, reason, at.UTC().Format(time.RFC3339)),
		Next: fmt.Sprintf("drawbolt request %s --as %s", g.TargetName, g.Account)}
}

// Release gives the grant back; only its holder may, and it is one way.
func (g *Grant) Release(by User, owner string, t time.Time) error {
	if by.ID != g.UserID && (owner == "" || by.ID != owner) {
		return &Error{Kind: ErrDenied, Code: "DB-2007", Text: "only the holder gives a grant back", Rule: "release.own", Next: "drawbolt revoke " + g.RequestID}
	}
	return g.finish(EndReleased, by, "", t)
}

// Revoke takes the grant away. The holder cannot stop it, and a holder who
// wants to end it releases it.
func (g *Grant) Revoke(by User, note string, t time.Time) error {
	if err := CheckReason(note); err != nil {
		return err
	}
	return g.finish(EndRevoked, by, note, t)
}

// Supersede ends the grant because another one took its place.
func (g *Grant) Supersede(by User, t time.Time) error { return g.finish(EndSuperseded, by, "", t) }

func (g *Grant) finish(reason EndReason, by User, note string, t time.Time) error {
	if was, at, ended := g.EndAt(t); ended {
		return &Error{Kind: ErrConflict, Code: "DB-3005", Text: fmt.Sprintf("the grant of %s is over already: %s at %s; nothing changed", g.RequestID, was, at.UTC().Format(time.RFC3339))}
	}
	g.EndedAt, g.EndReason, g.EndedBy, g.EndNote = t, reason, by.Name, note
	return nil
}

// Extend lengthens the grant by d, to at most longest in all, counted from the
// first use.
func (g *Grant) Extend(d, longest time.Duration, t time.Time) error {
	if err := CheckDuration(d); err != nil {
		return err
	}
	if err := g.Usable(t); err != nil {
		return err
	}
	if g.Duration+d > longest {
		return &Error{Kind: ErrDenied, Code: "DB-2008", Text: fmt.Sprintf("the role %s allows %s in all; %s are granted already", g.Role, FormatDuration(longest), FormatDuration(g.Duration)), Rule: "extend.max"}
	}
	g.Duration += d
	if !g.Start.IsZero() {
		g.End = g.End.Add(d)
	}
	return nil
}

// A GrantUse is what sessions have made of a grant.
type GrantUse struct {
	Sessions, Running int64
	First             string // id of a session that runs; "": none does
	Commands          int64  // that were run in all of them; -1: not known, or not yet
}
