// Package sshproxy is the SSH bastion: the half that users connect to with a
// stock client, the half that logs in at the target, and what relays between
// them.
//
// There are two ways in. Through ProxyJump, the first hop proves a person and
// leads nowhere but to names of targets; the connection inside it is answered
// here, as the target, with a host certificate of our host CA. Where only HTTPS
// gets out, a login there takes the place of the first hop; see Enter. Or
// directly, with the target in the login string: account+target@gateway. Either
// way the wait for an approval is held inside user authentication, where stock
// clients neither time out nor hide what they are told.
//
// Who somebody is comes from a proven key alone: it stands in the Permissions
// that the callback which succeeded has returned, and is read from nowhere
// else. A key that was only offered, an earlier attempt, a login string and the
// other hop's name say nothing about identity. Each channel type, channel
// request and global request, of either side, goes through Authorize of package
// bastion; what is not named there is refused and audited.
//
// gliderlabs/ssh carries the listener, the connections and the shutdown; of its
// handlers for authentication, sessions and forwarding none is used. The
// package trusts x/crypto/ssh for the protocol, the broker for every decision,
// and nothing that comes over the wire: all of it is bounded, parsed by one
// function a payload, and cleaned before a person reads it.
//
// It decides nothing and stores nothing. What tunnels, agents and displays carry
// is counted, and not kept.
package sshproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// A Config says how to serve. Broker, Bastion and HostKey are needed.
type Config struct {
	Broker  *broker.Broker
	Bastion *bastion.Bastion
	// HostKey is the key of this gateway, Ed25519. Certificates of the host CA
	// for the names of targets are made for it too.
	HostKey gossh.Signer
	// Name is the name by which clients reach this gateway. The host CA
	// vouches for it, so that clients who trust the CA are asked nothing.
	// Optional.
	Name string
	// RequestURL gives the address of a request's page, to be shown to the
	// requester. Optional.
	RequestURL func(id string) string
	Limits     Limits
	// Resolve gives the addresses of a host's name. Default: the system's
	// resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Own gives the addresses of the gateway, to which a forward must be named.
	// Default: those of this machine's interfaces.
	Own func() []netip.Addr
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Log is for operators. Default: slog.Default.
	Log *slog.Logger
}

// Limits bound what one peer may do. The zero value of each is its default.
type Limits struct {
	Login     time.Duration // from the connection to a proof: 30 seconds
	Answer    time.Duration // to the question for a reason: 2 minutes
	Hold      time.Duration // for an approval: 10 minutes
	Reminder  time.Duration // between two lines while waiting: 30 seconds
	Start     time.Duration // from a session channel to its command: 30 seconds
	Unused    time.Duration // of a connection without a channel: 15 minutes
	Dial      time.Duration // to a target and through its handshake: 15 seconds
	Grace     time.Duration // for a peer to close a channel that is over: 2 seconds
	Drain     time.Duration // for everything, when the server stops: 10 seconds
	AuthTries int           // failures in one connection: 4

	HalfOpen          int           // connections without a proof: 1000
	HalfOpenPerSource int           // of them from one source: 50
	FailedLogin       time.Duration // penalty of a source for a connection whose proofs all failed: 5 seconds
	NoLogin           time.Duration // for one that tried none: 1 second
	SlowLogin         time.Duration // for one that used up Login: 10 seconds
	PenaltyFrom       time.Duration // penalties are enforced from so much on: 15 seconds
	PenaltyMost       time.Duration // and are never more: 10 minutes
	Held              int           // connections waiting for an approval: 1000
	HeldPerPerson     int           // of them of one person: 100

	Channels  int           // of shells and commands, open at once in one connection: 10
	Tunnels   int           // and of tunnels, agents and displays, at most 4 MiB of memory each: 64
	Listeners int           // at the target, of one connection: 32
	Resolve   time.Duration // for the name in a forward: 3 seconds

	Refusals int // refused channels and requests in one connection before it ends: 50
	Requests int // channel and global requests a second, in one connection: 100
	Rekeys   int // key exchanges a second, in one connection: 10
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.Login, 30*time.Second)
	orDefault(&l.Answer, 2*time.Minute)
	orDefault(&l.Hold, 10*time.Minute)
	orDefault(&l.Reminder, 30*time.Second)
	orDefault(&l.Start, 30*time.Second)
	orDefault(&l.Unused, 15*time.Minute)
	orDefault(&l.Dial, 15*time.Second)
	orDefault(&l.Grace, 2*time.Second)
	orDefault(&l.Drain, 10*time.Second)
	orDefault(&l.AuthTries, 4)
	orDefault(&l.HalfOpen, 1000)
	orDefault(&l.HalfOpenPerSource, 50)
	orDefault(&l.FailedLogin, 5*time.Second)
	orDefault(&l.NoLogin, time.Second)
	orDefault(&l.SlowLogin, 10*time.Second)
	orDefault(&l.PenaltyFrom, 15*time.Second)
	orDefault(&l.PenaltyMost, 10*time.Minute)
	orDefault(&l.Held, 1000)
	orDefault(&l.HeldPerPerson, 100)
	orDefault(&l.Channels, 10)
	orDefault(&l.Tunnels, 64)
	orDefault(&l.Listeners, 32)
	orDefault(&l.Resolve, 3*time.Second)
	orDefault(&l.Refusals, 50)
	orDefault(&l.Requests, 100)
	orDefault(&l.Rekeys, 10)
	return l
}

