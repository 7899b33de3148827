package sshproxy

import (
	"path"
	"slices"
	"strings"

	"github.com/drawbolt/drawbolt/broker/access"
)

// A transfer is a command that is known to carry files.
type transfer struct {
	program   string // "scp", "rsync" or "git"
	direction access.Direction
	paths     []string // as the command names them; one but for rsync's downloads
	tree      bool     // folders with all that is in them may be carried
}

// parseTransfer recognises the commands with which stock clients of scp, rsync
// and git carry files. It is strict: plain words with one space between, so that
// the shell of the target understands them as they are read here, and no option
// that is not known to do no more than it should. What is not recognised is a
// command like any other.
func parseTransfer(command string) (transfer, bool) {
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
	case words[0] == "rsync" && words[1] == "--server":
		return parseRsync(words[2:])
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
	return w != "" && !strings.ContainsFunc(w, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r))
	})
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
// devices that are written to.
const rsyncLetters = "vlogDtpHAXSzucnWxOJRdmhiqIrEb"

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
func parseRsync(args []string) (transfer, bool) {
	t := transfer{program: "rsync", direction: access.Upload}
	for i, arg := range args {
		switch name, _, valued := strings.Cut(arg, "="); {
		case arg == ".":
			paths := args[i+1:]
			return t, t.named(paths) && (len(paths) == 1 || t.direction == access.Download) && !slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(p, "-") })
		case arg == "--sender" && i == 0:
			t.direction = access.Download
		case strings.HasPrefix(arg, "--"):
			if !slices.Contains(rsyncOptions, arg) && !(valued && slices.Contains(rsyncValues, name)) {
				return t, false
			}
		case strings.HasPrefix(arg, "-") && len(arg) > 1:
			// What stands behind e tells what the client can do.
			letters, _, _ := strings.Cut(arg[1:], "e")
			if strings.Trim(letters, rsyncLetters) != "" {
				return t, false
			}
			t.tree = t.tree || strings.ContainsAny(letters, "rd")
		default:
			return t, false
		}
	}
	return t, false
}

// absolute returns a path of a command as the target starts from it.
func absolute(home, name string) string {
	if strings.HasPrefix(name, "/") {
		return path.Clean(name)
	}
	return path.Join(home, name)
}
