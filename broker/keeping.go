package broker

import (
	"context"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// Quarantined puts on record that an object of a recording did not get to where
// recordings are kept, and stays on this server. why may hold what the store
// said. It is no verb of a person: the server calls it for itself.
func (b *Broker) Quarantined(ctx context.Context, name, why string) error {
	e := event(access.System(), "recording.quarantine", audit.Clean(name, audit.MaxName))
	e.Outcome, e.Reason = audit.Failed, audit.Clean(why, audit.MaxReason)
	id, _, _ := strings.Cut(name, ".")
	if s, err := b.c.Store.Session(ctx, id); err == nil {
		e.Request, e.Grant, e.Session, e.Target, e.Account = s.RequestID, s.GrantID, s.ID, s.TargetName, s.Account
	}
	detail(&e, "node", b.c.Node)
	return b.c.Store.Record(ctx, e)
}

// RoomChanged puts on record that a server has got less or more room for
// recordings. It is no verb of a person: the server calls it for itself.
func (b *Broker) RoomChanged(ctx context.Context, step, text string) error {
	e := event(access.System(), "recordings.room", b.c.Node)
	e.Reason = audit.Clean(text, audit.MaxReason)
	detail(&e, "step", step)
	return b.c.Store.Record(ctx, e)
}
