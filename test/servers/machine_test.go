package servers_test

import (
	"os"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/test/servers"
)

// TestMachineIsApart: what is done on a machine is done there alone.
func TestMachineIsApart(t *testing.T) {
	before, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	m := servers.NewMachine(t, "16m", nil, "root@apart")
	m.Do("useradd --create-home apart && touch /var/tmp/apart")
	if out := m.Do("getent passwd apart"); !strings.HasPrefix(out, "apart:") {
		t.Errorf("no account on the machine: %q", out)
	}
	m.Wrap("/usr/sbin/visudo", "echo instead")
	if out := m.Do("visudo -c"); out != "instead\n" {
		t.Errorf("%q", out)
	}
	m.Unwrap("/usr/sbin/visudo")
	m.Leave()
	m.Return()
	after, err := os.ReadFile("/etc/passwd")
	if err != nil || string(after) != string(before) {
		t.Errorf("our own accounts changed: %v", err)
	}
	for _, path := range []string{"/home" + "/apart", "/var/tmp/apart"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is on our own machine", path)
		}
	}
}
