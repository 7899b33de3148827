package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
)

// closed adds a session that was closed then, whose recording has that name.
func closed(t testing.TB, db *store.DB, at time.Time, recording string) access.Session {
	t.Helper()
	u := newUser("user-" + access.NewID(access.UserPrefix))
	r := access.Request{ID: access.NewID(access.RequestPrefix), RequesterID: u.ID, State: access.Approved, Duration: time.Hour}
	g := access.Grant{ID: access.NewID(access.GrantPrefix), RequestID: r.ID, UserID: u.ID, Duration: time.Hour}
	s := access.Session{ID: access.NewID(access.SessionPrefix), GrantID: g.ID, RequestID: r.ID, UserID: u.ID, State: access.Closed, ClosedAt: at, Recording: access.Sealed{Name: recording}}
	change(t, db, func(tx *store.Tx) error {
		ok(t, tx.AddUser(t.Context(), &u))
		ok(t, tx.AddRequest(t.Context(), &r))
		ok(t, tx.AddGrant(t.Context(), &g))
		return tx.AddSession(t.Context(), &s)
	})
	return s
}

func TestViews(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx := t.Context()
		queue := func(since time.Time, most int64) {
			t.Helper()
			if n, err := db.QueueViews(ctx, since); err != nil || n != most {
				t.Errorf("%d queued, want %d: %v", n, most, err)
			}
		}
		claim := func() store.View {
			t.Helper()
			v, err := db.ClaimView(ctx, "one", 3, 2, time.Hour)
			ok(t, err)
			return v
		}
		nothing := func() {
			t.Helper()
			_, err := db.ClaimView(ctx, "two", 3, 2, time.Hour)
			want(t, err, access.ErrNotFound)
		}
		queue(time.Time{}, 0)
		nothing()
		begin := now()
		closed(t, db, begin, "") // nothing was recorded
		old := closed(t, db, begin.Add(-time.Hour), "old.cast")
		s := closed(t, db, begin, "new.cast")
		queue(begin.Add(-time.Minute), 1)
		queue(time.Time{}, 1)
		queue(time.Time{}, 0)

		// The latest first, each once.
		first, second := claim(), claim()
		if first.SessionID != s.ID || second.SessionID != old.ID || first.Tries != 1 || first.State != store.ViewMaking || first.Version != 3 {
			t.Fatalf("got %+v and %+v", first, second)
		}
		nothing()
		ok(t, db.KeepView(ctx, first, time.Hour))
		end := func(v *store.View) { v.State, v.MadeAt, v.Error = store.ViewMade, begin, "cut" }
		ok(t, db.EndView(ctx, first, end))
		want(t, db.KeepView(ctx, first, time.Hour), access.ErrNotFound)
		want(t, db.EndView(ctx, first, end), access.ErrNotFound)
		if v, err := db.View(ctx, s.ID); err != nil || v.State != store.ViewMade || !v.MadeAt.Equal(begin) || v.Error != "cut" || v.ClosedAt != s.ClosedAt {
			t.Errorf("kept is %+v, %v", v, err)
		}

		// A lease that is over is another's; the one from before has no say any more.
		ok(t, db.KeepView(ctx, second, -time.Second))
		again := claim()
		if again.SessionID != old.ID || again.Tries != 2 {
			t.Errorf("got %+v", again)
		}
		want(t, db.EndView(ctx, second, end), access.ErrNotFound)
		ok(t, db.ReleaseViews(ctx, "two"))
		ok(t, db.KeepView(ctx, again, time.Hour)) // that was another
		ok(t, db.ReleaseViews(ctx, "one"))
		want(t, db.KeepView(ctx, again, time.Hour), access.ErrNotFound)
		nothing() // it was tried often enough
		if open, failed, err := db.CountViews(ctx); open != 0 || failed != 1 || err != nil {
			t.Errorf("%d open, %d failed, %v", open, failed, err)
		}
		if list, err := db.FailedViews(ctx, 10); err != nil || len(list) != 1 || list[0].SessionID != old.ID || list[0].Error == "" {
			t.Errorf("failed are %+v, %v", list, err)
		}

		// Another version makes all anew.
		ok(t, db.QueueOldViews(ctx, 3))
		nothing()
		ok(t, db.QueueOldViews(ctx, 4))
		if open, failed, err := db.CountViews(ctx); open != 2 || failed != 0 || err != nil {
			t.Errorf("%d open, %d failed, %v", open, failed, err)
		}

		if n, err := db.AgainViews(ctx, "", true); n != 0 || err != nil {
			t.Errorf("%d made anew, %v", n, err)
		}
		for id, most := range map[string]int64{s.ID: 1, "SES-none": 0, "": 2} {
			if n, err := db.AgainViews(ctx, id, false); n != most || err != nil {
				t.Errorf("%d of %q made anew, want %d: %v", n, id, most, err)
			}
		}

		// With its recording a view is gone for good.
		first = claim()
		for _, s := range []access.Session{s, closed(t, db, begin, "removed.cast")} {
			change(t, db, func(tx *store.Tx) error { return tx.RemoveView(ctx, &s) })
		}
		want(t, db.EndView(ctx, first, end), access.ErrNotFound)
		queue(time.Time{}, 0)
		ok(t, db.QueueOldViews(ctx, 9))
		if second = claim(); second.SessionID != old.ID {
			t.Errorf("got %+v", second)
		}
		nothing()
	})
}

// TestViewsShared: however many servers and workers, each view is made by one.
func TestViewsShared(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, url string) {
		for range 20 {
			closed(t, db, now(), "a.cast")
		}
		other := db
		if len(url) > 8 && url[:8] == "postgres" {
			other = open(t, url)
		}
		var mu sync.Mutex
		got := map[string]string{}
		var all sync.WaitGroup
		for i := range 6 {
			all.Go(func() {
				db := []*store.DB{db, other}[i%2]
				if _, err := db.QueueViews(t.Context(), time.Time{}); err != nil {
					t.Error(err)
				}
				for misses := 0; misses < 3; {
					v, err := db.ClaimView(t.Context(), fmt.Sprint("node ", i), 1, 3, time.Hour)
					if err != nil {
						misses++
						continue
					}
					mu.Lock()
					if by, twice := got[v.SessionID]; twice {
						t.Errorf("%s was given to %s and node %d", v.SessionID, by, i)
					}
					got[v.SessionID] = v.Node
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if len(got) != 20 {
			t.Errorf("%d were given out", len(got))
		}
	})
}
