//go:build linux

package provision_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/provision"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault/sshca"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

// A house is a broker with a real store, and a machine with accounts of its own.
type house struct {
	*broker.Broker
	t       *testing.T
	db      *store.DB
	config  broker.Config
	machine *servers.Machine
	hop     *servers.Machine // on the way to it, or nil
	made    *provision.Provisioner
	users   map[string]access.User
}

const sudoers = "ALL=(ALL) NOPASSWD: /usr/bin/id"

// A way is how the target is reached and who makes the accounts there. It returns
// what stands before the target.
type way func(h *house, target *access.Target) []access.Target

// ways are all of them: root, an account with sudo, and the same behind a hop.
var ways = []struct {
	name string
	way
}{{"root", byRoot}, {"sudo", bySudo("ALL")}, {"sudo for a shell", bySudo("/usr/bin/sh -s -- *")}, {"behind a hop", behindHop}}

func byRoot(*house, *access.Target) []access.Target { return nil }

// bySudo has an account make the accounts that may run the commands as root.
func bySudo(commands string) way {
	return func(h *house, target *access.Target) []access.Target {
		target.Provisioner = "maker"
		h.machine.Do("useradd --system --create-home --home-dir /var/lib/maker --shell /bin/sh --password '*' maker; echo maker@db01 >/etc/ssh/principals/maker; rm /etc/ssh/principals/root")
		h.mayBySudo(commands)
		return nil
	}
}

// mayBySudo sets what the provisioner may run as root.
func (h *house) mayBySudo(commands string) {
	h.t.Helper()
	h.machine.Do("umask 227; rm -f /etc/sudoers.d/maker; echo 'maker ALL=(root) NOPASSWD: " + commands + "' >/etc/sudoers.d/maker; visudo -c -q")
}

// behindHop is bySudo with a machine before the target, which is passed by an
// account of its own.
func behindHop(h *house, target *access.Target) []access.Target {
	bySudo("ALL")(h, target)
	h.hop = servers.NewMachine(h.t, "12m", []ssh.PublicKey{h.config.UserCA.PublicKey()}, "nobody@jump01")
	h.hop.Do("useradd --system --password '*' pass; echo pass@jump01 >/etc/ssh/principals/pass")
	target.Via = []string{"jump01"}
	return []access.Target{{ID: access.NewID(access.TargetPrefix), Name: "jump01", Address: h.hop.Addr, Version: 1, HopAccount: "pass",
		HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(h.hop.HostKey)))}}}
}

func newHouse(t *testing.T, change func(*access.Target)) *house {
	t.Helper()
	return newHouseBy(t, byRoot, change)
}

func newHouseBy(t *testing.T, by way, change func(*access.Target)) *house {
	t.Helper()
	ctx := t.Context()
	h := &house{t: t, users: map[string]access.User{}}
	h.config = brokertest.Config(t, "one", storetest.SQLite(t))
	h.db = h.config.Store
	h.machine = servers.NewMachine(t, "12m", []ssh.PublicKey{h.config.UserCA.PublicKey()}, "root@db01")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the machine:\n%s", h.machine.Log())
		}
	})
	target := access.Target{ID: access.NewID(access.TargetPrefix), Name: "db01", Address: h.machine.Addr, Version: 1,
		HostKeys:    []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(h.machine.HostKey)))},
		Provisioner: "root", PrincipalsFolder: h.machine.Principals,
		Accounts: []access.Account{{Name: "dba", Credential: access.CredentialCertificate,
			Made: &access.AccountTemplate{Prefix: "jit-", Groups: []string{"adm"}, Sudo: []string{sudoers}, Shell: "/bin/bash"}}}}
	if change != nil {
		change(&target)
	}
	before := by(h, &target)
	ok(t, target.Validate())
	ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		for _, name := range []string{"alice", "bob"} {
			u := access.User{ID: access.NewID(access.UserPrefix), Name: name, CreatedAt: tx.Now(), Version: 1}
			h.users[name] = u
			ok(t, tx.AddUser(ctx, &u))
		}
		role := access.Role{Name: "engineers", Users: []string{h.users["alice"].ID, h.users["bob"].ID}, Version: 1, Rules: []access.Rule{{ID: "dba", Actions: []string{"request", "extend"},
			Targets: access.Selector{Names: []string{"*"}}, Accounts: []string{"*"}, MaxDuration: time.Hour, Session: access.SessionRules{Shell: true, Exec: true}}}}
		ok(t, tx.AddRole(ctx, &role))
		for i := range before {
			ok(t, tx.AddTarget(ctx, &before[i]))
		}
		return audit.Event{Actor: "system", Action: "house.furnish"}, tx.AddTarget(ctx, &target)
	}))
	h.Broker, h.made = h.server("one")
	return h
}

