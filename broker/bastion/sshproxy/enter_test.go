package sshproxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
)

// enter opens a connection as a person whose login was verified elsewhere, from
// the address, and returns the client's end.
func (h *house) enter(name, target, from string) (net.Conn, error) {
	h.t.Helper()
	by := h.people[name].caller
	by.Source = netip.MustParseAddr(from)
	carry, err := h.server.Enter(h.t.Context(), by, target)
	if err != nil {
		return nil, err
	}
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(h.t)
	defer ln.Close()
	client := must(net.Dial("tcp", ln.Addr().String()))(h.t)
	h.t.Cleanup(func() { client.Close() })
	carry(must(ln.Accept())(h.t))
	return client, nil
}

// targetConfig is what the person's client uses for the target's own hop.
func (h *house) targetConfig(name string) *gossh.ClientConfig {
	c := h.config(name, me(h.t))
	c.HostKeyCallback = (&gossh.CertChecker{IsHostAuthority: func(key gossh.PublicKey, _ string) bool {
		return string(key.Marshal()) == string(h.broker.Authorities().Host.Marshal())
	}}).CheckHostKey
	return c
}

func TestEnter(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	nc := must(h.enter("alice", "DB01", "198.51.100.7"))(t)
	conn, channels, requests, err := gossh.NewClientConn(nc, "db01:22", h.targetConfig("alice"))
	check(t, err)
	client := gossh.NewClient(conn, channels, requests)
	defer client.Close()
	out, err := must(client.NewSession())(t).Output("echo over another door")
	if err != nil || string(out) != "over another door\n" {
		t.Errorf("got %q, %v", out, err)
	}
	s := h.closed(1)[0]
	if s.Source != "198.51.100.7" || s.TargetName != "db01" || s.UserName != "alice" {
		t.Errorf("on record: %s from %s on %s", s.UserName, s.Source, s.TargetName)
	}
}

// A login opens the door, and a key of the same person must be shown behind it.
func TestEnterAsSomebodyElse(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	nc := must(h.enter("mallory", "db01", "198.51.100.7"))(t)
	if _, _, _, err := gossh.NewClientConn(nc, "db01:22", h.targetConfig("alice")); err == nil {
		t.Error("alice's key came in under mallory's login")
	}
	h.wantRefusal("the two hops were proven by different people")
	nc = must(h.enter("alice", "db01", "198.51.100.7"))(t)
	c := h.targetConfig("alice")
	c.Auth = []gossh.AuthMethod{gossh.Password("x")}
	if _, _, _, err := gossh.NewClientConn(nc, "db01:22", c); err == nil {
		t.Error("a login alone was enough")
	}
	if list := h.sessions(); len(list) != 0 {
		t.Errorf("%d sessions were opened", len(list))
	}
}

func TestEnterRefuses(t *testing.T) {
	h := newHouse(t, func(o *options) {
		o.limits = Limits{HalfOpenPerSource: 2, SlowLogin: time.Minute, NoLogin: time.Minute, PenaltyFrom: 4*time.Minute + 30*time.Second, Login: 2 * time.Second}
	})
	h.realTarget("db01")
	for _, name := range []string{"nosuch01", "", "db01\n", "*", "127.0.0.1", strings.Repeat("x", 300)} {
		if _, err := h.enter("alice", name, "198.51.100.7"); err == nil {
			t.Errorf("%q was let through", name)
		}
	}
	// Two may be without a proof; the third is closed at once, silent ones in
	// time, and then the source has failed too often.
	begun := time.Now()
	var conns []net.Conn
	for range 3 {
		conns = append(conns, must(h.enter("alice", "db01", "198.51.100.8"))(t))
	}
	buf := make([]byte, 256)
	if n, err := conns[2].Read(buf); err == nil {
		t.Errorf("the third got %q", buf[:n])
	}
	for i, c := range conns[:2] {
		for {
			if _, err := c.Read(buf); err != nil {
				break
			}
		}
		if d := time.Since(begun); d > 20*time.Second {
			t.Errorf("the silent one number %d was kept for %s", i, d)
		}
	}
	for range 3 {
		c := must(h.enter("alice", "db01", "198.51.100.8"))(t)
		c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		for {
			if _, err := c.Read(buf); err != nil {
				break
			}
		}
	}
	// A client may see the end before it is accounted for.
	eventually(t, "that the source is shut out", func() bool {
		c := must(h.enter("alice", "db01", "198.51.100.8"))(t)
		defer c.Close()
		_, err := c.Read(buf)
		return err != nil
	})
	// Somebody from elsewhere notices nothing.
	c := must(h.enter("alice", "db01", "198.51.100.9"))(t)
	if n, err := c.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "SSH-2.0-") {
		t.Errorf("from elsewhere: %q, %v", buf[:n], err)
	}
}

// What came in over this door ends with the server, like the rest.
func TestEnterStops(t *testing.T) {
	h := newHouse(t, func(o *options) { o.noServer = true })
	h.addTarget("db01", "127.0.0.1:1")
	by := h.people["alice"].caller
	if _, err := h.server.Enter(t.Context(), by, "db01"); !errors.Is(err, access.ErrUnavailable) {
		t.Errorf("before it serves: %v", err)
	}
	h.serve()
	eventually(t, "that it serves", func() bool { return h.server.current() != nil })
	nc := must(h.enter("alice", "db01", "198.51.100.7"))(t)
	carry, err := h.server.Enter(context.Background(), by, "db01")
	check(t, err)
	h.stop()
	buf := make([]byte, 256)
	for {
		if _, err := nc.Read(buf); err != nil {
			break
		}
	}
	if _, err := h.server.Enter(t.Context(), by, "db01"); !errors.Is(err, bastion.ErrStopped) {
		t.Errorf("after its end: %v", err)
	}
	mine, theirs := net.Pipe()
	go carry(theirs)
	if _, err := mine.Read(buf); err == nil {
		t.Error("one that was let in before the end was carried after it")
	}
}
