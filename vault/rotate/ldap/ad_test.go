package ldap_test

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	client "github.com/go-ldap/ldap/v3"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/ldap"
	"github.com/drawbolt/drawbolt/vault/rotate/rotatetest"
)

func TestActiveDirectory(t *testing.T) {
	d := servers.NewSamba(t)
	roots := &tls.Config{RootCAs: d.Roots}
	dn := "CN=svc ops,CN=Users," + d.Base
	by := func(who string) func(string) rotate.Rotator {
		return func(address string) rotate.Rotator {
			return ldap.Rotator{URL: "ldaps://" + address, TLS: &tls.Config{RootCAs: d.Roots, ServerName: host(d.Address)}, DN: dn, Admin: who, AdminPassword: secret(d.Password), ActiveDirectory: true}
		}
	}
	conn, err := client.DialURL("ldaps://"+d.Address, client.DialWithTLSConfig(roots))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Bind(d.Admin, d.Password); err != nil {
		t.Fatal(err)
	}
	add := client.NewAddRequest(dn, nil)
	add.Attribute("objectClass", []string{"user"})
	add.Attribute("sAMAccountName", []string{"svcops"})
	if err := conn.Add(add); err != nil {
		t.Fatal(err)
	}
	if err := by(d.Admin)(d.Address).Set(t.Context(), vault.Secret{}, secret("First-Passw0rd")); err != nil {
		t.Fatal(err)
	}
	control := func(value string) {
		t.Helper()
		m := client.NewModifyRequest(dn, nil)
		m.Replace("userAccountControl", []string{value})
		if err := conn.Modify(m); err != nil {
			t.Fatal(err)
		}
	}
	control("512") // a normal account
	rotatetest.Run(t, rotatetest.Subject{
		Address: d.Address, First: "First-Passw0rd", New: by(""), Reset: by(d.Admin), Refused: "2short", Grace: time.Hour,
		Rules: rotate.Rules{Not: []string{"svcops"}},
		Change: func(password string) error {
			return by(d.Admin)(d.Address).Set(t.Context(), vault.Secret{}, secret(password))
		},
	})
	t.Run("disabled", func(t *testing.T) {
		if err := by(d.Admin)(d.Address).Set(t.Context(), vault.Secret{}, secret("Before-It-Is-Off-1")); err != nil {
			t.Fatal(err)
		}
		control("514")
		if err := by("")(d.Address).Check(t.Context(), secret("Before-It-Is-Off-1")); !errors.Is(err, rotate.ErrLocked) {
			t.Error(err)
		}
	})
}

func host(address string) string {
	for i := range address {
		if address[i] == ':' {
			return address[:i]
		}
	}
	return address
}