// server is a broker with a Provisioner that runs until the end of the test.
func (h *house) server(node string) (*broker.Broker, *provision.Provisioner) {
	h.t.Helper()
	c := h.config
	c.Node = node
	c.Policy = brokertest.Policy(h.t, rego.Bundle)
	b, err := broker.New(h.t.Context(), c)
	ok(h.t, err)
	p, err := provision.New(provision.Config{Broker: b, Run: sshproxy.Machines{Broker: b}.Run, Every: 50 * time.Millisecond, Log: c.Log})
	ok(h.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	h.t.Cleanup(func() { cancel(); running.Wait() })
	return b, p
}

func (h *house) as(name string) access.Caller { return access.Caller{User: h.users[name], Via: "test"} }

// open opens a session of a person in the account that is made for it.
func (h *house) open(name string) (*broker.Live, broker.Case) {
	h.t.Helper()
	c, err := h.Request(h.t.Context(), h.as(name), broker.Ask{Target: "db01", Account: "dba", Reason: "INC-1 test", Duration: 10 * time.Minute})
	ok(h.t, err)
	l, err := h.Open(h.t.Context(), h.as(name), c.Grant.ID, broker.Opening{Kind: "exec", Command: "id"})
	ok(h.t, err)
	h.t.Cleanup(func() { _ = h.Close(context.Background(), l, broker.Closing{Reason: "exited"}) })
	return l, c
}

// made opens a session and makes its account.
func (h *house) present(name string) (*broker.Live, broker.Case) {
	h.t.Helper()
	l, c := h.open(name)
	ok(h.t, h.made.Ensure(h.t.Context(), l))
	return l, c
}

// end gives the grant back.
func (h *house) end(name string, c broker.Case) {
	h.t.Helper()
	_, err := h.Release(h.t.Context(), h.as(name), c.Grant.ID)
	ok(h.t, err)
}

// hurry makes as if a step had begun, and had failed first, longer ago. The clock
// itself is that of the machine, whose sshd looks at the certificates.
func (h *house) hurry(c broker.Case, ago time.Duration) {
	h.t.Helper()
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		p, err := tx.Provision(h.t.Context(), c.Grant.ID)
		ok(h.t, err)
		p.NextAt, p.Until = time.Time{}, time.Time{}
		if !p.Since.IsZero() {
			p.Since = p.Since.Add(-ago)
		}
		return audit.Event{Actor: "system", Action: "test.hurry"}, tx.SaveProvision(h.t.Context(), &p)
	}))
}

// expire makes as if the grant's time had been over.
func (h *house) expire(c broker.Case) {
	h.t.Helper()
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		g, err := tx.Grant(h.t.Context(), c.Grant.ID)
		ok(h.t, err)
		g.End = tx.Now().Add(-time.Second)
		return audit.Event{Actor: "system", Action: "test.expire"}, tx.SaveGrant(h.t.Context(), &g)
	}))
}

