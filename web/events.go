package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// Limits of those who follow what changes.
const (
	maxFollowed = 16   // streams of one user at a time
	maxFollows  = 4000 // and of all
)

// follow tells, as server-sent events, that something of a topic has changed which
// the caller may see. A message says which, and never what: that is asked for by
// the usual ways. Who connects, for the first time or again, looks first, so there
// is nothing to catch up with.
func (s *Server) follow(ctx context.Context, by access.Caller, in *struct {
	Topic string `query:"topic" required:"true" minLength:"1" maxLength:"64" doc:"requests or sessions, or one of either, as in requests:REQ-…"`
}) (content, error) {
	now, err := s.c.Broker.Changes(ctx, by, in.Topic, -1)
	if err != nil {
		return content{}, err
	}
	mine, ok := s.followed.enter(by.User.ID)
	if !ok {
		return content{}, &access.Error{Kind: errRate, Code: "DB-6240", Text: fmt.Sprintf("you follow %d pages already", maxFollowed), Next: "close some, or load the page again by hand"}
	}
	every, ok := s.follows.enter("")
	if !ok {
		mine()
		return content{}, &access.Error{Kind: errRate, Code: "DB-6241", Text: "more people follow pages at this moment than this server can tell", Next: "load the page again by hand"}
	}
	x := ctx.Value(exchangeKey{}).(*exchange)
	return content{media: "text/event-stream", write: func(out io.Writer) error {
		defer mine()
		defer every()
		f := &following{server: s, r: x.r, by: by, topic: in.Topic, at: now, out: bufio.NewWriter(out)}
		f.flush, _ = out.(http.Flusher)
		return f.run(ctx)
	}}, nil
}

// A following is one stream.
type following struct {
	server *Server
	r      *http.Request
	by     access.Caller
	topic  string
	at     broker.Changes
	out    *bufio.Writer
	flush  http.Flusher
}

// run tells of changes until the caller goes, or may not be told any more. At each
// message, and every few seconds without one, the login and the policy are asked
// again, so that nobody is told anything by a right that is gone.
func (f *following) run(ctx context.Context) error {
	if err := f.say("retry: 3000\n\n"); err != nil {
		return err
	}
	beat := time.NewTicker(f.server.eventsAlive)
	defer beat.Stop()
	for {
		silent := false
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			silent = true
		case <-f.at.More:
		}
		now, err := f.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			b, _ := json.Marshal(f.server.problem(f.r, err).Problem) // strings and a number
			return f.say(fmt.Sprintf("event: cut\ndata: %s\n\n", b))
		case len(now.IDs) > 0 || now.All:
			b, _ := json.Marshal(api.Changed{IDs: now.IDs, All: now.All}) // strings and a flag
			err = f.say(fmt.Sprintf("event: look\ndata: %s\n\n", b))
		case silent:
			err = f.say(":\n\n")
		}
		if err != nil {
			return err
		}
		f.at = now
		// So many a second, and no more: what comes meanwhile is told together.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.server.eventsPause):
		}
	}
}

func (f *following) look(ctx context.Context) (broker.Changes, error) {
	by, err := f.server.caller(f.r, f.by.Source)
	if err == nil && by.User.ID != f.by.User.ID {
		err = errors.New("a login has become somebody else's")
	}
	if err != nil {
		return broker.Changes{}, err
	}
	return f.server.c.Broker.Changes(ctx, by, f.topic, f.at.Next)
}

func (f *following) say(text string) error {
	if _, err := f.out.WriteString(text); err != nil {
		return err
	}
	err := f.out.Flush()
	if err == nil && f.flush != nil {
		f.flush.Flush()
	}
	return err
}
