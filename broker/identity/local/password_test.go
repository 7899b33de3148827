package local

import (
	"errors"
	"strings"
	"testing"

	"github.com/drawbolt/drawbolt/broker/access"
)

func TestCheckPassword(t *testing.T) {
	user := access.User{Name: "alexandra"}
	for _, tt := range []struct {
		name, password string
		want           bool
	}{
		{"passphrase", "correct horse battery staple", true},
		{"random", "h7!kQ2pz*Lw9", true},
		{"not ASCII", "zwölf Boxkämpfer jagen", true},
		{"longest", strings.Repeat("abcdefg ", 128), true},
		{"digits, long", "8301749265038174", true},
		{"name and more", "alexandra likes mondays", true},
		{"empty", "", false},
		{"eleven", "h7!kQ2pz*Lw", false},
		{"too long", strings.Repeat("abcdefg ", 128) + "x", false},
		{"not UTF-8", "h7!kQ2pz*Lw9\xff", false},
		{"newline", "h7!kQ2pz*Lw9\n", false},
		{"NUL", "h7!kQ2pz*Lw9\x00", false},
		{"one character", "aaaaaaaaaaaaaaaa", false},
		{"two characters", "abababababababab", false},
		{"sequence", "abcdefghijklm", false},
		{"sequence down", "987654321098", false},
		{"a date and some", "199912311999", false},
		{"common", "Password2024!", false},
		{"common twice", "passwordpassword", false},
		{"common in signs", "!!!Welcome!!!123", false},
		{"own name", "Alexandra2024!", false},
		{"own name twice", "alexandraalexandra", false},
	} {
		err := CheckPassword(user, []byte(tt.password))
		if (err == nil) != tt.want {
			t.Errorf("%s: CheckPassword = %v, want accepted: %v", tt.name, err, tt.want)
		}
		if err != nil && !errors.Is(err, access.ErrInvalid) {
			t.Errorf("%s: %v is not invalid", tt.name, err)
		}
		if err != nil && tt.password != "" && strings.Contains(err.Error(), tt.password) {
			t.Errorf("%s: the refusal shows the password: %v", tt.name, err)
		}
	}
}