// failed waits until the removal has failed.
func (h *house) failed(c broker.Case) access.Provision {
	h.t.Helper()
	p := h.becomes(c, access.Removing)
	for end := time.Now().Add(2 * time.Minute); p.Tries == 0; p = h.becomes(c, access.Removing) {
		if time.Now().After(end) {
			h.t.Fatal("the removal does not fail")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return p
}

// becomes waits until the account is in the state.
func (h *house) becomes(c broker.Case, state access.ProvisionState) access.Provision {
	h.t.Helper()
	var p access.Provision
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		p, err = h.Account(h.t.Context(), c.Grant.ID)
		ok(h.t, err)
		if p.State == state {
			return p
		}
	}
	h.t.Fatalf("the account is %s (%s), not %s", p.State, p.Problem, state)
	return p
}

// clean fails when anything of a login is left on the machine.
func (h *house) clean(login string) {
	h.t.Helper()
	left := h.machine.Do(`getent passwd ` + login + `; getent group ` + login + `; getent shadow ` + login + `; find /etc/sudoers.d /etc/ssh/principals /home /var/lib/drawbolt /var/spool /var/tmp /dev/shm -name '*` + login + `*' 2>/dev/null; find /etc/sudoers.d /etc/ssh/principals -name '.drawbolt*'; true`)
	if left != "" {
		h.t.Errorf("left on the machine:\n%s", left)
	}
}

// as logs in with the session's certificate and runs a command.
func (h *house) run(l *broker.Live, command string) (string, error) {
	h.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	ok(h.t, err)
	key, err := ssh.NewSignerFromKey(private)
	ok(h.t, err)
	cert, err := h.Credential(h.t.Context(), l, key.PublicKey())
	if err != nil {
		return "", err
	}
	signer, err := ssh.NewCertSigner(cert, key)
	ok(h.t, err)
	client, err := ssh.Dial("tcp", h.machine.Addr, &ssh.ClientConfig{User: l.Login, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(h.machine.HostKey)})
	if err != nil {
		return "", err
	}
	defer client.Close()
	s, err := client.NewSession()
	ok(h.t, err)
	out, err := s.CombinedOutput(command)
	return string(out), err
}

// actions are the events about accounts that are made for grants.
func (h *house) actions() []string {
	h.t.Helper()
	leaves, err := h.db.Leaves(h.t.Context(), store.LeafFilter{Limit: 1000})
	ok(h.t, err)
	var list []string
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		ok(h.t, err)
		if strings.HasPrefix(e.Action, "account.") {
			list = append(list, e.Action+" "+string(e.Outcome))
		}
	}
	return list
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The whole life: there is no account, there is one that may do what its
// template says and nothing else, and there is none.
func TestLife(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			newHouseBy(t, w.way, nil).life()
		})
	}
}

func (h *house) life() {
	t := h.t
	t.Helper()
	l, c := h.open("alice")
	if _, err := h.run(l, "id"); !errors.Is(err, access.ErrUnavailable) {
		t.Errorf("a credential before there is an account: %v", err)
	}
	h.clean("jit-alice")
	ok(t, h.made.Ensure(t.Context(), l))
	out, err := h.run(l, "id; echo $0; sudo -n id; sudo -n cat /etc/shadow; echo; stat -c %U:%a ~")
	for _, want := range []string{"(jit-alice)", "(adm)", "uid=0(root)", "jit-alice:700", "bash"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in what the account says: %s %v", want, out, err)
		}
	}
	if strings.Contains(out, "root:*") {
		t.Errorf("sudo allows more than its line says:\n%s", out)
	}
	if got := h.machine.Do("cat /etc/ssh/principals/jit-alice; stat -c %U:%G:%a /etc/sudoers.d/drawbolt-jit-alice /etc/ssh/principals/jit-alice; visudo -c -q && echo good"); got != "jit-alice@db01\nroot:root:440\nroot:root:644\ngood\n" {
		t.Errorf("on the machine: %q", got)
	}
	ok(t, h.made.Ensure(t.Context(), l)) // again: nothing is done
	h.end("alice", c)
	h.becomes(c, access.Gone)
	h.clean("jit-alice")
	if got := h.actions(); !slices.Equal(got, []string{"account.plan done", "account.create done", "account.present done", "account.remove done", "account.gone done"}) {
		t.Errorf("events %q", got)
	}
	provisioner := l.Target.Provisioner
	if got := h.machine.Do("cat /etc/ssh/principals/" + provisioner); got != provisioner+"@db01\n" {
		t.Errorf("the provisioner's principals: %q", got)
	}
	log := h.machine.Log()
	if !strings.Contains(log, "Accepted publickey for "+provisioner+" ") || provisioner != "root" && strings.Contains(log, "Accepted publickey for root ") {
		t.Errorf("who has logged in at the machine:\n%s", log)
	}
	if h.hop != nil {
		if log := h.hop.Log(); strings.Count(log, "Accepted publickey for pass ") != 2 || strings.Contains(log, "Starting session") {
			t.Errorf("the hop was not passed twice, and nothing else:\n%s", log)
		}
	}
}

