package provision

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

func step(state access.ProvisionState, made access.AccountTemplate) broker.Step {
	return broker.Step{
		Machine:   access.Target{Name: "db01", Provisioner: "root", PrincipalsFolder: "/etc/ssh/principals"},
		Provision: access.Provision{Login: "jit-alice", GrantID: "GRA-0123456789abcdef", State: state, Template: made},
	}
}

func TestCommand(t *testing.T) {
	made := access.AccountTemplate{Prefix: "jit-", Groups: []string{"adm", "tty"}, Sudo: []string{"ALL=(ALL) NOPASSWD: /bin/ls *"}}
	for _, tt := range []struct {
		name string
		s    broker.Step
		want string
	}{
		{"create", step(access.Creating, made), `sh -s -- 'create' 'jit-alice' 'GRA-0123456789abcdef' '/etc/ssh/principals' '/bin/sh' 'adm,tty' 'jit-alice@db01' 'ALL=(ALL) NOPASSWD: /bin/ls *'`},
		{"remove", step(access.Removing, made), `sh -s -- 'remove' 'jit-alice' 'GRA-0123456789abcdef' '/etc/ssh/principals' 'remove'`},
		{"keep", step(access.Removing, access.AccountTemplate{KeepHome: true}), `sh -s -- 'remove' 'jit-alice' 'GRA-0123456789abcdef' '/etc/ssh/principals' 'keep'`},
	} {
		if got, err := command(tt.s); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v", tt.name, got, err)
		}
	}
	s := step(access.Removing, made)
	s.Machine.Provisioner, s.Machine.PrincipalsFolder = "ops", ""
	if got, err := command(s); err != nil || got != `sudo -n -- sh -s -- 'remove' 'jit-alice' 'GRA-0123456789abcdef' '-' 'remove'` {
		t.Errorf("with sudo: %s, %v", got, err)
	}
}

// FuzzQuote: what is refused is refused, and anything else comes out of a real
// shell as it went in, in the same number of words.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"a", "ALL=(ALL) NOPASSWD: /bin/ls *", "'; id; '", "$(id)", "a\nb", "`id`", `\'`, "", "-n", "é", "~root", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line, err := quote("root", []string{s, "end"})
		if err != nil {
			return
		}
		words := strings.TrimPrefix(line, "sh -s --")
		out, err := exec.Command("/bin/sh", "-c", "printf '%s|'"+words).Output()
		if err != nil || string(out) != s+"|end|" {
			t.Errorf("%q came out as %q, %v", s, out, err)
		}
	})
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, output, outcome string
	}{
		{"plain", "drawbolt: uid=1001\ndrawbolt: outcome=present\n", "present"},
		{"between other lines", "Welcome!\ndrawbolt: outcome=gone\nlogout\n", "gone"},
		{"nothing", "", ""},
		{"no outcome", "drawbolt: uid=1001\n", ""},
		{"two", "drawbolt: outcome=failed\ndrawbolt: outcome=gone\n", ""},
		{"after the outcome", "drawbolt: outcome=gone\ndrawbolt: uid=1\n", ""},
		{"unknown outcome", "drawbolt: outcome=fine\n", ""},
		{"unknown key", "drawbolt: note=x\ndrawbolt: outcome=gone\n", ""},
		{"escape", "drawbolt: problem=\x1b[2J\ndrawbolt: outcome=failed\n", ""},
		{"too long", "drawbolt: problem=" + strings.Repeat("x", 201) + "\ndrawbolt: outcome=failed\n", ""},
		{"flood", strings.Repeat("x\n", MaxOutput) + "drawbolt: outcome=gone\n", ""},
	} {
		r, err := parse([]byte(tt.output))
		if r.outcome != tt.outcome || (err == nil) != (tt.outcome != "") {
			t.Errorf("%s: %+v, %v", tt.name, r, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("drawbolt: uid=1001\ndrawbolt: outcome=present\n"))
	f.Add([]byte("x\r\ndrawbolt: problem=no space\r\ndrawbolt: outcome=failed\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		if !keys["outcome"].MatchString(r.outcome) {
			t.Errorf("outcome %q", r.outcome)
		}
		for k, v := range r.details {
			if keys[k] == nil || !keys[k].MatchString(v) {
				t.Errorf("%q=%q", k, v)
			}
		}
	})
}

// TestDone: which report ends which step.
func TestDone(t *testing.T) {
	made := step(access.Removing, access.AccountTemplate{})
	made.Provision.CreatedAt = made.Provision.CreatedAt.AddDate(1, 0, 0)
	for _, tt := range []struct {
		name    string
		s       broker.Step
		outcome string
		good    bool
	}{
		{"created", step(access.Creating, access.AccountTemplate{}), "present", true},
		{"created, it says gone", step(access.Creating, access.AccountTemplate{}), "gone", false},
		{"created, foreign", step(access.Creating, access.AccountTemplate{}), "foreign", false},
		{"created, failed", step(access.Creating, access.AccountTemplate{}), "failed", false},
		{"removed", made, "gone", true},
		{"removed, it says present", made, "present", false},
		{"removed, not recognised", made, "foreign", false},
		{"removed, never made", step(access.Removing, access.AccountTemplate{}), "foreign", true},
	} {
		if err := (report{outcome: tt.outcome}).done(tt.s); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
