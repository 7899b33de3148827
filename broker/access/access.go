// Package access holds the nouns of drawbolt and their rules: users, targets,
// accounts, roles, requests, approvals, grants and sessions, with the tables
// of the moves each may make.
//
// It is pure: no I/O, no clock of its own (every rule that depends on time
// takes it as a parameter), no knowledge of the database or of any protocol.
// It trusts its callers for who is acting; everything else that comes from
// outside passes one of its Validate or Parse functions first.
package access

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// The kinds of refusal that callers tell apart with errors.Is. A front turns
// each into its own answer (HTTP status, exit code, SSH banner) in one place.
var (
	// ErrNotFound: no such thing, or the caller may not know that it exists.
	ErrNotFound = errors.New("not found")
	// ErrDenied: a person or the policy said no.
	ErrDenied = errors.New("denied")
	// ErrConflict: the thing has moved on since the caller looked at it.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the input is outside its grammar or its bounds.
	ErrInvalid = errors.New("invalid")
	// ErrUnauthenticated: nobody proved who is calling.
	ErrUnauthenticated = errors.New("not logged in")
	// ErrUnavailable: a part that must work for a safe answer does not (the
	// database, the audit log, the recorder, the clock); nothing was changed.
	ErrUnavailable = errors.New("unavailable")
)

// An Error is a refusal with everything a person needs: what kind it is, the
// code of its sentence in the message catalogue, the sentence, the rule that
// decided, and what to do next.
type Error struct {
	Kind error  // one of the sentinels above
	Code string // DB-NNNN
	Text string // one sentence: what and why
	Rule string // the policy rule that decided, where one did
	Next string // the next command to type, where there is one
}

func (e *Error) Error() string {
	if e.Rule != "" {
		return fmt.Sprintf("%s (rule %s)", e.Text, e.Rule)
	}
	return e.Text
}

// Unwrap makes errors.Is(err, ErrDenied) and its like work.
func (e *Error) Unwrap() error { return e.Kind }

// Invalid returns an ErrInvalid whose sentence is the formatted text.
func Invalid(format string, args ...any) error {
	return &Error{Kind: ErrInvalid, Code: "DB-1001", Text: fmt.Sprintf(format, args...)}
}

const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

var idEncoding = base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding)

// The prefixes of identifiers, one a noun.
const (
	RequestPrefix = "REQ"
	GrantPrefix   = "GRA"
	SessionPrefix = "SES"
	TargetPrefix  = "TGT"
	UserPrefix    = "USR"
	LoginPrefix   = "LOG"
	BatchPrefix   = "BAT" // of requests that were made together
	LeasePrefix   = "LEA" // of secrets that were shown to people
)

// NewID returns a fresh identifier: the prefix, a hyphen and 80 random bits
// from crypto/rand in Crockford's base32 alphabet, so that knowing one
// identifier tells nothing about another. It is safe for concurrent use.
func NewID(prefix string) string {
	var b [10]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return prefix + "-" + idEncoding.EncodeToString(b[:])
}

// ValidID reports whether id has the form that NewID gives for this prefix.
func ValidID(prefix, id string) bool {
	rest, ok := cut(prefix+"-", id)
	// Not by decoding: a decoder skips line ends (RFC 4648, section 3.3).
	return ok && len(rest) == 16 && strings.Trim(rest, idAlphabet) == ""
}

func cut(prefix, s string) (string, bool) {
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return "", false
	}
	return s[len(prefix):], true
}
