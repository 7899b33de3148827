package local

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/drawbolt/drawbolt/broker/access"
)

// The length of a password, in bytes. It is hashed as it is typed, without
// normalisation: every front sends UTF-8, and the same keyboard sends the same
// bytes.
const (
	MinPassword = 12
	MaxPassword = 1024
)

// common holds what people make of twelve characters when they are asked to,
// in lower case and without digits and signs around it; longer lists belong
// into a password manager.
var common = []string{
	"password", "passwort", "passwordpassword", "qwerty", "qwertyuiop", "asdfghjkl", "letmein", "welcome",
	"administrator", "admin", "changeme", "changemenow", "secret", "iloveyou", "drawbolt", "trustno", "default",
	"correcthorsebatterystaple",
}

// CheckPassword refuses a password that is too short, too long, not text, or
// among the first that anybody would try for this user.
func CheckPassword(user access.User, password []byte) error {
	bad := func(format string, args ...any) error {
		return &access.Error{Kind: access.ErrInvalid, Code: "DB-4020", Text: "the new password " + fmt.Sprintf(format, args...)}
	}
	switch {
	case len(password) < MinPassword:
		return bad("is too short: it needs at least %d characters", MinPassword)
	case len(password) > MaxPassword:
		return bad("is too long: at most %d bytes are allowed", MaxPassword)
	case !utf8.Valid(password):
		return bad("is not valid UTF-8")
	case bytes.ContainsFunc(password, unicode.IsControl):
		return bad("holds a control character")
	}
	s := strings.ToLower(string(password))
	distinct := make(map[rune]bool)
	for _, r := range s {
		distinct[r] = true
	}
	word := strings.TrimFunc(s, func(r rune) bool { return !unicode.IsLetter(r) })
	switch {
	case len(distinct) < 5:
		return bad("repeats too few different characters")
	case isRun(s):
		return bad("is a plain sequence")
	case user.Name != "" && strings.ReplaceAll(word, user.Name, "") == "" && word != "":
		return bad("is the user's name")
	case word == "":
		if len(s) < 16 { // a date, a telephone number
			return bad("has no letters: it needs some, or at least 16 characters")
		}
	}
	for _, c := range common {
		if strings.ReplaceAll(word, c, "") == "" && word != "" {
			return bad("is one of the most common")
		}
	}
	return nil
}

// isRun reports whether each byte follows the one before it (or precedes it,
// all the way), as in abcdefghijkl, but for wrapping from 9 to 0.
func isRun(s string) bool {
	up, down := true, true
	for i := 1; i < len(s); i++ {
		a, b := s[i-1], s[i]
		up = up && (b == a+1 || a == '9' && b == '0')
		down = down && (b+1 == a || a == '0' && b == '9')
	}
	return up || down
}
