package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
)

// UsedWithin is how far back uses of rights are counted where nothing else is
// asked for.
const UsedWithin = 90 * 24 * time.Hour

// A HoldingFilter picks who has which role. Zero fields do not limit.
type HoldingFilter struct {
	Role, User string // names
	Unused     bool   // those that were not used since Since, of those whose uses are counted
	Since      time.Time
	After      string // name of the last user of the page before
	Limit      int    // default 200, at most 1000
}

// Bounds of one page of holdings.
const (
	maxHoldings   = 1000
	holdingChunk  = 500    // users that are looked at together
	holdingLooked = 20_000 // users that are looked at for one page
)

// Holdings lists who has which role, how, and when they last used it, by the
// names of the people. A page ends with everything of its last user, so it may be
// longer than the limit. The second result is where the next page begins; "" says
// that there is none. Who has two roles that exclude each other, and so for the time
// being neither, is listed with both.
func (b *Broker) Holdings(ctx context.Context, by access.Caller, f HoldingFilter) ([]access.Holding, string, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionReviewRead, by: by}, event(by, "review.report", "")); err != nil {
		return nil, "", err
	}
	return b.holdings(ctx, f)
}

func (b *Broker) holdings(ctx context.Context, f HoldingFilter) ([]access.Holding, string, error) {
	if f.Limit <= 0 {
		f.Limit = 200
	}
	f.Limit = min(f.Limit, maxHoldings)
	if f.Since.IsZero() {
		f.Since = b.now().Add(-UsedWithin)
	}
	roles, err := b.c.Store.Roles(ctx)
	if err != nil {
		return nil, "", err
	}
	if f.Role != "" && !slices.ContainsFunc(roles, func(r access.Role) bool { return r.Name == f.Role }) {
		return nil, "", unknownRole(access.ErrNotFound, f.Role)
	}
	held := rolesByHolder(roles, f.Role)
	if f.User != "" {
		u, err := b.c.Store.User(ctx, f.User)
		if err != nil {
			return nil, "", unknownUser(err, f.User)
		}
		list, err := b.holdingsOf(ctx, held, []access.User{u}, f)
		return list, "", err
	}
	var list []access.Holding
	after := f.After
	for looked := 0; looked < holdingLooked; looked += holdingChunk {
		users, err := b.c.Store.UsersAfter(ctx, after, "", "", holdingChunk)
		if err != nil {
			return nil, "", err
		}
		found, err := b.holdingsOf(ctx, held, users, f)
		if err != nil {
			return nil, "", err
		}
		for i, h := range found {
			if len(list) >= f.Limit && h.UserID != list[len(list)-1].UserID {
				return list, found[i-1].UserName, nil
			}
			list = append(list, h)
		}
		if len(users) < holdingChunk {
			return list, "", nil
		}
		after = users[len(users)-1].Name
		if len(list) >= f.Limit {
			break
		}
	}
	return list, after, nil
}

// A heldRole is a role with what its uses are counted by.
type heldRole struct {
	name    string
	grants  []string // itself and the roles that it inherits: whose grants are its uses
	asks    bool     // its rules let people ask for access
	decides bool     // its rules let people vote
}

// A way is one by which people come to a role that is looked for.
type way struct {
	to      *heldRole
	through string // role of theirs that inherits it; "": they have it itself
}

// holders say who has which role, as the policy finds it: by the ids of users, by
// groups, and by attributes.
type holders struct {
	byUser, byGroup map[string][]way
	byAttributes    []attributeWay
}

type attributeWay struct {
	way
	role *access.Role
}

// rolesByHolder finds roles by who has them; all, or one. A role that is looked for by
// its name is also held through those that inherit it. In a list of all, these are
// there themselves, and nobody takes away the one without the other.
func rolesByHolder(roles []access.Role, only string) holders {
	held := holders{byUser: map[string][]way{}, byGroup: map[string][]way{}}
	byName := map[string]*access.Role{}
	for i := range roles {
		byName[roles[i].Name] = &roles[i]
	}
	var wanted *heldRole
	if r := byName[only]; r != nil {
		wanted = newHeldRole(r, byName)
	}
	for i := range roles {
		r := &roles[i]
		w := way{to: newHeldRole(r, byName)}
		if only != "" && r.Name != only {
			if !slices.Contains(w.to.grants, only) {
				continue
			}
			w = way{to: wanted, through: r.Name}
		} else if only != "" {
			w.to = wanted
		}
		for _, id := range r.Users {
			held.byUser[id] = append(held.byUser[id], w)
		}
		for _, g := range r.Groups {
			held.byGroup[g] = append(held.byGroup[g], w)
		}
		if len(r.Attributes) > 0 {
			held.byAttributes = append(held.byAttributes, attributeWay{w, r})
		}
	}
	return held
}

// newHeldRole puts together what a role has by itself and by those that it inherits.
func newHeldRole(r *access.Role, byName map[string]*access.Role) *heldRole {
	h := &heldRole{name: r.Name, grants: []string{r.Name}}
	for i := 0; i < len(h.grants); i++ {
		part := byName[h.grants[i]]
		if part == nil {
			continue
		}
		for _, parent := range part.Inherits {
			if !slices.Contains(h.grants, parent) {
				h.grants = append(h.grants, parent)
			}
		}
		for _, rule := range part.Rules {
			for _, a := range rule.Actions {
				switch policy.Action(a) {
				case policy.ActionRequest, policy.ActionBreakGlass:
					h.asks = true
				case policy.ActionApprove, policy.ActionDeny:
					h.decides = true
				}
			}
		}
	}
	return h
}

