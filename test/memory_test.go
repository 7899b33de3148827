//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestMemoryIsNotShown: another process of the server's own user reads neither its memory
// nor its environment, which it does of any other program of that user, and nothing is left of
// them when it dies.
func TestMemoryIsNotShown(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("to be another user needs root")
	}
	const nobody = 65534
	s := install(t, "", "")
	s.stop()
	program, err := os.ReadFile(s.program)
	must(t, err)
	s.program = filepath.Join(s.dir, "drawboltd") // where that user finds it
	must(t, os.WriteFile(s.program, program, 0o755))
	must(t, os.Chmod(filepath.Dir(s.dir), 0o711))
	must(t, exec.Command("chown", "-R", fmt.Sprint(nobody), s.dir).Run())
	s.as = &syscall.Credential{Uid: nobody, Gid: nobody}
	s.start()
	as := &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGKILL}
	other := exec.Command("sleep", "600")
	other.SysProcAttr = as
	must(t, other.Start())
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	for _, what := range []string{"environ", "mem", "maps"} {
		for pid, shown := range map[int]bool{s.pid(): false, other.Process.Pid: true} {
			reads := exec.Command("sh", "-c", `exec <"$1"`, "sh", fmt.Sprintf("/proc/%d/%s", pid, what))
			reads.SysProcAttr = as
			if err := reads.Run(); (err == nil) != shown {
				t.Errorf("%s of %d: %v, shown should be %t", what, pid, err, shown)
			}
		}
	}
}
