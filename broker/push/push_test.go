//go:build linux

package push

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

const (
	folder  = "/etc/ssh/drawbolt"
	revoked = folder + "/revoked"
)

// A house is a broker with a real store.
type house struct {
	*broker.Broker
	t      *testing.T
	db     *store.DB
	config broker.Config
	admin  access.Caller
}

func newHouse(t *testing.T) *house {
	t.Helper()
	ctx := t.Context()
	h := &house{t: t}
	h.config = brokertest.Config(t, "one", storetest.SQLite(t))
	h.db = h.config.Store
	u := access.User{ID: access.NewID(access.UserPrefix), Name: "root", Version: 1}
	h.admin = access.Caller{User: u, Via: "test"}
	ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		u.CreatedAt = tx.Now()
		role := access.Role{Name: "admins", Users: []string{u.ID}, Version: 1, Rules: []access.Rule{{ID: "all", Actions: []string{"target.write", "lock.write"}}}}
		return audit.Event{Actor: "system", Action: "house.furnish"}, errors.Join(tx.AddUser(ctx, &u), tx.AddRole(ctx, &role))
	}))
	var err error
	h.Broker, err = broker.New(ctx, h.config)
	ok(t, err)
	return h
}

// add registers a target with a provisioner.
func (h *house) add(t access.Target) access.Target {
	h.t.Helper()
	if t.Accounts == nil {
		t.Accounts = []access.Account{{Name: "app", Credential: access.CredentialCertificate}}
	}
	v, err := h.AddTarget(h.t.Context(), h.admin, t)
	ok(h.t, err)
	v.Version = 1
	return v
}

// issue has a certificate made for a target, which is one for a check there, and
// returns its key with it.
func (h *house) issue(target, account string) ssh.Signer {
	h.t.Helper()
	p, err := h.BeginCheck(h.t.Context(), h.admin, target, "")
	ok(h.t, err)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	ok(h.t, err)
	key, err := ssh.NewSignerFromKey(private)
	ok(h.t, err)
	cert, err := h.CheckCredential(h.t.Context(), p, 0, account, key.PublicKey())
	ok(h.t, err)
	signer, err := ssh.NewCertSigner(cert, key)
	ok(h.t, err)
	return signer
}

func (h *house) revoke(s ssh.Signer) {
	h.t.Helper()
	_, err := h.RevokeCertificate(h.t.Context(), h.admin, strconv.FormatUint(s.PublicKey().(*ssh.Certificate).Serial, 10), "INC-7 lost")
	ok(h.t, err)
}

// push runs a Pusher until the end of the test.
func (h *house) push(c Config) {
	h.t.Helper()
	c.Broker, c.Log = h.Broker, h.config.Log
	if c.Run == nil {
		c.Run = sshproxy.Machines{Broker: h.Broker}.Bring
	}
	p, err := New(c)
	ok(h.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	h.t.Cleanup(func() { cancel(); running.Wait() })
}

// pushes are the events of that name.
func (h *house) pushes() (list []audit.Event) {
	h.t.Helper()
	leaves, err := h.db.Leaves(h.t.Context(), store.LeafFilter{Limit: 1000})
	ok(h.t, err)
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		ok(h.t, err)
		if e.Action == "revocations.push" {
			list = append(list, e)
		}
	}
	return list
}

// pushed waits until so many pushes have ended, and returns the last.
func (h *house) pushed(n int) audit.Event {
	h.t.Helper()
	h.eventually("the end of a push", func() bool { return len(h.pushes()) >= n })
	list := h.pushes()
	if len(list) != n {
		h.t.Fatalf("%d pushes, want %d: %+v", len(list), n, list)
	}
	return list[n-1]
}

func (h *house) eventually(what string, is func() bool) {
	h.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("waited too long for %s", what)
		}
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A place is a house with a machine that was enrolled: its list is where a
// bootstrap puts it, and nothing fetches it.
type place struct {
	*house
	machine *servers.Machine
}

