//go:build !linux

package main

import (
	"errors"
	"net"
)

// peer is not known here, so that nobody is answered.
func peer(*net.UnixConn) (uint32, error) {
	return 0, errors.New("who calls cannot be told on this system")
}
