package rsyncwire

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// A half is one direction of a conversation, as it is read and passed on.
type half struct {
	r      *Reader
	passed bytes.Buffer
	told   []string
	xattrs bool
}

func newHalf(src io.Reader) *half { return speaks(src, 29) }

func speaks(src io.Reader, version int) *half {
	return &half{r: NewReader(src, version, func() error { return nil })}
}

func (h *half) pass() {
	h.passed.Write(h.r.Taken())
	h.r.Reset()
}

func (h *half) tell(format string, args ...any) {
	h.told = append(h.told, fmt.Sprintf(format, args...))
}

// filters reads filter rules.
func (h *half) filters() error {
	for {
		rule, err := h.r.Rule()
		if err != nil {
			return err
		}
		h.pass()
		if rule == nil {
			return nil
		}
		h.tell("rule %q %v", rule, ReadsFiles(rule))
	}
}

// sends reads what a sending side says.
func (h *half) sends(o Options, deflate, dry bool) ([]*Entry, error) {
	l := NewList(h.r, o)
	var list []*Entry
	for {
		e, err := l.Next()
		if err != nil {
			return nil, err
		}
		if e == nil {
			break
		}
		list = append(list, e)
		h.pass()
	}
	if err := l.Tail(); err != nil {
		return nil, err
	}
	h.pass()
	Sort(list)
	c := NewContent(h.r, deflate, checksumLength)
	for phase := 0; phase < Phases; {
		it, err := h.r.Item(func() int { return len(list) })
		if err == nil && o.Xattrs && !dry && it.About() && it.Attributes(true) {
			var size int64
			if size, err = h.r.Values(); size > 0 {
				h.tell("values %d", size)
			}
		}
		if err != nil {
			return list, err
		}
		if it.Index == Done {
			phase++
		}
		if !it.Transfers() || dry {
			h.pass()
			continue
		}
		if err := h.r.NoBlocks(); err != nil {
			return list, err
		}
		h.pass()
		if err := c.Begin(); err != nil {
			return list, err
		}
		var text []byte
		for err == nil {
			var file, stream []byte
			file, stream, err = c.Next()
			text = append(text, file...)
			h.passed.Write(stream)
		}
		if err != io.EOF {
			return list, err
		}
		h.r.Reset()
		h.tell("%s %q", list[it.Index].Name, text)
	}
	return list, nil
}

// receives reads what a receiving side says of so many files.
func (h *half) receives(n int, dry bool) error {
	for {
		it, err := h.r.Item(func() int { return n })
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if it.Index == Done {
			h.tell("done")
			h.pass()
			continue
		}
		if h.xattrs && it.About() && it.Attributes(true) {
			some, err := h.r.Wants()
			if err != nil {
				return err
			}
			if some {
				h.tell("want %d", it.Index)
			}
		}
		if it.Transfers() {
			h.tell("ask %d", it.Index)
			if !dry {
				if err := h.r.Blocks(true); err != nil {
					return err
				}
			}
		}
		h.pass()
	}
}

func names(list []*Entry) (names []string) {
	for _, e := range list {
		text := e.Name
		switch {
		case e.IsDir():
			text += "/"
		case e.IsLink():
			text += "@" + e.Link
		case !e.IsRegular():
			text += "|"
		}
		if e.Hard {
			text += "+"
		}
		names = append(names, text)
	}
	return names
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T { t.Helper(); check(t, err); return v }
}

