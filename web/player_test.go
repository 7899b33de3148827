package web

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/drawbolt/drawbolt/broker/access"
)

// eval is what an expression is in the page.
func eval[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	return get(t, ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// eventually waits until an expression is true in the page.
func eventually(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")")) // an error, while one page follows another
		if err == nil && is {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never true: %s (%v)\nthe player at %s with %q says %q, shows:\n%s", expression, err, moment(t, ctx), eval[string](t, ctx, `document.getElementById("find-text")?.value ?? ""`), eval[string](t, ctx, `document.getElementById("said")?.textContent ?? ""`), terminal(t, ctx))
		}
	}
}

// openPlayer opens the player of a session, whose first picture is there then.
func openPlayer(t *testing.T, ctx context.Context, server string, x access.Session, query string) {
	t.Helper()
	do(t, ctx, chromedp.Navigate(server+"/sessions/"+x.ID+"/play"+query), chromedp.WaitVisible(css(`h1`)))
	eventually(t, ctx, `document.getElementById("player").dataset.ready`)
}

// terminal is the text that the player's terminal shows.
func terminal(t *testing.T, ctx context.Context) string {
	t.Helper()
	return eval[string](t, ctx, `[...document.querySelectorAll(".ap-term-text .ap-line")].map(l => l.textContent.trimEnd()).join("\n")`)
}

// press presses keys, whatever has the focus.
func press(t *testing.T, ctx context.Context, keys ...string) {
	t.Helper()
	for _, k := range keys {
		do(t, ctx, chromedp.KeyEvent(k))
	}
}

// accessible fails for what axe finds of WCAG 2.2 A and AA.
func accessible(t *testing.T, ctx context.Context, where string) {
	t.Helper()
	accessibleIn(t, ctx, where, "document")
}

