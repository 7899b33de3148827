package web

import (
	"context"
	"net/http"
	"strconv"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

func apiQuestion(q access.Question) api.Question {
	return api.Question{By: q.ByName, Text: q.Text, At: q.At.UTC(), Answer: q.Answer, AnsweredAt: when(q.AnsweredAt)}
}

func apiHandOver(h access.HandOver) api.HandOver {
	return api.HandOver{By: h.ByName, To: h.ToName, Note: h.Note, At: h.At.UTC()}
}

func (s *Server) askQuestion(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.QuestionInput
}) (api.Request, error) {
	return s.answerCase(s.c.Broker.Ask(ctx, by, in.ID, in.Body.Text))
}

func (s *Server) answerQuestion(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.AnswerInput
}) (api.Request, error) {
	return s.answerCase(s.c.Broker.Answer(ctx, by, in.ID, in.Body.Question, in.Body.Text))
}

func (s *Server) handOver(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.HandOverInput
}) (api.Request, error) {
	return s.answerCase(s.c.Broker.HandOver(ctx, by, in.ID, in.Body.To, in.Body.Note))
}

// Alarms, of which only FindSession and what follows it tell: not to everybody who
// may know of a session.

func withAlarms(out api.Session, x access.Session) api.Session {
	if len(x.Alarms) > 0 {
		out.Alarms = each(x.Alarms, apiAlarm)
	}
	return out
}

func apiAlarm(a access.Alarm) api.Alarm {
	return api.Alarm{
		Rule: a.Rule, Level: string(a.Level), At: a.At.UTC(), AcknowledgedBy: a.AckName, AcknowledgedAt: when(a.AckAt),
		ExpectedBy: a.ExpectedName, ExpectedAt: when(a.ExpectedAt), ExpectedReason: a.Reason,
	}
}

func (s *Server) acknowledgeBreakGlass(ctx context.Context, by access.Caller, in *verb) (api.BreakGlass, error) {
	if err := s.c.Broker.Acknowledge(ctx, by, in.ID, 0); err != nil {
		return api.BreakGlass{}, err
	}
	return s.findBreakGlass(ctx, by, &in.ByID)
}

func (s *Server) acknowledgeAlarm(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.AlarmInput
}) (api.Session, error) {
	if err := s.c.Broker.Acknowledge(ctx, by, in.ID, in.Body.Alarm); err != nil {
		return api.Session{}, err
	}
	return s.findSession(ctx, by, &in.ByID)
}

func (s *Server) expectedAlarm(ctx context.Context, by access.Caller, in *struct {
	ByID
	Body api.ExpectedInput
}) (api.Session, error) {
	if err := s.c.Broker.Expected(ctx, by, in.ID, in.Body.Alarm, in.Body.Reason); err != nil {
		return api.Session{}, err
	}
	return s.findSession(ctx, by, &in.ByID)
}

// alarmForm does what a page says of an alarm: the session's form, when it names an
// action.
func (s *Server) alarmForm(ctx context.Context, by access.Caller, id string, r *http.Request) error {
	n, err := strconv.Atoi(r.PostFormValue("alarm"))
	switch action := r.PostFormValue("action"); {
	case err != nil || n < 1:
		return access.Invalid("say which alarm")
	case action == "acknowledge":
		return s.c.Broker.Acknowledge(ctx, by, id, n)
	case action == "expected":
		return s.c.Broker.Expected(ctx, by, id, n, r.PostFormValue("note"))
	default:
		return access.Invalid("say whether you look after the alarm or expected it")
	}
}
