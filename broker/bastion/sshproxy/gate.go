package sshproxy

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A gate bounds what people who have proven nothing can make us do: how many
// connections without a proof there are, in all and from one source, how fast
// a source that keeps failing may come back, and how many wait for an approval.
//
// It counts by source address (IPv6: by /64), so a stranger slows down nobody
// who comes from elsewhere; nothing here is counted by the name of a person.
type gate struct {
	limits Limits
	now    func() time.Time

	mu      sync.Mutex
	open    int
	perAddr map[netip.Prefix]int
	failing map[netip.Prefix]*rate.Limiter
	held    int
	perUser map[string]int
}

func newGate(l Limits, now func() time.Time) *gate {
	return &gate{limits: l, now: now, perAddr: map[netip.Prefix]int{}, failing: map[netip.Prefix]*rate.Limiter{}, perUser: map[string]int{}}
}

// maxFailing bounds how many sources are remembered for their failures.
const maxFailing = 8192

func sourceOf(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// enter reports whether a new connection from a may try to prove itself. When
// it may, leave is to be called, once, when it has or when it ends.
func (g *gate) enter(a netip.Addr) (leave func(), ok bool) {
	source := sourceOf(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.failing[source]; l != nil && l.TokensAt(g.now()) < 1 {
		return nil, false
	}
	if g.perAddr[source] >= g.limits.HalfOpenPerSource || g.full(g.perAddr[source] == 0) {
		return nil, false
	}
	g.open++
	g.perAddr[source]++
	var once sync.Once
	return func() {
		once.Do(func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.open--
			drop(g.perAddr, source)
		})
	}, true
}

// full reports whether there are too many connections without a proof. From
// half of the limit on it says yes at random, more and more often, so that
// somebody who fills the gate cannot keep everybody else out. A source that has
// none of them is spared until three quarters: so a flood from a few sources
// costs nobody else a login.
func (g *gate) full(first bool) bool {
	free := g.limits.HalfOpen / 2
	if first {
		free = g.limits.HalfOpen * 3 / 4
	}
	return g.open >= g.limits.HalfOpen || g.open > free && rand.IntN(g.limits.HalfOpen-free) < g.open-free
}

// failed notes that a connection from a ended without a proof.
func (g *gate) failed(a netip.Addr) {
	source := sourceOf(a)
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.failing[source]
	if l == nil {
		g.forget(now)
		l = rate.NewLimiter(rate.Every(g.limits.FailureEvery), g.limits.FailureBurst)
		g.failing[source] = l
	}
	l.AllowN(now, 1)
}

// forget makes room for one more source: first of those who have served their
// time, or else of any.
func (g *gate) forget(now time.Time) {
	if len(g.failing) < maxFailing {
		return
	}
	for source, l := range g.failing {
		if l.TokensAt(now) >= float64(g.limits.FailureBurst) {
			delete(g.failing, source)
		}
	}
	for source := range g.failing {
		if len(g.failing) < maxFailing {
			return
		}
		delete(g.failing, source)
	}
}

// hold reports whether one more connection of this person may wait for an
// approval. When it may, release is to be called when it waits no more.
func (g *gate) hold(userID string) (release func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held >= g.limits.Held || g.perUser[userID] >= g.limits.HeldPerPerson {
		return nil, false
	}
	g.held++
	g.perUser[userID]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.held--
		drop(g.perUser, userID)
	}, true
}

// drop counts one down and keeps no zeros.
func drop[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}
