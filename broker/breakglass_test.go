package broker_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
)

// breaking is an ask for break-glass.
func breaking(what string) broker.Ask {
	a := asking(what)
	a.Duration, a.BreakGlass = 20*time.Minute, true
	return a
}

// brokenGlass is break-glass that is over, and waits for a review.
func (h *house) brokenGlass(who string) broker.Case {
	h.t.Helper()
	c, err := h.Request(h.t.Context(), h.as(who), breaking("root@db01"))
	ok(h.t, err)
	_, err = h.Release(h.t.Context(), h.as(who), c.Request.ID)
	ok(h.t, err)
	return c
}

// refusedWith wants a refusal with this code.
func refusedWith(t testing.TB, err error, code string) {
	t.Helper()
	if ae, is := errors.AsType[*access.Error](err); !is || ae.Code != code || ae.Text == "" {
		t.Errorf("error = %v, want the refusal %s", err, code)
	}
}

func TestGlassReview(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		n := len(h.events())
		c, err := h.Request(ctx, h.as("erin"), breaking("root@db01"))
		ok(t, err)
		if c.Grant == nil || !c.Grant.BreakGlass || c.Grant.Rules.Recording != "strict" {
			t.Fatalf("grant %+v", c.Grant)
		}
		if told := strings.Join(h.told(n), ", "); told != "request.create done, breakglass done, grant.open done" {
			t.Errorf("told %s", told)
		}
		review := func(who string) error {
			_, err := h.ReviewGlass(ctx, h.as(who), c.Request.ID, access.NotJustified, "could have waited")
			return err
		}
		refusedWith(t, review("rita"), "DB-6267") // goes on
		l := h.session("erin", c)
		if len(l.Notices()) == 0 {
			t.Error("the session announces nothing")
		} else if notice := <-l.Notices(); !strings.Contains(notice.Show, "BREAK-GLASS") || notice.Mark != "break-glass" {
			t.Errorf("announced %+v", notice)
		}
		_, err = h.Release(ctx, h.as("erin"), c.Request.ID)
		ok(t, err)

		// Who took it does not review it, by whatever right, nor does a bot.
		h.setGroups("erin", "engineers", "reviewers")
		refusedWith(t, review("erin"), "DB-6250")
		h.setGroups("ci", "reviewers")
		refusedWith(t, review("ci"), "DB-6251")
		want(t, review("mallory"), access.ErrNotFound)
		want(t, review("root"), access.ErrDenied) // may read it, and has no right to review
		_, err = h.ReviewGlass(ctx, h.as("rita"), c.Request.ID, "fine", "x1")
		want(t, err, access.ErrInvalid)
		_, err = h.ReviewGlass(ctx, h.as("rita"), c.Request.ID, access.Justified, " ")
		refusedWith(t, err, "DB-1003")
		_, err = h.ReviewGlass(ctx, h.as("rita"), h.ask("alice", "root@db02").Request.ID, access.Justified, "no such")
		refusedWith(t, err, "DB-6266")

		list, err := h.GlassCases(ctx, h.as("rita"), true, "", 0)
		ok(t, err)
		if len(list) != 1 || !list[0].MayReview || list[0].Request.ID != c.Request.ID {
			t.Errorf("open: %+v", list)
		}
		if list, err := h.GlassCases(ctx, h.as("alice"), false, "", 0); err != nil || len(list) != 0 {
			t.Errorf("alice sees %v, %v", list, err)
		}
		if list, err := h.GlassCases(ctx, h.as("erin"), false, "", 0); err != nil || len(list) != 1 || list[0].MayReview {
			t.Errorf("erin sees %+v, %v", list, err)
		}

		// Two who close it at once: one does.
		var wg sync.WaitGroup
		results := make([]error, 2)
		for i, who := range []string{"rita", "sam"} {
			by := h.as(who)
			wg.Go(func() {
				_, results[i] = h.ReviewGlass(ctx, by, c.Request.ID, access.NotJustified, "could have waited")
			})
		}
		wg.Wait()
		if (results[0] == nil) == (results[1] == nil) {
			t.Fatalf("closed by %v and %v", results[0], results[1])
		}
		refusedWith(t, errors.Join(results...), "DB-6252")
		done, err := h.FindGlassCase(ctx, h.as("carol"), c.Request.ID)
		ok(t, err)
		if done.Review.Open() || done.Review.Finding != access.NotJustified || done.MayReview || len(done.Sessions) != 1 {
			t.Errorf("reviewed: %+v", done)
		}
		if list, err := h.GlassCases(ctx, h.as("rita"), true, "", 0); err != nil || len(list) != 0 {
			t.Errorf("open still: %v, %v", list, err)
		}
		open, closed, err := h.db.CountGlassReviews(ctx)
		if err != nil || open != 0 || closed != 1 {
			t.Errorf("%d open, %d closed, %v", open, closed, err)
		}
	})
}

