package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/policy"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// maxWindows is how many windows there may be that are not over: each decision
// looks at those that are open.
const maxWindows = 1000

// A WindowView is a window, and whether it is open now.
type WindowView struct {
	access.Window
	Open bool
}

// Windows lists the windows that are not over, the first to begin first.
func (b *Broker) Windows(ctx context.Context, by access.Caller) ([]WindowView, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionTargetRead, by: by}, event(by, "window.list", "")); err != nil {
		return nil, err
	}
	now := b.now()
	windows, err := b.c.Store.Windows(ctx, now, maxWindows)
	if err != nil {
		return nil, err
	}
	list := make([]WindowView, len(windows))
	for i, w := range windows {
		if list[i], err = viewWindow(w, now); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func viewWindow(w access.Window, now time.Time) (WindowView, error) {
	zone, err := zoneOf(w.TimeZone)
	if err != nil {
		return WindowView{Window: w}, err
	}
	return WindowView{w, w.OpenAt(now.In(zone))}, nil
}

// AddWindow adds a maintenance window or a freeze. A freeze that is open ends the
// sessions that it does not allow.
func (b *Broker) AddWindow(ctx context.Context, by access.Caller, w access.Window) (WindowView, error) {
	w.ID, w.Version = access.NewID(access.WindowPrefix), 1
	w.From, w.To = w.From.UTC(), w.To.UTC()
	if err := w.Validate(b.now()); err != nil {
		return WindowView{}, err
	}
	if _, err := zoneOf(w.TimeZone); err != nil {
		return WindowView{}, err
	}
	e := event(by, "window.add", w.ID)
	e.Reason = w.Reason
	err := b.write(ctx, by, policy.ActionTargetWrite, e, func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		there, err := tx.Windows(ctx, tx.Now(), maxWindows)
		if err != nil {
			return err
		}
		if len(there) == maxWindows {
			return &access.Error{Kind: access.ErrDenied, Code: "DB-6170", Rule: "window.limit", Next: "drawbolt window rm WINDOW",
				Text: fmt.Sprintf("there are %d windows, and more are not allowed; remove some", maxWindows)}
		}
		w.ByID, w.ByName, w.CreatedAt = by.User.ID, by.User.Name, tx.Now()
		windowDetails(e, &w)
		return tx.AddWindow(ctx, &w)
	})
	if err != nil {
		return WindowView{}, err
	}
	return viewWindow(w, b.now())
}

// RemoveWindow removes a window: it ends now, or does not begin. The sessions
// that need it end.
func (b *Broker) RemoveWindow(ctx context.Context, by access.Caller, id string) error {
	return b.write(ctx, by, policy.ActionTargetWrite, event(by, "window.remove", id), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		w, err := tx.Window(ctx, id)
		if errors.Is(err, access.ErrNotFound) {
			return &access.Error{Kind: access.ErrNotFound, Code: "DB-6171", Text: "there is no window " + audit.Clean(id, 64), Next: "drawbolt window ls"}
		}
		if err != nil {
			return err
		}
		e.Reason = w.Reason
		windowDetails(e, &w)
		return tx.RemoveWindow(ctx, w.ID)
	})
}

func windowDetails(e *audit.Event, w *access.Window) {
	detail(e, "kind", string(w.Kind))
	detail(e, "targets", strings.Join(w.Targets.Names, " "))
	for label, values := range w.Targets.Labels {
		detail(e, "label_"+label, strings.Join(values, " "))
	}
	for name, t := range map[string]time.Time{"from": w.From, "to": w.To} {
		if !t.IsZero() {
			detail(e, name, t.Format(time.RFC3339))
		}
	}
	detail(e, "hours", w.Hours)
	detail(e, "weekdays", strings.Join(w.Weekdays, " "))
	detail(e, "time_zone", w.TimeZone)
}

// zoneOf is the time zone of that name in the IANA database; "" is UTC.
func zoneOf(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // which is another one on each server
		return nil, &access.Error{Kind: access.ErrInvalid, Code: "DB-6172", Text: "there is no time zone " + audit.Clean(name, 64), Next: "--zone Europe/Berlin"}
	}
	return zone, nil
}

// circumstances are what decisions depend on besides the roles and what is asked.
// They are loaded with the roles and do not change.
type circumstances struct {
	windows []access.Window
	zones   []*time.Location // of the windows, by their places
	// timed says that the clock alone may end what is allowed now: there are windows,
	// or rules with hours.
	timed bool
	// separate says that some rule separates duties.
	separate bool
	// tickets says that some rule wants a ticket that holds.
	tickets bool
	// minute is the latest minute that was asked about: windows are whole minutes.
	minute atomic.Pointer[minute]
}

type minute struct {
	at   time.Time
	open []*access.Window
}

