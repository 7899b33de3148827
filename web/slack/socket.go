package slack

import (
	"context"
	"errors"
	"log/slog"
	"time"

	sdk "github.com/slack-go/slack"
	"github.com/slack-go/slack/slackevents"
	"github.com/slack-go/slack/socketmode"
)

// Run holds the connection over which Slack brings what people do, with
// SocketMode, until ctx ends. It returns when all that was begun has ended. That
// Slack is away, or takes the token no more, ends nothing: it is tried again.
func (s *Slack) Run(ctx context.Context) error {
	defer s.wait()
	if s.c.Mode == HTTPMode {
		<-ctx.Done()
		return nil
	}
	for {
		err := s.listen(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.c.Log.ErrorContext(ctx, "Slack's connection has ended; trying again", "error", err)
		timer := time.NewTimer(retryAfter)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// retryAfter is how long it takes until Slack is asked again after it has refused
// the token. The library has its own pauses for what is only broken.
const retryAfter = time.Minute

// maxFrame bounds what comes over the connection at once, in bytes.
const maxFrame = 1 << 20

func (s *Slack) listen(ctx context.Context) error {
	c := socketmode.New(s.api, socketmode.OptionReadLimit(maxFrame), socketmode.OptionLog(slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug)))
	ended := make(chan error, 1)
	go func() { ended <- c.RunContext(ctx) }()
	for {
		select {
		case err := <-ended:
			return err
		case e := <-c.Events:
			s.hear(ctx, c, e)
		}
	}
}

// hear takes one event of the connection. What cannot be taken now is not
// acknowledged, so that Slack shows it, and brings it again.
func (s *Slack) hear(ctx context.Context, c *socketmode.Client, e socketmode.Event) {
	switch e.Type {
	case socketmode.EventTypeConnected:
		s.c.Log.InfoContext(ctx, "connected with Slack")
		return
	case socketmode.EventTypeConnectionError, socketmode.EventTypeIncomingError, socketmode.EventTypeErrorBadMessage, socketmode.EventTypeErrorWriteFailed:
		if ctx.Err() == nil {
			s.c.Log.WarnContext(ctx, "the connection with Slack is disturbed", "event", string(e.Type), "error", errorOf(e.Data))
		}
		return
	}
	if e.Request == nil || e.Request.EnvelopeID == "" {
		return
	}
	var in any
	switch data := e.Data.(type) {
	case sdk.InteractionCallback, sdk.SlashCommand, slackevents.EventsAPIEvent:
		in = data
	default:
		return
	}
	done, ok := s.begin()
	if !ok {
		s.c.Log.WarnContext(ctx, "too much is done in Slack at once")
		return
	}
	go func() {
		defer done()
		defer s.recovered()
		answer, after, err := s.take(ctx, in)
		if err == nil {
			err = c.AckCtx(ctx, e.Request.EnvelopeID, answer)
		}
		if err != nil {
			s.c.Log.WarnContext(ctx, "what somebody did in Slack was not taken", "error", err)
			return
		}
		if after != nil {
			s.finish(after)
		}
	}()
}

func errorOf(data any) error {
	switch e := data.(type) {
	case *sdk.ConnectionErrorEvent:
		return e.ErrorObj
	case *sdk.IncomingEventError:
		return e.ErrorObj
	case *socketmode.ErrorBadMessage:
		return e.Cause
	case *socketmode.ErrorWriteFailed:
		return e.Cause
	}
	return errors.New("unknown")
}
