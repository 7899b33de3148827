//go:build linux

package test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/linux"
	"github.com/drawbolt/drawbolt/vault/rotate/plugin"
	"github.com/drawbolt/drawbolt/vault/rotate/sshkey"
	"github.com/drawbolt/drawbolt/web/api"
)

// keyOf makes a key, and its line for authorized_keys.
func keyOf(t testing.TB) (private, line string) {
	t.Helper()
	secret, err := sshkey.Make()
	must(t, err)
	signer, err := ssh.ParsePrivateKey(secret.Expose())
	must(t, err)
	return string(secret.Expose()), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// onMachineByKey is a machine at which accounts have a key, which root replaces.
func onMachineByKey(t testing.TB, s *server, names []string) managed {
	first, line := keyOf(t)
	m, n := machineWith(t, s, names, ` && install -d -m 700 -o %s ~%s/.ssh && echo '`+line+`' >~%s/.ssh/authorized_keys && chown %s ~%s/.ssh/authorized_keys`)
	m.Do(`sed -i 's/^AuthorizedKeysFile .*/AuthorizedKeysFile .ssh\/authorized_keys/' ` + m.Config + ` && pkill -HUP -o sshd`)
	n.target.Provisioner, n.credential, n.first, n.change = "root", "key", first, nil
	login := n.tried
	n.tried = func(account string) rotate.Rotator {
		l := login(account).(linux.Rotator)
		return sshkey.Rotator{Account: account, HostKey: l.HostKey, Dial: l.Dial}
	}
	return n
}

// onMachineByOwnKey is one at which the accounts replace their keys themselves.
func onMachineByOwnKey(t testing.TB, s *server, names []string) managed {
	n := onMachineByKey(t, s, names)
	n.target.Provisioner = ""
	return n
}

// onWindows is a model of a machine with Windows, at which an administrator sets passwords.
func onWindows(t testing.TB, _ *server, names []string) managed {
	first, by := canary("first"), canary("admin")
	passwords := map[string]string{"admin": by}
	for _, name := range names {
		passwords[name] = first
	}
	w := servers.NewWindows(t, passwords)
	return managed{
		target: api.TargetInput{Name: "win01", Kind: "windows", Address: w.Addr, HostKeys: hostKeys(w.HostKey),
			Accounts: append(as(names, nil), api.AccountInput{Name: "admin"})},
		first: first, reset: "admin", secrets: map[string]string{"admin": by},
		tried: func(account string) rotate.Rotator {
			return linux.Rotator{Account: account, HostKey: ssh.FixedHostKey(w.HostKey), Dial: func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", w.Addr)
			}}
		},
	}
}

// switchProgram is what an operator writes for a system with an API of its own: here a folder
// with the password of each account in a file. It wants to be told the one in force.
const switchProgram = `#!/bin/sh
question=$(cat)
field() { printf %s "$question" | sed -n 's/.*"'$1'":"\([^"]*\)".*/\1/p'; }
case $question in *'"format":1,'*) ;; *) exit 1 ;; esac
kept=$1/$(field account)
test -d "$1" || { echo 'the switch is away'; exit 12; }
case $2 in
check) test "$(field password)" = "$(cat "$kept")" || exit 11 ;;
set)
	test "$(field current)" = "$(cat "$kept")" || { echo 'that is not the password now'; exit 10; }
	field password | tr -d '\n' >"$kept.new" && mv "$kept.new" "$kept"
	;;
esac
`

// withProgram is the configuration of a server that has the program by the name switch, and
// the folder that is the switch.
func withProgram(t testing.TB) (config, command, folder string) {
	t.Helper()
	dir := t.TempDir()
	command, folder = filepath.Join(dir, "switch"), filepath.Join(dir, "accounts")
	must(t, os.WriteFile(command, []byte(switchProgram), 0o755))
	must(t, os.Mkdir(folder, 0o700))
	return fmt.Sprintf("rotation:\n  programs:\n    - {name: switch, command: [%q, %q]}\n", command, folder), command, folder
}

