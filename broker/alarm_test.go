package broker_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// detected puts on record that a rule of the session found something, and returns
// the event.
func (h *house) detected(l *broker.Live, level access.DetectLevel, rule string) audit.Event {
	h.t.Helper()
	ok(h.t, h.Detected(h.t.Context(), l, broker.Detection{Level: level, Rule: string(level) + " " + rule, Command: rule + " now", Sent: true}))
	list := h.events()
	return list[len(list)-1]
}

// "I am on it" names the first one, closes nothing, and gives a pause of reminders
// that has an end.
func TestAcknowledgeGlass(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		c, err := h.Request(ctx, h.as("erin"), breaking("root@db01"))
		ok(t, err)
		id := c.Request.ID
		if g, err := h.FindGlassCase(ctx, h.as("rita"), id); err != nil || !g.MayAcknowledge || g.MayReview {
			t.Errorf("rita sees %+v, %v", g, err)
		}
		_, err = h.Release(ctx, h.as("erin"), id)
		ok(t, err)
		h.clock.advance(3*time.Hour + 50*time.Minute)
		// Two at once: one is first.
		var all sync.WaitGroup
		errs := make([]error, 2)
		for i, who := range []string{"rita", "sam"} {
			by := h.as(who)
			all.Go(func() { errs[i] = h.Acknowledge(ctx, by, id, 0) })
		}
		all.Wait()
		first := slices.Index(errs, nil)
		if first < 0 || errs[1-first] == nil {
			t.Fatalf("%v", errs)
		}
		wantCode(t, errs[1-first], "DB-6330")
		for _, who := range []string{"rita", "sam"} { // nor does it count again
			wantCode(t, h.Acknowledge(ctx, h.as(who), id, 0), "DB-6330")
		}
		g, err := h.FindGlassCase(ctx, h.as("sam"), id)
		ok(t, err)
		if g.Review.AckName != []string{"rita", "sam"}[first] || !g.Review.Open() || !g.MayReview || g.MayAcknowledge {
			t.Errorf("the case is %+v", g)
		}
		// Nobody is reminded for four hours from then on, where it would have been after
		// ten minutes; and then they are.
		for _, then := range []struct{ minutes, due int }{{15, 0}, {3*60 + 40, 0}, {10, 1}} {
			h.clock.advance(time.Duration(then.minutes) * time.Minute)
			if list, err := h.db.Dues(ctx, []string{"breakglass.remind"}, 10); err != nil || len(list) != then.due {
				t.Errorf("%d minutes on, %d reminders are due, %v; want %d", then.minutes, len(list), err, then.due)
			}
		}
		_, err = h.ReviewGlass(ctx, h.as("sam"), id, access.Justified, "it was") // either may close it
		ok(t, err)
		wantCode(t, h.Acknowledge(ctx, h.as("rita"), id, 0), "DB-6252")
	})
}

func TestAcknowledgeAttacks(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		c, err := h.Request(ctx, h.as("erin"), breaking("root@db01"))
		ok(t, err)
		l := h.session("erin", c)
		h.detected(l, access.DetectAlert, "mysqldump")
		h.detected(l, access.DetectWarn, "ls") // no alarm: only its user was told
		id := l.Session.ID
		// Whoever's it is says nothing of it, by whatever right; nor does a bot.
		h.setGroups("erin", "engineers", "reviewers", "auditors", "admins")
		h.setGroups("ci", "reviewers", "auditors")
		wantCode(t, h.Acknowledge(ctx, h.as("erin"), c.Request.ID, 0), "DB-6250")
		wantCode(t, h.Acknowledge(ctx, h.as("ci"), c.Request.ID, 0), "DB-6251")
		wantCode(t, h.Acknowledge(ctx, h.as("erin"), id, 1), "DB-6331")
		wantCode(t, h.Expected(ctx, h.as("erin"), id, 1, "my backup"), "DB-6331")
		wantCode(t, h.Acknowledge(ctx, h.as("ci"), id, 1), "DB-6334")
		wantCode(t, h.Expected(ctx, h.as("ci"), id, 1, "a backup"), "DB-6334")
		if s, err := h.FindSession(ctx, h.as("erin"), id); err != nil || len(s.Alarms) != 0 {
			t.Errorf("its user learns what is looked for: %+v, %v", s.Alarms, err)
		}
		// Who may not know of it learns nothing, and who may not watch may say nothing.
		want(t, h.Acknowledge(ctx, h.as("mallory"), c.Request.ID, 0), access.ErrNotFound)
		want(t, h.Acknowledge(ctx, h.as("mallory"), id, 1), access.ErrNotFound)
		want(t, h.Expected(ctx, h.as("mallory"), id, 1, "why not"), access.ErrNotFound)
		want(t, h.Expected(ctx, h.as("kim"), id, 1, "why not"), access.ErrDenied) // sees it in the list
		if s, err := h.FindSession(ctx, h.as("kim"), id); err != nil || len(s.Alarms) != 0 {
			t.Errorf("kim sees %+v, %v", s.Alarms, err)
		}
		want(t, h.Acknowledge(ctx, h.as("root"), c.Request.ID, 0), access.ErrDenied)
		for _, bad := range []string{"", "REQ-1", "SES-1", "GRA-1", "'; DROP TABLE sessions; --", access.NewID(access.SessionPrefix), access.NewID(access.RequestPrefix)} {
			want(t, h.Acknowledge(ctx, h.as("carol"), bad, 0), access.ErrNotFound)
			want(t, h.Expected(ctx, h.as("carol"), bad, 0, "x"), access.ErrNotFound)
		}
		for _, n := range []int{-1, 2, 1 << 30} {
			wantCode(t, h.Acknowledge(ctx, h.as("carol"), id, n), "DB-6332")
			wantCode(t, h.Expected(ctx, h.as("carol"), id, n, "x"), "DB-6332")
		}
		for _, why := range []string{"", " ", "a\x1b[2Jb", "\u202Egnirts", strings.Repeat("a", access.MaxReason+1)} {
			want(t, h.Expected(ctx, h.as("carol"), id, 1, why), access.ErrInvalid)
		}
		want(t, h.Acknowledge(ctx, h.as("rita"), h.ask("alice", "root@db01").Request.ID, 0), access.ErrNotFound) // no break-glass
		s, err := h.db.Session(ctx, id)
		ok(t, err)
		if a := s.Alarms; len(a) != 1 || a[0].AckID != "" || a[0].Expected() {
			t.Errorf("the alarms are %+v", a)
		}
	})
}

