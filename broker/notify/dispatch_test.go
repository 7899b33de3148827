package notify_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/identity/local"
	"github.com/drawbolt/drawbolt/broker/identity/mfa"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
)

// What happens to requests and grants is told in order, with what it is about, to
// those who may do something; and what concerns nobody is not.
func TestTold(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.ask("alice", "guest", "db02") // before anybody listened
		f, some := &fake{name: "all"}, &fake{name: "some"}
		h.dispatch([]notify.Route{route(f), route(some, notify.BreakGlass)})

		one := h.ask("alice", "root", "db01")
		until(t, "it is told that alice asks", func() bool { return len(f.all()) == 1 })
		one, err := h.Approve(ctx, h.as("bob"), one.Request.ID, one.Request.Digest(), broker.Answer{Comment: "be quick"})
		ok(t, err)
		two := h.ask("alice", "root", "db02")
		for _, who := range []string{"bob", "dave"} {
			until(t, "the log is told", func() bool { return len(f.all()) >= 3 })
			_, err := h.Approve(ctx, h.as(who), two.Request.ID, two.Request.Digest(), broker.Answer{})
			ok(t, err)
		}
		if _, err := h.Approve(ctx, h.as("alice"), two.Request.ID, two.Request.Digest(), broker.Answer{}); err == nil {
			t.Error("alice approves her own request")
		}
		denied := h.ask("dave", "root", "db01")
		_, err = h.Deny(ctx, h.as("bob"), denied.Request.ID, "", "not today")
		ok(t, err)
		h.ask("alice", "guest", "db01") // which the policy approves
		h.breakGlass("dave", "db02", "everything burns")
		for range 2 {
			l, err := h.Open(ctx, h.as("alice"), one.Grant.ID, broker.Opening{Kind: "shell"})
			ok(t, err)
			ok(t, h.Detected(ctx, l, broker.Detection{Level: access.DetectAlert, Rule: "alert mysqldump", Command: "mysqldump --all-databases"}))
			ok(t, h.Detected(ctx, l, broker.Detection{Level: access.DetectWarn, Rule: "warn shutdown", Command: "shutdown"}))
			ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
		}
		_, err = h.Extend(ctx, h.as("alice"), one.Request.ID, time.Minute)
		ok(t, err)
		_, err = h.Revoke(ctx, h.as("bob"), one.Request.ID, "enough")
		ok(t, err)
		cancelled := h.ask("alice", "root", "db01")
		_, err = h.Cancel(ctx, h.as("alice"), cancelled.Request.ID)
		ok(t, err)
		overdue := h.ask("dave", "root", "db01")
		h.clock.advance(16 * time.Minute)
		want := []notify.Kind{
			notify.Asked, notify.Approved, notify.Asked, notify.Voted, notify.Approved, notify.Asked, notify.Denied, notify.Approved, notify.BreakGlass,
			notify.Started, notify.Unusual, notify.Used, notify.Used, notify.Unusual, notify.Used, notify.Extended, notify.Revoked, notify.Asked, notify.Cancelled, notify.Asked, notify.Expired,
		}
		until(t, "all is told", func() bool { return len(f.all()) >= len(want) })
		if got := f.kinds(); !slices.Equal(got, want) {
			t.Errorf("told %q\nwant %q", got, want)
		}
		list := f.all()
		names := func(people []access.User) (out []string) {
			for _, u := range people {
				out = append(out, u.Name)
			}
			return out
		}
		if n := list[0]; n.Actor != "alice" || n.Case.Request.ID != one.Request.ID || n.Target.Name != "db01" || n.Requester.Display != "Alice Kim" || !slices.Equal(names(n.Deciders), []string{"bob", "dave"}) {
			t.Errorf("asked: %+v, deciders %v", n, names(n.Deciders))
		}
		if n := list[1]; n.Actor != "bob" || n.Text != "be quick" || n.Case.Grant == nil || n.Deciders != nil {
			t.Errorf("approved: %+v", n)
		}
		if n := list[8]; n.Text != "everything burns" || !n.Case.Request.BreakGlass {
			t.Errorf("break-glass: %+v", n)
		}
		if n := list[10]; n.Text != "mysqldump --all-databases" || n.Rule != "alert mysqldump" || n.Session == nil {
			t.Errorf("unusual: %+v", n)
		}
		if n := list[20]; n.Actor != "" || n.Case.Request.ID != overdue.Request.ID {
			t.Errorf("expired: %+v", n)
		}
		for i, n := range list[1:] {
			if n.Position <= list[i].Position {
				t.Errorf("position %d comes after %d", n.Position, list[i].Position)
			}
		}
		if got := some.kinds(); !slices.Equal(got, []notify.Kind{notify.BreakGlass}) {
			t.Errorf("the other channel was told %q", got)
		}
	})
}

