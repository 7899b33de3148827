package cast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// PlayOptions say how to play.
type PlayOptions struct {
	Speed     float64       // 2 is twice as fast; math.Inf(1) does not wait. Default: 1
	IdleLimit time.Duration // longest pause, before Speed. Default: none
	Keys      bool          // show input and marks too, quoted
	At        time.Duration // show what comes before at once
}

// Play shows a recording on a terminal, in its own time, until its end or that
// of ctx. Everything passes a Filter; input, marks and errors are quoted, and
// what is said of files is on lines of its own. At the
// end colours and styles are set back.
//
// Damaged chunks are named where they stand and playing goes on; the first
// *DamageError is returned at the end. Play does not check the signature.
func Play(ctx context.Context, w io.Writer, r io.Reader, o PlayOptions) (err error) {
	c, err := NewReader(r)
	if err != nil {
		return err
	}
	if !(o.Speed > 0) {
		o.Speed = 1
	}
	f := NewFilter(w)
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	aside := func(format string, args ...any) error {
		_, err := fmt.Fprintf(w, "\x1b[7m"+format+"\x1b[27m", args...)
		return err
	}
	var first error
	var at time.Duration
	for {
		e, err := c.Next()
		var d *DamageError
		switch {
		case err == io.EOF:
			return first
		case errors.As(err, &d):
			if first == nil {
				first = err
			}
			if err := aside("\r\n[%s]", visibleString(d.Error())); err != nil {
				return err
			}
			if _, err := io.WriteString(w, "\r\n"); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		pause := e.At - max(at, o.At)
		if o.IdleLimit > 0 {
			pause = min(pause, o.IdleLimit)
		}
		at = e.At
		if err := sleep(ctx, time.Duration(float64(pause)/o.Speed)); err != nil {
			return err
		}
		switch e.Stream {
		case Output, Stderr:
			_, err = f.Write(e.Data)
		case File: // there is nothing else to see of it
			if err = aside("[%s]", ParseFileEvent(e.Data).String()); err == nil {
				_, err = io.WriteString(w, "\r\n")
			}
		case Input, Mark:
			if o.Keys {
				err = aside("%s", strconv.Quote(string(e.Data)))
			}
		case Hidden:
			if o.Keys {
				err = aside("[%s]", visibleString(string(e.Data)))
			}
		}
		if err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// visibleString makes a message of ours safe that quotes somebody else.
func visibleString(s string) string {
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}
