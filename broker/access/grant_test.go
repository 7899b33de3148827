package access

import (
	"errors"
	"flag"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var holder, other = User{ID: "USR-a", Name: "alice"}, User{ID: "USR-b", Name: "bob"}

func newTestGrant(start time.Time) *Grant {
	r := &Request{ID: "REQ-1", RequesterID: holder.ID, RequesterName: holder.Name, Account: "root", TargetName: "db01", Duration: time.Hour, Start: start, State: Approved}
	return NewGrant(r, noon, 4*time.Hour)
}

func TestGrantClock(t *testing.T) {
	const h, m = time.Hour, time.Minute
	for _, tt := range []struct {
		name   string
		start  time.Duration // after noon; 0: at once
		use    time.Duration // first use after noon; -1: never
		states map[time.Duration]GrantState
	}{
		{"never used", 0, -1, map[time.Duration]GrantState{0: Active, 4*h - 1: Active, 4 * h: Ended, 5 * h: Ended}},
		{"used at once", 0, 0, map[time.Duration]GrantState{0: Active, h - 1: Active, h: Ended, 4*h - 1: Ended}},
		{"used at the last moment", 0, 4*h - 1, map[time.Duration]GrantState{4 * h: Active, 5*h - 2: Active, 5*h - 1: Ended}},
		{"scheduled", 2 * h, -1, map[time.Duration]GrantState{0: Scheduled, 2*h - 1: Scheduled, 2 * h: Active, 6*h - 1: Active, 6 * h: Ended}},
		{"scheduled and used", 2 * h, 3 * h, map[time.Duration]GrantState{h: Scheduled, 3 * h: Active, 4*h - 1: Active, 4 * h: Ended}},
		{"start has passed already", -h, 10 * m, map[time.Duration]GrantState{0: Active, h + 10*m - 1: Active, h + 10*m: Ended}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var start time.Time
			if tt.start != 0 {
				start = noon.Add(tt.start)
			}
			g := newTestGrant(start)
			if tt.use >= 0 {
				if err := g.Activate(noon.Add(tt.use)); err != nil {
					t.Fatal(err)
				}
				// A later use does not start the clock again.
				end := g.End
				if err := g.Activate(noon.Add(tt.use + m/60)); err != nil || !g.End.Equal(end) {
					t.Fatalf("second use: ends at %s, was %s, %v", g.End, end, err)
				}
			}
			for after, want := range tt.states {
				at := noon.Add(after)
				if got := g.StateAt(at); got != want {
					t.Errorf("after %s: %s, want %s", after, got, want)
				}
				if err := g.Usable(at); (err == nil) != (want == Active) || g.ActiveAt(at) != (want == Active) {
					t.Errorf("after %s: %v", after, err)
				}
				reason, _, ended := g.EndAt(at)
				if ended != (want == Ended) || ended && reason != EndExpired {
					t.Errorf("after %s: end %q %t", after, reason, ended)
				}
			}
			// A grant that was not used in its window is not started later.
			if tt.use < 0 {
				wantKind(t, g.Activate(g.ActivateBy), ErrDenied)
				if !g.Start.IsZero() {
					t.Error("it started all the same")
				}
			}
		})
	}
	var none *Grant
	if none.ActiveAt(noon) {
		t.Error("no grant is active")
	}
}

func TestGrantEndsOneWay(t *testing.T) {
	ends := map[string]func(g *Grant, t time.Time) error{
		"release":   func(g *Grant, t time.Time) error { return g.Release(holder, "", t) },
		"revoke":    func(g *Grant, t time.Time) error { return g.Revoke(other, "INC-7 wrong host", t) },
		"supersede": func(g *Grant, t time.Time) error { return g.Supersede(other, t) },
	}
	reasons := map[string]EndReason{"release": EndReleased, "revoke": EndRevoked, "supersede": EndSuperseded}
	for first, end := range ends {
		for second, again := range ends {
			t.Run(first+" then "+second, func(t *testing.T) {
				g := newTestGrant(time.Time{})
				at := noon.Add(10 * time.Minute)
				if err := g.Activate(noon); err != nil {
					t.Fatal(err)
				}
				if err := end(g, at); err != nil {
					t.Fatal(err)
				}
				was := *g
				wantKind(t, again(g, at.Add(time.Second)), ErrConflict)
				wantKind(t, g.Activate(at), ErrDenied)
				wantKind(t, g.Extend(time.Minute, MaxDuration, at), ErrDenied)
				if g.EndReason != was.EndReason || !g.EndedAt.Equal(at) || g.EndReason != reasons[first] || g.End != was.End {
					t.Errorf("it ended %s at %s", g.EndReason, g.EndedAt)
				}
				// Not even at a time before it was ended: a clock that goes back revives nothing.
				for _, d := range []time.Duration{-time.Hour, 0, 30 * time.Minute, 100 * time.Hour} {
					if g.ActiveAt(at.Add(d)) {
						t.Errorf("active at %s", at.Add(d))
					}
				}
			})
		}
		t.Run(first+" after expiry", func(t *testing.T) {
			g := newTestGrant(time.Time{})
			wantKind(t, end(g, g.End), ErrConflict)
			if reason, _, _ := g.EndAt(g.End); reason != EndExpired {
				t.Errorf("it ended %s", reason)
			}
		})
	}
	t.Run("only the holder releases", func(t *testing.T) {
		g := newTestGrant(time.Time{})
		wantKind(t, g.Release(other, "", noon), ErrDenied)
		wantKind(t, g.Revoke(other, " ", noon), ErrInvalid)
		if !g.ActiveAt(noon) {
			t.Error("a refused end ended it")
		}
	})
}

