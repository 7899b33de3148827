package sshproxy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// tunnels are all that one connection of a user carries to and from places behind
// the target: one session at the broker, of the kind "forward", with one
// connection to the target. It begins with the first tunnel and ends with the
// user's connection, with its grant, when it has been idle, or when the target
// goes; the next tunnel begins another.
type tunnels struct {
	leg
	user  gossh.Conn
	ready chan struct{} // closed when what follows is set
	err   error
	*passages
	target *back

	asking    sync.Mutex // held while the target is asked to listen, or not to; guards listeners
	listeners []listener
}

// A listener is where the target listens for the user.
type listener struct {
	host   string         // as the user named it
	tunnel bastion.Tunnel // as the target was asked, and as it is authorized
	port   uint16         // where it listens
}

var (
	errUnasked = &access.Error{Kind: access.ErrDenied, Code: "DB-2432", Text: "nobody asked the target for this channel", Rule: "session.unasked"}
	errSilent  = &access.Error{Kind: access.ErrUnavailable, Code: "DB-5423", Text: "the target does not answer"}
	errNoPeer  = &access.Error{Kind: access.ErrUnavailable, Code: "DB-5425", Text: "the target could not connect there"}
	errBusy    = &access.Error{Kind: access.ErrUnavailable, Code: "DB-5426", Text: "the target does not listen there"}
)

// tunnels gives the tunnels of the connection, beginning them if need be.
func (l *link) tunnels(user gossh.Conn, who login) (*tunnels, error) {
	l.mu.Lock()
	t := l.carrying
	if t == nil {
		if !l.begin() {
			l.mu.Unlock()
			return nil, bastion.ErrStopped
		}
		t = &tunnels{leg: leg{l, who}, user: user, ready: make(chan struct{})}
		l.carrying = t
		go t.run()
	}
	l.mu.Unlock()
	select {
	case <-t.ready:
		if t.err == nil && t.session.Held() {
			return nil, bastion.ErrHeld // to open one is to do something
		}
		return t, t.err
	case <-l.conn.ctx.Done():
		return nil, context.Cause(l.conn.ctx)
	}
}

// run is the session of the tunnels.
func (t *tunnels) run() {
	l := t.link
	defer l.working.Done()
	defer l.recovered("carry tunnels", func() { l.conn.shut(bastion.ErrFault) })
	begun := sync.OnceFunc(func() { close(t.ready) })
	defer begun()
	defer t.forget()
	t.err = bastion.ErrFault // until it is known better
	o := bastion.Order{
		By: t.who.by, GrantID: t.who.grantID,
		Opening: broker.Opening{Kind: "forward", Client: clean(l.version)},
	}
	ending, err := l.cfg.Bastion.Run(l.conn.ctx, o, func(s *bastion.Session) (*int, error) { return nil, t.carry(s, begun) })
	if err != nil {
		t.err = err
		l.log.WarnContext(l.conn.ctx, "no tunnels", "user", t.who.by.User.Name, "target", t.who.to.target, "error", err)
		return
	}
	l.log.InfoContext(l.conn.ctx, "tunnels ended", "user", t.who.by.User.Name, "target", t.who.to.target, "reason", string(ending.Reason))
}

// forget makes the next tunnel begin another session.
func (t *tunnels) forget() {
	t.link.mu.Lock()
	defer t.link.mu.Unlock()
	if t.link.carrying == t {
		t.link.carrying = nil
	}
}

// carry logs in at the target and is there until something ends the session.
func (t *tunnels) carry(s *bastion.Session, begun func()) error {
	done := make(chan struct{})
	defer close(done)
	s.Go(&t.link.working, func() { s.Notices(done, func(string) {}) }) // nobody reads there
	err := bastion.Authorize(*s.Live.Allowed(), bastion.Forward)
	if err == nil {
		err = s.Await()
	}
	if err == nil {
		err = t.connect(s)
	}
	if err == nil {
		defer t.finish()
		defer t.target.Close()
		err = s.Started(s.Context())
	}
	if err != nil {
		if cause := context.Cause(s.Context()); cause != nil {
			err = cause
		}
		s.End(err)
		t.err = err
		return err
	}
	t.err = nil
	begun()
	select {
	case <-s.Context().Done():
	case <-t.target.conn.ctx.Done():
		s.End(&access.Error{Kind: access.ErrUnavailable, Code: "DB-5421", Text: s.Live.Target.Name + " closed the connection"})
	}
	t.forget()
	return context.Cause(s.Context())
}

func (t *tunnels) connect(s *bastion.Session) (err error) {
	ctx, cancel := context.WithTimeout(s.Context(), t.link.limits.Dial)
	defer cancel()
	t.passages = newPassages(t.leg, s, t.user)
	if t.target, err = t.login(ctx, s, t.targetOpens); err == nil {
		t.target.conn.unlimited()
	}
	return err
}

