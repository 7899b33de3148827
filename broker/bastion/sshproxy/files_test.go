package sshproxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/store"
	"github.com/drawbolt/drawbolt/recorder"
	"github.com/drawbolt/drawbolt/recorder/audit"
	"github.com/drawbolt/drawbolt/recorder/cast"
)

// A share is a house whose one role carries files, and nothing else, in and out
// of folders of its own.
type share struct {
	*house
	up, down, both, out string // folders: upload, download, both, neither
	local               string
	rules               []string
}

// newShare makes one. Where a rule has UP, DOWN or BOTH, it is such a folder;
// without rules each folder may be used with all that is below it.
func newShare(t testing.TB, rules ...string) *share {
	t.Helper()
	dir := must(filepath.EvalSymlinks(t.TempDir()))(t)
	x := &share{up: filepath.Join(dir, "up"), down: filepath.Join(dir, "down"), both: filepath.Join(dir, "both"), out: filepath.Join(dir, "out"), local: t.TempDir()}
	for _, d := range []string{x.up, x.down, x.both, x.out} {
		check(t, os.Mkdir(d, 0o700))
	}
	if rules == nil {
		rules = []string{"upload UP/**", "download DOWN/**", "upload BOTH/**", "download BOTH/**"}
	}
	folders := strings.NewReplacer("UP", x.up, "DOWN", x.down, "BOTH", x.both)
	for _, r := range rules {
		x.rules = append(x.rules, folders.Replace(r))
	}
	x.house = newHouse(t, func(o *options) { o.rules = access.SessionRules{Recording: "strict", Files: x.rules} })
	s := x.startSSHD("db01", noProfile)
	x.addTarget("db01", s.addr, s.key)
	x.grant("alice", "db01", time.Hour)
	return x
}

// noProfile keeps bash from running the profile of whoever runs the tests.
const noProfile = "SetEnv SHLVL=2"

func write(t testing.TB, name, content string) string {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(name), 0o700))
	check(t, os.WriteFile(name, []byte(content), 0o600))
	return name
}

// tool returns a command of a program that takes OpenSSH's options.
func (x *share) tool(name string, args ...string) *exec.Cmd {
	cmd := x.ssh("alice", args...)
	cmd.Args[0] = name
	cmd.Path = must(exec.LookPath(name))(x.t)
	return cmd
}

