package sshproxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/drawbolt/drawbolt/recorder/audit"
)

// rsync runs rsync(1) and wants it to end with a status.
func (x *share) rsync(want int, args ...string) string {
	x.t.Helper()
	out, errs, code := play(x.t, x.over("rsync", args...))
	if code != want {
		x.t.Fatalf("rsync %q: exit %d, %s%s", args, code, out, errs)
	}
	return out + errs
}

// last returns the closes of the session that was opened last.
func (x *share) last() []string {
	x.t.Helper()
	list := x.closes(x.closed(len(x.sessions()))[0])
	slices.Sort(list)
	return list
}

// Each file that rsync carries is on record with its hash, with the options that
// people use, up and down; the second time nothing is carried.
func TestRsyncCarries(t *testing.T) {
	x := newShare(t)
	for i, options := range [][]string{
		{"-a"}, {"-aUv", "--append"}, {"-avz"}, {"-r"}, {"-aHAX"}, {"-acAX", "--checksum-choice=sha1,xxh64"}, {"-acz", "--new-compress"}, {"-aR"}, {"-au", "--delete"}, {"-a", "--progress", "--stats", "-i"}, {"-aS", "--inplace"},
		{"-a", "--partial", "--delete-after"}, {"-rtW"}, {"-a", "--numeric-ids", "-m"}, {"-a", "--protocol=29"}, {"-a", "--protocol=30"}, {"-a", "--exclude=none*"},
	} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			local := filepath.Join(x.local, fmt.Sprint(i))
			src := filepath.Join(local, "src")
			files := map[string]string{"a": "one", "b/large": large(), "b/c/deep": "deep", "b.d": "dots", "b-/x": "dash", "empty": "", "zz": "last", "b/.hidden": "h", "B": "upper", "b/e f": "space"}
			var up, down []string
			for name, content := range files {
				write(t, filepath.Join(src, name), content)
			}
			check(t, os.Symlink("a", filepath.Join(src, "link")))
			check(t, os.Link(filepath.Join(src, "a"), filepath.Join(src, "b", "hard")))
			check(t, os.MkdirAll(filepath.Join(src, "void"), 0o700))
			hard := slices.Contains(options, "-aHAX")
			if !hard {
				files["b/hard"] = "one"
			}
			there, from, back := there(t, fmt.Sprintf("%s/%d/", x.both, i)), src+"/", filepath.Join(local, "back")+"/"
			copied, returned := filepath.Join(x.both, fmt.Sprint(i)), back
			if slices.Contains(options, "-aR") {
				from = local + "/./src"
				copied = filepath.Join(copied, "src")
				there = strings.TrimSuffix(there, "/")
			}
			x.rsync(0, append(slices.Clone(options), from, there)...)
			for name, content := range files {
				if contents(t, filepath.Join(copied, name)) != content {
					t.Errorf("%s is another", name)
				}
				line := fmt.Sprintf("%s %d %s ok", filepath.Join(copied, name), len(content), sum(content))
				up, down = append(up, "upload "+line), append(down, "download "+line)
			}
			slices.Sort(up)
			slices.Sort(down)
			if got := x.last(); !slices.Equal(got, up) {
				if hard {
					got = slices.DeleteFunc(got, func(s string) bool { return strings.Contains(s, "/a ") || strings.Contains(s, "/b/hard ") })
					up = slices.DeleteFunc(up, func(s string) bool { return strings.Contains(s, "/a ") })
				}
				if !slices.Equal(got, up) {
					t.Errorf("up:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(up, "\n"))
				}
			}
			if slices.Contains(options, "-aR") {
				return
			}
			x.rsync(0, append(slices.Clone(options), there, back)...)
			for name, content := range files {
				if contents(t, filepath.Join(returned, name)) != content {
					t.Errorf("%s came back as another", name)
				}
			}
			if got := x.last(); !hard && !slices.Equal(got, down) {
				t.Errorf("down:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(down, "\n"))
			}
			if slices.Contains(options, "-r") || slices.Contains(options, "-rtW") {
				return // it keeps no times
			}
			for _, args := range [][]string{{from, there}, {there, back}} {
				x.rsync(0, append(slices.Clone(options), args...)...)
				if got := x.last(); len(got) != 0 {
					t.Errorf("the second time: %q", got)
				}
			}
		})
	}
}

