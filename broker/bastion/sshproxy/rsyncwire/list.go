package rsyncwire

import (
	"path"
	"slices"
	"strings"
)

// Options are those of the two programs that change what their lists hold.
type Options struct {
	Owners, Groups, Devices, Links, HardLinks, Checksums, NumericIDs bool

	ACLs, Xattrs bool // access control lists, extended attributes; since version 30
	AccessTimes  bool
	Relative     bool // names may begin with a slash, which counts for nothing
	Checksum     int  // bytes of a checksum in the list
	Hides        bool // List.ShowAttributes is called for each entry
}

// The bits that stand before an entry. What some of them mean depends on the
// version.
const (
	sameMode   = 1 << 1
	moreFlags  = 1 << 2
	sameOwner  = 1 << 3
	sameGroup  = 1 << 4
	sameName   = 1 << 5
	longName   = 1 << 6
	sameTime   = 1 << 7
	sameMajor  = 1 << 8 // of a device; of a folder, since version 30, that nothing below it is told
	hardLinked = 1 << 9
	sameDevice = 1 << 10 // version 29
	smallMinor = 1 << 11 // version 29
	firstLink  = 1 << 12 // since version 30
	nanosecond = 1 << 13 // since version 31
	sameAccess = 1 << 14

	// endFlags is what a list ends with of which something could not be read.
	endFlags = moreFlags | firstLink
)

// flagsOf are the bits that a version has.
func (r *Reader) flagsOf() int {
	switch r.version {
	case 29:
		return 0x0fff
	case 30:
		return 0x13ff
	default:
		return 0x33ff
	}
}

// The types of files in a mode.
const (
	typeMask = 0o170000
	folder   = 0o040000
	regular  = 0o100000
	link     = 0o120000
	block    = 0o060000
	char     = 0o020000
	fifo     = 0o010000
	socket   = 0o140000
)

// checksumLength is that of MD4 and MD5, in bytes, and maxChecksum that of the
// longest one.
const (
	checksumLength = 16
	maxChecksum    = 64
)

// ChecksumLength is that of a checksum, in bytes, by the name that rsync gives it.
func ChecksumLength(name string) (int, bool) {
	switch name {
	case "md4", "md5", "xxh128":
		return checksumLength, true
	case "xxh64", "xxhash", "xxh3":
		return 8, true
	case "sha1":
		return 20, true
	case "none":
		return 1, true
	default:
		return 0, false
	}
}

// An Entry is one of a list.
type Entry struct {
	Name   string // clean, and not outside of where the list begins
	Link   string // where a symbolic link leads
	Size   int64
	Hard   bool  // it has other names
	Device int64 // tells it from others with the same Inode
	Inode  int64

	ACL            bool   // users or groups are given rights by name
	Attributes     string // names of its extended attributes, with a blank between; 1 KiB at most
	AttributeBytes int64  // bytes of their values

	mode uint32
}

// IsDir, IsRegular, IsLink and IsDevice say what the entry is.
func (e *Entry) IsDir() bool { return e.mode&typeMask == folder }

// IsRegular reports whether it is a file with content.
func (e *Entry) IsRegular() bool { return e.mode&typeMask == regular }

// IsLink reports whether it is a symbolic link.
func (e *Entry) IsLink() bool { return e.mode&typeMask == link }

// IsDevice reports whether it is a device.
func (e *Entry) IsDevice() bool { return e.mode&typeMask == block || e.mode&typeMask == char }

func (e *Entry) isSpecial() bool { return e.mode&typeMask == fifo || e.mode&typeMask == socket }

// A List reads the list of files that a sending side begins with.
type List struct {
	r        *Reader
	o        Options
	last     string
	mode     uint32
	device   int64
	count    int
	names    int
	checksum int  // where that of the last entry is, in what was taken; 0: it has none
	rooted   bool // its name began with a slash

	links map[int32]*Entry // those that later ones may refer to, by their numbers

	access, defaults []bool // of the access control lists: somebody is named
	aclTotal         int

	attributeLists []attributeList
	attributesAt   int           // where those of the last entry are, in what was taken
	attributesOf   int           // which they are
	attributesSaid int           // how many who gets the list was told
	hidden         attributeList // none
}

// NewList returns a List that reads r.
func NewList(r *Reader, o Options) *List {
	return &List{r: r, o: o, links: map[int32]*Entry{}, hidden: attributeList{raw: []byte{0}}}
}

// Next reads an entry. It is nil after the last one.
func (l *List) Next() (*Entry, error) {
	flags, err := l.flags()
	if err != nil || flags == 0 {
		return nil, err
	}
	if l.count++; l.count > MaxEntries {
		return nil, bad("more than %d files at once", MaxEntries)
	}
	var e Entry
	if e.Name, err = l.name(flags); err != nil {
		return nil, err
	}
	l.checksum = 0
	repeated, err := l.repeats(&e, flags)
	if err == nil && !repeated {
		err = l.inode(&e, flags)
	}
	if err == nil && e.Hard && e.IsDir() {
		err = bad("%q is a folder with hard links", clip(e.Name))
	}
	if err == nil {
		err = l.acls(&e)
	}
	if err == nil {
		err = l.attributes(&e)
	}
	return &e, err
}

