package sshca

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// program returns the path of an OpenSSH program. A missing one fails the test:
// what real sshd makes of our certificates is not to be left untested.
func program(t *testing.T, path, debian string) string {
	t.Helper()
	p, err := exec.LookPath(path)
	if err != nil {
		t.Fatalf("%v: install the Debian package %s", err, debian)
	}
	return p
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func privateKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, key), string(pem.EncodeToMemory(block))
}

// target01 is a real sshd that is the target "db01" for the user who runs the
// test. Each connection gets its own process (sshd -i), so nothing listens but
// the test itself and no port is raced for.
type target01 struct {
	addr    string
	account string
	log     func() string
}

func startTarget(t *testing.T, all map[Kind]*Authority, lines ...string) target01 {
	t.Helper()
	sshd := program(t, "/usr/sbin/sshd", "openssh-server")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // privilege separation
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	hostKey, hostPEM := privateKey(t)
	c := good(Host, hostKey.PublicKey(), time.Now())
	conf := fmt.Sprintf(`
HostKey %s
HostCertificate %s
TrustedUserCAKeys %s
AuthorizedPrincipalsFile %s/principals/%%u
AuthorizedKeysFile none
AuthenticationMethods publickey
PermitRootLogin yes
UsePAM no
StrictModes no
LogLevel VERBOSE
`,
		write(t, dir+"/host", hostPEM),
		write(t, dir+"/host-cert.pub", string(ssh.MarshalAuthorizedKey(sign(t, all[Host], c)))),
		write(t, dir+"/user-ca.pub", string(ssh.MarshalAuthorizedKey(all[User].PublicKey()))),
		dir)
	if err := os.Mkdir(dir+"/principals", 0o700); err != nil {
		t.Fatal(err)
	}
	principal, err := Principal(me.Username, "db01")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "principals", me.Username), principal+"\n")
	write(t, dir+"/conf", conf+strings.Join(lines, "\n")+"\n")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var out syncBuffer
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f, err := conn.(*net.TCPConn).File()
			conn.Close()
			if err != nil {
				t.Error(err)
				return
			}
			cmd := exec.CommandContext(t.Context(), sshd, "-i", "-e", "-f", dir+"/conf")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, &out
			cmd.WaitDelay = 5 * time.Second
			err = cmd.Start()
			f.Close()
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { cmd.Wait() }) // 255 for a refused login
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return target01{l.Addr().String(), me.Username, out.String}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// login connects with cert and accepts the target only by its host certificate.
func (target target01) login(t *testing.T, host *Authority, cert *ssh.Certificate, key ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return ssh.Dial("tcp", target.addr, &ssh.ClientConfig{
		User:              target.account,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01},
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			cert, ok := k.(*ssh.Certificate)
			if !ok {
				return errors.New("no host certificate")
			}
			return Checker{Authorities: []ssh.PublicKey{host.PublicKey()}, Kind: Host, Revoked: notRevoked}.Check(cert, "db01")
		},
		Timeout: 20 * time.Second,
	})
}

func TestOpenSSHServer(t *testing.T) {
	all := newAuthorities(t)
	target := startTarget(t, all)
	key := newSigner(t)
	base := func() Certificate {
		c := good(User, key.PublicKey(), time.Now())
		c.Principal = target.account
		return c
	}
	forge := func(kind Kind, change func(*ssh.Certificate)) *ssh.Certificate {
		cert := sign(t, all[User], base())
		change(cert)
		if err := cert.SignCert(rand.Reader, all[kind].signer()); err != nil {
			t.Fatal(err)
		}
		return cert
	}
	with := func(change func(*Certificate)) *ssh.Certificate {
		c := base()
		change(&c)
		return sign(t, all[User], c)
	}

	for name, cert := range map[string]*ssh.Certificate{
		"right target":         with(func(*Certificate) {}),
		"right source address": with(func(c *Certificate) { c.SourceAddress = netip.MustParsePrefix("127.0.0.0/8") }),
		"late clock at target": with(func(c *Certificate) { c.ValidAfter = c.ValidAfter.Add(30 * time.Second) }),
	} {
		t.Run("in/"+name, func(t *testing.T) {
			client, err := target.login(t, all[Host], cert, key)
			if err != nil {
				t.Fatalf("%v\n%s", err, target.log())
			}
			defer client.Close()
			s, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.Output("echo in")
			if string(out) != "in\n" || err != nil {
				t.Errorf("got %q, %v", out, err)
			}
		})
	}
	for name, cert := range map[string]*ssh.Certificate{
		"other target":   with(func(c *Certificate) { c.Target = "db02" }),
		"longer target":  with(func(c *Certificate) { c.Target = "db01.example.org" }),
		"other account":  with(func(c *Certificate) { c.Principal = "postgres" }),
		"expired":        with(func(c *Certificate) { c.ValidAfter, c.ValidBefore = back(c, 20*time.Minute) }),
		"not yet valid":  with(func(c *Certificate) { c.ValidAfter, c.ValidBefore = back(c, -20*time.Minute) }),
		"other source":   with(func(c *Certificate) { c.SourceAddress = netip.MustParsePrefix("192.0.2.0/24") }),
		"identity":       forge(Identity, func(*ssh.Certificate) {}),
		"host authority": forge(Host, func(*ssh.Certificate) {}),
		"host type":      forge(User, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }),
		"no principal":   forge(User, func(c *ssh.Certificate) { c.ValidPrincipals = nil }),
		"bare account":   forge(User, func(c *ssh.Certificate) { c.ValidPrincipals = []string{target.account} }),
	} {
		t.Run("out/"+name, func(t *testing.T) {
			client, err := target.login(t, all[Host], cert, key)
			if err == nil {
				client.Close()
				t.Fatalf("logged in\n%s", target.log())
			}
			if !strings.Contains(err.Error(), "unable to authenticate") {
				t.Errorf("refused for another reason: %v\n%s", err, target.log())
			}
		})
	}
	if t.Failed() {
		return
	}
	if log := target.log(); !strings.Contains(log, `ID "request 42" (serial 1000)`) {
		t.Errorf("sshd did not log the key id:\n%s", log)
	}
}

