package slack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	sdk "github.com/slack-go/slack"
	"github.com/slack-go/slack/slackevents"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
)

// What buttons and forms are named.
const (
	actionApprove = "approve"
	actionMore    = "more" // a menu: what it means stands in the value
	actionTalk    = "talk" // another one
	actionDeny    = "deny"
	actionRevoke  = "revoke"
	actionPause   = "pause" // a session, and all under its grant
	actionEnd     = "end"
	actionOpen    = "open"   // an address; Slack tells of the click too
	actionReview  = "review" // another one beside it
	actionWatch   = "watch"  // and another
	actionAsk     = "ask"    // open the form
	actionSend    = "send"   // ask for what the button holds
	actionAnswer  = "answer" // a question
	actionOnIt    = "ack"    // of break-glass, or of an alarm
	actionExpect  = "expected"

	menuShort    = "short"
	menuReadOnly = "readonly"
	menuWatched  = "watched"
	menuNote     = "note"
	menuQuestion = "question"
	menuHandOver = "handover"

	formDeny     = "deny"
	formNote     = "approve_note"
	formRevoke   = "revoke"
	formQuestion = "question"
	formAnswer   = "answer"
	formHandOver = "handover"
	formExpected = "expected"
	formAsk      = "request_access" // also the name of the shortcut
	formAskFor   = "request_access_from_message"
)

// A deed is what somebody did in Slack.
type deed struct {
	who     access.ExternalAccount
	room    string // where it was done; "" in a home tab or a form
	message string // of which message; "" when it is of none that stays
	reply   string // address for an answer that only they see
	trigger string // lets us open a form, for three seconds
	home    bool   // done in the home tab
}

// take takes what somebody did in Slack: an sdk.InteractionCallback, an
// sdk.SlashCommand or a slackevents.EventsAPIEvent. It returns what Slack is
// answered at once, and what is to be done after that. An error is told to
// nobody but Slack, which shows that the click did not arrive.
func (s *Slack) take(ctx context.Context, in any) (answer any, after func(context.Context), err error) {
	var d deed
	var do func(context.Context, access.Caller) error
	act := func(ctx context.Context, d deed) error {
		by, err := s.c.Broker.Linked(ctx, d.who)
		if err != nil {
			return err
		}
		return do(ctx, by)
	}
	once := "" // the same when Slack brings it again
	switch in := in.(type) {
	case sdk.InteractionCallback:
		d = deedOf(&in)
		once = in.TriggerID
		switch in.Type {
		case sdk.InteractionTypeBlockSuggestion:
			return s.suggest(ctx, d, in.Value), nil, nil
		case sdk.InteractionTypeBlockActions:
			if len(in.ActionCallback.BlockActions) != 1 {
				return nil, nil, nil
			}
			a := in.ActionCallback.BlockActions[0]
			value := a.Value
			if isMenu(a.ActionID) {
				value = a.SelectedOption.Value
			}
			if a.ActionID == actionOpen || a.ActionID == actionReview || a.ActionID == actionWatch {
				return nil, nil, nil
			}
			do = func(ctx context.Context, by access.Caller) error { return s.press(ctx, by, d, a.ActionID, value) }
		case sdk.InteractionTypeViewSubmission:
			once = "view:" + in.View.ID + ":" + in.View.Hash
			if in.View.CallbackID == formAsk {
				answer = sdk.NewUpdateViewSubmissionResponse(waiting())
			}
			do = func(ctx context.Context, by access.Caller) error { return s.submit(ctx, by, d, &in.View) }
		case sdk.InteractionTypeShortcut, sdk.InteractionTypeMessageAction:
			reason := ""
			if in.Type == sdk.InteractionTypeMessageAction {
				reason = in.Message.Text
			}
			do = func(ctx context.Context, by access.Caller) error {
				return s.openForm(ctx, d, askForm(asked{Reason: reason}, d.room, nil))
			}
		default:
			return nil, nil, nil
		}
	case sdk.SlashCommand:
		d = deed{who: access.ExternalAccount{Kind: Kind, Team: in.TeamID, ID: in.UserID, Name: clean(in.UserName)}, room: in.ChannelID, reply: in.ResponseURL, trigger: in.TriggerID}
		once = in.TriggerID
		if strings.TrimSpace(in.Text) == "link" {
			act = s.beginLink
		}
		do = func(ctx context.Context, by access.Caller) error { return s.command(ctx, by, d, in.Text) }
	case slackevents.EventsAPIEvent:
		opened, is := in.InnerEvent.Data.(*slackevents.AppHomeOpenedEvent)
		if !is || opened.Tab != "home" {
			return nil, nil, nil
		}
		d = deed{who: access.ExternalAccount{Kind: Kind, Team: in.TeamID, ID: opened.User}, home: true}
		do = func(ctx context.Context, by access.Caller) error { return s.publish(ctx, by, d.who.ID) }
	default:
		return nil, nil, fmt.Errorf("slack: nobody knows what to do with %T", in)
	}
	if !s.mayClick(d.who) {
		return nil, nil, errTooMany
	}
	return answer, func(ctx context.Context) { s.guard(ctx, d, once, act) }, nil
}

