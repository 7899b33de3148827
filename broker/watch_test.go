package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// marks takes the notices of a session up to a mark, which may be on its way, and
// then until none has come for a moment.
func marks(l *broker.Live, last string) (marks, shown string) {
	for {
		limit := soon
		if strings.Contains(marks, last) {
			limit = briefly
		}
		select {
		case n := <-l.Notices():
			marks += n.Mark + "\n"
			shown += n.Show + "\n"
		case <-time.After(limit):
			return marks, shown
		}
	}
}

func held(t *testing.T, l *broker.Live, want bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if (l.Held() != nil) == want {
			return
		}
	}
	t.Fatalf("input held: %t, want %t", !want, want)
}

func (h *house) last(action string) audit.Event {
	h.t.Helper()
	var found audit.Event
	for _, e := range h.events() {
		if e.Action == action {
			found = e
		}
	}
	return found
}

// That somebody watches is on record at its begin and its end, with what was seen,
// and the user is told.
func TestWatch(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		l := h.session("alice", h.granted())
		w, err := h.Watch(t.Context(), h.as("carol"), l.Session.ID, false)
		ok(t, err)
		if e := h.last("session.watch"); e.ActorName != "carol" || e.Session != l.Session.ID || e.Outcome != audit.Done || e.Target != "db01" {
			t.Errorf("event %+v", e)
		}
		h.clock.advance(4 * time.Second)
		ok(t, w.End(t.Context(), 90*time.Second, 94500*time.Millisecond, nil))
		ok(t, w.End(t.Context(), 0, 0, nil)) // and once only
		e := h.last("session.watched")
		if e.ActorName != "carol" || e.Session != l.Session.ID || e.Details["from_seconds"] != "90.000" || e.Details["to_seconds"] != "94.500" || !strings.HasPrefix(e.Details["watched_seconds"], "4.") {
			t.Errorf("event %+v", e)
		}
		told, shown := marks(l, "no longer watched by carol")
		if !strings.Contains(told, "watched by carol\n") || !strings.Contains(told, "no longer watched by carol\n") || !strings.Contains(shown, "carol watches this session") {
			t.Errorf("marks %q, shown %q", told, shown)
		}
		goesOn(t, l)
		if w.Context().Err() == nil {
			t.Error("a watching that has ended goes on")
		}
	})
}

// Who may not know of a session is told the same as of one that is not there, and
// what is no id of a session is treated as one that is not there.
func TestWatchRefuses(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c := h.granted()
		l := h.session("alice", c)
		watch := func(who, id string) error {
			w, err := h.Watch(t.Context(), h.as(who), id, false)
			if err == nil {
				ok(t, w.End(t.Context(), 0, 0, nil))
			}
			return err
		}
		none := "SES-0000000000000000"
		for _, who := range []string{"mallory", "bob", "ci"} {
			there, not := watch(who, l.Session.ID), watch(who, none)
			want(t, there, access.ErrNotFound)
			if strings.ReplaceAll(there.Error(), l.Session.ID, none) != not.Error() {
				t.Errorf("%s: %q and %q", who, there, not)
			}
			for _, err := range []error{
				h.Message(t.Context(), h.as(who), l.Session.ID, "x"), h.Pause(t.Context(), h.as(who), l.Session.ID), h.Resume(t.Context(), h.as(who), l.Session.ID),
			} {
				want(t, err, access.ErrNotFound)
			}
		}
		for _, id := range []string{"", "SES-", c.Grant.ID, c.Request.ID, "SES-' OR 1=1 --", "../" + l.Session.ID, strings.Repeat("S", 5000), "SES-\x00"} {
			want(t, watch("carol", id), access.ErrNotFound)
		}
		want(t, watch("alice", l.Session.ID), access.ErrDenied) // who knows of it, and may not
		want(t, h.Pause(t.Context(), h.as("carol"), l.Session.ID), access.ErrDenied)
		want(t, h.Message(t.Context(), h.as("carol"), l.Session.ID, "x"), access.ErrDenied)
		if m, _ := marks(l, ""); strings.Contains(m, "watched by") || l.Held() != nil {
			t.Errorf("the session noticed %q", m)
		}
		ok(t, h.Close(t.Context(), l, broker.Closing{Reason: "exited"}))
		want(t, watch("carol", l.Session.ID), access.ErrConflict)
		want(t, h.Pause(t.Context(), h.as("root"), l.Session.ID), access.ErrConflict)
	})
}

