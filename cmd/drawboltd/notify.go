package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/notify/mail"
	"github.com/drawbolt/drawbolt/broker/notify/mattermost"
	"github.com/drawbolt/drawbolt/broker/notify/pagerduty"
	"github.com/drawbolt/drawbolt/broker/notify/teams"
	"github.com/drawbolt/drawbolt/broker/notify/webhook"
	"github.com/drawbolt/drawbolt/broker/outbound"
)

// A ChannelConfig is one entry of notifications.channels.
type ChannelConfig struct {
	Name         string   `yaml:"name" doc:"of the channel: a-z, 0-9, dot, underscore and hyphen; where it stands in the log is kept under it"`
	Type         string   `yaml:"type" doc:"mail, teams, mattermost, pagerduty or webhook"`
	Kinds        []string `yaml:"kinds" doc:"what it is told (default: what fits its type; a webhook everything)"`
	Quiet        []string `yaml:"quiet" doc:"hours in which only what is urgent is told, and the rest when they are over: 22:00-07:00 Europe/Berlin, or saturday sunday 00:00-24:00"`
	URL          string   `yaml:"url" doc:"where it posts to"`
	URLFile      string   `yaml:"url_file" doc:"file that holds that, where it is a secret: teams, mattermost"`
	SecretFile   string   `yaml:"secret_file" doc:"file with the secret to sign with (webhook), or the integration key (pagerduty)"`
	Server       string   `yaml:"server" doc:"of mail: smtp://host:587 with STARTTLS, or smtps://host:465"`
	User         string   `yaml:"user" doc:"to log in to the mail server with"`
	PasswordFile string   `yaml:"password_file" doc:"file with the password for that"`
	From         string   `yaml:"from" doc:"of mail, such as drawbolt <drawbolt@example.com>"`
	To           []string `yaml:"to" doc:"addresses that get every mail of the channel"`
	People       *bool    `yaml:"people" doc:"whether those get a mail whom a notice concerns (default: true)"`
}

// maxChannels bounds notifications.channels.
const maxChannels = 50

// internal are the networks of notifications.internal.
func (c *Config) internal() ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, s := range c.Notifications.Internal {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, err
		}
		list = append(list, p.Masked())
	}
	return list, nil
}

// digest is when people are told what the policy approved by itself; nil: never. The
// configuration was checked.
func (c *Config) digest() *broker.Daily {
	if d, err := broker.ParseDaily(c.Notifications.Digest); err == nil {
		return &d
	}
	return nil
}

// routes makes the channels of the configuration. It reads their secrets, and calls
// nobody.
func (c *Config) routes(out *outbound.Client) (list []notify.Route, err error) {
	if len(c.Notifications.Channels) > maxChannels {
		return nil, fmt.Errorf("notifications.channels: at most %d", maxChannels)
	}
	var problems []error
	for i, ch := range c.Notifications.Channels {
		r, err := ch.route(out, strings.TrimSuffix(c.Server.ExternalURL, "/"))
		if err == nil && slices.ContainsFunc(list, func(other notify.Route) bool { return other.Channel.Name() == ch.Name }) {
			err = errors.New("there is another one of that name")
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("notifications.channels, %s: %w", cmp.Or(ch.Name, fmt.Sprintf("number %d", i+1)), err))
			continue
		}
		list = append(list, r)
	}
	return list, errors.Join(problems...)
}

func (ch *ChannelConfig) route(out *outbound.Client, base string) (r notify.Route, err error) {
	if err := access.CheckGroupName(ch.Name); err != nil {
		return r, fmt.Errorf("name: %w", err)
	}
	quiet, err := notify.ParseQuiet(ch.Quiet)
	if err != nil {
		return r, fmt.Errorf("quiet: %w", err)
	}
	address := notify.Address{URL: ch.URL, File: ch.URLFile}
	r.Type = ch.Type
	switch ch.Type {
	case "mail":
		r.Kinds = mail.Kinds()
		r.Channel, err = mail.New(mail.Config{
			Name: ch.Name, Server: ch.Server, User: ch.User, PasswordFile: ch.PasswordFile, From: ch.From, To: ch.To, People: ch.People == nil || *ch.People, Base: base, Out: out,
		})
	case "teams":
		r.Kinds = teams.Kinds()
		r.Channel, err = teams.New(teams.Config{Name: ch.Name, Address: address, Base: base, Out: out})
	case "mattermost":
		r.Kinds = mattermost.Kinds()
		r.Channel, err = mattermost.New(mattermost.Config{Name: ch.Name, Address: address, Base: base, Out: out})
	case "pagerduty":
		r.Kinds = pagerduty.Kinds()
		r.Channel, err = pagerduty.New(pagerduty.Config{Name: ch.Name, URL: ch.URL, KeyFile: ch.SecretFile, Base: base, Out: out})
	case "webhook":
		r.Kinds = notify.Kinds()
		r.Channel, err = webhook.New(webhook.Config{Name: ch.Name, Address: address, SecretFile: ch.SecretFile, Base: base, Out: out})
	default:
		err = fmt.Errorf("type is mail, teams, mattermost, pagerduty or webhook, not %.40q", ch.Type)
	}
	if err != nil {
		return r, err
	}
	r.Channel = notify.Quietly(r.Channel, quiet, time.Now)
	if len(ch.Kinds) == 0 {
		return r, nil
	}
	r.Kinds = nil
	for _, k := range ch.Kinds {
		if !slices.Contains(notify.Kinds(), notify.Kind(k)) {
			return r, fmt.Errorf("kinds: there is no %.40q; there are %s", k, kindNames())
		}
		r.Kinds = append(r.Kinds, notify.Kind(k))
	}
	return r, nil
}

