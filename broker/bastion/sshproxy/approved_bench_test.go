package sshproxy

import (
	"bufio"
	"slices"
	"testing"
	"time"
)

// BenchmarkApproved measures, with a stock ssh that waits inside its login, how long
// it takes from the approval until the command's first line is there: the login at the
// real target is part of it.
func BenchmarkApproved(b *testing.B) {
	h := newHouse(b)
	h.realTarget("db01")
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		cmd := h.ssh("alice", "-o", "BatchMode=yes", me(b)+"+INC-1@db01", "echo there")
		out := must(cmd.StdoutPipe())(b)
		check(b, cmd.Start())
		c := h.pending("alice")
		b.StartTimer()
		began := time.Now()
		c = h.approve(c.Request.ID, "go ahead")
		line, err := bufio.NewReader(out).ReadString('\n')
		took = append(took, time.Since(began))
		b.StopTimer()
		if check(b, err); line != "there\n" {
			b.Fatalf("got %q", line)
		}
		check(b, cmd.Wait())
		must(h.broker.Release(b.Context(), h.people["alice"].caller, c.Grant.ID))(b)
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e6, "p50-ms")
	b.ReportMetric(float64(took[len(took)*95/100])/1e6, "p95-ms")
}
