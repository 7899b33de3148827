package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Lists of what there may be ten thousand of: targets, people and groups, a page
// at a time.

// maxLooked is how many targets are asked about for one page.
const maxLooked = 400

// A TargetFilter picks targets, by name. Zero fields do not limit.
type TargetFilter struct {
	Part                                  string // of the name
	Environment, Tier, Owner, Application string
	Usable                                bool   // those on which the caller may do something
	After                                 string // the name behind which the page begins
	Limit                                 int    // default 50, at most 200
}

func (f *TargetFilter) matches(t *access.Target) bool {
	return (f.Environment == "" || f.Environment == t.Labels.Environment) && (f.Tier == "" || f.Tier == t.Labels.Tier) &&
		(f.Owner == "" || f.Owner == t.Labels.Owner) && (f.Application == "" || slices.Contains(t.Applications, f.Application))
}

// FindTargets returns a page of the targets that the caller may know, and the name
// behind which the next one begins ("": there is none). Who may know few of many
// gets short pages, even empty ones, and asks for the next.
func (b *Broker) FindTargets(ctx context.Context, by access.Caller, f TargetFilter) (list []TargetView, next string, err error) {
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, event(by, "target.list", "")); err != nil {
		return nil, "", err
	}
	grants, err := b.c.Store.OpenGrants(ctx, by.User.ID, b.now().UnixMicro())
	if err != nil {
		return nil, "", err
	}
	limit, viewer := pageSize(f.Limit), b.viewer(by, grants)
	keep := func(t *access.Target) bool { return f.matches(t) && viewer.mentions(t) }
	after := f.After
	for looked := 0; looked < maxLooked; {
		page, rest, err := b.c.Store.SieveTargets(ctx, after, strings.ToLower(f.Part), limit, keep)
		if err != nil {
			return nil, "", err
		}
		for _, t := range page {
			if len(list) == limit {
				return list, after, nil
			}
			after = t.Name
			looked++
			v := viewer.view(ctx, t)
			if (v.Admin || len(v.Accounts) > 0) && (!f.Usable || slices.ContainsFunc(v.Accounts, func(a AccountView) bool { return a.Usable || a.MayAsk })) {
				list = append(list, v)
			}
		}
		if after = rest; rest == "" {
			break
		}
	}
	return list, after, nil
}

func pageSize(limit int) int {
	if limit <= 0 {
		return 50
	}
	return min(limit, 200)
}

// A UserFilter picks users, by name. Zero fields do not limit.
type UserFilter struct {
	Part  string // of the name
	Group string
	After string // the name behind which the page begins
	Limit int    // default 50, at most 200
}

// FindUsers returns a page of users, and the name behind which the next one begins
// ("": there is none).
func (b *Broker) FindUsers(ctx context.Context, by access.Caller, f UserFilter) (list []access.User, next string, err error) {
	if _, err := b.allow(ctx, question{action: policy.ActionUserRead, by: by}, event(by, "user.list", "")); err != nil {
		return nil, "", err
	}
	limit := pageSize(f.Limit)
	list, err = b.c.Store.UsersAfter(ctx, f.After, strings.ToLower(f.Part), f.Group, limit+1)
	if err == nil && len(list) > limit {
		list = list[:limit]
		next = list[limit-1].Name
	}
	return list, next, err
}

// A Group is a name that users have in common.
type Group struct {
	Name    string
	Members int
	Roles   []string // that its members hold by it, as far as the caller may read roles
}

// Groups lists the groups that have a member or a role, by name.
func (b *Broker) Groups(ctx context.Context, by access.Caller) ([]Group, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionUserRead, by: by}, event(by, "group.list", "")); err != nil {
		return nil, err
	}
	sizes, err := b.c.Store.GroupSizes(ctx)
	if err != nil {
		return nil, err
	}
	groups := map[string]*Group{}
	named := func(name string) *Group {
		if groups[name] == nil {
			groups[name] = &Group{Name: name}
		}
		return groups[name]
	}
	for name, n := range sizes {
		named(name).Members = n
	}
	roles, err := b.rolesFor(ctx, by)
	if err != nil {
		return nil, err
	}
	for _, r := range roles {
		for _, g := range r.Groups {
			named(g).Roles = append(named(g).Roles, r.Name)
		}
	}
	var list []Group
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		list = append(list, *groups[name])
	}
	return list, nil
}

// rolesFor are the roles, or none when the caller may not read them.
func (b *Broker) rolesFor(ctx context.Context, by access.Caller) ([]access.Role, error) {
	if _, err := b.decideNow(ctx, question{action: policy.ActionRoleRead, by: by}); errors.Is(err, access.ErrDenied) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return b.c.Store.Roles(ctx)
}

// A Person is a user with what is known of them besides.
type Person struct {
	User  access.User
	Roles []HeldRole   // as far as the caller may read roles
	Login *audit.Event // the newest login that the log tells of; nil: none
	// May say what the caller may change; the verbs ask again.
	MayWrite, MayLock bool
}

// A HeldRole is a role that somebody is given, and by what.
type HeldRole struct {
	Name       string
	By         []string // groups
	Attributes bool     // by what the identity source says of them; neither: by name
	Not        string   // why they do not hold it all the same; "": they do
}

// FindPerson returns a user by name with their roles and their newest login.
func (b *Broker) FindPerson(ctx context.Context, by access.Caller, name string) (Person, error) {
	u, err := b.FindUser(ctx, by, name)
	if err != nil {
		return Person{}, err
	}
	p := Person{User: u}
	roles, err := b.rolesFor(ctx, by)
	if err != nil {
		return Person{}, err
	}
	p.Roles = exclusions(roles).rolesOf(&u)
	leaf, err := b.c.Store.LastLogin(ctx, u.ID)
	if err == nil {
		var e audit.Event
		if e, err = audit.Parse(leaf); err == nil {
			p.Login = &e
		}
	}
	if err != nil && !errors.Is(err, access.ErrNotFound) {
		return Person{}, err
	}
	may, err := b.May(ctx, by, policy.ActionUserWrite, policy.ActionLockWrite)
	p.MayWrite, p.MayLock = may[policy.ActionUserWrite], may[policy.ActionLockWrite]
	return p, err
}