var errTooMany = &access.Error{Kind: access.ErrUnavailable, Code: "DB-6196", Text: "you click faster than anybody can mean it: wait a little"}

func deedOf(in *sdk.InteractionCallback) deed {
	team := in.User.TeamID
	if team == "" {
		team = in.Team.ID
	}
	d := deed{
		who:   access.ExternalAccount{Kind: Kind, Team: team, ID: in.User.ID, Name: clean(in.User.Name)},
		room:  in.Channel.ID,
		reply: in.ResponseURL, trigger: in.TriggerID, home: in.View.Type == sdk.VTHomeTab,
	}
	if d.room == "" {
		d.room = in.Container.ChannelID
	}
	if !in.Container.IsEphemeral {
		d.message = in.Container.MessageTs
	}
	return d
}

// clean makes a name fit to be shown; what is not is left out.
func clean(name string) string {
	name = cut(name, access.MaxName)
	if access.CheckText("the name", name, access.MaxLabel) != nil {
		return ""
	}
	return name
}

// guard stands around everything that somebody did: only those of our own
// workspace count, each deed counts once, and what is refused is told them.
func (s *Slack) guard(ctx context.Context, d deed, once string, do func(context.Context, deed) error) {
	err := s.ours(ctx, d.who)
	if err == nil && once != "" {
		sum := sha256.Sum256([]byte("slack deed\n" + d.who.Team + "\n" + d.who.ID + "\n" + once))
		var first bool
		if first, err = s.c.Store.Once(ctx, hex.EncodeToString(sum[:]), s.c.Now().Add(rememberFor)); err == nil && !first {
			return // Slack has brought it twice
		}
	}
	if err == nil {
		err = do(ctx, d)
	}
	if err != nil {
		s.refuse(ctx, d, err)
	}
}

// ours refuses accounts of other workspaces, which a shared channel brings.
func (s *Slack) ours(ctx context.Context, a access.ExternalAccount) error {
	team, err := s.workspace(ctx)
	if err != nil {
		return errors.Join(access.ErrUnavailable, err)
	}
	if a.Team != team {
		return &access.Error{Kind: access.ErrDenied, Code: "DB-6194", Text: "you are of another workspace, whose people decide nothing here", Rule: "slack.workspace"}
	}
	return nil
}

func isMenu(action string) bool { return action == actionMore || action == actionTalk }

