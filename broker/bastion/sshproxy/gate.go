package sshproxy

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// A gate bounds what people who have proven nothing can make us do: how many
// connections without a proof there are, in all and from one source, how soon a
// source that keeps failing may come back, and how many wait for an approval.
//
// It counts by source address (IPv6: by /64), so a stranger slows down nobody
// who comes from elsewhere; nothing here is counted by the name of a person. A
// source from which somebody was proven not long ago is slowed down and never
// shut out, so that strangers behind the same address lock out no colleague.
type gate struct {
	limits Limits
	now    func() time.Time

	mu        sync.Mutex
	open      int
	perAddr   map[netip.Prefix]int
	penalties map[netip.Prefix]penalty
	known     map[netip.Prefix]time.Time // when somebody was last proven
	held      int
	perUser   map[string]int
}

// A penalty is what a source has to sit out, as with OpenSSH's
// PerSourcePenalties (sshd_config(5)): penalties add up, and are enforced from
// the moment at which they are more than Limits.PenaltyFrom until they are over.
type penalty struct {
	until    time.Time
	enforced bool
}

// A failure is how a connection without a proof ended.
type failure int

const (
	noFailure   failure = iota // it came and went, as a health check does
	noLogin                    // it said something and tried no proof
	failedLogin                // what it tried was no proof
	slowLogin                  // it used up its time
)

func newGate(l Limits, now func() time.Time) *gate {
	return &gate{limits: l, now: now, perAddr: map[netip.Prefix]int{}, penalties: map[netip.Prefix]penalty{},
		known: map[netip.Prefix]time.Time{}, perUser: map[string]int{}}
}

const (
	// maxSources bounds how many sources are remembered for their failures, and
	// how many as known; some 6 MiB each.
	maxSources = 65536
	// knownFor is how long a source is known after somebody was proven there.
	knownFor = 24 * time.Hour
	// knownHalfOpen is how many connections without a proof a known source may
	// have while its penalty lasts.
	knownHalfOpen = 5
)

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
	if g.perAddr[source] >= g.most(source) || g.full(g.perAddr[source] == 0) {
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

// most is how many connections without a proof this source may have now.
func (g *gate) most(source netip.Prefix) int {
	now := g.now()
	p := g.penalties[source]
	switch at, ok := g.known[source]; {
	case !p.enforced || !now.Before(p.until):
		return g.limits.HalfOpenPerSource
	case ok && now.Sub(at) < knownFor:
		return min(knownHalfOpen, g.limits.HalfOpenPerSource)
	}
	return 0
}

// failed notes how a connection from a ended that has proven nobody.
func (g *gate) failed(a netip.Addr, f failure) {
	more := map[failure]time.Duration{noLogin: g.limits.NoLogin, failedLogin: g.limits.FailedLogin, slowLogin: g.limits.SlowLogin}[f]
	if more <= 0 {
		return
	}
	source := sourceOf(a)
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.penalties[source]
	if !ok {
		evict(g.penalties, func(p penalty) time.Time { return p.until })
	}
	if !now.Before(p.until) {
		p = penalty{until: now}
	}
	p.until = p.until.Add(more)
	if last := now.Add(g.limits.PenaltyMost); p.until.After(last) {
		p.until = last
	}
	p.enforced = p.enforced || p.until.Sub(now) > g.limits.PenaltyFrom
	g.penalties[source] = p
}

// proven notes that somebody was proven who came from a.
func (g *gate) proven(a netip.Addr) {
	source := sourceOf(a)
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.known[source]; !ok {
		evict(g.known, func(t time.Time) time.Time { return t })
	}
	g.known[source] = now
}

// evict makes room for one more source: of a few at random, the one whose time
// is the earliest goes. Looking at all of them would be work that strangers
// could ask for.
func evict[V any](m map[netip.Prefix]V, at func(V) time.Time) {
	if len(m) < maxSources {
		return
	}
	var first netip.Prefix
	var when time.Time
	seen := 0
	for source, v := range m {
		if t := at(v); seen == 0 || t.Before(when) {
			first, when = source, t
		}
		if seen++; seen == 16 {
			break
		}
	}
	delete(m, first)
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
