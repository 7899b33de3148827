package broker

import (
	"context"
	"maps"
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
// know of alerts reads the log for session.detect and its detail "level", and
// passes over those with the detail "expected"; see Expected. It works after the
// session's right to go on is gone.
func (b *Broker) Detected(ctx context.Context, l *Live, d Detection) error {
	e := sessionEvent(l, "session.detect")
	e.Rule = "session.detect"
	detail(&e, "level", string(d.Level))
	detail(&e, "detect", d.Rule)
	detail(&e, "command", d.Command)
	detail(&e, "sent", strconv.FormatBool(d.Sent))
	return b.change(context.WithoutCancel(ctx), func(tx *store.Tx) (audit.Event, error) {
		e := e
		e.Details = maps.Clone(e.Details) // it may be called again
		s, err := tx.Session(ctx, l.Session.ID)
		if err != nil {
			return e, err
		}
		changed := false
		if d.Level != access.DetectWarn { // of that its user is told, and nobody else
			var n int
			if n, changed = s.Raise(d.Rule, d.Level, tx.Now()); n > 0 {
				number(&e, "alarm", n)
				detail(&e, "expected", s.Alarms[n-1].ExpectedName)
			}
		}
		if !slices.Contains(s.Risks, access.RiskDetected) {
			s.Risks, changed = append(s.Risks, access.RiskDetected), true
		}
		if !changed {
			return e, nil
		}
		return e, tx.SaveSession(ctx, &s)
	})
}
