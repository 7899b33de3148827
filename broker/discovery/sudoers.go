package discovery

import (
	"slices"
	"strconv"
	"strings"
)

// sudoers are the rules of sudo, as far as they say who may do what: sudoers(5).
// Hosts are not looked at: a rule for another host counts as one for this. What is not
// understood is counted, and never taken for nothing.
type sudoers struct {
	rules   []sudoRule
	users   map[string][]string // User_Alias
	runas   map[string][]string
	cmnds   map[string][]string
	unclear int
	steps   int // that were made to find out what they mean
}

// Bounds of what is read, and of the work that it may make: aliases may name others.
const (
	maxRules = 2000
	maxSteps = 2_000_000
	maxDepth = 8
)

// tired reports whether the rules have made more work than they may. What is still
// open then counts as a right.
func (s *sudoers) tired() bool {
	if s.steps++; s.steps == maxSteps {
		s.unclear++
	}
	return s.steps >= maxSteps
}

type sudoRule struct {
	source string
	who    []string
	may    string // for people
	full   bool
}

func (s *sudoers) line(source, line string) {
	line = strings.TrimSpace(uncomment(line))
	if line == "" {
		return
	}
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case strings.HasPrefix(word, "Defaults"):
		return
	case word == "User_Alias":
		s.alias(&s.users, rest)
	case word == "Runas_Alias":
		s.alias(&s.runas, rest)
	case word == "Cmnd_Alias" || word == "Cmd_Alias":
		s.alias(&s.cmnds, rest)
	case word == "Host_Alias":
	default:
		s.rule(source, line)
	}
}

// uncomment cuts a comment off; "#0" is a number of an account.
func uncomment(line string) string {
	for i := range len(line) {
		if line[i] != '#' || i > 0 && line[i-1] == '\\' {
			continue
		}
		if i+1 < len(line) && (line[i+1] >= '0' && line[i+1] <= '9' || line[i+1] == '-') {
			continue
		}
		return line[:i]
	}
	return line
}

func (s *sudoers) alias(into *map[string][]string, text string) {
	for def := range strings.SplitSeq(text, " : ") {
		name, list, ok := strings.Cut(def, "=")
		if !ok || len(*into) >= maxRules {
			s.unclear++
			continue
		}
		if *into == nil {
			*into = map[string][]string{}
		}
		(*into)[strings.TrimSpace(name)] = commas(list)
	}
}

// commas splits at commas that nothing escapes.
func commas(list string) (items []string) {
	list = strings.ReplaceAll(list, `\,`, "\x00")
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(strings.ReplaceAll(item, "\x00", ",")); item != "" && len(items) < maxRules {
			items = append(items, item)
		}
	}
	return items
}

