package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/outbound"
	"github.com/drawbolt/drawbolt/web"
	"github.com/drawbolt/drawbolt/web/slack"
)

// slackProblems says what is wrong with notifications.slack. Without a bot token
// there is no Slack.
func (c *Config) slackProblems() (list []string) {
	s := c.Notifications.Slack
	if s.BotTokenFile == "" {
		if s.AppTokenFile != "" || s.SigningSecretFile != "" || s.Channel != "" {
			list = append(list, "bot_token_file is missing: the token with which the server speaks in Slack")
		}
		return list
	}
	if s.Channel == "" {
		list = append(list, "channel is missing: the id of the conversation that hears of requests, such as C0123456789")
	}
	switch s.Mode {
	case slack.SocketMode:
		if s.AppTokenFile == "" {
			list = append(list, "app_token_file is missing: mode socket opens its connection with it")
		}
	case slack.HTTPMode:
		if s.SigningSecretFile == "" {
			list = append(list, "signing_secret_file is missing: with mode http it tells Slack from others")
		}
	default:
		list = append(list, fmt.Sprintf("mode is %s or %s, not %q", slack.SocketMode, slack.HTTPMode, s.Mode))
	}
	if _, err := notify.ParseQuiet(s.Quiet); err != nil {
		list = append(list, "quiet: "+err.Error())
	}
	if s.APIURL != "" {
		if err := outbound.CheckURL(s.APIURL); err != nil {
			list = append(list, "api_url: "+err.Error())
		}
	}
	return list
}

// openSlack makes the app in Slack, if there is one: it is one of the channels.
func (a *App) openSlack() error {
	s := a.config.Notifications.Slack
	if s.BotTokenFile == "" {
		return nil
	}
	if slices.ContainsFunc(a.routes, func(r notify.Route) bool { return r.Channel.Name() == slack.Kind }) {
		return errors.New("notifications.channels: none may be called slack beside notifications.slack")
	}
	c := slack.Config{
		Broker: a.broker, Store: a.db, Out: a.outbound, Mode: s.Mode, Channel: s.Channel, Alerts: s.Alerts,
		URL: a.config.Server.ExternalURL, APIURL: s.APIURL, Log: a.log,
	}
	var err error
	if c.Quiet, err = notify.ParseQuiet(s.Quiet); err != nil {
		return fmt.Errorf("notifications.slack.quiet: %w", err)
	}
	if c.BotToken, err = outbound.ReadSecret(s.BotTokenFile); err != nil {
		return fmt.Errorf("notifications.slack.bot_token_file: %w", err)
	}
	if s.Mode == slack.SocketMode {
		if c.AppToken, err = outbound.ReadSecret(s.AppTokenFile); err != nil {
			return fmt.Errorf("notifications.slack.app_token_file: %w", err)
		}
	} else if c.SigningSecret, err = outbound.ReadSecret(s.SigningSecretFile); err != nil {
		return fmt.Errorf("notifications.slack.signing_secret_file: %w", err)
	}
	if a.slack, err = slack.New(c); err != nil {
		return err
	}
	a.routes = append(a.routes, notify.Route{Channel: a.slack, Type: slack.Kind, Kinds: notify.Kinds()})
	return nil
}

// slackFront puts the app in Slack, and what is needed to make one, into the web.
func (a *App) slackFront(c *web.Config) {
	c.SlackApp = func(mode string) ([]byte, string) {
		m := slack.Manifest(mode, a.config.Server.ExternalURL)
		return m, slack.CreateURL(m)
	}
	if a.slack != nil {
		c.Slack, c.CheckSlack = a.slack, a.slack.Check
	}
}
