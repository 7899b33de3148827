package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// together runs the functions at once and returns their errors in order.
func together(calls ...func() error) []error {
	errs := make([]error, len(calls))
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() {
			<-begin
			errs[i] = call()
		})
	}
	close(begin)
	wg.Wait()
	return errs
}

// count is how many events of this action and outcome there are from n on.
func (h *house) count(n int, action string, outcome audit.Outcome) int {
	h.t.Helper()
	k := 0
	for _, e := range h.events()[n:] {
		if e.Action == action && e.Outcome == outcome {
			k++
		}
	}
	return k
}

func TestOnePersonManyVotes(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		c, by := h.ask("alice", "root@db02"), h.as("bob")
		var calls []func() error
		for range 20 {
			calls = append(calls, func() error {
				_, err := h.Approve(t.Context(), by, c.Request.ID, c.Request.Digest(), broker.Answer{})
				return err
			})
		}
		taken := 0
		for _, err := range together(calls...) {
			if err == nil {
				taken++
			} else if !errors.Is(err, access.ErrConflict) && !errors.Is(err, access.ErrDenied) {
				t.Errorf("%v", err)
			}
		}
		r, err := h.db.Request(t.Context(), c.Request.ID)
		ok(t, err)
		if taken != 1 || len(r.Approvals) != 1 || r.State != access.Pending {
			t.Errorf("%d votes taken, %d kept, it is %s", taken, len(r.Approvals), r.State)
		}
		if n := h.count(0, "request.approve", audit.Done); n != 1 {
			t.Errorf("%d votes told", n)
		}
	})
}

func TestTwoApproversAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		for i := range 10 {
			a := asking("root@db02")
			a.Reason = fmt.Sprintf("INC-%d", i)
			c, err := h.Request(t.Context(), h.as("alice"), a)
			ok(t, err)
			bob, dave := h.as("bob"), h.as("dave")
			vote := func(by access.Caller) func() error {
				return func() error {
					_, err := h.Approve(t.Context(), by, c.Request.ID, c.Request.Digest(), broker.Answer{})
					return err
				}
			}
			ok(t, errors.Join(together(vote(bob), vote(dave))...))
			g, err := h.db.Grant(t.Context(), c.Request.ID)
			ok(t, err)
			_, err = h.Revoke(t.Context(), bob, g.ID, "INC-1")
			ok(t, err)
		}
		if n := h.count(0, "grant.open", audit.Done); n != 10 {
			t.Errorf("%d grants of 10 requests", n)
		}
	})
}

// Approve against everything that also ends a request: one of them is first,
// and there is a grant only if that was the approval of enough people.
func TestDecisionRaces(t *testing.T) {
	rounds := map[string]int{"sqlite": 40, "postgres": 20}
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			h := newHouse(t, e.url(t))
			other := h.another("node2")
			ctx := t.Context()
			outcomes := map[access.RequestState]int{}
			for i := range rounds[e.name] {
				a := asking("root@db01")
				a.Reason = fmt.Sprintf("INC-%d", i)
				c, err := h.Request(ctx, h.as("alice"), a)
				ok(t, err)
				id, digest := c.Request.ID, c.Request.Digest()
				alice, bob, dave := h.as("alice"), h.as("bob"), h.as("dave")
				start := len(h.events())
				calls := []func() error{
					func() error { _, err := h.Approve(ctx, bob, id, digest, broker.Answer{}); return err },
					func() error { _, err := other.Approve(ctx, dave, id, digest, broker.Answer{}); return err },
					func() error { _, err := other.Cancel(ctx, alice, id); return err },
					func() error { _, err := h.Deny(ctx, dave, id, "", "no"); return err },
				}
				if i%4 == 1 { // the request is changed below the approvers
					calls = append(calls, func() error {
						return h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
							r, err := tx.Request(ctx, id)
							if err != nil || r.State != access.Pending {
								return audit.Event{Actor: "test", Action: "request.edit"}, errors.Join(err, access.ErrConflict)
							}
							r.TargetAddress = "203.0.113.66:22"
							return audit.Event{Actor: "test", Action: "request.edit"}, tx.SaveRequest(ctx, &r)
						})
					})
				}
				if i%4 == 2 { // an approver goes
					calls = append(calls, func() error {
						return h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
							u, err := tx.User(ctx, "bob")
							u.Groups = nil
							return audit.Event{Actor: "test", Action: "user.edit"}, errors.Join(err, tx.SaveUser(ctx, &u))
						})
					})
				}
				if i%4 == 3 { // and time goes
					calls = append(calls, func() error { h.clock.advance(15 * time.Minute); return nil })
				}
				for n, err := range together(calls...) {
					// Who began before the clock leapt and ends after another is refused: to
					// the log it is a clock that was set back.
					leapt := i%4 == 3 && errors.Is(err, access.ErrUnavailable)
					if err != nil && !leapt && !errors.Is(err, access.ErrConflict) && !errors.Is(err, access.ErrDenied) && !errors.Is(err, access.ErrNotFound) {
						t.Errorf("round %d, call %d: %v", i, n, err)
					}
				}
				r, err := h.db.Request(ctx, id)
				ok(t, err)
				state := r.StateAt(h.clock.now())
				outcomes[state]++
				decided := h.count(start, "request.cancel", audit.Done) + h.count(start, "request.deny", audit.Done) + h.count(start, "grant.open", audit.Done)
				if state == access.Pending && i%4 != 1 && i%4 != 2 || decided > 1 || (decided == 1) != (r.State != access.Pending) {
					t.Errorf("round %d: it is %s after %d decisions: %v", i, state, decided, h.told(start))
				}
				g, err := h.db.Grant(ctx, id)
				if (err == nil) != (r.State == access.Approved) {
					t.Errorf("round %d: it is %s, its grant %v", i, r.State, err)
				}
				if err == nil {
					persons := map[string]bool{}
					for _, a := range r.Approvals {
						if a.Digest == g.Digest && a.UserID != r.RequesterID {
							persons[a.UserID] = true
						}
					}
					if len(persons) < 1 || g.Digest != r.Digest() {
						t.Errorf("round %d: a grant with the votes of %d persons for what it is", i, len(persons))
					}
					_, err := h.Release(ctx, alice, g.ID)
					ok(t, err)
				}
				h.setGroups("bob", "approvers")
				if state == access.Pending {
					_, err := h.Cancel(ctx, alice, id)
					ok(t, err)
				}
			}
			t.Logf("%v", outcomes)
		})
	}
}

