// Package mattermost tells a channel of Mattermost, by the address of an incoming
// webhook: a title, what it is about, and a link to the page on which people decide.
//
// It trusts the notices, and nothing that people typed: all of that stands in code,
// in which Mattermost reads neither Markdown nor mentions.
package mattermost

import (
	"context"
	"fmt"
	"strings"

	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/outbound"
)

// Config is what a Channel needs.
type Config struct {
	Name    string
	Address notify.Address // of the incoming webhook; it is a secret
	Base    string         // of the server's pages
	Out     *outbound.Client
}

// A Channel is safe for concurrent use.
type Channel struct{ c Config }

// New checks the configuration.
func New(c Config) (*Channel, error) {
	if err := c.Address.Check(); err != nil {
		return nil, fmt.Errorf("configure mattermost: %w", err)
	}
	return &Channel{c}, nil
}

// Kinds are those that a channel is given when nobody says which.
func Kinds() []notify.Kind {
	return []notify.Kind{notify.Asked, notify.Edited, notify.Escalated, notify.Expired, notify.Revoked, notify.BreakGlass, notify.ReviewReminder, notify.Reviewed, notify.Unusual, notify.Acknowledged, notify.Expected, notify.CampaignDue, notify.Digest, notify.Tampered, notify.PasswordTrouble, notify.AccountFound, notify.SignInReset, notify.PasskeyCopied}
}

// Name implements notify.Channel.
func (c *Channel) Name() string { return c.c.Name }

// Notify implements notify.Channel.
func (c *Channel) Notify(ctx context.Context, n notify.Notice) error {
	return c.c.Address.PostJSON(ctx, c.c.Out, post(notify.Say(n, c.c.Base)))
}

// A webhook is the body that an incoming webhook takes
// (https://developers.mattermost.com/integrate/webhooks/incoming).
type webhook struct {
	Attachments []attachment `json:"attachments"`
}

type attachment struct {
	Fallback string `json:"fallback"`
	Color    string `json:"color"`
	Text     string `json:"text"`
}

const (
	calm = "#4b6584"
	loud = "#c0392b"
)

func post(m notify.Message) webhook {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n", escape(m.Title))
	for _, f := range m.Quotes {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, code(f.Value))
	}
	for _, f := range m.Facts {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, code(f.Value))
	}
	fmt.Fprintf(&b, "[%s](%s)", m.Action, m.URL)
	a := attachment{Fallback: m.Title, Color: calm, Text: b.String()}
	if m.Loud {
		a.Color = loud
	}
	return webhook{[]attachment{a}}
}

// code writes s as code, in which nothing has a meaning but the backtick that
// would end it.
func code(s string) string { return "`" + strings.ReplaceAll(s, "`", "'") + "`" }

// escape takes the meaning from what Markdown reads. An @ that would begin a mention
// gets a character of no width behind it.
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\`*_{}[]()#+!|<>~:", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
		if r == '@' {
			b.WriteRune('\u200b')
		}
	}
	return b.String()
}
