//go:build linux

package test

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	runPart = regexp.MustCompile(`(?ms)^<!-- run -->$(.*?)^<!-- end -->$`)
	console = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")
)

// TestReadme runs, in a fresh clone and in their order, the commands that the
// README tells people to type first: the lines beginning with "$ " of the console
// blocks between <!-- run --> and <!-- end -->.
func TestReadme(t *testing.T) {
	var commands []string
	for _, part := range runPart.FindAllStringSubmatch(read(t, "README.md"), -1) {
		for _, block := range console.FindAllStringSubmatch(part[1], -1) {
			for line := range strings.Lines(block[1]) {
				if command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ "); ok {
					commands = append(commands, command)
				}
			}
		}
	}
	if len(commands) == 0 {
		t.Fatal("README.md has no commands to run between <!-- run --> and <!-- end -->")
	}
	clone := filepath.Join(t.TempDir(), "drawbolt")
	output(t, exec.Command("git", "clone", "--quiet", "--no-hardlinks", root(t), clone))
	for _, command := range commands {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-euc", command)
		cmd.Dir = clone
		// A session of its own, so that whatever it leaves ends with it.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = 5 * time.Second
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("$ %s\n%v\n%s", command, err, out)
		}
		t.Logf("$ %s   (%s)", command, time.Since(began).Round(time.Second))
	}
}