// accessibleIn is accessible for a part of a page, by an expression: a page with
// thousands of lines takes minutes as a whole.
func accessibleIn(t *testing.T, ctx context.Context, where, part string) {
	t.Helper()
	source, err := os.ReadFile("testdata/axe/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.Evaluate[chromedp.Void](string(source)))
	for _, finding := range eval[[]string](t, ctx, `axe.run(`+part+`, {runOnly: {type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}})
		.then(r => r.violations.flatMap(v => v.nodes.map(n => v.id + " " + n.target.join(" ") + ": " + n.failureSummary)))`) {
		t.Errorf("%s: %s", where, finding)
	}
}

// moment is where the player stands, as its slider says it.
func moment(t *testing.T, ctx context.Context) string {
	t.Helper()
	return eval[string](t, ctx, `document.getElementById("seek").getAttribute("aria-valuetext")`)
}

// TestPlayerByKeyboard does with the keyboard alone all that the player can do, in
// both themes.
func TestPlayerByKeyboard(t *testing.T) {
	h := newTheatre(t)
	srv := h.serve()
	x := h.perform(80, 24, anHour()...)
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			ctx := browser(t, scheme, true)
			do(t, ctx, chromedp.EmulateViewport(1280, 900))
			signIn(t, ctx, srv.URL, "carol", "/sessions/"+x.ID)
			openPlayer(t, ctx, srv.URL, x, "")
			picture(t, ctx, scheme+"-player-1-opened")
			accessible(t, ctx, "opened")

			// Everything that acts is reached with Tab.
			var reached []string
			for range 40 {
				press(t, ctx, kb.Tab)
				reached = append(reached, eval[string](t, ctx, `document.activeElement.id || document.activeElement.tagName`))
			}
			for _, want := range []string{"play", "previous", "next", "speed", "idle", "absolute", "copy-link", "help", "seek", "find-text", "filter", "A"} {
				if !strings.Contains(" "+strings.Join(reached, " ")+" ", " "+want+" ") {
					t.Errorf("Tab does not reach %s: %v", want, reached)
				}
			}

			// From entry to entry, and back.
			do(t, ctx, chromedp.Evaluate[chromedp.Void](`document.activeElement.blur()`))
			press(t, ctx, "0", "]")
			eventually(t, ctx, `document.querySelector("#entries [aria-current] code").textContent === "uptime"`)
			press(t, ctx, "]")
			eventually(t, ctx, `document.querySelector("#entries [aria-current] code").textContent === "df -h /var"`)
			eventually(t, ctx, `document.querySelector(".ap-term-text").textContent.includes("load average: 9.81")`)
			press(t, ctx, "[")
			eventually(t, ctx, `document.querySelector("#entries [aria-current] code").textContent === "uptime"`)

			// The slider, by its own keys, with a thumbnail.
			do(t, ctx, chromedp.Focus(css(`#seek`)))
			press(t, ctx, kb.Home, kb.PageDown)
			eventually(t, ctx, `document.getElementById("seek").getAttribute("aria-valuetext") === "1 minute"`)
			press(t, ctx, kb.ArrowRight)
			eventually(t, ctx, `document.getElementById("seek").getAttribute("aria-valuetext") === "1 minute 5 seconds"`)
			eventually(t, ctx, `!document.getElementById("thumbnail").hidden && document.querySelector("#thumbnail pre").textContent.includes("load average: 9.81")`)
			picture(t, ctx, scheme+"-player-2-thumbnail")
			accessible(t, ctx, "with a thumbnail")
			press(t, ctx, kb.End)
			eventually(t, ctx, `document.querySelector(".ap-term-text").textContent.includes("logout")`)
			press(t, ctx, kb.Home)

			// Playing, faster, over four minutes of nothing.
			press(t, ctx, ">", ">", ">")
			eventually(t, ctx, `document.getElementById("speed").value === "8"`)
			press(t, ctx, "i")
			eventually(t, ctx, `document.getElementById("idle").value === "0.5"`)
			press(t, ctx, " ")
			eventually(t, ctx, `document.getElementById("skipped").textContent === "skipped 4 min"`)
			press(t, ctx, " ")
			eventually(t, ctx, `document.getElementById("play").textContent === "Play"`)
			if got := terminal(t, ctx); !strings.Contains(got, "99% /var") {
				t.Errorf("shown after the pause:\n%s", got)
			}
			picture(t, ctx, scheme+"-player-3-skipped")
			press(t, ctx, "<", "i")

			// Finding, and what was found.
			press(t, ctx, "/")
			eventually(t, ctx, `document.activeElement.id === "find-text"`)
			do(t, ctx, chromedp.Evaluate[chromedp.Void](`document.getElementById("find-text").value = ""`)) // chromedp types the slash, whatever became of the key
			do(t, ctx, chromedp.KeyEvent("audit_old"), chromedp.KeyEvent(kb.Enter))
			eventually(t, ctx, `document.getElementById("found").textContent.startsWith("1 of ")`)
			press(t, ctx, kb.Escape, "n")
			eventually(t, ctx, `document.getElementById("found").textContent.startsWith("2 of ")`)
			eventually(t, ctx, `CSS.highlights.get("hit")?.size > 0`)
			press(t, ctx, "N")
			eventually(t, ctx, `document.getElementById("found").textContent.startsWith("1 of ")`)
			press(t, ctx, "n")
			eventually(t, ctx, `document.getElementById("found").textContent.startsWith("2 of ")`)
			if lane := eval[string](t, ctx, `document.querySelector("#keys-lane code").textContent`); !strings.Contains(lane, "12 keys hidden, echo off") {
				t.Errorf("the lane says %q", lane)
			}
			picture(t, ctx, scheme+"-player-4-found")
			accessible(t, ctx, "found")

			// The time of day, a link, and the keys.
			at := moment(t, ctx)
			press(t, ctx, "a")
			eventually(t, ctx, `document.getElementById("now").textContent.startsWith("2026-03-02 10:5")`)
			press(t, ctx, "a", "y")
			eventually(t, ctx, `document.getElementById("said").textContent.startsWith("The link to this moment")`)
			press(t, ctx, "?")
			eventually(t, ctx, `document.getElementById("keyboard").open`)
			picture(t, ctx, scheme+"-player-5-keys")
			accessible(t, ctx, "keys")
			press(t, ctx, kb.Tab, kb.Escape)

			// Keys can be turned off.
			do(t, ctx, chromedp.Evaluate[chromedp.Void](`document.getElementById("single-keys").click(); document.activeElement.blur()`))
			press(t, ctx, "0", "a")
			if now := moment(t, ctx); now != at {
				t.Errorf("with keys turned off they went from %s to %s", at, now)
			}
			do(t, ctx, chromedp.Evaluate[chromedp.Void](`document.getElementById("single-keys").click()`))

			// A link to a moment leads there.
			link := eval[float64](t, ctx, `document.querySelector("#entries [aria-current]").parentElement.entry.at`)
			openPlayer(t, ctx, srv.URL, x, fmt.Sprintf("?t=%.3f&q=audit_old", link))
			eventually(t, ctx, `document.getElementById("found").textContent.includes(" of 4: ")`)
			if now := moment(t, ctx); now != at {
				t.Errorf("the link leads to %s, want %s", now, at)
			}
		})
	}
	if told := h.looks(x); len(told) < 4 || told[0] != "play" {
		t.Errorf("told %q", told)
	}
}

