package sshproxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

// A stolenKey is a public key without its private half: it signs with another.
type stolenKey struct {
	key   gossh.PublicKey
	signs gossh.Signer
}

func (k stolenKey) PublicKey() gossh.PublicKey { return k.key }
func (k stolenKey) Sign(r io.Reader, data []byte) (*gossh.Signature, error) {
	return k.signs.Sign(r, data)
}

// The victim's public key is offered first, then the attacker proves their own:
// the identity is the attacker's (CVE-2024-45337 and its like).
func TestOfferedKeyIsNoIdentity(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	// Stock ssh, with the victim's public key and the attacker's own.
	victim := h.dir + "/stolen"
	check(t, os.WriteFile(victim+".pub", gossh.MarshalAuthorizedKey(h.people["alice"].key.PublicKey()), 0o600))
	cmd := h.ssh("mallory", "-o", "BatchMode=yes", "-i", victim, "-l", me(t)+"+db01", "gw", "id")
	out, errs, code := play(t, cmd)
	if code != 255 || out != "" || !strings.Contains(errs, "a reason is needed") {
		t.Errorf("exit %d, %q, %s", code, out, errs)
	}
	// A client that signs with the wrong key does not get in at all.
	c := h.config("mallory", me(t)+"+db01")
	c.Auth = []gossh.AuthMethod{gossh.PublicKeys(stolenKey{h.people["alice"].key.PublicKey(), h.people["mallory"].key}, h.people["mallory"].key)}
	if conn, err := gossh.Dial("tcp", h.addr, c); err == nil {
		conn.Close()
		t.Error("a signature of another key was accepted")
	}
	if n := len(h.sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

// A turncoat is offered as one key and proven as another, and in between the
// login name becomes another too.
type turncoat struct {
	gossh.PublicKey // offered
	proves          gossh.Signer
	turn            func()
	marshalled      int
}

func (k *turncoat) Marshal() []byte {
	// x/crypto writes the key down for the question and for the answer to it,
	// then for the signature.
	if k.marshalled++; k.marshalled <= 2 {
		return k.PublicKey.Marshal()
	}
	k.turn()
	return k.proves.PublicKey().Marshal()
}

type turncoatSigner struct{ *turncoat }

func (k turncoatSigner) PublicKey() gossh.PublicKey { return k.turncoat }
func (k turncoatSigner) Sign(r io.Reader, data []byte) (*gossh.Signature, error) {
	return k.proves.Sign(r, data)
}

// Whatever key is offered and whatever login name is said first: who comes in is
// who was proven, where it was proven, or nobody. Alice has a grant on db01, and
// mallory on db02.
func TestIdentityIsWhatWasProven(t *testing.T) {
	h := newHouse(t)
	for _, name := range []string{"db01", "db02"} {
		h.realTarget(name)
	}
	h.grant("alice", "db01", time.Hour)
	h.grant("mallory", "db02", time.Hour)
	alice, mallory := h.people["alice"].key, h.people["mallory"].key
	db01, db02 := me(t)+"+db01", me(t)+"+db02"
	const none, key, answer = "nothing", "her key", "her key and an answer"
	for _, test := range []struct {
		name        string
		offers      gossh.Signer
		first, last string // login names
		finish      string
		in          bool
	}{
		{"her own", mallory, db02, db02, key, true},
		{"her own, where alice may", mallory, db01, db01, key, false},
		{"her own, first where alice may", mallory, db01, db02, key, true},
		{"her own, then where alice may", mallory, db02, db01, key, false},
		{"alice's", alice, db02, db02, key, true},
		{"alice's, where alice may", alice, db01, db01, key, false},
		{"alice's, first where alice may", alice, db01, db02, key, true},
		{"alice's, then where alice may", alice, db02, db01, key, false},
		{"alice's, then where alice may, and an answer", alice, db02, db01, answer, false},
		{"alice's alone", alice, db01, db01, none, false},
		{"alice's alone, then where alice may", alice, db02, db01, none, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			// The client says the same string again and again; its bytes change.
			login := []byte(test.first)
			config := h.config("mallory", unsafe.String(&login[0], len(login)))
			k := &turncoat{PublicKey: test.offers.PublicKey(), proves: mallory, turn: func() { copy(login, test.last) }}
			if test.finish == none {
				k.proves = stolenKey{alice.PublicKey(), mallory} // alice's, signed by another
			}
			config.Auth = []gossh.AuthMethod{gossh.PublicKeys(turncoatSigner{k})}
			asked := 0
			if test.finish == answer {
				config.Auth = append(config.Auth, gossh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
					if asked += len(questions); len(questions) == 0 {
						return nil, nil
					}
					return []string{"INC-1 let me in"}, nil
				}))
			}
			tcp := must(net.Dial("tcp", h.addr))(t)
			defer tcp.Close()
			deadline := patience
			if test.finish == answer {
				deadline = 5 * time.Second // for which its request is held
			}
			tcp.SetDeadline(time.Now().Add(deadline))
			before := len(h.sessions())
			conn, chans, reqs, err := gossh.NewClientConn(tcp, h.addr, config)
			if (err == nil) != test.in {
				t.Fatalf("in: %v", err)
			}
			if k.marshalled < 3 {
				t.Fatal("the key was only offered: this test tests nothing")
			}
			if test.finish == answer {
				// What mallory said was taken as mallory's request.
				if c := h.pending("mallory"); asked != 1 || c.Request.RequesterName != "mallory" || c.Request.TargetName != "db01" {
					t.Errorf("asked %d questions: %+v", asked, c.Request)
				}
			}
			if !test.in {
				if n := len(h.sessions()) - before; n != 0 {
					t.Errorf("%d sessions", n)
				}
				return
			}
			c := gossh.NewClient(conn, chans, reqs)
			defer c.Close()
			out, err := must(c.NewSession())(t).Output("echo in")
			if err != nil || string(out) != "in\n" {
				t.Errorf("got %q, %v", out, err)
			}
			list := h.sessions()
			if len(list) != before+1 || list[0].UserName != "mallory" || list[0].TargetName != "db02" {
				t.Errorf("on record: %+v", list)
			}
		})
	}
}

