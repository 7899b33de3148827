package sshproxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy/rsyncwire"
	w "github.com/drawbolt/drawbolt/broker/bastion/sshproxy/sftpwire"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder/audit"
)

// A raw is a client that says what it likes.
type raw struct {
	t    testing.TB
	ch   gossh.Channel
	r    *w.Reader
	next uint32
}

// subsystem begins SFTP, without a packet.
func (x *share) subsystem() *raw {
	x.t.Helper()
	ch, reqs, err := x.client("alice", "db01").OpenChannel("session", nil)
	check(x.t, err)
	go gossh.DiscardRequests(reqs)
	go io.Copy(io.Discard, ch.Stderr())
	if ok, err := ch.SendRequest("subsystem", true, gossh.Marshal(subsystem{"sftp"})); !ok || err != nil {
		x.t.Fatalf("no sftp: %v", err)
	}
	x.t.Cleanup(func() { ch.Close() })
	return &raw{t: x.t, ch: ch, r: w.NewReader(ch)}
}

// raw begins SFTP.
func (x *share) raw() *raw {
	x.t.Helper()
	c := x.subsystem()
	must(c.ch.Write(w.Hello{Type: w.Init, Version: 3}.Append(nil)))(x.t)
	must(w.ParseHello(must(c.r.Next())(x.t), w.VersionIs))(x.t)
	return c
}

func (c *raw) send(r w.Request) {
	c.t.Helper()
	must(c.ch.Write(r.Append(nil)))(c.t)
}

func (c *raw) reply() w.Reply {
	c.t.Helper()
	timer := time.AfterFunc(patience, func() { c.ch.Close() })
	defer timer.Stop()
	return must(w.ParseReply(must(c.r.Next())(c.t)))(c.t)
}

// ask sends a request and wants a reply to it.
func (c *raw) ask(r w.Request) w.Reply {
	c.t.Helper()
	c.next++
	r.ID = c.next
	c.send(r)
	reply := c.reply()
	if reply.ID != r.ID {
		c.t.Fatalf("got a reply to %d, not to %d", reply.ID, r.ID)
	}
	return reply
}

func (c *raw) want(code w.Code, r w.Request) {
	c.t.Helper()
	if reply := c.ask(r); reply.Type != w.Status || reply.Code != code {
		c.t.Errorf("%v of %q: got %v %d %q, want %d", r, r.Path+r.Handle, reply.Type, reply.Code, reply.Message, code)
	}
}

var none = []byte{0, 0, 0, 0} // no attributes

func (c *raw) open(name string, flags uint32) string {
	c.t.Helper()
	reply := c.ask(w.Request{Type: w.Open, Path: name, Flags: flags, Attrs: none})
	if reply.Type != w.Handle {
		c.t.Fatalf("open %q: %v %d %s", name, reply.Type, reply.Code, reply.Message)
	}
	return reply.Handle
}

func (c *raw) write(handle string, offset uint64, data string) w.Request {
	return w.Request{Type: w.Write, Handle: handle, Offset: offset, Data: []byte(data)}
}

// ended wants the connection's end.
func (c *raw) ended() {
	c.t.Helper()
	timer := time.AfterFunc(patience, func() { c.t.Error("the session goes on"); c.ch.Close() })
	defer timer.Stop()
	for {
		if _, err := c.r.Next(); err != nil {
			return
		}
	}
}

