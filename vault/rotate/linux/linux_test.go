package linux_test

import (
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/linux"
	"github.com/drawbolt/drawbolt/vault/rotate/rotatetest"
)

func TestRotator(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("the passwords of this machine are changed by root only")
	}
	ca, key := servers.NewSigner(t), servers.NewSigner(t)
	sshd := servers.NewSSHD(t, servers.Config{UserCA: []ssh.PublicKey{ca.PublicKey()}, Lines: []string{"PasswordAuthentication yes", "PermitRootLogin prohibit-password", "MaxAuthTries 20"}})
	if err := sshd.Allow("root", "rotator"); err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"rotator"}, ValidBefore: uint64(time.Now().Add(time.Hour).Unix())}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	root, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	rotator := func(account string) func(string) rotate.Rotator {
		return func(address string) rotate.Rotator {
			return linux.Rotator{Account: account, Run: rotatetest.Over(address, "root", ssh.PublicKeys(root), sshd.HostKey), Dial: rotatetest.To(address), HostKey: ssh.FixedHostKey(sshd.HostKey)}
		}
	}
	change := func(password string) error {
		c := exec.Command("/usr/sbin/chpasswd")
		c.Stdin = strings.NewReader(sshd.User + ":" + password + "\n")
		return c.Run()
	}
	if err := change("First-Passw0rd"); err != nil {
		t.Fatal(err)
	}
	rotatetest.Run(t, rotatetest.Subject{Address: sshd.Addr, New: rotator(sshd.User), First: "First-Passw0rd", Change: change})

	t.Run("refused", func(t *testing.T) {
		for account, password := range map[string]string{"nobody-of-that-name": "x", "root\nroot": "x", sshd.User: "two\nroot:lines"} {
			var no *rotate.Refusal
			if err := rotator(account)(sshd.Addr).Set(t.Context(), vault.Secret{}, vault.NewSecret([]byte(password))); !errors.As(err, &no) || strings.Contains(err.Error(), "two") {
				t.Errorf("%q: %v", account, err)
			}
		}
	})
	t.Run("another machine", func(t *testing.T) {
		r := rotator(sshd.User)(sshd.Addr).(linux.Rotator)
		r.HostKey = ssh.FixedHostKey(servers.NewSigner(t).PublicKey())
		if err := r.Check(t.Context(), vault.NewSecret([]byte("x"))); !errors.Is(err, rotate.ErrUnreachable) {
			t.Error(err)
		}
	})
	t.Run("a machine that takes no passwords", func(t *testing.T) {
		other := servers.NewSSHD(t, servers.Config{UserCA: []ssh.PublicKey{ca.PublicKey()}})
		r := linux.Rotator{Account: other.User, HostKey: ssh.FixedHostKey(other.HostKey), Dial: rotatetest.To(other.Addr)}
		if err := r.Check(t.Context(), vault.NewSecret([]byte("x"))); !errors.Is(err, rotate.ErrUnreachable) {
			t.Error(err)
		}
	})
}
