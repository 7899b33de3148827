//go:build linux

package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/web/api"
)

// from dials as another address of this machine.
func from(t testing.TB, ip, to string) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	return d.Dial("tcp", to)
}

// A crowd is connections that are held open until the end of an attack.
type crowd struct {
	mu   sync.Mutex
	list []io.Closer
}

func (c *crowd) add(x io.Closer) {
	c.mu.Lock()
	c.list = append(c.list, x)
	c.mu.Unlock()
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.list {
		x.Close()
	}
}

// besieged runs an attack for d while somebody else does good work, and tells
// how that went. Everything that the attack has added to its crowd is closed.
func besieged(t *testing.T, x *site, d time.Duration, good func() error, attack func(context.Context, *crowd)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	late, stop := sluggish()
	defer stop()
	c := &crowd{}
	var wg sync.WaitGroup
	wg.Go(func() { attack(ctx, c) })
	var took []time.Duration
	most := 0.0
	for ctx.Err() == nil || len(took) < 5 {
		began := time.Now()
		if err := good(); err != nil {
			t.Errorf("good work during the attack: %v", err)
		}
		took = append(took, time.Since(began))
		most = max(most, x.metric("process_resident_memory_bytes"))
		if !x.alive() {
			t.Fatal("the server has ended")
		}
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	c.leave()
	wg.Wait()
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("good work: %d times, p50 %v, p99 %v; at most %.0f MiB", len(took), took[len(took)/2].Round(time.Millisecond), p99.Round(time.Millisecond), most/(1<<20))
	if p99 > 2*time.Second+10*late() {
		t.Errorf("good work took %v at p99", p99)
	}
	if most > 512<<20 {
		t.Errorf("the server took %.0f MiB", most/(1<<20))
	}
}

// rested checks that all that an attack took is given back. The database may
// keep some more connections, of two or three files each.
func rested(t *testing.T, x *site, routines, fds float64) {
	t.Helper()
	var r, f float64
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		r, f = x.metric("go_goroutines"), x.metric("process_open_fds")
		if r <= routines+15 && f <= fds+30 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%v goroutines and %v files are left; before there were %v and %v", r, f, routines, fds)
			return
		}
	}
}

// openChannel opens a channel, or fails when the connection has ended: the
// client's own way of asking can then wait for ever.
func openChannel(c *ssh.Client, kind string, payload []byte) (ssh.Channel, error) {
	answered, over := make(chan error, 1), make(chan struct{})
	var ch ssh.Channel
	go func() {
		opened, reqs, err := c.OpenChannel(kind, payload)
		if err == nil {
			ch = opened
			go ssh.DiscardRequests(reqs)
		}
		answered <- err
	}()
	go func() { _ = c.Wait(); close(over) }()
	select {
	case err := <-answered:
		return ch, err
	case <-over:
		return nil, io.EOF
	}
}

