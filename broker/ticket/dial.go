package ticket

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"slices"
)

func tlsConfig(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// special are the addresses that are neither private nor loopback nor link-local
// and still lead to no public machine, or to another one than they say (RFC 6890,
// RFC 6052, RFC 3056, RFC 4380).
func special() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"),
	}
}

// mayDial reports whether the system may be at an address: a public one, or one
// that is listed.
func mayDial(a netip.Addr, listed []netip.Prefix) bool {
	in := func(p netip.Prefix) bool { return p.Contains(a) }
	if slices.ContainsFunc(listed, in) {
		return true
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && a.Zone() == "" && !slices.ContainsFunc(special(), in)
}
