package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/web/api"
)

func TestRoleSet(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		now        any
		code       int
		want       string // the call, or what is said
	}{
		{"new", `{"name":"dba","rules":[]}`, refuse{Status: 404, Detail: "none"}, 0, `PUT /v1/roles/dba {"name":"dba"}`},
		{"there already", `{"name":"dba"}`, api.Role{Name: "dba", Version: 4}, 0, `PUT /v1/roles/dba {"name":"dba","version":4}`},
		{"with a version", `{"name":"dba","version":3}`, nil, 0, `PUT /v1/roles/dba {"name":"dba","version":3}`},
		{"cannot be read", `{"name":"dba"}`, refuse{Status: 403, Detail: "no"}, 3, "no"},
		{"unknown key", `{"name":"dba","rules":[{"max_duration":"4h"}]}`, nil, 2, `the key "max_duration" is not known`},
		{"key twice", `{"name":"dba","name":"root"}`, nil, 2, "twice"},
		{"no name", `{}`, nil, 2, "has no name"},
		{"no JSON", `name: dba`, nil, 2, "invalid character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := map[string]any{"PUT /v1/roles/dba": api.Role{Name: "dba", Version: 5}}
			if tt.now != nil {
				a["GET /v1/roles/dba"] = tt.now
			}
			s := newServer(t, a)
			p := newPerson(t).signedIn(s)
			p.stdin = tt.file
			code, out, errs := p.run("role", "set", "-f", "-")
			if said := strings.Join(s.calls, "\n") + out + errs; code != tt.code || !strings.Contains(said, tt.want) {
				t.Errorf("exit %d: %s", code, said)
			}
			if puts := strings.Count(strings.Join(s.calls, "\n"), "PUT"); (puts == 1) != (tt.code == 0) {
				t.Errorf("%d changes", puts)
			}
		})
	}
}

func TestUserKeyAdd(t *testing.T) {
	dir := t.TempDir()
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(newSigner(t).PublicKey())))
	for _, tt := range []struct {
		name, file string
		code       int
	}{
		{"public", line + " alice@laptop\n", 0},
		{"private", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n" + line + "\n", 2},
		{"two keys", line + "\n" + line + "\n", 2},
		{"with options", `command="sh" ` + line, 2},
		{"nothing", "", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(dir, "key")
			if err := os.WriteFile(file, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			s := newServer(t, map[string]any{"POST /v1/me/keys": api.Key{Fingerprint: "SHA256:x"}})
			code, _, errs := newPerson(t).signedIn(s).run("user", "key", "add", file)
			if code != tt.code || (len(s.calls) == 1) != (tt.code == 0) {
				t.Errorf("exit %d, calls %q: %s", code, s.calls, errs)
			}
			if want := `POST /v1/me/keys {"key":"` + line + `","comment":"alice@laptop"}`; tt.code == 0 && s.calls[0] != want {
				t.Errorf("got %s, want %s", s.calls[0], want)
			}
		})
	}
}

