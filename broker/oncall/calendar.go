package oncall

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/outbound"
)

// A calendarFile is an iCalendar in a file; a calendarAt one at an address.
type calendarFile string

func (f calendarFile) read(_ context.Context, from, until time.Time) ([]shift, error) {
	b, err := readFile(string(f))
	if err != nil {
		return nil, err
	}
	return parseCalendar(b, from, until)
}

type calendarAt struct {
	out *outbound.Client
	url string
}

func (c calendarAt) read(ctx context.Context, from, until time.Time) ([]shift, error) {
	b, err := get(ctx, c.out, c.url, nil)
	if err != nil {
		return nil, err
	}
	return parseCalendar(b, from, until)
}

// Limits of a calendar.
const (
	maxEvents = 5_000
	maxTurns  = 20_000 // of one event, from its beginning on
	maxLine   = 64 << 10
)

// An event is what is looked at of a VEVENT.
type event struct {
	uid, summary string
	people       []string
	start, end   time.Time
	length       time.Duration
	rule         string
	except       []time.Time
	instead      time.Time // RECURRENCE-ID: of which turn it takes the place
	cancelled    bool
}

// parseCalendar reads the shifts of an iCalendar (RFC 5545) that touch a span of
// time. A shift is a VEVENT; who has it are its ATTENDEEs, or else its SUMMARY.
// Understood are DTSTART, DTEND and DURATION in UTC, with a TZID that is a name of
// the IANA's, or as a DATE (in UTC); EXDATE; RECURRENCE-ID; STATUS:CANCELLED; and of
// RRULE: FREQ=DAILY and WEEKLY with INTERVAL, COUNT, UNTIL, WKST=MO and, with WEEKLY,
// BYDAY. A calendar in which anything of this is written in another way is refused:
// half a schedule would be somebody else's.
func parseCalendar(b []byte, from, until time.Time) ([]shift, error) {
	events, err := parseEvents(b)
	if err != nil {
		return nil, err
	}
	instead := map[string][]time.Time{}
	for _, e := range events {
		if !e.instead.IsZero() {
			instead[e.uid] = append(instead[e.uid], e.instead)
		}
	}
	var out []shift
	for _, e := range events {
		if e.cancelled {
			continue
		}
		if e.instead.IsZero() {
			e.except = append(e.except, instead[e.uid]...)
		}
		turns, err := e.turns(from, until)
		if err != nil {
			return nil, err
		}
		for _, at := range turns {
			for _, person := range e.people {
				out = append(out, shift{person, at, at.Add(e.length)})
			}
		}
		if len(out) > maxShifts {
			return nil, fmt.Errorf("it has more than %d shifts", maxShifts)
		}
	}
	return out, nil
}

func parseEvents(b []byte) ([]event, error) {
	lines, err := unfold(b)
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 || !strings.EqualFold(lines[0], "BEGIN:VCALENDAR") || !strings.EqualFold(lines[len(lines)-1], "END:VCALENDAR") {
		return nil, errors.New("it is no calendar, or not a whole one")
	}
	var events []event
	var e *event
	depth := 0 // of components within the event, such as alarms
	for _, line := range lines {
		name, params, value, ok := splitLine(line)
		if !ok {
			return nil, fmt.Errorf("the calendar has the line %.60q", line)
		}
		switch {
		case e == nil:
			if name == "BEGIN" && strings.EqualFold(value, "VEVENT") {
				if len(events) == maxEvents {
					return nil, fmt.Errorf("the calendar has more than %d events", maxEvents)
				}
				e = &event{}
			}
		case name == "BEGIN":
			depth++
		case name == "END" && depth > 0:
			depth--
		case depth > 0:
		case name == "END":
			if err := e.complete(); err != nil {
				return nil, err
			}
			events, e = append(events, *e), nil
		default:
			if err := e.set(name, params, value); err != nil {
				return nil, fmt.Errorf("the event %.60q: %s: %w", e.uid, name, err)
			}
		}
	}
	if e != nil {
		return nil, errors.New("the calendar ends within an event")
	}
	return events, nil
}

