package access

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A poll is a pending request and people with their groups, for tests of votes.
type poll struct {
	*Request
	groups map[string][]string
}

func newPoll(needs ...Need) *poll {
	return &poll{&Request{
		ID: "REQ-1", RequesterID: "alice", RequesterName: "alice", State: Pending, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour), Duration: time.Hour,
		Needs: needs, Rules: SessionRules{Recording: "strict", Shell: true, Exec: true, Agent: true, Files: []string{"upload *"}, Forwards: []string{"local *:80"}},
	}, map[string][]string{}}
}

func (p *poll) count(a *Approval) []string { return p.groups[a.seat()] }

func (p *poll) ballot(who string, after time.Duration) Approval {
	return Approval{UserID: who, UserName: who, Groups: p.groups[who], Digest: p.Digest(), At: noon.Add(after)}
}

func (p *poll) yes(who string, after time.Duration) error {
	_, err := p.Approve(p.ballot(who, after), false, p.count)
	return err
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != code {
		t.Errorf("error = %v, want %s", err, code)
	}
}

func TestSteps(t *testing.T) {
	p := newPoll(Need{Count: 2, Groups: []string{"leads"}}, Need{Count: 1, Groups: []string{"security"}, Step: 1})
	p.groups = map[string][]string{"bob": {"leads"}, "dave": {"leads", "security"}, "sam": {"security"}, "ann": {"leads"}}
	wantCode(t, p.yes("sam", 0), "DB-6130") // before its step
	if s, open := p.Stage(noon, p.count); !open || s.Step != 0 || !slices.Equal(s.Groups(), []string{"leads"}) {
		t.Errorf("asked first: %+v", s)
	}
	for i, who := range []string{"bob", "dave"} {
		if err := p.yes(who, time.Duration(i)*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	s, open := p.Stage(noon.Add(2*time.Minute), p.count)
	if !open || s.Step != 1 || !s.Since.Equal(noon.Add(time.Minute)) {
		t.Errorf("then: %+v", s)
	}
	// Dave is in both groups, and has voted in the step that was asked then.
	wantCode(t, p.yes("dave", 2*time.Minute), "DB-3003")
	wantCode(t, p.yes("ann", 2*time.Minute), "DB-6132") // whose time is over
	// Who leaves the group in between takes the first step's end away.
	p.groups["bob"] = nil
	wantCode(t, p.yes("sam", 3*time.Minute), "DB-6130")
	p.groups["bob"] = []string{"leads"}
	if err := p.yes("sam", 4*time.Minute); err != nil || p.State != Approved {
		t.Errorf("%s, %v", p.State, err)
	}
}

func TestEscalation(t *testing.T) {
	p := newPoll(Need{Count: 1, Groups: []string{"leads"}, EscalateAfter: 5 * time.Minute, EscalateTo: []string{"managers"}})
	p.groups = map[string][]string{"mia": {"managers"}}
	wantCode(t, p.yes("mia", 5*time.Minute-1), "DB-6131")
	s, _ := p.Stage(noon, p.count)
	if at, to := s.Escalation(noon); !at.Equal(noon.Add(5*time.Minute)) || !slices.Equal(to, []string{"managers"}) {
		t.Errorf("escalates at %s to %v", at, to)
	}
	if at, _ := s.Escalation(noon.Add(5 * time.Minute)); !at.IsZero() {
		t.Errorf("escalates again at %s", at)
	}
	if err := p.yes("mia", 5*time.Minute); err != nil || p.State != Approved {
		t.Errorf("%s, %v", p.State, err)
	}
	// A later step waits from its own beginning on.
	p = newPoll(Need{Count: 1, Groups: []string{"leads"}}, Need{Count: 1, Groups: []string{"security"}, Step: 3, EscalateAfter: time.Minute, EscalateTo: []string{"managers"}})
	p.groups = map[string][]string{"bob": {"leads"}, "mia": {"managers"}}
	if err := p.yes("bob", 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	wantCode(t, p.yes("mia", 11*time.Minute-1), "DB-6131")
	if err := p.yes("mia", 11*time.Minute); err != nil {
		t.Error(err)
	}
}

func TestDenyThreshold(t *testing.T) {
	p := newPoll(Need{Count: 2, Groups: []string{"leads"}})
	p.DenyThreshold = 2
	p.groups = map[string][]string{"bob": {"leads"}, "dave": {"leads"}, "ann": {"leads"}}
	no := func(who string) (bool, error) {
		a := p.ballot(who, 0)
		a.Comment = "not today"
		return p.Deny(a, false)
	}
	if err := p.yes("ann", 0); err != nil {
		t.Fatal(err)
	}
	if ended, err := no("bob"); ended || err != nil || p.State != Pending || len(p.Objections) != 1 {
		t.Fatalf("%t %v %s", ended, err, p.State)
	}
	if _, err := no("bob"); err == nil {
		t.Error("one person said no twice")
	}
	wantCode(t, p.yes("bob", 0), "DB-3003") // a no stays one
	// A yes becomes a no, and is a yes no more.
	if ended, err := no("ann"); !ended || err != nil || p.State != Denied || len(p.Approvals) != 0 || p.DecidedBy != "ann" {
		t.Errorf("%t %v %s by %s, %d approvals", ended, err, p.State, p.DecidedBy, len(p.Approvals))
	}
}

func TestSeats(t *testing.T) {
	for _, tt := range []struct {
		name  string
		votes [][2]string // who, in whose place
		codes []string
	}{
		{"in the place of one who is away", [][2]string{{"carol", "bob"}}, []string{""}},
		{"both of one seat", [][2]string{{"carol", "bob"}, {"bob", ""}}, []string{"", "DB-6135"}},
		{"both of one seat, the other way round", [][2]string{{"bob", ""}, {"carol", "bob"}}, []string{"", "DB-6135"}},
		{"two for one seat", [][2]string{{"carol", "bob"}, {"erin", "bob"}}, []string{"", "DB-6135"}},
		{"one for two seats", [][2]string{{"carol", "bob"}, {"carol", "dave"}}, []string{"", "DB-3003"}},
		{"in the place of who asks", [][2]string{{"carol", "alice"}}, []string{"DB-6134"}},
		{"in the place of the bot's owner", [][2]string{{"carol", "owen"}}, []string{"DB-6134"}},
		{"the bot's owner", [][2]string{{"owen", ""}}, []string{"DB-6133"}},
		{"who asks, in the place of another", [][2]string{{"alice", "bob"}}, []string{"DB-2002"}},
		{"two seats", [][2]string{{"carol", "bob"}, {"erin", "dave"}}, []string{"", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPoll(Need{Count: 2, Groups: []string{"leads"}})
			p.OwnerID = "owen"
			for _, who := range []string{"alice", "bob", "dave", "owen"} {
				p.groups[who] = []string{"leads"}
			}
			for i, v := range tt.votes {
				a := p.ballot(v[0], time.Duration(i)*time.Minute)
				if a.StandsFor = v[1]; v[1] != "" {
					a.Groups = p.groups[v[1]]
				}
				_, err := p.Approve(a, false, p.count)
				if tt.codes[i] != "" {
					wantCode(t, err, tt.codes[i])
				} else if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestNarrowing(t *testing.T) {
	p := newPoll(Need{Count: 2, Groups: []string{"leads"}})
	p.groups = map[string][]string{"bob": {"leads"}, "dave": {"leads"}}
	vote := func(who string, n Narrowing) error {
		a := p.ballot(who, 0)
		a.Narrowing = n
		_, err := p.Approve(a, false, p.count)
		return err
	}
	wantKind(t, vote("bob", Narrowing{Without: []string{"sudo"}}), ErrInvalid)
	wantCode(t, vote("bob", Narrowing{Without: []string{"shell", "exec", "files", "forwards"}}), "DB-6136")
	for who, n := range map[string]Narrowing{"bob": {Without: []string{"agent", "forwards", "agent"}}, "dave": {Without: []string{"exec"}, FourEyes: true}} {
		if err := vote(who, n); err != nil {
			t.Fatal(err)
		}
	}
	got := NewGrant(p.Request, noon, time.Hour).Rules
	want := SessionRules{Recording: "strict", Shell: true, Files: []string{"upload *"}, FourEyes: true}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the grant carries %+v", got)
	}
	if !slices.Equal(p.Rules.Forwards, []string{"local *:80"}) {
		t.Error("the request does not say any more what was asked for")
	}
}

// Whatever is taken away, nothing comes: no right, no entry of a list, and four
// eyes that were wanted stay wanted.
func TestNarrowingNeverWidens(t *testing.T) {
	list := func(t *rapid.T, name string) []string {
		return rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3).Draw(t, name)
	}
	yes := func(t *rapid.T, name string) bool { return rapid.Bool().Draw(t, name) }
	rapid.Check(t, func(t *rapid.T) {
		was := SessionRules{
			Recording: "strict", Shell: yes(t, "shell"), Exec: yes(t, "exec"), Agent: yes(t, "agent"), X11: yes(t, "x11"), FourEyes: yes(t, "four"), SilentWatch: yes(t, "silent"),
			Checkout: rapid.SampledFrom([]string{"", CheckoutManaged, CheckoutAny}).Draw(t, "checkout"),
			Commands: list(t, "commands"), Files: list(t, "files"), Forwards: list(t, "forwards"), Detect: list(t, "detect"),
		}
		n := Narrowing{rapid.SliceOfN(rapid.SampledFrom(Rights()), 0, len(Rights())).Draw(t, "without"), yes(t, "eyes")}
		now := was.After(n)
		within := func(a, b []string) bool {
			return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
		}
		switch {
		case now.Shell && !was.Shell, now.Exec && !was.Exec, now.Agent && !was.Agent, now.X11 && !was.X11, was.FourEyes && !now.FourEyes, now.SilentWatch != was.SilentWatch, now.Checkout != "" && now.Checkout != was.Checkout:
			t.Fatalf("%+v became %+v by %+v", was, now, n)
		case !within(now.Files, was.Files), !within(now.Forwards, was.Forwards), now.Exec && !slices.Equal(now.Commands, was.Commands), !slices.Equal(now.Detect, was.Detect), now.Recording != was.Recording:
			t.Fatalf("%+v became %+v by %+v", was, now, n)
		case n.FourEyes && !now.FourEyes, slices.Contains(n.Without, "shell") && now.Shell, slices.Contains(n.Without, "files") && len(now.Files) > 0:
			t.Fatalf("%+v was not taken from %+v: %+v", n, was, now)
		}
	})
}

func TestEdit(t *testing.T) {
	p := newPoll(Need{Count: 2, Groups: []string{"leads"}})
	p.groups = map[string][]string{"bob": {"leads"}, "dave": {"leads"}}
	old := p.ballot("dave", 2*time.Minute)
	if err := p.yes("bob", 0); err != nil {
		t.Fatal(err)
	}
	alice := User{ID: "alice", Name: "alice"}
	wantCode(t, p.Edit(User{ID: "bob"}, Edit{Duration: time.Minute}, noon), "DB-6137")
	wantKind(t, p.Edit(alice, Edit{Duration: time.Hour}, noon), ErrInvalid) // as it is
	wantKind(t, p.Edit(alice, Edit{Duration: -time.Hour}, noon), ErrInvalid)
	if err := p.Edit(alice, Edit{Duration: 2 * time.Hour, Reason: "INC-7 more time"}, noon.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if len(p.Approvals) != 0 || p.Ticket != "INC-7" || !p.ExpiresAt.Equal(noon.Add(time.Hour+time.Minute)) {
		t.Errorf("after the edit: %+v", p.Request)
	}
	_, err := p.Approve(old, false, p.count)
	wantCode(t, err, "DB-3004")
	for i := range maxEdits {
		err = p.Edit(alice, Edit{Duration: time.Duration(i+1) * time.Minute}, noon.Add(time.Minute))
	}
	wantCode(t, err, "DB-6138")
	wantCode(t, p.Edit(alice, Edit{Duration: time.Minute}, p.ExpiresAt), "DB-3002")
}

// TestVotesAreCounted compares with every way to give each place of each need a
// person of its own, over people who vote in any order, at any time, for
// themselves or for others, with groups that come and go.
func TestVotesAreCounted(t *testing.T) {
	names := []string{"a", "b", "c"}
	approved, not := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var needs []Need
		for i := range rapid.IntRange(1, 3).Draw(t, "needs") {
			n := Need{
				Count: rapid.IntRange(1, 2).Draw(t, "count"), Step: rapid.IntRange(0, 1).Draw(t, fmt.Sprint("step", i)),
				Groups: rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 2, rapid.ID).Draw(t, "groups"),
			}
			if rapid.Bool().Draw(t, "escalates") {
				n.EscalateAfter, n.EscalateTo = 5*time.Minute, []string{"d"}
			}
			needs = append(needs, n)
		}
		p := newPoll(needs...)
		p.OwnerID = "owen"
		people := []string{"alice", "owen", "p1", "p2", "p3", "p4", "p5"}
		for _, who := range people {
			p.groups[who] = rapid.SliceOfNDistinct(rapid.SampledFrom(append(names, "d")), 0, 3, rapid.ID).Draw(t, "groups of "+who)
		}
		at := time.Duration(0)
		for range rapid.IntRange(1, 10).Draw(t, "votes") {
			at += time.Duration(rapid.IntRange(0, 4).Draw(t, "minutes")) * time.Minute
			who := rapid.SampledFrom(people).Draw(t, "who")
			a := p.ballot(who, at)
			if rapid.IntRange(0, 2).Draw(t, "stands") == 0 {
				a.StandsFor = rapid.SampledFrom(people).Draw(t, "for")
				a.Groups = p.groups[a.StandsFor]
				if a.StandsFor == who {
					a.StandsFor = ""
				}
			}
			done, err := p.Approve(a, false, p.count)
			if err == nil && (who == "alice" || who == "owen" || a.StandsFor == "alice" || a.StandsFor == "owen") {
				t.Fatalf("%s voted in the place of %q", who, a.StandsFor)
			}
			if done {
				break
			}
		}
		seats := map[string]bool{}
		for _, a := range p.Approvals {
			for _, id := range []string{a.UserID, a.StandsFor} {
				if id != "" && seats[id] {
					t.Fatalf("%s counts twice", id)
				}
				seats[id] = true
			}
		}
		// Who could have taken which place.
		var places []Need
		for _, n := range p.Needs {
			for range n.Count {
				places = append(places, n)
			}
		}
		used := map[string]bool{}
		var fill func(i int) bool
		fill = func(i int) bool {
			if i == len(places) {
				return true
			}
			n := places[i]
			for _, a := range p.Approvals {
				escalated := n.EscalateAfter > 0 && p.Waited(&a) >= n.EscalateAfter && slices.Contains(p.groups[a.seat()], "d")
				direct := slices.ContainsFunc(p.groups[a.seat()], func(g string) bool { return slices.Contains(n.Groups, g) })
				if used[a.UserID] || a.Step != n.Step || !escalated && !direct {
					continue
				}
				used[a.UserID] = true
				if fill(i + 1) {
					return true
				}
				used[a.UserID] = false
			}
			return false
		}
		if got := fill(0); got != (p.State == Approved) {
			t.Fatalf("it is %s, and every place can be taken = %t: needs %+v, votes %+v", p.State, got, p.Needs, p.Approvals)
		}
		if p.State == Approved {
			approved++
			if len(p.Approvals) != len(places) {
				t.Fatalf("%d votes for %d places: one of them changed nothing", len(p.Approvals), len(places))
			}
		} else {
			not++
		}
	})
	if approved == 0 || not == 0 {
		t.Errorf("%d approved and %d not: the test tests one side only", approved, not)
	}
}
