package slack_test

import (
	"context"
	"net/netip"
	"slices"
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

// choose returns what the menus of a message offer under that name.
func choose(t testing.TB, m slacktest.Message, item string) slacktest.Button {
	t.Helper()
	for _, b := range slacktest.Buttons(m) {
		if strings.HasPrefix(b.Option, item+" ") {
			return b
		}
	}
	t.Fatalf("no menu offers %q: %s", item, m.Blocks)
	return slacktest.Button{}
}

// asksFrom is asks from an address.
func (h *house) asksFrom(who, what, address string) (broker.Case, slacktest.Message) {
	h.t.Helper()
	account, target, _ := strings.Cut(what, "@")
	by := h.as(who)
	by.Source = netip.MustParseAddr(address)
	c := must(h.Request(context.Background(), by, broker.Ask{Target: target, Account: account, Reason: "INC-42 disk full"}))
	if len(c.Request.Needs) == 0 {
		return c, slacktest.Message{}
	}
	h.tell(notify.Asked, c.Request.ID)
	return c, h.card()
}

// TestAskerIsKnown: a card says whether who asks is on call, and whether they were
// ever let in from where they ask. Nobody makes a network known by asking for
// something small, or for something that is refused, first.
func TestAskerIsKnown(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := context.Background()
		const fresh = ":warning: new for"
		says := func(m slacktest.Message, words string, want bool) {
			t.Helper()
			if strings.Contains(string(m.Blocks), words) != want {
				t.Errorf("a card that says %q: %v, want %v: %s", words, !want, want, m.Blocks)
			}
		}
		c, card := h.asksFrom("alice", "root@db01", "203.0.113.7")
		says(card, fresh+" alice", true) // nothing is known of her yet
		says(card, "yes, db", true)
		must(h.Approve(ctx, h.as("bob"), c.Request.ID, c.Request.Digest(), broker.Answer{}))
		must(h.Release(ctx, h.as("alice"), c.Request.ID))
		c, card = h.asksFrom("alice", "root@db02", "203.0.113.7") // within the day
		says(card, fresh, true)
		must(h.Cancel(ctx, h.as("alice"), c.Request.ID))
		// Small things, and refused ones, from another network.
		h.asksFrom("alice", "guest@db01", "198.51.100.9")
		c, _ = h.asksFrom("alice", "root@db02", "2001:db8:7::1")
		must(h.Deny(ctx, h.as("bob"), c.Request.ID, "", "not you"))
		c, card = h.asksFrom("alice", "root@db02", "198.51.100.9")
		says(card, fresh, true)
		must(h.Cancel(ctx, h.as("alice"), c.Request.ID))

		h.clock.advance(25 * time.Hour)
		c, card = h.asksFrom("alice", "root@db01", "203.0.113.200") // the same network
		says(card, fresh, false)
		must(h.Cancel(ctx, h.as("alice"), c.Request.ID))
		_, card = h.asksFrom("alice", "root@db02", "2001:db8:7::1") // was denied
		says(card, fresh, true)
		_, card = h.asksFrom("erin", "root@db01", "203.0.113.200") // known for another
		says(card, fresh+" erin", true)
		says(card, "*On call*\\nno", true)
	})
}

// TestLess approves less than was asked for, from the menu: and the grant carries it.
func TestLess(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c, card := h.asked("alice", "logs@db01")
		h.presses("bob", choose(t, card, "readonly"))
		h.shows(card, "only to fetch files")
		g := h.state(c.Request.ID).Grant
		if g == nil || g.Rules.Shell || g.Rules.Exec || !slices.Equal(g.Rules.Files, []string{"download /var/log/**"}) {
			t.Fatalf("the grant is %+v", g)
		}
		h.tell(notify.Approved, c.Request.ID)
		h.hears("alice", "only to fetch files")

		c, card = h.asked("alice", "root@db01")
		for _, b := range slacktest.Buttons(card) {
			if strings.HasPrefix(b.Option, "readonly ") {
				t.Error("a card offers to leave what is not there")
			}
		}
		// Who writes the value themselves does not widen it: nothing would be left.
		forged := choose(t, card, "watched")
		forged.Option = "readonly " + c.Request.ID + " " + c.Request.Digest()
		h.presses("bob", forged)
		h.hears("bob", "DB-6136")
		// Neither their own, nor what was shown before it was edited.
		own, ownCard := h.asked("erin", "root@db01")
		h.presses("erin", choose(t, ownCard, "watched"))
		h.hears("erin", "own request")
		stale := choose(t, card, "watched")
		stale.Option = "watched " + c.Request.ID + " " + own.Request.Digest()
		h.presses("dave", stale)
		h.hears("dave", "DB-3004")
		h.presses("bob", choose(t, card, "watched"))
		h.shows(card, "with four eyes")
		if g := h.state(c.Request.ID).Grant; g == nil || !g.Rules.FourEyes || !g.Rules.Shell {
			t.Fatalf("the grant is %+v", g)
		}
		if n := h.events("request.approve", audit.Done); n != 2 {
			t.Errorf("%d votes counted, two were meant", n)
		}
	})
}

