package slack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
)

// The messages about a request. A copy that a click has shown us, and of which
// nothing was known, has a part of its own that begins with partCard.
const (
	partCard   = "card"   // for who decides
	partAnswer = "answer" // for the requester
	partHanded = "handed" // for who is called by name
	// With the number of a question behind a colon:
	partQuestion = "question" // for the requester
	partReply    = "answered" // for who has asked
)

// A copy is a message that is to be somewhere.
type copyTo struct{ part, place string }

// Notify implements notify.Channel.
func (s *Slack) Notify(ctx context.Context, n notify.Notice) error {
	err := s.tell(ctx, n)
	if late, is := errors.AsType[*sdk.RateLimitedError](err); is {
		return &notify.Later{Err: err, After: late.RetryAfter}
	}
	switch codeOf(err) {
	case "invalid_blocks", "invalid_arguments", "msg_too_long", "msg_blocks_too_long":
		return fmt.Errorf("%w: %w", notify.ErrRefused, err)
	}
	return err
}

func (s *Slack) tell(ctx context.Context, n notify.Notice) error {
	if n.Way != "" {
		return s.signIn(ctx, n)
	}
	if n.Session != nil && (n.Kind == notify.Unusual || n.Kind == notify.Acknowledged || n.Kind == notify.Expected) {
		return s.alarm(ctx, n)
	}
	until, quiet := s.c.Quiet.At(s.c.Now())
	quiet = quiet && !n.Urgent()
	if n.Case == nil || n.Kind == notify.Unusual { // the card of the request says nothing of what is unusual
		if quiet {
			return &notify.Hold{Until: until, Why: notify.QuietHours}
		}
		return s.tellAlone(ctx, n)
	}
	r := &n.Case.Request
	team, err := s.workspace(ctx)
	if err != nil {
		return err
	}
	if n.Kind == notify.Used {
		if wait, err := s.settles(r.ID); wait {
			return err
		}
	}
	var to []copyTo
	switch n.Kind {
	case notify.Asked, notify.Edited, notify.Escalated, notify.Voted:
		to, err = s.deciders(ctx, team, n.Deciders)
		if n.Kind != notify.Voted {
			to = append([]copyTo{{partCard, s.c.Channel}}, to...)
		}
	case notify.Questioned:
		to, err = s.person(ctx, team, partQuestion+":"+strconv.Itoa(n.Number), n.For)
	case notify.Replied:
		to, err = s.person(ctx, team, partReply+":"+strconv.Itoa(n.Number), n.For)
	case notify.HandedOver:
		to, err = s.person(ctx, team, partHanded, n.For)
	case notify.BreakGlass:
		to = []copyTo{{partCard, s.c.Alerts}}
	case notify.Approved, notify.Denied, notify.Expired:
		// Who was let in at once was there.
		if len(r.Needs) > 0 && !r.BreakGlass {
			to, err = s.accounts(ctx, team, partAnswer, []string{r.RequesterID})
		}
	}
	if err != nil {
		return err
	}
	later := false
	if quiet {
		to, later = s.hush(n, to)
	}
	if err := s.show(ctx, r.ID, to); err != nil {
		return err
	}
	if later {
		return &notify.Hold{Until: until, Why: notify.QuietHours}
	}
	if err := s.reply(ctx, n); err != nil {
		return err
	}
	return s.counted(ctx, n)
}

// deciders are the copies for those who may decide and are known in Slack.
func (s *Slack) deciders(ctx context.Context, team string, users []access.User) ([]copyTo, error) {
	var ids []string
	for _, u := range users[:min(len(users), maxDirect)] {
		ids = append(ids, u.ID)
	}
	return s.accounts(ctx, team, partCard, ids)
}

func (s *Slack) accounts(ctx context.Context, team, part string, userIDs []string) ([]copyTo, error) {
	links, err := s.c.Broker.LinksTo(ctx, Kind, team, userIDs)
	if err != nil {
		return nil, err
	}
	var to []copyTo
	for _, l := range links {
		to = append(to, copyTo{part, l.ID})
	}
	return to, nil
}

// rounds is how often a request may change while its messages are brought up to
// date. Each change of it brings them up to date itself.
const rounds = 5

// show brings every message about a request up to date, and sends those that
// are to be somewhere and are not. It may be called at any time, on several
// servers at once: whoever finds, after it is done, that the request has changed
// meanwhile does it again, so that the last one to write has written the newest.
func (s *Slack) show(ctx context.Context, id string, to []copyTo) error {
	for range rounds {
		v, err := s.view(ctx, id)
		if err != nil {
			return err
		}
		stamp := v.stamp()
		posts, err := s.c.Store.Posts(ctx, Kind, id)
		if err != nil {
			return err
		}
		err = s.all(id, posts, to, func(p access.Post) error {
			m, is := v.message(p)
			if !is {
				return nil // a reply, which stays as it is
			}
			return s.bring(ctx, p, m, v.open())
		})
		if err != nil {
			return err
		}
		again, err := s.c.Broker.CaseNow(ctx, id)
		if err != nil {
			return err
		}
		if v.Case, v.now = again, s.c.Now(); v.stamp() == stamp {
			return nil
		}
	}
	return nil
}

