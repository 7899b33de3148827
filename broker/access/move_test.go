package access

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// noon is when the tests of this package take place.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func wantKind(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error = %v, want one that is %v", err, kind)
	}
}

// Every pair of states, written out a second time and in another form.
func TestRequestMoves(t *testing.T) {
	states := []RequestState{Pending, Approved, Denied, Cancelled, Expired, "", "unknown"}
	allowed := []string{"pending>approved", "pending>denied", "pending>cancelled"}
	for _, from := range states {
		for _, to := range states {
			t.Run(string(from)+">"+string(to), func(t *testing.T) {
				r := Request{ID: "REQ-1", State: from, ExpiresAt: noon.Add(time.Minute)}
				before := r
				err := r.move(to, noon)
				if slices.Contains(allowed, string(from)+">"+string(to)) {
					if err != nil || r.State != to || !r.DecidedAt.Equal(noon) {
						t.Errorf("state %s at %s, %v", r.State, r.DecidedAt, err)
					}
					return
				}
				wantKind(t, err, ErrConflict)
				if r.State != before.State || !r.DecidedAt.IsZero() {
					t.Errorf("a refused move changed the request to %s", r.State)
				}
			})
		}
	}
}

// A pending request moves until its deadline and not at it.
func TestExpiredRequestDoesNotMove(t *testing.T) {
	for _, tt := range []struct {
		name string
		at   time.Time
		want RequestState
	}{
		{"long before", noon.Add(-time.Hour), Pending},
		{"a nanosecond before", noon.Add(-1), Pending},
		{"at the deadline", noon, Expired},
		{"after it", noon.Add(time.Hour), Expired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Request{ID: "REQ-1", RequesterID: "a", State: Pending, ExpiresAt: noon}
			if got := r.StateAt(tt.at); got != tt.want {
				t.Errorf("state %s, want %s", got, tt.want)
			}
			err := r.Cancel(User{ID: "a", Name: "alice"}, tt.at)
			if (err == nil) != (tt.want == Pending) {
				t.Errorf("cancel: %v", err)
			}
			// What was decided in time stays what it is for ever.
			if err == nil && r.StateAt(noon.Add(time.Hour)) != Cancelled {
				t.Errorf("later it is %s", r.StateAt(noon.Add(time.Hour)))
			}
		})
	}
}

func TestSessionMoves(t *testing.T) {
	states := []SessionState{Opening, Open, Closed, "", "unknown"}
	allowed := []string{"opening>open", "opening>closed", "open>closed"}
	for _, from := range states {
		for _, to := range states {
			s := Session{ID: "SES-1", State: from}
			err := s.Move(to)
			if slices.Contains(allowed, string(from)+">"+string(to)) {
				if err != nil || s.State != to {
					t.Errorf("%s>%s: %s, %v", from, to, s.State, err)
				}
			} else if !errors.Is(err, ErrConflict) || s.State != from {
				t.Errorf("%s>%s: became %s, %v", from, to, s.State, err)
			}
		}
	}
}

