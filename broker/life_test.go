package broker_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

func TestLife(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		start := len(h.events())
		alice, bob := h.as("alice"), h.as("bob")

		c := h.ask("alice", "root@db01")
		if c.Request.State != access.Pending || c.Grant != nil || c.MayDecide || !slices.Equal(c.Waiting, []string{"bob", "dave", "erin"}) {
			t.Fatalf("asked: %+v", c)
		}
		if c.Request.Ticket != "INC-42" || c.Request.TargetAddress != "192.0.2.1:22" || c.Request.Source != "198.51.100.7" || len(c.Request.TargetKeys) != 1 {
			t.Errorf("request %+v", c.Request)
		}
		r, err := h.Reach(ctx, alice, "db01", "root")
		ok(t, err)
		if r.Request == nil || r.Request.ID != c.Request.ID || r.Grant != nil {
			t.Errorf("reach %+v", r)
		}
		// Asking again joins.
		if again := h.ask("alice", "root@db01"); again.Request.ID != c.Request.ID {
			t.Error("an equal request was filed twice")
		}

		inbox, err := h.Requests(ctx, bob, broker.Filter{Inbox: true})
		ok(t, err)
		if len(inbox) != 1 || !inbox[0].MayDecide || inbox[0].Request.Digest() != c.Request.Digest() {
			t.Fatalf("bob's inbox %+v", inbox)
		}
		c, err = h.Approve(ctx, bob, c.Request.ID, inbox[0].Request.Digest(), broker.Answer{Duration: 30 * time.Minute, Comment: "be quick"})
		ok(t, err)
		if c.Request.State != access.Approved || c.Grant == nil || c.Grant.Duration != 30*time.Minute || !c.Grant.Start.IsZero() || c.Grant.Digest != c.Request.Digest() {
			t.Fatalf("approved: %+v", c)
		}

		l := h.session("alice", c)
		if l.Session.State != access.Opening || l.Session.Account != "root" || l.Target.Name != "db01" || !l.Rules.Shell || len(l.Rules.Files) > 0 || l.Rules.Recording != "strict" {
			t.Errorf("opened: %+v, rules %+v", l.Session, l.Rules)
		}
		if left := l.End().Sub(h.clock.now()); left > 30*time.Minute || left < 29*time.Minute {
			t.Errorf("it ends in %s", left)
		}
		cert, err := h.Credential(ctx, l, newKey(t))
		ok(t, err)
		if !slices.Equal(cert.ValidPrincipals, []string{"root@db01"}) || int64(cert.ValidBefore) > l.End().Unix() {
			t.Errorf("certificate for %v until %d", cert.ValidPrincipals, cert.ValidBefore)
		}
		row, err := h.db.Certificate(ctx, cert.Serial)
		ok(t, err)
		if row.Principal != "root" || row.Target != "db01" {
			t.Errorf("certificate on record: %+v", row)
		}
		ok(t, h.Started(ctx, l))
		status := 0
		ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited", ExitStatus: &status, Recording: access.Sealed{Name: "2026/r1", SHA256: strings.Repeat("ab", 32), Size: 10, Events: 3}, Input: 4, Output: 5}))
		ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited twice"}))
		if err := l.Check(); l.Context().Err() == nil {
			t.Errorf("closed, but the context goes on, check %v", err)
		}
		s, err := h.db.Session(ctx, l.Session.ID)
		ok(t, err)
		if s.State != access.Closed || s.EndReason != "exited" || s.ExitStatus == nil || *s.ExitStatus != 0 || s.Serial != cert.Serial || s.Recording.Size != 10 {
			t.Errorf("closed: %+v", s)
		}
		c, err = h.Release(ctx, alice, c.Request.ID)
		ok(t, err)
		if reason, _, over := c.Grant.EndAt(h.clock.now()); !over || reason != access.EndReleased {
			t.Errorf("released: %+v", c.Grant)
		}
		_, err = h.Open(ctx, alice, c.Grant.ID, broker.Opening{Kind: "shell"})
		want(t, err, access.ErrDenied)

		got := h.told(start)
		wantTold := []string{
			"request.create done", "request.join done", "request.approve done", "grant.open done", "session.open done", "certificate.issue done",
			"session.start done", "session.close done", "grant.release done", "session.open refused",
		}
		if !slices.Equal(got, wantTold) {
			t.Errorf("told:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(wantTold, "\n"))
		}
		for _, e := range h.events()[start:] {
			if e.Request != c.Request.ID || e.Target != "db01" || e.Account != "root" {
				t.Errorf("%s does not say of what: %+v", e.Action, e)
			}
			if e.Actor != alice.User.ID && e.Actor != bob.User.ID || e.Source != "198.51.100.7" || e.Details["via"] != "cli" {
				t.Errorf("%s does not say by whom: %+v", e.Action, e)
			}
			if e.Action == "session.close" && (e.Details["recording_sha256"] != strings.Repeat("ab", 32) || e.Details["exit_status"] != "0") {
				t.Errorf("closing event %+v", e)
			}
		}
	})
}

