// Package cast reads, writes, verifies and shows terminal recordings: asciicast
// v3 files (https://docs.asciinema.org/manual/asciicast/v3/) that a stock player
// plays, and that keep every byte exactly and prove their own integrity.
//
// What stock players ignore is kept in comment lines that begin with
// "# drawbolt": which stream an event belongs to, bytes that are binary or not
// UTF-8, a hash chain over the file and, as the last line, a seal signed with
// the key of the server that recorded. docs/formats/recording.md describes the
// lines.
//
// The package trusts nothing that it reads: lines are limited, times may not run
// backwards, and what is shown to a person passes a Filter first, because the
// one who was recorded chose the bytes. Somebody who can change a sealed file
// can at most make Verify fail. Somebody who holds the signing key can make a
// file that verifies; the audit log keeps the hashes against that.
//
// It knows nothing of journals, encryption or where files are kept.
package cast

import (
	"errors"
	"fmt"
	"time"
)

// A Stream says what an Event is part of.
type Stream uint8

// The streams of a recording. The numbers are part of the journal's format.
const (
	Input  Stream = 1 // what the user sent
	Output Stream = 2 // what the target sent
	Stderr Stream = 3 // what the target sent apart from its output
	Resize Stream = 4 // the terminal's new size, as "80x24"
	Mark   Stream = 5 // a remark of the recorder, as text
	Exit   Stream = 6 // the exit status, as decimal digits
	File   Stream = 7 // something about a file that is carried, see FileEvent
	Hidden Stream = 8 // in place of what was typed unseen: how many keys, as text; see Hider
)

// codes are the letters of the streams in a file. Stderr, File and Hidden have none
// in asciicast: they are written as "o" and as "m" after a comment line.
var codes = [...]byte{Input: 'i', Output: 'o', Stderr: 'e', Resize: 'r', Mark: 'm', Exit: 'x', File: 'f', Hidden: 'h'}

// String returns the letter of the stream as it stands in a file.
func (s Stream) String() string {
	if !s.Valid() {
		return fmt.Sprintf("stream(%d)", uint8(s))
	}
	return string(rune(codes[s]))
}

// Valid reports whether s is one of the streams named here.
func (s Stream) Valid() bool { return s >= Input && s <= Hidden }

// text reports whether a chunk of the stream may end inside a character, so
// that the tail belongs to the next chunk.
func (s Stream) text() bool { return s == Input || s == Output || s == Stderr }

// stock returns the stream as which stock players see s.
func (s Stream) stock() Stream {
	switch s {
	case Stderr:
		return Output
	case File, Hidden:
		return Mark
	default:
		return s
	}
}

func streamOf(code byte) (Stream, bool) {
	for s, c := range codes {
		if c == code && c != 0 {
			return Stream(s), true
		}
	}
	return 0, false
}

// An Event is some bytes of one stream at one moment.
type Event struct {
	At     time.Duration // since the start; whole microseconds
	Stream Stream
	Data   []byte
}

// A Header says what was recorded.
type Header struct {
	ID       string    // of the session; printable ASCII without spaces, at most 128 bytes
	Kind     string    // "shell", "exec" or "forward"
	Started  time.Time // whole microseconds, UTC
	Width    int       // columns at the start; 80 when zero
	Height   int       // rows at the start; 24 when zero
	Terminal string    // TERM; empty when there is no terminal
	Command  string    // of an exec
	Fields   map[string]string
}

// Limits of a file. A reader refuses what is beyond them.
const (
	MaxLine  = 512 << 10 // bytes of one line with its newline
	maxData  = 64 << 10  // bytes of one event; the writer splits
	maxField = 1 << 10   // bytes of a field's name or value
	maxText  = 32 << 10  // bytes of the command
	maxSize  = 1 << 14   // columns or rows

	chunkBytes  = 64 << 10 // of the file between two chain lines, about
	chunkEvents = 256

	maxTime = 10 * 365 * 24 * time.Hour
)

// Kinds of damage; a *DamageError wraps one of them.
var (
	// ErrAltered: the bytes are not those that were sealed.
	ErrAltered = errors.New("altered")
	// ErrCut: the recording ends before its seal.
	ErrCut = errors.New("cut short")
	// ErrNotSealed: the file bears no seal and no chain; it may be any asciicast.
	ErrNotSealed = errors.New("not sealed")
	// ErrWrongKey: the seal is whole, but not by a key that the caller trusts.
	ErrWrongKey = errors.New("sealed with an unknown key")
)

// A DamageError names the first bad place of a recording.
type DamageError struct {
	Kind   error            // ErrAltered, ErrCut, ErrNotSealed or ErrWrongKey
	Why    string           // one line for a person
	Chunk  int              // number of the chunk, from 1
	Lines  [2]int64         // first and last line, from 1
	Offset [2]int64         // first byte, and the one after the last
	Time   [2]time.Duration // of the session, as far as it can be known
}

// Error describes the place.
func (e *DamageError) Error() string {
	return fmt.Sprintf("recording is %v: chunk %d, lines %d to %d, bytes %d to %d, %v to %v of the session: %s",
		e.Kind, e.Chunk, e.Lines[0], e.Lines[1], e.Offset[0], e.Offset[1],
		e.Time[0].Round(time.Millisecond), e.Time[1].Round(time.Millisecond), e.Why)
}

// Unwrap returns the kind.
func (e *DamageError) Unwrap() error { return e.Kind }

// Check reports what of the header is beyond the limits of a file.
func (h *Header) Check() error {
	if h.ID == "" || len(h.ID) > 128 {
		return errors.New("the id must have 1 to 128 bytes")
	}
	for _, c := range []byte(h.ID) {
		if c <= ' ' || c >= 0x7f {
			return errors.New("the id must be printable ASCII without spaces")
		}
	}
	if h.Width < 0 || h.Width > maxSize || h.Height < 0 || h.Height > maxSize {
		return fmt.Errorf("the terminal size %dx%d is out of range", h.Width, h.Height)
	}
	if y := h.Started.Year(); y < 1970 || y > 9999 {
		return errors.New("the start is out of range")
	}
	if len(h.Command) > maxText {
		return fmt.Errorf("the command is longer than %d bytes", maxText)
	}
	if len(h.Kind) > maxField || len(h.Terminal) > maxField || len(h.Fields) > 32 {
		return errors.New("the header is too large")
	}
	for k, v := range h.Fields {
		if k == "" || len(k) > 64 || len(v) > maxField {
			return fmt.Errorf("the field %.64q is empty or too long", k)
		}
	}
	return nil
}
