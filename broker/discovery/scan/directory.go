package scan

import (
	"context"
	"errors"
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
	maxEntries = 200_000
	maxMany    = 5_000 // values of one attribute
	pageSize   = 1_000
	pageWithin = 60 * time.Second
)

// What is read, and of what. Groups say who their members are, but in Active Directory, where
// members say of which groups they are: there a group has at most 1,500 in one answer.
const (
	groupFilter   = "(|(objectClass=group)(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))"
	accountFilter = "(|(objectClass=user)(objectClass=person)(objectClass=posixAccount)(objectClass=account)(objectClass=simpleSecurityObject)(objectClass=organizationalRole)(objectClass=foreignSecurityPrincipal))"
)

// loginSlack is by how much lastLogonTimestamp may be behind the last login, where the
// domain does not say otherwise (MS-ADA1 2.351; msDS-LogonTimeSyncInterval, in days).
const loginSlack = 14

// exploreDirectory reads the groups and accounts of a directory. No password is asked for,
// and no referral is followed.
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
	root, err := one(ctx, conn, "", "defaultNamingContext", "namingContexts", "vendorName", "currentTime")
	if err != nil {
		return none, fmt.Errorf("ask the directory where it begins: %w", err)
	}
	base, active := root.GetAttributeValue("namingContexts"), d.Target.Kind == access.KindActiveDirectory
	groups, accounts := []string{"objectClass", "cn", "member", "uniqueMember", "memberUid"}, []string{"objectClass", "uid", "cn", "memberOf", "pwdAccountLockedTime"}
	slack := time.Duration(-1)
	if active {
		base = root.GetAttributeValue("defaultNamingContext")
		groups = []string{"sAMAccountName", "memberOf", "objectSid"}
		accounts = []string{"objectClass", "sAMAccountName", "cn", "memberOf", "objectSid", "primaryGroupID", "adminCount", "servicePrincipalName", "userAccountControl",
			"lastLogon", "lastLogonTimestamp", "pwdLastSet", "accountExpires", "msDS-AllowedToDelegateTo"}
	}
	if base == "" {
		return none, errors.New("the directory does not say where it begins")
	}
	if active {
		if slack, err = slackOf(ctx, conn, base); err != nil {
			return none, err
		}
	}
	now, _ := time.Parse("20060102150405.0Z", root.GetAttributeValue("currentTime"))
	found := discovery.NewDirectory(strings.TrimSpace(root.GetAttributeValue("vendorName")+" "+base), now, slack)
	cut := found.Cut
	if err := read(ctx, conn, base, groupFilter, groups, cut, func(e *ldap.Entry) { found.AddGroup(entryOf(e)) }); err != nil {
		return none, fmt.Errorf("read the groups of the directory: %w", err)
	}
	if err := read(ctx, conn, base, accountFilter, accounts, cut, func(e *ldap.Entry) { found.AddAccount(entryOf(e)) }); err != nil {
		return none, fmt.Errorf("read the accounts of the directory: %w", err)
	}
	return found.Scan(), nil
}

// slackOf is by how much the logins that a domain notes may be older than the last ones;
// negative: it notes none.
func slackOf(ctx context.Context, conn *ldap.Conn, base string) (time.Duration, error) {
	domain, err := one(ctx, conn, base, "msDS-LogonTimeSyncInterval")
	if err != nil {
		return 0, fmt.Errorf("ask the domain how late it notes logins: %w", err)
	}
	days, err := strconv.Atoi(domain.GetAttributeValue("msDS-LogonTimeSyncInterval"))
	if err != nil || days < 0 || days > 100_000 {
		days = loginSlack
	}
	if days == 0 {
		return -1, nil
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// one reads one entry.
func one(ctx context.Context, conn *ldap.Conn, dn string, attributes ...string) (*ldap.Entry, error) {
	var found *ldap.Entry
	_, _, err := page(ctx, conn, ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, int(pageWithin.Seconds()), false, "(objectClass=*)", attributes, nil), 1,
		func(e *ldap.Entry) { found = e })
	if err == nil && found == nil {
		err = errors.New("it is not there")
	}
	return found, err
}

// read reads what a filter picks, page by page, and says by cut that there is more than that.
func read(ctx context.Context, conn *ldap.Conn, base, filter string, attributes []string, cut func(), take func(*ldap.Entry)) error {
	paging := ldap.NewControlPaging(pageSize)
	for total := 0; ; {
		n, cookie, err := page(ctx, conn, ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, int(pageWithin.Seconds()), false, filter, attributes, []ldap.Control{paging}),
			pageSize, take)
		if ldap.IsErrorAnyOf(err, ldap.LDAPResultSizeLimitExceeded, ldap.LDAPResultAdminLimitExceeded, ldap.LDAPResultTimeLimitExceeded) {
			cut()
			return nil
		}
		if err != nil || len(cookie) == 0 {
			return err
		}
		if total += n; n == 0 || total >= maxEntries { // one that goes round in circles is left
			cut()
			return nil
		}
		paging.SetCookie(cookie)
	}
}