// What rsync 3.5.0 said with --protocol=29 is understood, byte by byte or at once,
// and what is passed on is what came, but for the blocks.
func TestCaptured(t *testing.T) {
	all := Options{Owners: true, Groups: true, Devices: true, Links: true}
	hard := all
	hard.HardLinks = true
	sums := hard
	sums.Checksums, sums.Checksum = true, checksumLength
	relative := all
	relative.Relative, relative.NumericIDs = true, true
	const whole = `a "one",empty "",zz "zz",b.d/x "dots",b/hard "one",b/c/deep "deep deep deep deep"`
	for name, c := range map[string]struct {
		o              Options
		filters        bool
		deflated, dry  bool
		names          string
		sent, received string
	}{
		"a-up":          {o: all, names: "./ a empty fifo| link@b/c zz b.d/ b.d/x b/ b/hard b/c/ b/c/deep", sent: whole, received: "ask 1,ask 2,ask 5,ask 7,ask 9,ask 11,done,done,done,done"},
		"aHz-delete-up": {o: hard, filters: true, deflated: true, names: "./ a+ empty fifo| link@b/c zz b.d/ b.d/x b/ b/hard+ b/c/ b/c/deep", sent: `zz "zz"`, received: "ask 5,done,done,done,done"},
		"an-up":         {o: all, filters: true, dry: true, names: "./ a empty fifo| link@b/c zz b.d/ b.d/x b/ b/hard b/c/ b/c/deep", received: "ask 1,ask 2,ask 5,ask 7,ask 9,ask 11,done,done,done,done"},
		"aHcz-down":     {o: sums, filters: true, deflated: true, names: "./ a+ empty link@b/c zz b.d/ b.d/x b/ b/hard+ b/c/ b/c/deep", sent: `empty "",zz "zz",b.d/x "dots",b/hard "one",b/c/deep "deep deep deep deep"`, received: `rule "- fifo" false,ask 2,ask 4,ask 6,ask 8,ask 10,done,done,done,done`},
		"r-down":        {o: Options{}, filters: true, names: "./ a empty fifo| link@ zz b.d/ b.d/x b/ b/hard b/c/ b/c/deep", sent: whole, received: "ask 1,ask 2,ask 5,ask 7,ask 9,ask 11,done,done,done,done"},
		"R-down":        {o: relative, filters: true, names: "src/ src/b/ src/b/hard src/b/c/ src/b/c/deep", sent: `src/b/hard "one",src/b/c/deep "deep deep deep deep"`, received: "ask 2,ask 4,done,done,done,done"},
	} {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprint(name, slow), func(t *testing.T) {
				up := must(os.ReadFile(filepath.Join("testdata", name+".up")))(t)
				down := must(os.ReadFile(filepath.Join("testdata", name+".down")))(t)
				must(ParseVersion([4]byte(up)))(t)
				must(ParseVersion([4]byte(down)))(t)
				reader := func(b []byte) io.Reader {
					if slow {
						return iotest.OneByteReader(bytes.NewReader(b))
					}
					return bytes.NewReader(b)
				}
				var plain []byte // of what the server sends
				var deleted []string
				collect := NewDemux(bytes.NewReader(down[8:]), 29, func(k Kind, text []byte) error {
					if k == Deleted {
						deleted = append(deleted, strings.TrimRight(string(text), "\x00"))
					}
					return nil
				})
				plain = must(io.ReadAll(collect))(t)
				user, server := newHalf(reader(up[4:])), newHalf(NewDemux(reader(down[8:]), 29, func(Kind, []byte) error { return nil }))
				if c.filters {
					check(t, user.filters())
				}
				sender, receiver, sent := user, server, up[4:]
				if strings.HasSuffix(name, "-down") {
					sender, receiver, sent = server, user, plain
				}
				list, err := sender.sends(c.o, c.deflated, c.dry)
				check(t, err)
				check(t, receiver.receives(len(list), c.dry))
				if sender == server {
					check(t, sender.r.Stats())
					sender.pass()
				}
				if _, err := sender.r.Item(func() int { return 0 }); err != io.EOF {
					t.Errorf("more after the end: %v", err)
				}
				if got := strings.Join(names(list), " "); got != c.names {
					t.Errorf("names: %s, want %s", got, c.names)
				}
				if got := strings.Join(sender.told, ","); got != c.sent {
					t.Errorf("sent: %s", got)
				}
				if got := strings.Join(receiver.told, ","); got != c.received {
					t.Errorf("received: %s", got)
				}
				if !bytes.Equal(sender.passed.Bytes(), sent) {
					t.Error("what the sender said was changed")
				}
				if name == "aHz-delete-up" && !slices.Equal(deleted, []string{"old/f", "old"}) {
					t.Errorf("deleted: %q", deleted)
				}
			})
		}
	}
}

