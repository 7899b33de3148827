package local

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// Guessing is slowed by three counters, so that nobody can guess for long and
// nobody can keep somebody else out:
//
//   - of the user and the source: after 10 tries that went wrong, that user is
//     refused from that source for 30 minutes (NIST SP 800-53 AC-7, PCI DSS
//     8.3.4);
//   - of the source: 20 tries are free and one more comes back every five
//     minutes; each beyond doubles the time for which the source is refused, up
//     to 15 minutes;
//   - of the user: after 100 tries in a day that went wrong from sources where
//     the user is not known (NIST SP 800-63B allows 100 in a row), strangers
//     are refused until the day is over.
//
// A source from which the user has logged in within 90 days is known. It is
// stopped by the first counter only, and tries from elsewhere do not touch
// that one. A name that nobody has is counted like any other, so that being
// refused says nothing about who exists. (The one thing that can be told, and
// only by somebody who shares the address of a user: a source that is refused
// still answers for the users that are known there.)
const (
	pairTries = 10
	pairBlock = 30 * time.Minute
	pairReset = 24 * time.Hour // after the last try

	sourceTries    = 20
	sourceEvery    = 5 * time.Minute // one try comes back
	sourceMax      = 30              // failures are not counted beyond
	sourceMaxBlock = 15 * time.Minute

	strangerTries  = 100
	strangerWindow = 24 * time.Hour

	knownFor = 90 * 24 * time.Hour
)

// The counters of one try, in the order of keys.
const (
	bySource = iota
	byPair
	byUser
)

// keys returns the keys of the counters: for a user by the immutable id, for a
// name that nobody has by a hash of it, for what was typed may be a password.
func keys(user access.User, name, origin string) []string {
	who := user.ID
	if who == "" {
		h := sha256.Sum256([]byte(name))
		who = "?" + hex.EncodeToString(h[:10])
	}
	return []string{"source " + origin, "pair " + who + " " + origin, "user " + who}
}

// forget lets each counter decay to what it is worth at now.
func forget(c []Counter, now time.Time) {
	for i := range c {
		if !now.Before(c[i].ExpiresAt) {
			c[i] = Counter{Key: c[i].Key}
		}
	}
	s := &c[bySource]
	if n := now.Sub(s.CountedAt) / sourceEvery; n > 0 {
		s.Failures = max(0, s.Failures-int(min(n, sourceMax)))
		s.CountedAt = s.CountedAt.Add(n * sourceEvery)
	}
	if s.Failures == 0 {
		s.CountedAt = now
	}
	p := &c[byPair]
	if now.Sub(p.CountedAt) >= pairReset || !p.BlockedUntil.IsZero() && !now.Before(p.BlockedUntil) {
		p.Failures, p.BlockedUntil = 0, time.Time{}
	}
	u := &c[byUser]
	if now.Sub(u.CountedAt) >= strangerWindow {
		u.Failures, u.CountedAt, u.BlockedUntil = 0, now, time.Time{}
	}
}

func known(c []Counter, now time.Time) bool {
	return !c[byPair].GoodAt.IsZero() && now.Sub(c[byPair].GoodAt) < knownFor
}

// blockedUntil returns until when a try is refused, or zero. The counters are
// fresh from forget.
func blockedUntil(c []Counter, now time.Time) time.Time {
	until := c[byPair].BlockedUntil
	if !known(c, now) {
		for _, i := range []int{bySource, byUser} {
			if c[i].BlockedUntil.After(until) {
				until = c[i].BlockedUntil
			}
		}
	}
	if until.After(now) {
		return until
	}
	return time.Time{}
}

// countTry counts a try as gone wrong before it is checked, so that any number
// of parallel tries, and a crash in the middle, count in full.
func countTry(c []Counter, now time.Time) {
	known := known(c, now)
	s := &c[bySource]
	s.Failures = min(s.Failures+1, sourceMax)
	if over := s.Failures - sourceTries; over > 0 && !known { // who is known is not stopped by it and does not prolong it
		s.BlockedUntil = now.Add(min(time.Second<<over, sourceMaxBlock))
	}
	s.ExpiresAt = now.Add(sourceMax * sourceEvery)

	p := &c[byPair]
	p.Failures++
	p.CountedAt = now
	if p.Failures >= pairTries {
		p.BlockedUntil = now.Add(pairBlock)
	}
	p.ExpiresAt = now.Add(pairReset)
	if known {
		p.ExpiresAt = p.GoodAt.Add(knownFor + pairReset)
		return
	}

	u := &c[byUser]
	u.Failures++
	if u.Failures >= strangerTries {
		u.BlockedUntil = u.CountedAt.Add(strangerWindow)
	}
	u.ExpiresAt = u.CountedAt.Add(strangerWindow)
}

// uncount takes back countTry, for a try that could not be checked.
func uncount(c []Counter, now time.Time) {
	take := func(i, limit int) {
		c[i].Failures = max(0, c[i].Failures-1)
		if c[i].Failures < limit {
			c[i].BlockedUntil = time.Time{}
		}
	}
	take(byPair, pairTries)
	if known(c, now) {
		take(bySource, 0)
		return
	}
	// A stranger gets here only if the source was not blocked: the block that
	// there is now is this try's own.
	take(bySource, sourceMax)
	take(byUser, strangerTries)
}

// countGood takes back countTry and remembers the source as known. Earlier
// wrong tries of the source stay counted: else a login of one's own would buy
// the next guesses at another's.
func countGood(c []Counter, now time.Time) {
	uncount(c, now)
	p := &c[byPair]
	*p = Counter{Key: p.Key, CountedAt: now, GoodAt: now, ExpiresAt: now.Add(knownFor)}
}
