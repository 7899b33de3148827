package recorder

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// CopySuffix ends the names of copies of files that are kept beside recordings.
const CopySuffix = ".file.age"

// maxCopies is how many copies a recording may have.
const maxCopies = 10_000

// A Copy is a file that was carried in a session and is kept: encrypted to the
// same recipients as the recording, in the same Sink. It is not there before
// Commit, and a crash leaves none. It is not safe for concurrent use.
type Copy struct {
	Name   string   // in the Sink
	SHA256 [32]byte // of the object in the Sink; known after Commit

	out       SinkWriter
	sealed    *counter
	encrypted io.WriteCloser
	done      bool
}

// Keep begins a copy of a file. Exactly one of its Commit and Abort should be
// called; a Copy that is given up is aborted.
func (rec *Recording) Keep(ctx context.Context) (*Copy, error) {
	n := rec.kept.Add(1)
	if n > maxCopies {
		return nil, fmt.Errorf("keep a file: a recording has at most %d copies", maxCopies)
	}
	c := &Copy{Name: fmt.Sprintf("%s.%d%s", rec.id, n, CopySuffix)}
	if err := rec.r.space(rec.urgent); err != nil {
		return nil, fmt.Errorf("keep a file: %w", err)
	}
	out, err := rec.r.cfg.Sink.Create(ctx, c.Name)
	if err != nil {
		return nil, fmt.Errorf("keep a file: %w", err)
	}
	c.out, c.sealed = out, &counter{w: out, sum: sha256.New()}
	c.encrypted, err = age.Encrypt(c.sealed, rec.r.cfg.Recipients...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep a file: %w", err), out.Abort())
	}
	return c, nil
}

// Write adds to the copy.
func (c *Copy) Write(p []byte) (int, error) {
	n, err := c.encrypted.Write(p)
	if err != nil {
		err = fmt.Errorf("keep %s: %w", c.Name, err)
	}
	return n, err
}

// Commit makes the copy durable.
func (c *Copy) Commit() error {
	if c.done {
		return errors.New("keep a file: it was committed or aborted before")
	}
	c.done = true
	if err := c.encrypted.Close(); err != nil {
		return errors.Join(fmt.Errorf("keep %s: %w", c.Name, err), c.out.Abort())
	}
	c.sealed.sum.Sum(c.SHA256[:0])
	if err := c.out.Commit(); err != nil {
		return fmt.Errorf("keep %s: %w", c.Name, err)
	}
	return nil
}

// Abort gives the copy up. After Commit it does nothing.
func (c *Copy) Abort() error {
	if c.done {
		return nil
	}
	c.done = true
	return c.out.Abort()
}
