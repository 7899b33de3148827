package broker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// An Access is one way in which somebody can come to an account, and all for whom it is
// the same.
type Access struct {
	Path       []string // "group dbas", "role db-admin"
	Role, Rule string
	Text       string // the rule in words
	Allowed    bool   // now, and with a fresh second factor
	Needs      []access.Need
	Longest    time.Duration
	BreakGlass bool // without any approval, with an alarm
	// Standing: nobody else is asked.
	Standing bool
	// Missing is what has to be otherwise first, when it is not allowed now.
	Missing []string
	Count   int
	People  []string // names, sorted; the first of them
	Targets []string // account@target, sorted; the first of them, when one person's ways are listed
}

// maxPeople bounds how many people, or accounts, are named for one way.
const maxPeople = 1000

// A WhoCan says who can come to an account.
type WhoCan struct {
	Target, Account string
	Ways            []Access
	// Holders have a grant that is open now.
	Holders []Holder
	// Beside drawbolt: what lets people in who never ask, as far as is known.
	Beside []string
	Users  int // that were looked at
}

// A Holder has a grant.
type Holder struct {
	Name, Request string
	Until         time.Time
}

// maxHolders bounds how many holders of grants are listed.
const maxHolders = 1000

// WhoCan lists who can come to an account, by which way, and who has to be asked: for an
// ordinary request and for break-glass. A way that is closed now, because of the hour or
// a network or a ticket, is listed with what is missing. The bundle is asked once for all
// who are alike in what the default bundle looks at; a bundle of the house's own is asked
// for each person who has any role for it.
func (b *Broker) WhoCan(ctx context.Context, by access.Caller, target, account string) (WhoCan, error) {
	e := event(by, "policy.who-can", audit.Clean(account+"@"+target, audit.MaxName))
	if _, err := b.allow(ctx, question{action: policy.ActionPolicyRead, by: by}, e); err != nil {
		return WhoCan{}, err
	}
	if err := errors.Join(access.CheckTargetName(target), access.CheckAccountName(account)); err != nil {
		return WhoCan{}, err
	}
	t, err := b.c.Store.Target(ctx, target)
	if err != nil {
		return WhoCan{}, unknownTarget(err, target)
	}
	known, ok := t.Account(account)
	if !ok {
		return WhoCan{}, unknownTarget(access.ErrNotFound, account+"@"+target)
	}
	out := WhoCan{Target: t.Name, Account: account}
	if known.Credential != access.CredentialCertificate {
		out.Beside = append(out.Beside, "whoever knows the "+string(known.Credential)+" of "+account+" logs in without drawbolt")
	}
	look := b.c.Policy.Lookup()
	for _, breakGlass := range []bool{false, true} {
		action := policy.ActionRequest
		if breakGlass {
			action = policy.ActionBreakGlass
		}
		relevant := map[string]bool{}
		for _, rule := range look.Matching(look.Roles(), action, policyTarget(&t), account) {
			relevant[rule.Role] = true
		}
		if len(relevant) == 0 {
			continue
		}
		ways, users, err := b.waysOf(ctx, look, relevant, &t, account, breakGlass)
		if err != nil {
			return WhoCan{}, err
		}
		out.Ways, out.Users = append(out.Ways, ways...), users
	}
	grants, err := b.c.Store.GrantsOn(ctx, t.ID, account, b.now(), maxHolders)
	if err != nil {
		return WhoCan{}, err
	}
	for _, g := range grants {
		out.Holders = append(out.Holders, Holder{g.UserName, g.RequestID, g.End})
	}
	return out, nil
}

// waysOf asks for everybody who has one of the relevant roles.
func (b *Broker) waysOf(ctx context.Context, look policy.Lookup, relevant map[string]bool, t *access.Target, account string, breakGlass bool) (list []Access, users int, err error) {
	asked := map[string]*Access{}  // nil: nothing comes of it
	byPath := map[string]*Access{} // the same, for those who come to the role alike
	var classes []*Access
	explained := 0
	err = b.c.Store.EachUser(ctx, func(u access.User) error {
		users++
		var roles []string
		for _, role := range look.RolesOf(policyUser(&u)) {
			if relevant[role] {
				roles = append(roles, role)
			}
		}
		if len(roles) == 0 {
			return nil
		}
		class := u.ID
		if b.builtIn() {
			class = strings.Join(roles, "\n")
			if u.Bot || u.Locked {
				class += "\n\nbot or locked" + u.ID
			}
		}
		way, known := asked[class]
		if !known {
			var err error
			if way, err = b.wayOf(ctx, look, &explained, &u, t, account, breakGlass); err != nil {
				return err
			}
			asked[class] = way
		}
		if way == nil {
			return nil
		}
		path := look.Path(policyUser(&u), way.Role)
		class += "\n\n" + strings.Join(path, "\n")
		mine, known := byPath[class]
		if !known {
			copied := *way
			mine = &copied
			mine.Path = path
			byPath[class], classes = mine, append(classes, mine)
		}
		mine.Count++
		if len(mine.People) < maxPeople {
			mine.People = append(mine.People, u.Name)
		}
		return nil
	})
	list = together(classes)
	slices.SortStableFunc(list, func(a, b Access) int {
		return cmp.Or(len(a.Missing)-len(b.Missing), len(a.Needs)-len(b.Needs), strings.Compare(a.Role+"/"+a.Rule, b.Role+"/"+b.Rule))
	})
	return list, users, err
}