func newPlace(t *testing.T, provisioner string) *place {
	t.Helper()
	h := newHouse(t)
	m := servers.NewMachine(t, "12m", []ssh.PublicKey{h.config.UserCA.PublicKey()}, "root@db01")
	p := &place{h, m}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the machine:\n%s", m.Log())
		}
	})
	// sshd -T reads the one, and the sshd that runs the other.
	m.Do("mkdir -p " + folder + " && ssh-keygen -q -k -f " + revoked + " && chmod 640 " + revoked + ` && chgrp adm ` + revoked + `
		printf '#!/bin/sh\n' >` + folder + "/fetch-revoked && echo \"revoked='" + revoked + "'\" >>" + folder + "/fetch-revoked")
	h.add(access.Target{Name: "db01", Address: m.Addr, Provisioner: provisioner, HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(m.HostKey)))}})
	m.Do("useradd --system --password '*' app; echo app@db01 >" + m.Principals + "/app")
	if provisioner != "root" {
		m.Do("useradd --system --create-home --home-dir /var/lib/maker --shell /bin/sh --password '*' maker; echo maker@db01 >" + m.Principals + "/maker; rm " + m.Principals + "/root")
		m.Do("umask 227; echo 'maker ALL=(root) NOPASSWD: /usr/bin/sh -s -- *' >/etc/sudoers.d/maker; visudo -c -q")
	}
	p.reads(revoked)
	return p
}

// reads has sshd read the list from there.
func (p *place) reads(path string) {
	p.machine.Do("for file in /etc/ssh/sshd_config " + p.machine.Config + "; do { echo 'RevokedKeys " + path + "'; sed '/^RevokedKeys/d' $file; } >$file.new && cat $file.new >$file; done; pkill -HUP -o sshd")
	p.eventually("sshd", func() bool { return p.letsIn(p.issue("db01", "app")) })
}

func (p *place) letsIn(s ssh.Signer) bool {
	client, err := ssh.Dial("tcp", p.machine.Addr, &ssh.ClientConfig{User: "app", Auth: []ssh.AuthMethod{ssh.PublicKeys(s)}, HostKeyCallback: ssh.FixedHostKey(p.machine.HostKey), Timeout: time.Minute})
	if err == nil {
		client.Close()
	}
	return err == nil
}

// list is the list at the machine, and what there is beside it.
func (p *place) list() string {
	return p.machine.Do("stat -c '%U:%G %a %n' " + folder + "/* && sha256sum " + revoked)
}

// TestPush: a certificate that is revoked is refused by the real sshd at once,
// and nothing has fetched the list.
func TestPush(t *testing.T) {
	for _, provisioner := range []string{"root", "maker"} {
		t.Run(provisioner, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, provisioner)
			p.push(Config{})
			bad, good := p.issue("db01", "app"), p.issue("db01", "app")
			if !p.letsIn(bad) || !p.letsIn(good) {
				t.Fatal("sshd lets nobody in")
			}
			p.revoke(bad)
			began := time.Now()
			p.eventually("the list", func() bool { return !p.letsIn(bad) })
			t.Logf("refused after %s", time.Since(began))
			if !p.letsIn(good) {
				t.Error("another certificate is refused")
			}
			e := p.pushed(1)
			if e.Outcome != audit.Done || e.Details["targets"] != "1" || e.Details["reached"] != "1" || e.Actor != "system" {
				t.Errorf("on record is %+v", e)
			}
			if now := p.list(); !strings.Contains(now, "root:adm 640 "+revoked+"\n") || strings.Count(now, "\n") != 3 {
				t.Errorf("there is now\n%s", now)
			}
			// A lock keeps people out, and the list comes all the same.
			other := p.issue("db01", "app")
			ok(t, p.LockTarget(t.Context(), p.admin, "db01", true, "INC-7"))
			p.pushed(2)
			if p.letsIn(other) || p.letsIn(good) {
				t.Error("what a lock revokes is let in")
			}
		})
	}
}

