package sshkey_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/rotatetest"
	"github.com/drawbolt/drawbolt/vault/rotate/sshkey"
)

func TestRotator(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("a machine's accounts are made by root only")
	}
	ca, key := servers.NewSigner(t), servers.NewSigner(t)
	sshd := servers.NewSSHD(t, servers.Config{UserCA: []ssh.PublicKey{ca.PublicKey()}, Lines: []string{"AuthorizedKeysFile .ssh/authorized_keys", "PermitRootLogin prohibit-password", "MaxAuthTries 20"}})
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
	rotator := func(address string) rotate.Rotator {
		return sshkey.Rotator{Account: sshd.User, Run: rotatetest.Over(address, "root", ssh.PublicKeys(root), sshd.HostKey), Dial: rotatetest.To(address), HostKey: ssh.FixedHostKey(sshd.HostKey)}
	}
	file := filepath.Join(sshd.Home, ".ssh", "authorized_keys")
	lines := func() []string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	}
	write := func(text string) {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("chown", "-R", sshd.User, filepath.Dir(file)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	first := made(t)
	theirs := public(t, made(t)) + " somebody else"
	commented := "# " + public(t, first) + " is the first"
	write(commented + "\n" + theirs + "\n" + `environment="A=b c",no-agent-forwarding ` + public(t, first) + " the first\n\n")

	rotatetest.Run(t, rotatetest.Subject{Address: sshd.Addr, New: rotator, First: first, Make: sshkey.Make, Change: func(key string) error {
		write(commented + "\n" + theirs + "\nno-agent-forwarding " + public(t, key) + " drawbolt-rotated\n")
		return nil
	}})

	t.Run("the rest of the file", func(t *testing.T) {
		got := lines()
		if len(got) != 3 || got[0] != commented || got[1] != theirs || !strings.HasPrefix(got[2], "no-agent-forwarding ssh-ed25519 ") || !strings.HasSuffix(got[2], " drawbolt-rotated") {
			t.Errorf("authorized_keys is %q", got)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	})
	t.Run("by the account itself", func(t *testing.T) {
		before, after := made(t), made(t)
		write(public(t, before) + "\n" + public(t, before) + " twice\n")
		signer, err := ssh.ParsePrivateKey([]byte(before))
		if err != nil {
			t.Fatal(err)
		}
		own := sshkey.Rotator{Account: sshd.User, Run: rotatetest.Over(sshd.Addr, sshd.User, ssh.PublicKeys(signer), sshd.HostKey), Dial: rotatetest.To(sshd.Addr), HostKey: ssh.FixedHostKey(sshd.HostKey)}
		if err := own.Set(t.Context(), secret(before), secret(after)); err != nil {
			t.Fatal(err)
		}
		if err := own.Check(t.Context(), secret(after)); err != nil {
			t.Error(err)
		}
		if err := own.Check(t.Context(), secret(before)); !errors.Is(err, rotate.ErrWrong) {
			t.Error(err)
		}
		if got := lines(); len(got) != 1 {
			t.Errorf("authorized_keys is %q", got)
		}
	})
	t.Run("refused", func(t *testing.T) {
		for _, account := range []string{"no-such-account", "root; id", "-u", ""} {
			r := rotator(sshd.Addr).(sshkey.Rotator)
			r.Account = account
			var no *rotate.Refusal
			if err := r.Set(t.Context(), vault.Secret{}, secret(made(t))); !errors.As(err, &no) {
				t.Errorf("%q: %v", account, err)
			}
		}
		var no *rotate.Refusal
		if err := rotator(sshd.Addr).Set(t.Context(), vault.Secret{}, secret("no key")); !errors.As(err, &no) || strings.Contains(err.Error(), "no key") && !strings.Contains(err.Error(), "private key") {
			t.Error(err)
		}
	})
	t.Run("a link leads nowhere", func(t *testing.T) {
		key := made(t)
		write(public(t, key) + "\n")
		elsewhere := filepath.Join(t.TempDir(), "theirs")
		if err := os.WriteFile(elsewhere, []byte("untouched\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(elsewhere, file); err != nil {
			t.Fatal(err)
		}
		var no *rotate.Refusal
		err := rotator(sshd.Addr).Set(t.Context(), secret(key), secret(made(t)))
		if b, _ := os.ReadFile(elsewhere); !errors.As(err, &no) || string(b) != "untouched\n" {
			t.Errorf("%v; %q", err, b)
		}
	})
}

func made(t *testing.T) string {
	t.Helper()
	s, err := sshkey.Make()
	if err != nil {
		t.Fatal(err)
	}
	return string(s.Expose())
}

func public(t *testing.T, key string) string {
	t.Helper()
	s, err := ssh.ParsePrivateKey([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

func secret(s string) vault.Secret { return vault.NewSecret([]byte(s)) }
