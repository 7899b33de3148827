package broker_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// makes has db01 make its account root for each grant.
func (h *house) makes(change func(*access.Target)) {
	h.t.Helper()
	ok(h.t, h.db.Change(h.t.Context(), func(tx *store.Tx) (audit.Event, error) {
		t, err := tx.Target(h.t.Context(), "db01")
		ok(h.t, err)
		t.Provisioner = "ops"
		t.Accounts[0].Made = &access.AccountTemplate{Prefix: "jit-", Groups: []string{"adm"}}
		if change != nil {
			change(&t)
		}
		ok(h.t, t.Validate())
		return audit.Event{Actor: "system", Action: "target.set", Object: t.ID}, tx.SaveTarget(h.t.Context(), &t)
	}))
}

// TestStepsOnce: of many who begin the same step on two servers, one does.
func TestStepsOnce(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.makes(nil)
		c := h.granted()
		l := h.session("alice", c)
		if l.Login != "jit-alice" || !l.MadeAccount() {
			t.Errorf("login %q", l.Login)
		}
		_, err := h.Credential(t.Context(), l, newKey(t))
		want(t, err, access.ErrUnavailable)
		_, err = h.BeginRemoval(t.Context(), c.Grant.ID)
		want(t, err, access.ErrConflict) // its grant holds
		both := []*house{h, h.another("node2")}
		begin := func(begin func(*broker.Broker) (broker.Step, error)) broker.Step {
			t.Helper()
			var n atomic.Int64
			var won atomic.Pointer[broker.Step]
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					s, err := begin(both[i%2].Broker)
					if err == nil {
						n.Add(1)
						won.Store(&s)
					} else if !errors.Is(err, access.ErrConflict) {
						t.Errorf("%v", err)
					}
				})
			}
			all.Wait()
			if n.Load() != 1 {
				t.Fatalf("%d began the step", n.Load())
			}
			return *won.Load()
		}
		s := begin(func(b *broker.Broker) (broker.Step, error) { return b.BeginCreation(t.Context(), c.Grant.ID) })
		ok(t, h.StepDone(t.Context(), s, nil))
		want(t, h.StepDone(t.Context(), s, nil), access.ErrConflict) // twice
		_, err = h.Credential(t.Context(), l, newKey(t))
		ok(t, err)
		_, err = h.Release(t.Context(), h.as("alice"), c.Grant.ID)
		ok(t, err)
		if due, err := h.DueAccounts(t.Context(), 10); err != nil || len(due) != 1 {
			t.Errorf("due %+v, %v", due, err)
		}
		s = begin(func(b *broker.Broker) (broker.Step, error) { return b.BeginRemoval(t.Context(), s.Provision.ID) })
		if due, err := h.DueAccounts(t.Context(), 10); err != nil || len(due) != 0 {
			t.Errorf("due while it is done: %+v, %v", due, err)
		}
		want(t, h.GiveUpAccount(t.Context(), h.as("root"), s.Provision.ID, "gone"), access.ErrConflict) // it has not failed
		ok(t, h.StepFailed(t.Context(), s, "away"))
		want(t, h.StepDone(t.Context(), s, nil), access.ErrConflict)
		_, err = h.BeginRemoval(t.Context(), s.Provision.ID)
		want(t, err, access.ErrConflict) // not so soon
		h.clock.advance(time.Minute)
		if due, err := h.DueAccounts(t.Context(), 10); err != nil || len(due) != 1 {
			t.Errorf("due again %+v, %v", due, err)
		}
		ok(t, h.GiveUpAccount(t.Context(), h.as("root"), s.Provision.ID, "the machine is scrapped"))
		if list, err := h.MadeAccounts(t.Context(), h.as("root")); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// TestAbandonSteps: what a server had begun when it died is free at once after
// its start, and what another server is at is not.
func TestAbandonSteps(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.makes(nil)
		c := h.granted()
		h.session("alice", c)
		lost, err := h.BeginCreation(t.Context(), c.Grant.ID)
		ok(t, err)
		ok(t, h.another("node2").AbandonSteps(t.Context()))
		_, err = h.BeginCreation(t.Context(), c.Grant.ID)
		want(t, err, access.ErrConflict)
		ok(t, h.AbandonSteps(t.Context()))
		_, err = h.BeginCreation(t.Context(), c.Grant.ID)
		ok(t, err)
		want(t, h.StepDone(t.Context(), lost, nil), access.ErrConflict)
	})
}

// TestMadeAccountsAreSeen by their holder and by who may read the target.
func TestMadeAccountsAreSeen(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.makes(nil)
	h.session("alice", h.granted())
	for who, n := range map[string]int{"alice": 1, "root": 1, "bob": 0, "mallory": 0} {
		if list, err := h.MadeAccounts(t.Context(), h.as(who)); err != nil || len(list) != n {
			t.Errorf("%s sees %+v, %v", who, list, err)
		}
	}
}

// TestTemplateIsApproved: another template is not what was approved, before the
// first use and in the middle.
func TestTemplateIsApproved(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.makes(nil)
	h.start()
	c := h.granted()
	l := h.session("alice", c)
	h.makes(func(t *access.Target) { t.Accounts[0].Made.Sudo = []string{"ALL=(ALL) ALL"} })
	select {
	case <-l.Context().Done():
	case <-time.After(soon):
		t.Error("the session goes on")
	}
	_, err := h.Open(t.Context(), h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"})
	want(t, err, access.ErrDenied)
	_, err = h.BeginCreation(t.Context(), c.Grant.ID)
	want(t, err, access.ErrDenied)
}

// TestRemovedWhereItWasMade: the register may say something else by now.
func TestRemovedWhereItWasMade(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*access.Target)
		now    bool // the register's word counts
	}{
		"the same keys at another address": {func(t *access.Target) { t.Address = "192.0.2.77:22" }, true},
		"another machine":                  {func(t *access.Target) { t.Address, t.HostKeys = "192.0.2.77:22", nil }, false},
		"other keys at the same address":   {func(t *access.Target) { t.HostKeys = nil }, true},
		"no provisioner any more":          {func(t *access.Target) { t.Provisioner, t.Accounts[0].Made = "", nil }, false},
	} {
		h := newHouse(t, sqliteURL(t))
		h.makes(nil)
		c := h.granted()
		h.session("alice", c)
		s, err := h.BeginCreation(t.Context(), c.Grant.ID)
		ok(t, err)
		ok(t, h.StepDone(t.Context(), s, nil))
		_, err = h.Release(t.Context(), h.as("alice"), c.Grant.ID)
		ok(t, err)
		h.makes(tt.change)
		r, err := h.BeginRemoval(t.Context(), c.Grant.ID)
		ok(t, err)
		if was := r.Machine.Address == s.Machine.Address && len(r.Machine.HostKeys) == len(s.Machine.HostKeys); was == tt.now {
			t.Errorf("%s: removed at %s", name, r.Machine.Address)
		}
	}
}
