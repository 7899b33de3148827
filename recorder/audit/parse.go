package audit

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Parse reads a leaf. It takes exactly what Marshal writes, so a leaf has one
// reading and an event one leaf: unknown, repeated or differently written keys,
// keys out of order, white space, other escapes, empty members and anything past
// the limits are refused.
func Parse(leaf []byte) (Event, error) {
	e, err := parse(leaf)
	if err != nil {
		return Event{}, fmt.Errorf("parse audit event: %w", err)
	}
	return e, nil
}

func parse(leaf []byte) (Event, error) {
	if len(leaf) > MaxLeaf {
		return Event{}, fmt.Errorf("%d bytes, at most %d", len(leaf), MaxLeaf)
	}
	var (
		e      Event
		c      = cursor{rest: leaf}
		fields = e.fields()
		at     = 0 // members before it are done: keys come in order, each once
		hasSeq bool
	)
	for open := byte('{'); ; open = ',' {
		if !c.take(open) {
			return Event{}, c.expected(string(open))
		}
		key, err := c.key()
		if err != nil {
			return Event{}, err
		}
		for at < len(fields) && fields[at].key != key {
			at++
		}
		if at == len(fields) {
			return Event{}, fmt.Errorf("key %.80q is unknown, repeated or out of order", key)
		}
		f := fields[at]
		at++
		switch {
		case f.text != nil:
			*f.text, err = c.text()
			if err == nil && *f.text == "" {
				err = errors.New("is empty")
			}
		case f.key == "seq":
			e.Seq, err = c.number()
			hasSeq = true
		case f.key == "time":
			var s string
			if s, err = c.text(); err == nil {
				e.Time, err = parseTime(s)
			}
		default:
			e.Details, err = c.details()
		}
		if err != nil {
			return Event{}, fmt.Errorf("%s: %w", f.key, err)
		}
		if c.take('}') {
			break
		}
	}
	if len(c.rest) > 0 {
		return Event{}, errors.New("something follows the object")
	}
	if !hasSeq {
		return Event{}, errors.New("seq is missing")
	}
	return e, e.Validate()
}

// parseTime reads a time that timeLayout wrote. time.Parse alone also takes a
// comma before the fraction.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil || t.Format(timeLayout) != s {
		return time.Time{}, fmt.Errorf("%.80q is not a time like %s", s, timeLayout)
	}
	return t, nil
}

// A cursor walks over canonical JSON.
type cursor struct{ rest []byte }

func (c *cursor) take(b byte) bool {
	if len(c.rest) == 0 || c.rest[0] != b {
		return false
	}
	c.rest = c.rest[1:]
	return true
}

func (c *cursor) expected(what string) error {
	return fmt.Errorf("expected %s, %d bytes before the end", what, len(c.rest))
}

func (c *cursor) key() (string, error) {
	k, err := c.text()
	if err != nil {
		return "", err
	}
	if !c.take(':') {
		return "", c.expected(":")
	}
	return k, nil
}

// text reads a JSON string in which only the quote and the backslash may stand,
// and must stand, behind a backslash.
func (c *cursor) text() (string, error) {
	if !c.take('"') {
		return "", c.expected("a text")
	}
	escaped := false
	for i := 0; i < len(c.rest); i++ {
		switch c.rest[i] {
		case '"':
			raw := c.rest[:i]
			c.rest = c.rest[i+1:]
			if !escaped {
				return string(raw), nil
			}
			out := make([]byte, 0, len(raw))
			for j := 0; j < len(raw); j++ {
				if raw[j] == '\\' {
					j++
				}
				out = append(out, raw[j])
			}
			return string(out), nil
		case '\\':
			escaped = true
			i++
			if i == len(c.rest) || c.rest[i] != '"' && c.rest[i] != '\\' {
				return "", errors.New("an escape that is not needed")
			}
		}
	}
	return "", errors.New("a text without an end")
}

// number reads a decimal without sign or leading zeros, below maxSize.
func (c *cursor) number() (int64, error) {
	i := bytes.IndexFunc(c.rest, func(r rune) bool { return r < '0' || r > '9' })
	if i < 0 {
		i = len(c.rest)
	}
	n, err := parseSize(string(c.rest[:i]))
	c.rest = c.rest[i:]
	return n, err
}

// parseSize reads a canonical decimal from 0 to maxSize.
func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > maxSize || strconv.FormatInt(n, 10) != s {
		return 0, errors.New("not a plain number in range")
	}
	return n, nil
}

func (c *cursor) details() (map[string]string, error) {
	m := make(map[string]string)
	last := ""
	for open := byte('{'); ; open = ',' {
		if !c.take(open) {
			return nil, c.expected(string(open))
		}
		k, err := c.key()
		if err != nil {
			return nil, err
		}
		if k <= last {
			return nil, fmt.Errorf("key %.80q is empty, repeated or out of order", k)
		}
		last = k
		if m[k], err = c.text(); err != nil {
			return nil, err
		}
		if c.take('}') {
			return m, nil
		}
	}
}
