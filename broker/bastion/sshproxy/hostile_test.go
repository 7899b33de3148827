package sshproxy

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// ended reports whether the server ends the connection within d.
func ended(c net.Conn, d time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(d))
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// works logs in as alice and runs something.
func (h *house) works() {
	h.t.Helper()
	s := must(h.client("alice", "db01").NewSession())(h.t)
	if out, err := s.Output("echo on"); string(out) != "on\n" || err != nil {
		h.t.Errorf("good work: %q, %v", out, err)
	}
}

// What is not a version line, or says a length that cannot be, ends its
// connection, and soon; and costs no memory of the size that was named.
func TestLies(t *testing.T) {
	const login = 4 * time.Second
	h := newHouse(t, func(o *options) { o.limits.Login = login })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	packet := func(length uint32, padding byte) string {
		b := make([]byte, 4096)
		binary.BigEndian.PutUint32(b, length)
		b[4] = padding
		return "SSH-2.0-x\r\n" + string(b)
	}
	tests := map[string]string{
		"version 1":              "SSH-1.5-old\r\n",
		"no end":                 "SSH-2.0-" + strings.Repeat("x", 4096),
		"lines before it":        strings.Repeat("hello\r\n", 1000),
		"control characters":     "SSH-2.0-\x1b[2J\x00\x07\r\n",
		"not UTF-8":              "SSH-2.0-\xff\xfe\r\n",
		"says GCM, has not":      "SSH-2.0-OpenSSH_9.9\r\n" + packet(12, 4)[11:],
		"4 GiB":                  packet(1<<32-1, 4),
		"2 GiB":                  packet(1<<31, 4),
		"one byte over the most": packet(256<<10+1, 4),
		"0 bytes":                packet(0, 4),
		"1 byte":                 packet(1, 0),
		"all padding":            packet(12, 255),
		"no padding":             packet(12, 0),
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for name, say := range tests {
		c := must(net.Dial("tcp", h.addr))(t)
		wg.Go(func() {
			defer c.Close()
			io.WriteString(c, say)
			if !ended(c, login+20*time.Second) {
				t.Errorf("%s: the connection goes on", name)
			}
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d MiB were allocated for %d lies", n>>20, len(tests))
	}
	h.works()
}

// What a connection does before it ends is what its source pays for.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(h *house, c net.Conn)
		want time.Duration
	}{
		"wrong key": {func(h *house, c net.Conn) {
			config := h.config("alice", "root+db01")
			config.Auth = []gossh.AuthMethod{gossh.PublicKeys(newSigner(t))}
			gossh.NewClientConn(c, h.addr, config)
		}, 5 * time.Minute},
		"password": {func(h *house, c net.Conn) {
			config := h.config("alice", "root+db01")
			config.Auth = []gossh.AuthMethod{gossh.Password("x")}
			gossh.NewClientConn(c, h.addr, config)
		}, time.Minute}, // which is not even tried, as it is not offered
		"noise":        {func(_ *house, c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") }, time.Minute},
		"silence":      {func(_ *house, c net.Conn) { ended(c, patience) }, 10 * time.Minute},
		"health check": {func(_ *house, c net.Conn) { time.Sleep(50 * time.Millisecond) }, 0},
		"a person":     {func(h *house, c net.Conn) { gossh.NewClientConn(c, h.addr, h.config("alice", "hop")) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			login := patience
			if name == "silence" {
				login = 500 * time.Millisecond
			}
			h := newHouse(t, func(o *options) {
				o.limits = Limits{Login: login, FailedLogin: 5 * time.Minute, NoLogin: time.Minute, SlowLogin: 10 * time.Minute, PenaltyMost: time.Hour}
			})
			c := must(net.Dial("tcp", h.addr))(t)
			test.do(h, c)
			c.Close()
			eventually(t, "the end of the connection", func() bool {
				h.server.gate.mu.Lock()
				defer h.server.gate.mu.Unlock()
				return h.server.gate.open == 0
			})
			noted := func() (got time.Duration) {
				h.server.gate.mu.Lock()
				defer h.server.gate.mu.Unlock()
				for _, p := range h.server.gate.penalties {
					got = time.Until(p.until).Round(time.Minute)
				}
				return got
			}
			// What is noted comes after the place is given back.
			if test.want != 0 {
				eventually(t, "a penalty", func() bool { return noted() != 0 })
			}
			time.Sleep(50 * time.Millisecond)
			if got := noted(); got != test.want {
				t.Errorf("a penalty of %v, want %v", got, test.want)
			}
		})
	}
}

// A flippedConn flips a bit of what is written, once so many bytes were.
type flippedConn struct {
	net.Conn
	at, written int
}

func (c *flippedConn) Write(p []byte) (int, error) {
	if i := c.at - c.written; i >= 0 && i < len(p) {
		p = bytes.Clone(p)
		p[i] ^= 0x40
	}
	c.written += len(p)
	return c.Conn.Write(p)
}

// A bit that is wrong, in a length, a padding, a tag, in clear or under keys,
// ends that connection and lets nobody in.
func TestFlippedBits(t *testing.T) {
	// A length that grew waits for what does not come.
	h := newHouse(t, func(o *options) { o.limits.Login = 3 * time.Second; o.limits.Start = 3 * time.Second })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	var through atomic.Int64
	var wg sync.WaitGroup
	try := func(at int) {
		tcp, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Error(err)
			return
		}
		tcp.SetDeadline(time.Now().Add(5 * time.Second))
		c, chans, reqs, err := gossh.NewClientConn(&flippedConn{Conn: tcp, at: at}, h.addr, h.config("alice", me(t)+"+db01"))
		if err == nil {
			client := gossh.NewClient(c, chans, reqs)
			if s, err := client.NewSession(); err == nil && s.Run("true") == nil {
				through.Add(1)
			}
			client.Close()
		}
		tcp.Close()
	}
	slots := make(chan struct{}, 8)
	for at := 11; at < 3000; at += 61 {
		slots <- struct{}{}
		wg.Go(func() { try(at); <-slots })
	}
	wg.Wait()
	// The name of an algorithm nobody chose, a cookie or some padding may change
	// unseen by the cipher, and then the hash of the exchange finds it; what comes
	// after the last byte of a short connection changes nothing.
	if n := through.Load(); n > 3 {
		t.Errorf("%d connections with a wrong bit went through", n)
	}
	h.works()
}

// What may come before the start of a program is bounded.
func TestFloodBeforeStart(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	for name, test := range map[string]struct {
		request string
		payload []byte
		most    int
	}{
		"variables": {"env", gossh.Marshal(envRequest{"LC_ALL", "C"}), maxEnv},
		"sizes":     {"window-change", gossh.Marshal(windowChange{80, 24, 0, 0}), maxBefore},
	} {
		t.Run(name, func(t *testing.T) {
			ch, reqs, err := h.client("alice", "db01").OpenChannel("session", nil)
			check(t, err)
			over := make(chan struct{})
			go func() { gossh.DiscardRequests(reqs); close(over) }()
			accepted := 0
			for range 500 {
				ok, err := ch.SendRequest(test.request, true, test.payload)
				if err != nil {
					break
				}
				if ok {
					accepted++
				}
			}
			if accepted > test.most {
				t.Errorf("%d were accepted", accepted)
			}
			select {
			case <-over:
			case <-time.After(patience):
				t.Error("the channel is still open")
			}
		})
	}
	h.works()
}

// Thousands of channels that are refused end the connection early, and fill no
// audit log.
func TestThousandsRefused(t *testing.T) {
	h := newHouse(t)
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	over := make(chan struct{})
	go func() { c.Wait(); close(over) }()
	var refused atomic.Int64
	for range 8 {
		go func() {
			for range 1250 {
				if _, _, err := c.OpenChannel("made-up", nil); err == nil {
					t.Error("opened")
				} else if one := (*gossh.OpenChannelError)(nil); !errors.As(err, &one) {
					return
				}
				refused.Add(1)
			}
		}()
	}
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatalf("the connection goes on after %d refusals", refused.Load())
	}
	limit := Limits{}.withDefaults().Refusals
	if n := len(h.refusals()); n == 0 || n > limit {
		t.Errorf("%d refusals are in the audit log, at most %d are to be", n, limit)
	}
	h.works()
}

// Thousands of channels that are opened and closed in one connection leave
// nothing: no place is lost, and no memory.
func TestThousandsOpened(t *testing.T) {
	const places = 100
	h := newHouse(t, func(o *options) { o.limits.Channels, o.limits.Refusals = places, 10_000 })
	h.realTarget("db01")
	h.grant("alice", "db01", time.Hour)
	c := h.client("alice", "db01")
	open := func() (gossh.Channel, <-chan *gossh.Request, error) { return c.OpenChannel("session", nil) }
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const at, each = 4, 2500
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for range each {
				ch, reqs, err := open()
				for n := 0; err != nil && n < 1000; n++ { // those before are not quite over yet
					time.Sleep(time.Millisecond)
					ch, reqs, err = open()
				}
				if err != nil {
					t.Error(err)
					return
				}
				ch.Close()
				gossh.DiscardRequests(reqs) // until the other side has closed it too
			}
		})
	}
	wg.Wait()
	var all []gossh.Channel
	eventually(t, "all places to be free again", func() bool {
		for len(all) < places {
			ch, reqs, err := open()
			if err != nil {
				return false
			}
			go gossh.DiscardRequests(reqs)
			all = append(all, ch)
		}
		return true
	})
	if _, _, err := open(); err == nil {
		t.Error("one more than may be")
	}
	for _, ch := range all {
		ch.Close()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("%d channels that are closed hold %d MiB", at*each, grown>>20)
	}
	h.works()
}

