//go:build linux

package test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// want is what a check wants of a client besides the command.
type want struct {
	cert, tty, env, alive, rekey, quantum bool
	reason, signal                        string
	flags                                 []string // of forwards
}

// A client is a program that logs in, and how it is told what to do.
type client struct {
	name string
	// command runs a remote command; none: a shell.
	command func(s *stand, w want, remote ...string) (*exec.Cmd, error)
	// sftp and scp copy one file up, or down to local.
	sftp, scp func(s *stand, up bool, local, remote string) (*exec.Cmd, error)
	// lacks says which features it does not have, and why.
	lacks map[string]string
	// gaps says what is known to be wrong.
	gaps map[string]string
	// without is a way that it has not, and why.
	without, why string
	// typed: it asks for the reason on its terminal; else want.reason is given.
	typed bool
	// rekeyed is what it says, asked to talk, when it has changed keys.
	rekeyed string
	// rekeyMore is how much is sent meanwhile, where what is known to be wrong
	// does not happen each time.
	rekeyMore int
}

// The features, which are the rows.
const (
	byKey       = "Login with a registered key"
	byCert      = "Login with an identity certificate (`drawbolt login`)"
	byTicket    = "Reason in the login name; the login waits for the approval"
	byBanner    = "Is told while it waits what it waits for"
	byQuestion  = "Reason asked for (keyboard-interactive)"
	execStatus  = "Command and its exit status"
	apart       = "stderr apart from stdout"
	stdinEnd    = "End of the input is passed on"
	bigBoth     = "8 MiB of random bytes there and back"
	shellTTY    = "Shell on a terminal"
	resizing    = "Another size of the terminal"
	signalling  = "A signal for the program"
	environment = "Environment (`LC_*`)"
	aliveness   = "Keep-alive"
	rekeying    = "New keys in the middle, of each connection"
	postQuantum = "Post-quantum key exchange"
	bySFTP      = "sftp, up and down"
	bySCP       = "scp, up and down"
	forwardTo   = "`-L`, a port here that leads to one at the target"
	forwardAny  = "`-D`, SOCKS"
	forwardBack = "`-R`, a port at the target that leads here"
)

// features are the checks, in the order of the rows.
func features() []struct {
	name string
	run  func(c client, s *stand) error
} {
	return []struct {
		name string
		run  func(c client, s *stand) error
	}{
		{byKey, func(c client, s *stand) error { return c.says(s, want{}, "in\n", "echo in") }},
		{byCert, func(c client, s *stand) error { return c.says(s, want{cert: true}, "in\n", "echo in") }},
		{byTicket, client.waits},
		{byBanner, client.isTold},
		{byQuestion, client.isAsked},
		{execStatus, func(c client, s *stand) error { return c.ends(s, want{}, 7, "exit 7") }},
		{apart, client.keepsApart},
		{stdinEnd, client.endsInput},
		{bigBoth, func(c client, s *stand) error { return c.echoes(s, want{}) }},
		{shellTTY, client.hasShell},
		{resizing, client.resizes},
		{signalling, client.signals},
		{environment, func(c client, s *stand) error { return c.says(s, want{env: true}, "two\n", `echo $LC_STORY`) }},
		{aliveness, func(c client, s *stand) error { return c.says(s, want{alive: true}, "still\n", "sleep 3; echo still") }},
		{rekeying, func(c client, s *stand) error { return c.echoes(s, want{rekey: true}) }},
		{postQuantum, func(c client, s *stand) error { return c.says(s, want{quantum: true}, "in\n", "echo in") }},
		{bySFTP, func(c client, s *stand) error { return copies(s, c.sftp) }},
		{bySCP, func(c client, s *stand) error { return copies(s, c.scp) }},
		{forwardTo, client.forwardsTo},
		{forwardAny, client.forwardsAny},
		{forwardBack, client.forwardsBack},
	}
}

// clientCells are the fields of the table of clients.
func clientCells() (list []*cell) {
	for _, f := range features() {
		for _, c := range []client{openSSH(), dropbear(), putty(), paramiko(), asyncSSH(), curl()} {
			list = append(list, &cell{row: f.name, column: c.name, lacks: c.lacks[f.name], gap: c.gaps[f.name], without: c.without, why: c.why,
				run: func(s *stand) error { return f.run(c, s) }})
		}
	}
	return list
}

