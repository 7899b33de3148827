//go:build linux

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault/sshca"
	"github.com/drawbolt/drawbolt/web/api"
)

// compatibility is the document that TestCompatibility writes.
const compatibility = "docs/compatibility.md"

// checksAtOnce is how many clients run side by side: each waits more than it
// works.
const checksAtOnce = 6

// checkTime bounds one run of a client.
const checkTime = 45 * time.Second

// A gateway is a real server before a real sshd, for clients of all kinds.
type gateway struct {
	*server
	t          *testing.T
	sshd       *servers.SSHD
	dir        string // keys, in the form of each client
	alice, bob *person
	host, port string
	hostKey    ssh.PublicKey // of the gateway
	home       string        // a folder at the target

	mu    sync.Mutex
	asked int // targets without a grant that have been given out
	inbox []api.Request
	read  time.Time // of the inbox
}

// lab1 is the target for which alice has a grant.
const lab1 = "lab1"

// unasked are targets without a grant, one for each check that asks for one.
const unasked = 64

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, server: install(t, "", "ssh: {hold_timeout: 60s}\n"), dir: t.TempDir()}
	g.alice, g.bob = g.person("alice", "compatible"), g.person("bob", "approvers")
	_, err := g.people["admin"].SetRole(t.Context(), api.Role{Name: "compatible", Groups: []string{"compatible"}, Rules: []api.Rule{{
		ID: "with-approval", Actions: []string{"request"}, Targets: api.Selector{Labels: map[string][]string{"tier": {"1"}}}, Accounts: []string{"*"},
		MaxDurationSeconds: 4 * 3600, Approvals: []api.ApproverNeed{{Count: 1, Groups: []string{"approvers"}}},
		Session: api.SessionRules{Recording: "strict", Shell: true, Exec: true, Files: []string{"upload *", "download *"}, Forwards: []string{"local 127.0.0.1:*", "remote 127.0.0.1:*"}},
	}}})
	must(t, err)
	g.sshd = servers.NewSSHD(t, servers.Config{UserCA: []ssh.PublicKey{g.userAuthority()}, Lines: []string{"AcceptEnv LC_*"}})
	var principals []string
	for i := range unasked + 1 {
		name := lab1
		if i > 0 {
			name = fmt.Sprintf("ask%02d", i)
		}
		p, err := sshca.Principal(g.sshd.User, name)
		must(t, err)
		principals = append(principals, p)
		g.addTarget(name, g.sshd.Addr, g.sshd.HostKey, g.sshd.User)
	}
	must(t, g.sshd.Allow(g.sshd.User, principals...))
	_, err = grant(t.Context(), g.alice, g.bob, g.sshd.User, lab1, time.Hour)
	must(t, err)
	g.host, g.port, err = net.SplitHostPort(g.ssh)
	must(t, err)
	g.hostKey = hostKeyOf(t, g.ssh)
	if g.home = g.sshd.Home; g.home == "" { // of ourselves
		g.home = t.TempDir()
	}
	g.writeKeys()
	return g
}

// hostKeyOf asks a server for its Ed25519 host key.
func hostKeyOf(t *testing.T, address string) (key ssh.PublicKey) {
	t.Helper()
	_, err := ssh.Dial("tcp", address, &ssh.ClientConfig{HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { key = k; return errors.New("seen") }})
	if key == nil {
		t.Fatalf("no host key: %v", err)
	}
	return key
}

