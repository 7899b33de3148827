package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Result says what Verify found. Its zero value is not verified.
type Result struct {
	Verified    bool // the whole export was read and everything in it holds
	Origin      string
	Events      int64 // events read, up to the problem if there is one
	Checkpoints int   // checkpoints whose signature and root hold

	// Last is the last checkpoint of the export that holds: the events before
	// Last.Size are proven, whatever comes after them.
	Last Checkpoint

	// The first bad event is one of FirstBad to LastBad, both from 0 and
	// inclusive. They are equal when the file names it exactly, and -1 when
	// nothing is wrong. An event that is missing counts as bad.
	FirstBad, LastBad int64

	Line    int64  // line of the export, from 1, where Problem was found
	Problem string // empty when Verified
}

// Verify reads an export and checks all of it: every leaf against its hash and
// its place, every checkpoint's signature and root, and that the last one covers
// everything. older are checkpoints that somebody kept outside the log; each
// must have come from OpenCheckpoint. With them a tail that was cut off, or a
// second history, is found as well.
//
// What is wrong with the export is told in the Result; an error means that
// reading failed, and then nothing is verified either. Verify stops at the first
// problem. It holds one line and one hash per level of the tree in memory.
func Verify(r io.Reader, v note.Verifier, older ...Checkpoint) (Result, error) {
	x := verifier{
		lines: bufio.NewReaderSize(r, maxLine),
		key:   v,
		older: slices.SortedStableFunc(slices.Values(older), func(a, b Checkpoint) int { return cmp.Compare(a.Size, b.Size) }),
		res:   Result{FirstBad: -1, LastBad: -1},
	}
	err := x.run()
	var p *problem
	switch {
	case errors.As(err, &p):
		x.res.FirstBad, x.res.LastBad, x.res.Problem = p.first, max(p.first, p.last), p.what
	case err != nil:
		x.res.Problem = "the export could not be read to its end"
		return x.res, fmt.Errorf("verify audit export, line %d: %w", x.res.Line, err)
	default:
		x.res.Verified = true
	}
	return x.res, nil
}

// A problem is what is wrong with an export, as opposed to with reading it.
type problem struct {
	first, last int64
	what        string
}

func (p *problem) Error() string { return p.what }

func bad(first, last int64, format string, args ...any) error {
	return &problem{first, last, fmt.Sprintf(format, args...)}
}

type verifier struct {
	lines  *bufio.Reader
	key    note.Verifier
	older  []Checkpoint // by size; those not yet passed
	tree   edge
	proven int64 // events that some signed checkpoint covers and that match it
	res    Result
}

func (x *verifier) run() error {
	line, err := x.next()
	if err != nil {
		return err
	}
	if word, origin, _ := bytes.Cut(line, []byte(" ")); string(word) != headerWord || string(origin) != x.key.Name() {
		return bad(0, 0, "the first line is not %q", headerWord+" "+x.key.Name())
	}
	x.res.Origin = x.key.Name()
	for _, c := range x.older {
		if c.Origin != x.key.Name() || c.Size < 0 || c.Size > maxSize {
			return bad(0, 0, "a checkpoint given for comparison is of the log %q, this is %q", c.Origin, x.key.Name())
		}
	}
	covered := false // the last line was a checkpoint
	for {
		line, err := x.next()
		if err != nil {
			return err
		}
		word, rest, _ := bytes.Cut(line, []byte(" "))
		switch string(word) {
		case eventWord:
			if err := x.passed(); err != nil {
				return err
			}
			if err := x.event(rest); err != nil {
				return err
			}
			covered = false
		case checkpointWord:
			if err := x.checkpoint(rest); err != nil {
				return err
			}
			covered = true
		case endWord:
			if !covered {
				return bad(x.proven, x.tree.size, "no checkpoint covers the last events")
			}
			return x.end(rest)
		default:
			return bad(x.tree.size, x.tree.size, "a line that is neither event, checkpoint nor end")
		}
	}
}

// next returns the next line without its line feed, valid until it is called again.
func (x *verifier) next() ([]byte, error) {
	x.res.Line++
	line, err := x.lines.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case err == io.EOF:
		return nil, bad(x.tree.size, x.tree.size, "the export is cut off: it has no end line")
	case err == bufio.ErrBufferFull:
		return nil, bad(x.tree.size, x.tree.size, "the line is longer than %d bytes", maxLine)
	}
	return nil, err
}