// job starts the client.
func (c client) job(s *stand, w want, terminal bool, remote ...string) (*job, error) {
	cmd, err := c.command(s, w, remote...)
	if err != nil {
		return nil, err
	}
	return s.start(cmd, "", terminal)
}

func (c client) says(s *stand, w want, text string, remote ...string) error {
	cmd, err := c.command(s, w, remote...)
	if err != nil {
		return err
	}
	out, errs, code, err := s.run(cmd, "")
	if err == nil && (code != 0 || out != text) {
		err = fmt.Errorf("%v: exit %d, %q, %s", cmd.Args, code, out, errs)
	}
	return err
}

func (c client) ends(s *stand, w want, code int, remote ...string) error {
	j, err := c.job(s, w, false, remote...)
	if err != nil {
		return err
	}
	return j.ends(code)
}

func (c client) waits(s *stand) error {
	s.ask()
	s.ticket = "INC-7"
	j, err := c.job(s, want{}, false, "echo in")
	if err != nil {
		return err
	}
	if err := s.approve(j); err != nil {
		j.kill()
		return err
	}
	if err := j.ends(0); err != nil {
		return err
	}
	return j.until("in\n")
}

func (c client) isTold(s *stand) error {
	s.ask()
	s.ticket = "INC-8"
	j, err := c.job(s, want{}, false, "true")
	if err != nil {
		return err
	}
	defer j.kill()
	return j.until("sent to bob") // who does not answer
}

func (c client) isAsked(s *stand) error {
	s.ask()
	w := want{}
	if !c.typed {
		w.reason = "INC-9"
	}
	j, err := c.job(s, w, c.typed, "echo in")
	if err != nil {
		return err
	}
	defer j.kill()
	if c.typed {
		if err := j.until("Reason or ticket: "); err != nil {
			return err
		}
		if _, err := io.WriteString(j.tty, "INC-9\n"); err != nil {
			return err
		}
	}
	if err := s.approve(j); err != nil {
		return err
	}
	if err := j.until("in\n"); err != nil && j.until("in\r\n") != nil {
		return err
	}
	return j.ends(0)
}

func (c client) keepsApart(s *stand) error {
	j, err := c.job(s, want{}, false, "echo right; echo wrong >&2")
	if err != nil {
		return err
	}
	if err := j.ends(0); err != nil {
		return err
	}
	if out, errs := j.stream(false), j.stream(true); out != "right\n" || !strings.Contains(errs, "wrong\n") {
		return fmt.Errorf("stdout %q, stderr %q", out, errs)
	}
	return nil
}

func (c client) endsInput(s *stand) error {
	cmd, err := c.command(s, want{}, "wc -c")
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "input")
	if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
		return err
	}
	out, errs, code, err := s.run(cmd, file)
	if err == nil && (code != 0 || strings.TrimSpace(out) != "5") {
		err = fmt.Errorf("exit %d, %q, %s", code, out, errs)
	}
	return err
}

// random makes a file of n random bytes.
func random(file string, n int) ([]byte, error) {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b, os.WriteFile(file, b, 0o600)
}

// echoes sends much and wants it back, byte for byte.
func (c client) echoes(s *stand, w want) error {
	in, out := filepath.Join(s.dir, "input"), filepath.Join(s.dir, "output")
	size := 8 << 20
	if w.rekey && s.jump {
		size = max(size, c.rekeyMore)
	}
	sent, err := random(in, size)
	if err != nil {
		return err
	}
	cmd, err := c.command(s, w, "cat")
	if err != nil {
		return err
	}
	cmd.Dir = s.dir
	j, err := startJob(cmd, s.environ(), jobFiles{in: in, out: out}, false)
	if err != nil {
		return err
	}
	if err := j.ends(0); err != nil {
		return err
	}
	got, err := os.ReadFile(out)
	if err == nil && string(got) != string(sent) {
		err = fmt.Errorf("%d bytes came back of %d, and they differ; %s", len(got), len(sent), j.all())
	}
	if err == nil && w.rekey && strings.Count(j.stream(true), c.rekeyed) < 3 {
		err = fmt.Errorf("it says %q %d times:\n%s", c.rekeyed, strings.Count(j.stream(true), c.rekeyed), j.all())
	}
	return err
}

