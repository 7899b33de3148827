package broker_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// due returns the events of what fell due, from the n-th event on.
func (h *house) due(n int) (list []audit.Event) {
	h.t.Helper()
	for _, e := range h.events()[n:] {
		if e.Action == store.DueExpire || e.Action == store.DueEnd {
			list = append(list, e)
		}
	}
	return list
}

// What falls due is told once, by whichever of two servers, and nothing that is not.
func TestDue(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		other := h
		if !strings.HasPrefix(h.url, "sqlite") {
			other = h.another("node2")
		}
		ctx := t.Context()
		overdue, cancelled := h.ask("alice", "root@db02"), h.ask("erin", "root@db02")
		_, err := h.Cancel(ctx, h.as("erin"), cancelled.Request.ID)
		ok(t, err)
		unused, used := h.granted(), h.approve("bob", h.ask("erin", "root@db01"))
		released := h.ask("alice", "guest@db01")
		_, err = h.Release(ctx, h.as("alice"), released.Grant.ID)
		ok(t, err)
		ok(t, h.Close(ctx, h.session("erin", used), broker.Closing{Reason: "exited"}))
		used, err = h.Extend(ctx, h.as("erin"), used.Grant.ID, 30*time.Minute)
		ok(t, err)
		before := len(h.events())
		h.start()
		if other != h {
			other.start()
		}
		of := func(e audit.Event) string { return e.Action + " " + e.Object + " " + e.Reason }
		told := func(want ...string) {
			t.Helper()
			eventually(t, fmt.Sprintf("%d things have fallen due", len(want)), func() bool { return len(h.due(before)) >= len(want) })
			var list []string
			for _, e := range h.due(before) {
				list = append(list, of(e))
				if e.Outcome != audit.Done || e.Actor != "system" || e.Request == "" || e.Target == "" || e.Account != "root" {
					t.Errorf("event %+v", e)
				}
			}
			slices.Sort(list)
			slices.Sort(want)
			if !slices.Equal(list, want) {
				t.Errorf("told %q, want %q", list, want)
			}
		}
		expired := "request.expire " + overdue.Request.ID + " nobody decided in time"
		ended := "grant.end " + used.Grant.ID + " its time is over"
		lapsed := "grant.end " + unused.Grant.ID + " it was not used in time"

		h.clock.advance(16 * time.Minute)
		told(expired)
		h.clock.advance(50 * time.Minute) // the end of used before it was extended
		told(expired)
		h.clock.advance(30 * time.Minute)
		told(expired, ended)
		h.clock.advance(4 * time.Hour)
		told(expired, ended, lapsed)
		r, err := h.db.Request(ctx, overdue.Request.ID)
		ok(t, err)
		if r.State != access.Pending || r.StateAt(h.clock.now()) != access.Expired {
			t.Errorf("the request is stored as %s", r.State)
		}
	})
}

// More than are looked for at a time, of which some are gone.
func TestDueMany(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		const many = 250
		requester := h.as("alice")
		ok(t, h.db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
			template, err := tx.Target(t.Context(), "db02")
			if err != nil {
				return audit.Event{}, err
			}
			for i := range many {
				r := access.Request{ID: access.NewID(access.RequestPrefix), RequesterID: requester.User.ID, RequesterName: "alice", TargetID: template.ID, TargetName: "db02",
					Account: "root", Reason: "INC-42", Duration: time.Hour, State: access.Pending, CreatedAt: tx.Now(), ExpiresAt: tx.Now().Add(time.Minute), Version: 1}
				if i%2 == 0 {
					err = tx.AddRequest(t.Context(), &r)
				} else {
					err = tx.SetDue(t.Context(), store.DueExpire, r.ID, r.ExpiresAt)
				}
				if err != nil {
					return audit.Event{}, err
				}
			}
			return audit.Event{Actor: "system", Action: "house.furnish"}, nil
		}))
		before := len(h.events())
		h.clock.advance(2 * time.Minute)
		h.start()
		eventually(t, "nothing is due any more", func() bool {
			list, err := h.db.Dues(t.Context(), []string{store.DueExpire}, 1)
			ok(t, err)
			return len(list) == 0
		})
		if n := len(h.due(before)); n != many/2 {
			t.Errorf("%d were told, want %d", n, many/2)
		}
	})
}

// What was over when the schema came is not told afterwards; what was not, is.
func TestDueOfBefore(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		old := h.ask("alice", "root@db02")
		h.clock.advance(20 * time.Minute)
		young := h.ask("alice", "root@db02")
		driver, name := "pgx", h.url
		if path, lite := strings.CutPrefix(h.url, "sqlite://"); lite {
			driver, name = "sqlite", path
		}
		db, err := sql.Open(driver, name)
		ok(t, err)
		defer db.Close()
		for _, statement := range []string{"DROP TABLE dues", "DROP TABLE channels", "DROP TABLE notices", "DELETE FROM goose_db_version WHERE version_id = 20"} {
			_, err := db.ExecContext(t.Context(), statement)
			ok(t, err)
		}
		h.open()
		h.clock.advance(time.Hour)
		list, err := h.db.Dues(t.Context(), []string{store.DueExpire}, 10)
		ok(t, err)
		if len(list) != 1 || list[0].Object != young.Request.ID {
			t.Errorf("due %v, want %s and not %s", list, young.Request.ID, old.Request.ID)
		}
	})
}