// What was expected alarms no more in this session, by this rule. Everything else
// goes on, and all of it is on record.
func TestExpected(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		c := h.granted()
		l := h.session("alice", c)
		one := h.detected(l, access.DetectAlert, "mysqldump")
		two := h.detected(l, access.DetectEnd, "rm -rf *")
		if one.Details["alarm"] != "1" || two.Details["alarm"] != "2" || h.detected(l, access.DetectAlert, "mysqldump").Details["alarm"] != "1" {
			t.Errorf("the alarms are %+v, %+v", one, two)
		}
		wantCode(t, h.Expected(ctx, h.as("carol"), l.Session.ID, 0, "CHG-7"), "DB-6332") // which?
		ok(t, h.Acknowledge(ctx, h.as("root"), l.Session.ID, 2))
		ok(t, h.Acknowledge(ctx, h.as("carol"), l.Session.ID, 0)) // what is left
		wantCode(t, h.Acknowledge(ctx, h.as("carol"), l.Session.ID, 0), "DB-6330")
		ok(t, h.Expected(ctx, h.as("carol"), l.Session.ID, 1, "the backup of CHG-7"))
		wantCode(t, h.Expected(ctx, h.as("carol"), l.Session.ID, 1, "again"), "DB-6333")
		wantCode(t, h.Expected(ctx, h.as("root"), l.Session.ID, 1, "again"), "DB-6333")
		s, err := h.FindSession(ctx, h.as("carol"), l.Session.ID)
		ok(t, err)
		if a := s.Alarms; len(a) != 2 || a[0].AckName != "carol" || a[1].AckName != "root" || a[0].ExpectedName != "carol" || a[0].Reason != "the backup of CHG-7" || a[1].Expected() {
			t.Errorf("the alarms are %+v", a)
		}
		if e := h.detected(l, access.DetectAlert, "mysqldump"); e.Details["expected"] != "carol" || e.Details["command"] == "" {
			t.Errorf("the same rule again: %+v", e)
		}
		for _, rule := range []string{"mysqldump x", "rm -rf *"} {
			if e := h.detected(l, access.DetectAlert, rule); e.Details["expected"] != "" {
				t.Errorf("another rule: %+v", e)
			}
		}
		goesOn(t, l)
		// The same rule in another session, of the same grant.
		if e := h.detected(h.session("alice", c), access.DetectAlert, "mysqldump"); e.Details["expected"] != "" || e.Details["alarm"] != "1" {
			t.Errorf("another session: %+v", e)
		}
		// It may be said after the end, and changes nothing of what was sealed.
		ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
		ok(t, h.Expected(ctx, h.as("root"), l.Session.ID, 2, "a drill"))
		// Who has lost the right says nothing more.
		h.setGroups("carol", "custodians")
		want(t, h.Expected(ctx, h.as("carol"), l.Session.ID, 3, "again"), access.ErrDenied)
	})
}

// A session whose rules find much has a bounded number of alarms, and more are told
// all the same.
func TestManyAlarms(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	l := h.session("alice", h.granted())
	var last audit.Event
	for i := range 70 {
		last = h.detected(l, access.DetectAlert, "rule"+strings.Repeat("x", i))
	}
	if last.Details["alarm"] != "" || last.Details["expected"] != "" || last.Details["level"] != "alert" {
		t.Errorf("the last is %+v", last)
	}
	s, err := h.db.Session(t.Context(), l.Session.ID)
	if err != nil || len(s.Alarms) != 64 {
		t.Errorf("%d alarms, %v", len(s.Alarms), err)
	}
}
