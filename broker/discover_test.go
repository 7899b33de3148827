package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// says is what a machine says that has root and these accounts, who get in with a
// password.
func says(t testing.TB, names ...string) *discovery.Scan {
	t.Helper()
	var b strings.Builder
	b.WriteString("drawbolt\t1\nuid\t0\npasswd\troot\t0\t0\tlocked\t/root\t/bin/sh\t\nsshd\tpasswordauthentication\tyes\nfact\tsecurity-updates\t0\nfact\tfirewall\tno\n")
	for i, name := range names {
		fmt.Fprintf(&b, "passwd\t%s\t%d\t1\tset\t/\t/bin/sh\t\n", name, 1000+i)
	}
	s, err := discovery.ParseLinux([]byte(b.String() + "shadow\troot\tlocked\t\t\t\nend\tof the scan\n"))
	ok(t, err)
	return &s
}

// scan has the broker take what a machine says for that of the target.
func (h *house) scan(target string, s *discovery.Scan) broker.Discovered {
	h.t.Helper()
	d, err := h.BeginDiscovery(h.t.Context(), h.as("root"), target, "root")
	ok(h.t, err)
	p, err := discovery.DefaultProfile()
	ok(h.t, err)
	out, err := h.EndDiscovery(h.t.Context(), d, s, p, nil)
	ok(h.t, err)
	return out
}

// discovered is the id of an account that a scan has found on the target.
func (h *house) discovered(target string) string {
	h.t.Helper()
	return h.scan(target, says(h.t, "deploy")).Found[1].ID
}

func TestInventory(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, root := t.Context(), h.as("root")
		// alice owns an account of her name; dora's, who has left, is orphaned.
		h.scan("db01", says(t, "alice", "deploy"))
		h.scan("db02", says(t, "deploy", "web"))
		var names []string
		f := broker.FoundFilter{Limit: 2}
		for {
			list, next, err := h.FoundAccounts(ctx, root, f)
			ok(t, err)
			for _, a := range list {
				names = append(names, a.Name+"@"+a.TargetName)
			}
			if f.After = next; next == "" {
				break
			}
		}
		if got := strings.Join(names, " "); got != "alice@db01 deploy@db01 deploy@db02 web@db02 root@db01 root@db02" {
			t.Errorf("the list, page by page: %s", got)
		}
		if list, _, err := h.FoundAccounts(ctx, root, broker.FoundFilter{Owner: "alice"}); err != nil || len(list) != 1 || list[0].Name != "alice" {
			t.Errorf("alice's: %+v, %v", list, err)
		}
		if _, _, err := h.FoundAccounts(ctx, root, broker.FoundFilter{Class: "odd"}); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("a class that is none: %v", err)
		}
		if _, _, err := h.FoundAccounts(ctx, h.as("alice"), broker.FoundFilter{}); !errors.Is(err, access.ErrDenied) {
			t.Errorf("alice lists: %v", err)
		}
		if _, err := h.FindFound(ctx, h.as("alice"), "deploy@db01"); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("alice looks: %v", err)
		}
		if _, err := h.FindFound(ctx, h.as("alice"), "nobody@nowhere"); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("alice looks for what is not there: %v", err)
		}
		v, err := h.FindFound(ctx, root, "deploy@db01")
		if err != nil || len(v.Ways) != 1 || v.Ways[0].Kind != "password" {
			t.Errorf("%+v, %v", v, err)
		}

		// All of them or none.
		alice, none := "alice", "nobody-at-all"
		if _, err := h.ManageFound(ctx, root, []string{"deploy@db01", "ghost@db01"}, broker.Management{Owner: &alice}); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("one that is not there: %v", err)
		}
		if _, err := h.ManageFound(ctx, root, []string{"deploy@db01"}, broker.Management{Owner: &none}); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("an owner who is not there: %v", err)
		}
		if v, err := h.FindFound(ctx, root, "deploy@db01"); err != nil || v.OwnerName != "" {
			t.Errorf("half of it was done: %+v, %v", v, err)
		}
		service := "service"
		list, err := h.ManageFound(ctx, root, []string{"deploy@db01", "deploy@db02"}, broker.Management{Owner: &alice, Declare: &service, Note: "CI"})
		if err != nil || len(list) != 2 || list[0].Class != "service" || list[0].OwnerName != "alice" {
			t.Errorf("%+v, %v", list, err)
		}
		// What was said outlives the next scan; the owner who leaves makes orphans.
		ok(t, h.LockUser(ctx, root, "alice", true, "left"))
		d := h.scan("db01", says(t, "alice", "deploy", "newcomer"))
		is := map[string]string{}
		for _, f := range d.Found {
			is[f.Name] = f.Class
		}
		if is["deploy"] != "orphaned" || is["alice"] != "orphaned" || is["newcomer"] != "unmanaged" {
			t.Errorf("%v", is)
		}
		// It goes, and comes again, as the same.
		before := v.ID
		d = h.scan("db01", says(t, "alice"))
		if d.Changes[len(d.Changes)-1].What != "gone" {
			t.Errorf("%+v", d.Changes)
		}
		if _, err := h.ManageFound(ctx, root, []string{before}, broker.Management{Owner: &alice}); !errors.Is(err, access.ErrConflict) {
			t.Errorf("one that has gone: %v", err)
		}
		h.scan("db01", says(t, "alice", "deploy"))
		if v, err := h.FindFound(ctx, root, "deploy@db01"); err != nil || v.ID != before || v.Declared != "service" || !v.GoneAt.IsZero() {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// Facts that a target says of itself have names of their own: it cannot say that
// it has what others have found out.
func TestScanFacts(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		_, err := h.RecordFacts(t.Context(), h.as("root"), "db01", map[string]string{"patched": "no"}, time.Time{})
		ok(t, err)
		s := says(t, "deploy")
		s.Settings["fact.patched"], s.Settings["fact.edr"] = "yes", "running"
		h.scan("db01", s)
		target, err := h.db.Target(t.Context(), "db01")
		ok(t, err)
		if target.Facts["patched"].Value != "no" || target.Facts["scan.patched"].Value != "yes" || target.Facts["scan.firewall"].Value != "no" {
			t.Errorf("%+v", target.Facts)
		}
		for name := range target.Facts {
			if name != "patched" && !strings.HasPrefix(name, "scan.") {
				t.Errorf("the target says %s of itself", name)
			}
		}
		// What it does not say any more is not known any more.
		delete(s.Settings, "fact.firewall")
		h.scan("db01", s)
		if target, err = h.db.Target(t.Context(), "db01"); err != nil || target.Facts["scan.firewall"].Value != "" {
			t.Errorf("%+v, %v", target.Facts, err)
		}
	})
}

