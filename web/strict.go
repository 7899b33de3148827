package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"github.com/drawbolt/drawbolt/broker/access"
)

const (
	maxDepth = 32
	maxKey   = 64
)

func badJSON(format string, args ...any) error {
	return &access.Error{Kind: access.ErrInvalid, Code: "DB-6003", Text: "the body is not acceptable: " + fmt.Sprintf(format, args...)}
}

// checkJSON refuses a body that two readers could understand differently, or
// that says more than is shown: encoding/json takes the last of two equal keys,
// matches keys whatever their case (Kelvin sign and long s included), repairs
// bad UTF-8, and stops at the end of the first value. What it refuses it names
// by its place and never by its content, which may be a password.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return badJSON("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := checkValue(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badJSON("something follows the end of the JSON")
	}
	return nil
}

func checkValue(d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return badJSON("it is not JSON (near byte %d)", d.InputOffset())
	}
	switch t := t.(type) {
	case string:
		return checkString(d, t)
	case json.Delim:
		if depth++; depth > maxDepth {
			return badJSON("it is nested more than %d deep", maxDepth)
		}
		var seen map[string]bool
		if t == '{' {
			seen = map[string]bool{}
		}
		for d.More() {
			if seen != nil {
				if err := checkKey(d, seen); err != nil {
					return err
				}
			}
			if err := checkValue(d, depth); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil {
			return badJSON("it is not JSON (near byte %d)", d.InputOffset())
		}
	}
	return nil
}

// checkKey wants keys of lower-case ASCII, as every key of the API is: then
// equal and equal but for case are one and the same.
func checkKey(d *json.Decoder, seen map[string]bool) error {
	t, err := d.Token()
	if err != nil {
		return badJSON("it is not JSON (near byte %d)", d.InputOffset())
	}
	key, _ := t.(string) // the decoder takes nothing else for a key
	for i := range len(key) {
		c := key[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return badJSON("the key near byte %d is not lower-case letters, digits and _.-", d.InputOffset())
		}
	}
	switch {
	case key == "" || len(key) > maxKey:
		return badJSON("the key near byte %d is empty or longer than %d", d.InputOffset(), maxKey)
	case seen[key]:
		return badJSON("the key %s is there twice", key)
	}
	seen[key] = true
	return nil
}

func checkString(d *json.Decoder, s string) error {
	for _, r := range s {
		if unicode.IsControl(r) {
			return badJSON("the text before byte %d holds the control character %U", d.InputOffset(), r)
		}
	}
	return nil
}
