package cast

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A Writer writes one recording. It is not safe for concurrent use. It hands
// each line to the underlying writer as it is made and keeps at most three bytes
// of each stream back: those that begin a character whose rest has not come.
type Writer struct {
	w      io.Writer
	signer note.Signer
	header Header

	at     time.Duration               // of the last event written
	latest time.Duration               // of the last event given
	tail   [Stderr + 1][]byte          // of Input, Output, Stderr
	whole  []byte                      // a tail and what came after it
	buf    []byte                      // lines being made
	all    hash.Hash                   // over the whole file
	chunk  hash.Hash                   // since the start of the last chain line
	sums   [2 * sha256.Size]byte       // room for Sum
	size   int64                       // of the file so far
	inside struct{ bytes, events int } // of the current chunk
	chunks int
	events int64
	err    error
}

// NewWriter writes the header to w. The signer seals the recording at its end.
func NewWriter(w io.Writer, h Header, signer note.Signer) (*Writer, error) {
	if signer == nil {
		return nil, errors.New("start cast: no signer")
	}
	h.Started = h.Started.UTC().Truncate(time.Microsecond)
	lines, err := h.MarshalText()
	if err != nil {
		return nil, fmt.Errorf("start cast: %w", err)
	}
	c := &Writer{w: w, signer: signer, header: h, all: sha256.New(), chunk: sha256.New()}
	return c, c.put(lines)
}

// Write adds an event. Its time is cut to microseconds, and raised to the time
// of the event before when it lies earlier. A character that is cut by the end
// of the data is written with the event that completes it. After an error every
// Write returns that error.
func (c *Writer) Write(e Event) error {
	if c.err != nil {
		return c.err
	}
	if !e.Stream.Valid() {
		return fmt.Errorf("write cast: no such stream: %d", uint8(e.Stream))
	}
	c.latest = min(max(c.latest, e.At.Truncate(time.Microsecond)), maxTime)
	if !e.Stream.text() {
		if len(e.Data) > maxData {
			return fmt.Errorf("write cast: event of %d bytes is too large", len(e.Data))
		}
		return c.event(e.Stream, e.Data)
	}
	for data := e.Data; len(data) > 0; {
		n := min(len(data), maxData-4)
		if err := c.text(e.Stream, data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (c *Writer) text(s Stream, data []byte) error {
	if tail := c.tail[s]; len(tail) > 0 {
		c.whole = append(append(c.whole[:0], tail...), data...)
		data, c.tail[s] = c.whole, tail[:0]
	}
	if n := cutTail(data); n > 0 {
		c.tail[s] = append(c.tail[s], data[len(data)-n:]...)
		data = data[:len(data)-n]
	}
	if len(data) == 0 {
		return nil
	}
	return c.event(s, data)
}

func (c *Writer) event(s Stream, data []byte) error {
	c.buf = appendEvent(c.buf[:0], c.latest-c.at, s, data)
	if err := c.put(c.buf); err != nil {
		return err
	}
	c.at = c.latest
	c.events++
	c.inside.events++
	if c.inside.bytes >= chunkBytes || c.inside.events >= chunkEvents {
		return c.chain()
	}
	return nil
}

// chain ends a chunk. The line is the first of the next chunk, so that each hash
// covers the one before and still every chunk can be checked alone.
func (c *Writer) chain() error {
	c.chunks++
	line := fmt.Appendf(nil, "%s%d sha256=%x\n", lineChain, c.chunks, c.chunk.Sum(c.sums[:0]))
	c.chunk.Reset()
	c.inside.bytes, c.inside.events = 0, 0
	return c.put(line)
}

func (c *Writer) put(lines []byte) error {
	if c.err != nil {
		return c.err
	}
	if _, err := c.w.Write(lines); err != nil {
		c.err = fmt.Errorf("write cast: %w", err)
		return c.err
	}
	c.all.Write(lines)
	c.chunk.Write(lines)
	c.size += int64(len(lines))
	c.inside.bytes += len(lines)
	return nil
}

// End is what the seal says of the end of a session.
type End struct {
	At      time.Duration // since the start; not before the last event
	Aborted bool          // the recorder died; the end was never seen
	Reason  string        // cut to 256 bytes
	Journal [32]byte      // head of the journal's hash chain
}

// Seal writes what was kept back, the last chain line and the signed seal. The
// Writer cannot be used after it. It does not close the underlying writer.
func (c *Writer) Seal(end End) (Seal, error) {
	c.latest = min(max(c.latest, end.At.Truncate(time.Microsecond)), maxTime)
	for s := range c.tail {
		if len(c.tail[s]) > 0 && c.err == nil {
			c.event(Stream(s), c.tail[s]) // its error is kept in c.err
		}
	}
	if c.err == nil {
		c.chain() // likewise
	}
	if c.err != nil {
		return Seal{}, c.err
	}
	s := Seal{
		ID: c.header.ID, Started: c.header.Started, Duration: c.latest, Events: c.events, Size: c.size,
		Aborted: end.Aborted, Reason: end.Reason[:min(len(end.Reason), 256)], Journal: end.Journal,
	}
	c.all.Sum(s.SHA256[:0])
	signed, err := note.Sign(&note.Note{Text: s.text()}, c.signer)
	if err != nil {
		c.err = fmt.Errorf("sign the seal: %w", err)
		return Seal{}, c.err
	}
	line := b64.AppendEncode([]byte(lineSeal), signed)
	if err := c.put(append(line, '\n')); err != nil {
		return Seal{}, err
	}
	c.err = errors.New("write cast: already sealed")
	return s, nil
}