// A provisioner who may not, or must be asked for a password, makes nothing; one
// who may no longer when the account is to go keeps nobody from seeing it, and is
// waited for.
func TestProvisionerMayNot(t *testing.T) {
	h := newHouseBy(t, bySudo("/usr/bin/id"), nil)
	refuse := func(why string) {
		t.Helper()
		l, c := h.open("alice")
		if err := h.made.Ensure(t.Context(), l); !errors.Is(err, access.ErrUnavailable) {
			t.Errorf("%s: %v", why, err)
		}
		if _, err := h.run(l, "id"); err == nil {
			t.Errorf("%s: there is a session", why)
		}
		h.end("alice", c)
		h.clean("jit-alice")
		h.mayBySudo("ALL")
		h.hurry(c, 0)
		h.becomes(c, access.Gone)
	}
	refuse("another command")
	h.machine.Do("echo 'maker ALL=(root) ALL' >/etc/sudoers.d/maker")
	refuse("a password")
	h.machine.Do("rm /etc/sudoers.d/maker")
	refuse("no rule")
	h.machine.Do("echo 'Defaults:maker requiretty' >>/etc/sudoers.d/maker")
	refuse("a terminal")

	l, c := h.present("alice")
	h.mayBySudo("/usr/bin/id")
	h.end("alice", c)
	p := h.failed(c)
	if p.Problem == "" || h.machine.Do("getent passwd jit-alice | wc -l") != "1\n" {
		t.Errorf("%+v", p)
	}
	if _, err := h.run(l, "id"); err == nil {
		t.Error("a session after the end")
	}
	h.mayBySudo("ALL")
	h.hurry(c, 0)
	h.becomes(c, access.Gone)
	h.clean("jit-alice")
}

// Every way in which a grant ends is one in which its account does.
func TestEveryEnd(t *testing.T) {
	for name, end := range map[string]func(h *house, c broker.Case){
		"expired": (*house).expire,
		"removed target": func(h *house, c broker.Case) {
			ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
				return audit.Event{Actor: "system", Action: "target.remove", Object: c.Grant.TargetID}, tx.RemoveTarget(h.t.Context(), c.Grant.TargetID)
			}))
			h.expire(c)
		},
		"revoked": func(h *house, c broker.Case) {
			ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
				g, err := tx.Grant(h.t.Context(), c.Grant.ID)
				ok(h.t, err)
				ok(h.t, g.Revoke(h.users["bob"], "enough", tx.Now()))
				return audit.Event{Actor: "system", Action: "grant.revoke"}, tx.SaveGrant(h.t.Context(), &g)
			}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, nil)
			_, c := h.present("alice")
			end(h, c)
			h.becomes(c, access.Gone)
			h.clean("jit-alice")
		})
	}
}

