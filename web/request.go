package web

import (
	"context"
	"net/http"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func (s *Server) viewCase(c broker.Case) api.Request {
	r, now := &c.Request, s.now()
	out := api.Request{
		ID: r.ID, Made: r.Made.String(), State: string(r.StateAt(now)), Requester: r.RequesterName, Target: r.TargetName, Account: r.Account,
		Role: r.Role, Batch: r.Batch, Reason: r.Reason, Ticket: r.Ticket, DurationSeconds: seconds(r.Duration), BreakGlass: r.BreakGlass,
		Start: when(r.Start), CreatedAt: r.CreatedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(), DecidedAt: when(r.DecidedAt),
		DecidedBy: r.DecidedBy, Note: r.Note,
		EditedAt: when(r.EditedAt), Approvals: each(r.Approvals, apiApproval), Objections: each(r.Objections, apiApproval), DenyThreshold: max(1, r.DenyThreshold),
		Needed: needed(r.Needs), Needs: each(r.Needs, func(n access.Need) api.Need {
			need := apiNeed(n)
			need.Have = r.Have(&n)
			return need
		}),
		Questions: each(r.Questions, apiQuestion), HandOvers: each(r.HandOvers, apiHandOver), HandedBy: c.HandedBy, HandedNote: c.HandedNote,
		InPlaceOf: c.InPlaceOf, EscalatesAt: when(c.Escalates), EscalateTo: c.EscalateTo, Session: api.SessionRules(r.Rules),
		Waiting: each(c.Waiting, same), MayDecide: c.MayDecide, NeedsFactor: c.NeedsFactor, DenyNeedsFactor: c.DenyNeedsFactor, Digest: r.Digest(), Version: c.Version(),
		Policy: api.Policy{
			Rule: r.Policy.Rule, Text: r.Policy.Text, Decision: r.Policy.Decision, InputHash: r.Policy.InputHash, Digest: r.Policy.Digest,
		},
		URL: s.url + "/r/" + r.ID, Grant: apiGrant(c.Grant, now),
	}
	if c.Last != nil {
		reason, ended, _ := c.Last.EndAt(now)
		out.LastUse = &api.LastUse{EndedAt: ended.UTC(), Seconds: seconds(ended.Sub(c.Last.Start)), EndReason: string(reason)}
	}
	if c.Lease != nil {
		l := s.apiLease(*c.Lease, true)
		out.Lease = &l
	}
	if t := r.TicketCheck; t != (access.TicketCheck{}) {
		out.TicketCheck = &api.TicketCheck{Valid: t.Valid, State: t.State, Assignee: t.Assignee, Title: t.Title, Why: t.Why}
	}
	if len(r.Approvals) > 0 && out.DecidedBy == "" && r.State == access.Approved {
		out.DecidedBy = r.Approvals[len(r.Approvals)-1].UserName
	}
	return out
}

// answerCase is what every verb on a request answers.
func (s *Server) answerCase(c broker.Case, err error) (api.Request, error) {
	if err != nil {
		return api.Request{}, err
	}
	return s.viewCase(c), nil
}

// ByID names a request, a grant or a session.
type ByID struct {
	ID string `path:"id" maxLength:"32"`
}

func (s *Server) request(ctx context.Context, by access.Caller, in *struct{ Body api.RequestInput }) (api.Request, error) {
	ask := broker.Ask{
		Target: in.Body.Target, Account: in.Body.Account, Reason: in.Body.Reason,
		Duration: duration(in.Body.DurationSeconds), BreakGlass: in.Body.BreakGlass, Batch: in.Body.Batch,
	}
	if in.Body.Start != nil {
		ask.Start = in.Body.Start.UTC()
	}
	return s.answerCase(s.c.Broker.Request(ctx, by, ask))
}

func (s *Server) requests(ctx context.Context, by access.Caller, in *struct {
	State  string `query:"state" enum:"pending,approved,denied,cancelled,expired"`
	Mine   bool   `query:"mine"`
	Inbox  bool   `query:"inbox"`
	Batch  string `query:"batch" maxLength:"32"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Before string `query:"before" maxLength:"32"`
}) (api.List[api.Request], error) {
	list, err := s.c.Broker.Requests(ctx, by, broker.Filter{
		State: access.RequestState(in.State), Mine: in.Mine, Inbox: in.Inbox, Batch: in.Batch, Limit: in.Limit, Before: in.Before,
	})
	return page(list, in.Limit, s.viewCase, func(c broker.Case) string { return c.Request.ID }), err
}

func (s *Server) findRequest(ctx context.Context, by access.Caller, in *struct {
	ByID
	Wait    int64 `query:"wait_seconds" minimum:"0" maximum:"60"`
	Version int64 `query:"version" minimum:"0"`
}) (api.Request, error) {
	if in.Wait == 0 {
		return s.answerCase(s.c.Broker.FindRequest(ctx, by, in.ID))
	}
	leave, ok := s.polls.enter(by.User.ID)
	if !ok {
		return api.Request{}, &access.Error{Kind: errRate, Code: "DB-6009", Text: "you wait for too many requests at a time"}
	}
	defer leave()
	wait := time.Duration(in.Wait) * time.Second
	// The answer is later than others: move the deadline that guarded set.
	_ = http.NewResponseController(ctx.Value(exchangeKey{}).(*exchange).w).SetWriteDeadline(time.Now().Add(wait + answerWithin))
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return s.answerCase(s.c.Broker.Await(ctx, by, in.ID, in.Version))
}

func (s *Server) approve(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.ApproveInput
}) (api.Request, error) {
	return s.answerCase(s.c.Broker.Approve(ctx, by, in.ID, in.Body.Digest, broker.Answer{
		Duration: duration(in.Body.DurationSeconds), Narrowing: access.Narrowing{Without: in.Body.Without, FourEyes: in.Body.FourEyes}, Comment: in.Body.Comment,
	}))
}

func (s *Server) editRequest(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.EditInput
}) (api.Request, error) {
	edit := access.Edit{Duration: duration(in.Body.DurationSeconds), Reason: in.Body.Reason}
	if in.Body.Start != nil {
		edit.Start = in.Body.Start.UTC()
	}
	return s.answerCase(s.c.Broker.Edit(ctx, by, in.ID, edit))
}

func (s *Server) deny(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.DenyInput
}) (api.Request, error) {
	return s.answerCase(s.c.Broker.Deny(ctx, by, in.ID, in.Body.Digest, in.Body.Reason))
}

type verb struct {
	ByID
	None
}

func (s *Server) cancel(ctx context.Context, by access.Caller, in *verb) (api.Request, error) {
	return s.answerCase(s.c.Broker.Cancel(ctx, by, in.ID))
}

func (s *Server) end(ctx context.Context, by access.Caller, in *verb) (api.Request, error) {
	return s.answerCase(s.c.Broker.Release(ctx, by, in.ID))
}

func (s *Server) extend(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.ExtendInput
}) (api.Request, error) {
	return s.answerCase(s.c.Broker.Extend(ctx, by, in.ID, duration(in.Body.DurationSeconds)))
}

func (s *Server) revoke(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.Reason
}) (api.Request, error) {
	return s.answerCase(s.c.Broker.Revoke(ctx, by, in.ID, in.Body.Reason))
}

func needed(needs []access.Need) int {
	n := 0
	for _, need := range needs {
		n += need.Count
	}
	return n
}
