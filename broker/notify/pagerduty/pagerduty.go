// Package pagerduty calls people through PagerDuty (Events API v2): when access was
// taken by break-glass, until its review, and when nobody has decided on a request
// in time, until somebody does.
//
// It trusts the notices. PagerDuty is told who, where and why, and can decide
// nothing. The same notice twice is one incident, by its key.
package pagerduty

import (
	"context"
	"fmt"
	"time"

	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/outbound"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Enqueue is where PagerDuty takes events, in its region US.
const Enqueue = "https://events.pagerduty.com/v2/enqueue"

// Config is what a Channel needs.
type Config struct {
	Name    string
	URL     string // default Enqueue
	KeyFile string // holds the integration key of a service; it is a secret
	Base    string // of the server's pages
	Out     *outbound.Client
}

// A Channel is safe for concurrent use.
type Channel struct {
	c       Config
	address notify.Address
}

// New checks the configuration.
func New(c Config) (*Channel, error) {
	if c.URL == "" {
		c.URL = Enqueue
	}
	a := notify.Address{URL: c.URL}
	if err := a.Check(); err != nil {
		return nil, fmt.Errorf("configure pagerduty: %w", err)
	}
	if c.KeyFile == "" {
		return nil, fmt.Errorf("configure pagerduty: secret_file is missing: a file that holds the integration key")
	}
	return &Channel{c, a}, nil
}

// Kinds are those that a channel is given when nobody says which. The decisions end
// the incidents of requests on which nobody had decided.
func Kinds() []notify.Kind {
	return []notify.Kind{notify.BreakGlass, notify.ReviewReminder, notify.Reviewed, notify.Acknowledged, notify.Escalated, notify.Approved, notify.Denied, notify.Cancelled, notify.Expired, notify.Tampered, notify.PasskeyCopied}
}

// Name implements notify.Channel.
func (c *Channel) Name() string { return c.c.Name }

// Notify implements notify.Channel.
func (c *Channel) Notify(ctx context.Context, n notify.Notice) error {
	for _, e := range c.events(n) {
		key, err := outbound.ReadSecret(c.c.KeyFile)
		if err != nil {
			return err
		}
		e.RoutingKey = string(key.Expose())
		if err := c.address.PostJSON(ctx, c.c.Out, e); err != nil {
			return err
		}
	}
	return nil
}

// An event is what the Events API v2 takes
// (https://developer.pagerduty.com/docs/send-alert-event).
type event struct {
	RoutingKey string   `json:"routing_key"`
	Action     string   `json:"event_action"`
	Key        string   `json:"dedup_key"`
	Payload    *payload `json:"payload,omitempty"`
	Links      []link   `json:"links,omitempty"`
	Client     string   `json:"client,omitempty"`
	ClientURL  string   `json:"client_url,omitempty"`
}

type payload struct {
	Summary   string            `json:"summary"`
	Source    string            `json:"source"`
	Severity  string            `json:"severity"`
	Timestamp string            `json:"timestamp"`
	Component string            `json:"component,omitempty"`
	Class     string            `json:"class"`
	Details   map[string]string `json:"custom_details,omitempty"`
}

type link struct {
	Href string `json:"href"`
	Text string `json:"text"`
}

// maxSummary is that of PagerDuty, in characters; fewer bytes are sure to fit.
const maxSummary = 1024

// events are what PagerDuty is told of a notice; none, if nothing.
func (c *Channel) events(n notify.Notice) []event {
	request, session := "", ""
	if n.Case != nil {
		request = n.Case.Request.ID
	}
	if n.Session != nil {
		session = n.Session.ID
	}
	breakGlass, overdue, unusual := "drawbolt breakglass "+request, "drawbolt overdue "+request, "drawbolt unusual "+session
	resolve := func(key string) []event { return []event{{Action: "resolve", Key: key}} }
	switch n.Kind {
	case notify.BreakGlass:
		return []event{c.trigger(n, breakGlass, "critical")}
	case notify.ReviewReminder:
		return []event{c.trigger(n, breakGlass, "warning")}
	case notify.Reviewed:
		return resolve(breakGlass)
	case notify.Escalated:
		return []event{c.trigger(n, overdue, "warning")}
	case notify.Approved, notify.Denied, notify.Cancelled, notify.Expired:
		return resolve(overdue)
	case notify.Test:
		key := fmt.Sprintf("drawbolt test %d", n.Position)
		return append([]event{c.trigger(n, key, "info")}, resolve(key)...)
	case notify.Tampered:
		return []event{c.trigger(n, fmt.Sprintf("drawbolt vault %d", n.Position), "critical")}
	case notify.PasskeyCopied:
		return []event{c.trigger(n, fmt.Sprintf("drawbolt passkey %d", n.Position), "critical")}
	case notify.SignInChanged, notify.SignInReset:
		return []event{c.trigger(n, fmt.Sprintf("drawbolt signin %d", n.Position), "warning")}
	case notify.Unusual:
		return []event{c.trigger(n, unusual, "error")}
	case notify.Acknowledged:
		key := breakGlass
		if session != "" {
			key = unusual
		}
		return []event{{Action: "acknowledge", Key: key}}
	case notify.Expected:
		if n.Session == nil {
			return nil
		}
		// The incident is that of the session: it ends with the last of its alarms.
		for i := range n.Session.Alarms {
			if !n.Session.Alarms[i].Expected() {
				return nil
			}
		}
		return resolve(unusual)
	default:
		return []event{c.trigger(n, fmt.Sprintf("drawbolt %s %s", n.Kind, request), "info")}
	}
}

func (c *Channel) trigger(n notify.Notice, key, severity string) event {
	m := notify.Say(n, c.c.Base)
	p := &payload{
		Summary: audit.Clean(m.Title, maxSummary), Source: "drawbolt", Severity: severity, Timestamp: n.At.UTC().Format(time.RFC3339), Class: string(n.Kind),
		Details: map[string]string{},
	}
	if n.Target != nil {
		p.Component = n.Target.Name
	}
	for _, list := range [][]notify.Fact{m.Facts, m.Quotes} {
		for _, f := range list {
			p.Details[f.Name] = f.Value
		}
	}
	return event{Action: "trigger", Key: key, Payload: p, Links: []link{{m.URL, m.Action}}, Client: "drawbolt", ClientURL: m.URL}
}
