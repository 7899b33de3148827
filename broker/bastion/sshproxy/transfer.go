package sshproxy

import (
	"cmp"
	"iter"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/broker/bastion/sshproxy/rsyncwire"
)

// A transfer is a command that is known to carry files.
type transfer struct {
	program   string // "scp", "rsync" or "git"
	direction access.Direction
	paths     []string // as the command names them; one but for rsync's downloads
	tree      bool     // folders with all that is in them may be carried
	rsync     rsyncCommand
	command   string // as the target gets it; empty: as it came
}

// An rsyncCommand is what the options of rsync's server say.
type rsyncCommand struct {
	rsyncwire.Options
	dry      bool // nothing is carried, only compared
	filters  bool // the list is preceded by rules about what is left alone
	removes  bool // what is not in the list is removed
	deflated bool
	append   bool // what is there is taken for the beginning
	backups  bool // what is replaced or removed stays, with backupSuffix behind its name
	follows  bool // links are sent as what they lead to
	checksum int  // bytes of the one behind each file
	// attributes says that those of folders that are there are changed.
	attributes bool
	base       string            // of a download: the folder in which the list begins
	bases      map[string]string // the same by the first part of a name; nil: it is base for all
	unread     string            // why the files cannot be looked at one by one; empty: they can
}

// parseTransfer recognises the commands with which stock clients of scp, rsync
// and git carry files. It is strict: plain words with one space between, so that
// the shell of the target understands them as they are read here, and no option
// that is not known to do no more than it should. What is not recognised is a
// command like any other.
func parseTransfer(command string) (transfer, bool) {
	if strings.HasPrefix(command, "rsync --server ") {
		return parseRsync(command)
	}
	words := strings.Split(command, " ")
	if len(words) < 2 {
		return transfer{}, false
	}
	// git quotes its path always.
	last := len(words) - 1
	if inner, ok := strings.CutPrefix(words[last], "'"); ok && strings.HasPrefix(words[0], "git") {
		if words[last], ok = strings.CutSuffix(inner, "'"); !ok {
			return transfer{}, false
		}
	}
	for _, w := range words {
		if !plainWord(w) {
			return transfer{}, false
		}
	}
	switch {
	case words[0] == "scp":
		return parseSCP(words[1:])
	case words[0] == "git-upload-pack", words[0] == "git-receive-pack":
		return parseGit(words)
	case words[0] == "git" && len(words) > 2:
		return parseGit(append([]string{"git-" + words[1]}, words[2:]...))
	default:
		return transfer{}, false
	}
}

// plainWord reports whether no shell sees more in a word than its characters.
func plainWord(w string) bool {
	return w != "" && !strings.ContainsFunc(w, func(r rune) bool { return !plainRune(r) })
}

func plainRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r)
}

// splitEscaped splits a command as every shell does: plain characters, letters of
// any script, and others that have a backslash before them. It returns the words as
// they stand there, and as the program gets them.
func splitEscaped(command string) (words, meant []string, ok bool) {
	if !utf8.ValidString(command) {
		return nil, nil, false
	}
	for word := range splitUnescaped(command) {
		var text strings.Builder
		escaped := false
		for _, r := range word {
			switch {
			case escaped && r >= ' ' && r < 0x7f && !plainRune(r), !escaped && (plainRune(r) || r > unicode.MaxASCII && unicode.In(r, unicode.Letter, unicode.Mark)):
				text.WriteRune(r)
				escaped = false
			case !escaped && r == '\\':
				escaped = true
			default:
				return nil, nil, false
			}
		}
		if escaped || text.Len() == 0 {
			return nil, nil, false
		}
		words, meant = append(words, word), append(meant, text.String())
	}
	return words, meant, true
}

// splitUnescaped gives what stands between the spaces without a backslash.
func splitUnescaped(command string) iter.Seq[string] {
	return func(yield func(string) bool) {
		from, escaped := 0, false
		for i := range len(command) {
			if command[i] == ' ' && !escaped {
				if !yield(command[from:i]) {
					return
				}
				from = i + 1
			}
			escaped = command[i] == '\\' && !escaped
		}
		yield(command[from:])
	}
}

