package sshproxy

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// words writes numbers as rsync does.
func words(list ...int32) (b []byte) {
	for _, n := range list {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return b
}

// listed writes an entry of a list, for a command with -l and without owners.
func listed(name string, mode, size int32, link string) []byte {
	b := append([]byte{0x41}, words(int32(len(name)))...)
	b = append(append(b, name...), words(size, 0, mode)...)
	if mode == 0o120777 {
		b = append(append(b, words(int32(len(link)))...), link...)
	}
	return b
}

func file(name string, size int32) []byte { return listed(name, 0o100644, size, "") }

// listing writes a whole list.
func listing(entries ...[]byte) []byte {
	return append(append(bytes.Join(entries, nil), 0), words(0)...)
}

// item writes what one end says of the file of a number; of blocks there are none.
func item(n int32, flags uint16) []byte {
	return binary.LittleEndian.AppendUint16(words(n), flags)
}

func content(text string) []byte {
	b := append(words(0, 0, 0, 0), words(int32(len(text)))...)
	return append(append(append(b, text...), words(0)...), make([]byte, 16)...)
}

// deflated writes the compressed bytes of a whole file.
func deflated(text string) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	io.WriteString(w, text)
	w.Flush()
	b.Truncate(b.Len() - 4)
	return append([]byte{0x40 | byte(b.Len()>>8), byte(b.Len())}, b.Bytes()...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// A client that lies in what it says of its files gets nothing to where the role
// does not allow it, and its session ends.
func TestRsyncHostileClient(t *testing.T) {
	const transfer = 0x8000
	hello := words(29)
	small := listing(file("new", 5))
	x := newShare(t, "upload UP/** max 10")
	check(t, os.Symlink(x.out, filepath.Join(x.up, "there")))
	write(t, filepath.Join(x.out, "secret"), "secret")
	for name, c := range map[string]struct {
		options string
		stream  []byte
		said    string
	}{
		"a name with ..":             {"-lr", join(hello, listing(file("../out/new", 4))), "leads elsewhere"},
		"a name that goes up inside": {"-lr", join(hello, listing(file("a/../../out/new", 4))), "leads elsewhere"},
		"a name that is ..":          {"-lr", join(hello, listing(file("..", 4))), "leads elsewhere"},
		"an absolute name":           {"-lr", join(hello, listing(file("/OUT/new", 4))), "leads elsewhere"},
		"two slashes with -R":        {"-lrR", join(hello, listing(file("//OUT/new", 4))), "leads elsewhere"},
		"slashes on some":            {"-lrR", join(hello, listing(file("/a", 4), file("b", 4))), "some names begin with a slash"},
		"no name":                    {"-lr", join(hello, listing(file("", 4))), "leads elsewhere"},
		"a zero byte in a name":      {"-lr", join(hello, listing(file("a\x00b", 4))), "zero byte"},
		"a name without end":         {"-lr", join(hello, []byte{0x41}, words(1<<30)), "a name of 1073741824 bytes"},
		"more than the last name":    {"-lr", join(hello, []byte{0x61, 9}, words(1), []byte("x")), "a name of 1 bytes after 9"},
		"a negative size":            {"-lr", join(hello, listing(join([]byte{0x41}, words(1), []byte("x"), words(-1, -1, -1, 0, 0o100644)))), "has -1 bytes"},
		"flags of another version":   {"-lr", join(hello, []byte{0x04, 0x10}), "flags"},
		"a file of no kind":          {"-lr", join(hello, listing(listed("x", 0o150000, 1, ""))), "has the mode"},
		"a link and a file below it": {"-lr", join(hello, listing(listed("a", 0o120777, 0, "b"), file("a/new", 4))), "below a link"},
		"the same, the other way":    {"-lr", join(hello, listing(file("a/b/new", 4), listed("a", 0o120777, 0, "b"))), "below a link"},
		"a link and a folder":        {"-lr", join(hello, listing(listed("a", 0o120777, 0, "b"), listed("a", 0o040755, 0, ""))), "is a link and a folder"},
		"a link that leads out":      {"-lr", join(hello, listing(listed("a", 0o120777, 0, "../out"))), "does not allow to upload"},
		"a file below a link there":  {"-lr", join(hello, listing(file("there/new", 4))), "out/new: the role does not allow to upload"},
		"a device":                   {"-lrD", join(hello, listing(join(listed("a", 0o060644, 0, ""), words(8, 0)))), "a device is made only by"},
		"what was not asked for":     {"-lr", join(hello, small, item(0, transfer), content("12345"), item(0, transfer), content("12345")), "not asked for"},
		"a number that is none":      {"-lr", join(hello, small, item(7, transfer), content("12345")), "the number 7 of 1 files"},
		"content of a folder":        {"-lr", join(hello, listing(listed("a", 0o040755, 0, "")), item(0, transfer), content("12345")), "not asked for"},
		"larger than it said":        {"-lr", join(hello, small, item(0, transfer), content("more than ten")), "new: the role does not allow files of more than 10 bytes"},
		"a block of another file":    {"-lr", join(hello, small, item(0, transfer), words(0, 0, 0, 0, -1)), "a block of another file"},
		"blocks of another file":     {"-lr", join(hello, small, item(0, transfer), words(1, 700, 2, 0)), "blocks of another file"},
		"another file to begin with": {"-lr", join(hello, small, item(0, transfer|0x0800|0x1000), []byte{0x83, 13}, []byte("../out/secret"), content("12345")), "another file to begin with"},
		"no compression in it":       {"-lrz", join(hello, small, item(0, transfer), words(0, 0, 0, 0), []byte{0x40, 3, 1, 2, 3, 0}, make([]byte, 16)), "compressed bytes that are none"},
		"a token in it":              {"-lrz", join(hello, small, item(0, transfer), words(0, 0, 0, 0), []byte{0x80}), "a block of another file"},
		"too much in few bytes":      {"-lrz", join(hello, small, item(0, transfer), words(0, 0, 0, 0), deflated(strings.Repeat("x", 100000)), []byte{0}, make([]byte, 16)), "new: the role does not allow files of more than 10 bytes"},
		"rules from a file":          {"-lr --delete", join(hello, words(19), []byte("merge ../out/secret")), "may read files of the target"},
		"rules from folders":         {"-lrm", join(hello, words(8), []byte(": secret")), "may read files of the target"},
		"rules that name themselves": {"-lr --delete", join(hello, words(12), []byte("-C /etc/host")), "may read files of the target"},
		"a rule without end":         {"-lrm", join(hello, words(1<<20)), "a filter rule of 1048576 bytes"},
		"an old version":             {"-lr", words(28), "version 28"},
		"no version":                 {"-lr", []byte("GET / HTTP/1.0\r\n"), "it begins with"},
		"more after the end":         {"-lr", join(hello, listing(file("new", 5)), item(0, transfer), content("12345"), words(-1, -1, -1, 0, 0)), "more after the end"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(x.refusals())
			ch, reqs, err := x.client("alice", "db01").OpenChannel("session", nil)
			check(t, err)
			go gossh.DiscardRequests(reqs)
			defer ch.Close()
			if ok, err := ch.SendRequest("exec", true, gossh.Marshal(execRequest{"rsync --server " + c.options + " . " + x.up + "/"})); !ok || err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(patience, func() { t.Error("the session goes on"); ch.Close() })
			defer timer.Stop()
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				if at := bytes.Index(c.stream, item(0, transfer)); at > 0 && strings.Contains(string(c.stream), "new") {
					// What was asked for is sent only when it was.
					ch.Write(c.stream[:at])
					var got []byte
					for buf := make([]byte, 1024); !bytes.Contains(got, item(0, 0xa000)) && len(got) < 1<<20; {
						n, err := ch.Read(buf)
						if got = append(got, buf[:n]...); err != nil {
							return
						}
					}
					ch.Write(c.stream[at:])
					return
				}
				ch.Write(c.stream)
			}()
			var said bytes.Buffer
			io.Copy(&said, ch.Stderr())
			<-asked
			if !strings.Contains(said.String(), c.said) {
				t.Errorf("the user was told %q", said.String())
			}
			if s := x.closed(len(x.sessions()))[0]; s.EndReason != "failed" {
				t.Errorf("got %+v", s)
			}
			for _, name := range []string{filepath.Join(x.out, "new"), filepath.Join(x.up, "a")} {
				absent(t, name)
			}
			if got, err := os.ReadFile(filepath.Join(x.up, "new")); err == nil && name != "more after the end" && name != "what was not asked for" {
				t.Errorf("the target has %q", got)
			}
			if contents(t, filepath.Join(x.out, "secret")) != "secret" {
				t.Error("something was changed")
			}
			os.Remove(filepath.Join(x.up, "new"))
			if all := x.refusals(); len(all) <= before {
				t.Errorf("no refusal on record: %s", all)
			}
		})
	}
}

