package sshproxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder"
)

// play runs a command and returns what it said, and its exit code.
func play(t testing.TB, cmd *exec.Cmd) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	check(t, cmd.Start())
	timer := time.AfterFunc(2*patience, func() { t.Error("took too long: ", cmd.Args); cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("%v: %s", err, &e)
	}
	return o.String(), e.String(), code
}

// background starts a command whose stderr can be watched.
func background(t testing.TB, cmd *exec.Cmd) (errs *lockedBuffer, wait func() error) {
	t.Helper()
	errs = &lockedBuffer{}
	cmd.Stderr = errs
	check(t, cmd.Start())
	timer := time.AfterFunc(2*patience, func() { t.Error("took too long: ", cmd.Args); cmd.Process.Kill() })
	wait = sync.OnceValue(func() error { defer timer.Stop(); return cmd.Wait() })
	t.Cleanup(func() { cmd.Process.Kill(); wait() })
	return errs, wait
}

func TestStockClient(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	for name, args := range map[string][]string{
		"through ProxyJump": {me(t) + "@db01"},
		"direct with +":     {"-l", me(t) + "+db01", "gw"},
		"direct with @":     {"-l", me(t) + "@db01", "gw"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := play(t, h.ssh("alice", append(args, "echo out; echo err >&2; exit 7")...))
			if out != "out\n" || errs != "err\n" || code != 7 {
				t.Errorf("got %q, %q and exit %d", out, errs, code)
			}
		})
	}
	for _, s := range h.closed(3) {
		if s.EndReason != "exited" || s.ExitStatus == nil || *s.ExitStatus != 7 || s.Kind != "exec" {
			t.Errorf("got %+v", s)
		}
		if got := h.recording(s, recorder.Output); got != "out\n" {
			t.Errorf("recorded output %q", got)
		}
		if got := h.recording(s, recorder.Stderr); got != "err\n" {
			t.Errorf("recorded stderr %q", got)
		}
		if !strings.HasPrefix(s.Client, "SSH-2.0-OpenSSH") {
			t.Errorf("client %q", s.Client)
		}
	}
}

func TestStreams(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	login := me(t) + "@db01"

	t.Run("stdin at its end", func(t *testing.T) {
		cmd := h.ssh("alice", login, "sleep 0.2; echo still here")
		cmd.Stdin, _ = os.Open(os.DevNull)
		if out, errs, code := play(t, cmd); out != "still here\n" || code != 0 {
			t.Errorf("got %q, %q and exit %d", out, errs, code)
		}
	})
	t.Run("bulk both ways", func(t *testing.T) {
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
		cmd := h.ssh("alice", login, "cat")
		cmd.Stdin = bytes.NewReader(data)
		out, errs, code := play(t, cmd)
		if sha256.Sum256([]byte(out)) != sha256.Sum256(data) || code != 0 {
			t.Fatalf("got %d bytes, %q and exit %d", len(out), errs, code)
		}
	})
	t.Run("the reader goes away", func(t *testing.T) {
		cmd := h.ssh("alice", login, "yes")
		r := must(cmd.StdoutPipe())(t)
		_, wait := background(t, cmd)
		must(io.ReadFull(r, make([]byte, 1<<20)))(t)
		r.Close()
		wait()
		h.closed(len(h.sessions()))
	})
	t.Run("killed by a signal", func(t *testing.T) {
		_, _, code := play(t, h.ssh("alice", login, "kill -TERM $$"))
		if code != 255 {
			t.Errorf("got exit %d, want the client's 255 for a signal", code)
		}
	})
	t.Run("environment", func(t *testing.T) {
		cmd := h.ssh("alice", "-o", "SetEnv=LC_TEST=yes LD_PRELOAD=/x", login, "echo $LC_TEST$LD_PRELOAD")
		if out, errs, code := play(t, cmd); out != "yes\n" || code != 0 {
			t.Errorf("got %q, %q and exit %d", out, errs, code)
		}
		h.wantRefusal("channel request env")
	})
}

