// Package ldap changes the passwords of entries of a directory: of OpenLDAP and others by
// the password modify operation (RFC 3062), of Active Directory by its attribute unicodePwd
// (MS-ADTS 3.1.1.3.1.5). A password is proved by a simple bind. All of it goes over TLS.
//
// It trusts the directory that its TLS configuration names.
package ldap

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"time"
	"unicode/utf16"

	"github.com/go-ldap/ldap/v3"

	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
)

// A Rotator changes the password of one entry.
type Rotator struct {
	URL string // ldaps://host:port, or ldap://host:port for StartTLS
	TLS *tls.Config
	DN  string
	// Admin is the DN that sets the password, with AdminPassword. "": the entry itself.
	Admin         string
	AdminPassword vault.Secret
	// ActiveDirectory says that it is one. There a password that was replaced may still
	// be accepted for a while, by Windows for an hour.
	ActiveDirectory bool
}

// answerWithin bounds each operation, in which the directory may say nothing, and maxRead
// the bytes that it says on one connection.
const (
	answerWithin = 30 * time.Second
	maxRead      = 512 << 20
)

// Check implements rotate.Rotator.
func (r Rotator) Check(ctx context.Context, password vault.Secret) error {
	conn, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.close()
	return conn.bind(r.DN, password)
}

// Set implements rotate.Rotator.
func (r Rotator) Set(ctx context.Context, current, password vault.Secret) error {
	dn, with := r.DN, current
	if r.Admin != "" {
		dn, with = r.Admin, r.AdminPassword
	}
	conn, err := r.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.close()
	if err := conn.bind(dn, with); err != nil {
		return fmt.Errorf("log in as %s: %w", dn, errors.Join(rotate.ErrUnreachable, err)) // nothing was asked of it yet
	}
	if !r.ActiveDirectory {
		old := ""
		if r.Admin == "" {
			old = string(current.Expose())
		}
		_, err = conn.PasswordModify(ldap.NewPasswordModifyRequest(r.DN, old, string(password.Expose())))
		return refusal(err)
	}
	m := ldap.NewModifyRequest(r.DN, nil)
	if r.Admin != "" {
		m.Replace("unicodePwd", []string{quoted(password)})
	} else { // a change: it needs the old one, and obeys the rules for that
		m.Delete("unicodePwd", []string{quoted(current)})
		m.Add("unicodePwd", []string{quoted(password)})
	}
	return refusal(conn.Modify(m))
}

// quoted is how Active Directory takes a password: in quotes, as UTF-16 little endian.
func quoted(password vault.Secret) string {
	var b []byte
	for _, c := range utf16.Encode([]rune(`"` + string(password.Expose()) + `"`)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return string(b)
}

// refusal tells a definite no from an answer that is unclear. What the directory says
// besides the code is of its own making and may quote what it was sent.
func refusal(err error) error {
	e, ok := errors.AsType[*ldap.Error](err)
	if !ok || e.ResultCode >= ldap.ErrorNetwork || unclear[e.ResultCode] {
		return err
	}
	why := ldap.LDAPResultCodeMap[e.ResultCode]
	if code := adCode.FindStringSubmatch(e.Error()); code != nil {
		why += ", " + code[1]
	}
	return &rotate.Refusal{Why: why}
}

// adCode is the code of Windows in a message of Active Directory.
var adCode = regexp.MustCompile(`\b(0000[0-9A-F]{4})\b`)

// unclear are codes after which it may have been done.
var unclear = map[uint16]bool{
	ldap.LDAPResultOperationsError: true, ldap.LDAPResultTimeLimitExceeded: true, ldap.LDAPResultUnavailable: true, ldap.LDAPResultOther: true,
}

// A connection is one to the directory, under TLS.
type connection struct {
	*ldap.Conn
	stop func() bool
}

func (c connection) close() {
	c.stop()
	c.Close()
}

// limited ends a connection on which the other side says too much. Read is called by one
// goroutine at a time.
type limited struct {
	net.Conn
	left int64
}

// Read implements net.Conn.
func (l *limited) Read(b []byte) (n int, err error) {
	if l.left <= 0 {
		return 0, errors.New("the directory says too much")
	}
	n, err = l.Conn.Read(b)
	l.left -= int64(n)
	return n, err
}

func (r Rotator) connect(ctx context.Context) (connection, error) {
	none := func(err error) (connection, error) {
		return connection{}, fmt.Errorf("%w: %w", rotate.ErrUnreachable, err)
	}
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "ldaps" && u.Scheme != "ldap" {
		return none(errors.New("an address begins with ldaps:// or ldap://"))
	}
	secure := &tls.Config{}
	if r.TLS != nil {
		secure = r.TLS.Clone()
	}
	if secure.ServerName == "" {
		secure.ServerName = u.Hostname()
	}
	raw, err := (&net.Dialer{Timeout: answerWithin}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return none(err)
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	fail := func(err error) (connection, error) {
		stop()
		raw.Close()
		return none(err)
	}
	_ = raw.SetDeadline(time.Now().Add(answerWithin))
	if u.Scheme == "ldaps" {
		wrapped := tls.Client(raw, secure)
		if err := wrapped.HandshakeContext(ctx); err != nil {
			return fail(err)
		}
		raw = wrapped
	}
	_ = raw.SetDeadline(time.Time{})
	raw = &limited{Conn: raw, left: maxRead}
	conn := ldap.NewConn(raw, u.Scheme == "ldaps")
	conn.SetTimeout(answerWithin)
	conn.Start()
	if u.Scheme == "ldap" {
		if err := conn.StartTLS(secure); err != nil {
			conn.Close()
			return fail(err)
		}
	}
	return connection{conn, stop}, nil
}

// bind logs in. A password that is empty would be no login (RFC 4513, 5.1.2).
func (c connection) bind(dn string, password vault.Secret) error {
	if dn == "" || len(password.Expose()) == 0 {
		return rotate.ErrWrong
	}
	err := c.Bind(dn, string(password.Expose()))
	e, ok := errors.AsType[*ldap.Error](err)
	if !ok {
		return err
	}
	switch e.ResultCode {
	case ldap.LDAPResultInvalidCredentials:
		if code := adData.FindStringSubmatch(e.Error()); code != nil && code[1] != "52e" && code[1] != "525" {
			return fmt.Errorf("%w: code %s", rotate.ErrLocked, code[1])
		}
		return rotate.ErrWrong
	case ldap.LDAPResultBusy, ldap.LDAPResultUnavailable, ldap.LDAPResultConfidentialityRequired, ldap.LDAPResultStrongAuthRequired:
		return fmt.Errorf("%w: %s", rotate.ErrUnreachable, ldap.LDAPResultCodeMap[e.ResultCode])
	}
	return err
}

// adData is why Active Directory took no login: 775 locked out, 533 disabled, 532 and 773
// the password has to be changed, 530 and 531 not now and not from here.
var adData = regexp.MustCompile(`\bdata ([0-9a-f]{3}),`)
