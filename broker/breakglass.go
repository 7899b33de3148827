package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// GlassRules are what the house wants of break-glass, beside the policy.
type GlassRules struct {
	MaxDuration time.Duration // of such a grant in all, whatever the role allows; default 1h
	// Alarms names the ways by which people are told at once, those that are
	// configured; default: the log of the server alone.
	Alarms func() []string
	// RequireAlarms is how many there must be, or nobody breaks glass; default 0.
	RequireAlarms int
	// StopAfter is how long a review may stay open before who it is of breaks no
	// glass again; 0: for ever, and it is only told.
	StopAfter time.Duration
}

func (r *GlassRules) complete() {
	defaultTo(&r.MaxDuration, time.Hour)
	if r.Alarms == nil {
		r.Alarms = func() []string { return []string{"log"} }
	}
}

// glassDuration keeps break-glass short: what nobody asked for is as long as it
// may be at most, and what somebody did is refused when it is longer.
func (b *Broker) glassDuration(r *access.Request, asked bool) error {
	longest := b.c.Glass.MaxDuration
	switch {
	case r.Duration <= longest:
		return nil
	case !asked:
		r.Duration = longest
		return nil
	}
	return &access.Error{Kind: access.ErrDenied, Code: "DB-6257", Rule: "breakglass.max_duration",
		Text: fmt.Sprintf("break-glass is for %s at most", access.FormatDuration(longest)), Next: "add --for " + access.FormatDuration(longest)}
}

// mayBreakGlass refuses what the policy has allowed while the house could not
// answer for it: too few ways to tell people, or an old case that nobody has
// looked at yet.
func (b *Broker) mayBreakGlass(ctx context.Context, tx *store.Tx, by access.Caller) error {
	rules := &b.c.Glass
	if ways := rules.Alarms(); len(ways) < rules.RequireAlarms {
		return &access.Error{Kind: access.ErrDenied, Code: "DB-6258", Rule: "breakglass.require_alarms", Next: "drawboltd doctor",
			Text: fmt.Sprintf("break-glass needs %d ways to raise the alarm, and %d are configured: %s", rules.RequireAlarms, len(ways), strings.Join(ways, ", "))}
	}
	_, old, err := tx.OpenGlassReviewsOf(ctx, by.User.ID, tx.Now().Add(-rules.StopAfter))
	if err == nil && old > 0 && rules.StopAfter > 0 {
		err = &access.Error{Kind: access.ErrDenied, Code: "DB-6259", Rule: "breakglass.stop_after", Next: "drawbolt breakglass ls --open",
			Text: fmt.Sprintf("%d of your break-glass cases wait for a review for longer than %s: somebody must look at them first", old, access.FormatDuration(rules.StopAfter))}
	}
	return err
}

// openGlassReview opens the review of break-glass and raises the alarm: the event
// that everybody who follows the log waits for. e is the event of the request.
func (b *Broker) openGlassReview(ctx context.Context, tx *store.Tx, by access.Caller, r *access.Request, e audit.Event) error {
	barred, err := tx.CodeHolders(ctx, by.User.ID)
	if err != nil {
		return err
	}
	open, _, err := tx.OpenGlassReviewsOf(ctx, by.User.ID, tx.Now())
	if err != nil {
		return err
	}
	alarm := e
	alarm.Action = "breakglass"
	alarm.Details = cloneDetails(e.Details)
	if open > 0 {
		detail(&alarm, "reviews_open", fmt.Sprint(open))
	}
	tx.Also(alarm)
	return tx.AddGlassReview(ctx, access.NewGlassReview(r, barred, by.MFAAt, tx.Now()))
}

// raise tells the operators' log of what is an alarm, on every server and
// without any network: with break-glass nothing may depend on one way alone.
func (b *Broker) raise(ctx context.Context, e *audit.Event) {
	switch e.Action {
	case "breakglass":
		b.c.Log.ErrorContext(ctx, "BREAK-GLASS: access was taken without approval", "user", e.ActorName, "target", e.Target, "account", e.Account,
			"request", e.Request, "source", e.Source, "event", e.Seq)
	case "breakglass.login":
		b.c.Log.ErrorContext(ctx, "BREAK-GLASS: sealed codes opened a login", "user", e.ActorName, "codes", e.Details["codes"], "source", e.Source, "event", e.Seq)
	}
}

// A GlassCase is break-glass with its review, for who may read the request.
type GlassCase struct {
	Case
	Review   access.GlassReview
	Sessions []access.Session // those that the caller may see; newest first, 50 at most
	// MayReview says that the caller may close the review now, and MayAcknowledge
	// that they may say that they look after it, which nobody has said yet.
	MayReview, MayAcknowledge bool
}