func TestWatchElsewhere(t *testing.T) {
	a := newHouse(t, engines[1].url(t))
	b := a.another("node2")
	l := b.session("alice", a.granted())
	_, err := a.Watch(t.Context(), a.as("carol"), l.Session.ID, false)
	var e *access.Error
	if !errors.As(err, &e) || e.Code != "DB-6080" || !strings.Contains(e.Text, "node2") {
		t.Errorf("got %v", err)
	}
	// What is said and held reaches the server that carries the session.
	b.start()
	ok(t, a.Message(t.Context(), a.as("root"), l.Session.ID, "please stop"))
	ok(t, a.Pause(t.Context(), a.as("root"), l.Session.ID))
	held(t, l, true)
	ok(t, a.Resume(t.Context(), a.as("root"), l.Session.ID))
	held(t, l, false)
	if m, shown := marks(l, "pause ended"); !strings.Contains(shown, "message from root: please stop") || !strings.Contains(m, "paused by root\n") || !strings.Contains(m, "pause ended\n") {
		t.Errorf("marks %q, shown %q", m, shown)
	}
}

// A watcher who loses the right to is cut, on whichever server it was taken.
func TestWatcherLosesRight(t *testing.T) {
	for name, do := range map[string]func(h *house) error{
		"left the group": func(h *house) error { h.setGroups("carol"); return nil },
		"locked": func(h *house) error {
			return h.LockUser(context.Background(), h.as("root"), "carol", true, "INC-7")
		},
		"role removed": func(h *house) error { return h.RemoveRole(context.Background(), h.as("root"), "auditors") },
		"role narrowed": func(h *house) error {
			r, err := h.FindRole(context.Background(), h.as("root"), "auditors")
			if err == nil {
				r.Rules[0].Targets.Names = []string{"db02"}
				_, err = h.SetRole(context.Background(), h.as("root"), r)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				h.start()
				l := h.session("alice", h.granted())
				w, err := h.Watch(t.Context(), h.as("carol"), l.Session.ID, false)
				ok(t, err)
				other, err := h.Watch(t.Context(), h.as("root"), l.Session.ID, false)
				ok(t, err)
				ok(t, do(h))
				select {
				case <-w.Context().Done():
				case <-time.After(soon):
					t.Fatal("carol still watches")
				}
				want(t, context.Cause(w.Context()), access.ErrDenied)
				ok(t, w.End(t.Context(), 0, time.Second, context.Cause(w.Context())))
				if e := h.last("session.watched"); !strings.Contains(e.Reason, "may not watch this session any more") {
					t.Errorf("event %+v", e)
				}
				if other.Context().Err() != nil {
					t.Error("root was cut, too")
				}
				ok(t, other.End(t.Context(), 0, 0, nil))
				goesOn(t, l)
			})
		})
	}
}

func TestWatchersAreBounded(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	c := h.granted()
	one := h.session("alice", c)
	var all []*broker.Watching
	watch := func(who string, l *broker.Live) error {
		w, err := h.Watch(t.Context(), h.as(who), l.Session.ID, false)
		if err == nil {
			all = append(all, w)
		}
		return err
	}
	for range 8 {
		ok(t, watch("carol", one))
		ok(t, watch("root", one))
	}
	want(t, watch("carol", h.session("alice", c)), access.ErrConflict) // carol has had enough
	h.setGroups("dave", "auditors")
	want(t, watch("dave", one), access.ErrConflict) // and so has the session
	ok(t, all[0].End(t.Context(), 0, 0, nil))
	ok(t, watch("dave", one))
	for _, w := range all {
		ok(t, w.End(t.Context(), 0, 0, nil))
	}
	ok(t, watch("carol", one))
}

