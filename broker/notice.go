package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// wholeLog is what AwaitEvents watches; it is the id of no request.
const wholeLog = ""

// AwaitEvents waits until the audit log is longer than that, or ctx ends, and
// returns how long it is. It is no verb of a person: followers of the log in this
// server call it. Events of other servers are seen while Run runs.
func (b *Broker) AwaitEvents(ctx context.Context, position int64) (int64, error) {
	next, stop := b.watchers.watch(wholeLog)
	defer stop()
	for {
		changed := next()
		size, err := b.c.Store.AuditSize(ctx)
		if err != nil || size > position {
			return size, err
		}
		select {
		case <-ctx.Done():
			return size, ctx.Err()
		case <-changed:
		}
	}
}

// maxDeciders bounds whom a notice names.
const maxDeciders = 200

// Told is what an event of the log is about, as it is now. What it is not about,
// and what is gone, is nil.
type Told struct {
	Case      *Case
	Requester *access.User
	Target    *access.Target
	Session   *access.Session
	Deciders  []access.User // who may decide on the case now, at most 200 of them
}

// Tell returns what an event is about, to be told to people whom the configuration
// names. It is no verb of a person: who follows the log calls it.
func (b *Broker) Tell(ctx context.Context, e audit.Event) (t Told, err error) {
	target := ""
	if e.Session != "" {
		s, err := b.c.Store.Session(ctx, e.Session)
		if err == nil {
			t.Session, target = &s, s.TargetID
			e.Request = s.RequestID
		} else if !errors.Is(err, access.ErrNotFound) {
			return t, err
		}
	}
	if e.Request != "" {
		c, err := b.caseOf(ctx, e.Request)
		if err == nil {
			t.Case, target = &c, c.Request.TargetID
		} else if !errors.Is(err, access.ErrNotFound) {
			return t, err
		}
	}
	if target != "" {
		if t.Target, err = found(b.c.Store.Target(ctx, target)); err != nil {
			return t, err
		}
	}
	if t.Case == nil {
		return t, nil
	}
	if t.Requester, err = found(b.c.Store.User(ctx, t.Case.Request.RequesterID)); err != nil {
		return t, err
	}
	if t.Case.Request.StateAt(b.now()) == access.Pending {
		t.Deciders, err = b.deciders(ctx, &t.Case.Request)
	}
	return t, err
}

func found[T any](v T, err error) (*T, error) {
	if errors.Is(err, access.ErrNotFound) {
		return nil, nil
	}
	return &v, err
}

// deciders are the people who may still vote on a pending request.
func (b *Broker) deciders(ctx context.Context, r *access.Request) ([]access.User, error) {
	var groups []string
	for _, n := range r.Needs {
		groups = append(groups, n.Groups...)
	}
	list, err := b.c.Store.Members(ctx, groups, maxDeciders)
	return slices.DeleteFunc(list, func(u access.User) bool { return !b.mayVote(u, r) }), err
}

// An Integration is a channel over which people are told, as it stands.
type Integration struct {
	Name, Type string
	State      IntegrationState
	Node       string        // the server that tells
	Behind     int64         // events of the log that it has not looked at
	Lag        time.Duration // how old the first of these is
	Error      string        // the last one
	ErrorAt    time.Time
	SuccessAt  time.Time
	Position   int64 // in the log, of the next event
	Late       int64 // notices that failed while others did not, and are tried again
	AsideCount int64
	Aside      []SetAside // the newest of those that are tried no more
}

// SetAside is a notice that is tried no more.
type SetAside struct {
	Position int64
	Action   string // of its event
	Tries    int
	Error    string
}

// An IntegrationState says how a channel is.
type IntegrationState string

// The states of a channel.
const (
	IntegrationWorks   IntegrationState = "works"
	IntegrationFails   IntegrationState = "fails"   // the notice at which it stands was not taken
	IntegrationStopped IntegrationState = "stopped" // no server tells: it is in no configuration, or none runs
)

