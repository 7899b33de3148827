package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/screen"
	"github.com/drawbolt/drawbolt/web/api"
)

// What the wall shows of a session, and how often it looks.
const (
	wallLines = 6
	wallEvery = time.Second
)

// wall sends the last lines of the screens of several running sessions while they
// change. To look at them is to watch: who may not is refused, it is on record and
// told as watching is, and it counts among what one person may watch. It is no look
// with both eyes: where the rules want those, input stays held.
func (s *Server) wall(ctx context.Context, by access.Caller, in *struct {
	IDs []string `query:"id,explode" required:"true" minItems:"1" maxItems:"8" doc:"the sessions"`
}) (content, error) {
	if s.c.Follow == nil {
		return content{}, &access.Error{Kind: access.ErrUnavailable, Code: "DB-6080", Text: "this server shows no running sessions"}
	}
	x := ctx.Value(exchangeKey{}).(*exchange)
	var views []*viewing
	var refused []api.WallEvent
	leave := func(why error) {
		for _, v := range views {
			v.f.Close()
			v.to = v.elapsed()
			if err := v.w.End(ctx, v.from, v.to, errors.Join(v.why, why)); err != nil {
				s.report(x.r, slog.LevelError, err)
			}
		}
	}
	for _, id := range in.IDs {
		v, err := s.begin(ctx, by, id, x.r)
		if err != nil {
			refused = append(refused, api.WallEvent{Session: id, Over: true, Text: s.problem(x.r, err).Detail})
			continue
		}
		views = append(views, v)
	}
	return content{media: "application/x-ndjson", within: s.watchWithin, write: func(out io.Writer) (err error) {
		defer func() {
			if err != nil {
				err = errors.Join(errNotTaken, err)
			}
			leave(err)
		}()
		return s.paintWall(ctx, out, views, refused)
	}}, nil
}

// begin begins to watch a session for the wall.
func (s *Server) begin(ctx context.Context, by access.Caller, id string, r *http.Request) (*viewing, error) {
	w, err := s.c.Broker.Watch(ctx, by, id, true)
	if err != nil {
		return nil, err
	}
	f, err := s.c.Follow(w.Session.ID)
	if errors.Is(err, recorder.ErrNotLive) {
		err = &access.Error{Kind: access.ErrConflict, Code: "DB-6081", Text: "session " + id + " does not run any more", Next: "drawbolt replay " + id}
	}
	if err != nil {
		return nil, errors.Join(err, w.End(ctx, 0, 0, err))
	}
	v := &viewing{server: s, w: w, f: f, still: true, r: r, by: by, checked: time.Now(), dirty: true}
	columns, rows := f.Header().Width, f.Header().Height
	if columns == 0 || rows == 0 {
		columns, rows = 80, 24
	}
	v.screen = screen.New(columns, rows)
	v.from = v.elapsed()
	return v, nil
}

// paintWall sends what has changed each second until no session is left.
func (s *Server) paintWall(ctx context.Context, out io.Writer, views []*viewing, first []api.WallEvent) error {
	buffered := bufio.NewWriterSize(out, 32<<10)
	encoder := json.NewEncoder(buffered)
	flusher, _ := out.(http.Flusher)
	for _, e := range first {
		if err := encoder.Encode(e); err != nil {
			return err
		}
	}
	over := make([]bool, len(views))
	tick := time.NewTicker(wallEvery)
	defer tick.Stop()
	for left := len(views); ; {
		for i, v := range views {
			if over[i] {
				continue
			}
			ended, err := v.skip(ctx, -1)
			if err != nil {
				return err
			}
			e := api.WallEvent{Session: v.w.Session.ID, Over: ended, Text: lastLines(v.screen)}
			if v.why != nil {
				e.Text = s.problem(v.r, v.why).Detail
			}
			if ended {
				over[i] = true
				left--
			}
			if v.dirty || ended {
				v.dirty = false
				if err := encoder.Encode(e); err != nil {
					return err
				}
			}
		}
		if err := buffered.Flush(); err != nil || left == 0 || ctx.Err() != nil {
			return err
		}
		if flusher != nil {
			flusher.Flush()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// lastLines are the last lines of a screen.
func lastLines(s *screen.Screen) string {
	lines := s.Lines()
	return strings.Join(each(lines[max(0, len(lines)-wallLines):], visible), "\n")
}
