package cast_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder/cast"
)

// step is one event, some milliseconds after the one before.
type step struct {
	ms   int
	s    cast.Stream
	data string
}

const (
	in  = cast.Input
	out = cast.Output
)

// keys are single keys, each of which echo shows after some milliseconds.
func keys(text, echo string) []step {
	var steps []step
	for i, k := range strings.Split(text, "") {
		steps = append(steps, step{90, in, k})
		switch {
		case echo == "":
		case echo == "=":
			steps = append(steps, step{5, out, k})
		default:
			steps = append(steps, step{5, out, strings.Split(echo, "|")[i]})
		}
	}
	return steps
}

func steps(parts ...any) []step {
	var all []step
	for _, p := range parts {
		switch p := p.(type) {
		case step:
			all = append(all, p)
		case []step:
			all = append(all, p...)
		}
	}
	return all
}

// hide runs a Hider. It returns what stands in the recording of input, in short
// form, what was kept apart, and all events.
func hide(t *testing.T, h cast.Header, steps []step) (shown, kept string, events []cast.Event) {
	t.Helper()
	var b, k strings.Builder
	d := cast.NewHider(h, func(e cast.Event) error {
		switch e.Stream {
		case cast.Input:
			b.Write(e.Data)
		case cast.Hidden:
			fmt.Fprintf(&b, "[%s]", strings.TrimSuffix(string(e.Data), " keys hidden, echo off"))
		}
		e.Data = bytes.Clone(e.Data)
		events = append(events, e)
		return nil
	}, func(_ time.Duration, keys []byte) error {
		fmt.Fprintf(&k, "%s|", keys)
		return nil
	})
	var at time.Duration
	for _, s := range steps {
		at += time.Duration(s.ms) * time.Millisecond
		data := []byte(s.data)
		if err := d.Write(cast.Event{At: at, Stream: s.s, Data: data}); err != nil {
			t.Fatal(err)
		}
		clear(data) // it is the caller's again
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(events, func(a, b cast.Event) int { return int(a.At - b.At) }) {
		t.Error("time runs backwards")
	}
	return b.String(), k.String(), events
}

var terminal = cast.Header{Terminal: "xterm", Width: 80, Height: 24}

func TestHider(t *testing.T) {
	for _, c := range []struct {
		name        string
		h           cast.Header
		steps       []step
		shown, kept string
	}{
		{"a shell echoes", terminal, steps(step{0, out, "$ "}, keys("ls -l", "="), step{90, in, "\r"}, step{5, out, "\r\ntotal 0\r\n$ "}), "ls -l\r", ""},
		{"sudo asks", terminal, steps(step{0, out, "$ "}, keys("sudo id", "="), step{90, in, "\r"}, step{5, out, "\r\n[sudo] password for alice: "},
			keys("hunter2", ""), step{90, in, "\r"}, step{9, out, "\r\nuid=0(root)\r\n$ "}, keys("id", "="), step{50, in, "\r"}), "sudo id\r[7]\rid\r", "hunter2|"},
		{"sudo shows stars", terminal, steps(step{0, out, "Password: "}, keys("abc", "*|*|*"), step{90, in, "\r"}, step{9, out, "\r\n"}), "[3]\r", "abc|"},
		{"a password is pasted", terminal, steps(step{0, out, "Password: "}, step{90, in, "s3cret\r"}, step{9, out, "\r\nok s3cret\r\n"}), "[6]\r", "s3cret|"},
		{"a command is pasted", terminal, steps(step{0, out, "$ "}, step{90, in, "uptime\r"}, step{9, out, "uptime\r\n up 3 days\r\n"}), "uptime\r", ""},
		{"many commands are pasted", terminal, steps(step{0, out, "$ "}, step{90, in, "ab\rcd\ref\r"}, step{9, out, "ab\r\nfile 1\r\n$ cd\r\nfile 2\r\n"},
			step{9, out, "$ ef\r\nfile 3\r\n$ "}), "ab\rcd\ref\r", ""},
		{"a password that does not ask", terminal, steps(step{0, out, "> "}, keys("tiger", ""), step{90, in, "\r"}, step{9, out, "\r\nt i g e r\r\n"}), "[5]\r", "tiger|"},
		{"a password that was mended", terminal, steps(step{0, out, "Password: "}, keys("wrong\x15right\x7f", ""), step{90, in, "\r"}, step{9, out, "\r\n"}), "[10]\x7f\r", "wrong\x15right|"},
		{"a slow password", terminal, steps(step{0, out, "PIN: "}, step{90, in, "1"}, step{5000, in, "2"}, step{5000, in, "\r"}, step{9, out, "\r\n"}), "[1][1]\r", "1|2|"},
		{"output comes while a password is typed", terminal, steps(step{0, out, "Password: "}, keys("hun", ""), step{1, out, "\r\nnothing hungry is done\r\n"}, keys("ter", ""), step{9, in, "\r"}, step{9, out, "\r\n"}), "[6]\r", "hunter|"},
		{"history and completion", terminal, steps(step{0, out, "$ "}, step{90, in, "\x1b[A"}, step{5, out, "cat /etc/ho"}, step{90, in, "s"}, step{5, out, "s"}, step{90, in, "\t"}, step{5, out, "ts"}, step{90, in, "\r"}, step{5, out, "\r\n"}), "\x1b[As\t\r", ""},
		{"an editor", terminal, steps(step{0, out, "\x1b[?1049h\x1b[H~"}, keys("jj", "\x1b[2;1H2,1|\x1b[3;1H3,1"), keys("ihi", "-- INSERT --|h|i"), step{9, in, "\x1b"}, keys(":q", "="), step{9, in, "\r"}, step{9, out, "\x1b[?1049l\r\n"}), "jjihi\x1b:q\r", ""},
		{"a password in a window of a multiplexer", terminal, steps(step{0, out, "\x1b[?1049h\x1b[H$ su\r\n"}, keys("abcd", ""), step{9, in, "\r"}, step{9, out, "\r\n# "}), "[4]\r", "abcd|"},
		{"a password asked for in it, under a clock", terminal, steps(step{0, out, "\x1b[?1049h\x1b[H$ su\r\nPassword: "}, keys("ab", ""), step{9, out, "\x1b[24;1H12:00"}, keys("cd", ""), step{9, in, "\r"}, step{9, out, "\r\n# "}), "[4]\r", "abcd|"},
		{"umlauts", terminal, steps(step{0, out, "Kennwort: "}, step{9, in, "gr\xc3"}, step{9, in, "\xbcn\r"}, step{9, out, "\r\n"}), "[4]\r", "grün|"},
		{"not UTF-8", terminal, steps(step{0, out, "Password: "}, step{9, in, "\xe9a\r"}, step{9, out, "\r\n"}), "[2]\r", "\xe9a|"},
		{"the end comes first", terminal, steps(step{0, out, "Password: "}, keys("abc", "")), "[3]", "abc|"},
		{"application keys", terminal, steps(step{0, out, "$ "}, step{9, in, "\x1bOA"}, step{9, out, "ls"}, step{9, in, "\r"}, step{9, out, "\r\n"}), "\x1bOA\r", ""},

		{"data without a terminal", cast.Header{}, steps(step{0, in, "select 1;\n"}, step{9, out, "1\n"}), "select 1;\n", ""},
		{"asked for without a terminal", cast.Header{}, steps(step{0, cast.Stderr, "[sudo via ansible, key=x] password:"}, step{9, in, "hunter2\n"}, step{9, out, "BECOME-SUCCESS\n"}, step{9, in, "import os\n"}), "[7]\nimport os\n", "hunter2|"},
		{"sudo -S is given it first", cast.Header{Command: "sudo -p x -S bash -s"}, steps(step{0, in, "hunter2\nid\n"}, step{9, out, "uid=0\n"}), "[7]\nid\n", "hunter2|"},
		{"chpasswd", cast.Header{Command: "chpasswd"}, steps(step{0, in, "root:a\nbob:b\n"}), "[6]\n[5]\n", "root:a|bob:b|"},
	} {
		t.Run(c.name, func(t *testing.T) {
			shown, kept, events := hide(t, c.h, c.steps)
			if shown != c.shown || kept != c.kept {
				t.Errorf("shown %q, want %q; kept %q, want %q", shown, c.shown, kept, c.kept)
			}
			// All else passes as it came.
			var want, got strings.Builder
			for _, s := range c.steps {
				if s.s != in {
					want.WriteString(s.data)
				}
			}
			for _, e := range events {
				if e.Stream != cast.Input && e.Stream != cast.Hidden {
					got.Write(e.Data)
				}
			}
			if got.String() != want.String() {
				t.Errorf("output %q, want %q", got.String(), want.String())
			}
		})
	}
}

// What is typed and neither shown nor kept would be lost.
func FuzzHider(f *testing.F) {
	f.Add([]byte("\x00\x05hello\x01\x05hello\x00\x01\r"), true)
	f.Add([]byte("\x01\x0aPassword: \x00\x04abcd\x00\x01\r\x01\x02\r\n"), true)
	f.Add([]byte("\x02\x09password:\x00\x04abc\n"), false)
	f.Add([]byte("\x01\x08\x1b[?1049h\x00\x03\xe9\x1bO\x00\x02\xff\xc3\x80\x03abc"), true)
	f.Fuzz(func(t *testing.T, script []byte, tty bool) {
		h := cast.Header{}
		if tty {
			h = terminal
		}
		var at time.Duration
		var typed, got, output, seen []byte
		write := func(e cast.Event) error {
			switch e.Stream {
			case cast.Input:
				got = append(got, e.Data...)
			case cast.Hidden:
			default:
				seen = append(seen, e.Data...)
			}
			return nil
		}
		d := cast.NewHider(h, write, func(_ time.Duration, keys []byte) error {
			got = append(got, keys...)
			return nil
		})
		for len(script) >= 2 {
			kind, n := script[0], min(int(script[1]&0x7f), len(script)-2)
			data := script[2 : 2+n]
			at += time.Duration(kind>>2) * 40 * time.Millisecond
			s := []cast.Stream{cast.Input, cast.Output, cast.Stderr, cast.Mark}[kind&3]
			if s == cast.Input {
				typed = append(typed, data...)
			} else {
				output = append(output, data...)
			}
			if err := d.Write(cast.Event{At: at, Stream: s, Data: data}); err != nil {
				t.Fatal(err)
			}
			script = script[2+n:]
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, typed) {
			t.Errorf("typed %q, written and kept %q", typed, got)
		}
		if !bytes.Equal(seen, output) {
			t.Errorf("output %q, written %q", output, seen)
		}
	})
}
