package slack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// command does what was typed after /access.
func (s *Slack) command(ctx context.Context, by access.Caller, d deed, text string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	switch word {
	case "":
		return s.openForm(ctx, d, askForm(asked{}, d.room, nil))
	case "help":
		return s.whisper(ctx, d, help())
	case "inbox":
		return s.inbox(ctx, by, d)
	case "mine":
		return s.mine(ctx, by, d)
	case "end":
		return s.end(ctx, by, d, strings.TrimSpace(rest))
	}
	a, err := parseAsk(text)
	if err != nil {
		return err
	}
	if a.Account == "" {
		if a.Account, err = s.onlyAccount(ctx, by, a.Target); err != nil {
			return err
		}
	}
	return s.whisper(ctx, d, confirm(a))
}

func help() message {
	lines := []string{
		code("/access db01 as root for 1h INC-1234 replication lag") + " asks for access",
		code("/access") + " opens a form to ask with",
		code("/access inbox") + " is what waits for you, " + code("/access mine") + " what you have and wait for",
		code("/access end") + " gives access back",
		code("/access link") + " says who you are in drawbolt",
	}
	return message{"How to use /access", []sdk.Block{section(strings.Join(lines, "\n"))}}
}

// parseAsk reads db01 [as root] [for 1h] [because] reason. What follows the
// words that it knows is the reason, as it was typed.
func parseAsk(text string) (asked, error) {
	var a asked
	rest := strings.TrimSpace(text)
	next := func() (word string) {
		word, rest, _ = strings.Cut(rest, " ")
		rest = strings.TrimLeft(rest, " ")
		return word
	}
	a.Target = next()
	if account, target, both := strings.Cut(a.Target, "@"); both {
		a.Account, a.Target = account, target
	}
	for {
		word, _, _ := strings.Cut(rest, " ")
		switch {
		case word == "as" && a.Account == "":
			next()
			a.Account = next()
			if a.Account == "" {
				return asked{}, errUsage
			}
			continue
		case word == "for" && a.Duration == "":
			was := rest
			next()
			length := next()
			if _, err := access.ParseDuration(length); err != nil {
				rest = was // "for the audit" is a reason
				break
			}
			a.Duration = length
			continue
		}
		break
	}
	a.Reason = strings.TrimSpace(rest)
	if err := access.CheckTargetName(a.Target); err != nil {
		return asked{}, err
	}
	if a.Account != "" {
		if err := access.CheckAccountName(a.Account); err != nil {
			return asked{}, err
		}
	}
	if a.Reason == "" {
		return asked{}, &access.Error{Kind: access.ErrInvalid, Code: "DB-1003", Text: "a reason is needed", Next: "/access " + a.Target + " for 1h INC-1234 what you will do"}
	}
	return a, access.CheckReason(a.Reason)
}

var errUsage = &access.Error{Kind: access.ErrInvalid, Code: "DB-6199", Text: "say it like: db01 as root for 1h INC-1234 what you will do", Next: "/access help"}

// onlyAccount is the one account of a target that the caller may ask for.
func (s *Slack) onlyAccount(ctx context.Context, by access.Caller, target string) (string, error) {
	t, err := s.c.Broker.FindTarget(ctx, by, target)
	if err != nil {
		return "", err
	}
	var names []string
	for _, a := range t.Accounts {
		if a.MayAsk {
			names = append(names, a.Name)
		}
	}
	if len(names) != 1 {
		return "", &access.Error{Kind: access.ErrInvalid, Code: "DB-6199", Text: fmt.Sprintf("say which account of %s: you may ask for %d of them", target, len(names)), Next: "/access " + target + " as root for 1h INC-1234 what you will do"}
	}
	return names[0], nil
}

// confirm shows what will be asked for, before it is.
func confirm(a asked) message {
	what := code(a.Account) + " on " + code(a.Target)
	if a.Duration != "" {
		what += " · " + a.Duration
	}
	value, err := json.Marshal(a)
	if err != nil || len([]rune(string(value))) > maxValue {
		m := message{"The reason is too long for a button; use the form.", nil}
		m.Blocks = []sdk.Block{section(m.Text), sdk.NewActionBlock("ask", button(actionAsk, "", "Open the form", ""))}
		return m
	}
	return message{escape("Ask for " + a.Account + "@" + a.Target), []sdk.Block{
		section("Ask for " + what + "?"), quote(a.Reason),
		sdk.NewActionBlock("ask", button(actionSend, string(value), "Send", sdk.StylePrimary)),
	}}
}

// beginLink gives the holder of an account the address at which they say whose it
// is. Nobody else sees it; it proves nothing by itself, and is good once.
func (s *Slack) beginLink(ctx context.Context, d deed) error {
	who := d.who
	var known *sdk.User
	err := s.call(ctx, func(ctx context.Context) (err error) {
		known, err = s.api.GetUserInfoContext(ctx, who.ID)
		return err
	})
	// Only shown to whoever confirms; that it is not to be had changes nothing.
	if err == nil {
		name := clean(known.RealName)
		if mail := clean(known.Profile.Email); mail != "" {
			name = clean(strings.TrimSpace(name + " " + mail))
		}
		if name != "" {
			who.Name = name
		}
	}
	secret, err := s.c.Broker.BeginLink(ctx, who)
	if err != nil {
		return err
	}
	b := button(actionOpen, "", "Link my account", sdk.StylePrimary)
	b.URL = s.c.URL + "/link?" + url.Values{"code": {secret}}.Encode()
	return s.whisper(ctx, deed{who: d.who, reply: d.reply}, message{"Link your account", []sdk.Block{
		section("Sign in to drawbolt and say that this account is yours. The button works once, for ten minutes."), sdk.NewActionBlock("link", b),
	}})
}

