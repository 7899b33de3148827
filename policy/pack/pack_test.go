package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, path string) *Bundle {
	t.Helper()
	b, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var small = map[string]string{"a.rego": "package a", "sub/b_test.rego": "package b", RolesFile: "{}"}

func TestRead(t *testing.T) {
	files := maps.Clone(small)
	files["README.md"], files[".hidden/x.rego"], files[".y.rego"], files["sub/"+RolesFile] = "x", "x", "x", "x"
	dir := folder(t, files)
	b := read(t, dir)
	if got := slices.Sorted(maps.Keys(b.Files)); !slices.Equal(got, []string{"a.rego", RolesFile, "sub/b_test.rego"}) {
		t.Errorf("files %q", got)
	}
	// The same as an archive, and packed.
	packed, err := b.Pack()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Unpack(bytes.NewReader(packed))
	if err != nil || again.Digest != b.Digest || again.Commit != "" {
		t.Errorf("packed: %+v %v", again, err)
	}
	archive := filepath.Join(t.TempDir(), "p.tar.gz")
	if out, err := exec.Command("tar", "czf", archive, "-C", dir, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if got := read(t, archive).Digest; got != b.Digest {
		t.Errorf("tar's archive has the digest %s, the folder %s", got, b.Digest)
	}
	// Each byte, each name counts.
	for name, text := range map[string]string{"a.rego": "package b", "c.rego": "package a", RolesFile: "{ }"} {
		other := maps.Clone(small)
		other[name] = text
		if read(t, folder(t, other)).Digest == b.Digest {
			t.Errorf("%s changed, the digest did not", name)
		}
	}
}

// A link is followed within the folder, as those of a mounted ConfigMap are, and not out
// of it.
func TestLinks(t *testing.T) {
	dir := folder(t, map[string]string{"..data/a.rego": "package a"})
	if err := os.Symlink(filepath.Join("..data", "a.rego"), filepath.Join(dir, "a.rego")); err != nil {
		t.Fatal(err)
	}
	if b := read(t, dir); string(b.Files["a.rego"]) != "package a" || len(b.Files) != 1 {
		t.Errorf("files %v", b.Files)
	}
	outside := filepath.Join(folder(t, map[string]string{"x.rego": "package secret"}), "x.rego")
	for _, to := range []string{outside, "../../../../../../../../etc/passwd", "/dev/zero"} {
		dir := folder(t, map[string]string{"a.rego": "package a"})
		if err := os.Symlink(to, filepath.Join(dir, "b.rego")); err != nil {
			t.Fatal(err)
		}
		if b, err := Read(dir); err == nil {
			t.Errorf("a link to %s was followed: %v", to, slices.Collect(maps.Keys(b.Files)))
		}
	}
}

// What is too large, too many, or no bundle is refused.
func TestFolderLimits(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"nothing":       {"README.md": "x"},
		"only roles":    {RolesFile: "{}"},
		"a large file":  {"a.rego": strings.Repeat(" ", maxFile+1)},
		"a bad name":    {"a\nb.rego": "x"},
		"large in all":  many(9, strings.Repeat(" ", maxFile)),
		"too many":      many(maxFiles+2, "x"),
		"other entries": others(maxEntries + 1),
	} {
		if _, err := Read(folder(t, files)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func many(n int, text string) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("f%d.rego", i)] = text
	}
	return files
}

func others(n int) map[string]string {
	files := map[string]string{"a.rego": "x"}
	for i := range n {
		files[fmt.Sprintf("f%d.txt", i)] = ""
	}
	return files
}

type entry struct {
	tar.Header
	text string
}

func archive(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		if e.Typeflag == 0 {
			e.Typeflag = tar.TypeReg
		}
		e.Size = int64(len(e.text))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, text string) entry { return entry{tar.Header{Name: name}, text} }

// An archive that was made to do harm is refused whole, and quickly.
func TestHostileArchive(t *testing.T) {
	good := file("a.rego", "package a")
	bomb := archive(t, good, file("bomb.bin", strings.Repeat("\x00", maxUnpacked+1)))
	if len(bomb) > 1<<20 {
		t.Fatalf("the bomb is %d bytes long: it is none", len(bomb))
	}
	random := make([]byte, MaxArchive+1)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	var crowd []entry
	for i := range maxEntries + 1 {
		crowd = append(crowd, file(fmt.Sprintf("d/%d.txt", i), ""))
	}
	for name, b := range map[string][]byte{
		"parent":             archive(t, good, file("../b.rego", "x")),
		"parent inside":      archive(t, good, file("a/../../b.rego", "x")),
		"absolute":           archive(t, good, file("/etc/b.rego", "x")),
		"symbolic link":      archive(t, good, entry{tar.Header{Name: "b.rego", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""}),
		"hard link":          archive(t, good, entry{tar.Header{Name: "b.rego", Typeflag: tar.TypeLink, Linkname: "a.rego"}, ""}),
		"device":             archive(t, good, entry{tar.Header{Name: "b.rego", Typeflag: tar.TypeChar}, ""}),
		"pipe":               archive(t, good, entry{tar.Header{Name: "b.rego", Typeflag: tar.TypeFifo}, ""}),
		"twice":              archive(t, good, file("./a.rego", "package b")),
		"backslash":          archive(t, good, file(`b\c.rego`, "x")),
		"a long name":        archive(t, good, file(strings.Repeat("n", maxName)+".rego", "x")),
		"a large file":       archive(t, good, file("b.rego", strings.Repeat(" ", maxFile+1))),
		"a bomb":             bomb,
		"a crowd":            archive(t, append(crowd, good)...),
		"cut":                archive(t, good, file("b.rego", "package b"))[:60],
		"no archive":         []byte("package a"),
		"nothing":            archive(t),
		"no Rego":            archive(t, file("README.md", "x")),
		"larger than it may": archive(t, good, file("random.bin", string(random))),
	} {
		if b, err := Unpack(bytes.NewReader(b)); err == nil {
			t.Errorf("%s was unpacked: %v", name, slices.Collect(maps.Keys(b.Files)))
		}
	}
}

func key(t *testing.T, name string) (note.Signer, note.Verifier) {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err1 := note.NewSigner(secret)
	v, err2 := note.NewVerifier(public)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return s, v
}

func TestSignature(t *testing.T) {
	ours, trusted := key(t, "security")
	second, _ := key(t, "second")
	foreign, _ := key(t, "security") // of the same name
	dir := folder(t, small)
	sign := func(s note.Signer) {
		t.Helper()
		signed, err := read(t, dir).Sign(s)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, NoteFile), signed, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(name, want string) {
		t.Helper()
		b := read(t, dir)
		signer, err := b.Signer(note.VerifierList(trusted))
		if want == "" && (err != nil || signer != "security") {
			t.Errorf("%s: %q %v", name, signer, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want) || signer != "") {
			t.Errorf("%s: %q %v, want %q", name, signer, err, want)
		}
		// It travels with an archive.
		packed, err := b.Pack()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Unpack(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.Signer(note.VerifierList(trusted)); (err == nil) != (want == "") {
			t.Errorf("%s, packed: %v", name, err)
		}
	}
	check("not signed", "is not signed")
	sign(foreign)
	check("by another key of the same name", "by none of the keys that are trusted")
	sign(ours)
	check("by two", "")
	if err := os.Remove(filepath.Join(dir, NoteFile)); err != nil {
		t.Fatal(err)
	}
	sign(ours)
	check("by ours", "")
	sign(second)
	check("by ours and a second", "")
	signature, err := os.ReadFile(filepath.Join(dir, NoteFile))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sub/b_test.rego", "package b # without its tests")
	check("a test was changed since", "of another bundle")
	write("sub/b_test.rego", small["sub/b_test.rego"])
	check("changed back", "")
	write("c.rego", "package c")
	check("a file was added since", "of another bundle")
	if err := os.Remove(filepath.Join(dir, "c.rego")); err != nil {
		t.Fatal(err)
	}
	write(NoteFile, strings.Replace(string(signature), "sha256 ", "sha256 0", 1))
	check("another text under the signature", "does not hold")
	write(NoteFile, strings.Repeat("x", 100))
	check("no note", "does not hold")
}

// The commit is read as git writes it, by whichever way HEAD says it.
func TestCommit(t *testing.T) {
	dir := folder(t, map[string]string{"policy/a.rego": "package a"})
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q")
	check := func(name, dir string) {
		t.Helper()
		if got, want := read(t, dir).Commit, git("rev-parse", "HEAD"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := read(t, filepath.Join(dir, "policy")).Commit; got != "" {
		t.Errorf("without a commit: %q", got)
	}
	git("add", ".")
	git("commit", "-q", "-m", "one")
	check("a branch", filepath.Join(dir, "policy"))
	git("pack-refs", "--all")
	check("packed", dir)
	linked := filepath.Join(t.TempDir(), "linked")
	git("worktree", "add", "-q", "--detach", linked)
	check("a linked worktree", filepath.Join(linked, "policy"))
	git("checkout", "-q", "--detach")
	check("detached", dir)
	for _, head := range []string{"ref: ../../../etc/passwd", "ref: refs/../../x", strings.Repeat("x", 100), ""} {
		if err := os.WriteFile(filepath.Join(dir, ".git", "HEAD"), []byte(head), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := read(t, dir).Commit; got != "" {
			t.Errorf("of HEAD %q: %q", head, got)
		}
	}
}

// FuzzUnpack: what is unpacked is packed again to the same bundle.
func FuzzUnpack(f *testing.F) {
	b := New(map[string][]byte{"a.rego": []byte("package a"), "b/c_test.rego": []byte("x")})
	packed, err := b.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add(packed[:len(packed)/2])
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := Unpack(bytes.NewReader(in))
		if err != nil {
			return
		}
		for name := range b.Files {
			if !fs.ValidPath(name) || len(b.Files[name]) > maxFile {
				t.Errorf("the file %q of %d bytes", name, len(b.Files[name]))
			}
		}
		packed, err := b.Pack()
		if err != nil {
			return // it does not compress as well as what was given
		}
		again, err := Unpack(bytes.NewReader(packed))
		if err != nil || again.Digest != b.Digest {
			t.Errorf("packed again: %v", err)
		}
	})
}