func (c client) hasShell(s *stand) error {
	j, err := c.job(s, want{tty: true}, true)
	if err != nil {
		return err
	}
	defer j.kill()
	if err := j.until("$ "); err != nil {
		return err
	}
	if _, err := io.WriteString(j.tty, "stty size; tty\n"); err != nil {
		return err
	}
	if err := errors.Join(j.until("40 200"), j.until("/dev/pts/")); err != nil {
		return err
	}
	if _, err := io.WriteString(j.tty, "exit 6\n"); err != nil {
		return err
	}
	return j.ends(6)
}

func (c client) resizes(s *stand) error {
	j, err := c.job(s, want{tty: true}, true, `trap "stty size; exit 5" WINCH; echo rea""dy; while :; do sleep 0.1; done`)
	if err != nil {
		return err
	}
	defer j.kill()
	if err := j.until("ready"); err != nil {
		return err
	}
	size := unix.Winsize{Row: 50, Col: 120}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, j.tty.Fd(), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size))); errno != 0 {
		return errno
	}
	if err := j.until("50 120"); err != nil {
		return err
	}
	return j.ends(5)
}

func (c client) signals(s *stand) error {
	j, err := c.job(s, want{signal: "TERM"}, false, `trap "echo caught; exit 5" TERM; echo ready; while :; do sleep 0.1; done`)
	if err != nil {
		return err
	}
	if err := j.ends(5); err != nil {
		return err
	}
	return j.until("caught")
}

// copies copies a file up, and down again.
func copies(s *stand, copy func(s *stand, up bool, local, remote string) (*exec.Cmd, error)) error {
	local, back := filepath.Join(s.dir, "local"), filepath.Join(s.dir, "back")
	remote := filepath.Join(s.home, filepath.Base(s.dir))
	sent, err := random(local, 3<<20)
	if err != nil {
		return err
	}
	for _, up := range []bool{true, false} {
		file := back
		if up {
			file = local
		}
		cmd, err := copy(s, up, file, remote)
		if err != nil {
			return err
		}
		out, errs, code, err := s.run(cmd, "")
		if err != nil {
			return err
		}
		if code != 0 {
			return fmt.Errorf("%v: exit %d\n%s\n%s", cmd.Args, code, out, errs)
		}
	}
	got, err := os.ReadFile(back)
	if err == nil && string(got) != string(sent) {
		err = fmt.Errorf("%d bytes came back of %d, and they differ", len(got), len(sent))
	}
	return err
}

// forwards starts the client with flags and waits until what it makes answers.
func (c client) forwards(s *stand, answers func() error, flags ...string) error {
	j, err := c.job(s, want{flags: append(flags, "-N")}, false)
	if err != nil {
		return err
	}
	defer j.kill()
	for end := time.Now().Add(checkTime); ; time.Sleep(50 * time.Millisecond) {
		if err = answers(); err == nil {
			return nil
		}
		select {
		case <-j.done:
			return fmt.Errorf("it ended with %d: %w\n%s", j.code, err, j.all())
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w; it shows:\n%s", err, j.all())
		}
	}
}

// service is a web server on this machine, which is also the target.
func service() (port string, stop func()) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") }))
	return srv.Listener.Addr().String()[len("127.0.0.1:"):], srv.Close
}

// served asks a web server, over SOCKS when there is one.
func (s *stand) served(port, socks string) error {
	args := []string{"-sS", "--max-time", "20", "http://127.0.0.1:" + port}
	if socks != "" {
		args = append(args, "--socks5-hostname", "127.0.0.1:"+socks)
	}
	return s.gives(exec.Command("curl", args...), "served")
}

func (s *stand) freePort() string {
	_, port, _ := net.SplitHostPort(freePorts(s.t, 1)[0])
	return port
}

func (c client) forwardsTo(s *stand) error {
	there, stop := service()
	defer stop()
	here := s.freePort()
	return c.forwards(s, func() error { return s.served(here, "") }, "-L", here+":127.0.0.1:"+there)
}

func (c client) forwardsAny(s *stand) error {
	there, stop := service()
	defer stop()
	here := s.freePort()
	return c.forwards(s, func() error { return s.served(there, here) }, "-D", here)
}

func (c client) forwardsBack(s *stand) error {
	here, stop := service()
	defer stop()
	there := s.freePort()
	return c.forwards(s, func() error { return s.served(there, "") }, "-R", "127.0.0.1:"+there+":127.0.0.1:"+here)
}

