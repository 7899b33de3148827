//go:build linux

package test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
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
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
	_ "modernc.org/sqlite" // the command sql

	"github.com/drawbolt/drawbolt/broker/identity/mfa/mfatest"
	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault/sshca"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/slack/slacktest"
)

// told are the stories that must be there: one that is lost, renamed or emptied
// fails. None may skip; testscript's skip and stop are not to be used in them.
var told = []string{
	"access-review", "account-key", "acknowledge", "agent", "approve-cli", "approve-steps", "approve-web", "ask", "attribute", "audit-tampered", "away", "bootstrap",
	"bootstrap-fails", "break-glass", "breakglass-codes", "breakglass-lock", "burst", "ca-rotate", "checkout", "codes", "cold-recordings", "completion", "deny", "deny-threshold",
	"discover", "discover-daily", "disk-full", "display", "edit-request", "evidence", "expected", "expiry", "extend-inside", "files", "first-day", "forwards", "four-eyes", "freeze", "guest", "hand-over",
	"heard", "hidden", "host-key", "hostile-input", "import", "key-offered", "limits", "lock", "lost-key", "manage-bulk", "managed-password", "managed-plugin", "moderate", "multiplex", "narrow",
	"narrow-rights", "newer-pages", "object-store", "one-person-once", "own-request", "pages", "passes-through", "passkey", "player", "policy-ask", "policy-bundle",
	"policy-signed", "proxy", "question", "recording-damaged", "recording-life", "recording-tampered", "refused-channels", "release", "restart", "revoke",
	"role-file", "rolled-back", "rsync", "run", "schedule-extend", "seal", "search", "slack", "slack-cards", "target-check", "target-via", "ticket", "unknown-key",
	"verify-elsewhere", "video", "views", "watch", "wrong-fingerprint",
}

// storiesAtOnce is how many stories run side by side: each waits more than it
// works.
const storiesAtOnce = 4

// TestStories runs testdata/*.txtar: what people and attackers do with the real
// programs and stock OpenSSH. Besides the commands of testscript they use those
// of story.commands; most start a demo, on ports of its own.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	must(t, err)
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".txtar"))
		b, err := os.ReadFile(f)
		must(t, err)
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "-- ") {
				break
			}
			if w := strings.Fields(line); len(w) > 0 && slices.ContainsFunc(w[:min(2, len(w))], func(s string) bool { return s == "skip" || s == "stop" }) {
				t.Errorf("%s skips: %s", f, line)
			}
		}
	}
	slices.Sort(names) // as files, they stand in another order
	if !slices.Equal(names, told) {
		t.Errorf("the stories are\n%q\nand those that must be told\n%q", names, told)
	}
	b, err := programs()
	must(t, err)
	slots := make(chan struct{}, storiesAtOnce)
	t.Run("told", func(t *testing.T) {
		testscript.RunT(storyT{t}, testscript.Params{
			Dir: "testdata", RequireUniqueNames: true, Cmds: storyCommands(),
			Setup: func(env *testscript.Env) error {
				slots <- struct{}{}
				env.Defer(func() { <-slots })
				s := &story{bin: b.dir, work: env.WorkDir, people: filepath.Join(env.WorkDir, "demo", "people"), jobs: map[string]*job{}, browsers: map[string]*browser{}, passkeys: map[string]*mfatest.Passkey{}}
				late, stop := sluggish()
				s.late = late
				env.Defer(stop)
				env.Values[story{}.key()] = s
				env.Defer(s.close)
				home := filepath.Join(env.WorkDir, "home")
				env.Setenv("HOME", home)
				env.Setenv("PATH", b.dir+":"+os.Getenv("PATH"))
				env.Setenv("DEMO", filepath.Join(env.WorkDir, "demo"))
				env.Setenv("TERM", "xterm")
				bundle, err := filepath.Abs("../rego")
				if err != nil {
					return err
				}
				env.Setenv("BUNDLE", bundle)
				me, err := user.Current()
				if err != nil {
					return err
				}
				env.Setenv("ME", me.Username)
				return os.MkdirAll(home, 0o700)
			},
		})
	})
}

// storyT runs every story in parallel, whatever -parallel says: the slots bound
// them.
type storyT struct{ *testing.T }

func (t storyT) Parallel()     { t.T.Parallel() }
func (t storyT) Verbose() bool { return testing.Verbose() }
func (t storyT) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(storyT{t}) })
}

type storyKey struct{}

func (story) key() any { return storyKey{} }