// local answers a channel to somewhere behind the target.
func (l *link) local(user gossh.Conn, who login, nc gossh.NewChannel) {
	if !l.paced() {
		l.conn.shut(errTooMany)
		return
	}
	err := l.reach(user, who, nc)
	if err == nil {
		return
	}
	reason := gossh.ConnectionFailed
	if errors.Is(err, bastion.ErrForward) {
		reason = gossh.Prohibited
	}
	nc.Reject(reason, l.explain(l.conn.ctx, err))
}

// reach finds the peer of a channel and connects the channel to it. When it is an
// error, nc has not been answered.
func (l *link) reach(user gossh.Conn, who login, nc gossh.NewChannel) error {
	ways, err := l.ways(who, nc)
	if err != nil {
		return err
	}
	t, err := l.tunnels(user, who)
	if errors.Is(err, bastion.ErrHeld) {
		l.refused(who, nil, ways[0].what, err)
		return err
	}
	if err != nil {
		l.countRefusal() // the broker has it on record
		return err
	}
	own := l.own()
	for _, w := range ways {
		err = t.join(nc, opening{
			far: t.target.client, kind: nc.ChannelType(), payload: w.payload, what: w.what,
			allowed: func(rules access.SessionRules) error { return bastion.AuthorizeForward(rules, w.tunnel, own) },
		})
		if errors.Is(err, bastion.ErrForward) {
			l.refused(who, t.session, w.what, err)
		}
		if _, refused := errors.AsType[*gossh.OpenChannelError](err); !refused {
			return err
		}
	}
	return errNoPeer
}

// A way is one address at which the peer of a channel may be.
type way struct {
	tunnel  bastion.Tunnel
	payload []byte // for the target
	what    string // for the record
}

// maxWays bounds how many addresses of a name are tried.
const maxWays = 4

// ways gives the addresses of a channel's peer that the rules allow, of which
// there is one at least.
func (l *link) ways(who login, nc gossh.NewChannel) ([]way, error) {
	if nc.ChannelType() == "direct-streamlocal@openssh.com" {
		d, err := parseDirectStreamLocal(nc.ExtraData())
		if err != nil {
			return nil, l.refuseForward(who, "malformed socket", err)
		}
		w := way{tunnel: bastion.Tunnel{Socket: d.Path}, payload: gossh.Marshal(d), what: "local to unix " + strconv.Quote(d.Path)}
		if err := bastion.AuthorizeForward(l.rulesNow(who), w.tunnel, nil); err != nil {
			return nil, l.refuseForward(who, w.what, err)
		}
		return []way{w}, nil
	}
	d, err := parseDirectTCPIP(nc.ExtraData())
	if err != nil || d.Port == 0 {
		return nil, l.refuseForward(who, "malformed address", errPayload)
	}
	began := time.Now()
	host := strings.TrimSuffix(d.Host, ".")
	rules, own, peer := l.rulesNow(who), l.own(), fmt.Sprintf("local to %q port %d", d.Host, d.Port)
	addresses, asked := l.addresses(rules, host, uint16(d.Port))
	var ways []way
	for _, a := range addresses {
		w := way{
			tunnel:  bastion.Tunnel{Host: host, Address: a, Port: uint16(d.Port)},
			payload: gossh.Marshal(directTCPIP{a.String(), d.Port, "127.0.0.1", 0}),
			what:    fmt.Sprintf("%s at %s from %q port %d", peer, a, d.Origin, d.OriginPort),
		}
		if bastion.AuthorizeForward(rules, w.tunnel, own) == nil && len(ways) < maxWays {
			ways = append(ways, w)
		}
	}
	if len(ways) > 0 {
		return ways, nil
	}
	if asked {
		// The same moment whatever the look-up said, and however fast.
		l.waitUntil(began.Add(l.limits.Resolve))
	}
	return nil, l.refuseForward(who, fmt.Sprintf("%s at %v", peer, addresses[:min(len(addresses), maxWays)]), bastion.ErrForward)
}

// refuseForward has the refusal of a tunnel audited; what the user is told is the
// same for each.
func (l *link) refuseForward(who login, what string, why error) error {
	l.refused(who, nil, "forward "+what, why)
	return bastion.ErrForward
}

// rulesNow are the rules for tunnels: those at the login until there is a session
// of tunnels, and then those of the session.
func (l *link) rulesNow(who login) access.SessionRules {
	l.mu.Lock()
	t := l.carrying
	l.mu.Unlock()
	if t != nil {
		select {
		case <-t.ready:
			if t.err == nil {
				return *t.session.Live.Allowed()
			}
		default:
		}
	}
	return who.rules
}