// A channel that is away keeps no other; when it is back it is told all. When it comes
// back just between the notice that failed and the next one, the first is the late one.
func TestChannelIsAway(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		var away atomic.Bool
		away.Store(true)
		var tries atomic.Int64
		down := &fake{name: "down", fn: func(context.Context, notify.Notice) error {
			tries.Add(1)
			if away.Load() {
				return errors.New("connection refused")
			}
			return nil
		}}
		hangs := &fake{name: "hangs", fn: func(ctx context.Context, _ notify.Notice) error { <-ctx.Done(); return ctx.Err() }}
		panics := &fake{name: "panics", fn: func(context.Context, notify.Notice) error { panic("a mistake") }}
		fine := &fake{name: "fine"}
		h.dispatch([]notify.Route{route(down), route(hangs), route(panics), route(fine)}, func(c *notify.Config) { c.Lease, c.Within = 4*time.Second, 2*time.Second })
		const many = 12
		for range many {
			h.ask("alice", "guest", "db01")
			c, err := h.Requests(t.Context(), h.as("alice"), broker.Filter{Active: true, Mine: true})
			ok(t, err)
			_, err = h.Release(t.Context(), h.as("alice"), c[0].Grant.ID)
			ok(t, err)
		}
		until(t, "the channel that is fine has all", func() bool { return fine.different() == 2*many })
		until(t, "the one that is away was tried", func() bool { return tries.Load() > 6 })
		i := h.integration("down")
		if i.State != broker.IntegrationFails || i.Behind == 0 || !strings.Contains(i.Error, "connection refused") || i.Late != 0 || i.AsideCount != 0 {
			t.Errorf("the channel that is away: %+v", i)
		}
		until(t, "the panic is on record", func() bool { return strings.Contains(h.integration("panics").Error, "a mistake") })
		until(t, "the time-out is on record", func() bool { return strings.Contains(h.integration("hangs").Error, "it took too long") })
		away.Store(false)
		until(t, "the other one has all", func() bool { return down.different() == 2*many })
		told := map[int64]bool{}
		for _, n := range down.all() {
			told[n.Position] = true
		}
		for _, n := range fine.all() {
			if !told[n.Position] {
				t.Errorf("the event %d is not told", n.Position)
			}
		}
		until(t, "it works", func() bool {
			i := h.integration("down")
			return i.State == broker.IntegrationWorks && i.Behind == 0 && !i.SuccessAt.IsZero()
		})
	})
}

// lines keeps what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) has(words string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), words)
}

func (h *house) integration(name string) broker.Integration {
	h.t.Helper()
	i, err := h.FindIntegration(h.t.Context(), h.as("root"), name)
	ok(h.t, err)
	return i
}

// A notice that fails while later ones are taken does not keep them. It is tried
// again; one that is refused for good is set aside, until somebody wants it sent.
func TestPoisoned(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		var mended atomic.Bool
		f := &fake{name: "chat", fn: func(_ context.Context, n notify.Notice) error {
			switch {
			case mended.Load():
				return nil
			case n.Text == "poison":
				return errors.New("500")
			case n.Text == "refused":
				return fmt.Errorf("%w: 422", notify.ErrRefused)
			default:
				return nil
			}
		}}
		h.dispatch([]notify.Route{route(f, notify.BreakGlass)})
		for _, reason := range []string{"first", "poison", "refused", "last"} {
			c := h.breakGlass("alice", "db01", reason)
			_, err := h.Release(t.Context(), h.as("alice"), c.Grant.ID)
			ok(t, err)
		}
		texts := func() (list []string) {
			for _, n := range f.all() {
				list = append(list, n.Text)
			}
			return list
		}
		until(t, "the others are told", func() bool { return slices.Equal(texts(), []string{"first", "last"}) })
		until(t, "one is late, one aside", func() bool {
			i := h.integration("chat")
			return i.Late == 1 && i.AsideCount == 1 && i.State == broker.IntegrationWorks && len(i.Aside) == 1 && i.Aside[0].Action == "breakglass" && strings.Contains(i.Aside[0].Error, "422")
		})
		mended.Store(true)
		until(t, "the late one is told", func() bool { return slices.Equal(texts(), []string{"first", "last", "poison"}) })
		n, err := h.RetryIntegration(t.Context(), h.as("root"), "chat")
		ok(t, err)
		until(t, "the other one is told", func() bool { return slices.Equal(texts(), []string{"first", "last", "poison", "refused"}) })
		until(t, "nothing is left", func() bool { i := h.integration("chat"); return i.Late == 0 && i.AsideCount == 0 })
		if n != 1 {
			t.Errorf("%d are tried again, want 1", n)
		}
	})
}

