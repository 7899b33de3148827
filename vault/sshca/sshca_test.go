package sshca

import (
	"context"
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 such a key must be refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/keeper"
)

// epoch is when the tests that need no real clock take place.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newVault(t testing.TB) *vault.Vault {
	t.Helper()
	path := t.TempDir() + "/key"
	if err := keeper.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	k, err := keeper.File(path)
	if err != nil {
		t.Fatal(err)
	}
	c := vault.Config{Backend: vault.NewMemory(), Keeper: k}
	if err := vault.Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newAuthorities(t testing.TB) map[Kind]*Authority {
	t.Helper()
	v, all := newVault(t), map[Kind]*Authority{}
	for _, k := range []Kind{User, Host, Identity} {
		a, err := Create(t.Context(), v, k)
		if err != nil {
			t.Fatal(err)
		}
		all[k] = a
	}
	return all
}

// serials counts; it also keeps the number of calls.
type serials struct{ last atomic.Uint64 }

func (s *serials) NextSerial(context.Context, Certificate) (uint64, error) { return s.last.Add(1), nil }

type serialFunc func() (uint64, error)

func (f serialFunc) NextSerial(context.Context, Certificate) (uint64, error) { return f() }

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, key)
}

func signerOf(t testing.TB, key crypto.PrivateKey) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rsaSigner(t testing.TB, bits int) ssh.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return signerOf(t, key)
}

// good returns a certificate of the kind that Sign accepts.
func good(kind Kind, key ssh.PublicKey, now time.Time) Certificate {
	c := Certificate{
		Kind:        kind,
		Key:         key,
		KeyID:       "request 42",
		ValidAfter:  now,
		ValidBefore: now.Add(5 * time.Minute),
	}
	switch kind {
	case User:
		c.Principal, c.Target, c.PermitPTY = "root", "db01", true
	case Host:
		c.Names = []string{"db01", "db01.example.org"}
	case Identity:
		c.Principal = "alice"
	}
	return c
}

// asked is the principal that good's certificate is for.
var asked = map[Kind]string{User: "root@db01", Host: "db01", Identity: "alice"}

func sign(t testing.TB, a *Authority, c Certificate) *ssh.Certificate {
	t.Helper()
	cert, err := a.Sign(t.Context(), serialFunc(func() (uint64, error) { return 1000, nil }), c)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func notRevoked(uint64) (bool, error) { return false, nil }

func checker(a *Authority) Checker {
	return Checker{
		Authorities: []ssh.PublicKey{a.PublicKey()},
		Kind:        a.Kind(),
		Now:         func() time.Time { return epoch },
		Revoked:     notRevoked,
	}
}

func TestAuthorities(t *testing.T) {
	v := newVault(t)
	seen := map[string]Kind{}
	for _, kind := range []Kind{User, Host, Identity} {
		if _, err := Load(t.Context(), v, kind); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("load %s before create: got error %v", kind, err)
		}
		a, err := Create(t.Context(), v, kind)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Create(t.Context(), v, kind); !errors.Is(err, vault.ErrExists) {
			t.Errorf("create %s twice: got error %v", kind, err)
		}
		b, err := Load(t.Context(), v, kind)
		if err != nil {
			t.Fatal(err)
		}
		pub := string(a.PublicKey().Marshal())
		if string(b.PublicKey().Marshal()) != pub || b.Kind() != kind {
			t.Errorf("%s authority changed between create and load", kind)
		}
		if other, ok := seen[pub]; ok {
			t.Errorf("%s and %s have the same key", kind, other)
		}
		seen[pub] = kind
		key := a.signer().(interface{ Algorithms() []string })
		if got := key.Algorithms(); !slices.Equal(got, []string{ssh.KeyAlgoED25519}) {
			t.Errorf("%s authority signs with %s", kind, got)
		}
		der, _, err := v.Get(t.Context(), "ssh/ca/"+string(kind))
		if err != nil {
			t.Fatal(err)
		}
		seed := der.Expose()[len(der.Expose())-32:]
		for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
			out := fmt.Sprintf(verb, *a) + fmt.Sprintf(verb, a) + fmt.Sprintf(verb, struct{ a *Authority }{a})
			if strings.Contains(out, fmt.Sprintf("%x", seed[:8])) || strings.Contains(out, strings.Trim(fmt.Sprint(seed[:8]), "[]")) {
				t.Errorf("%s prints the key", verb)
			}
		}
	}
	for _, kind := range []Kind{"", "USER", "user/../host", "root"} {
		if _, err := Create(t.Context(), v, kind); err == nil {
			t.Errorf("create %q: no error", kind)
		}
		if _, err := Load(t.Context(), v, kind); err == nil {
			t.Errorf("load %q: no error", kind)
		}
	}
}

