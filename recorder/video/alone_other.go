//go:build !linux

package video

import "syscall"

// The server runs on Linux.
func alone() *syscall.SysProcAttr { return nil }
