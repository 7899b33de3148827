package servers

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Config says what an OpenSSH server trusts.
type Config struct {
	// UserCA are the authorities whose user certificates are accepted.
	UserCA []ssh.PublicKey
	// Principals are accepted in certificates for the server's User.
	Principals []string
	// HostCertificate, if set, certifies the host key.
	HostCertificate func(hostKey ssh.PublicKey) (*ssh.Certificate, error)
	// Shell of the user; default /bin/sh, which reads no slow start-up files.
	Shell string
	// Lines are added to sshd_config; the first value of a keyword counts, and
	// these come first.
	Lines []string
}

// An SSHD is a running OpenSSH server.
type SSHD struct {
	*server
	Addr    string // 127.0.0.1:port
	HostKey ssh.PublicKey
	// User exists while the server runs: made for it when the test runs as
	// root, else the one who runs the test.
	User string
	// Home is the home directory of a user that was made for the server.
	Home string
}

// NewSSHD starts an OpenSSH server, which ends with the test.
func NewSSHD(t testing.TB, c Config) *SSHD {
	t.Helper()
	sshd, err := program("sshd", "openssh-server", "/usr/sbin/sshd")
	check(t, err)
	dir, err := newDir("sshd")
	check(t, err)
	s, err := runSSHD(dir, sshd, c)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatalf("start sshd: %v", err)
	}
	t.Cleanup(s.stop)
	return s
}

func runSSHD(dir, sshd string, c Config) (*SSHD, error) {
	s := &SSHD{server: &server{dir: dir}} // replaced below; Allow needs the directory
	lines := append([]string{}, c.Lines...)
	set := func(keyword string, value any) { lines = append(lines, fmt.Sprint(keyword, " ", value)) }

	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if s.HostKey, err = ssh.NewPublicKey(public); err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	file := func(name string, content []byte, mode os.FileMode) (string, error) {
		path := filepath.Join(dir, name)
		return path, os.WriteFile(path, content, mode)
	}
	path, err := file("host_key", pem.EncodeToMemory(block), 0o600)
	if err != nil {
		return nil, err
	}
	set("HostKey", path)
	if c.HostCertificate != nil {
		cert, err := c.HostCertificate(s.HostKey)
		if err != nil {
			return nil, err
		}
		if path, err = file("host_key-cert.pub", ssh.MarshalAuthorizedKey(cert), 0o644); err != nil {
			return nil, err
		}
		set("HostCertificate", path)
	}
	var keys []byte
	for _, k := range c.UserCA {
		keys = append(keys, ssh.MarshalAuthorizedKey(k)...)
	}
	if path, err = file("user_ca", keys, 0o644); err != nil {
		return nil, err
	}
	set("TrustedUserCAKeys", path)
	if err := os.Mkdir(filepath.Join(dir, "principals"), 0o755); err != nil {
		return nil, err
	}
	set("AuthorizedPrincipalsFile", filepath.Join(dir, "principals", "%u"))

	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s.Addr = fmt.Sprintf("127.0.0.1:%d", port)
	set("ListenAddress", s.Addr)
	lines = append(lines, "PidFile none", "UsePAM no", "StrictModes no", "LogLevel DEBUG", "PasswordAuthentication no",
		"KbdInteractiveAuthentication no", "AuthorizedKeysFile none", "PrintMotd no", "PrintLastLog no",
		"MaxStartups 1000", "Subsystem sftp internal-sftp")
	conf, err := file("sshd_config", []byte(strings.Join(lines, "\n")+"\n"), 0o644)
	if err != nil {
		return nil, err
	}

	cleanup := ""
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // for privilege separation
			return nil, err
		}
		if cleanup, err = s.addUser(c.Shell); err != nil {
			return nil, err
		}
	} else {
		u, err := user.Current()
		if err != nil {
			return nil, err
		}
		s.User = u.Username
	}
	if err = s.Allow(s.User, c.Principals...); err == nil {
		s.server, err = start(dir, "TERM", cleanup, sshd, "-D", "-e", "-f", conf)
	}
	if err != nil {
		_ = exec.Command("/bin/sh", "-c", cleanup).Run()
		return nil, err
	}
	err = s.until(func() error {
		conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// addUser makes a user for the server and returns the commands that remove it
// with whatever it still runs.
func (s *SSHD) addUser(shell string) (string, error) {
	if shell == "" {
		shell = "/bin/sh"
	}
	s.User = "dbt-" + strings.ToLower(rand.Text()[:12])
	s.Home = filepath.Join(s.dir, "home")
	if err := os.Mkdir(s.Home, 0o700); err != nil {
		return "", err
	}
	// "*" is no password; the default, "!", would be a locked account, which
	// sshd refuses without PAM whatever the key.
	err := run(exec.Command("/usr/sbin/useradd", "--no-create-home", "--home-dir", s.Home,
		"--gid", "nogroup", "--shell", shell, "--password", "*", s.User))
	if err != nil {
		return "", err
	}
	cleanup := "pkill -KILL -U " + s.User + "; userdel --force " + s.User + " 2>/dev/null"
	if err := run(exec.Command("/bin/chown", s.User, s.Home)); err != nil {
		_ = exec.Command("/bin/sh", "-c", cleanup).Run()
		return "", err
	}
	return cleanup, nil
}

// Allow sets which principals a certificate must name, one of them, to log in
// as a user; none: nobody does. It holds from the next login on.
func (s *SSHD) Allow(user string, principals ...string) error {
	content := []byte(strings.Join(append(principals, ""), "\n"))
	return os.WriteFile(filepath.Join(s.dir, "principals", user), content, 0o644)
}

// NewSigner makes a key, of an authority or somebody who logs in.
func NewSigner(t testing.TB) ssh.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
