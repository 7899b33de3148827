package servers

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"golang.org/x/crypto/ssh"
)

// A Windows answers at the wire as OpenSSH for Windows does, and to the one script that sets
// a password as PowerShell would: no Windows runs where these tests do. Any other command
// only says who runs it.
type Windows struct {
	Addr    string // 127.0.0.1:port
	HostKey ssh.PublicKey

	mu        sync.Mutex
	passwords map[string]string
	scripts   []string
	answer    string
}

// NewWindows makes a machine whose local accounts have these passwords, one that sets others
// among them: admin.
func NewWindows(t testing.TB, passwords map[string]string) *Windows {
	t.Helper()
	key := NewSigner(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w := &Windows{Addr: l.Addr().String(), HostKey: key.PublicKey(), passwords: passwords}
	config := &ssh.ServerConfig{ServerVersion: "SSH-2.0-OpenSSH_for_Windows_9.5", PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if want, ok := w.passwords[c.User()]; ok && want == string(password) {
			return nil, nil
		}
		return nil, errors.New("no")
	}}
	config.AddHostKey(key)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go w.serve(conn, config)
		}
	}()
	return w
}

// SetPassword sets a password as somebody at the machine does.
func (w *Windows) SetPassword(account, password string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.passwords[account] = password
}

// Answer has every script answered with a text, and nothing done; "": as PowerShell would.
func (w *Windows) Answer(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = text
}

// Scripts are those that were run.
func (w *Windows) Scripts() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.scripts)
}

func (w *Windows) serve(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	login, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		ch, requests, err := c.Accept()
		if err != nil {
			return
		}
		go w.session(login.User(), ch, requests)
	}
}

func (w *Windows) session(user string, ch ssh.Channel, requests <-chan *ssh.Request) {
	defer ch.Close()
	for r := range requests {
		_ = r.Reply(r.Type == "exec", nil)
		if r.Type != "exec" {
			continue
		}
		var exec struct{ Command string }
		_ = ssh.Unmarshal(r.Payload, &exec)
		if script, ok := encodedScript(exec.Command); ok {
			in := bufio.NewReader(ch)
			account, password := inputLine(in), inputLine(in)
			fmt.Fprint(ch, w.run(script, account, password))
		} else {
			fmt.Fprintf(ch, "win01\\%s\r\n", user)
		}
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
		return
	}
}

func inputLine(in *bufio.Reader) string {
	text, err := in.ReadString('\n')
	if err != nil {
		return ""
	}
	b, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	return string(b)
}

// encodedScript is the script of a command line of PowerShell.
func encodedScript(command string) (string, bool) {
	_, encoded, ok := strings.Cut(command, " -EncodedCommand ")
	b, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(b)%2 != 0 {
		return "", false
	}
	var units []uint16
	for i := 0; i < len(b); i += 2 {
		units = append(units, binary.LittleEndian.Uint16(b[i:]))
	}
	return string(utf16.Decode(units)), true
}

func (w *Windows) run(script, account, password string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scripts = append(w.scripts, script)
	_, known := w.passwords[account]
	switch {
	case w.answer != "":
		return w.answer
	case !known:
		return "ended Microsoft.PowerShell.Commands.UserNotFoundException\r\n"
	case len(password) < 8:
		return "ended Microsoft.PowerShell.Commands.InvalidPasswordException\r\n"
	}
	w.passwords[account] = password
	return "ended done\r\n"
}
