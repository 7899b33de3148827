package sshca

import (
	"crypto/rand"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// bench is where a bad certificate is made: a good one and its checker, to be
// spoilt before and after the signature.
type bench struct {
	cert      *ssh.Certificate
	signer    ssh.Signer // nil leaves the certificate as it is
	checker   Checker
	principal string
	after     func(*ssh.Certificate)
}

func TestBadCertificates(t *testing.T) {
	all := newAuthorities(t)
	subject, stranger := newSigner(t), newSigner(t)
	rsa2048, rsa3072 := rsaSigner(t, 2048), rsaSigner(t, 3072)
	boom := errors.New("store is down")

	type bad struct {
		name  string
		spoil func(*bench)
		want  string
	}
	tests := []bad{
		{"none", func(b *bench) { b.cert, b.signer = nil, nil }, "incomplete"},
		{"empty", func(b *bench) { b.cert, b.signer = &ssh.Certificate{}, nil }, "incomplete"},
		{"no key", func(b *bench) { b.cert.Key, b.signer = nil, nil }, "incomplete"},
		{"no signature key", func(b *bench) { b.after = func(c *ssh.Certificate) { c.SignatureKey = nil } }, "incomplete"},
		{"no signature", func(b *bench) { b.after = func(c *ssh.Certificate) { c.Signature = nil } }, "incomplete"},

		{"signed by a certificate", func(b *bench) {
			b.after = func(c *ssh.Certificate) { c.SignatureKey = sign(t, all[User], good(User, subject.PublicKey(), epoch)) }
		}, "itself a certificate"},
		{"signed by a certificate of the authority's key", func(b *bench) {
			b.after = func(c *ssh.Certificate) {
				inner := *c
				inner.Key = c.SignatureKey
				c.SignatureKey = &inner
			}
		}, "itself a certificate"},
		{"signed by an empty certificate", func(b *bench) {
			b.after = func(c *ssh.Certificate) { c.SignatureKey = &ssh.Certificate{} }
		}, "itself a certificate"},
		{"signed by itself, without end", func(b *bench) {
			b.after = func(c *ssh.Certificate) { c.SignatureKey = c }
		}, "itself a certificate"},
		{"certificate as key", func(b *bench) {
			inner := *b.cert
			b.after = func(c *ssh.Certificate) { c.Key = &inner }
		}, "itself a certificate"},

		{"stranger's signature", func(b *bench) { b.signer = stranger }, "another authority"},
		{"host authority", func(b *bench) { b.signer = all[Host].signer() }, "another authority"},
		{"identity authority", func(b *bench) { b.signer = all[Identity].signer() }, "another authority"},
		{"signed by its own key", func(b *bench) { b.signer = subject }, "another authority"},
		{"stranger's signature, our name", func(b *bench) {
			b.signer = stranger
			b.after = func(c *ssh.Certificate) { c.SignatureKey = all[User].PublicKey() }
		}, "does not verify"},
		{"our signature, stranger's name", func(b *bench) {
			b.after = func(c *ssh.Certificate) { c.SignatureKey = stranger.PublicKey() }
		}, "another authority"},
		{"nobody trusted", func(b *bench) { b.checker.Authorities = nil }, "another authority"},
		{"nil trusted", func(b *bench) { b.checker.Authorities = []ssh.PublicKey{nil} }, "another authority"},
		{"certificate trusted", func(b *bench) {
			b.checker.Authorities = []ssh.PublicKey{b.cert}
		}, "another authority"},

		{"key of the authority", func(b *bench) { b.cert.Key = all[User].PublicKey() }, "authority's own"},
		{"short RSA key", func(b *bench) { b.cert.Key = rsa2048.PublicKey() }, "2048 bits"},
		{"DSA key", func(b *bench) { b.cert.Key = dsaKey(t) }, "not accepted"},

		{"host type", func(b *bench) { b.cert.CertType = ssh.HostCert }, "type 2"},
		{"type 0", func(b *bench) { b.cert.CertType = 0 }, "type 0"},
		{"type 3", func(b *bench) { b.cert.CertType = 3 }, "type 3"},
		{"type 2^32-1", func(b *bench) { b.cert.CertType = math.MaxUint32 }, "type 4294967295"},
		{"no serial", func(b *bench) { b.cert.Serial = 0 }, "no serial"},

		{"nil principals", func(b *bench) { b.cert.ValidPrincipals = nil }, "no principal"},
		{"no principals", func(b *bench) { b.cert.ValidPrincipals = []string{} }, "no principal"},
		{"two principals", func(b *bench) { b.cert.ValidPrincipals = []string{"root@db01", "root@db02"} }, "2 principals"},
		{"one principal twice", func(b *bench) { b.cert.ValidPrincipals = []string{"root@db01", "root@db01"} }, "2 principals"},
		{"empty after good", func(b *bench) { b.cert.ValidPrincipals = []string{"root@db01", ""} }, "2 principals"},
		{"other account", func(b *bench) { b.cert.ValidPrincipals = []string{"postgres@db01"} }, "is for"},
		{"other target", func(b *bench) { b.cert.ValidPrincipals = []string{"root@db02"} }, "is for"},
		{"longer target", func(b *bench) { b.cert.ValidPrincipals = []string{"root@db01.evil"} }, "is for"},
		{"nothing asked", func(b *bench) { b.principal = "" }, "is for"},
		{"part asked", func(b *bench) { b.principal = "root" }, "is for"},
		{"wildcard asked", func(b *bench) { b.principal = "*" }, "is for"},
		{"other asked", func(b *bench) { b.principal = "root@db02" }, "is for"},
		{"capitals asked", func(b *bench) { b.principal = "Root@db01" }, "is for"},

		{"unknown critical option", func(b *bench) { b.cert.CriticalOptions["evil@example.org"] = "" }, "unknown critical option"},
		{"empty critical option", func(b *bench) { b.cert.CriticalOptions[""] = "" }, "unknown critical option"},
		{"force-command", func(b *bench) { b.cert.CriticalOptions["force-command"] = "/bin/sh" }, "unknown critical option"},
		{"verify-required", func(b *bench) { b.cert.CriticalOptions["verify-required"] = "" }, "unknown critical option"},
		{"capitals in option", func(b *bench) { b.cert.CriticalOptions["Source-Address"] = "192.0.2.0/24" }, "unknown critical option"},
		{"from elsewhere", func(b *bench) { b.cert.CriticalOptions["source-address"] = "198.51.100.0/24" }, "for use from"},
		{"from nowhere", func(b *bench) {
			b.cert.CriticalOptions["source-address"] = "192.0.2.0/24"
			b.checker.Remote = netip.Addr{}
		}, "for use from"},
		{"list of sources", func(b *bench) { b.cert.CriticalOptions["source-address"] = "192.0.2.0/24,198.51.100.0/24" }, "not a network"},
		{"empty source", func(b *bench) { b.cert.CriticalOptions["source-address"] = "" }, "not a network"},
		{"source without length", func(b *bench) { b.cert.CriticalOptions["source-address"] = "192.0.2.1" }, "not a network"},
		{"source pattern", func(b *bench) { b.cert.CriticalOptions["source-address"] = "*" }, "not a network"},

		{"expired", func(b *bench) { b.cert.ValidAfter -= 600; b.cert.ValidBefore -= 600 }, "expired"},
		{"expires this second", func(b *bench) { b.cert.ValidBefore = uint64(epoch.Unix()) }, "expired"},
		{"not yet valid", func(b *bench) { b.cert.ValidAfter = uint64(epoch.Unix() + 1) }, "not valid yet"},
		{"for ever", func(b *bench) { b.cert.ValidAfter, b.cert.ValidBefore = 0, ssh.CertTimeInfinity }, "no bounded"},
		{"nearly for ever", func(b *bench) { b.cert.ValidBefore = ssh.CertTimeInfinity - 1 }, "no bounded"},
		{"beyond signed time", func(b *bench) { b.cert.ValidBefore = 1 << 63 }, "no bounded"},
		{"to the end of signed time", func(b *bench) { b.cert.ValidBefore = math.MaxInt64 }, "longer than"},
		{"start beyond signed time", func(b *bench) { b.cert.ValidAfter = 1 << 63 }, "no bounded"},
		{"ends before it starts", func(b *bench) { b.cert.ValidBefore = b.cert.ValidAfter - 1 }, "no bounded"},
		{"no length", func(b *bench) { b.cert.ValidBefore = b.cert.ValidAfter }, "no bounded"},
		{"since the beginning", func(b *bench) { b.cert.ValidAfter = 0 }, "longer than"},
		{"a second too long", func(b *bench) { b.cert.ValidBefore = b.cert.ValidAfter + 661 }, "longer than"},
		{"a day", func(b *bench) { b.cert.ValidBefore = b.cert.ValidAfter + 86400 }, "longer than"},
		{"clock before 1970", func(b *bench) { b.checker.Now = func() time.Time { return time.Unix(-1, 0) } }, "not valid yet"},
		{"no clock", func(b *bench) { b.checker.Now = func() time.Time { return time.Time{} } }, "not valid yet"},

		{"signature bit", func(b *bench) { b.after = func(c *ssh.Certificate) { c.Signature.Blob[0] ^= 1 } }, "does not verify"},
		{"empty signature", func(b *bench) { b.after = func(c *ssh.Certificate) { c.Signature.Blob = nil } }, "does not verify"},
		{"short signature", func(b *bench) {
			b.after = func(c *ssh.Certificate) { c.Signature.Blob = c.Signature.Blob[:63] }
		}, "does not verify"},
		{"long signature", func(b *bench) {
			b.after = func(c *ssh.Certificate) { c.Signature.Blob = append(c.Signature.Blob, 0) }
		}, "does not verify"},
		{"more after the signature", func(b *bench) { b.after = func(c *ssh.Certificate) { c.Signature.Rest = []byte{0} } }, "bytes follow"},
		{"no signature format", func(b *bench) { b.after = func(c *ssh.Certificate) { c.Signature.Format = "" } }, "not accepted"},
		{"other signature format", func(b *bench) {
			b.after = func(c *ssh.Certificate) { c.Signature.Format = ssh.KeyAlgoECDSA256 }
		}, "does not verify"},
		{"SHA-1 signature of an RSA authority", func(b *bench) {
			s, err := ssh.NewSignerWithAlgorithms(rsa3072.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
			if err != nil {
				t.Fatal(err)
			}
			b.signer = s
			b.checker.Authorities = []ssh.PublicKey{rsa3072.PublicKey()}
		}, `"ssh-rsa" are not accepted`},
		{"signature of another certificate", func(b *bench) {
			other := sign(t, all[User], good(User, stranger.PublicKey(), epoch))
			b.after = func(c *ssh.Certificate) { c.Signature = other.Signature }
		}, "does not verify"},
		{"serial after signing", func(b *bench) { b.after = func(c *ssh.Certificate) { c.Serial++ } }, "does not verify"},
		{"key after signing", func(b *bench) { b.after = func(c *ssh.Certificate) { c.Key = stranger.PublicKey() } }, "does not verify"},
		{"key id after signing", func(b *bench) { b.after = func(c *ssh.Certificate) { c.KeyId = "somebody else" } }, "does not verify"},
		{"nonce after signing", func(b *bench) { b.after = func(c *ssh.Certificate) { c.Nonce[0] ^= 1 } }, "does not verify"},
		{"reserved after signing", func(b *bench) { b.after = func(c *ssh.Certificate) { c.Reserved = []byte{1} } }, "does not verify"},
		{"end after signing", func(b *bench) { b.after = func(c *ssh.Certificate) { c.ValidBefore++ } }, "does not verify"},
		{"start after signing", func(b *bench) { b.after = func(c *ssh.Certificate) { c.ValidAfter-- } }, "does not verify"},
		{"extension after signing", func(b *bench) {
			b.after = func(c *ssh.Certificate) { c.Extensions["permit-port-forwarding"] = "" }
		}, "does not verify"},
		{"extension taken away", func(b *bench) { b.after = func(c *ssh.Certificate) { clear(c.Extensions) } }, "does not verify"},
		{"principal after signing", func(b *bench) {
			b.after = func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root@db02"} }
			b.principal = "root@db02"
		}, "does not verify"},
		{"source taken away", func(b *bench) {
			b.cert.CriticalOptions["source-address"] = "198.51.100.0/24"
			b.after = func(c *ssh.Certificate) { clear(c.CriticalOptions) }
		}, "does not verify"},

		{"revoked", func(b *bench) { b.checker.Revoked = func(s uint64) (bool, error) { return s == 1000, nil } }, "revoked"},
		{"revocation unknown", func(b *bench) { b.checker.Revoked = nil }, "cannot be checked"},
		{"revocation fails", func(b *bench) { b.checker.Revoked = func(uint64) (bool, error) { return false, boom } }, "store is down"},
		{"no kind", func(b *bench) { b.checker.Kind = "" }, "unknown kind"},
		{"other kind", func(b *bench) { b.checker.Kind = Host }, "type 1"},
		{"user as identity", func(b *bench) { b.checker.Kind = Identity }, "not of the form"},
	}
	for _, p := range []string{"", "*", "*@db01", "root@*", "root@db0?", "root", "root@", "@db01", "root@db01\n", "\nroot@db01", "root@db01\x00",
		" root@db01", "root@db01 ", "root@db01,root@db02", "Root@db01", "root@DB01", "root@db01@db02", "!root@db01",
		"röot@db01", "root@-db01", "root@db01.", "root@" + strings.Repeat("a", 64), strings.Repeat("a", 33) + "@db01"} {
		tests = append(tests, bad{"principal " + p, func(b *bench) {
			b.cert.ValidPrincipals = []string{p}
			b.principal = p
		}, "not of the form"})
	}
	t.Logf("%d kinds of bad certificates", len(tests))

	fresh := func() *bench {
		b := &bench{
			cert:      sign(t, all[User], good(User, subject.PublicKey(), epoch)),
			signer:    all[User].signer(),
			checker:   checker(all[User]),
			principal: "root@db01",
			after:     func(*ssh.Certificate) {},
		}
		b.checker.Remote = netip.MustParseAddr("192.0.2.7")
		return b
	}
	run := func(b *bench) *ssh.Certificate {
		if b.signer != nil {
			if err := b.cert.SignCert(rand.Reader, b.signer); err != nil {
				t.Fatal(err)
			}
			b.after(b.cert)
		}
		return b.cert
	}
	// The bench itself, unspoilt, passes: each refusal is due to its spoiling.
	for name, allowed := range map[string]func(*bench){
		"nothing": func(*bench) {},
		"source":  func(b *bench) { b.cert.CriticalOptions["source-address"] = "192.0.2.0/24" },
		"mapped remote": func(b *bench) {
			b.cert.CriticalOptions["source-address"] = "192.0.2.0/24"
			b.checker.Remote = netip.MustParseAddr("::ffff:192.0.2.7")
		},
		"unknown extension": func(b *bench) { b.cert.Extensions["x@example.org"] = "y" },
		"longest":           func(b *bench) { b.cert.ValidBefore = b.cert.ValidAfter + 660 },
		"second authority": func(b *bench) {
			b.checker.Authorities = append([]ssh.PublicKey{stranger.PublicKey()}, b.checker.Authorities...)
		},
		"RSA authority": func(b *bench) {
			b.signer = rsa3072
			b.checker.Authorities = []ssh.PublicKey{rsa3072.PublicKey()}
		},
	} {
		b := fresh()
		allowed(b)
		if err := b.checker.Check(run(b), b.principal); err != nil {
			t.Errorf("good certificate with %s: %v", name, err)
		}
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := fresh()
			test.spoil(b)
			cert := run(b)
			err := b.checker.Check(cert, b.principal)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
		})
	}
}

