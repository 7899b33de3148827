package broker_test

import (
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/view"
)

func shownText(texts ...string) iter.Seq[view.Text] {
	return func(yield func(view.Text) bool) {
		for i, text := range texts {
			if !yield(view.Text{At: time.Duration(i) * time.Second, In: view.Output, Text: text}) {
				return
			}
		}
	}
}

// indexed is a session of alice that is over, and what was shown in it.
func (h *house) indexed(what string, texts ...string) access.Session {
	h.t.Helper()
	c := h.ask("alice", what)
	for _, who := range []string{"bob", "dave"} {
		if c.Grant == nil {
			c = h.approve(who, c)
		}
	}
	l := h.session("alice", c)
	ok(h.t, h.Started(h.t.Context(), l))
	ok(h.t, h.Close(h.t.Context(), l, broker.Closing{Reason: "exited", Recording: access.Sealed{Name: "r", SHA256: strings.Repeat("0", 64), Size: 1}}))
	_, err := h.Release(h.t.Context(), h.as("alice"), c.Grant.ID)
	ok(h.t, err)
	ok(h.t, h.db.SaveText(h.t.Context(), l.Session.ID, shownText(texts...)))
	return l.Session
}

func (h *house) role(r access.Role) {
	h.t.Helper()
	r.Version = 1
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		return audit.Event{Actor: "system", Action: "house.furnish"}, tx.AddRole(h.t.Context(), &r)
	}))
}