// inbox shows what waits for somebody, with the buttons.
func (s *Slack) inbox(ctx context.Context, by access.Caller, d deed) error {
	blocks, err := s.inboxBlocks(ctx, by)
	if err != nil {
		return err
	}
	return s.whisper(ctx, d, message{"What waits for you", blocks})
}

func (s *Slack) inboxBlocks(ctx context.Context, by access.Caller) ([]sdk.Block, error) {
	list, err := s.c.Broker.Requests(ctx, by, broker.Filter{Inbox: true, Limit: maxListed})
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return []sdk.Block{section("Nothing waits for you.")}, nil
	}
	var blocks []sdk.Block
	for _, c := range list {
		v, err := s.view(ctx, c.Request.ID)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, again(card(v).Blocks, c.Request.ID)...)
	}
	if len(list) == maxListed {
		blocks = append(blocks, footer("there may be more: "+link(s.c.URL+"/inbox", "the inbox")))
	}
	return blocks, nil
}

// again names blocks anew, as several cards stand in one message.
func again(blocks []sdk.Block, id string) []sdk.Block {
	for _, b := range blocks {
		if a, is := b.(*sdk.ActionBlock); is {
			a.BlockID += ":" + id
		}
	}
	return blocks
}

func (s *Slack) mine(ctx context.Context, by access.Caller, d deed) error {
	blocks, err := s.mineBlocks(ctx, by)
	if err != nil {
		return err
	}
	return s.whisper(ctx, d, message{"Your access", blocks})
}

func (s *Slack) mineBlocks(ctx context.Context, by access.Caller) ([]sdk.Block, error) {
	open, err := s.c.Broker.Requests(ctx, by, broker.Filter{Mine: true, Active: true, Limit: maxListed})
	if err != nil {
		return nil, err
	}
	pending, err := s.c.Broker.Requests(ctx, by, broker.Filter{Mine: true, State: access.Pending, Limit: maxListed})
	if err != nil {
		return nil, err
	}
	var blocks []sdk.Block
	for _, c := range open {
		v := view{Case: c, now: s.c.Now()}
		b := sdk.NewSectionBlock(marked("*"+v.what()+"* · "+use(&v)), nil, sdk.NewAccessory(button(actionEnd, c.Request.ID, "End", sdk.StyleDanger)))
		blocks = append(blocks, b)
	}
	for _, c := range pending {
		v := view{Case: c, now: s.c.Now()}
		blocks = append(blocks, section(":hourglass_flowing_sand: "+v.what()+" · waits for "+wanted(c.Request.Needs)+" · until "+clock(c.Request.ExpiresAt)+" · "+link(s.requestURL(c.Request.ID), c.Request.ID)))
	}
	if len(blocks) == 0 {
		blocks = append(blocks, section("You have no access now, and wait for none."))
	}
	return blocks, nil
}

// end gives back what is named, or the only thing there is.
func (s *Slack) end(ctx context.Context, by access.Caller, d deed, id string) error {
	if id == "" {
		open, err := s.c.Broker.Requests(ctx, by, broker.Filter{Mine: true, Active: true, Limit: 2})
		if err != nil {
			return err
		}
		if len(open) != 1 {
			return s.mine(ctx, by, d)
		}
		id = open[0].Request.ID
	}
	c, err := s.c.Broker.Release(ctx, by, id)
	if err != nil {
		return s.done(ctx, by, d, id, err)
	}
	if err := s.done(ctx, by, d, c.Request.ID, nil); err != nil {
		return err
	}
	v := view{Case: c}
	return s.whisper(ctx, d, message{"Given back", []sdk.Block{section(":checkered_flag: " + v.what() + " is given back.")}})
}

// publish shows somebody their home tab as it is now.
func (s *Slack) publish(ctx context.Context, by access.Caller, account string) error {
	mine, err := s.mineBlocks(ctx, by)
	if err != nil {
		return err
	}
	waits, err := s.inboxBlocks(ctx, by)
	if err != nil {
		return err
	}
	blocks := []sdk.Block{
		sdk.NewActionBlock("top", button(actionAsk, "", "Request access", sdk.StylePrimary), details(s.c.URL)),
		sdk.NewHeaderBlock(plain("My access")),
	}
	blocks = append(append(blocks, mine...), sdk.NewHeaderBlock(plain("Waiting for me")))
	blocks = append(append(blocks, waits...), footer("as of "+at(s.c.Now(), "{time_secs}")))
	return s.publishBlocks(ctx, account, blocks)
}

func (s *Slack) publishBlocks(ctx context.Context, account string, blocks []sdk.Block) error {
	return s.call(ctx, func(ctx context.Context) error {
		_, err := s.api.PublishViewContext(ctx, sdk.PublishViewContextRequest{
			UserID: account, View: sdk.HomeTabViewRequest{Type: sdk.VTHomeTab, Blocks: sdk.Blocks{BlockSet: blocks[:min(len(blocks), maxHome)]}},
		})
		return err
	})
}
