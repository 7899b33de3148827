// Package bench measures drawbolt beside what people run otherwise: stock ssh
// straight to a stock sshd, and stock ssh -J through a second one.
//
// BenchmarkBeside is what make bench runs, by test/bench/run: the real programs
// on loopback, in interleaved rounds, so that what else the machine does falls
// on all of them alike. BenchmarkRelay and BenchmarkCredential run parts of the
// server in this process, for profiles:
//
//	go test -run '^$' -bench 'Relay/direct/down/zeros' -cpuprofile cpu.prof ./test/bench
//
// It trusts the machine's users as any test on loopback does. Nothing here is a
// gate: the figures go into docs/performance.md, where people judge them.
package bench

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	rounds   = flag.Int("rounds", 3, "rounds of bulk transfers")
	size     = flag.Int64("size", 256, "MiB of one transfer")
	connects = flag.Int("connects", 20, "connections of each way")
	keys     = flag.Int("keys", 1000, "keystrokes of each way")
	idlers   = flag.Int("idle", 300, "idle sessions; of few, what memory the runtime keeps for later shows more than what they hold")
	settle   = flag.Duration("settle", 130*time.Second, "how long sessions are idle before their memory is looked at; the runtime collects garbage every two minutes")
	only     = flag.String("only", "", "parts to run, such as connect,keys,bulk,idle,rates; default: all")
	write    = flag.Bool("write", false, "put the tables into docs/performance.md")
)

// A way is how a client reaches the target.
type way struct {
	host string // of the ssh_config
	name string // as the tables have it
}

// The ways, the two that others give first. The names are hosts of the
// ssh_config that newBed writes.
var (
	straight = way{"straight", "direct sshd"}
	stock    = way{"stock", "`ssh -J`, stock sshd"}
	direct   = way{"direct", "drawbolt, `account+target@gateway`"}
	jump     = way{bedTarget, "drawbolt, ProxyJump"}
	ways     = []way{straight, stock, direct, jump}
)

func BenchmarkBeside(b *testing.B) {
	if b.N != 1 {
		b.Fatal("run it once: -benchtime 1x")
	}
	out := &report{}
	began := load()
	on := newBed(b)
	for _, part := range []struct {
		name string
		run  func(*bed, *report)
	}{{"connect", connect}, {"keys", keystrokes}, {"bulk", bulk}, {"idle", idle}, {"rates", rates}} {
		if *only == "" || slices.Contains(strings.Split(*only, ","), part.name) {
			fmt.Fprintf(os.Stderr, "%s %s ...\n", time.Now().Format(time.TimeOnly), part.name)
			part.run(on, out)
		}
	}
	out.machine(b, began)
	fmt.Printf("\n%s\n", out.text.String())
	if *write {
		check(b, out.save("../../docs/performance.md"))
	}
}

// A report collects tables.
type report struct{ text strings.Builder }

func (r *report) say(format string, args ...any) { fmt.Fprintf(&r.text, format+"\n", args...) }

// table writes a table; the first column stands to the left.
func (r *report) table(title string, head []string, rows [][]string) {
	r.say("### %s\n", title)
	r.say("| %s |", strings.Join(head, " | "))
	r.say("|---%s|", strings.Repeat("|--:", len(head)-1))
	for _, row := range rows {
		r.say("| %s |", strings.Join(row, " | "))
	}
	r.say("")
}

const (
	beginMark = "<!-- figures: make bench WRITE=1 -->"
	endMark   = "<!-- end of figures -->"
)

// save puts the text between the marks of a file.
func (r *report) save(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), beginMark)
	_, after, closed := strings.Cut(rest, endMark)
	if !ok || !closed {
		return fmt.Errorf("%s has no %s ... %s", path, beginMark, endMark)
	}
	return os.WriteFile(path, []byte(before+beginMark+"\n\n"+strings.TrimSpace(r.text.String())+"\n\n"+endMark+after), 0o644)
}

// machine says where and on what the figures were taken.
func (r *report) machine(b *testing.B, began string) {
	rows := [][]string{}
	add := func(name, value string) { rows = append(rows, []string{name, value}) }
	add("processor", fmt.Sprintf("%s, %d CPUs", processor(), cpus()))
	add("system", fmt.Sprintf("Linux %s, temporary files on %s", firstLine("/proc/sys/kernel/osrelease"), filesystem(os.TempDir())))
	add("programs", fmt.Sprintf("%s; %s; %s", command("ssh", "-V"), command("go", "env", "GOVERSION"), command(root("bin/drawboltd"), "--version")))
	add("load average, before and after", began+" and "+load())
	add("run", fmt.Sprintf("%s; %d rounds of %d MiB, %d connections, %d keystrokes, %d idle sessions looked at after %s",
		time.Now().UTC().Format("2006-01-02 15:04 MST"), *rounds, *size, *connects, *keys, *idlers, *settle))
	r.table("Machine", []string{"", "here"}, rows)
}

// quantile returns the value below which the share q of the values lie.
func quantile[T cmp.Ordered](values []T, q float64) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	s := slices.Sorted(slices.Values(values))
	return s[min(len(s)-1, int(math.Ceil(q*float64(len(s))))-1)]
}

func median[T cmp.Ordered](values []T) T { return quantile(values, 0.5) }

// turned is the ways in another order each round, so that no way always comes
// after the same other.
func turned(round int) []way {
	k := round % len(ways)
	return append(slices.Clone(ways[k:]), ways[:k]...)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}

// drain reads what nobody wants.
func drain(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