// TestProfiles: flags win over the environment, and that over the file; a token
// goes only to the server that gave it.
func TestProfiles(t *testing.T) {
	me := map[string]any{"GET /v1/me": api.Me{User: "alice"}}
	one, two := newServer(t, me), newServer(t, me)
	p := newPerson(t)
	conf := `{"current":"one","profiles":{"one":{"server":"` + one.url + `"},"two":{"server":"` + two.url + `"}}}`
	token := filepath.Join(t.TempDir(), "token")
	for file, text := range map[string]string{filepath.Join(p.dir, "config.json"): conf, filepath.Join(p.dir, "one", "token"): "tok", filepath.Join(p.dir, "two", "token"): "tok", token: "tok\n"} {
		if err := writeFile(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		code int
		one  int
		two  int
	}{
		{"the current one", nil, nil, 0, 1, 0},
		{"by environment", map[string]string{"DRAWBOLT_PROFILE": "two"}, nil, 0, 0, 1},
		{"flag over environment", map[string]string{"DRAWBOLT_PROFILE": "two"}, []string{"--profile", "one"}, 0, 1, 0},
		{"by server", map[string]string{"DRAWBOLT_SERVER": two.url}, nil, 0, 0, 1},
		{"server flag over environment", map[string]string{"DRAWBOLT_SERVER": two.url}, []string{"--server", one.url}, 0, 1, 0},
		{"profile and another server: no token", nil, []string{"--profile", "one", "--server", two.url}, 4, 0, 0},
		{"the same with a token file", nil, []string{"--profile", "one", "--server", two.url, "--token-file", token}, 0, 0, 1},
		{"a token file that is not there", nil, []string{"--token-file", token + "x"}, 1, 0, 0},
		{"no such profile", nil, []string{"--profile", "three"}, 4, 0, 0},
		{"a profile that is a path", nil, []string{"--profile", "../one"}, 2, 0, 0},
		{"a server in the clear", nil, []string{"--server", "http://gw.example.com"}, 2, 0, 0},
		{"a timeout that is none", nil, []string{"--timeout", "soon"}, 2, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			one.calls, two.calls = nil, nil
			q := *p
			q.env = tt.env
			code, _, errs := q.run(append([]string{"whoami"}, tt.args...)...)
			if code != tt.code || len(one.calls) != tt.one || len(two.calls) != tt.two {
				t.Errorf("exit %d, %d calls to one, %d to two: %s", code, len(one.calls), len(two.calls), errs)
			}
		})
	}
}

// TestWrongFieldChangesNothing: --json is checked before anything is asked for.
func TestWrongFieldChangesNothing(t *testing.T) {
	for _, args := range []string{
		"request root@db01 --reason x", "extend REQ-1 --for 1h", "cancel REQ-1", "end REQ-1", "approve REQ-1", "deny REQ-1 --reason x", "revoke REQ-1 --reason x",
		"target add a --address h:1 --account b", "target set a --label tier=1", "target lock a --reason x", "user add a", "user set a --group b", "user link a", "user unlock a --reason x",
	} {
		s := newServer(t, nil)
		code, _, errs := newPerson(t).signedIn(s).run(append(strings.Fields(args), "--json=idd,nonsense")...)
		if code != exitUsage || len(s.calls) != 0 || !strings.Contains(errs, "there is no field") {
			t.Errorf("%s: exit %d, calls %q: %s", args, code, s.calls, errs)
		}
	}
}

// TestColour: marks are coloured on a terminal only, and not when it is unwanted.
func TestColour(t *testing.T) {
	for _, tt := range []struct {
		name     string
		terminal bool
		env      map[string]string
		args     []string
		want     bool
	}{
		{"terminal", true, nil, nil, true},
		{"pipe", false, nil, nil, false},
		{"NO_COLOR", true, map[string]string{"NO_COLOR": "1"}, nil, false},
		{"--no-color", true, nil, []string{"--no-color"}, false},
		{"dumb", true, map[string]string{"TERM": "dumb"}, nil, false},
	} {
		p := newPerson(t)
		p.terminal, p.env = tt.terminal, tt.env
		if _, out, errs := p.run(append([]string{"ls"}, tt.args...)...); strings.Contains(out+errs, "\x1b") != tt.want {
			t.Errorf("%s: %q", tt.name, out+errs)
		}
	}
}

// TestInterruptAtPrompt: Ctrl-C ends a question that nobody answers.
func TestInterruptAtPrompt(t *testing.T) {
	r, w := io.Pipe() // nothing ever comes
	defer w.Close()
	p := newPerson(t).signedIn(newServer(t, nil))
	ctx, cancel := context.WithCancel(t.Context())
	var errs asked = func() { cancel() }
	c := &cli{stdin: r, stdout: io.Discard, stderr: errs, now: time.Now, inTTY: true, errTTY: true, env: func(k string) string {
		if k == "DRAWBOLT_CONFIG_DIR" {
			return p.dir
		}
		return ""
	}}
	if code := c.run(ctx, []string{"deny", "REQ-1"}); code != exitInterrupt {
		t.Errorf("exit %d", code)
	}
}

// asked is a stderr that calls when something is written.
type asked func()

func (f asked) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}
