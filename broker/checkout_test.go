package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// lends lets engineers see the secret of root@db01 under these rules, which is a
// password, and approvers see who has it.
func (h *house) lends(checkout string) {
	h.t.Helper()
	h.keep(access.CredentialPassword, aPassword)
	h.setRole("engineers", func(r *access.Role) {
		r.Rules[0].Session.Checkout = checkout
		if checkout != "" && !slices.Contains(r.Rules[0].Actions, "checkout") {
			r.Rules[0].Actions = append(r.Rules[0].Actions, "checkout")
		}
	})
}

// manage has the server change the password of root@db01.
func (h *house) manage() {
	h.t.Helper()
	ok(h.t, h.ManageAccount(h.t.Context(), h.as("root"), "db01", "root", "", access.Managed{}, nil))
	h.rotated()
}

// rotated says that the password of root@db01 was changed, which is not its test.
func (h *house) rotated() {
	h.t.Helper()
	id := h.rotation("db01", "root").ID
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		r, err := tx.Rotation(h.t.Context(), id)
		ok(h.t, err)
		r.Did(true, false, 0, tx.Now())
		ok(h.t, tx.PasswordUnseen(h.t.Context(), id, tx.Now()))
		return audit.Event{Actor: "system", Action: "house.furnish"}, tx.SaveRotation(h.t.Context(), &r)
	}))
}

// shown checks the secret out and returns its lease.
func (h *house) shown(who string, c broker.Case) access.Lease {
	h.t.Helper()
	l, loan, err := h.Checkout(h.t.Context(), h.as(who), c.Request.ID, "")
	ok(h.t, err)
	if got := string(loan.Secret.Expose()); got != aPassword {
		h.t.Errorf("shown %q", got)
	}
	loan.Secret.Wipe()
	return l
}

// unseen wants a check-out to be refused with this code.
func (h *house) unseen(who string, c broker.Case, code string) {
	h.t.Helper()
	_, loan, err := h.Checkout(h.t.Context(), h.as(who), c.Request.ID, "")
	refusedWith(h.t, err, code)
	if strings.Trim(string(loan.Secret.Expose()), "\x00") != "" {
		h.t.Error("the refusal came with the secret")
	}
}

// TestCheckout: the secret is shown once, after that is on record, to who may see it;
// meanwhile nobody else uses the account; then it is to be changed.
func TestCheckout(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		before := h.granted()
		h.lends(access.CheckoutManaged)
		h.unseen("alice", before, "DB-6433") // what was approved did not name it
		_, err := h.Release(ctx, h.as("alice"), before.Grant.ID)
		ok(t, err)

		c, other := h.granted(), h.approve("bob", h.ask("erin", "root@db01"))
		h.unseen("alice", c, "DB-6435") // nobody would change it
		h.manage()
		_, _, err = h.Checkout(ctx, h.as("erin"), c.Request.ID, "") // another's
		want(t, err, access.ErrNotFound)
		own := h.session("alice", c)
		n := len(h.events())
		l := h.shown("alice", c)
		e := h.events()[n]
		if e.Action != "secret.checkout" || e.Outcome != audit.Done || e.Request != c.Request.ID || e.Account != "root" || e.Reason != "INC-42 disk full" || e.Details["lease"] != l.ID || e.Details["version"] != strconv.FormatInt(l.Secret, 10) {
			t.Errorf("told %+v", e)
		}
		if !l.Managed || l.UserName != "alice" || l.Secret == 0 || l.Until.Before(own.Grant.End) || l.Source != "198.51.100.7" {
			t.Errorf("lease %+v", l)
		}
		h.unseen("alice", c, "DB-6436")
		h.unseen("erin", other, "DB-6431")
		_, err = h.Open(ctx, h.as("erin"), other.Grant.ID, broker.Opening{Kind: "shell"})
		refusedWith(t, err, "DB-6431")
		goesOn(t, own)
		h.session("alice", c) // and the holder gets another
		if r := h.rotation("db01", "root"); !r.DueAt.IsZero() || !r.HeldUntil.Equal(l.Until) {
			t.Errorf("the rotation %+v does not wait for %s", r, l.Until)
		}
		longer, err := h.Extend(ctx, h.as("alice"), c.Request.ID, 10*time.Minute)
		ok(t, err)
		if l, err = h.db.Lease(ctx, l.ID); err != nil || !l.Until.Equal(longer.Grant.End) || !h.rotation("db01", "root").HeldUntil.Equal(l.Until) {
			t.Errorf("the grant ends at %s, the lease at %s, %v", longer.Grant.End, l.Until, err)
		}

		_, err = h.Checkin(ctx, h.as("erin"), c.Request.ID, "I need it") // may read it as an approver, and may revoke
		ok(t, err)
		if l, err = h.db.Lease(ctx, l.ID); err != nil || l.EndReason != access.EndRevoked || l.EndedBy != "erin" {
			t.Errorf("lease %+v, %v", l, err)
		}
		if r := h.rotation("db01", "root"); r.Cause != access.CauseUse || !r.Changes(h.clock.now()) {
			t.Errorf("the rotation %+v is not due", r)
		}
		h.unseen("alice", c, "DB-6440") // she knows that one still
		h.rotated()
		h.shown("alice", c)
		_, err = h.Checkin(ctx, h.as("alice"), c.Request.ID, "")
		ok(t, err)
		goesOn(t, own)
		_, err = h.Checkin(ctx, h.as("alice"), c.Request.ID, "")
		refusedWith(t, err, "DB-6439")
		_, err = h.Checkin(ctx, h.as("mallory"), c.Request.ID, "")
		want(t, err, access.ErrNotFound)
		h.unkept(aPassword)
	})
}

