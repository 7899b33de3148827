package access

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
)

// FuzzNames: a name that is accepted is what it looks like: it is short, it
// cannot be taken for an option, a path, a pattern or a piece of a shell, and
// two names that look alike are the same.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"alice", "db-admins", "root", "db01.prod", "-oProxyCommand=x", "../x", "a b", "rооt", "a\n", "A", "a*", "$(id)", "a+b", "a@b", strings.Repeat("a", 65)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for what, check := range map[string]func(string) error{
			"user": CheckUserName, "group": CheckGroupName, "role": CheckRoleName, "account": CheckAccountName, "target": CheckTargetName,
		} {
			if check(s) != nil {
				continue
			}
			if s == "" || len(s) > 64 || s[0] == '-' || s[0] == '.' && what != "user" {
				t.Errorf("%s: %q is accepted", what, s)
			}
			if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
				t.Errorf("%s: %q is accepted", what, s)
			}
		}
		if CheckLabel("owner", s) == nil && (len(s) > 128 || strings.ContainsAny(s, "\x00\n\r\"'`$\\<>|&;*?()[]{}")) {
			t.Errorf("label: %q is accepted", s)
		}
	})
}

// FuzzTargetAddress: an address that is accepted is a host and a port, with
// nothing in it that a person could not see.
func FuzzTargetAddress(f *testing.F) {
	for _, s := range []string{"db01:22", "[::1]:22", "10.0.0.1:0", "10.0.0.1:65536", ":22", "a:+22", "a\n:22", "[fe80::1%eth0]:22", "a:022", "a:22:22"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target := Target{Name: "db01", Address: s}
		if target.Validate() != nil {
			return
		}
		host, port, err := net.SplitHostPort(s)
		if err != nil || host == "" || CheckText("host", host, 253) != nil {
			t.Fatalf("%q is accepted", s)
		}
		if n, err := strconv.ParseUint(strings.TrimPrefix(port, "+"), 10, 16); err != nil || n == 0 {
			t.Fatalf("the port of %q is accepted", s)
		}
	})
}

func TestCheckEmail(t *testing.T) {
	for _, good := range []string{"alice@example.com", "a.b+c@mail.example.co", "o'hara@example.com", "x_1-2@sub-domain.example.org", "A@EXAMPLE.COM"} {
		if err := CheckEmail(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "alice", "alice@", "@example.com", "alice@localhost", "alice@example.com, eve@example.com", "alice@example.com eve@example.com", "Alice <alice@example.com>",
		"alice@example.com\r\nBcc: eve@example.com", "alice@example.com\n", "alice@@example.com", ".a@example.com", "a..b@example.com", `"a b"@example.com`, "alice@-example.com", "alice@example.c",
		"alice@[127.0.0.1]", "älice@example.com", strings.Repeat("a", 250) + "@example.com",
	} {
		if err := CheckEmail(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q is taken: %v", bad, err)
		}
		u := User{Name: "alice", Attributes: map[string]string{AttributeEmail: bad}}
		if err := u.Validate(); bad != "" && err == nil {
			t.Errorf("a user with the address %q is taken", bad)
		}
	}
}
