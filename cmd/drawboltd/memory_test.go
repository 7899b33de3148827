package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestIdleMemory(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		name        string
		before, now memory
		want        bool
	}{
		{"a burst was before", memory{900 * mib, 60 * mib, 300 * mib}, memory{901 * mib, 60 * mib, 300 * mib}, true},
		{"it goes on", memory{900 * mib, 60 * mib, 300 * mib}, memory{990 * mib, 60 * mib, 300 * mib}, false},
		{"nothing to give back", memory{900 * mib, 10 * mib, 13 * mib}, memory{901 * mib, 10 * mib, 13 * mib}, false},
		{"little beside what lives", memory{900 * mib, 600 * mib, 700 * mib}, memory{901 * mib, 600 * mib, 700 * mib}, false},
	} {
		if got := test.now.idle(test.before); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// What the runtime says moves as the rule expects: a burst shows, and is given
// back.
func TestMemoryIsGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a burst that no collection has seen the end of
	begin := readMemory()
	burst := make([][]byte, 64)
	for i := range burst {
		burst[i] = make([]byte, 1<<20)
	}
	runtime.KeepAlive(burst)
	after := readMemory()
	if after.allocated-begin.allocated < 64<<20 || after.idle(begin) {
		t.Errorf("a burst is taken for idleness: %+v, then %+v", begin, after)
	}
	quiet := readMemory()
	if !quiet.idle(after) {
		t.Errorf("nothing to give back: %+v, then %+v", after, quiet)
	}
	debug.FreeOSMemory()
	if given := readMemory(); quiet.heap-given.heap < 48<<20 {
		t.Errorf("not given back: %+v, then %+v", quiet, given)
	}
}
