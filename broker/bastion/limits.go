package bastion

import (
	"fmt"

	"github.com/drawbolt/drawbolt/broker/access"
)

// The kinds of refusal when as many sessions run as may.
var (
	// ErrLimit: of this person. It is access.ErrDenied.
	ErrLimit = fmt.Errorf("limit of sessions: %w", access.ErrDenied)
	// ErrFull: of everybody together. It is access.ErrUnavailable.
	ErrFull = fmt.Errorf("no session is free: %w", access.ErrUnavailable)
)

// A pair is a person at a target.
type pair struct{ person, target string }

// counts is how many sessions are live, in all and by whom and where. Only those
// who have some stand in the maps. Bastion.mu guards it.
type counts struct {
	all       int
	perPerson map[string]int
	perTarget map[string]int
	perPair   map[pair]int
}

func newCounts() counts {
	return counts{perPerson: map[string]int{}, perTarget: map[string]int{}, perPair: map[pair]int{}}
}

// enter counts a session in, or refuses it. It is called before anything is
// opened, so that a refusal costs little.
func (b *Bastion) enter(who pair) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.live
	switch {
	case c.all >= b.cfg.Sessions:
		return &access.Error{Kind: ErrFull, Code: "DB-5401", Text: "the bastion carries as many sessions as it may; try again later", Rule: "session.limit"}
	case c.perTarget[who.target] >= b.cfg.PerTarget:
		return &access.Error{Kind: ErrFull, Code: "DB-5405", Text: fmt.Sprintf("%d sessions are open on %s, and more are not allowed; try again later", b.cfg.PerTarget, who.target), Rule: "session.limit"}
	case c.perPair[who] >= b.cfg.PerPersonAndTarget:
		return &access.Error{Kind: ErrLimit, Code: "DB-2405", Text: fmt.Sprintf("you have %d sessions open on %s, and more are not allowed", b.cfg.PerPersonAndTarget, who.target), Rule: "session.limit"}
	case c.perPerson[who.person] >= b.cfg.PerPerson:
		return &access.Error{Kind: ErrLimit, Code: "DB-2401", Text: fmt.Sprintf("you have %d sessions open, and more are not allowed", b.cfg.PerPerson), Rule: "session.limit"}
	}
	c.all++
	c.perPerson[who.person]++
	c.perTarget[who.target]++
	c.perPair[who]++
	return nil
}

func (b *Bastion) leave(who pair) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live.all--
	less(b.live.perPerson, who.person)
	less(b.live.perTarget, who.target)
	less(b.live.perPair, who)
}

func less[K comparable](m map[K]int, key K) {
	if m[key]--; m[key] == 0 {
		delete(m, key)
	}
}

// Live returns how many sessions are being carried.
func (b *Bastion) Live() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.live.all
}
