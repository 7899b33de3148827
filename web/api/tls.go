package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// ErrWrongCertificate: the server shows another certificate than the pinned one.
var ErrWrongCertificate = errors.New("the server's certificate is not the one that was pinned")

// NewHTTP returns the transport for a Client. With a fingerprint the server must
// show exactly the certificate that has it, whoever signed it and whatever name
// it bears; without one the roots of the system decide. Redirects are not followed.
func NewHTTP(fingerprint string) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if fingerprint != "" {
		want, err := ParseFingerprint(fingerprint)
		if err != nil {
			return nil, err
		}
		// VerifyConnection runs for resumed sessions too, and takes the place of
		// the verification that is switched off.
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return ErrWrongCertificate
			}
			got := Fingerprint(s.PeerCertificates[0])
			if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
				return fmt.Errorf("%w: it shows %s", ErrWrongCertificate, got)
			}
			return nil
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:        conf,
			TLSHandshakeTimeout:    10 * time.Second,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    4,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Fingerprint is the SHA-256 of a certificate in DER, in lower-case hex.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// ParseFingerprint reads a fingerprint as Fingerprint or openssl writes it: hex
// of either case, with or without colons, with or without "SHA256:" before it.
func ParseFingerprint(s string) (string, error) {
	h := strings.ToLower(strings.TrimSpace(s))
	h = strings.TrimPrefix(h, "sha256:")
	if strings.Count(h, ":") == sha256.Size-1 {
		h = strings.ReplaceAll(h, ":", "")
	}
	if b, err := hex.DecodeString(h); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%q is not a SHA-256 fingerprint (64 hex digits)", s)
	}
	return h, nil
}

// PeerFingerprint asks the server for its certificate without trusting it, so
// that a person can compare. It sends nothing else.
func PeerFingerprint(ctx context.Context, server string) (string, error) {
	server, err := CheckServer(server)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "443")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("reach %s: %w", server, err)
	}
	defer conn.Close()
	certs := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(certs) == 0 {
		return "", fmt.Errorf("%s shows no certificate", server)
	}
	return Fingerprint(certs[0]), nil
}

// Untrusted reports whether err says that the server's certificate is not
// trusted: neither by the roots of the system nor by the pin.
func Untrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok || errors.Is(err, ErrWrongCertificate)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