// sshConfig writes a configuration of OpenSSH, in which "it" is the target.
func (s *stand) sshConfig(w want) (string, error) {
	file := filepath.Join(s.dir, "ssh_config")
	key, more := "id", ""
	if w.cert {
		key, more = "identity", fmt.Sprintf("    CertificateFile %s/identity-cert.pub\n", s.gateway.dir)
	}
	if w.env {
		more += "    SendEnv LC_STORY\n"
	}
	if w.alive {
		more += "    ServerAliveInterval 1\n    ServerAliveCountMax 1\n"
	}
	if w.quantum {
		more += "    KexAlgorithms mlkem768x25519-sha256,sntrup761x25519-sha512@openssh.com\n"
	}
	if w.rekey {
		more += "    RekeyLimit 1M\n    LogLevel DEBUG\n"
	}
	gate := fmt.Sprintf("    HostName %s\n    Port %s\n", s.host, s.port)
	it := fmt.Sprintf("    HostName %s\n    ProxyJump gate\n", s.target)
	if !s.jump {
		it = gate
	}
	text := fmt.Sprintf("Host gate\n%s    User alice\nHost it\n%s    User %s\nHost *\n    IdentityFile %s\n%s", gate, it, s.login(), filepath.Join(s.gateway.dir, key), more) +
		fmt.Sprintf("    UserKnownHostsFile %s/known_hosts\n", s.gateway.dir) +
		"    GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n    IdentitiesOnly yes\n    IdentityAgent none\n    PasswordAuthentication no\n"
	return file, os.WriteFile(file, []byte(text), 0o600)
}

func openSSH() client {
	return client{
		name: "OpenSSH", typed: true, rekeyed: "SSH2_MSG_NEWKEYS received",
		lacks: map[string]string{signalling: "The client cannot send a signal over the connection."},
		gaps: map[string]string{postQuantum: "Debian 12's OpenSSH and PuTTY have only sntrup761x25519, which golang.org/x/crypto has not; " +
			"mlkem768x25519-sha256, in OpenSSH since 9.9 and in golang.org/x/crypto, is preferred here."},
		command: func(s *stand, w want, remote ...string) (*exec.Cmd, error) {
			config, err := s.sshConfig(w)
			args := []string{"-F", config}
			if w.tty {
				args = append(args, "-tt")
			}
			args = append(args, w.flags...)
			return exec.Command("ssh", append(append(args, "it"), remote...)...), err
		},
		sftp: func(s *stand, up bool, local, remote string) (*exec.Cmd, error) {
			config, err := s.sshConfig(want{})
			batch := filepath.Join(s.dir, "batch")
			line := fmt.Sprintf("get %s %s\n", remote, local)
			if up {
				line = fmt.Sprintf("put %s %s\n", local, remote)
			}
			return exec.Command("sftp", "-F", config, "-b", batch, "it"), errors.Join(err, os.WriteFile(batch, []byte(line), 0o600))
		},
		scp: func(s *stand, up bool, local, remote string) (*exec.Cmd, error) {
			config, err := s.sshConfig(want{})
			return fromTo([]string{"scp", "-q", "-F", config}, up, local, "it:"+remote), err
		},
	}
}

// fromTo ends a command line with what is copied whereto.
func fromTo(line []string, up bool, local, remote string) *exec.Cmd {
	from, to := remote, local
	if up {
		from, to = local, remote
	}
	return exec.Command(line[0], append(line[1:], from, to)...)
}

func dropbear() client {
	base := func(s *stand, w want) []string {
		// -y: the key of the gateway is taken over unseen.
		args := []string{"-y", "-y", "-i", filepath.Join(s.gateway.dir, "id.dropbear")}
		if w.tty {
			args = append(args, "-t")
		}
		if w.alive {
			args = append(args, "-K", "1")
		}
		return append(args, w.flags...)
	}
	place := func(s *stand) string {
		if s.jump {
			return fmt.Sprintf("alice@%s^%s,%s@%s^22", s.host, s.port, s.login(), s.target)
		}
		return fmt.Sprintf("%s@%s^%s", s.login(), s.host, s.port)
	}
	return client{
		name: "dbclient", typed: true,
		lacks: map[string]string{
			byCert: "The client knows no certificates.", signalling: "The client cannot send a signal over the connection.", environment: "The client sends no variables.",
			rekeying: "When is fixed at 1 GiB or 8 hours.", postQuantum: "The client has none.",
			forwardAny: "The client has no SOCKS.",
			bySFTP:     "The client is used as the transport of OpenSSH's sftp.", bySCP: "Debian's package has no scp of dropbear.",
		},
		command: func(s *stand, w want, remote ...string) (*exec.Cmd, error) {
			return exec.Command("/usr/bin/dbclient", append(append(base(s, w), place(s)), remote...)...), nil
		},
	}
}

