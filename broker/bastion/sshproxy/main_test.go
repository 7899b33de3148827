package sshproxy

import (
	"testing"

	"github.com/drawbolt/drawbolt/test/servers"
)

// Nothing that a connection has started outlives the server.
func TestMain(m *testing.M) { servers.Leaks(m) }