func TestGlassCasesPages(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	for range 5 {
		h.brokenGlass("erin")
	}
	seen, before := map[string]bool{}, ""
	for range 4 {
		list, err := h.GlassCases(t.Context(), h.as("rita"), false, before, 2)
		ok(t, err)
		for _, c := range list {
			seen[c.Request.ID] = true
			before = c.Request.ID
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d of 5 cases on the pages", len(seen))
	}
}

func TestGlassRules(t *testing.T) {
	ways := []string{"log"}
	h := newHouse(t, sqliteURL(t), func(c *broker.Config) {
		c.Glass = broker.GlassRules{MaxDuration: 15 * time.Minute, RequireAlarms: 2, Alarms: func() []string { return ways }, StopAfter: 48 * time.Hour}
	})
	ctx := t.Context()
	ask := func(d time.Duration) (broker.Case, error) {
		a := breaking("root@db01")
		a.Duration = d
		return h.Request(ctx, h.as("erin"), a)
	}
	_, err := ask(16 * time.Minute)
	refusedWith(t, err, "DB-6257")
	_, err = ask(0)
	refusedWith(t, err, "DB-6258")
	if h.dump() == "" || len(h.events()) == 0 {
		t.Fatal("nothing is there")
	}
	ways = append(ways, "mail")
	c, err := ask(0)
	ok(t, err)
	if c.Request.Duration != 15*time.Minute {
		t.Errorf("granted for %s", c.Request.Duration)
	}
	// The role allows 30 minutes, the house does not.
	_, err = h.Extend(ctx, h.as("erin"), c.Request.ID, time.Minute)
	want(t, err, access.ErrDenied)
	_, err = h.Release(ctx, h.as("erin"), c.Request.ID)
	ok(t, err)
	_, err = ask(time.Minute) // told, and not refused yet
	ok(t, err)
	last := h.events()[len(h.events())-2]
	if last.Action != "breakglass" || last.Details["reviews_open"] != "1" {
		t.Errorf("the alarm says %+v", last)
	}
	h.clock.advance(49 * time.Hour)
	_, err = ask(time.Minute)
	refusedWith(t, err, "DB-6259")
	_, err = h.ReviewGlass(ctx, h.as("rita"), c.Request.ID, access.Justified, "the disk was full")
	ok(t, err)
}

// TestGlassUnaudited: break-glass that cannot be put on record is not to be had.
func TestGlassUnaudited(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	before := h.dump()
	_, err := h.raw().Exec("ALTER TABLE audit_leaves RENAME TO gone")
	ok(t, err)
	_, err = h.Request(t.Context(), h.as("erin"), breaking("root@db01"))
	want(t, err, access.ErrUnavailable)
	_, err = h.raw().Exec("ALTER TABLE gone RENAME TO audit_leaves")
	ok(t, err)
	if after := h.dump(); after != before {
		t.Errorf("refused, but changed:\n%s", difference(before, after))
	}
}

// TestGlassAlarm: every server's log tells, whatever else is configured.
func TestGlassAlarm(t *testing.T) {
	here, there := &lockedLog{}, &lockedLog{}
	to := func(l *lockedLog) func(*broker.Config) {
		return func(c *broker.Config) { c.Log = slog.New(slog.NewTextHandler(l, nil)) }
	}
	h := newHouse(t, servers.Postgres(t), to(here))
	h.start()
	h.another("node2", to(there)).start()
	h.brokenGlass("erin")
	for _, log := range []*lockedLog{here, there} {
		for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), "BREAK-GLASS"); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the log says nothing:\n%s", log)
			}
		}
	}
	if line := there.String(); !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "user=erin") || !strings.Contains(line, "target=db01") {
		t.Errorf("the log says\n%s", line)
	}
}

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// emergency makes the emergency user, who may break glass on db01.
func (h *house) emergency() access.User {
	h.t.Helper()
	u, err := h.EmergencyUser(h.t.Context(), "emergency")
	ok(h.t, err)
	role := access.Role{Name: "emergency", Groups: []string{broker.EmergencyGroup}, Version: 1, Rules: []access.Rule{
		{ID: "fire", Actions: []string{"break_glass"}, Targets: access.Selector{Names: []string{"db01"}}, Accounts: []string{"root"}, MaxDuration: time.Hour, MFAWithin: time.Hour, Session: access.SessionRules{Shell: true}},
		// Whatever somebody writes into the role, an emergency user does not get it.
		{ID: "greedy", Actions: []string{"request", "approve", "role.write", "user.write", "audit.read", "request.read", "session.list", "session.replay", "breakglass.review", "review.write", "review.read"}, Accounts: []string{"*"}, MaxDuration: time.Hour},
	}}
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		return audit.Event{Actor: "system", Action: "house.furnish"}, tx.AddRole(h.t.Context(), &role)
	}))
	return u
}

