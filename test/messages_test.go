package test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var codePattern = regexp.MustCompile(`DB-([0-9]{4})`)

// Every code that the programs may answer with stands in the catalogue, and
// every code of the catalogue is used.
func TestMessageCatalogue(t *testing.T) {
	doc, err := os.ReadFile("../docs/messages.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[int]bool{}
	var ranges [][2]int
	for _, row := range strings.Split(string(doc), "\n") {
		cell, _, ok := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
		if !ok || !strings.HasPrefix(cell, "DB-") {
			continue
		}
		for _, part := range strings.Split(cell, ", ") {
			from, to, isRange := strings.Cut(part, " to ")
			first := number(t, from)
			listed[first] = true
			if isRange {
				ranges = append(ranges, [2]int{first, number(t, to)})
			}
		}
	}
	covered := func(n int) bool {
		for _, r := range ranges {
			if r[0] <= n && n <= r[1] {
				return true
			}
		}
		return listed[n]
	}
	out, err := exec.Command("git", "grep", "-hoE", `"DB-[0-9]{4}"`, "--", ":/broker/**.go", ":/cmd/drawboltd/**.go", ":/web/**.go", ":(exclude,top)*_test.go").Output()
	if err != nil {
		t.Fatalf("find the codes: %v", err)
	}
	used := map[int]bool{}
	for _, line := range strings.Fields(string(out)) {
		n := number(t, line)
		if used[n] = true; !covered(n) {
			t.Errorf("DB-%d is not in docs/messages.md", n)
		}
	}
	for n := range listed {
		if !used[n] {
			t.Errorf("docs/messages.md lists DB-%d, which nothing says", n)
		}
	}
	if len(used) < 50 {
		t.Errorf("only %d codes were found: is the search right?", len(used))
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	m := codePattern.FindStringSubmatch(s)
	if m == nil {
		t.Fatalf("%q holds no code", s)
	}
	n, _ := strconv.Atoi(m[1]) // four digits
	return n
}
