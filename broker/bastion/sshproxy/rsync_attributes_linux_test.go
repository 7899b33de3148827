package sshproxy

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// nobodyReads is an access control list by which a user who is named may read.
func nobodyReads() string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 6, 1<<32 - 1}, {2, 4, 65534}, {4, 0, 1<<32 - 1}, {0x10, 4, 1<<32 - 1}, {0x20, 0, 1<<32 - 1}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return string(b)
}

func describe(t testing.TB, name, attribute, value string) {
	t.Helper()
	check(t, syscall.Setxattr(name, attribute, []byte(value), 0))
}

// described returns an attribute, or nothing.
func described(name, attribute string) string {
	b := make([]byte, 1<<16)
	n, err := syscall.Getxattr(name, attribute, b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// Extended attributes, short and long, access control lists, and times to the
// nanosecond are carried, up and down, and are on record; the second time none is
// carried.
func TestRsyncAttributes(t *testing.T) {
	x := newShare(t)
	for i, options := range [][]string{{"-aHAX"}, {"-aHAXz", "--delete", "--no-W"}, {"-aAX", "--protocol=30"}} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			src, copied, back := filepath.Join(x.local, fmt.Sprint(i)), filepath.Join(x.both, fmt.Sprint(i)), filepath.Join(x.local, fmt.Sprint("back", i))
			long := strings.Repeat("long", 500)
			write(t, filepath.Join(src, "a"), "one")
			write(t, filepath.Join(src, "b", "two"), "two")
			check(t, os.Link(filepath.Join(src, "a"), filepath.Join(src, "b", "hard")))
			check(t, syscall.Mkfifo(filepath.Join(src, "fifo"), 0o600))
			describe(t, filepath.Join(src, "a"), "user.short", "s")
			describe(t, filepath.Join(src, "b", "two"), "user.long", long)
			describe(t, filepath.Join(src, "b", "two"), accessACL, nobodyReads())
			describe(t, filepath.Join(src, "b"), "user.folder", "f")
			describe(t, filepath.Join(src, "b"), defaultACL, nobodyReads())
			when := time.Unix(1700000000, 123456789)
			check(t, os.Chtimes(filepath.Join(src, "a"), when, when))
			for _, step := range [][2]string{{src + "/", there(t, copied+"/")}, {there(t, copied+"/"), back + "/"}} {
				x.rsync(0, append(slices.Clone(options), step[0], step[1])...)
				at := copied
				if strings.HasPrefix(step[1], back) {
					at = back
				}
				for _, want := range [][3]string{{"a", "user.short", "s"}, {"b/hard", "user.short", "s"}, {"b/two", "user.long", long}, {"b/two", accessACL, nobodyReads()}, {"b", "user.folder", "f"}, {"b", defaultACL, nobodyReads()}} {
					if got := described(filepath.Join(at, want[0]), want[1]); got != want[2] {
						t.Errorf("%s has %s %q", filepath.Join(at, want[0]), want[1], got)
					}
				}
				got := must(os.Stat(filepath.Join(at, "a")))(t).ModTime()
				if options[len(options)-1] != "--protocol=30" && !got.Equal(when) || got.Unix() != when.Unix() {
					t.Errorf("changed at %v", got)
				}
				said := map[string]string{}
				for _, e := range x.events(x.closed(len(x.sessions()))[0]) {
					said[e.What+" "+strings.TrimPrefix(e.Path, copied+"/")] = e.To
				}
				if at == copied && (said["setxattr a"] != "user.short" || said["setxattr b/two"] != "user.long" || said["setxattr b"] != "user.folder") {
					t.Errorf("on record: %q", said)
				}
				if _, ok := said["setfacl b/two"]; at == copied && !ok {
					t.Errorf("on record: %q", said)
				}
			}
			for _, args := range [][]string{{src + "/", there(t, copied+"/")}, {there(t, copied+"/"), back + "/"}} {
				out := x.rsync(0, append(slices.Clone(options), "-i", args[0], args[1])...)
				if got := x.last(); len(got) != 0 || options[len(options)-1] != "--protocol=30" && out != "" {
					t.Errorf("the second time: %q, %s", got, out)
				}
			}
		})
	}
}

