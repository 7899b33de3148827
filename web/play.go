package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/recorder/view"
	"github.com/drawbolt/drawbolt/web/api"
)

// A player is served in pieces: the index and the screens come from the view of
// the recording, the events of a segment from the recording itself. Each piece is
// a Look of the broker's. What the one who was recorded has chosen reaches the
// browser as text, or through a filter that lets pass what paints (cast.Filter).

// Limits of what is played in a browser.
const (
	maxPlayed     = 64 << 20 // bytes of the views that are kept, and of one
	keepPlayed    = 5 * time.Minute
	maxMarkers    = 2000
	maxLabel      = 200     // bytes of a marker's label
	maxSegment    = 8 << 20 // bytes of the cast in a segment
	maxHits       = 500
	maxPlayedCols = 500 // a terminal is not made larger for the one who was recorded
	maxPlayedRows = 250
)

// A playable is what is kept of a view while its recording is watched.
type playable struct {
	started  time.Time
	segments []view.Place
	texts    []view.Text // all but what was shown
	more     bool
	end      view.End
	// begins are where the segments begin in each index, and last where that ends:
	// with all pauses, and with those cut to each of view.Pauses.
	begins [1 + len(view.Pauses)][]time.Duration
	last   [1 + len(view.Pauses)]time.Duration
	size   int64
}

// played keeps the views of the recordings that are being watched.
type played struct {
	mu   sync.Mutex
	now  func() time.Time
	kept map[string]*playedView
}

type playedView struct {
	done chan struct{} // closed when it has been read
	p    *playable
	err  error
	used time.Time
}

// get returns the playable of a name, which read makes once however many ask.
// One that could not be read is not kept.
func (c *played) get(ctx context.Context, name string, read func() (*playable, error)) (*playable, error) {
	c.mu.Lock()
	v := c.kept[name]
	if v == nil {
		v = &playedView{done: make(chan struct{})}
		if len(c.kept) == 0 {
			time.AfterFunc(keepPlayed, c.expire)
		}
		c.kept[name] = v
		go c.read(name, v, read) // ends with read, which is limited
	}
	v.used = c.now()
	c.mu.Unlock()
	select {
	case <-v.done:
		return v.p, v.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *played) read(name string, v *playedView, read func() (*playable, error)) {
	defer func() {
		if r := recover(); r != nil { // no handler stands around this
			v.err = fmt.Errorf("panic: %v", r)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if v.err != nil {
			delete(c.kept, name)
		}
		close(v.done)
		c.clean(name)
	}()
	v.p, v.err = read()
}

// expire forgets what is watched no more, as long as there is anything.
func (c *played) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clean(""); len(c.kept) > 0 {
		time.AfterFunc(keepPlayed/5, c.expire)
	}
}

// clean forgets what was not used for a while, and what is too much: the longest
// unused first, the newest never.
func (c *played) clean(newest string) {
	type old struct {
		name string
		used time.Time
		size int64
	}
	var list []old
	total := int64(0)
	for name, v := range c.kept {
		select {
		case <-v.done:
			list = append(list, old{name, v.used, v.p.size})
			total += v.p.size
		default: // still being read
		}
	}
	slices.SortFunc(list, func(a, b old) int { return a.used.Compare(b.used) })
	for _, o := range list {
		if o.name != newest && (total > maxPlayed || c.now().Sub(o.used) > keepPlayed) {
			delete(c.kept, o.name)
			total -= o.size
		}
	}
}

// A part says which span of a recording is about to be shown.
type part func(*playable) (from, to time.Duration, err error)

// nothing: the index, the texts and the like. They are told with the player's opening.
func nothing(*playable) (from, to time.Duration, err error) { return 0, 0, nil }

// look asks whether the caller may see a part of a recording, which is then on
// record, and returns what is needed to show it.
func (s *Server) look(ctx context.Context, by access.Caller, id string, opens bool, show part) (x access.Session, p *playable, err error) {
	x, err = s.c.Broker.Look(ctx, by, id, broker.Glance{Open: opens, Span: func(x access.Session) (from, to time.Duration, err error) {
		if p, err = s.playable(ctx, x); err != nil {
			return 0, 0, err
		}
		return show(p)
	}})
	return x, p, err
}

// errNoView: the view of a recording is not there yet.
var errNoView = &access.Error{Kind: access.ErrConflict, Code: "DB-6070", Text: "the recording is being prepared for the player", Next: "drawbolt replay"}

// playable reads the view of a session's recording, which the caller may see.
func (s *Server) playable(ctx context.Context, x access.Session) (*playable, error) {
	if s.c.OpenView == nil || s.c.OpenCast == nil {
		return nil, errNoView
	}
	return s.played.get(ctx, x.Recording.Name+" "+x.Recording.SHA256, func() (*playable, error) {
		// Whoever asked first may go away; others may wait.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
		defer cancel()
		p, err := s.readPlayable(ctx, x)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errNoView
		}
		if err != nil {
			return nil, fmt.Errorf("read the view of %s: %w", x.ID, err)
		}
		return p, nil
	})
}