// Somebody is logged in, with processes that do not want to end, jobs for later
// and files that the next holder of the uid would own.
func TestStillLoggedIn(t *testing.T) {
	h := newHouse(t, func(t *access.Target) { t.Accounts[0].Made.KeepHome = true })
	l, c := h.present("alice")
	out, err := h.run(l, `echo secret >~/notes; touch /var/tmp/jit-alice.1 /dev/shm/jit-alice.2; id -u; trap '' HUP TERM; setsid nohup sh -c 'trap "" HUP TERM; while :; do sleep 1000; done' >/dev/null 2>&1 </dev/null & sleep 0.2`)
	ok(t, err)
	uid := strings.TrimSpace(out)
	h.machine.Do("echo '* * * * * id' >/var/spool/cron/crontabs/jit-alice; touch /var/spool/cron/atjobs/a1; chown jit-alice /var/spool/cron/atjobs/a1 /var/spool/cron/crontabs/jit-alice")
	if got := h.machine.Do("pgrep -u " + uid + " | wc -l"); strings.TrimSpace(got) == "0" {
		t.Fatal("nothing runs as the account: this test tests nothing")
	}
	h.end("alice", c)
	h.becomes(c, access.Gone)
	if got, _ := h.machine.Try("pgrep -u " + uid + "; find /var/spool /var/tmp /dev/shm -user " + uid); got != "" {
		t.Errorf("still there: %s", got)
	}
	if got := h.machine.Do("stat -c %U:%a /home/.drawbolt-kept /home/.drawbolt-kept/*; cat /home/.drawbolt-kept/*/notes"); got != "root:700\nroot:700\nsecret\n" {
		t.Errorf("the home that is kept: %q", got)
	}
	h.machine.Do("rm -rf /home/.drawbolt-kept")
	h.clean("jit-alice")
}

// An account, a group or a home of that name that we did not make is not touched,
// neither at the beginning nor at the end.
func TestNotOurs(t *testing.T) {
	for name, before := range map[string]struct {
		way
		what string
	}{
		"account":           {byRoot, "useradd --create-home --groups tty --comment 'Alice,,,' jit-alice"},
		"account marked":    {byRoot, "useradd --create-home --comment 'drawbolt GRA-0000000000000000' jit-alice"},
		"system account":    {byRoot, "useradd --system --create-home --comment 'drawbolt GRA-0000000000000000' jit-alice"},
		"group":             {byRoot, "groupadd jit-alice"},
		"home":              {byRoot, "cd /home && mkdir jit-alice"},
		"link as home":      {byRoot, "cd /home && ln -s /etc jit-alice"},
		"account by sudo":   {bySudo("ALL"), "useradd --create-home --groups tty --comment 'Alice,,,' jit-alice"},
		"account by hop":    {behindHop, "useradd --create-home --comment 'drawbolt GRA-0000000000000000' jit-alice"},
		"home by hop":       {behindHop, "cd /home && mkdir jit-alice"},
		"dangling home too": {behindHop, "cd /home && ln -s /nowhere jit-alice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouseBy(t, before.way, nil)
			h.machine.Do(before.what + "; echo theirs >/etc/ssh/principals/jit-alice")
			const look = "getent passwd jit-alice; getent shadow jit-alice; getent group | grep jit-alice; ls -lan /home /etc/sudoers.d; cat /etc/ssh/principals/jit-alice"
			was := h.machine.Do(look)
			l, c := h.open("alice")
			err := h.made.Ensure(t.Context(), l)
			kind := access.ErrConflict
			if strings.Contains(name, "home") {
				kind = access.ErrUnavailable
			}
			if !errors.Is(err, kind) {
				t.Errorf("made: %v", err)
			}
			if _, err := h.run(l, "id"); err == nil {
				t.Error("a session in an account of somebody else")
			}
			h.end("alice", c)
			h.becomes(c, access.Gone)
			if is := h.machine.Do(look); is != was {
				t.Errorf("it was touched:\n%s\nnow\n%s", was, is)
			}
		})
	}
}

