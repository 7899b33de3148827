package web

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/web/api"
)

// echoing answers as the SSH server would: who came, for what, and then what is
// sent, in upper case.
func echoing(c *Config) {
	c.Enter = func(_ context.Context, by access.Caller, target string) (func(net.Conn), error) {
		if target != "db01" {
			return nil, &access.Error{Kind: access.ErrNotFound, Code: "DB-2101", Text: "there is no " + target + " that you may know of"}
		}
		return func(nc net.Conn) {
			go func() {
				defer nc.Close()
				fmt.Fprintf(nc, "%s from %s for %s\n", by.User.Name, by.Source, target)
				lines := bufio.NewScanner(nc)
				for lines.Scan() {
					fmt.Fprintln(nc, strings.ToUpper(lines.Text()))
				}
			}()
		}, nil
	}
}

// overTLS serves a house as stock TLS, with HTTP/2 where a client wants it.
func (h *house) overTLS() *httptest.Server {
	srv := httptest.NewUnstartedServer(h.server.Handler())
	srv.EnableHTTP2 = true
	srv.StartTLS()
	h.t.Cleanup(srv.Close)
	return srv
}

func (h *house) apiClient(srv *httptest.Server, name string) *api.Client {
	h.t.Helper()
	client := must(api.NewHTTP(api.Fingerprint(srv.Certificate())))
	h.t.Cleanup(client.CloseIdleConnections)
	return &api.Client{Server: srv.URL, Token: h.token(name), HTTP: client}
}

func TestEnter(t *testing.T) {
	h := newHouse(t, echoing)
	h.server.bodyWithin = 1500 * time.Millisecond // of a request, which this is no more
	c := h.apiClient(h.overTLS(), "alice")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn := must(c.SSH(ctx, "db01"))
	lines := bufio.NewReader(conn)
	if got := must(lines.ReadString('\n')); got != "alice from 127.0.0.1 for db01\n" {
		t.Errorf("got %q", got)
	}
	time.Sleep(h.server.bodyWithin + 200*time.Millisecond)
	for range 3 {
		must(io.WriteString(conn, "more\n"))
		if got := must(lines.ReadString('\n')); got != "MORE\n" {
			t.Errorf("got %q", got)
		}
	}
	cancel()
	if _, err := lines.ReadString('\n'); err == nil {
		t.Error("it outlives its context")
	}
	_, err := c.SSH(t.Context(), "web01")
	if p := api.AsProblem(err); p == nil || p.Code != "DB-2101" {
		t.Errorf("a target that there is not: %v", err)
	}
	c.Token = "rubbish"
	_, err = c.SSH(t.Context(), "db01")
	if p := api.AsProblem(err); p == nil || p.Status != http.StatusUnauthorized {
		t.Errorf("with another token: %v", err)
	}
}

// A login that has ended opens nothing.
func TestEnterAfterLogout(t *testing.T) {
	h := newHouse(t, echoing)
	c := h.apiClient(h.overTLS(), "alice")
	if err := c.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := c.SSH(t.Context(), "db01")
	if p := api.AsProblem(err); p == nil || p.Status != http.StatusUnauthorized {
		t.Errorf("got %v", err)
	}
}

