package web

import (
	"bytes"
	"io"
	"testing"
)

// The list needs no login, and who has it already gets nothing.
func TestKRL(t *testing.T) {
	h := newHouse(t)
	resp := h.do(httpCall{method: "GET", path: "/v1/krl"})
	list, err := io.ReadAll(resp.Body)
	tag := resp.Header.Get("ETag")
	if err != nil || resp.StatusCode != 200 || !bytes.HasPrefix(list, []byte("SSHKRL\n\x00")) || len(tag) < 20 || resp.Header.Get("Content-Type") != "application/octet-stream" {
		t.Fatalf("got %d, %q, %q", resp.StatusCode, list, resp.Header)
	}
	for name, tt := range map[string]struct {
		match  string
		status int
	}{"the same": {tag, 304}, "another": {`"x"`, 200}, "none": {"", 200}} {
		resp := h.do(httpCall{method: "GET", path: "/v1/krl", header: map[string]string{"If-None-Match": tt.match}})
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != tt.status || resp.Header.Get("ETag") != tag || tt.status == 304 && len(body) > 0 {
			t.Errorf("%s: got %d, %d bytes", name, resp.StatusCode, len(body))
		}
	}
	for path, status := range map[string]int{"/v1/krl?x=1": 200, "/v1/krl/": 404} {
		if resp := h.do(httpCall{method: "GET", path: path}); resp.StatusCode != status {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	// Pushing it is not for everybody, nor is revoking.
	for who, status := range map[string]int{"alice": 403, "root": 200} {
		if resp := h.do(httpCall{method: "POST", path: "/v1/krl/push", token: h.token(who)}); resp.StatusCode != status {
			t.Errorf("%s pushes: %d", who, resp.StatusCode)
		}
	}
	body := `{"certificate":"1","reason":"INC-1"}`
	if resp := h.do(httpCall{method: "POST", path: "/v1/certificates/revoke", token: h.token("alice"), body: body}); resp.StatusCode != 403 {
		t.Errorf("alice revokes: %d", resp.StatusCode)
	}
	if resp := h.do(httpCall{method: "POST", path: "/v1/certificates/revoke", token: h.token("root"), body: body}); resp.StatusCode != 404 {
		t.Errorf("a certificate that is none: %d", resp.StatusCode)
	}
}