// TestPushLeavesAlone: what is not as a bootstrap makes it is not touched, and no
// other way to the list is taken for it.
func TestPushLeavesAlone(t *testing.T) {
	p := newPlace(t, "root")
	p.push(Config{Pauses: []time.Duration{}})
	n := 0
	for _, c := range []struct{ name, before, after, reads, want string }{
		{"elsewhere", "cp -a " + revoked + " /etc/ssh/theirs", "", "/etc/ssh/theirs", "not where a bootstrap puts it"},
		{"a fetcher of another list", "mkdir /etc/ssh/mine && cp -a " + folder + "/* /etc/ssh/mine", "", "/etc/ssh/mine/revoked", "not where a bootstrap puts it"},
		{"none", "", "", "none", "no list of revoked"},
		{"a symlink", "mv " + revoked + " /etc/ssh/shadowed && ln -s /etc/ssh/shadowed " + revoked, "mv /etc/ssh/shadowed " + revoked, revoked, "is no file"},
		{"a folder of others", "chmod 777 " + folder, "chmod 755 " + folder, revoked, "others than root"},
		{"a folder of somebody", "chown app " + folder, "chown root " + folder, revoked, "others than root"},
		{"a symlink for the folder", "mv " + folder + " /etc/ssh/real && ln -s real " + folder, "rm " + folder + " && mv /etc/ssh/real " + folder, revoked, "others than root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.before != "" {
				p.machine.Do(c.before)
			}
			p.reads(c.reads)
			all := "cd /etc/ssh && find . -name '*theirs*' -o -path '*mine*' -o -path '*revoked*' -o -name '*shadowed*' -o -path './real*' -o -path './drawbolt*' | sort | xargs ls -ldi --time-style=full-iso && cat $(find . -name revoked -o -name shadowed -o -name theirs) | sha256sum"
			was := p.machine.Do(all)
			bad := p.issue("db01", "app")
			p.revoke(bad)
			n++
			e := p.pushed(n)
			if e.Outcome != audit.Failed || e.Details["reached"] != "0" || !strings.HasPrefix(e.Details["missed_1"], "db01: ") || !strings.Contains(e.Details["missed_1"], c.want) {
				t.Errorf("on record is %+v", e)
			}
			if now := p.machine.Do(all); now != was {
				t.Errorf("there was\n%s\nand is now\n%s", was, now)
			}
			if !p.letsIn(bad) {
				t.Error("it was no push that failed")
			}
			if c.after != "" {
				p.machine.Do("rm -f " + map[bool]string{true: revoked}[c.name == "a symlink"] + " && " + c.after)
			}
		})
	}
}

