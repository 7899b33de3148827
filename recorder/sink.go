package recorder

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Sink keeps sealed recordings. Names have no path in them. It must be safe
// for concurrent use.
type Sink interface {
	// Create begins a new object. It is not there before Commit.
	Create(ctx context.Context, name string) (SinkWriter, error)
	// Open opens an object. The error wraps fs.ErrNotExist when there is none,
	// and ErrArchived when there is one that cannot be read at once.
	Open(ctx context.Context, name string) (SinkReader, error)
	// List returns the names of all objects.
	List(ctx context.Context) ([]string, error)
	// Remove removes an object. One that is not there is no error.
	Remove(ctx context.Context, name string) error
}

// ErrArchived: the object is in an archive. It has been asked for, and can be read
// when it was brought back, which takes hours.
var ErrArchived = errors.New("the object is in an archive and is being brought back")

// A SinkWriter writes one object. Exactly one of Commit and Abort is called.
type SinkWriter interface {
	io.Writer
	// Commit makes the object durable and visible, whole or not at all. It
	// never replaces an object: the error then wraps fs.ErrExist.
	Commit() error
	// Abort takes back what was written.
	Abort() error
}

// A SinkReader reads one object.
type SinkReader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

type directory string

// Directory returns a Sink that keeps recordings as files of mode 0600 in the
// directory, which is made with mode 0700 when it is not there. The file system
// must know hard links.
func Directory(path string) (Sink, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("open directory of recordings: %w", err)
	}
	return directory(path), nil
}

func (d directory) path(name string) (string, error) {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, "/\\\x00") || !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q is not a name of a recording", name)
	}
	return filepath.Join(string(d), name), nil
}

func (d directory) Create(ctx context.Context, name string) (SinkWriter, error) {
	path, err := d.path(name)
	if err != nil {
		return nil, err
	}
	tmp := filepath.Join(string(d), "."+name+"."+rand.Text()+".tmp")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &fileWriter{File: f, path: path}, nil
}

type fileWriter struct {
	*os.File
	path string
}

func (w *fileWriter) Commit() error {
	err := w.Sync()
	err = errors.Join(err, w.Close())
	if err == nil {
		// A link, not a rename: a rename would replace what is there.
		err = os.Link(w.Name(), w.path)
	}
	if rm := os.Remove(w.Name()); err == nil {
		err = rm
	}
	if err == nil {
		err = syncDir(filepath.Dir(w.path))
	}
	return err
}

func (w *fileWriter) Abort() error {
	w.Close()
	return os.Remove(w.Name())
}

func (d directory) Open(ctx context.Context, name string) (SinkReader, error) {
	path, err := d.path(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return fileReader{f, info}, nil
}

type fileReader struct {
	*os.File
	info fs.FileInfo
}

func (r fileReader) Size() int64 { return r.info.Size() }

func (d directory) List(ctx context.Context) ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name()[0] != '.' {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d directory) Remove(ctx context.Context, name string) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return syncDir(string(d))
}