// framed writes data as a server sends it.
func framed(data []byte) []byte {
	return append(words(int32(7<<24|len(data))), data...)
}

// A target that sends what was not asked for, or leads elsewhere, gives nothing to
// the user's program, and the session ends.
func TestRsyncHostileTarget(t *testing.T) {
	const transfer = 0x8000
	hello := words(31, 1)
	one := listing(file("one", 3))
	x := newShare(t)
	said := filepath.Join(x.out, "said")
	script := write(t, filepath.Join(x.out, "script"), "case $SSH_ORIGINAL_COMMAND in rsync*) cat "+said+" -;; *) exec /usr/lib/openssh/sftp-server;; esac\n")
	s := x.startSSHD("db02", noProfile, "ForceCommand sh "+script)
	x.addTarget("db02", s.addr, s.key)
	x.grant("alice", "db02", time.Hour)
	for name, say := range map[string][]byte{
		"a file that was not asked for": join(hello, framed(join(one, item(0, transfer), content("evil"), item(0, transfer), content("evil")))),
		"a number that is none":         join(hello, framed(join(one, item(9, transfer), content("evil")))),
		"a name that leads elsewhere":   join(hello, framed(listing(file("../one", 3)))),
		"a block of another file":       join(hello, framed(join(one, item(0, transfer), words(1, 700, 2, 0, -1)))),
		"something that was removed":    join(hello, words(108<<24|3), []byte("one")),
		"a link and a file below it":    join(hello, framed(listing(listed("one", 0o120777, 0, x.out), file("one/x", 3)))),
		"a message of no kind":          join(hello, words(9<<24+33<<24)),
		"a message without end":         join(hello, words(8<<24|0xffffff)),
		"a list without end":            join(hello, framed(bytes.Repeat(file("one", 3), 2)), framed([]byte{0x04, 0xff})),
		"something at the login":        []byte("Welcome to bash\n"),
		"lists in parts":                join(words(31), []byte{1}, words(1), framed(one)),
		"an old version":                words(28, 1),
	} {
		t.Run(name, func(t *testing.T) {
			check(t, os.WriteFile(said, say, 0o600))
			got := filepath.Join(x.local, "got")
			check(t, os.MkdirAll(got, 0o700))
			_, errs, code := play(t, x.over("rsync", "-rl", me(t)+"@db02:"+x.down+"/one", got+"/"))
			if code == 0 || !strings.Contains(errs, "DB-5432") {
				t.Errorf("exit %d, %s", code, errs)
			}
			absent(t, filepath.Join(got, "one"))
			absent(t, filepath.Join(x.local, "one"))
			if s := x.closed(len(x.sessions()))[0]; s.EndReason != "failed" {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// listed31 writes an entry of a list of version 31 for a command without owners,
// and what stands behind its mode.
func listed31(name string, mode uint16, rest ...byte) []byte {
	b := append([]byte{0x04, 0, byte(len(name))}, name...)
	return append(append(b, 0, 5, 0, 0, 0, 0, 0, byte(mode), byte(mode>>8), 0, 0), rest...)
}

// A client that lies in what newer versions say beside files, or says it out of
// turn, gets nothing to where the role does not allow it, and its session ends.
func TestRsyncHostileNewer(t *testing.T) {
	x := newShare(t, "upload UP/** max 10")
	one := join(listed31("new", 0o100644, 0, 0), []byte{0})
	some := []byte{0, 1, 2, 1, 'x', 0, 'v'}
	for name, c := range map[string]struct {
		options string
		data    []byte
		said    string
	}{
		"an access control list that is none": {"-lrA", listed31("new", 0o100644, 3), "the access control list 3 of 0"},
		"a user beyond all":                   {"-lrA", listed31("new", 0o100644, 0, 0x10, 0xf0, 0xff, 0xff, 0xff, 0x7f), "of 2147483647 users"},
		"rights beyond all":                   {"-lrA", listed31("new", 0o100644, 0, 1, 0x7f), "with the rights 0x7f"},
		"attributes that are none":            {"-lrX", listed31("new", 0o100644, 9), "the extended attributes 9 of 0"},
		"an attribute without end":            {"-lrX", listed31("new", 0o100644, 0, 1, 2, 0xf0, 0xff, 0xff, 0xff, 0x7f), "an extended attribute of 2147483647 bytes"},
		"an attribute elsewhere":              {"-lrX", join(listed31("../out/new", 0o100644), some, []byte{0}), "leads elsewhere"},
		"attributes of a link that leads out": {"-lrX", join(listed31("new", 0o100644, some...), []byte{0x04, 0x02, 1, 'y', 0}), "has hard links that were not asked for"},
		"more than the role allows":           {"-lrX", join(listed31("new", 0o100644, 0, 1, 2, 11, 'x', 0), []byte("elevenbytes"), []byte{0}), "does not allow extended attributes of so many bytes"},
		"attributes nobody asked for":         {"-lrX", join(one[:len(one)-2], []byte{0, 0}, []byte{1, 0, 0x01, 1, 1, 'v', 0}), "extended attributes that were not asked for"},
		"a hard link of what follows":         {"-lrH", []byte{0x04, 0x02, 3, 'n', 'e', 'w', 9}, "a hard link of the entry 9"},
		"lists in parts":                      {"-lr", join(one[:len(one)-3], []byte{0}, []byte{0xff, 0x64}), "the number -101"},
		"text for the target's log":           {"-lr", nil, "a message of kind 2"},
	} {
		t.Run(name, func(t *testing.T) {
			ch, reqs, err := x.client("alice", "db01").OpenChannel("session", nil)
			check(t, err)
			go gossh.DiscardRequests(reqs)
			defer ch.Close()
			if ok, err := ch.SendRequest("exec", true, gossh.Marshal(execRequest{"rsync --server " + c.options + "e.iLsfxCIvu . " + x.up + "/"})); !ok || err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(60*time.Second, func() { t.Error("the session goes on"); ch.Close() })
			defer timer.Stop()
			go io.Copy(io.Discard, ch)
			stream := join(words(32), framed(c.data))
			if c.data == nil {
				stream = join(words(32), words(9<<24|4), []byte("evil"))
			}
			ch.Write(stream)
			var said bytes.Buffer
			io.Copy(&said, ch.Stderr())
			if !strings.Contains(said.String(), c.said) {
				t.Errorf("the user was told %q", said.String())
			}
			if s := x.closed(len(x.sessions()))[0]; s.EndReason != "failed" {
				t.Errorf("got %+v", s)
			}
			for _, name := range []string{filepath.Join(x.out, "new"), filepath.Join(x.up, "new")} {
				absent(t, name)
			}
		})
	}
}
