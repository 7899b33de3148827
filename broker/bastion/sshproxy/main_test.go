package sshproxy

import (
	"testing"

	"go.uber.org/goleak"
)

// Nothing that a connection has started outlives the server.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