// TestPushOnlyForward: a list that is older, or none, does not take the place of
// the one that counts.
func TestPushOnlyForward(t *testing.T) {
	p := newPlace(t, "root")
	bad := p.issue("db01", "app")
	target, err := p.db.Target(t.Context(), "db01")
	ok(t, err)
	bring := func(change func(*broker.Delivery)) error {
		d, err := p.BeginDelivery(t.Context(), target.ID)
		ok(t, err)
		if change != nil {
			change(&d)
		}
		output, err := sshproxy.Machines{Broker: p.Broker}.Bring(t.Context(), d, command(d), input(d))
		ok(t, err)
		if strings.Contains(string(output), "outcome=newer") {
			return errNewer
		}
		return parse(output)
	}
	first, err := p.BeginDelivery(t.Context(), target.ID)
	ok(t, err)
	p.revoke(bad)
	ok(t, bring(nil))
	was := p.list()
	if err := bring(func(d *broker.Delivery) { d.Number, d.List = first.Number, first.List }); err != errNewer {
		t.Errorf("an older one: %v", err)
	}
	for name, change := range map[string]func(*broker.Delivery){
		"nothing":      func(d *broker.Delivery) { d.List = nil },
		"a page":       func(d *broker.Delivery) { d.List = []byte("<html>") },
		"half":         func(d *broker.Delivery) { d.List = d.List[:len(d.List)/2] },
		"its head":     func(d *broker.Delivery) { d.List = d.List[:8] },
		"a key":        func(d *broker.Delivery) { d.List = ssh.MarshalAuthorizedKey(p.machine.HostKey) },
		"another":      func(d *broker.Delivery) { d.Number++ },
		"a shell word": func(d *broker.Delivery) { d.List = []byte("\nEND OF THE LIST\n}\nrm -f " + revoked + "\n") },
	} {
		if err := bring(change); err == nil || !strings.Contains(err.Error(), "what arrived is not the list") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is cut off anywhere changes nothing.
	d, err := p.BeginDelivery(t.Context(), target.ID)
	ok(t, err)
	whole := input(d)
	for _, n := range []int{1, len(script) / 2, len(script) + 40, len(whole) - 12, len(whole) - 6} {
		output, _ := sshproxy.Machines{Broker: p.Broker}.Bring(t.Context(), d, command(d), whole[:n])
		if strings.Contains(string(output), "outcome=replaced") {
			t.Errorf("%d bytes of %d do something: %s", n, len(whole), output)
		}
	}
	// A full disk.
	p.machine.Wrap("/usr/bin/base64", `"$real" "$@" | head -c 20; exit 1`)
	if err := bring(nil); err == nil || !strings.Contains(err.Error(), "cannot be written") {
		t.Errorf("a full disk: %v", err)
	}
	p.machine.Unwrap("/usr/bin/base64")
	if now := p.list(); now != was || p.letsIn(bad) {
		t.Errorf("there was\n%s\nand is now\n%s", was, now)
	}
	ok(t, bring(nil))
}

var errNewer = errors.New("the one there is newer")

// TestPushHostile: a target that hangs, or talks without end, is left after a
// while; what it says is cleaned, and the list there counts.
func TestPushHostile(t *testing.T) {
	for _, c := range []struct{ name, program, script, want string }{
		{"never answers", "/usr/bin/id", "exec sleep 1000", "it took too long"},
		{"errors without end", "/usr/bin/id", "exec yes >&2", "it took too long"},
		{"talks without end", "/usr/bin/mv", "exec yes", ""},
		{"acts on terminals", "/usr/bin/mv", `printf '\ndrawbolt: problem=\033[2J\ndrawbolt: outcome=failed\n'; kill -9 $PPID`, "does not say why"},
		{"says both", "/usr/bin/mv", `printf 'drawbolt: outcome=replaced\ndrawbolt: outcome=replaced\n'`, "did not say"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, "root")
			within := 3 * time.Second
			if c.want != "it took too long" {
				within = 20 * time.Second
			}
			p.push(Config{Within: within, Pauses: []time.Duration{}})
			p.machine.Wrap(c.program, c.script)
			p.revoke(p.issue("db01", "app"))
			began := time.Now()
			e := p.pushed(1)
			if d := time.Since(began); d > within+40*time.Second {
				t.Errorf("it took %s", d)
			}
			if missed := e.Details["missed_1"]; e.Outcome != audit.Failed || !strings.Contains(missed, c.want) || len(missed) > audit.MaxDetailValue || strings.Contains(missed, "\x1b") {
				t.Errorf("on record is %+v", e)
			}
			p.machine.Do("pkill -9 sleep; pkill -9 yes; true")
			p.machine.Unwrap(c.program)
			if !p.letsIn(p.issue("db01", "app")) {
				t.Error("sshd lets nobody in")
			}
		})
	}
}

// TestPushNotLetIn: a provisioner that is not let in is tried once. More would
// shut out this server where sshd punishes that.
func TestPushNotLetIn(t *testing.T) {
	p := newPlace(t, "root")
	p.push(Config{Pauses: []time.Duration{time.Millisecond, time.Millisecond}})
	p.machine.Do("rm " + p.machine.Principals + "/root")
	before := strings.Count(p.machine.Log(), "Failed publickey for root")
	p.revoke(p.issue("db01", "app"))
	if e := p.pushed(1); e.Outcome != audit.Failed || !strings.Contains(e.Details["missed_1"], "log in at db01 as root") {
		t.Errorf("on record is %+v", e)
	}
	if n := strings.Count(p.machine.Log(), "Failed publickey for root") - before; n != 1 {
		t.Errorf("%d logins have failed", n)
	}
}

