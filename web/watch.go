package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/recorder/screen"
	"github.com/drawbolt/drawbolt/web/api"
	"github.com/drawbolt/drawbolt/web/ui"
)

// How a running session is sent to who watches it.
const (
	watchPaint  = 100 * time.Millisecond // between two screens; a second when they never stop changing
	watchBehind = 4 << 20                // bytes of the journal after which a watcher is taken to the live edge
)

// watch sends a running session, from where it is now or from a moment before.
func (s *Server) watch(ctx context.Context, by access.Caller, in *struct {
	ByID
	Form  string  `query:"form" enum:"output,screen" default:"output" doc:"what the program writes, or the screen each time that it has changed"`
	At    float64 `query:"at" minimum:"-1" maximum:"31536000" default:"-1" doc:"seconds since the session began; -1: now"`
	Still bool    `query:"still" doc:"only the screen as it was then"`
}) (content, error) {
	if s.c.Follow == nil {
		return content{}, &access.Error{Kind: access.ErrUnavailable, Code: "DB-6080", Text: "this server shows no running sessions"}
	}
	w, err := s.c.Broker.Watch(ctx, by, in.ID, in.Still)
	if err != nil {
		return content{}, err
	}
	f, err := s.c.Follow(w.Session.ID)
	if errors.Is(err, recorder.ErrNotLive) {
		err = &access.Error{Kind: access.ErrConflict, Code: "DB-6081", Text: "session " + w.Session.ID + " does not run any more", Next: "drawbolt replay " + w.Session.ID}
	}
	if err != nil {
		return content{}, errors.Join(err, w.End(ctx, 0, 0, err))
	}
	x := ctx.Value(exchangeKey{}).(*exchange)
	v := &viewing{
		server: s, w: w, f: f, screens: in.Form == "screen", still: in.Still, at: time.Duration(in.At * float64(time.Second)),
		r: x.r, by: by, checked: time.Now(),
	}
	return content{media: "application/x-ndjson", within: s.watchWithin, write: func(out io.Writer) (err error) {
		defer f.Close()
		defer func() { // after a panic, too: nobody is to be counted who is not there
			why := v.why
			if err != nil {
				why = errNotTaken
			}
			if err := w.End(ctx, v.from, v.to, why); err != nil {
				s.report(x.r, slog.LevelError, err)
			}
		}()
		return v.send(ctx, out)
	}}, nil
}

var errNotTaken = errors.New("the watcher did not take what was sent")

// A viewing is one look at a running session.
type viewing struct {
	server  *Server
	w       *broker.Watching
	f       *recorder.Follower
	screens bool
	still   bool
	at      time.Duration // from where; less than 0: now
	r       *http.Request
	by      access.Caller
	checked time.Time // when the login was looked at
	why     error     // the watcher is cut

	out      *bufio.Writer
	flush    func()
	screen   *screen.Screen
	dirty    bool            // the screen has changed since it was sent
	painted  time.Time       // when that was
	live     bool            // the live edge was reached
	ahead    *recorder.Event // read, and not yet shown
	part     []byte          // of a character
	from, to time.Duration   // that was seen
}

// send sends the session until it ends, the watcher goes or may not watch any more.
func (v *viewing) send(ctx context.Context, out io.Writer) error {
	v.out = bufio.NewWriterSize(out, 32<<10)
	if f, ok := out.(http.Flusher); ok {
		v.flush = f.Flush
	}
	h := v.f.Header()
	columns, rows := h.Width, h.Height
	if columns == 0 || rows == 0 {
		columns, rows = 80, 24
	}
	v.screen = screen.New(columns, rows)
	over, err := v.skip(ctx, v.at)
	if err != nil {
		return err
	}
	if v.from = v.elapsed(); v.at >= 0 {
		v.from = min(v.at, v.from)
	}
	v.to = v.from
	if v.why == nil {
		if over, err = v.begin(over); err != nil || v.still {
			return err
		}
	}
	for !over {
		if over, err = v.follow(ctx); err != nil {
			return err
		}
	}
	return v.end(ctx)
}

