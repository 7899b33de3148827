package web

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/web/api"
)

func apiEvent(e audit.Event) api.Event {
	return api.Event{
		Seq: e.Seq, Time: e.Time.UTC(), Actor: e.Actor, ActorName: e.ActorName, Action: e.Action, Object: e.Object,
		Target: e.Target, Account: e.Account, Request: e.Request, Grant: e.Grant, Session: e.Session, Source: e.Source,
		Outcome: string(e.Outcome), Reason: e.Reason, Rule: e.Rule, Details: e.Details,
	}
}

func (s *Server) events(ctx context.Context, by access.Caller, in *struct {
	After   int64     `query:"after" minimum:"-1" default:"-1"`
	Limit   int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Actor   string    `query:"actor" maxLength:"64"`
	Action  string    `query:"action" maxLength:"64"`
	Object  string    `query:"object" maxLength:"256"`
	Target  string    `query:"target" maxLength:"64"`
	Session string    `query:"session" maxLength:"64"`
	Since   time.Time `query:"since"`
	Until   time.Time `query:"until"`
	Newest  bool      `query:"newest"`
}) (api.List[api.Event], error) {
	list, err := s.c.Broker.Events(ctx, by, broker.EventFilter{
		After: in.After + 1, Limit: in.Limit, Actor: in.Actor, Action: in.Action, Object: in.Object, Target: in.Target, Session: in.Session,
		Since: in.Since, Until: in.Until, Newest: in.Newest,
	})
	if in.Newest {
		slices.SortFunc(list, func(a, b audit.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	}
	out := page(list, in.Limit, apiEvent, func(e audit.Event) string { return strconv.FormatInt(e.Seq, 10) })
	if in.Newest {
		out.Next = "" // nothing is behind the newest
	}
	return out, err
}

// exportAudit begins to write only when the broker does, so that a refusal
// still is an answer of its own.
func (s *Server) exportAudit(ctx context.Context, by access.Caller, _ *struct{}) (content, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(s.c.Broker.ExportAudit(ctx, by, w)) }() // ends with ctx, or when r is closed
	first := make([]byte, 1)
	if _, err := io.ReadFull(r, first); err != nil {
		return content{}, err
	}
	return content{media: "text/plain; charset=utf-8", file: "drawbolt-audit.txt", write: func(out io.Writer) error {
		defer r.Close()
		if _, err := out.Write(first); err != nil {
			return err
		}
		_, err := io.Copy(out, r)
		return err
	}}, nil
}

func (s *Server) checkpoint(ctx context.Context, by access.Caller, _ *struct{}) (api.Checkpoint, error) {
	msg, err := s.c.Broker.Checkpoint(ctx, by)
	return api.Checkpoint{Checkpoint: string(msg)}, err
}

func (s *Server) auditKey(context.Context, access.Caller, *struct{}) (api.AuditKey, error) {
	return api.AuditKey{Key: s.c.VerifierKey, Recordings: s.c.RecordingKeys}, nil
}