func TestLoadRefusesOtherKeys(t *testing.T) {
	v := newVault(t)
	for i, b := range []string{"", "not a key", strings.Repeat("x", 64)} {
		if err := v.Put(t.Context(), "ssh/ca/user", vault.NewSecret([]byte(b)), uint64(i+1)); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(t.Context(), v, User); err == nil {
			t.Errorf("%q: no error", b)
		}
	}
}

func TestSign(t *testing.T) {
	all := newAuthorities(t)
	key := newSigner(t).PublicKey()
	none := map[string]string{}
	for _, test := range []struct {
		kind       Kind
		change     func(*Certificate)
		certType   uint32
		principals []string
		options    map[string]string
		extensions map[string]string
	}{
		{User, func(c *Certificate) {}, ssh.UserCert, []string{"root@db01"}, none, map[string]string{"permit-pty": ""}},
		{User, func(c *Certificate) { c.PermitPTY = false }, ssh.UserCert, []string{"root@db01"}, none, none},
		{User, func(c *Certificate) {
			c.PermitAgentForwarding, c.PermitPortForwarding = true, true
			c.SourceAddress = netip.MustParsePrefix("192.0.2.0/24")
		}, ssh.UserCert, []string{"root@db01"}, map[string]string{"source-address": "192.0.2.0/24"},
			map[string]string{"permit-pty": "", "permit-agent-forwarding": "", "permit-port-forwarding": ""}},
		{Identity, func(c *Certificate) { c.SourceAddress = netip.MustParsePrefix("2001:db8::/32") },
			ssh.UserCert, []string{"alice"}, map[string]string{"source-address": "2001:db8::/32"}, none},
		{Host, func(c *Certificate) {}, ssh.HostCert, []string{"db01", "db01.example.org"}, none, none},
	} {
		c := good(test.kind, key, epoch.Add(900*time.Millisecond))
		test.change(&c)
		cert := sign(t, all[test.kind], c)
		if cert.CertType != test.certType || !slices.Equal(cert.ValidPrincipals, test.principals) ||
			!maps.Equal(cert.CriticalOptions, test.options) || !maps.Equal(cert.Extensions, test.extensions) {
			t.Errorf("%s: got %+v", test.kind, cert)
		}
		after, before := uint64(epoch.Unix()-60), uint64(epoch.Unix()+300)
		if cert.ValidAfter != after || cert.ValidBefore != before || cert.Serial != 1000 || cert.KeyId != "request 42" {
			t.Errorf("%s: got %+v", test.kind, cert)
		}
		parsed, err := ssh.ParsePublicKey(cert.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		ch := checker(all[test.kind])
		if c.SourceAddress.IsValid() {
			ch.Remote = c.SourceAddress.Addr().Next()
		}
		for _, p := range []*ssh.Certificate{cert, parsed.(*ssh.Certificate)} {
			if err := ch.Check(p, asked[test.kind]); err != nil {
				t.Error(err)
			}
		}
		for other, a := range all {
			if other == test.kind {
				continue
			}
			for _, principal := range asked {
				if err := checker(a).Check(cert, principal); err == nil {
					t.Errorf("a %s certificate is good as %s", test.kind, other)
				}
			}
		}
	}
}

// longest is the most that each kind may last.
var longest = map[Kind]time.Duration{User: 10 * time.Minute, Identity: 24 * time.Hour, Host: 30 * 24 * time.Hour}

func TestSignRefuses(t *testing.T) {
	all := newAuthorities(t)
	key := newSigner(t).PublicKey()
	type test struct {
		name   string
		kind   Kind
		change func(*Certificate)
		want   string
	}
	tests := []test{
		{"kind of another authority", User, func(c *Certificate) { c.Kind = Host }, "does not sign"},
		{"no kind", User, func(c *Certificate) { c.Kind = "" }, "does not sign"},
		{"no key", User, func(c *Certificate) { c.Key = nil }, "no key"},
		{"certificate as key", User, func(c *Certificate) { c.Key = sign(t, all[User], good(User, key, epoch)) }, "itself a certificate"},
		{"empty certificate as key", User, func(c *Certificate) { c.Key = &ssh.Certificate{} }, "itself a certificate"},
		{"key of the authority", User, func(c *Certificate) { c.Key = all[User].PublicKey() }, "authority's own"},
		{"short RSA", User, func(c *Certificate) { c.Key = rsaSigner(t, 2048).PublicKey() }, "2048 bits"},
		{"DSA", User, func(c *Certificate) { c.Key = dsaKey(t) }, "not accepted"},
		{"liar", User, func(c *Certificate) { c.Key = liar{sign(t, all[User], good(User, key, epoch))} }, "not accepted"},
		{"no validity", User, func(c *Certificate) { c.ValidAfter, c.ValidBefore = time.Time{}, time.Time{} }, "not set"},
		{"no start", User, func(c *Certificate) { c.ValidAfter = time.Time{} }, "not set"},
		{"no end", User, func(c *Certificate) { c.ValidBefore = time.Time{} }, "ends before"},
		{"far end", User, func(c *Certificate) { c.ValidBefore = time.Unix(1<<62, 0) }, "not of this age"},
		{"no length", User, func(c *Certificate) { c.ValidBefore = c.ValidAfter }, "ends before"},
		{"part of a second", User, func(c *Certificate) { c.ValidBefore = c.ValidAfter.Add(time.Millisecond) }, "ends before"},
		{"backwards", User, func(c *Certificate) { c.ValidBefore = c.ValidAfter.Add(-time.Second) }, "ends before"},
		{"no key id", User, func(c *Certificate) { c.KeyID = "" }, "0 bytes"},
		{"long key id", User, func(c *Certificate) { c.KeyID = strings.Repeat("x", 257) }, "257 bytes"},
		{"newline in key id", User, func(c *Certificate) { c.KeyID = "a\nAccepted" }, "printable"},
		{"escape in key id", User, func(c *Certificate) { c.KeyID = "\x1b[2J" }, "printable"},
		{"no target", User, func(c *Certificate) { c.Target = "" }, "target"},
		{"names for a user", User, func(c *Certificate) { c.Names = []string{"db01"} }, "no names"},
		{"address, not network", User, func(c *Certificate) { c.SourceAddress = netip.PrefixFrom(netip.MustParseAddr("192.0.2.1"), 24) }, "not a network"},
		{"invalid network", User, func(c *Certificate) { c.SourceAddress = netip.PrefixFrom(netip.MustParseAddr("192.0.2.1"), 99) }, "not a network"},
		{"mapped network", User, func(c *Certificate) { c.SourceAddress = netip.MustParsePrefix("::ffff:192.0.2.0/120") }, "not a network"},
		{"target for an identity", Identity, func(c *Certificate) { c.Target = "db01" }, "no target"},
		{"target within an identity", Identity, func(c *Certificate) { c.Principal = "root@db01" }, "principal"},
		{"no identity", Identity, func(c *Certificate) { c.Principal = "" }, "principal"},
		{"long identity", Identity, func(c *Certificate) { c.Principal = strings.Repeat("a", 65) }, "principal"},
		{"identity that permits", Identity, func(c *Certificate) { c.PermitPTY = true }, "permits nothing"},
		{"host that permits", Host, func(c *Certificate) { c.PermitPortForwarding = true }, "permits nothing"},
		{"host from an address", Host, func(c *Certificate) { c.SourceAddress = netip.MustParsePrefix("192.0.2.0/24") }, "no source address"},
		{"host with a principal", Host, func(c *Certificate) { c.Principal = "db01" }, "no principal"},
		{"host with a target", Host, func(c *Certificate) { c.Target = "db01" }, "no principal"},
		{"no names", Host, func(c *Certificate) { c.Names = nil }, "1 to 16"},
		{"many names", Host, func(c *Certificate) { c.Names = slices.Repeat([]string{"a"}, 17) }, "1 to 16"},
		{"wildcard name", Host, func(c *Certificate) { c.Names = []string{"db01", "*.example.org"} }, "not of the form"},
		{"empty name", Host, func(c *Certificate) { c.Names = []string{""} }, "not of the form"},
	}
	for kind, d := range longest {
		tests = append(tests, test{"a second too long", kind, func(c *Certificate) { c.ValidBefore = c.ValidAfter.Add(d + time.Second) }, "longer than"})
	}
	for _, p := range []string{"", "Root", "1root", "-root", "root,admin", "root@db02", "*", "ro?t", "root\n", "\nroot", "root\x00", "root ",
		"root:x", "rööt", "../root", strings.Repeat("a", 33)} {
		tests = append(tests, test{fmt.Sprintf("account %q", p), User, func(c *Certificate) { c.Principal = p }, "account"})
	}
	for _, p := range []string{"", "DB01", "-db01", "db01-", ".db01", "db01.", "db01,db02", "db01@db02", "*", "*.example.org", "db?1", "db01\n", "\ndb01",
		"db01\x00", "db 01", "db_01", "!db01", strings.Repeat("a", 64)} {
		tests = append(tests, test{fmt.Sprintf("target %q", p), User, func(c *Certificate) { c.Target = p }, "target"})
	}
	for _, test := range tests {
		t.Run(string(test.kind)+"/"+test.name, func(t *testing.T) {
			c := good(test.kind, key, epoch)
			test.change(&c)
			s := new(serials)
			cert, err := all[test.kind].Sign(t.Context(), s, c)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
			if cert != nil {
				t.Error("got a certificate")
			}
			if s.last.Load() != 0 {
				t.Error("a serial was taken")
			}
		})
	}
	for kind, d := range longest {
		c := good(kind, key, epoch)
		c.ValidBefore = c.ValidAfter.Add(d)
		if err := checker(all[kind]).Check(sign(t, all[kind], c), asked[kind]); err != nil {
			t.Errorf("the longest there is: %v", err)
		}
	}
}

func TestSerials(t *testing.T) {
	a := newAuthorities(t)[User]
	c := good(User, newSigner(t).PublicKey(), epoch)
	boom := errors.New("disk full")
	if cert, err := a.Sign(t.Context(), serialFunc(func() (uint64, error) { return 7, boom }), c); !errors.Is(err, boom) || cert != nil {
		t.Errorf("failing serials: got %v, %v", cert, err)
	}
	if cert, err := a.Sign(t.Context(), serialFunc(func() (uint64, error) { return 0, nil }), c); err == nil || cert != nil {
		t.Errorf("serial 0: got %v", cert)
	}
	var got Certificate
	if _, err := a.Sign(t.Context(), record{&got}, c); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("recorded %+v, %v, want %+v", got, err, c)
	}
}

