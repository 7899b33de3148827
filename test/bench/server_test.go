package bench

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy"
	"github.com/drawbolt/drawbolt/broker/brokertest"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/broker/store/storetest"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/test/servers"
)

// An inside is a broker and what is below it, in this process, with alice who
// may use one account of one target without anybody's approval.
type inside struct {
	*broker.Broker
	db     *store.DB
	signer note.Signer
	dir    string
	by     access.Caller
}

var quietLog = slog.New(slog.DiscardHandler)

func newInside(b testing.TB) *inside {
	b.Helper()
	ctx := b.Context()
	dir := b.TempDir()
	c := brokertest.Config(b, "bench", storetest.SQLite(b))
	in := &inside{db: c.Store, dir: dir, signer: c.Signer}
	in.Broker = must(broker.New(ctx, c))(b)
	alice := access.User{ID: access.NewID(access.UserPrefix), Name: "alice", CreatedAt: time.Now(), Version: 1}
	in.by = access.Caller{User: alice, Via: "bench"}
	in.change(b, func(tx *store.Tx) error {
		if err := tx.AddUser(ctx, &alice); err != nil {
			return err
		}
		return tx.AddRole(ctx, &access.Role{Name: "bench", Users: []string{alice.ID}, Version: 1, Rules: []access.Rule{{
			ID: "all", Actions: []string{"request"}, Accounts: []string{"*"}, MaxDuration: 8 * time.Hour,
			Session: access.SessionRules{Recording: "strict", Shell: true, Exec: true},
		}}})
	})
	return in
}

func (in *inside) change(b testing.TB, fn func(*store.Tx) error) {
	b.Helper()
	check(b, in.db.Change(b.Context(), func(tx *store.Tx) (audit.Event, error) {
		return audit.Event{Actor: "system", Action: "bench.furnish"}, fn(tx)
	}))
}

// grant adds a target with the account, and gives alice a grant on it.
func (in *inside) grant(b testing.TB, address, account string, hostKey ssh.PublicKey) *access.Grant {
	b.Helper()
	in.change(b, func(tx *store.Tx) error {
		return tx.AddTarget(b.Context(), &access.Target{
			ID: access.NewID(access.TargetPrefix), Name: bedTarget, Address: address, HostKeys: []string{authorized(hostKey)},
			Accounts: []access.Account{{Name: account, Credential: access.CredentialCertificate}}, CreatedAt: time.Now(), Version: 1,
		})
	})
	c := must(in.Request(b.Context(), in.by, broker.Ask{Target: bedTarget, Account: account, Reason: "INC-1 measure", Duration: 4 * time.Hour}))(b)
	if c.Grant == nil {
		b.Fatal("there is no grant")
	}
	return c.Grant
}

// BenchmarkCredential issues the certificate of a session: policy and grant
// asked, put on record with its event on the disk, signed.
func BenchmarkCredential(b *testing.B) {
	for _, workers := range []int{1, 16} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			in := newInside(b)
			key := newSigner(b).PublicKey()
			g := in.grant(b, "192.0.2.1:22", "root", key)
			var live []*broker.Live
			for range workers {
				l := must(in.Open(b.Context(), in.by, g.ID, broker.Opening{Kind: "shell", Client: "SSH-2.0-bench"}))(b)
				defer in.Close(b.Context(), l, broker.Closing{Reason: "exited"})
				live = append(live, l)
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for _, l := range live {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := in.Credential(b.Context(), l, key); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certificates/s")
		})
	}
}

// A relay is the bastion in this process, with a real target behind it.
type relay struct {
	config string // ssh_config with the hosts direct and db01
	dir    string
}

func newRelay(b testing.TB) *relay {
	b.Helper()
	in := newInside(b)
	target := servers.NewSSHD(b, servers.Config{UserCA: []ssh.PublicKey{in.Authorities().User}, Lines: []string{"LogLevel ERROR"}})
	check(b, target.Allow(target.User, target.User+"@"+bedTarget))
	in.grant(b, target.Addr, target.User, target.HostKey)

	block := must(aes.NewCipher(make([]byte, 32)))(b)
	rec := must(recorder.New(recorder.Config{
		Journals: filepath.Join(in.dir, "journals"), Sink: must(recorder.Directory(filepath.Join(in.dir, "sealed")))(b),
		Recipients: []age.Recipient{must(age.GenerateHybridIdentity())(b).Recipient()},
		Wrapper:    wrapper{must(cipher.NewGCMWithRandomNonce(block))(b)}, Signer: in.signer, Floor: 1,
	}))(b)
	hostKey := newSigner(b)
	server := must(sshproxy.New(sshproxy.Config{
		Broker: in.Broker, Bastion: must(bastion.New(bastion.Config{Broker: in.Broker, Recorder: rec, Log: quietLog}))(b), HostKey: hostKey, Log: quietLog,
	}))(b)
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(b)
	ctx, cancel := context.WithCancel(context.Background())
	behind, end := context.WithCancel(context.Background())
	var front, rest sync.WaitGroup
	front.Go(func() { _ = server.Serve(ctx, ln) })
	rest.Go(func() { _ = in.Run(behind) })
	rest.Go(func() { _ = rec.Run(behind) })
	b.Cleanup(func() { cancel(); front.Wait(); end(); rest.Wait() })

	_, private, err := ed25519.GenerateKey(rand.Reader)
	check(b, err)
	key := must(ssh.NewSignerFromKey(private))(b).PublicKey()
	in.change(b, func(tx *store.Tx) error {
		return tx.AddPublicKey(b.Context(), &access.PublicKey{UserID: in.by.User.ID, Fingerprint: ssh.FingerprintSHA256(key), Key: authorized(key), CreatedAt: time.Now()})
	})
	r := &relay{dir: in.dir, config: filepath.Join(in.dir, "ssh_config")}
	id, known := filepath.Join(in.dir, "id"), filepath.Join(in.dir, "known_hosts")
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	check(b, os.WriteFile(id, pem.EncodeToMemory(must(ssh.MarshalPrivateKey(private, ""))(b)), 0o600))
	check(b, os.WriteFile(known, fmt.Appendf(nil, "[%s]:%s %s\n@cert-authority * %s\n", host, port, authorized(hostKey.PublicKey()), authorized(in.Authorities().Host)), 0o600))
	check(b, os.WriteFile(r.config, fmt.Appendf(nil, `Host direct
    HostName %[1]s
    Port %[2]s
    User %[3]s+%[4]s
Host gateway
    HostName %[1]s
    Port %[2]s
    User alice
Host %[4]s
    User %[3]s
    ProxyJump gateway
Host *
    IdentityFile %[5]s
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile %[6]s
    BatchMode yes
    LogLevel ERROR
`, host, port, target.User, bedTarget, id, known), 0o600))
	return r
}

