package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
)

// sessionTime is what bob allows in the story: long enough to work, short
// enough to watch the end.
const sessionTime = 12 * time.Second

// story plays the main job once. Every step prints what is typed and what
// comes back; the first that does not go as it must ends the story.
func (d *demo) story(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 110*time.Second)
	defer cancel()
	d.say("\n== alice has no standing access. She types ssh; it asks for her ==")
	shell, err := d.openShell(ctx)
	if err != nil {
		return err
	}
	defer shell.close()
	if err := shell.expect(ctx, "Reason"); err != nil {
		return err
	}
	shell.type_("INC-1234 replication lag\n")
	request, err := d.pending(ctx)
	if err != nil {
		return shell.explain(err)
	}

	d.say("\n\n== bob sees it and approves, for less time than she asked ==")
	if _, err := d.run(ctx, "bob", "inbox"); err != nil {
		return err
	}
	d.say("   alice cannot approve it herself:")
	if _, err := d.run(ctx, "alice", "approve", request); err == nil {
		return errors.New("alice approved her own request")
	}
	if _, err := d.run(ctx, "bob", "approve", request, "--for", fmt.Sprintf("%ds", int(sessionTime.Seconds())), "--note", "read-only please"); err != nil {
		return err
	}

	d.say("\n== her ssh goes on by itself; every byte is recorded before it is forwarded ==")
	if err := shell.expect(ctx, "db01:~$"); err != nil {
		return err
	}
	shell.type_("echo working as $USER\n")
	if err := shell.expect(ctx, "working as root"); err != nil {
		return err
	}
	d.say("\n\n== a command under the same grant, with plain ssh ==")
	if _, err := d.plainSSH(ctx, "root@db01", "uname -s && echo done"); err != nil {
		return err
	}

	d.say("\n== her time ends in the middle of the session ==")
	shell.type_("while true; do date +%T; sleep 1; done\n")
	if err := shell.wait(ctx); err != nil {
		return err
	}
	if _, err := d.run(ctx, "alice", "status", request); err != nil && ctx.Err() != nil {
		return err
	}

	d.say("\n== carol replays what happened, and proves that nothing was changed ==")
	return d.audit(ctx)
}

// audit is what carol does: list, replay, verify with the server, export, and
// verify the files with nothing but the public key.
func (d *demo) audit(ctx context.Context) error {
	if _, err := d.run(ctx, "carol", "sessions"); err != nil {
		return err
	}
	out, err := d.command(ctx, "carol", "sessions", "--json").Output()
	if err != nil {
		return fmt.Errorf("list the sessions: %w", err)
	}
	var sessions []struct {
		ID   string `json:"id"`
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(out, &sessions); err != nil {
		return fmt.Errorf("list the sessions: %w", err)
	}
	id := ""
	for _, s := range sessions {
		if s.Kind == "shell" {
			id = s.ID
		}
	}
	if id == "" {
		return errors.New("the shell session is not listed")
	}
	key := filepath.Join(d.dir, "audit.pub")
	cast, log := filepath.Join(d.dir, "evidence.cast"), filepath.Join(d.dir, "audit.log")
	replayed, err := d.run(ctx, "carol", "replay", id, "--speed", "1000", "--idle", "1s")
	if err != nil {
		return err
	}
	if !strings.Contains(replayed, "working as root") {
		return errors.New("the replay does not show what was typed")
	}
	if err := os.WriteFile(key, []byte(d.app.keys.verifierKey+"\n"), 0o600); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"verify", id, "--key", key},
		{"export", id, "--format", "cast", "-o", cast},
		{"audit", "export", "-o", log},
		{"verify", cast, "--key", key},
		{"audit", "verify", log, "--key", key},
	} {
		if _, err := d.run(ctx, "carol", args...); err != nil {
			return err
		}
	}
	d.say("   one flipped bit in the recording is found:")
	b, err := os.ReadFile(cast)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	bad := filepath.Join(d.dir, "flipped.cast")
	if err := os.WriteFile(bad, b, 0o600); err != nil {
		return err
	}
	if _, err := d.run(ctx, "carol", "verify", bad, "--key", key); err == nil {
		return errors.New("the flipped recording verified")
	}
	d.say("\n== the story is told: asked, approved, used, ended, replayed, proved ==")
	return nil
}

func (d *demo) say(line string) { fmt.Fprintln(d.out, line) }

// run runs the client as a person and shows it.
func (d *demo) run(ctx context.Context, name string, args ...string) (string, error) {
	fmt.Fprintf(d.out, "%s$ drawbolt %s\n", name, strings.Join(quoted(args), " "))
	return d.show(d.command(ctx, name, args...))
}

