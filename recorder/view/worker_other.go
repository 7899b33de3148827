//go:build !linux

package view

import (
	"runtime/debug"
	"syscall"
)

// The server runs on Linux. Elsewhere a process has less memory, and that is all.

func alone() *syscall.SysProcAttr { return nil }

func keepFiles() {}

func confine() error {
	debug.SetMemoryLimit(softly)
	return nil
}