func back(c *Certificate, d time.Duration) (after, before time.Time) {
	return c.ValidAfter.Add(-d), c.ValidBefore.Add(-d)
}

// sshd grants what the certificate permits and nothing else.
func TestOpenSSHPermits(t *testing.T) {
	all := newAuthorities(t)
	target := startTarget(t, all)
	key := newSigner(t)
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	for _, permit := range []bool{false, true} {
		t.Run(fmt.Sprint(permit), func(t *testing.T) {
			c := good(User, key.PublicKey(), time.Now())
			c.Principal, c.PermitPTY, c.PermitPortForwarding = target.account, permit, permit
			client, err := target.login(t, all[Host], sign(t, all[User], c), key)
			if err != nil {
				t.Fatalf("%v\n%s", err, target.log())
			}
			defer client.Close()
			s, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.RequestPty("xterm", 24, 80, nil); (err == nil) != permit {
				t.Errorf("terminal: got error %v", err)
			}
			conn, err := client.Dial("tcp", echo.Addr().String())
			if (err == nil) != permit {
				t.Errorf("forwarding: got error %v", err)
			}
			if err == nil {
				conn.Close()
			}
		})
	}
}

// ssh(1) trusts the host by its certificate, under its names and no other.
func TestOpenSSHClient(t *testing.T) {
	all := newAuthorities(t)
	target := startTarget(t, all)
	dir := t.TempDir()
	key, text := privateKey(t)
	c := good(User, key.PublicKey(), time.Now())
	c.Principal = target.account
	write(t, dir+"/id", text)
	write(t, dir+"/id-cert.pub", string(ssh.MarshalAuthorizedKey(sign(t, all[User], c))))
	known := func(a *Authority) string {
		return write(t, dir+"/known-"+string(a.Kind()), "@cert-authority * "+string(ssh.MarshalAuthorizedKey(a.PublicKey())))
	}
	for _, test := range []struct {
		name, alias string
		trust       *Authority
		ok          bool
	}{
		{"named", "db01", all[Host], true},
		{"second name", "db01.example.org", all[Host], true},
		{"other name", "db02", all[Host], false},
		{"other authority", "db01", all[User], false},
	} {
		t.Run(test.name, func(t *testing.T) {
			host, port, err := net.SplitHostPort(target.addr)
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), program(t, "ssh", "openssh-client"), "-F", "none", "-i", dir+"/id", "-p", port,
				"-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=none",
				"-o", "UserKnownHostsFile="+known(test.trust), "-o", "HostKeyAlias="+test.alias,
				"-l", target.account, host, "echo in").CombinedOutput()
			if in := err == nil && strings.HasSuffix(string(out), "in\n"); in != test.ok {
				t.Errorf("got %q, %v\n%s", out, err, target.log())
			}
			if !test.ok && !strings.Contains(string(out), "Host key verification failed") {
				t.Errorf("refused for another reason: %s", out)
			}
		})
	}
}

func TestKeygenReads(t *testing.T) {
	all := newAuthorities(t)
	for kind, want := range map[Kind][]string{
		User: {"ssh-ed25519-cert-v01@openssh.com user certificate", `Key ID: "request 42"`, "Serial: 1000",
			"Principals: root@db01 Critical Options: source-address 192.0.2.0/24 Extensions: permit-pty"},
		Identity: {"user certificate", "Principals: alice Critical Options: source-address 192.0.2.0/24 Extensions: (none)"},
		Host:     {"host certificate", "Principals: db01 db01.example.org Critical Options: (none) Extensions: (none)"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			c := good(kind, newSigner(t).PublicKey(), epoch)
			if kind != Host {
				c.SourceAddress = netip.MustParsePrefix("192.0.2.0/24")
			}
			cmd := exec.CommandContext(t.Context(), program(t, "ssh-keygen", "openssh-client"), "-L", "-f", "-")
			cmd.Stdin = bytes.NewReader(ssh.MarshalAuthorizedKey(sign(t, all[kind], c)))
			cmd.Env = append(os.Environ(), "TZ=UTC")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, stderr.String())
			}
			want := append(want, "Valid: from 2026-03-01T11:59:00 to 2026-03-01T12:05:00",
				"Signing CA: ED25519 "+ssh.FingerprintSHA256(all[kind].PublicKey()))
			got := strings.Join(strings.Fields(string(out)), " ")
			for _, w := range want {
				if !strings.Contains(got, w) {
					t.Errorf("got %s, want %q", out, w)
				}
			}
		})
	}
}