// TestSearchFindsWhatMayBeReplayed: who may not replay a recording finds nothing
// in it, and is not told that it is there; whoever may, does. The event says
// what was looked for, and whose lines were shown.
func TestSearchFindsWhatMayBeReplayed(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ok(t, h.db.PrepareText(t.Context()))
		h.role(access.Role{Name: "team", Groups: []string{"team"}, Rules: []access.Rule{{
			ID: "own-machines", Actions: []string{"session.list", "session.replay"}, Targets: access.Selector{Names: []string{"db01"}}}}})
		h.role(access.Role{Name: "blind", Groups: []string{"blind"}, Rules: []access.Rule{{ID: "blind", Actions: []string{"session.replay"}}}})
		h.role(access.Role{Name: "fresh", Groups: []string{"fresh"}, Rules: []access.Rule{{ID: "fresh", Actions: []string{"session.list", "session.replay"}, MFAWithin: time.Minute}}})
		one := h.indexed("root@db01", "DROP TABLE one;")
		two := h.indexed("root@db02", "drop table two;", "and once more: drop table two;")
		guest := h.indexed("guest@db01", "drop the table three")
		h.setGroups("erin", "team")
		for _, c := range []struct {
			who      string
			filter   broker.SearchFilter
			sessions int64
			found    []string
		}{
			{"carol", broker.SearchFilter{}, 3, []string{guest.ID, two.ID, two.ID, one.ID}},
			{"carol", broker.SearchFilter{Target: "db*", User: "alice"}, 3, []string{guest.ID, two.ID, two.ID, one.ID}},
			{"carol", broker.SearchFilter{Target: "*02"}, 1, []string{two.ID, two.ID}},
			{"carol", broker.SearchFilter{Account: "guest"}, 1, []string{guest.ID}},
			{"carol", broker.SearchFilter{User: "bob"}, 0, nil}, {"carol", broker.SearchFilter{User: "nobody"}, 0, nil},
			{"carol", broker.SearchFilter{Of: two.RequestID}, 1, []string{two.ID, two.ID}},
			{"erin", broker.SearchFilter{}, 2, []string{guest.ID, one.ID}},
			{"erin", broker.SearchFilter{Target: "db02"}, 0, nil}, {"erin", broker.SearchFilter{Of: two.GrantID}, 0, nil},
			{"alice", broker.SearchFilter{}, 0, nil}, // one's own, which one may list and not replay
			{"mallory", broker.SearchFilter{}, 0, nil}, {"bob", broker.SearchFilter{}, 0, nil}, {"root", broker.SearchFilter{}, 0, nil},
		} {
			c.filter.Query = "drop table"
			before := len(h.events())
			p, err := h.Search(t.Context(), h.as(c.who), c.filter)
			ok(t, err)
			var ids []string
			for _, hit := range p.Hits {
				ids = append(ids, hit.Session.ID)
			}
			if !slices.Equal(ids, c.found) || p.Sessions != c.sessions || p.Partial != 0 || p.Next != 0 {
				t.Errorf("%s, %+v: %q in %d sessions, not %q in %d", c.who, c.filter, ids, p.Sessions, c.found, c.sessions)
			}
			told := h.events()[before:]
			if len(told) != 1 || told[0].Action != "session.search" || told[0].Outcome != audit.Done || told[0].Actor != h.user(c.who).ID ||
				told[0].Details["query"] != "drop table" || told[0].Details["hits"] != fmt.Sprint(len(ids)) || told[0].Details["sessions"] != fmt.Sprint(c.sessions) {
				t.Errorf("%s: events %+v", c.who, told)
			}
			for _, id := range ids {
				if !strings.Contains(told[0].Details["shown_1"], id) {
					t.Errorf("the event does not name %s, of which a line was shown: %v", id, told[0].Details)
				}
			}
		}
		// A right to replay without that to see sessions is none, as for Replay.
		h.setGroups("erin", "blind")
		if p, err := h.Search(t.Context(), h.as("erin"), broker.SearchFilter{Query: "drop table"}); err != nil || len(p.Hits) != 0 || p.Sessions != 0 {
			t.Errorf("%+v, %v", p, err)
		}
		// What only a fresh second factor is missing for is said.
		h.setGroups("erin", "fresh")
		_, err := h.Search(t.Context(), h.as("erin"), broker.SearchFilter{Query: "drop table"})
		if ae, is := errors.AsType[*access.Error](err); !is || ae.Kind != access.ErrDenied || !strings.HasPrefix(ae.Rule, "mfa.") {
			t.Errorf("without a fresh second factor: %v", err)
		}
		by := h.as("erin")
		by.MFAAt = h.clock.now()
		if p, err := h.Search(t.Context(), by, broker.SearchFilter{Query: "drop table"}); err != nil || len(p.Hits) != 4 {
			t.Errorf("with one: %d hits, %v", len(p.Hits), err)
		}
		// A target that is removed takes nothing away from who may see all, and gives nothing.
		h.setGroups("erin", "team")
		ok(t, h.RemoveTarget(t.Context(), h.as("root"), "db02"))
		for who, n := range map[string]int{"carol": 4, "erin": 2} {
			if p, err := h.Search(t.Context(), h.as(who), broker.SearchFilter{Query: "drop table"}); err != nil || len(p.Hits) != n {
				t.Errorf("%s finds %d, not %d: %v", who, len(p.Hits), n, err)
			}
		}
	})
}

// TestSearchRefuses: what is no search is refused, each time with an event; so is
// every one on a server that keeps no texts.
func TestSearchRefuses(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	off := h.another("node2", func(c *broker.Config) { c.Search = false })
	for _, c := range []struct {
		name   string
		b      *house
		filter broker.SearchFilter
		code   string
	}{
		{"nothing", h, broker.SearchFilter{}, "DB-6060"}, {"blanks", h, broker.SearchFilter{Query: "      "}, "DB-6060"}, {"short", h, broker.SearchFilter{Query: `rm -f "a"`}, "DB-6060"},
		{"too many words", h, broker.SearchFilter{Query: strings.Repeat("word ", 9)}, "DB-1001"}, {"too long", h, broker.SearchFilter{Query: strings.Repeat("x", 257)}, "DB-1001"},
		{"a control character", h, broker.SearchFilter{Query: "abc\x1b[2J"}, "DB-1001"}, {"no UTF-8", h, broker.SearchFilter{Query: "abc\xff"}, "DB-1001"},
		{"a source", h, broker.SearchFilter{Query: "abc", In: []view.Source{"secrets"}}, "DB-1001"},
		{"switched off", off, broker.SearchFilter{Query: "abc"}, "DB-6062"},
	} {
		before := len(h.events())
		_, err := c.b.Search(t.Context(), h.as("carol"), c.filter)
		if ae, is := errors.AsType[*access.Error](err); !is || ae.Code != c.code || ae.Text == "" {
			t.Errorf("%s: %v, not %s", c.name, err, c.code)
		}
		if told := h.told(before); !slices.Equal(told, []string{"session.search refused"}) {
			t.Errorf("%s: %q", c.name, told)
		}
	}
}