func TestTerminal(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	cmd := h.ssh("alice", "-tt", me(t)+"@db01", "stty size; cat")
	stdin := must(cmd.StdinPipe())(t)
	out := &lockedBuffer{}
	cmd.Stdout = out
	_, wait := background(t, cmd)
	eventually(t, "the terminal's size", func() bool { return strings.Contains(out.String(), "\n") })
	io.WriteString(stdin, "typed\n") // not before: what is typed into other output counts as unseen
	eventually(t, "the echo", func() bool { return strings.Count(out.String(), "typed") == 2 })
	io.WriteString(stdin, "\x04")
	check(t, wait())
	s := h.closed(1)[0]
	if got := h.recording(s, recorder.Input); got != "typed\n\x04" {
		t.Errorf("recorded input %q", got)
	}
	if got := h.recording(s, recorder.Output); got != out.String() {
		t.Errorf("recorded output %q, the user got %q", got, out)
	}
}

// What waits in user authentication is told so, let in at the approval, and
// sees who has said what.
func TestHold(t *testing.T) {
	h := newHouse(t, func(o *options) {
		o.limits.Reminder = 100 * time.Millisecond
		o.url = func(id string) string { return "https://gw.example.com/r/" + id }
	})
	h.realTarget("db01")
	cmd := h.ssh("alice", "-o", "BatchMode=yes", me(t)+"+INC-1234@db01", "echo in")
	out := &lockedBuffer{}
	cmd.Stdout = out
	errs, wait := background(t, cmd)
	c := h.pending("alice")
	if c.Request.Reason != "INC-1234" || c.Request.Ticket != "INC-1234" {
		t.Errorf("got %+v", c.Request)
	}
	eventually(t, "a reminder", func() bool { return errs.has("still waiting 0:0") && errs.has(" - cancel with Ctrl-C") })
	h.approve(c.Request.ID, "read-only please")
	if err := wait(); err != nil || out.String() != "in\n" {
		t.Fatalf("got %v, %q, %s", err, out, errs)
	}
	for _, want := range []string{
		"drawbolt: " + me(t) + "@db01 needs approval (rule ",
		c.Request.ID + " sent to bob - https://gw.example.com/r/" + c.Request.ID,
		`drawbolt: approved by bob: "read-only please" - 1h from now - this session is recorded`,
	} {
		if !errs.has(want) {
			t.Errorf("not said: %q in\n%s", want, errs)
		}
	}
}

func TestHoldEnds(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	start := func(h *house) (*lockedBuffer, func() error) {
		return background(t, h.ssh("alice", "-o", "BatchMode=yes", me(t)+"+INC-1@db01", "true"))
	}
	t.Run("denied", func(t *testing.T) {
		errs, wait := start(h)
		c := h.pending("alice")
		must(h.broker.Deny(context.Background(), h.people["bob"].caller, c.Request.ID, c.Request.Digest(), "not in the freeze"))(t)
		if wait() == nil || !errs.has(`was denied by bob: "not in the freeze"`) {
			t.Errorf("got %s", errs)
		}
	})
	t.Run("nobody decides, and the request stays", func(t *testing.T) {
		h := newHouse(t, func(o *options) { o.limits.Hold = 1500 * time.Millisecond; o.limits.Reminder = time.Second })
		h.realTarget("db01")
		errs, wait := start(h)
		c := h.pending("alice")
		if wait() == nil || !errs.has("no decision yet; "+c.Request.ID+" stays open") {
			t.Errorf("got %s", errs)
		}
		if got := h.pending("alice"); got.Request.ID != c.Request.ID {
			t.Errorf("got %s, want %s", got.Request.ID, c.Request.ID)
		}
	})
	t.Run("the client goes, and nothing is left", func(t *testing.T) {
		cmd := h.ssh("mallory", "-o", "BatchMode=yes", me(t)+"+INC-1@db01", "true")
		_, wait := background(t, cmd)
		h.pending("mallory")
		cmd.Process.Kill()
		wait()
		eventually(t, "no held connection", func() bool {
			h.server.gate.mu.Lock()
			defer h.server.gate.mu.Unlock()
			return h.server.gate.held == 0 && h.server.gate.open == 0
		})
		h.pending("mallory")
	})
}

