//go:build linux

package scan_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/broker/discovery/scan"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/drawbolt/drawbolt/test/servers"
)

func TestMain(m *testing.M) { servers.Leaks(m) }

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A house is a broker with a real store, and a machine with accounts of its own.
type house struct {
	*broker.Broker
	t       *testing.T
	db      *store.DB
	machine *servers.Machine
	scanner *scan.Scanner
	ahead   time.Duration // of the real clock
}

func newHouse(t *testing.T) *house {
	ctx := t.Context()
	h := &house{t: t}
	config := brokertest.Config(t, "one", storetest.SQLite(t))
	h.db = config.Store
	h.machine = servers.NewMachine(t, "12m", []ssh.PublicKey{config.UserCA.PublicKey()}, "root@db01")
	ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		for _, name := range []string{"admin", "gone", "alice"} {
			u := access.User{ID: access.NewID(access.UserPrefix), Name: name, CreatedAt: tx.Now(), Version: 1}
			if name == "admin" {
				u.Groups = []string{"admins"}
			}
			u.Locked = name == "gone"
			ok(t, tx.AddUser(ctx, &u))
		}
		ok(t, tx.AddRole(ctx, &access.Role{Name: "admins", Groups: []string{"admins"}, Version: 1, Rules: []access.Rule{{ID: "all", Actions: []string{"account.read", "account.discover", "account.adopt", "target.read", "secret.write"}}}}))
		return audit.Event{Actor: "system", Action: "house.furnish"}, tx.AddTarget(ctx, &access.Target{
			ID: access.NewID(access.TargetPrefix), Name: "db01", Address: h.machine.Addr, Version: 1, Provisioner: "root", CreatedAt: tx.Now(), Labels: access.Labels{Environment: "prod"},
			HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(h.machine.HostKey)))}, Accounts: []access.Account{{Name: "deploy", Credential: access.CredentialCertificate}},
		})
	}))
	var err error
	config.Policy = brokertest.Policy(t, rego.Bundle)
	h.Broker, err = broker.New(ctx, config)
	ok(t, err)
	h.scanner, err = scan.New(scan.Config{Broker: h.Broker, Run: sshproxy.Machines{Broker: h.Broker}.Explore})
	ok(t, err)
	return h
}

func (h *house) as(name string) access.Caller {
	h.t.Helper()
	u, err := h.db.User(h.t.Context(), name)
	ok(h.t, err)
	return access.Caller{User: u, Via: "cli"}
}

func (h *house) scan() broker.Discovered {
	h.t.Helper()
	d, err := h.scanner.Scan(h.t.Context(), h.as("admin"), "db01", "")
	ok(h.t, err)
	return d
}

// key makes a key and returns its line.
func key(t *testing.T) (line string, public ssh.PublicKey) {
	signer := servers.NewSigner(t)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), signer.PublicKey()
}

func (h *house) register(name string, k ssh.PublicKey) {
	h.t.Helper()
	u := h.as(name).User
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		return audit.Event{Actor: "system", Action: "house.furnish"}, tx.AddPublicKey(h.t.Context(), &access.PublicKey{
			Fingerprint: ssh.FingerprintSHA256(k), UserID: u.ID, Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))), CreatedAt: tx.Now()})
	}))
}

const hash = "$6$saltsalt$kZDVgXVmZ1fYJ0NHVK4lRkTAXyGq1cT0aF8h0zvZ2q8n1wT5aH3sWbE6ZQ1rR0yF4uG9pL7mK2dJ5xC8vB3nM1"