// What a balancer may say before the connection of a client is not believed of
// anybody: the source is that of the connection (CVE-2024-35175).
func TestProxyHeaderIsNotBelieved(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	for _, header := range []string{
		"PROXY TCP4 203.0.113.9 203.0.113.1 40000 22\r\n",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\xcb\x00\x71\x01\x9c\x40\x00\x16",
	} {
		tcp := must(net.Dial("tcp", h.addr))(t)
		defer tcp.Close()
		io.WriteString(tcp, header)
		tcp.SetDeadline(time.Now().Add(patience))
		conn, chans, reqs, err := gossh.NewClientConn(tcp, h.addr, h.config("alice", me(t)+"+db01"))
		if err != nil {
			continue // it does not even speak with who begins so
		}
		c := gossh.NewClient(conn, chans, reqs)
		out, err := must(c.NewSession())(t).Output("echo in")
		c.Close()
		if err != nil || string(out) != "in\n" {
			t.Errorf("%q: %q, %v", header, out, err)
		}
	}
	h.works()
	for _, s := range h.sessions() {
		if s.Source != "127.0.0.1" {
			t.Errorf("on record: from %s", s.Source)
		}
	}
}

// The permissions of an offered key, of an earlier attempt and of another user
// name do not survive: each is asked for anew, and only what is returned counts.
func TestPermissionsAreThoseThatWereReturned(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	r := &run{Server: h.server, ctx: t.Context()}
	a, b := net.Pipe()
	defer b.Close()
	c := newConn(t.Context(), a, time.Hour)
	r.begin()
	l := newLink(r, c, nothing, nothing)
	defer c.Close()
	at := &attempt{link: l}
	if p, err := at.offered(meta(me(t)+"+db01"), h.people["alice"].key.PublicKey()); p != nil || err != nil {
		t.Errorf("an offered key gave %v, %v", p, err)
	}
	if _, err := at.offered(meta(me(t)+"+db01"), newSigner(t).PublicKey()); err == nil {
		t.Error("an unknown key was accepted as an offer")
	}
	p, err := at.proven(meta(me(t)+"+db01"), h.people["mallory"].key.PublicKey(), nil, "")
	if partial := (*gossh.PartialSuccessError)(nil); !errors.As(err, &partial) || p != nil {
		t.Fatalf("got %v, %v", p, err)
	}
	p, err = at.proven(meta(me(t)+"+db01"), h.people["alice"].key.PublicKey(), nil, "")
	check(t, err)
	who, err := loginOf(&gossh.ServerConn{Permissions: p})
	if err != nil || who.by.User.Name != "alice" || who.to.target != "db01" {
		t.Errorf("got %+v, %v", who, err)
	}
	// The same link with another login string: nothing of the last one is left.
	p, err = at.proven(meta("anything"), h.people["mallory"].key.PublicKey(), nil, "")
	check(t, err)
	if who, _ := loginOf(&gossh.ServerConn{Permissions: p}); who.by.User.Name != "mallory" || !who.hop || who.grantID != "" || who.to.target != "" {
		t.Errorf("got %+v", who)
	}
	for name, sc := range map[string]*gossh.ServerConn{
		"no permissions": {}, "of somebody else": {Permissions: &gossh.Permissions{Extensions: map[string]string{"user": "alice"}}},
		"empty": {Permissions: login{}.permissions()}, "nil": nil,
	} {
		if _, err := loginOf(sc); err == nil {
			t.Errorf("%s: a login was found", name)
		}
	}
}

