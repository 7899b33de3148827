package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Headers keeps the headers of sealed objects, by the objects' names. It must be
// safe for concurrent use.
type Headers interface {
	// PutHeader keeps a header durably, in the place of one of the same name.
	PutHeader(ctx context.Context, name string, header []byte) error
	// Header returns a header, an empty one when it was erased. The error wraps
	// fs.ErrNotExist when there is none.
	Header(ctx context.Context, name string) ([]byte, error)
	// RemoveHeader removes a header. One that is not there is no error.
	RemoveHeader(ctx context.Context, name string) error
}

// ErrErased: the object is there, and its header is not, so nobody can open it.
var ErrErased = errors.New("its header is gone, and nobody can open it")

// Apart returns a Sink that keeps the header of each object, in which the key of
// the object is encrypted to its recipients, in headers, and only what follows it
// in the sink. To remove the header is to erase every copy of the object, wherever
// the sink or somebody behind it keeps one. Objects must be age files; read
// through the returned Sink they are whole ones. Those that were put into the sink
// with their headers can be read as before.
//
// Two writers of one name at a time could leave the header of one with the object
// of the other, which nobody can open then. The Recorder has one writer for a
// name, and reads back what it wrote before it removes the journal.
func Apart(sink Sink, headers Headers) Sink { return apart{sink, headers} }

type apart struct {
	Sink
	headers Headers
}

const (
	ageMagic     = "age-encryption.org/v1\n"
	macLine      = "\n--- " // begins the last line of a header
	maxAgeHeader = 256 << 10
)

func (a apart) Create(ctx context.Context, name string) (SinkWriter, error) {
	w, err := a.Sink.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	return &apartWriter{SinkWriter: w, a: a, ctx: context.WithoutCancel(ctx), name: name}, nil
}

type apartWriter struct {
	SinkWriter
	a     apart
	ctx   context.Context // of Create: Commit has none
	name  string
	head  []byte
	whole bool // head is the whole header
}

func (w *apartWriter) Write(p []byte) (int, error) {
	if w.whole {
		return w.SinkWriter.Write(p)
	}
	w.head = append(w.head, p...)
	n := headerSize(w.head)
	if n < 0 {
		if len(w.head) > maxAgeHeader || !bytes.HasPrefix(w.head, []byte(ageMagic)[:min(len(w.head), len(ageMagic))]) {
			return 0, fmt.Errorf("%s does not begin with the header of an age file", w.name)
		}
		return len(p), nil
	}
	rest := w.head[n:]
	w.head, w.whole = w.head[:n:n], true
	if len(rest) > 0 {
		if _, err := w.SinkWriter.Write(rest); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// headerSize is the length of the header that b begins with, or -1 when b does
// not hold all of it.
func headerSize(b []byte) int {
	if !bytes.HasPrefix(b, []byte(ageMagic)) {
		return -1
	}
	mac := bytes.Index(b, []byte(macLine))
	if mac < 0 {
		return -1
	}
	mac += len(macLine)
	end := bytes.IndexByte(b[mac:], '\n')
	if end < 0 || mac+end+1 > maxAgeHeader {
		return -1
	}
	return mac + end + 1
}

// Commit keeps the header first. A crash before the object is there leaves a
// header of nothing, which the next object of that name replaces; the other way
// round it would leave an object that nobody can open.
func (w *apartWriter) Commit() error {
	if !w.whole {
		return errors.Join(fmt.Errorf("%s is no age file", w.name), w.SinkWriter.Abort())
	}
	f, err := w.a.Sink.Open(w.ctx, w.name)
	switch {
	case err == nil: // its header stays
		return errors.Join(fmt.Errorf("%s: %w", w.name, fs.ErrExist), f.Close(), w.SinkWriter.Abort())
	case !errors.Is(err, fs.ErrNotExist):
		return errors.Join(err, w.SinkWriter.Abort())
	}
	if err := w.a.headers.PutHeader(w.ctx, w.name, w.head); err != nil {
		return errors.Join(err, w.SinkWriter.Abort())
	}
	return w.SinkWriter.Commit()
}

// Open opens an object whole. The error is ErrErased when its header is gone.
func (a apart) Open(ctx context.Context, name string) (SinkReader, error) {
	// The header first, without which nothing is wanted of a slow sink; but what
	// was put there before there were headers has none.
	header, err := a.headers.Header(ctx, name)
	none := errors.Is(err, fs.ErrNotExist)
	if err != nil && !none {
		return nil, err
	}
	f, err := a.Sink.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(header) > 0 {
		return &joined{SinkReader: f, header: header}, nil
	}
	magic := make([]byte, len(ageMagic))
	n, err := f.ReadAt(magic, 0)
	if err != nil && err != io.EOF {
		return nil, errors.Join(err, f.Close())
	}
	if !none || string(magic[:n]) != ageMagic {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, ErrErased), f.Close())
	}
	return f, nil
}

// Remove removes an object and its header, which goes first: what a crash leaves
// is of no use to anybody.
func (a apart) Remove(ctx context.Context, name string) error {
	if err := a.headers.RemoveHeader(ctx, name); err != nil {
		return err
	}
	return a.Sink.Remove(ctx, name)
}

// joined is a header and what follows it.
type joined struct {
	SinkReader
	header []byte
}

func (j *joined) Size() int64 { return int64(len(j.header)) + j.SinkReader.Size() }

func (j *joined) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("a negative offset")
	}
	n := 0
	if off < int64(len(j.header)) {
		n = copy(p, j.header[off:])
		if n == len(p) {
			return n, nil
		}
	}
	m, err := j.SinkReader.ReadAt(p[n:], off+int64(n)-int64(len(j.header)))
	return n + m, err
}
