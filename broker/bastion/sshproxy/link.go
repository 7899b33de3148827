package sshproxy

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/time/rate"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// A link is one SSH connection of a user: the outer one, over TCP, or the one
// nested in it, in which we answer as a target. It counts what goes on in it.
type link struct {
	*run
	conn    *conn
	version string // of the client, as it said
	proved  func() // gives back the place among those without a proof
	hop     *hop   // nil on an outer connection

	mu       sync.Mutex
	person   bool // somebody was proven
	tried    bool // something was tried that is no proof
	channels int
	streams  int // of the channels, those that carry connections
	carrying *tunnels
	refusals int
	sessions int  // opened so far
	lastOne  bool // the client said that it opens no more sessions

	requests *rate.Limiter
	rekeys   *rate.Limiter
}

// A hop is what the outer connection has established for the nested one.
type hop struct {
	person access.Caller
	target access.Target
}

// newLink makes a link of a connection that run has counted. proved is called
// when somebody is proven and when the connection is closed; closed is called
// once, when it is closed.
func newLink(r *run, c *conn, proved, closed func()) *link {
	l := &link{run: r, conn: c, proved: proved, requests: tenSeconds(r.limits.Requests), rekeys: tenSeconds(r.limits.Rekeys)}
	c.onClose = func() {
		l.closed()
		closed()
		r.working.Done()
	}
	// When the server stops, a connection closes as soon as nothing goes on in
	// it.
	context.AfterFunc(c.ctx, func() { l.settle() })
	return l
}

// tenSeconds limits to so many a second, ten seconds' worth of which may come at
// once.
func tenSeconds(perSecond int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), 10*perSecond)
}

func nothing() {}

func (l *link) source() netip.Addr { return l.conn.source }

// closed accounts for the end of the connection.
func (l *link) closed() {
	l.proved()
	l.gate.failed(l.source(), l.failure())
}

// failure says how a connection ended in which nobody was proven. One that said
// nothing at all is a health check, unless it sat out its time.
func (l *link) failure() failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.person:
		return noFailure
	case errors.Is(context.Cause(l.conn.ctx), errLoginTime):
		return slowLogin
	case l.tried:
		return failedLogin
	case l.conn.in.Load() > 0:
		return noLogin
	default:
		return noFailure
	}
}

// noProof notes that something was tried and was no proof.
func (l *link) noProof() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried = true
}

// proven notes that a key of a person was proven. The connection has until
// limit to finish its login.
func (l *link) proven(limit time.Duration) {
	l.mu.Lock()
	l.person = true
	l.mu.Unlock()
	l.gate.proven(l.source())
	l.proved()
	l.conn.limit(limit)
}

// loggedIn starts the time in which a first channel must be opened.
func (l *link) loggedIn() { l.conn.limit(l.limits.Unused) }

// settle closes a connection in which nothing goes on while the server stops.
func (l *link) settle() {
	l.mu.Lock()
	busy := l.channels > 0
	l.mu.Unlock()
	if !busy {
		l.conn.shut(bastion.ErrStopped)
	}
}

// enter counts a channel in; it is an error when there are too many. Those that
// carry connections have a limit of their own.
func (l *link) enter(action bastion.Action) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if action == bastion.Forward && l.streams >= l.limits.Tunnels || action != bastion.Forward && l.channels-l.streams >= l.limits.Channels {
		return &access.Error{Kind: access.ErrDenied, Code: "DB-2411", Text: "too many channels in one connection", Rule: "session.channels"}
	}
	if !l.begin() {
		return bastion.ErrStopped
	}
	l.channels++
	if action == bastion.Forward {
		l.streams++
	}
	l.conn.unlimited()
	return nil
}

func (l *link) leave(action bastion.Action) {
	l.mu.Lock()
	l.channels--
	if action == bastion.Forward {
		l.streams--
	}
	if l.channels == 0 {
		l.conn.limit(l.limits.Unused)
	}
	l.mu.Unlock()
	if l.conn.ctx.Err() != nil {
		l.settle()
	}
	l.working.Done()
}

// channel takes a channel that the user opens: the one door for all of them.
func (l *link) channel(sc *gossh.ServerConn, nc gossh.NewChannel) {
	defer l.recovered("carry a channel", func() { l.conn.shut(bastion.ErrFault) })
	who, err := loginOf(sc)
	if err != nil {
		l.conn.shut(bastion.ErrFault)
		return
	}
	action, err := who.authorizeChannel(nc.ChannelType())
	if err == nil && action == bastion.OpenSession && !l.nextSession() {
		err = &access.Error{Kind: access.ErrDenied, Code: "DB-2412", Text: "the client said that it would open no more sessions", Rule: "session.last-one"}
	}
	if err == nil {
		err = l.enter(action)
	}
	if err != nil {
		l.refused(who, nil, "channel "+nc.ChannelType(), err)
		nc.Reject(gossh.Prohibited, l.explain(l.conn.ctx, err))
		return
	}
	defer l.leave(action)
	switch action {
	case bastion.Jump:
		l.jump(sc, who, nc)
	case bastion.OpenSession:
		l.session(sc, who, nc)
	case bastion.Forward:
		l.local(sc, who, nc)
	default: // authorized, but nothing here can carry it
		nc.Reject(gossh.UnknownChannelType, "")
	}
}

// request takes a global request of the user: the one door for all of them. It
// returns the answer.
func (l *link) request(sc *gossh.ServerConn, req *gossh.Request) (ok bool, reply []byte) {
	defer l.recovered("answer a global request", func() { l.conn.shut(bastion.ErrFault) })
	who, err := loginOf(sc)
	if err != nil || !l.paced() {
		l.conn.shut(bastion.ErrFault)
		return false, nil
	}
	action := globalRequests[req.Type]
	if err := who.authorize(action); err != nil {
		l.refused(who, nil, "global request "+req.Type, err)
		return false, nil
	}
	switch action {
	case bastion.LastOne:
		l.mu.Lock()
		l.lastOne = true
		l.mu.Unlock()
	case bastion.Forward:
		return l.remote(sc, who, req)
	}
	return true, nil
}

// paced reports whether the client keeps within its number of requests.
func (l *link) paced() bool { return l.requests.AllowN(l.now(), 1) }

// nextSession counts a session, and reports whether there may be one. Which of
// a channel and a global request came first cannot be told, as they are handed
// over apart: so the first session is never too late.
func (l *link) nextSession() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions++
	return !l.lastOne || l.sessions == 1
}

// countRefusal counts one, and ends the connection with the one too many.
func (l *link) countRefusal() bool {
	l.mu.Lock()
	l.refusals++
	n := l.refusals
	l.mu.Unlock()
	if n > l.limits.Refusals {
		l.conn.shut(errTooManyRefusals)
	}
	return n <= l.limits.Refusals
}

// refused has a refusal audited, and ends the connection of a client that does
// not stop asking: an audit log is not to be flooded.
func (l *link) refused(who login, s *bastion.Session, what string, why error) {
	if !l.countRefusal() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.conn.ctx), auditWait)
	defer cancel()
	live := liveOf(s)
	if err := l.broker.Refused(ctx, who.by, live, clean(what), clean(why.Error())); err != nil {
		// What cannot be audited does not go on.
		l.log.ErrorContext(ctx, "audit a refusal", "what", clean(what), "error", err)
		l.conn.shut(bastion.ErrFault)
	}
}

const auditWait = 10 * time.Second

var errTooManyRefusals = &access.Error{Kind: access.ErrDenied, Code: "DB-2413", Text: "too many refused requests in one connection", Rule: "session.refusals"}
