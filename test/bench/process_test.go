package bench

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tick is what /proc counts processor time in; it is 1/100 s on every Linux.
const tick = 10 * time.Millisecond

// cpu returns the processor time that a process has used; with that of its
// children that have ended, when they are asked for too.
func cpu(t testing.TB, pid int, children bool) time.Duration {
	t.Helper()
	b := must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)))(t)
	// The name, in parentheses, may hold anything. After it come the fields
	// from the third on: utime, stime, cutime, cstime are 14 to 17 (proc(5)).
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	last := 15
	if children {
		last = 17
	}
	var sum time.Duration
	for _, f := range fields[14-3 : last-3+1] {
		sum += time.Duration(must(strconv.ParseInt(f, 10, 64))(t)) * tick
	}
	return sum
}

// pss returns the memory of a process in KiB, what it shares counted in parts.
func pss(t testing.TB, pid int) int64 {
	t.Helper()
	b := must(os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)))(t)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			return must(strconv.ParseInt(f[1], 10, 64))(t)
		}
	}
	t.Fatalf("process %d has no Pss", pid)
	return 0
}

// children returns the processes below one.
func children(pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return nil // it has ended
	}
	var list []int
	for _, f := range strings.Fields(string(b)) {
		if child, err := strconv.Atoi(f); err == nil {
			list = append(append(list, child), children(child)...)
		}
	}
	return list
}

func command(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}

func firstLine(path string) string {
	b, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

func load() string {
	f := strings.Fields(firstLine("/proc/loadavg"))
	return strings.Join(f[:min(len(f), 2)], " ")
}

func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func cpus() int { return runtime.NumCPU() }

// filesystem names what a directory is on: a commit that is synced to memory
// would say nothing.
func filesystem(dir string) string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return err.Error()
	}
	if name, ok := map[int64]string{0xef53: "ext4", 0x01021994: "tmpfs", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x794c7630: "overlayfs"}[int64(s.Type)]; ok {
		return name
	}
	return fmt.Sprintf("a file system of type %#x", s.Type)
}

func root(path string) string { return filepath.Join("../..", path) }
