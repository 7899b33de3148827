package sshproxy

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

// A house is a bastion with everything behind it: a real store, policy, broker
// and recorder, people with keys, and targets.
type house struct {
	t        testing.TB
	dir      string
	db       *store.DB
	broker   *broker.Broker
	recorder *recorder.Recorder
	sealed   recorder.Sink
	auditor  age.Identity
	server   *Server
	addr     string
	hostKey  gossh.Signer
	log      *lockedBuffer
	people   map[string]*person
	stop     func()

	mu sync.Mutex // guards the files of ssh
}

type person struct {
	access.User
	key    gossh.Signer
	file   string // of the private key, for ssh(1)
	caller access.Caller
}

type options struct {
	limits   Limits
	bastion  func(*bastion.Config)
	url      func(string) string
	rules    access.SessionRules
	noServer bool
}

type option func(*options)

func newHouse(t testing.TB, opts ...option) *house {
	t.Helper()
	// Tests fail to log in more often than people do.
	o := options{limits: Limits{PenaltyFrom: time.Hour}, rules: access.SessionRules{Recording: "strict", Shell: true, Exec: true}}
	for _, f := range opts {
		f(&o)
	}
	ctx := context.Background()
	h := &house{t: t, dir: t.TempDir(), people: map[string]*person{}, log: &lockedBuffer{}}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", h.log)
		}
	})

	c := brokertest.Config(t, "gw-1", storetest.SQLite(t))
	c.Log, h.db = log, c.Store
	h.broker = must(broker.New(ctx, c))(t)

	auditor := must(age.GenerateX25519Identity())(t)
	h.auditor = auditor
	h.sealed = must(recorder.Directory(filepath.Join(h.dir, "sealed")))(t)
	h.recorder = must(recorder.New(recorder.Config{
		Journals: filepath.Join(h.dir, "journals"), Sink: h.sealed, Recipients: []age.Recipient{auditor.Recipient()},
		Wrapper: newWrapper(t), Signer: c.Signer, Floor: 1,
	}))(t)

	for _, name := range []string{"alice", "bob", "mallory"} {
		h.addPerson(name)
	}
	h.change(func(tx *store.Tx) error {
		return errors.Join(
			tx.AddRole(ctx, &access.Role{Name: "engineers", Users: []string{h.people["alice"].ID, h.people["mallory"].ID}, Version: 1, Rules: []access.Rule{
				{ID: "db-root", Actions: []string{"request"}, Targets: access.Selector{Names: []string{"*"}}, Accounts: []string{"*"}, MaxDuration: 4 * time.Hour,
					Approvals: []access.Need{{Count: 1, Groups: []string{"approvers"}}}, Session: o.rules},
			}}),
			tx.AddRole(ctx, &access.Role{Name: "approvers", Groups: []string{"approvers"}, Version: 1, Rules: []access.Rule{
				{ID: "vote", Actions: []string{"approve", "deny", "revoke", "session.terminate", "session.list", "session.watch", "session.moderate"}, Targets: access.Selector{Names: []string{"*"}}, Accounts: []string{"*"}},
			}}),
		)
	})

	bc := bastion.Config{Broker: h.broker, Recorder: h.recorder, Log: log}
	if o.bastion != nil {
		o.bastion(&bc)
	}
	h.hostKey = newSigner(t)
	h.server = must(New(Config{Broker: h.broker, Bastion: must(bastion.New(bc))(t), HostKey: h.hostKey, Limits: o.limits, Log: log, RequestURL: o.url}))(t)
	if !o.noServer {
		h.serve()
	}
	return h
}

// serve runs the broker, the recorder and the server until stop or the end of
// the test.
func (h *house) serve() {
	ctx, cancel := context.WithCancel(context.Background())
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(h.t)
	h.addr = ln.Addr().String()
	var front, rest sync.WaitGroup
	behind, end := context.WithCancel(context.Background())
	front.Go(func() {
		if err := h.server.Serve(ctx, ln); err != nil {
			h.t.Errorf("serve: %v", err)
		}
	})
	rest.Go(func() { h.broker.Run(behind) })
	rest.Go(func() { h.recorder.Run(behind) })
	h.stop = sync.OnceFunc(func() {
		cancel()
		front.Wait()
		end()
		rest.Wait()
	})
	h.t.Cleanup(h.stop)
}

