package recorder

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// WrappedKeys returns the wrapped keys of all journals that are there, of sessions that
// run, of those that a crash left, and of damaged ones in quarantine, for whoever has to
// know what they are wrapped with. A file that is no journal is passed over.
func (r *Recorder) WrappedKeys() ([][]byte, error) {
	var keys [][]byte
	for _, pattern := range []string{"*" + journalSuffix, filepath.Join("quarantine", "*")} {
		paths, err := filepath.Glob(filepath.Join(r.cfg.Journals, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			key, err := wrappedKey(path)
			if os.IsNotExist(err) { // sealed meanwhile
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read the key of journal %s: %w", path, err)
			}
			if key != nil {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}

// wrappedKey reads what journalPrefix wrote; nil when it is not that.
func wrappedKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := bufio.NewReaderSize(f, 1024)
	head := make([]byte, len(journalMagic)+1)
	if _, err := io.ReadFull(b, head); err != nil || string(head[:len(journalMagic)]) != journalMagic {
		return nil, nil
	}
	if _, err := b.Discard(int(head[len(journalMagic)])); err != nil {
		return nil, nil
	}
	size := make([]byte, 2)
	if _, err := io.ReadFull(b, size); err != nil {
		return nil, nil
	}
	key := make([]byte, min(int(binary.BigEndian.Uint16(size)), maxPrefix))
	if _, err := io.ReadFull(b, key); err != nil {
		return nil, nil
	}
	return key, nil
}
