package slack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	sdk "github.com/slack-go/slack"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/notify"
)

// Messages about what is unusual in a session. Each detection has one, whose
// subject is the session; its part names the alarm and where in the log it is told
// of: alarm:NUMBER:POSITION. What somebody says of the alarm is seen in all of them.
const partAlarm = "alarm"

// A finding is what a message about an alarm is made of.
type finding struct {
	broker.Detection
	at     time.Time
	number int // of the session's alarm; 0: nothing can be said of it
}

// alarm tells of what is unusual, or of what somebody said of that.
func (s *Slack) alarm(ctx context.Context, n notify.Notice) error {
	if n.Kind != notify.Unusual {
		return s.showAlarms(ctx, n.Session.ID)
	}
	posts, err := s.c.Store.Posts(ctx, Kind, n.Session.ID)
	if err != nil {
		return err
	}
	part := fmt.Sprintf("%s:%d:%d", partAlarm, n.Number, n.Position)
	for _, p := range posts {
		if p.Part == part {
			return nil
		}
	}
	f := finding{broker.Detection{Rule: n.Rule, Command: n.Text}, n.At, n.Number}
	p := access.Post{Channel: Kind, Subject: n.Session.ID, Part: part, Place: s.c.Alerts}
	if err := s.send(ctx, p, s.unusual(n.Session, f), ""); err != nil {
		return err
	}
	// Somebody may have said something of it before it was kept where the message is.
	if x, err := s.c.Broker.SessionNow(ctx, n.Session.ID); err != nil || x.Version == n.Session.Version {
		return err
	}
	return s.showAlarms(ctx, n.Session.ID)
}

// showAlarms brings the messages about the alarms of a session up to date, the
// newest of them.
func (s *Slack) showAlarms(ctx context.Context, id string) error {
	for range rounds {
		x, err := s.c.Broker.SessionNow(ctx, id)
		if err != nil {
			return err
		}
		posts, err := s.c.Store.Posts(ctx, Kind, id)
		if err != nil {
			return err
		}
		slices.SortFunc(posts, func(a, b access.Post) int { return a.PostedAt.Compare(b.PostedAt) })
		posts = posts[max(0, len(posts)-maxAlarms):]
		err = s.all(id, posts, nil, func(p access.Post) error {
			f, err := s.findingOf(ctx, p.Part)
			if errors.Is(err, access.ErrNotFound) {
				return nil // it is no message about an alarm
			}
			if err != nil {
				return err
			}
			return s.bring(ctx, p, s.unusual(&x, f), false)
		})
		if err != nil {
			return err
		}
		again, err := s.c.Broker.SessionNow(ctx, id)
		if err != nil || again.Version == x.Version {
			return err
		}
	}
	return nil
}

func (s *Slack) findingOf(ctx context.Context, part string) (finding, error) {
	var f finding
	var position int64
	if n, err := fmt.Sscanf(part, partAlarm+":%d:%d", &f.number, &position); err != nil || n != 2 {
		return f, access.ErrNotFound
	}
	var err error
	f.Detection, f.at, err = s.c.Broker.DetectionAt(ctx, position)
	return f, err
}

// unusual is the message about an alert in a session.
func (s *Slack) unusual(x *access.Session, f finding) message {
	what := code(x.Account + "@" + x.TargetName)
	blocks := []sdk.Block{section(":warning: *Unusual activity* in " + link(s.c.URL+"/sessions/"+x.ID, x.ID) + " · " + word(x.UserName) + ", " + what)}
	if f.Command != "" {
		blocks = append(blocks, quote(f.Command))
	}
	see := details(s.c.URL + "/sessions/" + x.ID)
	see.Text = label("See the session")
	hold := button(actionPause, x.ID, "Pause input", "")
	hold.AccessibilityLabel = cut("Hold back what "+x.UserName+" types, until somebody lets it go on", maxLabel)
	stop := button(actionRevoke, x.RequestID, "End it…", sdk.StyleDanger)
	buttons := []sdk.BlockElement{see, hold, stop}
	into := max(0, int64(f.at.Sub(x.OpenedAt)/time.Second))
	moment := link(fmt.Sprintf("%s/sessions/%s/play?t=%d", s.c.URL, x.ID, into), fmt.Sprintf("%d:%02d into the session", into/60, into%60))
	parts := []string{"rule " + word(f.Rule), at(f.at, "{time_secs}"), moment}
	if f.number > 0 && f.number <= len(x.Alarms) {
		a, value := &x.Alarms[f.number-1], x.ID+" "+strconv.Itoa(f.number)
		if a.AckID == "" {
			on := button(actionOnIt, value, "I am on it", "")
			on.AccessibilityLabel = cut("Say that you look after this alarm; it closes nothing", maxLabel)
			buttons = append(buttons, on)
		} else {
			parts = append(parts, ":eyes: "+word(a.AckName)+" is on it")
		}
		if !a.Expected() {
			buttons = append(buttons, button(actionExpect, value, "Expected…", ""))
		} else {
			blocks = append(blocks, section(":white_check_mark: *Expected*, says "+word(a.ExpectedName)+"; this rule alarms no more in this session"), quote(a.Reason))
		}
	}
	blocks = append(blocks, sdk.NewActionBlock("unusual", buttons...), footer(parts...))
	return message{escape("Unusual: " + x.UserName + ", " + x.Account + "@" + x.TargetName + ": " + cut(f.Command, maxQuote)), blocks}
}

// pressAlarm does what a button of such a message says.
func (s *Slack) pressAlarm(ctx context.Context, by access.Caller, d deed, action, id, number string) error {
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || !access.ValidID(access.SessionPrefix, id) {
		return errNoAction
	}
	if action == actionOnIt {
		return s.alarmDone(ctx, id, s.c.Broker.Acknowledge(ctx, by, id, n))
	}
	x, err := s.c.Broker.FindSession(ctx, by, id)
	if err != nil {
		return err
	}
	head := section("*" + word(x.UserName) + "* · " + code(x.Account) + " on " + code(x.TargetName))
	return s.openForm(ctx, d, form(formExpected, "Expected", "Say so", carried{ID: id, Number: n, Room: d.room}, head,
		section("The same rule alarms no more in this session. It stands on record, with your name."), writing("why", "Why", "For whoever looks at it later.", "", false)))
}

func (s *Slack) submitExpected(ctx context.Context, by access.Caller, d deed, c carried, why string) error {
	if !access.ValidID(access.SessionPrefix, c.ID) || c.Number < 1 {
		return errNoAction
	}
	return s.alarmDone(ctx, c.ID, s.c.Broker.Expected(ctx, by, c.ID, c.Number, why))
}

// alarmDone brings the messages up to date after a deed, whatever came of it.
func (s *Slack) alarmDone(ctx context.Context, id string, err error) error {
	if e := s.showAlarms(ctx, id); e != nil && !errors.Is(e, access.ErrNotFound) {
		s.c.Log.WarnContext(ctx, "messages in Slack are not up to date", "session", id, "error", e)
	}
	if err != nil {
		err = &refusal{err, s.c.URL + "/sessions/" + id}
	}
	return err
}