// A client that exchanges keys without end loses its connection.
func TestRekeyFlood(t *testing.T) {
	for name, test := range map[string]struct {
		perSecond int
		cut       bool
	}{"within": {1000, false}, "beyond": {1, true}} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(o *options) { o.limits.Rekeys = test.perSecond; o.limits.Requests = 1000 })
			h.realTarget("db01")
			h.grant("alice", "db01", time.Hour)
			config := h.config("alice", me(t)+"+db01")
			config.RekeyThreshold = 256 // bytes; the least that x/crypto takes
			c := must(gossh.Dial("tcp", h.addr, config))(t)
			defer c.Close()
			var err error
			tries := 60
			if test.cut {
				tries = 5000 // a busy machine is slow, and within the limit for a while
			}
			for range tries {
				_, _, err = c.SendRequest("keepalive@openssh.com", true, make([]byte, 512))
				if err != nil {
					break
				}
			}
			if (err != nil) != test.cut {
				t.Errorf("got %v", err)
			}
			h.works()
		})
	}
}

// New keys on the outer connection, on the nested one, and on both at once stop
// nothing, however much is under way both ways: nobody waits for a peer that
// waits for the same.
func TestNewKeysWhileBusy(t *testing.T) {
	const size = 8 << 20
	for _, test := range []struct {
		name         string
		outer, inner uint64
	}{{"outer", 100_000, 0}, {"inner", 0, 100_000}, {"both", 100_000, 100_000}, {"both at times of their own", 90_000, 210_000}} {
		t.Run(test.name, func(t *testing.T) {
			h := newHouse(t, func(o *options) { o.limits.Rekeys = 1000 })
			h.realTarget("db01")
			h.grant("alice", "db01", time.Hour)
			outer := h.config("alice", "alice")
			outer.RekeyThreshold = test.outer
			gate := must(gossh.Dial("tcp", h.addr, outer))(t)
			defer gate.Close()
			hop := must(gate.Dial("tcp", "db01:22"))(t)
			inner := h.targetConfig("alice")
			inner.RekeyThreshold = test.inner
			conn, chans, reqs, err := gossh.NewClientConn(hop, "db01:22", inner)
			check(t, err)
			session := must(gossh.NewClient(conn, chans, reqs).NewSession())(t)
			stuck := time.AfterFunc(3*patience, func() { gate.Close() })
			defer stuck.Stop()
			sent := make([]byte, size)
			rand.Read(sent)
			session.Stdin = bytes.NewReader(sent)
			got, err := session.Output("cat")
			check(t, err)
			if !bytes.Equal(got, sent) {
				t.Errorf("%d bytes came back of %d, and they differ", len(got), size)
			}
		})
	}
}