// writeKeys makes alice's key "id", registered, and the key "identity", which
// has a certificate, in the forms of OpenSSH, dropbear and PuTTY; and what
// OpenSSH is to know of hosts.
func (g *gateway) writeKeys() {
	g.t.Helper()
	authorities, err := g.client("").Authorities(g.t.Context())
	must(g.t, err)
	for _, name := range []string{"id", "identity"} {
		file := filepath.Join(g.dir, name)
		g.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file)
		g.tool("puttygen", file, "-O", "private", "-o", file+".ppk")
		g.tool("dropbearconvert", "openssh", "dropbear", file, file+".dropbear")
		public, err := os.ReadFile(file + ".pub")
		must(g.t, err)
		if name == "id" {
			_, err = g.alice.AddMyKey(g.t.Context(), api.KeyInput{Key: strings.TrimSpace(string(public))})
			must(g.t, err)
			continue
		}
		c, err := g.alice.Certify(g.t.Context(), strings.TrimSpace(string(public)))
		must(g.t, err)
		must(g.t, os.WriteFile(file+"-cert.pub", []byte(c.Certificate+"\n"), 0o600))
	}
	known := fmt.Sprintf("[%s]:%s %s@cert-authority * %s\n", g.host, g.port, ssh.MarshalAuthorizedKey(g.hostKey), authorities.Host)
	must(g.t, os.WriteFile(filepath.Join(g.dir, "known_hosts"), []byte(known), 0o600))
}

// tool runs a program that is to succeed.
func (g *gateway) tool(name string, args ...string) {
	g.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		g.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// A stand is one check of one client on one way in.
type stand struct {
	*gateway
	dir    string // a home of its own
	jump   bool   // ProxyJump; else account+target@gateway
	target string
	ticket string // in the login string
}

// login is the login string for the connection that reaches the target.
func (s *stand) login() string {
	login := s.sshd.User
	if !s.jump {
		login += "+" + s.target
	}
	if s.ticket != "" {
		login += "+" + s.ticket
	}
	return login
}

// ask turns the stand to a target for which there is no grant.
func (s *stand) ask() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	s.target = fmt.Sprintf("ask%02d", s.asked)
}

// approve waits for the request for the stand's target, which a job makes, and
// approves it.
func (s *stand) approve(j *job) error {
	for end := time.Now().Add(checkTime); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		select {
		case <-j.done:
			return fmt.Errorf("it ended with %d:\n%s", j.code, j.all())
		default:
		}
		list, err := s.waiting()
		if err != nil {
			return err
		}
		for _, r := range list {
			if r.Target == s.target {
				_, err := s.bob.Approve(context.Background(), r.ID, api.ApproveInput{Digest: r.Digest})
				return err
			}
		}
	}
	return fmt.Errorf("no request came for %s; it shows:\n%s", s.target, j.all())
}

// waiting reads bob's inbox, for all checks together: bob may not ask the server
// as often as they do.
func (g *gateway) waiting() ([]api.Request, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.read) < 250*time.Millisecond {
		return g.inbox, nil
	}
	list, err := g.bob.Requests(context.Background(), api.RequestFilter{Inbox: true})
	g.inbox, g.read = list.Items, time.Now()
	return g.inbox, err
}

// environ is what the clients see.
func (s *stand) environ() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TERM=xterm", "LANG=C.UTF-8", "LC_STORY=two", "USER=alice", "ANSIBLE_NOCOLOR=1"}
}

// start starts a program in the stand's home.
func (s *stand) start(cmd *exec.Cmd, in string, terminal bool) (*job, error) {
	cmd.Dir = s.dir
	j, err := startJob(cmd, s.environ(), jobFiles{in: in}, terminal)
	if err == nil {
		time.AfterFunc(checkTime, func() { _ = cmd.Process.Kill() })
	}
	return j, err
}

// run runs a program to its end. in is a file, or empty.
func (s *stand) run(cmd *exec.Cmd, in string) (out, errs string, code int, err error) {
	j, err := s.start(cmd, in, false)
	if err != nil {
		return "", "", 0, err
	}
	<-j.done
	return j.stream(false), j.stream(true), j.code, nil
}

// gives runs a program, which is to end with 0 and show want.
func (s *stand) gives(cmd *exec.Cmd, want string) error {
	out, errs, code, err := s.run(cmd, "")
	if err == nil && (code != 0 || !strings.Contains(out, want)) {
		err = fmt.Errorf("%v: exit %d, without %q:\n%s\n%s", cmd.Args, code, want, out, errs)
	}
	return err
}

