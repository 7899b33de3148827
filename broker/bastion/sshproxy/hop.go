package sshproxy

import (
	"context"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/bastion"
)

// dial connects to the session's target: straight, or through the targets that
// it is reached via. The connection over hops closes them when it is closed. An
// access.Error can be shown; any other is for the log.
func (g leg) dial(ctx context.Context, s *bastion.Session) (_ net.Conn, err error) {
	way := append(slices.Clone(s.Live.Hops), s.Live.Target)
	dialer := net.Dialer{Timeout: g.link.limits.Dial}
	nc, err := dialer.DialContext(ctx, "tcp", way[0].Address)
	if err != nil {
		return nil, err
	}
	for i, next := range way[1:] {
		if nc, err = g.pass(ctx, s, nc, i, next.Address); err != nil {
			return nil, err
		}
	}
	return nc, nil
}

// pass logs in at the hop of that index over nc, and has it connect to the
// address, which the hop resolves. nc belongs to it from here on.
func (g leg) pass(ctx context.Context, s *bastion.Session, nc net.Conn, index int, address string) (_ net.Conn, err error) {
	hop := s.Live.Hops[index]
	// Until the connection is through it is closed when the time is over, so
	// that no step of a hop's handshake can hold the session up.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			nc.Close()
		}
	}()
	signer, err := credential(ctx, func(ctx context.Context, key gossh.PublicKey) (*gossh.Certificate, error) {
		return s.HopCredential(ctx, index, key)
	})
	if err != nil {
		return nil, err
	}
	client, channels, requests, err := gossh.NewClientConn(nc, hop.Address, g.clientConfig(s, hop, hop.HopAccount, []gossh.AuthMethod{gossh.PublicKeys(signer)}))
	if err != nil {
		return nil, g.notLoggedIn(s, hop, err)
	}
	g.link.spawn("refuse a hop's channels", func() {
		for nc := range channels {
			g.link.refused(g.who, s, "hop's channel "+nc.ChannelType(), bastion.AuthorizeHop(""))
			nc.Reject(gossh.Prohibited, "")
		}
	})
	g.link.spawn("answer a hop's requests", func() { gossh.DiscardRequests(requests) })
	payload, err := forwardTo(address)
	if err != nil {
		return nil, err
	}
	ch, reqs, err := openChannel(ctx, client, "direct-tcpip", payload)
	if err != nil {
		return nil, g.unreachable("pass through "+hop.Name, s.Live.Target.Name, err)
	}
	g.link.spawn("discard a hop's channel requests", func() { gossh.DiscardRequests(reqs) })
	return &passed{Channel: ch, under: client}, nil
}

// forwardTo is the payload of a direct-tcpip channel to the address; RFC 4254,
// section 7.2. The originator is not told: it is nothing to the hop.
func forwardTo(address string) ([]byte, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	return gossh.Marshal(struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}{host, uint32(n), "127.0.0.1", 0}), nil
}

// A passed is the connection that a hop has made for us.
type passed struct {
	gossh.Channel
	under io.Closer // the connection to the hop
}

// Close closes the connection, and with it the one to the hop: nothing else is
// carried over that. The channel's own farewell is not waited for.
func (p *passed) Close() error { return p.under.Close() }

func (p *passed) LocalAddr() net.Addr              { return passedAddr{} }
func (p *passed) RemoteAddr() net.Addr             { return passedAddr{} }
func (p *passed) SetDeadline(time.Time) error      { return nil }
func (p *passed) SetReadDeadline(time.Time) error  { return nil }
func (p *passed) SetWriteDeadline(time.Time) error { return nil }

// A passedAddr stands for an end of a connection that a hop holds.
type passedAddr struct{}

func (passedAddr) Network() string { return "hop" }
func (passedAddr) String() string  { return "hop:0" }
