package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// runConfig writes an ssh_config in which the targets have the account, in a
// folder of its own, which remove takes away.
func (c *cli) runConfig(ctx context.Context, cl *api.Client, p *profile, granted []api.Request) (file string, remove func(), err error) {
	_, text, err := c.refreshConfig(ctx, cl, p)
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "drawbolt-run-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	var b bytes.Buffer
	// The first value counts, so these come first. Nothing asks: a grant that has
	// ended is an error and not a new request.
	fmt.Fprintf(&b, "Host %s\n    User %s\n    BatchMode yes\n\n", strings.Join(hostsOf(granted), " "), granted[0].Account)
	b.Write(text)
	file = filepath.Join(dir, "ssh_config")
	if err := writeFile(file, b.Bytes()); err != nil {
		remove()
		return "", nil, err
	}
	return file, remove, nil
}

func hostsOf(list []api.Request) []string {
	var names []string
	for _, r := range list {
		names = append(names, r.Target)
	}
	return names
}

// interruptWait is how long a program has to end after Ctrl-C, before it is
// killed.
const interruptWait = 10 * time.Second

// command makes a command that ends with ctx. On a terminal Ctrl-C reaches it by
// itself; else it is told.
func (c *cli) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error {
		if c.inTTY {
			return nil
		}
		return cmd.Process.Signal(os.Interrupt)
	}
	cmd.WaitDelay = interruptWait
	return cmd
}

// ended turns how a program ended into an error with its exit code; code is for
// one that did not run or was killed.
func ended(name string, err error, code int) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		if n := e.ExitCode(); n >= 0 {
			return silent(n)
		}
		return &failure{code: code, text: name + " was killed: " + e.String()}
	}
	return &failure{code: code, text: fmt.Sprintf("run %s: %v", name, err), cause: err}
}

// runHere runs the command once, on this machine.
func (c *cli) runHere(ctx context.Context, config string, granted []api.Request, o runOptions) error {
	cmd := c.command(ctx, o.command[0], o.command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, c.stderr
	word := "'" + strings.ReplaceAll(config, "'", `'\''`) + "'"
	ansible := "-F " + word
	if own := c.env("ANSIBLE_SSH_COMMON_ARGS"); own != "" {
		ansible += " " + own
	}
	cmd.Env = append(os.Environ(),
		"DRAWBOLT_HOSTS="+strings.Join(hostsOf(granted), ","), "DRAWBOLT_ACCOUNT="+o.account, "DRAWBOLT_SSH_CONFIG="+config,
		"ANSIBLE_REMOTE_USER="+o.account, "ANSIBLE_SSH_COMMON_ARGS="+ansible,
		"GIT_SSH_COMMAND=ssh -F "+word, "RSYNC_RSH=ssh -F "+word,
	)
	err := ended(o.command[0], cmd.Run(), exitError)
	if ctx.Err() != nil {
		return silent(exitInterrupt)
	}
	return err
}

// An outcomeJSON is how the command ended on one target.
type outcomeJSON struct {
	Target   string `json:"target"`
	Account  string `json:"account"`
	Request  string `json:"request"`
	ExitCode int    `json:"exit_code"`
	Error    string `json:"error,omitempty"`
}

// runEverywhere runs the command on each target by ssh, o.parallel at a time.
func (c *cli) runEverywhere(ctx context.Context, config string, granted []api.Request, o runOptions) error {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return &failure{code: exitTransport, text: fmt.Sprintf("the program ssh is not installed: %v", err), next: "install OpenSSH"}
	}
	width := 0
	for _, r := range granted {
		width = max(width, len(r.Target))
	}
	var mu sync.Mutex // one line at a time
	results := make([]outcomeJSON, len(granted))
	slots := make(chan struct{}, o.parallel)
	var wg sync.WaitGroup
	for i, r := range granted {
		results[i] = outcomeJSON{Target: r.Target, Account: r.Account, Request: r.ID}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			results[i].ExitCode, results[i].Error = exitInterrupt, "not run"
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			prefix := fmt.Sprintf("%-*s | ", width, r.Target)
			out := &lines{to: c.stdout, mu: &mu, prefix: prefix, clean: c.outTTY}
			if c.json != "" {
				out.to, out.clean = c.stderr, c.errTTY
			}
			talk := &lines{to: c.stderr, mu: &mu, prefix: prefix, clean: c.errTTY}
			cmd := c.command(ctx, program, append([]string{"-F", config, r.Target, "--"}, o.command...)...)
			cmd.Stdout, cmd.Stderr = out, talk
			err := ended("ssh", cmd.Run(), exitTransport)
			out.flush()
			talk.flush()
			if f, ok := errors.AsType[*failure](err); ok {
				results[i].ExitCode, results[i].Error = f.code, f.text
			}
		})
	}
	wg.Wait()
	if _, err := c.emit(results); err != nil {
		return err
	}
	return c.sumUp(ctx, results)
}

// sumUp says on how many targets the command failed, with the highest exit code.
func (c *cli) sumUp(ctx context.Context, results []outcomeJSON) error {
	if ctx.Err() != nil {
		return silent(exitInterrupt)
	}
	code := 0
	var failed []string
	for _, r := range results {
		if r.ExitCode != 0 {
			code = max(code, r.ExitCode)
			failed = append(failed, fmt.Sprintf("%s (%d)", r.Target, r.ExitCode))
		}
	}
	if code == 0 {
		c.done("it has run on %s", countTargets(len(results)))
		return nil
	}
	return &failure{code: code, text: fmt.Sprintf("it failed on %d of %s: %s", len(failed), countTargets(len(results)), strings.Join(failed, ", "))}
}

// maxOutputLine is how much of a line is kept before it is written, in bytes.
const maxOutputLine = 64 << 10

// lines writes what comes in whole lines behind a prefix, so that those of
// several targets do not mix. On a terminal it cleans them: no target writes in
// another's name.
type lines struct {
	to     io.Writer
	mu     *sync.Mutex
	prefix string
	clean  bool
	part   []byte
}

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		l.part = append(l.part, line...)
		if !whole && len(l.part) < maxOutputLine {
			return n, nil
		}
		if err := l.flushLine(); err != nil {
			return 0, err
		}
		p = rest
	}
}

func (l *lines) flushLine() error {
	text := strings.TrimSuffix(string(l.part), "\r")
	l.part = l.part[:0]
	if l.clean {
		text = clean(text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := io.WriteString(l.to, l.prefix+text+"\n")
	return err
}

// flush writes what has no end yet.
func (l *lines) flush() {
	if len(l.part) > 0 {
		_ = l.flushLine() // nobody is left to be told
	}
}
