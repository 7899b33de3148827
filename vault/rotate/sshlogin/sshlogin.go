// Package sshlogin proves by a login at an SSH server that a password or a key is in force.
//
// It trusts the server that its host key names for what it says of the login. Nothing is run
// there.
package sshlogin

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	client, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{User: account, HostKeyCallback: s.HostKey, Auth: methods})
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
