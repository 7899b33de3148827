package notify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
)

// Hold is the error of a channel that wants the notice once more, at a time: it is
// no failure, nothing waits for it, and with it the channel's lot is kept over a
// restart.
type Hold struct {
	Until time.Time
	Why   string // for who looks at how channels stand
}

func (h *Hold) Error() string { return "held until " + stamp(h.Until) + ": " + h.Why }

// longestHold is longer than anybody is quiet, who is for less than a week.
const longestHold = 8 * 24 * time.Hour

// Urgent reports whether the notice is told in hours in which a channel is quiet,
// too: of what is an alarm, of what nobody has decided on in time, and of what
// somebody asks for who is on call.
func (n *Notice) Urgent() bool {
	return loud(n.Kind) || n.Kind == Test || n.Case != nil && n.Case.Asker != nil && len(n.Case.Asker.OnCall) > 0
}

// loud says of which kinds somebody should hear at once.
func loud(k Kind) bool {
	return slices.Contains([]Kind{BreakGlass, Unusual, Escalated, Tampered, PasswordTrouble, AccountFound, SignInReset, PasskeyCopied}, k)
}

// Quiet are hours in which a channel keeps for later what is not urgent. A nil Quiet
// is never.
type Quiet struct {
	windows []access.Window
	zones   []*time.Location
}

// maxQuiet bounds the entries of a Quiet.
const maxQuiet = 20

// ParseQuiet reads hours such as "22:00-07:00", "22:00-07:00 Europe/Berlin" or
// "saturday sunday 00:00-24:00 Europe/Berlin": days on which they begin, hours and a
// time zone (UTC). No entry is no hours, and nil.
func ParseQuiet(entries []string) (*Quiet, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	if len(entries) > maxQuiet {
		return nil, access.Invalid("there are at most %d entries of quiet hours", maxQuiet)
	}
	q := &Quiet{}
	for _, entry := range entries {
		words := strings.Fields(entry)
		hours := slices.IndexFunc(words, func(w string) bool { return strings.Contains(w, ":") })
		if hours < 0 || len(words)-hours > 2 {
			return nil, access.Invalid(`%.80q are no quiet hours like "22:00-07:00 Europe/Berlin" or "saturday sunday 00:00-24:00"`, entry)
		}
		w := access.Window{Kind: access.Freeze, Reason: "quiet hours", Hours: words[hours], Weekdays: words[:hours]}
		if len(words)-hours == 2 {
			w.TimeZone = words[hours+1]
		}
		zone, err := time.LoadLocation(w.TimeZone)
		if err != nil || w.TimeZone == "Local" {
			return nil, access.Invalid("quiet hours: %.64q is no time zone such as Europe/Berlin", w.TimeZone)
		}
		if err := w.Validate(time.Unix(0, 0)); err != nil {
			return nil, fmt.Errorf("quiet hours %.80q: %w", entry, err)
		}
		q.windows, q.zones = append(q.windows, w), append(q.zones, zone)
	}
	if _, ends := q.end(time.Unix(0, 0).Add(longestHold)); !ends {
		return nil, access.Invalid("quiet hours end at some time of the week")
	}
	return q, nil
}

// At returns when the quiet ends that is at t; false: it is not quiet.
func (q *Quiet) At(t time.Time) (until time.Time, quiet bool) {
	if q == nil || !q.open(t) {
		return time.Time{}, false
	}
	until, ends := q.end(t)
	return until, ends
}

func (q *Quiet) open(t time.Time) bool {
	for i := range q.windows {
		if q.windows[i].OpenAt(t.In(q.zones[i])) {
			return true
		}
	}
	return false
}

// end is the first minute from t on that is not quiet. Minute by minute, since clocks
// go back and forth.
func (q *Quiet) end(t time.Time) (time.Time, bool) {
	for end := t.Truncate(time.Minute).Add(time.Minute); end.Sub(t) < longestHold; end = end.Add(time.Minute) {
		if !q.open(end) {
			return end, true
		}
	}
	return time.Time{}, false
}

// Quietly is a channel that keeps for later what is not urgent while it is quiet.
func Quietly(c Channel, q *Quiet, now func() time.Time) Channel {
	if q == nil {
		return c
	}
	return quietly{c, q, now}
}

type quietly struct {
	Channel
	quiet *Quiet
	now   func() time.Time
}

// Notify implements Channel.
func (c quietly) Notify(ctx context.Context, n Notice) error {
	if until, quiet := c.quiet.At(c.now()); quiet && !n.Urgent() {
		return &Hold{until, QuietHours}
	}
	return c.Channel.Notify(ctx, n)
}

// QuietHours is why a notice is held that is not urgent.
const QuietHours = "quiet hours"