// until waits for a text on what a job shows.
func (j *job) until(text string) error {
	for end := time.Now().Add(checkTime); ; time.Sleep(5 * time.Millisecond) {
		over := false
		select {
		case <-j.done:
			over = true
		default:
		}
		if strings.Contains(j.all(), text) {
			return nil
		}
		if over || time.Now().After(end) {
			return fmt.Errorf("%v does not show %q; it shows:\n%s", j.cmd.Args, text, j.all())
		}
	}
}

// errNoEnd: a program did not end.
var errNoEnd = errors.New("does not end")

// ends waits for the end with this code.
func (j *job) ends(code int) error {
	select {
	case <-j.done:
	case <-time.After(checkTime):
		j.kill()
		return fmt.Errorf("%v %w:\n%s", j.cmd.Args, errNoEnd, j.all())
	}
	if j.code != code {
		return fmt.Errorf("%v ends with %d, not %d:\n%s", j.cmd.Args, j.code, code, j.all())
	}
	return nil
}

// A cell is one field of a table of the document.
type cell struct {
	row, column string
	// lacks says why the client cannot do it at all; then nothing is run.
	lacks string
	// without is a way in that cannot be tried, "jump" or "direct", and why.
	without, why string
	// gap says what is known to be wrong, and with whom; without it a run that
	// fails is a failure of the test.
	gap string
	run func(s *stand) error // at once with others; see checksAtOnce

	ran    bool
	failed [2]error // of jump and direct
}

const (
	both, viaJump, direct, not, fails = "both", "J", "D", "-", "no"
)

func (c *cell) text() (text, note string) {
	if c.lacks != "" {
		return not, c.lacks
	}
	jump, plain := c.failed[0] == nil && c.without != "jump", c.failed[1] == nil && c.without != "direct"
	note = c.why
	if c.failed[0] != nil || c.failed[1] != nil {
		note = c.gap
	}
	switch {
	case jump && plain:
		return both, ""
	case jump:
		return viaJump, note
	case plain:
		return direct, note
	}
	return fails, note
}

// TestCompatibility runs the clients that people use against the built server
// before a real sshd, through both ways in, and compares what works with the
// document. UPDATE_GOLDEN=1 rewrites it. Versions may differ.
func TestCompatibility(t *testing.T) {
	g := newGateway(t)
	clients, tools := clientCells(), toolCells()
	all := slices.Concat(clients, tools)
	slots, wg := make(chan struct{}, checksAtOnce), sync.WaitGroup{}
	for _, c := range all {
		for i, way := range []string{"jump", "direct"} {
			if c.lacks != "" || c.without == way {
				c.ran = true
				continue
			}
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				t.Run(c.column+"/"+c.row+"/"+way, func(t *testing.T) { c.check(t, g, i) })
			})
		}
	}
	wg.Wait()
	if t.Failed() || slices.ContainsFunc(all, func(c *cell) bool { return !c.ran }) {
		return // -run names some of them
	}
	text := document(clients, tools)
	if os.Getenv("UPDATE_GOLDEN") == "" {
		old, err := os.ReadFile(filepath.Join(root(t), compatibility))
		must(t, err)
		text = keepVersions(text, string(old))
	}
	golden(t, compatibility, []byte(text))
}

// check fills one way of a cell.
func (c *cell) check(t *testing.T, g *gateway, way int) {
	once := func() error {
		// Not t.TempDir: in the name of a socket there is little room.
		home, err := os.MkdirTemp("", "stand-")
		must(t, err)
		defer os.RemoveAll(home)
		return c.run(&stand{gateway: g, dir: home, jump: way == 0, target: lab1})
	}
	err := once()
	// Two plink can wait for each other for ever, between two stock sshd as well; see
	// the gap of PuTTY. That they do so twice would be ours.
	if errors.Is(err, errNoEnd) && c.column == "PuTTY" && way == 0 {
		err = once()
	}
	c.failed[way], c.ran = err, true
	switch {
	case err != nil && c.gap == "":
		t.Error(err)
	case err != nil:
		t.Logf("known: %s: %v", c.gap, err)
	}
}

