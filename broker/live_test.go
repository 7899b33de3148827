package broker_test

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Every way in which the right to a session ends, done on the server where the
// session runs, and on another one on the same database.
func TestSessionEnds(t *testing.T) {
	ways := []struct {
		name string
		why  error
		do   func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error
	}{
		{"revoked", broker.ErrRevoked, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			_, err := h.Revoke(ctx, h.as("bob"), c.Request.ID, "INC-7 wrong host")
			return err
		}},
		{"released", broker.ErrReleased, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			_, err := h.Release(ctx, h.as("alice"), c.Grant.ID)
			return err
		}},
		{"user locked", broker.ErrLocked, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			return h.LockUser(ctx, h.as("root"), "alice", true, "INC-7")
		}},
		{"target locked", broker.ErrLocked, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			return h.LockTarget(ctx, h.as("root"), "db01", true, "INC-7")
		}},
		{"target removed", broker.ErrLocked, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			return h.RemoveTarget(ctx, h.as("root"), "db01")
		}},
		{"terminated", broker.ErrTerminated, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			return h.Terminate(ctx, h.as("root"), l.Session.ID, "INC-7")
		}},
		{"requester left the group", broker.ErrRefused, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			u := h.user("alice")
			u.Groups = nil
			_, err := h.SetUser(ctx, h.as("root"), u)
			return err
		}},
		{"approver left the group", broker.ErrRefused, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			u := h.user("bob")
			u.Groups = nil
			_, err := h.SetUser(ctx, h.as("root"), u)
			return err
		}},
		{"role removed", broker.ErrRefused, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			return h.RemoveRole(ctx, h.as("root"), "engineers")
		}},
		{"role narrowed", broker.ErrRefused, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			r, err := h.FindRole(ctx, h.as("root"), "engineers")
			if err == nil {
				r.Rules[0].Approvals[0].Count = 2
				_, err = h.SetRole(ctx, h.as("root"), r)
			}
			return err
		}},
		{"expired", broker.ErrExpired, func(ctx context.Context, h *house, c broker.Case, l *broker.Live) error {
			h.clock.advance(time.Hour)
			return nil
		}},
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				h.start()
				c := h.granted()
				l := h.session("alice", c)
				other := h.session("alice", h.ask("alice", "guest@db01"))
				goesOn(t, l)
				ok(t, w.do(t.Context(), h, c, l))
				if w.why == broker.ErrExpired {
					want(t, l.Check(), w.why) // the clock alone: no timer knows that it was moved
				}
				ends(t, l, w.why)
				if w.why == broker.ErrTerminated || w.why == broker.ErrRevoked {
					time.Sleep(10 * time.Millisecond)
					goesOn(t, other) // nobody else's end
				}
				if w.why != broker.ErrTerminated {
					_, err := h.Open(t.Context(), h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"})
					want(t, err, access.ErrDenied)
				}
				_, err := h.Credential(t.Context(), l, newKey(t))
				want(t, err, access.ErrDenied)
			})
			if w.why == broker.ErrExpired {
				return
			}
			t.Run("by another server", func(t *testing.T) {
				a := newHouse(t, engines[1].url(t))
				b := a.another("node2")
				a.start()
				b.start()
				c := a.granted()
				l := b.session("alice", c)
				if l.Session.Node != "node2" {
					t.Errorf("it runs on %s", l.Session.Node)
				}
				ok(t, w.do(t.Context(), a, c, l))
				ends(t, l, w.why)
			})
		})
	}
}

func TestExtendMovesTheEnd(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.start()
		c := h.granted()
		l := h.session("alice", c)
		end := l.End()
		c, err := h.Extend(t.Context(), h.as("alice"), c.Grant.ID, 30*time.Minute)
		ok(t, err)
		if got := l.End().Sub(end); got != 30*time.Minute || !l.End().Equal(c.Grant.End) {
			t.Errorf("the end moved by %s to %s, the grant's is %s", got, l.End(), c.Grant.End)
		}
		select {
		case line := <-l.Notices():
			if !strings.Contains(line.Show, "now ends at") {
				t.Errorf("notice %q", line)
			}
		default:
			t.Error("nobody is told")
		}
		h.clock.advance(time.Hour + 10*time.Minute)
		goesOn(t, l)
		// At most what the role gives in all.
		_, err = h.Extend(t.Context(), h.as("alice"), c.Grant.ID, time.Hour)
		want(t, err, access.ErrDenied)
		_, err = h.Extend(t.Context(), h.as("bob"), c.Grant.ID, time.Minute)
		want(t, err, access.ErrDenied)
		h.clock.advance(20 * time.Minute)
		want(t, l.Check(), broker.ErrExpired)
		_, err = h.Extend(t.Context(), h.as("alice"), c.Grant.ID, time.Minute)
		want(t, err, access.ErrDenied)
	})
}

