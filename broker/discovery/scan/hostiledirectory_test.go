//go:build linux

package scan_test

import (
	"bufio"
	"crypto/tls"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A directory that says more than it was asked for, or never ends, is left, and the scan
// fails or says that it is not whole.
func TestHostileDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		answers func(id byte, send func(...byte) bool)
		want    string // in the error; empty: it is not whole
	}{
		"endless page": {func(id byte, send func(...byte) bool) {
			for n := 0; send(entry(id, fmt.Sprintf("uid=x%d,dc=corp,dc=test", n))...); n++ {
			}
		}, "more than the 1000 entries"},
		"endless referrals": {func(id byte, send func(...byte) bool) {
			for send(message(id, ldap.ApplicationSearchResultReference, text("ldap://127.0.0.1:1/"))...) {
			}
		}, "refers to others without an end"},
		"circle": {func(id byte, send func(...byte) bool) {
			page := tlv(0x30, tlv(2, []byte{0}), text("again"))
			send(tlv(0x30, tlv(2, []byte{id}), tlv(0x60|ldap.ApplicationSearchResultDone, good()...), tlv(0xa0, tlv(0x30, text(ldap.ControlTypePaging), text(string(page)))))...)
		}, ""},
		"elsewhere": {func(id byte, send func(...byte) bool) {
			send(message(id, ldap.ApplicationSearchResultDone, tlv(10, []byte{ldap.LDAPResultReferral}), text(""), text(""))...)
		}, "Referral"},
	} {
		t.Run(name, func(t *testing.T) {
			address, ca := hostileDirectory(t, c.answers)
			h := withSystem(t, access.KindLDAP, address, "admin", "cn=admin", "a-Passw0rd", ca)
			d, err := h.scanner.Scan(t.Context(), h.as("admin"), "db01", "admin")
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v", err)
			}
			if c.want == "" && (err != nil || !slices.Contains(d.Scan.Incomplete, "accounts")) {
				t.Errorf("%v, %q", err, d.Scan.Incomplete)
			}
		})
	}
}

// tlv is a value of BER (X.690) of less than 128 bytes.
func tlv(tag byte, parts ...[]byte) []byte {
	content := slices.Concat(parts...)
	return append([]byte{tag, byte(len(content))}, content...)
}

func text(s string) []byte { return tlv(4, []byte(s)) }

func message(id, operation byte, parts ...[]byte) []byte {
	return tlv(0x30, tlv(2, []byte{id}), tlv(0x60|operation, parts...))
}

func entry(id byte, dn string) []byte {
	return message(id, ldap.ApplicationSearchResultEntry, text(dn), tlv(0x30))
}

// good are the fields of a result that went well.
func good() [][]byte { return [][]byte{tlv(10, []byte{0}), text(""), text("")} }

// hostileDirectory takes every login and says where it begins; what it answers to searches
// of what is in it is the test's.
func hostileDirectory(t *testing.T, answers func(id byte, send func(...byte) bool)) (address, ca string) {
	known := httptest.NewTLSServer(nil)
	t.Cleanup(known.Close)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: known.TLS.Certificates})
	ok(t, err)
	var all sync.WaitGroup
	serve := func(conn net.Conn) {
		defer conn.Close()
		send := func(b ...byte) bool { _, err := conn.Write(b); return err == nil }
		for in := bufio.NewReader(conn); ; {
			id, operation, err := question(in)
			if err != nil {
				return
			}
			switch {
			case operation.Tag == ldap.ApplicationBindRequest:
				send(message(id, ldap.ApplicationBindResponse, good()...)...)
			case operation.Tag == ldap.ApplicationSearchRequest && operation.Bytes[1] == 0: // the root
				send(message(id, ldap.ApplicationSearchResultEntry, text(""), tlv(0x30, tlv(0x30, text("namingContexts"), tlv(0x31, text("dc=corp,dc=test")))))...)
				send(message(id, ldap.ApplicationSearchResultDone, good()...)...)
			case operation.Tag == ldap.ApplicationSearchRequest:
				answers(id, send)
			}
		}
	}
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String(), base64.StdEncoding.EncodeToString(known.Certificate().Raw)
}

// question reads one, whose number is below 128.
func question(in *bufio.Reader) (id byte, operation asn1.RawValue, err error) {
	head, err := in.Peek(6)
	if err != nil {
		return 0, operation, err
	}
	size := 2 + int(head[1])
	switch head[1] {
	case 0x81:
		size = 3 + int(head[2])
	case 0x82:
		size = 4 + int(head[2])<<8 + int(head[3])
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(in, b); err != nil {
		return 0, operation, err
	}
	var whole asn1.RawValue
	if _, err := asn1.Unmarshal(b, &whole); err != nil {
		return 0, operation, err
	}
	_, err = asn1.Unmarshal(whole.Bytes[3:], &operation)
	return whole.Bytes[2], operation, err
}
