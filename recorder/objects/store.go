package objects

import (
	"context"
	"errors"
	"io"

	"github.com/drawbolt/drawbolt/recorder"
)

// A Store keeps objects. Names have no path in them. It must be safe for
// concurrent use.
type Store interface {
	// Put stores an object of that many bytes, durably, whole or not at all. It
	// never replaces one: the error then wraps fs.ErrExist. After another error
	// it may be there all the same.
	Put(ctx context.Context, name string, content io.ReaderAt, size int64) error
	// Open opens an object. The error wraps fs.ErrNotExist when there is none,
	// and recorder.ErrArchived when it has to be brought back first.
	Open(ctx context.Context, name string) (recorder.SinkReader, error)
	// List returns the names of all objects.
	List(ctx context.Context) ([]string, error)
	// Remove removes an object. One that is not there is no error.
	Remove(ctx context.Context, name string) error
}

// Folder returns a Store that keeps objects as files in the folder, which may be
// on another and slower disk. The file system must know hard links.
func Folder(path string) (Store, error) {
	sink, err := recorder.Directory(path)
	if err != nil {
		return nil, err
	}
	return folder{sink}, nil
}

type folder struct{ recorder.Sink }

func (f folder) Put(ctx context.Context, name string, content io.ReaderAt, size int64) error {
	out, err := f.Create(ctx, name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, contextReader{ctx, io.NewSectionReader(content, 0, size)}); err != nil {
		return errors.Join(err, out.Abort())
	}
	return out.Commit()
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