func (d *demo) plainSSH(ctx context.Context, args ...string) (string, error) {
	fmt.Fprintf(d.out, "alice$ ssh %s\n", strings.Join(quoted(args), " "))
	return d.show(exec.CommandContext(ctx, "ssh", append([]string{"-F", d.sshConfig(), "-o", "BatchMode=yes"}, args...)...))
}

func quoted(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		if out[i] = a; strings.ContainsAny(a, " &$;") {
			out[i] = "'" + a + "'"
		}
	}
	return out
}

func (d *demo) show(cmd *exec.Cmd) (string, error) {
	var all bytes.Buffer
	cmd.Stdout, cmd.Stderr = &all, &all
	err := cmd.Run()
	for _, line := range strings.Split(strings.TrimRight(all.String(), "\n"), "\n") {
		fmt.Fprintln(d.out, "   ", strings.TrimRight(line, "\r"))
	}
	if err != nil {
		return all.String(), fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return all.String(), nil
}

// pending waits until alice's request is there.
func (d *demo) pending(ctx context.Context) (string, error) {
	for {
		out, err := d.command(ctx, "bob", "inbox", "--json").Output()
		if err != nil {
			return "", fmt.Errorf("read the inbox: %w", err)
		}
		var requests []struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(out, &requests); err != nil {
			return "", fmt.Errorf("read the inbox: %w", err)
		}
		if len(requests) > 0 {
			return requests[0].ID, nil
		}
		select {
		case <-ctx.Done():
			return "", errors.New("alice's request did not arrive")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// A shellSession is alice's stock ssh on a terminal of its own.
type shellSession struct {
	cmd      *exec.Cmd
	terminal *os.File
	done     chan struct{}

	mu     sync.Mutex
	seen   bytes.Buffer
	from   int // what has been looked at by expect
	update chan struct{}
}

func (d *demo) openShell(ctx context.Context) (*shellSession, error) {
	fmt.Fprintln(d.out, "alice$ ssh root@db01")
	s := &shellSession{
		cmd:  exec.CommandContext(ctx, "ssh", "-F", d.sshConfig(), "-tt", "root@db01"),
		done: make(chan struct{}), update: make(chan struct{}, 1),
	}
	s.cmd.Env = append(os.Environ(), "TERM=xterm", "SSH_AUTH_SOCK=")
	var err error
	if s.terminal, err = pty.StartWithSize(s.cmd, &pty.Winsize{Cols: 100, Rows: 30}); err != nil {
		return nil, fmt.Errorf("start ssh (is it installed?): %w", err)
	}
	go func() {
		defer close(s.done)
		indent := &indenter{to: d.out, fresh: true}
		buffer := make([]byte, 4096)
		for {
			n, err := s.terminal.Read(buffer)
			if n > 0 {
				indent.Write(buffer[:n])
				s.mu.Lock()
				s.seen.Write(buffer[:n])
				s.mu.Unlock()
				select {
				case s.update <- struct{}{}:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return s, nil
}

// expect waits until the terminal shows the text.
func (s *shellSession) expect(ctx context.Context, text string) error {
	for {
		s.mu.Lock()
		i := bytes.Index(s.seen.Bytes()[s.from:], []byte(text))
		if i >= 0 {
			s.from += i + len(text)
		}
		s.mu.Unlock()
		if i >= 0 {
			return nil
		}
		select {
		case <-s.update:
		case <-s.done:
			return fmt.Errorf("ssh ended before it showed %q", text)
		case <-ctx.Done():
			return fmt.Errorf("ssh did not show %q in time", text)
		}
	}
}

func (s *shellSession) explain(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("%w; ssh showed: %s", err, s.seen.String())
}

func (s *shellSession) type_(text string) { _, _ = io.WriteString(s.terminal, text) }

// wait waits until ssh has ended and said why.
func (s *shellSession) wait(ctx context.Context) error {
	select {
	case <-s.done:
	case <-ctx.Done():
		return errors.New("the session did not end at its deadline")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.Contains(s.seen.String(), "is over") {
		return errors.New("the session ended without its reason")
	}
	return nil
}

func (s *shellSession) close() {
	s.terminal.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// An indenter sets what ssh shows off from what the demo says.
type indenter struct {
	to    io.Writer
	fresh bool
}

func (w *indenter) Write(p []byte) (int, error) {
	for _, c := range p {
		if c == '\r' || c == 0 {
			continue
		}
		if w.fresh {
			_, _ = io.WriteString(w.to, "    ")
		}
		_, _ = w.to.Write([]byte{c})
		w.fresh = c == '\n'
	}
	return len(p), nil
}