// plant makes accounts of every class on the machine, and ways past the bastion.
// Where keys are looked for there are things that are none.
func (h *house) plant() {
	aliceLine, alice := key(h.t)
	goneLine, gone := key(h.t)
	stray, _ := key(h.t)
	h.register("alice", alice)
	h.register("gone", gone)
	h.machine.Do(strings.NewReplacer("HASH", hash, "CONFIG", h.machine.Config, "ALICE", aliceLine, "GONE", goneLine, "STRAY", stray).Replace(`
		useradd -m -s /bin/bash deploy && usermod -p '*' deploy
		useradd -m -s /bin/bash alice && usermod -p 'HASH' alice && chage -d $(date +%F) alice && usermod -aG sudo alice
		useradd -m -s /bin/bash gone && usermod -p '*' gone && mkdir ~gone/.ssh && echo 'GONE gone@laptop' >~gone/.ssh/authorized_keys
		useradd -m -s /bin/bash old && usermod -p 'HASH' old && chage -d 2020-01-01 -M 90 old
		useradd -m -s /bin/bash team && usermod -p '*' team && mkdir ~team/.ssh && printf '%s\n' 'ALICE a' '# no key' 'from="192.0.2.1",command="/bin/true" STRAY someone' >~team/.ssh/authorized_keys
		useradd -r -m -s /bin/sh backup2 && usermod -p '*' backup2 && echo 'backup2 ALL=(root) NOPASSWD: /usr/bin/rsync' >/etc/sudoers.d/backup
		useradd -m -s /bin/bash breakglass && usermod -p 'HASH' breakglass
		useradd -o -u 0 -g 0 -M -s /bin/bash toor && usermod -p 'HASH' toor
		useradd -m -s /bin/bash idle && usermod -p '*' idle
		ln -s /etc ~idle/.ssh; mkdir ~deploy/.ssh; ln -s /etc/shadow ~deploy/.ssh/authorized_keys; mkdir -p ~old/.ssh; mkfifo ~old/.ssh/authorized_keys
		cp /bin/true /var/tmp/rootkit && chmod 4755 /var/tmp/rootkit
		sed -i 's/PasswordAuthentication no/PasswordAuthentication yes/; s/AuthorizedKeysFile none/AuthorizedKeysFile .ssh\/authorized_keys/; 1i PermitRootLogin yes' CONFIG
		printf 'STRAY\n' >>"$(dirname CONFIG)/user_ca"`))
}

// Planted accounts of every class are found, and nothing else; with every way past
// the bastion, and no hash of a password.
func TestPlanted(t *testing.T) {
	h := newHouse(t)
	h.plant()
	d := h.scan()
	want := map[string]string{"root": "managed", "deploy": "managed", "alice": "unmanaged", "gone": "orphaned", "old": "dormant", "team": "shared",
		"backup2": "service", "breakglass": "emergency", "toor": "shared"}
	for _, f := range d.Found {
		if want[f.Name] != f.Class || len(f.Reasons) == 0 || f.FirstSeen.IsZero() {
			t.Errorf("%s is %s, %d: %q; want %q", f.Name, f.Class, f.Risk, f.Reasons, want[f.Name])
		}
		delete(want, f.Name)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
	var ways []string
	for _, w := range d.Ways {
		ways = append(ways, strings.TrimSpace(w.Account+" "+w.Kind))
		if w.Command == "" {
			t.Errorf("what closes it? %+v", w)
		}
	}
	slices.Sort(ways)
	if want := []string{"alice password", "alice sudo", "authority", "breakglass password", "gone key", "old password", "team key", "team key", "toor password", "toor root"}; !slices.Equal(ways, want) {
		t.Errorf("ways %q\nwant %q", ways, want)
	}
	all, err := json.Marshal(d)
	ok(t, err)
	if strings.Contains(string(all), hash[:20]) || strings.Contains(string(all), "kZDVg") {
		t.Error("a hash of a password left the machine")
	}
	if !slices.Contains(strings.Fields(d.Scan.Settings["fact.setuid"]), "/var/tmp/rootkit") {
		t.Errorf("setuid %q", d.Scan.Settings["fact.setuid"])
	}
	if d.Scan.Score < 0 || d.Scan.Score > 95 || !slices.ContainsFunc(d.Posture.Faults, func(f discovery.Fault) bool { return f.ID == "ssh-passwords" && f.Mend != "" }) {
		t.Errorf("posture %+v", d.Posture)
	}
	target, err := h.db.Target(t.Context(), "db01")
	ok(t, err)
	if f := target.Facts["scan.score"]; f.Value != fmt.Sprint(d.Scan.Score) || f.By != "scan" {
		t.Errorf("facts %+v", target.Facts)
	}

	// Nothing has changed, and then much.
	if again := h.scan(); len(again.Changes) > 0 || len(again.Scan.Drift) > 0 {
		t.Errorf("nothing changed: %+v, %q", again.Changes, again.Scan.Drift)
	}
	h.machine.Do(`userdel -f old; groupadd -f docker; usermod -aG docker team; useradd -m intruder; usermod -p '' intruder; usermod -aG sudo intruder
		sed -i 's/PermitRootLogin yes/PermitRootLogin no/' ` + h.machine.Config)
	again := h.scan()
	var changes []string
	for _, c := range again.Changes {
		changes = append(changes, c.What+" "+c.Account)
	}
	slices.Sort(changes)
	if want := []string{"changed team", "gone old", "new intruder"}; !slices.Equal(changes, want) {
		t.Errorf("changes %q, want %q", changes, want)
	}
	if !slices.Contains(again.Scan.Drift, "sshd.permitrootlogin: yes -> no") {
		t.Errorf("drift %q", again.Scan.Drift)
	}
	if actions := h.actions(); !slices.Contains(actions, "account.grave done") {
		t.Errorf("events %q", actions)
	}
	list, _, err := h.FoundAccounts(t.Context(), h.as("admin"), broker.FoundFilter{Target: "db01"})
	if err != nil || slices.ContainsFunc(list, func(f access.FoundAccount) bool { return f.Name == "old" }) || list[0].Risk != 1 {
		t.Errorf("%v, %+v", err, list)
	}

	// They are taken over, several at once.
	owner := "alice"
	_, err = h.ManageFound(t.Context(), h.as("admin"), []string{"team@db01", "alice@db01"}, broker.Management{Owner: &owner, TakeOver: true})
	ok(t, err)
	target, err = h.db.Target(t.Context(), "db01")
	ok(t, err)
	if _, there := target.Account("team"); !there {
		t.Errorf("accounts %+v", target.Accounts)
	}
	for _, f := range h.scan().Found {
		if (f.Name == "team" || f.Name == "alice") && (f.Class != "managed" || f.OwnerName != "alice") {
			t.Errorf("%s is %s of %s", f.Name, f.Class, f.OwnerName)
		}
	}
}

func (h *house) actions() (list []string) {
	h.t.Helper()
	leaves, err := h.db.Leaves(h.t.Context(), store.LeafFilter{Limit: 1000})
	ok(h.t, err)
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		ok(h.t, err)
		list = append(list, e.Action+" "+string(e.Outcome))
	}
	return list
}

