package sshproxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

// running waits until n sessions run, and returns them.
func (h *house) running(n int) []access.Session {
	h.t.Helper()
	var list []access.Session
	eventually(h.t, "running sessions", func() bool {
		list = nil
		for _, s := range h.sessions() {
			if s.State == access.Open || s.State == access.Opening {
				list = append(list, s)
			}
		}
		return len(list) == n
	})
	return list
}

func (h *house) pause(id string) {
	h.t.Helper()
	check(h.t, h.broker.Pause(context.Background(), h.people["bob"].caller, id))
}

func (h *house) resume(id string) {
	h.t.Helper()
	check(h.t, h.broker.Resume(context.Background(), h.people["bob"].caller, id))
}

func (h *house) watch(id string) *broker.Watching {
	h.t.Helper()
	w := must(h.broker.Watch(context.Background(), h.people["bob"].caller, id, false))(h.t)
	h.t.Cleanup(func() { w.End(context.Background(), 0, 0, nil) })
	return w
}

// What is typed during a pause comes when it ends: all of it, in its order, and not
// before. The end of the input waits, too.
func TestPauseHoldsKeys(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	cmd := h.ssh("alice", me(t)+"@db01", "cat; echo over")
	keys, out := must(cmd.StdinPipe())(t), &lockedBuffer{}
	cmd.Stdout = out
	errs, wait := background(t, cmd)
	io.WriteString(keys, "before\n")
	eventually(t, "the echo", func() bool { return out.has("before\n") })
	s := h.running(1)[0]
	h.pause(s.ID)
	eventually(t, "the notice", func() bool { return errs.has("drawbolt: bob has paused your input") })
	var want strings.Builder
	want.WriteString("before\n")
	for i := range 1000 {
		line := strings.Repeat("x", i%50) + "\n"
		want.WriteString(line)
		if _, err := io.WriteString(keys, line); err != nil {
			t.Fatal(err)
		}
	}
	keys.Close()
	time.Sleep(300 * time.Millisecond)
	if out.String() != "before\n" {
		t.Errorf("during the pause came %q", out)
	}
	h.resume(s.ID)
	if err := wait(); err != nil || out.String() != want.String()+"over\n" {
		t.Errorf("%v, got %d bytes, want %d", err, len(out.String()), want.Len()+5)
	}
	s = h.closed(1)[0]
	if marks := h.recording(s, cast.Mark); !strings.Contains(marks, "paused by bob") || !strings.Contains(marks, "pause ended") {
		t.Errorf("marks %q", marks)
	}
	if got := h.recording(s, recorder.Input); got != want.String() {
		t.Errorf("recorded %d bytes of input, want %d", len(got), want.Len())
	}
}

// A pause does not hold what is shown, and does not keep a session from its end.
func TestPauseHoldsNothingElse(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	c := h.grant("alice", "db01", time.Hour)
	cmd := h.ssh("alice", me(t)+"@db01", "while sleep 0.05; do echo tick; done")
	out := &lockedBuffer{}
	cmd.Stdout = out
	errs, wait := background(t, cmd)
	eventually(t, "output", func() bool { return out.has("tick") })
	h.pause(h.running(1)[0].ID)
	n := strings.Count(out.String(), "tick")
	eventually(t, "more output", func() bool { return strings.Count(out.String(), "tick") > n+3 })
	must(h.broker.Revoke(context.Background(), h.people["bob"].caller, c.Request.ID, "INC-7"))(t)
	if err := wait(); err == nil || !errs.has("bob revoked") {
		t.Errorf("%v, %s", err, errs)
	}
}

// Who cannot type is not idle; who can, is.
func TestPauseIsNotIdle(t *testing.T) {
	h := newHouse(t, func(o *options) { o.bastion = func(c *bastion.Config) { c.Idle = 3 * time.Second } })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	cmd := h.ssh("alice", me(t)+"@db01", "echo ready; cat")
	must(cmd.StdinPipe())(t)
	out := &lockedBuffer{}
	cmd.Stdout = out
	_, wait := background(t, cmd)
	eventually(t, "the session", func() bool { return out.has("ready") })
	s := h.running(1)[0]
	h.pause(s.ID)
	time.Sleep(4 * time.Second)
	h.resume(s.ID)
	began := time.Now()
	wait()
	if s := h.closed(1)[0]; s.EndReason != "idle" || time.Since(began) < 500*time.Millisecond {
		t.Errorf("it ended as %s, %s after the pause", s.EndReason, time.Since(began))
	}
}