// together puts ways together that differ only in who goes them, or where they lead.
func together(classes []*Access) (list []Access) {
	for _, way := range classes {
		i := slices.IndexFunc(list, func(w Access) bool { return w.same(way) })
		if i < 0 {
			list = append(list, *way)
			continue
		}
		list[i].Count += way.Count
		list[i].People = append(list[i].People, way.People...)
		list[i].Targets = append(list[i].Targets, way.Targets...)
	}
	for i := range list {
		for _, names := range []*[]string{&list[i].People, &list[i].Targets} {
			slices.Sort(*names)
			*names = (*names)[:min(len(*names), maxPeople)]
		}
	}
	return list
}

// same reports whether two ways differ only in who goes them.
func (a *Access) same(o *Access) bool {
	return a.Role == o.Role && a.Rule == o.Rule && a.Allowed == o.Allowed && a.BreakGlass == o.BreakGlass &&
		slices.Equal(a.Path, o.Path) && slices.Equal(a.Missing, o.Missing)
}

// maxExplained bounds for how many a refusal is explained; of others the policy's
// sentence is told.
const maxExplained = 200

// builtIn reports whether the bundle in the program decides, of which it is known what
// it looks at.
func (b *Broker) builtIn() bool { return b.c.BuiltIn != "" && b.c.BuiltIn == b.c.Policy.Digest() }

// wayOf asks for one person, with a fresh second factor and for as short as can be. It
// returns nil when nothing short of another role would let them in. explained counts
// the refusals that were explained.
func (b *Broker) wayOf(ctx context.Context, look policy.Lookup, explained *int, u *access.User, t *access.Target, account string, breakGlass bool) (*Access, error) {
	by := access.Caller{User: *u, MFAAt: b.now()}
	in := b.input(question{action: policy.ActionRequest, by: by, target: t, account: account, owner: u.ID, duration: time.Second})
	if breakGlass {
		in.Request.BreakGlass, in.Request.Reason = true, "an emergency"
	}
	d, err := b.c.Policy.Decide(ctx, in)
	if err != nil {
		return nil, policyDown(err)
	}
	way := &Access{Role: d.Role, Rule: d.Rule, Allowed: d.Allow, BreakGlass: breakGlass}
	if !d.Allow && *explained == maxExplained {
		way.Missing = []string{d.Reason()}
	} else if !d.Allow {
		*explained++
		x, err := b.c.Policy.Explain(ctx, in)
		if err != nil {
			return nil, policyDown(err)
		}
		i := slices.IndexFunc(x.Ways, func(set []policy.Change) bool {
			return !slices.ContainsFunc(set, func(c policy.Change) bool {
				return c.Kind == "group" || c.Kind == "attribute" || c.Kind == "account" || c.Kind == "break_glass"
			})
		})
		if i < 0 {
			return nil, nil
		}
		for _, c := range x.Ways[i] {
			way.Missing = append(way.Missing, c.Text)
		}
	}
	if way.Role == "" { // refused before a rule was chosen
		action := policy.ActionRequest
		if breakGlass {
			action = policy.ActionBreakGlass
		}
		if rules := look.Matching(look.RolesOf(policyUser(u)), action, policyTarget(t), account); len(rules) > 0 {
			way.Role, way.Rule = rules[0].Role, rules[0].ID
		}
	}
	if rule, ok := look.Rule(policy.RuleName{Role: way.Role, ID: way.Rule}); ok {
		way.Text, way.Longest = rule.Sentence(), rule.MaxDuration
		if !breakGlass {
			way.Needs = needs(rule.Approvals)
		}
	}
	if d.Allow {
		way.Needs, way.Longest = needs(d.Approvals), d.MaxDuration
	}
	way.Standing = len(way.Needs) == 0 && !breakGlass
	way.Path = look.Path(policyUser(u), way.Role)
	return way, nil
}

func policyUser(u *access.User) policy.User {
	return policy.User{ID: u.ID, Name: u.Name, Groups: u.Groups, Bot: u.Bot, Locked: u.Locked, Attributes: u.Attributes}
}

// CanReach lists what one person can come to, and by which ways.
func (b *Broker) CanReach(ctx context.Context, by access.Caller, user string) ([]Access, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionPolicyRead, by: by}, event(by, "policy.who-can", audit.Clean(user, audit.MaxName))); err != nil {
		return nil, err
	}
	u, err := b.c.Store.User(ctx, user)
	if err != nil {
		return nil, unknownUser(err, user)
	}
	look := b.c.Policy.Lookup()
	roles := look.RolesOf(policyUser(&u))
	asked := map[string]*Access{}
	var order []*Access
	explained := 0
	err = b.c.Store.EachTarget(ctx, func(t access.Target) error {
		pt := policyTarget(&t)
		for _, a := range t.Accounts {
			for _, action := range []policy.Action{policy.ActionRequest, policy.ActionBreakGlass} {
				rules := look.Matching(roles, action, pt, a.Name)
				if len(rules) == 0 {
					continue
				}
				class := t.ID + "\n" + a.Name
				if b.builtIn() {
					class = ""
					if t.Locked {
						class = "locked\n" + t.ID
					}
				}
				class += "\n" + string(action)
				for _, r := range rules {
					class += "\n" + r.Role + "/" + r.ID
				}
				way, known := asked[class]
				if !known {
					var err error
					if way, err = b.wayOf(ctx, look, &explained, &u, &t, a.Name, action == policy.ActionBreakGlass); err != nil {
						return err
					}
					asked[class] = way
					if way != nil {
						order = append(order, way)
					}
				}
				if way != nil {
					way.Count++
					if len(way.Targets) < maxPeople {
						way.Targets = append(way.Targets, a.Name+"@"+t.Name)
					}
				}
			}
		}
		return nil
	})
	list := together(order)
	slices.SortStableFunc(list, func(a, b Access) int { return strings.Compare(a.Role+"/"+a.Rule, b.Role+"/"+b.Rule) })
	return list, err
}
