package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Random verbs of random people on a real store, beside a model that knows
// only who holds which group and who voted for what. Whatever happens, no
// session runs and no grant is open without enough people who may vote now.
func TestRandomLives(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.start()
	names := []string{"alice", "erin", "bob", "dave", "ci", "mallory", "carol", "root"}
	home := map[string][]string{}
	for _, p := range people {
		home[p.name] = p.groups
	}
	needed := map[string]int{"root@db01": 1, "root@db02": 2, "guest@db01": 0}
	reached := map[string]int{}
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		// A new day: what was granted before is over.
		h.clock.advance(48 * time.Hour)
		for _, p := range people {
			h.setUser(p.name, func(u *access.User) { u.Groups, u.Locked = p.groups, false })
		}
		round++
		first := len(h.events())
		var ids []string
		votes := map[string]map[string]bool{} // request -> who voted
		type running struct {
			l    *broker.Live
			who  string
			what string
		}
		var sessions []running
		defer func() {
			for _, s := range sessions {
				_ = h.Close(t.Context(), s.l, broker.Closing{Reason: "exited"})
			}
		}()
		who := rapid.SampledFrom(names)
		what := rapid.SampledFrom([]string{"root@db01", "root@db02", "guest@db01"})
		// likely is mostly the one who may, sometimes anybody.
		likely := func(rt *rapid.T, may ...string) string {
			if rapid.IntRange(0, 4).Draw(rt, "anybody") == 0 {
				return who.Draw(rt, "who")
			}
			return rapid.SampledFrom(may).Draw(rt, "who")
		}
		requester := func(rt *rapid.T, id string) string {
			r, err := h.db.Request(t.Context(), id)
			if err != nil {
				return "alice"
			}
			return likely(rt, r.RequesterName)
		}
		rarely := func(rt *rapid.T) bool { return rapid.IntRange(0, 3).Draw(rt, "rarely") == 0 }
		pick := func(rt *rapid.T) string {
			if len(ids) == 0 {
				return "REQ-0000000000000000"
			}
			return rapid.SampledFrom(ids).Draw(rt, "request")
		}
		fine := func(rt *rapid.T, err error, verb string) bool {
			switch {
			case err == nil:
				reached[verb]++
				return true
			case errors.Is(err, access.ErrDenied), errors.Is(err, access.ErrNotFound), errors.Is(err, access.ErrConflict), errors.Is(err, access.ErrInvalid):
				return false
			default:
				rt.Fatalf("%s: %v", verb, err)
				return false
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"request": func(rt *rapid.T) {
				a := asking(what.Draw(rt, "what"))
				a.Reason = fmt.Sprintf("INC-%d", round)
				a.BreakGlass = rapid.IntRange(0, 9).Draw(rt, "break-glass") == 0
				name := likely(rt, "alice", "erin")
				c, err := h.Request(t.Context(), h.as(name), a)
				if fine(rt, err, "request") {
					if name != c.Request.RequesterName || h.user(name).Locked {
						rt.Fatalf("%s got a request of %s", name, c.Request.RequesterName)
					}
					if !slices.Contains(ids, c.Request.ID) {
						ids = append(ids, c.Request.ID)
					}
				}
			},
			"approve": func(rt *rapid.T) {
				id, name := pick(rt), likely(rt, "bob", "dave", "erin")
				r, _ := h.db.Request(t.Context(), id)
				_, err := h.Approve(t.Context(), h.as(name), id, r.Digest(), broker.Answer{Duration: time.Duration(rapid.IntRange(0, 60).Draw(rt, "minutes")) * time.Minute})
				if fine(rt, err, "approve") {
					u := h.user(name)
					if name == r.RequesterName || u.Bot || u.Locked || !u.In("approvers") || votes[id][name] {
						rt.Fatalf("the vote of %s counted: %+v", name, u)
					}
					if votes[id] == nil {
						votes[id] = map[string]bool{}
					}
					votes[id][name] = true
				}
			},
			"deny": func(rt *rapid.T) {
				if !rarely(rt) {
					return
				}
				_, err := h.Deny(t.Context(), h.as(likely(rt, "bob", "dave")), pick(rt), "", "no")
				fine(rt, err, "deny")
			},
			"cancel": func(rt *rapid.T) {
				if !rarely(rt) {
					return
				}
				id := pick(rt)
				_, err := h.Cancel(t.Context(), h.as(requester(rt, id)), id)
				fine(rt, err, "cancel")
			},
			"open": func(rt *rapid.T) {
				id := pick(rt)
				name := requester(rt, id)
				l, err := h.Open(t.Context(), h.as(name), id, broker.Opening{Kind: "shell"})
				if fine(rt, err, "open") {
					sessions = append(sessions, running{l, name, l.Session.Account + "@" + l.Session.TargetName})
				}
			},
			"extend": func(rt *rapid.T) {
				id := pick(rt)
				_, err := h.Extend(t.Context(), h.as(requester(rt, id)), id, time.Duration(rapid.IntRange(1, 90).Draw(rt, "minutes"))*time.Minute)
				fine(rt, err, "extend")
			},
			"release": func(rt *rapid.T) {
				if !rarely(rt) {
					return
				}
				id := pick(rt)
				_, err := h.Release(t.Context(), h.as(requester(rt, id)), id)
				fine(rt, err, "release")
			},
			"revoke": func(rt *rapid.T) {
				if !rarely(rt) {
					return
				}
				_, err := h.Revoke(t.Context(), h.as(likely(rt, "bob", "root")), pick(rt), "INC-1")
				fine(rt, err, "revoke")
			},
			"groups": func(rt *rapid.T) {
				if !rarely(rt) {
					return
				}
				u := h.user(rapid.SampledFrom([]string{"alice", "erin", "bob", "dave"}).Draw(rt, "whose"))
				u.Groups = nil
				if rapid.Bool().Draw(rt, "back") {
					u.Groups = home[u.Name]
				}
				_, err := h.SetUser(t.Context(), h.as("root"), u)
				fine(rt, err, "groups")
			},
			"lock": func(rt *rapid.T) {
				if !rarely(rt) {
					return
				}
				err := h.LockUser(t.Context(), h.as("root"), rapid.SampledFrom(names[:6]).Draw(rt, "whom"), rapid.IntRange(0, 3).Draw(rt, "lock") == 0, "INC-1")
				fine(rt, err, "lock")
			},
			"wait": func(rt *rapid.T) {
				h.clock.advance(time.Duration(rapid.IntRange(1, 40).Draw(rt, "minutes")) * time.Minute)
			},
			"": func(rt *rapid.T) {
				now := h.clock.now()
				for _, s := range sessions {
					u := h.user(s.who)
					g, err := h.db.Grant(t.Context(), s.l.Grant.ID)
					ok(t, err)
					voters := 0
					for name := range votes[g.RequestID] {
						if v := h.user(name); !v.Locked && v.In("approvers") {
							voters++
						}
					}
					why := ""
					switch {
					case u.Locked:
						why = "its user is locked"
					case !u.In("engineers"):
						why = "its user lost the role"
					case !g.ActiveAt(now):
						why = "its grant is over"
					case !g.BreakGlass && voters < needed[s.what]:
						why = "its approvers left"
					case s.l.Check() != nil && context.Cause(s.l.Context()) == nil:
						why = "its check refuses"
					default:
						continue
					}
					// Check finds the end of the time by itself; the rest is the follower's.
					if s.l.Check() != nil {
						reached["ended"]++
						continue
					}
					select {
					case <-s.l.Context().Done():
						reached["ended"]++
					case <-time.After(soon):
						rt.Fatalf("the session of %s on %s runs although %s", s.who, s.what, why)
					}
				}
				for _, id := range ids {
					r, err := h.db.Request(t.Context(), id)
					ok(t, err)
					g, err := h.db.Grant(t.Context(), id)
					if (err == nil) != (r.State == access.Approved) {
						rt.Fatalf("%s is %s, its grant: %v", id, r.State, err)
					}
					if err != nil || r.BreakGlass {
						continue
					}
					n := needed[r.Account+"@"+r.TargetName]
					if len(votes[id]) < n || len(r.Approvals) != len(votes[id]) || votes[id][r.RequesterName] {
						rt.Fatalf("a grant for %s@%s with the votes of %v", r.Account, r.TargetName, votes[id])
					}
					if !g.Start.IsZero() && g.End.Sub(g.Start) > 8*time.Hour {
						rt.Fatalf("it lasts %s", g.End.Sub(g.Start))
					}
				}
			},
		})
		for _, e := range h.events()[first:] {
			if e.Actor == "" || e.Outcome == audit.Failed {
				rt.Fatalf("event %+v", e)
			}
		}
	})
	var x bytes.Buffer
	ok(t, h.ExportAudit(t.Context(), h.as("carol"), &x))
	res, err := audit.Verify(&x, h.config.Verifier)
	ok(t, err)
	if !res.Verified {
		t.Errorf("the log of all lives: %+v", res)
	}
	t.Logf("%d events; %v", res.Events, reached)
	for _, verb := range []string{"request", "approve", "open", "extend", "groups", "lock", "ended"} {
		if reached[verb] == 0 {
			t.Errorf("no life had a %s", verb)
		}
	}
}