func (s *Server) readPlayable(ctx context.Context, x access.Session) (*playable, error) {
	r, err := s.c.OpenView(ctx, x)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	all, err := view.ReadIndex(r)
	if err != nil {
		return nil, err
	}
	p := &playable{texts: all.Texts, more: all.More, end: *all.End, size: int64(len(all.Segments)) * 150}
	for _, g := range all.Segments {
		if n := len(p.segments); n == 0 && g.At != 0 {
			return nil, errors.New("the first segment does not begin at 0")
		} else if n > 0 && g.At <= p.segments[n-1].At {
			continue // of the same moment: it is played with the one before
		}
		g.Cols, g.Rows = min(g.Cols, maxPlayedCols), min(g.Rows, maxPlayedRows)
		p.segments = append(p.segments, g)
	}
	for _, t := range p.texts {
		p.size += int64(len(t.Text)) + 48
	}
	if p.size > maxPlayed {
		return nil, &access.Error{Kind: access.ErrConflict, Code: "DB-6071", Text: "the recording of " + x.ID + " is too large for the player", Next: "drawbolt replay " + x.ID}
	}
	if len(p.segments) == 0 {
		return nil, errors.New("it has no segment")
	}
	slices.SortStableFunc(p.texts, func(a, b view.Text) int { return int(max(-1, min(1, a.At-b.At))) })
	return p, s.measure(ctx, x, p)
}

// segment reads a whole segment, with its screen.
func (s *Server) segment(ctx context.Context, x access.Session, p *playable, n int) (view.Segment, error) {
	r, err := s.c.OpenView(ctx, x)
	if err != nil {
		return view.Segment{}, fmt.Errorf("open the view of %s: %w", x.ID, err)
	}
	defer r.Close()
	g, err := view.ReadSegment(r, p.segments[n])
	if err != nil {
		return g, fmt.Errorf("the view of %s: %w", x.ID, err)
	}
	g.Cols, g.Rows = p.segments[n].Cols, p.segments[n].Rows
	return g, nil
}

// measure finds where each index begins its segments and where it ends, for
// which the last segment must be read.
func (s *Server) measure(ctx context.Context, x access.Session, p *playable) error {
	c, err := s.c.OpenCast(ctx, x)
	if err != nil {
		return err
	}
	defer c.Close()
	header, err := cast.NewReader(c)
	if err != nil {
		return err
	}
	p.started = header.Header().Started
	events, err := readSegment(c, p, len(p.segments)-1)
	if err != nil {
		return err
	}
	for idle := range p.begins {
		before := time.Duration(-1)
		for _, g := range p.segments {
			begin := g.At
			if idle > 0 {
				begin -= g.Saved[idle-1]
			}
			before = max(begin, before+time.Microsecond)
			p.begins[idle] = append(p.begins[idle], before)
		}
		saved := p.squeeze(len(p.segments)-1, idle, events, nil)
		p.last[idle] = max(p.end.Duration-saved, before)
		if len(p.segments) > 1 {
			p.last[idle] = max(p.last[idle], before+time.Microsecond)
		}
	}
	return nil
}

// readSegment reads the events of a segment, at their moments in the recording.
// What is damaged is left out.
func readSegment(c io.ReadSeeker, p *playable, n int) ([]cast.Event, error) {
	from, to := p.segments[n].Offset, p.end.Offset
	if n+1 < len(p.segments) {
		to = p.segments[n+1].Offset
	}
	if to < from || to-from > maxSegment {
		return nil, fmt.Errorf("segment %d is from %d to %d", n, from, to)
	}
	if _, err := c.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	part := cast.NewPart(io.LimitReader(c, to-from))
	var events []cast.Event
	shift := time.Duration(0)
	for {
		e, err := part.Next()
		var d *cast.DamageError
		switch {
		case err == io.EOF:
			return events, nil
		case errors.As(err, &d):
			continue
		case err != nil:
			return nil, err
		}
		if len(events) == 0 && n > 0 {
			shift = p.segments[n].At - e.At
		}
		e.At += shift
		events = append(events, e)
	}
}

