package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzClean: nothing that acts on a terminal gets through, what is plain is not
// touched, and JSON keeps its meaning.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"plain", "naïve “quotes” 日本", "\x1b[31mred", "\u202egnp.exe", "a\tb\nc", "\xff\xfe", "\u009b2J", "\U000e0041", "\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if strings.ContainsFunc(got, hidden) || !utf8.ValidString(got) {
			t.Fatalf("%q became %q", s, got)
		}
		if !strings.ContainsFunc(s, hidden) && utf8.ValidString(s) && got != s {
			t.Fatalf("%q became %q", s, got)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		safe := armour(b)
		if strings.ContainsFunc(string(safe), hidden) {
			t.Fatalf("%q became %s", s, safe)
		}
		var back, want string
		if err := json.Unmarshal(safe, &back); err != nil {
			t.Fatal(err)
		}
		if json.Unmarshal(b, &want); back != want {
			t.Fatalf("%q became %q in JSON", want, back)
		}
	})
}

func TestLineCleaner(t *testing.T) {
	var b strings.Builder
	l := &lineCleaner{w: &b}
	for _, part := range []string{"one\x1b", "[2J\ntw", "o\n\nend"} {
		if _, err := l.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	if want := "one\\x1b[2J\ntwo\n\nend\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"reason", "for", "as", "json"}
	for in, want := range map[string]string{"reasn": "reason", "resaon": "reason", "fro": "for", "jsno": "json", "zzzzz": "", "": "as"} {
		if got := nearest(in, names); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
