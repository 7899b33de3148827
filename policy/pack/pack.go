// Package pack reads policy bundles as files: out of a folder, a git checkout, or a
// gzipped tar archive. It reads a bundle whole into memory and within limits, so that
// what is hashed, verified, tested and put into service is one and the same thing,
// whatever happens to the files meanwhile.
//
// What it trusts: nothing of what it reads. Names that lead out of the bundle, links
// that do, special files, names that are there twice and archives that unpack to more
// than the limits are refused whole. Where keys are given, an attacker who can write
// the files but has no key can at most put an older bundle back that one of the keys
// has signed.
//
// What it does not do: it knows no Rego and decides nothing; package policy compiles
// what this has read. It runs no git: a commit is what the checkout says of itself,
// and is told, not proven.
package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// The limits of a bundle.
const (
	MaxArchive = 4 << 20 // bytes of an archive, compressed

	maxFiles    = 1_000
	maxFile     = 1 << 20  // bytes of one
	maxTotal    = 8 << 20  // bytes of all
	maxEntries  = 10_000   // what lies beside the files, folders included
	maxUnpacked = 32 << 20 // bytes of an archive, uncompressed
	maxName     = 512      // bytes of a name
)

// The files of a bundle that are no Rego.
const (
	NoteFile  = "bundle.note"     // the signatures
	RolesFile = "roles_test.json" // the roles over which the bundle's tests run
)

// A Bundle is what was read. Its fields are not changed.
type Bundle struct {
	// Files are the *.rego files and RolesFile, by their slash-separated names.
	Files map[string][]byte
	// Digest is the hex SHA-256 over the names and bytes of Files, tests included:
	// what a signature is for.
	Digest string
	// Commit is the one that a git checkout says it is of; "" elsewhere.
	Commit string

	note []byte // the content of NoteFile
}

// New makes a bundle of files.
func New(files map[string][]byte) *Bundle {
	h := sha256.New()
	io.WriteString(h, "drawbolt policy bundle\n")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		// Lengths keep name and text apart.
		fmt.Fprintf(h, "%d %s %d\n", len(name), name, len(files[name]))
		h.Write(files[name])
	}
	return &Bundle{Files: files, Digest: hex.EncodeToString(h.Sum(nil))}
}

