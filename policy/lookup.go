package policy

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A Lookup looks into the roles of one moment, without asking the bundle. What it says
// is what the bundle is told too, and no decision.
type Lookup struct {
	rules *ruleset
	data  Data
}

// Lookup returns a look into the roles as they are now.
func (e *Engine) Lookup() Lookup {
	st := e.state.Load()
	return Lookup{st.rules, st.data}
}

// A RuleName names a rule.
type RuleName struct{ Role, ID string }

// RolesOf returns the names of the roles that the user has, the inherited ones too,
// sorted.
func (l Lookup) RolesOf(u User) []string {
	in := (&Input{User: u}).filled()
	user := in.value().(ast.Object).Get(kUser)
	set, ok := l.rules.rolesOf([]*ast.Term{user}).Value.(ast.Set)
	if !ok {
		return nil
	}
	names := make([]string, 0, set.Len())
	set.Foreach(func(t *ast.Term) { names = append(names, string(t.Value.(ast.String))) })
	slices.Sort(names)
	return names
}

// Matching returns the rules of any of the roles that list the action for the account
// on the target, in the order in which they decide.
func (l Lookup) Matching(roles []string, action Action, t Target, account string) []RuleName {
	var found []*entry
	for _, role := range roles {
		for _, e := range l.rules.rules[role][action] {
			if e.matches(account, t.Name, t.Labels) {
				found = append(found, e)
			}
		}
	}
	slices.SortFunc(found, func(a, b *entry) int { return a.position - b.position })
	list := make([]RuleName, len(found))
	for i, e := range found {
		list[i] = RuleName{e.role, e.rule.ID}
	}
	return slices.Compact(list)
}

// Roles returns the names of all roles.
func (l Lookup) Roles() []string {
	names := make([]string, len(l.data.Roles))
	for i, r := range l.data.Roles {
		names[i] = r.Name
	}
	return names
}

// Rule returns a rule by its name.
func (l Lookup) Rule(n RuleName) (Rule, bool) {
	for _, r := range l.data.Roles {
		if r.Name != n.Role {
			continue
		}
		if i := slices.IndexFunc(r.Rules, func(rule Rule) bool { return rule.ID == n.ID }); i >= 0 {
			return r.Rules[i], true
		}
	}
	return Rule{}, false
}

// Path returns how the user comes to a role, the shortest way: "group dbas", then the
// roles from the one that the group has to the one that is meant. It is empty when the
// user does not have the role, also when that is because it excludes another of theirs.
func (l Lookup) Path(u User, role string) []string {
	if !slices.Contains(l.RolesOf(u), role) {
		return nil
	}
	roles := map[string]*Role{}
	for i := range l.data.Roles {
		roles[l.data.Roles[i].Name] = &l.data.Roles[i]
	}
	type way struct {
		at   *Role
		path []string
	}
	var ways []way
	for i := range l.data.Roles {
		r := &l.data.Roles[i]
		if first := l.membership(r, u); first != "" {
			ways = append(ways, way{r, []string{first, "role " + r.Name}})
		}
	}
	seen := map[string]bool{}
	for len(ways) > 0 {
		w := ways[0]
		ways = ways[1:]
		if w.at.Name == role {
			return w.path
		}
		if seen[w.at.Name] {
			continue
		}
		seen[w.at.Name] = true
		for _, junior := range w.at.Inherits {
			if r := roles[junior]; r != nil {
				ways = append(ways, way{r, append(slices.Clone(w.path), "role "+junior)})
			}
		}
	}
	return nil
}

// membership says by what the user is a member of the role itself; "" when they are
// not.
func (l Lookup) membership(r *Role, u User) string {
	if slices.Contains(r.Users, u.ID) {
		return "named in person"
	}
	for _, g := range r.Groups {
		if slices.Contains(u.Groups, g) {
			return "group " + g
		}
	}
	if r.heldByAttributes(u) {
		return r.attributeWords(func(key string) string { return u.Attributes[key] })
	}
	return ""
}

// heldByAttributes reports whether the user has each of the attributes that the role
// wants, as [ruleset.assigned] decides.
func (r *Role) heldByAttributes(u User) bool {
	for key, values := range r.Attributes {
		if value, ok := u.Attributes[key]; !ok || !slices.Contains(values, value) {
			return false
		}
	}
	return len(r.Attributes) > 0
}

// attributeWords names the attributes that the role wants, with a value of each:
// "attribute team db", "attributes site nyc and team db".
func (r *Role) attributeWords(value func(key string) string) string {
	var list []string
	for _, key := range sortedKeys(r.Attributes) {
		list = append(list, key+" "+value(key))
	}
	if len(list) == 1 {
		return "attribute " + list[0]
	}
	return "attributes " + andList(list)
}