// IntegrationStatus returns how all channels stand. It is no verb of a person: the
// server measures with it.
func (b *Broker) IntegrationStatus(ctx context.Context) ([]Integration, error) {
	size, err := b.c.Store.AuditSize(ctx)
	if err != nil {
		return nil, err
	}
	channels, err := b.c.Store.Channels(ctx)
	if err != nil {
		return nil, err
	}
	var list []Integration
	for _, c := range channels {
		i, err := b.integration(ctx, c, size)
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}

func (b *Broker) integration(ctx context.Context, c store.Channel, size int64) (Integration, error) {
	now := b.now()
	i := Integration{
		Name: c.Name, Type: c.Type, State: IntegrationWorks, Node: c.Node, Behind: max(0, size-c.Position), Error: c.Error, ErrorAt: c.ErrorAt,
		SuccessAt: c.SuccessAt, Position: c.Position,
	}
	switch {
	case now.After(c.Until):
		i.State = IntegrationStopped
	case c.Tries > 0:
		i.State = IntegrationFails
	}
	if i.Behind > 0 {
		leaf, err := b.c.Store.Leaf(ctx, c.Position)
		if err != nil {
			return i, err
		}
		e, err := audit.Parse(leaf)
		if err != nil {
			return i, err
		}
		i.Lag = max(0, now.Sub(e.Time))
	}
	var err error
	i.Late, i.AsideCount, err = b.c.Store.CountNotices(ctx, c.Name)
	return i, err
}

// maxAside bounds the notices of a channel that are listed.
const maxAside = 50

// Integrations lists the channels over which people are told.
func (b *Broker) Integrations(ctx context.Context, by access.Caller) ([]Integration, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionIntegrationRead, by: by}, event(by, "integration.list", "")); err != nil {
		return nil, err
	}
	return b.IntegrationStatus(ctx)
}

// FindIntegration returns a channel with the notices that it tries no more.
func (b *Broker) FindIntegration(ctx context.Context, by access.Caller, name string) (Integration, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionIntegrationRead, by: by}, event(by, "integration.read", name)); err != nil {
		return Integration{}, err
	}
	c, err := b.c.Store.Channel(ctx, name)
	if err != nil {
		return Integration{}, unknownIntegration(err, name)
	}
	size, err := b.c.Store.AuditSize(ctx)
	if err != nil {
		return Integration{}, err
	}
	i, err := b.integration(ctx, c, size)
	if err != nil {
		return i, err
	}
	aside, err := b.c.Store.NoticesAside(ctx, name, maxAside)
	for _, n := range aside {
		i.Aside = append(i.Aside, SetAside{n.Position, n.Action, n.Tries, n.Error})
	}
	return i, err
}

func unknownIntegration(err error, name string) error {
	if errors.Is(err, access.ErrNotFound) {
		return &access.Error{Kind: access.ErrNotFound, Code: "DB-6220", Text: "there is no integration " + audit.Clean(name, 64) + " that has ever run", Next: "drawbolt integration ls"}
	}
	return err
}

// TestIntegration has a channel send a test, and returns the position of its event.
// It goes the way of everything else that the channel sends: when the channel has
// come further, it was taken or set aside.
func (b *Broker) TestIntegration(ctx context.Context, by access.Caller, name string) (position int64, err error) {
	err = b.write(ctx, by, policy.ActionIntegrationWrite, event(by, "integration.test", name), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		_, err := tx.Channel(ctx, name)
		return unknownIntegration(err, name)
	})
	if err != nil {
		return 0, err
	}
	leaves, err := b.c.Store.Leaves(ctx, store.LeafFilter{Actor: by.User.ID, Action: "integration.test", Newest: true, Limit: 1})
	if err != nil {
		return 0, err
	}
	if len(leaves) == 0 {
		return 0, access.ErrUnavailable // it was there a moment before
	}
	e, err := audit.Parse(leaves[0])
	return e.Seq, err
}

// RetryIntegration has a channel try again what it has set aside, and returns how
// many notices that are.
func (b *Broker) RetryIntegration(ctx context.Context, by access.Caller, name string) (n int64, err error) {
	err = b.write(ctx, by, policy.ActionIntegrationWrite, event(by, "integration.retry", name), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		if _, err := tx.Channel(ctx, name); err != nil {
			return unknownIntegration(err, name)
		}
		n, err = tx.RetryNotices(ctx, name)
		return err
	})
	return n, err
}