func TestEmergencyUser(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.emergency()
		by := h.as("emergency")
		by.MFAAt, by.Until = h.clock.now(), h.clock.now().Add(time.Hour)
		if again, err := h.EmergencyUser(ctx, "emergency"); err != nil || again.ID != by.User.ID {
			t.Errorf("a second time: %+v, %v", again, err)
		}
		_, err := h.EmergencyUser(ctx, "alice")
		refusedWith(t, err, "DB-6268")

		alices := h.ask("alice", "root@db01")
		for name, call := range map[string]func() error{
			"request": func() error { _, err := h.Request(ctx, by, asking("root@db01")); return err },
			"approve": func() error {
				_, err := h.Approve(ctx, by, alices.Request.ID, alices.Request.Digest(), broker.Answer{})
				return err
			},
			"read":     func() error { _, err := h.FindRequest(ctx, by, alices.Request.ID); return err },
			"roles":    func() error { _, err := h.Roles(ctx, by); return err },
			"users":    func() error { _, err := h.Users(ctx, by); return err },
			"setuser":  func() error { _, err := h.SetUser(ctx, by, h.user("mallory")); return err },
			"setrole":  func() error { _, err := h.SetRole(ctx, by, access.Role{Name: "mine"}); return err },
			"events":   func() error { _, err := h.Events(ctx, by, broker.EventFilter{}); return err },
			"holdings": func() error { _, _, err := h.Holdings(ctx, by, broker.HoldingFilter{}); return err },
			"key":      func() error { _, err := h.AddKey(ctx, by, "", keyText(newKey(t)), ""); return err },
			"key of":   func() error { _, err := h.AddKey(ctx, h.as("root"), "emergency", keyText(newKey(t)), ""); return err },
			"setup":    func() error { _, err := h.MaySetUp(ctx, h.as("root"), "emergency"); return err },
		} {
			if err := call(); !errors.Is(err, access.ErrDenied) && !errors.Is(err, access.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		targets, _, err := h.FindTargets(ctx, by, broker.TargetFilter{})
		if err != nil || len(targets) != 1 || targets[0].Target.Name != "db01" || !targets[0].Accounts[0].MayAsk {
			t.Errorf("targets %+v, %v", targets, err)
		}
		c, err := h.Request(ctx, by, breaking("root@db01"))
		ok(t, err)
		cert, err := h.Certify(ctx, by, newKey(t))
		ok(t, err)
		if until := time.Unix(int64(cert.ValidBefore), 0); until.After(by.Until) {
			t.Errorf("the identity lasts until %s, the login until %s", until, by.Until)
		}
		by.Until = time.Time{} // no login
		_, err = h.Certify(ctx, by, newKey(t))
		refusedWith(t, err, "DB-6256")
		l, err := h.Open(ctx, by, c.Grant.ID, broker.Opening{Kind: "shell"})
		ok(t, err)
		goesOn(t, l)
		ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
		_, err = h.Release(ctx, by, c.Request.ID)
		ok(t, err)
		_, err = h.ReviewGlass(ctx, by, c.Request.ID, access.Justified, "of course")
		want(t, err, access.ErrDenied)

		// Changing the user's groups leaves what they are.
		u := h.user("emergency")
		u.Emergency, u.Bot, u.Display = false, false, "In case of fire"
		u, err = h.SetUser(ctx, h.as("root"), u)
		ok(t, err)
		if !u.Emergency || !h.user("emergency").Emergency {
			t.Error("an administrator has made the emergency user an ordinary one")
		}
		u.Bot = true
		_, err = h.SetUser(ctx, h.as("root"), u)
		want(t, err, access.ErrInvalid)
		made, err := h.AddUser(ctx, h.as("root"), access.User{Name: "other", Emergency: true})
		if err != nil || made.Emergency {
			t.Errorf("an administrator has made %+v, %v", made, err)
		}
	})
}

