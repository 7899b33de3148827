//go:build linux

package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The killer walks the calls with which a server changes something outside of itself:
// what it writes, syncs, sends, connects to, closes, makes and removes. Between two of them nothing that
// others can see changes, so that a crash at each of them is a crash at every step.
// strace(1) counts the calls of each thread by itself, and Go moves its work from thread
// to thread, so this counts them all with ptrace(2), in a process of its own: a tracer
// waits for every child of its process.

// TestMain is the killer where killAt starts it, and runs the tests otherwise.
func TestMain(m *testing.M) {
	if os.Getenv("DRAWBOLT_KILLER") == "" {
		os.Exit(m.Run())
	}
	if err := runKiller(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// killAt kills the server at its n-th call from now on, before that is made; 0: at none.
// What it answers to the test does not count. The function that is returned ends the watch and says what the calls were; only
// the last of them was not made when there are n.
func (s *server) killAt(n int) (calls func() []string) {
	s.t.Helper()
	_, https, err := net.SplitHostPort(strings.TrimPrefix(s.url, "https://"))
	must(s.t, err)
	_, metrics, err := net.SplitHostPort(s.metrics)
	must(s.t, err)
	return killAt(s.t, s.pid(), n, https, metrics)
}

// killAt does that to any process; what goes through its ports that are named does not
// count, nor what it says to others on its machine.
func killAt(t testing.TB, pid, n int, ports ...string) (calls func() []string) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, append([]string{strconv.Itoa(pid), strconv.Itoa(n)}, ports...)...)
	cmd.Env = append(os.Environ(), "DRAWBOLT_KILLER=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		_ = cmd.Wait()
		t.Fatalf("the killer cannot watch: %s", &said)
	}
	ended := make(chan []string, 1)
	go func() {
		var list []string
		for lines.Scan() {
			list = append(list, lines.Text())
		}
		ended <- list
	}()
	return func() []string {
		t.Helper()
		in.Close()
		list := <-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("the killer: %v %s", err, &said)
		}
		return list
	}
}

// runKiller watches the process of the first argument and kills it at that call whose
// number is the second. What goes through its ports that are the others does not count.
// It says a line when it watches, and one for each call before that is made, and ends
// with the process or with its input.
func runKiller(args []string, in io.Reader, out io.Writer) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(0) // which lets go of whom it watches
	}()
	runtime.LockOSThread() // a tracer is a thread
	waiting, err := seize(pid)
	if err != nil {
		return err
	}
	names := sockets{pid: pid, not: args[2:], known: map[string]string{}}
	for count := 0; ; {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return nil // it is gone
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case !status.Stopped():
			continue
		}
		signal := 0
		switch {
		case status.StopSignal() == unix.SIGTRAP|0x80:
			call, err := names.call(tid)
			if err != nil {
				return err
			}
			if call == "" {
				break
			}
			fmt.Fprintln(out, call)
			if count++; count == n {
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					return err
				}
				continue
			}
		case int(status)>>16 == unix.PTRACE_EVENT_STOP:
			if delete(waiting, tid); len(waiting) == 0 {
				fmt.Fprintln(out, "watching")
				waiting = map[int]bool{0: true} // said once
			}
		case int(status)>>16 == 0:
			signal = int(status.StopSignal())
		}
		if err := unix.PtraceSyscall(tid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("go on: %w", err)
		}
	}
}

// seize begins to trace all threads of a process, and has each stop once.
func seize(pid int) (threads map[int]bool, err error) {
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE
	threads = map[int]bool{}
	for before := -1; before != len(threads); {
		before = len(threads)
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return nil, err
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || threads[tid] {
				continue
			}
			_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, options, 0, 0)
			if errno == unix.ESRCH || errno == unix.EPERM && before > 0 { // it has ended, or one that is traced has begun it
				continue
			}
			if errno != 0 {
				return nil, fmt.Errorf("trace %d: %w", tid, errno)
			}
			if err := unix.PtraceInterrupt(tid); err != nil {
				return nil, err
			}
			threads[tid] = true
		}
	}
	return threads, nil
}

// sockets knows what the descriptors of a process are.
type sockets struct {
	pid   int
	not   []string          // ports of its own that do not count
	known map[string]string // by what the kernel calls it; "": it does not count
}

// The calls that count: those of a descriptor, and those of a name.
var (
	onDescriptor = map[uint64]string{
		unix.SYS_WRITE: "write", unix.SYS_WRITEV: "writev", unix.SYS_PWRITE64: "pwrite64", unix.SYS_PWRITEV: "pwritev", unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync",
		unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FALLOCATE: "fallocate", unix.SYS_SENDTO: "sendto", unix.SYS_SENDMSG: "sendmsg", unix.SYS_CONNECT: "connect",
		unix.SYS_SHUTDOWN: "shutdown", unix.SYS_CLOSE: "close",
	}
	onName = map[uint64]string{
		unix.SYS_UNLINK: "unlink", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_RENAME: "rename", unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2",
		unix.SYS_LINKAT: "linkat", unix.SYS_MKDIR: "mkdir", unix.SYS_MKDIRAT: "mkdirat",
	}
)

// call says what a thread that stopped at a call is about to do; "": nothing that counts,
// or it has done it.
func (s *sockets) call(tid int) (string, error) {
	var info struct { // ptrace_syscall_info of linux/ptrace.h
		op   uint8
		arch uint32
		_    [2]uint64 // where the thread stands
		nr   uint64
		args [6]uint64
	}
	const entry = 1
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno == unix.ESRCH {
		return "", nil
	}
	if errno != 0 {
		return "", fmt.Errorf("ask for the call: %w", errno)
	}
	if info.op != entry {
		return "", nil
	}
	if name, ok := onName[info.nr]; ok {
		return name, nil
	}
	name, ok := onDescriptor[info.nr]
	if !ok {
		return "", nil
	}
	object, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", s.pid, int32(info.args[0])))
	switch {
	case err != nil || strings.HasPrefix(object, "anon_inode:"): // one thread wakes another
		return "", nil
	case strings.HasPrefix(object, "socket:"):
		if object = s.name(object); object == "" {
			return "", nil
		}
	case name == "close":
		return "", nil
	default:
		object = filepath.Base(object)
	}
	return name + " " + object, nil
}

// name is the port that a socket leads to; "": what goes through it does not count.
func (s *sockets) name(socket string) string {
	if name, ok := s.known[socket]; ok {
		return name
	}
	inode := strings.TrimSuffix(strings.TrimPrefix(socket, "socket:["), "]")
	name := ""
	switch f := s.row("tcp", 9, inode); {
	case f == nil && s.row("unix", 6, inode) == nil:
		return "socket" // which is not connected yet, or not any more
	case f != nil && !slices.Contains(s.not, port(f[1])):
		name = ":" + port(f[2])
	}
	s.known[socket] = name
	return name
}

// row is that of the kernel's table of sockets which has the inode in that column.
func (s *sockets) row(table string, column int, inode string) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", s.pid, table))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > column && f[column] == inode {
			return f
		}
	}
	return nil
}

// port is that of an address as the kernel writes it.
func port(address string) string {
	_, hex, _ := strings.Cut(address, ":")
	n, _ := strconv.ParseUint(hex, 16, 16)
	return strconv.FormatUint(n, 10)
}