func TestExtend(t *testing.T) {
	const h = time.Hour
	for _, tt := range []struct {
		name    string
		by, max time.Duration
		kind    error
	}{
		{"within the longest", h, 3 * h, nil}, {"exactly the longest", h, 2 * h, nil}, {"a second more", h + time.Second, 2 * h, ErrDenied},
		{"nothing", 0, 2 * h, ErrInvalid}, {"less", -h, 2 * h, ErrInvalid}, {"a fraction", time.Millisecond, 2 * h, ErrInvalid},
		{"for ever", 1<<63 - 1, 1<<63 - 1, ErrInvalid}, {"the role gives nothing now", h, 0, ErrDenied},
	} {
		for _, used := range []bool{false, true} {
			g := newTestGrant(time.Time{})
			if used {
				if err := g.Activate(noon); err != nil {
					t.Fatal(err)
				}
			}
			was := *g
			err := g.Extend(tt.by, tt.max, noon.Add(time.Minute))
			if tt.kind != nil {
				wantKind(t, err, tt.kind)
				if g.Duration != was.Duration || g.End != was.End {
					t.Errorf("%s: refused, but changed", tt.name)
				}
				continue
			}
			if err != nil || g.Duration != was.Duration+tt.by {
				t.Errorf("%s: %s, %v", tt.name, g.Duration, err)
			}
			// Before the first use it is the window that ends, and it stays.
			if want := was.End.Add(tt.by); used && !g.End.Equal(want) || !used && !g.End.Equal(was.End) {
				t.Errorf("%s, used %t: ends at %s", tt.name, used, g.End)
			}
		}
	}
}

