package broker

import (
	"context"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// MaxMessage bounds a message to the user of a session, in bytes.
const MaxMessage = 400

// Message writes a line into the terminal of a running session, on whichever server
// it runs: into the output for errors where there is no terminal.
func (b *Broker) Message(ctx context.Context, by access.Caller, id, text string) error {
	if strings.TrimSpace(text) == "" {
		return access.Invalid("the message is empty")
	}
	if err := access.CheckText("the message", text, MaxMessage); err != nil {
		return err
	}
	s, e, err := b.moderated(ctx, by, id, "session.message")
	if err == nil && s.Kind == "forward" {
		err = &access.Error{Kind: access.ErrConflict, Code: "DB-6088", Text: "session " + s.ID + " carries tunnels: nobody reads there"}
	}
	if err != nil {
		return b.refused(ctx, e, err)
	}
	e.Reason = text
	if err := b.c.Store.Record(ctx, e); err != nil {
		return err
	}
	b.nudge() // it is shown by who follows the log
	return nil
}

// say shows a message in the session, if it runs here.
func (b *Broker) say(e audit.Event) {
	b.liveMu.Lock()
	l := b.live[e.Session]
	b.liveMu.Unlock()
	if l != nil {
		text := "message from " + e.ActorName + ": " + e.Reason
		l.notify(Notice{Show: text, Mark: text})
	}
}

// Pause holds back what the user of a running session types and sends, in it and in
// every other session under its grant, on all servers, and lets no new one begin.
// What is held is not lost. It lasts until Resume, or the end of the grant, whose
// time goes on.
func (b *Broker) Pause(ctx context.Context, by access.Caller, id string) error {
	return b.setPause(ctx, by, id, "session.pause", func(tx *store.Tx, by access.User, g *access.Grant) error { return g.Pause(by, tx.Now()) })
}

// Resume lets pass what Pause holds back.
func (b *Broker) Resume(ctx context.Context, by access.Caller, id string) error {
	return b.setPause(ctx, by, id, "session.resume", func(_ *store.Tx, by access.User, g *access.Grant) error { return g.Resume(by) })
}

func (b *Broker) setPause(ctx context.Context, by access.Caller, id, verb string, move func(*store.Tx, access.User, *access.Grant) error) error {
	s, e, err := b.moderated(ctx, by, id, verb)
	if err != nil {
		return b.refused(ctx, e, err)
	}
	err = b.change(ctx, func(tx *store.Tx) (audit.Event, error) {
		g, err := tx.Grant(ctx, s.GrantID)
		if err != nil {
			return e, err
		}
		if err := move(tx, by.User, &g); err != nil {
			return e, err
		}
		return e, tx.SaveGrant(ctx, &g)
	})
	if err != nil {
		return err
	}
	b.cut(ctx, func(l *Live) bool { return l.Grant.ID == s.GrantID })
	return nil
}
