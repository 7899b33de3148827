package broker_test

import (
	"fmt"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// Audited verbs on SQLite with every commit synced to the disk: a request, its
// approval and its release each.
func BenchmarkRequestApprove(b *testing.B) {
	h := newHouse(b, sqliteURL(b))
	alice, bob := h.as("alice"), h.as("bob")
	n := 0
	for b.Loop() {
		a := asking("root@db01")
		a.Reason = fmt.Sprintf("INC-%d", n)
		n++
		c, err := h.Request(b.Context(), alice, a)
		ok(b, err)
		c, err = h.Approve(b.Context(), bob, c.Request.ID, c.Request.Digest(), broker.Answer{})
		ok(b, err)
		if c.Request.State != access.Approved {
			b.Fatal(c.Request.State)
		}
		_, err = h.Release(b.Context(), alice, c.Grant.ID)
		ok(b, err)
	}
	b.ReportMetric(3*float64(n)/b.Elapsed().Seconds(), "verbs/s")
}

// What is asked before every chunk of a session.
func BenchmarkCheck(b *testing.B) {
	h := newHouse(b, sqliteURL(b))
	c, err := h.Request(b.Context(), h.as("alice"), asking("guest@db01"))
	ok(b, err)
	l := h.session("alice", c)
	for b.Loop() {
		if l.Check() != nil {
			b.Fatal("ended")
		}
	}
}
