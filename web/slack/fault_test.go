package slack_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/web/slack"
	"github.com/drawbolt/drawbolt/web/slack/slacktest"
)

// tellUntil tells a notice until it is taken, as the dispatcher does.
func (h *house) tellUntil(n notify.Notice) (tries int) {
	h.t.Helper()
	for tries = 1; ; tries++ {
		if tries > 50 {
			h.t.Fatal("the notice is never taken")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := h.app.Notify(ctx, n)
		cancel()
		if err == nil {
			return tries
		}
	}
}

// TestSlackDown: while Slack is away, nothing else is held up; when it is back,
// what happened is told, once each.
func TestSlackDown(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	h.asked("alice", "root@db02") // it works
	var down atomic.Bool
	down.Store(true)
	fault := func(string, url.Values) slacktest.Fault {
		if down.Load() {
			return slacktest.Fault{Status: http.StatusBadGateway}
		}
		return slacktest.Fault{}
	}
	h.fake.Set(func(s *slacktest.Server) { s.Fault = fault })
	c := h.asks("alice", "root@db01") // asking does not wait for Slack
	n := h.notice(notify.Asked, c.Request.ID)
	if err := h.app.Notify(soon(t), n); err == nil {
		t.Fatal("a notice was taken by a Slack that is away")
	}
	must(h.Approve(context.Background(), h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
	approved := h.notice(notify.Approved, c.Request.ID)
	before := len(h.fake.Messages(room))
	down.Store(false)
	h.tellUntil(n)
	h.tellUntil(approved)
	if list := h.fake.Messages(room); len(list) != before+1 || !strings.Contains(string(list[before].Blocks), "Approved by") {
		t.Errorf("%d messages more in the channel", len(list)-before)
	}
	h.hears("alice", "approved")
}

// TestSlackHalf: half of all calls fail, half of these after they were done. Nobody
// misses anything, and nothing is decided twice.
func TestSlackHalf(t *testing.T) {
	h := newHouse(t, slack.HTTPMode)
	var n atomic.Int64
	fault := func(method string, _ url.Values) slacktest.Fault {
		if method == "auth.test" {
			return slacktest.Fault{}
		}
		switch n.Add(1) % 4 {
		case 1:
			return slacktest.Fault{Status: http.StatusInternalServerError}
		case 3:
			return slacktest.Fault{Status: http.StatusInternalServerError, Applied: true}
		}
		return slacktest.Fault{}
	}
	h.fake.Set(func(s *slacktest.Server) { s.Fault = fault })
	c := h.asks("alice", "root@db01")
	h.tellUntil(h.notice(notify.Asked, c.Request.ID))
	list := h.fake.Messages(room)
	yes := button(t, list[len(list)-1], "approve")
	// Slack brings the same click three times.
	d := h.fake.Press("UBOB", yes)
	for range 3 {
		// Within one second it is the same to the bit, and refused as a replay.
		if _, err := h.fake.Deliver(soon(t), d); err != nil && !strings.Contains(err.Error(), "DB-6195") {
			t.Error(err)
		}
	}
	h.until(func() bool { return h.state(c.Request.ID).Grant != nil })
	h.tellUntil(h.notice(notify.Approved, c.Request.ID))
	told := 0
	for _, r := range []string{room, "DUBOB", "DUDAVE", "DUERIN"} {
		fresh := false
		for _, m := range h.fake.Messages(r) {
			fresh = fresh || strings.Contains(string(m.Blocks), "Approved by")
		}
		if fresh {
			told++
		}
	}
	if told != 4 {
		t.Errorf("%d of 4 places show the decision", told)
	}
	h.hears("alice", "approved")
	if n := h.events("request.approve", audit.Done); n != 1 || h.events("request.approve", audit.Refused) != 0 {
		t.Errorf("%d approvals of one click", n)
	}
	// An orphan, which a lost answer has left behind, is known once it is pressed.
	for _, m := range h.fake.Messages(room) {
		if b, is := slacktest.Find(m, "approve"); is {
			h.fake.Set(func(s *slacktest.Server) { s.Fault = nil })
			h.presses("dave", b)
			h.shows(m, "Approved by")
			h.hears("dave", "already approved by bob")
		}
	}
}

// until waits until something holds in the broker.
func (h *house) until(ok func() bool) {
	h.t.Helper()
	ctx := soon(h.t)
	for !ok() {
		select {
		case <-ctx.Done():
			h.t.Fatal("it does not happen")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestRateLimit: when Slack says for how long it wants nothing, it gets nothing.
func TestRateLimit(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	var mu sync.Mutex
	var until time.Time
	limits := 0
	fault := func(method string, form url.Values) slacktest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if method != "chat.postMessage" || form.Get("channel") != room {
			return slacktest.Fault{}
		}
		if until.IsZero() {
			until = time.Now().Add(time.Second)
			limits++
			return slacktest.Fault{Status: http.StatusTooManyRequests, After: time.Second}
		}
		if time.Now().Before(until) {
			limits++
		}
		return slacktest.Fault{}
	}
	h.fake.Set(func(s *slacktest.Server) { s.Fault = fault })
	h.asked("alice", "root@db01")
	if limits != 1 {
		t.Errorf("Slack was asked again %d times before it wanted to be", limits-1)
	}
	// Where it wants nothing for longer than the notice may take, the notice comes again.
	fault = func(method string, _ url.Values) slacktest.Fault {
		if method == "chat.postMessage" {
			return slacktest.Fault{Status: http.StatusTooManyRequests, After: time.Hour}
		}
		return slacktest.Fault{}
	}
	h.fake.Set(func(s *slacktest.Server) { s.Fault = fault })
	c := h.asks("alice", "root@db02")
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := h.app.Notify(ctx, h.notice(notify.Asked, c.Request.ID)); err == nil {
		t.Error("a notice was taken that nobody has")
	}
}

// TestRepair: a decision whose messages were never brought up to date, because the
// server ended between the two, is shown by whatever notice comes next.
func TestRepair(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, card := h.asked("alice", "root@db01")
	must(h.Approve(context.Background(), h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
	stop := h.stop
	stop()
	h.app = h.open(slack.SocketMode, h.db)
	h.tell(notify.Asked, c.Request.ID) // the old one again: it shows the newest
	h.shows(card, "Approved by")
	if n := len(h.fake.Messages(room)); n != 1 {
		t.Errorf("%d cards", n)
	}
}

// TestMessageGone: a card that somebody has removed is posted anew while there is
// something to decide, and not after.
func TestMessageGone(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, card := h.asked("alice", "root@db02")
	h.fake.Remove(card.TS)
	must(h.Approve(context.Background(), h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
	h.tell(notify.Voted, c.Request.ID)
	again := h.card()
	if again.TS == card.TS || !strings.Contains(string(again.Blocks), "more are needed") {
		t.Fatalf("the new card is %s", again.Blocks)
	}
	h.presses("dave", button(t, again, "approve"))
	h.shows(again, "Approved by")
	h.fake.Remove(again.TS)
	must(h.Release(context.Background(), h.as("alice"), c.Request.ID))
	h.tell(notify.Ended, c.Request.ID)
	if n := len(h.fake.Messages(room)); n != 0 {
		t.Errorf("%d cards about what is over", n)
	}
}

// TestWhoLeft: somebody who has left the workspace holds nobody up.
func TestWhoLeft(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	h.fake.Leave("UDAVE")
	h.asked("alice", "root@db01")
	if len(h.fake.Messages("DUBOB")) != 1 || len(h.fake.Messages("DUDAVE")) != 0 {
		t.Error("the wrong people were told")
	}
}

// TestReconnect: a connection that breaks is made again.
func TestReconnect(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, card := h.asked("alice", "root@db01")
	if err := h.fake.Until(soon(t), func() bool { return h.fake.Sockets() == 1 }); err != nil {
		t.Fatal("never connected")
	}
	h.fake.DropSockets()
	if err := h.fake.Until(soon(t), func() bool { return h.fake.Sockets() == 1 }); err != nil {
		t.Fatal("never connected again")
	}
	h.presses("bob", button(t, card, "approve"))
	h.shows(card, "Approved by")
	_ = c
}

// TestEdited: a click on a card of before an edit is refused, and the card shows
// what is asked for now.
func TestEdited(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, card := h.asked("alice", "root@db01")
	yes := button(t, card, "approve")
	h.edit(c.Request.ID, func(r *access.Request) { r.Duration = 2 * time.Hour })
	h.presses("bob", yes)
	h.hears("bob", "DB-3004")
	card = h.shows(card, "Approve 2h")
	h.presses("bob", button(t, card, "approve"))
	h.shows(card, "Approved by")
}
