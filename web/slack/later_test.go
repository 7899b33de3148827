package slack_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/recorder/view"
	"github.com/drawbolt/drawbolt/web/slack"
	"github.com/drawbolt/drawbolt/web/slack/slacktest"
)

// isHeld tells a notice that the app wants again, and returns it.
func (h *house) isHeld(n notify.Notice) notify.Notice {
	h.t.Helper()
	err := h.app.Notify(soon(h.t), n)
	if hold, is := errors.AsType[*notify.Hold](err); !is || !hold.Until.After(h.clock.now()) {
		h.t.Fatalf("the notice of %s is answered %v, and not held", n.Kind, err)
	}
	return n
}

// TestQuietHours: at night nobody is called but for what is urgent. Cards that are
// there are kept up to date, whoever asked hears the answer, and in the morning
// everything is told, as it is then.
func TestQuietHours(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	ctx := context.Background()
	before, beforeCard := h.asked("erin", "root@db02")
	h.stop()
	now := h.clock.now().UTC()
	c := h.config(slack.SocketMode, h.db)
	c.Quiet = must(notify.ParseQuiet([]string{now.Add(-time.Hour).Format("15:04") + "-" + now.Add(2*time.Hour).Format("15:04")}))
	h.app = must(slack.New(c))
	h.stop = h.run(h.app, slack.SocketMode)
	cards := func() (n int) {
		for _, r := range []string{room, "DUBOB", "DUDAVE"} {
			n += len(h.fake.Messages(r))
		}
		return n
	}
	had := cards()

	night := h.asks("erin", "root@db01")
	asked := h.isHeld(h.notice(notify.Asked, night.Request.ID))
	h.isHeld(h.notice(notify.Digest, night.Request.ID, func(n *notify.Notice) { n.Case, n.Number, n.Text = nil, 17, "most often: alice" }))
	// Who already has a card sees at once what came of it, and it makes no noise.
	must(h.Approve(ctx, h.as("bob"), before.Request.ID, before.Request.Digest(), broker.Answer{Comment: "one of two"}))
	voted := h.isHeld(h.notice(notify.Voted, before.Request.ID, said("bob", "one of two")))
	h.shows(beforeCard, "more are needed")
	// Nor is who asked left waiting.
	must(h.Approve(ctx, h.as("dave"), before.Request.ID, before.Request.Digest(), broker.Answer{}))
	h.tell(notify.Approved, before.Request.ID)
	h.hears("erin", "approved")
	if n := cards(); n != had {
		t.Errorf("%d messages in quiet hours", n-had)
	}
	// What is urgent: who is on call asks, nobody has decided, break-glass.
	h.asked("alice", "root@db01")
	if n := cards(); n != had+3 {
		t.Errorf("%d messages about what somebody asks for who is on call", n-had)
	}
	h.tell(notify.Escalated, night.Request.ID)
	if n := cards(); n <= had+3 {
		t.Error("nobody hears that nobody has decided")
	}
	glass := must(h.Request(ctx, h.as("erin"), broker.Ask{Target: "db01", Account: "root", Reason: "INC-9", BreakGlass: true}))
	h.tell(notify.BreakGlass, glass.Request.ID)
	if n := len(h.fake.Messages(alerts)); n != 1 {
		t.Errorf("%d alarms", n)
	}

	h.clock.advance(3 * time.Hour)
	ok(t, h.app.Notify(soon(t), asked))
	ok(t, h.app.Notify(soon(t), voted))
	replies := slices.DeleteFunc(h.fake.Messages(room), func(m slacktest.Message) bool {
		return m.Thread != beforeCard.TS || !strings.Contains(string(m.Blocks), "one of two")
	})
	if len(replies) != 1 {
		t.Errorf("%d replies in the morning", len(replies))
	}
	if !slices.ContainsFunc(h.fake.Messages(room), func(m slacktest.Message) bool {
		return strings.Contains(string(m.Blocks), night.Request.ID) && strings.Contains(string(m.Blocks), "No decision in")
	}) {
		t.Error("nobody hears in the morning what was asked for in the night")
	}
}