// TestCheckoutEnds: a lease ends with what it was lent under, whatever ends that, and
// the secret is to be changed at once.
func TestCheckoutEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(h *house, c broker.Case) error
		why  access.EndReason
	}{
		{"checked in", func(h *house, c broker.Case) error {
			_, err := h.Checkin(context.Background(), h.as("alice"), c.Request.ID, "")
			return err
		}, access.EndCheckedIn},
		{"released", func(h *house, c broker.Case) error {
			_, err := h.Release(context.Background(), h.as("alice"), c.Request.ID)
			return err
		}, access.EndReleased},
		{"revoked", func(h *house, c broker.Case) error {
			_, err := h.Revoke(context.Background(), h.as("bob"), c.Request.ID, "INC-1")
			return err
		}, access.EndRevoked},
		{"user locked", func(h *house, c broker.Case) error {
			return h.LockUser(context.Background(), h.as("root"), "alice", true, "INC-1")
		}, access.EndLocked},
		{"target locked", func(h *house, c broker.Case) error {
			return h.LockTarget(context.Background(), h.as("root"), "db01", true, "INC-1")
		}, access.EndLocked},
		{"expired", func(h *house, c broker.Case) error {
			h.clock.advance(3 * time.Hour)
			h.start()
			return nil
		}, access.EndExpired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, h *house) {
				h.lends(access.CheckoutManaged)
				h.manage()
				c := h.granted()
				l := h.shown("alice", c)
				ok(t, tt.end(h, c))
				eventually(t, "the lease is over", func() bool {
					now, err := h.db.Lease(t.Context(), l.ID)
					return err == nil && now.EndReason == tt.why && !now.ActiveAt(h.clock.now())
				})
				if r := h.rotation("db01", "root"); !r.Changes(h.clock.now()) || (r.Cause != access.CauseUse) != (tt.name == "user locked") {
					t.Errorf("the rotation %+v is not due", r)
				}
				events := 0
				for _, e := range h.events() {
					if e.Action == "secret.checkin" && e.Outcome == audit.Done && e.Details["lease"] == l.ID {
						events++
					}
				}
				if events != 1 {
					t.Errorf("%d events say that the lease is over", events)
				}
			})
		})
	}
}

