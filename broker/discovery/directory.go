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
	Name     string   // sAMAccountName, uid or cn
	Members  []string // of a group: DNs, or names where it is one of POSIX
	MemberOf []string // DNs
	// AdminCount says that Active Directory guards it as it does administrators.
	AdminCount bool
	Services   []string // names of services that log in as it
	Disabled   bool
	LastLogin  time.Time
	Changed    time.Time // the password

	// Of Active Directory alone.
	SID          string  // S-1-5-...
	PrimaryGroup int64   // last number of the SID of a group of which it is a member, too; 0: none
	Control      Control // userAccountControl
	DelegatesTo  []string
	Machine      bool      // a computer
	OwnPassword  bool      // the domain changes its password itself
	Expires      time.Time // the account; zero: never
}

// Bounds of what is kept of the groups of a directory.
const (
	maxGroups      = 50_000
	maxMemberships = 500_000
)

// mighty are groups of directories whose members may do everything, or much, by name.
// Active Directory has most of them by number; see mightySID.
var mighty = map[string]bool{
	"domain admins": true, "enterprise admins": true, "schema admins": true, "administrators": true, "key admins": true, "enterprise key admins": true,
	"account operators": true, "backup operators": true, "domain controllers": true, "admins": true, "ldap-admins": true, "ldapadmins": true,
	"server operators": true, "print operators": true, "dnsadmins": true, "group policy creator owners": false, "sudo": false, "wheel": false,
}

// A Directory reads the entries of one, the groups first, and keeps of its people only
// those that are accounts in the sense of a scan: who may do more than others, whose
// password is easy to find out, or who is a service. Members of a group count through
// other groups.
type Directory struct {
	scan    Scan
	people  int
	groups  map[string]group    // by DN, in small letters
	of      map[string][]string // groups by members; both DNs, or names of members
	bySID   map[string]string   // DNs of groups
	members int
}

type group struct {
	name         string
	mighty, full bool
}

// NewDirectory begins a scan. slack is by how much noted logins may be older than the last
// ones; negative: no logins are noted.
func NewDirectory(system string, now time.Time, slack time.Duration) *Directory {
	return &Directory{
		scan:   Scan{Kind: LDAP, At: now, System: clean(system), Settings: map[string]string{}, LastLogins: slack >= 0, LoginSlack: max(slack, 0)},
		groups: map[string]group{}, of: map[string][]string{}, bySID: map[string]string{},
	}
}

// Cut says that there is more than was read.
func (d *Directory) Cut() { d.scan.incomplete("accounts") }

// AddGroup takes a group.
func (d *Directory) AddGroup(e Entry) {
	if len(d.groups) >= maxGroups {
		d.Cut()
		return
	}
	dn, g := strings.ToLower(e.DN), group{name: clean(e.Name)}
	if number, ok := strings.CutPrefix(e.SID, domainSID(e.SID)+"-"); ok && e.SID != "" {
		g.full, g.mighty = mightySID(e.SID, number)
		d.bySID[e.SID] = dn
	}
	if e.SID == "" || strings.EqualFold(g.name, "dnsadmins") { // its number is another one in each domain
		g.full, g.mighty = mighty[strings.ToLower(g.name)], has(mighty, strings.ToLower(g.name))
	}
	d.groups[dn] = g
	for _, up := range e.MemberOf {
		d.member(dn, strings.ToLower(up))
	}
	for _, m := range e.Members {
		d.member(strings.ToLower(m), dn)
	}
}

func has(m map[string]bool, key string) bool { _, ok := m[key]; return ok }

func (d *Directory) member(of, group string) {
	if d.members >= maxMemberships {
		d.Cut()
		return
	}
	d.members++
	d.of[of] = append(d.of[of], group)
}

// AddAccount takes an account, after all groups.
func (d *Directory) AddAccount(e Entry) {
	s := &d.scan
	d.people++
	a := Account{Name: e.Name, Comment: clean(e.DN), Password: PasswordSet, Disabled: e.Disabled, LastLogin: e.LastLogin, Changed: e.Changed}
	if !e.Expires.IsZero() && !s.At.IsZero() && s.At.After(e.Expires) {
		a.Disabled = true
	}
	d.rights(&a, &e)
	switch {
	case e.Control.controller():
		a.Service = "it is a domain controller"
	case e.OwnPassword:
		a.Service = "services log in as it, and the domain changes its password"
	case len(e.Services) > 0 && !e.Machine:
		a.Service = clean("services log in as it: " + strings.Join(e.Services[:min(len(e.Services), 3)], ", "))
	}
	e.weaknesses(&a)
	if len(a.Rights) == 0 && a.Service == "" && len(a.Weak) == 0 {
		return
	}
	if a.Service == "" && e.Machine {
		a.Service = "a machine logs in as it"
	}
	if a.Name == "" {
		a.Name = e.DN
	}
	if a.Name != clean(a.Name) {
		s.incomplete("accounts with odd names")
		return
	}
	if len(s.Accounts) >= maxAccounts {
		d.Cut()
		return
	}
	s.Accounts = append(s.Accounts, a)
}

// rights are those by groups, and those of Active Directory.
func (d *Directory) rights(a *Account, e *Entry) {
	add := func(r Right) {
		if len(a.Rights) < maxRights && !slices.Contains(a.Rights, r) {
			a.Rights = append(a.Rights, r)
		}
	}
	belongs := func(to, through, source string) {
		g := d.groups[to]
		if !g.mighty || len(a.Groups) >= maxRights || slices.Contains(a.Groups, g.name) {
			return
		}
		a.Groups = append(a.Groups, g.name)
		if through != "" {
			through = ", through " + through
		}
		add(Right{Text: "is a member of " + g.name + through, Full: g.full, Source: source})
	}
	from := func(direct, source string) {
		belongs(direct, "", source)
		for _, up := range above(direct, d.of) {
			belongs(up, d.groups[direct].name, source)
		}
	}
	dn := strings.ToLower(e.DN)
	for _, list := range [][]string{e.MemberOf, d.of[dn], d.of[strings.ToLower(e.Name)]} {
		for _, direct := range list {
			direct = strings.ToLower(direct)
			from(direct, "group "+d.groups[direct].name)
		}
	}
	if e.PrimaryGroup > 0 && !e.Control.controller() {
		if direct, ok := d.bySID[domainSID(e.SID)+"-"+strconv.FormatInt(e.PrimaryGroup, 10)]; ok {
			from(direct, "its primary group, "+d.groups[direct].name)
		}
	}
	for _, r := range e.delegation() {
		add(r)
	}
	if e.AdminCount && len(a.Rights) == 0 {
		add(Right{Text: "is, or was, an administrator (adminCount)", Source: "the directory"})
	}
	a.NeverExpires = e.Control&NeverExpires != 0
}

// Scan returns what was found. Accounts of one name go by their DNs.
func (d *Directory) Scan() Scan {
	count := map[string]int{}
	for _, a := range d.scan.Accounts {
		count[a.Name]++
	}
	for i := range d.scan.Accounts {
		if a := &d.scan.Accounts[i]; count[a.Name] > 1 {
			a.Name = a.Comment
		}
	}
	d.scan.set("fact.people", strconv.Itoa(d.people))
	return d.scan
}
