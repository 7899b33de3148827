package rsyncwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// parts gives the data that stand in messages.
func parts(t testing.TB, b []byte) []byte {
	t.Helper()
	return must(io.ReadAll(NewDemux(bytes.NewReader(b), Version, func(Kind, []byte) error { return nil })))(t)
}

// What rsync 3.5.0 said with -aHAX --protocol=31 and without lists in parts is
// understood, byte by byte or at once, and what is passed on is what came.
func TestCaptured31(t *testing.T) {
	o := Options{Owners: true, Groups: true, Devices: true, Links: true, HardLinks: true, ACLs: true, Xattrs: true}
	for _, name := range []string{"aHAX-up", "aHAX-down"} {
		up := must(os.ReadFile(filepath.Join("testdata", name+".up")))(t)
		down := must(os.ReadFile(filepath.Join("testdata", name+".down")))(t)
		for _, b := range [][]byte{up, down} {
			if v, err := ParseVersion([4]byte(b)); err != nil || v != 31 {
				t.Errorf("version %d, %v", v, err)
			}
		}
		if traits, err := ParseTraits(down[4]); err != nil || !traits.Whole(31) {
			t.Errorf("traits %#x, %v", traits, err)
		}
		for _, slow := range []bool{false, true} {
			half := func(b []byte) *half {
				var src io.Reader = bytes.NewReader(b)
				if slow {
					src = iotest.OneByteReader(src)
				}
				h := speaks(src, 31)
				h.xattrs = true
				return h
			}
			sent, received := parts(t, up[4:]), parts(t, down[9:])
			if name == "aHAX-down" {
				sent, received = received, sent
			}
			sender, receiver := half(sent), half(received)
			list, err := sender.sends(o, false, false)
			check(t, err)
			if name == "aHAX-down" {
				check(t, receiver.filters())
				check(t, sender.r.Stats())
				sender.pass()
			}
			check(t, receiver.receives(len(list), false))
			for range Farewells(31, true) {
				it, err := sender.r.Item(func() int { return 0 })
				if err != nil || it.Index != Done {
					t.Errorf("got %+v, %v", it, err)
				}
				sender.pass()
			}
			if _, err := sender.r.Item(func() int { return 0 }); err != io.EOF {
				t.Errorf("more after the end: %v", err)
			}
			if got := strings.Join(names(list), " "); got != "./ a+ fifo| link@b/x zz b/ b/hard+" {
				t.Errorf("%s: names: %s", name, got)
			}
			if got := strings.Join(sender.told, ","); got != `values 100,zz "zz",b/hard "one"` {
				t.Errorf("%s: sent: %s", name, got)
			}
			if got := strings.Join(receiver.told, ","); got != "want 4,ask 4,ask 6,done,done,done,done,done" {
				t.Errorf("%s: received: %s", name, got)
			}
			if !bytes.Equal(sender.passed.Bytes(), sent) || !bytes.Equal(receiver.passed.Bytes(), received) {
				t.Errorf("%s: what was said was changed", name)
			}
			a, zz, b := list[1], list[4], list[5]
			if a.Attributes != "user.small" || zz.Attributes != "user.long" || zz.AttributeBytes != 100 || !zz.ACL || a.ACL || !b.ACL || list[6].Inode != a.Inode || list[6].Attributes != a.Attributes {
				t.Errorf("%s: %+v, %+v, %+v", name, a, zz, b)
			}
		}
	}
}

