// Package sftpwire reads and writes the packets of the SSH File Transfer
// Protocol, version 3 (draft-ietf-secsh-filexfer-02), with the extensions of
// OpenSSH (its PROTOCOL file) that are named here.
//
// It is for one who stands between two sides that are both not trusted: a packet
// either has exactly the fields that its type says, within the limits, and then
// reads back as the same bytes when it is written, or it is an error. So both
// who parse a packet that was passed on understand it alike.
//
// The package knows no files, handles or rules, and does no I/O but to read one
// packet after the other.
package sftpwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version is the version of the protocol.
const Version = 3

// Limits. OpenSSH takes packets of at most 256 KiB, and so does everybody else.
const (
	MaxPacket   = 256 << 10 // bytes after the length
	MaxPath     = 4 << 10   // bytes
	MaxHandle   = 256       // bytes; section 6.2
	maxName     = 64        // bytes of an extension's name
	maxExtended = 32        // extended attributes of a file, extensions of a side
)

// ErrPacket is what every error about a packet wraps.
var ErrPacket = errors.New("malformed SFTP packet")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrPacket, fmt.Sprintf(format, args...))
}

// A Type is the type of a packet; section 3.
type Type byte

// The types of packets.
const (
	Init     Type = 1
	Open     Type = 3
	Close    Type = 4
	Read     Type = 5
	Write    Type = 6
	LStat    Type = 7
	FStat    Type = 8
	SetStat  Type = 9
	FSetStat Type = 10
	OpenDir  Type = 11
	ReadDir  Type = 12
	Remove   Type = 13
	MkDir    Type = 14
	RmDir    Type = 15
	RealPath Type = 16
	Stat     Type = 17
	Rename   Type = 18
	ReadLink Type = 19
	SymLink  Type = 20
	Extended Type = 200

	VersionIs     Type = 2
	Status        Type = 101
	Handle        Type = 102
	Data          Type = 103
	Name          Type = 104
	Attrs         Type = 105
	ExtendedReply Type = 201
)

// String returns a word for the type.
func (t Type) String() string {
	switch t {
	case Init:
		return "init"
	case Open:
		return "open"
	case Close:
		return "close"
	case Read:
		return "read"
	case Write:
		return "write"
	case LStat:
		return "lstat"
	case FStat:
		return "fstat"
	case SetStat:
		return "setstat"
	case FSetStat:
		return "fsetstat"
	case OpenDir:
		return "opendir"
	case ReadDir:
		return "readdir"
	case Remove:
		return "remove"
	case MkDir:
		return "mkdir"
	case RmDir:
		return "rmdir"
	case RealPath:
		return "realpath"
	case Stat:
		return "stat"
	case Rename:
		return "rename"
	case ReadLink:
		return "readlink"
	case SymLink:
		return "symlink"
	case Extended:
		return "extended"
	case VersionIs:
		return "version"
	case Status:
		return "status"
	case Handle:
		return "handle"
	case Data:
		return "data"
	case Name:
		return "name"
	case Attrs:
		return "attrs"
	case ExtendedReply:
		return "extended reply"
	default:
		return fmt.Sprintf("type %d", byte(t))
	}
}

// The extensions that are understood: OpenSSH's PROTOCOL, section 4, and
// draft-ietf-secsh-filexfer-extensions-00, section 4.
const (
	PosixRename   = "posix-rename@openssh.com"
	HardLink      = "hardlink@openssh.com"
	StatVFS       = "statvfs@openssh.com"
	FStatVFS      = "fstatvfs@openssh.com"
	FSync         = "fsync@openssh.com"
	LSetStat      = "lsetstat@openssh.com"
	LimitsOf      = "limits@openssh.com"
	ExpandPath    = "expand-path@openssh.com"
	UsersGroups   = "users-groups-by-id@openssh.com"
	HomeDirectory = "home-directory"
)

// The flags of Open; section 6.3.
const (
	FlagRead   = 1
	FlagWrite  = 2
	FlagAppend = 4
	FlagCreate = 8
	FlagTrunc  = 16
	FlagExcl   = 32
	flagsKnown = 63
)

// A Code says how a request ended; section 7.
type Code uint32

