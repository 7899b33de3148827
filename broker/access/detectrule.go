package access

import (
	"path"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
)

// A DetectLevel says what follows when a command is seen in a terminal.
type DetectLevel string

// The levels. Each command that is seen is on record and in the audit log.
const (
	DetectWarn  DetectLevel = "warn"  // and its user is told
	DetectAlert DetectLevel = "alert" // and others are to be told, not its user
	DetectEnd   DetectLevel = "end"   // and the session ends, if possible before the command is sent
)

// A DetectRule looks for commands in what is typed into a terminal. It is an aid
// for people: a shell has countless ways to run a command that it does not see.
type DetectRule struct {
	Level  DetectLevel
	words  []string
	regexp *regexp.Regexp // instead of words
}

// maxProgram bounds a compiled regular expression, in instructions: to match costs
// at most so many steps for each byte of a line.
const maxProgram = 500

// ParseDetectRule reads "LEVEL WORDS", such as "end rm -rf *", or "LEVEL regexp
// EXPRESSION", such as "alert regexp (?i)drop\s+table". LEVEL is warn, alert or end.
//
// Words are found anywhere in a line, one after the other within one command of it;
// what follows them is free. In a word, * stands for any characters. Quotes and
// backslashes in the line do not hide a word, nor does the folder of a program:
// shutdown is found in "sudo /usr/sbin/shutdown". An expression is found anywhere
// in the line as it is written; its syntax is that of RE2.
func ParseDetectRule(s string) (DetectRule, error) {
	bad := func(why string) (DetectRule, error) {
		return DetectRule{}, Invalid(`the detection %s %s; write for example "warn shutdown", "end rm -rf *" or "alert regexp (?i)drop\s+table"`, strconv.QuoteToASCII(clip(s)), why)
	}
	level, pattern, _ := strings.Cut(s, " ")
	r := DetectRule{Level: DetectLevel(level)}
	if r.Level != DetectWarn && r.Level != DetectAlert && r.Level != DetectEnd {
		return bad("begins with none of warn, alert and end")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return bad("has control characters")
	}
	if strings.TrimSpace(pattern) != pattern || pattern == "" || pattern == "regexp" {
		return bad("names no command, or has spaces around it")
	}
	if expression, ok := strings.CutPrefix(pattern, "regexp "); ok {
		re, err := compile(expression)
		if err != "" {
			return bad(err)
		}
		r.regexp = re
		return r, nil
	}
	r.words = strings.Split(pattern, " ")
	for _, w := range r.words {
		switch {
		case w == "":
			return bad("has two spaces between words")
		case strings.Contains(w, "**"):
			return bad("has **, where what follows the words is free anyway")
		case len(split(strings.ReplaceAll(w, "*", "x"))) != 1 || split(w)[0][0] != w:
			return bad("has quotes or signs of the shell, which are looked through and are not part of words; use regexp")
		}
	}
	if strings.Trim(strings.Join(r.words, ""), "*") == "" {
		return bad("names no command")
	}
	return r, nil
}

// compile returns a regular expression, or what is wrong with it.
func compile(expression string) (*regexp.Regexp, string) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, "is no regular expression (" + err.Error() + ")"
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(program.Inst) > maxProgram {
		return nil, "is too large an expression"
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, "is no regular expression"
	}
	if re.MatchString("") {
		return nil, "fits every line; to see each, write regexp ."
	}
	return re, ""
}

// Matches reports whether a command line holds what the rule looks for.
func (r DetectRule) Matches(line string) bool {
	if r.regexp != nil {
		return r.regexp.MatchString(line)
	}
	for _, command := range split(line) {
		for i := 0; i+len(r.words) <= len(command); i++ {
			if r.matchesAt(command[i:]) {
				return true
			}
		}
	}
	return false
}

func (r DetectRule) matchesAt(words []string) bool {
	for i, pattern := range r.words {
		if !globWord(quoteGlob.Replace(pattern), words[i]) && !globWord(quoteGlob.Replace(pattern), program(words[i])) {
			return false
		}
	}
	return len(r.words) > 0
}

// program is the name of a program whose path is given, or the word itself.
func program(word string) string {
	folder, name := path.Split(word)
	if base := path.Base(folder); base == "bin" || base == "sbin" {
		return name
	}
	return word
}

// split takes a line apart into commands and their words, roughly as a shell does.
// Quotes and backslashes are dropped.
func split(line string) [][]string {
	var commands [][]string
	var words []string
	var word strings.Builder
	endWord := func() {
		if word.Len() > 0 {
			words = append(words, word.String())
			word.Reset()
		}
	}
	for _, r := range line {
		switch r {
		case '\'', '"', '\\':
		case ' ', '\t':
			endWord()
		case ';', '&', '|', '(', ')', '<', '>', '`', '\n', '{', '}':
			endWord()
			if words != nil {
				commands = append(commands, words)
				words = nil
			}
		default:
			word.WriteRune(r)
		}
	}
	endWord()
	if words != nil {
		commands = append(commands, words)
	}
	return commands
}