// waitUntil returns at that time, or when the connection ends.
func (l *link) waitUntil(at time.Time) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.conn.ctx.Done():
	}
}

// remote answers a request that the target listen, or listen no more.
func (l *link) remote(user gossh.Conn, who login, req *gossh.Request) (ok bool, reply []byte) {
	ask, host, err := parseRemote(req)
	if err != nil {
		l.refuseForward(who, "remote: "+req.Type, err)
		return false, nil
	}
	if req.Type == "cancel-tcpip-forward" || req.Type == "cancel-streamlocal-forward@openssh.com" {
		l.mu.Lock()
		t := l.carrying
		l.mu.Unlock()
		return t != nil && t.unlisten(ask, host), nil
	}
	own := l.own()
	rules := l.rulesNow(who)
	var may []bastion.Tunnel
	for _, tunnel := range ask {
		if bastion.AuthorizeForward(rules, tunnel, own) == nil {
			may = append(may, tunnel)
		}
	}
	if len(may) == 0 {
		l.refuseForward(who, "remote "+place(host, ask[0]), bastion.ErrForward)
		return false, nil
	}
	t, err := l.tunnels(user, who)
	if err == nil {
		var port uint16
		if port, err = t.listen(host, may[0], own); err == nil && may[0].Port == 0 && may[0].Socket == "" {
			reply = gossh.Marshal(struct{ Port uint32 }{uint32(port)})
		}
	}
	if err != nil {
		l.log.WarnContext(l.conn.ctx, "the target does not listen", "user", who.by.User.Name, "target", who.to.target, "error", err)
		if errors.Is(err, access.ErrDenied) {
			l.refused(who, nil, "forward remote "+place(host, may[0]), err)
		}
		return false, nil
	}
	return true, reply
}

// parseRemote gives what a request asks the target to listen at: one of the
// tunnels. host is what the user called it.
func parseRemote(req *gossh.Request) (ask []bastion.Tunnel, host string, err error) {
	switch req.Type {
	case "streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com":
		f, err := parseStreamLocalForward(req.Payload)
		return []bastion.Tunnel{{Remote: true, Socket: f.Path}}, f.Path, err
	case "tcpip-forward", "cancel-tcpip-forward":
		f, err := parseTCPIPForward(req.Payload)
		if err != nil {
			return nil, "", err
		}
		for _, a := range bindings(f.Host) {
			ask = append(ask, bastion.Tunnel{Remote: true, Host: f.Host, Address: a, Port: uint16(f.Port)})
		}
		if len(ask) == 0 {
			return nil, "", errPayload // a name means something else at each machine
		}
		return ask, f.Host, nil
	default:
		return nil, "", errPayload
	}
}

func place(host string, t bastion.Tunnel) string {
	if t.Socket != "" {
		return "at unix " + strconv.Quote(t.Socket)
	}
	return fmt.Sprintf("at %q port %d at %s", host, t.Port, t.Address)
}

// request asks the target something that belongs to no channel. A target that
// does not answer loses the session.
func (t *tunnels) request(name string, payload any) (bool, []byte) {
	timer := time.AfterFunc(t.link.limits.Dial, func() { t.session.End(errSilent) })
	defer timer.Stop()
	ok, reply, err := t.target.client.SendRequest(name, true, gossh.Marshal(payload))
	return ok && err == nil, reply
}

// listen has the target listen, and gives the port. It is on record before the
// target is asked.
func (t *tunnels) listen(host string, at bastion.Tunnel, own []netip.Addr) (port uint16, err error) {
	t.asking.Lock()
	defer t.asking.Unlock()
	if err := bastion.AuthorizeForward(*t.session.Live.Allowed(), at, own); err != nil {
		return 0, err
	}
	if len(t.listeners) >= t.link.limits.Listeners {
		return 0, &access.Error{Kind: access.ErrDenied, Code: "DB-2411", Text: "too many listeners in one connection", Rule: "session.channels"}
	}
	if at.Port != 0 || at.Socket != "" {
		if slices.ContainsFunc(t.listeners, func(l listener) bool { return l.is(at, at.Port) }) {
			return 0, errBusy
		}
	}
	if err := t.session.Mark("listening is asked for: remote %s", place(host, at)); err != nil {
		return 0, err
	}
	var ok bool
	var reply []byte
	if at.Socket != "" {
		ok, _ = t.request("streamlocal-forward@openssh.com", streamLocalForward{at.Socket})
	} else {
		ok, reply = t.request("tcpip-forward", tcpipForward{at.Address.String(), uint32(at.Port)})
	}
	port = at.Port
	if ok && at.Port == 0 && at.Socket == "" {
		var got struct{ Port uint32 }
		if gossh.Unmarshal(reply, &got) != nil || got.Port == 0 || got.Port > math.MaxUint16 {
			ok = false
		}
		port = uint16(got.Port)
	}
	if !ok {
		t.session.Mark("not listening: remote %s", place(host, at))
		return 0, errBusy
	}
	t.listeners = append(t.listeners, listener{host, at, port})
	return port, t.session.Mark("listening: remote %s, port %d", place(host, at), port)
}

