package sshproxy

import (
	"context"
	"strings"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// jump answers a channel that asks for host:port, as ssh -J opens it. Nothing
// is dialled: the host must be the name of a target that the person may know,
// and the connection inside the channel ends here. The port says nothing.
func (l *link) jump(sc *gossh.ServerConn, who login, nc gossh.NewChannel) {
	var target access.Target
	var signer gossh.Signer
	d, err := parseDirectTCPIP(nc.ExtraData())
	if err != nil {
		err = access.Invalid("%v", err)
	} else {
		target, signer, err = l.lookUp(l.conn.ctx, who.by, d.Host)
	}
	if err != nil {
		l.refused(who, nil, "channel direct-tcpip", err)
		nc.Reject(gossh.ConnectionFailed, l.explain(l.conn.ctx, err))
		return
	}
	if !l.begin() {
		nc.Reject(gossh.ConnectionFailed, bastion.ErrStopped.Text)
		return
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		l.working.Done()
		return
	}
	gone := make(chan struct{})
	c := newConn(l.conn.ctx, channelConn{ch, sc}, l.limits.Login)
	inner := newLink(l.run, c, nothing, func() {
		// The inner connection reads until the outer peer closes the channel too.
		l.spawn("close a hop", func() { l.closeWithin(l.limits.Grace, ch, gone) })
	})
	inner.hop = &hop{person: who.by, target: target}
	// The client of the inner connection is the one of the outer.
	inner.version = l.version
	l.spawn("answer requests of a hop", func() {
		defer close(gone)
		for req := range reqs {
			// A hop's channel has no requests that mean anything.
			l.refused(who, nil, "channel request "+req.Type, bastion.AuthorizeHop(""))
			req.Reply(false, nil)
		}
	})
	defer c.Close()

	inner.serve(signer)
}

// serve answers the nested connection until it ends.
func (l *link) serve(hostKey gossh.Signer) {
	a := &attempt{link: l}
	config := a.config(&gossh.ServerConfig{Config: algorithms(l.version)})
	config.AddHostKey(l.metered(hostKey))
	config.AddHostKey(l.metered(l.cfg.HostKey)) // for clients that do not know our host CA
	sc, channels, requests, err := gossh.NewServerConn(l.conn, config)
	if err != nil {
		return
	}
	l.spawn("answer global requests", func() {
		for req := range requests {
			req.Reply(l.request(sc, req))
		}
	})
	for nc := range channels {
		l.spawn("carry a channel", func() { l.channel(sc, nc) })
	}
}

// lookUp finds the target that a hop asks for, and the key that answers as it.
func (s *Server) lookUp(ctx context.Context, by access.Caller, host string) (access.Target, gossh.Signer, error) {
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if err := access.CheckTargetName(name); err != nil {
		return access.Target{}, nil, err
	}
	view, err := bastion.Apart(func() (broker.TargetView, error) { return s.broker.FindTarget(ctx, by, name) })
	if err != nil {
		return access.Target{}, nil, err
	}
	signer, err := s.hosts.signer(ctx, view.Target)
	return view.Target, signer, err
}

// closeWithin closes a channel and gives the peer some time to do the same. A
// peer that does not loses the connection: its end is what frees what still
// reads or writes there.
func (l *link) closeWithin(grace time.Duration, ch gossh.Channel, gone <-chan struct{}) {
	stuck := make(chan struct{})
	late := time.AfterFunc(grace, func() {
		l.conn.shut(bastion.ErrGone)
		close(stuck)
	})
	defer late.Stop()
	ch.Close() // waits for a peer that does not read, and so maybe for the timer
	select {
	case <-gone:
	case <-stuck:
	}
}

// spawn runs f in a goroutine that Serve waits for. A panic in it ends this
// connection and no other. It is called only from goroutines that are counted
// themselves.
func (l *link) spawn(doing string, f func()) {
	l.working.Go(func() {
		defer l.recovered(doing, func() { l.conn.shut(bastion.ErrFault) })
		f()
	})
}

// hosts keeps the host certificates with which we answer as the targets. Each
// is made anew at half of its life.
type hosts struct {
	broker *broker.Broker
	key    gossh.Signer
	now    func() time.Time

	mu    sync.Mutex
	certs map[string]hostCert // by the target's id
}

type hostCert struct {
	name   string
	signer gossh.Signer
	renew  time.Time
}

const maxHosts = 4096 // certificates that are kept

func newHosts(b *broker.Broker, key gossh.Signer, now func() time.Time) *hosts {
	return &hosts{broker: b, key: key, now: now, certs: map[string]hostCert{}}
}

func (h *hosts) signer(ctx context.Context, target access.Target) (gossh.Signer, error) {
	now := h.now()
	h.mu.Lock()
	c, ok := h.certs[target.ID]
	h.mu.Unlock()
	if ok && c.name == target.Name && now.Before(c.renew) {
		return c.signer, nil
	}
	cert, err := bastion.Apart(func() (*gossh.Certificate, error) {
		return h.broker.HostCertificate(ctx, target, h.key.PublicKey())
	})
	if err != nil {
		return nil, err
	}
	signer, err := gossh.NewCertSigner(cert, h.key)
	if err != nil {
		return nil, err
	}
	left := time.Unix(int64(cert.ValidBefore), 0).Sub(now)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.certs) >= maxHosts {
		clear(h.certs)
	}
	h.certs[target.ID] = hostCert{name: target.Name, signer: signer, renew: now.Add(left / 2)}
	return signer, nil
}
