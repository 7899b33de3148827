// Package outbound is the way in which the server calls others that a configuration
// names: webhooks, chats, ticket systems, calendars, a mail server. It keeps such a
// name from leading to the server itself, to its network, or to where a cloud
// answers a machine's questions about itself.
//
// It trusts the configuration for the address and nothing that comes back: the
// address that is dialled is the one that was checked, redirects are not followed,
// proxies of the environment are not used, certificates are verified, answers and
// times are bounded. What a call was for, and its secrets, stand in no error.
package outbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/drawbolt/drawbolt/vault"
)

// Limits of one call.
const (
	DefaultAnswer = 64 << 10 // bytes of an answer that are read
	maxHeaders    = 32 << 10 // bytes of its headers
	maxSecret     = 4 << 10  // bytes of a file with a secret
	dialWithin    = 5 * time.Second
	idleWithin    = 30 * time.Second // until an unused connection is closed
)

// Config is what a Client needs.
type Config struct {
	// Internal are the networks inside that may be called. Default: none, and
	// addresses of private use, loopback, link-local and the like are refused.
	Internal []netip.Prefix
	// Roots verify the certificates of others. Default: those of the system.
	Roots *x509.CertPool
}

// A Client is safe for concurrent use.
type Client struct {
	c         Config
	dialer    net.Dialer
	transport *http.Transport
	http      http.Client
}

// ErrAddress: the name leads to an address that may not be called.
var ErrAddress = errors.New("it leads to an address inside")

// New returns a Client. It calls nobody yet.
func New(c Config) *Client {
	o := &Client{c: c}
	// Control sees the address that is connected to, after the name was looked up:
	// there is no second look-up that could give another.
	o.dialer = net.Dialer{Timeout: dialWithin, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %s", ErrAddress, address)
		}
		if !o.mayCall(to.Addr()) {
			return fmt.Errorf("%w: %s; if it is meant, list it in notifications.internal", ErrAddress, to.Addr())
		}
		return nil
	}}
	o.transport = &http.Transport{
		Proxy: nil, DialContext: o.Dial, TLSClientConfig: o.TLS(""), ForceAttemptHTTP2: true, TLSHandshakeTimeout: dialWithin,
		MaxResponseHeaderBytes: maxHeaders, MaxIdleConnsPerHost: 2, IdleConnTimeout: idleWithin, DisableCompression: true,
	}
	o.http = http.Client{Transport: o.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return o
}

// Close closes the connections that nobody uses.
func (o *Client) Close() { o.transport.CloseIdleConnections() }

// Dial connects to an address that may be called.
func (o *Client) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return o.dialer.DialContext(ctx, network, address)
}

// TLS is how the certificate of a server is verified, of that name where the
// caller does not give one.
func (o *Client) TLS(name string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.c.Roots, ServerName: name}
}

// apart are addresses that are not of the public internet, besides those that
// netip tells of: RFC 6890, and one at which a cloud answers its machines.
var apart = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("2001::/23"), // Teredo and other forms of tunnels
}

// global is the only part of IPv6 that is given out (RFC 4291, section 2.4, and IANA).
var global = netip.MustParsePrefix("2000::/3")

// mayCall reports whether an address may be called: a public one, or one that is
// listed.
func (o *Client) mayCall(a netip.Addr) bool {
	a = carried(a.Unmap().WithZone(""))
	if slices.ContainsFunc(o.c.Internal, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Is6() && !global.Contains(a) {
		return false
	}
	return !slices.ContainsFunc(apart, func(p netip.Prefix) bool { return p.Contains(a) })
}

// carried gives the IPv4 address to which a gateway takes what is sent to an IPv6
// one: NAT64 (RFC 6052, section 2.1) and 6to4 (RFC 3056, section 2). Others stay.
func carried(a netip.Addr) netip.Addr {
	b := a.As16()
	switch {
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a):
		return netip.AddrFrom4([4]byte(b[12:]))
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return a
}

// CheckURL checks an address that is to be called: https, or http to an address of
// loopback, without a user or a fragment. The error does not repeat it, as it may
// hold a secret.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return errors.New("it is not an address such as https://chat.example.com/hooks/1")
	}
	if u.Scheme == "https" {
		return nil
	}
	if a, err := netip.ParseAddr(u.Hostname()); u.Scheme != "http" || err != nil || !a.IsLoopback() {
		return errors.New("it must be https; http is for addresses of loopback, such as http://127.0.0.1:8065, that are listed in notifications.internal")
	}
	return nil
}

// A Call is what is asked of somebody.
type Call struct {
	Method string // default POST
	URL    string
	Header http.Header
	Body   []byte
	Limit  int64 // bytes of the answer that are read; default DefaultAnswer
}

// An Answer is what came back. Its body may be cut.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do calls, and returns the answer whatever its status. ctx bounds it.
func (o *Client) Do(ctx context.Context, c Call) (Answer, error) {
	if err := CheckURL(c.URL); err != nil {
		return Answer{}, err
	}
	if c.Method == "" {
		c.Method = http.MethodPost
	}
	if c.Limit <= 0 {
		c.Limit = DefaultAnswer
	}
	r, err := http.NewRequestWithContext(ctx, c.Method, c.URL, bytes.NewReader(c.Body))
	if err != nil {
		return Answer{}, errors.New("the call cannot be made") // err repeats the address
	}
	if c.Header != nil {
		r.Header = c.Header.Clone()
	}
	r.Header.Set("User-Agent", "drawbolt")
	resp, err := o.http.Do(r)
	if err != nil {
		return Answer{}, silent(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.Limit))
	if err != nil {
		return Answer{}, silent(err)
	}
	return Answer{resp.StatusCode, resp.Header, body}, nil
}

// silent takes the address out of an error: it may hold a secret.
func silent(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// OK reports whether the other side took what it was given.
func (a Answer) OK() bool { return a.Status/100 == 2 }

// ForGood reports whether the other side would answer the same again: it is what
// was sent that it does not like. A wrong address or secret is not meant, which
// somebody will mend.
func (a Answer) ForGood() bool {
	switch a.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	default:
		return false
	}
}

// After is for how long the other side does not want to be asked again; 0: it does
// not say (RFC 9110, section 10.2.3, the form in seconds).
func (a Answer) After() time.Duration {
	n, err := strconv.ParseUint(a.Header.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// ReadSecret reads a secret from a file, without the white space around it. It is
// read for each use, so that it can be replaced.
func ReadSecret(path string) (vault.Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return vault.Secret{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return vault.Secret{}, fmt.Errorf("read %s: %w", path, err)
	}
	defer clear(b)
	secret := bytes.TrimSpace(b)
	if len(b) > maxSecret || len(secret) == 0 || strings.ContainsAny(string(secret), "\r\n\x00") {
		return vault.Secret{}, fmt.Errorf("%s does not hold one line of at most %d bytes", path, maxSecret)
	}
	return vault.NewSecret(secret), nil
}
