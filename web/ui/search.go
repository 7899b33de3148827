package ui

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/drawbolt/drawbolt/web/api"
)

// A Search is the form to search recordings with, as it was filled in, and what
// was found.
type Search struct {
	Query, User, Target, Account string
	Since, Until                 string // days
	Files                        bool
	In                           map[string]bool
	Done                         bool // it was searched for
	Found                        api.SearchPage
	Took                         time.Duration
	Older                        string // address of the next page; "" for none
}

// Narrowed reports whether more than words was filled in.
func (s Search) Narrowed() bool {
	return s.User+s.Target+s.Account+s.Since+s.Until != "" || s.Files || len(s.In) > 0
}

// sources are where can be searched, and what people call them.
func sources() [][2]string {
	return [][2]string{{"output", "shown"}, {"keys", "typed"}, {"command", "commands"}, {"file", "files"}, {"mark", "remarks"}}
}

func sourceName(in string) string {
	for _, s := range sources() {
		if s[0] == in {
			return s[1]
		}
	}
	return in
}

// summary tells what was searched, and how long it took.
func (s Search) summary() string {
	hits := strconv.Itoa(len(s.Found.Items)) + " hits"
	if len(s.Found.Items) == 1 {
		hits = "1 hit"
	}
	if s.Older != "" && s.Found.Reached == nil {
		hits = "The newest " + hits
	}
	sessions := Thousands(s.Found.Sessions) + " sessions"
	if s.Found.Sessions == 1 {
		sessions = "1 session"
	}
	return fmt.Sprintf("%s in %s (%.2f s).", hits, sessions, s.Took.Seconds())
}

func (s Search) partial() string {
	if s.Found.Partial == 1 {
		return "One of them is longer than what is kept of it for searching; the rest of it is in its recording only."
	}
	return Thousands(s.Found.Partial) + " of them are longer than what is kept of them for searching; the rest is in their recordings only."
}

// Thousands writes a number with commas.
func Thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// A piece of a line, marked where it is what was searched for.
type piece struct {
	text   string
	marked bool
}

// around is how much of a line is shown before the first hit, and in all, in bytes.
const (
	aroundBefore = 60
	aroundAll    = 240
)

// pieces are what is shown of a line: the part around the first hit, with every
// word marked.
func (s Search) pieces(line string) []piece {
	lower, words := api.Fold(line), s.words()
	marks := make([]bool, len(line))
	first := len(line)
	for _, w := range words {
		for at := 0; ; {
			i := strings.Index(lower[at:], w)
			if i < 0 {
				break
			}
			first = min(first, at+i)
			for j := range len(w) {
				marks[at+i+j] = true
			}
			at += i + len(w)
		}
	}
	from := 0
	if first < len(line) {
		from = boundary(line, max(0, first-aroundBefore))
	}
	to := boundary(line, min(len(line), from+aroundAll))
	var out []piece
	if from > 0 {
		out = append(out, piece{text: "…"})
	}
	for i := from; i < to; {
		j := i + 1
		for j < to && marks[j] == marks[i] {
			j++
		}
		out = append(out, piece{line[i:j], marks[i]})
		i = j
	}
	if to < len(line) {
		out = append(out, piece{text: "…"})
	}
	return out
}

// words are those of the query, as the broker takes it apart.
func (s Search) words() []string {
	var list []string
	for i, part := range strings.Split(api.Fold(s.Query), `"`) {
		if i%2 == 1 && strings.TrimSpace(part) != "" {
			list = append(list, part)
		} else {
			list = append(list, strings.Fields(part)...)
		}
	}
	return list
}

// boundary is the first place from i on where a character begins.
func boundary(s string, i int) int {
	for i < len(s) && s[i]&0xc0 == 0x80 {
		i++
	}
	return i
}