// squeeze gives each moment of a segment's events in an index to each, and
// returns how much has been left out at the end of the recording, if it is the last one.
func (p *playable) squeeze(n, idle int, events []cast.Event, each func(i int, at, cut time.Duration)) (saved time.Duration) {
	g := p.segments[n]
	limit := p.end.Duration + 1
	if idle > 0 {
		limit, saved = view.Pauses[idle-1], g.Saved[idle-1]
	}
	before := g.At
	for i, e := range events {
		at := max(e.At, before)
		cut := max(0, at-before-limit)
		saved += cut
		before = at
		if each != nil {
			each(i, at-saved, cut)
		}
	}
	return saved + max(0, p.end.Duration-before-limit)
}

// index says which index an address means by its idle.
func index(idle string) int {
	switch idle {
	case "2":
		return 1
	case "0.5":
		return 2
	default: // "0"; others do not come so far
		return 0
	}
}

// within is a moment of the recording in an index: exact at the beginning of a
// segment, and a little late where pauses of its segment are cut.
func (p *playable) within(idle int, at time.Duration) time.Duration {
	n := p.at(at)
	most := p.last[idle]
	if n+1 < len(p.segments) {
		most = p.begins[idle][n+1]
	}
	return min(p.begins[idle][n]+max(0, at-p.segments[n].At), most)
}

// at returns the number of the segment that shows a moment.
func (p *playable) at(at time.Duration) int {
	n, found := slices.BinarySearchFunc(p.segments, at, func(g view.Place, at time.Duration) int {
		return int(max(-1, min(1, g.At-at)))
	})
	if !found {
		n--
	}
	return max(0, n)
}

// precise writes a duration in seconds, to the microsecond.
func precise(d time.Duration) float64 { return float64(d.Microseconds()) / 1e6 }

func (s *Server) playback(ctx context.Context, by access.Caller, in *ByID) (api.Playback, error) {
	x, p, err := s.look(ctx, by, in.ID, false, nothing)
	if err != nil {
		return api.Playback{}, err
	}
	return apiPlayback(x, p), nil
}

func apiPlayback(x access.Session, p *playable) api.Playback {
	return api.Playback{
		Session: x.ID, Started: p.started.UTC(), Duration: precise(p.end.Duration), Input: p.end.Input, Output: p.end.Output, More: p.more, Cut: p.end.Cut,
		Segments: each(p.segments, func(g view.Place) api.PlaySegment {
			return api.PlaySegment{At: precise(g.At), Saved: [2]float64{precise(g.Saved[0]), precise(g.Saved[1])}}
		}),
		Idle:  each(p.end.Idle, func(i [2]time.Duration) [2]float64 { return [2]float64{precise(i[0]), precise(i[1])} }),
		Texts: each(p.texts, apiPlayText),
	}
}

func apiPlayText(t view.Text) api.PlayText {
	return api.PlayText{At: precise(t.At), In: string(t.In), Text: t.Text}
}

// ByIdle picks an index.
type ByIdle struct {
	Idle string `query:"idle" enum:"0,2,0.5" default:"0" doc:"to how many seconds pauses are cut; 0: not at all"`
}

func (s *Server) playIndex(ctx context.Context, by access.Caller, in *struct {
	ByID
	ByIdle
}) (api.PlayIndex, error) {
	_, p, err := s.look(ctx, by, in.ID, false, nothing)
	if err != nil {
		return api.PlayIndex{}, err
	}
	idle := index(in.Idle)
	out := api.PlayIndex{Version: 1, Duration: precise(p.last[idle]), Term: api.PlayTerm{Cols: p.segments[0].Cols, Rows: p.segments[0].Rows}, Markers: [][]any{}}
	for n, at := range p.begins[idle] {
		out.Segments = append(out.Segments, api.PlayIndexSegment{Start: precise(at), URL: fmt.Sprintf("segments/%d?idle=%s", n, in.Idle)})
	}
	for _, t := range p.texts {
		if t.In == view.Keys || len(out.Markers) == maxMarkers {
			continue
		}
		out.Markers = append(out.Markers, []any{precise(p.within(idle, t.At)), clip(t.Text, maxLabel)})
	}
	return out, nil
}

