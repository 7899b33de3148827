package windows_test

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/rotatetest"
	"github.com/drawbolt/drawbolt/vault/rotate/windows"
)

// A machine answers at the wire as OpenSSH for Windows does, and to the one script as PowerShell
// would: no Windows runs where these tests do.
type machine struct {
	key       ssh.Signer
	mu        sync.Mutex
	passwords map[string]string
	scripts   []string // that were run
	answer    string   // instead of doing what is asked
}

func (m *machine) serve(l net.Listener) {
	config := &ssh.ServerConfig{ServerVersion: "SSH-2.0-OpenSSH_for_Windows_9.5", PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if want, ok := m.passwords[c.User()]; ok && want == string(password) {
			return nil, nil
		}
		return nil, errors.New("no")
	}}
	config.AddHostKey(m.key)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, channels, requests, err := ssh.NewServerConn(conn, config)
			if err != nil {
				return
			}
			go ssh.DiscardRequests(requests)
			for c := range channels {
				ch, requests, err := c.Accept()
				if err != nil {
					return
				}
				go m.session(ch, requests)
			}
		}()
	}
}

func (m *machine) session(ch ssh.Channel, requests <-chan *ssh.Request) {
	defer ch.Close()
	for r := range requests {
		_ = r.Reply(r.Type == "exec", nil)
		if r.Type != "exec" {
			continue
		}
		var exec struct{ Command string }
		_ = ssh.Unmarshal(r.Payload, &exec)
		in := bufio.NewReader(ch)
		account, password := line(in), line(in)
		fmt.Fprint(ch, m.run(exec.Command, account, password))
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
		return
	}
}

func line(in *bufio.Reader) string {
	text, err := in.ReadString('\n')
	if err != nil {
		return ""
	}
	b, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	return string(b)
}

func (m *machine) run(command, account, password string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := base64.StdEncoding.DecodeString(command[strings.LastIndex(command, " ")+1:])
	if err != nil || len(b)%2 != 0 {
		return "not a script"
	}
	var units []uint16
	for i := 0; i < len(b); i += 2 {
		units = append(units, binary.LittleEndian.Uint16(b[i:]))
	}
	m.scripts = append(m.scripts, string(utf16.Decode(units)))
	_, known := m.passwords[account]
	switch {
	case m.answer != "":
		return m.answer
	case !known:
		return "ended Microsoft.PowerShell.Commands.UserNotFoundException\r\n"
	case len(password) < 8:
		return "ended Microsoft.PowerShell.Commands.InvalidPasswordException\r\n"
	}
	m.passwords[account] = password
	return "ended done\r\n"
}

func TestRotator(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := &machine{key: servers.NewSigner(t), passwords: map[string]string{"admin": "of the admin", "Svc Backup": "First-Passw0rd"}}
	go m.serve(l)
	rotator := func(account string) func(string) rotate.Rotator {
		return func(address string) rotate.Rotator {
			return windows.Rotator{Account: account, Run: rotatetest.Over(address, "admin", ssh.Password("of the admin"), m.key.PublicKey()), Dial: rotatetest.To(address), HostKey: ssh.FixedHostKey(m.key.PublicKey())}
		}
	}
	address := l.Addr().String()
	rotatetest.Run(t, rotatetest.Subject{Address: address, New: rotator("Svc Backup"), First: "First-Passw0rd", Refused: "short", Change: func(password string) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.passwords["Svc Backup"] = password
		return nil
	}})

	set := func(account, password string) error {
		return rotator(account)(address).Set(t.Context(), vault.Secret{}, vault.NewSecret([]byte(password)))
	}
	var no *rotate.Refusal
	for account, password := range map[string]string{"nobody": "long enough", `a\b`: "long enough", "...": "long enough", "x\ny": "long enough", "Svc Backup": "\xff not UTF-8"} {
		if err := set(account, password); !errors.As(err, &no) {
			t.Errorf("%q: %v", account, err)
		}
	}
	for _, answer := range []string{" ", "ended", "ended System.Runtime.InteropServices.COMException\r\n", "ended done", "ended done\r\nand more\r\n", "it ended done\r\n"} {
		m.mu.Lock()
		m.answer = answer
		m.mu.Unlock()
		if err := set("Svc Backup", "long enough"); err == nil || errors.As(err, &no) || errors.Is(err, rotate.ErrUnreachable) {
			t.Errorf("%q is no clear answer: %v", answer, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// One script for all, in which nothing of an account stands.
	for _, script := range m.scripts {
		if script != m.scripts[0] || strings.Contains(script, "Backup") {
			t.Fatalf("another script: %s", script)
		}
	}
}
