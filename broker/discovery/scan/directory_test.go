//go:build linux

package scan_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
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

// A directory of thousands is read in pages, whole; where it answers only so many, that is
// said, and nobody who was found before has gone.
func TestPages(t *testing.T) {
	var ldif strings.Builder
	ldif.WriteString("dn: cn=scanner,dc=corp,dc=test\nobjectClass: inetOrgPerson\ncn: scanner\nsn: s\nuserPassword: First-Passw0rd\n\n")
	const many = 2300
	for i := range many {
		fmt.Fprintf(&ldif, "dn: uid=u%d,dc=corp,dc=test\nobjectClass: inetOrgPerson\nuid: u%d\ncn: U\nsn: U\n\n", i, i)
	}
	fmt.Fprintf(&ldif, "dn: cn=admins,dc=corp,dc=test\nobjectClass: groupOfNames\ncn: admins\nmember: uid=u%d,dc=corp,dc=test\n\n", many-1)
	ldif.WriteString("dn: ou=elsewhere,dc=corp,dc=test\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\nref: ldap://127.0.0.1:1/dc=other,dc=test\n")
	d := servers.NewSlapd(t, ldif.String())
	ca := base64.StdEncoding.EncodeToString(d.Certificate(t))
	h := withSystem(t, access.KindLDAP, d.Address, "admin", d.Admin, d.Password, ca)
	last := fmt.Sprintf("u%d", many-1)
	if is := h.scanAs("admin"); is[last] != "unmanaged; is a member of admins WAY" || len(is) > 2 {
		t.Errorf("%q", is)
	}
	s, err := h.Posture(t.Context(), h.as("admin"), "db01")
	if ok(t, err); len(s.Scan.Incomplete) > 0 || s.Scan.Settings["fact.people"] < fmt.Sprint(many) {
		t.Errorf("%q, %v", s.Scan.Incomplete, s.Scan.Settings)
	}
	few := withSystem(t, access.KindLDAP, d.Address, "scanner", "cn=scanner,dc=corp,dc=test", "First-Passw0rd", ca)
	few.scanAs("scanner")
	if s, err = few.Posture(t.Context(), few.as("admin"), "db01"); err != nil || !slices.Contains(s.Scan.Incomplete, "accounts") {
		t.Errorf("%+v, %v", s.Scan, err)
	}
}
