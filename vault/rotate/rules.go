package rotate

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode"

	"github.com/drawbolt/drawbolt/vault"
)

// Rules say what passwords look like. The zero Rules make 32 characters of letters,
// digits and some signs that no shell, file format or directory trips over.
type Rules struct {
	Length  int      // characters; default 32
	Classes []string // of each at least one character is taken; default lower, upper, digits, "-_.+"
	Never   string   // characters that are not used
	// Not must not be in a password, in upper or lower case: the name of the account,
	// which Active Directory refuses.
	Not []string
}

const maxLength = 256

func (r Rules) filled() Rules {
	if r.Length == 0 {
		r.Length = 32
	}
	if len(r.Classes) == 0 {
		r.Classes = []string{"abcdefghijkmnopqrstuvwxyz", "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789", "-_.+"}
	}
	classes := make([]string, len(r.Classes))
	for i, c := range r.Classes {
		classes[i] = strings.Map(func(x rune) rune {
			if strings.ContainsRune(r.Never, x) {
				return -1
			}
			return x
		}, c)
	}
	r.Classes = classes
	return r
}

// Check reports whether passwords can be made by these rules.
func (r Rules) Check() error {
	r = r.filled()
	if r.Length < max(8, len(r.Classes)) || r.Length > maxLength {
		return fmt.Errorf("a password has 8 to %d characters, and one of each class at least", maxLength)
	}
	for _, c := range r.Classes {
		if c == "" || strings.ContainsFunc(c, func(x rune) bool { return x > unicode.MaxASCII || unicode.IsControl(x) }) {
			return errors.New("a class of characters is some printable ones of ASCII")
		}
	}
	return nil
}

// Make makes a password. Each character is drawn from all classes alike; those that
// are short of a class, or have what they must not have, are thrown away.
func (r Rules) Make() (vault.Secret, error) {
	r = r.filled()
	all := strings.Join(r.Classes, "")
	for range 10_000 {
		b := make([]byte, r.Length)
		for i := range b {
			n, err := rand.Int(rand.Reader, big.NewInt(int64(len(all))))
			if err != nil {
				return vault.Secret{}, err
			}
			b[i] = all[n.Int64()]
		}
		if r.fits(string(b)) {
			s := vault.NewSecret(b)
			clear(b)
			return s, nil
		}
		clear(b)
	}
	return vault.Secret{}, errors.New("hardly any password fits the rules")
}

func (r Rules) fits(password string) bool {
	for _, c := range r.Classes {
		if !strings.ContainsAny(password, c) {
			return false
		}
	}
	lower := strings.ToLower(password)
	for _, no := range r.Not {
		if no != "" && strings.Contains(lower, strings.ToLower(no)) {
			return false
		}
	}
	return true
}