// Whatever is no SFTP of version 3 ends the session; nothing of it reaches the
// target.
func TestSFTPViolations(t *testing.T) {
	x := newShare(t)
	file := filepath.Join(x.up, "file")
	for name, do := range map[string]func(c *raw) []byte{
		"a huge length":   func(*raw) []byte { return []byte{0xff, 0xff, 0xff, 0xff, byte(w.Open), 0, 0, 0, 1} },
		"no length":       func(*raw) []byte { return []byte{0, 0, 0, 0} },
		"no id":           func(*raw) []byte { return []byte{0, 0, 0, 1, byte(w.Stat)} },
		"an unknown type": func(*raw) []byte { return w.Request{Type: 99, ID: 7, Path: "x"}.Append(nil) },
		"a second init":   func(*raw) []byte { return w.Hello{Type: w.Init, Version: 3}.Append(nil) },
		"a reply":         func(*raw) []byte { return w.Reply{Type: w.Status, ID: 1}.Append(nil) },
		"bytes left over": func(*raw) []byte { return rest(w.Request{Type: w.Remove, ID: 1, Path: file}.Append(nil), 1) },
		"a path too long": func(*raw) []byte {
			return w.Request{Type: w.Stat, ID: 1, Path: strings.Repeat("x", w.MaxPath+1)}.Append(nil)
		},
		"a NUL in a path": func(*raw) []byte { return w.Request{Type: w.Remove, ID: 1, Path: file + "\x00"}.Append(nil) },
		"an id in use":    func(*raw) []byte { return bytes.Repeat(w.Request{Type: w.LStat, ID: 1, Path: x.up}.Append(nil), 500) },
		"flags of tomorrow": func(*raw) []byte {
			return w.Request{Type: w.Open, ID: 1, Path: file, Flags: 2 | 64, Attrs: none}.Append(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, file, "mine")
			c := x.raw()
			c.ch.Write(do(c))
			c.ended()
			s := x.closed(len(x.sessions()))[0]
			if s.EndReason != "failed" || contents(t, file) != "mine" {
				t.Errorf("got %+v", s)
			}
			x.wantRefusal("sftp packet: the client does not speak SFTP version 3")
		})
	}
	for name, hello := range map[string][]byte{
		"version 2":      w.Hello{Type: w.Init, Version: 2}.Append(nil),
		"no init":        w.Request{Type: w.Stat, ID: 3, Path: "x"}.Append(nil),
		"shell's output": []byte("Welcome to bash\n"),
	} {
		t.Run(name, func(t *testing.T) {
			c := x.subsystem()
			c.ch.Write(hello)
			c.ended()
		})
	}
}

func rest(packet []byte, n int) []byte {
	packet = append(packet, make([]byte, n)...)
	binary.BigEndian.PutUint32(packet, uint32(len(packet)-4))
	return packet
}

// However the packets are cut on their way, they are the same packets.
func TestSFTPEveryByte(t *testing.T) {
	x := newShare(t)
	c := x.subsystem()
	var stream []byte
	stream = w.Hello{Type: w.Init, Version: 6}.Append(stream) // who knows more takes 3
	for i, r := range []w.Request{
		{Type: w.Open, Path: filepath.Join(x.up, "file"), Flags: w.FlagWrite | w.FlagCreate, Attrs: none},
		{Type: w.Open, Path: filepath.Join(x.out, "file"), Flags: w.FlagWrite | w.FlagCreate, Attrs: none},
		{Type: w.MkDir, Path: filepath.Join(x.up, "folder"), Attrs: none},
	} {
		r.ID = uint32(i)
		stream = append(stream, r.Append(nil)...)
	}
	for _, b := range stream {
		must(c.ch.Write([]byte{b}))(t)
	}
	if h, err := w.ParseHello(must(c.r.Next())(t), w.VersionIs); err != nil || h.Version != 3 {
		t.Fatalf("got %+v, %v", h, err)
	}
	got := map[uint32]w.Reply{}
	for range 3 {
		r := c.reply()
		r.Message = ""
		got[r.ID] = r
	}
	if got[0].Type != w.Handle || got[1].Code != w.PermissionDenied || got[2].Type != w.Status || got[2].Code != w.OK {
		t.Errorf("got %+v", got)
	}
	absent(t, filepath.Join(x.out, "file"))
	must(os.Stat(filepath.Join(x.up, "folder")))(t)
}