// A story is what one script has started.
type story struct {
	bin, work string
	people    string // folder of the people's configurations
	url, ssh  string
	audit     string // public key
	server    *job
	set       []string // settings of the demo
	ended     []func()
	jobs      map[string]*job
	browsers  map[string]*browser
	passkeys  map[string]*mfatest.Passkey
	targets   map[string]*lab
	display   []string // of a screen, in the environment of ssh
	chat      *slacktest.Server
	ears      *ears
	late      func() time.Duration // see sluggish
}

func (s *story) close() {
	for _, j := range s.jobs {
		j.kill()
	}
	if s.server != nil {
		s.server.kill()
	}
	for _, f := range s.ended {
		f()
	}
}

type command = func(s *story, ts *testscript.TestScript, args []string)

func storyCommands() map[string]func(*testscript.TestScript, bool, []string) {
	out := map[string]func(*testscript.TestScript, bool, []string){}
	for name, c := range storyVerbs() {
		out[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("%s takes no !; say which exit code with =N", name)
			}
			c(ts.Value(storyKey{}).(*story), ts, args)
		}
	}
	return out
}

func storyVerbs() map[string]command {
	return map[string]command{
		// demo [SETTING=VALUE ...] [named]: starts drawboltd demo --no-story. named: its
		// address has a name and no number, so that there are passkeys.
		"demo": (*story).demo,
		// serve [=N]: runs drawboltd serve on the folder of the demo that was
		// stopped, with its settings, or of drawbolt.yaml; =N: it must refuse to start;
		// bare: it finds no other programs.
		"serve": (*story).serve,
		// halt [KILL]: stops the server.
		"halt": (*story).halt,
		// reload TEXT: a SIGHUP, after which the server's log has the text once more.
		"reload": (*story).reload,
		// install [ARGS]: drawbolt.yaml on free ports, drawboltd init ARGS, and the server.
		"install": (*story).install,
		// as [=N] PERSON ARGS [<FILE] [>FILE] [&JOB]: drawbolt as that person,
		// who must end with exit code N (0).
		"as": func(s *story, ts *testscript.TestScript, args []string) { s.run(ts, "as", args) },
		// ssh [=N] ARGS ...: the stock client as alice.
		"ssh": func(s *story, ts *testscript.TestScript, args []string) { s.run(ts, "ssh", args) },
		// sftp, scp: the same.
		"sftp": func(s *story, ts *testscript.TestScript, args []string) { s.run(ts, "sftp", args) },
		"scp":  func(s *story, ts *testscript.TestScript, args []string) { s.run(ts, "scp", args) },
		// pty JOB ssh|as ARGS: the same on a terminal.
		"pty": (*story).pty,
		// type JOB TEXT: types a line. key JOB: ctrl-c, or eof.
		"type": (*story).typeLine,
		// expect JOB TEXT: waits until it shows the text, after the last one.
		"expect": (*story).expect,
		// finish [=N] JOB: waits for its end; stdout and stderr are what it wrote.
		"finish": (*story).finish,
		// hangup JOB: kills it, as when a laptop is closed.
		"hangup": (*story).hangup,
		// within D COMMAND ...: and it must not take longer.
		"within": (*story).within,
		// nothing-after JOB TIME D: no byte came later than D after TIME.
		"nothing-after": (*story).nothingAfter,
		// until D COMMAND ...: repeats it until it succeeds.
		"until": (*story).until,
		// pending PERSON VAR: waits for the newest request in the inbox.
		"pending": (*story).pending,
		// pick VAR PATH: a value out of the JSON on stdout: grant.end, 0.id
		"pick": (*story).pick,
		// keys: prints the keys of the JSON on stdout, one a line, sorted.
		"keys": (*story).keys,
		// api [=STATUS] PERSON METHOD PATH [JSON|@FILE]: prints the answer.
		// =STATUS-or-cut: the connection may be cut while the body is sent.
		"api": (*story).api,
		// web [=STATUS] PERSON PATH [NAME=VALUE ...]: a browser without
		// JavaScript: gets a page; with values fills in the form on the page and
		// sends it. form: the page that is shown; by-hand:PATH: without a form;
		// elsewhere:PATH: as the page of another site makes a browser send it.
		"web": (*story).web,
		// passkey PERSON add|sign-in|vote:DIGEST: the person's browser makes a passkey, or
		// signs with it; the file answer is what goes into the form.
		"passkey": (*story).passkey,
		// lab NAME: an OpenSSH server as a target, tier 1. lab NAME rekey:
		// with another host key from now on. lab NAME away: it ends. lab NAME
		// bare, lab NAME plain: one that trusts nobody, with and without a
		// folder of fragments, and a target of which no host key is known; $OWN
		// is a key of the machine's own administrator.
		"lab": (*story).lab,
		// enrol [=N] LAB [NAME=VALUE ...] SCRIPT [ARGS]: runs the script of a
		// bootstrap at that one.
		"enrol": func(s *story, ts *testscript.TestScript, args []string) { s.run(ts, "enrol", args) },
		// fetch [=N] LAB: what the timer of a bootstrap runs.
		"fetch": func(s *story, ts *testscript.TestScript, args []string) { s.run(ts, "fetch", args) },
		// sql STATEMENT: on the server's SQLite file.
		"sql": (*story).sql,
		// flip FILE OFFSET|middle: flips one bit.
		"flip": (*story).flip,
		// drop-tail FILE N: cuts the last N lines.
		"drop-tail": (*story).dropTail,
		// sha256 FILE SUM
		"sha256": (*story).sha256,
		// big FILE BYTES CHARACTER; fill FOLDER KEEP: leaves so many bytes free.
		"big":  (*story).big,
		"fill": (*story).fill,
		// disk FOLDER SIZE: a small disk there.
		"disk": (*story).disk,
		// count N PATTERN: N lines of stdout contain it.
		"count": (*story).count,
		// agent: an ssh-agent at $AGENT, which has the key of the file mine,
		// with the comment "a key of alice".
		"agent": (*story).agent,
		// screen: an X server without a monitor, at $DISPLAY.
		"screen": (*story).screen,
		// bucket: an empty bucket $BUCKET of the object store at $STORE, as the
		// folder $STORED; its key has the id $KEYID, and the secret that is in the
		// file secret. away: nobody has that secret; back: it is right again.
		"bucket": (*story).bucket,
		// slack start: a Slack at $SLACK, whose tokens are in the files bot and app.
		// slack types PERSON TEXT: /access TEXT. slack press PERSON ACTION: on the
		// newest message that has such a button; chooses: such an item of a menu. slack shows TEXT, slack hears PERSON
		// TEXT: waits until the channel shows it, or until somebody was told it, which
		// is then on stdout. slack links PERSON VAR: types /access link; VAR is the code.
		"slack": (*story).slack,
		// hear: a mail server and a receiver of webhooks, named mails and hooks in
		// drawbolt.yaml, with which serve starts the server of a demo that was
		// stopped. deaf: the receiver is away; deaf no: it is back.
		"hear": (*story).hear,
		"deaf": (*story).deafen,
		// heard mails|hooks PATTERN: waits until one of them matches.
		"heard": (*story).heard,
		// jira: a fake of Jira at $JIRA, with the issues of issues.json.
		"jira": (*story).jira,
		// postgres start: a role $ROLE of a PostgreSQL server at $PG, with the password
		// in the file first. postgres takes|refuses FILE: logs in with that.
		"postgres": (*story).postgres,
		// there FILE, gone FILE: waits until it is, or is no longer.
		"there": func(s *story, ts *testscript.TestScript, args []string) { s.awaitFile(ts, args[0], true) },
		"gone":  func(s *story, ts *testscript.TestScript, args []string) { s.awaitFile(ts, args[0], false) },
		// doctor [=N]: drawboltd doctor on the demo that runs, with the settings
		// that it was started with.
		"doctor": (*story).doctor,
		// port VAR: a free port of this machine.
		"port": (*story).port,
		// now VAR [DURATION]: the time, RFC 3339.
		"now": (*story).now,
	}
}