// TestSearchAmongManyPlaces: however many accounts and targets there are, what a
// filter picks is found.
func TestSearchAmongManyPlaces(t *testing.T) {
	h := newHouse(t, sqliteURL(t), func(c *broker.Config) { c.SearchPlaces = 100 })
	found := h.indexed("guest@db01", "a needle")
	db, err := sql.Open("sqlite", strings.TrimPrefix(h.url, "sqlite://")+"?_pragma=busy_timeout(60000)")
	ok(t, err)
	defer db.Close()
	_, err = db.Exec(`INSERT INTO text_scopes (user_id, target_id, target_name, account)
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120) SELECT 'USR-x', 'TGT-' || i, iif(i < 95, 'db', 'host') || i, 'root' FROM n`)
	ok(t, err)
	for _, target := range []string{"db01", "db*"} { // one, and nearly as many as are asked about
		p, err := h.Search(t.Context(), h.as("carol"), broker.SearchFilter{Query: "needle", Target: target})
		if err != nil || len(p.Hits) != 1 || p.Hits[0].Session.ID != found.ID {
			t.Errorf("%s: found %+v, %v", target, p.Hits, err)
		}
	}
	_, err = h.Search(t.Context(), h.as("carol"), broker.SearchFilter{Query: "needle"})
	if ae, is := errors.AsType[*access.Error](err); !is || ae.Code != "DB-6061" {
		t.Errorf("all of them: %v", err)
	}
}

// TestSearchNamesAllShown: however many sessions lines are shown of, the event
// names each.
func TestSearchNamesAllShown(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	c := h.granted()
	for range 120 {
		l := h.session("alice", c)
		ok(t, h.Started(t.Context(), l))
		ok(t, h.Close(t.Context(), l, broker.Closing{Reason: "exited", Recording: access.Sealed{Name: "r", SHA256: strings.Repeat("0", 64), Size: 1}}))
		ok(t, h.db.SaveText(t.Context(), l.Session.ID, shownText("a needle")))
	}
	before := len(h.events())
	p, err := h.Search(t.Context(), h.as("carol"), broker.SearchFilter{Query: "needle", Limit: 110})
	ok(t, err)
	var named []string
	for key, value := range h.events()[before].Details {
		if strings.HasPrefix(key, "shown_") {
			named = append(named, strings.Fields(value)...)
		}
	}
	slices.Sort(named)
	var want []string
	for _, hit := range p.Hits {
		want = append(want, hit.Session.ID)
	}
	slices.Sort(want)
	if len(want) != 110 || !slices.Equal(named, want) {
		t.Errorf("%d sessions were shown, %d are named", len(want), len(named))
	}
}

// TestSearchInTurn: two searches run at once, and another is told to come again.
func TestSearchInTurn(t *testing.T) {
	h := newHouse(t, storetest.Postgres(t))
	ok(t, h.db.PrepareText(t.Context()))
	h.indexed("guest@db01", "a needle")
	db, err := sql.Open("pgx", h.url)
	ok(t, err)
	defer db.Close()
	lock, err := db.Begin()
	ok(t, err)
	_, err = lock.Exec("LOCK TABLE text_scopes IN ACCESS EXCLUSIVE MODE")
	ok(t, err)
	search := func() error {
		_, err := h.Search(t.Context(), h.as("carol"), broker.SearchFilter{Query: "needle"})
		return err
	}
	answers := make(chan error, 3)
	for range 3 {
		go func() { answers <- search() }()
	}
	err = <-answers
	if ae, is := errors.AsType[*access.Error](err); !is || ae.Code != "DB-6063" {
		t.Errorf("the third is told %v", err)
	}
	ok(t, lock.Rollback())
	for range 2 {
		ok(t, <-answers)
	}
	ok(t, search())
}