// One asks twenty times at once: one request, and the cap holds.
func TestAskAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		by := h.as("alice")
		var calls []func() error
		for range 20 {
			calls = append(calls, func() error { _, err := h.Request(t.Context(), by, asking("root@db01")); return err })
		}
		ok(t, errors.Join(together(calls...)...))
		if n := h.count(0, "request.create", audit.Done); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// Open against revoke: whichever is first, no session lives on.
func TestOpenAgainstRevoke(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.start()
		opened := 0
		for range 10 {
			c := h.granted()
			alice, bob := h.as("alice"), h.as("bob")
			var l *broker.Live
			errs := together(
				func() (err error) {
					l, err = h.Open(t.Context(), alice, c.Grant.ID, broker.Opening{Kind: "shell"})
					return err
				},
				func() error { _, err := h.Revoke(t.Context(), bob, c.Request.ID, "INC-1"); return err },
			)
			ok(t, errs[1])
			if errs[0] != nil {
				want(t, errs[0], access.ErrDenied)
				continue
			}
			opened++
			ends(t, l, broker.ErrRevoked)
			ok(t, h.Close(t.Context(), l, broker.Closing{Reason: "revoked"}))
		}
		if n := h.liveSessions(); n != 0 {
			t.Errorf("%d sessions live on", n)
		}
		t.Logf("%d of 10 were opened first", opened)
	})
}

// Verbs of two people on one grant, one by the grant's id and one by the
// request's, do not wait for each other in a circle.
func TestGrantByEitherID(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			url := e.url(t)
			if e.name == "postgres" {
				url += "?deadlock_timeout=5min" // it does not find out before the test does
			}
			testGrantByEitherID(t, newHouse(t, url))
		})
	}
}

func testGrantByEitherID(t *testing.T, h *house) {
	alice, bob := h.as("alice"), h.as("bob")
	slowest := time.Duration(0)
	for range 15 {
		c := h.granted()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		errs := together(
			func() error { _, err := h.Extend(ctx, alice, c.Grant.ID, time.Minute); return err },
			func() error { _, err := h.Revoke(ctx, bob, c.Request.ID, "INC-1"); return err },
		)
		cancel()
		slowest = max(slowest, time.Since(start))
		ok(t, errs[1])
		if errs[0] != nil {
			want(t, errs[0], access.ErrDenied)
		}
	}
	t.Logf("the slowest pair took %s", slowest)
}

// Two administrators lock each other at once: one stays.
func TestLastAdministratorRace(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		for range 5 {
			h.setGroups("mallory", "admins")
			root, mallory := h.as("root"), h.as("mallory")
			errs := together(
				func() error { return h.LockUser(t.Context(), root, "mallory", true, "INC-1") },
				func() error { return h.LockUser(t.Context(), mallory, "root", true, "INC-1") },
			)
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Errorf("%v, %v", errs[0], errs[1])
			}
			if h.user("root").Locked && h.user("mallory").Locked {
				t.Fatal("no administrator is left")
			}
			for _, name := range []string{"root", "mallory"} {
				h.setUser(name, func(u *access.User) { u.Locked = false })
			}
		}
	})
}
