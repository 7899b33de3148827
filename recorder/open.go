package recorder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
	seekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/klauspost/compress/zstd"
)

// Anybody can encrypt to a public recipient, so a sealed file is limited like
// any other input. With these a Recorder can seal 512 GiB of one session.
const (
	frameSize   = 512 << 10
	maxFrame    = 1 << 20 // bytes of a zstd frame, either side
	maxFrames   = 1 << 20
	footerSize  = 9
	footerMagic = 0x8F92EAB1

	// smallObject is the size of age's chunks. Each read of one decrypts all of it
	// into memory of its own, and what is within one is read once.
	smallObject = 64 << 10
)

// OpenSealed opens a sealed recording and returns its cast, which can be read
// from any place. An identity is one of the auditors' or of the server. Memory
// is bounded: about 4 MiB, and 48 bytes for each 512 KiB of the cast. What is
// read is authentic to age, which says only that somebody had the recipients'
// public keys; cast.Verify says who sealed it.
func OpenSealed(r io.ReaderAt, size int64, id ...age.Identity) (io.ReadSeeker, error) {
	c, err := openSealed(r, size, id...)
	if err != nil {
		return nil, fmt.Errorf("open sealed recording: %w", err)
	}
	return c, nil
}

func openSealed(r io.ReaderAt, size int64, id ...age.Identity) (io.ReadSeeker, error) {
	c, _, err := openFrames(r, size, id...)
	if err != nil {
		return nil, err
	}
	return struct{ io.ReadSeeker }{c}, nil // without ReadAt, which may be called concurrently
}

func openFrames(r io.ReaderAt, size int64, id ...age.Identity) (*seekable.Reader, seekable.SeekTable, error) {
	none := seekable.SeekTable{}
	plain, n, err := age.DecryptReaderAt(r, size, id...)
	if err != nil {
		return nil, none, err
	}
	if n <= smallObject {
		whole := make([]byte, n)
		if err := readFull(plain, whole, 0); err != nil {
			return nil, none, err
		}
		plain = bytes.NewReader(whole)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderMaxWindow(maxFrame))
	if err != nil {
		return nil, none, err
	}
	f := &frames{r: plain, size: n, dec: dec}
	c, err := seekable.NewReader(nil, f, seekable.WithReaderEnvironment(f), seekable.WithReaderFrameCache(f))
	if err != nil {
		return nil, none, err
	}
	table, err := c.SeekTable()
	if err != nil {
		return nil, none, err
	}
	for i := range table.NumFrames() {
		if e, ok := table.EntryByID(i); !ok || e.CompressedSize > maxFrame || e.DecompressedSize > maxFrame {
			return nil, none, fmt.Errorf("frame %d is too large", i)
		}
	}
	return c, table, nil
}

// A frames is where a seekable.Reader gets frames from, for one reader at a time:
// it reads them, decodes them and holds the last one. Its buffers are used again;
// else nearly all the garbage of sealing would be frames.
type frames struct {
	r    io.ReaderAt
	size int64
	dec  *zstd.Decoder

	src  []byte // a frame as it is kept
	held bool
	id   int64
	data []byte // of the frame id; it stays until another is found good
	next []byte // room for the other
}

// last returns the last n bytes.
func (f *frames) last(n int64) ([]byte, error) {
	if n < 0 || n > f.size {
		return nil, errors.New("there is no seek table")
	}
	b := make([]byte, n)
	return b, readFull(f.r, b, f.size-n)
}

// ReadFooter bounds what ReadSkipFrame is then asked for.
func (f *frames) ReadFooter() ([]byte, error) {
	footer, err := f.last(footerSize)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(footer[5:]) != footerMagic {
		return nil, errors.New("there is no seek table")
	}
	if n := binary.LittleEndian.Uint32(footer); n > maxFrames {
		return nil, fmt.Errorf("%d frames are too many", n)
	}
	return footer, nil
}

func (f *frames) ReadSkipFrame(n int64) ([]byte, error) { return f.last(n) }

func (f *frames) GetFrameByIndex(e seekable.FrameOffsetEntry) ([]byte, error) {
	n := int(e.CompressedSize) // at most maxFrame
	f.src = slices.Grow(f.src[:0], n)[:n]
	return f.src, readFull(f.r, f.src, int64(e.CompressedOffset))
}

func (f *frames) DecodeAll(src, _ []byte) ([]byte, error) {
	data, err := f.dec.DecodeAll(src, f.next[:0])
	f.next = data
	return data, err
}

func (f *frames) Get(id int64) ([]byte, bool) {
	if !f.held || f.id != id {
		return nil, false
	}
	return f.data, true
}

// Put is called with what DecodeAll returned, if its checksum is right.
func (f *frames) Put(id int64, data []byte) {
	f.held, f.id, f.data, f.next = true, id, data, f.data
}

func (f *frames) Clear() { f.held = false }

// readFull reads all of p. An io.EOF with its last byte is no error.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	_, err := io.ReadFull(io.NewSectionReader(r, off, int64(len(p))), p)
	return err
}