func TestHostNames(t *testing.T) {
	a := newAuthorities(t)[Host]
	cert := sign(t, a, good(Host, newSigner(t).PublicKey(), epoch))
	ch := checker(a)
	for _, name := range []string{"db01", "db01.example.org"} {
		if err := ch.Check(cert, name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "db02", "DB01", "*", "db01.example.org.", "db01,db01.example.org"} {
		if err := ch.Check(cert, name); err == nil {
			t.Errorf("good for %q", name)
		}
	}
	// A source address means nothing in a host certificate.
	cert.CriticalOptions["source-address"] = "0.0.0.0/0"
	if err := cert.SignCert(rand.Reader, a.signer()); err != nil {
		t.Fatal(err)
	}
	ch.Remote = netip.MustParseAddr("192.0.2.7")
	if err := ch.Check(cert, "db01"); err == nil {
		t.Error("source address accepted")
	}
}

// A chain of certificates, each signed by the next, does not reach the checker
// from the wire.
func TestNestedOnTheWire(t *testing.T) {
	a := newAuthorities(t)[User]
	cert := sign(t, a, good(User, newSigner(t).PublicKey(), epoch))
	for range 50 {
		next := *cert
		next.SignatureKey = cert
		cert = &next
	}
	if k, err := ssh.ParsePublicKey(cert.Marshal()); err == nil {
		t.Errorf("parsed to %T", k)
	}
}

// FuzzCheck parses any bytes. Unchanged, only what an authority issued is
// accepted. Signed anew by the authority, as if it could be made to sign
// anything, only what the kind's rule allows is accepted.
func FuzzCheck(f *testing.F) {
	all := newAuthorities(f)
	issued := map[string]bool{}
	kinds := []Kind{User, Host, Identity}
	for _, kind := range kinds {
		c := good(kind, newSigner(f).PublicKey(), epoch)
		variants := []Certificate{c}
		if kind != Host {
			c.SourceAddress = netip.MustParsePrefix("192.0.2.0/24")
			variants = append(variants, c)
		}
		for _, c := range variants {
			cert := sign(f, all[kind], c)
			issued[string(cert.Marshal())] = true
			f.Add(cert.Marshal())
			for _, change := range []func(*ssh.Certificate){
				func(c *ssh.Certificate) { c.ValidPrincipals = nil },
				func(c *ssh.Certificate) { c.ValidPrincipals = append(c.ValidPrincipals, "*") },
				func(c *ssh.Certificate) { c.CertType ^= 3 },
				func(c *ssh.Certificate) { c.ValidBefore = ssh.CertTimeInfinity },
				func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "x"} },
				func(c *ssh.Certificate) { c.SignatureKey = newSigner(f).PublicKey() },
			} {
				bad := *cert
				change(&bad)
				f.Add(bad.Marshal())
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ssh.ParsePublicKey(b)
		if err != nil {
			return
		}
		cert, ok := key.(*ssh.Certificate)
		if !ok {
			return
		}
		for _, kind := range kinds {
			ch := checker(all[kind])
			ch.Remote = netip.MustParseAddr("192.0.2.7")
			asks := append([]string{"", "*", asked[kind]}, cert.ValidPrincipals...)
			for _, p := range asks {
				if ch.Check(cert, p) != nil {
					continue
				}
				holds(t, kind, cert, p)
				if !issued[string(cert.Marshal())] || string(cert.SignatureKey.Marshal()) != string(all[kind].PublicKey().Marshal()) {
					t.Errorf("accepted a %s certificate that nobody issued: %+v", kind, cert)
				}
			}
			forged := *cert
			if err := forged.SignCert(rand.Reader, all[kind].signer()); err != nil {
				t.Fatal(err)
			}
			for _, p := range asks {
				if ch.Check(&forged, p) == nil {
					holds(t, kind, &forged, p)
				}
			}
		}
	})
}

