package sshproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// probe has bob, who may change targets, begin a check.
func (h *house) probe(target string) broker.Probe {
	h.t.Helper()
	ctx := context.Background()
	h.change(func(tx *store.Tx) error {
		err := tx.AddRole(ctx, &access.Role{Name: "keepers", Users: []string{h.people["bob"].ID}, Version: 1, Rules: []access.Rule{{ID: "keep", Actions: []string{"target.write"}}}})
		if errors.Is(err, access.ErrConflict) {
			return nil
		}
		return err
	})
	return must(h.broker.BeginCheck(ctx, h.people["bob"].caller, target, ""))(h.t)
}

// checked checks a target, and returns how each step ended.
func (h *house) checked(ctx context.Context, target string) []access.CheckStep {
	h.t.Helper()
	steps := Machines{Broker: h.broker}.Check(ctx, h.probe(target))
	for _, s := range steps {
		if strings.ContainsFunc(s.Detail+s.Next, unicode.IsControl) || s.Detail == "" || s.Target == "" {
			h.t.Errorf("a step says %q, %q", s.Detail, s.Next)
		}
	}
	return steps
}

func states(steps []access.CheckStep) string {
	var list []string
	for _, s := range steps {
		list = append(list, s.Step+"="+string(s.State))
	}
	return strings.Join(list, " ")
}

func TestCheckByHostCertificate(t *testing.T) {
	h := newHouse(t)
	good := h.startSSHD("good", "HostCertificate "+h.dir+"/sshd-good/host-cert.pub")
	h.addTarget("good", good.addr)
	h.addTarget("other", good.addr) // whose certificate is for another name
	plain := h.startSSHD("plain")
	h.addTarget("plain", plain.addr)
	steps := h.checked(t.Context(), "good")
	if got, want := states(steps), "name=ok port=ok version=ok host-key=ok login=ok authority=ok clock=unknown revocations=unknown"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if !strings.Contains(steps[3].Detail, "certified by our host authority until") || !strings.Contains(steps[4].Detail, " by ") {
		t.Errorf("%q, %q", steps[3].Detail, steps[4].Detail)
	}
	for _, name := range []string{"other", "plain"} {
		steps := h.checked(t.Context(), name)
		if got, want := states(steps), "name=ok port=ok version=ok host-key=failed"; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if key := strings.TrimSpace(string(gossh.MarshalAuthorizedKey(good.key))); name == "other" && !strings.Contains(steps[3].Next, "'"+key+"'") {
			t.Errorf("it says %q, and the key is %s", steps[3].Next, key)
		}
	}
}