// unfold puts the lines together that were folded (section 3.1).
func unfold(b []byte) ([]string, error) {
	var lines []string
	r := bufio.NewScanner(bytes.NewReader(b))
	r.Buffer(nil, maxLine)
	for r.Scan() {
		line := strings.TrimSuffix(r.Text(), "\r")
		switch {
		case line == "":
		case (line[0] == ' ' || line[0] == '\t') && len(lines) > 0:
			if lines[len(lines)-1] += line[1:]; len(lines[len(lines)-1]) > maxLine {
				return nil, errors.New("the calendar has a line that is too long")
			}
		default:
			lines = append(lines, line)
		}
	}
	return lines, r.Err()
}

// splitLine takes NAME;PARAM=VALUE:value apart. Of parameters in quotes the quotes
// are removed.
func splitLine(line string) (name string, params map[string]string, value string, ok bool) {
	quoted, colon := false, -1
	for i, c := range line {
		if c == '"' {
			quoted = !quoted
		}
		if c == ':' && !quoted {
			colon = i
			break
		}
	}
	if colon < 1 {
		return "", nil, "", false
	}
	parts := strings.Split(line[:colon], ";")
	params = map[string]string{}
	for _, p := range parts[1:] {
		key, v, _ := strings.Cut(p, "=")
		params[strings.ToUpper(key)] = strings.Trim(v, `"`)
	}
	return strings.ToUpper(parts[0]), params, line[colon+1:], true
}

