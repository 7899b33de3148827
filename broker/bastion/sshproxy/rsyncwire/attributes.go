package rsyncwire

import "bytes"

// Limits of what goes with a file besides its content.
const (
	MaxAttributes = 1 << 20 // bytes of all extended attributes of a file
	maxAttributes = 1 << 10 // extended attributes of a file
	maxLabel      = 512     // bytes of the name of one
	maxLabels     = 1 << 10 // bytes of all names of a file that are kept; more are left out
	maxShort      = 32      // bytes of a value that stands in the list; of a longer one there is a checksum
	maxACLNames   = 1 << 12 // users and groups of an access control list
	maxACLTotal   = 1 << 20 // of all lists
)

// Parts of an access control list: the classes of which it says something, and
// whether users and groups are named.
const (
	aclClasses = 1<<4 - 1
	aclNames   = 1 << 4
	aclRights  = 1<<3 - 1 // of a class
	aclIsUser  = 1 << 1   // below the rights of who is named, which are shifted by two
)

// acls reads the access control lists of an entry. Each is one that is told here,
// or the number of an earlier one.
func (l *List) acls(e *Entry) error {
	if !l.o.ACLs || e.IsLink() {
		return nil
	}
	if err := l.acl(e, &l.access); err != nil || !e.IsDir() {
		return err
	}
	return l.acl(e, &l.defaults)
}

// acl reads one list; told says which of those before give rights to users or
// groups by name.
func (l *List) acl(e *Entry, told *[]bool) error {
	n, err := l.r.varint()
	switch {
	case err != nil:
		return err
	case n < 0 || int(n) > len(*told):
		return bad("%q has the access control list %d of %d", clip(e.Name), n, len(*told))
	case n > 0:
		e.ACL = e.ACL || (*told)[n-1]
		return nil
	}
	parts, err := l.r.byte()
	if err != nil {
		return err
	}
	if parts&^(aclClasses|aclNames) != 0 {
		return bad("%q has an access control list of the parts %#x", clip(e.Name), parts)
	}
	for part := byte(1); part&aclClasses != 0; part <<= 1 {
		if parts&part == 0 {
			continue
		}
		if rights, err := l.r.varint(); err != nil || rights&^aclRights != 0 {
			return orBad(err, "%q has an access control list with the rights %#x", clip(e.Name), rights)
		}
	}
	named := parts&aclNames != 0
	if named {
		if err := l.aclNames(e); err != nil {
			return err
		}
	}
	*told = append(*told, named)
	e.ACL = e.ACL || named
	return nil
}

func (l *List) aclNames(e *Entry) error {
	n, err := l.r.varint()
	if err != nil {
		return err
	}
	if n <= 0 || n > maxACLNames {
		return bad("%q has an access control list of %d users and groups", clip(e.Name), n)
	}
	if l.aclTotal += int(n); l.aclTotal > maxACLTotal {
		return bad("access control lists of more than %d users and groups", maxACLTotal)
	}
	for range n {
		if _, err := l.r.varint(); err != nil { // who
			return err
		}
		if rights, err := l.r.varint(); err != nil || rights&^(aclRights<<2|aclIsUser) != 0 {
			return orBad(err, "%q has an access control list with the rights %#x", clip(e.Name), rights)
		}
	}
	return nil
}

// orBad is err, and without one an error about the protocol.
func orBad(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return bad(format, args...)
}

// An attributeList is the extended attributes of one file or more.
type attributeList struct {
	labels string // their names, with a blank between, as far as they are kept
	bytes  int64  // of their values
	raw    []byte // as it was told; only when it may have to be told again
	said   int    // its number for who gets the list; 0: it was not told yet
}

