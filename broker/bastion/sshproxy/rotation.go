package sshproxy

import (
	"context"
	"net"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// SetPassword runs a command at the target of a step, as one of its accounts, with a
// certificate or with what is given for it, and returns what it wrote to its standard
// output. began says that the command may have run.
func (m Machines) SetPassword(ctx context.Context, s broker.RotationStep, as access.Account, with broker.Loan, command string, input []byte) (output []byte, began bool, err error) {
	e := m.rotation(s)
	e.account, e.began = as.Name, &began
	if as.Lent() {
		e.kind, e.lend = as.Credential, func() (broker.Loan, error) { return broker.Loan{Secret: with.Secret.Clone()}, nil }
	}
	output, err = m.run(ctx, e, command, input)
	return output, began, err
}

// Dial connects to the sshd of the target of a step.
func (m Machines) Dial(ctx context.Context, s broker.RotationStep) (net.Conn, error) {
	return m.dial(ctx, m.rotation(s))
}

// HostKey says which host keys the target of a step may show.
func (m Machines) HostKey(s broker.RotationStep) (gossh.HostKeyCallback, []string) {
	k := m.known(s.Target)
	return func(_ string, remote net.Addr, key gossh.PublicKey) error { return k.check(remote, key) }, k.algorithms()
}

func (m Machines) rotation(s broker.RotationStep) errand {
	return errand{machine: s.Target, hops: s.Hops, until: s.Until, certify: func(ctx context.Context, hop int, key gossh.PublicKey) (*gossh.Certificate, error) {
		return m.Broker.RotationCredential(ctx, s, hop, key)
	}}
}
