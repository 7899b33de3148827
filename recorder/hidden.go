package recorder

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
)

// HiddenSuffix follows the id in the name of what was typed unseen in a session.
const HiddenSuffix = ".hidden.age"

// A Typed is what was typed unseen in one line. An object of them has one a line, as
// JSON, with the keys in base64.
type Typed struct {
	At   int64  `json:"at"` // of the first key, microseconds since the start
	Keys []byte `json:"keys"`
}

// hiddenKeys keeps what was typed unseen in one recording: nothing, or an object
// beside it in the sink, to recipients of its own.
type hiddenKeys struct {
	r         *Recorder
	id        string
	name      string
	out       SinkWriter // nil before the first key and after the end
	sealed    *counter
	encrypted io.WriteCloser
}

// keep adds what was typed in a line.
func (u *hiddenKeys) keep(ctx context.Context, at time.Duration, keys []byte) error {
	if len(u.r.cfg.Hidden) == 0 {
		return nil
	}
	if u.out == nil {
		if err := u.create(ctx); err != nil {
			return fmt.Errorf("keep what was typed unseen: %w", err)
		}
	}
	line, err := json.Marshal(Typed{at.Microseconds(), keys})
	if err != nil {
		return err
	}
	defer clear(line)
	if _, err := u.encrypted.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("keep what was typed unseen: %w", err)
	}
	return nil
}

func (u *hiddenKeys) create(ctx context.Context) (err error) {
	if u.name, err = u.r.freeName(ctx, u.id, HiddenSuffix); err != nil {
		return err
	}
	if u.out, err = u.r.cfg.Sink.Create(ctx, u.name); err != nil {
		return err
	}
	u.sealed = &counter{w: u.out, sum: sha256.New()}
	u.encrypted, err = age.Encrypt(u.sealed, u.r.cfg.Hidden...)
	return err
}

// commit makes the object durable and returns a remark that ties it to the
// recording; an empty one when there is no object.
func (u *hiddenKeys) commit(ctx context.Context) (string, error) {
	if u.out == nil {
		return "", nil
	}
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("keep what was typed unseen in %s: %w", u.name, err)
	}
	if err := u.encrypted.Close(); err != nil {
		return fail(err)
	}
	out := u.out
	u.out = nil
	if err := out.Commit(); err != nil {
		return fail(err)
	}
	s := Sealed{Name: u.name, Size: u.sealed.n}
	u.sealed.sum.Sum(s.SHA256[:0])
	if err := u.r.sameObject(ctx, &s); err != nil {
		return fail(errors.Join(errors.New("read back"), err))
	}
	return fmt.Sprintf("what was typed unseen is kept as %s, SHA-256 %x", u.name, s.SHA256), nil
}

// abort gives the object up. After commit it does nothing.
func (u *hiddenKeys) abort() {
	if u.out != nil {
		u.out.Abort()
	}
}
