package recorder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

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
)

// OpenSealed opens a sealed recording and returns its cast, which can be read
// from any place. An identity is one of the auditors' or of the server. Memory
// is bounded: about 3 MiB, and 48 bytes for each 512 KiB of the cast. What is
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
	plain, n, err := age.DecryptReaderAt(r, size, id...)
	if err != nil {
		return nil, err
	}
	var footer [footerSize]byte
	if n < footerSize {
		return nil, errors.New("there is no seek table")
	}
	if _, err := plain.ReadAt(footer[:], n-footerSize); err != nil && err != io.EOF {
		return nil, err
	}
	if binary.LittleEndian.Uint32(footer[5:]) != footerMagic {
		return nil, errors.New("there is no seek table")
	}
	if frames := binary.LittleEndian.Uint32(footer[:]); frames > maxFrames {
		return nil, fmt.Errorf("%d frames are too many", frames)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecoderMaxWindow(maxFrame))
	if err != nil {
		return nil, err
	}
	frames := &frameDecoder{dec: dec}
	c, err := seekable.NewReader(io.NewSectionReader(plain, 0, n), frames, seekable.WithReaderFrameCache(frames))
	if err != nil {
		return nil, err
	}
	table, err := c.SeekTable()
	if err != nil {
		return nil, err
	}
	for i := range table.NumFrames() {
		if e, ok := table.EntryByID(i); !ok || e.CompressedSize > maxFrame || e.DecompressedSize > maxFrame {
			return nil, fmt.Errorf("frame %d is too large", i)
		}
	}
	return struct{ io.ReadSeeker }{c}, nil // without ReadAt, which may be called concurrently
}

// A frameDecoder decodes frames and holds the last one, in two buffers that take
// turns. The frame that is held stays as it is until another is found good.
type frameDecoder struct {
	dec  *zstd.Decoder
	held bool
	id   int64
	data []byte // of the frame id
	next []byte // room for another
}

func (f *frameDecoder) DecodeAll(src, _ []byte) ([]byte, error) {
	data, err := f.dec.DecodeAll(src, f.next[:0])
	f.next = data
	return data, err
}

func (f *frameDecoder) Get(id int64) ([]byte, bool) {
	if !f.held || f.id != id {
		return nil, false
	}
	return f.data, true
}

// Put is called with what DecodeAll returned, if its checksum is right.
func (f *frameDecoder) Put(id int64, data []byte) {
	f.held, f.id, f.data, f.next = true, id, data, f.data
}

func (f *frameDecoder) Clear() { f.held = false }
