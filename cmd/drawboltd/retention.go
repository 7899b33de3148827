package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/broker/store"
)

const (
	retentionEvery = 10 * time.Second
	// removeAgain is how long an object stays that could not be removed, such as
	// one under a lock of the storage.
	removeAgain = time.Hour
	// strayEvery is how often the whole sink is looked through.
	strayEvery = 24 * time.Hour
)

// retention ends the life of recordings: it deletes those whose time is over, and
// removes the objects of those that are deleted. The first is what counts; what a
// crash leaves of the second nobody can open, and it is gone on with here.
func (a *App) retention(ctx context.Context) error {
	tick := time.NewTicker(retentionEvery)
	defer tick.Stop()
	var place store.Kept
	var strays time.Time // when they were looked for
	for leftovers := false; ; {
		var n int
		var err error
		if place, n, err = a.broker.ExpireRecordings(ctx, place); n > 0 {
			a.log.InfoContext(ctx, "recordings were deleted whose time was over", "recordings", n)
		}
		now := time.Now()
		if now.Sub(strays) > strayEvery {
			strays = now
			err = errors.Join(err, a.removeStrays(ctx))
		}
		removed, e := a.removeErased(ctx, now.Add(-removeAgain))
		err = errors.Join(err, e)
		if leftovers = leftovers || removed; leftovers {
			e := a.db.ForgetErased(ctx)
			err, leftovers = errors.Join(err, e), e != nil
		}
		if err != nil && ctx.Err() == nil {
			a.log.ErrorContext(ctx, "deleted recordings were not all removed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// removeErased removes objects of deleted recordings from the sink, and then what
// is known of them. One that cannot be removed keeps no other. It reports whether
// there were any.
func (a *App) removeErased(ctx context.Context, since time.Time) (bool, error) {
	names, err := a.db.ErasedObjects(ctx, since, 100)
	for _, name := range names {
		if e := a.objects.Remove(ctx, name); e != nil {
			err = errors.Join(err, e, a.db.ObjectTried(ctx, name))
		} else {
			err = errors.Join(err, a.db.RemoveHeader(ctx, name))
		}
	}
	return len(names) > 0, err
}

// removeStrays looks through the sink for what belongs to deleted recordings and
// was not known of when they were: copies of files from before there were headers,
// and what was being made of a recording at that moment.
func (a *App) removeStrays(ctx context.Context) error {
	names, err := a.objects.List(ctx)
	if err != nil {
		return err
	}
	of := map[string][]string{} // session -> its objects
	var ids []string
	for _, name := range names {
		id, _, _ := strings.Cut(name, ".")
		if of[id] == nil {
			ids = append(ids, id)
		}
		of[id] = append(of[id], name)
	}
	for part := range slices.Chunk(ids, 500) {
		deleted, e := a.db.DeletedRecordings(ctx, part)
		if err = errors.Join(err, e); e != nil {
			break
		}
		for _, id := range deleted {
			for _, name := range of[id] {
				err = errors.Join(err, a.objects.Remove(ctx, name))
			}
		}
	}
	return err
}
