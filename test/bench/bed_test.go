package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/web/api"
)

// bedTarget is the target's name at the broker.
const bedTarget = "db01"

// A bed is a whole installation: the server, a target and a stock jump host,
// somebody with a grant, and an ssh_config with a host for each way.
type bed struct {
	b       *testing.B
	dir     string // traversable by the target's user
	data    string // of the server
	config  string // ssh_config
	server  *exec.Cmd
	address string // of the bastion
	metrics string

	target, hop *servers.SSHD
	hopPID      int

	key      ssh.Signer // everybody's
	identity ssh.Signer // proves to the bastion who it is
	outside  ssh.Signer // opens the target and the stock jump host

	files map[string]string // by content
}

func newBed(b *testing.B) *bed {
	b.Helper()
	// Not b.TempDir, which other users cannot enter.
	dir := must(os.MkdirTemp("", "drawbolt-bench-"))(b)
	b.Cleanup(func() { os.RemoveAll(dir) })
	check(b, os.Chmod(dir, 0o711))
	bed := &bed{b: b, dir: dir, data: filepath.Join(dir, "server"), config: filepath.Join(dir, "ssh_config")}
	check(b, os.MkdirAll(bed.data, 0o700))
	bed.files = contents(b, dir, *size<<20)

	admin := bed.install()
	authorities := must(admin.Authorities(b.Context()))(b)
	user, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authorities.User))
	check(b, err)
	ca := newSigner(b)
	bed.target = servers.NewSSHD(b, servers.Config{UserCA: []ssh.PublicKey{ca.PublicKey(), user}, Lines: []string{"LogLevel ERROR"}})
	check(b, bed.target.Allow(bed.target.User, "bench", bed.target.User+"@"+bedTarget))
	pid := filepath.Join(dir, "hop.pid")
	bed.hop = servers.NewSSHD(b, servers.Config{UserCA: []ssh.PublicKey{ca.PublicKey()}, Principals: []string{"bench"}, Lines: []string{"LogLevel ERROR", "PidFile " + pid}})
	bed.hopPID = must(strconv.Atoi(firstLine(pid)))(b)
	bed.people(admin, ca)
	bed.prove()
	return bed
}

// install sets a server up, starts it and returns its administrator.
func (bed *bed) install() *api.Client {
	https, sshd, metrics := freeAddress(bed.b), freeAddress(bed.b), freeAddress(bed.b)
	bed.address, bed.metrics = sshd, metrics
	check(bed.b, os.WriteFile(filepath.Join(bed.dir, "drawbolt.yaml"), fmt.Appendf(nil, `data: %s
server:
  external_url: https://%[2]s
  listen: {https: "%[2]s", ssh: "%s", metrics: "%s"}
recordings: {min_free: 64MiB}
ssh: {sessions: {per_person: 2000, per_target: 2000, per_person_and_target: 2000}}
`, bed.data, https, sshd, metrics), 0o600))
	out, err := bed.drawboltd("init", "--unattended").CombinedOutput()
	if err != nil {
		bed.b.Fatalf("drawboltd init: %v\n%s", err, out)
	}
	link := regexp.MustCompile(`https://\S+/setup\?token=\S+`).Find(out)
	bed.start()
	bed.b.Cleanup(bed.stop)

	fingerprint := must(api.PeerFingerprint(bed.b.Context(), "https://"+https))(bed.b)
	c := &api.Client{Server: "https://" + https, HTTP: must(api.NewHTTP(fingerprint))(bed.b), Agent: "bench"}
	return bed.login(c, "admin", string(link))
}

func (bed *bed) drawboltd(args ...string) *exec.Cmd {
	return exec.Command(root("bin/drawboltd"), append(args, "--config", filepath.Join(bed.dir, "drawbolt.yaml"))...)
}

