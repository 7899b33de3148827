//go:build linux

package test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/vault/sshca"
	"github.com/drawbolt/drawbolt/web/api"
)

// The harness of the tests that crash and attack the real server: it is built
// once, set up with init, run with serve, and spoken to from outside only.

// binaries are the built programs; they are removed when the test process ends,
// however it ends.
type binaries struct {
	dir   string
	guard *os.File // its end is theirs
}

var programs = sync.OnceValues(buildPrograms)

func buildPrograms() (*binaries, error) {
	if dir := os.Getenv("DRAWBOLT_BIN"); dir != "" {
		dir, err := filepath.Abs(dir)
		return &binaries{dir: dir}, err
	}
	dir, err := os.MkdirTemp("", "drawbolt-bin-")
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	guard := exec.Command("/bin/sh", "-c", `cat >/dev/null; rm -rf "$1"`, "guard", dir)
	guard.Stdin, guard.SysProcAttr = r, &syscall.SysProcAttr{Setsid: true}
	if err := guard.Start(); err != nil {
		return nil, err
	}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/drawbolt", "./cmd/drawboltd")
	build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return &binaries{dir, w}, nil
}

// A server is one installation and, while it runs, its process.
type server struct {
	t        testing.TB
	dir      string // of the installation
	config   string
	url      string
	ssh      string // address
	metrics  string // address
	log      string // file
	database string // URL
	program  string
	verifier note.Verifier
	verKey   string // the text of verifier
	setup    string // the first administrator's token
	http     *http.Client
	people   map[string]*person
	as       *syscall.Credential // who it runs as; nil: who the test runs as

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

// A person is somebody with a login and an SSH key.
type person struct {
	*api.Client
	name     string
	password string
	key      ssh.Signer
}

// install sets a server up with init and starts it. database is a URL, or empty
// for SQLite. more is added to its configuration.
func install(t testing.TB, database, more string) *server {
	t.Helper()
	return installIn(t, t.TempDir(), database, more)
}

func installIn(t testing.TB, dir, database, more string) *server {
	t.Helper()
	s := prepare(t, dir, database, more)
	s.init()
	return s
}

// init sets up what was prepared, starts it and makes the first administrator.
func (s *server) init() {
	t := s.t
	t.Helper()
	out, err := exec.Command(s.program, "init", "--unattended", "--config", s.config).CombinedOutput()
	if err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	token := regexp.MustCompile(`/setup\?token=(\S+)`).FindSubmatch(out)
	key := regexp.MustCompile(`audit log key +(\S+)`).FindSubmatch(out)
	if token == nil || key == nil {
		t.Fatalf("init says nothing of a link and a key:\n%s", out)
	}
	s.setup, s.verKey = string(token[1]), string(key[1])
	s.verifier, err = note.NewVerifier(s.verKey)
	must(t, err)
	s.start()
	fingerprint, err := api.PeerFingerprint(t.Context(), s.url)
	must(t, err)
	s.http, err = api.NewHTTP(fingerprint)
	must(t, err)
	t.Cleanup(s.http.CloseIdleConnections)
	admin := &person{name: "admin", password: canary("password"), Client: s.client("")}
	must(t, admin.Setup(t.Context(), api.SetupInput{Token: s.setup, Password: admin.password}))
	s.people["admin"] = admin
	s.logIn(admin)
}

// prepare writes the configuration of a server in dir, on free ports.
func prepare(t testing.TB, dir, database, more string) *server {
	t.Helper()
	b, err := programs()
	must(t, err)
	ports := freePorts(t, 3)
	s := &server{
		t: t, dir: dir, config: filepath.Join(dir, "drawbolt.yaml"), log: filepath.Join(dir, "server.log"),
		url: "https://" + ports[0], ssh: ports[1], metrics: ports[2], database: database,
		program: filepath.Join(b.dir, "drawboltd"), people: map[string]*person{},
	}
	config := fmt.Sprintf("data: %s\nserver:\n  name: %s\n  external_url: %s\n  listen: {https: %q, ssh: %q, metrics: %q}\nrecordings: {min_free: 1MiB}\nlog: {format: json, level: info}\n",
		filepath.Join(dir, "data"), filepath.Base(dir), s.url, ports[0], ports[1], ports[2])
	if database != "" {
		config += "database: {url: " + strconv.Quote(database) + "}\n"
	}
	must(t, os.WriteFile(s.config, []byte(config+more), 0o600))
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			b, _ := os.ReadFile(s.log)
			t.Logf("the end of the server's log:\n%s", b[max(0, len(b)-6000):])
		}
	})
	return s
}

