package broker

import (
	"context"
	"errors"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
)

// wantsFactor reports whether a refusal is for want of a second factor, or of a
// fresh one.
func wantsFactor(err error) bool {
	refused, ok := errors.AsType[*access.Error](err)
	return ok && strings.HasPrefix(refused.Rule, "mfa.")
}

// NeedsFactor names a role of the caller one of whose rules wants a second factor;
// empty when none does. Who has such a role keeps one.
func (b *Broker) NeedsFactor(ctx context.Context, by access.Caller) (role string, err error) {
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, event(by, "role.own", by.User.ID)); err != nil {
		return "", err
	}
	roles, err := b.c.Store.Roles(ctx)
	if err != nil {
		return "", err
	}
	wants := map[string]bool{}
	for range roles { // inheritance is at most as deep as there are roles
		for _, r := range roles {
			for _, rule := range r.Rules {
				if rule.MFAWithin > 0 {
					wants[r.Name] = true
				}
			}
			for _, parent := range r.Inherits {
				if wants[parent] {
					wants[r.Name] = true
				}
			}
		}
	}
	for _, r := range roles {
		if wants[r.Name] && holds(&r, &by.User) {
			return r.Name, nil
		}
	}
	return "", nil
}

// FactorsOf returns a user of whom the caller may know what they log in with.
func (b *Broker) FactorsOf(ctx context.Context, by access.Caller, name string) (access.User, error) {
	return b.factorsOf(ctx, by, name, policy.ActionUserRead, "user.factors")
}

// MayTakeFactor returns a user from whom the caller may take a second factor away
// that was lost. Nobody's own is lost: those are removed after signing in with one.
func (b *Broker) MayTakeFactor(ctx context.Context, by access.Caller, name string) (access.User, error) {
	u, err := b.factorsOf(ctx, by, name, policy.ActionUserWrite, "user.factor.take")
	if err == nil && samePerson(u.ID, by.User.ID) {
		return u, b.refused(ctx, event(by, "user.factor.take", u.ID), ownFactor)
	}
	return u, err
}

var ownFactor = &access.Error{
	Kind: access.ErrDenied, Code: "DB-6572", Rule: "factor.own", Text: "nobody takes a second factor away from themselves: whoever has lost one asks another administrator",
	Next: `sign in with another one, and remove it under "How you sign in"`,
}

func (b *Broker) factorsOf(ctx context.Context, by access.Caller, name string, action policy.Action, what string) (access.User, error) {
	if _, err := b.allow(ctx, question{action: action, by: by}, event(by, what, name)); err != nil {
		return access.User{}, err
	}
	u, err := b.c.Store.User(ctx, name)
	return u, unknownUser(err, name)
}
