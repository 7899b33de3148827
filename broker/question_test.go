package broker_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// asks asks a question about a request, and answers answers one.
func (h *house) asks(who string, c broker.Case, text string) error {
	_, err := h.Ask(h.t.Context(), h.as(who), c.Request.ID, text)
	return err
}

func (h *house) answers(who string, c broker.Case, n int, text string) error {
	_, err := h.Answer(h.t.Context(), h.as(who), c.Request.ID, n, text)
	return err
}

// A question leaves the request and its votes as they are, and who waits for it
// hears of it at once.
func TestQuestion(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.start()
		c := h.ask("alice", "root@db02")
		c, err := h.vote("bob", c)
		ok(t, err)
		digest, n := c.Request.Digest(), len(h.events())
		heard := make(chan broker.Case, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
			defer cancel()
			c, _ := h.Await(ctx, h.as("alice"), c.Request.ID, c.Version())
			heard <- c
		}()
		ok(t, h.asks("dave", c, "which disk?"))
		if c = <-heard; len(c.Request.Questions) != 1 || c.Request.Questions[0].Text != "which disk?" || c.Request.Questions[0].ByName != "dave" || !c.Request.Questions[0].Open() {
			t.Errorf("alice heard %+v", c.Request.Questions)
		}
		ok(t, h.asks("bob", c, "and why today?")) // who has voted may ask, too
		wantCode(t, h.answers("alice", c, 0, "sdb"), "DB-6324")
		ok(t, h.answers("alice", c, 1, "sdb"))
		ok(t, h.answers("alice", c, 0, "it fills up by tonight"))
		c = h.look("dave", c)
		if q := c.Request.Questions; len(q) != 2 || q[0].Answer != "sdb" || q[1].Answer != "it fills up by tonight" || q[1].Open() {
			t.Errorf("the thread is %+v", q)
		}
		if c.Request.Digest() != digest || c.Request.State != access.Pending || len(c.Request.Approvals) != 1 {
			t.Errorf("the questions have changed the request: %+v", c.Request)
		}
		if told := h.told(n); !slices.Equal(told, []string{"request.question done", "request.question done", "request.answer refused", "request.answer done", "request.answer done"}) {
			t.Errorf("told %v", told)
		}
		if e := h.events()[n]; e.Reason != "which disk?" || e.Details["for"] != h.user("alice").ID || e.Details["question"] != "1" {
			t.Errorf("the event is %+v", e)
		}
		// The vote still counts: one more is enough.
		c, err = h.vote("dave", c)
		ok(t, err)
		if c.Request.State != access.Approved {
			t.Errorf("it is %s", c.Request.State)
		}
		wantCode(t, h.asks("erin", c, "and now?"), "DB-3001")
		wantCode(t, h.answers("alice", c, 1, "again"), "DB-3001")
		s, err := h.Story(t.Context(), h.as("alice"), c.Request.ID)
		ok(t, err)
		if n := len(s.Steps); n < 6 || s.Steps[2].Action != "request.question" || s.Steps[2].Reason != "which disk?" {
			t.Errorf("the story is %+v", s.Steps)
		}
	})
}

// Who may not decide asks nothing, nobody answers for somebody else, and nobody is
// flooded.
func TestQuestionAttacks(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c := h.ask("alice", "root@db02")
		own := h.ask("erin", "root@db02") // who could approve what others ask for
		want(t, h.asks("mallory", c, "who is this?"), access.ErrNotFound)
		want(t, h.asks("carol", c, "why?"), access.ErrDenied) // may read it and no more
		want(t, h.asks("alice", c, "why?"), access.ErrDenied)
		want(t, h.asks("erin", own, "why?"), access.ErrDenied)
		want(t, h.asks("ci", c, "why?"), access.ErrDenied)
		for _, text := range []string{"", "  ", "a\x1b[2Jb", "line\nline", "\u202Egnirts", "a\u200bb", "\xff", strings.Repeat("a", access.MaxQuestion+1)} {
			want(t, h.asks("bob", c, text), access.ErrInvalid)
		}
		wantCode(t, h.answers("alice", c, 0, "nobody asked"), "DB-6324")
		ok(t, h.asks("bob", c, "which disk? <!channel> *b* `c`"))
		for _, n := range []int{-1, 2, 1 << 30} {
			wantCode(t, h.answers("alice", c, n, "sdb"), "DB-6324")
		}
		wantCode(t, h.asks("bob", c, "hello?"), "DB-6322")
		for _, who := range []string{"bob", "dave", "carol"} {
			want(t, h.answers(who, c, 1, "never mind"), access.ErrDenied)
		}
		want(t, h.answers("mallory", c, 1, "x"), access.ErrNotFound)
		for _, text := range []string{"", "a\tb", "\u202Egnirts"} {
			want(t, h.answers("alice", c, 1, text), access.ErrInvalid)
		}
		ok(t, h.answers("alice", c, 1, "sdb"))
		wantCode(t, h.answers("alice", c, 1, "sdc"), "DB-6325") // what was said stays
		// Flood: at most ten, whoever asks.
		for i := 1; i < 10; i++ {
			ok(t, h.asks("bob", c, "and?"))
			ok(t, h.answers("alice", c, 0, "wait"))
		}
		wantCode(t, h.asks("dave", c, "one more"), "DB-6321")
		// Who has lost the right asks no more.
		lost := h.ask("alice", "root@db01")
		h.setGroups("dave", "others")
		want(t, h.asks("dave", lost, "why?"), access.ErrNotFound)
		h.setUser("bob", func(u *access.User) { u.Locked = true })
		want(t, h.asks("bob", lost, "why?"), access.ErrNotFound)
		// Nor does anybody of one that is over.
		h.clock.advance(24 * time.Hour)
		wantCode(t, h.asks("erin", lost, "why?"), "DB-3002")
		if q := h.look("alice", c).Request.Questions; len(q) != 10 || q[0].Answer != "sdb" {
			t.Errorf("%d questions, the first %+v", len(q), q[0])
		}
	})
}

