package slack_test

import (
	"context"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/web/slack"
	"github.com/drawbolt/drawbolt/web/slack/slacktest"
)

// TestSealedLogin: a login that sealed codes have opened is about no request, and an
// alarm all the same.
func TestSealedLogin(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	n := notify.Notice{Position: 7, Kind: notify.BreakGlass, At: h.clock.now(), Actor: "emergency", Text: "SSO down"}
	for range 2 { // the second time it comes again, after a crash
		ok(t, h.app.Notify(soon(t), n))
	}
	list := h.fake.Messages(alerts)
	if len(list) != 1 {
		t.Fatalf("%d alarms, want 1", len(list))
	}
	for _, want := range []string{"Sealed codes", "emergency", "SSO down", "https://gw.example.com/breakglass"} {
		if !strings.Contains(list[0].Text+string(list[0].Blocks), want) {
			t.Errorf("the alarm does not say %q: %s", want, list[0].Blocks)
		}
	}
}

// TestNothingKnown: no notice that lacks what it is about makes the channel fail.
func TestNothingKnown(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	for i, k := range append(notify.Kinds(), notify.Test) {
		ok(t, h.app.Notify(soon(t), notify.Notice{Position: int64(100 + i), Kind: k, At: h.clock.now()}))
	}
}

// TestUnusual: an alert in a session is told, though its request has a card. Who may
// can hold back what is typed there, and nobody else.
func TestUnusual(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	ctx := context.Background()
	c, card := h.asked("alice", "root@db01")
	c = must(h.Approve(ctx, h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
	l := must(h.Open(ctx, h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"}))
	h.tell(notify.Unusual, c.Request.ID, func(n *notify.Notice) {
		s := l.Session
		n.Session, n.Text, n.Rule = &s, "mysqldump --all-databases", "alert mysqldump"
	})
	list := h.fake.Messages(alerts)
	if len(list) != 1 || !strings.Contains(string(list[0].Blocks), "mysqldump --all-databases") {
		t.Fatalf("the alert is %v", list)
	}
	hold := button(t, list[0], "pause")
	h.presses("bob", hold) // approves, and moderates nothing
	h.hears("bob", "DB-")
	for _, value := range []string{"", c.Request.ID, "SES-nonsense", access.NewID(access.SessionPrefix), "'; DROP TABLE sessions; --"} {
		bad := hold
		bad.Value = value
		h.presses("alice", bad)
	}
	h.hears("alice", "DB-")
	if g := h.state(c.Request.ID).Grant; g.PausedBy != "" {
		t.Fatalf("paused by %s", g.PausedBy)
	}
	h.setGroups("gina", "watchers")
	h.presses("gina", hold)
	h.hears("gina", "held back")
	h.shows(card, "paused by gina")
	h.hears("gina", "https://gw.example.com/sessions/"+l.Session.ID)
	if now := h.fake.Messages(alerts)[0]; string(now.Blocks) != string(list[0].Blocks) {
		t.Errorf("the alert is another one now: %s", now.Blocks)
	}
	if n := h.events("session.pause", audit.Done); n != 1 {
		t.Errorf("%d pauses", n)
	}
	ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
}

// TestUnlinked: a button of before does nothing for who is not linked any more.
func TestUnlinked(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		ctx := context.Background()
		c, card := h.asked("alice", "root@db02")
		yes := button(t, card, "approve")
		h.presses("dave", button(t, card, "deny"))
		if err := h.fake.Until(soon(t), func() bool { return h.fake.View("UDAVE") != nil }); err != nil {
			t.Fatal("no form")
		}
		for _, who := range []string{"bob", "dave"} {
			ok(t, h.Unlink(ctx, h.as(who), "", account(who)))
		}
		h.presses("bob", yes)
		h.hears("bob", "DB-6193")
		h.fills("dave", map[string]any{"why": slacktest.Typed("no")}) // was opened before
		h.hears("dave", "DB-6193")
		if r := h.state(c.Request.ID).Request; r.State != access.Pending || len(r.Approvals) != 0 {
			t.Errorf("it counted: %+v", r)
		}
	})
}
