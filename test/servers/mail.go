package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Certificate makes a certificate for 127.0.0.1 and these names, and the roots that
// trust it.
func Certificate(t testing.TB, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// A Mail is what a mail server was given.
type Mail struct {
	From      string
	To        []string
	Text      string // headers and body, as they came
	Encrypted bool
	User      string // who had logged in
}

// A MailServer is one that keeps what it is given. It wants a login where it has a
// password.
type MailServer struct {
	Address  string // host:port
	Password string
	// Refuse says what is wrong with a recipient. Optional.
	Refuse func(to string) error

	mu    sync.Mutex
	mails []Mail
}

// NewMail starts a mail server on loopback: with a certificate it offers STARTTLS,
// or, if implicit, speaks TLS from the first byte on. The caller stops it.
func NewMail(certificate *tls.Certificate, implicit bool) (m *MailServer, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	m = &MailServer{Address: l.Addr().String()}
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &mailSession{m: m, c: c}, nil }))
	s.Domain, s.AllowInsecureAuth, s.ErrorLog = "mail.test", true, silent{}
	s.ReadTimeout, s.WriteTimeout, s.MaxMessageBytes, s.MaxRecipients = time.Minute, time.Minute, 1<<20, 10
	if certificate != nil {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}}
		if implicit {
			l = tls.NewListener(l, s.TLSConfig)
		}
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	return m, func() { s.Close(); <-done }, nil
}

// StartMail is NewMail until the test ends.
func StartMail(t testing.TB, certificate *tls.Certificate, implicit bool) *MailServer {
	t.Helper()
	m, stop, err := NewMail(certificate, implicit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return m
}

// Mails returns what has come.
func (m *MailServer) Mails() []Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mails)
}

type mailSession struct {
	m    *MailServer
	c    *smtp.Conn
	mail Mail
}

func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if s.m.Password == "" || password != s.m.Password {
			return errors.New("wrong password")
		}
		s.mail.User = user
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.m.Password != "" && s.mail.User == "" {
		return smtp.ErrAuthRequired
	}
	_, s.mail.Encrypted = s.c.TLSConnectionState()
	s.mail.From, s.mail.To = from, nil
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.m.Refuse != nil {
		if err := s.m.Refuse(to); err != nil {
			return err
		}
	}
	s.mail.To = append(s.mail.To, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	mail := s.mail
	mail.Text = strings.ReplaceAll(string(b), "\r\n", "\n")
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.mails = append(s.m.mails, mail)
	return nil
}

func (s *mailSession) Reset() {}

func (s *mailSession) Logout() error { return nil }

// silent is a log of a mail server that nobody reads.
type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}
