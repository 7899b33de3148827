package broker_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// rule is root on db01 without approval, for as long as the tests need.
func rule(id string, change func(*access.Rule)) access.Rule {
	r := access.Rule{ID: id, Actions: []string{"request", "extend"}, Targets: access.Selector{Names: []string{"db01"}}, Accounts: []string{"root"},
		MaxDuration: 8 * time.Hour, Session: access.SessionRules{Shell: true, Exec: true}}
	change(&r)
	return r
}

// engineersMay puts rules in the place of those that engineers have.
func (h *house) engineersMay(rules ...access.Rule) {
	h.t.Helper()
	h.setRole("engineers", func(r *access.Role) { r.Rules = rules })
}

func (h *house) setRole(name string, change func(*access.Role)) {
	h.t.Helper()
	r, err := h.db.Role(h.t.Context(), name)
	if err != nil && !errors.Is(err, access.ErrNotFound) {
		h.t.Fatal(err)
	}
	r.Name = name
	change(&r)
	_, err = h.SetRole(h.t.Context(), h.as("root"), r)
	ok(h.t, err)
}

// refusesBy wants a refusal of the policy by this rule, with these words.
func refusesBy(t testing.TB, err error, rule, words string) {
	t.Helper()
	e, is := errors.AsType[*access.Error](err)
	if !is || !errors.Is(err, access.ErrDenied) || e.Rule != rule || !strings.Contains(e.Text, words) {
		t.Errorf("got %v, want a refusal by %s that says %q", err, rule, words)
	}
}

func (h *house) addWindow(w access.Window) string {
	h.t.Helper()
	if w.Reason == "" {
		w.Reason = "CHG-88 new disks"
	}
	v, err := h.AddWindow(h.t.Context(), h.as("root"), w)
	ok(h.t, err)
	return v.ID
}

// now is the beginning of this minute.
func (h *house) minute() time.Time { return h.clock.now().UTC().Truncate(time.Minute) }

// A freeze ends sessions and refuses new ones, says why, and lets in who has a rule
// for it; without it everything is as before.
func TestFreeze(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.engineersMay(rule("root", func(*access.Rule) {}),
			rule("repair", func(r *access.Rule) { r.Accounts, r.DuringFreeze = []string{"guest"}, true }))
		h.start()
		c, repair := h.ask("alice", "root@db01"), h.ask("alice", "guest@db01")
		l, goes := h.session("alice", c), h.session("alice", repair)
		db := access.Selector{Names: []string{"db*"}}
		h.addWindow(access.Window{Kind: access.Freeze, Reason: "not this one", Targets: access.Selector{Labels: map[string][]string{"environment": {"dev"}}}, From: h.minute(), To: h.minute().Add(time.Hour)})
		h.addWindow(access.Window{Kind: access.Freeze, Reason: "not now", Targets: db, From: h.minute().Add(2 * time.Hour), To: h.minute().Add(3 * time.Hour)})
		goesOn(t, l)
		id := h.addWindow(access.Window{Kind: access.Freeze, Reason: "year end", Targets: db, From: h.minute(), To: h.minute().Add(time.Hour)})
		ends(t, l, broker.ErrRefused)
		goesOn(t, goes)
		_, err := h.Open(t.Context(), h.as("alice"), c.Grant.ID, shellOpening)
		refusesBy(t, err, "condition.freeze", "account root on db01 is frozen: year end")
		_, err = h.Request(t.Context(), h.as("erin"), asking("root@db01"))
		refusesBy(t, err, "condition.freeze", "year end")
		h.session("alice", repair)
		// Who may not change targets adds and removes none.
		_, err = h.AddWindow(t.Context(), h.as("alice"), access.Window{Kind: access.Maintenance, Reason: "INC-1", From: h.minute(), To: h.minute().Add(time.Hour)})
		want(t, err, access.ErrDenied)
		want(t, h.RemoveWindow(t.Context(), h.as("alice"), id), access.ErrDenied)
		ok(t, h.RemoveWindow(t.Context(), h.as("root"), id))
		h.session("alice", c)
		h.ask("erin", "root@db01")
		want(t, h.RemoveWindow(t.Context(), h.as("root"), id), access.ErrNotFound)
	})
}