type meta string

func (m meta) User() string        { return string(m) }
func (meta) SessionID() []byte     { return nil }
func (meta) ClientVersion() []byte { return nil }
func (meta) ServerVersion() []byte { return nil }
func (meta) RemoteAddr() net.Addr  { return &net.TCPAddr{} }
func (meta) LocalAddr() net.Addr   { return &net.TCPAddr{} }

// gliderlabs/ssh lets clients in that offer nothing, when none of its own
// handlers is set. Not here.
func TestNoneIsRefused(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	for _, login := range []string{"alice", me(t) + "+db01", ""} {
		c := h.config("alice", login)
		c.Auth = nil
		if conn, err := gossh.Dial("tcp", h.addr, c); err == nil {
			conn.Close()
			t.Errorf("%q came in with nothing", login)
		}
		c.Auth = []gossh.AuthMethod{gossh.Password("x"), gossh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) { return nil, nil })}
		if conn, err := gossh.Dial("tcp", h.addr, c); err == nil {
			conn.Close()
			t.Errorf("%q came in with a password", login)
		}
	}
}

// The two hops must be of one person.
func TestOnePersonOnBothHops(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	outer := must(gossh.Dial("tcp", h.addr, h.config("mallory", "hop")))(t)
	defer outer.Close()
	nc := must(outer.Dial("tcp", "db01:22"))(t)
	c := h.config("alice", me(t))
	c.HostKeyCallback = gossh.InsecureIgnoreHostKey()
	if _, _, _, err := gossh.NewClientConn(nc, "db01:22", c); err == nil {
		t.Error("alice came in over a hop of mallory")
	}
	h.wantRefusal("the two hops were proven by different people")
}

