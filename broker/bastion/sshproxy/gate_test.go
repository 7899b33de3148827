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
