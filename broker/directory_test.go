package broker_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// crowd adds targets and people whose names invite mistakes.
func (h *house) crowd(n int) {
	h.t.Helper()
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		for i := range n {
			t := access.Target{ID: access.NewID(access.TargetPrefix), Name: fmt.Sprintf("web-%04d", i), Address: "192.0.2.9:22", CreatedAt: tx.Now(), Version: 1,
				Labels: access.Labels{Environment: []string{"dev", "staging"}[i%2]}, Applications: []string{"shop"}}
			if err := tx.AddTarget(h.t.Context(), &t); err != nil {
				return audit.Event{}, err
			}
			u := access.User{ID: access.NewID(access.UserPrefix), Name: fmt.Sprintf("user_%04d", i), Groups: []string{[]string{"team_a", "teamxa"}[i%2]}, CreatedAt: tx.Now(), Version: 1}
			if err := tx.AddUser(h.t.Context(), &u); err != nil {
				return audit.Event{}, err
			}
		}
		return audit.Event{Actor: "system", Action: "house.furnish"}, nil
	}))
}

func (h *house) allTargets(who string, f broker.TargetFilter) (names []string, pages int) {
	h.t.Helper()
	for {
		list, next, err := h.FindTargets(h.t.Context(), h.as(who), f)
		ok(h.t, err)
		pages++
		for _, v := range list {
			names = append(names, v.Target.Name)
		}
		if next == "" {
			return names, pages
		}
		f.After = next
	}
}

func (h *house) allUsers(f broker.UserFilter) (names []string) {
	h.t.Helper()
	for {
		list, next, err := h.FindUsers(h.t.Context(), h.as("root"), f)
		ok(h.t, err)
		for _, u := range list {
			names = append(names, u.Name)
		}
		if next == "" {
			return names
		}
		f.After = next
	}
}

// TestDirectory pages through targets and people: each once, in order, and only
// what the caller may know.
func TestDirectory(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.crowd(230)
		for _, tt := range []struct {
			who   string
			f     broker.TargetFilter
			want  int
			first string
		}{
			{"root", broker.TargetFilter{}, 233, "db01"},
			{"root", broker.TargetFilter{Limit: 7}, 233, "db01"},
			{"root", broker.TargetFilter{Part: "WEB-00", Limit: 7}, 100, "web-0000"},
			{"root", broker.TargetFilter{Part: "%"}, 0, ""},
			{"root", broker.TargetFilter{Part: "web_0"}, 0, ""},
			{"root", broker.TargetFilter{Environment: "staging", Limit: 7}, 115, "web-0001"},
			{"root", broker.TargetFilter{Environment: "prod", Owner: "x"}, 0, ""},
			{"root", broker.TargetFilter{Application: "shop", Environment: "dev"}, 115, "web-0000"},
			{"alice", broker.TargetFilter{}, 3, "db01"},
			{"alice", broker.TargetFilter{Limit: 1}, 3, "db01"},
			{"alice", broker.TargetFilter{Part: "web"}, 0, ""},
			{"alice", broker.TargetFilter{Usable: true}, 2, "db01"}, // vault01 wants a fresh second factor
			{"mallory", broker.TargetFilter{}, 0, ""},
		} {
			got, _ := h.allTargets(tt.who, tt.f)
			if len(got) != tt.want || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) || tt.want > 0 && got[0] != tt.first {
				t.Errorf("%s %+v: %d targets, want %d from %s; %.10v", tt.who, tt.f, len(got), tt.want, tt.first, got)
			}
		}
		for _, tt := range []struct {
			f    broker.UserFilter
			want int
		}{
			{broker.UserFilter{Limit: 9}, 230 + len(people)}, {broker.UserFilter{Part: "User_"}, 230}, {broker.UserFilter{Part: "%"}, 0},
			{broker.UserFilter{Group: "team_a", Limit: 9}, 115}, {broker.UserFilter{Group: "team"}, 0}, {broker.UserFilter{Group: `"`}, 0}, {broker.UserFilter{Group: "approvers"}, 4},
		} {
			if got := h.allUsers(tt.f); len(got) != tt.want || !slices.IsSorted(got) {
				t.Errorf("%+v: %d people, want %d", tt.f, len(got), tt.want)
			}
		}
		groups, err := h.Groups(t.Context(), h.as("root"))
		ok(t, err)
		i := slices.IndexFunc(groups, func(g broker.Group) bool { return g.Name == "approvers" })
		if i < 0 || groups[i].Members != 4 || !slices.Equal(groups[i].Roles, []string{"approvers"}) {
			t.Errorf("groups: %+v", groups)
		}
		p, err := h.FindPerson(t.Context(), h.as("root"), "erin")
		ok(t, err)
		if p.Login != nil || !p.MayWrite || len(p.Roles) != 2 || p.Roles[0].Name != "approvers" || !slices.Equal(p.Roles[0].By, []string{"approvers"}) {
			t.Errorf("erin: %+v", p)
		}
	})
}

// TestStory tells what was done, in order, and not what was tried; a flood of what
// was tried does not hide it, and nobody reads it who may not read the request.
func TestStory(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c := h.ask("alice", "root@db01")
		for range 30 {
			_, err := h.Approve(t.Context(), h.as("alice"), c.Request.ID, c.Request.Digest(), broker.Answer{})
			want(t, err, access.ErrDenied)
		}
		c = h.approve("bob", c)
		s := h.session("alice", c)
		_, err := h.Revoke(t.Context(), h.as("bob"), c.Grant.ID, "wrong host")
		ok(t, err)
		for _, who := range []string{"alice", "bob", "carol"} {
			story, err := h.Story(t.Context(), h.as(who), c.Request.ID)
			ok(t, err)
			var got []string
			for _, e := range story.Steps {
				got = append(got, e.Action+" by "+e.ActorName)
			}
			if want := []string{"request.create by alice", "request.approve by bob", "grant.open by bob", "grant.revoke by bob"}; !slices.Equal(got, want) {
				t.Errorf("%s reads %v, want %v", who, got, want)
			}
			sees := who != "bob" // who may not list sessions
			if (len(story.Sessions) == 1 && story.Sessions[0].ID == s.Session.ID) != sees {
				t.Errorf("%s sees the sessions %+v", who, story.Sessions)
			}
		}
		for _, id := range []string{c.Request.ID, c.Grant.ID} {
			_, err = h.Story(t.Context(), h.as("mallory"), id)
			want(t, err, access.ErrNotFound)
		}
	})
}

// TestLastLogin is of the person, and the newest.
func TestLastLogin(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		for i, who := range []string{"bob", "alice", "alice", "bob"} {
			u := h.user(who)
			ok(t, h.db.Record(t.Context(), audit.Event{Actor: u.ID, ActorName: who, Action: "login", Object: fmt.Sprint(i), Outcome: audit.Done}))
		}
		p, err := h.FindPerson(t.Context(), h.as("root"), "alice")
		ok(t, err)
		if p.Login == nil || p.Login.Object != "2" {
			t.Errorf("alice's newest login: %+v", p.Login)
		}
	})
}