func (l listener) is(at bastion.Tunnel, port uint16) bool {
	return l.tunnel.Socket == at.Socket && l.tunnel.Address == at.Address && l.port == port
}

// unlisten has the target listen no more at what the user asked for.
func (t *tunnels) unlisten(ask []bastion.Tunnel, host string) bool {
	select {
	case <-t.ready:
	case <-t.link.conn.ctx.Done():
	}
	if t.err != nil {
		return false
	}
	t.asking.Lock()
	defer t.asking.Unlock()
	i := slices.IndexFunc(t.listeners, func(l listener) bool {
		return l.host == host && slices.ContainsFunc(ask, func(at bastion.Tunnel) bool { return l.is(at, at.Port) })
	})
	if i < 0 {
		return false
	}
	at := t.listeners[i]
	t.listeners = slices.Delete(t.listeners, i, i+1) // whatever the target says, nothing of it passes from here on
	if t.session.Mark("listening no more: remote %s, port %d", place(host, at.tunnel), at.port) != nil {
		return false
	}
	var ok bool
	if at.tunnel.Socket != "" {
		ok, _ = t.request("cancel-streamlocal-forward@openssh.com", streamLocalForward{at.tunnel.Socket})
	} else {
		ok, _ = t.request("cancel-tcpip-forward", tcpipForward{at.tunnel.Address.String(), uint32(at.port)})
	}
	return ok
}

// targetOpens takes a channel that the target opens: what came to where it
// listens for the user, and nothing else.
func (t *tunnels) targetOpens(nc gossh.NewChannel) {
	s := t.session
	err := bastion.Authorize(*s.Live.Allowed(), tunnelChannels[nc.ChannelType()])
	var o opening
	if err == nil {
		o, err = t.arrived(nc)
	}
	t.link.admit(t.who, s, nc, err, func() error { return t.join(nc, o) })
}

// arrived finds the listener that a channel of the target came to.
func (t *tunnels) arrived(nc gossh.NewChannel) (o opening, err error) {
	o = opening{far: t.user, kind: nc.ChannelType()}
	var at listener
	if nc.ChannelType() == "forwarded-streamlocal@openssh.com" {
		f, err := parseForwardedStreamLocal(nc.ExtraData())
		if err != nil {
			return o, err
		}
		if at, err = t.listener(func(l listener) bool { return l.tunnel.Socket == f.Path }); err != nil {
			return o, err
		}
		o.payload, o.what = gossh.Marshal(f), "remote from "+place(at.host, at.tunnel)
	} else {
		d, err := parseDirectTCPIP(nc.ExtraData())
		if err != nil {
			return o, err
		}
		if at, err = t.listener(func(l listener) bool {
			return l.tunnel.Socket == "" && l.tunnel.Address.String() == d.Host && uint32(l.port) == d.Port
		}); err != nil {
			return o, err
		}
		d.Host = at.host // clients compare it with what they asked for
		o.payload = gossh.Marshal(d)
		o.what = fmt.Sprintf("remote from %s, port %d, from %q port %d", place(at.host, at.tunnel), at.port, d.Origin, d.OriginPort)
	}
	own := t.link.own()
	o.allowed = func(rules access.SessionRules) error { return bastion.AuthorizeForward(rules, at.tunnel, own) }
	return o, nil
}

func (t *tunnels) listener(is func(listener) bool) (listener, error) {
	t.asking.Lock()
	defer t.asking.Unlock()
	if i := slices.IndexFunc(t.listeners, is); i >= 0 {
		return t.listeners[i], nil
	}
	return listener{}, errUnasked
}

// admit counts a channel in that a target opened, and carries it, unless err says
// why not.
func (l *link) admit(who login, s *bastion.Session, nc gossh.NewChannel, err error, carry func() error) {
	if err == nil {
		err = l.enter(bastion.Forward)
	}
	if err != nil {
		l.refused(who, s, "target's channel "+nc.ChannelType(), err)
		nc.Reject(gossh.Prohibited, "")
		return
	}
	l.spawn("carry a target's channel", func() {
		defer l.leave(bastion.Forward)
		if err := carry(); err != nil {
			nc.Reject(gossh.ConnectionFailed, "")
		}
	})
}
