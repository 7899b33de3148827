package recorder

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"filippo.io/age"
	seekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/klauspost/compress/zstd"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// A Salvage reads what can be read of a sealed recording. Where a part of the
// cast cannot be read there stands a line instead that begins with
// cast.LineDamage and says why; it is as long as the part, so that all that
// follows stands where it stood. When the end of the file is gone or damaged,
// everything before it is read, and such a line is the last.
//
// It is not safe for concurrent use.
type Salvage struct {
	next   func() ([]byte, error)                 // the next part; io.EOF after the last one
	begin  func(at int64) (skip int64, err error) // next begins so many bytes before at
	part   []byte
	err    error
	damage error
}

// OpenDamaged opens a sealed recording that may be damaged, within the limits of
// OpenSealed. The error says that nothing of it can be read: no identity fits, or
// its header is damaged.
func OpenDamaged(r io.ReaderAt, size int64, id ...age.Identity) (*Salvage, error) {
	c, table, err := openFrames(r, size, id...)
	if err == nil {
		return salvageFrames(c, table), nil
	}
	s, serr := salvageStream(r, size, err, id...)
	if serr != nil {
		return nil, fmt.Errorf("open sealed recording: %w", serr)
	}
	return s, nil
}

// Damage returns what was wrong first, of what has been read so far.
func (s *Salvage) Damage() error { return s.damage }

// Read implements io.Reader.
func (s *Salvage) Read(p []byte) (int, error) {
	for len(s.part) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.part, s.err = s.next()
	}
	n := copy(p, s.part)
	s.part = s.part[n:]
	return n, nil
}

// Seek implements io.Seeker, from the start only. Where the end of the file is
// gone, everything before the place is read.
func (s *Salvage) Seek(at int64, whence int) (int64, error) {
	if whence != io.SeekStart || at < 0 {
		return 0, errors.New("seek in a sealed recording: only from its start")
	}
	skip, err := s.begin(at)
	if err != nil {
		return 0, fmt.Errorf("seek in a sealed recording: %w", err)
	}
	s.part, s.err = nil, nil
	if n, err := io.CopyN(io.Discard, s, skip); err != nil && err != io.EOF {
		return at - skip + n, err
	}
	return at, nil
}

func (s *Salvage) found(err error) error {
	if s.damage == nil {
		s.damage = err
	}
	return err
}

// salvageFrames reads frame by frame, which are independent.
func salvageFrames(c *seekable.Reader, table seekable.SeekTable) *Salvage {
	s := &Salvage{}
	buf := make([]byte, 0, maxFrame)
	i := int64(0)
	s.next = func() ([]byte, error) {
		if i == table.NumFrames() {
			return nil, io.EOF
		}
		e, ok := table.EntryByID(i)
		if !ok {
			return nil, fmt.Errorf("the seek table has no frame %d", i)
		}
		i++
		part := buf[:e.DecompressedSize] // openFrames has looked at it
		_, err := c.Seek(int64(e.DecompressedOffset), io.SeekStart)
		if err == nil && len(part) > 0 {
			_, err = io.ReadFull(c, part)
		}
		if err != nil {
			from := e.DecompressedOffset
			err = s.found(fmt.Errorf("bytes %d to %d of the recording cannot be read from the sealed file: %w", from, from+uint64(e.DecompressedSize), err))
			fill(part, err)
		}
		return part, nil
	}
	s.begin = func(at int64) (int64, error) {
		i = int64(sort.Search(int(table.NumFrames()), func(n int) bool {
			e, ok := table.EntryByID(int64(n))
			return !ok || int64(e.DecompressedOffset)+int64(e.DecompressedSize) > at
		}))
		if e, ok := table.EntryByID(i); ok && i < table.NumFrames() {
			return at - int64(e.DecompressedOffset), nil
		}
		return 0, nil // behind the end
	}
	return s
}

// maxFill bounds a line that stands for what cannot be read, in bytes.
const maxFill = 32 << 10

// fill makes lines of damage of the part, which end with it.
func fill(part []byte, err error) {
	text := cast.LineDamage + strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, err.Error())
	for len(part) > 0 {
		line := part[:min(len(part), maxFill)]
		for i := range line {
			line[i] = ' '
		}
		copy(line, text)
		line[len(line)-1] = '\n'
		part = part[len(line):]
	}
}

// salvageStream reads from the beginning up to the first damage, without the seek
// table at the end.
func salvageStream(r io.ReaderAt, size int64, why error, id ...age.Identity) (*Salvage, error) {
	s := &Salvage{}
	buf := make([]byte, 64<<10)
	var dec *zstd.Decoder
	var at int64
	ended := false
	s.begin = func(to int64) (int64, error) {
		plain, err := age.Decrypt(io.NewSectionReader(r, 0, size), id...)
		if err != nil {
			return 0, err
		}
		if dec != nil {
			dec.Close()
		}
		at, ended = 0, false
		dec, err = zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderMaxWindow(maxFrame))
		return to, err
	}
	s.next = func() ([]byte, error) {
		if ended {
			dec.Close()
			return nil, io.EOF
		}
		n, err := dec.Read(buf)
		at += int64(n)
		switch {
		case at > maxFrames*frameSize:
			err = errors.New("it is too large")
		case err == nil || n > 0:
			return buf[:n], nil // an error comes again
		case err == io.EOF:
			err = why
		}
		ended = true
		err = s.found(fmt.Errorf("from byte %d on, nothing of the recording can be read from the sealed file: %w", at, err))
		last := buf[:min(len(cast.LineDamage)+len(err.Error())+1, len(buf))]
		fill(last, err)
		return last, nil
	}
	_, err := s.begin(0)
	return s, err
}