// Handles carry only what they were opened for, and only while they are open.
// Unknown extensions, copies within the target, and sizes that come by the back
// door are refused; the session goes on.
func TestSFTPHandles(t *testing.T) {
	x := newShare(t, "upload UP/** max 1000", "download DOWN/**", "upload BOTH/**", "download BOTH/**")
	write(t, filepath.Join(x.down, "theirs"), "theirs")
	secret := write(t, filepath.Join(x.out, "secret"), "secret")
	c := x.raw()
	up := c.open(filepath.Join(x.up, "file"), w.FlagWrite|w.FlagCreate)
	down := c.open(filepath.Join(x.down, "theirs"), w.FlagRead)
	size := func(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{0, 0, 0, 1}, n) }
	c.want(w.PermissionDenied, w.Request{Type: w.Read, Handle: up, Length: 10})
	c.want(w.PermissionDenied, c.write(down, 0, "x"))
	c.want(w.PermissionDenied, w.Request{Type: w.FSetStat, Handle: down, Attrs: none})
	c.want(w.Failure, w.Request{Type: w.Read, Handle: "made up", Length: 10})
	c.want(w.Failure, w.Request{Type: w.Close, Handle: "\x00\x00\x00\x07"})
	c.want(w.PermissionDenied, c.write(up, 1000, "x"))
	c.want(w.PermissionDenied, c.write(up, 999, "xx"))
	c.want(w.PermissionDenied, c.write(up, math.MaxInt64, "x"))
	c.want(w.PermissionDenied, c.write(up, math.MaxUint64, "x"))
	c.want(w.PermissionDenied, w.Request{Type: w.FSetStat, Handle: up, Attrs: size(1001), Size: 1001, Sized: true})
	c.want(w.PermissionDenied, w.Request{Type: w.SetStat, Path: filepath.Join(x.up, "file"), Attrs: size(1 << 62)})
	c.want(w.PermissionDenied, w.Request{Type: w.Open, Path: filepath.Join(x.up, "file"), Flags: w.FlagWrite | w.FlagAppend, Attrs: none})
	c.want(w.PermissionDenied, w.Request{Type: w.Open, Path: filepath.Join(x.up, "file"), Flags: w.FlagRead | w.FlagWrite, Attrs: none})
	c.want(w.PermissionDenied, w.Request{Type: w.Open, Path: filepath.Join(x.up, "file"), Flags: w.FlagCreate, Attrs: none})
	c.want(w.PermissionDenied, w.Request{Type: w.Open, Path: filepath.Join(x.down, "theirs"), Flags: w.FlagRead | w.FlagTrunc, Attrs: none})
	c.want(w.PermissionDenied, w.Request{Type: w.Open, Path: secret, Attrs: none})
	for _, name := range []string{"copy-data", "statvfs@example.com", ""} {
		c.want(w.OpUnsupported, w.Request{Type: w.Extended, Extension: name, Path: secret})
	}
	c.want(w.OK, c.write(up, 990, "0123456789"))
	c.want(w.PermissionDenied, w.Request{Type: w.Close, Handle: up}) // something of it was refused
	c.want(w.Failure, c.write(up, 0, "x"))
	if contents(t, filepath.Join(x.down, "theirs")) != "theirs" || len(contents(t, filepath.Join(x.up, "file"))) != 1000 {
		t.Error("something was changed")
	}
	c.ch.Close()
	for _, want := range []string{"upload " + x.up + "/file 10 partial refused", "download " + x.down + "/theirs 0 " + sum("") + " cut"} {
		if got := x.closes(x.closed(1)[0]); !slices.Contains(got, want) {
			t.Errorf("not on record: %q in %q", want, got)
		}
	}
}