// Requests that other servers take for granted.
func TestChannelRequests(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	open := func(t *testing.T, c *gossh.Client) gossh.Channel {
		ch, reqs, err := c.OpenChannel("session", nil)
		check(t, err)
		go gossh.DiscardRequests(reqs)
		return ch
	}
	ask := func(ch gossh.Channel, name string, payload any) bool {
		var b []byte
		if payload != nil {
			b = gossh.Marshal(payload)
		}
		ok, _ := ch.SendRequest(name, true, b)
		return ok
	}
	type text struct{ S string }
	tests := map[string]struct {
		do   func(t *testing.T, c *gossh.Client)
		want string // audited
	}{
		"agent": {func(t *testing.T, c *gossh.Client) {
			if ask(open(t, c), "auth-agent-req@openssh.com", nil) {
				t.Error("accepted")
			}
		}, "auth-agent-req@openssh.com: the role does not allow agent"},
		"x11": {func(t *testing.T, c *gossh.Client) {
			if ask(open(t, c), "x11-req", struct {
				Single          bool
				Protocol, Cooky string
				Screen          uint32
			}{}) {
				t.Error("accepted")
			}
		}, "x11-req: the role does not allow x11"},
		"malformed exec": {func(t *testing.T, c *gossh.Client) {
			ok, _ := open(t, c).SendRequest("exec", true, []byte{0, 0, 0, 9, 'i', 'd'})
			if ok {
				t.Error("accepted")
			}
		}, "channel request exec: malformed"},
		"empty exec": {func(t *testing.T, c *gossh.Client) {
			if ask(open(t, c), "exec", text{""}) {
				t.Error("accepted")
			}
		}, "channel request exec: malformed"},
		"subsystem, then exec": {func(t *testing.T, c *gossh.Client) {
			ch := open(t, c)
			if ask(ch, "subsystem", text{"netconf"}) || ask(ch, "exec", text{"id"}) {
				t.Error("accepted")
			}
		}, "channel request subsystem: what is not named"},
		"a second exec": {func(t *testing.T, c *gossh.Client) {
			ch := open(t, c)
			if !ask(ch, "exec", text{"sleep 3"}) {
				t.Error("the first was refused")
			}
			if ask(ch, "exec", text{"id"}) || ask(ch, "shell", nil) || ask(ch, "pty-req", ptyRequest{Term: "xterm"}) {
				t.Error("a second was accepted")
			}
			ch.Close()
		}, "channel request exec: a session has one"},
		"a huge terminal": {func(t *testing.T, c *gossh.Client) {
			if ask(open(t, c), "pty-req", ptyRequest{Term: "xterm", Columns: 1 << 30}) {
				t.Error("accepted")
			}
		}, "channel request pty-req: malformed"},
		"unnamed": {func(t *testing.T, c *gossh.Client) {
			if ask(open(t, c), "break", nil) {
				t.Error("accepted")
			}
		}, "channel request break: what is not named"},
		"channels": {func(t *testing.T, c *gossh.Client) {
			for _, name := range []string{"direct-tcpip", "direct-streamlocal@openssh.com", "x11", "auth-agent@openssh.com", "tun@openssh.com", "forwarded-tcpip", "made-up"} {
				if _, _, err := c.OpenChannel(name, nil); err == nil {
					t.Errorf("%s was opened", name)
				}
			}
		}, "channel made-up: what is not named"},
		"global requests": {func(t *testing.T, c *gossh.Client) {
			for _, name := range []string{"tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com", "hostkeys-prove-00@openssh.com", "made-up"} {
				if ok, _, err := c.SendRequest(name, true, nil); ok || err != nil {
					t.Errorf("%s: %v, %v", name, ok, err)
				}
			}
			if ok, _, _ := c.SendRequest("keepalive@openssh.com", true, nil); !ok {
				t.Error("keep-alive was refused")
			}
		}, "global request cancel-tcpip-forward: the role does not allow forward"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.do(t, h.client("alice", "db01"))
			h.wantRefusal(test.want)
		})
	}
}

func TestChannelLimit(t *testing.T) {
	h := newHouse(t, func(o *options) { o.limits.Refusals = 20 })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	opened := 0
	for range 2000 {
		_, reqs, err := c.OpenChannel("session", nil)
		if err == nil {
			opened++
			go gossh.DiscardRequests(reqs)
			continue
		}
		if refused := (*gossh.OpenChannelError)(nil); !errors.As(err, &refused) {
			break // the connection is over
		}
	}
	if opened != 10 {
		t.Errorf("%d channels were opened, want 10", opened)
	}
	if err := c.Wait(); err == nil {
		t.Error("the connection did not end with an error")
	}
}

