package access

import (
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds on what comes from outside, in bytes unless said otherwise.
const (
	MaxReason  = 1000
	MaxComment = 1000
	MaxName    = 64
	MaxLabel   = 128
	MaxItems   = 64 // groups of a user, accounts of a target, rules of a role
	// MaxDuration is the longest grant that any role may give.
	MaxDuration = 30 * 24 * time.Hour
	// MaxScheduled is how far ahead a grant may be asked for.
	MaxScheduled = 90 * 24 * time.Hour
)

// Names are ASCII on purpose: a homoglyph of an account or a user is refused
// at the edge instead of being shown to an approver who cannot tell it apart.
var (
	userName    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	groupName   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	roleName    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	targetName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	labelValue  = regexp.MustCompile(`^[A-Za-z0-9@][A-Za-z0-9@ ._/:-]{0,127}$`)
	email       = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+/=?^_{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_{|}~-]+)*@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}$`)
	ticketID    = regexp.MustCompile(`\b[A-Z][A-Z0-9]{1,9}-[0-9]{1,9}\b`)
	durationRE  = regexp.MustCompile(`^(?:([0-9]{1,4})d)?(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,7})s)?$`)
)

// CheckUserName and its like return an ErrInvalid that says what is allowed.
func CheckUserName(s string) error {
	return check(userName, s, "user name", "a-z, 0-9, dot, underscore and hyphen, at most 64")
}

// CheckGroupName checks the name of a group.
func CheckGroupName(s string) error {
	return check(groupName, s, "group name", "a-z, 0-9, dot, underscore and hyphen, at most 64")
}

// CheckEmail checks an address of e-mail: the plain form of RFC 5322, section
// 3.4.1, at a host with a dot in its name, at most 254 bytes. What it lets through
// can stand in a header.
func CheckEmail(s string) error {
	if len(s) > 254 {
		return Invalid("an e-mail address has at most 254 characters")
	}
	return check(email, s, "e-mail address", "a plain one, such as alice@example.com")
}

// CheckRoleName checks the name of a role.
func CheckRoleName(s string) error {
	return check(roleName, s, "role name", "a-z, 0-9, dot, underscore and hyphen, at most 64")
}

// CheckAccountName checks the login name of an account on a target.
func CheckAccountName(s string) error {
	return check(accountName, s, "account name", "a-z, 0-9, underscore and hyphen, not beginning with a digit, at most 32")
}

// CheckTargetName checks the name of a target, which is also what people type
// after ssh.
func CheckTargetName(s string) error {
	return check(targetName, s, "target name", "a-z, 0-9, dot and hyphen, at most 63")
}

// CheckLabel checks the value of a label.
func CheckLabel(name, s string) error {
	if s == "" {
		return nil
	}
	return check(labelValue, s, name+" label", "letters, digits, space and @._/:- at most 128")
}

func check(re *regexp.Regexp, s, what, allowed string) error {
	if re.MatchString(s) {
		return nil
	}
	if len(s) > MaxLabel {
		s = s[:MaxLabel] + "…"
	}
	return Invalid("%s %s is not valid: %s characters", what, strconv.QuoteToASCII(s), allowed)
}

// CheckText checks a sentence written by a person: valid UTF-8, at most max
// bytes, and nothing that could act on a terminal or hide what it says: no
// control characters, no format characters (bidirectional overrides, zero
// width), no letters that are drawn as nothing (the Hangul fillers), no line or
// paragraph separators.
func CheckText(what, s string, max int) error {
	if len(s) > max {
		return Invalid("%s is %d bytes long: at most %d are allowed", what, len(s), max)
	}
	if !utf8.ValidString(s) {
		return Invalid("%s is not valid UTF-8", what)
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Other_Default_Ignorable_Code_Point) {
			return Invalid("%s holds the character %U, which is not allowed", what, r)
		}
	}
	return nil
}

// CheckReason checks the reason of a request: a text with a letter or a digit
// in it, so that no approver is shown a blank.
func CheckReason(s string) error {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }) {
		return &Error{Kind: ErrInvalid, Code: "DB-1003", Text: "a reason is needed", Next: `--reason "INC-1234 what you will do"`}
	}
	return CheckText("the reason", s, MaxReason)
}

// Ticket returns the first ticket reference in a reason, such as INC-1234, or
// the empty string.
func Ticket(reason string) string { return ticketID.FindString(reason) }

// ParseDuration parses a plain positive duration: whole days, hours, minutes
// and seconds in this order, such as 1h, 30m, 1h30m or 2d. Signs, fractions,
// other units and anything over MaxDuration are refused.
func ParseDuration(s string) (time.Duration, error) {
	m := durationRE.FindStringSubmatch(s)
	if s == "" || m == nil {
		return 0, &Error{Kind: ErrInvalid, Code: "DB-1002", Text: "the duration " + strconv.QuoteToASCII(clip(s)) + " is not one: write it like 30m, 1h or 1h30m"}
	}
	var d time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if m[i+1] != "" {
			n, _ := strconv.Atoi(m[i+1]) // at most seven digits
			d += time.Duration(n) * unit
		}
	}
	if err := CheckDuration(d); err != nil {
		return 0, err
	}
	return d, nil
}

// CheckDuration checks the length of a grant: whole seconds, positive, at most
// MaxDuration.
func CheckDuration(d time.Duration) error {
	switch {
	case d <= 0:
		return &Error{Kind: ErrInvalid, Code: "DB-1002", Text: "the duration must be positive"}
	case d > MaxDuration:
		return &Error{Kind: ErrInvalid, Code: "DB-1002", Text: "the duration is longer than any role may give (30d)"}
	case d%time.Second != 0:
		return &Error{Kind: ErrInvalid, Code: "DB-1002", Text: "the duration must be whole seconds"}
	}
	return nil
}

// FormatDuration writes a duration as ParseDuration reads it, rounded to
// seconds. Less than none is none.
func FormatDuration(d time.Duration) string {
	d = d.Round(time.Second)
	if d <= 0 {
		return "0s"
	}
	var b strings.Builder
	for _, u := range []struct {
		length time.Duration
		letter string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if n := d / u.length; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10) + u.letter)
			d -= n * u.length
		}
	}
	return b.String()
}

func clip(s string) string {
	if len(s) > 32 {
		return s[:32] + "…"
	}
	return s
}
