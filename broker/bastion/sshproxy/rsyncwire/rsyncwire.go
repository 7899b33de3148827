// Package rsyncwire reads what two rsync programs say to each other in the versions
// 29 to 31 of their protocol, with one list of files that is whole before anything
// else is said. There is no document of it but rsync itself; compat.c, io.c, flist.c,
// acls.c, xattrs.c, sender.c and token.c there name the parts that are read here.
//
// It is for one who stands between two sides that are both not trusted. Every
// byte is either part of something that was understood, within the limits, or an
// error; what was understood is kept as the bytes that it came in, so that both
// who read it understand it alike. The content of files must pass whole: blocks
// that are taken from another file at the receiving side are an error.
//
// The package knows no paths at a target and no rules, and does no I/O but to read.
package rsyncwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MinVersion and Version are the versions of the protocol that are understood, and
// MaxVersion is what a side may offer.
const (
	MinVersion = 29
	Version    = 31
	MaxVersion = 255
)

// Limits.
const (
	MaxPath    = 4<<10 - 1 // bytes of a name or of where a link leads
	MaxRule    = 5 << 10   // bytes of a filter rule
	MaxRules   = 1 << 14   // filter rules
	MaxEntries = 1 << 19   // entries of a list
	MaxNames   = 64 << 20  // bytes of all names of a list
	MaxMessage = 16 << 10  // bytes of a message between the data
	maxIDs     = 1 << 16   // users and groups that are named
	maxBlocks  = 1 << 26   // blocks that a receiving side has of a file
	buffered   = 32 << 10
)

// ErrStream is what every error about the protocol wraps.
var ErrStream = errors.New("malformed rsync protocol")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrStream, fmt.Sprintf(format, args...))
}

// A Reader reads one direction. What was read collects until Reset is called, so
// that it can be passed on as it came.
type Reader struct {
	src     io.Reader
	version int
	idle    func() error
	buf     []byte
	r, w    int
	taken   []byte

	heard  positions // of what was read
	saying positions // of what has passed, with what was taken
	said   positions // of what has passed
}

// NewReader returns one that reads src in a version of the protocol. Each time
// before it may have to wait, it calls idle.
func NewReader(src io.Reader, version int, idle func() error) *Reader {
	return &Reader{src: src, version: version, idle: idle, buf: make([]byte, buffered), heard: begin(), saying: begin(), said: begin()}
}

// Taken is what was read since Reset, and is valid until the next call.
func (r *Reader) Taken() []byte { return r.taken }

// Reset begins anew to collect what is read. What was taken has passed.
func (r *Reader) Reset() { r.taken, r.said = r.taken[:0], r.saying }

// Drop is Reset when what was taken does not pass.
func (r *Reader) Drop() { r.taken, r.saying = r.taken[:0], r.said }

