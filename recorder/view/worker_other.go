//go:build !linux

package view

import (
	"os"
	"runtime/debug"
	"syscall"
	"time"
)

// The server runs on Linux. Elsewhere a process has less memory, and that is all.

func alone() *syscall.SysProcAttr { return nil }

func keepFiles() {}

// spent is how long ago the process began: that is all that is known of it here.
func spent(_ *os.Process, began time.Time) time.Duration { return time.Since(began) }

func confine() error {
	debug.SetMemoryLimit(softly)
	return nil
}