// parseSCP reads the arguments of scp's own protocol, as OpenSSH's client sends
// them: -t receives, -f sends.
func parseSCP(args []string) (transfer, bool) {
	t := transfer{program: "scp"}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		option := args[0]
		args = args[1:]
		switch {
		case option == "--":
			return t, len(args) == 1 && t.named(args)
		case option == "-t" && t.direction == "":
			t.direction = access.Upload
		case option == "-f" && t.direction == "":
			t.direction = access.Download
		case option == "-r":
			t.tree = true
		case option == "-p", option == "-d", option == "-v":
		default:
			return t, false
		}
	}
	return t, len(args) == 1 && t.named(args)
}

func (t *transfer) named(paths []string) bool {
	t.paths = paths
	return t.direction != "" && len(paths) > 0 && !slices.Contains(paths, "")
}

func parseGit(words []string) (transfer, bool) {
	t := transfer{program: "git", direction: access.Download, tree: true}
	switch words[0] {
	case "git-upload-pack":
	case "git-receive-pack":
		t.direction = access.Upload
	default:
		return t, false
	}
	return t, len(words) == 2 && !strings.HasPrefix(words[1], "-") && t.named(words[1:])
}

// Options of rsync(1)'s server. What could read or write elsewhere than under the
// paths is not among them: other folders for parts, backups or comparison, log
// files, arguments that come later (s), links that are followed (L, k, K),
// devices that are written to. With some the files cannot be looked at one by
// one: they carry more than files (A, X), make other names (b), or need what the
// receiving side has already.
const (
	rsyncLetters         = "vlogDtpHAXUSzucnWxOJRdmhiqIrEb"
	rsyncDownloadLetters = "Lk"
)

// rsyncOptions are those without a value, rsyncValues those with one.
var (
	rsyncOptions = []string{"--delete", "--delete-before", "--delete-during", "--delete-delay", "--delete-after", "--delete-excluded", "--force",
		"--partial", "--numeric-ids", "--inplace", "--append", "--append-verify", "--size-only", "--existing", "--ignore-existing", "--ignore-errors",
		"--safe-links", "--munge-links", "--no-implied-dirs", "--no-r", "--no-relative", "--stats", "--fsync", "--preallocate", "--no-W", "--no-whole-file", "--old-compress", "--new-compress", "--open-noatime"}
	rsyncValues = []string{"--checksum-seed", "--checksum-choice", "--compress-choice", "--compress-level", "--skip-compress", "--timeout", "--bwlimit", "--block-size",
		"--max-size", "--min-size", "--modify-window", "--max-delete", "--max-alloc", "--log-format", "--out-format", "--stop-at", "--stop-after"}
)

// parseRsync reads the arguments behind rsync --server: options, a lone dot, and
// the paths.
func parseRsync(command string) (transfer, bool) {
	t := transfer{program: "rsync", direction: access.Upload}
	words, args, ok := splitEscaped(command)
	if !ok {
		return t, false
	}
	args = args[2:]
	t.rsync.digests("md5")
	for i, arg := range args {
		if arg != "." && !plainWord(arg) {
			return t, false
		}
		switch name, value, valued := strings.Cut(arg, "="); {
		case arg == ".":
			paths := args[i+1:]
			if !t.named(paths) || len(paths) > 1 && t.direction == access.Upload || slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(p, "-") }) {
				return t, false
			}
			if t.direction == access.Download {
				t.rsync.begins(paths)
			}
			if t.rsync.unread == "" {
				t.command = readable(words)
			}
			return t, true
		case arg == "--sender" && i == 0:
			t.direction = access.Download
		case strings.HasPrefix(arg, "--"):
			if !slices.Contains(rsyncOptions, arg) && !(valued && slices.Contains(rsyncValues, name)) {
				return t, false
			}
			t.rsync.option(name, value)
		case strings.HasPrefix(arg, "-") && len(arg) > 1:
			// What stands behind e tells what the client can do.
			letters, _, _ := strings.Cut(arg[1:], "e")
			known := rsyncLetters
			if t.direction == access.Download {
				known += rsyncDownloadLetters
			}
			if strings.Trim(letters, known) != "" {
				return t, false
			}
			t.tree = t.tree || strings.ContainsAny(letters, "rd")
			for _, letter := range letters {
				t.rsync.letter(letter)
			}
		default:
			return t, false
		}
	}
	return t, false
}