func TestVotes(t *testing.T) {
	for _, tt := range []struct {
		name, what, who string
		kind            error
	}{
		{"approver", "root@db01", "bob", nil},
		{"requester", "root@db01", "alice", access.ErrDenied},
		{"bot", "root@db01", "ci", access.ErrDenied},
		{"auditor may read it", "root@db01", "carol", access.ErrDenied},
		{"admin", "root@db01", "root", access.ErrDenied},
		{"stranger", "root@db01", "mallory", access.ErrNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				c := h.ask("alice", tt.what)
				n := len(h.events())
				_, err := h.Approve(t.Context(), h.as(tt.who), c.Request.ID, c.Request.Digest(), broker.Answer{})
				r, e := h.db.Request(t.Context(), c.Request.ID)
				ok(t, e)
				if tt.kind == nil {
					ok(t, err)
					if r.State != access.Approved {
						t.Errorf("it is %s", r.State)
					}
					return
				}
				want(t, err, tt.kind)
				if r.State != access.Pending || len(r.Approvals) != 0 {
					t.Errorf("it is %s with %d votes", r.State, len(r.Approvals))
				}
				if got := h.told(n); !slices.Equal(got, []string{"request.approve refused"}) {
					t.Errorf("told %v", got)
				}
			})
		})
	}
}

func TestTwoApprovals(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c := h.ask("alice", "root@db02")
		d := c.Request.Digest()
		c, err := h.Approve(t.Context(), h.as("bob"), c.Request.ID, d, broker.Answer{})
		ok(t, err)
		if c.Request.State != access.Pending || c.Grant != nil || slices.Contains(c.Waiting, "bob") {
			t.Fatalf("after one of two: %+v", c)
		}
		if c.Request.Digest() != d {
			t.Error("a vote changed the digest")
		}
		_, err = h.Approve(t.Context(), h.as("bob"), c.Request.ID, d, broker.Answer{})
		if !errors.Is(err, access.ErrConflict) && !errors.Is(err, access.ErrDenied) {
			t.Errorf("a second vote of bob: %v", err)
		}
		// bob is locked before dave votes: his vote is void, a third one is needed.
		h.setUser("bob", func(u *access.User) { u.Locked = true })
		if c = h.approve("dave", c); c.Grant != nil {
			t.Fatal("the vote of a locked approver counted")
		}
		if c = h.approve("erin", c); c.Grant == nil {
			t.Fatalf("two who may vote: %+v", c)
		}
	})
}

func TestDigestMismatch(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c := h.ask("alice", "root@db01")
		for _, digest := range []string{"", "0", strings.Repeat("0", 64), strings.ToUpper(c.Request.Digest())} {
			_, err := h.Approve(t.Context(), h.as("bob"), c.Request.ID, digest, broker.Answer{})
			want(t, err, access.ErrConflict)
		}
		other := h.ask("erin", "root@db01")
		_, err := h.Approve(t.Context(), h.as("bob"), c.Request.ID, other.Request.Digest(), broker.Answer{})
		want(t, err, access.ErrConflict)
		_, err = h.Approve(t.Context(), h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{Duration: 2 * time.Hour})
		want(t, err, access.ErrInvalid)
	})
}

func TestDenyAndCancel(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		c := h.ask("alice", "root@db01")
		_, err := h.Deny(ctx, h.as("bob"), c.Request.ID, "", " ")
		want(t, err, access.ErrInvalid)
		c, err = h.Deny(ctx, h.as("bob"), c.Request.ID, c.Request.Digest(), "wrong host")
		ok(t, err)
		if c.Request.State != access.Denied || c.Request.Note != "wrong host" || c.Request.DecidedBy != "bob" || c.Grant != nil {
			t.Errorf("denied: %+v", c)
		}
		_, err = h.Approve(ctx, h.as("dave"), c.Request.ID, c.Request.Digest(), broker.Answer{})
		want(t, err, access.ErrConflict)
		if !strings.Contains(err.Error(), "bob") {
			t.Errorf("who was first? %v", err)
		}
		// A denied request is not joined.
		next := h.ask("alice", "root@db01")
		if next.Request.ID == c.Request.ID {
			t.Fatal("joined a denied request")
		}
		_, err = h.Cancel(ctx, h.as("bob"), next.Request.ID)
		want(t, err, access.ErrDenied)
		_, err = h.Cancel(ctx, h.as("alice"), next.Request.ID)
		ok(t, err)
		_, err = h.Cancel(ctx, h.as("alice"), next.Request.ID)
		want(t, err, access.ErrConflict)
		for _, call := range []func() (broker.Case, error){
			func() (broker.Case, error) { return h.Extend(ctx, h.as("alice"), next.Request.ID, time.Minute) },
			func() (broker.Case, error) { return h.Release(ctx, h.as("alice"), next.Request.ID) },
			func() (broker.Case, error) { return h.Revoke(ctx, h.as("bob"), next.Request.ID, "INC-1") },
		} {
			_, err := call()
			want(t, err, access.ErrConflict)
		}
	})
}

