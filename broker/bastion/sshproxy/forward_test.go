package sshproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

// A site is a server that is reached through tunnels. It answers HTTP, and counts
// who comes.
type site struct {
	addr, port string
	came       *atomic.Int64
}

const siteSays = "behind the tunnel"

func newSite(t testing.TB, network, address string) site {
	t.Helper()
	ln := must(net.Listen(network, address))(t)
	s := site{addr: ln.Addr().String(), came: &atomic.Int64{}}
	_, s.port, _ = net.SplitHostPort(s.addr)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, siteSays) }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.came.Add(1)
			}
		},
	}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return s
}

// freePort gives a port at which nobody listens. It is below those that systems give
// out by themselves, so that nobody gets it before it is used.
func freePort(t testing.TB) string {
	t.Helper()
	for {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		if ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			check(t, ln.Close())
			return port
		}
	}
}

func withForwards(rules ...string) option {
	return func(o *options) { o.rules.Forwards = rules }
}

const httpQuestion = "GET / HTTP/1.0\r\n\r\n"

// ask asks the site at the other end of a connection.
func ask(conn io.ReadWriter) string {
	io.WriteString(conn, httpQuestion)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error()
	}
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// visit asks at an address, as soon as somebody listens there.
func visit(t testing.TB, network, address string) string {
	t.Helper()
	var conn net.Conn
	eventually(t, "somebody to listen at "+address, func() bool {
		c, err := net.Dial(network, address)
		conn = c
		return err == nil
	})
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	return ask(conn)
}

// tunnel runs ssh -N in the background until stop is called.
func (h *house) tunnel(t testing.TB, args ...string) (errs *lockedBuffer, stop func()) {
	t.Helper()
	cmd := h.ssh("alice", append([]string{"-N", "-o", "ExitOnForwardFailure=yes"}, args...)...)
	errs, wait := background(t, cmd)
	return errs, func() { cmd.Process.Signal(syscall.SIGTERM); wait() }
}

// marks returns what is on record of the newest session, which must be of the
// kind "forward" or another, when it is closed.
func (h *house) marks(t testing.TB, kind string) string {
	t.Helper()
	list := h.closed(len(h.sessions()))
	for _, s := range list {
		if s.Kind == kind {
			if h.recording(s, recorder.Output)+h.recording(s, recorder.Input) != "" && kind == "forward" {
				t.Error("contents of tunnels are on record")
			}
			return h.recording(s, cast.Mark)
		}
	}
	t.Fatalf("no session of kind %s in %+v", kind, list)
	return ""
}

func wantMarks(t testing.TB, marks string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(marks, p) {
			t.Errorf("%q is not on record:\n%s", p, marks)
		}
	}
}

