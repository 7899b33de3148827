package broker_test

import (
	"errors"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

func limited(l broker.SessionLimits) func(*broker.Config) {
	return func(c *broker.Config) { c.Sessions = l }
}

var shellOpening = broker.Opening{Kind: "shell", Client: "SSH-2.0-test"}

// refusedWith wants the refusal with this code, and it on record.
func (h *house) refusedWith(err error, kind error, code string) {
	h.t.Helper()
	if e, ok := errors.AsType[*access.Error](err); !ok || !errors.Is(err, kind) || e.Code != code {
		h.t.Errorf("got %v, want %s", err, code)
	}
	h.refusedBy(err, "session.limit")
}

// refusedBy wants a session to have been refused by a rule, and it on record.
func (h *house) refusedBy(err error, rule string) {
	h.t.Helper()
	e, ok := errors.AsType[*access.Error](err)
	if !ok || e.Rule != rule {
		h.t.Errorf("got %v, want %s", err, rule)
		return
	}
	events := h.events()
	if last := events[len(events)-1]; last.Action != "session.open" || last.Outcome != audit.Refused || last.Rule != rule || last.Reason != e.Text {
		h.t.Errorf("on record: %+v", last)
	}
}

// A place is taken by an open session, on whichever server, and given back when
// it is closed.
func TestSessionLimits(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			h := newHouse(t, e.url(t), limited(broker.SessionLimits{PerPerson: 4, PerTarget: 5, PerPersonAndTarget: 3}))
			other := h.another("node2")
			grants := map[string]string{}
			for _, who := range []string{"alice", "erin"} {
				for _, what := range []string{"guest@db01", "root@db02"} {
					c := h.ask(who, what)
					if what == "root@db02" {
						h.approve("bob", c)
						c = h.approve("dave", c)
					}
					grants[who+" "+what] = c.Grant.ID
				}
			}
			var open []*broker.Live
			for i, step := range []struct {
				server    *house
				who, what string
				kind      error
				code      string
			}{
				{h, "alice", "guest@db01", nil, ""}, {other, "alice", "guest@db01", nil, ""}, {other, "alice", "guest@db01", nil, ""},
				{h, "alice", "guest@db01", access.ErrDenied, "DB-2405"},
				{h, "alice", "root@db02", nil, ""}, {other, "alice", "root@db02", access.ErrDenied, "DB-2401"},
				{h, "erin", "guest@db01", nil, ""}, {other, "erin", "guest@db01", nil, ""},
				{h, "erin", "guest@db01", access.ErrUnavailable, "DB-5405"},
				{h, "erin", "root@db02", nil, ""},
			} {
				l, err := step.server.Open(t.Context(), h.as(step.who), grants[step.who+" "+step.what], shellOpening)
				if step.code != "" {
					h.refusedWith(err, step.kind, step.code)
					continue
				}
				if err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				open = append(open, l)
			}
			// The first of alice's was opened on h, and the next may be anywhere.
			ok(t, h.Close(t.Context(), open[0], broker.Closing{Reason: "exited"}))
			l, err := other.Open(t.Context(), h.as("alice"), grants["alice guest@db01"], shellOpening)
			ok(t, err)
			for _, l := range append(open[1:], l) {
				ok(t, h.Close(t.Context(), l, broker.Closing{Reason: "exited"}))
			}
		})
	}
}

// Many race for the last places, on two servers and under two grants, which have
// in common what is counted: not one more gets in.
func TestSessionLimitRace(t *testing.T) {
	const places, tries = 3, 6
	for _, race := range []struct {
		name   string
		limits broker.SessionLimits
		grants [2][2]string // who, what
	}{
		{"of a person", broker.SessionLimits{PerPerson: places}, [2][2]string{{"alice", "guest@db01"}, {"alice", "root@db02"}}},
		{"on a target", broker.SessionLimits{PerTarget: places}, [2][2]string{{"alice", "guest@db01"}, {"erin", "guest@db01"}}},
	} {
		for _, e := range engines {
			t.Run(race.name+"/"+e.name, func(t *testing.T) {
				h := newHouse(t, e.url(t), limited(race.limits))
				other := h.another("node2")
				var grants [2]string
				for i, g := range race.grants {
					c := h.ask(g[0], g[1])
					if c.Grant == nil {
						h.approve("bob", c)
						c = h.approve("dave", c)
					}
					grants[i] = c.Grant.ID
				}
				for range 5 {
					opened := make(chan *broker.Live, 2*tries)
					var calls []func() error
					for i := range 2 * tries {
						server, by, id := []*house{h, other}[i%2], h.as(race.grants[i%2][0]), grants[i%2]
						calls = append(calls, func() error {
							l, err := server.Open(t.Context(), by, id, shellOpening)
							if err == nil {
								opened <- l
							}
							return err
						})
					}
					for _, err := range together(calls...) {
						if e, ok := errors.AsType[*access.Error](err); err != nil && (!ok || e.Rule != "session.limit" && e.Kind != access.ErrConflict) {
							t.Error(err)
						}
					}
					close(opened)
					if len(opened) != places || h.liveSessions() != places {
						t.Errorf("%d got in, %d are open, of %d places", len(opened), h.liveSessions(), places)
					}
					for l := range opened {
						ok(t, h.Close(t.Context(), l, broker.Closing{Reason: "exited"}))
					}
				}
			})
		}
	}
}

// What a server left open that does not come back holds no place once its grant
// is over.
func TestSessionLimitOfTheGone(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		gone := h.another("node2", limited(broker.SessionLimits{PerPerson: 2}))
		here := h.another("node3", limited(broker.SessionLimits{PerPerson: 2}))
		first, second := h.ask("alice", "guest@db01"), h.granted()
		for _, c := range []broker.Case{first, second} {
			_, err := gone.Open(t.Context(), h.as("alice"), c.Grant.ID, shellOpening) // and never closed
			ok(t, err)
		}
		_, err := here.Open(t.Context(), h.as("alice"), second.Grant.ID, shellOpening)
		here.refusedWith(err, access.ErrDenied, "DB-2401")
		_, err = h.Revoke(t.Context(), h.as("bob"), second.Request.ID, "INC-1")
		ok(t, err)
		l, err := here.Open(t.Context(), h.as("alice"), first.Grant.ID, shellOpening)
		ok(t, err)
		ok(t, here.Close(t.Context(), l, broker.Closing{Reason: "exited"}))
		h.clock.advance(2 * time.Hour) // of which the grant had one
		c := h.granted()
		for range 2 {
			l, err := here.Open(t.Context(), h.as("alice"), c.Grant.ID, shellOpening)
			ok(t, err)
			t.Cleanup(func() { _ = here.Close(t.Context(), l, broker.Closing{Reason: "exited"}) })
		}
	})
}
