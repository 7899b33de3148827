package broker_test

import (
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/recorder/audit"
)

// What the server finds about the keeping of recordings is on record, with the
// session where there is one, and whatever the store said.
func TestKeepingEvents(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		s := newScene(h)
		said := "\x1b[2J" + strings.Repeat("x", 5000)
		ok(t, h.Quarantined(t.Context(), s.closed.ID+".cast.zst.age", said))
		ok(t, h.Quarantined(t.Context(), "of nobody\n"+said, said))
		ok(t, h.RoomChanged(t.Context(), "closed", "1 MiB of 100 MiB are free"))
		events := h.events()
		events = events[len(events)-3:]
		if e := events[0]; e.Action != "recording.quarantine" || e.Outcome != audit.Failed || e.Session != s.closed.ID || e.Grant != s.closed.GrantID || e.Details["node"] != "node1" {
			t.Errorf("%+v", e)
		}
		if e := events[1]; e.Session != "" || e.Object == "" {
			t.Errorf("%+v", e)
		}
		for _, e := range events[:2] {
			if len(e.Reason) > audit.MaxReason || strings.ContainsAny(e.Reason+e.Object, "\x1b\n") {
				t.Errorf("a reason of %d bytes: %q", len(e.Reason), e.Object)
			}
		}
		if e := events[2]; e.Action != "recordings.room" || e.Details["step"] != "closed" || e.Object != "node1" {
			t.Errorf("%+v", e)
		}
		h.Release(t.Context(), h.as("alice"), s.granted.Grant.ID)
	})
}
