package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// browser starts Chromium. The test fails when the page complains, or asks for
// anything that is not in it.
func browser(t testing.TB, scheme string) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("no chromium here: install the Debian package chromium")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var complaints []string
	complain := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		complaints = append(complaints, fmt.Sprintf(format, args...))
	}
	messages, requests := chromedp.Console(ctx), chromedp.Events(ctx, network.RequestWillBeSent)
	go func() { // ends with ctx
		for m, err := range messages {
			if err != nil {
				return
			}
			complain("%s", m.String())
		}
	}()
	go func() { // ends with ctx
		for r, err := range requests {
			if err != nil {
				return
			}
			if u := r.Request.URL; !strings.HasPrefix(u, "file://") || !strings.HasSuffix(u, "/verify.html") {
				complain("the page asks for %.200s", u)
			}
		}
	}()
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range complaints {
			t.Errorf("in the browser: %s", c)
		}
	})
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.EmulateViewport(1100, 900))
	return ctx
}

func do(t testing.TB, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

func get[T any](t testing.TB, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wait waits until an expression is true.
func wait(t testing.TB, ctx context.Context, expression string) {
	t.Helper()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression)); err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
}

// accessible fails for what axe finds of WCAG 2.2 A and AA.
func accessible(t *testing.T, ctx context.Context, where string) {
	t.Helper()
	source, err := os.ReadFile("../../web/testdata/axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.Evaluate[chromedp.Void](string(source)))
	found, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](`axe.run(document, {runOnly: {type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}})
		.then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + " " + n.target.join(" ") + ": " + n.failureSummary)))`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range found {
		t.Errorf("%s: %s", where, finding)
	}
}

// picture keeps a screenshot when SCREENSHOTS names a folder.
func picture(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// open writes the page of a bundle into a folder and opens it there.
func open(t *testing.T, ctx context.Context, b []byte) {
	t.Helper()
	files, _ := unzip(b)
	file := filepath.Join(t.TempDir(), filePage)
	if err := os.WriteFile(file, files[filePage], 0o600); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.Navigate("file://"+file))
	wait(t, ctx, `document.body.dataset.done !== undefined`)
}

const verdict = `document.getElementById("verdict").dataset.state`

// TestPage opens the page from a file, with no network, in both themes, and does
// everything with the keyboard: it verifies, believes the key that is pasted and
// no other, and plays.
func TestPage(t *testing.T) {
	w, stranger := newServer(), newServer()
	w.casts["SES-1"] = w.record("SES-1", "journal of SES-1", 5) // fits one screen
	b := pack1(t, w.evidence(), page)
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			ctx := browser(t, scheme)
			open(t, ctx, b)
			if state := get[string](t, ctx, verdict); state != "own" {
				t.Fatalf("without a key the verdict is %q: %s", state, get[string](t, ctx, `document.body.innerText`))
			}
			picture(t, ctx, "page-"+scheme+"-own")
			accessible(t, ctx, "own")
			paste := func(key string) {
				done := get[string](t, ctx, `document.body.dataset.done`)
				do(t, ctx, chromedp.KeyEvent(key+kb.Tab+kb.Enter))
				wait(t, ctx, `document.body.dataset.done !== `+strconv.Quote(done))
			}
			do(t, ctx, chromedp.KeyEvent(kb.Tab)) // the first field
			paste(stranger.logKey)
			if state := get[string](t, ctx, verdict); state != "bad" {
				t.Errorf("with a stranger's key the verdict is %q", state)
			}
			picture(t, ctx, "page-"+scheme+"-bad")
			accessible(t, ctx, "bad")
			do(t, ctx, chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift)), chromedp.KeyEvent(strings.Repeat(kb.Backspace, len(stranger.logKey))))
			paste(w.logKey)
			if state := get[string](t, ctx, verdict); state != "good" {
				t.Fatalf("with the key the verdict is %q: %s", state, get[string](t, ctx, `document.body.innerText`))
			}
			shown := get[string](t, ctx, `document.querySelector("main").innerText`)
			for _, want := range []string{"alice as root on db01, from 192.0.2.7", "INC-42 <b>replication</b> lag", "bob, 2026-03-02 12:00:03 UTC (event 3): “go ahead”", "serial 77", "rule with-approval", "Evidence of SES-1"} {
				if !strings.Contains(shown, want) {
					t.Errorf("the page does not say %q:\n%s", want, shown)
				}
			}
			// It plays, with the keys of the player.
			wait(t, ctx, `document.querySelector("#player .ap-player, #player .ap-wrapper") !== null`)
			for n := 0; !get[bool](t, ctx, `document.getElementById("player").contains(document.activeElement)`); n++ {
				if n > 20 {
					t.Fatal("the player cannot be reached with the keyboard")
				}
				do(t, ctx, chromedp.KeyEvent(kb.Tab))
			}
			do(t, ctx, chromedp.KeyEvent(" "))
			wait(t, ctx, `document.querySelector("#player").innerText.includes("load average")`)
			wait(t, ctx, `document.querySelector("#player").innerText.includes("of a long listing")`)
			get[bool](t, ctx, `(document.getElementById("h-facts").scrollIntoView(), true)`)
			picture(t, ctx, "page-"+scheme+"-plays")
			accessible(t, ctx, "plays")
			if title := get[string](t, ctx, `document.title`); title != "Evidence" {
				t.Errorf("the recording has changed the title to %q", title)
			}
			if n := get[int](t, ctx, `document.querySelectorAll("img, iframe, a, object, embed").length`); n != 0 {
				t.Errorf("%d elements that the page does not make", n)
			}
			do(t, ctx, chromedp.EmulateViewport(360, 640))
			if n := get[int](t, ctx, `document.documentElement.scrollWidth`); n > 360 {
				t.Errorf("on a phone the page is %d wide", n)
			}
			picture(t, ctx, "page-"+scheme+"-phone")
			accessible(t, ctx, "phone")
		})
	}
}

