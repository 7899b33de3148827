package ui

import (
	"strings"

	"github.com/drawbolt/drawbolt/web/api"
)

// A Bundle is a policy bundle that was sent to be looked at.
type Bundle struct {
	Test   api.PolicyTest
	Signer string // who has signed it; "": nobody had to, or Unsigned says why not
	// Unsigned is why the servers would refuse its signature; "": they would not.
	Unsigned string
	Changes  []FileChange // against the one in service; of one that is refused: none
	Diff     *api.PolicyDiff
}

// fit reports whether a server would put it into service.
func (b Bundle) fit() bool { return len(b.Test.Problems) == 0 && b.Unsigned == "" }

// A FileChange is a file that is another in a candidate.
type FileChange struct {
	Name string
	What string // added, removed or changed
	// Lines are what changed, with some around it. One that begins with "+" is in the
	// candidate only, with "-" in the bundle in service only, and with " " in both;
	// "…" stands for lines that are left out.
	Lines []string
}

const (
	around       = 3     // lines that are shown before and behind a change
	maxCompared  = 1e6   // pairs of lines that are compared; more: the whole middle is another
	maxDiffLines = 2_000 // that are shown of a file
)

// FileChanges compares the files of two bundles, both in the order of their names.
func FileChanges(was, now []api.PolicyFile) (list []FileChange) {
	for len(was) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(was) > 0 && was[0].Name < now[0].Name:
			list = append(list, FileChange{was[0].Name, "removed", differences(lines(was[0].Text), nil)})
			was = was[1:]
		case len(was) == 0 || now[0].Name < was[0].Name:
			list = append(list, FileChange{now[0].Name, "added", differences(nil, lines(now[0].Text))})
			now = now[1:]
		default:
			if was[0].Text != now[0].Text {
				list = append(list, FileChange{now[0].Name, "changed", differences(lines(was[0].Text), lines(now[0].Text))})
			}
			was, now = was[1:], now[1:]
		}
	}
	return list
}

func lines(text string) []string {
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// differences lists how one text becomes another, by its longest common lines.
func differences(was, now []string) []string {
	head := 0
	for head < min(len(was), len(now)) && was[head] == now[head] {
		head++
	}
	tail := 0
	for tail < min(len(was), len(now))-head && was[len(was)-1-tail] == now[len(now)-1-tail] {
		tail++
	}
	a, b := was[head:len(was)-tail], now[head:len(now)-tail]
	var all []string
	add := func(sign string, list []string) {
		for _, l := range list {
			all = append(all, sign+l)
		}
	}
	add(" ", was[:head])
	if len(a)*len(b) > maxCompared {
		add("-", a)
		add("+", b)
	} else {
		all = append(all, edits(a, b)...)
	}
	add(" ", was[len(was)-tail:])
	return cutOut(all)
}

// edits are the shortest way from a to b, with what stays. longest[i][j] is how many
// lines a[i:] and b[j:] have in common.
func edits(a, b []string) (out []string) {
	longest := make([][]int32, len(a)+1)
	for i := range longest {
		longest[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, " "+a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && longest[i+1][j] >= longest[i][j+1]:
			out = append(out, "-"+a[i])
			i++
		default:
			out = append(out, "+"+b[j])
			j++
		}
	}
	return out
}

// cutOut leaves out what is far from any change, and what is more than a page shows.
func cutOut(all []string) (out []string) {
	near := make([]bool, len(all))
	for i, l := range all {
		if l[0] == ' ' {
			continue
		}
		for k := max(0, i-around); k <= min(len(all)-1, i+around); k++ {
			near[k] = true
		}
	}
	for i, l := range all {
		switch {
		case len(out) == maxDiffLines:
			return append(out, "…")
		case near[i]:
			out = append(out, l)
		case i == 0 || near[i-1]:
			out = append(out, "…")
		}
	}
	return out
}