// TestCheckoutRefused: what would leave a secret in hands in which it must not be.
func TestCheckoutRefused(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.lends(access.CheckoutAny)
		over := h.granted()
		_, err := h.Release(ctx, h.as("alice"), over.Request.ID)
		ok(t, err)
		h.unseen("alice", over, "DB-2006")

		// Approvers take it away, as they do other rights.
		asked := h.ask("alice", "root@db01")
		narrow, err := h.Approve(ctx, h.as("bob"), asked.Request.ID, asked.Request.Digest(), broker.Answer{Narrowing: access.Narrowing{Without: []string{"checkout"}}})
		ok(t, err)
		h.unseen("alice", narrow, "DB-6433")
		_, err = h.Release(ctx, h.as("alice"), narrow.Request.ID)
		ok(t, err)

		// A role that lost it since, and one that wants a fresh second factor.
		c := h.granted()
		h.setRole("engineers", func(r *access.Role) { r.Rules[0].Actions = []string{"request", "extend"} })
		_, _, err = h.Checkout(ctx, h.as("alice"), c.Request.ID, "")
		refusesBy(t, err, "checkout.role", "")
		h.setRole("engineers", func(r *access.Role) {
			r.Rules = append(r.Rules, access.Rule{ID: "see", Actions: []string{"checkout"}, Targets: access.Selector{Names: []string{"db01"}}, Accounts: []string{"root"}, MFAWithin: 5 * time.Minute,
				Session: access.SessionRules{Checkout: access.CheckoutAny}})
		})
		_, _, err = h.Checkout(ctx, h.as("alice"), c.Request.ID, "")
		want(t, err, access.ErrDenied)
		fresh := h.as("alice")
		fresh.MFAAt = h.clock.now().Add(-time.Minute)
		_, loan, err := h.Checkout(ctx, fresh, c.Request.ID, "INC-43 console only")
		ok(t, err)
		loan.Secret.Wipe()
		_, err = h.Checkin(ctx, h.as("alice"), c.Request.ID, "")
		ok(t, err)
		if l := h.session("alice", c); !l.Allowed().Shell {
			t.Error("after a check-out by another rule the grant has lost its shell")
		}
		h.setRules(func(r *access.SessionRules) { r.Checkout = "" })
		_, _, err = h.Checkout(ctx, fresh, c.Request.ID, "")
		refusedWith(t, err, "DB-6433") // the rule that was approved has lost it
		_, err = h.Release(ctx, h.as("alice"), c.Request.ID)
		ok(t, err)
		h.lends(access.CheckoutAny)
		c = h.granted()

		// While others are in the account, and where all eyes are wanted.
		h.setRole("engineers", func(r *access.Role) { r.Rules = r.Rules[:len(r.Rules)-1] })
		h.lends(access.CheckoutAny)
		l := h.session("erin", h.approve("bob", h.ask("erin", "root@db01")))
		h.unseen("alice", c, "DB-6437")
		ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited"}))
		_, err = h.Release(ctx, h.as("alice"), c.Request.ID)
		ok(t, err)
		h.setRules(func(r *access.SessionRules) { r.FourEyes = true })
		h.unseen("alice", h.granted(), "DB-6434")
		h.unseen("alice", h.ask("alice", "guest@db01"), "DB-2103") // a role that does not list it

		// A rule says of which accounts.
		r, err := h.FindRole(ctx, h.as("root"), "engineers")
		ok(t, err)
		r.Rules[0].Session.Checkout = ""
		_, err = h.SetRole(ctx, h.as("root"), r)
		want(t, err, access.ErrInvalid)
	})
}

// TestCheckoutOfManyIsOne: of all who want it at once one gets the secret, whichever
// server they ask, and a session is not opened beside it.
func TestCheckoutOfManyIsOne(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		other := h
		if !strings.HasPrefix(h.url, "sqlite") {
			other = h.another("node2")
		}
		h.lends(access.CheckoutAny)
		alice, erin := h.granted(), h.approve("bob", h.ask("erin", "root@db01"))
		var wg sync.WaitGroup
		got := make([]string, 12)
		for i := range got {
			wg.Go(func() {
				b, who, c := h, "alice", alice
				if i%2 == 1 {
					b, who, c = other, "erin", erin
				}
				if i%3 == 2 {
					l, err := b.Open(context.Background(), b.as(who), c.Grant.ID, broker.Opening{Kind: "shell"})
					if err == nil {
						got[i] = "session of " + who
						_ = l
					}
					return
				}
				_, loan, err := b.Checkout(context.Background(), b.as(who), c.Request.ID, "")
				if err == nil {
					got[i] = "lease of " + who
				}
				loan.Secret.Wipe()
			})
		}
		wg.Wait()
		leases, holder := 0, ""
		for _, s := range got {
			if who, is := strings.CutPrefix(s, "lease of "); is {
				leases, holder = leases+1, who
			}
		}
		if leases > 1 {
			t.Errorf("%d got the secret: %q", leases, got)
		}
		for _, s := range got {
			if who, is := strings.CutPrefix(s, "session of "); is && leases == 1 && who != holder {
				t.Errorf("a session stands beside the lease of another: %q", got)
			}
		}
	})
}

