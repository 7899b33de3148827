package main

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxDuration is the longest that any role may give.
const maxDuration = 30 * 24 * time.Hour

var durationRE = regexp.MustCompile(`^(?:([0-9]{1,4})d)?(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,7})s)?$`)

// parseDuration reads whole days, hours, minutes and seconds in this order, such
// as 1h, 30m, 1h30m or 2d: the grammar of the server, which is sent seconds.
func parseDuration(s string) (time.Duration, error) {
	m := durationRE.FindStringSubmatch(s)
	if s == "" || m == nil {
		return 0, usage("the duration %q is not one: write it like 30m, 1h or 1h30m", s)
	}
	var d time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[i+1] != "" {
			n, _ := strconv.Atoi(m[i+1]) // at most seven digits
			d += time.Duration(n) * unit
		}
	}
	switch {
	case d <= 0:
		return 0, usage("the duration must be positive")
	case d > maxDuration:
		return 0, usage("the duration is longer than any role may give (30d)")
	}
	return d, nil
}

// seconds reads a duration flag; "" is 0.
func seconds(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	d, err := parseDuration(s)
	return int64(d / time.Second), err
}

// formatDuration writes whole seconds as parseDuration reads them.
func formatDuration(d time.Duration) string {
	d = max(d.Truncate(time.Second), 0)
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	for _, u := range []struct {
		length time.Duration
		letter string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if n := d / u.length; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10) + u.letter)
			d -= n * u.length
		}
	}
	return b.String()
}

func formatSeconds(n int64) string { return formatDuration(time.Duration(n) * time.Second) }

// parseMoment reads a time: RFC 3339, a date, a time of the day, or a duration
// with + (from now) or - (ago). A time of the day is the next one to come.
func parseMoment(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation("2006-01-02 15:04", s, now.Location()); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation("15:04", s, now.Location()); err == nil {
		y, mo, d := now.Date()
		at := time.Date(y, mo, d, t.Hour(), t.Minute(), 0, 0, now.Location())
		if at.Before(now) {
			at = at.AddDate(0, 0, 1)
		}
		return at, nil
	}
	if sign, rest := s[:min(len(s), 1)], s[min(len(s), 1):]; sign == "+" || sign == "-" {
		if d, err := parseDuration(rest); err == nil {
			if sign == "-" {
				d = -d
			}
			return now.Add(d), nil
		}
	}
	return time.Time{}, usage("the time %q is not one: write it like 2026-03-01T09:00:00Z, 2026-03-01, 09:00 or +2h", s)
}

// parsePast reads a time that lies behind: as parseMoment, and a plain duration
// means ago.
func parsePast(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := parseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	return parseMoment(s, now)
}
