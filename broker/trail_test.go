package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// trail reads all pages of what a filter picks, and how many there were.
func (h *house) trail(f broker.TrailFilter) (list []audit.Event, pages int) {
	h.t.Helper()
	for {
		p, err := h.Trail(h.t.Context(), h.as("carol"), f)
		ok(h.t, err)
		list, pages = append(list, p.Events...), pages+1
		if p.Next == 0 {
			return list, pages
		}
		if f.Before != 0 && p.Next >= f.Before || len(p.Events) > f.Limit {
			h.t.Fatalf("a page before %d of %d events leads to %d", f.Before, len(p.Events), p.Next)
		}
		f.Before = p.Next
	}
}

// The pages of the log hold what a look at each event would pick, the newest first,
// each once: also when a page looks through a part of the log only.
func TestTrail(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.config.TrailPiece = 2
		h.Broker = h.broker()
		session := h.closedSession()
		h.clock.advance(time.Hour)
		noon := h.clock.now()
		other := h.ask("erin", "root@db02")
		_, err := h.FindUser(ctx, h.as("mallory"), "root") // refused, and on record
		want(t, err, access.ErrDenied)
		for range 60 { // more than one page looks through
			_, err := h.FindUser(ctx, h.as("mallory"), "root")
			want(t, err, access.ErrDenied)
		}
		h.clock.advance(time.Hour)
		h.ask("alice", "root@db02")
		_, err = h.Checkpoint(ctx, h.as("carol"))
		ok(t, err)
		h.ask("erin", "root@db01")

		all, err := h.Events(ctx, h.as("carol"), broker.EventFilter{Limit: 1000})
		ok(t, err)
		slices.Reverse(all)
		s, err := h.db.Session(ctx, session)
		ok(t, err)
		for _, c := range []struct {
			name string
			f    broker.TrailFilter
			is   func(e *audit.Event) bool
		}{
			{"all", broker.TrailFilter{}, func(e *audit.Event) bool { return true }},
			{"who", broker.TrailFilter{Actor: "bob"}, func(e *audit.Event) bool { return e.ActorName == "bob" }},
			{"nobody", broker.TrailFilter{Actor: "zoe"}, func(e *audit.Event) bool { return false }},
			{"action", broker.TrailFilter{Action: "session.open"}, func(e *audit.Event) bool { return e.Action == "session.open" }},
			{"actions", broker.TrailFilter{Action: "request.*"}, func(e *audit.Event) bool { return strings.HasPrefix(e.Action, "request.") }},
			{"target", broker.TrailFilter{Target: "db02"}, func(e *audit.Event) bool { return e.Target == "db02" }},
			{"object", broker.TrailFilter{Object: other.Request.ID}, func(e *audit.Event) bool { return e.Object == other.Request.ID }},
			{"session", broker.TrailFilter{Session: session}, func(e *audit.Event) bool { return e.Session == session }},
			{"request", broker.TrailFilter{Request: s.RequestID}, func(e *audit.Event) bool { return e.Request == s.RequestID }},
			{"request by its grant", broker.TrailFilter{Request: s.GrantID}, func(e *audit.Event) bool { return e.Request == s.RequestID }},
			{"request and who", broker.TrailFilter{Request: s.RequestID, Actor: "alice"}, func(e *audit.Event) bool { return e.Request == s.RequestID && e.ActorName == "alice" }},
			{"since", broker.TrailFilter{Since: noon}, func(e *audit.Event) bool { return !e.Time.Before(noon) }},
			{"until", broker.TrailFilter{Until: noon}, func(e *audit.Event) bool { return e.Time.Before(noon) }},
			{"between", broker.TrailFilter{Since: noon, Until: noon.Add(time.Hour), Action: "request.*"}, func(e *audit.Event) bool {
				return !e.Time.Before(noon) && e.Time.Before(noon.Add(time.Hour)) && strings.HasPrefix(e.Action, "request.")
			}},
			{"quote", broker.TrailFilter{Target: "' OR 1=1 --"}, func(e *audit.Event) bool { return false }},
		} {
			for _, limit := range []int{1, 3, 200} {
				c.f.Limit = limit
				got, _ := h.trail(c.f)
				var gotten, wanted []int64
				for _, e := range got {
					gotten = append(gotten, e.Seq)
				}
				for i := range all {
					if c.is(&all[i]) {
						wanted = append(wanted, all[i].Seq)
					}
				}
				if !slices.Equal(gotten, wanted) {
					t.Errorf("%s, %d a page: %v, want %v", c.name, limit, gotten, wanted)
				}
			}
		}
		// What is rare and far back is reached in steps of a bounded length.
		if _, pages := h.trail(broker.TrailFilter{Action: "session.open", Limit: 50}); pages < 2 {
			t.Errorf("%d events were looked through on %d page", len(all), pages)
		}
		_, err = h.Trail(ctx, h.as("carol"), broker.TrailFilter{Request: "REQ-0000000000000000"})
		want(t, err, access.ErrNotFound)
		_, err = h.Trail(ctx, h.as("alice"), broker.TrailFilter{})
		want(t, err, access.ErrDenied)
	})
}

