package sftpwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

var attrs = []byte{0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x81, 0xa4}

func requests() []Request {
	return []Request{
		{Type: Open, ID: 1, Path: "/srv/x", Flags: FlagRead | FlagExcl, Attrs: attrs, Size: 256, Sized: true},
		{Type: Close, ID: 2, Handle: "h"}, {Type: FStat, ID: 2, Handle: "h"}, {Type: ReadDir, ID: 2, Handle: "h"},
		{Type: Read, ID: 3, Handle: "h", Offset: 1 << 40, Length: 7},
		{Type: Write, ID: 4, Handle: "h", Offset: 9, Data: []byte("content")},
		{Type: LStat, ID: 5, Path: "a"}, {Type: OpenDir, ID: 5, Path: "a"}, {Type: Remove, ID: 5, Path: "a"}, {Type: RmDir, ID: 5, Path: "a"},
		{Type: RealPath, ID: 5, Path: "."}, {Type: Stat, ID: 5, Path: ""}, {Type: ReadLink, ID: 5, Path: "a"},
		{Type: SetStat, ID: 6, Path: "a", Attrs: attrs, Size: 256, Sized: true}, {Type: MkDir, ID: 6, Path: "a", Attrs: []byte{0, 0, 0, 4, 0, 0, 0x81, 0xa4}},
		{Type: FSetStat, ID: 7, Handle: "h", Attrs: attrs, Size: 256, Sized: true},
		{Type: Rename, ID: 8, Path: "a", To: "b"}, {Type: SymLink, ID: 8, Path: "a", To: "b"},
		{Type: Extended, ID: 9, Extension: PosixRename, Path: "a", To: "b"}, {Type: Extended, ID: 9, Extension: HardLink, Path: "a", To: "b"},
		{Type: Extended, ID: 9, Extension: StatVFS, Path: "a"}, {Type: Extended, ID: 9, Extension: ExpandPath, Path: "~"}, {Type: Extended, ID: 9, Extension: HomeDirectory, Path: "u"},
		{Type: Extended, ID: 9, Extension: FStatVFS, Handle: "h"}, {Type: Extended, ID: 9, Extension: FSync, Handle: "h"},
		{Type: Extended, ID: 9, Extension: LSetStat, Path: "a", Attrs: attrs, Size: 256, Sized: true},
		{Type: Extended, ID: 9, Extension: LimitsOf}, {Type: Extended, ID: 9, Extension: UsersGroups, Users: []byte{0, 0, 0, 1}, Groups: []byte{}},
	}
}

func replies() []Reply {
	name := append(appendString(appendString([]byte{0, 0, 0, 1}, "file"), "-rw file"), attrs...)
	return []Reply{
		{Type: Status, ID: 1, Code: PermissionDenied, Message: "no", Language: "en"},
		{Type: Handle, ID: 2, Handle: "h"}, {Type: Data, ID: 3, Data: []byte("content")},
		{Type: ExtendedReply, ID: 4, Data: []byte{1, 2, 3}},
		{Type: Name, ID: 5, Rest: name}, {Type: Attrs, ID: 6, Rest: attrs},
	}
}