func (e *event) set(name string, params map[string]string, value string) (err error) {
	switch name {
	case "UID":
		e.uid = value
	case "SUMMARY":
		e.summary = strings.NewReplacer(`\,`, ",", `\;`, ";", `\n`, " ", `\N`, " ", `\\`, `\`).Replace(value)
	case "ATTENDEE":
		if address, ok := cutFold(value, "mailto:"); ok {
			e.people = append(e.people, address)
		}
	case "STATUS":
		e.cancelled = strings.EqualFold(value, "CANCELLED")
	case "DTSTART":
		e.start, err = parseTime(value, params)
	case "DTEND":
		e.end, err = parseTime(value, params)
	case "DURATION":
		e.length, err = parseLength(value)
	case "RECURRENCE-ID":
		if params["RANGE"] != "" {
			return errors.New("a RANGE is not understood")
		}
		e.instead, err = parseTime(value, params)
	case "EXDATE":
		for v := range strings.SplitSeq(value, ",") {
			at, err := parseTime(v, params)
			if err != nil {
				return err
			}
			e.except = append(e.except, at)
		}
	case "RRULE":
		if e.rule != "" {
			return errors.New("it has two rules")
		}
		e.rule = value
	case "RDATE", "EXRULE":
		return errors.New("it is not understood")
	}
	return err
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

func (e *event) complete() error {
	if len(e.people) == 0 && e.summary != "" {
		e.people = []string{e.summary}
	}
	if !e.end.IsZero() {
		e.length = e.end.Sub(e.start)
	}
	if e.cancelled {
		return nil
	}
	if e.start.IsZero() || e.length <= 0 || e.length > 366*24*time.Hour {
		return fmt.Errorf("the event %.60q has no beginning, or no end within a year of it", e.uid)
	}
	return nil
}

// parseTime reads a DATE-TIME or a DATE.
func parseTime(value string, params map[string]string) (time.Time, error) {
	if params["VALUE"] == "DATE" || len(value) == len("20060102") {
		return time.Parse("20060102", value)
	}
	if strings.HasSuffix(value, "Z") {
		return time.Parse("20060102T150405Z", value)
	}
	zone := params["TZID"]
	if zone == "" {
		return time.Time{}, errors.New("the time has no zone")
	}
	in, err := time.LoadLocation(zone)
	if err != nil || strings.EqualFold(zone, "local") {
		return time.Time{}, fmt.Errorf("the time zone %.60q is not known", zone)
	}
	return time.ParseInLocation("20060102T150405", value, in)
}

// parseLength reads a positive DURATION of weeks, or of days and a time.
func parseLength(s string) (time.Duration, error) {
	bad := fmt.Errorf("%.60q is no length", s)
	rest, ok := strings.CutPrefix(strings.TrimPrefix(s, "+"), "P")
	if !ok || rest == "" {
		return 0, bad
	}
	var d time.Duration
	units := map[byte]time.Duration{'W': 7 * 24 * time.Hour, 'D': 24 * time.Hour}
	for rest != "" {
		if rest[0] == 'T' {
			units, rest = map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second}, rest[1:]
		}
		i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if i < 1 || i > 6 {
			return 0, bad
		}
		n, err := strconv.Atoi(rest[:i])
		unit, known := units[rest[i]]
		if err != nil || !known {
			return 0, bad
		}
		d += time.Duration(n) * unit
		rest = rest[i+1:]
	}
	return d, nil
}

// A recurrence is an RRULE, as far as it is understood.
type recurrence struct {
	weekly   bool
	interval int
	count    int // 0: without end
	until    time.Time
	days     []time.Weekday
}

func parseRule(s string) (recurrence, error) {
	r := recurrence{interval: 1}
	bad := fmt.Errorf("the rule %.120q is not understood", s)
	for part := range strings.SplitSeq(s, ";") {
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch strings.ToUpper(key) {
		case "FREQ":
			r.weekly = value == "WEEKLY"
			if !r.weekly && value != "DAILY" {
				return r, bad
			}
		case "INTERVAL":
			r.interval, err = strconv.Atoi(value)
		case "COUNT":
			if r.count, err = strconv.Atoi(value); r.count < 1 {
				return r, bad
			}
		case "UNTIL":
			if r.until, err = parseTime(value, nil); err == nil && len(value) == len("20060102") {
				r.until = r.until.Add(24*time.Hour - time.Second)
			}
		case "BYDAY":
			for day := range strings.SplitSeq(value, ",") {
				i := slices.Index([]string{"SU", "MO", "TU", "WE", "TH", "FR", "SA"}, day)
				if i < 0 {
					return r, bad
				}
				r.days = append(r.days, time.Weekday(i))
			}
		case "WKST":
			if value != "MO" {
				return r, bad
			}
		default:
			return r, bad
		}
		if err != nil {
			return r, bad
		}
	}
	if r.interval < 1 || r.interval > 1000 || len(r.days) > 0 && !r.weekly || r.count > maxTurns || !strings.Contains(strings.ToUpper(s), "FREQ=") {
		return r, bad
	}
	return r, nil
}

// turns are the beginnings of the event that touch a span of time.
func (e *event) turns(from, until time.Time) ([]time.Time, error) {
	var out []time.Time
	take := func(at time.Time) {
		if at.Before(until) && at.Add(e.length).After(from) && !slices.ContainsFunc(e.except, at.Equal) {
			out = append(out, at)
		}
	}
	if e.rule == "" {
		take(e.start)
		return out, nil
	}
	r, err := parseRule(e.rule)
	if err != nil {
		return nil, err
	}
	days := r.days
	if len(days) == 0 {
		days = []time.Weekday{e.start.Weekday()}
	}
	// Day by day in the zone of the event, so that a turn begins at the same time of
	// the day when the clocks change.
	monday := (int(e.start.Weekday()) + 6) % 7 // days since the Monday of the first week
	for day, n := 0, 0; ; day++ {
		at := e.start.AddDate(0, 0, day)
		switch {
		case !at.Before(until), !r.until.IsZero() && at.After(r.until), r.count > 0 && n >= r.count:
			return out, nil
		case day > maxTurns:
			return nil, fmt.Errorf("the event %.60q began too long ago", e.uid)
		case r.weekly && ((day+monday)/7%r.interval != 0 || !slices.Contains(days, at.Weekday())):
			continue
		case !r.weekly && day%r.interval != 0:
			continue
		}
		n++
		take(at)
	}
}
