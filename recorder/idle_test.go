package recorder

import (
	"fmt"
	"runtime"
	"testing"
)

// TestIdle: a recording that waits has no goroutine and hardly any memory.
func TestIdle(t *testing.T) {
	s := newStand(t)
	measure := func() (uint64, int) {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, runtime.NumGoroutine()
	}
	const n = 200
	recs := make([]*Recording, n)
	heap, routines := measure()
	for i := range recs {
		recs[i] = s.start(t, fmt.Sprintf("SES-%d", i))
		if err := recs[i].Write(Output, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
	}
	heapAfter, routinesAfter := measure()
	if got := (int64(heapAfter) - int64(heap)) / n; got > 4<<10 {
		t.Errorf("%d bytes a recording", got)
	} else {
		t.Logf("%d bytes a recording", got)
	}
	if routinesAfter > routines {
		t.Errorf("%d goroutines more", routinesAfter-routines)
	}
	runtime.KeepAlive(recs)
}
