package slack

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// Forms: the reason of a no, the note of a yes, and what somebody asks for.

// A carried is what a form carries from where it was opened to where it is sent.
type carried struct {
	ID     string `json:"id,omitempty"`
	Digest string `json:"digest,omitempty"`
	Number int    `json:"number,omitempty"` // of a question or an alarm
	Room   string `json:"room,omitempty"`
	Home   bool   `json:"home,omitempty"`
}

func form(name, title, submit string, c carried, blocks ...sdk.Block) sdk.ModalViewRequest {
	b, err := json.Marshal(c)
	if err != nil {
		panic("slack: " + err.Error()) // strings and numbers
	}
	v := sdk.ModalViewRequest{
		Type: sdk.VTModal, CallbackID: name, PrivateMetadata: string(b),
		Title: sdk.NewTextBlockObject(sdk.PlainTextType, cut(title, maxTitle), false, false), Close: label("Cancel"),
		Blocks: sdk.Blocks{BlockSet: blocks},
	}
	if submit != "" {
		v.Submit = label(submit)
	}
	return v
}

// writing is a field for a text. The limit counts characters where ours counts
// bytes; the broker has the last word.
func writing(name, says, hint, typed string, optional bool) *sdk.InputBlock {
	e := sdk.NewPlainTextInputBlockElement(nil, "v")
	e.Multiline, e.MaxLength, e.InitialValue = true, access.MaxReason, cut(typed, access.MaxReason)
	e.FocusOnLoad = typed == ""
	var h *sdk.TextBlockObject
	if hint != "" {
		h = plain(hint)
	}
	b := sdk.NewInputBlock(name, label(says), h, e)
	b.Optional = optional
	return b
}

func (s *Slack) openForm(ctx context.Context, d deed, v sdk.ModalViewRequest) error {
	return s.call(ctx, func(ctx context.Context) error {
		_, err := s.api.OpenViewContext(ctx, d.trigger, v)
		return err
	})
}

// openDecision asks for the words of a decision. Whoever may not know of the
// request learns nothing, as everywhere.
func (s *Slack) openDecision(ctx context.Context, by access.Caller, d deed, action, id, digest string) error {
	c, err := s.c.Broker.FindRequest(ctx, by, id)
	if err != nil {
		return s.of(err, id)
	}
	r := &c.Request
	carry := carried{ID: id, Digest: digest, Room: d.room, Home: d.home}
	head := section("*" + word(r.RequesterName) + "* · " + code(r.Account) + " on " + code(r.TargetName) + " · " + length(r.Duration))
	switch action {
	case menuNote:
		return s.openForm(ctx, d, form(formNote, "Approve", "Approve", carry, head, quote(r.Reason), writing("why", "Note", r.RequesterName+" reads this.", "", false)))
	case actionDeny:
		return s.openForm(ctx, d, form(formDeny, "Deny", "Deny", carry, head, quote(r.Reason), writing("why", "Why", r.RequesterName+" reads this.", "", false)))
	default:
		return s.openForm(ctx, d, form(formRevoke, "Revoke now?", "Revoke", carry, head,
			section("Every session under this grant ends at once."), writing("why", "Why", r.RequesterName+" reads this, and your name.", "", false)))
	}
}

// submit does what a form says.
func (s *Slack) submit(ctx context.Context, by access.Caller, d deed, v *sdk.View) error {
	var c carried
	if err := json.Unmarshal([]byte(v.PrivateMetadata), &c); err != nil {
		return errNoAction
	}
	d.room, d.home = c.Room, c.Home
	why := strings.TrimSpace(strings.Join(strings.Fields(field(v, "why").Value), " "))
	if v.CallbackID == formAsk {
		return s.submitAsk(ctx, by, d, v, why)
	}
	if v.CallbackID == formExpected {
		return s.submitExpected(ctx, by, d, c, why)
	}
	if !access.ValidID(access.RequestPrefix, c.ID) {
		return errNoAction
	}
	var err error
	switch v.CallbackID {
	case formQuestion:
		_, err = s.c.Broker.Ask(ctx, by, c.ID, why)
	case formAnswer:
		_, err = s.c.Broker.Answer(ctx, by, c.ID, c.Number, why)
	case formHandOver:
		_, err = s.c.Broker.HandOver(ctx, by, c.ID, field(v, "to").SelectedOption.Value, why)
	case formDeny:
		_, err = s.c.Broker.Deny(ctx, by, c.ID, c.Digest, why)
	case formNote:
		_, err = s.c.Broker.Approve(ctx, by, c.ID, c.Digest, broker.Answer{Comment: why})
	case formRevoke:
		_, err = s.c.Broker.Revoke(ctx, by, c.ID, why)
	default:
		return errNoAction
	}
	return s.done(ctx, by, d, c.ID, err)
}

func field(v *sdk.View, name string) sdk.BlockAction {
	if v.State == nil {
		return sdk.BlockAction{}
	}
	return v.State.Values[name]["v"]
}

// An asked is what somebody asks for: in a form, or in a command that waits for
// its button.
type asked struct {
	Account  string `json:"account"`
	Target   string `json:"target"`
	Duration string `json:"for,omitempty"` // "": the default
	Reason   string `json:"reason"`
}

var durations = []string{"15m", "30m", "1h", "2h", "4h", "8h"}