// nextPort begins below the range out of which the kernel takes ports by itself,
// so that nothing takes one between its choice and its use.
var nextPort atomic.Int32

func storyPort() (string, error) {
	for range 2000 {
		port := 12000 + (int32(os.Getpid())*64+nextPort.Add(1))%18000
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no port is free")
}

func (s *story) demo(ts *testscript.TestScript, args []string) {
	dir := ts.Getenv("DEMO")
	line := []string{filepath.Join(s.bin, "drawboltd"), "demo", "--no-story", "--dir", dir}
	named := slices.Index(args, "named")
	for _, name := range []string{"https", "ssh", "metrics"} {
		address, err := storyPort()
		ts.Check(err)
		if name == "https" && named >= 0 {
			_, port, err := net.SplitHostPort(address)
			ts.Check(err)
			args = slices.Replace(slices.Clone(args), named, named+1, "server.external_url=https://localhost:"+port)
		}
		line = append(line, "--set", "server.listen."+name+"="+address)
	}
	for _, a := range args {
		line = append(line, "--set", a)
	}
	s.set = args
	j, err := startJob(exec.Command(line[0], line[1:]...), s.environ(""), jobFiles{}, false)
	ts.Check(err)
	s.server = j
	var d struct {
		URL         string `json:"url"`
		SSH         string `json:"ssh"`
		Fingerprint string `json:"fingerprint"`
		AuditKey    string `json:"audit_key"`
	}
	ts.Check(eventuallyErr(60*time.Second, func() error {
		select {
		case <-j.done:
			return fatal{fmt.Errorf("the demo ended:\n%s", j.all())}
		default:
		}
		b, err := os.ReadFile(filepath.Join(dir, "demo.json"))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &d); err != nil || d.AuditKey == "" {
			return errors.New("demo.json is not complete")
		}
		return nil
	}))
	s.people = filepath.Join(dir, "people")
	s.use(ts, d.URL, d.SSH, d.Fingerprint, d.AuditKey)
}