// start starts the server and waits until it is ready.
func (bed *bed) start() {
	bed.server = bed.drawboltd("serve")
	log := must(os.OpenFile(filepath.Join(bed.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))(bed.b)
	defer log.Close()
	bed.server.Stdout, bed.server.Stderr = log, log
	check(bed.b, bed.server.Start())
	until(bed.b, "the server is ready", func() bool {
		c := bed.drawboltd("healthcheck")
		return c.Run() == nil
	})
}

func (bed *bed) stop() {
	_ = bed.server.Process.Signal(os.Interrupt)
	_ = bed.server.Wait()
	if bed.b.Failed() {
		log, _ := os.ReadFile(filepath.Join(bed.dir, "server.log"))
		bed.b.Logf("the server's log ends with:\n%s", log[max(0, len(log)-4000):])
	}
}

// login chooses a first password under a one-time link and logs in.
func (bed *bed) login(c *api.Client, name, link string) *api.Client {
	bed.b.Helper()
	u := must(url.Parse(link))(bed.b)
	password := rand.Text()
	check(bed.b, c.Setup(bed.b.Context(), api.SetupInput{Token: u.Query().Get("token"), Password: password}))
	l := must(c.Login(bed.b.Context(), api.LoginInput{User: name, Password: password}))(bed.b)
	return &api.Client{Server: c.Server, HTTP: c.HTTP, Agent: c.Agent, Token: l.Token}
}

// people makes alice, who has a grant, and the files of her ssh.
func (bed *bed) people(admin *api.Client, ca ssh.Signer) {
	b, ctx := bed.b, bed.b.Context()
	account := bed.target.User
	must(admin.AddUser(ctx, api.UserInput{Name: "alice", Groups: []string{"bench"}}))(b)
	must(admin.SetRole(ctx, api.Role{Name: "bench", Groups: []string{"bench"}, Rules: []api.Rule{{
		ID: "all", Actions: []string{"request"}, Accounts: []string{"*"}, MaxDurationSeconds: 8 * 3600,
		Session: api.SessionRules{Recording: "strict", Shell: true, Exec: true},
	}}}))(b)
	must(admin.AddTarget(ctx, api.TargetInput{Name: bedTarget, Address: bed.target.Addr, Accounts: []api.AccountInput{{Name: account}}, HostKeys: []string{authorized(bed.target.HostKey)}}))(b)
	alice := bed.login(admin, "alice", must(admin.SetupLink(ctx, "alice"))(b).URL)
	request := must(alice.Request(ctx, api.RequestInput{Target: bedTarget, Account: account, DurationSeconds: 8 * 3600, Reason: "INC-1 measure"}))(b)
	if request.State != api.Approved {
		b.Fatalf("the request is %s", request.State)
	}

	public, private, err := ed25519.GenerateKey(rand.Reader)
	check(b, err)
	bed.key = must(ssh.NewSignerFromKey(private))(b)
	key := must(ssh.NewPublicKey(public))(b)
	block := must(ssh.MarshalPrivateKey(private, ""))(b)
	file := func(name string, content []byte) string {
		path := filepath.Join(bed.dir, name)
		check(b, os.WriteFile(path, content, 0o600))
		return path
	}
	// Two pairs of files for the two certificates of one key: ssh looks for a
	// certificate beside its key.
	inside, outside := file("inside", pem.EncodeToMemory(block)), file("outside", pem.EncodeToMemory(block))
	certified := must(alice.Certify(ctx, authorized(key)))(b)
	file("inside-cert.pub", []byte(certified.Certificate+"\n"))
	cert := &ssh.Certificate{
		Key: key, Serial: 1, CertType: ssh.UserCert, KeyId: "bench", ValidPrincipals: []string{"bench"},
		ValidBefore: uint64(time.Now().Add(24 * time.Hour).Unix()),
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-pty": "", "permit-port-forwarding": ""}},
	}
	check(b, cert.SignCert(rand.Reader, ca))
	file("outside-cert.pub", ssh.MarshalAuthorizedKey(cert))
	bed.outside = must(ssh.NewCertSigner(cert, bed.key))(b)
	parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(certified.Certificate))
	check(b, err)
	bed.identity = must(ssh.NewCertSigner(parsed.(*ssh.Certificate), bed.key))(b)

	host := func(address string) (string, string) {
		h, p, err := net.SplitHostPort(address)
		check(b, err)
		return h, p
	}
	th, tp := host(bed.target.Addr)
	hh, hp := host(bed.hop.Addr)
	gh, gp := host(bed.address)
	known := file("known_hosts", fmt.Appendf(nil, "[%s]:%s %s\n[%s]:%s %s\n@cert-authority * %s\n", th, tp, authorized(bed.target.HostKey), hh, hp, authorized(bed.hop.HostKey), certified.HostAuthority))
	entry := func(name, hostName, port, login, identity, more string) string {
		return fmt.Sprintf("Host %s\n    HostName %s\n    Port %s\n    User %s\n    IdentityFile %s\n    IdentitiesOnly yes\n%s", name, hostName, port, login, identity, more)
	}
	text := entry(straight.host, th, tp, account, outside, "") +
		entry("hop", hh, hp, bed.hop.User, outside, "") +
		entry(stock.host, th, tp, account, outside, "    ProxyJump hop\n") +
		entry(direct.host, gh, gp, account+"+"+bedTarget, inside, "") +
		entry("gateway", gh, gp, "alice", inside, "") +
		entry(jump.host, bedTarget, "22", account, inside, "    ProxyJump gateway\n") +
		fmt.Sprintf("Host *\n    UserKnownHostsFile %s\n    GlobalKnownHostsFile /dev/null\n    IdentityAgent none\n    BatchMode yes\n    LogLevel ERROR\n", known)
	if quantised(command("ssh", "-V")) {
		// It sends keystrokes in steps of 20 ms, and so hides what they take.
		text += "    ObscureKeystrokeTiming no\n"
	}
	// The host key of the gateway, by the first connection to it.
	keyOfGateway := ""
	conn, err := net.Dial("tcp", bed.address)
	check(b, err)
	defer conn.Close()
	_, _, _, err = ssh.NewClientConn(conn, bed.address, &ssh.ClientConfig{User: "nobody", HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
		keyOfGateway = authorized(k)
		return nil
	}})
	if keyOfGateway == "" {
		b.Fatalf("the gateway shows no host key: %v", err)
	}
	f := must(os.OpenFile(known, os.O_APPEND|os.O_WRONLY, 0))(b)
	fmt.Fprintf(f, "[%s]:%s %s\n", gh, gp, keyOfGateway)
	check(b, f.Close())
	check(b, os.WriteFile(bed.config, []byte(text), 0o600))
}