// What held at the first step of a login holds at its end: who is locked, or
// loses the key, while the connection waits for an approval does not come in by
// it.
func TestHoldKeepsLimits(t *testing.T) {
	for name, test := range map[string]struct {
		lose func(h *house)
		says string
	}{
		"key removed": {func(h *house) {
			alice := h.people["alice"]
			check(h.t, h.broker.RemoveKey(context.Background(), alice.caller, "", gossh.FingerprintSHA256(alice.key.PublicKey())))
		}, "the key with which you logged in was removed"},
		"locked": {func(h *house) {
			h.change(func(tx *store.Tx) error {
				u, err := tx.User(context.Background(), "alice")
				u.Locked, u.LockReason = true, "INC-9"
				return errors.Join(err, tx.SaveUser(context.Background(), &u))
			})
		}, "locked"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.realTarget("db01")
			cmd := h.ssh("alice", "-o", "BatchMode=yes", me(t)+"+INC-1@db01", "echo in")
			out := &lockedBuffer{}
			cmd.Stdout = out
			errs, wait := background(t, cmd)
			c := h.pending("alice")
			test.lose(h)
			h.approve(c.Request.ID, "")
			if err := wait(); err == nil || out.String() != "" || !errs.has(test.says) {
				t.Errorf("got %v, %q, %s", err, out, errs)
			}
			if n := len(h.sessions()); n != 0 {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

// Many connections with one reason are one request.
func TestBurst(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	var waits []func() error
	var said []*lockedBuffer
	for range 8 {
		errs, wait := background(t, h.ssh("alice", "-o", "BatchMode=yes", me(t)+"+CHG-77@db01", "true"))
		waits, said = append(waits, wait), append(said, errs)
	}
	t.Cleanup(func() {
		for _, errs := range said {
			if t.Failed() {
				t.Log(errs)
			}
		}
	})
	c := h.pending("alice")
	eventually(t, "all to be held", func() bool {
		h.server.gate.mu.Lock()
		defer h.server.gate.mu.Unlock()
		return h.server.gate.held == 8
	})
	h.approve(c.Request.ID, "")
	for _, wait := range waits {
		check(t, wait())
	}
	list := must(h.broker.Requests(context.Background(), h.people["alice"].caller, broker.Filter{Mine: true}))(t)
	if len(list) != 1 {
		t.Errorf("got %d requests, want 1", len(list))
	}
}

// The reason is asked for where the client can answer, and where it cannot the
// line says what to type.
func TestReason(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	t.Run("answered", func(t *testing.T) {
		script := filepath.Join(t.TempDir(), "answer")
		check(t, os.WriteFile(script, []byte("#!/bin/sh\necho INC-9 replication lag\n"), 0o700))
		cmd := h.ssh("alice", me(t)+"@db01", "echo in")
		cmd.Env = append(os.Environ(), "SSH_ASKPASS="+script, "SSH_ASKPASS_REQUIRE=force")
		out := &lockedBuffer{}
		cmd.Stdout = out
		errs, wait := background(t, cmd)
		c := h.pending("alice")
		if c.Request.Reason != "INC-9 replication lag" {
			t.Errorf("got the reason %q", c.Request.Reason)
		}
		h.approve(c.Request.ID, "")
		if err := wait(); err != nil || out.String() != "in\n" {
			t.Errorf("got %v, %q, %s", err, out, errs)
		}
	})
	t.Run("no terminal", func(t *testing.T) {
		_, errs, code := play(t, h.ssh("mallory", "-o", "BatchMode=yes", me(t)+"@db01", "true"))
		if code != 255 || !strings.Contains(errs, "a reason is needed (or: ssh "+me(t)+"+INC-1234@db01)") {
			t.Errorf("got exit %d, %s", code, errs)
		}
	})
}

// A session whose grant ends is told why, and nothing passes any more.
func TestRevoke(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	for name, end := range map[string]struct {
		do     func(c broker.Case)
		reason string
		said   string
	}{
		"revoked": {func(c broker.Case) {
			must(h.broker.Revoke(context.Background(), h.people["bob"].caller, c.Request.ID, "incident over"))(t)
		}, "revoked", "incident over"},
		"released": {func(c broker.Case) {
			must(h.broker.Release(context.Background(), h.people["alice"].caller, c.Request.ID))(t)
		}, "released", "gave"},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.grant("alice", "db01", time.Hour)
			cmd := h.ssh("alice", "-tt", me(t)+"@db01", "while true; do echo tick; sleep 0.02; done")
			out := &lockedBuffer{}
			cmd.Stdout = out
			errs, wait := background(t, cmd)
			eventually(t, "output", func() bool { return out.has("tick") })
			began := time.Now()
			end.do(c)
			if wait() == nil {
				t.Error("the client ended well")
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("the end took %v", took)
			}
			if all := out.String() + errs.String(); !strings.Contains(all, "session ended: ") || !strings.Contains(all, end.said) {
				t.Errorf("got %q", all)
			}
			s := h.closed(len(h.sessions()))[0]
			if s.EndReason != end.reason || s.Recording.SHA256 == "" {
				t.Errorf("got %+v", s)
			}
			if got := h.recording(s, recorder.Output); !strings.HasPrefix(out.String(), got) && !strings.HasPrefix(got, "tick") {
				t.Errorf("recorded %q", got)
			}
		})
	}
}

func TestExpiry(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", 2*time.Second)
	began := time.Now()
	_, errs, code := play(t, h.ssh("alice", me(t)+"@db01", "sleep 60"))
	if took := time.Since(began); took > 25*time.Second || code != 255 || !strings.Contains(errs, "the time for "+me(t)+"@db01 is over") {
		t.Errorf("after %v: exit %d, %s", took, code, errs)
	}
	if s := h.closed(1)[0]; s.EndReason != "expired" {
		t.Errorf("got %+v", s)
	}
}

// What is not known or not allowed is one line and an end.
func TestRefusedLogins(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	for name, c := range map[string]struct {
		person string
		args   []string
		said   string
	}{
		"no such target, direct":      {"alice", []string{"-l", me(t) + "+db99", "gw"}, "db99"},
		"no such target, jump":        {"alice", []string{me(t) + "@db99"}, "db99"},
		"no such account":             {"alice", []string{"nobody@db01"}, "nobody@db01"},
		"somebody without a role":     {"bob", []string{"-l", me(t) + "+db01", "gw"}, "db01"},
		"an account outside grammar":  {"alice", []string{"-l", "Root+db01", "gw"}, "account name"},
		"a ticket outside grammar":    {"alice", []string{"-l", "root+db01+a:b", "gw"}, "reference"},
		"the gateway itself":          {"alice", []string{"gw"}, "this hop only leads to targets"},
		"another person's connection": {"mallory", []string{"-o", "BatchMode=yes", "-l", me(t) + "+db01", "gw"}, "a reason is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, code := play(t, h.ssh(c.person, append(c.args, "id")...))
			if code != 255 || out != "" || !strings.Contains(errs, c.said) {
				t.Errorf("got exit %d, %q, %s", code, out, errs)
			}
		})
	}
	if n := len(h.sessions()); n != 0 {
		t.Errorf("%d sessions were opened", n)
	}
}

func TestForwardsAreRefused(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	login := me(t) + "@db01"
	for name, args := range map[string][]string{
		"local":  {"-W", "127.0.0.1:22", login},
		"remote": {"-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:0:127.0.0.1:22", login, "true"},
		"agent":  {"-A", login, "true"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "agent" {
				args = append([]string{"-o", "IdentityAgent=" + filepath.Join(h.dir, "none")}, args...)
			}
			_, errs, code := play(t, h.ssh("alice", args...))
			if code == 0 && name != "agent" {
				t.Errorf("got exit %d, %s", code, errs)
			}
		})
	}
	h.wantRefusal("channel direct-tcpip: the role does not allow forward")
	h.wantRefusal("global request tcpip-forward: the role does not allow forward")
}

