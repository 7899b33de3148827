//go:build unix

// Package plugin changes passwords of systems that no other kind knows, by a program of the operator's.
//
// The program is started once for each question, with the word "set" or "check" as its last argument, reads one
// JSON object from its standard input and answers with its exit status: see docs/formats/plugin.md. Secrets are on
// its standard input only, never in its arguments or environment, and what it says is not passed on if it has one.
//
// It trusts the program, which the server's configuration names.
package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
)

// CheckProgram refuses a program that others than root and this process's user could have
// put there, or change: it hears passwords.
func CheckProgram(name string) error {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", rotate.ErrUnreachable, err)
	case !filepath.IsAbs(name) || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%w: %s is no program that may be run, by its absolute path", rotate.ErrUnreachable, name)
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return fmt.Errorf("%w: %w", rotate.ErrUnreachable, err)
	}
	for _, at := range append(above(name), above(real)...) {
		if info, err = os.Stat(at); err != nil {
			return fmt.Errorf("%w: %w", rotate.ErrUnreachable, err)
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
			return fmt.Errorf("%w: others may change %s, which hears passwords", rotate.ErrUnreachable, at)
		}
	}
	return nil
}

// above are a file and the folders that it is in.
func above(name string) []string {
	list := []string{name}
	for dir := filepath.Dir(name); dir != list[len(list)-1]; dir = filepath.Dir(dir) {
		list = append(list, dir)
	}
	return list
}

// A Rotator changes the password of one account.
type Rotator struct {
	// Command is the program, by its absolute path, and its first arguments.
	Command []string
	Target  string // the target's name
	Address string // host:port
	Account string
}

// What the program answers with. Any other status, and to be killed, is an unclear answer.
const (
	statusDone        = 0
	statusRefused     = 10 // set: nothing has changed
	statusWrong       = 11 // check: the password is not accepted
	statusUnreachable = 12 // nothing was asked of the system
	statusLocked      = 13 // check: the account takes no logins now
)

const (
	within    = 60 * time.Second // for one question
	maxOutput = 4 << 10          // bytes that are looked at
	killAfter = 2 * time.Second  // after what was written is not read to its end
)

type question struct {
	Format   int    `json:"format"`
	Target   string `json:"target"`
	Address  string `json:"address"`
	Account  string `json:"account"`
	Current  []byte `json:"current,omitempty"` // base64, as Password
	Password []byte `json:"password"`
}

// Set implements rotate.Rotator.
func (r Rotator) Set(ctx context.Context, current, password vault.Secret) error {
	status, said, err := r.ask(ctx, "set", question{Current: current.Expose(), Password: password.Expose()}, password, current)
	switch {
	case err != nil:
		return err
	case status == statusDone:
		return nil
	case status == statusRefused:
		return &rotate.Refusal{Why: said}
	case status == statusUnreachable:
		return fmt.Errorf("%w: %s", rotate.ErrUnreachable, said)
	}
	return fmt.Errorf("the program ended with status %d: %s", status, said)
}

// Check implements rotate.Rotator.
func (r Rotator) Check(ctx context.Context, password vault.Secret) error {
	status, said, err := r.ask(ctx, "check", question{Password: password.Expose()}, password)
	switch {
	case err != nil:
		return err
	case status == statusDone:
		return nil
	case status == statusWrong:
		return rotate.ErrWrong
	case status == statusLocked:
		return rotate.ErrLocked
	case status == statusUnreachable:
		return fmt.Errorf("%w: %s", rotate.ErrUnreachable, said)
	}
	return fmt.Errorf("the program ended with status %d: %s", status, said)
}

// ask returns the program's status and what it said, as far as that can be passed on.
func (r Rotator) ask(ctx context.Context, verb string, q question, secrets ...vault.Secret) (int, string, error) {
	if len(r.Command) == 0 {
		return 0, "", fmt.Errorf("%w: no program is configured", rotate.ErrUnreachable)
	}
	q.Format, q.Target, q.Address, q.Account = 1, r.Target, r.Address, r.Account
	input, err := json.Marshal(q)
	if err != nil {
		return 0, "", fmt.Errorf("%w: %w", rotate.ErrUnreachable, err)
	}
	defer clear(input)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	c := exec.CommandContext(ctx, r.Command[0], append(r.Command[1:len(r.Command):len(r.Command)], verb)...)
	c.Env, c.Dir = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, "/"
	c.Stdin = bytes.NewReader(input)
	var output head
	c.Stdout, c.Stderr = &output, &output
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) } // with what it has started
	c.WaitDelay = killAfter
	if err := c.Start(); err != nil {
		return 0, "", fmt.Errorf("%w: start the program: %w", rotate.ErrUnreachable, err)
	}
	err = c.Wait()
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return 0, "", fmt.Errorf("the program did not answer in time: %w", ctx.Err())
	case err == nil:
		return statusDone, "", nil
	case exited && exit.Exited():
		return exit.ExitCode(), rotate.Said(output.b, secrets...), nil
	}
	return 0, "", fmt.Errorf("the program gave no answer: %w", err)
}

// head keeps the beginning of what is written to it.
type head struct{ b []byte }

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), maxOutput-len(h.b))]...)
	return len(p), nil
}