func newCircumstances(windows []access.Window, roles []access.Role) (*circumstances, error) {
	c := &circumstances{windows: windows, timed: len(windows) > 0}
	for _, w := range windows {
		zone, err := zoneOf(w.TimeZone)
		if err != nil {
			return nil, err
		}
		c.zones = append(c.zones, zone)
	}
	for _, r := range roles {
		for _, rule := range r.Rules {
			c.timed = c.timed || len(rule.Hours) > 0 || len(rule.Weekdays) > 0 || len(rule.RequireFacts) > 0
			c.separate = c.separate || rule.SeparateDuties
			c.tickets = c.tickets || rule.RequireValidTicket
		}
	}
	return c, nil
}

// open returns the windows that are open at t.
func (c *circumstances) open(t time.Time) []*access.Window {
	at := t.Truncate(time.Minute)
	if m := c.minute.Load(); m != nil && m.at.Equal(at) {
		return m.open
	}
	m := &minute{at: at}
	for i := range c.windows {
		if w := &c.windows[i]; w.OpenAt(at.In(c.zones[i])) {
			m.open = append(m.open, w)
		}
	}
	c.minute.Store(m)
	return m.open
}

// of says what windows mean for the target at t: whether there is a maintenance
// window, and the reason of a freeze, "" when there is none.
func (c *circumstances) of(target *access.Target, t time.Time) (maintenance bool, freeze string) {
	for _, w := range c.open(t) {
		switch {
		case !w.Covers(target):
		case w.Kind == access.Maintenance:
			maintenance = true
		case freeze == "":
			freeze = w.Reason
		}
	}
	return maintenance, freeze
}

// maxNetworks is how many networks may have names.
const maxNetworks = 500

// Networks lists the networks that have names, by name.
func (b *Broker) Networks(ctx context.Context, by access.Caller) ([]access.Network, error) {
	if _, err := b.allow(ctx, question{action: policy.ActionRoleRead, by: by}, event(by, "network.list", "")); err != nil {
		return nil, err
	}
	return b.c.Store.Networks(ctx, maxNetworks)
}

// SetNetwork adds a network (Version 0) or changes it (the version that the caller
// saw). It is part of the rules that name it, so it takes the right to change
// these. Sessions from where no rule allows them any more end.
func (b *Broker) SetNetwork(ctx context.Context, by access.Caller, n access.Network) (access.Network, error) {
	if err := n.Validate(); err != nil {
		return n, err
	}
	err := b.write(ctx, by, policy.ActionRoleWrite, event(by, "network.set", n.Name), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		was, err := tx.Network(ctx, n.Name)
		if err != nil && !errors.Is(err, access.ErrNotFound) {
			return err
		}
		if was.Version != n.Version {
			return staleVersion("the network " + n.Name)
		}
		detail(e, "ranges", strings.Join(n.Ranges, " "))
		detail(e, "before", strings.Join(was.Ranges, " "))
		if was.Version != 0 {
			return tx.SaveNetwork(ctx, &n)
		}
		there, err := tx.Networks(ctx, maxNetworks)
		if err != nil {
			return err
		}
		if len(there) == maxNetworks {
			return &access.Error{Kind: access.ErrDenied, Code: "DB-6173", Rule: "network.limit", Next: "drawbolt network rm NAME",
				Text: fmt.Sprintf("%d networks have names, and more are not allowed; remove some", maxNetworks)}
		}
		n.Version = 1
		return tx.AddNetwork(ctx, &n)
	})
	return n, err
}

// RemoveNetwork removes a network that no rule names.
func (b *Broker) RemoveNetwork(ctx context.Context, by access.Caller, name string) error {
	return b.write(ctx, by, policy.ActionRoleWrite, event(by, "network.remove", name), func(tx *store.Tx, by access.Caller, e *audit.Event) error {
		if err := tx.LockPolicy(ctx); err != nil {
			return err
		}
		n, err := tx.Network(ctx, name)
		if errors.Is(err, access.ErrNotFound) {
			return &access.Error{Kind: access.ErrNotFound, Code: "DB-6174", Text: "there is no network " + audit.Clean(name, 64), Next: "drawbolt network ls"}
		}
		if err != nil {
			return err
		}
		roles, err := tx.Roles(ctx)
		if err != nil {
			return err
		}
		for _, r := range roles {
			for _, rule := range r.Rules {
				if slices.Contains(rule.Sources, n.Name) {
					return &access.Error{Kind: access.ErrConflict, Code: "DB-6175", Next: "drawbolt role show " + r.Name,
						Text: fmt.Sprintf("rule %s of role %s names the network %s", rule.ID, r.Name, n.Name)}
				}
			}
		}
		detail(e, "before", strings.Join(n.Ranges, " "))
		return tx.RemoveNetwork(ctx, n.Name)
	})
}
