package servers

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Machine is an OpenSSH server with accounts of its own: it runs in a mount
// and a PID namespace with a copy of /etc and empty /home, /var/lib and the
// like, so that accounts can be made and removed there, with the real tools, and
// nothing of the test's own machine changes. It needs root.
type Machine struct {
	*server
	Addr    string // 127.0.0.1:port
	HostKey ssh.PublicKey
	// Principals is the folder that sshd reads them from, and Config is its
	// configuration.
	Principals, Config string
	t                  testing.TB
	init               string // the process that is 1 there
}

// boot sets the namespace up and keeps sshd running in it. $1 is our directory,
// $2 the size of /etc. While there is a file "away", sshd is not started.
const boot = `set -eu
dir=$1
read -r _ _ _ init _ <<E
$(exec cat /proc/self/stat)
E
mount --make-rprivate /
mkdir "$dir/etc" && mount -t tmpfs -o "size=$2,mode=755" tmpfs "$dir/etc"
cp -a /etc/. "$dir/etc/"
mount --bind "$dir/etc" /etc
for place in /root /home /var/lib /var/spool /var/mail /var/tmp /dev/shm /run /mnt; do
  [ -d "$place" ] && mount -t tmpfs -o mode=755 tmpfs "$place"
done
chmod 1777 /var/tmp /dev/shm
mount -t proc proc /proc
mkdir -p /run/sshd /etc/ssh/principals /var/spool/cron/crontabs /var/spool/cron/atjobs /mnt/bin
rm -f /etc/sudoers.d/drawbolt-*
usermod --password '*' root
echo "$3" >/etc/ssh/principals/root
echo "$init" >"$dir/init.new" && mv "$dir/init.new" "$dir/init"
while :; do
  if [ ! -e "$dir/away" ]; then /usr/sbin/sshd -D -e -f "$dir/sshd_config" || :; fi
  sleep 0.1
done`

// NewMachine starts a machine whose sshd trusts the user authorities. The
// principals let in as root; other accounts have theirs in Principals.
func NewMachine(t testing.TB, etcSize string, userCA []ssh.PublicKey, principals ...string) *Machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("a machine with accounts of its own needs root")
	}
	for name, debian := range map[string]string{"sshd": "openssh-server", "sudo": "sudo", "visudo": "sudo", "unshare": "util-linux", "nsenter": "util-linux", "useradd": "passwd"} {
		_, err := program(name, debian, "/usr/sbin/"+name, "/usr/bin/"+name)
		check(t, err)
	}
	dir, err := newDir("machine")
	check(t, err)
	m, err := runMachine(dir, etcSize, userCA, principals)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatalf("start a machine: %v", err)
	}
	m.t = t
	t.Cleanup(m.stop)
	return m
}

func runMachine(dir, etcSize string, userCA []ssh.PublicKey, principals []string) (*Machine, error) {
	m := &Machine{Principals: "/etc/ssh/principals", Config: filepath.Join(dir, "sshd_config")}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if m.HostKey, err = ssh.NewPublicKey(public); err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	m.Addr = fmt.Sprintf("127.0.0.1:%d", port)
	var keys []byte
	for _, k := range userCA {
		keys = append(keys, ssh.MarshalAuthorizedKey(k)...)
	}
	config := []string{
		"HostKey " + dir + "/host_key", "TrustedUserCAKeys " + dir + "/user_ca", "AuthorizedPrincipalsFile " + m.Principals + "/%u",
		"ListenAddress " + m.Addr, "PidFile none", "UsePAM no", "LogLevel VERBOSE", "PasswordAuthentication no",
		"KbdInteractiveAuthentication no", "AuthorizedKeysFile none", "PrintMotd no", "PrintLastLog no", "Subsystem sftp internal-sftp",
	}
	for name, content := range map[string][]byte{
		"host_key": pem.EncodeToMemory(block), "user_ca": keys, "sshd_config": []byte(strings.Join(config, "\n") + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	// unshare(1) ignores SIGTERM; when it is killed, everything in there is.
	m.server, err = start(dir, "KILL", "", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL",
		"/bin/sh", "-c", boot, "boot", dir, etcSize, strings.Join(principals, "\n"))
	if err != nil {
		return nil, err
	}
	if err := m.until(m.answers); err != nil {
		m.stop()
		return nil, err
	}
	return m, nil
}

func (m *Machine) answers() error {
	b, err := os.ReadFile(filepath.Join(m.dir, "init"))
	if err != nil {
		return err
	}
	m.init = strings.TrimSpace(string(b))
	conn, err := net.DialTimeout("tcp", m.Addr, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Try runs a shell script as root on the machine and returns what it said.
func (m *Machine) Try(script string) (string, error) {
	out, err := exec.Command("nsenter", "--target", m.init, "--mount", "--pid", "/bin/sh", "-c", script).CombinedOutput()
	return string(out), err
}

// Do is Try for a script that has to work.
func (m *Machine) Do(script string) string {
	m.t.Helper()
	out, err := m.Try(script)
	if err != nil {
		m.t.Fatalf("on the machine: %s: %v\n%s", script, err, out)
	}
	return out
}

// Leave ends sshd and every connection to it; it stays away until Return.
func (m *Machine) Leave() {
	m.t.Helper()
	check(m.t, os.WriteFile(filepath.Join(m.dir, "away"), nil, 0o600))
	m.Do("pkill -KILL sshd; true")
	check(m.t, m.until(func() error {
		if m.answers() == nil {
			return errors.New("it is still there")
		}
		return nil
	}))
}

// Return starts sshd again.
func (m *Machine) Return() {
	m.t.Helper()
	check(m.t, os.Remove(filepath.Join(m.dir, "away")))
	check(m.t, m.until(m.answers))
}

// Wrap puts a shell script in the place of a program of the machine, which is
// then "$real". Unwrap takes it away.
func (m *Machine) Wrap(program, script string) {
	m.t.Helper()
	name := "/mnt/bin/" + filepath.Base(program)
	m.Do("cp " + program + " " + name + ".real && { echo '#!/bin/sh'; echo 'real=" + name + ".real'; cat; } >" + name + " <<'E'\n" + script + "\nE\nchmod 755 " + name + " && mount --bind " + name + " " + program)
}

// Unwrap undoes Wrap.
func (m *Machine) Unwrap(program string) {
	m.t.Helper()
	m.Do("umount " + program)
}