// A hash is of bytes that passed one after the other from the beginning; anything
// else is called partial. Two handles on one file are two files on record.
func TestSFTPOrder(t *testing.T) {
	x := newShare(t)
	name := filepath.Join(x.both, "file")
	c := x.raw()
	one, two := c.open(name, w.FlagWrite|w.FlagCreate), c.open(name, w.FlagWrite)
	c.want(w.OK, c.write(one, 0, "aaa"))
	c.want(w.OK, c.write(two, 3, "bbb"))
	c.want(w.OK, c.write(one, 3, "ccc"))
	c.want(w.OK, c.write(two, 0, "ddd"))
	c.want(w.OK, w.Request{Type: w.Close, Handle: one})
	c.want(w.OK, w.Request{Type: w.Close, Handle: two})
	both := c.open(name, w.FlagRead|w.FlagWrite)
	for _, offset := range []uint64{0, 4, 2} {
		if r := c.ask(w.Request{Type: w.Read, Handle: both, Offset: offset, Length: 2}); len(r.Data) != 2 {
			t.Errorf("got %+v", r)
		}
	}
	c.want(w.OK, w.Request{Type: w.Close, Handle: both})
	again := c.open(name, w.FlagRead)
	c.ask(w.Request{Type: w.Read, Handle: again, Offset: 0, Length: 4})
	c.ask(w.Request{Type: w.Read, Handle: again, Offset: 4, Length: 4})
	c.want(w.EOF, w.Request{Type: w.Read, Handle: again, Offset: 6, Length: 4})
	c.want(w.OK, w.Request{Type: w.Close, Handle: again})
	c.ch.Close()
	got := x.closes(x.closed(1)[0])
	want := []string{
		"upload " + name + " 6 " + sum("aaaccc") + " ok", "upload " + name + " 6 partial ok",
		"upload " + name + " 0 " + sum("") + " ok", "download " + name + " 6 partial ok", "download " + name + " 6 " + sum("dddccc") + " ok",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A role that is narrowed while files are open lets no byte more through.
func TestFilesNarrowed(t *testing.T) {
	x := newShare(t)
	name := filepath.Join(x.up, "file")
	c := x.raw()
	h := c.open(name, w.FlagWrite|w.FlagCreate)
	c.want(w.OK, c.write(h, 0, "before"))
	role := must(x.db.Role(context.Background(), "engineers"))(t)
	role.Rules[0].Session.Files = []string{"download " + x.down + "/**"}
	check(t, x.db.Change(context.Background(), func(tx *store.Tx) (audit.Event, error) {
		return audit.Event{Actor: "system", ActorName: "system", Action: "role.set", Object: role.Name, Outcome: audit.Done}, tx.SaveRole(context.Background(), &role)
	}))
	eventually(t, "the narrower rules", func() bool {
		r := c.ask(c.write(h, 6, "x"))
		return r.Code == w.PermissionDenied
	})
	c.want(w.PermissionDenied, w.Request{Type: w.Open, Path: name, Flags: w.FlagWrite, Attrs: none})
}

// What a target says that is not SFTP, or was not asked for, ends the session.
func TestSFTPHostileTarget(t *testing.T) {
	for name, say := range map[string][]byte{
		"version 4":           w.Hello{Type: w.VersionIs, Version: 4}.Append(nil),
		"a banner":            []byte("Welcome to bash\n"),
		"a reply to nothing":  append(w.Hello{Type: w.VersionIs, Version: 3}.Append(nil), w.Reply{Type: w.Status, ID: 77}.Append(nil)...),
		"a handle for a path": append(w.Hello{Type: w.VersionIs, Version: 3}.Append(nil), w.Reply{Type: w.Handle, ID: 1, Handle: "x"}.Append(nil)...),
		"a home that is none": append(w.Hello{Type: w.VersionIs, Version: 3}.Append(nil), names(1, "../x")...),
		"a huge length":       append(w.Hello{Type: w.VersionIs, Version: 3}.Append(nil), 0x7f, 0, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			x := newShare(t)
			file := write(t, filepath.Join(t.TempDir(), "said"), string(say))
			s := x.startSSHD("db02", noProfile, "ForceCommand cat "+file+" -")
			x.addTarget("db02", s.addr, s.key)
			x.grant("alice", "db02", time.Hour)
			_, errs, code := play(t, x.tool("sftp", "-b", "/dev/null", me(t)+"@db02"))
			if code == 0 {
				t.Errorf("exit %d, %s", code, errs)
			}
			if s := x.closed(1)[0]; s.EndReason != "failed" {
				t.Errorf("got %+v", s)
			}
		})
	}
}

func names(id uint32, name string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1}, uint32(len(name)))
	b = append(append(b, name...), 0, 0, 0, 0, 0, 0, 0, 0)
	return w.Reply{Type: w.Name, ID: id, Rest: b}.Append(nil)
}