// Numbers of each width read as what they were written from.
func TestNumbers(t *testing.T) {
	reader := func(b ...byte) *Reader {
		return NewReader(bytes.NewReader(b), 31, func() error { return nil })
	}
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, 1<<21 - 1, 1 << 21, 1<<28 - 1, 1 << 28, math.MaxInt32} {
		if got, err := reader(appendVarint(nil, n)...).varint(); err != nil || int(got) != n {
			t.Errorf("%d reads as %d, %v", n, got, err)
		}
	}
	for text, want := range map[string]int64{"\x00\x00\x00": 0, "\x00\x39\x30": 12345, "\x01\x39\x30": 77881, "\xc0\x00\x00\x01\x00": 1 << 16, "\xf8\xff\xff\xff\xff\xff\xff\xff": 1<<56 - 1} {
		if got, err := reader([]byte(text)...).varlong(3); err != nil || got != want {
			t.Errorf("%x reads as %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"\xf8", "\xff", "\xfc\x00\x00\x00\x00\x00", "\xf1\x00\x00\x00\x00"} {
		if got, err := reader([]byte(text)...).varint(); !errors.Is(err, ErrStream) {
			t.Errorf("%x reads as %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"\xff\x00\x00", "\xfe\x00\x00", "\xfd\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if got, err := reader([]byte(text)...).varlong(3); !errors.Is(err, ErrStream) {
			t.Errorf("%x reads as %d, %v", text, got, err)
		}
	}
}

// indexes writes numbers of files.
func indexes(list ...int32) []byte {
	r := NewReader(nil, 31, nil)
	for _, n := range list {
		switch {
		case n == Done:
			r.taken = append(r.taken, 0)
		case n < 0:
			r.say(-n, -1)
		default:
			r.say(n, 1)
		}
	}
	return r.taken
}

// Numbers of files are what they were, also when those between did not pass.
func TestIndexes(t *testing.T) {
	said := []int32{0, 1, 5, 300, 299, 40000, 80000, 3, -3, Done, 3, 1 << 29, -3, 7, 261, 514, 0, 0}
	r := NewReader(bytes.NewReader(indexes(said...)), 31, func() error { return nil })
	var passed []byte
	var want []int32
	for i, n := range said {
		if got, err := r.index(); err != nil || got != n {
			t.Fatalf("%d reads as %d, %v", n, got, err)
		}
		if i%3 == 1 {
			r.Drop()
			continue
		}
		passed, want = append(passed, r.Taken()...), append(want, n)
		r.Reset()
	}
	r = NewReader(bytes.NewReader(passed), 31, func() error { return nil })
	for _, n := range want {
		if got, err := r.index(); err != nil || got != n {
			t.Fatalf("%d passed as %d, %v", n, got, err)
		}
	}
	for _, b := range [][]byte{{0xff, 0xfe, 0x80, 0, 0, 0}, {0xff, 0xfe, 0x80, 1, 0, 0}, {0xfe, 0xff, 0xff, 0xff, 0xff, 1, 1}} {
		r := NewReader(bytes.NewReader(b), 31, func() error { return nil })
		n, err := r.index()
		if err == nil {
			n, err = r.index()
		}
		if !errors.Is(err, ErrStream) {
			t.Errorf("%x reads as %d, %v", b, n, err)
		}
	}
}

// An entry31 writes one of a list with -AX, with more flags and what stands behind
// its mode.
func entry31(name string, flags uint16, mode uint32, rest ...byte) []byte {
	flags |= moreFlags
	b := []byte{byte(flags), byte(flags >> 8), byte(len(name))}
	b = append(b, name...)
	b = append(b, 0, 1, 0, 0, 1, 0, 0) // size and time
	if flags&nanosecond != 0 {
		n := rest[0]
		b, rest = append(b, rest[1:1+n]...), rest[1+n:]
	}
	return append(append(b, byte(mode), byte(mode>>8), 0, 0), rest...)
}

// What says how much it is, or which of those before it is, is held to its limits.
func TestLimits31(t *testing.T) {
	o := Options{ACLs: true, Xattrs: true, HardLinks: true}
	file := func(rest ...byte) []byte { return entry31("x", 0, regular, rest...) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	plain := file(0, 0, 0, 0) // an access control list of nothing, no extended attributes
	for name, b := range map[string][]byte{
		"an access control list that is none":     file(1),
		"one before the first":                    file(0xf0, 0xff, 0xff, 0xff, 0xff),
		"one beyond the last":                     join(plain, file(2)),
		"parts of a list that are none":           file(0, 0x20),
		"rights that are none":                    file(0, 1, 8),
		"nobody who is named":                     file(0, aclNames, 0),
		"too many who are named":                  file(0, aclNames, 0x90, 1),
		"fewer than nobody who is named":          file(0, aclNames, 0xf0, 0xff, 0xff, 0xff, 0xff),
		"rights of who is named that are none":    file(0, aclNames, 1, 1, 0x20),
		"a name of who is named":                  file(0, aclNames, 1, 1, 0x11, 4, 'r', 'o', 'o', 't'),
		"extended attributes that are none":       file(0, 0, 1),
		"some before the first":                   file(0, 0, 0xf0, 0xff, 0xff, 0xff, 0xff),
		"some beyond the last":                    join(plain, file(1, 2)),
		"too many":                                file(0, 0, 0, 0x84, 1),
		"fewer than none":                         file(0, 0, 0, 0xf0, 0xff, 0xff, 0xff, 0xff),
		"one without a name":                      file(0, 0, 0, 1, 1, 0, 0),
		"one whose name does not end":             file(0, 0, 0, 1, 2, 0, 'x', 'y'),
		"one with a zero byte in its name":        file(0, 0, 0, 1, 3, 0, 'x', 0, 0),
		"one with a long name":                    file(0, 0, 0, 1, 0x82, 1, 0),
		"one with a name of negative length":      file(0, 0, 0, 1, 0xf0, 0xff, 0xff, 0xff, 0xff, 0),
		"one of negative length":                  file(0, 0, 0, 1, 2, 0xf0, 0xff, 0xff, 0xff, 0xff, 'x', 0),
		"one that is too long":                    file(0, 0, 0, 1, 2, 0xd0, 1, 0, 'x', 0),
		"two that are too long together":          file(append(append([]byte{0, 0, 0, 2, 2, 0xcf, 0xff, 0xff, 'x', 0}, make([]byte, checksumLength)...), 2, 2, 'y', 0, 0, 0)...),
		"nanoseconds beyond a second":             entry31("x", nanosecond, regular, 5, 0xf0, 0, 0xca, 0x9a, 0x3b),
		"negative nanoseconds":                    entry31("x", nanosecond, regular, 5, 0xf0, 0xff, 0xff, 0xff, 0xff),
		"a hard link of itself":                   {moreFlags, hardLinked >> 8, 1, 'x', 0},
		"a hard link of what has none":            join(plain, []byte{moreFlags, hardLinked >> 8, 1, 'y', 0}),
		"a hard link of what is not there yet":    join(plain, []byte{moreFlags, hardLinked >> 8, 1, 'y', 7}),
		"a hard link of what is before the first": join(plain, []byte{moreFlags, hardLinked >> 8, 1, 'y', 0xf0, 0xff, 0xff, 0xff, 0xff}),
		"a folder with hard links":                entry31("x", hardLinked|firstLink, folder),
		"a first one that has no others":          entry31("x", firstLink, regular),
		"a time of access that was not asked for": entry31("x", sameAccess, regular),
		"the name of a user, of lists in parts":   entry31("x", 1<<10, regular),
		"the name of a group, of lists in parts":  entry31("x", 1<<11, regular),
		"a flag of nothing":                       entry31("x", 1<<15, regular),
		"a name of negative length":               {longName, 0xf0, 0xff, 0xff, 0xff, 0xff},
	} {
		l := NewList(NewReader(bytes.NewReader(b), 31, func() error { return nil }), o)
		var err error
		for err == nil {
			_, err = l.Next()
		}
		if !errors.Is(err, ErrStream) {
			t.Errorf("%s: %v", name, err)
		}
	}
	reader := func(b ...byte) *Reader {
		return NewReader(bytes.NewReader(b), 31, func() error { return nil })
	}
	for name, err := range map[string]error{
		"values that are too long":    func() error { _, err := reader(1, 0xd0, 1, 0, 0).Values(); return err }(),
		"values of negative length":   func() error { _, err := reader(1, 0xf0, 0xff, 0xff, 0xff, 0xff).Values(); return err }(),
		"too many values":             func() error { _, err := reader(bytes.Repeat([]byte{1, 0}, maxAttributes+1)...).Values(); return err }(),
		"too many wishes":             func() error { _, err := reader(bytes.Repeat([]byte{1}, maxAttributes+1)...).Wants(); return err }(),
		"traits of lists in parts":    func() error { _, err := ParseTraits(1); return err }(),
		"traits of another width":     func() error { _, err := ParseTraits(0x80); return err }(),
		"a number of no file":         func() error { _, err := reader(9, 0, 0x80).Item(func() int { return 3 }); return err }(),
		"a list that follows":         func() error { _, err := reader(0xff, 1).Item(func() int { return 3 }); return err }(),
		"that the side is there":      func() error { _, err := reader(4, 0, 0x20).Item(func() int { return 3 }); return err }(),
		"a message of another size":   NewDemux(nil, 31, nil).header(Unread, 5),
		"a message of older versions": NewDemux(nil, 29, nil).header(Waiting, 0),
	} {
		if !errors.Is(err, ErrStream) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// header says whether a message is refused.
func (d *Demux) header(k Kind, n int) error {
	b := make([]byte, HeaderLength)
	PutHeader(b, k, n)
	d.src = bytes.NewReader(append(b, make([]byte, n)...))
	d.message = func(Kind, []byte) error { return nil }
	return d.next()
}

// Extended attributes that are hidden do not pass, and those that are shown pass
// as they are, whatever numbers they had.
func TestShowAttributes(t *testing.T) {
	o := Options{Xattrs: true, Hides: true}
	list := func(value string) []byte {
		return append([]byte{0, 1, 2, byte(len(value)), 'x', 0}, value...)
	}
	var b []byte
	for i, rest := range [][]byte{list("secret"), list("one"), {1}, {2}, list("two"), {1}, {3}, {2}, {1}} {
		b = append(b, entry31(fmt.Sprint("f", i), 0, regular, rest...)...)
	}
	shown := []bool{false, true, true, false, false, true, true, true, false}
	l := NewList(NewReader(bytes.NewReader(append(b, 0)), 31, func() error { return nil }), o)
	var passed []byte
	var want []int64
	for _, show := range shown {
		e := must(l.Next())(t)
		l.ShowAttributes(show)
		if !show {
			e.AttributeBytes = 0
		}
		want = append(want, e.AttributeBytes)
		passed = append(passed, l.r.Taken()...)
		l.r.Reset()
		if len(want) == 1 && bytes.Contains(passed, []byte("secret")) {
			t.Error("what is hidden passed")
		}
	}
	l = NewList(NewReader(bytes.NewReader(passed), 31, func() error { return nil }), Options{Xattrs: true})
	for i, n := range want {
		if e := must(l.Next())(t); e.AttributeBytes != n {
			t.Errorf("%d has %d bytes, want %d", i, e.AttributeBytes, n)
		}
	}
	if got, secret := bytes.Count(passed, []byte("one")), bytes.Count(passed, []byte("secret")); got != 1 || secret != 1 {
		t.Errorf("told %d and %d times", got, secret)
	}
}

// FuzzSends31 is FuzzSends for the versions 30 and 31: what passes reads as the same.
func FuzzSends31(f *testing.F) {
	f.Add(parts(f, must(os.ReadFile("testdata/aHAX-up.up"))(f)[4:]), uint16(0xe5f), true, false)
	f.Add(parts(f, must(os.ReadFile("testdata/aHAX-down.down"))(f)[9:]), uint16(0xe5f), true, false)
	f.Fuzz(func(t *testing.T, b []byte, bits uint16, newest, deflated bool) {
		on := func(i int) bool { return bits>>i&1 != 0 }
		o := Options{Owners: on(0), Groups: on(1), Devices: on(2), Links: on(3), HardLinks: on(4), Checksums: on(5), Checksum: checksumLength, NumericIDs: on(7), Relative: on(8),
			ACLs: on(6), Xattrs: on(9), AccessTimes: on(10)}
		version := 30
		if newest {
			version = 31
		}
		read := func(b []byte) (*half, []*Entry, error) {
			h := speaks(bytes.NewReader(b), version)
			list, err := h.sends(o, deflated, on(12))
			return h, list, err
		}
		h, list, err := read(b)
		if err != nil && !errors.Is(err, ErrStream) && err != io.EOF && err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		again, same, err2 := read(h.passed.Bytes())
		if err == nil && (err2 != nil || !slices.Equal(h.told, again.told) || !slices.Equal(names(list), names(same)) || !bytes.Equal(h.passed.Bytes(), again.passed.Bytes())) {
			t.Errorf("%q and then %q, %v", h.told, again.told, err2)
		}
		for _, e := range list {
			if strings.HasPrefix(e.Name, "/") || slices.Contains(strings.Split(e.Name, "/"), "..") || e.Size < 0 || e.AttributeBytes < 0 || e.AttributeBytes > MaxAttributes {
				t.Errorf("got %+v", e)
			}
		}
	})
}

// FuzzReceives31 is FuzzReceives for version 31.
func FuzzReceives31(f *testing.F) {
	f.Add(parts(f, must(os.ReadFile("testdata/aHAX-up.down"))(f)[9:]), 7, true)
	f.Add(parts(f, must(os.ReadFile("testdata/aHAX-down.up"))(f)[4:])[4:], 7, true)
	f.Fuzz(func(t *testing.T, b []byte, n int, xattrs bool) {
		n = max(0, min(n, 1000))
		read := func(b []byte) (*half, error) {
			h := speaks(bytes.NewReader(b), 31)
			h.xattrs = xattrs
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
