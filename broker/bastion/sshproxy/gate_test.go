package sshproxy

import (
	"net/netip"
	"testing"
	"time"
)

// Some sources that hold as many connections as they can cost nobody else a
// login; many sources are thinned out at random before the gate is full.
func TestGate(t *testing.T) {
	g := newGate(Limits{}.withDefaults(), time.Now)
	held := 0
	for i := range 2000 {
		if _, ok := g.enter(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 14)})); ok {
			held++
		}
	}
	if held <= 500 || held > 14*g.limits.HalfOpenPerSource {
		t.Fatalf("14 sources hold %d connections", held)
	}
	for i := range 1000 {
		leave, ok := g.enter(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
		if !ok {
			t.Fatalf("somebody else is refused while %d are held", held)
		}
		leave()
	}
	refused := 0
	for i := range 5000 {
		if _, ok := g.enter(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})); !ok {
			refused++
		}
	}
	if refused == 0 || g.open > g.limits.HalfOpen {
		t.Errorf("%d were refused, %d are open", refused, g.open)
	}
}

// A clockedGate has a clock of the test's.
func clockedGate() (*gate, *time.Time) {
	now := time.Unix(0, 0)
	return newGate(Limits{}.withDefaults(), func() time.Time { return now }), &now
}

// tries reports how many of n connections at once from a are let in.
func tries(g *gate, a netip.Addr, n int) (in int) {
	var leave []func()
	for range n {
		if l, ok := g.enter(a); ok {
			in++
			leave = append(leave, l, l) // twice counts once
		}
	}
	for _, l := range leave {
		l()
	}
	return in
}

// Each kind of failure has its price; the sum is enforced from 15 seconds on,
// until it is over, and is never more than ten minutes.
func TestPenalty(t *testing.T) {
	stranger, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for _, test := range []struct {
		kind     failure
		free     int // failures without a consequence
		name     string
		penalty  time.Duration // after one more
		thousand time.Duration // after a thousand more
	}{
		{failedLogin, 3, "failed", 20 * time.Second, 10 * time.Minute},
		{noLogin, 15, "none tried", 16 * time.Second, 10 * time.Minute},
		{slowLogin, 1, "slow", 20 * time.Second, 10 * time.Minute},
		{noFailure, 1000, "health check", 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, _ := clockedGate()
			for range test.free {
				g.failed(stranger, test.kind)
			}
			if tries(g, stranger, 1) != 1 {
				t.Fatalf("shut out after %d", test.free)
			}
			for more, want := range map[int]time.Duration{1: test.penalty, 1000: test.thousand} {
				g, now := clockedGate()
				for range test.free + more {
					g.failed(stranger, test.kind)
				}
				if want == 0 {
					if tries(g, stranger, 1) != 1 {
						t.Error("shut out")
					}
					continue
				}
				*now = now.Add(want - time.Millisecond)
				if tries(g, stranger, 1) != 0 {
					t.Errorf("let in before %v are over", want)
				}
				if tries(g, other, 1) != 1 {
					t.Error("another source was refused")
				}
				*now = now.Add(time.Millisecond)
				if tries(g, stranger, 1) != 1 {
					t.Errorf("not let in after %v", want)
				}
				// And then it begins anew.
				g.failed(stranger, test.kind)
				if tries(g, stranger, 1) != 1 {
					t.Error("the penalty that is over still counts")
				}
			}
			if g.open != 0 {
				t.Errorf("%d open", g.open)
			}
		})
	}
}

// Strangers behind the address of somebody who was proven there slow that
// address down and do not shut it.
func TestPenaltyOfKnownSource(t *testing.T) {
	g, now := clockedGate()
	office := netip.MustParseAddr("192.0.2.1")
	g.proven(office)
	for range 1000 {
		g.failed(office, failedLogin)
	}
	if n := tries(g, office, 100); n != knownHalfOpen {
		t.Errorf("%d of 100 at once are let in, want %d", n, knownHalfOpen)
	}
	*now = now.Add(knownFor)
	for range 1000 {
		g.failed(office, failedLogin)
	}
	if n := tries(g, office, 100); n != 0 {
		t.Errorf("a day later %d are let in", n)
	}
}

// What is remembered of sources is bounded, and who was shut out longest stays
// shut out while others come.
func TestPenaltiesAreBounded(t *testing.T) {
	g, _ := clockedGate()
	worst := netip.MustParseAddr("192.0.2.1")
	for range 100 {
		g.failed(worst, slowLogin)
	}
	for i := range maxSources + 5000 {
		a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(i >> 16), byte(i >> 8), byte(i)})
		g.failed(a, noLogin)
		g.proven(a)
	}
	if len(g.penalties) > maxSources || len(g.known) > maxSources {
		t.Errorf("%d and %d sources are remembered", len(g.penalties), len(g.known))
	}
	if tries(g, worst, 1) != 0 {
		t.Error("a flood of others has freed the worst one")
	}
}
