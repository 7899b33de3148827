package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// briefly is how long is waited for what is not to come.
const briefly = 300 * time.Millisecond

// learners are the names of the targets that are to learn of a revocation, or none
// if there is none to wait for.
func (h *house) learners(b *broker.Broker, within time.Duration) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), within)
	defer cancel()
	list, err := b.AwaitRevocation(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		h.t.Fatal(err)
	}
	var names []string
	for _, t := range list {
		names = append(names, t.Name)
	}
	return strings.Join(names, " ")
}

// provisioned gives the target a provisioner.
func (h *house) provisioned(name, provisioner string) access.Target {
	h.t.Helper()
	t, err := h.db.Target(h.t.Context(), name)
	ok(h.t, err)
	t.Provisioner = provisioner
	_, err = h.SetTarget(h.t.Context(), h.as("root"), t)
	ok(h.t, err)
	t, err = h.db.Target(h.t.Context(), name)
	ok(h.t, err)
	return t
}

// What is revoked is told to the targets where it lets somebody in, by the server
// that has revoked it, and to a locked one too.
func TestAwaitRevocation(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		h.provisioned("db01", "maker")
		h.provisioned("db02", "maker")
		session := func(c broker.Case) *broker.Live {
			l := h.session("alice", c)
			_, err := h.Credential(ctx, l, newKey(t))
			ok(t, err)
			return l
		}
		c := h.granted()
		l := session(c)
		if got := h.learners(h.Broker, briefly); got != "" {
			t.Errorf("nothing is revoked, and %s learns of it", got)
		}
		other := h.another("node2")
		_, err := h.Revoke(ctx, h.as("bob"), c.Request.ID, "INC-7")
		ok(t, err)
		if got := h.learners(other.Broker, briefly); got != "" {
			t.Errorf("another server tells %s", got)
		}
		if got := h.learners(h.Broker, soon); got != "db01" {
			t.Errorf("%q learns of it, want db01", got)
		}
		if got := h.learners(h.Broker, briefly); got != "" {
			t.Errorf("%s learns of it twice", got)
		}
		_ = h.Close(ctx, l, broker.Closing{Reason: "revoked"})
		// An identity certificate is not for targets.
		_, err = h.RevokeCertificate(ctx, h.as("root"), fmt.Sprint(h.certificate("alice").Serial), "INC-7")
		ok(t, err)
		if got := h.learners(h.Broker, briefly); got != "" {
			t.Errorf("%s learns of an identity certificate", got)
		}
		// A refused change tells nobody.
		c = h.granted()
		l = session(c)
		_, err = h.RevokeCertificate(ctx, h.as("alice"), l.Session.ID, "INC-7")
		want(t, err, access.ErrDenied)
		if got := h.learners(h.Broker, briefly); got != "" {
			t.Errorf("%s learns of what was refused", got)
		}
		ok(t, h.LockTarget(ctx, h.as("root"), "db01", true, "INC-7"))
		if got := h.learners(h.Broker, soon); got != "db01" {
			t.Errorf("%q learns of it, want db01, which is locked", got)
		}
		ok(t, h.LockTarget(ctx, h.as("root"), "db01", false, "INC-7"))
		// Who asks for it by hand means all.
		_, err = h.PushRevocations(ctx, h.as("alice"))
		want(t, err, access.ErrDenied)
		if got := h.learners(h.Broker, briefly); got != "" {
			t.Errorf("%s learns of it, as alice wishes", got)
		}
		n, err := h.PushRevocations(ctx, h.as("root"))
		ok(t, err)
		if got := h.learners(h.Broker, soon); n != 2 || got != "db01 db02" {
			t.Errorf("%d are to learn of it, and %q do", n, got)
		}
		h.provisioned("db01", "")
		l = session(c)
		_, err = h.RevokeCertificate(ctx, h.as("root"), l.Session.ID, "INC-7")
		ok(t, err)
		if got := h.learners(h.Broker, briefly); got != "" {
			t.Errorf("%s learns of it without a provisioner", got)
		}
	})
}

