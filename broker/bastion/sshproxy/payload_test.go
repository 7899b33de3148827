package sshproxy

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/access"
)

func TestParseLogin(t *testing.T) {
	tests := []struct {
		in     string
		want   destination
		direct bool
		ok     bool
	}{
		{"alice", destination{}, false, true},
		{"", destination{}, false, true},
		{"Any Thing", destination{}, false, true},
		{"root+db01", destination{"db01", "root", ""}, true, true},
		{"root@db01", destination{"db01", "root", ""}, true, true},
		{"root+db01+INC-1234", destination{"db01", "root", "INC-1234"}, true, true},
		{"root@db01.prod+CHG-7", destination{"db01.prod", "root", "CHG-7"}, true, true},
		{"root+", destination{}, true, false},
		{"+db01", destination{}, true, false},
		{"root+db01+", destination{}, true, false},
		{"root+db01+a+b", destination{}, true, false},
		{"root+db01@gw", destination{}, true, false},
		{"root+-oProxyCommand=x", destination{}, true, false},
		{"-root+db01", destination{}, true, false},
		{"root:db01", destination{}, false, true},
		{"root+db01\n", destination{}, true, false},
		{"rооt+db01", destination{}, true, false}, // Cyrillic
		{"root+" + strings.Repeat("a", 300), destination{}, true, false},
	}
	for _, test := range tests {
		got, direct, err := parseLogin(test.in)
		if direct != test.direct || (err == nil) != test.ok || test.ok && got != test.want {
			t.Errorf("%q: got %+v, %v, %v", test.in, got, direct, err)
		}
	}
}

func FuzzParseLogin(f *testing.F) {
	for _, s := range []string{"alice", "root+db01", "root@db01+INC-1", "root+db01+INC-1", "+", "@", "a+b+c+d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, direct, err := parseLogin(s)
		if err != nil || !direct {
			return
		}
		// What was accepted is within the grammar and says again what it said.
		if access.CheckAccountName(d.account) != nil || access.CheckTargetName(d.target) != nil || d.ticket != "" && !ticket.MatchString(d.ticket) {
			t.Fatalf("%q gave %+v", s, d)
		}
		again := d.account + s[len(d.account):len(d.account)+1] + d.target
		if d.ticket != "" {
			again += "+" + d.ticket
		}
		if again != s {
			t.Fatalf("%q reads as %q", s, again)
		}
	})
}

func FuzzPayloads(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(gossh.Marshal(ptyRequest{Term: "xterm", Columns: 80, Rows: 24, Modes: "\x00"}))
	f.Add(gossh.Marshal(windowChange{80, 24, 0, 0}))
	f.Add(gossh.Marshal(envRequest{"LANG", "C"}))
	f.Add(gossh.Marshal(execRequest{"id"}))
	f.Add(gossh.Marshal(signal{"TERM"}))
	f.Add(gossh.Marshal(exitStatus{1}))
	f.Add(gossh.Marshal(exitSignal{"TERM", false, "x", ""}))
	f.Add(gossh.Marshal(directTCPIP{"db01", 22, "127.0.0.1", 1}))
	f.Add(gossh.Marshal(tcpipForward{"127.0.0.1", 8080}))
	f.Add(gossh.Marshal(streamLocalForward{"/run/app.sock"}))
	f.Add(gossh.Marshal(directStreamLocal{Path: "/run/app.sock"}))
	f.Add(gossh.Marshal(forwardedStreamLocal{Path: "/run/app.sock"}))
	f.Add(gossh.Marshal(x11Request{true, "MIT-MAGIC-COOKIE-1", "abcdef", 0}))
	f.Add(gossh.Marshal(x11Opening{"127.0.0.1", 6010}))
	f.Fuzz(func(t *testing.T, b []byte) {
		// What is accepted is within bounds and marshals to the same bytes, so
		// that we and the target read the same.
		same := func(name string, v any) {
			t.Helper()
			if got := gossh.Marshal(v); !bytes.Equal(got, b) {
				t.Errorf("%s: %x became %x", name, b, got)
			}
		}
		if p, err := parsePTY(b); err == nil {
			if p.Term == "dumb" && !bytes.Contains(b, []byte("dumb")) {
				p.Term = ""
			}
			same("pty-req", p)
		}
		if w, err := parseWindowChange(b); err == nil {
			same("window-change", w)
		}
		if e, err := parseEnv(b); err == nil {
			same("env", e)
		}
		if e, err := parseExec(b); err == nil {
			same("exec", e)
		}
		if s, err := parseSubsystem(b); err == nil {
			same("subsystem", s)
		}
		if s, err := parseSignal(b); err == nil {
			same("signal", s)
		}
		if e, err := parseExitStatus(b); err == nil {
			same("exit-status", e)
		}
		if e, err := parseExitSignal(b); err == nil && strings.ContainsFunc(e.Message, unicode.IsControl) {
			t.Errorf("exit-signal: a message of %q", e.Message)
		}
		if d, err := parseDirectTCPIP(b); err == nil {
			same("direct-tcpip", d)
		}
		if a, err := parseTCPIPForward(b); err == nil {
			same("tcpip-forward", a)
		}
		if a, err := parseStreamLocalForward(b); err == nil {
			same("streamlocal-forward", a)
		}
		// What is reserved is not passed on.
		if d, err := parseDirectStreamLocal(b); err == nil && !bytes.HasPrefix(b, gossh.Marshal(streamLocalForward{d.Path})) {
			t.Errorf("direct-streamlocal: %x became %q", b, d.Path)
		}
		if a, err := parseForwardedStreamLocal(b); err == nil && !bytes.HasPrefix(b, gossh.Marshal(streamLocalForward{a.Path})) {
			t.Errorf("forwarded-streamlocal: %x became %q", b, a.Path)
		}
		if x, err := parseX11Request(b); err == nil {
			// Any byte but zero is true; RFC 4251, section 5.
			if x.Single && b[0] > 1 {
				return
			}
			same("x11-req", x)
		}
		if x, err := parseX11Opening(b); err == nil {
			same("x11", x)
		}
	})
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":          "drawbolt: plain\n",
		"a\x1b[2Jb":      "drawbolt: a?[2Jb\n",
		"two\r\nlines":   "drawbolt: two??lines\n",
		"\u202eoverride": "drawbolt: ?override\n",
		"\xff\xfe":       "drawbolt: ??\n",
		"Zoë":            "drawbolt: Zoë\n",
	} {
		if got := line("%s", in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := line("%s", strings.Repeat("x", 10_000)); len(got) > maxLine+20 {
		t.Errorf("a line of %d bytes", len(got))
	}
}

func TestKnowsGCM(t *testing.T) {
	for version, want := range map[string]bool{
		"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10": true, "SSH-2.0-OpenSSH_6.2": true, "SSH-2.0-OpenSSH_6.1": false,
		"SSH-2.0-OpenSSH_10.0": true, "SSH-2.0-OpenSSH_for_Windows_9.5": true, "SSH-2.0-Go": true,
		"SSH-2.0-PuTTY_Release_0.70": false, "": false, "SSH-2.0-OpenSSH_": false, "xSSH-2.0-OpenSSH_9.2": false,
	} {
		if got := knowsGCM(version); got != want {
			t.Errorf("%q: got %v", version, got)
		}
	}
}
