package sshproxy

import (
	"net"

	"golang.org/x/sys/unix"
)

// quickAck returns a function that makes the kernel acknowledge what has come
// at once. The option holds for a short while only, so it is set after each
// read. It returns nil when c is not TCP.
func quickAck(c net.Conn) func() {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return nil
	}
	set := func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }
	return func() { raw.Control(set) }
}