// The end of a window ends the sessions that need it, and their users are told
// before.
func TestWindowEnds(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.engineersMay(rule("root", func(r *access.Rule) { r.RequireWindow = true }))
		_, err := h.Request(t.Context(), h.as("alice"), asking("root@db01"))
		refusesBy(t, err, "condition.window", "only in a maintenance window")
		h.addWindow(access.Window{Kind: access.Maintenance, Targets: access.Selector{Names: []string{"db02"}}, From: h.minute(), To: h.minute().Add(time.Hour)})
		_, err = h.Request(t.Context(), h.as("alice"), asking("root@db01"))
		refusesBy(t, err, "condition.window", "only in a maintenance window") // it is another target's
		h.addWindow(access.Window{Kind: access.Maintenance, Targets: access.Selector{Names: []string{"db01"}}, From: h.minute(), To: h.minute().Add(20 * time.Minute)})
		l := h.session("alice", h.ask("alice", "root@db01"))
		h.start()
		h.clock.advance(16 * time.Minute)
		told(t, l, "ends in at most 5m")
		goesOn(t, l)
		h.clock.advance(3 * time.Minute)
		told(t, l, "ends in at most 1m")
		h.clock.advance(2 * time.Minute)
		ends(t, l, broker.ErrRefused)
	})
}

// told waits for a notice with these words.
func told(t testing.TB, l *broker.Live, words string) {
	t.Helper()
	limit := time.After(soon)
	for {
		select {
		case n := <-l.Notices():
			if strings.Contains(n.Show, words) {
				return
			}
		case <-l.Context().Done():
			t.Fatalf("the session ended without %q: %v", words, context.Cause(l.Context()))
		case <-limit:
			t.Fatalf("nobody said %q", words)
		}
	}
}

// Whatever a session stands on changes: it ends within five seconds, on another
// server too.
func TestConditionsEndSessions(t *testing.T) {
	dba := map[string][]string{"department": {"dba", "db-ops"}}
	for _, tt := range []struct {
		name   string
		rule   func(*access.Rule)
		before func(h *house)
		change func(h *house) error
	}{
		{"attribute", func(*access.Rule) {}, func(*house) {}, func(h *house) error {
			u := h.user("mallory")
			u.Attributes["department"] = "sales"
			_, err := h.SetUser(h.t.Context(), h.as("root"), u)
			return err
		}},
		{"group", func(*access.Rule) {}, func(h *house) {
			h.setRole("dbas", func(r *access.Role) { r.Groups, r.Attributes = []string{"dbas"}, nil })
			h.setGroups("mallory", "dbas")
		}, func(h *house) error { h.setGroups("mallory"); return nil }},
		{"role", func(*access.Rule) {}, func(*house) {}, func(h *house) error {
			return h.RemoveRole(h.t.Context(), h.as("root"), "dbas")
		}},
		{"network", func(r *access.Rule) { r.Sources = []string{"office"} }, func(*house) {}, func(h *house) error {
			_, err := h.SetNetwork(h.t.Context(), h.as("root"), access.Network{Name: "office", Ranges: []string{"203.0.113.0/24"}, Version: 1})
			return err
		}},
		{"fact", func(r *access.Rule) {
			r.RequireFacts, r.FactsWithin = map[string][]string{"patched": {"yes"}}, time.Hour
		}, func(*house) {}, func(h *house) error {
			_, err := h.RecordFacts(h.t.Context(), h.as("root"), "db01", map[string]string{"patched": "no"}, time.Time{})
			return err
		}},
		{"tier", func(r *access.Rule) { r.RequireSameTier = true }, func(*house) {}, func(h *house) error {
			t, err := h.db.Target(h.t.Context(), "db01")
			ok(h.t, err)
			t.Labels.Tier = "1"
			_, err = h.SetTarget(h.t.Context(), h.as("root"), t)
			return err
		}},
		{"window", func(r *access.Rule) { r.RequireWindow = true }, func(*house) {}, func(h *house) error {
			w, err := h.Windows(h.t.Context(), h.as("root"))
			ok(h.t, err)
			return h.RemoveWindow(h.t.Context(), h.as("root"), w[0].ID)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				other := h
				if h.url[:6] != "sqlite" {
					other = h.another("node2")
				}
				u := h.user("mallory")
				u.Attributes = map[string]string{"department": "dba", "tier": "0"}
				_, err := h.SetUser(t.Context(), h.as("root"), u)
				ok(t, err)
				target, err := h.db.Target(t.Context(), "db01")
				ok(t, err)
				target.Labels.Tier = "0"
				_, err = h.SetTarget(t.Context(), h.as("root"), target)
				ok(t, err)
				_, err = h.SetNetwork(t.Context(), h.as("root"), access.Network{Name: "office", Ranges: []string{"198.51.100.0/24"}})
				ok(t, err)
				_, err = h.RecordFacts(t.Context(), h.as("root"), "db01", map[string]string{"patched": "yes"}, time.Time{})
				ok(t, err)
				h.addWindow(access.Window{Kind: access.Maintenance, Targets: access.Selector{Names: []string{"db01"}}, Hours: "00:00-24:00"})
				h.setRole("dbas", func(r *access.Role) {
					r.Attributes, r.Rules = dba, []access.Rule{rule("root", tt.rule)}
				})
				tt.before(h)
				h.start()
				l := h.session("mallory", h.ask("mallory", "root@db01"))
				goesOn(t, l)
				ok(t, tt.change(other))
				ends(t, l, broker.ErrRefused)
			})
		})
	}
}