// Each packet reads back as it was written, however it is cut on the way, and
// none is taken that is a byte shorter or longer than its fields.
func TestRoundTrip(t *testing.T) {
	var stream []byte
	var packets [][]byte
	for _, r := range requests() {
		if !r.Known() {
			t.Errorf("%v is not known", r)
		}
		packets = append(packets, r.Append(nil))
	}
	n := len(packets)
	for _, r := range replies() {
		packets = append(packets, r.Append(nil))
	}
	for _, p := range packets {
		stream = append(stream, p...)
	}
	r := NewReader(iotest.OneByteReader(bytes.NewReader(stream)))
	for i, want := range packets {
		got, err := r.Next()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("packet %d: got %x, %v, want %x", i, got, err, want)
		}
		again := func(p []byte) ([]byte, error) {
			if i < n {
				q, err := ParseRequest(p)
				return q.Append(nil), err
			}
			q, err := ParseReply(p)
			return q.Append(nil), err
		}
		if back, err := again(got); err != nil || !bytes.Equal(back, want) {
			t.Errorf("packet %d: read back as %x, %v, want %x", i, back, err, want)
		}
		if i >= n && TypeOf(want) == ExtendedReply {
			continue // has no fields
		}
		for _, other := range [][]byte{want[:len(want)-1], append(bytes.Clone(want), 0)} {
			if _, err := again(other); !errors.Is(err, ErrPacket) {
				t.Errorf("packet %d with %d bytes instead of %d: %v", i, len(other), len(want), err)
			}
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for cut := 1; cut < len(packets[0]); cut++ {
		if _, err := NewReader(bytes.NewReader(packets[0][:cut])).Next(); err != io.ErrUnexpectedEOF {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, length := range map[string]uint32{"nothing": 0, "one too many": MaxPacket + 1, "huge": 1<<32 - 1} {
		head := binary.BigEndian.AppendUint32(nil, length)
		if _, err := NewReader(io.MultiReader(bytes.NewReader(head), strings.NewReader("xxxx"))).Next(); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, r := range map[string]Request{
		"a long path":           {Type: Stat, Path: strings.Repeat("x", MaxPath+1)},
		"a NUL in a path":       {Type: Stat, Path: "/srv/x\x00/../../etc"},
		"a long handle":         {Type: Close, Handle: strings.Repeat("x", MaxHandle+1)},
		"an open with a flag":   {Type: Open, Path: "x", Flags: 64, Attrs: []byte{0, 0, 0, 0}},
		"attributes with a bit": {Type: SetStat, Path: "x", Attrs: []byte{0, 0, 0, 16}},
		"an unknown type":       {Type: 21, Path: "x"},
		"a reply":               {Type: Status},
	} {
		if _, err := ParseRequest(r.Append(nil)); !errors.Is(err, ErrPacket) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r, err := ParseRequest(Request{Type: Extended, Extension: "made-up@example.com", Path: "x"}.Append(nil)); err != nil || r.Known() || r.Extension != "made-up@example.com" {
		t.Errorf("an unknown extension: %+v, %v", r, err)
	}
	if _, err := ParseReply(Request{Type: Stat, Path: "x"}.Append(nil)); !errors.Is(err, ErrPacket) {
		t.Errorf("a request as a reply: %v", err)
	}
	if _, err := ParseReply([]byte{0, 0, 0, 9, byte(Name), 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}); !errors.Is(err, ErrPacket) {
		t.Errorf("names that are not there: %v", err)
	}
}

func TestHello(t *testing.T) {
	h := Hello{Type: VersionIs, Version: 3, Extensions: []Extension{{PosixRename, "1"}, {LimitsOf, "1"}}}
	p := h.Append(nil)
	if got, err := ParseHello(p, VersionIs); err != nil || len(got.Extensions) != 2 || got.Extensions[0] != h.Extensions[0] || got.Version != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := ParseHello(p, Init); !errors.Is(err, ErrPacket) {
		t.Errorf("a version for an init: %v", err)
	}
	for range maxExtended {
		h.Extensions = append(h.Extensions, Extension{"x", ""})
	}
	if _, err := ParseHello(h.Append(nil), VersionIs); !errors.Is(err, ErrPacket) {
		t.Errorf("too many extensions: %v", err)
	}
}

// FuzzPacket: whatever is taken is written again as the same bytes, so that
// nobody behind can read something else out of it.
func FuzzPacket(f *testing.F) {
	for _, r := range requests() {
		f.Add(r.Append(nil))
	}
	for _, r := range replies() {
		f.Add(r.Append(nil))
	}
	f.Add(Hello{Type: Init, Version: 3}.Append(nil))
	f.Add(Hello{Type: VersionIs, Version: 3, Extensions: []Extension{{FSync, "1"}}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := NewReader(bytes.NewReader(b)).Next()
		if err != nil {
			return
		}
		if r, err := ParseRequest(p); err == nil && r.Known() && !bytes.Equal(r.Append(nil), p) {
			t.Errorf("request %x is written as %x", p, r.Append(nil))
		}
		if r, err := ParseReply(p); err == nil && !bytes.Equal(r.Append(nil), p) {
			t.Errorf("reply %x is written as %x", p, r.Append(nil))
		}
		for _, kind := range []Type{Init, VersionIs} {
			if h, err := ParseHello(p, kind); err == nil && !bytes.Equal(h.Append(nil), p) {
				t.Errorf("hello %x is written as %x", p, h.Append(nil))
			}
		}
	})
}
