package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// OnCall says who is on call. Its groups begin with access.OnCallPrefix. It
// answers at once, from what it has read before; what it does not know for sure
// it does not say. It is safe for concurrent use.
type OnCall interface {
	Groups(person string, at time.Time) []string // of the person of that name
	People(group string, at time.Time) []string  // names, of those in the group
	// Changed gets a value when somebody has come or gone.
	Changed() <-chan struct{}
}

// present adds to the user the groups that schedules give them at this moment. It
// is the one place where these come from: every decision looks at users through
// it. A group of that kind that somebody was given in any other way counts for
// nothing.
func (b *Broker) present(u access.User) access.User {
	var now []string
	if b.c.OnCall != nil && !u.Bot {
		now = b.c.OnCall.Groups(u.Name, b.now())
	}
	if len(now) == 0 && !slices.ContainsFunc(u.Groups, access.OnCall) {
		return u
	}
	groups := slices.DeleteFunc(slices.Clone(u.Groups), access.OnCall)
	for _, g := range now {
		if access.OnCall(g) {
			groups = append(groups, g)
		}
	}
	slices.Sort(groups)
	u.Groups = slices.Compact(groups)
	return u
}

// A userReader is a transaction, or the store.
type userReader interface {
	User(ctx context.Context, idOrName string) (access.User, error)
}

// onCall are the users whom schedules put into one of these groups now.
func (b *Broker) onCall(ctx context.Context, from userReader, groups []string) ([]access.User, error) {
	var list []access.User
	if b.c.OnCall == nil {
		return nil, nil
	}
	for _, g := range groups {
		if !access.OnCall(g) {
			continue
		}
		for _, name := range b.c.OnCall.People(g, b.now()) {
			u, err := from.User(ctx, name)
			if errors.Is(err, access.ErrNotFound) {
				continue // the schedule names somebody who is not known here
			}
			if err != nil {
				return nil, err
			}
			list = append(list, u)
		}
	}
	return list, nil
}
