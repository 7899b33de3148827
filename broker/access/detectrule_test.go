package access

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDetectRule(t *testing.T) {
	for _, test := range []struct {
		rule, line string
		want       bool
	}{
		{"warn shutdown", "shutdown -h now", true},
		{"warn shutdown", "sudo shutdown", true},
		{"warn shutdown", "sudo /usr/sbin/shutdown -h", true},
		{"warn shutdown", "cd /; shutdown", true},
		{"warn shutdown", "true&&shutdown", true},
		{"warn shutdown", "echo `shutdown`", true},
		{"warn shutdown", "echo $(shutdown)", true},
		{"warn shutdown", `sh\ut"do"w'n'`, true},
		{"warn shutdown", "shutdowns", false},
		{"warn shutdown", "cat /var/log/shutdown", false},
		{"warn shutdown", "", false},
		{"warn passwd", "cat /etc/passwd", false},
		{"end rm -rf *", "rm -rf /srv", true},
		{"end rm -rf *", "rm  -rf\t/srv/*", true},
		{"end rm -rf *", "rm -rf", false},
		{"end rm -rf *", "rm; -rf x", false},
		{"end rm -rf *", "rm -fr /srv", false}, // an aid: see docs/policy.md
		{"end rm -*r*", "rm -fr /srv", true},
		{"end cat /etc/shadow*", "sudo cat /etc/shadow-", true},
		{"end [ -f [a]?", "[ -f [a]?", true},
		{"end [ -f [a]?", "[ -f ab", false},
		{`alert regexp (?i)drop\s+table`, "DROP   TABLE users;", true},
		{`alert regexp (?i)drop\s+table`, "drop the table", false},
		{"alert regexp ^id$", "id", true},
		{"alert regexp ^id$", "id -u", false},
		{"alert regexp .", "x", true},
		{"alert regexp .", "", false},
	} {
		r, err := ParseDetectRule(test.rule)
		if err != nil {
			t.Errorf("%s: %v", test.rule, err)
			continue
		}
		if got := r.Matches(test.line); got != test.want {
			t.Errorf("%q on %q: %t", test.rule, test.line, got)
		}
	}
}

func TestDetectRuleRefused(t *testing.T) {
	for _, s := range []string{
		"", "warn", "warn ", "tell x", "Warn x", "warn  x", "warn x ", "warn x  y", "warn *", "warn * *", "warn x **", "warn x\ny", "warn 'x'", `warn x\y`,
		"warn x;y", "warn a|b", "warn {a}", "warn regexp", "warn regexp ", "warn regexp (", "end regexp .*", "end regexp a?", "end regexp ",
		"warn regexp " + strings.Repeat("(a{1000})", 3), "warn regexp (?<x", "end x" + strings.Repeat("x", 600),
	} {
		if err := (SessionRules{Detect: []string{s}}).validate(); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
	if err := (SessionRules{Detect: make([]string, MaxItems+1)}).validate(); err == nil {
		t.Error("too many were taken")
	}
}

// What is looked for is a restriction: a change adds to it and takes nothing away.
func TestNarrowDetect(t *testing.T) {
	got := SessionRules{Detect: []string{"warn a", "end b"}}.Narrow(SessionRules{Detect: []string{"end b", "alert c"}}).Detect
	if strings.Join(got, ", ") != "warn a, end b, alert c" {
		t.Errorf("%q", got)
	}
}

// FuzzDetectRule: a rule that is taken finds its own words, and nothing in nothing.
func FuzzDetectRule(f *testing.F) {
	f.Add("warn shutdown", "sudo shutdown")
	f.Add("end rm -rf *", `rm "-r"f x`)
	f.Add(`alert regexp (?i)drop\s+table`, "drop table")
	f.Fuzz(func(t *testing.T, rule, line string) {
		r, err := ParseDetectRule(rule)
		if err != nil || len(rule) > maxSessionRule {
			return
		}
		r.Matches(line)
		if r.Matches("") {
			t.Errorf("%q is found in nothing", rule)
		}
		_, pattern, _ := strings.Cut(rule, " ")
		if r.regexp == nil && utf8.ValidString(rule) && !strings.ContainsAny(pattern, `*`) && !r.Matches("true; "+pattern+" x") {
			t.Errorf("%q does not find itself", rule)
		}
	})
}