// holds states apart from the checker's code what an accepted certificate is.
func holds(t *testing.T, kind Kind, c *ssh.Certificate, p string) {
	t.Helper()
	wantType, names := uint32(ssh.UserCert), 1
	if kind == Host {
		wantType, names = ssh.HostCert, 16
	}
	if c.CertType != wantType {
		t.Errorf("%s: type %d", kind, c.CertType)
	}
	if len(c.ValidPrincipals) == 0 || len(c.ValidPrincipals) > names || !slices.Contains(c.ValidPrincipals, p) || p == "" {
		t.Errorf("%s: principals %q for %q", kind, c.ValidPrincipals, p)
	}
	for _, p := range c.ValidPrincipals {
		if strings.ContainsAny(p, " ,*?!\n\r\t\x00") || strings.Count(p, "@") != map[Kind]int{User: 1}[kind] {
			t.Errorf("%s: principal %q", kind, p)
		}
	}
	for name := range c.CriticalOptions {
		if name != "source-address" || kind == Host {
			t.Errorf("%s: critical option %q", kind, name)
		}
	}
	now := uint64(epoch.Unix())
	if c.ValidAfter > now || c.ValidBefore <= now || c.ValidBefore-c.ValidAfter > uint64((longest[kind]+time.Minute).Seconds()) {
		t.Errorf("%s: valid from %d to %d", kind, c.ValidAfter, c.ValidBefore)
	}
	if _, ok := c.SignatureKey.(*ssh.Certificate); ok || c.Serial == 0 {
		t.Errorf("%s: %+v", kind, c)
	}
}
