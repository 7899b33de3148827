package slack

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker/access"
)

// scopes are what the bot may do in the workspace; it needs every one.
func scopes() []string {
	return []string{"chat:write", "chat:write.public", "commands", "im:write", "users:read", "users:read.email"}
}

// Manifest is the description of the app, in JSON, from which Slack makes it. With
// HTTPMode it holds the addresses at which Slack reaches the server at url.
func Manifest(mode, server string) []byte {
	type object = map[string]any
	events := strings.TrimSuffix(server, "/") + "/slack/events"
	interactivity, subscriptions := object{"is_enabled": true}, object{"bot_events": []string{"app_home_opened"}}
	command := object{
		"command": "/access", "description": "Ask for access, or see what waits for you",
		"usage_hint": "[target] [as account] [for 1h] [reason] | inbox | mine | end | link", "should_escape": false,
	}
	if mode == HTTPMode {
		interactivity["request_url"], interactivity["message_menu_options_url"] = events, events
		subscriptions["request_url"] = events
		command["url"] = strings.TrimSuffix(server, "/") + "/slack/commands"
	}
	b, err := json.MarshalIndent(object{
		"_metadata":           object{"major_version": 1, "minor_version": 1},
		"display_information": object{"name": "Drawbolt", "description": "Ask for, approve and watch privileged access", "background_color": "#1f2a44"},
		"features": object{
			"app_home":       object{"home_tab_enabled": true, "messages_tab_enabled": true, "messages_tab_read_only_enabled": false},
			"bot_user":       object{"display_name": "drawbolt", "always_online": true},
			"slash_commands": []object{command},
			"shortcuts": []object{
				{"name": "Request access", "type": "global", "callback_id": formAsk, "description": "Ask for time-boxed access"},
				{"name": "Request access for this", "type": "message", "callback_id": formAskFor, "description": "Use this message as the reason"},
			},
		},
		"oauth_config": object{"scopes": object{"bot": scopes()}},
		"settings": object{
			"interactivity": interactivity, "event_subscriptions": subscriptions,
			"org_deploy_enabled": false, "socket_mode_enabled": mode != HTTPMode, "token_rotation_enabled": false,
		},
	}, "", "  ")
	if err != nil {
		panic("slack: the manifest does not marshal: " + err.Error()) // strings, lists and booleans always do
	}
	return append(b, '\n')
}

// CreateURL is where Slack offers to make an app of the manifest.
func CreateURL(manifest []byte) string {
	return "https://api.slack.com/apps?" + url.Values{"new_app": {"1"}, "manifest_json": {string(manifest)}}.Encode()
}

// The steps of a check, in the order in which they are taken.
const (
	StepBot     = "bot-token"
	StepScopes  = "scopes"
	StepDeliver = "delivery" // how Slack reaches us
	StepPeople  = "people"
	StepChannel = "channel" // a card can be posted
)

// Check tries everything that the app needs, posts a card, and says of each what
// to do when it fails.
func (s *Slack) Check(ctx context.Context) []access.CheckStep {
	var steps []access.CheckStep
	add := func(step string, err error, good, next string) bool {
		one := access.CheckStep{Step: step, Target: Kind, State: access.CheckOK, Detail: good}
		if err != nil {
			one.State, one.Detail, one.Next = access.CheckFailed, err.Error(), next
		}
		steps = append(steps, one)
		return err == nil
	}
	var who *sdk.AuthTestResponse
	err := s.call(ctx, func(ctx context.Context) (err error) {
		who, err = s.api.AuthTestContext(ctx)
		return err
	})
	if err != nil {
		add(StepBot, err, "", "install the app in the workspace and put its Bot User OAuth Token (xoxb-) into the file notifications.slack.bot_token_file")
		return steps
	}
	add(StepBot, nil, "it is the bot "+who.User+" in the workspace "+who.Team, "")
	var missing []string
	given := strings.Split(strings.ReplaceAll(who.Header.Get("X-OAuth-Scopes"), " ", ""), ",")
	for _, scope := range scopes() {
		if !slices.Contains(given, scope) {
			missing = append(missing, scope)
		}
	}
	err = nil
	if len(missing) > 0 {
		err = errors.New("missing: " + strings.Join(missing, ", "))
	}
	add(StepScopes, err, "it may do all that it needs", "put the manifest into the app (drawbolt integration slack manifest) and install it once more")
	if s.c.Mode == SocketMode {
		err = s.call(ctx, func(ctx context.Context) error {
			_, _, err := s.api.StartSocketModeContext(ctx)
			return err
		})
		add(StepDeliver, err, "the app token opens a connection", "make an App-Level Token (xapp-) with connections:write and put it into the file notifications.slack.app_token_file")
	} else {
		add(StepDeliver, nil, "Slack sends to "+s.c.URL+"/slack/events, signed", "")
	}
	err = s.call(ctx, func(ctx context.Context) error {
		_, err := s.api.GetUserInfoContext(ctx, who.UserID)
		return err
	})
	add(StepPeople, err, "people can be looked up", "add the scopes users:read and users:read.email and install the app once more")
	channels := []string{s.c.Channel}
	if s.c.Alerts != s.c.Channel {
		channels = append(channels, s.c.Alerts)
	}
	for _, channel := range channels {
		card := message{"drawbolt can post here", []sdk.Block{section(":wave: *drawbolt* can post here."), footer("a test by an administrator")}}
		err = s.call(ctx, func(ctx context.Context) error {
			_, _, err := s.api.PostMessageContext(ctx, channel, card.options()...)
			return err
		})
		add(StepChannel, err, "a card is in "+channel, "put the channel's id (C…) into notifications.slack.channel or alerts; to a private channel, invite the app")
	}
	return steps
}
