package slack_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/web/slack"
	"github.com/drawbolt/drawbolt/web/slack/slacktest"
)

// onBoth runs the test with each way in which Slack reaches us.
func onBoth(t *testing.T, test func(t *testing.T, h *house)) {
	for _, mode := range []string{slack.SocketMode, slack.HTTPMode} {
		t.Run(mode, func(t *testing.T) { test(t, newHouse(t, mode)) })
	}
}

// TestApprove is one request from the question to the grant: the card is in the
// channel and with each decider who is known, one click grants, every copy shows
// it, and the requester hears.
func TestApprove(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		c, card := h.asked("alice", "root@db01")
		for _, words := range []string{"<@UALICE> asks for `root` on `db01`", "INC-42 disk full", "Approve 1h", "needs 1 of approvers", c.Request.ID} {
			if !strings.Contains(string(card.Blocks), strings.ReplaceAll(strings.ReplaceAll(words, "<", `\u003c`), ">", `\u003e`)) {
				t.Errorf("the card does not say %q: %s", words, card.Blocks)
			}
		}
		for _, name := range []string{"bob", "dave", "erin"} {
			if n := len(h.fake.Messages("D" + slackID(name))); n != 1 {
				t.Errorf("%s has %d messages", name, n)
			}
		}
		if n := len(h.fake.Messages("DUALICE")) + len(h.fake.Messages("DUUMA")); n != 0 {
			t.Errorf("%d messages to who does not decide, or is not linked", n)
		}
		h.tell(notify.Asked, c.Request.ID) // again, as after a crash
		if n := len(h.fake.Messages(room)); n != 1 {
			t.Fatalf("%d cards after the same notice twice", n)
		}
		mine := h.fake.Messages("DUBOB")[0]
		h.presses("bob", button(t, mine, "approve"))
		for _, m := range []slacktest.Message{card, mine, h.fake.Messages("DUDAVE")[0]} {
			now := h.shows(m, "Approved by")
			if _, is := slacktest.Find(now, "approve"); is {
				t.Error("a card of what is decided still has its button")
			}
			button(t, now, "revoke")
		}
		now := h.state(c.Request.ID)
		if now.Grant == nil || now.Request.Approvals[0].UserName != "bob" || now.Request.Approvals[0].Via != "slack" || now.Request.Approvals[0].Digest != c.Request.Digest() {
			t.Fatalf("after the click: %+v", now.Request)
		}
		h.tell(notify.Approved, c.Request.ID, said("bob", "read only please"))
		h.tell(notify.Approved, c.Request.ID)
		answer := h.hears("alice", "approved")
		if !strings.Contains(answer, "ssh root@db01") {
			t.Errorf("alice is told %s", answer)
		}
		h.said-- // the same notice as the first
		h.tell(notify.Approved, c.Request.ID, said("bob", "read only please"))
		if n := len(h.fake.Messages("DUALICE")); n != 1 {
			t.Errorf("alice has %d messages", n)
		}
	})
}

// TestReplies: what was written stands once below the card, however often the
// notice comes.
func TestReplies(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, card := h.asked("alice", "root@db01")
	must(h.Approve(context.Background(), h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{Comment: "read only please"}))
	n := h.notice(notify.Approved, c.Request.ID, said("bob", "read only please"))
	for range 3 {
		ok(t, h.app.Notify(soon(t), n))
	}
	var replies int
	for _, m := range h.fake.Messages(room) {
		if m.Thread == card.TS && strings.Contains(string(m.Blocks), "read only please") {
			replies++
		}
	}
	if replies != 1 {
		t.Errorf("%d replies", replies)
	}
	must(h.Revoke(context.Background(), h.as("dave"), c.Request.ID, "wrong host"))
	n = h.notice(notify.Revoked, c.Request.ID, said("dave", "wrong host"))
	for range 2 {
		ok(t, h.app.Notify(soon(t), n))
	}
	h.shows(card, "Revoked by dave")
	if list := h.fake.Messages("DUALICE"); len(list) != 2 || !strings.Contains(string(list[0].Blocks), "has taken") || list[1].Thread != list[0].TS {
		t.Errorf("alice has %v", list)
	}
}