// TestPushCrowded: who does not get a place in time is left to fetch the list.
func TestPushCrowded(t *testing.T) {
	h := newHouse(t)
	for i := range places + 2 {
		h.add(access.Target{Name: fmt.Sprintf("db%02d", i), Address: "192.0.2.1:22", Provisioner: "root"})
	}
	h.push(Config{Within: 5 * time.Second, Patience: 100 * time.Millisecond, Pauses: []time.Duration{}, Run: func(ctx context.Context, _ broker.Delivery, _ string, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}})
	n, err := h.PushRevocations(t.Context(), h.admin)
	ok(t, err)
	e := h.pushed(1)
	crowded := 0
	for _, v := range e.Details {
		if strings.Contains(v, "too many other targets are slow") {
			crowded++
		}
	}
	if n != places+2 || e.Details["reached"] != "0" || crowded != 2 {
		t.Errorf("on record is %+v", e)
	}
}

// TestPushAtOnce: targets that hang do not hold up the others, no more are tried
// at the same time than may be, and those that failed are tried again.
func TestPushAtOnce(t *testing.T) {
	h := newHouse(t)
	var mu sync.Mutex
	now, most, ended, tries := 0, 0, 0, map[string]int{}
	hanging := map[string]bool{}
	for i := range 24 {
		name := fmt.Sprintf("db%02d", i)
		h.add(access.Target{Name: name, Address: "192.0.2.1:22", Provisioner: "root"})
		hanging[name] = i < places-1
	}
	reached := make(chan struct{}, len(hanging))
	h.push(Config{Within: 4 * time.Second, Pauses: []time.Duration{time.Millisecond}, Run: func(ctx context.Context, d broker.Delivery, _ string, _ []byte) ([]byte, error) {
		mu.Lock()
		now++
		most = max(most, now)
		tries[d.Target.Name]++
		mu.Unlock()
		defer func() { mu.Lock(); now--; mu.Unlock() }()
		if hanging[d.Target.Name] {
			<-ctx.Done()
			mu.Lock()
			ended++
			mu.Unlock()
			return nil, context.Cause(ctx)
		}
		reached <- struct{}{}
		return []byte("Welcome\ndrawbolt: outcome=replaced\r\n"), nil
	}})
	_, err := h.PushRevocations(t.Context(), h.admin)
	ok(t, err)
	for range len(hanging) - (places - 1) {
		<-reached
	}
	mu.Lock()
	if ended > 0 {
		t.Errorf("the others had to wait for %d that hang", ended)
	}
	mu.Unlock()
	if e := h.pushed(1); e.Details["targets"] != "24" || e.Details["reached"] != "19" || !strings.HasPrefix(e.Details["missed_5"], "db04: it took too long") {
		t.Errorf("on record is %+v", e)
	}
	mu.Lock()
	defer mu.Unlock()
	if most > places+latePlaces {
		t.Errorf("%d at the same time", most)
	}
	for name, n := range tries {
		if want := map[bool]int{true: 2, false: 1}[hanging[name]]; n != want {
			t.Errorf("%s was tried %d times, want %d", name, n, want)
		}
	}
}

// TestPushCatchesUp: what is revoked while a try goes on, which may have the list
// from before, is brought as well.
func TestPushCatchesUp(t *testing.T) {
	h := newHouse(t)
	h.add(access.Target{Name: "db01", Address: "192.0.2.1:22", Provisioner: "maker"})
	first, second := h.issue("db01", "app"), h.issue("db01", "app")
	at, goOn := make(chan broker.Delivery), make(chan struct{})
	h.push(Config{Run: func(_ context.Context, d broker.Delivery, command string, input []byte) ([]byte, error) {
		if want := fmt.Sprintf("sudo -n -- sh -s -- %d", d.Number); command != want {
			t.Errorf("the command is %s, want %s", command, want)
		}
		at <- d
		<-goOn
		return []byte("drawbolt: outcome=replaced\n"), nil
	}})
	h.revoke(first)
	before := <-at
	h.revoke(second)
	// The news have been taken when there is nothing to be taken.
	time.Sleep(100 * time.Millisecond)
	goOn <- struct{}{}
	after := <-at
	goOn <- struct{}{}
	if before.Number >= after.Number || len(before.List) >= len(after.List) {
		t.Errorf("list %d, and then list %d", before.Number, after.Number)
	}
	h.pushed(2)
}
