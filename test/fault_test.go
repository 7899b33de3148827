//go:build linux

package test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/web/api"
)

// A site is a running server with an engineer, an approver, an auditor and a
// target with n accounts.
type site struct {
	*server
	alice, bob, carol *person
	target            *target
}

func newSite(t testing.TB, database, more string, n int) *site {
	t.Helper()
	return people(install(t, database, more), n)
}

func people(s *server, n int) *site {
	s.t.Helper()
	x := &site{server: s, alice: s.person("alice", "engineers"), bob: s.person("bob", "approvers"), carol: s.person("carol", "auditors")}
	x.target = newTarget(s.t, "db01", s.userAuthority())
	s.addTarget("db01", x.target.addr(), x.target.key.PublicKey(), accounts(n)...)
	return x
}

// open opens a session of alice's under a grant of its own.
func (x *site) open(account string, d time.Duration) (*shell, api.Request) {
	x.t.Helper()
	r, err := grant(context.Background(), x.alice, x.bob, account, "db01", d)
	must(x.t, err)
	sh, err := x.shell(x.alice, account, "db01")
	must(x.t, err)
	x.t.Cleanup(func() { sh.client.Close() })
	return sh, r
}

// heardBy finds what the target heard in the session under a request.
func (x *site) heardBy(r api.Request) *heard {
	for _, h := range x.target.sessions() {
		if strings.Contains(h.keyID, " "+r.Grant.ID+" ") {
			return h
		}
	}
	return &heard{}
}

