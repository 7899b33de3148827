// Package commandline reads the command lines of an interactive shell off its
// terminal: out of what is typed and, above all, what is shown, which has been
// through history, completion and line editing. A line is what stands after the
// prompt when Enter is typed; what is typed without being shown, such as a
// password, is none.
//
// It is an aid for people and no boundary. It trusts nobody: what it reads is
// bounded in memory, and in time for each byte. It misses what does not stand in
// the terminal's line: scripts, functions, editors, programs that draw the whole
// screen, everything after stty -echo. And it takes a line that is typed into any
// other program that echoes for a command. It knows no rules and keeps nothing:
// a line is given out once, and what was typed is forgotten with it.
package commandline

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds on what is kept of lines.
const (
	maxLine  = 2048 // bytes of a command line; of a longer one the rest is not looked at
	maxAhead = 128  // lines that were typed and not shown yet
	maxWait  = 256  // lines that may end meanwhile before one of them is given up
)

// A Reader reads the lines of one terminal. It is not safe for concurrent use.
type Reader struct {
	screen  screen
	typing  *entry  // the line that is being typed; nil: nothing was
	ahead   []entry // lines whose Enter was typed, until they are shown to have ended
	moved   bool    // a line has ended on the screen since the last Enter
	heard   bool    // something was shown since the last key
	carried string  // lines before, which ended with a backslash
	found   []string

	keys  keys
	paste bool
	param int
}

// keys is what a key may be in the middle of.
type keys byte

const (
	between keys = iota
	afterEscape
	inSequence
	lastOne // one more byte
)

// An entry is one line as it is typed.
type entry struct {
	place  int    // cells of its line before it: the prompt; -1: not known
	row    int    // where it began
	typed  []byte // text, since the entry began or since the last key that edits
	plain  bool   // nothing but text was typed
	pasted bool   // more than one line may have been
	search bool   // in the history
	sent   string // of a search beside the line, at its Enter: such a line may go without ending
	left   bool   // by an interrupt
	shown  bool   // at its Enter, its text stood after the prompt
	whole  bool   // it came at once with its Enter, as what is pasted does
	waited int    // lines that have ended since its Enter
}

// New returns a Reader for a terminal of so many columns.
func New(columns int) *Reader {
	r := &Reader{moved: true}
	r.screen.lineEnds = r.lineEnds
	r.screen.clear()
	r.Resize(columns)
	return r
}

// Resize takes a new width. 0 is one that is not known.
func (r *Reader) Resize(columns int) {
	if columns <= 0 {
		columns = 80
	}
	r.screen.resize(columns)
}

// Shown takes what is shown, and returns the command lines that it shows to have
// been sent.
func (r *Reader) Shown(p []byte) []string {
	other := r.screen.other
	r.heard = r.heard || len(p) > 0
	r.screen.write(p)
	if r.screen.other || other {
		r.forget()
	}
	if !r.screen.pastes {
		r.paste = false
	}
	found := r.found
	r.found = nil
	return found
}

// forget drops what was typed: it is for a program that draws the whole screen.
func (r *Reader) forget() { r.typing, r.ahead, r.carried, r.moved = nil, nil, "", true }

// Typed takes keys up to the next one that sends a line. It returns how many bytes
// that are, and whether that key follows: then Line tells the line, and Enter takes
// the key.
func (r *Reader) Typed(p []byte) (n int, enter bool) {
	fresh := r.typing == nil
	for i, b := range p {
		if r.sends(b) {
			if r.typing != nil {
				r.typing.whole = fresh
			}
			return i, true
		}
		r.key(b)
	}
	return len(p), false
}

// sends reports whether a key sends a line: Enter, newline, and operate-and-get-next
// of line editors.
func (r *Reader) sends(b byte) bool {
	return (b == '\r' || b == '\n' || b == 0x0f) && !r.paste && !r.screen.other
}

func (r *Reader) key(b byte) {
	if r.screen.other {
		r.keys = between
		return
	}
	e := r.begin()
	r.heard = false
	switch {
	case b == 0x1b:
		r.keys = afterEscape
		e.edit()
	case r.keys == afterEscape:
		r.keys = between
		switch b {
		case '[':
			r.keys, r.param = inSequence, 0
		case 'O':
			r.keys = lastOne
		}
	case r.keys == lastOne:
		r.keys = between
	case r.keys == inSequence:
		r.sequence(e, b)
	case r.paste:
		e.pasted = true
		e.edit()
	case b == 0x03: // interrupt
		e.left = true
		e.edit()
	case b == 0x12 || b == 0x13: // search the history
		e.search = true
		e.edit()
	case b < 0x20 || b == 0x7f:
		e.edit()
	case len(e.typed) < maxLine:
		e.typed = append(e.typed, b)
	default:
		e.edit()
	}
}

// edit notes a key that is no text.
func (e *entry) edit() {
	clear(e.typed)
	e.typed, e.plain = e.typed[:0], false
}

// sequence takes a byte of a function key, or of the brackets around a paste.
func (r *Reader) sequence(e *entry, b byte) {
	switch {
	case b >= '0' && b <= '9':
		r.param = min(r.param*10+int(b-'0'), maxNumber)
	case b >= '@' && b <= '~':
		r.keys = between
		if b == '~' && r.param == 200 {
			r.paste = r.screen.pastes
		}
		if b == '~' && r.param == 201 {
			r.paste = false
		}
	case b < 0x20:
		r.keys = between
	default:
		r.param = 0
	}
}

// begin returns the line that is being typed. Where it begins is known when the
// line before has ended.
func (r *Reader) begin() *entry {
	if r.typing == nil {
		r.typing = &entry{place: -1, plain: true}
		if r.moved {
			r.drop()
			r.typing.place, r.typing.row = r.screen.place(), r.screen.row
		}
	}
	return r.typing
}

