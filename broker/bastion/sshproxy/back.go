package sshproxy

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// A back is our connection to a target, for one session.
type back struct {
	conn   *conn
	client gossh.Conn
	ch     gossh.Channel
	exit   <-chan exit // how the program ended; one value
	unlink func() bool

	sftp    bool      // files are carried by SFTP
	carried *admitted // files are carried by a command; nil: they are not
}

// Close closes the connection to the target.
func (b *back) Close() {
	b.unlink()
	b.conn.Close()
}

// A leg is what leads from a user's connection to a target.
type leg struct {
	link *link
	who  login
}

// login logs in at the session's target. Each channel that the target opens is
// given to opened, in the order in which they come. Until unlimited is called,
// the connection is closed when Limits.Dial is over. Its errors can be shown.
func (g leg) login(ctx context.Context, s *bastion.Session, opened func(gossh.NewChannel)) (_ *back, err error) {
	account, _ := s.Live.Target.Account(s.Live.Session.Account)
	var secret *lent // nil: with a certificate
	var auth []gossh.AuthMethod
	if account.Lent() {
		secret = &lent{kind: account.Credential, lend: func() (broker.Loan, error) { return s.Lend(ctx) }}
		auth = secret.methods()
	} else {
		signer, err := credential(ctx, s.Credential)
		if err != nil {
			return nil, err
		}
		auth = []gossh.AuthMethod{gossh.PublicKeys(signer)}
	}
	tcp, err := g.dial(ctx, s)
	if refused, ok := errors.AsType[*access.Error](err); ok {
		return nil, refused // on the way; said by us
	} else if err != nil {
		return nil, g.unreachable("dial", s.Live.Target.Name, err)
	}
	b := &back{conn: newConn(s.Context(), tcp, g.link.limits.Dial)}
	b.unlink = context.AfterFunc(s.Context(), func() { b.conn.Close() })
	client, channels, requests, err := gossh.NewClientConn(b.conn, s.Live.Target.Address, g.clientConfig(s, s.Live.Target, s.Live.Login, auth))
	if err != nil {
		b.Close()
		if secret != nil {
			err = secret.explain(account.Name+"@"+s.Live.Target.Name, err)
		}
		return nil, g.notLoggedIn(s, s.Live.Target, err)
	}
	b.client = client
	g.link.spawn("take a target's channels", func() {
		for nc := range channels {
			opened(nc)
		}
	})
	g.link.spawn("answer a target's requests", func() {
		for req := range requests {
			action := targetGlobals[req.Type]
			err := bastion.Authorize(*s.Live.Allowed(), action)
			if err != nil {
				g.link.refused(g.who, s, "target's global request "+req.Type, err)
			}
			req.Reply(err == nil && action == bastion.KeepAlive, nil)
		}
	})
	return b, nil
}

