package ldap_test

import (
	"crypto/tls"
	"errors"
	"testing"

	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	"github.com/drawbolt/drawbolt/vault/rotate"
	"github.com/drawbolt/drawbolt/vault/rotate/ldap"
	"github.com/drawbolt/drawbolt/vault/rotate/rotatetest"
)

func secret(s string) vault.Secret { return vault.NewSecret([]byte(s)) }

func TestOpenLDAP(t *testing.T) {
	const dn = `cn=ops\, (root) #1,dc=corp,dc=test`
	d := servers.NewSlapd(t, `dn: cn=default,dc=corp,dc=test
objectClass: pwdPolicy
objectClass: device
cn: default
pwdAttribute: userPassword
pwdMinLength: 8
pwdCheckQuality: 1
pwdInHistory: 3

dn: `+dn+`
objectClass: inetOrgPerson
cn: ops, (root) #1
sn: ops
userPassword: First-Passw0rd
`)
	roots := &tls.Config{RootCAs: d.Roots}
	by := func(who, scheme string) func(string) rotate.Rotator {
		return func(address string) rotate.Rotator {
			return ldap.Rotator{URL: scheme + "://" + address, TLS: roots, DN: dn, Admin: who, AdminPassword: secret(d.Password)}
		}
	}
	rotatetest.Run(t, rotatetest.Subject{
		Address: d.Address, First: "First-Passw0rd", New: by("", "ldaps"), Reset: by(d.Admin, "ldaps"), Refused: "2short",
		Change: func(password string) error {
			return by(d.Admin, "ldaps")(d.Address).Set(t.Context(), vault.Secret{}, secret(password))
		},
	})
	t.Run("StartTLS", func(t *testing.T) {
		r := by(d.Admin, "ldap")(d.Plain)
		if err := r.Set(t.Context(), vault.Secret{}, secret("By-StartTLS-1")); err != nil {
			t.Fatal(err)
		}
		if err := r.Check(t.Context(), secret("By-StartTLS-1")); err != nil {
			t.Error(err)
		}
	})
	t.Run("an empty password is no login", func(t *testing.T) {
		if err := by("", "ldaps")(d.Address).Check(t.Context(), vault.Secret{}); !errors.Is(err, rotate.ErrWrong) {
			t.Error(err)
		}
	})
	t.Run("another server", func(t *testing.T) {
		r := ldap.Rotator{URL: "ldaps://" + d.Address, DN: dn} // whose certificate nobody vouches for
		if err := r.Check(t.Context(), secret("By-StartTLS-1")); !errors.Is(err, rotate.ErrUnreachable) {
			t.Error(err)
		}
	})
}
