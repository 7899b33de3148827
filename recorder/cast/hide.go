package cast

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"
)

// A Hider takes what was typed unseen out of a recording: what the target did
// not show while it was typed, as with a password. In its place stands one event
// of the stream Hidden, which tells how many keys it were; the keys themselves go
// elsewhere.
//
// There is no telling from outside whether a terminal echoes, so a Hider compares
// what was typed with what was shown next. In doubt it hides: keys that a program
// takes without showing anything are hidden as well. Without a terminal nothing
// echoes, and only what was asked for as a password is hidden. It is no boundary
// against the one who types, who can have a secret shown.
//
// It holds back some 256 KiB at most. It is not safe for concurrent use.
type Hider struct {
	write    func(Event) error
	keep     func(at time.Duration, keys []byte) error
	terminal bool
	lines    int // how many lines of input are secrets whatever is shown

	now     time.Duration
	waiting []Event // since the first key that is not decided on
	held    int     // bytes of them
	from    int64   // how many bytes of input came before the waiting ones
	input   int64   // how many came in all, without the one that is looked at
	typed   []typed // not decided on, in their order
	hidden  []span  // decided on, and waiting, in their order

	keys   scanner
	begin  int64 // of the character that the next byte of input belongs to
	single bool  // after ESC O, which is a key with the next character
	shown  scanner
	tail   []byte // of what was shown: the prompt is its last line
	full   bool   // a program draws on the whole screen
}

// typed is text that was typed in one line and not shown yet, or not all of it.
type typed struct {
	at, last time.Duration // of its first and its last key
	span     [2]int64      // of its bytes of input
	text     []rune
	seen     int  // how many of these were shown
	next     int  // the first that may still be
	asked    bool // for a secret
	other    bool // and then something else was shown
	ahead    bool // before the line before it was decided on
	entered  bool
	placed   bool // the cursor was placed since the last key, as programs do that draw
}

// A span is input that is hidden.
type span struct {
	at    time.Duration
	span  [2]int64
	count int // of characters
	keys  []byte
}

const (
	// echoWait is how long after it was typed a key may be shown, in the time of
	// the recording.
	echoWait   = 2 * time.Second
	maxWaiting = 4 << 10   // events
	maxHeld    = 256 << 10 // bytes of them
	maxTyped   = 4 << 10   // characters of one line
	maxTail    = 256       // bytes
)

var (
	// asking is the end of a line that asks for a secret.
	asking = regexp.MustCompile(`(?i)(pass|passw\pL*|\bpin|\botp|token|secret|\bcode|\bkey|mot de passe|contrase\pL*|kennwort|senha)\b[^:?>]{0,80}[:?>]\s*$`)
	// asksFirst and asksAll are commands that read a secret from their input,
	// without asking first or before they ask.
	asksFirst = regexp.MustCompile(`\bsudo\b.*\s(-[a-zA-Z]*S|--stdin)\b`)
	asksAll   = regexp.MustCompile(`\bchpasswd\b|\bpasswd\b.*\s--stdin\b|\b(password|secret|token|passphrase)-stdin\b|\bsmbpasswd\b.*\s-[a-zA-Z]*s`)
)

// NewHider returns a Hider for the recording with this header. It gives write the
// events of the recording, and keep what was typed unseen, with the time of its
// first key. What these are given is theirs during the call only.
func NewHider(h Header, write func(Event) error, keep func(at time.Duration, keys []byte) error) *Hider {
	d := &Hider{write: write, keep: keep, terminal: h.Terminal != ""}
	switch {
	case asksAll.MatchString(h.Command):
		d.lines = 1 << 30
	case asksFirst.MatchString(h.Command):
		d.lines = 1
	}
	d.keys.to, d.shown.to = pressed{d}, displayed{d}
	return d
}

