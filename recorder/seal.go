package recorder

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	seekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/klauspost/compress/zstd"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// A Sealed says what was sealed.
type Sealed struct {
	ID       string
	Name     string   // in the Sink
	SHA256   [32]byte // of the file in the Sink
	Size     int64    // of that file
	Events   int64
	Input    int64 // bytes of each stream
	Output   int64
	Stderr   int64
	Duration time.Duration
	Aborted  bool // the end of the session was not recorded
	Reason   string
	Head     [32]byte // last hash of the journal's chain
	Torn     int64    // bytes of a last, unacknowledged record that a crash cut off
}

// seal makes the sealed recording of a journal and removes the journal. The
// reason is for a journal without an end. With a *DamagedError what stands
// before the damage was sealed, and the journal is in quarantine.
//
// A crash finds: before Commit a journal, and in the sink nothing; between
// Commit and the end a journal with a note of the same hash as the object in
// the sink, so that Recover only tidies up and does not seal twice.
func (r *Recorder) seal(ctx context.Context, id string, journal *os.File, reason string) (Sealed, error) {
	s, err := r.sealJournal(ctx, id, journal, reason)
	if err != nil {
		return s, fmt.Errorf("seal recording %s: %w", id, err)
	}
	return s, nil
}

func (r *Recorder) sealJournal(ctx context.Context, id string, journal *os.File, reason string) (Sealed, error) {
	select {
	case r.sealing <- struct{}{}:
		defer func() { <-r.sealing }()
	case <-ctx.Done():
		return Sealed{ID: id}, context.Cause(ctx)
	}
	if s, ok := r.alreadySealed(ctx, id); ok {
		return s, r.tidy(id)
	}
	info, err := journal.Stat()
	if err != nil {
		return Sealed{ID: id}, err
	}
	j, err := newJournalReader(io.NewSectionReader(journal, 0, info.Size()), r.cfg.Wrapper.Unwrap)
	var damaged *DamagedError
	if errors.As(err, &damaged) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Sealed{ID: id}, errors.Join(err, r.quarantine(id))
	}
	if err != nil {
		return Sealed{ID: id}, err
	}
	if j.header.ID != id {
		return Sealed{ID: id}, errors.Join(fmt.Errorf("the journal is of %q", j.header.ID), r.quarantine(id))
	}
	name, err := r.freeName(ctx, id, Suffix)
	if err != nil {
		return Sealed{ID: id}, err
	}
	out, err := r.cfg.Sink.Create(ctx, name)
	if err != nil {
		return Sealed{ID: id}, err
	}
	s := Sealed{ID: id, Name: name}
	m, err := r.convert(ctx, out, j, &s, reason)
	if err != nil && !errors.As(err, &damaged) {
		return Sealed{ID: id}, errors.Join(err, out.Abort())
	}
	// What is damaged gets no note: Recover would remove its journal.
	if damaged == nil {
		if err := r.writeNote(s); err != nil {
			return Sealed{ID: id}, errors.Join(err, out.Abort())
		}
	}
	if err := out.Commit(); err != nil {
		return Sealed{ID: id}, fmt.Errorf("commit %s: %w", name, err)
	}
	// The note stays when this fails: the next attempt compares again.
	if err := r.sameObject(ctx, &s); err != nil {
		return Sealed{ID: id}, fmt.Errorf("read back %s: %w", name, err)
	}
	err = r.sameCast(ctx, &s, m)
	clear(m.fileKey)
	if err != nil {
		os.Remove(r.note(id)) // so that the next attempt seals anew
		return Sealed{ID: id}, fmt.Errorf("read back %s: %w", name, err)
	}
	if damaged != nil {
		return s, errors.Join(damaged, r.quarantine(id))
	}
	return s, r.tidy(id)
}

// made is what sameCast compares the object with. The hash of the cast is a
// quick one under a random seed: it is for faults of the sink and of the
// encoders, and never leaves the process. sameObject has compared the SHA-256.
type made struct {
	fileKey []byte
	seed    maphash.Seed
	cast    uint64
}

