package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// BeginLink makes the code with which the holder of an external account says
// whose it is. The caller of BeginLink knows from the system itself who that
// holder is, and shows the code to nobody else. It is good once, for
// access.LinkTTL, and takes the place of the one that the account had.
func (b *Broker) BeginLink(ctx context.Context, a access.ExternalAccount) (code string, err error) {
	if err := a.Validate(); err != nil {
		return "", err
	}
	code = rand.Text()
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := audit.Event{Actor: "unknown", Action: "link.begin", Object: a.Kind}
		externalDetails(&e, a)
		return e, tx.AddLinkCode(ctx, &access.LinkCode{Hash: tokenHash(code), ExternalAccount: a, ExpiresAt: tx.Now().Add(access.LinkTTL)})
	})
	return code, err
}

func externalDetails(e *audit.Event, a access.ExternalAccount) {
	detail(e, "kind", a.Kind)
	detail(e, "team", a.Team)
	detail(e, "account", a.ID)
	detail(e, "account_name", a.Name)
}

func noLinkCode(err error) error {
	if errors.Is(err, access.ErrNotFound) {
		return &access.Error{Kind: access.ErrNotFound, Code: "DB-6190", Text: "this link is not good any more: it works once, within ten minutes", Next: "/access link"}
	}
	return err
}

// FindLink returns the external account that the code stands for, for the caller
// to say whether it is theirs.
func (b *Broker) FindLink(ctx context.Context, by access.Caller, code string) (access.ExternalAccount, error) {
	e := event(by, "link.read", by.User.ID)
	if _, err := b.allow(ctx, question{action: policy.ActionKeyWrite, by: by, owner: by.User.ID}, e); err != nil {
		return access.ExternalAccount{}, err
	}
	c, err := b.c.Store.LinkCode(ctx, tokenHash(code), b.now())
	return c.ExternalAccount, noLinkCode(err)
}

// ConfirmLink makes the external account that the code stands for the caller's:
// whoever holds it there acts as the caller here, without a second factor. An
// account that is somebody's already stays theirs.
func (b *Broker) ConfirmLink(ctx context.Context, by access.Caller, code string) (access.Link, error) {
	q := question{action: policy.ActionKeyWrite, by: by, owner: by.User.ID}
	var l access.Link
	err := b.writeIf(ctx, q, event(by, "link.add", by.User.ID), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		c, err := tx.TakeLinkCode(ctx, tokenHash(code))
		if err != nil {
			return noLinkCode(err)
		}
		externalDetails(e, c.ExternalAccount)
		if mine, err := tx.LinksOf(ctx, by.User.ID); err != nil {
			return err
		} else if len(mine) >= access.MaxLinks {
			return &access.Error{Kind: access.ErrConflict, Code: "DB-6360", Text: fmt.Sprintf("you have %d accounts linked already; remove one first", len(mine)), Next: "drawbolt integration slack unlink"}
		}
		l = access.Link{ExternalAccount: c.ExternalAccount, UserID: by.User.ID, CreatedAt: tx.Now()}
		err = tx.AddLink(ctx, &l)
		if errors.Is(err, access.ErrConflict) {
			err = &access.Error{Kind: access.ErrConflict, Code: "DB-6191", Text: "this account is linked to somebody already, who has to remove that first", Next: "drawbolt integration slack unlink"}
		}
		return err
	})
	return l, err
}

// Links lists the accounts in other systems of a user; "" is the caller.
func (b *Broker) Links(ctx context.Context, by access.Caller, user string) ([]access.Link, error) {
	u, err := b.keyHolder(ctx, by, user, event(by, "link.list", user), policy.ActionUserRead)
	if err != nil {
		return nil, err
	}
	return b.c.Store.LinksOf(ctx, u.ID)
}

// Unlink takes an account in another system away from a user ("" is the caller),
// from this moment on.
func (b *Broker) Unlink(ctx context.Context, by access.Caller, user string, a access.ExternalAccount) error {
	e := event(by, "link.remove", user)
	u, err := b.keyHolder(ctx, by, user, e, policy.ActionUserWrite)
	if err != nil {
		return err
	}
	return b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Object = u.ID
		e.Details = map[string]string{"name": u.Name}
		externalDetails(&e, a)
		err := tx.RemoveLink(ctx, a, u.ID)
		if errors.Is(err, access.ErrNotFound) {
			err = &access.Error{Kind: access.ErrNotFound, Code: "DB-6192", Text: "there is no such link", Next: "drawbolt integration slack links"}
		}
		return e, err
	})
}