func orDefault[T ~int | ~int64](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// A Server is the SSH bastion. It is safe for concurrent use.
type Server struct {
	cfg    Config
	broker *broker.Broker
	limits Limits
	now    func() time.Time
	log    *slog.Logger
	gate   *gate
	hosts  *hosts

	mu      sync.Mutex
	running *run // see Enter
}

// New checks the Config. It starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Broker == nil || cfg.Bastion == nil || cfg.HostKey == nil {
		return nil, errors.New("configure ssh: a broker, a bastion and a host key are needed")
	}
	if t := cfg.HostKey.PublicKey().Type(); t != gossh.KeyAlgoED25519 {
		return nil, fmt.Errorf("configure ssh: the host key is %s, not %s", t, gossh.KeyAlgoED25519)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if cfg.Own == nil {
		cfg.Own = ownAddresses
	}
	if cfg.RequestURL == nil {
		cfg.RequestURL = func(string) string { return "" }
	}
	limits := cfg.Limits.withDefaults()
	return &Server{
		cfg: cfg, broker: cfg.Broker, limits: limits, now: cfg.Now, log: cfg.Log,
		gate: newGate(limits, cfg.Now), hosts: newHosts(cfg.Broker, cfg.HostKey, cfg.Now),
	}, nil
}

// The versions that we say. Both tell nothing about the build. The one for users
// begins with OpenSSH because stock clients send some extensions only to what
// does, and we know them: without eow@openssh.com, ssh host yes | head never
// ends.
const (
	serverVersion = "SSH-2.0-OpenSSH_drawbolt"
	clientVersion = "SSH-2.0-drawbolt"
)

// A run is one call of Serve: everything it has started.
type run struct {
	*Server
	ctx     context.Context
	working sync.WaitGroup // connections and all that works for them

	mu     sync.Mutex // guards closed, and Add of working against Wait
	closed bool
}

// linkKey finds the link of a connection in gliderlabs' context. It carries the
// connection's plumbing and no identity.
type linkKey struct{}

// Serve serves SSH on ln until ctx ends, then tells the users, ends all
// sessions, and returns when everything it has started is over. It closes ln.
// The error is nil when it was ctx that ended it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(bastion.ErrStopped)
	r := &run{Server: s, ctx: base}
	server := &ssh.Server{
		Version:              serverVersion[len("SSH-2.0-"):],
		ConnCallback:         r.connected,
		ServerConfigCallback: r.config,
		ChannelHandlers:      map[string]ssh.ChannelHandler{"default": r.channel},
		RequestHandlers:      map[string]ssh.RequestHandler{"default": r.request},
		SubsystemHandlers:    map[string]ssh.SubsystemHandler{},
	}
	s.use(r)
	defer s.use(nil)
	failed := make(chan error, 1)
	go func() { failed <- accept(server, ln) }()
	var err error
	select {
	case <-ctx.Done():
		ln.Close()
		if accepted := <-failed; !errors.Is(accepted, net.ErrClosed) {
			err = accepted
		}
	case err = <-failed:
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	cancel(bastion.ErrStopped) // sessions say why, then close; held logins end
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), s.limits.Drain)
	defer stop()
	server.Shutdown(drain)
	server.Close()
	r.working.Wait()
	if err != nil {
		return fmt.Errorf("serve ssh: %w", err)
	}
	return nil
}

