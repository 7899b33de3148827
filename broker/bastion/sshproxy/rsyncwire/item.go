package rsyncwire

import (
	"compress/flate"
	"encoding/binary"
	"io"
)

// Flags of an item.
const (
	basisFollows = 1 << 11
	nameFollows  = 1 << 12
	isNew        = 1 << 13
	localChange  = 1 << 14
	transfer     = 1 << 15
	acl          = 1 << 7
	xattr        = 1 << 8
	attributes   = 1<<0 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | acl | xattr // times, permissions, owner, group
)

// Done is the index of an item that ends a phase, of which there are Phases, and
// removals that of one that says how much was removed, since version 31.
const (
	Done     = -1
	Phases   = 3
	removals = -3
)

// Farewells is how many items of the index Done a side says behind the phases.
func Farewells(version int, sends bool) int {
	n := 1
	if sends {
		n = 0
	}
	if version >= 31 {
		n++
	}
	return n
}

// An Item is what one side says to the other about an entry of the list, by its
// number in the order of [Sort].
type Item struct {
	Index int
	flags int
	basis bool
	alive bool
}

// Item reads one about a list of so many entries, which is asked for only when the
// item is there. At the end of the stream the error is io.EOF.
func (r *Reader) Item(length func() int) (it Item, err error) {
	n, err := r.index()
	if err != nil || n == Done {
		return Item{Index: Done}, err
	}
	if n == removals && r.version >= 31 {
		for range 5 { // files, folders, links, devices, and the rest
			if _, err := r.varint(); err != nil {
				return it, err
			}
		}
		return Item{Index: removals}, nil
	}
	entries := length()
	if n < 0 || int(n) > entries {
		return it, bad("the number %d of %d files", n, entries)
	}
	p, err := r.next(2)
	if err != nil {
		return it, err
	}
	it = Item{Index: int(n), flags: int(binary.LittleEndian.Uint16(p))}
	it.alive = it.Index == entries
	if it.alive && (it.flags != isNew || r.version >= 30) || !it.alive && it.flags == isNew && r.version < 30 {
		return it, bad("the number %d of %d files, with the flags %#x", n, entries, it.flags)
	}
	if it.flags&basisFollows != 0 {
		it.basis = true
		if _, err := r.byte(); err != nil {
			return it, err
		}
	}
	if it.flags&nameFollows != 0 {
		it.basis = true
		err = r.shortText()
	}
	return it, err
}

// shortText reads a text of at most MaxPath bytes, whose length has one byte or two.
func (r *Reader) shortText() error {
	b, err := r.byte()
	n := int(b)
	if err == nil && b&0x80 != 0 {
		b, err = r.byte()
		n = n&^0x80<<8 | int(b)
	}
	if err != nil {
		return err
	}
	if n > MaxPath {
		return bad("a name of %d bytes", n)
	}
	_, err = r.next(n)
	return err
}

// About reports whether the item is about an entry of the list.
func (it Item) About() bool { return it.Index >= 0 && !it.alive }

// Transfers reports whether it is about the content of a file.
func (it Item) Transfers() bool { return it.flags&transfer != 0 }

// Changes reports whether the receiving side says that it has made or changed
// what the entry names, besides its content; made says which.
func (it Item) Changes() (made, changed bool) {
	made = it.flags&localChange != 0
	return made, made || it.flags&attributes != 0
}

// Attributes reports whether extended attributes stand behind the item, which they
// do for programs that copy them; whole is what Traits.Whole says.
func (it Item) Attributes(whole bool) bool {
	linked := it.flags&nameFollows != 0 && it.flags&localChange != 0
	return it.flags&xattr != 0 && (whole || !linked)
}

// Basis reports whether the item names another file to take blocks from.
func (it Item) Basis() bool { return it.basis }

// Blocks reads what a receiving side says of the blocks that it has, and leaves
// them out: what was collected says that it has none. told says that there is a
// checksum for each.
func (r *Reader) Blocks(told bool) error {
	from := len(r.taken)
	count, length, err := r.sums()
	if err != nil {
		return err
	}
	clear(r.taken[from:])
	if !told {
		return nil
	}
	return r.skip(count * length)
}

// NoBlocks reads what a sending side says of the blocks that it has matched with,
// which must be none.
func (r *Reader) NoBlocks() error {
	count, _, err := r.sums()
	if err == nil && count != 0 {
		err = bad("blocks of another file")
	}
	return err
}

// sums reads the number of blocks, and the bytes of the checksums of each.
func (r *Reader) sums() (count, length int64, err error) {
	var head [4]int32
	for i := range head {
		if head[i], err = r.int(); err != nil {
			return 0, 0, err
		}
	}
	if head[0] < 0 || head[0] > maxBlocks || head[1] < 0 || head[2] < 0 || head[2] > maxChecksum || head[3] < 0 || head[3] > head[1] {
		return 0, 0, bad("%d blocks of %d bytes with sums of %d, the last of %d", head[0], head[1], head[2], head[3])
	}
	return int64(head[0]), 4 + int64(head[2]), nil
}

