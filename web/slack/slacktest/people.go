package slacktest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// A Button is one that somebody sees in a message.
type Button struct {
	Room, TS, Action, Value, Option string
	Ephemeral                       bool
}

// Buttons are those of a message, and what its menus offer.
func Buttons(m Message) []Button {
	var blocks []block
	if json.Unmarshal(m.Blocks, &blocks) != nil {
		return nil
	}
	var list []Button
	add := func(e *element) {
		b := Button{Room: m.Room, TS: m.TS, Action: e.ActionID, Value: e.Value, Ephemeral: m.Only != ""}
		if e.Type == "button" {
			list = append(list, b)
		}
		for _, o := range e.Options {
			b.Option = o.Value
			list = append(list, b)
		}
	}
	for _, b := range blocks {
		if b.Accessory != nil {
			add(b.Accessory)
		}
		for _, raw := range b.Elements {
			var e element
			if json.Unmarshal(raw, &e) == nil && e.ActionID != "" {
				add(&e)
			}
		}
	}
	return list
}

// Find returns the first button of that action in a message.
func Find(m Message, action string) (Button, bool) {
	list := Buttons(m)
	i := slices.IndexFunc(list, func(b Button) bool { return b.Action == action })
	if i < 0 {
		return Button{}, false
	}
	return list[i], true
}

// A Deed is what the server brings to the app.
type Deed struct {
	Kind    string // interactive, slash_commands, events_api
	Payload map[string]any
}

func (s *Server) trigger(user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	return fmt.Sprintf("trigger-%s-%d", user, s.number)
}

func (s *Server) reply(room, user string) string {
	return "http://" + s.listener.Addr().String() + "/response/" + room + "/" + user
}

func (s *Server) person(user string) map[string]any {
	return map[string]any{"id": user, "name": user, "username": user, "team_id": s.Team}
}

// Press is the deed of a user who presses a button.
func (s *Server) Press(user string, b Button) Deed {
	action := map[string]any{"action_id": b.Action, "block_id": "decide", "type": "button", "value": b.Value}
	if b.Option != "" {
		action = map[string]any{"action_id": b.Action, "block_id": "head", "type": "overflow", "selected_option": map[string]any{"value": b.Option}}
	}
	return Deed{"interactive", map[string]any{
		"type": "block_actions", "team": map[string]any{"id": s.Team}, "user": s.person(user), "trigger_id": s.trigger(user),
		"response_url": s.reply(b.Room, user), "channel": map[string]any{"id": b.Room}, "actions": []any{action},
		"container": map[string]any{"type": "message", "message_ts": b.TS, "channel_id": b.Room, "is_ephemeral": b.Ephemeral},
		"message":   map[string]any{"ts": b.TS},
	}}
}

// Submit is the deed of a user who sends the form that they see.
func (s *Server) Submit(user string, values map[string]any) (Deed, error) {
	var v map[string]any
	if err := json.Unmarshal(s.View(user), &v); err != nil {
		return Deed{}, fmt.Errorf("%s sees no form: %w", user, err)
	}
	state := map[string]any{}
	for name, value := range values {
		state[name] = map[string]any{"v": value}
	}
	s.mu.Lock()
	s.number++
	hash := fmt.Sprint(s.number)
	s.mu.Unlock()
	v["id"], v["hash"], v["state"] = "view-"+user, hash, map[string]any{"values": state}
	return Deed{"interactive", map[string]any{"type": "view_submission", "team": map[string]any{"id": s.Team}, "user": s.person(user), "view": v}}, nil
}

// Typed is what a user has typed into a field of a form, and Chosen what they chose.
func Typed(text string) map[string]any {
	return map[string]any{"type": "plain_text_input", "value": text}
}

// Chosen is an option that a user chose in a form.
func Chosen(value string) map[string]any {
	return map[string]any{"type": "static_select", "selected_option": map[string]any{"value": value}}
}

// Command is the deed of a user who types /access and a text.
func (s *Server) Command(user, room, text string) Deed {
	return Deed{"slash_commands", map[string]any{
		"command": "/access", "text": text, "team_id": s.Team, "user_id": user, "user_name": user, "channel_id": room,
		"trigger_id": s.trigger(user), "response_url": s.reply(room, user),
	}}
}

// Suggest is the deed of a user who types into a field that offers something.
func (s *Server) Suggest(user, typed string) Deed {
	return Deed{"interactive", map[string]any{
		"type": "block_suggestion", "team": map[string]any{"id": s.Team}, "user": s.person(user), "action_id": "v", "block_id": "what", "value": typed,
	}}
}

// OpenHome is the deed of a user who opens the home tab.
func (s *Server) OpenHome(user string) Deed {
	return Deed{"events_api", map[string]any{
		"type": "event_callback", "team_id": s.Team, "event_id": s.trigger(user),
		"event": map[string]any{"type": "app_home_opened", "user": user, "tab": "home", "channel": "D" + user},
	}}
}

// Form writes a deed as Slack sends it by HTTP.
func (d Deed) Form() (contentType string, body []byte, err error) {
	b, err := json.Marshal(d.Payload)
	if err != nil {
		return "", nil, err
	}
	switch d.Kind {
	case "interactive":
		return "application/x-www-form-urlencoded", []byte(url.Values{"payload": {string(b)}}.Encode()), nil
	case "slash_commands":
		form := url.Values{}
		for k, v := range d.Payload {
			form.Set(k, fmt.Sprint(v))
		}
		return "application/x-www-form-urlencoded", []byte(form.Encode()), nil
	}
	return "application/json", b, nil
}

// Deliver brings a deed to the app, over a socket or to EventsURL, and returns
// what it is answered.
func (s *Server) Deliver(ctx context.Context, d Deed) (json.RawMessage, error) {
	if s.EventsURL != "" {
		contentType, body, err := d.Form()
		if err != nil {
			return nil, err
		}
		return s.post(ctx, contentType, body)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var c *socket
	if err := s.Until(ctx, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.sockets) > 0 {
			c = s.sockets[0]
		}
		return c != nil
	}); err != nil {
		return nil, fmt.Errorf("no socket is open: %w", err)
	}
	return c.deliver(ctx, d)
}

// Marked are the texts of a message in which Slack reads markup.
func Marked(m Message) []string {
	var blocks any
	if json.Unmarshal(m.Blocks, &blocks) != nil {
		return nil
	}
	var list []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if text, is := v["text"].(string); is && v["type"] == "mrkdwn" {
				list = append(list, text)
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(blocks)
	return list
}
