package web

import (
	"bytes"
	"errors"
	"mime/multipart"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/drawbolt/drawbolt/policy"
	bundles "github.com/drawbolt/drawbolt/policy/pack"
	"github.com/drawbolt/drawbolt/rego"
	"github.com/drawbolt/drawbolt/web/api"
)

// changedBundle is the bundle in the program with a line more in one file.
func changedBundle(t *testing.T, name, line string) []byte {
	t.Helper()
	files := must(policy.ReadFiles(rego.Bundle))
	files[bundles.RolesFile] = must(os.ReadFile("../rego/testdata/roles.json"))
	files[name] = append(files[name], "\n"+line+"\n"...)
	return must(bundles.New(files).Pack())
}

// upload is a form with a file.
func upload(t *testing.T, field string, file []byte) (media, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part := must(w.CreateFormFile(field, "policy.tar.gz"))
	part.Write(file)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

// TestBundlePage sends bundles by a form: they are tested, compared and told of, and
// nothing is put into service.
func TestBundlePage(t *testing.T) {
	var unsigned error
	h := newHouse(t, func(c *Config) {
		c.BundleSigner = func(*bundles.Bundle) (string, error) { return "security-team", unsigned }
	})
	h.ask("INC-1 look")
	before := callJSON[api.PolicyView](h, "root", "GET", "/v1/policy", nil, 200)
	send := func(who, media, body string) (int, string) {
		resp := h.do(httpCall{method: "POST", path: "/policies/bundle", cookie: h.token(who), header: map[string]string{"Sec-Fetch-Site": "same-origin", "Content-Type": media}, body: body})
		return resp.StatusCode, text(resp)
	}
	good := changedBundle(t, "drawbolt.rego", "# <b>more</b>")
	for _, c := range []struct {
		name, who, field string
		file             []byte
		code             int
		want             string
	}{
		{"good", "root", "bundle", good, 200, "✓ This bundle may be put into service"},
		{"what changes", "root", "bundle", good, 200, "+# &lt;b&gt;more&lt;/b&gt;"},
		{"who has signed it", "root", "bundle", good, 200, "Signed by security-team."},
		{"decisions", "root", "bundle", good, 200, "decisions asked again, 0 answered in another way"},
		{"a test that fails", "root", "bundle", changedBundle(t, "drawbolt_test.rego", "test_never if false"), 200, "✗ This bundle would be refused"},
		{"no Rego", "root", "bundle", changedBundle(t, "drawbolt.rego", "nonsense {"), 200, "✗ This bundle would be refused"},
		{"leads out", "root", "bundle", hostileBundle(t), 422, "leads out of the archive"},
		{"no archive", "root", "bundle", []byte("x"), 422, "DB-6150"},
		{"nothing", "root", "bundle", nil, 422, "choose a bundle"},
		{"another field", "root", "file", good, 422, "holds no bundle"},
		{"too large", "root", "bundle", make([]byte, api.MaxBundle+1), 413, "DB-6340"},
		{"far too large", "root", "bundle", make([]byte, maxUpload), 413, "DB-6007"},
		{"a reader of the log", "carol", "bundle", good, 403, "DB-2103"},
		{"somebody", "eve", "bundle", good, 403, "DB-2103"},
	} {
		media, body := upload(t, c.field, c.file)
		if code, said := send(c.who, media, body); code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%s: %d, want %d %s\n%.3000s", c.name, code, c.code, c.want, said)
		}
	}
	if code, _ := send("root", "application/x-www-form-urlencoded", url.Values{"bundle": {"x"}}.Encode()); code != 415 {
		t.Errorf("another form: %d", code)
	}
	media, body := upload(t, "bundle", good)
	if code, _ := send("root", media, body[:len(body)/2]); code != 422 {
		t.Errorf("half of it: %d", code)
	}
	unsigned = errors.New("the bundle is not signed")
	if _, said := send("root", media, body); !strings.Contains(said, "✗ This bundle would be refused") || !strings.Contains(said, "Its signature: the bundle is not signed") {
		t.Errorf("unsigned:\n%.3000s", said)
	}
	if after := callJSON[api.PolicyView](h, "root", "GET", "/v1/policy", nil, 200); after.Digest != before.Digest {
		t.Error("a bundle that was sent to be looked at decides")
	}
}

// TestBundleInBrowser sends a bundle on a phone, and looks at what came of it.
func TestBundleInBrowser(t *testing.T) {
	h := newHouse(t)
	srv := h.serve()
	file := filepath.Join(t.TempDir(), "policy.tar.gz")
	if err := os.WriteFile(file, changedBundle(t, "reasons.rego", "# one line more"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := browser(t, "dark", true)
	h.become(ctx, srv.URL, "root")
	visit(t, ctx, srv.URL+"/policies")
	do(t, ctx, chromedp.Click(css(`#bundle summary`)), chromedp.WaitVisible(css(`#bundle-file`)),
		chromedp.SetUploadFiles(css(`#bundle-file`), []string{file}),
		chromedp.Click(css(`#bundle button`)), chromedp.WaitVisible(css(`#bundle-title`)))
	picture(t, ctx, "bundle-phone-dark")
	const answer = `document.querySelector("[aria-labelledby=bundle-title]")`
	accessibleIn(t, ctx, "the answer", answer)
	do(t, ctx, chromedp.Click(css(`[id="change-reasons.rego"] summary`)), chromedp.WaitVisible(css(`[id="change-reasons.rego"] ins`)))
	picture(t, ctx, "bundle-phone-dark-open")
	accessibleIn(t, ctx, "the answer with a change", answer)
	if w := width(t, ctx); w > 360 {
		t.Errorf("the page is %v wide", w)
	}
}
