package web

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// browser starts Chromium with the window of a small phone, and fails the test
// when a page breaks its content policy or throws.
func browser(t *testing.T, scheme string, scripts bool, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("no chromium here: install the Debian package chromium")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("hide-scrollbars", true))
	opts = append(opts, more...)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var complaints []string
	messages := chromedp.Console(ctx)
	go func() { // ends with ctx
		for m, err := range messages {
			if err != nil {
				return
			}
			// Answers of 4xx are told by the network; that a test types before a page has
			// set the focus itself is no complaint.
			if m.Source != "network" && !strings.Contains(m.String(), "Autofocus processing was blocked") {
				mu.Lock()
				complaints = append(complaints, m.String())
				mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range complaints {
			t.Errorf("the browser complains: %s", c)
		}
	})
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !scripts}); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.EmulateViewport(360, 640, chromedp.EmulateMobile, chromedp.EmulateScale(2)))
	return ctx
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	for _, step := range steps {
		get(t, ctx, step)
	}
}

// replaced reports whether an element that was found was no more when something was
// to be done with it, because the page has replaced it meanwhile: nothing was done.
func replaced(err error) bool {
	e, is := errors.AsType[*cdproto.Error](err)
	return is && slices.Contains([]string{"Could not find node with given id", "No node with given id found", "Node is detached from document", "Could not compute content quads."}, e.Message)
}

func get[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	for replaced(err) {
		v, err = chromedp.Run(ctx, a) // with the element that is there now
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// width is how wide the page is: more than the screen means that it scrolls.
func width(t *testing.T, ctx context.Context) float64 {
	t.Helper()
	return get(t, ctx, chromedp.Evaluate[float64](`document.documentElement.scrollWidth`))
}

type css = chromedp.CSS

// picture keeps a screenshot when SCREENSHOTS names a folder.
func picture(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	png := get(t, ctx, chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// signIn goes through the sign-in page and lands on the page next.
func signIn(t *testing.T, ctx context.Context, server, name, next string) {
	t.Helper()
	do(t, ctx,
		chromedp.Navigate(server+next),
		chromedp.WaitVisible(css(`input[name=password]`)),
		chromedp.SendKeys(css(`input[name=user]`), name),
		chromedp.SendKeys(css(`input[name=password]`), password(name)),
		chromedp.Click(css(`main form button`)),
		chromedp.WaitVisible(css(`h1`)),
		chromedp.WaitNotPresent(css(`input[name=password]`)))
	soon(t, ctx, `document.readyState === "complete"`)
}

// TestApproveOnAPhone signs in, opens the inbox, and approves, on a screen of
// 360x640: in both themes, and without scripts.
func TestApproveOnAPhone(t *testing.T) {
	for _, c := range []struct {
		name, scheme string
		scripts      bool
	}{{"light", "light", true}, {"dark", "dark", true}, {"without scripts", "light", false}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			srv := h.serve()
			r := h.ask("INC-1234 replication lag on the primary, need to look at the replication slots")
			ctx := browser(t, c.scheme, c.scripts)
			file := strings.ReplaceAll(c.name, " ", "-")
			do(t, ctx, chromedp.Navigate(srv.URL+"/inbox"), chromedp.WaitVisible(css(`input[name=password]`)))
			picture(t, ctx, file+"-1-login")
			signIn(t, ctx, srv.URL, "bob", "/inbox")
			picture(t, ctx, file+"-2-inbox")
			if w := width(t, ctx); w > 360 {
				t.Errorf("the inbox is %v wide", w)
			}
			do(t, ctx, chromedp.Click(css(`#live article a`)), chromedp.WaitVisible(css(`button[value=approve]`)))
			picture(t, ctx, file+"-3-request")
			bottom := get(t, ctx, chromedp.Evaluate[float64](`document.querySelector("button[value=approve]").getBoundingClientRect().bottom`))
			if w := width(t, ctx); bottom > 640 || w > 360 {
				t.Errorf("the request does not fit one screen: the button ends at %v, the page is %v wide", bottom, w)
			}
			do(t, ctx,
				chromedp.Click(css(`input[name=seconds][value="1800"]`)),
				chromedp.SendKeys(css(`input[name=note]`), "read only please"),
				chromedp.Click(css(`button[value=approve]`)),
				chromedp.WaitNotPresent(css(`button[value=approve]`)),
				chromedp.WaitVisible(css(`#request ol`)))
			picture(t, ctx, file+"-4-approved")
			shown := get(t, ctx, chromedp.Text(css(`#request`)))
			for _, want := range []string{"Approved by bob", ", for 30 min: “read only please”"} {
				if !strings.Contains(shown, want) {
					t.Errorf("the status page does not say %q:\n%s", want, shown)
				}
			}
			got := callJSON[api.Request](h, "alice", "GET", "/v1/requests/"+r.ID, nil, 200)
			if got.State != api.Approved || got.Grant.DurationSeconds != 1800 {
				t.Errorf("the request is %s for %+v", got.State, got.Grant)
			}
		})
	}
}

// TestLive watches a request page notice what somebody else has decided, while
// what is being typed there stays until then.
func TestLive(t *testing.T) {
	h := newHouse(t)
	srv := h.serve()
	r := h.ask("INC-1 x")
	ctx := browser(t, "light", true)
	signIn(t, ctx, srv.URL, "bob", "/r/"+r.ID)
	do(t, ctx, chromedp.SendKeys(css(`input[name=note]`), "half a sen"), chromedp.Evaluate[chromedp.Void](`dispatchEvent(new Event("pageshow"))`), chromedp.Sleep(time.Second))
	typed := eval[string](t, ctx, `document.querySelector("input[name=note]").value`)
	if typed != "half a sen" {
		t.Errorf("after a poll the note is %q", typed)
	}
	if _, err := h.broker.Deny(t.Context(), h.by("dave"), r.ID, r.Digest, "use the replica"); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.WaitNotPresent(css(`input[name=note]`)))
	shown := get(t, ctx, chromedp.Text(css(`#request`)))
	if !strings.Contains(shown, "Denied by dave: “use the replica”") {
		t.Errorf("shown: %s", shown)
	}
	// When the login ends, the page does not stay as if nothing had happened.
	if _, err := h.logins.RevokeAll(t.Context(), access.System(), h.people["bob"].ID); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.WaitVisible(css(`input[name=password]`)))
}