// Every way in which stock OpenSSH opens a tunnel.
func TestForwards(t *testing.T) {
	dir := t.TempDir()
	far, farSocket := newSite(t, "tcp", "127.0.0.1:0"), newSite(t, "unix", filepath.Join(dir, "far"))
	near, nearSocket := newSite(t, "tcp", "127.0.0.1:0"), newSite(t, "unix", filepath.Join(dir, "near"))
	h := newHouse(t, withForwards("local 127.0.0.1:"+far.port, "local localhost:"+far.port, "local unix:"+dir+"/*", "remote 127.0.0.1:*", "remote unix:"+dir+"/*"))
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	login, here, there, beside := me(t)+"@db01", freePort(t), freePort(t), freePort(t)
	t.Run("-W", func(t *testing.T) {
		cmd := h.ssh("alice", "-W", far.addr, login)
		cmd.Stdin = strings.NewReader(httpQuestion)
		out, errs, code := play(t, cmd)
		if !strings.HasSuffix(out, siteSays) || code != 0 {
			t.Fatalf("got %q, %s, exit %d", out, errs, code)
		}
		wantMarks(t, h.marks(t, "forward"), `connection 1 opened: local to "127.0.0.1" port `+far.port+" at 127.0.0.1 from ", "connection 1 ended: closed, 18 bytes to the target, ")
		if s := h.sessions()[0]; s.EndReason != "aborted" || s.Kind != "forward" {
			t.Errorf("got %+v", s)
		}
	})
	for name, test := range map[string]struct {
		args          []string
		network, addr string
		opened        string
	}{
		"-L":               {[]string{"-L", here + ":" + far.addr, login}, "tcp", "127.0.0.1:" + here, `local to "127.0.0.1" port ` + far.port + " at 127.0.0.1"},
		"-L localhost":     {[]string{"-L", here + ":localhost:" + far.port, login}, "tcp", "127.0.0.1:" + here, `local to "localhost" port ` + far.port + " at 127.0.0.1"},
		"-L direct":        {[]string{"-L", here + ":" + far.addr, "-l", me(t) + "+db01", "gw"}, "tcp", "127.0.0.1:" + here, "local to"},
		"-L to a socket":   {[]string{"-L", here + ":" + farSocket.addr, login}, "tcp", "127.0.0.1:" + here, `local to unix "` + farSocket.addr},
		"-L socket":        {[]string{"-L", dir + "/here:" + farSocket.addr, login}, "unix", dir + "/here", `local to unix "` + farSocket.addr},
		"-R":               {[]string{"-R", there + ":" + near.addr, login}, "tcp", "127.0.0.1:" + there, `remote from at "localhost" port ` + there + " at 127.0.0.1, port " + there},
		"-R with address":  {[]string{"-R", "127.0.0.1:" + beside + ":" + nearSocket.addr, login}, "tcp", "127.0.0.1:" + beside, `remote from at "127.0.0.1" port ` + beside},
		"-R from a socket": {[]string{"-R", dir + "/there:" + near.addr, login}, "unix", dir + "/there", `remote from at unix "` + dir + `/there"`},
	} {
		t.Run(name, func(t *testing.T) {
			errs, stop := h.tunnel(t, test.args...)
			for range 3 {
				if got := visit(t, test.network, test.addr); got != siteSays {
					t.Fatalf("got %q, %s", got, errs)
				}
			}
			stop()
			wantMarks(t, h.marks(t, "forward"), "connection 1 opened: "+test.opened, "connection 3 opened: ", "connection 2 ended: closed, ")
			os.Remove(dir + "/there")
		})
	}
	t.Run("-R of any port", func(t *testing.T) {
		errs, stop := h.tunnel(t, "-R", "0:"+near.addr, login)
		eventually(t, "a port", func() bool { return errs.has("Allocated port ") })
		_, rest, _ := strings.Cut(errs.String(), "Allocated port ")
		port, _, _ := strings.Cut(rest, " ")
		if got := visit(t, "tcp", "127.0.0.1:"+port); got != siteSays {
			t.Errorf("got %q, %s", got, errs)
		}
		stop()
		wantMarks(t, h.marks(t, "forward"), "listening is asked for: remote at", "listening: remote at \"localhost\" port 0 at 127.0.0.1, port "+port)
	})
	t.Run("-D", func(t *testing.T) {
		errs, stop := h.tunnel(t, "-D", here, login)
		visitBySOCKS := func(host string) (string, error) {
			out, err := exec.Command("curl", "-sS", "--max-time", "10", "--socks5-hostname", "127.0.0.1:"+here, "http://"+host+":"+far.port).CombinedOutput()
			return string(out), err
		}
		eventually(t, "the proxy", func() bool { out, err := visitBySOCKS("localhost"); return err == nil && out == siteSays })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if out, err := visitBySOCKS("localhost"); err != nil || out != siteSays {
					t.Errorf("got %q, %v, %s", out, err, errs)
				}
			})
		}
		wg.Wait()
		if out, err := visitBySOCKS("other.example"); err == nil {
			t.Errorf("another host was reached: %s", out)
		}
		stop()
		h.wantRefusal(`forward local to "other.example" port ` + far.port)
	})
}

