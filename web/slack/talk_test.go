package slack_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/web/slack"
	"github.com/drawbolt/drawbolt/web/slack/slacktest"
)

// picks chooses a line of the menu of a card.
func (h *house) picks(who string, m slacktest.Message, line string) {
	h.t.Helper()
	for _, b := range slacktest.Buttons(m) {
		if strings.HasPrefix(b.Option, line+" ") {
			h.presses(who, b)
			return
		}
	}
	h.t.Fatalf("there is no %q in the menu: %s", line, m.Blocks)
}

// fillsIn waits for the form of that name, and sends it.
func (h *house) fillsIn(who, form string, values map[string]any) {
	h.t.Helper()
	if err := h.fake.Until(soon(h.t), func() bool {
		var v struct {
			CallbackID string `json:"callback_id"`
		}
		return json.Unmarshal(h.fake.View(slackID(who)), &v) == nil && v.CallbackID == form
	}); err != nil {
		h.t.Fatalf("%s sees no form %q but %s", who, form, h.fake.View(slackID(who)))
	}
	h.does(must(h.fake.Submit(slackID(who), values)))
}

// direct waits for a message to somebody alone that holds the words.
func (h *house) direct(who, words string) slacktest.Message {
	h.t.Helper()
	var found slacktest.Message
	if err := h.fake.Until(soon(h.t), func() bool {
		for _, m := range h.fake.Messages("D" + slackID(who)) {
			if strings.Contains(m.Text+string(m.Blocks), words) {
				found = m
			}
		}
		return found.TS != ""
	}); err != nil {
		h.t.Fatalf("%s has no message with %q", who, words)
	}
	return found
}

func typed(text string) map[string]any { return map[string]any{"why": slacktest.Typed(text)} }

// about is whom a notice is for, and of which number.
func (h *house) about(who string, number int) func(*notify.Notice) {
	u := must(h.db.User(context.Background(), who))
	return func(n *notify.Notice) { n.For, n.Number = &u, number }
}

// TestQuestion: somebody asks before they decide, the requester answers from the
// message that they get, and all copies of the card show it.
func TestQuestion(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		c, card := h.asked("alice", "root@db01")
		id := c.Request.ID
		h.picks("bob", card, "question")
		h.fillsIn("bob", "question", typed("is the replica\n not enough? <!channel>"))
		h.shows(card, "bob asks: “is the replica not enough?")
		h.tell(notify.Questioned, id, h.about("alice", 1))
		h.tell(notify.Questioned, id, h.about("alice", 1)) // once more, after a crash
		question := h.direct("alice", "has a question about")
		for _, text := range append(slacktest.Marked(question), question.Text, slacktest.Marked(h.shows(card, "bob asks"))[0]) {
			if strings.Contains(text, "<!channel>") {
				t.Errorf("what bob wrote is markup: %s", text)
			}
		}
		h.presses("alice", button(t, question, "answer"))
		h.fillsIn("alice", "answer", typed("no, it lags"))
		h.shows(card, "alice answers: “no, it lags”")
		h.shows(question, "You have answered")
		h.tell(notify.Replied, id, h.about("bob", 1))
		h.direct("bob", "no, it lags")
		// The vote is for the same as before: the button of the first card still does.
		h.presses("bob", button(t, card, "approve"))
		h.shows(card, "Approved by")
		if n := len(h.fake.Messages("DUALICE")); n != 1 {
			t.Errorf("alice has %d messages", n)
		}
		if q := h.state(id).Request.Questions; len(q) != 1 || q[0].Answer != "no, it lags" || h.events("request.question", audit.Done) != 1 {
			t.Errorf("the questions are %+v", q)
		}
	})
}

