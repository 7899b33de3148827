//go:build unix

package screen

import (
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time of this process: unlike the time on the wall it does not
// depend on what else the machine does.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