// What a receiving side says of the blocks that it has does not pass; its wishes do.
func TestBlocks(t *testing.T) {
	b := must(os.ReadFile("testdata/blocks.up"))(t)[4:]
	h := newHalf(bytes.NewReader(b))
	check(t, h.filters())
	check(t, h.receives(12, false))
	again := newHalf(bytes.NewReader(h.passed.Bytes()))
	check(t, again.filters())
	check(t, again.receives(12, false))
	if !slices.Equal(h.told, again.told) || h.passed.Len() >= len(b) || !bytes.Equal(h.passed.Bytes(), again.passed.Bytes()) {
		t.Errorf("%d bytes of %d pass: %q, %q", h.passed.Len(), len(b), h.told, again.told)
	}
}

// Rules that let the side that gets them read files are known as such.
func TestReadsFiles(t *testing.T) {
	for _, rule := range []string{"- *.o", "+ */", "!", "P x", "R x", "H x", "S x", "-/ /x", "-! x", "-s x", "-r x", "-p x", "-,s x", "-_x", "- : x"} {
		if ReadsFiles([]byte(rule)) {
			t.Errorf("%q is said to read files", rule)
		}
	}
	for _, rule := range []string{"", ". x", ": x", ":C", "-C", "merge x", "dir-merge x", "-", "-x", "exclude x", "clear", "! ", "-e x", "-n x", "-w x", " x", "-\tx", "#"} {
		if !ReadsFiles([]byte(rule)) {
			t.Errorf("%q is said to read none", rule)
		}
	}
}

// A file passes as it came, and one that is compressed never before what it stands
// for was seen.
func TestContent(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), 30000)
	for i := range text {
		text[i] ^= byte(i * i >> 7)
	}
	for name, text := range map[string][]byte{"mixed": text, "of one kind": make([]byte, 1<<20), "small": []byte("x"), "empty": nil} {
		for _, deflated := range []bool{false, true} {
			t.Run(fmt.Sprint(name, deflated), func(t *testing.T) {
				stream := wire(text, deflated)
				stream = append(stream, stream...) // two files
				h := newHalf(bytes.NewReader(stream))
				c := NewContent(h.r, deflated, checksumLength)
				for range 2 {
					check(t, c.Begin())
					var got []byte
					var err error
					from := h.passed.Len()
					for err == nil {
						var file, passed []byte
						file, passed, err = c.Next()
						got = append(got, file...)
						h.passed.Write(passed)
						if deflated && err == nil {
							early(t, h.passed.Bytes()[from:], len(got))
						}
					}
					h.r.Reset()
					if err != io.EOF || !bytes.Equal(got, text) {
						t.Fatalf("%v, %d bytes of %d", err, len(got), len(text))
					}
				}
				if !bytes.Equal(h.passed.Bytes(), stream) {
					t.Error("what passed is another")
				}
			})
		}
	}
}

// early fails when a decoder gets more from what passed than was seen.
func early(t *testing.T, passed []byte, seen int) {
	t.Helper()
	var z []byte
	for len(passed) > 2 {
		n := int(passed[0]&^flagMask)<<8 | int(passed[1])
		z = append(z, passed[2:min(2+n, len(passed))]...)
		passed = passed[min(2+n, len(passed)):]
	}
	got, _ := io.ReadAll(flate.NewReader(bytes.NewReader(append(z, 0, 0, 0xff, 0xff))))
	if len(got) > seen+300 { // the bytes behind z may be read as a copy
		t.Errorf("%d bytes could be read when %d were seen", len(got), seen)
	}
}