// The extended attributes of a file that may not be downloaded do not come, though
// it is in the list and the file itself is there already; those of its neighbours do,
// be they the same.
func TestRsyncAttributesHidden(t *testing.T) {
	x := newShare(t, "download BOTH/*.txt max 1KiB")
	got := filepath.Join(x.local, "got")
	when := time.Unix(1700000000, 0)
	long := strings.Repeat("x", 100)
	for _, name := range []string{"a.txt", "b", "c.txt", "d", "e.txt", "f.txt"} {
		for _, folder := range []string{x.both, got} {
			write(t, filepath.Join(folder, name), "same")
			check(t, os.Chtimes(filepath.Join(folder, name), when, when))
		}
	}
	for name, value := range map[string]string{"b": "token", "c.txt": "token", "d": long, "e.txt": long, "f.txt": strings.Repeat("x", 2000)} {
		describe(t, filepath.Join(x.both, name), "user.token", value)
	}
	x.rsync(0, "-rtX", there(t, x.both+"/"), got+"/")
	for name, want := range map[string]string{"a.txt": "", "b": "", "c.txt": "token", "d": "", "e.txt": long, "f.txt": ""} {
		if value := described(filepath.Join(got, name), "user.token"); value != want {
			t.Errorf("%s came with %q", name, value)
		}
	}
}

// More extended attributes than a file may have bytes are refused before anything
// is made, and so are those of what may not be uploaded.
func TestRsyncAttributesRefused(t *testing.T) {
	x := newShare(t, "upload UP/** max 1KiB")
	src := filepath.Join(x.local, "src")
	describe(t, write(t, filepath.Join(src, "large"), "x"), "user.large", strings.Repeat("x", 1025))
	for name, c := range map[string]struct{ to, said string }{
		"too many bytes": {x.up + "/", "the role does not allow extended attributes of so many bytes"},
		"of a folder":    {x.out + "/", "the role does not allow to change this folder"},
	} {
		out, errs, code := play(t, x.over("rsync", "-rX", src+"/", there(t, c.to)))
		if code == 0 || !strings.Contains(errs, c.said) {
			t.Errorf("%s: exit %d, %s%s", name, code, out, errs)
		}
		absent(t, filepath.Join(c.to, "large"))
		x.wantRefusal(c.said)
	}
}

// What is appended passes whole, so that it is on record as what it becomes.
func TestRsyncAppends(t *testing.T) {
	x := newShare(t)
	for _, option := range []string{"--append", "--append-verify"} {
		file := write(t, filepath.Join(x.both, option), "one")
		x.rsync(0, option, write(t, filepath.Join(x.local, option), "one two"), there(t, file))
		if got, want := x.last(), "upload "+file+" 7 "+sum("one two")+" ok"; contents(t, file) != "one two" || !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What is replaced stays as a backup where that may be, and links are sent as what
// they lead to; names with spaces and letters of any script are names.
func TestRsyncBackupsAndLinks(t *testing.T) {
	x := newShare(t)
	folder := filepath.Join(x.both, "a b", "ü")
	write(t, filepath.Join(folder, "page"), "old")
	write(t, filepath.Join(folder, "gone"), "gone")
	src := filepath.Join(x.local, "src")
	write(t, filepath.Join(src, "page"), "new page")
	x.rsync(0, "-rb", "--delete", src+"/", there(t, folder+"/"))
	if got, want := x.last(), "upload "+folder+"/page 8 "+sum("new page")+" ok"; !slices.Equal(got, []string{want}) {
		t.Errorf("got %q, want %q", got, want)
	}
	for name, want := range map[string]string{"page": "new page", "page~": "old", "gone~": "gone"} {
		if got := contents(t, filepath.Join(folder, name)); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	check(t, os.Symlink(write(t, filepath.Join(x.down, "file"), "what it leads to"), filepath.Join(folder, "link")))
	check(t, os.Symlink(x.down, filepath.Join(folder, "linked")))
	back := filepath.Join(x.local, "back")
	x.rsync(0, "-rL", "--exclude=*~", there(t, folder+"/"), back+"/")
	leads := "download " + x.down + "/file 16 " + sum("what it leads to") + " ok"
	if got, want := x.last(), []string{"download " + folder + "/page 8 " + sum("new page") + " ok", leads, leads}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, name := range []string{"link", "linked/file"} {
		if got := contents(t, filepath.Join(back, name)); got != "what it leads to" {
			t.Errorf("%s: %q", name, got)
		}
	}
}