// TestPlayerOnAPhone plays on a screen of 360 pixels, and without scripts.
func TestPlayerOnAPhone(t *testing.T) {
	h := newTheatre(t)
	srv := h.serve()
	x := h.perform(80, 24, anHour()...)
	for _, scheme := range []string{"light", "dark"} {
		ctx := browser(t, scheme, true)
		signIn(t, ctx, srv.URL, "carol", "/sessions/"+x.ID)
		do(t, ctx, chromedp.Click(css(`a[href$="/play"]`)))
		eventually(t, ctx, `document.getElementById("player")?.dataset.ready`)
		do(t, ctx, chromedp.Evaluate[chromedp.Void](`document.querySelector("#entries li:nth-child(4) a").click()`))
		eventually(t, ctx, `document.querySelector("#entries li:nth-child(4) a").getAttribute("aria-current")`)
		if w := width(t, ctx); w > 360 {
			t.Errorf("the player is %v wide", w)
		}
		do(t, ctx, chromedp.Evaluate[chromedp.Void](`scrollTo(0, 0)`))
		picture(t, ctx, scheme+"-player-phone")
		accessible(t, ctx, scheme+" on a phone")
		// The last shown stays, the button verifies.
		do(t, ctx, chromedp.Click(css(`form[action$="/check"] button`)))
		eventually(t, ctx, `location.hash === "#evidence" && document.getElementById("player")?.dataset.ready`)
		if said := get(t, ctx, chromedp.Text(css(`#evidence`))); !strings.Contains(said, "✓ verified") {
			t.Errorf("the page says of the recording:\n%s", said)
		}
		do(t, ctx, chromedp.Evaluate[chromedp.Void](`document.getElementById("evidence").scrollIntoView()`))
		picture(t, ctx, scheme+"-player-phone-evidence")
	}

	ctx := browser(t, "light", false)
	signIn(t, ctx, srv.URL, "carol", "/sessions/"+x.ID+"/play")
	if w := width(t, ctx); w > 360 {
		t.Errorf("without scripts the page is %v wide", w)
	}
	do(t, ctx, chromedp.Click(css(`#entries li:nth-last-child(2) a`)), chromedp.WaitVisible(css(`#still pre`)))
	shown := get(t, ctx, chromedp.Text(css(`#still pre`)))
	if !strings.Contains(shown, "guest@db01") {
		t.Errorf("without scripts the screen shows:\n%s", shown)
	}
	picture(t, ctx, "player-without-scripts")
	if page := get(t, ctx, chromedp.Text(css(`main`))); !strings.Contains(page, "INC-7 replication lag") || !strings.Contains(page, "Download the transcript") {
		t.Errorf("without scripts the page says:\n%s", page)
	}
}

// TestPlayerHostile plays to an auditor what wants to reach the auditor's browser:
// nothing in it is more than text. That the content policy was not broken is seen
// by the browser.
func TestPlayerHostile(t *testing.T) {
	h := newTheatre(t)
	srv := h.serve()
	x := h.perform(80, 24, hostile()...)
	ctx := browser(t, "light", true)
	do(t, ctx, chromedp.EmulateViewport(1280, 900))
	signIn(t, ctx, srv.URL, "carol", "/sessions/"+x.ID)
	openPlayer(t, ctx, srv.URL, x, "?q=%3Cscript%3E%22%27")
	for range 12 {
		press(t, ctx, "]")
		eventually(t, ctx, `document.getElementById("player").dataset.ready`)
	}
	press(t, ctx, kb.Home, "/")
	eventually(t, ctx, `document.activeElement.id === "find-text"`)
	do(t, ctx, chromedp.Evaluate[chromedp.Void](`document.getElementById("find-text").value = "<script>"`), chromedp.KeyEvent(kb.Enter))
	eventually(t, ctx, `document.getElementById("found").textContent.startsWith("1 of ")`)
	do(t, ctx, chromedp.Focus(css(`#seek`)))
	press(t, ctx, kb.End)
	eventually(t, ctx, `document.querySelector(".ap-term-text").textContent.includes("logout") || document.querySelector(".ap-term-text").textContent.includes("true")`)
	picture(t, ctx, "player-hostile")
	if title := eval[string](t, ctx, `document.title`); strings.Contains(title, "owned") {
		t.Errorf("the title is %q", title)
	}
	for _, what := range []string{`#player script`, `#player [onerror]`, `#player [onload]`, `#player [onmouseover]`, `#player a[href^="javascript:"]`, `#player img`} {
		if eval[bool](t, ctx, fmt.Sprintf(`document.querySelector(%q) !== null`, what)) {
			t.Errorf("the page has %s", what)
		}
	}
	if list := eval[string](t, ctx, `document.getElementById("entries").textContent`); !strings.Contains(list, `</script><script>document.title="owned"</script>`) {
		t.Errorf("the list does not show the mark as it is:\n%s", list)
	}
}

// TestPlayerWaitsForItsView opens the page before the view is there; it then plays
// by itself.
func TestPlayerWaitsForItsView(t *testing.T) {
	h := newTheatre(t)
	srv := h.serve()
	x := h.stage(80, 24, anHour()...)
	ctx := browser(t, "light", true)
	signIn(t, ctx, srv.URL, "carol", "/sessions/"+x.ID+"/play")
	do(t, ctx, chromedp.WaitVisible(css(`#preparing`)))
	picture(t, ctx, "player-preparing")
	accessible(t, ctx, "preparing")
	h.prepare(x)
	eventually(t, ctx, `document.getElementById("player")?.dataset.ready`)
}