// readable returns the command of rsync's server by which the target does not learn
// that the user's program can do more than is read here.
func readable(words []string) string {
	told := slices.Clone(words)
	for i, word := range told {
		letters, can, ok := strings.Cut(word, "e")
		if word == "." {
			break
		}
		if ok && strings.HasPrefix(word, "-") && !strings.HasPrefix(word, "--") {
			told[i] = letters + "e" + strings.Map(func(r rune) rune {
				if r == '.' || r >= '0' && r <= '9' || strings.ContainsRune(rsyncwire.Letters, r) {
					return r
				}
				return -1
			}, can)
		}
	}
	return strings.Join(told, " ")
}

// letter notes what an option of one letter means for what is sent.
func (r *rsyncCommand) letter(letter rune) {
	switch letter {
	case 'R':
		r.Relative = true
	case 'o':
		r.Owners, r.attributes = true, true
	case 'g':
		r.Groups, r.attributes = true, true
	case 'p', 't':
		r.attributes = true
	case 'D':
		r.Devices = true
	case 'l':
		r.Links = true
	case 'H':
		r.HardLinks = true
	case 'c':
		r.Checksums = true
	case 'A':
		r.ACLs, r.attributes = true, true
	case 'X':
		r.Xattrs, r.attributes = true, true
	case 'U':
		r.AccessTimes, r.attributes = true, true
	case 'n':
		r.dry = true
	case 'z':
		r.deflated = true
	case 'm':
		r.filters = true
	case 'b':
		r.backups = true
	case 'L':
		r.follows = true
	}
}

// option is letter for one with a name.
func (r *rsyncCommand) option(name, value string) {
	switch {
	case strings.HasPrefix(name, "--delete"):
		r.removes, r.filters = true, true
	case name == "--force":
		r.removes = true
	case name == "--numeric-ids":
		r.NumericIDs = true
	case name == "--old-compress", name == "--new-compress", name == "--compress-choice" && (value == "zlib" || value == "zlibx"):
		r.deflated = true
	case name == "--compress-choice" && value == "none":
		r.deflated = false
	case name == "--checksum-choice" && r.digests(value):
	case name == "--append", name == "--append-verify":
		r.append = true
	case name == "--no-r", name == "--no-relative", name == "--checksum-choice", name == "--compress-choice":
		r.unread = "the option " + name
	}
}

// digests notes which checksums are used: of files that are sent, and of the list
// if that is named too.
func (r *rsyncCommand) digests(choice string) (ok bool) {
	sent, listed, both := strings.Cut(choice, ",")
	if !both {
		listed = sent
	}
	if r.checksum, ok = rsyncwire.ChecksumLength(sent); ok {
		r.Checksum, ok = rsyncwire.ChecksumLength(listed)
	}
	return ok
}

// backupSuffix is rsync's own; another one is not carried.
const backupSuffix = "~"

// begins notes in which folder the list of a download begins, or in which of
// several what begins with a name.
func (r *rsyncCommand) begins(paths []string) {
	bases := map[string]string{}
	for _, name := range paths {
		base, top := listBase(name, r.Relative), path.Base(name)
		if strings.HasSuffix(name, "/") || top == "." || top == ".." {
			top = "" // of what is in it, any name
		}
		if other, ok := bases[top]; ok && other != base {
			r.unread = "a list that begins in several folders with the same names"
		}
		if r.Relative && (slices.Contains(strings.Split(name, "/"), "..") || strings.Count(name, "/./") > 1) {
			r.unread = "the option -R with such a path"
		}
		bases[top], r.base = base, base
	}
	if !slices.ContainsFunc(paths, func(name string) bool { return listBase(name, r.Relative) != r.base }) {
		return
	}
	if _, any := bases[""]; any || r.Relative {
		r.unread = "a list that begins in several folders"
	}
	r.bases = bases
}

// listBase is the folder relative to which rsync names what it sends of a path.
func listBase(name string, relative bool) string {
	if relative {
		if base, _, ok := strings.Cut(name, "/./"); ok {
			return cmp.Or(base, "/")
		}
		if strings.HasPrefix(name, "/") {
			return "/"
		}
		return "."
	}
	folder, last := path.Split(name)
	switch {
	case last == "", last == ".", last == "..":
		return name
	case folder == "":
		return "."
	}
	return folder
}

// absolute returns a path of a command as the target starts from it.
func absolute(home, name string) string {
	if strings.HasPrefix(name, "/") {
		return path.Clean(name)
	}
	return path.Join(home, name)
}