// Facts that are unknown, old, from the future or of somebody without the right
// open nothing, and changing a target leaves them as they are.
func TestFacts(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.engineersMay(rule("root", func(r *access.Rule) {
			r.RequireFacts, r.FactsWithin = map[string][]string{"edr": {"on"}}, time.Hour
		}))
		ask := func() error { _, err := h.Request(t.Context(), h.as("alice"), asking("root@db01")); return err }
		record := func(who, value string, ago time.Duration) error {
			_, err := h.RecordFacts(t.Context(), h.as(who), "db01", map[string]string{"edr": value}, h.clock.now().Add(-ago))
			return err
		}
		refusesBy(t, ask(), "condition.facts", "since at most 1h, to have edr on")
		want(t, record("alice", "on", 0), access.ErrDenied)
		want(t, record("mallory", "on", 0), access.ErrNotFound)
		want(t, record("root", "on", -time.Minute), access.ErrInvalid)
		refusesBy(t, ask(), "condition.facts", "edr on")
		ok(t, record("root", "on", 2*time.Hour))
		refusesBy(t, ask(), "condition.facts", "edr on") // too old
		ok(t, record("root", "off", 30*time.Minute))
		ok(t, record("root", "on", time.Hour)) // older than what is known
		refusesBy(t, ask(), "condition.facts", "edr on")
		ok(t, record("root", "on", 10*time.Minute))
		target, err := h.db.Target(t.Context(), "db01")
		ok(t, err)
		target.Facts = nil
		_, err = h.SetTarget(t.Context(), h.as("root"), target)
		ok(t, err)
		ok(t, ask())
		l := h.session("alice", h.ask("alice", "root@db01"))
		h.start()
		h.clock.advance(51 * time.Minute) // the grant goes on, the fact is too old
		ends(t, l, broker.ErrRefused)
	})
}