// A pause holds every session under the grant, and nothing new begins under it. The
// holder cannot end it; the clock can.
func TestPause(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.start()
		c := h.granted()
		l, second := h.session("alice", c), h.session("alice", c)
		other := h.session("alice", h.ask("alice", "guest@db01"))
		u := h.user("alice")
		h.setGroups("alice", append(u.Groups, "admins")...) // she may moderate, but not herself
		want(t, h.Pause(t.Context(), h.as("alice"), l.Session.ID), access.ErrDenied)
		want(t, h.Resume(t.Context(), h.as("root"), l.Session.ID), access.ErrConflict)
		ok(t, h.Pause(t.Context(), h.as("root"), l.Session.ID))
		over := l.Held()
		if over == nil || second.Held() == nil {
			t.Fatal("input passes")
		}
		held(t, other, false)
		want(t, h.Pause(t.Context(), h.as("root"), second.Session.ID), access.ErrConflict)
		want(t, h.Resume(t.Context(), h.as("alice"), l.Session.ID), access.ErrDenied)
		_, err := h.Open(t.Context(), h.as("alice"), c.Grant.ID, broker.Opening{Kind: "exec", Command: "id"})
		want(t, err, access.ErrDenied)
		if e, is := errors.AsType[*access.Error](err); !is || e.Code != "DB-6083" {
			t.Errorf("got %v", err)
		}
		if e := h.last("session.pause"); e.ActorName != "root" || e.Grant != c.Grant.ID || e.Session != second.Session.ID && e.Session != l.Session.ID {
			t.Errorf("event %+v", e)
		}
		goesOn(t, l)
		ok(t, h.Resume(t.Context(), h.as("root"), second.Session.ID))
		<-over
		held(t, l, false)
		held(t, second, false)
		_ = h.session("alice", c)
		ok(t, h.Pause(t.Context(), h.as("root"), l.Session.ID))
		h.clock.advance(time.Hour)
		want(t, l.Check(), broker.ErrExpired)
	})
}

func TestMessage(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.start()
		l := h.session("alice", h.granted())
		for _, bad := range []string{"", "  ", "\x1b]0;title\x07", "two\nlines", "\u202ebackwards", "\x9b31m", strings.Repeat("x", broker.MaxMessage+1), "\xff"} {
			want(t, h.Message(t.Context(), h.as("root"), l.Session.ID, bad), access.ErrInvalid)
		}
		ok(t, h.Message(t.Context(), h.as("root"), l.Session.ID, "please leave the replica alone"))
		if m, shown := marks(l, "message"); m != "message from root: please leave the replica alone\n" || shown != m {
			t.Errorf("marks %q, shown %q", m, shown)
		}
		if e := h.last("session.message"); e.Reason != "please leave the replica alone" || e.Session != l.Session.ID || e.ActorName != "root" {
			t.Errorf("event %+v", e)
		}
		tunnels, err := h.Open(t.Context(), h.as("alice"), l.Grant.ID, broker.Opening{Kind: "forward"})
		ok(t, err)
		defer h.Close(t.Context(), tunnels, broker.Closing{})
		want(t, h.Message(t.Context(), h.as("root"), tunnels.Session.ID, "x"), access.ErrConflict)
	})
}

// setRules changes the first rule of the engineers.
func (h *house) setRules(change func(*access.SessionRules)) {
	h.t.Helper()
	r, err := h.FindRole(h.t.Context(), h.as("root"), "engineers")
	ok(h.t, err)
	change(&r.Rules[0].Session)
	_, err = h.SetRole(h.t.Context(), h.as("root"), r)
	ok(h.t, err)
}