// What the rules do not allow does not pass, and one line says which file it was.
// A file that is too large, or may not be downloaded, is left out; the others go on.
func TestRsyncRefused(t *testing.T) {
	x := newShare(t, "upload UP/**", "upload BOTH/*.txt max 10", "download DOWN/**", "download BOTH/*.txt max 10")
	from := write(t, filepath.Join(x.local, "from"), "evil")
	secret := write(t, filepath.Join(x.out, "secret"), "secret")
	same := write(t, filepath.Join(x.local, "same"), "secret")
	info := must(os.Stat(secret))(t)
	check(t, os.Chtimes(same, info.ModTime(), info.ModTime()))
	tree, texts, links := filepath.Join(x.local, "tree"), filepath.Join(x.local, "texts"), filepath.Join(x.local, "links")
	write(t, filepath.Join(tree, "link", "new"), "evil")
	write(t, filepath.Join(tree, "fine"), "fine")
	write(t, filepath.Join(texts, "new.txt"), "more than ten")
	write(t, filepath.Join(texts, "fine.txt"), "fine")
	check(t, os.Mkdir(links, 0o700))
	check(t, os.Symlink("../out/secret", filepath.Join(links, "new")))
	hard := filepath.Join(x.local, "hard")
	write(t, filepath.Join(hard, "up", "new"), "evil")
	check(t, os.Mkdir(filepath.Join(hard, "both"), 0o700))
	check(t, os.Link(filepath.Join(hard, "up", "new"), filepath.Join(hard, "both", "new.txt")))
	check(t, os.MkdirAll(filepath.Join(x.up, "tree"), 0o700))
	check(t, os.Symlink(x.out, filepath.Join(x.up, "tree", "link")))
	write(t, filepath.Join(x.both, "big.txt"), "more than ten")
	write(t, filepath.Join(x.both, "small.txt"), "small")
	write(t, filepath.Join(x.both, "other"), "other")
	write(t, filepath.Join(x.up, "precious"), "precious")
	check(t, os.Symlink(secret, filepath.Join(x.down, "link")))
	check(t, os.Symlink(x.out, filepath.Join(x.down, "folder")))
	for name, c := range map[string]struct {
		code int // 0: any but success
		args []string
		said string
	}{
		"upload elsewhere":                  {0, []string{from, there(t, x.out+"/new")}, x.out + "/new: the role does not allow to upload"},
		"upload by ..":                      {0, []string{from, there(t, x.up+"/../out/new")}, x.out + "/new: the role does not allow to upload"},
		"upload through a link":             {0, []string{from, there(t, x.up+"/tree/link/new")}, x.out + "/new: the role does not allow to upload"},
		"upload a tree with one":            {0, []string{"-r", tree, there(t, x.up)}, x.out + "/new: the role does not allow to upload"},
		"upload a name with folders":        {0, []string{"-R", x.local + "/./tree/link/new", there(t, x.up)}, "does not allow to upload"},
		"upload another kind":               {0, []string{from, there(t, x.both+"/new")}, x.both + "/new: the role does not allow to upload"},
		"upload a link that leads out":      {0, []string{"-a", links + "/", there(t, x.up+"/")}, x.up + "/new: the role does not allow to upload"},
		"upload too much":                   {23, []string{"-r", texts + "/", there(t, x.both+"/")}, x.both + "/new.txt: the role does not allow files of this size"},
		"upload too much, compressed":       {23, []string{"-rz", texts + "/", there(t, x.both+"/")}, x.both + "/new.txt: the role does not allow files of this size"},
		"upload too much, perhaps":          {23, []string{"-rn", texts + "/", there(t, x.both+"/")}, x.both + "/new.txt: the role does not allow files of this size"},
		"change a folder":                   {0, []string{"-a", texts + "/", there(t, x.both+"/")}, x.both + ": the role does not allow to change this folder"},
		"remove what is not allowed":        {0, []string{"-r", "--delete", texts + "/", there(t, x.both+"/")}, "does not allow to upload"},
		"remove by force":                   {0, []string{"-r", "--force", texts + "/", there(t, x.both+"/")}, "does not allow to upload"},
		"hard links to where it can be had": {0, []string{"-rH", hard + "/", there(t, filepath.Dir(x.up)+"/")}, "it is a hard link of a file that the role allows to download and one that it does not"},
		"download elsewhere":                {23, []string{there(t, secret), x.local + "/got"}, secret + ": the role does not allow to download"},
		"download with the path":            {23, []string{"-R", there(t, secret), x.local + "/got"}, secret + ": the role does not allow to download"},
		"download through a link":           {23, []string{there(t, x.up+"/tree/link/secret"), x.local + "/got"}, secret + ": the role does not allow to download"},
		"download too much":                 {23, []string{"-r", there(t, x.both+"/"), x.local + "/got"}, x.both + "/big.txt: the role does not allow files of this size"},
		"guess by a checksum":               {23, []string{"-c", there(t, secret), same}, secret + ": the role does not allow to download"},
		"filters from a file":               {0, []string{"-r", "--filter=: secret", there(t, x.out+"/"), x.local + "/got"}, "may read files of the target"},
		"backups to where it cannot be":     {0, []string{"-b", same, there(t, x.both+"/big.txt")}, x.both + "/big.txt: the role does not allow to upload to both paths"},
		"several folders":                   {0, []string{"-r", there(t, x.both+"/"), there(t, x.up+"/"), x.local + "/got"}, "a list that begins in several folders of rsync is carried only where"},
		"several with the same names":       {0, []string{there(t, secret), there(t, x.down+"/secret"), x.local + "/got"}, "in several folders with the same names of rsync is carried only where"},
		"one of several":                    {23, []string{there(t, secret), there(t, x.both+"/small.txt"), x.local + "/got"}, secret + ": the role does not allow to download"},
		"what links lead to":                {23, []string{"-rL", there(t, x.down+"/"), x.local + "/got"}, secret + ": the role does not allow to download"},
	} {
		t.Run(name, func(t *testing.T) {
			defer os.RemoveAll(filepath.Join(x.local, "got"))
			_, errs, code := play(t, x.over("rsync", c.args...))
			if code == 0 || c.code != 0 && code != c.code || !strings.Contains(errs, c.said) {
				t.Errorf("exit %d: %s", code, errs)
			}
			for _, name := range []string{filepath.Join(x.out, "new"), filepath.Join(x.both, "new"), filepath.Join(x.both, "new.txt"), filepath.Join(x.up, "new"), filepath.Join(x.local, "got", "big.txt"), filepath.Join(x.local, "got", "other"), filepath.Join(x.local, "got", "secret"), filepath.Join(x.local, "got", "link"), filepath.Join(x.local, "got", "folder", "secret"), filepath.Join(x.both, "big.txt~")} {
				absent(t, name)
			}
			if contents(t, secret) != "secret" || contents(t, filepath.Join(x.up, "precious")) != "precious" || contents(t, filepath.Join(x.both, "other")) != "other" || contents(t, filepath.Join(x.both, "big.txt")) != "more than ten" {
				t.Error("something was changed")
			}
			switch name {
			case "upload too much", "upload too much, compressed":
				if contents(t, filepath.Join(x.both, "fine.txt")) != "fine" {
					t.Error("the rest was not carried")
				}
				check(t, os.Remove(filepath.Join(x.both, "fine.txt")))
			case "download too much", "one of several":
				if contents(t, filepath.Join(x.local, "got", "small.txt")) != "small" {
					t.Error("the rest was not carried")
				}
			}
			x.closed(len(x.sessions()))
			why := c.said[strings.LastIndex(c.said, ": ")+1:]
			if e := x.carried(); len(e) == 0 || !slices.ContainsFunc(e, func(e audit.Event) bool {
				return e.Outcome == audit.Refused && e.Details["protocol"] == "rsync" && strings.Contains(e.Reason, strings.TrimSpace(why))
			}) {
				t.Errorf("no refusal in the audit log: %+v", e)
			}
		})
	}
}

