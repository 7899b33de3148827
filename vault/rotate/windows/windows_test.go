package windows_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/rotatetest"
	"github.com/drawbolt/drawbolt/vault/rotate/windows"
)

func TestRotator(t *testing.T) {
	m := servers.NewWindows(t, map[string]string{"admin": "of the admin", "Svc Backup": "First-Passw0rd"})
	rotator := func(account string) func(string) rotate.Rotator {
		return func(address string) rotate.Rotator {
			return windows.Rotator{Account: account, Run: rotatetest.Over(address, "admin", ssh.Password("of the admin"), m.HostKey), Dial: rotatetest.To(address), HostKey: ssh.FixedHostKey(m.HostKey)}
		}
	}
	rotatetest.Run(t, rotatetest.Subject{Address: m.Addr, New: rotator("Svc Backup"), First: "First-Passw0rd", Refused: "short", Change: func(password string) error {
		m.SetPassword("Svc Backup", password)
		return nil
	}})

	set := func(account, password string) error {
		return rotator(account)(m.Addr).Set(t.Context(), vault.Secret{}, vault.NewSecret([]byte(password)))
	}
	var no *rotate.Refusal
	for account, password := range map[string]string{"nobody": "long enough", `a\b`: "long enough", "...": "long enough", "x\ny": "long enough", "Svc Backup": "\xff not UTF-8"} {
		if err := set(account, password); !errors.As(err, &no) {
			t.Errorf("%q: %v", account, err)
		}
	}
	for _, answer := range []string{" ", "ended", "ended System.Runtime.InteropServices.COMException\r\n", "ended done", "ended done\r\nand more\r\n", "it ended done\r\n"} {
		m.Answer(answer)
		if err := set("Svc Backup", "long enough"); err == nil || errors.As(err, &no) || errors.Is(err, rotate.ErrUnreachable) {
			t.Errorf("%q is no clear answer: %v", answer, err)
		}
	}
	// One script for all, in which nothing of an account stands.
	scripts := m.Scripts()
	for _, script := range scripts {
		if script != scripts[0] || strings.Contains(script, "Backup") {
			t.Fatalf("another script: %s", script)
		}
	}
}