func (s *story) use(ts *testscript.TestScript, url, address, fingerprint, key string) {
	s.url, s.ssh, s.audit = url, address, key
	host, port, err := net.SplitHostPort(address)
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(s.work, "audit.pub"), []byte(key+"\n"), 0o600))
	for name, value := range map[string]string{"URL": url, "SSH_HOST": host, "SSH_PORT": port, "FINGERPRINT": fingerprint, "KEY": filepath.Join(s.work, "audit.pub")} {
		ts.Setenv(name, value)
	}
}

// eventuallyErr repeats f until it succeeds, fails for good, or the time is up.
func eventuallyErr(d time.Duration, f func() error) error {
	for deadline := time.Now().Add(d); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil || errors.As(err, new(fatal)) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", d, err)
		}
	}
}

// fatal is an error that more time does not mend.
type fatal struct{ error }

func (s *story) configFile() string { return filepath.Join(s.work, "drawbolt.yaml") }

func (s *story) data() string {
	if _, err := os.Stat(filepath.Join(s.work, "installed")); err == nil {
		return filepath.Join(s.work, "installed")
	}
	return filepath.Join(s.work, "demo", "server")
}

func (s *story) serve(ts *testscript.TestScript, args []string) {
	if _, err := os.Stat(s.configFile()); err != nil {
		s.writeConfig(ts, s.url, s.ssh)
	}
	code, args := expected(ts, args)
	env := append(s.environ(""), s.settings()...)
	if len(args) > 0 && args[0] == "bare" {
		env = append(env, "PATH="+s.bin)
	}
	cmd := exec.Command(filepath.Join(s.bin, "drawboltd"), "serve", "--config", s.configFile())
	j, err := startJob(cmd, env, jobFiles{}, false)
	ts.Check(err)
	if code != 0 {
		s.jobs["serve"] = j
		s.finish(ts, []string{fmt.Sprintf("=%d", code), "serve"})
		return
	}
	s.server = j
	ts.Check(eventuallyErr(time.Minute, func() error {
		select {
		case <-j.done:
			return fatal{fmt.Errorf("the server ended:\n%s", j.all())}
		default:
			_, err := api.PeerFingerprint(context.Background(), s.url)
			return err
		}
	}))
}

func (s *story) writeConfig(ts *testscript.TestScript, url, address string) {
	config := fmt.Sprintf("data: %s\nserver:\n  name: demo\n  external_url: %s\n  listen: {https: %q, ssh: %q, metrics: \"\"}\nrecordings: {min_free: 1MiB}\n",
		s.data(), url, strings.TrimPrefix(url, "https://"), address)
	ts.Check(os.WriteFile(s.configFile(), []byte(config), 0o600))
}

func (s *story) reload(ts *testscript.TestScript, args []string) {
	if s.server == nil || len(args) != 1 {
		ts.Fatalf("usage: reload TEXT, of a server that runs")
	}
	said := func() int { return strings.Count(string(s.server.all()), args[0]) }
	before := said()
	ts.Check(s.server.cmd.Process.Signal(syscall.SIGHUP))
	ts.Check(eventuallyErr(60*time.Second, func() error {
		if said() == before {
			return fmt.Errorf("the log does not say %q again", args[0])
		}
		return nil
	}))
}

func (s *story) halt(ts *testscript.TestScript, args []string) {
	if s.server == nil {
		ts.Fatalf("nothing runs")
	}
	if len(args) > 0 && args[0] == "KILL" {
		s.server.kill()
	} else {
		ts.Check(s.server.cmd.Process.Signal(syscall.SIGTERM))
		select {
		case <-s.server.done:
		case <-time.After(patience):
			ts.Fatalf("the server did not stop")
		}
		if s.server.code != 0 {
			ts.Fatalf("the server ended with %d:\n%s", s.server.code, s.server.all())
		}
	}
	s.server = nil
}