// fill makes n bytes be there that have not been read. At the end of the stream
// between two things the error is io.EOF.
func (r *Reader) fill(n int) error {
	if r.w-r.r >= n {
		return nil
	}
	r.w = copy(r.buf, r.buf[r.r:r.w])
	r.r = 0
	for r.w < n {
		if err := r.idle(); err != nil {
			return err
		}
		m, err := r.src.Read(r.buf[r.w:])
		r.w += m
		if r.w < n && err != nil {
			if err == io.EOF && (r.w > 0 || len(r.taken) > 0) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// next takes n bytes, of at most the size of the buffer.
func (r *Reader) next(n int) ([]byte, error) {
	if err := r.fill(n); err != nil {
		return nil, err
	}
	p := r.buf[r.r : r.r+n]
	r.r += n
	r.taken = append(r.taken, p...)
	return p, nil
}

// some takes at most n bytes, as many as are there, and at least one.
func (r *Reader) some(n int) ([]byte, error) {
	if err := r.fill(1); err != nil {
		return nil, err
	}
	return r.next(min(n, r.w-r.r))
}

// skip leaves out n bytes, which are not collected.
func (r *Reader) skip(n int64) error {
	for n > 0 {
		if err := r.fill(1); err != nil {
			return err
		}
		m := min(n, int64(r.w-r.r))
		r.r += int(m)
		n -= m
	}
	return nil
}

func (r *Reader) byte() (byte, error) {
	p, err := r.next(1)
	if err != nil {
		return 0, err
	}
	return p[0], nil
}

func (r *Reader) int() (int32, error) {
	p, err := r.next(4)
	if err != nil {
		return 0, err
	}
	return int32(binary.LittleEndian.Uint32(p)), nil
}

// long reads a number that has 4 bytes, or 8 more when these are -1.
func (r *Reader) long() (int64, error) {
	n, err := r.int()
	if err != nil || n != -1 {
		return int64(n), err
	}
	p, err := r.next(8)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(p)), nil
}

// ParseVersion reads the first four bytes of a side, and returns its version, or
// the newest one that is understood when it has a newer one.
func ParseVersion(p [4]byte) (int, error) {
	switch v := binary.LittleEndian.Uint32(p[:]); {
	case v > MaxVersion:
		return 0, bad("it begins with %q; is something printed at the login?", p[:])
	case v < MinVersion:
		return 0, bad("version %d, and %d is the least that is understood here", v, MinVersion)
	default:
		return min(int(v), Version), nil
	}
}

// AppendVersion appends the first four bytes of a side.
func AppendVersion(b []byte, version int) []byte {
	return binary.LittleEndian.AppendUint32(b, uint32(version))
}

// Letters are what the program that starts a server may tell it, behind the
// letter e of its options, of what it can do. Not among them are lists in parts
// (i), flags of another width with names of checksums and compressions (v), and
// another form of the names of users (u).
const Letters = "LsfxCI"

// Traits are what a server of version 30 or 31 says of what both can do.
type Traits byte

// The traits of which the letters have told, and one that changes what is said:
// what is made by a link says nothing of its extended attributes, unless both can do
// without.
const (
	letterTraits     = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6
	linksAreRepeated = 1 << 4
)

// ParseTraits reads the byte behind the version of a server.
func ParseTraits(b byte) (Traits, error) {
	if b&^letterTraits != 0 {
		return 0, bad("the traits %#x", b)
	}
	return Traits(b), nil
}

// Whole reports whether, in a version, an item about what is made by a link has
// its extended attributes like every other.
func (t Traits) Whole(version int) bool { return version < 31 || t&linksAreRepeated != 0 }

// Rule reads a filter rule; after the last one it is nil.
func (r *Reader) Rule() ([]byte, error) {
	n, err := r.int()
	if err != nil || n == 0 {
		return nil, err
	}
	if n < 0 || n > MaxRule {
		return nil, bad("a filter rule of %d bytes", n)
	}
	return r.next(int(n))
}

// ReadsFiles reports whether a filter rule may make the side that gets it read a
// file of its own for more rules. Only the short forms of include, exclude, hide,
// show, protect, risk and clear, with modifiers that match names, do not.
func ReadsFiles(rule []byte) bool {
	if len(rule) == 1 && rule[0] == '!' {
		return false
	}
	if len(rule) == 0 {
		return true
	}
	switch rule[0] {
	case '-', '+', 'P', 'R', 'H', 'S':
	default:
		return true
	}
	for _, c := range rule[1:] {
		switch c {
		case ' ', '_':
			return false
		case ',', '/', '!', 's', 'r', 'p':
		default:
			return true
		}
	}
	return true
}

// Stats reads the numbers with which a sending server ends.
func (r *Reader) Stats() error {
	for range 5 {
		if _, err := r.size(); err != nil {
			return err
		}
	}
	return nil
}

// A Kind is what a message between the data is about.
type Kind byte

// The kinds of messages: text for people from Transfer to UTF8, the name of
// something that was removed, and data of no bytes, which says that the side is
// there. Those from Unread on came with version 30.
const (
	Alive    Kind = 0
	Transfer Kind = 1 // an error because of which the end is no success
	UTF8     Kind = 8
	Unread   Kind = 22 // something could not be read
	Waiting  Kind = 42 // the side is there
	Failed   Kind = 86 // the side ends, and perhaps with which status
	Deleted  Kind = 101
	NotSent  Kind = 102 // the number of a file that cannot be sent
)

// IsText reports whether the message is text for people.
func (k Kind) IsText() bool { return k >= Transfer && k <= UTF8 }

// fits reports whether there are messages of a kind with so many bytes.
func (k Kind) fits(version, n int) bool {
	switch k {
	case Unread, NotSent:
		return version >= 30 && n == 4
	case Waiting:
		return version >= 30 && n == 0
	case Failed:
		return version >= 31 && (n == 0 || n == 4)
	default:
		return (k.IsText() || k == Deleted) && n <= MaxMessage
	}
}

// muxBase is added to each kind.
const muxBase = 7

// HeaderLength is that of a message's header.
const HeaderLength = 4

// PutHeader writes the header of a message of n bytes.
func PutHeader(b []byte, k Kind, n int) {
	binary.LittleEndian.PutUint32(b, uint32(muxBase+k)<<24|uint32(n))
}

// PutDataHeader writes the header of n bytes of data.
func PutDataHeader(b []byte, n int) { PutHeader(b, Alive, n) }

// A Demux gives the data of a side that puts messages between them.
type Demux struct {
	src     io.Reader
	version int
	message func(Kind, []byte) error
	left    int
	head    [HeaderLength]byte
}

// NewDemux returns one for src, which speaks a version of the protocol. It gives
// each message to message.
func NewDemux(src io.Reader, version int, message func(Kind, []byte) error) *Demux {
	return &Demux{src: src, version: version, message: message}
}

// Read reads data.
func (d *Demux) Read(p []byte) (int, error) {
	for d.left == 0 {
		if err := d.next(); err != nil {
			return 0, err
		}
	}
	n, err := d.src.Read(p[:min(len(p), d.left)])
	d.left -= n
	if err == io.EOF && d.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (d *Demux) next() error {
	if _, err := io.ReadFull(d.src, d.head[:]); err != nil {
		return err
	}
	head := binary.LittleEndian.Uint32(d.head[:])
	n := int(head & 0xffffff)
	if head>>24 < muxBase {
		return bad("a message of kind %d", int(head>>24)-muxBase)
	}
	k := Kind(head>>24 - muxBase)
	switch {
	case k == Alive && n > 0:
		d.left = n
		return nil
	case k == Alive:
		return d.message(k, nil)
	case !k.fits(d.version, n):
		return bad("a message of kind %d with %d bytes", k, n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(d.src, text); err != nil {
		return err
	}
	return d.message(k, text)
}
