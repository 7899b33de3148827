//go:build linux

package test

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/web/api"
)

// withMachine is an installation whose target db01 makes the account dba.
func withMachine(t *testing.T) (*server, *servers.Machine) {
	t.Helper()
	s := install(t, "", "")
	m := servers.NewMachine(t, "16m", []ssh.PublicKey{s.userAuthority()}, "root@db01")
	_, err := s.people["admin"].AddTarget(t.Context(), api.TargetInput{
		Name: "db01", Address: m.Addr, Labels: api.Labels{Tier: "1"}, HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(m.HostKey)))},
		Provisioner: "root", PrincipalsFolder: m.Principals, Accounts: []api.AccountInput{{Name: "dba", Made: &api.AccountTemplate{
			Prefix: "jit-", Groups: []string{"adm"}, Sudo: []string{"ALL=(ALL) NOPASSWD: ALL"}}}},
	})
	must(t, err)
	return s, m
}

// on runs a command at the target, as ssh does, and returns what it said.
func (s *server) on(p *person, command string) (string, error) {
	return s.session(p, "dba", "db01", command)
}

// TestMadeAccount tells the whole story with the built programs: ask, see what
// it is, approve, work with sudo, end; and then there is no account.
func TestMadeAccount(t *testing.T) {
	s, m := withMachine(t)
	alice, bob := s.person("alice", "engineers"), s.person("bob", "approvers")
	r, err := alice.Request(t.Context(), api.RequestInput{Target: "db01", Account: "dba", DurationSeconds: 600, Reason: "INC-1 disk full"})
	must(t, err)
	if !strings.Contains(r.Made, "adm") || !strings.Contains(r.Made, "NOPASSWD: ALL") {
		t.Errorf("an approver is shown %q", r.Made)
	}
	r, err = bob.Approve(t.Context(), r.ID, api.ApproveInput{Digest: r.Digest})
	must(t, err)
	if out, _ := m.Try("getent passwd jit-alice"); out != "" {
		t.Errorf("there before its first use: %s", out)
	}
	out, err := s.on(alice, "id -un; id -Gn; sudo -n id -un")
	if err != nil || out != "jit-alice\njit-alice adm\nroot\n" {
		t.Fatalf("%q, %v", out, err)
	}
	list, err := alice.MadeAccounts(t.Context())
	if must(t, err); len(list.Items) != 1 || list.Items[0].Login != "jit-alice" || list.Items[0].State != "present" {
		t.Errorf("%+v", list)
	}
	if list, err := bob.MadeAccounts(t.Context()); err != nil || len(list.Items) != 0 {
		t.Errorf("bob sees %+v, %v", list, err)
	}
	_, err = alice.End(t.Context(), r.ID)
	must(t, err)
	s.gone(m, alice)
	if _, err := alice.Request(t.Context(), api.RequestInput{Target: "db01", Account: "root", DurationSeconds: 60, Reason: "INC-1"}); err == nil {
		t.Error("somebody asked for the provisioner")
	}
}