// Read reads the bundle at a path: a folder, or an archive as Unpack takes it. What is
// neither Rego nor one of the other files of a bundle is left aside, and so is whatever
// has a name with a dot in front. A link is followed within the folder only.
func Read(name string) (*Bundle, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return readFolder(name)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is neither a folder nor a file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := Unpack(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// wanted reports whether a file of that name is part of a bundle.
func wanted(name string) bool {
	return strings.HasSuffix(name, ".rego") || name == RolesFile || name == NoteFile
}

// A collector takes files in, within the limits.
type collector struct {
	files   map[string][]byte
	entries int
	total   int
}

// entry counts what was come across.
func (c *collector) entry() error {
	if c.entries++; c.entries > maxEntries {
		return fmt.Errorf("more than %d entries", maxEntries)
	}
	return nil
}

// add reads a file of the bundle.
func (c *collector) add(name string, r io.Reader) error {
	if len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return fmt.Errorf("the name %.80q is not one for a file of a bundle", name)
	}
	if _, twice := c.files[name]; twice {
		return fmt.Errorf("%s is in it twice", name)
	}
	if len(c.files) > maxFiles { // NoteFile besides
		return fmt.Errorf("more than %d files", maxFiles)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		return fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	if c.total += len(text); c.total > maxTotal {
		return fmt.Errorf("more than %d bytes in all", maxTotal)
	}
	c.files[name] = text
	return nil
}

func (c *collector) bundle() (*Bundle, error) {
	signatures := c.files[NoteFile]
	delete(c.files, NoteFile)
	if !slices.ContainsFunc(slices.Collect(maps.Keys(c.files)), func(name string) bool { return strings.HasSuffix(name, ".rego") }) {
		return nil, errors.New("no *.rego file in it")
	}
	b := New(c.files)
	b.note = signatures
	return b, nil
}

func readFolder(dir string) (*Bundle, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	c := collector{files: map[string][]byte{}}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = c.entry()
		}
		if err != nil || name == "." {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() || !wanted(name) {
			return nil
		}
		// Looked at before it is opened: the opening of a pipe waits for a writer.
		info, err := root.Stat(name)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a file", name)
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return c.add(name, f)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	b, err := c.bundle()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	b.Commit = commitOf(dir)
	return b, nil
}

// Unpack reads a gzipped tar archive of a bundle's folder, as tar and git archive write
// it. It refuses entries that are links or special files and names that lead elsewhere.
func Unpack(r io.Reader) (*Bundle, error) {
	packed := &io.LimitedReader{R: r, N: MaxArchive + 1}
	zipped, err := gzip.NewReader(packed)
	if err != nil {
		return nil, fmt.Errorf("not a gzipped tar archive: %w", err)
	}
	unpacked := &io.LimitedReader{R: zipped, N: maxUnpacked + 1}
	c, archive := collector{files: map[string][]byte{}}, tar.NewReader(unpacked)
	for {
		h, err := archive.Next()
		switch {
		case packed.N <= 0:
			return nil, fmt.Errorf("the archive is larger than %d bytes", MaxArchive)
		case unpacked.N <= 0:
			return nil, fmt.Errorf("the archive unpacks to more than %d bytes", maxUnpacked)
		case errors.Is(err, io.EOF):
			return c.bundle()
		case err != nil:
			return nil, fmt.Errorf("not a gzipped tar archive: %w", err)
		}
		if err := c.entry(); err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeXGlobalHeader { // of git archive
			continue
		}
		name := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir || !fs.ValidPath(name) {
			return nil, fmt.Errorf("the entry %.80q is a link, a special file, or leads out of the archive", h.Name)
		}
		if h.Typeflag == tar.TypeDir || strings.HasPrefix(name, ".") || strings.Contains(name, "/.") || !wanted(name) {
			continue
		}
		if err := c.add(name, archive); err != nil {
			return nil, err
		}
	}
}

// Pack writes the bundle as an archive that Unpack reads, always the same of the same
// bundle. Its signatures go with it.
func (b *Bundle) Pack() ([]byte, error) {
	files := maps.Clone(b.Files)
	if b.note != nil {
		files[NoteFile] = b.note
	}
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name])), Format: tar.FormatPAX}
		if err := archive.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := archive.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		return nil, err
	}
	if out.Len() > MaxArchive {
		return nil, fmt.Errorf("the archive is larger than %d bytes", MaxArchive)
	}
	return out.Bytes(), nil
}

// statement is the text of a bundle's note.
func (b *Bundle) statement() string {
	return "drawbolt policy bundle\nsha256 " + b.Digest + "\n"
}

// Sign returns the content of NoteFile: a signed note
// (https://pkg.go.dev/golang.org/x/mod/sumdb/note) that names the bundle's digest.
// The signatures that are there for the same bundle are kept.
func (b *Bundle) Sign(signer note.Signer) ([]byte, error) {
	n := &note.Note{Text: b.statement()}
	if had, err := note.Open(b.note, note.VerifierList()); had == nil && err != nil {
		var unknown *note.UnverifiedNoteError
		if errors.As(err, &unknown) && unknown.Note.Text == n.Text {
			n.UnverifiedSigs = unknown.Note.UnverifiedSigs
		}
	}
	return note.Sign(n, signer)
}

// Signer returns the name of the key among verifiers that has signed the bundle. The
// error says what is wrong with the signature: there is none, it is by another key, or
// of another bundle.
func (b *Bundle) Signer(verifiers note.Verifiers) (string, error) {
	if b.note == nil {
		return "", fmt.Errorf("the bundle is not signed: there is no %s in it", NoteFile)
	}
	n, err := note.Open(b.note, verifiers)
	var unknown *note.UnverifiedNoteError
	if errors.As(err, &unknown) {
		var names []string
		for _, s := range unknown.Note.UnverifiedSigs {
			names = append(names, fmt.Sprintf("%.80q", s.Name))
		}
		return "", fmt.Errorf("the bundle is signed by %s, and by none of the keys that are trusted", strings.Join(names[:min(len(names), 4)], ", "))
	}
	if err != nil {
		return "", fmt.Errorf("the signature of the bundle does not hold: %w", err)
	}
	if n.Text != b.statement() {
		return "", errors.New("the signature is of another bundle, or of another state of this one")
	}
	return n.Sigs[0].Name, nil
}
