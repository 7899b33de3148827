package store

import "context"

// TargetKinds lists the kinds of targets that there are, but that of Unix machines.
func (q queryer) TargetKinds(ctx context.Context) ([]string, error) {
	return q.ids(ctx, "SELECT DISTINCT kind FROM targets WHERE kind <> '' ORDER BY kind LIMIT 1000")
}
