package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"testing"
	"time"
)

// TestPinnedTLS: a target knows the server by the server's own certificate when
// that is alone, and by the last of its chain otherwise.
func TestPinnedTLS(t *testing.T) {
	dir := t.TempDir()
	crt, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := selfSigned(crt, key, "gw.example.com", time.Now()); err != nil {
		t.Fatal(err)
	}
	own, err := tls.LoadX509KeyPair(crt, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	authority, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		chain [][]byte
		want  []byte
	}{
		{"alone", own.Certificate, own.Certificate[0]},
		{"with its authority", [][]byte{own.Certificate[0], authority}, authority},
	} {
		block, rest := pem.Decode(pinnedTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: c.chain}}}))
		if block == nil || block.Type != "CERTIFICATE" || string(block.Bytes) != string(c.want) || len(rest) > 0 {
			t.Errorf("%s: pinned is %+v", c.name, block)
		}
	}
}