// Write takes the next event.
func (d *Hider) Write(e Event) error {
	d.now = e.At
	for len(d.typed) > 0 && d.now-d.typed[0].last > echoWait {
		d.decide()
	}
	switch e.Stream {
	case Input:
		d.press(e.Data)
	case Output, Stderr:
		d.display(e.Data)
	}
	if len(d.typed)+len(d.waiting)+len(d.hidden) == 0 {
		d.from = d.input
		return d.write(e)
	}
	e.Data = bytes.Clone(e.Data)
	d.waiting = append(d.waiting, e)
	d.held += len(e.Data)
	if len(d.waiting) > maxWaiting || d.held > maxHeld {
		d.decideAll()
	}
	return d.flush()
}

// Close decides on what waits and writes it.
func (d *Hider) Close() error {
	d.decideAll()
	return d.flush()
}

// press looks at input.
func (d *Hider) press(p []byte) {
	if !d.terminal && len(d.typed) == 0 && d.lines == 0 && !d.asks() {
		d.input += int64(len(p)) // data, and maybe much of it
		return
	}
	for _, c := range p {
		if d.keys.parts == 0 {
			d.begin = d.input
		}
		d.keys.byte(c)
		d.input++
	}
}

// asks reports whether the last line that was shown asks for a secret.
func (d *Hider) asks() bool {
	if len(d.tail) == 0 {
		return false
	}
	var line lastLine
	s := scanner{to: &line}
	s.write(d.tail)
	return asking.Match(line.line)
}

// pressed is what was found in the input.
type pressed struct{ *Hider }

func (d pressed) text(r rune) {
	if d.single {
		d.single = false
		return
	}
	n := len(d.typed)
	if n == 0 || d.typed[n-1].entered || len(d.typed[n-1].text) == maxTyped {
		asked := d.lines > 0 || d.asks()
		if !asked && !d.terminal {
			return
		}
		d.typed = append(d.typed, typed{at: d.now, span: [2]int64{d.begin, 0}, asked: asked, ahead: n > 0})
		n++
	}
	t := &d.typed[n-1]
	t.text = append(t.text, r)
	t.span[1], t.last, t.placed = d.input+1, d.now, false
}

func (d pressed) control(c byte) {
	switch c {
	case '\r', '\n', 0x03, 0x04: // Enter, and the interrupt and the end of input that leave a line
		if n := len(d.typed); n > 0 {
			d.typed[n-1].entered, d.typed[n-1].last = true, d.now
		}
		if c != '\n' || !d.terminal {
			d.lines = max(d.lines-1, 0)
		}
		d.tail = d.tail[:0]
	}
}

func (d pressed) escape(c byte)    { d.single = c == 'O' }
func (d pressed) csi([]byte, byte) {}

// display looks at output.
func (d *Hider) display(p []byte) {
	if len(d.typed) > 0 {
		d.shown.write(p)
	}
	if bytes.IndexByte(p, 0x1b) >= 0 || len(d.tail) > 0 && bytes.IndexByte(d.tail, 0x1b) >= 0 {
		d.look(p)
	}
	if len(p) >= maxTail {
		d.tail = append(d.tail[:0], p[len(p)-maxTail:]...)
		return
	}
	if over := len(d.tail) + len(p) - maxTail; over > 0 {
		d.tail = slices.Delete(d.tail, 0, over)
	}
	d.tail = append(d.tail, p...)
}

// look notes when a program begins or ends to draw on a screen of its own.
func (d *Hider) look(p []byte) {
	near := append(bytes.Clone(d.tail[max(0, len(d.tail)-8):]), p...)
	for _, mode := range []string{"\x1b[?1049", "\x1b[?1047", "\x1b[?47"} {
		if i := bytes.LastIndex(near, []byte(mode)); i >= 0 && i+len(mode) < len(near) {
			switch near[i+len(mode)] {
			case 'h':
				d.full = true
			case 'l':
				d.full = false
			}
		}
	}
}

// displayed is what was found in the output.
type displayed struct{ *Hider }