// Roles that exclude each other: nobody is given both, and who gets there by what
// a directory says has neither.
func TestExclusion(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.setRole("payers", func(r *access.Role) {
			r.Groups, r.Rules = []string{"payers"}, []access.Rule{rule("root", func(*access.Rule) {})}
		})
		h.setRole("senior-payers", func(r *access.Role) { r.Groups, r.Inherits = []string{"seniors"}, []string{"payers"} })
		h.setRole("bookers", func(r *access.Role) {
			r.Groups, r.Excludes = []string{"bookers"}, []string{"payers"}
			r.Rules = []access.Rule{rule("guest", func(r *access.Rule) { r.Accounts = []string{"guest"} })}
		})
		give := func(groups ...string) error {
			u := h.user("mallory")
			u.Groups = groups
			_, err := h.SetUser(t.Context(), h.as("root"), u)
			return err
		}
		refusesBy(t, give("payers", "bookers"), "role.excludes", "mallory would have the roles bookers and payers")
		refusesBy(t, give("seniors", "bookers"), "role.excludes", "exclude each other") // by inheritance
		_, err := h.AddUser(t.Context(), h.as("root"), access.User{Name: "both", Groups: []string{"payers", "bookers"}})
		refusesBy(t, err, "role.excludes", "both would have")
		ok(t, give("payers"))
		h.start()
		c := h.ask("mallory", "root@db01")
		l := h.session("mallory", c)
		// The directory knows nothing of this.
		h.setGroups("mallory", "payers", "bookers")
		ends(t, l, broker.ErrRefused)
		_, err = h.Open(t.Context(), h.as("mallory"), c.Grant.ID, shellOpening)
		refusesBy(t, err, "request.role", "the roles bookers and payers exclude each other")
		_, err = h.Request(t.Context(), h.as("mallory"), asking("guest@db01"))
		want(t, err, access.ErrNotFound)
		d, err := h.Explain(t.Context(), h.as("root"), broker.WhatIf{User: "mallory", Target: "db01", Account: "guest", Action: "request"})
		ok(t, err)
		if d.Decision.Allow || !strings.Contains(d.Decision.Reason(), "the roles bookers and payers exclude each other") {
			t.Errorf("explained: %+v", d)
		}
		// What they are told of themselves, and others of them, is the same.
		h.setRole("readers", func(r *access.Role) { r.Groups = []string{"seniors"} })
		h.setGroups("mallory", "seniors", "bookers")
		own, err := h.OwnRoles(t.Context(), h.as("mallory"))
		ok(t, err)
		p, err := h.FindPerson(t.Context(), h.as("root"), "mallory")
		ok(t, err)
		for who, roles := range map[string][]broker.HeldRole{"mallory": own, "root": p.Roles} {
			held := map[string]string{}
			for _, r := range roles {
				held[r.Name] = r.Not
			}
			const neither = "bookers and payers exclude each other, so neither is held"
			if want := map[string]string{"bookers": neither, "senior-payers": neither, "readers": ""}; !maps.Equal(held, want) {
				t.Errorf("%s is told %q", who, held)
			}
		}
		// No roles are made to exclude each other that somebody has already; other
		// changes go on.
		r, err := h.db.Role(t.Context(), "approvers")
		ok(t, err)
		r.Excludes = []string{"engineers"}
		_, err = h.SetRole(t.Context(), h.as("root"), r)
		refusesBy(t, err, "role.excludes", "has the roles approvers and engineers")
		h.setRole("auditors", func(*access.Role) {})
		ok(t, give("payers")) // who had both can be mended
		h.session("mallory", c)
		// A role that has both would be nobody's.
		_, err = h.SetRole(t.Context(), h.as("root"), access.Role{Name: "all", Inherits: []string{"senior-payers", "bookers"}})
		want(t, err, access.ErrInvalid)
	})
}

// Nobody gives themselves a role by an attribute.
func TestOwnAttributes(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.setRole("dbas", func(r *access.Role) {
		r.Attributes, r.Rules = map[string][]string{"department": {"dba"}, "site": {"nyc"}}, []access.Rule{rule("root", func(*access.Rule) {})}
	})
	root := h.user("root")
	root.Attributes = map[string]string{"department": "dba", "site": "nyc"}
	_, err := h.SetUser(t.Context(), h.as("root"), root)
	refusesBy(t, err, "rights.own", "nobody changes their own rights")
	h.setUser("root", func(u *access.User) { u.Attributes = map[string]string{"site": "nyc"} })
	_, err = h.SetRole(t.Context(), h.as("root"), access.Role{Name: "nyc", Attributes: map[string][]string{"site": {"nyc"}}})
	refusesBy(t, err, "rights.own", "nobody changes their own rights")
	for _, attributes := range []map[string]string{nil, {"department": "dba"}, {"department": "DBA", "site": "nyc"}, {"department": "dba", "site": "nyc "}} {
		h.setUser("mallory", func(u *access.User) { u.Attributes = attributes })
		_, err := h.Request(t.Context(), h.as("mallory"), asking("root@db01"))
		want(t, err, access.ErrNotFound)
	}
	h.setUser("mallory", func(u *access.User) { u.Attributes = map[string]string{"department": "dba", "site": "nyc"} })
	h.ask("mallory", "root@db01")
	roles, err := h.OwnRoles(t.Context(), h.as("mallory"))
	ok(t, err)
	if len(roles) != 1 || roles[0].Name != "dbas" || !roles[0].Attributes || roles[0].Not != "" {
		t.Errorf("mallory has the roles %v", roles)
	}
}