// GlassCases lists break-glass, newest first, as far as the caller may read the
// requests; open alone, if so wanted. before is the id of the last request of the
// page before. Their sessions are not among what is returned.
func (b *Broker) GlassCases(ctx context.Context, by access.Caller, open bool, before string, limit int) ([]GlassCase, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, event(by, "breakglass.list", "")); err != nil {
		return nil, err
	}
	if limit <= 0 {
		limit = 50
	}
	limit = min(limit, 200)
	var list []GlassCase
	// As in Requests: who may see little of much gets a short page.
	for round := 0; round < 10 && len(list) < limit; round++ {
		page, err := b.c.Store.GlassReviews(ctx, open, before, limit)
		if err != nil {
			return nil, err
		}
		for _, review := range page {
			c, err := b.glassCase(ctx, by, review)
			if errors.Is(err, access.ErrDenied) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if list = append(list, c); len(list) == limit {
				break
			}
		}
		if len(page) < limit {
			break
		}
		before = page[len(page)-1].RequestID
	}
	return list, nil
}

// glassCase reads what belongs to a review, or returns ErrDenied.
func (b *Broker) glassCase(ctx context.Context, by access.Caller, review access.GlassReview) (GlassCase, error) {
	c := GlassCase{Review: review}
	var err error
	if c.Case, err = b.readCase(ctx, by, review.RequestID); err != nil || !review.Open() {
		return c, err
	}
	target, err := targetOrRemoved(ctx, b.c.Store, c.Request.TargetID, c.Request.TargetName)
	if err != nil {
		return c, err
	}
	if _, err := b.decideNow(ctx, question{action: policy.ActionGlassReview, by: by, target: &target, account: c.Request.Account, request: &c.Request}); err == nil {
		asked := review // Acknowledge and Close look at everything but the words
		c.MayAcknowledge = asked.Acknowledge(by.User, b.now()) == nil
		c.MayReview = c.Grant.StateAt(b.now()) == access.Ended && asked.Close(by.User, access.Justified, "asked", b.now()) == nil
	}
	return c, nil
}

// FindGlassCase returns one case of break-glass, by the id of its request.
func (b *Broker) FindGlassCase(ctx context.Context, by access.Caller, id string) (GlassCase, error) {
	e := event(by, "breakglass.read", id)
	if err := b.refresh(ctx); err != nil {
		return GlassCase{}, b.refused(ctx, e, policyDown(err))
	}
	review, err := b.c.Store.GlassReview(ctx, id)
	var c GlassCase
	if err == nil {
		c, err = b.glassCase(ctx, by, review)
	}
	if errors.Is(err, access.ErrDenied) || errors.Is(err, access.ErrNotFound) {
		return GlassCase{}, b.refused(ctx, e, unknownGlass(id))
	}
	if err != nil {
		return c, err
	}
	sessions, err := b.c.Store.Sessions(ctx, store.SessionFilter{Grant: c.Grant.ID, Limit: 50})
	if err != nil {
		return c, err
	}
	for _, s := range sessions {
		if err := b.maySession(ctx, by, policy.ActionSessionList, &s); err == nil {
			c.Sessions = append(c.Sessions, s)
		} else if !errors.Is(err, access.ErrDenied) {
			return c, err
		}
	}
	return c, nil
}

func unknownGlass(id string) error {
	return &access.Error{Kind: access.ErrNotFound, Code: "DB-6266", Text: "there is no break-glass " + audit.Clean(id, 64) + " that you may know of", Next: "drawbolt breakglass ls"}
}

// ReviewGlass closes the review of a case of break-glass, whose grant must be
// over: what is still going on has not been looked at.
func (b *Broker) ReviewGlass(ctx context.Context, by access.Caller, id string, finding access.Finding, text string) (GlassCase, error) {
	err := b.onGlass(ctx, by, id, "breakglass.review", func(tx *store.Tx, by access.User, g *access.Grant, review *access.GlassReview, e *audit.Event) error {
		if g.StateAt(tx.Now()) != access.Ended {
			return &access.Error{Kind: access.ErrConflict, Code: "DB-6267", Text: fmt.Sprintf("the grant of %s goes on until %s: it is reviewed when it is over", g.RequestID, g.End.UTC().Format(time.RFC3339)),
				Next: "drawbolt revoke " + g.RequestID + " --reason TEXT"}
		}
		if err := review.Close(by, finding, text, tx.Now()); err != nil {
			return err
		}
		e.Reason = text
		detail(e, "finding", string(finding))
		detail(e, "of", g.UserName)
		detail(e, "open_for", access.FormatDuration(review.ClosedAt.Sub(review.OpenedAt).Truncate(time.Second)))
		return nil
	})
	if err != nil {
		return GlassCase{}, err
	}
	return b.FindGlassCase(ctx, by, id)
}