// over returns a command of a program that starts ssh by itself.
func (x *share) over(name string, args ...string) *exec.Cmd {
	ssh := x.ssh("alice")
	cmd := exec.Command(name, args...)
	text := strings.Join(ssh.Args, " ")
	cmd.Env = append(os.Environ(), "RSYNC_RSH="+text, "GIT_SSH_COMMAND="+text, "GIT_SSH_VARIANT=ssh", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	return cmd
}

// there is a path at the target, as a client names it.
func there(t testing.TB, path string) string { return me(t) + "@db01:" + path }

// batch runs commands of sftp(1), and returns what it said.
func (x *share) batch(lines ...string) (out, errs string, code int) {
	x.t.Helper()
	cmd := x.tool("sftp", "-b", "-", me(x.t)+"@db01")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	return play(x.t, cmd)
}

// events returns the file events of a session's recording.
func (x *share) events(s access.Session) []cast.FileEvent {
	x.t.Helper()
	f := must(x.sealed.Open(context.Background(), s.Recording.Name))(x.t)
	defer f.Close()
	r := must(cast.NewReader(must(recorder.OpenSealed(f, f.Size(), x.auditor))(x.t)))(x.t)
	var list []cast.FileEvent
	for {
		e, err := r.Next()
		if err == io.EOF {
			return list
		}
		check(x.t, err)
		if e.Stream == cast.File {
			list = append(list, cast.ParseFileEvent(e.Data))
		}
	}
}

// closes returns the last words about files of a session, as lines.
func (x *share) closes(s access.Session) []string {
	var list []string
	for _, e := range x.events(s) {
		if e.What == "close" {
			hash := e.SHA256
			if hash == "" {
				hash = "partial"
			}
			list = append(list, fmt.Sprintf("%s %s %d %s %s", e.Direction, e.Path, e.Size, hash, e.Result))
		}
	}
	return list
}

// carried returns the events of the audit log about files.
func (x *share) carried() []audit.Event {
	x.t.Helper()
	ctx := context.Background()
	var list []audit.Event
	for _, action := range []string{"session.file", "session.files"} {
		for _, leaf := range must(x.db.Leaves(ctx, store.LeafFilter{Action: action, Limit: 1000}))(x.t) {
			list = append(list, must(audit.Parse(leaf))(x.t))
		}
	}
	return list
}

func sum(content string) string {
	h := sha256.Sum256([]byte(content))
	return fmt.Sprintf("%x", h)
}

func contents(t testing.TB, name string) string {
	t.Helper()
	return string(must(os.ReadFile(name))(t))
}

func absent(t testing.TB, name string) {
	t.Helper()
	if _, err := os.Lstat(name); !os.IsNotExist(err) {
		t.Errorf("%s is there: %v", name, err)
	}
}

// large is more than one packet, and more than what is told at once.
func large() string { return strings.Repeat("0123456789abcdef", 5<<16) } // 5 MiB

// Files that the role allows pass with every client, and each is on record with
// its hash, in the recording and in the audit log; its content is in neither.
func TestFilesAreCarried(t *testing.T) {
	x := newShare(t)
	big := large()
	from := write(t, filepath.Join(x.local, "from"), big)
	for name, cmds := range map[string][2]*exec.Cmd{
		"scp":    {x.tool("scp", from, there(t, x.both+"/scp")), x.tool("scp", there(t, x.both+"/scp"), x.local+"/scp")},
		"scp -O": {x.tool("scp", "-O", "-p", from, there(t, x.both+"/scpO")), x.tool("scp", "-O", "-p", there(t, x.both+"/scpO"), x.local+"/scpO")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, cmd := range cmds {
				if _, errs, code := play(t, cmd); code != 0 {
					t.Fatalf("exit %d: %s", code, errs)
				}
			}
			file := strings.ReplaceAll(strings.ReplaceAll(name, " ", ""), "-", "")
			if contents(t, filepath.Join(x.both, file)) != big || contents(t, filepath.Join(x.local, file)) != big {
				t.Error("the content is another")
			}
			list := x.closed(len(x.sessions()))
			for i, want := range []string{"download", "upload"} {
				line := fmt.Sprintf("%s %s %d %s ok", want, filepath.Join(x.both, file), len(big), sum(big))
				if got := x.closes(list[i]); !slices.Equal(got, []string{line}) {
					t.Errorf("got %q, want %q", got, line)
				}
				if all := x.recording(list[i], recorder.Input) + x.recording(list[i], recorder.Output); strings.Contains(all, "0123456789abcdef") {
					t.Error("the content is in the recording")
				}
				var parts int
				for _, e := range x.events(list[i]) {
					if e.What == "part" && e.Size >= 4<<20 && e.SHA256 == sum(big[:e.Size]) {
						parts++
					}
				}
				if parts != 1 {
					t.Errorf("%d parts were told of", parts)
				}
			}
		})
	}
	events := x.carried()
	if len(events) != 4 {
		t.Fatalf("%d events in the audit log", len(events))
	}
	for _, e := range events {
		if e.Details["sha256"] != sum(big) || e.Details["bytes"] != fmt.Sprint(len(big)) || e.Details["result"] != "ok" || e.Outcome != audit.Done || e.Details["partial"] != "" {
			t.Errorf("got %+v", e)
		}
	}
}

