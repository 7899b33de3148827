package notify

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Kinds returns every kind that a channel can be given, in a fixed order. A test
// goes to the channel that is tried, whatever it is given.
func Kinds() []Kind {
	return []Kind{
		Asked, Edited, Questioned, Replied, HandedOver, Voted, Escalated, Approved, Denied, Cancelled, Expired,
		Started, Used, Extended, Ended, Revoked, Digest,
		BreakGlass, ReviewReminder, Reviewed, Unusual, Acknowledged, Expected, CampaignDue, Tampered, PasswordTrouble, AccountFound,
		SignInChanged, SignInReset, PasskeyCopied,
	}
}

// kindsOf are the kinds that an action of the audit log may be told as.
var kindsOf = map[string][]Kind{
	"request.create":         {Asked, Approved},
	"request.edit":           {Edited},
	"request.approve":        {Voted, Approved},
	"request.deny":           {Voted, Denied},
	"request.escalate":       {Escalated},
	"request.cancel":         {Cancelled},
	"request.expire":         {Expired},
	"session.open":           {Started, Used},
	"session.close":          {Used},
	broker.DueDigest:         {Digest},
	"grant.extend":           {Extended},
	"grant.end":              {Ended},
	"grant.release":          {Ended},
	"grant.revoke":           {Revoked},
	"breakglass":             {BreakGlass},
	"breakglass.login":       {BreakGlass},
	"breakglass.remind":      {ReviewReminder},
	"breakglass.review":      {Reviewed},
	"session.detect":         {Unusual},
	"review.due":             {CampaignDue},
	"vault.tampered":         {Tampered},
	"rotation.stuck":         {PasswordTrouble},
	"account.grave":          {AccountFound},
	"rotation.drift":         {PasswordTrouble},
	"integration.test":       {Test},
	"request.question":       {Questioned},
	"request.answer":         {Replied},
	"request.handover":       {HandedOver},
	"breakglass.acknowledge": {Acknowledged},
	"session.acknowledge":    {Acknowledged},
	"session.expected":       {Expected},
	"user.password":          {SignInChanged, SignInReset},
	"user.totp":              {SignInChanged, SignInReset},
	"user.totp.remove":       {SignInChanged, SignInReset},
	"user.passkey.add":       {SignInChanged, SignInReset},
	"user.passkey.remove":    {SignInChanged, SignInReset},
	"user.key.add":           {SignInChanged, SignInReset},
	"user.setup":             {SignInChanged, SignInReset},
	"user.set":               {SignInReset},
	"user.passkey.copied":    {PasskeyCopied},
}

// still is the detail of a vote after which more are needed.
const still = "still"

// emailWas is the detail of a change of a user that says what their address was.
const emailWas = "email_was"

// firstLink is the detail of a link for somebody who has no password yet.
const firstLink = "first"

// ways is what an event does to how somebody signs in.
var ways = map[string]string{
	"user.password":       "a password was chosen",
	"user.totp":           "an authenticator was added",
	"user.totp.remove":    "the authenticator was taken away",
	"user.passkey.add":    "a passkey was added",
	"user.passkey.remove": "a passkey was taken away",
	"user.key.add":        "an SSH key was added",
	"user.setup":          "a link to choose a password was made",
	"user.set":            "the address that gets mail was changed",
	"user.passkey.copied": "a passkey was used that somebody has copied, and is blocked",
}

// kindOf says what an event is told as; "": nobody hears of it.
func kindOf(e audit.Event, t broker.Told) Kind {
	switch e.Action {
	case "request.create":
		switch {
		case t.Case == nil || t.Case.Request.BreakGlass: // of which its own event tells
			return ""
		case len(t.Case.Request.Needs) == 0:
			return Approved
		default:
			return Asked
		}
	case "request.approve", "request.deny":
		if e.Details[still] != "" {
			return Voted
		}
	case "user.password", "user.totp", "user.totp.remove", "user.passkey.add", "user.passkey.remove", "user.key.add":
		if e.Actor == e.Object {
			return SignInChanged
		}
	case "user.setup":
		if e.Details[firstLink] != "" {
			return SignInChanged
		}
	case "user.set":
		if e.Details[emailWas] == "" {
			return ""
		}
	case "session.open":
		if t.Case == nil || t.Case.Grant == nil || t.Session == nil || !t.Case.Grant.Start.Equal(t.Session.OpenedAt) {
			return Used
		}
		return Started
	case "session.detect":
		if e.Details["level"] == string(access.DetectWarn) {
			return "" // the user was told
		}
		if e.Details["expected"] != "" {
			return ""
		}
	}
	kinds := kindsOf[e.Action]
	return kinds[len(kinds)-1]
}

// notice makes the notice of an event for a channel that is given these kinds; nil:
// there is none.
func (d *Dispatcher) notice(ctx context.Context, r *Route, e audit.Event) (*Notice, error) {
	wanted := func(k Kind) bool {
		return k == Test && e.Object == r.Channel.Name() || k != Test && slices.Contains(r.Kinds, k)
	}
	if e.Outcome != audit.Done || !slices.ContainsFunc(kindsOf[e.Action], wanted) {
		return nil, nil
	}
	t, err := d.c.Broker.Tell(ctx, e)
	if err != nil {
		return nil, err
	}
	n := &Notice{
		Position: e.Seq, Kind: kindOf(e, t), At: e.Time, Actor: e.ActorName, Text: e.Reason, Rule: e.Rule,
		Case: t.Case, Requester: t.Requester, Target: t.Target, Session: t.Session, Deciders: t.Deciders,
	}
	if n.Kind == "" || !wanted(n.Kind) {
		return nil, nil
	}
	if n.Kind == AccountFound {
		n.Account = "@" + e.Target
	}
	if n.Kind == PasswordTrouble {
		n.Account = e.Account + "@" + e.Target
	}
	if e.Actor == access.System().User.ID {
		n.Actor = ""
	}
	n.Number, _ = strconv.Atoi(e.Details["question"] + e.Details["alarm"] + e.Details["total"]) // no event has two of them
	switch n.Kind {
	case Questioned, Replied, HandedOver:
		if n.For, err = d.person(ctx, e.Details["for"]); err != nil {
			return nil, err
		}
	}
	if n.Way = ways[e.Action]; n.Way != "" {
		// Who is locked hears of it, too: else a lock would make it silent.
		if n.For, err = d.user(ctx, e.Object); err != nil {
			return nil, err
		}
		// Who changes the address first does not keep the person from hearing of it.
		if was := e.Details[emailWas]; was != "" && n.For != nil {
			before := *n.For
			before.Attributes = map[string]string{access.AttributeEmail: was}
			n.For = &before
		}
		if e.Details["passkey"] != "" && e.Details["name"] != "" {
			n.Way += " (" + e.Details["name"] + ")"
		}
	}
	if n.Kind == Unusual {
		n.Text, n.Rule = e.Details["command"], e.Details["detect"]
	}
	return n, nil
}

// person is the user of that id, as they are now; nil: they are gone, or locked.
func (d *Dispatcher) person(ctx context.Context, id string) (*access.User, error) {
	u, err := d.user(ctx, id)
	if u != nil && u.Locked {
		return nil, nil
	}
	return u, err
}

// user is person, locked or not.
func (d *Dispatcher) user(ctx context.Context, id string) (*access.User, error) {
	u, err := d.c.Store.User(ctx, id)
	if errors.Is(err, access.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &u, nil
}
