// Package servers starts real servers for tests: PostgreSQL, OpenSSH, an
// S3-compatible object store and one for mail, on free loopback ports, with
// everything they keep in a directory of their own.
//
// A server ends with the test process however that ends (a panic, os.Exit, a
// kill): a guard, which is the server's parent, waits for the end of a pipe
// that only the test process holds, then stops the server and removes what it
// left. So no TestMain is needed.
//
// It trusts the machine's users as any test on loopback does. It is for tests
// only; nothing that is shipped imports it. A program that is missing fails the
// test with the name of its Debian package; nothing is skipped.
package servers

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wait is how long a server may take to start or to stop. The machine may be
// busy; a good start takes a tenth of a second.
const wait = 90 * time.Second

// A server is a running program and the guard that ends it.
type server struct {
	dir   string // traversable by every user; removed at the end
	guard *exec.Cmd
	pipe  *os.File // its end is the end of the server
}

// newDir makes the directory of a server. Another user than ours may have to
// get through it.
func newDir(kind string) (string, error) {
	dir, err := os.MkdirTemp("", "drawbolt-"+kind+"-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// start runs argv under a guard. At the end the guard sends it the signal,
// waits for it, runs the shell commands in cleanup and removes dir.
func start(dir, signal, cleanup string, argv ...string) (*server, error) {
	const script = `dir=$1 signal=$2 cleanup=$3; shift 3
"$@" </dev/null >"$dir/log" 2>&1 &
cat >/dev/null
kill -s "$signal" $!
wait $!
eval "$cleanup"
rm -rf "$dir"`
	r, w, err := os.Pipe() // closed in every program that we start
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s := &server{dir: dir, pipe: w}
	s.guard = exec.Command("/bin/sh", append([]string{"-c", script, "guard", dir, signal, cleanup}, argv...)...)
	s.guard.Stdin = r
	// A session of its own: ^C in the terminal must not end the guard before
	// it has cleaned up.
	s.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := s.guard.Start(); err != nil {
		w.Close()
		return nil, err
	}
	return s, nil
}

func (s *server) stop() {
	s.pipe.Close()
	_ = s.guard.Wait() // the status is the server's, which we have just ended
}

// Log returns what the server has logged so far.
func (s *server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// until tries until it works or the time is over.
func (s *server) until(try func() error) error {
	for end := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the server does not answer: %w; its log:\n%s", err, s.Log())
		}
	}
}

// program finds a program or says which package has it.
func program(name, debian string, patterns ...string) (string, error) {
	for _, p := range patterns {
		if found, _ := filepath.Glob(p); len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	return "", fmt.Errorf("%s is missing: apt-get install %s", name, debian)
}

// freePort returns a loopback port that nobody listens on now. It is below those that
// systems give out by themselves, so that nobody gets it before it is used.
func freePort() (port int, err error) {
	for range 100 {
		port = 10_000 + rand.IntN(20_000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

func run(c *exec.Cmd) error {
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, out)
	}
	return nil
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
