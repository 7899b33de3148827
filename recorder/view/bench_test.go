//go:build linux

package view

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// logs is a recording of so many bytes of lines that differ, as of programs that
// log; screens is one of a program that draws its screen again and again.
func logs(size int) (events []cast.Event) {
	var b strings.Builder
	for i, at := 0, 0; size > 0; i++ {
		fmt.Fprintf(&b, "\x1b[32m2026-03-02T10:%02d:%02d\x1b[0m %s[%d]: request %x took %d ms\r\n", i/60%60, i%60, []string{"httpd", "sshd", "cron"}[i%3], i, uint32(i)*2654435761, i%977)
		if b.Len() >= 4000 {
			at += 40
			events = append(events, out(at, b.String()))
			size -= b.Len()
			b.Reset()
		}
	}
	return events
}

func screens(size int) (events []cast.Event) {
	for i := 0; size > 0; i++ {
		var b strings.Builder
		b.WriteString("\x1b[?25l\x1b[H")
		for row := range 24 {
			fmt.Fprintf(&b, "\x1b[%d;1H\x1b[1;3%dm%5d\x1b[m root  \x1b[7m%3d.%d\x1b[27m %-40s\x1b[K", row+1, row%8, 1000+(i+row)%60, (i*7+row)%100, i%10, strings.Repeat("|", (i+row)%40))
		}
		b.WriteString("\x1b[?25h")
		events = append(events, out(i*500, b.String()))
		size -= b.Len()
	}
	return events
}

// cpu is the processor time of this process and of the children that have ended.
func cpu(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// BenchmarkMake makes views of 16 MiB of output, in this process and in one of a
// Worker. It reports the recording's MB a second of processor time.
func BenchmarkMake(b *testing.B) {
	for _, c := range []struct {
		name   string
		events []cast.Event
		make   func(context.Context, io.Reader, func(Item) error) error
	}{
		{"text", logs(16 << 20), Make},
		{"screens", screens(16 << 20), Make},
		{"worker/text", logs(16 << 20), worker("good").Make},
		{"worker/screens", screens(16 << 20), worker("good").Make},
	} {
		b.Run(c.name, func(b *testing.B) {
			recording := record(b, shell, c.events...)
			b.SetBytes(int64(len(recording)))
			b.ReportAllocs()
			size, segments, n, began := 0, 0, 0, cpu(b)
			for b.Loop() {
				n++
				size, segments = 0, 0
				var w bytes.Buffer
				if err := c.make(b.Context(), bytes.NewReader(recording), func(i Item) error {
					if i.Segment != nil {
						segments++
					}
					w.Reset()
					err := Write(&w, i)
					size += w.Len()
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*len(recording))/1e6/(cpu(b)-began).Seconds(), "MB/cpu-s")
			b.ReportMetric(float64(size)/1e6, "view-MB")
			b.ReportMetric(float64(segments), "segments")
		})
	}
}
