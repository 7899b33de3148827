package sftpwire

import "encoding/binary"

// A Request is a packet of a client but for Init; section 6. Which fields are
// used depends on the type.
type Request struct {
	Type      Type
	ID        uint32
	Extension string // of Extended
	Path      string // the first path; the content of SymLink, as OpenSSH sends it
	To        string // the second path; where SymLink puts the link
	Handle    string
	Flags     uint32 // of Open
	Offset    uint64 // of Read, Write
	Length    uint32 // of Read
	Data      []byte // of Write; part of the packet
	Attrs     []byte // as they are on the wire; part of the packet
	Size      uint64 // of Attrs
	Sized     bool   // Attrs has a Size
	Users     []byte // of UsersGroups, as on the wire; part of the packet
	Groups    []byte
}

// ParseRequest reads a packet of a client that Reader.Next returned. An
// extension that is not understood gives a Request with its name and nothing
// else, which cannot be written.
func ParseRequest(packet []byte) (Request, error) {
	p := &parser{rest: packet[5:]}
	r := Request{Type: TypeOf(packet), ID: p.uint32()}
	switch r.Type {
	case Open:
		r.Path, r.Flags = p.path(), p.uint32()
		r.Attrs, r.Size, r.Sized = p.attrs()
		if r.Flags&^flagsKnown != 0 {
			p.fail("an open with the flags %#x", r.Flags)
		}
	case Close, FStat, ReadDir:
		r.Handle = p.string(MaxHandle)
	case Read:
		r.Handle, r.Offset, r.Length = p.string(MaxHandle), p.uint64(), p.uint32()
	case Write:
		r.Handle, r.Offset, r.Data = p.string(MaxHandle), p.uint64(), p.bytes(MaxPacket)
	case LStat, OpenDir, Remove, RmDir, RealPath, Stat, ReadLink:
		r.Path = p.path()
	case SetStat, MkDir:
		r.Path = p.path()
		r.Attrs, r.Size, r.Sized = p.attrs()
	case FSetStat:
		r.Handle = p.string(MaxHandle)
		r.Attrs, r.Size, r.Sized = p.attrs()
	case Rename, SymLink:
		r.Path, r.To = p.path(), p.path()
	case Extended:
		r.Extension = p.string(maxName)
		if !r.extended(p) {
			return r, p.err
		}
	default:
		return r, bad("a request of %v", r.Type)
	}
	return r, p.end()
}

// extended reads the rest of an Extended; it reports whether the extension is
// understood.
func (r *Request) extended(p *parser) bool {
	switch r.Extension {
	case PosixRename, HardLink:
		r.Path, r.To = p.path(), p.path()
	case StatVFS, ExpandPath, HomeDirectory:
		r.Path = p.path()
	case FStatVFS, FSync:
		r.Handle = p.string(MaxHandle)
	case LSetStat:
		r.Path = p.path()
		r.Attrs, r.Size, r.Sized = p.attrs()
	case LimitsOf:
	case UsersGroups:
		r.Users, r.Groups = p.bytes(MaxPacket), p.bytes(MaxPacket)
	default:
		return false
	}
	return true
}

// Known reports whether the request is understood: any but an Extended of
// another extension.
func (r Request) Known() bool {
	return r.Type != Extended || r.extended(&parser{err: ErrPacket})
}

// Append appends the packet of a request that is Known to dst, which must be
// empty.
func (r Request) Append(dst []byte) []byte {
	dst = begin(dst, r.Type)
	dst = binary.BigEndian.AppendUint32(dst, r.ID)
	kind := r.Type.String()
	if r.Type == Extended {
		dst = appendString(dst, r.Extension)
		kind = r.Extension
	}
	switch kind {
	case Open.String():
		dst = appendString(dst, r.Path)
		dst = binary.BigEndian.AppendUint32(dst, r.Flags)
		dst = append(dst, r.Attrs...)
	case Close.String(), FStat.String(), ReadDir.String(), FStatVFS, FSync:
		dst = appendString(dst, r.Handle)
	case Read.String():
		dst = appendString(dst, r.Handle)
		dst = binary.BigEndian.AppendUint64(dst, r.Offset)
		dst = binary.BigEndian.AppendUint32(dst, r.Length)
	case Write.String():
		dst = appendString(dst, r.Handle)
		dst = binary.BigEndian.AppendUint64(dst, r.Offset)
		dst = appendString(dst, r.Data)
	case SetStat.String(), MkDir.String(), LSetStat:
		dst = appendString(dst, r.Path)
		dst = append(dst, r.Attrs...)
	case FSetStat.String():
		dst = appendString(dst, r.Handle)
		dst = append(dst, r.Attrs...)
	case Rename.String(), SymLink.String(), PosixRename, HardLink:
		dst = appendString(dst, r.Path)
		dst = appendString(dst, r.To)
	case LimitsOf:
	case UsersGroups:
		dst = appendString(dst, r.Users)
		dst = appendString(dst, r.Groups)
	default: // with a path alone
		dst = appendString(dst, r.Path)
	}
	return finish(dst)
}

// String names what is asked for.
func (r Request) String() string {
	if r.Type == Extended {
		return r.Extension
	}
	return r.Type.String()
}
