package sftpwire

import "encoding/binary"

// A Reply is a packet of a server but for VersionIs; section 7. Which fields
// are used depends on the type.
type Reply struct {
	Type     Type
	ID       uint32
	Code     Code   // of Status
	Message  string // of Status
	Language string // of Status
	Handle   string
	Data     []byte   // of Data and ExtendedReply; part of the packet
	Names    []string // of Name
	Rest     []byte   // of Name and Attrs: all after the id, as on the wire; part of the packet
	Size     uint64   // of Attrs
	Mode     uint32   // of Attrs; 0: not told
}

// maxMessage bounds the words of a Status, in bytes.
const maxMessage = 4 << 10

// ParseReply reads a packet of a server that Reader.Next returned.
func ParseReply(packet []byte) (Reply, error) {
	p := &parser{rest: packet[5:]}
	r := Reply{Type: TypeOf(packet), ID: p.uint32()}
	switch r.Type {
	case Status:
		r.Code, r.Message, r.Language = Code(p.uint32()), p.string(maxMessage), p.string(maxName)
	case Handle:
		r.Handle = p.string(MaxHandle)
	case Data:
		r.Data = p.bytes(MaxPacket)
	case ExtendedReply:
		r.Data, p.rest = p.rest, nil
	case Name:
		r.Rest = p.rest
		n := p.uint32()
		for i := uint32(0); i < n && p.err == nil; i++ {
			r.Names = append(r.Names, p.path())
			p.bytes(MaxPacket)
			p.attrs()
		}
	case Attrs:
		r.Rest = p.rest
		raw, size, _ := p.attrs()
		r.Size, r.Mode = size, modeOf(raw)
	default:
		return r, bad("a reply of %v", r.Type)
	}
	return r, p.end()
}

// modeOf returns the permissions of attributes that attrs took.
func modeOf(raw []byte) uint32 {
	const hasSize, hasOwner, hasMode = 1, 2, 4
	if len(raw) < 4 {
		return 0
	}
	flags, at := binary.BigEndian.Uint32(raw), 4
	if flags&hasMode == 0 {
		return 0
	}
	if flags&hasSize != 0 {
		at += 8
	}
	if flags&hasOwner != 0 {
		at += 8
	}
	return binary.BigEndian.Uint32(raw[at:])
}

// The kinds of file in a mode; POSIX.
const (
	modeKind = 0o170000
	modeDir  = 0o040000
	modeLink = 0o120000
)

// IsDir reports whether Attrs are those of a directory.
func (r Reply) IsDir() bool { return r.Mode&modeKind == modeDir }

// IsLink reports whether Attrs are those of a symbolic link.
func (r Reply) IsLink() bool { return r.Mode&modeKind == modeLink }

// Append appends the packet to dst, which must be empty.
func (r Reply) Append(dst []byte) []byte {
	dst = begin(dst, r.Type)
	dst = binary.BigEndian.AppendUint32(dst, r.ID)
	switch r.Type {
	case Status:
		dst = binary.BigEndian.AppendUint32(dst, uint32(r.Code))
		dst = appendString(dst, r.Message)
		dst = appendString(dst, r.Language)
	case Handle:
		dst = appendString(dst, r.Handle)
	case Data:
		dst = appendString(dst, r.Data)
	case ExtendedReply:
		dst = append(dst, r.Data...)
	default:
		dst = append(dst, r.Rest...)
	}
	return finish(dst)
}

// A Hello is the first packet of a side: Init or VersionIs; section 4.
type Hello struct {
	Type       Type
	Version    uint32
	Extensions []Extension
}

// An Extension is one that a side knows.
type Extension struct{ Name, Data string }

// ParseHello reads the first packet of a side, which must be of type t.
func ParseHello(packet []byte, t Type) (Hello, error) {
	p := &parser{rest: packet[5:]}
	h := Hello{Type: TypeOf(packet), Version: p.uint32()}
	if h.Type != t {
		return h, bad("it begins with %v", h.Type)
	}
	for p.err == nil && len(p.rest) > 0 {
		if len(h.Extensions) >= maxExtended {
			p.fail("more than %d extensions", maxExtended)
			break
		}
		h.Extensions = append(h.Extensions, Extension{p.string(maxName), p.string(maxMessage)})
	}
	return h, p.end()
}

// Append appends the packet to dst, which must be empty.
func (h Hello) Append(dst []byte) []byte {
	dst = begin(dst, h.Type)
	dst = binary.BigEndian.AppendUint32(dst, h.Version)
	for _, e := range h.Extensions {
		dst = appendString(dst, e.Name)
		dst = appendString(dst, e.Data)
	}
	return finish(dst)
}
