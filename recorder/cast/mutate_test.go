package cast

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"time"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

// mutate flips, cuts, doubles, swaps, overwrites or splices.
func mutate(rnd *rand.Rand, b, other []byte) []byte {
	i := rnd.IntN(len(b))
	j := i + 1 + rnd.IntN(min(len(b)-i, 5000))
	switch rnd.IntN(8) {
	case 0:
		out := bytes.Clone(b)
		out[i] ^= 1 << rnd.IntN(8)
		return out
	case 1:
		return b[:i]
	case 2: // cut out
		return append(bytes.Clone(b[:i]), b[j:]...)
	case 3: // double
		return append(bytes.Clone(b[:j]), b[i:]...)
	case 4: // swap two lines
		lines := bytes.SplitAfter(b, []byte("\n"))
		x, y := rnd.IntN(len(lines)), rnd.IntN(len(lines))
		lines[x], lines[y] = lines[y], lines[x]
		return bytes.Join(lines, nil)
	case 5: // splice from another recording
		k := rnd.IntN(len(other))
		return append(bytes.Clone(b[:i]), other[k:]...)
	case 6:
		out := bytes.Clone(b)
		for k := i; k < j; k++ {
			out[k] = byte(rnd.Uint32())
		}
		return out
	default: // remove a line
		lines := bytes.SplitAfter(b, []byte("\n"))
		x := rnd.IntN(len(lines) - 1)
		return bytes.Join(append(lines[:x:x], lines[x+1:]...), nil)
	}
}

// peak returns by how many bytes the heap grew while f ran.
func peak(f func()) uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, uint64(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return most
		case <-tick.C:
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > before {
				most = max(most, m.HeapAlloc-before)
			}
		}
	}
}
