package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

func TestChangeCommitsWithItsEvents(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		target := newTarget()
		var at time.Time
		ok(t, db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
			at = tx.Now()
			tx.Also(event("target.pin", target.ID))
			return event("target.add", target.ID), tx.AddTarget(t.Context(), &target)
		}))
		got, err := db.Target(t.Context(), target.Name)
		ok(t, err)
		if got.ID != target.ID {
			t.Errorf("target %s, want %s", got.ID, target.ID)
		}
		events := checkLog(t, db)
		if len(events) != 2 || events[0].Action != "target.add" || events[1].Action != "target.pin" {
			t.Fatalf("events %+v", events)
		}
		for _, e := range events {
			if e.Outcome != audit.Done || e.Object != target.ID || !e.Time.Equal(at) {
				t.Errorf("event %+v", e)
			}
		}
	})
}

func TestRefusal(t *testing.T) {
	denied := &access.Error{Kind: access.ErrDenied, Code: "DB-2002", Text: "no\nbody \u202emay"}
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		for _, tt := range []struct {
			name   string
			event  audit.Event
			events int
		}{
			{"with an event", event("target.add", "x"), 1},
			{"without", audit.Event{}, 0},
			{"failed", audit.Event{Actor: "system", Action: "target.add", Outcome: audit.Failed, Reason: "it broke"}, 1},
			{"no reason", audit.Event{Actor: "system", Action: "target.add"}, 1},
		} {
			t.Run(tt.name, func(t *testing.T) {
				before := len(checkLog(t, db))
				target := newTarget()
				calls := 0
				err := db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
					calls++
					tx.Also(event("target.pin", target.ID))
					ok(t, tx.AddTarget(t.Context(), &target))
					return tt.event, denied
				})
				if err != denied || calls != 1 {
					t.Errorf("%d calls, error %v", calls, err)
				}
				_, err = db.Target(t.Context(), target.ID)
				want(t, err, access.ErrNotFound)
				events := checkLog(t, db)[before:]
				if len(events) != tt.events {
					t.Fatalf("events %+v", events)
				}
				if tt.events == 0 {
					return
				}
				outcome, reason := tt.event.Outcome, tt.event.Reason
				if outcome == "" {
					outcome = audit.Refused
				}
				if reason == "" {
					reason = audit.Clean(denied.Text, audit.MaxReason)
				}
				if e := events[0]; e.Outcome != outcome || e.Reason != reason {
					t.Errorf("event %+v", e)
				}
			})
		}
	})
}

// TestRefusalIsRecordedForWhoIsGone: nobody gets around the record of a refusal
// by hanging up.
func TestRefusalIsRecordedForWhoIsGone(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx, cancel := context.WithCancel(t.Context())
		err := db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
			cancel()
			return event("target.add", "x"), access.ErrDenied
		})
		want(t, err, access.ErrDenied)
		if events := checkLog(t, db); len(events) != 1 || events[0].Outcome != audit.Refused {
			t.Errorf("events %+v", events)
		}
	})
}

func TestConflictIsARefusal(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ok(t, addTarget(t.Context(), db))
		list, err := db.Targets(t.Context())
		ok(t, err)
		twin := list[0]
		twin.ID = access.NewID(access.TargetPrefix)
		err = db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
			return event("target.add", twin.ID), tx.AddTarget(t.Context(), &twin)
		})
		want(t, err, access.ErrConflict)
		if events := checkLog(t, db); len(events) != 2 || events[1].Outcome != audit.Refused {
			t.Errorf("events %+v", events)
		}
	})
}

