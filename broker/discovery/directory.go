package discovery

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Entry is one of a directory: an account, or a group.
type Entry struct {
	DN       string
	Name     string // sAMAccountName, uid or cn
	Group    bool
	Members  []string // DNs, or names where a group is one of POSIX
	MemberOf []string // DNs
	// AdminCount says that Active Directory guards it as it does administrators.
	AdminCount   bool
	Services     []string // names of services that log in as it
	Disabled     bool
	NeverExpires bool
	NoPassword   bool // an empty password is allowed
	LastLogin    time.Time
	Changed      time.Time // the password
}

// mighty are groups of directories whose members may do everything, or much.
var mighty = map[string]bool{
	"domain admins": true, "enterprise admins": true, "schema admins": true, "administrators": true, "key admins": true, "enterprise key admins": true,
	"account operators": true, "backup operators": true, "domain controllers": true, "admins": true, "ldap-admins": true, "ldapadmins": true,
	"server operators": false, "print operators": false, "dnsadmins": false, "group policy creator owners": false, "sudo": false, "wheel": false,
}

// FromDirectory makes a scan of the entries of a directory. Of its people only those are
// accounts in its sense that may do more than others, or that are services'. Members of
// a group count through other groups.
func FromDirectory(system string, now time.Time, entries []Entry, logins bool) Scan {
	s := Scan{Kind: LDAP, At: now, System: clean(system), Settings: map[string]string{}, LastLogins: logins}
	of, names, count := map[string][]string{}, map[string]string{}, map[string]int{}
	for _, e := range entries {
		dn := strings.ToLower(e.DN)
		names[dn] = e.Name
		for _, g := range e.MemberOf {
			of[dn] = append(of[dn], strings.ToLower(g))
		}
		for _, m := range e.Members {
			of[strings.ToLower(m)] = append(of[strings.ToLower(m)], dn)
		}
		if !e.Group {
			count[e.Name]++
		}
	}
	people := 0
	for _, e := range entries {
		if e.Group {
			continue
		}
		people++
		a := Account{Name: e.Name, Comment: clean(e.DN), Password: PasswordSet, Disabled: e.Disabled, NeverExpires: e.NeverExpires, LastLogin: e.LastLogin, Changed: e.Changed}
		if count[e.Name] > 1 || e.Name == "" {
			a.Name = e.DN
		}
		if a.Name != clean(a.Name) {
			s.incomplete("accounts with odd names")
			continue
		}
		if e.NoPassword {
			a.Password = PasswordNone
		}
		dn := strings.ToLower(e.DN)
		groups := above(dn, of)
		if e.Name != "" {
			groups = append(groups, above(strings.ToLower(e.Name), of)...) // of POSIX
		}
		for _, g := range groups {
			name := clean(names[g])
			if full, ok := mighty[strings.ToLower(name)]; ok && len(a.Rights) < maxRights && !slices.Contains(a.Groups, name) {
				a.Groups = append(a.Groups, name)
				a.Rights = append(a.Rights, Right{Text: "is a member of " + name, Full: full, Source: "group " + name})
			}
		}
		if e.AdminCount && len(a.Rights) == 0 {
			a.Rights = append(a.Rights, Right{Text: "is, or was, an administrator (adminCount)", Source: "the directory"})
		}
		if len(e.Services) > 0 {
			a.Service = clean("services log in as it: " + strings.Join(e.Services[:min(len(e.Services), 3)], ", "))
		}
		if len(a.Rights) == 0 && a.Service == "" {
			continue
		}
		if len(s.Accounts) >= maxAccounts {
			s.incomplete("accounts")
			break
		}
		s.Accounts = append(s.Accounts, a)
	}
	s.set("fact.people", strconv.Itoa(people))
	return s
}