// press does what a button says.
func (s *Slack) press(ctx context.Context, by access.Caller, d deed, action, value string) error {
	if isMenu(action) {
		action, value, _ = strings.Cut(value, " ")
	}
	id, digest, _ := strings.Cut(value, " ")
	if action == actionAsk {
		return s.openForm(ctx, d, askForm(asked{}, d.room, nil))
	}
	if action == actionSend {
		var a asked
		if err := json.Unmarshal([]byte(value), &a); err != nil {
			return errNoAction
		}
		return s.ask(ctx, by, d, a)
	}
	switch {
	case action == actionPause:
		return s.pause(ctx, by, d, id)
	case action == actionExpect, action == actionOnIt && access.ValidID(access.SessionPrefix, id):
		return s.pressAlarm(ctx, by, d, action, id, digest)
	}
	if !access.ValidID(access.RequestPrefix, id) {
		return errNoAction
	}
	var err error
	switch action {
	case actionApprove:
		_, err = s.c.Broker.Approve(ctx, by, id, digest, broker.Answer{})
	case menuShort:
		_, err = s.c.Broker.Approve(ctx, by, id, digest, broker.Answer{Duration: short})
	case menuWatched:
		_, err = s.c.Broker.Approve(ctx, by, id, digest, broker.Answer{Narrowing: access.Narrowing{FourEyes: true}})
	case menuReadOnly:
		_, err = s.c.Broker.Approve(ctx, by, id, digest, broker.Answer{Narrowing: access.ReadOnly()})
	case actionEnd:
		_, err = s.c.Broker.Release(ctx, by, id)
	case actionOnIt:
		err = s.c.Broker.Acknowledge(ctx, by, id, 0)
	case actionAnswer, menuQuestion, menuHandOver:
		return s.openTalk(ctx, by, d, action, id, digest)
	case menuNote, actionDeny, actionRevoke:
		return s.openDecision(ctx, by, d, action, id, digest)
	default:
		return errNoAction
	}
	return s.done(ctx, by, d, id, err)
}

// pause holds back what the user of a session types. The alert under which the
// button stands is no card, and stays as it is.
func (s *Slack) pause(ctx context.Context, by access.Caller, d deed, id string) error {
	if !access.ValidID(access.SessionPrefix, id) {
		return errNoAction
	}
	page := s.c.URL + "/sessions/" + id
	if err := s.c.Broker.Pause(ctx, by, id); err != nil {
		return &refusal{err, page}
	}
	x, err := s.c.Broker.FindSession(ctx, by, id)
	if err == nil {
		err = s.show(ctx, x.RequestID, nil)
	}
	if err != nil { // it is paused all the same
		s.c.Log.WarnContext(ctx, "messages in Slack are not up to date", "session", id, "error", err)
	}
	return s.whisper(ctx, d, message{"The input is held back", []sdk.Block{
		section(":double_vertical_bar: What is typed in " + link(page, id) + " is held back, and in every other session under its grant. Let it go on, or end it, on the page."),
	}})
}

var errNoAction = &access.Error{Kind: access.ErrInvalid, Code: "DB-6199", Text: "there is no such button any more: open the request", Next: "/access inbox"}

// done brings the messages up to date after a deed, whatever came of it: a click
// on an old card is answered with the card as it is now.
func (s *Slack) done(ctx context.Context, by access.Caller, d deed, id string, err error) error {
	// The deed is done; that the cards cannot be brought up to date is no refusal
	// of it, and the next notice does it.
	if e := s.adopt(ctx, d, id); e != nil {
		s.c.Log.WarnContext(ctx, "a message in Slack was not kept", "request", id, "error", e)
	}
	if e := s.show(ctx, id, nil); e != nil {
		s.c.Log.WarnContext(ctx, "messages in Slack are not up to date", "request", id, "error", e)
	}
	if d.home {
		if e := s.publish(ctx, by, d.who.ID); e != nil {
			s.c.Log.WarnContext(ctx, "a home tab in Slack is not up to date", "error", e)
		}
	}
	return s.of(err, id)
}

// of adds to a refusal where the request is, for who has to go there.
func (s *Slack) of(err error, id string) error {
	if err == nil {
		return nil
	}
	return &refusal{err, s.requestURL(id)}
}

