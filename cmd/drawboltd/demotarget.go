package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/creack/pty"
	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/vault/sshca"
)

// A demoTarget is a small SSH server that behaves like a machine behind the
// bastion: it trusts the user authority and nothing else, and runs what it is
// asked to as the user who runs the demo. It serves loopback only.
type demoTarget struct {
	name     string
	accounts []string
	key      gossh.Signer
	server   *ssh.Server
	listener net.Listener
}

func newDemoTarget(name string, accounts []string, authority gossh.PublicKey) (*demoTarget, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &demoTarget{name: name, accounts: accounts}
	if t.key, err = gossh.NewSignerFromKey(private); err != nil {
		return nil, err
	}
	if t.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	t.server = &ssh.Server{
		Handler: t.session,
		// Called for each key that is offered: what it allows must hang on the
		// key and the account alone, so it keeps nothing.
		PublicKeyHandler: func(ctx ssh.Context, key ssh.PublicKey) bool {
			return t.mayEnter(authority, ctx.User(), key)
		},
	}
	t.server.AddHostKey(t.key)
	return t, nil
}

// mayEnter: only a certificate of the authority for this account on this
// target, which is what sshd checks with TrustedUserCAKeys and
// AuthorizedPrincipalsFile.
func (t *demoTarget) mayEnter(authority gossh.PublicKey, account string, key gossh.PublicKey) bool {
	cert, ok := key.(*gossh.Certificate)
	if !ok || !contains(t.accounts, account) {
		return false
	}
	principal, err := sshca.Principal(account, t.name)
	if err != nil {
		return false
	}
	checker := sshca.Checker{
		Authorities: []gossh.PublicKey{authority}, Kind: sshca.User, Now: time.Now,
		Revoked: func(uint64) (bool, error) { return false, nil }, // a target has no list of its own; certificates live for minutes
	}
	return checker.Check(cert, principal) == nil
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func (t *demoTarget) session(s ssh.Session) {
	shell := []string{"/bin/sh"}
	if s.RawCommand() != "" {
		shell = append(shell, "-c", s.RawCommand())
	}
	cmd := exec.CommandContext(s.Context(), shell[0], shell[1:]...)
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LANG=C.UTF-8",
		"USER=" + s.User(), "LOGNAME=" + s.User(), "PS1=" + s.User() + "@" + t.name + ":~$ ", "ENV=",
	}
	cmd.Dir = "/"
	code := 0
	var err error
	if window, changes, isPty := s.Pty(); isPty {
		err = runOnTerminal(cmd, s, window, changes)
	} else {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = s, s, s.Stderr()
		cmd.WaitDelay = time.Second
		err = cmd.Run()
	}
	if err != nil {
		code = 255
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 0 {
			code = exit.ExitCode()
		}
	}
	_ = s.Exit(code)
}

func runOnTerminal(cmd *exec.Cmd, s ssh.Session, window ssh.Pty, changes <-chan ssh.Window) error {
	cmd.Env = append(cmd.Env, "TERM="+window.Term)
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: uint16(window.Window.Width), Rows: uint16(window.Window.Height)})
	if err != nil {
		return err
	}
	defer terminal.Close()
	go func() { // ends with the session, which closes the channel
		for w := range changes {
			_ = pty.Setsize(terminal, &pty.Winsize{Cols: uint16(w.Width), Rows: uint16(w.Height)})
		}
	}()
	go func() { _, _ = io.Copy(terminal, s) }() // ends with the session
	_, _ = io.Copy(s, terminal)                 // ends when the shell does
	return cmd.Wait()
}

// serve runs until close.
func (t *demoTarget) serve() error {
	if err := t.server.Serve(t.listener); !errors.Is(err, ssh.ErrServerClosed) {
		return err
	}
	return nil
}

func (t *demoTarget) close() { _ = t.server.Close() }

func (t *demoTarget) hostKey() string {
	return strings.TrimSpace(string(gossh.MarshalAuthorizedKey(t.key.PublicKey())))
}

// A realSSHD is the sshd of this machine, run as a second target of the demo.
type realSSHD struct {
	name    string
	account string
	address string
	hostKey string
	cmd     *exec.Cmd
}

// startSSHD starts the machine's own sshd on a free loopback port, for the
// account of the user who runs the demo. It returns nil where there is no sshd.
func startSSHD(dir, name, account string, authority gossh.PublicKey) (*realSSHD, error) {
	program := ""
	for _, p := range []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"} {
		if _, err := os.Stat(p); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		return nil, nil
	}
	if err := os.MkdirAll(dir+"/principals", 0o755); err != nil {
		return nil, err
	}
	principal, err := sshca.Principal(account, name)
	if err != nil {
		return nil, nil // a login name that is no account name here
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := gossh.MarshalPrivateKey(private, "drawbolt demo")
	if err != nil {
		return nil, err
	}
	signer, err := gossh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	config := fmt.Sprintf(`Port %s
ListenAddress 127.0.0.1
HostKey %[2]s/host_key
PidFile none
TrustedUserCAKeys %[2]s/user_ca.pub
AuthorizedPrincipalsFile %[2]s/principals/%%u
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
`, port, dir)
	for path, content := range map[string][]byte{
		"host_key": pemBytes(block), "user_ca.pub": gossh.MarshalAuthorizedKey(authority),
		"principals/" + account: []byte(principal + "\n"), "sshd_config": []byte(config),
	} {
		if err := os.WriteFile(dir+"/"+path, content, 0o600); err != nil {
			return nil, err
		}
	}
	if os.Getuid() == 0 {
		_ = os.MkdirAll("/run/sshd", 0o755) // where sshd drops its privileges to
	}
	cmd := exec.Command(program, "-D", "-f", dir+"/sshd_config", "-E", dir+"/sshd.log")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &realSSHD{name: name, account: account, address: address, cmd: cmd, hostKey: strings.TrimSpace(string(gossh.MarshalAuthorizedKey(signer.PublicKey())))}
	for range 100 {
		if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			c.Close()
			return s, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.close()
	return nil, fmt.Errorf("sshd did not start; see %s/sshd.log", dir)
}

func (s *realSSHD) close() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
