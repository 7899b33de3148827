package recorder

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{1, 200, 32 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := newStand(b)
			rec := s.start(b, "SES-1")
			data := text(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if err := rec.Write(Output, data); err != nil {
					b.Fatal(err)
				}
				if n += size; n > 1<<30 { // not the whole disk
					b.StopTimer()
					if err := rec.file.Truncate(0); err != nil {
						b.Fatal(err)
					}
					n = 0
					b.StartTimer()
				}
			}
		})
	}
}

func BenchmarkStart(b *testing.B) {
	s := newStand(b)
	n := 0
	for b.Loop() {
		n++
		s.start(b, fmt.Sprintf("SES-%d", n)).file.Close()
	}
}

// BenchmarkHour reports the sizes of an hour of interactive work: a keystroke
// and its echo four times a second, a screen of output each ten seconds. Beside
// them are those of what asciinema writes (asciicast v3 with input, packed by
// gzip) and of what script --log-io --log-timing does (both files, and packed).
func BenchmarkHour(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		now := time.Now()
		s := newStand(b, func(c *Config) { c.Now = func() time.Time { return now } })
		rec := s.start(b, "SES-1")
		screens := text(2000 * 360)
		plain := 0
		beside := newOthers(b)
		last := now
		for i := range 4 * 3600 {
			now = now.Add(250*time.Millisecond + time.Duration(i*7919%1000)*time.Microsecond)
			key := []byte{byte('a' + i*7919%26)}
			for _, e := range []Event{{Stream: Input, Data: key}, {Stream: Output, Data: key}} {
				beside.write(e, now.Sub(last))
				last = now
				if err := rec.Write(e.Stream, e.Data); err != nil {
					b.Fatal(err)
				}
				plain += len(e.Data)
			}
			if i%40 == 0 {
				screen := screens[i/40*2000:][:2000]
				if err := rec.Write(Output, screen); err != nil {
					b.Fatal(err)
				}
				beside.write(Event{Stream: Output, Data: screen}, 0)
				plain += len(screen)
			}
		}
		journal, err := rec.file.Stat()
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		sealed, err := rec.Close(b.Context(), End{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(plain), "plain-bytes")
		b.ReportMetric(float64(journal.Size()), "journal-bytes")
		b.ReportMetric(float64(sealed.Size), "sealed-bytes")
		beside.report(b)
	}
}

// others write the same as other programs do.
type others struct {
	b                             *testing.B
	cast, script, timing          *gzip.Writer
	castSize, scriptSize, scriptN countWriter
}

type countWriter int64

func (c *countWriter) Write(p []byte) (int, error) {
	*c += countWriter(len(p))
	return len(p), nil
}

func newOthers(b *testing.B) *others {
	o := &others{b: b}
	o.cast, o.script = gzip.NewWriter(&o.castSize), gzip.NewWriter(&o.scriptSize)
	o.timing = gzip.NewWriter(&o.scriptSize)
	fmt.Fprintln(o.cast, `{"version":3,"term":{"cols":80,"rows":24}}`)
	return o
}

func (o *others) write(e Event, gap time.Duration) {
	text, err := json.Marshal(string(e.Data))
	if err != nil {
		o.b.Fatal(err)
	}
	code, log := "o", "O"
	if e.Stream == Input {
		code, log = "i", "I"
	}
	fmt.Fprintf(o.cast, "[%.3f, %q, %s]\n", gap.Seconds(), code, text)
	io.MultiWriter(o.script, &o.scriptN).Write(e.Data)
	fmt.Fprintf(io.MultiWriter(o.timing, &o.scriptN), "%s %.6f %d\n", log, gap.Seconds(), len(e.Data))
}

func (o *others) report(b *testing.B) {
	if err := errors.Join(o.cast.Close(), o.script.Close(), o.timing.Close()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(o.castSize), "asciicast.gz-bytes")
	b.ReportMetric(float64(o.scriptN), "script-bytes")
	b.ReportMetric(float64(o.scriptSize), "script.gz-bytes")
}

func BenchmarkVerify(b *testing.B) {
	s := newStand(b)
	rec := s.start(b, "SES-1")
	for part := range slices.Chunk(text(16<<20), 8<<10) {
		if err := rec.Write(Output, part); err != nil {
			b.Fatal(err)
		}
	}
	sealed, err := rec.Close(context.Background(), End{})
	if err != nil {
		b.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(s.sealed, sealed.Name))
	if err != nil {
		b.Fatal(err)
	}
	r, err := OpenSealed(bytes.NewReader(file), int64(len(file)), s.auditor)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(16 << 20)
	for b.Loop() {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		if _, err := cast.Verify(r, s.verifier); err != nil {
			b.Fatal(err)
		}
	}
}

// text is like the output of programs: lines that repeat, but not wholly.
func text(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "-rw-r--r-- 1 root root %8d Mar %2d 10:%02d /var/log/app/%x.log\r\n", i*7919%99999999, i%28+1, i*13%60, uint32(i)*2654435761)
	}
	return b.Bytes()[:size]
}
