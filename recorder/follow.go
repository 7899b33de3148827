package recorder

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// ErrNotLive: no recording of that id is being made here.
var ErrNotLive = errors.New("no such recording is being made here")

// A Follower reads a recording while it is made: from its start to where it is
// now, and on with it. It reads the journal through a file handle and a key of its
// own, behind the writer, so that one who reads slowly, or not at all, costs the
// session nothing.
//
// It gives what was shown: output, errors, sizes, marks, files and how the program
// ended. What was typed it does not give, as passwords are among it. It is not safe
// for concurrent use.
type Follower struct {
	rec  *Recording
	tail *tail
	j    *journalReader
}

// Follow begins to read the recording of that id from its start. The error is
// ErrNotLive when it is not being made here, or not any more.
func (r *Recorder) Follow(id string) (*Follower, error) {
	r.mu.Lock()
	rec := r.live[id]
	r.mu.Unlock()
	if rec == nil {
		return nil, ErrNotLive
	}
	file, err := os.Open(r.journal(id))
	if errors.Is(err, os.ErrNotExist) { // it was sealed at this moment
		return nil, ErrNotLive
	}
	if err != nil {
		return nil, fmt.Errorf("follow recording %s: %w", id, err)
	}
	t := &tail{rec: rec, file: file}
	j, err := newJournalReader(t, r.cfg.Wrapper.Unwrap)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("follow recording %s: %w", id, err)
	}
	return &Follower{rec, t, j}, nil
}

// Header says what is recorded.
func (f *Follower) Header() Header { return f.j.header }

// Next returns the next event, whose Data is valid until the next call. At the live
// edge ok is false: there is nothing more yet, see [Follower.More]. The error is
// io.EOF at the end of the recording.
func (f *Follower) Next() (e Event, ok bool, err error) {
	for {
		size, over := f.rec.extent()
		if f.tail.offset-int64(f.j.r.Buffered()) >= size {
			if over {
				return Event{}, false, io.EOF
			}
			return Event{}, false, nil
		}
		e, err := f.j.next()
		if err != nil {
			return Event{}, false, err // the end frame was the last: io.EOF
		}
		switch e.Stream {
		case cast.Output, cast.Stderr, cast.Resize, cast.Mark, cast.File, cast.Exit:
			return e, true, nil
		}
	}
}

// More is closed when there is more than when it was called, or there will be no
// more. To miss nothing, call it before the Next that finds nothing.
func (f *Follower) More() <-chan struct{} {
	f.rec.mu.Lock()
	defer f.rec.mu.Unlock()
	if f.rec.closed {
		over := make(chan struct{})
		close(over)
		return over
	}
	if f.rec.grown == nil {
		f.rec.grown = make(chan struct{})
	}
	return f.rec.grown
}

// Behind is how many bytes of the journal have been written and not read.
func (f *Follower) Behind() int64 {
	size, _ := f.rec.extent()
	return size - f.tail.offset
}

// Reason is why the session ended, when Next has returned io.EOF; empty when that
// is not on record.
func (f *Follower) Reason() string {
	if f.j.end == nil {
		return ""
	}
	return f.j.end.Reason
}

// Close closes the file.
func (f *Follower) Close() error { return f.tail.file.Close() }

// extent returns how long the journal is, and whether it is complete.
func (rec *Recording) extent() (size int64, over bool) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.size, rec.closed
}

// A tail reads of a journal what are whole frames.
type tail struct {
	rec    *Recording
	file   *os.File
	offset int64
}

func (t *tail) Read(p []byte) (int, error) {
	size, _ := t.rec.extent()
	left := size - t.offset
	if left <= 0 {
		return 0, io.EOF
	}
	n, err := t.file.ReadAt(p[:min(int64(len(p)), left)], t.offset)
	t.offset += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}
