//go:build linux

package scan_test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/test/servers"
	"github.com/drawbolt/drawbolt/vault"
	rotate "github.com/drawbolt/drawbolt/vault/rotate/ldap"
)

// A domain is a domain controller, and a connection to it as its administrator.
type domain struct {
	*servers.Directory
	t    *testing.T
	conn *ldap.Conn
}

func newDomain(t *testing.T) *domain {
	d := &domain{Directory: servers.NewSamba(t), t: t}
	var err error
	d.conn, err = ldap.DialURL("ldaps://"+d.Address, ldap.DialWithTLSConfig(&tls.Config{RootCAs: d.Roots}))
	ok(t, err)
	t.Cleanup(func() { d.conn.Close() })
	ok(t, d.conn.Bind(d.Admin, d.Password))
	return d
}

func (d *domain) dn(name string) string { return "CN=" + name + ",CN=Users," + d.Base }

func (d *domain) add(name, class string, attributes map[string][]string) string {
	d.t.Helper()
	r := ldap.NewAddRequest(d.dn(name), nil)
	r.Attribute("objectClass", []string{class})
	r.Attribute("sAMAccountName", []string{name})
	for name, values := range attributes {
		r.Attribute(name, values)
	}
	ok(d.t, d.conn.Add(r))
	return d.dn(name)
}

// user adds an account with a password and these bits of userAccountControl besides those of
// a normal account.
func (d *domain) user(name string, bits int, attributes map[string][]string) string {
	d.t.Helper()
	dn := d.add(name, "user", attributes)
	r := rotate.Rotator{URL: "ldaps://" + d.Address, TLS: &tls.Config{RootCAs: d.Roots}, DN: dn, Admin: d.Admin, AdminPassword: vault.NewSecret([]byte(d.Password)), ActiveDirectory: true}
	ok(d.t, r.Set(d.t.Context(), vault.Secret{}, vault.NewSecret([]byte("a-Passw0rd-of-"+name))))
	d.set(dn, "userAccountControl", strconv.Itoa(512|bits))
	return dn
}

func (d *domain) set(dn, name string, values ...string) {
	d.t.Helper()
	m := ldap.NewModifyRequest(dn, nil)
	m.Replace(name, values)
	ok(d.t, d.conn.Modify(m))
}

func (d *domain) join(group string, dns ...string) {
	d.t.Helper()
	m := ldap.NewModifyRequest(d.dn(group), nil)
	m.Add("member", dns)
	ok(d.t, d.conn.Modify(m))
}

