//go:build unix

package recorder

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
)

// cpu returns the processor time of this process: unlike the time on the wall it
// does not depend on what else the machine does.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSeal makes, reads back and compares recordings of 64 MiB that came in
// reads of 32 KiB, and reports the processor time for a GiB of session data.
func BenchmarkSeal(b *testing.B) {
	const size = 64 << 20
	for _, test := range []struct {
		name string
		data []byte
	}{
		{"zeros", make([]byte, size)},
		{"random", random(size)},
		{"text", text(size)},
	} {
		b.Run(test.name, func(b *testing.B) {
			s := newStand(b)
			b.SetBytes(size)
			b.ReportAllocs()
			n, used := 0, time.Duration(0)
			var sealed Sealed
			for b.Loop() {
				b.StopTimer()
				n++
				rec := s.start(b, fmt.Sprintf("SES-%d", n))
				for part := range slices.Chunk(test.data, 32<<10) {
					if err := rec.Write(Output, part); err != nil {
						b.Fatal(err)
					}
				}
				before := cpu(b)
				b.StartTimer()
				var err error
				if sealed, err = rec.Close(b.Context(), End{}); err != nil {
					b.Fatal(err)
				}
				used += cpu(b) - before
			}
			b.ReportMetric(used.Seconds()*float64(1<<30)/float64(n*size), "cpu-s/GiB")
			b.ReportMetric(float64(size)/float64(sealed.Size), "ratio")
		})
	}
}
