package web

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/drawbolt/drawbolt/broker/identity"
)

// maxSources bounds how many addresses a limiter tells apart.
const maxSources = 10_000

// A limiter counts what each source (or user) may still do. Past maxSources that
// have been busy in the last minute, the rest share one bucket: a flood from
// many addresses costs bounded memory and cannot wash away who is counted.
type limiter struct {
	every rate.Limit
	burst int
	now   func() time.Time

	mu      sync.Mutex
	bySeen  map[string]*bucket
	shared  *rate.Limiter
	cleaned time.Time
}

type bucket struct {
	*rate.Limiter
	seen time.Time
}

func newLimiter(perSecond float64, burst int, now func() time.Time) *limiter {
	return &limiter{
		every: rate.Limit(perSecond), burst: burst, now: now,
		bySeen: map[string]*bucket{}, shared: rate.NewLimiter(rate.Limit(perSecond), burst),
	}
}

// allow takes one from the bucket of a source, if one is there. A whole /64 of
// IPv6 is one source.
func (l *limiter) allow(source netip.Addr) bool { return l.take(identity.Origin(source)) }

// take is allow for any name.
func (l *limiter) take(key string) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bySeen[key]
	if b == nil {
		if len(l.bySeen) >= maxSources {
			l.clean(now)
		}
		if len(l.bySeen) >= maxSources {
			return l.shared.AllowN(now, 1)
		}
		b = &bucket{Limiter: rate.NewLimiter(l.every, l.burst)}
		l.bySeen[key] = b
	}
	b.seen = now
	return b.AllowN(now, 1)
}

// clean forgets who is full again, at most once a second.
func (l *limiter) clean(now time.Time) {
	if now.Sub(l.cleaned) < time.Second {
		return
	}
	l.cleaned = now
	for key, b := range l.bySeen {
		if now.Sub(b.seen) > time.Minute && b.TokensAt(now) >= float64(l.burst) {
			delete(l.bySeen, key)
		}
	}
}

// A counter bounds how many things of one name go on at a time.
type counter struct {
	most int
	mu   sync.Mutex
	of   map[string]int
}

func newCounter(most int) *counter { return &counter{most: most, of: map[string]int{}} }

// enter reports whether one more may begin; leave ends it.
func (c *counter) enter(name string) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[name] >= c.most {
		return nil, false
	}
	c.of[name]++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.of[name]--; c.of[name] <= 0 {
			delete(c.of, name)
		}
	}), true
}
