package bundle

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The archive is a zip of which every byte is determined by the packed files:
// no times, no comments, no extra fields, no gaps, one order. A reader rebuilds
// the directory and compares, so that there is no second way to read the file,
// and unzip shows what Verify has checked.
const (
	localSign, centralSign, endSign = 0x04034b50, 0x02014b50, 0x06054b50

	zipVersion = 20
	zipUTF8    = 1 << 11
	zipDate    = 1<<5 | 1 // 1980-01-01, the first day there is
	stored     = 0
	deflated   = 8
	localSize  = 30
)

// An entry is one packed file.
type entry struct {
	name         string
	method       uint16
	crc          uint32
	packed, size uint32
	offset       uint32 // of its header
}

func (e *entry) common() []byte {
	b := binary.LittleEndian.AppendUint16(nil, zipVersion)
	b = binary.LittleEndian.AppendUint16(b, zipUTF8)
	b = binary.LittleEndian.AppendUint16(b, e.method)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint16(b, zipDate)
	b = binary.LittleEndian.AppendUint32(b, e.crc)
	b = binary.LittleEndian.AppendUint32(b, e.packed)
	b = binary.LittleEndian.AppendUint32(b, e.size)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(e.name)))
	return binary.LittleEndian.AppendUint16(b, 0) // no extra field
}

// header is what stands before the packed bytes.
func (e *entry) header() []byte {
	b := binary.LittleEndian.AppendUint32(nil, localSign)
	return append(append(b, e.common()...), e.name...)
}

// directory is what follows the last file.
func directory(entries []entry, offset uint32) []byte {
	var b []byte
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint32(b, centralSign)
		b = binary.LittleEndian.AppendUint16(b, zipVersion)
		b = append(b, e.common()...)
		b = append(b, make([]byte, 10)...) // comment, disk, attributes
		b = binary.LittleEndian.AppendUint32(b, e.offset)
		b = append(b, e.name...)
	}
	size := uint32(len(b))
	b = binary.LittleEndian.AppendUint32(b, endSign)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(entries)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(entries)))
	b = binary.LittleEndian.AppendUint32(b, size)
	b = binary.LittleEndian.AppendUint32(b, offset)
	return binary.LittleEndian.AppendUint16(b, 0)
}

// An archive writes the zip.
type archive struct {
	w       io.Writer
	offset  int64
	entries []entry
}

func newArchive(w io.Writer) *archive { return &archive{w: w} }

func (a *archive) write(b []byte) error {
	n, err := a.w.Write(b)
	a.offset += int64(n)
	return err
}

