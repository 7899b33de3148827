package vault

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Marks remembers, outside of the backend, the newest version that was seen of each
// record, so that an older one is not taken for it after a restart either.
//
// It is a file of entries, of which the last one counts for a record. One process
// writes it; others beside it know what stood in it when they opened it. Whoever can
// change the file can hide a rollback, and whoever deletes it has that told at the
// next start. It is safe for concurrent use.
type Marks struct {
	mu    sync.Mutex
	m     map[markID]mark
	f     *os.File // nil: in memory only
	fresh bool
	err   error
}

type markID [16]byte

// A mark is the newest state of a record that was seen.
type mark struct {
	version uint64
	gone    bool // deleted at this version

	// What was sealed, if it was seen by this process; not in the file.
	sum   [sha256.Size]byte
	known bool

	raised time.Time // by this process
}

// A file of marks begins with its format, and each entry is
//
//	id (16) | gone (1) | zero (3) | version (8, big endian) | CRC-32C of these (4)
const (
	marksHead = "drawbolt marks 1"
	entrySize = 16 + 4 + 8 + 4
	maxMarks  = 1 << 30 // bytes of a file
)

func newMarks() *Marks { return &Marks{m: map[markID]mark{}} }

// OpenMarks reads the file, or makes it. While another process has it open, what is
// raised is kept in memory only. The file is rewritten at the start when most of it
// does not count any more.
func OpenMarks(path string) (*Marks, error) {
	m := newMarks()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the vault's marks: %w", err)
	}
	owner := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
	entries, whole, err := m.read(f)
	if err == nil && owner {
		m.f = f
		if m.fresh, err = whole == 0, m.mend(path, entries, whole); err == nil {
			return m, nil
		}
	}
	f.Close() // which another process holds
	if err != nil {
		return nil, fmt.Errorf("read the vault's marks %s: %w", path, err)
	}
	return m, nil
}

// read returns how many entries there are, and how many bytes up to the last whole one.
func (m *Marks) read(f *os.File) (entries int, whole int64, err error) {
	b, err := io.ReadAll(io.LimitReader(f, maxMarks+1))
	if err != nil {
		return 0, 0, err
	}
	if len(b) < len(marksHead) && bytes.HasPrefix([]byte(marksHead), b) {
		return 0, 0, nil // a crash at its making
	}
	rest, ok := bytes.CutPrefix(b, []byte(marksHead))
	if !ok || len(b) > maxMarks {
		return 0, 0, fmt.Errorf("%w: it is no file of marks, or damaged", ErrTampered)
	}
	for ; len(rest) >= entrySize; rest = rest[entrySize:] {
		e := rest[:entrySize]
		if crc32.Checksum(e[:28], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(e[28:]) {
			if len(rest) == entrySize {
				break // a power cut in the middle of it
			}
			return 0, 0, fmt.Errorf("%w: entry %d is damaged", ErrTampered, entries)
		}
		m.m[markID(e[:16])] = mark{version: binary.BigEndian.Uint64(e[20:]), gone: e[16] != 0}
		entries++
	}
	return entries, int64(len(marksHead) + entries*entrySize), nil
}

// mend cuts off what is not whole, and rewrites the file when it is worth it.
func (m *Marks) mend(path string, entries int, whole int64) error {
	if entries > 1024 && entries > 2*len(m.m) {
		return m.rewrite(path)
	}
	if err := m.f.Truncate(whole); err != nil {
		return err
	}
	if whole == 0 {
		if _, err := m.f.WriteString(marksHead); err != nil {
			return err
		}
	}
	return m.f.Sync()
}

// rewrite puts a file of the marks that count in the place of the one that is open.
func (m *Marks) rewrite(path string) error {
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	b := []byte(marksHead)
	for id, k := range m.m {
		b = appendMark(b, id, k)
	}
	_, err = f.Write(b)
	err = errors.Join(err, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), f.Sync())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		return err
	}
	m.f.Close()
	m.f = f
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func appendMark(b []byte, id markID, k mark) []byte {
	from := len(b)
	b = append(b, id[:]...)
	gone := byte(0)
	if k.gone {
		gone = 1
	}
	b = append(b, gone, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, k.version)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[from:], crc32.MakeTable(crc32.Castagnoli)))
}

// Fresh reports whether the file was made now: what was seen before is not known.
func (m *Marks) Fresh() bool { return m.fresh }

// Err is what kept the last mark from the file. It counts in memory all the same.
func (m *Marks) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Close closes the file.
func (m *Marks) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.f == nil {
		return nil
	}
	err := errors.Join(m.f.Sync(), m.f.Close())
	m.f = nil
	return err
}

func markOf(domain, id string) markID {
	sum := sha256.Sum256(associatedData(domain, id, 0))
	return markID(sum[:16])
}

func (m *Marks) get(id markID) mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m[id]
}

// set makes k the mark of a record; durable: also after a power cut, when it returns.
func (m *Marks) set(id markID, k mark, durable bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was, ok := m.m[id]
	if k.raised = was.raised; k.version > was.version {
		k.raised = time.Now()
	}
	m.m[id] = k
	if m.f == nil || ok && was.version == k.version && was.gone == k.gone {
		return
	}
	_, err := m.f.Write(appendMark(nil, id, k))
	if err == nil && durable {
		err = m.f.Sync()
	}
	m.err = err
}

// raise makes the version the mark, unless that is newer.
func (m *Marks) raise(id markID, version uint64, durable bool) {
	if m.get(id).version < version {
		m.set(id, mark{version: version}, durable)
	}
}

func (m *Marks) forget(id markID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.m, id)
}