// An account is one person's at a time, however many knock at once.
func TestExclusiveAccount(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.engineersMay(rule("root", func(r *access.Rule) { r.Limits = access.Limits{PerPerson: 2, Exclusive: true} }))
		grants := map[string]broker.Case{"alice": h.ask("alice", "root@db01"), "erin": h.ask("erin", "root@db01")}
		var mu sync.Mutex
		var wg sync.WaitGroup
		open := map[string][]*broker.Live{}
		for range 3 {
			for who, c := range grants {
				by := h.as(who)
				wg.Go(func() {
					l, err := h.Open(t.Context(), by, c.Grant.ID, shellOpening)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						open[who] = append(open[who], l)
						return
					}
					if e, is := errors.AsType[*access.Error](err); !is || e.Rule != "condition.exclusive" && e.Rule != "condition.per_person" {
						t.Errorf("%s: %v", who, err)
					}
				})
			}
		}
		wg.Wait()
		if len(open) != 1 {
			t.Fatalf("%d people are in the account at once", len(open))
		}
		for who, list := range open {
			if len(list) > 2 {
				t.Errorf("%s has %d sessions, 2 are allowed", who, len(list))
			}
			for _, l := range list {
				ok(t, h.Close(t.Context(), l, broker.Closing{Reason: "exited"}))
			}
			other := map[string]string{"alice": "erin", "erin": "alice"}[who]
			h.session(other, grants[other])
			_, err := h.Open(t.Context(), h.as(who), grants[who].Grant.ID, shellOpening)
			refusesBy(t, err, "condition.exclusive", "nobody else has a session in the account")
		}
	})
}

// A desk is a ticket system that says what it is told to.
type desk struct {
	mu    sync.Mutex
	say   func(broker.TicketQuestion) access.TicketCheck
	asked int
}

func (d *desk) CheckTicket(_ context.Context, q broker.TicketQuestion) access.TicketCheck {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	c := d.say(q)
	c.ID = q.Ticket
	return c
}

// A ticket is asked about before anything is let in, shown to approvers, part of
// what they sign, and asked about again when the grant is used.
func TestValidTicket(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			d := &desk{say: func(q broker.TicketQuestion) access.TicketCheck {
				if q.User.Name != "alice" || q.Target != "db01" {
					return access.TicketCheck{State: "open", Assignee: "alice", Why: q.Ticket + " is assigned to alice; name your own"}
				}
				return access.TicketCheck{Valid: true, State: "open", Assignee: "alice", Title: "disk full on db01"}
			}}
			h := newHouse(t, e.url(t), func(c *broker.Config) { c.Tickets = d })
			approvers := []access.Need{{Count: 1, Groups: []string{"approvers"}}}
			h.engineersMay(rule("root", func(r *access.Rule) { r.RequireValidTicket, r.Approvals = true, approvers }),
				rule("any", func(r *access.Rule) { r.Accounts, r.RequireTicket = []string{"guest"}, true }))
			ask := func(who, reason, account string) (broker.Case, error) {
				return h.Request(t.Context(), h.as(who), broker.Ask{Target: "db01", Account: account, Reason: reason, Duration: time.Hour})
			}
			_, err := ask("alice", "no ticket", "root")
			refusesBy(t, err, "condition.ticket", "name one")
			_, err = ask("erin", "INC-42 of alice", "root")
			refusesBy(t, err, "condition.valid_ticket", "INC-42 is assigned to alice; name your own")
			asked := d.asked
			if _, err = ask("mallory", "INC-42", "root"); err == nil || d.asked != asked {
				t.Errorf("somebody without a role had the ticket system asked: %v", err)
			}
			if _, err = ask("erin", "INC-42", "guest"); err != nil || d.asked != asked {
				t.Errorf("a rule that wants any ticket: %v, asked %d times more", err, d.asked-asked)
			}
			c, err := ask("alice", "INC-42 disk full", "root")
			ok(t, err)
			if got := c.Request.TicketCheck; !got.Valid || got.ID != "INC-42" || got.Title != "disk full on db01" {
				t.Errorf("approvers are shown %+v", got)
			}
			forged := c.Request
			forged.TicketCheck.Title = "nothing"
			if forged.Digest() == c.Request.Digest() {
				t.Error("the ticket is not part of what approvers sign")
			}
			c = h.approve("bob", c)
			ok(t, h.Close(t.Context(), h.session("alice", c), broker.Closing{Reason: "exited"}))
			d.say = func(q broker.TicketQuestion) access.TicketCheck {
				return access.TicketCheck{State: "closed", Why: q.Ticket + " is not open any more"}
			}
			_, err = h.Open(t.Context(), h.as("alice"), c.Grant.ID, shellOpening)
			refusesBy(t, err, "condition.valid_ticket", "INC-42 is not open any more")
			h.config.Tickets = nil
			none := h.broker()
			_, err = none.Open(t.Context(), h.as("alice"), c.Grant.ID, shellOpening)
			refusesBy(t, err, "condition.valid_ticket", "no ticket system is set up")
		})
	}
}

