package sshproxy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// Machines runs commands at targets for the server itself, when an account is
// made or removed there, or the list of revoked certificates brought. It is safe
// for concurrent use.
type Machines struct {
	Broker *broker.Broker
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Bounds of what a machine may say, in bytes.
const (
	maxMachineOutput = 16 << 10
	maxMachineErrors = 2 << 10
)

// An errand is what the server logs in for: where, on which way, and until when
// the command may begin.
type errand struct {
	machine access.Target
	hops    []access.Target
	until   time.Time
	certify func(ctx context.Context, hop int, key gossh.PublicKey) (*gossh.Certificate, error)
	// output is how many bytes the machine may say; 0: maxMachineOutput.
	output  int64
	account string                      // to log in as at the machine; "": its provisioner
	lend    func() (broker.Loan, error) // nil: with a certificate
	kind    string                      // of what is lent
	began   *bool                       // is set when the command may run; nil: nobody asks
}

// Run logs in at the machine of a step as its provisioner, with a certificate
// for one minute, and runs the command there with the input. It returns what the
// command wrote to its standard output. The host key must be the one that a
// session would accept. An error says that the command may not have run, or not
// to its end; a command that fails is one. Everything is closed when Run returns.
func (m Machines) Run(ctx context.Context, s broker.Step, command string, input []byte) (output []byte, err error) {
	return m.run(ctx, errand{machine: s.Machine, hops: s.Hops, until: s.Provision.Until, certify: func(ctx context.Context, hop int, key gossh.PublicKey) (*gossh.Certificate, error) {
		return m.Broker.StepCredential(ctx, s, hop, key)
	}}, command, input)
}

// Bring is Run for a delivery. A target that refuses the login is an
// access.ErrUnauthenticated.
func (m Machines) Bring(ctx context.Context, d broker.Delivery, command string, input []byte) ([]byte, error) {
	output, err := m.run(ctx, errand{machine: d.Target, hops: d.Hops, until: d.Until, certify: func(ctx context.Context, hop int, key gossh.PublicKey) (*gossh.Certificate, error) {
		return m.Broker.DeliveryCredential(ctx, d, hop, key)
	}}, command, input)
	if err != nil && refusedLogin(err) {
		err = fmt.Errorf("%w: %w", access.ErrUnauthenticated, err)
	}
	return output, err
}

// Explore is Run for a scan, which says more: at most that many bytes.
func (m Machines) Explore(ctx context.Context, d broker.Discovery, command string, input []byte, most int64) ([]byte, error) {
	machine := d.Target
	machine.Provisioner = d.Account
	output, err := m.run(ctx, errand{machine: machine, hops: d.Hops, until: d.Until, output: most, certify: func(ctx context.Context, hop int, key gossh.PublicKey) (*gossh.Certificate, error) {
		return m.Broker.DiscoveryCredential(ctx, d, hop, key)
	}}, command, input)
	if err != nil && refusedLogin(err) {
		err = fmt.Errorf("%w: %w", access.ErrUnauthenticated, err)
	}
	return output, err
}

func (m Machines) run(ctx context.Context, e errand, command string, input []byte) (output []byte, err error) {
	if m.Now == nil {
		m.Now = time.Now
	}
	nc, err := m.dial(ctx, e)
	if err != nil {
		return nil, err
	}
	// No part of a handshake or of the command outlives the errand.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer func() {
		stop()
		nc.Close()
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}()
	client, channels, requests, err := m.logIn(ctx, e, len(e.hops), nc)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	go rejectAll(channels)
	go gossh.DiscardRequests(requests)
	ch, reqs, err := openChannel(ctx, client, "session", nil)
	if err != nil {
		return nil, fmt.Errorf("open a session on %s: %w", e.machine.Name, err)
	}
	if !m.Now().Before(e.until) {
		return nil, errors.New("the login took longer than it may")
	}
	if e.began != nil {
		*e.began = true
	}
	return execute(ch, reqs, command, input, cmp.Or(e.output, maxMachineOutput))
}

// dial connects to the machine, through the hops on the way.
func (m Machines) dial(ctx context.Context, e errand) (net.Conn, error) {
	way := append(slices.Clone(e.hops), e.machine)
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", way[0].Address)
	if err != nil {
		return nil, err
	}
	for i, next := range way[1:] {
		if nc, err = m.pass(ctx, e, i, nc, next.Address); err != nil {
			return nil, err
		}
	}
	return nc, nil
}