// all calls bring for each message that is there, and for each that is to be.
// What fails for one keeps no other back.
func (s *Slack) all(id string, posts []access.Post, to []copyTo, bring func(access.Post) error) error {
	for _, c := range to {
		if !slices.ContainsFunc(posts, func(p access.Post) bool { return p.Part == c.part && p.Place == c.place }) {
			posts = append(posts, access.Post{Channel: Kind, Subject: id, Part: c.part, Place: c.place})
		}
	}
	errs := make([]error, len(posts))
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, p := range posts {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			errs[i] = bring(p)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// view reads what the card of a request shows.
func (s *Slack) view(ctx context.Context, id string) (view, error) {
	c, err := s.c.Broker.CaseNow(ctx, id)
	if err != nil {
		return view{}, err
	}
	team, err := s.workspace(ctx)
	if err != nil {
		return view{}, err
	}
	r := &c.Request
	v := view{Case: c, accounts: map[string]string{}, now: s.c.Now(), pages: s.c.URL, url: s.requestURL(r.ID)}
	if r.StateAt(v.now) == access.Expired {
		if v.nobody, err = s.c.Broker.Unanswered(ctx, r); err != nil {
			return v, err
		}
	}
	ids := []string{r.RequesterID}
	for _, a := range r.Approvals {
		ids = append(ids, a.UserID)
	}
	for _, h := range r.HandOvers {
		ids = append(ids, h.ToID)
	}
	for _, u := range v.nobody.Asked[:min(len(v.nobody.Asked), maxNamed)] {
		ids = append(ids, u.ID)
	}
	links, err := s.c.Broker.LinksTo(ctx, Kind, team, ids)
	if err != nil {
		return v, err
	}
	for _, l := range links {
		v.accounts[l.UserID] = l.ID
	}
	if v.environment, err = s.c.Broker.EnvironmentOf(ctx, r.TargetID); err != nil {
		return v, err
	}
	if r.BreakGlass {
		glass, err := s.c.Broker.GlassReviewNow(ctx, r.ID)
		switch {
		case err == nil:
			v.glass = &glass
		case !errors.Is(err, access.ErrNotFound):
			return v, err
		}
	}
	if c.Grant != nil && !c.Grant.Start.IsZero() {
		if v.use, err = s.c.Broker.UseOf(ctx, c.Grant.ID); err != nil {
			return v, err
		}
	}
	v.button, err = s.c.Broker.VoteTakes(ctx, Kind, r)
	return v, err
}

// stamp changes when what is shown of the request does.
func (v *view) stamp() string {
	return fmt.Sprint(v.Version(), v.Request.StateAt(v.now), v.Grant.StateAt(v.now))
}

// open reports whether something may still happen to the request.
func (v *view) open() bool {
	return v.Request.StateAt(v.now) == access.Pending || v.Grant.StateAt(v.now) != access.Ended
}

// bring makes a message show m: it is sent when it is not there yet, and again
// when somebody has removed it while the request is open. A crash between the
// sending and the note of it sends it twice; whoever presses a button of the
// copy that nobody knows of makes it known.
func (s *Slack) bring(ctx context.Context, p access.Post, m message, open bool) error {
	shown := m.shown()
	if p.Message != "" {
		if p.Shown == shown {
			return nil
		}
		err := s.call(ctx, func(ctx context.Context) error {
			_, _, _, err := s.api.UpdateMessageContext(ctx, p.Room, p.Message, m.options()...)
			return err
		})
		switch codeOf(err) {
		case "message_not_found", "channel_not_found", "is_archived", "cant_update_message", "edit_window_closed":
			s.c.Log.WarnContext(ctx, "a message in Slack is gone", "subject", p.Subject, "room", p.Room, "error", err)
			if err := s.c.Store.RemovePost(ctx, p); err != nil {
				return err
			}
			if !open || p.Part != partCard && p.Part != partAnswer && p.Part != partHanded {
				return nil
			}
		default:
			if err != nil {
				return fmt.Errorf("change a message in Slack: %w", err)
			}
			p.Shown = shown
			return s.c.Store.SavePost(ctx, p)
		}
	}
	return s.send(ctx, p, m, "")
}

// send posts a message, in a thread if one is named, and keeps where it is.
func (s *Slack) send(ctx context.Context, p access.Post, m message, thread string) error {
	options := m.options()
	if thread != "" {
		options = append(options, sdk.MsgOptionTS(thread))
	}
	err := s.call(ctx, func(ctx context.Context) (err error) {
		p.Room, p.Message, err = s.api.PostMessageContext(ctx, p.Place, options...)
		return err
	})
	switch codeOf(err) {
	case "user_not_found", "user_disabled", "account_inactive", "users_not_found", "messages_tab_disabled", "cannot_dm_bot", "user_is_bot":
		s.c.Log.WarnContext(ctx, "somebody cannot be told in Slack", "account", p.Place, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("send a message to %s in Slack: %w", p.Place, err)
	}
	p.Shown, p.PostedAt = m.shown(), s.c.Now()
	// It is there: that is kept even when the caller has gone.
	return s.c.Store.SavePost(context.WithoutCancel(ctx), p)
}

// reply says below the card, once, what somebody wrote or what a card in place
// would not be noticed for.
func (s *Slack) reply(ctx context.Context, n notify.Notice) error {
	r, head := &n.Case.Request, below(n)
	if head == "" {
		return nil
	}
	m := message{escape(r.ID + ": " + string(n.Kind) + " " + cut(n.Text, maxQuote)), []sdk.Block{section(head)}}
	if n.Text != "" {
		m.Blocks = append(m.Blocks, quote(n.Text))
	}
	posts, err := s.c.Store.Posts(ctx, Kind, r.ID)
	if err != nil {
		return err
	}
	part := "reply:" + strconv.FormatInt(n.Position, 10)
	var errs []error
	for _, p := range posts {
		// In the channel for those who follow; to the requester what takes access away.
		below := p.Part == partCard && (p.Place == s.c.Channel || p.Place == s.c.Alerts) || p.Part == partAnswer && n.Kind == notify.Revoked
		said := slices.ContainsFunc(posts, func(o access.Post) bool { return o.Part == part && o.Place == p.Room })
		if !below || said {
			continue
		}
		errs = append(errs, s.send(ctx, access.Post{Channel: Kind, Subject: r.ID, Part: part, Place: p.Room}, m, p.Message))
	}
	return errors.Join(errs...)
}

// below is what a reply begins with; "": there is none.
func below(n notify.Notice) string {
	switch n.Kind {
	case notify.Voted, notify.Approved, notify.Revoked, notify.Reviewed, notify.Denied:
		if n.Text != "" {
			return "*" + word(n.Actor) + "*:"
		}
	case notify.Edited:
		return ":pencil2: *" + word(n.Actor) + "* asks for something else now; earlier approvals do not count any more"
	case notify.Escalated:
		return ":arrow_up: nobody has decided yet; now more people may"
	case notify.ReviewReminder:
		return ":lock: the review of this break-glass access is still open"
	}
	return ""
}

// tellAlone tells what has a message of its own, once.
func (s *Slack) tellAlone(ctx context.Context, n notify.Notice) error {
	place, subject := s.c.Channel, "notice:"+strconv.FormatInt(n.Position, 10)
	var m message
	switch n.Kind {
	case notify.BreakGlass:
		place, m = s.c.Alerts, s.sealedLogin(n)
	case notify.CampaignDue:
		m = message{escape("An access review is due: " + cut(n.Text, maxQuote)), []sdk.Block{section(":clipboard: *An access review waits for its owner*"), quote(n.Text)}}
	case notify.AccountFound:
		place = s.c.Alerts
		where := strings.TrimPrefix(n.Account, "@")
		m = message{escape("Accounts on " + where + " that somebody should look at"), []sdk.Block{section(":warning: *Accounts on " + word(where) + " that somebody should look at*"), quote(n.Text)}}
	case notify.PasswordTrouble:
		place = s.c.Alerts
		m = message{escape("The password of " + n.Account + " is not as it should be"), []sdk.Block{section(":warning: *The password of " + word(n.Account) + " is not as it should be*"), quote(n.Text)}}
	case notify.Digest:
		head := count(int64(n.Number), "request was", "requests were") + " approved by the policy alone"
		m = message{escape(head), []sdk.Block{section(":zap: *" + head + "*"), quote(n.Text), footer(link(s.c.URL+"/requests", "all requests"))}}
	case notify.Test:
		m = message{"A test message of drawbolt", []sdk.Block{section(":wave: drawbolt can post here. " + word(n.Actor) + " has tried it.")}}
		subject = "" // each time anew
	default:
		return nil
	}
	if subject != "" {
		posts, err := s.c.Store.Posts(ctx, Kind, subject)
		if err != nil || len(posts) > 0 {
			return err
		}
	}
	p := access.Post{Channel: Kind, Subject: subject, Part: string(n.Kind), Place: place}
	return s.send(ctx, p, m, "")
}

// sealedLogin is the message about a login that sealed codes have opened: the only
// break-glass that is about no request.
func (s *Slack) sealedLogin(n notify.Notice) message {
	who := n.Actor
	if who == "" {
		who = "the emergency user"
	}
	blocks := []sdk.Block{
		sdk.NewHeaderBlock(sdk.NewTextBlockObject(sdk.PlainTextType, cut("🚨 Break-glass login", maxHeader), true, false)),
		section("*Sealed codes* opened a login of *" + word(who) + "* at " + at(n.At, "{time_secs}") + ". If nobody can say who opened them and why, lock " + word(who) + " at once: that ends the login."),
	}
	if n.Text != "" {
		blocks = append(blocks, quote(n.Text))
	}
	see := details(s.c.URL + "/breakglass")
	see.Text = label("What was taken")
	blocks = append(blocks, sdk.NewActionBlock("sealed", see), footer("these codes are used up: make and hand out new ones"))
	return message{escape("BREAK-GLASS: sealed codes opened a login of " + who + ": " + cut(n.Text, maxQuote)), blocks}
}

var _ notify.Channel = (*Slack)(nil)
