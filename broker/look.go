package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Limits of what is remembered of who looks at recordings.
const (
	lookEvery = time.Minute      // after the first span that is not told yet, it is
	lookIdle  = 10 * time.Minute // after the last one, the look is over
	maxLooks  = 1000             // past that, each span is told by itself
	maxSpans  = 40               // of one event; those that lie next to each other are told as one
)

// A Glance is a part of a recording that is about to be shown.
type Glance struct {
	Open bool // a player opens: told by itself, whatever was told before
	// Span says which part it is, since the start of the recording, when the caller
	// was found to be allowed to see it: none, when to is not later than from. With
	// an error nothing is shown and nothing told. Default: none.
	Span func(access.Session) (from, to time.Duration, err error)
	Done bool // the player is closed: what was seen is told now
}

// Look lets the caller see a part of the recording of a session, as Replay lets
// the caller see the whole; the policy is asked each time. That somebody begins
// to look is told at once. Which spans were handed out is told in an event for
// all of them: a minute after the first, when the player is closed, or when this
// server stops. So a server that dies takes the spans of a minute with it, and
// never that somebody looked.
func (b *Broker) Look(ctx context.Context, by access.Caller, id string, g Glance) (access.Session, error) {
	s, e, err := b.mayReplay(ctx, by, id, "play", false)
	if err != nil {
		return s, err
	}
	var seen span
	if g.Span != nil {
		if seen.from, seen.to, err = g.Span(s); err != nil {
			return access.Session{}, err
		}
	}
	key := lookKey{by.User.ID, by.Login, s.ID}
	if g.Open || !b.looks.begun(key) {
		if err := b.c.Store.Record(ctx, e); err != nil {
			return access.Session{}, err
		}
	}
	told := b.looks.note(key, e, seen, g.Done, b.now())
	if told == nil {
		return s, nil
	}
	if err := b.c.Store.Record(ctx, told.event()); err != nil {
		b.looks.putBack(key, told)
		return access.Session{}, err
	}
	return s, nil
}

// tellLooks tells what is due until ctx ends, and then the rest.
func (b *Broker) tellLooks(ctx context.Context) {
	tick := time.NewTicker(lookEvery / 6)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-tick.C:
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		for key, l := range b.looks.due(b.now(), ended) {
			if err := b.c.Store.Record(last, l.event()); err != nil {
				b.c.Log.ErrorContext(ctx, "what was seen of a recording could not be put on record", "session", key.session, "error", err)
				b.looks.putBack(key, l)
			}
		}
		cancel()
	}
}

// lookKey is one login of one person at one session.
type lookKey struct{ user, login, session string }

type span struct{ from, to time.Duration }

// A look is what one login sees of one recording.
type look struct {
	e     audit.Event // who, from where, of what
	spans []span      // in their order, apart; not told yet
	since time.Time   // when the first of them was seen
	last  time.Time
}

// event tells the spans, in whole seconds around them.
func (l *look) event() audit.Event {
	e := l.e
	e.Details = cloneDetails(e.Details)
	detail(&e, "how", "seen")
	var seen []string
	for _, s := range l.spans {
		seen = append(seen, fmt.Sprintf("%d-%d", s.from/time.Second, (s.to+time.Second-1)/time.Second))
	}
	detail(&e, "seconds", strings.Join(seen, " "))
	return e
}

// add puts a span among the others. Too many are made fewer by joining those
// with the least between them: rather told as seen than not told.
func (l *look) add(s span) {
	i := 0
	for i < len(l.spans) && l.spans[i].to < s.from {
		i++
	}
	j := i
	for j < len(l.spans) && l.spans[j].from <= s.to {
		s.from, s.to = min(s.from, l.spans[j].from), max(s.to, l.spans[j].to)
		j++
	}
	l.spans = slices.Replace(l.spans, i, j, s)
	for len(l.spans) > maxSpans {
		least := 1
		for k := 2; k < len(l.spans); k++ {
			if l.spans[k].from-l.spans[k-1].to < l.spans[least].from-l.spans[least-1].to {
				least = k
			}
		}
		l.spans[least-1].to = l.spans[least].to
		l.spans = slices.Delete(l.spans, least, least+1)
	}
}

// looks are those that go on at this server.
type looks struct {
	mu sync.Mutex
	on map[lookKey]*look
}

func (l *looks) begun(key lookKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.on[key] != nil
}

// note notes a span, and returns the look when its spans are to be told now.
func (l *looks) note(key lookKey, e audit.Event, seen span, done bool, now time.Time) *look {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.on[key]
	if x == nil {
		x = &look{}
		if len(l.on) < maxLooks {
			l.on[key] = x
		} else {
			done = true
		}
	}
	x.e, x.last = e, now
	if seen.to > seen.from {
		if len(x.spans) == 0 {
			x.since = now
		}
		x.add(seen)
	}
	if len(x.spans) > 0 && (done || now.Sub(x.since) >= lookEvery) {
		return x.take()
	}
	return nil
}

// take returns what is to be told, which is then told.
func (l *look) take() *look {
	told := *l
	l.spans = nil
	return &told
}

// due returns what is to be told now, or all of it, and forgets who looks no more.
func (l *looks) due(now time.Time, all bool) map[lookKey]*look {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := map[lookKey]*look{}
	for key, x := range l.on {
		if len(x.spans) > 0 && (all || now.Sub(x.since) >= lookEvery) {
			due[key] = x.take()
		}
		if len(x.spans) == 0 && now.Sub(x.last) >= lookIdle {
			delete(l.on, key)
		}
	}
	return due
}

// putBack returns spans that could not be told.
func (l *looks) putBack(key lookKey, told *look) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.on[key]
	if x == nil {
		l.on[key] = told
		return
	}
	x.since = told.since
	for _, s := range told.spans {
		x.add(s)
	}
}
