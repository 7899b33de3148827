package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/drawbolt/drawbolt/web/api"
)

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// certify answers as the server does, with a certificate of ca.
func certify(t *testing.T, ca ssh.Signer, change func(*api.Certificate, *ssh.Certificate)) func([]byte) any {
	return func(body []byte) any {
		var in api.CertificateInput
		if err := api.Unmarshal(body, &in); err != nil {
			t.Error(err)
		}
		pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(in.PublicKey))
		if err != nil {
			t.Error(err)
			return nil
		}
		cert := &ssh.Certificate{Key: pub, CertType: ssh.UserCert, KeyId: "alice", ValidPrincipals: []string{"alice"},
			ValidAfter: uint64(noon.Add(-time.Minute).Unix()), ValidBefore: uint64(noon.Add(8 * time.Hour).Unix())}
		out := api.Certificate{HostAuthority: string(ssh.MarshalAuthorizedKey(ca.PublicKey())), SSHHost: "gw.example.com", SSHPort: 2222, ExpiresAt: noon.Add(8 * time.Hour)}
		if change != nil {
			change(&out, cert)
		}
		if err := cert.SignCert(rand.Reader, ca); err != nil {
			t.Error(err)
		}
		out.Certificate = string(ssh.MarshalAuthorizedKey(cert))
		return out
	}
}

func loginAnswers(t *testing.T, ca ssh.Signer) map[string]any {
	return map[string]any{
		"GET /v1/version":         api.Version{Version: "1", Time: noon},
		"POST /v1/login":          api.Login{Token: "tok", User: "alice", ExpiresAt: noon.Add(8 * time.Hour)},
		"POST /v1/me/certificate": certify(t, ca, nil),
		"GET /v1/targets":         someTargets(),
		"GET /v1/authorities":     someAuthorities(ca),
	}
}

// someAuthorities are those of a server that rotates its host authority: the one
// of the login, and the next.
func someAuthorities(ca ssh.Signer) api.Authorities {
	const next = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO2bDPcqYb9pwmjKJXbwM6xPhDvkNpkOSBZGBIgLOF5M"
	host := string(ssh.MarshalAuthorizedKey(ca.PublicKey()))
	return api.Authorities{Host: host, Hosts: []string{host, next}}
}

func TestKnownHosts(t *testing.T) {
	a := someAuthorities(newSigner(t))
	p := &profile{name: "default"}
	known, err := knownHosts(p, append(a.Hosts, a.Host))
	if err != nil || strings.Count(string(known), "@cert-authority * ssh-ed25519 ") != 2 || strings.Count(string(known), "\n") != 2 {
		t.Errorf("got %q, %v", known, err)
	}
	for name, hostile := range map[string][]string{
		"no key":        {"x"},
		"another line":  {a.Host + "* ssh-ed25519 AAAA\n"},
		"too many":      slices.Repeat([]string{a.Host}, 9),
		"an empty line": {""},
	} {
		if known, err := knownHosts(p, hostile); err == nil {
			t.Errorf("%s: wrote %q", name, known)
		}
	}
}

