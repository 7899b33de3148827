package sshproxy

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
		{"-a"}, {"-av"}, {"-avz"}, {"-r"}, {"-aH"}, {"-ac"}, {"-acz", "--new-compress"}, {"-aR"}, {"-au", "--delete"}, {"-a", "--progress", "--stats", "-i"}, {"-aS", "--inplace"},
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
			hard := slices.Contains(options, "-aH")
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
