package test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/drawbolt/drawbolt/web/slack/slacktest"
)

const slackRoom = "C0PROD"

func slackAccount(person string) string { return "U" + strings.ToUpper(person) }

// slack is the other side of the app in Slack; see storyVerbs.
func (s *story) slack(ts *testscript.TestScript, args []string) {
	if len(args) == 0 {
		ts.Fatalf("slack start|types|press|chooses|shows|hears|links")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	verb, args := args[0], args[1:]
	deliver := func(d slacktest.Deed) {
		_, err := s.chat.Deliver(ctx, d)
		ts.Check(err)
	}
	switch {
	case verb == "start":
		var err error
		s.chat, err = slacktest.Start("T0DEMO")
		ts.Check(err)
		s.ended = append(s.ended, s.chat.Close)
		ts.Setenv("SLACK", s.chat.URL())
		for name, token := range map[string]string{"bot": s.chat.BotToken, "app": s.chat.AppToken} {
			ts.Check(os.WriteFile(filepath.Join(s.work, name), []byte(token+"\n"), 0o600))
		}
	case verb == "types" && len(args) == 2:
		deliver(s.chat.Command(slackAccount(args[0]), slackRoom, args[1]))
	case verb == "press" && len(args) == 2:
		list := append(s.chat.Messages("D"+slackAccount(args[0])), s.chat.Messages(slackRoom)...)
		for i := len(list) - 1; i >= 0; i-- {
			if b, is := slacktest.Find(list[i], args[1]); is {
				deliver(s.chat.Press(slackAccount(args[0]), b))
				return
			}
		}
		ts.Fatalf("nothing has a button %s", args[1])
	case verb == "chooses" && len(args) == 2:
		list := append(s.chat.Messages("D"+slackAccount(args[0])), s.chat.Messages(slackRoom)...)
		for _, m := range slices.Backward(list) {
			for _, b := range slacktest.Buttons(m) {
				if strings.HasPrefix(b.Option, args[1]+" ") {
					deliver(s.chat.Press(slackAccount(args[0]), b))
					return
				}
			}
		}
		ts.Fatalf("no menu offers %s", args[1])
	case verb == "shows" && len(args) == 1:
		s.saw(ctx, ts, "", args[0])
	case verb == "hears" && len(args) == 2:
		s.saw(ctx, ts, slackAccount(args[0]), args[1])
	case verb == "links" && len(args) == 2:
		deliver(s.chat.Command(slackAccount(args[0]), slackRoom, "link"))
		_, code, _ := strings.Cut(s.saw(ctx, ts, slackAccount(args[0]), "/link?code="), "/link?code=")
		code, _, _ = strings.Cut(code, `"`)
		ts.Setenv(args[1], code)
	default:
		ts.Fatalf("slack start|types|press|chooses|shows|hears|links")
	}
	if problems := s.chat.Problems(); len(problems) > 0 {
		ts.Fatalf("Slack would have refused: %q", problems)
	}
}

// saw waits until the channel shows a text to everybody, or until a user was told
// it whom nobody else heard, and prints the newest message that has it.
func (s *story) saw(ctx context.Context, ts *testscript.TestScript, user, text string) (found string) {
	if err := s.chat.Until(ctx, func() bool {
		for _, m := range append(s.chat.Messages(slackRoom), s.chat.Messages("D"+user)...) {
			toAll := m.Only == "" && m.Room == slackRoom
			if all := m.Text + "\n" + string(m.Blocks); (user == "") == toAll && (toAll || m.Only == user || m.Room == "D"+user) && strings.Contains(all, text) {
				found = all
			}
		}
		return found != ""
	}); err != nil {
		ts.Fatalf("%q was not seen", text)
	}
	file := filepath.Join(s.work, "saw")
	ts.Check(os.WriteFile(file, []byte(found), 0o600))
	ts.Check(ts.Exec("cat", file))
	return found
}