func freePorts(t testing.TB, n int) (list []string) {
	for range n {
		address, err := storyPort()
		must(t, err)
		list = append(list, address)
	}
	return list
}

// start starts the process and waits until it is ready; it returns how long
// that took.
func (s *server) start() time.Duration {
	s.t.Helper()
	began := time.Now()
	f, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(s.t, err)
	defer f.Close()
	cmd := exec.Command(s.program, "serve", "--config", s.config)
	cmd.Stderr = f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: s.as}
	must(s.t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	s.mu.Lock()
	s.cmd, s.ended = cmd, ended
	s.mu.Unlock()
	for ; ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get("http://" + s.metrics + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Since(began)
			}
		}
		select {
		case <-ended:
			s.t.Fatalf("the server ended at its start: %v", cmd.ProcessState)
		default:
		}
		if time.Since(began) > 2*time.Minute {
			s.t.Fatalf("the server is not ready after two minutes: %v", err)
		}
	}
}

// kill ends the process as kill -9 does, and returns when it has ended.
func (s *server) kill() { s.end(syscall.SIGKILL) }

// stop ends the process as an operator does.
func (s *server) stop() { s.end(syscall.SIGTERM) }

func (s *server) end(sig syscall.Signal) {
	s.mu.Lock()
	cmd, ended := s.cmd, s.ended
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig)
	select {
	case <-ended:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		<-ended
		s.t.Errorf("the server did not end within a minute of %v", sig)
	}
	if s.http != nil {
		s.http.CloseIdleConnections()
	}
}

// alive reports whether the process runs.
func (s *server) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return false
	}
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) client(token string) *api.Client {
	return &api.Client{Server: s.url, Token: token, HTTP: s.http, Timeout: time.Minute}
}

func (s *server) logIn(p *person) {
	s.t.Helper()
	l, err := p.Login(context.Background(), api.LoginInput{User: p.name, Password: p.password})
	must(s.t, err)
	p.Token = l.Token
}

// person makes somebody in these groups, with a password and a key.
func (s *server) person(name string, groups ...string) *person {
	s.t.Helper()
	ctx := context.Background()
	admin := s.people["admin"]
	p := &person{name: name, password: canary("password"), key: newKey(s.t), Client: s.client("")}
	_, err := admin.AddUser(ctx, api.UserInput{Name: name, Groups: groups})
	must(s.t, err)
	link, err := admin.SetupLink(ctx, name)
	must(s.t, err)
	u, err := url.Parse(link.URL)
	must(s.t, err)
	must(s.t, p.Setup(ctx, api.SetupInput{Token: u.Query().Get("token"), Password: p.password}))
	s.logIn(p)
	_, err = p.AddMyKey(ctx, api.KeyInput{Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p.key.PublicKey())))})
	must(s.t, err)
	s.people[name] = p
	return p
}

// canary makes a secret that can be found wherever it should not be.
func canary(kind string) string {
	b := make([]byte, 12)
	_, _ = rand.Read(b)
	return fmt.Sprintf("canary-%s-%x", kind, b)
}

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	must(t, err)
	return signer
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until something is so.
func eventually(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// sluggish measures, until stop, how late at most something runs that could run at
// once. What must be so within a second, where nothing else goes on, may take longer
// by some of that.
func sluggish() (most func() time.Duration, stop func()) {
	var late atomic.Int64
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		const pause = 5 * time.Millisecond
		for {
			began := time.Now()
			select {
			case <-over:
				return
			case <-time.After(pause):
				late.Store(max(late.Load(), int64(time.Since(began)-pause)))
			}
		}
	}()
	return func() time.Duration { return time.Duration(late.Load()) }, sync.OnceFunc(func() { close(over); <-ended })
}

// accounts are names of n accounts.
func accounts(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("acct%02d", i))
	}
	return list
}

// addTarget enrols a machine of tier 1, where the founding roles ask for one
// approver.
func (s *server) addTarget(name, address string, hostKey ssh.PublicKey, accounts ...string) {
	s.t.Helper()
	in := api.TargetInput{Name: name, Address: address, Labels: api.Labels{Tier: "1"}, HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(hostKey)))}}
	for _, a := range accounts {
		in.Accounts = append(in.Accounts, api.AccountInput{Name: a})
	}
	_, err := s.people["admin"].AddTarget(context.Background(), in)
	must(s.t, err)
}

func (s *server) userAuthority() ssh.PublicKey {
	s.t.Helper()
	a, err := s.client("").Authorities(context.Background())
	must(s.t, err)
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(a.User))
	must(s.t, err)
	return key
}

