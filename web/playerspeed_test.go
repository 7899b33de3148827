package web

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	zstdseekable "github.com/SaveTheRbtz/zstd-seekable-format-go/pkg"
	"github.com/chromedp/chromedp"
	"github.com/klauspost/compress/zstd"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

var (
	longHours = flag.Float64("player.hours", 0.25, "hours of the session that TestPlayerLong plays")
	longMB    = flag.Int("player.mb", 6, "megabytes of it")
)

// sealed is a cast as a Recorder keeps it.
func sealed(t *testing.T, plain []byte, id *age.HybridIdentity) []byte {
	t.Helper()
	var out bytes.Buffer
	w := must(age.Encrypt(&out, id.Recipient()))
	enc := must(zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)))
	z := must(zstdseekable.NewWriter(w, enc))
	for len(plain) > 0 {
		n := min(len(plain), 512<<10)
		must(z.Write(plain[:n]))
		plain = plain[n:]
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// aShift is what somebody does in a terminal of 120x40 in so long: commands, long
// listings, a program that draws the whole screen, and breaks.
func aShift(length time.Duration, size int) []cast.Event {
	r := rand.New(rand.NewPCG(1, 2))
	var y typing
	y.out(prompt)
	words := strings.Fields("connection replica checkpoint vacuum index wal segment lock timeout retry buffer relation transaction snapshot autovacuum")
	word := func() string { return words[r.IntN(len(words))] }
	blocks := size / (40 << 10)
	pause := length / time.Duration(max(blocks, 1))
	for block := range blocks {
		began := y.at
		if block%3 == 0 {
			y.run(fmt.Sprintf("journalctl -u postgresql --since '%d min ago' | grep %s", block, word()), "")
		}
		sent := 0
		if block%10 == 9 { // top(1), say
			y.out("\x1b[?1049h\x1b[H\x1b[2J")
			for sent < 38<<10 {
				var b strings.Builder
				b.WriteString("\x1b[H")
				for row := range 38 {
					fmt.Fprintf(&b, "\x1b[%d;1H\x1b[%dm%7d %-12s\x1b[0m %5.1f %s\x1b[K", row+1, 31+r.IntN(6), r.IntN(99999), word(), r.Float64()*100, word())
				}
				y.out(b.String())
				sent += b.Len()
				y.wait(pause / 40)
			}
			y.out("\x1b[?1049l")
		}
		for sent < 38<<10 {
			var b strings.Builder
			for range 1 + r.IntN(20) {
				fmt.Fprintf(&b, "2026-03-02 10:%02d:%02d.%03d UTC [%d] \x1b[3%dmLOG\x1b[0m:  %s %s %s %s %d\r\n", r.IntN(60), r.IntN(60), r.IntN(1000), r.IntN(32768), 1+r.IntN(6), word(), word(), word(), word(), r.IntN(1<<30))
			}
			y.out(b.String())
			sent += b.Len()
			y.wait(pause / 60)
		}
		if rest := pause - (y.at - began); rest > 0 {
			y.wait(rest)
		}
	}
	y.run("exit", "logout\n")
	return y.events
}

// TestPlayerLong measures how long the first picture and a seek take in Chromium.
// The limits are those of a machine that has the time; -player.hours 8 -player.mb
// 200 is the long session of docs/performance.md.
func TestPlayerLong(t *testing.T) {
	id := must(age.GenerateHybridIdentity())
	files := map[string][]byte{}
	h := newTheatre(t, func(c *Config) {
		c.OpenCast = func(_ context.Context, x access.Session) (io.ReadSeekCloser, error) {
			f := files[x.ID]
			r, err := recorder.OpenSealed(bytes.NewReader(f), int64(len(f)), id)
			return unclosed{r}, err
		}
		c.OpenView = func(_ context.Context, x access.Session) (io.ReadSeekCloser, error) {
			f := files[x.ID+" view"]
			r, err := recorder.OpenSealed(bytes.NewReader(f), int64(len(f)), id)
			return unclosed{r}, err
		}
	})
	srv := h.serve()
	began := time.Now()
	x := h.stage(120, 40, aShift(time.Duration(*longHours*float64(time.Hour)), *longMB<<20)...)
	t.Logf("%d MB generated in %v", len(h.casts[x.ID])>>20, time.Since(began).Round(time.Second))
	began = time.Now()
	h.prepare(x)
	t.Logf("view of %d kB made in %v", len(h.views[x.ID])>>10, time.Since(began).Round(time.Second))
	files[x.ID], files[x.ID+" view"] = sealed(t, h.casts[x.ID], id), sealed(t, h.views[x.ID], id)

	ctx := browser(t, "light", true)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	signIn(t, ctx, srv.URL, "carol", "/sessions/"+x.ID)
	for _, state := range []string{"the first ever in this browser", "the view read for it", "the view read before"} {
		if state == "the view read for it" {
			h.server.played.mu.Lock()
			clear(h.server.played.kept)
			h.server.played.mu.Unlock()
		}
		openPlayer(t, ctx, srv.URL, x, "?t=600")
		t.Logf("first picture, %s: the server's as text %.0f ms, the player's %s ms", state,
			eval[float64](t, ctx, `performance.getEntriesByName("first-contentful-paint")[0].startTime`), eval[string](t, ctx, `document.getElementById("player").dataset.first`))
	}
	took := eval[[]float64](t, ctx, `(async () => {
		const root = document.getElementById("player"), links = [...document.querySelectorAll("#entries a")], took = [];
		let seed = 7;
		for (let i = 0; i < 100; i++) {
			seed = (seed * 48271) % 2147483647;
			const sought = new Promise((done) => root.addEventListener("sought", (e) => done(e.detail.took), {once: true}));
			links[seed % links.length].click();
			took.push(await sought);
		}
		return took;
	})()`)
	slices.Sort(took)
	t.Logf("seek in %d segments: p50 %.0f ms, p95 %.0f ms, worst %.0f ms", len(read[struct{ Segments []any }](h, x, "").Segments), took[50], took[95], took[99])
	if took[95] > 3000 {
		t.Errorf("a seek takes %v ms", took[95])
	}
	began = time.Now()
	hits := read[struct{ Hits []any }](h, x, "/find?q=no+such+text+at+all")
	t.Logf("search without a hit: %v, %d hits", time.Since(began).Round(time.Millisecond), len(hits.Hits))
}

// unclosed is a reader that needs no closing.
type unclosed struct{ io.ReadSeeker }

func (unclosed) Close() error { return nil }