// A wall clock that is set back lengthens nothing, with or without an extension.
func TestClockSetBack(t *testing.T) {
	for _, extended := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, sqliteURL(t))
			c := h.granted()
			l := h.session("alice", c)
			time.Sleep(30 * time.Minute)
			h.clock.advance(-25 * time.Minute)
			left := 30 * time.Minute
			if extended {
				_, err := h.Extend(t.Context(), h.as("alice"), c.Grant.ID, 10*time.Minute)
				ok(t, err)
				left += 10 * time.Minute
			}
			time.Sleep(left - time.Second)
			goesOn(t, l)
			time.Sleep(2 * time.Second)
			want(t, context.Cause(l.Context()), broker.ErrExpired)
			want(t, l.Check(), broker.ErrExpired)
			ok(t, h.Close(t.Context(), l, broker.Closing{}))
			h.db.Close()
		})
	}
}

// Eight hours in no time: the warnings come, and the end is to the second.
func TestEightHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, sqliteURL(t))
		a := asking("guest@db01")
		a.Duration = 8 * time.Hour
		c, err := h.Request(t.Context(), h.as("alice"), a)
		ok(t, err)
		l := h.session("alice", c)
		start := time.Now()
		for _, tt := range []struct {
			at   time.Duration
			what string
		}{{8*time.Hour - 5*time.Minute, "ends in 5m,"}, {8*time.Hour - time.Minute, "ends in 1m,"}} {
			select {
			case line := <-l.Notices():
				if got := time.Since(start); !strings.Contains(line.Show, tt.what) || got < tt.at-time.Second || got > tt.at+time.Second {
					t.Errorf("after %s: %q, want %q after %s", got, line, tt.what, tt.at)
				}
			case <-l.Context().Done():
				t.Fatalf("it ended after %s", time.Since(start))
			}
			goesOn(t, l)
		}
		<-l.Context().Done()
		if got := time.Since(start); got < 8*time.Hour-time.Second || got > 8*time.Hour+time.Second {
			t.Errorf("it ended after %s", got)
		}
		want(t, context.Cause(l.Context()), broker.ErrExpired)
		want(t, l.Check(), broker.ErrExpired)
		ok(t, h.Close(t.Context(), l, broker.Closing{Reason: "expired"}))
		if s, err := h.db.Session(t.Context(), l.Session.ID); err != nil || s.State != access.Closed {
			t.Errorf("%+v, %v", s, err)
		}
		h.db.Close()
	})
}

// A fresh second factor opens a session; ageing does not end it.
func TestFreshSecondFactor(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.start()
		by := h.as("alice")
		_, err := h.Request(t.Context(), by, asking("root@vault01"))
		want(t, err, access.ErrDenied)
		by.MFAAt = h.clock.now().Add(-time.Minute)
		c, err := h.Request(t.Context(), by, asking("root@vault01"))
		ok(t, err)
		l, err := h.Open(t.Context(), by, c.Grant.ID, broker.Opening{Kind: "shell"})
		ok(t, err)
		defer h.Close(t.Context(), l, broker.Closing{})
		h.clock.advance(10 * time.Minute)
		_, err = h.Open(t.Context(), by, c.Grant.ID, broker.Opening{Kind: "shell"})
		want(t, err, access.ErrDenied)
		// Something that has every session looked at again.
		_, err = h.AddUser(t.Context(), h.as("root"), access.User{Name: "zoe"})
		ok(t, err)
		ok(t, h.LockUser(t.Context(), h.as("root"), "mallory", true, "INC-1"))
		time.Sleep(200 * time.Millisecond)
		goesOn(t, l)
	})
}