func TestSFTP(t *testing.T) {
	for name, allowed := range map[string]bool{"allowed": true, "refused": false} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(o *options) {
				if allowed {
					o.rules.Files = []string{"upload *", "download *"}
				}
			})
			h.realTarget("db01")
			h.grant("alice", "db01", time.Hour)
			dir := t.TempDir()
			from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
			check(t, os.WriteFile(from, []byte("content that is on record"), 0o600))
			cmd := h.ssh("alice")
			cmd.Args = append([]string{"scp"}, append(cmd.Args[1:], from, me(t)+"@db01:"+to)...)
			cmd.Path = must(exec.LookPath("scp"))(t)
			_, errs, code := play(t, cmd)
			if (code == 0) != allowed {
				t.Fatalf("exit %d, %s", code, errs)
			}
			if !allowed {
				h.wantRefusal("channel request subsystem: the role does not allow sftp")
				return
			}
			got, _ := os.ReadFile(to)
			s := h.closed(1)[0]
			if string(got) != "content that is on record" || strings.Contains(h.recording(s, recorder.Input), string(got)) || s.Command != "subsystem sftp" {
				t.Errorf("got %q, %+v", got, s)
			}
		})
	}
}

// With commands named, nothing else runs: not by quoting, not by a newline, not
// by a variable that the client sends.
func TestCommandRules(t *testing.T) {
	h := newHouse(t, func(o *options) {
		o.rules.Shell, o.rules.Exec, o.rules.Commands = false, true, []string{"echo exactly; echo this", "printf %s *"}
	})
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	login := me(t) + "@db01"
	for command, want := range map[string]string{"echo exactly; echo this": "exactly\nthis\n", "printf %s word": "word"} {
		if out, errs, code := play(t, h.ssh("alice", login, command)); code != 0 || out != want {
			t.Errorf("%q: got %q, exit %d, %s", command, out, code, errs)
		}
	}
	for _, command := range []string{
		"echo exactly", "echo exactly; echo this; id", "printf %s 'a b'", "printf %s a;id", "printf %s a\nid", "printf %s $PATH", "printf %s -v", "id",
	} {
		out, errs, code := play(t, h.ssh("alice", "-o", "SendEnv=LANG", login, command))
		if code == 0 || out != "" || !strings.Contains(errs, "the role does not allow this command") {
			t.Errorf("%q ran: got %q, exit %d, %s", command, out, code, errs)
		}
	}
	if out, _, code := play(t, h.ssh("alice", login)); code == 0 || out != "" {
		t.Errorf("a shell was had: %q", out)
	}
	h.wantRefusal("channel request exec: the role does not allow this command")
	if n := len(h.sessions()); n != 2 {
		t.Errorf("%d sessions were opened", n)
	}
}

