package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The kinds of WatchEvent.
const (
	WatchBegin  = "begin"  // the first: Session; Text is who has paused it
	WatchScreen = "screen" // the whole screen as it is now: Text draws it on one that is empty
	WatchOutput = "output" // Text goes to the screen
	WatchResize = "resize" // the terminal has Columns and Rows
	WatchMark   = "mark"   // something happened; Text says what
	WatchAlive  = "alive"  // nothing has happened for a while
	WatchEnd    = "end"    // the session is over; Text is why
	WatchCut    = "cut"    // the watcher may not watch any more; Text is why
)

// A WatchEvent is something that is seen of a running session. Text is as the
// program wrote it, made valid UTF-8: it passes a filter before it reaches a
// terminal.
type WatchEvent struct {
	At      float64  `json:"at"` // seconds since the session began
	Kind    string   `json:"kind"`
	Text    string   `json:"text,omitempty"`
	Columns int      `json:"columns,omitempty"`
	Rows    int      `json:"rows,omitempty"`
	Session *Session `json:"session,omitempty"`
}

// WatchOptions say what to watch of a session.
type WatchOptions struct {
	At time.Duration // from this moment of the session; less than 0: from now
}

// watchSilence is after how long without a line a server is given up; it sends one
// every few seconds. maxWatchLine bounds a line, in bytes.
const (
	watchSilence = 30 * time.Second
	maxWatchLine = 16 << 20
)

// A Watcher reads what is shown in a running session. It is not safe for concurrent
// use.
type Watcher struct {
	body   io.ReadCloser
	lines  *bufio.Reader
	silent *time.Timer
	late   chan struct{}
}

// Watch begins to watch a running session. The caller closes the Watcher. That the
// session is watched is an audit event, and its user is told unless its rules say
// otherwise.
func (c *Client) Watch(ctx context.Context, id string, o WatchOptions) (*Watcher, error) {
	q := url.Values{}
	if o.At >= 0 {
		q.Set("at", strconv.FormatFloat(o.At.Seconds(), 'f', -1, 64))
	}
	body, err := c.stream(ctx, path("sessions", id, "watch"), q)
	if err != nil {
		return nil, err
	}
	w := &Watcher{body: body, lines: bufio.NewReaderSize(body, 64<<10), late: make(chan struct{})}
	w.silent = time.AfterFunc(watchSilence, func() { close(w.late); body.Close() })
	return w, nil
}

// Next waits for the next event. After that of the kind WatchEnd or WatchCut it is
// io.EOF.
func (w *Watcher) Next() (WatchEvent, error) {
	var e WatchEvent
	line, err := w.line()
	w.silent.Reset(watchSilence)
	select {
	case <-w.late:
		return e, fmt.Errorf("nothing has come for %s", watchSilence)
	default:
	}
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("decode what is watched: %w", err)
	}
	return e, nil
}

func (w *Watcher) line() ([]byte, error) {
	var line []byte
	for {
		part, err := w.lines.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxWatchLine:
			return nil, errors.New("a line is too long")
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// Close ends the watching.
func (w *Watcher) Close() error {
	w.silent.Stop()
	return w.body.Close()
}

// A Message is a line for the user of a session.
type Message struct {
	Text string `json:"text"`
}

// Message writes a line into the terminal of a running session.
func (c *Client) Message(ctx context.Context, id, text string) error {
	return c.do(ctx, http.MethodPost, path("sessions", id, "message"), nil, Message{text}, nil)
}

// Pause holds back what the user of a running session sends, in it and in all
// others under its grant.
func (c *Client) Pause(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, path("sessions", id, "pause"), nil, nil, nil)
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, path("sessions", id, "resume"), nil, nil, nil)
}