// askForm is the form to ask with; wrong says why what was typed was refused.
func askForm(a asked, room string, wrong *message) sdk.ModalViewRequest {
	one := 1
	what := sdk.NewOptionsSelectBlockElement(sdk.OptTypeExternal, label("root@db01"), "v")
	what.MinQueryLength = &one
	if a.Target != "" {
		name := a.Account + "@" + a.Target
		what.InitialOption = sdk.NewOptionBlockObject(name, label(name), nil)
	}
	var lengths []*sdk.OptionBlockObject
	for _, d := range durations {
		lengths = append(lengths, sdk.NewOptionBlockObject(d, label(d), nil))
	}
	howLong := sdk.NewOptionsSelectBlockElement(sdk.OptTypeStatic, label("1h"), "v", lengths...)
	for _, o := range lengths {
		if o.Value == a.Duration {
			howLong.InitialOption = o
		}
	}
	forBlock := sdk.NewInputBlock("for", label("For"), nil, howLong)
	forBlock.Optional = true
	start := sdk.NewInputBlock("start", label("Start"), plain("Empty: as soon as it is approved."), sdk.NewDateTimePickerBlockElement("v"))
	start.Optional = true
	var blocks []sdk.Block
	if wrong != nil {
		blocks = append(blocks, section(":warning: *That was refused*"))
		blocks = append(blocks, wrong.Blocks...)
	}
	blocks = append(blocks,
		sdk.NewInputBlock("what", label("Account and target"), nil, what), forBlock,
		writing("why", "Why", "An incident or change number speeds this up.", a.Reason, false), start)
	return form(formAsk, "Request access", "Send", carried{Room: room}, blocks...)
}

// waiting stands in the place of a form that is being worked on.
func waiting() *sdk.ModalViewRequest {
	v := form("waiting", "Request access", "", carried{}, section(":hourglass_flowing_sand: One moment…"))
	v.Close = label("Close")
	return &v
}

func (s *Slack) submitAsk(ctx context.Context, by access.Caller, d deed, v *sdk.View, why string) error {
	a := asked{Duration: field(v, "for").SelectedOption.Value, Reason: why}
	a.Account, a.Target, _ = strings.Cut(field(v, "what").SelectedOption.Value, "@")
	var start time.Time
	if at := field(v, "start").SelectedDateTime; at > 0 {
		start = time.Unix(at, 0)
	}
	c, err := s.request(ctx, by, a, start)
	var next sdk.ModalViewRequest
	if err != nil {
		m := s.sentence(err)
		next = askForm(a, d.room, &m)
	} else {
		m, err := s.outcome(ctx, c)
		if err != nil {
			return err
		}
		next = form("sent", "Request access", "", carried{}, m.Blocks...)
		next.Close = label("Close")
	}
	return s.call(ctx, func(ctx context.Context) error {
		_, err := s.api.UpdateViewContext(ctx, next, "", "", v.ID)
		return err
	})
}

func (s *Slack) request(ctx context.Context, by access.Caller, a asked, start time.Time) (broker.Case, error) {
	ask := broker.Ask{Target: a.Target, Account: a.Account, Reason: a.Reason, Start: start}
	if a.Duration != "" {
		var err error
		if ask.Duration, err = access.ParseDuration(a.Duration); err != nil {
			return broker.Case{}, err
		}
	}
	return s.c.Broker.Request(ctx, by, ask)
}

// ask asks for what a button holds.
func (s *Slack) ask(ctx context.Context, by access.Caller, d deed, a asked) error {
	c, err := s.request(ctx, by, a, time.Time{})
	if err != nil {
		return err
	}
	m, err := s.outcome(ctx, c)
	if err != nil {
		return err
	}
	return s.whisper(ctx, d, m)
}

// outcome is what somebody is told who has asked.
func (s *Slack) outcome(ctx context.Context, c broker.Case) (message, error) {
	v, err := s.view(ctx, c.Request.ID)
	return answer(v), err
}

// offered is what a field offers for what is typed.
type offered struct {
	Options []*sdk.OptionBlockObject `json:"options"`
}

// suggest is what a form offers for what is typed: the accounts on targets that
// the person may ask for. Slack waits for it.
func (s *Slack) suggest(ctx context.Context, d deed, typed string) offered {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	out := offered{[]*sdk.OptionBlockObject{}}
	if !s.mayClick(d.who) {
		return out
	}
	account, target, both := strings.Cut(strings.ToLower(strings.TrimSpace(typed)), "@")
	if !both {
		account, target = "", account
	}
	err := s.ours(ctx, d.who)
	var by access.Caller
	if err == nil {
		by, err = s.c.Broker.Linked(ctx, d.who)
	}
	var list []broker.TargetView
	if err == nil {
		list, _, err = s.c.Broker.FindTargets(ctx, by, broker.TargetFilter{Part: target, Usable: true, Limit: maxOptions})
	}
	if err != nil {
		if !errors.Is(err, access.ErrUnauthenticated) && !errors.Is(err, access.ErrDenied) {
			s.c.Log.WarnContext(ctx, "targets could not be offered in Slack", "error", err)
		}
		return out
	}
	for _, t := range list {
		for _, a := range t.Accounts {
			name := a.Name + "@" + t.Target.Name
			if !a.MayAsk || !strings.HasPrefix(a.Name, account) || len(name) > maxOption {
				continue
			}
			says := name
			if len(a.Needs) == 0 {
				says += " (no approval)"
			}
			if out.Options = append(out.Options, sdk.NewOptionBlockObject(name, label(says), nil)); len(out.Options) == maxOptions {
				return out
			}
		}
	}
	return out
}