func TestExpiredRequest(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c := h.ask("alice", "root@db01")
		h.clock.advance(15 * time.Minute)
		_, err := h.Approve(t.Context(), h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{})
		want(t, err, access.ErrConflict)
		_, err = h.Deny(t.Context(), h.as("bob"), c.Request.ID, "", "late")
		want(t, err, access.ErrConflict)
		if list, err := h.Requests(t.Context(), h.as("alice"), broker.Filter{State: access.Expired}); err != nil || len(list) != 1 {
			t.Errorf("expired: %d, %v", len(list), err)
		}
		if list, err := h.Requests(t.Context(), h.as("bob"), broker.Filter{Inbox: true}); err != nil || len(list) != 0 {
			t.Errorf("inbox: %d, %v", len(list), err)
		}
		if again := h.ask("alice", "root@db01"); again.Request.ID == c.Request.ID {
			t.Error("joined an expired request")
		}
	})
}

func TestAskLimits(t *testing.T) {
	h := newHouse(t, sqliteURL(t), func(c *broker.Config) { c.PendingPerUser = 2 })
	now := h.clock.now()
	for _, tt := range []struct {
		name   string
		change func(*broker.Ask)
		kind   error
	}{
		{"no target", func(a *broker.Ask) { a.Target = "" }, access.ErrInvalid},
		{"unknown target", func(a *broker.Ask) { a.Target = "db99" }, access.ErrNotFound},
		{"unknown account", func(a *broker.Ask) { a.Account = "oracle" }, access.ErrNotFound},
		{"account that no role gives", func(a *broker.Ask) { a.Account, a.Target = "guest", "db02" }, access.ErrNotFound},
		{"no reason", func(a *broker.Ask) { a.Reason = "" }, access.ErrInvalid},
		{"hidden reason", func(a *broker.Ask) { a.Reason = "a\u202eb" }, access.ErrInvalid},
		{"long reason", func(a *broker.Ask) { a.Reason = strings.Repeat("a", access.MaxReason+1) }, access.ErrInvalid},
		{"longest reason", func(a *broker.Ask) { a.Reason = strings.Repeat("ä", access.MaxReason/2) }, nil},
		{"negative", func(a *broker.Ask) { a.Duration = -1 }, access.ErrInvalid},
		{"longer than the role", func(a *broker.Ask) { a.Duration = 3 * time.Hour }, access.ErrDenied},
		{"start in the past", func(a *broker.Ask) { a.Start = now.Add(-time.Hour) }, access.ErrInvalid},
		{"start in a year", func(a *broker.Ask) { a.Start = now.Add(365 * 24 * time.Hour) }, access.ErrInvalid},
		{"start tomorrow", func(a *broker.Ask) { a.Start = now.Add(24 * time.Hour) }, nil},
		{"one more than may wait", func(a *broker.Ask) { a.Reason = "INC-3" }, access.ErrDenied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := asking("root@db01")
			tt.change(&a)
			before := h.dump()
			_, err := h.Request(t.Context(), h.as("alice"), a)
			if tt.kind == nil {
				ok(t, err)
				return
			}
			want(t, err, tt.kind)
			if h.dump() != before {
				t.Error("refused, but changed")
			}
		})
	}
	_, err := h.Request(t.Context(), h.as("mallory"), asking("root@db01"))
	want(t, err, access.ErrNotFound)
	gone := h.as("alice")
	gone.User.ID = access.NewID(access.UserPrefix)
	_, err = h.Request(t.Context(), gone, asking("root@db01"))
	want(t, err, access.ErrUnauthenticated)
}

