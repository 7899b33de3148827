package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The words that begin the lines of an export, and the bound of a line in bytes
// with its line feed.
const (
	headerWord     = "drawbolt-audit/1"
	eventWord      = "event"
	checkpointWord = "checkpoint"
	endWord        = "end"

	maxLine = 64 << 10
)

// A Writer writes an export: the whole log from event 0 in one text file that
// Verify checks. It is not safe for concurrent use.
type Writer struct {
	w           *bufio.Writer
	err         error // the first one; everything after it fails with it
	events      int64
	checkpoints int64
	covered     bool // the last line is a checkpoint
}

// NewWriter begins an export of the log called origin.
func NewWriter(w io.Writer, origin string) *Writer {
	x := &Writer{w: bufio.NewWriter(w), err: checkOrigin(origin)}
	x.line(headerWord + " " + origin)
	return x
}

// Event writes the next leaf with the hash that the store keeps for it. The two
// are not compared: when somebody changed the leaf in the database, the export is
// to carry the contradiction to Verify, which then names this very event.
func (x *Writer) Event(leaf []byte, stored Hash) error {
	if len(leaf) > MaxLeaf || bytes.IndexByte(leaf, '\n') >= 0 {
		x.fail(fmt.Errorf("event %d is too long or holds a line feed", x.events))
	}
	x.line(eventWord + " " + stored.String() + " " + string(leaf))
	x.events++
	x.covered = false
	return x.err
}

// Checkpoint writes a signed checkpoint. It must cover exactly the events that
// were written before it; several of the same size go in the order of their times.
func (x *Writer) Checkpoint(msg []byte) error {
	text, _, _ := strings.Cut(string(msg), "\n\n")
	c, err := parseCheckpoint(text + "\n")
	switch {
	case err != nil:
		x.fail(err)
	case c.Size != x.events:
		x.fail(fmt.Errorf("a checkpoint of %d events comes after %d events", c.Size, x.events))
	case len(msg) > maxCheckpoint || strings.ContainsAny(string(msg), `"\`):
		x.fail(errors.New("a checkpoint is too long or holds a quote"))
	}
	x.line(checkpointWord + " " + quoteNote(msg))
	x.checkpoints++
	x.covered = true
	return x.err
}

// Close ends the export and flushes it; it does not close the writer below. An
// export whose last event no checkpoint covers is an error.
func (x *Writer) Close() error {
	if !x.covered {
		x.fail(errors.New("the last events have no checkpoint"))
	}
	x.line(fmt.Sprintf("%s %d %d", endWord, x.events, x.checkpoints))
	if err := x.w.Flush(); err != nil {
		x.fail(err)
	}
	err := x.err
	x.fail(errors.New("the export is closed"))
	return err
}

func (x *Writer) fail(err error) {
	if x.err == nil {
		x.err = fmt.Errorf("export audit log: %w", err)
	}
}

func (x *Writer) line(s string) {
	if x.err != nil {
		return
	}
	if _, err := x.w.WriteString(s + "\n"); err != nil {
		x.fail(err)
	}
}

// quoteNote writes a checkpoint as a JSON string on one line. Its own characters
// need no escaping, as origins are plain: only the line feeds do.
func quoteNote(msg []byte) string {
	return `"` + strings.ReplaceAll(string(msg), "\n", `\n`) + `"`
}

func unquoteNote(s []byte) ([]byte, bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return nil, false
	}
	msg := bytes.ReplaceAll(s[1:len(s)-1], []byte(`\n`), []byte("\n"))
	return msg, !bytes.ContainsAny(msg, `"\`)
}
