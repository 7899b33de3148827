//go:build !linux

package sshproxy

import "net"

func quickAck(net.Conn) func() { return nil }
