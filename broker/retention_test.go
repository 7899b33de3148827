package broker_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/view"
)

// kept is a closed session of alice with a sealed recording, whose header and
// that of the copy of a file are kept apart.
func (h *house) kept(g broker.Case) access.Session {
	h.t.Helper()
	ctx := h.t.Context()
	l := h.session("alice", g)
	ok(h.t, h.Started(ctx, l))
	for _, name := range []string{".cast.zst.age", ".1.file.age"} {
		ok(h.t, h.db.PutHeader(ctx, l.Session.ID+name, []byte("header of "+l.Session.ID+name)))
	}
	ok(h.t, h.Close(ctx, l, broker.Closing{Reason: "exited", Recording: access.Sealed{Name: l.Session.ID + ".cast.zst.age", SHA256: strings.Repeat("ab", 32), Size: 7}}))
	s, err := h.db.Session(ctx, l.Session.ID)
	ok(h.t, err)
	return s
}

// rules sets the rules of retention, as the two people who have to.
func (h *house) rules(rules ...access.RetentionRule) {
	h.t.Helper()
	now, err := h.db.Retention(h.t.Context())
	ok(h.t, err)
	now.Rules = rules
	for i, who := range []string{"kim", "lee"} {
		got, a, err := h.SetRetention(h.t.Context(), h.as(who), now)
		ok(h.t, err)
		if a.Done != (i == 1) || (got.Version == now.Version) == a.Done {
			h.t.Errorf("%s: %+v, version %d", who, a, got.Version)
		}
	}
}

// expire deletes what is due and returns how many recordings that were.
func (h *house) expire() int {
	h.t.Helper()
	all := 0
	var place store.Kept
	for {
		next, n, err := h.ExpireRecordings(h.t.Context(), place)
		ok(h.t, err)
		if all += n; next == (store.Kept{}) {
			return all
		}
		place = next
	}
}

func keepDays(n int) func(*broker.Config) { return func(c *broker.Config) { c.KeepDays = n } }

func onEachKeeping(t *testing.T, days int, test func(t *testing.T, h *house)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, newHouse(t, e.url(t), keepDays(days))) })
	}
}

