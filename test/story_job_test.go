//go:build linux

package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
)

// A job is a program that a story has started. What it writes is kept with the
// time at which it came.
type job struct {
	cmd  *exec.Cmd
	tty  *os.File // nil: no terminal
	done chan struct{}
	code int // when done

	mu     sync.Mutex
	chunks []chunk
	shown  bytes.Buffer // all of them
	from   int          // what expect has looked at
}

type chunk struct {
	at   time.Time
	err  bool // on stderr
	data []byte
}

type jobFiles struct{ in, out string }

type jobWriter struct {
	j   *job
	err bool
}

func (w jobWriter) Write(p []byte) (int, error) {
	w.j.mu.Lock()
	defer w.j.mu.Unlock()
	w.j.chunks = append(w.j.chunks, chunk{time.Now(), w.err, bytes.Clone(p)})
	w.j.shown.Write(p)
	return len(p), nil
}

// startJob starts a program in a session of its own, so that it has no terminal
// but the one it is given. Without a file its input is at its end.
func startJob(cmd *exec.Cmd, env []string, files jobFiles, terminal bool) (*job, error) {
	j := &job{cmd: cmd, done: make(chan struct{})}
	cmd.Env = env
	if terminal {
		var err error
		if j.tty, err = pty.StartWithSize(cmd, &pty.Winsize{Cols: 200, Rows: 40}); err != nil {
			return nil, err
		}
		go func() {
			_, _ = io.Copy(jobWriter{j, false}, j.tty) // ends with EIO when the program has
			j.wait()
		}()
		return j, nil
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = jobWriter{j, false}, jobWriter{j, true}
	cmd.WaitDelay = 2 * time.Second
	if files.in != "" {
		f, err := os.Open(files.in)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		cmd.Stdin = f
	}
	if files.out != "" {
		f, err := os.Create(files.out)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		cmd.Stdout = f
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go j.wait()
	return j, nil
}

func (j *job) wait() {
	err := j.cmd.Wait()
	j.code = j.cmd.ProcessState.ExitCode()
	if err != nil && j.code == 0 && !errors.Is(err, exec.ErrWaitDelay) {
		j.code = -1
	}
	close(j.done)
}

// kill ends the program and what it has started. It may be called twice.
func (j *job) kill() {
	_ = syscall.Kill(-j.cmd.Process.Pid, syscall.SIGKILL)
	_ = j.cmd.Process.Kill()
	<-j.done
	if j.tty != nil {
		j.tty.Close()
	}
}

func (j *job) all() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.shown.String()
}

func (j *job) stream(stderr bool) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for _, c := range j.chunks {
		if c.err == stderr {
			b.Write(c.data)
		}
	}
	return strings.ReplaceAll(b.String(), "\r", "")
}

func (s *story) job(ts *testscript.TestScript, name string) *job {
	j := s.jobs[name]
	if j == nil {
		ts.Fatalf("there is no job %s", name)
	}
	return j
}

// patience is how long a story waits for what must come.
const patience = time.Minute

func (s *story) finish(ts *testscript.TestScript, args []string) {
	code, args := expected(ts, args)
	j := s.job(ts, args[0])
	select {
	case <-j.done:
	case <-time.After(patience):
		ts.Fatalf("%s did not end; it showed:\n%s", args[0], j.all())
	}
	fmt.Fprint(ts.Stdout(), j.stream(false))
	fmt.Fprint(ts.Stderr(), j.stream(true))
	if j.code != code {
		ts.Fatalf("%s ended with %d, not %d:\n%s", args[0], j.code, code, j.all())
	}
}

func (s *story) hangup(ts *testscript.TestScript, args []string) { s.job(ts, args[0]).kill() }

func (s *story) typeLine(ts *testscript.TestScript, args []string) {
	j := s.job(ts, args[0])
	if j.tty == nil {
		ts.Fatalf("%s has no terminal", args[0])
	}
	text := args[1] + "\n"
	switch args[1] {
	case "ctrl-c":
		text = "\x03"
	case "ctrl-d":
		text = "\x04"
	}
	_, err := io.WriteString(j.tty, text)
	ts.Check(err)
}

func (s *story) expect(ts *testscript.TestScript, args []string) {
	j := s.job(ts, args[0])
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		over := false
		select {
		case <-j.done:
			over = true
		default:
		}
		j.mu.Lock()
		i := bytes.Index(j.shown.Bytes()[j.from:], []byte(args[1]))
		if i >= 0 {
			j.from += i + len(args[1])
		}
		j.mu.Unlock()
		if i >= 0 {
			return
		}
		if over || time.Now().After(deadline) {
			ts.Fatalf("%s did not show %q; it showed:\n%s", args[0], args[1], j.all())
		}
	}
}

func (s *story) nothingAfter(ts *testscript.TestScript, args []string) {
	j := s.job(ts, args[0])
	end, err := time.Parse(time.RFC3339, args[1])
	ts.Check(err)
	grace, err := time.ParseDuration(args[2])
	ts.Check(err)
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.chunks) == 0 {
		ts.Fatalf("%s has shown nothing at all", args[0])
	}
	last := j.chunks[len(j.chunks)-1]
	ts.Logf("the last byte came %s after the end", last.at.Sub(end).Round(time.Millisecond))
	if last.at.Sub(end) > grace+10*s.late() {
		ts.Fatalf("%q came %s after %s", last.data, last.at.Sub(end), args[1])
	}
}