// quantised reports whether this OpenSSH client hides when keys are pressed,
// as it does since 9.5.
func quantised(version string) bool {
	m := regexp.MustCompile(`OpenSSH_(\d+)\.(\d+)`).FindStringSubmatch(version)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return major > 9 || major == 9 && minor >= 5
}

// ssh is the stock client on a way.
func (bed *bed) ssh(w way, args ...string) *exec.Cmd {
	c := exec.Command("ssh", append(append([]string{"-F", bed.config}, args[:len(args)-1]...), w.host, args[len(args)-1])...)
	c.WaitDelay = 10 * time.Second
	return c
}

// prove sees to it that each way carries data unchanged, before anything is
// measured: what is sent comes back, with the exit status. And that the two
// through drawbolt, and no others, leave a recording.
func (bed *bed) prove() {
	data := make([]byte, 8<<20)
	rand.Read(data)
	for i, w := range ways {
		c := bed.ssh(w, "cat; exit 7")
		c.Stdin = bytes.NewReader(data)
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		err := c.Run()
		if c.ProcessState == nil || c.ProcessState.ExitCode() != 7 {
			bed.b.Fatalf("%s: %v\n%s", w.name, err, errs.String())
		}
		if sha256.Sum256(out.Bytes()) != sha256.Sum256(data) {
			bed.b.Fatalf("%s: %d bytes came back of %d, or others", w.name, out.Len(), len(data))
		}
		bed.quiet()
		if got, want := len(bed.recordings()), max(0, i-1); got != want {
			bed.b.Fatalf("after %s there are %d recordings, not %d", w.name, got, want)
		}
	}
	bed.forget()
}

// quiet waits until the server has sealed every recording and the jump host
// has no children, so that nothing runs into the next measurement.
func (bed *bed) quiet() {
	bed.b.Helper()
	until(bed.b, "all sessions have ended", func() bool {
		left, err := filepath.Glob(filepath.Join(bed.data, "journals", "*.journal"))
		return err == nil && len(left) == 0 && len(children(bed.hopPID)) == 0
	})
	time.Sleep(50 * time.Millisecond) // the closing event
}

func (bed *bed) recordings() []string {
	var list []string
	check(bed.b, filepath.WalkDir(filepath.Join(bed.data, "recordings"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".age") {
			list = append(list, path)
		}
		return err
	}))
	return list
}

// forget removes the recordings, which would fill the disk.
func (bed *bed) forget() {
	for _, path := range bed.recordings() {
		check(bed.b, os.Remove(path))
	}
}

// middle returns the processor time of what stands in the middle of a way.
func (bed *bed) middle(w way) time.Duration {
	switch w {
	case stock:
		return cpu(bed.b, bed.hopPID, true)
	case direct, jump:
		return cpu(bed.b, bed.server.Process.Pid, false)
	}
	return 0
}

// contents writes what is transferred: nothing to compress, much, and all.
func contents(t testing.TB, dir string, size int64) map[string]string {
	t.Helper()
	files := map[string]string{}
	for name, from := range map[string]io.Reader{"zeros": zeros{}, "random": rand.Reader, "text": newSources(t)} {
		path := filepath.Join(dir, name)
		f := must(os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644))(t)
		_, err := io.CopyN(f, from, size)
		check(t, err)
		check(t, f.Close())
		check(t, os.Chmod(path, 0o644)) // whatever the umask
		files[name] = path
	}
	return files
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// newSources reads Go's own library, again and again: text as programs print.
func newSources(t testing.TB) io.Reader {
	var list []string
	check(t, filepath.WalkDir(filepath.Join(command("go", "env", "GOROOT"), "src"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".go") {
			list = append(list, path)
		}
		return err
	}))
	return &sources{list: list}
}

type sources struct {
	list []string
	next int
	buf  []byte
}

func (s *sources) Read(p []byte) (int, error) {
	for len(s.buf) == 0 {
		if len(s.list) == 0 {
			return 0, fs.ErrNotExist
		}
		b, err := os.ReadFile(s.list[s.next%len(s.list)])
		if err != nil {
			return 0, err
		}
		s.next++
		s.buf = b
	}
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	return n, nil
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	return l.Addr().String()
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	return must(ssh.NewSignerFromKey(private))(t)
}

func authorized(k ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

// until waits at most two minutes for something to be so.
func until(t testing.TB, what string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for !so() {
		if ctx.Err() != nil {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
