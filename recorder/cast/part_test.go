package cast

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// readPart reads a part to its end and counts the lines that were passed over.
func readPart(t testing.TB, r io.Reader) (events []Event, damaged int) {
	t.Helper()
	for p := NewPart(r); ; {
		e, err := p.Next()
		var d *DamageError
		switch {
		case err == io.EOF:
			return events, damaged
		case errors.As(err, &d) && d.Kind == ErrAltered:
			damaged++
		case err != nil:
			t.Fatal(err)
		default:
			events = append(events, e)
		}
	}
}

// TestPart reads on from each event of a recording and wants what a Reader reads
// from the beginning, at moments since the event before.
func TestPart(t *testing.T) {
	events := session
	for i := range 600 { // several chunks
		events = append(events, Event{ms(1000 + i), Output, []byte(strings.Repeat("x", i))})
	}
	end := sessionEnd
	end.At = ms(2000)
	b := record(t, testHeader, end, events...)
	_, want := read(t, b)
	n := 0
	for from := 0; from < len(b); {
		line := b[from : from+bytes.IndexByte(b[from:], '\n')+1]
		first := line[0] == '[' && !bytes.HasPrefix(b[:from][bytes.LastIndexByte(b[:from-1], '\n')+1:], []byte(lineEvent)) || bytes.HasPrefix(line, []byte(lineEvent))
		if first {
			got, damaged := readPart(t, bytes.NewReader(b[from:]))
			if damaged != 0 || len(got) != len(want)-n {
				t.Fatalf("from event %d: %d events, %d lines passed over, want %d", n, len(got), damaged, len(want)-n)
			}
			before := ms(0)
			if n > 0 {
				before = want[n-1].At
			}
			for i := range got {
				got[i].At += before
			}
			if !reflect.DeepEqual(got, want[n:]) {
				t.Fatalf("from event %d: %v, want %v", n, got[0], want[n])
			}
			n++
		}
		from += len(line)
	}
	if n != len(want) {
		t.Errorf("%d events found, want %d", n, len(want))
	}
}

func TestPartDamaged(t *testing.T) {
	got, damaged := readPart(t, strings.NewReader("[0.5, \"o\", \"a\"]\nrubbish\n# drawbolt event e\n# drawbolt chain 7 sha256=x\n[1.000000, \"o\", \"b\"]\n["+strings.Repeat("x", MaxLine)+"\n[0.500000, \"o\", \"c\"]\n"))
	if damaged != 4 || len(got) != 2 || string(got[1].Data) != "c" {
		t.Errorf("%d passed over, read %v", damaged, got)
	}
	for _, cut := range []string{"[0.500000, \"o\"", "# drawbolt event e\n"} {
		if _, err := NewPart(strings.NewReader(cut)).Next(); err != io.ErrUnexpectedEOF {
			t.Errorf("%q: %v", cut, err)
		}
	}
}
