package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Bounds on what is told of one request.
const (
	maxSteps    = 200  // of the request, and as many of its grant
	maxLeaves   = 5000 // that are read for them: refused attempts stand between
	maxSessions = 50   // the newest
)

// A Story is what has happened to a request so far.
type Story struct {
	Case     Case
	Steps    []audit.Event    // what was done to the request and its grant, in order
	Sessions []access.Session // under the grant that the caller may know of, the newest first
	More     bool             // there is more than this
	Terms    []string         // what bounds its sessions besides their rules, in words, as it is now
}

// Story tells what has happened to a request, by its own id or its grant's, to
// who may read it. What was tried and refused is for those who read the log.
func (b *Broker) Story(ctx context.Context, by access.Caller, id string) (Story, error) {
	c, err := b.FindRequest(ctx, by, id)
	if err != nil {
		return Story{}, err
	}
	s := Story{Case: c, Terms: b.terms(b.c.Policy.Lookup().Rule(policy.RuleName{Role: c.Request.Role, ID: c.Request.Policy.Rule}))}
	objects := []string{c.Request.ID}
	if c.Grant != nil {
		objects = append(objects, c.Grant.ID)
	}
	for _, object := range objects {
		steps, more, err := b.stepsOf(ctx, object)
		if err != nil {
			return Story{}, err
		}
		s.Steps, s.More = append(s.Steps, steps...), s.More || more
	}
	slices.SortFunc(s.Steps, func(a, b audit.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	if c.Grant == nil {
		return s, nil
	}
	list, err := b.c.Store.Sessions(ctx, store.SessionFilter{Grant: c.Grant.ID, Limit: maxSessions})
	if err != nil {
		return Story{}, err
	}
	s.More = s.More || len(list) == maxSessions
	for _, x := range list {
		if err := b.maySession(ctx, by, policy.ActionSessionList, &x); err == nil {
			s.Sessions = append(s.Sessions, x)
		} else if !errors.Is(err, access.ErrDenied) {
			return Story{}, err
		}
	}
	return s, nil
}

// stepsOf reads the events of what was done to one thing.
func (b *Broker) stepsOf(ctx context.Context, object string) (steps []audit.Event, more bool, err error) {
	f := store.LeafFilter{Object: object, Limit: 1000}
	for read := 0; read < maxLeaves; read += f.Limit {
		leaves, err := b.c.Store.Leaves(ctx, f)
		if err != nil {
			return nil, false, err
		}
		for _, leaf := range leaves {
			e, err := audit.Parse(leaf)
			if err != nil {
				return nil, false, fmt.Errorf("the audit log is damaged: %w", err)
			}
			f.From = e.Seq + 1
			if e.Outcome != audit.Done {
				continue
			}
			if len(steps) == maxSteps {
				return steps, true, nil
			}
			steps = append(steps, e)
		}
		if len(leaves) < f.Limit {
			return steps, false, nil
		}
	}
	return steps, true, nil
}
