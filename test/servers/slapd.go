package servers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A Directory is a running LDAP server.
type Directory struct {
	*server
	Address  string // host:port, of LDAPS
	Plain    string // host:port, of LDAP, for StartTLS
	Base     string // DN
	Admin    string // DN
	Password string // of the admin
	Roots    *x509.CertPool
}

// Certificate is that of the server, in DER, which it signed itself.
func (d *Directory) Certificate(t testing.TB) []byte {
	b, err := os.ReadFile(filepath.Join(d.dir, "cert.pem"))
	check(t, err)
	block, _ := pem.Decode(b)
	return block.Bytes
}

// NewSlapd starts OpenLDAP's server with the entries of an LDIF below dc=corp,dc=test. The
// module ppolicy is loaded; the policy cn=default,dc=corp,dc=test, if there is one, holds for all.
func NewSlapd(t testing.TB, ldif string) *Directory {
	t.Helper()
	for _, p := range []string{"slapd", "slapadd"} {
		_, err := program(p, "slapd", "/usr/sbin/"+p)
		check(t, err)
	}
	dir, err := newDir("slapd")
	check(t, err)
	d, err := runSlapd(dir, ldif)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(fmt.Errorf("start slapd: %w", err))
	}
	t.Cleanup(d.stop)
	return d
}

func runSlapd(dir, ldif string) (*Directory, error) {
	d := &Directory{Base: "dc=corp,dc=test", Admin: "cn=admin,dc=corp,dc=test", Password: "Adm1n-Passw0rd", Roots: x509.NewCertPool()}
	if err := certificate(dir, d.Roots, "127.0.0.1"); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
TLSCACertificateFile %[1]s/cert.pem
TLSCertificateFile %[1]s/cert.pem
TLSCertificateKeyFile %[1]s/key.pem
database mdb
suffix %[2]s
rootdn %[3]s
rootpw %[4]s
directory %[1]s/db
dbnosync
overlay ppolicy
ppolicy_default cn=default,%[2]s
ppolicy_use_lockout
access to attrs=userPassword by self write by anonymous auth by * none
access to * by * read
`, dir, d.Base, d.Admin, d.Password)
	files := map[string]string{"slapd.conf": config, "init.ldif": "dn: dc=corp,dc=test\nobjectClass: dcObject\nobjectClass: organization\no: corp\ndc: corp\n\n" + ldif}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "slapd.conf")
	if err := run(exec.Command("/usr/sbin/slapadd", "-f", conf, "-l", filepath.Join(dir, "init.ldif"))); err != nil {
		return nil, err
	}
	var err error
	if d.Address, err = freeAddress(); err != nil {
		return nil, err
	}
	if d.Plain, err = freeAddress(); err != nil {
		return nil, err
	}
	if d.server, err = start(dir, "TERM", "", "/usr/sbin/slapd", "-d", "0", "-f", conf, "-h", "ldap://"+d.Plain+" ldaps://"+d.Address); err != nil {
		return nil, err
	}
	if err := d.until(func() error { return answersAt(d.Address) }); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

func freeAddress() (string, error) {
	port, err := freePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

func answersAt(address string) error {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

// certificate makes cert.pem, which signs itself, and key.pem.
func certificate(dir string, roots *x509.CertPool, ip string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: ip}, IPAddresses: []net.IP{net.ParseIP(ip)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots.AppendCertsFromPEM(cert)
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), cert, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}