type record struct{ c *Certificate }

func (r record) NextSerial(_ context.Context, c Certificate) (uint64, error) {
	*r.c = c
	return 1, nil
}

// A liar calls itself what its bytes are not.
type liar struct{ ssh.PublicKey }

func (liar) Type() string { return ssh.KeyAlgoED25519 }

func dsaKey(t testing.TB) ssh.PublicKey {
	t.Helper()
	// Its numbers need not be a group: no signature is made.
	odd := func(bits uint) *big.Int {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return n.SetBit(n, 0, 1)
	}
	k, err := ssh.NewPublicKey(&dsa.PublicKey{Parameters: dsa.Parameters{P: odd(1024), Q: odd(160), G: big.NewInt(2)}, Y: big.NewInt(4)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// skKey is a key on a security key, as PROTOCOL.u2f writes it.
func skKey(t testing.TB, algo string, fields any) ssh.PublicKey {
	t.Helper()
	k, err := ssh.ParsePublicKey(append(ssh.Marshal(struct{ Name string }{algo}), ssh.Marshal(fields)...))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeys(t *testing.T) {
	all := newAuthorities(t)
	ec := func(c elliptic.Curve) ssh.PublicKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return signerOf(t, k).PublicKey()
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := p256.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]ssh.PublicKey{
		"P-256": ec(elliptic.P256()), "P-384": ec(elliptic.P384()), "P-521": ec(elliptic.P521()),
		"RSA 3072":   rsaSigner(t, 3072).PublicKey(),
		"sk Ed25519": skKey(t, ssh.KeyAlgoSKED25519, struct{ Key, App string }{strings.Repeat("k", 32), "ssh:"}),
		"sk ECDSA":   skKey(t, ssh.KeyAlgoSKECDSA256, struct{ Curve, Point, App string }{"nistp256", string(point), "ssh:"}),
	} {
		t.Run(name, func(t *testing.T) {
			for kind, a := range all {
				if err := checker(a).Check(sign(t, a, good(kind, key, epoch)), asked[kind]); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestPrincipal(t *testing.T) {
	for _, ok := range [][2]string{{"root", "db01"}, {"_x", "a"}, {"a-b_c9", "db01.example.org"}, {"a", "10.0.0.1"},
		{strings.Repeat("a", 32), strings.Repeat("a", 63)}} {
		if p, err := Principal(ok[0], ok[1]); err != nil || p != ok[0]+"@"+ok[1] {
			t.Errorf("%q: got %q, %v", ok, p, err)
		}
	}
}

// Whatever goes in, a principal that comes out splits again in one way only
// and has none of the characters that a list or a pattern gives a meaning to.
func FuzzPrincipal(f *testing.F) {
	f.Add("root", "db01")
	f.Add("root,admin", "db01")
	f.Add("root@db02", "db01")
	f.Add("root", "db01\n")
	f.Add("", "*")
	f.Fuzz(func(t *testing.T, accountName, targetName string) {
		p, err := Principal(accountName, targetName)
		if err != nil {
			if p != "" {
				t.Errorf("%q came with error %v", p, err)
			}
			return
		}
		a, b, _ := strings.Cut(p, "@")
		if a != accountName || b != targetName || a == "" || b == "" || strings.Contains(b, "@") {
			t.Errorf("%q and %q give %q", accountName, targetName, p)
		}
		if strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("*?!,\"'\\/:;#%$", r) }) {
			t.Errorf("%q", p)
		}
		if len(p) > 32+1+63 {
			t.Errorf("%q has %d bytes", p, len(p))
		}
	})
}

func BenchmarkSign(b *testing.B) {
	a := newAuthorities(b)[User]
	c := good(User, newSigner(b).PublicKey(), epoch)
	s := new(serials)
	for b.Loop() {
		if _, err := a.Sign(b.Context(), s, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	a := newAuthorities(b)[User]
	cert := sign(b, a, good(User, newSigner(b).PublicKey(), epoch))
	ch := checker(a)
	for b.Loop() {
		if err := ch.Check(cert, "root@db01"); err != nil {
			b.Fatal(err)
		}
	}
}