// An account that cannot be recognised any more is no account that is gone.
func TestDisguised(t *testing.T) {
	h := newHouse(t, nil)
	_, c := h.present("alice")
	h.machine.Do("usermod --comment 'Alice' jit-alice; rm /var/lib/drawbolt/accounts/jit-alice")
	h.end("alice", c)
	p := h.failed(c)
	if !strings.Contains(p.Problem, "not recognised") {
		t.Errorf("%+v", p)
	}
	// The GECOS field alone may be changed by its holder on some systems.
	h.machine.Do("usermod --comment 'drawbolt " + c.Grant.ID + ",,,' jit-alice")
	h.hurry(c, 0)
	h.becomes(c, access.Gone)
	h.clean("jit-alice")
}

// The target is away when the account should go, for longer than is quiet; and
// comes back.
func TestAway(t *testing.T) {
	for _, test := range []struct {
		name string
		way
		away func(*house) *servers.Machine
	}{
		{"target", byRoot, func(h *house) *servers.Machine { return h.machine }},
		{"target by sudo", bySudo("ALL"), func(h *house) *servers.Machine { return h.machine }},
		{"target behind a hop", behindHop, func(h *house) *servers.Machine { return h.machine }},
		{"hop", behindHop, func(h *house) *servers.Machine { return h.hop }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHouseBy(t, test.way, nil)
			h.comesBack(test.away(h))
		})
	}
}

func (h *house) comesBack(away *servers.Machine) {
	t := h.t
	t.Helper()
	l, c := h.present("alice")
	away.Leave()
	h.end("alice", c)
	ok(t, h.Close(t.Context(), l, broker.Closing{Reason: "released"}))
	p := h.failed(c)
	if slices.Contains(h.actions(), "account.stuck failed") || !p.NextAt.After(time.Now()) {
		t.Errorf("the first failure: %+v, %q", p, h.actions())
	}
	h.hurry(c, time.Hour)
	for end := time.Now().Add(2 * time.Minute); !slices.Contains(h.actions(), "account.stuck failed") && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	if !slices.Contains(h.actions(), "account.stuck failed") {
		t.Errorf("no finding: %q", h.actions())
	}
	list, err := h.MadeAccounts(t.Context(), h.as("alice"))
	if err != nil || len(list) != 1 || !list[0].Over || !list[0].Stuck || list[0].Problem == "" {
		t.Errorf("%+v, %v", list, err)
	}
	if got := h.machine.Do("getent passwd jit-alice | wc -l"); got != "1\n" {
		t.Errorf("the account went while nobody could come there: %q", got)
	}
	away.Return()
	h.hurry(c, 0)
	h.becomes(c, access.Gone)
	h.clean("jit-alice")
}

// The script is killed, or what it calls fails, before each program that it
// needs; the next try begins with what the one before has left.
func TestBrokenOff(t *testing.T) {
	h := newHouse(t, nil)
	for _, program := range []string{"/usr/sbin/useradd", "/usr/sbin/visudo", "/usr/bin/chmod", "/usr/bin/mv"} {
		for how, script := range map[string]string{
			"killed before": "kill -9 $PPID; exit 1", "killed after": `$real "$@"; kill -9 $PPID`, "failed": "exit 1",
		} {
			t.Run("create "+filepath.Base(program)+" "+how, func(t *testing.T) {
				h := *h
				h.t = t
				h.machine.Wrap(program, script)
				l, c := h.open("alice")
				err := h.made.Ensure(t.Context(), l)
				h.machine.Unwrap(program)
				if err == nil {
					t.Error("made, though the script was broken off")
				}
				if _, err := h.run(l, "id"); err == nil {
					t.Error("there is a session in half an account")
				}
				if how == "failed" {
					h.end("alice", c) // without another try
				} else {
					ok(t, h.made.Ensure(t.Context(), l))
					out, err := h.run(l, "sudo -n id -u")
					if err != nil || out != "0\n" {
						t.Errorf("%q, %v", out, err)
					}
					h.end("alice", c)
				}
				h.becomes(c, access.Gone)
				h.clean("jit-alice")
			})
		}
	}
	for _, program := range []string{"/usr/sbin/usermod", "/usr/sbin/userdel", "/usr/bin/find", "/usr/bin/rm"} {
		for how, script := range map[string]string{"killed before": "kill -9 $PPID; exit 1", "killed after": `$real "$@"; kill -9 $PPID`, "failed": "exit 1"} {
			if how == "failed" && program == "/usr/bin/find" {
				continue // what cannot be found is not in the way
			}
			t.Run("remove "+filepath.Base(program)+" "+how, func(t *testing.T) {
				h := *h
				h.t = t
				l, c := h.present("alice")
				h.machine.Wrap(program, script)
				h.end("alice", c)
				h.failed(c)
				h.machine.Unwrap(program)
				if _, err := h.run(l, "id"); err == nil {
					t.Error("a session after the end")
				}
				h.hurry(c, 0)
				h.becomes(c, access.Gone)
				h.clean("jit-alice")
			})
		}
	}
}

