package broker_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// changesFor returns what somebody is told of a topic from a position on, once the
// follower has read the log to its end.
func (h *house) changesFor(who, topic string, since int64) broker.Changes {
	h.t.Helper()
	end, err := h.db.AuditSize(h.t.Context())
	ok(h.t, err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		now, err := h.Changes(h.t.Context(), h.as(who), topic, -1)
		ok(h.t, err)
		if now.Next >= end {
			break
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("the follower is at %d of %d", now.Next, end)
		}
	}
	c, err := h.Changes(h.t.Context(), h.as(who), topic, since)
	ok(h.t, err)
	return c
}

// TestChanges: everybody is told of what they may see at that moment, and of
// nothing else, by whatever topic.
func TestChanges(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.start()
		begin := h.changesFor("alice", broker.TopicRequests, -1)
		if len(begin.IDs) != 0 || begin.All {
			t.Errorf("from now on: %+v", begin)
		}
		c := h.granted()
		id := c.Request.ID
		s := h.session("alice", c)
		for _, tt := range []struct {
			who, topic string
			want       []string
		}{
			{"alice", "requests", []string{id}}, {"bob", "requests", []string{id}}, {"carol", "requests", []string{id}},
			{"mallory", "requests", nil}, {"mallory", "requests:" + id, nil}, {"mallory", "sessions", nil}, {"mallory", "sessions:" + s.Session.ID, nil},
			{"alice", "requests:" + id, []string{id}}, {"alice", "requests:REQ-0000000000000000", nil}, {"alice", "sessions:" + id, nil},
			{"alice", "sessions", []string{s.Session.ID}}, {"carol", "sessions:" + s.Session.ID, []string{s.Session.ID}},
		} {
			if got := h.changesFor(tt.who, tt.topic, begin.Next); !slices.Equal(got.IDs, tt.want) || got.All {
				t.Errorf("%s is told of %s: %v, want %v", tt.who, tt.topic, got.IDs, tt.want)
			}
		}
		// The right counts as it is now, and not as it was when it happened.
		h.setGroups("bob")
		if got := h.changesFor("bob", broker.TopicRequests, begin.Next); len(got.IDs) != 0 {
			t.Errorf("without the group bob is told of %v", got.IDs)
		}
		h.setGroups("mallory", "auditors")
		if got := h.changesFor("mallory", broker.TopicRequests, begin.Next); !slices.Equal(got.IDs, []string{id}) {
			t.Errorf("as an auditor mallory is told of %v", got.IDs)
		}
		for _, topic := range []string{"", "users", "requests:", "Requests", ":", "audit:" + id} {
			_, err := h.Changes(t.Context(), h.as("alice"), topic, -1)
			want(t, err, access.ErrInvalid)
		}
	})
}

// TestChangesOfMany: what is more than one answer tells comes with the next, and
// what is more than a server remembers is said to be so.
func TestChangesOfMany(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.start()
	begin := h.changesFor("alice", broker.TopicRequests, -1)
	var asked []string
	for i := range 40 {
		ask := asking("root@db02")
		ask.Reason = fmt.Sprintf("INC-%d disk full", i)
		c, err := h.Request(t.Context(), h.as("alice"), ask)
		ok(t, err)
		asked = append(asked, c.Request.ID)
	}
	first := h.changesFor("alice", broker.TopicRequests, begin.Next)
	select {
	case <-first.More:
	default:
		t.Error("the first answer does not say that there is more")
	}
	second := h.changesFor("alice", broker.TopicRequests, first.Next)
	if got := slices.Concat(first.IDs, second.IDs); !slices.Equal(got, asked) {
		t.Errorf("told of %d and %d, want all %d in order", len(first.IDs), len(second.IDs), len(asked))
	}
	for range 45 { // each has a hundred events
		ok(t, h.db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
			for range 99 {
				tx.Also(audit.Event{Actor: "system", Action: "house.furnish", Request: asked[0]})
			}
			return audit.Event{Actor: "system", Action: "house.furnish", Request: asked[0]}, nil
		}))
	}
	if got := h.changesFor("alice", broker.TopicRequests, begin.Next); !got.All || len(got.IDs) != 0 {
		t.Errorf("after a flood: %v, all %v", got.IDs, got.All)
	}
	// Of another history, such as that of a server whose database was put back.
	if got := h.changesFor("alice", broker.TopicRequests, 1<<40); !got.All {
		t.Error("a position that is not there yet is taken for one")
	}
}