// TestEveryPageInBothThemes opens what the other tests do not, so that each page
// is seen to keep its content policy and to fit a phone.
func TestEveryPageInBothThemes(t *testing.T) {
	h := newHouse(t)
	srv := h.serve()
	x := h.record("uptime; cat /etc/very/long/path/to/some/file/that/does/not/fit/on/a/phone.conf", "up\r\n")
	r := h.ask("INC-1234 replication lag")
	if _, err := h.broker.Approve(t.Context(), h.by("bob"), r.ID, r.Digest, broker.Answer{}); err != nil {
		t.Fatal(err)
	}
	must(h.broker.Request(t.Context(), h.by("alice"), broker.Ask{Target: "db02", Account: "root", Reason: "CHG-77 release"}))
	d, _, err := h.logins.StartDevice(t.Context(), h.by("alice").Source, "drawbolt/1.0 on laptop")
	if err != nil {
		t.Fatal(err)
	}
	linked := access.ExternalAccount{Kind: "slack", Team: "T0EXAMPLE", ID: "U0ALICE", Name: "Alice Kim alice@example.com"}
	must(h.broker.ConfirmLink(t.Context(), h.by("alice"), must(h.broker.BeginLink(t.Context(), linked))))
	code := must(h.broker.BeginLink(t.Context(), linked))
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			alice, carol := browser(t, scheme, true), browser(t, scheme, true)
			signIn(t, alice, srv.URL, "alice", "/")
			signIn(t, carol, srv.URL, "carol", "/sessions")
			for _, p := range []struct {
				name, path string
				ctx        context.Context
			}{
				{"home", "/", alice}, {"ask", "/ask?target=db01&account=root", alice}, {"targets", "/targets", alice},
				{"own-request", "/r/" + r.ID, alice}, {"device", "/device?code=" + d.Code, alice}, {"device-empty", "/device", alice},
				{"link", "/link?code=" + code, alice}, {"links", "/me/links", alice}, {"inbox-empty", "/inbox", alice}, {"not-found", "/r/REQ-0000000000000000", alice},
				{"sessions", "/sessions", carol}, {"session", "/sessions/" + x.ID, carol}, {"denied", "/nothing", carol},
			} {
				do(t, p.ctx, chromedp.Navigate(srv.URL+p.path), chromedp.WaitVisible(css(`h1`)))
				if w := width(t, p.ctx); w > 360 {
					t.Errorf("%s is %v wide", p.path, w)
				}
				picture(t, p.ctx, scheme+"-"+p.name)
			}
			do(t, alice, chromedp.EmulateViewport(1200, 800), chromedp.Navigate(srv.URL+"/"), chromedp.WaitVisible(css(`h1`)))
			picture(t, alice, scheme+"-home-wide")
		})
	}
}
