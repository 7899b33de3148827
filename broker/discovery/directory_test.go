package discovery

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// directory is a scan of these groups and accounts.
func directory(slack time.Duration, groups, accounts []Entry) Scan {
	d := NewDirectory("AD", now, slack)
	for _, g := range groups {
		d.AddGroup(g)
	}
	for _, a := range accounts {
		d.AddAccount(a)
	}
	return d.Scan()
}

func TestDirectoryOfAccounts(t *testing.T) {
	s := directory(0, []Entry{
		{DN: "CN=Domain Admins,DC=x", Name: "Domain Admins"},
		{DN: "CN=Ops,DC=x", Name: "Ops", MemberOf: []string{"cn=domain admins,dc=x"}},
		{DN: "CN=sudo,DC=x", Name: "sudo", Members: []string{"posix"}},
	}, []Entry{
		{DN: "CN=alice,DC=x", Name: "alice", MemberOf: []string{"CN=Ops,DC=x"}, LastLogin: now.AddDate(0, 0, -1)},
		{DN: "CN=old,DC=x", Name: "old", AdminCount: true, LastLogin: now.AddDate(-1, 0, 0), Control: NeverExpires},
		{DN: "CN=sql,DC=x", Name: "sql", Services: []string{"MSSQLSvc/db01"}, LastLogin: now},
		{DN: "CN=off,DC=x", Name: "off", AdminCount: true, Disabled: true},
		{DN: "CN=plain,DC=x", Name: "plain"}, {DN: "CN=posix,DC=x", Name: "posix", LastLogin: now},
		{DN: "CN=twin,OU=a,DC=x", Name: "twin", AdminCount: true, LastLogin: now}, {DN: "CN=twin,OU=b,DC=x", Name: "twin", AdminCount: true, LastLogin: now},
	})
	findings, _ := Classify(&s, Known{Now: now})
	var got []string
	for _, f := range findings {
		got = append(got, f.Name+" "+string(f.Class)+" "+f.Risk.String())
	}
	want := []string{"alice unmanaged high", "old dormant high", "sql service medium", "off unmanaged low", "posix unmanaged medium", "CN=twin,OU=a,DC=x unmanaged medium", "CN=twin,OU=b,DC=x unmanaged medium"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if s.Settings["fact.people"] != "8" {
		t.Errorf("%v", s.Settings)
	}
}

// Groups of Active Directory are known by their numbers, whatever they are called, and one
// that only has the name of a mighty one is none.
func TestMightyByNumber(t *testing.T) {
	const domain = "S-1-5-21-1-2-3"
	s := directory(0, []Entry{
		{DN: "CN=Domänen-Admins,DC=x", Name: "Domänen-Admins", SID: domain + "-512"},
		{DN: "CN=Administratoren,DC=x", Name: "Administratoren", SID: "S-1-5-32-544"},
		{DN: "CN=Administrators,OU=y,DC=x", Name: "Administrators", SID: domain + "-1105"},
		{DN: "CN=DnsAdmins,DC=x", Name: "DnsAdmins", SID: domain + "-1101"},
	}, []Entry{
		{DN: "CN=by name,DC=x", Name: "by-name", SID: domain + "-2001", MemberOf: []string{"CN=Administrators,OU=y,DC=x"}, PrimaryGroup: 513},
		{DN: "CN=primary,DC=x", Name: "primary", SID: domain + "-2002", PrimaryGroup: 512},
		{DN: "CN=elsewhere,DC=x", Name: "elsewhere", SID: "S-1-5-21-9-9-9-2003", PrimaryGroup: 512},
		{DN: "CN=dns,DC=x", Name: "dns", SID: domain + "-2004", MemberOf: []string{"CN=DnsAdmins,DC=x"}},
		{DN: "CN=S-1-5-21-9-9-9-1,DC=x", Name: "S-1-5-21-9-9-9-1", MemberOf: []string{"CN=Administratoren,DC=x"}},
	})
	var got []string
	for _, a := range s.Accounts {
		got = append(got, a.Name+": "+a.Rights[0].Text)
	}
	want := []string{"primary: is a member of Domänen-Admins", "dns: is a member of DnsAdmins", "S-1-5-21-9-9-9-1: is a member of Administratoren"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// An account is not called dormant while the domain may not have noted its last login.
func TestLoginSlack(t *testing.T) {
	const day = 24 * time.Hour
	of := func(days int, slack time.Duration) Finding {
		s := directory(slack, nil, []Entry{{DN: "CN=a,DC=x", Name: "a", AdminCount: true, LastLogin: now.Add(-time.Duration(days) * day)}})
		findings, _ := Classify(&s, Known{Now: now})
		return findings[0]
	}
	for _, c := range []struct {
		days  int
		slack time.Duration
		class Class
	}{{100, 0, Dormant}, {100, 14 * day, Unmanaged}, {105, 14 * day, Dormant}, {1000, -1, Unmanaged}} {
		if f := of(c.days, c.slack); f.Class != c.class {
			t.Errorf("%d days, slack %v: %s", c.days, c.slack, f.Class)
		}
	}
	if f := of(105, 14*day); !strings.Contains(f.Reasons[0], "for 91 to 105 days") {
		t.Errorf("%q", f.Reasons)
	}
}

// FuzzSID: what is read as a SID says all that stood there.
func FuzzSID(f *testing.F) {
	f.Add([]byte{1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 5})
	f.Add([]byte{1, 15, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := SID(b)
		if s == "" {
			return
		}
		parts := strings.Split(s, "-")
		back := []byte{1, byte(len(parts) - 3)}
		for i, p := range parts[2:] {
			n, err := strconv.ParseUint(p, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				back = append(back, binary.BigEndian.AppendUint64(nil, n)[2:]...)
			} else {
				back = binary.LittleEndian.AppendUint32(back, uint32(n))
			}
		}
		if !slices.Equal(back, b) {
			t.Errorf("%s is %x, and was %x", s, back, b)
		}
	})
}
