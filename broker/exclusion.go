package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
)

// Roles that exclude each other. The policy gives neither to who has both; here it
// is refused that somebody gets there by a change of drawbolt's own. What a
// directory does to groups is for the policy alone.

// An exclusion is two roles that nobody may have both of, in order of their names.
type exclusion struct{ one, other string }

// exclusive is which roles exclude each other.
type exclusive struct {
	roles    []access.Role
	pairs    []exclusion
	excluded map[exclusion]bool
	juniors  map[string]map[string]bool // all that a role has by inheritance, itself too
}

func exclusions(roles []access.Role) *exclusive {
	x := &exclusive{roles: roles, excluded: map[exclusion]bool{}, juniors: map[string]map[string]bool{}}
	byName := map[string]*access.Role{}
	for i := range roles {
		byName[roles[i].Name] = &roles[i]
		for _, other := range roles[i].Excludes {
			p := exclusion{min(roles[i].Name, other), max(roles[i].Name, other)}
			x.excluded[p] = true
			x.pairs = append(x.pairs, p)
		}
	}
	if len(x.pairs) == 0 {
		return x
	}
	for _, r := range roles {
		has := map[string]bool{}
		for todo := []string{r.Name}; len(todo) > 0; todo = todo[1:] {
			if role := byName[todo[0]]; role != nil && !has[role.Name] {
				has[role.Name] = true
				todo = append(todo, role.Inherits...)
			}
		}
		x.juniors[r.Name] = has
	}
	return x
}

// both returns a pair of which the user has both, other than those that they had
// before: who had both can be changed all the same, or nobody could mend it.
func (x *exclusive) both(u *access.User, had func(exclusion) bool) (exclusion, bool) {
	has := x.held(u)
	for _, p := range x.pairs {
		if has[p.one] && has[p.other] && !had(p) {
			return p, true
		}
	}
	return exclusion{}, false
}

// had reports whether the user has both of a pair.
func (x *exclusive) had(u *access.User) func(exclusion) bool {
	has := x.held(u)
	return func(p exclusion) bool { return has[p.one] && has[p.other] }
}

// held are the roles that the user has if none excludes another.
func (x *exclusive) held(u *access.User) map[string]bool {
	has := map[string]bool{}
	for i := range x.roles {
		if holds(&x.roles[i], u) {
			maps.Copy(has, x.juniors[x.roles[i].Name])
		}
	}
	return has
}

// rolesOf are the roles that the user is given, each with why it is not held all the
// same: whoever has two that exclude each other has neither, nor what has one of them
// by inheritance.
func (x *exclusive) rolesOf(u *access.User) (list []HeldRole) {
	has := x.held(u)
	for i := range x.roles {
		r := &x.roles[i]
		if !holds(r, u) {
			continue
		}
		h := HeldRole{Name: r.Name, Attributes: hasAttributes(r, u), By: slices.DeleteFunc(slices.Clone(r.Groups), func(g string) bool { return !u.In(g) })}
		for _, p := range x.pairs {
			if has[p.one] && has[p.other] && (x.juniors[r.Name][p.one] || x.juniors[r.Name][p.other]) {
				h.Not = fmt.Sprintf("%s and %s exclude each other, so neither is held", p.one, p.other)
				break
			}
		}
		list = append(list, h)
	}
	return list
}

// notBoth refuses to give a user both of two roles that exclude each other. was is
// the user before, or nobody.
func notBoth(ctx context.Context, tx *store.Tx, u, was *access.User) error {
	roles, err := tx.Roles(ctx)
	if err != nil {
		return err
	}
	x := exclusions(roles)
	p, yes := x.both(u, x.had(was))
	if !yes {
		return nil
	}
	return &access.Error{Kind: access.ErrDenied, Code: "DB-6176", Rule: "role.excludes", Next: "drawbolt user set " + u.Name + " --remove-group GROUP",
		Text: fmt.Sprintf("%s would have the roles %s and %s, which exclude each other", u.Name, p.one, p.other)}
}

// nobodyHasBoth refuses roles by which somebody has both of two that exclude each
// other and did not have before.
func nobodyHasBoth(ctx context.Context, tx *store.Tx, before, after []access.Role) error {
	x := exclusions(after)
	if len(x.pairs) == 0 {
		return nil
	}
	users, err := tx.Users(ctx)
	if err != nil {
		return err
	}
	was := exclusions(before)
	for i := range users {
		of := was.had(&users[i])
		if p, yes := x.both(&users[i], func(p exclusion) bool { return was.excluded[p] && of(p) }); yes {
			return &access.Error{Kind: access.ErrDenied, Code: "DB-6177", Rule: "role.excludes", Next: "drawbolt user show " + users[i].Name,
				Text: fmt.Sprintf("%s has the roles %s and %s, which would exclude each other", users[i].Name, p.one, p.other)}
		}
	}
	return nil
}