// TestTalkRefused: questions, answers and hand-overs of whom they are not for change
// nothing, and say why.
func TestTalkRefused(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, card := h.asked("alice", "root@db01")
	id := c.Request.ID
	must(h.Ask(context.Background(), h.as("dave"), id, "why?"))
	h.tell(notify.Questioned, id, h.about("alice", 1))
	answer := button(t, h.direct("alice", "has a question"), "answer")

	h.picks("mallory", card, "question") // may not know of it
	h.hears("mallory", "DB-2102")
	h.picks("stranger", card, "handover")
	h.hears("stranger", "DB-6193")
	h.picks("alice", card, "question") // the form opens, and she asks herself
	h.fillsIn("alice", "question", typed("may I?"))
	h.hears("alice", "DB-")
	h.presses("bob", answer) // somebody else's
	h.fillsIn("bob", "answer", typed("never mind"))
	h.hears("bob", "DB-6323")

	foreign := h.fake.Press("UALICE", answer)
	foreign.Payload["user"].(map[string]any)["team_id"] = "T0EVIL"
	h.does(foreign)
	h.hears("alice", "DB-6194")
	for _, value := range []string{"", id, id + " 0", id + " 2", id + " -1", id + " 1 1", id + " 99999999999999999999", "REQ-nonsense 1"} {
		bad := answer
		bad.Value = value
		h.presses("alice", bad)
	}
	h.hears("alice", "DB-6199")

	// A form that was opened before the right was lost.
	h.picks("dave", card, "handover")
	h.fillsIn("dave", "handover", map[string]any{"to": slacktest.Chosen("alice"), "why": slacktest.Typed("")}) // who is not offered
	h.hears("dave", "DB-6327")
	h.setGroups("dave", "engineers")
	h.fillsIn("dave", "handover", map[string]any{"to": slacktest.Chosen("bob"), "why": slacktest.Typed("")})
	h.hears("dave", "DB-2102")
	r := h.state(id).Request
	if len(r.Questions) != 1 || !r.Questions[0].Open() || len(r.HandOvers) != 0 {
		t.Errorf("something counted: %+v, %+v", r.Questions, r.HandOvers)
	}

	// Answered, and pressed again; then it is over.
	h.presses("alice", answer)
	h.fillsIn("alice", "answer", typed("so"))
	h.shows(h.direct("alice", "has a question"), "You have answered")
	h.fillsIn("alice", "answer", typed("or so"))
	h.hears("alice", "DB-6325")
	must(h.Deny(context.Background(), h.as("bob"), id, "", "no"))
	h.picks("bob", card, "question")
	h.fillsIn("bob", "question", typed("too late?"))
	h.hears("bob", "DB-3001")
	if q := h.state(id).Request.Questions; len(q) != 1 || q[0].Answer != "so" {
		t.Errorf("the questions are %+v", q)
	}
}

// TestHandOver: the menu offers who else is asked, who gets a card of their own.
func TestHandOver(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		c, card := h.asked("alice", "root@db01")
		h.picks("bob", card, "handover")
		h.fillsIn("bob", "handover", map[string]any{"to": slacktest.Chosen("dave"), "why": slacktest.Typed("you know these disks")})
		h.shows(card, `UDAVE\u003e by bob`)
		for _, offered := range []string{`"value":"bob"`, `"value":"alice"`} {
			if strings.Contains(string(h.fake.View("UBOB")), offered) {
				t.Errorf("the form offers %s", offered)
			}
		}
		h.tell(notify.HandedOver, c.Request.ID, h.about("dave", 0))
		mine := h.direct("dave", "asks you to decide in their stead")
		if !strings.Contains(string(mine.Blocks), "you know these disks") {
			t.Errorf("dave reads %s", mine.Blocks)
		}
		h.presses("dave", button(t, mine, "approve"))
		h.shows(mine, "Approved by")
		h.shows(card, "Approved by")
	})
}

// TestOnIt: the first who is on it is named on the card of break-glass, which stays
// open; whoever took it is not.
func TestOnIt(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		ctx := context.Background()
		h.setRole("approvers", "approve", "deny", "revoke", "request.read", "breakglass.review")
		c := must(h.Request(ctx, h.as("erin"), broker.Ask{Target: "db01", Account: "root", Reason: "INC-1 down", BreakGlass: true}))
		h.tell(notify.BreakGlass, c.Request.ID)
		card := h.fake.Messages(alerts)[0]
		on := button(t, card, "ack")
		h.presses("erin", on)
		h.hears("erin", "DB-6250")
		h.presses("mallory", on)
		h.hears("mallory", "DB-6266")
		h.presses("bob", on)
		now := h.shows(card, "bob is on it")
		if _, is := slacktest.Find(now, "ack"); is {
			t.Error("somebody else could be first")
		}
		button(t, now, "revoke")
		h.presses("dave", on) // from an old copy
		h.hears("dave", "bob has been on it")
		h.presses("bob", on)
		h.hears("bob", "you have been on it")
		if n := h.events("breakglass.acknowledge", audit.Done); n != 1 {
			t.Errorf("%d times", n)
		}
	})
}

// setRole changes what the first rule of a role allows.
func (h *house) setRole(name string, actions ...string) {
	h.t.Helper()
	r := must(h.db.Role(context.Background(), name))
	r.Rules[0].Actions = actions
	must(h.SetRole(context.Background(), h.as("root"), r))
}