// convert writes the journal's events to out. A *DamagedError says that the
// recording is whole, but ends where the journal's damage begins.
func (r *Recorder) convert(ctx context.Context, out io.Writer, j *journalReader, s *Sealed, reason string) (made, error) {
	var m made
	sealed := &counter{w: out, sum: sha256.New()}
	recipients := append([]age.Recipient(nil), r.cfg.Recipients...)
	recipients[0] = keyCatcher{recipients[0], &m.fileKey}
	encrypted, err := age.Encrypt(sealed, recipients...)
	if err != nil {
		return m, err
	}
	compressed, err := seekable.NewWriter(encrypted, &frameEncoder{enc: r.encoder})
	if err != nil {
		return m, err
	}
	w := r.writers.Get().(*bufio.Writer)
	defer func() {
		w.Reset(nil) // an idle one must not keep the sink's writer
		r.writers.Put(w)
	}()
	w.Reset(compressed)
	var quick maphash.Hash
	m.seed = quick.Seed()
	plain := &counter{w: w, sum: &quick}
	c, err := cast.NewWriter(plain, j.header, r.cfg.Signer)
	if err != nil {
		return m, err
	}
	write := func(e Event) error {
		s.Events++
		return c.Write(e)
	}
	unseen := &hiddenKeys{r: r, id: j.header.ID}
	defer unseen.abort()
	hider := cast.NewHider(j.header, write, func(at time.Duration, keys []byte) error { return unseen.keep(ctx, at, keys) })
	var damaged *DamagedError
	for n := 0; ; n++ {
		e, err := j.next()
		if err == io.EOF {
			break
		}
		if errors.As(err, &damaged) {
			reason = damaged.Error()
			break
		}
		if err == nil {
			err = hider.Write(e)
		}
		if err == nil && n%1024 == 0 {
			err = context.Cause(ctx)
		}
		if err != nil {
			return m, err
		}
		switch e.Stream {
		case Input:
			s.Input += int64(len(e.Data))
		case Output:
			s.Output += int64(len(e.Data))
		case Stderr:
			s.Stderr += int64(len(e.Data))
		}
	}
	if err := hider.Close(); err != nil {
		return m, err
	}
	kept, err := unseen.commit(ctx)
	if err == nil && kept != "" {
		err = write(Event{At: j.at, Stream: cast.Mark, Data: []byte(kept)})
	}
	if err != nil {
		return m, err
	}
	s.Aborted = j.end == nil || damaged != nil
	if !s.Aborted {
		reason = j.end.Reason
	}
	s.Duration, s.Reason, s.Head, s.Torn = j.at, reason, j.c.head, j.torn
	if _, err := c.Seal(cast.End{At: s.Duration, Aborted: s.Aborted, Reason: reason, Journal: s.Head}); err != nil {
		return m, err
	}
	if err := w.Flush(); err != nil {
		return m, err
	}
	if err := compressed.Close(); err != nil {
		return m, err
	}
	if err := encrypted.Close(); err != nil {
		return m, err
	}
	m.cast = quick.Sum64()
	sealed.sum.Sum(s.SHA256[:0])
	s.Size = sealed.n
	if damaged != nil {
		return m, damaged
	}
	return m, nil
}

// sameCast opens the object as an auditor would and compares the cast inside.
func (r *Recorder) sameCast(ctx context.Context, s *Sealed, m made) error {
	f, err := r.cfg.Sink.Open(ctx, s.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	c, err := openSealed(f, f.Size(), age.NewInjectedFileKeyIdentity(m.fileKey))
	if err != nil {
		return err
	}
	var sum maphash.Hash
	sum.SetSeed(m.seed)
	if _, err := io.Copy(&sum, contextReader{ctx, c}); err != nil {
		return err
	}
	if sum.Sum64() != m.cast {
		return errors.New("the recording inside is not the one that was written")
	}
	return nil
}

// sameObject compares the object in the sink with its hash.
func (r *Recorder) sameObject(ctx context.Context, s *Sealed) error {
	f, err := r.cfg.Sink.Open(ctx, s.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, contextReader{ctx, io.NewSectionReader(f, 0, f.Size())}); err != nil {
		return err
	}
	if f.Size() != s.Size || !bytes.Equal(sum.Sum(nil), s.SHA256[:]) {
		return errors.New("the file is not the one that was written")
	}
	return nil
}

// freeName returns the name to seal under. The plain one is taken only when an
// earlier attempt failed after its Commit, or by somebody else's object.
func (r *Recorder) freeName(ctx context.Context, id, suffix string) (string, error) {
	name := id + suffix
	for n := 2; n < 10; n++ {
		f, err := r.cfg.Sink.Open(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		f.Close()
		name = fmt.Sprintf("%s.%d%s", id, n, suffix)
	}
	return "", fmt.Errorf("all names: %w", fs.ErrExist)
}

// The note beside a journal says which object is being committed.
func (r *Recorder) note(id string) string { return filepath.Join(r.cfg.Journals, id+noteSuffix) }

func (r *Recorder) writeNote(s Sealed) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(r.note(s.ID), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return syncDir(r.cfg.Journals)
}

// alreadySealed reports whether the note is of an object that is in the sink.
func (r *Recorder) alreadySealed(ctx context.Context, id string) (Sealed, bool) {
	var s Sealed
	b, err := os.ReadFile(r.note(id))
	if err != nil || json.Unmarshal(b, &s) != nil || s.ID != id {
		return Sealed{}, false
	}
	return s, r.sameObject(ctx, &s) == nil
}

// tidy removes the journal, then its note.
func (r *Recorder) tidy(id string) error {
	if err := os.Remove(r.journal(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := syncDir(r.cfg.Journals); err != nil {
		return err
	}
	if err := os.Remove(r.note(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// quarantine moves a journal to where Recover does not look.
func (r *Recorder) quarantine(id string) error {
	dir := filepath.Join(r.cfg.Journals, "quarantine")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	to := filepath.Join(dir, fmt.Sprintf("%s.%d%s", id, r.cfg.Now().UnixMicro(), journalSuffix))
	if err := os.Rename(r.journal(id), to); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(r.cfg.Journals))
}

// A keyCatcher keeps the file's key, with which what was written is read back.
type keyCatcher struct {
	age.Recipient
	key *[]byte
}

func (k keyCatcher) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	*k.key = bytes.Clone(fileKey)
	if r, ok := k.Recipient.(age.RecipientWithLabels); ok {
		return r.WrapWithLabels(fileKey)
	}
	s, err := k.Wrap(fileKey)
	return s, nil, err
}

// A frameEncoder reuses the room for a frame. The seekable writer is done with
// one before it asks for the next.
type frameEncoder struct {
	enc *zstd.Encoder
	buf []byte
}

func (f *frameEncoder) EncodeAll(src, _ []byte) []byte {
	f.buf = f.enc.EncodeAll(src, f.buf[:0])
	return f.buf
}

// A counter counts and hashes what it passes on.
type counter struct {
	w   io.Writer
	sum interface {
		io.Writer
		Sum([]byte) []byte
	}
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.sum.Write(p[:n])
	c.n += int64(n)
	return n, err
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
