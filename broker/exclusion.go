package broker

import (
	"context"
	"fmt"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
)

// Roles that exclude each other. The policy gives neither to who has both; here it
// is refused that somebody gets there by a change of drawbolt's own. What a
// directory does to groups is for the policy alone.

// An exclusion is two roles that nobody may have both of.
type exclusion struct{ one, other string }

// exclusions are the pairs that the roles name, and for each role all that it has
// by inheritance, itself too.
func exclusions(roles []access.Role) (pairs []exclusion, juniors map[string]map[string]bool) {
	byName := map[string]*access.Role{}
	for i := range roles {
		byName[roles[i].Name] = &roles[i]
		for _, other := range roles[i].Excludes {
			pairs = append(pairs, exclusion{roles[i].Name, other})
		}
	}
	if len(pairs) == 0 {
		return nil, nil
	}
	juniors = map[string]map[string]bool{}
	for _, r := range roles {
		has := map[string]bool{}
		for todo := []string{r.Name}; len(todo) > 0; todo = todo[1:] {
			if role := byName[todo[0]]; role != nil && !has[role.Name] {
				has[role.Name] = true
				todo = append(todo, role.Inherits...)
			}
		}
		juniors[r.Name] = has
	}
	return pairs, juniors
}

// both returns the first pair of which the user has both.
func both(roles []access.Role, pairs []exclusion, juniors map[string]map[string]bool, u *access.User) (exclusion, bool) {
	has := map[string]bool{}
	for i := range roles {
		if holds(&roles[i], u) {
			for name := range juniors[roles[i].Name] {
				has[name] = true
			}
		}
	}
	for _, p := range pairs {
		if has[p.one] && has[p.other] {
			return p, true
		}
	}
	return exclusion{}, false
}

// notBoth refuses to give a user both of two roles that exclude each other. was is
// the user before; who had both then may be changed all the same, or nobody could
// mend it step by step.
func notBoth(ctx context.Context, tx *store.Tx, u, was *access.User) error {
	roles, err := tx.Roles(ctx)
	if err != nil {
		return err
	}
	pairs, juniors := exclusions(roles)
	p, yes := both(roles, pairs, juniors, u)
	if !yes {
		return nil
	}
	if was != nil {
		if before, had := both(roles, pairs, juniors, was); had && before == p {
			return nil
		}
	}
	return &access.Error{Kind: access.ErrDenied, Code: "DB-6176", Rule: "role.excludes", Next: "drawbolt user set " + u.Name + " --remove-group GROUP",
		Text: fmt.Sprintf("%s would have the roles %s and %s, which exclude each other", u.Name, p.one, p.other)}
}

// nobodyHasBoth refuses roles by which somebody has both of two that exclude each
// other.
func nobodyHasBoth(ctx context.Context, tx *store.Tx, roles []access.Role) error {
	pairs, juniors := exclusions(roles)
	if len(pairs) == 0 {
		return nil
	}
	users, err := tx.Users(ctx)
	if err != nil {
		return err
	}
	for i := range users {
		if p, yes := both(roles, pairs, juniors, &users[i]); yes {
			return &access.Error{Kind: access.ErrDenied, Code: "DB-6177", Rule: "role.excludes", Next: "drawbolt user show " + users[i].Name,
				Text: fmt.Sprintf("%s has the roles %s and %s, which would exclude each other", users[i].Name, p.one, p.other)}
		}
	}
	return nil
}