// TestEnterRefuses sends what browsers, smugglers and the curious send, byte for
// byte.
func TestEnterRefuses(t *testing.T) {
	h := newHouse(t, echoing)
	srv := h.overTLS()
	bearer := "Authorization: Bearer " + h.token("alice") + "\r\n"
	const upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: drawbolt-ssh\r\n"
	for _, c := range []struct{ name, first, head, want string }{
		{"fine, bytes ahead", "GET /v1/ssh/db01 HTTP/1.1", bearer + upgrade, "101"},
		{"no login", "GET /v1/ssh/db01 HTTP/1.1", upgrade, "401"},
		{"a browser's cookie", "GET /v1/ssh/db01 HTTP/1.1", "Cookie: " + cookieName + "=" + h.token("alice") + "\r\n" + upgrade, "401"},
		{"both", "GET /v1/ssh/db01 HTTP/1.1", bearer + "Cookie: " + cookieName + "=" + h.token("alice") + "\r\n" + upgrade, "401"},
		{"a page of another site", "GET /v1/ssh/db01 HTTP/1.1", bearer + "Origin: https://evil.example.com\r\n" + upgrade, "403"},
		{"a page of ours", "GET /v1/ssh/db01 HTTP/1.1", bearer + "Origin: https://gw.example.com\r\n" + upgrade, "403"},
		{"a navigation", "GET /v1/ssh/db01 HTTP/1.1", bearer + "Sec-Fetch-Site: none\r\n" + upgrade, "403"},
		{"no upgrade", "GET /v1/ssh/db01 HTTP/1.1", bearer, "422"},
		{"a web socket", "GET /v1/ssh/db01 HTTP/1.1", bearer + "Connection: Upgrade\r\nUpgrade: websocket\r\n", "422"},
		{"two upgrades", "GET /v1/ssh/db01 HTTP/1.1", bearer + upgrade + "Upgrade: websocket\r\n", "422"},
		{"not for this hop", "GET /v1/ssh/db01 HTTP/1.1", bearer + "Upgrade: drawbolt-ssh\r\n", "422"},
		{"HTTP/1.0", "GET /v1/ssh/db01 HTTP/1.0", bearer + upgrade, "422"},
		{"a change", "POST /v1/ssh/db01 HTTP/1.1", bearer + upgrade + "Content-Length: 0\r\n", "405"},
		{"a body", "GET /v1/ssh/db01 HTTP/1.1", bearer + upgrade + "Content-Length: 6\r\n", "422"},
		{"elsewhere", "GET /v1/ssh/ HTTP/1.1", bearer + upgrade, "404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nc := must(tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}))
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(nc, "%s\r\nHost: %s\r\n%s\r\nahead\n", c.first, srv.Listener.Addr(), c.head)
			r := bufio.NewReader(nc)
			status := must(r.ReadString('\n'))
			if !strings.Contains(status, " "+c.want+" ") {
				t.Fatalf("got %q, want %s", status, c.want)
			}
			rest := &strings.Builder{}
			nc.CloseWrite()
			io.Copy(rest, r)
			if entered := strings.Contains(rest.String(), "alice from"); entered != (c.want == "101") {
				t.Errorf("entered is %v: %s", entered, rest)
			}
			if c.want == "101" && !strings.HasSuffix(rest.String(), "AHEAD\n") {
				t.Errorf("what was sent ahead is lost: %q", rest)
			}
		})
	}
	// HTTP/2 has no upgrades, and none is made up.
	req := must(http.NewRequest("GET", srv.URL+"/v1/ssh/db01", nil))
	req.Header.Set("Authorization", "Bearer "+h.token("alice"))
	resp := must(srv.Client().Do(req))
	if resp.ProtoMajor != 2 || resp.StatusCode != 422 {
		t.Errorf("HTTP/%d answers %d", resp.ProtoMajor, resp.StatusCode)
	}
	resp.Body.Close()
}

// A server without SSH says so; one whose SSH stops says that.
func TestEnterUnavailable(t *testing.T) {
	h := newHouse(t)
	_, err := h.apiClient(h.overTLS(), "alice").SSH(t.Context(), "db01")
	if p := api.AsProblem(err); p == nil || p.Status != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
	h = newHouse(t, func(c *Config) {
		c.Enter = func(context.Context, access.Caller, string) (func(net.Conn), error) {
			return nil, &access.Error{Kind: access.ErrUnavailable, Code: "DB-5402", Text: "the bastion is being stopped"}
		}
	})
	_, err = h.apiClient(h.overTLS(), "alice").SSH(t.Context(), "db01")
	if p := api.AsProblem(err); p == nil || p.Code != "DB-5402" || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
