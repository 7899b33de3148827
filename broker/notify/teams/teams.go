// Package teams tells a channel of Microsoft Teams, by the address of a workflow
// that posts what it is sent. The message is an Adaptive Card: a title, what it is
// about, and a link to the page on which people decide.
//
// It trusts the notices, and nothing that people typed: a card's text blocks read
// Markdown, so all of it stands in rich text, which does not. Teams is told nothing
// that can be pressed but the link.
package teams

import (
	"context"
	"fmt"

	"github.com/drawbolt/drawbolt/broker/notify"
	"github.com/drawbolt/drawbolt/broker/outbound"
)

// Config is what a Channel needs.
type Config struct {
	Name    string
	Address notify.Address // of the workflow; it is a secret
	Base    string         // of the server's pages
	Out     *outbound.Client
}

// A Channel is safe for concurrent use.
type Channel struct{ c Config }

// New checks the configuration.
func New(c Config) (*Channel, error) {
	if err := c.Address.Check(); err != nil {
		return nil, fmt.Errorf("configure teams: %w", err)
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
	return c.c.Address.PostJSON(ctx, c.c.Out, card(notify.Say(n, c.c.Base)))
}

// The parts of an Adaptive Card that are used, version 1.4
// (https://adaptivecards.io/explorer).
type (
	message struct {
		Type        string       `json:"type"`
		Attachments []attachment `json:"attachments"`
	}
	attachment struct {
		ContentType string  `json:"contentType"`
		Content     content `json:"content"`
	}
	content struct {
		Schema   string   `json:"$schema"`
		Type     string   `json:"type"`
		Version  string   `json:"version"`
		Fallback string   `json:"fallbackText"`
		Speak    string   `json:"speak"`
		Body     []block  `json:"body"`
		Actions  []action `json:"actions"`
	}
	block struct {
		Type    string `json:"type"`
		Spacing string `json:"spacing,omitempty"`
		Inlines []run  `json:"inlines"`
	}
	run struct {
		Type   string `json:"type"`
		Text   string `json:"text"`
		Weight string `json:"weight,omitempty"`
		Size   string `json:"size,omitempty"`
		Color  string `json:"color,omitempty"`
		Subtle bool   `json:"isSubtle,omitempty"`
		Italic bool   `json:"italic,omitempty"`
	}
	action struct {
		Type  string `json:"type"`
		Title string `json:"title"`
		URL   string `json:"url"`
	}
)

func card(m notify.Message) message {
	rich := func(spacing string, runs ...run) block {
		for i := range runs {
			runs[i].Type = "TextRun"
		}
		return block{Type: "RichTextBlock", Spacing: spacing, Inlines: runs}
	}
	heading := run{Text: m.Title, Weight: "Bolder", Size: "Medium"}
	if m.Loud {
		heading.Color = "Attention"
	}
	body := []block{rich("", heading)}
	for _, f := range m.Quotes {
		body = append(body, rich("Small", run{Text: f.Name + ": ", Subtle: true}, run{Text: "“" + f.Value + "”", Italic: true}))
	}
	for _, f := range m.Facts {
		body = append(body, rich("Small", run{Text: f.Name + ": ", Subtle: true}, run{Text: f.Value}))
	}
	return message{Type: "message", Attachments: []attachment{{
		ContentType: "application/vnd.microsoft.card.adaptive",
		Content: content{
			Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.4", Fallback: m.Title, Speak: m.Title,
			Body: body, Actions: []action{{Type: "Action.OpenUrl", Title: m.Action, URL: m.URL}},
		},
	}}}
}
