package broker_test

import (
	"testing"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// addHop adds a target through which others may be reached, via others.
func (h *house) addHop(name string, via ...string) {
	h.t.Helper()
	_, err := h.AddTarget(h.t.Context(), h.as("root"), access.Target{Name: name, Address: "192.0.2.99:22", HopAccount: "hop", Via: via, HostKeys: []string{keyText(newKey(h.t))}})
	ok(h.t, err)
}

// setTarget changes a target as an administrator does.
func (h *house) setTarget(name string, change func(*access.Target)) error {
	h.t.Helper()
	v, err := h.FindTarget(h.t.Context(), h.as("root"), name)
	ok(h.t, err)
	change(&v.Target)
	_, err = h.SetTarget(h.t.Context(), h.as("root"), v.Target)
	return err
}

func TestWays(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, root := t.Context(), h.as("root")
		h.addHop("jump01")
		h.addHop("jump02", "jump01")
		ok(t, h.setTarget("db01", func(t *access.Target) { t.Via = []string{"jump01", "jump02"} }))
		// What others are reached via stays as it is needed.
		want(t, h.RemoveTarget(ctx, root, "jump02"), access.ErrConflict)
		want(t, h.setTarget("jump02", func(t *access.Target) { t.HopAccount = "" }), access.ErrConflict)
		want(t, h.setTarget("jump01", func(t *access.Target) { t.Via = []string{"jump02"} }), access.ErrInvalid)
		want(t, h.setTarget("db01", func(t *access.Target) { t.Via = []string{"nowhere"} }), access.ErrInvalid)
		want(t, h.setTarget("db01", func(t *access.Target) { t.Via = []string{"db02"} }), access.ErrInvalid)
		// Who may only ask does not see the way.
		v, err := h.FindTarget(ctx, h.as("alice"), "db01")
		ok(t, err)
		if len(v.Target.Via) != 0 {
			t.Errorf("alice sees the way %q", v.Target.Via)
		}

		l := h.session("alice", h.granted())
		if len(l.Hops) != 2 || l.Hops[0].Name != "jump01" || l.Hops[1].Name != "jump02" {
			t.Fatalf("hops %+v", l.Hops)
		}
		cert, err := h.HopCredential(ctx, l, 1, newKey(t))
		ok(t, err)
		_, terminal := cert.Extensions["permit-pty"]
		if len(cert.ValidPrincipals) != 1 || cert.ValidPrincipals[0] != "hop@jump02" || terminal || len(cert.Extensions) != 1 {
			t.Errorf("the certificate for the hop is %+v", cert)
		}
		for _, n := range []int{-1, 2} {
			if _, err := h.HopCredential(ctx, l, n, newKey(t)); err == nil {
				t.Errorf("there is a certificate for hop %d", n)
			}
		}
		if events := h.events(); events[len(events)-1].Session != l.Session.ID || events[len(events)-1].Target != "jump02" {
			t.Errorf("told %+v", events[len(events)-1])
		}
	})
}

// A way that is closed ends what goes on it, and lets nothing new pass.
func TestClosedWay(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.start()
		h.addHop("jump01")
		ok(t, h.setTarget("db01", func(t *access.Target) { t.Via = []string{"jump01"} }))
		c := h.granted()
		l := h.session("alice", c)
		ok(t, h.LockTarget(t.Context(), h.as("root"), "jump01", true, "INC-7"))
		ends(t, l, broker.ErrRefused)
		_, err := h.HopCredential(t.Context(), l, 0, newKey(t))
		want(t, err, access.ErrDenied)
		_, err = h.Open(t.Context(), h.as("alice"), c.Grant.ID, broker.Opening{Kind: "shell"})
		want(t, err, access.ErrDenied)
	})
}
