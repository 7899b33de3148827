package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/drawbolt/drawbolt/web/api"
)

// clean makes a text fit for a terminal and for one line: control characters,
// bidirectional overrides and other characters that act or hide instead of
// showing are written as escapes. Nothing from the server is printed without it.
func clean(s string) string {
	if !strings.ContainsFunc(s, hidden) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !hidden(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}
	return b.String()
}

// hidden reports whether a character may act on a terminal or hide what is there.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

// The colours in use, and what they stand for: done and refused.
const (
	green = "\x1b[32m"
	red   = "\x1b[31m"
)

// paint colours a mark on stderr when that is a terminal.
func (c *cli) paint(colour, mark string) string {
	if !c.errTTY || c.noColor || c.env("NO_COLOR") != "" || c.env("TERM") == "dumb" {
		return mark
	}
	return colour + mark + "\x1b[0m"
}

// say talks to the person. Arguments that are strings are cleaned.
func (c *cli) say(format string, args ...any) {
	if !c.quiet {
		fmt.Fprintf(c.stderr, format+"\n", cleanAll(args)...)
	}
}

// done says what was done.
func (c *cli) done(format string, args ...any) {
	c.say(c.paint(green, "✓")+" "+format, args...)
}

// next says what to type next.
func (c *cli) next(format string, args ...any) { c.say("Next: "+format, args...) }

// print writes data: one line to stdout.
func (c *cli) print(format string, args ...any) {
	fmt.Fprintf(c.stdout, format+"\n", cleanAll(args)...)
}

func cleanAll(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case string:
			out[i] = clean(v)
		case error:
			out[i] = clean(v.Error())
		default:
			out[i] = a
		}
	}
	return out
}

// table writes rows with aligned columns to stdout; without rows it says empty.
func (c *cli) table(empty string, header []string, rows [][]string) {
	if len(rows) == 0 {
		c.say("%s", empty)
		return
	}
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			if i > 0 {
				io.WriteString(w, "\t")
			}
			io.WriteString(w, clean(cell))
		}
		io.WriteString(w, "\n")
	}
	w.Flush()
	for line := range bytes.Lines(b.Bytes()) {
		c.stdout.Write(append(bytes.TrimRight(line, " \n"), '\n'))
	}
}

// emit writes v as JSON when --json was given, and reports whether it did. A
// slice becomes an array; fields are picked from each of its elements.
func (c *cli) emit(v any) (bool, error) {
	if c.json == "" {
		return false, nil
	}
	b, err := c.encode(reflect.ValueOf(v))
	if err != nil {
		return true, err
	}
	if c.outTTY {
		var pretty bytes.Buffer
		if json.Indent(&pretty, b, "", "  ") == nil {
			b = pretty.Bytes()
		}
	}
	_, err = c.stdout.Write(append(b, '\n'))
	return true, err
}

func (c *cli) encode(v reflect.Value) ([]byte, error) {
	if v.Kind() == reflect.Slice {
		parts := make([][]byte, v.Len())
		for i := range parts {
			b, err := c.encode(v.Index(i))
			if err != nil {
				return nil, err
			}
			parts[i] = b
		}
		if v.Len() == 0 { // a wrong field is a mistake in an empty list too
			if _, err := c.fields(v.Type().Elem()); err != nil {
				return nil, err
			}
		}
		return slices.Concat([]byte("["), bytes.Join(parts, []byte(",")), []byte("]")), nil
	}
	b, err := json.Marshal(v.Interface())
	if err != nil {
		return nil, err
	}
	if want, err := c.fields(v.Type()); err != nil {
		return nil, err
	} else if want != nil {
		var all map[string]json.RawMessage
		if err := json.Unmarshal(b, &all); err != nil {
			return nil, err
		}
		parts := make([][]byte, len(want))
		for i, name := range want {
			value, ok := all[name]
			if !ok {
				value = []byte("null")
			}
			parts[i] = slices.Concat([]byte(`"`+name+`":`), value)
		}
		b = slices.Concat([]byte("{"), bytes.Join(parts, []byte(",")), []byte("}"))
	}
	return armour(b), nil
}

// checkFields finds a wrong field in --json before there is something to print.
func (c *cli) checkFields(output ...any) error {
	if c.json == "" {
		return nil
	}
	for _, v := range output {
		if _, err := c.fields(reflect.TypeOf(v)); err != nil {
			return err
		}
	}
	return nil
}

// fields returns the fields that --json names, nil for all, or what is wrong.
func (c *cli) fields(t reflect.Type) ([]string, error) {
	if c.json == "*" {
		return nil, nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var names []string
	if t.Kind() == reflect.Struct {
		for _, f := range reflect.VisibleFields(t) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
				names = append(names, name)
			}
		}
	}
	want := strings.Split(c.json, ",")
	for _, w := range want {
		if slices.Contains(names, w) {
			continue
		}
		e := usage("there is no field %q", w)
		if near := nearest(w, names); near != "" {
			e.text += ": did you mean " + near + "?"
		} else {
			e.text += ": there are " + strings.Join(names, ", ")
		}
		return nil, e
	}
	return want, nil
}

// armour writes characters that act on a terminal as \u escapes; outside of
// strings JSON holds none.
func armour(b []byte) []byte {
	if !bytes.ContainsFunc(b, hidden) {
		return b
	}
	out := make([]byte, 0, len(b)+16)
	for _, r := range string(b) {
		switch {
		case !hidden(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// when writes a moment for a person: the time of the day, with the date when it
// is not today.
func (c *cli) when(t time.Time) string {
	now := c.now()
	t = t.In(now.Location())
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04")
	}
	return t.Format("2006-01-02 15:04")
}

// age writes how long ago t was, in one unit.
func (c *cli) age(t time.Time) string {
	d := max(c.now().Sub(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// need writes what approvals are needed.
func need(needs []api.Need) string {
	if len(needs) == 0 {
		return "no approval"
	}
	text := ""
	for i, n := range needs {
		switch {
		case i == 0:
		case n.Step != needs[i-1].Step:
			text += ", then "
		default:
			text += " and "
		}
		text += fmt.Sprintf("%d from @%s", n.Count, strings.Join(n.Groups, ", @"))
		if len(n.EscalateTo) > 0 {
			text += fmt.Sprintf(" (or @%s after %s)", strings.Join(n.EscalateTo, ", @"), formatSeconds(n.EscalateAfterSeconds))
		}
	}
	return text
}