// A database that fails while another notice is looked for, besides one that fails,
// is no failure of the channel: it is told of, no try is counted for it, and all goes
// on once it answers.
func TestDatabaseFailsBesides(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	ready := make(chan struct{})
	f := &fake{name: "chat", fn: func(_ context.Context, n notify.Notice) error {
		if n.Text == "poison" {
			<-ready
			return errors.New("500")
		}
		return nil
	}}
	said := &lines{}
	h.dispatch([]notify.Route{route(f, notify.BreakGlass)}, func(c *notify.Config) { c.Log = slog.New(slog.NewTextHandler(said, nil)) })
	db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(h.url, "sqlite://")+"?_pragma=busy_timeout(60000)")
	ok(t, err)
	t.Cleanup(func() { db.Close() })
	h.breakGlass("alice", "db01", "poison")
	fine := h.breakGlass("alice", "db02", "fine")
	_, err = db.Exec("UPDATE requests SET start_at = 'x' WHERE id = '" + fine.Request.ID + "'")
	ok(t, err)
	close(ready)
	until(t, "it is told that the database fails", func() bool { return said.has("nobody is told") })
	c, err := h.db.Channel(t.Context(), "chat")
	ok(t, err)
	if c.Tries >= 3 || len(f.all()) != 0 {
		t.Errorf("the failure of the database counts as %d tries of the channel; told %v", c.Tries, f.kinds())
	}
	_, err = db.Exec("UPDATE requests SET start_at = 0 WHERE id = '" + fine.Request.ID + "'")
	ok(t, err)
	until(t, "the other one is told", func() bool { return len(f.all()) == 1 && f.all()[0].Text == "fine" })
	until(t, "the first is late", func() bool { return h.integration("chat").Late == 1 })
}

// A notice that has failed for a day is set aside.
func TestFailsForADay(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	f := &fake{name: "chat", fn: func(_ context.Context, n notify.Notice) error {
		if n.Text == "poison" {
			return errors.New("500")
		}
		return nil
	}}
	h.dispatch([]notify.Route{route(f, notify.BreakGlass)})
	h.breakGlass("alice", "db01", "poison")
	until(t, "it fails", func() bool { return h.integration("chat").State == broker.IntegrationFails })
	h.breakGlass("alice", "db02", "fine")
	until(t, "it is late", func() bool { return h.integration("chat").Late == 1 })
	h.clock.advance(25 * time.Hour)
	until(t, "it is set aside", func() bool { i := h.integration("chat"); return i.Late == 0 && i.AsideCount == 1 })
	if got := len(f.all()); got != 1 {
		t.Errorf("%d notices were taken, want 1", got)
	}
}

// The server dies between the moment at which a notice is taken and the one at which
// that is saved, again and again: nothing is lost, and nothing comes more than twice.
func TestCrashBetweenSentAndSaved(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		var mu sync.Mutex
		times := map[int64]int{}
		die := make(chan struct{}, 1)
		f := &fake{name: "chat", fn: func(ctx context.Context, n notify.Notice) error {
			mu.Lock()
			times[n.Position]++
			first := times[n.Position] == 1
			mu.Unlock()
			if !first {
				return nil
			}
			die <- struct{}{} // it was taken, and the end of that is never seen
			<-ctx.Done()
			return nil
		}}
		stop := h.dispatch([]notify.Route{route(f, notify.Approved)})
		const many = 6
		for i := range many {
			c := h.ask("alice", "guest", []string{"db01", "db02"}[i%2])
			_, err := h.Release(t.Context(), h.as("alice"), c.Grant.ID)
			ok(t, err)
		}
		for range many {
			<-die
			stop()
			stop = h.dispatch([]notify.Route{route(f, notify.Approved)})
		}
		until(t, "all was told", func() bool {
			mu.Lock()
			defer mu.Unlock()
			n := 0
			for _, times := range times {
				n += times
			}
			return n >= 2*many
		})
		until(t, "it is saved", func() bool { return h.integration("chat").Behind == 0 })
		mu.Lock()
		defer mu.Unlock()
		if len(times) != many {
			t.Errorf("%d notices were told, want %d", len(times), many)
		}
		for position, n := range times {
			if n != 2 {
				t.Errorf("the notice %d came %d times", position, n)
			}
		}
	})
}

