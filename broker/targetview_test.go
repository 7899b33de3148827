package broker_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/rego"
)

// A world is a house of whatever: rules of all kinds, targets that are nearly alike,
// people who have several roles.
type world struct {
	*house
	*rand.Rand
}

func (w world) of(list ...string) string { return list[w.IntN(len(list))] }
func (w world) some(list ...string) (some []string) {
	for _, s := range list {
		if w.IntN(2) == 0 {
			some = append(some, s)
		}
	}
	return some
}
func (w world) rarely() bool { return w.IntN(6) == 0 }

func (w world) rule(i int) access.Rule {
	r := access.Rule{ID: fmt.Sprintf("rule%d", i), Actions: append(w.some("request", "extend", "break_glass", "target.read"), "session.list"), MaxDuration: time.Duration(1+w.IntN(3)) * time.Hour,
		Accounts: []string{"*"}, Session: access.SessionRules{Shell: true}}
	if w.IntN(2) == 0 {
		r.Accounts = append(w.some("guest", "deploy"), "root")
	}
	if w.IntN(2) == 0 {
		r.Targets.Names = append(w.some("web-*", "db-01", "db-02", "w*"), "db-*")
	}
	if w.IntN(2) == 0 {
		r.Targets.Labels = map[string][]string{"environment": append(w.some("dev"), "prod")}
	}
	if w.IntN(2) == 0 {
		n := access.Need{Count: 1, Groups: []string{"approvers"}}
		if w.rarely() {
			n.When = access.Occasion{Labels: map[string][]string{"tier": {"0", "1"}}}
		}
		r.Approvals = []access.Need{n}
	}
	if w.rarely() {
		r.MFAWithin = time.Hour
	}
	if w.rarely() {
		r.RequireWindow = true
	}
	r.DuringFreeze = w.IntN(2) == 0
	if w.rarely() {
		r.RequireSameTier = true
	}
	if w.rarely() {
		r.RequireTicket = true
	}
	if w.rarely() {
		now := w.clock.now().UTC().Hour()
		r.Hours = []string{fmt.Sprintf("%02d:00-%02d:00", (now+3)%24, (now+5)%24)}
	}
	if w.rarely() {
		r.Sources = []string{"10.0.0.0/8"}
	}
	if w.rarely() {
		r.RequireFacts, r.FactsWithin = map[string][]string{"disk": {"encrypted"}}, time.Hour
	}
	return r
}

// furnishAnew puts targets, people and roles into the house.
func (w world) furnishAnew() (callers []string) {
	t, ctx := w.t, w.t.Context()
	ok(t, w.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		for i := range 50 {
			m := access.Target{ID: access.NewID(access.TargetPrefix), Name: fmt.Sprintf("%s-%02d", w.of("db", "web", "root", "x"), i), Address: "192.0.2.9:22", CreatedAt: tx.Now(), Version: 1,
				Labels: access.Labels{Environment: w.of("prod", "dev", ""), Tier: w.of("0", "1", ""), Owner: w.of("root", "shop", "")}, Locked: w.rarely()}
			for _, name := range append(w.some("guest", "deploy"), "root") {
				m.Accounts = append(m.Accounts, access.Account{Name: name, Credential: access.CredentialCertificate})
			}
			if w.IntN(3) == 0 {
				m.Facts = map[string]access.Fact{"disk": {Value: w.of("encrypted", "plain"), At: tx.Now().Add(-time.Duration(10+60*w.IntN(2)) * time.Minute)}}
			}
			if err := tx.AddTarget(ctx, &m); err != nil {
				return audit.Event{}, err
			}
		}
		for i := range 6 {
			u := access.User{ID: access.NewID(access.UserPrefix), Name: fmt.Sprintf("person%d", i), Groups: w.some("team-a", "team-b", "team-c"), CreatedAt: tx.Now(), Version: 1,
				Attributes: map[string]string{"tier": w.of("0", "1"), "site": w.of("nyc", "ber")}, Emergency: i == 5}
			if u.Emergency {
				u.Groups = []string{"team-a", "team-b", "team-c"}
			}
			callers = append(callers, u.Name)
			if err := tx.AddUser(ctx, &u); err != nil {
				return audit.Event{}, err
			}
		}
		for i, name := range []string{"a", "b", "c", "d", "e"} {
			r := access.Role{Name: "role-" + name, Groups: w.some("team-a", "team-b", "team-c"), Version: 1}
			if w.rarely() {
				r.Attributes = map[string][]string{"site": {"nyc"}}
			}
			if i > 0 && w.rarely() {
				r.Inherits = []string{"role-a"}
			}
			if i > 1 && w.rarely() {
				r.Excludes = []string{"role-b"}
			}
			for j := range 1 + w.IntN(4) {
				r.Rules = append(r.Rules, w.rule(j))
			}
			if err := tx.AddRole(ctx, &r); err != nil {
				return audit.Event{}, err
			}
		}
		for _, kind := range []access.WindowKind{access.Maintenance, access.Freeze} {
			win := access.Window{ID: access.NewID(access.WindowPrefix), Kind: kind, Reason: "CHG-7", From: tx.Now().Add(-time.Hour), To: tx.Now().Add(time.Hour), Targets: access.Selector{Names: []string{w.of("db-*", "web-*", "x-*")}}}
			if err := tx.AddWindow(ctx, &win); err != nil {
				return audit.Event{}, err
			}
		}
		return audit.Event{Actor: "system", Action: "house.furnish"}, nil
	}))
	return callers
}

// TestListIsPolicy compares lists of targets, for which what cannot be shown is not
// asked about and what is alike is asked about once, with asking about each account
// of each target, in worlds that are made up.
func TestListIsPolicy(t *testing.T) {
	builtIn := compiled(t, rego.Bundle).Digest()
	shown, hidden, allowed, refused := 0, 0, 0, 0
	for seed := range uint64(4) {
		h := newHouse(t, sqliteURL(t), func(c *broker.Config) { c.BuiltIn = builtIn })
		w := world{h, rand.New(rand.NewPCG(seed, 5))}
		callers := w.furnishAnew()
		each := h.another("node2", func(c *broker.Config) { c.BuiltIn = "" })
		for _, who := range callers {
			by := h.as(who)
			if w.IntN(2) == 0 {
				by.MFAAt = h.clock.now()
			}
			for _, f := range []broker.TargetFilter{{Limit: 1 + w.IntN(30)}, {Limit: 20, Usable: true, Part: "b-"}, {Limit: 7, Environment: "prod"}} {
				list := func(h *house) (all []broker.TargetView) {
					for f := f; ; {
						page, next, err := h.FindTargets(t.Context(), by, f)
						ok(t, err)
						all = append(all, page...)
						if f.After = next; next == "" {
							return all
						}
					}
				}
				got, want := list(h), list(each)
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d, %s, %+v:\n%d targets %+v\nwant\n%d targets %+v", seed, who, f, len(got), got, len(want), want)
				}
				shown, hidden = shown+len(got), hidden+50-len(got)
				for _, v := range got {
					for _, a := range v.Accounts {
						if a.MayAsk {
							allowed++
						} else {
							refused++
						}
					}
				}
			}
		}
	}
	if min(shown, hidden, allowed, refused) < 100 {
		t.Errorf("the worlds are dull: %d targets shown, %d not, %d accounts allowed, %d refused", shown, hidden, allowed, refused)
	}
}
