package broker_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// glance is a look at seconds of a recording.
func glance(from, to int) broker.Glance {
	return broker.Glance{Span: func(access.Session) (time.Duration, time.Duration, error) {
		return time.Duration(from) * time.Second, time.Duration(to) * time.Second, nil
	}}
}

// looked lists what the audit log tells of looks: "play", or the seconds seen.
func (h *house) looked() (list []string) {
	for _, e := range h.events() {
		if e.Action != "session.replay" {
			continue
		}
		what := e.Details["how"]
		if what == "seen" {
			what = e.Details["seconds"]
		}
		if e.Outcome == audit.Refused {
			what = "refused"
		}
		list = append(list, what)
	}
	return list
}

// TestLookIsTold wants the beginning of a look told at once, and the spans that
// were seen within a minute together.
func TestLookIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, sqliteURL(t))
		stop := h.start()
		id := h.closedSession()
		look := func(g broker.Glance) {
			t.Helper()
			_, err := h.Look(t.Context(), h.as("carol"), id, g)
			ok(t, err)
		}
		wanted := func(want ...string) {
			t.Helper()
			if got := h.looked(); !slices.Equal(got, want) {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		look(broker.Glance{Open: true})
		wanted("play")
		look(glance(0, 10))
		look(glance(10, 20))
		look(glance(3000, 3010))
		look(broker.Glance{})
		wanted("play")
		time.Sleep(2 * time.Minute)
		wanted("play", "0-20 3000-3010")
		// A span within what was seen begins another event, which closing tells.
		look(glance(5, 15))
		look(broker.Glance{Done: true})
		wanted("play", "0-20 3000-3010", "5-15")
		// What cannot be shown is not told, and was not seen.
		nothing := errors.New("nothing")
		if _, err := h.Look(t.Context(), h.as("carol"), id, broker.Glance{Open: true, Span: func(access.Session) (time.Duration, time.Duration, error) {
			return 0, 0, nothing
		}}); err != nothing {
			t.Errorf("look: %v", err)
		}
		wanted("play", "0-20 3000-3010", "5-15")
		// After ten minutes another look begins; who may not look is refused each time.
		time.Sleep(11 * time.Minute)
		look(glance(0, 1))
		_, err := h.Look(t.Context(), h.as("alice"), id, glance(0, 1))
		want(t, err, access.ErrDenied)
		wanted("play", "0-20 3000-3010", "5-15", "play", "refused")
		stop()
		wanted("play", "0-20 3000-3010", "5-15", "play", "refused", "0-1")
	})
}

// TestLookIsBounded looks at very many places: what is told is one event, and no
// span is left out of it.
func TestLookIsBounded(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	id := h.closedSession()
	for i := range 200 {
		_, err := h.Look(t.Context(), h.as("carol"), id, glance(i*100, i*100+1))
		ok(t, err)
	}
	_, err := h.Look(t.Context(), h.as("carol"), id, broker.Glance{Done: true})
	ok(t, err)
	told := h.looked()
	if len(told) != 2 || len(told[1]) < 40 || len(told[1]) > audit.MaxDetailValue || told[1][:2] != "0-" || told[1][len(told[1])-6:] != "-19901" {
		t.Errorf("told %q", told)
	}
}

func TestChecked(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		id := h.closedSession()
		never, err := h.LastCheck(t.Context(), h.as("carol"), id)
		ok(t, err)
		if !never.At.IsZero() {
			t.Errorf("checked %+v", never)
		}
		s, err := h.FindSession(t.Context(), h.as("carol"), id)
		ok(t, err)
		ok(t, h.Checked(t.Context(), h.as("carol"), s, ""))
		c, err := h.LastCheck(t.Context(), h.as("carol"), id)
		ok(t, err)
		if c.At.IsZero() || c.By != "carol" || !c.Whole || c.Finding != "" {
			t.Errorf("checked %+v", c)
		}
		ok(t, h.Checked(t.Context(), h.as("carol"), s, "altered"))
		c, err = h.LastCheck(t.Context(), h.as("carol"), id)
		ok(t, err)
		if c.Whole || c.Finding != "altered" {
			t.Errorf("checked %+v", c)
		}
		_, err = h.LastCheck(t.Context(), h.as("bob"), id)
		want(t, err, access.ErrNotFound)
	})
}
