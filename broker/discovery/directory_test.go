package discovery

import (
	"slices"
	"testing"
)

func TestFromDirectory(t *testing.T) {
	s := FromDirectory("AD", now, []Entry{
		{DN: "CN=Domain Admins,DC=x", Name: "Domain Admins", Group: true},
		{DN: "CN=Ops,DC=x", Name: "Ops", Group: true, MemberOf: []string{"cn=domain admins,dc=x"}},
		{DN: "CN=alice,DC=x", Name: "alice", MemberOf: []string{"CN=Ops,DC=x"}, LastLogin: now.AddDate(0, 0, -1)},
		{DN: "CN=old,DC=x", Name: "old", AdminCount: true, LastLogin: now.AddDate(-1, 0, 0), NeverExpires: true},
		{DN: "CN=sql,DC=x", Name: "sql", Services: []string{"MSSQLSvc/db01"}, LastLogin: now},
		{DN: "CN=off,DC=x", Name: "off", AdminCount: true, Disabled: true},
		{DN: "CN=plain,DC=x", Name: "plain"},
		{DN: "CN=twin,OU=a,DC=x", Name: "twin", AdminCount: true}, {DN: "CN=twin,OU=b,DC=x", Name: "twin", AdminCount: true},
	}, true)
	findings, _ := Classify(&s, Known{Now: now})
	var got []string
	for _, f := range findings {
		got = append(got, f.Name+" "+string(f.Class)+" "+f.Risk.String())
	}
	want := []string{"alice unmanaged high", "old dormant high", "sql service low", "off unmanaged low", "CN=twin,OU=a,DC=x unmanaged medium", "CN=twin,OU=b,DC=x unmanaged medium"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}
