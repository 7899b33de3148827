package audit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of one event, in bytes unless said otherwise.
const (
	MaxLeaf        = 32 << 10 // a marshalled event
	MaxName        = 256      // Actor, ActorName, Object, Target, Account, Source, Rule, ids
	MaxAction      = 64
	MaxReason      = 4096
	MaxDetails     = 32 // keys
	MaxDetailKey   = 64
	MaxDetailValue = 1024
)

// maxSize bounds the number of leaves. Up to 2^53 every integer is exact in any
// JSON reader (RFC 8785, section 3.2.2.3), and the tree arithmetic cannot overflow.
const maxSize = 1 << 53

// timeLayout is RFC 3339 in UTC with exactly six digits of a second.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// An Outcome says what became of an action.
type Outcome string

const (
	Done    Outcome = "done"    // it happened
	Refused Outcome = "refused" // it was not allowed, and nothing changed
	Failed  Outcome = "failed"  // it was allowed, and broke
)

// An Event is one entry of the audit log. Texts hold no control characters, no
// line separators and no bidirectional overrides; Clean makes such a text of any.
type Event struct {
	Seq       int64     // position in the log, from 0; given by the log
	Time      time.Time // written in UTC, cut to microseconds
	Actor     string    // user id or "system"
	ActorName string
	Action    string // dotted lower-case words: request.approve, session.open
	Object    string // id of what was acted on
	Target    string
	Account   string
	Request   string // ids, where they are known
	Grant     string
	Session   string
	Source    string // address the actor came from
	Outcome   Outcome
	Reason    string            // why: the words of the rule, or what the person wrote
	Rule      string            // the policy rule that decided
	Details   map[string]string // keys of [a-z0-9_.-]; the caller lets no secret in
}

// A field is one member of the JSON object. text is nil for the three members
// that are not plain texts: details, seq and time.
type field struct {
	key  string
	text *string
	max  int
}

// fields lists the members in the order of their keys, which is the order in a leaf.
func (e *Event) fields() [16]field {
	return [16]field{
		{"account", &e.Account, MaxName},
		{"action", &e.Action, MaxAction},
		{"actor", &e.Actor, MaxName},
		{"actor_name", &e.ActorName, MaxName},
		{"details", nil, 0},
		{"grant", &e.Grant, MaxName},
		{"object", &e.Object, MaxName},
		{"outcome", (*string)(&e.Outcome), MaxName},
		{"reason", &e.Reason, MaxReason},
		{"request", &e.Request, MaxName},
		{"rule", &e.Rule, MaxName},
		{"seq", nil, 0},
		{"session", &e.Session, MaxName},
		{"source", &e.Source, MaxName},
		{"target", &e.Target, MaxName},
		{"time", nil, 0},
	}
}

// Validate reports the first thing that keeps e from being written: a missing
// actor, action, outcome or time, a text too long, a character not allowed.
func (e Event) Validate() error {
	if e.Seq < 0 || e.Seq >= maxSize {
		return fmt.Errorf("audit event: seq %d is out of range", e.Seq)
	}
	if y := e.Time.UTC().Year(); y < 1970 || y > 9999 {
		return fmt.Errorf("audit event: time is missing or out of range")
	}
	if e.Actor == "" {
		return errors.New("audit event: actor is missing")
	}
	if !isAction(e.Action) {
		return fmt.Errorf("audit event: action %.80q is not dotted lower-case words", e.Action)
	}
	switch e.Outcome {
	case Done, Refused, Failed:
	default:
		return fmt.Errorf("audit event: outcome %.80q is not known", string(e.Outcome))
	}
	for _, f := range e.fields() {
		if f.text == nil {
			continue
		}
		if err := checkText(*f.text, f.max); err != nil {
			return fmt.Errorf("audit event: %s %w", f.key, err)
		}
	}
	if len(e.Details) > MaxDetails {
		return fmt.Errorf("audit event: %d details, at most %d", len(e.Details), MaxDetails)
	}
	for k, v := range e.Details {
		if !isDetailKey(k) {
			return fmt.Errorf("audit event: details key %.80q is not allowed", k)
		}
		if err := checkText(v, MaxDetailValue); err != nil {
			return fmt.Errorf("audit event: details %s %w", k, err)
		}
	}
	return nil
}