func (x *verifier) event(rest []byte) error {
	n := x.tree.size
	b64, leaf, _ := bytes.Cut(rest, []byte(" "))
	h := LeafHash(leaf)
	if want, err := tlog.ParseHash(string(b64)); err != nil || want.String() != string(b64) || want != h {
		return bad(n, n, "event %d is not what its hash says: it was changed", n)
	}
	e, err := Parse(leaf)
	if err != nil {
		return bad(n, n, "event %d: %v", n, err)
	}
	if e.Seq != n {
		return bad(n, n, "event %d stands where event %d belongs: events are missing, repeated or moved", e.Seq, n)
	}
	x.tree.add(h)
	x.res.Events = x.tree.size
	return nil
}

func (x *verifier) checkpoint(rest []byte) error {
	n := x.tree.size
	msg, ok := unquoteNote(rest)
	if !ok {
		return bad(x.proven, n-1, "a checkpoint after %d events is not a quoted note", n)
	}
	c, err := OpenCheckpoint(msg, x.key)
	if err != nil {
		return bad(x.proven, n-1, "the checkpoint after %d events is not signed by this log's key: %v", n, err)
	}
	at := c.Time.Format(timeLayout)
	switch root := x.tree.root(); {
	case c.Size > n:
		return bad(x.proven, c.Size-1, "a checkpoint signed at %s covers %d events, %d stand before it: events are missing", at, c.Size, n)
	case c.Size < n:
		return bad(min(x.proven, c.Size), n, "a checkpoint signed at %s covers %d events, %d stand before it: events were added or lines moved", at, c.Size, n)
	case c.Root != root && x.proven == n:
		return bad(0, n-1, "fork: two signed checkpoints of %d events have different roots, the second was signed at %s", n, at)
	case c.Root != root:
		return bad(x.proven, n-1, "the events do not have the root of the checkpoint signed at %s over %d events: one of %d to %d was changed and its hash rebuilt", at, n, x.proven, n-1)
	case x.res.Checkpoints > 0 && c.Size == x.res.Last.Size && !c.Time.After(x.res.Last.Time):
		return bad(n, n, "a checkpoint of %d events signed at %s comes after one signed at %s: lines are repeated or moved", n, at, x.res.Last.Time.Format(timeLayout))
	}
	x.proven = n
	x.res.Last = c
	x.res.Checkpoints++
	return nil
}

// passed compares the checkpoints kept elsewhere that cover exactly the events
// read so far. It runs after the export's own checkpoints of that size, so that a
// contradiction between two signatures is told as the fork that it is.
func (x *verifier) passed() error {
	for len(x.older) > 0 && x.older[0].Size == x.tree.size {
		n, c := x.tree.size, x.older[0]
		at := c.Time.Format(timeLayout)
		switch {
		case c.Root == x.tree.root():
			x.proven = n
		case x.proven == n:
			return bad(0, n-1, "fork: a checkpoint signed at %s and kept elsewhere gives the first %d events another root", at, n)
		default:
			return bad(x.proven, n-1, "the events do not have the root of the checkpoint signed at %s over %d events and kept elsewhere: history was rewritten from one of %d to %d on", at, n, x.proven, n-1)
		}
		x.older = x.older[1:]
	}
	return nil
}

func (x *verifier) end(rest []byte) error {
	n := x.tree.size
	if want := fmt.Sprintf("%d %d", n, x.res.Checkpoints); string(rest) != want {
		return bad(x.proven, n, "the end line does not say %q: lines are missing", want)
	}
	if err := x.passed(); err != nil {
		return err
	}
	if len(x.older) > 0 {
		c := x.older[len(x.older)-1]
		return bad(n, c.Size-1, "the log has %d events, a checkpoint signed at %s covers %d: the end was cut off", n, c.Time.Format(timeLayout), c.Size)
	}
	x.res.Line++
	if _, err := x.lines.ReadByte(); err == nil {
		return bad(n, n, "something follows the end line")
	} else if err != io.EOF {
		return err
	}
	return nil
}