// detected has a rule find something in a session, and tells of it.
func (h *house) detected(l *broker.Live, rule, command string) slacktest.Message {
	h.t.Helper()
	ctx := context.Background()
	ok(h.t, h.Detected(ctx, l, broker.Detection{Level: access.DetectAlert, Rule: rule, Command: command, Sent: true}))
	position := must(h.db.AuditSize(ctx)) - 1
	x := must(h.SessionNow(ctx, l.Session.ID))
	number := 0
	for i, a := range x.Alarms {
		if a.Rule == rule {
			number = i + 1
		}
	}
	before := len(h.fake.Messages(alerts))
	for range 2 { // the second time it comes again, after a crash
		h.tell(notify.Unusual, x.RequestID, func(n *notify.Notice) {
			n.Position, n.Session, n.Number, n.Text, n.Rule = position, &x, number, command, rule
		})
	}
	list := h.fake.Messages(alerts)
	if len(list) != before+1 {
		h.t.Fatalf("%d messages, want one more than %d", len(list), before)
	}
	return list[before]
}

// TestExpected: what somebody says of an alarm is seen in all messages about it, and
// in no other; whoever's session it is says nothing.
func TestExpected(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		ctx := context.Background()
		h.setRole("watchers", "session.list", "session.moderate", "session.watch", "request.read")
		h.setGroups("gina", "watchers")
		h.setGroups("dave", "approvers", "watchers")
		c := h.asks("erin", "root@db01")
		c = must(h.Approve(ctx, h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
		l := must(h.Open(ctx, h.as("erin"), c.Grant.ID, broker.Opening{Kind: "shell"}))
		one := h.detected(l, "alert mysqldump", "mysqldump --all-databases")
		again := h.detected(l, "alert mysqldump", "mysqldump users <!channel>")
		other := h.detected(l, "alert rm", "rm -rf /var/lib")

		h.setGroups("erin", "engineers", "watchers") // even so
		for _, action := range []string{"ack", "expected"} {
			h.presses("bob", button(t, one, action)) // may not know of the session
			h.presses("stranger", button(t, one, action))
		}
		h.presses("erin", button(t, one, "ack"))
		h.hears("bob", "DB-2104")
		h.hears("stranger", "DB-6193")
		h.hears("erin", "DB-6331")
		for _, value := range []string{"", l.Session.ID, l.Session.ID + " 0", l.Session.ID + " -1", "SES-nonsense 1", c.Request.ID + " 1"} {
			bad := button(t, one, "expected")
			bad.Value = value
			h.presses("gina", bad)
		}
		h.hears("gina", "DB-6199")

		h.presses("dave", button(t, one, "ack"))
		h.shows(one, "dave is on it")
		h.shows(again, "dave is on it")
		h.presses("gina", button(t, one, "ack"))
		h.hears("gina", "dave has been on it")
		h.presses("erin", button(t, one, "expected"))
		h.fillsIn("erin", "expected", typed("my backup"))
		h.presses("gina", button(t, one, "expected"))
		h.fillsIn("gina", "expected", typed("the backup of CHG-7 <!here>"))
		for m, command := range map[*slacktest.Message]string{&one: "mysqldump --all-databases", &again: "mysqldump users"} {
			now := h.shows(*m, "the backup of CHG-7")
			if _, is := slacktest.Find(now, "expected"); is || !strings.Contains(string(now.Blocks), command) || !strings.Contains(string(now.Blocks), "says gina") {
				t.Errorf("it shows %s", now.Blocks)
			}
			for _, text := range append(slacktest.Marked(now), now.Text) {
				if strings.Contains(text, "<!") && !strings.Contains(text, "<!date") {
					t.Errorf("what somebody wrote is markup: %s", text)
				}
			}
		}
		button(t, h.shows(other, "rm -rf"), "expected") // as before
		button(t, h.shows(other, "rm -rf"), "ack")
		if x := must(h.SessionNow(ctx, l.Session.ID)); x.Alarms[0].ExpectedName != "gina" || x.Alarms[1].Expected() || h.events("session.expected", audit.Done) != 1 {
			t.Errorf("the alarms are %+v", x.Alarms)
		}
		h.presses("dave", button(t, again, "expected")) // from an old copy
		h.fillsIn("dave", "expected", typed("again"))
		h.hears("dave", "DB-6333")
		ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
	})
}