// What sftp(1) does beyond files: folders are listed and made, files are renamed,
// linked, removed; each is on record before and after.
func TestSFTPClient(t *testing.T) {
	x := newShare(t)
	write(t, filepath.Join(x.down, "read me"), "hello")
	from := write(t, filepath.Join(x.local, "from"), "content")
	out, errs, code := x.batch("cd "+x.up, "put "+from+" a", "ls -l", "rename a b", "ln b c", "ln -s b d", "mkdir sub", "chmod 644 b", "rename sub dir", "rmdir dir", "rm c", "df",
		"get '"+x.down+"/read me' "+x.local+"/got", "get -a '"+x.down+"/read me' "+x.local+"/got")
	if code != 0 || !strings.Contains(out, "a") {
		t.Fatalf("exit %d, %q: %s", code, out, errs)
	}
	if contents(t, filepath.Join(x.local, "got")) != "hello" || contents(t, filepath.Join(x.up, "b")) != "content" {
		t.Error("the content is another")
	}
	s := x.closed(1)[0]
	var got []string
	for _, e := range x.events(s) {
		if e.Result != "" || e.What == "opendir" {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.What, strings.TrimPrefix(e.Path, x.up), strings.TrimPrefix(e.To, x.up), e.Result)))
		}
	}
	for _, want := range []string{"close /a  ok", "posix-rename@openssh.com /a /b ok", "hardlink@openssh.com /b /c ok", "symlink b /d ok", "mkdir /sub  ok", "setstat /b  ok",
		"posix-rename@openssh.com /sub /dir ok", "rmdir /dir  ok", "remove /c  ok", "close " + x.down + "/read me  ok"} {
		if !slices.Contains(got, want) {
			t.Errorf("not on record: %q in\n%s", want, strings.Join(got, "\n"))
		}
	}
	if closes := x.closes(s); !slices.Contains(closes, "download "+x.down+"/read me 5 "+sum("hello")+" ok") {
		t.Errorf("got %q", closes)
	}
}

// A role that carries files runs nothing else, and has no terminal.
func TestFilesAlone(t *testing.T) {
	x := newShare(t)
	for _, args := range [][]string{{"id"}, {"scp -t " + x.up + "; id"}, {"scp -t $(id)"}, {"rsync --server -logDtpre.iLsfxCIvu --log-file=" + x.up + "/x . " + x.up}, {}} {
		if out, _, code := play(t, x.ssh("alice", append([]string{me(t) + "@db01"}, args...)...)); code == 0 || out != "" {
			t.Errorf("%q ran: %q", args, out)
		}
	}
	for _, args := range [][]string{{"-tt", "-s", me(t) + "@db01", "sftp"}, {"-tt", me(t) + "@db01", "scp -t " + x.up}} {
		if _, errs, code := play(t, x.ssh("alice", args...)); code == 0 || !strings.Contains(errs, "not carried over a terminal") {
			t.Errorf("%q: exit %d, %s", args, code, errs)
		}
	}
	if n := len(x.sessions()); n != 0 {
		t.Errorf("%d sessions were opened", n)
	}
}

