package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// giveBack returns to the system what a burst of work has left of memory. The
// collector, which may let the heap grow to five times what lives, keeps it
// otherwise, so that a thousand idle sessions would hold the memory of a
// thousand busy ones. It looks once a minute, until ctx ends.
func giveBack(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	before := readMemory()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := readMemory()
		if now.idle(before) {
			debug.FreeOSMemory()
		}
		before = now
	}
}

// memory is what the runtime says of its own memory, in bytes.
type memory struct {
	allocated uint64 // for objects, since the start
	live      uint64 // objects that the last collection found in use
	heap      uint64 // of the system, for objects or kept for some
}

func readMemory() memory {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	return memory{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64() + s[3].Value.Uint64() + s[4].Value.Uint64()}
}

// A collection costs processor time in proportion to what lives: it is worth
// it when little has happened since before and there is something to give back.
func (m memory) idle(before memory) bool {
	const little, spare = 16 << 20, 4 << 20
	return m.allocated-before.allocated < little && m.heap > m.live+max(spare, m.live/4)
}
