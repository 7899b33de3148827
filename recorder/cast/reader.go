package cast

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"time"
)

// A Reader reads a recording and checks its hash chain on the way. It does not
// check the seal's signature; Verify does. It holds at most one line and one
// event. It is not safe for concurrent use.
type Reader struct {
	r       *bufio.Reader
	long    []byte // a line that is longer than r's buffer
	comment []byte // room for the comment of an event
	header  Header

	line   int64 // number of the line last read
	offset int64 // after the line last read
	at     time.Duration
	events int64
	span   [2]int64 // where the lines of the event last read begin and end

	all    hash.Hash
	chunk  hash.Hash
	chunks int
	from   struct { // the current chunk
		line, offset int64
		at           time.Duration
	}
	begun   error // what is wrong with the beginning, until it is reported
	damaged bool  // the current chunk has been reported
	linked  int64 // offset after the last chain line
	seal    []byte
	sum     [sha256.Size]byte // of all before the seal
	size    int64             // of all before the seal
	done    error
}

// NewReader reads the header. A file that is a plain asciicast gives a
// *DamageError of the kind ErrNotSealed, other bytes one of another kind.
func NewReader(r io.Reader) (*Reader, error) {
	c := &Reader{r: bufio.NewReaderSize(r, 32<<10), all: sha256.New(), chunk: sha256.New(),
		comment: []byte{}} // not nil, which says that there is none
	c.from.line = 1
	first, err := c.next()
	if err != nil {
		return nil, c.first(err)
	}
	first = bytes.Clone(first)
	c.hash(first)
	second, err := c.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, c.first(err)
	}
	second = bytes.Clone(second)
	c.hash(second)
	c.span = [2]int64{c.offset, c.offset}
	if err == nil && (first[0] != '{' || bytes.HasPrefix(second, []byte(lineRecording))) {
		c.header, err = parseHeader(first[:len(first)-1], second[:len(second)-1])
		if err == nil {
			return c, nil
		}
		err = c.damage(ErrAltered, err.Error())
	} else if err == nil {
		err = c.damage(ErrNotSealed, "the file is an asciicast of another program, or was stripped")
	}
	// What follows may be readable, when who handed the file over says so.
	for _, line := range [][]byte{first, second} {
		if why, ok := told(line); ok {
			c.header, c.begun = Header{}, c.damage(ErrAltered, why)
			return c, nil
		}
	}
	return nil, c.first(err)
}

// first makes damage of what stopped the header.
func (c *Reader) first(err error) error {
	if errors.Is(err, io.EOF) {
		return c.damage(ErrCut, "the file ends inside its header")
	}
	return err
}

// Header returns what the file says of itself. It is zero when that part of the
// file could not be read, which Next reports first.
func (c *Reader) Header() Header { return c.header }

// Offsets returns where in the file the lines of the event that Next returned last
// begin, and where they end. Before the first event both are the end of the header.
func (c *Reader) Offsets() (from, to int64) { return c.span[0], c.span[1] }

// next reads one line with its newline. It returns io.EOF at the end, a
// *DamageError of the kind ErrCut when the last line has no newline, and one of
// the kind ErrAltered when a line is too long (which is then passed over).
func (c *Reader) next() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		c.long = append(c.long[:0], line...)
		for err == bufio.ErrBufferFull && len(c.long) <= MaxLine {
			line, err = c.r.ReadSlice('\n')
			c.long = append(c.long, line...)
		}
		line = c.long
	}
	c.line++
	c.offset += int64(len(line))
	switch {
	case len(line) > MaxLine:
		for c.hash(line); err == bufio.ErrBufferFull; c.hash(line) {
			line, err = c.r.ReadSlice('\n')
			c.offset += int64(len(line))
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read recording: %w", err)
		}
		return nil, c.damage(ErrAltered, "a line is too long")
	case err == nil:
		return line, nil
	case err == io.EOF && len(line) > 0:
		c.hash(line)
		return nil, c.damage(ErrCut, "the file ends inside a line")
	case err == io.EOF:
		c.line--
		return nil, io.EOF
	}
	return nil, fmt.Errorf("read recording: %w", err)
}

func (c *Reader) hash(line []byte) {
	c.all.Write(line)
	c.chunk.Write(line)
}

func (c *Reader) damage(kind error, why string) *DamageError {
	c.damaged = true
	return &DamageError{
		Kind: kind, Why: why, Chunk: c.chunks + 1,
		Lines:  [2]int64{c.from.line, c.line},
		Offset: [2]int64{c.from.offset, c.offset},
		Time:   [2]time.Duration{c.from.at, c.at},
	}
}

// Next returns the next event; its Data is the caller's. At the end of a file
// whose chain holds and that bears a seal it returns io.EOF.
//
// A *DamageError tells of a damaged chunk: once for each, after the events of
// the chunk that could be read. Next may be called again to read on after it,
// until it returns io.EOF or an error that is not a *DamageError of the kind
// ErrAltered.
func (c *Reader) Next() (Event, error) {
	if c.done != nil {
		return Event{}, c.done
	}
	if err := c.begun; err != nil {
		c.begun = nil
		return Event{}, err
	}
	e, err := c.read()
	var d *DamageError
	switch {
	case err == nil:
	case !errors.As(err, &d):
		c.done = err
	case d.Kind != ErrAltered || c.seal != nil:
		c.done = io.EOF // there is nothing to go on with
	}
	return e, err
}