// accept hands each connection to the server until ln fails or is closed. It is
// here because the server's own loop would give all connections the same host
// key; see meteredKey.
func accept(server *ssh.Server, ln net.Listener) error {
	const longest = time.Second
	for wait := 5 * time.Millisecond; ; {
		nc, err := ln.Accept()
		if err == nil {
			wait = 5 * time.Millisecond
			go server.HandleConn(nc)
			continue
		}
		// Out of files, or the peer was too quick: that passes.
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) && !errors.Is(err, syscall.ECONNABORTED) {
			return err
		}
		time.Sleep(wait)
		wait = min(2*wait, longest)
	}
}

// begin counts one more piece of work, unless the run is closing.
func (r *run) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.working.Add(1)
	return true
}

// connected admits a connection, or refuses it by returning nil. It runs in the
// connection's own goroutine.
func (r *run) connected(gctx ssh.Context, nc net.Conn) (out net.Conn) {
	defer r.recovered("accept a connection", func() { out = nil })
	leave, ok := r.gate.enter(address(nc.RemoteAddr()))
	if !ok {
		return nil
	}
	if !r.begin() {
		leave()
		return nil
	}
	c := newConn(r.ctx, nc, r.limits.Login)
	l := newLink(r, c, leave, nothing)
	l.version = c.peekVersion(peekWait)
	gctx.SetValue(linkKey{}, l)
	return c
}

// peekWait is how long a client may take to say its version unasked.
const peekWait = 200 * time.Millisecond

// config makes the configuration of one connection. gliderlabs turns NoClientAuth
// on when it has no authentication handler of its own, whatever callbacks are
// set here: so what is called then refuses.
func (r *run) config(gctx ssh.Context) *gossh.ServerConfig {
	l, ok := gctx.Value(linkKey{}).(*link)
	if !ok {
		return refuseAll()
	}
	a := &attempt{link: l}
	config := a.config(&gossh.ServerConfig{Config: algorithms(l.version)})
	config.AddHostKey(l.metered(r.cfg.HostKey))
	if r.cfg.Name != "" {
		if certified, err := r.hosts.signer(r.ctx, access.Target{Name: r.cfg.Name}); err == nil {
			config.AddHostKey(l.metered(certified))
		} else {
			r.log.ErrorContext(r.ctx, "the gateway has no host certificate", "name", r.cfg.Name, "error", err)
		}
	}
	return config
}

// refuseAll is the configuration of a connection that we know nothing of.
func refuseAll() *gossh.ServerConfig {
	return &gossh.ServerConfig{
		NoClientAuthCallback: refuseNone,
		PublicKeyCallback: func(gossh.ConnMetadata, gossh.PublicKey) (*gossh.Permissions, error) {
			return nil, errRefused
		},
	}
}

// channel takes every channel that a user opens.
func (r *run) channel(_ *ssh.Server, sc *gossh.ServerConn, nc gossh.NewChannel, gctx ssh.Context) {
	l, ok := gctx.Value(linkKey{}).(*link)
	if !ok {
		nc.Reject(gossh.Prohibited, "")
		return
	}
	l.channel(sc, nc)
}

// request takes every global request of a user.
func (r *run) request(gctx ssh.Context, _ *ssh.Server, req *gossh.Request) (bool, []byte) {
	l, ok := gctx.Value(linkKey{}).(*link)
	if !ok {
		return false, nil
	}
	sc, ok := gctx.Value(ssh.ContextKeyConn).(*gossh.ServerConn)
	if !ok {
		return false, nil
	}
	return l.request(sc, req)
}

// recovered ends a panic in the work for one connection: it is logged, then
// undo is called.
func (s *Server) recovered(doing string, undo func()) {
	if r := recover(); r != nil {
		s.report(doing, r)
		undo()
	}
}

func (s *Server) report(doing string, r any) {
	s.log.Error("panic in a connection", "doing", doing, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
}
