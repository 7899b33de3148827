package broker_test

import (
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Once a day, and by one of all servers, it is told what the policy approved without
// asking anybody; of a day on which it did not nobody hears, and nothing is left out.
func TestDigest(t *testing.T) {
	onEachWith(t, func(c *broker.Config) {
		now := c.Now().UTC()
		c.Digest = &broker.Daily{Minute: (now.Hour()*60 + now.Minute() + 60) % (24 * 60), Zone: time.UTC}
	}, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.start()
		if !strings.HasPrefix(h.url, "sqlite") {
			h.another("node2").start()
		}
		digests := func() (list []audit.Event) {
			for _, e := range h.events() {
				if e.Action == broker.DueDigest {
					list = append(list, e)
				}
			}
			return list
		}
		letIn := func(who string) {
			c := h.ask(who, "guest@db01")
			_, err := h.Release(ctx, h.as(who), c.Grant.ID)
			ok(t, err)
		}
		letIn("alice")
		letIn("alice")
		letIn("erin")
		h.granted() // which bob approved
		h.clock.advance(2 * time.Hour)
		eventually(t, "the day is told", func() bool { return len(digests()) == 1 })
		e := digests()[0]
		if e.Details["total"] != "3" || e.Actor != access.System().User.ID || !strings.Contains(e.Reason, "of 2 people; most often: alice guest@db01 2, erin guest@db01 1") {
			t.Errorf("the digest is %+v", e)
		}
		h.clock.advance(24 * time.Hour) // nothing
		h.clock.advance(23 * time.Hour)
		letIn("erin")
		h.clock.advance(2 * time.Hour)
		eventually(t, "the next day is told", func() bool { return len(digests()) == 2 })
		if e := digests()[1]; e.Details["total"] != "1" || e.Object != digests()[0].Details["until"] {
			t.Errorf("the second digest is %+v", e)
		}
	})
}

// onEachWith is onEach for brokers of another configuration.
func onEachWith(t *testing.T, option func(*broker.Config), test func(t *testing.T, h *house)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, newHouse(t, e.url(t), option)) })
	}
}

func TestParseDaily(t *testing.T) {
	for _, c := range []struct{ daily, after, want string }{
		{"17:00", "2026-03-02T16:59:00Z", "2026-03-02T17:00:00Z"},
		{"17:00", "2026-03-02T17:00:00Z", "2026-03-03T17:00:00Z"},
		{"17:00 Europe/Berlin", "2026-03-02T16:30:00Z", "2026-03-03T16:00:00Z"},
		{"00:30 Europe/Berlin", "2026-12-31T23:00:00Z", "2026-12-31T23:30:00Z"},
		{"17:00 Europe/Berlin", "2026-03-28T16:00:00Z", "2026-03-29T15:00:00Z"}, // clocks go forward
	} {
		d, err := broker.ParseDaily(c.daily)
		ok(t, err)
		after, err := time.Parse(time.RFC3339, c.after)
		ok(t, err)
		if got := d.After(after).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s after %s is %s, want %s", c.daily, c.after, got, c.want)
		}
	}
	for _, bad := range []string{"", "5", "5:00", "24:00", "17:00 Nowhere", "17:00 Local", "17:00\n"} {
		if _, err := broker.ParseDaily(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