// page makes a search of which the directory may answer so many entries. What it refers to
// is elsewhere, and is left there.
func page(ctx context.Context, conn *ldap.Conn, search *ldap.SearchRequest, most int, take func(*ldap.Entry)) (n int, cookie []byte, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, pageWithin, errors.New("the directory takes too long"))
	defer cancel()
	answers, referrals := conn.SearchAsync(ctx, search, 16), 0
	for answers.Next() {
		if c, ok := ldap.FindControl(answers.Controls(), ldap.ControlTypePaging).(*ldap.ControlPaging); ok {
			cookie = c.Cookie
		}
		switch e := answers.Entry(); {
		case e != nil && n < most:
			n++
			take(e)
		case e != nil:
			return n, nil, fmt.Errorf("it answers more than the %d entries that it was asked for", most)
		case answers.Referral() != "":
			if referrals++; referrals > most+1 {
				return n, nil, errors.New("it refers to others without an end")
			}
		}
	}
	if err := answers.Err(); err != nil {
		return n, nil, err
	}
	return n, cookie, context.Cause(ctx)
}

// Of times of Windows (MS-DTYP 2.3.3).
const (
	fileTimeTo1970     = 116444736000000000 // in steps of 100 ns
	fileTimesInASecond = 10_000_000
)

func entryOf(e *ldap.Entry) discovery.Entry {
	is := func(class string) bool {
		return slices.ContainsFunc(e.GetAttributeValues("objectClass"), func(c string) bool { return strings.EqualFold(c, class) })
	}
	many := func(name string) []string {
		list := e.GetAttributeValues(name)
		return list[:min(len(list), maxMany)]
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(e.GetAttributeValue(name), 10, 64)
		return n
	}
	x := discovery.Entry{DN: e.DN, MemberOf: many("memberOf"), Services: many("servicePrincipalName"), DelegatesTo: many("msDS-AllowedToDelegateTo"), PrimaryGroup: number("primaryGroupID")}
	for _, name := range []string{"sAMAccountName", "uid", "cn"} {
		if x.Name = e.GetAttributeValue(name); x.Name != "" {
			break
		}
	}
	x.Members = slices.Concat(many("member"), many("uniqueMember"), many("memberUid"))
	x.SID = discovery.SID(e.GetRawAttributeValue("objectSid"))
	x.Control = discovery.Control(uint32(number("userAccountControl")))
	x.AdminCount = number("adminCount") == 1
	x.Disabled = x.Control&discovery.AccountDisabled != 0 || e.GetAttributeValue("pwdAccountLockedTime") != ""
	x.OwnPassword = is("msDS-GroupManagedServiceAccount") || is("msDS-ManagedServiceAccount")
	x.Machine = is("computer") && !x.OwnPassword
	// lastLogon is of this domain controller alone, and exact.
	x.LastLogin, x.Changed, x.Expires = fileTime(e.GetAttributeValue("lastLogonTimestamp")), fileTime(e.GetAttributeValue("pwdLastSet")), fileTime(e.GetAttributeValue("accountExpires"))
	if here := fileTime(e.GetAttributeValue("lastLogon")); here.After(x.LastLogin) {
		x.LastLogin = here
	}
	return x
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
