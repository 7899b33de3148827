package slacktest

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// The limits of Block Kit, as Slack documents them.

type text struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func (t *text) check(what string, longest int, plain bool) error {
	if t == nil {
		return fmt.Errorf("%s is missing", what)
	}
	if n := utf8.RuneCountInString(t.Text); n < 1 || n > longest {
		return fmt.Errorf("%s has %d characters, at most %d may be", what, n, longest)
	}
	if t.Type != "plain_text" && (plain || t.Type != "mrkdwn") {
		return fmt.Errorf("%s is of the type %q", what, t.Type)
	}
	return nil
}

type option struct {
	Text  *text  `json:"text"`
	Value string `json:"value"`
}

type element struct {
	Type     string   `json:"type"`
	ActionID string   `json:"action_id"`
	Text     *text    `json:"text"`
	Value    string   `json:"value"`
	URL      string   `json:"url"`
	Style    string   `json:"style"`
	Label    string   `json:"accessibility_label"`
	Options  []option `json:"options"`
	Initial  *option  `json:"initial_option"`
	Place    *text    `json:"placeholder"`
	Longest  int      `json:"max_length"`
	Typed    string   `json:"initial_value"`
}

func (e *element) check() error {
	if e.ActionID == "" || len(e.ActionID) > 255 {
		return fmt.Errorf("the action id %q", e.ActionID)
	}
	if e.Place != nil {
		if err := e.Place.check("a placeholder", 150, true); err != nil {
			return err
		}
	}
	options := func(least, most int) error {
		if len(e.Options) < least || len(e.Options) > most {
			return fmt.Errorf("%s has %d options", e.Type, len(e.Options))
		}
		for _, o := range e.Options {
			if err := o.check(); err != nil {
				return err
			}
		}
		if e.Initial != nil {
			return e.Initial.check()
		}
		return nil
	}
	switch e.Type {
	case "button":
		if len(e.Value) > 2000 || len(e.URL) > 3000 || utf8.RuneCountInString(e.Label) > 75 || e.Style != "" && e.Style != "primary" && e.Style != "danger" {
			return fmt.Errorf("the button %s: value, address, label or style", e.ActionID)
		}
		return e.Text.check("a button", 75, true)
	case "overflow":
		return options(1, 5)
	case "static_select":
		return options(1, 100)
	case "external_select":
		return options(0, 0)
	case "plain_text_input":
		if e.Longest > 3000 || utf8.RuneCountInString(e.Typed) > 3000 {
			return fmt.Errorf("the field %s is too long", e.ActionID)
		}
		return nil
	case "datetimepicker":
		return nil
	}
	return fmt.Errorf("there is no element %q", e.Type)
}

func (o *option) check() error {
	if len(o.Value) < 1 || len(o.Value) > 150 {
		return fmt.Errorf("an option's value has %d characters", len(o.Value))
	}
	return o.Text.check("an option", 75, true)
}

type block struct {
	Type      string            `json:"type"`
	BlockID   string            `json:"block_id"`
	Text      *text             `json:"text"`
	Fields    []*text           `json:"fields"`
	Accessory *element          `json:"accessory"`
	Elements  []json.RawMessage `json:"elements"`
	Element   *element          `json:"element"`
	Label     *text             `json:"label"`
	Hint      *text             `json:"hint"`
}

func (b *block) check() error {
	switch b.Type {
	case "section":
		if b.Text == nil && len(b.Fields) == 0 || len(b.Fields) > 10 {
			return fmt.Errorf("a section without a text, or with %d fields", len(b.Fields))
		}
		for _, f := range b.Fields {
			if err := f.check("a field", 2000, false); err != nil {
				return err
			}
		}
		if b.Accessory != nil {
			if err := b.Accessory.check(); err != nil {
				return err
			}
		}
		if b.Text != nil {
			return b.Text.check("a section", 3000, false)
		}
		return nil
	case "header":
		return b.Text.check("a header", 150, true)
	case "context":
		if len(b.Elements) < 1 || len(b.Elements) > 10 {
			return fmt.Errorf("a context has %d elements", len(b.Elements))
		}
		for _, raw := range b.Elements {
			var t text
			if err := json.Unmarshal(raw, &t); err != nil {
				return err
			}
			if err := t.check("a context", 3000, false); err != nil {
				return err
			}
		}
		return nil
	case "actions":
		if len(b.Elements) < 1 || len(b.Elements) > 25 {
			return fmt.Errorf("actions have %d elements", len(b.Elements))
		}
		seen := map[string]bool{}
		for _, raw := range b.Elements {
			var e element
			if err := json.Unmarshal(raw, &e); err != nil {
				return err
			}
			if err := e.check(); err != nil {
				return err
			}
			if seen[e.ActionID] {
				return fmt.Errorf("the action id %q stands twice in one block", e.ActionID)
			}
			seen[e.ActionID] = true
		}
		return nil
	case "input":
		if b.Hint != nil {
			if err := b.Hint.check("a hint", 2000, true); err != nil {
				return err
			}
		}
		if b.Element == nil {
			return fmt.Errorf("an input without an element")
		}
		if err := b.Element.check(); err != nil {
			return err
		}
		return b.Label.check("a label", 2000, true)
	}
	return fmt.Errorf("there is no block %q", b.Type)
}

func checkBlocks(raw json.RawMessage, most int) error {
	var blocks []block
	if err := json.Unmarshal(raw, &blocks); err != nil {
		return fmt.Errorf("the blocks: %w", err)
	}
	if len(blocks) < 1 || len(blocks) > most {
		return fmt.Errorf("%d blocks", len(blocks))
	}
	names := map[string]bool{}
	for i := range blocks {
		b := &blocks[i]
		if err := b.check(); err != nil {
			return fmt.Errorf("block %d: %w", i+1, err)
		}
		if len(b.BlockID) > 255 || b.BlockID != "" && names[b.BlockID] {
			return fmt.Errorf("the block id %q is too long, or stands twice", b.BlockID)
		}
		names[b.BlockID] = true
	}
	return nil
}

func checkView(raw json.RawMessage, home bool) error {
	var v struct {
		Type     string          `json:"type"`
		Title    *text           `json:"title"`
		Submit   *text           `json:"submit"`
		Close    *text           `json:"close"`
		Metadata string          `json:"private_metadata"`
		Blocks   json.RawMessage `json:"blocks"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	if home != (v.Type == "home") || len(v.Metadata) > 3000 {
		return fmt.Errorf("the view is a %q, its metadata %d characters", v.Type, len(v.Metadata))
	}
	if !home {
		if err := v.Title.check("a title", 24, true); err != nil {
			return err
		}
	}
	for _, t := range []*text{v.Submit, v.Close} {
		if t != nil {
			if err := t.check("a button of a form", 24, true); err != nil {
				return err
			}
		}
	}
	return checkBlocks(v.Blocks, 100)
}