func TestLogin(t *testing.T) {
	s := newServer(t, loginAnswers(t, newSigner(t)))
	p := newPerson(t)
	p.stdin = "correct horse\n"
	code, out, errs := p.run("login", s.url, "--user", "alice", "--password-stdin", "--otp", "123456")
	if code != 0 {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	if want := `POST /v1/login {"user":"alice","password":"correct horse","otp":"123456"}`; s.calls[1] != want {
		t.Errorf("got %s, want %s", s.calls[1], want)
	}
	if strings.Contains(out+errs, "correct horse") || strings.Contains(out+errs, "tok\n") {
		t.Errorf("a secret is shown: %s%s", out, errs)
	}
	if !strings.Contains(errs, "3 targets: 1 you can use now, 1 you can ask for") {
		t.Errorf("got %s", errs)
	}
	if runtime.GOOS != "windows" {
		filepath.Walk(p.dir, func(path string, info os.FileInfo, err error) error {
			if err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
			return nil
		})
	}
	// A second login keeps the key.
	before, _ := os.ReadFile(filepath.Join(p.dir, "default", "id"))
	if code, _, errs := p.run("login", s.url, "--user", "alice", "--password-stdin", "--json=user,profile"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if after, _ := os.ReadFile(filepath.Join(p.dir, "default", "id")); string(before) != string(after) || len(after) == 0 {
		t.Error("the key changed")
	}
	// Another server gets another profile, and not this one's token.
	s2 := newServer(t, map[string]any{"GET /v1/version": api.Version{}, "POST /v1/login": refuse{Status: 401, Detail: "wrong user or password", Code: "DB-4002"}})
	if code, _, errs = p.run("login", s2.url, "--user", "alice", "--password-stdin"); code != exitLogin {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs = p.run("ls", "--server", s2.url); code != exitLogin || len(s2.calls) != 2 {
		t.Errorf("exit %d, calls %v: %s", code, s2.calls, errs)
	}
	// logout removes what proves who we are.
	s.answers["POST /v1/logout"] = struct{}{}
	if code, _, errs = p.run("logout"); code != 0 {
		t.Errorf("exit %d: %s", code, errs)
	}
	for _, f := range []string{"token", "id", "id-cert.pub"} {
		if _, err := os.Stat(filepath.Join(p.dir, "default", f)); err == nil {
			t.Errorf("%s is still there", f)
		}
	}
	if code, _, _ := p.run("whoami"); code != exitLogin {
		t.Errorf("exit %d after logout", code)
	}
}

func TestLoginRefusesWhatServerSends(t *testing.T) {
	ca := newSigner(t)
	other := newSigner(t).PublicKey()
	for name, change := range map[string]func(*api.Certificate, *ssh.Certificate){
		"a certificate of another key": func(_ *api.Certificate, c *ssh.Certificate) { c.Key = other },
		"a host certificate":           func(_ *api.Certificate, c *ssh.Certificate) { c.CertType = ssh.HostCert },
		"a host with a newline":        func(a *api.Certificate, _ *ssh.Certificate) { a.SSHHost = "gw\n    ProxyCommand touch x" },
		"a host that is an option":     func(a *api.Certificate, _ *ssh.Certificate) { a.SSHHost = "-oProxyCommand=x" },
		"a host with a command":        func(a *api.Certificate, _ *ssh.Certificate) { a.SSHHost = "$(touch x)" },
		"a port out of range":          func(a *api.Certificate, _ *ssh.Certificate) { a.SSHPort = 70000 },
		"two authorities":              func(a *api.Certificate, _ *ssh.Certificate) { a.HostAuthority += a.HostAuthority },
		"no authority":                 func(a *api.Certificate, _ *ssh.Certificate) { a.HostAuthority = "*" },
	} {
		t.Run(name, func(t *testing.T) {
			answers := loginAnswers(t, ca)
			answers["POST /v1/me/certificate"] = certify(t, ca, change)
			s := newServer(t, answers)
			p := newPerson(t)
			p.stdin = "pw\n"
			code, _, errs := p.run("login", s.url, "--user", "alice", "--password-stdin")
			if code != exitError {
				t.Errorf("exit %d: %s", code, errs)
			}
			for _, f := range []string{"known_hosts", "ssh_config", "id-cert.pub"} {
				if _, err := os.Stat(filepath.Join(p.dir, "default", f)); err == nil {
					t.Errorf("%s was written", f)
				}
			}
		})
	}
}

func TestLoginInBrowser(t *testing.T) {
	answers := loginAnswers(t, newSigner(t))
	s := newServer(t, answers)
	answers["POST /v1/login/device"] = api.DeviceLogin{Code: "KQTW-7JPD", URL: s.url + "/cli?code=KQTW-7JPD", Device: "dev", ExpiresAt: noon.Add(time.Minute)}
	polls := 0
	answers["POST /v1/login/device/token"] = func([]byte) any {
		if polls++; polls < 2 {
			return accepted{}
		}
		return api.Login{Token: "tok", User: "alice", ExpiresAt: noon.Add(time.Hour)}
	}
	p := newPerson(t)
	code, _, errs := p.run("login", s.url)
	if code != 0 || polls != 2 || !strings.Contains(errs, "/cli?code=KQTW-7JPD and check that it shows the code KQTW-7JPD") {
		t.Errorf("exit %d after %d polls: %s", code, polls, errs)
	}
	for _, address := range []string{"http://evil.example.com/cli", "file:///etc/passwd", s.url + "@evil.example.com/", "javascript:alert(1)", ""} {
		answers["POST /v1/login/device"] = api.DeviceLogin{Code: "X", URL: address, Device: "dev"}
		if code, _, errs := newPerson(t).run("login", s.url); code != exitError || !strings.Contains(errs, "is not https") {
			t.Errorf("%s: exit %d: %s", address, code, errs)
		}
	}
}

// TestTrust signs in to a server that no authority vouches for.
func TestTrust(t *testing.T) {
	answers := loginAnswers(t, newSigner(t))
	plain := newServer(t, answers)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(plain.ServeHTTP))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes
	srv.StartTLS()
	defer srv.Close()
	pin := api.Fingerprint(srv.Certificate())
	login := []string{"login", srv.URL, "--user", "alice", "--password-stdin"}
	for _, tt := range []struct {
		name     string
		stdin    string
		terminal bool
		more     []string
		want     int
		calls    int
	}{
		{"nobody to ask", "pw\n", false, nil, 1, 0},
		{"--yes is no answer", "pw\n", false, []string{"--yes"}, 1, 0},
		{"--no-input", "yes\npw\n", true, []string{"--no-input"}, 1, 0},
		{"the person says no", "no\npw\n", true, nil, 2, 0},
		{"y is not yes", "y\npw\n", true, nil, 2, 0},
		{"the person says yes", "yes\npw\n", true, nil, 0, 3},
		{"the right fingerprint", "pw\n", false, []string{"--fingerprint", pin}, 0, 4},
		{"a wrong fingerprint", "yes\npw\n", true, []string{"--fingerprint", strings.Repeat("0", 64)}, 1, 0},
		{"no fingerprint", "pw\n", false, []string{"--fingerprint", "x"}, 2, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plain.calls = nil
			p := newPerson(t)
			p.stdin, p.terminal = tt.stdin, tt.terminal
			code, _, errs := p.run(append(login, tt.more...)...)
			if code != tt.want || len(plain.calls) != tt.calls {
				t.Errorf("exit %d, want %d; calls %q: %s", code, tt.want, plain.calls, errs)
			}
			if tt.want == 0 {
				// From now on that certificate is the one.
				if code, _, errs := p.run("ls"); code != 0 {
					t.Errorf("ls: exit %d: %s", code, errs)
				}
			}
		})
	}
}

func TestAgent(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no unix sockets for ssh-agent")
	}
	sock := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ring := agent.NewKeyring()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			agent.ServeAgent(ring, conn)
		}
	}()
	s := newServer(t, loginAnswers(t, newSigner(t)))
	p := newPerson(t)
	p.stdin = "pw\n"
	p.env["SSH_AUTH_SOCK"] = sock
	if code, _, errs := p.run("login", s.url, "--user", "alice", "--password-stdin", "--agent"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	keys, err := ring.List()
	if err != nil || len(keys) != 2 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if keys[1].Type() != ssh.CertAlgoED25519v01 {
		t.Errorf("got %s", keys[1].Type())
	}
}