// install sets a server up as an administrator does on the first day; stdout is
// what init says.
func (s *story) install(ts *testscript.TestScript, args []string) {
	https, err := storyPort()
	ts.Check(err)
	address, err := storyPort()
	ts.Check(err)
	ts.Check(os.MkdirAll(filepath.Join(s.work, "installed"), 0o700))
	s.people = filepath.Join(s.work, "people")
	s.url, s.ssh = "https://"+https, address
	s.writeConfig(ts, s.url, s.ssh)
	cmd := exec.Command(filepath.Join(s.bin, "drawboltd"), append([]string{"init", "--config", s.configFile(), "--unattended"}, args...)...)
	cmd.Env = s.environ("")
	out, err := cmd.CombinedOutput()
	if err != nil {
		ts.Fatalf("init: %v\n%s", err, out)
	}
	s.serve(ts, nil)
	fingerprint, err := api.PeerFingerprint(context.Background(), s.url)
	ts.Check(err)
	s.use(ts, s.url, s.ssh, fingerprint, "")
	fmt.Fprintf(ts.Stdout(), "%s", out)
}

// environ is what programs of a person see.
func (s *story) environ(person string) []string {
	env := []string{"PATH=" + s.bin + ":" + os.Getenv("PATH"), "HOME=" + filepath.Join(s.work, "home"), "TERM=xterm", "LANG=C.UTF-8",
		"STORY=one", "LC_STORY=two", "TMPDIR=" + os.TempDir()}
	if person != "" {
		env = append(env, "DRAWBOLT_CONFIG_DIR="+filepath.Join(s.people, person))
	}
	return env
}

func (s *story) sshConfig() string {
	if f := filepath.Join(s.work, "ssh_config"); fileExists(f) {
		return f
	}
	return filepath.Join(s.work, "demo", "ssh_config")
}

func fileExists(name string) bool { _, err := os.Stat(name); return err == nil }

// program makes the command that a line of a story means.
func (s *story) program(ts *testscript.TestScript, what string, args []string) (*exec.Cmd, []string) {
	switch what {
	case "as":
		if len(args) == 0 {
			ts.Fatalf("as whom?")
		}
		return exec.Command(filepath.Join(s.bin, "drawbolt"), args[1:]...), s.environ(args[0])
	case "ssh", "sftp", "scp":
		return exec.Command("/usr/bin/"+what, append([]string{"-F", s.sshConfig()}, args...)...), append(s.environ(""), s.display...)
	case "enrol":
		l := s.targets[args[0]]
		env := append(s.environ(""), "DRAWBOLT_SSHD_CONFIG="+l.dir+"/sshd_config", "DRAWBOLT_FOLDER="+l.dir+"/drawbolt", "DRAWBOLT_WAIT=30",
			"DRAWBOLT_TIMER=cron", "DRAWBOLT_TIMER_FOLDER="+l.dir+"/cron.d", fmt.Sprint("DRAWBOLT_RELOAD=kill -HUP ", l.pid))
		n := 1
		for ; strings.Contains(args[n], "="); n++ {
			env = append(env, args[n])
		}
		return exec.Command("/bin/sh", args[n:]...), env
	case "fetch":
		return exec.Command("/bin/sh", s.targets[args[0]].dir+"/drawbolt/fetch-revoked"), s.environ("")
	}
	ts.Fatalf("there is no program %q here", what)
	return nil, nil
}

// expected takes the exit code off the front of the arguments.
func expected(ts *testscript.TestScript, args []string) (int, []string) {
	if len(args) == 0 || !strings.HasPrefix(args[0], "=") {
		return 0, args
	}
	n, err := strconv.Atoi(args[0][1:])
	ts.Check(err)
	return n, args[1:]
}

func (s *story) run(ts *testscript.TestScript, what string, args []string) {
	code, args := expected(ts, args)
	var files jobFiles
	background := ""
	for len(args) > 0 {
		last := args[len(args)-1]
		switch {
		case len(last) < 2:
		case last[0] == '<':
			files.in = ts.MkAbs(last[1:])
		case last[0] == '>':
			files.out = ts.MkAbs(last[1:])
		case last[0] == '&':
			background = last[1:]
		}
		if len(last) < 2 || !strings.ContainsRune("<>&", rune(last[0])) {
			break
		}
		args = args[:len(args)-1]
	}
	cmd, env := s.program(ts, what, args)
	cmd.Dir = ts.MkAbs(".")
	j, err := startJob(cmd, env, files, false)
	ts.Check(err)
	name := background
	if name == "" {
		name = "the command"
	}
	s.jobs[name] = j
	if background == "" {
		s.finish(ts, []string{fmt.Sprintf("=%d", code), name})
	}
}

func (s *story) pty(ts *testscript.TestScript, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: pty JOB ssh|as ARGS")
	}
	cmd, env := s.program(ts, args[1], args[2:])
	cmd.Dir = ts.MkAbs(".")
	j, err := startJob(cmd, env, jobFiles{}, true)
	ts.Check(err)
	s.jobs[args[0]] = j
}

