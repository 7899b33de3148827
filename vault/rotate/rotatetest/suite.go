// Package rotatetest is the suite that every kind of rotator passes, on the real
// system, with a proxy between that breaks connections where it hurts.
package rotatetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/overssh"
)

// A Subject is one kind of rotator, with an account to try it on.
type Subject struct {
	Address string // of the system
	// New returns a rotator of the account that reaches the system at the address.
	New func(address string) rotate.Rotator
	// Reset is New of one that sets the password by another account. nil: New is.
	Reset func(address string) rotate.Rotator
	First string // the password that it has
	// Change changes the password behind our back.
	Change func(password string) error
	// Refused is a password that the system refuses to set; "": there is none.
	Refused string
	Rules   rotate.Rules
	Grace   time.Duration
	// Make makes another secret where it is no password. nil: passwords.
	Make func() (vault.Secret, error)
}

// another is a secret that the account never had. A password is the one given.
func (s Subject) another(t *testing.T, password string) string {
	t.Helper()
	if s.Make == nil {
		return password
	}
	made, err := s.Make()
	if err != nil {
		t.Fatal(err)
	}
	return string(made.Expose())
}

// hostile are passwords that trip over quoting somewhere. Every kind takes them as they
// are.
var hostile = []string{`It's "quoted" \ and %s $(id) ; -- 9`, "Größe-Пароль-1!a", `{SSHA}not-a-hash-9A`, "-Starts-with-a-dash-1", "UPPER lower 12 #"}

