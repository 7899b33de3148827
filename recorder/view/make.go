package view

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/drawbolt/drawbolt/recorder/cast"
	"github.com/drawbolt/drawbolt/recorder/commandline"
	"github.com/drawbolt/drawbolt/recorder/screen"
)

// Where segments begin, and what the text of a view is bounded to.
const (
	segmentTime  = 10 * time.Second // of activity
	segmentBytes = 256 << 10        // of the cast
	segmentRoom  = 32 << 20         // bytes of segments after which they are twice as long

	maxOutput = 16 << 20 // bytes of text that was shown
	maxAgain  = 4 << 20  // of it, bytes that a program drew over others
	maxSaid   = 8 << 20  // bytes of all other text
	sameLine  = 16       // how often a line is told that differs in its digits only

	rest     = 100 * time.Millisecond // without output, after which the screen is looked at
	longRest = 3 * time.Second        // after which the line of the cursor is too
	look     = time.Second            // how long output may go on without a look
)

// Make reads a recording and gives each item of its view to each, in order, until
// that returns an error, which is returned. A damaged recording gives a view up to
// the damage. Of a session without a terminal nothing that was typed is part of
// the view.
//
// Memory is bounded by the size of the terminal and does not grow with the
// recording. Who runs Make on recordings of others bounds its time: see Worker.
func Make(ctx context.Context, recording io.Reader, each func(Item) error) error {
	m := newMaker(each)
	if err := m.read(ctx, recording, true); err != nil {
		return fmt.Errorf("make view: %w", err)
	}
	return nil
}

// Last reads a recording, which need not be sealed yet, and returns how its screen
// stands at the end, as a Segment that begins there.
func Last(ctx context.Context, recording io.Reader) (Segment, error) {
	m := newMaker(func(Item) error { return nil })
	if err := m.read(ctx, recording, false); err != nil {
		return Segment{}, fmt.Errorf("make last screen: %w", err)
	}
	return m.segment(m.end.Duration, m.end.Offset), nil
}

// A maker makes one view.
type maker struct {
	each func(Item) error
	err  error // the first that each returned
	end  End
	cuts []string

	terminal      bool // there was one
	columns, rows int
	screen        *screen.Screen
	commands      *commandline.Reader
	typing        typing
	entered       bool // since the last mark of a shell
	ran           struct {
		text   string
		at     time.Duration
		marked bool
	}

	from    int64         // where the segment begins
	spent   time.Duration // of activity, before the segment
	saved   [2]time.Duration
	room    int64         // bytes of segments so far
	unseen  bool          // output came since the last look
	shown   time.Duration // when the last output came
	looked  time.Duration // when the screen was looked at
	at      time.Duration // of the event
	recent  recent
	told    time.Duration // when the last text came
	budgets [3]int        // what is left of maxOutput, maxAgain, maxSaid
	over    [3]bool

	input, output histogram
}

func newMaker(each func(Item) error) *maker {
	return &maker{each: each, budgets: [3]int{maxOutput, maxAgain, maxSaid}, columns: 80, rows: 24}
}

