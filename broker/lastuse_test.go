package broker_test

import (
	"testing"
	"time"
)

// TestLastUse: who looks at a pending request is told how its requester last used the
// account, and of no other use.
func TestLastUse(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		pending := func() (string, *time.Duration) {
			t.Helper()
			r := h.ask("alice", "root@db01")
			c, err := h.FindRequest(ctx, h.as("bob"), r.Request.ID)
			ok(t, err)
			_, err = h.Cancel(ctx, h.as("alice"), r.Request.ID)
			ok(t, err)
			if c.Last == nil {
				return "", nil
			}
			reason, ended, _ := c.Last.EndAt(h.clock.now())
			used := ended.Sub(c.Last.Start).Round(time.Minute)
			return string(reason), &used
		}
		if _, last := pending(); last != nil {
			t.Errorf("a use before the first: %s", last)
		}
		// One that is never used, one that is used by another person, and one of another
		// account are none.
		c := h.granted()
		_, err := h.Release(ctx, h.as("alice"), c.Grant.ID)
		ok(t, err)
		other := h.approve("bob", h.ask("erin", "root@db01"))
		h.session("erin", other)
		_, err = h.Release(ctx, h.as("erin"), other.Grant.ID)
		ok(t, err)
		if reason, last := pending(); last != nil {
			t.Errorf("%s after %s", reason, last)
		}
		used := h.granted()
		h.session("alice", used)
		h.clock.advance(18 * time.Minute)
		_, err = h.Revoke(ctx, h.as("bob"), used.Grant.ID, "enough")
		ok(t, err)
		if reason, last := pending(); last == nil || *last != 18*time.Minute || reason != "revoked" {
			t.Errorf("%s after %v", reason, last)
		}
		used = h.granted()
		h.session("alice", used)
		h.clock.advance(2 * time.Hour)
		if reason, last := pending(); last == nil || *last != used.Grant.Duration || reason != "expired" {
			t.Errorf("%s after %v", reason, last)
		}
	})
}