// Who approved under a ticket does not ask under it, and the other way round.
func TestSeparateDuties(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		approvers := []access.Need{{Count: 1, Groups: []string{"approvers"}}}
		h.engineersMay(rule("root", func(r *access.Rule) { r.SeparateDuties, r.Approvals = true, approvers }),
			rule("guest", func(r *access.Rule) {
				r.SeparateDuties, r.Approvals, r.Accounts = true, approvers, []string{"guest"}
			}))
		under := func(who, what, ticket string) (broker.Case, error) {
			ask := asking(what)
			ask.Reason = ticket + " disk full"
			return h.Request(t.Context(), h.as(who), ask)
		}
		vote := func(who string, c broker.Case) error {
			_, err := h.Approve(t.Context(), h.as(who), c.Request.ID, c.Request.Digest(), broker.Answer{})
			return err
		}
		alices, err := under("alice", "root@db01", "CHG-1")
		ok(t, err)
		erins, err := under("erin", "guest@db01", "CHG-1")
		ok(t, err)
		refusesBy(t, vote("erin", alices), "vote.ticket", "you have asked for something under CHG-1 yourself")
		ok(t, vote("bob", alices))
		other, err := under("alice", "guest@db01", "CHG-2")
		ok(t, err)
		ok(t, vote("erin", other)) // another ticket
		_, err = under("erin", "root@db01", "CHG-2")
		refusesBy(t, err, "condition.separate", "somebody else must do it")
		ok(t, vote("dave", erins))
		h.clock.advance(31 * 24 * time.Hour) // that is long ago
		_, err = under("erin", "root@db01", "CHG-2")
		ok(t, err)
	})
}

// There are two kinds of windows, and no time zone that means another one on each
// server or leads into its files.
func TestWindowKinds(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	err := h.db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
		return audit.Event{Actor: "system", Action: "house.furnish"}, tx.AddWindow(t.Context(), &access.Window{ID: access.NewID(access.WindowPrefix), Kind: "holiday", Version: 1})
	})
	if err == nil {
		t.Error("a window may be a holiday")
	}
	for _, zone := range []string{"Local", "../../etc/passwd", "/etc/localtime", "Europe/Atlantis"} {
		_, err := h.AddWindow(t.Context(), h.as("root"), access.Window{Kind: access.Freeze, Reason: "INC-1", Hours: "22:00-04:00", TimeZone: zone})
		want(t, err, access.ErrInvalid)
		r := rule("r", func(r *access.Rule) { r.Hours, r.TimeZone = []string{"08:00-18:00"}, zone })
		_, err = h.SetRole(t.Context(), h.as("root"), access.Role{Name: "zoned", Rules: []access.Rule{r}})
		want(t, err, access.ErrInvalid)
	}
}