// wire writes a file as rsync does.
func wire(text []byte, deflated bool) (b []byte) {
	if !deflated {
		for len(text) > 0 {
			n := min(len(text), 32<<10)
			b = append(append(b, byte(n), byte(n>>8), byte(n>>16), 0), text[:n]...)
			text = text[n:]
		}
		return append(b, make([]byte, 4+checksumLength)...)
	}
	var z bytes.Buffer
	w, _ := flate.NewWriter(&z, 6)
	w.Write(text)
	w.Flush()
	z.Truncate(z.Len() - 4)
	if len(text) == 0 {
		z.Reset()
	}
	for p := z.Bytes(); len(p) > 0; {
		n := min(len(p), 1<<14-1)
		b = append(append(b, deflatedFlag|byte(n>>8), byte(n)), p[:n]...)
		p = p[n:]
	}
	return append(b, make([]byte, 1+checksumLength)...)
}

// Nothing is allocated for a part of a file.
func TestContentAllocates(t *testing.T) {
	h := newHalf(bytes.NewReader(wire(make([]byte, 8<<20), false)))
	c := NewContent(h.r, false, checksumLength)
	check(t, c.Begin())
	next := func() {
		if _, _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
	}
	next() // buffers grow
	next()
	if n := testing.AllocsPerRun(100, next); n > 0 {
		t.Errorf("%v allocations for a part", n)
	}
}

// FuzzSends: what a sending side says passes as it came, up to where it is not
// understood, and the list is in an order in which each entry has one place.
func FuzzSends(f *testing.F) {
	for _, name := range []string{"a-up.up", "aHz-delete-up.up", "an-up.up"} {
		b := must(os.ReadFile(filepath.Join("testdata", name)))(f)[4:]
		f.Add(b, uint16(0x0f), false)
		f.Add(b[min(4, len(b)):], uint16(0x1f), true)
	}
	f.Add(append([]byte{0x41, 1, 0, 0, 0, 'x', 1, 0, 0, 0, 0, 0, 0, 0, 0xa4, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80}, wire([]byte("x"), true)...), uint16(0), true)
	f.Fuzz(func(t *testing.T, b []byte, bits uint16, deflated bool) {
		on := func(i int) bool { return bits>>i&1 != 0 }
		o := Options{Owners: on(0), Groups: on(1), Devices: on(2), Links: on(3), HardLinks: on(4), Checksums: on(5), Checksum: checksumLength, NumericIDs: on(6), Relative: on(7)}
		h := newHalf(bytes.NewReader(b))
		list, err := h.sends(o, deflated, on(8))
		if err != nil && !errors.Is(err, ErrStream) && err != io.EOF && err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, h.passed.Bytes()) {
			t.Error("what passed is not what came")
		}
		for i, e := range list {
			if strings.HasPrefix(e.Name, "/") || slices.Contains(strings.Split(e.Name, "/"), "..") || strings.Contains(e.Name, "\x00") || len(e.Name) > MaxPath {
				t.Errorf("the name %q", e.Name)
			}
			if i > 0 && (Compare(list[i-1], e) > 0 || Compare(e, list[i-1]) < 0) {
				t.Errorf("%q stands before %q", list[i-1].Name, e.Name)
			}
			if i > 0 && Compare(list[i-1], e) == 0 && list[i-1].Name != e.Name {
				t.Errorf("%q and %q have one place", list[i-1].Name, e.Name)
			}
		}
	})
}

// FuzzReceives: what a receiving side says passes without its blocks, and then
// reads as the same.
func FuzzReceives(f *testing.F) {
	for _, name := range []string{"blocks.up", "r-down.up", "aHcz-down.up", "R-down.up"} {
		f.Add(must(os.ReadFile(filepath.Join("testdata", name)))(f)[4:], 12)
	}
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		n = max(0, min(n, 1000))
		read := func(b []byte) (*half, error) {
			h := newHalf(bytes.NewReader(b))
			if err := h.filters(); err != nil {
				return h, err
			}
			return h, h.receives(n, false)
		}
		h, err := read(b)
		if err != nil && !errors.Is(err, ErrStream) && err != io.EOF && err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		again, err2 := read(h.passed.Bytes())
		if err == nil && err2 != nil || err == nil && !slices.Equal(h.told, again.told) || !bytes.Equal(h.passed.Bytes(), again.passed.Bytes()) {
			t.Errorf("%q and then %q, %v", h.told, again.told, err2)
		}
	})
}

