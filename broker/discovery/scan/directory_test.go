//go:build linux

package scan_test

import (
	"encoding/base64"
	"testing"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/test/servers"
)

// Of a directory's people those are found who may more than others, through groups in
// groups too, and nobody else.
func TestDirectory(t *testing.T) {
	d := servers.NewSlapd(t, `dn: cn=scanner,dc=corp,dc=test
objectClass: inetOrgPerson
cn: scanner
sn: scanner
userPassword: First-Passw0rd

dn: uid=alice,dc=corp,dc=test
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: A

dn: uid=bob,dc=corp,dc=test
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: B

dn: uid=plain,dc=corp,dc=test
objectClass: inetOrgPerson
uid: plain
cn: Plain
sn: P

dn: cn=admins,dc=corp,dc=test
objectClass: groupOfNames
cn: admins
member: uid=alice,dc=corp,dc=test
member: cn=inner,dc=corp,dc=test

dn: cn=inner,dc=corp,dc=test
objectClass: groupOfNames
cn: inner
member: UID=bob,dc=corp,dc=test
member: cn=admins,dc=corp,dc=test
`)
	h := withSystem(t, access.KindLDAP, d.Address, "admin", d.Admin, d.Password, base64.StdEncoding.EncodeToString(d.Certificate(t)))
	is := h.scanAs("admin")
	delete(is, "admin")
	if len(is) != 2 || is["alice"] != "unmanaged; is a member of admins WAY" || is["bob"] != "unmanaged; is a member of admins, through inner WAY" {
		t.Errorf("%q", is)
	}
}