// scp's lines are held to: names with folders in them, folders that were not
// asked for, and answers out of turn end the session.
func TestSCPViolations(t *testing.T) {
	x := newShare(t)
	for name, lines := range map[string]string{
		"a name with a folder":      "C0644 1 ../out/new\nx\x00",
		"the folder above":          "D0755 0 ..\nC0644 1 new\nx\x00",
		"a folder without -r":       "D0755 0 folder\nC0644 1 new\nx\x00",
		"the end of no folder":      "E\n",
		"another kind":              "X0644 1 new\n",
		"a negative size":           "C0644 -1 new\n",
		"a size with a plus":        "C0644 +1 new\nx\x00",
		"no newline at all":         strings.Repeat("C", 20000),
		"times that are none":       "T1 2 3\n",
		"a file that ends with 'x'": "C0644 1 new\nxx",
	} {
		t.Run(name, func(t *testing.T) {
			ch, reqs, err := x.client("alice", "db01").OpenChannel("session", nil)
			check(t, err)
			go gossh.DiscardRequests(reqs)
			defer ch.Close()
			if ok, err := ch.SendRequest("exec", true, gossh.Marshal(execRequest{"scp -t " + x.up})); !ok || err != nil {
				t.Fatal(err)
			}
			ch.Write([]byte(lines))
			timer := time.AfterFunc(patience, func() { t.Error("the session goes on"); ch.Close() })
			defer timer.Stop()
			io.Copy(io.Discard, ch)
			if s := x.closed(len(x.sessions()))[0]; s.EndReason != "failed" {
				t.Errorf("got %+v", s)
			}
			absent(t, filepath.Join(x.out, "new"))
			x.wantRefusal("scp: one side does not keep to scp's protocol")
		})
	}
}