// A target whose key is neither pinned nor certified sees no certificate of
// ours and no byte of the user's.
func TestHostKeys(t *testing.T) {
	h := newHouse(t)
	s := h.startSSHD("db01")
	h.addTarget("db01", s.addr, newSigner(t).PublicKey()) // another key is pinned
	h.addTarget("db02", s.addr)                           // none is, and it has no certificate
	for _, name := range []string{"db01", "db02"} {
		h.grant("alice", name, time.Hour)
		_, errs, code := play(t, h.ssh("alice", me(t)+"@"+name, "true"))
		if code != 255 || !strings.Contains(errs, name) || !strings.Contains(errs, "nothing was sent to it") {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
	}
	h.wantRefusal("host key SHA256:")
	log, _ := os.ReadFile(s.log)
	if bytes.Contains(log, []byte("Accepted")) || bytes.Contains(log, []byte("userauth")) {
		t.Errorf("sshd was logged in to:\n%s", log)
	}
	for _, s := range h.closed(2) {
		if s.EndReason != "failed" {
			t.Errorf("got %+v", s)
		}
	}
}

func TestTargetByHostCertificate(t *testing.T) {
	h := newHouse(t)
	s := h.startSSHD("db01", "HostCertificate "+filepath.Join(h.dir, "sshd-db01", "host-cert.pub"))
	h.addTarget("db01", s.addr)
	h.grant("alice", "db01", time.Hour)
	if out, errs, code := play(t, h.ssh("alice", me(t)+"@db01", "echo in")); out != "in\n" || code != 0 {
		t.Errorf("got %q, exit %d, %s", out, code, errs)
	}
}

// A session that the policy narrowed after the login is held to the new rules.
func TestShellNotAllowed(t *testing.T) {
	h := newHouse(t, func(o *options) { o.rules = access.SessionRules{Recording: "strict", Exec: true} })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	cmd := h.ssh("alice", "-tt", me(t)+"@db01")
	if _, errs, code := play(t, cmd); code != 255 || !strings.Contains(errs, "the role does not allow shell") {
		t.Errorf("exit %d, %s", code, errs)
	}
	h.wantRefusal("channel request shell")
}

func TestMultiplexing(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	sock := filepath.Join(t.TempDir(), "s")
	_, wait := background(t, h.ssh("alice", "-M", "-N", "-S", sock, me(t)+"@db01"))
	eventually(t, "the master", func() bool { _, err := os.Stat(sock); return err == nil })
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if out, errs, code := play(t, h.ssh("alice", "-S", sock, me(t)+"@db01", "echo in")); out != "in\n" || code != 0 {
				t.Errorf("got %q, %q, exit %d", out, errs, code)
			}
		})
	}
	wg.Wait()
	play(t, h.ssh("alice", "-S", sock, "-O", "exit", me(t)+"@db01"))
	wait()
	h.closed(5)
}
