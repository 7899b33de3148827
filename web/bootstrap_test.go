package web

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// sh runs a script with a POSIX shell in an empty folder, and wants nothing to be
// left there.
func sh(t testing.TB, script string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Dir, cmd.Env = dir, []string{"PATH=/usr/bin:/bin", "HOME=" + dir}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, script)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the script left %v, %v", left, err)
	}
	return string(out)
}

// TestBootstrapQuotes: whatever stands in the register, the shell sets variables
// to it and does nothing else.
func TestBootstrapQuotes(t *testing.T) {
	hostile := []string{
		"'; touch pwned; '", "$(touch pwned)", "`touch pwned`", "\\'; touch pwned #", "db01\ntouch pwned\n", "END\ntouch pwned\nEND",
		"'\"'\"'; touch pwned", "-n", "a\\", "${IFS}touch${IFS}pwned", "'", "''", "\n", "%s%n", "# comment", "",
	}
	for _, evil := range hostile {
		b := broker.Bootstrapping{
			Target: access.Target{Name: evil, PrincipalsFolder: evil}, Token: evil,
			Logins: []broker.Login{{Account: evil, Principal: evil}},
		}
		script, err := bootstrapScript(b, evil, []byte(evil))
		if err != nil {
			t.Fatal(err)
		}
		// The variables as the shell has them when the part begins that acts.
		head, body, found := strings.Cut(script, "\nset -eu\n")
		if !found || !strings.HasSuffix(body, "\nmain \"$@\"\n") {
			t.Fatalf("%q: the script has another form", evil)
		}
		got := sh(t, head+"\n"+`for v in "$target" "$url" "$token" "$logins" "$principals_folder"; do printf '<%s>' "$v"; done`)
		if want := "<" + evil + "><" + evil + "><" + evil + "><" + evil + " " + evil + "><" + evil + ">"; got != want {
			t.Errorf("the shell reads %q, want %q", got, want)
		}
		// All of it, up to where it would act: what is no folder or no root ends it.
		out := sh(t, "set -- --nonsense\n"+strings.Replace(script, "exit 1", "exit 0", 1))
		if !strings.Contains(out, "usage: sh FILE") {
			t.Errorf("%q: %s", evil, out)
		}
	}
	for _, bad := range []string{"db\x0001", "\x1b[2J", "r\u043e\u043et", "a\rb", "\x7f"} {
		if _, err := bootstrapScript(broker.Bootstrapping{Target: access.Target{Name: bad}}, "https://gw.example.com", nil); err == nil {
			t.Errorf("%q stands in a script", bad)
		}
	}
}

// FuzzShellQuote: a shell reads what was quoted as it was, or it is not quoted.
func FuzzShellQuote(f *testing.F) {
	for _, s := range []string{"", "db01", "'", "a'b'c", "$(x)", "\\", "a\nb", "\x00", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted, err := shellQuote(s)
		if err != nil {
			return
		}
		if got := sh(t, "v="+quoted+"\nprintf '%s.' \"$v\""); got != s+"." {
			t.Errorf("%q is read as %q", s, got)
		}
	})
}

