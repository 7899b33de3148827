package slack

import (
	"context"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker/access"
)

// What is said about a request besides yes and no: questions with their answers,
// and who is called by name to decide.

// message is the one of this part of a request's messages; false: it is none that
// changes.
func (v view) message(p access.Post) (message, bool) {
	part, rest, _ := strings.Cut(p.Part, ":")
	switch part {
	case partCard:
		return card(v), true
	case partAnswer:
		return answer(v), true
	case partHanded:
		return handed(v, p.Place), true
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n < 1 || n > len(v.Request.Questions) {
		return message{}, false
	}
	switch part {
	case partQuestion:
		return question(v, n), true
	case partReply:
		return reply(v, n), true
	default:
		return message{}, false
	}
}

// person is the copy for one person, if they are known in Slack.
func (s *Slack) person(ctx context.Context, team, part string, u *access.User) ([]copyTo, error) {
	if u == nil {
		return nil, nil
	}
	return s.accounts(ctx, team, part, []string{u.ID})
}

// talk is what was asked and answered last.
func talk(v *view) (blocks []sdk.Block) {
	list := v.Request.Questions
	for _, q := range list[max(0, len(list)-maxTalk):] {
		said := q.ByName + " asks: “" + cut(q.Text, maxQuote) + "”"
		if !q.Open() {
			said += "\n" + v.Request.RequesterName + " answers: “" + cut(q.Answer, maxQuote) + "”"
		}
		blocks = append(blocks, sdk.NewSectionBlock(plain(said), nil, nil))
	}
	return blocks
}

// question asks the requester the question of that number.
func question(v view, number int) message {
	r, q := &v.Request, &v.Request.Questions[number-1]
	blocks := []sdk.Block{section("*" + word(q.ByName) + "* has a question about " + v.what() + ", which you ask for"), quote(q.Text)}
	switch {
	case !q.Open():
		blocks = append(blocks, section(":white_check_mark: You have answered"), quote(q.Answer))
	case r.StateAt(v.now) == access.Pending:
		blocks = append(blocks, sdk.NewActionBlock("question", button(actionAnswer, r.ID+" "+strconv.Itoa(number), "Answer…", sdk.StylePrimary), details(v.url)))
	default:
		blocks = append(blocks, section("It needs no answer any more: it is "+word(string(r.StateAt(v.now)))))
	}
	return message{escape(q.ByName + " asks about " + r.Account + "@" + r.TargetName + ": " + cut(q.Text, maxQuote)), append(blocks, footer(r.ID))}
}

// reply tells who has asked what the answer is.
func reply(v view, number int) message {
	r, q := &v.Request, &v.Request.Questions[number-1]
	return message{escape(r.RequesterName + " answers: " + cut(q.Answer, maxQuote)), []sdk.Block{
		section(v.requester() + " answers about " + v.what()), quote(q.Text), quote(q.Answer),
		sdk.NewActionBlock("answer", details(v.url)), footer(r.ID),
	}}
}

// handed is the card for whose account that is, under who calls them.
func handed(v view, account string) message {
	m := card(v)
	for _, h := range v.Request.HandOvers {
		if v.accounts[h.ToID] != account {
			continue
		}
		blocks := []sdk.Block{section(":point_right: *" + word(h.ByName) + "* asks you to decide in their stead")}
		if h.Note != "" {
			blocks = append(blocks, quote(h.Note))
		}
		return message{escape(h.ByName+" asks you to decide: ") + m.Text, append(blocks, m.Blocks...)}
	}
	return m
}

// openTalk asks for the words of a question, of an answer or of a hand-over.
// Whoever may not know of the request learns nothing, as everywhere.
func (s *Slack) openTalk(ctx context.Context, by access.Caller, d deed, action, id, number string) error {
	c, err := s.c.Broker.FindRequest(ctx, by, id)
	if err != nil {
		return s.of(err, id)
	}
	r := &c.Request
	carry := carried{ID: id, Room: d.room, Home: d.home}
	head := section("*" + word(r.RequesterName) + "* · " + code(r.Account) + " on " + code(r.TargetName) + " · " + length(r.Duration))
	switch action {
	case menuQuestion:
		return s.openForm(ctx, d, form(formQuestion, "Ask a question", "Ask", carry, head, quote(r.Reason), saying("Question", r.RequesterName+" reads this. The request waits on.", false)))
	case menuHandOver:
		var options []*sdk.OptionBlockObject
		for _, name := range c.Waiting {
			name, _, _ = strings.Cut(name, " ") // "carol (for bob)"
			seen := slices.ContainsFunc(options, func(o *sdk.OptionBlockObject) bool { return o.Value == name })
			if name != by.User.Name && !seen && len(options) < maxOptions {
				options = append(options, sdk.NewOptionBlockObject(name, label(name), nil))
			}
		}
		if len(options) == 0 {
			return s.of(&access.Error{Kind: access.ErrConflict, Code: "DB-6335", Text: "nobody else is asked about " + r.ID + " now, so there is nobody to hand it to"}, id)
		}
		to := sdk.NewInputBlock("to", label("To"), plain("Who could decide on it as well. Everybody still may."), sdk.NewOptionsSelectBlockElement(sdk.OptTypeStatic, label("Choose"), "v", options...))
		return s.openForm(ctx, d, form(formHandOver, "Hand over", "Hand over", carry, head, to, saying("Note", "They read this.", true)))
	default:
		if carry.Number, err = strconv.Atoi(number); err != nil || carry.Number < 1 || carry.Number > len(r.Questions) {
			return errNoAction
		}
		return s.openForm(ctx, d, form(formAnswer, "Answer", "Answer", carry, head, quote(r.Questions[carry.Number-1].Text), saying("Answer", "Whoever decides reads this.", false)))
	}
}

// saying is a field for what is said.
func saying(says, hint string, optional bool) *sdk.InputBlock {
	b := writing("why", says, hint, "", optional)
	b.Element.(*sdk.PlainTextInputBlockElement).MaxLength = access.MaxQuestion
	return b
}
