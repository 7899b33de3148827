//go:build linux

package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A browser keeps cookies, follows redirects, sends forms, and knows no scripts.
type browser struct {
	http *http.Client
	page string // the last one
	at   string // its path
}

// insecure is a client that does not look at the certificate: that is what other
// stories are about.
func insecure() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
}

func (s *story) api(ts *testscript.TestScript, args []string) {
	status, cut := http.StatusOK, false
	if strings.HasPrefix(args[0], "=") {
		text, mayCut := strings.CutSuffix(args[0][1:], "-or-cut")
		status, cut, args = atoi(ts, text), mayCut, args[1:]
	}
	person, method, path := args[0], args[1], args[2]
	var body io.Reader
	if len(args) > 3 {
		b := []byte(args[3])
		if strings.HasPrefix(args[3], "@") {
			b = []byte(ts.ReadFile(args[3][1:]))
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, s.url+path, body)
	ts.Check(err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if person != "nobody" {
		token, err := os.ReadFile(filepath.Join(s.people, person, "default", "token"))
		ts.Check(err)
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := insecure().Do(req)
	if err != nil && cut {
		return // before all of it was sent, which is an answer too
	}
	ts.Check(err)
	defer resp.Body.Close()
	s.answer(ts, resp, status)
}

func atoi(ts *testscript.TestScript, text string) int {
	n, err := strconv.Atoi(text)
	ts.Check(err)
	return n
}

func (s *story) answer(ts *testscript.TestScript, resp *http.Response, status int) string {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil && len(b) == 0 {
		ts.Fatalf("read the answer: %v", err)
	}
	fmt.Fprintf(ts.Stdout(), "%s", b)
	if resp.StatusCode != status {
		ts.Fatalf("%s %s is answered by %s, not %d:\n%s", resp.Request.Method, resp.Request.URL, resp.Status, status, b)
	}
	return string(b)
}

var (
	formTag  = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	inputTag = regexp.MustCompile(`(?s)<(?:input|button)\b([^>]*)>`)
	attrib   = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
)

func attributes(tag string) map[string]string {
	out := map[string]string{}
	for _, m := range attrib.FindAllStringSubmatch(tag, -1) {
		out[m[1]] = html.UnescapeString(m[2])
	}
	return out
}

// fill fills in the form of the page that has all the fields named in values,
// keeps what it already holds, and returns where it goes.
func (b *browser) fill(values url.Values) (action string, all url.Values, err error) {
	for _, m := range formTag.FindAllStringSubmatch(b.page, -1) {
		form := attributes(m[1])
		have, names, buttons := url.Values{}, map[string]bool{}, map[string]bool{}
		for _, in := range inputTag.FindAllStringSubmatch(m[2], -1) {
			a := attributes(in[1])
			_, checked := a["checked"]
			names[a["name"]] = true
			switch {
			case strings.HasPrefix(in[0], "<button"):
				buttons[a["name"]+"="+a["value"]] = true
			case a["name"] == "" || (a["type"] == "radio" || a["type"] == "checkbox") && !checked:
			default:
				have.Set(a["name"], a["value"])
			}
		}
		fits := strings.EqualFold(form["method"], "post")
		for name := range values {
			fits = fits && names[name] && (name != "action" || buttons["action="+values.Get("action")])
		}
		if !fits {
			continue
		}
		for name, v := range values {
			have[name] = v
		}
		if action = form["action"]; action == "" {
			action = b.at
		}
		return action, have, nil
	}
	return "", nil, fmt.Errorf("the page %s has no form for %v", b.at, values)
}

func (s *story) web(ts *testscript.TestScript, args []string) {
	status := http.StatusOK
	if strings.HasPrefix(args[0], "=") {
		status, args = atoi(ts, args[0][1:]), args[1:]
	}
	b := s.browsers[args[0]]
	if b == nil {
		jar, err := cookiejar.New(nil)
		ts.Check(err)
		b = &browser{http: insecure()}
		b.http.Jar = jar
		s.browsers[args[0]] = b
	}
	path := args[1]
	if file, ok := strings.CutPrefix(path, "@"); ok {
		path = strings.TrimSpace(ts.ReadFile(file))
	}
	path, byHand := strings.CutPrefix(path, "by-hand:")
	path, elsewhere := strings.CutPrefix(path, "elsewhere:")
	if path != "form" && !byHand && !elsewhere {
		b.get(ts, s, path, status, len(args) == 2)
	}
	if len(args) == 2 {
		return
	}
	values := url.Values{}
	for _, a := range args[2:] {
		name, value, _ := strings.Cut(a, "=")
		if file, ok := strings.CutPrefix(value, "@"); ok {
			value = strings.TrimSpace(ts.ReadFile(file))
		}
		values.Set(name, value)
	}
	action, all, origin := path, values, s.url
	if elsewhere {
		origin = "https://elsewhere.example"
	}
	if !byHand && !elsewhere {
		var err error
		action, all, err = b.fill(values)
		ts.Check(err)
	}
	req, err := http.NewRequest(http.MethodPost, s.url+action, strings.NewReader(all.Encode()))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", origin)
	resp, err := b.http.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	b.page, b.at = s.answer(ts, resp, status), resp.Request.URL.Path
}

func (b *browser) get(ts *testscript.TestScript, s *story, path string, status int, last bool) {
	resp, err := b.http.Get(s.url + strings.TrimPrefix(path, s.url))
	ts.Check(err)
	defer resp.Body.Close()
	if !last {
		status = resp.StatusCode
	}
	b.page, b.at = s.answer(ts, resp, status), resp.Request.URL.Path
}
