package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Unmarshal decodes one JSON value into v and takes nothing that could be read
// in two ways: unknown keys, keys in another case, repeated keys and a second
// value are refused. encoding/json alone takes the last three.
func Unmarshal(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := walk(d, reflect.TypeOf(v), 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	d = json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// maxDepth is deeper than any type of this package.
const maxDepth = 32

// walk reads one value and checks the keys of its objects against t, which is
// nil where the type does not say.
func walk(d *json.Decoder, t reflect.Type, depth int) error {
	if depth > maxDepth {
		return errors.New("the JSON value is nested too deep")
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	tok, err := d.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	switch tok {
	case json.Delim('['):
		var elem reflect.Type
		if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
			elem = t.Elem()
		}
		for d.More() {
			if err := walk(d, elem, depth+1); err != nil {
				return err
			}
		}
	case json.Delim('{'):
		var seen []string
		for d.More() {
			tok, err := d.Token()
			if err != nil {
				return err
			}
			key, _ := tok.(string)
			if slices.Contains(seen, key) {
				return fmt.Errorf("the key %q stands there twice", key)
			}
			if seen = append(seen, key); len(seen) > 1000 {
				return errors.New("an object has too many keys")
			}
			elem, err := member(t, key)
			if err != nil {
				return err
			}
			if err := walk(d, elem, depth+1); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = d.Token() // the closing delimiter
	return err
}

// member returns the type of a key's value.
func member(t reflect.Type, key string) (reflect.Type, error) {
	if t == nil {
		return nil, nil
	}
	switch t.Kind() {
	case reflect.Map:
		return t.Elem(), nil
	case reflect.Struct:
		var names []string
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == key && name != "-" {
				return f.Type, nil
			}
			if name != "" && name != "-" {
				names = append(names, name)
			}
		}
		return nil, fmt.Errorf("the key %q is not known; there are %s", key, strings.Join(names, ", "))
	default:
		return nil, nil
	}
}