// What the rules do not allow is refused, told, and on record; the session goes
// on. Neither .. nor links nor other names lead out.
func TestFilesRefused(t *testing.T) {
	x := newShare(t, "upload UP/**", "download DOWN/**", "upload BOTH/*", "download BOTH/*")
	from := write(t, filepath.Join(x.local, "from"), "evil")
	secret := write(t, filepath.Join(x.out, "secret"), "secret")
	write(t, filepath.Join(x.up, "mine"), "mine")
	write(t, filepath.Join(x.up, "tree", "mine"), "mine")
	write(t, filepath.Join(x.down, "theirs"), "theirs")
	check(t, os.Symlink(x.out, filepath.Join(x.up, "link")))
	check(t, os.Symlink(filepath.Join(x.out, "new"), filepath.Join(x.up, "nothing")))
	check(t, os.Symlink(secret, filepath.Join(x.down, "link")))
	for name, line := range map[string]string{
		"upload to where downloads are":    "put " + from + " " + x.down + "/new",
		"upload elsewhere":                 "put " + from + " " + x.out + "/new",
		"upload by ..":                     "put " + from + " " + x.up + "/../out/new",
		"upload through a folder's link":   "put " + from + " " + x.up + "/link/new",
		"upload through a link to nothing": "put " + from + " " + x.up + "/nothing",
		"upload over a secret":             "put " + from + " " + secret,
		"download elsewhere":               "get " + secret + " " + x.local + "/got",
		"download what was uploaded":       "get " + x.up + "/mine " + x.local + "/got",
		"download through a link":          "get " + x.down + "/link " + x.local + "/got",
		"download by ..":                   "get " + x.down + "/../out/secret " + x.local + "/got",
		"remove elsewhere":                 "rm " + secret,
		"remove what may be downloaded":    "rm " + x.down + "/theirs",
		"remove through a link":            "rm " + x.up + "/link/secret",
		"rename out":                       "rename " + x.up + "/mine " + x.out + "/new",
		"rename in":                        "rename " + secret + " " + x.up + "/secret",
		"rename to where it can be had":    "rename " + x.up + "/mine " + x.both + "/new",
		"rename a folder to where it can":  "rename " + x.up + "/tree " + x.both + "/new",
		"link a secret":                    "ln " + secret + " " + x.up + "/secret",
		"link to where it can be had":      "ln " + x.up + "/mine " + x.both + "/new",
		"symlink to a secret":              "ln -s " + secret + " " + x.up + "/secret",
		"symlink by ..":                    "ln -s ../out/secret " + x.up + "/secret",
		"chmod elsewhere":                  "chmod 777 " + secret,
		"chmod through a link":             "chmod 777 " + x.up + "/link/secret",
		"mkdir elsewhere":                  "mkdir " + x.out + "/new",
		"rmdir of the root":                "rmdir " + x.up,
	} {
		t.Run(name, func(t *testing.T) {
			before := len(x.carried())
			out, errs, code := x.batch("-"+line, "ls "+x.up+"/mine")
			if code != 0 || !strings.Contains(out, "mine") {
				t.Errorf("the session did not go on: exit %d, %q, %s", code, out, errs)
			}
			if !strings.Contains(strings.ToLower(errs), "permission denied") {
				t.Errorf("not refused: %s", errs)
			}
			absent(t, filepath.Join(x.out, "new"))
			absent(t, filepath.Join(x.down, "new"))
			absent(t, filepath.Join(x.both, "new"))
			absent(t, filepath.Join(x.up, "secret"))
			if got, _ := os.ReadFile(filepath.Join(x.local, "got")); len(got) > 0 {
				t.Errorf("got %q", got)
			}
			if contents(t, secret) != "secret" || contents(t, filepath.Join(x.up, "mine")) != "mine" || contents(t, filepath.Join(x.down, "theirs")) != "theirs" {
				t.Error("something was changed")
			}
			if info := must(os.Stat(secret))(t); info.Mode() != 0o600 {
				t.Errorf("the mode is %v", info.Mode())
			}
			s := x.closed(len(x.sessions()))[0]
			if !slices.ContainsFunc(x.events(s), func(e cast.FileEvent) bool { return e.Result == "refused" }) {
				t.Errorf("no refusal in the recording: %+v", x.events(s))
			}
			after := x.carried()
			if len(after) != before+1 || after[len(after)-1].Outcome != audit.Refused {
				t.Errorf("%d events in the audit log after %d", len(after), before)
			}
		})
	}
}