// TestCheckoutAndRevoke: whichever comes first, the secret is not lent at the end, and
// the log says first that it was shown.
func TestCheckoutAndRevoke(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.lends(access.CheckoutManaged)
		h.manage()
		c := h.granted()
		n := len(h.events())
		var wg sync.WaitGroup
		var shown error
		wg.Go(func() {
			var loan broker.Loan
			_, loan, shown = h.Checkout(context.Background(), h.as("alice"), c.Request.ID, "")
			loan.Secret.Wipe()
		})
		wg.Go(func() {
			if _, err := h.Revoke(context.Background(), h.as("bob"), c.Request.ID, "INC-1"); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		list, err := h.db.Leases(t.Context(), store.LeaseFilter{Active: h.clock.now()})
		ok(t, err)
		if len(list) != 0 {
			t.Errorf("still lent: %+v", list)
		}
		var order []string
		for _, e := range h.events()[n:] {
			if e.Outcome == audit.Done {
				order = append(order, e.Action)
			}
		}
		out, in, end := slices.Index(order, "secret.checkout"), slices.Index(order, "secret.checkin"), slices.Index(order, "grant.revoke")
		if shown == nil && (out < 0 || out > end || in < out) || out >= 0 && in < 0 {
			t.Errorf("check-out: %v; the log has %q", shown, order)
		}
	})
}

// TestLeases: who has what is seen by those who may know which secrets there are, and
// of others everybody sees their own.
func TestLeases(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.lends(access.CheckoutAny)
		h.setRole("admins", func(r *access.Role) { r.Rules[0].Actions = append(r.Rules[0].Actions, "secret.read") })
		h.shown("alice", h.granted())
		for _, tt := range []struct {
			who  string
			f    broker.LeaseFilter
			want int
		}{
			{"alice", broker.LeaseFilter{}, 1}, {"bob", broker.LeaseFilter{}, 0}, {"root", broker.LeaseFilter{Active: true}, 1},
			{"root", broker.LeaseFilter{User: "alice", Target: "db01"}, 1}, {"root", broker.LeaseFilter{User: "bob"}, 0}, {"bob", broker.LeaseFilter{User: "alice"}, 0},
			{"alice", broker.LeaseFilter{Target: "db02"}, 0},
		} {
			if list, err := h.Leases(ctx, h.as(tt.who), tt.f); err != nil || len(list) != tt.want {
				t.Errorf("%s sees %+v of %+v, %v", tt.who, list, tt.f, err)
			}
		}
		v, err := h.FindTarget(ctx, h.as("root"), "db01")
		ok(t, err)
		known := func() string {
			list, err := h.db.KnownSecrets(ctx, v.Target.ID, 10)
			ok(t, err)
			return fmt.Sprint(len(list))
		}
		_, err = h.Checkin(ctx, h.as("alice"), h.leased().RequestID, "")
		ok(t, err)
		if known() != "1" {
			t.Error("it is not known who knows the password")
		}
		h.clock.advance(time.Second)
		h.keep(access.CredentialPassword, "another one")
		if known() != "0" {
			t.Error("a password is said to be known that was set anew")
		}
	})
}

// leased is the newest lease.
func (h *house) leased() access.Lease {
	h.t.Helper()
	list, err := h.db.Leases(h.t.Context(), store.LeaseFilter{Limit: 1})
	ok(h.t, err)
	return list[0]
}

// regranted gives alice what she has once more, as the roles are now.
func (s *scene) regranted() broker.Case {
	s.t.Helper()
	_, err := s.Release(s.t.Context(), s.as("alice"), s.granted.Request.ID)
	ok(s.t, err)
	return s.house.granted()
}