// attributes reads the extended attributes of an entry: such that are told here,
// or the number of those of an earlier one.
func (l *List) attributes(e *Entry) error {
	if !l.o.Xattrs {
		return nil
	}
	l.attributesAt = len(l.r.taken)
	n, err := l.r.varint()
	switch {
	case err != nil:
		return err
	case n < 0 || int(n) > len(l.attributeLists):
		return bad("%q has the extended attributes %d of %d", clip(e.Name), n, len(l.attributeLists))
	case n == 0:
		from := len(l.r.taken)
		var list attributeList
		if err := l.attributeList(e, &list); err != nil {
			return err
		}
		if l.o.Hides {
			list.raw = bytes.Clone(l.r.taken[from:])
		}
		l.attributeLists = append(l.attributeLists, list)
		n = int32(len(l.attributeLists))
	}
	l.attributesOf = int(n) - 1
	list := &l.attributeLists[l.attributesOf]
	e.Attributes, e.AttributeBytes = list.labels, list.bytes
	return nil
}

func (l *List) attributeList(e *Entry, list *attributeList) error {
	count, err := l.r.varint()
	if err != nil {
		return err
	}
	if count < 0 || count > maxAttributes {
		return bad("%q has %d extended attributes", clip(e.Name), count)
	}
	var labels []byte
	for range count {
		length, err := l.r.varint()
		if err != nil {
			return err
		}
		size, err := l.r.varint()
		if err != nil {
			return err
		}
		if list.bytes += int64(size); length < 2 || length > maxLabel || size < 0 || list.bytes > MaxAttributes {
			return bad("%q has an extended attribute of %d bytes, with a name of %d", clip(e.Name), size, length)
		}
		label, err := l.r.next(int(length))
		if err != nil {
			return err
		}
		if bytes.IndexByte(label, 0) != len(label)-1 {
			return bad("%q has an extended attribute with a zero byte in its name", clip(e.Name))
		}
		if len(labels)+len(label) <= maxLabels {
			if len(labels) > 0 {
				labels = append(labels, ' ')
			}
			labels = append(labels, label[:len(label)-1]...)
		}
		if size > maxShort {
			size = checksumLength
		}
		if l.names += int(length + size); l.names > MaxNames {
			return bad("names of more than %d bytes", MaxNames)
		}
		if _, err := l.r.next(int(size)); err != nil {
			return err
		}
	}
	list.labels = string(labels)
	return nil
}

// ShowAttributes says, of a list that was read with Options.Hides, whether who
// gets it is told the extended attributes of the entry that was read last. It must
// be called for each entry, because those of later ones are numbers of those that
// were told before.
func (l *List) ShowAttributes(show bool) {
	if !l.o.Xattrs {
		return
	}
	list := &l.hidden
	if show {
		list = &l.attributeLists[l.attributesOf]
	}
	b := appendVarint(l.r.taken[:l.attributesAt], list.said)
	if list.said == 0 {
		l.attributesSaid++
		list.said = l.attributesSaid
		b = append(b, list.raw...)
	}
	l.r.taken = b
}

// Wants reads the numbers of those extended attributes of an entry that a
// receiving side wants to have whole, and reports whether there are any.
func (r *Reader) Wants() (some bool, err error) {
	for range maxAttributes + 1 {
		n, err := r.varint()
		if err != nil || n == 0 {
			return some, err
		}
		some = true
	}
	return false, bad("more than %d extended attributes are wanted", maxAttributes)
}

// Values reads the extended attributes that a sending side gives whole, and
// returns how many bytes they have.
func (r *Reader) Values() (size int64, err error) {
	for range maxAttributes + 1 {
		n, err := r.varint()
		if err != nil || n == 0 {
			return size, err
		}
		length, err := r.varint()
		if err != nil {
			return size, err
		}
		if size += int64(length); length < 0 || size > MaxAttributes {
			return size, bad("extended attributes of more than %d bytes", MaxAttributes)
		}
		for left := int(length); left > 0; {
			p, err := r.some(left)
			if err != nil {
				return size, err
			}
			left -= len(p)
		}
	}
	return size, bad("more than %d extended attributes", maxAttributes)
}
