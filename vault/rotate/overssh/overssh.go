// Package overssh is what the kinds share whose systems are reached over SSH: logins that prove
// a password or a key, and commands whose end is known.
//
// It trusts the server that its host key names for what it says of a login or a command.
package overssh

import (
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

// A Server is where is logged in.
type Server struct {
	Dial    func(ctx context.Context) (net.Conn, error)
	HostKey ssh.HostKeyCallback // checks whose server it is
	// Algorithms are those of the host keys that it may show; none: any.
	Algorithms []string
}

// answerWithin bounds a login, in which the server may say nothing.
const answerWithin = 30 * time.Second

// Password is Rotator.Check for a password.
func (s Server) Password(ctx context.Context, account string, password vault.Secret) error {
	asked := false
	tell := func() string {
		asked = true
		return string(password.Expose())
	}
	return s.login(ctx, account, &asked,
		ssh.PasswordCallback(func() (string, error) { return tell(), nil }),
		ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
			if len(questions) == 0 {
				return nil, nil
			}
			if asked || len(questions) > 1 || echos[0] {
				return nil, errors.New("the server asks for something else than the password")
			}
			return []string{tell()}, nil
		}))
}

// Key is Rotator.Check for a private key.
func (s Server) Key(ctx context.Context, account string, key ssh.Signer) error {
	asked := false
	return s.login(ctx, account, &asked, ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
		asked = true
		return []ssh.Signer{key}, nil
	}))
}

// login reports asked as one that proves nothing if the server has not asked for it.
func (s Server) login(ctx context.Context, account string, asked *bool, methods ...ssh.AuthMethod) error {
	conn, err := s.Dial(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", rotate.ErrUnreachable, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(answerWithin))
	client, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{User: account, HostKeyCallback: s.HostKey, HostKeyAlgorithms: s.Algorithms, Auth: methods})
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
	case denied && *asked:
		return rotate.ErrWrong
	case !*asked:
		return fmt.Errorf("%w: %w", rotate.ErrUnreachable, err) // it takes no such logins, or did not come so far
	}
	return err
}

// validAccount is what Linux takes as the name of an account, and no shell takes for more.
var validAccount = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// ValidAccount reports whether a name may be that of an account on Linux; it needs no quoting.
func ValidAccount(name string) bool { return validAccount.MatchString(name) }

// A Runner runs a command on a machine and returns what it wrote to its standard output. An
// error is rotate.ErrUnreachable if the command did not begin.
type Runner func(ctx context.Context, command string, input []byte) ([]byte, error)

// ended is the last line of a command that came to its end.
var ended = regexp.MustCompile(`(?:^|\n)ended (\d{1,3})\n$`)

// Change runs a shell command that changes a password or key, which it reads from its standard
// input. Its end is said in a line, so that a connection that breaks is not taken for an answer;
// any exit status but 0 means that nothing has changed. It is known by its name in errors,
// which have none of the secrets in them.
func (r Runner) Change(ctx context.Context, name, command string, input []byte, secrets ...vault.Secret) error {
	output, err := r(ctx, command+`; echo "ended $?"`, input)
	if err != nil {
		return err
	}
	end := ended.FindSubmatchIndex(output)
	if end == nil {
		return errors.New(name + " was broken off")
	}
	if status := string(output[end[2]:end[3]]); status != "0" {
		return &rotate.Refusal{Why: name + ": " + rotate.Said(output[:end[0]], secrets...) + " (exit status " + status + ")"}
	}
	return nil
}
