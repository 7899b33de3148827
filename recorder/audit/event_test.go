package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestMarshalParse(t *testing.T) {
	for i := range 3 {
		want := testEvent(i)
		want.Seq = int64(i)
		leaf, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		// Any JSON reader must see the same.
		var m map[string]any
		if err := json.Unmarshal(leaf, &m); err != nil {
			t.Fatal(err)
		}
		if m["reason"] != want.Reason || m["seq"] != float64(i) || m["outcome"] != string(want.Outcome) {
			t.Errorf("encoding/json reads %v", m)
		}
	}
}

// TestFieldsComplete fails when a field is added to Event and forgotten in the
// table, or when the table is not in the order of the keys.
func TestFieldsComplete(t *testing.T) {
	var e Event
	var keys []string
	for _, f := range e.fields() {
		keys = append(keys, f.key)
	}
	if !slices.IsSorted(keys) {
		t.Errorf("keys are not in order: %v", keys)
	}
	var names []string
	for f := range reflect.TypeFor[Event]().Fields() {
		names = append(names, strings.ToLower(f.Name))
	}
	slices.Sort(names)
	for i := range keys {
		keys[i] = strings.ReplaceAll(keys[i], "_", "")
	}
	slices.Sort(keys)
	if !slices.Equal(keys, names) {
		t.Errorf("keys %v, fields %v", keys, names)
	}
}

func TestMarshalNormalisesTime(t *testing.T) {
	e := testEvent(0)
	e.Time = time.Date(2026, 3, 1, 10, 0, 0, 1999, time.FixedZone("CET", 3600))
	leaf, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if want := `"time":"2026-03-01T09:00:00.000001Z"`; !strings.Contains(string(leaf), want) {
		t.Errorf("%s does not hold %s", leaf, want)
	}
}

func TestValidate(t *testing.T) {
	many := make(map[string]string)
	for i := range MaxDetails + 1 {
		many[fmt.Sprintf("k%d", i)] = ""
	}
	huge := make(map[string]string)
	for i := range MaxDetails {
		huge[fmt.Sprintf("k%d", i)] = strings.Repeat("x", MaxDetailValue)
	}
	tests := []struct {
		name   string
		change func(*Event)
		want   string // part of the error; empty: valid
	}{
		{"as it is", func(e *Event) {}, ""},
		{"negative seq", func(e *Event) { e.Seq = -1 }, "seq"},
		{"seq past the exact integers", func(e *Event) { e.Seq = maxSize }, "seq"},
		{"no time", func(e *Event) { e.Time = time.Time{} }, "time"},
		{"year 10000", func(e *Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "time"},
		{"no actor", func(e *Event) { e.Actor = "" }, "actor"},
		{"no action", func(e *Event) { e.Action = "" }, "action"},
		{"upper case action", func(e *Event) { e.Action = "Request.create" }, "action"},
		{"action ends in a dot", func(e *Event) { e.Action = "request." }, "action"},
		{"action word starts with a digit", func(e *Event) { e.Action = "request.2" }, "action"},
		{"one word action", func(e *Event) { e.Action = "login" }, ""},
		{"long action", func(e *Event) { e.Action = strings.Repeat("a", MaxAction+1) }, "action"},
		{"no outcome", func(e *Event) { e.Outcome = "" }, "outcome"},
		{"other outcome", func(e *Event) { e.Outcome = "DONE" }, "outcome"},
		{"long reason", func(e *Event) { e.Reason = strings.Repeat("x", MaxReason+1) }, "reason"},
		{"full reason", func(e *Event) { e.Reason = strings.Repeat("x", MaxReason) }, ""},
		{"line feed", func(e *Event) { e.Reason = "a\nb" }, "U+000A"},
		{"escape", func(e *Event) { e.ActorName = "a\x1b[2J" }, "U+001B"},
		{"delete", func(e *Event) { e.Target = "db\x7f" }, "U+007F"},
		{"C1 control", func(e *Event) { e.Target = "db\u009b31m" }, "U+009B"},
		{"line separator", func(e *Event) { e.Reason = "a\u2028b" }, "U+2028"},
		{"right-to-left override", func(e *Event) { e.Account = "\u202etoor" }, "U+202E"},
		{"isolate", func(e *Event) { e.Account = "\u2066root" }, "U+2066"},
		{"emoji with joiner", func(e *Event) { e.Reason = "👩‍🚒 on call" }, ""},
		{"replacement character", func(e *Event) { e.Reason = "\ufffd" }, ""},
		{"not UTF-8", func(e *Event) { e.Reason = "\xff" }, "UTF-8"},
		{"too many details", func(e *Event) { e.Details = many }, "details"},
		{"details key", func(e *Event) { e.Details = map[string]string{"Key": ""} }, "details"},
		{"empty details key", func(e *Event) { e.Details = map[string]string{"": ""} }, "details"},
		{"details control character", func(e *Event) { e.Details = map[string]string{"k": "\x00"} }, "U+0000"},
		{"details too large together", func(e *Event) { e.Details = huge }, "bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := testEvent(0)
			tt.change(&e)
			leaf, err := e.Marshal()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if err == nil {
				if got, err := Parse(leaf); err != nil || !reflect.DeepEqual(got, e) {
					t.Errorf("got %+v, %v", got, err)
				}
			}
		})
	}
}