// TestNoEventNoChange breaks the audit log in every way at hand: the change
// must not stay, and after the repair the log must go on.
func TestNoEventNoChange(t *testing.T) {
	tests := []struct {
		name          string
		broken, mends []string
		event         audit.Event
	}{
		{name: "invalid action", event: audit.Event{Actor: "system", Action: "Not An Action"}},
		{name: "no actor", event: audit.Event{Action: "target.add"}},
		{name: "control character", event: audit.Event{Actor: "system", Action: "target.add", Reason: "a\x1b[2J"}},
		{name: "too long", event: audit.Event{Actor: "system", Action: "target.add", Reason: strings.Repeat("x", audit.MaxReason+1)}},
		{
			name:   "leaf there already",
			broken: []string{"INSERT INTO audit_leaves (seq, time, actor, action, object, target, session, hashes, leaf) VALUES (1, 0, '', '', '', '', '', '', '')"},
			mends:  []string{"DELETE FROM audit_leaves WHERE seq = 1"},
		},
		{
			name:   "leaves gone",
			broken: []string{"ALTER TABLE audit_leaves RENAME TO gone"},
			mends:  []string{"ALTER TABLE gone RENAME TO audit_leaves"},
		},
		{
			name:   "head gone",
			broken: []string{"ALTER TABLE audit_head RENAME TO gone"},
			mends:  []string{"ALTER TABLE gone RENAME TO audit_head"},
		},
		{
			name:   "head row gone",
			broken: []string{"CREATE TABLE kept AS SELECT * FROM audit_head", "DELETE FROM audit_head"},
			mends:  []string{"INSERT INTO audit_head (id, size, edge, time) SELECT id, size, edge, time FROM kept"},
		},
		{
			name:   "edge of another size",
			broken: []string{"UPDATE audit_head SET size = 3"},
			mends:  []string{"UPDATE audit_head SET size = 1"},
		},
	}
	onEach(t, func(t *testing.T, db *store.DB, url string) {
		ok(t, addTarget(t.Context(), db))
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				before := len(checkLog(t, db))
				if tt.broken != nil {
					do(t, raw(t, url), "UPDATE audit_head SET size = 1 WHERE size = 1") // the texts above count on one event
				}
				for _, query := range tt.broken {
					do(t, raw(t, url), query)
				}
				e := tt.event
				if e.Action == "" {
					e = event("target.add", "x")
				}
				target := newTarget()
				err := db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
					return e, tx.AddTarget(t.Context(), &target)
				})
				want(t, err, access.ErrUnavailable)
				for _, query := range tt.mends {
					do(t, raw(t, url), query)
				}
				_, err = db.Target(t.Context(), target.ID)
				want(t, err, access.ErrNotFound)
				if after := len(checkLog(t, db)); after != before {
					t.Errorf("%d events more", after-before)
				}
			})
		}
		ok(t, addTarget(t.Context(), db))
		checkLog(t, db)
	})
}

// TestFullDisk lets no file of this process grow, in the middle of changes.
func TestFullDisk(t *testing.T) {
	db := open(t, engines[0].url(t))
	ok(t, addTarget(t.Context(), db))
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var before syscall.Rlimit
	ok(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	full := before
	full.Cur = 512 << 10
	ok(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full))
	done := 1
	var err error
	for ; err == nil && done < 10_000; done++ {
		err = addTarget(t.Context(), db)
	}
	done--
	ok(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before))
	want(t, err, access.ErrUnavailable)
	events := checkLog(t, db)
	list, err := db.Targets(t.Context())
	ok(t, err)
	if len(list) != done || len(events) != done {
		t.Errorf("%d changes were done; %d targets, %d events", done, len(list), len(events))
	}
	ok(t, addTarget(t.Context(), db))
	checkLog(t, db)
}

func TestLockedAuditLog(t *testing.T) {
	locks := map[string]string{"sqlite": "BEGIN EXCLUSIVE", "postgres": "BEGIN; LOCK TABLE audit_leaves IN ACCESS EXCLUSIVE MODE"}
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel() // SQLite waits for seconds
			url := e.url(t)
			db := open(t, url)
			other, err := raw(t, url).Conn(t.Context())
			ok(t, err)
			defer other.Close()
			_, err = other.ExecContext(t.Context(), locks[e.name])
			ok(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			want(t, addTarget(ctx, db), access.ErrUnavailable)
			_, err = other.ExecContext(t.Context(), "ROLLBACK")
			ok(t, err)
			list, err := db.Targets(t.Context())
			ok(t, err)
			if events := checkLog(t, db); len(list) != 0 || len(events) != 0 {
				t.Errorf("%d targets, events %+v", len(list), events)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx, cancel := context.WithCancel(t.Context())
		target := newTarget()
		err := db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
			ok(t, tx.AddTarget(ctx, &target))
			cancel()
			return event("target.add", target.ID), nil
		})
		want(t, err, access.ErrUnavailable)
		want(t, err, context.Canceled)
		want(t, addTarget(ctx, db), access.ErrUnavailable)
		_, err = db.Target(ctx, target.ID)
		want(t, err, access.ErrUnavailable)
		_, err = db.Target(t.Context(), target.ID)
		want(t, err, access.ErrNotFound)
		if events := checkLog(t, db); len(events) != 0 {
			t.Errorf("events %+v", events)
		}
	})
}

func TestPanicChangesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		target := newTarget()
		func() {
			defer func() { recover() }()
			_ = db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
				ok(t, tx.AddTarget(t.Context(), &target))
				panic("a bug")
			})
		}()
		_, err := db.Target(t.Context(), target.ID)
		want(t, err, access.ErrNotFound)
		ok(t, addTarget(t.Context(), db))
		checkLog(t, db)
	})
}