func TestAwait(t *testing.T) {
	type answer struct {
		c   broker.Case
		err error
	}
	await := func(ctx context.Context, h *house, c broker.Case) chan answer {
		got := make(chan answer, 1)
		by := h.as("alice")
		go func() {
			c, err := h.Await(ctx, by, c.Request.ID, c.Version())
			got <- answer{c, err}
		}()
		return got
	}
	arrives := func(t *testing.T, got chan answer) broker.Case {
		t.Helper()
		select {
		case a := <-got:
			ok(t, a.err)
			return a.c
		case <-time.After(soon):
			t.Fatal("nobody woke")
			return broker.Case{}
		}
	}
	waiting := func(t *testing.T, got chan answer) {
		t.Helper()
		select {
		case a := <-got:
			t.Fatalf("woke too early: %+v", a)
		case <-time.After(50 * time.Millisecond):
		}
	}
	for name, decide := range map[string]func(t *testing.T, h *house, c broker.Case) error{
		"approve": func(t *testing.T, h *house, c broker.Case) error { h.approve("bob", c); return nil },
		"deny": func(t *testing.T, h *house, c broker.Case) error {
			_, err := h.Deny(t.Context(), h.as("bob"), c.Request.ID, "", "no")
			return err
		},
		"cancel": func(t *testing.T, h *house, c broker.Case) error {
			_, err := h.Cancel(t.Context(), h.as("alice"), c.Request.ID)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				h.start()
				c := h.ask("alice", "root@db01")
				got := await(t.Context(), h, c)
				waiting(t, got)
				ok(t, decide(t, h, c))
				if a := arrives(t, got); a.Request.State == access.Pending {
					t.Errorf("woke for %s", a.Request.State)
				}
			})
		})
	}
	t.Run("half a decision", func(t *testing.T) {
		onEach(t, func(t *testing.T, h *house) {
			h.start()
			c := h.ask("alice", "root@db02")
			got := await(t.Context(), h, c)
			waiting(t, got)
			h.approve("bob", c)
			if a := arrives(t, got); a.Request.State != access.Pending || len(a.Request.Approvals) != 1 {
				t.Errorf("woke for %+v", a.Request)
			}
		})
	})
	t.Run("on another server", func(t *testing.T) {
		a := newHouse(t, engines[1].url(t))
		b := a.another("node2")
		a.start()
		b.start()
		c := a.ask("alice", "root@db01")
		got := await(t.Context(), b, c)
		waiting(t, got)
		a.approve("bob", c)
		if c := arrives(t, got); c.Grant == nil {
			t.Errorf("woke for %+v", c)
		}
	})
	t.Run("changed before", func(t *testing.T) {
		h := newHouse(t, sqliteURL(t)) // which does not even run
		c := h.ask("alice", "root@db01")
		h.approve("bob", c)
		if c := arrives(t, await(t.Context(), h, c)); c.Grant == nil {
			t.Errorf("woke for %+v", c)
		}
	})
	t.Run("expiry", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, sqliteURL(t))
			c := h.ask("alice", "root@db01")
			start := time.Now()
			a, err := h.Await(t.Context(), h.as("alice"), c.Request.ID, c.Version())
			ok(t, err)
			if got := time.Since(start); a.Request.StateAt(time.Now()) != access.Expired || got < 15*time.Minute-time.Second || got > 15*time.Minute+time.Second {
				t.Errorf("after %s it is %s", got, a.Request.StateAt(time.Now()))
			}
			h.db.Close()
		})
	})
	t.Run("giving up", func(t *testing.T) {
		h := newHouse(t, sqliteURL(t))
		h.start()
		c := h.ask("alice", "root@db01")
		ctx, cancel := context.WithCancel(t.Context())
		got := await(ctx, h, c)
		waiting(t, got)
		cancel()
		if a := arrives(t, got); a.Request.ID != c.Request.ID || a.Version() != c.Version() {
			t.Errorf("the case became %+v", a)
		}
		_, err := h.Await(t.Context(), h.as("mallory"), c.Request.ID, 0)
		want(t, err, access.ErrNotFound)
	})
}

