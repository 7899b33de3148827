package vault_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/vault"
)

// BenchmarkVault measures what the vault itself takes, without a database: p99 is of
// single calls.
func BenchmarkVault(b *testing.B) {
	v, _, _ := newVault(b)
	const records = 1000
	var sealed [records][]byte
	for i := range records {
		put(b, v, fmt.Sprint("r", i), "a password of some length", 1)
		s, err := v.Seal(fmt.Sprint("s", i), 7, vault.NewSecret([]byte("a password of some length")))
		if err != nil {
			b.Fatal(err)
		}
		sealed[i] = s
	}
	for _, c := range []struct {
		name string
		do   func(i int) error
	}{
		{"get", func(i int) error { _, _, err := v.Get(b.Context(), fmt.Sprint("r", i%records)); return err }},
		{"unseal", func(i int) error { _, err := v.Unseal(fmt.Sprint("s", i%records), 7, sealed[i%records]); return err }},
		{"seal", func(i int) error {
			_, err := v.Seal(fmt.Sprint("s", i%records), 8, vault.NewSecret([]byte("a password of some length")))
			return err
		}},
		{"renew", func(i int) error { _, err := v.Renew("", 7, 8, sealed[i%records]); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			took := make([]time.Duration, 0, b.N)
			for i := range b.N {
				at := time.Now()
				if err := c.do(i); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(at))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
		})
	}
}
