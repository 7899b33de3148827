// Package mfa is the arithmetic of second factors: passkeys (WebAuthn level 3), and
// time-based codes (TOTP, RFC 6238) as every authenticator app makes them, with
// SHA-1, six digits and steps of 30 seconds.
//
// It is pure: it keeps nothing, reads no clock, and does not know whether a code or
// a challenge was used before. Using each once, and comparing the counters of
// passkeys, is its caller's part; without that a code that somebody has looked at is
// good for a minute and a half. Of what an authenticator says it believes what the
// passkey has signed, and nothing of who has made it.
package mfa

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
)

const (
	// Period is how long a step lasts.
	Period = 30 * time.Second
	// Digits is how many digits a code has.
	Digits = 6
	// Skew is how many steps before and after the current one are accepted,
	// for clocks that are off and for slow typing (RFC 6238, section 5.2).
	Skew = 1

	// secretSize is what RFC 4226, section 4, recommends: 160 bits.
	secretSize = 20
)

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewSecret returns a fresh secret from crypto/rand.
func NewSecret() []byte {
	b := make([]byte, secretSize)
	rand.Read(b)
	return b
}

// Text is the secret as a person types it into an app that cannot scan.
func Text(secret []byte) string { return encoding.EncodeToString(secret) }

// URL returns the otpauth URL of the secret, which apps scan as a QR code.
func URL(issuer, account string, secret []byte) (string, error) {
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer: issuer, AccountName: account, Secret: secret,
		Period: uint(Period / time.Second), Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		return "", fmt.Errorf("make otpauth URL: %w", err)
	}
	return key.URL(), nil
}

// Step returns the number of the step that t is in.
func Step(t time.Time) int64 { return t.Unix() / int64(Period/time.Second) }

// Code returns the code of a secret in a step.
func Code(secret []byte, step int64) (string, error) {
	return hotp.GenerateCodeCustom(Text(secret), uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
}

// Check reports whether code is the code of a step within Skew of now, and of
// which. Spaces, as apps show them, do not count. It takes the same time for
// every code of six digits.
func Check(secret []byte, code string, now time.Time) (step int64, ok bool) {
	if len(code) > 2*Digits {
		return 0, false
	}
	code = strings.ReplaceAll(code, " ", "")
	if len(code) != Digits || strings.Trim(code, "0123456789") != "" {
		return 0, false
	}
	current := Step(now)
	for s := current - Skew; s <= current+Skew; s++ {
		want, err := Code(secret, s)
		if err != nil {
			return 0, false
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			step, ok = s, true
		}
	}
	return step, ok
}
