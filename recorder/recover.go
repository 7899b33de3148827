package recorder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Recover seals the journals that a crash left, as aborted, and finishes what
// was being sealed. It calls each for every journal: with what was sealed, or
// with the id and an error, or with both when the journal was damaged (a
// *DamagedError): then all before the damage is sealed and the journal is in
// quarantine. One bad journal blocks no other. Journals that a process is
// writing, this or another, are passed over. The returned error is only of
// reading the directory or of ctx.
func (r *Recorder) Recover(ctx context.Context, each func(Sealed, error)) error {
	entries, err := os.ReadDir(r.cfg.Journals)
	if err != nil {
		return fmt.Errorf("recover recordings: %w", err)
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		suffix := filepath.Ext(e.Name())
		id := strings.TrimSuffix(e.Name(), suffix)
		if !e.Type().IsRegular() || checkID(id) != nil {
			continue
		}
		var s Sealed
		var err error
		switch suffix {
		case journalSuffix:
			s, err = r.recover(ctx, id)
		case noteSuffix:
			s, err = r.recoverNote(ctx, id)
		default:
			continue
		}
		if !errors.Is(err, errLocked) && !errors.Is(err, fs.ErrNotExist) {
			each(s, err)
		}
	}
	return nil
}

func (r *Recorder) recover(ctx context.Context, id string) (Sealed, error) {
	f, err := os.OpenFile(r.journal(id), os.O_RDWR, 0)
	if err != nil {
		return Sealed{ID: id}, fmt.Errorf("recover recording %s: %w", id, err)
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return Sealed{ID: id}, fmt.Errorf("recover recording %s: %w", id, err)
	}
	// Whoever held the lock may have sealed it meanwhile.
	a, err := f.Stat()
	if err == nil {
		var b fs.FileInfo
		if b, err = os.Stat(r.journal(id)); err == nil && !os.SameFile(a, b) {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		return Sealed{ID: id}, fmt.Errorf("recover recording %s: %w", id, err)
	}
	return r.seal(ctx, id, f, "the recorder stopped before the session's end")
}

// recoverNote finishes what a crash left after the journal was removed.
func (r *Recorder) recoverNote(ctx context.Context, id string) (Sealed, error) {
	r.mu.Lock()
	live := r.live[id] != nil
	r.mu.Unlock()
	if _, err := os.Lstat(r.journal(id)); live || err == nil {
		return Sealed{ID: id}, errLocked // the journal has its own turn
	}
	if _, err := os.Lstat(r.note(id)); err != nil {
		return Sealed{ID: id}, err // removed with its journal meanwhile
	}
	s, ok := r.alreadySealed(ctx, id)
	if !ok {
		return Sealed{ID: id}, fmt.Errorf("recover recording %s: the sealed recording is not as it was", id)
	}
	return s, r.tidy(id)
}