// Forwards that are opened and cancelled at a master, beside sessions.
func TestForwardsOfMaster(t *testing.T) {
	far, near := newSite(t, "tcp", "127.0.0.1:0"), newSite(t, "tcp", "127.0.0.1:0")
	there, here := freePort(t), freePort(t)
	h := newHouse(t, withForwards("local 127.0.0.1:"+far.port, "remote 127.0.0.1:"+there))
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	login, socket := me(t)+"@db01", filepath.Join(t.TempDir(), "s")
	_, stop := h.tunnel(t, "-M", "-S", socket, login)
	eventually(t, "the master", func() bool { _, err := os.Stat(socket); return err == nil })
	for range 2 {
		for _, f := range [][]string{{"-L", here + ":" + far.addr}, {"-R", there + ":" + near.addr}} {
			if _, errs, code := play(t, h.ssh("alice", append([]string{"-S", socket, "-O", "forward", login}, f...)...)); code != 0 {
				t.Fatalf("%v: exit %d, %s", f, code, errs)
			}
		}
		for _, port := range []string{here, there} {
			if got := visit(t, "tcp", "127.0.0.1:"+port); got != siteSays {
				t.Errorf("got %q", got)
			}
		}
		if out, _, code := play(t, h.ssh("alice", "-S", socket, login, "echo beside")); out != "beside\n" || code != 0 {
			t.Errorf("got %q, exit %d", out, code)
		}
		for _, f := range [][]string{{"-L", here + ":" + far.addr}, {"-R", there + ":" + near.addr}} {
			play(t, h.ssh("alice", append([]string{"-S", socket, "-O", "cancel", login}, f...)...))
		}
		eventually(t, "the listeners to be gone", func() bool {
			for _, port := range []string{here, there} {
				if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
					c.Close()
					return false
				}
			}
			return true
		})
	}
	stop()
	wantMarks(t, h.marks(t, "forward"), "listening no more: remote at", "connection 4 ended: closed")
	if got := len(h.closed(3)); got != 3 {
		t.Errorf("%d sessions, want one of tunnels and two of commands", got)
	}
}

// What VS Code does: a shell that reads its script, and everything else through a
// dynamic forward of the same connection, several channels at once.
func TestRemoteEditor(t *testing.T) {
	far := newSite(t, "tcp", "127.0.0.1:0")
	h := newHouse(t, withForwards("local 127.0.0.1:*", "local localhost:*"))
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	here := freePort(t)
	cmd := h.ssh("alice", "-T", "-D", here, me(t)+"@db01", "bash", "-s")
	in, out := must(cmd.StdinPipe())(t), &lockedBuffer{}
	cmd.Stdout = out
	_, wait := background(t, cmd)
	io.WriteString(in, "echo ready\n")
	eventually(t, "the script", func() bool { return out.has("ready") })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := exec.Command("curl", "-sS", "--max-time", "10", "--socks5", "127.0.0.1:"+here, "http://"+far.addr).CombinedOutput()
			if err != nil || string(got) != siteSays {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	io.WriteString(in, "echo done; exit 3\n")
	in.Close()
	if exit, ok := errors.AsType[*exec.ExitError](wait()); !ok || exit.ExitCode() != 3 || out.String() != "ready\ndone\n" {
		t.Errorf("got %q, %v", out, exit)
	}
	h.closed(2)
}

// The user's agent, where the role says so and the user asks, in this session
// alone.
func TestAgent(t *testing.T) {
	for name, test := range map[string]struct {
		allowed bool
		flag    string
		want    bool
	}{"asked and allowed": {true, "-A", true}, "not asked": {true, "-a", false}, "not allowed": {false, "-A", false}} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(o *options) { o.rules.Agent = test.allowed })
			h.realTarget("db01")
			h.grant("alice", "db01", time.Hour)
			socket := filepath.Join(t.TempDir(), "agent")
			agent := exec.Command("ssh-agent", "-D", "-a", socket)
			check(t, agent.Start())
			t.Cleanup(func() { agent.Process.Kill(); agent.Wait() })
			eventually(t, "the agent", func() bool { _, err := os.Stat(socket); return err == nil })
			add := exec.Command("ssh-add", h.people["alice"].file)
			add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
			if b, err := add.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			cmd := h.ssh("alice", test.flag, "-o", "IdentityAgent="+socket, me(t)+"@db01", "ssh-add -l")
			out, errs, code := play(t, cmd)
			fingerprint := gossh.FingerprintSHA256(h.people["alice"].key.PublicKey())
			if got := strings.Contains(out, fingerprint); got != test.want || (code == 0) != test.want {
				t.Errorf("exit %d, %q, %s", code, out, errs)
			}
			marks := h.marks(t, "exec")
			if test.want {
				wantMarks(t, marks, "the user's agent is offered to the target", "connection 1 opened: to the user's agent", "connection 1 ended: ")
			} else if marks != "" {
				t.Errorf("on record: %q", marks)
			}
			if !test.allowed {
				h.wantRefusal("channel request auth-agent-req@openssh.com: the role does not allow agent")
			}
		})
	}
}

