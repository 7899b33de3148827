package access

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// canMeet tries every way to give each place of each need a person of its own.
func canMeet(needs []Need, voters map[string][]string) bool {
	var places [][]string // the groups that may take a place
	for _, n := range needs {
		for range n.Count {
			places = append(places, n.Groups)
		}
	}
	used := map[string]bool{}
	var fill func(i int) bool
	fill = func(i int) bool {
		if i == len(places) {
			return true
		}
		for id, groups := range voters {
			if used[id] || !slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(places[i], g) }) {
				continue
			}
			used[id] = true
			if fill(i + 1) {
				return true
			}
			used[id] = false
		}
		return false
	}
	return fill(0)
}

func TestSatisfiedIsMatching(t *testing.T) {
	met, unmet := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		groups := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 3, rapid.ID)
		r := Request{ID: "REQ-1", RequesterID: "p0", Needs: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Need {
			return Need{Count: rapid.IntRange(1, 2).Draw(t, "count"), Groups: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 2, rapid.ID).Draw(t, "groups")}
		}), 1, 4).Draw(t, "needs")}
		voters, all := map[string][]string{}, map[string][]string{}
		for i := range rapid.IntRange(0, 7).Draw(t, "voters") {
			a := Approval{UserID: "p" + string(rune('0'+i)), Digest: r.Digest()}
			all[a.UserID] = groups.Draw(t, "groups now")
			if rapid.IntRange(0, 9).Draw(t, "void") == 0 {
				a.Digest = "of something else"
			} else if a.UserID != r.RequesterID {
				voters[a.UserID] = all[a.UserID]
			}
			for range rapid.IntRange(1, 2).Draw(t, "times") { // a vote that is there twice counts once
				r.Approvals = append(r.Approvals, a)
			}
		}
		want := canMeet(r.Needs, voters)
		if got := r.Satisfied(func(a *Approval) []string { return all[a.UserID] }); got != want {
			t.Fatalf("satisfied = %t, want %t: needs %v, voters %v", got, want, r.Needs, voters)
		}
		if want {
			met++
		} else {
			unmet++
		}
	})
	if met == 0 || unmet == 0 {
		t.Errorf("%d met and %d unmet: the test tests one side only", met, unmet)
	}
}

func TestSatisfied(t *testing.T) {
	for _, tt := range []struct {
		name   string
		needs  []Need
		voters map[string][]string
		want   bool
	}{
		{"nothing needed", nil, nil, true},
		{"nobody", []Need{{Count: 1, Groups: []string{"a"}}}, nil, false},
		{"one for two needs", []Need{{Count: 1, Groups: []string{"a"}}, {Count: 1, Groups: []string{"b"}}}, map[string][]string{"p": {"a", "b"}}, false},
		{"two for two needs", []Need{{Count: 1, Groups: []string{"a"}}, {Count: 1, Groups: []string{"b"}}}, map[string][]string{"p": {"a", "b"}, "q": {"a"}}, true},
		{"two for two needs, both the same side", []Need{{Count: 1, Groups: []string{"a"}}, {Count: 1, Groups: []string{"b"}}}, map[string][]string{"p": {"a"}, "q": {"a"}}, false},
		{"no longer a voter", []Need{{Count: 1, Groups: []string{"a"}}}, map[string][]string{"p": nil}, false},
		{"the requester", []Need{{Count: 1, Groups: []string{"a"}}}, map[string][]string{"me": {"a"}}, false},
		{"more needs than are counted", slices.Repeat([]Need{{Count: 1, Groups: []string{"a"}}}, maxNeeds+1), map[string][]string{"p1": {"a"}, "p2": {"a"}, "p3": {"a"}, "p4": {"a"}, "p5": {"a"}, "p6": {"a"}, "p7": {"a"}, "p8": {"a"}, "p9": {"a"}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Request{ID: "REQ-1", RequesterID: "me", Needs: tt.needs}
			for id := range tt.voters {
				r.Approvals = append(r.Approvals, Approval{UserID: id, Digest: r.Digest()})
			}
			if got := r.Satisfied(func(a *Approval) []string { return tt.voters[a.UserID] }); got != tt.want {
				t.Errorf("satisfied = %t", got)
			}
		})
	}
}
