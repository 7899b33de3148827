package broker_test

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkSecretReads reads the passwords of a managed account as an operator does: asked
// of the policy, put on record with a synced commit, opened; one after the other, and by
// eight at once.
//
//	go test ./broker -run '^$' -bench SecretReads -benchtime 2000x
func BenchmarkSecretReads(b *testing.B) {
	for _, e := range engines {
		for name, atOnce := range map[string]int{"one": 1, "eight": 8} {
			b.Run(e.name+"/"+name, func(b *testing.B) {
				h := newHouse(b, e.url(b))
				h.managed("pg01", "app")
				by := h.as("root")
				var mu sync.Mutex
				var took []time.Duration
				var all sync.WaitGroup
				b.ResetTimer()
				for range atOnce {
					all.Go(func() {
						for range max(b.N/atOnce, 1) {
							began := time.Now()
							if _, err := h.RecoverPasswords(b.Context(), by, "pg01", "app", "INC-9"); err != nil {
								b.Error(err)
								return
							}
							d := time.Since(began)
							mu.Lock()
							took = append(took, d)
							mu.Unlock()
						}
					})
				}
				all.Wait()
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "us-p50")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "us-p99")
				b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "reads/s")
			})
		}
	}
}