// TestNarrow approves for less than was asked for, and with a note.
func TestNarrow(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, card := h.asked("alice", "root@db01")
	b := button(t, card, "more")
	if !strings.HasPrefix(b.Option, "short ") {
		t.Fatalf("the menu offers %q first", b.Option)
	}
	h.presses("bob", b)
	h.shows(card, "Approved by")
	if g := h.state(c.Request.ID).Grant; g == nil || g.Duration != 30*time.Minute {
		t.Fatalf("the grant is %+v", g)
	}

	c, card = h.asked("erin", "root@db02")
	for _, b := range slacktest.Buttons(card) {
		if strings.HasPrefix(b.Option, "note ") {
			h.presses("bob", b)
		}
	}
	h.fills("bob", map[string]any{"why": slacktest.Typed("only\nreads")})
	h.shows(card, "more are needed")
	if a := h.state(c.Request.ID).Request.Approvals; len(a) != 1 || a[0].Comment != "only reads" {
		t.Fatalf("the votes are %+v", a)
	}
	h.presses("dave", button(t, card, "approve"))
	h.shows(card, "Approved by")
}

// fills waits for a form and sends it.
func (h *house) fills(who string, values map[string]any) []byte {
	h.t.Helper()
	if err := h.fake.Until(soon(h.t), func() bool { return h.fake.View(slackID(who)) != nil }); err != nil {
		h.t.Fatalf("%s sees no form", who)
	}
	return h.does(must(h.fake.Submit(slackID(who), values)))
}

func TestDenyAndRevoke(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		c, card := h.asked("alice", "root@db01")
		h.presses("bob", button(t, card, "deny"))
		h.fills("bob", map[string]any{"why": slacktest.Typed("use the replica")})
		h.shows(card, "Denied by bob")
		h.shows(card, "use the replica")
		if r := h.state(c.Request.ID).Request; r.State != access.Denied || r.Note != "use the replica" {
			t.Fatalf("%+v", r)
		}
		h.tell(notify.Denied, c.Request.ID, said("bob", "use the replica"))
		h.hears("alice", "use the replica")

		c, card = h.asked("alice", "root@db01")
		h.presses("dave", button(t, card, "approve"))
		card = h.shows(card, "Approved by")
		h.presses("bob", button(t, card, "revoke"))
		if err := h.fake.Until(soon(t), func() bool { return strings.Contains(string(h.fake.View("UBOB")), "Revoke now?") }); err != nil {
			t.Fatal("no form to revoke with")
		}
		h.fills("bob", map[string]any{"why": slacktest.Typed("wrong host")})
		h.shows(card, "Revoked by bob")
		if reason, _, _ := h.state(c.Request.ID).Grant.EndAt(h.clock.now()); reason != access.EndRevoked {
			t.Errorf("the grant ended by %q", reason)
		}
	})
}

