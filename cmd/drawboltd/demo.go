package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/drawbolt/drawbolt/broker/access"
)

func demoCommand() *cobra.Command {
	var dir string
	var noStory bool
	var settings []string
	cmd := &cobra.Command{
		Use: "demo", Short: "Everything on loopback in one folder, with the main job played once", Args: cobra.NoArgs,
		Long: `Starts a whole installation on loopback, with two targets and the people alice
(engineer), bob (approver) and carol (auditor), and plays the main job once, with
the real client and your own ssh: alice asks, bob approves, alice works through
the bastion, her time ends in the middle of the session, carol replays and
verifies the recording. On a terminal it then stays up; Ctrl-C ends it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := startDemo(cmd.Context(), dir, settings, cmd.OutOrStdout())
			if err != nil {
				return err
			}
			defer d.close()
			if !noStory {
				if err := d.story(cmd.Context()); err != nil {
					return fmt.Errorf("the story stopped: %w", err)
				}
			}
			f, isFile := cmd.OutOrStdout().(*os.File)
			if !noStory && !(isFile && isTerminal(f)) {
				return nil
			}
			d.printHints()
			select {
			case <-cmd.Context().Done():
				return nil
			case err := <-d.failed:
				return err
			}
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "./demo-data", "folder of the demo")
	cmd.Flags().BoolVar(&noStory, "no-story", false, "only start it and stay")
	cmd.Flags().StringArrayVar(&settings, "set", nil, "a `setting` of the configuration: ssh.hold_timeout=30s; may be repeated")
	return cmd
}

// A demo is a running installation and its targets.
type demo struct {
	dir    string
	client string // the drawbolt program
	out    io.Writer
	app    *App
	target *demoTarget
	sshd   *realSSHD
	failed chan error
	stop   context.CancelFunc
	done   chan struct{}
}

// The people of the demo, and the groups that make them what they are.
var demoPeople = []struct{ name, display, group string }{
	{"alice", "Alice (engineer)", "engineers"},
	{"bob", "Bob (approver)", "approvers"},
	{"carol", "Carol (auditor)", "auditors"},
}

const demoMarker = "demo.json"

func startDemo(ctx context.Context, dir string, settings []string, out io.Writer) (_ *demo, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	client, err := clientProgram()
	if err != nil {
		return nil, err
	}
	if err := clearDemo(dir); err != nil {
		return nil, err
	}
	d := &demo{dir: dir, client: client, out: out, failed: make(chan error, 3), done: make(chan struct{})}
	close(d.done) // until the server runs
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	c, err := demoConfig(dir, settings)
	if err != nil {
		return nil, err
	}
	if err := c.createMaster(); err != nil {
		return nil, err
	}
	logFile, err := os.OpenFile(filepath.Join(dir, "server.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if d.app, err = NewApp(ctx, c, newLog(c, logFile), true); err != nil {
		logFile.Close()
		return nil, err
	}
	d.app.closers = append([]func() error{logFile.Close}, d.app.closers...)
	if err := d.startTargets(); err != nil {
		return nil, err
	}
	passwords, err := d.found(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.app.Listen(); err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop, d.done = stop, make(chan struct{})
	go func() {
		defer close(d.done)
		if err := d.app.Run(running); err != nil {
			d.failed <- err
		}
	}()
	for name, password := range passwords {
		if err := d.signIn(ctx, name, password); err != nil {
			return nil, err
		}
	}
	return d, d.writeFiles(ctx)
}

// clientProgram finds drawbolt beside drawboltd, or in the path.
func clientProgram() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), "drawbolt")
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	p, err := exec.LookPath("drawbolt")
	if err != nil {
		return "", errors.New("the program drawbolt is neither beside drawboltd nor in the path: run make build")
	}
	return p, nil
}

// clearDemo makes the folder empty if it is one of an earlier demo, and leaves
// any other alone.
func clearDemo(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return os.MkdirAll(dir, 0o700)
	}
	if err != nil || len(entries) == 0 {
		return err
	}
	if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == demoMarker }) {
		return fmt.Errorf("%s is not empty and not of an earlier demo; choose another --dir", dir)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func demoConfig(dir string, settings []string) (Config, error) {
	c := defaultConfig()
	c.Data = filepath.Join(dir, "server")
	for _, a := range []struct {
		to        *string
		preferred string
	}{{&c.Server.Listen.HTTPS, "127.0.0.1:8443"}, {&c.Server.Listen.SSH, "127.0.0.1:2222"}, {&c.Server.Listen.Metrics, "127.0.0.1:9090"}} {
		*a.to = a.preferred
		ln, err := net.Listen("tcp", a.preferred)
		if err != nil {
			if *a.to, err = freeAddress(); err != nil {
				return c, err
			}
			continue
		}
		ln.Close()
	}
	c.Server.Name = "demo"
	c.SSH.BannerInterval = Duration(5 * time.Second)
	c.Recordings.MinFree = "64MiB"
	for _, s := range settings {
		if err := c.set(s); err != nil {
			return c, err
		}
	}
	if c.Server.ExternalURL == "" {
		c.Server.ExternalURL = "https://" + c.Server.Listen.HTTPS
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return c, err
	}
	// The marker first: a demo that did not come further can be cleared too.
	if err := os.WriteFile(filepath.Join(dir, demoMarker), []byte("{}\n"), 0o600); err != nil {
		return c, err
	}
	return c, c.complete()
}

func (d *demo) startTargets() error {
	authority := d.app.broker.Authorities().User
	var err error
	if d.target, err = newDemoTarget("db01", []string{"root", "guest"}, authority); err != nil {
		return err
	}
	go func() {
		if err := d.target.serve(); err != nil {
			d.failed <- err
		}
	}()
	me, err := user.Current()
	if err != nil {
		return err
	}
	d.sshd, err = startSSHD(filepath.Join(d.dir, "web01"), "web01", me.Username, authority)
	return err
}

// found makes the administrator, the roles, the people and the targets, as an
// administrator would with the client.
func (d *demo) found(ctx context.Context) (map[string]string, error) {
	b := d.app.broker
	admin, err := b.Found(ctx, access.User{Name: "admin", Display: "Administrator", Groups: []string{"administrators"}}, foundingRoles())
	if err != nil {
		return nil, err
	}
	by := access.Caller{User: admin, Via: "demo"}
	passwords := map[string]string{}
	add := func(name, userID string) error {
		password := access.NewID("demo")
		passwords[name] = password
		return d.app.local.SetPassword(ctx, by, userID, []byte(password))
	}
	if err := add("admin", admin.ID); err != nil {
		return nil, err
	}
	for _, p := range demoPeople {
		u, err := b.AddUser(ctx, by, access.User{Name: p.name, Display: p.display, Groups: []string{p.group}})
		if err != nil {
			return nil, err
		}
		if err := add(p.name, u.ID); err != nil {
			return nil, err
		}
	}
	targets := []access.Target{{
		Name: "db01", Address: d.target.listener.Addr().String(), HostKeys: []string{d.target.hostKey()},
		Labels:       access.Labels{Environment: "prod", Tier: "1", Criticality: "high", Owner: "dba"},
		Applications: []string{"billing"},
		Accounts:     []access.Account{{Name: "root", Credential: access.CredentialCertificate}, {Name: "guest", Credential: access.CredentialCertificate}},
	}}
	if s := d.sshd; s != nil {
		targets = append(targets, access.Target{
			Name: s.name, Address: s.address, HostKeys: []string{s.hostKey},
			Labels:   access.Labels{Environment: "staging", Tier: "2", Criticality: "low", Owner: "web"},
			Accounts: []access.Account{{Name: s.account, Credential: access.CredentialCertificate}},
		})
	}
	for _, t := range targets {
		if _, err := b.AddTarget(ctx, by, t); err != nil {
			return nil, err
		}
	}
	return passwords, nil
}

// person is the folder of a person's client configuration.
func (d *demo) person(name string) string { return filepath.Join(d.dir, "people", name) }

func (d *demo) signIn(ctx context.Context, name, password string) error {
	if err := os.MkdirAll(d.person(name), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.person(name), "password"), []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	cmd := d.command(ctx, name, "login", d.app.config.Server.ExternalURL, "--user", name, "--password-stdin", "--fingerprint", fingerprint(d.app.tls))
	cmd.Stdin = strings.NewReader(password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sign %s in: %w\n%s", name, err, out)
	}
	return nil
}

// command is the client as run by a person.
func (d *demo) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.client, args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "DRAWBOLT_") || strings.HasPrefix(e, "SSH_AUTH_SOCK=")
	}),
		"DRAWBOLT_CONFIG_DIR="+d.person(name))
	return cmd
}

// writeFiles writes what scripts and stock clients use.
func (d *demo) writeFiles(ctx context.Context) error {
	config, err := d.command(ctx, "alice", "ssh-config").Output()
	if err != nil {
		return fmt.Errorf("write the ssh_config: %w", err)
	}
	if err := os.WriteFile(d.sshConfig(), config, 0o600); err != nil {
		return err
	}
	people := map[string]string{}
	for _, name := range append([]string{"admin"}, "alice", "bob", "carol") {
		people[name] = d.person(name)
	}
	targets := []string{"db01"}
	if d.sshd != nil {
		targets = append(targets, d.sshd.name)
	}
	b, err := json.MarshalIndent(map[string]any{
		"url": d.app.config.Server.ExternalURL, "ssh": d.app.config.Server.Listen.SSH, "rdp": nil,
		"targets": targets, "people": people, "fingerprint": fingerprint(d.app.tls), "audit_key": d.app.keys.verifierKey,
	}, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(d.dir, demoMarker), append(b, '\n'))
}

func (d *demo) sshConfig() string { return filepath.Join(d.dir, "ssh_config") }

func (d *demo) printHints() {
	relative := func(path string) string {
		if wd, err := os.Getwd(); err == nil {
			if r, err := filepath.Rel(wd, path); err == nil {
				return r
			}
		}
		return path
	}
	as := func(name string) string {
		return "DRAWBOLT_CONFIG_DIR=" + relative(d.person(name)) + " " + relative(d.client)
	}
	fmt.Fprintf(d.out, `
It stays up. Try, in other terminals:
  1  ssh -F %s root@db01            asks for a reason, then waits
  2  %s inbox                      then: approve REQ-...
     or on the web: %s  as bob, password in %s
  3  %s sessions                   then: replay SES-..., verify SES-...
Ctrl-C ends it.
`, relative(d.sshConfig()), as("bob"), d.app.config.Server.ExternalURL, relative(filepath.Join(d.person("bob"), "password")), as("carol"))
}

func (d *demo) close() {
	if d.stop != nil {
		d.stop()
		<-d.done
	}
	if d.target != nil {
		d.target.close()
	}
	if d.sshd != nil {
		d.sshd.close()
	}
	if d.app != nil {
		_ = d.app.Close()
	}
}

func pemBytes(b *pem.Block) []byte {
	var out bytes.Buffer
	_ = pem.Encode(&out, b) // a bytes.Buffer does not fail
	return out.Bytes()
}