// A delivery has the list of its moment, and certificates for the way and for
// nothing else, while the target is as it was.
func TestDelivery(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		target := h.provisioned("db01", "maker")
		before, err := h.BeginDelivery(ctx, target.ID)
		ok(t, err)
		l := h.session("alice", h.granted())
		_, err = h.Credential(ctx, l, newKey(t))
		ok(t, err)
		_, err = h.RevokeCertificate(ctx, h.as("root"), l.Session.ID, "INC-7")
		ok(t, err)
		d, err := h.BeginDelivery(ctx, target.ID)
		ok(t, err)
		list, err := h.KRL(ctx)
		ok(t, err)
		if d.Number <= before.Number || !slices.Equal(d.List, list) || d.Target.Name != "db01" {
			t.Errorf("list %d of %d bytes after list %d; the newest has %d bytes", d.Number, len(d.List), before.Number, len(list))
		}
		key := newKey(t)
		cert, err := h.DeliveryCredential(ctx, d, 0, key)
		ok(t, err)
		if !slices.Equal(cert.ValidPrincipals, []string{"maker@db01"}) || cert.ValidBefore-cert.ValidAfter > 180 || len(cert.Extensions) != 0 || cert.KeyId != "drawbolt revocations "+target.ID {
			t.Errorf("%+v", cert)
		}
		row, err := h.db.Certificate(ctx, cert.Serial)
		if ok(t, err); row.Target != "db01" || row.Principal != "maker" || row.SessionID != "" {
			t.Errorf("on record is %+v", row)
		}
		events := h.events()
		if e := events[len(events)-1]; e.Action != "certificate.issue" || e.Actor != "system" {
			t.Errorf("on record is %+v", e)
		}
		for _, hop := range []int{-1, 1} {
			if _, err := h.DeliveryCredential(ctx, d, hop, key); err == nil {
				t.Errorf("a certificate for hop %d of none", hop)
			}
		}
		// Through a hop, as the account that passes there.
		hop, err := h.AddTarget(ctx, h.as("root"), access.Target{Name: "jump01", Address: "192.0.2.8:22", HopAccount: "pass"})
		ok(t, err)
		target.Via, target.Version = []string{hop.Name}, d.Target.Version
		_, err = h.SetTarget(ctx, h.as("root"), target)
		ok(t, err)
		_, err = h.DeliveryCredential(ctx, d, 0, key) // of the target as it was
		want(t, err, access.ErrConflict)
		d, err = h.BeginDelivery(ctx, target.ID)
		ok(t, err)
		for i, principal := range []string{"pass@jump01", "maker@db01"} {
			cert, err := h.DeliveryCredential(ctx, d, i, key)
			ok(t, err)
			_, forwards := cert.Extensions["permit-port-forwarding"]
			if !slices.Equal(cert.ValidPrincipals, []string{principal}) || forwards != (i == 0) {
				t.Errorf("for hop %d: %+v", i, cert)
			}
		}
		ok(t, h.LockTarget(ctx, h.as("root"), "jump01", true, "INC-7"))
		_, err = h.DeliveryCredential(ctx, d, 0, key)
		want(t, err, access.ErrConflict)
		_, err = h.BeginDelivery(ctx, target.ID)
		want(t, err, access.ErrDenied)
		ok(t, h.LockTarget(ctx, h.as("root"), "jump01", false, "INC-7"))
		d, err = h.BeginDelivery(ctx, target.ID)
		ok(t, err)
		h.clock.advance(broker.DeliveryWithin)
		_, err = h.DeliveryCredential(ctx, d, 0, key)
		want(t, err, access.ErrConflict)
		d, err = h.BeginDelivery(ctx, target.ID)
		ok(t, err)
		h.provisioned("db01", "other")
		_, err = h.DeliveryCredential(ctx, d, 0, key)
		want(t, err, access.ErrConflict)
		h.provisioned("db01", "")
		_, err = h.BeginDelivery(ctx, target.ID)
		want(t, err, access.ErrNotFound)
	})
}

// However many targets were missed, and whatever they said, the event holds it.
func TestEndPush(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		p := broker.Push{Targets: 3000}
		ok(t, h.EndPush(t.Context(), p))
		for i := range 2000 {
			p.Missed = append(p.Missed, broker.Missed{Target: fmt.Sprintf("db%04d", i), Why: errors.New("\x1b[2J" + strings.Repeat("x", 5000))})
		}
		ok(t, h.EndPush(t.Context(), p))
		events := h.events()
		if e := events[len(events)-2]; e.Outcome != audit.Done || e.Details["targets"] != "3000" || e.Details["reached"] != "3000" {
			t.Errorf("%+v", e)
		}
		e := events[len(events)-1]
		if e.Outcome != audit.Failed || e.Details["reached"] != "1000" || !strings.HasPrefix(e.Details["missed_8"], "db0007: ") || len(e.Details) != 11 {
			t.Errorf("%+v", e)
		}
		for name, value := range e.Details {
			if len(value) > audit.MaxDetailValue || strings.ContainsRune(value, '\x1b') {
				t.Errorf("%s has %d bytes", name, len(value))
			}
		}
	})
}