// TestStates shows what becomes of a card when things happen elsewhere, and by the
// clock alone.
func TestStates(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	ctx := context.Background()
	c, card := h.asked("alice", "root@db01")
	must(h.Cancel(ctx, h.as("alice"), c.Request.ID))
	h.tell(notify.Cancelled, c.Request.ID)
	h.shows(card, "Taken back")

	c, card = h.asked("alice", "root@db01")
	h.clock.advance(16 * time.Minute)
	h.tell(notify.Expired, c.Request.ID)
	h.shows(card, "No decision in 15m")
	h.hears("alice", "nobody decided")

	c, card = h.asked("alice", "root@db01")
	must(h.Approve(ctx, h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
	h.tell(notify.Approved, c.Request.ID)
	must(h.Release(ctx, h.as("alice"), c.Request.ID))
	h.tell(notify.Ended, c.Request.ID)
	h.shows(card, "Given back")

	c = must(h.Request(ctx, h.as("alice"), broker.Ask{Target: "db01", Account: "root", Reason: "INC-9 SSO down", BreakGlass: true}))
	h.tell(notify.BreakGlass, c.Request.ID)
	list := h.fake.Messages(alerts)
	if len(list) != 1 || !strings.Contains(list[0].Text, "BREAK-GLASS") || !strings.Contains(string(list[0].Blocks), "INC-9 SSO down") {
		t.Fatalf("the alarm is %v", list)
	}
	button(t, list[0], "revoke")
	h.tell(notify.ReviewReminder, c.Request.ID)
	if n := len(h.fake.Messages(alerts)); n != 2 {
		t.Errorf("%d messages after a reminder", n)
	}
}

// TestSecondFactor: where the policy wants a fresh second factor for the vote,
// there is no button that votes, and a vote that comes all the same is refused.
func TestSecondFactor(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, card := h.asked("alice", "root@vault01")
	if _, is := slacktest.Find(card, "approve"); is {
		t.Error("there is a button that votes")
	}
	if !strings.Contains(string(card.Blocks), "Review \\u0026 approve") || !strings.Contains(string(card.Blocks), "second factor") {
		t.Errorf("the card is %s", card.Blocks)
	}
	h.presses("gina", slacktest.Button{Room: room, TS: card.TS, Action: "approve", Value: c.Request.ID + " " + c.Request.Digest()})
	h.hears("gina", "https://gw.example.com/r/"+c.Request.ID)
	if h.state(c.Request.ID).Grant != nil {
		t.Error("it was granted")
	}
}

// TestAsk asks by the command and by the form.
func TestAsk(t *testing.T) {
	onBoth(t, func(t *testing.T, h *house) {
		ctx := context.Background()
		h.does(h.fake.Command("UALICE", "C0OTHER", "db02 for 30m INC-7 look at it"))
		if err := h.fake.Until(soon(t), func() bool { return len(h.fake.Messages("C0OTHER")) == 1 }); err != nil {
			t.Fatal("no card to confirm")
		}
		m := h.fake.Messages("C0OTHER")[0]
		if m.Only != "UALICE" {
			t.Errorf("others see it: %+v", m)
		}
		h.presses("alice", button(t, m, "send"))
		if err := h.fake.Until(soon(t), func() bool { return len(h.fake.Messages("C0OTHER")) == 2 }); err != nil {
			t.Fatal("no answer")
		}
		list := must(h.Requests(ctx, h.as("alice"), broker.Filter{Mine: true}))
		if len(list) != 1 || list[0].Request.Duration != 30*time.Minute || list[0].Request.Reason != "INC-7 look at it" || list[0].Request.Account != "root" || list[0].Request.Via != "slack" {
			t.Fatalf("asked: %+v", list)
		}

		h.does(h.fake.Command("UALICE", "C0OTHER", ""))
		if err := h.fake.Until(soon(t), func() bool { return h.fake.View("UALICE") != nil }); err != nil {
			t.Fatal("no form")
		}
		offered := string(h.does(h.fake.Suggest("UALICE", "DB0")))
		for _, want := range []string{"root@db01", "guest@db01", "root@db02"} {
			if !strings.Contains(offered, want) {
				t.Errorf("offered %s, without %s", offered, want)
			}
		}
		if strings.Contains(offered, "guest@db02") {
			t.Error("offered what alice may not ask for")
		}
		if got := string(h.does(h.fake.Suggest("UMALLORY", "db"))); got != `{"options":[]}` && got != `{"options":[]}`+"\n" {
			t.Errorf("mallory is offered %s", got)
		}
		// A refusal leaves what was typed.
		answer := h.fills("alice", map[string]any{"what": slacktest.Chosen("root@db01"), "for": slacktest.Chosen("8h"), "why": slacktest.Typed("INC-8 long")})
		if !strings.Contains(string(answer), "One moment") {
			t.Errorf("the form is answered %s", answer)
		}
		sees := func(words string) {
			t.Helper()
			if err := h.fake.Until(soon(t), func() bool { return strings.Contains(string(h.fake.View("UALICE")), words) }); err != nil {
				t.Fatalf("alice does not see %q: %s", words, h.fake.View("UALICE"))
			}
		}
		sees("DB-2103")
		sees("INC-8 long")
		h.fills("alice", map[string]any{"what": slacktest.Chosen("root@db01"), "for": slacktest.Chosen("1h"), "why": slacktest.Typed("INC-8 long")})
		sees("waits for 1 of approvers")
		list = must(h.Requests(ctx, h.as("alice"), broker.Filter{Mine: true}))
		if len(list) != 2 || list[0].Request.Reason != "INC-8 long" {
			t.Fatalf("asked: %+v", list)
		}
	})
}

// TestInboxAndHome: what waits, what one has, and giving it back.
func TestInboxAndHome(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	c, _ := h.asked("alice", "root@db01")
	h.does(h.fake.Command("UBOB", room, "inbox"))
	h.hears("bob", c.Request.ID)
	h.does(h.fake.OpenHome("UBOB"))
	home := func(who, words string) {
		t.Helper()
		if err := h.fake.Until(soon(t), func() bool { return strings.Contains(string(h.fake.Home(slackID(who))), words) }); err != nil {
			t.Fatalf("%s does not see %q at home: %s", who, words, h.fake.Home(slackID(who)))
		}
	}
	home("bob", c.Request.ID)
	must(h.Approve(context.Background(), h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
	h.does(h.fake.OpenHome("UALICE"))
	home("alice", "not used yet")
	h.does(h.fake.OpenHome("UUMA")) // is not linked: told at home, and by no message
	home("uma", "/access link")
	if n := len(h.fake.Messages("DUUMA")); n != 0 {
		t.Errorf("%d messages to who has only looked", n)
	}
	h.does(h.fake.Command("UALICE", room, "mine"))
	h.hears("alice", "not used yet")
	h.does(h.fake.Command("UALICE", room, "end"))
	h.hears("alice", "is given back")
	if reason, _, over := h.state(c.Request.ID).Grant.EndAt(h.clock.now()); !over || reason != access.EndReleased {
		t.Errorf("the grant: %v %v", reason, over)
	}
	h.does(h.fake.Command("UALICE", room, "help"))
	h.hears("alice", "/access inbox")
}

// TestLink: an account becomes somebody's by a code that they alone were shown
// and a login of their own.
func TestLink(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	ctx := context.Background()
	c, card := h.asked("alice", "root@db01")
	h.presses("uma", button(t, card, "approve"))
	h.hears("uma", "DB-6193")
	h.does(h.fake.Command("UUMA", room, "link"))
	said := h.hears("uma", "https://gw.example.com/link?code=")
	_, code, _ := strings.Cut(said, "/link?code=")
	code, _, _ = strings.Cut(code, `"`)
	who := must(h.FindLink(ctx, h.as("uma"), code))
	if who.ID != "UUMA" || who.Team != team || who.Name != "uma uma@example.com" {
		t.Errorf("the code is of %+v", who)
	}
	must(h.ConfirmLink(ctx, h.as("uma"), code))
	if _, err := h.ConfirmLink(ctx, h.as("bob"), code); !isCode(err, "DB-6190") {
		t.Errorf("the code a second time: %v", err)
	}
	h.presses("uma", button(t, card, "approve"))
	h.shows(card, "Approved by")
	// A lock takes the account away at once, and for good.
	ok(t, h.LockUser(ctx, h.as("root"), "uma", true, "left"))
	ok(t, h.LockUser(ctx, h.as("root"), "uma", false, ""))
	h.does(h.fake.Command("UUMA", room, "inbox"))
	if err := h.fake.Until(soon(t), func() bool {
		n := 0
		for _, m := range h.fake.Messages(room) {
			if m.Only == "UUMA" && strings.Contains(string(m.Blocks), "DB-6193") {
				n++
			}
		}
		return n == 2
	}); err != nil {
		t.Error("uma still counts after the lock")
	}
	if n := h.events("link.add", audit.Done); n != 1 {
		t.Errorf("%d events of links", n)
	}
	_ = c
}

// TestCheck says of each thing that is missing what to do.
func TestCheck(t *testing.T) {
	h := newHouse(t, slack.SocketMode)
	steps := h.app.Check(soon(t))
	if access.AnyFailed(steps) || len(steps) != 6 {
		t.Fatalf("%+v", steps)
	}
	h.fake.Set(func(s *slacktest.Server) { s.Scopes = []string{"chat:write"} })
	failed := map[string]bool{}
	for _, s := range h.app.Check(soon(t)) {
		if s.State == access.CheckFailed {
			failed[s.Step] = s.Next != ""
		}
	}
	if !failed[slack.StepScopes] || !failed[slack.StepPeople] || failed[slack.StepChannel] {
		t.Errorf("failed: %v", failed)
	}
	h.fake.Set(func(s *slacktest.Server) { s.BotToken = "xoxb-other" })
	if steps := h.app.Check(soon(t)); len(steps) != 1 || steps[0].Step != slack.StepBot || steps[0].State != access.CheckFailed {
		t.Errorf("%+v", steps)
	}
}