func (d displayed) text(r rune) {
	if len(d.typed) == 0 {
		return
	}
	t := &d.typed[0]
	switch {
	case t.asked:
		// Only what is shown at once, and nothing else, is an echo.
		if t.other = t.other || t.text[t.next] != r; t.other {
			return
		}
		t.next++
		t.seen++
	case t.ahead:
		if t.text[t.next] != r {
			t.next, t.seen = 0, 0
		}
		if t.text[t.next] == r {
			t.next++
			t.seen++
		}
	default:
		// A program may show a key otherwise than it was typed.
		for i := t.next; i < min(t.next+3, len(t.text)); i++ {
			if t.text[i] == r {
				t.seen++
				t.next = i + 1
				break
			}
		}
	}
	// A program that draws answers keys with something else; for a secret it draws
	// at most one of these for each.
	answered := !t.asked && (d.full || t.placed) && r != ' ' && r != '*' && r != '•' && r != '●'
	if t.seen == len(t.text) || answered {
		d.typed = d.typed[1:]
	}
}

func (d displayed) control(c byte) {
	if c != '\n' || len(d.typed) == 0 {
		return
	}
	switch t := &d.typed[0]; {
	case t.entered && !t.ahead:
		d.decide()
	case t.ahead:
		t.next, t.seen = 0, 0
	}
}

func (d displayed) escape(byte) {}

func (d displayed) csi(_ []byte, final byte) {
	if len(d.typed) > 0 && (final == 'H' || final == 'f') {
		d.typed[0].placed = true
	}
}

// lastLine keeps the line that is shown last.
type lastLine struct{ line []byte }

func (l *lastLine) text(r rune) { l.line = utf8.AppendRune(l.line, r) }

func (l *lastLine) control(c byte) {
	if c == '\n' || c == '\r' {
		l.line = l.line[:0]
	}
}

func (l *lastLine) escape(byte)      {}
func (l *lastLine) csi([]byte, byte) {}

// decide decides on what was typed first.
func (d *Hider) decide() {
	t := d.typed[0]
	d.typed = d.typed[1:]
	// Some of it may have been shown otherwise, as by completion.
	if most := 5*t.seen >= 3*len(t.text); !most || t.asked || t.ahead {
		d.hidden = append(d.hidden, span{at: t.at, span: t.span, count: len(t.text)})
	}
}

func (d *Hider) decideAll() {
	for len(d.typed) > 0 {
		d.decide()
	}
}

// flush writes what is decided on.
func (d *Hider) flush() error {
	n := 0
	for _, e := range d.waiting {
		if e.Stream == Input {
			end := d.from + int64(len(e.Data))
			if len(d.typed) > 0 && d.typed[0].span[0] < end {
				break
			}
			if err := d.split(e); err != nil {
				return err
			}
			d.from = end
		} else if err := d.write(e); err != nil {
			return err
		}
		d.held -= len(e.Data)
		n++
	}
	d.waiting = slices.Delete(d.waiting, 0, n)
	return nil
}

// split writes an input event without what is hidden.
func (d *Hider) split(e Event) error {
	for at := d.from; len(e.Data) > 0; {
		n := int64(len(e.Data))
		inside := false
		if len(d.hidden) > 0 {
			h := &d.hidden[0]
			if inside = at >= h.span[0]; inside {
				n = min(n, h.span[1]-at)
			} else {
				n = min(n, h.span[0]-at)
			}
		}
		if inside {
			if err := d.hide(e.At, e.Data[:n], at+n); err != nil {
				return err
			}
		} else if err := d.write(Event{e.At, Input, e.Data[:n]}); err != nil {
			return err
		}
		at += n
		e.Data = e.Data[n:]
	}
	return nil
}

// hide takes some bytes of the first span, which end at a place.
func (d *Hider) hide(at time.Duration, p []byte, end int64) error {
	h := &d.hidden[0]
	if h.keys == nil {
		if err := d.write(Event{at, Hidden, fmt.Appendf(nil, "%d keys hidden, echo off", h.count)}); err != nil {
			return err
		}
	}
	h.keys = append(h.keys, p...)
	if end < h.span[1] {
		return nil
	}
	err := d.keep(h.at, h.keys)
	clear(h.keys)
	d.hidden = d.hidden[1:]
	return err
}
