//go:build linux

package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/web/api"
)

// TestCrashPoints kills the server at the first, second, third, ... write or
// sync of its database, with growing steps, while a request is filed, approved
// and revoked, until one such life is over before the kill.
func TestCrashPoints(t *testing.T) {
	x := newSite(t, "", "", 60)
	file := filepath.Join(x.dir, "data", "drawbolt.db")
	var acknowledged []string
	survived, rounds := 0, 0
	for n := 1; survived == 0 && rounds < 25; n += 1 + n/4 {
		rounds++
		stop := x.inject("pwrite64,fsync,fdatasync", fmt.Sprintf("signal=KILL:when=%d", n), file, file+"-wal")
		steps, id, digest := 0, "", ""
		for _, step := range []func() error{
			func() error {
				r, err := x.alice.Request(t.Context(), api.RequestInput{Target: "db01", Account: accounts(60)[rounds], DurationSeconds: 600, Reason: canary("reason")})
				id, digest = r.ID, r.Digest
				return err
			},
			func() error {
				_, err := x.bob.Approve(t.Context(), id, api.ApproveInput{Digest: digest})
				return err
			},
			func() error { _, err := x.bob.Revoke(t.Context(), id, "enough"); return err },
		} {
			if step() != nil {
				break
			}
			steps++
		}
		stop()
		if steps > 0 {
			acknowledged = append(acknowledged, id)
		}
		if steps == 3 {
			survived++
		}
		x.kill()
		x.start()
		if steps == 0 {
			continue // whether it is stored cannot be told; sound compares it with its event
		}
		now, err := x.carol.FindRequest(t.Context(), id)
		must(t, err)
		if steps >= 2 && (now.State != api.Approved || len(now.Approvals) != 1) || steps >= 3 && now.Grant.EndReason != api.Revoked {
			t.Errorf("killed at %d after %d steps: %+v", n, steps, now)
		}
	}
	if survived == 0 || len(acknowledged) < 2 || rounds < 8 {
		t.Errorf("%d requests were acknowledged, %d rounds went through: the points of this test are wrong", len(acknowledged), survived)
	}
	x.sound(acknowledged)
	t.Logf("%d crashes, %d requests were acknowledged", rounds, len(acknowledged))
}

// TestKillWithOpenSSH kills the server while somebody types into a real sshd:
// what the program there has received is on record.
func TestKillWithOpenSSH(t *testing.T) {
	x := newSite(t, "", "", 1)
	sshd := servers.NewSSHD(t, servers.Config{UserCA: []ssh.PublicKey{x.userAuthority()}})
	must(t, sshd.Allow(sshd.User, sshd.User+"@web01"))
	x.addTarget("web01", sshd.Addr, sshd.HostKey, sshd.User)
	r, err := grant(t.Context(), x.alice, x.bob, sshd.User, "web01", time.Hour)
	must(t, err)
	got := filepath.Join(sshd.Home, "got")
	if sshd.Home == "" {
		got = filepath.Join(t.TempDir(), "got")
	}
	for round := range 5 {
		client, err := x.dial(x.alice, sshd.User+"+web01", "")
		must(t, err)
		session, err := client.NewSession()
		must(t, err)
		in, err := session.StdinPipe()
		must(t, err)
		must(t, session.Start(fmt.Sprintf("cat > %s%d", got, round)))
		sh := &shell{client: client, in: in, done: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		go typeOn(ctx, sh, time.Millisecond)
		time.Sleep(time.Duration(100+round*37) * time.Millisecond)
		x.kill()
		cancel()
		client.Close()
		x.start()
	}
	l, err := x.carol.Sessions(t.Context(), api.SessionFilter{Target: "web01"})
	must(t, err)
	if len(l.Items) != 5 || r.State != api.Approved {
		t.Fatalf("%d sessions", len(l.Items))
	}
	for round := range 5 {
		s := l.Items[4-round] // the newest is the first
		input, aborted, err := x.recorded(x.carol, s.ID, x.hidden([]string{s.ID})[s.ID])
		must(t, err)
		var heard []byte
		eventually(t, 10*time.Second, "the program has written all", func() bool {
			before := len(heard)
			heard, err = os.ReadFile(fmt.Sprintf("%s%d", got, round))
			return err == nil && len(heard) == before && before > 0
		})
		if !aborted || !strings.HasPrefix(input, string(heard)) {
			t.Errorf("round %d: %d bytes were received, %d are on record, aborted %t", round, len(heard), len(input), aborted)
		}
	}
}