// The codes of a Status.
const (
	OK               Code = 0
	EOF              Code = 1
	NoSuchFile       Code = 2
	PermissionDenied Code = 3
	Failure          Code = 4
	BadMessage       Code = 5
	NoConnection     Code = 6
	ConnectionLost   Code = 7
	OpUnsupported    Code = 8
)

// A Reader reads packets. It is not safe for concurrent use.
type Reader struct {
	r   io.Reader
	buf []byte
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// idleBuffer is how much room a Reader keeps between two packets.
const idleBuffer = 64 << 10

// Next returns the next packet with its length, which is valid until the next
// call. At the end between two packets the error is io.EOF; within one it is
// io.ErrUnexpectedEOF.
func (r *Reader) Next() ([]byte, error) {
	if cap(r.buf) > idleBuffer {
		r.buf = nil
	}
	if cap(r.buf) < 512 {
		r.buf = make([]byte, 512)
	}
	head := r.buf[:4]
	if _, err := io.ReadFull(r.r, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head))
	if n < 1 || n > MaxPacket {
		return nil, bad("a length of %d bytes", uint32(n))
	}
	if cap(r.buf) < 4+n {
		r.buf = append(make([]byte, 0, 4+n), head...)
	}
	packet := r.buf[:4+n]
	if _, err := io.ReadFull(r.r, packet[4:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return packet, nil
}

// TypeOf returns the type of a packet that Next returned.
func TypeOf(packet []byte) Type { return Type(packet[4]) }

// PutID writes another id into a packet that was parsed.
func PutID(packet []byte, id uint32) { binary.BigEndian.PutUint32(packet[5:], id) }

// A parser takes fields from the front of a packet. After the first error it
// returns zeros.
type parser struct {
	rest []byte
	err  error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = bad(format, args...)
	}
	p.rest = nil
}

func (p *parser) take(n int) []byte {
	if p.err != nil || len(p.rest) < n {
		p.fail("it is cut short")
		return nil
	}
	b := p.rest[:n:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) uint32() uint32 {
	if b := p.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (p *parser) uint64() uint64 {
	if b := p.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (p *parser) bytes(limit int) []byte {
	n := p.uint32()
	if p.err == nil && uint64(n) > uint64(limit) {
		p.fail("a text of %d bytes, where %d are allowed", n, limit)
	}
	return p.take(int(min(n, MaxPacket)))
}

func (p *parser) string(limit int) string { return string(p.bytes(limit)) }

// path takes a path. A NUL would end it for the system and not for us.
func (p *parser) path() string {
	s := p.string(MaxPath)
	for i := range len(s) {
		if s[i] == 0 {
			p.fail("a path with a NUL")
			return ""
		}
	}
	return s
}

// attrs takes the attributes of a file; section 5. It returns them as they are,
// and the size when there is one.
func (p *parser) attrs() (raw []byte, size uint64, sized bool) {
	const hasSize, hasOwner, hasMode, hasTimes, hasExtended = 1, 2, 4, 8, 1 << 31
	whole := p.rest
	flags := p.uint32()
	if flags&^(hasSize|hasOwner|hasMode|hasTimes|hasExtended) != 0 {
		p.fail("attributes with the flags %#x", flags)
	}
	if flags&hasSize != 0 {
		size, sized = p.uint64(), true
	}
	if flags&hasOwner != 0 {
		p.take(8)
	}
	if flags&hasMode != 0 {
		p.take(4)
	}
	if flags&hasTimes != 0 {
		p.take(8)
	}
	if flags&hasExtended != 0 {
		n := p.uint32()
		if n > maxExtended {
			p.fail("%d extended attributes", n)
		}
		for i := uint32(0); i < n && p.err == nil; i++ {
			p.bytes(maxName)
			p.bytes(MaxPacket)
		}
	}
	if p.err != nil {
		return nil, 0, false
	}
	return whole[:len(whole)-len(p.rest)], size, sized
}

func (p *parser) end() error {
	if p.err == nil && len(p.rest) > 0 {
		p.fail("%d bytes too many", len(p.rest))
	}
	return p.err
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// begin appends the head of a packet; finish writes its length.
func begin(dst []byte, t Type) []byte { return append(dst, 0, 0, 0, 0, byte(t)) }

func finish(packet []byte) []byte {
	binary.BigEndian.PutUint32(packet, uint32(len(packet)-4))
	return packet
}
