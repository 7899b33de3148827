package access

import (
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNarrow(t *testing.T) {
	wide := SessionRules{Recording: "strict", Shell: true, Exec: true, Agent: true, X11: true, Files: []string{"upload *", "download *"}, Forwards: []string{"local *:*"}}
	for _, test := range []struct {
		name               string
		granted, now, want SessionRules
	}{
		{"the same", wide, wide, wide},
		{"everything gone", wide, SessionRules{Recording: "strict"}, SessionRules{Recording: "strict"}},
		{"widened later", SessionRules{Shell: true}, wide, SessionRules{Recording: "strict", Shell: true}},
		{"one list shorter", wide, SessionRules{Recording: "strict", Files: []string{"download *"}}, SessionRules{Recording: "strict", Files: []string{"download *"}}},
		{"commands named later", SessionRules{Exec: true}, SessionRules{Exec: true, Commands: []string{"uptime"}}, SessionRules{Exec: true, Commands: []string{"uptime"}}},
		{"commands freed later", SessionRules{Exec: true, Commands: []string{"uptime"}}, SessionRules{Exec: true}, SessionRules{Exec: true, Commands: []string{"uptime"}}},
		{"watched later", SessionRules{SilentWatch: true}, SessionRules{FourEyes: true}, SessionRules{FourEyes: true}},
		{"watched no more", SessionRules{FourEyes: true}, SessionRules{SilentWatch: true}, SessionRules{FourEyes: true}},
		{"check-out", SessionRules{Checkout: CheckoutAny}, SessionRules{Checkout: CheckoutAny}, SessionRules{Checkout: CheckoutAny}},
		{"check-out of managed accounts only, now", SessionRules{Checkout: CheckoutAny}, SessionRules{Checkout: CheckoutManaged}, SessionRules{Checkout: CheckoutManaged}},
		{"check-out of managed accounts only, before", SessionRules{Checkout: CheckoutManaged}, SessionRules{Checkout: CheckoutAny}, SessionRules{Checkout: CheckoutManaged}},
		{"no check-out any more", SessionRules{Checkout: CheckoutAny}, SessionRules{}, SessionRules{}},
		{"no check-out before", SessionRules{}, SessionRules{Checkout: CheckoutAny}, SessionRules{}},
		{"told of nobody, both", SessionRules{SilentWatch: true}, SessionRules{SilentWatch: true}, SessionRules{SilentWatch: true}},
		{"no common command", SessionRules{Exec: true, Commands: []string{"uptime"}}, SessionRules{Exec: true, Commands: []string{"id"}}, SessionRules{}},
	} {
		if d := cmp.Diff(test.granted.Narrow(test.now), test.want); d != "" {
			t.Errorf("%s (-got +want):\n%s", test.name, d)
		}
	}
}

func TestSessionRulesRefused(t *testing.T) {
	for _, r := range []SessionRules{
		{Recording: "off"},
		{Commands: []string{"uptime"}}, // without exec
		{Exec: true, Commands: []string{""}},
		{Exec: true, Commands: []string{" uptime"}},
		{Exec: true, Commands: []string{"uptime\nid"}},
		{Exec: true, Commands: []string{"*"}},
		{Exec: true, Commands: []string{"cat* x"}},
		{Exec: true, Commands: []string{"cat ** x"}},
		{Exec: true, Commands: []string{"cat 'a*'"}},
		{Exec: true, Commands: []string{"cat * | sh"}},
		{Files: []string{"upload"}},
		{Files: []string{"both *"}},
		{Files: []string{"upload relative"}},
		{Files: []string{"upload /a/../b"}},
		{Files: []string{"upload /a/"}},
		{Files: []string{"upload /a  keep"}},
		{Files: []string{"upload /a max"}},
		{Files: []string{"upload /a max 0"}},
		{Files: []string{"upload /a max -1"}},
		{Files: []string{"upload /a max 9999999999GiB"}},
		{Files: []string{"upload /a keep keep"}},
		{Files: []string{"upload " + strings.Repeat("/a", 300)}},
		{Forwards: []string{"local"}},
		{Forwards: []string{"dynamic *:*"}},
		{Forwards: []string{"local host"}},
		{Forwards: []string{"local :80"}},
		{Forwards: []string{"local host:0"}},
		{Forwards: []string{"local host:+80"}},
		{Forwards: []string{"local host:90-80"}},
		{Forwards: []string{"local host:70000"}},
		{Forwards: []string{"local 10.0.0.1/8:80"}},
		{Forwards: []string{"local ::ffff:10.0.0.0/104:80"}},
		{Forwards: []string{"local a_b c:80"}},
		{Forwards: []string{"local unix:run/x"}},
		{Forwards: []string{"local unix:/run/../x"}},
	} {
		if err := r.validate(); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
	good := SessionRules{
		Exec: true, Commands: []string{"uptime", "df -h | grep sda", "systemctl status *", "journalctl **", "cat /var/log/*"},
		Files:    []string{"upload *", "download /var/log/*.gz max 10MiB", "upload /srv/** keep", "download /etc/hosts max 5 keep"},
		Forwards: []string{"local db.internal:5432", "local *:*", "local 10.0.0.0/8:1-1024", "local [fd00::]/8:443", "remote 127.0.0.1:8080", "local unix:/run/*.sock"},
	}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
}

// What a shell would take for more than the words of the rule does not match it.
func TestCommandRule(t *testing.T) {
	for _, test := range []struct {
		rule, command string
		want          bool
	}{
		{"uptime", "uptime", true},
		{"uptime", "uptime ", false},
		{"uptime", "uptime\n", false},
		{"uptime", "uptime;id", false},
		{"uptime", "UPTIME", false},
		{"df -h | grep sda", "df -h | grep sda", true},
		{"df -h | grep sda", "df -h | grep sda && id", false},
		{"systemctl status *", "systemctl status sshd", true},
		{"systemctl status *", "systemctl status", false},
		{"systemctl status *", "systemctl status a b", false},
		{"systemctl status *", "systemctl status -H root@elsewhere", false},
		{"systemctl status *", "systemctl status --host=elsewhere", false},
		{"systemctl status *", "systemctl  status sshd", false},
		{"systemctl status *", " systemctl status sshd", false},
		{"systemctl status *", "systemctl status $(id)", false},
		{"systemctl status *", "systemctl status `id`", false},
		{"systemctl status *", "systemctl status a;id", false},
		{"systemctl status *", "systemctl status a\nid", false},
		{"systemctl status *", "systemctl status a|id", false},
		{"systemctl status *", "systemctl status 'a'", false},
		{"systemctl status *", "systemctl status a\\", false},
		{"systemctl status *", "systemctl status >x", false},
		{"systemctl status *", "systemctl status a&", false},
		{"systemctl status *", "systemctl status ~root", false},
		{"systemctl status *", "systemctl status {a,b}", false},
		{"systemctl status *", "systemctl status a#b", false},
		{"systemctl status *", "systemctl status a\x00b", false},
		{"systemctl status *", "systemctl status a\u00a0b", false},
		{"systemctl status *", "LD_PRELOAD=/tmp/x systemctl status a", false},
		{"cat /var/log/*", "cat /var/log/nginx/error.log", true}, // a * is any plain characters
		{"cat /var/log/*", "cat /etc/shadow", false},
		{"journalctl **", "journalctl", true},
		{"journalctl **", "journalctl a b c", true},
		{"journalctl **", "journalctl --file=x", false},
		{"journalctl -u *", "journalctl -u sshd", true},
		{"", "", false},
	} {
		r, err := ParseCommandRule(test.rule)
		if test.rule == "" {
			if err == nil {
				t.Error("an empty rule was taken")
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", test.rule, err)
		}
		if got := r.Matches(test.command); got != test.want {
			t.Errorf("%q by %q: got %v", test.command, test.rule, got)
		}
	}
}

func TestFileRule(t *testing.T) {
	for _, test := range []struct {
		rule      string
		direction Direction
		path      string
		want      bool
	}{
		{"upload *", Upload, "/etc/shadow", true},
		{"upload *", Download, "/etc/shadow", false},
		{"download /var/log/*", Download, "/var/log/syslog", true},
		{"download /var/log/*", Download, "/var/log/nginx/error.log", false},
		{"download /var/log/*", Download, "/var/log", false},
		{"download /var/log/**", Download, "/var/log/nginx/error.log", true},
		{"download /var/log/**", Download, "/var/log", false},
		{"download /var/log/**", Download, "/var/logs/x", false},
		{"download /srv/*/public/**", Download, "/srv/a/public/b/c", true},
		{"download /srv/*/public/**", Download, "/srv/a/private/b", false},
		{"download /a[b]?", Download, "/a[b]?", true},
		{"download /a[b]?", Download, "/abx", false},
	} {
		r, err := ParseFileRule(test.rule)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Matches(test.direction, test.path); got != test.want {
			t.Errorf("%s %s by %q: got %v", test.direction, test.path, test.rule, got)
		}
	}
	r, err := ParseFileRule("upload /srv/** max 3MiB keep")
	if want := (FileRule{Upload, "/srv/**", 3 << 20, true}); err != nil || r != want {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, err := ParseFileRule("upload *"); err != nil || r.MaxBytes != math.MaxInt64 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestForwardRule(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.9.9.9")}
	for _, test := range []struct {
		rule   string
		remote bool
		host   string
		addr   string
		port   uint16
		want   bool
	}{
		{"local db.internal:5432", false, "db.internal", "10.0.0.5", 5432, true},
		{"local db.internal:5432", false, "DB.internal", "10.0.0.5", 5432, true},
		{"local db.internal:5432", false, "db.internal", "10.0.0.5", 5433, false},
		{"local db.internal:5432", true, "db.internal", "10.0.0.5", 5432, false},
		{"local db.internal:5432", false, "10.0.0.5", "10.0.0.5", 5432, false},
		{"local db.internal:5432", false, "db.internal", "127.0.0.1", 5432, false},
		{"local db.internal:5432", false, "db.internal", "169.254.169.254", 5432, false},
		{"local db.internal:5432", false, "db.internal", "10.9.9.9", 5432, false},
		{"local localhost:8080", false, "localhost", "127.0.0.1", 8080, true},
		{"local 10.0.0.0/8:*", false, "db.internal", "10.0.0.5", 1, true},
		{"local 10.0.0.0/8:*", false, "db.internal", "10.9.9.9", 1, false},
		{"local 10.0.0.0/8:*", false, "x", "::ffff:10.0.0.5", 1, true},
		{"local 10.9.9.9:22", false, "x", "10.9.9.9", 22, true},
		{"local 0.0.0.0/0:*", false, "x", "8.8.8.8", 22, true},
		{"local 0.0.0.0/0:*", false, "x", "127.0.0.1", 22, false},
		{"local 127.0.0.0/8:22", false, "x", "127.0.0.1", 22, true},
		{"local *:*", false, "x", "8.8.8.8", 22, true},
		{"local *:*", false, "x", "127.0.0.1", 22, false},
		{"local *:*", false, "x", "fe80::1", 22, false},
		{"local *:*", false, "x", "0.0.0.0", 22, false},
		{"local *:*", false, "x", "0.0.0.1", 22, false},
		{"local *:*", false, "x", "255.255.255.255", 22, false},
		{"local *:*", false, "x", "ff02::1", 22, false},
		{"local *:*", false, "x", "fd00:ec2::254", 80, false},
		{"local [fd00::]/8:80", false, "x", "fd00:ec2::254", 80, false},
		{"local *:*", false, "x", "168.63.129.16", 80, false},
		{"local 100.64.0.0/10:80", false, "x", "100.100.100.200", 80, false},
		{"local 100.100.100.200:80", false, "x", "100.100.100.200", 80, true},
		{"local *:*", false, "x", "64:ff9b::7f00:1", 22, false},
		{"local *:*", false, "x", "64:ff9b::a9fe:a9fe", 80, false},
		{"local *:*", false, "x", "64:ff9b::808:808", 80, true},
		{"local *:*", false, "x", "2002:7f00:1::1", 22, false},
		{"local *:*", false, "x", "64:ff9b::a09:909", 22, false}, // our own
		{"local [fd00::]/8:443", false, "x", "fd00::1", 443, true},
		{"remote 127.0.0.1:8000-8100", true, "localhost", "127.0.0.1", 8050, true},
		{"remote 127.0.0.1:8000-8100", true, "", "0.0.0.0", 8050, false},
		{"local unix:/run/x", false, "x", "8.8.8.8", 22, false},
	} {
		r, err := ParseForwardRule(test.rule)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Matches(test.remote, test.host, netip.MustParseAddr(test.addr), test.port, own); got != test.want {
			t.Errorf("%s (%s):%d by %q: got %v", test.host, test.addr, test.port, test.rule, got)
		}
	}
	for rule, want := range map[string]bool{
		"local db.internal:5432": true, "local *:5432": true, "local 10.0.0.0/8:*": true, "local other.internal:5432": false,
		"local db.internal:5433": false, "remote *:5432": false, "local unix:/run/db": false,
	} {
		r, err := ParseForwardRule(rule)
		if err != nil || r.MayMatch("DB.internal", 5432) != want {
			t.Errorf("%q: may match %v, %v", rule, !want, err)
		}
	}
	r, err := ParseForwardRule("local unix:/run/*.sock")
	if err != nil || !r.MatchesSocket(false, "/run/a.sock") || r.MatchesSocket(true, "/run/a.sock") || r.MatchesSocket(false, "/run/b/a.sock") {
		t.Errorf("sockets: %+v, %v", r, err)
	}
}

func FuzzSessionRules(f *testing.F) {
	f.Add("cat /var/log/*", "cat /var/log/x")
	f.Add("download /var/log/** max 5MiB", "/var/log/x")
	f.Fuzz(func(t *testing.T, rule, asked string) {
		if r, err := ParseCommandRule(rule); err == nil && r.Matches(asked) && strings.Contains(rule, "*") {
			if strings.ContainsAny(asked, "\n\r\t;|&<>()$`\\\"'*?[]{}~#!") || strings.Contains(asked, "  ") {
				t.Fatalf("%q matched %q", rule, asked)
			}
		}
		if r, err := ParseFileRule(rule); err == nil {
			r.Matches(Upload, asked)
		}
		if r, err := ParseForwardRule(rule); err == nil {
			r.MatchesSocket(false, asked)
		}
	})
}
