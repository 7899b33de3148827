package slack

import (
	"context"
	"errors"
	"slices"
	"strconv"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
)

// partSignIn is a message about how somebody signs in.
const partSignIn = "signin"

// signIn tells somebody, once, what was done to how they sign in; and where alarms go,
// when it was not they who did it.
func (s *Slack) signIn(ctx context.Context, n notify.Notice) error {
	team, err := s.workspace(ctx)
	if err != nil {
		return err
	}
	to, err := s.person(ctx, team, partSignIn, n.For)
	if err != nil {
		return err
	}
	if n.Kind != notify.SignInChanged {
		to = append(to, copyTo{partSignIn, s.c.Alerts})
	}
	subject := "notice:" + strconv.FormatInt(n.Position, 10)
	posts, err := s.c.Store.Posts(ctx, Kind, subject)
	if err != nil {
		return err
	}
	said := notify.Say(n, s.c.URL)
	m := message{escape(said.Title), []sdk.Block{section(":key: *" + word(cut(said.Title, maxQuote)) + "*")}}
	if n.Text != "" {
		m.Blocks = append(m.Blocks, quote(n.Text))
	}
	m.Blocks = append(m.Blocks, footer("If it was not you, have an administrator lock the user at once: `drawbolt user lock`"))
	var errs []error
	for _, c := range to {
		if slices.ContainsFunc(posts, func(p access.Post) bool { return p.Place == c.place }) {
			continue
		}
		errs = append(errs, s.send(ctx, access.Post{Channel: Kind, Subject: subject, Part: c.part, Place: c.place}, m, ""))
	}
	return errors.Join(errs...)
}
