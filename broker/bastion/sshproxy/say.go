package sshproxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/drawbolt/drawbolt/broker/access"
)

const maxLine = 600 // bytes of what is said in one line, before the line's end

// line makes one line for a user's terminal. Whatever it was made from, it
// cannot move the cursor, hide text or add a line of its own. The words of ours
// are ASCII, because stock clients print anything else as octal escapes where
// the locale is C.
func line(format string, args ...any) string {
	return "drawbolt: " + clean(fmt.Sprintf(format, args...)) + "\n"
}

// clean replaces what could act on a terminal and cuts what is too long.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co) {
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > maxLine {
			b.WriteString("...")
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// explain is the one place that turns an error into what a user reads. What is
// not meant for people reads "internal error" and a number, and is logged with
// that number.
func (s *Server) explain(ctx context.Context, err error) string {
	var e *access.Error
	if !errors.As(err, &e) {
		id := access.NewID("ERR")
		s.log.ErrorContext(ctx, "internal error shown to a user", "id", id, "error", err)
		return "internal error " + id
	}
	text := e.Text
	if e.Rule != "" {
		text += " (rule " + e.Rule + ")"
	}
	if e.Code != "" {
		text += " [" + e.Code + "]"
	}
	if e.Next != "" {
		text += " - try: " + e.Next
	}
	if errors.Is(err, access.ErrUnavailable) {
		s.log.WarnContext(ctx, "a user was told that something is unavailable", "error", err)
	}
	return text
}

// clock writes a duration as people read a stopwatch.
func clock(d time.Duration) string {
	d = d.Round(time.Second)
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}
