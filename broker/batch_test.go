package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// askIn files a request in a batch.
func (h *house) askIn(batch, who, what string) (broker.Case, error) {
	h.t.Helper()
	a := asking(what)
	a.Batch = batch
	return h.Request(h.t.Context(), h.as(who), a)
}

func TestBatch(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		batch := access.NewID(access.BatchPrefix)
		one, err := h.askIn(batch, "alice", "root@db01")
		ok(t, err)
		two, err := h.askIn(batch, "alice", "root@db02")
		ok(t, err)
		h.ask("erin", "root@db01") // of none
		list, err := h.Requests(t.Context(), h.as("bob"), broker.Filter{Inbox: true, Batch: batch})
		ok(t, err)
		if len(list) != 2 || list[0].Request.Batch != batch || list[1].Request.Batch != batch {
			t.Fatalf("the batch has %d requests: %+v", len(list), list)
		}
		// Each is decided for itself, by what its target needs.
		if c := h.approve("bob", one); c.Request.State != access.Approved || c.Grant == nil {
			t.Errorf("db01 is %s after one vote", c.Request.State)
		}
		if c := h.approve("bob", two); c.Request.State != access.Pending || c.Grant != nil {
			t.Errorf("db02, which needs two, is %s after one vote", c.Request.State)
		}
		// The requester decides about none of them.
		_, err = h.Approve(t.Context(), h.as("alice"), two.Request.ID, two.Request.Digest(), broker.Answer{})
		want(t, err, access.ErrDenied)
		// Who may not read a request does not see it by its batch.
		list, err = h.Requests(t.Context(), h.as("mallory"), broker.Filter{Batch: batch})
		ok(t, err)
		if len(list) != 0 {
			t.Errorf("mallory sees %d", len(list))
		}
		found := false
		for _, e := range h.events() {
			found = found || e.Action == "request.create" && e.Details["batch"] == batch
		}
		if !found {
			t.Error("the batch is not on record")
		}
	})
}

// Nobody slips a request into what approvers are about to say yes to.
func TestBatchJoining(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	batch := access.NewID(access.BatchPrefix)
	one, err := h.askIn(batch, "alice", "root@db01")
	ok(t, err)
	before := h.dump()
	_, err = h.askIn(batch, "erin", "root@db02")
	want(t, err, access.ErrNotFound)
	for name, change := range map[string]func(*broker.Ask){
		"another account": func(a *broker.Ask) { a.Account = "guest" },
		"another reason":  func(a *broker.Ask) { a.Reason = "something else" },
		"another start":   func(a *broker.Ask) { a.Start = time.Now().Add(time.Hour) },
		"break-glass":     func(a *broker.Ask) { a.BreakGlass = true },
		"no id":           func(a *broker.Ask) { a.Batch = "everything" },
		"a request's id":  func(a *broker.Ask) { a.Batch = one.Request.ID },
		"a newline":       func(a *broker.Ask) { a.Batch += "\n" },
	} {
		a := asking("root@db02")
		if name == "another account" || name == "break-glass" {
			a.Target = "db01"
		}
		a.Batch = batch
		change(&a)
		if _, err := h.Request(t.Context(), h.as("alice"), a); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	if h.dump() != before {
		t.Error("a refused joining changed something")
	}
	// Time closes it, and so does the first vote.
	h.clock.advance(3 * time.Minute)
	_, err = h.askIn(batch, "alice", "root@db02")
	want(t, err, access.ErrConflict)
	batch = access.NewID(access.BatchPrefix)
	two, err := h.askIn(batch, "alice", "root@db02")
	ok(t, err)
	h.approve("bob", two)
	_, err = h.askIn(batch, "alice", "guest@db01")
	if err == nil {
		t.Error("another account joined")
	}
	a := asking("root@db01")
	a.Batch, a.Duration = batch, 30*time.Minute
	_, err = h.Request(t.Context(), h.as("alice"), a)
	want(t, err, access.ErrConflict)
}

func TestBatchIsBounded(t *testing.T) {
	h := newHouse(t, sqliteURL(t), func(c *broker.Config) { c.PendingPerUser = 1000 })
	alice := h.user("alice")
	ok(t, h.db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
		for i := range broker.MaxBatch + 1 {
			err := tx.AddTarget(t.Context(), &access.Target{ID: access.NewID(access.TargetPrefix), Name: fmt.Sprintf("many%02d", i), Address: "192.0.2.9:22",
				Accounts: []access.Account{{Name: "root", Credential: access.CredentialCertificate}}, CreatedAt: tx.Now(), Version: 1})
			if err != nil {
				return audit.Event{}, err
			}
		}
		role, err := tx.Role(t.Context(), "engineers")
		role.Rules[0].Targets = access.Selector{Names: []string{"*"}}
		if err != nil {
			return audit.Event{}, err
		}
		return audit.Event{Actor: "system", Action: "role.set", Object: role.Name}, tx.SaveRole(t.Context(), &role)
	}))
	batch := access.NewID(access.BatchPrefix)
	for i := range broker.MaxBatch {
		_, err := h.askIn(batch, "alice", fmt.Sprintf("root@many%02d", i))
		ok(t, err)
	}
	_, err := h.askIn(batch, "alice", fmt.Sprintf("root@many%02d", broker.MaxBatch))
	want(t, err, access.ErrInvalid)
	list, err := h.db.Requests(t.Context(), store.RequestFilter{Requester: alice.ID, Batch: batch, Limit: 1000})
	ok(t, err)
	if len(list) != broker.MaxBatch {
		t.Errorf("%d requests", len(list))
	}
}

// A target that changes between the vote and the use voids its own grant and no
// other of the batch.
func TestBatchOneTargetChanges(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.start()
	batch := access.NewID(access.BatchPrefix)
	one, err := h.askIn(batch, "alice", "root@db01")
	ok(t, err)
	two, err := h.askIn(batch, "alice", "root@db02")
	ok(t, err)
	one = h.approve("bob", one)
	h.approve("bob", two)
	two = h.approve("dave", two)
	v, err := h.FindTarget(t.Context(), h.as("root"), "db01")
	ok(t, err)
	v.Target.Address = "203.0.113.66:22"
	_, err = h.SetTarget(t.Context(), h.as("root"), v.Target)
	ok(t, err)
	_, err = h.Open(t.Context(), h.as("alice"), one.Grant.ID, broker.Opening{Kind: "exec", Command: "id"})
	want(t, err, access.ErrDenied)
	goesOn(t, h.session("alice", two))
}

// What others are asked for, however much, hides nothing from an approver.
func TestInboxIsNotCrowdedOut(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		wanted := h.ask("alice", "root@db01").Request
		ok(t, h.db.Change(t.Context(), func(tx *store.Tx) (audit.Event, error) {
			for i := range 600 {
				r := wanted
				r.ID, r.CreatedAt = access.NewID(access.RequestPrefix), wanted.CreatedAt.Add(time.Second)
				r.Needs = []access.Need{{Count: 1, Groups: []string{"others"}}}
				if i%2 == 0 { // or too late
					r.Needs, r.ExpiresAt = wanted.Needs, wanted.CreatedAt
				}
				if err := tx.AddRequest(t.Context(), &r); err != nil {
					return audit.Event{}, err
				}
			}
			return audit.Event{Actor: "system", Action: "house.furnish"}, nil
		}))
		list, err := h.Requests(t.Context(), h.as("bob"), broker.Filter{Inbox: true})
		ok(t, err)
		if len(list) != 1 || list[0].Request.ID != wanted.ID {
			t.Errorf("bob's inbox has %d requests, and not the one that waits for him", len(list))
		}
	})
}