func TestGuestNeedsNobody(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c, err := h.Request(t.Context(), h.as("alice"), broker.Ask{Target: "db01", Account: "guest", Reason: "look"})
		ok(t, err)
		if c.Request.State != access.Approved || c.Grant == nil || c.Grant.Duration != time.Hour {
			t.Fatalf("%+v", c)
		}
		l := h.session("alice", c)
		goesOn(t, l)
		if l.Rules.Exec {
			t.Error("more than the rule gives")
		}
		// Who has a grant gets it again.
		if again := h.ask("alice", "guest@db01"); again.Grant == nil || again.Grant.ID != c.Grant.ID {
			t.Error("a second grant was opened")
		}
		// A grant is its holder's alone, and nobody else learns of it.
		_, err = h.Open(t.Context(), h.as("erin"), c.Grant.ID, broker.Opening{Kind: "shell"})
		want(t, err, access.ErrNotFound)
	})
}

func TestScheduled(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		a := asking("root@db01")
		a.Start = h.clock.now().Add(2 * time.Hour)
		c, err := h.Request(t.Context(), h.as("alice"), a)
		ok(t, err)
		c = h.approve("bob", c)
		_, err = h.Open(t.Context(), h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"})
		want(t, err, access.ErrDenied)
		// Who comes early reads when it starts, and is not asked to ask again.
		r, err := h.Reach(t.Context(), h.as("alice"), "db01", "root")
		want(t, err, access.ErrDenied)
		if ae, ok := errors.AsType[*access.Error](err); !ok || ae.Code != "DB-2005" || r.Grant != nil {
			t.Errorf("reach %+v, %v", r.Grant, err)
		}
		h.clock.advance(2*time.Hour + time.Second)
		l := h.session("alice", c)
		goesOn(t, l)
	})
}

func TestActivationWindow(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c := h.granted()
		h.clock.advance(4 * time.Hour)
		_, err := h.Open(t.Context(), h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"})
		want(t, err, access.ErrDenied)
		if n := h.liveSessions(); n != 0 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestBreakGlass(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		n := len(h.events())
		a := asking("root@db01")
		a.BreakGlass, a.Duration = true, 0
		c, err := h.Request(t.Context(), h.as("alice"), a)
		ok(t, err)
		if c.Grant == nil || !c.Grant.BreakGlass || c.Grant.Duration > 30*time.Minute || len(c.Request.Approvals) != 0 {
			t.Fatalf("%+v", c)
		}
		if got := h.told(n); !slices.Equal(got, []string{"request.create done", "breakglass done", "grant.open done"}) {
			t.Errorf("told %v", got)
		}
		for _, e := range h.events()[n:] {
			if e.Action == "breakglass" && (e.Reason != a.Reason || e.Actor != h.as("alice").User.ID || e.Target != "db01" || e.Request != c.Request.ID) {
				t.Errorf("the alarm says %+v", e)
			}
		}
		goesOn(t, h.session("alice", c))

		a.Target = "db02" // no rule for it
		_, err = h.Request(t.Context(), h.as("alice"), a)
		if !errors.Is(err, access.ErrDenied) && !errors.Is(err, access.ErrNotFound) {
			t.Errorf("break-glass where no rule gives it: %v", err)
		}
	})
}

// What was approved is one target at one address, reached on one way, with one
// set of keys.
func TestTargetChangesAfterApproval(t *testing.T) {
	for name, change := range map[string]func(*access.Target){
		"address": func(t *access.Target) { t.Address = "203.0.113.66:22" },
		"keys":    func(t *access.Target) { t.HostKeys = append(t.HostKeys, "x") },
		"way":     func(t *access.Target) { t.Via = []string{"jump01"} },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				h.start()
				h.addHop("jump01")
				c := h.granted()
				l := h.session("alice", c)
				v, err := h.FindTarget(t.Context(), h.as("root"), "db01")
				ok(t, err)
				change(&v.Target)
				if name == "keys" {
					v.Target.HostKeys[len(v.Target.HostKeys)-1] = keyText(newKey(t))
				}
				_, err = h.SetTarget(t.Context(), h.as("root"), v.Target)
				ok(t, err)
				ends(t, l, broker.ErrRefused)
				_, err = h.Open(t.Context(), h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"})
				want(t, err, access.ErrDenied)
				_, err = h.SetTarget(t.Context(), h.as("root"), v.Target)
				want(t, err, access.ErrConflict) // an old version
			})
		})
	}
}

func TestRefused(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	l := h.session("alice", h.granted())
	n := len(h.events())
	ok(t, h.Refused(t.Context(), h.as("alice"), l, "x11-req", "not in the grant\x1b[2J"))
	ok(t, h.Refused(t.Context(), access.Caller{}, nil, "login\n", "unknown"))
	told := h.events()[n:]
	if len(told) != 2 || told[0].Session != l.Session.ID || told[0].Details["what"] != "x11-req" || told[1].Actor != "unknown" || told[0].Outcome != audit.Refused {
		t.Errorf("told %+v", told)
	}
}