const minimalLeaf = `{"action":"login","actor":"a","outcome":"done","seq":0,"time":"2026-03-01T09:00:00.000000Z"}`

func TestParseRefuses(t *testing.T) {
	if _, err := Parse([]byte(minimalLeaf)); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, old, new string }{
		{"unknown key", `{"action"`, `{"aaa":"x","action"`},
		{"unknown key at the end", `Z"}`, `Z","zzz":"x"}`},
		{"repeated key", `"actor":"a"`, `"actor":"a","actor":"b"`},
		{"case variant", `"actor"`, `"Actor"`},
		{"case variant beside", `"actor":"a"`, `"actor":"a","aCtor":"b"`},
		{"escaped key", `"actor"`, `"\u0061ctor"`},
		{"out of order", `"action":"login","actor":"a"`, `"actor":"a","action":"login"`},
		{"white space", `,"actor"`, `, "actor"`},
		{"leading space", `{"action"`, ` {"action"`},
		{"trailing line feed", `Z"}`, "Z\"}\n"},
		{"second object", `Z"}`, `Z"}{}`},
		{"no end", `Z"}`, `Z"`},
		{"open text", `Z"}`, `Z`},
		{"needless escape", `"a"`, `"\/"`},
		{"unicode escape", `"a"`, `"\u0061"`},
		{"escape at the end", `Z"}`, `\`},
		{"raw line feed", `"a"`, "\"a\nb\""},
		{"not UTF-8", `"a"`, "\"\xff\""},
		{"empty member", `"a"`, `""`},
		{"null", `"a"`, `null`},
		{"number for text", `"a"`, `1`},
		{"text for number", `"seq":0`, `"seq":"0"`},
		{"leading zero", `"seq":0`, `"seq":00`},
		{"plus", `"seq":0`, `"seq":+1`},
		{"minus zero", `"seq":0`, `"seq":-0`},
		{"fraction", `"seq":0`, `"seq":0.0`},
		{"exponent", `"seq":0`, `"seq":1e3`},
		{"huge number", `"seq":0`, `"seq":99999999999999999999`},
		{"no seq", `"seq":0,`, ``},
		{"no time", `,"time":"2026-03-01T09:00:00.000000Z"`, ``},
		{"no actor", `"actor":"a",`, ``},
		{"other zone", `00.000000Z`, `00.000000+00:00`},
		{"comma in the time", `00.000000Z`, `00,000000Z`},
		{"milliseconds", `00.000000Z`, `00.000Z`},
		{"no such day", `2026-03-01`, `2026-02-30`},
		{"empty details", `"outcome"`, `"details":{},"outcome"`},
		{"details out of order", `"outcome"`, `"details":{"b":"","a":""},"outcome"`},
		{"details repeated", `"outcome"`, `"details":{"a":"","a":""},"outcome"`},
		{"details nested", `"outcome"`, `"details":{"a":{}},"outcome"`},
		{"other outcome", `"done"`, `"Done"`},
		{"oversize", `"a"`, `"` + strings.Repeat("a", MaxLeaf) + `"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			leaf := strings.Replace(minimalLeaf, tt.old, tt.new, 1)
			if leaf == minimalLeaf {
				t.Fatal("the test changes nothing")
			}
			if e, err := Parse([]byte(leaf)); err == nil {
				t.Errorf("read %s as %+v", leaf, e)
			}
		})
	}
	for _, leaf := range []string{"", "{", "{}", "[]", "null", `{"`, `{"seq`, `{"seq":`, `{"seq":0`} {
		if _, err := Parse([]byte(leaf)); err == nil {
			t.Errorf("read %q", leaf)
		}
	}
}

