package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// A Recording records one session. Its methods are safe for concurrent use.
type Recording struct {
	r      *Recorder
	id     string
	urgent bool
	began  time.Time
	kept   atomic.Int32 // copies begun
	file   *os.File     // the journal
	ctx    context.Context
	cancel context.CancelCauseFunc

	sealing sync.Mutex // held while sealing; taken before mu
	sealed  *Sealed
	left    bool // the journal is Recover's

	mu    sync.Mutex
	f     io.Writer // file, but for tests
	chain *chainer
	last  time.Duration
	dirty bool  // written to since the last flush
	err   error // sticky
	// closed is set by the first Close. Later ones seal again if that failed.
	closed bool
	size   int64         // bytes of whole frames in the journal
	grown  chan struct{} // closed when there are more; nil: nobody waits
}

// Write records p as part of the stream and returns when the kernel has it.
// Only then may p be forwarded. After the first error every Write fails with
// it, and the session must end. Each 64 KiB of p are one write(2).
func (rec *Recording) Write(s Stream, p []byte) error {
	if s != Input && s != Output && s != Stderr {
		return fmt.Errorf("record: %v is not a stream of bytes", s)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for len(p) > 0 {
		n := min(len(p), maxData)
		if err := rec.append(s, p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return rec.err
}

// Resize records the terminal's new size in columns and rows.
func (rec *Recording) Resize(w, h int) error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	const most = 1 << 14
	return rec.append(cast.Resize, fmt.Appendf(nil, "%dx%d", min(max(w, 0), most), min(max(h, 0), most)))
}

// Mark records a remark, such as a file that was sent, at most 64 KiB of it.
func (rec *Recording) Mark(text string) error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.append(cast.Mark, []byte(text[:min(len(text), maxData)]))
}

// File records something about a file that is carried.
func (rec *Recording) File(e FileEvent) error {
	data, err := e.MarshalText()
	if err != nil {
		return fmt.Errorf("record a file: %w", err)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.append(cast.File, data)
}

// Err returns the error that ended the recording, if one did.
func (rec *Recording) Err() error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.err
}

// append writes one frame; rec.mu is held.
func (rec *Recording) append(s cast.Stream, data []byte) error {
	if rec.err != nil {
		return rec.err
	}
	rec.last = max(rec.last, rec.r.cfg.Now().Sub(rec.began))
	buf := rec.r.buffers.Get().(*[]byte)
	*buf = rec.chain.seal((*buf)[:0], s, rec.last, data)
	written, err := rec.f.Write(*buf)
	rec.r.buffers.Put(buf)
	if err != nil {
		// What the kernel took of the frame is a torn tail, and no second
		// frame may have its nonce.
		rec.err = fmt.Errorf("record: %w", err)
		rec.cancel(rec.err)
		return rec.err
	}
	rec.dirty = true
	rec.size += int64(written)
	rec.tell()
	return nil
}

// tell wakes those who follow the journal; rec.mu is held. It waits for nobody.
func (rec *Recording) tell() {
	if rec.grown != nil {
		close(rec.grown)
		rec.grown = nil
	}
}

func (rec *Recording) flush() {
	rec.mu.Lock()
	dirty := rec.dirty && rec.err == nil
	rec.dirty = false
	rec.mu.Unlock()
	if !dirty {
		return
	}
	// Not under the lock: a keystroke need not wait for the disk.
	if err := rec.file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		rec.fail(err) // the kernel may have dropped the pages
	}
}

// fail ends the recording with the error, unless it has ended.
func (rec *Recording) fail(err error) {
	rec.mu.Lock()
	if rec.err == nil {
		rec.err = fmt.Errorf("record: %w", err)
		rec.cancel(rec.err)
	}
	rec.mu.Unlock()
}

// Context ends when the recording does: with the error that ended it, or, when
// it was closed, with ErrClosed.
func (rec *Recording) Context() context.Context { return rec.ctx }

// An End says how a session ended.
type End struct {
	Reason     string // such as "closed by the user" or "revoked"; cut to 256 bytes
	ExitStatus *int   // nil when the session had none
	At         time.Time
}

// Close ends the recording and seals it. On an error the journal stays, and the
// next Close or Recover tries again. A recording that failed while it ran is
// sealed as aborted, with all that was acknowledged.
func (rec *Recording) Close(ctx context.Context, e End) (Sealed, error) {
	rec.mu.Lock()
	if !rec.closed {
		rec.closed = true
		if !e.At.IsZero() {
			rec.last = max(rec.last, min(e.At.Sub(rec.began), rec.r.cfg.Now().Sub(rec.began)))
		}
		if e.ExitStatus != nil {
			rec.append(cast.Exit, strconv.AppendInt(nil, int64(*e.ExitStatus), 10))
		}
		text, _ := json.Marshal(end{Reason: e.Reason[:min(len(e.Reason), 256)]})
		rec.append(frameEnd, text) // an error stays in rec.err
		if rec.err == nil {
			if err := rec.file.Sync(); err != nil {
				rec.err = fmt.Errorf("record: %w", err)
			}
		}
	}
	why := "the recording was left unfinished"
	if rec.err != nil && rec.err != ErrClosed {
		why = rec.err.Error()
	}
	rec.err = ErrClosed
	rec.tell()
	rec.cancel(ErrClosed)
	rec.mu.Unlock()

	rec.sealing.Lock()
	defer rec.sealing.Unlock()
	if rec.sealed != nil {
		return *rec.sealed, nil
	}
	var sealed Sealed
	var err error
	if rec.left {
		sealed, err = rec.r.recover(ctx, rec.id)
	} else {
		sealed, err = rec.r.seal(ctx, rec.id, rec.file, why)
		rec.left = true
		rec.r.mu.Lock()
		delete(rec.r.live, rec.id)
		rec.r.mu.Unlock()
		rec.file.Close() // and its lock, so that Recover may try again
	}
	if err == nil {
		rec.sealed = &sealed
	}
	return sealed, err
}