// Random moves of random people at times that only go on: whatever was
// done, the facts of a request and its grant hold together.
func TestLifeInvariants(t *testing.T) {
	const longest = 3 * time.Hour
	reached := map[string]int{}
	// Long lives, so that some get as far as to be used and extended.
	steps := flag.Lookup("rapid.steps")
	before := steps.Value.String()
	defer func() { _ = steps.Value.Set(before) }()
	if err := steps.Value.Set("120"); err != nil {
		t.Fatal(err)
	}
	live := func(t *rapid.T) {
		now := noon
		people := []User{{ID: "u0", Name: "alice"}, {ID: "u1", Name: "bob"}, {ID: "u2", Name: "carol"}, {ID: "u3", Name: "ci", Bot: true}}
		groups := map[string][]string{}
		for _, u := range people {
			groups[u.ID] = []string{"approvers"}
		}
		now2groups := func(a *Approval) []string { return groups[a.UserID] }
		r := Request{
			ID: "REQ-1", RequesterID: "u0", RequesterName: "alice", State: Pending, CreatedAt: now, ExpiresAt: now.Add(15 * time.Minute), Duration: time.Hour,
			Needs: []Need{{Count: rapid.IntRange(1, 2).Draw(t, "needed"), Groups: []string{"approvers"}}},
		}
		if rapid.Bool().Draw(t, "scheduled") {
			r.Start = now.Add(time.Duration(rapid.IntRange(1, 120).Draw(t, "start")) * time.Minute)
		}
		var g *Grant
		var endedAs EndReason
		var firstUse time.Time
		terminal := RequestState("")
		who := rapid.SampledFrom(people)
		ended := func(err error) {
			if err == nil {
				endedAs = g.EndReason
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 5400).Draw(t, "seconds")) * time.Second / time.Duration(rapid.SampledFrom([]int{1, 60}).Draw(t, "scale")))
			},
			"approve": func(t *rapid.T) {
				u := who.Draw(t, "who")
				a := Approval{UserID: u.ID, UserName: u.Name, Groups: groups[u.ID], Digest: r.Digest(), At: now, Duration: time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute}
				done, err := r.Approve(a, u.Bot, now2groups)
				if err == nil && (u.Bot || u.ID == "u0" || a.Duration > r.Duration) {
					t.Fatalf("the vote %+v was taken", a)
				}
				if done {
					g = NewGrant(&r, now, 4*time.Hour)
					reached["approved"]++
				}
			},
			"edit": func(*rapid.T) {
				if r.State == Pending && rapid.IntRange(0, 5).Draw(t, "rarely") == 0 {
					r.TargetAddress += "x"
				}
			},
			"join or leave": func(t *rapid.T) {
				u := who.Draw(t, "who")
				groups[u.ID] = map[bool][]string{true: {"approvers"}, false: nil}[rapid.Bool().Draw(t, "in")]
			},
			"deny": func(t *rapid.T) {
				u := who.Draw(t, "who")
				_, _ = r.Deny(Approval{UserID: u.ID, UserName: u.Name, Comment: "no", At: now}, u.Bot)
			},
			"cancel": func(t *rapid.T) { _ = r.Cancel(who.Draw(t, "who"), now) },
			"use": func(*rapid.T) {
				if g != nil && g.Activate(now) == nil && firstUse.IsZero() {
					firstUse = now
					reached["used"]++
				}
			},
			"extend": func(t *rapid.T) {
				if g != nil && g.Extend(time.Duration(rapid.IntRange(-1, 120).Draw(t, "minutes"))*time.Minute, longest, now) == nil {
					reached["extended"]++
				}
			},
			"release": func(t *rapid.T) {
				if u := who.Draw(t, "who"); g != nil {
					ended(g.Release(u, "", now))
				}
			},
			"revoke": func(t *rapid.T) {
				if u := who.Draw(t, "who"); g != nil && rapid.IntRange(0, 3).Draw(t, "rarely") == 0 {
					ended(g.Revoke(u, "INC-1", now))
				}
			},
			"": func(t *rapid.T) {
				state := r.StateAt(now)
				if terminal != "" && state != terminal {
					t.Fatalf("%s became %s", terminal, state)
				}
				if state != Pending {
					terminal = state
				}
				if (g != nil) != (state == Approved) {
					t.Fatalf("a request that is %s has grant = %t", state, g != nil)
				}
				if g == nil {
					return
				}
				persons := map[string]bool{}
				for _, a := range r.Approvals {
					if a.Digest == g.Digest && a.UserID != r.RequesterID {
						persons[a.UserID] = true
					}
				}
				if len(persons) < r.Needs[0].Count {
					t.Fatalf("approved by %d persons, %d are needed", len(persons), r.Needs[0].Count)
				}
				if g.ActiveAt(now) && (!now.Before(g.End) || now.Before(g.NotBefore) || endedAs != "") {
					t.Fatalf("active at %s: from %s to %s, ended %q", now, g.NotBefore, g.End, endedAs)
				}
				if g.Duration > longest || !firstUse.IsZero() && g.End.Sub(firstUse) > longest {
					t.Fatalf("it lasts %s", g.Duration)
				}
				if firstUse.IsZero() != g.Start.IsZero() || !g.Start.Equal(firstUse) {
					t.Fatalf("started at %s, first used at %s", g.Start, firstUse)
				}
				if reason, _, over := g.EndAt(now); endedAs != "" && (!over || reason != endedAs) {
					t.Fatalf("ended %q, now %q", endedAs, reason)
				}
			},
		})
	}
	// Lives are random, and extensions are rare in them.
	for round := 0; round < 20 && (round == 0 || reached["extended"] == 0) && !t.Failed(); round++ {
		rapid.Check(t, live)
	}
	for _, what := range []string{"approved", "used", "extended"} {
		if reached[what] == 0 {
			t.Errorf("no sequence was ever %s", what)
		}
	}
}

func TestGrantPause(t *testing.T) {
	g := &Grant{ID: "GRA-0", UserID: holder.ID, NotBefore: noon, End: noon.Add(time.Hour), Duration: time.Hour}
	wantKind := func(err, kind error) {
		t.Helper()
		if !errors.Is(err, kind) {
			t.Errorf("got %v, want one that is %v", err, kind)
		}
	}
	wantKind(g.Pause(holder, noon), ErrDenied)
	wantKind(g.Resume(other), ErrConflict)
	wantKind(g.Pause(other, noon.Add(2*time.Hour)), ErrConflict)
	if err := g.Pause(other, noon); err != nil {
		t.Fatal(err)
	}
	wantKind(g.Pause(other, noon), ErrConflict)
	wantKind(g.Activate(noon), ErrDenied)
	if !g.Start.IsZero() {
		t.Error("the clock has started")
	}
	wantKind(g.Resume(holder), ErrDenied)
	if err := g.Resume(other); err != nil {
		t.Fatal(err)
	}
	if err := g.Activate(noon); err != nil {
		t.Error(err)
	}
}