// Resizing without end neither blocks the data nor the connection.
func TestWindowChanges(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	s := must(c.NewSession())(t)
	check(t, s.RequestPty("xterm", 24, 80, nil))
	in, out := must(s.StdinPipe())(t), &lockedBuffer{}
	s.Stdout = out
	check(t, s.Start("cat; stty size"))
	for i := range 200 {
		check(t, s.WindowChange(25, 100+i))
	}
	_, err := s.SendRequest("keepalive@openssh.com", true, nil) // answered after what came before it
	check(t, err)
	io.WriteString(in, "typed\n\x04")
	check(t, s.Wait())
	if !out.has("typed") || !out.has("25 299") {
		t.Errorf("got %q", out)
	}
	if got := h.recording(h.closed(1)[0], cast.Resize); !strings.HasSuffix(got, "299x25") {
		t.Errorf("recorded %q", got)
	}
}

// A flood of requests is the end of its connection.
func TestRequestFlood(t *testing.T) {
	h := newHouse(t, func(o *options) { o.limits.Requests = 5 })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for range 1000 {
		if _, _, err := c.SendRequest("keepalive@openssh.com", false, nil); err != nil {
			break
		}
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the connection goes on")
	}
}

func TestSilence(t *testing.T) {
	h := newHouse(t, func(o *options) { o.limits.Login = 300 * time.Millisecond; o.limits.HalfOpenPerSource = 30 })
	for name, say := range map[string]string{"nothing": "", "half a line": "SSH-2.0-slow", "a version": "SSH-2.0-slow\r\n", "noise": "GET / HTTP/1.1\r\n\r\n"} {
		c := must(net.Dial("tcp", h.addr))(t)
		io.WriteString(c, say)
		if !ended(c, 25*time.Second) { // what Login is when nobody says
			t.Errorf("%s: still open", name)
		}
		c.Close()
	}
	eventually(t, "no connection left", func() bool {
		h.server.gate.mu.Lock()
		defer h.server.gate.mu.Unlock()
		return h.server.gate.open == 0
	})
}

func TestHalfOpenLimit(t *testing.T) {
	h := newHouse(t, func(o *options) { o.limits.HalfOpenPerSource = 3 })
	var conns []net.Conn
	for range 6 {
		conns = append(conns, must(net.Dial("tcp", h.addr))(t))
	}
	answered := 0
	for _, c := range conns {
		c.SetReadDeadline(time.Now().Add(patience))
		if n, _ := c.Read(make([]byte, 64)); n > 0 {
			answered++
		}
		c.Close()
	}
	if answered != 3 {
		t.Errorf("%d of 6 were answered, want 3", answered)
	}
}

// A panic ends one connection; the others go on.
func TestPanics(t *testing.T) {
	var mu sync.Mutex
	armed := ""
	trip := func(where string) {
		mu.Lock()
		defer mu.Unlock()
		if armed == where {
			panic("test: " + where)
		}
	}
	h := newHouse(t, func(o *options) {
		o.url = func(string) string { trip("login"); return "" }
		o.bastion = func(c *bastion.Config) { c.Broker = tripping{c.Broker, trip} }
	})
	h.realTarget("db01")
	h.realTarget("db02")
	h.grant("alice", "db01", time.Hour)
	other := h.client("alice", "db01")
	for _, where := range []string{"login", "started"} {
		t.Run(where, func(t *testing.T) {
			mu.Lock()
			armed = where
			mu.Unlock()
			if where == "login" {
				_, _, code := play(t, h.ssh("mallory", "-o", "BatchMode=yes", me(t)+"+INC-1@db02", "true"))
				if code != 255 {
					t.Errorf("exit %d", code)
				}
			} else if s, err := other.NewSession(); err != nil || s.Run("true") == nil {
				t.Errorf("the session ran: %v", err)
			}
			mu.Lock()
			armed = ""
			mu.Unlock()
			s := must(other.NewSession())(t)
			if out, err := s.Output("echo on"); string(out) != "on\n" || err != nil {
				t.Errorf("the other connection: %q, %v", out, err)
			}
		})
	}
	for _, s := range h.closed(3) {
		if s.EndReason != "exited" && s.EndReason != "fault" {
			t.Errorf("got %+v", s)
		}
	}
}

type tripping struct {
	bastion.Broker
	trip func(string)
}

func (b tripping) Started(ctx context.Context, l *broker.Live) error {
	b.trip("started")
	return b.Broker.Started(ctx, l)
}

