package keeper_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// A transit is a server with the API of the transit engine, which checks its caller.
func newTransit(t *testing.T) (*httptest.Server, *string) {
	token := "hvs.first"
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in map[string]string
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.Header.Get("X-Vault-Request") != "true" || r.Header.Get("X-Vault-Namespace") != "team" || json.Unmarshal(body, &in) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.Header.Get("X-Vault-Token") != token {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/v1/kms/transit/encrypt/drawbolt":
			if _, err := base64.StdEncoding.DecodeString(in["plaintext"]); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"ciphertext": "vault:v1:" + in["plaintext"], "key_version": 1}})
		case "/v1/kms/transit/decrypt/drawbolt":
			plain, ok := strings.CutPrefix(in["ciphertext"], "vault:v1:")
			if !ok {
				w.WriteHeader(http.StatusBadRequest)
				io.WriteString(w, `{"errors":["invalid ciphertext"]}`)
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"plaintext": plain}})
		case "/v1/kms/transit/encrypt/moved":
			http.Redirect(w, r, "/v1/kms/transit/encrypt/drawbolt", http.StatusTemporaryRedirect)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(srv.Close)
	return srv, &token
}

func TestTransit(t *testing.T) {
	srv, token := newTransit(t)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	file := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("hvs.first\n")
	c := keeper.Transit{URL: srv.URL + "/", Mount: "kms/transit", Key: "drawbolt", TokenFile: file, Namespace: "team", TLS: &tls.Config{RootCAs: roots}}
	k, err := keeper.NewTransit(c)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := k.Wrap(t.Context(), vault.NewSecret([]byte("the keyset\x00\xff")))
	if err != nil {
		t.Fatal(err)
	}
	*token = "hvs.second" // the agent has replaced it
	if _, err := k.Unwrap(t.Context(), wrapped); err == nil || errors.Is(err, vault.ErrWrongKey) {
		t.Errorf("with an old token: %v", err)
	}
	write("hvs.second")
	s, err := k.Unwrap(t.Context(), wrapped)
	if err != nil || string(s.Expose()) != "the keyset\x00\xff" {
		t.Errorf("%v", err)
	}
	wrapped[len(wrapped)-20] = ':' // of the server's making; it says that it cannot
	bad := append([]byte{}, wrapped[:12]...)
	if _, err := k.Unwrap(t.Context(), bad); !errors.Is(err, vault.ErrWrongKey) {
		t.Errorf("another ciphertext: %v", err)
	}
	for name, change := range map[string]func(*keeper.Transit){
		"no TLS":         func(c *keeper.Transit) { c.URL = "http://192.0.2.1:8200" },
		"no address":     func(c *keeper.Transit) { c.URL = "" },
		"a user":         func(c *keeper.Transit) { c.URL = "https://x:y@vault.example.com" },
		"a path":         func(c *keeper.Transit) { c.Key = "a/../b" },
		"another mount":  func(c *keeper.Transit) { c.Mount = "../sys" },
		"no token":       func(c *keeper.Transit) { c.TokenFile = "" },
		"a query in key": func(c *keeper.Transit) { c.Key = "a?b" },
	} {
		c := c
		change(&c)
		if _, err := keeper.NewTransit(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for name, change := range map[string]func(*keeper.Transit){
		"no such key":     func(c *keeper.Transit) { c.Key = "other" },
		"a redirect":      func(c *keeper.Transit) { c.Key = "moved" },
		"another server":  func(c *keeper.Transit) { c.TLS = nil },
		"an absent token": func(c *keeper.Transit) { c.TokenFile += ".absent" },
	} {
		c := c
		change(&c)
		k, err := keeper.NewTransit(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Wrap(t.Context(), vault.NewSecret([]byte("canary"))); err == nil || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "hvs.") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
