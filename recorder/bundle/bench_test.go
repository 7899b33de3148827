package bundle

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// BenchmarkLarge packs and verifies the evidence of a session of eight hours and
// 200 MB, and reports how much memory that takes beside the files.
func BenchmarkLarge(b *testing.B) {
	w, dir := newServer(), b.TempDir()
	name := filepath.Join(dir, "session.cast")
	f := must(os.Create(name))
	c := must(cast.NewWriter(f, cast.Header{ID: "SES-1", Kind: "shell", Started: noon}, w.recorder))
	var screen bytes.Buffer
	for i := 0; screen.Len() < 200_000_000/28_800; i++ {
		fmt.Fprintf(&screen, "-rw-r--r-- 1 root root %8d Mar %2d 10:%02d \x1b[34m/var/log/app/%x.log\x1b[0m\r\n", i*7919%99999999, i%28+1, i*13%60, uint32(i)*2654435761)
	}
	size := int64(0)
	for i := range 28_800 {
		data := bytes.ReplaceAll(screen.Bytes(), []byte("app/"), fmt.Appendf(nil, "a%x/", i*7919))
		if err := c.Write(cast.Event{At: time.Duration(i) * time.Second, Stream: cast.Output, Data: data}); err != nil {
			b.Fatal(err)
		}
		size += int64(len(data))
	}
	must(c.Seal(cast.End{At: 8 * time.Hour, Reason: "exited", Journal: sha256.Sum256([]byte("journal of SES-1"))}))
	f.Close()
	e := w.evidence()
	e.Recording = func() (io.ReadCloser, error) { return os.Open(name) }
	trusted := []note.Verifier{must(note.NewVerifier(w.logKey))}
	for b.Loop() {
		out := must(os.Create(filepath.Join(dir, "evidence.zip")))
		var m runtime.MemStats
		began := time.Now()
		if err := Write(out, e); err != nil {
			b.Fatal(err)
		}
		packing := time.Since(began)
		runtime.ReadMemStats(&m)
		b.ReportMetric(packing.Seconds(), "s-packing")
		b.ReportMetric(float64(m.HeapSys)/1e6, "MB-heap-packing")
		n := must(out.Seek(0, io.SeekEnd))
		began = time.Now()
		rep, err := Verify(out, n, trusted)
		if err != nil || !rep.Verified {
			b.Fatal(err, rep.Problem())
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-verifying")
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapSys)/1e6, "MB-heap-verifying")
		b.ReportMetric(float64(n)/1e6, "MB-bundle")
		b.ReportMetric(float64(size)/1e6, "MB-session")
		out.Close()
	}
}
