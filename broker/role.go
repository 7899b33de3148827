package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

func unknownRole(err error, name string) error {
	if errors.Is(err, access.ErrNotFound) {
		return &access.Error{Kind: access.ErrNotFound, Code: "DB-2107", Text: "there is no role " + audit.Clean(name, 64), Next: "drawbolt role ls"}
	}
	return err
}

// Roles lists the roles.
func (b *Broker) Roles(ctx context.Context, by access.Caller) ([]access.Role, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionRoleRead, by: by}, event(by, "role.list", "")); err != nil {
		return nil, err
	}
	return b.c.Store.Roles(ctx)
}

// FindRole returns a role by name.
func (b *Broker) FindRole(ctx context.Context, by access.Caller, name string) (access.Role, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionRoleRead, by: by}, event(by, "role.read", name)); err != nil {
		return access.Role{}, err
	}
	r, err := b.c.Store.Role(ctx, name)
	return r, unknownRole(err, name)
}

// SetRole adds a role (Version 0) or changes it (the version that the caller
// saw). All roles together must make sense to the policy, somebody must still
// be able to change roles, and nobody gives a role to themselves.
func (b *Broker) SetRole(ctx context.Context, by access.Caller, r access.Role) (access.Role, error) {
	if err := r.Validate(); err != nil {
		return r, err
	}
	err := b.write(ctx, by, policy.ActionRoleWrite, event(by, "role.set", r.Name), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		if err := tx.LockPolicy(ctx); err != nil {
			return err
		}
		roles, err := tx.Roles(ctx)
		if err != nil {
			return err
		}
		networks, err := tx.Networks(ctx, maxNetworks)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(roles, func(o access.Role) bool { return o.Name == r.Name })
		before := slices.Clone(roles)
		var was access.Role
		if i >= 0 {
			was = roles[i]
			roles[i] = r
		} else {
			roles = append(roles, r)
		}
		if was.Version != r.Version {
			return staleVersion("role " + r.Name)
		}
		if err := checkRoles(roles, networks); err != nil {
			return err
		}
		if holds(&r, &by.User) && !holds(&was, &by.User) {
			return ownRights
		}
		if len(administratorRoles(before)) > 0 && len(administratorRoles(roles)) == 0 {
			return lastAdministrator
		}
		roleDetails(e, &r)
		if was.Version == 0 {
			r.Version = 1
			err = tx.AddRole(ctx, &r)
		} else {
			err = tx.SaveRole(ctx, &r)
		}
		if err != nil {
			return err
		}
		if err := keepAdministrator(ctx, tx); err != nil {
			return err
		}
		return nobodyHasBoth(ctx, tx, before, roles)
	})
	return r, err
}

// roleDetails tells what the role is from now on, as far as an event has room.
func roleDetails(e *audit.Event, r *access.Role) {
	detail(e, "groups", strings.Join(r.Groups, " "))
	detail(e, "users", strings.Join(r.Users, " "))
	for name, values := range r.Attributes {
		detail(e, "attribute_"+name, strings.Join(values, ", "))
	}
	detail(e, "inherits", strings.Join(r.Inherits, " "))
	detail(e, "excludes", strings.Join(r.Excludes, " "))
	for i, rule := range r.Rules {
		if i == maxRuleDetails {
			detail(e, "more", "rules")
			break
		}
		b, err := json.Marshal(rule)
		if err != nil {
			continue // strings, numbers and lists of them always do
		}
		detail(e, fmt.Sprintf("rule_%02d", i+1), string(b))
	}
}

const maxRuleDetails = 16

// RemoveRole removes a role that no other inherits.
func (b *Broker) RemoveRole(ctx context.Context, by access.Caller, name string) error {
	return b.write(ctx, by, policy.ActionRoleWrite, event(by, "role.remove", name), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		roles, err := tx.Roles(ctx)
		if err != nil {
			return err
		}
		networks, err := tx.Networks(ctx, maxNetworks)
		if err != nil {
			return err
		}
		left := slices.DeleteFunc(slices.Clone(roles), func(r access.Role) bool { return r.Name == name })
		if len(left) == len(roles) {
			return unknownRole(access.ErrNotFound, name)
		}
		if err := checkRoles(left, networks); err != nil {
			return err
		}
		if err := tx.RemoveRole(ctx, name); err != nil {
			return err
		}
		if len(administratorRoles(roles)) > 0 && len(administratorRoles(left)) == 0 {
			return lastAdministrator
		}
		return keepAdministrator(ctx, tx)
	})
}

// OwnRoles are the roles that the caller is given, by name, by a group or by
// attributes, and which of them they do not hold all the same.
func (b *Broker) OwnRoles(ctx context.Context, by access.Caller) ([]HeldRole, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, event(by, "role.own", by.User.ID)); err != nil {
		return nil, err
	}
	roles, err := b.c.Store.Roles(ctx)
	if err != nil {
		return nil, err
	}
	return exclusions(roles).rolesOf(&by.User), nil
}