// The script is one that shells take, and acts in its last line only, so that one
// that came in part does nothing.
func TestBootstrapInPart(t *testing.T) {
	script, err := bootstrapScript(broker.Bootstrapping{Target: access.Target{Name: "db01"}}, "https://gw.example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(script, "\n")
	for n := range len(lines) - 1 {
		part := strings.Join(lines[:n], "")
		cmd := exec.Command("/bin/sh")
		cmd.Stdin = strings.NewReader(part)
		cmd.Dir = t.TempDir()
		cmd.Env = []string{"DRAWBOLT_FOLDER=" + cmd.Dir + "/d", "DRAWBOLT_SSHD_CONFIG=" + cmd.Dir + "/c", "DRAWBOLT_TIMER_FOLDER=" + cmd.Dir, "DRAWBOLT_RELOAD=touch " + cmd.Dir + "/reloaded"}
		out, _ := cmd.CombinedOutput() // a part may be no whole script
		if found, _ := filepath.Glob(cmd.Dir + "/*"); len(found) > 0 || strings.Contains(string(out), "drawbolt: ") {
			t.Fatalf("the first %d lines did something: %v\n%s", n, found, out)
		}
	}
}

// checking is a house that checks targets with a function of the test.
func checking(t *testing.T, check func(broker.Probe) []access.CheckStep) *house {
	return newHouse(t, func(c *Config) {
		c.Check = func(_ context.Context, p broker.Probe) []access.CheckStep { return check(p) }
		c.PinnedTLS = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	})
}

func TestBootstrapOverHTTP(t *testing.T) {
	steps := []access.CheckStep{{Step: "login", Target: "db01", Account: "root", State: access.CheckFailed, Detail: "root is not let in"}}
	h := checking(t, func(broker.Probe) []access.CheckStep { return steps })
	callJSON[api.Problem](h, "alice", "POST", "/v1/targets/db01/bootstrap", nil, http.StatusForbidden)
	callJSON[api.Problem](h, "eve", "POST", "/v1/targets/db01/bootstrap", nil, http.StatusNotFound)
	b := callJSON[api.Bootstrap](h, "root", "POST", "/v1/targets/db01/bootstrap", nil, 200)
	_, rest, _ := strings.Cut(b.Script, "\ntoken='")
	token, _, _ := strings.Cut(rest, "'")
	if len(token) != 26 || !strings.Contains(b.Script, "url='https://gw.example.com'") || !strings.Contains(b.Script, "logins='root root@db01\nguest guest@db01'") ||
		!strings.Contains(b.Script, "-----BEGIN CERTIFICATE-----\nAAAA\n") || strings.Count(b.Script, token) != 1 {
		t.Fatalf("token %q in\n%s", token, b.Script)
	}
	use := func(token string) (int, string) {
		resp := h.do(httpCall{method: "POST", path: "/v1/bootstrap", body: `{"token":"` + token + `","host_keys":[]}`})
		return resp.StatusCode, text(resp)
	}
	if status, body := use("nothing"); status != 401 || !strings.Contains(body, "DB-4030") {
		t.Errorf("%d %s", status, body)
	}
	if status, body := use(token); status != 200 || body != "not proven\nlogin: root is not let in\n" {
		t.Errorf("%d %q", status, body)
	}
	steps = []access.CheckStep{steps[0], {Step: "authority", Target: "db01", State: access.CheckOK}}
	if status, body := use(token); status != 200 || body != "proven\nlogin: root is not let in\n" {
		t.Errorf("%d %q", status, body)
	}
	if status, _ := use(token); status != 401 {
		t.Errorf("used twice: %d", status)
	}
	if strings.Contains(h.log.String(), token) {
		t.Error("the log has the token")
	}
}

func TestBootstrapNeedsTLS(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.ExternalURL = "http://gw.example.com" })
	p := callJSON[api.Problem](h, "root", "POST", "/v1/targets/db01/bootstrap", nil, http.StatusServiceUnavailable)
	if p.Code != "DB-5030" {
		t.Errorf("%+v", p)
	}
}

func TestCheckOverHTTP(t *testing.T) {
	h := checking(t, func(p broker.Probe) []access.CheckStep {
		return []access.CheckStep{{Step: "port", Target: p.Target.Name, State: access.CheckFailed, Detail: strings.Join(p.Accounts, " "), Next: "look"}}
	})
	got := callJSON[api.TargetCheck](h, "root", "POST", "/v1/targets/db01/check", api.CheckInput{Account: "guest"}, 200)
	if got.Passed || len(got.Steps) != 1 || got.Steps[0] != (api.CheckStep{Step: "port", Target: "db01", State: "failed", Detail: "guest", Next: "look"}) {
		t.Errorf("%+v", got)
	}
	callJSON[api.Problem](h, "alice", "POST", "/v1/targets/db01/check", api.CheckInput{}, http.StatusForbidden)
	callJSON[api.Problem](h, "carol", "POST", "/v1/targets/db01/check", api.CheckInput{}, http.StatusForbidden)
	callJSON[api.Problem](h, "eve", "POST", "/v1/targets/db01/check", api.CheckInput{}, http.StatusNotFound)
	callJSON[api.Problem](h, "root", "POST", "/v1/targets/db01/check", map[string]string{"address": "192.0.2.1:22"}, http.StatusUnprocessableEntity)
}

// TestCheckLimits: nobody has the server dial as often as they like.
func TestCheckLimits(t *testing.T) {
	h := checking(t, func(broker.Probe) []access.CheckStep { return nil })
	h.sameMoment()
	refused := 0
	for range 60 {
		if h.do(httpCall{method: "POST", path: "/v1/targets/db01/check", body: "{}", token: h.token("root")}).StatusCode == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused == 0 || refused > 20 {
		t.Errorf("%d of 60 are refused", refused)
	}
}

// TestCheckAtOnce: one more than may go on at once is refused.
func TestCheckAtOnce(t *testing.T) {
	began, release := make(chan struct{}, maxChecks), make(chan struct{})
	h := checking(t, func(broker.Probe) []access.CheckStep {
		began <- struct{}{}
		<-release
		return nil
	})
	check := func() int {
		return h.do(httpCall{method: "POST", path: "/v1/targets/db01/check", body: "{}", token: h.token("root")}).StatusCode
	}
	var all sync.WaitGroup
	for range maxChecks {
		all.Go(func() { check() })
	}
	for range maxChecks {
		<-began
	}
	if s := check(); s != http.StatusTooManyRequests {
		t.Errorf("one too many: %d", s)
	}
	close(release)
	all.Wait()
	if s := check(); s != 200 {
		t.Errorf("afterwards: %d", s)
	}
}

// A server that checks nothing says so.
func TestNoChecks(t *testing.T) {
	h := newHouse(t)
	p := callJSON[api.Problem](h, "root", "POST", "/v1/targets/db01/check", api.CheckInput{}, http.StatusServiceUnavailable)
	if p.Code != "DB-5030" {
		t.Errorf("%+v", p)
	}
}
