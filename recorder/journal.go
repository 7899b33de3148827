package recorder

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// The journal's format; docs/formats/journal.md describes it.
const (
	journalMagic = "drawbolt journal 1\n"
	keySize      = 32
	headSize     = 8              // length and its checksum
	metaSize     = 1 + 8          // stream and time
	tagSize      = 16             // of AES-GCM
	maxData      = 64 << 10       // bytes of one frame's data
	maxPrefix    = 1 << 12        // bytes of the wrapped key
	maxHeader    = 256 << 10      // bytes of the header frame
	frameHeader  = cast.Stream(0) // the Header's two lines
	frameEnd     = cast.Stream(0xff)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// end is the last frame of a session that was closed.
type end struct {
	Reason string `json:"reason"`
}

// A chainer seals or opens the frames of one journal. Each frame is bound to all
// before it. The chain runs over the tags of the frames, which cover all their
// bytes, so that bytes are hashed once, in the sealed recording.
type chainer struct {
	aead cipher.AEAD
	seq  uint64 // of the next frame
	head [sha256.Size]byte
}

func newChainer(key, prefix []byte) (*chainer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &chainer{aead: aead, head: sha256.Sum256(prefix)}, nil
}

func (c *chainer) nonce() []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), c.seq)
}

// sum is the checksum of a length. It covers the sequence number, so that a
// run of zeros, as a power cut leaves it, is never a frame's head.
func (c *chainer) sum(length uint32) uint32 {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 12), c.seq)
	return crc32.Checksum(binary.BigEndian.AppendUint32(b, length), castagnoli)
}

// seal appends one frame to dst, which must be empty, and moves the chain.
func (c *chainer) seal(dst []byte, s cast.Stream, at time.Duration, data []byte) []byte {
	length := uint32(metaSize + len(data) + tagSize)
	dst = binary.BigEndian.AppendUint32(dst, length)
	dst = binary.BigEndian.AppendUint32(dst, c.sum(length))
	dst = append(dst, byte(s))
	dst = binary.BigEndian.AppendUint64(dst, uint64(at.Microseconds()))
	dst = append(dst, data...)
	dst = c.aead.Seal(dst[:headSize], c.nonce(), dst[headSize:], c.head[:])
	c.step(dst)
	return dst
}

func (c *chainer) step(frame []byte) {
	h := sha256.New()
	h.Write(c.head[:])
	h.Write(frame[:headSize])
	h.Write(frame[len(frame)-tagSize:])
	h.Sum(c.head[:0])
	c.seq++
}

// journalPrefix is what stands before the frames.
func journalPrefix(id string, wrapped []byte) ([]byte, error) {
	if len(wrapped) == 0 || len(wrapped) > maxPrefix {
		return nil, fmt.Errorf("a wrapped key of %d bytes", len(wrapped))
	}
	p := append([]byte(journalMagic), byte(len(id)))
	p = append(p, id...)
	p = binary.BigEndian.AppendUint16(p, uint16(len(wrapped)))
	return append(p, wrapped...), nil
}

// A DamagedError names the first frame of a journal that is not as it was
// written.
type DamagedError struct {
	Frame uint64 // from 0, the header; the prefix counts as 0 too
	Why   string
}

// Error names the frame.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("journal is damaged at frame %d: %s", e.Frame, e.Why)
}

// A journalReader reads a journal. Memory is bounded by one frame.
type journalReader struct {
	r      *bufio.Reader
	c      *chainer
	header Header
	at     time.Duration
	end    *end  // set when the end was read
	torn   int64 // bytes after the last whole frame
	buf    []byte
}