// HeldDirectly is how a role is held that names the user.
const HeldDirectly = "direct"

// heldByGroup is how a role is held that names a group of the user's.
func heldByGroup(group string) string { return "group " + group }

// heldByAttributes is how a role is held that wants attributes which the user has.
func heldByAttributes(r *access.Role, u *access.User) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(r.Attributes)) {
		list = append(list, name+"="+u.Attributes[name])
	}
	return heldByAttribute + strings.Join(list, " ")
}

const (
	heldByAttribute = "attributes "
	// heldThrough is how a role is held that another role of the user's inherits.
	heldThrough = "role "
)

// of says which roles a user has and how: by themselves first, then through others.
func (h *holders) of(u *access.User) map[*heldRole][]string {
	own, through := map[*heldRole][]string{}, map[*heldRole][]string{}
	add := func(w way, how string) {
		if w.through == "" {
			own[w.to] = append(own[w.to], how)
		} else if how = heldThrough + w.through; !slices.Contains(through[w.to], how) {
			through[w.to] = append(through[w.to], how)
		}
	}
	for _, w := range h.byUser[u.ID] {
		add(w, HeldDirectly)
	}
	for _, g := range u.Groups {
		for _, w := range h.byGroup[g] {
			add(w, heldByGroup(g))
		}
	}
	for _, w := range h.byAttributes {
		if hasAttributes(w.role, u) {
			add(w.way, heldByAttributes(w.role, u))
		}
	}
	for r, how := range through {
		slices.Sort(how)
		own[r] = append(own[r], how...)
	}
	return own
}

// holdingsOf lists what some users hold, in their order and by role.
func (b *Broker) holdingsOf(ctx context.Context, held holders, users []access.User, f HoldingFilter) ([]access.Holding, error) {
	var ids []string
	how := make([]map[*heldRole][]string, len(users))
	for i := range users {
		if how[i] = held.of(&users[i]); len(how[i]) > 0 {
			ids = append(ids, users[i].ID)
		}
	}
	grants, err := b.c.Store.RoleUses(ctx, ids, f.Since)
	if err != nil {
		return nil, err
	}
	votes, err := b.c.Store.Votes(ctx, ids, f.Since)
	if err != nil {
		return nil, err
	}
	var list []access.Holding
	for i, u := range users {
		first := len(list)
		for r, ways := range how[i] {
			h := access.Holding{UserID: u.ID, UserName: u.Name, Role: r.name, How: ways, Measured: r.asks || r.decides}
			count := func(use store.Use) {
				h.Uses += use.Count
				if use.Last.After(h.LastUsed) {
					h.LastUsed = use.Last
				}
			}
			for _, name := range r.grants {
				count(grants[u.ID][name])
			}
			if r.decides {
				count(votes[u.ID])
			}
			if !f.Unused || h.Unused() {
				list = append(list, h)
			}
		}
		slices.SortFunc(list[first:], func(a, b access.Holding) int { return strings.Compare(a.Role, b.Role) })
	}
	return list, nil
}

// takeRole takes a role away from a user, as far as it names them or groups of theirs,
// and says what that was. It is no error when they do not hold it any more. What is
// left, [stillHeld] tells.
func takeRole(ctx context.Context, tx *store.Tx, by access.Caller, i *access.CampaignItem) (taken []string, err error) {
	role, err := tx.Role(ctx, i.Role)
	if errors.Is(err, access.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	user, err := tx.User(ctx, i.UserID)
	if errors.Is(err, access.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if n := slices.Index(role.Users, user.ID); n >= 0 {
		role.Users = slices.Delete(role.Users, n, n+1)
		if err := tx.SaveRole(ctx, &role); err != nil {
			return nil, err
		}
		e := event(by, "role.set", role.Name)
		roleDetails(&e, &role)
		detail(&e, "review", i.CampaignID)
		tx.Also(e)
		taken = append(taken, HeldDirectly)
	}
	groups := len(user.Groups)
	user.Groups = slices.DeleteFunc(user.Groups, func(g string) bool {
		if !slices.Contains(role.Groups, g) {
			return false
		}
		taken = append(taken, heldByGroup(g))
		return true
	})
	if len(user.Groups) == groups {
		return taken, nil
	}
	e := event(by, "user.set", user.ID)
	userDetails(&e, &user)
	detail(&e, "review", i.CampaignID)
	tx.Also(e)
	return taken, tx.SaveUser(ctx, &user)
}

// stillHeld refuses a removal after which the user has the role all the same: by
// attributes, or through another role that the item shows. These stand for more than
// the role, so a review does not change them.
func stillHeld(ctx context.Context, tx *store.Tx, i *access.CampaignItem) error {
	user, err := tx.User(ctx, i.UserID)
	if errors.Is(err, access.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	roles, err := tx.Roles(ctx)
	if err != nil {
		return err
	}
	held := rolesByHolder(roles, i.Role)
	for _, how := range held.of(&user) {
		for _, one := range how {
			next := ""
			switch {
			case strings.HasPrefix(one, heldByAttribute):
				next = "drawbolt user set " + user.Name
			case slices.Contains(i.How, one):
				next = "drawbolt role show " + strings.TrimPrefix(one, heldThrough)
			default:
				continue
			}
			return &access.Error{Kind: access.ErrConflict, Code: "DB-6272", Next: next,
				Text: fmt.Sprintf("%s would keep %s by %s: change that first; nothing was changed", user.Name, i.Role, one)}
		}
	}
	return nil
}