// typeOn types until the session is over or ctx ends.
func typeOn(ctx context.Context, sh *shell, every time.Duration) {
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(sh.in, "%07d\r", i); err != nil {
			return
		}
		select {
		case <-sh.done:
			return
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// change tries one change and says whether the server answered that it did it.
// Any answer but 503 to a change that fails is an error.
func (x *site) change(account string) (id string, done bool) {
	x.t.Helper()
	r, err := x.alice.Request(context.Background(), api.RequestInput{Target: "db01", Account: account, DurationSeconds: 600, Reason: canary("reason")})
	if err == nil {
		return r.ID, true
	}
	if p := api.AsProblem(err); p == nil || p.Status != http.StatusServiceUnavailable {
		x.t.Errorf("a change that cannot be saved: %v (%+v)", err, p)
	}
	return "", false
}

// sound checks that each request has its event and each event its request, and
// that each byte the target heard is on record.
func (x *site) sound(acknowledged []string) {
	x.t.Helper()
	created := map[string]int{}
	for _, e := range x.exported(x.carol) {
		if e.Action == "request.create" && e.Outcome == audit.Done {
			created[e.Request]++
		}
	}
	page, err := x.carol.Requests(context.Background(), api.RequestFilter{Limit: api.MaxPage})
	must(x.t, err)
	stored := map[string]bool{}
	for _, r := range page.Items {
		stored[r.ID] = true
		if created[r.ID] != 1 {
			x.t.Errorf("%s is stored with %d events of its creation", r.ID, created[r.ID])
		}
	}
	for id := range created {
		if !stored[id] {
			x.t.Errorf("%s has an event and is not stored", id)
		}
	}
	for _, id := range acknowledged {
		if !stored[id] {
			x.t.Errorf("%s was acknowledged and is not stored", id)
		}
	}
	for _, h := range x.target.sessions() {
		got, _ := h.get()
		input, _, err := x.recorded(x.carol, h.session, x.hidden([]string{h.session})[h.session])
		if err != nil || !strings.HasPrefix(input, got) {
			x.t.Errorf("%s: %d bytes were heard, %d recorded, %v", h.session, len(got), len(input), err)
		}
	}
}

// inject makes something happen at system calls of the server on these files,
// such as error=EIO, until the returned function is called.
func (x *server) inject(calls, what string, files ...string) (stop func()) {
	x.t.Helper()
	args := []string{"-f", "-p", strconv.Itoa(x.pid()), "-o", "/dev/null", "-e", "trace=" + calls, "-e", "inject=" + calls + ":" + what}
	for _, f := range files {
		args = append(args, "-P", f)
	}
	cmd := exec.Command("strace", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	stderr, err := cmd.StderrPipe()
	must(x.t, err)
	must(x.t, cmd.Start())
	attached := make(chan string, 1)
	go func() {
		lines := bufio.NewReader(stderr)
		for {
			line, err := lines.ReadString('\n')
			if err != nil || strings.Contains(line, "attached") || strings.Contains(line, "Operation not permitted") {
				attached <- line
				break
			}
		}
		_, _ = io.Copy(io.Discard, lines)
	}()
	if line := <-attached; !strings.Contains(line, "attached") {
		x.t.Fatalf("strace could not attach: %s", line)
	}
	return sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // it detaches
		// When the server was killed meanwhile, it may wait for a thread for ever.
		late := time.AfterFunc(time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait()
	})
}

// TestDatabaseFails lets writes and syncs of the database fail. No change
// succeeds without its event, who asks gets 503, and all works afterwards.
func TestDatabaseFails(t *testing.T) {
	x := newSite(t, "", "", 60)
	file := filepath.Join(x.dir, "data", "drawbolt.db")
	n := 0
	var acknowledged []string
	try := func() bool {
		id, ok := x.change(accounts(60)[n])
		if n++; ok {
			acknowledged = append(acknowledged, id)
		}
		return ok
	}
	if !try() {
		t.Fatal("nothing works")
	}
	for _, f := range []struct{ calls, failure string }{
		{"pwrite64,write", "ENOSPC"}, {"pwrite64,write", "EIO"}, {"fsync,fdatasync", "EIO"},
	} {
		stop := x.inject(f.calls, "error="+f.failure, file, file+"-wal")
		for range 4 {
			if try() {
				t.Errorf("a change succeeded although %s failed with %s", f.calls, f.failure)
			}
		}
		if _, err := grant(t.Context(), x.alice, x.bob, accounts(60)[n], "db01", time.Minute); err == nil {
			t.Error("a grant was given")
		}
		stop()
		eventually(t, time.Minute, "changes work again", try)
	}
	x.sound(acknowledged)
	x.kill()
	x.start()
	x.sound(acknowledged)
}

// TestJournalFails lets the journals of running sessions fail: they end, and
// the target has heard nothing that is not on record.
func TestJournalFails(t *testing.T) {
	x := newSite(t, "", "", 10)
	for i, f := range []struct{ calls, failure string }{{"write", "ENOSPC"}, {"write", "EIO"}, {"fsync,fdatasync", "EIO"}} {
		var shells []*shell
		ctx, cancel := context.WithCancel(t.Context())
		for j := range 3 {
			sh, _ := x.open(accounts(10)[i*3+j], time.Hour)
			shells = append(shells, sh)
			go typeOn(ctx, sh, 5*time.Millisecond)
		}
		journals, err := filepath.Glob(filepath.Join(x.dir, "data", "journals", "*"))
		must(t, err)
		time.Sleep(100 * time.Millisecond)
		stop := x.inject(f.calls, "error="+f.failure, journals...)
		began := time.Now()
		for _, sh := range shells {
			select {
			case <-sh.done:
			case <-time.After(time.Minute):
				t.Errorf("a session goes on although %s of its journal fails with %s", f.calls, f.failure)
			}
		}
		t.Logf("%s %s: all ended after %v", f.calls, f.failure, time.Since(began).Round(time.Millisecond))
		stop()
		cancel()
	}
	eventually(t, time.Minute, "all sessions are closed", func() bool {
		l, err := x.carol.Sessions(t.Context(), api.SessionFilter{Live: true})
		return err == nil && len(l.Items) == 0
	})
	x.kill() // what could not be sealed while the disk failed is sealed at the next start
	x.start()
	x.sound(nil)
}

// TestDiskFull fills the disk under a server with running sessions.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "drawbolt-test", dir).CombinedOutput(); err != nil {
		t.Fatalf("a full disk needs a file system of its own, which only root mounts: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	x := people(installIn(t, dir, "", ""), 30)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var shells []*shell
	for i := range 10 {
		sh, _ := x.open(accounts(30)[i], time.Hour)
		shells = append(shells, sh)
		go typeOn(ctx, sh, 5*time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	must(t, err)
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	f.Close()
	began := time.Now()
	for _, sh := range shells {
		select {
		case <-sh.done:
		case <-time.After(time.Minute):
			t.Fatal("a session goes on although the disk is full")
		}
	}
	t.Logf("the sessions ended %v after the disk was full", time.Since(began).Round(time.Millisecond))
	full := 0
	for i := range 5 {
		if _, ok := x.change(accounts(30)[10+i]); !ok {
			full++
		}
	}
	if sh, err := x.shell(x.alice, accounts(30)[0], "db01"); err == nil {
		sh.client.Close()
		t.Error("a session was opened on a full disk")
	}
	if !x.alive() {
		t.Fatal("the server has ended")
	}
	must(t, os.Remove(filler))
	began = time.Now()
	eventually(t, time.Minute, "a new session", func() bool {
		sh, err := x.shell(x.alice, accounts(30)[0], "db01")
		if err != nil {
			return false
		}
		sh.client.Close()
		return true
	})
	t.Logf("%d of 5 changes were refused; all worked again %v after there was space", full, time.Since(began).Round(time.Millisecond))
	x.kill()
	x.start()
	x.sound(nil)
	x.stop()
	db, err := sql.Open("sqlite", filepath.Join(dir, "data", "drawbolt.db"))
	must(t, err)
	defer db.Close()
	var verdict string
	must(t, db.QueryRow("PRAGMA integrity_check").Scan(&verdict))
	if verdict != "ok" {
		t.Errorf("the database: %s", verdict)
	}
}

// TestCrowdedDisk takes room away from fifty running sessions: none starts below
// the floor, all end below its half, the database stays whole, and everything goes
// on at once when there is room.
func TestCrowdedDisk(t *testing.T) {
	const n, mib = 50, 1 << 20
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "drawbolt-test", dir).CombinedOutput(); err != nil {
		t.Fatalf("a full disk needs a file system of its own, which only root mounts: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	t.Setenv("DRAWBOLT_RECORDINGS_MIN_FREE", "12MiB")
	t.Setenv("DRAWBOLT_SSH_SESSIONS_PER_PERSON_AND_TARGET", "200")
	x := people(installIn(t, dir, "", ""), n+1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var shells []*shell
	for i := range n {
		sh, _ := x.open(accounts(n)[i], time.Hour)
		shells = append(shells, sh)
		go typeOn(ctx, sh, 20*time.Millisecond)
	}
	_, err := grant(t.Context(), x.alice, x.bob, accounts(n + 1)[n], "db01", time.Hour)
	must(t, err)
	ballast := filepath.Join(dir, "ballast")
	leave := func(free int64) {
		t.Helper()
		_ = os.Remove(ballast)
		var st syscall.Statfs_t
		must(t, syscall.Statfs(dir, &st))
		f, err := os.Create(ballast)
		must(t, err)
		defer f.Close()
		must(t, syscall.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-free))
	}
	running := func() (live int) {
		for _, sh := range shells {
			select {
			case <-sh.done:
			default:
				live++
			}
		}
		return live
	}
	another := func() error {
		sh, err := x.shell(x.alice, accounts(n + 1)[n], "db01")
		if err == nil {
			sh.client.Close()
		}
		return err
	}
	leave(10 * mib)
	if err := another(); err == nil {
		t.Error("a session started below the floor")
	}
	if live := running(); live != n {
		t.Errorf("%d of %d go on below the floor", live, n)
	}
	leave(5 * mib)
	began := time.Now()
	eventually(t, time.Minute, "all sessions end below half of the floor", func() bool { return running() == 0 })
	t.Logf("%d sessions ended within %v", n, time.Since(began).Round(time.Millisecond))
	// They are sealed: there was room for that.
	eventually(t, time.Minute, "all sessions are closed", func() bool {
		l, err := x.carol.Sessions(t.Context(), api.SessionFilter{Live: true})
		return err == nil && len(l.Items) == 0
	})
	sealed := 0
	for _, e := range x.exported(x.carol) {
		if e.Action == "session.close" && e.Details["recording_sha256"] != "" {
			sealed++
		}
	}
	if sealed != n {
		t.Errorf("%d of %d were sealed", sealed, n)
	}
	leave(0)
	if err := another(); err == nil {
		t.Error("a session started on a full disk")
	}
	must(t, os.Remove(ballast))
	began = time.Now()
	eventually(t, time.Minute, "a new session", func() bool { return another() == nil })
	t.Logf("a session started %v after there was room", time.Since(began).Round(time.Millisecond))
	if !x.alive() {
		t.Fatal("the server has ended")
	}
	x.stop()
	log, err := os.ReadFile(x.log)
	must(t, err)
	if strings.Contains(string(log), "panic") {
		t.Error("there was a panic")
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "data", "drawbolt.db"))
	must(t, err)
	defer db.Close()
	var verdict string
	must(t, db.QueryRow("PRAGMA integrity_check").Scan(&verdict))
	if verdict != "ok" {
		t.Errorf("the database: %s", verdict)
	}
}

// TestRevocationLatency measures how long bytes still reach a target after a
// revocation was asked for: on this server, and, with two servers on one
// database, on the other one.
func TestRevocationLatency(t *testing.T) {
	t.Run("one server", func(t *testing.T) {
		x := newSite(t, "", "", 50)
		latency(t, x, x.server, 50)
	})
	t.Run("two servers", func(t *testing.T) {
		a := newSite(t, servers.Postgres(t), "", 30)
		b := prepare(t, t.TempDir(), a.database, "vault: {master_key: "+strconv.Quote("file:"+filepath.Join(a.dir, "data", "master.key"))+"}\n")
		b.start()
		latency(t, a, b, 30)
	})
}

// latency opens sessions at one server and revokes their grants at a's.
func latency(t *testing.T, a *site, b *server, n int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var requests []api.Request
	for _, account := range accounts(n) {
		r, err := grant(ctx, a.alice, a.bob, account, "db01", time.Hour)
		must(t, err)
		sh, err := b.shell(a.alice, account, "db01")
		must(t, err)
		defer sh.client.Close()
		requests = append(requests, r)
		go typeOn(ctx, sh, 20*time.Millisecond)
	}
	slow, stop := sluggish()
	defer stop()
	asked := make([]time.Time, n)
	for i, r := range requests {
		eventually(t, time.Minute, "the target hears the session", func() bool { s, _ := a.heardBy(r).get(); return s != "" })
		asked[i] = time.Now()
		_, err := a.bob.Revoke(ctx, r.ID, "enough")
		must(t, err)
	}
	time.Sleep(1500 * time.Millisecond)
	var late []time.Duration
	for i, r := range requests {
		_, last := a.heardBy(r).get()
		late = append(late, last.Sub(asked[i]))
	}
	slices.Sort(late)
	p50, p99 := late[n/2], late[n*99/100]
	t.Logf("bytes stop after a revocation: p50 %v, p99 %v", p50, p99)
	if p99 > time.Second+5*slow() {
		t.Errorf("p99 is %v", p99)
	}
}

// TestStopped stops the process over a deadline, as a paused machine would be.
func TestStopped(t *testing.T) {
	x := newSite(t, "", "", 5)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var shells []*shell
	var requests []api.Request
	for _, account := range accounts(5) {
		sh, r := x.open(account, 4*time.Second)
		shells, requests = append(shells, sh), append(requests, r)
		go typeOn(ctx, sh, time.Millisecond)
	}
	var first, end time.Time
	for i, r := range requests {
		r, err := x.alice.FindRequest(ctx, r.ID)
		must(t, err)
		requests[i] = r
		if first.IsZero() || r.Grant.End.Before(first) {
			first = r.Grant.End
		}
		if r.Grant.End.After(end) {
			end = r.Grant.End
		}
	}
	time.Sleep(time.Until(first) - 300*time.Millisecond)
	must(t, syscall.Kill(x.pid(), syscall.SIGSTOP))
	time.Sleep(time.Until(end) + time.Second)
	must(t, syscall.Kill(x.pid(), syscall.SIGCONT))
	for i, sh := range shells {
		select {
		case <-sh.done:
		case <-time.After(time.Minute):
			t.Error("a session goes on after its deadline")
		}
		got, last := x.heardBy(requests[i]).get()
		if got == "" || last.After(requests[i].Grant.End) {
			t.Errorf("the deadline was %v, the last of %d bytes came at %v", requests[i].Grant.End, len(got), last)
		}
	}
}
