package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A Reach is what the roles of one user mention at all: a sieve for long lists,
// before each thing that passes it is asked about. It allows nothing, and refuses
// nothing but to be shown. It never changes.
type Reach map[Action][]*entry

// Reach returns the reach of a user by the current roles. A user who is not sound
// reaches nothing.
func (e *Engine) Reach(u User) Reach {
	in := Input{User: u}
	if in.check() != nil {
		return nil
	}
	in = in.filled()
	rules, r := e.state.Load().rules, Reach{}
	roles := rules.rolesOf([]*ast.Term{in.value().(ast.Object).Get(kUser)})
	if roles == nil {
		return nil
	}
	roles.Value.(ast.Set).Foreach(func(role *ast.Term) {
		name, _ := role.Value.(ast.String)
		for action, entries := range rules.rules[string(name)] {
			r[action] = append(r[action], entries...)
		}
	})
	return r
}

// Any reports whether a rule lists the action, for whatever.
func (r Reach) Any(action Action) bool { return len(r[action]) > 0 }

// Selects reports whether a rule lists the action for that account of the target.
// Whether its conditions hold is not looked at.
func (r Reach) Selects(action Action, target Target, account string) bool {
	for _, e := range r[action] {
		if e.matches(account, target.Name, target.Labels) {
			return true
		}
	}
	return false
}

// Matching returns which rules list the action for that account of the target, as
// numbers that name them within this Reach. Whether their conditions hold is not
// looked at.
func (r Reach) Matching(action Action, target Target, account string) (list []int) {
	for _, e := range r[action] {
		if e.matches(account, target.Name, target.Labels) {
			list = append(list, e.position)
		}
	}
	slices.Sort(list) // a user may have a role twice
	return slices.Compact(list)
}