// clip cuts a text to at most n bytes of whole characters.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n-len("…")], "") + "…"
}

func (s *Server) playSegment(ctx context.Context, by access.Caller, in *struct {
	ByID
	ByIdle
	N int `path:"n" minimum:"0"`
}) (api.PlayPart, error) {
	x, p, err := s.look(ctx, by, in.ID, false, func(p *playable) (from, to time.Duration, err error) { return p.span(in.N) })
	if err != nil {
		return api.PlayPart{}, err
	}
	c, err := s.c.OpenCast(ctx, x)
	if err != nil {
		return api.PlayPart{}, fmt.Errorf("open the recording of %s: %w", x.ID, err)
	}
	defer c.Close()
	events, err := readSegment(c, p, in.N)
	if err != nil {
		return api.PlayPart{}, fmt.Errorf("read the recording of %s: %w", x.ID, err)
	}
	g, err := s.segment(ctx, x, p, in.N)
	if err != nil {
		return api.PlayPart{}, err
	}
	return p.part(in.N, index(in.Idle), g.Screen, events), nil
}

// span is what a segment shows of the recording.
func (p *playable) span(n int) (from, to time.Duration, err error) {
	switch {
	case n < 0 || n >= len(p.segments):
		return 0, 0, &access.Error{Kind: access.ErrNotFound, Code: "DB-6072", Text: "the recording has no such segment"}
	case n+1 < len(p.segments):
		return p.segments[n].At, p.segments[n+1].At, nil
	}
	return p.segments[n].At, max(p.end.Duration, p.segments[n].At), nil
}

// part makes a segment for the player, which refuses one whose events are not
// within it, or that does not have one at its beginning and, of the last, at its end.
func (p *playable) part(n, idle int, screen string, events []cast.Event) api.PlayPart {
	g, begin, end := p.segments[n], p.begins[idle][n], p.last[idle]
	last := n+1 == len(p.segments)
	if !last {
		end = p.begins[idle][n+1] - time.Microsecond
	}
	out := api.PlayPart{Snapshot: api.PlaySnapshot{PlayTerm: api.PlayTerm{Cols: g.Cols, Rows: g.Rows}, Init: filtered(screen)}, Pauses: [][2]float64{}}
	add := func(at time.Duration, code, text string) {
		out.Events = append(out.Events, []any{precise(at), code, text})
	}
	add(begin, "o", "")
	var safe bytes.Buffer
	filter := cast.NewPictureFilter(&safe)
	p.squeeze(n, idle, events, func(i int, at, cut time.Duration) {
		at = min(max(at, begin), end)
		if cut > 0 {
			out.Pauses = append(out.Pauses, [2]float64{precise(at), precise(cut)})
		}
		switch e := events[i]; e.Stream {
		case cast.Output, cast.Stderr:
			filter.Write(e.Data)
			if safe.Len() > 0 {
				add(at, "o", safe.String())
				safe.Reset()
			}
		case cast.Resize:
			if size, ok := resized(string(e.Data)); ok {
				add(at, "r", size)
			}
		}
	})
	if last {
		add(end, "o", "")
	}
	return out
}

func filtered(text string) string {
	var b bytes.Buffer
	cast.NewPictureFilter(&b).Write([]byte(text))
	return b.String()
}

// resized reads a terminal's new size, as far as it is played.
func resized(text string) (string, bool) {
	a, b, _ := strings.Cut(text, "x")
	cols, err := strconv.ParseUint(a, 10, 16)
	rows, err2 := strconv.ParseUint(b, 10, 16)
	if err != nil || err2 != nil || cols == 0 || rows == 0 {
		return "", false
	}
	return fmt.Sprintf("%dx%d", min(cols, maxPlayedCols), min(rows, maxPlayedRows)), true
}

func (s *Server) playScreen(ctx context.Context, by access.Caller, in *struct {
	ByID
	N int `path:"n" minimum:"0"`
}) (api.PlayScreen, error) {
	x, p, err := s.look(ctx, by, in.ID, false, func(p *playable) (from, to time.Duration, err error) { return p.moment(in.N) })
	if err != nil {
		return api.PlayScreen{}, err
	}
	return s.screen(ctx, x, p, in.N)
}