// keepVersions takes the lines with versions from the old text: they depend on
// the machine.
func keepVersions(text, old string) string {
	versions := map[string]string{}
	for line := range strings.Lines(old) {
		if key, ok := versionLine(line); ok {
			versions[key] = line
		}
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if key, ok := versionLine(line); ok && versions[key] != "" {
			line = versions[key]
		}
		b.WriteString(line)
	}
	return b.String()
}

// versionLine finds the name of a program whose version a line tells.
func versionLine(line string) (key string, ok bool) {
	cells := strings.Split(line, "|")
	if len(cells) != 5 || strings.TrimSpace(cells[3]) == "" || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
		return "", false
	}
	return cells[1], true
}

// document writes the tables.
func document(clients, tools []*cell) string {
	var b strings.Builder
	b.WriteString(`# Compatibility

What works through drawbolt with clients that know nothing of it. ` + "`TestCompatibility`" + ` runs every field of the tables
against the built server before a real OpenSSH server, and writes this file; a field that changes fails the test.
Nothing here is typed by hand but reasons.

There are two ways in: J, through ProxyJump or what the client has for it (` + "`ssh -J gateway account@target`" + `), and D,
with the target in the login name (` + "`ssh account+target@gateway`" + `).

- ` + "`both`" + `: works on both ways. ` + "`J`, `D`" + `: works on this way only.
- ` + "`-`" + `: the client has no such thing. ` + "`no`" + `: does not work.

Numbers are reasons, which stand below each table.

## Clients

`)
	writeTable(&b, clients)
	b.WriteString(`
A program's terminal, exit status and streams are those of the target. What a role does not allow is refused, and
looks to a client as if a stock server had it switched off.

## Tools

`)
	writeTable(&b, tools)
	b.WriteString("\n## Versions\n\nWhat was run last. Other versions do not fail the test.\n\n| program | Debian's package | version |\n|---|---|---|\n")
	for _, p := range packagesRun {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p.program, p.debian, debianVersion(p.debian))
	}
	return b.String()
}

// packagesRun are the programs of the tables.
var packagesRun = []struct{ program, debian string }{
	{"ssh", "openssh-client"}, {"sshd", "openssh-server"}, {"dbclient", "dropbear-bin"}, {"plink", "putty-tools"}, {"paramiko", "python3-paramiko"},
	{"asyncssh", "python3-asyncssh"}, {"curl", "curl"}, {"libssh2", "libssh2-1"}, {"rsync", "rsync"}, {"git", "git"}, {"ansible", "ansible-core"}, {"sshfs", "sshfs"},
}

// debianVersion asks dpkg; elsewhere the version is not known.
func debianVersion(name string) string {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", name).Output()
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		return "unknown"
	}
	return string(bytes.TrimSpace(out))
}

func writeTable(b *strings.Builder, cells []*cell) {
	var rows, columns, notes []string
	at := map[[2]string]*cell{}
	for _, c := range cells {
		if !slices.Contains(rows, c.row) {
			rows = append(rows, c.row)
		}
		if !slices.Contains(columns, c.column) {
			columns = append(columns, c.column)
		}
		at[[2]string{c.row, c.column}] = c
	}
	fmt.Fprintf(b, "| | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |", row)
		for _, column := range columns {
			text, note := not, ""
			if c := at[[2]string{row, column}]; c != nil {
				text, note = c.text()
			}
			if note != "" {
				if !slices.Contains(notes, note) {
					notes = append(notes, note)
				}
				text += fmt.Sprintf(" (%d)", slices.Index(notes, note)+1)
			}
			fmt.Fprintf(b, " %s |", text)
		}
		b.WriteString("\n")
	}
	for i, note := range notes {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(b, "%d. %s\n", i+1, note)
	}
}
