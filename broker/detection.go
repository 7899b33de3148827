package broker

import (
	"context"
	"strconv"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A Detection is a command that was seen in a session's terminal, and that the
// session's rules look for.
type Detection struct {
	Level   access.DetectLevel
	Rule    string // as the role has it
	Command string // as the terminal showed it
	Sent    bool   // to the target
}

// Detected puts on record that a command was seen in the session. Whoever is to
// know of alerts reads the log for session.detect and its detail "level". It works
// after the session's right to go on is gone.
func (b *Broker) Detected(ctx context.Context, l *Live, d Detection) error {
	e := sessionEvent(l, "session.detect")
	e.Rule = "session.detect"
	detail(&e, "level", string(d.Level))
	detail(&e, "detect", d.Rule)
	detail(&e, "command", d.Command)
	detail(&e, "sent", strconv.FormatBool(d.Sent))
	return b.c.Store.Record(context.WithoutCancel(ctx), e)
}