func TestClean(t *testing.T) {
	tests := []struct {
		name, in string
		limit    int
		want     string
	}{
		{"as it is", "Ångström", 99, "Ångström"},
		{"lines", "a\r\nb\tc\u2028d", 99, "a  b c d"},
		{"terminal escape", "a\x1b[2Jb", 99, "a\ufffd[2Jb"},
		{"override", "\u202etoor", 99, "\ufffdtoor"},
		{"not UTF-8", "a\xff\xfeb", 99, "a\ufffd\ufffdb"},
		{"exact", "abcdef", 6, "abcdef"},
		{"too long", "abcdefg", 6, "abc…"},
		{"between characters", "aÅÅÅÅ", 8, "aÅÅ…"},
		{"grows while cleaned", "\xff\xff\xff", 6, "\ufffd…"},
		{"no room for the ellipsis", "abc", 2, ""},
		{"shrinks while cleaned", "\u2028\u2028\u2028", 3, "   "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Clean(tt.in, tt.limit); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[2J\xff\u202e…", 9)
	f.Add(strings.Repeat("Å", 40), 33)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1<<16 {
			return
		}
		got := Clean(s, limit)
		if err := checkText(got, limit); err != nil || !utf8.ValidString(got) {
			t.Errorf("Clean(%q, %d) = %q: %v", s, limit, got, err)
		}
		if Clean(got, limit) != got {
			t.Errorf("Clean(%q) is not its own result", got)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimalLeaf))
	for i := range 3 {
		leaf, _ := testEvent(i).Marshal()
		f.Add(leaf)
	}
	f.Fuzz(func(t *testing.T, leaf []byte) {
		e, err := Parse(leaf)
		if err != nil {
			return
		}
		back, err := e.Marshal()
		if err != nil || !bytes.Equal(back, leaf) {
			t.Fatalf("%q marshals back to %q, %v", leaf, back, err)
		}
		// Another JSON reader sees the same texts.
		var m map[string]any
		if err := json.Unmarshal(leaf, &m); err != nil {
			t.Fatalf("%q is not JSON: %v", leaf, err)
		}
		for _, x := range e.fields() {
			if x.text != nil && *x.text != "" && m[x.key] != *x.text {
				t.Fatalf("%s: %q, encoding/json reads %v", x.key, *x.text, m[x.key])
			}
		}
		d, _ := m["details"].(map[string]any)
		if len(d) != len(e.Details) {
			t.Fatalf("details %v, encoding/json reads %v", slices.Sorted(maps.Keys(e.Details)), d)
		}
		for k, v := range e.Details {
			if d[k] != v {
				t.Fatalf("details %s: %q, encoding/json reads %v", k, v, d[k])
			}
		}
	})
}