func putty() client {
	base := func(s *stand, program string, w want) ([]string, error) {
		key := filepath.Join(s.gateway.dir, "id.ppk")
		print := ssh.FingerprintSHA256(s.hostKey)
		line := []string{program, "-load", "drawbolt", "-hostkey", print, "-i", key}
		sessions := filepath.Join(s.dir, ".putty", "sessions")
		saved, hop := "Protocol=ssh\nPortNumber=22\n", "Protocol=ssh\n"
		if w.env {
			saved += "Environment=LC_STORY=two,\n"
		}
		if w.alive {
			saved += "PingInterval=0\nPingIntervalSecs=1\n"
		}
		if w.rekey {
			saved, hop = saved+"RekeyBytes=1M\n", hop+"RekeyBytes=1M\n"
		}
		if w.quantum {
			saved += "KEX=ntru-curve25519,WARN,ecdh,dh-gex-sha1,dh-group18-sha512,dh-group17-sha512,dh-group16-sha512,dh-group15-sha512,dh-group14-sha1,rsa,dh-group1-sha1\n"
			line = append(line, "-batch")
		}
		if w.cert {
			line[6] = filepath.Join(s.gateway.dir, "identity.ppk")
			detached := "DetachedCertificate=" + filepath.Join(s.gateway.dir, "identity-cert.pub") + "\n"
			saved, hop = saved+detached, hop+detached
		}
		if w.rekey {
			line = append(line, "-v")
		}
		if s.jump {
			hop := strings.Join([]string{"plink", "-batch", "-load", "hop", "-hostkey", print, "-i", line[6], "-P", s.port, "-nc", s.target + ":22", "alice@" + s.host}, " ")
			line = append(line, "-proxycmd", hop)
		} else {
			line = append(line, "-P", s.port)
		}
		return line, errors.Join(os.MkdirAll(sessions, 0o700), os.WriteFile(filepath.Join(sessions, "hop"), []byte(hop), 0o600),
			os.WriteFile(filepath.Join(sessions, "drawbolt"), []byte(saved), 0o600))
	}
	place := func(s *stand) string {
		if s.jump {
			return s.login() + "@" + s.target
		}
		return s.login() + "@" + s.host
	}
	return client{
		name: "PuTTY", typed: true, rekeyed: "nitiali", rekeyMore: 64 << 20,
		lacks: map[string]string{signalling: "Only its windowed program sends signals.", byBanner: "The client keeps what it is told until the login goes on."},
		gaps: map[string]string{postQuantum: openSSH().gaps[postQuantum], rekeying: "With much under way both ways, two plink of which one is the other's proxy can wait for each other " +
			"for ever when both exchange keys: the inner one writes to the pipe between them without reading, and the outer one, whose pipe is full too, stops reading the network. " +
			"Between two stock sshd they do the same. They exchange keys after 1 GiB or an hour unless told otherwise; the direct way has one plink only."},
		command: func(s *stand, w want, remote ...string) (*exec.Cmd, error) {
			line, err := base(s, "plink", w)
			line = append(line, "-no-antispoof")
			if w.tty {
				line = append(line, "-t")
			}
			line = append(line, w.flags...)
			return exec.Command(line[0], append(append(line[1:], place(s)), remote...)...), err
		},
		sftp: func(s *stand, up bool, local, remote string) (*exec.Cmd, error) {
			line, err := base(s, "psftp", want{})
			batch := filepath.Join(s.dir, "batch")
			text := fmt.Sprintf("get %s %s\n", remote, local)
			if up {
				text = fmt.Sprintf("put %s %s\n", local, remote)
			}
			return exec.Command(line[0], append(line[1:], "-batch", "-b", batch, place(s))...), errors.Join(err, os.WriteFile(batch, []byte(text), 0o600))
		},
		scp: func(s *stand, up bool, local, remote string) (*exec.Cmd, error) {
			line, err := base(s, "pscp", want{})
			return fromTo(append(line, "-batch", "-q", "-scp"), up, local, place(s)+":"+remote), err
		},
	}
}