// Only what is plain is recognised; everything else is a command like any other.
func TestParseTransfer(t *testing.T) {
	for command, want := range map[string]string{
		"scp -t /srv":            "scp upload [/srv] false",
		"scp -r -p -f -- /srv/x": "scp download [/srv/x] true",
		"scp -d -v -t .":         "scp upload [.] false",
		"rsync --server -logDtpre.iLsfxCIvu . /srv/www":         "rsync upload [/srv/www] true",
		"rsync --server --sender -vlogDtprze.iLsfxCIvu . /a /b": "rsync download [/a /b] true",
		"rsync --server -e.LsfxCIvu --timeout=10 --partial . x": "rsync upload [x] false",
		`rsync --server -r . /a\ \$b/é`:                         "rsync upload [/a $b/é] true",
		"git-upload-pack '/srv/x.git'":                          "git download [/srv/x.git] true",
		"git receive-pack 'x.git'":                              "git upload [x.git] true",
		"git-receive-pack x":                                    "git upload [x] true",
	} {
		got, ok := parseTransfer(command)
		if text := fmt.Sprint(got.program, " ", got.direction, " ", got.paths, " ", got.tree); !ok || text != want {
			t.Errorf("%q: got %s, %v", command, text, ok)
		}
	}
	for _, command := range []string{
		"", "scp", "scp -t", "scp /srv", "scp -t -f /srv", "scp -t /srv /x", "scp -t /srv;id", "scp -t /srv\nid", "scp -t '/srv'", "scp -t $HOME", "scp -t ~/x", "scp -t /srv/*", "scp  -t /srv",
		"scp -S sh -t /srv", "scp -oProxyCommand=x -t /srv", "scp -t -- ", "/tmp/scp -t /srv", "A=b scp -t /srv", "scp -t /srv ",
		"rsync -a . /x", "rsync --server . -x", "rsync --server -s . x", "rsync --server -logDtpre.iLsfxCIvu /x", "rsync --server --daemon .", "rsync --server --config=/x . /y",
		"rsync --server --log-file=/x . /y", "rsync --server -T/x . /y", "rsync --server --temp-dir=/x . /y", "rsync --server --backup-dir=/x . /y", "rsync --server --link-dest=/x . /y",
		"rsync --server -Le.x . /y", "rsync --server --files-from=/x . /y", "rsync --server --write-devices . /y", "rsync --server . /y /z", "rsync --server --rsh=x . /y", "rsync --server --remove-source-files --sender . /y",
		`rsync --server -r . /a\`, `rsync --server -r . /a\n`, "rsync --server -r . /a\\\n", "rsync --server -r . /a\u00a0b", `rsync --server -r . \-x`, `rsync --server \-\-daemon .`, `rsync --server -r  . /a`, `rsync --server -r . /a\  /b`, "rsync --server -r . /\xff", "rsync --server -K . /a",
		"git upload-pack", "git-upload-pack --help", "git-upload-pack '/srv/x;id'", "git-upload-pack '/a' '/b'", "git-upload-pack '/a", "git-upload-archive '/a'", "git gc '/a'", "git -c x=y upload-pack '/a'",
	} {
		if got, ok := parseTransfer(command); ok {
			t.Errorf("%q is taken for %+v", command, got)
		}
	}
}

// What the options of rsync mean for what its two ends say, and where the list of a
// download begins.
func TestRsyncCommand(t *testing.T) {
	sums := rsyncwire.Options{Checksum: 16}
	set := func(change func(*rsyncCommand)) rsyncCommand {
		r := rsyncCommand{Options: sums, checksum: 16}
		change(&r)
		return r
	}
	for command, want := range map[string]rsyncCommand{
		"rsync --server -vlogDtprze.iLsfxCIvu . /srv": set(func(r *rsyncCommand) {
			r.Links, r.Owners, r.Groups, r.Devices, r.deflated, r.attributes = true, true, true, true, true, true
		}),
		"rsync --server -ncHmr --delete . /srv": set(func(r *rsyncCommand) {
			r.Checksums, r.HardLinks, r.dry, r.filters, r.removes = true, true, true, true, true
		}),
		"rsync --server --sender -logDtpr --numeric-ids . /srv/www/": set(func(r *rsyncCommand) {
			r.Links, r.Owners, r.Groups, r.Devices, r.NumericIDs, r.attributes, r.base = true, true, true, true, true, true, "/srv/www/"
		}),
		"rsync --server -rb . /srv":             set(func(r *rsyncCommand) { r.backups = true }),
		"rsync --server --sender -rkL . /srv/x": set(func(r *rsyncCommand) { r.follows, r.base = true, "/srv/" }),
		"rsync --server -AXUr . /srv":           set(func(r *rsyncCommand) { r.ACLs, r.Xattrs, r.AccessTimes, r.attributes = true, true, true, true }),
		"rsync --server -r --append --append --checksum-choice=xxh64,sha1 . /srv": set(func(r *rsyncCommand) {
			r.append, r.checksum, r.Checksum = true, 8, 20
		}),
		"rsync --server --sender -r . /srv/a /srv/b": set(func(r *rsyncCommand) { r.base = "/srv/" }),
		"rsync --server --sender -r . /srv/a b /srv/c": set(func(r *rsyncCommand) {
			r.base, r.bases = "/srv/", map[string]string{"a": "/srv/", "b": ".", "c": "/srv/"}
		}),
		"rsync --server --sender -r . a":                set(func(r *rsyncCommand) { r.base = "." }),
		"rsync --server --sender -r . a/..":             set(func(r *rsyncCommand) { r.base = "a/.." }),
		"rsync --server --sender -rR . /srv/a":          set(func(r *rsyncCommand) { r.Relative, r.base = true, "/" }),
		"rsync --server --sender -rR . srv/./a":         set(func(r *rsyncCommand) { r.Relative, r.base = true, "srv" }),
		"rsync --server --sender -r --new-compress . a": set(func(r *rsyncCommand) { r.deflated, r.base = true, "." }),
		"rsync --server -r --force . a":                 set(func(r *rsyncCommand) { r.removes = true }),
	} {
		if got, ok := parseTransfer(command); !ok || !reflect.DeepEqual(got.rsync, want) {
			t.Errorf("%q: got %+v, want %+v", command, got.rsync, want)
		}
	}
	for command, want := range map[string]string{
		"rsync --server -vlogDtprze.iLsfxCIvu --delete . e.i": "rsync --server -vlogDtprze.LsfxCI --delete . e.i",
		"rsync --server --sender -re31.14iLsfxCIvuV . /e":     "rsync --server --sender -re31.14LsfxCI . /e",
		"rsync --server -r . a":                               "rsync --server -r . a",
		`rsync --server -re.iv . /a\ b\'c/ä`:                  `rsync --server -re. . /a\ b\'c/ä`,
		"rsync --server --sender -re.v . /a/ /c/":             "",
	} {
		if got, ok := parseTransfer(command); !ok || got.command != want {
			t.Errorf("%q: the target gets %q", command, got.command)
		}
	}
	for _, command := range []string{

		"rsync --server -r --compress-choice=zstd . /a", "rsync --server -r --checksum-choice=other . /a", "rsync --server --sender -r . /a/b /c/b", "rsync --server --sender -r . /a/ /b/", "rsync --server --sender -r . /a/b /c/", "rsync --server --sender -rR . ./a/./b /c/d",
		"rsync --server --sender -rR . /a/../b", "rsync --server --sender -rR . /a/./b/./c", "rsync --server --sender -rR . /a /b/./c",
	} {
		if got, ok := parseTransfer(command); !ok || got.rsync.unread == "" {
			t.Errorf("%q can be read file by file: %v", command, got.rsync)
		}
	}
}