// A commit that the follower could not read yet must not end the sessions of
// others, and a server that cannot read the log at all must end them all.
func TestDatabaseGone(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		b := h.another("node2", func(c *broker.Config) { c.StaleAfter = 3 * time.Second })
		b.start()
		c := h.granted()
		l := b.session("alice", c)
		pending := h.ask("alice", "root@db02")
		before := h.dump()
		by := map[string]access.Caller{"alice": h.as("alice"), "bob": h.as("bob"), "root": h.as("root")}
		start := time.Now()
		ok(t, b.db.Close())
		ctx := t.Context()
		for name, call := range map[string]func() error{
			"request": func() error { _, err := b.Request(ctx, by["alice"], asking("guest@db01")); return err },
			"approve": func() error {
				_, err := b.Approve(ctx, by["bob"], pending.Request.ID, pending.Request.Digest(), broker.Answer{})
				return err
			},
			"open": func() error {
				_, err := b.Open(ctx, by["alice"], c.Grant.ID, broker.Opening{Kind: "shell"})
				return err
			},
			"revoke":     func() error { _, err := b.Revoke(ctx, by["bob"], c.Grant.ID, "INC-1"); return err },
			"credential": func() error { _, err := b.Credential(ctx, l, newKey(t)); return err },
			"lock":       func() error { return b.LockUser(ctx, by["root"], "alice", true, "INC-1") },
			"reach":      func() error { _, err := b.Reach(ctx, by["alice"], "db01", "root"); return err },
			"recognize":  func() error { _, err := b.Recognize(ctx, by["alice"].Source, newKey(t)); return err },
			"refused":    func() error { return b.Refused(ctx, by["alice"], l, "x", "y") },
			"certify":    func() error { _, err := b.Certify(ctx, by["alice"], newKey(t)); return err },
			"start":      func() error { return b.Started(ctx, l) },
			"await":      func() error { _, err := b.Await(ctx, by["alice"], pending.Request.ID, 0); return err },
		} {
			if err := call(); !errors.Is(err, access.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		ends(t, l, broker.ErrDoubt)
		if took := time.Since(start); took < 3*time.Second {
			t.Logf("after %s", took)
		}
		if after := h.dump(); after != before {
			t.Errorf("half done:\n%s", difference(before, after))
		}
	})
}

func TestRestart(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		pending, granted := h.ask("alice", "root@db02"), h.granted()
		l := h.session("alice", granted)
		end := l.End()
		// The server dies: nothing is closed, nothing is told.
		next := h.another("node1")
		recovered := access.Sealed{Name: "recovered", Aborted: true}
		n, err := next.Abandoned(t.Context(), func(id string) access.Sealed {
			if id != l.Session.ID {
				return access.Sealed{}
			}
			return recovered
		})
		if n != 1 || err != nil {
			t.Errorf("%d abandoned, %v", n, err)
		}
		s, err := next.db.Session(t.Context(), l.Session.ID)
		ok(t, err)
		if s.State != access.Closed || s.EndReason != "aborted" || s.Recording.Name != "recovered" || !s.Recording.Aborted {
			t.Errorf("session %+v", s)
		}
		if n, err := next.Abandoned(t.Context(), func(string) access.Sealed { return access.Sealed{} }); n != 0 || err != nil {
			t.Errorf("once more: %d, %v", n, err)
		}
		if err := next.Recovered(t.Context(), s.ID, recovered, ""); !errors.Is(err, access.ErrConflict) {
			t.Errorf("a second recording of one session: %v", err)
		}
		// What was granted goes on, with the deadline it had.
		again := next.session("alice", granted)
		if !again.End().Equal(end) {
			t.Errorf("it ends at %s, before the restart at %s", again.End(), end)
		}
		next.approve("bob", pending)
		if c := next.approve("dave", pending); c.Grant == nil {
			t.Errorf("the pending request: %+v", c)
		}
	})
}

// A recording that is sealed after its session was closed without it, or
// instead of closing it, is put on record once, and can be proved.
func TestRecovered(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		granted := h.granted()
		sealed := access.Sealed{Name: "late", SHA256: strings.Repeat("cd", 32), Aborted: true}
		closed, open := h.session("alice", granted), h.session("alice", granted)
		ok(t, h.Close(t.Context(), closed, broker.Closing{Reason: "exited"}))
		for _, id := range []string{closed.Session.ID, open.Session.ID} {
			ok(t, h.Recovered(t.Context(), id, sealed, "ef"))
			s, err := h.db.Session(t.Context(), id)
			ok(t, err)
			if s.State != access.Closed || s.Recording != sealed {
				t.Errorf("session %+v", s)
			}
			p, err := h.Proof(t.Context(), h.as("carol"), id)
			ok(t, err)
			if e, err := audit.Parse(p.Leaf); err != nil || e.Details["recording_sha256"] != sealed.SHA256 {
				t.Errorf("proof of %s: %+v, %v", id, e, err)
			}
		}
	})
}