// A lab is an OpenSSH server of this machine.
type lab struct {
	dir, address string
	pid          int
	stop         func()
}

func (s *story) lab(ts *testscript.TestScript, args []string) {
	name, how := args[0], ""
	if len(args) > 1 {
		how = args[1]
	}
	l := s.targets[name]
	bare := how == "bare" || how == "plain"
	if how == "away" {
		l.stop()
		return
	}
	known := l != nil
	if l == nil {
		address, err := storyPort()
		ts.Check(err)
		l = &lab{dir: filepath.Join(s.work, "lab-"+name), address: address}
		if s.targets == nil {
			s.targets = map[string]*lab{}
		}
		s.targets[name] = l
		s.ended = append(s.ended, func() { l.stop() })
		account := ts.Getenv("ME")
		ts.Check(os.MkdirAll(l.dir+"/principals", 0o755))
		authority, err := s.drawbolt("admin", "ca", "show", "user")
		ts.Check(err)
		principal, err := sshca.Principal(account, name)
		ts.Check(err)
		ts.Check(os.WriteFile(l.dir+"/principals/"+account, []byte(principal+"\n"), 0o644))
		ts.Check(os.WriteFile(l.dir+"/user_ca.pub", authority, 0o644))
	} else {
		l.stop()
	}
	key := newKeyFile(ts, l.dir+"/host_key")
	host, port, err := net.SplitHostPort(l.address)
	ts.Check(err)
	trusts := []string{"TrustedUserCAKeys " + l.dir + "/user_ca.pub", "AuthorizedPrincipalsFile " + l.dir + "/principals/%u", "AuthorizedKeysFile none"}
	if bare {
		own := newKeyFile(ts, filepath.Join(s.work, "own-"+name))
		ts.Setenv("OWN", filepath.Join(s.work, "own-"+name))
		ts.Check(os.WriteFile(l.dir+"/authorized_keys", ssh.MarshalAuthorizedKey(own), 0o644))
		ts.Check(errors.Join(os.MkdirAll(l.dir+"/cron.d", 0o755), os.MkdirAll(l.dir+"/sshd_config.d", 0o755)))
		trusts = []string{"AuthorizedKeysFile " + l.dir + "/authorized_keys"}
		if how == "bare" {
			trusts = append([]string{"Include " + l.dir + "/sshd_config.d/*.conf"}, trusts...)
		}
		ts.Setenv("LAB_HOST", host)
		ts.Setenv("LAB_PORT", port)
	}
	ts.Check(os.WriteFile(l.dir+"/sshd_config", []byte(strings.Join(append(trusts,
		"ListenAddress "+host, "Port "+port, "HostKey "+l.dir+"/host_key", "PidFile none", "LogLevel DEBUG",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "UsePAM no", "StrictModes no",
		"AcceptEnv *", "X11Forwarding yes", "SetEnv XAUTHORITY="+l.dir+"/xauthority", "PrintMotd no", "PrintLastLog no", "Subsystem sftp internal-sftp", "",
	), "\n")), 0o600))
	if os.Getuid() == 0 {
		ts.Check(os.MkdirAll("/run/sshd", 0o755))
	}
	j, err := startJob(exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", l.dir+"/sshd_config", "-E", l.dir+"/log"), s.environ(""), jobFiles{}, false)
	ts.Check(err)
	l.stop, l.pid = j.kill, j.cmd.Process.Pid
	ts.Check(eventuallyErr(time.Minute, func() error {
		c, err := net.Dial("tcp", l.address)
		if err == nil {
			c.Close()
		}
		return err
	}))
	if !known {
		add := []string{"target", "add", name, "--address", l.address, "--account", ts.Getenv("ME"), "--label", "tier=1", "--label", "environment=staging"}
		if !bare {
			add = append(add, "--host-key", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
		}
		_, err := s.drawbolt("admin", add...)
		ts.Check(err)
		config, err := s.drawbolt("alice", "ssh-config")
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(s.work, "ssh_config"), config, 0o600))
	}
}