// TestWatchLive: while a session runs, the card leads to it, and no longer; what was
// run is told when it is known. A program that opens sessions without end changes the
// card once a minute.
func TestWatchLive(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := context.Background()
		c, card := h.asked("alice", "root@db01")
		c = must(h.Approve(ctx, h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
		h.tell(notify.Approved, c.Request.ID)
		has := func() bool {
			for _, m := range h.fake.Messages(room) {
				if m.TS == card.TS {
					return strings.Contains(string(m.Blocks), "Watch live")
				}
			}
			return false
		}
		if has() {
			t.Error("there is something to watch before there is a session")
		}
		l := must(h.Open(ctx, h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"}))
		ok(t, h.Started(ctx, l))
		h.tell(notify.Started, c.Request.ID)
		now := h.shows(card, "Watch live")
		if !strings.Contains(string(now.Blocks), "https://gw.example.com/sessions/"+l.Session.ID) {
			t.Errorf("the card leads to %s", now.Blocks)
		}
		ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
		h.tell(notify.Used, c.Request.ID)
		if has() {
			t.Error("there is something to watch after the session")
		}
		sessions := []string{l.Session.ID}
		changes := h.fake.Calls("chat.update")
		var again notify.Notice
		for i := range 20 {
			l := must(h.Open(ctx, h.as("alice"), c.Grant.ID, broker.Opening{Kind: "exec", Command: "true"}))
			ok(t, h.Started(ctx, l))
			n := h.notice(notify.Used, c.Request.ID)
			if i == 0 {
				again = h.isHeld(n)
			} else {
				ok(t, h.app.Notify(soon(t), n))
			}
			ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
			sessions = append(sessions, l.Session.ID)
		}
		if n := h.fake.Calls("chat.update") - changes; n != 0 {
			t.Errorf("%d changes of cards by 20 sessions in a minute", n)
		}
		last := must(h.Open(ctx, h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"}))
		ok(t, h.Started(ctx, last))
		sessions = append(sessions, last.Session.ID)
		h.clock.advance(61 * time.Second)
		ok(t, h.app.Notify(soon(t), again))
		h.shows(card, "Watch live")

		must(h.Revoke(ctx, h.as("bob"), c.Request.ID, "enough"))
		ended := h.isHeld(h.notice(notify.Revoked, c.Request.ID, said("bob", "enough")))
		h.shows(card, "Revoked by bob")
		ok(t, h.Close(ctx, last, broker.Closing{Reason: "revoked"}))
		for _, id := range sessions {
			ok(t, h.db.SaveText(ctx, id, commands(2)))
		}
		ok(t, h.app.Notify(soon(t), ended))
		h.shows(card, "22 sessions · 44 commands")
		below := slices.DeleteFunc(h.fake.Messages(room), func(m slacktest.Message) bool { return m.Thread != card.TS })
		if len(below) != 1 {
			t.Errorf("%d replies of what was told twice", len(below))
		}
	})
}

// commands are texts of a recording, n of which were run.
func commands(n int) iter.Seq[view.Text] {
	return func(yield func(view.Text) bool) {
		for i := range n {
			if !yield(view.Text{In: view.Command, Text: fmt.Sprint("ls ", i)}) || !yield(view.Text{In: view.Output, Text: "nothing"}) {
				return
			}
		}
	}
}

// TestNeverCounted: what nobody counts is not waited for without end.
func TestNeverCounted(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	ctx := context.Background()
	c, card := h.asked("alice", "root@db01")
	c = must(h.Approve(ctx, h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
	l := must(h.Open(ctx, h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"}))
	ok(t, h.Started(ctx, l))
	ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
	must(h.Release(ctx, h.as("alice"), c.Request.ID))
	n := h.isHeld(h.notice(notify.Ended, c.Request.ID))
	h.clock.advance(6 * time.Minute)
	ok(t, h.app.Notify(soon(t), n))
	if now := h.shows(card, "1 session"); strings.Contains(string(now.Blocks), "command") {
		t.Errorf("the card counts what nobody counted: %s", now.Blocks)
	}
}

// TestDigest: the policy's own approvals stand in one message, with what people are
// called as text and no markup.
func TestDigest(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	n := notify.Notice{Position: 9, Kind: notify.Digest, At: h.clock.now(), Number: 17, Text: "most often: <!channel> *x* root@db01 9"}
	for range 2 {
		ok(t, h.app.Notify(soon(t), n))
	}
	list := h.fake.Messages(room)
	if len(list) != 1 || !strings.Contains(list[0].Text, "17 requests were approved by the policy alone") {
		t.Fatalf("told: %v", list)
	}
	for _, text := range slacktest.Marked(list[0]) {
		if strings.Contains(text, "channel") {
			t.Errorf("markup: %q", text)
		}
	}
}