// begin sends who is watched, and the screen. It reports whether there is no more.
func (v *viewing) begin(over bool) (bool, error) {
	session := apiSession(v.w.Session)
	if err := v.line(api.WatchEvent{At: v.from.Seconds(), Kind: api.WatchBegin, Session: &session, Text: v.w.Paused}); err != nil {
		return true, err
	}
	if err := v.paint(); err != nil {
		return true, err
	}
	return over, v.done()
}

// end says why there is no more.
func (v *viewing) end(ctx context.Context) error {
	v.to = v.elapsed()
	last := api.WatchEvent{At: v.to.Seconds(), Kind: api.WatchEnd, Text: v.f.Reason()}
	switch {
	case v.why != nil:
		last.Kind, last.Text = api.WatchCut, v.server.problem(v.r, v.why).Detail
	case ctx.Err() != nil:
		return nil // nobody is there
	}
	if err := v.line(last); err != nil {
		return err
	}
	return v.done()
}

// mayGoOn reports whether the watcher is there and may watch.
func (v *viewing) mayGoOn(ctx context.Context) bool {
	if v.why == nil {
		v.why = context.Cause(v.w.Context())
	}
	if now := time.Now(); v.why == nil && now.Sub(v.checked) >= v.server.watchAlive {
		v.checked = now
		_, v.why = v.server.caller(v.r, v.by.Source)
	}
	return v.why == nil && ctx.Err() == nil
}

// elapsed is how long the session has run.
func (v *viewing) elapsed() time.Duration {
	return max(0, v.server.now().Sub(v.f.Header().Started))
}

// skip brings the screen to where it was at that moment, or is now, and sends
// nothing. It reports whether the session is over.
func (v *viewing) skip(ctx context.Context, at time.Duration) (over bool, err error) {
	for v.mayGoOn(ctx) {
		e, ok, err := v.f.Next()
		switch {
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, err
		case !ok:
			return false, nil
		case at >= 0 && e.At > at:
			e.Data = bytes.Clone(e.Data)
			v.ahead = &e
			return false, nil
		}
		v.take(e)
	}
	return true, nil
}

// take puts an event on the screen.
func (v *viewing) take(e recorder.Event) []byte {
	switch e.Stream {
	case cast.Output, cast.Stderr:
		if v.f.Header().Terminal == "" { // no terminal has made new lines of line feeds
			e.Data = bytes.ReplaceAll(e.Data, []byte("\n"), []byte("\r\n"))
		}
		v.screen.Write(e.Data)
		v.dirty = true
		return e.Data
	case cast.Resize:
		var columns, rows int
		if n, _ := fmt.Sscanf(string(e.Data), "%dx%d", &columns, &rows); n == 2 {
			v.screen.Resize(columns, rows)
			v.dirty = true
		}
	}
	return e.Data
}

// follow sends what there is up to the live edge, and waits for more. It reports
// whether it is over.
func (v *viewing) follow(ctx context.Context) (over bool, err error) {
	more := v.f.More() // before Next, so that nothing falls in between
	for {
		if !v.mayGoOn(ctx) {
			return true, nil
		}
		var e recorder.Event
		if v.ahead != nil {
			e, v.ahead = *v.ahead, nil
		} else {
			if v.live && !v.screens && v.f.Behind() > watchBehind {
				if over, err = v.skip(ctx, -1); err != nil {
					return over, err
				}
				if err := v.paint(); err != nil || over {
					return over, err
				}
			}
			var ok bool
			e, ok, err = v.f.Next()
			if errors.Is(err, io.EOF) {
				if v.screens && v.dirty {
					return true, v.paint()
				}
				return true, nil
			}
			if err != nil {
				return false, err
			}
			if !ok {
				break
			}
		}
		if err := v.show(e); err != nil {
			return false, err
		}
		if v.screens && v.dirty && time.Since(v.painted) > time.Second {
			if err := errors.Join(v.paint(), v.done()); err != nil {
				return false, err
			}
		}
	}
	v.live = true
	return false, v.wait(ctx, more)
}