// read reads all. With items it gives them out; without, only the screen is kept.
func (m *maker) read(ctx context.Context, recording io.Reader, items bool) error {
	c, err := cast.NewReader(recording)
	var damage *cast.DamageError
	if err != nil && (!errors.As(err, &damage) || errors.Is(err, cast.ErrNotSealed)) {
		return err
	}
	if c != nil {
		h := c.Header()
		m.terminal = h.Terminal != ""
		if h.Width > 0 && h.Height > 0 {
			m.columns, m.rows = h.Width, h.Height
		}
		_, m.end.Offset = c.Offsets()
	}
	m.screen = screen.New(m.columns, m.rows)
	m.screen.NewLine = !m.terminal
	if items {
		m.screen.Told = func(line string) { m.outputLine(m.at, line, 0) }
		if m.terminal {
			m.commands = commandline.New(m.columns)
			m.typing.screen, m.typing.found = m.screen, m.keyLine
			m.screen.Ran = func(lines string) { m.command(lines, true) }
		}
		first := m.segment(0, m.end.Offset)
		m.give(Item{Segment: &first})
		m.from = m.end.Offset
		if c != nil {
			m.lines(Command, 0, c.Header().Command)
		}
	}
	for damage == nil && m.err == nil {
		e, err := c.Next()
		if err == io.EOF {
			break
		}
		if errors.As(err, &damage) {
			break
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		from, to := c.Offsets()
		if items {
			m.before(e, from)
		}
		m.event(e, items)
		m.end.Duration, m.end.Offset = e.At, to
	}
	if !items {
		if damage != nil && !errors.Is(damage, cast.ErrCut) {
			return damage
		}
		return nil
	}
	m.look(true)
	if damage != nil {
		m.cuts = append(m.cuts, damage.Error())
	}
	m.end.Version = Version
	m.end.Input, m.end.Output = m.input.spans(m.end.Duration), m.output.spans(m.end.Duration)
	m.end.Cut = plain(strings.Join(m.cuts, "; "))
	m.give(Item{End: &m.end})
	return m.err
}

func (m *maker) give(i Item) {
	if m.err == nil {
		m.err = m.each(i)
	}
}

// before does what is due before an event: a look at the screen after a rest, and
// the beginning of a segment with this event.
func (m *maker) before(e cast.Event, from int64) {
	pause := e.At - m.at
	if m.unseen && (e.At-m.shown >= rest || e.At-m.looked >= look) {
		m.look(e.At-m.shown >= longRest)
		m.looked = e.At
	}
	for i, most := range Pauses {
		m.saved[i] += max(0, pause-most)
	}
	if pause >= 30*time.Second && len(m.end.Idle) < 1000 {
		m.end.Idle = append(m.end.Idle, [2]time.Duration{m.at, e.At})
	}
	m.at = e.At
	// Segments of a large screen take much room: they become longer when there are
	// many, so that a view is never much larger than its recording.
	spread := time.Duration(1) << min(m.room/segmentRoom, 20)
	active := e.At - m.saved[0] - m.spent
	switch size := from - m.from; {
	case active < segmentTime*spread && size < segmentBytes*int64(spread):
	case !m.screen.Whole() && size < 2*segmentBytes*int64(spread):
	default:
		s := m.segment(e.At, from)
		m.room += 2 * int64(len(s.Screen)) // about, as JSON
		m.give(Item{Segment: &s})
		m.from, m.spent = from, e.At-m.saved[0]
	}
}

// segment is one that begins now.
func (m *maker) segment(at time.Duration, offset int64) Segment {
	return Segment{At: at, Offset: offset, Cols: m.columns, Rows: m.rows,
		Screen: m.screen.Paint(), Lines: m.screen.Lines(), Saved: m.saved}
}

func (m *maker) event(e cast.Event, items bool) {
	switch e.Stream {
	case cast.Output, cast.Stderr:
		if m.output.add(e.At, len(e.Data)); !m.terminal && binary(e.Data) {
			return
		}
		_, _ = m.screen.Write(e.Data)
		m.unseen, m.shown = true, e.At
		if m.commands != nil {
			m.typing.listen()
			for _, line := range m.commands.Shown(e.Data) {
				m.command(line, false)
			}
		}
	case cast.Input:
		if m.input.add(e.At, len(e.Data)); m.commands == nil {
			return
		}
		m.typing.typed(e.At, e.Data)
		for p := e.Data; len(p) > 0; {
			n, enter := m.commands.Typed(p)
			if p = p[n:]; enter {
				m.entered = true
				m.commands.Enter()
				p = p[1:]
			}
		}
	case cast.Resize:
		var columns, rows int
		if n, err := fmt.Sscanf(string(e.Data), "%dx%d", &columns, &rows); n != 2 || err != nil || columns < 1 || rows < 1 {
			return
		}
		m.columns, m.rows = min(columns, 1<<14), min(rows, 1<<14)
		m.screen.Resize(m.columns, m.rows)
		if m.commands != nil {
			m.commands.Resize(m.columns)
		}
	case cast.Mark, cast.Hidden:
		if items {
			m.lines(Mark, e.At, string(e.Data))
		}
	case cast.File:
		if f := cast.ParseFileEvent(e.Data); items && (f.Result != "" || f.What == "unreadable") {
			m.lines(File, e.At, fileText(f))
		}
	}
}

// command tells a command line that was read off the terminal, or one that a shell
// has marked. What both say is told once. A mark counts only after an Enter: else any
// output could claim that a command was run.
func (m *maker) command(text string, marked bool) {
	text = strings.TrimSpace(text)
	if marked && !m.entered {
		return
	}
	if m.entered = m.entered && !marked; text == m.ran.text && marked != m.ran.marked && m.at-m.ran.at < 2*time.Second {
		m.ran.text = ""
		return
	}
	m.ran.text, m.ran.at, m.ran.marked = text, m.at, marked
	m.lines(Command, m.at, text)
}

// fileText says what became of a file, as people look for it.
func fileText(f cast.FileEvent) string {
	var words []string
	add := func(text string) {
		if text != "" {
			words = append(words, text)
		}
	}
	if f.What != "close" {
		add(f.What)
	}
	add(f.Direction)
	add(f.Path)
	if f.To != "" {
		add("to " + f.To)
	}
	add(f.Result)
	if f.What == "close" {
		add(fmt.Sprintf("%d bytes", f.Size))
	}
	if f.SHA256 != "" {
		add("sha256 " + f.SHA256)
	}
	if f.Why != "" {
		add("(" + f.Why + ")")
	}
	return strings.Join(words, " ")
}

// look tells what has changed on the screen, all of it or without the line of the
// cursor.
func (m *maker) look(all bool) {
	m.screen.Shown(all, func(line string, again int) {
		if again <= sameLine {
			m.outputLine(m.shown, line, again)
		}
	})
	m.unseen = false
}

func (m *maker) outputLine(at time.Duration, line string, again int) {
	line = plain(line)
	if line == "" || m.recent.seen(line) {
		return
	}
	budget := 0
	if again > 0 || m.screen.Alternate() {
		budget = 1
	}
	m.text(budget, Text{At: at, In: Output, Text: line})
}

func (m *maker) keyLine(at time.Duration, line string) { m.lines(Keys, at, line) }

// lines gives each line of a text.
func (m *maker) lines(in Source, at time.Duration, text string) {
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		for line = plain(line); line != ""; {
			n := len(line)
			if n > MaxText {
				for n = MaxText; !utf8.RuneStart(line[n]); n-- {
				}
			}
			m.text(2, Text{At: at, In: in, Text: line[:n]})
			line = line[n:]
		}
	}
}

// text gives a text while there is room for it.
func (m *maker) text(budget int, t Text) {
	if m.budgets[budget] < len(t.Text) {
		if !m.over[budget] {
			m.over[budget] = true
			m.cuts = append(m.cuts, [...]string{
				"not all text that was shown could be kept", "not all text that was drawn over could be kept", "not all that was typed and run could be kept",
			}[budget]+fmt.Sprintf(": it is too much from %v on", t.At.Truncate(time.Second)))
		}
		return
	}
	m.budgets[budget] -= len(t.Text)
	// They come in the order of time, though some are known later than others.
	t.At = max(t.At, m.told)
	m.told = t.At
	m.give(Item{Text: &t})
}