// TestHostileSSH attacks the SSH port, before and after a login, while somebody
// else logs in and works.
func TestHostileSSH(t *testing.T) {
	x := newSite(t, "", "ssh: {hold_timeout: 20s}\n", 10)
	mallory := x.person("mallory", "engineers")
	_, err := grant(t.Context(), x.alice, x.bob, "acct00", "db01", time.Hour)
	must(t, err)
	_, err = grant(t.Context(), mallory, x.bob, "acct01", "db01", time.Hour)
	must(t, err)
	good := func() error {
		c, err := x.dial(x.alice, "acct00+db01", "127.0.0.2")
		if err != nil {
			return err
		}
		defer c.Close()
		s, err := c.NewSession()
		if err != nil {
			return err
		}
		return s.Run("true")
	}
	for range 3 {
		must(t, good())
	}
	x.http.CloseIdleConnections()
	time.Sleep(300 * time.Millisecond)
	routines, fds := x.metric("go_goroutines"), x.metric("process_open_fds")

	// They say their version and then nothing; the server is to end them.
	var cut atomic.Int64
	var silent sync.WaitGroup
	began := time.Now()
	for range 40 {
		c, err := from(t, "127.0.9.1", x.ssh)
		must(t, err)
		fmt.Fprint(c, "SSH-2.0-x\r\n")
		silent.Go(func() {
			defer c.Close()
			_ = c.SetReadDeadline(began.Add(60 * time.Second))
			if _, err := io.Copy(io.Discard, c); err == nil || !isTimeout(err) {
				cut.Store(max(cut.Load(), int64(time.Since(began))))
			} else {
				t.Error("a connection that never proves anybody is not ended")
			}
		})
	}

	const d = 2 * time.Second
	t.Run("half open", func(t *testing.T) {
		besieged(t, x, d, good, func(_ context.Context, crowd *crowd) {
			for i := range 500 {
				if c, err := from(t, fmt.Sprintf("127.0.1.%d", 1+i%10), x.ssh); err == nil {
					crowd.add(c)
					fmt.Fprint(c, "SSH-2.0-x\r\n")
				}
			}
		})
	})
	t.Run("one byte a second", func(t *testing.T) {
		besieged(t, x, d, good, func(ctx context.Context, crowd *crowd) {
			var list []net.Conn
			for i := range 160 {
				if c, err := from(t, fmt.Sprintf("127.0.2.%d", 1+i%4), x.ssh); err == nil {
					crowd.add(c)
					list = append(list, c)
				}
			}
			for i := 0; ctx.Err() == nil; i++ {
				for _, c := range list {
					_, _ = c.Write([]byte{"SSH-2.0-slow\r\n"[i%14]})
				}
				time.Sleep(time.Second)
			}
		})
	})
	t.Run("garbage", func(t *testing.T) {
		besieged(t, x, d, good, func(ctx context.Context, crowd *crowd) {
			for i := 0; ctx.Err() == nil; i++ {
				c, err := from(t, fmt.Sprintf("127.0.3.%d", 1+i%200), x.ssh)
				if err != nil {
					continue
				}
				b := make([]byte, 4096)
				_, _ = rand.Read(b)
				switch i % 4 {
				case 0: // a packet of 4 GiB
					binary.BigEndian.PutUint32(b, 1<<32-1)
				case 1: // an empty one
					binary.BigEndian.PutUint32(b, 0)
				case 2: // padding longer than the packet
					binary.BigEndian.PutUint32(b, 12)
					b[4] = 255
				}
				if i%8 < 4 {
					fmt.Fprint(c, "SSH-2.0-x\r\n")
				}
				_, _ = c.Write(b)
				if i%2 == 0 {
					c.Close()
				} else {
					crowd.add(c)
				}
				time.Sleep(time.Millisecond)
			}
		})
	})
	t.Run("wrong keys", func(t *testing.T) {
		besieged(t, x, d, good, func(ctx context.Context, _ *crowd) {
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						c, err := from(t, fmt.Sprintf("127.0.4.%d", 1+(i*25+n)%200), x.ssh)
						if err != nil {
							continue
						}
						if c, err := clientOn(c, &person{key: newKey(t)}, "acct00+db01"); err == nil {
							c.Close()
							t.Error("an unknown key was let in")
						}
					}
				})
			}
			wg.Wait()
		})
	})
	t.Run("channels", func(t *testing.T) {
		besieged(t, x, d, good, func(ctx context.Context, crowd *crowd) {
			for ctx.Err() == nil {
				c, err := x.dial(mallory, "acct01+db01", "127.0.5.1")
				if err != nil {
					t.Errorf("mallory: %v", err)
					return
				}
				crowd.add(c)
				var opened atomic.Int64
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						for range 100 {
							_, err := openChannel(c, "session", nil)
							if err != nil {
								if _, refused := err.(*ssh.OpenChannelError); refused {
									continue
								}
								return // the connection was ended
							}
							opened.Add(1)
						}
					})
				}
				wg.Wait()
				if n := opened.Load(); n > 10 {
					t.Errorf("%d channels were opened in one connection", n)
				}
				if err := c.Wait(); err == nil {
					t.Error("the connection ended without an error")
				}
			}
		})
	})
	t.Run("other channels", func(t *testing.T) {
		besieged(t, x, d, good, func(ctx context.Context, crowd *crowd) {
			kinds := []string{"direct-tcpip", "forwarded-tcpip", "x11", "auth-agent@openssh.com", "tun@openssh.com", "direct-streamlocal@openssh.com", "", strings.Repeat("x", 30000)}
			for i := 0; ctx.Err() == nil; i++ {
				c, err := x.dial(mallory, "acct01+db01", "127.0.5.2")
				if err != nil {
					t.Errorf("mallory: %v", err)
					return
				}
				for range 100 {
					ch, err := openChannel(c, kinds[i%len(kinds)], ssh.Marshal(struct {
						Host string
						Port uint32
						From string
						P    uint32
					}{"127.0.0.1", 22, "127.0.0.1", 1}))
					if err == nil {
						ch.Close()
						t.Errorf("a channel %q was opened", kinds[i%len(kinds)])
					} else if err == io.EOF {
						break // it was ended, as it should be
					}
				}
				c.Close()
			}
		})
	})
	t.Run("requests of a channel", func(t *testing.T) {
		huge := strings.Repeat("A", 200<<10)
		besieged(t, x, d, good, func(ctx context.Context, crowd *crowd) {
			attacks := []func(ch ssh.Channel){
				func(ch ssh.Channel) {
					for range 20000 {
						if _, err := ch.SendRequest("window-change", false, ssh.Marshal(struct{ Columns, Rows, Width, Height uint32 }{1 << 31, 1 << 31, 0, 0})); err != nil {
							return
						}
					}
				},
				func(ch ssh.Channel) {
					for range 200 {
						if _, err := ch.SendRequest("env", true, ssh.Marshal(struct{ N, V string }{"LC_" + huge[:1000], huge})); err != nil {
							return
						}
					}
				},
				func(ch ssh.Channel) {
					for _, kind := range []string{"exec", "pty-req", "subsystem", "signal", "env", "shell", "x11-req", "auth-agent-req@openssh.com", "eow@openssh.com", "break", "\x00"} {
						for _, payload := range [][]byte{nil, {0}, {0xff, 0xff, 0xff, 0xff}, []byte(huge), append([]byte{0, 0, 0, 1}, 'x', 'y')} {
							if _, err := ch.SendRequest(kind, true, payload); err != nil {
								return
							}
						}
					}
				},
				func(ch ssh.Channel) {
					for range 20000 {
						if _, err := ch.SendRequest("keepalive@openssh.com", true, nil); err != nil {
							return
						}
					}
				},
			}
			for i := 0; ctx.Err() == nil; i++ {
				c, err := x.dial(mallory, "acct01+db01", "127.0.5.3")
				if err != nil {
					t.Errorf("mallory: %v", err)
					return
				}
				crowd.add(c)
				ch, err := openChannel(c, "session", nil)
				if err == nil {
					if i%8 >= 4 {
						_, _ = ch.SendRequest("shell", true, nil)
					}
					attacks[i%4](ch)
				}
				c.Close()
			}
		})
	})
	t.Run("global requests", func(t *testing.T) {
		besieged(t, x, d, good, func(ctx context.Context, crowd *crowd) {
			names := []string{"tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com", "hostkeys-prove-00@openssh.com", "x", ""}
			for i := 0; ctx.Err() == nil; i++ {
				c, err := x.dial(mallory, "acct01+db01", "127.0.5.4")
				if err != nil {
					t.Errorf("mallory: %v", err)
					return
				}
				crowd.add(c)
				for range 2000 {
					ok, _, err := c.SendRequest(names[i%len(names)], true, ssh.Marshal(struct {
						Host string
						Port uint32
					}{"0.0.0.0", 0}))
					if ok {
						t.Errorf("%q was granted", names[i%len(names)])
					}
					if err != nil {
						break
					}
				}
				c.Close()
			}
		})
	})
	t.Run("never reads", func(t *testing.T) {
		besieged(t, x, d, good, func(ctx context.Context, crowd *crowd) {
			var wg sync.WaitGroup
			for range 15 {
				c, err := x.dial(mallory, "acct01+db01", "127.0.5.5")
				if err != nil {
					t.Errorf("mallory: %v", err)
					return
				}
				crowd.add(c)
				s, err := c.NewSession()
				if err != nil {
					t.Errorf("mallory: %v", err)
					return
				}
				in, _ := s.StdinPipe()
				_, _ = s.StdoutPipe() // which nobody reads
				if err := s.Shell(); err != nil {
					t.Errorf("mallory: %v", err)
					return
				}
				wg.Go(func() {
					b := bytes.Repeat([]byte("x"), 32<<10)
					for ctx.Err() == nil {
						if _, err := in.Write(b); err != nil {
							return
						}
						time.Sleep(20 * time.Millisecond)
					}
				})
			}
			<-ctx.Done()
			crowd.leave()
			wg.Wait()
		})
	})
	t.Run("questions and answers", func(t *testing.T) {
		besieged(t, x, 2*d, good, func(ctx context.Context, crowd *crowd) {
			// A key of a person without a grant is asked for a reason, and waits.
			answers := []string{strings.Repeat("a", 200<<10), "", "\x1b[2J\x00", "\u202eevil", "INC-1 a good reason"}
			var wg sync.WaitGroup
			for i := range 130 {
				tcp, err := from(t, fmt.Sprintf("127.0.6.%d", 1+i%5), x.ssh)
				if err != nil {
					continue
				}
				crowd.add(tcp)
				wg.Go(func() {
					n := 0
					_, _, _, err := ssh.NewClientConn(tcp, "", &ssh.ClientConfig{
						User: "acct02+db01", HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second,
						Auth: []ssh.AuthMethod{ssh.PublicKeys(mallory.key), ssh.RetryableAuthMethod(ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
							if n++; n > 100 {
								return nil, io.EOF
							}
							out := make([]string, len(q))
							for j := range out {
								out[j] = answers[i%len(answers)]
							}
							return out, nil
						}), 0)},
					})
					if err == nil {
						t.Error("let in without a grant")
					}
					if n > 8 {
						t.Errorf("the server has asked %d times in one connection", n)
					}
				})
			}
			<-ctx.Done()
			crowd.leave()
			wg.Wait()
		})
	})
	silent.Wait()
	t.Logf("silent connections were all ended %v after they came", time.Duration(cut.Load()).Round(time.Second))
	if d := time.Duration(cut.Load()); d > 50*time.Second {
		t.Errorf("silent connections were ended only after %v", d)
	}
	x.http.CloseIdleConnections()
	rested(t, x, routines, fds)
	must(t, good())
	eventually(t, time.Minute, "all sessions of the attack are closed", func() bool {
		l, err := x.carol.Sessions(t.Context(), api.SessionFilter{Live: true})
		return err == nil && len(l.Items) == 0
	})
	x.exported(x.carol)
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