// isAction reports whether s is words of [a-z0-9_-], each starting with a
// letter, joined by dots.
func isAction(s string) bool {
	if s == "" || len(s) > MaxAction {
		return false
	}
	start := true
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z':
			start = false
		case start:
			return false
		case c == '.':
			start = true
		case '0' <= c && c <= '9' || c == '_' || c == '-':
		default:
			return false
		}
	}
	return !start
}

func isDetailKey(s string) bool {
	if s == "" || len(s) > MaxDetailKey {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

func checkText(s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("is %d bytes, at most %d", len(s), limit)
	}
	for i, r := range s {
		if r < utf8.RuneSelf && r >= ' ' && r != 0x7f {
			continue
		}
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return errors.New("is not UTF-8")
			}
		}
		if isHidden(r) {
			return fmt.Errorf("holds the character %U", r)
		}
	}
	return nil
}

// isHidden reports whether r could make a terminal or a reader show something
// else than what was written: control characters, line and paragraph separators,
// and bidirectional embeddings, overrides and isolates (CVE-2021-42574).
func isHidden(r rune) bool {
	return unicode.IsControl(r) || r == 0x2028 || r == 0x2029 ||
		0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069
}

// Clean makes s fit for a text field of at most limit bytes: white space that is
// not allowed becomes a space, any other character that is not allowed and every
// byte that is not UTF-8 becomes U+FFFD, and what is too long is cut between two
// characters and ends in an ellipsis. Use it on what comes from outside, such as
// the user name of a failed login, so that no input can keep an event from
// being written.
func Clean(s string, limit int) string {
	if checkText(s, limit) == nil {
		return s
	}
	const ellipsis = "…"
	var b strings.Builder
	end := 0 // where b was last short enough to take the ellipsis
	for _, r := range s {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == 0x2028 || r == 0x2029:
			r = ' '
		case isHidden(r):
			r = utf8.RuneError
		}
		b.WriteRune(r)
		if b.Len() <= limit-len(ellipsis) {
			end = b.Len()
		}
		if b.Len() > limit {
			if limit < len(ellipsis) {
				return ""
			}
			return b.String()[:end] + ellipsis
		}
	}
	return b.String()
}

// Marshal returns the leaf: the JSON object that is hashed, stored and exported.
// It is canonical in the sense of RFC 8785: keys in order, no white space, only
// the quote and the backslash escaped. Empty members are left out. The time is
// written in UTC, cut to microseconds.
func (e Event) Marshal() ([]byte, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, 512)
	sep := byte('{')
	key := func(k string) {
		b = append(b, sep, '"')
		b = append(b, k...)
		b = append(b, '"', ':')
		sep = ','
	}
	for _, f := range e.fields() {
		switch {
		case f.text != nil:
			if *f.text != "" {
				key(f.key)
				b = appendText(b, *f.text)
			}
		case f.key == "seq":
			key(f.key)
			b = strconv.AppendInt(b, e.Seq, 10)
		case f.key == "time":
			key(f.key)
			b = append(b, '"')
			b = e.Time.UTC().AppendFormat(b, timeLayout)
			b = append(b, '"')
		case len(e.Details) > 0:
			key(f.key)
			in := byte('{')
			for _, k := range slices.Sorted(maps.Keys(e.Details)) {
				b = append(b, in)
				b = appendText(b, k)
				b = append(b, ':')
				b = appendText(b, e.Details[k])
				in = ','
			}
			b = append(b, '}')
		}
	}
	b = append(b, '}')
	if len(b) > MaxLeaf {
		return nil, fmt.Errorf("audit event: %d bytes, at most %d", len(b), MaxLeaf)
	}
	return b, nil
}

// appendText appends s as a JSON string. Characters that JSON wants escaped
// other than these two do not pass Validate.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