// Four eyes: input passes only while somebody watches who is another person. The
// user's own eyes do not count, by whatever login, nor does a program.
func TestFourEyes(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.start()
		h.setRules(func(r *access.SessionRules) { r.FourEyes = true })
		l := h.session("alice", h.granted())
		held(t, l, true)
		h.setGroups("alice", "engineers", "auditors")
		h.setGroups("ci", "auditors")
		for _, who := range []access.Caller{h.as("alice"), {User: h.user("alice"), Via: "web", Login: "another"}, h.as("ci")} {
			w, err := h.Watch(t.Context(), who, l.Session.ID, false)
			ok(t, err)
			held(t, l, true)
			ok(t, w.End(t.Context(), 0, 0, nil))
		}
		look, err := h.Watch(t.Context(), h.as("carol"), l.Session.ID, true)
		ok(t, err)
		held(t, l, true) // a look at what was is no watching
		ok(t, look.End(t.Context(), 0, 0, nil))
		first, err := h.Watch(t.Context(), h.as("carol"), l.Session.ID, false)
		ok(t, err)
		held(t, l, false)
		second, err := h.Watch(t.Context(), h.as("root"), l.Session.ID, false)
		ok(t, err)
		ok(t, first.End(t.Context(), 0, 0, nil))
		held(t, l, false)
		ok(t, second.End(t.Context(), 0, 0, nil))
		held(t, l, true)
		// One who loses the right does not count from then on.
		first, err = h.Watch(t.Context(), h.as("carol"), l.Session.ID, false)
		ok(t, err)
		held(t, l, false)
		h.setGroups("carol")
		<-first.Context().Done()
		held(t, l, true)
		ok(t, first.End(t.Context(), 0, 0, nil))
	})
}

// A role that wants it from now on holds what runs; one that does not any more does
// not let go what was approved with it.
func TestFourEyesLater(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.start()
	l := h.session("alice", h.ask("alice", "guest@db01"))
	held(t, l, false)
	r, err := h.FindRole(t.Context(), h.as("root"), "engineers")
	ok(t, err)
	r.Rules[2].Session.FourEyes = true
	r, err = h.SetRole(t.Context(), h.as("root"), r)
	ok(t, err)
	held(t, l, true)
	r.Rules[2].Session.FourEyes = false
	_, err = h.SetRole(t.Context(), h.as("root"), r)
	ok(t, err)
	held(t, l, false) // it was approved without

	h.setRules(func(r *access.SessionRules) { r.FourEyes, r.SilentWatch = true, true })
	l = h.session("alice", h.granted())
	held(t, l, true)
	h.setRules(func(r *access.SessionRules) { r.FourEyes, r.SilentWatch = false, false })
	time.Sleep(200 * time.Millisecond)
	held(t, l, true)
	w, err := h.Watch(t.Context(), h.as("carol"), l.Session.ID, false)
	ok(t, err)
	if m, shown := marks(l, "watched by carol"); !strings.Contains(m, "watched by carol") || !strings.Contains(shown, "carol watches") {
		t.Errorf("a role that tells of watchers again: marks %q, shown %q", m, shown)
	}
	ok(t, w.End(t.Context(), 0, 0, nil))
}

// What nobody is told of is on record all the same.
func TestSilentWatch(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.setRules(func(r *access.SessionRules) { r.SilentWatch = true })
	l := h.session("alice", h.granted())
	w, err := h.Watch(t.Context(), h.as("carol"), l.Session.ID, false)
	ok(t, err)
	ok(t, w.End(t.Context(), 0, 0, nil))
	if m, shown := marks(l, "watched by carol"); strings.TrimSpace(shown) != "" || !strings.Contains(m, "watched by carol") {
		t.Errorf("marks %q, shown %q", m, shown)
	}
}

// Nobody watches for five minutes: the session ends. Each time that somebody comes,
// the time begins anew.
func TestUnwatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, sqliteURL(t))
		h.setRules(func(r *access.SessionRules) { r.FourEyes = true })
		l := h.session("alice", h.granted())
		time.Sleep(4*time.Minute + 59*time.Second)
		goesOn(t, l)
		w, err := h.Watch(t.Context(), h.as("carol"), l.Session.ID, false)
		ok(t, err)
		time.Sleep(20 * time.Minute)
		goesOn(t, l)
		ok(t, w.End(t.Context(), 0, 0, nil))
		time.Sleep(4*time.Minute + 59*time.Second)
		goesOn(t, l)
		time.Sleep(2 * time.Second)
		want(t, context.Cause(l.Context()), broker.ErrUnwatched)
		if got := fmt.Sprint(context.Cause(l.Context())); !strings.Contains(got, "nobody watched this session for 5m") {
			t.Errorf("the user reads %q", got)
		}
		ok(t, h.Close(t.Context(), l, broker.Closing{Reason: "unwatched"}))
		h.db.Close()
	})
}