// show sends one event.
func (v *viewing) show(e recorder.Event) error {
	data := v.take(e)
	v.to = e.At
	line := api.WatchEvent{At: e.At.Seconds()}
	switch e.Stream {
	case cast.Output, cast.Stderr:
		if v.screens {
			return nil
		}
		line.Kind, line.Text = api.WatchOutput, v.text(data)
	case cast.Resize:
		if v.screens {
			return nil
		}
		line.Kind = api.WatchResize
		line.Columns, line.Rows = v.screen.Size()
	case cast.Mark:
		line.Kind, line.Text = api.WatchMark, strings.ToValidUTF8(string(data), "\uFFFD")
	case cast.File:
		line.Kind, line.Text = api.WatchMark, cast.ParseFileEvent(data).String()
	default:
		return nil
	}
	return v.line(line)
}

// text makes characters of bytes; one that is cut off waits for its rest.
func (v *viewing) text(data []byte) string {
	data = append(v.part, data...)
	cut := len(data)
	for i := 1; i < utf8.UTFMax && i <= len(data); i++ {
		if b := data[len(data)-i]; utf8.RuneStart(b) {
			if !utf8.FullRune(data[len(data)-i:]) {
				cut = len(data) - i
			}
			break
		}
	}
	text := strings.ToValidUTF8(string(data[:cut]), "\uFFFD")
	v.part = append(v.part[:0:0], data[cut:]...)
	return text
}

// wait sends what is ready, and waits for more, or for something else to do.
func (v *viewing) wait(ctx context.Context, more <-chan struct{}) error {
	if v.screens && v.dirty {
		if err := v.paint(); err != nil {
			return err
		}
	}
	if err := v.done(); err != nil {
		return err
	}
	if v.screens { // so many a second, and no more
		select {
		case <-time.After(watchPaint):
		case <-ctx.Done():
		}
	}
	timer := time.NewTimer(v.server.watchAlive)
	defer timer.Stop()
	select {
	case <-more:
	case <-ctx.Done():
	case <-v.w.Context().Done():
	case <-timer.C:
		return v.line(api.WatchEvent{At: v.elapsed().Seconds(), Kind: api.WatchAlive})
	}
	return nil
}

func (v *viewing) paint() error {
	v.dirty, v.part, v.painted = false, nil, time.Now()
	columns, rows := v.screen.Size()
	return v.line(api.WatchEvent{At: v.elapsed().Seconds(), Kind: api.WatchScreen, Columns: columns, Rows: rows, Text: v.screen.Paint()})
}

func (v *viewing) line(e api.WatchEvent) error { return json.NewEncoder(v.out).Encode(e) }

func (v *viewing) done() error {
	err := v.out.Flush()
	if err == nil && v.flush != nil {
		v.flush()
	}
	return err
}

// risk puts the sessions first at which somebody should look first.
func risk(s access.Session) int {
	for i, r := range []string{access.RiskBreakGlass, access.RiskDetected, access.RiskTierZero, access.RiskFourEyes} {
		if slices.Contains(s.Risks, r) {
			return i
		}
	}
	return 4
}

// watchPage is where a running session is watched. The page itself shows nothing of
// it: its script asks for that, which is when somebody watches.
func (s *Server) watchPage(w http.ResponseWriter, r *http.Request, by access.Caller) {
	s.showWatch(w, r, by, nil)
}

func (s *Server) showWatch(w http.ResponseWriter, r *http.Request, by access.Caller, wrong error) {
	x, err := s.c.Broker.FindSession(r.Context(), by, r.PathValue("id"))
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	p := s.page(by, "Watch "+x.ID, "/sessions")
	s.show(w, r, s.with(&p, r, wrong), ui.WatchPage(p, apiSession(x)))
}

// watchForm does what a watcher asks for.
func (s *Server) watchForm(w http.ResponseWriter, r *http.Request, by access.Caller) {
	id := r.PathValue("id")
	var err error
	switch r.PostFormValue("do") {
	case "message":
		err = s.c.Broker.Message(r.Context(), by, id, r.PostFormValue("text"))
	case "pause":
		err = s.c.Broker.Pause(r.Context(), by, id)
	case "resume":
		err = s.c.Broker.Resume(r.Context(), by, id)
	case "end":
		err = s.cut(r.Context(), by, id, r.PostFormValue("note"), r.PostFormValue("revoke") == "yes")
	default:
		err = access.Invalid("the form does not say what to do")
	}
	if err != nil {
		s.showWatch(w, r, by, err)
		return
	}
	http.Redirect(w, r, "/sessions/"+url.PathEscape(id)+"/watch", http.StatusSeeOther)
}
