package notify_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
)

func TestQuiet(t *testing.T) {
	for _, c := range []struct {
		entries   []string
		at, until string // until "": it is not quiet
	}{
		{nil, "2026-03-02T23:00:00Z", ""},
		{[]string{"22:00-07:00"}, "2026-03-02T21:59:59Z", ""},
		{[]string{"22:00-07:00"}, "2026-03-02T22:00:00Z", "2026-03-03T07:00:00Z"},
		{[]string{"22:00-07:00"}, "2026-03-03T06:59:59Z", "2026-03-03T07:00:00Z"},
		{[]string{"22:00-07:00"}, "2026-03-03T07:00:00Z", ""},
		{[]string{"22:00-07:00 Europe/Berlin"}, "2026-03-02T21:30:00Z", "2026-03-03T06:00:00Z"},
		{[]string{"22:00-07:00 Europe/Berlin"}, "2026-03-28T22:30:00Z", "2026-03-29T05:00:00Z"}, // clocks go forward
		{[]string{"22:00-07:00 Europe/Berlin"}, "2026-10-24T22:30:00Z", "2026-10-25T06:00:00Z"}, // and back
		{[]string{"saturday sunday 00:00-24:00", "22:00-07:00"}, "2026-03-06T23:00:00Z", "2026-03-09T07:00:00Z"},
		{[]string{"saturday sunday 00:00-24:00"}, "2026-03-06T23:00:00Z", ""},
	} {
		q, err := notify.ParseQuiet(c.entries)
		ok(t, err)
		at, err := time.Parse(time.RFC3339, c.at)
		ok(t, err)
		until, quiet := q.At(at)
		if got := until.UTC().Format(time.RFC3339); quiet != (c.until != "") || quiet && got != c.until {
			t.Errorf("%q at %s: %v until %s, want %s", c.entries, c.at, quiet, got, c.until)
		}
	}
	for _, bad := range []string{"", "22-7", "22:00", "someday 22:00-07:00", "22:00-07:00 Mars/Olympus", "22:00-07:00 Local", "22:00-07:00 UTC x", "00:00-24:00", "25:00-26:00", strings.Repeat("monday ", 8) + "22:00-23:00"} {
		if _, err := notify.ParseQuiet([]string{bad}); !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := notify.ParseQuiet(slices.Repeat([]string{"22:00-23:00"}, 21)); err == nil {
		t.Error("any number of quiet hours is taken")
	}
}

// In quiet hours what is urgent is told, and everything else when they are over: by
// whichever server tells then, each once, in order, and none as something that failed.
func TestQuietHours(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		now := h.clock.now().UTC()
		entry := fmt.Sprintf("%s-%s", now.Add(-time.Hour).Format("15:04"), now.Add(2*time.Hour).Format("15:04"))
		hours, err := notify.ParseQuiet([]string{entry})
		ok(t, err)
		f := &fake{name: "chat"}
		routes := []notify.Route{route(notify.Quietly(f, hours, h.clock.now))}
		stop := h.dispatch(routes)
		first := h.ask("alice", "root", "db01")
		_, err = h.Cancel(t.Context(), h.as("alice"), first.Request.ID)
		ok(t, err)
		h.breakGlass("dave", "db02", "everything burns")
		until(t, "the alarm is told", func() bool { return slices.Contains(f.kinds(), notify.BreakGlass) })
		until(t, "the rest is kept", func() bool { return h.integration("chat").Late == 2 })
		if i := h.integration("chat"); i.State != broker.IntegrationWorks || i.AsideCount != 0 {
			t.Errorf("the channel: %+v", i)
		}
		stop()
		if got := f.kinds(); len(got) != 1 {
			t.Errorf("told in quiet hours: %q", got)
		}
		h.clock.advance(3 * time.Hour)
		h.dispatch(routes)
		until(t, "all is told", func() bool { return len(f.all()) == 3 && h.integration("chat").Late == 0 })
		if got, want := f.kinds(), []notify.Kind{notify.BreakGlass, notify.Asked, notify.Cancelled}; !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if n := f.all()[1]; n.Case == nil || n.Case.Request.State != access.Cancelled || n.Deciders != nil {
			t.Errorf("the late notice is of what was: %+v", n)
		}
	})
}

// What a channel holds says nothing of whether it works: a notice that fails is not
// taken for the only one because the next one is held, and what is held is not lost
// when the channel steps over that.
func TestHeldBesideFailing(t *testing.T) {
	h := newHouse(t, sqliteURL(t))
	var bad, away atomic.Bool
	bad.Store(true)
	away.Store(true)
	var held atomic.Int64
	f := &fake{name: "chat", fn: func(_ context.Context, n notify.Notice) error {
		switch {
		case n.Kind == notify.Cancelled && held.Add(1) > 0 && bad.Load():
			return &notify.Hold{Until: h.clock.now().Add(time.Hour), Why: "not now"}
		case away.Load() || n.Kind == notify.Asked && bad.Load():
			return errors.New("no")
		}
		return nil
	}}
	h.dispatch([]notify.Route{route(f)}, func(c *notify.Config) { c.Pause = func(int) time.Duration { return time.Millisecond } })
	c := h.ask("alice", "root", "db01")
	_, err := h.Cancel(t.Context(), h.as("alice"), c.Request.ID)
	ok(t, err)
	h.ask("alice", "guest", "db01")
	until(t, "what comes after it was tried", func() bool { return held.Load() > 3 })
	if i := h.integration("chat"); i.Late != 0 || i.State != broker.IntegrationFails {
		t.Errorf("a channel that is away: %+v", i)
	}
	away.Store(false)
	until(t, "the third is told", func() bool { return slices.Equal(f.kinds(), []notify.Kind{notify.Approved}) })
	until(t, "the others are kept", func() bool { return h.integration("chat").Late == 2 })
	bad.Store(false)
	h.clock.advance(2 * time.Hour)
	until(t, "all is told", func() bool { return len(f.all()) == 3 })
}