// TestHostileHTTP holds the web port with connections that say little or
// nothing, while somebody else works.
func TestHostileHTTP(t *testing.T) {
	x := newSite(t, "", "", 1)
	address := strings.TrimPrefix(x.url, "https://")
	elsewhere := x.httpFrom("127.0.0.2")
	good := func() error {
		c := *x.alice.Client
		c.HTTP = elsewhere
		elsewhere.CloseIdleConnections() // each time a new connection
		_, err := c.Me(context.Background())
		return err
	}
	must(t, good())
	x.http.CloseIdleConnections()
	elsewhere.CloseIdleConnections()
	time.Sleep(300 * time.Millisecond)
	routines, fds := x.metric("go_goroutines"), x.metric("process_open_fds")
	secure := func(ip string) (net.Conn, error) {
		tcp, err := from(t, ip, address)
		if err != nil {
			return nil, err
		}
		_ = tcp.SetDeadline(time.Now().Add(2 * time.Minute))
		c := tls.Client(tcp, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if err := c.Handshake(); err != nil {
			tcp.Close()
			return nil, err
		}
		return c, nil
	}
	var cut [3]atomic.Int64
	// drip sends a byte now and then until the server ends the connection.
	drip := func(ctx context.Context, kind int, c net.Conn, text string) {
		defer c.Close()
		began := time.Now()
		go func() {
			for i := 0; ctx.Err() == nil; i++ {
				if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		_ = c.SetReadDeadline(began.Add(time.Minute))
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Errorf("a slow connection of kind %d is not ended", kind)
		}
		for d := int64(time.Since(began)); ; {
			if old := cut[kind].Load(); d <= old || cut[kind].CompareAndSwap(old, d) {
				return
			}
		}
	}
	besieged(t, x, 4*time.Second, good, func(_ context.Context, _ *crowd) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var wg sync.WaitGroup
		for i := range 1000 {
			ip := fmt.Sprintf("127.0.1.%d", 1+i%20)
			switch {
			case i%10 < 4: // a TLS handshake that does not come
				if c, err := from(t, ip, address); err == nil {
					wg.Go(func() { drip(ctx, 0, c, "\x16\x03\x01\x7f\xff") })
				}
			case i%10 < 8: // headers without an end
				if c, err := secure(ip); err == nil {
					fmt.Fprintf(c, "GET /login HTTP/1.1\r\nHost: %s\r\n", address)
					wg.Go(func() { drip(ctx, 1, c, "X: y\r\n") })
				}
			default: // a body that does not come
				if c, err := secure(ip); err == nil {
					fmt.Fprintf(c, "POST /v1/login HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n", address)
					wg.Go(func() { drip(ctx, 2, c, " ") })
				}
			}
		}
		wg.Wait()
	})
	for i, name := range []string{"handshakes", "headers", "bodies"} {
		d := time.Duration(cut[i].Load())
		t.Logf("slow %s were ended after %v", name, d.Round(100*time.Millisecond))
		if d == 0 || d > 50*time.Second {
			t.Errorf("slow %s were ended after %v", name, d)
		}
	}
	x.http.CloseIdleConnections()
	elsewhere.CloseIdleConnections()
	rested(t, x, routines, fds)
}

// raw sends a request as it stands and returns the status line and the rest.
func (s *server) raw(ip, request string) (status int, answer string) {
	s.t.Helper()
	address := strings.TrimPrefix(s.url, "https://")
	tcp, err := from(s.t, ip, address)
	must(s.t, err)
	defer tcp.Close()
	_ = tcp.SetDeadline(time.Now().Add(time.Minute))
	c := tls.Client(tcp, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	go func() { _, _ = io.WriteString(c, request) }()
	b, _ := io.ReadAll(io.LimitReader(bufio.NewReader(c), 1<<20))
	answer = string(b)
	_, _ = fmt.Sscanf(answer, "HTTP/1.1 %d", &status)
	return status, answer
}