// The same with scp's own protocol, of which every file is looked at.
func TestSCPRefused(t *testing.T) {
	x := newShare(t, "upload UP/**", "upload BOTH/*.txt max 10", "download DOWN/**", "download BOTH/*.txt max 10")
	from := write(t, filepath.Join(x.local, "from"), "evil")
	secret := write(t, filepath.Join(x.out, "secret"), "secret")
	tree := filepath.Join(x.local, "tree")
	write(t, filepath.Join(tree, "link", "new"), "evil")
	write(t, filepath.Join(tree, "fine"), "fine")
	check(t, os.MkdirAll(filepath.Join(x.up, "tree"), 0o700))
	check(t, os.Symlink(x.out, filepath.Join(x.up, "tree", "link")))
	write(t, filepath.Join(x.down, "tree", "fine"), "fine")
	check(t, os.Symlink(x.out, filepath.Join(x.down, "tree", "link")))
	check(t, os.Symlink(secret, filepath.Join(x.down, "link")))
	write(t, filepath.Join(x.both, "big.txt"), "more than ten")
	for name, c := range map[string]struct {
		args []string
		said string
	}{
		"upload elsewhere":         {[]string{from, there(t, x.out+"/new")}, "does not allow to upload"},
		"upload by ..":             {[]string{from, there(t, x.up+"/../out/new")}, "does not allow to upload"},
		"upload through a link":    {[]string{from, there(t, x.up+"/tree/link/new")}, "does not allow to upload"},
		"upload a tree with one":   {[]string{"-r", tree, there(t, x.up)}, "does not allow to upload"},
		"upload too much":          {[]string{filepath.Join(x.both, "big.txt"), there(t, x.both+"/new.txt")}, "of this size"},
		"upload another kind":      {[]string{from, there(t, x.both+"/new")}, "does not allow to upload"},
		"download elsewhere":       {[]string{there(t, secret), x.local + "/got"}, "does not allow to download"},
		"download through a link":  {[]string{there(t, x.down+"/link"), x.local + "/got"}, "does not allow to download"},
		"download a tree with one": {[]string{"-r", there(t, x.down+"/tree"), x.local + "/got"}, "does not allow to download"},
		"download too much":        {[]string{there(t, x.both+"/big.txt"), x.local + "/got"}, "of this size"},
	} {
		t.Run(name, func(t *testing.T) {
			defer os.RemoveAll(filepath.Join(x.local, "got"))
			_, errs, code := play(t, x.tool("scp", append([]string{"-O"}, c.args...)...))
			if code == 0 || !strings.Contains(errs, c.said) {
				t.Errorf("exit %d: %s", code, errs)
			}
			absent(t, filepath.Join(x.out, "new"))
			absent(t, filepath.Join(x.both, "new"))
			absent(t, filepath.Join(x.both, "new.txt"))
			if strings.Contains(name, "tree") {
				where := map[bool]string{true: filepath.Join(x.up, "tree", "fine"), false: filepath.Join(x.local, "got", "fine")}[strings.HasPrefix(name, "upload")]
				if contents(t, where) != "fine" {
					t.Error("the rest was not carried")
				}
				absent(t, filepath.Join(x.local, "got", "link"))
			} else {
				absent(t, filepath.Join(x.local, "got"))
			}
			if e := x.carried(); len(e) == 0 || !slices.ContainsFunc(e, func(e audit.Event) bool { return e.Outcome == audit.Refused && e.Details["protocol"] == "scp" }) {
				t.Errorf("no refusal in the audit log: %+v", e)
			}
		})
	}
}

// Sizes are those of the file, whichever way its bytes go.
func TestFileSizes(t *testing.T) {
	x := newShare(t, "upload UP/* max 1000000", "download DOWN/* max 1000000")
	fits, over := strings.Repeat("x", 1000000), strings.Repeat("x", 1000001)
	for _, size := range []string{fits, over} {
		from := write(t, filepath.Join(x.local, "from"), size)
		write(t, filepath.Join(x.down, "file"), size)
		want := len(size) == len(fits)
		if _, errs, code := x.batch("put " + from + " " + x.up + "/file"); (code == 0) != want {
			t.Errorf("upload of %d bytes: exit %d, %s", len(size), code, errs)
		}
		if _, errs, code := x.batch("get " + x.down + "/file " + x.local + "/got"); (code == 0) != want {
			t.Errorf("download of %d bytes: exit %d, %s", len(size), code, errs)
		}
	}
	if info := must(os.Stat(filepath.Join(x.up, "file")))(t); info.Size() > 1000000 {
		t.Errorf("%d bytes were uploaded", info.Size())
	}
	closes := x.closes(x.closed(4)[3])
	if !slices.Equal(closes, []string{fmt.Sprintf("upload %s/file 1000000 %s ok", x.up, sum(fits))}) {
		t.Errorf("got %q", closes)
	}
}