// Each target has an hour of its own, and one server scans it.
func TestScansAreSpread(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		const many = 60
		ok(t, h.db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
			for i := range many {
				ok(t, tx.AddTarget(ctx, &access.Target{ID: access.NewID(access.TargetPrefix), Name: fmt.Sprintf("t%03d", i), Address: "192.0.2.1:22", Provisioner: "root", CreatedAt: tx.Now(), Version: 1}))
			}
			return audit.Event{Actor: "system", Action: "house.furnish"}, nil
		}))
		due := func() []string {
			t.Helper()
			ids, err := h.DueDiscoveries(ctx, 1000)
			ok(t, err)
			return ids
		}
		if ids := due(); len(ids) != 0 {
			t.Errorf("%d are due at once", len(ids))
		}
		h.clock.advance(12 * time.Hour)
		half := due()
		if len(half) < many/5 || len(half) > many*4/5 {
			t.Errorf("%d of %d are due after half a day", len(half), many)
		}
		d, err := h.BeginDue(ctx, half[0])
		ok(t, err)
		if _, err := h.BeginDue(ctx, half[0]); !errors.Is(err, access.ErrConflict) {
			t.Errorf("two servers at one target: %v", err)
		}
		if got := due(); len(got) != len(half)-1 {
			t.Errorf("%d are due of %d while one is scanned", len(got), len(half))
		}
		if _, err := h.EndDiscovery(ctx, d, nil, nil, errors.New("the target is away")); err == nil {
			t.Error("a failure is none")
		}
		if got := due(); len(got) != len(half)-1 {
			t.Errorf("%d are due after one has failed", len(got))
		}
		h.clock.advance(25 * time.Hour)
		if got := due(); len(got) != many {
			t.Errorf("%d are due after a day more", len(got))
		}
		// A scan that took too long does not put itself in the place of the next one.
		late, err := h.BeginDue(ctx, half[1])
		ok(t, err)
		h.clock.advance(time.Hour)
		if _, err := h.BeginDue(ctx, half[1]); err != nil {
			t.Fatal(err)
		}
		if _, err := h.EndDiscovery(ctx, late, says(t, "x"), nil, nil); !errors.Is(err, access.ErrConflict) {
			t.Errorf("a late one: %v", err)
		}
	})
}

// What is grave is told to people, and bounded.
func TestGraveChanges(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	h.scan("db01", says(t))
	s := says(t, "a", "b")
	for i := range s.Accounts {
		s.Accounts[i].Rights = append(s.Accounts[i].Rights, discovery.Right{Text: "sudo: everything as root", Full: true, Source: "/etc/sudoers"})
	}
	h.scan("db01", s)
	leaves, err := h.db.Leaves(t.Context(), store.LeafFilter{Limit: 1000})
	ok(t, err)
	grave := 0
	for _, leaf := range leaves {
		e, err := audit.Parse(leaf)
		ok(t, err)
		if e.Action == "account.grave" {
			grave++
			if !strings.Contains(e.Reason, "2 on db01") || e.Details["change_1"] == "" {
				t.Errorf("%+v", e)
			}
		}
	}
	if grave != 1 {
		t.Errorf("%d grave events", grave)
	}
}