// connect logs in at the target and starts the program. It returns the
// terminal's size that the target was told. Its errors can be shown.
func (c *channel) connect(s *bastion.Session, st start) (_ *back, size windowChange, err error) {
	ctx, cancel := context.WithTimeout(s.Context(), c.link.limits.Dial)
	defer cancel()
	name := s.Live.Target.Name
	b, err := c.login(ctx, s, func(nc gossh.NewChannel) { c.targetOpens(s, nc) })
	if err != nil {
		return nil, size, err
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	ch, reqs, err := openChannel(ctx, b.client, "session", nil)
	if err != nil {
		return nil, size, c.unreachable("open a session", name, unsaid(s, err))
	}
	b.ch = ch
	exits := make(chan exit, 1)
	b.exit = exits
	c.link.spawn("follow a target's session", func() {
		e := exit{}
		defer func() { exits <- e }()
		e = c.exits(s, reqs)
	})
	if err := c.admit(ctx, s, b, st); err != nil {
		return nil, size, err
	}
	if b.carried != nil && b.carried.command != "" {
		st.command = b.carried.command
	}
	if size, err = c.prime(s, ch, st); err != nil {
		return nil, size, c.unreachable("start the program", name, unsaid(s, err))
	}
	b.conn.unlimited()
	return b, size, nil
}

// openChannel opens a channel at a target or a hop, and gives up with ctx: when the
// target ends the connection at the wrong moment, x/crypto (v0.58.0) waits for
// the answer for ever, and so would the session. Its goroutine then stays. A channel
// that is opened too late is closed.
func openChannel(ctx context.Context, client gossh.Conn, kind string, payload []byte) (gossh.Channel, <-chan *gossh.Request, error) {
	type opened struct {
		ch   gossh.Channel
		reqs <-chan *gossh.Request
		err  error
	}
	answer := make(chan opened)
	go func() {
		ch, reqs, err := client.OpenChannel(kind, payload)
		select {
		case answer <- opened{ch, reqs, err}:
		case <-ctx.Done():
			if err == nil {
				ch.Close()
				gossh.DiscardRequests(reqs)
			}
		}
	}()
	select {
	case o := <-answer:
		return o.ch, o.reqs, o.err
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// prime asks the target for what the user asked for, in the same order, and
// starts the program.
func (c *channel) prime(s *bastion.Session, ch gossh.Channel, st start) (size windowChange, err error) {
	for _, e := range c.env {
		if _, err := ch.SendRequest("env", false, gossh.Marshal(e)); err != nil {
			return size, err
		}
	}
	c.mu.Lock()
	size = c.size
	c.mu.Unlock()
	if err := c.offer(s, ch); err != nil {
		return size, err
	}
	if c.term != nil {
		p := *c.term
		p.Columns, p.Rows, p.Width, p.Height = size.Columns, size.Rows, size.Width, size.Height
		if err := demand(ch, "pty-req", gossh.Marshal(p)); err != nil {
			return size, err
		}
	}
	switch st.action {
	case bastion.Shell:
		err = demand(ch, "shell", nil)
	case bastion.Exec, bastion.Transfer:
		err = demand(ch, "exec", gossh.Marshal(execRequest{st.command}))
	case bastion.SFTP:
		err = demand(ch, "subsystem", gossh.Marshal(subsystem{st.subsystem}))
	default:
		err = fmt.Errorf("no way to start %q", st.action)
	}
	return size, err
}

func demand(ch gossh.Channel, name string, payload []byte) error {
	ok, err := ch.SendRequest(name, true, payload)
	if err == nil && !ok {
		err = fmt.Errorf("the target refused %s", name)
	}
	return err
}

// unreachable hides from the user what could tell the network's shape.
func (g leg) unreachable(doing, name string, err error) error {
	g.link.log.Warn("a target cannot be used", "target", name, "doing", doing, "error", err)
	text := name + " cannot be reached"
	if doing != "dial" {
		text = name + " did not let the session in"
	}
	return &access.Error{Kind: access.ErrUnavailable, Code: "DB-5422", Text: text}
}

// notLoggedIn says why the login at a target, or at a hop on the way to it,
// failed, and puts on record when its host key was the reason.
func (g leg) notLoggedIn(s *bastion.Session, at access.Target, err error) error {
	if refused, ok := errors.AsType[*access.Error](err); ok {
		return refused // the host key; said by us
	}
	if n, ok := errors.AsType[*gossh.AlgorithmNegotiationError](err); ok && n.What == "host key" {
		err := refuseHost(at, "has no kind of host key that is pinned or certified for it")
		g.link.refused(g.who, s, "host key", err)
		return err
	}
	return g.unreachable("log in", at.Name, err)
}

// credential makes a key and has it certified for this session.
func credential(ctx context.Context, certify func(context.Context, gossh.PublicKey) (*gossh.Certificate, error)) (gossh.Signer, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := gossh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	key, err := gossh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	cert, err := certify(ctx, key)
	if err != nil {
		return nil, err
	}
	return gossh.NewCertSigner(cert, signer)
}

// clientConfig is how we log in: only after the target's host key was found to be
// the one that we know.
func (g leg) clientConfig(s *bastion.Session, at access.Target, account string, auth []gossh.AuthMethod) *gossh.ClientConfig {
	k := knownHost{target: at, authorities: g.link.broker.Authorities().Hosts, now: g.link.now}
	return &gossh.ClientConfig{
		Config:            targetAlgorithms(),
		User:              account,
		Auth:              auth,
		HostKeyAlgorithms: k.algorithms(),
		HostKeyCallback: func(_ string, remote net.Addr, key gossh.PublicKey) error {
			err := k.check(remote, key)
			if err != nil {
				g.link.refused(g.who, s, "host key "+gossh.FingerprintSHA256(key), err)
			}
			return err
		},
		ClientVersion: clientVersion,
	}
}

// knownHost says which host keys a target may show: those pinned at its
// enrolment, or, when there are none, one certified by our host CA for the
// target's name.
type knownHost struct {
	target      access.Target
	authorities []gossh.PublicKey
	now         func() time.Time
}

// algorithms narrows the handshake to keys that could pass, so that a target
// with several host keys shows the one that we know.
func (k knownHost) algorithms() []string {
	if len(k.target.HostKeys) == 0 {
		return hostCertAlgorithms
	}
	var list []string
	for _, pinned := range k.target.HostKeys {
		if key, _, _, _, err := gossh.ParseAuthorizedKey([]byte(pinned)); err == nil {
			for _, a := range hostKeyAlgorithms[key.Type()] {
				if !slices.Contains(list, a) {
					list = append(list, a)
				}
			}
		}
	}
	if len(list) == 0 {
		return []string{gossh.KeyAlgoED25519} // and check refuses
	}
	return list
}

func (k knownHost) check(remote net.Addr, key gossh.PublicKey) error {
	if len(k.target.HostKeys) > 0 {
		for _, pinned := range k.target.HostKeys {
			known, _, _, _, err := gossh.ParseAuthorizedKey([]byte(pinned))
			if err == nil && bytes.Equal(known.Marshal(), key.Marshal()) {
				return nil
			}
		}
		return refuseHost(k.target, "does not show the host key that is pinned for it")
	}
	cert, ok := key.(*gossh.Certificate)
	if !ok || len(cert.ValidPrincipals) == 0 {
		return refuseHost(k.target, "shows no host key that is pinned or certified for it")
	}
	checker := gossh.CertChecker{
		Clock: k.now,
		IsHostAuthority: func(authority gossh.PublicKey, _ string) bool {
			return slices.ContainsFunc(k.authorities, func(a gossh.PublicKey) bool { return bytes.Equal(authority.Marshal(), a.Marshal()) })
		},
	}
	if err := checker.CheckHostKey(net.JoinHostPort(k.target.Name, "22"), remote, cert); err != nil {
		return refuseHost(k.target, "shows a host certificate that does not hold")
	}
	return nil
}

func refuseHost(t access.Target, why string) error {
	return &access.Error{Kind: access.ErrDenied, Code: "DB-2431", Rule: "target.host-key", Text: t.Name + " " + why + "; nothing was sent to it"}
}