// Who may not have a target scanned is refused before anything is sent there.
func TestNotAsked(t *testing.T) {
	h := newHouse(t)
	if _, err := h.scanner.Scan(t.Context(), h.as("alice"), "db01", ""); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("alice: %v", err)
	}
	if _, err := h.scanner.Scan(t.Context(), h.as("admin"), "db01", "daemon"); !errors.Is(err, access.ErrInvalid) {
		t.Errorf("an account that is none of the target's: %v", err)
	}
	d, err := h.BeginDiscovery(t.Context(), h.as("admin"), "db01", "")
	ok(t, err)
	if _, err := h.scanner.Scan(t.Context(), h.as("admin"), "db01", ""); !errors.Is(err, access.ErrConflict) {
		t.Errorf("two at once: %v", err)
	}
	if _, err := h.DiscoveryCredential(t.Context(), d, 1, h.machine.HostKey); err == nil {
		t.Error("a certificate for elsewhere")
	}
	c, err := h.DiscoveryCredential(t.Context(), d, 0, h.machine.HostKey)
	if err != nil || len(c.ValidPrincipals) != 1 || c.ValidPrincipals[0] != "root@db01" || time.Unix(int64(c.ValidBefore), 0).After(time.Now().Add(61*time.Second)) {
		t.Errorf("%+v, %v", c, err)
	}
	if log := h.machine.Log(); strings.Contains(log, "Accepted") {
		t.Errorf("somebody was let in: %s", log)
	}
}

// A machine that says other things than a scan only fails, and that is on record.
func TestHostileMachine(t *testing.T) {
	h := newHouse(t)
	h.scan()
	before, _, err := h.FoundAccounts(t.Context(), h.as("admin"), broker.FoundFilter{})
	ok(t, err)
	for name, says := range map[string]string{
		"endless": strings.Repeat("x", discovery.MaxOutput), "broken off": "drawbolt\t1\nuid\t0\npasswd\troot\t0\t0\tset\t/\t/bin/sh\t\n", "nothing": "",
		"no root": "drawbolt\t1\nuid\t0\nend\tof the scan\n",
	} {
		liar, err := scan.New(scan.Config{Broker: h.Broker, Run: func(context.Context, broker.Discovery, string, []byte, int64) ([]byte, error) {
			return []byte(says), nil
		}})
		ok(t, err)
		if _, err := liar.Scan(t.Context(), h.as("admin"), "db01", ""); !errors.Is(err, access.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		p, err := h.Posture(t.Context(), h.as("admin"), "db01")
		if err != nil || p.Scan.Problem == "" || p.Scan.At.IsZero() {
			t.Errorf("%s: %+v, %v", name, p.Scan, err)
		}
	}
	after, _, err := h.FoundAccounts(t.Context(), h.as("admin"), broker.FoundFilter{})
	if err != nil || len(after) != len(before) {
		t.Errorf("%d accounts, and then %d: %v", len(before), len(after), err)
	}
}