// Of two servers one tells. When it stops, the other goes on from there.
func TestTwoServersTell(t *testing.T) {
	one := newHouse(t, servers.Postgres(t))
	two := one.another("two")
	f := &fake{name: "chat"}
	kinds := []notify.Kind{notify.Approved}
	stop := one.dispatch([]notify.Route{route(f, kinds...)})
	two.dispatch([]notify.Route{route(f, kinds...)})
	ask := func(n int) {
		for i := range n {
			h := []*house{one, two}[i%2]
			c := h.ask("alice", "guest", "db01")
			_, err := h.Release(t.Context(), h.as("alice"), c.Grant.ID)
			ok(t, err)
		}
	}
	ask(20)
	until(t, "twenty were told", func() bool { return f.different() >= 20 })
	ask(5)
	stop()
	ask(5)
	until(t, "thirty were told", func() bool { return f.different() >= 30 })
	if i := two.integration("chat"); i.Node != "two" {
		t.Errorf("%s tells", i.Node)
	}
	if f.different() != 30 || len(f.all()) > 31 { // one may have been under way when the first server stopped
		t.Errorf("%d notices came, %d different ones", len(f.all()), f.different())
	}
}

// What a server saves that has lost the lease is refused.
func TestLeaseIsFenced(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		first, err := h.db.ClaimChannel(ctx, "chat", "fake", "one", time.Minute)
		ok(t, err)
		if _, err := h.db.ClaimChannel(ctx, "chat", "fake", "two", time.Minute); !errors.Is(err, access.ErrConflict) {
			t.Errorf("two have the lease: %v", err)
		}
		h.clock.advance(2 * time.Minute)
		second, err := h.db.ClaimChannel(ctx, "chat", "fake", "two", time.Minute)
		ok(t, err)
		if second.Token <= first.Token || second.Position != first.Position {
			t.Errorf("first %+v, second %+v", first, second)
		}
		first.Position, first.Until = 1000, h.clock.now().Add(time.Hour)
		if err := h.db.SaveChannel(ctx, first, store.Notice{Channel: "chat", Position: 5, Action: "breakglass", State: store.NoticeLate}); !errors.Is(err, access.ErrConflict) {
			t.Errorf("the old one saves: %v", err)
		}
		is, err := h.db.Channel(ctx, "chat")
		ok(t, err)
		late, aside, err := h.db.CountNotices(ctx, "chat")
		ok(t, err)
		if is.Position != second.Position || is.Node != "two" || late+aside != 0 {
			t.Errorf("saved: %+v, %d late", is, late)
		}
		// A restart takes its own lease at once.
		third, err := h.db.ClaimChannel(ctx, "chat", "fake", "two", time.Minute)
		ok(t, err)
		if err := h.db.SaveChannel(ctx, second); !errors.Is(err, access.ErrConflict) || third.Token <= second.Token {
			t.Errorf("the process before saves: %v", err)
		}
	})
}

// Ten thousand events at once, of which each tenth is told: in order, each once.
func TestBurst(t *testing.T) {
	const many, at, tenth = 10_000, 500, 10
	h := newHouse(t, sqliteURL(t))
	f, other := &fake{name: "chat"}, &fake{name: "other"}
	c := h.ask("alice", "root", "db01")
	h.dispatch([]notify.Route{route(f, notify.Cancelled), route(other, notify.BreakGlass)})
	begin := time.Now()
	for range many / at {
		ok(t, h.db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
			e := audit.Event{Actor: "USR-x", ActorName: "alice", Action: "request.join", Object: c.Request.ID, Request: c.Request.ID}
			for i := range at - 1 {
				if e.Action = "request.join"; i%tenth == 0 {
					e.Action = "request.cancel"
				}
				tx.Also(e)
			}
			return e, nil
		}))
	}
	h.breakGlass("dave", "db02", "fire")
	until(t, "the other channel is told", func() bool { return len(other.all()) == 1 })
	t.Logf("behind %d events, told on the other channel after %s", many, time.Since(begin).Round(time.Millisecond))
	until(t, "all are told", func() bool { return len(f.all()) >= many/tenth })
	t.Logf("%d notices in %s", many/tenth, time.Since(begin).Round(time.Millisecond))
	list := f.all()
	for i, n := range list[1:] {
		if n.Position <= list[i].Position {
			t.Fatalf("%d comes after %d", n.Position, list[i].Position)
		}
	}
	until(t, "it is saved", func() bool { return h.integration("chat").Behind == 0 })
	if n := len(f.all()); n != many/tenth {
		t.Errorf("%d were told", n)
	}
}