// TestCheckHostileTarget: whatever answers, a check ends in time, says that, and
// shows nothing that acts on a terminal. No credential is made for it.
func TestCheckHostileTarget(t *testing.T) {
	for _, c := range []struct {
		name string
		talk func(net.Conn)
		want string
	}{
		{"closes at once", func(net.Conn) {}, "does not speak SSH"},
		{"says nothing", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "does not speak SSH"},
		{"speaks HTTP", func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "HTTP/1.1 400"},
		{"a line without an end", func(c net.Conn) {
			for line := strings.Repeat("A", 32<<10); ; {
				if _, err := io.WriteString(c, line); err != nil {
					return
				}
			}
		}, "AAAA"},
		{"acts on terminals", func(c net.Conn) {
			_, _ = io.WriteString(c, "SSH-2.0-\x1b[2J\x1b]0;owned\a\u202e\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, "SSH-2.0-?[2J"},
		{"an old protocol", func(c net.Conn) { _, _ = io.WriteString(c, "SSH-1.5-ancient\r\n") }, "SSH-1.5-ancient"},
		{"rubbish after its version", func(c net.Conn) {
			_, _ = io.WriteString(c, "SSH-2.0-x\r\n"+strings.Repeat("\xff", 4096))
			_, _ = io.Copy(io.Discard, c)
		}, "SSH-2.0-x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					nc, err := l.Accept()
					if err != nil {
						return
					}
					c.talk(nc)
					nc.Close()
				}
			}()
			defer func() { l.Close(); <-done }()
			h.addTarget("evil", l.Addr().String(), newSigner(t).PublicKey())
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			began := time.Now()
			steps := h.checked(ctx, "evil")
			if got, want := states(steps), "name=ok port=ok version=failed"; got != want || !strings.Contains(steps[2].Detail, c.want) {
				t.Errorf("%s: %q, want %s", got, steps[2].Detail, want)
			}
			if d := time.Since(began); d > 20*time.Second {
				t.Errorf("it took %s", d)
			}
			if n := h.certificates(); n != 0 {
				t.Errorf("%d certificates were made for it", n)
			}
		})
	}
}

// TestCheckIsNotShutOut: at an sshd that refuses an address after some failed
// logins, a check stops before that: it is the address of all sessions.
func TestCheckIsNotShutOut(t *testing.T) {
	for version, want := range map[string]int{"SSH-2.0-OpenSSH_9.8": maxRefusals, "SSH-2.0-OpenSSH_10.1p1": maxRefusals, "SSH-2.0-OpenSSH_9.2p1": 5, "SSH-2.0-x": 5} {
		t.Run(version, func(t *testing.T) {
			h := newHouse(t)
			signer := newSigner(t)
			var mu sync.Mutex
			tried := map[string]bool{}
			config := &gossh.ServerConfig{ServerVersion: version, PublicKeyCallback: func(c gossh.ConnMetadata, _ gossh.PublicKey) (*gossh.Permissions, error) {
				mu.Lock()
				defer mu.Unlock()
				tried[c.User()] = true
				return nil, errors.New("no")
			}}
			config.AddHostKey(signer)
			l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
			var all sync.WaitGroup
			all.Go(func() {
				for {
					nc, err := l.Accept()
					if err != nil {
						return
					}
					all.Go(func() {
						defer nc.Close()
						_, _, _, _ = gossh.NewServerConn(nc, config)
					})
				}
			})
			defer func() { l.Close(); all.Wait() }()
			target := h.addTarget("new", l.Addr().String(), signer.PublicKey())
			for _, name := range []string{"a", "b", "c", "d"} {
				target.Accounts = append(target.Accounts, access.Account{Name: name, Credential: access.CredentialCertificate})
			}
			h.change(func(tx *store.Tx) error { return tx.SaveTarget(context.Background(), &target) })
			steps := h.checked(t.Context(), "new")
			failed := 0
			for _, s := range steps {
				if s.Step == access.CheckLogin && s.State == access.CheckFailed {
					failed++
				}
			}
			if len(tried) != want || failed != want || !strings.Contains(states(steps), "authority=failed") {
				t.Errorf("%d were tried, %d failed, want %d: %s", len(tried), failed, want, states(steps))
			}
		})
	}
}

// certificates counts the user certificates that were issued.
func (h *house) certificates() (n int) {
	h.t.Helper()
	ctx := context.Background()
	for _, leaf := range must(h.db.Leaves(ctx, store.LeafFilter{To: must(h.db.AuditSize(ctx))(h.t), Limit: 1000}))(h.t) {
		if must(audit.Parse(leaf))(h.t).Action == "certificate.issue" {
			n++
		}
	}
	return n
}

// TestMachineSteps: what a target says of itself is read strictly, and what it
// does not say is unknown.
func TestMachineSteps(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	for _, c := range []struct{ name, said, want string }{
		{"all is well", "motd\ndrawbolt: clock=1800000001\ndrawbolt: root=yes\ndrawbolt: krl=there\ndrawbolt: krl_written=1799999950\ndrawbolt: krl_revoked=3\n", "provisioner=ok clock=ok revocations=ok"},
		{"nothing", "", "provisioner=failed clock=unknown revocations=unknown"},
		{"not root", "drawbolt: clock=1800000000\n", "provisioner=failed clock=ok revocations=unknown"},
		{"a tool is missing", "drawbolt: root=yes\ndrawbolt: missing=useradd\n", "provisioner=failed clock=unknown revocations=unknown"},
		{"a late clock", "drawbolt: root=yes\ndrawbolt: clock=1799999000\n", "provisioner=ok clock=failed revocations=unknown"},
		{"a clock of another age", "drawbolt: root=yes\ndrawbolt: clock=99999999999999999999\n", "provisioner=ok clock=unknown revocations=unknown"},
		{"no list", "drawbolt: root=yes\ndrawbolt: krl=none\n", "provisioner=ok clock=unknown revocations=failed"},
		{"a list that is gone", "drawbolt: root=yes\ndrawbolt: krl=missing\n", "provisioner=ok clock=unknown revocations=failed"},
		{"an old list", "drawbolt: clock=1800000000\ndrawbolt: root=yes\ndrawbolt: krl=there\ndrawbolt: krl_written=1799990000\n", "provisioner=ok clock=ok revocations=failed"},
		{"a list of no age", "drawbolt: clock=1800000000\ndrawbolt: root=yes\ndrawbolt: krl=there\n", "provisioner=ok clock=ok revocations=failed"},
		{"not our lines", "drawbolt: root=yes; rm\ndrawbolt:root=yes\n drawbolt: root=yes\ndrawbolt: krl=\x1b[2J\n", "provisioner=failed clock=unknown revocations=unknown"},
	} {
		steps := machineSteps(access.CheckStep{Step: access.CheckProvisioner, Target: "db01", Account: "ops"}, []byte(c.said), at, at.Add(time.Second))
		if got := states(steps); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// The script that a check runs is understood by what reads it, wherever it runs.
func TestReportScript(t *testing.T) {
	for _, shell := range []string{"/bin/sh", "/bin/bash"} {
		cmd := exec.Command(shell, "-s")
		cmd.Stdin = strings.NewReader(reportScript)
		before := time.Now()
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", shell, err)
		}
		steps := machineSteps(access.CheckStep{Target: "db01", Account: "ops"}, out, before, time.Now())
		if steps[1].State != access.CheckOK || !slices.Contains([]string{"ok", "failed"}, string(steps[0].State)) || !strings.Contains(string(out), "drawbolt: krl=") {
			t.Errorf("%s: %s\n%s", shell, states(steps), out)
		}
	}
}
