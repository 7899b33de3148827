//go:build linux

package test

import (
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// TestPushStory: a machine is enrolled with the script that the server gives, and
// nothing there fetches the list. When a grant is given back, the machine's list
// names its certificate within seconds, and so does the list of a machine whose
// provisioner is not root.
func TestPushStory(t *testing.T) {
	s, m := withMachine(t)
	admin, alice, bob, carol := s.people["admin"], s.person("alice", "engineers"), s.person("bob", "approvers"), s.person("carol", "auditors")
	// The configuration in its usual place becomes that of the sshd that runs.
	m.Do("rm -r " + m.Principals + " && sed '/^TrustedUserCAKeys/d; /^AuthorizedPrincipalsFile/d' " + m.Config + " >/etc/ssh/sshd_config")
	b, err := admin.BootstrapTarget(t.Context(), "db01")
	must(t, err)
	out := m.Do("DRAWBOLT_RELOAD='cat /etc/ssh/sshd_config >" + m.Config + "; pkill -HUP -o sshd' DRAWBOLT_TIMER=none sh -s -- <<'LAST LINE'\n" + b.Script + "LAST LINE\n")
	if !strings.Contains(out, "db01 is enrolled") {
		t.Fatalf("%s", out)
	}
	pushes := 0
	for _, provisioner := range []string{"root", "ops"} {
		if provisioner == "ops" {
			m.Do("useradd -m -s /bin/sh -p '*' ops && echo 'ops ALL=(root) NOPASSWD: /usr/bin/sh -s -- *' >/etc/sudoers.d/ops && chmod 440 /etc/sudoers.d/ops")
			target, err := admin.FindTarget(t.Context(), "db01")
			must(t, err)
			_, err = admin.SetTarget(t.Context(), api.TargetInput{Name: target.Name, Address: target.Address, Labels: target.Labels, HostKeys: target.HostKeys, Version: target.Version,
				Provisioner: "ops", PrincipalsFolder: target.PrincipalsFolder, Accounts: []api.AccountInput{{Name: "dba", Made: target.Accounts[0].Made}}})
			must(t, err)
			m.Do("echo ops@db01 >" + m.Principals + "/ops && rm " + m.Principals + "/root")
		}
		r, err := grant(t.Context(), alice, bob, "dba", "db01", 10*time.Minute)
		must(t, err)
		if out, err := s.on(alice, "id -un"); err != nil || out != "jit-alice\n" {
			t.Fatalf("%q, %v", out, err)
		}
		_, err = alice.End(t.Context(), r.ID)
		must(t, err)
		pushes++
		eventually(t, time.Minute, "the list", func() bool {
			return strings.Count(m.Do("ssh-keygen -Q -l -f /etc/ssh/drawbolt/revoked"), "serial: ") == pushes
		})
		eventually(t, time.Minute, "the event", func() bool {
			events, err := carol.Events(t.Context(), api.EventFilter{After: -1, Limit: 100, Action: "revocations.push"})
			must(t, err)
			n := 0
			for _, e := range events.Items {
				if e.Details["reached"] == "1" {
					n++
				}
			}
			return n == pushes
		})
		s.gone(m, alice)
	}
}
