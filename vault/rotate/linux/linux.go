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
	"net"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/overssh"
)

// A Rotator changes the password of one account.
type Rotator struct {
	Account string
	// Run works as root, or as somebody who may use sudo without a password for chpasswd.
	Run overssh.Runner
	// Dial connects to the machine's sshd, and HostKey checks whose it is, which shows a
	// key of one of the Algorithms; none: any.
	Dial       func(ctx context.Context) (net.Conn, error)
	HostKey    ssh.HostKeyCallback
	Algorithms []string
}

const command = `if [ "$(id -u)" = 0 ]; then chpasswd 2>&1; else sudo -n chpasswd 2>&1; fi`

// Set implements rotate.Rotator. What was the password before does not matter.
func (r Rotator) Set(ctx context.Context, _, password vault.Secret) error {
	p := password.Expose()
	if !overssh.ValidAccount(r.Account) || len(p) == 0 || bytes.ContainsAny(p, "\n\r\x00") {
		return &rotate.Refusal{Why: "chpasswd takes no such account or password"}
	}
	input := append(append([]byte(r.Account+":"), p...), '\n')
	defer clear(input)
	return r.Run.Change(ctx, "chpasswd", command, input, password)
}

// Check implements rotate.Rotator.
func (r Rotator) Check(ctx context.Context, password vault.Secret) error {
	return overssh.Server{Dial: r.Dial, HostKey: r.HostKey, Algorithms: r.Algorithms}.Password(ctx, r.Account, password)
}