// grant asks, and approves when that is needed.
func grant(ctx context.Context, p, approver *person, account, target string, d time.Duration) (api.Request, error) {
	r, err := p.Request(ctx, api.RequestInput{Target: target, Account: account, DurationSeconds: int64(d / time.Second), Reason: "INC-1 " + canary("reason")})
	if err != nil || r.State == api.Approved {
		return r, err
	}
	return approver.Approve(ctx, r.ID, api.ApproveInput{Digest: r.Digest})
}

// dial logs in at the bastion. from is the address to come from; empty: any.
func (s *server) dial(p *person, login, from string) (*ssh.Client, error) {
	d := net.Dialer{Timeout: time.Minute}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	tcp, err := d.Dial("tcp", s.ssh)
	if err != nil {
		return nil, err
	}
	return clientOn(tcp, p, login)
}

func clientOn(tcp net.Conn, p *person, login string) (*ssh.Client, error) {
	_ = tcp.SetDeadline(time.Now().Add(time.Minute))
	conn, chans, reqs, err := ssh.NewClientConn(tcp, "bastion", &ssh.ClientConfig{
		User: login, Auth: []ssh.AuthMethod{ssh.PublicKeys(p.key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		tcp.Close()
		return nil, err
	}
	_ = tcp.SetDeadline(time.Time{})
	return ssh.NewClient(conn, chans, reqs), nil
}

// A shell is an interactive session at a target through the bastion.
type shell struct {
	client *ssh.Client
	in     io.WriteCloser
	out    *counter
	done   chan struct{} // closed when the session is over
}

type counter struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.Write(p)
}

func (c *counter) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.String()
}

func (s *server) shell(p *person, account, target string) (*shell, error) {
	client, err := s.dial(p, account+"+"+target, "")
	if err != nil {
		return nil, err
	}
	session, err := client.NewSession()
	if err != nil {
		client.Close()
		return nil, err
	}
	sh := &shell{client: client, out: &counter{}, done: make(chan struct{})}
	session.Stdout, session.Stderr = sh.out, sh.out
	if sh.in, err = session.StdinPipe(); err == nil {
		err = session.RequestPty("xterm", 24, 80, ssh.TerminalModes{})
	}
	if err == nil {
		err = session.Shell()
	}
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("%w: %s", err, sh.out)
	}
	go func() { _ = session.Wait(); close(sh.done) }()
	return sh, nil
}

// A target is an SSH server that trusts the user authority, writes down when it
// received what, and sends everything back.
type target struct {
	t       testing.TB
	name    string
	key     ssh.Signer
	checker sshca.Checker
	ln      net.Listener

	mute atomic.Bool // show nothing of what is typed, as for a password

	mu    sync.Mutex
	heard map[string]*heard // by session
}

// heard is what came in one session.
type heard struct {
	session, keyID string
	serial         uint64
	at             time.Time // of the login
	mu             sync.Mutex
	data           []byte
	last           time.Time // when the last byte came
}

func (h *heard) get() (string, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.data), h.last
}

func newTarget(t testing.TB, name string, authority ssh.PublicKey) *target {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	g := &target{t: t, name: name, key: newKey(t), ln: ln, heard: map[string]*heard{}, checker: sshca.Checker{
		Authorities: []ssh.PublicKey{authority}, Kind: sshca.User, Now: time.Now, Revoked: func(uint64) (bool, error) { return false, nil },
	}}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go g.serve(c)
		}
	}()
	return g
}

func (g *target) addr() string { return g.ln.Addr().String() }

func (g *target) serve(c net.Conn) {
	defer c.Close()
	config := &ssh.ServerConfig{PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		cert, ok := key.(*ssh.Certificate)
		if !ok {
			return nil, errors.New("no certificate")
		}
		if err := g.checker.Check(cert, meta.User()+"@"+g.name); err != nil {
			return nil, err
		}
		return &ssh.Permissions{ExtraData: map[any]any{"cert": cert}}, nil
	}}
	config.AddHostKey(g.key)
	conn, chans, reqs, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	cert := conn.Permissions.ExtraData["cert"].(*ssh.Certificate)
	words := strings.Fields(cert.KeyId)
	h := &heard{session: words[len(words)-1], keyID: cert.KeyId, serial: cert.Serial, at: time.Now()}
	g.mu.Lock()
	if g.heard[h.session] != nil {
		g.t.Errorf("two logins at the target for %s", h.session)
	}
	g.heard[h.session] = h
	g.mu.Unlock()
	for nc := range chans {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range reqs {
				_ = r.Reply(true, nil)
			}
		}()
		go func() {
			defer ch.Close()
			buf := make([]byte, 32<<10)
			for {
				n, err := ch.Read(buf)
				h.mu.Lock()
				h.data = append(h.data, buf[:n]...)
				if n > 0 {
					h.last = time.Now()
				}
				h.mu.Unlock()
				if err == nil && !g.mute.Load() {
					_, err = ch.Write(buf[:n])
				}
				if err != nil {
					break
				}
			}
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
		}()
	}
}

