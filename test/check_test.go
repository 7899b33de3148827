//go:build linux

package test

import (
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// found is how the steps of a check ended that are named.
func found(c api.TargetCheck, steps ...string) string {
	var list []string
	for _, name := range steps {
		for _, s := range c.Steps {
			if s.Step == name {
				list = append(list, name+"="+s.State)
			}
		}
	}
	return strings.Join(list, " ")
}

// TestCheckMachine: at a target that has a provisioner, a check sees what only
// root sees: tools, clock, and whether sshd has a list of revoked certificates
// that is fresh.
func TestCheckMachine(t *testing.T) {
	s, m := withMachine(t)
	admin := s.people["admin"]
	check := func(want string) api.TargetCheck {
		t.Helper()
		c, err := admin.CheckTarget(t.Context(), "db01", api.CheckInput{})
		must(t, err)
		if got := found(c, "authority", "provisioner", "clock", "revocations"); got != want {
			t.Fatalf("%s, want %s: %+v", got, want, c)
		}
		return c
	}
	check("authority=ok provisioner=ok clock=ok revocations=failed") // sshd has no list
	m.Do("ssh-keygen -q -k -f /etc/ssh/revoked && { echo RevokedKeys /etc/ssh/revoked; cat /etc/ssh/sshd_config; } >/etc/ssh/new && mv /etc/ssh/new /etc/ssh/sshd_config")
	if c := check("authority=ok provisioner=ok clock=ok revocations=ok"); !c.Passed {
		t.Errorf("%+v", c)
	}
	m.Do("touch -d '1 hour ago' /etc/ssh/revoked")
	check("authority=ok provisioner=ok clock=ok revocations=failed")
	m.Do("echo rubbish >/etc/ssh/revoked")
	check("authority=ok provisioner=ok clock=ok revocations=failed")
	m.Do("rm /etc/ssh/revoked")
	check("authority=ok provisioner=ok clock=ok revocations=failed")

	// A provisioner that is not root needs sudo without a password.
	m.Do("useradd -m -s /bin/sh -p '*' ops && echo ops@db01 >" + m.Principals + "/ops")
	target, err := admin.FindTarget(t.Context(), "db01")
	must(t, err)
	in := api.TargetInput{Name: target.Name, Address: target.Address, Labels: target.Labels, HostKeys: target.HostKeys, Version: target.Version,
		Provisioner: "ops", PrincipalsFolder: target.PrincipalsFolder, Accounts: []api.AccountInput{{Name: "dba", Made: target.Accounts[0].Made}}}
	_, err = admin.SetTarget(t.Context(), in)
	must(t, err)
	c := check("authority=ok provisioner=failed")
	if !strings.Contains(c.Steps[len(c.Steps)-1].Detail, "cannot run what it has to") {
		t.Errorf("%+v", c)
	}
	m.Do("echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops && chmod 440 /etc/sudoers.d/ops")
	check("authority=ok provisioner=ok clock=ok revocations=failed")
	if left, _ := m.Try("ls /etc/ssh/revoked /etc/sudoers.d/drawbolt*"); strings.Contains(left, "\n/etc") {
		t.Errorf("the check left %s", left)
	}
	m.Leave()
	check("")
}

// TestBootstrapMachine enrols a machine whose sshd is as strict as sshd is by
// itself, with everything in its usual place, and with no account but the
// provisioner. Then an account is made there.
func TestBootstrapMachine(t *testing.T) {
	s, m := withMachine(t)
	admin, alice, bob := s.people["admin"], s.person("alice", "engineers"), s.person("bob", "approvers")
	m.Do("sed -i '/^TrustedUserCAKeys/d; /^AuthorizedPrincipalsFile/d' " + m.Config + " && rm -r " + m.Principals + " && mkdir -p /etc/cron.d && pkill -HUP -o sshd")
	eventually(t, time.Minute, "sshd trusts nobody any more", func() bool {
		c, err := admin.CheckTarget(t.Context(), "db01", api.CheckInput{})
		return err == nil && found(c, "provisioner", "authority") == "provisioner=failed authority=failed"
	})
	b, err := admin.BootstrapTarget(t.Context(), "db01")
	must(t, err)
	run := "DRAWBOLT_SSHD_CONFIG=" + m.Config + " DRAWBOLT_RELOAD='pkill -HUP -o sshd' DRAWBOLT_TIMER=cron sh -s -- "
	out := m.Do(run + "<<'LAST LINE'\n" + b.Script + "LAST LINE\n")
	// The provisioner looks at the machine's own configuration, which is another.
	if !strings.Contains(out, "db01 is enrolled") || strings.Count(out, "still to be mended") != 1 || !strings.Contains(out, "mended: revocations") {
		t.Errorf("%s", out)
	}
	c, err := admin.CheckTarget(t.Context(), "db01", api.CheckInput{})
	if must(t, err); found(c, "authority", "provisioner") != "authority=ok provisioner=ok" {
		t.Errorf("%+v", c)
	}
	r, err := grant(t.Context(), alice, bob, "dba", "db01", 10*time.Minute)
	must(t, err)
	if out, err := s.on(alice, "id -un"); err != nil || out != "jit-alice\n" {
		t.Errorf("%q, %v", out, err)
	}
	_, err = alice.End(t.Context(), r.ID)
	must(t, err)
	s.gone(m, alice)
	out = m.Do(run + "--uninstall <<'LAST LINE'\n" + b.Script + "LAST LINE\n")
	if left := m.Do("ls -A /etc/ssh/drawbolt; cat " + m.Config + " | grep -c 'BEGIN drawbolt' || :"); left != "backup\n0\n" {
		t.Errorf("%s\nleft: %s", out, left)
	}
}
