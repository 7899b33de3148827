//go:build !race

package bench

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

// Gates are limits on what a session costs, so that it does not creep. They
// count what the machine's mood changes little: memory, goroutines, allocations,
// and processor time as a multiple of what a fixed piece of work takes here and
// now. Throughput is not among them.

// unit is the processor time that it takes here to encrypt and hash a mebibyte.
func unit(t *testing.T) time.Duration {
	t.Helper()
	block := must(aes.NewCipher(make([]byte, 32)))(t)
	aead := must(cipher.NewGCM(block))(t)
	data, nonce := make([]byte, 32<<10), make([]byte, 12)
	const mebibytes = 256
	before := ownCPU(t)
	for range mebibytes << 20 / len(data) {
		sum := sha256.Sum256(data)
		data = append(aead.Seal(data[:0], nonce, data, sum[:])[:len(data)-16], nonce...)[:len(data)]
	}
	return (ownCPU(t) - before) / mebibytes
}

func gate(t *testing.T, what string, got, limit float64) {
	t.Helper()
	t.Logf("%s: %.1f, at most %.1f", what, got, limit)
	if got > limit {
		t.Errorf("%s: %.1f is more than %.1f", what, got, limit)
	}
}

// least is gate for the least of three measures: what others do on the machine adds to
// the processor time of a thing and takes nothing from it.
func least(t *testing.T, what string, limit float64, measure func() float64) {
	t.Helper()
	got := measure()
	for range 2 {
		if got > limit {
			got = min(got, measure())
		}
	}
	gate(t, what, got, limit)
}

// Each session that idles.
func TestGatesIdle(t *testing.T) {
	r := newRelay(t)
	for _, way := range []struct {
		way
		goroutines, kib float64
	}{{direct, 18, 220}, {jump, 25, 330}} {
		const n = 16
		held := func() (kib, goroutines float64) {
			for range 3 { // what pools keep goes with the second
				runtime.GC()
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return float64(m.HeapInuse+m.StackInuse) / 1024, float64(runtime.NumGoroutine())
		}
		var shells []*exec.Cmd
		var inputs []io.Closer
		open := func() {
			cmd := exec.Command("ssh", "-F", r.config, "-tt", way.host, echoes)
			terminal := openEcho(t, cmd)
			shells, inputs = append(shells, cmd), append(inputs, terminal)
		}
		open() // what is made once is not of a session
		kib, goroutines := held()
		for range n {
			open()
		}
		kibAfter, goroutinesAfter := held()
		gate(t, way.host+": goroutines of an idle session", (goroutinesAfter-goroutines)/n, way.goroutines)
		each := (kibAfter - kib) / n
		gate(t, way.host+": KiB of an idle session", each, way.kib)
		if each < 32 {
			t.Errorf("%s: %.1f KiB of an idle session cannot be: what was there before was not counted well", way.host, each)
		}
		for i, cmd := range shells {
			inputs[i].Close()
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		r.forget(t)
	}
}

// Each session that opens, runs a command and is sealed.
func TestGatesSession(t *testing.T) {
	r := newRelay(t)
	for _, way := range []struct {
		way
		units, allocations float64
	}{{direct, 50, 10}, {jump, 55, 14}} {
		const n = 20
		run := func() {
			if out, err := exec.Command("ssh", "-F", r.config, way.host, "true").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		run()
		r.forget(t)
		var before, after runtime.MemStats
		least(t, way.host+": processor time of a session, in units", way.units, func() float64 {
			one := unit(t)
			runtime.ReadMemStats(&before)
			used := ownCPU(t)
			for range n {
				run()
			}
			r.forget(t)
			used = ownCPU(t) - used
			runtime.ReadMemStats(&after)
			return float64(used) / n / float64(one)
		})
		gate(t, way.host+": thousand allocations of a session", float64(after.Mallocs-before.Mallocs)/n/1e3, way.allocations)
	}
}

// Each mebibyte that is carried, recorded and sealed.
func TestGatesBulk(t *testing.T) {
	r := newRelay(t)
	dir := must(os.MkdirTemp("", "drawbolt-gates-"))(t)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o711))
	const mebibytes = 64
	files := contents(t, dir, mebibytes<<20)
	for _, way := range []struct {
		way
		units, bytes float64
	}{{direct, 50, 3}, {jump, 50, 5}} {
		for _, direction := range []string{"down", "up"} {
			var before, after runtime.MemStats
			what := way.host + ", " + direction
			least(t, what+": processor time of a mebibyte, in units", way.units, func() float64 {
				one := unit(t)
				runtime.ReadMemStats(&before)
				used := ownCPU(t)
				r.move(t, way.way, direction, files["random"])
				r.forget(t)
				used = ownCPU(t) - used
				runtime.ReadMemStats(&after)
				return float64(used) / mebibytes / float64(one)
			})
			gate(t, what+": bytes allocated for a byte", float64(after.TotalAlloc-before.TotalAlloc)/mebibytes/(1<<20), way.bytes)
		}
	}
}