func newKeyFile(ts *testscript.TestScript, file string) ssh.PublicKey {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	ts.Check(err)
	ts.Check(os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	key, err := ssh.NewPublicKey(public)
	ts.Check(err)
	return key
}

// drawbolt runs the client aside from the story.
func (s *story) drawbolt(person string, args ...string) ([]byte, error) {
	cmd := exec.Command(filepath.Join(s.bin, "drawbolt"), args...)
	cmd.Env = s.environ(person)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: drawbolt %s: %w\n%s", person, strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}

func (s *story) pending(ts *testscript.TestScript, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: pending PERSON VAR")
	}
	ts.Check(eventuallyErr(time.Minute, func() error {
		out, err := s.drawbolt(args[0], "inbox", "--json=id")
		if err != nil {
			return err
		}
		var list []struct{ ID string }
		if err := json.Unmarshal(out, &list); err != nil || len(list) == 0 {
			return errors.New("the inbox is empty")
		}
		ts.Setenv(args[1], list[0].ID)
		return nil
	}))
}

func (s *story) pick(ts *testscript.TestScript, args []string) {
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil {
		ts.Fatalf("stdout is no JSON: %v", err)
	}
	for part := range strings.SplitSeq(args[1], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(x) {
				ts.Fatalf("there is no %s", args[1])
			}
			v = x[i]
		default:
			v = nil
		}
	}
	if v == nil {
		ts.Fatalf("there is no %s", args[1])
	}
	if f, ok := v.(float64); ok {
		v = strconv.FormatFloat(f, 'f', -1, 64)
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

func (s *story) keys(ts *testscript.TestScript, _ []string) {
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil {
		ts.Fatalf("stdout is no JSON: %v", err)
	}
	var list []string
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		switch x := v.(type) {
		case map[string]any:
			for k, v := range x {
				list = append(list, prefix+k)
				walk(prefix+k+".", v)
			}
		case []any:
			for _, v := range x {
				walk(prefix, v)
			}
		}
	}
	walk("", v)
	slices.Sort(list)
	fmt.Fprintln(ts.Stdout(), strings.Join(slices.Compact(list), "\n"))
}

func (s *story) sql(ts *testscript.TestScript, args []string) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.data(), "drawbolt.db")+"?_pragma=busy_timeout(60000)")
	ts.Check(err)
	defer db.Close()
	r, err := db.Exec(args[0])
	ts.Check(err)
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		ts.Fatalf("nothing was changed by %s: %v", args[0], err)
	}
}

func (s *story) flip(ts *testscript.TestScript, args []string) {
	name := args[0]
	if found, err := filepath.Glob(ts.MkAbs(name)); err == nil && len(found) == 1 {
		name = found[0]
	} else {
		ts.Fatalf("%s are %d files", name, len(found))
	}
	b, err := os.ReadFile(name)
	ts.Check(err)
	at := len(b) / 2
	if args[1] != "middle" {
		at, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	b[at] ^= 1
	ts.Check(os.WriteFile(name, b, 0o600))
}

func (s *story) dropTail(ts *testscript.TestScript, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	lines := strings.SplitAfter(strings.TrimSuffix(ts.ReadFile(args[0]), "\n"), "\n")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(lines[:len(lines)-n], "")), 0o600))
}

func (s *story) sha256(ts *testscript.TestScript, args []string) {
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	ts.Check(err)
	if got := hex.EncodeToString(h.Sum(nil)); got != args[1] {
		ts.Fatalf("%s has the SHA-256 %s, not %s", args[0], got, args[1])
	}
}

func (s *story) big(ts *testscript.TestScript, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Repeat(args[2], n)), 0o600))
}

func (s *story) disk(ts *testscript.TestScript, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]); err != nil {
		ts.Fatalf("mount a small disk (as root): %v", err)
	}
	s.ended = append(s.ended, func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

func (s *story) fill(ts *testscript.TestScript, args []string) {
	keep, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ballast := filepath.Join(ts.MkAbs(args[0]), "ballast")
	_ = os.Remove(ballast) // of before
	var st syscall.Statfs_t
	ts.Check(syscall.Statfs(ts.MkAbs(args[0]), &st))
	f, err := os.Create(ballast)
	ts.Check(err)
	defer f.Close()
	ts.Check(syscall.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-keep))
}

func (s *story) count(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if strings.Contains(line, args[1]) {
			got++
		}
	}
	if got != want {
		ts.Fatalf("%d lines contain %q, not %d", got, args[1], want)
	}
}

