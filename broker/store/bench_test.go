package store_test

import (
	"context"
	"sync"
	"testing"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// BenchmarkAuditedCommit adds a target with its event: one change, one commit
// that has reached the disk (SQLite; the test server of PostgreSQL does not
// sync).
func BenchmarkAuditedCommit(b *testing.B) {
	for _, e := range engines {
		for _, workers := range []int{1, 8} {
			b.Run(e.name+map[int]string{1: "/sequential", 8: "/8 goroutines"}[workers], func(b *testing.B) {
				db := open(b, e.url(b))
				work := make(chan struct{}, b.N)
				for range b.N {
					work <- struct{}{}
				}
				close(work)
				b.ResetTimer()
				var wg sync.WaitGroup
				for range workers {
					wg.Go(func() {
						for range work {
							if err := addTarget(b.Context(), db); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			})
		}
	}
}

func addTarget(ctx context.Context, db *store.DB) error {
	t := newTarget()
	return db.Change(ctx, func(tx *store.Tx) (audit.Event, error) {
		return event("target.add", t.ID), tx.AddTarget(ctx, &t)
	})
}

func newTarget() access.Target {
	id := access.NewID(access.TargetPrefix)
	return access.Target{
		ID: id, Name: "db-" + id[4:], Address: "db.example.com:22",
		Labels:   access.Labels{Environment: "prod", Tier: "1"},
		Accounts: []access.Account{{Name: "root", Credential: access.CredentialCertificate}},
	}
}

func event(action, object string) audit.Event {
	return audit.Event{Actor: "USR-0000000000000000", ActorName: "anna", Action: action, Object: object, Source: "192.0.2.7", Reason: "INC-42 a change"}
}
