package broker_test

import (
	"slices"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// TestOwnerSeesBots finds what a bot asks for among what is its owner's, who may take
// it back and decides nothing of it; others find nothing.
func TestOwnerSeesBots(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.setUser("ci", func(u *access.User) { u.OwnerID = h.user("kim").ID })
		h.needs(access.Need{Count: 1, Groups: []string{"approvers"}})
		one := h.ask("ci", "root@db01")
		two := h.ask("ci", "guest@db01") // granted at once
		h.ask("alice", "root@db01")
		ids := func(who string, f broker.Filter) (list []string) {
			t.Helper()
			cases, err := h.Requests(ctx, h.as(who), f)
			ok(t, err)
			for _, c := range cases {
				list = append(list, c.Request.ID)
				if c.MayDecide {
					t.Errorf("%s may decide on %s", who, c.Request.ID)
				}
			}
			return list
		}
		for _, tt := range []struct {
			f    broker.Filter
			want []string
		}{
			{broker.Filter{}, []string{two.Request.ID, one.Request.ID}},
			{broker.Filter{Mine: true}, []string{two.Request.ID, one.Request.ID}},
			{broker.Filter{Mine: true, Limit: 1}, []string{two.Request.ID}},
			{broker.Filter{Mine: true, Before: two.Request.ID}, []string{one.Request.ID}},
			{broker.Filter{Mine: true, State: access.Pending}, []string{one.Request.ID}},
			{broker.Filter{Mine: true, State: access.Approved}, []string{two.Request.ID}},
			{broker.Filter{Mine: true, Active: true}, []string{two.Request.ID}},
			{broker.Filter{Inbox: true}, nil},
		} {
			if got := ids("kim", tt.f); !slices.Equal(got, tt.want) {
				t.Errorf("kim, %+v: %v, want %v", tt.f, got, tt.want)
			}
			if got := ids("lee", tt.f); len(got) != 0 {
				t.Errorf("lee, %+v: %v", tt.f, got)
			}
		}
		// What joins a request that waits, and how many one may have, are matters of who asks.
		h.setGroups("kim", "custodians", "engineers")
		if mine := h.ask("kim", "root@db01"); mine.Request.ID == one.Request.ID {
			t.Error("the owner's request is the bot's")
		} else {
			_, err := h.Cancel(ctx, h.as("kim"), mine.Request.ID)
			ok(t, err)
		}

		_, err := h.Cancel(ctx, h.as("lee"), one.Request.ID)
		want(t, err, access.ErrNotFound)
		_, err = h.Approve(ctx, h.as("kim"), one.Request.ID, one.Request.Digest(), broker.Answer{})
		want(t, err, access.ErrDenied)
		_, err = h.Extend(ctx, h.as("kim"), two.Request.ID, 1800e9)
		want(t, err, access.ErrDenied)
		_, err = h.Open(ctx, h.as("kim"), two.Grant.ID, broker.Opening{Kind: "shell"})
		if err == nil {
			t.Error("the owner has opened a session under the bot's grant")
		}
		c, err := h.Cancel(ctx, h.as("kim"), one.Request.ID)
		ok(t, err)
		if c.Request.State != access.Cancelled || c.Request.DecidedBy != "kim" {
			t.Errorf("%+v", c.Request)
		}
		c, err = h.Release(ctx, h.as("kim"), two.Request.ID)
		ok(t, err)
		if c.Grant.EndReason != access.EndReleased || c.Grant.EndedBy != "kim" {
			t.Errorf("%+v", c.Grant)
		}
		// A bot that is another's now: what it asked for before stays with who answered for it.
		h.setUser("ci", func(u *access.User) { u.OwnerID = h.user("lee").ID })
		if got := ids("kim", broker.Filter{Mine: true}); len(got) != 3 {
			t.Errorf("kim finds %v", got)
		}
		if got := ids("lee", broker.Filter{Mine: true}); len(got) != 0 {
			t.Errorf("lee finds %v", got)
		}
	})
}