// A sealed copy is what passed; what cannot be kept does not pass.
func TestFileKept(t *testing.T) {
	x := newShare(t, "upload UP/** keep", "download DOWN/** max 10MiB keep")
	big := large()
	from := write(t, filepath.Join(x.local, "from"), big)
	write(t, filepath.Join(x.down, "file"), big)
	for name, cmd := range map[string]*exec.Cmd{
		"scp up": x.tool("scp", from, there(t, x.up+"/scp")), "scp down": x.tool("scp", there(t, x.down+"/file"), x.local+"/got"),
		"scp -O up": x.tool("scp", "-O", from, there(t, x.up+"/scpO")), "scp -O down": x.tool("scp", "-O", there(t, x.down+"/file"), x.local+"/gotO"),
		"rsync up": x.over("rsync", from, there(t, x.up+"/rsync")), "rsync down": x.over("rsync", "-z", there(t, x.down+"/file"), x.local+"/gotR"),
	} {
		if _, errs, code := play(t, cmd); code != 0 {
			t.Fatalf("%s: exit %d, %s", name, code, errs)
		}
	}
	list := x.closed(6)
	for _, s := range list {
		events := x.events(s)
		e := events[slices.IndexFunc(events, func(e cast.FileEvent) bool { return e.What == "close" })]
		f := must(x.sealed.Open(context.Background(), e.Kept))(t)
		sealed := must(io.ReadAll(io.NewSectionReader(f, 0, f.Size())))(t)
		f.Close()
		plain := must(io.ReadAll(must(age.Decrypt(bytes.NewReader(sealed), x.auditor))(t)))(t)
		if string(plain) != big || sum(string(sealed)) != e.KeptSHA256 || e.SHA256 != sum(big) {
			t.Errorf("the copy is another: %+v", e)
		}
	}
	for _, e := range x.carried() {
		if e.Details["kept"] == "" || e.Details["kept_sha256"] == "" {
			t.Errorf("got %+v", e)
		}
	}
	write(t, filepath.Join(x.up, "half"), big[:100])
	if _, errs, code := x.batch("put -a " + from + " " + x.up + "/half"); code == 0 || contents(t, filepath.Join(x.up, "half")) != big[:100] {
		t.Errorf("a file was gone on with: exit %d, %s", code, errs)
	}
}

// git, and rsync with what cannot be read file by file, have an event each, with
// their paths and bytes. They are let in only where a rule holds for everything
// below, without a limit.
func TestRsyncAndGit(t *testing.T) {
	x := newShare(t, "upload BOTH/**", "download BOTH/**", "upload UP/** max 1MiB", "download DOWN/*")
	src := filepath.Join(x.local, "src")
	for i := range 3 {
		write(t, filepath.Join(src, "folder", fmt.Sprint(i)), large()[:i*1000])
	}
	repository := filepath.Join(x.both, "repository.git")
	if _, errs, code := play(t, x.over("git", "init", "-q", "--bare", repository)); code != 0 {
		t.Fatal(errs)
	}
	work := filepath.Join(x.local, "work")
	write(t, filepath.Join(x.down, "one"), "one")
	commit := []string{"-c", "user.name=a", "-c", "user.email=a@example.com", "-C", work, "commit", "-q", "--allow-empty", "-m", "first"}
	for _, step := range []struct {
		args []string
		ok   bool
	}{
		{[]string{"rsync", "-a", "-z", "--compress-choice=zstd", src + "/", there(t, x.both+"/copy")}, true},
		{[]string{"rsync", "-a", "-z", "--compress-choice=zstd", "--delete", there(t, x.both+"/copy/"), x.local + "/back"}, true},
		{[]string{"rsync", "-z", "--compress-choice=zstd", src + "/folder/1", there(t, x.both)}, true},
		{[]string{"rsync", "-z", "--compress-choice=zstd", there(t, x.down+"/one"), x.local + "/one"}, true},
		{[]string{"git", "clone", "-q", there(t, repository), work}, true},
		{append([]string{"git"}, commit...), true},
		{[]string{"git", "-C", work, "push", "-q", "origin", "HEAD"}, true},

		{[]string{"rsync", "-a", "-z", "--compress-choice=zstd", src + "/", there(t, x.out+"/copy")}, false},
		{[]string{"rsync", "-a", "-z", "--compress-choice=zstd", src + "/", there(t, x.both+"/../out/copy")}, false},
		{[]string{"rsync", "-a", "-z", "--compress-choice=zstd", src + "/", there(t, x.up+"/copy")}, false}, // a limit
		{[]string{"rsync", "-a", "-z", "--compress-choice=zstd", there(t, x.down+"/"), x.local + "/back"}, false},
		{[]string{"rsync", "-az", "--compress-choice=lz4", src + "/", there(t, x.up+"/copy")}, false},
		{[]string{"rsync", "-a", "--backup-dir=" + x.out, src + "/", there(t, x.both+"/copy")}, false},
		{[]string{"rsync", "-aK", src + "/", there(t, x.both+"/copy")}, false},
		{[]string{"rsync", "-s", "-a", src + "/", there(t, x.both+"/copy")}, false},
		{[]string{"git", "clone", "-q", there(t, x.out), work + "2"}, false},
	} {
		if _, errs, code := play(t, x.over(step.args[0], step.args[1:]...)); (code == 0) != step.ok {
			t.Errorf("%q: exit %d, %s", step.args, code, errs)
		}
	}
	if got := contents(t, filepath.Join(x.local, "back", "folder", "2")); got != large()[:2000] {
		t.Error("the content is another")
	}
	if entries := must(os.ReadDir(x.out))(t); len(entries) != 0 {
		t.Errorf("something was written: %v", entries)
	}
	x.closed(len(x.sessions()))
	done := map[string]int{}
	for _, e := range x.carried() {
		if e.Details["result"] == "ok" && e.Details["what"] == "" {
			done[e.Details["protocol"]+" "+e.Details["direction"]]++
			if e.Details["bytes"] == "0" || e.Details["partial"] != "true" || !strings.HasPrefix(e.Details["path"], "/") {
				t.Errorf("got %+v", e)
			}
		}
	}
	if got := fmt.Sprint(done); got != "map[git download:1 git upload:1 rsync download:2 rsync upload:2]" {
		t.Errorf("on record: %s", got)
	}
}

