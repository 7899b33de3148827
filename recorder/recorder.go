// Package recorder keeps what happens in a session as evidence. Every byte of
// input, output and stderr and every resize is recorded before it is forwarded:
// Recording.Write returns when the kernel has the record, so that the death of
// this process loses nothing that was acknowledged.
//
// While a session runs, its events go into a journal: one file of framed,
// AEAD-sealed, hash-chained records, one write(2) each. There is no goroutine,
// encoder or buffer for an idle session. At the end the journal is sealed: made
// an asciicast with a signed seal (package cast), compressed as seekable zstd,
// encrypted with age to the auditors, given to a Sink, read back and compared;
// only then is the journal removed. Journals left by a crash are sealed by
// Recover. docs/formats describes both files.
//
// The package trusts its process, the KeyWrapper and the Signer. Somebody who
// can read the journals' directory sees sizes; somebody who can write there can
// delete or cut a running session's journal, or make it refuse to be read, but
// cannot change a record unseen. The Sink is trusted to keep what it was given,
// and nothing more.
//
// It does not decide who may be recorded or who may watch, and knows nothing of
// users, targets and grants: they are strings in Header.Fields. It imports the
// format of terminals, package cast, and not the other way round, so that the
// format stays usable alone.
package recorder

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

type (
	// A Stream says what an event is part of.
	Stream = cast.Stream
	// An Event is some bytes of one stream at one moment.
	Event = cast.Event
	// A Header says what is recorded.
	Header = cast.Header
	// A FileEvent says something about a file that is carried.
	FileEvent = cast.FileEvent
)

// The streams that Recording.Write takes.
const (
	Input  = cast.Input
	Output = cast.Output
	Stderr = cast.Stderr
)

var (
	// ErrNoSpace: the disk of the journals is below its floor.
	ErrNoSpace = errors.New("too little free space to record")
	// ErrClosed: the recording was closed.
	ErrClosed = errors.New("the recording is closed")
)

// A KeyWrapper keeps the data keys of journals so that only this server can
// read them. The id is bound to the key: Unwrap fails under another id. It must
// be safe for concurrent use.
type KeyWrapper interface {
	Wrap(id string, key []byte) ([]byte, error)
	Unwrap(id string, wrapped []byte) ([]byte, error)
}

// A Config says how to record. All fields without a default are needed.
type Config struct {
	Journals   string          // directory of the journals; made with mode 0700
	Sink       Sink            // where sealed recordings go
	Recipients []age.Recipient // who can open them; all post-quantum or none
	// Hidden is who can open what was typed unseen, such as passwords, which is
	// kept apart from the recording; all post-quantum or none. Without any it is not kept.
	Hidden  []age.Recipient
	Wrapper KeyWrapper
	Signer  note.Signer // signs the seal inside each recording
	// Floor is how many bytes must be free on the journals' disk to start a
	// recording. Default: 1 GiB, but at most 5 % of the disk.
	Floor uint64
	// Now is the clock; its times should carry a monotonic reading.
	// Default: time.Now.
	Now func() time.Time
}

// A Recorder makes recordings. It is safe for concurrent use.
type Recorder struct {
	cfg     Config
	buffers sync.Pool     // of *[]byte, for frames
	writers sync.Pool     // of *bufio.Writer, for what becomes a zstd frame
	encoder *zstd.Encoder // one for all, so that a short recording needs no tables of its own
	sealing chan struct{} // bounds how many recordings are sealed at a time

	mu   sync.Mutex
	live map[string]*Recording // by id, until sealed or given up
}

// maxSealing is how many recordings are sealed at a time. Each takes a few MiB.
const maxSealing = 2