// sessions is what was heard, by session.
func (g *target) sessions() []*heard {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []*heard
	for _, h := range g.heard {
		list = append(list, h)
	}
	return list
}

// exported exports the audit log, verifies it, and returns its events.
func (s *server) exported(auditor *person) []audit.Event {
	s.t.Helper()
	r, err := auditor.ExportAudit(context.Background())
	must(s.t, err)
	defer r.Close()
	all, err := io.ReadAll(r)
	must(s.t, err)
	res, err := audit.Verify(bytes.NewReader(all), s.verifier)
	if err != nil || !res.Verified {
		s.t.Fatalf("the audit export does not verify: %v %s", err, res.Problem)
	}
	var events []audit.Event
	for line := range strings.Lines(string(all)) {
		rest, ok := strings.CutPrefix(line, "event ")
		if !ok {
			continue
		}
		_, leaf, _ := strings.Cut(strings.TrimSuffix(rest, "\n"), " ")
		e, err := audit.Parse([]byte(leaf))
		must(s.t, err)
		events = append(events, e)
	}
	return events
}

// recorded fetches the recording of a session, verifies it, and returns what
// was typed in it. What was typed unseen is put back to where it was.
func (s *server) recorded(auditor *person, id string, hidden []string) (input string, aborted bool, err error) {
	r, err := auditor.Recording(context.Background(), id, "cast")
	for ; err != nil && api.AsProblem(err) != nil && api.AsProblem(err).Status == http.StatusTooManyRequests; time.Sleep(100 * time.Millisecond) {
		r, err = auditor.Recording(context.Background(), id, "cast")
	}
	if err != nil {
		return "", false, err
	}
	defer r.Close()
	all, err := io.ReadAll(r)
	if err != nil {
		return "", false, err
	}
	report, err := cast.Verify(bytes.NewReader(all), note.VerifierList(s.verifier))
	if err != nil {
		return "", false, err
	}
	if report.Seal.ID != id {
		return "", false, fmt.Errorf("the recording of %s is that of %s", id, report.Seal.ID)
	}
	c, err := cast.NewReader(bytes.NewReader(all))
	if err != nil {
		return "", false, err
	}
	var typed strings.Builder
	for {
		e, err := c.Next()
		if err == io.EOF {
			return typed.String(), report.Seal.Aborted, nil
		}
		if err != nil {
			return "", false, err
		}
		switch {
		case e.Stream == cast.Input:
			typed.Write(e.Data)
		case e.Stream == cast.Hidden && len(hidden) > 0:
			typed.WriteString(hidden[0])
			hidden = hidden[1:]
		}
	}
}

// hidden returns what was typed unseen in the sessions, in its order.
func (s *server) hidden(sessions []string) map[string][]string {
	args := append([]string{"hidden", "--config", s.config, "--reason", "a test"}, sessions...)
	out, _ := exec.Command(s.program, args...).Output() // fails for those that have none
	keys := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		var id, at, text string
		if _, err := fmt.Sscanf(line, "%s %s %q", &id, &at, &text); err != nil {
			s.t.Errorf("drawboltd hidden says %q", line)
		}
		keys[id] = append(keys[id], text)
	}
	return keys
}

// session runs a command at a target through the bastion, as who has a grant there.
func (s *server) session(p *person, account, target, command string) (string, error) {
	client, err := s.dial(p, account+"+"+target, "")
	if err != nil {
		return "", err
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	out, err := session.CombinedOutput(command)
	return string(out), err
}

// metric reads one value from /metrics.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	resp, err := http.Get("http://" + s.metrics + "/metrics")
	must(s.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(s.t, err)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			must(s.t, err)
			return f
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return 0
}

// httpFrom is an HTTP client that comes from another address of this machine.
func (s *server) httpFrom(ip string) *http.Client {
	s.t.Helper()
	fingerprint, err := api.PeerFingerprint(context.Background(), s.url)
	must(s.t, err)
	c, err := api.NewHTTP(fingerprint)
	must(s.t, err)
	c.Transport.(*http.Transport).DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext
	s.t.Cleanup(c.CloseIdleConnections)
	return c
}