// A file whose session is cut is on record as cut, with what has passed.
func TestFileCut(t *testing.T) {
	x := newShare(t)
	c := x.sessionsOf("alice")
	cmd := x.tool("scp", "-l", "4000", write(t, filepath.Join(x.local, "from"), large()), there(t, x.up+"/slow"))
	_, wait := background(t, cmd)
	eventually(t, "some bytes", func() bool {
		info, err := os.Stat(filepath.Join(x.up, "slow"))
		return err == nil && info.Size() > 100<<10
	})
	must(x.broker.Revoke(context.Background(), x.people["bob"].caller, c, "over"))(t)
	if wait() == nil {
		t.Error("the client ended well")
	}
	s := x.closed(1)[0]
	closes := x.closes(s)
	if len(closes) != 1 || !strings.HasSuffix(closes[0], " cut") || strings.Contains(closes[0], "partial") {
		t.Fatalf("got %q", closes)
	}
	size := must(os.Stat(filepath.Join(x.up, "slow")))(t).Size()
	var passed int64
	fmt.Sscanf(strings.Fields(closes[0])[2], "%d", &passed)
	if passed < size || passed == int64(len(large())) || s.EndReason != "revoked" {
		t.Errorf("%d bytes are at the target, on record are %q", size, closes)
	}
	if e := x.carried(); len(e) != 1 || e[0].Outcome != audit.Failed || e[0].Details["result"] != "cut" {
		t.Errorf("got %+v", e)
	}
}

// sessionsOf returns the request under which somebody holds a grant.
func (x *share) sessionsOf(name string) string {
	list := must(x.db.Requests(context.Background(), store.RequestFilter{Limit: 1}))(x.t)
	return list[0].ID
}

// Many files have many events in the recording, and not in the audit log.
func TestManyFiles(t *testing.T) {
	x := newShare(t)
	tree := filepath.Join(x.local, "tree")
	for i := range 130 {
		write(t, filepath.Join(tree, fmt.Sprint(i)), "x")
	}
	if _, errs, code := play(t, x.tool("scp", "-r", tree, there(t, x.up))); code != 0 {
		t.Fatal(errs)
	}
	if n := len(x.closes(x.closed(1)[0])); n != 130 {
		t.Errorf("%d files in the recording", n)
	}
	events := x.carried()
	if last := events[len(events)-1]; len(events) != 101 || last.Action != "session.files" || last.Details["files"] != "30" || last.Details["bytes"] != "30" {
		t.Errorf("%d events, the last %+v", len(events), last)
	}
}
