package access

import (
	"errors"
	"testing"
)

// A target is scanned as the account that is named for it, which must be able to; otherwise
// as its provisioner, or as the account that sets the passwords of others.
func TestScansAs(t *testing.T) {
	password := func(name, reset string) Account {
		a := Account{Name: name, Credential: CredentialPassword, KnownAs: "cn=" + name}
		if reset != "" {
			a.Managed = &Managed{Reset: reset}
		}
		return a
	}
	machine := []Account{{Name: "audit", Credential: CredentialCertificate}, {Name: "made", Credential: CredentialCertificate, Made: &AccountTemplate{Login: "made"}}, {Name: "old", Credential: CredentialPassword}}
	directory := []Account{password("app", "dba"), password("dba", ""), {Name: "new", Credential: CredentialCertificate}}
	for name, c := range map[string]struct {
		target Target
		as     string
		code   string // of the refusal
	}{
		"provisioner":    {Target{Provisioner: "root", Accounts: machine}, "root", ""},
		"named":          {Target{Provisioner: "root", ScanAccount: "audit", Accounts: machine}, "audit", ""},
		"not there":      {Target{Provisioner: "root", ScanAccount: "nobody", Accounts: machine}, "nobody", "DB-6520"},
		"the hop":        {Target{Provisioner: "root", ScanAccount: "root", Accounts: machine}, "root", "DB-6520"},
		"made":           {Target{Provisioner: "root", ScanAccount: "made", Accounts: machine}, "made", "DB-6521"},
		"lent":           {Target{Provisioner: "root", ScanAccount: "old", Accounts: machine}, "old", "DB-6521"},
		"resets":         {Target{Kind: KindActiveDirectory, Accounts: directory}, "dba", ""},
		"named by name":  {Target{Kind: KindActiveDirectory, ScanAccount: "app", Accounts: directory}, "app", ""},
		"no password":    {Target{Kind: KindActiveDirectory, ScanAccount: "new", Accounts: directory}, "new", "DB-6521"},
		"nobody":         {Target{Kind: KindActiveDirectory, Accounts: directory[1:]}, "", ""},
		"nobody at all":  {Target{Accounts: machine[:1]}, "", ""},
		"nobody is left": {Target{Kind: KindPostgres, ScanAccount: "app"}, "app", "DB-6520"},
	} {
		c.target.Name, c.target.Address = "t", "t.test:1"
		if as := c.target.ScansAs(); as != c.as {
			t.Errorf("%s: as %q, want %q", name, as, c.as)
		}
		err := c.target.Validate()
		e, _ := errors.AsType[*Error](err)
		if (err == nil) != (c.code == "") || e != nil && e.Code != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
}
