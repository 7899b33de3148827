package broker_test

import (
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// TestCaseNeedsFactor: who could decide with a fresh second factor is told so, finds
// the request in their inbox, and decides with it only.
func TestCaseNeedsFactor(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	c := h.ask("alice", "root@db01")
	h.setRole("approvers", func(r *access.Role) { r.Rules[0].MFAWithin = time.Minute })
	look := func(mfaAt time.Time) broker.Case {
		t.Helper()
		by := h.as("bob")
		by.MFAAt = mfaAt
		list, err := h.Requests(t.Context(), by, broker.Filter{Inbox: true, Limit: 10})
		ok(t, err)
		if len(list) != 1 || list[0].Request.ID != c.Request.ID {
			t.Fatalf("the inbox of bob: %+v", list)
		}
		return list[0]
	}
	for name, at := range map[string]time.Time{"none": {}, "an old one": h.clock.now().Add(-time.Hour)} {
		if got := look(at); got.MayDecide || !got.NeedsFactor {
			t.Errorf("with %s: may decide %v, needs a factor %v", name, got.MayDecide, got.NeedsFactor)
		}
	}
	if got := look(h.clock.now()); !got.MayDecide || got.NeedsFactor {
		t.Errorf("with a fresh one: may decide %v, needs a factor %v", got.MayDecide, got.NeedsFactor)
	}
	// Nobody whose vote is not asked for is told to show one.
	alice, err := h.FindRequest(t.Context(), h.as("alice"), c.Request.ID)
	ok(t, err)
	if alice.MayDecide || alice.NeedsFactor {
		t.Errorf("who asks: %+v", alice)
	}
}

// TestRoleNeedsFactor looks at the roles that somebody holds, and those these inherit.
func TestRoleNeedsFactor(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	rule := access.Rule{ID: "r", Actions: []string{"request.read"}}
	fresh := rule
	fresh.MFAWithin = time.Hour
	h.setRole("parents", func(r *access.Role) { r.Groups, r.Rules = []string{"nobody"}, []access.Rule{fresh} })
	h.setRole("heirs", func(r *access.Role) {
		r.Groups, r.Inherits, r.Rules = []string{"heirs"}, []string{"parents"}, []access.Rule{rule}
	})
	for who, want := range map[string]string{"erin": "", "frank": "heirs"} {
		groups := []string{"others"}
		if want != "" {
			groups = []string{want}
		}
		u, err := h.db.User(t.Context(), who)
		if err != nil {
			u, err = h.AddUser(t.Context(), h.as("root"), access.User{Name: who, Groups: groups})
			ok(t, err)
		} else {
			h.setGroups(who, groups...)
		}
		got, err := h.NeedsFactor(t.Context(), h.as(u.Name))
		ok(t, err)
		if got != want {
			t.Errorf("%s needs a factor for %q, want %q", who, got, want)
		}
	}
}
