package broker

import (
	"context"
	"slices"
	"strconv"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
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
	return b.change(context.WithoutCancel(ctx), func(tx *store.Tx) (audit.Event, error) {
		s, err := tx.Session(ctx, l.Session.ID)
		if err != nil || slices.Contains(s.Risks, access.RiskDetected) {
			return e, err
		}
		s.Risks = append(s.Risks, access.RiskDetected)
		return e, tx.SaveSession(ctx, &s)
	})
}