// newJournalReader reads the prefix and the header. An error of unwrap is
// returned as it is: the key may be back tomorrow. What is torn before the
// header was whole gives io.ErrUnexpectedEOF; anything else a *DamagedError.
func newJournalReader(r io.Reader, unwrap func(id string, wrapped []byte) ([]byte, error)) (*journalReader, error) {
	j := &journalReader{r: bufio.NewReaderSize(r, 4<<10)}
	prefix := make([]byte, len(journalMagic)+1)
	if err := j.full(prefix); err != nil {
		return nil, err
	}
	if string(prefix[:len(journalMagic)]) != journalMagic {
		return nil, &DamagedError{Why: "not a journal of this version"}
	}
	id := make([]byte, int(prefix[len(journalMagic)])+2)
	if err := j.full(id); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint16(id[len(id)-2:])
	if size == 0 || size > maxPrefix {
		return nil, &DamagedError{Why: "the wrapped key has no possible size"}
	}
	wrapped := make([]byte, size)
	if err := j.full(wrapped); err != nil {
		return nil, err
	}
	key, err := unwrap(string(id[:len(id)-2]), wrapped)
	if err != nil {
		return nil, fmt.Errorf("unwrap the journal's key: %w", err)
	}
	j.c, err = newChainer(key, append(append(prefix, id...), wrapped...))
	clear(key)
	if err != nil {
		return nil, err
	}
	e, err := j.frame(maxHeader)
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	if err := j.header.UnmarshalText(e.Data); err != nil || e.Stream != frameHeader || j.header.ID != string(id[:len(id)-2]) {
		return nil, &DamagedError{Why: "the header does not fit"}
	}
	return j, nil
}

func (j *journalReader) full(b []byte) error {
	_, err := io.ReadFull(j.r, b)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next returns the next event; its Data is valid until the next call. At the
// end, and where the last frame was cut off, it returns io.EOF.
func (j *journalReader) next() (Event, error) {
	e, err := j.frame(maxData)
	if err != nil {
		return Event{}, err
	}
	seq := j.c.seq - 1
	switch {
	case j.end != nil:
		return Event{}, &DamagedError{seq, "a frame follows the end"}
	case e.At < j.at:
		return Event{}, &DamagedError{seq, "time runs backwards"}
	case e.Stream == frameEnd:
		j.end = new(end)
		if err := json.Unmarshal(e.Data, j.end); err != nil {
			return Event{}, &DamagedError{seq, "the end cannot be read"}
		}
		j.at = e.At
		return j.next()
	case !e.Stream.Valid():
		return Event{}, &DamagedError{seq, "no such stream"}
	}
	j.at = e.At
	return e, nil
}

func (j *journalReader) frame(limit int) (Event, error) {
	var head [headSize]byte
	n, err := io.ReadFull(j.r, head[:])
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		j.torn = int64(n)
		return Event{}, io.EOF
	}
	if err != nil {
		return Event{}, fmt.Errorf("read journal: %w", err)
	}
	length := binary.BigEndian.Uint32(head[:])
	if j.c.sum(length) != binary.BigEndian.Uint32(head[4:]) {
		if n, zero := j.zeros(head[:]); zero {
			j.torn = n
			return Event{}, io.EOF
		}
		return Event{}, &DamagedError{j.c.seq, "its length does not have its checksum"}
	}
	if length < metaSize+tagSize || length > uint32(limit)+metaSize+tagSize {
		return Event{}, &DamagedError{j.c.seq, "its length is out of range"}
	}
	need := headSize + int(length)
	if cap(j.buf) < need {
		j.buf = make([]byte, max(need, 8<<10))
	}
	frame := j.buf[:need]
	copy(frame, head[:])
	n, err = io.ReadFull(j.r, frame[headSize:])
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		j.torn = int64(headSize + n)
		return Event{}, io.EOF
	}
	if err != nil {
		return Event{}, fmt.Errorf("read journal: %w", err)
	}
	before, nonce := j.c.head, j.c.nonce()
	j.c.step(frame) // before the frame is opened in place
	plain, err := j.c.aead.Open(frame[headSize:headSize], nonce, frame[headSize:], before[:])
	if err != nil {
		j.c.head = before
		j.c.seq--
		return Event{}, &DamagedError{j.c.seq, "its bytes are not those that were written"}
	}
	us := binary.BigEndian.Uint64(plain[1:])
	if us > uint64(100*365*24*time.Hour/time.Microsecond) {
		return Event{}, &DamagedError{j.c.seq - 1, "its time is out of range"}
	}
	return Event{At: time.Duration(us) * time.Microsecond, Stream: cast.Stream(plain[0]), Data: plain[metaSize:]}, nil
}

// zeros reports whether all from head on is zero, as after a power cut on a
// file system that had made the file longer already.
func (j *journalReader) zeros(head []byte) (int64, bool) {
	n, b, buf := int64(0), head, make([]byte, 4<<10)
	for {
		if len(bytes.Trim(b, "\x00")) > 0 {
			return 0, false
		}
		n += int64(len(b))
		k, err := j.r.Read(buf)
		if b = buf[:k]; err != nil && k == 0 {
			return n, errors.Is(err, io.EOF)
		}
	}
}
