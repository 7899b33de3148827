package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A Place is a Segment without its screen.
type Place struct {
	At     time.Duration    `json:"at"`
	Offset int64            `json:"offset"`
	Cols   int              `json:"cols"`
	Rows   int              `json:"rows"`
	Saved  [2]time.Duration `json:"saved"`
	Line   int64            `json:"line"` // where the whole segment stands in the view, in bytes; see ReadSegment
}

// An Index is what a player needs of a view before it shows anything: all but the
// screens, and what was shown. It stands behind the end of the view.
type Index struct {
	Segments []Place `json:"segments,omitempty"`
	Texts    []Text  `json:"texts,omitempty"` // the first maxIndexTexts that were not output
	More     bool    `json:"more,omitempty"`  // there are more of them
	End      *End    `json:"end,omitempty"`
}

const (
	maxIndexTexts = 5000
	maxIndex      = 64 << 20 // bytes
	// indexLine is how many segments, or texts, are in one line of an index.
	indexLine = 500
	// whereIndex is the last line of a view. Its length is always the same.
	whereIndex = `{"index":{"from":%020d}}` + "\n"
)

var beginIndex = []byte(`{"index":`)

// A Writer writes a view with its index. It is not safe for concurrent use.
type Writer struct {
	w     io.Writer
	at    int64
	index Index
}

// NewWriter returns a Writer to w. Its memory grows by 100 bytes a segment and, up to
// a number, with the texts that were not output.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes the next item.
func (w *Writer) Write(i Item) error {
	at := w.at
	if err := Write(counting{w}, i); err != nil {
		return err
	}
	switch {
	case i.Segment != nil:
		s := i.Segment
		w.index.Segments = append(w.index.Segments, Place{s.At, s.Offset, s.Cols, s.Rows, s.Saved, at})
	case i.Text != nil && i.Text.In != Output:
		if len(w.index.Texts) == maxIndexTexts {
			w.index.More = true
			break
		}
		w.index.Texts = append(w.index.Texts, *i.Text)
	case i.End != nil:
		w.index.End = i.End
	}
	return nil
}

// Close writes the index. What it writes to is not closed.
func (w *Writer) Close() error {
	from, x := w.at, w.index
	for len(x.Segments) > 0 || len(x.Texts) > 0 || x.End != nil {
		part := Index{Segments: x.Segments[:min(indexLine, len(x.Segments))]}
		x.Segments = x.Segments[len(part.Segments):]
		if len(part.Segments) == 0 {
			part.Texts = x.Texts[:min(indexLine, len(x.Texts))]
			x.Texts = x.Texts[len(part.Texts):]
		}
		if len(x.Segments)+len(x.Texts) == 0 {
			part.More, part.End, x.End = x.More, x.End, nil
		}
		if err := json.NewEncoder(counting{w}).Encode(struct {
			Index Index `json:"index"`
		}{part}); err != nil {
			return fmt.Errorf("write view: %w", err)
		}
	}
	if _, err := fmt.Fprintf(counting{w}, whereIndex, from); err != nil {
		return fmt.Errorf("write view: %w", err)
	}
	return nil
}

// counting writes to the Writer's writer and counts.
type counting struct{ w *Writer }

func (c counting) Write(b []byte) (int, error) {
	n, err := c.w.w.Write(b)
	c.w.at += int64(n)
	return n, err
}

// ReadIndex reads the index of a view, and nothing else of it.
func ReadIndex(r io.ReadSeeker) (Index, error) {
	var all Index
	where := make([]byte, len(fmt.Sprintf(whereIndex, 0)))
	end, err := r.Seek(-int64(len(where)), io.SeekEnd)
	if err != nil {
		return all, fmt.Errorf("read view: %w", err)
	}
	if _, err := io.ReadFull(r, where); err != nil {
		return all, fmt.Errorf("read view: %w", err)
	}
	var from int64
	if _, err := fmt.Sscanf(string(where), whereIndex, &from); err != nil {
		return all, ErrCut
	}
	if from < 0 || from > end || end-from > maxIndex {
		return all, errors.New("read view: its index is out of range")
	}
	if _, err := r.Seek(from, io.SeekStart); err != nil {
		return all, fmt.Errorf("read view: %w", err)
	}
	lines := json.NewDecoder(io.LimitReader(r, end-from))
	for {
		var line struct {
			Index Index `json:"index"`
		}
		if err := lines.Decode(&line); err == io.EOF {
			break
		} else if err != nil {
			return all, fmt.Errorf("read view: its index: %w", err)
		}
		part := line.Index
		all.Segments, all.Texts = append(all.Segments, part.Segments...), append(all.Texts, part.Texts...)
		all.More, all.End = part.More, part.End
	}
	return all, all.check()
}

func (x *Index) check() error {
	if x.End == nil {
		return ErrCut
	}
	items := []Item{{End: x.End}}
	for i := range x.Segments {
		items = append(items, Item{Segment: x.Segments[i].segment()})
	}
	for i := range x.Texts {
		items = append(items, Item{Text: &x.Texts[i]})
	}
	for _, i := range items {
		if err := i.Check(); err != nil {
			return fmt.Errorf("read view: its index: %w", err)
		}
	}
	return nil
}

// segment is the Segment without its screen.
func (p *Place) segment() *Segment {
	return &Segment{At: p.At, Offset: p.Offset, Cols: p.Cols, Rows: p.Rows, Saved: p.Saved}
}

// ReadSegment reads the whole of a segment of the index.
func ReadSegment(r io.ReadSeeker, p Place) (Segment, error) {
	if _, err := r.Seek(p.Line, io.SeekStart); err != nil {
		return Segment{}, fmt.Errorf("read view: %w", err)
	}
	var i Item
	if err := json.NewDecoder(io.LimitReader(r, maxLine)).Decode(&i); err != nil {
		return Segment{}, fmt.Errorf("read view: %w", err)
	}
	if err := i.Check(); err != nil {
		return Segment{}, fmt.Errorf("read view: %w", err)
	}
	if s := i.Segment; s != nil && s.At == p.At && s.Offset == p.Offset {
		return *s, nil
	}
	return Segment{}, errors.New("read view: its index names no segment")
}