func (h *house) change(fn func(tx *store.Tx) error) {
	h.t.Helper()
	check(h.t, h.db.Change(context.Background(), func(tx *store.Tx) (audit.Event, error) {
		return audit.Event{Actor: "system", ActorName: "system", Action: "set.up", Object: "test", Outcome: audit.Done}, fn(tx)
	}))
}

func (h *house) addPerson(name string) *person {
	h.t.Helper()
	p := &person{User: access.User{ID: access.NewID(access.UserPrefix), Name: name, CreatedAt: time.Now(), Version: 1}}
	if name == "bob" {
		p.Groups = []string{"approvers"}
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	check(h.t, err)
	p.key = must(gossh.NewSignerFromKey(private))(h.t)
	block, err := gossh.MarshalPrivateKey(private, name)
	check(h.t, err)
	p.file = filepath.Join(h.dir, name)
	writeKey(h.t, p.file, block, p.key)
	p.caller = access.Caller{User: p.User, Via: "test"}
	text := strings.TrimSpace(string(gossh.MarshalAuthorizedKey(p.key.PublicKey())))
	h.change(func(tx *store.Tx) error {
		return errors.Join(tx.AddUser(context.Background(), &p.User), tx.AddPublicKey(context.Background(), &access.PublicKey{
			UserID: p.ID, Fingerprint: gossh.FingerprintSHA256(p.key.PublicKey()), Key: text, CreatedAt: time.Now()}))
	})
	h.people[name] = p
	return p
}

// addTarget makes a target known, with the account of whoever runs the test.
func (h *house) addTarget(name, address string, keys ...gossh.PublicKey) access.Target {
	h.t.Helper()
	t := access.Target{ID: access.NewID(access.TargetPrefix), Name: name, Address: address, CreatedAt: time.Now(), Version: 1,
		Accounts: []access.Account{{Name: me(h.t), Credential: access.CredentialCertificate}}}
	for _, k := range keys {
		t.HostKeys = append(t.HostKeys, strings.TrimSpace(string(gossh.MarshalAuthorizedKey(k))))
	}
	h.change(func(tx *store.Tx) error { return tx.AddTarget(context.Background(), &t) })
	return t
}

// grant gives a person a grant for the test's account, approved by bob.
func (h *house) grant(name, target string, d time.Duration) broker.Case {
	h.t.Helper()
	ctx := context.Background()
	c, err := h.broker.Request(ctx, h.people[name].caller, broker.Ask{Target: target, Account: me(h.t), Reason: "INC-1 test", Duration: d})
	check(h.t, err)
	return h.approve(c.Request.ID, "go ahead")
}

func (h *house) approve(id, comment string) broker.Case {
	h.t.Helper()
	ctx, bob := context.Background(), h.people["bob"].caller
	c, err := h.broker.FindRequest(ctx, bob, id)
	check(h.t, err)
	c, err = h.broker.Approve(ctx, bob, id, c.Request.Digest(), broker.Answer{Comment: comment})
	check(h.t, err)
	return c
}

// pending waits for the request that a connection files.
func (h *house) pending(name string) broker.Case {
	h.t.Helper()
	var found broker.Case
	eventually(h.t, "a request of "+name, func() bool {
		list, err := h.broker.Requests(context.Background(), h.people[name].caller, broker.Filter{Mine: true, State: access.Pending})
		check(h.t, err)
		if len(list) > 0 {
			found = list[0]
		}
		return len(list) > 0
	})
	return found
}

// sessions returns all sessions, newest first.
func (h *house) sessions() []access.Session {
	h.t.Helper()
	return must(h.db.Sessions(context.Background(), store.SessionFilter{Limit: 100}))(h.t)
}

// closed waits until there are n sessions and all are closed.
func (h *house) closed(n int) []access.Session {
	h.t.Helper()
	var list []access.Session
	eventually(h.t, fmt.Sprintf("%d closed sessions", n), func() bool {
		list = h.sessions()
		for _, s := range list {
			if s.State != access.Closed {
				return false
			}
		}
		return len(list) == n
	})
	return list
}

// recording returns the bytes of a stream of a session's sealed recording.
func (h *house) recording(s access.Session, stream recorder.Stream) string {
	h.t.Helper()
	if s.Recording.Name == "" {
		h.t.Fatalf("session %s has no recording: %+v", s.ID, s)
	}
	f := must(h.sealed.Open(context.Background(), s.Recording.Name))(h.t)
	defer f.Close()
	plain := must(recorder.OpenSealed(f, f.Size(), h.auditor))(h.t)
	r := must(cast.NewReader(plain))(h.t)
	var b strings.Builder
	for {
		e, err := r.Next()
		if err == io.EOF {
			return b.String()
		}
		check(h.t, err)
		if e.Stream == stream {
			b.Write(e.Data)
		}
	}
}

// refusals returns the refused events of the audit log, as "object: reason".
func (h *house) refusals() []string {
	h.t.Helper()
	ctx := context.Background()
	size := must(h.db.AuditSize(ctx))(h.t)
	var list []string
	for from := int64(0); from < size; {
		leaves := must(h.db.Leaves(ctx, store.LeafFilter{From: from, To: size, Limit: 1000}))(h.t)
		for _, leaf := range leaves {
			e := must(audit.Parse(leaf))(h.t)
			if e.Outcome == audit.Refused {
				what := e.Object
				if w := e.Details["what"]; w != "" {
					what = w
				}
				list = append(list, what+": "+e.Reason)
			}
			from++
		}
	}
	return list
}

func (h *house) wantRefusal(part string) {
	h.t.Helper()
	eventually(h.t, "an audited refusal of "+part, func() bool {
		for _, r := range h.refusals() {
			if strings.Contains(r, part) {
				return true
			}
		}
		return false
	})
}

// ssh returns a command of the stock client, as name, with a configuration of
// its own. The gateway is called gw; targets are reached by -J gw.
func (h *house) ssh(name string, args ...string) *exec.Cmd {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	config := filepath.Join(h.dir, "ssh_config_"+name)
	cmd := exec.Command("ssh", append([]string{"-F", config}, args...)...)
	cmd.WaitDelay = 5 * time.Second
	if _, err := os.Stat(config); err == nil {
		return cmd
	}
	host, port, _ := net.SplitHostPort(h.addr)
	known := filepath.Join(h.dir, "known_hosts")
	lines := fmt.Sprintf("[%s]:%s %s@cert-authority * %s", host, port, gossh.MarshalAuthorizedKey(h.hostKey.PublicKey()), gossh.MarshalAuthorizedKey(h.broker.Authorities().Host))
	check(h.t, os.WriteFile(known, []byte(lines), 0o600))
	check(h.t, os.WriteFile(config, []byte(fmt.Sprintf(`Host gw
    HostName %s
    Port %s
    User %s
Host db* web*
    ProxyJump gw
Host *
    IdentityFile %s
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile %s
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    PasswordAuthentication no
    ConnectTimeout 60
`, host, port, name, h.people[name].file, known)), 0o600))
	return cmd
}

// client connects with x/crypto/ssh in the direct form.
func (h *house) client(name, target string) *gossh.Client {
	h.t.Helper()
	c, err := gossh.Dial("tcp", h.addr, h.config(name, me(h.t)+"+"+target))
	check(h.t, err)
	h.t.Cleanup(func() { c.Close() })
	return c
}

func (h *house) config(name, login string) *gossh.ClientConfig {
	return &gossh.ClientConfig{User: login, HostKeyCallback: gossh.FixedHostKey(h.hostKey.PublicKey()), Timeout: patience,
		Auth: []gossh.AuthMethod{gossh.PublicKeys(h.people[name].key)}}
}

// me is the account that a real sshd of the test can log in to.
func me(t testing.TB) string { return must(user.Current())(t).Username }

// An sshd is a real OpenSSH server that trusts the broker's user CA for the
// account of whoever runs the test.
type sshd struct {
	addr string
	key  gossh.PublicKey
	log  string
}

func (h *house) startSSHD(name string, extra ...string) sshd {
	h.t.Helper()
	path := "/usr/sbin/sshd"
	if _, err := os.Stat(path); err != nil {
		h.t.Fatal("no sshd here: install the Debian package openssh-server")
	}
	if os.Getuid() == 0 {
		os.MkdirAll("/run/sshd", 0o755)
	}
	dir := filepath.Join(h.dir, "sshd-"+name)
	check(h.t, os.MkdirAll(filepath.Join(dir, "principals"), 0o755))
	_, private, err := ed25519.GenerateKey(rand.Reader)
	check(h.t, err)
	signer := must(gossh.NewSignerFromKey(private))(h.t)
	block, err := gossh.MarshalPrivateKey(private, "")
	check(h.t, err)
	writeKey(h.t, filepath.Join(dir, "host"), block, signer)
	check(h.t, os.WriteFile(filepath.Join(dir, "ca.pub"), gossh.MarshalAuthorizedKey(h.broker.Authorities().User), 0o644))
	cert := must(h.broker.HostCertificate(context.Background(), access.Target{Name: name}, signer.PublicKey()))(h.t)
	check(h.t, os.WriteFile(filepath.Join(dir, "host-cert.pub"), gossh.MarshalAuthorizedKey(cert), 0o644))
	check(h.t, os.WriteFile(filepath.Join(dir, "principals", me(h.t)), []byte(me(h.t)+"@"+name+"\n"), 0o644))
	port := freePort(h.t)
	addr := net.JoinHostPort("127.0.0.1", port)
	// The shells have a home of their own, so that nobody's configuration takes
	// part.
	conf := fmt.Sprintf(`ListenAddress 127.0.0.1
Port %s
HostKey %[2]s/host
PidFile none
TrustedUserCAKeys %[2]s/ca.pub
AuthorizedPrincipalsFile %[2]s/principals/%%u
AuthorizedKeysFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AcceptEnv LANG LC_*
SetEnv HOME=%[2]s SHLVL=2
PrintMotd no
PrintLastLog no
Subsystem sftp internal-sftp
LogLevel VERBOSE
`, port, dir) + strings.Join(extra, "\n") + "\n"
	check(h.t, os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644))
	s := sshd{addr: addr, key: signer.PublicKey(), log: filepath.Join(dir, "log")}
	cmd := exec.Command(path, "-D", "-f", filepath.Join(dir, "conf"), "-E", s.log)
	check(h.t, cmd.Start())
	h.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	h.t.Cleanup(func() {
		if h.t.Failed() {
			b, _ := os.ReadFile(s.log)
			h.t.Logf("sshd %s:\n%s", name, b)
		}
	})
	eventually(h.t, "sshd", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return s
}

// realTarget starts an sshd and enrols it with its key pinned.
func (h *house) realTarget(name string) sshd {
	h.t.Helper()
	s := h.startSSHD(name)
	h.addTarget(name, s.addr, s.key)
	return s
}

// patience is longer than anything takes, on a machine that does much else.
const patience = time.Minute

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited too long for %s", what)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func newSigner(t testing.TB) gossh.Signer {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	return must(gossh.NewSignerFromKey(private))(t)
}

type wrapper struct{ aead cipher.AEAD }

func newWrapper(t testing.TB) wrapper {
	block := must(aes.NewCipher(make([]byte, 32)))(t)
	return wrapper{must(cipher.NewGCMWithRandomNonce(block))(t)}
}

func (w wrapper) Wrap(id string, key []byte) ([]byte, error) {
	return w.aead.Seal(nil, nil, key, []byte(id)), nil
}

func (w wrapper) Unwrap(id string, wrapped []byte) ([]byte, error) {
	return w.aead.Open(nil, nil, wrapped, []byte(id))
}

// A lockedBuffer can be written and read at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *lockedBuffer) has(s string) bool { return strings.Contains(b.String(), s) }

func writeKey(t testing.TB, path string, block *pem.Block, key gossh.Signer) {
	t.Helper()
	check(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	check(t, os.WriteFile(path+".pub", gossh.MarshalAuthorizedKey(key.PublicKey()), 0o600))
}