// The disk of /etc is full when the account is made, and when it is removed.
func TestFullDisk(t *testing.T) {
	h := newHouse(t, nil)
	const fill = "dd if=/dev/zero of=/etc/fill bs=64k 2>/dev/null; dd if=/dev/zero of=/etc/fill2 bs=1 2>/dev/null; true"
	h.machine.Do(fill)
	was := h.machine.Do("md5sum /etc/passwd /etc/shadow /etc/group /etc/sudoers")
	l, c := h.open("alice")
	if err := h.made.Ensure(t.Context(), l); err == nil {
		t.Error("made on a full disk")
	}
	if is := h.machine.Do("md5sum /etc/passwd /etc/shadow /etc/group /etc/sudoers"); is != was {
		t.Logf("the full disk changed something: %s -> %s", was, is)
	}
	h.machine.Do("rm /etc/fill /etc/fill2")
	ok(t, h.made.Ensure(t.Context(), l))
	if out, err := h.run(l, "sudo -n id -u"); err != nil || out != "0\n" {
		t.Errorf("%q, %v", out, err)
	}
	h.machine.Do(fill)
	h.end("alice", c)
	h.failed(c)
	h.machine.Do("rm /etc/fill /etc/fill2")
	h.hurry(c, 0)
	h.becomes(c, access.Gone)
	h.clean("jit-alice")
}

// Lines of sudo that pass our grammar and not visudo's give no account with
// half of its rights, and leave sudo as it was.
func TestBadSudoers(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			newHouseBy(t, w.way, func(t *access.Target) { t.Accounts[0].Made.Sudo = []string{sudoers, "ALL=(ALL NOPASSWD: )("} }).refusesSudoers()
		})
	}
}