// What rsync removes, makes and changes at the target besides files is on record,
// and how it ended; with -n nothing happens and nothing is.
func TestRsyncChanges(t *testing.T) {
	x := newShare(t, "upload UP/** max 1MiB", "download UP/** max 1MiB")
	src := filepath.Join(x.local, "src")
	write(t, filepath.Join(src, "folder", "file"), "content")
	check(t, os.Symlink("folder/file", filepath.Join(src, "link")))
	write(t, filepath.Join(x.up, "old", "file"), "old")
	events := func() (list []string) {
		for _, e := range x.events(x.closed(len(x.sessions()))[0]) {
			if e.Result != "" {
				list = append(list, fmt.Sprintf("%s %s %s", e.What, strings.TrimPrefix(e.Path, x.up), e.Result))
			}
		}
		slices.Sort(list)
		return list
	}
	x.rsync(0, "-an", "--delete", src+"/", there(t, x.up+"/"))
	if got := events(); !slices.Equal(got, []string{"rsync upload  ok"}) {
		t.Errorf("with -n: %q", got)
	}
	if contents(t, filepath.Join(x.up, "old", "file")) != "old" {
		t.Error("it was removed with -n")
	}
	x.rsync(0, "-a", "--delete", src+"/", there(t, x.up+"/"))
	want := []string{"close /folder/file ok", "delete /old ok", "delete /old/file ok", "mkdir /folder ok", "rsync upload  ok", "symlink /link ok"}
	got := slices.DeleteFunc(events(), func(s string) bool { return strings.HasPrefix(s, "setstat") })
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	absent(t, filepath.Join(x.up, "old"))
	x.rsync(23, "-a", there(t, x.up+"/nothing"), x.local+"/got")
	if got := events(); !slices.Equal(got, []string{"rsync download /nothing failed"}) {
		t.Errorf("of what is not there: %q", got)
	}
}

