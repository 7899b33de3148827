// Package discovery reads what a scan of a system says about its accounts and its
// settings, and says what that means: whose each account is, what kind it is, what
// it may do, which ways lead past the bastion, and what is set up badly.
//
// It is pure: the scans themselves are made in broker/discovery/scan. What a system
// says is hostile input. A system that lies can only hide or blacken its own state:
// each text is bounded and stripped of what is not printable, each list has an end,
// and nothing that is read here is run.
package discovery

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of what is kept of one scan.
const (
	MaxOutput   = 2 << 20 // bytes of it
	maxLine     = 20_000  // bytes of one line
	maxAccounts = 5000
	maxKeys     = 50  // of one account
	maxRights   = 50  // of one account
	maxText     = 300 // bytes of one text
	maxSettings = 300
	maxListed   = 500 // ports, programs, authorities
)

// What a scan is of.
const (
	Linux      = "linux"
	PostgreSQL = "postgres"
	MySQL      = "mysql"
	LDAP       = "ldap"
)

// A Scan is what a system said.
type Scan struct {
	Kind     string
	At       time.Time // by the system's own clock; zero where it did not say
	System   string    // its name and version
	Accounts []Account
	// Settings are by name: "sshd.permitrootlogin", "sysctl.kernel.kptr_restrict",
	// "fact.firewall". What is not known is not there.
	Settings map[string]string
	// Authorities are the fingerprints of the authorities whose user certificates
	// sshd lets in.
	Authorities []string
	Listening   []string // address:port
	Setuid      []string // programs that run as root or others
	// LastLogins says whether last logins are known: without them nothing is dormant.
	LastLogins bool
	// LoginSlack is by how much a last login may be older than the real one.
	LoginSlack time.Duration
	// Incomplete names the parts that are cut off or could not be read.
	Incomplete []string
}

// An Account is one that the system has.
type Account struct {
	Name     string
	UID      int64 // on Linux; otherwise 0
	Comment  string
	Shell    string // on Linux
	Password string // one of the states below; "": unknown
	Changed  time.Time
	// NeverExpires: the password does not have to be changed.
	NeverExpires bool
	Disabled     bool // nobody gets in with it, with whatever
	LastLogin    time.Time
	Hosts        []string `json:",omitempty"` // from which it gets in, where the system restricts that
	Groups       []string `json:",omitempty"` // it is a member of, nested ones too
	Rights       []Right  `json:",omitempty"` // beyond those of a plain user
	Keys         []Key    `json:",omitempty"` // that let somebody in
	Service      string   `json:",omitempty"` // why it is a service's, where the system says so
	Weak         []string `json:",omitempty"` // what makes its password easy to find out
}

// States of a password.
const (
	PasswordSet    = "set"
	PasswordNone   = "none" // none is asked for
	PasswordLocked = "locked"
)

// A Right is something an account may do, in words.
type Right struct {
	Text string
	Full bool // it is, or leads to, everything
	// Source is where it stands: "/etc/sudoers.d/ops", "group docker".
	Source string
}

// A Key is one that lets somebody in.
type Key struct {
	Type        string
	Fingerprint string
	Options     string `json:",omitempty"` // what restricts it; values of environment are left out
	Comment     string `json:",omitempty"`
	Authority   bool   `json:",omitempty"` // it certifies others (cert-authority)
}

// Full reports whether the account may do everything.
func (a *Account) Full() bool {
	return slices.ContainsFunc(a.Rights, func(r Right) bool { return r.Full })
}

// Opens reports whether somebody may get in with the account as it is.
func (a *Account) Opens() bool {
	return !a.Disabled && (a.Password == PasswordSet || a.Password == PasswordNone || len(a.Keys) > 0)
}

// Matters reports whether the account belongs into an inventory: it opens, or it has
// rights. What can neither be entered nor do anything is the system's own furniture.
func (a *Account) Matters() bool { return a.Opens() || len(a.Rights) > 0 }

// clean is a text of the system's as it may be kept: printable, on one line, bounded.
func clean(s string) string { return cleanTo(s, maxText) }

func cleanTo(s string, most int) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 || c == 0x2028 || c == 0x2029 || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			return ' '
		}
		return c
	}, s)
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most]
	}
	return strings.TrimSpace(s)
}

func (s *Scan) incomplete(part string) {
	if part = cleanTo(part, 40); !slices.Contains(s.Incomplete, part) && len(s.Incomplete) < 20 {
		s.Incomplete = append(s.Incomplete, part)
	}
}

// set keeps a setting, the first one of a name.
func (s *Scan) set(name, value string) {
	name = cleanTo(name, 80)
	if _, there := s.Settings[name]; there || name == "" {
		return
	}
	if len(s.Settings) >= maxSettings {
		s.incomplete("settings")
		return
	}
	s.Settings[name] = clean(value)
}

// Drift says what differs between the settings of two scans, in order of the names:
// "sshd.permitrootlogin: no -> yes". Without a former scan there is none.
func Drift(before, now map[string]string) (list []string) {
	if len(before) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(now))
	for name := range before {
		if _, there := now[name]; !there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		was, is := before[name], now[name]
		if was == is || strings.HasPrefix(name, "fact.failed-") || strings.HasPrefix(name, "fact.pending-") || strings.HasPrefix(name, "fact.security-") {
			continue // these change every day
		}
		list = append(list, name+": "+first(was, "(unknown)")+" -> "+first(is, "(unknown)"))
	}
	return list
}

func first(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}