func kindNames() string {
	var names []string
	for _, k := range notify.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// channelSchema describes an entry of notifications.channels to editors.
func channelSchema() map[string]any {
	properties := map[string]any{}
	t := reflect.TypeFor[ChannelConfig]()
	for i := range t.NumField() {
		leaf := map[string]any{"description": t.Field(i).Tag.Get("doc"), "type": "string"}
		switch t.Field(i).Type.Kind() {
		case reflect.Slice:
			leaf["type"], leaf["items"] = "array", map[string]any{"type": "string"}
		case reflect.Pointer:
			leaf["type"] = "boolean"
		}
		properties[t.Field(i).Tag.Get("yaml")] = leaf
	}
	return map[string]any{"type": "object", "additionalProperties": false, "required": []string{"name", "type"}, "properties": properties}
}

// openNotices makes what tells people.
func (a *App) openNotices() error {
	internal, err := a.config.internal()
	if err != nil {
		return err
	}
	a.outbound = outbound.New(outbound.Config{Internal: internal})
	a.closers = append(a.closers, func() error { a.outbound.Close(); return nil })
	if a.routes, err = a.config.routes(a.outbound); err != nil {
		return err
	}
	if err := a.openSlack(); err != nil {
		return err
	}
	a.told = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "drawbolt_notifications_total", Help: "Tries to tell of something, on this server."}, []string{"channel", "kind", "outcome"})
	a.notices, err = notify.New(notify.Config{
		Broker: a.broker, Store: a.db, Node: a.config.Server.Name, Routes: a.routes, Log: a.log,
		Observe: func(channel string, k notify.Kind, o notify.Outcome) {
			a.told.WithLabelValues(channel, string(k), string(o)).Inc()
		},
	})
	return err
}

// integrations returns how the channels of this server's configuration stand; one
// that has never told is missing.
func (a *App) integrations(ctx context.Context) (list []broker.Integration, err error) {
	all, err := a.broker.IntegrationStatus(ctx)
	for _, i := range all {
		if slices.ContainsFunc(a.routes, func(r notify.Route) bool { return r.Channel.Name() == i.Name }) {
			list = append(list, i)
		}
	}
	return list, err
}

// noticeMetrics tell how far the channels have come.
type noticeMetrics struct {
	app        *App
	lag, aside *prometheus.Desc
}

func (a *App) noticeMetrics() prometheus.Collector {
	of := []string{"channel"}
	return noticeMetrics{
		a,
		prometheus.NewDesc("drawbolt_notification_lag_seconds", "Age of the first event that a channel has not looked at, on all servers of the database; some seconds are nothing.", of, nil),
		prometheus.NewDesc("drawbolt_notifications_aside", "Notices that a channel does not try any more, on all servers of the database.", of, nil),
	}
}

// Describe implements prometheus.Collector.
func (m noticeMetrics) Describe(to chan<- *prometheus.Desc) { to <- m.lag; to <- m.aside }

// Collect implements prometheus.Collector.
func (m noticeMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	list, err := m.app.integrations(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(m.lag, err)
		return
	}
	for _, i := range list {
		to <- prometheus.MustNewConstMetric(m.lag, prometheus.GaugeValue, i.Lag.Seconds(), i.Name)
		to <- prometheus.MustNewConstMetric(m.aside, prometheus.GaugeValue, float64(i.AsideCount), i.Name)
	}
}

// alarmWays is over how many channels an alarm is to go.
const alarmWays = 2

// alarmChannels are the names of the channels that are told of break-glass.
func alarmChannels(routes []notify.Route) (names []string) {
	for _, r := range routes {
		if slices.Contains(r.Kinds, notify.BreakGlass) {
			names = append(names, r.Channel.Name())
		}
	}
	return names
}

// examineNotices is the doctor's look at the channels.
func (a *App) examineNotices(ctx context.Context) (list []finding) {
	add := func(state, text, next string) { list = append(list, finding{"notifications", state, text, next}) }
	status, err := a.integrations(ctx)
	if err != nil {
		add("error", err.Error(), "")
		return list
	}
	for _, r := range a.routes {
		name := r.Channel.Name()
		n := slices.IndexFunc(status, func(i broker.Integration) bool { return i.Name == name })
		switch {
		case n < 0:
			add("ok", name+" has not told of anything yet", "")
		case status[n].State == broker.IntegrationFails:
			add("warning", fmt.Sprintf("%s is %d events behind: %s", name, status[n].Behind, status[n].Error), "drawbolt integration show "+name)
		case status[n].AsideCount > 0:
			add("warning", fmt.Sprintf("%s has set %d notices aside", name, status[n].AsideCount), "drawbolt integration show "+name)
		default:
			add("ok", fmt.Sprintf("%s has come to event %d", name, status[n].Position), "")
		}
	}
	if a.config.Notifications.Digest != "" && !slices.ContainsFunc(a.routes, func(r notify.Route) bool { return slices.Contains(r.Kinds, notify.Digest) }) {
		add("warning", "notifications.digest is set, and no channel is told of "+string(notify.Digest), "add it to the kinds of a channel in notifications.channels")
	}
	if alarms := len(alarmChannels(a.routes)); alarms < alarmWays {
		add("warning", fmt.Sprintf("break-glass alarms over %d channels, and should over %d that do not depend on each other", alarms, alarmWays), "name them in notifications.channels")
	}
	return list
}