// TestStockPlayer gives session.cast, as it is, to asciinema's own player.
func TestStockPlayer(t *testing.T) {
	w := newServer()
	w.casts["SES-1"] = w.record("SES-1", "journal of SES-1", 5)
	b := pack1(t, w.evidence(), page)
	files, _ := unzip(b)
	ctx := browser(t, "light")
	open(t, ctx, b)
	get[bool](t, ctx, `(() => {
		const at = document.createElement("div");
		at.id = "stock";
		document.querySelector("main").prepend(at);
		AsciinemaPlayer.create({data: `+jsonText(t, string(files[fileCast]))+`}, at, {preload: true, speed: 10}).play();
		return true;
	})()`)
	for _, want := range []string{"load average: 0.00", "warnung", "line 4 of a long listing"} {
		wait(t, ctx, `document.getElementById("stock").innerText.includes(`+strconv.Quote(want)+`)`)
	}
}

// TestPageNamesTampering chooses an archive of each kind in a page that is whole.
func TestPageNamesTampering(t *testing.T) {
	w := newServer()
	ctx := browser(t, "light")
	open(t, ctx, pack1(t, w.evidence(), page))
	get[bool](t, ctx, `(document.getElementById("key").value = `+strconv.Quote(w.logKey)+`, true)`)
	whole := pack1(t, w.evidence(), smallPage)
	file := filepath.Join(t.TempDir(), "evidence.zip")
	choose := func(t *testing.T, b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		done := get[string](t, ctx, `(document.getElementById("file").value = "", document.body.dataset.done)`)
		do(t, ctx, chromedp.SetUploadFiles(chromedp.CSS("#file"), []string{file}))
		wait(t, ctx, `document.body.dataset.done !== `+strconv.Quote(done))
	}
	choose(t, whole)
	if state := get[string](t, ctx, verdict); state != "good" {
		t.Fatalf("the verdict is %q: %s", state, get[string](t, ctx, `document.body.innerText`))
	}
	for _, tt := range tampering {
		t.Run(tt.name, func(t *testing.T) {
			f := newForgery(w, whole)
			tt.do(f)
			choose(t, f.pack())
			says := get[string](t, ctx, `document.querySelector("li[data-check=`+tt.check+`][data-state=bad]")?.innerText ?? ""`)
			if state := get[string](t, ctx, verdict); state != "bad" || !strings.Contains(straight(says), tt.says) {
				t.Errorf("the verdict is %q, and the check says %q:\n%s", state, says, get[string](t, ctx, `document.getElementById("checks").innerText`))
			}
		})
	}
}