// TestSSHConfig lets ssh(1) read what is written.
func TestSSHConfig(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Fatal("no ssh here: install the Debian package openssh-client")
	}
	s := newServer(t, loginAnswers(t, newSigner(t)))
	p := newPerson(t)
	p.stdin = "pw\n"
	// A path with what ssh_config treats in its own way.
	p.dir = filepath.Join(filepath.Dir(p.dir), "with space and 100%h")
	if code, _, errs := p.run("login", s.url, "--user", "alice", "--password-stdin"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if err := os.MkdirAll(filepath.Join(p.home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	user := filepath.Join(p.home, ".ssh", "config")
	theirs := "Host *\n    Port 2200\n    User nobody\n# mine\n"
	if err := os.WriteFile(user, []byte(theirs), 0o640); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := p.run("ssh-config", "--install"); code != exitUsage {
		t.Errorf("without consent: exit %d: %s", code, errs)
	}
	if got, _ := os.ReadFile(user); string(got) != theirs {
		t.Errorf("it was changed without consent: %s", got)
	}
	for range 2 { // the second time changes nothing
		if code, _, errs := p.run("ssh-config", "--install", "--yes"); code != 0 {
			t.Fatalf("exit %d: %s", code, errs)
		}
	}
	got, _ := os.ReadFile(user)
	if !strings.HasPrefix(string(got), "# >>> drawbolt default >>>\nInclude ") || !strings.HasSuffix(string(got), theirs) || strings.Count(string(got), "Include") != 1 {
		t.Errorf("got %s", got)
	}
	if info, _ := os.Stat(user); info.Mode().Perm() != 0o640 {
		t.Errorf("the mode became %v", info.Mode())
	}
	written := filepath.Join(p.dir, "default", "ssh_config")
	for _, tt := range []struct {
		host string
		want map[string]string
	}{
		{"db01", map[string]string{"hostname": "db01", "port": "22", "proxyjump": "drawbolt-default", "identitiesonly": "yes", "stricthostkeychecking": "true",
			"userknownhostsfile": p.dir + "/default/known_hosts", "hostkeyalias": "db01", "forwardagent": "no", "certificatefile": p.dir + "/default/id-cert.pub"}},
		{"web01", map[string]string{"user": "deploy", "proxyjump": "drawbolt-default"}},
		{"drawbolt-default", map[string]string{"hostname": "gw.example.com", "port": "2222", "user": "alice", "identityfile": p.dir + "/default/id", "proxyjump": ""}},
		{"elsewhere.example.com", map[string]string{"port": "2200", "proxyjump": "", "userknownhostsfile": "other"}},
	} {
		file := user
		b, err := exec.Command("ssh", "-F", file, "-G", tt.host).CombinedOutput()
		if err != nil {
			t.Fatalf("ssh -G %s: %v: %s", tt.host, err, b)
		}
		have := map[string]string{}
		for line := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
			have[k] = v
		}
		for k, want := range tt.want {
			if want == "other" {
				if strings.Contains(have[k], p.dir) {
					t.Errorf("%s: %s is %q", tt.host, k, have[k])
				}
				continue
			}
			if unescape(have[k]) != want {
				t.Errorf("%s: %s is %q, want %q", tt.host, k, have[k], want)
			}
		}
	}
	if b, err := exec.Command("ssh", "-F", written, "-G", "db01").CombinedOutput(); err != nil || !strings.Contains(string(b), "proxyjump drawbolt-default") {
		t.Errorf("alone: %v: %s", err, b)
	}
	if b, err := exec.Command("ssh-keygen", "-F", "any.example.com", "-f", filepath.Join(p.dir, "default", "known_hosts")).CombinedOutput(); err != nil || !strings.Contains(string(b), "CA") {
		t.Errorf("known_hosts: %v: %s", err, b)
	}
	if code, _, errs := p.run("ssh-config", "--uninstall"); code != 0 {
		t.Errorf("exit %d: %s", code, errs)
	}
	if got, _ := os.ReadFile(user); string(got) != theirs {
		t.Errorf("after --uninstall: %s", got)
	}
}

// unescape undoes %% as ssh -G shows it unexpanded.
func unescape(s string) string { return strings.ReplaceAll(s, "%%", "%") }

// TestSSHConfigOverHTTPS: ssh reads the ProxyCommand as it is meant, from folders
// with any name, and the choice is kept until another is made.
func TestSSHConfigOverHTTPS(t *testing.T) {
	s := newServer(t, loginAnswers(t, newSigner(t)))
	p := newPerson(t)
	p.stdin = "pw\n"
	p.dir = filepath.Join(filepath.Dir(p.dir), "it's 100%h $(touch x)")
	if code, _, errs := p.run("login", s.url, "--user", "alice", "--password-stdin"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if code, _, _ := p.run("ssh-config", "--transport", "carrier-pigeon"); code != exitUsage {
		t.Errorf("exit %d", code)
	}
	written := filepath.Join(p.dir, "default", "ssh_config")
	proxied := func() string {
		t.Helper()
		b, err := exec.Command("ssh", "-F", written, "-G", "db01").CombinedOutput()
		if err != nil {
			t.Fatalf("ssh -G: %v: %s", err, b)
		}
		for line := range strings.Lines(string(b)) {
			if command, ok := strings.CutPrefix(line, "proxycommand "); ok {
				return strings.TrimSpace(command)
			}
		}
		return ""
	}
	if got := proxied(); got != "" {
		t.Errorf("without the choice: %s", got)
	}
	for range 2 { // the second time it is not said again
		args := []string{"ssh-config", "--transport", "https"}
		if proxied() != "" {
			args = args[:1]
		}
		if code, _, errs := p.run(args...); code != 0 {
			t.Fatalf("exit %d: %s", code, errs)
		}
		// What ssh does with it: tokens, then a shell.
		command := strings.NewReplacer("%%", "%", "%h", "db01", "%p", "22").Replace(proxied())
		out, err := exec.Command("/bin/sh", "-c", "printf '%s\\n' "+command).CombinedOutput()
		words := strings.Split(strings.TrimSpace(string(out)), "\n")
		want := []string{"proxy", "--folder", p.dir, "--profile", "default", "--host", "db01", "--port", "22"}
		if err != nil || len(words) < 2 || !filepath.IsAbs(words[0]) || !slices.Equal(words[1:], want) {
			t.Errorf("the shell reads %q (%v)", words, err)
		}
	}
	if code, _, errs := p.run("ssh-config", "--transport", "ssh"); code != 0 || proxied() != "" {
		t.Errorf("back again: exit %d, %s: %s", code, proxied(), errs)
	}
	if _, err := shellWord("a\nb"); err == nil {
		t.Error("a line of its own was let into an ssh_config")
	}
}

func TestProxyUsage(t *testing.T) {
	p := newPerson(t)
	for _, tt := range []struct {
		args []string
		code int
	}{
		{[]string{"proxy"}, exitUsage}, {[]string{"proxy", "db01", "--host", "db01"}, exitUsage}, {[]string{"proxy", "--port", "22"}, exitUsage},
		{[]string{"proxy", "--host", "db01", "--port", "70000"}, exitUsage}, {[]string{"proxy", "a b"}, exitUsage}, {[]string{"proxy", "--host", "-x"}, exitUsage},
		{[]string{"proxy", "db01"}, exitLogin}, {[]string{"proxy", "--host", "db01", "--port", "22"}, exitLogin},
		{[]string{"proxy", "--folder", t.TempDir(), "db01"}, exitLogin},
	} {
		if code, out, errs := p.run(tt.args...); code != tt.code || out != "" {
			t.Errorf("%q: exit %d, want %d: %q %s", tt.args, code, tt.code, out, errs)
		}
	}
}

// TestSSHConfigHostile: no name that a server sends becomes configuration.
func TestSSHConfigHostile(t *testing.T) {
	p := &profile{name: "x", dir: "/d", SSHHost: "gw", SSHPort: 22, User: "a\nProxyCommand x"}
	var targets []api.Target
	for _, name := range []string{"a\n    ProxyCommand touch /tmp/x", "*", "a b", "!a", "$(x)", "`x`", "-oX", "\"", "a#b", "drawbolt-x", ""} {
		targets = append(targets, api.Target{Name: name, Accounts: []api.Account{{Name: "root", MayAsk: true}}})
	}
	targets = append(targets, api.Target{Name: "ok", Accounts: []api.Account{{Name: "r\n ProxyCommand x", MayAsk: true}}})
	text := string(sshConfig(p, targets, ""))
	if strings.Contains(text, "ProxyCommand") || strings.Count(text, "\nHost ") != 2 || strings.Contains(text, "User ") {
		t.Errorf("got\n%s", text)
	}
}

// TestSSH runs a stand-in for ssh(1) and passes its exit code on.
func TestSSH(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in is a shell script")
	}
	bin := t.TempDir()
	for _, name := range []string{"ssh", "scp"} {
		script := fmt.Sprintf("#!/bin/sh\necho %s \"$@\"\nexit 23\n", name)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	s := newServer(t, loginAnswers(t, newSigner(t)))
	p := newPerson(t)
	p.stdin = "pw\n"
	if code, _, errs := p.run("login", s.url, "--user", "alice", "--password-stdin"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	conf := filepath.Join(p.dir, "default", "ssh_config")
	for _, tt := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"ssh", "root@db01", "-v", "--", "ls", "-l"}, "ssh -F " + conf + " root@db01 -v -- ls -l\n", 23},
		{[]string{"ssh", "--no-color", "db01"}, "ssh -F " + conf + " db01\n", 23},
		{[]string{"scp", "-r", "--profile", "default", "a", "root@db01:/tmp"}, "scp -F " + conf + " -r a root@db01:/tmp\n", 23},
		{[]string{"--profile=default", "scp", "a", "b"}, "scp -F " + conf + " a b\n", 23},
		{[]string{"scp", "a"}, "", exitUsage},
		{[]string{"scp", "--nope", "a", "b"}, "", exitUsage},
		{[]string{"ssh", "-v"}, "", exitUsage},
	} {
		code, out, errs := p.run(tt.args...)
		if code != tt.code || out != tt.want {
			t.Errorf("%q: exit %d, got %q, want %q: %s", tt.args, code, out, tt.want, errs)
		}
	}
}