// onSwitch is a system of which a program sets the passwords.
func onSwitch(t testing.TB, s *server, names []string) managed {
	first := canary("first")
	config, command, folder := withProgram(t)
	b, err := os.ReadFile(s.config)
	must(t, err)
	s.stop()
	must(t, os.WriteFile(s.config, append(b, config...), 0o600))
	s.start()
	known := func(name string) string { return "enable-" + name }
	for _, name := range names {
		must(t, os.WriteFile(filepath.Join(folder, known(name)), []byte(base64.StdEncoding.EncodeToString([]byte(first))), 0o600))
	}
	return managed{
		target: api.TargetInput{Name: "switch01", Kind: "plugin:switch", Address: "192.0.2.7:443", Accounts: as(names, known)},
		first:  first,
		tried: func(account string) rotate.Rotator {
			return plugin.Rotator{Command: []string{command, folder}, Target: "switch01", Address: "192.0.2.7:443", Account: known(account)}
		},
	}
}

// TestManagedKey: a key that somebody has becomes ours. The bastion logs in with it, which
// changes it after each session, and nobody else ever has one that works.
func TestManagedKey(t *testing.T) {
	for name, make := range map[string]system{"by the provisioner": onMachineByKey, "by itself": onMachineByOwnKey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits more than it works
			s := install(t, "", "")
			const account = "ops"
			m := make(t, s, []string{account})
			ctx, admin := t.Context(), s.people["admin"]
			alice, bob := s.person("alice", "engineers"), s.person("bob", "approvers")
			_, err := admin.SetRole(ctx, api.Role{Name: "recoverers", Groups: []string{"recoverers"}, Rules: []api.Rule{{ID: "recover", Actions: []string{"secret.recover"}}}})
			must(t, err)
			rita := s.person("rita", "recoverers")
			_, err = admin.AddTarget(ctx, m.target)
			must(t, err)

			// A password is none, rules for passwords are none for keys, and what is ours is ours.
			in := api.ManageInput{Credential: "key", Managed: api.Managed{AfterUse: true, Failures: 10}, Secret: []byte("no key")}
			refused(t, "what is no key", managing(admin, m.target.Name, account, in))
			in.Secret, in.Length = []byte(m.first), 40
			refused(t, "a long key", managing(admin, m.target.Name, account, in))
			in.Length = 0
			must(t, managing(admin, m.target.Name, account, in))
			refused(t, "a password in the place of the key", managing(admin, m.target.Name, account, api.ManageInput{Credential: "password", Secret: []byte(canary("password"))}), "DB-6502")
			accepted := func(key string) error { return m.tried(account).Check(ctx, vault.NewSecret([]byte(key))) }
			eventually(t, 3*time.Minute, "the first key is dead", func() bool { return errors.Is(accepted(m.first), rotate.ErrWrong) })

			_, err = grant(ctx, alice, bob, account, m.target.Name, 0)
			must(t, err)
			// current is the key that is in force, when no change is under way.
			current := func() (now string) {
				t.Helper()
				eventually(t, 3*time.Minute, "one key that is in force", func() bool {
					list, err := rita.RecoverPasswords(ctx, m.target.Name, account, "the test wants to know")
					must(t, err)
					i := slices.IndexFunc(list.Items, func(p api.KnownPassword) bool { return p.State == "current" })
					now = string(list.Items[i].Secret)
					return accepted(now) == nil
				})
				return now
			}
			was := current()
			out, err := s.session(alice, account, m.target.Name, "id -un; wc -l <.ssh/authorized_keys")
			if err != nil || strings.Join(strings.Fields(out), " ") != "ops 1" {
				t.Fatalf("a session: %q, %v", out, err)
			}
			eventually(t, 3*time.Minute, "the key of before is dead after the session", func() bool { return errors.Is(accepted(was), rotate.ErrWrong) })
			if now := current(); now == was || !strings.Contains(now, "OPENSSH PRIVATE KEY") {
				t.Error("no other key is in force")
			}
			if out, err := s.session(alice, account, m.target.Name, "id -un"); err != nil || out != "ops\n" {
				t.Errorf("the next session: %q, %v", out, err)
			}
		})
	}
}

func managing(admin *person, target, account string, in api.ManageInput) error {
	_, err := admin.ManageAccount(context.Background(), target, account, in)
	return err
}

// refused wants an error of the server, with one of the codes if there are any.
func refused(t *testing.T, what string, err error, codes ...string) {
	t.Helper()
	problem := api.AsProblem(err)
	if problem == nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	for _, code := range codes {
		if problem.Code == code {
			return
		}
		t.Errorf("%s: %+v", what, problem)
	}
}