// straight has the quotes of a message as Go writes them.
func straight(s string) string {
	return strings.NewReplacer("“", `"`, "”", `"`, "’", "'").Replace(s)
}

// TestPageCarriesTampered: what the page carries itself was changed, and the page
// was not.
func TestPageCarriesTampered(t *testing.T) {
	w := newServer()
	f := newForgery(w, pack1(t, w.evidence(), smallPage))
	f.lines(without("request.approve"))
	files, _ := unzip(f.pack())
	_, data, _ := strings.Cut(string(files[filePage]), pageMark)
	data, _, _ = strings.Cut(data, "<")
	ctx := browser(t, "light")
	for name, inside := range map[string]string{"an event less": data, "cut": data[:len(data)/8*4], "no base64": "%" + data} {
		file := filepath.Join(t.TempDir(), filePage)
		if err := os.WriteFile(file, []byte(strings.Replace(string(page), pageMark, pageMark+inside, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		do(t, ctx, chromedp.Navigate("file://"+file))
		wait(t, ctx, `document.body.dataset.done !== undefined`)
		if state := get[string](t, ctx, verdict); state != "bad" {
			t.Errorf("%s: the verdict is %q", name, state)
		}
	}
}

// TestPageFilter: the page's filter lets pass what cast.Filter does.
func TestPageFilter(t *testing.T) {
	inputs := [][]string{
		{"plain\r\n\ttext\b"}, {"\x1b[31mred\x1b[0m \x1b[1;38;5;8mgrey\x1b[8mhidden\x1b[m"}, {"\x1b]0;title\x07after"}, {"\x1b]52;c;ZXZpbA==\x1b\\after"}, {"\x1b]8;;http://x\x07link\x1b]8;;\x07"},
		{"\x1bPq#0\x1b\\x"}, {"\x1b[6n\x1b[c\x1b[?1049h\x1b[2J\x1b[H\x1b[10;20H\x1b[12345A\x1b[1;2;3m"}, {"a\x1b", "[3", "1mb"}, {"\x1b(0qqq\x1b(B\x1bc\x1b7\x1b8\x1bD\x1bE\x1bM\x1bH"},
		{"\u202eevil\u2066x\u00ad\u200d\ufeff\u0085\u2028"}, {"\x1b[\u00e9m"}, {"\x1b]" + strings.Repeat("x", 5000) + "end"}, {"\x1b[" + strings.Repeat("1;", 40) + "m"}, {"\x1b[38;2;1;2;3m\x1b[38m\x1b[48;5m\x1b[38:5:8m\x1b[4:3m\x1b[08m"},
		{"\x18\x1a\x7f\x00\x01\x0e\x0f"}, {"\x1b[31\x18m"}, {"\x1b\x1b[A\x1b]x\x1b[31mq"}, {"\x1b[s\x1b[u\x1b[1s\x1b[1u\x1b[3S\x1b[3T\x1b[>c\x1b[=c\x1b[!p"},
	}
	rnd := newRand(7)
	alphabet := []string{"\x1b", "[", "]", ";", "m", "A", "8", "3", "0", ":", "\\", "\x07", "P", "x", "é", "\u202e", "🔒", "\r", "\x18", "?", " ", "H", "J", "s", "\x9c"[:0] + "\u009c"}
	for range 2000 {
		var in []string
		for range 1 + rnd.IntN(3) {
			var s strings.Builder
			for range rnd.IntN(14) {
				s.WriteString(alphabet[rnd.IntN(len(alphabet))])
			}
			in = append(in, s.String())
		}
		inputs = append(inputs, in)
	}
	var want []string
	for _, in := range inputs {
		var out strings.Builder
		f := cast.NewFilter(&out)
		for _, s := range in {
			if _, err := f.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		want = append(want, out.String())
	}
	ctx := browser(t, "light")
	open(t, ctx, pack1(t, newServer().evidence(), page))
	list, err := json.Marshal(inputs)
	if err != nil {
		t.Fatal(err)
	}
	got := get[[]string](t, ctx, string(list)+`.map(drawboltFilter)`)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("of %q the page lets pass %q, cast.Filter %q", inputs[i], got[i], want[i])
		}
	}
}

func jsonText(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
