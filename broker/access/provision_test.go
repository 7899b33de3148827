package access

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"
)

func template() AccountTemplate {
	return AccountTemplate{Prefix: "jit-", Groups: []string{"adm"}, Sudo: []string{"ALL=(ALL) NOPASSWD: /usr/bin/systemctl restart nginx, /bin/ls *"}, Shell: "/bin/bash"}
}

func TestTemplateValidate(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		name   string
		change func(*AccountTemplate)
		good   bool
	}{
		{"plain", func(*AccountTemplate) {}, true},
		{"a login for all", func(a *AccountTemplate) { a.Prefix, a.Login = "", "dba" }, true},
		{"all of sudo", func(a *AccountTemplate) { a.Sudo = []string{"ALL=(ALL:ALL) ALL"} }, true},
		{"neither", func(a *AccountTemplate) { a.Prefix = "" }, false},
		{"both", func(a *AccountTemplate) { a.Login = "dba" }, false},
		{"prefix with a digit", func(a *AccountTemplate) { a.Prefix = "9-" }, false},
		{"prefix with a quote", func(a *AccountTemplate) { a.Prefix = "a'" }, false},
		{"group with a comma", func(a *AccountTemplate) { a.Groups = []string{"adm,root"} }, false},
		{"group twice", func(a *AccountTemplate) { a.Groups = []string{"adm", "adm"} }, false},
		{"too many groups", func(a *AccountTemplate) { a.Groups = slices.Repeat([]string{"a"}, 17) }, false},
		{"shell", func(a *AccountTemplate) { a.Shell = "bash" }, false},
		{"shell with dots", func(a *AccountTemplate) { a.Shell = "/bin/../tmp/x" }, false},
		{"shell with a space", func(a *AccountTemplate) { a.Shell = "/bin/sh -c" }, false},
		{"sudo with a newline", func(a *AccountTemplate) { a.Sudo = []string{"ALL=(ALL) ALL\nmallory ALL=(ALL) ALL"} }, false},
		{"sudo with another user", func(a *AccountTemplate) { a.Sudo = []string{", mallory ALL=(ALL) ALL"} }, false},
		{"sudo with an include", func(a *AccountTemplate) { a.Sudo = []string{"@include /tmp/x"} }, false},
		{"sudo with a comment", func(a *AccountTemplate) { a.Sudo = []string{"ALL=(ALL) ALL #x"} }, false},
		{"sudo with a backslash", func(a *AccountTemplate) { a.Sudo = []string{`ALL=(ALL) ALL \`} }, false},
		{"sudo with a quote", func(a *AccountTemplate) { a.Sudo = []string{"ALL=(ALL) '"} }, false},
		{"sudo too long", func(a *AccountTemplate) { a.Sudo = []string{"ALL=" + long} }, false},
		{"too many lines of sudo", func(a *AccountTemplate) { a.Sudo = slices.Repeat([]string{"ALL=ALL"}, 17) }, false},
	} {
		a := template()
		tt.change(&a)
		if err := a.Validate(); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestLoginFor(t *testing.T) {
	a := template()
	for user, want := range map[string]string{
		"alice": "jit-alice", "a-b_c": "jit-a-b_c", "0": "jit-0", strings.Repeat("a", 28): "jit-" + strings.Repeat("a", 28),
		"a.b": "jit-a_b-" + hash("a.b"), strings.Repeat("b", 29): "jit-" + strings.Repeat("b", 19) + "-" + hash(strings.Repeat("b", 29)),
	} {
		if got, err := a.LoginFor(user); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", user, got, err, want)
		}
	}
	if _, err := a.LoginFor("x;id"); err == nil {
		t.Error("a name that is none")
	}
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

// FuzzLoginFor: whatever a person is called, the login is one, and two persons
// have two.
func FuzzLoginFor(f *testing.F) {
	f.Add("alice", "bob")
	f.Add("a.b", "a_b")
	f.Add(strings.Repeat("a", 40), strings.Repeat("a", 41))
	a := template()
	f.Fuzz(func(t *testing.T, one, two string) {
		x, err := a.LoginFor(one)
		if err != nil {
			return
		}
		if CheckAccountName(x) != nil || !strings.HasPrefix(x, "jit-") {
			t.Errorf("%q gives %q", one, x)
		}
		if y, err := a.LoginFor(two); err == nil && x == y && one != two {
			t.Errorf("%q and %q both give %q", one, two, x)
		}
	})
}

func TestTargetProvisioning(t *testing.T) {
	good := func() Target {
		made := template()
		return Target{Name: "db01", Address: "10.0.0.1:22", Provisioner: "root", PrincipalsFolder: "/etc/ssh/principals",
			Accounts: []Account{{Name: "app", Credential: CredentialCertificate}, {Name: "dba", Credential: CredentialCertificate, Made: &made}}}
	}
	for _, tt := range []struct {
		name   string
		change func(*Target)
		good   bool
	}{
		{"plain", func(*Target) {}, true},
		{"no folder", func(t *Target) { t.PrincipalsFolder = "" }, true},
		{"no provisioner", func(t *Target) { t.Provisioner = "" }, false},
		{"provisioner to ask for", func(t *Target) { t.Provisioner = "app" }, false},
		{"provisioner that is none", func(t *Target) { t.Provisioner = "-x" }, false},
		{"folder with dots", func(t *Target) { t.PrincipalsFolder = "/etc/../x" }, false},
		{"folder with a quote", func(t *Target) { t.PrincipalsFolder = "/etc/'x" }, false},
		{"login of another account", func(t *Target) { t.Accounts[1].Made.Prefix, t.Accounts[1].Made.Login = "", "app" }, false},
		{"login of the provisioner", func(t *Target) { t.Accounts[1].Made.Prefix, t.Accounts[1].Made.Login = "", "root" }, false},
		{"bad template", func(t *Target) { t.Accounts[1].Made.Prefix = "" }, false},
	} {
		x := good()
		tt.change(&x)
		if err := x.Validate(); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	x, made := good(), template()
	made.Prefix = "ap"
	if _, err := NewProvision(&Grant{UserName: "p", Account: "dba"}, &x, made, time.Now()); err == nil {
		t.Error("a person's login that an account of the target has")
	}
}

// TestProvisionMoves walks every pair of states.
func TestProvisionMoves(t *testing.T) {
	states := []ProvisionState{Planned, Creating, Present, Removing, Gone, Failed}
	allowed := map[ProvisionState]string{
		Planned: "creating gone", Creating: "creating present failed removing", Failed: "creating removing",
		Present: "removing", Removing: "removing gone", Gone: "removing",
	}
	for _, from := range states {
		for _, to := range states {
			p := Provision{State: from}
			want := slices.Contains(strings.Fields(allowed[from]), string(to))
			if err := p.move(to); (err == nil) != want {
				t.Errorf("%s to %s: %v", from, to, err)
			} else if err != nil && p.State != from {
				t.Errorf("%s to %s: refused, and now %s", from, to, p.State)
			}
		}
	}
}

func TestProvisionSteps(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := Provision{State: Planned}
	try := func(what string, err error, good bool) {
		t.Helper()
		if (err == nil) != good {
			t.Fatalf("%s: %v, now %+v", what, err, p)
		}
	}
	try("done before it began", p.Did(at), false)
	try("failed before it began", p.Fail("x", at), false)
	try("begin", p.Begin(Creating, "a", at), true)
	try("two at once", p.Begin(Creating, "b", at.Add(StepLease-1)), false)
	try("remove meanwhile", p.Begin(Removing, "b", at.Add(StepLease-1)), false)
	try("taken over", p.Begin(Creating, "b", at.Add(StepLease)), true)
	try("failed", p.Fail("no", at), true)
	if p.State != Failed || p.Tries != 1 || p.Problem != "no" || p.Node != "" {
		t.Errorf("%+v", p)
	}
	try("again", p.Begin(Creating, "a", at), true)
	try("done", p.Did(at), true)
	try("skip what is there", p.Skip(at), false)
	try("give up what is there", p.GiveUp(at), false)
	var last time.Duration
	for try1 := range 12 {
		try("remove", p.Begin(Removing, "a", at), true)
		if try1 == 0 {
			try("give up before it failed", p.GiveUp(at), false)
		}
		try("fail", p.Fail("away", at), true)
		wait := p.NextAt.Sub(at)
		if try1 == 0 && wait != firstWait || wait < last || wait > longestWait {
			t.Errorf("try %d waits %v after %v", try1, wait, last)
		}
		try("too early", p.Begin(Removing, "a", p.NextAt.Add(-1)), false)
		at, last = p.NextAt, wait
	}
	if last != longestWait || p.Tries != 12 || !p.Stuck(time.Hour, at) || p.Stuck(1000*time.Hour, at) {
		t.Errorf("waits %v at last: %+v", last, p)
	}
	try("give up", p.GiveUp(at), true)
	try("late", p.Late(), true)
	if p.State != Removing || p.Stuck(0, at) {
		t.Errorf("%+v", p)
	}
}