// Linked says who acts when the holder of an external account does. The caller
// of Linked knows from the system itself that it is they. It is a person without
// a second factor and without an address.
func (b *Broker) Linked(ctx context.Context, a access.ExternalAccount) (access.Caller, error) {
	l, err := b.c.Store.Link(ctx, a)
	var u access.User
	if err == nil {
		u, err = b.c.Store.User(ctx, l.UserID)
	}
	if errors.Is(err, access.ErrNotFound) || err == nil && u.Locked {
		return access.Caller{}, &access.Error{Kind: access.ErrUnauthenticated, Code: "DB-6193", Text: "drawbolt does not know this account: link it with your own first", Next: "/access link"}
	}
	if err != nil {
		return access.Caller{}, err
	}
	return access.Caller{User: u, Via: a.Kind}, nil
}

// LinksTo returns the accounts that the users of these ids have in a workspace,
// for a channel that tells them something.
func (b *Broker) LinksTo(ctx context.Context, kind, team string, userIDs []string) ([]access.Link, error) {
	return b.c.Store.LinksTo(ctx, kind, team, userIDs)
}

// CaseNow returns a request as it is now, for a channel that tells those about it
// whom it concerns.
func (b *Broker) CaseNow(ctx context.Context, id string) (Case, error) { return b.caseOf(ctx, id) }

// SessionNow returns a session as it is now, with its alarms, for such a channel.
func (b *Broker) SessionNow(ctx context.Context, id string) (access.Session, error) {
	return b.c.Store.Session(ctx, id)
}

// DetectionAt returns what the event at a position of the log says was detected, and
// when, for such a channel.
func (b *Broker) DetectionAt(ctx context.Context, position int64) (d Detection, at time.Time, err error) {
	leaf, err := b.c.Store.Leaf(ctx, position)
	if err != nil {
		return d, at, err
	}
	e, err := audit.Parse(leaf)
	if err == nil && e.Action != "session.detect" {
		err = access.ErrNotFound
	}
	return Detection{Level: access.DetectLevel(e.Details["level"]), Rule: e.Details["detect"], Command: e.Details["command"], Sent: e.Details["sent"] == "true"}, e.Time, err
}

// EnvironmentOf returns the label of a target that says what it is for, as the
// request says it to those whom a channel tells; "" of one that was removed.
func (b *Broker) EnvironmentOf(ctx context.Context, targetID string) (string, error) {
	t, err := targetOrRemoved(ctx, b.c.Store, targetID, "")
	return t.Labels.Environment, err
}

// askedAtMost is how many people VoteTakes asks the policy about.
const askedAtMost = 50

// VoteTakes reports whether an approval through a front that proves neither a
// second factor nor an address could count: whether one of those who may vote
// could give theirs so. It is for a front that shows a button to all of them; the
// vote asks again.
func (b *Broker) VoteTakes(ctx context.Context, via string, r *access.Request) (bool, error) {
	if r.StateAt(b.now()) != access.Pending {
		return false, nil
	}
	if err := b.refresh(ctx); err != nil {
		return false, policyDown(err)
	}
	target, err := targetOrRemoved(ctx, b.c.Store, r.TargetID, r.TargetName)
	if err != nil {
		return false, err
	}
	votes, people, err := b.asked(ctx, r)
	if err != nil {
		return false, err
	}
	for _, p := range people[:min(len(people), askedAtMost)] {
		if p.InPlaceOf != "" {
			continue // who is away is in the list too
		}
		_, err := b.decideNow(ctx, question{action: policy.ActionApprove, by: access.Caller{User: p.User, Via: via}, seat: &p.User, target: &target, account: r.Account, request: r, votes: votes})
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, access.ErrDenied) {
			return false, err
		}
	}
	return false, nil
}

// MayCheckIntegration reports whether the caller may have a channel checked, which
// sends something over it, and writes down that it was.
func (b *Broker) MayCheckIntegration(ctx context.Context, by access.Caller, name string) error {
	e := event(by, "integration.check", name)
	if _, err := b.allow(ctx, question{action: policy.ActionIntegrationWrite, by: by}, e); err != nil {
		return err
	}
	return b.c.Store.Record(ctx, e)
}
