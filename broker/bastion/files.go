package bastion

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/drawbolt/drawbolt/broker"
)

// maxSingle is how many files of a session get an event of their own in the audit
// log, of each result. The rest is summed up in one, so that a tree of a hundred
// thousand files does not bury the log; the recording has them all.
const maxSingle = 100

// files are those of a session.
type files struct {
	number atomic.Int64

	mu      sync.Mutex
	open    map[*File]bool
	singles map[string]int              // by result
	sum     map[string]*broker.Transfer // by via, direction and result
}

func (l *files) add(f *File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = map[*File]bool{}
	}
	l.open[f] = true
}

func (l *files) remove(f *File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, f)
}

// rest returns the files that are open.
func (l *files) rest() []*File {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.open))
}

// single reports whether a file gets an event of its own, and otherwise counts it.
func (l *files) single(t broker.Transfer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.singles == nil {
		l.singles, l.sum = map[string]int{}, map[string]*broker.Transfer{}
	}
	if l.singles[t.Result]++; l.singles[t.Result] <= maxSingle {
		return true
	}
	key := t.Via + " " + t.Direction + " " + t.Result
	sum := l.sum[key]
	if sum == nil {
		sum = &broker.Transfer{Via: t.Via, Direction: t.Direction, Result: t.Result, Why: "more files than have an event of their own; the recording names each"}
		l.sum[key] = sum
	}
	sum.Files++
	sum.Bytes += t.Bytes
	return false
}

// sums returns what was summed up.
func (l *files) sums() []broker.Transfer {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []broker.Transfer
	for _, key := range slices.Sorted(maps.Keys(l.sum)) {
		list = append(list, *l.sum[key])
	}
	return list
}
