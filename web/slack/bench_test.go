package slack_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/web/slack"
	"github.com/drawbolt/drawbolt/web/slack/slacktest"
)

// BenchmarkTold measures how long it takes from a request until its card is in the
// channel and with every decider.
func BenchmarkTold(b *testing.B) {
	h := newHouse(b, slack.SocketMode)
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		c := h.asks("alice", "root@db02")
		h.tell(notify.Asked, c.Request.ID)
		took = append(took, time.Since(start))
		b.StopTimer()
		must(h.Cancel(b.Context(), h.as("alice"), c.Request.ID))
		b.StartTimer()
	}
	percentile(b, took)
}

// BenchmarkClick measures how long it takes from a click, over the socket, until
// there is a grant, and until the card shows it.
func BenchmarkClick(b *testing.B) {
	h := newHouse(b, slack.SocketMode)
	var grant, card []time.Duration
	for b.Loop() {
		b.StopTimer()
		c, m := h.asked("alice", "root@db01")
		yes := button(b, m, "approve")
		h.clock.advance(time.Second) // nobody clicks as fast as a loop
		b.StartTimer()
		start := time.Now()
		h.presses("bob", yes)
		for h.state(c.Request.ID).Grant == nil {
			time.Sleep(time.Millisecond)
		}
		grant = append(grant, time.Since(start))
		if err := h.fake.Until(b.Context(), func() bool { return shows(h.fake, m, "Approved by") }); err != nil {
			b.Fatal(err)
		}
		card = append(card, time.Since(start))
		b.StopTimer()
		must(h.Release(b.Context(), h.as("alice"), c.Request.ID))
		b.StartTimer()
	}
	percentile(b, grant)
	slices.Sort(card)
	b.ReportMetric(float64(card[len(card)*95/100])/1e6, "card-p95-ms")
}

func shows(s *slacktest.Server, m slacktest.Message, words string) bool {
	return slices.ContainsFunc(s.Messages(m.Room), func(o slacktest.Message) bool { return o.TS == m.TS && strings.Contains(string(o.Blocks), words) })
}

func percentile(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e6, "p50-ms")
	b.ReportMetric(float64(took[len(took)*95/100])/1e6, "p95-ms")
}
