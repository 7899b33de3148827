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
		eventually(t, time.Minute, "the program has written all", func() bool {
			before := len(heard)
			heard, err = os.ReadFile(fmt.Sprintf("%s%d", got, round))
			return err == nil && len(heard) == before && before > 0
		})
		if !aborted || !strings.HasPrefix(input, string(heard)) {
			t.Errorf("round %d: %d bytes were received, %d are on record, aborted %t", round, len(heard), len(input), aborted)
		}
	}
}

// TestSealCrashPoints kills the server at the first, second, third, ... step of
// sealing a recording, whose header goes into the database, its rest into the
// folder and whose journal goes away then. Afterwards it is there and whole, each time.
func TestSealCrashPoints(t *testing.T) {
	x := newSite(t, "", "", 20)
	data := filepath.Join(x.dir, "data")
	file := filepath.Join(data, "drawbolt.db")
	survived, rounds := false, 0
	for n := 1; !survived && rounds < 14; n += 1 + n/3 {
		rounds++
		sh, r := x.open(accounts(20)[rounds], time.Hour)
		_, err := fmt.Fprintf(sh.in, "evidence %d\r", rounds)
		must(t, err)
		eventually(t, time.Minute, "it is heard", func() bool {
			data, _ := x.heardBy(r).get()
			return strings.Contains(data, "evidence")
		})
		l, err := x.carol.Sessions(t.Context(), api.SessionFilter{Limit: 1})
		must(t, err)
		id := l.Items[0].ID
		object, journal := filepath.Join(data, "recordings", id+".cast.zst.age"), filepath.Join(data, "journals", id)
		stop := x.inject("pwrite64,fsync,fdatasync,write,linkat,unlinkat", fmt.Sprintf("signal=KILL:when=%d", n),
			file, file+"-wal", filepath.Dir(object), object, filepath.Dir(journal), journal+".journal", journal+".sealed")
		sh.client.Close()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && !survived; time.Sleep(20 * time.Millisecond) {
			s, err := x.carol.FindSession(t.Context(), id)
			if err != nil && api.AsProblem(err) == nil {
				break // it is dead
			}
			_, gone := os.Stat(journal + ".journal")
			survived = err == nil && s.Recording != nil && gone != nil
		}
		stop()
		x.kill()
		x.start()
		typed, _, err := x.recorded(x.carol, id, x.hidden([]string{id})[id])
		if err != nil || !strings.Contains(typed, fmt.Sprintf("evidence %d", rounds)) {
			t.Errorf("killed at %d: %v, %q is on record", n, err, typed)
		}
		if left, _ := filepath.Glob(journal + "*"); len(left) > 0 {
			t.Errorf("killed at %d: left %q", n, left)
		}
	}
	if !survived || rounds < 6 {
		t.Errorf("%d rounds, and the last one went through: %t; the points of this test are wrong", rounds, survived)
	}
	x.sound(nil)
	t.Logf("%d crashes", rounds-1)
}