// The state of the log says how far it is signed, signs nothing itself, and tells when
// the log is not any more what was signed.
func TestLogState(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx, carol := t.Context(), h.as("carol")
	s, err := h.LogState(ctx, carol)
	ok(t, err)
	if s.Checkpoint != nil || s.Problem != "" || s.Events == 0 {
		t.Errorf("never signed: %+v", s)
	}
	h.closedSession()
	_, err = h.Checkpoint(ctx, carol)
	ok(t, err)
	h.ask("alice", "root@db02")
	s, err = h.LogState(ctx, carol)
	ok(t, err)
	if s.Checkpoint == nil || s.Problem != "" || s.Checkpoint.Size >= s.Events {
		t.Errorf("signed: %+v", s)
	}
	_, err = h.LogState(ctx, h.as("alice"))
	want(t, err, access.ErrDenied)
	for _, c := range []struct{ name, damage, mend, says string }{
		{"the end is cut off", fmt.Sprintf("UPDATE audit_head SET size = %d", s.Checkpoint.Size-1), fmt.Sprintf("UPDATE audit_head SET size = %d", s.Events), "its end was cut off"},
		{"rewritten", "UPDATE audit_leaves SET hashes = zeroblob(length(hashes))", "SELECT 1", "rewritten"},
		{"another's checkpoint", "UPDATE audit_checkpoints SET message = CAST(replace(CAST(message AS TEXT), 'drawbolt', 'drawbold') AS BLOB)", "SELECT 1", "checkpoint"},
	} {
		_, err := h.raw().Exec(c.damage)
		ok(t, err)
		s, err := h.LogState(ctx, carol)
		ok(t, err)
		if !strings.Contains(s.Problem, c.says) {
			t.Errorf("%s: %+v", c.name, s)
		}
		_, err = h.raw().Exec(c.mend)
		ok(t, err)
	}
}

// An event that was changed in the database, and one that was taken out, are named.
func TestDoubtfulEvents(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx, carol := t.Context(), h.as("carol")
	h.closedSession()
	_, err := h.Checkpoint(ctx, carol)
	ok(t, err)
	h.ask("erin", "root@db01")
	doubtful := func(f broker.TrailFilter) []int64 {
		p, err := h.Trail(ctx, carol, f)
		ok(t, err)
		return p.Doubtful
	}
	if got := doubtful(broker.TrailFilter{}); len(got) > 0 {
		t.Errorf("nothing was changed, and doubtful are %v", got)
	}
	_, err = h.raw().Exec("UPDATE audit_leaves SET leaf = CAST(replace(CAST(leaf AS TEXT), 'alice', 'erine') AS BLOB) WHERE seq = 3")
	ok(t, err)
	_, err = h.raw().Exec("DELETE FROM audit_leaves WHERE seq = 2")
	ok(t, err)
	// One whose proof needs the hashes of what is gone would be doubtful, too.
	if got := doubtful(broker.TrailFilter{}); !slices.Equal(got, []int64{3, 2}) {
		t.Errorf("doubtful are %v, want 3 and 2", got)
	}
	if s, err := h.LogState(ctx, carol); err != nil || s.Events < 4 {
		t.Errorf("%+v %v", s, err)
	}
}
