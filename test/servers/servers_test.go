package servers_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

func TestPostgresGivesFreshDatabases(t *testing.T) {
	for range 2 {
		conn, err := pgx.Connect(t.Context(), servers.Postgres(t))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		if _, err := conn.Exec(t.Context(), "CREATE TABLE here_before (x BIGINT)"); err != nil {
			t.Fatal(err)
		}
	}
}

func certify(t *testing.T, ca, key ssh.Signer, principal string) ssh.Signer {
	cert := &ssh.Certificate{
		Key: key.PublicKey(), Serial: 1, CertType: ssh.UserCert, KeyId: "test", ValidPrincipals: []string{principal},
		ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSSHD(t *testing.T) {
	ca, key := servers.NewSigner(t), servers.NewSigner(t)
	s := servers.NewSSHD(t, servers.Config{UserCA: []ssh.PublicKey{ca.PublicKey()}, Principals: []string{"someone@here"}})
	login := func(signer ssh.Signer) (string, error) {
		c, err := ssh.Dial("tcp", s.Addr, &ssh.ClientConfig{
			User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(s.HostKey), Timeout: 10 * time.Second,
		})
		if err != nil {
			return "", err
		}
		defer c.Close()
		session, err := c.NewSession()
		if err != nil {
			return "", err
		}
		out, err := session.Output("id -un")
		return strings.TrimSpace(string(out)), err
	}
	if who, err := login(certify(t, ca, key, "someone@here")); err != nil || who != s.User {
		t.Errorf("a good certificate: %q, %v; log:\n%s", who, err, s.Log())
	}
	for name, signer := range map[string]ssh.Signer{
		"another principal": certify(t, ca, key, "someone@there"),
		"another authority": certify(t, servers.NewSigner(t), key, "someone@here"),
		"a bare key":        key,
	} {
		if who, err := login(signer); err == nil {
			t.Errorf("%s logs in as %q", name, who)
		}
	}
	if err := s.Allow(s.User, "someone@there"); err != nil {
		t.Fatal(err)
	}
	if who, err := login(certify(t, ca, key, "someone@there")); err != nil || who != s.User {
		t.Errorf("after Allow: %q, %v", who, err)
	}
	if !strings.Contains(s.Log(), "Accepted publickey") {
		t.Errorf("the log tells of no login:\n%s", s.Log())
	}
}

func TestSSHDUserIsRemoved(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root makes users")
	}
	var name string
	t.Run("", func(t *testing.T) { name = servers.NewSSHD(t, servers.Config{}).User })
	if _, err := user.Lookup(name); err == nil {
		t.Errorf("user %s is still there", name)
	}
}

// TestKilled kills a test process that has both servers; neither may stay.
func TestKilled(t *testing.T) {
	if os.Getenv("SERVERS_TEST_CHILD") != "" {
		url, s := servers.Postgres(t), servers.NewSSHD(t, servers.Config{})
		c, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\nready 127.0.0.1:%d %s %s\n", c.Port, s.Addr, s.User)
		select {}
	}
	c := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	c.Env = append(os.Environ(), "SERVERS_TEST_CHILD=1")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var postgres, sshd, name string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, err := fmt.Sscanf(lines.Text(), "ready %s %s %s", &postgres, &sshd, &name); err == nil {
			break
		}
	}
	_ = c.Process.Kill()
	_, _ = io.Copy(io.Discard, out)
	_ = c.Wait()
	if name == "" {
		t.Fatal("the child did not start its servers")
	}
	gone := func() bool {
		for _, addr := range []string{postgres, sshd} {
			if conn, err := net.Dial("tcp", addr); err == nil {
				conn.Close()
				return false
			}
		}
		_, err := user.Lookup(name)
		return err != nil || os.Getuid() != 0
	}
	for end := time.Now().Add(time.Minute); !gone(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still there: %s, %s or user %s", postgres, sshd, name)
		}
	}
}