// A stuckConn stops reading when it is told to.
type stuckConn struct {
	net.Conn
	stuck atomic.Bool
	over  chan struct{}
}

func (c *stuckConn) Read(p []byte) (int, error) {
	if c.stuck.Load() {
		<-c.over
		return 0, net.ErrClosed
	}
	return c.Conn.Read(p[:min(len(p), 4096)])
}

// Windows that are never read, and a peer that reads nothing at all, hold little
// memory; and a revocation ends them as it ends any.
func TestNobodyReads(t *testing.T) {
	for _, test := range []struct {
		name           string
		wholly, nested bool
	}{{"channels", false, false}, {"connection", true, false}, {"channels behind a hop", false, true}, {"connection with a hop", true, true}} {
		t.Run(test.name, func(t *testing.T) {
			h := newHouse(t)
			h.realTarget("db01")
			r := h.grant("alice", "db01", time.Hour)
			tcp := &stuckConn{Conn: must(net.Dial("tcp", h.addr))(t), over: make(chan struct{})}
			login := me(t) + "+db01"
			if test.nested {
				login = "alice"
			}
			conn, chans, reqs, err := gossh.NewClientConn(tcp, h.addr, h.config("alice", login))
			check(t, err)
			c := gossh.NewClient(conn, chans, reqs)
			defer c.Close()
			if test.nested {
				hop := must(c.Dial("tcp", "db01:22"))(t)
				conn, chans, reqs, err := gossh.NewClientConn(hop, "db01:22", h.targetConfig("alice"))
				check(t, err)
				c = gossh.NewClient(conn, chans, reqs)
			}
			defer close(tcp.over)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			const n = 5
			for range n {
				ch, reqs, err := c.OpenChannel("session", nil) // which nobody reads
				check(t, err)
				go gossh.DiscardRequests(reqs)
				if ok, err := ch.SendRequest("exec", true, gossh.Marshal(execRequest{"exec cat /dev/zero"})); !ok {
					t.Fatalf("exec: %v", err)
				}
			}
			tcp.stuck.Store(test.wholly)
			time.Sleep(time.Second) // for much to come, if it could
			runtime.GC()
			runtime.ReadMemStats(&after)
			// The test's own client keeps a window of 2 MiB for each channel, and
			// the bastion one towards the target.
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > n*8<<20 {
				t.Errorf("%d channels that nobody reads hold %d MiB", n, grown>>20)
			}
			_, err = h.broker.Revoke(t.Context(), h.people["bob"].caller, r.Request.ID, "enough")
			check(t, err)
			began := time.Now()
			for _, s := range h.closed(n) {
				if s.EndReason != "revoked" || s.Recording.SHA256 == "" {
					t.Errorf("got %+v", s)
				}
			}
			t.Logf("closed %v after the revocation", time.Since(began).Round(time.Millisecond))
		})
	}
}