// A changed file passes whole, also where both sides have most of it; its hash is
// of the file.
func TestRsyncWhole(t *testing.T) {
	x := newShare(t)
	from := write(t, filepath.Join(x.local, "file"), large())
	up, down := there(t, x.both+"/file"), filepath.Join(x.local, "got")
	for _, content := range []string{large(), large() + "end", "begin" + large()} {
		write(t, from, content)
		for _, step := range []struct{ direction, from, to string }{{"upload", from, up}, {"download", up, down}} {
			x.rsync(0, "-I", "--no-whole-file", step.from, step.to)
			if got, want := x.last(), fmt.Sprintf("%s %s/file %d %s ok", step.direction, x.both, len(content), sum(content)); !slices.Equal(got, []string{want}) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if contents(t, down) != content {
			t.Error("the content is another")
		}
	}
}

// Both sides number the files in an order of their own making, which is the one
// that is taken here: each hash is that of the file of its name.
func TestRsyncOrder(t *testing.T) {
	x := newShare(t)
	random := rand.New(rand.NewPCG(1, 2))
	src := filepath.Join(x.local, "src")
	pieces := []string{"a", "b", "-", ".", "!", "0", "~", " ", "é", "A", "\xff", "\x01", "ab", "a.", "a-"}
	folders := []string{src}
	check(t, os.Mkdir(src, 0o700))
	files := map[string]string{}
	for i := range 400 {
		name := pieces[random.IntN(len(pieces))] + pieces[random.IntN(len(pieces))]
		at := filepath.Join(folders[random.IntN(len(folders))], name)
		if _, err := os.Lstat(at); err == nil || name == ".." {
			continue
		}
		if random.IntN(3) == 0 {
			check(t, os.Mkdir(at, 0o700))
			folders = append(folders, at)
			continue
		}
		content := fmt.Sprint(i)
		write(t, at, content)
		files[strings.TrimPrefix(at, src)] = content
	}
	for _, step := range [][]string{{"upload", src + "/", there(t, x.both+"/")}, {"download", there(t, x.both+"/"), x.local + "/back/"}} {
		x.rsync(0, "-a", step[1], step[2])
		var want []string
		for name, content := range files {
			want = append(want, fmt.Sprintf("%s %s%s %d %s ok", step[0], x.both, name, len(content), sum(content)))
		}
		slices.Sort(want)
		if got := x.last(); !slices.Equal(got, want) {
			t.Errorf("%s: %d files are on record, want %d: %q, %q", step[0], len(got), len(want), got, want)
		}
	}
}

// Who may carry everything may do what cannot be held to a path, and has each file
// on record; also at a target without SFTP, where no path is looked up.
func TestRsyncEverything(t *testing.T) {
	x := newShare(t, "upload *", "download *")
	script := write(t, filepath.Join(x.out, "script"), "case $SSH_ORIGINAL_COMMAND in rsync*) exec $SSH_ORIGINAL_COMMAND;; *) exit 1;; esac\n")
	s := x.startSSHD("db02", noProfile, "ForceCommand sh "+script)
	x.addTarget("db02", s.addr, s.key)
	x.grant("alice", "db02", time.Hour)
	src := filepath.Join(x.local, "src")
	write(t, filepath.Join(src, "file"), "content")
	write(t, filepath.Join(src, "left"), "out")
	write(t, filepath.Join(src, ".rsync-filter"), "- left\n")
	check(t, os.Symlink("/etc/passwd", filepath.Join(src, "link")))
	for i, target := range []string{"db01", "db02"} {
		at := func(path string) string { return me(t) + "@" + target + ":" + path }
		copied, back := filepath.Join(x.out, target), filepath.Join(x.local, target)
		x.rsync(0, "-aF", "--delete", "--exclude=.rsync-filter", src+"/", at(copied))
		if got, want := x.last(), "upload "+copied+"/file 7 "+sum("content")+" ok"; !slices.Equal(got, []string{want}) {
			t.Errorf("%d: got %q, want %q", i, got, want)
		}
		write(t, filepath.Join(copied, ".rsync-filter"), "- file\n")
		write(t, filepath.Join(copied, "other"), "other")
		x.rsync(0, "-aF", at(copied)+"/", back)
		absent(t, filepath.Join(back, "file"))
		if got := x.last(); !slices.Contains(got, "download "+copied+"/other 5 "+sum("other")+" ok") {
			t.Errorf("%d: got %q", i, got)
		}
		if link := must(os.Readlink(filepath.Join(back, "link")))(t); link != "/etc/passwd" {
			t.Errorf("the link leads to %s", link)
		}
	}
}

// A file whose session is cut is on record as cut, with what has passed.
func TestRsyncCut(t *testing.T) {
	x := newShare(t)
	request := x.sessionsOf("alice")
	cmd := x.over("rsync", "--bwlimit=500", "--inplace", write(t, filepath.Join(x.local, "from"), large()), there(t, x.up+"/slow"))
	_, wait := background(t, cmd)
	eventually(t, "some bytes", func() bool {
		info, err := os.Stat(filepath.Join(x.up, "slow"))
		return err == nil && info.Size() > 100<<10
	})
	must(x.broker.Revoke(context.Background(), x.people["bob"].caller, request, "over"))(t)
	if wait() == nil {
		t.Error("the client ended well")
	}
	got := x.last()
	if len(got) != 1 || !strings.HasPrefix(got[0], "upload "+x.up+"/slow ") || !strings.HasSuffix(got[0], " cut") {
		t.Fatalf("got %q", got)
	}
	var passed int
	var hash string
	fmt.Sscanf(strings.TrimPrefix(got[0], "upload "+x.up+"/slow "), "%d %s", &passed, &hash)
	if size := must(os.Stat(filepath.Join(x.up, "slow")))(t).Size(); int64(passed) < size || passed >= len(large()) || hash != sum(large()[:passed]) {
		t.Errorf("%d bytes are at the target, on record are %q", size, got)
	}
}