// TestMadeAccountBehindHop is the same where the target is behind a hop and an
// account with sudo is the provisioner; and the target is away when the account
// is to go.
func TestMadeAccountBehindHop(t *testing.T) {
	s := install(t, "", "")
	alice, bob := s.person("alice", "engineers"), s.person("bob", "approvers")
	m := servers.NewMachine(t, "16m", []ssh.PublicKey{s.userAuthority()})
	m.Do("useradd --system --create-home --home-dir /var/lib/maker --shell /bin/sh --password '*' maker; echo maker@db01 >/etc/ssh/principals/maker; echo 'maker ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/maker; chmod 440 /etc/sudoers.d/maker")
	hop := servers.NewMachine(t, "16m", []ssh.PublicKey{s.userAuthority()})
	hop.Do("useradd --system --password '*' pass; echo pass@jump01 >/etc/ssh/principals/pass")
	for _, in := range []api.TargetInput{
		{Name: "jump01", Address: hop.Addr, Labels: api.Labels{Tier: "1"}, HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(hop.HostKey)))}, HopAccount: "pass"},
		{Name: "db01", Address: m.Addr, Labels: api.Labels{Tier: "1"}, HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(m.HostKey)))},
			Via: []string{"jump01"}, Provisioner: "maker", PrincipalsFolder: m.Principals, Accounts: []api.AccountInput{{Name: "dba", Made: &api.AccountTemplate{
				Prefix: "jit-", Sudo: []string{"ALL=(ALL) NOPASSWD: /usr/bin/id"}}}}},
	} {
		_, err := s.people["admin"].AddTarget(t.Context(), in)
		must(t, err)
	}
	r, err := grant(t.Context(), alice, bob, "dba", "db01", 10*time.Minute)
	must(t, err)
	out, err := s.on(alice, "exec 2>&1; id -un; sudo -n id -un; sudo -n cat /etc/shadow")
	if err == nil || !strings.HasPrefix(out, "jit-alice\nroot\nsudo: ") {
		t.Fatalf("%q, %v", out, err)
	}
	m.Leave()
	_, err = alice.End(t.Context(), r.ID)
	must(t, err)
	eventually(t, time.Minute, "a try to remove it", func() bool {
		list, err := alice.MadeAccounts(context.Background())
		return err == nil && len(list.Items) == 1 && list.Items[0].Over && list.Items[0].Tries > 0
	})
	m.Return()
	s.gone(m, alice)
	if log := hop.Log(); !strings.Contains(log, "Accepted publickey for pass ") || strings.Contains(log, "Starting session") {
		t.Errorf("on the way:\n%s", log)
	}
}

// gone waits until nothing is left of the account, there and here.
func (s *server) gone(m *servers.Machine, p *person) {
	s.t.Helper()
	eventually(s.t, 3*time.Minute, "the account is gone", func() bool {
		list, err := p.MadeAccounts(context.Background())
		return err == nil && len(list.Items) == 0
	})
	if left, _ := m.Try("getent passwd jit-alice; getent group jit-alice; ls -A /home /var/lib/drawbolt/accounts | grep jit; ls -A /etc/sudoers.d /etc/ssh/principals | grep -e jit -e '^.drawbolt'; pgrep -u jit-alice"); strings.TrimSpace(strings.ReplaceAll(left, "pgrep: invalid user name: jit-alice", "")) != "" {
		s.t.Errorf("left on the machine:\n%s", left)
	}
}

// TestKillWhileMaking kills the server with SIGKILL at random moments while
// accounts are made and removed. In the end none is left, and every one that was
// ever there has its events.
func TestKillWhileMaking(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("CRASH_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("CRASH_SEED=%d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s, m := withMachine(t)
	alice, bob, carol := s.person("alice", "engineers"), s.person("bob", "approvers"), s.person("carol", "auditors")
	// How long one takes on this machine, from its first use to its end.
	r, err := grant(t.Context(), alice, bob, "dba", "db01", 10*time.Minute)
	must(t, err)
	began := time.Now()
	_, err = s.on(alice, "sleep 0.1")
	must(t, err)
	whole := max(time.Since(began), 1200*time.Millisecond)
	_, err = alice.End(t.Context(), r.ID)
	must(t, err)
	s.gone(m, alice)
	made := 0
	for range 5 {
		r, err := grant(t.Context(), alice, bob, "dba", "db01", 10*time.Minute)
		must(t, err)
		working := make(chan struct{})
		go func() { defer close(working); _, _ = s.on(alice, "sleep 0.1") }()
		time.Sleep(time.Duration(rnd.Int64N(int64(whole))))
		if rnd.IntN(2) == 0 { // while it is removed
			_, _ = alice.End(t.Context(), r.ID)
			time.Sleep(time.Duration(rnd.IntN(800)) * time.Millisecond)
		}
		s.kill()
		<-working
		if out, _ := m.Try("getent passwd jit-alice"); out != "" {
			made++
		}
		s.start()
		_, _ = alice.End(t.Context(), r.ID)
		s.gone(m, alice)
	}
	present, gone := 0, 0
	for _, e := range s.exported(carol) {
		switch e.Action {
		case "account.create":
			present++
		case "account.gone":
			gone++
		}
	}
	t.Logf("the server was killed %d times while there was an account; %d were begun, %d are gone", made, present, gone)
	if present < 2 || gone < 2 {
		t.Error("no account was made: this test tests nothing")
	}
}
