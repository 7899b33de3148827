package broker

import (
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Limits of what a server remembers of what has changed, and of how much of it
// one answer tells.
const (
	maxChanges = 4096 // newest ones
	maxTold    = 32   // things, each of which the policy is asked about
)

// The topics of Changes. The first two may be followed by a colon and the id of
// the one thing that is meant.
const (
	TopicRequests = "requests"
	TopicSessions = "sessions"
)

// Changes says what has changed and may be looked at again.
type Changes struct {
	IDs  []string        // of what the caller may see, each once
	All  bool            // more has changed than is known here: look at everything again
	Next int64           // to go on from
	More <-chan struct{} // closed when there may be more
}

// Changes returns which things of a topic have changed since a position of the
// audit log, as far as the caller may see them now; what changed is to be read by
// the verbs that say so. A position of less than 0 is now: it returns none, and
// where to go on from. It waits for nothing; the caller waits for More.
func (b *Broker) Changes(ctx context.Context, by access.Caller, topic string, since int64) (Changes, error) {
	kind, only, one := strings.Cut(topic, ":")
	e := event(by, "changes", topic)
	if kind != TopicRequests && kind != TopicSessions || one && only == "" {
		return Changes{}, access.Invalid("there is no topic of that name: use requests or sessions, or one of either, as in requests:ID")
	}
	if _, err := b.allow(ctx, question{action: policy.ActionRequestRead, by: by, owner: by.User.ID}, e); err != nil {
		return Changes{}, err
	}
	list, out := b.changes.since(since)
	seen := map[string]bool{}
	for _, c := range list {
		id := c.request
		if kind == TopicSessions {
			id = c.session
		}
		if id == "" || one && id != only || seen[id] {
			continue
		}
		if len(seen) == maxTold {
			out.Next, out.More = c.position-1, b.changes.already
			break
		}
		seen[id] = true
		may, err := b.maySee(ctx, by, kind, id)
		if err != nil {
			return Changes{}, err
		}
		if may {
			out.IDs = append(out.IDs, id)
		}
	}
	return out, nil
}

func (b *Broker) maySee(ctx context.Context, by access.Caller, kind, id string) (bool, error) {
	var err error
	if kind == TopicSessions {
		var s access.Session
		if s, err = b.c.Store.Session(ctx, id); err == nil {
			err = b.maySession(ctx, by, policy.ActionSessionList, &s)
		}
	} else {
		var r access.Request
		if r, err = b.c.Store.Request(ctx, id); err == nil {
			err = b.mayRead(ctx, by, &r)
		}
	}
	if errors.Is(err, access.ErrDenied) || errors.Is(err, access.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// A change is what one event of the log has changed.
type change struct {
	position         int64 // after the event
	request, session string
}

// changes are the newest changes, in the order of the log.
type changes struct {
	mu    sync.Mutex
	list  []change // at most maxChanges
	from  int64    // what is after this position is known
	next  int64    // up to this one
	moved chan struct{}

	already chan struct{} // closed
}

func newChanges(position int64) *changes {
	c := &changes{from: position, next: position, moved: make(chan struct{}), already: make(chan struct{})}
	close(c.already)
	return c
}

// add takes what the events up to next have changed.
func (c *changes) add(list []change, next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = next
	if len(list) == 0 {
		return
	}
	c.list = append(c.list, list...)
	if over := len(c.list) - maxChanges; over > 0 {
		c.from = c.list[over-1].position
		c.list = slices.Clone(c.list[over:])
	}
	close(c.moved)
	c.moved = make(chan struct{})
}

// since returns the changes after a position.
func (c *changes) since(position int64) ([]change, Changes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Changes{Next: c.next, More: c.moved}
	if position < 0 {
		return nil, out
	}
	if position < c.from || position > c.next { // forgotten, or of another history
		out.All = true
		return nil, out
	}
	first := sort.Search(len(c.list), func(i int) bool { return c.list[i].position > position })
	return slices.Clone(c.list[first:]), out
}

// changed is what an event has changed for those who look at things, if anything.
func changed(e *audit.Event, position int64) (change, bool) {
	return change{position, e.Request, e.Session}, e.Request != "" || e.Session != ""
}