func (h *house) hands(who string, c broker.Case, to, note string) error {
	_, err := h.HandOver(h.t.Context(), h.as(who), c.Request.ID, to, note)
	return err
}

// A hand-over calls somebody who could decide before; nobody gains or loses a right.
func TestHandOver(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		c := h.ask("alice", "root@db02")
		before := h.look("dave", c)
		ok(t, h.hands("bob", c, "dave", "he knows the disks"))
		now := h.look("dave", c)
		if now.HandedBy != "bob" || !now.MayDecide || !slices.Equal(now.Waiting, before.Waiting) || now.Request.Digest() != c.Request.Digest() {
			t.Errorf("dave sees %+v", now)
		}
		if c := h.look("bob", c); !c.MayDecide || c.HandedBy != "" {
			t.Errorf("bob sees %+v", c)
		}
		inbox, err := h.Requests(ctx, h.as("dave"), broker.Filter{Inbox: true})
		if err != nil || len(inbox) != 1 || inbox[0].HandedBy != "bob" || inbox[0].HandedNote != "he knows the disks" {
			t.Errorf("dave's inbox: %+v, %v", inbox, err)
		}
		last := h.events()[len(h.events())-1]
		if last.Action != "request.handover" || last.Details["for"] != h.user("dave").ID || last.Reason != "he knows the disks" {
			t.Errorf("the event is %+v", last)
		}
		wantCode(t, h.hands("bob", c, "dave", ""), "DB-6328")
		wantCode(t, h.hands("erin", c, "dave", ""), "DB-6328")
		for _, who := range []string{"bob", "dave"} { // both votes count
			c, err = h.vote(who, h.look(who, c))
			ok(t, err)
		}
		if c.Request.State != access.Approved {
			t.Errorf("it is %s", c.Request.State)
		}
		wantCode(t, h.hands("erin", c, "bob", ""), "DB-3001")

		// To who stands for somebody: it is the right that they have.
		other := h.ask("alice", "root@db01")
		h.away("erin", "mallory", time.Hour)
		ok(t, h.hands("bob", other, "mallory", ""))
		if c := h.look("mallory", other); c.HandedBy != "bob" || c.InPlaceOf != "erin" || !c.MayDecide {
			t.Errorf("mallory sees %+v", c)
		}
	})
}

// Nothing is handed to who asks, to their bots, to who has no right, or by them.
func TestHandOverAttacks(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c, own := h.ask("alice", "root@db02"), h.ask("erin", "root@db02")
		h.setUser("ci", func(u *access.User) { u.OwnerID = h.user("dave").ID })
		bots := h.ask("ci", "root@db02")
		n := len(h.events())
		// The requester, an approver in other things, finds nobody for what is their own.
		want(t, h.hands("erin", own, "bob", "please"), access.ErrDenied)
		want(t, h.hands("alice", c, "bob", "please"), access.ErrDenied)
		want(t, h.hands("carol", c, "bob", ""), access.ErrDenied)
		want(t, h.hands("ci", c, "bob", ""), access.ErrDenied)
		want(t, h.hands("mallory", c, "bob", ""), access.ErrNotFound)
		for _, to := range []string{"erin", "ci", "alice", "carol", "root", "mallory", "nobody", "", "USR-nonsense", "a\x1b[2Jb"} {
			wantCode(t, h.hands("bob", own, to, ""), "DB-6327")
		}
		wantCode(t, h.hands("bob", bots, "dave", ""), "DB-6327") // whose bot asks
		wantCode(t, h.hands("bob", bots, "ci", ""), "DB-6327")
		want(t, h.hands("bob", c, "bob", ""), access.ErrInvalid)
		for _, note := range []string{"a\x1b[2Jb", "\u202Egnirts", strings.Repeat("a", access.MaxQuestion+1)} {
			want(t, h.hands("bob", c, "dave", note), access.ErrInvalid)
		}
		for _, e := range h.events()[n:] {
			if e.Outcome != "refused" {
				t.Errorf("it was done: %+v", e)
			}
		}
		// Who has voted is not called to vote.
		_, err := h.vote("dave", c)
		ok(t, err)
		wantCode(t, h.hands("bob", c, "dave", ""), "DB-6327")
		// Who loses the right after that is called in vain.
		ok(t, h.hands("bob", c, "erin", ""))
		h.setGroups("erin", "engineers")
		list, err := h.Requests(t.Context(), h.as("erin"), broker.Filter{Inbox: true})
		if err != nil || len(list) != 0 {
			t.Errorf("erin's inbox: %+v, %v", list, err)
		}
		_, err = h.vote("erin", c)
		want(t, err, access.ErrNotFound)
		// A step that is not asked yet is not called.
		h.needs(access.Need{Count: 1, Groups: []string{"approvers"}}, access.Need{Count: 1, Groups: []string{"custodians"}, Step: 1})
		h.voters("custodians")
		steps := h.ask("alice", "root@db01")
		wantCode(t, h.hands("bob", steps, "kim", ""), "DB-6327")
	})
}