// pass has the hop of that index connect to the address. nc belongs to it from
// here on.
func (m Machines) pass(ctx context.Context, e errand, hop int, nc net.Conn, address string) (_ net.Conn, err error) {
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			nc.Close()
		}
	}()
	client, channels, requests, err := m.logIn(ctx, e, hop, nc)
	if err != nil {
		return nil, err
	}
	go rejectAll(channels)
	go gossh.DiscardRequests(requests)
	payload, err := forwardTo(address)
	if err != nil {
		return nil, err
	}
	ch, reqs, err := openChannel(ctx, client, "direct-tcpip", payload)
	if err != nil {
		return nil, fmt.Errorf("pass through %s: %w", e.hops[hop].Name, err)
	}
	go gossh.DiscardRequests(reqs)
	return &passed{Channel: ch, under: client}, nil
}

// logIn logs in over nc at the hop of that index, or, with the number of hops,
// at the machine.
func (m Machines) logIn(ctx context.Context, e errand, hop int, nc net.Conn) (gossh.Conn, <-chan gossh.NewChannel, <-chan *gossh.Request, error) {
	at, account := e.machine, e.machine.Provisioner
	if hop < len(e.hops) {
		at, account = e.hops[hop], e.hops[hop].HopAccount
	}
	var methods []gossh.AuthMethod
	var lending *lent
	if hop == len(e.hops) && e.account != "" {
		account = e.account
	}
	if hop == len(e.hops) && e.lend != nil {
		lending = &lent{kind: e.kind, lend: e.lend}
		methods = lending.methods()
	} else {
		signer, err := credential(ctx, func(ctx context.Context, key gossh.PublicKey) (*gossh.Certificate, error) {
			return e.certify(ctx, hop, key)
		})
		if err != nil {
			return nil, nil, nil, err
		}
		methods = []gossh.AuthMethod{gossh.PublicKeys(signer)}
	}
	k := m.known(at)
	client, channels, requests, err := gossh.NewClientConn(nc, at.Address, &gossh.ClientConfig{
		Config:            targetAlgorithms(),
		User:              account,
		Auth:              methods,
		HostKeyAlgorithms: k.algorithms(),
		HostKeyCallback:   func(_ string, remote net.Addr, key gossh.PublicKey) error { return k.check(remote, key) },
		ClientVersion:     clientVersion,
	})
	if err != nil && lending != nil {
		err = lending.explain(account+"@"+at.Name, err)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("log in at %s as %s: %w", at.Name, account, err)
	}
	return client, channels, requests, nil
}

// known says which host keys the target may show.
func (m Machines) known(t access.Target) knownHost {
	if m.Now == nil {
		m.Now = time.Now
	}
	return knownHost{target: t, authorities: m.Broker.Authorities().Hosts, now: m.Now}
}

func rejectAll(channels <-chan gossh.NewChannel) {
	for nc := range channels {
		nc.Reject(gossh.Prohibited, "")
	}
}

// execute runs a command on a session channel, gives it the input and waits for
// its end, or for that of the connection.
func execute(ch gossh.Channel, reqs <-chan *gossh.Request, command string, input []byte, most int64) ([]byte, error) {
	ended := make(chan error, 1)
	go func() {
		err := errors.New("the command was broken off")
		for req := range reqs {
			if status, e := parseExitStatus(req.Payload); req.Type == "exit-status" && e == nil {
				if err = nil; status.Status != 0 {
					err = fmt.Errorf("the command ended with status %d", status.Status)
				}
			}
			req.Reply(false, nil)
		}
		ended <- err
	}()
	if err := demand(ch, "exec", gossh.Marshal(execRequest{command})); err != nil {
		return nil, err
	}
	said := make(chan []byte, 1)
	go func() { said <- readUpTo(ch.Stderr(), maxMachineErrors) }()
	sent := make(chan error, 1)
	go func() {
		_, err := ch.Write(input)
		sent <- errors.Join(err, ch.CloseWrite())
	}()
	output := readUpTo(ch, most)
	if int64(len(output)) == most {
		ch.Close() // whoever says too much is not heard out
	}
	problem, wrote, err := <-said, <-sent, <-ended
	if err != nil { // a command that ended well has read what it needed
		return output, fmt.Errorf("%w: %s", errors.Join(err, wrote), clean(string(problem)))
	}
	return output, nil
}

// readUpTo reads until the end or the limit.
func readUpTo(r io.Reader, limit int64) []byte {
	var b bytes.Buffer
	_, _ = io.Copy(&b, io.LimitReader(r, limit))
	return b.Bytes()
}