func (c *Reader) read() (Event, error) {
	var comment []byte // of the event that must follow
	var from int64     // where it stands
	for {
		began := c.offset
		line, err := c.next()
		if err == io.EOF {
			if c.seal != nil {
				return Event{}, io.EOF
			}
			return Event{}, c.damage(ErrCut, "the file ends without a seal")
		}
		if c.seal != nil {
			return Event{}, c.damage(ErrAltered, "something follows the seal")
		}
		if err != nil {
			return Event{}, err
		}
		var bad error
		body := line[:len(line)-1]
		switch {
		case bytes.HasPrefix(body, []byte(lineChain)):
			bad = c.link(line, comment == nil)
		case bytes.HasPrefix(body, []byte(lineSeal)):
			bad = c.sealed(line)
		case bytes.HasPrefix(body, []byte(lineEvent)) && comment == nil:
			c.hash(line)
			c.comment = append(c.comment[:0], body[len(lineEvent):]...)
			comment, from = c.comment, began
			continue
		default:
			c.hash(line)
			var e Event
			if e, bad = c.event(body, comment); bad == nil {
				if comment == nil {
					from = began
				}
				c.span = [2]int64{from, c.offset}
				return e, nil
			}
			if !c.damaged {
				why := bad.Error()
				if more, ok := told(body); ok {
					why = more
				}
				bad = c.damage(ErrAltered, why)
			} else {
				bad = nil // this chunk was reported
			}
		}
		if bad != nil {
			return Event{}, bad
		}
		comment = nil
	}
}

// told is what whoever handed the file over says of a line that is no line of a
// recording.
func told(line []byte) (string, bool) {
	_, why, ok := bytes.Cut(line, []byte(LineDamage))
	return string(bytes.TrimSpace(why)), ok
}

// event puts an event line and the comment before it together.
func (c *Reader) event(body, comment []byte) (Event, error) {
	interval, code, text, err := parseEvent(body)
	if err != nil {
		return Event{}, err
	}
	s, ok := streamOf(code)
	if !ok || s != s.stock() {
		return Event{}, fmt.Errorf("no such event: %q", code)
	}
	if comment != nil {
		own, raw, has := bytes.Cut(comment, []byte(" "))
		if len(own) != 1 {
			return Event{}, errors.New("not an event comment")
		}
		real, ok := streamOf(own[0])
		if !ok || real.stock() != s || real == s && !has {
			return Event{}, errors.New("an event comment does not fit its event")
		}
		s = real
		if has {
			data, err := b64.AppendDecode([]byte{}, raw)
			if err != nil {
				return Event{}, errors.New("an event's bytes cannot be read")
			}
			// Only what must be raw may be, so that no text is hidden from a stock player.
			valid, bin := classify(data)
			if bin && len(text) > 0 || !bin && (valid || !bytes.Equal(lossy(data), text)) {
				return Event{}, errors.New("an event's bytes do not fit its text")
			}
			text = data
		}
	}
	if len(text) > maxData {
		return Event{}, errors.New("an event is too large")
	}
	if c.at+interval > maxTime {
		return Event{}, errors.New("the time is out of range")
	}
	c.at += interval
	c.events++
	return Event{At: c.at, Stream: s, Data: text}, nil
}

// link checks a chain line and begins the next chunk.
func (c *Reader) link(line []byte, complete bool) error {
	n, sum, ok := bytes.Cut(line[len(lineChain):len(line)-1], []byte(" sha256="))
	stated, err := strconv.Atoi(string(n))
	good := ok && err == nil && complete && string(n) == strconv.Itoa(c.chunks+1) &&
		string(sum) == hex.EncodeToString(c.chunk.Sum(nil))
	var bad error
	if !good && !c.damaged {
		bad = c.damage(ErrAltered, "the bytes do not have the hash of the chain")
	}
	c.chunks++
	if !good && err == nil && stated > 0 {
		c.chunks = stated // so that the rest is named by its own numbers
	}
	c.chunk.Reset()
	c.hash(line)
	c.damaged = false
	c.from.line, c.from.offset, c.from.at = c.line, c.offset-int64(len(line)), c.at
	c.linked = c.offset
	return bad
}

func (c *Reader) sealed(line []byte) error {
	c.all.Sum(c.sum[:0])
	c.size = c.offset - int64(len(line))
	c.hash(line)
	var err error
	if c.seal, err = b64.AppendDecode([]byte{}, line[len(lineSeal):len(line)-1]); err != nil {
		return c.damage(ErrAltered, "the seal cannot be read")
	}
	if c.size != c.linked {
		return c.damage(ErrAltered, "no chain line stands before the seal")
	}
	return nil
}
