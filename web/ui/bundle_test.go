package ui

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/web/api"
)

func TestFileChanges(t *testing.T) {
	was := []api.PolicyFile{{Name: "a.rego", Text: "1\n2\n3\n4\n5\n6\n7\n8\n9\n"}, {Name: "b.rego", Text: "same\n"}, {Name: "c.rego", Text: "gone\n"}}
	now := []api.PolicyFile{{Name: "a.rego", Text: "1\n2\n3\n4\nfive\n6\n7\n8\n9\nten\n"}, {Name: "b.rego", Text: "same\n"}, {Name: "d.rego", Text: "new\n"}}
	got := FileChanges(was, now)
	want := []FileChange{
		{"a.rego", "changed", []string{"…", " 2", " 3", " 4", "-5", "+five", " 6", " 7", " 8", " 9", "+ten"}},
		{"c.rego", "removed", []string{"-gone"}}, {"d.rego", "added", []string{"+new"}},
	}
	if !slices.EqualFunc(got, want, func(a, b FileChange) bool {
		return a.Name == b.Name && a.What == b.What && slices.Equal(a.Lines, b.Lines)
	}) {
		t.Errorf("%q", got)
	}
	// Whatever two texts are, what is kept and added is the one, and what is kept and
	// removed is the other; and a long text costs no more than its limits.
	texts := [][]string{nil, {"a"}, {"a", "b", "a", "c"}, {"b", "a", "c", "c"}, {"x", "y"}, {"a", "b", "a", "c", "x"}}
	for _, a := range texts {
		for _, b := range texts {
			var before, after []string
			for _, l := range edits(a, b) {
				if l[0] != '+' {
					before = append(before, l[1:])
				}
				if l[0] != '-' {
					after = append(after, l[1:])
				}
			}
			if !slices.Equal(before, a) || !slices.Equal(after, b) {
				t.Errorf("from %q to %q: %q", a, b, edits(a, b))
			}
		}
	}
	var long, other []string
	for i := range 50_000 {
		long, other = append(long, strconv.Itoa(i)), append(other, strconv.Itoa(-i-1))
	}
	if got := FileChanges([]api.PolicyFile{{Name: "a.rego", Text: strings.Join(long, "\n")}}, []api.PolicyFile{{Name: "a.rego", Text: strings.Join(other, "\n")}}); len(got[0].Lines) != maxDiffLines+1 {
		t.Errorf("%d lines are shown", len(got[0].Lines))
	}
}