func TestCompletion(t *testing.T) {
	s := newServer(t, map[string]any{"GET /v1/targets": someTargets()})
	p := newPerson(t).signedIn(s)
	want := "db01\tenv=prod tier=1 guest,root\n"
	for range 2 {
		if _, out, _ := p.run("__complete", "request", "d"); !strings.HasPrefix(out, want) {
			t.Errorf("got %q", out)
		}
	}
	if _, out, _ := p.run("__complete", "request", "db01", "--as", ""); !strings.HasPrefix(out, "guest\task: granted at once\nroot\t") {
		t.Errorf("got %q", out)
	}
	cache := filepath.Join(p.dir, "default", "cache-targets.json")
	for range 2 { // young and old
		if _, out, _ := p.run("__complete", "ssh", "root@d"); !strings.HasPrefix(out, "root@db01\t") {
			t.Errorf("got %q", out)
		}
		os.Chtimes(cache, noon.Add(-time.Hour), noon.Add(-time.Hour))
		delete(s.answers, "GET /v1/targets")
		s.answers["GET /v1/targets"] = refuse{Status: 500}
	}
	_, out, errs := p.run("__complete", "ls", "")
	if !strings.Contains(out, "db01") || strings.Contains(errs, "rror") {
		t.Errorf("offline: %q, %q", out, errs)
	}
	_, out, _ = newPerson(t).run("__complete", "ls", "")
	if !strings.HasPrefix(out, ":4") {
		t.Errorf("not logged in: %q", out)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, out, _ := p.run("completion", shell); code != 0 || !strings.Contains(out, "drawbolt") {
			t.Errorf("%s: exit %d", shell, code)
		}
	}
}

