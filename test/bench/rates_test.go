package bench

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// rates runs the benchmarks that stand beside the code they measure.
func rates(bed *bed, r *report) {
	decide := bed.benchmark("./rego", "Benchmark(Decide|Bare)$")
	sign := bed.benchmark("./vault/sshca", "BenchmarkSign$")
	credential := bed.benchmark("./test/bench", "BenchmarkCredential")
	commit := bed.benchmark("./broker/store", "BenchmarkAuditedCommit/sqlite")
	verbs := bed.benchmark("./broker", "BenchmarkRequestApprove$")
	chunk := bed.benchmark("./broker", "BenchmarkCheck$")
	rec := bed.benchmark("./recorder", "BenchmarkWrite")
	get := func(m map[string]map[string]float64, name, unit string) float64 {
		for full, values := range m {
			if v, ok := values[unit]; ok && strings.Contains(full, name) {
				return v
			}
		}
		bed.b.Fatalf("no %s of %s in %v", unit, name, m)
		return 0
	}
	whole := func(v float64) string { return fmt.Sprintf("%.0f", v) }
	r.table("Decisions, certificates, commits", []string{"what", "here", "goal"}, [][]string{
		{"policy decision, p50 (500 users, 1,000 targets, 50 roles)", fmt.Sprintf("%.1f µs", get(decide, "Decide", "us-p50")), "30 µs"},
		{"policy decision, p99", fmt.Sprintf("%.0f µs", get(decide, "Decide", "us-p99")), "200 µs"},
		{"the same questions to a bare OPA policy without reasons, p50", fmt.Sprintf("%.1f µs", get(decide, "Bare", "us-p50")), ""},
		{"the same, p99", fmt.Sprintf("%.0f µs", get(decide, "Bare", "us-p99")), ""},
		{"policy decisions a second, one goroutine", whole(get(decide, "Decide", "decisions/s")), ""},
		{"certificates a second, signing alone, one goroutine", whole(1e9 / get(sign, "Sign", "ns/op")), ""},
		{"session certificates a second, policy asked and audited, one at a time", whole(get(credential, "/1", "certificates/s")), ""},
		{"session certificates a second, 16 at a time", whole(get(credential, "/16", "certificates/s")), ""},
		{"audited commits a second, SQLite with full sync, one at a time", whole(get(commit, "sequential", "commits/s")), ""},
		{"audited commits a second, 8 at a time", whole(get(commit, "goroutines", "commits/s")), "4,000"},
		{"audited verbs a second (ask, approve, release), one at a time", whole(get(verbs, "RequestApprove", "verbs/s")), ""},
		{"check of the grant before each chunk", fmt.Sprintf("%.0f ns", get(chunk, "Check", "ns/op")), ""},
		{"record a keystroke (1 byte)", fmt.Sprintf("%.1f µs", get(rec, "Write/1-", "ns/op")/1e3), ""},
		{"record a full packet (32 KiB)", fmt.Sprintf("%.0f MB/s", get(rec, "Write/32768", "MB/s")), ""},
	})
}

// benchmark runs benchmarks of a package and returns their figures by name and
// unit.
func (bed *bed) benchmark(pkg, pattern string) map[string]map[string]float64 {
	bed.b.Helper()
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^"+pattern, "-benchtime", "2s", pkg)
	cmd.Dir = root("")
	out, err := cmd.CombinedOutput()
	if err != nil {
		bed.b.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	figures := map[string]map[string]float64{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		values := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				values[f[i+1]] = v
			}
		}
		figures[f[0]+"-"] = values // so that a name's end can be asked for on one CPU too
	}
	return figures
}