// Without a recording there is no session, and when it fails in the middle, no
// byte more passes.
func TestNoRecordingNoSession(t *testing.T) {
	rec := &capturing{}
	h := newHouse(t, func(o *options) {
		o.bastion = func(c *bastion.Config) { rec.Recorder = c.Recorder; c.Recorder = rec }
	})
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	t.Run("at the start", func(t *testing.T) {
		rec.failWith(recorder.ErrNoSpace)
		_, errs, code := play(t, h.ssh("alice", me(t)+"@db01", "true"))
		if code != 255 || !strings.Contains(errs, "the session cannot be recorded, so there is none") {
			t.Errorf("exit %d, %s", code, errs)
		}
		if s := h.closed(1)[0]; s.EndReason != "recording" || s.Serial != 0 {
			t.Errorf("got %+v", s)
		}
		rec.failWith(nil)
	})
	t.Run("in the middle", func(t *testing.T) {
		cmd := h.ssh("alice", me(t)+"@db01", "while sleep 0.02; do echo tick; done")
		out := &lockedBuffer{}
		cmd.Stdout = out
		errs, wait := background(t, cmd)
		eventually(t, "output", func() bool { return out.has("tick") })
		rec.last().Close(t.Context(), recorder.End{Reason: "broken by the test"})
		if wait() == nil || !errs.has("cannot be recorded") {
			t.Errorf("got %s", errs)
		}
		s := h.closed(2)[0]
		if s.EndReason != "recording" {
			t.Errorf("got %+v", s)
		}
		if got := h.recording(s, recorder.Output); got != out.String() {
			t.Errorf("recorded %q, forwarded %q", got, out)
		}
	})
}

type capturing struct {
	bastion.Recorder

	mu        sync.Mutex
	fail      error
	recording *recorder.Recording
}

func (c *capturing) failWith(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

func (c *capturing) Start(ctx context.Context, h recorder.Header) (*recorder.Recording, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return nil, c.fail
	}
	r, err := c.Recorder.Start(ctx, h)
	c.recording = r
	return r, err
}

func (c *capturing) last() *recorder.Recording {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recording
}

// Keep-alives are no use of a session.
func TestIdle(t *testing.T) {
	h := newHouse(t, func(o *options) { o.bastion = func(c *bastion.Config) { c.Idle = 3 * time.Second } })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	s := must(c.NewSession())(t)
	var errs bytes.Buffer
	s.Stderr = &errs
	check(t, s.Start("sleep 30"))
	done := make(chan error, 1)
	go func() { done <- s.Wait() }()
	for {
		select {
		case err := <-done:
			if missing := (*gossh.ExitMissingError)(nil); !errors.As(err, &missing) || !strings.Contains(errs.String(), "nothing was typed or shown for too long") {
				t.Errorf("got %v, %s", err, &errs)
			}
			if s := h.closed(1)[0]; s.EndReason != "idle" {
				t.Errorf("got %+v", s)
			}
			return
		case <-time.After(100 * time.Millisecond):
			s.SendRequest("keepalive@openssh.com", true, nil)
		}
	}
}

// A server that stops says so, seals everything and leaves nothing behind.
func TestStop(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	cmd := h.ssh("alice", "-tt", me(t)+"@db01", "echo up; cat")
	out := &lockedBuffer{}
	cmd.Stdout = out
	must(cmd.StdinPipe())(t)
	errs, wait := background(t, cmd)
	eventually(t, "the session", func() bool { return out.has("up") })
	_, heldWait := background(t, h.ssh("mallory", "-o", "BatchMode=yes", me(t)+"+INC-1@db01", "true"))
	h.pending("mallory")
	began := time.Now()
	h.stop()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the stop took %v", took)
	}
	wait()
	heldWait()
	if !strings.Contains(out.String()+errs.String(), "the bastion is being stopped") {
		t.Errorf("got %q, %q", out, errs)
	}
	if s := h.closed(1)[0]; s.EndReason != "stopped" || s.Recording.SHA256 == "" {
		t.Errorf("got %+v", s)
	}
}