// The user's display: a client at the target shows the cookie that it was told,
// and reaches the server of the user's. The cookie is not on record.
func TestX11(t *testing.T) {
	for name, allowed := range map[string]bool{"allowed": true, "not allowed": false} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(o *options) { o.rules.X11 = allowed })
			s := h.startSSHD("db01", "X11Forwarding yes", "X11DisplayOffset 50")
			h.addTarget("db01", s.addr, s.key)
			h.grant("alice", "db01", time.Hour)
			display, shown := fakeDisplay(t)
			cookie := strings.Repeat("5a", 16)
			home := t.TempDir()
			if b, err := exec.Command("xauth", "-f", home+"/authority", "add", display, ".", cookie).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			cmd := h.ssh("alice", "-Y", me(t)+"@db01", "echo $DISPLAY; test -z \"$DISPLAY\" || xauth list $DISPLAY; cat; test -z \"$DISPLAY\" || xauth -q remove $DISPLAY")
			cmd.Env = append(os.Environ(), "DISPLAY="+display, "XAUTHORITY="+home+"/authority")
			in, out := must(cmd.StdinPipe())(t), &lockedBuffer{}
			cmd.Stdout = out
			errs, wait := background(t, cmd)
			io.WriteString(in, "up\n")
			eventually(t, "the session", func() bool { return out.has("up\n") })
			if !allowed {
				in.Close()
				wait()
				if out.String() != "\nup\n" || shown.Load() != nil {
					t.Errorf("got %q", out)
				}
				h.wantRefusal("channel request x11-req: the role does not allow x11")
				return
			}
			lines := strings.Split(out.String(), "\n")
			_, number, _ := strings.Cut(lines[0], ":")
			number, _, _ = strings.Cut(number, ".")
			words := strings.Fields(lines[1])
			if number == "" || len(words) != 3 {
				t.Fatalf("got %q, %s", out, errs)
			}
			var n int
			fmt.Sscan(number, &n)
			conn := must(net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", 6000+n)))(t)
			defer conn.Close()
			conn.Write(x11Setup(t, words[2]))
			conn.SetDeadline(time.Now().Add(patience))
			answer := make([]byte, 7)
			if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "display" {
				t.Errorf("got %q, %v, %s", answer, err, errs)
			}
			if got := shown.Load(); got == nil || !strings.Contains(*got, strings.Repeat("\x5a", 16)) {
				t.Errorf("the display was shown %q", *got)
			}
			conn.Close()
			in.Close()
			check(t, wait())
			marks := h.marks(t, "exec")
			wantMarks(t, marks, "the user's display is offered to the target", "connection 1 opened: to the user's display from ", "connection 1 ended: ")
			session := h.sessions()[0]
			for _, stream := range []recorder.Stream{cast.Mark, recorder.Input, recorder.Stderr} {
				if strings.Contains(h.recording(session, stream), words[2]) || strings.Contains(h.recording(session, stream), cookie) {
					t.Error("a cookie is on record")
				}
			}
		})
	}
}

// fakeDisplay is an X server that says a word to whoever shows anything, and keeps
// what was shown.
func fakeDisplay(t *testing.T) (name string, shown *atomic.Pointer[string]) {
	t.Helper()
	shown = &atomic.Pointer[string]{}
	for n := 100; n < 400; n++ {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 6000+n))
		if err != nil {
			continue
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				buf := make([]byte, 1<<10)
				k, _ := io.ReadAtLeast(c, buf, 48)
				got := string(buf[:k])
				shown.Store(&got)
				io.WriteString(c, "display")
				io.Copy(io.Discard, c)
				c.Close()
			}
		}()
		return fmt.Sprintf("127.0.0.1:%d", n), shown
	}
	t.Fatal("no display is free")
	return "", nil
}

// x11Setup is how a client of X begins, with its cookie in hexadecimal.
func x11Setup(t *testing.T, cookie string) []byte {
	var key []byte
	if _, err := fmt.Sscanf(cookie, "%x", &key); err != nil || len(key) != 16 {
		t.Fatalf("cookie %q: %v", cookie, err)
	}
	const name = "MIT-MAGIC-COOKIE-1"
	b := []byte{'l', 0, 11, 0, 0, 0, byte(len(name)), 0, 16, 0, 0, 0}
	return append(append(append(b, name...), 0, 0), key...)
}
