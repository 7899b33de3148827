// Package linux changes the passwords of accounts of Linux machines with chpasswd, to which
// the password is written on its standard input: it stands in no argument, environment or
// file. It is proved by a login at the machine's sshd.
//
// It trusts the machine that its host keys name, and the way that it is given to run
// something there with the right to change passwords.
package linux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
)

// A Rotator changes the password of one account.
type Rotator struct {
	Account string
	// Run runs a command on the machine as root, or as somebody who may use sudo without
	// a password for chpasswd, and returns what it wrote to its standard output. An error
	// is rotate.ErrUnreachable if the command did not begin.
	Run func(ctx context.Context, command string, input []byte) ([]byte, error)
	// Dial connects to the machine's sshd, and HostKey checks whose it is, which shows a
	// key of one of the Algorithms; none: any.
	Dial       func(ctx context.Context) (net.Conn, error)
	HostKey    ssh.HostKeyCallback
	Algorithms []string
}

// command ends with a line that says how chpasswd did, so that a connection that breaks
// is not taken for an answer.
const command = `if [ "$(id -u)" = 0 ]; then chpasswd 2>&1; else sudo -n chpasswd 2>&1; fi; echo "ended $?"`

var (
	validAccount = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	ended        = regexp.MustCompile(`(?:^|\n)ended (\d{1,3})\n$`)
)

// answerWithin bounds a login, in which the machine may say nothing.
const answerWithin = 30 * time.Second

// Set implements rotate.Rotator. What was the password before does not matter.
func (r Rotator) Set(ctx context.Context, _, password vault.Secret) error {
	p := password.Expose()
	if !validAccount.MatchString(r.Account) || len(p) == 0 || bytes.ContainsAny(p, "\n\r\x00") {
		return &rotate.Refusal{Why: "chpasswd takes no such account or password"}
	}
	input := append(append([]byte(r.Account+":"), p...), '\n')
	defer clear(input)
	output, err := r.Run(ctx, command, input)
	if err != nil {
		return err
	}
	end := ended.FindSubmatchIndex(output)
	if end == nil {
		return errors.New("chpasswd was broken off")
	}
	if status := string(output[end[2]:end[3]]); status != "0" {
		return &rotate.Refusal{Why: "chpasswd: " + said(output[:end[0]], p) + " (exit status " + status + ")"}
	}
	return nil
}

// said is what a program said, as far as it can be passed on.
func said(output, password []byte) string {
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return ' '
		}
		return c
	}, string(output[:min(len(output), 300)]))
	if strings.Contains(text, string(password)) {
		return "it repeats the password"
	}
	return strings.Join(strings.Fields(text), " ")
}

// Check implements rotate.Rotator.
func (r Rotator) Check(ctx context.Context, password vault.Secret) error {
	conn, err := r.Dial(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", rotate.ErrUnreachable, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(answerWithin))
	asked := false
	tell := func() string {
		asked = true
		return string(password.Expose())
	}
	client, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{
		User: r.Account, HostKeyCallback: r.HostKey, HostKeyAlgorithms: r.Algorithms,
		Auth: []ssh.AuthMethod{
			ssh.PasswordCallback(func() (string, error) { return tell(), nil }),
			ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
				if len(questions) == 0 {
					return nil, nil
				}
				if asked || len(questions) > 1 || echos[0] {
					return nil, errors.New("the machine asks for something else than the password")
				}
				return []string{tell()}, nil
			}),
		},
	})
	if err == nil {
		go ssh.DiscardRequests(requests)
		go func() {
			for c := range channels {
				c.Reject(ssh.Prohibited, "")
			}
		}()
		return client.Close()
	}
	switch denied := strings.Contains(err.Error(), "unable to authenticate"); {
	case denied && asked:
		return rotate.ErrWrong
	case !asked:
		return fmt.Errorf("%w: %w", rotate.ErrUnreachable, err) // it takes no passwords, or did not come so far
	}
	return err
}