// The people whose codes opened the login do not review what was done with it.
func TestGlassReviewByHolder(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ctx := t.Context()
	u := h.emergency()
	logins := newLogins(t, h)
	codes, _, err := logins.NewCodes(ctx, access.System(), u, holdersOf(h, "rita", "alice", "bob"), 2)
	ok(t, err)
	token, _, _, err := logins.OpenWithCodes(ctx, codes[:2], "everything burns", h.as("alice").Source, "cli")
	ok(t, err)
	by, err := logins.Verify(ctx, token, h.as("alice").Source, "cli")
	ok(t, err)
	c, err := h.Request(ctx, by, breaking("root@db01"))
	ok(t, err)
	_, err = h.Release(ctx, by, c.Request.ID)
	ok(t, err)
	_, err = h.ReviewGlass(ctx, h.as("rita"), c.Request.ID, access.Justified, "it burnt")
	refusedWith(t, err, "DB-6250")
	_, err = h.ReviewGlass(ctx, h.as("sam"), c.Request.ID, access.Justified, "it burnt")
	ok(t, err)
}

// newLogins are the logins of the house's own database.
func newLogins(t testing.TB, h *house) *identity.Logins {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	l, err := identity.New(identity.Config{Store: h.db.Identities(), Codes: h.db.Identities(), Key: key, Issuer: "https://gw.example.com", Now: h.config.Now})
	ok(t, err)
	return l
}

func holdersOf(h *house, names ...string) (list []identity.Holder) {
	for _, name := range names {
		list = append(list, identity.Holder{ID: h.user(name).ID, Name: name})
	}
	return list
}

// TestGlassReminders: at four hours, at twenty, and then each day, until somebody
// has closed it.
func TestGlassReminders(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c := h.brokenGlass("erin")
		campaign := h.campaign("rita", "approvers") // due in seven days
		stop := h.start()
		reminded := func(action string) (n int) {
			for _, e := range h.events() {
				if e.Action == action && e.Outcome == audit.Done {
					n++
				}
			}
			return n
		}
		for _, step := range []struct {
			ahead         time.Duration
			glass, review int
		}{
			{4*time.Hour + time.Minute, 1, 0}, {16 * time.Hour, 2, 0}, {24 * time.Hour, 3, 0},
			{52 * time.Hour, 4, 1}, // nobody ran for two days: one reminder; and the review is due in three days
			{75 * time.Hour, 5, 2}, // the review is late
			{24 * time.Hour, 6, 3},
		} {
			h.clock.advance(step.ahead)
			eventually(t, "the reminders are there", func() bool {
				return reminded("breakglass.remind") == step.glass && reminded("review.due") == step.review
			})
		}
		events := h.events()
		last := events[len(events)-1]
		if last.Actor != "system" || last.Reason == "" {
			t.Errorf("told as %+v", last)
		}
		_, err := h.ReviewGlass(t.Context(), h.as("rita"), c.Request.ID, access.Justified, "it burnt")
		ok(t, err)
		_, err = h.CloseCampaign(t.Context(), h.as("rita"), campaign.ID, true)
		ok(t, err)
		stop()
		h.clock.advance(100 * time.Hour)
		list, err := h.db.Dues(t.Context(), []string{store.DueGlassReview, store.DueCampaign}, 10)
		if err != nil || len(list) > 0 {
			t.Errorf("due still: %v, %v", list, err)
		}
	})
}

// TestBreaksGlass finds the right as the policy finds it, by whichever way the role is
// held.
func TestBreaksGlass(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.setRole("fire", func(r *access.Role) {
		r.Rules = []access.Rule{{ID: "fire", Actions: []string{"break_glass"}, Accounts: []string{"*"}, MaxDuration: time.Hour}}
	})
	h.setUser("mallory", func(u *access.User) { u.Attributes = map[string]string{"site": "nyc"} })
	can := func(want bool, how string) {
		t.Helper()
		if got, err := h.BreaksGlass(t.Context(), h.user("mallory")); err != nil || got != want {
			t.Errorf("%s: %t, %v", how, got, err)
		}
	}
	can(false, "without a role")
	h.setRole("watch", func(r *access.Role) {
		r.Inherits, r.Attributes = []string{"fire"}, map[string][]string{"site": {"nyc"}}
	})
	can(true, "inherited, by an attribute")
	h.setRole("watch", func(r *access.Role) { r.Attributes["site"] = []string{"ber"} })
	can(false, "by an attribute that is another's")
	h.setRole("fire", func(r *access.Role) { r.Users = []string{h.user("mallory").ID} })
	can(true, "by name")
}