// Nothing gets around a pause: another channel, another connection, files, a tunnel
// that is open, a signal.
func TestPauseIsNotDodged(t *testing.T) {
	h := newHouse(t, withForwards("local 127.0.0.1:*"), func(o *options) { o.rules.Files = []string{"upload *", "download *"} })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer ln.Close()
	client := h.client("alice", "db01")
	tunnel := must(client.Dial("tcp", ln.Addr().String()))(t)
	defer tunnel.Close()
	far := must(ln.Accept())(t)
	defer far.Close()
	shell := must(client.NewSession())(t)
	defer shell.Close()
	check(t, shell.Start("trap 'echo got it' INT; while :; do sleep 0.1; done"))
	sftp := must(client.NewSession())(t)
	defer sftp.Close()
	packets, replies := must(sftp.StdinPipe())(t), must(sftp.StdoutPipe())(t)
	check(t, sftp.RequestSubsystem("sftp"))
	all := h.running(3)
	h.pause(all[0].ID)
	// A new channel and a new connection get no session.
	if s, err := client.NewSession(); err == nil {
		if out, err := s.CombinedOutput("id"); err == nil || strings.Contains(string(out), "uid=") {
			t.Errorf("a second channel ran: %q", out)
		}
	}
	if out, errs, code := play(t, h.ssh("alice", me(t)+"@db01", "id")); code == 0 || strings.Contains(out, "uid=") || !strings.Contains(errs, "DB-6083") {
		t.Errorf("a second connection: %q, %s", out, errs)
	}
	// Nor does a tunnel begin, in the session that has some.
	if c, err := client.Dial("tcp", ln.Addr().String()); err == nil {
		c.Close()
		t.Error("another tunnel was opened")
	} else if !strings.Contains(err.Error(), "input is held") {
		t.Errorf("another tunnel: %v", err)
	}
	// What is open carries nothing to the target.
	tunnel.Write([]byte("through the tunnel"))
	packets.Write([]byte("\x00\x00\x00\x05\x01\x00\x00\x00\x03")) // SSH_FXP_INIT
	far.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, err := far.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes came through the tunnel", n)
	}
	check(t, shell.Signal(gossh.SIGINT))
	h.wantRefusal("input is held")
	answered := make(chan []byte, 1)
	go func() {
		b := make([]byte, 9)
		io.ReadFull(replies, b)
		answered <- b
	}()
	select {
	case b := <-answered:
		t.Errorf("sftp answered %q", b)
	case <-time.After(200 * time.Millisecond):
	}
	// What is shown passes all the while.
	far.Write([]byte("hello"))
	if b := make([]byte, 5); must(io.ReadFull(tunnel, b))(t) != 5 || string(b) != "hello" {
		t.Errorf("got %q", b)
	}
	h.resume(all[1].ID)
	far.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 18)
	must(io.ReadFull(far, b))(t)
	if string(b) != "through the tunnel" {
		t.Errorf("after the pause came %q", b)
	}
	if b := <-answered; !bytes.HasPrefix(b[4:], []byte{2}) { // SSH_FXP_VERSION
		t.Errorf("sftp answered %q", b)
	}
}

// A message is one line, on a terminal and without one, and acts on neither.
func TestMessageArrives(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	for _, terminal := range []string{"-tt", "-T"} {
		cmd := h.ssh("alice", terminal, me(t)+"@db01", "cat")
		keys := must(cmd.StdinPipe())(t)
		cmd.Stdout = io.Discard
		errs, wait := background(t, cmd)
		s := h.running(1)[0]
		eventually(t, "the session to be open", func() bool { return h.running(1)[0].State == access.Open })
		check(t, h.broker.Message(context.Background(), h.people["bob"].caller, s.ID, "please stop at 16:00"))
		eventually(t, "the message", func() bool { return errs.has("drawbolt: message from bob: please stop at 16:00") })
		if strings.Contains(errs.String(), "\x1b") {
			t.Errorf("told %q", errs)
		}
		if terminal == "-tt" {
			io.WriteString(keys, "\x04")
		}
		keys.Close()
		wait()
		if marks := h.recording(h.closed(len(h.sessions()))[0], cast.Mark); !strings.Contains(marks, "message from bob: please stop at 16:00") {
			t.Errorf("marks %q", marks)
		}
	}
}

