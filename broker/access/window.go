package access

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The prefix of the identifiers of windows.
const WindowPrefix = "WIN"

// A WindowKind says what a window does.
type WindowKind string

// The kinds of windows.
const (
	Maintenance WindowKind = "maintenance" // rules that want a window hold
	Freeze      WindowKind = "freeze"      // only rules that say so hold
)

// A Window is a time that means something for some targets: once from one moment
// to another, or each week. Its times are whole minutes.
type Window struct {
	ID      string
	Kind    WindowKind
	Reason  string
	Targets Selector
	// From is included, To is excluded. Of a weekly window they may be zero: it has
	// always been, or goes on.
	From, To time.Time
	// Hours make a window weekly: "22:00-04:00" of each of Weekdays, the days on
	// which it begins ("saturday"; none: every day), in TimeZone ("": UTC).
	Hours    string
	Weekdays []string
	TimeZone string

	ByID, ByName string // who made it
	CreatedAt    time.Time
	Version      int64
}

// maxWindow is how long one that is not weekly may last: a year is a mistake.
const maxWindow = 366 * 24 * time.Hour

// Validate checks every field that comes from outside, at a time t. Whether the
// time zone exists is for who knows them.
func (w *Window) Validate(t time.Time) error {
	if w.Kind != Maintenance && w.Kind != Freeze {
		return Invalid("a window is a maintenance or a freeze")
	}
	if err := CheckReason(w.Reason); err != nil {
		return err
	}
	if err := w.Targets.validate(); err != nil {
		return err
	}
	if !w.From.Equal(w.From.Truncate(time.Minute)) || !w.To.Equal(w.To.Truncate(time.Minute)) {
		return Invalid("a window begins and ends at whole minutes")
	}
	switch weekly := w.Hours != ""; {
	case !w.To.IsZero() && !w.To.After(w.From):
		return Invalid("the window ends before it begins")
	case !w.To.IsZero() && !w.To.After(t):
		return Invalid("the window is over already")
	case !weekly && (w.From.IsZero() || w.To.IsZero() || w.To.Sub(w.From) > maxWindow):
		return Invalid("a window has a beginning and an end, at most a year later, or hours of a week")
	case !weekly && (len(w.Weekdays) > 0 || w.TimeZone != ""):
		return Invalid("weekdays and a time zone belong to a window with hours")
	case weekly:
		if _, _, ok := dayHours(w.Hours); !ok {
			return Invalid("the hours of a window are like 22:00-04:00")
		}
	}
	if len(w.Weekdays) > 7 || len(w.TimeZone) > MaxName {
		return Invalid("a window has at most 7 weekdays and one time zone")
	}
	for _, d := range w.Weekdays {
		if !slices.Contains(weekdayNames, d) {
			return Invalid("a weekday is one of %s", strings.Join(weekdayNames, ", "))
		}
	}
	return nil
}

var weekdayNames = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"} // in the order of time.Weekday

// OpenAt reports whether the window is open at t, which is given in its time
// zone. What is over midnight belongs to the day on which it began; an hour that
// clocks go back by is there twice, and one that they skip is not there.
func (w *Window) OpenAt(t time.Time) bool {
	if t.Before(w.From) || w.OverAt(t) {
		return false
	}
	if w.Hours == "" {
		return true
	}
	from, to, ok := dayHours(w.Hours)
	minute, day := t.Hour()*60+t.Minute(), t.Weekday()
	switch {
	case !ok:
		return false
	case from < to && (minute < from || minute >= to):
		return false
	case from >= to && minute < from:
		if minute >= to {
			return false
		}
		day = (day + 6) % 7 // it began yesterday
	}
	return len(w.Weekdays) == 0 || slices.Contains(w.Weekdays, weekdayNames[day])
}

// OverAt reports whether the window will never be open from t on.
func (w *Window) OverAt(t time.Time) bool { return !w.To.IsZero() && !t.Before(w.To) }

// Covers reports whether the window is about the target.
func (w *Window) Covers(t *Target) bool { return w.Targets.selects(t.Name, t.Labels) }

// dayHours reads "22:00-04:00" as minutes of the day.
func dayHours(s string) (from, to int, ok bool) {
	begin, end, ok := strings.Cut(s, "-")
	from, first := minuteOfDay(begin)
	to, last := minuteOfDay(end)
	return from, to, ok && first && last && from < 24*60
}

func minuteOfDay(s string) (int, bool) {
	if s == "24:00" {
		return 24 * 60, true
	}
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil && len(s) == len("15:04")
}

// A Network is a name for ranges of addresses, which rules use among their
// sources.
type Network struct {
	Name    string
	Ranges  []string // CIDR
	Version int64
}

// Validate checks every field that comes from outside.
func (n *Network) Validate() error {
	if err := check(networkName, n.Name, "name of a network", "a-z, 0-9, dot, underscore and hyphen, at most 64"); err != nil {
		return err
	}
	if len(n.Ranges) == 0 || len(n.Ranges) > 4*MaxItems {
		return Invalid("the network %s needs 1 to %d ranges", n.Name, 4*MaxItems)
	}
	for _, r := range n.Ranges {
		p, err := netip.ParsePrefix(r)
		if err != nil || p.Addr().Is4In6() || p != p.Masked() {
			return Invalid("the network %s: %q is not a range like 10.0.0.0/8, without bits of a host", n.Name, clip(r))
		}
	}
	return nil
}