// FuzzVersion: whatever a client says of itself, what is offered to it is a
// choice of ours, and what is shown of it is one clean line.
func FuzzVersion(f *testing.F) {
	for _, s := range []string{"", "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10", "SSH-2.0-OpenSSH_for_Windows_9.5", "SSH-2.0-Go", "SSH-2.0-PuTTY_Release_0.78", "SSH-2.0-\x1b[2J", "SSH-2.0-OpenSSH_999999999999.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := algorithms(s)
		if len(c.Ciphers) == 0 || len(c.Ciphers) > len(allCiphers) || len(c.KeyExchanges) != len(keyExchanges) {
			t.Errorf("%q is offered %v, %v", s, c.Ciphers, c.KeyExchanges)
		}
		if len(c.Ciphers) == len(gcmCiphers) && !strings.HasPrefix(s, "SSH-2.0-") {
			t.Errorf("%q is said to know AES-GCM", s)
		}
		shown := line("%s", clean(s))
		if strings.Count(shown, "\n") != 1 || len(shown) > maxLine+32 || strings.ContainsAny(shown, "\x1b\x00\r") {
			t.Errorf("%q is shown as %q", s, shown)
		}
	})
}

// FuzzPeek: the line that is read ahead is what the next reads give, however
// the bytes come.
func FuzzPeek(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\nmore"), 3)
	f.Add([]byte(""), 1)
	f.Add(bytes.Repeat([]byte("x"), 600), 200)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		if step < 1 || len(b) > 4096 {
			return
		}
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			for i := 0; i < len(b); i += min(step, len(b)-i) {
				if _, err := there.Write(b[i:min(i+step, len(b))]); err != nil {
					return
				}
			}
		}()
		c := newConn(t.Context(), here, time.Hour)
		defer c.Close()
		version := c.peekVersion(time.Second)
		if len(version) > maxVersion || strings.Contains(version, "\n") {
			t.Fatalf("a version of %d bytes", len(version))
		}
		got, _ := io.ReadAll(c)
		if !bytes.Equal(got, b) {
			t.Fatalf("%d bytes became %d", len(b), len(got))
		}
	})
}