// New checks the Config and makes the directory. It starts nothing.
func New(cfg Config) (*Recorder, error) {
	switch {
	case cfg.Journals == "":
		return nil, errors.New("configure recorder: no directory for journals")
	case cfg.Sink == nil:
		return nil, errors.New("configure recorder: no sink")
	case len(cfg.Recipients) == 0:
		return nil, errors.New("configure recorder: no recipients, so nobody could open a recording")
	case cfg.Wrapper == nil:
		return nil, errors.New("configure recorder: no key wrapper")
	case cfg.Signer == nil:
		return nil, errors.New("configure recorder: no signer")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(cfg.Journals, 0o700); err != nil {
		return nil, fmt.Errorf("configure recorder: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(maxSealing), zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(frameSize), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("configure recorder: %w", err)
	}
	return &Recorder{
		cfg:     cfg,
		buffers: sync.Pool{New: func() any { return new([]byte) }},
		writers: sync.Pool{New: func() any { return bufio.NewWriterSize(nil, frameSize) }},
		encoder: enc,
		sealing: make(chan struct{}, maxSealing),
		live:    make(map[string]*Recording),
	}, nil
}

// Run flushes the journals to the disk, each at most a second after it was
// written to, until ctx is done. A power cut loses at most that second. A
// journal that cannot be flushed fails its recording.
func (r *Recorder) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.flush()
			return nil
		case <-tick.C:
			r.flush()
		}
	}
}

func (r *Recorder) flush() {
	r.mu.Lock()
	live := make([]*Recording, 0, len(r.live))
	for _, rec := range r.live {
		live = append(live, rec)
	}
	r.mu.Unlock()
	for _, rec := range live {
		rec.flush()
	}
}

// Start begins a recording. When it returns, the journal with the header is on
// the disk. Header.Started is set when it is zero. The error is ErrNoSpace when
// the disk is below the floor; without a recording there must be no session.
func (r *Recorder) Start(ctx context.Context, h Header) (*Recording, error) {
	rec, err := r.start(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("start recording %.128q: %w", h.ID, err)
	}
	return rec, nil
}

func (r *Recorder) start(ctx context.Context, h Header) (_ *Recording, err error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := checkID(h.ID); err != nil {
		return nil, err
	}
	if err := r.space(); err != nil {
		return nil, err
	}
	began := r.cfg.Now()
	if h.Started.IsZero() {
		h.Started = began
	}
	h.Started = h.Started.UTC().Truncate(time.Microsecond)
	header, err := h.MarshalText()
	if err != nil {
		return nil, err
	}
	key := make([]byte, keySize)
	rand.Read(key)
	wrapped, err := r.cfg.Wrapper.Wrap(h.ID, key)
	if err != nil {
		return nil, fmt.Errorf("wrap the journal's key: %w", err)
	}
	prefix, err := journalPrefix(h.ID, wrapped)
	if err != nil {
		return nil, err
	}
	c, err := newChainer(key, prefix)
	clear(key)
	if err != nil {
		return nil, err
	}
	path := r.journal(h.ID)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(path)
		}
	}()
	// The lock ends with the process; it tells a journal that is being
	// written from one that was left.
	if err := lock(f); err != nil {
		return nil, err
	}
	if _, err := f.Write(append(prefix, c.seal(nil, frameHeader, 0, header)...)); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := syncDir(r.cfg.Journals); err != nil {
		return nil, err
	}
	rec := &Recording{r: r, id: h.ID, began: began, file: f, f: f, chain: c}
	r.mu.Lock()
	r.live[h.ID] = rec
	r.mu.Unlock()
	return rec, nil
}

func (r *Recorder) journal(id string) string {
	return filepath.Join(r.cfg.Journals, id+journalSuffix)
}

// space returns ErrNoSpace when the disk is below its floor.
func (r *Recorder) space() error {
	free, size, err := diskSpace(r.cfg.Journals)
	if err != nil {
		return fmt.Errorf("ask for free space: %w", err)
	}
	floor := r.cfg.Floor
	if floor == 0 {
		floor = min(1<<30, size/20)
	}
	if free < floor {
		return fmt.Errorf("%w: %d MiB of %d MiB needed", ErrNoSpace, free>>20, floor>>20)
	}
	return nil
}

// Suffix follows the id in the name of a sealed recording.
const Suffix = ".cast.zst.age"

const (
	journalSuffix = ".journal"
	noteSuffix    = ".sealed"
)

// checkID refuses ids that could be a path or a hidden file.
func checkID(id string) error {
	if id == "" || len(id) > 80 {
		return errors.New("the id must have 1 to 80 bytes")
	}
	for i, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case (c == '-' || c == '_') && i > 0:
		default:
			return errors.New("the id may hold only letters, digits, '-' and '_'")
		}
	}
	return nil
}