func (h *house) refusesSudoers() {
	t := h.t
	t.Helper()
	was := h.machine.Do("ls -A /etc/sudoers.d")
	l, c := h.open("alice")
	if err := h.made.Ensure(t.Context(), l); !errors.Is(err, access.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if got := h.machine.Do("ls -A /etc/sudoers.d; visudo -c -q && echo good"); got != was+"good\n" {
		t.Errorf("sudoers: %q", got)
	}
	h.end("alice", c)
	h.becomes(c, access.Gone)
	h.clean("jit-alice")
}

// One login for everybody has one holder at a time: whoever comes while the
// grant of another holds is refused, and whoever comes after it gets a fresh one.
func TestOneLogin(t *testing.T) {
	h := newHouse(t, func(t *access.Target) { t.Accounts[0].Made.Prefix, t.Accounts[0].Made.Login = "", "shared" })
	l, c := h.present("alice")
	_, err := h.run(l, "touch ~/alices")
	ok(t, err)
	l2, c2 := h.open("bob")
	if err := h.made.Ensure(t.Context(), l2); !errors.Is(err, access.ErrConflict) {
		t.Errorf("two holders: %v", err)
	}
	if _, err := h.run(l2, "id"); err == nil {
		t.Error("bob is in alice's account")
	}
	h.end("alice", c)
	ok(t, h.made.Ensure(t.Context(), l2)) // which waits for the removal
	if out, err := h.run(l2, "ls ~; getent passwd shared"); err != nil || !strings.Contains(out, c2.Grant.ID) || strings.Contains(out, "alices") {
		t.Errorf("%q, %v", out, err)
	}
	h.end("bob", c2)
	h.becomes(c2, access.Gone)
	h.clean("shared")
}

// Two servers and many sessions at once: each step is done once.
func TestTwoServers(t *testing.T) {
	h := newHouse(t, nil)
	_, other := h.server("two")
	l, c := h.open("alice")
	var all sync.WaitGroup
	for i := range 10 {
		made := []*provision.Provisioner{h.made, other}[i%2]
		all.Go(func() {
			if err := made.Ensure(t.Context(), l); err != nil {
				t.Errorf("ensure: %v", err)
			}
		})
	}
	all.Wait()
	h.end("alice", c)
	h.becomes(c, access.Gone)
	h.clean("jit-alice")
	if got := h.actions(); !slices.Equal(got, []string{"account.plan done", "account.create done", "account.present done", "account.remove done", "account.gone done"}) {
		t.Errorf("events %q", got)
	}
}

// A server that is gone in the middle of a step leaves its lease, and the next
// one takes over when that is over.
func TestTakenOver(t *testing.T) {
	h := newHouse(t, nil)
	l, c := h.open("alice")
	lost, err := h.BeginCreation(t.Context(), c.Grant.ID)
	ok(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := h.made.Ensure(ctx, l); err == nil {
		t.Error("done while another is at it")
	}
	h.hurry(c, 0)
	ok(t, h.made.Ensure(t.Context(), l))
	if _, err := h.StepCredential(t.Context(), lost, 0, h.machine.HostKey); !errors.Is(err, access.ErrConflict) {
		t.Errorf("a certificate for a step that was taken over: %v", err)
	}
	h.end("alice", c)
	h.becomes(c, access.Gone)
	// The lost one made it after all, when nobody expected it any more.
	h.machine.Do("useradd --create-home --comment 'drawbolt " + c.Grant.ID + "' jit-alice")
	if err := h.StepDone(t.Context(), lost, nil); !errors.Is(err, access.ErrConflict) {
		t.Errorf("late: %v", err)
	}
	h.becomes(c, access.Gone)
	h.clean("jit-alice")
}

// The certificate of the provisioner is for a minute and for one principal that
// nobody can ask for.
func TestProvisionerCertificate(t *testing.T) {
	h := newHouse(t, nil)
	_, c := h.open("alice")
	s, err := h.BeginCreation(t.Context(), c.Grant.ID)
	ok(t, err)
	cert, err := h.StepCredential(t.Context(), s, 0, h.machine.HostKey)
	ok(t, err)
	if life := cert.ValidBefore - cert.ValidAfter; life > uint64((time.Minute+sshca.Skew)/time.Second) || !slices.Equal(cert.ValidPrincipals, []string{"root@db01"}) || len(cert.Extensions) != 0 {
		t.Errorf("%d seconds for %q with %v", life, cert.ValidPrincipals, cert.Extensions)
	}
	_, err = h.Request(t.Context(), h.as("alice"), broker.Ask{Target: "db01", Account: "root", Reason: "INC-1", Duration: time.Minute})
	if !errors.Is(err, access.ErrNotFound) && !errors.Is(err, access.ErrDenied) {
		t.Errorf("asked for the provisioner: %v", err)
	}
	h.hurry(c, 0)
	if _, err := h.StepCredential(t.Context(), s, 0, h.machine.HostKey); !errors.Is(err, access.ErrConflict) {
		t.Errorf("a certificate after the lease: %v", err)
	}
}
