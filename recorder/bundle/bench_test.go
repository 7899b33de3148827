package bundle

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// BenchmarkLarge packs and verifies the evidence of a large session, and reports how much memory that takes beside the files.
func BenchmarkLarge(b *testing.B) {
	w, e, size := large(b)
	dir := b.TempDir()
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

// BenchmarkLargePage has Chromium check the evidence of a large session, which
// its page does not carry and asks for, and reports how long that takes.
func BenchmarkLargePage(b *testing.B) {
	_, e, _ := large(b)
	whole, dir := pack1(b, e, page), b.TempDir()
	files, _ := unzip(whole)
	archive := filepath.Join(dir, "evidence.zip")
	for name, content := range map[string][]byte{filepath.Join(dir, filePage): files[filePage], archive: whole} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		ctx := browser(b, "light")
		do(b, ctx, chromedp.Navigate("file://"+filepath.Join(dir, filePage)))
		wait(b, ctx, `document.body.dataset.done !== undefined`)
		if says := get[string](b, ctx, `document.getElementById("verdict").innerText`); !strings.Contains(says, "choose the archive") {
			b.Fatal(says)
		}
		began := time.Now()
		do(b, ctx, chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{archive}))
		wait(b, ctx, verdict+` !== "busy" && `+verdict+` !== "unknown"`)
		b.ReportMetric(time.Since(began).Seconds(), "s-checking")
		if state := get[string](b, ctx, verdict); state != "own" {
			b.Fatal(get[string](b, ctx, `document.getElementById("verdict").innerText`))
		}
	}
}

// large is a session of eight hours and 200 MB.
func large(b testing.TB) (*world, Evidence, int64) {
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
	return w, e, size
}