// BenchmarkRelay moves 256 MiB (or -size) through the bastion, which runs in
// this process alone, between the stock client and a stock sshd.
func BenchmarkRelay(b *testing.B) {
	r := newRelay(b)
	dir := must(os.MkdirTemp("", "drawbolt-bench-"))(b)
	b.Cleanup(func() { os.RemoveAll(dir) })
	check(b, os.Chmod(dir, 0o711))
	files := contents(b, dir, *size<<20)
	for _, w := range []way{direct, jump} {
		for _, direction := range []string{"down", "up"} {
			for _, content := range []string{"zeros", "random", "text"} {
				b.Run(w.host+"/"+direction+"/"+content, func(b *testing.B) {
					b.SetBytes(*size << 20)
					var used time.Duration
					for b.Loop() {
						before := ownCPU(b)
						r.move(b, w, direction, files[content])
						used += ownCPU(b) - before
						b.StopTimer()
						r.forget(b)
						b.StartTimer()
					}
					b.ReportMetric(used.Seconds()/float64(b.N)/float64(*size)*1024, "cpu-s/GiB")
				})
			}
		}
	}
}

// BenchmarkSession opens a session, runs true in it, and seals its recording.
func BenchmarkSession(b *testing.B) {
	r := newRelay(b)
	for _, w := range []way{direct, jump} {
		b.Run(w.host, func(b *testing.B) {
			before := ownCPU(b)
			for b.Loop() {
				if out, err := exec.Command("ssh", "-F", r.config, w.host, "true").CombinedOutput(); err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
				r.forget(b)
			}
			b.ReportMetric((ownCPU(b)-before).Seconds()/float64(b.N)*1e3, "cpu-ms/op")
		})
	}
}

// BenchmarkKeystroke sends a byte to a terminal of the target and waits for its
// echo.
func BenchmarkKeystroke(b *testing.B) {
	r := newRelay(b)
	for _, w := range []way{direct, jump} {
		b.Run(w.host, func(b *testing.B) {
			cmd := exec.Command("ssh", "-F", r.config, "-tt", w.host, echoes)
			terminal := openEcho(b, cmd)
			key := []byte{'a'}
			before := ownCPU(b)
			for b.Loop() {
				if err := echo(terminal, key); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((ownCPU(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
			terminal.Close()
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

func (r *relay) move(b testing.TB, w way, direction, path string) {
	b.Helper()
	cmd := exec.Command("ssh", "-F", r.config, w.host, "exec cat "+path)
	if direction == "up" {
		cmd = exec.Command("ssh", "-F", r.config, w.host, "exec cat >/dev/null")
		f := must(os.Open(path))(b)
		defer f.Close()
		cmd.Stdin = f
	}
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v", cmd, err)
	}
}

// forget waits for the recordings to be sealed, and removes them.
func (r *relay) forget(b testing.TB) {
	b.Helper()
	until(b, "the recordings are sealed", func() bool {
		left, err := filepath.Glob(filepath.Join(r.dir, "journals", "*.journal"))
		return err == nil && len(left) == 0
	})
	check(b, os.RemoveAll(filepath.Join(r.dir, "sealed")))
	check(b, os.Mkdir(filepath.Join(r.dir, "sealed"), 0o700))
}

func ownCPU(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	check(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type wrapper struct{ aead cipher.AEAD }

func (w wrapper) Wrap(id string, key []byte) ([]byte, error) {
	return w.aead.Seal(nil, nil, key, []byte(id)), nil
}

func (w wrapper) Unwrap(id string, wrapped []byte) ([]byte, error) {
	return w.aead.Open(nil, nil, wrapped, []byte(id))
}
