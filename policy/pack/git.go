package pack

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	commitForm = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)
	refForm    = regexp.MustCompile(`^refs/[A-Za-z0-9._/-]{1,200}$`)
)

// commitOf is the commit that the git checkout in which dir lies says it is of, or "".
func commitOf(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for {
		if git := filepath.Join(dir, ".git"); exists(git) {
			return headOf(git)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// headOf reads HEAD of a repository (gitrepository-layout(5)). git may be the file that
// stands for it in a linked worktree.
func headOf(git string) string {
	if to, is := strings.CutPrefix(firstLine(git), "gitdir: "); is {
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(git), to)
		}
		git = to
	}
	head := firstLine(filepath.Join(git, "HEAD"))
	ref, symbolic := strings.CutPrefix(head, "ref: ")
	if !symbolic {
		return asCommit(head)
	}
	if !refForm.MatchString(ref) || strings.Contains(ref, "..") {
		return ""
	}
	// A linked worktree shares the references of its repository.
	common := git
	if to := firstLine(filepath.Join(git, "commondir")); to != "" {
		common = filepath.Join(git, to)
		if filepath.IsAbs(to) {
			common = to
		}
	}
	if commit := asCommit(firstLine(filepath.Join(common, filepath.FromSlash(ref)))); commit != "" {
		return commit
	}
	for line := range strings.Lines(readSome(filepath.Join(common, "packed-refs"))) {
		if commit, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == ref {
			return asCommit(commit)
		}
	}
	return ""
}

func asCommit(s string) string {
	if commitForm.MatchString(s) {
		return s
	}
	return ""
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func firstLine(name string) string {
	line, _, _ := strings.Cut(readSome(name), "\n")
	return strings.TrimSpace(line)
}

// readSome reads a file of git's, as far as one can be expected to go; "" when there is
// none.
func readSome(name string) string {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4<<20))
	if err != nil {
		return ""
	}
	return string(b)
}