// rule reads "WHO HOSTS = (RUNAS) TAGS: COMMANDS".
func (s *sudoers) rule(source, line string) {
	left, right, ok := strings.Cut(line, "=")
	left = strings.TrimSpace(left)
	cut := endOfList(left)
	if !ok || cut < 0 || len(s.rules) >= maxRules {
		s.unclear++
		return
	}
	who := commas(strings.TrimSpace(left[:cut]))
	for i, w := range who {
		who[i] = strings.Trim(strings.ReplaceAll(w, `\`, ""), `"`)
	}
	root := true // without a word, commands run as root
	for spec := range strings.SplitSeq(closeColons(right), " : ") {
		if _, after, more := strings.Cut(spec, " = "); more { // the hosts of a further part
			spec = after
		}
		spec = strings.TrimSpace(spec)
		if strings.HasPrefix(spec, "(") {
			as, after, closed := strings.Cut(spec[1:], ")")
			if !closed {
				s.unclear++
				return
			}
			users, _, _ := strings.Cut(as, ":")
			root = s.isRoot(commas(users), 0)
			spec = strings.TrimSpace(after)
		}
		free := strings.Contains(spec, "NOPASSWD:")
		for _, tag := range []string{"NOPASSWD:", "PASSWD:", "NOEXEC:", "EXEC:", "SETENV:", "NOSETENV:", "LOG_INPUT:", "NOLOG_INPUT:", "LOG_OUTPUT:", "NOLOG_OUTPUT:", "MAIL:", "NOMAIL:", "FOLLOW:", "NOFOLLOW:", "INTERCEPT:", "NOINTERCEPT:"} {
			spec = strings.ReplaceAll(spec, tag, " ")
		}
		commands := commas(spec)
		if len(commands) == 0 {
			s.unclear++
			continue
		}
		all := root && s.anything(commands, 0)
		may := "sudo"
		if free {
			may = "sudo without a password"
		}
		if all {
			may += ": everything as root"
		} else {
			may += ": " + strings.TrimSpace(right)
		}
		s.rules = append(s.rules, sudoRule{source, who, clean(may), all})
	}
}

// closeColons takes the spaces from around colons in parentheses, so that others part
// specifications.
func closeColons(s string) string {
	var b strings.Builder
	for {
		open := strings.IndexByte(s, '(')
		end := strings.IndexByte(s, ')')
		if open < 0 || end < open {
			return b.String() + s
		}
		b.WriteString(s[:open])
		b.WriteString(strings.NewReplacer(" : ", ":", " :", ":", ": ", ":").Replace(s[open : end+1]))
		s = s[end+1:]
	}
}

// endOfList is where a list of users ends: at the first space that no comma stands
// beside and nothing escapes or quotes; -1: nowhere.
func endOfList(s string) int {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case quoted || s[i] != ' ' && s[i] != '\t' || i > 0 && s[i-1] == '\\':
		case !strings.HasSuffix(strings.TrimRight(s[:i], " \t"), ",") && !strings.HasPrefix(strings.TrimLeft(s[i:], " \t"), ","):
			return i
		}
	}
	return -1
}

func (s *sudoers) isRoot(users []string, depth int) bool {
	return depth < maxDepth && slices.ContainsFunc(users, func(u string) bool {
		return s.tired() || u == "ALL" || u == "root" || u == "#0" || s.isRoot(s.runas[u], depth+1)
	})
}

// shells are commands with which one may run any other.
const shells = " sh bash dash zsh ksh fish su env vi vim nano less more man awk gawk find perl python python3 ruby node systemctl visudo passwd chpasswd useradd usermod chmod chown cp mv tee dd tar rsync docker podman kubectl apt apt-get dnf yum dpkg rpm pip npm make git ssh scp nsenter chroot unshare strace gdb mount "

// anything reports whether a list of commands is as good as all of them.
func (s *sudoers) anything(commands []string, depth int) bool {
	return depth < maxDepth && slices.ContainsFunc(commands, func(c string) bool {
		if s.tired() || c == "ALL" || s.anything(s.cmnds[c], depth+1) {
			return true
		}
		program, arguments, _ := strings.Cut(c, " ")
		name := program[strings.LastIndex(program, "/")+1:]
		if strings.HasSuffix(program, "/") || strings.Contains(program, "*") {
			return true // a whole folder
		}
		// With arguments of its own it may be harmless.
		return strings.HasPrefix(program, "/") && strings.Contains(shells, " "+name+" ") && (arguments == "" || strings.Contains(arguments, "*"))
	})
}

// of are the rights that sudo gives an account.
func (s *sudoers) of(a *Account) (rights []Right) {
	for _, r := range s.rules {
		if s.names(r.who, a, 0) {
			rights = append(rights, Right{Text: r.may, Full: r.full, Source: r.source})
		}
	}
	return rights
}

// names reports whether a list of users has the account in it; the last word that
// fits counts.
func (s *sudoers) names(who []string, a *Account, depth int) (is bool) {
	if depth >= maxDepth {
		return true // to be looked at
	}
	for _, w := range who {
		if s.tired() {
			return true
		}
		w, not := strings.CutPrefix(w, "!")
		fits := false
		switch {
		case w == "ALL" || w == a.Name || w == "#"+strconv.FormatInt(a.UID, 10):
			fits = true
		case strings.HasPrefix(w, "%"):
			fits = slices.Contains(a.Groups, w[1:])
		default:
			fits = s.users[w] != nil && s.names(s.users[w], a, depth+1)
		}
		if fits {
			is = !not
		}
	}
	return is
}
