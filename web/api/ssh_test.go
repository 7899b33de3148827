package api

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestSSH: the upgrade is asked for in the right words, and what is in the way of
// it is an error and not a stream.
func TestSSH(t *testing.T) {
	c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI != "/v1/ssh/db01" || r.Header.Get("Upgrade") != UpgradeSSH || r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("asked for %s with %v", r.RequestURI, r.Header)
		}
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: drawbolt-ssh\r\n\r\n")
		io.Copy(nc, nc)
	})
	c.Timeout = 3 * time.Second // until it is open; not for how long
	conn, err := c.SSH(t.Context(), "db01")
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(c.Timeout + 200*time.Millisecond)
	if _, err := io.WriteString(conn, "there and back"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 14)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "there and back" {
		t.Errorf("got %q, %v", b, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(b); err == nil {
		t.Error("it can be read after Close")
	}
}

func TestSSHRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"a refusal": {func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 403, ProblemType, `{"title":"Forbidden","status":403,"detail":"no","code":"DB-2001"}`)
		}, "no"},
		"a page of a proxy": {func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "text/html", "sign in to the network") }, "200"},
		"another protocol": {func(w http.ResponseWriter, _ *http.Request) {
			nc, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				nc.Close()
			}
		}, "upgrade"},
		"silence": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			c := testClient(t, tt.handler)
			c.Timeout = 300 * time.Millisecond
			_, err := c.SSH(t.Context(), "db01")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
	if _, err := (&Client{Server: "https://x"}).SSH(t.Context(), "db01"); err == nil {
		t.Error("without HTTP it is no error")
	}
	plain := &Client{Server: "http://gw.example.com", HTTP: &http.Client{}}
	if _, err := plain.SSH(t.Context(), "db01"); err == nil || errors.Is(err, http.ErrNotSupported) {
		t.Errorf("without TLS: %v", err)
	}
}