// A user who reads nothing of what is said to them holds nothing up: not the
// recording of it, nor their own session.
func TestMessageToWhoDoesNotRead(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	client := h.client("alice", "db01")
	s := must(client.NewSession())(t)
	stdin := must(s.StdinPipe())(t)
	must(s.StderrPipe())(t) // of which nothing is read, until the window is full
	read := filepath.Join(t.TempDir(), "read")
	check(t, s.Start("(head -c 4000000 /dev/zero >&2) & cat >"+read))
	id := h.running(1)[0].ID
	time.Sleep(300 * time.Millisecond)
	text := strings.Repeat("please read this ", broker.MaxMessage/17)
	for range 100 {
		check(t, h.broker.Message(context.Background(), h.people["bob"].caller, id, text))
	}
	io.WriteString(stdin, "typed\n")
	eventually(t, "what was typed", func() bool { b, _ := os.ReadFile(read); return string(b) == "typed\n" })
	stdin.Close()
	client.Close()
	x := h.closed(1)[0]
	if n := strings.Count(h.recording(x, cast.Mark), "message from bob"); n <= maxUnread {
		t.Errorf("%d messages are on record", n)
	}
	if got := h.recording(x, recorder.Input); got != "typed\n" {
		t.Errorf("recorded input %q", got)
	}
}

// With four eyes nothing runs until somebody else watches, and it stops when they
// leave; what was typed before is not lost.
func TestFourEyesHold(t *testing.T) {
	h := newHouse(t, func(o *options) { o.rules.FourEyes = true })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	ran := filepath.Join(t.TempDir(), "ran")
	cmd := h.ssh("alice", me(t)+"@db01", "touch "+ran+"; cat")
	keys, out := must(cmd.StdinPipe())(t), &lockedBuffer{}
	cmd.Stdout = out
	errs, wait := background(t, cmd)
	eventually(t, "the notice", func() bool { return errs.has("your input is held until somebody else watches") })
	io.WriteString(keys, "early\n")
	s := h.running(1)[0]
	time.Sleep(200 * time.Millisecond)
	if _, err := os.Stat(ran); err == nil {
		t.Error("the command ran before anybody watched")
	}
	w := h.watch(s.ID)
	eventually(t, "the echo", func() bool { return out.has("early\n") })
	if !errs.has("bob watches this session") {
		t.Errorf("told %s", errs)
	}
	check(t, w.End(context.Background(), 0, time.Second, nil))
	eventually(t, "the notice", func() bool { return errs.has("bob no longer watches") })
	io.WriteString(keys, "late\n")
	time.Sleep(200 * time.Millisecond)
	if out.has("late") {
		t.Error("input passed while nobody watched")
	}
	h.watch(s.ID)
	eventually(t, "the echo", func() bool { return out.has("late\n") })
	keys.Close()
	check(t, wait())
	marks := h.recording(h.closed(1)[0], cast.Mark)
	for _, part := range []string{"input held: nobody watches", "watched by bob", "no longer watched by bob"} {
		if !strings.Contains(marks, part) {
			t.Errorf("no %q in %q", part, marks)
		}
	}
}

// Whoever waits for a watcher can leave.
func TestFourEyesLeave(t *testing.T) {
	h := newHouse(t, func(o *options) { o.rules.FourEyes = true })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	cmd := h.ssh("alice", me(t)+"@db01", "id")
	errs, wait := background(t, cmd)
	eventually(t, "the notice", func() bool { return errs.has("held until somebody else watches") })
	cmd.Process.Kill()
	wait()
	if s := h.closed(1)[0]; s.EndReason != "aborted" {
		t.Errorf("it ended as %s", s.EndReason)
	}
}