// script gives the command of a client that is a script of ours.
func script(name string) func(s *stand, w want, more []string, remote ...string) (*exec.Cmd, error) {
	return func(s *stand, w want, more []string, remote ...string) (*exec.Cmd, error) {
		file, err := filepath.Abs(filepath.Join("testdata", "compat", name))
		key := filepath.Join(s.gateway.dir, "id")
		if w.cert {
			key = filepath.Join(s.gateway.dir, "identity")
			more = append(more, "--cert", key+"-cert.pub")
		}
		args := append([]string{file, "--gateway", s.ssh, "--login", s.login(), "--key", key}, more...)
		if s.jump {
			args = append(args, "--hop", "alice", "--target", s.target)
		}
		for flag, on := range map[string]bool{"--tty": w.tty, "--env": w.env, "--keep-alive": w.alive, "--rekey": w.rekey} {
			if on {
				args = append(args, flag)
			}
		}
		if w.reason != "" {
			args = append(args, "--reason", w.reason)
		}
		if w.signal != "" {
			args = append(args, "--signal", w.signal)
		}
		return exec.Command("/usr/bin/python3", append(append(args, "--"), remote...)...), err
	}
}

// notRun is said of what a library leaves to the program that uses it.
const notRun = "Not run: the program that uses the library makes the forward."

func paramiko() client {
	run := script("paramiko_client.py")
	return client{
		name: "paramiko", rekeyed: "Switch to new keys",
		gaps: map[string]string{byQuestion: "The client asks for the service anew before a second method, which golang.org/x/crypto/ssh takes for an error. " +
			"Give the reason in the login name."},
		lacks: map[string]string{signalling: "The library cannot send a signal over the connection.", postQuantum: "The client has none.",
			bySCP: "The library has no scp.", forwardTo: notRun, forwardAny: notRun, forwardBack: notRun},
		command: func(s *stand, w want, remote ...string) (*exec.Cmd, error) { return run(s, w, nil, remote...) },
		sftp: func(s *stand, up bool, local, remote string) (*exec.Cmd, error) {
			return run(s, want{}, putGet(up, local, remote))
		},
	}
}

func putGet(up bool, local, remote string) []string {
	if up {
		return []string{"--put", local, remote}
	}
	return []string{"--get", remote, local}
}

func asyncSSH() client {
	run := script("asyncssh_client.py")
	return client{
		name: "asyncssh", rekeyed: "ompleted key exchange",
		lacks: map[string]string{postQuantum: "The client has none.", forwardTo: notRun, forwardAny: notRun, forwardBack: notRun},
		gaps: map[string]string{rekeying: "The client sends data after its KEXINIT, against RFC 4253, section 7.1, and golang.org/x/crypto/ssh ends the connection. " +
			"It does so after 1 GiB or an hour, unless `rekey_bytes` and `rekey_seconds` say otherwise."},
		command: func(s *stand, w want, remote ...string) (*exec.Cmd, error) { return run(s, w, nil, remote...) },
		sftp: func(s *stand, up bool, local, remote string) (*exec.Cmd, error) {
			return run(s, want{}, putGet(up, local, remote))
		},
		scp: func(s *stand, up bool, local, remote string) (*exec.Cmd, error) {
			return run(s, want{}, append(putGet(up, local, remote), "--scp"))
		},
	}
}

func curl() client {
	transfer := func(scheme string) func(s *stand, up bool, local, remote string) (*exec.Cmd, error) {
		return func(s *stand, up bool, local, remote string) (*exec.Cmd, error) {
			key := filepath.Join(s.gateway.dir, "id")
			args := []string{"-sS", "-k", "--key", key, "--pubkey", key + ".pub", "-u", s.login() + ":", "-o", local}
			if up {
				args[len(args)-2] = "-T"
			}
			return exec.Command("curl", append(args, fmt.Sprintf("%s://%s/%s", scheme, s.ssh, remote))...), nil
		}
	}
	c := client{name: "curl (libssh2)", lacks: map[string]string{}, without: "jump", why: "The client has no way through a first hop.",
		sftp: transfer("sftp"), scp: transfer("scp")}
	c.command = func(*stand, want, ...string) (*exec.Cmd, error) {
		return nil, errors.New("the client runs no commands")
	}
	for _, f := range features() {
		if f.name != byKey && f.name != byTicket && f.name != bySFTP && f.name != bySCP {
			c.lacks[f.name] = "The client only copies files."
		}
	}
	c.lacks[byKey], c.lacks[byTicket] = "See the rows of sftp and scp.", "See the rows of sftp and scp."
	return c
}