// A test goes to the channel that is tried, and to no other.
func TestTest(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	f, other := &fake{name: "chat"}, &fake{name: "other"}
	h.dispatch([]notify.Route{route(f, notify.BreakGlass), route(other)})
	if _, err := h.TestIntegration(t.Context(), h.as("alice"), "chat"); !errors.Is(err, access.ErrDenied) {
		t.Errorf("alice tests: %v", err)
	}
	if _, err := h.TestIntegration(t.Context(), h.as("root"), "nothing"); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("what is not there is tested: %v", err)
	}
	position, err := h.TestIntegration(t.Context(), h.as("root"), "chat")
	ok(t, err)
	until(t, "it is told", func() bool { return h.integration("chat").Position > position })
	if got := f.all(); len(got) != 1 || got[0].Kind != notify.Test || got[0].Actor != "root" {
		t.Errorf("told %+v", got)
	}
	until(t, "the other one has passed it", func() bool { return h.integration("other").Position > position })
	if len(other.all()) != 0 {
		t.Errorf("the other one was told %+v", other.all())
	}
}

// What is done to how somebody signs in is told to them: what they did themselves, what
// somebody else did, and that somebody may have a copy of their passkey. Who changes
// their address first does not keep it from them.
func TestSignInTold(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, ids := t.Context(), h.db.Identities()
		f := &fake{name: "all"}
		h.dispatch([]notify.Route{route(f)})
		bob := h.as("bob")
		bob.User.Attributes = map[string]string{"email": "bob@example.com"}
		u, err := h.SetUser(ctx, h.as("root"), bob.User)
		ok(t, err)
		key := local.Passkey{ID: access.NewID(local.PasskeyPrefix), UserID: u.ID, Name: "phone", AddedAt: time.Now()}
		key.Credential, key.Key, key.Count = []byte("credential"), []byte("key"), 7
		ok(t, ids.AddPasskey(ctx, bob, key, 9))
		ok(t, ids.SetPassword(ctx, bob, u.ID, "hash", time.Now().Add(-72*time.Hour)))
		u.Attributes = map[string]string{"email": "thief@example.net"}
		_, err = h.SetUser(ctx, h.as("root"), u)
		ok(t, err)
		ok(t, ids.CreateSetup(ctx, h.as("root"), local.Setup{Hash: []byte("link"), UserID: u.ID, ExpiresAt: time.Now().Add(time.Hour)}, time.Time{}))
		if err := ids.UsePasskey(ctx, bob, local.PasskeyUse{ID: key.ID, Purpose: local.SignIn, At: time.Now(), Use: mfa.Use{Count: 3}}); !errors.Is(err, access.ErrConflict) {
			t.Fatalf("the copy was used: %v", err)
		}
		ok(t, h.LockUser(ctx, h.as("root"), "bob", true, "so that he does not hear of it"))
		ok(t, ids.TakeFactor(ctx, h.as("root"), local.Lost{UserID: u.ID, ID: key.ID, Reason: "INC-7 lost", At: time.Now(), NotSince: time.Now().Add(-local.RecoveryRest)}))
		want := []notify.Kind{notify.SignInChanged, notify.SignInChanged, notify.SignInReset, notify.SignInReset, notify.PasskeyCopied, notify.SignInReset}
		until(t, "all is told", func() bool { return len(f.all()) >= len(want) })
		if got := f.kinds(); !slices.Equal(got, want) {
			t.Errorf("told %q\nwant %q", got, want)
		}
		for i, n := range f.all() {
			if n.For == nil || n.For.ID != u.ID || n.Way == "" {
				t.Errorf("notice %d: %+v", i, n)
			}
		}
		if n := f.all()[2]; n.Actor != "root" || n.For.Email() != "bob@example.com" {
			t.Errorf("the change of the address is told to %q", n.For.Email())
		}
		if n := f.all()[5]; n.Actor != "root" || n.Text != "INC-7 lost" || n.Way != "a passkey was taken away (phone)" {
			t.Errorf("taken away: %+v", n)
		}
	})
}
