package broker

import (
	"context"
	"errors"
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
// that there is none.
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

// rolesByHolder finds roles by the ids of users and by groups; all, or one.
func rolesByHolder(roles []access.Role, only string) (held struct{ byUser, byGroup map[string][]*heldRole }) {
	held.byUser, held.byGroup = map[string][]*heldRole{}, map[string][]*heldRole{}
	byName := map[string]*access.Role{}
	for i := range roles {
		byName[roles[i].Name] = &roles[i]
	}
	for i := range roles {
		r := &roles[i]
		if only != "" && r.Name != only {
			continue
		}
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
		for _, id := range r.Users {
			held.byUser[id] = append(held.byUser[id], h)
		}
		for _, g := range r.Groups {
			held.byGroup[g] = append(held.byGroup[g], h)
		}
	}
	return held
}

// HeldDirectly is how a role is held that names the user.
const HeldDirectly = "direct"

// heldByGroup is how a role is held that names a group of the user's.
func heldByGroup(group string) string { return "group " + group }

// holdingsOf lists what some users hold, in their order and by role.
func (b *Broker) holdingsOf(ctx context.Context, held struct{ byUser, byGroup map[string][]*heldRole }, users []access.User, f HoldingFilter) ([]access.Holding, error) {
	var ids []string
	how := make([]map[*heldRole][]string, len(users))
	for i, u := range users {
		of := map[*heldRole][]string{}
		for _, r := range held.byUser[u.ID] {
			of[r] = append(of[r], HeldDirectly)
		}
		for _, g := range u.Groups {
			for _, r := range held.byGroup[g] {
				of[r] = append(of[r], heldByGroup(g))
			}
		}
		if how[i] = of; len(of) > 0 {
			ids = append(ids, u.ID)
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

// takeRole takes a role away from a user, in each way in which they hold it, and
// says what that was. It is no error when they do not hold it any more.
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
