package sshproxy

import (
	"context"
	"net"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// Enter is the way in over another door, for networks that let nothing out but
// HTTPS. Whoever calls it has established who comes, by a login: that takes the
// place of the first hop, and what follows is the hop's inner connection, in
// which the same person must prove a key. All limits of the listener hold, with
// by.Source as the address.
//
// It says whether the caller may know the target. If so, carry is to be called
// once, with the connection; it returns at once and closes the connection when
// it is over, or when the limits say no.
func (s *Server) Enter(ctx context.Context, by access.Caller, target string) (carry func(net.Conn), err error) {
	r := s.current()
	if r == nil {
		return nil, bastion.ErrStopped
	}
	found, signer, err := s.lookUp(ctx, by, target)
	if err != nil {
		return nil, err
	}
	return func(nc net.Conn) {
		leave, ok := r.gate.enter(by.Source)
		if !ok {
			nc.Close()
			return
		}
		if !r.begin() {
			leave()
			nc.Close()
			return
		}
		c := newConn(r.ctx, nc, r.limits.Login)
		c.source = by.Source
		l := newLink(r, c, leave, nothing)
		l.hop = &hop{person: by, target: found}
		l.spawn("carry a connection that came over HTTPS", func() {
			defer c.Close()
			l.version = c.peekVersion(peekWait)
			l.serve(signer)
		})
	}, nil
}

// current is the run that takes connections; nil: none.
func (s *Server) current() *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// use makes r the run that takes connections.
func (s *Server) use(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = r
}