// repeats takes what an entry has in common with one before of which it is a hard
// link, if it says so.
func (l *List) repeats(e *Entry, flags int) (bool, error) {
	if l.r.version < 30 || flags&hardLinked == 0 {
		return false, nil
	}
	if !l.o.HardLinks {
		return false, bad("%q has hard links that were not asked for", clip(e.Name))
	}
	number := int32(l.count - 1)
	e.Hard, e.Inode = true, int64(number)
	if flags&firstLink != 0 {
		l.links[number] = e
		return false, nil
	}
	n, err := l.r.varint()
	if err != nil {
		return false, err
	}
	of, ok := l.links[n]
	if !ok {
		return false, bad("%q is a hard link of the entry %d", clip(e.Name), n)
	}
	e.Size, e.mode, e.Link, e.Inode = of.Size, of.mode, of.Link, of.Inode
	l.mode = e.mode
	return true, nil
}

// inode reads what an entry says of a file besides its name.
func (l *List) inode(e *Entry, flags int) (err error) {
	if e.Size, err = l.r.size(); err != nil {
		return err
	}
	if err := l.times(flags); err != nil {
		return err
	}
	if flags&sameMode == 0 {
		mode, err := l.r.int()
		if err != nil {
			return err
		}
		l.mode = uint32(mode)
	}
	e.mode = l.mode
	if err := l.check(e); err != nil {
		return err
	}
	if l.o.AccessTimes && !e.IsDir() && flags&sameAccess == 0 {
		if _, err := l.r.varlong(4); err != nil {
			return err
		}
	}
	if err := l.owner(flags); err != nil {
		return err
	}
	if l.o.Devices && (e.IsDevice() || e.isSpecial() && l.r.version < 31) {
		if err := l.numbers(flags); err != nil {
			return err
		}
	}
	if l.o.Links && e.IsLink() {
		n, err := l.r.number()
		if err != nil {
			return err
		}
		if n <= 0 || n > MaxPath {
			return bad("a link to a path of %d bytes", n)
		}
		if e.Link, err = l.text(int(n)); err != nil {
			return err
		}
	}
	if l.r.version < 30 {
		if err := l.hard(e, flags); err != nil {
			return err
		}
	}
	if l.o.Checksums && e.IsRegular() {
		l.checksum = len(l.r.taken)
		_, err = l.r.next(l.o.Checksum)
	}
	return err
}

// times reads when a file was changed.
func (l *List) times(flags int) (err error) {
	if flags&sameTime == 0 {
		if l.r.version < 30 {
			_, err = l.r.int()
		} else {
			_, err = l.r.varlong(4)
		}
	}
	if err == nil && flags&nanosecond != 0 {
		var n int32
		if n, err = l.r.varint(); err == nil && (n < 0 || n >= 1e9) {
			err = bad("a time with %d nanoseconds", n)
		}
	}
	return err
}

// HideChecksum makes the checksum of the entry that was read last be of nothing.
func (l *List) HideChecksum() {
	if l.checksum > 0 {
		clear(l.r.taken[l.checksum:][:l.o.Checksum])
	}
}

func (l *List) flags() (int, error) {
	b, err := l.r.byte()
	flags := int(b)
	if err == nil && flags&moreFlags != 0 {
		b, err = l.r.byte()
		flags |= int(b) << 8
	}
	if err != nil || flags == 0 {
		return 0, err
	}
	if flags == endFlags && l.r.version >= 30 {
		_, err := l.r.varint()
		return 0, err
	}
	known := l.r.flagsOf()
	if l.o.AccessTimes {
		known |= sameAccess
	}
	if flags&^known != 0 || l.r.version >= 30 && flags&firstLink != 0 && flags&hardLinked == 0 {
		return 0, bad("an entry with the flags %#x", flags)
	}
	return flags, nil
}

func (l *List) text(n int) (string, error) {
	if l.names += n; l.names > MaxNames {
		return "", bad("names of more than %d bytes", MaxNames)
	}
	p, err := l.r.next(n)
	if err == nil && slices.Contains(p, 0) {
		err = bad("a name with a zero byte")
	}
	return string(p), err
}

