package web

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/mod/sumdb/note"

	"github.com/drawbolt/drawbolt/recorder/bundle"
	"github.com/drawbolt/drawbolt/web/api"
)

// TestEvidence: the auditor's bundle verifies, names what was approved by whom,
// and holds the event of its own export; nobody else gets one.
func TestEvidence(t *testing.T) {
	h := newHouse(t)
	x := h.record("uptime", "up 3 days\r\n")
	path := "/v1/sessions/" + x.ID + "/evidence"
	for _, route := range []string{path, "/sessions/" + x.ID + "/evidence"} {
		c := httpCall{method: "GET", path: route}
		if route == path {
			c.token = h.token("carol")
		} else {
			c.cookie = h.token("carol")
		}
		resp := h.do(c)
		b := []byte(text(resp))
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/zip" || !strings.Contains(resp.Header.Get("Content-Disposition"), x.ID+".zip") {
			t.Fatalf("%s: %d %v %.300s", route, resp.StatusCode, resp.Header, b)
		}
		rep, err := bundle.Verify(bytes.NewReader(b), int64(len(b)), []note.Verifier{h.server.verifier})
		if err != nil || !rep.Verified || !rep.Trusted {
			t.Fatalf("%s: %v %+v", route, err, rep.Checks)
		}
		f := rep.Facts
		if f.Session != x.ID || f.Person != "alice" || f.Target != "db01" || f.Account != "guest" || f.Reason != "INC-7 look" || f.Needs != 0 || f.Command != "uptime" || f.RecordingSHA256 != x.Recording.SHA256 {
			t.Errorf("the facts are %+v", f)
		}
	}
	// Each of the two is an event, which the second one tells of the first.
	seen := callJSON[api.List[api.Event]](h, "carol", "GET", "/v1/audit/events?action=session.replay&session="+x.ID, nil, 200)
	if len(seen.Items) != 2 || seen.Items[0].Details["how"] != "evidence" || seen.Items[0].ActorName != "carol" {
		t.Errorf("the events are %+v", seen.Items)
	}
	callJSON[api.Problem](h, "eve", "GET", path, nil, 404)
	callJSON[api.Problem](h, "bob", "GET", path, nil, 403) // may list sessions, and not replay them
	callJSON[api.Problem](h, "carol", "GET", "/v1/sessions/SES-0000000000000000/evidence", nil, 404)
}

// TestEvidenceInBrowser finds the evidence on the page of its session, and opens
// what came in a browser, from a file.
func TestEvidenceInBrowser(t *testing.T) {
	h := newHouse(t)
	srv := h.serve()
	x := h.record("uptime", "up 3 days\r\n")
	ctx := browser(t, "light", true)
	signIn(t, ctx, srv.URL, "carol", "/sessions/"+x.ID)
	href := get(t, ctx, chromedp.Evaluate[string](`[...document.querySelectorAll("a[download]")].find((a) => a.innerText === "Download evidence").getAttribute("href")`))
	picture(t, ctx, "session-evidence")
	b := []byte(text(h.do(httpCall{method: "GET", path: href, cookie: h.token("carol")})))
	z := must(zip.NewReader(bytes.NewReader(b), int64(len(b))))
	r := must(z.Open("verify.html"))
	defer r.Close()
	file := filepath.Join(t.TempDir(), "verify.html")
	if err := os.WriteFile(file, must(io.ReadAll(r)), 0o600); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.Navigate("file://"+file), chromedp.WaitVisible(css(`#verdict[data-state=own]`)),
		chromedp.SendKeys(css(`#key`), h.server.c.VerifierKey), chromedp.Click(css(`#trust button`)), chromedp.WaitVisible(css(`#verdict[data-state=good]`)))
	if shown := get(t, ctx, chromedp.Text(css(`#facts`))); !strings.Contains(shown, "alice as guest on db01") || !strings.Contains(shown, "INC-7 look") {
		t.Errorf("the page says %s", shown)
	}
	if w := width(t, ctx); w > 360 {
		t.Errorf("the page is %v wide", w)
	}
}

// TestEvidenceAtOnce: a person has a few bundles packed at a time, and the places
// are free again when they were sent, or could not be.
func TestEvidenceAtOnce(t *testing.T) {
	h := newHouse(t)
	x := h.record("uptime", "up 3 days\r\n")
	by := h.by("carol")
	var all []content
	for range maxReading {
		all = append(all, must(h.server.openEvidence(t.Context(), by, x.ID)))
	}
	if _, err := h.server.openEvidence(t.Context(), by, x.ID); err == nil || !strings.Contains(err.Error(), "being packed") {
		t.Errorf("one more: %v", err)
	}
	full := errors.New("the reader has gone")
	if err := all[0].write(failing{full}); !errors.Is(err, full) {
		t.Errorf("err %v", err)
	}
	if err := all[1].write(io.Discard); err != nil {
		t.Error(err)
	}
	for range maxReading + 1 {
		if _, err := h.server.openEvidence(t.Context(), by, "SES-0000000000000000"); err == nil {
			t.Error("evidence of nothing")
		}
	}
	must(h.server.openEvidence(t.Context(), by, x.ID))
}

// TestSilentWhilePacking: over HTTP/2 an answer that is not written to for longer
// than a reader has is not cut off, and a reader that does not read is.
func TestSilentWhilePacking(t *testing.T) {
	t.Parallel()
	const within = 2 * time.Second
	cut := make(chan error, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &patient{Writer: w, control: http.NewResponseController(w), within: within}
		defer p.keep()()
		io.WriteString(p, "first ")
		if r.URL.Path == "/unread" {
			var err error
			for range 1000 {
				if _, err = p.Write(make([]byte, 64<<10)); err != nil {
					break
				}
			}
			cut <- err
			return
		}
		time.Sleep(within * 5 / 2)
		io.WriteString(p, "last")
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	resp := must(srv.Client().Get(srv.URL))
	if body := text(resp); resp.ProtoMajor != 2 || body != "first last" {
		t.Errorf("over %s came %q", resp.Proto, body)
	}
	unread := must(srv.Client().Get(srv.URL + "/unread"))
	defer unread.Body.Close()
	select {
	case err := <-cut:
		if err == nil {
			t.Error("64 MB were written, and nobody has read")
		}
	case <-time.After(time.Minute):
		t.Error("the reader is waited for")
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