func TestDecisions(t *testing.T) {
	alice, bob, bot := User{ID: "a", Name: "alice"}, User{ID: "b", Name: "bob"}, User{ID: "x", Name: "ci"}
	base := Request{ID: "REQ-1", RequesterID: alice.ID, State: Pending, ExpiresAt: noon.Add(time.Minute), Duration: time.Hour, Needs: []Need{{Count: 1, Groups: []string{"approvers"}}}}
	approver := func(*Approval) []string { return []string{"approvers"} }
	vote := func(r *Request, by User) Approval {
		return Approval{UserID: by.ID, UserName: by.Name, Groups: []string{"approvers"}, Digest: r.Digest(), At: noon}
	}
	deny := func(r *Request, by User, why string) error {
		_, err := r.Deny(Approval{UserID: by.ID, UserName: by.Name, Comment: why, At: noon}, false)
		return err
	}
	for _, tt := range []struct {
		name string
		do   func(r *Request) error
		kind error
		want RequestState
	}{
		{"approve", func(r *Request) error { _, err := r.Approve(vote(r, bob), false, approver); return err }, nil, Approved},
		{"approve one's own", func(r *Request) error { _, err := r.Approve(vote(r, alice), false, approver); return err }, ErrDenied, Pending},
		{"approve as a bot", func(r *Request) error { _, err := r.Approve(vote(r, bot), true, approver); return err }, ErrDenied, Pending},
		{"approve without the group", func(r *Request) error {
			a := vote(r, bob)
			a.Groups = []string{"others"}
			_, err := r.Approve(a, false, approver)
			return err
		}, ErrConflict, Pending},
		{"approve something else", func(r *Request) error {
			a := vote(r, bob)
			r.TargetAddress = "elsewhere:22"
			_, err := r.Approve(a, false, approver)
			return err
		}, ErrConflict, Pending},
		{"approve without a digest", func(r *Request) error {
			a := vote(r, bob)
			a.Digest = ""
			_, err := r.Approve(a, false, approver)
			return err
		}, ErrConflict, Pending},
		{"approve for longer", func(r *Request) error {
			a := vote(r, bob)
			a.Duration = time.Hour + time.Second
			_, err := r.Approve(a, false, approver)
			return err
		}, ErrInvalid, Pending},
		{"approve for less than nothing", func(r *Request) error {
			a := vote(r, bob)
			a.Duration = -time.Second
			_, err := r.Approve(a, false, approver)
			return err
		}, ErrInvalid, Pending},
		{"approve with a hidden comment", func(r *Request) error {
			a := vote(r, bob)
			a.Comment = "yes\u202e"
			_, err := r.Approve(a, false, approver)
			return err
		}, ErrInvalid, Pending},
		{"approve too late", func(r *Request) error {
			a := vote(r, bob)
			a.At = r.ExpiresAt
			_, err := r.Approve(a, false, approver)
			return err
		}, ErrConflict, Pending},
		{"admit what needs approval", func(r *Request) error { return r.Admit(noon) }, ErrDenied, Pending},
		{"admit what needs none", func(r *Request) error { r.Needs = nil; return r.Admit(noon) }, nil, Approved},
		{"admit in an emergency", func(r *Request) error { r.BreakGlass = true; return r.Admit(noon) }, nil, Approved},
		{"deny", func(r *Request) error { return deny(r, bob, "not today") }, nil, Denied},
		{"deny without a word", func(r *Request) error { return deny(r, bob, "") }, ErrInvalid, Pending},
		{"deny one's own", func(r *Request) error { return deny(r, alice, "changed my mind") }, ErrDenied, Pending},
		{"cancel", func(r *Request) error { return r.Cancel(alice, noon) }, nil, Cancelled},
		{"cancel another's", func(r *Request) error { return r.Cancel(bob, noon) }, ErrDenied, Pending},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := base
			err := tt.do(&r)
			if tt.kind == nil && err != nil {
				t.Fatal(err)
			}
			if tt.kind != nil {
				wantKind(t, err, tt.kind)
				if len(r.Approvals) != 0 {
					t.Error("a refused vote was kept")
				}
			}
			if r.State != tt.want {
				t.Errorf("state %s, want %s", r.State, tt.want)
			}
		})
	}

	t.Run("one person counts once", func(t *testing.T) {
		r := base
		r.Needs = []Need{{Count: 2, Groups: []string{"approvers"}}}
		if done, err := r.Approve(vote(&r, bob), false, approver); done || err != nil {
			t.Fatal(done, err)
		}
		_, err := r.Approve(vote(&r, bob), false, approver)
		wantKind(t, err, ErrConflict)
		if r.State != Pending || len(r.Approvals) != 1 {
			t.Errorf("%s with %d votes", r.State, len(r.Approvals))
		}
		if done, err := r.Approve(vote(&r, User{ID: "d"}), false, approver); !done || err != nil {
			t.Fatal(done, err)
		}
	})
	t.Run("the shortest answer counts", func(t *testing.T) {
		r := base
		r.Needs = []Need{{Count: 2, Groups: []string{"approvers"}}}
		for i, d := range []time.Duration{20 * time.Minute, 40 * time.Minute} {
			a := vote(&r, User{ID: string(rune('p' + i))})
			a.Duration = d
			if _, err := r.Approve(a, false, approver); err != nil {
				t.Fatal(err)
			}
		}
		if got := NewGrant(&r, noon, time.Hour).Duration; got != 20*time.Minute {
			t.Errorf("granted %s", got)
		}
	})
}