// FuzzTransfer: what is recognised is read by a shell as the words that were read
// here.
func FuzzTransfer(f *testing.F) {
	for _, s := range []string{"scp -r -t /srv", "rsync --server --sender -logDtpre.iLsfxCIvu . /srv", "git-upload-pack '/srv/x.git'", "scp -t $(id)", "git-upload-pack 'a'b'", `rsync --server -r . /a\ b\$c/é`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseTransfer(s)
		if !ok {
			return
		}
		if got.program == "rsync" {
			s = regexp.MustCompile(`\\([ -/:-@[-`+"`"+`{-~])`).ReplaceAllString(s, "$1")
			for _, p := range got.paths {
				s = strings.Replace(s, p, "path", 1)
			}
			got.paths = []string{"path"}
		}
		if strings.ContainsAny(s, "\n\r\t\"$`\\;&|<>(){}[]*?!#~^\x00") || strings.Count(s, "'")%2 != 0 || got.direction == "" || len(got.paths) == 0 {
			t.Errorf("%q is taken for %+v", s, got)
		}
		for _, p := range got.paths {
			if !strings.Contains(s, p) || strings.HasPrefix(p, "-") && got.program != "scp" {
				t.Errorf("%q: the path %q", s, p)
			}
		}
	})
}

// FuzzSCPEntry: what is taken for a file is written again as the same line.
func FuzzSCPEntry(f *testing.F) {
	for _, s := range []string{"0644 12 name", "0755 0 ..", "0644 1 a/b", "644 1 a", "0644 01 a", "0644 1 a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		size, name, err := parseEntry(s)
		if err == nil && (s[4:] != fmt.Sprintf(" %d %s", size, name) || size < 0 || strings.Contains(name, "/") || name == "..") {
			t.Errorf("%q is taken for %d bytes in %q", s, size, name)
		}
	})
}