// A Content reads the bytes of one file after the other.
type Content struct {
	r        *Reader
	deflated bool
	checksum int // bytes of the one behind each

	left int // bytes of the part that is being read

	z    io.ReadCloser
	src  tokens
	mark int // bytes of src.held that were decoded when z last gave something
	out  []byte
}

// NewContent returns a Content that reads r. deflated says that the bytes are
// compressed, and checksum how many bytes there are behind each file.
func NewContent(r *Reader, deflated bool, checksum int) *Content {
	c := &Content{r: r, deflated: deflated, checksum: checksum}
	if deflated {
		c.src.r, c.out = r, make([]byte, buffered)
		c.z = flate.NewReader(&c.src)
	}
	return c
}

// Begin begins with a file.
func (c *Content) Begin() error {
	c.left = 0
	if !c.deflated {
		return nil
	}
	c.mark = 0
	c.src.begin()
	return c.z.(flate.Resetter).Reset(&c.src, nil)
}

// Next returns bytes of the file, and the bytes of the stream that they stand in,
// or some before them; both are valid until the next call. At the end of the file
// the error is io.EOF, and the bytes of the stream are those that say so.
func (c *Content) Next() (file, stream []byte, err error) {
	if c.deflated {
		return c.inflate()
	}
	c.r.Reset()
	if c.left == 0 {
		n, err := c.r.int()
		switch {
		case err != nil:
			return nil, nil, err
		case n < 0:
			return nil, nil, bad("a block of another file")
		case n == 0:
			err := c.end()
			return nil, c.r.Taken(), err
		}
		c.left = int(n)
	}
	p, err := c.r.some(c.left)
	c.left -= len(p)
	return p, c.r.Taken(), err
}

// end reads the checksum behind a file.
func (c *Content) end() error {
	_, err := c.r.next(c.checksum)
	if err == nil {
		err = io.EOF
	}
	return err
}

// inflate gives what came compressed. The decoder holds back some of what it has
// read, so that the stream is given one step behind it: then all of it has been
// seen.
func (c *Content) inflate() (file, stream []byte, err error) {
	c.src.held = append(c.src.held[:0], c.src.held[c.mark:]...)
	c.mark = len(c.src.held)
	n, err := c.z.Read(c.out)
	if n > 0 && (err == nil || err == io.EOF) {
		stream = c.src.held[:c.mark]
		return c.out[:n], stream, nil
	}
	if c.src.err != nil {
		return nil, nil, c.src.err
	}
	if !c.src.ended || len(c.src.tail) > 0 || err != io.EOF && c.src.some {
		return nil, nil, bad("compressed bytes that are none")
	}
	c.r.Reset()
	if err := c.end(); err != io.EOF {
		return nil, nil, err
	}
	stream = append(c.src.held, c.r.Taken()...)
	c.src.held, c.mark = stream, len(stream)
	return nil, stream, io.EOF
}

// The flags of compressed parts.
const (
	endFlag      = 0x00
	deflatedFlag = 0x40
	flagMask     = 0xc0
)

// tail is what a sender leaves out at the end of a file: the rest of an empty
// block. The last, empty block behind it makes the decoder end only when it is
// between two blocks.
const tail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// tokens gives the compressed bytes of a file, without what stands between.
type tokens struct {
	r     *Reader
	held  []byte // of the stream, as far as it was given
	left  int    // bytes of the part that is being read
	some  bool
	ended bool
	tail  string // what is still to be given after the end
	err   error
}

func (t *tokens) begin() {
	*t = tokens{r: t.r, held: t.held[:0]}
}

// ReadByte gives the next byte.
func (t *tokens) ReadByte() (byte, error) {
	for t.left == 0 {
		if t.ended {
			if t.tail == "" {
				return 0, io.EOF
			}
			b := t.tail[0]
			t.tail = t.tail[1:]
			return b, nil
		}
		if t.err = t.part(); t.err != nil {
			return 0, t.err
		}
	}
	if t.err = t.r.fill(1); t.err != nil {
		return 0, t.err
	}
	b := t.r.buf[t.r.r]
	t.r.r++
	t.left--
	t.held = append(t.held, b)
	return b, nil
}

// Read gives one byte.
func (t *tokens) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := t.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

// part reads what stands before a part.
func (t *tokens) part() error {
	t.r.Reset()
	flag, err := t.r.byte()
	switch {
	case err != nil:
		return err
	case flag == endFlag:
		t.ended = true
		if t.some {
			t.tail = tail
		}
	case flag&flagMask == deflatedFlag:
		low, err := t.r.byte()
		if err != nil {
			return err
		}
		t.some, t.left = true, int(flag&^flagMask)<<8|int(low)
	default:
		return bad("a block of another file")
	}
	t.held = append(t.held, t.r.Taken()...)
	return nil
}