// The first use of a grant asks for its activation, a later one only for the
// connection: a policy may refuse either.
func TestActivationIsAsked(t *testing.T) {
	only := func(action string) fs.FS {
		return fstest.MapFS{"only.rego": {Data: []byte(`package drawbolt
decision := {
	"allow": input.action != "` + action + `", "role": "engineer", "rule": "x", "approvals": [], "max_seconds": 3600, "mfa_seconds": 0, "break_glass": false,
	"session": {"recording": "strict", "shell": true, "exec": true, "agent": false, "x11": false, "commands": [], "files": [], "forwards": [], "detect": [], "silent_watch": false, "four_eyes": false},
	"reasons": [{"rule": "test", "text": "as the test wants it"}],
}`)}}
	}
	onEach(t, func(t *testing.T, h *house) {
		c := h.granted()
		with := func(bundle fs.FS) error {
			config := h.config
			config.Policy = brokertest.Policy(t, bundle)
			b, err := broker.New(t.Context(), config)
			ok(t, err)
			l, err := b.Open(t.Context(), h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"})
			if err == nil {
				ok(t, b.Close(t.Context(), l, broker.Closing{Reason: "exited"}))
			}
			return err
		}
		want(t, with(only("activate")), access.ErrDenied)
		if g, err := h.db.Grant(t.Context(), c.Grant.ID); err != nil || !g.Start.IsZero() {
			t.Errorf("the clock was started: %v, %v", g.Start, err)
		}
		ok(t, with(only("nothing")))
		ok(t, with(only("activate")))
		want(t, with(only("connect")), access.ErrDenied)
	})
}

// Who has lost the key that they proved is out: their sessions end, here and on
// another server, and a connection that is still open opens no more. What was
// proven by another key goes on.
func TestLostKey(t *testing.T) {
	type lost struct {
		key ssh.PublicKey
		do  func(h *house) error
	}
	ways := map[string]func(t *testing.T, h *house) lost{
		"key removed by its holder": func(t *testing.T, h *house) lost {
			key := newKey(t)
			_, err := h.AddKey(t.Context(), h.as("alice"), "", keyText(key), "stolen laptop")
			ok(t, err)
			return lost{key, func(h *house) error {
				return h.RemoveKey(t.Context(), h.as("alice"), "", ssh.FingerprintSHA256(key))
			}}
		},
		"key removed, and somebody else's now": func(t *testing.T, h *house) lost {
			key := newKey(t)
			_, err := h.AddKey(t.Context(), h.as("alice"), "", keyText(key), "")
			ok(t, err)
			return lost{key, func(h *house) error {
				if err := h.RemoveKey(t.Context(), h.as("root"), "alice", ssh.FingerprintSHA256(key)); err != nil {
					return err
				}
				_, err := h.AddKey(t.Context(), h.as("erin"), "", keyText(key), "")
				return err
			}}
		},
		"certificate revoked": func(t *testing.T, h *house) lost {
			cert := h.certificate("alice")
			return lost{cert, func(h *house) error {
				_, err := h.RevokeCertificate(t.Context(), h.as("root"), strconv.FormatUint(cert.Serial, 10), "INC-7 stolen laptop")
				return err
			}}
		},
	}
	for name, prepare := range ways {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				h.start()
				c := h.granted()
				kept := newKey(t)
				_, err := h.AddKey(t.Context(), h.as("alice"), "", keyText(kept), "")
				ok(t, err)
				l := prepare(t, h)
				proven := func(key ssh.PublicKey) access.Caller {
					by, err := h.Recognize(t.Context(), h.as("alice").Source, key)
					ok(t, err)
					return by
				}
				open := func(by access.Caller) (*broker.Live, error) {
					s, err := h.Open(t.Context(), by, c.Grant.ID, shellOpening)
					if err == nil {
						t.Cleanup(func() { _ = h.Close(t.Context(), s, broker.Closing{Reason: "exited"}) })
					}
					return s, err
				}
				by, other := proven(l.key), proven(kept)
				session, err := open(by)
				ok(t, err)
				besides, err := open(other)
				ok(t, err)
				goesOn(t, session)
				ok(t, l.do(h))
				ends(t, session, broker.ErrRefused)
				_, err = open(by)
				h.refusedBy(err, "session.key")
				goesOn(t, besides)
				_, err = open(other)
				ok(t, err)
			})
			t.Run("by another server", func(t *testing.T) {
				a := newHouse(t, engines[1].url(t))
				b := a.another("node2")
				a.start()
				b.start()
				c, l := a.granted(), prepare(t, a)
				by, err := b.Recognize(t.Context(), a.as("alice").Source, l.key)
				ok(t, err)
				session, err := b.Open(t.Context(), by, c.Grant.ID, shellOpening)
				ok(t, err)
				t.Cleanup(func() { _ = b.Close(t.Context(), session, broker.Closing{Reason: "exited"}) })
				ok(t, l.do(a))
				ends(t, session, broker.ErrRefused)
			})
		})
	}
}