// Run runs the suite. Each test has the account in the state in which the one before left it.
func Run(t *testing.T, s Subject) {
	r := s.New(s.Address)
	current := s.First
	set := func(t *testing.T, password string) {
		t.Helper()
		if err := r.Set(t.Context(), secret(current), secret(password)); err != nil {
			t.Fatalf("set: %v", err)
		}
		current = password
	}
	t.Run("set and check", func(t *testing.T) {
		accepted(t, r, current)
		before := current
		set(t, s.another(t, "Another-Passw0rd-of-ours"))
		accepted(t, r, current)
		if s.Grace == 0 {
			wrong(t, r, before)
		}
		wrong(t, r, s.another(t, "never was one-1A"))
	})
	t.Run("hostile passwords", func(t *testing.T) {
		if s.Make != nil {
			return // no system sees them
		}
		for _, p := range hostile {
			set(t, p)
			accepted(t, r, p)
		}
	})
	t.Run("refused", func(t *testing.T) {
		if s.Refused == "" {
			return // the system takes what it is given
		}
		var no *rotate.Refusal
		err := r.Set(t.Context(), secret(current), secret(s.Refused))
		if !errors.As(err, &no) || strings.Contains(err.Error(), s.Refused) {
			t.Errorf("set what the system refuses: %v", err)
		}
		accepted(t, r, current)
	})
	t.Run("unreachable", func(t *testing.T) {
		down := s.New(nowhere(t))
		if err := down.Check(t.Context(), secret(current)); !errors.Is(err, rotate.ErrUnreachable) {
			t.Errorf("check: %v", err)
		}
		if err := down.Set(t.Context(), secret(current), secret(s.another(t, "x-Y-1-unused-password"))); !errors.Is(err, rotate.ErrUnreachable) {
			t.Errorf("set: %v", err)
		}
	})
	t.Run("gives up", func(t *testing.T) {
		deaf := s.New(silent(t))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := deaf.Check(ctx, secret(current)); err == nil || errors.Is(err, rotate.ErrWrong) {
			t.Errorf("check of one that says nothing: %v", err)
		}
		if err := deaf.Set(ctx, secret(current), secret(s.another(t, "x-Y-1-unused-password"))); err == nil {
			t.Error("set at one that says nothing")
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
	})
	book := &memory{}
	direct := account(t, s, s.Address, book)
	t.Run("rotate", func(t *testing.T) {
		if err := direct.Adopt(t.Context(), secret(current)); err != nil {
			t.Fatal(err)
		}
		if report, err := direct.Rotate(t.Context()); err != nil || !report.Changed || book.current() == current {
			t.Fatalf("%+v, %v", report, err)
		}
		accepted(t, r, book.current())
	})
	t.Run("broken connections", func(t *testing.T) { broken(t, s, direct, book) })
	t.Run("changed by others", func(t *testing.T) {
		rest(t, direct, book, s, "before")
		if err := s.Change(s.another(t, "Somebody-Else-Did-1")); err != nil {
			t.Fatal(err)
		}
		report, err := direct.Verify(t.Context())
		if s.Grace > 0 && err == nil && !report.Drift {
			return // it accepts the one before still, and nobody can tell
		}
		if err != nil || !report.Drift || !report.Changed {
			t.Errorf("%+v, %v", report, err)
		}
		accepted(t, r, book.current())
	})
}

// broken cuts the connection of a rotation at each of the first chunks that are sent to
// the system, and that it sends, and at every few after these, until a rotation comes
// through whole. After each the password in force is found.
func broken(t *testing.T, s Subject, direct *rotate.Account, book *memory) {
	for _, way := range []string{"to the system", "from the system"} {
		for n := 1; ; n += 1 + n/6 {
			p := newProxy(t, s.Address)
			a := account(t, s, p.address, book)
			p.cut(way, n)
			_, err := a.Rotate(t.Context())
			cut := p.mend()
			rest(t, direct, book, s, fmt.Sprintf("cut %s, %d: %v", way, n, err))
			if e, _, _ := book.Load(t.Context()); e.Candidate != nil {
				t.Fatalf("cut %s, %d: a change is pending still", way, n)
			}
			if !cut {
				if n < 3 {
					t.Errorf("%s: only %d chunks", way, n)
				}
				break
			}
			if n > 200 {
				t.Fatalf("%s: it does not end", way)
			}
		}
	}
}

// rest brings the account to rest, with the password in force as the current one. A busy
// system may make a change long after the connection broke, which is then a drift: the
// book that has seen the broken change knows its password.
func rest(t *testing.T, a *rotate.Account, book *memory, s Subject, name string) {
	t.Helper()
	for try := 0; ; try++ {
		_, err := a.Verify(t.Context())
		if err == nil {
			if err = s.New(s.Address).Check(t.Context(), secret(book.current())); err == nil {
				return
			}
		}
		if try == 600 { // a minute
			t.Fatalf("%s: it does not come to rest: %v", name, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Over runs commands as a user of the SSH server at address, as a broker does.
func Over(address, user string, auth ssh.AuthMethod, host ssh.PublicKey) overssh.Runner {
	return func(ctx context.Context, command string, input []byte) ([]byte, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, errors.Join(rotate.ErrUnreachable, err)
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		c, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: ssh.FixedHostKey(host)})
		if err != nil {
			return nil, errors.Join(rotate.ErrUnreachable, err)
		}
		client := ssh.NewClient(c, channels, requests)
		defer client.Close()
		session, err := client.NewSession()
		if err != nil {
			return nil, errors.Join(rotate.ErrUnreachable, err)
		}
		session.Stdin = bytes.NewReader(input)
		return session.Output(command)
	}
}

// To dials an address.
func To(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", address) }
}

func secret(s string) vault.Secret { return vault.NewSecret([]byte(s)) }

func accepted(t *testing.T, r rotate.Rotator, password string) {
	t.Helper()
	if err := r.Check(t.Context(), secret(password)); err != nil {
		t.Fatalf("the password in force: %v", err)
	}
}

func wrong(t *testing.T, r rotate.Rotator, password string) {
	t.Helper()
	if err := r.Check(t.Context(), secret(password)); !errors.Is(err, rotate.ErrWrong) {
		t.Fatalf("a wrong password: %v", err)
	}
}

// account is the account of the book, at the address.
func account(t *testing.T, s Subject, address string, book *memory) *rotate.Account {
	t.Helper()
	reset := s.New
	if s.Reset != nil {
		reset = s.Reset
	}
	a, err := rotate.New(rotate.Config{Book: book, Rotator: s.New(address), Reset: reset(address), Rules: s.Rules, Make: s.Make, Failures: 50, Owner: "test", Grace: s.Grace, Late: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// memory is a Book that forgets.
type memory struct {
	mu      sync.Mutex
	entry   rotate.Entry
	version uint64
}

func (m *memory) Load(context.Context) (rotate.Entry, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entry, m.version, nil
}

func (m *memory) Save(_ context.Context, e rotate.Entry, version uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if version != m.version {
		return 0, rotate.ErrFenced
	}
	m.entry, m.version = e, version+1
	return m.version, nil
}

func (m *memory) current() string { return string(m.entry.Current.Secret.Expose()) }

// nowhere is an address at which nobody listens.
func nowhere(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// silent is an address that takes connections and says nothing.
func silent(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			c.Close()
		}
	})
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
		}
	}()
	return l.Addr().String()
}

// A proxy stands between a rotator and the system.
type proxy struct {
	address string
	mu      sync.Mutex
	way     string
	left    int // chunks of that way until the cut; 0: none
	was     bool
	conns   []net.Conn
}

func newProxy(t *testing.T, system string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: l.Addr().String()}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		p.drop()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", system)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			serving.Go(func() { p.carry("to the system", out, in) })
			serving.Go(func() { p.carry("from the system", in, out) })
		}
	})
	return p
}

// carry sends on what comes, chunk by chunk. At the cut all connections end, and what
// came last is not sent on.
func (p *proxy) carry(way string, to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && p.cuts(way) {
			p.drop()
			return
		}
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) cuts(way string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if way != p.way || p.left == 0 {
		return false
	}
	p.left--
	p.was = p.left == 0
	return p.was
}

func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// cut has the connection cut at the n-th chunk from now on.
func (p *proxy) cut(way string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.way, p.left, p.was = way, n, false
}

// mend ends that, and reports whether anything was cut.
func (p *proxy) mend() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = 0
	return p.was
}