// A refusal is an error with the address of what it is about.
type refusal struct {
	error
	url string
}

func (r *refusal) Unwrap() error { return r.error }

// adopt keeps where a card is that nobody knew of: it was sent before a crash, or
// an answer of Slack got lost.
func (s *Slack) adopt(ctx context.Context, d deed, id string) error {
	if d.room == "" || d.message == "" || d.home {
		return nil
	}
	posts, err := s.c.Store.Posts(ctx, Kind, id)
	if err != nil {
		return err
	}
	for _, p := range posts {
		if p.Room == d.room && p.Message == d.message {
			return nil
		}
	}
	if _, err := s.c.Broker.CaseNow(ctx, id); err != nil {
		return err
	}
	return s.c.Store.SavePost(ctx, access.Post{
		Channel: Kind, Subject: id, Part: partCard + ":" + d.message, Place: d.room, Room: d.room, Message: d.message, PostedAt: s.c.Now(),
	})
}

// refuse tells somebody why what they did has not been done: in the words of the
// broker, which are the same everywhere.
func (s *Slack) refuse(ctx context.Context, d deed, err error) {
	m := s.sentence(err)
	if e := s.whisper(ctx, d, m); e != nil {
		s.c.Log.WarnContext(ctx, "a refusal could not be told in Slack", "account", d.who.ID, "refusal", err, "error", e)
	}
}

func (s *Slack) sentence(err error) message {
	url := s.c.URL
	if r, is := errors.AsType[*refusal](err); is {
		url = r.url
	}
	said, is := errors.AsType[*access.Error](err)
	if !is || said.Kind == access.ErrUnavailable && said.Code == "" {
		s.c.Log.Error("what somebody did in Slack failed", "error", err)
		text := "drawbolt could not do that, and nothing was changed. Try it on the web."
		return message{text, []sdk.Block{section(":warning: " + escape(text)), sdk.NewActionBlock("web", details(url))}}
	}
	text := sentenceCase(said.Text) + "."
	parts := []string{said.Code}
	if said.Rule != "" {
		parts = append([]string{"rule " + code(said.Rule)}, parts...)
	}
	if said.Next != "" {
		parts = append(parts, "next: "+code(said.Next))
	}
	m := message{escape(text), []sdk.Block{sdk.NewSectionBlock(plain(text), nil, nil), footer(parts...)}}
	switch {
	case said.Code == "DB-6193":
		m.Blocks = append(m.Blocks, section("Type "+code("/access link")+" to link it: that takes twenty seconds."))
	case url != s.c.URL:
		m.Blocks = append(m.Blocks, sdk.NewActionBlock("web", details(url)))
	}
	return m
}

// whisper tells somebody something that only they see, where they are; in a
// message of their own where that does not go.
func (s *Slack) whisper(ctx context.Context, d deed, m message) error {
	if d.home && d.trigger == "" { // they have only looked
		return s.publishBlocks(ctx, d.who.ID, m.Blocks)
	}
	if d.reply != "" && s.mayReply(d.reply) {
		if err := s.respond(ctx, d.reply, m); err == nil {
			return nil
		}
	}
	if d.room != "" {
		err := s.call(ctx, func(ctx context.Context) error {
			_, err := s.api.PostEphemeralContext(ctx, d.room, d.who.ID, m.options()...)
			return err
		})
		if err == nil {
			return nil
		}
	}
	return s.call(ctx, func(ctx context.Context) error {
		_, _, err := s.api.PostMessageContext(ctx, d.who.ID, m.options()...)
		return err
	})
}

// finish does what take has left to do. What has begun is not broken off when the
// server stops; Run waits for it.
func (s *Slack) finish(after func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), workWithin)
	defer cancel()
	after(ctx)
}

// recovered keeps a panic from ending more than what somebody did.
func (s *Slack) recovered() {
	if v := recover(); v != nil {
		s.c.Log.Error("panic in what somebody did in Slack", "value", v, "stack", string(debug.Stack()))
	}
}