// TestNobodyDecided: a card of what nobody decided on names who could have, and who
// was asked after them.
func TestNobodyDecided(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.setGroups("gina", "leads")
		c, card := h.asked("alice", "logs@db01")
		h.clock.advance(16 * time.Minute)
		h.tell(notify.Expired, c.Request.ID)
		now := h.shows(card, "No decision in 15m")
		text := string(now.Blocks)
		for _, want := range []string{"UBOB", "UDAVE", "UERIN", "UGINA", "uma", "leads too after 5m"} {
			if !strings.Contains(text, want) {
				t.Errorf("the card does not name %s: %s", want, text)
			}
		}
		if strings.Contains(text, "mallory") {
			t.Errorf("the card names who could not decide: %s", text)
		}
	})
}

// TestGlassCard: the card of break-glass says how surely it was they, until when
// somebody else looks at it, and what came of that.
func TestGlassCard(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := context.Background()
		h.setGroups("gina", "reviewers")
		ok(t, h.db.Change(ctx, addRole(access.Role{Name: "reviewers", Groups: []string{"reviewers"}, Rules: []access.Rule{{ID: "glass", Actions: []string{"request.read", "breakglass.review"}}}})))
		by := h.as("alice")
		by.MFAAt = h.clock.now().Add(-time.Minute)
		c := must(h.Request(ctx, by, broker.Ask{Target: "db01", Account: "root", Reason: "INC-9 SSO down", BreakGlass: true}))
		h.tell(notify.BreakGlass, c.Request.ID)
		card := h.fake.Messages(alerts)[0]
		for _, want := range []string{"second factor shown 1m", ":lock: review due"} {
			if !strings.Contains(string(card.Blocks), want) {
				t.Errorf("the card does not say %q: %s", want, card.Blocks)
			}
		}
		must(h.Release(ctx, h.as("alice"), c.Request.ID))
		h.tell(notify.Ended, c.Request.ID)
		button(t, h.shows(card, ":rotating_light: break-glass"), "review")
		h.clock.advance(25 * time.Hour)
		h.tell(notify.ReviewReminder, c.Request.ID)
		h.shows(card, "*review overdue*")
		must(h.ReviewGlass(ctx, h.as("gina"), c.Request.ID, access.NotJustified, "SSO was up"))
		h.tell(notify.Reviewed, c.Request.ID, said("gina", "SSO was up"))
		now := h.shows(card, "reviewed by gina: not justified")
		if _, is := slacktest.Find(now, "review"); is {
			t.Error("what was reviewed still asks for a review")
		}

		bare := must(h.Request(ctx, h.as("erin"), broker.Ask{Target: "db01", Account: "root", Reason: "INC-10", BreakGlass: true}))
		h.tell(notify.BreakGlass, bare.Request.ID)
		list := h.fake.Messages(alerts)
		if !strings.Contains(string(list[len(list)-1].Blocks), "*without a second factor*") {
			t.Errorf("the card is %s", list[len(list)-1].Blocks)
		}
	})
}

// TestReplaysCountForNobody: who repeats what somebody did proves nothing, and so
// takes from nobody what they may do themselves.
func TestReplaysCountForNobody(t *testing.T) {
	h := newHouse(t, slack.HTTPMode)
	c, card := h.asked("alice", "root@db01")
	contentType, body, err := h.fake.Press("UBOB", slacktest.Button{Room: room, TS: card.TS, Action: "ack", Value: "nothing"}).Form()
	ok(t, err)
	header := slacktest.Sign(h.fake.SigningSecret, time.Now(), body)
	post(t, h.app, header, contentType, body)
	before := must(h.db.AuditSize(context.Background()))
	for i := range 500 {
		if code, said := post(t, h.app, header, contentType, body); code != 401 || !strings.Contains(said, "DB-6195") {
			t.Fatalf("replay %d: %d %s", i, code, said)
		}
	}
	if n := must(h.db.AuditSize(context.Background())) - before; n != 0 {
		t.Errorf("%d events of replays", n)
	}
	h.presses("bob", button(t, card, "approve"))
	h.shows(card, "Approved by")
	if h.state(c.Request.ID).Grant == nil {
		t.Error("bob could not approve any more")
	}
}