// moment is the span of the screen at the beginning of a segment.
func (p *playable) moment(n int) (from, to time.Duration, err error) {
	if from, _, err = p.span(n); err != nil {
		return 0, 0, err
	}
	return from, from + time.Microsecond, nil
}

// screen is the screen at the beginning of a segment.
func (s *Server) screen(ctx context.Context, x access.Session, p *playable, n int) (api.PlayScreen, error) {
	g, err := s.segment(ctx, x, p, n)
	return api.PlayScreen{At: precise(g.At), PlayTerm: api.PlayTerm{Cols: g.Cols, Rows: g.Rows}, Lines: each(g.Lines, visible)}, err
}

// visible is a line of a screen as text, whatever made the view.
func visible(line string) string {
	if view.Plain(line) {
		return line
	}
	return strings.Map(func(r rune) rune {
		if view.Plain(string(r)) {
			return r
		}
		return '\ufffd'
	}, line)
}

func (s *Server) playFind(ctx context.Context, by access.Caller, in *struct {
	ByID
	Q  string `query:"q" required:"true" minLength:"1" maxLength:"200"`
	In string `query:"in" maxLength:"64" doc:"sources, with commas between: output, keys, command, file, mark; none: all"`
}) (api.PlayHits, error) {
	done, err := s.mayRead(by.User.ID)
	if err != nil {
		return api.PlayHits{}, err
	}
	defer done()
	var from []view.Source
	for name := range strings.SplitSeq(in.In, ",") {
		if source := view.Source(name); source.Valid() {
			from = append(from, source)
		} else if name != "" {
			return api.PlayHits{}, access.Invalid("there is no such source of text: use output, keys, command, file or mark")
		}
	}
	x, err := s.c.Broker.Replay(ctx, by, in.ID, "find")
	if err != nil {
		return api.PlayHits{}, err
	}
	if s.c.OpenView == nil {
		return api.PlayHits{}, errNoView
	}
	r, err := s.c.OpenView(ctx, x)
	if errors.Is(err, fs.ErrNotExist) {
		return api.PlayHits{}, errNoView
	}
	if err != nil {
		return api.PlayHits{}, fmt.Errorf("open the view of %s: %w", x.ID, err)
	}
	defer r.Close()
	out := api.PlayHits{Hits: []api.PlayText{}}
	want := strings.ToLower(in.Q)
	enough := errors.New("enough")
	err = view.ReadSome(r, finder(want), func(i view.Item) error {
		t := i.Text
		if t == nil || from != nil && !slices.Contains(from, t.In) || !strings.Contains(strings.ToLower(t.Text), want) {
			return ctx.Err()
		}
		if len(out.Hits) == maxHits {
			out.More = true
			return enough
		}
		out.Hits = append(out.Hits, apiPlayText(*t))
		return nil
	})
	if err != nil && err != enough {
		return api.PlayHits{}, fmt.Errorf("read the view of %s: %w", x.ID, err)
	}
	slices.SortStableFunc(out.Hits, func(a, b api.PlayText) int { return int(max(-1, min(1, (a.At-b.At)*1e6))) })
	return out, nil
}

// finder says which lines of a view may have a text, in lower case, in them. Of
// one that stands otherwise in JSON it does not know, and wants all.
func finder(text string) func(line []byte) bool {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f || strings.ContainsRune(`"\<>&`, r) }) {
		return func([]byte) bool { return true }
	}
	find := []byte(text)
	return func(line []byte) bool {
		return bytes.HasPrefix(line, []byte(`{"text":`)) && bytes.Contains(bytes.ToLower(line), find)
	}
}

// mayRead takes one of the places in which a caller has whole recordings or views read.
func (s *Server) mayRead(who string) (done func(), err error) {
	done, ok := s.reading.enter(who)
	if !ok {
		return nil, &access.Error{Kind: errRate, Code: "DB-6009", Text: "you have several recordings read at once: wait for one of them"}
	}
	return done, nil
}

// playEnd is told when a player is closed.
func (s *Server) playEnd(ctx context.Context, by access.Caller, in *ByID) (api.Empty, error) {
	_, err := s.c.Broker.Look(ctx, by, in.ID, broker.Glance{Done: true})
	return api.Empty{}, err
}