// Write implements io.Writer.
func (a *archive) Write(b []byte) (int, error) {
	if err := a.write(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// add packs a file. One that is large even then is opened and packed twice: its
// sizes stand before its bytes, and nothing decrypted is to lie on a disk meanwhile.
func (a *archive) add(f limit, open func() (io.ReadCloser, error)) (File, error) {
	e := entry{name: f.name, method: deflated, offset: uint32(a.offset)}
	kept := &capped{most: maxInline}
	packed := &counted{w: kept}
	made, crc, err := pack(packed, f, deflated, open)
	if err != nil {
		return made, err
	}
	if packed.n >= made.Size {
		e.method, packed.n = stored, made.Size
	}
	e.crc, e.packed, e.size = crc, uint32(packed.n), uint32(made.Size)
	if a.offset+packed.n > 4<<30-1<<20 {
		return made, errors.New("the archive would have more than 4 GiB")
	}
	if err := a.write(e.header()); err != nil {
		return made, err
	}
	if b := kept.bytes(); b != nil && e.method == deflated {
		a.entries = append(a.entries, e)
		return made, a.write(b)
	}
	from := a.offset
	again, _, err := pack(a, f, e.method, open)
	if err != nil {
		return made, err
	}
	if again != made || a.offset-from != packed.n {
		return made, fmt.Errorf("%s changed while it was read", f.name)
	}
	a.entries = append(a.entries, e)
	return made, nil
}

func (a *archive) close() error { return a.write(directory(a.entries, uint32(a.offset))) }

type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// pack packs the file into w, and says what it was.
func pack(w io.Writer, f limit, method uint16, open func() (io.ReadCloser, error)) (File, uint32, error) {
	r, err := open()
	if err != nil {
		return File{}, 0, fmt.Errorf("%s: %w", f.name, err)
	}
	defer r.Close()
	z := io.WriteCloser(keepOpen{w})
	if method == deflated {
		if z, err = flate.NewWriter(w, flate.BestSpeed); err != nil {
			return File{}, 0, err
		}
	}
	h, c := sha256.New(), crc32.NewIEEE()
	n, err := io.Copy(io.MultiWriter(h, c, z), io.LimitReader(r, f.most+1))
	if err == nil {
		err = z.Close()
	}
	if err == nil && n > f.most {
		err = fmt.Errorf("more than %d bytes", f.most)
	}
	if err != nil {
		return File{}, 0, fmt.Errorf("%s: %w", f.name, err)
	}
	return File{f.name, n, [32]byte(h.Sum(nil))}, c.Sum32(), nil
}

type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// packed is an archive that was read.
type packed struct {
	r       io.ReaderAt
	entries []entry
}

// A shapeError says that a file is not a bundle as Write makes it.
type shapeError struct{ text string }

func (e *shapeError) Error() string { return e.text }

func shape(format string, args ...any) error { return &shapeError{fmt.Sprintf(format, args...)} }

// readArchive reads the headers and the directory. It takes only what an archive
// writes, and holds no content.
func readArchive(r io.ReaderAt, size int64) (*packed, error) {
	if size >= 4<<30 {
		return nil, shape("the archive has %d bytes: no evidence has so many", size)
	}
	p := &packed{r: r}
	offset := int64(0)
	for _, f := range files() {
		head := make([]byte, localSize)
		if err := readAt(r, head, offset); err != nil {
			return nil, err
		}
		if binary.LittleEndian.Uint32(head) != localSign {
			if offset > 0 && binary.LittleEndian.Uint32(head) == centralSign {
				return nil, shape("the file %s is missing", f.name)
			}
			return nil, shape("at byte %d no file begins: this is no evidence, or it was packed anew", offset)
		}
		name := make([]byte, min(binary.LittleEndian.Uint16(head[26:]), 256))
		if err := readAt(r, name, offset+localSize); err != nil {
			return nil, err
		}
		if string(name) != f.name {
			return nil, shape("the file %q stands where %s belongs: a file was added, removed or moved", name, f.name)
		}
		e := entry{
			name: f.name, offset: uint32(offset), method: binary.LittleEndian.Uint16(head[8:]), crc: binary.LittleEndian.Uint32(head[14:]),
			packed: binary.LittleEndian.Uint32(head[18:]), size: binary.LittleEndian.Uint32(head[22:]),
		}
		if !bytes.Equal(e.header(), append(head, name...)) || e.method != stored && e.method != deflated || e.method == stored && e.packed != e.size {
			return nil, shape("%s is packed in another way than drawbolt packs: the archive was packed anew or changed", f.name)
		}
		if int64(e.size) > f.most {
			return nil, shape("%s has %d bytes, at most %d", f.name, e.size, f.most)
		}
		p.entries = append(p.entries, e)
		offset += localSize + int64(len(name)) + int64(e.packed)
	}
	want := directory(p.entries, uint32(offset))
	got := make([]byte, len(want))
	if err := readAt(r, got[:min(4, len(got))], offset); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(got) == localSign {
		return nil, shape("a file follows %s that does not belong to the evidence", filePage)
	}
	if err := readAt(r, got, offset); err != nil {
		return nil, err
	}
	if !bytes.Equal(got, want) {
		return nil, shape("the directory of the archive does not say what is in it")
	}
	if size != offset+int64(len(want)) {
		return nil, shape("%d bytes follow the archive", size-offset-int64(len(want)))
	}
	return p, nil
}

func readAt(r io.ReaderAt, b []byte, offset int64) error {
	n, err := r.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return shape("the archive is cut off")
	}
	return fmt.Errorf("read the archive: %w", err)
}

func (p *packed) find(name string) *entry {
	for i := range p.entries {
		if p.entries[i].name == name {
			return &p.entries[i]
		}
	}
	return nil
}

// open unpacks a file. Reading it to its end checks its size and checksum; it
// never gives more bytes than its header says.
func (p *packed) open(name string) io.Reader {
	e := p.find(name)
	in := bufio.NewReaderSize(io.NewSectionReader(p.r, int64(e.offset)+localSize+int64(len(e.name)), int64(e.packed)), 32<<10)
	u := &unpacker{e: e, in: in, r: in, left: int64(e.size)}
	if e.method == deflated {
		u.r = flate.NewReader(in) // which reads no byte of in too many
	}
	return u
}

type unpacker struct {
	e    *entry
	in   *bufio.Reader // packed
	r    io.Reader     // unpacked
	left int64
	crc  uint32
}

// Read implements io.Reader.
func (u *unpacker) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	u.left -= int64(n)
	u.crc = crc32.Update(u.crc, crc32.IEEETable, b[:n])
	switch {
	case u.left < 0:
		return 0, shape("%s holds more than its %d bytes", u.e.name, u.e.size)
	case err == io.EOF && (u.left != 0 || u.crc != u.e.crc || u.unused()):
		return n, shape("%s cannot be unpacked: its bytes were changed", u.e.name)
	case err != nil && err != io.EOF:
		var corrupt flate.CorruptInputError
		if errors.As(err, &corrupt) || errors.Is(err, io.ErrUnexpectedEOF) {
			return n, shape("%s cannot be unpacked: its bytes were changed", u.e.name)
		}
	}
	return n, err
}

// unused reports whether packed bytes follow the end of the packed stream.
func (u *unpacker) unused() bool {
	_, err := u.in.ReadByte()
	return err == nil
}

func sum(b []byte) [32]byte { return sha256.Sum256(b) }
