package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

func slackAccount(id string) access.ExternalAccount {
	return access.ExternalAccount{Kind: "slack", Team: "T1", ID: id, Name: "somebody"}
}

// TestLink: an account becomes somebody's by a code that is good once and not for
// long, and stops being theirs at once.
func TestLink(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, a := t.Context(), slackAccount("UALICE")
		if _, err := h.Linked(ctx, a); !errors.Is(err, access.ErrUnauthenticated) {
			t.Errorf("nobody's account: %v", err)
		}
		first, err := h.BeginLink(ctx, a)
		ok(t, err)
		code, err := h.BeginLink(ctx, a)
		ok(t, err)
		_, err = h.ConfirmLink(ctx, h.as("alice"), first) // another has taken its place
		wantCode(t, err, "DB-6190")
		who, err := h.FindLink(ctx, h.as("alice"), code)
		ok(t, err)
		if who != a {
			t.Errorf("the code is of %+v", who)
		}
		h.clock.advance(access.LinkTTL + time.Second)
		_, err = h.ConfirmLink(ctx, h.as("alice"), code)
		wantCode(t, err, "DB-6190")

		code, err = h.BeginLink(ctx, a)
		ok(t, err)
		_, err = h.ConfirmLink(ctx, h.as("alice"), code)
		ok(t, err)
		by, err := h.Linked(ctx, a)
		ok(t, err)
		if by.User.Name != "alice" || by.Via != "slack" || !by.MFAAt.IsZero() || by.Source.IsValid() {
			t.Errorf("linked is %+v", by)
		}
		// It is hers, whoever confirms another code of it.
		code, err = h.BeginLink(ctx, a)
		ok(t, err)
		_, err = h.ConfirmLink(ctx, h.as("mallory"), code)
		wantCode(t, err, "DB-6191")
		if _, err := h.Linked(ctx, access.ExternalAccount{Kind: "slack", Team: "T2", ID: a.ID}); err == nil {
			t.Error("the same id in another workspace is hers too")
		}
		list, err := h.Links(ctx, h.as("alice"), "")
		ok(t, err)
		if len(list) != 1 || list[0].ID != "UALICE" {
			t.Errorf("links: %+v", list)
		}
		want(t, h.Unlink(ctx, h.as("mallory"), "alice", a), access.ErrDenied)
		wantCode(t, h.Unlink(ctx, h.as("bob"), "", a), "DB-6192")
		ok(t, h.Unlink(ctx, h.as("root"), "alice", a))
		if _, err := h.Linked(ctx, a); err == nil {
			t.Error("still linked")
		}

		// A lock takes it away for good.
		code, err = h.BeginLink(ctx, a)
		ok(t, err)
		_, err = h.ConfirmLink(ctx, h.as("alice"), code)
		ok(t, err)
		ok(t, h.LockUser(ctx, h.as("root"), "alice", true, "laptop lost"))
		if _, err := h.Linked(ctx, a); err == nil {
			t.Error("linked while locked")
		}
		ok(t, h.LockUser(ctx, h.as("root"), "alice", false, ""))
		if _, err := h.Linked(ctx, a); err == nil {
			t.Error("linked again after the lock")
		}
		ok(t, h.db.PruneLinks(ctx, h.clock.now().Add(time.Hour)))
	})
}

// TestLinkOnce: of many who confirm one code at once, one does.
func TestLinkOnce(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		code, err := h.BeginLink(t.Context(), slackAccount("U1"))
		ok(t, err)
		var done atomic.Int64
		var all sync.WaitGroup
		for _, name := range []string{"alice", "bob", "dave", "erin", "mallory", "carol", "kim", "lee"} {
			by := h.as(name)
			all.Go(func() {
				if _, err := h.ConfirmLink(t.Context(), by, code); err == nil {
					done.Add(1)
				} else if e, is := errors.AsType[*access.Error](err); !is || e.Code != "DB-6190" {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		all.Wait()
		if done.Load() != 1 {
			t.Errorf("%d have it", done.Load())
		}
	})
}

// TestLinkLimits: names and numbers from outside are bounded.
func TestLinkLimits(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	for _, a := range []access.ExternalAccount{
		{}, {Kind: "slack", Team: "T1"}, {Kind: "SLACK", Team: "T1", ID: "U1"}, {Kind: "slack", Team: "T 1", ID: "U1"}, {Kind: "slack", Team: "T1", ID: "U1", Name: "a\u202eb"},
	} {
		if _, err := h.BeginLink(t.Context(), a); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%+v: %v", a, err)
		}
	}
	for i := range access.MaxLinks + 1 {
		code, err := h.BeginLink(t.Context(), slackAccount(fmt.Sprint("U", i)))
		ok(t, err)
		_, err = h.ConfirmLink(t.Context(), h.as("alice"), code)
		if i < access.MaxLinks {
			ok(t, err)
		} else {
			wantCode(t, err, "DB-6360")
		}
	}
	var ids []string
	for range 500 {
		ids = append(ids, access.NewID(access.UserPrefix))
	}
	ids = append(ids, h.user("alice").ID)
	links, err := h.LinksTo(t.Context(), "slack", "T1", ids)
	ok(t, err)
	if len(links) != access.MaxLinks || slices.ContainsFunc(links, func(l access.Link) bool { return l.UserID != h.user("alice").ID }) {
		t.Errorf("%d links", len(links))
	}
}

// TestOnce: what has counted counts no more, on either server, until it is
// forgotten.
func TestOnce(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		two := h
		if h.url[:4] == "post" {
			two = h.another("node2")
		}
		var firsts atomic.Int64
		var all sync.WaitGroup
		for i := range 20 {
			db := h.db
			if i%2 == 1 {
				db = two.db
			}
			all.Go(func() {
				first, err := db.Once(t.Context(), "abc", h.clock.now().Add(time.Minute))
				if err != nil {
					t.Error(err)
				}
				if first {
					firsts.Add(1)
				}
			})
		}
		all.Wait()
		if firsts.Load() != 1 {
			t.Errorf("it counted %d times", firsts.Load())
		}
		ok(t, h.db.PruneLinks(t.Context(), h.clock.now()))
		if first, err := h.db.Once(t.Context(), "abc", h.clock.now()); err != nil || first {
			t.Errorf("forgotten too early: %v", err)
		}
	})
}

// TestVoteTakes: a button is shown where a vote without a second factor may count.
func TestVoteTakes(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	c := h.ask("alice", "root@db01")
	takes := func(c broker.Case) bool {
		t.Helper()
		r := c.Request
		yes, err := h.VoteTakes(t.Context(), "slack", &r)
		ok(t, err)
		return yes
	}
	if !takes(c) {
		t.Error("nobody could approve by a button")
	}
	role, err := h.FindRole(t.Context(), h.as("root"), "approvers")
	ok(t, err)
	role.Rules[0].MFAWithin = time.Minute
	_, err = h.SetRole(t.Context(), h.as("root"), role)
	ok(t, err)
	if takes(c) {
		t.Error("a vote that needs a second factor is one click")
	}
	if takes(h.approveFresh("bob", c)) {
		t.Error("there is a button on what is decided")
	}
}

// approveFresh approves with a second factor.
func (h *house) approveFresh(who string, c broker.Case) broker.Case {
	h.t.Helper()
	by := h.as(who)
	by.MFAAt = h.clock.now()
	c, err := h.Approve(h.t.Context(), by, c.Request.ID, c.Request.Digest(), broker.Answer{})
	ok(h.t, err)
	return c
}