// onGlass changes the review of a case of break-glass that the caller may review.
func (b *Broker) onGlass(ctx context.Context, by access.Caller, id, verb string, say func(*store.Tx, access.User, *access.Grant, *access.GlassReview, *audit.Event) error) error {
	if err := b.refresh(ctx); err != nil {
		return b.refused(ctx, event(by, verb, id), policyDown(err))
	}
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := event(by, verb, id)
		by, err := b.current(ctx, tx, by)
		if err != nil {
			return e, err
		}
		g, r, err := grantOf(ctx, tx, id)
		if errors.Is(err, access.ErrNotFound) {
			return e, unknownGlass(id)
		}
		if err != nil {
			return e, err
		}
		e.Object, e.Request, e.Target, e.Account = r.ID, r.ID, r.TargetName, r.Account
		target, votes, err := b.around(ctx, tx, r)
		if err != nil {
			return e, err
		}
		q := question{action: policy.ActionRequestRead, by: by, target: target, account: r.Account, request: r, votes: votes}
		if _, err := b.decideNow(ctx, q); err != nil {
			if errors.Is(err, access.ErrDenied) {
				err = unknownGlass(id)
			}
			return e, err
		}
		review, err := tx.GlassReview(ctx, r.ID)
		if errors.Is(err, access.ErrNotFound) {
			return e, unknownGlass(id)
		}
		if err != nil {
			return e, err
		}
		q.action = policy.ActionGlassReview
		d, err := b.decideNow(ctx, q)
		if err != nil {
			return e, err
		}
		e.Rule = d.Rule
		if err := say(tx, by.User, g, &review, &e); err != nil {
			return e, err
		}
		e.Grant = g.ID
		if err := tx.RaiseVersion(ctx, r); err != nil { // its messages and pages look another way now
			return e, err
		}
		return e, tx.SaveGlassReview(ctx, &review)
	})
}

// remindGlass: nobody has looked at break-glass yet.
func (b *Broker) remindGlass(ctx context.Context, tx *store.Tx, id string) (e audit.Event, again time.Time, err error) {
	g, r, err := grantOf(ctx, tx, id)
	if err != nil {
		return e, again, err
	}
	review, err := tx.GlassReview(ctx, id)
	if err != nil || !review.Open() {
		return e, again, err
	}
	e = event(access.System(), store.DueGlassReview, r.ID)
	e.Request, e.Grant, e.Target, e.Account = r.ID, g.ID, r.TargetName, r.Account
	e.Reason = "open for " + access.FormatDuration(tx.Now().Sub(review.OpenedAt).Truncate(time.Hour))
	detail(&e, "of", r.RequesterName)
	return e, review.RemindAfter(tx.Now()), nil
}

// EmergencyGroup is the group of the emergency user that EmergencyUser makes.
const EmergencyGroup = "emergency"

// EmergencyUser returns the emergency user of that name, and makes one that is
// not there yet. It is no verb of a person: whoever may run it has the vault's
// root key, and prints the codes with which that user logs in.
func (b *Broker) EmergencyUser(ctx context.Context, name string) (access.User, error) {
	u, err := b.c.Store.User(ctx, name)
	switch {
	case err == nil && !u.Emergency:
		return u, &access.Error{Kind: access.ErrConflict, Code: "DB-6268", Text: name + " is an ordinary user: an emergency user logs in with sealed codes and with nothing else", Next: "drawboltd breakglass codes --user NAME"}
	case err == nil || !errors.Is(err, access.ErrNotFound):
		return u, err
	}
	u = access.User{ID: access.NewID(access.UserPrefix), Name: name, Display: "Emergency", Groups: []string{EmergencyGroup}, Emergency: true, Version: 1}
	if err := u.Validate(); err != nil {
		return u, err
	}
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := event(access.System(), "user.add", u.ID)
		u.CreatedAt = tx.Now()
		userDetails(&e, &u)
		detail(&e, "emergency", "yes")
		return e, tx.AddUser(ctx, &u)
	})
	return u, err
}

// errEmergency: what an emergency user gets beside breaking glass is nothing.
var errEmergency = &access.Error{Kind: access.ErrDenied, Code: "DB-6269", Rule: "emergency.only", Text: "an emergency user breaks glass and does nothing else", Next: "drawbolt request TARGET --as ACCOUNT --break-glass --reason TEXT"}

// emergencyMay reports whether a question is one that an emergency user needs the
// answer of: to take access by break-glass, to use it and to give it back. It
// stands before the policy, whatever the roles say.
func emergencyMay(q *question) bool {
	owner := q.owner
	if q.request != nil {
		owner = q.request.RequesterID
	}
	if owner != q.by.User.ID {
		return false
	}
	switch q.action {
	case policy.ActionRequest, policy.ActionActivate, policy.ActionConnect, policy.ActionCheckout, policy.ActionExtend:
		return q.request != nil && q.request.BreakGlass
	case policy.ActionRelease, policy.ActionRequestRead, policy.ActionSessionList:
		return true
	case policy.ActionKeyWrite: // an identity for ssh; see Certify
		return true
	default:
		return false
	}
}

// errCodesOnly: a key or a password of an emergency user would be a way around
// the codes.
var errCodesOnly = &access.Error{Kind: access.ErrDenied, Code: "DB-6256", Rule: "emergency.codes", Text: "an emergency user logs in with sealed codes and with nothing else", Next: "drawbolt login --break-glass"}

// BreaksGlass reports whether a role that the user has lets them break glass, on
// whatever: as the policy finds roles, by groups, attributes and inheritance. It is a
// hint, and decides nothing.
func (b *Broker) BreaksGlass(ctx context.Context, u access.User) (bool, error) {
	if err := b.refresh(ctx); err != nil {
		return false, policyDown(err)
	}
	return b.reach(access.Caller{User: u}).Any(policy.ActionBreakGlass), nil
}
