//go:build linux

package test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/web/api"
)

// TestHostileRequests sends the real web port what no client of ours sends.
func TestHostileRequests(t *testing.T) {
	x := newSite(t, "", "", 1)
	host := strings.TrimPrefix(x.url, "https://")
	head := "Host: " + host + "\r\nConnection: close\r\n"
	bearer := "Authorization: Bearer " + x.alice.Token + "\r\n"

	t.Run("paths without a login", func(t *testing.T) {
		for i, path := range []string{
			"/v1/me", "//v1/me", "/v1//me", "/v1/me/", "/v1/%6de", "/v1/../v1/me", "/%2e%2e/v1/users", "/v1/me;x=1", "/v1/me%00", "/V1/me", "/v1/users?x=/login",
			"/static/../v1/me", "/static/%2e%2e/%2e%2e/etc/passwd", "/static/x/..%2f..%2f..%2fetc%2fpasswd", "/static/../../../../etc/passwd", "/login/../inbox",
			"/v1/requests/..%2f..%2fusers", "/v1/version/../users", "/healthz/../v1/users", x.url + "/v1/me", "http://evil.example/v1/me", "*", "/metrics", "/debug/pprof/", "/.env", "/readyz",
		} {
			status, answer := x.raw(fmt.Sprintf("127.0.1.%d", 1+i), "GET "+path+" HTTP/1.1\r\n"+head+"\r\n")
			body := answer[strings.Index(answer+"\r\n\r\n", "\r\n\r\n"):]
			if status < 301 || status >= 500 || strings.Contains(body, "root:") || strings.Contains(body, "USR-") {
				t.Errorf("%s: %d %.200q", path, status, body)
			}
		}
	})
	t.Run("methods", func(t *testing.T) {
		for _, method := range []string{"TRACE", "CONNECT", "PROPFIND", "PATCH", "get", "OPTIONS", "X" + strings.Repeat("Y", 100)} {
			if status, answer := x.raw("127.0.2.1", method+" /v1/me HTTP/1.1\r\n"+head+bearer+"\r\n"); status < 400 || status >= 500 {
				t.Errorf("%s: %d %.200q", method, status, answer)
			}
		}
		for _, override := range []string{"X-HTTP-Method-Override: DELETE\r\n", "X-HTTP-Method: DELETE\r\n", "X-Method-Override: DELETE\r\n"} {
			admin := "Authorization: Bearer " + x.people["admin"].Token + "\r\n"
			x.raw("127.0.2.1", "GET /v1/targets/db01?_method=DELETE HTTP/1.1\r\n"+head+admin+override+"\r\n")
			if _, err := x.people["admin"].FindTarget(t.Context(), "db01"); err != nil {
				t.Errorf("%s: %v", override, err)
			}
		}
	})
	t.Run("sizes and framing", func(t *testing.T) {
		for name, request := range map[string]string{
			"a huge header":      "GET /v1/me HTTP/1.1\r\n" + head + bearer + "X: " + strings.Repeat("y", 1<<20) + "\r\n\r\n",
			"many headers":       "GET /v1/me HTTP/1.1\r\n" + head + bearer + strings.Repeat("X: y\r\n", 50000) + "\r\n",
			"a huge line":        "GET /" + strings.Repeat("y", 1<<20) + " HTTP/1.1\r\n" + head + "\r\n",
			"a huge body":        "POST /v1/requests HTTP/1.1\r\n" + head + bearer + "Content-Type: application/json\r\nContent-Length: 10485760\r\n\r\n" + strings.Repeat(" ", 10<<20),
			"two lengths":        "POST /v1/requests HTTP/1.1\r\n" + head + bearer + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
			"length and chunks":  "POST /v1/requests HTTP/1.1\r\n" + head + bearer + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/me HTTP/1.1\r\n" + head + "\r\n",
			"a bad chunk":        "POST /v1/requests HTTP/1.1\r\n" + head + bearer + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
			"deep JSON":          "POST /v1/requests HTTP/1.1\r\n" + head + bearer + "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("[", 60000),
			"two hosts":          "GET /v1/me HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + bearer + "\r\n",
			"no host":            "GET /v1/me HTTP/1.1\r\n" + bearer + "\r\n",
			"a folded header":    "GET /v1/me HTTP/1.1\r\n" + head + "Authorization:\r\n Bearer " + x.alice.Token + "\r\nX\r\n\r\n",
			"two authorizations": "GET /v1/me HTTP/1.1\r\n" + head + bearer + bearer + "\r\n",
			"token and cookie":   "GET /v1/me HTTP/1.1\r\n" + head + bearer + "Cookie: __Host-drawbolt=" + x.alice.Token + "\r\n\r\n",
			"two cookies":        "GET /v1/me HTTP/1.1\r\n" + head + "Cookie: __Host-drawbolt=" + x.alice.Token + "; __Host-drawbolt=x\r\n\r\n",
			"a token in a query": "GET /v1/me?access_token=" + x.alice.Token + " HTTP/1.1\r\n" + head + "\r\n",
			"basic":              "GET /v1/me HTTP/1.1\r\n" + head + "Authorization: Basic " + x.alice.Token + "\r\n\r\n",
		} {
			// 0: the connection was cut before there was an answer to read.
			if status, answer := x.raw("127.0.3.1", request); status != 0 && (status < 400 || status >= 500) {
				t.Errorf("%s: %d %.300q", name, status, answer)
			}
		}
	})
	t.Run("changed tokens", func(t *testing.T) {
		for i := range len(x.alice.Token) {
			b := []byte(x.alice.Token)
			b[i] ^= 1
			if i%5 > 0 && i > 10 && i < len(b)-10 {
				continue
			}
			if b[i] < ' ' || b[i] > '~' {
				continue
			}
			status, _ := x.raw(fmt.Sprintf("127.0.4.%d", 1+i%250), "GET /v1/me HTTP/1.1\r\n"+head+"Authorization: Bearer "+string(b)+"\r\n\r\n")
			// The last character of base64 may have bits that say nothing.
			if status != http.StatusUnauthorized {
				t.Errorf("with a bit of character %d of %d changed: %d", i, len(b), status)
			}
		}
		parts := strings.Split(x.alice.Token, ".")
		if len(parts) == 3 {
			for _, token := range []string{
				"eyJhbGciOiJub25lIn0." + parts[1] + ".", "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + parts[1] + "." + parts[2], parts[0] + "." + parts[1] + ".", parts[0] + "." + parts[1],
				parts[0] + "." + strings.Split(x.bob.Token, ".")[1] + "." + parts[2], x.alice.Token + ".", x.alice.Token + "=", x.alice.Token + "A",
			} {
				if status, _ := x.raw("127.0.4.251", "GET /v1/me HTTP/1.1\r\n"+head+"Authorization: Bearer "+token+"\r\n\r\n"); status != http.StatusUnauthorized {
					t.Errorf("%.40s...: %d", token, status)
				}
			}
		}
	})
	t.Run("other sites", func(t *testing.T) {
		form := url.Values{"user": {"alice"}, "password": {x.alice.password}}.Encode()
		status, answer := x.raw("127.0.0.1", "POST /login HTTP/1.1\r\n"+head+"Origin: "+x.url+"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "+fmt.Sprint(len(form))+"\r\n\r\n"+form)
		if status != http.StatusSeeOther {
			t.Fatalf("log in: %d %.300q", status, answer)
		}
		_, rest, _ := strings.Cut(answer, "Set-Cookie: ")
		line, _, _ := strings.Cut(rest, "\r\n")
		for _, want := range []string{"__Host-drawbolt=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax"} {
			if !strings.Contains(line, want) {
				t.Errorf("the cookie lacks %q: %s", want, strings.ReplaceAll(line, x.alice.Token, "..."))
			}
		}
		value, _, _ := strings.Cut(line, ";")
		cookie := "Cookie: " + value + "\r\n"
		same := "Origin: " + x.url + "\r\nSec-Fetch-Site: same-origin\r\n"
		for name, headers := range map[string]string{
			"another origin": "Origin: https://evil.example\r\n", "a null origin": "Origin: null\r\n", "cross-site": "Sec-Fetch-Site: cross-site\r\n",
			"same-site": "Sec-Fetch-Site: same-site\r\nOrigin: https://other.127.0.0.1\r\n", "nothing said": "", "another port": "Origin: https://127.0.0.1:1\r\nSec-Fetch-Site: same-site\r\n",
			"plain http": "Origin: http://" + host + "\r\n", "a prefix": "Origin: " + x.url + ".evil.example\r\n",
			"a form's media type": same + "Content-Type: text/plain\r\n", "a file upload": same + "Content-Type: multipart/form-data; boundary=x\r\n",
		} {
			for path, body := range map[string]string{"/v1/requests": `{"target":"db01","account":"acct00","reason":"INC-1 x"}`, "/ask": "target=db01&account=acct00&reason=INC-1+x&seconds=600", "/logout": ""} {
				if path == "/logout" && strings.HasPrefix(headers, same) {
					continue // without a body there is no media type
				}
				media := "Content-Type: application/json\r\n"
				if !strings.HasPrefix(path, "/v1") {
					media = "Content-Type: application/x-www-form-urlencoded\r\n"
				}
				if strings.Contains(headers, "Content-Type") {
					media = ""
				}
				status, answer := x.raw("127.0.0.1", "POST "+path+" HTTP/1.1\r\n"+head+cookie+headers+media+"Content-Length: "+fmt.Sprint(len(body))+"\r\n\r\n"+body)
				if status != http.StatusForbidden && status != http.StatusUnsupportedMediaType && !(status == http.StatusSeeOther && strings.Contains(answer, "Location: /login")) {
					t.Errorf("%s, %s: %d %.300q", name, path, status, answer)
				}
			}
		}
		if l, err := x.alice.Requests(t.Context(), api.RequestFilter{Mine: true}); err != nil || len(l.Items) != 0 {
			t.Errorf("another site has made %d requests, %v", len(l.Items), err)
		}
		// What another site reads, a browser must not give it.
		for _, method := range []string{"GET", "OPTIONS"} {
			_, answer := x.raw("127.0.0.1", method+" /v1/me HTTP/1.1\r\n"+head+cookie+"Origin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n\r\n")
			if strings.Contains(strings.ToLower(answer), "access-control-allow") {
				t.Errorf("%s lets another origin read: %.500q", method, answer)
			}
		}
		if status, answer := x.raw("127.0.0.1", "GET /v1/me HTTP/1.1\r\n"+head+cookie+"\r\n"); status != http.StatusOK {
			t.Errorf("the cookie itself: %d %.300q", status, answer)
		}
	})
	t.Run("a setup link at once", func(t *testing.T) {
		admin := x.people["admin"]
		_, err := admin.AddUser(t.Context(), api.UserInput{Name: "erin", Groups: []string{"engineers"}})
		must(t, err)
		link, err := admin.SetupLink(t.Context(), "erin")
		must(t, err)
		u, err := url.Parse(link.URL)
		must(t, err)
		var won atomic.Int64
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				if err := x.client("").Setup(context.Background(), api.SetupInput{Token: u.Query().Get("token"), Password: canary("password")}); err == nil {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if n := won.Load(); n != 1 {
			t.Errorf("one link was used %d times", n)
		}
	})
	t.Run("codes of devices", func(t *testing.T) {
		c := x.client("")
		c.HTTP = x.httpFrom("127.0.5.1")
		waiting := 0
		for range 30 {
			if _, err := c.BeginDeviceLogin(t.Context()); err == nil {
				waiting++
			}
		}
		if waiting > 20 {
			t.Errorf("%d devices wait from one address", waiting)
		}
		client := x.httpFrom("127.0.5.2")
		guesses := 0
		for ; guesses < 2000; guesses++ {
			req, err := http.NewRequestWithContext(t.Context(), "GET", x.url+"/device?code=BCDF-GHJK", nil)
			must(t, err)
			req.AddCookie(&http.Cookie{Name: "__Host-drawbolt", Value: x.carol.Token})
			resp, err := client.Do(req)
			must(t, err)
			resp.Body.Close()
			if resp.StatusCode == http.StatusTooManyRequests {
				break
			}
		}
		if guesses == 2000 {
			t.Error("codes can be guessed without an end")
		}
	})
	t.Run("passwords", func(t *testing.T) {
		c := x.client("")
		c.HTTP = x.httpFrom("127.0.6.1")
		stopped := 0
		for i := range 60 {
			_, err := c.Login(t.Context(), api.LoginInput{User: "alice", Password: fmt.Sprintf("guess-%d-%s", i, canary("guess"))})
			if err == nil {
				t.Fatal("a guess was right")
			}
			if p := api.AsProblem(err); p != nil && strings.Contains(p.Detail, "guess-") {
				t.Error("the answer says what was typed")
			}
		}
		for range 3 {
			if _, err := c.Login(t.Context(), api.LoginInput{User: "alice", Password: x.alice.password}); err != nil {
				stopped++
			}
		}
		if stopped != 3 {
			t.Error("after 60 guesses an address may still try")
		}
		if _, err := x.client("").Login(t.Context(), api.LoginInput{User: "alice", Password: x.alice.password}); err != nil {
			t.Errorf("alice cannot log in from where she always does: %v", err)
		}
		if sh, err := x.dial(&person{key: x.alice.key}, "anything", "127.0.0.1"); err != nil {
			t.Errorf("nor with her key: %v", err)
		} else {
			_ = (*ssh.Client)(sh).Close()
		}
	})
}
