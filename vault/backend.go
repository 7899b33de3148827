package vault

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
)

// A Record is one row of a [Backend]. Sealed is opaque to the backend.
type Record struct {
	ID      string
	Version uint64 // 1 is the first
	Sealed  []byte
}

// A Backend stores records. It is not trusted with their content.
//
// What Put and Delete changed is durable when they return nil; when they
// return an error that is neither ErrConflict nor ErrNotFound it may have
// happened or not. Reads see every write that returned before they began. All
// methods are safe for concurrent use, within a process and between processes
// that share the store. Records passed in and handed out are not shared with
// the backend afterwards.
type Backend interface {
	// Get returns the record stored under id, or ErrNotFound.
	Get(ctx context.Context, id string) (Record, error)
	// Put compares and swaps: it stores rec if rec.Version is the stored
	// version plus one, or 1 and nothing is stored. Otherwise it changes
	// nothing and returns ErrConflict.
	Put(ctx context.Context, rec Record) error
	// Delete removes id if the given version is stored. It changes nothing
	// and returns ErrConflict if another is, ErrNotFound if none is.
	Delete(ctx context.Context, id string, version uint64) error
	// List returns the ids that begin with prefix, byte for byte, in any
	// order.
	List(ctx context.Context, prefix string) ([]string, error)
}

// Memory is a [Backend] that forgets everything with the process. It serves
// tests and the demo.
type Memory struct {
	mu      sync.Mutex
	records map[string]Record
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{records: make(map[string]Record)} }

// Get implements [Backend].
func (m *Memory) Get(ctx context.Context, id string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.records[id]
	if !ok {
		return Record{}, ErrNotFound
	}
	rec.Sealed = bytes.Clone(rec.Sealed)
	return rec, nil
}

// Put implements [Backend].
func (m *Memory) Put(ctx context.Context, rec Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if stored := m.records[rec.ID].Version; rec.Version == 0 || rec.Version-1 != stored {
		return fmt.Errorf("put version %d over %d: %w", rec.Version, stored, ErrConflict)
	}
	rec.Sealed = bytes.Clone(rec.Sealed)
	m.records[rec.ID] = rec
	return nil
}

// Delete implements [Backend].
func (m *Memory) Delete(ctx context.Context, id string, version uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.records[id]
	if !ok {
		return ErrNotFound
	}
	if rec.Version != version {
		return fmt.Errorf("delete version %d, stored is %d: %w", version, rec.Version, ErrConflict)
	}
	delete(m.records, id)
	return nil
}

// List implements [Backend].
func (m *Memory) List(ctx context.Context, prefix string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for id := range m.records {
		if strings.HasPrefix(id, prefix) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
