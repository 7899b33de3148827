package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// serverTLS loads the certificate of the web, API and CLI; with self_signed it
// is made at the first start, and made again a month before it ends.
func serverTLS(c Config) (*tls.Config, error) {
	certificate, key := c.Server.TLS.Certificate, c.Server.TLS.Key
	if c.Server.TLS.Mode == "self_signed" {
		certificate, key = filepath.Join(c.Data, "tls.crt"), filepath.Join(c.Data, "tls.key")
		u, err := url.Parse(c.Server.ExternalURL)
		if err != nil {
			return nil, err
		}
		if err := selfSigned(certificate, key, u.Hostname(), time.Now()); err != nil {
			return nil, fmt.Errorf("make a self-signed certificate: %w", err)
		}
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("load the TLS certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}, nil
}

func selfSigned(certificate, key, host string, now time.Time) error {
	if b, err := os.ReadFile(certificate); err == nil {
		if block, _ := pem.Decode(b); block != nil {
			if old, err := x509.ParseCertificate(block.Bytes); err == nil && now.Add(30*24*time.Hour).Before(old.NotAfter) && old.VerifyHostname(host) == nil {
				return nil
			}
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(397 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	// replaceFile makes files that only their owner reads.
	if err := replaceFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})); err != nil {
		return err
	}
	return replaceFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// pinnedTLS is the certificate by which a target is to know the server: nothing
// when the authorities that systems trust vouch for it, else the last of the
// chain, which is the server's own when it is alone.
func pinnedTLS(c *tls.Config) []byte {
	chain := c.Certificates[0].Certificate
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil
	}
	others := x509.NewCertPool()
	for _, der := range chain[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			others.AddCert(cert)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Intermediates: others}); err == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[len(chain)-1]})
}

// certificateEnd is when the server's certificate ends.
func certificateEnd(c *tls.Config) time.Time {
	leaf, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
	if err != nil {
		return time.Time{}
	}
	return leaf.NotAfter
}

// fingerprint is the SHA-256 of the server's certificate, in hex.
func fingerprint(c *tls.Config) string {
	sum := sha256.Sum256(c.Certificates[0].Certificate[0])
	return hex.EncodeToString(sum[:])
}