func (l *List) name(flags int) (string, error) {
	var same byte
	var err error
	if flags&sameName != 0 {
		if same, err = l.r.byte(); err != nil {
			return "", err
		}
	}
	var n int32
	if flags&longName != 0 {
		n, err = l.r.number()
	} else {
		var b byte
		b, err = l.r.byte()
		n = int32(b)
	}
	switch {
	case err != nil:
		return "", err
	case int(same) > len(l.last) || n < 0 || n > MaxPath-int32(same):
		return "", bad("a name of %d bytes after %d", n, same)
	}
	rest, err := l.text(int(n))
	if err != nil {
		return "", err
	}
	if l.names += int(same); l.names > MaxNames {
		return "", bad("names of more than %d bytes", MaxNames)
	}
	l.last = l.last[:same] + rest
	name, rooted := strings.CutPrefix(l.last, "/")
	if name == "" || name[0] == '/' || path.Clean(name) != name || name == ".." || strings.HasPrefix(name, "../") || rooted && !l.o.Relative {
		return "", bad("the name %q leads elsewhere", clip(l.last))
	}
	// The order of a list is that of the names as they are sent.
	if l.count > 1 && rooted != l.rooted {
		return "", bad("some names begin with a slash and some do not")
	}
	l.rooted = rooted
	return name, nil
}

// clip shortens what is shown of a name.
func clip(s string) string { return s[:min(len(s), 256)] }

func (l *List) check(e *Entry) error {
	if e.Size < 0 {
		return bad("%q has %d bytes", clip(e.Name), e.Size)
	}
	if e.IsDir() || e.IsRegular() || e.IsLink() || e.IsDevice() || e.isSpecial() {
		return nil
	}
	return bad("%q has the mode %#o", clip(e.Name), e.mode)
}

func (l *List) owner(flags int) error {
	if l.o.Owners && flags&sameOwner == 0 {
		if _, err := l.r.number(); err != nil {
			return err
		}
	}
	if l.o.Groups && flags&sameGroup == 0 {
		if _, err := l.r.number(); err != nil {
			return err
		}
	}
	return nil
}

// numbers reads those of a device.
func (l *List) numbers(flags int) error {
	if flags&sameMajor == 0 {
		if _, err := l.r.number(); err != nil {
			return err
		}
	}
	if l.r.version < 30 && flags&smallMinor != 0 {
		_, err := l.r.byte()
		return err
	}
	_, err := l.r.number()
	return err
}

// hard reads what tells hard links of the same file in version 29.
func (l *List) hard(e *Entry, flags int) (err error) {
	if flags&hardLinked == 0 {
		return nil
	}
	if !l.o.HardLinks {
		return bad("%q has hard links that were not asked for", clip(e.Name))
	}
	if flags&sameDevice == 0 {
		if l.device, err = l.r.long(); err != nil {
			return err
		}
	}
	e.Hard, e.Device = true, l.device
	e.Inode, err = l.r.long()
	return err
}

// Tail reads what follows the last entry: the names of users and groups, and
// whether something could not be read.
func (l *List) Tail() error {
	for _, named := range []bool{l.o.Owners, l.o.Groups} {
		if !named && !l.o.ACLs || l.o.NumericIDs {
			continue
		}
		if err := l.ids(); err != nil {
			return err
		}
	}
	if l.r.version >= 30 {
		return nil
	}
	_, err := l.r.int()
	return err
}

func (l *List) ids() error {
	for range maxIDs {
		id, err := l.r.number()
		if err != nil || id == 0 {
			return err
		}
		n, err := l.r.byte()
		if err != nil {
			return err
		}
		if _, err := l.r.next(int(n)); err != nil {
			return err
		}
	}
	return bad("more than %d users or groups", maxIDs)
}

// Sort brings a list into the order in which both sides number its entries.
func Sort(list []*Entry) { slices.SortStableFunc(list, Compare) }

// Compare says which of two entries has the lower number: in a folder itself,
// then files by their names, then folders by theirs with a slash behind, each
// with what is in it.
func Compare(a, b *Entry) int {
	x, y := a.Name, b.Name
	for {
		i, j := strings.IndexByte(x, '/'), strings.IndexByte(y, '/')
		inX, inY := i >= 0 || a.IsDir(), j >= 0 || b.IsDir()
		headX, headY := head(x, i), head(y, j)
		if i < 0 && inX && headX == "." {
			headX, inX = "", false
		}
		if j < 0 && inY && headY == "." {
			headY, inY = "", false
		}
		switch {
		case inX != inY && inX:
			return 1
		case inX != inY:
			return -1
		case headX != headY && inX:
			return slashed(headX, headY)
		case headX != headY:
			return strings.Compare(headX, headY)
		case i < 0 && j < 0:
			return 0
		case i < 0:
			return -1
		case j < 0:
			return 1
		}
		x, y = x[i+1:], y[j+1:]
	}
}

func head(name string, slash int) string {
	if slash < 0 {
		return name
	}
	return name[:slash]
}

// slashed compares two different names with a slash behind each.
func slashed(x, y string) int {
	n := min(len(x), len(y))
	if c := strings.Compare(x[:n], y[:n]); c != 0 {
		return c
	}
	at := func(s string) int {
		if len(s) == n {
			return '/'
		}
		return int(s[n])
	}
	if at(x) < at(y) {
		return -1
	}
	return 1
}
