package recorder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
		id, ok := strings.CutSuffix(e.Name(), journalSuffix)
		if !ok || !e.Type().IsRegular() || checkID(id) != nil {
			continue
		}
		s, err := r.recover(ctx, id)
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
