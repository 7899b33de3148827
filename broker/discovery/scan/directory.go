package scan

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/drawbolt/drawbolt/broker"
	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/discovery"
	"github.com/drawbolt/drawbolt/broker/rotation"
	"github.com/drawbolt/drawbolt/vault"
	rotate "github.com/drawbolt/drawbolt/vault/rotate/ldap"
)

// Bounds of what is read of a directory.
const (
	maxEntries = 50_000
	maxMany    = 5_000 // values of one attribute
	pageSize   = 500
)

const entryFilter = "(|(objectClass=user)(objectClass=person)(objectClass=posixAccount)(objectClass=account)(objectClass=simpleSecurityObject)(objectClass=organizationalRole)" +
	"(objectClass=group)(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))"

// exploreDirectory reads the accounts and groups of a directory. No password is asked for.
func exploreDirectory(ctx context.Context, d broker.Discovery, password vault.Secret) (none discovery.Scan, err error) {
	as, err := rotation.LDAP(step(d))
	if err != nil {
		return none, err
	}
	r, ok := as.(rotate.Rotator)
	if !ok {
		return none, fmt.Errorf("%s is not reached as a directory is", d.Target.Name)
	}
	conn, done, err := r.Login(ctx, password)
	if err != nil {
		return none, fmt.Errorf("log in as %s: %w", d.Account, err)
	}
	defer done()
	root, err := conn.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 30, false, "(objectClass=*)", []string{"defaultNamingContext", "namingContexts", "vendorName", "dnsHostName"}, nil))
	if err != nil || len(root.Entries) != 1 {
		return none, fmt.Errorf("ask the directory where it begins: %w", err)
	}
	base := root.Entries[0].GetAttributeValue("defaultNamingContext")
	if base == "" {
		base = root.Entries[0].GetAttributeValue("namingContexts")
	}
	active := d.Target.Kind == access.KindActiveDirectory
	var entries []discovery.Entry
	paging, cut := ldap.NewControlPaging(pageSize), false
	for {
		page, err := conn.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 60, false, entryFilter,
			[]string{"objectClass", "sAMAccountName", "uid", "cn", "member", "uniqueMember", "memberUid", "memberOf", "adminCount", "servicePrincipalName", "userAccountControl", "lastLogonTimestamp", "pwdLastSet", "pwdAccountLockedTime", "authTimestamp"},
			[]ldap.Control{paging}))
		if err != nil {
			return none, fmt.Errorf("read the directory: %w", err)
		}
		for _, e := range page.Entries {
			if x, ok := entryOf(e, active); ok {
				entries = append(entries, x)
			}
		}
		next, _ := ldap.FindControl(page.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if next == nil || len(next.Cookie) == 0 {
			break
		}
		if cut = len(entries) >= maxEntries; cut {
			break
		}
		paging.SetCookie(next.Cookie)
	}
	s := discovery.FromDirectory(strings.TrimSpace(root.Entries[0].GetAttributeValue("vendorName")+" "+base), time.Time{}, entries, active)
	if cut {
		s.Incomplete = append(s.Incomplete, "accounts")
	}
	return s, nil
}

// Bits of userAccountControl (MS-ADTS 2.2.16).
const (
	accountDisabled    = 0x2
	passwordNotNeeded  = 0x20
	passwordNeverEnds  = 0x10000
	fileTimeTo1970     = 116444736000000000 // in steps of 100 ns (MS-DTYP 2.3.3)
	fileTimesInASecond = 10_000_000
)

func entryOf(e *ldap.Entry, active bool) (x discovery.Entry, ok bool) {
	is := func(class string) bool {
		return slices.ContainsFunc(e.GetAttributeValues("objectClass"), func(c string) bool { return strings.EqualFold(c, class) })
	}
	if is("computer") {
		return x, false
	}
	many := func(name string) []string {
		list := e.GetAttributeValues(name)
		return list[:min(len(list), maxMany)]
	}
	x = discovery.Entry{DN: e.DN, MemberOf: many("memberOf"), Services: many("servicePrincipalName"), Group: is("group") || is("groupOfNames") || is("groupOfUniqueNames") || is("posixGroup")}
	for _, name := range []string{"sAMAccountName", "uid", "cn"} {
		if x.Name = e.GetAttributeValue(name); x.Name != "" {
			break
		}
	}
	x.Members = slices.Concat(many("member"), many("uniqueMember"), many("memberUid"))
	x.AdminCount = e.GetAttributeValue("adminCount") == "1"
	x.Disabled = e.GetAttributeValue("pwdAccountLockedTime") != ""
	if active {
		bits, _ := strconv.ParseInt(e.GetAttributeValue("userAccountControl"), 10, 64)
		x.Disabled, x.NoPassword, x.NeverExpires = bits&accountDisabled != 0, bits&passwordNotNeeded != 0, bits&passwordNeverEnds != 0
		x.LastLogin, x.Changed = fileTime(e.GetAttributeValue("lastLogonTimestamp")), fileTime(e.GetAttributeValue("pwdLastSet"))
	}
	return x, x.DN != ""
}

// fileTime reads a time of Windows; the zero time where there is none.
func fileTime(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= fileTimeTo1970 || n > fileTimeTo1970+4102444800*fileTimesInASecond {
		return time.Time{}
	}
	n -= fileTimeTo1970
	return time.Unix(n/fileTimesInASecond, n%fileTimesInASecond*100).UTC()
}
