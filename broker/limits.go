package broker

import (
	"fmt"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
)

// SessionLimits bound how many sessions may be open at once, on all servers of
// the database together. The zero value of each is its default.
type SessionLimits struct {
	PerPerson          int // 200
	PerTarget          int // 1000
	PerPersonAndTarget int // 100
}

func (l SessionLimits) withDefaults() SessionLimits {
	for _, limit := range []struct {
		of    *int
		value int
	}{{&l.PerPerson, 200}, {&l.PerTarget, 1000}, {&l.PerPersonAndTarget, 100}} {
		if *limit.of <= 0 {
			*limit.of = limit.value
		}
	}
	return l
}

// room refuses a session of the person on the target when as many as may be are
// open. The change has read both, and with them holds back every other opening
// that would count the same sessions.
func (b *Broker) room(n store.Running, t *access.Target) error {
	limit := b.c.Sessions
	switch {
	case n.OnTarget >= limit.PerTarget:
		return &access.Error{Kind: access.ErrUnavailable, Code: "DB-5405", Text: fmt.Sprintf("%d sessions are open on %s, and more are not allowed; try again later", limit.PerTarget, t.Name), Rule: "session.limit"}
	case n.OfUserOnTarget >= limit.PerPersonAndTarget:
		return &access.Error{Kind: access.ErrDenied, Code: "DB-2405", Text: fmt.Sprintf("you have %d sessions open on %s, and more are not allowed", limit.PerPersonAndTarget, t.Name), Rule: "session.limit"}
	case n.OfUser >= limit.PerPerson:
		return &access.Error{Kind: access.ErrDenied, Code: "DB-2401", Text: fmt.Sprintf("you have %d sessions open, and more are not allowed", limit.PerPerson), Rule: "session.limit"}
	}
	return nil
}
