package broker_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// TestEvidence: all that concerns the session, its request and its grant is in
// its evidence with a proof, and nothing of another session under the grant.
func TestEvidence(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		ctx, carol := t.Context(), h.as("carol")
		c := h.granted()
		h.ask("alice", "root@db02") // somebody else's business
		run := func() *broker.Live {
			l := h.session("alice", c)
			_, err := h.Credential(ctx, l, newKey(t))
			ok(t, err)
			ok(t, h.Started(ctx, l))
			ok(t, h.Close(ctx, l, broker.Closing{Reason: "exited", Recording: access.Sealed{Name: l.Session.ID, SHA256: strings.Repeat("0", 64), Size: 1}}))
			return l
		}
		first := run()
		_, err := h.Checkpoint(ctx, carol)
		ok(t, err)
		other := run()
		_, err = h.Revoke(ctx, h.as("root"), c.Request.ID, "INC-2 over")
		ok(t, err)
		h.clock.advance(3 * time.Hour)
		h.ask("alice", "root@db02")

		e, err := h.Evidence(ctx, carol, first.Session.ID)
		ok(t, err)
		head, err := audit.OpenCheckpoint(e.Bundle.Checkpoint, h.config.Verifier)
		ok(t, err)
		early, err := audit.OpenCheckpoint(e.Bundle.Earlier, h.config.Verifier)
		ok(t, err)
		ok(t, audit.CheckConsistency(early, head, e.Bundle.Consistency))
		var told []string
		closed := int64(-1)
		for _, x := range e.Bundle.Events {
			ok(t, audit.CheckInclusion(head, x.Leaf, x.Inclusion))
			event, err := audit.Parse(x.Leaf)
			ok(t, err)
			told = append(told, event.Action)
			if strings.Contains(string(x.Leaf), other.Session.ID) {
				t.Errorf("of another session: %s", x.Leaf)
			}
			if event.Action == "session.close" {
				closed = event.Seq
			}
		}
		want := "request.create request.approve grant.open session.open certificate.issue session.start session.close grant.revoke session.replay"
		if got := strings.Join(told, " "); got != want {
			t.Errorf("the events are\n%s\nwant\n%s", got, want)
		}
		if early.Size <= closed || early.Size >= head.Size {
			t.Errorf("the end is event %d, the earlier checkpoint has %d, the last %d", closed, early.Size, head.Size)
		}
		if string(e.Bundle.Request) != string(c.Request.Shown()) || len(e.Certificates) != 1 || e.Certificates[0].RevokedAt.IsZero() || e.Certificates[0].Principal != "root" {
			t.Errorf("%s %+v", e.Bundle.Request, e.Certificates)
		}
		// What it may sign with is good for the list of the files only.
		if _, err := note.Sign(&note.Note{Text: "drawbolt recording seal v1\n"}, e.Bundle.Signer); err == nil {
			t.Error("something else is signed")
		}
	})
}

// TestEvidenceIsRefused: it takes the right to replay the session, and a refusal
// is told once and takes nothing with it.
func TestEvidenceIsRefused(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	id := h.closedSession()
	for who, kind := range map[string]error{"alice": access.ErrDenied, "bob": access.ErrNotFound, "erin": access.ErrNotFound} {
		n := len(h.events())
		_, err := h.Evidence(t.Context(), h.as(who), id)
		want(t, err, kind)
		if after := h.events(); len(after) != n+1 || after[n].Outcome != audit.Refused {
			t.Errorf("%s: told %v", who, h.told(n))
		}
	}
	h = newHouse(t, sqliteURL(t))
	l := h.session("alice", h.granted()) // goes on
	_, err := h.Evidence(t.Context(), h.as("carol"), l.Session.ID)
	want(t, err, access.ErrConflict)
}
