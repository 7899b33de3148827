package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestError(t *testing.T) {
	e := &Error{Kind: ErrDenied, Code: "DB-2002", Text: "no", Rule: "approve.self"}
	wrapped := fmt.Errorf("approve: %w", e)
	if !errors.Is(wrapped, ErrDenied) || errors.Is(wrapped, ErrConflict) || e.Error() != "no (rule approve.self)" {
		t.Errorf("%v", wrapped)
	}
}

func TestUserValidate(t *testing.T) {
	many := func(n int) []string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("g%d", i))
		}
		return list
	}
	for _, tt := range []struct {
		name string
		user User
		good bool
	}{
		{"plain", User{Name: "alice"}, true}, {"full", User{Name: "alice", Display: "Alice Ä.", Groups: []string{"b", "a", "b"}, Attributes: map[string]string{"site": "Zürich"}}, true},
		{"no name", User{}, false}, {"display that acts", User{Name: "a", Display: "\x1b[2J"}, false}, {"long display", User{Name: "a", Display: strings.Repeat("x", MaxLabel+1)}, false},
		{"bad group", User{Name: "a", Groups: []string{"A"}}, false}, {"bad attribute", User{Name: "a", Attributes: map[string]string{"a b": ""}}, false},
		{"attribute that acts", User{Name: "a", Attributes: map[string]string{"a": "\n"}}, false},
		{"most groups", User{Name: "a", Groups: many(MaxItems)}, true}, {"too many groups", User{Name: "a", Groups: many(MaxItems + 1)}, false},
		{"lock reason that acts", User{Name: "a", LockReason: "\u202e"}, false},
	} {
		if err := tt.user.Validate(); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		} else if err == nil && (!slices.IsSorted(tt.user.Groups) || len(slices.Compact(slices.Clone(tt.user.Groups))) != len(tt.user.Groups)) {
			t.Errorf("%s: groups %v", tt.name, tt.user.Groups)
		} else if err != nil {
			wantKind(t, err, ErrInvalid)
		}
	}
}

func TestTargetValidate(t *testing.T) {
	good := func() Target {
		return Target{Name: "db01", Address: "10.0.0.1:22", Labels: Labels{"prod", "1", "high", "team@example.com"}, Applications: []string{"billing"}, Accounts: []Account{{Name: "root", Credential: CredentialCertificate}}}
	}
	for _, tt := range []struct {
		name   string
		change func(*Target)
		good   bool
	}{
		{"plain", func(*Target) {}, true}, {"IPv6", func(t *Target) { t.Address = "[2001:db8::1]:2222" }, true}, {"name", func(t *Target) { t.Address = "db01.example.com:22" }, true},
		{"no port", func(t *Target) { t.Address = "10.0.0.1" }, false}, {"no host", func(t *Target) { t.Address = ":22" }, false}, {"port 0", func(t *Target) { t.Address = "h:0" }, false},
		{"port too high", func(t *Target) { t.Address = "h:65536" }, false}, {"port by name", func(t *Target) { t.Address = "h:ssh" }, false}, {"address that acts", func(t *Target) { t.Address = "h\u202e:22" }, false},
		{"long host", func(t *Target) { t.Address = strings.Repeat("h", 254) + ":22" }, false},
		{"tier 3", func(t *Target) { t.Labels.Tier = "3" }, false}, {"label that acts", func(t *Target) { t.Labels.Owner = "a\nb" }, false},
		{"account twice", func(t *Target) { t.Accounts = append(t.Accounts, t.Accounts[0]) }, false}, {"bad account", func(t *Target) { t.Accounts[0].Name = "Root" }, false},
		{"other credential", func(t *Target) { t.Accounts[0].Credential = "passkey" }, false}, {"password", func(t *Target) { t.Accounts[0].Credential = "password" }, true},
		{"key", func(t *Target) { t.Accounts[0].Credential = "key" }, true},
		{"hop account with a password", func(t *Target) { t.Accounts[0].Credential, t.HopAccount = "password", t.Accounts[0].Name }, false},
		{"provisioner with a key", func(t *Target) { t.Accounts[0].Credential, t.Provisioner = "key", t.Accounts[0].Name }, false},
		{"made with a password", func(t *Target) {
			t.Accounts[0].Credential, t.Accounts[0].Made, t.Provisioner = "password", &AccountTemplate{Prefix: "jit-"}, "ops"
		}, false},
		{"empty application", func(t *Target) { t.Applications = []string{""} }, false},
		{"too many keys", func(t *Target) { t.HostKeys = make([]string, 17) }, false}, {"too many accounts", func(t *Target) { t.Accounts = make([]Account, MaxItems+1) }, false},
		{"bad name", func(t *Target) { t.Name = "DB01" }, false},
	} {
		target := good()
		tt.change(&target)
		if err := target.Validate(); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	target := good()
	if _, ok := target.Account("root"); !ok {
		t.Error("no root")
	}
	if _, ok := target.Account("toor"); ok {
		t.Error("a toor")
	}
}

func TestRoleValidate(t *testing.T) {
	good := func() Role {
		return Role{Name: "engineers", Inherits: []string{"base"}, Groups: []string{"engineers"}, Users: []string{NewID(UserPrefix)}, Rules: []Rule{{
			ID: "root", Actions: []string{"request"}, Accounts: []string{"root", "*"}, MaxDuration: time.Hour, Approvals: []Need{{Count: 1, Groups: []string{"approvers"}}}, Sources: []string{"10.0.0.0/8"},
		}}}
	}
	for _, tt := range []struct {
		name   string
		change func(*Role)
		good   bool
	}{
		{"plain", func(*Role) {}, true}, {"bad name", func(r *Role) { r.Name = "" }, false}, {"bad parent", func(r *Role) { r.Inherits[0] = "B" }, false}, {"bad group", func(r *Role) { r.Groups[0] = "B" }, false},
		{"user by name", func(r *Role) { r.Users[0] = "alice" }, false}, {"no actions", func(r *Role) { r.Rules[0].Actions = nil }, false}, {"bad account", func(r *Role) { r.Rules[0].Accounts[0] = "**" }, false},
		{"too long", func(r *Role) { r.Rules[0].MaxDuration = MaxDuration + time.Second }, false}, {"negative", func(r *Role) { r.Rules[0].MaxDuration = -1 }, false},
		{"zero people", func(r *Role) { r.Rules[0].Approvals[0].Count = 0 }, false}, {"minus one person", func(r *Role) { r.Rules[0].Approvals[0].Count = -1 }, false},
		{"people of no group", func(r *Role) { r.Rules[0].Approvals[0].Groups = nil }, false}, {"too many needs", func(r *Role) { r.Rules[0].Approvals = slices.Repeat(r.Rules[0].Approvals, maxNeeds+1) }, false},
		{"not a network", func(r *Role) { r.Rules[0].Sources[0] = "10.0.0.1" }, false}, {"old second factor", func(r *Role) { r.Rules[0].MFAWithin = 25 * time.Hour }, false},
		{"no recording", func(r *Role) { r.Rules[0].Session.Recording = "none" }, false}, {"rule twice", func(r *Role) { r.Rules = append(r.Rules, r.Rules[0]) }, false},
		{"too many rules", func(r *Role) { r.Rules = make([]Rule, MaxItems+1) }, false},
	} {
		role := good()
		tt.change(&role)
		if err := role.Validate(); (err == nil) != tt.good {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
