// Package view is what is derived from a recording so that people find and see
// what happened in it: where each segment begins and how the screen stood there,
// and the text that was shown, typed and run. A view proves nothing and can be
// made again from the recording at any time; nothing in it is needed to verify.
//
// The one who was recorded chose the bytes that a view is made of. Its text has
// no control characters, and a Segment's screen only those that paint: what reads
// a view may show it as text, and needs no terminal emulator.
//
// Make reads a recording; a Worker has that done in a process of its own, and
// checks what it says as if it came from anywhere.
//
// The package knows nothing of sessions' users and targets, and not where views
// are kept.
package view

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode"
	"unicode/utf8"
)

// Version is the version of what Make derives. A view of an older one is made again.
const Version = 2

// Limits of a view. A reader refuses what is beyond them.
const (
	MaxText  = 4 << 10 // bytes of one Text
	maxLine  = 4 << 20 // bytes of one line of the file
	maxItems = 4 << 20
)

// A Segment is a span of the recording that can be played by itself. Segments
// come in their order, the first at 0 with an empty screen, and each ends where the next begins.
type Segment struct {
	At     time.Duration `json:"at"`     // of its beginning, since the start of the recording
	Offset int64         `json:"offset"` // in the cast, of the first line of its first event, in bytes
	Cols   int           `json:"cols"`   // of the terminal at its beginning
	Rows   int           `json:"rows"`
	// Screen paints the terminal as it stood at At when it is written to one of
	// this size that was reset: text, colours and movements of the cursor only.
	Screen string `json:"screen"`
	// Lines is the same screen as plain text, without trailing blanks.
	Lines []string `json:"lines"`
	// Saved is how much earlier it begins when every pause before it is cut to
	// the entry of Pauses with the same index.
	Saved [2]time.Duration `json:"saved"`
}

// Pauses are to what idle time can be cut.
var Pauses = [2]time.Duration{2 * time.Second, 500 * time.Millisecond}

// A Source says what a Text is part of.
type Source string

// The sources of text.
const (
	Output  Source = "output"  // shown on the screen, or sent without a terminal
	Keys    Source = "keys"    // typed, a line at a time; never what was typed unseen
	Command Source = "command" // run: of an exec, or read off the terminal
	File    Source = "file"    // carried, removed, renamed: "upload /etc/hosts ok"
	Mark    Source = "mark"    // a remark of the recorder
)

// Valid reports whether s is one of the sources named here.
func (s Source) Valid() bool {
	switch s {
	case Output, Keys, Command, File, Mark:
		return true
	default:
		return false
	}
}

// A Text is one line that was shown, typed or run, at the moment when it first was.
// Texts come in the order of time.
type Text struct {
	At   time.Duration `json:"at"`
	In   Source        `json:"in"`
	Text string        `json:"text"` // one line, at most MaxText bytes, UTF-8 without control characters
}

// An End comes last. A view without one is not whole.
type End struct {
	Version  int           `json:"version"`
	Duration time.Duration `json:"duration"`
	Offset   int64         `json:"offset"` // behind the last event, in the cast
	// Input and Output are how many bytes were typed and shown in each of the
	// equal spans, at most 240, into which the duration is divided.
	Input  []int64 `json:"input"`
	Output []int64 `json:"output"`
	// Idle are the pauses of 30 s and longer, at most 1000: beginning and end.
	Idle [][2]time.Duration `json:"idle"`
	// Cut says what is missing when the view does not cover the whole
	// recording: it was damaged, or too large, or took too long.
	Cut string `json:"cut,omitempty"`
}

// An Item is one line of a view: exactly one of its fields is set.
type Item struct {
	Segment *Segment `json:"segment,omitempty"`
	Text    *Text    `json:"text,omitempty"`
	End     *End     `json:"end,omitempty"`
}

// Check reports what of the item is not as it must be.
func (i Item) Check() error {
	switch {
	case i.Segment != nil && i.Text == nil && i.End == nil:
		s := i.Segment
		if s.At < 0 || s.Offset < 0 || s.Cols < 1 || s.Rows < 1 || s.Cols > 1<<14 || s.Rows > 1<<14 {
			return errors.New("a segment is out of range")
		}
	case i.Text != nil && i.Segment == nil && i.End == nil:
		t := i.Text
		if t.At < 0 || !t.In.Valid() || t.Text == "" || len(t.Text) > MaxText || !Plain(t.Text) {
			return errors.New("a text is not one line of plain text")
		}
	case i.End != nil && i.Segment == nil && i.Text == nil:
		if i.End.Duration < 0 || len(i.End.Input) > 240 || len(i.End.Output) > 240 || len(i.End.Idle) > 1000 {
			return errors.New("the end is out of range")
		}
	default:
		return errors.New("an item must be a segment, a text or the end")
	}
	return nil
}

// Plain reports whether s is UTF-8 without control and format characters.
func Plain(s string) bool {
	for _, r := range s {
		if r >= ' ' && r < 0x7f {
			continue
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Write writes one item as a line of JSON.
func Write(w io.Writer, i Item) error {
	if err := i.Check(); err != nil {
		return fmt.Errorf("write view: %w", err)
	}
	b, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("write view: %w", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// IsOutput reports whether a line, as it is written, is text that was shown.
func IsOutput(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte(`{"text":{"at":`))
	return ok && bytes.HasPrefix(bytes.TrimLeft(rest, "0123456789"), []byte(`,"in":"output",`))
}

var beginEnd = []byte(`{"end":`)

// ErrCut: the view has no end.
var ErrCut = errors.New("the view is not whole")

// Read gives each item of a view to each, until that returns an error, which is
// returned. An index behind the end is left out. Memory is bounded by one line.
func Read(r io.Reader, each func(Item) error) error {
	return ReadSome(r, func([]byte) bool { return true }, each)
}

// ReadSome is Read of the lines that want wants, as they are written, and of the
// end. The others cost next to nothing, and are not checked.
func ReadSome(r io.Reader, want func(line []byte) bool, each func(Item) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	ended := false
	for n := 0; lines.Scan(); n++ {
		if ended && bytes.HasPrefix(lines.Bytes(), beginIndex) {
			continue
		}
		if n < maxItems && !ended && !bytes.HasPrefix(lines.Bytes(), beginEnd) && !want(lines.Bytes()) {
			continue
		}
		var i Item
		if err := json.Unmarshal(lines.Bytes(), &i); err != nil {
			return fmt.Errorf("read view: line %d: %w", n+1, err)
		}
		if err := i.Check(); err != nil {
			return fmt.Errorf("read view: line %d: %w", n+1, err)
		}
		if ended || n == maxItems {
			return fmt.Errorf("read view: line %d is one too many", n+1)
		}
		ended = i.End != nil
		if err := each(i); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read view: %w", err)
	}
	if !ended {
		return ErrCut
	}
	return nil
}