// Planted accounts of every class are found in a domain, and plain ones are not.
func TestActiveDirectory(t *testing.T) {
	d := newDomain(t)
	d.add("ops", "group", nil)
	d.add("ops-night", "group", nil)
	d.join("Domain Admins", d.dn("ops"))
	d.join("ops", d.dn("ops-night"))
	d.join("ops-night", d.user("nested", 0, nil))
	d.join("Domain Admins", d.user("primary", 0, nil), d.user("forever", 0x10000, nil), d.user("closed", 0x2, nil), d.user("breakglass1", 0, nil))
	d.set(d.dn("primary"), "primaryGroupID", "512")
	d.join("Domain Admins", d.user("ended", 0, map[string][]string{"accountExpires": {"116444736000000001"}}))
	d.user("former", 0, map[string][]string{"adminCount": {"1"}})
	d.user("sql", 0, map[string][]string{"servicePrincipalName": {"MSSQLSvc/db01.corp.test"}})
	d.user("roast", 0x400000, nil)
	d.user("empty", 0x20, nil)
	d.user("readable", 0x80, nil)
	d.user("deputy", 0x80000, nil)
	d.user("narrow", 0x1000000, map[string][]string{"msDS-AllowedToDelegateTo": {"cifs/files.corp.test"}})
	d.user("plain", 0x10000, nil)
	d.add("web1$", "computer", map[string][]string{"userAccountControl": {strconv.Itoa(0x1000 | 0x80000)}})
	d.add("web2$", "computer", map[string][]string{"userAccountControl": {strconv.Itoa(0x1000)}, "servicePrincipalName": {"HOST/web2"}})
	conn, err := ldap.DialURL("ldaps://"+d.Address, ldap.DialWithTLSConfig(&tls.Config{RootCAs: d.Roots}))
	ok(t, err)
	ok(t, conn.Bind(d.dn("forever"), "a-Passw0rd-of-forever")) // which the domain notes
	conn.Close()

	h := withSystem(t, access.KindActiveDirectory, d.Address, "admin", d.Admin, d.Password, base64.StdEncoding.EncodeToString(d.Certificate(t)))
	scan := func() (map[string]string, broker.Discovered) {
		t.Helper()
		found, err := h.scanner.Scan(t.Context(), h.as("admin"), "db01", "admin")
		ok(t, err)
		is := map[string]string{}
		for _, f := range found.Found {
			is[f.Name] = fmt.Sprintf("%s %d: %s", f.Class, f.Risk, strings.Join(f.Reasons, "; "))
		}
		return is, found
	}
	is, found := scan()
	for name, want := range map[string][]string{
		"nested": {"unmanaged 2", "member of Domain Admins, through ops-night (group ops-night)"}, "primary": {"unmanaged 2", "member of Domain Admins (its primary group, Domain Admins)"},
		"forever": {"unmanaged 2", "its password never expires"}, "closed": {"unmanaged 3", "member of Domain Admins"}, "ended": {"unmanaged 3", "member of Domain Admins"},
		"breakglass1": {"emergency 2"}, "former": {"unmanaged 3", "was, an administrator (adminCount)"}, "sql": {"service 3", "MSSQLSvc/db01", "Kerberoasting"},
		"roast": {"unmanaged 3", "AS-REP roasting"}, "empty": {"unmanaged 3", "an empty password is allowed"}, "readable": {"unmanaged 3", "kept so that it can be read"},
		"deputy": {"unmanaged 2", "unconstrained delegation"}, "narrow": {"unmanaged 3", "acts as anybody it names, towards cifs/files"}, "web1$": {"service 2", "unconstrained delegation"},
		"DC1$": {"service 4", "a domain controller"}, "Administrator": {"managed"}, "krbtgt": {"", "adminCount"},
	} {
		for _, text := range want {
			if !strings.Contains(is[name], text) {
				t.Errorf("%s is %q, want %q", name, is[name], text)
			}
		}
	}
	for _, name := range []string{"plain", "web2$"} {
		if is[name] != "" {
			t.Errorf("%s is %q", name, is[name])
		}
	}
	if len(found.Scan.Incomplete) > 0 || len(is) > 25 {
		t.Errorf("%q, %v", found.Scan.Incomplete, is)
	}
	var closing []string
	for _, w := range found.Ways {
		closing = append(closing, w.Account+" "+w.Command)
	}
	for _, want := range []string{"nested ldapmodify # and delete '" + d.dn("nested") + "' from the members of 'ops-night'", "primary ldapmodify # and give '" + d.dn("primary") + "' another primaryGroupID"} {
		if !slices.ContainsFunc(closing, func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("%q is not in %q", want, closing)
		}
	}

	// A login is noted fourteen days late: until then nobody is called dormant who may not be.
	for i, class := range []string{"unmanaged", "dormant"} {
		days := 100 + 10*i
		h.ahead = time.Duration(days) * 24 * time.Hour
		if is, _ := scan(); !strings.HasPrefix(is["forever"], class) || !strings.HasPrefix(is["nested"], "dormant") {
			t.Errorf("after %d days: %q, %q", days, is["forever"], is["nested"])
		}
	}

	// Somebody new among the administrators is told.
	d.join("ops", d.user("intruder", 0, nil))
	if _, found = scan(); len(found.Changes) != 1 || found.Changes[0].Account != "intruder" || !found.Changes[0].Grave {
		t.Errorf("%+v", found.Changes)
	}
}