func (s *story) agent(ts *testscript.TestScript, _ []string) {
	socket, key := filepath.Join(s.work, "agent"), filepath.Join(s.work, "mine")
	s.beside(ts, "ssh-agent", "-D", "-a", socket)
	ts.Check(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a key of alice", "-f", key).Run())
	ts.Setenv("AGENT", socket)
	ts.Check(eventuallyErr(time.Minute, func() error {
		add := exec.Command("ssh-add", "-q", key)
		add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		return add.Run()
	}))
}

func (s *story) screen(ts *testscript.TestScript, _ []string) {
	address, err := storyPort()
	ts.Check(err)
	_, number, err := net.SplitHostPort(address)
	ts.Check(err)
	cookies := filepath.Join(s.work, "cookies")
	ts.Check(exec.Command("xauth", "-q", "-f", cookies, "add", ":"+number, ".", "00112233445566778899aabbccddeeff").Run())
	s.beside(ts, "Xvfb", ":"+number, "-auth", cookies, "-nolisten", "tcp", "-noreset")
	s.display = []string{"DISPLAY=:" + number, "XAUTHORITY=" + cookies}
	ts.Setenv("DISPLAY", ":"+number)
	ts.Setenv("XAUTHORITY", cookies)
	ts.Check(eventuallyErr(time.Minute, func() error {
		info := exec.Command("xdpyinfo")
		info.Env = append(os.Environ(), s.display...)
		return info.Run()
	}))
}

// beside starts a program that runs until the end of the story.
func (s *story) beside(ts *testscript.TestScript, name string, args ...string) {
	j, err := startJob(exec.Command(name, args...), s.environ(""), jobFiles{}, false)
	ts.Check(err)
	s.ended = append(s.ended, j.kill)
}

func (s *story) bucket(ts *testscript.TestScript, args []string) {
	secret := filepath.Join(s.work, "secret")
	if len(args) > 0 {
		b := []byte("of somebody else")
		if args[0] == "back" {
			b = []byte(ts.Getenv("SECRET"))
		}
		ts.Check(os.WriteFile(secret, b, 0o600))
		return
	}
	b, remove, err := servers.NewBucket()
	ts.Check(err)
	s.ended = append(s.ended, func() { _ = remove() })
	right, err := os.ReadFile(b.SecretFile)
	ts.Check(err)
	ts.Check(os.WriteFile(secret, right, 0o600))
	for name, value := range map[string]string{"STORE": b.Endpoint, "BUCKET": b.Name, "KEYID": b.AccessKeyID, "STORED": b.Folder, "SECRET": string(right)} {
		ts.Setenv(name, value)
	}
}

// settings are those that the demo was started with.
func (s *story) settings() (env []string) {
	for _, a := range s.set {
		name, value, _ := strings.Cut(a, "=")
		env = append(env, "DRAWBOLT_"+strings.ToUpper(strings.ReplaceAll(name, ".", "_"))+"="+value)
	}
	return env
}

func (s *story) awaitFile(ts *testscript.TestScript, name string, there bool) {
	path := ts.MkAbs(name)
	ts.Check(eventuallyErr(time.Minute, func() error {
		if fileExists(path) != there {
			return fmt.Errorf("%s is there: %v", name, !there)
		}
		return nil
	}))
}

func (s *story) doctor(ts *testscript.TestScript, args []string) {
	code, _ := expected(ts, args)
	cmd := exec.Command(filepath.Join(s.bin, "drawboltd"), "doctor")
	cmd.Env = append(s.environ(""), "DRAWBOLT_DATA="+s.data(), "DRAWBOLT_SERVER_EXTERNAL_URL="+s.url, "DRAWBOLT_SERVER_NAME=demo", "DRAWBOLT_RECORDINGS_MIN_FREE=64MiB")
	j, err := startJob(cmd, append(cmd.Env, s.settings()...), jobFiles{}, false)
	ts.Check(err)
	s.jobs["doctor"] = j
	s.finish(ts, []string{fmt.Sprintf("=%d", code), "doctor"})
}

func (s *story) port(ts *testscript.TestScript, args []string) {
	address, err := storyPort()
	ts.Check(err)
	_, port, err := net.SplitHostPort(address)
	ts.Check(err)
	ts.Setenv(args[0], port)
}

func (s *story) now(ts *testscript.TestScript, args []string) {
	d := time.Duration(0)
	if len(args) > 1 {
		var err error
		d, err = time.ParseDuration(args[1])
		ts.Check(err)
	}
	ts.Setenv(args[0], time.Now().Add(d).UTC().Format(time.RFC3339Nano))
}

func (s *story) within(ts *testscript.TestScript, args []string) {
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	began := time.Now()
	storyVerbs()[args[1]](s, ts, args[2:])
	if d := time.Since(began); d > limit+10*s.late() {
		ts.Fatalf("%s took %s", strings.Join(args[1:], " "), d.Round(time.Millisecond))
	}
}

// until repeats a drawbolt command of a person until its stdout has the text.
func (s *story) until(ts *testscript.TestScript, args []string) {
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	var out []byte
	err = eventuallyErr(max(limit, patience), func() error {
		out, err = s.drawbolt(args[2], args[3:]...)
		if !strings.Contains(string(out), args[1]) {
			return fmt.Errorf("%q is not in\n%s", args[1], out)
		}
		return nil
	})
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s", out)
}
