package video

import "syscall"

// alone has the kernel kill the encoder when the process that draws is gone.
func alone() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
