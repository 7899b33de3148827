package local

import (
	"context"
	"sync"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A gate lets a few hashes run at once, because each takes tens of MiB, and
// decides who is next when more are wanted: first whoever is known, for whom
// one place is always free; then strangers, those with the fewest wrong tries
// (and the fewest tries waiting) first, so that a flood stands behind the one
// person who is not part of it. It is safe for concurrent use.
type gate struct {
	places int // at least 2
	queue  int // how many may wait

	mu        sync.Mutex
	running   int
	strangers int // of those running
	waiting   []*waiter
	present   map[string]int // waiting and running, by origin
}

type waiter struct {
	rank   int // 0: known
	origin string
	done   chan error
}

func newGate(places, queue int) *gate {
	return &gate{places: places, queue: queue, present: make(map[string]int)}
}

var errBusy = &access.Error{Kind: access.ErrUnavailable, Code: "DB-4004", Text: "too many people are logging in at this moment: try again in a few seconds"}

// enter waits for a place and returns the func that gives it back.
func (g *gate) enter(ctx context.Context, known bool, failures int, origin string) (leave func(), err error) {
	g.mu.Lock()
	w := &waiter{origin: origin, done: make(chan error, 1)}
	if !known {
		w.rank = 1 + failures + g.present[origin]
	}
	g.present[origin]++
	g.waiting = append(g.waiting, w)
	g.admit()
	if len(g.waiting) > g.queue {
		g.dismiss(g.worst(), errBusy)
	}
	g.mu.Unlock()

	select {
	case err := <-w.done:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		select {
		case err := <-w.done: // let in or turned away meanwhile
			if err == nil {
				g.leave(w)
			}
		default:
			g.dismiss(w, nil)
		}
		return nil, ctx.Err()
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.leave(w)
	}, nil
}

func (g *gate) leave(w *waiter) {
	g.running--
	if w.rank > 0 {
		g.strangers--
	}
	g.gone(w)
	g.admit()
}

// admit lets in whoever may run now, best first. mu is held.
func (g *gate) admit() {
	for g.running < g.places {
		var best *waiter
		for _, w := range g.waiting {
			if w.rank > 0 && g.strangers >= g.places-1 {
				continue
			}
			if best == nil || w.rank < best.rank {
				best = w
			}
		}
		if best == nil {
			return
		}
		g.remove(best)
		g.running++
		if best.rank > 0 {
			g.strangers++
		}
		best.done <- nil
	}
}

// worst returns the last of those with the highest rank. mu is held.
func (g *gate) worst() *waiter {
	var worst *waiter
	for _, w := range g.waiting {
		if worst == nil || w.rank >= worst.rank {
			worst = w
		}
	}
	return worst
}

func (g *gate) dismiss(w *waiter, err error) {
	g.remove(w)
	g.gone(w)
	w.done <- err
}

func (g *gate) remove(w *waiter) {
	for i := range g.waiting {
		if g.waiting[i] == w {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return
		}
	}
}

func (g *gate) gone(w *waiter) {
	if g.present[w.origin]--; g.present[w.origin] == 0 {
		delete(g.present, w.origin)
	}
}