func TestStaleVersions(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB, _ string) {
		ctx := t.Context()
		u := newUser("anna")
		change(t, db, func(tx *store.Tx) error { return tx.AddUser(ctx, &u) })
		save := func(stale int) (calls int, err error) {
			err = db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
				calls++
				v, err := tx.User(ctx, u.ID)
				ok(t, err)
				if calls <= stale {
					v.Version-- // as read before somebody else's change
				}
				v.Display = fmt.Sprint("after ", calls)
				return event("user.change", u.ID), tx.SaveUser(ctx, &v)
			})
			return calls, err
		}
		if calls, err := save(2); calls != 3 || err != nil {
			t.Errorf("stale twice: %d calls, %v", calls, err)
		}
		got, err := db.User(ctx, "anna")
		ok(t, err)
		if got.Display != "after 3" || got.Version != u.Version+1 {
			t.Errorf("user %+v", got)
		}
		calls, err := save(1000)
		var e *access.Error
		if !errors.Is(err, access.ErrConflict) || !errors.As(err, &e) || e.Code != "DB-3011" || calls > 20 {
			t.Errorf("always stale: %d calls, %v", calls, err)
		}
		if events := checkLog(t, db); len(events) != 2 {
			t.Errorf("%d events, want 2", len(events))
		}
	})
}

func TestClosedDatabase(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			db, err := store.Open(t.Context(), store.Config{URL: e.url(t)})
			ok(t, err)
			ok(t, db.Ping(t.Context()))
			ok(t, db.Close())
			want(t, db.Ping(t.Context()), access.ErrUnavailable)
			want(t, addTarget(t.Context(), db), access.ErrUnavailable)
			_, err = db.Users(t.Context())
			want(t, err, access.ErrUnavailable)
			_, err = db.AuditSize(t.Context())
			want(t, err, access.ErrUnavailable)
			_, err = db.Hashes(t.Context()).ReadHashes([]int64{0})
			want(t, err, access.ErrUnavailable)
		})
	}
}

// TestLostConnection: a server that ends connections in mid-change breaks the
// change; it does not make a refusal of it.
func TestLostConnection(t *testing.T) {
	url := engines[1].url(t)
	db, admin := open(t, url), raw(t, url)
	err := db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
		if _, err := tx.User(t.Context(), "nobody"); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("before: %v", err)
		}
		do(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		_, err := tx.User(t.Context(), "nobody")
		return event("user.change", "x"), err
	})
	want(t, err, access.ErrUnavailable)
	if errors.Is(err, sql.ErrNoRows) || errors.Is(err, access.ErrNotFound) {
		t.Error(err)
	}
	if events := checkLog(t, db); len(events) != 0 {
		t.Errorf("events %+v", events)
	}
}

// Changes that are committed together stay apart: one that refuses, panics or
// is given up leaves the others as they are, and each is told its own outcome.
func TestChangesTogether(t *testing.T) {
	db := open(t, "sqlite://"+filepath.Join(t.TempDir(), "db"))
	ctx := t.Context()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	refused := &access.Error{Kind: access.ErrDenied, Text: "no"}
	var wg sync.WaitGroup
	var done, denied, panicked, cancelled atomic.Int64
	const each = 40
	for range each {
		wg.Go(func() {
			if err := addTarget(ctx, db); err != nil {
				t.Error(err)
			}
			done.Add(1)
		})
		wg.Go(func() {
			target := newTarget()
			err := db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
				if err := tx.AddTarget(ctx, &target); err != nil {
					return audit.Event{}, err
				}
				return event("target.add", target.ID), refused
			})
			if errors.Is(err, access.ErrDenied) {
				denied.Add(1)
			}
		})
		wg.Go(func() {
			defer func() {
				if recover() == "mine" {
					panicked.Add(1)
				}
			}()
			target := newTarget()
			_ = db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
				_ = tx.AddTarget(ctx, &target)
				panic("mine")
			})
		})
		wg.Go(func() {
			if err := addTarget(gone, db); errors.Is(err, context.Canceled) {
				cancelled.Add(1)
			}
		})
	}
	wg.Wait()
	if done.Load() != each || denied.Load() != each || panicked.Load() != each || cancelled.Load() != each {
		t.Errorf("%d done, %d denied, %d panicked, %d cancelled; want %d of each", done.Load(), denied.Load(), panicked.Load(), cancelled.Load(), each)
	}
	targets, err := db.Targets(ctx)
	if err != nil || len(targets) != each {
		t.Errorf("%d targets, want %d (%v)", len(targets), each, err)
	}
	// One event for each that was done and each that was refused.
	if size, err := db.AuditSize(ctx); err != nil || size != 2*each {
		t.Errorf("%d events, want %d (%v)", size, 2*each, err)
	}
	checkLog(t, db)
}