// drop forgets the lines that were typed and not shown, such as passwords. Those of
// a paste may still be shown.
func (r *Reader) drop() {
	r.ahead = slices.DeleteFunc(r.ahead, func(e entry) bool {
		if !e.whole {
			clear(e.typed)
		}
		return !e.whole
	})
}

// Settled reports whether all that was typed of the line is shown. It stays false
// where keys are not echoed.
func (r *Reader) Settled() bool {
	switch e := r.typing; {
	case e == nil:
		return true
	case e.search:
		return r.heard
	case len(e.typed) > 0:
		return r.ends(e, true)
	default:
		return e.plain || r.heard
	}
}

// ends reports whether the line of the cursor ends with what was typed, there or at
// the cursor.
func (r *Reader) ends(e *entry, toCursor bool) bool {
	return e.isEnd(r.shown(toCursor))
}

// shown is the line of the cursor, with its prompt.
func (r *Reader) shown(toCursor bool) []byte {
	first, last := r.screen.line()
	return []byte(r.screen.text(first, last, 0, toCursor))
}

// text is what was typed, in which bytes may be that are none.
func (e *entry) text() string { return strings.ToValidUTF8(string(e.typed), string(utf8.RuneError)) }

// isEnd reports whether a line ends with what was typed.
func (e *entry) isEnd(shown []byte) bool {
	return bytes.HasSuffix(bytes.TrimRight(shown, " "), bytes.TrimRight(e.typed, " "))
}

// Line returns the command line as it is shown now, with those before that it
// continues. It is "" when none is shown.
func (r *Reader) Line() string {
	if r.typing == nil {
		return ""
	}
	return r.whole(r.typing.line(r, true))
}

// whole joins a line to those that it continues, and takes away what is none.
func (r *Reader) whole(line string) string {
	line = strings.TrimSpace(r.carried + line)
	if strings.Trim(line, "*") == "" { // what some prompts for passwords show
		return ""
	}
	if len(line) > maxLine {
		line = strings.TrimSpace(strings.ToValidUTF8(line[:maxLine], "")) // without half a character
	}
	return line
}

// line is the text of the entry as it is shown now.
func (e *entry) line(r *Reader, toCursor bool) string {
	first, last := r.screen.line()
	switch {
	case e.plain && len(e.typed) > 0 && r.ends(e, toCursor):
		return e.text()
	case e.search && toCursor && r.searches():
		return r.screen.text(first, last, 0, false)
	case e.place < 0 && e.plain:
		return ""
	case e.place < 0:
		return r.screen.text(first, last, 0, false)
	case e.pasted && e.row >= r.screen.first && e.row < first:
		return r.screen.text(e.row-e.place/r.screen.columns, last, e.place, false)
	default:
		return r.screen.text(first, last, e.place, false)
	}
}

// searches reports whether the prompt is the one with which Readline searches.
func (r *Reader) searches() bool { return bytes.Contains(r.shown(false), []byte("i-search)`")) }

// Enter takes the key that sends the line. It is to be called before the key is
// sent, and after that of what comes before it.
func (r *Reader) Enter() {
	r.keys = between
	e := r.typing
	r.typing = nil
	if r.screen.other {
		return
	}
	r.moved = false
	if e == nil {
		r.carried = ""
		return
	}
	line := e.line(r, true)
	e.shown = line != ""
	if e.search && !r.searches() {
		e.sent = line
	}
	if len(r.ahead) == maxAhead {
		r.ahead = append(r.ahead[:0], r.ahead[1:]...)
	}
	r.ahead = append(r.ahead, *e)
}

// lineEnds is called when a line ends on the screen: if it is one that was sent,
// this is how it was sent. A paste of several lines ends with the last.
func (r *Reader) lineEnds(last bool) (keep bool) {
	r.moved = true
	if !last && len(r.ahead) > 0 && r.ahead[0].pasted {
		return true
	}
	var shown []byte
	if len(r.ahead) > 0 {
		shown = r.shown(false)
	}
	first := true
	for i := range r.ahead {
		e := &r.ahead[i]
		line, over := e.final(r, shown, first)
		if !over {
			e.waited++
			first = first && e.plain && !e.shown
			continue
		}
		clear(e.typed)
		r.ahead = slices.Delete(r.ahead, i, i+1) // those before may still be shown
		r.take(line)
		break
	}
	r.ahead = slices.DeleteFunc(r.ahead, func(e entry) bool { return e.waited > maxWait })
	if e := r.typing; e != nil && e.left {
		clear(e.typed)
		r.typing, r.carried = nil, ""
	}
	return r.typing != nil && r.typing.place >= 0
}

// final tells a line that has ended, and whether it is this one. Text that is not
// shown is waited for: before it may come what was shown before it was typed.
func (e *entry) final(r *Reader, shown []byte, first bool) (line string, over bool) {
	switch {
	case e.plain && len(e.typed) > 0 && e.isEnd(shown):
		return e.text(), true
	case e.sent != "":
		return e.sent, true
	case !first || e.plain && !e.shown:
		return "", false
	case e.place < 0 && !e.shown:
		return "", true
	default:
		return e.line(r, false), true
	}
}

// take gives out a line, unless it is continued.
func (r *Reader) take(line string) {
	trimmed := strings.TrimRight(line, " ")
	if body := strings.TrimRight(trimmed, `\`); (len(trimmed)-len(body))%2 == 1 && len(r.carried) < maxLine {
		r.carried += trimmed[:len(trimmed)-1]
		return
	}
	line = r.whole(line)
	r.carried = ""
	if line != "" {
		r.found = append(r.found, line)
	}
}