func TestDoctor(t *testing.T) {
	s := newServer(t, map[string]any{"GET /v1/version": api.Version{Version: "1.2", Time: noon.Add(time.Hour)}, "GET /v1/me": refuse{Status: 401, Detail: "you are not logged in"}})
	code, out, errs := newPerson(t).signedIn(s).run("doctor", "--json")
	var checks []check
	if err := json.Unmarshal([]byte(out), &checks); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	got := map[string]bool{}
	for _, k := range checks {
		got[k.Check] = k.Passed
		if !k.Passed && k.Fix == "" {
			t.Errorf("%s says not what to do", k.Check)
		}
	}
	want := map[string]bool{"server": true, "clock": false, "login": false, "identity": false, "ssh-config": false}
	for name, passed := range want {
		if have, ok := got[name]; !ok || have != passed {
			t.Errorf("%s: %t, %t", name, have, ok)
		}
	}
	if code != exitError {
		t.Errorf("exit %d", code)
	}
}

func TestMan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if code, _, errs := newPerson(t).run("man", dir); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	for _, page := range []string{"drawbolt.1", "drawbolt-request.1", "drawbolt-audit-verify.1"} {
		if b, err := os.ReadFile(filepath.Join(dir, page)); err != nil || !strings.Contains(string(b), ".TH") {
			t.Errorf("%s: %v", page, err)
		}
	}
}