// FuzzDemux: the data and the messages of a server are what it sent.
func FuzzDemux(f *testing.F) {
	for _, name := range []string{"a-up.down", "aHz-delete-up.down", "r-down.down"} {
		f.Add(must(os.ReadFile(filepath.Join("testdata", name)))(f)[8:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var messages, sent []byte
		d := NewDemux(bytes.NewReader(b), 29, func(k Kind, text []byte) error {
			if len(text) > MaxMessage || !k.IsText() && k != Deleted && k != Alive {
				t.Errorf("a message of kind %d with %d bytes", k, len(text))
			}
			messages = append(messages, text...)
			return nil
		})
		got, err := io.ReadAll(d)
		var wantData, wantText []byte
		for rest := b; len(rest) >= HeaderLength; {
			n := int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16
			k := Kind(rest[3] - muxBase)
			rest = rest[HeaderLength:]
			if len(rest) < n && k != Alive {
				break
			}
			part := rest[:min(n, len(rest))]
			if rest = rest[len(part):]; k == Alive {
				wantData = append(wantData, part...)
			} else {
				wantText = append(wantText, part...)
			}
			sent = append(sent, part...)
		}
		if !bytes.HasPrefix(wantData, got) || !bytes.HasPrefix(wantText, messages) {
			t.Errorf("%q and %q are not what was sent", got, messages)
		}
		if err == nil && len(got)+len(messages) != len(sent) {
			t.Errorf("%d of %d bytes", len(got)+len(messages), len(sent))
		}
	})
}

// A list that does not end is an error before it fills the memory, and so is
// everything else of which a side says how much it is.
func TestLimits(t *testing.T) {
	entry := func(name string) []byte {
		b := append([]byte{longName, byte(len(name)), byte(len(name) >> 8), 0, 0}, name...)
		return append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0xa4, 0x81, 0, 0)
	}
	list := func(b []byte, n int) error {
		r := NewReader(bytes.NewReader(bytes.Repeat(b, n)), 29, func() error { return nil })
		for l := NewList(r, Options{}); ; r.Reset() {
			if e, err := l.Next(); err != nil || e == nil {
				return err
			}
		}
	}
	reader := func(b ...byte) *Reader { return NewReader(bytes.NewReader(b), 29, func() error { return nil }) }
	for name, err := range map[string]error{
		"files":           list(entry("x"), MaxEntries+1),
		"bytes of names":  list(entry(strings.Repeat("x", MaxPath)), MaxNames/MaxPath+1),
		"a name":          list(entry(strings.Repeat("x", MaxPath+1)), 1),
		"a rule":          func() error { _, err := reader(1, 0x20, 0, 0).Rule(); return err }(),
		"a negative rule": func() error { _, err := reader(0xff, 0xff, 0xff, 0xff).Rule(); return err }(),
		"blocks":          reader(1, 0, 0, 4, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0).Blocks(true),
		"negative blocks": reader(0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0).Blocks(true),
		"sums":            reader(1, 0, 0, 0, 8, 0, 0, 0, maxChecksum+1, 0, 0, 0, 0, 0, 0, 0).Blocks(true),
		"the last block":  reader(1, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0).Blocks(true),
		"users":           NewList(reader(bytes.Repeat([]byte{1, 0, 0, 0, 0}, maxIDs+1)...), Options{Owners: true}).Tail(),
	} {
		if !errors.Is(err, ErrStream) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := list(entry("x"), 1000); err != io.EOF {
		t.Errorf("a list within the limits: %v", err)
	}
}
