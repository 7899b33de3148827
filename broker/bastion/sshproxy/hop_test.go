package sshproxy

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

// addWay enrols targets of which each is reached via those before it.
func (h *house) addWay(names []string, servers []sshd) {
	h.t.Helper()
	for i, name := range names {
		target := access.Target{ID: access.NewID(access.TargetPrefix), Name: name, Address: servers[i].addr, CreatedAt: time.Now(), Version: 1,
			Accounts: []access.Account{{Name: me(h.t), Credential: access.CredentialCertificate}},
			HostKeys: []string{strings.TrimSpace(string(gossh.MarshalAuthorizedKey(servers[i].key)))},
			Via:      names[:i]}
		if i < len(names)-1 {
			target.HopAccount = me(h.t)
			target.Accounts = nil // the hop's account is nobody's to ask for
		}
		h.change(func(tx *store.Tx) error { return tx.AddTarget(context.Background(), &target) })
	}
}

// lock locks a target behind the broker's verb, with the event of the verb.
func (h *house) lock(name string) {
	h.t.Helper()
	ctx := context.Background()
	check(h.t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		target, err := tx.Target(ctx, name)
		if err != nil {
			return audit.Event{}, err
		}
		target.Locked, target.LockReason = true, "INC-9"
		return audit.Event{Actor: "system", ActorName: "system", Action: "target.lock", Object: target.ID}, tx.SaveTarget(ctx, &target)
	}))
}

// via returns the way that a session's recording names.
func (h *house) via(s access.Session) string {
	h.t.Helper()
	f := must(h.sealed.Open(context.Background(), s.Recording.Name))(h.t)
	defer f.Close()
	r := must(cast.NewReader(must(recorder.OpenSealed(f, f.Size(), h.auditor))(h.t)))(h.t)
	return r.Header().Fields["via"]
}

func TestVia(t *testing.T) {
	h := newHouse(t)
	names := []string{"jump01", "jump02", "db01"}
	var servers []sshd
	for _, name := range names {
		servers = append(servers, h.startSSHD(name))
	}
	h.addWay(names, servers)
	h.grant("alice", "db01", time.Hour)
	out, errs, code := play(t, h.ssh("alice", me(t)+"@db01", "echo out; echo err >&2; exit 7"))
	if out != "out\n" || errs != "err\n" || code != 7 {
		t.Fatalf("got %q, %q and exit %d", out, errs, code)
	}
	s := h.closed(1)[0]
	if got := h.recording(s, recorder.Output); got != "out\n" {
		t.Errorf("recorded %q", got)
	}
	if got := h.via(s); got != "jump01,jump02" {
		t.Errorf("the recording says it went via %q", got)
	}
	// Each hop let in a certificate for the hop alone, and ran nothing.
	for i, server := range servers[:2] {
		log := string(must(os.ReadFile(server.log))(t))
		if !strings.Contains(log, "Accepted publickey for "+me(t)) || strings.Contains(log, "Starting session") || strings.Contains(log, "pty") {
			t.Errorf("the log of %s:\n%s", names[i], log)
		}
	}
	last := must(h.db.Certificate(context.Background(), s.Serial))(t)
	if last.Target != "db01" {
		t.Errorf("the session's serial is of a certificate for %q", last.Target)
	}

	// Nobody may ask for the account on the hop.
	if _, err := h.broker.Request(context.Background(), h.people["alice"].caller, broker.Ask{Target: "jump01", Account: me(t), Reason: "INC-1 hop", Duration: time.Hour}); err == nil {
		t.Error("the hop's account could be asked for")
	}

	// A hop that is locked cuts the sessions through it, and lets no other pass.
	out2, wait := background(t, h.ssh("alice", me(t)+"@db01", "echo ready >&2; sleep 60"))
	eventually(t, "the session", func() bool { return out2.has("ready") })
	h.lock("jump02")
	if wait() == nil {
		t.Error("the session through a locked hop went on")
	}
	_, errs, code = play(t, h.ssh("alice", me(t)+"@db01", "echo out"))
	if code == 0 || !strings.Contains(errs, "via jump02, which is locked") {
		t.Errorf("through a locked hop: %q, exit %d", errs, code)
	}
}

// A machine that answers at a hop's address does not see a credential, and the
// one behind it does not see a connection.
func TestViaHostKeyOfHop(t *testing.T) {
	h := newHouse(t)
	names := []string{"jump01", "jump02", "db01"}
	var servers []sshd
	for _, name := range names {
		servers = append(servers, h.startSSHD(name))
	}
	evil := servers[1]
	servers[1].key = newSigner(t).PublicKey() // what is pinned is another key
	h.addWay(names, servers)
	h.grant("alice", "db01", time.Hour)
	out, errs, code := play(t, h.ssh("alice", me(t)+"@db01", "echo in"))
	if code == 0 || out != "" || !strings.Contains(errs, "jump02 does not show the host key") {
		t.Errorf("got %q, %q and exit %d", out, errs, code)
	}
	h.wantRefusal("jump02 does not show the host key")
	for _, s := range []sshd{evil, servers[2]} {
		if log := string(must(os.ReadFile(s.log))(t)); strings.Contains(log, "Accepted") || strings.Contains(log, "userauth-request") {
			t.Errorf("it was shown something:\n%s", log)
		}
	}
}

// A hop that does not forward tells the user nothing of the network.
func TestViaRefusingHop(t *testing.T) {
	h := newHouse(t)
	servers := []sshd{h.startSSHD("jump01", "AllowTcpForwarding no"), h.startSSHD("db01")}
	h.addWay([]string{"jump01", "db01"}, servers)
	h.grant("alice", "db01", time.Hour)
	if _, errs, code := play(t, h.ssh("alice", me(t)+"@db01", "echo in")); code == 0 || !strings.Contains(errs, "db01 did not let the session in") {
		t.Errorf("a hop that does not forward: %q, exit %d", errs, code)
	}
	for _, text := range []string{"", "db01", "db01:port", "db01:65536", "db01:-1"} {
		if _, err := forwardTo(text); err == nil {
			t.Errorf("%q is an address", text)
		}
	}
}

// A hop that takes the connection and says nothing holds nobody up for longer
// than a dial may take.
func TestViaSilentHop(t *testing.T) {
	h := newHouse(t, func(o *options) { o.limits.Dial = 2 * time.Second })
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer ln.Close()
	silent := sshd{addr: ln.Addr().String(), key: newSigner(t).PublicKey()}
	h.addWay([]string{"jump01", "db01"}, []sshd{silent, silent})
	h.grant("alice", "db01", time.Hour)
	if _, errs, code := play(t, h.ssh("alice", me(t)+"@db01", "echo in")); code == 0 || !strings.Contains(errs, "jump01 did not let the session in") {
		t.Errorf("a silent hop: %q, exit %d", errs, code)
	}
}