// headers are how many headers of a session can be used.
func (h *house) headers(s access.Session) (n int) {
	h.t.Helper()
	for _, name := range []string{".cast.zst.age", ".1.file.age"} {
		b, err := h.db.Header(h.t.Context(), s.ID+name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			h.t.Error(err)
		}
		if len(b) > 0 {
			n++
		}
	}
	return n
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// TestRetention: a recording is deleted when its time is over, by the first rule
// that selects it, and not a moment before; what no rule selects is kept; the log
// proves it and keeps the hash.
func TestRetention(t *testing.T) {
	onEachKeeping(t, 3, func(t *testing.T, h *house) {
		ctx := t.Context()
		s := h.kept(h.granted())
		if n := h.expire(); n != 0 {
			t.Errorf("without rules, %d recordings were deleted", n)
		}
		h.rules(
			access.RetentionRule{ID: "other", Targets: access.Selector{Names: []string{"web*"}}, KeepDays: 0},
			access.RetentionRule{ID: "dev", Targets: access.Selector{Labels: map[string][]string{"environment": {"dev"}}}, KeepDays: 0},
			access.RetentionRule{ID: "prod", Targets: access.Selector{Labels: map[string][]string{"environment": {"test", "prod"}}}, Accounts: []string{"root"}, KeepDays: 10},
			access.RetentionRule{ID: "all", KeepDays: 0},
		)
		texts := slices.Values([]view.Text{{In: view.Output, Text: "a secret of db01"}})
		ok(t, h.db.SaveText(ctx, s.ID, texts))
		// What the target is called today does not count.
		tg, err := h.db.Target(ctx, "db01")
		ok(t, err)
		tg.Labels.Environment = "dev"
		_, err = h.SetTarget(ctx, h.as("root"), tg)
		ok(t, err)

		l, err := h.RecordingLife(ctx, h.as("carol"), s.ID)
		ok(t, err)
		if l.Rule != "prod" || !l.KeptUntil.Equal(s.ClosedAt.Add(days(10))) || l.Deleted != 0 {
			t.Errorf("its life is %+v", l)
		}
		h.clock.advance(days(10) - time.Minute)
		if n := h.expire(); n != 0 || h.headers(s) != 2 {
			t.Fatalf("a minute before its time, %d recordings were deleted", n)
		}
		h.clock.advance(2 * time.Minute)
		if n := h.expire(); n != 1 || h.headers(s) != 0 {
			t.Fatalf("%d recordings were deleted, %d headers are left", n, h.headers(s))
		}
		if n := h.expire(); n != 0 {
			t.Errorf("%d were deleted again", n)
		}

		got, err := h.FindSession(ctx, h.as("carol"), s.ID)
		ok(t, err)
		if got.DeletedAt.IsZero() || got.Deletion.Rule != "prod" || got.Recording != s.Recording {
			t.Errorf("the session is %+v", got)
		}
		_, err = h.Replay(ctx, h.as("carol"), s.ID, "play")
		want(t, err, access.ErrNotFound)
		if e := (*access.Error)(nil); !errors.As(err, &e) || e.Code != "DB-6110" || !strings.Contains(e.Text, "prod") {
			t.Errorf("a replay says %v", err)
		}
		p, err := h.Proof(ctx, h.as("carol"), s.ID)
		ok(t, err)
		if p.Deletion == nil {
			t.Fatal("the deletion is not proven")
		}
		head, err := audit.OpenCheckpoint(p.Checkpoint, h.config.Verifier)
		ok(t, err)
		for _, e := range []broker.ProvenEvent{p.ProvenEvent, *p.Deletion} {
			ok(t, audit.CheckInclusion(head, e.Leaf, e.Inclusion))
		}
		e, err := audit.Parse(p.Deletion.Leaf)
		ok(t, err)
		if e.Actor != "system" || e.Action != "recording.delete" || e.Outcome != audit.Done || e.Rule != "prod" || e.Session != s.ID ||
			e.Details["recording_sha256"] != s.Recording.SHA256 || e.Details["erased"] != "2" {
			t.Errorf("the event is %+v", e)
		}
		if l, err := h.RecordingLife(ctx, h.as("carol"), s.ID); err != nil || l.Deleted != e.Seq {
			t.Errorf("its life is %+v, %v", l, err)
		}
		// Nothing is kept of it afterwards: a view that was being made, for one.
		if h.db.PutHeader(ctx, s.ID+".view.zst.age", []byte("late")) == nil {
			t.Error("a header came after the deletion")
		}
		if h.db.SaveText(ctx, s.ID, texts) == nil {
			t.Error("its text was kept after the deletion")
		}
		if v, err := h.db.View(ctx, s.ID); err != nil || v.State != store.ViewRemoved {
			t.Errorf("its view is %+v, %v", v, err)
		}
		names, err := h.db.ErasedObjects(ctx, h.clock.now(), 10)
		ok(t, err)
		if strings.Join(names, " ") != s.ID+".1.file.age "+s.ID+".cast.zst.age" {
			t.Errorf("to be removed: %q", names)
		}
		ok(t, h.db.ObjectTried(ctx, names[0]))
		ok(t, h.db.RemoveHeader(ctx, names[1]))
		if left, err := h.db.ErasedObjects(ctx, h.clock.now().Add(-time.Hour), 10); err != nil || len(left) != 0 {
			t.Errorf("to be removed now: %q, %v", left, err)
		}
		if deleted, err := h.db.DeletedRecordings(ctx, []string{s.ID, "SES-other"}); err != nil || len(deleted) != 1 {
			t.Errorf("deleted: %q, %v", deleted, err)
		}
	})
}

// TestKeptAtLeast: neither a rule nor two people delete a recording before the
// time for which all are kept.
func TestKeptAtLeast(t *testing.T) {
	onEachKeeping(t, 3, func(t *testing.T, h *house) {
		ctx := t.Context()
		s := h.kept(h.granted())
		h.rules(access.RetentionRule{ID: "all", KeepDays: 1})
		for _, early := range []time.Duration{0, days(3) - time.Minute} {
			h.clock.advance(early)
			for _, who := range []string{"kim", "lee"} {
				_, err := h.DeleteRecording(ctx, h.as(who), s.ID, "in haste")
				want(t, err, access.ErrDenied)
			}
			if n := h.expire(); n != 0 || h.headers(s) != 2 {
				t.Errorf("after %s, %d recordings were deleted", early, n)
			}
		}
		h.clock.advance(2 * time.Minute)
		if n := h.expire(); n != 1 {
			t.Errorf("at last, %d recordings were deleted", n)
		}
	})
}

// TestHold: while a hold stands, nothing deletes the recording: no rule, no two
// people, and none who had asked for it before.
func TestHold(t *testing.T) {
	onEachKeeping(t, 0, func(t *testing.T, h *house) {
		ctx := t.Context()
		g := h.granted()
		s, other := h.kept(g), h.kept(g)
		a, err := h.DeleteRecording(ctx, h.as("kim"), s.ID, "erasure request 88")
		ok(t, err)
		if a.Done || a.First != "kim" {
			t.Fatalf("one person deleted a recording: %+v", a)
		}
		one, ids, err := h.HoldRecordings(ctx, h.as("lee"), broker.HoldOrder{Sessions: []string{s.ID, s.ID}, Reason: "case 4711"})
		ok(t, err)
		if len(ids) != 1 {
			t.Errorf("held: %q", ids)
		}
		two, ids, err := h.HoldRecordings(ctx, h.as("lee"), broker.HoldOrder{User: "alice", Target: "db01", Since: s.OpenedAt, Until: other.OpenedAt, Reason: "case 4712"})
		ok(t, err)
		if len(ids) != 1 || ids[0] != s.ID {
			t.Errorf("held: %q, want %s", ids, s.ID)
		}
		h.rules(access.RetentionRule{ID: "all", KeepDays: 0})
		held := func() {
			t.Helper()
			for _, who := range []string{"lee", "kim"} {
				_, err := h.DeleteRecording(ctx, h.as(who), s.ID, "erasure request 88")
				want(t, err, access.ErrDenied)
			}
			h.expire()
			if h.headers(s) != 2 {
				t.Fatal("a held recording was deleted")
			}
		}
		held()
		if got, err := h.db.Session(ctx, other.ID); err != nil || got.DeletedAt.IsZero() {
			t.Errorf("the other one was not deleted: %v", err)
		}
		if l, err := h.RecordingLife(ctx, h.as("carol"), s.ID); err != nil || len(l.Holds) != 2 || l.Holds[0].Reason != "case 4711" || l.Holds[0].ByName != "lee" {
			t.Errorf("its life is %+v, %v", l, err)
		}
		if l, err := h.RecordingLife(ctx, h.as("alice"), s.ID); err != nil || len(l.Holds) != 0 || l.Rule != "all" {
			t.Errorf("who was recorded learns of %+v, %v", l, err)
		}
		_, _, err = h.HoldRecordings(ctx, h.as("lee"), broker.HoldOrder{Sessions: []string{other.ID}, Reason: "too late"})
		want(t, err, access.ErrNotFound)

		// Lifting one takes two people, and leaves the other.
		lift := func(who, id string, done bool) {
			t.Helper()
			a, err := h.LiftHold(ctx, h.as(who), id, "it is closed")
			ok(t, err)
			if a.Done != done {
				t.Fatalf("%s: %+v", who, a)
			}
		}
		lift("lee", one.ID, false)
		lift("lee", one.ID, false) // the same person twice
		held()
		lift("kim", one.ID, true)
		held()
		lift("kim", two.ID, false)
		h.clock.advance(days(8)) // it has lapsed
		lift("lee", two.ID, false)
		held()
		// Who asked for it may not any more.
		h.setGroups("lee", "engineers")
		lift("kim", two.ID, false)
		h.setGroups("lee", "custodians")
		lift("lee", two.ID, true)
		if n := h.expire(); n != 1 || h.headers(s) != 0 {
			t.Errorf("after the last hold, %d recordings were deleted", n)
		}
		if list, err := h.Holds(ctx, h.as("kim")); err != nil || len(list) != 0 {
			t.Errorf("holds: %v, %v", list, err)
		}
	})
}

// TestDeleteRecording: two different people delete a recording, and no bot, nobody
// twice, and nobody without the right.
func TestDeleteRecording(t *testing.T) {
	onEachKeeping(t, 0, func(t *testing.T, h *house) {
		ctx := t.Context()
		g := h.granted()
		s := h.kept(g)
		live := h.session("alice", g)
		for _, who := range []string{"carol", "root", "alice", "bob"} {
			_, err := h.DeleteRecording(ctx, h.as(who), s.ID, "x1")
			if err == nil {
				t.Errorf("%s deletes recordings", who)
			}
		}
		h.setUser("lee", func(u *access.User) { u.Bot = true })
		_, err := h.DeleteRecording(ctx, h.as("lee"), s.ID, "x1")
		want(t, err, access.ErrDenied)
		h.setUser("lee", func(u *access.User) { u.Bot = false })
		_, err = h.DeleteRecording(ctx, h.as("kim"), live.Session.ID, "x1")
		want(t, err, access.ErrConflict)

		// Who was recorded is none of the two.
		h.setGroups("alice", "engineers", "custodians")
		_, err = h.DeleteRecording(ctx, h.as("alice"), s.ID, "x1")
		want(t, err, access.ErrDenied)
		hold, _, err := h.HoldRecordings(ctx, h.as("kim"), broker.HoldOrder{Sessions: []string{live.Session.ID}, Reason: "case 1"})
		ok(t, err)
		_, err = h.LiftHold(ctx, h.as("alice"), hold.ID, "x1")
		want(t, err, access.ErrDenied)
		h.setGroups("alice", "engineers")

		before := h.headers(s)
		for range 3 {
			if a, err := h.DeleteRecording(ctx, h.as("kim"), s.ID, "erasure request 88"); err != nil || a.Done {
				t.Fatalf("%+v, %v", a, err)
			}
		}
		if h.headers(s) != before {
			t.Error("one person deleted it")
		}
		a, err := h.DeleteRecording(ctx, h.as("lee"), s.ID, "I have looked at 88")
		ok(t, err)
		if !a.Done || a.First != "kim" || h.headers(s) != 0 {
			t.Errorf("%+v", a)
		}
		_, err = h.DeleteRecording(ctx, h.as("lee"), s.ID, "again")
		want(t, err, access.ErrNotFound)
		p, err := h.Proof(ctx, h.as("carol"), s.ID)
		ok(t, err)
		e, err := audit.Parse(p.Deletion.Leaf)
		ok(t, err)
		if e.ActorName != "lee" || e.Details["first"] != "kim" || e.Details["first_reason"] != "erasure request 88" || e.Reason != "I have looked at 88" {
			t.Errorf("the event is %+v", e)
		}
		ok(t, h.Close(ctx, live, broker.Closing{Reason: "exited"}))
	})
}

// TestRetentionRules: the second person must set the very same rules.
func TestRetentionRules(t *testing.T) {
	onEachKeeping(t, 0, func(t *testing.T, h *house) {
		ctx := t.Context()
		year := access.Retention{Version: 1, Rules: []access.RetentionRule{{ID: "year", KeepDays: 365}}}
		day := access.Retention{Version: 1, Rules: []access.RetentionRule{{ID: "year", KeepDays: 1}}}
		_, a, err := h.SetRetention(ctx, h.as("kim"), year)
		ok(t, err)
		_, b, err := h.SetRetention(ctx, h.as("lee"), day)
		ok(t, err)
		if a.Done || b.Done {
			t.Fatal("other rules than those that were asked for hold")
		}
		if now, err := h.Retention(ctx, h.as("carol")); err != nil || len(now.Rules) != 0 {
			t.Errorf("the rules are %+v, %v", now, err)
		}
		now, b, err := h.SetRetention(ctx, h.as("kim"), day)
		ok(t, err)
		if !b.Done || now.Version != 2 {
			t.Errorf("%+v, version %d", b, now.Version)
		}
		_, _, err = h.SetRetention(ctx, h.as("lee"), year)
		want(t, err, access.ErrConflict) // of another version
	})
}

// TestHoldAgainstDeletion: of a hold and a deletion at once, one comes first and
// the other is refused.
func TestHoldAgainstDeletion(t *testing.T) {
	onEachKeeping(t, 0, func(t *testing.T, h *house) {
		ctx := t.Context()
		g := h.granted()
		other := h.another("node2")
		h.rules(access.RetentionRule{ID: "all", KeepDays: 0})
		for range 8 {
			s := h.kept(g)
			done := make(chan error, 1)
			go func() {
				_, _, err := other.HoldRecordings(context.WithoutCancel(ctx), other.as("lee"), broker.HoldOrder{Sessions: []string{s.ID}, Reason: "case 1"})
				done <- err
			}()
			h.expire()
			err := <-done
			now, e := h.db.Session(ctx, s.ID)
			ok(t, e)
			if (err == nil) == !now.DeletedAt.IsZero() {
				t.Fatalf("the hold says %v, and the recording was deleted: %v", err, !now.DeletedAt.IsZero())
			}
		}
	})
}

// TestErasedIsOverwritten: after a deletion no file of the database holds the
// header any more.
func TestErasedIsOverwritten(t *testing.T) {
	url := sqliteURL(t)
	h := newHouse(t, url, keepDays(0))
	ctx := t.Context()
	s := h.kept(h.granted())
	secret := []byte("header of " + s.ID + ".cast")
	files := func() (found []string) {
		list, err := filepath.Glob(strings.TrimPrefix(url, "sqlite://") + "*")
		ok(t, err)
		for _, name := range list {
			if b, err := os.ReadFile(name); err == nil && bytes.Contains(b, secret) {
				found = append(found, filepath.Base(name))
			}
		}
		return found
	}
	if len(files()) == 0 {
		t.Fatal("the header is not found while it is there: is the search right?")
	}
	h.rules(access.RetentionRule{ID: "all", KeepDays: 0})
	if n := h.expire(); n != 1 {
		t.Fatalf("%d were deleted", n)
	}
	ok(t, h.db.ForgetErased(ctx))
	if found := files(); len(found) > 0 {
		t.Errorf("the header is in %q", found)
	}
}
